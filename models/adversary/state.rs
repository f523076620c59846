//! BLOCKs of states that nobody should fetch.

use super::{Adversary, Msg};
use crate::crypto::Symbolic;
use pbft::message::Message;
use pbft::replica::blocks::Tree;
use pbft::replica::{Effects, Replica};
use pbft::service::Service;
use pbft::types::ClientId;

impl Adversary {
    /// The blocks of the state before the first request, and of one in which something was executed that
    /// nobody asked for. A block carries no signature; which one is wanted is decided where it arrives.
    pub(super) fn blocks(&self) -> Vec<Msg> {
        let Ok(initial) = Replica::start(&self.judge, None, &mut Effects::new()) else { return Vec::new() };
        let mut service = self.judge.genesis.clone();
        service.execute(ClientId(0), b"forged");
        let (chunks, own) = (initial.durable().snapshot.tree.chunks(), self.judge.genesis.snapshot().len());
        let chunks = [&service.snapshot()[..], &chunks[own..]].concat();
        let false_state = Tree::build::<Symbolic>(&chunks, None);
        let mut offered = Vec::new();
        for block in initial.blocks().iter().chain(false_state.blocks()) {
            self.offer(&mut offered, true, Message::Block(block.clone()));
        }
        offered
    }
}
