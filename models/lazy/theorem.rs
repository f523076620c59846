//! Why lazy delivery loses nothing: a simulation, replica by replica, and what each run checks of it.
//!
//! # What is claimed
//!
//! Let an *execution* be any sequence of deliveries, one at a time, and time-outs, as in
//! [`Delivery::One`](crate::world::Delivery::One): every message that correct replicas have sent or that the
//! adversary can make of what was sent may reach any replica at any time, any number of times or never, and
//! the timer of a replica may fire at any time until the highest view is left for. What the adversary can
//! make is, for this claim, what [`adversary`](crate::adversary) makes and the validator of some correct
//! replica accepts: a list of candidates that somebody thought of, and not everything that could be put
//! together (see below). Let an execution lead to local states `x_1, x_2, ...` of the correct replicas (with
//! what each has reported so far), and to a set `S` of messages sent. Then the lazy exploration reaches a
//! state with the local states `nf(x_1), nf(x_2), ...`, their normal forms, in which at least `S` has been
//! sent. A normal form has the same history as the state, and the properties look at the joint history alone,
//! so what they say of the lazy exploration they say of every execution.
//!
//! # Why
//!
//! By induction over the execution. It holds at the start. Let replica `i` in `x` take a step by the event
//! `e` to `y`, and send `out`. Everything that ever reached `i`, and `e`, is available in `S`; by the
//! hypothesis of the induction, and as the adversary makes no less of more, it is available in the lazy state
//! too. If now
//!
//! > *(simulation)* moves that the lazy exploration takes lead from `nf(x)` to `nf(y)` and send at least
//! > `out`, by messages that have been delivered to `i` on **every** path that leads to `x`, by `e`, and by
//! > time-outs,
//!
//! then the lazy exploration takes them, the other replicas stay as they are, and the claim holds after the
//! step. Nothing is said of what `i` has *probably* received: only what it must have. Moves are independent
//! of the other replicas because the network only grows.
//!
//! # Steps that only send
//!
//! Where clients have calls to make, a step that sends something and otherwise changes nothing (a replica
//! that answers a read, say) is taken before all others, and alone. A state with more sent allows no less,
//! and the claim asks for at least `S`; so the move that the induction needs is taken after such steps
//! instead of before them, and leads to where it did.
//!
//! # Clients
//!
//! A client that is part of the world is a node like a replica, with a local system of its own, which is
//! walked whole: [`clients`].
//!
//! # Crashes
//!
//! Where they are part of the world, an execution may also have a correct replica stop after any of the
//! effects of a step, and start again from what is durable ([`Crashes`](crate::world::Crashes)). A crash is
//! an event of the local system like a delivery: (step, effects carried out), or a crash between steps. What
//! is compared is what results, the normal form of what `start` makes of the durable value with the history
//! and what was sent, and not which effects were carried out. A step that ends in a crash is simulated by
//! moves of which one at most ends in a crash, and others by moves without any: so it holds for a bound on
//! crashes too. What was delivered before the crash is forgotten by the replica, and is on the network still.
//!
//! # What a run checks
//!
//! *Simulation* is a statement about one replica, and is checked on the real code for every step of its
//! *unreduced local system* ([`local`](super::local)): every mixture of receipts, every message of a set `A`
//! heeded or not, time-outs anywhere. `A` is everything that the adversary makes of all that any correct
//! replica sends in any state of the exhausted lazy exploration, and all of that: no less than what is
//! available in any of those states, so by the induction no less than what is available in any execution.
//! What a replica has signed itself reaches it once it has sent that, by itself or in the `O` of a NEW-VIEW,
//! on some path.
//!
//! - *services*: no step looks at the parts of the state that serve timers and retransmission (the last
//!   NEW-VIEW, the request waited for, the exponent of the time-out). So they are left out of the local
//!   system, and it does not matter which of several NEW-VIEWs that differ in `V` alone a replica has
//!   received: what else a receiver takes from a NEW-VIEW, its view, signer, min-s and `O`, is what tells
//!   NEW-VIEWs apart here.
//! - *any V*: nor does anything else in `V` make a difference when it arrives. Looks at `V` otherwise than for what
//!   it determines, min-s with its proof and `O`, are noted. At each core a step that enters a view is taken and
//!   judged with others of the same min-s and `O` too, which have between them every set of
//!   senders, every VIEW-CHANGE of `A`, every choice of those senders who report something prepared or a
//!   stable checkpoint, larger `V` than a quorum, and one `V` turned round and turned on. If it looks at `V`, it is
//!   taken with them for every mixture of receipts (`alike`). Of a time-out there are no others, as its event does not
//!   say how long the timer ran ([`Expired`](pbft::replica::Expired)). Where crashes are part of the world the
//!   effects are the same in the same order, so that a crash in the middle leaves the same; and every
//!   restart, wherever the crash was, comes to the same with each of these NEW-VIEWs of the view on the disk.
//! - *frame*: a step leaves or drops, whatever they are, the cells that it does not look at; what it leads to
//!   is its core, what is in its cells and what serves timers, and nothing else; the normal form is that of
//!   the core. All ways to read what has been received are noted in a step, printing and comparing included
//!   ([`noted`](pbft::replica::noted)). Besides, each step is taken on a second state, whose cells hold
//!   something else where they can at that time, and does the same: a look that were not noted would mostly
//!   show, not always.
//! - *resending*: STATUS, FETCH, the status timer and REPLYs, which are no business of a replica, change
//!   nothing at any core but what serves timers, record nothing, and are answered with nothing but what has
//!   been sent on every path to it, what others have signed, and proofs; also where the replica still has the
//!   NEW-VIEW by which it entered its view (`asked`). Of STATUS every combination within the bounds is asked
//!   in one name, and every view in each; a FETCH asks for whatever there is, and for something that is not.
//! - *contract*: every step, and every crash, is one of the abstract protocol that is proved for all sizes
//!   ([`pbft_properties::contract`]). The simulation does not need it: it is a second way to agreement, by the
//!   theorem instead of by the exploration, which uses of that the set `A` alone. What the replica has sent is
//!   kept beside each core. Whoever judges a step looks into cells too, and these looks are noted like the
//!   replica's: so what counts as evidence has been told.
//! - *restarting*: `start` refuses nothing that a crash leaves.
//! - *binding*: no signature in the run is valid for a message that differs in one field
//!   (`world::binding`).
//! - *carried*: every message that a node has sent is about a subject that the network delivers by, and every
//!   request one that the adversary and the properties know of (`world::carried`).
//! - *simulation*: for every step of the local system. What must have been delivered is worked out over all
//!   its paths ([`must`](super::must)). The moves looked for use that, the event, what is available from the
//!   start (requests), and time-outs.
//!
//! # What is argued only
//!
//! - What the adversary makes is a list. That it has everything that a validator, mistaken or not, accepts is
//!   tested by brute force (`tests/adversary`) for the paper's validator and for each mutant's, and by
//!   mistakes put into the source (`tests/seeded`): it is no theorem, and *simulated* says nothing of
//!   messages that nobody makes.
//! - The adversary makes no less of more, up to the `V` of a NEW-VIEW: each of its messages is made of
//!   signatures and certificates that it can put together, and `tests/adversary` compares what it offers with
//!   what can be composed. The walks of a run compare what was offered earlier with what is offered later, in
//!   the last states of some of them.
//! - *any V* covers what a receiver can tell of one VIEW-CHANGE of `V`, of their number and senders, and of
//!   who of them reports anything; not every combination of contents. It is checked at cores, and not at
//!   normal forms that are none.
//! - Votes of one certificate are as good as others': `tests/certificates`.
//! - What is worked out [apart](pbft::replica::noted) concerns timers and stores alone: its type keeps it
//!   from anything else, as long as nobody hides it in a static, a lock or an atomic; nor does a step have
//!   any other state than the replica.
//! - A crash does not come while a replica starts: `start`, and what it then sends, is one step.
//! - The normal form of a state is that of its core: it takes each cell by itself, and *frame* compares the
//!   two on what each step leads to.
//! - The exploration takes every move that a replica has in a state, and the network offers all that was
//!   sent: that the engine and the network lose nothing is tested, by comparison with delivery one by one and
//!   with an interpreter that shares no code, and, where no client calls, in every run by *walks* of real replicas
//!   ([`crate::walks`]). Walks do not use the engine. They use the network: every eighth compares it with what was
//!   sent.
//! - Messages about numbers above the highest do not exist, in executions and in the lazy exploration alike.
//!
//! In the words of the field: the lazy exploration is a stuttering simulation of the message-level protocol,
//! per process, with the receipts abstracted away; the cartesian product of the cells is the abstract domain
//! in which it is checked.

