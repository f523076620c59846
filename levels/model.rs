//! The search for any model of `stateright` whose states can be written as a few words.

use super::{Exploration, Judgement, Limits, Outcome, Progress, Space, Successors, Unlearnt, explore};
use stateright::report::{ReportData, ReportDiscovery, Reporter};
use stateright::{Checker, Expectation, Model, Path, Property};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::thread::JoinHandle;
use std::time::Instant;

/// A model whose states are a few words of 32 bits, and come back from them. Small words take few bits: names
/// and counts rather than hashes.
///
/// States are told apart by their words alone. So every state of the model that is met is packed and unpacked,
/// and the search panics if it does not come back as it was.
pub trait Packed: Model {
    /// Words in a state, the same for all of them: at least one, and at most as [`Space::width`].
    fn width(&self) -> usize;

    /// Adds the words of a state to `words`, which may hold others; different states have different words.
    fn pack(&self, state: &Self::State, words: &mut Vec<u32>);

    /// The state with these words.
    fn unpack(&self, words: &[u32]) -> Self::State;
}

/// A packed model as a [`Space`], for what [`check`] does not do: to keep states on disk
/// ([`explore_in`](crate::explore_in)), or to spread them over workers and processes
/// ([`explore_among`](crate::explore_among)). A state is unsound that decides one of its properties: in which
/// one that is to hold always does not, or one that is to hold sometimes does. So a search ends at the first.
pub struct PackedSpace<'a, M: Packed> {
    model: &'a M,
    properties: Vec<Property<M>>,
}

impl<'a, M: Packed> PackedSpace<'a, M> {
    /// With all properties of the model.
    ///
    /// # Errors
    /// If one is to hold eventually, as this search knows no cycles, or two have the same name.
    pub fn new(model: &'a M) -> Result<Self, &'static str> {
        let properties = model.properties();
        if properties.iter().any(|property| matches!(property.expectation, Expectation::Eventually)) {
            return Err("this search decides properties that hold always or sometimes, not eventually");
        }
        let names: BTreeSet<&str> = properties.iter().map(|property| property.name).collect();
        if names.len() < properties.len() {
            return Err("two properties of the model have one name: give each its own");
        }
        Ok(PackedSpace { model, properties })
    }

    /// Without the property of this name. What is left is another space: a
    /// directory holds one of them.
    pub fn leave_out(&mut self, name: &str) {
        self.properties.retain(|property| property.name != name);
    }

    /// The properties that a state decides.
    fn decided(&self, state: &M::State) -> impl Iterator<Item = &'static str> {
        let decides = |property: &&Property<M>| {
            let holds = (property.condition)(self.model, state);
            matches!(property.expectation, Expectation::Sometimes) == holds
        };
        self.properties.iter().filter(decides).map(|property| property.name)
    }

    /// What [`Outcome::Violated`] has found, as states and actions of the model.
    ///
    /// # Panics
    /// If that is no way through this model.
    pub fn path(&self, words: &[Vec<u32>]) -> Path<M::State, M::Action>
    where
        M::State: Clone + PartialEq,
        M::Action: Clone + PartialEq,
    {
        let states: Vec<M::State> = words.iter().map(|words| self.model.unpack(words)).collect();
        let action = |pair: &[M::State]| {
            let mut steps = self.model.next_steps(&pair[0]).into_iter();
            steps
                .find(|(_, next)| *next == pair[1])
                .map(|(action, _)| action)
                .expect("one leads to the other")
        };
        let actions: Vec<M::Action> = states.windows(2).map(action).collect();
        let path = Path::from_actions(self.model, states[0].clone(), &actions);
        path.expect("the way was found in the model")
    }

    fn packed(&self, state: &M::State) -> Vec<u32>
    where
        M::State: PartialEq,
    {
        let mut words = Vec::with_capacity(self.model.width());
        self.model.pack(state, &mut words);
        let (count, width) = (words.len(), self.model.width());
        assert!(count == width, "Packed::pack has added {count} words, and Packed::width says {width}");
        let is_same = self.model.unpack(&words) == *state;
        assert!(
            is_same,
            "Packed::unpack makes another state of the words {words:?} than they were packed from"
        );
        words
    }
}

impl<M> Space for PackedSpace<'_, M>
where
    M: Packed + Sync,
    M::State: PartialEq,
{
    type Scratch = ();

    fn width(&self) -> usize {
        self.model.width()
    }

    fn initial(&mut self) -> Vec<Vec<u32>> {
        let states = self.model.init_states().into_iter();
        states.filter(|state| self.model.within_boundary(state)).map(|state| self.packed(&state)).collect()
    }

    fn expand(
        &self,
        _: usize,
        words: &[u32],
        (): &mut (),
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        let state = self.model.unpack(words);
        let mut actions = Vec::new();
        self.model.actions(&state, &mut actions);
        let next = actions.into_iter().filter_map(|action| self.model.next_state(&state, action));
        let next = next.filter(|to| self.model.within_boundary(to)).map(|to| self.packed(&to));
        let mut next: Vec<Vec<u32>> = next.filter(|next| next != words).collect();
        next.sort_unstable();
        next.dedup();
        next.iter().for_each(|next| successors(next));
        Ok(if self.decided(&state).next().is_some() { Judgement::Unsound } else { Judgement::Sound })
    }

    /// The properties that the state decides.
    fn complaint(&self, words: &[u32]) -> String {
        self.decided(&self.model.unpack(words)).collect::<Vec<_>>().join(", ")
    }
}

