//! Explorations on disk, stopped and gone on with.

use super::tests::Tangle;
use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A graph of numbers whose names are given as they are learnt.
pub(crate) struct Named {
    pub(crate) size: u32,
    /// With larger ones there are fewer levels, and larger ones.
    pub(crate) factor: u32,
    pub(crate) step: u32,
    pub(crate) names: BTreeMap<u32, u32>,
    pub(crate) numbers: Vec<u32>,
    pub(crate) unsound: Option<u32>,
}

impl Default for Named {
    fn default() -> Self {
        Named {
            size: 30_011,
            factor: 7,
            step: 131,
            names: BTreeMap::new(),
            numbers: Vec::new(),
            unsound: None,
        }
    }
}

impl Named {
    fn next(&self, number: u32) -> BTreeSet<u32> {
        let next = [number * 7, number * self.factor, number + self.step];
        next.into_iter().map(|next| next % self.size).filter(|&next| next != number).collect()
    }

    fn name(&mut self, number: u32) -> u32 {
        let next = self.numbers.len() as u32;
        *self.names.entry(number).or_insert_with(|| {
            self.numbers.push(number);
            next
        })
    }
}

/// In no order in which names are given.
fn state(number: u32, name: u32) -> [u32; 2] {
    [number % 16, name]
}

impl Space for Named {
    type Scratch = ();

    fn width(&self) -> usize {
        2
    }

    fn initial(&mut self) -> Vec<Vec<u32>> {
        let name = self.name(1);
        vec![state(1, name).to_vec()]
    }

    fn expand(
        &self,
        _: usize,
        from: &[u32],
        (): &mut (),
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        let number = self.numbers[from[1] as usize];
        for next in self.next(number) {
            successors(&state(next, *self.names.get(&next).ok_or(Unlearnt)?));
        }
        Ok(if Some(number) == self.unsound { Judgement::Unsound } else { Judgement::Sound })
    }

    fn learn(&mut self, _: usize, from: &[u32]) {
        let number = self.numbers[from[1] as usize];
        self.next(number).into_iter().for_each(|next| {
            self.name(next);
        });
    }

    fn complaint(&self, from: &[u32]) -> String {
        self.numbers[from[1] as usize].to_string()
    }
}

pub(crate) fn directory(path: &Path, resume: bool) -> Directory {
    Directory { path: path.to_owned(), identity: "the numbers".into(), resume }
}

fn run(space: &mut Named, states: u64, threads: usize, at: &Directory) -> Result<Exploration, DiskTrouble> {
    explore_in(space, Limits { states, threads, ..Limits::default() }, Some(at), &mut |_| true)
}

/// What does not depend on the time, nor on where states are kept.
fn told(found: Exploration) -> (Outcome, u64, u64, usize) {
    (found.outcome, found.states, found.transitions, found.depth)
}

#[test]
fn an_exploration_that_is_stopped_again_and_again_ends_as_one_that_is_not() {
    for unsound in [None, Some(12_345)] {
        let named = || Named { unsound, ..Named::default() };
        let expected = told(explore(&mut named(), Limits::default(), &mut |_| true));
        let temporary = tempfile::tempdir().expect("a directory");
        let mut stops = 0;
        for limit in (1_000..).step_by(2_500) {
            let at = directory(temporary.path(), stops > 0);
            let found = run(&mut named(), limit, 1 + stops % 2, &at).expect("no trouble");
            if !matches!(found.outcome, Outcome::NotExhausted { .. }) {
                assert_eq!(told(found), expected);
                break;
            }
            stops += 1;
        }
        assert!(stops > 3, "{stops}");
        let again = run(&mut named(), u64::MAX, 2, &directory(temporary.path(), true)).expect("no trouble");
        assert_eq!(told(again), expected);
    }
}

