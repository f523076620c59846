//! The search for any model of `stateright` whose states can be written as a few words.

use super::{Exploration, Judgement, Limits, Outcome, Progress, Space, Successors, Unlearnt, explore};
use stateright::{Checker, Expectation, Model, Path};
use std::thread::JoinHandle;

/// A model whose states are a few words of 32 bits, and come back from them. Small words take few bits: names
/// and counts rather than hashes.
pub trait Packed: Model {
    /// Words in a state, the same for all of them.
    fn width(&self) -> usize;

    /// Adds the words of a state to `words`; different states have different words.
    fn pack(&self, state: &Self::State, words: &mut Vec<u32>);

    /// The state with these words.
    fn unpack(&self, words: &[u32]) -> Self::State;
}

/// A property, by its name, and the way to a state that decides it.
type Discovery<M> = (&'static str, Path<<M as Model>::State, <M as Model>::Action>);

/// What a search has found out about a model: a [`Checker`] for reports and assertions of `stateright`.
pub struct Checked<M: Packed> {
    model: M,
    /// How the last search ended: exhausted, or cut short, unless every property was decided before.
    pub exploration: Exploration,
    discoveries: Vec<Discovery<M>>,
}

/// Searches a model level by level: for each property that holds always the shortest way to a state in which
/// it does not, and for each that holds sometimes to one in which it does. It begins again after each find,
/// so that counts are those of a whole search. `progress` may stop it.
///
/// # Errors
/// If a property is to hold eventually: this search knows no cycles.
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
    let properties = model.properties();
    if properties.iter().any(|property| matches!(property.expectation, Expectation::Eventually)) {
        return Err("this search decides properties that hold always or sometimes, not eventually");
    }
    let mut open: Vec<bool> = properties.iter().map(|_| true).collect();
    let mut discoveries = Vec::new();
    loop {
        let mut space = OfModel { model: &model, open: &open };
        let exploration = explore(&mut space, limits, progress);
        let Outcome::Violated { path, .. } = &exploration.outcome else {
            return Ok(Checked { model, exploration, discoveries });
        };
        let states: Vec<M::State> = path.iter().map(|words| model.unpack(words)).collect();
        let last = states.last().expect("a way ends somewhere");
        for (number, property) in properties.iter().enumerate() {
            if open[number] && decides(&property.expectation, (property.condition)(&model, last)) {
                open[number] = false;
                discoveries.push((property.name, path_of(&model, &states)));
            }
        }
        if !open.contains(&true) {
            return Ok(Checked { model, exploration, discoveries });
        }
    }
}

/// Whether a state in which the condition holds, or not, is what is looked for.
fn decides(expectation: &Expectation, holds: bool) -> bool {
    matches!(expectation, Expectation::Sometimes) == holds
}

fn path_of<M: Model>(model: &M, states: &[M::State]) -> Path<M::State, M::Action>
where
    M::State: Clone + PartialEq,
    M::Action: Clone + PartialEq,
{
    let action = |pair: &[M::State]| {
        let mut steps = model.next_steps(&pair[0]).into_iter();
        steps.find(|(_, next)| *next == pair[1]).map(|(action, _)| action).expect("one leads to the other")
    };
    let actions: Vec<M::Action> = states.windows(2).map(action).collect();
    Path::from_actions(model, states[0].clone(), &actions).expect("the way was found in the model")
}

/// A model, and those of its properties that have not been decided.
struct OfModel<'a, M> {
    model: &'a M,
    open: &'a [bool],
}

