//! The counterexamples to induction that are stored: there is one for each rule that the proof needs, each is one, and
//! whatever is changed in it is refused.

use pbft_models::story::refuted::{parse, rules, stored};
use pbft_properties::proof::relations::Relation;
use pbft_properties::proof::{Protocol, QUORUM_RULES, Refuted, Stopped, Stored};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("counterexamples/refuted")
}

fn all() -> Vec<Refuted> {
    stored(&directory()).unwrap_or_else(|why| panic!("{why}"))
}

fn refused(stored: Stored, what: &str) -> String {
    let rule = stored.rule.clone();
    match Refuted::read(stored) {
        Ok(_) => panic!("{rule}: {what}, and it is believed"),
        Err(why) => why,
    }
}

#[test]
fn there_is_one_for_every_rule_that_the_proof_needs_and_for_no_other() {
    let files = std::fs::read_dir(directory()).expect("the directory is there");
    let names = files.map(|file| file.expect("it can be listed").file_name().into_string().expect("a name"));
    let found: BTreeSet<String> =
        names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    let wanted: BTreeSet<String> = rules().into_iter().map(str::to_owned).collect();
    assert_eq!(found, wanted);
    assert_eq!(all().len(), 39);
}

/// It is the rule that keeps the step from being taken: a guard that stands for it, what the action does, or who there
/// is.
#[test]
fn with_the_rule_the_step_is_not_there() {
    for refuted in all() {
        let rule = refuted.stored.rule.as_str();
        let whole = Protocol::pbft();
        let action =
            whole.actions.iter().find(|action| action.name == refuted.action.name).expect("it is one");
        match &refuted.stopped {
            Stopped::Guards(guards) => {
                assert!(!guards.is_empty(), "{rule}");
                for (name, _) in guards {
                    let guard = action.guards.iter().find(|guard| guard.name == *name).expect("it is one");
                    assert!(guard.weaker.iter().any(|(one, _)| *one == rule), "{rule}: {name}");
                }
            }
            Stopped::Outcome(relations) => {
                let mut other = action.updates.iter().filter(|update| relations.contains(&update.relation));
                assert!(!relations.is_empty(), "{rule}");
                assert!(other.all(|update| update.other.iter().any(|(one, _)| *one == rule)), "{rule}");
            }
            Stopped::Assumption(..) => assert!(QUORUM_RULES.contains(&rule), "{rule}"),
        }
    }
}

#[test]
fn nothing_can_be_left_out_of_one() {
    for refuted in all() {
        for (at, line) in refuted.stored.before.iter().enumerate() {
            // Fewer may be correct, or authentic, and it would be another counterexample, not a false one.
            if line.starts_with("correct ") || line.starts_with("authentic ") {
                continue;
            }
            let mut less = refuted.stored.clone();
            less.before.remove(at);
            refused(less, &format!("{line} is left out"));
        }
    }
}

#[test]
fn one_that_was_tampered_with_is_refused() {
    let whole = Protocol::pbft();
    for refuted in all() {
        let stored = &refuted.stored;
        // A rule that has nothing to do with the action: then nothing is switched off.
        let action = whole.actions.iter().find(|action| action.name == stored.action).expect("it is one");
        for rule in whole.rules() {
            let is_other = !action.rules().contains(rule) && !QUORUM_RULES.contains(&rule);
            if is_other {
                refused(Stored { rule: rule.into(), ..stored.clone() }, &format!("it is said of {rule}"));
            }
        }
        // An invariant that holds afterwards.
        let kept = whole.invariants.iter().find(|invariant| invariant.name == "left_downwards");
        let invariant = kept.expect("it is one").name.to_string();
        refused(Stored { invariant, ..stored.clone() }, "another invariant is named");
        // More Byzantine replicas than there may be.
        let before: Vec<String> =
            stored.before.iter().filter(|line| !line.starts_with("correct ")).cloned().collect();
        refused(Stored { before, ..stored.clone() }, "nobody is correct");
        // A second vote of a replica, which an invariant forbids.
        let double = ["accepted", "accepted_d", "prepare"].map(|name| format!("{name} 1 0 1 0"));
        let other = ["accepted", "accepted_d", "prepare"].map(|name| format!("{name} 1 0 1 1"));
        let before = stored.before.iter().cloned().chain(double).chain(other).collect();
        refused(Stored { before, ..stored.clone() }, "somebody has voted twice");
        for line in ["commit 0 0 1", "commit 0 0 9 0", "nothing 1", "member 0 0", "commit 0 0 -1 0", ""] {
            let before = stored.before.iter().cloned().chain([line.to_string()]).collect();
            refused(Stored { before, ..stored.clone() }, &format!("{line:?} is in it"));
        }
        let mut less = stored.clone();
        less.with.remove("i");
        refused(less, "nobody takes the action");
    }
}

