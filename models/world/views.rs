//! Views left: judged when they are left, and recorded only where something contradicts them.
//!
//! Whether a replica left for a view by way of the views in between or at once multiplies states, and of all
//! that [`ViewMonotonic`](pbft_properties::ViewMonotonic) needs no more than two numbers to judge what comes
//! next: the view entered last, and the highest left for. A replica knows both, and is believed as long as
//! what it knows after each step is what follows from what it knew before and from what it reports of the
//! step. So each step is judged when it is taken. What breaks the rules is recorded, with what it
//! contradicts. And when a replica forgets or invents a view, what it should know is recorded instead, and
//! from there on the record counts.

use crate::world::Modelled;
use pbft::replica::{Fact, Replica};
use pbft::types::View;
use pbft_properties::{History, ViewStep};

/// What a replica has left for and entered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Views {
    /// The view entered last.
    entered: View,
    /// The highest view left for or entered.
    highest: View,
}

impl From<&Replica<Modelled>> for Views {
    /// What the replica itself knows of it.
    fn from(replica: &Replica<Modelled>) -> Self {
        Views { entered: replica.view(), highest: replica.leaving().unwrap_or(replica.view()) }
    }
}

impl Views {
    /// Before a step of a replica that knows this.
    pub(super) fn before(history: &History, knows: impl Into<Views>) -> Self {
        let Views { entered, highest } = knows.into();
        let entered = history.held_to().unwrap_or(entered);
        Views { entered, highest: highest.max(recorded(history)) }
    }

    /// Takes in a view left, and records it if it breaks the rules.
    pub(super) fn left(&mut self, history: &mut History, view: View, to: View) {
        if view != self.entered || to <= self.highest {
            self.record_known(history);
            history.record(&Fact::ViewLeft { view, to });
        }
        self.highest = self.highest.max(to);
    }

    /// Takes in a view entered, and records it.
    pub(super) fn entered(&mut self, history: &mut History, view: View, fact: &Fact) {
        if view <= self.entered || view < self.highest {
            self.record_known(history);
        }
        history.record(fact);
        self.entered = view;
        self.highest = self.highest.max(view);
    }

    /// After a step, when the replica knows this.
    pub(super) fn after(self, history: &mut History, knows: impl Into<Views>) {
        let knows = knows.into();
        if knows.entered != self.entered {
            history.hold_to(self.entered);
        }
        if knows.entered != self.entered || knows.highest < self.highest {
            self.record_known(history);
        }
    }

    /// Makes up for what was not recorded.
    fn record_known(self, history: &mut History) {
        if entered_last(history) != self.entered {
            history.hold_to(self.entered);
        }
        if self.highest > self.entered && self.highest > recorded(history) {
            history.record(&Fact::ViewLeft { view: self.entered, to: self.highest });
        }
    }
}

/// The view that a history says was entered last.
fn entered_last(history: &History) -> View {
    let entered = history.view_steps().iter().rev().find_map(|step| match step {
        ViewStep::Entered(entry) => Some(entry.view),
        ViewStep::HeldTo(view) => Some(*view),
        ViewStep::Left { .. } => None,
    });
    entered.unwrap_or_default()
}

