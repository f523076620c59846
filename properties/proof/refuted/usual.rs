//! What also holds of states that are reached, and makes a picture look like one.
//!
//! The invariants leave much open that no theorem needs: a replica that is in no view, a COMMIT of somebody who is not
//! prepared. A state before a step that has these things teaches nothing. That what is said here does hold of states
//! reached is tested on those that the finite reading explores; nothing is proved of it, and nothing rests on it.

use super::super::action::{Clause, states};
use super::super::formula::{Formula, differ, equal, exists, forall, vars};
use super::super::relations::names::{B, D, H, I, INITIAL, K, M, N, N_0, Q, U, V, VIEW_0, W};
use super::super::relations::{
    accepted, accepted_d, allowed, below, carried, certificate, checkpoint, claims, commit, committed,
    committed_local, correct, executed, in_view, in_view_d, le, leaving, leaving_d, left, left_d, low,
    member, prepare, prepared, prepared_d, preprepare, reached, reports, result, safe, stable, state,
    viewchange,
};
use super::super::view_change::before;

fn same(one: Formula, other: Formula) -> Formula {
    one.clone().implies(other.clone()) & other.implies(one)
}

fn a_quorum(what: Formula) -> Formula {
    exists(vars![Q], forall(vars![M], (correct(M) & member(M, Q)).implies(what)))
}

/// The facts; they are about correct replicas.
#[rustfmt::skip]
pub(in super::super) fn usual() -> Vec<Clause> {
    vec![
        states("in_one_view", "A replica is in one view.",
            forall(vars![I], correct(I).implies(exists(vars![V], in_view(I, V))))
                & forall(vars![I, V, W], (in_view(I, V) & in_view(I, W)).implies(equal(V, W)))),
        states("store_is_memory", "What a replica remembers is in its store.",
            forall(vars![I, V], same(in_view(I, V), in_view_d(I, V)) & same(left(I, V), left_d(I, V)))
                & forall(vars![I], same(leaving(I), leaving_d(I)))
                & forall(vars![I, V, N, D], same(accepted(I, V, N, D), accepted_d(I, V, N, D))
                    & same(prepared(I, V, N, D), prepared_d(I, V, N, D)))),
        states("nothing_of_byzantine", "Nothing is recorded of Byzantine replicas.",
            forall(vars![I], leaving(I).implies(correct(I)))
                & forall(vars![I, V], (left(I, V) | viewchange(I, V)).implies(correct(I)))
                & forall(vars![I, V, N, D], (accepted(I, V, N, D) | prepared(I, V, N, D) | allowed(I, V, N, D))
                    .implies(correct(I)))
                & forall(vars![I, N, D], committed_local(I, N, D).implies(correct(I)))
                & forall(vars![I, N, H], (checkpoint(I, N, H) | stable(I, N, H)).implies(correct(I)))),
        states("from_the_start", "Everybody has the initial state, and nothing is voted for at its number.",
            forall(vars![I], correct(I).implies(low(I, N_0) & state(I, N_0, INITIAL)))
                & result(N_0, INITIAL) & reached(N_0)
                & forall(vars![I, V, N, D], accepted(I, V, N, D).implies(differ(N, N_0)))
                & forall(vars![V, N, D], certificate(V, N, D).implies(differ(N, N_0)))),
        states("votes", "A replica has accepted what it has voted for, in views up to its own.",
            forall(vars![I, V, N, D], same(accepted(I, V, N, D), preprepare(I, V, N, D) | prepare(I, V, N, D)))
                & forall(vars![I, V, N, D, W], (accepted(I, V, N, D) & in_view(I, W)).implies(le(V, W)))),
        states("commits", "Who is prepared has sent COMMIT, in views up to its own.",
            forall(vars![I, V, N, D], same(prepared(I, V, N, D), commit(I, V, N, D)))
                & forall(vars![I, V, N, D, W], (prepared(I, V, N, D) & in_view(I, W)).implies(le(V, W)))),
        states("committed_somewhere", "What is committed is committed-local at a replica.",
            forall(vars![V, N, D], committed(V, N, D).implies(exists(vars![I], committed_local(I, N, D))))),
        states("leaving", "Who has sent VIEW-CHANGE has left the views before.",
            forall(vars![I, V], viewchange(I, V).implies(differ(V, VIEW_0)))
                & forall(vars![I, V, W], (viewchange(I, V) & in_view(I, W) & !le(V, W)).implies(leaving(I)))
                & forall(vars![I], leaving(I).implies(exists(vars![V, W], viewchange(I, V) & in_view(I, W) & before(W, V))))
                & forall(vars![I, W], left(I, W).implies(exists(vars![V], viewchange(I, V) & before(W, V))))),
        states("reports", "P has the certificates that the replica has, and claims what is at or below h.",
            forall(vars![I, V, N, W], reports(I, V, N, W).implies(viewchange(I, V)
                & exists(vars![U, D], prepared(I, U, N, D) & le(W, U) & before(U, V))))
                & forall(vars![I, V, N, W, U], (reports(I, V, N, W) & le(U, W)).implies(reports(I, V, N, U)))
                & forall(vars![I, V], viewchange(I, V).implies(claims(I, V, N_0)))
                & forall(vars![I, V, N], claims(I, V, N).implies(viewchange(I, V) & low(I, N)))
                & forall(vars![I, V, N, K], (claims(I, V, N) & below(K, N)).implies(claims(I, V, K)))),
        states("new_views", "Behind a NEW-VIEW there is a quorum of VIEW-CHANGEs.",
            forall(vars![I, V], in_view(I, V).implies(equal(V, VIEW_0) | a_quorum(viewchange(M, V))))
                & forall(vars![V, N, D], safe(V, N, D).implies(a_quorum(viewchange(M, V))))
                & forall(vars![I, V, N, D], (allowed(I, V, N, D) & in_view(I, V)).implies(differ(V, VIEW_0)))
                & forall(vars![I, V, N, D], carried(I, V, N, D).implies(allowed(I, V, N, D)))
                & forall(vars![I, V, N, D, W], (allowed(I, V, N, D) & in_view(I, W)).implies(le(V, W)))
                & forall(vars![I, V, N, D], carried(I, V, N, D)
                    .implies(exists(vars![W], before(W, V) & certificate(W, N, D))))),
        states("checkpoints", "At or below h there is a stable checkpoint, of a quorum.",
            forall(vars![I, N, K], (low(I, N) & below(K, N)).implies(low(I, K)))
                & forall(vars![I, N], low(I, N).implies(equal(N, N_0)
                    | exists(vars![K, H], stable(I, K, H) & below(N, K))))
                & forall(vars![I, N, H], stable(I, N, H).implies(low(I, N) & a_quorum(checkpoint(M, N, H))))),
        states("execution", "A state comes from execution or from a stable checkpoint.",
            forall(vars![I, N, H], state(I, N, H).implies(equal(N, N_0) | stable(I, N, H)
                | exists(vars![B], executed(I, N, B))))
                & forall(vars![I, N, B], executed(I, N, B).implies(exists(vars![H], state(I, N, H))))
                & forall(vars![N], reached(N).implies(exists(vars![I, H], state(I, N, H))))),
    ]
}
