//! VIEW-CHANGEs and NEW-VIEWs that nothing entitles a replica to. The envelope bears its own, valid
//! signature; what is inside claims what others have never signed.

use super::Byzantine;
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::{Crypto, Evidence, Signed};
use pbft::message::{Checkpoint, Message, NewView, PrePrepare, Prepare, ViewChange};
use pbft::replica::{Bundle, compute_o};
use pbft::types::{Digest, Principal, ReplicaId, SeqNo, View};
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

type Signature<B> = <<B as Bundle>::Crypto as Crypto>::Signature;
type ViewChangeOf<B> = Signed<ViewChange<<B as Bundle>::Crypto>, <B as Bundle>::Crypto>;

impl<B: Bundle> Byzantine<B> {
    /// A VIEW-CHANGE, or a NEW-VIEW made of such, for a view ahead.
    pub(super) fn forgery(&self, rng: &mut ChaCha8Rng) -> Message<B::Crypto> {
        let view = self.view_ahead(rng);
        if rng.random_range(0..3) == 0 {
            Message::NewView(Arc::new(self.forged_new_view(view, rng)))
        } else {
            Message::ViewChange(Arc::new(self.setup.sign(self.forged_view_change(view, rng))))
        }
    }

    /// The next view most of the time, else one far ahead.
    fn view_ahead(&self, rng: &mut ChaCha8Rng) -> View {
        let current = self.core.leaving().unwrap_or(self.core.view()).0;
        View(match rng.random_range(0..10) {
            0 => u64::MAX - rng.random_range(0..8),
            1 => current.saturating_add(rng.random_range(1_000..1_000_000)),
            2..=4 => current.saturating_add(rng.random_range(2..6)),
            _ => current.saturating_add(1),
        })
    }

    fn forged_view_change(&self, view: View, rng: &mut ChaCha8Rng) -> ViewChange<B::Crypto> {
        let stable = self.claimed_checkpoint(rng);
        let n = stable.as_ref().map_or(SeqNo(0), |certificate| certificate.n);
        let mut above: Vec<SeqNo> = (0..rng.random_range(0..4))
            .map(|_| SeqNo(n.0.saturating_add(rng.random_range(1..self.setup.parameters.window + 2))))
            .collect();
        above.sort_unstable();
        if rng.random_range(0..8) > 0 {
            above.dedup();
        }
        let prepared = above.into_iter().map(|n| self.claimed_batch(view, n, rng)).collect();
        ViewChange { view, n, stable, prepared, replica: self.setup.id }
    }

    /// The initial state or an old checkpoint long after it has been replaced, the true one, or an invented
    /// one.
    fn claimed_checkpoint(&self, rng: &mut ChaCha8Rng) -> Option<StableCertificate<B::Crypto>> {
        let known = self.seen.iter().filter_map(|message| match message {
            Message::Stable(certificate) => Some(certificate),
            Message::ViewChange(m) => m.content.stable.as_ref(),
            _ => None,
        });
        let interval = self.setup.parameters.checkpoint_interval;
        let h = self.core.watermarks(&self.setup).h.0;
        let ahead = SeqNo(h.saturating_add(interval * rng.random_range(0..4)));
        match rng.random_range(0..6) {
            0 => None,
            1 => known.collect::<Vec<_>>().choose(rng).map(|&certificate| certificate.clone()),
            2 | 3 => self.core.durable().stable.clone(),
            4 => Some(self.forged_checkpoint(ahead, self.digest(rng))),
            _ => {
                // Votes of a quorum, each with a signature that its voter did not make for this.
                let digest = self.digest(rng);
                let votes = self.setup.cluster.replicas().take(self.setup.cluster.quorum());
                let vote =
                    |replica| (replica, self.setup.sign(Checkpoint { n: ahead, digest, replica }).signature);
                Some(self.claim_stable(ahead, digest, votes.map(vote).collect()))
            }
        }
    }

    /// A certificate that this batch, which perhaps nobody has proposed, prepared before `target`.
    fn claimed_batch(&self, target: View, n: SeqNo, rng: &mut ChaCha8Rng) -> PreparedCertificate<B::Crypto> {
        let digest = match rng.random_range(0..3) {
            0 => Digest(rng.random()),
            _ => self.digest(rng),
        };
        let view = View(match rng.random_range(0..4) {
            0 => Self::near(target.0.saturating_sub(1), rng),
            1 => target.0.saturating_sub(1),
            _ => self.core.view().0,
        });
        let proposal = PrePrepare { view, n, digest };
        match rng.random_range(0..6) {
            0 => self.forged(view, n, digest),
            1 => match self.known_certificates().choose(rng) {
                // A genuine proof, of something else.
                Some(&known) => PreparedCertificate { proof: known.proof.clone(), view, n, digest },
                None => self.forged(view, n, digest),
            },
            2 => match self.known_certificates().choose(rng) {
                // A genuine certificate, out of its place.
                Some(&known) => known.clone(),
                None => self.forged(view, n, digest),
            },
            _ => self.claim_prepared(proposal, self.claimed_votes(proposal, rng)),
        }
    }

