//! Journals that are cut.

use super::*;
use crate::runtime::journal::segment::Segment;

/// A segment ends at each stable checkpoint, and all are kept.
const TINY: Limits = Limits { segment_bytes: 300, keep_bytes: 3_000_000 };

fn segments(path: &Path) -> Vec<u64> {
    segment::list(path).unwrap()
}

fn copy(from: &Path, to: &Path, numbers: &[u64]) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for &number in numbers {
        fs::copy(segment::path(from, number), segment::path(to, number)).unwrap();
    }
}

/// A life of 43 batches and ten checkpoints.
fn life() -> (tempfile::TempDir, PathBuf, Vec<Durable<Ed25519>>) {
    let (directory, path) = place();
    let durable = live_within(TINY, &path, Some(Durable::default()), false, 1..=43, 43);
    (directory, path, durable)
}

#[test]
fn segments_end_at_stable_checkpoints_and_are_replayed_together_and_from_each_one_on() {
    let (directory, path, _) = life();
    let numbers = segments(&path);
    assert_eq!(numbers, (0..=10).collect::<Vec<u64>>());
    let (summary, all) = replay(&path);
    assert_eq!(summary, Ok(Summary { lives: 1, steps: 43, ..whole() }));
    assert_eq!((all.begun, all.executed), (vec![], (1..=43).collect()));
    let rest = directory.path().join("rest");
    for first in 1..numbers.len() {
        copy(&path, &rest, &numbers[first..]);
        let (summary, seen) = replay(&rest);
        let summary = summary.unwrap();
        let from = summary.from.unwrap().0;
        assert_eq!((from, seen.begun), (4 * first as u64, vec![from]), "it begins at a checkpoint");
        assert_eq!(seen.executed, (from + 1..=43).collect::<Vec<u64>>());
        assert_eq!((summary.lives, summary.steps), (1, 43 - from));
        // One segment by itself, in its directory or not.
        let alone = segment::path(&path, numbers[first]);
        let (summary, _) = replay(&alone);
        assert_eq!(summary.unwrap().from, Some(SeqNo(from)));
    }
}

#[test]
fn the_oldest_segments_are_removed_when_the_last_can_be_replayed_without_them() {
    let (_directory, path) = place();
    let limits = Limits { segment_bytes: 300, keep_bytes: 2 };
    live_within(limits, &path, Some(Durable::default()), false, 1..=43, 43);
    assert_eq!(segments(&path), [10]);
    // Nothing is carried out any more: what a crash would take back is not relied upon.
    let (_directory, path) = place();
    live_within(limits, &path, Some(Durable::default()), false, 1..=43, 10);
    assert_eq!(segments(&path), [2, 3]);
    let (summary, seen) = replay(&path);
    assert_eq!((summary.unwrap().undone, seen.begun, seen.executed), (33, vec![8], vec![9, 10]));
}

#[test]
fn what_is_kept_is_bounded_and_what_is_needed_stays() {
    let (_directory, path) = place();
    let limits = Limits { segment_bytes: 10_000, keep_bytes: 40_000 };
    live_within(limits, &path, Some(Durable::default()), false, 1..=400, 400);
    let numbers = segments(&path);
    let bytes = |&k: &u64| fs::metadata(segment::path(&path, k)).unwrap().len();
    let sum: u64 = numbers.iter().map(bytes).sum();
    assert!(numbers[0] > 0 && numbers.len() >= 3, "{numbers:?}");
    assert!(sum <= limits.keep_bytes + 5_000 && sum >= limits.keep_bytes / 2, "{sum}");
    let (summary, seen) = replay(&path);
    assert_eq!(seen.executed, (summary.unwrap().from.unwrap().0 + 1..=400).collect::<Vec<u64>>());
}

