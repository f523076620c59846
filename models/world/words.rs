//! Steps in words, for traces.

use super::config::WorldConfig;
use super::explored::{State, World};
use super::tables::MessageId;
use crate::crypto::Symbolic;
use pbft::message::{Message, Reply};
use pbft::types::{ClientId, Principal, ReplicaId};
use pbft_properties::History;

impl World {
    /// The step from one state to the next in words: what happens, and what the receiver does.
    pub fn describe(&mut self, before: &State, after: &State) -> String {
        let Some((node, step)) = self.step_between(before, after) else {
            return "a step that cannot be named".into();
        };
        let mut line = self.happens(node, &step.path);
        line.push_str(&match node {
            Principal::Replica(replica) => self.what_came_of_it(before, replica, after),
            Principal::Client(client) => self.what_was_accepted(before, client, after),
        });
        line
    }

    /// What happens at a node in words: these deliveries, or a time-out if there are none.
    pub fn happens(&self, node: impl Into<Principal>, path: &[MessageId]) -> String {
        let messages: Vec<_> = path.iter().map(|&message| self.tables.message(message).clone()).collect();
        in_words(node, &messages, self.config())
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

/// What happens at a node in words: these deliveries, or a time-out if there are none.
pub fn in_words(node: impl Into<Principal>, messages: &[Message<Symbolic>], config: &WorldConfig) -> String {
    let names: Vec<String> = messages.iter().map(|message| in_short(message, config)).collect();
    let node = match node.into() {
        Principal::Replica(replica) => format!("r{}", replica.0),
        Principal::Client(client) => format!("c{}", client.0),
    };
    match messages {
        [] => format!("{node} times out"),
        _ => format!("{} -> {node}", names.join(" + ")),
    }
}

/// A message as a trace names it.
fn in_short(message: &Message<Symbolic>, config: &WorldConfig) -> String {
    let vote = |view: pbft::types::View, n: pbft::types::SeqNo, digest: pbft::types::Digest| {
        format!(" v{} n{} {digest:?}", view.0, n.0)
    };
    let (slot, signer) = match message {
        Message::PrePrepare(m, _) => (vote(m.content.view, m.content.n, m.content.digest), Some(m.signer)),
        Message::Prepare(m) => (vote(m.content.view, m.content.n, m.content.digest), Some(m.signer)),
        Message::Commit(m) => (vote(m.content.view, m.content.n, m.content.digest), Some(m.signer)),
        Message::Checkpoint(m) => (format!(" n{} {:?}", m.content.n.0, m.content.digest), Some(m.signer)),
        Message::Stable(m) => (format!(" n{} {:?}", m.n.0, m.digest), None),
        Message::ViewChange(m) => {
            let p = m.content.prepared.iter().map(|c| format!("v{} n{} {:?}", c.view.0, c.n.0, c.digest));
            let p = p.collect::<Vec<_>>().join(", ");
            (format!(" v{} h{} P={{{p}}}", m.content.view.0, m.content.n.0), Some(m.signer))
        }
        Message::NewView(m) => {
            let o =
                m.content.pre_prepares.iter().map(|e| format!("n{} {:?}", e.content.n.0, e.content.digest));
            let o = o.collect::<Vec<_>>().join(", ");
            (format!(" v{} O={{{o}}}", m.content.view.0), Some(m.signer))
        }
        Message::Request(m) => (format!(" c{} t{}", m.content.client.0, m.content.timestamp.0), None),
        Message::Reply(m) => {
            let Reply { view, timestamp, client, result, .. } = &m.content;
            (format!(" v{} c{} t{} {result:?}", view.0, client.0, timestamp.0), Some(m.signer))
        }
        _ => (String::new(), None),
    };
    let who = match signer {
        Some(Principal::Replica(r)) if config.byzantine.contains(&r) => format!("r{} (Byzantine): ", r.0),
        Some(Principal::Replica(r)) => format!("r{}: ", r.0),
        _ => String::new(),
    };
    format!("{who}{}{slot}", message.name())
}
