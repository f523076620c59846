//! The invariants on one page, and the theorems that follow from them.
//!
//! Together they are inductive: they hold initially, and every action keeps them. "Correct" goes without saying: the
//! relations are about correct replicas.

use super::action::{Clause, states};
use super::formula::{Formula, differ, equal, exists, forall, vars};
use super::relations::names::{B, C, D, E, G, H, I, J, K, M, N, N_0, Q, U, V, VIEW_0, W};
use super::relations::{
    accepted, accepted_d, allowed, applies, authentic, carried, certificate, checkpoint, chosen, claims,
    commit, committed, committed_local, correct, executed, in_view, in_view_d, le, leaving, leaving_d, left,
    left_d, member, names, next, prepare, prepared, prepared_d, preprepare, primary, reached, reports,
    result, safe, stable, state, viewchange,
};
use super::view_change::before;

/// A correct replica of the quorum, of which something holds, exists; or all are so.
fn some_of_quorum(what: Formula) -> Formula {
    exists(vars![M], correct(M) & member(M, Q) & what)
}

fn all_of_quorum(what: Formula) -> Formula {
    forall(vars![M], (correct(M) & member(M, Q)).implies(what))
}

/// The invariants, in the order of the phases.
#[rustfmt::skip]
pub(super) fn invariants() -> Vec<Clause> {
    vec![
        // --- who votes for what ---
        states("roles", "PRE-PREPAREs are the primary's, and PREPAREs are not.",
            forall(vars![I, V, N, D], preprepare(I, V, N, D).implies(primary(V, I))
                & prepare(I, V, N, D).implies(!primary(V, I)))),
        states("votes_recorded", "What a replica has voted for is what it has accepted, in its store too.",
            forall(vars![I, V, N, D], (preprepare(I, V, N, D) | prepare(I, V, N, D))
                .implies(accepted(I, V, N, D) & accepted_d(I, V, N, D)))),
        states("one_vote", "A replica accepts one digest for each view and number.",
            forall(vars![I, V, N, D, E], (accepted(I, V, N, D) & accepted(I, V, N, E)).implies(equal(D, E)))),
        states("votes_safe", "Above view 0 a replica accepts what a NEW-VIEW allows.",
            forall(vars![I, V, N, D], accepted(I, V, N, D).implies(equal(V, VIEW_0) | safe(V, N, D)))),
        states("votes_authentic", "A replica accepts digests of batches that clients have signed.",
            forall(vars![I, V, N, D], (accepted(I, V, N, D) | carried(I, V, N, D))
                .implies(exists(vars![B], names(D, B) & authentic(B))))),
        // --- certificates ---
        states("certificate_quorum", "Behind a prepared certificate there is a quorum of votes.",
            forall(vars![V, N, D], certificate(V, N, D).implies(exists(vars![Q],
                all_of_quorum(preprepare(M, V, N, D) | prepare(M, V, N, D)))))),
        states("certificate_unique", "At most one digest has a certificate in each view at each number.",
            forall(vars![V, N, D, E], (certificate(V, N, D) & certificate(V, N, E)).implies(equal(D, E)))),
        states("certificate_safe", "Above view 0 what has a certificate is allowed by a NEW-VIEW.",
            forall(vars![V, N, D], certificate(V, N, D).implies(equal(V, VIEW_0) | safe(V, N, D)))),
        states("prepared_certificate", "What is prepared has a certificate.",
            forall(vars![I, V, N, D], prepared(I, V, N, D).implies(certificate(V, N, D)))),
        states("commits_recorded", "Who has sent COMMIT is prepared, in its store too.",
            forall(vars![I, V, N, D], commit(I, V, N, D).implies(prepared(I, V, N, D) & prepared_d(I, V, N, D)))),
        states("committed_quorum", "Behind what is committed there is a quorum of COMMITs.",
            forall(vars![V, N, D], committed(V, N, D).implies(exists(vars![Q], all_of_quorum(commit(M, V, N, D)))))),
        states("committed_certificate", "What is committed has a certificate.",
            forall(vars![V, N, D], committed(V, N, D).implies(certificate(V, N, D)))),
        states("committed_preserved", "What commits in a view is all that a later NEW-VIEW allows.",
            forall(vars![V, W, N, D, E], (committed(W, N, D) & before(W, V) & safe(V, N, E)).implies(equal(D, E)))),
        states("committed_chosen", "What is committed is chosen.",
            forall(vars![V, N, D], committed(V, N, D).implies(chosen(N, D)))),
        states("chosen_committed", "What is chosen is committed in some view.",
            forall(vars![N, D], chosen(N, D).implies(exists(vars![V], committed(V, N, D))))),
        states("committed_local_chosen", "What is committed-local is chosen.",
            forall(vars![I, N, D], committed_local(I, N, D).implies(chosen(N, D)))),
        states("chosen_unique", "One digest is chosen at each number.",
            forall(vars![N, D, E], (chosen(N, D) & chosen(N, E)).implies(equal(D, E)))),
        // --- view changes ---
        states("left_downwards", "Who has left a view has left every earlier one.",
            forall(vars![I, V, W], (left(I, W) & le(V, W)).implies(left(I, V))
                & (left_d(I, W) & le(V, W)).implies(left_d(I, V)))),
        states("left_is_leaving", "Who has left the view it is in, or a later one, takes part in none.",
            forall(vars![I, V, W], (in_view(I, V) & left(I, W) & le(V, W)).implies(leaving(I)))),
        states("left_is_leaving_in_store", "The same of its store.",
            forall(vars![I, V, W], (in_view_d(I, V) & left_d(I, W) & le(V, W)).implies(leaving_d(I)))),
        states("memory_has_store", "A replica remembers what is in its store.",
            forall(vars![I, V, N, D], accepted_d(I, V, N, D).implies(accepted(I, V, N, D))
                & prepared_d(I, V, N, D).implies(prepared(I, V, N, D))
                & left_d(I, V).implies(left(I, V)))),
        states("view_change_leaves", "Who has sent VIEW-CHANGE has left every earlier view, in its store too.",
            forall(vars![I, V, W], (viewchange(I, V) & before(W, V)).implies(left_d(I, W)))),
        states("view_change_reports", "VIEW-CHANGE reports whatever prepared in an earlier view above h.",
            forall(vars![I, V, W, N, D], (viewchange(I, V) & before(W, V) & prepared(I, W, N, D))
                .implies(reports(I, V, N, W) | claims(I, V, N)))),
        states("allowed_safe", "What a replica's NEW-VIEW allows, a NEW-VIEW allows.",
            forall(vars![I, V, N, D], allowed(I, V, N, D).implies(safe(V, N, D)))),
        states("safe_unchoosable", "If a NEW-VIEW allows a digest, nothing else can commit in an earlier view: in every \
                quorum a replica has left that view, and is not prepared.",
            forall(vars![V, N, D, W, E, Q], (safe(V, N, D) & before(W, V) & differ(D, E))
                .implies(some_of_quorum(left_d(M, W) & !prepared(M, W, N, E))))),
        // --- execution, checkpoints, state transfer ---
        states("executed_reached", "What was executed was reached.",
            forall(vars![I, N, B], executed(I, N, B).implies(reached(N) & differ(N, N_0)))),
        states("executed_named", "What was executed is the batch of the digest chosen.",
            forall(vars![I, N, B, D], (executed(I, N, B) & chosen(N, D)).implies(names(D, B)))),
        states("reached_chosen", "Where execution has come, something was chosen.",
            forall(vars![N], reached(N).implies(equal(N, N_0) | exists(vars![D], chosen(N, D))))),
        states("reached_downwards", "Execution leaves no number out.",
            forall(vars![K, N], (next(K, N) & reached(N)).implies(reached(K)))),
        states("reached_result", "Where execution has come, there is a result.",
            forall(vars![N], reached(N).implies(exists(vars![H], result(N, H))))),
        states("result_reached", "A result is where execution has come.",
            forall(vars![N, H], result(N, H).implies(reached(N)))),
        states("result_unique", "There is one result at each number.",
            forall(vars![N, G, H], (result(N, G) & result(N, H)).implies(equal(G, H)))),
        states("result_applies", "A result is the one before with the batch chosen applied.",
            forall(vars![K, N, G, H, D, B], (next(K, N) & result(K, G) & result(N, H) & chosen(N, D) & names(D, B))
                .implies(applies(G, B, H)))),
        states("state_result", "A replica's state is the result.",
            forall(vars![I, N, H], state(I, N, H).implies(result(N, H)))),
        states("checkpoint_state", "Who has sent CHECKPOINT has had that state.",
            forall(vars![I, N, H], checkpoint(I, N, H).implies(state(I, N, H)))),
        states("stable_result", "A stable checkpoint is the result.",
            forall(vars![I, N, H], stable(I, N, H).implies(result(N, H)))),
    ]
}

