//! The replica: all of PBFT as one deterministic state machine.
//!
//! One event in, one [`Replica::step`], [`Effects`] out. There is no clock, no input or output, no
//! randomness and no thread here: a step is a function of the state and the event alone. Messages reach it
//! as [`Verified`] values only, made by [`verify::verify`], a pure function that may run elsewhere.
//!
//! | file | phase | source |
//! |---|---|---|
//! | `clients` | requests, the client table, reads | OSDI'99 §4.1, §5.1 |
//! | `normal` | PRE-PREPARE, PREPARE, COMMIT | §4.2 |
//! | `execute` | execution in order, replies | §4.2 |
//! | `checkpoint` | checkpoints, garbage collection | §4.3 |
//! | `view_change` | leaving a view | §4.4 |
//! | `new_view` | choosing and entering the next | §4.4 |
//! | `status` | retransmission | thesis §5.2 |
//! | `state_transfer` | catching up | §4.3, thesis §5.3 |
//! | `timer` | the progress timer | §4.4, §4.5.2 |
//! | `verify` | what is checked of a message without the state | §4.1 to §4.4 |
//! | `log` | votes logged; `prepared`, `committed-local` | §4.2 |
//! | `durable` | what survives a crash, and the records that change it | |
//! | `effects` | what a step asks for | |
//! | `blocks` | the tree over a snapshot of the state | thesis §5.3 |
//! | `restore` | starting and restarting | |
//! | `resume` | going on in the middle of a life, for replays | |
//! | `normal_form` | what an exploration may forget | |
//! | `subject` | which messages an exploration need not try | |
//! | `noted`, `received`, `parts` | what a step depends on | |
//!
//! # Transitions
//!
//! Guards are rules by their names in [`Rules`], beside plain comparisons; [`verify::verify`] has checked the
//! rest. Every step may also start or stop the progress timer.
//!
//! | event | guards | record | sends | fact |
//! |---|---|---|---|---|
//! | REQUEST | `at_most_once` on execution; timestamp | `PrePrepared` at the primary | PRE-PREPARE, or the REQUEST to the primary, or the last REPLY | `PrePrepared` |
//! | REQUEST, read-only | `reads_wait_for_prepared` | | REPLY | |
//! | PRE-PREPARE | `leave_old_view`, `stop_after_view_change`, watermarks, `first_pre_prepare_wins`, `null_only_in_o` | `PrePrepared` | PREPARE | `PrePrepared` |
//! | PREPARE | the same of its slot, `primary_does_not_prepare`, `one_vote_per_sender`; `prepare_quorum`, `prepared_has_batch` | `Prepared` | COMMIT | `Prepared` |
//! | COMMIT | the same of its slot, `one_vote_per_sender`; `commit_quorum` | `Executed` | REPLYs; CHECKPOINT at a multiple of K | `Committed`, `Executed`, `CheckpointTaken` |
//! | CHECKPOINT | watermarks, `one_vote_per_sender`; `checkpoint_quorum` | `Stable`, `Snapshot` | what the window now has room for | `CheckpointStable` |
//! | STABLE | `checkpoint_proof`, `low_water_mark` | `Stable` | FETCH of the state, if it is missing | `CheckpointStable` |
//! | VIEW-CHANGE | `distinct_view_changes`; `join_threshold`; `view_change_quorum` | `ViewChange`; `NewView` at the new primary | VIEW-CHANGE, NEW-VIEW | `ViewLeft`, `ViewEntered` |
//! | NEW-VIEW | `view_increases`, `first_new_view_wins`, `backups_recompute_o` | `Stable`, `NewView` | PREPARE for each entry of O | `ViewEntered`, `PrePrepared` |
//! | BATCH | it is named by the log and missing | `Batch` | COMMIT, if prepared now | `Prepared` |
//! | BLOCK | `transfer_verified` | `Snapshot` at the last one | FETCH for more | `StateTransferred` |
//! | STATUS, FETCH | | | what the sender lacks | |
//! | progress timer | | `ViewChange` | VIEW-CHANGE | `ViewLeft` |
//! | status timer | `view_change_retransmitted` | | STATUS, FETCH, the last VIEW-CHANGE | |
//!
//! Two decisions run through all of them. What must survive a crash is in [`Durable`] and changes only by
//! records that are effects too. And what is merely received (votes, VIEW-CHANGEs) is forgotten as soon as
//! the certificate it was collected for exists, so that the state says what matters and nothing else.

