//! State transfer: OSDI'99 §5.3.

use super::action::{Action, adds};
use super::formula::{equal, vars};
use super::relations::names::{G, H, I, N};
use super::relations::{stable, state};

pub(super) fn actions() -> Vec<Action> {
    vec![fetch()]
}

/// A replica takes over a state that others have sent it.
fn fetch() -> Action {
    Action::new("fetch", "A replica takes over the state of a stable checkpoint.", I, vars![N, H, G])
        .guard("stable", stable(I, N, H))
        .guard("transfer-verified", equal(G, H))
        .dropped_without(&["transfer-verified"])
        .updates([adds(state(I, N, G))])
}
