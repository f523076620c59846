//! What STATUS and FETCH make correct replicas send again: nothing new, so worlds leave them out.
//!
//! That is a condition of every run, *resending*: whatever a STATUS or a FETCH says, and when the status
//! timer fires, a replica stays as it is and sends nothing but
//!
//! - what it has signed and sent before, by itself or in an `O`: anybody can take a PRE-PREPARE out of a
//!   NEW-VIEW and put the batch to it, and the adversary does;
//! - what others have signed, or nobody: batches, blocks, the requests in them. Signatures cannot be made up,
//!   so it has received that, or what it was part of, and some state of the run has it on the network;
//! - proofs that a checkpoint is stable: anybody can put them together from the CHECKPOINTs, which are on the
//!   network.
//!
//! Every combination of what a STATUS can say within the bounds of the world and one view beyond is tried in
//! one other replica's name, with one sequence number beyond as the last checkpoint or execution where it
//! names no slots; every view that it can be in and leave for in every other's name; and every REPLY, which
//! is for clients and for no replica: in every local state that a run keeps or passes through where receipts
//! are waited for; and, where the local systems are walked, at everything that a replica can become
//! ([`crate::lazy`]).

use super::config::WorldConfig;
use super::explored::World;
use super::tables::{LocalId, Mark, MessageId, Tables};
use crate::crypto::Symbolic;
use crate::lazy::{Conditions, Watch};
use pbft::crypto::{Crypto as _, Signed, Verified};
use pbft::message::{Fetch, Message, PrePrepare, Reply, Status, Wanted};
use pbft::replica::verify::verify;
use pbft::replica::{Effects, Event, Expired};
use pbft::types::{ClientId, Digest, Principal, ReplicaId, SeqNo, Timestamp, View};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// The name of the condition.
pub(crate) const RESENDING: &str = "resending";

pub(crate) type Proposal = Signed<PrePrepare, Symbolic>;

/// What a replica has sent whenever it is in some local state.
///
/// It can be in one by different ways and have sent different NEW-VIEWs by them, with the same PRE-PREPARE in the `O`
/// of each: one that has a checkpoint, and fetches its state, does not remember which it was. So what NEW-VIEWs carry is
/// kept beside the messages themselves.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Sent {
    pub(crate) messages: Vec<MessageId>,
    carried: BTreeSet<Proposal>,
}

impl Sent {
    pub(crate) fn of(tables: &Tables, messages: &[MessageId]) -> Self {
        let carried = messages.iter().flat_map(|&id| carried_by(tables.message(id)));
        Sent { carried: carried.cloned().collect(), messages: messages.to_vec() }
    }

    /// What it has sent by the one way and by the other.
    fn whichever(&mut self, other: &Sent) {
        self.messages.retain(|message| other.messages.contains(message));
        self.carried.retain(|proposal| other.carried.contains(proposal));
    }

    /// The same, and more.
    pub(crate) fn and(&self, more: &[MessageId]) -> Self {
        Sent { messages: [&self.messages[..], more].concat(), carried: self.carried.clone() }
    }

    fn carries(&self, message: &Message<Symbolic>) -> bool {
        matches!(message, Message::PrePrepare(signed, _) if self.carried.contains(signed))
    }
}

/// What replicas can be asked, and what has been on the network at some time.
pub(crate) struct Inquiry {
    /// For each replica, everything that can be asked of it.
    questions: Vec<Vec<Event<Symbolic>>>,
    /// For each position, everything available in some state of the run.
    available: BTreeSet<MessageId>,
    asked: BTreeSet<(LocalId, usize, Sent)>,
}

impl Inquiry {
    /// Everything that can be asked in this world, as far as it has been explored.
    pub(crate) fn new(world: &World) -> Self {
        let questions = world.correct.iter().map(|&replica| questions(world, replica)).collect();
        Inquiry { questions, available: world.network.ever_available(), asked: BTreeSet::new() }
    }

