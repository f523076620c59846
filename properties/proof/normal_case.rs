//! The normal case: OSDI'99 §4.2.

use super::action::{Action, adds};
use super::formula::{Digest, Number, Quorum, Replica, View};
use super::formula::{Formula, differ, equal, falsity, forall, vars};
use super::relations::names::{B, D, E, G, H, I, K, M, N, P, Q, S, U, V, VIEW_0, Y};
use super::relations::{
    accepted, accepted_d, allowed, applies, authentic, carried, certificate, chosen, commit, committed,
    committed_local, correct, executed, in_view, leaving, low, member, names, next, prepare, prepared,
    prepared_d, preprepare, primary, reached, result, state,
};

pub(super) fn actions() -> Vec<Action> {
    vec![send_pre_prepare(), send_prepare(), send_commit(), commit_locally(), execute()]
}

/// The primary assigns a number to a batch.
fn send_pre_prepare() -> Action {
    let action = Action::new(
        "pre_prepare",
        "The primary of a view assigns a number to a batch and sends PRE-PREPARE.",
        I,
        vars![V, N, D, B],
    );
    may_vote(action.guard("primary", primary(V, I)))
        .guard("in O, or not determined by it", equal(V, VIEW_0) | allowed(I, V, N, D))
        .updates([
            adds(preprepare(I, V, N, D)),
            adds(accepted(I, V, N, D)),
            adds(accepted_d(I, V, N, D)).only_with(&["persist-votes", "persist-before-send"]),
        ])
}

/// A backup accepts a PRE-PREPARE, or an entry of `O`. That it is not the primary goes without saying: the primary has
/// accepted its own PRE-PREPARE, and accepts no second digest.
fn send_prepare() -> Action {
    let action = Action::new(
        "prepare",
        "A backup accepts the primary's PRE-PREPARE, or an entry of O, and sends PREPARE.",
        I,
        vars![P, V, N, D, B],
    )
    .spare(vars![Y]);
    may_vote(
        action
            .guard("only-primary-proposes", primary(V, P))
            .dropped_without(&["only-primary-proposes"])
            .guard("signed by its sender", correct(P).implies(preprepare(P, V, N, D)))
            .without("signer-is-sender", correct(P).implies(preprepare(P, V, N, D)) | !correct(Y)),
    )
    .guard("in O, or not determined by it", equal(V, VIEW_0) | allowed(I, V, N, D))
    .dropped_without(&["backups-recompute-o"])
    .updates([
        adds(prepare(I, V, N, D)),
        adds(accepted(I, V, N, D)),
        adds(accepted_d(I, V, N, D)).only_with(&["persist-votes", "persist-before-send"]),
    ])
}

/// What every vote for a digest needs. What `O` carries was checked by who prepared it; anything else is checked here.
fn may_vote(action: Action) -> Action {
    let first = || low(I, N) | forall(vars![E], !accepted(I, V, N, E));
    is_active(action)
        .guard("first-pre-prepare-wins", first())
        .dropped_without(&["first-pre-prepare-wins"])
        .without("first-new-view-wins", differ(V, VIEW_0) | first())
        .guard("request-authentic", carried(I, V, N, D) | authentic(B))
        .dropped_without(&["request-authentic"])
        .guard("digest-names-batch", carried(I, V, N, D) | names(D, B))
        .dropped_without(&["digest-names-batch"])
}

/// The replica takes part in the view, and the number is above h.
fn is_active(action: Action) -> Action {
    action
        .guard("leave-old-view", in_view(I, V))
        .dropped_without(&["leave-old-view"])
        .guard("stop-after-view-change", !leaving(I))
        .dropped_without(&["stop-after-view-change"])
        .guard("low-water-mark", !low(I, N))
        .dropped_without(&["low-water-mark"])
}

/// The PRE-PREPARE of a certificate: by the primary of its view, who is one of the quorum.
pub(super) fn proposal(p: Replica, q: Quorum, v: View, n: Number, d: Digest) -> Formula {
    primary(v, p) & member(p, q) & correct(p).implies(preprepare(p, v, n, d))
}

