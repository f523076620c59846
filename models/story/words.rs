//! Messages and facts in words, and what is Byzantine about a message.

use super::names::text;
use super::{Names, Told, name};
use crate::crypto::Symbolic;
use crate::trace::replay::{Restored, Taken};
use crate::trace::{Came, Executor, Happening, Step};
use crate::world::WorldConfig;
use pbft::certificate::PreparedCertificate;
use pbft::message::{Batch, Message};
use pbft::replica::Fact;
use pbft::types::{Digest, Principal, ReplicaId, SeqNo, View};
use std::collections::BTreeSet;

type Msg = Message<Symbolic>;

/// What happens at a step, in a line without its outcome.
pub fn happens(step: &Step, names: &Names) -> String {
    match &step.what {
        Happening::TimeOut => format!("{} times out", name(step.node)),
        Happening::Deliver(message) => {
            let from = message.signer().map(|from| name(from) + " ").unwrap_or_default();
            format!("{from}-> {}  {}", name(step.node), in_short(message, names))
        }
    }
}

/// The same, marked if it is Byzantine.
pub fn marked(step: &Step, names: &Names, config: &WorldConfig) -> String {
    let how = byzantine(&[], step, config).map(|how| format!("  [{how}]")).unwrap_or_default();
    happens(step, names) + &how
}

/// A message in a few words: `PRE-PREPARE v0 n1 d=A`.
pub fn in_short(message: &Msg, names: &Names) -> String {
    let certificates = |all: &[PreparedCertificate<Symbolic>]| {
        let told = all.iter().map(|c| format!("v{} n{} {}", c.view.0, c.n.0, names.of(c.digest)));
        told.collect::<Vec<_>>().join(", ")
    };
    let what = match message {
        Message::Request(m) => format!("c{} t{}", m.content.client.0, m.content.timestamp.0),
        Message::PrePrepare(..) | Message::Prepare(_) | Message::Commit(_) => {
            let (view, n, digest) = message.slot().expect("these have one");
            format!("v{} n{} d={}", view.0, n.0, names.of(digest))
        }
        Message::Checkpoint(m) => format!("n{} d={}", m.content.n.0, names.of(m.content.digest)),
        Message::Stable(m) => format!("n{} d={}", m.n.0, names.of(m.digest)),
        Message::ViewChange(m) => {
            let h = match m.content.n.0 {
                0 => String::new(),
                h => format!(" h={h}"),
            };
            format!("v{}{h} P={{{}}}", m.content.view.0, certificates(&m.content.prepared))
        }
        Message::NewView(m) => {
            let o = m.content.pre_prepares.iter();
            let o = o.map(|e| format!("n{} {}", e.content.n.0, names.of(e.content.digest)));
            let from = m.content.view_changes.iter().map(|m| name(m.signer)).collect::<Vec<_>>();
            let o = o.collect::<Vec<_>>().join(", ");
            format!("v{} V={{{}}} O={{{o}}}", m.content.view.0, from.join(", "))
        }
        Message::Reply(m) => {
            format!("c{} t{} result {}", m.content.client.0, m.content.timestamp.0, text(&m.content.result))
        }
        Message::Batch(batch) => names.of(batch.digest()),
        Message::Block(_) | Message::Status(_) | Message::Fetch(_) => String::new(),
    };
    format!("{} {what}", message.name()).trim_end().to_string()
}

/// What a node does at a step.
pub(super) fn does(came: &Came, names: &Names) -> Vec<String> {
    let mut does: Vec<String> = came.facts.iter().map(|fact| in_words(fact, names)).collect();
    does.extend(came.accepted.iter().map(|accepted| {
        format!("accepts the result {} of t{}", text(&accepted.result), accepted.timestamp.0)
    }));
    does.extend(came.rejection.map(|reason| format!("drops it: {}", spaced(reason.as_str()))));
    does
}

fn spaced(words: &str) -> String {
    words.replace('_', " ")
}

