//! Symbolic signatures: perfect by construction, and cheap.
//!
//! A signature is the pair of its signer and the digest of what was signed, and only
//! [`Crypto::sign`], with the signer's own keys, makes one; so nobody can forge, as Dolev and Yao have it.
//!
//! A certificate's proof carries the votes that it was made of, and a receiver's validation is applied to
//! them, as in production. Two proofs of one claim whose votes the production validation accepted *when they
//! were made* count as equal, whoever voted, so that states do not multiply by who signed what: what a
//! replica does never depends on which replicas signed (`tests/certificates` delivers all of them). Proofs
//! whose votes it did not accept differ by their votes.

use pbft::crypto::{Claim, Crypto, Evidence, ed25519::Ed25519};
use pbft::types::{ClientId, Digest, Principal, ReplicaId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The scheme used in models.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Symbolic;

/// Who signed what. The fields are private: a signature cannot be made up.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Signature {
    signer: Principal,
    content: Digest,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signer {
            Principal::Replica(replica) => write!(f, "r{}:{:?}", replica.0, self.content),
            Principal::Client(client) => write!(f, "c{}:{:?}", client.0, self.content),
        }
    }
}

/// What a certificate claims, whether the production validation accepted the votes for it, and the votes. The
/// fields are private: a proof of one claim cannot be made to prove another.
#[derive(Clone, Debug)]
pub struct Proof {
    claim: Claim,
    accepted: bool,
    /// None once it has been written to bytes and read again.
    votes: Option<Arc<Evidence<Signature>>>,
}

/// What tells proofs apart: of those that were accepted, nothing but the claim.
type Class<'a> = (Claim, bool, Option<&'a Evidence<Signature>>);

impl Proof {
    fn class(&self) -> Class<'_> {
        (self.claim, self.accepted, self.votes.as_deref().filter(|_| !self.accepted))
    }

    /// Whether the production validation accepted the votes when the certificate was made.
    pub fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// The votes that it was made of, unless it was read from bytes.
    pub fn votes(&self) -> Option<&Evidence<Signature>> {
        self.votes.as_deref()
    }
}

impl PartialEq for Proof {
    fn eq(&self, other: &Self) -> bool {
        self.class() == other.class()
    }
}

impl Eq for Proof {}

impl Ord for Proof {
    fn cmp(&self, other: &Self) -> Ordering {
        self.class().cmp(&other.class())
    }
}

impl PartialOrd for Proof {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Proof {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.class().hash(state);
    }
}

/// What is signed of a proof is what tells it apart.
impl Serialize for Proof {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.class().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Proof {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (claim, accepted, votes): (Claim, bool, Option<Evidence<Signature>>) =
            Deserialize::deserialize(deserializer)?;
        Ok(Proof { claim, accepted, votes: votes.map(Arc::new) })
    }
}

/// The right to sign as one principal, and the principals whose signatures are known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keys {
    signer: Principal,
    replicas: u16,
    clients: u32,
}

impl Keys {
    /// The keys of each replica and of each client.
    pub fn all(replicas: u16, clients: u32) -> (Vec<Keys>, Vec<Keys>) {
        let keys = |signer| Keys { signer, replicas, clients };
        (
            (0..replicas).map(|i| keys(Principal::Replica(ReplicaId(i)))).collect(),
            (0..clients).map(|i| keys(Principal::Client(ClientId(i)))).collect(),
        )
    }

    /// The keys of somebody outside: one replica and one client more than there are.
    ///
    /// Everybody can check their signatures. So what keeps them out is that they are no members, the rule of
    /// the protocol, and not that their keys happen to be unknown.
    pub fn outsiders(replicas: u16, clients: u32) -> (Keys, Keys) {
        let keys = |signer| Keys { signer, replicas, clients };
        (keys(Principal::Replica(ReplicaId(replicas))), keys(Principal::Client(ClientId(clients))))
    }

    fn knows(&self, who: Principal) -> bool {
        match who {
            Principal::Replica(replica) => replica.0 <= self.replicas,
            Principal::Client(client) => client.0 <= self.clients,
        }
    }
}

impl Crypto for Symbolic {
    type Signature = Signature;
    /// Signatures cost nothing here: each message is signed by itself.
    type SharedSignature = Signature;
    type Proof = Proof;
    type Keys = Keys;

    fn digest(bytes: &[u8]) -> Digest {
        Ed25519::digest(bytes)
    }