/// The step without the rule, and each other value of each parameter: what is believed breaks the invariant too.
#[test]
fn the_parameters_of_the_step_are_evaluated() {
    let mut refused = 0;
    for refuted in all() {
        for (name, value) in &refuted.stored.with {
            for other in (0..4).filter(|other| other != value) {
                let mut changed = refuted.stored.clone();
                changed.with.insert(name.clone(), other);
                match Refuted::read(changed) {
                    Ok(read) => assert_eq!(read.invariant.name, refuted.invariant.name),
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn a_file_is_about_the_rule_that_it_is_named_after_and_has_no_other_fields() {
    let text = std::fs::read_to_string(directory().join("commit-quorum.json")).expect("it is stored");
    assert!(parse("commit-quorum", &text).is_ok());
    assert!(parse("prepare-quorum", &text).unwrap_err().contains("it is about commit-quorum"));
    let more = text.replacen('{', "{ \"note\": 1,", 1);
    assert!(parse("commit-quorum", &more).unwrap_err().contains("unknown field"));
    let twelve = text.replacen("\"views\": 2", "\"views\": 12", 1);
    assert_ne!(text, twelve);
    assert!(parse("commit-quorum", &twelve).unwrap_err().contains("there are 1 to 4 views"));
}

#[test]
fn the_table_of_the_proof_says_what_is_stored() {
    let page = std::fs::read_to_string(format!("{}/docs/PROOF.md", env!("CARGO_MANIFEST_DIR")))
        .expect("it is there");
    let rows: Vec<&str> =
        page.lines().filter(|line| line.starts_with("| [") && line.contains("refuted/")).collect();
    let wanted: Vec<String> = all()
        .iter()
        .map(|refuted| {
            let rule = &refuted.stored.rule;
            let anchor = rule.replace('+', "");
            let (action, invariant) = (&refuted.stored.action, &refuted.stored.invariant);
            format!("| [{rule}](../counterexamples/refuted/README.md#{anchor}) | `{action}.{invariant}` |")
        })
        .collect();
    assert_eq!(rows, wanted);
}

/// In a cluster as PBFT has it, but for the rules that say so: quorums of Q members, of which two have a correct one in
/// common.
#[test]
fn the_clusters_are_those_of_the_arithmetic() {
    for refuted in all() {
        let (rule, cluster) = (refuted.stored.rule.as_str(), refuted.cluster);
        let quorum = (cluster.n + cluster.f + 1).div_ceil(2);
        let byzantine = (0..cluster.replicas()).filter(|&replica| !refuted.is_correct(replica)).count();
        let is_one = cluster.n > 3 * cluster.f
            && cluster.quorum == quorum
            && byzantine <= cluster.f
            && cluster.outsiders == 0;
        assert_eq!(is_one, !QUORUM_RULES.contains(&rule), "{rule}");
        let quorums = refuted.holds(Relation::member).len() / cluster.quorum;
        let all_of_them = if rule == "members-only" {
            10
        } else if rule == "n-3f+1" {
            3
        } else {
            4
        };
        assert_eq!(quorums, all_of_them, "{rule}");
    }
}
