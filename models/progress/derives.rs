//! What the Byzantine replicas make of what was sent, in a run.
//!
//! The adversary of worlds, with wider bounds: a run goes on beyond the highest view and number of its world.
//! Beyond these bounds too it is silent.

use super::run::{Arrival, Run};
use super::strategy::Strategy;
use crate::adversary::{Adversary, Bounds};
use crate::crypto::Symbolic;
use crate::world::{MessageId, World, WorldConfig};
use pbft::message::Message;
use pbft::replica::Subject;
use pbft::types::{ClientId, Principal, SeqNo, Timestamp, View};
use std::collections::BTreeSet;

/// Views above the highest of the world in which it still makes something.
const MORE_VIEWS: u64 = 2;

/// All Byzantine replicas together.
pub(super) struct Deriver {
    adversary: Adversary,
    max_view: View,
    max_seq: SeqNo,
}

impl Deriver {
    pub(super) fn new(config: &WorldConfig) -> Self {
        let (setups, requests) = (config.setups(), config.signed_requests());
        let own = |replica: &pbft::types::ReplicaId| setups[usize::from(replica.0)].clone();
        let (byzantine, correct) = (config.byzantine.iter().map(own), config.correct());
        let judges: Vec<_> = correct.iter().map(own).collect();
        let max_view = View(config.max_view.0 + MORE_VIEWS);
        let max_seq = config.max_seq.max(SeqNo(config.requests.into()));
        let bounds = Bounds { max_view, max_seq, max_batch: config.max_batch };
        let adversary = Adversary::new(byzantine.collect(), &judges, &requests, bounds);
        Deriver { adversary, max_view, max_seq }
    }

    /// What matters to a replica that has left for `view`: VIEW-CHANGEs, and NEW-VIEWs where they lead it.
    pub(super) fn on_leaving(
        &self,
        view: View,
        sent: &BTreeSet<Message<Symbolic>>,
    ) -> Vec<Message<Symbolic>> {
        let new_view = self.adversary.is_primary(view).then_some(Subject::NewView(view));
        let subjects: Vec<_> = new_view.into_iter().chain([Subject::ViewChange(view)]).collect();
        self.about(view, &subjects, sent)
    }

    /// What matters to a replica in `view`: proposals and votes.
    pub(super) fn in_view(&self, view: View, sent: &BTreeSet<Message<Symbolic>>) -> Vec<Message<Symbolic>> {
        let numbers = (1..=self.max_seq.0).map(SeqNo);
        let of = |n| [Subject::PrePrepare(view, n), Subject::Prepare(view, n), Subject::Commit(view, n)];
        let subjects: Vec<Subject> = numbers.flat_map(of).collect();
        self.about(view, &subjects, sent)
    }

    fn about(
        &self,
        view: View,
        subjects: &[Subject],
        sent: &BTreeSet<Message<Symbolic>>,
    ) -> Vec<Message<Symbolic>> {
        if view > self.max_view {
            return Vec::new();
        }
        let needs_knowledge = subjects.iter().any(|subject| matches!(subject, Subject::ViewChange(_)));
        let known = needs_knowledge.then(|| self.adversary.known(&sent.iter().collect::<Vec<_>>()));
        let about = |&subject: &Subject| {
            let matters = |message: &&Message<Symbolic>| {
                Subject::of(message).is_some_and(|other| Adversary::rests_on(subject, other))
            };
            let rests_on: Vec<_> = sent.iter().filter(matters).collect();
            self.adversary.about(subject, &rests_on, known.as_ref())
        };
        subjects.iter().flat_map(about).collect()
    }

    /// The replies that it makes to a client's request.
    pub(super) fn replies(&self, client: ClientId, timestamp: Timestamp) -> Vec<Message<Symbolic>> {
        self.adversary.about(Subject::Reply(client, timestamp), &[], None)
    }
}

impl Run<'_> {
    /// What is known from the start arrives first.
    pub(super) fn begin_deriving(&mut self, world: &World, learnt: &[MessageId]) {
        for node in 0..self.replicas.len() {
            let known = |id: &MessageId| self.cluster.verified.get(&(node, *id)).cloned();
            let arrivals = learnt.iter().filter_map(known).map(Arrival::Verified).collect();
            self.plan_lies(node, arrivals);
        }
        let byzantine =
            |signer| matches!(signer, Principal::Replica(id) if self.is_byzantine(usize::from(id.0)));
        let learnt = learnt.iter().map(|&id| world.tables().message(id));
        self.sent = learnt.filter(|message| !message.signer().is_some_and(byzantine)).cloned().collect();
        for node in 0..self.replicas.len() {
            let Some(replica) = &self.replicas[node] else { continue };
            let (view, leaving) = (replica.view(), replica.leaving());
            self.derive(node, leaving, leaving.is_none().then_some(view));
        }
    }

    /// What matters to those that leave a view arrives at all, as does what matters to one that enters one.
    pub(super) fn derive(&mut self, node: usize, left: Option<View>, entered: Option<View>) {
        if let Some(view) = left {
            let made = self.cluster.deriver.on_leaving(view, &self.sent);
            for node in 0..self.replicas.len() {
                self.tell_lies(node, &made);
            }
        }
        if let Some(view) = entered {
            let made = self.cluster.deriver.in_view(view, &self.sent);
            self.tell_lies(node, &made);
        }
    }

    fn tell_lies(&mut self, node: usize, messages: &[Message<Symbolic>]) {
        self.plan_lies(node, messages.iter().cloned().map(Arrival::Message).collect());
    }

    /// These messages arrive at a replica before anything else; at every second one in the other order.
    fn plan_lies(&mut self, node: usize, mut lies: Vec<Arrival>) {
        if self.replicas[node].is_none() {
            return;
        }
        if self.strategy == Strategy::Misleads {
            lies.retain(|lie| !lie.is_vote());
        }
        if node % 2 == 1 {
            lies.reverse();
        }
        for lie in lies {
            self.agenda.plan(0, node, lie);
        }
    }
}

impl Arrival {
    fn is_vote(&self) -> bool {
        let message = match self {
            Arrival::Message(message) => message,
            Arrival::Verified(message) => message,
            _ => return false,
        };
        matches!(message, Message::Prepare(_) | Message::Commit(_) | Message::Checkpoint(_))
    }
}
