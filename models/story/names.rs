//! Digests by letters.

use crate::crypto::Symbolic;
use crate::world::WorldConfig;
use pbft::message::{Batch, Message};
use pbft::types::Digest;
use std::collections::BTreeMap;

/// What digests are called: `A` for a batch of client 0's request, `B` for client 1's, `X1` for batches that no client
/// asked for as they are, `S1` for states, each in the order in which they turn up.
#[derive(Clone, Debug, Default)]
pub struct Names {
    names: BTreeMap<Digest, (String, String)>,
    batches: usize,
    states: usize,
}

impl Names {
    /// The names of what clients ask for.
    pub fn new(config: &WorldConfig) -> Self {
        let mut names = Names::default();
        names.names.insert(Digest::NULL, ("null".into(), "the null request".into()));
        for (request, letter) in config.signed_requests().into_iter().zip('A'..='Z') {
            let what = format!("{} of c{}", text(&request.content.operation), request.content.client.0);
            let digest = Batch { requests: vec![request] }.digest();
            names.names.insert(digest, (letter.to_string(), what));
        }
        names
    }

    /// Names what a message is about, if it has no name yet.
    pub fn learn(&mut self, message: &Message<Symbolic>) {
        match message {
            Message::PrePrepare(m, batch) => {
                self.add_batch(batch.digest(), batch);
                self.add_batch(m.content.digest, batch);
            }
            Message::Batch(batch) => self.add_batch(batch.digest(), batch),
            Message::Checkpoint(m) => self.add_state(m.content.digest, m.content.n.0),
            Message::Stable(m) => self.add_state(m.digest, m.n.0),
            _ => {}
        }
    }

    fn add_batch(&mut self, digest: Digest, batch: &Batch<Symbolic>) {
        if self.names.contains_key(&digest) {
            return;
        }
        self.batches += 1;
        let requests = batch.requests.iter().map(|m| {
            format!("{} of c{} t{}", text(&m.content.operation), m.content.client.0, m.content.timestamp.0)
        });
        let what = match digest == batch.digest() {
            true => requests.collect::<Vec<_>>().join(" + "),
            false => "a digest that names nothing anybody has".into(),
        };
        self.names.insert(digest, (format!("X{}", self.batches), what));
    }

    fn add_state(&mut self, digest: Digest, n: u64) {
        if self.names.contains_key(&digest) {
            return;
        }
        self.states += 1;
        let what = format!("a state claimed for n = {n}, {digest:?}");
        self.names.insert(digest, (format!("S{}", self.states), what));
    }

    /// The name of a digest, or its beginning in hexadecimal.
    pub fn of(&self, digest: Digest) -> String {
        self.names.get(&digest).map_or_else(|| format!("{digest:?}"), |(name, _)| name.clone())
    }

    /// The text with names in the place of the digests that have one.
    pub fn in_text(&self, text: &str) -> String {
        let known = self.names.iter().filter(|(digest, _)| **digest != Digest::NULL);
        known.fold(text.to_owned(), |text, (digest, (name, _))| text.replace(&format!("{digest:?}"), name))
    }

    /// Every name with what it stands for.
    pub fn listed(&self) -> Vec<(String, String)> {
        let mut all: Vec<_> = self.names.values().filter(|(name, _)| name != "null").cloned().collect();
        all.sort();
        all
    }
}

/// The words that operations and results of worlds are.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
