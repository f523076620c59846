//! Checkpoints and the collection of garbage: OSDI'99 §4.3.

use super::action::{Action, adds, adds_each};
use super::formula::{forall, vars};
use super::relations::names::{H, I, K, M, N, Q};
use super::relations::{below, checkpoint, correct, low, member, stable, state};

pub(super) fn actions() -> Vec<Action> {
    vec![
        send_checkpoint(),
        collect("stable", "A replica has CHECKPOINTs of 2f + 1 replicas: it is stable.", "checkpoint-quorum"),
        collect(
            "adopt",
            "A replica believes the certificate of a checkpoint in a VIEW-CHANGE.",
            "checkpoint-proof",
        ),
    ]
}

/// A replica says what state it has.
fn send_checkpoint() -> Action {
    Action::new("checkpoint", "A replica sends CHECKPOINT for the state it has.", I, vars![N, H])
        .guard("executed", state(I, N, H))
        .updates([adds(checkpoint(I, N, H))])
}

/// A checkpoint is stable: h becomes its number, and what is at or below h is discarded and refused.
fn collect(name: &'static str, says: &'static str, rule: &'static str) -> Action {
    let each = (correct(M) & member(M, Q)).implies(checkpoint(M, N, H));
    Action::new(name, says, I, vars![N, H, Q])
        .guard(rule, forall(vars![M], each))
        .dropped_without(&[rule])
        .updates([adds(stable(I, N, H)), adds_each(vars![K], low(I, K), below(K, N))])
}