#[test]
fn names_and_ways_do_not_depend_on_when_there_was_no_memory_for_candidates() {
    let named = |unsound| Named { size: 1_000_003, factor: 31, step: 654_321, unsound, ..Named::default() };
    let mut all = named(None);
    explore(&mut all, Limits::default(), &mut |_| true);
    let last = all.numbers.last().copied();
    let [mut roomy, mut tight, mut on_disk] = [last; 3].map(named);
    let expected = told(explore(&mut roomy, Limits::default(), &mut |_| true));
    assert!(matches!(expected.0, Outcome::Violated { .. }));
    let limits = Limits { bytes: 8, allocated: || 8, ..Limits::default() };
    let found = explore(&mut tight, Limits { threads: 1, ..limits }, &mut |_| true);
    assert_eq!(told(found), expected);
    assert!(tight.numbers == roomy.numbers, "names were given in another order");
    let temporary = tempfile::tempdir().expect("a directory");
    let found = explore_in(&mut on_disk, limits, Some(&directory(temporary.path(), false)), &mut |_| true);
    assert_eq!(told(found.expect("no trouble")), expected);
    let runs = std::fs::read_dir(temporary.path()).expect("it is there").count() - 2;
    assert_eq!(runs, expected.3 + 1, "a level is one file");
    assert!(on_disk.numbers == roomy.numbers, "names were given in another order");
}

#[test]
fn a_space_that_begins_elsewhere_is_refused_whatever_it_is_called() {
    for here in [0, 2] {
        let temporary = tempfile::tempdir().expect("a directory");
        let at = directory(temporary.path(), true);
        let explored = |space: &mut Tangle, limits: Limits| match here {
            0 => explore_in(space, limits, Some(&at), &mut |_| true).map_err(|trouble| trouble.what),
            _ => explore_among(space, limits, Some(&at), Workers { here, peers: None }, &mut |_| true)
                .map_err(|trouble| trouble.to_string()),
        };
        let of = |words, first| Tangle { words, first, largest: 40_000 };
        explored(&mut of(3, 0), Limits { states: 5_000, ..Limits::default() }).expect("no trouble");
        for mut other in [of(2, 0), of(4, 0), of(3, 1)] {
            let what = explored(&mut other, Limits::default()).expect_err("it is refused");
            let expected = "holds another exploration that is also called the numbers";
            // Of several workers only those notice it that would begin with a state, and the others hear of it.
            assert!(what.contains(expected) || here > 0 && what.contains("another process"), "{what}");
        }
        assert_eq!(explored(&mut of(3, 0), Limits::default()).map(|found| found.states), Ok(40_000));
    }
}

/// A line of levels of one state, and how many files of a directory were open at a time.
struct Line<'a> {
    length: u32,
    at: &'a Path,
    most_open: AtomicUsize,
}

impl Space for Line<'_> {
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
        let open = std::fs::read_dir("/proc/self/fd").expect("they are listed");
        let open = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        self.most_open.fetch_max(open.filter(|file| file.starts_with(self.at)).count(), Ordering::Relaxed);
        if state[0] < self.length {
            successors(&[state[0] + 1]);
        }
        Ok(Judgement::Sound)
    }
}

#[test]
fn there_can_be_more_levels_than_files_may_be_open() {
    let temporary = tempfile::tempdir().expect("a directory");
    for length in [30, 60] {
        let mut line = Line { length, at: temporary.path(), most_open: AtomicUsize::new(0) };
        let at = directory(&temporary.path().join(length.to_string()), false);
        let found = explore_in(&mut line, Limits::default(), Some(&at), &mut |_| true);
        assert_eq!(found.map(|found| found.states), Ok(u64::from(length) + 1));
        let most_open = line.most_open.into_inner();
        assert!((1..10).contains(&most_open), "{most_open}");
    }
}

fn stopped_somewhere() -> tempfile::TempDir {
    let temporary = tempfile::tempdir().expect("a directory");
    run(&mut Named::default(), 9_000, 2, &directory(temporary.path(), false)).expect("no trouble");
    temporary
}

