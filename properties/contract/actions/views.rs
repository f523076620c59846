//! View changes: VIEW-CHANGE, NEW-VIEW.

use super::super::ledger::{Role, closed, open_above};
use super::super::reading::Element;
use super::super::{Breach, Judging, not_recorded, slot};
use super::Scene;
use pbft::crypto::Signed;
use pbft::message::{NewView, PrePrepare, ViewChange};
use pbft::replica::Bundle;
use pbft::types::{Digest, SeqNo, View};
use std::sync::Arc;

impl<B: Bundle> Judging<'_, '_, B> {
    /// `view_change`.
    pub(in super::super) fn leave(
        &mut self,
        signed: &Arc<Signed<ViewChange<B::Crypto>, B::Crypto>>,
    ) -> Result<(), Breach> {
        let of = &signed.content;
        let view = of.view;
        let ledger = &*self.ledger;
        let mut scene = Scene::new(ledger, &self.hand);
        scene.views.insert(view);
        for (&n, &(of, digest)) in &ledger.prepared {
            scene.views.insert(of);
            scene.numbers.insert(n);
            scene.digests.insert(digest);
        }
        // Of the view that the ledger has, a certificate for another digest is none.
        let contradicts = |n: SeqNo, view: View, digest: Digest| {
            ledger.prepared.get(&n).is_some_and(|&(own, prepared)| own == view && prepared != digest)
        };
        let reported = of.prepared.iter().filter(|of| !contradicts(of.n, of.view, of.digest));
        scene.report = reported.map(|of| (of.n, of.view)).collect();
        self.guards("view_change", &scene, &[Element::View(view)], || {
            let (has, reports) = (ledger.prepared.len(), scene.report.len());
            format!("VIEW-CHANGE for view {} with {reports} of {has} certificates", view.0)
        })?;
        if of.n != ledger.low {
            let words =
                format!("VIEW-CHANGE for view {} says h = {}, which is {}", view.0, of.n.0, ledger.low.0);
            return Err(Breach { action: "view_change", guard: "claims h", words });
        }
        self.taken.push("view_change");
        (self.ledger.left, self.ledger.leaving) = (Some(view), true);
        self.ledger.said = Some(signed.clone());
        Ok(())
    }

    /// VIEW-CHANGE leaves: the one that was recorded.
    pub(in super::super) fn sends_view_change(
        &mut self,
        signed: &Arc<Signed<ViewChange<B::Crypto>, B::Crypto>>,
    ) -> Result<(), Breach> {
        let of = &signed.content;
        if self.ledger.said.as_ref().is_none_or(|said| said.content != *of) {
            self.leave(signed)?;
        }
        match self.ledger.stored.left == Some(of.view) {
            true => Ok(()),
            false => Err(not_recorded("view_change", format!("VIEW-CHANGE for view {}", of.view.0))),
        }
    }

    /// `enter`, and what accepting each entry of `O` is.
    pub(in super::super) fn enter(
        &mut self,
        signed: &Arc<Signed<NewView<B::Crypto>, B::Crypto>>,
    ) -> Result<(), Breach> {
        let view = signed.content.view;
        let ledger = &*self.ledger;
        let mut scene = Scene::new(ledger, &self.hand);
        scene.views.insert(view);
        let in_hand = self.hand.view_changes(ledger, &signed.content);
        let quorum = scene.new_view(&in_hand);
        let (have, needed) = (scene.view_changes.len(), self.hand.quorum());
        self.guards("enter", &scene, &[Element::View(view), quorum], || {
            format!("view {} is entered with VIEW-CHANGEs of {have}, {needed} are needed", view.0)
        })?;
        self.taken.push("enter");
        self.ledger.enter(view);
        for entry in &signed.content.pre_prepares {
            let of = entry.content;
            if of.n > self.ledger.low {
                self.allow(&in_hand, of)?;
                self.accept((of.view, of.n, of.digest))?;
            }
        }
        // Above everything that V speaks of any digest is allowed: what goes for one goes for all.
        let open_above = open_above(&signed.content);
        self.open(&in_hand, PrePrepare { view, n: open_above.next(), digest: Digest([0xff; 32]) })?;
        self.ledger.allowed.clear();
        // Its own VIEW-CHANGE was evidence up to here.
        self.ledger.said = self.ledger.said.take().filter(|said| said.content.view > view);
        self.ledger.closed = closed(&signed.content, self.ledger.low);
        Ok(())
    }