    /// Checks the condition in a local state of the correct replica at this position, which has sent `sent`,
    /// and more that `is_over`.
    pub(crate) fn check(
        &mut self,
        world: &World,
        position: usize,
        local: LocalId,
        sent: &Sent,
        is_over: &dyn Fn(&Message<Symbolic>) -> bool,
        conditions: &mut Conditions,
    ) {
        let is_client = position >= world.correct.len();
        if is_client || !self.asked.insert((local, position, sent.clone())) {
            return;
        }
        let replica = world.correct[position];
        let mut answers = BTreeSet::new();
        let before = &world.tables.local(local).replica;
        let mut state = before.clone();
        let setup = world.tables.setup(replica);
        for question in &self.questions[position] {
            let mut effects = Effects::new();
            state.step(setup, question.clone(), &mut effects);
            if state != *before {
                let changed = state.without_services(setup) != before.without_services(setup);
                conditions.note(RESENDING, !changed, || {
                    format!("r{}: {question:?} changes\n  {before:?}", replica.0)
                });
                state = before.clone();
            }
            answers.extend(effects.sends().map(|(_, message)| message.clone()));
        }
        for answer in answers {
            let is_known = self.is_nothing_new(world, replica, sent, is_over, &answer);
            conditions.note(RESENDING, is_known, || {
                format!("r{}: sends again what it has not sent: {answer:?}\n  state: {before:?}", replica.0)
            });
        }
    }

    /// Forgets about local states met after `mark`, whose names become others'.
    pub(crate) fn forget_from(&mut self, mark: Mark) {
        self.asked.split_off(&(mark.first_local(), 0, Sent::default()));
    }

    fn is_nothing_new(
        &self,
        world: &World,
        replica: ReplicaId,
        sent: &Sent,
        is_over: &dyn Fn(&Message<Symbolic>) -> bool,
        answer: &Message<Symbolic>,
    ) -> bool {
        let is_left_out = matches!(answer, Message::Status(_) | Message::Fetch(_));
        if is_left_out || world.tables.is_beyond(answer) || is_over(answer) || sent.carries(answer) {
            return true;
        }
        let tables = &world.tables;
        is_old(tables, answer, replica, sent.messages.iter().copied(), &|id| self.available.contains(&id))
    }
}

/// Whether a message is one of those that this replica has `sent`, is carried by one, is a proof, or is
/// somebody else's and `available`.
pub(crate) fn is_old(
    tables: &Tables,
    message: &Message<Symbolic>,
    replica: ReplicaId,
    mut sent: impl Iterator<Item = MessageId>,
    available: &dyn Fn(MessageId) -> bool,
) -> bool {
    if let Message::Stable(certificate) = message {
        return certificate.proof.is_accepted();
    }
    let Some(id) = tables.named(message) else { return false };
    if message.signer() != Some(Principal::Replica(replica)) && available(id) {
        return true;
    }
    sent.any(|sent| sent == id || carries(tables.message(sent), message))
}

impl World {
    /// For each local state that occurs at a position, what a replica has sent whenever it is in it.
    pub(crate) fn sent_in(&self, position: usize) -> BTreeMap<LocalId, Sent> {
        let mut all: BTreeMap<LocalId, Sent> = BTreeMap::new();
        for agent in self.agents[position].all() {
            let sent = Sent::of(&self.tables, &agent.sent);
            all.entry(agent.local).and_modify(|known| known.whichever(&sent)).or_insert(sent);
        }
        all
    }

    /// Checks the condition in every state of every agent that this exploration has reached.
    pub(super) fn check_resending(&self, watch: &mut Watch<'_>) -> Conditions {
        let (began, mut conditions) = (Instant::now(), Conditions::default());
        let mut inquiry = Inquiry::new(self);
        for position in (0..self.correct.len()).filter(|&position| self.share.has(position)) {
            for (local, sent) in self.sent_in(position) {
                if !conditions.goes_on(watch) {
                    break;
                }
                inquiry.check(self, position, local, &sent, &|_| false, &mut conditions);
            }
        }
        conditions.elapsed = began.elapsed();
        conditions
    }
}