use super::conditions::{Conditions, Watch};
use super::local::{CoreId, LocalSystem};
use super::must::Must;
use super::simulated::Simulation;
use super::tasks::Tasks;
use super::{asked, clients};
use crate::mutants::Rulebook;
use crate::world::{
    BINDING, CARRIED, Clients, MessageId, RESENDING, RESTARTING, Tables, World, WorldConfig, reply_subjects,
};
use pbft::types::{ReplicaId, View};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) const SERVICES: &str = "services";
pub(super) const FRAME: &str = "frame";
pub(super) const ANY_V: &str = "any V";
pub(crate) const CONTRACT: &str = "contract";
/// The name of the condition that implies that lazy delivery loses nothing.
pub const SIMULATION: &str = "simulation";

/// Whether the local systems of a world are walked: with two numbers and a view change they are too large if
/// there are two requests or crashes; so they are with a checkpoint and three views, with two requests and four
/// views, and with many replicas and a view change.
pub(crate) fn is_walked(config: &WorldConfig) -> bool {
    let views = config.max_view.0;
    let numbers = config.max_seq.0;
    let checkpoints = config.checkpoint_interval.is_some();
    let small = match views {
        0 => numbers == 1 || numbers == 2 && !checkpoints,
        1 if numbers == 2 => {
            let is_plain = config.crashes.is_none() && config.clients == Clients::Implicit;
            config.requests == 1 && config.cluster.n() <= 4 && is_plain
        }
        1 => numbers == 1 && config.cluster.n() <= 4,
        2 => numbers == 1 && config.cluster.n() <= 4 && !checkpoints && config.max_batch == 1,
        3 => numbers == 1 && config.cluster.n() <= 4 && !checkpoints && config.requests == 1,
        _ => false,
    };
    // With clients and nobody Byzantine requests are addressed, and with a view change the simulation is not
    // shown: a step of a new primary that knows of a request has no counterpart. Those are searched only.
    let reach_all = config.clients == Clients::Implicit || views == 0 || !config.byzantine.is_empty();
    small && reach_all && (config.clients == Clients::Implicit || views <= 1)
}

