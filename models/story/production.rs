//! What replicas in production have done, out of their journals, as one story.
//!
//! A journal has no clock. The journals of a cluster are merged so that what arrives has been sent before:
//! any such order is one in which it may have happened, and this one goes round the replicas. What a replica
//! without a journal sent is known from those to whom it came; whether it says different things to different
//! replicas shows there.

use super::lies::listed;
use super::reasons::{Receiver, of_state, plain};
use super::tally::{Tally, Vote};
use super::words::in_words;
use super::{Names, Story, StoryStep, name};
use crate::words::{in_short, text};
use crate::world::WorldConfig;
use pbft::crypto::Crypto;
use pbft::message::Message;
use pbft::replica::{Bundle, Effects, Event, Expired, Fact, Replica, Setup};
use pbft::rules::{Pbft, Rules};
use pbft::types::{Cluster, Digest, Principal, ReplicaId, SeqNo, View};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

/// A step of one replica, as its journal has it.
struct Recorded<B: Bundle> {
    what: What<B>,
    /// Why it was dropped, if it was.
    refused: Option<String>,
    facts: Vec<Fact>,
    sent: Vec<Message<B::Crypto>>,
    view: (View, Option<View>),
}

enum What<B: Bundle> {
    Started(u64),
    TimeOut(Expired),
    Deliver(Message<B::Crypto>),
}

/// Takes down what the replays of journals show.
pub struct Recorder<B: Bundle> {
    cluster: Cluster,
    replicas: BTreeMap<ReplicaId, VecDeque<Recorded<B>>>,
    /// What is being stepped: the message, or the timer, and why it would be refused.
    current: Option<Recorded<B>>,
}

/// What to tell of it.
#[derive(Clone, Debug)]
pub struct Range {
    /// Sequence numbers; view changes are told whatever they are about.
    pub numbers: RangeInclusive<u64>,
    /// The most steps.
    pub steps: usize,
}

impl<B: Bundle> Recorder<B> {
    /// Nothing taken down yet.
    pub fn new(cluster: Cluster) -> Self {
        Recorder { cluster, replicas: BTreeMap::new(), current: None }
    }

    /// A life of a replica begins, the first being 1.
    pub fn started(&mut self, replica: ReplicaId, life: u64, now: &Replica<B>) {
        let view = (now.view(), now.leaving());
        let started =
            Recorded { what: What::Started(life), refused: None, facts: Vec::new(), sent: Vec::new(), view };
        self.replicas.entry(replica).or_default().push_back(started);
    }

    /// A replica is about to take a step.
    pub fn event(&mut self, now: &Replica<B>, event: &Event<B::Crypto>) {
        let what = match event {
            Event::Timeout(timer) => What::TimeOut(*timer),
            Event::Message(message) => What::Deliver(Message::clone(message)),
        };
        let view = (now.view(), now.leaving());
        self.current = Some(Recorded { what, refused: None, facts: Vec::new(), sent: Vec::new(), view });
    }

    /// What came of it.
    pub fn effects(&mut self, setup: &Setup<B>, now: &Replica<B>, effects: &Effects<B::Crypto>) {
        let replica = setup.id;
        let Some(mut step) = self.current.take() else { return };
        if let (What::Deliver(message), Some(reason)) = (&step.what, effects.rejection()) {
            let (window, interval) = (setup.parameters.window, setup.parameters.checkpoint_interval);
            let (node, replica) = (replica.into(), Some(now));
            let at = Receiver { node, replica, cluster: self.cluster, window, interval };
            let why = of_state(reason, message, &at, &Names::default());
            step.refused = Some(why.unwrap_or_else(|| plain(reason)));
        }
        step.facts = effects.facts().cloned().collect();
        step.sent = effects.sends().map(|(_, message)| message.clone()).collect();
        step.view = (now.view(), now.leaving());
        self.replicas.entry(replica).or_default().push_back(step);
    }

