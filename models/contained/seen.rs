//! What is seen of a correct replica, as relations of the abstract protocol: from what it has sent, and from its state.

use crate::world::{Agent, Tables, WorldConfig};
use pbft::message::{Batch, Message};
use pbft::types::{Digest, Principal, ReplicaId, SeqNo, View};
use pbft_properties::proof::Holds;
use pbft_properties::proof::relations::Relation;
use std::collections::BTreeSet;

/// The null request, and each request that a client has signed by itself.
pub(super) fn digests(config: &WorldConfig) -> Vec<Digest> {
    let alone =
        config.signed_requests().into_iter().map(|request| Batch { requests: vec![request] }.digest());
    std::iter::once(Digest::NULL).chain(alone).collect()
}

/// The number that a digest has in the finite structure.
///
/// # Errors
/// If it is that of no batch that clients have signed.
pub(super) fn number_of(digest: Digest, digests: &[Digest]) -> Result<usize, String> {
    let at = digests.iter().position(|known| *known == digest);
    at.ok_or_else(|| format!("{digest:?} is the digest of no batch that clients have signed"))
}

pub(super) fn index(of: u64) -> usize {
    usize::try_from(of).expect("a world has few views and numbers")
}

/// Collects what holds of one replica.
struct Seen<'a> {
    replica: usize,
    digests: &'a [Digest],
    holds: BTreeSet<Holds>,
}

impl Seen<'_> {
    fn add(&mut self, relation: Relation, rest: &[usize]) {
        self.holds.insert((relation, [&[self.replica], rest].concat()));
    }

    fn slot(&self, (view, n, digest): (View, SeqNo, Digest)) -> Result<[usize; 3], String> {
        Ok([index(view.0), index(n.0), number_of(digest, self.digests)?])
    }

    /// It has sent PRE-PREPARE, or PREPARE, and so has accepted the digest.
    fn votes(&mut self, relation: Relation, slot: (View, SeqNo, Digest)) -> Result<(), String> {
        let slot = self.slot(slot)?;
        for relation in [relation, Relation::accepted, Relation::accepted_d] {
            self.add(relation, &slot);
        }
        Ok(())
    }

    fn prepared(&mut self, slot: (View, SeqNo, Digest)) -> Result<(), String> {
        let slot = self.slot(slot)?;
        for relation in [Relation::commit, Relation::prepared, Relation::prepared_d] {
            self.add(relation, &slot);
        }
        Ok(())
    }
}

/// What holds of a replica. What it has recorded counts as sent: the abstract protocol does both at once, and a message
/// that was not sent is one that was lost.
///
/// # Errors
/// If it speaks of a digest that is not known.
pub(super) fn holds(
    tables: &Tables,
    replica: ReplicaId,
    agent: &Agent,
    digests: &[Digest],
) -> Result<Vec<Holds>, String> {
    let mut seen = Seen { replica: usize::from(replica.0), digests, holds: BTreeSet::new() };
    let own = Principal::Replica(replica);
    for &id in agent.sent.iter() {
        match tables.message(id) {
            Message::PrePrepare(m, _) if m.signer == own => {
                seen.votes(Relation::preprepare, (m.content.view, m.content.n, m.content.digest))?;
            }
            Message::Prepare(m) => {
                seen.votes(Relation::prepare, (m.content.view, m.content.n, m.content.digest))?;
            }
            Message::Commit(m) => seen.prepared((m.content.view, m.content.n, m.content.digest))?,
            Message::NewView(m) if m.signer == own => {
                for entry in &m.content.pre_prepares {
                    let of = entry.content;
                    seen.votes(Relation::preprepare, (of.view, of.n, of.digest))?;
                }
            }
            Message::ViewChange(m) if m.signer == own => {
                let view = index(m.content.view.0);
                seen.add(Relation::viewchange, &[view]);
                for left in 0..view {
                    seen.add(Relation::left, &[left]);
                    seen.add(Relation::left_d, &[left]);
                }
                (0..=index(m.content.n.0)).for_each(|n| seen.add(Relation::claims, &[view, n]));
                for of in &m.content.prepared {
                    (0..=index(of.view.0))
                        .for_each(|w| seen.add(Relation::reports, &[view, index(of.n.0), w]));
                }
            }
            _ => {}
        }
    }
    let local = tables.local(agent.local);
    let durable = local.replica.durable();
    seen.add(Relation::in_view, &[index(durable.view.0)]);
    seen.add(Relation::in_view_d, &[index(durable.view.0)]);
    if durable.leaving().is_some() {
        seen.add(Relation::leaving, &[]);
        seen.add(Relation::leaving_d, &[]);
    }
    let cluster = tables.setup(replica).cluster;
    for accepted in durable.log.values() {
        let of = accepted.content;
        let is_primary = cluster.primary(of.view) == replica;
        let vote = if is_primary { Relation::preprepare } else { Relation::prepare };
        seen.votes(vote, (of.view, of.n, of.digest))?;
    }
    for of in durable.prepared.values() {
        seen.prepared((of.view, of.n, of.digest))?;
    }
    for (&(_, n), committed) in local.history.committed() {
        for &digest in committed {
            seen.add(Relation::committed_local, &[index(n.0), number_of(digest, digests)?]);
        }
    }
    seen.add(Relation::low, &[0]);
    seen.add(Relation::state, &[0, 0]);
    for (&n, &digest) in &durable.executed {
        let batch = number_of(digest, digests)?;
        seen.add(Relation::executed, &[index(n.0), batch]);
        // The state is the batches executed, of which there is one.
        seen.add(Relation::state, &[index(n.0), batch + 1]);
    }
    Ok(seen.holds.into_iter().collect())
}
