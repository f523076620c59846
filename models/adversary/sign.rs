//! Signing, in one's own name and in others'.

use super::{Adversary, Own};
use crate::crypto::Symbolic;
use pbft::crypto::form::Single;
use pbft::crypto::{Content, Crypto, Signed};
use pbft::types::{Principal, ReplicaId};

impl Adversary {
    /// The configuration of a Byzantine replica, or of the outsider, by its name.
    pub(super) fn holds(&self, name: ReplicaId) -> Option<&Own> {
        self.signers.iter().find(|setup| setup.id == name)
    }

    /// The Byzantine replicas that are members.
    pub(super) fn members(&self) -> impl Iterator<Item = &Own> {
        self.signers.iter().filter(|setup| self.judge.cluster.contains(setup.id))
    }

    fn any_key(&self) -> &Own {
        self.signers.first().expect("the outsider at least has a key")
    }

    /// The content as signed by `name`: with its own key, or, without that, with another.
    pub(super) fn signed_by<T: Content>(&self, content: T, name: ReplicaId) -> Signed<T, Symbolic> {
        let key = self.holds(name).unwrap_or(self.any_key());
        Signed { signer: Principal::Replica(name), ..key.sign(content) }
    }

    /// The content as signed by everybody: with his own key where that is at hand. A client is among them.
    pub(super) fn signed_by_everybody<T: Content + Clone>(&self, content: &T) -> Vec<Signed<T, Symbolic>> {
        let mut signed: Vec<_> =
            self.names.iter().map(|&name| self.signed_by(content.clone(), name)).collect();
        signed.push(Signed::new(content.clone(), &self.outsiders_client));
        signed
    }

    /// Whether this is a Byzantine member's own signature over something that bears no other name.
    pub(super) fn is_own<T: Content>(&self, signed: &Signed<T, Symbolic>) -> bool {
        let own = self.members().any(|setup| Principal::Replica(setup.id) == signed.signer);
        own && signed.content.sender().is_none_or(|sender| sender == signed.signer)
    }

    /// `voter`'s signature over `content`, with another key if its own is not at hand.
    pub(super) fn vote<T: Content<Form = Single>>(
        &self,
        content: T,
        voter: ReplicaId,
    ) -> (ReplicaId, <Symbolic as Crypto>::Signature) {
        (voter, self.signed_by(content, voter).signature)
    }
}