/// A property, by its name, and the way to a state that decides it.
type Discovery<M> = (&'static str, Path<<M as Model>::State, <M as Model>::Action>);

/// What a search has found out about a model: a [`Checker`] for reports and assertions of `stateright`. All of
/// it is over, also when [`Checker::is_done`] says that it was cut short.
pub struct Checked<M: Packed> {
    model: M,
    /// How the last search ended: exhausted, or cut short, unless every property was decided before. The time
    /// is that of all.
    pub exploration: Exploration,
    discoveries: Vec<Discovery<M>>,
    /// How many states the model lists to start from.
    initial: u64,
}

/// Searches a model level by level: for each property that holds always the shortest way to a state in which
/// it does not, and for each that holds sometimes to one in which it does. It begins again after each find,
/// so that counts are those of a whole search, unless each property is decided: then the last search ends with
/// that. `progress` may stop it; it is called every half second.
///
/// # Errors
/// As [`PackedSpace::new`].
///
/// # Panics
/// As [`explore`], and if a state does not come back from its words as it was.
pub fn check<M>(
    model: M,
    limits: Limits,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Checked<M>, &'static str>
where
    M: Packed + Sync,
    M::State: Clone + PartialEq,
    M::Action: Clone + PartialEq,
{
    let began = Instant::now();
    let mut space = PackedSpace::new(&model)?;
    let initial = space.initial().len() as u64;
    let mut discoveries = Vec::new();
    let mut exploration = loop {
        let time = limits.time.saturating_sub(began.elapsed());
        let exploration = explore(&mut space, Limits { time, ..limits }, progress);
        let Outcome::Violated { path, .. } = &exploration.outcome else { break exploration };
        let path = space.path(path);
        let decided: Vec<&'static str> = space.decided(path.last_state()).collect();
        for name in decided {
            discoveries.push((name, path.clone()));
            space.leave_out(name);
        }
        if space.properties.is_empty() {
            break exploration;
        }
    };
    exploration.elapsed = began.elapsed();
    Ok(Checked { model, exploration, discoveries, initial })
}

// What this trait hands out is looked up by name, never gone through.
#[allow(clippy::disallowed_types)]
impl<M> Checker<M> for Checked<M>
where
    M: Packed,
{
    fn model(&self) -> &M {
        &self.model
    }

    /// States to start from, and edges between different states, each once.
    fn state_count(&self) -> usize {
        usize::try_from(self.initial + self.exploration.transitions).unwrap_or(usize::MAX)
    }

    fn unique_state_count(&self) -> usize {
        usize::try_from(self.exploration.states).unwrap_or(usize::MAX)
    }

    fn max_depth(&self) -> usize {
        self.exploration.depth + usize::from(self.exploration.states > 0)
    }

    fn discoveries(&self) -> std::collections::HashMap<&'static str, Path<M::State, M::Action>>
    where
        M::State: Clone + PartialEq,
        M::Action: Clone + PartialEq,
    {
        self.discoveries.iter().cloned().collect()
    }

    fn handles(&mut self) -> Vec<JoinHandle<()>> {
        Vec::new()
    }

    /// Whether everything was visited or every property decided. If not, the search was cut short.
    fn is_done(&self) -> bool {
        !matches!(self.exploration.outcome, Outcome::NotExhausted { .. })
    }

    /// Reports once, as nothing goes on any more: "done" only if it is.
    fn report<R>(self, reporter: &mut R) -> Self
    where
        M::Action: Debug + PartialEq + Clone,
        M::State: Debug + Hash + PartialEq + Clone,
        R: Reporter<M>,
    {
        reporter.report_checking(ReportData {
            total_states: self.state_count(),
            unique_states: self.unique_state_count(),
            max_depth: self.max_depth(),
            duration: self.exploration.elapsed,
            done: self.is_done(),
        });
        let told = |(name, path): &Discovery<M>| {
            let (path, classification) = (path.clone(), self.discovery_classification(name));
            (*name, ReportDiscovery { path, classification })
        };
        reporter.report_discoveries(&self.model, self.discoveries.iter().map(told).collect());
        self
    }

    fn join_and_report<R>(self, reporter: &mut R) -> Self
    where
        M::Action: Debug + PartialEq + Clone,
        M::State: Debug + Hash + PartialEq + Clone,
        Self: Send + Sync,
        R: Reporter<M> + Send,
    {
        self.report(reporter)
    }
}
