//! placeholder
use super::Layered;
use crate::lazy::Conditions;
use crate::world::{AgentId, Move, World};
use foldhash::fast::FixedState;
use indexmap::IndexMap;

#[derive(Default)]
pub struct Duties {}

impl Duties {
    pub fn step(&mut self, _world: &World, _position: usize, _from: AgentId, _round: usize, _step: &Move) {}
    pub fn left_out(&mut self, _position: usize, _round: usize, _end: AgentId, _reached: &IndexMap<AgentId, Vec<AgentId>, FixedState>) {}
    pub fn cut(&mut self, _position: usize, _round: usize, _end: AgentId, _cut: AgentId) {}
}

pub fn check(_layered: &mut Layered) -> Conditions {
    Conditions::default()
}
