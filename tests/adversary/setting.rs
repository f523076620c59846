//! A world, and what the adversary holds in it.

use crate::form::NOBODYS;
use crate::parts::{Parts, in_every_name};
use crate::walk::Situation;
use crate::{C, Msg, Own};
use pbft::certificate::PreparedCertificate;
use pbft::crypto::{Content, Crypto, Signed};
use pbft::message::{Checkpoint, Message, Request, ViewChange};
use pbft::parameters::{MAX_WINDOW, Parameters};
use pbft::replica::verify::verify;
use pbft::replica::{Effects, Replica, Setup};
use pbft::rules::Rules;
use pbft::types::{Bytes, ClientId, Digest, Principal, ReplicaId, SeqNo, Timestamp, View};
use pbft_models::adversary::{Adversary, Bounds};
use pbft_models::crypto::Keys;
use pbft_models::mutants::Rulebook;
use pbft_models::world::WorldConfig;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A world, and the keys that the adversary holds in it.
pub struct Setting {
    pub config: WorldConfig,
    pub correct: Vec<Own>,
    /// Of the Byzantine replicas, and of an outsider.
    pub keys: Vec<Own>,
    /// The same keys, and that of a client who is an outsider.
    pub hands: Vec<Keys>,
    /// Everybody in whose name a message can be signed: the replicas, the clients, an outsider and somebody
    /// unknown of each.
    pub signers: Vec<Principal>,
    pub requests: Vec<Msg>,
    /// Requests that no client has signed, or not like this.
    pub made_up: Vec<Msg>,
    pub genesis: Digest,
    pub adversary: Adversary,
    /// The keys whose votes are taken, and the names they are taken for.
    pub voices: Vec<(Own, ReplicaId)>,
    /// Whether canonical forms leave out what O says, which is wrong and must be noticed.
    pub blind_to_o: bool,
    /// Numbers for which the keys prove any state to be stable.
    pub free: BTreeSet<SeqNo>,
    /// A correct replica with the longest window, which hides no certificate that others would believe.
    pub wide: Own,
}

impl Setting {
    /// The adversary thinks that receivers follow `believed`; they follow the rules in `config`.
    pub fn new(config: WorldConfig, believed: Rulebook) -> Self {
        let setups = config.setups();
        let own = |replica: &ReplicaId| setups[usize::from(replica.0)].clone();
        let correct: Vec<_> = config.correct().iter().map(own).collect();
        let byzantine: Vec<_> = config.byzantine.iter().map(own).collect();
        let n = u16::try_from(config.cluster.n()).unwrap();
        let (outsider, client) = Keys::outsiders(n, config.requests);
        let outsider = Setup { id: ReplicaId(n), keys: Arc::new(outsider), ..(*correct[0]).clone() };
        let bounds =
            Bounds { max_view: config.max_view, max_seq: config.max_seq, max_batch: config.max_batch };
        let believing = |own: &Own| Arc::new(Setup { rules: believed, ..(**own).clone() });
        let judges: Vec<Own> = correct.iter().map(believing).collect();
        let requests = config.signed_requests();
        let adversary = Adversary::new(byzantine.clone(), &judges, &requests, bounds);
        let keys: Vec<_> = byzantine.into_iter().chain([Arc::new(outsider)]).collect();
        let hands: Vec<Keys> = keys.iter().map(|own| *own.keys).chain([client]).collect();
        let replicas = (0..=n + 1).map(|i| Principal::Replica(ReplicaId(i)));
        let clients = (0..=config.requests + 1).map(|i| Principal::Client(ClientId(i)));
        let made_up = made_up(&requests, hands[0], client, ClientId(config.requests));
        let parameters = Parameters { window: MAX_WINDOW, ..correct[0].parameters };
        let start = Replica::start(&correct[0], None, &mut Effects::new()).unwrap();
        let mut setting = Setting {
            wide: Arc::new(Setup { parameters, ..(*correct[0]).clone() }),
            correct,
            keys,
            hands,
            signers: replicas.chain(clients).collect(),
            requests: requests.into_iter().map(Message::Request).collect(),
            made_up: made_up.into_iter().map(Message::Request).collect(),
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
        self.correct.iter().any(|receiver| verify(receiver, message.clone()).is_ok())
    }

    /// Whether receivers can be convinced by this certificate in a VIEW-CHANGE.
    pub fn proves(&self, certificate: &PreparedCertificate<C>) -> bool {
        (0..=self.config.max_view.0 + 1).map(View).any(|view| {
            let (n, stable, prepared) = (SeqNo(0), None, vec![certificate.clone()]);
            let content = ViewChange { view, n, stable, prepared, replica: self.wide.id };
            verify(&self.wide, Message::ViewChange(Arc::new(self.wide.sign(content)))).is_ok()
        })
    }

    /// Signed with a key that the adversary has, in whoever's name.
    pub fn by_anybody<T: Content>(&self, content: T, rng: &mut ChaCha8Rng) -> Signed<T, C> {
        let signed = Signed::new(content, self.hands.choose(rng).expect("there is an outsider"));
        if rng.random_range(0..3) == 0 {
            return signed;
        }
        Signed { signer: *self.signers.choose(rng).expect("there are replicas"), ..signed }
    }

    pub fn checkpoint_votes(&self, n: SeqNo, digest: Digest) -> Vec<(ReplicaId, <C as Crypto>::Signature)> {
        let vote = |own: &Own| (own.id, own.sign(Checkpoint { n, digest, replica: own.id }).signature);
        self.keys.iter().map(vote).collect()
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

/// Requests signed with another key than the client's, in the client's name and in the signer's own; an
/// outsider's; and the first client's, changed after it was signed.
fn made_up(
    authentic: &[Signed<Request, C>],
    hand: Keys,
    outsider: Keys,
    name: ClientId,
) -> Vec<Signed<Request, C>> {
    let ask = |operation: &[u8], client| {
        let operation = Bytes::from(operation);
        Request { operation, timestamp: Timestamp(2), client, read_only: false }
    };
    let forged = Signed::new(ask(b"forged", ClientId(0)), &hand);
    let in_its_name = Signed { signer: Principal::Client(ClientId(0)), ..forged.clone() };
    let strange = Signed::new(ask(b"forged", ClientId(0)), &outsider);
    let mut all = vec![forged, in_its_name, strange, Signed::new(ask(b"outsider", name), &outsider)];
    for signed in authentic.iter().take(1) {
        let content = &signed.content;
        let changed = [
            Request { timestamp: Timestamp(2), ..content.clone() },
            Request { read_only: true, ..content.clone() },
            Request { operation: Bytes::from(&b"forged"[..]), ..content.clone() },
        ];
        all.extend(changed.map(|content| Signed { content, ..signed.clone() }));
    }
    all
}
