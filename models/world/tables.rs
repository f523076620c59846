//! Local states and messages, each kept once; and the steps between them, each taken once.

use super::clients::ClientTables;
use super::crashes::{AllStarted, Crashes, Questions};
use super::locals::Locals;
use super::rehearsed::Rehearsal;
use super::{Clients, Modelled, WorldConfig};
use crate::crypto::Symbolic;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use indexmap::{IndexMap, IndexSet};
use pbft::crypto::Signed;
use pbft::message::{Message, NewView};
use pbft::replica::{Durable, Event, Replica, Setup};
use pbft::types::{Digest, Principal, ReplicaId, SeqNo, View};
use pbft_properties::History;
use pbft_properties::contract::{Contract, Ledger, Signatures};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Names a local state.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LocalId(u32);

impl LocalId {
    pub(super) fn new(of: usize) -> Self {
        LocalId(index(of))
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Names a message.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MessageId(u32);

/// A replica, and what it has done so far.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Local {
    /// The state of the real replica.
    pub replica: Replica<Modelled>,
    /// Its facts, for the properties.
    pub history: History,
    /// What a crash leaves, where that is not what the replica takes for durable.
    pub stored: Option<Arc<Durable<Symbolic>>>,
    /// What it has sent, where its steps are held to the [contract](pbft_properties::contract).
    pub ledger: Option<Arc<Ledger<Modelled>>>,
}

/// The names of states in stored counterexamples do not depend on what crashes alone make different.
impl Hash for Local {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.replica.hash(state);
        self.history.hash(state);
        if let Some(stored) = &self.stored {
            stored.hash(state);
        }
        if let Some(ledger) = &self.ledger {
            ledger.hash(state);
        }
    }
}

/// What a step is taken on.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Input {
    /// A message arrives.
    Message(MessageId),
    /// The progress timer fires.
    TimeOut,
    /// The replica crashes between two steps, and starts again.
    Crash,
    /// It crashes in the middle of what a message, or else a time-out, makes it do, and starts again: after
    /// so many of its effects.
    CrashDuring(Option<MessageId>, u8),
}

/// Where a step leads, and what it sends.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Step {
    /// The local state after it.
    pub to: LocalId,
    /// What it sends, ascending.
    pub sends: Arc<[MessageId]>,
}

/// A local state without its dead parts, and without its receipts too.
#[derive(Clone, Copy, Debug)]
pub struct Bare {
    /// Without what no step reads again.
    pub alive: LocalId,
    /// Without what can arrive again, either.
    pub normal: LocalId,
}

/// A moment in the life of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    locals: usize,
    steps: usize,
    bare: usize,
}

impl Mark {
    /// The name that the next local state to be met was to have.
    pub(super) fn first_local(self) -> LocalId {
        LocalId::new(self.locals)
    }
}

/// What a NEW-VIEW says to whoever receives it: the view, who signed it, min-s with its state, and `O`.
type NewViewContent = (View, Principal, Option<(SeqNo, Digest)>, Vec<(SeqNo, Digest)>);

type SignedNewView = Arc<Signed<NewView<Symbolic>, Symbolic>>;

/// The tables of one world.
pub struct Tables {
    pub(super) setups: Vec<Arc<Setup<Modelled>>>,
    locals: Locals,
    /// Each with the only one it can reach, if not everybody.
    messages: IndexSet<(Option<Principal>, Message<Symbolic>), FixedState>,
    /// What each message makes each replica do; nothing if it does not verify.
    pub(super) verified: HashMap<(ReplicaId, MessageId), Option<Event<Symbolic>>, FixedState>,
    pub(super) clients: ClientTables,
    pub(super) steps: IndexMap<(ReplicaId, LocalId, Input), Step, FixedState>,
    pub(super) bare: IndexMap<(ReplicaId, LocalId), Bare, FixedState>,
    max_seq: SeqNo,
    /// Whether the clients are part of the world.
    pub(super) with_clients: bool,
    pub(super) with_checkpoints: bool,
    /// Whether NEW-VIEWs that differ in `V` alone are one message.
    pub(super) merge_new_views: bool,
    pub(super) new_views: IndexMap<NewViewContent, Vec<MessageId>, FixedState>,
    pub(super) cut_sends: u64,
    /// Records and facts among the effects of all steps taken.
    pub(super) recorded: u64,
    /// Whether the last step that was taken looks at `V` of a NEW-VIEW otherwise than for what that determines.
    pub(crate) reads_v: bool,
    /// The NEW-VIEWs that may be on a disk, by their views: with each a restart is to come to the same.
    pub(super) in_place: Vec<SignedNewView>,
    /// The first restart that does not.
    pub(super) differs: Option<String>,
    pub(super) crashes: Option<Crashes>,
    /// Whether what is durable is kept apart from what replicas take for it: where they can be restarted.
    pub(super) keeps_disks: bool,
    pub(super) questions: Vec<Questions>,
    pub(super) started: AllStarted,
    pub(super) restarts: u64,
    /// The first restart that was refused.
    pub(super) refused_to_start: Option<String>,
    pub(super) contract: Contract,
    /// The first step held to the contract that is none of the abstract protocol.
    pub(super) breach: Option<String>,
    /// Steps that were worked out before.
    pub(super) rehearsal: Option<Box<Rehearsal>>,
}

