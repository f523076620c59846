//! The simulation for a client that is part of the world, as [`theorem`](super::theorem) has it for replicas.
//!
//! A client is small enough for its unreduced local system to be walked whole, state by state: every REPLY of
//! `A` at any time, whatever it knows of other clients' calls, time-outs, calls and giving up anywhere. Two
//! states that differ in the exponent of the time-out alone are one: *services* compares them. For every step
//! from `x` to `y`, moves that the lazy exploration takes lead from `nf(x)` to `nf(y)` and send at least as
//! much, by what has been delivered on every path to `x`, by the step's event, and by what needs no delivery.

use super::conditions::{Conditions, Watch};
use super::must::Events;
use super::theorem::{SERVICES, SIMULATION};
use crate::world::{Input, LocalId, MessageId, Step, Tables, World};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::message::Message;
use pbft::replica::Subject;
use pbft::types::{ClientId, Principal};
use std::collections::BTreeSet;

/// A step of the local system, by the numbers of its states and of its event.
struct Taken {
    from: usize,
    to: usize,
    event: usize,
    step: Step,
}

/// From where, to where, by which messages, whether the client may give up, and sending what.
type Question = (LocalId, LocalId, Vec<MessageId>, bool, Vec<MessageId>);

/// The unreduced local system of one client.
struct Walk<'a> {
    world: &'a World,
    tables: Tables,
    client: ClientId,
    /// The messages that can reach it; after them the time-out, or a call, and giving up.
    events: Vec<Input>,
    states: IndexSet<LocalId, FixedState>,
    steps: Vec<Taken>,
}

/// Macro steps in a row that stand for one step; more are not looked for.
const MOST_MOVES: usize = 4;

/// Checks it for every client that is part of the world.
pub(super) fn check(
    world: &World,
    available: &[MessageId],
    conditions: &mut Conditions,
    watch: &mut Watch<'_>,
) {
    for &node in world.nodes() {
        let Principal::Client(client) = node else { continue };
        if !world.has_share_in(node) {
            continue;
        }
        if !conditions.goes_on(watch) {
            return;
        }
        let mut walk = Walk::new(world, client, available);
        walk.go(conditions, watch);
        let must = walk.must();
        walk.simulate(&must, conditions, watch);
    }
}

impl<'a> Walk<'a> {
    fn new(world: &'a World, client: ClientId, available: &[MessageId]) -> Self {
        let tables = world.tables.with_messages_only(world.config());
        let node = Principal::Client(client);
        let reaches =
            |&&id: &&MessageId| matches!(tables.message(id), Message::Reply(_)) && tables.reaches(id, node);
        let messages = available.iter().filter(reaches).copied().map(Input::Message);
        let events = messages.chain([Input::TimeOut, Input::Crash]).collect();
        Walk { world, tables, client, events, states: IndexSet::default(), steps: Vec::new() }
    }

    fn node(&self) -> Principal {
        Principal::Client(self.client)
    }

    fn alive(&mut self, id: LocalId) -> LocalId {
        self.tables.bare(Principal::Client(self.client), id).alive
    }

    fn go(&mut self, conditions: &mut Conditions, watch: &mut Watch<'_>) {
        let first = self.tables.start_client(self.client).to;
        let first = self.alive(first);
        self.states.insert(first);
        let mut from = 0;
        while let Some(&state) = self.states.get_index(from) {
            if !conditions.goes_on(watch) {
                return;
            }
            // A time-out moves the exponent, and of a write nothing else.
            let later = self.tables.step(self.node(), state, Input::TimeOut).to;
            let later = Some(later).filter(|&later| later != state && self.alive(later) == state);
            for event in 0..self.events.len() {
                let step = self.tables.step(self.node(), state, self.events[event]);
                let to = self.alive(step.to);
                if let Some(later) = later {
                    let other = self.tables.step(self.node(), later, self.events[event]);
                    let same = self.alive(other.to) == to && other.sends == step.sends;
                    conditions.note(SERVICES, same, || self.told(state, event));
                }
                if to == state && step.sends.is_empty() {
                    continue;
                }
                let (number, _) = self.states.insert_full(to);
                self.steps.push(Taken { from, to: number, event, step });
            }
            from += 1;
        }
        let walked = conditions.walked.get_or_insert_default();
        walked.cores += self.states.len() as u64;
        walked.steps_taken += (self.states.len() * self.events.len()) as u64;
        walked.steps_recorded += self.steps.len() as u64;
    }

