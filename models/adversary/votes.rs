//! Votes of the adversary's own, and certificates made of its own and others' votes.

use super::liberties::Liberties;
use super::{Adversary, Msg, NOBODYS, Own};
use crate::crypto::{Signature, Symbolic};
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::{Claim, Crypto, Evidence, Signed};
use pbft::message::{Batch, Checkpoint, Commit, Message, PrePrepare, Prepare, ViewChange};
use pbft::replica::verify::{prepared_evidence_proves, stable_evidence_proves};
use pbft::rules::Rules;
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
    /// What correct primaries have proposed.
    pub(super) proposals: Vec<Signed<PrePrepare, Symbolic>>,
}

impl Known {
    pub(super) fn new(adversary: &Adversary, sent: &[&Msg]) -> Self {
        let mut proposals: BTreeMap<(View, SeqNo, Digest), &Signed<PrePrepare, Symbolic>> = BTreeMap::new();
        let mut prepares: Signatures<(View, SeqNo, Digest)> = BTreeMap::new();
        let mut checkpoints: Signatures<(SeqNo, Digest)> = BTreeMap::new();
        let mut view_changes = Vec::new();
        for message in sent {
            match message {
                Message::PrePrepare(m, _) => {
                    let PrePrepare { view, n, digest } = m.content;
                    proposals.insert((view, n, digest), m);
                }
                Message::Prepare(m) => {
                    let Prepare { view, n, digest, replica } = m.content;
                    prepares.entry((view, n, digest)).or_default().insert(replica, m.signature);
                }
                Message::Checkpoint(m) => {
                    let Checkpoint { n, digest, replica } = m.content;
                    checkpoints.entry((n, digest)).or_default().insert(replica, m.signature);
                }
                // Without some rules correct replicas send what their peers refuse.
                Message::ViewChange(m) if adversary.is_accepted(message) => view_changes.push(m.clone()),
                Message::NewView(m) => {
                    for entry in &m.content.pre_prepares {
                        let PrePrepare { view, n, digest } = entry.content;
                        proposals.insert((view, n, digest), entry);
                    }
                }
                _ => {}
            }
        }
        let states = checkpoints.keys().copied().collect();
        let prepared = adversary.provable(&proposals, &prepares);
        let stable = adversary.provable_checkpoints(&checkpoints);
        let proposals = proposals.into_values().cloned().collect();
        Known { prepared, stable, view_changes, states, proposals }
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
        for known in &before.proposals {
            if !self.proposals.contains(known) {
                self.proposals.push(known.clone());
            }
        }
        self.proposals.sort_unstable();
    }

    /// The same with these VIEW-CHANGEs of correct replicas.
    pub(super) fn with_view_changes(&self, adversary: &Adversary, sent: &[&Msg]) -> Known {
        let view_changes = sent.iter().filter_map(|message| match message {
            Message::ViewChange(m) if adversary.is_accepted(message) => Some(m.clone()),
            _ => None,
        });
        Known { view_changes: view_changes.collect(), ..self.clone() }
    }

    /// A certificate for each claim that can be made to convince.
    pub(crate) fn prepared(&self) -> &[PreparedCertificate<Symbolic>] {
        &self.prepared
    }

    /// A certificate for each checkpoint that can be shown to be stable.
    pub(crate) fn stable(&self) -> &[StableCertificate<Symbolic>] {
        &self.stable
    }
}

impl Adversary {
    /// PRE-PREPAREs for every batch under every number; the null request too, for receivers that take it.
    pub(super) fn proposals(&self) -> Vec<Msg> {
        let null = Arc::new(Batch::default());
        let mut offered = Vec::new();
        for (view, setup) in &self.proposers {
            for n in self.numbers() {
                for batch in self.batches.iter().chain([&null]) {
                    // Under another digest too, for receivers that do not compare.
                    for &digest in self.certifiable.iter().chain([&NOBODYS]) {
                        let signed = setup.sign(PrePrepare { view: *view, n, digest });
                        offered.push(Message::PrePrepare(signed, batch.clone()));
                    }
                }
            }
        }
        offered
    }