    fn known_certificates(&self) -> Vec<&PreparedCertificate<B::Crypto>> {
        let seen = self.seen.iter().flat_map(|message| match message {
            Message::ViewChange(m) => &m.content.prepared[..],
            _ => &[],
        });
        seen.collect()
    }

    /// Votes of distinct backups for a proposal: signatures that they made for something else, or that this
    /// replica made in their place; sometimes too few of them.
    fn claimed_votes(&self, proposal: PrePrepare, rng: &mut ChaCha8Rng) -> Evidence<Signature<B>> {
        let PrePrepare { view, n, digest } = proposal;
        let cluster = &self.setup.cluster;
        let primary = cluster.primary(view);
        let genuine = rng.random_range(0..2) == 0;
        let own = |replica| self.setup.sign(Prepare { view, n, digest, replica }).signature;
        let vote = |replica| {
            let seen = self.seen.iter().find_map(|message| match message {
                Message::Prepare(m) if m.content.replica == replica => Some(m.signature.clone()),
                _ => None,
            });
            (replica, seen.filter(|_| genuine).unwrap_or_else(|| own(replica)))
        };
        let proposed = self.seen.iter().find_map(|message| match message {
            Message::PrePrepare(m, _) if m.signer == Principal::Replica(primary) => Some(m.signature.clone()),
            _ => None,
        });
        let proposed = proposed.filter(|_| genuine);
        let too_few = usize::from(rng.random_range(0..4) == 0);
        let mut backups: Vec<ReplicaId> = cluster.replicas().filter(|&replica| replica != primary).collect();
        backups.shuffle(rng);
        Evidence {
            proposal: Some(proposed.unwrap_or_else(|| self.setup.sign(proposal).signature)),
            votes: backups.into_iter().take(cluster.quorum() - 1 - too_few).map(vote).collect(),
        }
    }

    /// A NEW-VIEW from VIEW-CHANGEs that were never sent, or from too few that were. Most are for a view of
    /// which this replica is the primary, with the `O` that their VIEW-CHANGEs ask for.
    fn forged_new_view(&self, view: View, rng: &mut ChaCha8Rng) -> Signed<NewView<B::Crypto>, B::Crypto> {
        let cluster = &self.setup.cluster;
        let own_view = (0..cluster.n() as u64)
            .map(|further| View(view.0.saturating_add(further)))
            .find(|&view| cluster.primary(view) == self.setup.id);
        let view = own_view.filter(|_| rng.random_range(0..8) > 0).unwrap_or(view);
        let genuine = self.seen.iter().filter_map(|message| match message {
            Message::ViewChange(m) if m.content.view == view => Some(m.clone()),
            _ => None,
        });
        let mut view_changes: Vec<Arc<ViewChangeOf<B>>> = genuine.collect();
        view_changes.sort_by_key(|m| m.content.replica);
        view_changes.dedup_by_key(|m| m.content.replica);
        match rng.random_range(0..3) {
            // Too few.
            0 => view_changes.truncate(cluster.quorum() - 1),
            // As many as are needed, all by this replica.
            1 => {
                let own = Arc::new(self.setup.sign(self.forged_view_change(view, rng)));
                view_changes = vec![own; cluster.quorum()];
            }
            // What is missing is invented in others' names.
            _ => {
                for replica in cluster.replicas() {
                    let missing = view_changes.iter().all(|m| m.content.replica != replica);
                    if missing && view_changes.len() < cluster.quorum() {
                        view_changes.push(Arc::new(self.impersonated(replica, view, rng)));
                    }
                }
                view_changes.sort_by_key(|m| m.content.replica);
            }
        }
        let mut plan = compute_o(&view_changes, &self.setup.rules).entries;
        if rng.random_range(0..4) == 0
            && let Some((_, digest)) = plan.first_mut()
        {
            *digest = self.digest(rng);
        }
        let pre_prepares =
            plan.into_iter().map(|(n, digest)| self.setup.sign(PrePrepare { view, n, digest })).collect();
        self.setup.sign(NewView { view, view_changes: view_changes.into(), pre_prepares })
    }

    /// A VIEW-CHANGE in the name of another replica, with this one's signature.
    fn impersonated(&self, replica: ReplicaId, view: View, rng: &mut ChaCha8Rng) -> ViewChangeOf<B> {
        let content = ViewChange { replica, ..self.forged_view_change(view, rng) };
        Signed { signer: Principal::Replica(replica), ..self.setup.sign(content) }
    }
}
