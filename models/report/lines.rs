//! What replicas have done and sent as text that does not depend on how this program represents it:
//! `docs/SECOND_OPINION.md` defines the format, and `second_opinion/pbft.py`, which shares no code with this,
//! writes it too.

use crate::crypto::Symbolic;
use crate::world::{ClientHistory, WorldConfig};
use pbft::message::{Batch, Message, NewView, ViewChange};
use pbft::types::{Bytes, Digest, SeqNo, View};
use pbft_properties::{Execution, History, ServiceStep, Slots, ViewStep};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What the digests of a world name, in words.
pub(crate) struct Names {
    batches: BTreeMap<Digest, String>,
    states: BTreeMap<Digest, String>,
}

impl Names {
    /// The batches of a world, and the states that these histories know by having executed what leads there.
    pub(crate) fn new<'a>(config: &WorldConfig, histories: impl Iterator<Item = &'a History>) -> Self {
        let requests = config.signed_requests();
        let mut batches = BTreeMap::from([(Digest::NULL, "null".to_string())]);
        let mut longest = vec![(Batch::<Symbolic>::default(), Vec::<String>::new())];
        for _ in 0..config.max_batch {
            let mut longer = Vec::new();
            for (batch, names) in &longest {
                for request in &requests {
                    let requests = batch.requests.iter().chain([request]).cloned().collect();
                    let name = format!("c{}", request.content.client.0);
                    longer.push((Batch { requests }, [&names[..], &[name]].concat()));
                }
            }
            batches.extend(longer.iter().map(|(batch, names)| (batch.digest(), names.join("+"))));
            longest = longer;
        }
        let mut names = Names { batches, states: BTreeMap::new() };
        let histories: BTreeSet<&History> = histories.collect();
        // What was fetched is named by those who executed it.
        while histories.iter().filter(|history| names.learn(history)).count() > 0 {}
        names
    }

    /// Names the states of which this history has taken a checkpoint; whether any of them had no name.
    fn learn(&mut self, history: &History) -> bool {
        let before = self.states.len();
        let mut ran: Option<Vec<String>> = Some(Vec::new());
        for step in history.service_steps() {
            let n = match step {
                ServiceStep::Executed(execution) => {
                    let more = execution.requests.iter().map(|request| format!("c{}", request.client.0));
                    ran = ran.map(|ran| ran.into_iter().chain(more).collect());
                    execution.n
                }
                ServiceStep::Transferred { n, digest } => {
                    let known = self.states.get(digest);
                    ran = known.map(|name| listed(name));
                    *n
                }
            };
            if let Some(ran) = &ran {
                let name = format!("<{}>", ran.join(","));
                for &digest in history.checkpoints().get(&n).into_iter().flatten() {
                    self.name_state(digest, &name);
                }
            }
        }
        self.states.len() > before
    }

    /// Two states never have one name.
    fn name_state(&mut self, digest: Digest, name: &str) {
        if self.states.contains_key(&digest) {
            return;
        }
        let taken = self.states.values().any(|known| known == name);
        let name = if taken { format!("{name}#{}", hex(digest)) } else { name.to_string() };
        self.states.insert(digest, name);
    }

    fn batch(&self, digest: Digest) -> String {
        self.batches.get(&digest).cloned().unwrap_or_else(|| format!("#{}", hex(digest)))
    }

    fn state(&self, digest: Digest) -> String {
        self.states.get(&digest).cloned().unwrap_or_else(|| format!("#{}", hex(digest)))
    }

    /// What a replica has done: its items, separated by spaces.
    pub(crate) fn history(&self, history: &History) -> String {
        let mut items = Vec::new();
        self.slots("pre-prepared", history.pre_prepared(), &mut items);
        self.slots("prepared", history.prepared(), &mut items);
        self.slots("committed", history.committed(), &mut items);
        items.extend(history.service_steps().iter().map(|step| match step {
            ServiceStep::Executed(execution) => self.execution(execution),
            ServiceStep::Transferred { n, digest } => format!("transferred:{}={}", n.0, self.state(*digest)),
        }));
        items.extend(history.view_steps().iter().map(|step| match step {
            ViewStep::Left { view, to } => format!("left:{}>{}", view.0, to.0),
            ViewStep::Entered(entry) => {
                let carried = entry.carried.iter().map(|(&n, &digest)| (n, digest));
                format!("entered:{}/h={}({})", entry.view.0, entry.h.0, self.assigned(carried))
            }
            ViewStep::HeldTo(view) => format!("held-to:{}", view.0),
        }));
        for (n, digests) in history.checkpoints() {
            items.extend(digests.iter().map(|&digest| format!("checkpoint:{}={}", n.0, self.state(digest))));
        }
        let stable = history.stable().iter();
        items.extend(stable.map(|(n, digest)| format!("stable:{}={}", n.0, self.state(*digest))));
        let stale = history.stale_vote().into_iter();
        items.extend(stale.map(|vote| format!("stale:{}.{}/h={}", vote.view.0, vote.n.0, vote.h.0)));
        items.join(" ")
    }

    fn slots(&self, what: &str, slots: &Slots, items: &mut Vec<String>) {
        for (&(view, n), digests) in slots {
            let mut all: Vec<_> = digests.iter().map(|&digest| self.batch(digest)).collect();
            all.sort();
            items.extend(all.iter().map(|name| format!("{what}:{}.{}={name}", view.0, n.0)));
        }
    }

    fn execution(&self, execution: &Execution) -> String {
        let runs = execution.requests.iter().map(|request| {
            format!("c{}@{}->{}", request.client.0, request.timestamp.0, in_ascii(&request.result))
        });
        let runs = runs.collect::<Vec<_>>().join(",");
        format!("executed:{}={}({runs})", execution.n.0, self.batch(execution.digest))
    }

    fn assigned(&self, entries: impl Iterator<Item = (SeqNo, Digest)>) -> String {
        let entry = |(n, digest): (SeqNo, Digest)| format!("{}={}", n.0, self.batch(digest));
        entries.map(entry).collect::<Vec<_>>().join(",")
    }

    /// A message of a correct replica; none for what only follows from others: blocks of a state.
    pub(crate) fn message(&self, message: &Message<Symbolic>) -> Option<String> {
        let slot =
            |view: View, n: SeqNo, digest: Digest| format!("{}.{}={}", view.0, n.0, self.batch(digest));
        let says = match message {
            Message::PrePrepare(m, _) => slot(m.content.view, m.content.n, m.content.digest),
            Message::Prepare(m) => slot(m.content.view, m.content.n, m.content.digest),
            Message::Commit(m) => slot(m.content.view, m.content.n, m.content.digest),
            Message::Checkpoint(m) => format!("{}={}", m.content.n.0, self.state(m.content.digest)),
            Message::ViewChange(m) => {
                format!("{};{}", m.content.view.0, self.view_change(&m.content))
            }
            Message::NewView(m) => self.new_view(&m.content),
            Message::Block(_) => return None,
            _ => format!("{message:?}"),
        };
        Some(format!("{}({says})", message.name()))
    }

    fn view_change(&self, m: &ViewChange<Symbolic>) -> String {
        let mut text = format!("h={}", m.n.0);
        text.extend(m.stable.iter().map(|stable| self.state(stable.digest)));
        let certificates =
            m.prepared.iter().map(|c| format!("{}.{}={}", c.view.0, c.n.0, self.batch(c.digest)));
        let _ = write!(text, ";{}", certificates.collect::<Vec<_>>().join(","));
        text
    }

    fn new_view(&self, m: &NewView<Symbolic>) -> String {
        let senders: BTreeMap<_, _> =
            m.view_changes.iter().map(|m| (m.content.replica, self.view_change(&m.content))).collect();
        let inside: Vec<_> = senders.iter().map(|(sender, text)| format!("r{}[{text}]", sender.0)).collect();
        let o = self.assigned(m.pre_prepares.iter().map(|entry| (entry.content.n, entry.content.digest)));
        format!("{};{};{o}", m.view.0, inside.join(","))
    }
}

