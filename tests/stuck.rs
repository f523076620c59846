//! The stored counterexamples in which a request never executes.

use pbft_models::engine::Limits;
use pbft_models::matrix::{Evidence, Row, rows};
use pbft_models::progress::{self, Strategy, check};
use pbft_models::trace::file::Stored;
use pbft_models::trace::replay::{Stale, replay, with_safeguard};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("counterexamples")
}

fn stored(row: &Row) -> Stored {
    let path = directory().join(row.file().expect("a row like this has a file"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Stored::parse(&text).unwrap_or_else(|why| panic!("{}: {why}", row.id()))
}

fn all() -> Vec<Row> {
    rows().into_iter().filter(|row| matches!(row.evidence, Evidence::Stuck(_))).collect()
}

fn named(id: &str) -> Stored {
    stored(all().iter().find(|row| row.id() == id).expect("it is one of them"))
}

#[test]
fn there_is_one_for_every_rule_without_which_a_request_never_executes_and_for_no_other() {
    let files = std::fs::read_dir(directory().join("stuck")).expect("the directory is there");
    let names = files.map(|file| file.expect("it can be listed").file_name().into_string().expect("a name"));
    let found: BTreeSet<String> = names.map(|name| format!("stuck/{name}")).collect();
    let wanted: BTreeSet<String> = all().iter().filter_map(Row::file).collect();
    assert_eq!((found, wanted.len()), (wanted, 9));
    for row in all() {
        let stored = stored(&row);
        assert_eq!(stored.config().ok(), row.world(), "{}", row.id());
        assert_eq!(stored.property, progress::NAME, "{}", row.id());
    }
}

#[test]
fn each_is_stuck_again_with_whole_replicas_and_with_the_rule_every_request_executes() {
    for row in all() {
        let id = row.id();
        let replayed = replay(&stored(&row)).unwrap_or_else(|stale| panic!("{id}: {stale}"));
        let (_, ran) = replayed.then.as_ref().expect("it goes on");
        assert_eq!(ran.violation().as_ref(), Some(&replayed.violation), "{id}");
        let harmless = with_safeguard(&replayed).expect("the world makes sense");
        let safely = harmless.then.as_ref().expect("it goes on");
        assert_eq!((harmless.violation, &safely.waiting), (None, &Vec::new()), "{id}");
        assert!(safely.took_ms < ran.took_ms && safely.views <= 1, "{id}: {safely:?}");
        println!("{id}: {} steps, {} ms with the rule", replayed.steps.len(), safely.took_ms);
    }
}

#[test]
fn no_step_can_be_dropped() {
    for row in all() {
        let replayed = replay(&stored(&row)).expect("it reproduces");
        let (loss, _) = replayed.then.expect("it goes on");
        let steps: Vec<_> = replayed.steps.iter().map(|taken| taken.step.clone()).collect();
        let needed = loss.needed(replayed.executor.config(), &steps).expect("the world makes sense");
        assert_eq!(needed, Some(steps), "{}", row.id());
    }
}

/// Rows whose search takes more than a few seconds: `tests/progress.rs` compares them too.
const SLOW: [&str; 1] = ["resume-on-catch-up"];

#[test]
fn the_search_finds_what_is_stored_with_any_number_of_threads() {
    for row in all().into_iter().filter(|row| !SLOW.contains(&row.id())) {
        let (stored, world) = (stored(&row), row.world().expect("it has one"));
        for threads in [1, 3] {
            let limits = Limits { threads, ..Limits::default() };
            let found = check(&world, Strategy::FORGETFUL, limits, &|| true).expect("it is exhausted").stuck;
            let found = Stored::stuck(&world, &found.expect("the rule is needed"), stored.revision.clone());
            let again = "store it again with `pbft mutants --save`";
            assert_eq!(found.as_ref(), Ok(&stored), "{}, {threads} threads: {again}", row.id());
        }
    }
}

#[test]
fn a_file_that_no_longer_reproduces_says_where() {
    let genuine = named("reply-cached");
    let broken = |change: &dyn Fn(&mut Stored)| {
        let mut stored = genuine.clone();
        change(&mut stored);
        replay(&stored).err()
    };
    let why = |stored: &mut Stored, change: &dyn Fn(&mut Vec<String>)| {
        change(&mut stored.then.as_mut().expect("it goes on").why);
    };
    let lines = genuine.then.as_ref().expect("it goes on").why.len();
    assert_eq!(broken(&|_| ()), None);
    assert_eq!(broken(&|stored| why(stored, &|why| why[1].push('!'))), Some(Stale::Why(2)));
    assert_eq!(broken(&|stored| why(stored, &|why| drop(why.pop()))), Some(Stale::Why(lines)));
    assert_eq!(broken(&|stored| why(stored, &|why| why.push("more".into()))), Some(Stale::Why(lines + 1)));
    let (node, digest) = (genuine.steps[0].node.to_string(), "0".repeat(64));
    assert_eq!(
        broken(&|stored| drop(stored.steps[0].states.insert(node.clone(), digest.clone()))),
        Some(Stale::State(1, node.clone()))
    );
    // Without the last step every request executes, and without what happens then nothing is violated.
    assert!(matches!(broken(&|stored| drop(stored.steps.pop())), Some(Stale::Executes(_))));
    assert_eq!(broken(&|stored| stored.then = None), Some(Stale::Nothing(genuine.property.clone())));
    assert!(matches!(broken(&|stored| stored.violation.push('!')), Some(Stale::Other { .. })));
    assert!(matches!(broken(&|stored| stored.property = "agreement".into()), Some(Stale::Other { .. })));
}

#[test]
fn by_the_papers_rules_the_same_file_does_not_reproduce_because_every_request_executes() {
    for row in all() {
        let mut stored = stored(&row);
        stored.rules = "pbft".into();
        match replay(&stored).err() {
            Some(Stale::Executes(_)) => {}
            // Some rule already made another state of it.
            Some(Stale::State(..) | Stale::NotAvailable(_)) if !stored.steps.is_empty() => {}
            other => panic!("{}: {other:?}", row.id()),
        }
    }
}

#[test]
fn every_stored_file_is_read_and_written_without_a_difference() {
    let mut read = 0;
    for part in ["", "stuck", "consequences"] {
        for entry in std::fs::read_dir(directory().join(part)).expect("the directory is there") {
            let path = entry.expect("it can be listed").path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("it can be read");
            let stored = Stored::parse(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            assert!(stored.text() == text, "{}", path.display());
            assert_eq!(stored.then.is_some(), part == "stuck", "{}", path.display());
            read += 1;
        }
    }
    assert!(read > 55, "{read}");
}