    /// For each state the events that have happened on every path to it.
    fn must(&self) -> Vec<Events> {
        let mut must = vec![Events::all(self.events.len()); self.states.len()];
        must[0] = Events::none(self.events.len());
        let mut changed = true;
        while changed {
            changed = false;
            for Taken { from, to, event, .. } in &self.steps {
                let mut by = must[*from].clone();
                by.insert(*event);
                changed |= must[*to].meet(&by);
            }
        }
        must
    }

    fn simulate(&mut self, must: &[Events], conditions: &mut Conditions, watch: &mut Watch<'_>) {
        let mut answers: IndexMap<Question, bool, FixedState> = IndexMap::default();
        for number in 0..self.steps.len() {
            if !conditions.goes_on(watch) {
                return;
            }
            let Taken { from, event, ref step, .. } = self.steps[number];
            let (sends, end) = (step.sends.clone(), step.to);
            let before = self.states[from];
            let from_normal = self.tables.bare(self.node(), before).normal;
            let to_normal = self.tables.bare(self.node(), end).normal;
            let mut events = must[from].clone();
            events.insert(event);
            let delivered: Vec<MessageId> = (0..self.events.len())
                .filter(|&event| events.contains(event))
                .filter_map(|event| self.events[event].message())
                .collect();
            let may_give_up = self.events[event] == Input::Crash;
            let key = (from_normal, to_normal, delivered, may_give_up, sends.to_vec());
            let holds = match answers.get(&key) {
                Some(&known) => known,
                None => {
                    let found = self.leads(&key.2, (from_normal, to_normal), &sends, may_give_up);
                    answers.insert(key, found);
                    found
                }
            };
            conditions.note(SIMULATION, holds, || self.told(before, event));
        }
    }

    /// Whether moves by these messages, time-outs and calls lead there and send that.
    fn leads(
        &mut self,
        delivered: &[MessageId],
        (from, to): (LocalId, LocalId),
        sends: &[MessageId],
        may_give_up: bool,
    ) -> bool {
        let mut seen: IndexSet<(LocalId, BTreeSet<MessageId>, usize), FixedState> = IndexSet::default();
        seen.insert((from, BTreeSet::new(), 0));
        let mut next = 0;
        while let Some((at, sent, moves)) = seen.get_index(next).cloned() {
            next += 1;
            if at == to && sends.iter().all(|message| sent.contains(message)) {
                return true;
            }
            if moves == MOST_MOVES {
                continue;
            }
            for step in self.moves(at, delivered, may_give_up) {
                let wanted = step.1.iter().copied().filter(|message| sends.contains(message));
                seen.insert((step.0, &sent | &wanted.collect(), moves + 1));
            }
        }
        false
    }

    fn moves(
        &mut self,
        at: LocalId,
        delivered: &[MessageId],
        may_give_up: bool,
    ) -> Vec<(LocalId, Vec<MessageId>)> {
        let (world, node) = (self.world, self.node());
        let mut all = Vec::new();
        for number in world.heeded_by_client(&self.tables, node, at) {
            let subject = world.network.subjects().get(number).copied();
            let inputs: Vec<Input> = match subject {
                Some(_) => {
                    let about = |id: &&MessageId| Subject::of(self.tables.message(**id)) == subject;
                    delivered.iter().filter(about).copied().map(Input::Message).collect()
                }
                None if number == world.time_outs() => vec![Input::TimeOut],
                None if may_give_up => vec![Input::Crash],
                None => continue,
            };
            let moves = super::moves(&mut self.tables, node, at, subject, &inputs);
            all.extend(moves.into_iter().map(|step| (step.to, step.sends.to_vec())));
        }
        all
    }

    fn told(&self, state: LocalId, event: usize) -> String {
        let event = self.tables.tell(self.events[event]);
        format!("c{}: {:?}\n  event: {event}", self.client.0, self.tables.local_client(state))
    }
}
