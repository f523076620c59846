//! Symbolic signatures: perfect by construction, and cheap.
//!
//! A signature is the pair of its signer and the digest of what was signed, and only
//! [`Crypto::sign`], with the signer's own keys, makes one; so nobody can forge, as Dolev and Yao have it.
//! A certificate's proof says only whether the production validation accepted the votes it was made of:
//! what a replica does never depends on which replicas signed.

use pbft::crypto::{Claim, Crypto, Evidence, ed25519::Ed25519};
use pbft::types::{ClientId, Digest, Principal, ReplicaId};
use serde::{Deserialize, Serialize};

/// The scheme used in models.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Symbolic;

/// Who signed what. The fields are private: a signature cannot be made up.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Signature {
    signer: Principal,
    content: Digest,
}

/// What a certificate claims, and whether the production validation accepted the votes for it. The fields are
/// private: a proof of one claim cannot be made to prove another.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Proof {
    claim: Claim,
    accepted: bool,
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
    /// Everybody can check their signatures. So what keeps them out is that they are no members, the rule of the
    /// protocol, and not that their keys happen to be unknown.
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

    fn seal(
        claim: Claim,
        evidence: Evidence<Signature>,
        valid: &dyn Fn(&Evidence<Signature>) -> bool,
    ) -> Proof {
        Proof { claim, accepted: valid(&evidence) }
    }

    fn holds(claim: Claim, proof: &Proof, _: &dyn Fn(&Evidence<Signature>) -> bool) -> bool {
        proof.accepted && proof.claim == claim
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
}
