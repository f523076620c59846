//! What messages are made of: signatures that have been seen or can be made, and every certificate that can
//! be put together from them, sound or not.

use crate::form::{LOWEST, NOBODYS};
use crate::setting::Setting;
use crate::walk::Situation;
use crate::{C, Msg, Own};
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::form::Single;
use pbft::crypto::{Claim, Content, Crypto, Evidence, Signed};
use pbft::message::{Batch, Checkpoint, Message, PrePrepare, Prepare, Request, ViewChange};
use pbft::replica::verify::{prepared_evidence_proves, stable_evidence_proves};
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Signature = <C as Crypto>::Signature;
type Votes = Vec<(ReplicaId, Signature)>;

/// Random choices of votes, with repetitions, tried for each claim besides every subset.
const SAMPLES: usize = 12;

/// Certificates that were not accepted when they were put together and are shown to receivers all the same,
/// in the mean.
const TRIED: usize = 200;

/// What a situation offers to build from.
pub struct Parts {
    pub views: Vec<View>,
    pub numbers: Vec<SeqNo>,
    /// Of batches that receivers accept, of the null request, and nobody's.
    pub digests: Vec<Digest>,
    /// Of states that somebody has, and nobody's.
    pub states: Vec<Digest>,
    /// Of the clients' requests, and others that are accepted.
    pub batches: Vec<Arc<Batch<C>>>,
    /// With requests that are made up.
    pub refused_batches: Vec<Arc<Batch<C>>>,
    pub proposals: Vec<Signed<PrePrepare, C>>,
    pub view_changes: Vec<Arc<Signed<ViewChange<C>, C>>>,
    /// Every certificate found, and those of them that prove something.
    pub prepared: Vec<PreparedCertificate<C>>,
    pub proved: Vec<PreparedCertificate<C>>,
    pub stable: Vec<StableCertificate<C>>,
    pub proved_stable: Vec<StableCertificate<C>>,
    /// How many sets of votes were tried.
    pub tried: usize,
}

impl Parts {
    pub fn of(setting: &Setting, situation: &Situation, rng: &mut ChaCha8Rng) -> Self {
        let authentic = |batch: &Arc<Batch<C>>| {
            batch.requests.iter().all(|m| setting.requests.contains(&Message::Request(m.clone())))
        };
        let (batches, refused_batches) = (batches(setting).into_iter())
            .partition(|batch| authentic(batch) || setting.accepts(&Message::Batch(batch.clone())));
        let mut parts = Parts {
            views: (0..=setting.config.max_view.0 + 1).map(View).collect(),
            numbers: (0..=setting.config.max_seq.0 + 2).map(SeqNo).collect(),
            digests: vec![Digest::NULL, NOBODYS, LOWEST],
            states: vec![setting.genesis, NOBODYS, LOWEST],
            batches,
            refused_batches,
            proposals: Vec::new(),
            view_changes: Vec::new(),
            prepared: Vec::new(),
            proved: Vec::new(),
            stable: Vec::new(),
            proved_stable: Vec::new(),
            tried: 0,
        };
        let named = parts.batches.iter().filter(|batch| batch.requests.len() <= setting.config.max_batch);
        parts.digests.extend(named.map(|batch| batch.digest()));
        let seen = parts.take_apart(situation);
        dedup(&mut parts.digests);
        dedup(&mut parts.states);
        dedup(&mut parts.proposals);
        parts.certify_prepared(setting, &seen, rng);
        parts.certify_stable(setting, &seen, rng);
        parts
    }

    /// Everything that is signed inside of what has been sent.
    fn take_apart(&mut self, situation: &Situation) -> Seen {
        let mut seen = Seen::default();
        for message in &situation.sent {
            match message {
                Message::PrePrepare(m, _) => self.proposals.push(m.clone()),
                Message::NewView(m) => {
                    self.proposals.extend(m.content.pre_prepares.iter().cloned());
                    self.view_changes.extend(m.content.view_changes.iter().cloned());
                }
                Message::ViewChange(m) => self.view_changes.push(m.clone()),
                Message::Prepare(m) => {
                    let Prepare { view, n, digest, replica } = m.content;
                    let votes = seen.prepares.entry((view, n, digest)).or_default();
                    votes.push((replica, m.signature));
                }
                Message::Checkpoint(m) => {
                    let Checkpoint { n, digest, replica } = m.content;
                    seen.checkpoints.entry((n, digest)).or_default().push((replica, m.signature));
                    self.states.push(digest);
                }
                _ => {}
            }
        }
        for m in self.view_changes.clone() {
            self.prepared.extend(m.content.prepared.iter().cloned());
            self.stable.extend(m.content.stable.iter().cloned());
        }
        seen
    }