/// The PREPAREs of a certificate: of everybody else in the quorum; or, without a rule, something else of some.
pub(super) fn prepares(p: Replica, q: Quorum, v: View, n: Number, d: Digest, or: Formula) -> Formula {
    let vote = if or == falsity() { prepare(M, v, n, d) } else { prepare(M, v, n, d) | or };
    forall(vars![M], (correct(M) & member(M, q) & differ(M, p)).implies(vote))
}

/// A replica has a prepared certificate in its log.
fn send_commit() -> Action {
    let votes = |or| prepares(P, Q, V, N, D, or);
    let counts_again = || correct(Y).implies(prepare(Y, V, N, D));
    is_active(Action::new(
        "commit",
        "A replica has PRE-PREPARE and 2f PREPAREs of other replicas, so it is prepared, and sends COMMIT.",
        I,
        vars![V, N, D, B, P, Q],
    ))
    .spare(vars![Y, U, E])
    .guard("prepared-has-batch", names(D, B))
    .dropped_without(&["prepared-has-batch"])
    .guard("proposed by the primary", proposal(P, Q, V, N, D))
    .without(
        "only-primary-proposes",
        primary(V, P) & member(P, Q) & correct(Y).implies(preprepare(Y, V, N, D)),
    )
    .guard("prepare-quorum", votes(falsity()))
    .without("prepare-quorum", votes(equal(M, Y)))
    .without("primary-does-not-prepare", votes(equal(M, Y) & correct(P).implies(prepare(P, V, N, D))))
    .without("one-vote-per-sender", votes(differ(Y, P) & counts_again()))
    .without("votes-match-digest", votes(prepare(M, V, N, E)))
    .without("votes-match-view", votes(prepare(M, U, N, D)))
    .without("signer-is-sender", votes(!correct(Y)))
    .updates([
        adds(commit(I, V, N, D)),
        adds(prepared(I, V, N, D)),
        adds(prepared_d(I, V, N, D)).only_with(&["persist-votes", "persist-before-send"]),
        adds(certificate(V, N, D)),
    ])
}

/// A replica has COMMITs of a quorum.
fn commit_locally() -> Action {
    let commits = |or: Option<Formula>| {
        let vote = or.into_iter().fold(commit(M, V, N, D), |vote, or| vote | or);
        forall(vars![M], (correct(M) & member(M, Q)).implies(vote))
    };
    Action::new(
        "committed_local",
        "A replica has COMMITs of 2f + 1 replicas, so the batch is committed-local.",
        I,
        vars![V, N, D, Q],
    )
    .spare(vars![Y, U, E])
    .guard("commit-quorum", commits(None))
    .without("commit-quorum", commits(Some(equal(M, Y))))
    .without("one-vote-per-sender", commits(Some(correct(Y).implies(commit(Y, V, N, D)))))
    .without("votes-match-digest", commits(Some(commit(M, V, N, E))))
    .without("votes-match-view", commits(Some(commit(M, U, N, D))))
    .without("signer-is-sender", commits(Some(!correct(Y))))
    .updates([adds(committed_local(I, N, D)), adds(committed(V, N, D)), adds(chosen(N, D))])
}

/// A replica executes the batch of the next number.
fn execute() -> Action {
    Action::new(
        "execute",
        "A replica applies the committed batch of the next number to its state.",
        I,
        vars![K, N, D, B, G, H],
    )
    .spare(vars![S])
    .guard("committed", committed_local(I, N, D))
    .guard("digest-names-batch", names(D, B))
    .dropped_without(&["digest-names-batch"])
    .guard("in-order", next(K, N) & state(I, K, G))
    .without("in-order", next(K, N) & state(I, S, G))
    .guard("the service", applies(G, B, H))
    .updates([adds(executed(I, N, B)), adds(state(I, N, H)), adds(result(N, H)), adds(reached(N))])
}
