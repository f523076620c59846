//! View changes of the adversary: every provable C and P, every reachable min-s and O.

use super::votes::Known;
use super::{Adversary, Msg};
use crate::crypto::Symbolic;
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::Signed;
use pbft::message::{Message, NewView, PrePrepare, ViewChange};
use pbft::replica::compute_o;
use pbft::rules::Rules;
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) type SignedViewChange = Arc<Signed<ViewChange<Symbolic>, Symbolic>>;

/// min-s and O: all that a receiver's step depends on.
type Outcome = (SeqNo, Vec<(SeqNo, Digest)>);

impl Adversary {
    /// For each own replica and view, a VIEW-CHANGE with every provable checkpoint, none included, and every
    /// choice of at most one provable certificate for each number.
    pub(super) fn view_changes(&self, known: &Known) -> Vec<SignedViewChange> {
        let mut offered = Vec::new();
        for setup in &self.byzantine {
            for view in self.views().skip(1) {
                let checkpoints = known.stable().iter().cloned().map(Some).chain([None]);
                for stable in checkpoints {
                    for prepared in self.choices_of_p(known, view, stable.as_ref()) {
                        let n = stable.as_ref().map_or(SeqNo(0), |stable| stable.n);
                        let stable = stable.clone();
                        let content = ViewChange { view, n, stable, prepared, replica: setup.id };
                        offered.push(Arc::new(setup.sign(content)));
                    }
                }
            }
        }
        offered.retain(|m| self.is_accepted(&Message::ViewChange(m.clone())));
        offered
    }

    /// Every list of certificates, at most one a number, of which each alone is acceptable in a VIEW-CHANGE.
    fn choices_of_p(
        &self,
        known: &Known,
        view: View,
        stable: Option<&StableCertificate<Symbolic>>,
    ) -> Vec<Vec<PreparedCertificate<Symbolic>>> {
        let n = stable.map_or(SeqNo(0), |stable| stable.n);
        let Some(setup) = self.byzantine.first() else { return Vec::new() };
        let alone = |certificate: &PreparedCertificate<Symbolic>| {
            let (stable, prepared) = (stable.cloned(), vec![certificate.clone()]);
            let content = ViewChange { view, n, stable, prepared, replica: setup.id };
            self.is_accepted(&Message::ViewChange(Arc::new(setup.sign(content))))
        };
        let mut by_number: BTreeMap<SeqNo, Vec<&PreparedCertificate<Symbolic>>> = BTreeMap::new();
        for certificate in known.prepared().iter().filter(|certificate| alone(certificate)) {
            by_number.entry(certificate.n).or_default().push(certificate);
        }
        let mut lists = vec![Vec::new()];
        for certificates in by_number.values() {
            let longer: Vec<Vec<_>> = (lists.iter())
                .flat_map(|list: &Vec<PreparedCertificate<Symbolic>>| {
                    certificates.iter().map(|&more| [&list[..], std::slice::from_ref(more)].concat())
                })
                .collect();
            lists.extend(longer);
        }
        lists
    }

    /// For each view of which an own replica is the primary, a NEW-VIEW for every min-s and O that some quorum of
    /// the VIEW-CHANGEs sent and derivable leads to.
    pub(super) fn new_views(&self, known: &Known, own: &[SignedViewChange]) -> Vec<Msg> {
        let mut offered = Vec::new();
        for view in self.views().skip(1) {
            let Some(setup) = self.holds(self.primary(view)) else { continue };
            let mut by_sender: BTreeMap<ReplicaId, Vec<&SignedViewChange>> = BTreeMap::new();
            for m in known.view_changes.iter().chain(own).filter(|m| m.content.view == view) {
                by_sender.entry(m.content.replica).or_default().push(m);
            }
            let quorum = self.judge.rules.view_change_quorum(&self.judge.cluster);
            let mut outcomes: BTreeMap<Outcome, Vec<SignedViewChange>> = BTreeMap::new();
            let senders: Vec<_> = by_sender.values().collect();
            self.choose(&senders, quorum, &mut Vec::new(), &mut outcomes);
            if self.judge.rules.backups_recompute_o(false) {
                self.alter_o(&mut outcomes);
            }
            for ((_, entries), view_changes) in outcomes {
                let sign = |(n, digest)| setup.sign(PrePrepare { view, n, digest });
                let pre_prepares = entries.into_iter().map(sign).collect();
                let content = NewView { view, view_changes, pre_prepares };
                offered.push(Message::NewView(Arc::new(setup.sign(content))));
            }
        }
        offered
    }

    /// Adds every other `O`: for each number any digest or none. A backup that computes `O` itself refuses them.
    fn alter_o(&self, outcomes: &mut BTreeMap<Outcome, Vec<SignedViewChange>>) {
        let digests = self.digests();
        let mut lists: Vec<Vec<(SeqNo, Digest)>> = vec![Vec::new()];
        for n in self.numbers() {
            let longer: Vec<_> = (lists.iter())
                .flat_map(|list| digests.iter().map(move |&digest| [&list[..], &[(n, digest)]].concat()))
                .collect();
            lists.extend(longer);
        }
        for ((min_s, _), view_changes) in outcomes.clone() {
            for entries in &lists {
                outcomes.entry((min_s, entries.clone())).or_insert_with(|| view_changes.clone());
            }
        }
    }

    /// Tries every choice of one VIEW-CHANGE each of `quorum` senders, and keeps one choice for each outcome.
    fn choose(
        &self,
        senders: &[&Vec<&SignedViewChange>],
        quorum: usize,
        chosen: &mut Vec<SignedViewChange>,
        outcomes: &mut BTreeMap<Outcome, Vec<SignedViewChange>>,
    ) {
        if chosen.len() == quorum {
            let plan = compute_o(chosen, &self.judge.rules);
            let min_s = plan.stable.map_or(SeqNo(0), |stable| stable.n);
            outcomes.entry((min_s, plan.entries)).or_insert_with(|| chosen.clone());
            return;
        }
        let Some((first, rest)) = senders.split_first() else { return };
        if senders.len() > quorum - chosen.len() {
            self.choose(rest, quorum, chosen, outcomes);
        }
        for &m in first.iter() {
            chosen.push(m.clone());
            self.choose(rest, quorum, chosen, outcomes);
            chosen.pop();
        }
    }
}
