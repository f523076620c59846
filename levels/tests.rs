//! The search, on graphs that are known.

use super::*;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A walk on a grid, with an unsound corner; every column has to be learnt.
struct Grid {
    size: u32,
    unsound: Option<(u32, u32)>,
    learnt: BTreeSet<u32>,
}

impl Grid {
    fn new(size: u32, unsound: Option<(u32, u32)>) -> Self {
        Grid { size, unsound, learnt: BTreeSet::new() }
    }
}

impl Space for Grid {
    type Scratch = ();

    fn width(&self) -> usize {
        2
    }

    fn initial(&mut self) -> Vec<Vec<u32>> {
        vec![vec![0, 0]]
    }

    fn expand(
        &self,
        _: usize,
        state: &[u32],
        (): &mut (),
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        let (x, y) = (state[0], state[1]);
        if x + 1 < self.size {
            successors(&[x + 1, y]);
        }
        if !self.learnt.contains(&x) {
            return Err(Unlearnt);
        }
        if y + 1 < self.size {
            successors(&[x, y + 1]);
        }
        Ok(if Some((x, y)) == self.unsound { Judgement::Unsound } else { Judgement::Sound })
    }

    fn learn(&mut self, _: usize, state: &[u32]) {
        self.learnt.insert(state[0]);
    }

    fn complaint(&self, _: &[u32]) -> String {
        "unsound".into()
    }
}

fn run(grid: &mut Grid, threads: usize) -> Exploration {
    explore(grid, Limits { threads, ..Limits::default() }, &mut |_| true)
}

#[test]
fn every_state_and_every_edge_is_counted_once_by_any_number_of_threads() {
    for threads in [1, 2, 3] {
        let found = run(&mut Grid::new(300, None), threads);
        assert_eq!(found.outcome, Outcome::Exhausted);
        assert_eq!((found.states, found.transitions, found.depth), (90_000, 2 * 300 * 299, 598));
    }
}

#[test]
fn a_violation_comes_with_a_shortest_path_the_same_for_any_number_of_threads() {
    let paths = [1, 2].map(|threads| {
        let found = run(&mut Grid::new(20, Some((2, 3))), threads);
        let Outcome::Violated { what, path } = found.outcome else { panic!("not found") };
        assert_eq!((what.as_str(), path.len(), path.last()), ("unsound", 6, Some(&vec![2, 3])));
        path
    });
    assert_eq!(paths[0], paths[1]);
}

#[test]
fn a_run_over_a_limit_is_not_exhausted() {
    let limits = [
        Limits { states: 100, ..Limits::default() },
        Limits { time: Duration::ZERO, ..Limits::default() },
        Limits { bytes: 1, allocated: || 2, ..Limits::default() },
    ];
    for limits in limits {
        let found = explore(&mut Grid::new(300, None), limits, &mut |_| true);
        assert!(matches!(found.outcome, Outcome::NotExhausted { .. }));
        assert!(found.states < 90_000);
    }
}

/// Memory can be given back before the search looks again; what was left out when there was too little is not visited.
#[test]
fn a_run_that_was_over_a_limit_for_a_moment_is_not_exhausted() {
    static LOOKS: AtomicUsize = AtomicUsize::new(0);
    fn at_one_look() -> usize {
        2 * usize::from(LOOKS.fetch_sub(1, Ordering::Relaxed) == 0)
    }
    let limits = Limits { threads: 1, bytes: 1, allocated: at_one_look, ..Limits::default() };
    let mut stopped = [0, 0];
    for look in 0..200 {
        for workers in [1, 2] {
            LOOKS.store(look, Ordering::Relaxed);
            let (mut grid, all) = (Grid::new(20, None), Workers { here: workers, peers: None });
            let found = match workers {
                1 => explore(&mut grid, limits, &mut |_| true),
                _ => explore_among(&mut grid, limits, None, all, &mut |_| true).expect("nobody is gone"),
            };
            match found.outcome {
                Outcome::Exhausted => assert_eq!(found.states, 400, "{workers}, look {look}"),
                _ => stopped[workers - 1] += 1,
            }
        }
    }
    assert!(stopped.iter().all(|&stopped| stopped > 50), "{stopped:?}");
}

