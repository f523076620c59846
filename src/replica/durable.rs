//! What a replica must still know after a crash, as a value that records build up.
//!
//! A replica keeps this value in its state and changes it only by applying a [`Record`], which is at the
//! same time an effect that must be durable before the messages it stands behind leave. So a restart from
//! the records contradicts nothing that was sent, by construction: there is no other way to change it.

use super::blocks::Tree;
use super::noted::{Noted, Part};
use crate::certificate::{PreparedCertificate, StableCertificate};
use crate::crypto::{Crypto, Signed};
use crate::message::{Batch, NewView, PrePrepare, ViewChange};
use crate::rules::Rules;
use crate::types::{Digest, SeqNo, View};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Digests kept for one sequence number from views since left. Another Byzantine primary, and so a view
/// change, is needed for each, and the oldest goes first.
const MAX_SUPERSEDED: usize = 8;

/// The state after executing `n`, in the form in which it is digested and transferred.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last sequence number executed.
    pub n: SeqNo,
    /// The service's chunks and, last, the client table's.
    pub tree: Tree,
}

/// One durable change, and the messages that must wait for it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(bound = "")]
pub enum Record<C: Crypto> {
    /// Before PRE-PREPARE or PREPARE: this digest and no other is accepted for its view and number.
    PrePrepared(Signed<PrePrepare, C>, Arc<Batch<C>>),
    /// Before COMMIT of a batch that a new view carried over: the batch itself.
    Batch(Arc<Batch<C>>),
    /// Before COMMIT: the certificate that VIEW-CHANGE must report.
    Prepared(PreparedCertificate<C>),
    /// Before REPLY and CHECKPOINT: `n` was executed with this batch.
    Executed(SeqNo, Digest),
    /// Before VIEW-CHANGE: the old view is over.
    ViewChange(Arc<Signed<ViewChange<C>, C>>),
    /// Before NEW-VIEW or the PREPAREs for its `O`: the view is entered.
    NewView(Arc<Signed<NewView<C>, C>>),
    /// Before any message that relies on the new h: what the checkpoint covers may be discarded.
    Stable(StableCertificate<C>),
    /// Before executing on top of it: the state at the stable checkpoint, own or fetched.
    Snapshot(Arc<Snapshot>),
}

/// A NEW-VIEW, if there has been one.
pub(super) type LastNewView<C> = Option<Arc<Signed<NewView<C>, C>>>;

/// The durable part of a replica's state. A host that keeps records rebuilds it from `Durable::default()` by
/// [`apply`](Durable::apply), in order; the snapshot of the initial state, which no record stands for, is
/// made when the replica starts. Bounded: everything lies in the window `(h, H]`, or between the snapshot and
/// the last executed batch, which are less than a window apart once the state is fetched; until then, after a
/// start from a store, there are as many executed batches as its log holds since its last base.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Durable<C: Crypto> {
    /// The view last entered.
    pub view: View,
    /// The VIEW-CHANGE sent since, if any: the replica is between two views.
    pub view_change: Option<Arc<Signed<ViewChange<C>, C>>>,
    /// The NEW-VIEW by which `view` was entered; none in view 0.
    pub new_view: Noted<LastNewView<C>, { Part::NewView as u8 }>,
    /// Accepted PRE-PREPAREs of the current view, above h.
    pub log: BTreeMap<(View, SeqNo), Signed<PrePrepare, C>>,
    /// For each sequence number above h what was accepted in views since left, the latest last.
    ///
    /// Who sent PREPARE keeps the batch: a certificate it helped to make may surface in a later view only,
    /// and then nobody else may have it. Source: OSDI'99 §4.3 (the log is discarded by checkpoints alone).
    pub superseded: BTreeMap<SeqNo, Vec<Digest>>,
    /// The batches that the log, the certificates, `executed` and `superseded` name.
    pub batches: BTreeMap<Digest, Arc<Batch<C>>>,
    /// `P`: for each sequence number above h the certificate of the latest view in which it prepared.
    pub prepared: BTreeMap<SeqNo, PreparedCertificate<C>>,
    /// The batches executed on top of the snapshot.
    pub executed: BTreeMap<SeqNo, Digest>,
    /// The last stable checkpoint known; none for the initial state.
    pub stable: Option<StableCertificate<C>>,
    /// The state at the last stable checkpoint that this replica has.
    pub snapshot: Arc<Snapshot>,
}