#[test]
fn a_restart_in_any_segment_goes_on_and_begins_a_new_one_if_that_is_long() {
    let (_directory, path) = place();
    let limits = Limits { segment_bytes: 6_000, keep_bytes: 1 << 20 };
    let mut durable = Durable::default();
    for life in 0..6 {
        let from = life * 15 + 1;
        let all = live_within(limits, &path, Some(durable), false, from..=from + 14, 13);
        // Two steps are not carried out; one of them was durable.
        durable = all[14].clone();
    }
    let (summary, seen) = replay(&path);
    assert!(segments(&path).len() > 3, "{:?}", segments(&path));
    let summary = summary.unwrap();
    assert_eq!((summary.lives, summary.steps, summary.undone), (6, 90, 7), "{summary:?}");
    assert_eq!(seen.executed, (1..=83).collect::<Vec<u64>>());
    let mut told = 0;
    for first in 1..=*segments(&path).last().unwrap() {
        let rest = path.with_extension("rest");
        copy(&path, &rest, &(first..=*segments(&path).last().unwrap()).collect::<Vec<u64>>());
        let (summary, seen) = replay(&rest);
        let summary = summary.unwrap();
        if let Some(&begun) = seen.executed.first() {
            assert_eq!((Some(SeqNo(begun - 1)), seen.executed.last()), (summary.from, Some(&83)), "{first}");
            // Lives are counted from the first.
            assert_eq!(summary.first_life + summary.lives, 7, "{summary:?}");
            told += 1;
        }
    }
    assert!(told >= 2, "{told} of {:?}", segments(&path));
}

#[test]
fn a_start_before_what_was_carried_out_in_the_first_segment_begins_anew_and_later_is_told() {
    let (directory, path) = place();
    // Segment 3 begins after step 12; nothing after 8 is carried out.
    let durable = live_within(TINY, &path, Some(Durable::default()), false, 1..=14, 8);
    let numbers = segments(&path);
    assert_eq!(numbers, [0, 1, 2, 3]);
    live_within(Limits::default(), &path, Some(durable[9].clone()), false, 20..=22, 3);
    let whole_journal = replay(&path);
    assert_eq!(whole_journal.0.unwrap().undone, 5);
    let rest = directory.path().join("rest");
    copy(&path, &rest, &[3]);
    let (summary, seen) = replay(&rest);
    let summary = summary.unwrap();
    assert_eq!((summary.lives, summary.from), (2, Some(SeqNo(9))), "{summary:?}");
    assert_eq!((seen.begun.last(), seen.executed), (Some(&9), vec![10, 11, 12]));
}

#[test]
fn a_replacement_whose_segment_was_removed_still_counts_as_faulty() {
    let (directory, path) = place();
    live_within(TINY, &path, Some(Durable::default()), false, 1..=3, 3);
    live_within(TINY, &path, Some(Durable::default()), true, 1..=23, 23);
    let numbers = segments(&path);
    let rest = directory.path().join("rest");
    copy(&path, &rest, &numbers[numbers.len() - 1..]);
    let (summary, seen) = replay(&rest);
    let summary = summary.unwrap();
    assert_eq!((summary.faulty_from, summary.first_life, summary.from), (Some(2), 2, None));
    assert_eq!((seen.begun, seen.executed, seen.replies), (vec![], vec![], vec![]));
}

