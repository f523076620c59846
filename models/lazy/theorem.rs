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
//!   taken with them for every mixture of receipts; and so is every step by a
//!   time-out with the exponent 1 and the highest (`alike`). Where crashes are part of the world the
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
//!   sent: that the engine and the network lose nothing is tested, in every run by *walks* of real replicas
//!   that use neither ([`crate::walks`]), and by comparison with delivery one by one, and with an interpreter
//!   that shares no code.
//! - Messages about numbers above the highest do not exist, in executions and in the lazy exploration alike.
//!
//! In the words of the field: the lazy exploration is a stuttering simulation of the message-level protocol,
//! per process, with the receipts abstracted away; the cartesian product of the cells is the abstract domain
//! in which it is checked.

use super::conditions::{Conditions, Watch};
use super::local::LocalSystem;
use super::must::{Events, Must};
use super::steps::Step;
use super::{asked, clients};
use crate::world::{
    Clients, Input, Local, LocalId, MessageId, Move, Tables, World, WorldConfig, reply_subjects,
};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::replica::Subject;
use pbft::types::{Principal, ReplicaId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) const SERVICES: &str = "services";
pub(super) const FRAME: &str = "frame";
pub(super) const ANY_V: &str = "any V";
pub(crate) const CONTRACT: &str = "contract";
/// The name of the condition that implies that lazy delivery loses nothing.
pub const SIMULATION: &str = "simulation";

/// Whether the local systems of a world are walked: with two numbers and a checkpoint or a view change, with
/// a checkpoint and three views, with two requests and four views, and with many replicas and a view change
/// they are too large.
pub(crate) fn is_walked(config: &WorldConfig) -> bool {
    let views = config.max_view.0;
    let numbers = config.max_seq.0;
    let checkpoints = config.checkpoint_interval.is_some();
    let small = match views {
        0 => numbers == 1 || numbers == 2 && !checkpoints,
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

/// Checks it for every correct replica, two at a time.
pub(super) fn check(world: &mut World, conditions: &mut Conditions, watch: &mut Watch<'_>) {
    let available = everything(world);
    let world = &*world;
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let found = Mutex::new(Vec::new());
    let own: Vec<ReplicaId> =
        world.correct().iter().copied().filter(|&replica| world.has_share_in(replica)).collect();
    let work = || {
        while let Some(&replica) = own.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut own = Conditions::default();
            let mut watch = |_: &Conditions| stop.load(Ordering::Relaxed).then_some("it was stopped");
            of_replica(world, replica, &available, &mut own, &mut watch);
            found.lock().expect("nobody panics with the list").push(own);
        }
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        // A thread that panics is finished too: the scope then panics.
        while !threads.iter().all(|thread| thread.is_finished()) {
            std::thread::sleep(LOOK_EVERY);
            stop.fetch_or(!conditions.goes_on(watch), Ordering::Relaxed);
        }
    });
    for own in found.into_inner().expect("nobody panics with the list") {
        conditions.add(&own);
    }
    if conditions.stopped.is_none() && conditions.failed() == 0 {
        clients::check(world, &available, conditions, watch);
    }
}

fn of_replica(
    world: &World,
    replica: ReplicaId,
    available: &[MessageId],
    conditions: &mut Conditions,
    watch: &mut Watch<'_>,
) {
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
        return;
    }
    let must = Must::of(&system);
    asked::check(world, &mut tables, (&system, &must), conditions, watch);
    Simulation::new(world, tables, &system, must).check(conditions, watch);
}

/// All that is sent in any state, and all that the adversary makes of it.
fn everything(world: &mut World) -> Vec<MessageId> {
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

/// What is asked of the lazy exploration: from where, to where, sending what, by which messages.
#[derive(Clone, Eq, Hash, PartialEq)]
struct Question {
    from: LocalId,
    to: LocalId,
    sends: Arc<[MessageId]>,
    messages: Vec<MessageId>,
    /// Whether one of the moves may be a crash: if the step is one.
    may_crash: bool,
}

/// A normal form, the number of a subject, and the messages about it.
type Occasion = (LocalId, usize, Vec<MessageId>);

/// Moves of the lazy exploration, looked for.
struct Simulation<'a> {
    world: &'a World,
    tables: Tables,
    system: &'a LocalSystem,
    must: Must,
    normal: Vec<LocalId>,
    answers: IndexMap<Question, bool, FixedState>,
    moves: IndexMap<Occasion, Arc<Vec<Move>>, FixedState>,
}

/// Macro steps in a row that stand for one step; more are not looked for.
const MOST_MOVES: usize = 8;

impl<'a> Simulation<'a> {
    fn new(world: &'a World, mut tables: Tables, system: &'a LocalSystem, must: Must) -> Self {
        let mut normal = Vec::new();
        for id in 0..system.cores() {
            let core = system.core(u32::try_from(id).expect("names of cores are 32 bits long"));
            normal.push(normal_form(&mut tables, system.replica, core));
        }
        Simulation {
            world,
            tables,
            must,
            system,
            normal,
            answers: IndexMap::default(),
            moves: IndexMap::default(),
        }
    }

