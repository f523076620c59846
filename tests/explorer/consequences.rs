//! What first violations lead to: executions that go on until somebody is hurt.

use pbft_models::browse::{Session, path_of};
use pbft_models::matrix::{Evidence, rows};
use pbft_models::story::Story;
use pbft_models::story::lessons::consequences;
use pbft_models::trace::file::Stored;
use pbft_models::trace::replay::{Replayed, Stale, replay, with_safeguard};
use pbft_models::trace::{Execution, Executor};
use std::collections::BTreeSet;

/// What a violation of these does: replicas or clients disagree on what has happened, or it happens twice.
const HARM: [&str; 2] = ["agreement", "at-most-once"];

fn stored(id: &str) -> Stored {
    let path = format!("{}/counterexamples/consequences/{id}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    Stored::parse(&text).unwrap_or_else(|why| panic!("{path}: {why}"))
}

fn replayed(id: &str) -> Replayed {
    replay(&stored(id)).unwrap_or_else(|stale| panic!("{id} does not reproduce: {stale}"))
}

#[test]
fn each_goes_past_the_first_violation_to_one_that_hurts_and_is_harmless_with_the_rule() {
    let files = std::fs::read_dir(format!("{}/counterexamples/consequences", env!("CARGO_MANIFEST_DIR")));
    let files =
        files.expect("the directory is there").map(|file| file.expect("it can be listed").file_name());
    let files: BTreeSet<String> = files.map(|name| name.into_string().expect("a name")).collect();
    let wanted = consequences().map(|mutant| format!("{}.json", mutant.id()));
    assert_eq!(files, wanted.collect::<BTreeSet<_>>());
    for mutant in consequences() {
        let id = mutant.id();
        let replayed = replayed(id);
        assert!(HARM.contains(&replayed.violation.property), "{id}: {}", replayed.violation);
        // What it goes past is what the rule's own counterexample ends with.
        let row = rows().into_iter().find(|row| row.mutant == Some(mutant)).expect("every mutant has a row");
        let Evidence::Killed(kill) = row.evidence else { panic!("{id} is killed in no world") };
        assert!(replayed.past.iter().any(|(_, violation)| violation.property == kill.property), "{id}");
        let harmless = with_safeguard(&replayed).expect("the world makes sense");
        assert_eq!(harmless.violation, None, "{id}");
        let story = Story::of(&replayed, &harmless);
        assert!(story.goes_past(), "{id}");
        for (number, violation) in &replayed.past {
            let said = story.steps[number - 1].violated.clone().unwrap_or_default();
            assert!(said.starts_with(violation.property), "{id}, step {number}: {said}");
        }
    }
}

#[test]
fn no_step_of_one_can_be_dropped() {
    for mutant in consequences() {
        let replayed = replayed(mutant.id());
        let steps: Vec<_> = replayed.steps.iter().map(|taken| taken.step.clone()).collect();
        let executor = Executor::new(replayed.executor.config()).expect("the world makes sense");
        let mut executor = executor.judged_by(replayed.violation.property);
        let shortest = Execution::new(&mut executor, steps.clone()).expect("it is violated");
        assert_eq!(shortest.steps, steps, "{}", mutant.id());
    }
}

#[test]
fn the_explorer_marks_each_step_that_violates_something_new() {
    for mutant in consequences() {
        let replayed = replayed(mutant.id());
        let steps: Vec<_> = replayed.steps.iter().map(|taken| taken.step.clone()).collect();
        let config = replayed.executor.config().clone();
        let mut session = Session::new(config, None).expect("the world makes sense");
        let story = session.view(&path_of(&steps), false).story;
        for (number, violation) in replayed.past.iter().chain([&(steps.len(), replayed.violation.clone())]) {
            let said = story.steps[number - 1].violated.clone().unwrap_or_default();
            assert!(said.contains(violation.property), "{}, step {number}: {said}", mutant.id());
        }
    }
}

#[test]
fn what_is_violated_earlier_has_to_be_said() {
    let mut stored = stored("low-water-mark");
    stored.past.clear();
    assert!(matches!(replay(&stored), Err(Stale::Early(..))));
}