#[test]
fn a_missing_segment_a_cut_end_and_a_longer_one_are_told_apart() {
    let (directory, path, _) = life();
    let other = directory.path().join("other");
    copy(&path, &other, &[0, 1, 3, 4]);
    let (summary, seen) = replay(&other);
    let summary = summary.unwrap();
    assert_eq!((summary.gaps, summary.lives, seen.begun.len()), (1, 2, 1));
    assert_eq!(seen.executed.first(), Some(&(seen.begun[0] + 1)), "what came before does not count");
    let damage = |path: &Path| {
        let mut reader = Reader::open(path).unwrap();
        loop {
            match reader.next_recorded::<Ed25519>() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it is read to its end"),
                Err(error) => return error.to_string(),
            }
        }
    };
    copy(&path, &other, &[0, 1, 2]);
    let middle = segment::path(&other, 1);
    let bytes = fs::read(&middle).unwrap();
    fs::write(&middle, &bytes[..bytes.len() - 3]).unwrap();
    assert!(damage(&other).contains("ends within an entry, though another segment follows"));
    // Without its last entry, and with one too many.
    let mut last = Segment::open(&segment::path(&path, 1)).unwrap();
    let mut ends = Vec::new();
    while last.next_entry().unwrap().is_some() {
        ends.push(last.position);
    }
    fs::write(&middle, &bytes[..usize::try_from(ends[ends.len() - 2]).unwrap()]).unwrap();
    assert!(damage(&other).contains("the segment before is not as long as it was"));
    let mut longer = bytes.clone();
    segment::encode(&Entry::CarriedOut(1), 1, bytes.len() as u64, &mut longer).unwrap();
    fs::write(&middle, &longer).unwrap();
    assert!(damage(&other).contains("the segment before is not as long as it was"));
    // Another's place.
    copy(&path, &other, &[0, 1, 2]);
    fs::rename(segment::path(&other, 2), &middle).unwrap();
    assert!(damage(&other).contains("another segment than its name says"));
}

#[test]
fn any_flipped_bit_of_any_segment_is_damage() {
    let (directory, path, _) = life();
    let other = directory.path().join("other");
    let numbers = segments(&path);
    for &number in &numbers {
        let written = fs::read(segment::path(&path, number)).unwrap();
        let header_bytes = segment::preamble(&header(), number).len();
        for place in (header_bytes..written.len()).step_by(97) {
            copy(&path, &other, &numbers);
            let mut bytes = written.clone();
            bytes[place] ^= 1;
            fs::write(segment::path(&other, number), &bytes).unwrap();
            let mut reader = Reader::open(&other).unwrap();
            let error = loop {
                match reader.next_entry() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("segment {number}, byte {place}: not noticed"),
                    Err(error) => break error,
                }
            };
            let JournalError::Damaged { path: damaged, .. } = &error else { panic!("{error}") };
            assert_eq!(*damaged, segment::path(&other, number), "{error}");
        }
    }
}

/// Writes a segment again with its head as `edit` leaves it, so that every checksum is right.
fn forge(path: &Path, number: u64, edit: impl FnOnce(&mut Head)) {
    let mut segment = Segment::open(&segment::path(path, number)).unwrap();
    let mut bytes = segment::preamble(&header(), number);
    let mut edit = Some(edit);
    while let Some(mut entry) = segment.next_entry().unwrap() {
        if let (Entry::GoesOn(head), Some(edit)) = (&mut entry, edit.take()) {
            edit(head);
        }
        let at = bytes.len() as u64;
        segment::encode(&entry, number, at, &mut bytes).unwrap();
    }
    fs::write(segment::path(path, number), &bytes).unwrap();
}

