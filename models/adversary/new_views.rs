//! NEW-VIEWs of the adversary: every reachable min-s and O.

use super::views::SignedViewChange;
use super::votes::Known;
use super::{Adversary, Msg, Own};
use crate::crypto::Symbolic;
use pbft::crypto::Signed;
use pbft::message::{Message, NewView, PrePrepare};
use pbft::replica::compute_o;
use pbft::rules::Rules;
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// min-s with the state there, none if it is the initial one, and O: all that a receiver's step depends on.
type Outcome = (Option<(SeqNo, Digest)>, Vec<(SeqNo, Digest)>);
/// For each outcome a V that leads to it.
type Outcomes = BTreeMap<Outcome, Vec<SignedViewChange>>;

impl Adversary {
    /// For each view in which it is believed to propose, a NEW-VIEW for every min-s and O that some quorum of the
    /// VIEW-CHANGEs sent and derivable leads to.
    pub(super) fn new_views(&self, known: &Known, own: &[SignedViewChange]) -> Vec<Msg> {
        let mut offered = Vec::new();
        for view in self.views().skip(1) {
            if !self.proposers.iter().any(|&(of, _)| of == view) {
                continue;
            }
            let foreign = self.liberties.foreign_view_changes;
            let all = known.view_changes.iter().chain(own);
            let countable: Vec<_> = all.filter(|m| foreign || m.content.view == view).collect();
            for ((_, entries), view_changes) in self.outcomes(&countable) {
                for (_, setup) in self.proposers.iter().filter(|&&(of, _)| of == view) {
                    for pre_prepares in self.signed_o(known, view, &entries) {
                        let view_changes = view_changes.clone();
                        let content = NewView { view, view_changes, pre_prepares };
                        offered.push(Message::NewView(Arc::new(setup.sign(content))));
                    }
                }
            }
        }
        offered
    }

    /// The entries of O, each signed by somebody who is believed: its own, or the primary that signed it before.
    fn signed_o(
        &self,
        known: &Known,
        view: View,
        entries: &[(SeqNo, Digest)],
    ) -> Vec<Vec<Signed<PrePrepare, Symbolic>>> {
        let mut lists = vec![Vec::new()];
        for &(n, digest) in entries {
            let content = PrePrepare { view, n, digest };
            let sign = |(_, setup): &(View, Own)| setup.sign(content);
            let own = self.proposers.iter().filter(|&&(of, _)| of == view).map(sign);
            let others = known.proposals.iter().filter(|m| m.content == content).cloned();
            let choices: BTreeSet<_> = own.chain(others).collect();
            lists = (lists.iter())
                .flat_map(|list| choices.iter().map(move |m| [&list[..], std::slice::from_ref(m)].concat()))
                .collect();
        }
        lists
    }

    /// What every V that is accepted leads to.
    fn outcomes(&self, countable: &[&SignedViewChange]) -> Outcomes {
        let quorum = self.judge.rules.view_change_quorum(&self.judge.cluster);
        // One VIEW-CHANGE of V decides each number, or min-s and with it every number up to there. So a V of more
        // than there are numbers can do without the others.
        let decisive = usize::try_from(self.bounds.max_seq.0).unwrap_or(usize::MAX);
        let most = if decisive <= quorum { quorum } else { self.judge.cluster.n() };
        let mut choice = Choice {
            rules: &self.judge.rules,
            ambiguous: is_ambiguous(countable),
            chosen: Vec::new(),
            outcomes: BTreeMap::new(),
        };
        for size in quorum..=most {
            if self.liberties.repeated_view_changes {
                choice.multisets(&without_twins(countable), size);
            } else {
                let mut by_sender: BTreeMap<ReplicaId, Vec<&SignedViewChange>> = BTreeMap::new();
                for &m in countable {
                    by_sender.entry(m.content.replica).or_default().push(m);
                }
                choice.one_of_each(&by_sender.values().collect::<Vec<_>>(), size);
            }
        }
        let mut outcomes = choice.outcomes;
        if self.liberties.any_o {
            self.alter_o(&mut outcomes);
        }
        outcomes
    }

