//! Judging a state by what its replicas have done.

use super::application::operation;
use super::clients::Begun;
use super::config::{Clients, MAX_REPLICAS, WorldConfig};
use super::judged::{Judged, Noted};
use super::witnesses::Witnesses;
use crate::crypto::Symbolic;
use crate::ledger::Ledger;
use foldhash::fast::FixedState;
use indexmap::IndexSet;
use pbft::message::Batch;
use pbft::parameters::Parameters;
use pbft::replica::Fact;
use pbft::rules::Rules;
use pbft::types::{Bytes, ClientId, Digest, ReplicaId, SeqNo, Timestamp, View};
use pbft_properties::{Accepted, Call, Catalogue, History, Listed, Snapshot, Violation, all};
use std::collections::{BTreeMap, BTreeSet};

/// What a client that is part of the world has done.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClientHistory {
    /// The results it has accepted, in order.
    pub accepted: Vec<Accepted>,
    /// Whether it has sent its request to more replicas than at first.
    pub retransmitted: bool,
    /// The calls of its application that have begun.
    pub calls: Vec<Begun>,
}

/// What the properties are told.
struct Scene {
    replicas: BTreeMap<ReplicaId, History>,
    accepted: Vec<Accepted>,
    calls: Vec<Call>,
    retransmitted: bool,
}

/// The histories of the correct replicas, and of the clients that are part of the world, together.
pub type Joint = [u32; MAX_REPLICAS];

/// Properties look at histories only, so states in which the replicas have the same ones are judged once.
pub struct Judge {
    config: WorldConfig,
    correct: Vec<ReplicaId>,
    parameters: Parameters,
    authentic: BTreeSet<(ClientId, Timestamp, Bytes)>,
    catalogue: Catalogue,
    genesis: Ledger,
    /// The property judged by, if not all of them.
    only: Option<&'static str>,
    histories: IndexSet<History, FixedState>,
    clients: IndexSet<ClientHistory, FixedState>,
    judged: Judged,
}

impl Judge {
    /// The judge of a world, where so many histories are judged together.
    pub fn new(config: &WorldConfig, together: usize) -> Self {
        let authentic = config.all_signed().into_iter().filter(|m| !m.content.read_only);
        let authentic = authentic.map(|m| (m.content.client, m.content.timestamp, m.content.operation));
        Judge {
            correct: config.correct(),
            parameters: config.parameters(),
            authentic: authentic.collect(),
            catalogue: catalogue(config),
            genesis: Ledger::default(),
            only: None,
            histories: IndexSet::default(),
            clients: IndexSet::default(),
            judged: Judged::new(together),
            config: config.clone(),
        }
    }

    /// From now on judges by this property alone.
    pub(super) fn judge_only(&mut self, property: &'static str) {
        self.only = Some(property);
    }

