//! What one correct replica has done since it first started, or since it was known to be in some state.

use crate::Base;
use pbft::replica::{ExecutedRequest, Fact};
use pbft::types::{Digest, SeqNo, View};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The digests voted for in each view and at each sequence number.
pub type Slots = BTreeMap<(View, SeqNo), BTreeSet<Digest>>;

/// One batch that a replica executed.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Execution {
    /// The sequence number.
    pub n: SeqNo,
    /// The batch; [`Digest::NULL`] for the null request.
    pub digest: Digest,
    /// The requests that ran, in order, with their results.
    pub requests: Vec<ExecutedRequest>,
}

/// One advance of a replica's service.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ServiceStep {
    /// A batch was executed.
    Executed(Arc<Execution>),
    /// The state was fetched from others.
    Transferred {
        /// The last sequence number in the state.
        n: SeqNo,
        /// The digest of the state.
        digest: Digest,
    },
}

/// A view that a replica entered by a NEW-VIEW.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Entry {
    /// The view.
    pub view: View,
    /// `h` at the replica as it entered.
    pub h: SeqNo,
    /// What `O` carries over above `h`.
    pub carried: BTreeMap<SeqNo, Digest>,
}

/// One change of a replica's view.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ViewStep {
    /// VIEW-CHANGE was sent.
    Left {
        /// The view entered last.
        view: View,
        /// The view to change to.
        to: View,
    },
    /// A view was entered.
    Entered(Arc<Entry>),
    /// Nothing was done; but from here on this is the view entered last, whatever the replica says.
    HeldTo(View),
}

/// A vote at or below the `h` that the voter knew.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct StaleVote {
    /// The view of the vote.
    pub view: View,
    /// Its sequence number.
    pub n: SeqNo,
    /// `h` at the voter.
    pub h: SeqNo,
}

/// What one correct replica has done, from its facts alone.
///
/// A history only grows, and goes on when its replica crashes and restarts: what was sent before the crash
/// still binds. Votes may be recorded again after a restart. An execution may not, so whoever records
/// must keep what is recorded and what is durable in step: of a step cut short by a crash, exactly the
/// facts whose records survived.
///
/// Not bounded: it is no part of a replica. Clones share executions and entries.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct History {
    /// With what it begins, if that is not the initial state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<Arc<Base>>,
    pub(crate) pre_prepared: Slots,
    pub(crate) prepared: Slots,
    pub(crate) committed: Slots,
    pub(crate) service: Vec<ServiceStep>,
    pub(crate) views: Vec<ViewStep>,
    pub(crate) checkpoints: BTreeMap<SeqNo, BTreeSet<Digest>>,
    pub(crate) stable: Vec<(SeqNo, Digest)>,
    pub(crate) stale_vote: Option<StaleVote>,
}

impl Hash for History {
    /// As it would be derived, but that nothing stands for a history from the initial state: stored
    /// counterexamples name their states by this.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let History {
            base,
            pre_prepared,
            prepared,
            committed,
            service,
            views,
            checkpoints,
            stable,
            stale_vote,
        } = self;
        (pre_prepared, prepared, committed, service, views, checkpoints, stable, stale_vote).hash(state);
        if let Some(base) = base {
            base.hash(state);
        }
    }
}

impl History {
    /// The history of a replica of which nothing is known but what it is now.
    pub fn since(base: Base) -> Self {
        let stable = base.stable.into_iter().collect();
        History { base: Some(Arc::new(base)), stable, ..History::default() }
    }

    /// With what it begins, if that is not the initial state.
    pub fn base(&self) -> Option<&Base> {
        self.base.as_deref()
    }

    /// Adds what the replica did next.
    pub fn record(&mut self, fact: &Fact) {
        match fact {
            &Fact::PrePrepared { view, n, digest } => {
                self.note_if_stale(view, n);
                self.pre_prepared.entry((view, n)).or_default().insert(digest);
            }
            &Fact::Prepared { view, n, digest } => {
                self.note_if_stale(view, n);
                self.prepared.entry((view, n)).or_default().insert(digest);
            }
            &Fact::Committed { view, n, digest } => {
                self.note_if_stale(view, n);
                self.committed.entry((view, n)).or_default().insert(digest);
            }
            Fact::Executed { n, digest, requests } => {
                let execution = Execution { n: *n, digest: *digest, requests: requests.clone() };
                self.service.push(ServiceStep::Executed(Arc::new(execution)));
            }
            &Fact::ViewLeft { view, to } => self.views.push(ViewStep::Left { view, to }),
            Fact::ViewEntered { view, carried } => {
                let entry = Entry { view: *view, h: self.h(), carried: carried.iter().copied().collect() };
                self.views.push(ViewStep::Entered(Arc::new(entry)));
            }
            &Fact::CheckpointTaken { n, digest } => {
                self.checkpoints.entry(n).or_default().insert(digest);
            }
            &Fact::CheckpointStable { n, digest } => self.stable.push((n, digest)),
            &Fact::StateTransferred { n, digest } => {
                self.service.push(ServiceStep::Transferred { n, digest });
            }
        }
    }

    /// `h`: the highest checkpoint that the replica has known to be stable, 0 before any.
    pub fn h(&self) -> SeqNo {
        self.stable.iter().map(|&(n, _)| n).max().unwrap_or_default()
    }

    /// Without what is committed.
    pub fn without_committed(&self) -> History {
        History { committed: Slots::new(), ..self.clone() }
    }

    /// Without what is prepared and the views left and entered.
    pub fn without_views(&self) -> History {
        let views = self.held_to().map(ViewStep::HeldTo).into_iter().collect();
        History { prepared: Slots::new(), pre_prepared: Slots::new(), views, ..self.clone() }
    }