    fn signer(keys: &Keys) -> Principal {
        keys.signer
    }

    fn sign(keys: &Keys, content: &[u8]) -> Signature {
        Signature { signer: keys.signer, content: Self::digest(content) }
    }

    fn verify(keys: &Keys, signer: Principal, content: &[u8], signature: &Signature) -> bool {
        keys.knows(signer) && signature.signer == signer && signature.content == Self::digest(content)
    }

    fn sign_together(keys: &Keys, contents: &[Vec<u8>]) -> Vec<Signature> {
        contents.iter().map(|content| Self::sign(keys, content)).collect()
    }

    fn verify_shared(keys: &Keys, signer: Principal, content: &[u8], signature: &Signature) -> bool {
        Self::verify(keys, signer, content, signature)
    }

    fn seal(
        claim: Claim,
        evidence: Evidence<Signature>,
        valid: &dyn Fn(&Evidence<Signature>) -> bool,
    ) -> Proof {
        Proof { claim, accepted: valid(&evidence), votes: Some(Arc::new(evidence)) }
    }

    fn holds(claim: Claim, proof: &Proof, valid: &dyn Fn(&Evidence<Signature>) -> bool) -> bool {
        match &proof.votes {
            Some(votes) => valid(votes),
            None => proof.accepted && proof.claim == claim,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_its_signers_over_its_content_only() {
        let (replicas, _) = Keys::all(2, 0);
        let signature = Symbolic::sign(&replicas[0], b"content");
        let (r0, r1) = (Principal::Replica(ReplicaId(0)), Principal::Replica(ReplicaId(1)));
        assert!(Symbolic::verify(&replicas[1], r0, b"content", &signature));
        assert!(!Symbolic::verify(&replicas[1], r1, b"content", &signature));
        assert!(!Symbolic::verify(&replicas[1], r0, b"another", &signature));
    }

    #[test]
    fn one_outsider_of_each_kind_can_be_checked_and_nobody_else() {
        let (replicas, _) = Keys::all(2, 1);
        let (replica, client) = Keys::outsiders(2, 1);
        for (keys, who) in
            [(replica, Principal::Replica(ReplicaId(2))), (client, Principal::Client(ClientId(1)))]
        {
            assert_eq!(Symbolic::signer(&keys), who);
            assert!(Symbolic::verify(&replicas[0], who, b"content", &Symbolic::sign(&keys, b"content")));
        }
        let (stranger, _) = Keys::outsiders(3, 1);
        let signature = Symbolic::sign(&stranger, b"content");
        assert!(!Symbolic::verify(&replicas[0], Symbolic::signer(&stranger), b"content", &signature));
    }

    #[test]
    fn proofs_that_were_accepted_differ_by_their_claim_alone_and_others_by_their_votes() {
        let (replicas, _) = Keys::all(3, 0);
        let claim = Claim::Stable(pbft::types::SeqNo(1), Digest([1; 32]));
        let by = |voter: usize| {
            let replica = ReplicaId(u16::try_from(voter).expect("a small number"));
            Evidence { proposal: None, votes: vec![(replica, Symbolic::sign(&replicas[voter], b"vote"))] }
        };
        let seal = |voter, accepted: bool| Symbolic::seal(claim, by(voter), &|_| accepted);
        assert_eq!(seal(0, true), seal(1, true));
        assert_ne!(seal(0, false), seal(1, false));
        assert_ne!(seal(0, true), seal(0, false));
        let bytes = |proof: &Proof| postcard::to_stdvec(proof).expect("it can be written");
        assert_eq!(bytes(&seal(0, true)), bytes(&seal(1, true)));
        assert_ne!(bytes(&seal(0, false)), bytes(&seal(1, false)));
    }

    #[test]
    fn the_receivers_validation_judges_the_votes() {
        let (replicas, _) = Keys::all(1, 0);
        let claim = Claim::Stable(pbft::types::SeqNo(1), Digest([1; 32]));
        let votes = vec![(ReplicaId(0), Symbolic::sign(&replicas[0], b"vote"))];
        let proof = Symbolic::seal(claim, Evidence { proposal: None, votes }, &|_| true);
        assert!(Symbolic::holds(claim, &proof, &|evidence| evidence.votes.len() == 1));
        assert!(!Symbolic::holds(claim, &proof, &|evidence| evidence.votes.len() == 2));
    }
}
