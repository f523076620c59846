//! The world as a space of small states for the engine.

use super::config::{MAX_REPLICAS, WorldConfig};
use super::tables::{Local, LocalId, MessageId, SentId, Tables, is_left_out};
use crate::adversary::{Adversary, Bounds};
use crate::engine::Space;
use crate::journal::Journal;
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::message::Message;
use pbft::replica::verify::verify;
use pbft::replica::{Event, Timer};
use pbft::types::{Bytes, ClientId, Digest, Parameters, ReplicaId, Timestamp};
use pbft_properties::{History, Snapshot, check_all};
use std::collections::{BTreeMap, BTreeSet};

/// The correct replicas' local states, in the order of their numbers, and what they have sent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct State {
    pub(crate) locals: [LocalId; MAX_REPLICAS],
    pub(crate) sent: SentId,
}

/// What can happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// A message, sent by a correct replica or derived by the adversary, reaches a correct replica.
    Deliver {
        /// The replica.
        to: ReplicaId,
        /// The message.
        message: MessageId,
    },
    /// The progress timer of a correct replica fires.
    Timeout {
        /// The replica.
        at: ReplicaId,
    },
}

/// In how many of the judged states each of these had happened. A world where nothing happens proves nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Witnesses {
    /// Some correct replica has committed something.
    pub commits: usize,
    /// Every correct replica has executed every request.
    pub complete: usize,
    /// Some correct replica has entered a view by a NEW-VIEW.
    pub view_changes: usize,
    /// A null request was carried into a view.
    pub nulls: usize,
    /// A checkpoint is stable at some correct replica.
    pub stable: usize,
}

/// The world.
pub struct World {
    config: WorldConfig,
    pub(crate) correct: Vec<ReplicaId>,
    parameters: Parameters,
    authentic: BTreeSet<(ClientId, Timestamp, Bytes)>,
    genesis: Journal,
    pub(crate) tables: Tables,
    adversary: Adversary,
    /// What can be delivered, for each set of messages sent.
    available: IndexMap<SentId, Vec<MessageId>, FixedState>,
    witnesses: Witnesses,
    cut_time_outs: u64,
    /// The histories that occur in local states, and which local state has which.
    histories: IndexSet<History, FixedState>,
    history_of: IndexMap<LocalId, u32, FixedState>,
    /// What happened in states with these histories; all of them were judged sound.
    judged: IndexMap<[u32; MAX_REPLICAS], Witnesses, FixedState>,
}

impl World {
    /// The world with these bounds.
    ///
    /// # Errors
    /// If they make no sense ([`WorldConfig::problem`]).
    pub fn new(config: WorldConfig) -> Result<Self, String> {
        if let Some(problem) = config.problem() {
            return Err(problem);
        }
        let (setups, requests, correct) = (config.setups(), config.signed_requests(), config.correct());
        let own = |replica: &ReplicaId| setups[usize::from(replica.0)].clone();
        let bounds =
            Bounds { max_view: config.max_view, max_seq: config.max_seq, max_batch: config.max_batch };
        let byzantine = config.byzantine.iter().map(own).collect();
        let adversary = Adversary::new(byzantine, own(&correct[0]), &requests, bounds);
        let request = |m: &pbft::crypto::Signed<pbft::message::Request, _>| {
            (m.content.client, m.content.timestamp, m.content.operation.clone())
        };
        Ok(World {
            parameters: config.parameters(),
            authentic: requests.iter().map(request).collect(),
            genesis: Journal::default(),
            tables: Tables::new(setups, config.max_seq),
            available: IndexMap::default(),
            witnesses: Witnesses::default(),
            cut_time_outs: 0,
            histories: IndexSet::default(),
            history_of: IndexMap::default(),
            judged: IndexMap::default(),
            adversary,
            correct,
            config,
        })
    }

    /// The bounds.
    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// The tables of local states and messages.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What has been seen to happen.
    pub fn witnesses(&self) -> Witnesses {
        self.witnesses
    }

    /// What each correct replica has done by this state, in the order of their numbers.
    pub fn histories(&self, state: State) -> Vec<&History> {
        (0..self.correct.len()).map(|position| &self.local(state, position).history).collect()
    }

    /// How often the bounds kept something from happening: time-outs that would lead beyond the highest view, in
    /// all states, and distinct steps that send something about a sequence number beyond the highest.
    pub fn cut_by_bound(&self) -> u64 {
        self.cut_time_outs + self.tables.cut_sends()
    }

    pub(crate) fn local(&self, state: State, position: usize) -> &Local {
        self.tables.local(state.locals[position])
    }

