//! What lazy delivery relies on, tested on the real code in every local state that an exploration has
//! reached. Pairs of events in the states that a run meets do not imply that nothing is lost:
//! [`theorem`](super::theorem) does.
//!
//! Let `alive(x)` be a state without its dead parts, and let the events of a local state be the messages
//! about any subject it heeds that were available whenever it was visited, and a time-out. For every normal
//! form, every state `x` inside a closure from it, every message `m` whose delivery in `x` is silent, and
//! every event `e`:
//!
//! 1. *Postponing.* `m;e` and `e;m` end in the same `alive` state, with the same facts, and `e;m` sends at
//!    least what `m;e` does (a primary that leaves its view knowing of a request does not relay it; one that
//!    hears of it after that does); or `e` does nothing after `m`, and so can be left out. A client keeps the
//!    last REPLY of each replica, and which block completes a state shows, so these do not commute among
//!    themselves, and need not: a closure tries the messages of its subject in every order, and all that is
//!    ever moved past `m` are events about other subjects.
//! 2. *Redelivery.* After a macro step, delivering once more what led to it to the normal form leads back to
//!    the state itself, and sends nothing that the macro step did not send.
//! 3. *Deadness.* From the state in which a macro step ends, or to which a time-out leads inside of a
//!    closure, and from the same state without its dead parts, every event leads to the same `alive` state,
//!    with the same messages and facts. (Only a time-out makes dead what was logged inside of a closure: the
//!    votes of the view left.)
//! 4. *Joining.* f + 1 VIEW-CHANGEs of others for views above the current one that make the replica join end
//!    in the same `alive` state as the time-outs that lead to the view joined and the same VIEW-CHANGEs after
//!    them; and what the join sends, the time-outs send. VIEW-CHANGEs that do not make it join change nothing
//!    but receipts. A join looks at views and senders only, so one VIEW-CHANGE of each sender for each view
//!    is tried.
//! 5. *NEW-VIEWs that differ in `V` alone* lead to the same `alive` state, with the same messages and facts.
//! 6. *Heeding.* A message about a subject that is not heeded changes nothing and is not answered.
//! 7. *Resending.* The STATUSes and FETCHes that are tried change nothing and are answered with nothing new:
//!    see [`crate::world`]. In every state `x` and in every state in which a macro step ends.
//!
//! And random walks of the unreduced world show nothing that the exploration has not shown: *walks*,
//! [`crate::walks`].
//!
//! A fact shows in the history, which is part of the local states compared.

use super::{Walked, closure, theorem};
use crate::walks::Missing;
use crate::world::{Input, Inquiry, LocalId, MessageId, Move, Tables, World};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::replica::Subject;
use pbft::types::{Principal, ReplicaId, View};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A condition that does not hold: the exploration then claims nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broken {
    /// Which condition, at which replica, in which local state, for which events.
    pub what: String,
}

/// What has been checked.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// For each condition, how many pairs of events, or single events, were tried, and how many failed.
    pub counts: BTreeMap<&'static str, (u64, u64)>,
    /// The first failure of each condition.
    pub first: BTreeMap<&'static str, Broken>,
    /// The time it took.
    pub elapsed: Duration,
    /// Why some were not checked.
    pub stopped: Option<&'static str>,
    /// What was walked of the unreduced local systems, if they were.
    pub walked: Option<Walked>,
}

/// Asked now and then while conditions are checked: why to stop, if so.
pub type Watch<'a> = dyn FnMut(&Conditions) -> Option<&'static str> + 'a;

impl Conditions {
    /// How many checks were made.
    pub fn checked(&self) -> u64 {
        self.counts.values().map(|&(checked, _)| checked).sum()
    }

    /// How many failed.
    pub fn failed(&self) -> u64 {
        self.counts.values().map(|&(_, failed)| failed).sum()
    }

    /// Whether to go on; remembers why not.
    pub(crate) fn goes_on(&mut self, watch: &mut Watch<'_>) -> bool {
        self.stopped = self.stopped.or_else(|| watch(self));
        self.stopped.is_none()
    }

