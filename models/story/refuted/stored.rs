//! The stored counterexamples to induction, each of which is evaluated when it is read.

use pbft_properties::proof::{NOT_NEEDED, Protocol, Refuted, Stored};
use std::path::Path;

/// The rules that the proof needs, in the order of their names.
pub fn rules() -> Vec<&'static str> {
    Protocol::pbft().rules().into_iter().filter(|rule| !NOT_NEEDED.contains(rule)).collect()
}

/// Reads a stored counterexample.
///
/// # Errors
/// If it cannot be read, is about another rule, or is no counterexample.
pub fn parse(rule: &str, text: &str) -> Result<Refuted, String> {
    let stored: Stored = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if stored.rule != rule {
        return Err(format!("it is about {}", stored.rule));
    }
    Refuted::read(stored)
}

/// Reads that of every rule that the proof needs, from a directory with a file for each.
///
/// # Errors
/// If one cannot be read, or is no counterexample.
pub fn stored(directory: &Path) -> Result<Vec<Refuted>, String> {
    let read = |rule| {
        let path = directory.join(format!("{rule}.json"));
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        parse(rule, &text).map_err(|why| format!("{} is no counterexample: {why}", path.display()))
    };
    rules().into_iter().map(read).collect()
}
