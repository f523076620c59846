//! Certificates: who voted, what is wrong with each vote, and whether anybody could prove the claim.

use super::lies::{Truth, listed};
use crate::crypto::Symbolic;
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::form::Single;
use pbft::crypto::{Content, Crypto, Evidence, Signed};
use pbft::message::{Checkpoint, Message, PrePrepare, Prepare, ViewChange};
use pbft::replica::verify::{prepared_evidence_proves, stable_evidence_proves};
use pbft::rules::Rules;
use pbft::types::{Digest, Principal, ReplicaId, SeqNo, View};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A certificate in words, and whether its claim can be proved.
pub(super) struct Judged {
    pub(super) sound: bool,
    /// `PRE-PREPARE of r0, PREPAREs of r1, r2: 2 of 2 needed`.
    pub(super) votes: String,
}

/// A message of a correct replica inside of another message.
pub(super) enum Used {
    Vote { kind: &'static str, by: ReplicaId, view: View, n: SeqNo, digest: Digest },
    ViewChange(Arc<Signed<ViewChange<Symbolic>, Symbolic>>),
}

impl Used {
    /// Whether it is this message.
    pub(super) fn is(&self, message: &Message<Symbolic>) -> bool {
        match (self, message) {
            (Used::ViewChange(used), Message::ViewChange(m)) => used == m,
            (Used::Vote { kind, by, n, digest, .. }, Message::Checkpoint(m)) => {
                *kind == message.name()
                    && (m.content.replica, m.content.n, m.content.digest) == (*by, *n, *digest)
            }
            (Used::Vote { kind, by, view, n, digest }, _) => {
                *kind == message.name()
                    && message.signer() == Some(Principal::Replica(*by))
                    && message.slot() == Some((*view, *n, *digest))
            }
            _ => false,
        }
    }
}

impl Truth<'_> {
    /// What the sender of this must have received: VIEW-CHANGEs in V, and the votes in certificates.
    pub(super) fn used(&self, message: &Message<Symbolic>) -> Vec<Used> {
        match message {
            Message::ViewChange(m) => self.used_votes(&m.content),
            Message::NewView(m) => {
                let inside = m.content.view_changes.iter();
                let inside = inside.flat_map(|m| {
                    self.used_votes(&m.content).into_iter().chain([Used::ViewChange(m.clone())])
                });
                inside.collect()
            }
            Message::Stable(c) => self.used_checkpoints(c),
            _ => Vec::new(),
        }
    }

    fn used_votes(&self, content: &ViewChange<Symbolic>) -> Vec<Used> {
        let prepared = content.prepared.iter().flat_map(|c| {
            let (view, n, digest) = (c.view, c.n, c.digest);
            let vote = move |kind, by| Used::Vote { kind, by, view, n, digest };
            let proposal = vote("PRE-PREPARE", self.config.cluster.primary(view));
            self.preparers(c).into_iter().map(move |by| vote("PREPARE", by)).chain([proposal])
        });
        prepared.chain(content.stable.iter().flat_map(|c| self.used_checkpoints(c))).collect()
    }

    fn used_checkpoints(&self, c: &StableCertificate<Symbolic>) -> Vec<Used> {
        let vote = |by| Used::Vote { kind: "CHECKPOINT", by, view: View(0), n: c.n, digest: c.digest };
        self.checkpointers(c).into_iter().map(vote).collect()
    }

    /// PREPAREs that a certificate needs by the paper's rules.
    pub(super) fn needed_votes(&self) -> usize {
        self.setup.rules.certificate_quorum(&self.config.cluster)
    }

    /// Whether the primary of a view has proposed this, or could have.
    pub(super) fn is_proposed(&self, view: View, n: SeqNo, digest: Digest) -> bool {
        let content = PrePrepare { view, n, digest };
        self.config.byzantine.contains(&self.config.cluster.primary(view))
            || self.sent.iter().any(|message| match message {
                Message::PrePrepare(m, _) => m.content == content,
                Message::NewView(m) => m.content.pre_prepares.iter().any(|entry| entry.content == content),
                _ => false,
            })
    }

    /// Backups that have sent PREPARE for this, and Byzantine ones, who may send any.
    pub(super) fn possible_voters(&self, view: View, n: SeqNo, digest: Digest) -> BTreeSet<ReplicaId> {
        let primary = self.config.cluster.primary(view);
        let voted = self.sent.iter().filter_map(|message| match message {
            Message::Prepare(m) if message.slot() == Some((view, n, digest)) => Some(m.content.replica),
            _ => None,
        });
        voted.chain(self.config.byzantine.iter().copied()).filter(|&replica| replica != primary).collect()
    }

