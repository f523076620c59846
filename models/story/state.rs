//! The state of a replica in words: what a step can change that matters to a reader.

use super::{Names, name};
use crate::trace::{Configuration, Executor};
use crate::world::Modelled;
use pbft::replica::Replica;
use pbft::types::Principal;
use std::fmt::Write;

/// The parts of a replica's state: what each is, and its value.
pub fn fields(replica: &Replica<Modelled>, names: &Names) -> Vec<(&'static str, String)> {
    let durable = replica.durable();
    let list = |items: Vec<String>| if items.is_empty() { "-".to_string() } else { items.join(", ") };
    let view = match durable.leaving() {
        None => format!("v{}", durable.view.0),
        Some(next) => format!("v{}, leaving for v{}", durable.view.0, next.0),
    };
    let log = durable
        .log
        .iter()
        .map(|((view, n), m)| format!("v{} n{}={}", view.0, n.0, names.of(m.content.digest)));
    let prepared = durable.prepared.values();
    let prepared = prepared.map(|c| format!("v{} n{}={}", c.view.0, c.n.0, names.of(c.digest)));
    let executed = durable.executed.iter().map(|(n, digest)| format!("n{}={}", n.0, names.of(*digest)));
    let mut fields = vec![
        ("view", view),
        ("accepted PRE-PREPAREs", list(log.collect())),
        ("P (prepared)", list(prepared.collect())),
        ("executed", list(executed.collect())),
        ("stable checkpoint h", durable.h().0.to_string()),
    ];
    if let Some((n, blocks)) = replica.transferring() {
        fields.push(("fetching the state", format!("at n = {}, {blocks} blocks here", n.0)));
    }
    fields
}

/// What differs: what it is, before, and after.
pub(super) fn changes(
    before: &[(&'static str, String)],
    after: &[(&'static str, String)],
) -> Vec<(String, String, String)> {
    let value = |fields: &[(&'static str, String)], what: &str| {
        fields.iter().find(|(name, _)| *name == what).map_or("-".to_string(), |(_, value)| value.clone())
    };
    let mut names: Vec<&str> = after.iter().map(|(name, _)| *name).collect();
    names.extend(before.iter().map(|(name, _)| *name).filter(|name| !after.iter().any(|(n, _)| n == name)));
    let differs = |what: &&str| (what.to_string(), value(before, what), value(after, what));
    names.iter().map(differs).filter(|(_, before, after)| before != after).collect()
}

/// The state of every node in a few lines.
pub fn summary(executor: &Executor, configuration: &Configuration, names: &Names) -> String {
    let mut text = String::new();
    let digests = executor.digests(configuration);
    for (position, &node) in executor.nodes().iter().enumerate() {
        // The digest tells states apart that differ in what is not told: votes that are not yet a quorum,
        // say.
        let _ = write!(text, "{} (state {})", name(node), &digests[position][..8]);
        match node {
            Principal::Replica(_) => {
                for (what, value) in fields(&executor.replica(configuration, position).replica, names) {
                    let _ = write!(text, "\n    {what}: {value}");
                }
            }
            Principal::Client(_) => {
                let accepted = executor.accepted(configuration, position);
                let results: Vec<String> = accepted.iter().map(|a| crate::words::text(&a.result)).collect();
                let _ = write!(text, "\n    accepted: {}", results.join(", "));
            }
        }
        text.push('\n');
    }
    text
}
