//! What layered exploration relies on, checked on the real code for everything that a run has met.
//!
//! The events of a replica are the macro steps that it has taken anywhere in the run, each by the messages it
//! was taken on, and time-outs.
//!
//! 1. *Rounds.* What a macro step of a round sends arrives in a later round.
//! 2. *Order.* After a macro step of a round, an event of an earlier round does nothing, or the two lead to
//!    the same state, messages and facts in either order. This is tried on the states visited for the rounds
//!    of their view, and on whole states at the end of a view for every later round. An earlier round none of
//!    whose events the replica heeds counts as one check.
//! 3. *Derivation.* A VIEW-CHANGE holds certificates of earlier views only, so what the adversary can prove
//!    when the PREPAREs of a view have been sent is all that it needs for the next. And receivers let through
//!    no more than the paper says, or what it makes could rest on anything.
//! 4. *Cut.* A state and what is kept of it go, by every event of a later round, to states of which the same
//!    is kept, with the same messages and facts; a replica that is no primary any more then fetches the
//!    batches it lacks, which it can do at any time.
//! 5. *Standing in.* Where a choice was left out because another stands in for it: whatever the one does by
//!    events of later rounds, the other does by the same deliveries, or by none of them, and then has sent
//!    and reported at least as much, or something that violates a property by itself; and so on from there,
//!    to the last round.

use super::forms::{Decided, Forms};
use super::rounds::{Phase, Round, round_of};
use super::{Layered, held};
use crate::lazy::{self, Conditions, Watch};
use crate::world::{Agent, AgentId, Input, Inquiry, Local, LocalId, MessageId, Move, Sent, Tables, World};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::message::Message;
use pbft::replica::Subject;
use std::collections::BTreeSet;
use std::time::Instant;

/// The most local states kept for the next pairs while pairs are followed: half a GiB or so.
const MOST_KEPT: usize = 50_000;

const ROUNDS: &str = "rounds";
const ORDER: &str = "order of rounds";
const DERIVATION: &str = "derivation";
const CUT: &str = "cut";
const STANDING_IN: &str = "standing in";

/// What a run owes a check.
#[derive(Default)]
pub struct Duties {
    pub(super) steps: IndexSet<(usize, LocalId, usize, Vec<MessageId>), FixedState>,
    pub(super) cuts: IndexSet<(usize, usize, LocalId, LocalId), FixedState>,
    /// Position, round, and what a replica can be at its end.
    ends: IndexSet<(usize, usize, AgentId), FixedState>,
    left_out: IndexSet<(usize, usize, AgentId, Vec<AgentId>), FixedState>,
    emitted: Conditions,
}

impl Duties {
    /// A macro step was taken in a round.
    pub fn step(
        &mut self,
        world: &World,
        position: usize,
        from: AgentId,
        round: usize,
        now: Round,
        step: &Move,
    ) {
        let local = world.agents[position].agent(from).local;
        if !self.steps.insert((position, local, round, step.path.clone())) {
            return;
        }
        let later = |&message: &MessageId| {
            let subject = Subject::of(world.tables.message(message));
            subject.and_then(round_of).is_none_or(|arrives| arrives > now)
        };
        self.emitted.note(ROUNDS, step.sends.iter().all(later), || {
            format!(
                "{} in {now:?} sends what arrives no later",
                world.happens(world.correct[position], &step.path, None)
            )
        });
    }

    /// A choice was cut down.
    pub fn cut(&mut self, world: &World, position: usize, round: usize, end: AgentId, cut: AgentId) {
        let local = |id| world.agents[position].agent(id).local;
        self.cuts.insert((position, round, local(end), local(cut)));
        self.ends.insert((position, round, end));
    }

    /// A choice was left out for one of those that it leads on to.
    pub fn left_out(
        &mut self,
        position: usize,
        round: usize,
        choice: AgentId,
        reached: &IndexMap<AgentId, Vec<AgentId>, FixedState>,
    ) {
        let (mut ends, mut open) = (Vec::new(), vec![choice]);
        let mut seen: BTreeSet<AgentId> = [choice].into();
        while let Some(at) = open.pop() {
            let onward = &reached[&at];
            if onward.is_empty() {
                ends.push(at);
            }
            open.extend(onward.iter().copied().filter(|&next| seen.insert(next)));
        }
        ends.sort_unstable();
        self.left_out.insert((position, round, choice, ends));
    }
}

