//! Certificates: what the votes of others, and the adversary's own, prove; and what proves nothing.

use super::votes::signed_proposals;
use super::{Adversary, Msg, NOBODYS};
use crate::crypto::{Signature, Symbolic};
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::form::Single;
use pbft::crypto::{Claim, Content, Crypto, Evidence, Signed};
use pbft::message::{Checkpoint, Message, PrePrepare, Prepare, ViewChange};
use pbft::replica::verify::{prepared_evidence_proves, stable_evidence_proves, verify};
use pbft::types::{Digest, Principal, ReplicaId, SeqNo, View};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What a certificate says that something prepared.
type Slot = (View, SeqNo, Digest);
/// Voters with the signatures of their votes.
type Votes = Vec<(ReplicaId, Signature)>;

/// What the messages sent so far, and the adversary's own keys, can make receivers believe.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Known {
    /// A certificate for each claim that convinces in a VIEW-CHANGE.
    prepared: BTreeMap<Slot, PreparedCertificate<Symbolic>>,
    /// A certificate for each checkpoint that convinces.
    stable: BTreeMap<(SeqNo, Digest), StableCertificate<Symbolic>>,
    /// What correct primaries have proposed, in their signatures' words.
    pub(super) proposals: Vec<Signed<PrePrepare, Symbolic>>,
}

impl Known {
    pub(super) fn new(adversary: &Adversary, sent: &[&Msg]) -> Self {
        let cast = Cast::of(sent);
        let mut known = Known { proposals: signed_proposals(sent).into_iter().collect(), ..Known::default() };
        for claim in adversary.claims() {
            if let Some(found) = adversary.convincing(claim, &cast) {
                known.prepared.insert(claim, found);
            }
        }
        for n in adversary.numbers() {
            let certificates = adversary.stable(n, sent).into_iter().filter_map(|message| match message {
                Message::Stable(certificate) => Some(((n, certificate.digest), certificate)),
                _ => None,
            });
            for (claim, certificate) in certificates {
                known.stable.entry(claim).or_insert(certificate);
            }
        }
        known
    }

    /// Adds what was known before.
    pub(crate) fn absorb(&mut self, before: &Known) {
        for (claim, certificate) in &before.prepared {
            self.prepared.entry(*claim).or_insert_with(|| certificate.clone());
        }
        for (claim, certificate) in &before.stable {
            self.stable.entry(*claim).or_insert_with(|| certificate.clone());
        }
        for known in &before.proposals {
            if !self.proposals.contains(known) {
                self.proposals.push(known.clone());
            }
        }
        self.proposals.sort_unstable();
    }

    /// Whether a certificate for this claim convinces.
    pub(super) fn shows(&self, claim: &Slot) -> bool {
        self.prepared.contains_key(claim)
    }

    /// Certificates that convince, one for each claim.
    pub(crate) fn prepared(&self) -> impl Iterator<Item = &PreparedCertificate<Symbolic>> {
        self.prepared.values()
    }

    /// Certificates of checkpoints that convince, one for each claim.
    pub(crate) fn stable(&self) -> impl Iterator<Item = &StableCertificate<Symbolic>> {
        self.stable.values()
    }
}

/// Whose votes and proposals were sent.
#[derive(Default)]
struct Cast {
    proposals: BTreeMap<Slot, Signature>,
    prepares: BTreeMap<Slot, BTreeMap<ReplicaId, Signature>>,
}

/// What there is for a claim: its proposal, its votes, and of each voter a vote for something else.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Shown {
    claim: Slot,
    proposal: Option<Signature>,
    votes: BTreeMap<ReplicaId, Signature>,
    another: Vec<Option<Signature>>,
}

/// Certificates depend on what there is for their claim alone, and are made once for it.
#[derive(Default)]
pub(super) struct MadeCertificates(Mutex<IndexMap<Shown, Option<PreparedCertificate<Symbolic>>, FixedState>>);

impl Cast {
    fn of(sent: &[&Msg]) -> Self {
        let mut cast = Cast::default();
        for signed in signed_proposals(sent) {
            let PrePrepare { view, n, digest } = signed.content;
            cast.proposals.insert((view, n, digest), signed.signature);
        }
        for message in sent {
            if let Message::Prepare(m) = message {
                let Prepare { view, n, digest, replica } = m.content;
                cast.prepares.entry((view, n, digest)).or_default().insert(replica, m.signature);
            }
        }
        cast
    }

    /// All that a certificate for a claim can be made of.
    fn shown(&self, claim: Slot, voters: &[ReplicaId]) -> Shown {
        let votes = self.prepares.get(&claim).cloned().unwrap_or_default();
        let another = voters.iter().map(|&voter| self.vote_for_another(voter, claim)).collect();
        Shown { claim, proposal: self.proposals.get(&claim).copied(), votes, another }
    }

