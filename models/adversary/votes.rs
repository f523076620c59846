//! PRE-PREPAREs, and votes of the adversary's own.

use super::{Adversary, Msg, NOBODYS};
use crate::crypto::Symbolic;
use pbft::crypto::Signed;
use pbft::message::{Batch, Checkpoint, Commit, Message, PrePrepare, Prepare};
use pbft::replica::Subject;
use pbft::types::{Digest, Principal, SeqNo, View};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Adversary {
    /// PRE-PREPAREs for every batch, the null request too, under every number in every view, signed by
    /// everybody.
    pub(super) fn proposals(&self, batches: &[(Arc<Batch<Symbolic>>, bool)]) -> Vec<Msg> {
        let mut offered = Vec::new();
        let null = (Arc::new(Batch::default()), true);
        for (batch, is_sound) in batches.iter().chain([&null]) {
            self.propose(batch, batch.digest(), *is_sound, &mut offered);
        }
        offered
    }

    /// The same under digests that do not name the batch.
    pub(super) fn proposals_under_other_digests(&self, batches: &[(Arc<Batch<Symbolic>>, bool)]) -> Vec<Msg> {
        let mut offered = Vec::new();
        let null = Arc::new(Batch::default());
        for batch in batches.iter().map(|(batch, _)| batch).chain([&null]) {
            for &digest in self.digests.iter().filter(|&&digest| digest != batch.digest()) {
                self.propose(batch, digest, false, &mut offered);
            }
        }
        offered
    }

    fn propose(&self, batch: &Arc<Batch<Symbolic>>, digest: Digest, is_sound: bool, offered: &mut Vec<Msg>) {
        for view in self.views() {
            for n in self.numbers() {
                for signed in self.signed_by_everybody(&PrePrepare { view, n, digest }) {
                    let is_primarys = signed.signer == Principal::Replica(self.primary(view));
                    let is_sound = is_sound && is_primarys && self.is_own(&signed);
                    self.offer(offered, is_sound, Message::PrePrepare(signed, batch.clone()));
                }
            }
        }
    }

    /// What correct primaries have proposed for this view and number, also in an `O`, with every batch. To
    /// whoever is in that view what an `O` holds is no news, but for the batch.
    pub(super) fn proposals_of_others(&self, view: View, n: SeqNo, sent: &[&Msg]) -> Vec<Msg> {
        let mut offered = Vec::new();
        for signed in
            signed_proposals(sent).into_iter().filter(|m| (m.content.view, m.content.n) == (view, n))
        {
            for batch in &self.batches {
                let is_sound = batch.digest() == signed.content.digest;
                let message = Message::PrePrepare(signed.clone(), batch.clone());
                // As its primary sent it, it is on the network already.
                if !sent.contains(&&message) {
                    self.offer(&mut offered, is_sound, message);
                }
            }
        }
        offered
    }

    /// PREPAREs and COMMITs for anything, in every name and signed by everybody. In others' names only for
    /// digests that name something: all that a vote for another can do then is to stand in the way of a
    /// genuine one, as its loss does.
    pub(super) fn votes(&self) -> Vec<Msg> {
        let mut offered = Vec::new();
        for &replica in &self.names {
            for view in self.views() {
                for n in self.numbers() {
                    let is_own = self.signers.iter().any(|setup| setup.id == replica);
                    for &digest in self.digests.iter().filter(|digest| is_own || !NOBODYS.contains(digest)) {
                        for signed in self.signed_by_everybody(&Prepare { view, n, digest, replica }) {
                            self.offer(&mut offered, self.is_own(&signed), Message::Prepare(signed));
                        }
                        for signed in self.signed_by_everybody(&Commit { view, n, digest, replica }) {
                            self.offer(&mut offered, self.is_own(&signed), Message::Commit(signed));
                        }
                    }
                }
            }
        }
        offered
    }

    /// The PREPAREs that others have sent as COMMITs, and the other way round: with the same signature.
    pub(super) fn votes_shown_as_others(&self, as_what: Subject, sent: &[&Msg]) -> Vec<Msg> {
        let mut offered = Vec::new();
        for message in sent {
            let shown = match (as_what, message) {
                (Subject::Commit(..), Message::Prepare(m)) => {
                    let Prepare { view, n, digest, replica } = m.content;
                    let content = Commit { view, n, digest, replica };
                    Message::Commit(Signed { content, signer: m.signer, signature: m.signature })
                }
                (Subject::Prepare(..), Message::Commit(m)) => {
                    let Commit { view, n, digest, replica } = m.content;
                    let content = Prepare { view, n, digest, replica };
                    Message::Prepare(Signed { content, signer: m.signer, signature: m.signature })
                }
                _ => continue,
            };
            if Subject::of(&shown) == Some(as_what) {
                self.offer(&mut offered, false, shown);
            }
        }
        offered
    }

    /// CHECKPOINTs for this number, of every state that can be named there.
    pub(super) fn checkpoints(&self, n: SeqNo, sent: &[&Msg]) -> Vec<Msg> {
        let mut offered = Vec::new();
        for digest in self.states(sent) {
            for &replica in &self.names {
                for signed in self.signed_by_everybody(&Checkpoint { n, digest, replica }) {
                    self.offer(&mut offered, self.is_own(&signed), Message::Checkpoint(signed));
                }
            }
        }
        offered
    }

    /// The states that somebody vouches for, at whatever number; the initial one; and two that nobody has.
    pub(super) fn states(&self, sent: &[&Msg]) -> BTreeSet<Digest> {
        let vouched = sent.iter().filter_map(|message| match message {
            Message::Checkpoint(m) => Some(m.content.digest),
            _ => None,
        });
        vouched.chain(NOBODYS).chain([self.genesis]).collect()
    }
}

/// Every PRE-PREPARE that was sent, by itself or in an `O`.
pub(super) fn signed_proposals(sent: &[&Msg]) -> BTreeSet<Signed<PrePrepare, Symbolic>> {
    let mut all = BTreeSet::new();
    for message in sent {
        match message {
            Message::PrePrepare(m, _) => drop(all.insert(m.clone())),
            Message::NewView(m) => all.extend(m.content.pre_prepares.iter().cloned()),
            _ => {}
        }
    }
    all
}