#[test]
fn a_segment_that_begins_with_another_state_than_the_one_before_ends_in_is_told() {
    let (directory, path, durable) = life();
    let other = directory.path().join("other");
    let last = *segments(&path).last().unwrap();
    let all: Vec<u64> = (0..=last).collect();
    let told = |edit: &dyn Fn(&mut Head)| {
        copy(&path, &other, &all);
        forge(&other, last, edit);
        replay(&other).0.unwrap_err()
    };
    let state = |head: &mut Head| head.state.clone().unwrap();
    let earlier =
        crate::store::seal(&header().identity, &Durable { snapshot: Arc::default(), ..durable[3].clone() });
    for (edit, what) in [
        (&(|head: &mut Head| head.steps += 1) as &dyn Fn(&mut Head), "a number of steps"),
        (&|head: &mut Head| head.lives += 1, "a number of lives"),
        (&|head: &mut Head| head.faulty_from = Some(1), "a number of lives"),
        (
            &|head: &mut Head| head.state = Some(Middle { image: earlier.clone().into(), ..state(head) }),
            "a durable state",
        ),
        (
            &|head: &mut Head| head.state = Some(Middle { root: Digest([1; 32]), ..state(head) }),
            "a state of the service",
        ),
        (
            &|head: &mut Head| {
                let mut volatile = state(head).volatile.to_vec();
                *volatile.last_mut().unwrap() += 1;
                head.state = Some(Middle { volatile: volatile.into(), ..state(head) });
            },
            "what a restart forgets",
        ),
    ] {
        let divergence = told(edit);
        assert!(divergence.expected.contains(what), "{what}: {divergence}");
        assert_eq!(divergence.life, 1);
    }
    // Nobody vouches for a state without the segments before it.
    copy(&path, &other, &[last]);
    forge(&other, last, |head| {
        let mut rest: Durable<Ed25519> =
            crate::store::open(&header().identity, &head.state.as_ref().unwrap().image).unwrap();
        rest.stable = None;
        let image = crate::store::seal(&header().identity, &rest).into();
        head.state = Some(Middle { image, ..head.state.clone().unwrap() });
    });
    let divergence = replay(&other).0.unwrap_err();
    assert!(divergence.came.contains("no quorum that vouches"), "{divergence}");
}

/// Every moment at which the process can stop while a segment begins: before its file has its name, with any
/// part of it; and after, with any part of the state.
#[test]
fn a_crash_at_any_point_of_a_cut_loses_nothing() {
    let (directory, path, durable) = life();
    let other = directory.path().join("other");
    let whole_head = {
        let mut segment = Segment::open(&segment::path(&path, 2)).unwrap();
        segment.next_entry().unwrap();
        usize::try_from(segment.position).unwrap()
    };
    let second = fs::read(segment::path(&path, 2)).unwrap();
    let steps_before = replay_count(&path, 2);
    let goes_on = |case: &str, survived: usize| {
        let (summary, _) = replay(&other);
        assert!(summary.is_ok(), "{case}: {summary:?}");
        live_within(TINY, &other, Some(durable[survived].clone()), false, 50..=60, 11);
        let (summary, seen) = replay(&other);
        let summary = summary.unwrap_or_else(|divergence| panic!("{case}: {divergence}"));
        assert_eq!((summary.lives, summary.from, summary.gaps), (2, None, 0), "{case}");
        assert_eq!(seen.executed, (1..=survived as u64 + 11).collect::<Vec<u64>>(), "{case}");
    };
    // It is being written under another name.
    for length in (0..=whole_head).step_by(61) {
        copy(&path, &other, &[0, 1]);
        fs::write(segment::path(&other, 2).with_extension("new"), &second[..length]).unwrap();
        goes_on("unfinished", steps_before);
        assert!(!segment::path(&other, 2).with_extension("new").exists());
    }
    // It has its name, its head, and any part of what follows.
    for length in (whole_head..second.len()).step_by(61).chain([whole_head, whole_head + 1]) {
        copy(&path, &other, &[0, 1]);
        fs::write(segment::path(&other, 2), &second[..length]).unwrap();
        let steps = replay_count(&other, 3);
        goes_on("begun", steps);
    }
    // The machine lost its power: a name without contents.
    for length in (0..whole_head).step_by(61) {
        copy(&path, &other, &[0, 1]);
        fs::write(segment::path(&other, 2), &second[..length]).unwrap();
        assert!(replay(&other).0.is_ok(), "{length}");
        goes_on("power", steps_before);
    }
    // The oldest is gone, and the others are to follow.
    copy(&path, &other, &(1..=10).collect::<Vec<u64>>());
    live_within(TINY, &other, Some(durable[43].clone()), false, 50..=60, 11);
    assert_eq!(replay(&other).1.executed, (5..=54).collect::<Vec<u64>>());
}

