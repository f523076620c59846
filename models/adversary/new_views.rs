//! NEW-VIEWs of the adversary.

use super::quorums::{Flaw, Outcome};
use super::views::SignedViewChange;
use super::{Adversary, Known, Msg};
use crate::crypto::Symbolic;
use pbft::crypto::Signed;
use pbft::message::{Message, NewView, PrePrepare};
use pbft::types::{Digest, Principal, ReplicaId, SeqNo, View};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The entries of an `O`, signed.
type Entries = Vec<Signed<PrePrepare, Symbolic>>;

/// What has been accepted: who signs, min-s, and `O` with who signs each entry.
type Accepted = BTreeSet<(Principal, Option<(SeqNo, Digest)>, Entries)>;

/// NEW-VIEWs for one view, as they are made.
struct Making<'a> {
    adversary: &'a Adversary,
    known: &'a Known,
    view: View,
    accepted: Accepted,
    offered: Vec<Msg>,
    /// Whether one has been accepted in which a VIEW-CHANGE is forged, or proves nothing.
    takes_what_is_inside: bool,
}

impl Adversary {
    /// For a view, a NEW-VIEW for every min-s and O that some `V` of the VIEW-CHANGEs sent and derivable
    /// leads to; and those with something unsound. Only what is accepted is returned, and of what differs in
    /// `V` alone one.
    pub(super) fn new_views(&self, known: &Known, view: View, sent: &[&Msg]) -> Vec<Msg> {
        let quorums = self.quorums(known, view, sent);
        let mut making = Making {
            adversary: self,
            known,
            view,
            accepted: Accepted::new(),
            offered: Vec::new(),
            takes_what_is_inside: false,
        };
        let primary = self.primary(view);
        for ((flaw, _, outcome), view_changes) in &quorums {
            // By their order the sound ones come first.
            if flaw.is_some() {
                making.unsound_quorum(*flaw, outcome, view_changes);
                continue;
            }
            for name in [primary].iter().chain(self.names.iter().filter(|&&name| name != primary)) {
                making.signed_by(*name, outcome, view_changes);
            }
            making.by_a_client(outcome, view_changes);
        }
        if making.takes_what_is_inside {
            for ((flaw, _, outcome), view_changes) in &self.unproved_quorums(known, view, sent) {
                making.unsound_quorum(*flaw, outcome, view_changes);
            }
        }
        let sound: Vec<_> = quorums.iter().filter(|((flaw, ..), _)| flaw.is_none()).collect();
        for (place, ((_, _, outcome), view_changes)) in sound.iter().enumerate() {
            making.with_another_o(outcome, view_changes, place == 0);
            making.with_unsound_entries(outcome, view_changes);
        }
        making.offered
    }
}

