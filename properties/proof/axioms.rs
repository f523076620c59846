//! What is assumed of everything that no step changes, and the initial state.

use super::action::{Clause, states};
use super::formula::{Formula, Term, equal, exists, falsity, forall, truth, vars};
use super::relations::names::{B, C, D, G, H, I, INITIAL, J, K, M, N, N_0, Q, R, S, U, V, VIEW_0, W, Z};
use super::relations::{
    Relation, applies, below, correct, in_view, in_view_d, le, low, member, names, next, primary, reached,
    result, state,
};

/// The rules that the axiom about quorums stands for: with one switched off nothing is left of it.
pub const QUORUM_RULES: [&str; 3] = ["n-3f+1", "at-most-f", "members-only"];

/// The axioms.
pub(super) fn axioms() -> Vec<Clause> {
    let views = ["views_reflexive", "views_antisymmetric", "views_transitive", "views_total", "view_0_first"];
    let numbers =
        ["numbers_reflexive", "numbers_antisymmetric", "numbers_transitive", "numbers_total", "n_0_first"];
    let mut all: Vec<Clause> =
        order("Views are totally ordered, view 0 first.", views, le, [V, W, U], VIEW_0).into();
    all.extend(order(
        "Numbers are totally ordered, that of the initial state first.",
        numbers,
        below,
        [K, N, S],
        N_0,
    ));
    all.extend([
        states(
            "next_is_above",
            "The next number is above.",
            forall(vars![K, N], next(K, N).implies(below(K, N) & !equal(K, N))),
        ),
        states(
            "next_of_one",
            "A number is next after one number at most.",
            forall(vars![K, S, N], (next(K, N) & next(S, N)).implies(equal(K, S))),
        ),
        states(
            "one_primary",
            "A view has one primary.",
            forall(vars![V, I, J], (primary(V, I) & primary(V, J)).implies(equal(I, J))),
        ),
        states(
            "digests",
            "No two batches have one digest: it has no collisions.",
            forall(vars![D, B, C], (names(D, B) & names(D, C)).implies(equal(B, C))),
        ),
        states(
            "service",
            "The service is deterministic.",
            forall(vars![G, B, H, Z], (applies(G, B, H) & applies(G, B, Z)).implies(equal(H, Z))),
        ),
        Clause {
            weaker: QUORUM_RULES.map(|rule| (rule, truth())).into(),
            ..states(
                "quorums_meet",
                "Two quorums have a correct replica in common: for every n >= 3f + 1 by arithmetic.",
                forall(vars![Q, R], exists(vars![M], correct(M) & member(M, Q) & member(M, R))),
            )
        },
    ]);
    all
}

/// What makes a relation a total order with a least element; and the names of its five axioms.
fn order<S: Copy + Into<Term>>(
    says: &'static str,
    axioms: [&'static str; 5],
    le: fn(S, S) -> Formula,
    [a, b, c]: [S; 3],
    least: S,
) -> [Clause; 5] {
    let [reflexive, antisymmetric, transitive, total, first] = axioms;
    [
        states(reflexive, says, forall(vars![a], le(a, a))),
        states(
            antisymmetric,
            says,
            forall(vars![a, b], (le(a, b) & le(b, a)).implies(Formula::Equal(a.into(), b.into()))),
        ),
        states(transitive, says, forall(vars![a, b, c], (le(a, b) & le(b, c)).implies(le(a, c)))),
        states(total, says, forall(vars![a, b], le(a, b) | le(b, a))),
        states(first, says, forall(vars![a], le(least, a))),
    ]
}

/// What a relation holds of in the initial state: of its places, and a formula of them.
pub(super) fn initial_value(relation: Relation) -> (Vec<Term>, Formula) {
    let (atom, value) = match relation {
        Relation::in_view => (in_view(I, V), equal(V, VIEW_0)),
        Relation::in_view_d => (in_view_d(I, V), equal(V, VIEW_0)),
        Relation::low => (low(I, N), equal(N, N_0)),
        Relation::state => (state(I, N, H), equal(N, N_0) & equal(H, INITIAL)),
        Relation::result => (result(N, H), equal(N, N_0) & equal(H, INITIAL)),
        Relation::reached => (reached(N), equal(N, N_0)),
        _ => return (relation.own_variables(), falsity()),
    };
    match atom {
        Formula::Holds(_, places) => (places, value),
        _ => unreachable!("atoms are written above"),
    }
}

/// The same as a formula.
pub(super) fn initially(relation: Relation) -> Formula {
    let (places, value) = initial_value(relation);
    let holds = || Formula::Holds(relation, places.clone());
    let body = match value == falsity() {
        true => !holds(),
        false => holds().implies(value.clone()) & value.implies(holds()),
    };
    Formula::ForAll(places.clone(), Box::new(body))
}