/// Whether the simulation was checked, and something of each condition that it rests on in this world.
pub(crate) fn is_shown(config: &WorldConfig, conditions: &Conditions) -> bool {
    needed(config).all(|name| conditions.counts.get(name).is_some_and(|&(checked, _)| checked > 0))
}

fn needed(config: &WorldConfig) -> impl Iterator<Item = &'static str> {
    let always = [SERVICES, FRAME, RESENDING, SIMULATION, BINDING, CARRIED];
    let more = [
        (CONTRACT, config.rules == Rulebook::default()),
        (ANY_V, config.max_view.0 > 0),
        (RESTARTING, config.crashes.is_some()),
    ];
    always.into_iter().chain(more.into_iter().filter(|&(_, applies)| applies).map(|(name, _)| name))
}

/// How large the unreduced local systems are, of all correct replicas together.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Walked {
    /// Local states without what is merely received.
    pub cores: u64,
    /// Steps taken by the replica's code: each stands for all states that differ in what it does not look at.
    pub steps_taken: u64,
    /// Those that change or send something.
    pub steps_recorded: u64,
    /// The most that any one cell of what is received can hold at one core.
    pub most_held: u32,
}

/// Between two looks at whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A part of the check, which can be done apart from others.
enum Task {
    /// The local system of a replica is to be walked.
    Walk(ReplicaId),
    /// Some of its cores are to be asked.
    Ask(Arc<Whole>, Range<CoreId>),
    /// Its steps are to be simulated.
    Simulate(Arc<Whole>),
}

/// A local system that has been walked.
pub(super) struct Whole {
    pub(super) system: LocalSystem,
    pub(super) must: Must,
    /// The messages that it is about, and no local states.
    pub(super) tables: Tables,
}

/// How many cores are asked in one piece: so few that all threads end at about the same time.
const ASKED_AT_ONCE: u32 = 512;

/// Checks it for every correct replica, on two threads.
pub(super) fn check(world: &mut World, conditions: &mut Conditions, watch: &mut Watch<'_>) {
    let available = everything(world);
    let world = &*world;
    let own = world.correct().iter().copied().filter(|&replica| world.has_share_in(replica));
    let mut own: Vec<ReplicaId> = own.collect();
    own.sort_by_key(|&replica| Reverse(last_view_of(world.config(), replica)));
    let tasks = Tasks::new(own.into_iter().map(Task::Walk));
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let found = Mutex::new(BTreeMap::new());
    let work = || {
        tasks.work(|task| {
            let (mut own, place) = (Conditions::default(), task.place());
            let mut told = 0;
            let mut tell = |own: &Conditions| {
                made.fetch_add(own.checked() - told, Ordering::Relaxed);
                told = own.checked();
            };
            let mut watch = |own: &Conditions| {
                tell(own);
                stop.load(Ordering::Relaxed).then_some("it was stopped")
            };
            let more = task.done(world, &available, &mut own, &mut watch);
            tell(&own);
            more.into_iter().for_each(|task| tasks.add(task));
            found.lock().expect("nobody panics with the list").insert(place, own);
        });
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        // A thread that panics is finished too: the scope then panics.
        while !threads.iter().all(|thread| thread.is_finished()) {
            std::thread::sleep(LOOK_EVERY);
            // Whoever watches is told how many there are, whatever they are.
            let mut so_far = conditions.clone();
            so_far.add_counted(FRAME, made.load(Ordering::Relaxed), 0, None);
            conditions.stopped = conditions.stopped.or_else(|| watch(&so_far));
            stop.fetch_or(conditions.stopped.is_some(), Ordering::Relaxed);
        }
    });
    for own in found.into_inner().expect("nobody panics with the list").values() {
        conditions.add(own);
    }
    if conditions.stopped.is_none() && conditions.failed() == 0 {
        clients::check(world, &available, conditions, watch);
    }
}

