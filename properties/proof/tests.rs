//! The two readings, and what guards may speak of.

use super::explore::{Bounds, explore};
use super::formula::{equal, exists, forall, vars};
use super::relations::names::{D, E, I, N, V, VIEW_0};
use super::relations::{Kind, Relation, accepted, prepare, safe};
use super::smt::{self, Changed};
use super::{Answer, Formula, Protocol, Sexp, Sort, Subject};
use std::collections::BTreeSet;

#[test]
fn a_formula_is_printed_as_written_here() {
    let one_vote =
        forall(vars![I, V, N, D, E], (accepted(I, V, N, D) & accepted(I, V, N, E)).implies(equal(D, E)));
    let golden = "\
(assert
  (!
    (forall
      ((i Replica) (v View) (n Number) (d Digest) (e Digest))
      (=> (and (accepted i v n d) (accepted i v n e)) (= d e)))
    :named
    |one vote|))";
    assert_eq!(smt::assertion("one vote", &one_vote, &Changed::new()), golden);
    let safe = prepare(I, V, N, D).implies(equal(V, VIEW_0) | safe(V, N, D));
    let changed = Changed::from([Relation::prepare]);
    let after = "(exists ((i Replica)) (=> (prepare.after i v n d) (or (= v view_0) (safe v n d))))";
    assert_eq!(smt::formula(&exists(vars![I], safe), &changed).to_string(), after);
}

#[test]
fn every_question_is_printed_the_same_each_time_and_can_be_read() {
    let (once, again) = (Protocol::pbft().obligations(), Protocol::pbft().obligations());
    assert!(once.len() > 100);
    let mut names = BTreeSet::new();
    for (one, other) in once.iter().zip(&again) {
        assert_eq!(one.script, other.script);
        let read = Sexp::read(&one.script).unwrap();
        assert_eq!(read.last().unwrap().to_string(), "(check-sat)");
        assert!(names.insert(one.subject.name()), "{}", one.subject.name());
        let sat = matches!(one.subject, Subject::Axioms | Subject::Fires(_) | Subject::Decides(..));
        assert_eq!(one.expected == Answer::Satisfiable, sat);
    }
}

/// A guard speaks of what can be known at one replica: what it has sent, remembers and chooses, and messages in hand.
#[test]
fn guards_are_local() {
    for action in Protocol::pbft().actions {
        for guard in &action.guards {
            for (relation, terms, positive) in guard.formula.atoms() {
                let of_actor = terms.first() == Some(&action.actor);
                let place = format!("{} in {} of {}", relation.name(), guard.name, action.name);
                match relation.kind() {
                    // Whoever does not know who is correct takes all to be: a guard must then be harder to satisfy.
                    Kind::Rigid if relation == Relation::correct => assert!(of_actor || !positive, "{place}"),
                    Kind::Rigid | Kind::Message | Kind::Choice => {}
                    Kind::Own => assert!(of_actor, "{place}"),
                    Kind::Durable | Kind::Ghost => panic!("{place} cannot be known at a replica"),
                }
            }
        }
        // It changes what is its own, and records it.
        for update in &action.updates {
            assert!(update.relation.is_state(), "{}", action.name);
        }
    }
}

/// Formulas have the variables that their actions have parameters for, with every rule switched off as well.
#[test]
fn nothing_is_left_free() {
    let whole = Protocol::pbft();
    let rules = whole.rules();
    let without = rules.iter().map(|rule| whole.without(&[rule]));
    for protocol in without.chain([whole.clone()]) {
        for action in &protocol.actions {
            let parameters: BTreeSet<_> = action.parameters.iter().copied().collect();
            for guard in &action.guards {
                assert!(guard.formula.free().is_subset(&parameters), "{} of {}", guard.name, action.name);
            }
            for update in &action.updates {
                let bound: BTreeSet<_> = parameters.iter().chain(&update.places).copied().collect();
                assert!(update.becomes.free().is_subset(&bound), "{}", action.name);
            }
        }
        let clauses = protocol.axioms.iter().chain(&protocol.invariants).chain(&protocol.theorems);
        for clause in clauses {
            assert_eq!(clause.formula.free(), BTreeSet::new(), "{}", clause.name);
            assert!(clause.says.ends_with('.'), "{}", clause.name);
        }
    }
}