fn index(of: usize) -> u32 {
    u32::try_from(of).expect("a table of more than 2^32 entries does not fit in memory")
}

impl Tables {
    /// Empty tables for a world with these bounds. Messages about sequence numbers above the highest are not
    /// part of the world.
    pub fn new(config: &WorldConfig, merge_new_views: bool) -> Self {
        let mut tables = Tables {
            setups: config.setups(),
            clients: ClientTables::new(config),
            locals: Locals::default(),
            messages: IndexSet::default(),
            verified: HashMap::default(),
            steps: IndexMap::default(),
            bare: IndexMap::default(),
            max_seq: config.max_seq,
            with_clients: config.clients == Clients::Actors,
            with_checkpoints: config.checkpoint_interval.is_some(),
            merge_new_views,
            new_views: IndexMap::default(),
            cut_sends: 0,
            recorded: 0,
            reads_v: false,
            in_place: Vec::new(),
            differs: None,
            crashes: config.crashes,
            keeps_disks: config.crashes.is_some(),
            questions: Vec::new(),
            started: AllStarted::default(),
            restarts: 0,
            refused_to_start: None,
            contract: Contract::new(Signatures::Check),
            breach: None,
            rehearsal: None,
        };
        if config.crashes.is_some() {
            tables.allow_crashes(config);
        }
        tables
    }

    /// Tables with the same messages under the same names, and no local states.
    pub(crate) fn with_messages_only(&self, config: &WorldConfig) -> Self {
        let (messages, new_views) = (self.messages.clone(), self.new_views.clone());
        Tables { messages, new_views, ..Tables::new(config, self.merge_new_views) }
    }

    /// The local state with this name.
    pub fn local(&self, id: LocalId) -> &Local {
        self.locals.get(id)
    }

    /// The message with this name.
    pub fn message(&self, id: MessageId) -> &Message<Symbolic> {
        &self.messages.get_index(id.0 as usize).expect("names are given by this table").1
    }

    /// Whether a message can reach `node`.
    pub fn reaches(&self, id: MessageId, node: Principal) -> bool {
        let (only, _) = self.messages.get_index(id.0 as usize).expect("names are given by this table");
        only.is_none_or(|only| only == node)
    }

    /// The name of a message, if it has one: of NEW-VIEWs that are one message, the one name.
    pub(crate) fn named(&self, message: &Message<Symbolic>) -> Option<MessageId> {
        let id = MessageId(index(self.messages.get_index_of(&(None, message.clone()))?));
        let merged = self.new_views.values().find(|same| same.contains(&id));
        Some(merged.and_then(|same| same.first().copied()).unwrap_or(id))
    }

    /// Whether a message is about a sequence number above the highest of the world.
    pub(super) fn is_beyond(&self, message: &Message<Symbolic>) -> bool {
        number(message).is_some_and(|n| n > self.max_seq)
    }

    /// Every message known so far.
    pub fn all_messages(&self) -> impl Iterator<Item = MessageId> + use<> {
        (0..index(self.messages.len())).map(MessageId)
    }

    /// How many local states and messages have been named so far: distinct ones, but for states that were
    /// [forgotten](super::World::forget_what_is_passed) and met again.
    pub fn sizes(&self) -> (usize, usize) {
        (self.locals.named(), self.messages.len())
    }

    /// How many steps sent something about a sequence number beyond the highest: distinct ones, but for those that were
    /// forgotten and taken again.
    pub fn cut_sends(&self) -> u64 {
        self.cut_sends
    }