    fn certify_prepared(&mut self, setting: &Setting, seen: &Seen, rng: &mut ChaCha8Rng) {
        let mut found: BTreeSet<_> = std::mem::take(&mut self.prepared).into_iter().collect();
        for (view, n, digest) in product(&self.views, &self.numbers, &self.digests) {
            let content = PrePrepare { view, n, digest };
            let mut votes = seen.prepares.get(&(view, n, digest)).cloned().unwrap_or_default();
            votes.extend(
                setting
                    .keys
                    .iter()
                    .map(|own| (own.id, own.sign(Prepare { view, n, digest, replica: own.id }).signature)),
            );
            let signed = self.proposals.iter().filter(|m| m.content == content).map(|m| m.signature);
            let own = setting.keys.iter().map(|own| own.sign(content).signature);
            let proposals: Vec<_> = [None].into_iter().chain(signed.chain(own).map(Some)).collect();
            let mut seal = |proposal, votes| {
                let evidence = Evidence { proposal, votes };
                let valid = |evidence: &_| prepared_evidence_proves(&setting.correct[0], content, evidence);
                let proof = C::seal(Claim::Prepared(view, n, digest), evidence, &valid);
                found.insert(PreparedCertificate { view, n, digest, proof });
                self.tried += 1;
            };
            for votes in choices(&votes, setting, rng) {
                proposals.iter().for_each(|&proposal| seal(proposal, votes.clone()));
            }
            let others: Votes = seen.prepares.values().flatten().copied().collect();
            let vote = |replica| Prepare { view, n, digest, replica };
            for _ in 0..SAMPLES {
                let proposal = match rng.random_range(0..3) {
                    0 => Some(setting.by_anybody(content, rng).signature),
                    _ => proposals.choose(rng).copied().flatten(),
                };
                seal(proposal, any_votes(setting, &votes, &others, &vote, rng));
            }
        }
        let mut convinces = |certificate: &PreparedCertificate<C>| {
            let is_tried = certificate.proof.is_accepted() || rng.random_range(0..found.len()) < TRIED;
            is_tried && setting.proves(certificate)
        };
        self.proved = found.iter().filter(|certificate| convinces(certificate)).cloned().collect();
        // And proofs of one claim attached to another.
        let proofs: Vec<_> = self.proved.iter().map(|certificate| certificate.proof.clone()).collect();
        for certificate in found.clone() {
            found.extend(
                proofs.choose(rng).cloned().map(|proof| PreparedCertificate { proof, ..certificate }),
            );
        }
        self.prepared = found.into_iter().collect();
    }

    fn certify_stable(&mut self, setting: &Setting, seen: &Seen, rng: &mut ChaCha8Rng) {
        let mut found: BTreeSet<_> = std::mem::take(&mut self.stable).into_iter().collect();
        for (_, n, digest) in product(&[View(0)], &self.numbers, &self.states) {
            let mut votes = seen.checkpoints.get(&(n, digest)).cloned().unwrap_or_default();
            votes.extend(setting.checkpoint_votes(n, digest));
            let others: Votes = seen.checkpoints.values().flatten().copied().collect();
            let vote = |replica| Checkpoint { n, digest, replica };
            let mut lists = choices(&votes, setting, rng);
            lists.extend((0..SAMPLES).map(|_| any_votes(setting, &votes, &others, &vote, rng)));
            for votes in lists {
                let evidence = Evidence { proposal: None, votes };
                let valid = |evidence: &_| stable_evidence_proves(&setting.correct[0], n, digest, evidence);
                let proof = C::seal(Claim::Stable(n, digest), evidence, &valid);
                found.insert(StableCertificate { n, digest, proof });
                self.tried += 1;
            }
        }
        let proves = |stable: &&StableCertificate<C>| setting.accepts(&Message::Stable((*stable).clone()));
        self.proved_stable = found.iter().filter(proves).cloned().collect();
        let proofs: Vec<_> = self.proved_stable.iter().map(|stable| stable.proof.clone()).collect();
        for stable in found.clone() {
            found.extend(proofs.choose(rng).cloned().map(|proof| StableCertificate { proof, ..stable }));
        }
        self.stable = found.into_iter().collect();
    }
}

/// Votes seen, by what they are for.
#[derive(Default)]
struct Seen {
    prepares: BTreeMap<(View, SeqNo, Digest), Votes>,
    checkpoints: BTreeMap<(SeqNo, Digest), Votes>,
}

