//! What is in a state that a checkpoint's digest stands for.

use crate::crypto::Symbolic;
use crate::mutants::Rulebook;
use crate::words::text;
use pbft::replica::blocks::Tree;
use pbft::replica::{ClientTable, Snapshot};
use pbft::rules::Rules;
use pbft::types::{Bytes, ClientId, Digest, Timestamp};

/// The digest of what a snapshot holds. That is its root, unless blocks were believed that are not of its
/// tree.
pub(super) fn held(snapshot: &Snapshot) -> Digest {
    Tree::build::<Symbolic>(&snapshot.tree.chunks(), None).root()
}

/// What a snapshot holds, in words: `op0 executed; last replies: c0 t1 -> 1`.
pub(super) fn contents(snapshot: &Snapshot, rules: &Rulebook, clients: u32) -> String {
    let chunks = snapshot.tree.chunks();
    if !rules.client_table_in_checkpoint() {
        return format!("{}; no table of last replies", executed(&chunks));
    }
    let Some((table, service)) = chunks.split_last() else { return "an empty state".into() };
    match postcard::from_bytes::<ClientTable>(table) {
        Ok(table) => format!("{}; {}", executed(service), replies(&table, clients)),
        Err(_) => format!("{}; no table of last replies", executed(&chunks)),
    }
}

fn executed(operations: &[Bytes]) -> String {
    let told: Vec<String> = operations.iter().map(|operation| text(operation)).collect();
    match told.is_empty() {
        true => "nothing executed".into(),
        false => format!("executed {}", told.join(", ")),
    }
}

fn replies(table: &ClientTable, clients: u32) -> String {
    let last = (0..clients).filter_map(|client| {
        let last = table.last(ClientId(client)).filter(|last| last.timestamp > Timestamp(0))?;
        Some(format!("c{client} t{} -> {}", last.timestamp.0, text(&last.result)))
    });
    let last: Vec<String> = last.collect();
    match last.is_empty() {
        true => "no last replies".into(),
        false => format!("last replies: {}", last.join(", ")),
    }
}
