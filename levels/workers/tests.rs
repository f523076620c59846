//! The same search by any number of workers, in one process and in several.

use super::*;
use crate::tests::Tangle;
use crate::tests_on_disk::{Named, directory};
use crate::{Judgement, Successors, Unlearnt, explore};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

/// What does not depend on the time, nor on where states are kept.
type Told = (Outcome, u64, u64, usize);

fn told(found: Exploration) -> Told {
    (found.outcome, found.states, found.transitions, found.depth)
}

fn limits() -> Limits {
    Limits { threads: 1, ..Limits::default() }
}

/// Explores in one process with so many workers.
fn among<S: Space + Send>(space: &mut S, here: usize, limits: Limits) -> Told {
    let workers = Workers { here, peers: None };
    told(explore_among(space, limits, None, workers, &mut |_| true).expect("nobody is gone"))
}

/// Addresses on which nobody listens.
fn hosts(count: usize) -> Vec<String> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

fn meeting(hosts: &[String], process: usize) -> Meeting {
    let terms = vec![("space".to_owned(), "the numbers".to_owned())];
    Meeting { hosts: hosts.to_vec(), process, terms, patience: Duration::from_secs(30) }
}

/// Does this in so many processes, which for the test are threads.
fn in_processes<T: Send>(count: usize, work: impl Fn(&Peers) -> T + Sync) -> Vec<T> {
    let hosts = hosts(count);
    std::thread::scope(|scope| {
        let process = |process| {
            let (hosts, work) = (&hosts, &work);
            scope.spawn(move || work(&Peers::meet(meeting(hosts, process), &|| true).unwrap()))
        };
        let processes: Vec<_> = (0..count).map(process).collect();
        processes.into_iter().map(|process| process.join().unwrap()).collect()
    })
}

#[test]
fn any_number_of_workers_gives_the_same_names_counts_and_ways() {
    let mut all = Named::default();
    let expected = told(explore(&mut all, limits(), &mut |_| true));
    for here in [1, 2, 3] {
        let mut space = Named::default();
        assert_eq!(among(&mut space, here, limits()), expected, "{here} workers");
        assert!(space.numbers == all.numbers, "{here} workers give other names");
    }
    // States in the first batch of a level, in a later one, and in the last level.
    let numbers = [1, 2, 7, 10, 11].map(|part| all.numbers[all.numbers.len() / 12 * part]);
    for unsound in numbers.into_iter().chain(all.numbers.last().copied()) {
        let named = || Named { unsound: Some(unsound), ..Named::default() };
        let mut one = named();
        let expected = told(explore(&mut one, limits(), &mut |_| true));
        assert!(matches!(expected.0, Outcome::Violated { .. }));
        for here in [2, 3] {
            let mut space = named();
            assert_eq!(among(&mut space, here, limits()), expected, "{here} workers, {unsound}");
            assert!(space.numbers == one.numbers, "{here} workers give other names, {unsound}");
        }
    }
}

#[test]
fn any_number_of_processes_gives_the_same_names_counts_and_ways() {
    for unsound in [None, Some(12_345)] {
        let named = || Named { unsound, ..Named::default() };
        let mut one = named();
        let expected = told(explore(&mut one, limits(), &mut |_| true));
        for (processes, here) in [(2, 1), (2, 2), (3, 1)] {
            let all = in_processes(processes, |peers| {
                let mut space = named();
                let workers = Workers { here, peers: Some(peers) };
                // Once more, over the same peers: as a suite of spaces.
                let again = || explore_among(&mut named(), limits(), None, workers, &mut |_| true);
                let first = explore_among(&mut space, limits(), None, workers, &mut |_| true);
                let (first, second) = (first.expect("nobody is gone"), again().expect("nobody is gone"));
                (told(first), told(second), space.numbers)
            });
            for (first, second, numbers) in all {
                assert_eq!((&first, &second), (&expected, &expected), "{processes} of {here}");
                assert!(numbers == one.numbers, "{processes} of {here} give other names");
            }
        }
    }
}

#[test]
fn words_that_outgrow_their_bits_in_one_worker_before_the_others_are_found_by_all() {
    for words in [1, 3, 8] {
        let tangle = || Tangle { words, largest: 9_001, first: 0 };
        let expected = told(explore(&mut tangle(), limits(), &mut |_| true));
        assert_eq!(expected.0, Outcome::Exhausted);
        assert_eq!(among(&mut tangle(), 3, limits()), expected);
        let all = in_processes(2, |peers| {
            let workers = Workers { here: 1, peers: Some(peers) };
            told(explore_among(&mut tangle(), limits(), None, workers, &mut |_| true).unwrap())
        });
        assert!(all.iter().all(|found| *found == expected));
    }
}