    /// Whether a time-out in this local state stays within the highest view; counts it if not.
    pub(crate) fn may_time_out(&mut self, local: LocalId) -> bool {
        if self.config.max_view.0 == 0 {
            return false;
        }
        let replica = &self.tables.local(local).replica;
        let within = replica.leaving().unwrap_or(replica.view()).next() <= self.config.max_view;
        self.cut_time_outs += u64::from(!within);
        within
    }

    fn position(&self, replica: ReplicaId) -> usize {
        self.correct.iter().position(|&correct| correct == replica).unwrap_or_default()
    }

    /// Everything that may reach a replica once `sent` has been sent.
    pub(crate) fn available(&mut self, sent: SentId) -> Vec<MessageId> {
        if let Some(known) = self.available.get(&sent) {
            return known.clone();
        }
        let messages: Vec<_> = self.tables.messages_of(sent).to_vec();
        let derived = {
            let sent: Vec<_> = messages.iter().map(|&id| self.tables.message(id)).collect();
            self.adversary.derive(&sent)
        };
        let mut all: BTreeSet<MessageId> = messages.into_iter().collect();
        all.extend(derived.into_iter().map(|message| self.tables.add_message(message)));
        let all: Vec<MessageId> = all.into_iter().collect();
        self.available.insert(sent, all.clone());
        all
    }

    pub(crate) fn settle(
        &mut self,
        mut state: State,
        position: usize,
        step: (LocalId, Vec<MessageId>),
    ) -> State {
        state.locals[position] = step.0;
        for message in step.1 {
            state.sent = self.tables.with(state.sent, message);
        }
        state
    }

    /// A step in words, for a trace: what happens, and what the receiver does.
    pub fn describe(&self, before: State, action: Action, after: State) -> String {
        let (mut line, replica) = match action {
            Action::Timeout { at } => (format!("r{} times out", at.0), at),
            Action::Deliver { to, message } => {
                let message = self.tables.message(message);
                (format!("{} -> r{}", in_short(message, &self.config), to.0), to)
            }
        };
        line.push_str(&self.what_came_of_it(before, replica, after));
        line
    }

    /// A macro step in words: the deliveries, and what the receiver does.
    pub(crate) fn describe_macro(
        &self,
        before: State,
        replica: ReplicaId,
        path: &[MessageId],
        after: State,
    ) -> String {
        let names = path.iter().map(|&message| in_short(self.tables.message(message), &self.config));
        let mut line = match path {
            [] => format!("r{} times out", replica.0),
            _ => format!("{} -> r{}", names.collect::<Vec<_>>().join(" + "), replica.0),
        };
        line.push_str(&self.what_came_of_it(before, replica, after));
        line
    }