/// Checks every condition, and those of lazy delivery, or until `watch` says why to stop.
pub fn check(layered: &mut Layered, watch: &mut Watch<'_>) -> Conditions {
    let began = Instant::now();
    let mut conditions = lazy::check_but_resending(&mut layered.world, watch);
    resending(layered, &mut conditions, watch);
    layered.world.add_if_first(&mut conditions, || layered.duties.emitted.clone());
    held::check(layered, &mut conditions, watch);
    let mut case = Case::new(layered);
    case.order(&mut conditions, watch);
    case.derivation(&mut conditions);
    case.cuts(&mut conditions, watch);
    case.standing_in(&mut conditions, watch);
    conditions.elapsed = began.elapsed();
    conditions
}

/// *Resending* at the ends of rounds, before anything is cut, and of what was kept till then.
fn resending(layered: &Layered, conditions: &mut Conditions, watch: &mut Watch<'_>) {
    let Layered { world, forms, rounds, duties, .. } = layered;
    let mut inquiry = Inquiry::new(world);
    for &(position, round, end) in duties.ends.iter().filter(|end| world.share().has(end.0)) {
        if !conditions.goes_on(watch) {
            return;
        }
        let before = round.checked_sub(1).map(|before| rounds[before]);
        // A VIEW-CHANGE that is over may have been kept in another form, too.
        let is_over = |message: &Message<_>| {
            let own = matches!(message, Message::ViewChange(m) if m.content.view <= rounds[round].view);
            own || before.is_some_and(|before| {
                world.tables.named(message).is_some_and(|id| !forms.is_live(world, id, before))
            })
        };
        let Agent { local, sent, .. } = world.agents[position].agent(end);
        inquiry.check(world, position, *local, &Sent::of(&world.tables, sent), &is_over, conditions);
    }
}

/// Where some deliveries lead: the normal form, and what was sent.
type Outcome = (LocalId, BTreeSet<MessageId>);

/// A macro step: what its messages are about, none for a time-out, and the messages.
type Event = (Option<Subject>, Vec<MessageId>);

/// A pair of which one stands in for the other from a round on.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Pair {
    better: LocalId,
    worse: LocalId,
    /// What the better one has sent beyond the other, as far as it matters.
    beyond: BTreeSet<MessageId>,
    /// The round that is not over yet.
    round: usize,
}

struct Case<'a> {
    layered: &'a mut Layered,
    /// The messages of the macro steps taken at each position in each round, by subject.
    events: Vec<Vec<IndexSet<Event, FixedState>>>,
}

impl<'a> Case<'a> {
    fn new(layered: &'a mut Layered) -> Self {
        let empty = || vec![IndexSet::default(); layered.rounds.len()];
        let mut events: Vec<_> = layered.world.correct.iter().map(|_| empty()).collect();
        for (position, _, round, path) in &layered.duties.steps {
            let subject = path.first().and_then(|&first| Subject::of(layered.world.tables.message(first)));
            events[*position][*round].insert((subject, path.clone()));
        }
        Case { layered, events }
    }

    fn world(&mut self) -> &mut World {
        &mut self.layered.world
    }

    /// Those that are about a replica whose conditions this process checks.
    fn own<T: Clone>(&self, all: &IndexSet<T, FixedState>, position: impl Fn(&T) -> usize) -> Vec<T> {
        let share = self.layered.world.share();
        all.iter().filter(|one| share.has(position(one))).cloned().collect()
    }

    fn deliver(&mut self, position: usize, from: LocalId, path: &[MessageId]) -> Outcome {
        let replica = self.layered.world.correct[position];
        let tables: &mut Tables = &mut self.layered.world.tables;
        let (mut at, mut sent) = (from, BTreeSet::new());
        let inputs: Vec<Input> = match path {
            [] => vec![Input::TimeOut],
            _ => path.iter().copied().map(Input::Message).collect(),
        };
        for input in inputs {
            let step = tables.step(replica, at, input);
            sent.extend(step.sends.iter().copied());
            at = step.to;
        }
        (tables.bare(replica, at).normal, sent)
    }

