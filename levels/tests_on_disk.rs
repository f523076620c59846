//! Explorations on disk, stopped and gone on with.

use super::*;
use std::collections::BTreeMap;
use std::path::Path;

/// A graph of numbers whose names are given as they are learnt.
#[derive(Default)]
struct Named {
    names: BTreeMap<u32, u32>,
    numbers: Vec<u32>,
    unsound: Option<u32>,
}

const SIZE: u32 = 30_011;

fn next(number: u32) -> [u32; 2] {
    [number * 7 % SIZE, (number + 131) % SIZE]
}

impl Named {
    fn name(&mut self, number: u32) -> u32 {
        let next = self.numbers.len() as u32;
        *self.names.entry(number).or_insert_with(|| {
            self.numbers.push(number);
            next
        })
    }
}

impl Space for Named {
    type Scratch = ();

    fn width(&self) -> usize {
        1
    }

    fn initial(&mut self) -> Vec<Vec<u32>> {
        vec![vec![self.name(1)]]
    }

    fn expand(
        &self,
        _: usize,
        state: &[u32],
        (): &mut (),
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        let number = self.numbers[state[0] as usize];
        for next in next(number) {
            successors(&[*self.names.get(&next).ok_or(Unlearnt)?]);
        }
        Ok(if Some(number) == self.unsound { Judgement::Unsound } else { Judgement::Sound })
    }

    fn learn(&mut self, _: usize, state: &[u32]) {
        let number = self.numbers[state[0] as usize];
        next(number).into_iter().for_each(|next| {
            self.name(next);
        });
    }

    fn complaint(&self, state: &[u32]) -> String {
        self.numbers[state[0] as usize].to_string()
    }
}

fn directory(path: &Path, resume: bool) -> Directory {
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
fn a_changed_byte_is_refused_wherever_it_is() {
    let temporary = stopped_somewhere();
    let files = std::fs::read_dir(temporary.path()).expect("it is there");
    let mut files: Vec<_> = files.map(|entry| entry.expect("it is there").path()).collect();
    files.sort();
    assert!(files.len() > 10);
    for file in files {
        let bytes = std::fs::read(&file).expect("it is there");
        let mut changed = bytes.clone();
        changed[bytes.len() / 2] ^= 0x10;
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