pub mod blocks;
mod checkpoint;
mod clients;
pub mod durable;
pub mod effects;
mod execute;
mod invariants;
mod log;
mod new_view;
mod normal;
mod normal_form;
#[doc(hidden)]
pub mod noted;
mod parts;
mod received;
mod restore;
mod resume;
mod state_transfer;
mod status;
mod subject;
mod timer;
pub mod verify;
mod view_change;

#[doc(hidden)]
pub use clients::bounded;
pub use clients::{ClientTable, LastReply};
pub use durable::{Durable, Record, Snapshot};
pub use effects::{Destination, Effect, Effects, ExecutedRequest, Expired, Fact, Timeouts, Timer, nodes};
pub use invariants::BrokenInvariant;
#[doc(hidden)]
pub use new_view::{Plan, ViewChangeSet, compute_o};
#[doc(hidden)]
pub use parts::Receipt;
pub use restore::StartRefusal;
#[doc(hidden)]
pub use subject::Subject;

use crate::crypto::form::SignedTogether;
use crate::crypto::{Content, Crypto, Signed, Value, Verified};
use crate::message::{Message, Request, ViewChange};
use crate::parameters::{ConfigError, Parameters};
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::service::Service;
use crate::types::{ClientId, Cluster, Principal, ReplicaId, SeqNo, Timestamp, View, Watermarks};
use noted::{Noted, Part, apart};
use received::{Left, Received, Voted};
use serde::{Deserialize, Serialize};
use state_transfer::Transfer;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

/// The three choices a replica is generic over, in one parameter.
pub trait Bundle: Clone + Copy + Debug + Eq + Ord + Hash + Send + Sync + 'static {
    /// Signatures and digests.
    type Crypto: Crypto;
    /// What is replicated.
    type Service: Service;
    /// [`Pbft`](crate::rules::Pbft), or a mutant.
    type Rules: Rules;
}

/// What one replica is configured with; it never changes while it runs.
#[derive(Debug)]
pub struct Setup<B: Bundle> {
    /// Which replica this is.
    pub id: ReplicaId,
    /// The size of the cluster.
    pub cluster: Cluster,
    /// The bounds, the same at every replica.
    pub parameters: Parameters,
    /// This replica's secret key and everybody's public keys.
    pub keys: Arc<<B::Crypto as Crypto>::Keys>,
    /// The number of registered clients: `0..clients`.
    pub clients: u32,
    /// What it decides by.
    pub rules: B::Rules,
    /// The service before the first request, the same at every replica. Nothing of the protocol says so to
    /// the others: who begins with a state of its own binds the cluster's domain to it
    /// ([`domain_of_genesis`](crate::store::domain_of_genesis)), so that whoever begins with another is a
    /// stranger.
    pub genesis: B::Service,
}

impl<B: Bundle> Clone for Setup<B> {
    fn clone(&self) -> Self {
        Setup {
            id: self.id,
            cluster: self.cluster,
            parameters: self.parameters,
            keys: self.keys.clone(),
            clients: self.clients,
            rules: self.rules.clone(),
            genesis: self.genesis.clone(),
        }
    }
}

impl<B: Bundle> Setup<B> {
    /// Checks that a replica can be run with this at all. Models run with no more.
    ///
    /// # Errors
    /// What makes no sense.
    pub fn check_runnable(&self) -> Result<(), ConfigError> {
        let signer = Principal::Replica(self.id);
        if !self.cluster.contains(self.id) {
            return Err(ConfigError::NoSuchReplica);
        }
        if B::Crypto::signer(&self.keys) != signer {
            return Err(ConfigError::ForeignKeys);
        }
        if self.cluster.quorum() > self.cluster.n() {
            return Err(ConfigError::QuorumAboveN);
        }
        let Parameters { checkpoint_interval, window, max_batch_requests, .. } = self.parameters;
        if checkpoint_interval == 0 || window == 0 || max_batch_requests == 0 {
            return Err(ConfigError::Zero);
        }
        Ok(())
    }

    /// Checks that this may serve clients: what a host does before it starts a replica.
    ///
    /// Beyond [`Setup::check_runnable`]: `n >= 3f + 1`, and bounds that leave room to make progress
    /// ([`Parameters::check`]).
    ///
    /// # Errors
    /// What makes no sense.
    pub fn check_servable(&self) -> Result<(), ConfigError> {
        if !self.cluster.tolerates_f() {
            return Err(ConfigError::TooFewReplicas);
        }
        self.check_runnable()?;
        self.parameters.check(&self.cluster)
    }

    /// `content`, signed by this replica.
    pub fn sign<T: Content>(&self, content: T) -> Signed<T, B::Crypto> {
        Signed::new(content, &*self.keys)
    }

