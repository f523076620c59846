//! What a world is made of.

use super::Modelled;
use super::application::Application;
use super::crashes::Crashes;
use super::witnesses::HIGHEST;
use crate::crypto::{Keys, Symbolic};
use crate::ledger::Ledger;
use crate::mutants::Rulebook;
use pbft::client::ClientSetup;
use pbft::crypto::Signed;
use pbft::message::Request;
use pbft::parameters::{MAX_WINDOW, Parameters};
use pbft::replica::Setup;
use pbft::types::{Bytes, ClientId, Cluster, ReplicaId, SeqNo, Timestamp, View};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most replicas, client actors included, that fit in a state.
pub const MAX_REPLICAS: usize = 7;

/// How the clients of a world come by their requests and results.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Clients {
    /// Each client has signed one request, which is on the network from the start: any replica may hear of it
    /// at any time, or never. What a client accepts is derived.
    #[default]
    Implicit,
    /// Each client is production's, with one request to make, or with the calls of an
    /// [`Application`]: see [`super::clients`].
    Actors,
}

/// The bounds of a world, and who in it is Byzantine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WorldConfig {
    /// The number of replicas, at most seven, and of faults tolerated.
    pub cluster: Cluster,
    /// The Byzantine replicas.
    pub byzantine: BTreeSet<ReplicaId>,
    /// The highest view.
    pub max_view: View,
    /// The highest sequence number.
    pub max_seq: SeqNo,
    /// Clients with one request each.
    pub requests: u32,
    /// Whether the clients themselves are part of the world.
    pub clients: Clients,
    /// What they ask for if they are, and not just for one thing each at the start.
    pub application: Option<Application>,
    /// The most requests in one batch.
    pub max_batch: usize,
    /// `K` of the paper; none if no checkpoint is within reach.
    pub checkpoint_interval: Option<u64>,
    /// `L`; as long as the sequence numbers reach, if not given.
    pub window: Option<u64>,
    /// Which crashes of correct replicas are part of it; none, if not given.
    pub crashes: Option<Crashes>,
    /// What correct replicas decide by.
    pub rules: Rulebook,
}

impl WorldConfig {
    /// View 0, one sequence number, nobody Byzantine.
    pub fn new(cluster: Cluster, requests: u32) -> Self {
        WorldConfig {
            cluster,
            byzantine: BTreeSet::new(),
            max_view: View(0),
            max_seq: SeqNo(1),
            requests,
            clients: Clients::default(),
            application: None,
            max_batch: 1,
            checkpoint_interval: None,
            window: None,
            crashes: None,
            rules: Rulebook::default(),
        }
    }

    /// A name that says the bounds and who is Byzantine, not the rules: `n4f1-byz3-v2k1r2b1` has views up to
    /// 2, one sequence number, two requests and batches of at most one; `-c2w4` adds checkpoints and the
    /// window, `-x` crashes, `-x1` one of each replica at most, and `-y` those between steps alone; `-awr.w`
    /// has clients with these calls ([`Application::parse`]).
    pub fn name(&self) -> String {
        let byzantine = match self.byzantine.is_empty() {
            true => "none".to_string(),
            false => self.byzantine.iter().map(|replica| replica.0.to_string()).collect(),
        };
        let (n, f) = (self.cluster.n(), self.cluster.f());
        let (views, numbers) = (self.max_view.0, self.max_seq.0);
        let mut name =
            format!("n{n}f{f}-byz{byzantine}-v{views}k{numbers}r{}b{}", self.requests, self.max_batch);
        let window = self.parameters().window;
        match self.checkpoint_interval {
            Some(interval) => name.push_str(&format!("-c{interval}w{window}")),
            None if window != numbers => name.push_str(&format!("-w{window}")),
            None => {}
        }
        if let Some(Crashes { at_most, between_steps }) = self.crashes {
            name.push_str(if between_steps { "-y" } else { "-x" });
            name.push_str(&at_most.map(|most| most.to_string()).unwrap_or_default());
        }
        if let Some(application) = &self.application {
            name.push_str("-a");
            name.push_str(&application.name());
        }
        name
    }

    /// The same world with clients that call in this way.
    #[must_use]
    pub fn with_application(self, application: Application) -> Self {
        let requests = application.clients();
        WorldConfig { requests, clients: Clients::Actors, application: Some(application), ..self }
    }

    /// How many clients are registered: the correct ones, and a Byzantine one if there is one.
    pub fn members(&self) -> u32 {
        self.requests + u32::from(self.application.as_ref().is_some_and(|application| application.rogue))
    }