    /// Whether an event of a round can do anything in a local state.
    fn heeds(&self, position: usize, local: LocalId, round: usize, subject: Option<Subject>) -> bool {
        let world = &self.layered.world;
        let setup = world.tables.setup(world.correct[position]);
        let replica = &world.tables.local(local).replica;
        match subject {
            Some(Subject::ViewChange(view)) => replica.assembles_new_view(setup, view),
            Some(Subject::Batch) => {
                self.layered.rounds[round].view == replica.view() && replica.heeds(setup, Subject::Batch)
            }
            Some(subject @ Subject::Request(..)) => {
                self.layered.rounds[round].view == replica.view() && replica.heeds(setup, subject)
            }
            Some(subject) => replica.heeds(setup, subject),
            None => {
                let view = replica.leaving().unwrap_or(replica.view()).next();
                self.layered.rounds[round] == Round { view, phase: Phase::Leave }
            }
        }
    }

    /// The events of a round that can do something in a local state.
    fn events_in(&self, position: usize, local: LocalId, round: usize) -> Vec<Vec<MessageId>> {
        let events = self.events[position][round].iter();
        let heeded = events.filter(|(subject, _)| self.heeds(position, local, round, *subject));
        heeded.map(|(_, path)| path.clone()).collect()
    }

    /// Condition 2: inside of a view; and, before a view that is over is cut off, for whatever can come after
    /// it.
    fn order(&mut self, conditions: &mut Conditions, watch: &mut Watch<'_>) {
        for (position, from, round, path) in self.own(&self.layered.duties.steps, |step| step.0) {
            if !conditions.goes_on(watch) {
                return;
            }
            self.comes_after(position, from, round, &path, conditions);
        }
        for (position, round, end) in self.own(&self.ends_of_views(), |end| end.0) {
            if !conditions.goes_on(watch) {
                return;
            }
            for later in round + 1..self.layered.rounds.len() {
                for event in self.events_in(position, end, later) {
                    self.comes_after(position, end, later, &event, conditions);
                }
            }
        }
    }

    /// Every whole state at the end of a view, those of choices left out too.
    fn ends_of_views(&self) -> IndexSet<(usize, usize, LocalId), FixedState> {
        let Duties { cuts, left_out, .. } = &self.layered.duties;
        let kept = cuts.iter().map(|&(position, round, end, _)| (position, round, end));
        let local = |position: usize, id| self.layered.world.agents[position].agent(id).local;
        let dropped = left_out.iter().map(|&(position, round, id, _)| (position, round, local(position, id)));
        let is_end =
            |&(_, round, _): &(usize, usize, LocalId)| self.layered.rounds[round].phase == Phase::Commit;
        kept.chain(dropped).filter(is_end).collect()
    }

    /// Whether no event of an earlier round makes a difference after this one.
    fn comes_after(
        &mut self,
        position: usize,
        from: LocalId,
        round: usize,
        path: &[MessageId],
        conditions: &mut Conditions,
    ) {
        let mark = self.layered.world.tables.mark();
        let (after, sent) = self.deliver(position, from, path);
        for earlier in 0..round {
            let events = self.events_in(position, after, earlier);
            if events.is_empty() {
                conditions.note(ORDER, true, String::new);
            }
            for event in events {
                let (there, more) = self.deliver(position, after, &event);
                let (before, first) = self.deliver(position, from, &event);
                let (again, second) = self.deliver(position, before, path);
                let nothing = there == after && more.is_empty();
                let same = there == again && &sent | &more == &first | &second;
                conditions.note(ORDER, nothing || same, || {
                    self.failure(
                        "an earlier round goes on after a later one",
                        position,
                        from,
                        &[path, &event],
                    )
                });
            }
        }
        self.layered.world.tables.forget_since(mark);
    }