/// What the invariants imply.
#[rustfmt::skip]
pub(super) fn theorems() -> Vec<Clause> {
    vec![
        states("prepared_uniqueness", "At most one digest is prepared in each view at each number.",
            forall(vars![V, N, D, E], (certificate(V, N, D) & certificate(V, N, E)).implies(equal(D, E)))),
        states("new_view_preserves_committed", "What commits in a view is all that a later NEW-VIEW allows.",
            forall(vars![V, W, N, D, E], (committed(W, N, D) & before(W, V) & safe(V, N, E)).implies(equal(D, E)))),
        states("agreement", "No two correct replicas execute different batches at one number.",
            forall(vars![I, J, N, B, C], (executed(I, N, B) & executed(J, N, C)).implies(equal(B, C)))),
        states("states_agree", "No two correct replicas have different states at one number.",
            forall(vars![I, J, N, G, H], (state(I, N, G) & state(J, N, H)).implies(equal(G, H)))),
        states("checkpoints_agree", "No two stable checkpoints of one number differ.",
            forall(vars![I, J, N, G, H], (stable(I, N, G) & stable(J, N, H)).implies(equal(G, H)))),
        states("validity", "Every request executed was signed by its client.",
            forall(vars![I, N, B], executed(I, N, B).implies(authentic(B)))),
        states("no_vote_in_a_view_left", "A replica between views, or past one, takes part in none that it has left.",
            forall(vars![I, V, U], (in_view(I, V) & left(I, U) & !leaving(I)).implies(before(U, V)))),
    ]
}