    /// Whether everything in `other` is here too: its votes and views, and what it executed as a beginning of
    /// what is executed here.
    pub fn includes(&self, other: &History) -> bool {
        let votes = |ours: &Slots, theirs: &Slots| {
            theirs.iter().all(|(slot, d)| ours.get(slot).is_some_and(|known| d.is_subset(known)))
        };
        self.base == other.base
            && votes(&self.pre_prepared, &other.pre_prepared)
            && votes(&self.prepared, &other.prepared)
            && votes(&self.committed, &other.committed)
            && self.service.starts_with(&other.service)
            && other.views.iter().all(|step| self.views.contains(step))
            && other.checkpoints.iter().all(|(n, d)| self.checkpoints.get(n) == Some(d))
            && self.stable.starts_with(&other.stable)
            && (other.stale_vote.is_none() || self.stale_vote == other.stale_vote)
    }

    /// The batches executed, in order.
    pub fn executions(&self) -> impl Iterator<Item = &Execution> {
        self.service.iter().filter_map(|step| match step {
            ServiceStep::Executed(execution) => Some(&**execution),
            ServiceStep::Transferred { .. } => None,
        })
    }

    /// The executions and state transfers, in order.
    pub fn service_steps(&self) -> &[ServiceStep] {
        &self.service
    }

    /// The views entered by a NEW-VIEW, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.views.iter().filter_map(|step| match step {
            ViewStep::Entered(entry) => Some(&**entry),
            ViewStep::Left { .. } | ViewStep::HeldTo(_) => None,
        })
    }

    /// From here on, `entered` is the view that was entered last, whatever the replica says: for whoever does
    /// not record every view left, and relies on the replica to know it.
    pub fn hold_to(&mut self, entered: View) {
        if self.held_to() != Some(entered) {
            self.views.push(ViewStep::HeldTo(entered));
        }
    }

    /// The view that was entered last, if the replica is held to it.
    pub fn held_to(&self) -> Option<View> {
        let is_held = self.views.iter().any(|step| matches!(step, ViewStep::HeldTo(_)));
        let entered = self.views.iter().rev().find_map(|step| match step {
            ViewStep::Entered(entry) => Some(entry.view),
            ViewStep::HeldTo(view) => Some(*view),
            ViewStep::Left { .. } => None,
        });
        entered.filter(|_| is_held)
    }

    /// The views left and entered, in order.
    pub fn view_steps(&self) -> &[ViewStep] {
        &self.views
    }

    /// What was committed-local.
    pub fn committed(&self) -> &Slots {
        &self.committed
    }

    /// What was prepared.
    pub fn prepared(&self) -> &Slots {
        &self.prepared
    }

    /// The states of which a checkpoint was taken.
    pub fn checkpoints(&self) -> &BTreeMap<SeqNo, BTreeSet<Digest>> {
        &self.checkpoints
    }

    /// The checkpoints known to be stable, in the order in which that became known.
    pub fn stable(&self) -> &[(SeqNo, Digest)] {
        &self.stable
    }

    /// The first vote at or below the `h` that the voter knew.
    pub fn stale_vote(&self) -> Option<StaleVote> {
        self.stale_vote
    }

    /// What was pre-prepared.
    pub fn pre_prepared(&self) -> &Slots {
        &self.pre_prepared
    }

    /// Keeps the first vote at or below h: h grows, so later it would look as any other.
    fn note_if_stale(&mut self, view: View, n: SeqNo) {
        let h = self.h();
        if n <= h && self.stale_vote.is_none() {
            self.stale_vote = Some(StaleVote { view, n, h });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{committed, digest, entered, executed, pre_prepared, stable, transferred};

    fn history(facts: &[Fact]) -> History {
        let mut history = History::default();
        facts.iter().for_each(|fact| history.record(fact));
        history
    }

    #[test]
    fn a_vote_recorded_again_after_a_restart_changes_nothing() {
        let once = history(&[committed(0, 1, 1)]);
        assert_eq!(history(&[committed(0, 1, 1), committed(0, 1, 1)]), once);
        assert_ne!(history(&[committed(0, 1, 1), committed(0, 1, 2)]), once);
    }

    #[test]
    fn an_entry_remembers_the_h_known_as_it_was_made() {
        let history = history(&[entered(1, &[(1, 1)]), stable(2, 7), entered(2, &[(3, 3)]), stable(4, 8)]);
        let entries: Vec<_> = history.entries().map(|entry| (entry.view.0, entry.h.0)).collect();
        assert_eq!(entries, [(1, 0), (2, 2)]);
        assert_eq!(history.h(), SeqNo(4));
    }

    #[test]
    fn executions_and_transfers_keep_their_order() {
        let before = history(&[executed(1, 1, &[]), transferred(4, 7)]);
        let after = history(&[transferred(4, 7), executed(1, 1, &[])]);
        assert_ne!(before, after);
        assert_eq!(before.executions().count(), 1);
        assert_eq!(before.service_steps()[1], ServiceStep::Transferred { n: SeqNo(4), digest: digest(7) });
    }

    #[test]
    fn a_vote_above_h_is_not_stale_even_when_h_passes_it_later() {
        let vote_first = history(&[pre_prepared(0, 2, 1), stable(2, 7)]);
        assert_eq!(vote_first.stale_vote, None);
        let stable_first = history(&[stable(2, 7), pre_prepared(0, 2, 1)]);
        assert_eq!(stable_first.stale_vote, Some(StaleVote { view: View(0), n: SeqNo(2), h: SeqNo(2) }));
    }
}