impl<C: Crypto> Durable<C> {
    /// `h`, the sequence number of the last stable checkpoint known.
    pub fn h(&self) -> SeqNo {
        self.stable.as_ref().map_or(SeqNo(0), |certificate| certificate.n)
    }

    /// The view of the VIEW-CHANGE sent, while the replica is between two views.
    pub fn leaving(&self) -> Option<View> {
        self.view_change.as_ref().map(|m| m.content.view)
    }

    /// The last batch executed.
    pub fn last_executed(&self) -> SeqNo {
        self.executed.last_key_value().map_or(self.snapshot.n, |(&n, _)| n)
    }

    /// The change that a record stands for. `Rules` matter to mutants only: the paper's rules forget
    /// everything of a view that is left.
    pub fn apply<R: Rules>(&mut self, record: &Record<C>, rules: &R) {
        match record {
            Record::PrePrepared(pre_prepare, batch) => {
                let PrePrepare { view, n, digest } = pre_prepare.content;
                self.log.insert((view, n), pre_prepare.clone());
                self.add_batch(digest, batch);
            }
            Record::Batch(batch) => self.add_batch(batch.digest(), batch),
            Record::Prepared(certificate) => {
                self.prepared.insert(certificate.n, certificate.clone());
            }
            Record::Executed(n, digest) => {
                self.executed.insert(*n, *digest);
            }
            Record::ViewChange(view_change) => self.view_change = Some(view_change.clone()),
            Record::NewView(new_view) => self.enter(new_view, rules),
            Record::Stable(certificate) => {
                self.stable = Some(certificate.clone());
                let h = certificate.n;
                self.log.retain(|&(_, n), _| n > h);
                self.prepared.retain(|&n, _| n > h);
                self.superseded.retain(|&n, _| n > h);
                self.drop_unnamed_batches();
            }
            Record::Snapshot(snapshot) => {
                self.snapshot = snapshot.clone();
                self.executed.retain(|&n, _| n > snapshot.n);
                self.drop_unnamed_batches();
            }
        }
    }

    fn enter<R: Rules>(&mut self, new_view: &Arc<Signed<NewView<C>, C>>, rules: &R) {
        let (view, h) = (new_view.content.view, self.h());
        self.view = view;
        self.view_change = None;
        self.new_view.set(Some(new_view.clone()));
        self.supersede_log();
        self.log.retain(|&(old, _), _| !rules.forget_old_votes(old, view));
        for pre_prepare in &new_view.content.pre_prepares {
            if pre_prepare.content.n > h {
                self.log.insert((view, pre_prepare.content.n), pre_prepare.clone());
            }
        }
        if !rules.prepared_survives() {
            self.prepared.clear();
        }
        self.drop_unnamed_batches();
    }

    fn supersede_log(&mut self) {
        for signed in self.log.values() {
            let PrePrepare { n, digest, .. } = signed.content;
            if !self.batches.contains_key(&digest) {
                continue;
            }
            let kept = self.superseded.entry(n).or_default();
            kept.retain(|&other| other != digest);
            kept.push(digest);
            if kept.len() > MAX_SUPERSEDED {
                kept.remove(0);
            }
        }
    }

    fn add_batch(&mut self, digest: Digest, batch: &Arc<Batch<C>>) {
        if digest != Digest::NULL {
            self.batches.insert(digest, batch.clone());
        }
    }

    fn drop_unnamed_batches(&mut self) {
        let named: BTreeSet<Digest> = (self.log.values().map(|m| m.content.digest))
            .chain(self.prepared.values().map(|certificate| certificate.digest))
            .chain(self.executed.values().copied())
            .chain(self.superseded.values().flatten().copied())
            .collect();
        self.batches.retain(|digest, _| named.contains(digest));
    }
}