/// What a NEW-VIEW has in its `O`; other messages carry no PRE-PREPARE of their sender.
pub(crate) fn carried_by(message: &Message<Symbolic>) -> &[Proposal] {
    match message {
        Message::NewView(m) => &m.content.pre_prepares,
        _ => &[],
    }
}

/// Whether a PRE-PREPARE is an entry of the `O` of a NEW-VIEW.
pub(super) fn carries(new_view: &Message<Symbolic>, proposal: &Message<Symbolic>) -> bool {
    matches!(proposal, Message::PrePrepare(signed, _) if carried_by(new_view).contains(signed))
}

/// What can be asked of a replica: the status timer, STATUSes, and a FETCH for everything there is and for
/// something that is not.
pub(crate) fn questions(world: &World, replica: ReplicaId) -> Vec<Event<Symbolic>> {
    let cluster = world.config().cluster;
    let others: Vec<ReplicaId> = cluster.replicas().filter(|&other| other != replica).collect();
    let verified = |message| -> Option<Verified<Message<Symbolic>>> {
        verify(world.tables.setup(replica), message).ok()
    };
    let wanted = world.network.ever_available().into_iter().filter_map(|id| match world.tables.message(id) {
        Message::Batch(batch) => Some(Wanted::Batch(batch.digest())),
        Message::Block(block) => Some(Wanted::Block(Symbolic::digest(block))),
        _ => None,
    });
    // And for what nobody has.
    let unknown = Digest([7; 32]);
    let nobodys = [Digest::NULL, unknown].into_iter().flat_map(|d| [Wanted::Batch(d), Wanted::Block(d)]);
    let wanted: BTreeSet<Wanted> = wanted.chain(nobodys).collect();
    let mut asked = Vec::new();
    for (place, &other) in others.iter().enumerate() {
        let by = world.tables.setup(other);
        let fetches = wanted.iter().map(|&what| Message::Fetch(by.sign(Fetch { what, replica: other })));
        // Whatever a STATUS says is said in one name, and each view in every name.
        let statuses = statuses(world, other, place == 0);
        let statuses = statuses.into_iter().map(|status| Message::Status(by.sign(status)));
        let replies = replies(world, other).into_iter().map(|reply| Message::Reply(by.sign(reply)));
        asked.extend(fetches.chain(statuses).chain(replies).filter_map(verified).map(Event::Message));
    }
    asked.push(Event::Timeout(Expired::Status));
    asked
}

/// REPLYs to every client, of timestamps around those of its request, in every view.
fn replies(world: &World, replica: ReplicaId) -> Vec<Reply> {
    let mut all = Vec::new();
    for client in (0..world.config().requests).map(ClientId) {
        for timestamp in (0..=2).map(Timestamp) {
            for view in (0..=world.config().max_view.0).map(View) {
                let result = WorldConfig::operation(client);
                all.push(Reply { view, timestamp, client, replica, result });
            }
        }
    }
    all
}

