//! Replicas vote inside their window, and the window moves up by whole checkpoints.

use crate::{History, Property, Snapshot, Violation};
use pbft::parameters::Parameters;
use pbft::service::Service;
use pbft::types::{ReplicaId, SeqNo};

/// At each correct replica h only grows and is a multiple of the checkpoint interval, and whatever it
/// pre-prepares, prepares or commits lies in `(h, H]`.
///
/// The lower bound is that of the moment of the vote. The upper bound is judged against the h of now, which
/// is no lower; judged after every step, that is the h after the step of the vote. No vote is ever at 0.
/// Source: OSDI'99 §4.2, §4.3.
pub struct Watermarks;

const NAME: &str = "watermarks";

impl<S: Service> Property<S> for Watermarks {
    const NAME: &'static str = NAME;
    const SOURCE: &'static str = "OSDI'99 §4.2, §4.3";
    const THEOREM: &'static str = "At a correct replica h only grows, by whole checkpoint intervals, and \
                                   every vote lies in the window above it.";

    fn check(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
        let mut replicas = snapshot.replicas.iter();
        replicas.try_for_each(|(&replica, history)| {
            h_grows(replica, history, &snapshot.parameters)?;
            votes_in_window(replica, history, &snapshot.parameters)
        })
    }
}

fn h_grows(replica: ReplicaId, history: &History, parameters: &Parameters) -> Result<(), Violation> {
    let (mut h, interval) = (SeqNo(0), parameters.checkpoint_interval);
    for &(n, _) in &history.stable {
        if n <= h {
            return Err(violation(format!("replica {}: h = {} after h = {}", replica.0, n.0, h.0)));
        }
        // An interval of 0 has no multiples; the configuration is refused elsewhere.
        if n.0.checked_rem(interval) != Some(0) {
            return Err(violation(format!(
                "replica {}: h = {} with a checkpoint every {interval}",
                replica.0, n.0
            )));
        }
        h = n;
    }
    Ok(())
}

fn votes_in_window(replica: ReplicaId, history: &History, parameters: &Parameters) -> Result<(), Violation> {
    if let Some(vote) = history.stale_vote {
        let (replica, view, n, h) = (replica.0, vote.view.0, vote.n.0, vote.h.0);
        return Err(violation(format!("replica {replica} voted in view {view} at n = {n}, with h = {h}")));
    }
    let h = history.h();
    let high = pbft::types::Watermarks { h, window: parameters.window }.high();
    let votes = [
        (history.pre_prepared(), "pre-prepared"),
        (history.prepared(), "prepared"),
        (history.committed(), "committed"),
    ];
    for (slots, done) in votes {
        if let Some((view, n)) = slots.keys().find(|(_, n)| *n > high) {
            let (replica, view, n, h, high) = (replica.0, view.0, n.0, h.0, high.0);
            return Err(violation(format!(
                "replica {replica} {done} in view {view} at n = {n}, with h = {h} and H = {high}"
            )));
        }
    }
    Ok(())
}

fn violation(what: String) -> Violation {
    Violation { property: NAME, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, committed, pre_prepared, prepared, stable};

    #[test]
    fn votes_from_just_above_h_up_to_high_lie_in_the_window_as_it_moves() {
        World::new()
            .with_all(0, &[pre_prepared(0, 1, 1), prepared(0, 1, 1), committed(0, 4, 4), stable(2, 7)])
            .with_all(0, &[pre_prepared(0, 3, 1), prepared(0, 6, 1), committed(0, 3, 4), stable(6, 8)])
            .with_all(1, &[pre_prepared(0, 1, 1), prepared(0, 4, 1), committed(0, 4, 1)])
            .satisfies::<Watermarks>();
    }

    #[test]
    fn h_that_goes_back_or_stays_is_a_violation() {
        World::new()
            .with_all(1, &[stable(4, 1), stable(2, 2)])
            .violates::<Watermarks>("replica 1: h = 2 after h = 4");
        World::new()
            .with_all(1, &[stable(4, 1), stable(4, 1)])
            .violates::<Watermarks>("replica 1: h = 4 after h = 4");
        World::new().with(1, stable(0, 1)).violates::<Watermarks>("replica 1: h = 0 after h = 0");
    }

    #[test]
    fn h_between_two_checkpoints_is_a_violation() {
        World::new()
            .with(1, stable(3, 1))
            .violates::<Watermarks>("replica 1: h = 3 with a checkpoint every 2");
    }

    #[test]
    fn an_interval_of_0_is_no_panic() {
        let world = World::new().with(0, stable(2, 1));
        let mut snapshot = world.snapshot();
        snapshot.parameters.checkpoint_interval = 0;
        assert!(Watermarks::check(&snapshot).is_err());
    }

    #[test]
    fn any_vote_above_the_window_is_a_violation() {
        World::new()
            .with_all(0, &[stable(2, 1), pre_prepared(1, 7, 1)])
            .violates::<Watermarks>("replica 0 pre-prepared in view 1 at n = 7, with h = 2 and H = 6");
        World::new()
            .with(0, prepared(0, 5, 1))
            .violates::<Watermarks>("replica 0 prepared in view 0 at n = 5, with h = 0 and H = 4");
        World::new()
            .with(0, committed(0, 5, 1))
            .violates::<Watermarks>("replica 0 committed in view 0 at n = 5, with h = 0 and H = 4");
    }

    #[test]
    fn any_vote_at_or_below_h_is_a_violation() {
        let at_2 = "replica 2 voted in view 1 at n = 2, with h = 2";
        World::new().with_all(2, &[stable(2, 1), pre_prepared(1, 2, 1)]).violates::<Watermarks>(at_2);
        World::new().with_all(2, &[stable(2, 1), prepared(1, 2, 1)]).violates::<Watermarks>(at_2);
        World::new().with_all(2, &[stable(2, 1), committed(1, 2, 1)]).violates::<Watermarks>(at_2);
    }

    #[test]
    fn a_vote_at_0_is_a_violation() {
        World::new()
            .with(2, pre_prepared(0, 0, 1))
            .violates::<Watermarks>("replica 2 voted in view 0 at n = 0, with h = 0");
    }
}