    /// The story of everything within a range, and how many steps lie within it but beyond the most that are
    /// told.
    pub fn story(self, range: &Range) -> (Story, usize) {
        let cluster = self.cluster;
        let known: BTreeSet<ReplicaId> = self.replicas.keys().copied().collect();
        let merged = merged(self.replicas);
        let mut teller = Teller {
            cluster,
            correct: known.iter().copied().collect(),
            names: Names::default(),
            said: said(&merged),
            votes: BTreeMap::new(),
            views: BTreeMap::new(),
        };
        for (_, step, _) in &merged {
            if let What::Deliver(message) = &step.what {
                teller.names.learn(message);
            }
            step.sent.iter().for_each(|message| teller.names.learn(message));
        }
        let mut steps = Vec::new();
        let (mut beyond, mut highest) = (0, View(0));
        for (at, (replica, step, sent_at)) in merged.iter().enumerate() {
            highest = highest.max(step.view.0);
            let told = teller.told(at, *replica, step, *sent_at);
            if !is_of_interest(step, range) {
                continue;
            }
            match steps.len() < range.steps {
                true => steps.push(told),
                false => beyond += 1,
            }
        }
        renumber(&mut steps);
        let config = WorldConfig {
            byzantine: cluster.replicas().filter(|replica| !known.contains(replica)).collect(),
            max_view: highest,
            ..WorldConfig::new(cluster, 0)
        };
        let nodes = cluster.replicas().map(Principal::Replica).collect();
        let story = Story {
            config,
            nodes,
            names: teller.names,
            steps,
            violation: None,
            meeting: None,
            then: None,
            ending: None,
            mark: "no journal",
        };
        (story, beyond)
    }
}

