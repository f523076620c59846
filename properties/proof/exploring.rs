//! The finite reading, tested: that masks say what formulas say, what the reductions leave out, and what is reached.

use super::Protocol;
use super::explore::{Bounds, Explored, explore, initial, searching};
use super::finite::{Situation, State, Structure};
use super::packed::{Packed, Unpacked};
use std::collections::BTreeSet;

/// The actions of which executions are no part.
pub(super) const ORDERING: [&str; 10] = [
    "pre_prepare",
    "prepare",
    "commit",
    "committed_local",
    "view_change",
    "new_view_open",
    "new_view_entry",
    "enter",
    "forget",
    "crash",
];

/// Four replicas, views 0 and 1, and so many batches.
fn two_views(byzantine: usize, batches: usize) -> Bounds {
    Bounds { batches, authentic: batches, symmetric: true, forgetful: true, ..Bounds::four(byzantine) }
}

fn plain(bounds: Bounds) -> Bounds {
    Bounds { symmetric: false, forgetful: false, ..bounds }
}

/// Every state after an action, by the formulas themselves.
fn by_formulas(protocol: &Protocol, structure: &Structure, state: &State) -> BTreeSet<State> {
    let mut found = BTreeSet::new();
    for action in &protocol.actions {
        let guards: Vec<_> = action
            .guards
            .iter()
            .map(|guard| structure.prepare(&guard.formula, &action.parameters))
            .collect();
        let sizes: Vec<usize> = action.parameters.iter().map(|term| structure.size(term.sort)).collect();
        let choices = if action.choices.is_empty() { 1 } else { 1u64 << structure.choice_bits() };
        for number in 0..sizes.iter().product::<usize>() {
            let mut rest = number;
            let value = |size: &usize| {
                let value = rest % size;
                rest /= size;
                value
            };
            let values: Vec<usize> = sizes.iter().map(value).collect();
            // The least choice comes first.
            let allowed = (0..choices).find(|&choice| {
                let situation = Situation { state, choice: &[choice] };
                guards.iter().all(|guard| guard.holds(structure, &situation, &values))
            });
            if let Some(choice) = allowed {
                found.insert(structure.after(action, &Situation { state, choice: &[choice] }, &values));
            }
        }
    }
    found.remove(state);
    found
}

/// In states of an exploration, near its beginning and far from it.
#[test]
fn masks_say_what_the_formulas_say() {
    for rules in [&[][..], &["prepare-quorum", "leave-old-view"], &["restart-keeps-view"]] {
        let protocol = Protocol::pbft().without(rules);
        let bounds = Bounds { most: 6_000, ..plain(two_views(3, 2)) };
        let structure = bounds.structure();
        let unpacked = Unpacked::new(&protocol, &structure, &initial(&structure), &[]);
        let packed: Packed<4> = unpacked.pack();
        let mut search = searching(&bounds, &structure, &packed);
        let names = |action: usize| protocol.actions[action].name;
        search.run(bounds.most, &|_, _| String::new(), &names);
        let mut transitions = 0;
        for bits in search.known.keys().step_by(97) {
            let state = packed.unpack(&structure, bits);
            assert_eq!(packed.pack(&state), *bits);
            let enabled = packed.steps.iter().filter(|step| step.guard.holds(bits));
            let after = enabled.map(|step| packed.unpack(&structure, &step.after(bits)));
            let after: BTreeSet<State> = after.filter(|after| *after != state).collect();
            assert_eq!(after, by_formulas(&protocol, &structure, &state), "without {rules:?}");
            transitions += after.len();
            for clause in protocol.invariants.iter().chain(&protocol.theorems) {
                let claims = packed.claims.iter().filter(|claim| claim.name == clause.name);
                let holds = claims.into_iter().all(|claim| claim.test.holds(bits));
                assert_eq!(holds, structure.holds(&clause.formula, &state, &[]), "{}", clause.name);
            }
        }
        assert!(transitions > 300, "{transitions}");
    }
}

/// Names left out, each state stands for as many as there are without the reduction.
#[test]
fn with_symmetry_every_state_is_reached_that_is_without() {
    let protocol = Protocol::pbft().with_actions(&ORDERING);
    for (byzantine, batches, views) in [(0, 3, 1), (1, 1, 2)] {
        let bounds = Bounds { views, ..plain(two_views(byzantine, batches)) };
        let all = explore(&protocol, &bounds, &[]);
        let fewer = explore(&protocol, &Bounds { symmetric: true, ..bounds }, &[]);
        assert!(all.exhausted && fewer.exhausted && fewer.symmetries > 1);
        assert_eq!((all.states, all.broken), (fewer.alike, fewer.broken));
        assert!(fewer.states < all.states);
    }
}

