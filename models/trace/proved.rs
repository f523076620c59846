//! What the certificates in a message prove by other rules than those by which they were made.
//!
//! A symbolic certificate remembers that the validation of its world accepted the votes behind it. One that
//! was put together for receivers who ask for less would so convince receivers by the paper's rules too. With
//! signatures it would not: the votes are not there. So before a message is taken to another world, the
//! certificates that nobody could put together there lose their proofs, and who made them signs again.

use super::{Configuration, Executor};
use crate::adversary::Known;
use crate::crypto::Symbolic;
use crate::world::Modelled;
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::{Claim, Content, Crypto, Evidence, Signed};
use pbft::message::{Message, NewView, ViewChange};
use pbft::replica::Setup;
use pbft::types::Principal;
use std::sync::Arc;

type Msg = Message<Symbolic>;

/// What can be proved at some configuration of some world, and the keys of those who made things up.
pub(super) struct Proved {
    known: Known,
    byzantine: Vec<Arc<Setup<Modelled>>>,
}

impl Proved {
    /// What can be proved at this configuration.
    pub(super) fn at(executor: &Executor, configuration: &Configuration) -> Self {
        let config = executor.config();
        let byzantine = config.setups().into_iter().filter(|setup| config.byzantine.contains(&setup.id));
        Proved { known: executor.known(configuration), byzantine: byzantine.collect() }
    }

    /// The message with proofs only of what can be proved.
    pub(super) fn in_message(&self, message: &Msg) -> Msg {
        match message {
            Message::ViewChange(m) => Message::ViewChange(Arc::new(self.in_view_change(m))),
            Message::NewView(m) => {
                let view_changes = m.content.view_changes.iter().map(|m| Arc::new(self.in_view_change(m)));
                let content = NewView { view_changes: view_changes.collect(), ..m.content.clone() };
                Message::NewView(Arc::new(self.signed_again(m, content)))
            }
            Message::Stable(certificate) => Message::Stable(self.in_stable(certificate)),
            _ => message.clone(),
        }
    }

    fn in_view_change(
        &self,
        m: &Signed<ViewChange<Symbolic>, Symbolic>,
    ) -> Signed<ViewChange<Symbolic>, Symbolic> {
        let content = ViewChange {
            stable: m.content.stable.as_ref().map(|certificate| self.in_stable(certificate)),
            prepared: m.content.prepared.iter().map(|certificate| self.in_prepared(certificate)).collect(),
            ..m.content.clone()
        };
        self.signed_again(m, content)
    }

    /// The content signed by the one who signed before, if it has changed and the signer is Byzantine.
    fn signed_again<T: Content + PartialEq + Clone>(
        &self,
        before: &Signed<T, Symbolic>,
        content: T,
    ) -> Signed<T, Symbolic> {
        let signs = |setup: &&Arc<Setup<Modelled>>| Principal::Replica(setup.id) == before.signer;
        match self.byzantine.iter().find(signs) {
            Some(setup) if content != before.content => setup.sign(content),
            _ => before.clone(),
        }
    }

    fn in_prepared(&self, certificate: &PreparedCertificate<Symbolic>) -> PreparedCertificate<Symbolic> {
        let PreparedCertificate { view, n, digest, .. } = *certificate;
        match self.known.prepared().any(|known| known == certificate) {
            true => certificate.clone(),
            false => {
                PreparedCertificate { view, n, digest, proof: unproved(Claim::Prepared(view, n, digest)) }
            }
        }
    }

    fn in_stable(&self, certificate: &StableCertificate<Symbolic>) -> StableCertificate<Symbolic> {
        let StableCertificate { n, digest, .. } = *certificate;
        match self.known.stable().any(|known| known == certificate) {
            true => certificate.clone(),
            false => StableCertificate { n, digest, proof: unproved(Claim::Stable(n, digest)) },
        }
    }
}

/// A claim without votes behind it.
fn unproved(claim: Claim) -> <Symbolic as Crypto>::Proof {
    Symbolic::seal(claim, Evidence { proposal: None, votes: Vec::new() }, &|_| false)
}