    /// How many records and facts there were among the effects of all steps taken so far.
    pub(crate) fn recorded(&self) -> u64 {
        self.recorded
    }

    /// Names a local state.
    pub fn add_local(&mut self, local: Local) -> LocalId {
        self.locals.insert(local)
    }

    /// Names a message that may reach anybody.
    pub fn add_message(&mut self, message: Message<Symbolic>) -> MessageId {
        self.add_addressed(None, message)
    }

    /// Names a message that can reach only this one, if not everybody.
    pub(super) fn add_addressed(&mut self, only: Option<Principal>, message: Message<Symbolic>) -> MessageId {
        MessageId(index(self.messages.insert_full((only, message)).0))
    }

    /// What is in the tables now.
    pub fn mark(&self) -> Mark {
        Mark { locals: self.locals.named(), steps: self.steps.len(), bare: self.bare.len() }
    }

    /// How many local states were met after `mark`.
    pub fn grown_since(&self, mark: Mark) -> usize {
        self.locals.named() - mark.locals
    }

    pub(super) fn locals(&self) -> &Locals {
        &self.locals
    }

    pub(super) fn locals_mut(&mut self) -> &mut Locals {
        &mut self.locals
    }

    /// A step, if it has been taken.
    pub(super) fn known_step(&self, replica: ReplicaId, from: LocalId, input: Input) -> Option<&Step> {
        self.steps.get(&(replica, from, input))
    }

    /// The forms of a local state, if they are known.
    pub(super) fn known_bare(&self, replica: ReplicaId, of: LocalId) -> Option<Bare> {
        self.bare.get(&(replica, of)).copied()
    }

    /// How many local states are kept.
    pub(super) fn kept(&self) -> usize {
        self.locals.kept()
    }

    /// Forgets all local states but these, and all steps. No name becomes another's.
    pub(super) fn keep_only(&mut self, kept: impl IntoIterator<Item = LocalId>) {
        self.locals.keep_only(kept);
        self.steps = IndexMap::default();
        self.bare = IndexMap::default();
    }

    /// Forgets local states, and steps between them, that were met after `mark`. Their names become others'.
    pub fn forget_since(&mut self, mark: Mark) {
        self.locals.truncate(mark.locals);
        self.steps.truncate(mark.steps);
        self.bare.truncate(mark.bare);
    }

    /// The messages that `id` stands for: NEW-VIEWs that differ from it in `V` alone, itself first.
    pub fn merged(&self, id: MessageId) -> &[MessageId] {
        self.new_views.values().find(|same| same.first() == Some(&id)).map_or(&[], Vec::as_slice)
    }

    /// Every message, with those that stand for NEW-VIEWs among them.
    pub(crate) fn all_merged(&self) -> impl Iterator<Item = (MessageId, &[MessageId])> {
        self.new_views.values().filter_map(|same| Some((*same.first()?, same.as_slice())))
    }

    /// The forms of a local state with less in them.
    pub fn bare(&mut self, node: impl Into<Principal>, id: LocalId) -> Bare {
        match node.into() {
            Principal::Replica(replica) => self.bare_replica(replica, id),
            Principal::Client(_) => self.bare_client(id),
        }
    }

    fn bare_replica(&mut self, replica: ReplicaId, id: LocalId) -> Bare {
        if let Some(&known) = self.bare.get(&(replica, id)) {
            return known;
        }
        let bare = self.rehearsed_bare(id).unwrap_or_else(|| {
            let (alive, normal) = self.bared(replica, self.local(id));
            Bare { alive: self.add_local(alive), normal: self.add_local(normal) }
        });
        self.bare.insert((replica, id), bare);
        bare
    }

    /// A local state without its dead parts, and without its receipts too.
    pub(super) fn bared(&self, replica: ReplicaId, local: &Local) -> (Local, Local) {
        let setup = self.setup(replica);
        let alive = local.replica.without_dead_state(setup);
        let normal = alive.without_receipts(setup);
        (Local { replica: alive, ..local.clone() }, Local { replica: normal, ..local.clone() })
    }

    /// The configuration of a replica.
    pub fn setup(&self, replica: ReplicaId) -> &Setup<Modelled> {
        &self.setups[usize::from(replica.0)]
    }
}

/// The sequence number that a message of the normal case is about.
fn number(message: &Message<Symbolic>) -> Option<SeqNo> {
    match message {
        Message::Checkpoint(m) => Some(m.content.n),
        other => other.slot().map(|(_, n, _)| n),
    }
}