#[test]
fn an_interrupted_run_is_not_exhausted() {
    struct Endless;
    impl Space for Endless {
        type Scratch = ();
        fn width(&self) -> usize {
            1
        }
        fn initial(&mut self) -> Vec<Vec<u32>> {
            vec![vec![0]]
        }
        fn expand(
            &self,
            _: usize,
            state: &[u32],
            (): &mut (),
            successors: &mut Successors<'_>,
        ) -> Result<Judgement, Unlearnt> {
            successors(&[state[0].wrapping_add(1)]);
            Ok(Judgement::Sound)
        }
    }
    let found = explore(&mut Endless, Limits::default(), &mut |progress| progress.states < 3);
    assert!(matches!(found.outcome, Outcome::NotExhausted { why: INTERRUPTED }));
}

#[test]
fn a_state_takes_at_most_two_bytes_on_a_grid() {
    let found = run(&mut Grid::new(1000, None), 2);
    let each = found.state_bytes as f64 / found.states as f64;
    assert!(each < 2.0, "{each} bytes a state");
}

/// A graph without any order in it, whose states have many words, small ones first.
pub(crate) struct Tangle {
    pub(crate) words: usize,
    pub(crate) largest: u32,
    /// The number to start from.
    pub(crate) first: u32,
}

impl Tangle {
    fn state(&self, number: u32) -> Vec<u32> {
        let word = |of: usize| (number.wrapping_mul(2_654_435_761) >> (of % 7)).min(number << (of % 5 * 4));
        (0..self.words).map(|of| if of == 0 { number } else { word(of) }).collect()
    }

    fn next(&self, number: u32) -> [u32; 3] {
        let of = |by: u32| number.wrapping_mul(by).wrapping_add(by) % self.largest;
        [(number + 1) % self.largest, of(7), of(1_000_003)]
    }

    /// The distances from the start, found in another way.
    fn distances(&self) -> std::collections::BTreeMap<u32, usize> {
        let mut all = std::collections::BTreeMap::from([(0, 0)]);
        let mut open = std::collections::VecDeque::from([0]);
        while let Some(number) = open.pop_front() {
            let distance = all[&number] + 1;
            for next in self.next(number) {
                if let std::collections::btree_map::Entry::Vacant(vacant) = all.entry(next) {
                    vacant.insert(distance);
                    open.push_back(next);
                }
            }
        }
        all
    }
}

impl Space for Tangle {
    type Scratch = ();

    fn width(&self) -> usize {
        self.words
    }

    fn initial(&mut self) -> Vec<Vec<u32>> {
        vec![self.state(self.first), self.state(self.first)]
    }

    fn expand(
        &self,
        _: usize,
        state: &[u32],
        (): &mut (),
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        assert_eq!(state, self.state(state[0]), "states come as they were listed");
        self.next(state[0]).into_iter().for_each(|next| successors(&self.state(next)));
        Ok(Judgement::Sound)
    }
}

#[test]
fn states_of_any_width_are_all_found_at_their_distances() {
    for words in [1, 2, 3, 5, 7, 8] {
        let mut tangle = Tangle { words, largest: 40_000, first: 0 };
        let distances = tangle.distances();
        let found = explore(&mut tangle, Limits::default(), &mut |_| true);
        assert_eq!(found.outcome, Outcome::Exhausted);
        assert_eq!(found.states, distances.len() as u64);
        assert_eq!(Some(found.depth), distances.values().copied().max());
        assert_eq!(found.transitions, 3 * found.states);
    }
}

#[test]
fn candidates_that_do_not_fit_in_memory_are_held_against_what_is_known_before_there_are_more() {
    let limits = Limits { bytes: 8, allocated: || 8, ..Limits::default() };
    let mut tangle = Tangle { words: 3, largest: 1 << 19, first: 0 };
    let found = explore(&mut tangle, limits, &mut |_| true);
    assert_eq!((found.outcome, found.states), (Outcome::Exhausted, 1 << 19));
}

/// The grid, where each column is prepared before it is learnt.
struct Prepared {
    grid: Grid,
    prepared: Mutex<BTreeSet<u32>>,
    missed: usize,
    used: usize,
}