    /// A PREPARE of `voter` for something else: with another digest, or, failing that, in another slot.
    fn vote_for_another(&self, voter: ReplicaId, (view, n, digest): Slot) -> Option<Signature> {
        let others = || {
            let signed = |(slot, votes): (&Slot, &BTreeMap<ReplicaId, Signature>)| {
                votes.get(&voter).map(|signature| (*slot, *signature))
            };
            self.prepares.iter().filter_map(signed).filter(|(slot, _)| *slot != (view, n, digest))
        };
        let near = others().find(|((v, m, _), _)| (*v, *m) == (view, n));
        near.or_else(|| others().next()).map(|(_, signature)| signature)
    }
}

impl Adversary {
    /// Everything of which it can be said that it prepared.
    pub(super) fn claims(&self) -> Vec<Slot> {
        let slots = self.views().flat_map(|view| self.numbers().map(move |n| (view, n)));
        slots.flat_map(|(view, n)| self.digests.iter().map(move |&digest| (view, n, digest))).collect()
    }

    /// A certificate for a claim that convinces receivers, if one does: the soundest.
    fn convincing(&self, claim: Slot, cast: &Cast) -> Option<PreparedCertificate<Symbolic>> {
        let shown = cast.shown(claim, &self.names);
        let known = || self.made_certificates.0.lock().expect("nobody panics while remembering");
        if let Some(made) = known().get(&shown) {
            return made.clone();
        }
        let made = self.make_convincing(claim, cast);
        known().insert(shown, made.clone());
        made
    }

    fn make_convincing(&self, claim: Slot, cast: &Cast) -> Option<PreparedCertificate<Symbolic>> {
        let evidence = self.evidence(claim, cast).into_iter();
        let mut certificates = evidence.map(|evidence| self.sealed(claim, evidence));
        certificates.find(|certificate| self.convinces(certificate))
    }

    /// Whether a VIEW-CHANGE with this certificate alone, to whichever view, is accepted. It is a correct
    /// replica's, so that nothing else can be wrong with it, and goes nowhere.
    fn convinces(&self, certificate: &PreparedCertificate<Symbolic>) -> bool {
        self.views().any(|view| {
            let (n, stable, prepared) = (SeqNo(0), None, vec![certificate.clone()]);
            let content = ViewChange { view, n, stable, prepared, replica: self.wide.id };
            verify(&self.wide, Message::ViewChange(Arc::new(self.wide.sign(content)))).is_ok()
        })
    }

    fn sealed(
        &self,
        (view, n, digest): Slot,
        evidence: Evidence<Signature>,
    ) -> PreparedCertificate<Symbolic> {
        let content = PrePrepare { view, n, digest };
        let valid = |evidence: &_| prepared_evidence_proves(&self.judge, content, evidence);
        let proof = Symbolic::seal(Claim::Prepared(view, n, digest), evidence, &valid);
        PreparedCertificate { view, n, digest, proof }
    }

    /// What can be shown for a claim, the soundest first.
    fn evidence(&self, claim: Slot, cast: &Cast) -> Vec<Evidence<Signature>> {
        let (view, n, digest) = claim;
        let primary = self.primary(view);
        let proposal = PrePrepare { view, n, digest };
        let mut sound: BTreeMap<ReplicaId, Signature> =
            cast.prepares.get(&claim).cloned().unwrap_or_default();
        let content = |replica| Prepare { view, n, digest, replica };
        for setup in self.members().filter(|setup| setup.id != primary) {
            sound.insert(setup.id, self.vote(content(setup.id), setup.id).1);
        }
        let sound: Votes = sound.into_iter().collect();
        let lists = self.with_unsound_votes(&sound, &content, &|voter| cast.vote_for_another(voter, claim));
        let genuine = self.holds(primary).map(|_| self.vote(proposal, primary).1);
        let genuine = genuine.or_else(|| cast.proposals.get(&claim).copied());
        let forged = Some(self.vote(proposal, primary).1).filter(|_| genuine.is_none());
        let proposals = [genuine, forged, None].into_iter().enumerate();
        let proposals = proposals.filter(|(place, proposal)| proposal.is_some() || *place == 2);
        let both =
            proposals.flat_map(|(_, proposal)| lists.iter().map(move |votes| (proposal, votes.clone())));
        both.map(|(proposal, votes)| Evidence { proposal, votes }).collect()
    }

