//! What messages are about, and whether a replica heeds it.
//!
//! An exploration asks this before it tries the messages of a subject one by one. The answers come from the
//! very guards with which the handlers begin.

use super::received::{Left, Voted};
use super::{Bundle, Replica, Setup};
use crate::crypto::Crypto;
use crate::message::{Checkpoint, Commit, Message, Prepare};
use crate::rules::Rules;
use crate::types::{ClientId, SeqNo, Timestamp, View};

/// What a message is about. STATUS and FETCH are about none of these.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// A PRE-PREPARE for this view and number.
    PrePrepare(View, SeqNo),
    /// PREPAREs for this view and number.
    Prepare(View, SeqNo),
    /// COMMITs for this view and number.
    Commit(View, SeqNo),
    /// CHECKPOINTs for this number.
    Checkpoint(SeqNo),
    /// The proof that the checkpoint at this number is stable.
    Stable(SeqNo),
    /// VIEW-CHANGEs for this view.
    ViewChange(View),
    /// NEW-VIEW of this view.
    NewView(View),
    /// Batches by themselves.
    Batch,
    /// Blocks of state.
    Block,
    /// The REQUEST of this client with this timestamp, to be ordered.
    Request(ClientId, Timestamp),
    /// The read-only REQUEST of this client with this timestamp.
    Read(ClientId, Timestamp),
    /// REPLYs to either: only a client heeds them ([`Client::heeds`](crate::client::Client::heeds)).
    Reply(ClientId, Timestamp),
}

impl Subject {
    /// What `message` is about.
    pub fn of<C: Crypto>(message: &Message<C>) -> Option<Subject> {
        Some(match message {
            Message::PrePrepare(m, _) => Subject::PrePrepare(m.content.view, m.content.n),
            Message::Prepare(m) => Subject::Prepare(m.content.view, m.content.n),
            Message::Commit(m) => Subject::Commit(m.content.view, m.content.n),
            Message::Checkpoint(m) => Subject::Checkpoint(m.content.n),
            Message::Stable(certificate) => Subject::Stable(certificate.n),
            Message::ViewChange(m) => Subject::ViewChange(m.content.view),
            Message::NewView(m) => Subject::NewView(m.content.view),
            Message::Batch(_) => Subject::Batch,
            Message::Block(_) => Subject::Block,
            Message::Request(m) if m.content.read_only => {
                Subject::Read(m.content.client, m.content.timestamp)
            }
            Message::Request(m) => Subject::Request(m.content.client, m.content.timestamp),
            Message::Reply(m) => Subject::Reply(m.content.client, m.content.timestamp),
            Message::Status(_) | Message::Fetch(_) => return None,
        })
    }
}

#[doc(hidden)]
impl<B: Bundle> Replica<B> {
    /// Whether any message about `subject` can change this state or be answered. If not, all are rejected.
    pub fn heeds(&self, setup: &Setup<B>, subject: Subject) -> bool {
        match subject {
            Subject::PrePrepare(view, n) => {
                setup.cluster.primary(view) != setup.id && self.check_slot(setup, view, n).is_ok()
            }
            Subject::Prepare(view, n) => self.check_slot(setup, view, n).is_ok() && !self.prepared(view, n),
            Subject::Commit(view, n) => {
                self.check_slot(setup, view, n).is_ok() && !self.committed_local(view, n)
            }
            Subject::Checkpoint(n) => self.check_checkpoint(setup, n).is_ok(),
            Subject::Stable(n) => self.check_stable(setup, n).is_ok(),
            Subject::ViewChange(view) => self.check_view_change(view).is_ok(),
            Subject::NewView(view) => self.check_new_view(setup, view).is_ok(),
            Subject::Batch => !self.missing_batches().is_empty(),
            Subject::Block => self.transfer.is_some(),
            Subject::Request(client, timestamp) => self.heeds_request(setup, client, timestamp),
            Subject::Read(client, timestamp) => self.heeds_read(client, timestamp),
            Subject::Reply(..) => false,
        }
    }

    /// Whether `message` is a PRE-PREPARE that is accepted already, batch and all, or a vote or VIEW-CHANGE where
    /// there is one of its sender already: if it is valid it is refused as a duplicate and changes nothing, so a host
    /// need not verify it.
    pub fn has_accepted(&self, setup: &Setup<B>, message: &Message<B::Crypto>) -> bool {
        let again = |has_voted| has_voted && !setup.rules.one_vote_per_sender(true);
        match message {
            Message::Prepare(m) => {
                let Prepare { view, n, replica, .. } = m.content;
                again(self.prepares.contains(Voted { n, view, replica }))
            }
            Message::Commit(m) => {
                let Commit { view, n, replica, .. } = m.content;
                again(self.commits.contains(Voted { n, view, replica }))
            }
            Message::Checkpoint(m) => {
                let Checkpoint { n, replica, .. } = m.content;
                again(self.checkpoints.contains(Voted { n, view: View(0), replica }))
            }
            Message::PrePrepare(m, _) => {
                let accepted = self.accepted(m.content.view, m.content.n);
                accepted.is_some_and(|accepted| accepted.digest == m.content.digest)
                    && self.batch(m.content.digest).is_some()
            }
            Message::ViewChange(m) => {
                self.view_changes.contains(Left { view: m.content.view, replica: m.content.replica })
            }
            _ => false,
        }
    }

    /// A request that has executed is answered again, one that waits is relayed again, an older one neither.
    fn heeds_request(&self, setup: &Setup<B>, client: ClientId, timestamp: Timestamp) -> bool {
        let last = self.clients.last_timestamp(client);
        if timestamp <= last {
            return timestamp == last && setup.rules.reply_cached();
        }
        match self.requests.pool.get(&client).map(|request| request.content.timestamp) {
            Some(pooled) if pooled == timestamp => !self.is_primary(setup),
            Some(pooled) => pooled < timestamp,
            None => true,
        }
    }
}