    /// Adds what was checked elsewhere.
    pub(crate) fn add(&mut self, other: &Conditions) {
        for (&condition, &(checked, failed)) in &other.counts {
            let (all, all_failed) = self.counts.entry(condition).or_default();
            *all += checked;
            *all_failed += failed;
        }
        for (&condition, broken) in &other.first {
            self.first.entry(condition).or_insert_with(|| broken.clone());
        }
        if let Some(more) = other.walked {
            let all = self.walked.get_or_insert_default();
            all.cores += more.cores;
            all.steps_taken += more.steps_taken;
            all.steps_recorded += more.steps_recorded;
            all.most_held = all.most_held.max(more.most_held);
        }
    }

    /// Counts checks made elsewhere, with what failed first.
    pub(crate) fn add_counted(
        &mut self,
        condition: &'static str,
        checked: u64,
        failed: u64,
        first: Option<String>,
    ) {
        let (all, all_failed) = self.counts.entry(condition).or_default();
        *all += checked;
        *all_failed += failed;
        if let Some(what) = first {
            self.first.entry(condition).or_insert(Broken { what });
        }
    }

    /// Counts random walks, the last of which may show something that the exploration does not.
    pub(crate) fn add_walks(&mut self, walks: u64, missing: Option<Missing>) {
        let (checked, failed) = self.counts.entry(WALKS).or_default();
        *checked += walks;
        if let Some(Missing { walk, what, steps }) = missing {
            *failed += 1;
            let what = format!("walk {walk}: {what}\n  {}", steps.join("\n  "));
            self.first.entry(WALKS).or_insert(Broken { what });
        }
    }

    /// Counts a check; says what failed, if it is the first of its condition.
    pub(crate) fn note(&mut self, condition: &'static str, holds: bool, what: impl FnOnce() -> String) {
        let (checked, failed) = self.counts.entry(condition).or_default();
        *checked += 1;
        if !holds {
            *failed += 1;
            self.first.entry(condition).or_insert_with(|| Broken { what: what() });
        }
    }
}

const POSTPONING: &str = "postponing";
const REDELIVERY: &str = "redelivery";
const DEADNESS: &str = "deadness";
const JOINING: &str = "joining";
const MERGING: &str = "merged NEW-VIEWs";
const HEEDING: &str = "heeding";
/// The name of the random walks among the conditions.
pub(crate) const WALKS: &str = "walks";

/// What some events lead to: the state without its dead parts, and everything sent.
type Outcome = (LocalId, BTreeSet<MessageId>);

fn run(tables: &mut Tables, node: Principal, from: LocalId, inputs: &[Input]) -> Outcome {
    let (mut at, mut sent) = (from, BTreeSet::new());
    for &input in inputs {
        let step = tables.step(node, at, input);
        sent.extend(step.sends.iter().copied());
        at = step.to;
    }
    (tables.bare(node, at).alive, sent)
}

/// Checks every condition on every local state that `world` has reached.
pub fn check(world: &mut World, watch: &mut Watch<'_>) -> Conditions {
    let inquiry = Inquiry::new(world);
    check_with(world, Some(inquiry), watch)
}

/// Checks every condition but *resending*.
pub(crate) fn check_but_resending(world: &mut World, watch: &mut Watch<'_>) -> Conditions {
    check_with(world, None, watch)
}

fn check_with(world: &mut World, mut inquiry: Option<Inquiry>, watch: &mut Watch<'_>) -> Conditions {
    let began = Instant::now();
    let mut conditions = Conditions::default();
    if inquiry.is_some() && theorem::is_walked(world.config()) {
        theorem::check(world, &mut conditions, watch);
    }
    let view_changes = one_of_each(&world.tables);
    for position in 0..world.nodes().len() {
        if !world.share().has(position) {
            continue;
        }
        let sent = world.sent_in(position);
        for (local, occasions) in occasions(world, position) {
            if !conditions.goes_on(watch) {
                break;
            }
            // What a check meets and no exploration does would not fit in memory.
            let mark = world.tables.mark();
            let mut case = Case::new(world, position, local, &occasions);
            let passed = case.check(&view_changes, &mut conditions);
            let sent = sent.get(&local).cloned().unwrap_or_default();
            if let Some(inquiry) = &mut inquiry {
                for (at, more) in passed {
                    inquiry.check(world, position, at, &sent.and(&more), &|_| false, &mut conditions);
                }
                inquiry.forget_from(mark);
            }
            world.tables.forget_since(mark);
        }
    }
    conditions.elapsed = began.elapsed();
    conditions
}

