//! Retransmission: each replica says from time to time what it has, and is sent what it lacks.
//!
//! OSDI'99 leaves retransmission open; this follows the status messages of Castro's thesis, §5.2. Everything
//! re-sent was sent before, or follows from what was: nothing here promises anything new.

use super::{Bundle, Destination, Effect, Effects, Replica, Setup, Timer};
use crate::message::{Checkpoint, Commit, Fetch, Message, Prepare, Status, Wanted};
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::types::SeqNo;

/// Sequence numbers for which messages are re-sent in answer to one STATUS.
const MAX_RESENT: usize = 32;

impl<B: Bundle> Replica<B> {
    /// The status timer fires: says what this replica has, and asks again for what it lacks (Castro's thesis,
    /// §5.2). A VIEW-CHANGE that waits is sent again (OSDI'99 §4.5.2; `view_change_retransmitted`).
    pub(super) fn on_status_timeout(&mut self, setup: &Setup<B>, effects: &mut Effects<B::Crypto>) {
        effects.push(Effect::SetTimer(Timer::Status));
        self.send_status(setup, Destination::Replicas, effects);
        if let Some(view_change) = &self.durable.view_change
            && setup.rules.view_change_retransmitted()
        {
            effects.send(Destination::Replicas, Message::ViewChange(view_change.clone()));
        }
        self.fetch_batches(setup, effects);
        self.retry_transfer(setup, effects);
    }

    pub(super) fn send_status(&self, setup: &Setup<B>, to: Destination, effects: &mut Effects<B::Crypto>) {
        let above: Vec<SeqNo> = self.slots_above(self.durable.h()).collect();
        let status = Status {
            view: self.view(),
            leaving: self.durable.leaving(),
            stable: self.durable.h(),
            executed: self.last_executed(),
            prepared: above.iter().copied().filter(|&n| self.prepared(self.view(), n)).collect(),
            pre_prepared: above,
            replica: setup.id,
        };
        effects.send(to, Message::Status(setup.sign(status)));
    }

    /// Sequence numbers above `n` with a PRE-PREPARE of the current view.
    fn slots_above(&self, n: SeqNo) -> impl Iterator<Item = SeqNo> {
        let view = self.view();
        self.durable.log.range((view, n.next())..=(view, SeqNo(u64::MAX))).map(|(&(_, n), _)| n)
    }

    /// Handles a STATUS (Castro's thesis, §5.2): sends the sender again what it lacks, and changes nothing.
    /// - The proof of the stable checkpoint and this replica's CHECKPOINTs above it: `resend_checkpoints`
    ///   (§4.3).
    /// - The NEW-VIEW to who is in an earlier view: here (`resume_on_catch_up`).
    /// - Votes and batches to who is in this view: `resend_slots`.
    pub(super) fn on_status(
        &mut self,
        setup: &Setup<B>,
        theirs: &Status,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        if theirs.replica == setup.id {
            return Err(Rejection::Duplicate);
        }
        self.resend_checkpoints(setup, theirs, effects);
        if setup.rules.resume_on_catch_up(theirs.view, self.view())
            && theirs.leaving.is_none_or(|target| target <= self.view())
            && let Some(new_view) = self.durable.new_view.as_ref()
        {
            effects.send(Destination::Replica(theirs.replica), Message::NewView(new_view.clone()));
        }
        if theirs.view == self.view() && theirs.leaving.is_none() && self.is_active(setup) {
            self.resend_slots(setup, theirs, effects);
        }
        Ok(())
    }

    fn resend_checkpoints(&self, setup: &Setup<B>, theirs: &Status, effects: &mut Effects<B::Crypto>) {
        let to = Destination::Replica(theirs.replica);
        if let Some(certificate) = self.durable.stable.as_ref().filter(|stable| stable.n > theirs.stable) {
            effects.send(to, Message::Stable(certificate.clone()));
        }
        for (&n, snapshot) in self.snapshots.iter().filter(|&(&n, _)| n > theirs.stable) {
            let checkpoint = Checkpoint { n, digest: snapshot.tree.root(), replica: setup.id };
            effects.send(to, Message::Checkpoint(setup.sign(checkpoint)));
        }
    }

    /// Re-sends the votes that the other may lack and the batches it does lack.
    ///
    /// What it has executed in an earlier view it must still prepare in this one: its vote may be the one
    /// that a slower replica needs.
    fn resend_slots(&self, setup: &Setup<B>, theirs: &Status, effects: &mut Effects<B::Crypto>) {
        let to = Destination::Replica(theirs.replica);
        let view = self.view();
        let lacks = |list: &[SeqNo], n| list.binary_search(&n).is_err();
        let open =
            (self.slots_above(theirs.stable)).filter(|&n| n > theirs.executed || lacks(&theirs.prepared, n));
        for n in open.take(MAX_RESENT) {
            let Some(signed) = self.durable.log.get(&(view, n)) else { continue };
            let digest = signed.content.digest;
            // The primary answers for its proposals; others do once the batch has committed.
            let forwards = self.is_primary(setup) || self.committed_local(view, n);
            if lacks(&theirs.pre_prepared, n)
                && forwards
                && let Some(batch) = self.batch(digest).filter(|batch| !batch.requests.is_empty())
            {
                effects.send(to, Message::PrePrepare(signed.clone(), batch));
            }
            if lacks(&theirs.prepared, n) && !self.is_primary(setup) {
                let prepare = Prepare { view, n, digest, replica: setup.id };
                effects.send(to, Message::Prepare(setup.sign(prepare)));
            }
            if self.prepared(view, n) && n > theirs.executed {
                let commit = Commit { view, n, digest, replica: setup.id };
                effects.send(to, Message::Commit(setup.sign(commit)));
            }
        }
    }

    /// Handles a FETCH: sends the batch or block of that digest, if it is here. Not in the paper; nothing is
    /// promised.
    pub(super) fn on_fetch(
        &mut self,
        setup: &Setup<B>,
        fetch: Fetch,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        let found = match fetch.what {
            Wanted::Batch(digest) => self.durable.batches.get(&digest).cloned().map(Message::Batch),
            Wanted::Block(digest) => self.block(&digest).cloned().map(Message::Block),
        };
        if fetch.replica == setup.id {
            return Err(Rejection::Duplicate);
        }
        if let Some(message) = found {
            effects.send(Destination::Replica(fetch.replica), message);
        }
        Ok(())
    }
}
