//! Votes of the adversary's own, and certificates made of its own and others' votes.

use super::{Adversary, Msg, NOBODYS};
use crate::crypto::{Signature, Symbolic};
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::{Claim, Crypto, Evidence};
use pbft::message::{Batch, Checkpoint, Commit, Message, PrePrepare, Prepare};
use pbft::replica::verify::{prepared_evidence_proves, stable_evidence_proves, verify};
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Signatures by which replica voted for what.
type Signatures<K> = BTreeMap<K, BTreeMap<ReplicaId, Signature>>;

/// What the messages sent so far, and the adversary's own keys, prove.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Known {
    /// Provable certificates, one for each claim.
    prepared: Vec<PreparedCertificate<Symbolic>>,
    stable: Vec<StableCertificate<Symbolic>>,
    /// VIEW-CHANGEs of correct replicas.
    pub(super) view_changes: Vec<super::views::SignedViewChange>,
    /// Digests of states that somebody vouches for.
    pub(super) states: BTreeSet<(SeqNo, Digest)>,
}

impl Known {
    pub(super) fn new(adversary: &Adversary, sent: &[&Msg]) -> Self {
        let mut proposals: BTreeMap<(View, SeqNo, Digest), Signature> = BTreeMap::new();
        let mut prepares: Signatures<(View, SeqNo, Digest)> = BTreeMap::new();
        let mut checkpoints: Signatures<(SeqNo, Digest)> = BTreeMap::new();
        let mut view_changes = Vec::new();
        for message in sent {
            match message {
                Message::PrePrepare(m, _) => {
                    let PrePrepare { view, n, digest } = m.content;
                    proposals.insert((view, n, digest), m.signature);
                }
                Message::Prepare(m) => {
                    let Prepare { view, n, digest, replica } = m.content;
                    prepares.entry((view, n, digest)).or_default().insert(replica, m.signature);
                }
                Message::Checkpoint(m) => {
                    let Checkpoint { n, digest, replica } = m.content;
                    checkpoints.entry((n, digest)).or_default().insert(replica, m.signature);
                }
                Message::ViewChange(m) => view_changes.push(m.clone()),
                Message::NewView(m) => {
                    for entry in &m.content.pre_prepares {
                        let PrePrepare { view, n, digest } = entry.content;
                        proposals.insert((view, n, digest), entry.signature);
                    }
                }
                _ => {}
            }
        }
        let states = checkpoints.keys().copied().collect();
        let prepared = adversary.provable(&proposals, &prepares);
        let stable = adversary.provable_checkpoints(&checkpoints);
        Known { prepared, stable, view_changes, states }
    }

    /// Adds what was known before. Both have a certificate for each claim, in the same order, valid or not.
    pub(crate) fn absorb(&mut self, before: &Known) {
        for (certificate, known) in self.prepared.iter_mut().zip(&before.prepared) {
            let PreparedCertificate { view, n, digest, .. } = *known;
            if Symbolic::holds(Claim::Prepared(view, n, digest), &known.proof, &|_| false) {
                *certificate = known.clone();
            }
        }
        for known in &before.stable {
            if !self.stable.contains(known) {
                self.stable.push(known.clone());
            }
        }
        self.states.extend(&before.states);
    }

    /// The same with these VIEW-CHANGEs of correct replicas.
    pub(super) fn with_view_changes(&self, sent: &[&Msg]) -> Known {
        let view_changes = sent.iter().filter_map(|message| match message {
            Message::ViewChange(m) => Some(m.clone()),
            _ => None,
        });
        Known { view_changes: view_changes.collect(), ..self.clone() }
    }

    /// A certificate for each claim that can be made to convince.
    pub(super) fn prepared(&self) -> &[PreparedCertificate<Symbolic>] {
        &self.prepared
    }

    /// A certificate for each checkpoint that can be shown to be stable.
    pub(super) fn stable(&self) -> &[StableCertificate<Symbolic>] {
        &self.stable
    }
}

impl Adversary {
    /// PRE-PREPAREs for every batch under every number; the null request too, for receivers that take it.
    pub(super) fn proposals(&self) -> Vec<Msg> {
        let null = Arc::new(Batch::default());
        let mut offered = Vec::new();
        for view in self.views() {
            for setup in &self.byzantine {
                for n in self.numbers() {
                    for batch in self.batches.iter().chain([&null]) {
                        // Under another batch's digest too, for receivers that do not compare.
                        for digest in self.digests() {
                            let signed = setup.sign(PrePrepare { view, n, digest });
                            offered.push(Message::PrePrepare(signed, batch.clone()));
                        }
                    }
                }
            }
        }
        offered
    }

