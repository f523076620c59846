//! The mistakes of `tests/seeded/mistakes`: that each can still be put into the source, and says what it is.
//!
//! What notices them takes longer: `tests/seeded/run`, of which CI runs three.

use pbft_models::ledger::Ledger;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One patch: its name, its header as tags and texts, and its diff.
struct Mistake {
    name: String,
    header: Vec<(String, String)>,
    diff: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn directory() -> PathBuf {
    root().join("tests/seeded/mistakes")
}

fn mistakes() -> Vec<Mistake> {
    let files = std::fs::read_dir(directory()).expect("the mistakes are in the repository");
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.expect("the directory can be read").path();
        let text = std::fs::read_to_string(&path).expect("a patch is text");
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        mistake(name.expect("a file has a name"), &text)
    };
    let mut all: Vec<Mistake> = files.map(read).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(all.len() >= 50, "only {} mistakes", all.len());
    all
}

fn mistake(name: String, text: &str) -> Mistake {
    let (header, diff) = text.split_at(text.find("diff --git ").unwrap_or(text.len()));
    let tagged = |line: &str| {
        let line = line.strip_prefix("# ").unwrap_or_else(|| panic!("{name}: {line:?} is no comment"));
        let (tag, text) = line.split_once(": ").unwrap_or_else(|| panic!("{name}: {line:?} has no tag"));
        (tag.to_string(), text.to_string())
    };
    Mistake { header: header.lines().map(tagged).collect(), diff: diff.to_string(), name }
}

impl Mistake {
    /// The text of a tag, which must be there once.
    fn said(&self, tag: &str) -> &str {
        let texts: Vec<&str> =
            self.header.iter().filter(|(known, _)| known == tag).map(|(_, text)| text.as_str()).collect();
        let [text] = texts[..] else { panic!("{}: {} lines `# {tag}:`", self.name, texts.len()) };
        assert!(text.len() > 3, "{}: `# {tag}: {text}` says nothing", self.name);
        text
    }

    fn has(&self, tag: &str) -> bool {
        self.header.iter().any(|(known, _)| known == tag)
    }

    /// Whether it is no mistake of a replica but makes an exploration lose what replicas can do.
    fn loses(&self) -> bool {
        self.header.iter().any(|(tag, group)| tag == "group" && group == "lost")
    }
}

#[test]
fn every_mistake_says_what_is_wrong_what_breaks_and_where_it_shows() {
    let properties: BTreeSet<&str> =
        pbft_properties::all::<Ledger>().iter().map(|property| property.name).collect();
    for mistake in mistakes() {
        let name = &mistake.name;
        let (harm, world, expect) = (mistake.said("harm"), mistake.said("world"), mistake.said("expect"));
        assert!(mistake.said("what").ends_with('.'), "{name}: a sentence says what is wrong");
        assert!(harm.ends_with('.'), "{name}: sentences say what breaks");
        let harmless = harm.starts_with("none within the worlds: ");
        let broken = properties.iter().any(|property| harm.starts_with(property));
        if mistake.loses() {
            assert!(
                matches!(expect, "unclaimed" | "test"),
                "{name}: {expect} is for replicas that are wrong"
            );
            assert!(harm.starts_with("lost: "), "{name}: which behaviour? {harm:?}");
        } else {
            match expect {
                "violated" => {
                    assert!(broken, "{name}: a property breaks, but {harm:?} names none")
                }
                "holds" => assert!(harmless, "{name}: it is to hold, but {harm:?} is said to break"),
                "refused" | "test" => assert!(broken || harmless, "{name}: which property? {harm:?}"),
                other => panic!("{name}: nothing is called {other}"),
            }
        }
        let grouped = mistake.loses() || name.starts_with("reduction-");
        assert_eq!(mistake.has("group"), grouped, "{name}: a group is for reductions");
        let to_contract =
            mistake.header.iter().find(|(tag, _)| tag == "contract").map(|(_, text)| text.as_str());
        let reason = |text: &str| text.strip_prefix("passes: ").is_some_and(|why| why.len() > 20);
        assert!(
            to_contract.is_none_or(|text| text == "noticed" || reason(text)),
            "{name}: the contract notices, or passes for a reason: {to_contract:?}"
        );
        // This one may stand alone.
        let flags: Vec<&str> = world.split(' ').filter(|&flag| flag != "--crashes").collect();
        let is_flag =
            |pair: &[&str]| pair.len() == 2 && pair[0].starts_with("--") && !pair[1].starts_with("--");
        assert!(
            world.starts_with("none: ") || flags.chunks(2).all(is_flag),
            "{name}: {world:?} are no flags of `pbft check`"
        );
    }
}

#[test]
fn every_mistake_is_small_and_where_it_is_to_be() {
    for mistake in mistakes() {
        let loses = mistake.loses();
        let Mistake { name, diff, .. } = mistake;
        let files: Vec<&str> = diff.lines().filter_map(|line| line.strip_prefix("+++ b/")).collect();
        assert!(!files.is_empty(), "{name}: nothing is changed");
        for file in files {
            let production = file.starts_with("src/") && !file.contains("/tests");
            let explores = loses && file.starts_with("models/");
            assert!(production || explores, "{name}: {file} is not the replica's or the client's");
        }
        let count = |sign: char, header: &str| {
            diff.lines().filter(|line| line.starts_with(sign) && !line.starts_with(header)).count()
        };
        let (added, removed) = (count('+', "+++ "), count('-', "--- "));
        assert!(added.max(removed) <= 10, "{name}: {added} lines added and {removed} removed");
    }
}

#[test]
fn every_mistake_can_be_put_into_the_source_as_it_is() {
    if Command::new("git").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("there is no git here: nothing was tried");
        return;
    }
    let refused: Vec<String> = (mistakes().iter())
        .filter_map(|Mistake { name, .. }| {
            let patch = directory().join(format!("{name}.patch"));
            let git = Command::new("git").args(["apply", "--check"]).arg(patch).current_dir(root()).output();
            let output = git.expect("git can be run");
            let why = || format!("{name}: {}", String::from_utf8_lossy(&output.stderr));
            (!output.status.success()).then(why)
        })
        .collect();
    assert!(refused.is_empty(), "write these again for the source as it is now:\n{}", refused.join("\n"));
}

#[test]
fn the_table_of_mistakes_names_each_and_no_other() {
    let page = std::fs::read_to_string(root().join("docs/SAFEGUARDS.md")).expect("the page is there");
    let linked = page.split("](../tests/seeded/mistakes/").skip(1);
    let linked: BTreeSet<&str> = linked.filter_map(|rest| rest.split(".patch)").next()).collect();
    let mistakes = mistakes();
    let known: BTreeSet<&str> = mistakes.iter().map(|mistake| mistake.name.as_str()).collect();
    assert_eq!(linked, known, "`tests/seeded/run --document` writes the table");
}
