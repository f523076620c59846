//! Crash and recovery.
//!
//! Whatever a step promises is recorded before it leaves, so the actions change memory, store and messages together; a
//! message that was recorded and never left is one that the network lost. A crash sets memory back to the store.

use super::action::{Action, becomes};
use super::formula::{Formula, differ, equal, vars};
use super::relations::names::{D, I, J, N, U, V, VIEW_0};
use super::relations::{
    accepted, accepted_d, in_view, in_view_d, leaving, leaving_d, left, left_d, prepared, prepared_d,
};

pub(super) fn actions() -> Vec<Action> {
    vec![crash()]
}

/// A replica stops, and starts again from its store.
fn crash() -> Action {
    const FORGETS: &str = "restart-keeps-view";
    let restored = |memory: Formula, store: Formula| memory & differ(J, I) | store & equal(J, I);
    let lost = |memory: Formula| memory & differ(J, I);
    let in_view_0 = || in_view(J, U) & differ(J, I) | equal(J, I) & equal(U, VIEW_0);
    let other = |atom: Formula, store: Formula| becomes(atom.clone(), restored(atom, store));
    Action::new("crash", "A replica stops and starts again from its store.", I, vars![]).updates([
        other(accepted(J, V, N, D), accepted_d(J, V, N, D)),
        other(prepared(J, V, N, D), prepared_d(J, V, N, D)).unless(
            FORGETS,
            prepared(J, V, N, D),
            lost(prepared(J, V, N, D)),
        ),
        other(in_view(J, U), in_view_d(J, U)).unless(FORGETS, in_view(J, U), in_view_0()),
        other(leaving(J), leaving_d(J)).unless(FORGETS, leaving(J), lost(leaving(J))),
        other(left(J, U), left_d(J, U)).unless(FORGETS, left(J, U), lost(left(J, U))),
    ])
}
