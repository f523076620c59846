//! Digests by letters.

use super::states;
use crate::words::{name, text};
use crate::world::{Modelled, WorldConfig};
use pbft::crypto::Crypto;
use pbft::message::{Batch, Message, Wanted};
use pbft::replica::Replica;
use pbft::types::{Digest, Principal, SeqNo};
use std::collections::{BTreeMap, BTreeSet};

/// What digests are called: `A` for a batch of client 0's request, `B` for client 1's, `X1` for batches that
/// no client asked for as they are, `S0` for the initial state, `S1` for other states, `D1` for anything
/// else, each in the order in which they turn up. One name stands for one digest, whatever claims it is in.
#[derive(Clone, Debug, Default)]
pub struct Names {
    names: BTreeMap<Digest, (String, What)>,
    /// What is in the states that some correct replica has had.
    contents: BTreeMap<Digest, String>,
    batches: usize,
    states: usize,
    others: usize,
    /// What is said of states that turn up from now on.
    when: &'static str,
}

#[derive(Clone, Debug)]
enum What {
    Told(String),
    /// A state, and for which numbers it is claimed, by whom.
    State {
        claims: BTreeMap<SeqNo, BTreeSet<Principal>>,
        when: &'static str,
    },
}

impl Names {
    /// The names of what clients ask for.
    pub fn new(config: &WorldConfig) -> Self {
        let mut names = Names::default();
        let null = ("null".into(), What::Told("the null request".into()));
        names.names.insert(Digest::NULL, null);
        let ordered = config.all_signed().into_iter().filter(|request| !request.content.read_only);
        for (request, letter) in ordered.zip('A'..='Z') {
            let (t, client) = (request.content.timestamp.0, request.content.client.0);
            let what = format!("request t{t} of c{client}, {}", text(&request.content.operation));
            let digest = Batch { requests: vec![request] }.digest();
            names.names.insert(digest, (letter.to_string(), What::Told(what)));
        }
        names
    }

    /// States that turn up from now on do so with the rule that an execution lacks.
    pub(super) fn with_the_rule(mut self) -> Self {
        self.when = ", with the rule";
        self
    }

    /// Forgets who has claimed which state: what could be said is not what was said.
    pub(crate) fn without_claims(mut self) -> Self {
        for (_, what) in self.names.values_mut() {
            if let What::State { claims, .. } = what {
                claims.clear();
            }
        }
        self
    }

    /// Takes down what is in the states that a replica has.
    pub(super) fn learn_states(&mut self, replica: &Replica<Modelled>, config: &WorldConfig) {
        for snapshot in replica.snapshots() {
            let digest = states::held(snapshot);
            if self.contents.contains_key(&digest) {
                continue;
            }
            self.contents.insert(digest, states::contents(snapshot, &config.rules, config.requests));
            if snapshot.n == SeqNo(0) {
                let initial = What::State { claims: BTreeMap::new(), when: "" };
                self.names.entry(digest).or_insert_with(|| ("S0".into(), initial));
            }
        }
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
                for inner in m.content.view_changes.iter() {
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
        let (states, claims, when) = (&mut self.states, BTreeMap::new(), self.when);
        let (_, what) = self.names.entry(digest).or_insert_with(|| {
            *states += 1;
            (format!("S{states}"), What::State { claims, when })
        });
        if let What::State { claims, .. } = what {
            claims.entry(n).or_default().extend(by);
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

    /// What is in the state with this digest, or in the block.
    pub(super) fn contents(&self, digest: Digest) -> String {
        match (self.contents.get(&digest), self.names.get(&digest)) {
            (Some(contents), _) => contents.clone(),
            (None, Some((_, What::Told(what)))) => what.clone(),
            (None, _) => "a state that no correct replica has".into(),
        }
    }

    /// Every name, with what it stands for.
    pub fn listed(&self) -> Vec<(String, String)> {
        let told = |(&digest, (letter, what)): (&Digest, &(String, What))| {
            let what = match what {
                What::Told(what) => what.clone(),
                What::State { claims, when } => {
                    let contents = self.contents(digest);
                    let initial = (letter == "S0").then(|| "the initial state".to_string());
                    let claims = claims.iter().map(|(n, by)| claimed(*n, by));
                    let claims: Vec<String> = initial.into_iter().chain(claims).collect();
                    match claims.is_empty() {
                        true => contents,
                        false => format!("{contents} ({}{when})", claims.join("; ")),
                    }
                }
            };
            (letter.clone(), what)
        };
        let mut all: Vec<_> = self.names.iter().filter(|(_, (name, _))| name != "null").map(told).collect();
        all.sort();
        all
    }
}

/// `after n1, say r1, r2`.
fn claimed(n: SeqNo, by: &BTreeSet<Principal>) -> String {
    let by: Vec<String> = by.iter().map(|&node| name(node)).collect();
    match &by[..] {
        [] => format!("claimed for n{}", n.0),
        [one] => format!("after n{}, says {one}", n.0),
        _ => format!("after n{}, say {}", n.0, by.join(", ")),
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
