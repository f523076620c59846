//! What the correct replicas, and the clients that are part of the world, have done in the states visited,
//! and what that violates.

use super::judge::{ClientHistory, Joint};
use super::witnesses::Witnesses;
use super::{State, World};
use pbft_properties::{Call, History, Violation};
use std::collections::BTreeSet;

impl World {
    /// How many combinations of histories violate something.
    pub fn violations(&self) -> usize {
        self.judge.violations()
    }

    /// Every property that is violated somewhere.
    pub fn all_violated(&self) -> BTreeSet<&'static str> {
        self.judge.all_violated()
    }

    /// What is violated in a state, if anything is.
    pub fn violation(&self, state: &State) -> Option<Violation> {
        self.judge.verdict(&self.joint(state)).err()
    }

    /// What has been seen to happen.
    pub fn witnesses(&self) -> Witnesses {
        self.judge.witnesses()
    }

    /// What each correct replica has done by this state, in the order of their numbers.
    pub fn histories(&self, state: &State) -> Vec<&History> {
        self.joint(state)[..self.correct.len()].iter().map(|&name| self.judge.history(name)).collect()
    }

    /// What each client that is part of the world has done by this state, in the order of their numbers.
    pub fn clients(&self, state: &State) -> Vec<&ClientHistory> {
        let names = &self.joint(state)[self.correct.len()..state.len()];
        names.iter().map(|&name| self.judge.client(name)).collect()
    }

    /// What the correct replicas, and the clients that are part of the world, have done together: every
    /// combination that occurs.
    pub fn all_histories(&self) -> impl Iterator<Item = (Vec<&History>, Vec<&ClientHistory>)> {
        self.judge.joints().map(|joint| self.joint_histories(joint))
    }

    /// The same, with the calls of the clients in each and whether it is sound.
    pub fn all_verdicts(&self) -> impl Iterator<Item = (Vec<&History>, Vec<Call>, bool)> {
        self.judge.joints().map(|joint| {
            let (replicas, clients) = self.joint_histories(joint);
            (replicas, self.judge.calls(&clients), self.judge.verdict(&joint).is_ok())
        })
    }

    /// What this combination of histories stands for.
    pub(crate) fn joint_histories(&self, joint: Joint) -> (Vec<&History>, Vec<&ClientHistory>) {
        let (replicas, clients) = joint[..self.nodes.len()].split_at(self.correct.len());
        let replicas = replicas.iter().map(|&name| self.judge.history(name));
        (replicas.collect(), clients.iter().map(|&name| self.judge.client(name)).collect())
    }
}
