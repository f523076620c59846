//! Views only grow.

use crate::{History, Property, Snapshot, ViewStep, Violation};
use pbft::service::Service;
use pbft::types::{ReplicaId, View};

/// At each correct replica the views entered strictly increase, starting above view 0; each VIEW-CHANGE is
/// for a view above those of all before it and above the view entered last; and no view below that of a
/// VIEW-CHANGE sent is entered.
///
/// Source: OSDI'99 §4.4.
pub struct ViewMonotonic;

const NAME: &str = "view-monotonic";

impl<S: Service> Property<S> for ViewMonotonic {
    const NAME: &'static str = NAME;
    const SOURCE: &'static str = "OSDI'99 §4.4";
    const THEOREM: &'static str = "The views that a correct replica leaves for and enters only increase, \
                                   across restarts too.";

    fn check(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
        snapshot.replicas.iter().try_for_each(|(&replica, history)| views_increase(replica, history))
    }
}

fn views_increase(replica: ReplicaId, history: &History) -> Result<(), Violation> {
    // Nothing below the initial view exists to be left for: 0 stands for no VIEW-CHANGE sent.
    let begun = history.base.as_ref().map(|base| (base.view, base.leaving.unwrap_or_default()));
    let (mut entered, mut left_for) = begun.unwrap_or_default();
    for step in history.view_steps() {
        match step {
            ViewStep::Left { view, to } => {
                if *view != entered {
                    return Err(violation(replica, "left", *view, "in", entered));
                }
                if *to <= entered {
                    return Err(violation(replica, "left for", *to, "in", entered));
                }
                if *to <= left_for {
                    return Err(violation(replica, "left for", *to, "after leaving for", left_for));
                }
                left_for = *to;
            }
            ViewStep::Entered(entry) => {
                if entry.view <= entered {
                    return Err(violation(replica, "entered", entry.view, "in", entered));
                }
                if entry.view < left_for {
                    return Err(violation(replica, "entered", entry.view, "after leaving for", left_for));
                }
                entered = entry.view;
            }
            ViewStep::HeldTo(view) => entered = *view,
        }
    }
    Ok(())
}

fn violation(replica: ReplicaId, did: &str, view: View, when: &str, bound: View) -> Violation {
    let what = format!("replica {} {did} view {} {when} view {}", replica.0, view.0, bound.0);
    Violation { property: NAME, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, entered, left};

    #[test]
    fn views_may_be_skipped_and_entered_without_leaving() {
        World::new()
            .with_all(0, &[left(0, 1), left(0, 2), entered(2, &[]), entered(5, &[]), left(5, 6)])
            .with_all(1, &[left(0, 1), entered(3, &[]), left(3, 4), entered(4, &[])])
            .satisfies::<ViewMonotonic>();
    }

    #[test]
    fn entering_a_view_again_or_a_lower_one_is_a_violation() {
        World::new()
            .with_all(0, &[entered(2, &[]), entered(2, &[])])
            .violates::<ViewMonotonic>("replica 0 entered view 2 in view 2");
        World::new()
            .with_all(0, &[entered(2, &[]), entered(1, &[])])
            .violates::<ViewMonotonic>("replica 0 entered view 1 in view 2");
        World::new().with(0, entered(0, &[])).violates::<ViewMonotonic>("replica 0 entered view 0 in view 0");
    }

    #[test]
    fn leaving_again_for_a_view_or_for_a_lower_one_is_a_violation() {
        World::new()
            .with_all(3, &[left(0, 2), left(0, 2)])
            .violates::<ViewMonotonic>("replica 3 left for view 2 after leaving for view 2");
        World::new()
            .with_all(3, &[left(0, 2), left(0, 1)])
            .violates::<ViewMonotonic>("replica 3 left for view 1 after leaving for view 2");
    }

    #[test]
    fn leaving_for_the_view_entered_or_a_lower_one_is_a_violation() {
        World::new()
            .with_all(3, &[entered(2, &[]), left(2, 2)])
            .violates::<ViewMonotonic>("replica 3 left for view 2 in view 2");
        World::new()
            .with_all(3, &[entered(2, &[]), left(2, 1)])
            .violates::<ViewMonotonic>("replica 3 left for view 1 in view 2");
    }

    #[test]
    fn entering_a_view_below_the_one_left_for_is_a_violation() {
        World::new()
            .with_all(1, &[left(0, 3), entered(2, &[])])
            .violates::<ViewMonotonic>("replica 1 entered view 2 after leaving for view 3");
    }

    #[test]
    fn leaving_another_view_than_the_one_entered_last_is_a_violation() {
        World::new()
            .with_all(1, &[entered(2, &[]), left(0, 3)])
            .violates::<ViewMonotonic>("replica 1 left view 0 in view 2");
    }
}
