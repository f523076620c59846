//! Noise_IK_25519_ChaChaPoly_BLAKE2s with empty payloads: host keys, and the two messages of a handshake.

use super::Why;
use super::header::{ANSWER_NOISE, FIRST_NOISE, SEALED_INDEX, TAG_BYTES};
use super::random::Random;
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash};
use snow::{Builder, HandshakeState, StatelessTransportState};
use std::fmt;

/// The handshake, in the notation of the Noise specification.
const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
/// What both ends must agree on before they can understand each other.
const PROLOGUE: &[u8; 16] = b"pbft datagrams 1";

/// The static X25519 key of one host. Peers know its public half; sessions are made from it, and never kept.
#[derive(Clone)]
pub struct HostKey {
    secret: [u8; 32],
    public: [u8; 32],
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey {:02x}{:02x}..", self.public[0], self.public[1])
    }
}

impl HostKey {
    /// The key with this secret half: any 32 bytes that nobody can guess.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        let mut dh = curve();
        dh.set(&secret);
        let mut public = [0; 32];
        public.copy_from_slice(dh.pubkey());
        HostKey { secret, public }
    }

    /// The key of the host of whoever has this ed25519 seed: another secret, so that neither is used for both,
    /// and none more to keep.
    pub fn of_identity(seed: &[u8; 32]) -> Self {
        let mut hash = <sha2::Sha256 as sha2::Digest>::new();
        sha2::Digest::update(&mut hash, b"pbft host key 1");
        sha2::Digest::update(&mut hash, seed);
        Self::from_secret(sha2::Digest::finalize(hash).into())
    }

    /// A new one.
    pub fn generate(random: &mut Random) -> Self {
        Self::from_secret(random.bytes())
    }

    /// The half to keep, in a file that only its owner can read.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The half to tell.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Whether a public key is one with which anybody could pose as its owner: the secret shared with it is
    /// zero, whatever this key is (RFC 7748, section 6.1).
    pub(super) fn shares_nothing_with(&self, public: &[u8; 32]) -> bool {
        let mut dh = curve();
        dh.set(&self.secret);
        let mut shared = [0; 32];
        dh.dh(public, &mut shared).is_err() || shared == [0; 32]
    }
}

fn curve() -> Box<dyn Dh> {
    DefaultResolver.resolve_dh(&DHChoice::Curve25519).expect("the curve is compiled in")
}

/// Gives a handshake the bytes of its ephemeral key, and no more: a second draw would be a mistake.
struct Once([u8; 32]);

/// The one draw.
struct Draw(Option<[u8; 32]>);

impl snow::types::Random for Draw {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        match self.0.take() {
            Some(key) if bytes.len() == key.len() => {
                bytes.copy_from_slice(&key);
                Ok(())
            }
            _ => Err(snow::Error::Rng),
        }
    }
}