fn in_words(fact: &Fact, names: &Names) -> String {
    match fact {
        Fact::PrePrepared { view, n, digest } => {
            format!("accepts {} for v{} n{}", names.of(*digest), view.0, n.0)
        }
        Fact::Prepared { view, n, digest } => {
            format!("has prepared {} in v{} at n{}", names.of(*digest), view.0, n.0)
        }
        Fact::Committed { view, n, digest } => {
            format!("has committed {} in v{} at n{}", names.of(*digest), view.0, n.0)
        }
        Fact::Executed { n, digest, requests } => {
            let results = requests.iter().map(|r| format!("{} -> {}", text(&r.operation), text(&r.result)));
            let results = results.collect::<Vec<_>>().join(", ");
            match requests.is_empty() {
                true => format!("executes {} at n{}: no operation", names.of(*digest), n.0),
                false => format!("executes {} at n{}: {results}", names.of(*digest), n.0),
            }
        }
        Fact::ViewLeft { view, to } => format!("leaves v{} for v{}", view.0, to.0),
        Fact::ViewEntered { view, carried } => {
            let carried = carried.iter().map(|(n, digest)| format!("n{}={}", n.0, names.of(*digest)));
            let carried = carried.collect::<Vec<_>>().join(", ");
            match carried.is_empty() {
                true => format!("enters v{}, which carries nothing over", view.0),
                false => format!("enters v{}, which carries over {carried}", view.0),
            }
        }
        Fact::CheckpointTaken { n, digest } => {
            format!("takes a checkpoint at n{}: {}", n.0, names.of(*digest))
        }
        Fact::CheckpointStable { n, digest } => {
            format!("holds the checkpoint {} at n{} for stable", names.of(*digest), n.0)
        }
        Fact::StateTransferred { n, digest } => {
            format!("takes over a fetched state as {} at n{}", names.of(*digest), n.0)
        }
    }
}

/// The quorums that the last of these steps completes, with who is in them.
pub(super) fn quorums(executor: &Executor, taken: &[Taken], names: &Names) -> Vec<String> {
    let Some(last) = taken.last() else { return Vec::new() };
    let quorum = |fact: &Fact| match *fact {
        Fact::Prepared { view, n, digest } => {
            let voters = voters(executor, taken, "PREPARE", (view, n, digest), names);
            let primary = name(executor.config().cluster.primary(view).into());
            Some(format!("prepared {}: PRE-PREPARE of {primary}, PREPAREs of {voters}", names.of(digest)))
        }
        Fact::Committed { view, n, digest } => {
            let voters = voters(executor, taken, "COMMIT", (view, n, digest), names);
            Some(format!("committed {}: COMMITs of {voters}", names.of(digest)))
        }
        Fact::ViewEntered { view, .. } => {
            let from = new_view(executor, last, view)?;
            Some(format!("v{} begins: VIEW-CHANGEs of {from}", view.0))
        }
        _ => None,
    };
    last.came.facts.iter().filter_map(quorum).collect()
}

/// Whose votes a node has by now: its own, and those delivered to it and not dropped. Votes for something else are
/// marked.
fn voters(
    executor: &Executor,
    taken: &[Taken],
    kind: &str,
    (view, n, digest): (View, SeqNo, Digest),
    names: &Names,
) -> String {
    let Some(last) = taken.last() else { return String::new() };
    let node = last.step.node;
    let delivered = taken.iter().filter(|t| t.step.node == node && t.came.rejection.is_none());
    let delivered = delivered.filter_map(|t| match &t.step.what {
        Happening::Deliver(message) => Some(message),
        Happening::TimeOut => None,
    });
    let own = executor.sent(&last.came.after);
    let own = own.into_iter().filter(|message| message.signer() == Some(node));
    let mut found: BTreeSet<String> = BTreeSet::new();
    for message in delivered.chain(own).filter(|message| message.name() == kind) {
        let (Some(from), Some((its_view, its_n, its_digest))) = (message.signer(), message.slot()) else {
            continue;
        };
        let mark = match (its_view == view, its_digest == digest) {
            _ if its_n != n || (its_view != view && message.signer() == Some(node)) => continue,
            (true, true) => String::new(),
            (true, false) => format!(" (for {})", names.of(its_digest)),
            (false, _) => format!(" (of v{})", its_view.0),
        };
        found.insert(name(from) + &mark);
    }
    // With a rule off that looks at votes the marked ones count; else they do not.
    let genuine: Vec<String> = found.iter().filter(|vote| !vote.contains('(')).cloned().collect();
    let usual = executor.config().cluster.quorum() - usize::from(kind == "PREPARE");
    let counted = if genuine.len() >= usual.min(found.len()) { genuine } else { found.into_iter().collect() };
    counted.join(", ")
}

/// Whose VIEW-CHANGEs begin a view that a node enters.
fn new_view(executor: &Executor, last: &Taken, view: View) -> Option<String> {
    let sent = executor.sent(&last.came.after);
    let delivered = match &last.step.what {
        Happening::Deliver(message) => Some(message),
        Happening::TimeOut => None,
    };
    let found = delivered.into_iter().chain(sent).find_map(|message| match message {
        Message::NewView(m) if m.content.view == view => Some(m),
        _ => None,
    })?;
    let from = found.content.view_changes.iter().map(|m| match m.content.view == view {
        true => name(m.signer),
        false => format!("{} (for v{})", name(m.signer), m.content.view.0),
    });
    Some(from.collect::<Vec<_>>().join(", "))
}