    /// The PRE-PREPAREs of others with any batch, for receivers to whom that is news.
    pub(super) fn proposals_of_others(&self, known: &Known) -> Vec<Msg> {
        let Liberties { any_batch, proposals_out_of_o, .. } = self.liberties;
        if !any_batch && !proposals_out_of_o {
            return Vec::new();
        }
        let null = Arc::new(Batch::default());
        let with = |batch: &Arc<Batch<Symbolic>>| {
            let batch = batch.clone();
            known.proposals.iter().map(move |m| Message::PrePrepare(m.clone(), batch.clone()))
        };
        self.batches.iter().chain([&null]).flat_map(with).collect()
    }

    /// PREPAREs and COMMITs for anything, in every name that is believed.
    pub(super) fn votes(&self) -> Vec<Msg> {
        let mut offered = Vec::new();
        for (setup, replica) in &self.voices {
            for view in self.views() {
                for n in self.numbers() {
                    for &digest in self.certifiable.iter().chain([&NOBODYS]) {
                        let replica = *replica;
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
        let mut offered = Vec::new();
        for (setup, replica) in &self.voices {
            for (n, digest) in self.checkpoint_claims(&known.states) {
                let vote = Checkpoint { n, digest, replica: *replica };
                offered.push(Message::Checkpoint(setup.sign(vote)));
            }
        }
        offered
    }

    /// What can be said of states: what others say, and that there is one nobody has. Where nobody else needs to
    /// agree, also that any state is that of another number.
    fn checkpoint_claims(&self, vouched: &BTreeSet<(SeqNo, Digest)>) -> BTreeSet<(SeqNo, Digest)> {
        let interval = self.judge.parameters.checkpoint_interval;
        let nobodys = self.numbers().filter(|n| n.0 % interval == 0).map(|n| (n, NOBODYS));
        let mut claims: BTreeSet<_> = nobodys.chain(vouched.iter().copied()).collect();
        for &n in &self.unchecked {
            claims.extend([(n, NOBODYS), (n, self.genesis)]);
            claims.extend(vouched.iter().map(|&(_, digest)| (n, digest)));
        }
        claims
    }

    /// Numbers at which its own votes make a state stable that nobody has: as a certificate, or one by one.
    pub(super) fn unchecked_numbers(&self) -> Vec<SeqNo> {
        let rules = &self.judge.rules;
        let names: BTreeSet<ReplicaId> = self.voices.iter().map(|&(_, name)| name).collect();
        let often = rules.one_vote_per_sender(true) && !names.is_empty();
        let quorum = often || names.len() >= rules.checkpoint_quorum(&self.judge.cluster);
        let interval = self.judge.parameters.checkpoint_interval;
        let convinces = |&n: &SeqNo| {
            let certificate = self.checkpoint_certificate(n, NOBODYS, BTreeMap::new());
            quorum && n.0 % interval == 0 || self.is_accepted(&Message::Stable(certificate))
        };
        [SeqNo(0)].into_iter().chain(self.numbers()).filter(convinces).collect()
    }

    /// Whether a certificate for a digest that names nothing can convince: by its own votes alone, or because
    /// correct replicas can be made to vote for it.
    pub(super) fn can_certify_nobodys(&self) -> bool {
        let voted_for = |message: &Msg| match message {
            Message::PrePrepare(m, _) => m.content.digest == NOBODYS,
            _ => false,
        };
        let own = self.views().any(|view| {
            let certificate = self.certificate(view, SeqNo(1), NOBODYS, None, BTreeMap::new());
            self.voices.first().is_some_and(|(setup, replica)| {
                let (n, stable, prepared) = (SeqNo(0), None, vec![certificate]);
                let content = ViewChange { view: view.next(), n, stable, prepared, replica: *replica };
                self.is_accepted(&Message::ViewChange(Arc::new(setup.sign(content))))
            })
        });
        own || self.liberties.any_o || self.always.iter().any(voted_for)
    }

    /// For each view, number and digest, a certificate with all the votes there are. Whether they prove the claim
    /// is decided by the production validation; if they do not, fewer do not either.
    fn provable(
        &self,
        proposals: &BTreeMap<(View, SeqNo, Digest), &Signed<PrePrepare, Symbolic>>,
        prepares: &Signatures<(View, SeqNo, Digest)>,
    ) -> Vec<PreparedCertificate<Symbolic>> {
        let mut certificates = Vec::new();
        for view in self.views() {
            for n in self.numbers() {
                for &digest in &self.certifiable {
                    let claim = (view, n, digest);
                    let proposal = proposals.get(&claim).map(|signed| signed.signature);
                    let votes = prepares.get(&claim).cloned().unwrap_or_default();
                    certificates.push(self.certificate(view, n, digest, proposal, votes));
                }
            }
        }
        certificates
    }

    /// The certificate made of the votes of others and its own.
    fn certificate(
        &self,
        view: View,
        n: SeqNo,
        digest: Digest,
        proposal: Option<Signature>,
        mut votes: BTreeMap<ReplicaId, Signature>,
    ) -> PreparedCertificate<Symbolic> {
        let (primary, content) = (self.primary(view), PrePrepare { view, n, digest });
        let own = self.holds(primary).map(|setup| setup.sign(content).signature);
        let counts = |setup: &&Own| self.judge.rules.primary_does_not_prepare(setup.id, primary);
        for setup in self.signers.iter().filter(counts) {
            let vote = Prepare { view, n, digest, replica: setup.id };
            votes.insert(setup.id, setup.sign(vote).signature);
        }
        let evidence = Evidence { proposal: proposal.or(own), votes: self.padded(votes) };
        let valid = |evidence: &_| prepared_evidence_proves(&self.judge, content, evidence);
        let proof = Symbolic::seal(Claim::Prepared(view, n, digest), evidence, &valid);
        PreparedCertificate { view, n, digest, proof }
    }

    /// The votes, each as often as helps: once, unless receivers count repeated ones.
    fn padded(&self, votes: BTreeMap<ReplicaId, Signature>) -> Vec<(ReplicaId, Signature)> {
        let length = if self.liberties.repeated_voters { 2 * self.judge.cluster.n() } else { votes.len() };
        let votes: Vec<_> = votes.into_iter().collect();
        votes.iter().copied().cycle().take(length).collect()
    }

    fn provable_checkpoints(
        &self,
        checkpoints: &Signatures<(SeqNo, Digest)>,
    ) -> Vec<StableCertificate<Symbolic>> {
        let vouched = checkpoints.keys().copied().collect();
        let certificate = |(n, digest): (SeqNo, Digest)| {
            let votes = checkpoints.get(&(n, digest)).cloned().unwrap_or_default();
            self.checkpoint_certificate(n, digest, votes)
        };
        let convincing =
            |stable: &StableCertificate<Symbolic>| self.is_accepted(&Message::Stable(stable.clone()));
        self.checkpoint_claims(&vouched).into_iter().map(certificate).filter(convincing).collect()
    }

    /// The certificate made of the votes of others and its own.
    fn checkpoint_certificate(
        &self,
        n: SeqNo,
        digest: Digest,
        mut votes: BTreeMap<ReplicaId, Signature>,
    ) -> StableCertificate<Symbolic> {
        for setup in &self.signers {
            let vote = Checkpoint { n, digest, replica: setup.id };
            votes.insert(setup.id, setup.sign(vote).signature);
        }
        let evidence = Evidence { proposal: None, votes: self.padded(votes) };
        let valid = |evidence: &_| stable_evidence_proves(&self.judge, n, digest, evidence);
        let proof = Symbolic::seal(Claim::Stable(n, digest), evidence, &valid);
        StableCertificate { n, digest, proof }
    }
}
