//! What a replica keeps and sends, without the proofs and without the signatures over them.

use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::ed25519::{Ed25519, Signature};
use pbft::crypto::{Evidence, Signed};
use pbft::message::{Message, NewView, ViewChange};
use pbft::replica::noted::Noted;
use pbft::replica::{Durable, Effect, Record};
use std::sync::Arc;

const NO_PROOF: Evidence<Signature> = Evidence { proposal: None, votes: Vec::new() };
const NO_SIGNATURE: Signature = Signature([0; 64]);

/// Two values are equal without their proofs if they make the same claims.
pub trait Unproved {
    fn unproved(&self) -> Self;
}

impl Unproved for PreparedCertificate<Ed25519> {
    fn unproved(&self) -> Self {
        PreparedCertificate { proof: NO_PROOF, ..self.clone() }
    }
}

impl Unproved for StableCertificate<Ed25519> {
    fn unproved(&self) -> Self {
        StableCertificate { proof: NO_PROOF, ..self.clone() }
    }
}

impl Unproved for Arc<Signed<ViewChange<Ed25519>, Ed25519>> {
    fn unproved(&self) -> Self {
        let content = &self.content;
        let content = ViewChange {
            stable: content.stable.as_ref().map(Unproved::unproved),
            prepared: content.prepared.iter().map(Unproved::unproved).collect(),
            ..content.clone()
        };
        Arc::new(Signed { content, signer: self.signer, signature: NO_SIGNATURE })
    }
}

impl Unproved for Arc<Signed<NewView<Ed25519>, Ed25519>> {
    fn unproved(&self) -> Self {
        let view_changes = self.content.view_changes.iter().map(Unproved::unproved).collect();
        let content = NewView { view_changes, ..self.content.clone() };
        Arc::new(Signed { content, signer: self.signer, signature: NO_SIGNATURE })
    }
}

impl Unproved for Effect<Ed25519> {
    fn unproved(&self) -> Self {
        match self {
            Effect::Persist(Record::Prepared(m)) => Effect::Persist(Record::Prepared(m.unproved())),
            Effect::Persist(Record::Stable(m)) => Effect::Persist(Record::Stable(m.unproved())),
            Effect::Persist(Record::ViewChange(m)) => Effect::Persist(Record::ViewChange(m.unproved())),
            Effect::Persist(Record::NewView(m)) => Effect::Persist(Record::NewView(m.unproved())),
            Effect::Send(to, Message::Stable(m)) => Effect::Send(*to, Message::Stable(m.unproved())),
            Effect::Send(to, Message::ViewChange(m)) => Effect::Send(*to, Message::ViewChange(m.unproved())),
            Effect::Send(to, Message::NewView(m)) => Effect::Send(*to, Message::NewView(m.unproved())),
            other => other.clone(),
        }
    }
}

impl Unproved for Durable<Ed25519> {
    fn unproved(&self) -> Self {
        Durable {
            view_change: self.view_change.as_ref().map(Unproved::unproved),
            new_view: Noted::new(self.new_view.as_ref().map(Unproved::unproved)),
            prepared: self.prepared.iter().map(|(&n, certificate)| (n, certificate.unproved())).collect(),
            stable: self.stable.as_ref().map(Unproved::unproved),
            ..self.clone()
        }
    }
}