    /// PREPAREs and COMMITs for anything, in anybody's name: receivers look at who signed.
    pub(super) fn votes(&self) -> Vec<Msg> {
        let mut offered = Vec::new();
        for setup in &self.byzantine {
            let names = self.judge.cluster.replicas();
            let slots = names.flat_map(|name| self.views().map(move |view| (name, view)));
            for (replica, view) in slots {
                for n in self.numbers() {
                    for digest in self.digests().into_iter().chain([NOBODYS]) {
                        offered.push(Message::Prepare(setup.sign(Prepare { view, n, digest, replica })));
                        offered.push(Message::Commit(setup.sign(Commit { view, n, digest, replica })));
                    }
                }
            }
        }
        offered
    }

    /// CHECKPOINTs for every state that somebody vouches for, and for one that nobody has.
    pub(super) fn checkpoints(&self, known: &Known) -> Vec<Msg> {
        let interval = self.judge.parameters.checkpoint_interval;
        let mut states = known.states.clone();
        states.extend(self.numbers().filter(|n| n.0 % interval == 0).map(|n| (n, NOBODYS)));
        let mut offered = Vec::new();
        for setup in &self.byzantine {
            for &(n, digest) in &states {
                offered.push(Message::Checkpoint(setup.sign(Checkpoint { n, digest, replica: setup.id })));
            }
        }
        offered
    }

    /// For each view, number and digest, the certificate with all the votes there are, its own included, if the
    /// production validator is convinced by it.
    fn provable(
        &self,
        proposals: &BTreeMap<(View, SeqNo, Digest), Signature>,
        prepares: &Signatures<(View, SeqNo, Digest)>,
    ) -> Vec<PreparedCertificate<Symbolic>> {
        let mut certificates = Vec::new();
        for view in self.views() {
            let primary = self.primary(view);
            for n in self.numbers() {
                for digest in self.digests() {
                    let content = PrePrepare { view, n, digest };
                    let own = self.holds(primary).map(|setup| setup.sign(content).signature);
                    let proposal = proposals.get(&(view, n, digest)).copied().or(own);
                    let mut votes = prepares.get(&(view, n, digest)).cloned().unwrap_or_default();
                    for setup in self.byzantine.iter().filter(|setup| setup.id != primary) {
                        let vote = Prepare { view, n, digest, replica: setup.id };
                        votes.insert(setup.id, setup.sign(vote).signature);
                    }
                    let evidence = Evidence { proposal, votes: votes.into_iter().collect() };
                    let valid = |evidence: &_| prepared_evidence_proves(&self.judge, content, evidence);
                    let proof = Symbolic::seal(Claim::Prepared(view, n, digest), evidence, &valid);
                    certificates.push(PreparedCertificate { view, n, digest, proof });
                }
            }
        }
        certificates
    }

    fn provable_checkpoints(
        &self,
        checkpoints: &Signatures<(SeqNo, Digest)>,
    ) -> Vec<StableCertificate<Symbolic>> {
        let interval = self.judge.parameters.checkpoint_interval;
        let claims = self.numbers().filter(|n| n.0 % interval == 0).map(|n| (n, NOBODYS));
        let claims: BTreeSet<(SeqNo, Digest)> = claims.chain(checkpoints.keys().copied()).collect();
        let certificate = |(n, digest): (SeqNo, Digest)| {
            let mut votes = checkpoints.get(&(n, digest)).cloned().unwrap_or_default();
            for setup in &self.byzantine {
                let vote = Checkpoint { n, digest, replica: setup.id };
                votes.insert(setup.id, setup.sign(vote).signature);
            }
            let evidence = Evidence { proposal: None, votes: votes.into_iter().collect() };
            let valid = |evidence: &_| stable_evidence_proves(&self.judge, n, digest, evidence);
            let proof = Symbolic::seal(Claim::Stable(n, digest), evidence, &valid);
            StableCertificate { n, digest, proof }
        };
        let convincing = |stable: &StableCertificate<Symbolic>| {
            verify(&self.judge, Message::Stable(stable.clone())).is_ok()
        };
        claims.into_iter().map(certificate).filter(convincing).collect()
    }
}