/// What a client that is part of the world has done.
pub(crate) fn client_history(history: &ClientHistory) -> String {
    let accepted = history.accepted.iter().map(|accepted| {
        let read = if accepted.read_only { "read" } else { "accepted" };
        format!("{read}:@{}->{}", accepted.timestamp.0, in_ascii(&accepted.result))
    });
    let retransmitted = history.retransmitted.then(|| "retransmitted".to_string());
    accepted.chain(retransmitted).collect::<Vec<_>>().join(" ")
}

/// A line of parts, each the name of a replica or client and what is said of it.
pub(crate) fn line(parts: impl Iterator<Item = (String, String)>) -> String {
    let part = |(name, text): (String, String)| format!("{name} {text}").trim_end().to_string();
    parts.map(part).collect::<Vec<_>>().join(" | ")
}

/// The members of a state's name.
fn listed(name: &str) -> Vec<String> {
    let inside = name.trim_start_matches('<').trim_end_matches('>');
    inside.split(',').filter(|member| !member.is_empty()).map(str::to_string).collect()
}

fn in_ascii(bytes: &Bytes) -> String {
    let bytes: &[u8] = bytes.borrow();
    bytes.escape_ascii().to_string()
}

fn hex(digest: Digest) -> String {
    digest.0.iter().map(|byte| format!("{byte:02x}")).collect()
}