    /// Each of these, signed by this replica together with the others.
    pub fn sign_together<T: Content<Form = SignedTogether>>(
        &self,
        contents: Vec<T>,
    ) -> Vec<Signed<T, B::Crypto>> {
        Signed::new_together(contents, &*self.keys)
    }
}

/// What can happen to a replica.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Event<C: Crypto> {
    /// A message arrived and all its signatures and certificates are valid.
    Message(Verified<Message<C>>),
    /// A timer fired. The exponent of a `Progress` timer is not looked at.
    ///
    /// The replica acts on it whatever it has asked for since, so the host must not deliver the expiry of a
    /// `Progress` timer that a later [`Effect::SetTimer`] or [`Effect::CancelProgressTimer`] has replaced or
    /// stopped, even if that expiry is already queued.
    Timeout(Expired),
}

/// Votes: at most one of each sender for each number in the window, and in the current view.
type Votes<C, const PART: u8> = Received<Voted, log::Vote<C>, PART>;

const PREPARES: u8 = Part::Prepares as u8;
const COMMITS: u8 = Part::Commits as u8;
const CHECKPOINTS: u8 = Part::Checkpoints as u8;
const VIEW_CHANGES: u8 = Part::ViewChanges as u8;

/// Requests that wait.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(bound = "")]
struct Requests<C: Crypto> {
    /// The latest of each client.
    pool: Noted<BTreeMap<ClientId, Signed<Request, C>>, { Part::Pool as u8 }>,
    /// At the primary: clients whose pooled request is to be proposed, in the order of arrival.
    queue: Noted<VecDeque<ClientId>, { Part::Queue as u8 }>,
}

impl<C: Crypto> Default for Requests<C> {
    fn default() -> Self {
        Requests { pool: Noted::new(BTreeMap::new()), queue: Noted::new(VecDeque::new()) }
    }
}

/// VIEW-CHANGEs: at most one of each sender for each view, and for a few views.
type ViewChanges<C> = Received<Left, Arc<Signed<ViewChange<C>, C>>, VIEW_CHANGES>;

/// Why the progress timer runs: the view that is to make progress, and the request waited for, if it is one.
type TimerReason = (View, Option<(ClientId, Timestamp)>);

/// A read-only request waiting until everything up to the given number has executed.
type WaitingRead<C> = (Signed<Request, C>, SeqNo);

/// The state of one replica.
///
/// Every collection is bounded: by the window `L` ([`Parameters::window`]) for what has a sequence number,
/// by the registered clients for requests and reads, by `n` times a constant for VIEW-CHANGEs.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Replica<B: Bundle> {
    durable: Durable<B::Crypto>,
    /// PREPAREs not yet part of a certificate.
    prepares: Votes<B::Crypto, PREPARES>,
    /// COMMITs not yet part of a certificate.
    commits: Votes<B::Crypto, COMMITS>,
    /// Views and numbers that are committed-local.
    committed: BTreeMap<SeqNo, View>,
    /// CHECKPOINTs above h.
    checkpoints: Votes<B::Crypto, CHECKPOINTS>,
    /// This replica's own states at checkpoints above h.
    snapshots: BTreeMap<SeqNo, Arc<Snapshot>>,
    /// VIEW-CHANGEs for views above the current one.
    view_changes: ViewChanges<B::Crypto>,
    /// The service after the last executed batch.
    service: B::Service,
    /// Who was answered what.
    clients: ClientTable,
    /// Known requests that have not executed.
    requests: Requests<B::Crypto>,
    /// At the primary: the latest timestamp proposed in this view.
    proposed: BTreeMap<ClientId, Timestamp>,
    /// Reads to be answered, the latest of each client.
    reads: BTreeMap<ClientId, WaitingRead<B::Crypto>>,
    /// The request for which the progress timer runs.
    awaited: Noted<Option<(ClientId, Timestamp)>, { Part::Awaited as u8 }>,
    /// The exponent of the progress time-out.
    backoff: Noted<u8, { Part::Backoff as u8 }>,
    /// State being fetched.
    transfer: Noted<Option<Transfer>, { Part::Transfer as u8 }>,
}

impl<B: Bundle> Replica<B> {
    /// Handles one event. The only way, besides [`Replica::start`], to change a replica.
    pub fn step(&mut self, setup: &Setup<B>, event: Event<B::Crypto>, effects: &mut Effects<B::Crypto>) {
        let timer = apart(|| self.timer_reason(setup));
        match event {
            Event::Message(message) => self.on_message(setup, message.into_inner(), effects),
            Event::Timeout(Expired::Progress) => self.on_progress_timeout(setup, effects),
            Event::Timeout(Expired::Status) => self.on_status_timeout(setup, effects),
        }
        self.adjust_timer(setup, timer, effects);
        if !setup.rules.persist_before_send() {
            effects.send_before_persist();
        }
    }