    fn what_came_of_it(&self, before: State, replica: ReplicaId, after: State) -> String {
        let mut line = String::new();
        let position = self.position(replica);
        let count = |state| {
            let history: &History = &self.local(state, position).history;
            [
                ("prepared", history.prepared().len()),
                ("committed", history.committed().len()),
                ("executed", history.executions().count()),
                ("entered a view", history.entries().count()),
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

    /// What the correct replicas would send if the status timer of each fired and every STATUS and FETCH arrived
    /// everywhere, as far as it cannot reach a replica anyway. Nothing, if leaving those out is sound.
    pub fn resent_but_not_available(&mut self, state: State) -> Vec<String> {
        let available = self.available(state.sent);
        let mut asked = Vec::new();
        for (position, &replica) in self.correct.iter().enumerate() {
            let timeout = Event::Timeout(Timer::Status);
            let effects = self.tables.try_step(replica, state.locals[position], timeout);
            asked.extend(effects.sends().map(|(_, message)| message.clone()));
        }
        let mut answers = asked.clone();
        for (position, &replica) in self.correct.iter().enumerate() {
            for message in &asked {
                if let Ok(verified) = verify(self.tables.setup(replica), message.clone()) {
                    let event = Event::Message(verified);
                    let effects = self.tables.try_step(replica, state.locals[position], event);
                    answers.extend(effects.sends().map(|(_, message)| message.clone()));
                }
            }
        }
        let available: Vec<_> = available.iter().map(|&id| self.tables.message(id)).collect();
        answers
            .iter()
            .filter(|m| !is_left_out(m) && !available.contains(m))
            .map(|m| format!("{m:?}"))
            .collect()
    }
}

/// A message as a trace names it.
fn in_short(message: &Message<crate::crypto::Symbolic>, config: &WorldConfig) -> String {
    use pbft::types::Principal;
    let (slot, signer) = match message {
        Message::PrePrepare(m, _) => {
            (format!(" v{} n{} {:?}", m.content.view.0, m.content.n.0, m.content.digest), Some(m.signer))
        }
        Message::Prepare(m) => {
            (format!(" v{} n{} {:?}", m.content.view.0, m.content.n.0, m.content.digest), Some(m.signer))
        }
        Message::Commit(m) => {
            (format!(" v{} n{} {:?}", m.content.view.0, m.content.n.0, m.content.digest), Some(m.signer))
        }
        Message::Checkpoint(m) => (format!(" n{} {:?}", m.content.n.0, m.content.digest), Some(m.signer)),
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
        _ => (String::new(), None),
    };
    let who = match signer {
        Some(Principal::Replica(r)) if config.byzantine.contains(&r) => format!("r{} (Byzantine): ", r.0),
        Some(Principal::Replica(r)) => format!("r{}: ", r.0),
        _ => String::new(),
    };
    format!("{who}{}{slot}", message.name())
}

impl Space for World {
    type State = State;
    type Action = Action;

    fn initial(&mut self) -> Vec<State> {
        let requests = self.config.signed_requests().into_iter().map(Message::Request);
        let requests: Vec<MessageId> = requests.map(|m| self.tables.add_message(m)).collect();
        let mut sent = self.tables.nothing_sent();
        for &request in &requests {
            sent = self.tables.with(sent, request);
        }
        let mut locals = Vec::new();
        for replica in self.correct.clone() {
            let (mut local, mut sends) = self.tables.start(replica);
            for &request in &requests {
                let (next, more) = self.tables.deliver(replica, local, request);
                local = next;
                sends.extend(more);
            }
            locals.push(local);
            for message in sends {
                sent = self.tables.with(sent, message);
            }
        }
        let mut padded = [locals[0]; MAX_REPLICAS];
        padded[..locals.len()].copy_from_slice(&locals);
        vec![State { locals: padded, sent }]
    }

    fn successors(&mut self, state: State, out: &mut Vec<(Action, State)>) {
        let available = self.available(state.sent);
        for (position, to) in self.correct.clone().into_iter().enumerate() {
            for &message in &available {
                let step = self.tables.deliver(to, state.locals[position], message);
                let next = self.settle(state, position, step);
                if next != state {
                    out.push((Action::Deliver { to, message }, next));
                }
            }
            if self.may_time_out(state.locals[position]) {
                let step = self.tables.time_out(to, state.locals[position]);
                out.push((Action::Timeout { at: to }, self.settle(state, position, step)));
            }
        }
    }

    /// Properties judge histories, so states in which the replicas have the same ones are judged once.
    fn judge(&mut self, state: State) -> Result<(), String> {
        let mut key = [0; MAX_REPLICAS];
        for (position, place) in key.iter_mut().enumerate().take(self.correct.len()) {
            *place = self.history_of(state.locals[position]);
        }
        let happened = match self.judged.get(&key) {
            Some(&happened) => happened,
            None => {
                let happened = self.judge_histories(state)?;
                self.judged.insert(key, happened);
                happened
            }
        };
        self.witnesses.add(happened);
        Ok(())
    }
}

impl Witnesses {
    fn add(&mut self, other: Witnesses) {
        self.commits += other.commits;
        self.complete += other.complete;
        self.view_changes += other.view_changes;
        self.nulls += other.nulls;
        self.stable += other.stable;
    }
}

impl World {
    fn history_of(&mut self, local: LocalId) -> u32 {
        if let Some(&known) = self.history_of.get(&local) {
            return known;
        }
        let history = self.tables.local(local).history.clone();
        let index =
            u32::try_from(self.histories.insert_full(history).0).expect("a table fits in 2^32 entries");
        self.history_of.insert(local, index);
        index
    }

    /// Judges the histories of a state; says what has happened in it, each as 1 or 0.
    fn judge_histories(&self, state: State) -> Result<Witnesses, String> {
        let replicas: BTreeMap<ReplicaId, History> = (self.correct.iter().enumerate())
            .map(|(position, &id)| (id, self.local(state, position).history.clone()))
            .collect();
        let any = |happened: fn(&History) -> bool| usize::from(replicas.values().any(happened));
        let requests = self.authentic.len();
        let complete = |history: &History| {
            history.executions().map(|execution| execution.requests.len()).sum::<usize>() == requests
        };
        let null = |entry: &pbft_properties::Entry| entry.carried.values().any(|&d| d == Digest::NULL);
        let happened = Witnesses {
            commits: any(|history| !history.committed().is_empty()),
            complete: usize::from(replicas.values().all(complete)),
            view_changes: any(|history| history.entries().next().is_some()),
            nulls: usize::from(replicas.values().any(|history| history.entries().any(null))),
            stable: any(|history| history.h().0 > 0),
        };
        let snapshot = Snapshot {
            cluster: self.config.cluster,
            parameters: self.parameters,
            genesis: &self.genesis,
            replicas: &replicas,
            authentic: &self.authentic,
            accepted: &[],
        };
        check_all(&snapshot).map(|()| happened).map_err(|violation| violation.to_string())
    }
}