    /// What makes no sense, in words, or nothing.
    pub fn problem(&self) -> Option<String> {
        let (n, f, quorum) = (self.cluster.n(), self.cluster.f(), self.cluster.quorum());
        if n > MAX_REPLICAS {
            return Some(format!("a world has at most {MAX_REPLICAS} replicas, not {n}"));
        }
        if self.clients == Clients::Actors && n + self.requests as usize > MAX_REPLICAS {
            return Some(format!("a world has at most {MAX_REPLICAS} replicas and client actors together"));
        }
        if let Some(application) = &self.application
            && (self.clients != Clients::Actors || self.requests != application.clients())
        {
            return Some("calls are made by client actors, as many as they name".into());
        }
        if quorum > n {
            return Some(format!(
                "with f = {f} a quorum is {quorum} replicas, more than the {n} there are: raise --n or lower --f"
            ));
        }
        if let Some(replica) = self.byzantine.iter().find(|&&replica| !self.cluster.contains(replica)) {
            return Some(format!("--byzantine names replica {}, but they are 0 to {}", replica.0, n - 1));
        }
        if self.byzantine.len() == n {
            return Some("a world needs at least one correct replica".into());
        }
        if self.max_seq.0 == 0 || self.max_batch == 0 {
            return Some("--max-seq and --max-batch must be at least 1".into());
        }
        if self.max_view.0 > HIGHEST || self.max_seq.0 > HIGHEST {
            return Some(format!("--max-view and --max-seq may be at most {HIGHEST}"));
        }
        if self.checkpoint_interval == Some(0) {
            return Some("--checkpoint-interval must be at least 1".into());
        }
        if let Some(interval) = self.checkpoint_interval.filter(|&interval| interval > self.max_seq.0) {
            return Some(format!(
                "a checkpoint every {interval} is never reached: raise --max-seq to {interval}, or leave \
                 --checkpoint-interval out"
            ));
        }
        let requests = self.all_signed().len();
        if self.max_batch > requests {
            let batch = self.max_batch;
            return Some(format!(
                "--max-batch {batch} is more requests than there are, {requests}: lower it, or raise --requests"
            ));
        }
        if self.clients == Clients::Actors && self.max_batch > 1 {
            return Some("with client actors a batch holds one request: leave --max-batch at 1".into());
        }
        let window = self.parameters().window;
        if window == 0 || window > MAX_WINDOW {
            return Some(format!("--window must be between 1 and {MAX_WINDOW}"));
        }
        None
    }

    /// The parameters of every replica.
    pub fn parameters(&self) -> Parameters {
        Parameters {
            checkpoint_interval: self.checkpoint_interval.unwrap_or(MAX_WINDOW + 1),
            window: self.window.unwrap_or(self.max_seq.0),
            max_batch_requests: self.max_batch,
            ..Parameters::default()
        }
    }

    /// The correct replicas, in order.
    pub fn correct(&self) -> Vec<ReplicaId> {
        self.cluster.replicas().filter(|replica| !self.byzantine.contains(replica)).collect()
    }

    /// The configuration of every replica, Byzantine ones included: that is where their keys are.
    pub fn setups(&self) -> Vec<Arc<Setup<Modelled>>> {
        let n = u16::try_from(self.cluster.n()).expect("a cluster's size fits in 16 bits");
        let (keys, _) = Keys::all(n, self.members());
        let setup = |(id, keys)| {
            Arc::new(Setup {
                id,
                cluster: self.cluster,
                parameters: self.parameters(),
                keys: Arc::new(keys),
                clients: self.members(),
                rules: self.rules,
                genesis: Ledger::default(),
            })
        };
        self.cluster.replicas().zip(keys).map(setup).collect()
    }

    /// The configuration of every client.
    pub fn client_setups(&self) -> Vec<ClientSetup<Symbolic, Rulebook>> {
        let n = u16::try_from(self.cluster.n()).expect("a cluster's size fits in 16 bits");
        let (_, keys) = Keys::all(n, self.members());
        let setup = |(id, keys)| {
            let (cluster, keys, rules) = (self.cluster, Arc::new(keys), self.rules);
            ClientSetup { id, cluster, keys, rules }
        };
        (0..self.requests).map(ClientId).zip(keys).map(setup).collect()
    }

    /// What each client asks for, all of them different.
    pub fn operation(client: ClientId) -> Bytes {
        Bytes::from(format!("op{}", client.0).into_bytes())
    }

    /// One request of each client, signed.
    pub fn signed_requests(&self) -> Vec<Signed<Request, Symbolic>> {
        let n = u16::try_from(self.cluster.n()).expect("a cluster's size fits in 16 bits");
        let (_, keys) = Keys::all(n, self.requests);
        let request = |(client, keys)| {
            let operation = Self::operation(client);
            Signed::new(Request { operation, timestamp: Timestamp(1), client, read_only: false }, &keys)
        };
        (0..self.requests).map(ClientId).zip(keys).map(request).collect()
    }
}