/// A kind of message, who signed it, and what view and number it is about.
type About = (&'static str, Principal, View, SeqNo);

/// What somebody has said of something, and to whom.
type Said = BTreeMap<About, BTreeSet<(Digest, Principal)>>;

fn about<C: Crypto>(message: &Message<C>) -> Option<(About, Digest)> {
    let (view, n, digest) = message.slot()?;
    Some(((message.name(), message.signer()?, view, n), digest))
}

fn said<B: Bundle>(merged: &[(ReplicaId, Recorded<B>, Option<usize>)]) -> Said {
    let mut said = Said::new();
    for (replica, step, _) in merged {
        if let What::Deliver(message) = &step.what
            && let Some((about, digest)) = about(message)
        {
            said.entry(about).or_default().insert((digest, (*replica).into()));
        }
    }
    said
}

/// All steps in an order in which what arrives was sent before, each with the place where it was sent.
fn merged<B: Bundle>(
    mut replicas: BTreeMap<ReplicaId, VecDeque<Recorded<B>>>,
) -> Vec<(ReplicaId, Recorded<B>, Option<usize>)> {
    let known: BTreeSet<Principal> = replicas.keys().map(|&replica| replica.into()).collect();
    let mut sent: BTreeMap<Message<B::Crypto>, usize> = BTreeMap::new();
    let mut merged = Vec::new();
    loop {
        let mut moved = false;
        let ids: Vec<ReplicaId> = replicas.keys().copied().collect();
        for id in &ids {
            let waits = replicas[id].front().is_some_and(|step| match &step.what {
                What::Deliver(message) => {
                    message.signer().is_some_and(|signer| known.contains(&signer))
                        && !sent.contains_key(message)
                }
                _ => false,
            });
            if !waits {
                moved |= take(&mut replicas, *id, &mut sent, &mut merged);
            }
        }
        if moved {
            continue;
        }
        // What nobody is known to have sent, as by a life that was killed before it was written down.
        let Some(id) = ids.into_iter().find(|id| !replicas[id].is_empty()) else { return merged };
        take(&mut replicas, id, &mut sent, &mut merged);
    }
}

fn take<B: Bundle>(
    replicas: &mut BTreeMap<ReplicaId, VecDeque<Recorded<B>>>,
    id: ReplicaId,
    sent: &mut BTreeMap<Message<B::Crypto>, usize>,
    merged: &mut Vec<(ReplicaId, Recorded<B>, Option<usize>)>,
) -> bool {
    let Some(step) = replicas.get_mut(&id).and_then(VecDeque::pop_front) else { return false };
    let sent_at = match &step.what {
        What::Deliver(message) => sent.get(message).copied(),
        _ => None,
    };
    for message in &step.sent {
        sent.entry(message.clone()).or_insert(merged.len() + 1);
    }
    merged.push((id, step, sent_at));
    true
}

/// Whether a step is worth telling: something comes of it, or it is refused, and it is about these numbers or
/// about views.
fn is_of_interest<B: Bundle>(step: &Recorded<B>, range: &Range) -> bool {
    let within = |n: SeqNo| range.numbers.contains(&n.0);
    let fact = |fact: &Fact| match fact {
        Fact::PrePrepared { n, .. }
        | Fact::Prepared { n, .. }
        | Fact::Committed { n, .. }
        | Fact::Executed { n, .. }
        | Fact::CheckpointTaken { n, .. }
        | Fact::CheckpointStable { n, .. }
        | Fact::StateTransferred { n, .. } => within(*n),
        Fact::ViewLeft { .. } | Fact::ViewEntered { .. } => true,
    };
    if step.facts.iter().any(fact) {
        return true;
    }
    match &step.what {
        What::Started(_) => true,
        What::TimeOut(timer) => *timer == Expired::Progress,
        What::Deliver(message) => match message {
            Message::PrePrepare(..) | Message::Prepare(_) | Message::Commit(_) => {
                message.slot().is_some_and(|(_, n, _)| within(n))
            }
            Message::Checkpoint(m) => within(m.content.n),
            Message::ViewChange(_) | Message::NewView(_) => true,
            _ => false,
        },
    }
}

/// Numbers the steps that are told, and what refers to them.
fn renumber(steps: &mut [StoryStep]) {
    let numbers: BTreeMap<usize, usize> =
        steps.iter().enumerate().map(|(index, step)| (step.number, index + 1)).collect();
    for step in steps {
        step.number = numbers[&step.number];
        step.sent_at = step.sent_at.map(|at| numbers.get(&at).copied().unwrap_or(0));
        for vote in step.tallies.iter_mut().flat_map(|tally| &mut tally.votes) {
            vote.step = vote.step.and_then(|at| numbers.get(&at).copied());
        }
    }
}

/// What has been voted at a node, by kind, view and number: who, for what, and at which step.
type Votes = BTreeMap<(ReplicaId, &'static str, View, SeqNo), Vec<(ReplicaId, Digest, Option<usize>)>>;

struct Teller {
    cluster: Cluster,
    correct: Vec<ReplicaId>,
    names: Names,
    said: Said,
    votes: Votes,
    views: BTreeMap<ReplicaId, (View, Option<View>)>,
}

impl Teller {
    fn told<B: Bundle>(
        &mut self,
        at: usize,
        replica: ReplicaId,
        step: &Recorded<B>,
        sent_at: Option<usize>,
    ) -> StoryStep {
        self.views.insert(replica, step.view);
        self.note_own(replica, &step.sent);
        let short = |message: &Message<B::Crypto>| in_short(message, &|digest| self.names.of(digest));
        let mut told = StoryStep {
            number: at + 1,
            from: None,
            node: replica.into(),
            is_delivery: false,
            sent_at,
            what: match &step.what {
                What::Started(life) => format!("starts (life {life})"),
                What::TimeOut(Expired::Status) => "sends its status".into(),
                What::TimeOut(_) => "times out".into(),
                What::Deliver(message) => short(message),
            },
            contents: Vec::new(),
            byzantine: None,
            lies: Vec::new(),
            refused: step.refused.clone(),
            does: step.facts.iter().map(|fact| in_words(fact, &self.names)).collect(),
            tallies: Vec::new(),
            sends: step
                .sent
                .iter()
                .filter(|message| !matches!(message, Message::Block(_)))
                .map(short)
                .collect(),
            decided: Vec::new(),
            unheard: Vec::new(),
            changes: Vec::new(),
            views: Vec::new(),
            violated: None,
            safely: None,
        };
        told.sends.dedup();
        let seen = |replica: &ReplicaId| self.views.get(replica).copied().unwrap_or_default();
        told.views = self.correct.iter().map(seen).collect();
        let What::Deliver(message) = &step.what else { return told };
        told.is_delivery = true;
        told.from = message.signer();
        if let Message::PrePrepare(_, batch) = message {
            told.contents = batch
                .requests
                .iter()
                .map(|m| {
                    format!(
                        "c{} t{}: {}",
                        m.content.client.0,
                        m.content.timestamp.0,
                        text(&m.content.operation)
                    )
                })
                .take(8)
                .collect();
        }
        if let Some(Principal::Replica(signer)) = message.signer()
            && !self.correct.contains(&signer)
        {
            told.lies = self.says_otherwise(message).into_iter().collect();
            told.byzantine = Some(match told.lies.first() {
                Some(lie) => format!("r{} keeps no journal: {lie}", signer.0),
                None => format!("r{} keeps no journal", signer.0),
            });
        }
        if step.refused.is_none() {
            told.tallies = self.tally(at, replica, message);
        }
        told
    }

    /// What a replica votes itself.
    fn note_own<C: Crypto>(&mut self, replica: ReplicaId, sent: &[Message<C>]) {
        for message in sent {
            self.note(replica, message, None);
        }
    }

    fn note<C: Crypto>(&mut self, replica: ReplicaId, message: &Message<C>, step: Option<usize>) {
        let (Some(Principal::Replica(from)), Some((view, n, digest))) = (message.signer(), message.slot())
        else {
            return;
        };
        if matches!(message, Message::Prepare(_) | Message::Commit(_)) {
            let votes = self.votes.entry((replica, message.name(), view, n)).or_default();
            if !votes.iter().any(|(voter, ..)| *voter == from) {
                votes.push((from, digest, step));
            }
        }
    }

    fn tally<C: Crypto>(&mut self, at: usize, replica: ReplicaId, message: &Message<C>) -> Vec<Tally> {
        self.note(replica, message, Some(at + 1));
        let Some((view, n, digest)) = message.slot() else { return Vec::new() };
        let (kind, rule, needed) = match message {
            Message::Commit(_) => ("COMMIT", "commit-quorum", Pbft.commit_quorum(&self.cluster)),
            _ => ("PREPARE", "prepare-quorum", Pbft.prepare_quorum(&self.cluster)),
        };
        let votes = self.votes.get(&(replica, kind, view, n)).map_or(&[][..], Vec::as_slice);
        if votes.is_empty() {
            return Vec::new();
        }
        let verb = if kind == "COMMIT" { "committed" } else { "prepared" };
        let vote = |&(voter, voted, step): &(ReplicaId, Digest, Option<usize>)| Vote {
            who: match voted == digest {
                true => name(voter.into()),
                false => format!("{} (for {})", name(voter.into()), self.names.of(voted)),
            },
            replica: Some(voter),
            step,
            counts: voted == digest,
        };
        vec![Tally {
            what: format!("{} {verb} in v{} at n{}", self.names.of(digest), view.0, n.0),
            kind,
            rule,
            needed,
            votes: votes.iter().map(vote).collect(),
            about: Some((n, digest)),
        }]
    }

    /// Whether somebody else was told something else of the same view and number.
    fn says_otherwise<C: Crypto>(&self, message: &Message<C>) -> Option<String> {
        let (about, digest) = about(message)?;
        let others = self.said.get(&about)?.iter().filter(|(other, _)| *other != digest);
        let others: Vec<String> =
            others.map(|(other, to)| format!("{} {}", name(*to), self.names.of(*other))).collect();
        (!others.is_empty()).then(|| {
            let (who, said) = (name(about.1), self.names.of(digest));
            format!("{who} says {said} here, and tells {}", listed(others.into_iter()))
        })
    }
}