    fn on_message(
        &mut self,
        setup: &Setup<B>,
        message: Message<B::Crypto>,
        effects: &mut Effects<B::Crypto>,
    ) {
        let outcome = match message {
            Message::Request(m) => self.on_request(setup, m, effects),
            Message::PrePrepare(m, batch) => self.on_pre_prepare(setup, m, batch, effects),
            Message::Prepare(m) => self.on_prepare(setup, m, effects),
            Message::Commit(m) => self.on_commit(setup, m, effects),
            Message::Checkpoint(m) => self.on_checkpoint(setup, m, effects),
            Message::ViewChange(m) => self.on_view_change(setup, m, effects),
            Message::NewView(m) => self.on_new_view(setup, m, effects),
            Message::Status(m) => self.on_status(setup, &m.content, effects),
            Message::Fetch(m) => self.on_fetch(setup, m.content, effects),
            Message::Batch(batch) => self.on_batch(setup, batch, effects),
            Message::Block(block) => self.on_block(setup, block, effects),
            Message::Stable(certificate) => self.on_stable(setup, certificate, effects),
            Message::Reply(_) => Err(Rejection::NotForThisNode),
        };
        if let Err(reason) = outcome {
            effects.reject(reason);
        }
    }

    /// Changes the durable state, and says that the change must be durable before what follows is sent.
    fn persist(&mut self, setup: &Setup<B>, record: Record<B::Crypto>, effects: &mut Effects<B::Crypto>) {
        self.durable.apply(&record, &setup.rules);
        if setup.rules.persist_votes() {
            effects.push(Effect::Persist(record));
        }
    }

    // --- what others may know ---

    /// The view last entered.
    pub fn view(&self) -> View {
        self.durable.view
    }

    /// The view of the VIEW-CHANGE sent since, if any.
    pub fn leaving(&self) -> Option<View> {
        self.durable.leaving()
    }

    /// The window of sequence numbers accepted.
    pub fn watermarks(&self, setup: &Setup<B>) -> Watermarks {
        Watermarks { h: self.durable.h(), window: setup.parameters.window }
    }

    /// The last batch executed.
    pub fn last_executed(&self) -> SeqNo {
        self.durable.last_executed()
    }

    /// The part of the state that survives a crash.
    pub fn durable(&self) -> &Durable<B::Crypto> {
        &self.durable
    }

    /// The service's state.
    pub fn service(&self) -> &B::Service {
        &self.service
    }

    /// Who was answered what.
    pub fn clients(&self) -> &ClientTable {
        &self.clients
    }

    /// Known requests that have not executed.
    pub fn waiting_requests(&self) -> usize {
        self.requests.pool.len()
    }

    /// The request of this client that waits to execute, if it is known here.
    pub fn waiting_request(&self, client: ClientId) -> Option<&Signed<Request, B::Crypto>> {
        self.requests.pool.get(&client)
    }

    /// Whether something is to happen that others take part in: a request or a proposal waits to execute, or
    /// a view to begin.
    pub fn awaits_progress(&self) -> bool {
        let next = (self.view(), self.last_executed().next());
        let proposed = self.durable.log.range(next..=(self.view(), SeqNo(u64::MAX))).next().is_some();
        proposed || !self.requests.pool.is_empty() || self.leaving().is_some()
    }

    /// The stable checkpoint whose state is being fetched, and how many of its blocks are here.
    pub fn transferring(&self) -> Option<(SeqNo, usize)> {
        self.transfer.as_ref().map(|transfer| (transfer.n, transfer.blocks()))
    }

    fn is_primary(&self, setup: &Setup<B>) -> bool {
        setup.cluster.primary(self.view()) == setup.id
    }

    /// Whether this replica takes part in its view: it has not sent VIEW-CHANGE since entering it.
    fn is_active(&self, setup: &Setup<B>) -> bool {
        setup.rules.stop_after_view_change(self.durable.leaving())
    }
}

/// Values that a state is made of; here so that a missing bound is found where it is declared.
const _: fn() = || {
    fn is_value<T: Value>() {}
    is_value::<Durable<crate::crypto::ed25519::Ed25519>>();
    is_value::<Message<crate::crypto::ed25519::Ed25519>>();
};