impl Making<'_> {
    /// Makes one unless the same has been accepted; whether it is accepted.
    fn make(
        &mut self,
        by: ReplicaId,
        is_sound: bool,
        (min_s, view_changes): (Option<(SeqNo, Digest)>, &[SignedViewChange]),
        entries: Entries,
    ) -> bool {
        let signer = Principal::Replica(by);
        let key = (signer, min_s, entries);
        if self.accepted.contains(&key) {
            return false;
        }
        let content = NewView {
            view: self.view,
            view_changes: view_changes.to_vec().into(),
            pre_prepares: key.2.clone(),
        };
        let message = Message::NewView(Arc::new(self.adversary.signed_by(content, by)));
        let accepted = self.adversary.offer(&mut self.offered, is_sound, message);
        if accepted {
            self.accepted.insert(key);
        }
        accepted
    }

    /// Entries signed by `by`: where its key is not at hand, those that it has signed itself, if it has.
    fn entries(&self, by: ReplicaId, entries: &[(SeqNo, Digest)]) -> Vec<Entries> {
        let view = self.view;
        let mut lists: Vec<Entries> = vec![Vec::new()];
        for &(n, digest) in entries {
            let content = PrePrepare { view, n, digest };
            let genuine = self.known.proposals.iter().filter(|m| m.content == content).cloned();
            let mut choices: Vec<_> = genuine.collect();
            if self.adversary.holds(by).is_some() || choices.is_empty() {
                choices.insert(0, self.adversary.signed_by(content, by));
            }
            choices.dedup();
            lists = (lists.iter())
                .flat_map(|list| choices.iter().map(move |m| [&list[..], std::slice::from_ref(m)].concat()))
                .collect();
        }
        lists
    }

    fn signed_by(&mut self, by: ReplicaId, (min_s, o): &Outcome, view_changes: &[SignedViewChange]) {
        let is_sound = self.adversary.members().any(|setup| setup.id == by)
            && self.adversary.is_of_primary(Principal::Replica(by), self.view);
        for entries in self.entries(by, o) {
            let is_sound = is_sound && entries.iter().all(|m| m.signer == Principal::Replica(by));
            self.make(by, is_sound, (*min_s, view_changes), entries);
        }
    }

    /// Signed by an outsider's client.
    fn by_a_client(&mut self, (_, o): &Outcome, view_changes: &[SignedViewChange]) {
        let Some(setup) = self.adversary.signers.first() else { return };
        for pre_prepares in self.entries(setup.id, o) {
            let content =
                NewView { view: self.view, view_changes: view_changes.to_vec().into(), pre_prepares };
            let signed = Signed::new(content, &self.adversary.outsiders_client);
            self.adversary.offer(&mut self.offered, false, Message::NewView(Arc::new(signed)));
        }
    }

    /// By the view's primary, if it is Byzantine, and if it is not, in its name.
    fn unsound_quorum(
        &mut self,
        flaw: Option<Flaw>,
        (min_s, o): &Outcome,
        view_changes: &[SignedViewChange],
    ) {
        let primary = self.adversary.primary(self.view);
        if self.adversary.holds(primary).is_none() && flaw != Some(Flaw::AllForged) {
            return;
        }
        let before = self.offered.len();
        for entries in self.entries(primary, o) {
            self.make(primary, false, (*min_s, view_changes), entries);
        }
        let inside = matches!(flaw, Some(Flaw::Forged(_) | Flaw::AllForged | Flaw::Unproved | Flaw::Refused));
        self.takes_what_is_inside |= inside && self.offered.len() > before;
    }

    /// An `O` that `V` does not lead to: with one entry changed, added or left out; and, `whole`, any other.
    fn with_another_o(&mut self, (min_s, o): &Outcome, view_changes: &[SignedViewChange], whole: bool) {
        let primary = self.adversary.primary(self.view);
        if self.adversary.holds(primary).is_none() {
            return;
        }
        let mut others = self.neighbours(o);
        if whole {
            others.extend(self.every_o());
        }
        for other in others.iter().filter(|other| *other != o) {
            for entries in self.entries(primary, other) {
                self.make(primary, false, (*min_s, view_changes), entries);
            }
        }
    }

    fn every_o(&self) -> Vec<Vec<(SeqNo, Digest)>> {
        let mut lists: Vec<Vec<(SeqNo, Digest)>> = vec![Vec::new()];
        for n in self.adversary.numbers().filter(|n| n.0 > 0) {
            let digests = &self.adversary.digests;
            let longer: Vec<_> = (lists.iter())
                .flat_map(|list| digests.iter().map(move |&digest| [&list[..], &[(n, digest)]].concat()))
                .collect();
            lists.extend(longer);
        }
        lists
    }

    fn neighbours(&self, o: &[(SeqNo, Digest)]) -> Vec<Vec<(SeqNo, Digest)>> {
        let mut lists = Vec::new();
        for n in self.adversary.numbers() {
            let without: Vec<_> = o.iter().copied().filter(|&(m, _)| m != n).collect();
            for &digest in &self.adversary.digests {
                let mut with = without.clone();
                let at = with.partition_point(|&(m, _)| m < n);
                with.insert(at, (n, digest));
                lists.push(with);
                // A number twice: before and after the entry that V determines.
                if o.iter().any(|&(m, known)| m == n && known != digest) {
                    for at in [o.partition_point(|&(m, _)| m < n), o.partition_point(|&(m, _)| m <= n)] {
                        let mut twice = o.to_vec();
                        twice.insert(at, (n, digest));
                        lists.push(twice);
                    }
                }
            }
            lists.push(without);
        }
        lists.push(o.iter().rev().copied().collect());
        lists.push(o.iter().chain(o).copied().collect());
        lists
    }

    /// An entry that somebody else has signed, or that is of another view, in a NEW-VIEW of the primary or of
    /// whoever else is believed; and, where that is accepted, more of them.
    fn with_unsound_entries(&mut self, (min_s, o): &Outcome, view_changes: &[SignedViewChange]) {
        let primary = self.adversary.primary(self.view);
        let members: Vec<ReplicaId> = self.adversary.members().map(|setup| setup.id).collect();
        for by in members {
            let is_believed = |entries: &Entries| {
                let key = (Principal::Replica(by), *min_s, entries.clone());
                by == primary || self.accepted.contains(&key)
            };
            let mut open: Vec<Entries> = self.entries(by, o).into_iter().filter(is_believed).collect();
            while let Some(entries) = open.pop() {
                for other in self.with_one_changed(by, &entries) {
                    if self.make(by, false, (*min_s, view_changes), other.clone()) {
                        open.push(other);
                    }
                }
            }
        }
    }

    /// The entries with one signed by somebody else than `by`, or of another view.
    fn with_one_changed(&self, by: ReplicaId, entries: &Entries) -> Vec<Entries> {
        let mut lists = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            let PrePrepare { n, digest, .. } = entry.content;
            let mut instead = self.adversary.signed_by_everybody(&entry.content);
            for view in self.adversary.views().filter(|&view| view != self.view) {
                let content = PrePrepare { view, n, digest };
                instead.push(self.adversary.signed_by(content, by));
                instead.push(self.adversary.signed_by(content, self.adversary.primary(view)));
                instead.extend(self.known.proposals.iter().filter(|m| m.content == content).cloned());
            }
            for other in instead.into_iter().filter(|other| other != entry) {
                let mut entries = entries.clone();
                entries[place] = other;
                lists.push(entries);
            }
        }
        lists
    }
}