#[test]
fn nothing_depends_on_when_there_was_no_memory_for_candidates() {
    let named = || Named { size: 1_000_003, factor: 31, step: 654_321, ..Named::default() };
    let mut one = named();
    let expected = told(explore(&mut one, limits(), &mut |_| true));
    let (mut space, tight) = (named(), Limits { bytes: 8, allocated: || 8, ..limits() });
    assert_eq!(among(&mut space, 2, tight), expected);
    assert!(space.numbers == one.numbers, "names were given in another order");
}

#[test]
fn a_limit_in_one_process_stops_all() {
    let all = in_processes(2, |peers| {
        let time = if peers.process() == 1 { Duration::ZERO } else { Duration::MAX };
        let workers = Workers { here: 2, peers: Some(peers) };
        told(
            explore_among(&mut Named::default(), Limits { time, ..limits() }, None, workers, &mut |_| true)
                .unwrap(),
        )
    });
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0].0, Outcome::NotExhausted { why: "the limit on time was reached" });
    let found = among(&mut Named::default(), 2, Limits { states: 5_000, ..limits() });
    assert_eq!(found.0, Outcome::NotExhausted { why: "the limit on states was reached" });
}

/// Goes on in a directory until so many states, in one process or two.
fn on_disk(path: &Path, states: u64, (processes, here): (usize, usize), resume: bool) -> Vec<Told> {
    let at = directory(path, resume);
    let run = |peers: Option<&Peers>| {
        let workers = Workers { here, peers };
        let limits = Limits { states, ..limits() };
        told(
            explore_among(
                &mut Named { unsound: Some(12_345), ..Named::default() },
                limits,
                Some(&at),
                workers,
                &mut |_| true,
            )
            .unwrap(),
        )
    };
    match processes {
        1 => vec![run(None)],
        _ => in_processes(processes, |peers| run(Some(peers))),
    }
}

fn expected() -> Told {
    told(explore(&mut Named { unsound: Some(12_345), ..Named::default() }, limits(), &mut |_| true))
}

#[test]
fn workers_that_are_stopped_again_and_again_end_as_a_search_that_is_not() {
    for partition in [(1, 2), (2, 1), (2, 2)] {
        let temporary = tempfile::tempdir().unwrap();
        let mut stops = 0;
        for states in (1_000..).step_by(4_000) {
            let all = on_disk(temporary.path(), states, partition, stops > 0);
            if !matches!(all[0].0, Outcome::NotExhausted { .. }) {
                assert!(all.iter().all(|found| *found == expected()), "{partition:?}");
                break;
            }
            stops += 1;
        }
        assert!(stops > 2, "{stops}");
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What is in a directory of two workers after so many levels.
fn levels(count: usize) -> tempfile::TempDir {
    let temporary = tempfile::tempdir().unwrap();
    let workers = Workers { here: 2, peers: None };
    let at = directory(temporary.path(), false);
    // The states of the level before the last are at least visited then.
    let mut sizes = Vec::new();
    let mut tell = |now: Progress| {
        sizes.push(now.depth);
        true
    };
    let mut space = Upto { of: Named::default(), depth: count - 1 };
    explore_among(&mut space, limits(), Some(&at), workers, &mut tell).unwrap();
    temporary
}

/// A space that ends at some distance from the start.
struct Upto {
    of: Named,
    depth: usize,
}

impl Space for Upto {
    type Scratch = ();
    fn width(&self) -> usize {
        self.of.width()
    }
    fn initial(&mut self) -> Vec<Vec<u32>> {
        self.of.initial()
    }
    fn expand(
        &self,
        depth: usize,
        state: &[u32],
        (): &mut (),
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        match depth < self.depth {
            true => self.of.expand(depth, state, &mut (), successors),
            false => Ok(Judgement::Sound),
        }
    }
    fn learn(&mut self, depth: usize, state: &[u32]) {
        self.of.learn(depth, state);
    }
    fn complaint(&self, state: &[u32]) -> String {
        self.of.complaint(state)
    }
}

#[test]
fn a_level_that_not_all_have_committed_is_made_again() {
    let (shorter, longer) = (levels(9), levels(10));
    let workers = Workers { here: 2, peers: None };
    let goes_on = |path: &Path| {
        let at = directory(path, true);
        explore_among(&mut Named::default(), limits(), Some(&at), workers, &mut |_| true)
    };
    let expected = told(explore(&mut Named::default(), limits(), &mut |_| true));
    for behind in 0..2 {
        let mixed = tempfile::tempdir().unwrap();
        for worker in 0..2 {
            let name = format!("worker-{worker}-of-2");
            let from = if worker == behind { &shorter } else { &longer };
            std::fs::create_dir(mixed.path().join(&name)).unwrap();
            copy(&from.path().join(&name), &mixed.path().join(&name));
        }
        assert_eq!(told(goes_on(mixed.path()).unwrap()), expected, "worker {behind} is one level behind");
    }
    // Two levels behind it cannot be by being stopped.
    let far = levels(7);
    std::fs::remove_dir_all(longer.path().join("worker-1-of-2")).unwrap();
    std::fs::create_dir(longer.path().join("worker-1-of-2")).unwrap();
    copy(&far.path().join("worker-1-of-2"), &longer.path().join("worker-1-of-2"));
    let refused = goes_on(longer.path()).unwrap_err().to_string();
    assert!(refused.contains("10 levels far and another worker's directory 7"), "{refused}");
}

#[test]
fn a_directory_of_another_number_of_workers_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    on_disk(temporary.path(), 1_000, (1, 2), false);
    let at = directory(temporary.path(), true);
    let refused = |here| {
        let workers = Workers { here, peers: None };
        explore_among(&mut Named::default(), limits(), Some(&at), workers, &mut |_| true)
            .unwrap_err()
            .to_string()
    };
    assert!(refused(3).ends_with("holds an exploration by 2 workers, not by 3"), "{}", refused(3));
    let one = crate::explore_in(&mut Named::default(), limits(), Some(&at), &mut |_| true).unwrap_err();
    assert!(one.what.ends_with("holds an exploration by 2 workers"), "{one}");
    let temporary = tempfile::tempdir().unwrap();
    let at = directory(temporary.path(), true);
    crate::explore_in(&mut Named::default(), limits(), Some(&at), &mut |_| true).unwrap();
    let workers = Workers { here: 2, peers: None };
    let other = explore_among(&mut Named::default(), limits(), Some(&at), workers, &mut |_| true);
    assert!(other.unwrap_err().to_string().ends_with("by no workers, not by 2"));
}

#[test]
fn when_a_process_is_gone_the_others_stop_and_say_so() {
    let began = Instant::now();
    let all = in_processes(3, |peers| {
        let workers = Workers { here: 1, peers: Some(peers) };
        if peers.process() == 1 {
            return None;
        }
        Some(explore_among(&mut Named::default(), limits(), None, workers, &mut |_| true).unwrap_err())
    });
    for trouble in all.into_iter().flatten() {
        assert_eq!(trouble.to_string(), "process 1 is gone");
    }
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn who_has_met_all_and_leaves_was_met_by_all() {
    let hosts = hosts(3);
    let meet = |process: usize| {
        // Process 0 is slow to notice who has come.
        let slow = || process != 0 || (std::thread::sleep(Duration::from_millis(500)), true).1;
        Peers::meet(meeting(&hosts, process), &slow).err()
    };
    let met: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..3).map(|process| scope.spawn(move || meet(process))).collect();
        all.into_iter().map(|process| process.join().unwrap()).collect()
    });
    assert_eq!(met, [None, None, None]);
}