    pub(super) fn prepared(&self, c: &PreparedCertificate<Symbolic>) -> Judged {
        let PreparedCertificate { view, n, digest, proof } = c;
        let proposal = PrePrepare { view: *view, n: *n, digest: *digest };
        let (primary, needed) = (self.config.cluster.primary(*view), self.needed_votes());
        let possible = self.possible_voters(*view, *n, *digest);
        let proves = |evidence: &_| prepared_evidence_proves(&self.setup, proposal, evidence);
        let can_be = possible.len() >= needed && self.is_proposed(*view, *n, *digest);
        let shown = proof.votes().filter(|evidence| proves(evidence) || !can_be);
        let Some(evidence) = shown else {
            let voters = listed(possible.iter().take(needed).map(|r| format!("r{}", r.0)));
            let votes =
                format!("PRE-PREPARE of r{}, PREPAREs of {voters}: {needed} of {needed} needed", primary.0);
            return Judged { sound: can_be, votes };
        };
        let signed = evidence.proposal.as_ref().is_some_and(|signature| {
            let content = proposal.to_be_signed();
            Symbolic::verify(&self.setup.keys, primary.into(), &content, signature)
        });
        let proposed = match (&evidence.proposal, signed) {
            (_, true) => format!("PRE-PREPARE of r{}", primary.0),
            (Some(_), false) => format!("a PRE-PREPARE that r{} has not signed", primary.0),
            (None, _) => format!("no PRE-PREPARE of r{}", primary.0),
        };
        let content = |replica| Prepare { view: *view, n: *n, digest: *digest, replica };
        let (votes, counted) = self.votes(evidence, Some(primary), &content);
        let votes = format!("{proposed}, PREPAREs of {votes}: {counted} of {needed} needed");
        Judged { sound: proves(evidence), votes }
    }

    /// Whose PREPAREs are in a certificate: those that it shows, or that can be in it.
    fn preparers(&self, c: &PreparedCertificate<Symbolic>) -> Vec<ReplicaId> {
        match c.proof.votes() {
            Some(evidence) => evidence.votes.iter().map(|(replica, _)| *replica).collect(),
            None => {
                let possible = self.possible_voters(c.view, c.n, c.digest);
                possible.into_iter().take(self.needed_votes()).collect()
            }
        }
    }

    /// Whose CHECKPOINTs are in a certificate: those that it shows, or that can be in it.
    fn checkpointers(&self, c: &StableCertificate<Symbolic>) -> Vec<ReplicaId> {
        match c.proof.votes() {
            Some(evidence) => evidence.votes.iter().map(|(replica, _)| *replica).collect(),
            None => {
                let needed = self.setup.rules.checkpoint_quorum(&self.config.cluster);
                self.vouchers(c).into_iter().take(needed).collect()
            }
        }
    }

    /// Replicas that have sent CHECKPOINT for this, and Byzantine ones, who may send any.
    fn vouchers(&self, c: &StableCertificate<Symbolic>) -> BTreeSet<ReplicaId> {
        let voted = self.sent.iter().filter_map(|message| match message {
            Message::Checkpoint(m) if (m.content.n, m.content.digest) == (c.n, c.digest) => {
                Some(m.content.replica)
            }
            _ => None,
        });
        voted.chain(self.config.byzantine.iter().copied()).collect()
    }

    pub(super) fn stable(&self, c: &StableCertificate<Symbolic>) -> Judged {
        let needed = self.setup.rules.checkpoint_quorum(&self.config.cluster);
        let proves = |evidence: &_| stable_evidence_proves(&self.setup, c.n, c.digest, evidence);
        let possible = self.vouchers(c);
        let can_be = possible.len() >= needed;
        let Some(evidence) = c.proof.votes().filter(|evidence| proves(evidence) || !can_be) else {
            let voters = listed(possible.iter().take(needed).map(|r| format!("r{}", r.0)));
            return Judged {
                sound: can_be,
                votes: format!("CHECKPOINTs of {voters}: {needed} of {needed} needed"),
            };
        };
        let content = |replica| Checkpoint { n: c.n, digest: c.digest, replica };
        let (votes, counted) = self.votes(evidence, None, &content);
        Judged {
            sound: proves(evidence),
            votes: format!("CHECKPOINTs of {votes}: {counted} of {needed} needed"),
        }
    }

    pub(super) fn unproved_stable(&self, c: &StableCertificate<Symbolic>) -> Option<String> {
        let judged = self.stable(c);
        let what = self.names.of(c.digest);
        (!judged.sound).then(|| format!("claims that {what} at n{} is stable: {}", c.n.0, judged.votes))
    }

    /// Who voted, with what is wrong about each vote, and how many count.
    pub(super) fn votes<T: Content<Form = Single>>(
        &self,
        evidence: &Evidence<<Symbolic as Crypto>::Signature>,
        primary: Option<ReplicaId>,
        content: &dyn Fn(ReplicaId) -> T,
    ) -> (String, usize) {
        let mut seen = BTreeSet::new();
        let mut counted = 0;
        let told = evidence.votes.iter().map(|(replica, signature)| {
            let signed = content(*replica).to_be_signed();
            let valid = Symbolic::verify(&self.setup.keys, Principal::Replica(*replica), &signed, signature);
            let why = match (seen.insert(*replica), self.config.cluster.contains(*replica)) {
                (false, _) => " again",
                (_, false) => " (no member)",
                _ if Some(*replica) == primary => " (the primary)",
                _ if !valid => " (who has not signed it)",
                _ => {
                    counted += 1;
                    ""
                }
            };
            format!("r{}{why}", replica.0)
        });
        let told: Vec<String> = told.collect();
        (listed(told.into_iter()), counted)
    }

    /// Whether a correct replica vouches for the state after a number.
    pub(super) fn has_state(&self, n: SeqNo, digest: Digest) -> bool {
        self.sent.iter().any(
            |message| matches!(message, Message::Checkpoint(m) if (m.content.n, m.content.digest) == (n, digest)),
        )
    }
}
