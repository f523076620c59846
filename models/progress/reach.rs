//! The second statement, on the graph of the states itself: a good end can be reached from each of them with
//! no help from the Byzantine replicas.
//!
//! In a good end f + 1 correct replicas have executed every sequence number of the world, so that clients
//! accept results. From every state of the exhausted world those steps are taken that need nothing but what
//! correct replicas have sent or send when they are asked, and the clients' requests; they lead to states of the world again, and it is an
//! error if one does not. A search backward from the good ends along them then shows which states are left.
//! Whatever the Byzantine replicas have done so far, they cannot have spoilt the way from a state that is
//! reached; that correct replicas take it is what the runs of [`super::run`] are about.
//!
//! Within the bounds of a world the primary of the highest view must be correct, or nothing need execute in
//! it.

use crate::problem::Problem;
use crate::world::{Asked, JointAgents, Joints, World};
use serde::Serialize;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Reach {
    /// States that are good ends.
    pub good: usize,
    /// States from which none can be reached.
    pub cut_off: usize,
    /// The most steps that are needed, of lazy delivery.
    pub most_steps: usize,
    /// One of those that are cut off.
    #[serde(skip)]
    pub example: Option<JointAgents>,
}

/// Whether the primary of the highest view is correct.
pub(super) fn applies(world: &World) -> bool {
    let config = world.config();
    world.correct().contains(&config.cluster.primary(config.max_view))
}

/// Looks for a way from each of these states, which are all of the world.
pub(super) fn reach(world: &mut World, joints: &Joints, go_on: &dyn Fn() -> bool) -> Result<Reach, Problem> {
    let (mut edges, mut asked) = (Vec::<(u32, u32)>::new(), Asked::new(world));
    for (from, joint) in joints.keys().enumerate() {
        if from.is_multiple_of(1024) && !go_on() {
            return Err("it was interrupted".into());
        }
        for next in world.unhelped(joint, &mut asked) {
            let to = joints.get_index_of(&next);
            let to = to.ok_or("a step without the Byzantine replicas leads out of what was exhausted")?;
            edges.push((name(to), name(from)));
        }
    }
    edges.sort_unstable();
    let mut steps: Vec<Option<usize>> = vec![None; joints.len()];
    let mut level: Vec<u32> =
        (0..name(joints.len())).filter(|&at| is_good(world, nth(joints, at as usize))).collect();
    let good = level.len();
    let mut distance = 0;
    level.iter().for_each(|&at| steps[at as usize] = Some(0));
    while !level.is_empty() {
        distance += 1;
        let mut before = Vec::new();
        for &to in &level {
            let first = edges.partition_point(|&(other, _)| other < to);
            for &(_, from) in edges[first..].iter().take_while(|&&(other, _)| other == to) {
                if steps[from as usize].is_none() {
                    steps[from as usize] = Some(distance);
                    before.push(from);
                }
            }
        }
        level = before;
    }
    let example = steps.iter().position(Option::is_none).map(|at| *nth(joints, at));
    Ok(Reach {
        good,
        cut_off: steps.iter().filter(|steps| steps.is_none()).count(),
        most_steps: steps.iter().flatten().copied().max().unwrap_or(0),
        example,
    })
}

fn nth(joints: &Joints, at: usize) -> &JointAgents {
    joints.get_index(at).expect("it is one of them").0
}

fn is_good(world: &World, joint: &JointAgents) -> bool {
    let locals = world.locals(joint);
    let executed = |&&local: &&_| {
        world.tables().local(local).replica.durable().last_executed() >= world.config().max_seq
    };
    locals.iter().take(world.correct().len()).filter(executed).count() > world.config().cluster.f()
}

fn name(of: usize) -> u32 {
    u32::try_from(of).expect("a world of more than 2^32 states does not fit in memory")
}