    /// Condition 3.
    fn derivation(&mut self, conditions: &mut Conditions) {
        let World { tables, network, .. } = &self.layered.world;
        let lenient = network.adversary().finds_receivers_lenient();
        if self.layered.world.share().is_first() {
            conditions.note(DERIVATION, !lenient, || "receivers let through more than the paper".into());
        }
        for id in tables.all_messages() {
            // Those that a check has met first are of the replica that was checked.
            if let Message::ViewChange(m) = tables.message(id)
                && self.layered.world.has_share_in(m.content.replica)
            {
                let below = m.content.prepared.iter().all(|certificate| certificate.view < m.content.view);
                conditions.note(DERIVATION, below, || format!("a certificate of a later view: {m:?}"));
            }
        }
    }

    /// Condition 4.
    fn cuts(&mut self, conditions: &mut Conditions, watch: &mut Watch<'_>) {
        for (position, round, end, cut) in self.own(&self.layered.duties.cuts, |cut| cut.0) {
            if !conditions.goes_on(watch) {
                return;
            }
            let mark = self.layered.world.tables.mark();
            let tables = &mut self.layered.world.tables;
            if tables.local(end).replica == tables.local(cut).replica {
                continue;
            }
            let (replica, history) = (tables.local(end).replica.clone(), tables.local(cut).history.clone());
            let end = tables.add_local(Local { replica, history, stored: None, ledger: None });
            for later in round + 1..self.layered.rounds.len() {
                let events: BTreeSet<_> = (self.events_in(position, end, later).into_iter())
                    .chain(self.events_in(position, cut, later))
                    .collect();
                if events.is_empty() {
                    conditions.note(CUT, true, String::new);
                }
                for event in events {
                    let of_whole = self.kept(position, end, later, &event);
                    let of_cut = self.kept(position, cut, later, &event);
                    conditions.note(CUT, of_whole == of_cut, || {
                        self.failure("what was cut off matters", position, end, &[&event])
                    });
                }
            }
            self.layered.world.tables.forget_since(mark);
        }
    }

    /// What is kept of a local state after an event.
    fn kept(
        &mut self,
        position: usize,
        from: LocalId,
        round: usize,
        event: &[MessageId],
    ) -> (LocalId, Decided, Vec<MessageId>) {
        let (mut to, mut sent) = self.deliver(position, from, event);
        let (forms, now) = (self.layered.forms, self.layered.rounds[round]);
        if !forms.proposes_again(&self.layered.world, position, now) {
            for batch in self.batches_fetched(position, to, round) {
                let (with, more) = self.deliver(position, to, &batch);
                to = with;
                sent.extend(more);
            }
        }
        let sent = forms.live(&self.layered.world, &sent.into_iter().collect::<Vec<_>>(), now);
        let (kept, decided) = forms.cut_local(self.world(), position, to, now);
        (kept, decided, sent)
    }

    /// The batches that a local state lacks and that have been fetched in this round.
    fn batches_fetched(&self, position: usize, local: LocalId, round: usize) -> Vec<Vec<MessageId>> {
        let events = self.events[position][round].iter();
        let batches = events.filter(|(subject, _)| *subject == Some(Subject::Batch));
        let heeded = batches.filter(|(subject, _)| self.heeds(position, local, round, *subject));
        heeded.map(|(_, path)| path.clone()).collect()
    }

    /// Condition 5.
    fn standing_in(&mut self, conditions: &mut Conditions, watch: &mut Watch<'_>) {
        let mut proven: IndexSet<(usize, Pair), FixedState> = IndexSet::default();
        let mark = self.layered.world.tables.mark();
        for (position, round, worse, ends) in self.own(&self.layered.duties.left_out, |choice| choice.0) {
            if !conditions.goes_on(watch) {
                return;
            }
            if self.layered.world.tables.grown_since(mark) > MOST_KEPT {
                // What has been proven names local states that are forgotten now.
                proven.clear();
                self.layered.world.tables.forget_since(mark);
            }
            let agent = |id| self.layered.world.agents[position].agent(id).clone();
            let (worse, ends): (Agent, Vec<Agent>) = (agent(worse), ends.into_iter().map(agent).collect());
            let holds = ends.iter().any(|better| {
                let missing = worse.sent.iter().any(|message| !better.sent.contains(message));
                let beyond = better.sent.iter().filter(|message| !worse.sent.contains(message));
                let start = Pair {
                    better: better.local,
                    worse: worse.local,
                    beyond: beyond.copied().collect(),
                    round,
                };
                !missing
                    && self.is_included(position, better.local, worse.local)
                    && self
                        .over(position, start)
                        .is_none_or(|pair| self.stands_in(position, pair, &mut proven))
            });
            conditions.note(STANDING_IN, holds, || {
                self.failure("nothing stands in for a choice left out", position, worse.local, &[])
            });
        }
    }