impl Space for Prepared {
    type Scratch = ();
    fn width(&self) -> usize {
        2
    }
    fn initial(&mut self) -> Vec<Vec<u32>> {
        self.grid.initial()
    }
    fn expand(
        &self,
        depth: usize,
        state: &[u32],
        (): &mut (),
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        self.grid.expand(depth, state, &mut (), successors)
    }
    fn prepare(&self, _: usize, state: &[u32]) {
        self.prepared.lock().unwrap().insert(state[0]);
    }
    fn forget_prepared(&mut self) {
        self.prepared.lock().unwrap().clear();
    }
    fn learn(&mut self, depth: usize, state: &[u32]) {
        let was_prepared = self.prepared.lock().unwrap().contains(&state[0]);
        *(if was_prepared { &mut self.used } else { &mut self.missed }) += 1;
        self.grid.learn(depth, state);
    }
    fn complaint(&self, state: &[u32]) -> String {
        self.grid.complaint(state)
    }
}

#[test]
fn several_threads_prepare_all_that_is_learnt_and_keep_nothing_of_it() {
    let space = || Prepared { grid: Grid::new(50, None), prepared: Mutex::default(), missed: 0, used: 0 };
    let (mut alone, mut several, mut workers) = (space(), space(), space());
    let with = |threads| Limits { threads, ..Limits::default() };
    explore(&mut alone, with(1), &mut |_| true);
    assert_eq!((alone.used, alone.missed), (0, 50), "there would be nobody to do it meanwhile");
    explore(&mut several, with(2), &mut |_| true);
    assert_eq!((several.used, several.missed), (50, 0));
    explore_among(&mut workers, with(1), None, Workers { here: 2, peers: None }, &mut |_| true).unwrap();
    assert_eq!((workers.used, workers.missed), (50, 0));
    assert!([several, workers].iter().all(|space| space.prepared.lock().unwrap().is_empty()));
}

/// States that have more words, or fewer, than there are said to be.
struct Uneven {
    width: usize,
    next: &'static [u32],
}

impl Space for Uneven {
    type Scratch = ();
    fn width(&self) -> usize {
        self.width
    }
    fn initial(&mut self) -> Vec<Vec<u32>> {
        vec![vec![0; self.width]]
    }
    fn expand(
        &self,
        _: usize,
        _: &[u32],
        (): &mut (),
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        successors(self.next);
        Ok(Judgement::Sound)
    }
}

#[test]
fn a_word_too_few_or_too_many_is_noticed() {
    let uneven = [
        (2, &[1][..], "a state has 1 words, and Space::width says 2"),
        (2, &[0, 0, 1], "a state has 3 words, and Space::width says 2"),
        (0, &[], "a state has at least one word"),
    ];
    for (width, next, what) in uneven {
        for here in [0, 2] {
            let explored = || match here {
                0 => drop(explore(&mut Uneven { width, next }, Limits::default(), &mut |_| true)),
                _ => {
                    let (space, workers) = (&mut Uneven { width, next }, Workers { here, peers: None });
                    explore_among(space, Limits::default(), None, workers, &mut |_| true).map(drop).unwrap();
                }
            };
            let panic = std::panic::catch_unwind(explored).expect_err("it is noticed");
            let said = panic.downcast_ref::<String>().map(String::as_str);
            assert_eq!(said.or(panic.downcast_ref::<&str>().copied()), Some(what));
        }
    }
}

#[test]
fn a_limit_on_memory_is_about_what_is_resident_unless_told_otherwise() {
    let found =
        explore(&mut Grid::new(300, None), Limits { bytes: 1 << 12, ..Limits::default() }, &mut |_| true);
    assert!(matches!(found.outcome, Outcome::NotExhausted { why: "the limit on memory was reached" }));
}

#[test]
#[should_panic(expected = "implement Space::learn")]
fn a_space_that_wants_something_learnt_says_how() {
    struct Unlearning;
    impl Space for Unlearning {
        type Scratch = ();
        fn width(&self) -> usize {
            1
        }
        fn initial(&mut self) -> Vec<Vec<u32>> {
            vec![vec![0]]
        }
        fn expand(
            &self,
            _: usize,
            _: &[u32],
            (): &mut (),
            _: &mut Successors<'_>,
        ) -> Result<Judgement, Unlearnt> {
            Err(Unlearnt)
        }
    }
    explore(&mut Unlearning, Limits::default(), &mut |_| true);
}