/// The steps in the segments below `end`.
fn replay_count(path: &Path, end: u64) -> usize {
    let numbers = segments(path).into_iter().filter(|&number| number < end);
    let steps = numbers.map(|number| {
        let mut segment = Segment::open(&segment::path(path, number)).unwrap();
        let mut steps = 0;
        while let Some(entry) = segment.next_entry().unwrap() {
            steps += usize::from(matches!(entry, Entry::Step { .. }));
        }
        steps
    });
    steps.sum()
}

#[test]
fn a_life_that_ended_before_its_segment_had_all_of_its_state_is_told_from_the_next_start_on() {
    let (directory, path, durable) = life();
    let other = directory.path().join("other");
    copy(&path, &other, &[3]);
    let mut segment = Segment::open(&segment::path(&path, 3)).unwrap();
    let mut end = 0;
    while let Some(entry) = segment.next_entry().unwrap() {
        if matches!(entry, Entry::Piece { .. }) {
            break;
        }
        end = segment.position;
    }
    let steps = replay_count(&other, 3);
    let bytes = fs::read(segment::path(&path, 3)).unwrap();
    fs::write(segment::path(&other, 3), &bytes[..usize::try_from(end).unwrap()]).unwrap();
    let (summary, seen) = replay(&other);
    assert_eq!((summary.unwrap().lives, steps, seen.begun), (0, 0, vec![]), "there is nothing to say");
    live(&other, Some(durable[30].clone()), false, 50..=52, 3);
    let (summary, seen) = replay(&other);
    let summary = summary.unwrap();
    assert_eq!((summary.first_life, summary.from), (2, Some(SeqNo(30))));
    assert_eq!(seen.executed, [31, 32, 33]);
}

/// What a cut costs with a state of 10 MB: `cargo test --lib journal -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn the_pause_of_a_cut() {
    use std::time::{Duration, Instant};
    let (_directory, path) = place();
    let setup = setup();
    let limits = Limits { segment_bytes: 10_500_000, keep_bytes: 1 << 30 };
    let mut journal = Journal::new(path.clone(), header(), limits, false);
    let journal: &mut dyn Witness<Served> = &mut journal;
    let (_, clients) = KeyRing::insecure(0, 1, 1);
    let mut effects = Effects::new();
    let mut replica = Replica::<Served>::start(&setup, Some(Durable::default()), &mut effects).unwrap();
    journal.started(Some(&Durable::default()), &effects).unwrap();
    let (mut cuts, mut writing, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for step in 1..=1_000_u64 {
        let key = Bytes::from(format!("{:05}", step % 625).as_bytes());
        let operation = Operation::Put { key, value: vec![step as u8; 16_000].into() }.to_bytes();
        let request =
            Request { operation, timestamp: Timestamp(step), client: ClientId(0), read_only: false };
        let event =
            Event::Message(verify(&setup, Message::Request(Signed::new(request, &clients[0]))).unwrap());
        let mut effects = Effects::new();
        journal.event(&event).unwrap();
        replica.step(&setup, event, &mut effects);
        let segment = segments(&path).len();
        let begin = Instant::now();
        journal.effects(&setup, &replica, &effects).unwrap();
        let took = begin.elapsed();
        journal.carried_out(step).unwrap();
        match (segments(&path).len() - segment, cuts.len()) {
            (1, _) => cuts.push((step, took)),
            (_, 0) => plain.push(took),
            _ if writing.len() < 650 => writing.push(took),
            _ => {}
        }
    }
    let mean = |all: &[Duration]| all.iter().sum::<Duration>() / u32::try_from(all.len()).unwrap();
    let mut segment = Segment::open(&segment::path(&path, 1)).unwrap();
    let before = segment.position;
    segment.next_entry().unwrap();
    println!(
        "cuts {cuts:?}, of which {} bytes before the state of the service; a step while that is written: mean {:?}, \
         longest {:?}; others: mean {:?}, longest {:?}",
        segment.position - before,
        mean(&writing),
        writing.iter().max(),
        mean(&plain),
        plain.iter().max()
    );
    assert!(!cuts.is_empty());
}