impl<M: Packed + Sync> Space for OfModel<'_, M> {
    /// Words of successors, and actions.
    type Scratch = ();

    fn width(&self) -> usize {
        self.model.width()
    }

    fn initial(&mut self) -> Vec<Vec<u32>> {
        let packed = |state| {
            let mut words = Vec::new();
            self.model.pack(&state, &mut words);
            words
        };
        self.model
            .init_states()
            .into_iter()
            .filter(|state| self.model.within_boundary(state))
            .map(packed)
            .collect()
    }

    fn expand(
        &self,
        _: usize,
        state: &[u32],
        (): &mut (),
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        let (model, words) = (self.model, state);
        let state = model.unpack(words);
        let (mut actions, mut next, mut all) = (Vec::new(), Vec::new(), Vec::new());
        model.actions(&state, &mut actions);
        for to in actions.into_iter().filter_map(|action| model.next_state(&state, action)) {
            if model.within_boundary(&to) {
                next.clear();
                model.pack(&to, &mut next);
                if next != words && !all.contains(&next) {
                    successors(&next);
                    all.push(next.clone());
                }
            }
        }
        let properties = model.properties();
        let mut open = properties.iter().zip(self.open).filter(|(_, open)| **open);
        let found =
            open.any(|(property, _)| decides(&property.expectation, (property.condition)(model, &state)));
        Ok(if found { Judgement::Unsound } else { Judgement::Sound })
    }

    fn learn(&mut self, _: usize, _: &[u32]) {}

    fn complaint(&self, _: &[u32]) -> String {
        String::new()
    }
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

    fn state_count(&self) -> usize {
        usize::try_from(self.exploration.transitions).unwrap_or(usize::MAX)
    }

    fn unique_state_count(&self) -> usize {
        usize::try_from(self.exploration.states).unwrap_or(usize::MAX)
    }

    fn max_depth(&self) -> usize {
        self.exploration.depth + 1
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

    fn is_done(&self) -> bool {
        self.exploration.outcome == Outcome::Exhausted
            || self.discoveries.len() == self.model.properties().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stateright::Property;
    use std::time::Duration;

    /// Jugs of 3, 5 and 7 litres, filled, emptied and poured into each other.
    #[derive(Clone)]
    struct Jugs;

    const SIZES: [u32; 3] = [3, 5, 7];

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Action {
        Fill(usize),
        Empty(usize),
        Pour(usize, usize),
    }

    impl Model for Jugs {
        type State = [u32; 3];
        type Action = Action;

        fn init_states(&self) -> Vec<[u32; 3]> {
            vec![[0; 3]]
        }

        fn actions(&self, _: &[u32; 3], actions: &mut Vec<Action>) {
            for one in 0..3 {
                actions.extend([Action::Fill(one), Action::Empty(one)]);
                actions.extend((0..3).filter(|&other| other != one).map(|other| Action::Pour(one, other)));
            }
        }

        fn next_state(&self, state: &[u32; 3], action: Action) -> Option<[u32; 3]> {
            let mut next = *state;
            match action {
                Action::Fill(jug) => next[jug] = SIZES[jug],
                Action::Empty(jug) => next[jug] = 0,
                Action::Pour(from, to) => {
                    let poured = next[from].min(SIZES[to] - next[to]);
                    next[from] -= poured;
                    next[to] += poured;
                }
            }
            Some(next)
        }

        fn properties(&self) -> Vec<Property<Self>> {
            vec![
                Property::always("no overflow", |_, state: &[u32; 3]| {
                    state.iter().zip(SIZES).all(|(&in_it, size)| in_it <= size)
                }),
                Property::always("never 4 in two jugs", |_, state: &[u32; 3]| {
                    state.iter().filter(|&&in_it| in_it == 4).count() < 2
                }),
                Property::sometimes("6 litres", |_, state: &[u32; 3]| state.contains(&6)),
            ]
        }
    }

    impl Packed for Jugs {
        fn width(&self) -> usize {
            3
        }

        fn pack(&self, state: &[u32; 3], words: &mut Vec<u32>) {
            words.extend(state);
        }

        fn unpack(&self, words: &[u32]) -> [u32; 3] {
            [words[0], words[1], words[2]]
        }
    }

    #[test]
    fn a_model_is_searched_as_stateright_searches_it() {
        let ours = check(Jugs, Limits::default(), &mut |_| true).expect("no property holds eventually");
        // Its own search stops once all properties are decided, and the first is not.
        let theirs = Jugs.checker().spawn_bfs().join();
        assert_eq!(ours.unique_state_count(), theirs.unique_state_count());
        assert_eq!(ours.max_depth(), theirs.max_depth());
        assert!(ours.is_done());
        let (found, expected) = (ours.discoveries(), theirs.discoveries());
        assert_eq!(found.len(), 2);
        for name in ["never 4 in two jugs", "6 litres"] {
            let steps = |path: &Path<_, _>| path.clone().into_actions().len();
            // Ours is a shortest one.
            assert!(steps(&found[name]) <= steps(&expected[name]), "{name}");
        }
        ours.assert_no_discovery("no overflow");
    }

    #[test]
    fn a_search_that_was_cut_short_decides_nothing() {
        let limits = Limits { time: Duration::ZERO, ..Limits::default() };
        let cut = check(Jugs, limits, &mut |_| true).expect("no property holds eventually");
        assert!(!cut.is_done());
    }
}