/// What is reached without evidence is what is reached with it, the evidence left out.
#[test]
fn evidence_forgotten_and_had_again_reaches_the_same() {
    let protocol = Protocol::pbft().with_actions(&ORDERING);
    let bounds = Bounds { symmetric: false, ..two_views(1, 1) };
    let structure = bounds.structure();
    let packed: Packed<2> = Unpacked::new(&protocol, &structure, &initial(&structure), &[]).pack();
    let reached = |bounds: &Bounds| {
        let mut search = searching(bounds, &structure, &packed);
        let names = |action: usize| protocol.actions[action].name;
        let found = search.run(bounds.most, &|_, _| String::new(), &names);
        assert!(found.exhausted && found.broken.is_none());
        assert_eq!(found.forgets, bounds.forgetful);
        search.known.into_keys().collect::<BTreeSet<_>>()
    };
    let (all, fewer) = (reached(&plain(bounds.clone())), reached(&bounds));
    let evidence = super::evidence::Evidence::of(&structure, &packed).expect("it applies");
    assert_eq!(all.iter().map(|&state| evidence.forgotten(state)).collect::<BTreeSet<_>>(), fewer);
    assert_eq!(all.len(), 429_088);
    println!("{} of {}", fewer.len(), all.len());
}

/// A larger P only forbids: it is enough that an action chooses the least.
#[test]
fn to_report_more_allows_no_more() {
    use super::relations::Relation::{report, reports};
    let protocol = Protocol::pbft();
    for action in &protocol.actions {
        for guard in &action.guards {
            for (relation, _, positive) in guard.formula.atoms() {
                assert!(relation != reports || !positive, "{} of {}", guard.name, action.name);
                assert!(relation != report || positive, "{} of {}", guard.name, action.name);
            }
        }
        for update in &action.updates {
            for (relation, _, positive) in update.becomes.atoms() {
                let adds = update.relation == reports && positive;
                assert!(!matches!(relation, report | reports) || adds, "{}", action.name);
            }
        }
    }
    for clause in protocol.invariants.iter().chain(&protocol.theorems) {
        for (relation, _, positive) in clause.formula.atoms() {
            assert!(relation != reports || positive, "{}", clause.name);
        }
    }
}

fn exhausted(what: &str, protocol: &Protocol, bounds: &Bounds) -> Explored {
    let begun = std::time::Instant::now();
    let found = explore(protocol, bounds, &[]);
    println!(
        "{what}, {:?} Byzantine: {} states for {}, {} transitions, {} symmetries, in {:?}; {:?}",
        bounds.byzantine,
        found.states,
        found.alike,
        found.transitions,
        found.symmetries,
        begun.elapsed(),
        found.taken
    );
    assert_eq!((found.exhausted, &found.broken), (true, &None));
    found
}

#[test]
fn views_0_and_1_are_exhausted_with_two_batches() {
    let protocol = Protocol::pbft().with_actions(&ORDERING);
    for byzantine in [0, 1, 3] {
        exhausted("two batches", &protocol, &two_views(byzantine, 2));
    }
}

#[test]
#[ignore = "long: minutes in release"]
fn views_0_and_1_are_exhausted_with_two_batches_and_the_null_request() {
    let protocol = Protocol::pbft().with_actions(&ORDERING);
    for byzantine in [0, 1, 3] {
        exhausted("three batches", &protocol, &two_views(byzantine, 3));
    }
}

#[test]
#[ignore = "long: minutes in release"]
fn views_0_and_1_are_exhausted_with_executions() {
    let actions: Vec<&str> = ORDERING.into_iter().chain(["execute"]).collect();
    let protocol = Protocol::pbft().with_actions(&actions);
    for byzantine in [0, 1, 3] {
        exhausted("executions", &protocol, &two_views(byzantine, 2));
    }
}

/// Which rules are refuted from the initial state, within bounds.
#[test]
#[ignore = "long: every rule"]
fn trial_of_every_rule() {
    let whole = Protocol::pbft();
    let only = std::env::var("PBFT_ONLY").unwrap_or_default();
    let most: usize = std::env::var("PBFT_MOST").ok().and_then(|most| most.parse().ok()).unwrap_or(300_000);
    let checked: Vec<&str> =
        whole.theorems.iter().map(|theorem| theorem.name).chain(["chosen_unique"]).collect();
    let executing: Vec<&str> = ORDERING.into_iter().chain(["execute"]).collect();
    let everything: Vec<&str> = whole.actions.iter().map(|action| action.name).collect();
    for rule in whole.rules().into_iter().filter(|rule| only.is_empty() || only.split(',').any(|id| id == *rule)) {
        let protocol = whole.without(&[rule]);
        let mut told = format!("{rule}: -");
        let tries = [(0, 1, 2, &executing[..]), (0, 1, 1, &executing), (3, 1, 2, &everything), (0, 2, 2, &ORDERING), (1, 2, 2, &ORDERING), (3, 2, 2, &ORDERING)];
        for (byzantine, views, authentic, actions) in tries {
            let bounds = Bounds { views, authentic, most, ..two_views(byzantine, 2) };
            let found = explore(&protocol.with_actions(actions), &bounds, &checked);
            if let Some(broken) = found.broken {
                told = format!("{rule}: {} after {} actions, {byzantine} Byzantine, views {views}, authentic {authentic}, {} actions, {} states, forgets {} symmetries {}\n    {}", broken.name, broken.steps.len(), actions.len(), found.states, found.forgets, found.symmetries, broken.steps.join("\n    "));
                break;
            }
        }
        println!("{told}");
    }
}
