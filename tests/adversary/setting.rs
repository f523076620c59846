//! A world, and what the adversary holds in it.

use crate::form::NOBODYS;
use crate::parts::{Parts, in_every_name};
use crate::walk::Situation;
use crate::{C, Msg, Own};
use pbft::certificate::PreparedCertificate;
use pbft::crypto::{Claim, Crypto, Evidence};
use pbft::message::{Checkpoint, Message};
use pbft::replica::verify::verify;
use pbft::replica::{Effects, Replica, Setup};
use pbft::rules::Rules;
use pbft::types::{ClientId, Digest, Principal, ReplicaId, SeqNo};
use pbft_models::adversary::{Adversary, Bounds};
use pbft_models::crypto::Keys;
use pbft_models::mutants::Rulebook;
use pbft_models::world::WorldConfig;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A world, and the keys that the adversary holds in it.
pub struct Setting {
    pub config: WorldConfig,
    pub correct: Vec<Own>,
    /// Of the Byzantine replicas, and of an outsider.
    pub keys: Vec<Own>,
    pub requests: Vec<Msg>,
    /// Requests that the adversary makes up and receivers accept.
    pub own_requests: Vec<Msg>,
    pub genesis: Digest,
    pub adversary: Adversary,
    /// The keys whose votes are taken, and the names they are taken for.
    pub voices: Vec<(Own, ReplicaId)>,
    /// Whether canonical forms leave out what O says, which is wrong and must be noticed.
    pub blind_to_o: bool,
    /// Numbers for which the keys prove any state to be stable.
    pub free: BTreeSet<SeqNo>,
}

impl Setting {
    /// The adversary thinks that receivers follow `believed`; they follow the rules in `config`.
    pub fn new(config: WorldConfig, believed: Rulebook) -> Self {
        let setups = config.setups();
        let own = |replica: &ReplicaId| setups[usize::from(replica.0)].clone();
        let correct: Vec<_> = config.correct().iter().map(own).collect();
        let byzantine: Vec<_> = config.byzantine.iter().map(own).collect();
        let n = u16::try_from(config.cluster.n()).unwrap();
        let (outsider, _) = Keys::outsiders(n, config.requests);
        let outsider = Setup { id: ReplicaId(n), keys: Arc::new(outsider), ..(*correct[0]).clone() };
        let bounds =
            Bounds { max_view: config.max_view, max_seq: config.max_seq, max_batch: config.max_batch };
        let judge = Arc::new(Setup { rules: believed, ..(*correct[0]).clone() });
        let requests = config.signed_requests();
        let adversary = Adversary::new(byzantine.clone(), judge, &requests, bounds);
        let made_up =
            adversary.derive(&[]).into_iter().filter(|m| matches!(m, Message::Request(_))).collect();
        let start = Replica::start(&correct[0], None, &mut Effects::new()).unwrap();
        let mut setting = Setting {
            correct,
            keys: byzantine.into_iter().chain([Arc::new(outsider)]).collect(),
            requests: requests.into_iter().map(Message::Request).collect(),
            own_requests: made_up,
            genesis: start.durable().snapshot.tree.root(),
            adversary,
            voices: Vec::new(),
            blind_to_o: false,
            free: BTreeSet::new(),
            config,
        };
        let vote = |n: SeqNo, replica| Checkpoint { n, digest: NOBODYS, replica };
        let mut voices = in_every_name(&setting);
        voices
            .retain(|&(ref own, name)| setting.accepts(&Message::Checkpoint(own.sign(vote(SeqNo(1), name)))));
        setting.voices = voices;
        setting.free =
            (0..=setting.config.max_seq.0).map(SeqNo).filter(|&n| setting.proves_alone(n)).collect();
        setting
    }

    pub fn accepts(&self, message: &Msg) -> bool {
        verify(&self.correct[0], message.clone()).is_ok()
    }

    /// Whether receivers can be convinced by this certificate in a VIEW-CHANGE.
    pub fn proves(&self, certificate: &PreparedCertificate<C>) -> bool {
        let claim = Claim::Prepared(certificate.view, certificate.n, certificate.digest);
        let valid = |_: &Evidence<<C as Crypto>::Signature>| false;
        self.config.rules.certificates_verified(C::holds(claim, &certificate.proof, &valid))
    }

    pub fn checkpoint_votes(&self, n: SeqNo, digest: Digest) -> Vec<(ReplicaId, <C as Crypto>::Signature)> {
        let vote = |own: &Own| (own.id, own.sign(Checkpoint { n, digest, replica: own.id }).signature);
        self.keys.iter().map(vote).collect()
    }

    /// Whether receivers accept requests that no client has signed.
    pub fn makes_up_requests(&self) -> bool {
        let rules = &self.config.rules;
        let (byzantine, client) = (Principal::Replica(ReplicaId(0)), Principal::Client(ClientId(0)));
        !self.own_requests.is_empty() || rules.signer_is_sender(byzantine, client)
    }

    pub fn can_prove_any_state(&self, n: SeqNo) -> bool {
        self.free.contains(&n)
    }

    /// With a certificate, or by votes that receivers count.
    fn proves_alone(&self, n: SeqNo) -> bool {
        let rules = &self.config.rules;
        let names: BTreeSet<_> = self.voices.iter().map(|&(_, name)| name).collect();
        if names.len() >= rules.checkpoint_quorum(&self.config.cluster) || rules.one_vote_per_sender(true) {
            return n.0.is_multiple_of(self.config.parameters().checkpoint_interval);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let nothing = Situation { sent: BTreeSet::new(), states: Vec::new() };
        let parts = Parts::of(self, &nothing, &mut rng);
        parts.proved_stable.iter().any(|stable| (stable.n, stable.digest) == (n, NOBODYS))
    }
}
