//! Which host speaks for a replica or a client: a statement signed with its ed25519 key. And which may ask how
//! replicas do: a statement of a replica.
//!
//! The signature is over the domain of the cluster, the tag of this kind of statement, and the statement, as
//! every signature of this crate is: it is worth nothing in another cluster or for another statement. Several
//! replicas and clients may be bound to one host key, and each says so itself. A binding says nothing about
//! when: to take a key away, the table that was made from bindings is made anew without it.

use crate::crypto::form::Single;
use crate::crypto::{Content, Crypto, Signed};
use crate::rejection::Rejection;
use crate::replica::verify::Membership;
use crate::rules::Rules;
use crate::types::Principal;
use serde::{Deserialize, Serialize};

/// "This X25519 key is my host's."
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Binding {
    /// Who says so.
    pub owner: Principal,
    /// The public half of the [`HostKey`](super::HostKey).
    pub host: [u8; 32],
}

/// "The host with this X25519 key may ask how replicas do, and may do nothing else."
///
/// An observer has no identity of its own, as nothing is done in its name: a replica admits it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Admission {
    /// The public half of the [`HostKey`](super::HostKey).
    pub host: [u8; 32],
}

impl Content for Admission {
    const TAG: u8 = 36;
    type Form = Single;
    fn sender(&self) -> Option<Principal> {
        None
    }
}

/// The host that is admitted, if a replica has signed that.
///
/// # Errors
/// If the signer is no replica, or did not sign this for this cluster.
pub fn verify_admission<C: Crypto, R: Rules>(
    members: &Membership<'_, C, R>,
    signed: &Signed<Admission, C>,
) -> Result<[u8; 32], Rejection> {
    if !matches!(signed.signer, Principal::Replica(_)) {
        return Err(Rejection::SignerIsNotSender);
    }
    members.check(signed)?;
    Ok(signed.content.host)
}

impl Content for Binding {
    const TAG: u8 = 35;
    type Form = Single;
    fn sender(&self) -> Option<Principal> {
        Some(self.owner)
    }
}

/// What a binding says, if its owner is a member and has signed it.
///
/// It is the owner's word alone. Nobody can bind a key to somebody else, but anybody may name a key whose
/// secret half another host holds; that host then speaks for it too, which harms nobody else, as messages are
/// signed by whom they are from.
///
/// # Errors
/// If the signer is unknown, is not the owner named inside, or did not sign this for this cluster.
pub fn verify<C: Crypto, R: Rules>(
    members: &Membership<'_, C, R>,
    signed: &Signed<Binding, C>,
) -> Result<Binding, Rejection> {
    members.check(signed)?;
    Ok(signed.content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::ed25519::{Ed25519, KeyRing};
    use crate::rules::Pbft;
    use crate::types::{ClientId, Cluster, Digest, ReplicaId};
    use std::collections::BTreeMap;

    const R0: Principal = Principal::Replica(ReplicaId(0));
    const C0: Principal = Principal::Client(ClientId(0));

    fn ring(domain: u8, signer: Principal) -> KeyRing {
        let secret = |who| if who == R0 { [1; 32] } else { [2; 32] };
        let public = BTreeMap::from([R0, C0].map(|who| (who, KeyRing::public_key(&secret(who)))));
        KeyRing::new(Digest([domain; 32]), signer, &secret(signer), &public).unwrap()
    }

    fn judged(keys: &KeyRing, signed: &Signed<Binding, Ed25519>) -> Result<Binding, Rejection> {
        let cluster = Cluster::new(4, 1);
        verify(&Membership { cluster: &cluster, clients: 1, keys, rules: &Pbft }, signed)
    }

    #[test]
    fn several_owners_may_bind_one_host_each_for_itself() {
        for owner in [R0, C0] {
            let binding = Binding { owner, host: [9; 32] };
            let signed = Signed::new(binding, &ring(1, owner));
            assert_eq!(judged(&ring(1, R0), &signed), Ok(binding));
        }
        let others = Signed::new(Binding { owner: R0, host: [9; 32] }, &ring(1, C0));
        assert_eq!(judged(&ring(1, R0), &others), Err(Rejection::SignerIsNotSender));
    }

    #[test]
    fn a_replica_admits_an_observer_and_a_client_does_not() {
        let admission = Admission { host: [9; 32] };
        let cluster = Cluster::new(4, 1);
        let keys = ring(1, R0);
        let members = Membership { cluster: &cluster, clients: 1, keys: &keys, rules: &Pbft };
        let judged = |signed| verify_admission::<Ed25519, _>(&members, &signed);
        assert_eq!(judged(Signed::new(admission, &ring(1, R0))), Ok([9; 32]));
        assert_eq!(judged(Signed::new(admission, &ring(1, C0))), Err(Rejection::SignerIsNotSender));
        assert_eq!(judged(Signed::new(admission, &ring(2, R0))), Err(Rejection::BadSignature));
        let mut other = Signed::new(admission, &ring(1, R0));
        other.content.host = [8; 32];
        assert_eq!(judged(other), Err(Rejection::BadSignature));
    }

    #[test]
    fn a_binding_for_one_cluster_or_key_is_worth_nothing_for_another() {
        let signed = Signed::new(Binding { owner: C0, host: [9; 32] }, &ring(1, C0));
        assert_eq!(judged(&ring(2, R0), &signed), Err(Rejection::BadSignature));
        let mut altered = signed.clone();
        altered.content.host = [8; 32];
        assert_eq!(judged(&ring(1, R0), &altered), Err(Rejection::BadSignature));
        let stranger = Principal::Client(ClientId(7));
        let unknown = Signed { signer: stranger, ..signed };
        assert_eq!(judged(&ring(1, R0), &unknown), Err(Rejection::UnknownSender));
    }
}