/// Everything that a STATUS can say within the bounds, numbers one beyond where it names no slots; or, unless
/// it is to be `whole`, every view alone.
fn statuses(world: &World, replica: ReplicaId, whole: bool) -> Vec<Status> {
    let (max_view, max_seq) = (world.config().max_view, world.config().max_seq);
    let views = || (0..=max_view.0 + 1).map(View);
    let numbers = || (0..=max_seq.0 + 1).map(SeqNo);
    let lists: Vec<Vec<SeqNo>> = (0..1_u64 << max_seq.0)
        .map(|chosen| (1..=max_seq.0).filter(|n| chosen & (1 << (n - 1)) != 0).map(SeqNo).collect())
        .collect();
    let mut all = Vec::new();
    for view in views() {
        for leaving in [None].into_iter().chain(views().filter(|&to| to > view).map(Some)) {
            for (stable, executed) in numbers().flat_map(|stable| numbers().map(move |n| (stable, n))) {
                let is_beyond = stable.max(executed) > max_seq;
                let is_short = is_beyond || !whole;
                if !whole && (stable, executed) != (SeqNo(0), SeqNo(0)) {
                    continue;
                }
                let lists = if is_short { &lists[..1] } else { &lists[..] };
                for pre_prepared in lists {
                    all.extend(lists.iter().map(|prepared| Status {
                        view,
                        leaving,
                        stable,
                        executed,
                        pre_prepared: pre_prepared.clone(),
                        prepared: prepared.clone(),
                        replica,
                    }));
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Limits, Outcome, explore};
    use crate::world::{Delivery, WorldConfig};
    use pbft::message::{Batch, NewView};
    use pbft::types::Cluster;
    use std::sync::Arc;

    /// How often the condition was tried and failed, if of what was sent only what `keep` says had been.
    fn tried(keep: fn(&Message<Symbolic>) -> bool) -> (u64, u64) {
        let config = WorldConfig { max_view: View(1), ..WorldConfig::new(Cluster::new(4, 1), 1) };
        let config = WorldConfig { byzantine: [ReplicaId(3)].into(), checkpoint_interval: Some(1), ..config };
        let mut world = World::new(config, Delivery::Lazy).expect("these bounds make sense");
        let found = explore(&mut world, Limits::default(), &mut |_| true);
        assert_eq!(found.outcome, Outcome::Exhausted);
        let (mut inquiry, mut conditions) = (Inquiry::new(&world), Conditions::default());
        for position in 0..world.correct.len() {
            for (local, mut sent) in world.sent_in(position) {
                sent.messages.retain(|&id| keep(world.tables.message(id)));
                let kept = Sent::of(&world.tables, &sent.messages);
                sent.whichever(&kept);
                inquiry.check(&world, position, local, &sent, &|_| false, &mut conditions);
            }
        }
        conditions.counts[RESENDING]
    }

    #[test]
    fn what_is_sent_again_has_been_sent_and_each_kind_of_it_is_asked_for() {
        let (checked, failed) = tried(|_| true);
        assert!(checked > 300 && failed == 0, "{failed} of {checked}");
        type Kind = fn(&Message<Symbolic>) -> bool;
        let kinds: [(&str, Kind); 5] = [
            ("PRE-PREPARE", |m| !matches!(m, Message::PrePrepare(..) | Message::NewView(_))),
            ("PREPARE", |m| !matches!(m, Message::Prepare(_))),
            ("COMMIT", |m| !matches!(m, Message::Commit(_))),
            ("CHECKPOINT", |m| !matches!(m, Message::Checkpoint(_))),
            ("VIEW-CHANGE", |m| !matches!(m, Message::ViewChange(_))),
        ];
        for (name, kind) in kinds {
            assert!(tried(kind).1 > 0, "{name}");
        }
    }

    #[test]
    fn what_each_of_several_new_views_carries_has_been_sent_whichever_it_was() {
        let config = WorldConfig { max_view: View(1), ..WorldConfig::new(Cluster::new(4, 1), 1) };
        let mut world = World::new(config, Delivery::Lazy).expect("these bounds make sense");
        let primary = world.tables.setup(ReplicaId(1)).clone();
        let proposal = |n| primary.sign(PrePrepare { view: View(1), n: SeqNo(n), digest: Digest::NULL });
        let new_view = |numbers: &[u64]| {
            let pre_prepares = numbers.iter().map(|&n| proposal(n)).collect();
            let content = NewView { view: View(1), view_changes: Vec::new().into(), pre_prepares };
            Message::NewView(Arc::new(primary.sign(content)))
        };
        let [one, other] = [&[1, 2][..], &[2, 3]].map(|numbers| world.tables.add_message(new_view(numbers)));
        let mut sent = Sent::of(&world.tables, &[one]);
        sent.whichever(&Sent::of(&world.tables, &[other]));
        let batch = Arc::new(Batch { requests: Vec::new() });
        let carried = [1, 2, 3].map(|n| sent.carries(&Message::PrePrepare(proposal(n), batch.clone())));
        assert_eq!((sent.messages.len(), carried), (0, [false, true, false]));
    }
}
