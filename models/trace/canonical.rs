//! Of all shortest ways to a violation the first, whatever order a world lists its actions in.
//!
//! Two shortest ways are told apart by contents alone: at each step the one is taken that comes first by what
//! it is about (view, phase, number), then by the node, then by the messages. Within a macro step the
//! messages are tried in the order of their contents. So the way depends on the world and its rules only, not
//! on names that an exploration gives.

use super::{Step, single_steps};
use crate::crypto::Symbolic;
use crate::engine::{Judgement, Space};
use crate::lazy;
use crate::world::{AgentId, Delivery, Input, Move, Recent, State, World, one_by_one};
use foldhash::fast::FixedState;
use indexmap::IndexSet;
use pbft::message::Message;
use pbft::replica::Subject;
use pbft::types::Principal;
use std::collections::BTreeSet;

/// What a step is about: view, phase, number.
type Rank = (u64, u8, u64);

/// How steps are told apart.
type Key = (Rank, Principal, Vec<Message<Symbolic>>, Option<u8>);

/// The states of a world by their distance from the start, up to the first at which something is violated.
struct Levels {
    states: IndexSet<Vec<AgentId>, FixedState>,
    /// Where each level begins, and where the last one ends.
    begins: Vec<usize>,
    unsound: BTreeSet<usize>,
}

/// A way through a world.
pub struct Way {
    /// The state that it begins with, and the one after each (macro) step.
    pub states: Vec<Vec<AgentId>>,
    /// The steps, delivery by delivery.
    pub steps: Vec<Step>,
}

/// The first of all shortest ways to a violation, delivery by delivery; none if nothing is violated within
/// `most` (macro) steps.
pub fn shortest(world: &mut World, most: usize) -> Option<Vec<Step>> {
    way(world, most).map(|way| way.steps)
}

/// The same, with the states on the way.
pub fn way(world: &mut World, most: usize) -> Option<Way> {
    let levels = levels(world, most)?;
    let leading = leading(world, &levels);
    let (mut steps, mut states) = (Vec::new(), vec![levels.states[0].clone()]);
    let mut at = 0;
    for good in &leading[1..] {
        let state = levels.states[at].clone();
        let (key, to) = first_step(world, &state, &|next| {
            levels.states.get_index_of(next).filter(|index| good.contains(index))
        })?;
        let (_, node, path, crash) = key;
        steps.extend(single_steps(node, path, crash));
        states.push(levels.states[to].clone());
        at = to;
    }
    Some(Way { states, steps })
}

fn levels(world: &mut World, most: usize) -> Option<Levels> {
    let mut levels =
        Levels { states: world.initial().into_iter().collect(), begins: vec![0], unsound: BTreeSet::new() };
    for _ in 0..=most {
        let level = *levels.begins.last()?..levels.states.len();
        levels.begins.push(level.end);
        let mut next: Vec<Vec<AgentId>> = Vec::new();
        for index in level {
            let state = levels.states[index].clone();
            let (judgement, successors) = expand(world, &state);
            match judgement {
                Judgement::Unsound => drop(levels.unsound.insert(index)),
                Judgement::Sound => next.extend(successors),
            }
        }
        if !levels.unsound.is_empty() {
            return Some(levels);
        }
        levels.states.extend(next);
    }
    None
}

fn expand(world: &mut World, state: &State) -> (Judgement, Vec<Vec<AgentId>>) {
    let mut successors = Vec::new();
    loop {
        successors.clear();
        let mut list = |next: &[u32]| successors.push(next.to_vec());
        match world.expand(0, state, &mut Recent::small(), &mut list) {
            Ok(judgement) => return (judgement, successors),
            Err(_) => world.learn(0, state),
        }
    }
}

/// For each level the states from which a violation is as near as it can be.
fn leading(world: &mut World, levels: &Levels) -> Vec<BTreeSet<usize>> {
    let mut leading = vec![levels.unsound.clone()];
    for level in levels.begins.windows(2).rev().skip(1) {
        let good = leading.last().expect("the last level is there");
        let leads = |index: &usize| {
            let (_, successors) = expand(world, &levels.states[*index]);
            let mut known = successors.iter().filter_map(|next| levels.states.get_index_of(next));
            known.any(|next| good.contains(&next))
        };
        let found = (level[0]..level[1]).filter(leads).collect();
        leading.push(found);
    }
    leading.reverse();
    leading
}

/// The first step of a state that leads where it should.
fn first_step(
    world: &mut World,
    state: &State,
    good: &dyn Fn(&Vec<AgentId>) -> Option<usize>,
) -> Option<(Key, usize)> {
    let mut first: Option<(Key, usize)> = None;
    for position in 0..state.len() {
        let node = world.nodes()[position];
        let heeds = world.agents[position].facts(state[position]).heeds.clone();
        for number in heeds.iter().map(|&number| usize::from(number)) {
            let available = world.available(state, number);
            let subject = world.network.subjects().get(number).copied();
            for step in moves(world, position, state[position], number, available) {
                if !world.may_take(position, world.agents[position].agent(state[position]), &step) {
                    continue;
                }
                let mut next = state.to_vec();
                next[position] = world.after(position, state[position], &step);
                let Some(to) = good(&next) else { continue };
                let rank = match subject {
                    Some(subject) => rank(subject),
                    None => time_out(world, position, state[position]),
                };
                let path = step.path.iter().map(|&id| world.tables.message(id).clone()).collect();
                let key = (rank, node, path, step.crash);
                if first.as_ref().is_none_or(|(known, _)| key < *known) {
                    first = Some((key, to));
                }
            }
        }
    }
    first
}

/// What a node can do, worked out with the messages in the order of their contents.
fn moves(world: &mut World, position: usize, agent: AgentId, number: usize, available: u32) -> Vec<Move> {
    let local = world.agents[position].agent(agent).local;
    let mut inputs = world.inputs(position, number, available);
    inputs.sort_by_cached_key(|&input| match input {
        Input::Message(id) => Some(world.tables.message(id).clone()),
        _ => None,
    });
    let (node, subject) = (world.nodes()[position], world.network.subjects().get(number).copied());
    match world.delivery {
        Delivery::One => one_by_one(&mut world.tables, node, local, &inputs),
        Delivery::Lazy => {
            let inputs = world.with_requests(world.tables(), node, local, subject, inputs);
            lazy::moves(&mut world.tables, node, local, subject, &inputs)
        }
    }
}

fn rank(subject: Subject) -> Rank {
    match subject {
        Subject::Request(..) | Subject::Read(..) => (0, 0, 0),
        Subject::ViewChange(view) => (view.0, 1, 0),
        Subject::NewView(view) => (view.0, 2, 0),
        Subject::PrePrepare(view, n) => (view.0, 3, n.0),
        Subject::Batch => (0, 4, 0),
        Subject::Prepare(view, n) => (view.0, 5, n.0),
        Subject::Commit(view, n) => (view.0, 6, n.0),
        Subject::Checkpoint(n) => (0, 7, n.0),
        Subject::Stable(n) => (0, 8, n.0),
        Subject::Block => (0, 9, 0),
        Subject::Reply(..) => (0, 10, 0),
    }
}

/// A time-out belongs to the view that it leads to; a client's comes after everything else.
fn time_out(world: &World, position: usize, agent: AgentId) -> Rank {
    match world.nodes()[position] {
        Principal::Replica(_) => {
            let replica = &world.tables.local(world.agents[position].agent(agent).local).replica;
            (replica.leaving().unwrap_or(replica.view()).0 + 1, 0, 0)
        }
        Principal::Client(_) => (u64::MAX, 0, 0),
    }
}