    /// NEW-VIEW of this replica's own leaves: every PRE-PREPARE in it does.
    pub(in super::super) fn sends_new_view(
        &mut self,
        signed: &Arc<Signed<NewView<B::Crypto>, B::Crypto>>,
    ) -> Result<(), Breach> {
        let view = signed.content.view;
        if self.ledger.view != view {
            self.enter(signed)?;
        }
        if self.ledger.stored.view != view {
            return Err(not_recorded("enter", format!("NEW-VIEW for view {}", view.0)));
        }
        let low = self.ledger.low;
        for entry in signed.content.pre_prepares.iter().filter(|entry| entry.content.n > low) {
            let of = entry.content;
            self.sends_accepted("PRE-PREPARE", Role::Primary, (of.view, of.n, of.digest))?;
        }
        Ok(())
    }

    /// `new_view_open`: the VIEW-CHANGEs of the NEW-VIEW have neither certificate nor claim at a number.
    fn open(&mut self, in_hand: &[&ViewChange<B::Crypto>], of: PrePrepare) -> Result<(), Breach> {
        let PrePrepare { view, n, digest } = of;
        let mut scene = Scene::new(self.ledger, &self.hand).about((view, n, digest));
        let quorum = scene.new_view(in_hand);
        let values = [Element::View(view), Element::Number(n), Element::Digest(digest), quorum];
        self.guards("new_view_open", &scene, &values, || {
            format!("{digest:?} is accepted at {}, which the NEW-VIEW does not allow", slot(view, n))
        })?;
        self.taken.push("new_view_open");
        Ok(())
    }

    /// `new_view_open` or `new_view_entry`: the VIEW-CHANGEs of the NEW-VIEW allow a digest at a number.
    fn allow(&mut self, in_hand: &[&ViewChange<B::Crypto>], of: PrePrepare) -> Result<(), Breach> {
        let PrePrepare { view, n, digest } = of;
        let mut scene = Scene::new(self.ledger, &self.hand).about((view, n, digest));
        let quorum = scene.new_view(in_hand);
        let certificates = || in_hand.iter().flat_map(|m| &m.prepared).filter(|of| of.n == n);
        scene.views.extend(certificates().map(|of| of.view));
        let (v, n_, d) = (Element::View(view), Element::Number(n), Element::Digest(digest));
        // The best for this digest; or else the best, of which the guards then say that it is for another.
        let for_it = certificates().filter(|of| of.digest == digest).max_by_key(|of| of.view);
        let best = for_it.or_else(|| certificates().max_by_key(|of| of.view));
        let words =
            || format!("{digest:?} is accepted at {}, which the NEW-VIEW does not allow", slot(view, n));
        let carried = match best {
            None => {
                self.open(in_hand, of)?;
                false
            }
            Some(best) => {
                let primary = self.hand.primary(best.view);
                let votes = self.hand.certificate(best);
                let voters = votes.voters.iter().copied().chain([primary]).collect();
                let prepared_by = scene.quorum(&voters);
                scene.prepares.insert((best.view, n, best.digest), votes);
                let p = Element::Replica(primary);
                let values = [v, n_, d, quorum, Element::View(best.view), p, prepared_by];
                self.guards("new_view_entry", &scene, &values, words)?;
                self.taken.push("new_view_entry");
                true
            }
        };
        self.ledger.allowed.insert(n, (digest, carried));
        Ok(())
    }
}