/// For each local state visited at a position, what was available about each subject it heeds.
fn occasions(
    world: &World,
    position: usize,
) -> IndexMap<LocalId, BTreeMap<usize, BTreeSet<u32>>, FixedState> {
    let mut all: IndexMap<LocalId, BTreeMap<usize, BTreeSet<u32>>, FixedState> = IndexMap::default();
    for (local, number, available) in world.occasions(position) {
        all.entry(local).or_default().entry(number).or_default().insert(available);
    }
    all
}

/// One VIEW-CHANGE of each sender for each view.
fn one_of_each(tables: &Tables) -> BTreeMap<(ReplicaId, View), MessageId> {
    let mut found = BTreeMap::new();
    for id in tables.all_messages() {
        if let pbft::message::Message::ViewChange(m) = tables.message(id) {
            found.entry((m.content.replica, m.content.view)).or_insert(id);
        }
    }
    found
}

/// What was available about a subject, or a time-out: each set by itself, and all together.
type Met = (Option<Subject>, Vec<Vec<Input>>, BTreeSet<Input>);

/// One local state, and what it has met.
struct Case<'a> {
    world: &'a mut World,
    node: Principal,
    local: LocalId,
    /// For each subject heeded, the sets of messages available about it, and all of them together.
    subjects: Vec<Met>,
}

impl<'a> Case<'a> {
    fn new(
        world: &'a mut World,
        position: usize,
        local: LocalId,
        occasions: &BTreeMap<usize, BTreeSet<u32>>,
    ) -> Self {
        let mut subjects = Vec::new();
        for (&number, available) in occasions {
            // Crashes forget what others remember: of them the theorem speaks.
            if number == world.crashes() {
                continue;
            }
            if number == world.time_outs() {
                subjects.push((None, vec![vec![Input::TimeOut]], [Input::TimeOut].into()));
                continue;
            }
            let (node, subject) = (world.nodes()[position], Some(world.network.subjects()[number]));
            let list = |&available: &u32| {
                world.with_requests(
                    &world.tables,
                    node,
                    local,
                    subject,
                    world.inputs(position, number, available),
                )
            };
            let sets: Vec<Vec<Input>> = available.iter().map(list).collect();
            let all = sets.iter().flatten().copied().collect();
            subjects.push((subject, sets, all));
        }
        Case { node: world.nodes()[position], world, local, subjects }
    }

    fn events(&self) -> BTreeSet<Input> {
        self.subjects.iter().flat_map(|(_, _, all)| all).copied().collect()
    }

    /// Checks all but *resending*; returns the states passed through for that, each with what has been sent
    /// on the way.
    fn check(
        &mut self,
        view_changes: &BTreeMap<(ReplicaId, View), MessageId>,
        conditions: &mut Conditions,
    ) -> BTreeSet<(LocalId, Vec<MessageId>)> {
        let events = self.events();
        let mut passed = BTreeSet::from([(self.local, Vec::new())]);
        let mut ends: IndexSet<LocalId, FixedState> = IndexSet::default();
        for (subject, sets, all) in self.subjects.clone() {
            let mut inside: IndexSet<LocalId, FixedState> = IndexSet::default();
            for inputs in sets {
                let tables = &mut self.world.tables;
                let closure = closure(tables, self.node, self.local, subject, &inputs);
                for (end, step) in closure.fired {
                    if step.crash.is_none() {
                        self.redelivery(end, &step, conditions);
                    }
                    passed.insert((end, step.sends.to_vec()));
                    ends.insert(end);
                }
                passed.extend(closure.silent.keys().map(|&at| (at, Vec::new())));
                inside.extend(closure.silent.into_keys());
            }
            for at in inside {
                self.postponing(at, &all, &events, conditions);
                if events.contains(&Input::TimeOut) {
                    ends.insert(self.world.tables.step(self.node, at, Input::TimeOut).to);
                }
            }
        }
        for end in ends {
            self.deadness(end, &events, conditions);
        }
        self.merging(&events, conditions);
        if let Principal::Replica(replica) = self.node {
            self.joining(replica, view_changes, conditions);
        }
        self.heeding(conditions);
        passed
    }

