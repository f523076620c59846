//! View changes: OSDI'99 §4.4.
//!
//! The paper's NEW-VIEW is judged number by number: `V` either determines the entry of `O` at a number, or leaves it
//! open. Where it is open below max-s the entry is the null request, and above max-s anything; the theorem needs
//! neither, so here any digest is allowed.

use super::action::{Action, Update, adds, adds_each, becomes};
use super::formula::{Formula, differ, equal, falsity, forall, vars};
use super::normal_case::{prepares, proposal};
use super::relations::names::{D, I, J, K, M, N, P, Q, R, U, V, VIEW_0, W, X, Y};
use super::relations::{
    Relation, allowed, carried, certificate, claims, correct, in_view, in_view_d, le, leaving, leaving_d,
    left, left_d, low, member, prepare, prepared, report, reports, safe, viewchange,
};

pub(super) fn actions() -> Vec<Action> {
    vec![send_view_change(), accept_open_entry(), accept_entry(), enter(), forget()]
}

/// `v` is earlier than `w`.
pub(super) fn before(v: super::View, w: super::View) -> Formula {
    le(v, w) & differ(v, w)
}

/// A replica leaves its view.
fn send_view_change() -> Action {
    let above_h = || prepared(I, W, K, D) & before(W, V) & !low(I, K);
    let every = |what: Formula| forall(vars![W, K, D], what);
    Action::new(
        "view_change",
        "A replica stops taking part in earlier views and sends VIEW-CHANGE with h and P.",
        I,
        vars![V],
    )
    .chooses(Relation::report)
    .guard("to a later view", forall(vars![U], in_view(I, U).implies(before(U, V))))
    .guard("sent once", !viewchange(I, V))
    .guard("P holds what prepared", every(above_h().implies(report(K, W))))
    .dropped_without(&["certificates-in-view-change"])
    .without("prepared-survives", every((above_h() & in_view(I, W)).implies(report(K, W))))
    .without("latest-certificate-wins", every(above_h().implies(report(K, VIEW_0))))
    .updates([
        adds(viewchange(I, V)),
        adds_each(vars![K, W], reports(I, V, K, W), report(K, W)),
        adds_each(vars![K], claims(I, V, K), low(I, K)),
        adds_each(vars![W], left(I, W), before(W, V)),
        adds(leaving(I)),
        recorded(adds_each(vars![W], left_d(I, W), before(W, V))),
        recorded(adds(leaving_d(I))),
    ])
}

fn recorded(update: Update) -> Update {
    update.only_with(&["persist-votes", "persist-before-send"])
}

/// Something holds of each correct replica in the quorum.
fn each(what: Formula) -> Formula {
    forall(vars![M], (correct(M) & member(M, Q)).implies(what))
}

/// `V` has VIEW-CHANGEs of a quorum.
fn new_view(action: Action) -> Action {
    action
        .spare(vars![Y, U])
        .guard("view-change-quorum", each(viewchange(M, V)))
        .without("view-change-quorum", each(viewchange(M, V) | equal(M, Y)))
        .without("distinct-view-changes", member(Y, Q) & correct(Y).implies(viewchange(Y, V)))
        .without("view-changes-match-view", each(viewchange(M, V) | viewchange(M, U)))
}

/// `V` is that of the view the replica is in, and all in it claim checkpoints below the number.
fn new_view_at_a_number(action: Action) -> Action {
    new_view(action.guard("in that view", in_view(I, V)))
        .guard("min-s-from-all", each(!claims(M, V, N)))
        .dropped_without(&["min-s-from-all"])
        .without("view-change-quorum", each(equal(M, Y) | !claims(M, V, N)))
        .without("distinct-view-changes", each(differ(M, Y) | !claims(M, V, N)))
        .without("view-changes-match-view", each(!claims(M, V, N) & (viewchange(M, V) | !claims(M, U, N))))
}

/// `V` has no certificate at a number.
fn accept_open_entry() -> Action {
    let each = |what: Formula| forall(vars![M, X], (correct(M) & member(M, Q)).implies(what));
    let none = || !reports(M, V, N, X);
    new_view_at_a_number(Action::new(
        "new_view_open",
        "A replica has a NEW-VIEW whose V holds no certificate at a number, so O may have anything there.",
        I,
        vars![V, N, D, Q],
    ))
    .guard("no certificate", each(none()))
    .without("view-change-quorum", each(equal(M, Y) | none()))
    .without("distinct-view-changes", each(differ(M, Y) | none()))
    .without("view-changes-match-view", each(none() & (viewchange(M, V) | !reports(M, U, N, X))))
    .updates([adds(allowed(I, V, N, D)), adds(safe(V, N, D))])
}

/// `V` has certificates at a number, and `O` the digest of one.
fn accept_entry() -> Action {
    let votes = |or| prepares(P, R, W, N, D, or);
    let highest = || reports(M, V, N, X).implies(le(X, W));
    let each = |what: Formula| forall(vars![M, X], (correct(M) & member(M, Q)).implies(what));
    new_view_at_a_number(Action::new(
        "new_view_entry",
        "A replica has a NEW-VIEW whose O has at a number what V's certificate of the highest view names.",
        I,
        vars![V, N, D, Q, W, P, R],
    ))
    .guard("certificate-view-below-target", before(W, V))
    .dropped_without(&["certificate-view-below-target"])
    .guard("the certificate's PRE-PREPARE", proposal(P, R, W, N, D))
    .dropped_without(&["certificates-verified"])
    .guard("the certificate's PREPAREs", votes(falsity()))
    .dropped_without(&["certificates-verified", "prepared-not-pre-prepared"])
    .without("certificate-quorum", votes(equal(M, Y)))
    .without("distinct-voters", votes(differ(Y, P) & correct(Y).implies(prepare(Y, W, N, D))))
    .guard("highest-view-wins", each(highest()))
    .dropped_without(&["highest-view-wins"])
    .without("view-change-quorum", each(equal(M, Y) | highest()))
    .without("distinct-view-changes", each(differ(M, Y) | highest()))
    .without(
        "view-changes-match-view",
        each(highest() & (viewchange(M, V) | reports(M, U, N, X).implies(le(X, W)))),
    )
    .updates([
        adds(allowed(I, V, N, D)),
        adds(carried(I, V, N, D)),
        adds(safe(V, N, D)),
        adds(certificate(W, N, D)),
    ])
}

/// A replica takes part in a view from here on.
fn enter() -> Action {
    let this_one = || differ(J, I) & in_view(J, U) | equal(J, I) & equal(U, V);
    let this_one_d = || differ(J, I) & in_view_d(J, U) | equal(J, I) & equal(U, V);
    new_view(Action::new("enter", "A replica enters the view of a NEW-VIEW.", I, vars![V, Q]))
        .guard("view-increases", !left(I, V) & forall(vars![U], in_view(I, U).implies(le(U, V))))
        .dropped_without(&["view-increases"])
        .updates([
            becomes(in_view(J, U), this_one()),
            becomes(leaving(J), leaving(J) & differ(J, I)),
            becomes(in_view_d(J, U), this_one_d()),
            becomes(leaving_d(J), leaving_d(J) & differ(J, I)),
        ])
}

/// Evidence may be lost: it can be had again, and without it a replica only does less.
fn forget() -> Action {
    let kept = differ(J, I) | differ(W, V) | differ(K, N);
    Action::new("forget", "A replica loses the NEW-VIEW that allowed something.", I, vars![V, N]).updates([
        becomes(allowed(J, W, K, D), allowed(J, W, K, D) & kept.clone()),
        becomes(carried(J, W, K, D), carried(J, W, K, D) & kept),
    ])
}
