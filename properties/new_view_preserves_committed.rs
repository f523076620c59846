//! What commits in a view is never contradicted in a later one.

use crate::{Entry, History, Property, Snapshot, Violation};
use pbft::service::Service;
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use std::collections::BTreeMap;
use std::ops::Bound;

/// If a correct replica commits `d` in `v` at `n`, then every correct replica that enters a view above `v`
/// with its h below `n` finds `(n, d)` in `O`, and in no view above `v` is anything but `d` prepared or
/// committed at `n` at a correct replica.
///
/// It does not matter which comes first: a COMMIT may arrive in the old view after others have entered the
/// new one. Source: OSDI'99 §4.4, §4.5.1.
pub struct NewViewPreservesCommitted;

const NAME: &str = "new-view-preserves-committed";

/// For each sequence number and digest committed, the lowest view and who committed in it.
type Commits = BTreeMap<SeqNo, BTreeMap<Digest, (View, ReplicaId)>>;

impl<S: Service> Property<S> for NewViewPreservesCommitted {
    const NAME: &'static str = NAME;
    const SOURCE: &'static str = "OSDI'99 §4.4, §4.5.1";
    const THEOREM: &'static str = "What a correct replica commits in a view, every correct replica carries \
                                   over into each later view it enters below that sequence number, and \
                                   nothing else is prepared or committed there.";

    fn check(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
        if snapshot.replicas.values().all(stays_in_view_0) {
            return Ok(());
        }
        let commits = commits(snapshot.replicas);
        for (&replica, history) in snapshot.replicas {
            for entry in history.entries() {
                carries(replica, entry, snapshot.cluster.primary(entry.view), &commits)?;
            }
            for (votes, done) in [(history.prepared(), "prepared"), (history.committed(), "committed")] {
                for (&(view, n), digests) in votes.range(ABOVE_VIEW_0..) {
                    for &digest in digests {
                        contradicts_nothing((replica, view, n, digest), done, &commits)?;
                    }
                }
            }
        }
        Ok(())
    }
}

const ABOVE_VIEW_0: (View, SeqNo) = (View(1), SeqNo(0));

fn stays_in_view_0(history: &History) -> bool {
    let last = |votes: &crate::Slots| votes.last_key_value().is_some_and(|(&slot, _)| slot >= ABOVE_VIEW_0);
    history.entries().next().is_none() && !last(history.prepared()) && !last(history.committed())
}

fn commits(replicas: &BTreeMap<ReplicaId, History>) -> Commits {
    let mut commits = Commits::new();
    for (&replica, history) in replicas {
        for (&(view, n), digests) in history.committed() {
            for &digest in digests {
                let lowest = commits.entry(n).or_default().entry(digest).or_insert((view, replica));
                *lowest = (*lowest).min((view, replica));
            }
        }
    }
    commits
}

fn carries(
    replica: ReplicaId,
    entry: &Entry,
    primary: ReplicaId,
    commits: &Commits,
) -> Result<(), Violation> {
    for (n, digests) in commits.range((Bound::Excluded(entry.h), Bound::Unbounded)) {
        let carried = entry.carried.get(n);
        let lost = digests.iter().find(|&(d, &(view, _))| view < entry.view && carried != Some(d));
        if let Some((digest, (view, by))) = lost {
            let instead = carried.map_or("nothing".to_owned(), |digest| format!("{digest:?}"));
            return Err(violation(format!(
                "replica {} committed {digest:?} in view {} at n = {}, and replica {}, with h = {}, entered \
                 view {} of primary {} carrying {instead} there",
                by.0, view.0, n.0, replica.0, entry.h.0, entry.view.0, primary.0
            )));
        }
    }
    Ok(())
}

fn contradicts_nothing(
    (replica, view, n, digest): (ReplicaId, View, SeqNo, Digest),
    done: &str,
    commits: &Commits,
) -> Result<(), Violation> {
    let earlier = commits.get(&n).into_iter().flatten();
    let contradicted = earlier.filter(|&(&d, _)| d != digest).find(|&(_, &(earlier, _))| earlier < view);
    match contradicted {
        None => Ok(()),
        Some((committed, (earlier, by))) => Err(violation(format!(
            "replica {} committed {committed:?} in view {} at n = {}, and replica {} {done} {digest:?} there \
             in view {}",
            by.0, earlier.0, n.0, replica.0, view.0
        ))),
    }
}

