//! Views left: judged when they are left, and recorded only where something contradicts them.
//!
//! Whether a replica left for a view by way of the views in between or at once multiplies states, and of all that
//! [`ViewMonotonic`](pbft_properties::ViewMonotonic) needs no more than two numbers to judge what comes next: the view
//! entered last, which is recorded, and the highest left for. As long as the replica itself knows of that view, it
//! need not be recorded. So each step is judged as it is taken, by the views recorded and by what the replica knew
//! before it; a view left against the rules is recorded, with what it contradicts. And if a replica knows less after
//! a step than it must, the highest view left for is recorded then, and from there on the record counts.

use pbft::replica::Fact;
use pbft::types::View;
use pbft_properties::{History, ViewStep};

/// What a replica has left for and entered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Views {
    /// The view entered last.
    entered: View,
    /// The highest view left for or entered.
    highest: View,
}

impl Views {
    /// Before a step of a replica that knows of `highest`, whether left for or entered.
    pub(super) fn before(history: &History, highest: View) -> Self {
        Views { entered: history.entered(), highest: highest.max(recorded(history)) }
    }

    /// Takes in a view left, and records it if it breaks the rules.
    pub(super) fn left(&mut self, history: &mut History, view: View, to: View) {
        if view != self.entered || to <= self.highest {
            self.record_highest(history);
            history.record(&Fact::ViewLeft { view, to });
        }
        self.highest = self.highest.max(to);
    }

    /// Takes in a view entered, and records it.
    pub(super) fn entered(&mut self, history: &mut History, view: View, fact: &Fact) {
        if view < self.highest {
            self.record_highest(history);
        }
        history.record(fact);
        self.entered = view;
        self.highest = self.highest.max(view);
    }

    /// After a step, when the replica knows of `highest`.
    pub(super) fn after(self, history: &mut History, highest: View) {
        if highest < self.highest {
            self.record_highest(history);
        }
    }

    /// Makes up for the views left that were not recorded.
    fn record_highest(self, history: &mut History) {
        if self.highest > recorded(history) {
            history.record(&Fact::ViewLeft { view: self.entered, to: self.highest });
        }
    }
}

/// The highest view that a history says was left for or entered.
fn recorded(history: &History) -> View {
    let views = history.view_steps().iter().map(|step| match step {
        ViewStep::Left { to, .. } => *to,
        ViewStep::Entered(entry) => entry.view,
    });
    views.fold(history.entered(), View::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Symbolic;
    use crate::journal::Journal;
    use pbft::types::{Cluster, Parameters, ReplicaId};
    use pbft_properties::{Catalogue, Property, Snapshot, ViewMonotonic};
    use std::collections::BTreeSet;

    /// What a replica reports in a step, and of which view it knows before and after.
    type Step = (u64, Vec<Fact>, u64);

    fn left(view: u64, to: u64) -> Fact {
        Fact::ViewLeft { view: View(view), to: View(to) }
    }

    fn entered(view: u64) -> Fact {
        Fact::ViewEntered { view: View(view), carried: Vec::new() }
    }

    fn history(steps: &[Step]) -> History {
        let mut history = History::default();
        for (before, facts, after) in steps {
            let mut views = Views::before(&history, View(*before));
            for fact in facts {
                match *fact {
                    Fact::ViewLeft { view, to } => views.left(&mut history, view, to),
                    Fact::ViewEntered { view, .. } => views.entered(&mut history, view, fact),
                    _ => {}
                }
            }
            views.after(&mut history, View(*after));
        }
        history
    }

    /// How the views break [`ViewMonotonic`].
    fn violation(steps: &[Step]) -> Option<String> {
        let snapshot = Snapshot {
            cluster: Cluster::new(4, 1),
            parameters: Parameters::default(),
            genesis: &Journal::default(),
            replicas: &[(ReplicaId(1), history(steps))].into(),
            authentic: &BTreeSet::new(),
            catalogue: &Catalogue::new::<Symbolic>(),
            accepted: &[],
        };
        ViewMonotonic::check(&snapshot).err().map(|violation| violation.what)
    }

    #[test]
    fn the_way_to_a_view_is_not_recorded() {
        let direct = [(0, vec![left(0, 2)], 2), (2, vec![entered(2)], 2)];
        let stepwise = [(0, vec![left(0, 1)], 1), (1, vec![left(0, 2)], 2), (2, vec![entered(2)], 2)];
        assert_eq!(history(&direct), history(&stepwise));
        assert_eq!(history(&direct[..1]), History::default());
        assert_eq!(violation(&stepwise), None);
        // Within one step, too, and on from a view entered.
        let on = [(0, vec![left(0, 1), entered(1), left(1, 3)], 3), (3, vec![entered(4)], 4)];
        assert_eq!(violation(&on), None);
        assert_eq!(history(&on).view_steps().len(), 2);
    }

    #[test]
    fn leaving_another_view_than_the_one_entered_is_judged_at_once() {
        assert_eq!(violation(&[(0, vec![left(1, 2)], 2)]).unwrap(), "replica 1 left view 1 in view 0");
        let entered_two = (0, vec![entered(2)], 2);
        let found = violation(&[entered_two, (2, vec![left(1, 3)], 3)]);
        assert_eq!(found.unwrap(), "replica 1 left view 1 in view 2");
    }

    #[test]
    fn leaving_for_a_view_again_or_a_lower_one_is_judged() {
        let first = || (0, vec![left(0, 2)], 2);
        for to in [1, 2] {
            let found = violation(&[first(), (2, vec![left(0, to)], 2)]);
            assert_eq!(found.unwrap(), format!("replica 1 left for view {to} after leaving for view 2"));
        }
        let found = violation(&[first(), (2, vec![entered(1)], 2)]);
        assert_eq!(found.unwrap(), "replica 1 entered view 1 after leaving for view 2");
    }

    #[test]
    fn a_replica_that_forgets_what_it_left_for_is_held_to_it() {
        let forgets = [(0, vec![left(0, 2)], 2), (2, vec![], 0)];
        assert_eq!(violation(&forgets), None);
        let again = [&forgets[..], &[(0, vec![left(0, 1)], 1)]].concat();
        assert_eq!(violation(&again).unwrap(), "replica 1 left for view 1 after leaving for view 2");
        let on = [&forgets[..], &[(0, vec![left(0, 3)], 3), (3, vec![entered(3)], 3)]].concat();
        assert_eq!(violation(&on), None);
        let back = [(0, vec![entered(2)], 2), (2, vec![], 0), (0, vec![left(2, 1)], 1)];
        assert_eq!(violation(&back).unwrap(), "replica 1 left for view 1 in view 2");
    }
}
