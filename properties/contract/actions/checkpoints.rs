//! Checkpoints and state transfer.

use super::super::reading::{Element, StateName};
use super::super::state::State;
use super::super::{Breach, Judging, not_recorded};
use super::Scene;
use pbft::certificate::StableCertificate;
use pbft::replica::blocks::Tree;
use pbft::replica::{Bundle, Snapshot};
use pbft::types::{Digest, SeqNo};

impl<B: Bundle> Judging<'_, '_, B> {
    /// `checkpoint`: CHECKPOINT leaves.
    pub(in super::super) fn checkpoint(&mut self, n: SeqNo, digest: Digest) -> Result<(), Breach> {
        let scene = Scene::new(self.ledger, &self.hand).about((self.ledger.view, n, digest));
        let values = [Element::Number(n), Element::State(StateName::Root(digest))];
        self.guards("checkpoint", &scene, &values, || {
            format!("CHECKPOINT at n = {} for {digest:?}, which is not the state there", n.0)
        })?;
        if self.ledger.stored.executed < n {
            return Err(not_recorded("checkpoint", format!("CHECKPOINT at n = {}", n.0)));
        }
        self.taken.push("checkpoint");
        Ok(())
    }

    /// `stable`, or `adopt` if somebody else has put the certificate together.
    pub(in super::super) fn stable(
        &mut self,
        certificate: &StableCertificate<B::Crypto>,
    ) -> Result<(), Breach> {
        let (n, digest) = (certificate.n, certificate.digest);
        let came = self.hand.is_shown(certificate);
        let mut voters = self.hand.checkpoints(certificate).voters;
        // What it has put together itself has its own vote only if it has that state. What others have, it has sent.
        if !came && self.ledger.roots.get(&n).is_none_or(|&root| root != digest) {
            voters.remove(&self.hand.setup.id);
        }
        let mut scene = Scene::new(self.ledger, &self.hand).about((self.ledger.view, n, digest));
        let quorum = scene.quorum(&voters);
        let (have, needed) = (voters.len(), self.hand.quorum());
        scene.checkpoints.insert((n, digest), voters);
        let action = if came { "adopt" } else { "stable" };
        let values = [Element::Number(n), Element::State(StateName::Root(digest)), quorum];
        self.guards(action, &scene, &values, || {
            format!("h becomes {} with CHECKPOINTs of {have}, {needed} are needed", n.0)
        })?;
        if n < self.ledger.low {
            // What is above it is discarded already, and bound.
            let words = format!("h becomes {}, and was {}", n.0, self.ledger.low.0);
            return Err(Breach { action, guard: "h only grows", words });
        }
        self.taken.push(action);
        self.ledger.collect(n, digest);
        Ok(())
    }

    /// A snapshot is recorded: its own, or by `fetch` another's.
    pub(in super::super) fn snapshot(&mut self, snapshot: &Snapshot) -> Result<(), Breach> {
        let n = snapshot.n;
        let words = || format!("the state after n = {} is taken over, which is not the one certified", n.0);
        if n <= self.ledger.executed {
            let own = self.ledger.roots.get(&n);
            return match own.is_none_or(|&own| own == snapshot.tree.root()) {
                true => Ok(()),
                false => Err(Breach { action: "fetch", guard: "executed", words: words() }),
            };
        }
        let root = Tree::build::<B::Crypto>(&snapshot.tree.chunks(), None).root();
        let scene = Scene::new(self.ledger, &self.hand).about((self.ledger.view, n, root));
        let certified = self.ledger.stable.unwrap_or(Digest::NULL);
        let (h, g) = (StateName::Root(certified), StateName::Root(root));
        self.guards("fetch", &scene, &[Element::Number(n), Element::State(h), Element::State(g)], words)?;
        let Some(state) = State::of(snapshot) else {
            return Err(Breach { action: "fetch", guard: "transfer-verified", words: words() });
        };
        self.taken.push("fetch");
        let ledger = &mut *self.ledger;
        ledger.take_state(state, snapshot);
        ledger.stored.executed = n;
        ledger.committed.retain(|&k, _| k > n);
        Ok(())
    }
}
