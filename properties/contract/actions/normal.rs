//! The normal case: PRE-PREPARE, PREPARE, COMMIT, execution.

use super::super::hand::Votes;
use super::super::ledger::Role;
use super::super::reading::{Element, StateName};
use super::super::{Breach, Judging, not_recorded, slot};
use super::{Scene, Slot};
use pbft::replica::Bundle;
use pbft::types::{Digest, SeqNo};
use std::collections::BTreeSet;

impl<B: Bundle> Judging<'_, '_, B> {
    /// `pre_prepare` or `prepare`: a digest is accepted.
    pub(in super::super) fn accept(&mut self, of: Slot) -> Result<(), Breach> {
        let (view, n, digest) = of;
        let primary = self.hand.primary(view);
        let is_primary = primary == self.hand.setup.id;
        let mut scene = Scene::new(self.ledger, &self.hand).about(of);
        scene.batch = self.hand.batch(digest);
        let named = scene.named();
        let (v, n_, d) = (Element::View(view), Element::Number(n), Element::Digest(digest));
        let what = if is_primary { "PRE-PREPARE" } else { "PREPARE" };
        let words = || format!("{what} for {digest:?} at {}", slot(view, n));
        if is_primary {
            self.guards("pre_prepare", &scene, &[v, n_, d, named], words)?;
        } else {
            let proposal = self.hand.is_proposed(self.ledger, of);
            scene.prepares.insert(of, Votes { proposal, voters: BTreeSet::new() });
            self.guards("prepare", &scene, &[Element::Replica(primary), v, n_, d, named], words)?;
        }
        self.taken.push(if is_primary { "pre_prepare" } else { "prepare" });
        let role = if is_primary { Role::Primary } else { Role::Backup };
        self.ledger.accepted.insert(n, (digest, role));
        Ok(())
    }

    /// PRE-PREPARE or PREPARE leaves.
    pub(in super::super) fn sends_accepted(
        &mut self,
        what: &str,
        role: Role,
        of: Slot,
    ) -> Result<(), Breach> {
        let (view, n, digest) = of;
        if self.ledger.view != view || self.ledger.accepted.get(&n) != Some(&(digest, role)) {
            self.accept(of)?;
        }
        match self.ledger.stored.accepted.get(&n) == Some(&(view, digest)) {
            true => Ok(()),
            false => {
                let action = if role == Role::Primary { "pre_prepare" } else { "prepare" };
                Err(not_recorded(action, format!("{what} for {}", slot(view, n))))
            }
        }
    }

    /// `commit`: a digest is prepared.
    pub(in super::super) fn commit(&mut self, of: Slot) -> Result<(), Breach> {
        let (view, n, digest) = of;
        let primary = self.hand.primary(view);
        let votes = self.hand.prepares(self.ledger, of);
        let others = votes.voters.iter().filter(|&&by| by != primary).count();
        let mut scene = Scene::new(self.ledger, &self.hand).about(of);
        let quorum = scene.quorum(&votes.voters.iter().copied().chain([primary]).collect());
        scene.batch = self.hand.batch(digest);
        let (needed, proposal) =
            (self.hand.quorum() - 1, if votes.proposal { "PRE-PREPARE and " } else { "" });
        scene.prepares.insert(of, votes);
        let values = [
            Element::View(view),
            Element::Number(n),
            Element::Digest(digest),
            scene.named(),
            Element::Replica(primary),
            quorum,
        ];
        self.guards("commit", &scene, &values, || {
            let in_hand = format!("{proposal}PREPAREs of {others} backups in hand, {needed} are needed");
            format!("COMMIT for {digest:?} at {}, with {in_hand}", slot(view, n))
        })?;
        self.taken.push("commit");
        self.ledger.prepared.insert(n, (view, digest));
        Ok(())
    }

    /// COMMIT leaves.
    pub(in super::super) fn sends_commit(&mut self, of: Slot) -> Result<(), Breach> {
        let (view, n, digest) = of;
        if self.ledger.prepared.get(&n) != Some(&(view, digest)) {
            self.commit(of)?;
        }
        match self.ledger.stored.prepared.get(&n) == Some(&(view, digest)) {
            true => Ok(()),
            false => Err(not_recorded("commit", format!("COMMIT for {}", slot(view, n)))),
        }
    }

    /// `committed_local`.
    pub(in super::super) fn committed(&mut self, of: Slot) -> Result<(), Breach> {
        let (view, n, digest) = of;
        let voters = self.hand.commits(self.ledger, of);
        let mut scene = Scene::new(self.ledger, &self.hand).about(of);
        let quorum = scene.quorum(&voters);
        let (have, needed) = (voters.len(), self.hand.quorum());
        scene.commits.insert(of, voters);
        let values = [Element::View(view), Element::Number(n), Element::Digest(digest), quorum];
        self.guards("committed_local", &scene, &values, || {
            format!("{digest:?} committed at {} with COMMITs of {have}, {needed} are needed", slot(view, n))
        })?;
        self.taken.push("committed_local");
        self.ledger.committed.insert(n, digest);
        Ok(())
    }

    /// `execute`; the batch is applied to the ledger's own state.
    pub(in super::super) fn execute(&mut self, n: SeqNo, digest: Digest) -> Result<(), Breach> {
        if self.ledger.committed.get(&n) != Some(&digest) {
            self.committed((self.ledger.view, n, digest))?;
        }
        let before = SeqNo(n.0.saturating_sub(1));
        let batch = self.hand.batch(digest);
        let mut scene = Scene::new(self.ledger, &self.hand).about((self.ledger.view, n, digest));
        scene.applied = batch.is_some().then_some(n);
        scene.batch.clone_from(&batch);
        let values = [
            Element::Number(before),
            Element::Number(n),
            Element::Digest(digest),
            scene.named(),
            Element::State(StateName::After(before)),
            Element::State(StateName::After(n)),
        ];
        self.guards("execute", &scene, &values, || {
            let last = self.ledger.executed.0;
            format!("{digest:?} is executed at n = {}, and n = {last} was the last", n.0)
        })?;
        self.taken.push("execute");
        let ledger = &mut *self.ledger;
        ledger.committed.retain(|&k, _| k > n);
        if let Some(batch) = batch {
            self.answers.extend(ledger.apply(self.hand.setup, n, &batch));
        }
        Ok(())
    }
}