    /// Adds every other `O`: for each number any digest or none.
    fn alter_o(&self, outcomes: &mut Outcomes) {
        let mut lists: Vec<Vec<(SeqNo, Digest)>> = vec![Vec::new()];
        for n in self.numbers() {
            let longer: Vec<_> = (lists.iter())
                .flat_map(|list| {
                    self.certifiable.iter().map(move |&digest| [&list[..], &[(n, digest)]].concat())
                })
                .collect();
            lists.extend(longer);
        }
        for ((min_s, _), view_changes) in outcomes.clone() {
            for entries in &lists {
                outcomes.entry((min_s, entries.clone())).or_insert_with(|| view_changes.clone());
            }
        }
    }
}

/// What `V` says that decides its outcome, sender and view of the VIEW-CHANGEs apart.
fn without_twins<'a>(all: &[&'a SignedViewChange]) -> Vec<&'a SignedViewChange> {
    let mut distinct = BTreeMap::new();
    for &m in all {
        distinct.entry((&m.content.stable, &m.content.prepared)).or_insert(m);
    }
    distinct.into_values().collect()
}

/// Whether two of the VIEW-CHANGEs contradict each other, so that the order in which `V` lists them matters.
fn is_ambiguous(all: &[&SignedViewChange]) -> bool {
    let (mut states, mut digests) = (BTreeMap::new(), BTreeMap::new());
    all.iter().any(|m| {
        let stable = m.content.stable.iter();
        let other_state = stable.clone().any(|c| *states.entry(c.n).or_insert(c.digest) != c.digest);
        let mut prepared = m.content.prepared.iter();
        other_state || prepared.any(|c| *digests.entry((c.n, c.view)).or_insert(c.digest) != c.digest)
    })
}

/// A choice of VIEW-CHANGEs under way, and the outcomes found so far with one choice for each.
struct Choice<'a, R> {
    rules: &'a R,
    ambiguous: bool,
    chosen: Vec<SignedViewChange>,
    outcomes: Outcomes,
}

impl<R: Rules> Choice<'_, R> {
    /// Tries every choice of one VIEW-CHANGE each of `more` senders.
    fn one_of_each(&mut self, senders: &[&Vec<&SignedViewChange>], more: usize) {
        if more == 0 {
            return self.note();
        }
        let Some((first, rest)) = senders.split_first() else { return };
        if senders.len() > more {
            self.one_of_each(rest, more);
        }
        for &m in first.iter() {
            self.chosen.push(m.clone());
            self.one_of_each(rest, more - 1);
            self.chosen.pop();
        }
    }

    /// Tries every choice of `more` VIEW-CHANGEs, repetitions included.
    fn multisets(&mut self, all: &[&SignedViewChange], more: usize) {
        if more == 0 {
            return self.note();
        }
        for (position, &m) in all.iter().enumerate() {
            self.chosen.push(m.clone());
            self.multisets(&all[position..], more - 1);
            self.chosen.pop();
        }
    }

    /// Remembers what the choice leads to, in every order if that can matter.
    fn note(&mut self) {
        let orders = if self.ambiguous { orders(&self.chosen) } else { vec![self.chosen.clone()] };
        for chosen in orders {
            let plan = compute_o(&chosen, self.rules);
            let min_s = plan.stable.map(|stable| (stable.n, stable.digest));
            self.outcomes.entry((min_s, plan.entries)).or_insert(chosen);
        }
    }
}

/// Every order of the list.
fn orders(list: &[SignedViewChange]) -> Vec<Vec<SignedViewChange>> {
    let Some((last, others)) = list.split_last() else { return vec![Vec::new()] };
    let insert = |order: Vec<SignedViewChange>| {
        (0..list.len()).map(move |at| [&order[..at], std::slice::from_ref(last), &order[at..]].concat())
    };
    orders(others).into_iter().flat_map(insert).collect()
}
