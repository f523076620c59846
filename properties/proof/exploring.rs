//! The finite reading, tested: that masks say what formulas say, what the reductions leave out, and what is reached.

use super::Protocol;
use super::explore::{Bounds, explore, initial, searching};
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
        let guards: Vec<_> =
            action.guards.iter().map(|guard| structure.prepare(&guard.formula, &action.parameters)).collect();
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
        let packed: Packed<4> = Unpacked::new(&protocol, &structure, &initial(&structure), &[]).pack();
        // Without rules the search is not to stop where something does not hold.
        let unclaimed = Packed { claims: Vec::new(), ..packed.clone() };
        let mut search = searching(&bounds, &structure, &unclaimed);
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

/// States explored, and how many there are when those that differ in names alone are counted each.
fn exhausted(actions: &[&str], bounds: &Bounds) -> (usize, usize) {
    let begun = std::time::Instant::now();
    let found = explore(&Protocol::pbft().with_actions(actions), bounds, &[]);
    println!("{bounds:?}: {found:?}, in {:?}", begun.elapsed());
    assert_eq!((found.exhausted, &found.broken), (true, &None));
    // What never happens shows nothing.
    for action in actions.iter().filter(|action| !["crash", "forget"].contains(action)) {
        assert!(found.taken.contains_key(action), "{action}");
    }
    (found.states, found.alike)
}

fn executing() -> Vec<&'static str> {
    ORDERING.into_iter().chain(["execute"]).collect()
}

#[test]
fn views_0_and_1_are_exhausted_with_two_batches() {
    for (byzantine, states) in [(0, (71_441, 281_656)), (1, (46_005, 180_636)), (3, (57_476, 114_888))] {
        assert_eq!(exhausted(&ORDERING, &two_views(byzantine, 2)), states, "{byzantine}");
    }
}

#[test]
#[ignore = "long: half a minute in release"]
fn views_0_and_1_are_exhausted_with_two_batches_and_the_null_request() {
    for (byzantine, states) in [(0, (115_904, 1_179_136)), (1, (69_216, 621_214)), (3, (75_484, 312_424))] {
        assert_eq!(exhausted(&ORDERING, &two_views(byzantine, 3)), states, "{byzantine}");
    }
}

#[test]
#[ignore = "long: half a minute in release"]
fn views_0_and_1_are_exhausted_with_executions() {
    for (byzantine, states) in [(0, (225_321, 893_456)), (1, (143_663, 568_008)), (3, (183_104, 366_144))] {
        assert_eq!(exhausted(&executing(), &two_views(byzantine, 2)), states, "{byzantine}");
    }
}

#[test]
#[ignore = "long: a minute in release"]
fn views_0_and_1_are_exhausted_with_executions_of_two_batches_and_the_null_request() {
    for (byzantine, states) in [(0, (354_822, 3_603_688)), (1, (210_863, 1_876_924))] {
        assert_eq!(exhausted(&executing(), &two_views(byzantine, 3)), states, "{byzantine}");
    }
}

#[test]
#[ignore = "long: a minute in release"]
fn views_0_and_1_are_exhausted_with_a_batch_that_no_client_has_signed() {
    for (byzantine, states) in [(0, (104_048, 205_936)), (1, (104_718, 207_232)), (3, (151_132, 151_132))] {
        let bounds = Bounds { authentic: 1, ..two_views(byzantine, 2) };
        assert_eq!(exhausted(&executing(), &bounds), states, "{byzantine}");
    }
}

/// Nothing is reduced.
#[test]
#[ignore = "long: minutes in release, and 1 GB"]
fn views_0_and_1_are_exhausted_plainly() {
    assert_eq!(exhausted(&ORDERING, &plain(two_views(1, 2))), (9_084_948, 9_084_948));
}

/// An execution from the initial state: what is refuted, with which bounds, and after how many actions.
struct Refuted {
    rule: &'static str,
    byzantine: usize,
    views: usize,
    authentic: usize,
    actions: Vec<&'static str>,
    claim: &'static str,
    steps: usize,
}

fn refuted() -> Vec<Refuted> {
    let whole = Protocol::pbft();
    let everything: Vec<&str> = whole.actions.iter().map(|action| action.name).collect();
    let view_0 = |rule, claim, steps| {
        let actions = executing();
        Refuted { rule, byzantine: 0, views: 1, authentic: 2, actions, claim, steps }
    };
    let of_backup = |rule, claim, steps| Refuted {
        byzantine: 3,
        actions: everything.clone(),
        ..view_0(rule, claim, steps)
    };
    let view_1 =
        |rule, claim, steps| Refuted { views: 2, actions: ORDERING.to_vec(), ..view_0(rule, claim, steps) };
    let (prepared, preserved) = ("prepared_uniqueness", "new_view_preserves_committed");
    vec![
        view_0("prepare-quorum", prepared, 4),
        view_0("first-pre-prepare-wins", prepared, 6),
        view_0("primary-does-not-prepare", prepared, 4),
        view_0("votes-match-digest", prepared, 4),
        view_0("signer-is-sender", prepared, 2),
        view_0("one-vote-per-sender", "chosen_unique", 2),
        view_0("low-water-mark", prepared, 6),
        view_0("persist-votes", prepared, 7),
        view_0("persist-before-send", prepared, 7),
        view_0("digest-names-batch", "agreement", 7),
        Refuted { authentic: 1, ..view_0("request-authentic", "validity", 6) },
        of_backup("only-primary-proposes", prepared, 4),
        of_backup("checkpoint-quorum", "checkpoints_agree", 2),
        of_backup("checkpoint-proof", "checkpoints_agree", 2),
        of_backup("transfer-verified", "states_agree", 4),
        view_1("commit-quorum", preserved, 8),
        view_1("leave-old-view", preserved, 9),
        view_1("stop-after-view-change", preserved, 9),
        view_1("certificates-in-view-change", preserved, 9),
        view_1("view-change-quorum", preserved, 8),
        view_1("votes-match-view", preserved, 11),
        view_1("certificate-quorum", prepared, 7),
        view_1("distinct-voters", prepared, 7),
        view_1("certificates-verified", prepared, 5),
        view_1("prepared-not-pre-prepared", prepared, 5),
        view_1("first-new-view-wins", prepared, 14),
    ]
}

/// Executions, and not only steps that break an invariant somewhere. With all rules nothing breaks within the bounds.
#[test]
fn without_a_rule_a_theorem_is_refuted_from_the_initial_state() {
    let whole = Protocol::pbft();
    for Refuted { rule, byzantine, views, authentic, actions, claim, steps } in refuted() {
        let bounds = Bounds { views, authentic, symmetric: false, ..two_views(byzantine, 2) };
        let found = explore(&whole.without(&[rule]).with_actions(&actions), &bounds, &claims(&whole));
        let broken = found.broken.unwrap_or_else(|| panic!("{rule}: nothing breaks in {}", found.states));
        assert_eq!((broken.name, broken.steps.len()), (claim, steps), "{rule}: {:#?}", broken.steps);
    }
}

/// The theorems, and that one digest is chosen: what is executed is.
fn claims(protocol: &Protocol) -> Vec<&'static str> {
    protocol.theorems.iter().map(|theorem| theorem.name).chain(["chosen_unique"]).collect()
}