    /// The property judged by, if not all of them.
    pub(crate) fn only(&self) -> Option<&'static str> {
        self.only
    }

    /// Names a history.
    pub fn name(&mut self, history: &History) -> u32 {
        let index = match self.histories.get_index_of(history) {
            Some(known) => known,
            None => self.histories.insert_full(history.clone()).0,
        };
        u32::try_from(index).expect("a table of more than 2^32 entries does not fit in memory")
    }

    /// The history with this name.
    pub fn history(&self, name: u32) -> &History {
        self.histories.get_index(name as usize).expect("names are given by this table")
    }

    /// Names what a client has done.
    pub fn name_client(&mut self, history: ClientHistory) -> u32 {
        let index = self.clients.insert_full(history).0;
        u32::try_from(index).expect("a table of more than 2^32 entries does not fit in memory")
    }

    /// What a client has done, by its name.
    pub fn client(&self, name: u32) -> &ClientHistory {
        self.clients.get_index(name as usize).expect("names are given by this table")
    }

    /// The verdict on these histories, which are judged the first time only; threads may ask at the same time.
    ///
    /// # Errors
    /// What is violated.
    pub fn verdict(&self, joint: &Joint) -> Result<(), Violation> {
        if let Some(known) = self.judged.verdict(joint) {
            return known;
        }
        let verdict = self.look_at(joint, &[]);
        self.judged.note(joint, &verdict);
        verdict.map(|_| ())
    }

    /// Whether these histories violate nothing.
    pub fn is_sound(&self, joint: &Joint) -> bool {
        self.judged.is_sound(joint) || self.verdict(joint).is_ok()
    }

    /// Whether these histories have been judged, and so occur.
    pub fn is_judged(&self, joint: &Joint) -> bool {
        self.judged.verdict(joint).is_some()
    }

    /// Every combination of histories judged so far, with what has happened, for another process.
    pub(super) fn noted(&self) -> Noted {
        self.judged.noted()
    }

    /// Also takes these for judged, as another process has done.
    pub(super) fn add_noted(&mut self, noted: &Noted) {
        self.judged.add_sound(&noted.sound, noted.happened);
        // What is violated is told by whoever looks.
        noted.unsound.iter().for_each(|joint| drop(self.verdict(joint)));
    }

    /// How many of the combinations of histories judged so far violate something.
    pub fn violations(&self) -> usize {
        self.judged.unsound().len()
    }

    /// The name of a history, if it has one.
    pub fn find(&self, history: &History) -> Option<u32> {
        let index = self.histories.get_index_of(history)?;
        Some(u32::try_from(index).expect("a table of more than 2^32 entries does not fit in memory"))
    }

    /// What has happened in any of the states judged.
    pub fn witnesses(&self) -> Witnesses {
        self.judged.happened()
    }

    /// Every combination of histories judged so far.
    pub fn joints(&self) -> impl Iterator<Item = Joint> + '_ {
        self.judged.all()
    }

    /// Judges these histories, when some correct replicas have committed `decided` besides: what has happened, or what
    /// is violated.
    pub(crate) fn look_at(
        &self,
        joint: &Joint,
        decided: &[(View, SeqNo, Digest)],
    ) -> Result<Witnesses, Violation> {
        let scene = self.scene(joint, decided);
        self.check(&scene)?;
        let happened = Witnesses::of(&self.config, &scene.replicas, &scene.accepted, &scene.calls);
        Ok(Witnesses { retransmitted: scene.retransmitted, ..happened })
    }

    /// Every property that these histories violate, when some correct replicas have committed `decided`
    /// besides.
    fn violated(&self, joint: &Joint, decided: &[(View, SeqNo, Digest)]) -> Vec<&'static str> {
        let scene = self.scene(joint, decided);
        let snapshot = self.snapshot(&scene);
        let broken = |property: &Listed<Ledger>| (property.check)(&snapshot).is_err();
        all().iter().filter(|property| broken(property)).map(|property| property.name).collect()
    }

    /// What these histories violate, each property by itself.
    pub(crate) fn all_violations(&self, joint: &Joint) -> Vec<Violation> {
        let scene = self.scene(joint, &[]);
        let snapshot = self.snapshot(&scene);
        all().iter().filter_map(|property: &Listed<Ledger>| (property.check)(&snapshot).err()).collect()
    }

    /// Every property that some combination of the histories judged so far violates.
    pub fn all_violated(&self) -> BTreeSet<&'static str> {
        self.judged.unsound().iter().flat_map(|joint| self.violated(joint, &[])).collect()
    }

    /// What the properties are told of these histories.
    fn scene(&self, joint: &Joint, decided: &[(View, SeqNo, Digest)]) -> Scene {
        let mut replicas: BTreeMap<ReplicaId, History> = (self.correct.iter().zip(joint))
            .map(|(&replica, &name)| (replica, self.history(name).clone()))
            .collect();
        // Properties compare replicas with each other and with themselves, so any of them will do for these.
        for &(view, n, digest) in decided {
            if let Some(history) = replicas.values_mut().next() {
                history.record(&Fact::Committed { view, n, digest });
            }
        }
        let clients: Vec<&ClientHistory> = match self.config.clients {
            Clients::Implicit => Vec::new(),
            Clients::Actors => {
                let names = joint.iter().skip(self.correct.len()).take(self.config.requests as usize);
                names.map(|&name| self.client(name)).collect()
            }
        };
        let accepted = match self.config.clients {
            Clients::Implicit => self.acceptable(&replicas),
            Clients::Actors => clients.iter().flat_map(|client| client.accepted.clone()).collect(),
        };
        let retransmitted = clients.iter().any(|c| c.retransmitted && !c.accepted.is_empty());
        Scene { replicas, accepted, calls: self.calls(&clients), retransmitted }
    }

    /// The calls that these clients have begun.
    pub(super) fn calls(&self, clients: &[&ClientHistory]) -> Vec<Call> {
        let Some(application) = &self.config.application else { return Vec::new() };
        let firsts: Vec<usize> = clients
            .iter()
            .scan(0, |next, client| Some(std::mem::replace(next, *next + client.calls.len())))
            .collect();
        // Those of a client that have ended among its first so many.
        let ended = |client: usize, among: usize| {
            let calls = clients[client].calls.iter().take(among).enumerate();
            calls.filter(|(_, call)| call.result.is_some()).map(move |(number, _)| (client, number))
        };
        let mut all = Vec::new();
        for (client, history) in clients.iter().enumerate() {
            let id = ClientId(u32::try_from(client).expect("a world has few clients"));
            for (number, begun) in history.calls.iter().enumerate() {
                let called = application.calls[client][number];
                let unordered = usize::from(called == super::Call::Read);
                let heard =
                    begun.heard.iter().flat_map(|(other, &of)| ended(other.0 as usize, usize::from(of)));
                let before = ended(client, number).chain(heard);
                all.push(Call {
                    client: id,
                    number: number + 1,
                    operation: operation(id, number, called),
                    ordered: begun.timestamps.iter().skip(unordered).copied().collect(),
                    result: begun.result.clone(),
                    after: before.map(|(client, number)| firsts[client] + number).collect(),
                });
            }
        }
        all
    }

    /// Whether one replica's history violates something by itself.
    pub(crate) fn is_unsound_alone(&self, position: usize, history: &History) -> bool {
        let replicas = [(self.correct[position], history.clone())].into();
        let scene = Scene { replicas, accepted: Vec::new(), calls: Vec::new(), retransmitted: false };
        self.check(&scene).is_err()
    }

    fn check(&self, scene: &Scene) -> Result<(), Violation> {
        let snapshot = self.snapshot(scene);
        let properties = all::<Ledger>();
        let mut wanted =
            properties.iter().filter(|property| self.only.is_none_or(|only| only == property.name));
        wanted.try_for_each(|property| (property.check)(&snapshot))
    }

    fn snapshot<'a>(&'a self, scene: &'a Scene) -> Snapshot<'a, Ledger> {
        Snapshot {
            cluster: self.config.cluster,
            parameters: self.parameters,
            genesis: &self.genesis,
            replicas: &scene.replicas,
            authentic: &self.authentic,
            catalogue: &self.catalogue,
            accepted: &scene.accepted,
            calls: &scene.calls,
        }
    }

    /// The results that a client can have accepted: enough correct replicas have sent the same one, with the
    /// help of all Byzantine ones; or those are enough by themselves. The latter is left out where more than
    /// f are Byzantine: that they can then lie to a client without anybody's help shows nothing about the
    /// protocol.
    fn acceptable(&self, replicas: &BTreeMap<ReplicaId, History>) -> Vec<Accepted> {
        let byzantine = self.config.byzantine.len();
        let quorum = self.config.rules.reply_quorum(&self.config.cluster);
        let mut replies: BTreeMap<(ClientId, Timestamp, Bytes), BTreeSet<ReplicaId>> = BTreeMap::new();
        for (&replica, history) in replicas {
            for request in history.executions().flat_map(|execution| &execution.requests) {
                let reply = (request.client, request.timestamp, request.result.clone());
                replies.entry(reply).or_default().insert(replica);
            }
        }
        if byzantine >= quorum && byzantine <= self.config.cluster.f() {
            let forged = self.authentic.iter().map(|(client, timestamp, _)| {
                ((*client, *timestamp, Bytes::from(&b"forged"[..])), BTreeSet::new())
            });
            replies.extend(forged);
        }
        let enough = |replicas: &BTreeSet<ReplicaId>| replicas.len() + byzantine >= quorum;
        let reply = |((client, timestamp, result), replicas): (_, BTreeSet<ReplicaId>)| {
            enough(&replicas).then_some(Accepted { client, timestamp, result, read_only: false })
        };
        replies.into_iter().filter_map(reply).collect()
    }
}

/// Every batch that can be proposed in a world: each list, repetitions included, of requests that clients
/// have signed. A digest that names none of them executes against the rules, whoever proposed it.
fn catalogue(config: &WorldConfig) -> Catalogue {
    let requests = config.all_signed();
    let requests: Vec<_> = requests.into_iter().filter(|m| !m.content.read_only).collect();
    let mut catalogue = Catalogue::new::<Symbolic>();
    let mut batches = vec![Batch::default()];
    for _ in 0..config.max_batch {
        let longer = batches.iter().flat_map(|batch| {
            requests
                .iter()
                .map(|request| Batch { requests: batch.requests.iter().chain([request]).cloned().collect() })
        });
        batches = longer.collect();
        batches.iter().for_each(|batch| catalogue.add(batch));
    }
    catalogue
}