impl CryptoResolver for Once {
    fn resolve_rng(&self) -> Option<Box<dyn snow::types::Random>> {
        Some(Box::new(Draw(Some(self.0))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// Who this host is in every handshake.
pub struct Identity {
    key: HostKey,
    domain: [u8; 32],
    params: NoiseParams,
}

/// The keys of a session.
pub struct Keys {
    pub transport: StatelessTransportState,
    /// A number that both ends know, and nobody can choose.
    pub rank: u64,
}

/// The nonce with which the responder seals its index. Those of datagrams never come near it.
const INDEX_NONCE: u64 = u64::MAX - 1;

impl Keys {
    /// The responder's index for the initiator. Handshakes have no payload, and in clear, who reads along
    /// could exchange it.
    pub fn seal_index(&self, index: u32) -> [u8; SEALED_INDEX] {
        let mut sealed = [0; SEALED_INDEX];
        let length = self.transport.write_message(INDEX_NONCE, &index.to_le_bytes(), &mut sealed);
        assert_eq!(length.ok(), Some(SEALED_INDEX), "an index has one length");
        sealed
    }

    fn open_index(&self, sealed: &[u8; SEALED_INDEX]) -> Result<u32, Why> {
        let mut index = [0; SEALED_INDEX - TAG_BYTES];
        let opened = self.transport.read_message(INDEX_NONCE, sealed, &mut index);
        opened.map(|_| u32::from_le_bytes(index)).map_err(|_| Why::BadHandshake)
    }
}

/// How far the initiator of a handshake has come.
pub enum Progress {
    /// It waits for an answer.
    Asked(Box<HandshakeState>),
    /// It has read this one, but for the index.
    Read(Box<Keys>, [u8; ANSWER_NOISE]),
    /// The keys have been taken.
    Done,
}

impl Progress {
    /// Takes the answer to a first message. A wrong one changes nothing.
    pub fn answered(
        &mut self,
        message: &[u8; ANSWER_NOISE],
        sender: &[u8; SEALED_INDEX],
    ) -> Result<(Keys, u32), Why> {
        if let Progress::Asked(handshake) = self {
            handshake.read_message(message, &mut []).map_err(|_| Why::BadHandshake)?;
        }
        let (keys, read) = match std::mem::replace(self, Progress::Done) {
            Progress::Asked(handshake) => (Box::new(keys(*handshake)), *message),
            Progress::Read(keys, read) => (keys, read),
            Progress::Done => return Err(Why::UnknownIndex),
        };
        let index = if read == *message { keys.open_index(sender) } else { Err(Why::BadHandshake) };
        match index {
            Ok(index) => Ok((*keys, index)),
            Err(why) => {
                *self = Progress::Read(keys, read);
                Err(why)
            }
        }
    }
}

impl Identity {
    /// A host of the cluster with this domain.
    pub fn new(key: HostKey, domain: [u8; 32]) -> Self {
        Identity { key, domain, params: PATTERN.parse().expect("the pattern is well-formed") }
    }

    /// The initiator's index is part of what both ends must agree on.
    fn prologue(&self, initiator: u32) -> [u8; 52] {
        let mut prologue = [0; 52];
        prologue[..16].copy_from_slice(PROLOGUE);
        prologue[16..48].copy_from_slice(&self.domain);
        prologue[48..].copy_from_slice(&initiator.to_le_bytes());
        prologue
    }

    fn builder<'a>(&'a self, ephemeral: [u8; 32], prologue: &'a [u8]) -> Builder<'a> {
        Builder::with_resolver(self.params.clone(), Box::new(Once(ephemeral)))
            .local_private_key(&self.key.secret)
            .and_then(|builder| builder.prologue(prologue))
            .expect("each is given once")
    }

    /// Makes a first message to the owner of `remote`. Three multiplications on the curve.
    pub fn initiate(
        &self,
        remote: &[u8; 32],
        index: u32,
        ephemeral: [u8; 32],
    ) -> (HandshakeState, [u8; FIRST_NOISE]) {
        let prologue = self.prologue(index);
        let mut handshake = self
            .builder(ephemeral, &prologue)
            .remote_public_key(remote)
            .and_then(Builder::build_initiator)
            .expect("everything that the pattern needs is given");
        let mut message = [0; FIRST_NOISE];
        let length = handshake.write_message(&[], &mut message).expect("the message fits");
        assert_eq!(length, message.len(), "the first message has one length");
        (handshake, message)
    }

    /// Answers a first message, if `knows` the static key that it shows. Four or five multiplications, two of
    /// them before that is asked.
    pub fn respond<T>(
        &self,
        message: &[u8; FIRST_NOISE],
        initiator: u32,
        ephemeral: [u8; 32],
        knows: impl FnOnce(&[u8; 32]) -> Option<T>,
    ) -> Result<(T, Keys, [u8; ANSWER_NOISE]), Why> {
        let prologue = self.prologue(initiator);
        let builder = self.builder(ephemeral, &prologue);
        let mut handshake = builder.build_responder().expect("everything that the pattern needs is given");
        handshake.read_message(message, &mut []).map_err(|_| Why::BadHandshake)?;
        let remote = handshake.get_remote_static().and_then(|key| key.try_into().ok());
        let who = remote.and_then(|remote| knows(&remote)).ok_or(Why::UnknownKey)?;
        let mut answer = [0; ANSWER_NOISE];
        let length = handshake.write_message(&[], &mut answer).map_err(|_| Why::BadHandshake)?;
        assert_eq!(length, answer.len(), "the second message has one length");
        Ok((who, keys(handshake), answer))
    }
}

/// The keys that come of a finished handshake.
fn keys(handshake: HandshakeState) -> Keys {
    let (rank, _) = handshake.get_handshake_hash().split_first_chunk().expect("a hash has 32 bytes");
    let rank = u64::from_le_bytes(*rank);
    let transport = handshake.into_stateless_transport_mode().expect("the handshake is finished");
    Keys { transport, rank }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_small_order_are_recognised() {
        let key = HostKey::from_secret([5; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        assert!(key.shares_nothing_with(&[0; 32]));
        assert!(key.shares_nothing_with(&one));
        assert!(!key.shares_nothing_with(&HostKey::from_secret([6; 32]).public()));
    }

    #[test]
    fn a_public_key_is_the_secret_times_the_base_point() {
        let mut nine = [0; 32];
        nine[0] = 9;
        let mut dh = curve();
        dh.set(&[1; 32]);
        let mut public = [0; 32];
        dh.dh(&nine, &mut public).unwrap();
        assert_eq!(HostKey::from_secret([1; 32]).public(), public);
    }

    #[test]
    fn hosts_of_another_cluster_do_not_understand_each_other() {
        let (a, b) = (HostKey::from_secret([1; 32]), HostKey::from_secret([2; 32]));
        let ask = |domain| Identity::new(a.clone(), domain).initiate(&b.public(), 7, [9; 32]).1;
        let here = Identity::new(b.clone(), [1; 32]);
        let answer = |message, index| here.respond(&message, index, [8; 32], |key| Some(*key));
        assert_eq!(answer(ask([1; 32]), 7).map(|(key, ..)| key).ok(), Some(a.public()));
        assert_eq!(answer(ask([2; 32]), 7).err(), Some(Why::BadHandshake));
        assert_eq!(answer(ask([1; 32]), 8).err(), Some(Why::BadHandshake), "the index is authenticated");
    }

    #[test]
    fn a_wrong_answer_does_not_spoil_a_handshake() {
        let (a, b) = (HostKey::from_secret([1; 32]), HostKey::from_secret([2; 32]));
        let (handshake, message) = Identity::new(a, [0; 32]).initiate(&b.public(), 7, [9; 32]);
        let (_, theirs, answer) =
            Identity::new(b, [0; 32]).respond(&message, 7, [8; 32], |_| Some(())).unwrap();
        let sender = theirs.seal_index(0x1234_5678);
        let mut progress = Progress::Asked(Box::new(handshake));
        for byte in 0..ANSWER_NOISE {
            let mut wrong = answer;
            wrong[byte] ^= 1;
            assert_eq!(progress.answered(&wrong, &sender).err(), Some(Why::BadHandshake));
        }
        for byte in 0..SEALED_INDEX {
            let mut wrong = sender;
            wrong[byte] ^= 0x80;
            assert_eq!(progress.answered(&answer, &wrong).err(), Some(Why::BadHandshake));
            assert_eq!(progress.answered(&[0; ANSWER_NOISE], &sender).err(), Some(Why::BadHandshake));
        }
        let (keys, index) = progress.answered(&answer, &sender).ok().unwrap();
        assert_eq!((keys.rank, index), (theirs.rank, 0x1234_5678));
        assert_eq!(progress.answered(&answer, &sender).err(), Some(Why::UnknownIndex));
    }
}