/// The highest view that a history says was left for or entered.
fn recorded(history: &History) -> View {
    let views = history.view_steps().iter().map(|step| match step {
        ViewStep::Left { to, .. } => *to,
        ViewStep::Entered(entry) => entry.view,
        ViewStep::HeldTo(view) => *view,
    });
    views.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Symbolic;
    use crate::ledger::Ledger;
    use pbft::parameters::Parameters;
    use pbft::types::{Cluster, ReplicaId};
    use pbft_properties::{Catalogue, Property, Snapshot, ViewMonotonic};
    use std::collections::BTreeSet;

    /// Which view a replica is in, and the highest it has left for or entered, as far as it knows.
    type Knows = (u64, u64);

    /// What a replica knows before a step, what it reports of it, and what it knows after.
    type Step = (Knows, Vec<Fact>, Knows);

    impl From<Knows> for Views {
        fn from((entered, highest): Knows) -> Self {
            Views { entered: View(entered), highest: View(highest) }
        }
    }

    fn left(view: u64, to: u64) -> Fact {
        Fact::ViewLeft { view: View(view), to: View(to) }
    }

    fn entered(view: u64) -> Fact {
        Fact::ViewEntered { view: View(view), carried: Vec::new() }
    }

    fn history(steps: &[Step]) -> History {
        let mut history = History::default();
        for (before, facts, after) in steps {
            let mut views = Views::before(&history, *before);
            for fact in facts {
                match *fact {
                    Fact::ViewLeft { view, to } => views.left(&mut history, view, to),
                    Fact::ViewEntered { view, .. } => views.entered(&mut history, view, fact),
                    _ => {}
                }
            }
            views.after(&mut history, *after);
        }
        history
    }

    /// How the views break [`ViewMonotonic`].
    fn violation(steps: &[Step]) -> Option<String> {
        broken(history(steps))
    }

    fn broken(history: History) -> Option<String> {
        let snapshot = Snapshot {
            cluster: Cluster::new(4, 1),
            parameters: Parameters::default(),
            genesis: &Ledger::default(),
            replicas: &[(ReplicaId(1), history)].into(),
            authentic: &BTreeSet::new(),
            catalogue: &Catalogue::new::<Symbolic>(),
            accepted: &[],
            calls: &[],
        };
        ViewMonotonic::check(&snapshot).err().map(|violation| violation.what)
    }

    #[test]
    fn the_way_to_a_view_is_not_recorded() {
        let enters = || ((0, 2), vec![entered(2)], (2, 2));
        let direct = [((0, 0), vec![left(0, 2)], (0, 2)), enters()];
        let stepwise = [((0, 0), vec![left(0, 1)], (0, 1)), ((0, 1), vec![left(0, 2)], (0, 2)), enters()];
        assert_eq!(history(&direct), history(&stepwise));
        assert_eq!(history(&direct[..1]), History::default());
        assert_eq!(violation(&stepwise), None);
        // Within one step, too, and on from a view entered.
        let on =
            [((0, 0), vec![left(0, 1), entered(1), left(1, 3)], (1, 3)), ((1, 3), vec![entered(4)], (4, 4))];
        assert_eq!(violation(&on), None);
        assert_eq!(history(&on).view_steps().len(), 2);
    }

    #[test]
    fn leaving_another_view_than_the_one_entered_is_judged_at_once() {
        let found = violation(&[((0, 0), vec![left(1, 2)], (0, 2))]);
        assert_eq!(found.unwrap(), "replica 1 left view 1 in view 0");
        let found = violation(&[((0, 0), vec![entered(2)], (2, 2)), ((2, 2), vec![left(1, 3)], (2, 3))]);
        assert_eq!(found.unwrap(), "replica 1 left view 1 in view 2");
    }

    #[test]
    fn leaving_for_a_view_again_or_a_lower_one_is_judged() {
        let first = || ((0, 0), vec![left(0, 2)], (0, 2));
        for to in [1, 2] {
            let found = violation(&[first(), ((0, 2), vec![left(0, to)], (0, to))]);
            assert_eq!(found.unwrap(), format!("replica 1 left for view {to} after leaving for view 2"));
        }
        let found = violation(&[first(), ((0, 2), vec![entered(1)], (1, 1))]);
        assert_eq!(found.unwrap(), "replica 1 entered view 1 after leaving for view 2");
        let found = violation(&[((0, 0), vec![entered(2)], (2, 2)), ((2, 2), vec![entered(2)], (2, 2))]);
        assert_eq!(found.unwrap(), "replica 1 entered view 2 in view 2");
    }

    #[test]
    fn a_replica_that_forgets_what_it_left_for_or_entered_is_held_to_it() {
        let forgets = [((0, 0), vec![left(0, 2)], (0, 2)), ((0, 2), vec![], (0, 0))];
        assert_eq!(violation(&forgets), None);
        let again = [&forgets[..], &[((0, 0), vec![left(0, 1)], (0, 1))]].concat();
        assert_eq!(violation(&again).unwrap(), "replica 1 left for view 1 after leaving for view 2");
        let on = [
            &forgets[..],
            &[((0, 0), vec![left(0, 3)], (0, 3)), ((0, 3), vec![entered(3)], (3, 3))],
            &[((3, 3), vec![left(3, 4)], (3, 4))],
        ];
        assert_eq!(violation(&on.concat()), None);
        let back = [((0, 0), vec![entered(2)], (2, 2)), ((2, 2), vec![], (0, 0))];
        assert_eq!(violation(&back), None);
        let back = [&back[..], &[((0, 0), vec![left(0, 3)], (0, 3))]].concat();
        assert_eq!(violation(&back).unwrap(), "replica 1 left view 0 in view 2");
    }

    #[test]
    fn a_replica_that_takes_the_view_it_left_for_as_entered_is_found_when_it_leaves_that() {
        let invents = [((0, 0), vec![left(0, 1)], (1, 1))];
        assert_eq!(violation(&invents), None);
        let leaves = [&invents[..], &[((1, 1), vec![left(1, 2)], (1, 2))]].concat();
        assert_eq!(violation(&leaves).unwrap(), "replica 1 left view 1 in view 0");
    }

    #[test]
    fn without_what_came_before_a_view_the_next_is_judged_by_what_the_replica_knows() {
        // As layered exploration forgets views that are over; the replica is in view 2.
        let mut since = History::default();
        let mut views = Views::before(&since, (2, 2));
        views.left(&mut since, View(2), View(3));
        views.after(&mut since, (2, 3));
        assert_eq!(since, History::default());
        let mut views = Views::before(&since, (2, 3));
        views.left(&mut since, View(0), View(4));
        assert_eq!(broken(since).unwrap(), "replica 1 left view 0 in view 2");
    }
}