fn violation(what: String) -> Violation {
    Violation { property: NAME, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, committed, entered, prepared, stable};

    type Theorem = NewViewPreservesCommitted;

    #[test]
    fn what_committed_is_carried_over_and_commits_again() {
        World::new()
            .with_all(0, &[committed(0, 1, 1), committed(0, 2, 2)])
            .with_all(1, &[entered(1, &[(1, 1), (2, 2), (3, 3)]), prepared(1, 1, 1), committed(1, 1, 1)])
            .with_all(2, &[prepared(0, 3, 9), prepared(1, 3, 3), entered(2, &[(1, 1), (2, 2), (3, 3)])])
            .satisfies::<Theorem>();
    }

    #[test]
    fn what_commits_in_the_view_entered_or_above_need_not_be_carried_over() {
        World::new()
            .with_all(0, &[entered(1, &[]), committed(1, 1, 1)])
            .with_all(1, &[entered(1, &[]), committed(2, 2, 2)])
            .satisfies::<Theorem>();
    }

    #[test]
    fn what_the_stable_checkpoint_covers_need_not_be_carried_over() {
        World::new()
            .with_all(0, &[committed(0, 1, 1), committed(0, 2, 2)])
            .with_all(1, &[stable(2, 7), entered(1, &[])])
            .satisfies::<Theorem>();
    }

    #[test]
    fn a_committed_batch_left_out_of_o_is_a_violation_whichever_comes_first() {
        let what = "replica 0 committed 03030303 in view 0 at n = 3, and replica 1, with h = 2, entered view \
                    1 of primary 1 carrying nothing there";
        let entry_first = World::new().with_all(1, &[stable(2, 7), entered(1, &[])]);
        entry_first.with(0, committed(0, 3, 3)).violates::<Theorem>(what);
        let commit_first = World::new().with(0, committed(0, 3, 3));
        commit_first.with_all(1, &[stable(2, 7), entered(1, &[])]).violates::<Theorem>(what);
    }

    #[test]
    fn another_digest_carried_in_place_of_the_committed_one_is_a_violation() {
        World::new().with(0, committed(1, 1, 1)).with(2, entered(6, &[(1, 0)])).violates::<Theorem>(
            "replica 0 committed 01010101 in view 1 at n = 1, and replica 2, with h = 0, entered view 6 of \
             primary 2 carrying null there",
        );
    }

    #[test]
    fn committing_again_in_a_later_view_does_not_hide_the_earlier_commit() {
        World::new()
            .with(0, committed(2, 1, 1))
            .with(3, committed(0, 1, 1))
            .with(1, entered(1, &[]))
            .violates::<Theorem>(
                "replica 3 committed 01010101 in view 0 at n = 1, and replica 1, with h = 0, entered view 1 \
                 of primary 1 carrying nothing there",
            );
    }

    #[test]
    fn another_digest_prepared_in_a_later_view_is_a_violation() {
        World::new().with(0, committed(0, 1, 1)).with(1, prepared(1, 1, 2)).violates::<Theorem>(
            "replica 0 committed 01010101 in view 0 at n = 1, and replica 1 prepared 02020202 there in view 1",
        );
    }

    #[test]
    fn another_digest_committed_in_a_later_view_is_a_violation() {
        World::new().with(0, committed(0, 1, 1)).with(0, committed(2, 1, 2)).violates::<Theorem>(
            "replica 0 committed 01010101 in view 0 at n = 1, and replica 0 committed 02020202 there in view 2",
        );
    }

    #[test]
    fn another_digest_prepared_in_an_earlier_view_contradicts_nothing() {
        World::new().with(0, prepared(1, 1, 2)).with(1, committed(2, 1, 1)).satisfies::<Theorem>();
    }
}