fn refused(at: &Directory) -> String {
    run(&mut Named::default(), u64::MAX, 2, at).expect_err("it is refused").what
}

#[test]
fn what_is_there_is_neither_overwritten_nor_mistaken_for_something_else() {
    let temporary = stopped_somewhere();
    assert!(refused(&directory(temporary.path(), false)).ends_with("resume it, or name another directory"));
    let other = Directory { identity: "other numbers".into(), ..directory(temporary.path(), true) };
    assert!(refused(&other).ends_with("holds an exploration of the numbers, not of other numbers"));
}

#[test]
fn a_directory_is_used_by_one_exploration_at_a_time_and_free_when_that_is_over() {
    let temporary = stopped_somewhere();
    let at = directory(temporary.path(), true);
    let in_use = disk::Found::look(&at).unwrap();
    let levels = in_use.levels();
    assert!(refused(&at).ends_with("is in use: wait for its exploration, or name another directory"));
    let (disk, _resumed) = in_use.open(levels).unwrap();
    assert!(refused(&at).contains("is in use"));
    drop(disk);
    run(&mut Named::default(), u64::MAX, 2, &at).expect("it is free again");
}

#[test]
fn a_changed_byte_is_refused_wherever_it_is() {
    let temporary = stopped_somewhere();
    let files = std::fs::read_dir(temporary.path()).expect("it is there");
    let mut files: Vec<_> = files.map(|entry| entry.expect("it is there").path()).collect();
    files.sort();
    assert!(files.len() > 10);
    let is_manifest = |file: &&std::path::PathBuf| file.ends_with("manifest.json");
    let manifest = files.iter().find(is_manifest).expect("there is one").clone();
    let in_eighths =
        files.into_iter().map(|file| (file, 4)).chain((0..8).map(|part| (manifest.clone(), part)));
    for (file, part) in in_eighths {
        let bytes = std::fs::read(&file).expect("it is there");
        let mut changed = bytes.clone();
        changed[bytes.len() * part / 8] ^= 0x10;
        std::fs::write(&file, changed).expect("it is written");
        let copy = tempfile::tempdir().expect("a directory");
        for entry in std::fs::read_dir(temporary.path()).expect("it is there") {
            let from = entry.expect("it is there").path();
            std::fs::copy(&from, copy.path().join(from.file_name().expect("a name"))).expect("it is copied");
        }
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        let what = match run(&mut Named::default(), u64::MAX, 2, &directory(copy.path(), true)) {
            Err(trouble) => trouble.what,
            // It may be of the level that was not complete, which is made again.
            Ok(found) => {
                let expected = told(explore(&mut Named::default(), Limits::default(), &mut |_| true));
                assert_eq!(told(found), expected, "{name}");
                assert!(name.starts_with("level"));
                continue;
            }
        };
        assert!(what.contains("damaged") || what.contains("holds an exploration of"), "{name}: {what}");
        std::fs::write(&file, bytes).expect("it is written");
    }
}

#[test]
fn a_full_disk_is_an_orderly_end_and_what_was_committed_is_gone_on_with() {
    let temporary = tempfile::tempdir().expect("a directory");
    // Whoever writes to this device is told that there is no room.
    let full = temporary.path().join("level-00010-000");
    std::os::unix::fs::symlink("/dev/full", &full).expect("it is linked");
    let found =
        run(&mut Named::default(), u64::MAX, 2, &directory(temporary.path(), false)).expect("orderly");
    assert_eq!(found.outcome, Outcome::NotExhausted { why: "the disk is full" });
    assert_eq!(found.depth, 10);
    std::fs::remove_file(&full).expect("there is room again");
    let expected = told(explore(&mut Named::default(), Limits::default(), &mut |_| true));
    let again =
        run(&mut Named::default(), u64::MAX, 2, &directory(temporary.path(), true)).expect("no trouble");
    assert_eq!(told(again), expected);
}
