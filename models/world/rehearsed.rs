//! Macro steps worked out before they are learnt, by all threads.
//!
//! Learning gives names, so one thread does it, in order. What a step of a replica does has no names in it but those of
//! the state and the message, so it can be taken before, by whichever thread. Each closure that will be learnt is gone
//! through, and every step in it is taken and kept here; learning goes through it again, finds each step here, and
//! gives names to what it leads to and sends. Whether it finds one changes nothing but the time it takes.

use super::locals::Locals;
use super::network::{AvailableId, SubjectNumber};
use super::settle::Settled;
use super::tables::{Bare, Input, Local, LocalId, Step, Tables};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use indexmap::{IndexMap, IndexSet};
use pbft::types::ReplicaId;
use std::sync::{Arc, Mutex, PoisonError};

/// A local state in a closure.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
enum At {
    /// One that had a name before.
    Named(LocalId),
    /// One of those kept here.
    New(usize),
}

/// A local state that had no name.
struct New {
    hash: u64,
    /// Until it has one.
    local: Option<Box<Local>>,
    name: Option<LocalId>,
}

struct Taken {
    to: At,
    settled: Settled,
}

/// The steps of a replica in closures from one normal form, all by messages about one subject.
pub(super) struct Rehearsal {
    replica: ReplicaId,
    states: Vec<New>,
    places: HashTable<usize>,
    steps: HashMap<(At, Input), Taken, FixedState>,
    bare: HashMap<At, (At, At), FixedState>,
    /// Which of the states have been given these names.
    names: HashMap<LocalId, usize, FixedState>,
    done: Vec<AvailableId>,
}

impl Rehearsal {
    fn new(replica: ReplicaId) -> Self {
        Rehearsal {
            replica,
            states: Vec::new(),
            places: HashTable::new(),
            steps: HashMap::default(),
            bare: HashMap::default(),
            names: HashMap::default(),
            done: Vec::new(),
        }
    }

    /// Takes every step of a closure, by these inputs.
    fn go_through(&mut self, tables: &Tables, local: LocalId, accumulates: bool, inputs: &[Input]) {
        let mut silent: IndexSet<At, FixedState> = IndexSet::from_iter([At::Named(local)]);
        let mut next = 0;
        while let Some(&from) = silent.get_index(next) {
            next += 1;
            for &input in inputs {
                let (to, sends) = self.step(tables, from, input);
                if to == from && !sends {
                    continue;
                }
                let (alive, normal) = self.bare(tables, to);
                if accumulates && !sends && normal == At::Named(local) {
                    silent.insert(alive);
                }
            }
        }
    }

    /// Where a step leads, and whether it sends something.
    fn step(&mut self, tables: &Tables, from: At, input: Input) -> (At, bool) {
        if let Some(taken) = self.steps.get(&(from, input)) {
            return (taken.to, taken.settled.sends());
        }
        if let At::Named(id) = from
            && let Some(step) = tables.known_step(self.replica, id, input)
        {
            return (At::Named(step.to), !step.sends.is_empty());
        }
        let Some(event) = tables.event_of(self.replica, input) else { return (from, false) };
        let mut local = self.state(tables, from).clone();
        let settled = tables.taken(self.replica, &mut local, event);
        let (to, sends) = (self.place(tables, local), settled.sends());
        self.steps.insert((from, input), Taken { to, settled });
        (to, sends)
    }

    /// A state without its dead parts, and without its receipts too.
    fn bare(&mut self, tables: &Tables, of: At) -> (At, At) {
        if let Some(&known) = self.bare.get(&of) {
            return known;
        }
        if let At::Named(id) = of
            && let Some(known) = tables.known_bare(self.replica, id)
        {
            return (At::Named(known.alive), At::Named(known.normal));
        }
        let (alive, normal) = tables.bared(self.replica, self.state(tables, of));
        let bare = (self.place(tables, alive), self.place(tables, normal));
        self.bare.insert(of, bare);
        bare
    }

    fn state<'a>(&'a self, tables: &'a Tables, at: At) -> &'a Local {
        match at {
            At::Named(id) => tables.local(id),
            At::New(index) => self.states[index].local.as_deref().expect("nothing has got a name yet"),
        }
    }