fn dedup<T: Ord>(list: &mut Vec<T>) {
    list.sort();
    list.dedup();
}

/// Every combination of the three.
pub fn product(views: &[View], numbers: &[SeqNo], digests: &[Digest]) -> Vec<(View, SeqNo, Digest)> {
    let slots = views.iter().flat_map(|&view| numbers.iter().map(move |&n| (view, n)));
    slots.flat_map(|(view, n)| digests.iter().map(move |&digest| (view, n, digest))).collect()
}

/// Every subset of the votes, each subset with one voter repeated until the votes are many, and random ones
/// with repetitions.
fn choices(votes: &Votes, setting: &Setting, rng: &mut ChaCha8Rng) -> Vec<Votes> {
    let most = 2 * setting.config.cluster.n();
    let mut all = Vec::new();
    for subset in 0..1_u32 << votes.len().min(6) {
        let chosen: Votes =
            votes.iter().enumerate().filter(|(i, _)| subset >> i & 1 == 1).map(|(_, &vote)| vote).collect();
        all.extend(
            (chosen.len() + 1..=most)
                .step_by(3)
                .map(|length| chosen.iter().copied().cycle().take(length).collect::<Votes>()),
        );
        all.push(chosen);
    }
    for _ in 0..if votes.len() > 1 { SAMPLES } else { 0 } {
        let length = rng.random_range(1..=most + 1);
        all.push((0..length).filter_map(|_| votes.choose(rng).copied()).collect());
    }
    all
}

/// Votes as they come: good ones, with keys that are not the voters', for something else, in any name; most
/// often as many as a quorum has, and one each.
fn any_votes<T: Content<Form = Single>>(
    setting: &Setting,
    good: &Votes,
    others: &Votes,
    vote: &dyn Fn(ReplicaId) -> T,
    rng: &mut ChaCha8Rng,
) -> Votes {
    let cluster = setting.config.cluster;
    let length = match rng.random_range(0..4) {
        0 => rng.random_range(0..=2 * cluster.n() + 1),
        1 => cluster.quorum() - 1,
        _ => cluster.quorum(),
    };
    let names = u16::try_from(cluster.n()).unwrap_or_default() + 2;
    let (tidy, doubtful) = (rng.random_range(0..4) > 0, rng.random_range(0..4));
    let mut votes = Votes::new();
    for _ in 0..4 * length {
        let name = ReplicaId(rng.random_range(0..names));
        let doubted = rng.random_range(0..3) < doubtful;
        let chosen = match (doubted, rng.random_range(0..2)) {
            (false, _) => good.choose(rng).copied(),
            (true, 0) => others.choose(rng).copied(),
            (true, _) => Some((name, setting.by_anybody(vote(name), rng).signature)),
        };
        let Some((name, signature)) = chosen else { continue };
        let again = votes.iter().any(|&(voter, _)| voter == name);
        if votes.len() < length && !(tidy && again) {
            votes.push((name, signature));
        }
    }
    votes
}

/// Every list of up to one more of the clients' requests than fit in a batch, and of up to as many with some
/// that are made up.
fn batches(setting: &Setting) -> Vec<Arc<Batch<C>>> {
    let most = setting.config.max_batch;
    let everything: Vec<Msg> = setting.requests.iter().chain(&setting.made_up).cloned().collect();
    let mut all = lists(&setting.requests, most + 1);
    all.extend(lists(&everything, most));
    dedup(&mut all);
    all.into_iter().map(|requests| Arc::new(Batch { requests })).collect()
}

/// Every list of up to `most` of the requests.
fn lists(requests: &[Msg], most: usize) -> Vec<Vec<Signed<Request, C>>> {
    let requests: Vec<_> = requests
        .iter()
        .filter_map(|m| if let Message::Request(request) = m { Some(request.clone()) } else { None })
        .collect();
    let mut all = vec![Vec::new()];
    let mut longest = vec![Vec::new()];
    for _ in 0..most {
        longest = (longest.iter())
            .flat_map(|list| requests.iter().map(move |m| [&list[..], std::slice::from_ref(m)].concat()))
            .collect();
        all.extend(longest.iter().cloned());
    }
    all
}

/// Each key with each name to sign in: of every replica, of the outsider and of nobody.
pub fn in_every_name(setting: &Setting) -> Vec<(Own, ReplicaId)> {
    let names = (0..=setting.config.cluster.n() + 1).map(|i| ReplicaId(u16::try_from(i).unwrap_or_default()));
    let names: Vec<_> = names.collect();
    setting.keys.iter().flat_map(|own| names.iter().map(move |&name| (own.clone(), name))).collect()
}