    fn check(&mut self, conditions: &mut Conditions, watch: &mut Watch<'_>) {
        let system = self.system;
        for (number, (step, _)) in system.steps.iter().enumerate() {
            if !conditions.goes_on(watch) {
                return;
            }
            let (from, to) = (self.normal[step.from as usize], self.normal[step.to as usize]);
            if from == to && step.sends.is_empty() {
                conditions.note(SIMULATION, true, String::new);
                continue;
            }
            let delivered = self.must.by(number);
            let holds = self.is_simulated(step, from, to, &delivered);
            conditions.note(SIMULATION, holds, || self.failure(step, &delivered));
        }
    }

    fn is_simulated(&mut self, step: &Step, from: LocalId, to: LocalId, delivered: &Events) -> bool {
        let all = self.system.messages.iter().enumerate();
        let all: Vec<MessageId> =
            all.filter(|&(event, _)| delivered.contains(event)).map(|(_, &message)| message).collect();
        let subject = |id: &MessageId| Subject::of(self.tables.message(*id));
        let about = self.system.input(step.event).message().and_then(|message| subject(&message));
        // Most are simulated by what is about the same subject.
        let few: Vec<MessageId> =
            all.iter().copied().filter(|id| about.is_some() && subject(id) == about).collect();
        let may_crash = step.crash.is_some();
        let mut leads =
            |messages| self.leads(Question { from, to, sends: step.sends.clone(), messages, may_crash });
        leads(few) || leads(all)
    }

    /// Whether moves by these messages, and time-outs, lead there and send that.
    fn leads(&mut self, question: Question) -> bool {
        if let Some(&known) = self.answers.get(&question) {
            return known;
        }
        let Question { from, to, sends, messages, may_crash } = &question;
        let mut by_subject: Vec<Vec<MessageId>> = vec![Vec::new(); self.world.network.subjects().len()];
        for &message in messages {
            let subject = Subject::of(self.tables.message(message));
            if let Some(number) = self.world.network.subjects().iter().position(|&of| Some(of) == subject) {
                by_subject[number].push(message);
            }
        }
        let mut seen: IndexSet<(LocalId, BTreeSet<MessageId>, bool), FixedState> = IndexSet::default();
        seen.insert((*from, BTreeSet::new(), *may_crash));
        let (mut next, mut level, mut depth) = (0, 1, 0);
        let mut found = false;
        while let Some((at, sent, may_crash)) = seen.get_index(next).cloned() {
            if at == *to && sends.iter().all(|message| sent.contains(message)) {
                found = true;
                break;
            }
            if next == level {
                (level, depth) = (seen.len(), depth + 1);
            }
            next += 1;
            if depth == MOST_MOVES {
                break;
            }
            for step in self.moves_from(at, &by_subject, may_crash) {
                let wanted = step.sends.iter().copied().filter(|message| sends.contains(message));
                let sent = &sent | &wanted.collect();
                seen.insert((step.to, sent, may_crash && step.crash.is_none()));
            }
        }
        self.answers.insert(question, found);
        found
    }

    fn moves_from(&mut self, at: LocalId, by_subject: &[Vec<MessageId>], may_crash: bool) -> Vec<Move> {
        let mut all: Vec<Move> = Vec::new();
        let heeded = self.world.lazily_heeded(&self.tables, self.system.replica, at).into_iter();
        for number in heeded.chain(may_crash.then(|| self.world.crashes())) {
            let inputs = match by_subject.get(number) {
                Some(messages) if messages.is_empty() => continue,
                Some(messages) => messages.clone(),
                None => Vec::new(),
            };
            let key = (at, number, inputs);
            if let Some(known) = self.moves.get(&key) {
                all.extend(known.iter().cloned());
                continue;
            }
            let subject = self.world.network.subjects().get(number).copied();
            let inputs: Vec<Input> = match subject {
                Some(_) => key.2.iter().copied().map(Input::Message).collect(),
                None if number == self.world.crashes() => vec![Input::Crash],
                None => vec![Input::TimeOut],
            };
            let node = Principal::Replica(self.system.replica);
            // Requests are available from the start.
            let inputs = self.world.with_requests(&self.tables, node, at, subject, inputs);
            let moves = super::moves(&mut self.tables, node, at, subject, &inputs);
            let moves = Arc::new(moves);
            all.extend(moves.iter().cloned());
            self.moves.insert(key, moves);
        }
        all.retain(|step| may_crash || step.crash.is_none());
        all
    }

    fn failure(&self, step: &Step, delivered: &Events) -> String {
        let tables = &self.tables;
        let name = |event: u32| tables.tell(self.system.input(event));
        let before =
            (0..).take(self.system.messages.len()).filter(|&event| delivered.contains(event as usize));
        format!(
            "r{}: no moves do what a step does\n  core: {:?}\n  event: {}{}\n  to: {:?}\n  sends: {:?}\n  delivered: {}",
            self.system.replica.0,
            self.system.core(step.from).replica,
            name(step.event),
            step.crash.map(|n| format!(", crashed after {n} effects")).unwrap_or_default(),
            self.system.core(step.to).replica,
            step.sends.iter().map(|&id| tables.message(id)).collect::<Vec<_>>(),
            before.map(name).collect::<Vec<_>>().join("\n             ")
        )
    }
}

/// The normal form of a state, as the lazy exploration keeps it.
fn normal_form(tables: &mut Tables, replica: ReplicaId, state: &Local) -> LocalId {
    let normal = state.replica.normal_form(tables.setup(replica));
    tables.add_local(Local { replica: normal, ledger: None, ..state.clone() })
}