impl Task {
    /// Its place among all, which does not depend on who comes first.
    fn place(&self) -> (ReplicaId, u8, CoreId) {
        match self {
            Task::Walk(replica) => (*replica, 0, 0),
            Task::Ask(whole, cores) => (whole.system.replica, 1, cores.start),
            Task::Simulate(whole) => (whole.system.replica, 2, 0),
        }
    }

    /// Does it; returns what is to be done then.
    fn done(
        self,
        world: &World,
        available: &[MessageId],
        conditions: &mut Conditions,
        watch: &mut Watch<'_>,
    ) -> Vec<Task> {
        match self {
            Task::Walk(replica) => {
                let whole = walk(world, replica, available, conditions, watch);
                return whole.map(Whole::tasks).unwrap_or_default();
            }
            Task::Ask(whole, cores) => {
                let mut tables = whole.tables.with_messages_only(world.config());
                let asked = (&whole.system, &whole.must, cores);
                asked::check(world, &mut tables, asked, conditions, watch);
            }
            Task::Simulate(whole) => {
                let mut tables = whole.tables.with_messages_only(world.config());
                tables.put_in_place(whole.system.new_views(&tables));
                Simulation::new(world, tables, &whole.system, &whole.must).check(conditions, watch);
            }
        }
        Vec::new()
    }
}

/// The last view whose primary is this replica. Those of late views take longest, as they put NEW-VIEWs
/// together of all that can arrive for them.
fn last_view_of(config: &WorldConfig, replica: ReplicaId) -> Option<View> {
    (0..=config.max_view.0).rev().map(View).find(|&view| config.cluster.primary(view) == replica)
}

/// Walks the local system of a replica; returns it if it is whole, and nothing failed.
pub(super) fn walk(
    world: &World,
    replica: ReplicaId,
    available: &[MessageId],
    conditions: &mut Conditions,
    watch: &mut Watch<'_>,
) -> Option<Whole> {
    let mut tables = world.tables.with_messages_only(world.config());
    let reaching: Vec<MessageId> =
        available.iter().copied().filter(|&id| world.tables.reaches(id, replica.into())).collect();
    let (max_view, by_contract) = (world.config().max_view, world.is_held_to_contract());
    let mut system = LocalSystem::new(&mut tables, replica, &reaching, max_view, by_contract);
    tables.put_in_place(system.new_views(&tables));
    system.walk(&mut tables, conditions, watch);
    conditions.walked = Some(Walked {
        cores: system.cores() as u64,
        steps_taken: system.taken,
        steps_recorded: system.steps.count() as u64,
        most_held: system.most_held(),
    });
    if conditions.stopped.is_some() || conditions.failed() > 0 {
        return None;
    }
    let must = Must::of(&tables, &system);
    Some(Whole { tables: tables.with_messages_only(world.config()), system, must })
}

impl Whole {
    /// What is to be done with it: what takes longest first.
    fn tasks(self) -> Vec<Task> {
        let whole = Arc::new(self);
        let cores = CoreId::try_from(whole.system.cores()).expect("names of cores are 32 bits long");
        let pieces = (0..cores).step_by(ASKED_AT_ONCE as usize);
        let ask = |first: CoreId| Task::Ask(whole.clone(), first..cores.min(first + ASKED_AT_ONCE));
        [Task::Simulate(whole.clone())].into_iter().chain(pieces.map(ask)).collect()
    }
}

/// All that is sent in any state, and all that the adversary makes of it.
pub(super) fn everything(world: &mut World) -> Vec<MessageId> {
    let mut all: BTreeSet<MessageId> = world.network.given().iter().copied().collect();
    for position in 0..world.nodes().len() {
        all.extend(world.agents[position].all().flat_map(|agent| agent.sent.iter().copied()));
    }
    for (_, merged) in world.tables.all_merged() {
        all.extend(merged);
    }
    let sent: Vec<_> = all.iter().map(|&id| world.tables.message(id).clone()).collect();
    let made = world.network.adversary().derive(&sent.iter().collect::<Vec<_>>());
    all.extend(world.network.ever_available());
    all.extend(made.into_iter().map(|message| world.tables.add_message(message)));
    if world.config().clients == Clients::Actors {
        let adversary = world.network.adversary();
        let about = |subject| adversary.about(subject, &[], None);
        let replies: Vec<_> = reply_subjects(world.config()).into_iter().flat_map(about).collect();
        all.extend(replies.into_iter().map(|message| world.tables.add_message(message)));
    }
    all.into_iter().collect()
}
