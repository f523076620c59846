//! Steps in words, for traces.

use super::config::WorldConfig;
use super::explored::{State, World};
use super::tables::MessageId;
use crate::crypto::Symbolic;
use crate::words::{in_short, name};
use pbft::message::Message;
use pbft::types::{ClientId, Principal, ReplicaId};
use pbft_properties::History;

impl World {
    /// The step from one state to the next in words: what happens, and what the receiver does.
    pub fn describe(&mut self, before: &State, after: &State) -> String {
        let Some((node, step)) = self.step_between(before, after) else {
            return "a step that cannot be named".into();
        };
        let mut line = self.happens(node, &step.path, step.crash);
        line.push_str(&match node {
            Principal::Replica(replica) => self.what_came_of_it(before, replica, after),
            Principal::Client(client) => self.what_was_accepted(before, client, after),
        });
        line
    }

    /// What happens at a node in words: these deliveries, or a time-out if there are none, and a crash.
    pub fn happens(&self, node: impl Into<Principal>, path: &[MessageId], crash: Option<u8>) -> String {
        let messages: Vec<_> = path.iter().map(|&message| self.tables.message(message).clone()).collect();
        in_words(node, &messages, crash, self.config())
    }

    fn what_was_accepted(&self, before: &State, client: ClientId, after: &State) -> String {
        let of = |state: &State| self.clients(state)[client.0 as usize].accepted.clone();
        let (was, is) = (of(before), of(after));
        is.iter().skip(was.len()).map(|accepted| format!(", accepts {:?}", accepted.result)).collect()
    }

    fn what_came_of_it(&self, before: &State, replica: ReplicaId, after: &State) -> String {
        let mut line = String::new();
        let position = self.correct.iter().position(|&correct| correct == replica).unwrap_or_default();
        let count = |state: &State| {
            let history: &History = self.histories(state)[position];
            [
                ("prepared", history.prepared().len()),
                ("committed", history.committed().len()),
                ("executed", history.executions().count()),
                ("entered a view", history.entries().count()),
                ("fetched the state", history.service_steps().len() - history.executions().count()),
            ]
        };
        for ((what, was), (_, is)) in count(before).into_iter().zip(count(after)) {
            if is > was {
                line.push_str(", ");
                line.push_str(what);
            }
        }
        line
    }
}

/// What happens at a node in words: these deliveries, or a time-out if there are none; and a crash, after how
/// many effects.
pub fn in_words(
    node: impl Into<Principal>,
    messages: &[Message<Symbolic>],
    crash: Option<u8>,
    config: &WorldConfig,
) -> String {
    let names: Vec<String> = messages.iter().map(|message| signed(message, config)).collect();
    let node = node.into();
    let is_client = matches!(node, Principal::Client(_));
    let node = name(node);
    let what = match messages {
        [] if is_client && crash.is_some() => return format!("{node} gives up its call"),
        [] if is_client => format!("{node} calls, or times out"),
        [] if crash == Some(0) => return format!("{node} crashes and restarts"),
        [] => format!("{node} times out"),
        _ => format!("{} -> {node}", names.join(" + ")),
    };
    match crash {
        Some(carried_out) => format!("{what}, crashes after effect {carried_out} and restarts"),
        None => what,
    }
}

/// A message with its signer, and whether that is Byzantine.
fn signed(message: &Message<Symbolic>, config: &WorldConfig) -> String {
    let what = in_short(message, &|digest| format!("{digest:?}"));
    match message.signer() {
        Some(Principal::Replica(r)) if config.byzantine.contains(&r) => {
            format!("r{} (Byzantine): {what}", r.0)
        }
        Some(signer @ Principal::Replica(_)) => format!("{}: {what}", name(signer)),
        _ => what,
    }
}
