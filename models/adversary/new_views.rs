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
}

impl Adversary {
    /// For a view, a NEW-VIEW for every min-s and O that some `V` of the VIEW-CHANGEs sent and derivable leads to; and
    /// those with something unsound. Only what is accepted is returned, and of what differs in `V` alone one.
    pub(super) fn new_views(&self, known: &Known, view: View, sent: &[&Msg]) -> Vec<Msg> {
        let quorums = self.quorums(known, view, sent);
        let mut making =
            Making { adversary: self, known, view, accepted: Accepted::new(), offered: Vec::new() };
        let primary = self.primary(view);
        for ((flaw, outcome), view_changes) in &quorums {
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
        let sound: Vec<_> = quorums.iter().filter(|((flaw, _), _)| flaw.is_none()).collect();
        for (place, ((_, outcome), view_changes)) in sound.iter().enumerate() {
            making.with_another_o(outcome, view_changes, place == 0);
            making.with_unsound_entries(outcome, view_changes);
        }
        making.offered
    }
}

impl Making<'_> {
    /// Makes one; whether it is accepted.
    fn make(
        &mut self,
        by: ReplicaId,
        is_sound: bool,
        (min_s, view_changes): (Option<(SeqNo, Digest)>, &[SignedViewChange]),
        entries: Entries,
    ) {
        let signer = Principal::Replica(by);
        let key = (signer, min_s, entries);
        if self.accepted.contains(&key) {
            return;
        }
        let content =
            NewView { view: self.view, view_changes: view_changes.to_vec(), pre_prepares: key.2.clone() };
        let message = Message::NewView(Arc::new(self.adversary.signed_by(content, by)));
        if self.adversary.offer(&mut self.offered, is_sound, message) {
            self.accepted.insert(key);
        }
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
            let content = NewView { view: self.view, view_changes: view_changes.to_vec(), pre_prepares };
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
        for entries in self.entries(primary, o) {
            self.make(primary, false, (*min_s, view_changes), entries);
        }
    }

    /// An `O` that `V` does not lead to: with one entry changed, added or left out; or, `whole`, any other.
    fn with_another_o(&mut self, (min_s, o): &Outcome, view_changes: &[SignedViewChange], whole: bool) {
        let primary = self.adversary.primary(self.view);
        if self.adversary.holds(primary).is_none() {
            return;
        }
        let others = if whole { self.every_o() } else { self.neighbours(o) };
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
            }
            lists.push(without);
        }
        lists.push(o.iter().rev().copied().collect());
        lists.push(o.iter().chain(o).copied().collect());
        lists
    }

    /// An entry that somebody else has signed, or that is of another view.
    fn with_unsound_entries(&mut self, (min_s, o): &Outcome, view_changes: &[SignedViewChange]) {
        let primary = self.adversary.primary(self.view);
        if self.adversary.holds(primary).is_none() {
            return;
        }
        for sound in self.entries(primary, o) {
            for (place, entry) in sound.iter().enumerate() {
                let PrePrepare { n, digest, .. } = entry.content;
                let mut instead = self.adversary.signed_by_everybody(&entry.content);
                for view in self.adversary.views().filter(|&view| view != self.view) {
                    let content = PrePrepare { view, n, digest };
                    instead.push(self.adversary.signed_by(content, primary));
                    instead.push(self.adversary.signed_by(content, self.adversary.primary(view)));
                    instead.extend(self.known.proposals.iter().filter(|m| m.content == content).cloned());
                }
                for other in instead.into_iter().filter(|other| other != entry) {
                    let mut entries = sound.clone();
                    entries[place] = other;
                    self.make(primary, false, (*min_s, view_changes), entries);
                }
            }
        }
    }
}
