//! What a message promises, and whether stable storage knows of it when the message leaves.

use super::{C, Msg, Net};
use pbft::message::Message;
use pbft::replica::{Durable, Effect, Subject};
use pbft::types::{ClientId, Timestamp};
use pbft_models::mutants::Rulebook;

/// The names of the messages that leave before what they promise is recorded. The records of `effects` are
/// applied to `disk` on the way.
pub fn unkept_promises(effects: &[Effect<C>], disk: &mut Durable<C>) -> Vec<&'static str> {
    let mut unkept = Vec::new();
    for effect in effects {
        match effect {
            Effect::Persist(record) => disk.apply(record, &Rulebook::under_test()),
            Effect::Send(_, message) if !is_kept(message, disk) => unkept.push(message.name()),
            _ => {}
        }
    }
    unkept
}

fn is_kept(message: &Message<C>, disk: &Durable<C>) -> bool {
    let accepted = |view, n, digest| {
        disk.view == view && disk.log.get(&(view, n)).is_some_and(|m| m.content.digest == digest)
    };
    match message {
        Message::PrePrepare(m, batch) => {
            let m = &m.content;
            accepted(m.view, m.n, m.digest) && disk.batches.contains_key(&batch.digest())
        }
        Message::Prepare(m) => accepted(m.content.view, m.content.n, m.content.digest),
        Message::Commit(m) => {
            let m = &m.content;
            disk.prepared.get(&m.n).is_some_and(|c| (c.view, c.digest) == (m.view, m.digest))
        }
        Message::Checkpoint(m) => disk.last_executed() >= m.content.n,
        Message::ViewChange(m) => disk.view_change.as_ref() == Some(m),
        Message::NewView(m) => disk.new_view.as_ref() == Some(m),
        Message::Reply(m) => has_executed(disk, m.content.client, m.content.timestamp),
        _ => true,
    }
}

/// Whether a batch with this request is recorded as executed, or the snapshot holds the outcome.
fn has_executed(disk: &Durable<C>, client: ClientId, timestamp: Timestamp) -> bool {
    let recorded = disk.executed.values().filter_map(|digest| disk.batches.get(digest)).any(|batch| {
        batch.requests.iter().any(|r| (r.content.client, r.content.timestamp) == (client, timestamp))
    });
    recorded || disk.snapshot.n.0 > 0
}

impl Net {
    /// Whether a host drops this message before it is verified, as the replica has no use for it.
    pub fn is_dropped(&self, at: usize, message: &Msg) -> bool {
        let (setup, replica) = (&self.setups[at], &self.replicas[at]);
        Subject::of(message).is_some_and(|subject| !replica.heeds(setup, subject))
            || replica.has_accepted(setup, message)
    }
}
