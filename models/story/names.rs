//! Digests by letters.

use crate::words::{name, text};
use crate::world::WorldConfig;
use pbft::crypto::Crypto;
use pbft::message::{Batch, Message, Wanted};
use pbft::types::{Digest, Principal, SeqNo};
use std::collections::{BTreeMap, BTreeSet};

/// What digests are called: `A` for a batch of client 0's request, `B` for client 1's, `X1` for batches that
/// no client asked for as they are, `S1` for states, `D1` for anything else, each in the order in which they
/// turn up.
#[derive(Clone, Debug, Default)]
pub struct Names {
    names: BTreeMap<Digest, (String, What)>,
    batches: usize,
    states: usize,
    others: usize,
    /// What is said of states that turn up from now on.
    when: &'static str,
}

#[derive(Clone, Debug)]
enum What {
    Told(String),
    State { n: SeqNo, said_by: BTreeSet<Principal>, when: &'static str },
}

impl Names {
    /// The names of what clients ask for.
    pub fn new(config: &WorldConfig) -> Self {
        let mut names = Names::default();
        let null = ("null".into(), What::Told("the null request".into()));
        names.names.insert(Digest::NULL, null);
        for (request, letter) in config.signed_requests().into_iter().zip('A'..='Z') {
            let (t, client) = (request.content.timestamp.0, request.content.client.0);
            let what = format!("request t{t} of c{client}, {}", text(&request.content.operation));
            let digest = Batch { requests: vec![request] }.digest();
            names.names.insert(digest, (letter.to_string(), What::Told(what)));
        }
        names
    }

    /// States that turn up from now on do so with the rule that an execution lacks.
    pub(super) fn with_the_rule(mut self) -> Self {
        self.when = " with the rule";
        self
    }

    /// Names everything that a message is about, if it has no name yet.
    pub fn learn<C: Crypto>(&mut self, message: &Message<C>) {
        match message {
            Message::PrePrepare(m, batch) => {
                self.add_batch(batch);
                self.add(m.content.digest, "a batch that nobody has");
            }
            Message::Batch(batch) => self.add_batch(batch),
            Message::Prepare(m) => self.add(m.content.digest, "a batch that nobody has"),
            Message::Commit(m) => self.add(m.content.digest, "a batch that nobody has"),
            Message::Checkpoint(m) => self.add_state(m.content.digest, m.content.n, Some(m.signer)),
            Message::Stable(m) => self.add_state(m.digest, m.n, None),
            Message::ViewChange(m) => {
                if let Some(stable) = &m.content.stable {
                    self.add_state(stable.digest, stable.n, None);
                }
                for certificate in &m.content.prepared {
                    self.add(certificate.digest, "a batch that nobody has");
                }
            }
            Message::NewView(m) => {
                for inner in &m.content.view_changes {
                    self.learn::<C>(&Message::ViewChange(inner.clone()));
                }
                for entry in &m.content.pre_prepares {
                    self.add(entry.content.digest, "a batch that nobody has");
                }
            }
            Message::Fetch(m) => match m.content.what {
                Wanted::Block(digest) => self.add(digest, "a block of a state"),
                Wanted::Batch(digest) => self.add(digest, "a batch that nobody has"),
            },
            Message::Block(block) => self.add(C::digest(block), "a block of a state"),
            Message::Request(_) | Message::Reply(_) | Message::Status(_) => {}
        }
    }

    fn add_batch<C: Crypto>(&mut self, batch: &Batch<C>) {
        let digest = batch.digest();
        if self.names.contains_key(&digest) {
            return;
        }
        self.batches += 1;
        let requests = batch.requests.iter().map(|m| {
            format!("{} of c{} t{}", text(&m.content.operation), m.content.client.0, m.content.timestamp.0)
        });
        let what = What::Told(requests.collect::<Vec<_>>().join(" + "));
        self.names.insert(digest, (format!("X{}", self.batches), what));
    }

    fn add_state(&mut self, digest: Digest, n: SeqNo, by: Option<Principal>) {
        let (states, said_by, when) = (&mut self.states, BTreeSet::new(), self.when);
        let (_, what) = self.names.entry(digest).or_insert_with(|| {
            *states += 1;
            (format!("S{states}"), What::State { n, said_by, when })
        });
        if let What::State { said_by, .. } = what {
            said_by.extend(by);
        }
    }

    fn add(&mut self, digest: Digest, what: &str) {
        let others = &mut self.others;
        self.names.entry(digest).or_insert_with(|| {
            *others += 1;
            (format!("D{others}"), What::Told(what.into()))
        });
    }

    /// The name of a digest, or its beginning in hexadecimal.
    pub fn of(&self, digest: Digest) -> String {
        if digest == Digest::NULL {
            return "null".into();
        }
        self.names.get(&digest).map_or_else(|| format!("{digest:?}"), |(name, _)| name.clone())
    }

    /// The text with names in the place of the digests that have one, and nodes as steps name them.
    pub fn in_text(&self, text: &str) -> String {
        let known = self.names.iter().filter(|(digest, _)| **digest != Digest::NULL);
        let text = known
            .fold(text.to_owned(), |text, (digest, (name, _))| text.replace(&format!("{digest:?}"), name));
        shortened(&text)
    }

    /// Every name, with what it stands for.
    pub fn listed(&self) -> Vec<(String, String)> {
        let told = |(letter, what): &(String, What)| {
            let what = match what {
                What::Told(what) => what.clone(),
                What::State { n, said_by, when } if said_by.is_empty() => {
                    format!("a state claimed for n{}{when}", n.0)
                }
                What::State { n, said_by, when } => {
                    let by: Vec<String> = said_by.iter().map(|&node| name(node)).collect();
                    let say = if by.len() == 1 { "says" } else { "say" };
                    format!("a state after n{}, as {} {say}{when}", n.0, by.join(", "))
                }
            };
            (letter.clone(), what)
        };
        let mut all: Vec<_> = self.names.values().filter(|(name, _)| name != "null").map(told).collect();
        all.sort();
        all
    }
}

/// `replica 2` as `r2`, `client 0` as `c0`.
fn shortened(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut rest = text.split(' ').peekable();
    while let Some(word) = rest.next() {
        let letter = match word {
            "replica" | "Replica" => "r",
            "client" | "Client" => "c",
            _ => "",
        };
        match rest.peek().filter(|next| !letter.is_empty() && next.starts_with(|c: char| c.is_ascii_digit()))
        {
            Some(next) => {
                words.push(format!("{letter}{next}"));
                rest.next();
            }
            None => words.push(word.into()),
        }
    }
    words.join(" ")
}
