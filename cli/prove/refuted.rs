//! `pbft prove --save`: for each rule the counterexample to induction that is stored and drawn.

use super::solver::{Outcome, Solver};
use crate::output::interrupted;
use crate::say;
use pbft_models::story::refuted::picture_file;
use pbft_properties::proof::{Candidate, NOT_NEEDED, Protocol, Refuted, candidates};
use std::path::Path;
use std::time::Duration;

/// Finds and stores them, for these rules or for all.
pub fn save(directory: &Path, rules: &[String], z3: &Solver, timeout: Duration) -> Result<u8, String> {
    let whole = Protocol::pbft();
    let wanted = |rule: &&str| rules.is_empty() || rules.iter().any(|one| one == rule);
    std::fs::create_dir_all(directory)
        .map_err(|error| format!("cannot write to {}: {error}", directory.display()))?;
    let mut status = 0;
    for rule in whole.rules().into_iter().filter(wanted) {
        if interrupted() {
            return Ok(3);
        }
        match find(rule, z3, timeout) {
            Some((found, is_least)) => {
                let path = directory.join(format!("{rule}.json"));
                let text = serde_json::to_string_pretty(&found.stored).map_err(|error| error.to_string())?;
                std::fs::write(&path, text + "\n")
                    .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
                let (action, invariant, length) = (&found.action, &found.invariant, found.length());
                let more = if is_least { "" } else { "; there was no time to look for less" };
                say!("{rule:<30} {}.{}, {length} things to read{more}", action.name, invariant.name);
            }
            None if NOT_NEEDED.contains(&rule) => say!("{rule:<30} - the proof does without it"),
            None => {
                say!("{rule:<30} no counterexample found in a small cluster");
                status = 3;
            }
        }
    }
    Ok(status)
}

/// A counterexample, and whether it has the least to read of those to its obligation and of its sizes.
type Found = (Refuted, bool);

/// The counterexample that says most, and of those the one with the least to read.
fn find(rule: &str, z3: &Solver, timeout: Duration) -> Option<Found> {
    let all = candidates(rule);
    let groups = all
        .chunk_by(|one, other| one.invariant == other.invariant || !one.is_telling() && !other.is_telling());
    for group in groups {
        let found = group.iter().filter_map(|candidate| least(candidate, z3, timeout));
        if let Some(found) = found.min_by_key(|(refuted, _)| refuted.length()) {
            return Some(found);
        }
    }
    None
}

/// The least counterexample to one obligation, in the smallest sizes that have one.
fn least(candidate: &Candidate, z3: &Solver, timeout: Duration) -> Option<Found> {
    for &sizes in candidate.sizes() {
        let ask = |fewest| match z3.ask(&candidate.question(sizes, fewest), timeout).outcome {
            Outcome::Satisfiable { model: Some(model) } => candidate.found(sizes, &model).map(Some),
            _ => Ok(None),
        };
        match ask(false) {
            Ok(None) => {}
            Ok(Some(some)) => {
                return Some(ask(true).ok().flatten().map_or((some, false), |least| (least, true)));
            }
            Err(why) => {
                eprintln!("pbft: {} {} {}: {why}", candidate.rule, candidate.action, candidate.invariant)
            }
        }
    }
    None
}

/// Where the picture of what a rule is refuted by is.
pub fn picture(rules: &[String]) -> Option<String> {
    let [rule] = rules else { return None };
    let is_drawn = Protocol::pbft().rules().contains(rule.as_str()) && !NOT_NEEDED.contains(&rule.as_str());
    is_drawn.then(|| {
        format!(
            "A picture: counterexamples/{}, explained in counterexamples/refuted/README.md.",
            picture_file(rule)
        )
    })
}