/// The sorts that depend on each other by "for all ... some ..." in axioms, invariants and guards do not do so in a
/// circle, which is what makes the questions decidable.
#[test]
fn no_sort_depends_on_itself() {
    fn arrows(formula: &Formula, positive: bool, outer: &[Sort], found: &mut BTreeSet<(Sort, Sort)>) {
        match formula {
            Formula::Holds(..) | Formula::Equal(..) => {}
            Formula::Not(part) => arrows(part, !positive, outer, found),
            Formula::All(parts) | Formula::Any(parts) => {
                parts.iter().for_each(|part| arrows(part, positive, outer, found));
            }
            Formula::Implies(left, right) => {
                arrows(left, !positive, outer, found);
                arrows(right, positive, outer, found);
            }
            Formula::ForAll(variables, body) | Formula::Exists(variables, body) => {
                let is_universal = matches!(formula, Formula::ForAll(..)) == positive;
                let sorts = variables.iter().map(|variable| variable.sort);
                if is_universal {
                    let outer: Vec<Sort> = outer.iter().copied().chain(sorts).collect();
                    arrows(body, positive, &outer, found);
                } else {
                    found.extend(sorts.flat_map(|to| outer.iter().map(move |&from| (from, to))));
                    arrows(body, positive, outer, found);
                }
            }
        }
    }
    let protocol = Protocol::pbft();
    let mut found = BTreeSet::new();
    let clauses = protocol.axioms.iter().chain(&protocol.invariants);
    clauses.for_each(|clause| arrows(&clause.formula, true, &[], &mut found));
    // What is refuted after a step is the negation, under the values that the step is taken with.
    for clause in protocol.invariants.iter().chain(&protocol.theorems) {
        if let Formula::ForAll(_, body) = &clause.formula {
            arrows(body, false, &[], &mut found);
        }
    }
    for _ in Sort::ALL {
        let further: Vec<_> = found
            .iter()
            .flat_map(|&(from, middle)| {
                found.iter().filter(move |(one, _)| *one == middle).map(move |&(_, to)| (from, to))
            })
            .collect();
        found.extend(further);
    }
    assert!(found.iter().all(|(from, to)| from != to), "{found:?}");
}

const NORMAL_CASE: [&str; 4] = ["pre_prepare", "prepare", "commit", "committed_local"];

#[test]
fn the_page_has_every_invariant_and_theorem() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let page = words(include_str!("../../docs/PROOF.md"));
    let protocol = Protocol::pbft();
    for clause in protocol.invariants.iter().chain(&protocol.theorems) {
        let line = words(&format!("- `{}`: {}", clause.name, clause.says));
        assert!(page.contains(&line), "{line}");
    }
}

fn view_0(byzantine: usize) -> Bounds {
    Bounds { views: 1, most: 20_000, ..Bounds::four(byzantine) }
}

#[test]
fn the_normal_case_of_view_0_is_exhausted_and_every_invariant_holds() {
    let protocol = Protocol::pbft().with_actions(&NORMAL_CASE);
    let found = explore(&protocol, &view_0(0), &[]);
    assert_eq!((found.states, found.exhausted, found.broken), (517, true, None));
    // The Byzantine primary proposes both batches.
    let taken: Vec<&str> = found.taken.into_keys().collect();
    assert_eq!(taken, ["commit", "committed_local", "prepare"]);
    let found = explore(&protocol, &view_0(3), &[]);
    assert_eq!((found.exhausted, found.broken), (true, None));
    assert!(NORMAL_CASE.iter().all(|action| found.taken.contains_key(action)), "{:?}", found.taken);
}

/// A bounded search: the first states of views 0 and 1, with view changes, checkpoints, state transfer and crashes.
#[test]
fn every_invariant_holds_in_the_first_states_of_everything() {
    for byzantine in [0, 1, 3] {
        let found = explore(&Protocol::pbft(), &Bounds { most: 1_500, ..Bounds::four(byzantine) }, &[]);
        assert_eq!((found.exhausted, found.broken), (false, None));
        assert!(found.states >= 1_500);
    }
}

/// What is taken to hold of states before a step in a picture does hold of the states reached: of all of the normal
/// case with execution in view 0, of the first ones of everything. A bounded search.
#[test]
fn what_is_usual_in_pictures_holds_of_states_reached() {
    let usual = Protocol { invariants: super::refuted::usual(), theorems: Vec::new(), ..Protocol::pbft() };
    let normal = usual.with_actions(&[NORMAL_CASE.as_slice(), &["execute"]].concat());
    let found = explore(&normal, &view_0(0), &[]);
    assert_eq!((found.states, found.exhausted, found.broken), (1_581, true, None));
    for byzantine in [0, 1, 3] {
        let found = explore(&usual, &Bounds { most: 1_500, ..Bounds::four(byzantine) }, &[]);
        assert_eq!((found.exhausted, found.broken), (false, None));
    }
}