    fn failure(&self, what: &str, at: LocalId, inputs: &[Input]) -> String {
        let tables = &self.world.tables;
        let inputs: Vec<String> = inputs.iter().map(|&input| tables.tell(input)).collect();
        format!(
            "{:?}: {what}\n  state: {}\n  events: {}",
            self.node,
            tables.show(self.node, at),
            inputs.join("\n          ")
        )
    }

    /// Condition 1 in the state `at` inside of a closure, for the messages of that closure.
    fn postponing(
        &mut self,
        at: LocalId,
        messages: &BTreeSet<Input>,
        events: &BTreeSet<Input>,
        conditions: &mut Conditions,
    ) {
        let node = self.node;
        for &silent in messages {
            let tables = &mut self.world.tables;
            let step = tables.step(node, at, silent);
            let bare = tables.bare(node, step.to);
            if step.to == at || !step.sends.is_empty() || bare.normal != self.local {
                continue;
            }
            // Blocks and REPLYs keep an order of their own; votes are tried with each other too.
            let ordered = messages.iter().any(|&input| is_ordered(&self.world.tables, input));
            for &event in events.iter().filter(|&&event| event != silent) {
                if ordered && messages.contains(&event) || self.is_tried_together(silent, event) {
                    continue;
                }
                let tables = &mut self.world.tables;
                let put_off = run(tables, node, at, &[event, silent]);
                let as_it_was = run(tables, node, at, &[silent, event]);
                let does_nothing = as_it_was == (bare.alive, BTreeSet::new());
                let is_same = put_off.0 == as_it_was.0 && put_off.1.is_superset(&as_it_was.1);
                conditions.note(POSTPONING, is_same || does_nothing, || {
                    self.failure("a silent delivery does not commute with an event", at, &[silent, event])
                });
            }
        }
    }

    /// Whether macro steps try these two in either order. Requests queue in the order of their arrival, and
    /// what waits in the queue is proposed in that order once it can be; and where a batch holds several,
    /// every macro step of a replica that proposes takes the requests before it that it is to have heard of.
    fn is_tried_together(&self, silent: Input, event: Input) -> bool {
        let is_request = |input| {
            matches!(input, Input::Message(id)
            if matches!(self.world.tables.message(id), pbft::message::Message::Request(_)))
        };
        let several = self.world.config().max_batch > 1 && event != Input::TimeOut;
        is_request(silent) && (several || is_request(event))
    }

    /// Condition 2.
    fn redelivery(&mut self, end: LocalId, step: &Move, conditions: &mut Conditions) {
        let again: Vec<Input> = step.path.iter().copied().map(Input::Message).collect();
        let tables = &mut self.world.tables;
        let bare = tables.bare(self.node, end);
        let (back, sent) = run(tables, self.node, bare.normal, &again);
        // A request that has executed is answered again, with the same reply.
        let sent_before = sent.iter().all(|message| step.sends.contains(message));
        conditions.note(REDELIVERY, back == bare.alive && sent_before, || {
            self.failure("redelivery does not lead back", end, &again)
        });
    }

