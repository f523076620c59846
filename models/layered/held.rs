//! The contract, along what the replicas have done in each round.

use super::Layered;
use crate::lazy::{Conditions, Watch};
use crate::world::{Input, Paths};

/// Judges them.
pub(super) fn check(layered: &mut Layered, conditions: &mut Conditions, watch: &mut Watch<'_>) {
    for position in 0..layered.world.correct.len() {
        if !layered.world.share().has(position) {
            continue;
        }
        let (world, duties) = (&mut layered.world, &layered.duties);
        let replica = world.correct[position];
        let mut paths = Paths::default();
        for (_, from, round, path) in duties.steps.iter().filter(|(of, ..)| *of == position) {
            let inputs: Vec<Input> = match path.is_empty() {
                true => vec![Input::TimeOut],
                false => path.iter().copied().map(Input::Message).collect(),
            };
            let end = inputs.iter().fold(*from, |at, &input| world.tables.step(replica, at, input).to);
            let to = world.tables.bare(replica, end).normal;
            paths.add((*round, *from), inputs, (*round, to));
        }
        for &(_, round, from, to) in duties.cuts.iter().filter(|(of, ..)| *of == position) {
            paths.add((round, from), Vec::new(), (round + 1, to));
        }
        world.hold_steps(position, &paths, conditions, watch);
    }
}