    fn place(&mut self, tables: &Tables, local: Local) -> At {
        let hash = Locals::hash(&local);
        if let Some(known) = tables.locals().find(hash, &local) {
            return At::Named(known);
        }
        let states = &self.states;
        let is_same =
            |&index: &usize| states[index].hash == hash && states[index].local.as_deref() == Some(&local);
        if let Some(&known) = self.places.find(hash, is_same) {
            return At::New(known);
        }
        self.places.insert_unique(hash, self.states.len(), |&index| self.states[index].hash);
        self.states.push(New { hash, local: Some(Box::new(local)), name: None });
        At::New(self.states.len() - 1)
    }

    fn at(&self, id: LocalId) -> At {
        self.names.get(&id).map_or(At::Named(id), |&index| At::New(index))
    }

    /// The name of a state, which has one afterwards.
    fn name(&mut self, locals: &mut Locals, at: At) -> LocalId {
        let index = match at {
            At::Named(id) => return id,
            At::New(index) => index,
        };
        let new = &mut self.states[index];
        if let Some(local) = new.local.take() {
            let id = locals.insert_hashed(new.hash, local);
            new.name = Some(id);
            self.names.insert(id, index);
        }
        new.name.expect("it has just got one")
    }
}

impl Tables {
    /// A step that was rehearsed, with names.
    pub(super) fn rehearsed_step(&mut self, from: LocalId, input: Input) -> Option<Step> {
        let mut rehearsal = self.rehearsal.take()?;
        let taken = rehearsal.steps.remove(&(rehearsal.at(from), input));
        let step = taken.map(|Taken { to, settled }| {
            let sends = self.name(settled);
            Step { to: rehearsal.name(self.locals_mut(), to), sends }
        });
        self.rehearsal = Some(rehearsal);
        step
    }

    /// The forms of a state, if they were found out while a closure was rehearsed.
    pub(super) fn rehearsed_bare(&mut self, of: LocalId) -> Option<Bare> {
        let mut rehearsal = self.rehearsal.take()?;
        let bare = rehearsal.bare.remove(&rehearsal.at(of)).map(|(alive, normal)| {
            let alive = rehearsal.name(self.locals_mut(), alive);
            Bare { alive, normal: rehearsal.name(self.locals_mut(), normal) }
        });
        self.rehearsal = Some(rehearsal);
        bare
    }
}

/// The position of a replica, a normal form, and the subject.
type Of = (usize, LocalId, SubjectNumber);

/// All of them, until they are asked for.
#[derive(Default)]
pub(super) struct Rehearsals(Mutex<IndexMap<Of, Arc<Mutex<Rehearsal>>, FixedState>>);

impl Rehearsals {
    /// Rehearses the closure by what is available about the subject, unless it has been. Those of one normal form share
    /// their steps.
    pub(super) fn rehearse(
        &self,
        of: Of,
        (tables, replica): (&Tables, ReplicaId),
        available: AvailableId,
        (accumulates, inputs): (bool, impl FnOnce() -> Vec<Input>),
    ) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = all.entry(of).or_insert_with(|| Arc::new(Mutex::new(Rehearsal::new(replica)))).clone();
        drop(all);
        let mut one = one.lock().unwrap_or_else(PoisonError::into_inner);
        if !one.done.contains(&available) {
            one.done.push(available);
            one.go_through(tables, of.1, accumulates, &inputs());
        }
    }

    /// What was rehearsed of it, to be given back.
    pub(super) fn lend(&mut self, of: Of) -> Option<Box<Rehearsal>> {
        let one = self.all().swap_remove(&of)?;
        let one = Arc::into_inner(one)?.into_inner().unwrap_or_else(PoisonError::into_inner);
        Some(Box::new(one))
    }

    pub(super) fn give_back(&mut self, of: Of, one: Option<Box<Rehearsal>>) {
        if let Some(one) = one {
            self.all().insert(of, Arc::new(Mutex::new(*one)));
        }
    }

    /// Forgets what nobody has asked for.
    pub(super) fn clear(&mut self) {
        self.all().clear();
    }

    /// How many steps nobody has asked for.
    #[cfg(test)]
    pub(super) fn steps(&mut self) -> usize {
        let all = self.all().values();
        all.map(|one| one.lock().unwrap_or_else(PoisonError::into_inner).steps.len()).sum()
    }

    fn all(&mut self) -> &mut IndexMap<Of, Arc<Mutex<Rehearsal>>, FixedState> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}