    /// Whether the one has reported at least what the other has; or something that by itself violates a
    /// property, so that the exploration, which goes on with it, notices.
    fn is_included(&self, position: usize, better: LocalId, worse: LocalId) -> bool {
        let World { tables, judge, .. } = &self.layered.world;
        let better = &tables.local(better).history;
        better.includes(&tables.local(worse).history) || judge.is_unsound_alone(position, better)
    }

    /// The pair when its round is over; nothing if nothing remains to be shown.
    fn over(&mut self, position: usize, mut pair: Pair) -> Option<Pair> {
        let forms = Forms { whole_histories: true, ..self.layered.forms };
        let round = *self.layered.rounds.get(pair.round)?;
        pair.better = forms.cut_local(self.world(), position, pair.better, round).0;
        pair.worse = forms.cut_local(self.world(), position, pair.worse, round).0;
        let beyond: Vec<MessageId> = pair.beyond.into_iter().collect();
        pair.beyond = forms.live(&self.layered.world, &beyond, round).into_iter().collect();
        pair.round += 1;
        let tables = &self.layered.world.tables;
        let same = tables.local(pair.better).replica == tables.local(pair.worse).replica;
        (!same && pair.round < self.layered.rounds.len()).then_some(pair)
    }

    /// Whether the better one keeps standing in for the worse, whatever that does.
    fn stands_in(
        &mut self,
        position: usize,
        start: Pair,
        proven: &mut IndexSet<(usize, Pair), FixedState>,
    ) -> bool {
        let mut open: IndexSet<(usize, Pair), FixedState> = IndexSet::from_iter([(position, start)]);
        let mut next = 0;
        while let Some((_, pair)) = open.get_index(next).cloned() {
            next += 1;
            if proven.contains(&(position, pair.clone())) {
                continue;
            }
            for event in self.events_in(position, pair.worse, pair.round) {
                match self.follow(position, &pair, &event) {
                    Some(Some(after)) => drop(open.insert((position, after))),
                    Some(None) => {}
                    None => return false,
                }
            }
            // Or nothing more happens in this round.
            if let Some(after) = self.over(position, pair) {
                open.insert((position, after));
            }
        }
        proven.extend(open);
        true
    }

    /// The pair after an event at the worse one: nothing if the better one cannot follow.
    fn follow(&mut self, position: usize, pair: &Pair, event: &[MessageId]) -> Option<Option<Pair>> {
        let (worse, sent) = self.deliver(position, pair.worse, event);
        if worse == pair.worse && sent.is_empty() {
            return Some(None);
        }
        let (with, with_sent) = self.deliver(position, pair.better, event);
        for (better, better_sent) in [(with, with_sent), (pair.better, BTreeSet::new())] {
            let all: BTreeSet<MessageId> = &pair.beyond | &better_sent;
            if sent.is_subset(&all) && self.is_included(position, better, worse) {
                let beyond = &all - &sent;
                let tables = &self.layered.world.tables;
                let same = tables.local(better).replica == tables.local(worse).replica;
                return Some((!same).then_some(Pair { better, worse, beyond, round: pair.round }));
            }
        }
        None
    }

    fn failure(&self, what: &str, position: usize, at: LocalId, paths: &[&[MessageId]]) -> String {
        let world = &self.layered.world;
        let replica = world.correct[position];
        let paths: Vec<String> = paths.iter().map(|path| world.happens(replica, path, None)).collect();
        format!(
            "r{}: {what}\n  state: {:?}\n  events: {}",
            replica.0,
            world.tables.local(at).replica,
            paths.join("\n          ")
        )
    }
}
