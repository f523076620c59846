//! The condition *carried*: what nodes send is part of the world.
//!
//! The network delivers by subjects, which are listed from the bounds before anything is sent, and the adversary
//! and the properties know the requests that clients may sign. A node that sent something else, a client whose
//! timestamps go on otherwise, say, would be heard by nobody, and nothing would be violated for that reason
//! alone. So each run checks that every message sent is about a subject of the world, and every request one of
//! those that are foreseen. REPLYs to a Byzantine client go to nobody.

use super::World;
use super::tables::MessageId;
use crate::lazy::Conditions;
use pbft::message::Message;
use pbft::replica::Subject;
use std::collections::BTreeSet;

/// Its name.
pub(crate) const CARRIED: &str = "carried";

impl World {
    /// Checks the condition for everything that any node has sent.
    pub(super) fn check_carried(&self) -> Conditions {
        let mut conditions = Conditions::default();
        let agents = self.agents.iter().flat_map(super::Agents::all);
        let sent: BTreeSet<MessageId> = agents.flat_map(|agent| agent.sent.iter().copied()).collect();
        let foreseen = self.config().all_signed();
        for id in sent {
            let message = self.tables.message(id);
            let holds = match message {
                Message::Reply(m) if m.content.client.0 >= self.config().requests => true,
                Message::Request(m) if !foreseen.contains(m) => false,
                _ => Subject::of(message).is_some_and(|of| self.network.subjects().contains(&of)),
            };
            conditions.note(CARRIED, holds, || format!("nobody can hear of {message:?}"));
        }
        conditions
    }
}