#[test]
fn what_is_gathered_is_heard_by_all_though_a_process_has_ended_since() {
    let all = in_processes(3, |peers| {
        let first = peers.gather(vec![peers.process() as u8]).unwrap();
        let second = peers.gather(vec![7; peers.process() << 16]).unwrap();
        (first, second.iter().map(Vec::len).collect::<Vec<_>>())
    });
    for found in all {
        assert_eq!(found, (vec![vec![0], vec![1], vec![2]], vec![0, 1 << 16, 2 << 16]));
    }
}

#[test]
fn a_process_that_was_started_on_other_terms_is_refused_by_both_sides() {
    let hosts = hosts(2);
    let meet = |process: usize, space: &str| {
        let terms = vec![("space".to_owned(), space.to_owned())];
        let meeting = Meeting { terms, ..meeting(&hosts, process) };
        Peers::meet(meeting, &|| true).err().unwrap_or_default()
    };
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| meet(0, "the numbers"));
        let other = scope.spawn(|| meet(1, "others"));
        (one.join().unwrap(), other.join().unwrap())
    });
    assert_eq!(one, "process 1 was started with another space than process 0: others, not the numbers");
    assert_eq!(other, "process 0 was started with another space than process 1: the numbers, not others");
}

#[test]
fn who_does_not_come_is_named() {
    let hosts = hosts(2);
    for process in 0..2 {
        let meeting = Meeting { patience: Duration::from_millis(200), ..meeting(&hosts, process) };
        let why = Peers::meet(meeting, &|| true).err().unwrap();
        assert!(why.contains(&format!("process {}", 1 - process)), "{why}");
        assert!(why.contains(&hosts[1 - process]), "{why}");
    }
}

#[test]
fn who_connects_and_says_nothing_keeps_nobody_from_meeting() {
    let hosts = hosts(2);
    let soon = |process| Meeting { patience: Duration::from_secs(4), ..meeting(&hosts, process) };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| Peers::meet(soon(0), &|| true));
        // Each would be listened to for five seconds.
        let silent: Vec<_> = (0..3)
            .map(|_| {
                loop {
                    match std::net::TcpStream::connect(&hosts[0]) {
                        Ok(silent) => break silent,
                        Err(_) => std::thread::yield_now(),
                    }
                }
            })
            .collect();
        let second = Peers::meet(soon(1), &|| true).expect("it is let in beside them");
        let first = first.join().unwrap().expect("it is met");
        assert_eq!((first.gone(), second.gone(), silent.len()), (None, None, 3));
    });
}