/// What is Byzantine about a step, given those before it.
pub(super) fn byzantine(before: &[Taken], step: &Step, config: &WorldConfig) -> Option<String> {
    let Happening::Deliver(message) = &step.what else { return None };
    let from = message.signer()?;
    let Principal::Replica(replica) = from else { return of_client(message, config) };
    if !config.cluster.contains(replica) {
        return Some("an outsider".into());
    }
    if !config.byzantine.contains(&replica) {
        return None;
    }
    let how =
        named_sender(message).filter(|&named| named != replica).map(|named| format!("signs as r{}", named.0));
    let how = how.or_else(|| lie(before, message, replica, config));
    Some(how.map_or("Byzantine".into(), |how| format!("Byzantine: {how}")))
}

/// A request that its client has not signed.
fn of_client(message: &Msg, config: &WorldConfig) -> Option<String> {
    let Message::Request(m) = message else { return None };
    let is_genuine = config.signed_requests().contains(m);
    (!is_genuine).then(|| "no client has signed this".into())
}

/// The sender named inside of a message.
fn named_sender(message: &Msg) -> Option<ReplicaId> {
    match message {
        Message::Prepare(m) => Some(m.content.replica),
        Message::Commit(m) => Some(m.content.replica),
        Message::Checkpoint(m) => Some(m.content.replica),
        Message::ViewChange(m) => Some(m.content.replica),
        Message::Reply(m) => Some(m.content.replica),
        _ => None,
    }
}

fn lie(before: &[Taken], message: &Msg, from: ReplicaId, config: &WorldConfig) -> Option<String> {
    let is_primary = |view| config.cluster.primary(view) == from;
    let delivered = before.iter().filter_map(|taken| match &taken.step.what {
        Happening::Deliver(earlier) if earlier.signer() == Some(from.into()) => Some(earlier),
        _ => None,
    });
    let mut same_kind = delivered.filter(|earlier| earlier.name() == message.name());
    match message {
        Message::PrePrepare(m, batch) => {
            if !is_primary(m.content.view) {
                return Some("it is not the primary".into());
            }
            if batch.digest() != m.content.digest {
                return Some("the digest names another batch".into());
            }
            if !are_signed(batch, config) {
                return Some("no client has signed this".into());
            }
            same_kind.any(|earlier| second(earlier, message)).then(|| "second digest".into())
        }
        Message::Prepare(m) if is_primary(m.content.view) => Some("the primary votes".into()),
        Message::Prepare(_) | Message::Commit(_) => {
            same_kind.any(|earlier| second(earlier, message)).then(|| "votes for a second digest".into())
        }
        Message::NewView(m) => {
            if !is_primary(m.content.view) {
                return Some("it is not the primary".into());
            }
            let view = m.content.view;
            let other = |earlier: &Msg| matches!(earlier, Message::NewView(e) if e.content.view == view);
            same_kind.any(|earlier| other(earlier) && earlier != message).then(|| "second NEW-VIEW".into())
        }
        _ => None,
    }
}

/// Whether two messages are for the same view and number, and for different digests.
fn second(earlier: &Msg, message: &Msg) -> bool {
    match (earlier.slot(), message.slot()) {
        (Some((v, n, d)), Some((view, number, digest))) => (v, n) == (view, number) && d != digest,
        _ => false,
    }
}

fn are_signed(batch: &Batch<Symbolic>, config: &WorldConfig) -> bool {
    let genuine = config.signed_requests();
    batch.requests.iter().all(|request| genuine.contains(request))
}

/// How a step turns out with the safeguard, unless it turns out the same.
pub(super) fn restored(told: &Told, restored: &Restored, names: &Names) -> Option<String> {
    let node = name(told.node);
    match restored {
        Restored::Same => None,
        Restored::Refused(reason) => Some(format!("{node} refuses it ({})", spaced(reason.as_str()))),
        Restored::Otherwise(facts) if facts.is_empty() => Some(format!("{node} keeps it and waits for more")),
        Restored::Otherwise(facts) => {
            let does: Vec<String> = facts.iter().map(|fact| in_words(fact, names)).collect();
            Some(format!("{node} {}", does.join(" and ")))
        }
        Restored::CannotHappen if told.is_delivery => Some("nobody has sent this message".into()),
        Restored::CannotHappen => Some(format!("{node} has no reason to time out")),
    }
}
