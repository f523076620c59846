//! What PBFT guarantees: one theorem a file, over what the correct replicas have done.
//!
//! A property judges the [`History`] of facts of each correct replica, never its state, so it holds whatever
//! the replica forgets, crashes through or represents otherwise. [`check_all`] judges them all; [`all`] lists
//! them. A history that does not begin with the replica's first start begins with a [`Base`], a state by
//! which what follows is judged; every property takes such histories. Each can be called by itself:
//!
//! ```
//! use pbft::crypto::ed25519::Ed25519;
//! use pbft::kv::KeyValue;
//! use pbft::replica::Fact;
//! use pbft::parameters::Parameters;
//! use pbft::types::{Cluster, Digest, ReplicaId, SeqNo, View};
//! use pbft_properties::{Catalogue, History, PreparedUniqueness, Property, Snapshot, check_all};
//! use std::collections::{BTreeMap, BTreeSet};
//!
//! let mut replicas = BTreeMap::<ReplicaId, History>::new();
//! for (replica, byte) in [(0, 1), (2, 2)] {
//!     let fact = Fact::Prepared { view: View(0), n: SeqNo(1), digest: Digest([byte; 32]) };
//!     replicas.entry(ReplicaId(replica)).or_default().record(&fact);
//! }
//! let snapshot = Snapshot {
//!     cluster: Cluster::new(4, 1),
//!     parameters: Parameters::default(),
//!     genesis: &KeyValue::default(),
//!     replicas: &replicas,
//!     authentic: &BTreeSet::new(),
//!     catalogue: &Catalogue::new::<Ed25519>(),
//!     accepted: &[],
//!     calls: &[],
//! };
//! let violation = PreparedUniqueness::check(&snapshot).unwrap_err();
//! assert_eq!(check_all(&snapshot), Err(violation.clone()));
//! assert_eq!(
//!     violation.to_string(),
//!     "prepared-uniqueness: in view 0 at n = 1, 01010101 is prepared at replica 0 and 02020202 at replica 2"
//! );
//! ```

mod agreed;
mod agreement;
mod at_most_once;
mod base;
mod catalogue;
mod checkpoint_is_state;
mod checkpoints_agree;
pub mod contract;
mod executes_agreed_batch;
#[cfg(test)]
mod fixture;
mod history;
mod linearizable;
mod new_view_preserves_committed;
mod prepared_uniqueness;
pub mod proof;
mod replies_never_conflict;
mod snapshot;
mod state;
mod validity;
mod view_monotonic;
mod watermarks;

pub use agreement::Agreement;
pub use at_most_once::AtMostOnce;
pub use base::Base;
pub use catalogue::Catalogue;
pub use checkpoint_is_state::CheckpointIsState;
pub use checkpoints_agree::CheckpointsAgree;
pub use executes_agreed_batch::ExecutesAgreedBatch;
pub use history::{Entry, Execution, History, ServiceStep, Slots, StaleVote, ViewStep};
pub use linearizable::Linearizable;
pub use new_view_preserves_committed::NewViewPreservesCommitted;
pub use prepared_uniqueness::PreparedUniqueness;
pub use replies_never_conflict::RepliesNeverConflict;
pub use snapshot::{Accepted, Call, Property, Snapshot, Violation};
pub use validity::Validity;
pub use view_monotonic::ViewMonotonic;
pub use watermarks::Watermarks;

use pbft::service::Service;

/// A property as a value, for tools that list or choose among them.
#[derive(Clone, Copy, Debug)]
pub struct Listed<S: Service> {
    /// The [`Property::NAME`].
    pub name: &'static str,
    /// The [`Property::SOURCE`].
    pub source: &'static str,
    /// The [`Property::THEOREM`].
    pub theorem: &'static str,
    /// Whether it says nothing where nobody knows the calls of clients: [`Snapshot::calls`].
    pub is_of_calls: bool,
    /// The [`Property::check`].
    pub check: fn(&Snapshot<'_, S>) -> Result<(), Violation>,
}

impl<S: Service> Listed<S> {
    fn of<P: Property<S>>() -> Self {
        let is_of_calls = false;
        Listed { name: P::NAME, source: P::SOURCE, theorem: P::THEOREM, is_of_calls, check: P::check }
    }
}

/// Every property, causes before consequences: what breaks an earlier one tends to break later ones.
/// Those which run the service again from the beginning, and so cost most, are last.
pub fn all<S: Service>() -> [Listed<S>; 12] {
    [
        Listed::of::<ViewMonotonic>(),
        Listed::of::<Watermarks>(),
        Listed::of::<PreparedUniqueness>(),
        Listed::of::<NewViewPreservesCommitted>(),
        Listed::of::<Agreement>(),
        Listed::of::<CheckpointsAgree>(),
        Listed::of::<AtMostOnce>(),
        Listed::of::<RepliesNeverConflict>(),
        Listed::of::<Validity>(),
        Listed::of::<ExecutesAgreedBatch>(),
        Listed::of::<CheckpointIsState>(),
        Listed { is_of_calls: true, ..Listed::of::<Linearizable>() },
    ]
}

/// Judges every property, in the order of [`all`].
///
/// Time is that of the whole history each time. What is done stays done, so a violation found after a step is
/// still found at the end of a run, with two exceptions: a vote above H is forgiven once h has caught up
/// ([`Watermarks`]), and a result, a request or a batch whose origin is recorded only later
/// ([`RepliesNeverConflict`], [`Validity`], [`ExecutesAgreedBatch`]).
///
/// # Errors
/// The violation of the first property that is broken.
pub fn check_all<S: Service>(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
    all::<S>().iter().try_for_each(|property| (property.check)(snapshot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, committed, executed, pre_prepared, prepared};
    use pbft::kv::KeyValue;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_distinct_and_each_theorem_is_one_sentence() {
        let names: BTreeSet<&str> = all::<KeyValue>().iter().map(|property| property.name).collect();
        assert_eq!(names.len(), all::<KeyValue>().len());
        for Listed { name, source, theorem, .. } in all::<KeyValue>() {
            assert!(name.chars().all(|c| c == '-' || c.is_ascii_lowercase()), "{name}");
            assert!(theorem.ends_with('.') && theorem.matches(". ").count() == 0, "{theorem}");
            assert!(source.starts_with("OSDI'99 §"), "{source}");
        }
    }

    #[test]
    fn nothing_done_violates_nothing() {
        assert_eq!(check_all(&World::new().snapshot()), Ok(()));
    }

    #[test]
    fn check_all_finds_what_any_of_them_finds() {
        let mut world = World::new();
        for replica in [0, 1] {
            for fact in [pre_prepared(0, 1, 1), prepared(0, 1, 1), committed(0, 1, 1)] {
                world = world.with(replica, fact);
            }
        }
        assert_eq!(check_all(&world.snapshot()), Ok(()));
        // Late in the list: what comes before it does not end the search.
        let gap = world.with(0, executed(2, 2, &[]));
        assert_eq!(check_all(&gap.snapshot()).map_err(|violation| violation.property), Err("validity"));
    }
}
