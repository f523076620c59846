//! At most one digest is prepared in a view at a sequence number.

use crate::{Property, Snapshot, Violation};
use pbft::service::Service;
use std::collections::BTreeMap;

/// In one view and at one sequence number the same digest is prepared at every correct replica at which any
/// is.
///
/// Source: OSDI'99 §4.2: the pre-prepare and prepare phases order requests within a view.
pub struct PreparedUniqueness;

const NAME: &str = "prepared-uniqueness";

impl<S: Service> Property<S> for PreparedUniqueness {
    const NAME: &'static str = NAME;
    const SOURCE: &'static str = "OSDI'99 §4.2";
    const THEOREM: &'static str =
        "At most one digest is prepared at correct replicas in one view and at one sequence number.";

    fn check(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
        let mut prepared = BTreeMap::new();
        for (&replica, history) in snapshot.replicas {
            for (&(view, n), digests) in history.prepared() {
                for &digest in digests {
                    let (first, known) = *prepared.entry((view, n)).or_insert((replica, digest));
                    if known != digest {
                        let (view, n, first, replica) = (view.0, n.0, first.0, replica.0);
                        let what = format!(
                            "in view {view} at n = {n}, {known:?} is prepared at replica {first} and \
                             {digest:?} at replica {replica}"
                        );
                        return Err(Violation { property: NAME, what });
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, pre_prepared, prepared};

    #[test]
    fn different_digests_may_prepare_in_different_views_and_at_different_numbers() {
        World::new()
            .with_all(0, &[prepared(0, 1, 1), prepared(1, 1, 2), prepared(1, 2, 3)])
            .with_all(1, &[prepared(1, 1, 2), prepared(0, 1, 1)])
            .satisfies::<PreparedUniqueness>();
    }

    #[test]
    fn different_digests_may_be_pre_prepared_but_not_prepared() {
        World::new()
            .with(0, pre_prepared(0, 1, 1))
            .with_all(1, &[pre_prepared(0, 1, 2), prepared(0, 1, 2)])
            .satisfies::<PreparedUniqueness>();
    }

    #[test]
    fn two_digests_prepared_at_two_replicas_are_a_violation() {
        World::new()
            .with(1, prepared(3, 1, 1))
            .with_all(2, &[prepared(3, 2, 1), prepared(3, 1, 2)])
            .violates::<PreparedUniqueness>(
            "in view 3 at n = 1, 01010101 is prepared at replica 1 and 02020202 at replica 2",
        );
    }

    #[test]
    fn two_digests_prepared_at_one_replica_are_a_violation() {
        World::new().with_all(0, &[prepared(0, 1, 1), prepared(0, 1, 0)]).violates::<PreparedUniqueness>(
            "in view 0 at n = 1, null is prepared at replica 0 and 01010101 at replica 0",
        );
    }
}