    /// The votes, by themselves; then each often; with those of all others, the outsider's too, unsigned or
    /// for something else; with one such only; and none.
    fn with_unsound_votes<T: Content<Form = Single>>(
        &self,
        sound: &Votes,
        content: &dyn Fn(ReplicaId) -> T,
        for_another: &dyn Fn(ReplicaId) -> Option<Signature>,
    ) -> Vec<Votes> {
        let n = self.judge.cluster.n();
        let lacks = |name: &&ReplicaId| !sound.iter().any(|(voter, _)| voter == *name);
        let others: Vec<ReplicaId> = self.names.iter().filter(lacks).copied().collect();
        let mut lists = vec![sound.clone()];
        // Each often: as many as a certificate needs, a quorum, all there are, and twice that.
        let quorum = self.judge.cluster.quorum();
        lists.extend(
            [quorum - 1, quorum, n, 2 * n]
                .map(|length| sound.iter().copied().cycle().take(length).collect::<Votes>()),
        );
        let mut all_forged = sound.clone();
        let mut all_for_another = sound.clone();
        for &name in &others {
            let vote = self.vote(content(name), name);
            lists.push([&sound[..], &[vote]].concat());
            let another = for_another(name).map(|signature| (name, signature));
            lists.extend(another.map(|vote| [&sound[..], &[vote]].concat()));
            if self.judge.cluster.contains(name) {
                all_forged.push(vote);
                all_for_another.extend(another);
            }
        }
        lists.extend([all_forged.clone(), all_for_another]);
        // Backups alone, and no more of them than are needed.
        let few = all_forged.len().min(self.judge.cluster.quorum());
        lists.extend((1..=few).map(|count| all_forged[all_forged.len() - count..].to_vec()));
        lists.push(Votes::new());
        lists
    }

    /// Certificates for which nobody has voted: of backups as many as are needed, with signatures that are
    /// not theirs; and without any vote at all.
    pub(super) fn forged_certificates(&self, claim: Slot) -> [PreparedCertificate<Symbolic>; 2] {
        let (view, n, digest) = claim;
        let primary = self.primary(view);
        let backups = self.judge.cluster.replicas().filter(|&replica| replica != primary);
        let votes = backups.take(self.judge.cluster.quorum() - 1);
        let votes = votes.map(|replica| self.vote(Prepare { view, n, digest, replica }, replica)).collect();
        let proposal = Some(self.vote(PrePrepare { view, n, digest }, primary).1);
        let nothing = Evidence { proposal: None, votes: Vec::new() };
        [Evidence { proposal, votes }, nothing].map(|evidence| self.sealed(claim, evidence))
    }

    // --- checkpoints ---

    /// Proofs that a checkpoint at this number is stable, one for each state of which receivers can be
    /// convinced.
    pub(super) fn stable(&self, n: SeqNo, sent: &[&Msg]) -> Vec<Msg> {
        let mut offered = Vec::new();
        for digest in self.states(sent) {
            let mut votes: BTreeMap<ReplicaId, Signature> = BTreeMap::new();
            let mut others: BTreeMap<ReplicaId, Signature> = BTreeMap::new();
            for message in sent {
                let Message::Checkpoint(m) = message else { continue };
                let is_for_this = (m.content.n, m.content.digest) == (n, digest);
                let of = if is_for_this { &mut votes } else { &mut others };
                of.insert(m.content.replica, m.signature);
            }
            let content = |replica| Checkpoint { n, digest, replica };
            for setup in self.members() {
                votes.insert(setup.id, self.vote(content(setup.id), setup.id).1);
            }
            let votes: Votes = votes.into_iter().collect();
            let lists = self.with_unsound_votes(&votes, &content, &|voter| others.get(&voter).copied());
            for votes in lists {
                let certificate = self.sealed_stable(n, digest, votes);
                let is_sound = certificate.proof.is_accepted();
                if self.offer(&mut offered, is_sound, Message::Stable(certificate)) {
                    break;
                }
            }
        }
        offered
    }

    /// A proof for which nobody has voted.
    pub(super) fn unvoted_stable(&self, n: SeqNo, digest: Digest) -> StableCertificate<Symbolic> {
        self.sealed_stable(n, digest, Votes::new())
    }

    fn sealed_stable(&self, n: SeqNo, digest: Digest, votes: Votes) -> StableCertificate<Symbolic> {
        let valid = |evidence: &_| stable_evidence_proves(&self.judge, n, digest, evidence);
        let evidence = Evidence { proposal: None, votes };
        StableCertificate { n, digest, proof: Symbolic::seal(Claim::Stable(n, digest), evidence, &valid) }
    }

    /// Proofs for states that nobody has and for the initial one, for which nobody has voted.
    pub(super) fn forged_stable(&self) -> Vec<StableCertificate<Symbolic>> {
        let mut forged = Vec::new();
        for n in self.numbers() {
            for digest in NOBODYS.into_iter().chain([self.genesis]) {
                let voters = self.judge.cluster.replicas().take(self.judge.cluster.quorum());
                let votes = voters.map(|replica| self.vote(Checkpoint { n, digest, replica }, replica));
                forged.push(self.sealed_stable(n, digest, votes.collect()));
                forged.push(self.sealed_stable(n, digest, Vec::new()));
            }
        }
        forged
    }

    /// Whether `signer` is the primary of `view`.
    pub(super) fn is_of_primary(&self, signer: Principal, view: View) -> bool {
        signer == Principal::Replica(self.primary(view))
    }
}
