//! Telling the steps of one execution, one by one.

use super::evidence::Used;
use super::lies::Truth;
use super::{Names, StoryStep, Unheard, fields, in_short, new_views, reasons, state, states, tally, words};
use crate::crypto::Symbolic;
use crate::trace::replay::Taken;
use crate::trace::{Configuration, Executor, Happening};
use pbft::message::Message;
use pbft::replica::Fact;
use pbft::types::{Principal, ReplicaId};
use std::collections::BTreeSet;

/// Tells the steps of one execution.
pub(crate) struct Teller<'a> {
    executor: &'a Executor,
    taken: &'a [Taken],
    names: &'a Names,
    delivered: Vec<(usize, Principal, Message<Symbolic>)>,
}

impl<'a> Teller<'a> {
    pub(crate) fn new(executor: &'a Executor, taken: &'a [Taken], names: &'a Names) -> Self {
        let delivered = taken.iter().filter_map(|taken| {
            let message = taken.step.what.message()?;
            Some((taken.number, taken.step.node, message.clone()))
        });
        Teller { executor, taken, names, delivered: delivered.collect() }
    }

    /// What is known before a step.
    fn truth(&self, at: usize) -> Truth<'_> {
        let Taken { number, step, before, .. } = &self.taken[at];
        let sent = self.executor.sent(before);
        let position = self.executor.nodes().iter().position(|&node| node == step.node).unwrap_or_default();
        let wanted = match step.node {
            Principal::Replica(_) => self.executor.replica(before, position).replica.wanted_blocks(),
            Principal::Client(_) => BTreeSet::new(),
        };
        Truth::new(self.executor.config(), self.names, sent, &self.delivered, (*number, step.node), wanted)
    }

    /// Tells the step at this place.
    pub(crate) fn told(&self, at: usize) -> StoryStep {
        let Taken { number, step, before, came } = &self.taken[at];
        let (executor, names, config) = (self.executor, self.names, self.executor.config());
        let position = executor.nodes().iter().position(|&node| node == step.node).unwrap_or_default();
        let of = |at: &Configuration| fields(&executor.replica(at, position).replica, names);
        let changes = match step.node {
            Principal::Replica(_) => state::changes(&of(before), &of(&came.after)),
            Principal::Client(_) => Vec::new(),
        };
        let sends = told_sends(&came.sent, names);
        let mut told = StoryStep {
            number: *number,
            from: None,
            node: step.node,
            is_delivery: false,
            sent_at: None,
            what: match step.node {
                Principal::Client(_) => executor.told_of_client(before, position, &step.what),
                Principal::Replica(_) if step.what == Happening::Crash => "crashes".into(),
                Principal::Replica(_) => "times out".into(),
            },
            contents: Vec::new(),
            byzantine: None,
            lies: Vec::new(),
            refused: None,
            does: words::does(came, names),
            decided: Vec::new(),
            tallies: tally::tallies(executor, &self.taken[..=at], names),
            unheard: self.unheard(*number, &came.sent),
            sends,
            changes,
            views: (0..config.correct().len()).map(|place| executor.view(&came.after, place)).collect(),
            violated: None,
            safely: None,
        };
        if let Some((place, believed)) = self.believed(at, position) {
            told.does.insert(place + 1, believed);
        }
        if let Some(undone) = &came.undone {
            told.does.push(words::crash(undone, names));
        }
        let arrives = step.what.message();
        let new_views = arrives.into_iter().filter(|_| came.rejection.is_none()).chain(&came.sent);
        told.decided = new_views
            .filter_map(|message| match message {
                Message::NewView(m) => Some(new_views::decided(&m.content, &config.rules, names)),
                _ => None,
            })
            .flatten()
            .collect();
        let Some(message) = arrives else { return told };
        let truth = self.truth(at);
        told.is_delivery = true;
        told.from = message.signer();
        told.what = in_short(message, names);
        told.contents = truth.unfolded(message);
        if truth.was_sent(message) {
            told.sent_at = Some(self.sent_at(message, at));
        } else {
            told.lies = truth.lies(message);
            told.byzantine = Some(self.whose(message, &told.lies));
            told.from = told.from.or_else(|| config.byzantine.first().copied().map(Principal::Replica));
        }
        told.refused = came.rejection.map(|reason| {
            let replica = match step.node {
                Principal::Replica(_) => Some(&executor.replica(before, position).replica),
                Principal::Client(_) => None,
            };
            let (window, interval) = (config.parameters().window, config.parameters().checkpoint_interval);
            let cluster = config.cluster;
            let receiver = reasons::Receiver { node: step.node, replica, cluster, window, interval };
            reasons::refusal(reason, message, &receiver, &truth, names)
        });
        told
    }

    /// The step at which a correct node has sent it, or 0.
    fn sent_at(&self, message: &Message<Symbolic>, at: usize) -> usize {
        let mut earlier = self.taken[..at].iter();
        earlier.find(|taken| taken.came.sent.contains(message)).map_or(0, |taken| taken.number)
    }

    /// Who has made a message that no correct node has sent, and whether it lies.
    fn whose(&self, message: &Message<Symbolic>, lies: &[String]) -> String {
        let config = self.executor.config();
        let byzantine: Vec<String> = config.byzantine.iter().map(|r| format!("r{}", r.0)).collect();
        let who = match message.signer() {
            Some(Principal::Replica(replica)) if config.byzantine.contains(&replica) => "Byzantine".into(),
            Some(Principal::Replica(replica)) if !config.cluster.contains(replica) => "an outsider".into(),
            // Changed on its way, or made up in somebody's name.
            _ if byzantine.is_empty() => "the network".into(),
            _ => format!("made by {}, Byzantine", byzantine.join(" or ")),
        };
        match lies.first() {
            Some(lie) => format!("{who}: {lie}"),
            None => format!("{who}, but says what a correct replica could say"),
        }
    }

    /// What a state is that was taken over for another one, and the place of the fact among those of the
    /// step.
    fn believed(&self, at: usize, position: usize) -> Option<(usize, String)> {
        let came = &self.taken[at].came;
        let (place, number, digest) = came.facts.iter().enumerate().find_map(|(place, fact)| match fact {
            Fact::StateTransferred { n, digest } => Some((place, *n, *digest)),
            _ => None,
        })?;
        let replica = &self.executor.replica(&came.after, position).replica;
        let held = replica.snapshots().find(|snapshot| snapshot.n == number).map(states::held)?;
        let (said, is) = (self.names.of(digest), self.names.of(held));
        let told = || format!("holds {is} for {said}: {}", self.names.contents(held));
        (held != digest).then(|| (place, told()))
    }

    /// What of this no correct node receives.
    fn unheard(&self, number: usize, sent: &[Message<Symbolic>]) -> Vec<Unheard> {
        let lost: Vec<&Message<Symbolic>> = sent
            .iter()
            .filter(|message| {
                !matches!(message, Message::Block(_))
                    && !self.delivered.iter().any(|(.., delivered)| delivered == *message)
            })
            .collect();
        let used = if lost.is_empty() { Vec::new() } else { self.used() };
        let by = |message: &Message<Symbolic>| {
            let mut later = used.iter().filter(|(step, ..)| *step > number);
            later.find(|(.., used)| used.is(message)).map(|(step, by, _)| (*by, *step))
        };
        lost.into_iter()
            .map(|message| Unheard { what: in_short(message, self.names), used: by(message) })
            .collect()
    }

    /// What Byzantine replicas show to have received: the step, who, and what.
    fn used(&self) -> Vec<(usize, ReplicaId, Used)> {
        let byzantine = &self.executor.config().byzantine;
        let mut all = Vec::new();
        for (at, taken) in self.taken.iter().enumerate() {
            let Some(message) = taken.step.what.message() else { continue };
            let signer = match message.signer() {
                Some(Principal::Replica(replica)) => Some(replica),
                _ => byzantine.first().copied(),
            };
            let Some(by) = signer.filter(|signer| byzantine.contains(signer)) else { continue };
            if matches!(message, Message::ViewChange(_) | Message::NewView(_) | Message::Stable(_)) {
                let used = self.truth(at).used(message);
                all.extend(used.into_iter().map(|used| (taken.number, by, used)));
            }
        }
        all
    }
}

/// What is sent; blocks of state, which can be many, are not told one by one.
fn told_sends(sent: &[Message<Symbolic>], names: &Names) -> Vec<String> {
    let told = sent.iter().filter(|message| !matches!(message, Message::Block(_)));
    told.map(|message| in_short(message, names)).collect()
}
