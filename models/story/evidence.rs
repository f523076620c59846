//! Certificates: who voted, what is wrong with each vote, and whether anybody could prove the claim.

use super::lies::{Truth, listed};
use crate::crypto::Symbolic;
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::{Content, Crypto, Evidence};
use pbft::message::{Checkpoint, Message, PrePrepare, Prepare};
use pbft::replica::verify::{prepared_evidence_proves, stable_evidence_proves};
use pbft::rules::Rules;
use pbft::types::{Digest, Principal, ReplicaId, SeqNo, View};
use std::collections::BTreeSet;

/// A certificate in words, and whether its claim can be proved.
pub(super) struct Judged {
    pub(super) sound: bool,
    /// `PRE-PREPARE of r0, PREPAREs of r1, r2: 2 of 2 needed`.
    pub(super) votes: String,
}

impl Truth<'_> {
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

    pub(super) fn stable(&self, c: &StableCertificate<Symbolic>) -> Judged {
        let needed = self.setup.rules.checkpoint_quorum(&self.config.cluster);
        let proves = |evidence: &_| stable_evidence_proves(&self.setup, c.n, c.digest, evidence);
        let voted = self.sent.iter().filter_map(|message| match message {
            Message::Checkpoint(m) if (m.content.n, m.content.digest) == (c.n, c.digest) => {
                Some(m.content.replica)
            }
            _ => None,
        });
        let possible: BTreeSet<ReplicaId> = voted.chain(self.config.byzantine.iter().copied()).collect();
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
    pub(super) fn votes<T: Content>(
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
