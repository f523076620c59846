//! The search for models of `stateright`.

use super::*;
use stateright::report::WriteReporter;
use stateright::{Checker, Model, Path, Property};
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
fn a_search_that_was_cut_short_decides_nothing_and_its_report_ends() {
    let limits = Limits { time: Duration::ZERO, ..Limits::default() };
    let cut = check(Jugs, limits, &mut |_| true).expect("no property holds eventually");
    assert!(!cut.is_done());
    let mut told = Vec::new();
    let cut = cut.report(&mut WriteReporter::new(&mut told));
    cut.join_and_report(&mut WriteReporter::new(&mut told));
    let told = String::from_utf8(told).expect("text");
    assert!(told.lines().all(|line| line.starts_with("Checking. ")), "{told}");
    assert_eq!(told.lines().count(), 2);
}

/// A counter, packed in one way or another.
struct Counter {
    from: Vec<u32>,
    to: u32,
    properties: fn() -> Vec<Property<Counter>>,
    /// Words for a state, and how many there are said to be.
    pack: fn(u32) -> Vec<u32>,
    width: usize,
}

impl Default for Counter {
    fn default() -> Self {
        Counter { from: vec![0], to: 20, properties: Vec::new, pack: |count| vec![count], width: 1 }
    }
}

impl Model for Counter {
    type State = u32;
    type Action = ();

    fn init_states(&self) -> Vec<u32> {
        self.from.clone()
    }

    fn actions(&self, _: &u32, actions: &mut Vec<()>) {
        actions.push(());
    }

    fn next_state(&self, state: &u32, (): ()) -> Option<u32> {
        (*state < self.to).then_some(state + 1)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        (self.properties)()
    }
}

impl Packed for Counter {
    fn width(&self) -> usize {
        self.width
    }

    fn pack(&self, state: &u32, words: &mut Vec<u32>) {
        words.extend((self.pack)(*state));
    }

    fn unpack(&self, words: &[u32]) -> u32 {
        words[0]
    }
}

fn checked(counter: Counter, limits: Limits) -> Checked<Counter> {
    check(counter, limits, &mut |_| true).expect("no property holds eventually")
}

#[test]
fn counts_are_those_of_stateright_however_many_states_there_are_to_start_from() {
    let properties: fn() -> Vec<Property<Counter>> = || vec![Property::sometimes("never", |_, _| false)];
    for from in [vec![], vec![20], vec![3, 9]] {
        let counter = || Counter { from: from.clone(), properties, ..Counter::default() };
        let (ours, theirs) = (checked(counter(), Limits::default()), counter().checker().spawn_bfs().join());
        assert_eq!(ours.state_count(), theirs.state_count(), "{from:?}");
        assert_eq!(ours.unique_state_count(), theirs.unique_state_count(), "{from:?}");
        assert_eq!(ours.max_depth() == 0, from.is_empty());
    }
}

#[test]
fn properties_that_cannot_be_decided_or_told_apart_are_refused() {
    let refused = |properties| {
        let counter = Counter { properties, ..Counter::default() };
        check(counter, Limits::default(), &mut |_| true).err()
    };
    let eventually: fn() -> Vec<Property<Counter>> = || vec![Property::eventually("ends", |_, _| false)];
    assert!(refused(eventually).is_some_and(|why| why.ends_with("not eventually")));
    let twice: fn() -> Vec<Property<Counter>> =
        || vec![Property::always("small", |_, count| *count < 5), Property::sometimes("small", |_, _| false)];
    assert!(refused(twice).is_some_and(|why| why.starts_with("two properties")));
}

#[test]
fn a_search_for_no_property_that_was_cut_short_is_not_done() {
    assert!(checked(Counter::default(), Limits::default()).is_done());
    assert!(!checked(Counter::default(), Limits { states: 3, ..Limits::default() }).is_done());
}

/// What a search of it panics with, by threads and by workers.
fn panics(pack: fn(u32) -> Vec<u32>, width: usize) -> [String; 2] {
    let counter = || Counter { pack, width, ..Counter::default() };
    let among = || {
        let counter = counter();
        let mut space = PackedSpace::new(&counter).expect("no property holds eventually");
        let workers = Workers { here: 2, peers: None };
        explore_among(&mut space, Limits::default(), None, workers, &mut |_| true).map(drop).ok();
    };
    let alone = || drop(checked(counter(), Limits::default()));
    [std::panic::catch_unwind(alone), std::panic::catch_unwind(among)].map(|caught| {
        let panic = caught.expect_err("it is noticed");
        panic.downcast_ref::<String>().map_or_else(|| "no words".into(), Clone::clone)
    })
}

#[test]
fn states_that_are_not_told_apart_by_their_words_are_noticed() {
    let what = "Packed::unpack makes another state of the words [3] than they were packed from";
    assert_eq!(panics(|count| vec![count.min(3)], 1), [what; 2]);
    let what = "Packed::pack has added 2 words, and Packed::width says 1";
    assert_eq!(panics(|count| vec![count; if count < 5 { 1 } else { 2 }], 1), [what; 2]);
    let what = "Packed::pack has added 1 words, and Packed::width says 2";
    assert_eq!(panics(|count| vec![count; if count < 5 { 2 } else { 1 }], 2), [what; 2]);
}

#[test]
fn a_packed_model_is_explored_on_disk_and_among_workers() {
    let ways = [0, 2].map(|here| {
        let temporary = tempfile::tempdir().expect("a directory");
        let mut space = PackedSpace::new(&Jugs).expect("no property holds eventually");
        let mut found = Vec::new();
        while let Some(path) = next(&mut space, &temporary.path().join(found.len().to_string()), here) {
            let way = space.path(&path);
            for name in space.complaint(path.last().expect("it ends")).split(", ") {
                found.push((name.to_owned(), way.clone().into_actions()));
                space.leave_out(name);
            }
        }
        found
    });
    let expected = check(Jugs, Limits::default(), &mut |_| true).expect("no property holds eventually");
    assert_eq!(ways[0].len(), 2);
    for (name, way) in &ways[0] {
        assert_eq!(expected.discoveries()[name.as_str()].clone().into_actions(), *way);
    }
    assert_eq!(ways[0], ways[1]);
}

/// The way to the next find, if there is one.
fn next(space: &mut PackedSpace<'_, Jugs>, path: &std::path::Path, here: usize) -> Option<Vec<Vec<u32>>> {
    let at = tests_on_disk::directory(path, true);
    let (limits, progress) = (Limits::default(), &mut |_: Progress| true);
    let found = match here {
        0 => explore_in(space, limits, Some(&at), progress).expect("no trouble"),
        _ => explore_among(space, limits, Some(&at), Workers { here, peers: None }, progress)
            .expect("nobody is gone"),
    };
    match found.outcome {
        Outcome::Violated { path, .. } => Some(path),
        _ => None,
    }
}