    /// Condition 3.
    fn deadness(&mut self, end: LocalId, events: &BTreeSet<Input>, conditions: &mut Conditions) {
        let alive = self.world.tables.bare(self.node, end).alive;
        if alive == end {
            return;
        }
        for &event in events {
            let tables = &mut self.world.tables;
            let with = run(tables, self.node, end, &[event]);
            let without = run(tables, self.node, alive, &[event]);
            conditions.note(DEADNESS, with == without, || {
                self.failure("what is taken for dead matters", end, &[event])
            });
        }
    }

    /// Condition 5.
    fn merging(&mut self, events: &BTreeSet<Input>, conditions: &mut Conditions) {
        for &event in events {
            let Input::Message(message) = event else { continue };
            let tables = &mut self.world.tables;
            let merged: Vec<MessageId> = tables.merged(message).to_vec();
            let expected = run(tables, self.node, self.local, &[event]);
            for other in merged {
                let other = Input::Message(other);
                let found = run(&mut self.world.tables, self.node, self.local, &[other]);
                conditions.note(MERGING, found == expected, || {
                    self.failure("NEW-VIEWs that say the same do not", self.local, &[event, other])
                });
            }
        }
    }

    /// Condition 4.
    fn joining(
        &mut self,
        replica: ReplicaId,
        view_changes: &BTreeMap<(ReplicaId, View), MessageId>,
        conditions: &mut Conditions,
    ) {
        let state = &self.world.tables.local(self.local).replica;
        let current = state.leaving().unwrap_or(state.view());
        let threshold = self.world.config().cluster.weak_quorum();
        let others: Vec<(ReplicaId, View)> = (view_changes.keys().copied())
            .filter(|&(sender, view)| sender != replica && view > current)
            .collect();
        for chosen in choices(&others, threshold) {
            let inputs: Vec<Input> = chosen.iter().map(|key| Input::Message(view_changes[key])).collect();
            let tables = &mut self.world.tables;
            let (joined, sent) = run(tables, self.node, self.local, &inputs);
            let state = &tables.local(joined).replica;
            let to = state.leaving().unwrap_or(state.view());
            let time_outs = usize::try_from(to.0 - current.0).expect("a world has few views");
            let instead = [vec![Input::TimeOut; time_outs], inputs.clone()].concat();
            let (reached, sent_instead) = run(tables, self.node, self.local, &instead);
            let holds = reached == joined && sent.is_subset(&sent_instead);
            conditions.note(JOINING, holds, || {
                self.failure("a join is not what time-outs do", self.local, &inputs)
            });
        }
    }

    /// Condition 6, for one message about each subject.
    fn heeding(&mut self, conditions: &mut Conditions) {
        let (tables, network) = (&self.world.tables, &self.world.network);
        let ignored: Vec<Subject> = (network.subjects().iter().copied())
            .filter(|&subject| !tables.heeds(self.node, self.local, subject))
            .collect();
        for subject in ignored {
            let Some(message) = self.world.network.example(subject) else { continue };
            let step = self.world.tables.step(self.node, self.local, Input::Message(message));
            let holds = step.to == self.local && step.sends.is_empty();
            conditions.note(HEEDING, holds, || {
                self.failure("a message that is not heeded matters", self.local, &[Input::Message(message)])
            });
        }
    }
}

/// Whether messages of this kind leave a trace of the order in which they arrive.
fn is_ordered(tables: &Tables, input: Input) -> bool {
    matches!(input, Input::Message(id)
        if matches!(tables.message(id), pbft::message::Message::Reply(_) | pbft::message::Message::Block(_)))
}

/// Every order of `count` of these VIEW-CHANGEs, each of another sender.
fn choices(from: &[(ReplicaId, View)], count: usize) -> Vec<Vec<(ReplicaId, View)>> {
    let mut lists: Vec<Vec<(ReplicaId, View)>> = vec![Vec::new()];
    for _ in 0..count {
        lists = (lists.iter())
            .flat_map(|list| {
                let fresh = from.iter().filter(|(sender, _)| list.iter().all(|(known, _)| known != sender));
                fresh.map(|&next| [&list[..], &[next]].concat()).collect::<Vec<_>>()
            })
            .collect();
    }
    lists
}
