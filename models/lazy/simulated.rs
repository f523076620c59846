//! Moves of the lazy exploration, looked for: they must do what a step of a local system does
//! ([`theorem`](super::theorem)).

use super::conditions::{Conditions, Watch};
use super::local::LocalSystem;
use super::must::{Events, Must};
use super::steps::Step;
use super::theorem::SIMULATION;
use crate::world::{Input, Local, LocalId, MessageId, Move, Tables, World};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::replica::Subject;
use pbft::types::{Principal, ReplicaId};
use std::collections::BTreeSet;
use std::sync::Arc;

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
pub(super) struct Simulation<'a> {
    world: &'a World,
    tables: Tables,
    system: &'a LocalSystem,
    must: &'a Must,
    normal: Vec<LocalId>,
    /// The events that are messages about a subject.
    about: IndexMap<Subject, Events, FixedState>,
    answers: IndexMap<Question, bool, FixedState>,
    moves: IndexMap<Occasion, Arc<Vec<Move>>, FixedState>,
}

/// Macro steps in a row that stand for one step; more are not looked for.
const MOST_MOVES: usize = 8;

impl<'a> Simulation<'a> {
    pub(super) fn new(world: &'a World, mut tables: Tables, system: &'a LocalSystem, must: &'a Must) -> Self {
        let mut normal = Vec::new();
        for id in 0..system.cores() {
            let core = system.core(u32::try_from(id).expect("names of cores are 32 bits long"));
            normal.push(normal_form(&mut tables, system.replica, core));
        }
        let mut about: IndexMap<Subject, Events, FixedState> = IndexMap::default();
        for (event, &id) in system.messages.iter().enumerate() {
            if let Some(subject) = Subject::of(tables.message(id)) {
                let none = || Events::none(system.messages.len());
                about.entry(subject).or_insert_with(none).insert(event);
            }
        }
        Simulation {
            world,
            tables,
            must,
            system,
            normal,
            about,
            answers: IndexMap::default(),
            moves: IndexMap::default(),
        }
    }

    pub(super) fn check(&mut self, conditions: &mut Conditions, watch: &mut Watch<'_>) {
        let system = self.system;
        for (number, (step, _)) in system.steps.iter().enumerate() {
            if !conditions.goes_on(watch) {
                return;
            }
            let (from, to) = (self.normal[step.from as usize], self.normal[step.to as usize]);
            if from == to && step.sends.is_empty() {
                // No move at all does the same.
                continue;
            }
            let delivered = self.must.by(number);
            let holds = self.is_simulated(step, from, to, &delivered);
            conditions.note(SIMULATION, holds, || self.failure(step, &delivered));
        }
    }

    fn is_simulated(&mut self, step: &Step, from: LocalId, to: LocalId, delivered: &Events) -> bool {
        let messages = &self.system.messages;
        let subject = messages.get(step.event as usize).and_then(|&id| Subject::of(self.tables.message(id)));
        // Most are simulated by what is about the same subject.
        let about = subject.and_then(|subject| self.about.get(&subject));
        let few = about.map(|about| delivered.both(about).map(|event| messages[event]).collect());
        let may_crash = step.crash.is_some();
        let mut leads =
            |messages| self.leads(Question { from, to, sends: step.sends.clone(), messages, may_crash });
        if leads(few.unwrap_or_default()) {
            return true;
        }
        let all = messages.iter().enumerate().filter(|&(event, _)| delivered.contains(event));
        leads(all.map(|(_, &message)| message).collect())
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

#[cfg(test)]
mod tests {
    use super::super::tests::explored;
    use super::super::theorem::{Whole, walk};
    use super::*;
    use crate::world::{Delivery, WorldConfig};
    use pbft::types::{Cluster, View};

    /// Moves may use what must have been delivered, and nothing else that could have been.
    #[test]
    fn a_step_is_not_simulated_by_what_need_not_have_been_delivered() {
        let (world, available) = explored(None);
        let mut conditions = Conditions::default();
        let whole = walk(&world, ReplicaId(1), &available, &mut conditions, &mut |_| None);
        let Whole { system, must, tables } = whole.expect("nothing fails");
        let failed = |must: &Must| {
            let tables = tables.with_messages_only(world.config());
            let mut conditions = Conditions::default();
            Simulation::new(&world, tables, &system, must).check(&mut conditions, &mut |_| None);
            conditions.counts[SIMULATION]
        };
        let (checked, known) = failed(&must);
        let (again, forgotten) = failed(&must.forgotten());
        assert_eq!((checked, known), (again, 0));
        assert!(checked > 100 && forgotten > 10, "{forgotten} of {checked}");
    }

    /// By time-outs alone, one view after another.
    #[test]
    fn moves_lead_where_they_lead_and_no_further_than_so_many() {
        let most = u64::try_from(MOST_MOVES).unwrap();
        let config = WorldConfig { max_view: View(most + 1), ..WorldConfig::new(Cluster::new(4, 1), 1) };
        let world = World::new(config, Delivery::Lazy).expect("these bounds make sense");
        let whole = walk(&world, ReplicaId(1), &[], &mut Conditions::default(), &mut |_| None);
        let Whole { system, must, tables } = whole.expect("nothing fails");
        let sent_on_the_way: Vec<Arc<[MessageId]>> =
            system.steps.iter().map(|(step, _)| step.sends.clone()).collect();
        assert_eq!((system.cores() as u64, sent_on_the_way.len() as u64), (most + 2, most + 1));
        let mut simulation =
            Simulation::new(&world, tables.with_messages_only(world.config()), &system, &must);
        let normal = simulation.normal.clone();
        let mut leads = |to: usize, sends: &Arc<[MessageId]>| {
            let (from, messages) = (normal[0], Vec::new());
            let sends = sends.clone();
            simulation.leads(Question { from, to: normal[to], sends, messages, may_crash: false })
        };
        let nothing = Arc::default();
        assert!(leads(0, &nothing) && leads(1, &nothing) && leads(MOST_MOVES, &nothing));
        assert!(!leads(MOST_MOVES + 1, &nothing), "more moves are not looked for");
        assert!(leads(1, &sent_on_the_way[0]) && leads(2, &sent_on_the_way[1]));
        assert!(!leads(1, &sent_on_the_way[1]), "that is sent by the next step");
    }
}
