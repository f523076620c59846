//! `docs/PAPER.md` names the rule, the handlers and the tests of each clause of the paper. Here: whatever it
//! names exists, and no rule, handler or test is missing from it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

type Names = BTreeSet<String>;

/// One row of a table `| clause | rule | handler | test |`.
struct Row {
    clause: String,
    rules: Names,
    handlers: Names,
    tests: Names,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Rust files in a directory of the repository whose names begin with `prefix`, but for this one.
fn sources(directory: &str, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(directory)).expect("the directory is there");
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    let wanted = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(prefix) && name.ends_with(".rs") && !file!().ends_with(name)
    };
    paths.filter(wanted).map(|path| read(&path)).collect()
}

/// The name of the function that a line begins to define, if it does.
fn defined(line: &str) -> Option<String> {
    let line = line.trim_start();
    let visible = ["pub(super) ", "pub(crate) ", "pub "].iter().find_map(|prefix| line.strip_prefix(prefix));
    let rest = visible.unwrap_or(line).strip_prefix("fn ")?;
    let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

fn functions(source: &str) -> Names {
    source.lines().filter_map(defined).collect()
}

/// The methods of `trait Rules`.
fn rules() -> Names {
    let source = read(&root().join("src/rules.rs"));
    let (_, from) = source.split_once("pub trait Rules").expect("the trait is there");
    let (body, _) = from.split_once("\n}\n").expect("the trait has an end");
    functions(body)
}

/// The functions of the replica, and those of the client.
fn replica() -> Names {
    sources("src/replica", "").iter().flat_map(|source| functions(source)).collect()
}

fn client() -> Names {
    functions(&read(&root().join("src/client.rs")))
}

/// The functions with `#[test]` in the other `tests/paper_*.rs`.
fn tests() -> Names {
    let mut tests = Names::new();
    for source in sources("tests", "paper_") {
        let mut is_test = false;
        for line in source.lines() {
            is_test |= line.trim() == "#[test]";
            if let Some(name) = defined(line) {
                if is_test {
                    assert!(tests.insert(name.clone()), "two tests have the name {name}");
                }
                is_test = false;
            }
        }
    }
    tests
}

/// What stands between backticks.
fn quoted(cell: &str) -> Names {
    cell.split('`').skip(1).step_by(2).map(String::from).collect()
}

fn rows() -> Vec<Row> {
    let page = read(&root().join("docs/PAPER.md"));
    let mut rows = Vec::new();
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let &["", clause, rule, handler, test, ""] = cells.as_slice() else {
            panic!("not four cells: {line}");
        };
        if clause != "clause" && !clause.starts_with("---") {
            let (rules, handlers, tests) = (quoted(rule), quoted(handler), quoted(test));
            rows.push(Row { clause: clause.into(), rules, handlers, tests });
        }
    }
    rows
}

fn named(column: impl Fn(&Row) -> &Names) -> Names {
    rows().iter().flat_map(|row| column(row).clone()).collect()
}

fn missing(wanted: &Names, from: &Names) -> Vec<String> {
    wanted.difference(from).cloned().collect()
}

#[test]
fn every_rule_is_on_the_page_and_every_rule_on_the_page_exists() {
    let (exist, named) = (rules(), named(|row| &row.rules));
    assert!(exist.len() >= 50, "only {} rules found in src/rules.rs", exist.len());
    assert_eq!(missing(&exist, &named), [""; 0], "rules that docs/PAPER.md does not name");
    assert_eq!(missing(&named, &exist), [""; 0], "docs/PAPER.md names rules that do not exist");
}

#[test]
fn every_handler_is_on_the_page_and_every_function_on_the_page_exists() {
    let (replica, named) = (replica(), named(|row| &row.handlers));
    let handlers: Names = replica.iter().filter(|name| name.starts_with("on_")).cloned().collect();
    assert!(handlers.len() >= 14, "only {} handlers found in src/replica", handlers.len());
    assert!(named.len() >= 50, "only {} functions found in docs/PAPER.md", named.len());
    assert_eq!(missing(&handlers, &named), [""; 0], "handlers that docs/PAPER.md does not name");
    let exist: Names = replica.union(&client()).cloned().collect();
    assert_eq!(missing(&named, &exist), [""; 0], "docs/PAPER.md names functions that do not exist");
}

#[test]
fn every_test_of_a_clause_is_on_the_page_and_every_test_on_the_page_exists() {
    let (exist, named) = (tests(), named(|row| &row.tests));
    assert!(exist.len() >= 130, "only {} tests found in tests/paper_*.rs", exist.len());
    assert_eq!(missing(&exist, &named), [""; 0], "tests that docs/PAPER.md does not name");
    assert_eq!(missing(&named, &exist), [""; 0], "docs/PAPER.md names tests that do not exist");
}

#[test]
fn every_clause_has_a_handler_and_a_test() {
    let rows = rows();
    assert!(rows.len() >= 45, "only {} clauses found in docs/PAPER.md", rows.len());
    for row in rows {
        assert!(!row.handlers.is_empty() && !row.tests.is_empty(), "no handler or no test: {}", row.clause);
    }
}

#[test]
fn names_are_read_as_they_are_written() {
    assert_eq!(defined("    pub(super) fn on_prepare("), Some("on_prepare".into()));
    assert_eq!(defined("fn add_vote<C: Crypto>("), Some("add_vote".into()));
    assert_eq!(defined("    /// fn in a comment()"), None);
    assert_eq!(quoted("`a`, `b` and c"), Names::from(["a".into(), "b".into()]));
}
