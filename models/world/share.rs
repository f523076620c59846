//! What one process of several checks, and what it has noted for the others.
//!
//! Conditions are divided by nodes: whatever is checked of a node is checked by the process that its position
//! falls to, and what is checked of none by the first. Nothing that is counted for one node depends on what
//! has been checked of another, so the sums are what one process counts. What is noted while states are
//! judged is told in names, which are the same in all processes.

use super::behaviours::Behaving;
use super::joints::JointAgents;
use super::{Delivery, World, judged};
use crate::lazy::{self, Conditions};
use pbft::types::Principal;
use serde::{Deserialize, Serialize};

/// Which of so many processes this is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    /// Its number.
    pub process: usize,
    /// How many there are.
    pub processes: usize,
}

impl Default for Share {
    /// All of it.
    fn default() -> Self {
        Share { process: 0, processes: 1 }
    }
}

impl Share {
    /// Whether the node at this position falls to this process.
    pub(crate) fn has(self, position: usize) -> bool {
        position % self.processes == self.process
    }

    /// Whether what is about no node falls to this process.
    pub(crate) fn is_first(self) -> bool {
        self.process == 0
    }
}

/// What has been noted while states were judged.
#[derive(Deserialize, Serialize)]
struct Noted {
    judged: judged::Noted,
    joints: Vec<(JointAgents, usize)>,
    behaviours: Vec<Behaving>,
}

impl World {
    /// From now on only this share of the conditions is checked.
    pub fn set_share(&mut self, share: Share) {
        self.share = share;
    }

    pub(crate) fn share(&self) -> Share {
        self.share
    }

    /// Whether a node falls to this process.
    pub(crate) fn has_share_in(&self, node: impl Into<Principal>) -> bool {
        let node = node.into();
        match self.nodes.iter().position(|&known| known == node) {
            Some(position) => self.share.has(position),
            None => self.share.is_first(),
        }
    }

    pub(super) fn everything_noted(&self) -> Vec<u8> {
        let locked = "nobody panics while recording";
        let noted = Noted {
            judged: self.judge.noted(),
            joints: self
                .joints
                .iter()
                .flat_map(|joints| {
                    let joints = joints.lock().expect(locked);
                    joints.iter().map(|(joint, depth)| (*joint, *depth)).collect::<Vec<_>>()
                })
                .collect(),
            behaviours: self
                .behaviours
                .iter()
                .flat_map(|met| met.lock().expect(locked).iter().copied().collect::<Vec<_>>())
                .collect(),
        };
        postcard::to_stdvec(&noted).expect("it is plain data")
    }

    pub(super) fn add_noted(&mut self, noted: &[u8]) {
        let noted: Noted = postcard::from_bytes(noted).expect("the same program has written it");
        self.judge.add_noted(&noted.judged);
        if let Some(joints) = &mut self.joints {
            let joints = joints.get_mut().expect("nobody panics while recording");
            for (joint, depth) in noted.joints {
                let known = joints.entry(joint).or_insert(depth);
                *known = depth.min(*known);
            }
        }
        if let Some(met) = &mut self.behaviours {
            met.get_mut().expect("nobody panics while recording").extend(noted.behaviours);
        }
    }

    /// Whether these conditions are about all steps by the contract, and not only by those explored: so it is
    /// for all processes, whoever has judged some.
    pub(super) fn has_judged_steps(&self, conditions: &Conditions) -> bool {
        match self.share.processes {
            1 => conditions.counts.contains_key(lazy::CONTRACT),
            _ => self.delivery == Delivery::Lazy && lazy::theorem::is_walked(self.config()),
        }
    }

    /// How many of the restarts so far another process tells of: all have taken those of the exploration.
    pub(super) fn restarts_told_elsewhere(&mut self) -> u64 {
        if self.share.is_first() {
            return 0;
        }
        self.tables.take_refusal();
        self.tables.restarts()
    }

    /// Adds what is checked of no node, if this is the process for that.
    pub(crate) fn add_if_first(&self, conditions: &mut Conditions, check: impl FnOnce() -> Conditions) {
        if self.share.is_first() {
            conditions.add(&check());
        }
    }
}
