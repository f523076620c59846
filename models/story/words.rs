//! Messages and facts in words, and what is Byzantine about a message.

use super::Names;
use crate::crypto::Symbolic;
use crate::trace::{Step, StepResult};
use crate::words::{self, name, text};
use crate::world::WorldConfig;
use pbft::crypto::Crypto;
use pbft::message::Message;
use pbft::replica::{Effect, Fact, Record};
use pbft::types::Principal;

type Msg = Message<Symbolic>;

/// What happens at a step, in a line without its outcome.
pub fn happens(step: &Step, names: &Names) -> String {
    let what = match step.what.message() {
        None if step.what.crash() == Some(0) => {
            return format!("{} crashes and starts again", name(step.node));
        }
        None => format!("{} times out", name(step.node)),
        Some(message) => {
            let from = message.signer().map(|from| name(from) + " ").unwrap_or_default();
            format!("{from}-> {}  {}", name(step.node), in_short(message, names))
        }
    };
    match step.what.crash() {
        Some(_) => format!("{what}, and {} crashes", name(step.node)),
        None => what,
    }
}

/// What a crash leaves undone, in words.
pub(super) fn crash(undone: &[Effect<Symbolic>], names: &Names) -> String {
    let told: Vec<String> = undone.iter().filter_map(|effect| told_undone(effect, names)).collect();
    match told.split_first() {
        None => "starts again from what is durable; what it had received is gone".into(),
        Some((first, rest)) => {
            let rest: String = rest.iter().map(|more| format!(", nor {more}")).collect();
            format!("crashes before it has {first}{rest}; starts again from what is durable")
        }
    }
}

/// What a replica has not done, as a participle; facts only follow from it.
fn told_undone(effect: &Effect<Symbolic>, names: &Names) -> Option<String> {
    Some(match effect {
        Effect::Persist(record) => match record {
            Record::PrePrepared(m, _) => {
                format!("recorded that it accepts {} for n{}", names.of(m.content.digest), m.content.n.0)
            }
            Record::Batch(batch) => format!("recorded the batch {}", names.of(batch.digest())),
            Record::Prepared(m) => {
                format!("recorded that {} prepared at n{}", names.of(m.digest), m.n.0)
            }
            Record::Executed(n, digest) => {
                format!("recorded that it executes {} at n{}", names.of(*digest), n.0)
            }
            Record::ViewChange(m) => format!("recorded that it leaves for v{}", m.content.view.0),
            Record::NewView(m) => format!("recorded that it enters v{}", m.content.view.0),
            Record::Stable(m) => format!("recorded that the checkpoint at n{} is stable", m.n.0),
            Record::Snapshot(snapshot) => format!("recorded the state after n{}", snapshot.n.0),
        },
        Effect::Send(_, message) => format!("sent {}", in_short(message, names)),
        _ => return None,
    })
}

/// The same, marked if it is signed by somebody Byzantine.
pub fn marked(step: &Step, names: &Names, config: &WorldConfig) -> String {
    let Some(message) = step.what.message() else { return happens(step, names) };
    let is_byzantine = match message.signer() {
        Some(Principal::Replica(replica)) => {
            config.byzantine.contains(&replica) || !config.cluster.contains(replica)
        }
        _ => false,
    };
    happens(step, names) + if is_byzantine { "  [Byzantine]" } else { "" }
}

/// A message in a few words: `PRE-PREPARE v0 n1 d=A`.
pub fn in_short(message: &Msg, names: &Names) -> String {
    match message {
        Message::Block(block) => format!("BLOCK {}", names.of(Symbolic::digest(block))),
        _ => words::in_short(message, &|digest| names.of(digest)),
    }
}

/// What a node does at a step.
pub(super) fn does(came: &StepResult, names: &Names) -> Vec<String> {
    let mut does: Vec<String> = came.facts.iter().map(|fact| in_words(fact, names)).collect();
    does.extend(came.accepted.iter().map(|accepted| {
        format!("accepts the result {} of t{}", text(&accepted.result), accepted.timestamp.0)
    }));
    does
}

/// What is not done where a fact is missing: `is not prepared: ...`.
pub(super) fn not_done(fact: &Fact, names: &Names) -> String {
    match fact {
        Fact::PrePrepared { view, n, digest } => {
            format!("does not accept {} in v{} at n{}", names.of(*digest), view.0, n.0)
        }
        Fact::Prepared { view, n, digest } => {
            format!("has not prepared {} in v{} at n{}", names.of(*digest), view.0, n.0)
        }
        Fact::Committed { view, n, digest } => {
            format!("has not committed {} in v{} at n{}", names.of(*digest), view.0, n.0)
        }
        Fact::Executed { n, digest, .. } => format!("does not execute {} at n{}", names.of(*digest), n.0),
        Fact::ViewLeft { view, .. } => format!("stays in v{}", view.0),
        Fact::ViewEntered { view, .. } => format!("does not enter v{}", view.0),
        Fact::CheckpointTaken { n, digest } => {
            format!("takes no checkpoint {} at n{}", names.of(*digest), n.0)
        }
        Fact::CheckpointStable { n, digest } => {
            format!("does not take {} at n{} for stable", names.of(*digest), n.0)
        }
        Fact::StateTransferred { n, digest } => {
            format!("does not take over {} as the state after n{}", names.of(*digest), n.0)
        }
    }
}

/// What a fact says, for a sentence that begins with the replica's name.
pub(crate) fn in_words(fact: &Fact, names: &Names) -> String {
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
            format!("takes a checkpoint at n{}: its state is {}", n.0, names.of(*digest))
        }
        Fact::CheckpointStable { n, digest } => {
            format!(
                "knows that the checkpoint {} at n{} is stable, so its h is {}",
                names.of(*digest),
                n.0,
                n.0
            )
        }
        Fact::StateTransferred { n, digest } => {
            format!("takes over what it has fetched as {}, the state after n{}", names.of(*digest), n.0)
        }
    }
}
