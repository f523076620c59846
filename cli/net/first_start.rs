//! Before a replica starts as one that has never run: whether the others have run already.
//!
//! Running replicas tell each other what they have, every `status_interval_ms`. So it is enough to be there
//! and to listen. Nothing is promised to anybody: only a greeting leaves.

use super::config::{Config, Served};
use pbft::crypto::ed25519::Ed25519;
use pbft::message::{Message, Status};
use pbft::replica::Setup;
use pbft::replica::verify::verify;
use pbft::runtime::control::{self, CONTROL, Control};
use pbft::runtime::transport::{Buffers, Transport};
use pbft::runtime::{Hosts, Options, StartError};
use pbft::types::{ReplicaId, SeqNo, View};
use pbft::wire;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the others have to be heard: ten times their default interval.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often they are greeted.
const GREETING: Duration = Duration::from_millis(200);
const RECEIVE_WAIT: Duration = Duration::from_millis(10);

/// What each of the others has, as far as they are heard: until f + 1 are, for a second at most.
///
/// # Errors
/// If the replica cannot listen where it is to.
pub fn hear(
    config: &Config,
    setup: &Setup<Served>,
    options: &Options<Served>,
) -> Result<BTreeMap<ReplicaId, Status>, StartError> {
    // Of those whose statements have been checked, the replicas alone: a client that found a session here
    // would miss it when the replica starts.
    let keys = config
        .file
        .replicas
        .iter()
        .filter_map(|entry| hex::decode(entry.host_key.trim()).ok()?.try_into().ok());
    let hosts = Hosts::new(config.domain, options.hosts.addresses().into_iter().zip(keys).collect(), &[]);
    let sessions = hosts.sessions_of_replica(setup.id, options.host_key.clone())?;
    let replicas = hosts.replicas();
    let transport = Transport::bind(
        options.listen,
        options.datagram_bytes,
        sessions,
        replicas.clone(),
        RECEIVE_WAIT,
        Arc::default(),
    )
    .map_err(|error| StartError::Bind(options.listen, error))?;
    let greeting = control::encode(&Control::<Ed25519>::Hello(None));
    let (mut received, mut sent) = (Buffers::default(), Buffers::default());
    let (begin, mut greeted) = (Instant::now(), None::<Instant>);
    let mut heard = BTreeMap::new();
    let enough = setup.cluster.f() + 1;
    while heard.len() < enough && begin.elapsed() < PATIENCE {
        if greeted.is_none_or(|at| at.elapsed() > GREETING) {
            greeted = Some(Instant::now());
            transport.send(&replicas, &greeting, &mut sent);
        }
        transport.tick(&mut sent);
        let Some((_, bytes)) = transport.receive(&mut received)? else { continue };
        if bytes.first() == Some(&CONTROL) {
            continue;
        }
        if let Ok(message @ Message::Status(_)) = wire::decode::<Ed25519>(&bytes)
            && let Ok(verified) = verify(setup, message)
            && let Message::Status(status) = verified.into_inner()
            && status.content.replica != setup.id
        {
            heard.insert(status.content.replica, status.content);
        }
    }
    Ok(heard)
}

/// Why a replica must not start as one that has never run; nothing if all that were heard have done nothing.
pub fn objection(id: ReplicaId, heard: &BTreeMap<ReplicaId, Status>) -> Option<String> {
    let has_run = |status: &Status| {
        status.executed > SeqNo(0)
            || status.stable > SeqNo(0)
            || status.view > View(0)
            || status.leaving.is_some()
            || !status.pre_prepared.is_empty()
    };
    let (other, status) = heard.iter().find(|(_, status)| has_run(status))?;
    Some(format!(
        "this cluster has run already: replica {} is in view {} and has executed up to {}; if replica {} took part \
         then, it has forgotten what it promised, and --replacement lets it rejoin as one of the f faulty replicas; if \
         it certainly has never run, add --force to --init",
        other.0, status.view.0, status.executed.0, id.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(replica: u16) -> (ReplicaId, Status) {
        let replica = ReplicaId(replica);
        let (pre_prepared, prepared) = (Vec::new(), Vec::new());
        let (view, stable, executed) = (View(0), SeqNo(0), SeqNo(0));
        (replica, Status { view, leaving: None, stable, executed, pre_prepared, prepared, replica })
    }

    #[test]
    fn one_replica_that_has_done_something_is_an_objection() {
        assert_eq!(objection(ReplicaId(3), &BTreeMap::new()), None);
        assert_eq!(objection(ReplicaId(3), &[idle(0), idle(1)].into()), None);
        let changes: [fn(&mut Status); 5] = [
            |status| status.executed = SeqNo(1),
            |status| status.stable = SeqNo(128),
            |status| status.view = View(1),
            |status| status.leaving = Some(View(1)),
            |status| status.pre_prepared = vec![SeqNo(1)],
        ];
        for change in changes {
            let (other, mut status) = idle(1);
            change(&mut status);
            let said = objection(ReplicaId(3), &[idle(0), (other, status)].into()).unwrap();
            assert!(
                said.contains("replica 1 is in view") && said.contains("if replica 3 took part"),
                "{said}"
            );
        }
    }
}
