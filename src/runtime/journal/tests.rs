use super::*;
use crate::crypto::Signed;
use crate::crypto::ed25519::{Ed25519, KeyRing};
use crate::kv::{KeyValue, Operation};
use crate::message::{Batch, Message, Reply, Request};
use crate::parameters::Parameters;
use crate::replica::verify::verify;
use crate::replica::{Bundle, Durable, Effects, Event, Fact, Replica, Setup};
use crate::rules::Pbft;
use crate::runtime::Witness;
use crate::types::{ClientId, Cluster, Digest, ReplicaId, Timestamp};
use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::sync::Arc;

mod segments;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Served;

impl Bundle for Served {
    type Crypto = Ed25519;
    type Service = KeyValue;
    type Rules = Pbft;
}

/// A cluster of one: whatever is asked executes at once.
fn setup() -> Setup<Served> {
    let (mut replicas, _) = KeyRing::insecure(0, 1, 1);
    let parameters = Parameters { checkpoint_interval: 4, window: 8, ..Parameters::default() };
    Setup {
        id: ReplicaId(0),
        cluster: Cluster::new(1, 0),
        parameters,
        keys: Arc::new(replicas.remove(0)),
        clients: 1,
        rules: Pbft,
        genesis: KeyValue::default(),
    }
}

fn header() -> Header {
    let Setup { id, cluster, parameters, clients, .. } = setup();
    Header { identity: Identity { domain: Digest([7; 32]), replica: id, cluster, parameters }, clients }
}

fn request(timestamp: u64) -> Message<Ed25519> {
    let (_, clients) = KeyRing::insecure(0, 1, 1);
    let operation = Operation::Put { key: Bytes::from(&b"k"[..]), value: Bytes::from(&b"v"[..]) }.to_bytes();
    let request =
        Request { operation, timestamp: Timestamp(timestamp), client: ClientId(0), read_only: false };
    Message::Request(Signed::new(request, &clients[0]))
}

/// One life in one segment: what is durable after each step, from the start on.
fn live(
    path: &Path,
    stored: Option<Durable<Ed25519>>,
    replacement: bool,
    timestamps: RangeInclusive<u64>,
    carried_out: u64,
) -> Vec<Durable<Ed25519>> {
    live_within(Limits::default(), path, stored, replacement, timestamps, carried_out)
}

fn live_within(
    limits: Limits,
    path: &Path,
    stored: Option<Durable<Ed25519>>,
    replacement: bool,
    timestamps: RangeInclusive<u64>,
    carried_out: u64,
) -> Vec<Durable<Ed25519>> {
    let setup = setup();
    let mut journal = Journal::new(path.to_path_buf(), header(), limits, replacement);
    let journal: &mut dyn Witness<Served> = &mut journal;
    let mut effects = Effects::new();
    let mut replica = Replica::<Served>::start(&setup, stored.clone(), &mut effects).unwrap();
    journal.started(stored.as_ref(), &effects).unwrap();
    let mut durable = vec![replica.durable().clone()];
    for timestamp in timestamps {
        let event = Event::Message(verify(&setup, request(timestamp)).unwrap());
        let mut effects = Effects::new();
        journal.event(&event).unwrap();
        replica.step(&setup, event, &mut effects);
        journal.effects(&setup, &replica, &effects).unwrap();
        let steps = durable.len() as u64;
        durable.push(replica.durable().clone());
        if steps <= carried_out {
            journal.carried_out(steps).unwrap();
        }
    }
    durable
}

fn open(path: &Path, header: Header) -> Result<Writer, JournalError> {
    Writer::open(path, header, Limits::default())
}

#[derive(Default)]
struct Seen {
    /// After which batch what is known begins, each time that it does.
    begun: Vec<u64>,
    executed: Vec<u64>,
    replies: Vec<u64>,
    requests: usize,
    batches: BTreeSet<Digest>,
}

impl Observer<Served> for Seen {
    fn begins(&mut self, _: &Setup<Served>, replica: &Replica<Served>) {
        self.begun.push(replica.last_executed().0);
        self.executed.clear();
    }
    fn fact(&mut self, fact: &Fact) {
        if let Fact::Executed { n, digest, .. } = fact {
            self.executed.push(n.0);
            assert!(self.batches.contains(digest), "what executes was not told before");
        }
    }
    fn reply(&mut self, reply: &Reply) {
        self.replies.push(reply.timestamp.0);
    }
    fn request(&mut self, _: &Request) {
        self.requests += 1;
    }
    fn batch(&mut self, batch: &Batch<Ed25519>) {
        self.batches.insert(batch.digest());
    }
}

fn replay(path: &Path) -> (Result<Summary, Divergence>, Seen) {
    let (mut reader, mut seen) = (Reader::open(path).unwrap(), Seen::default());
    let mut replay = Replay::new(setup());
    while let Some(recorded) = reader.next_recorded().unwrap() {
        if let Err(divergence) = replay.feed(recorded, &mut seen) {
            return (Err(divergence), seen);
        }
    }
    (Ok(replay.summary()), seen)
}

/// What is said of a journal of which nothing was removed.
fn whole() -> Summary {
    Summary { first_life: 1, ..Summary::default() }
}

fn entries(path: &Path) -> Vec<Entry> {
    let mut reader = Reader::open(path).unwrap();
    std::iter::from_fn(|| reader.next_entry().unwrap()).collect()
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journals/replica-0.journal");
    (directory, path)
}

#[test]
fn a_life_is_replayed_and_only_what_was_carried_out_counts() {
    let (_directory, path) = place();
    live(&path, Some(Durable::default()), false, 1..=6, 5);
    let (summary, seen) = replay(&path);
    let expected = Summary { lives: 1, steps: 6, undone: 1, ..whole() };
    assert_eq!(summary, Ok(expected));
    assert_eq!((seen.executed, seen.replies), ((1..=5).collect(), (1..=5).collect()));
    assert_eq!(seen.requests, 6);
}

#[test]
fn the_next_life_says_how_much_of_what_was_not_carried_out_was_durable() {
    for survived in 3..=6 {
        let (_directory, path) = place();
        let durable = live(&path, Some(Durable::default()), false, 1..=6, 3);
        live(&path, Some(durable[survived].clone()), false, 7..=9, 3);
        let (summary, seen) = replay(&path);
        let expected = Summary { lives: 2, steps: 9, undone: 6 - survived as u64, ..whole() };
        assert_eq!(summary, Ok(expected));
        let last = survived as u64 + 3;
        assert_eq!(seen.executed, (1..=last).collect::<Vec<u64>>(), "each number once, without a gap");
        assert_eq!(seen.replies, [1, 2, 3, 7, 8, 9], "what was not carried out was not sent");
    }
}

#[test]
fn a_replica_that_forgot_what_it_promised_is_told() {
    let (_directory, path) = place();
    let durable = live(&path, Some(Durable::default()), false, 1..=6, 5);
    live(&path, Some(durable[4].clone()), false, 7..=7, 1);
    let divergence = replay(&path).0.unwrap_err();
    assert_eq!((divergence.life, divergence.step), (2, 0));
    assert!(divergence.expected.contains("no record of the life before leads to"), "{divergence}");
}

#[test]
fn a_replacement_counts_as_faulty_and_a_journal_that_begins_later_tells_from_there_on() {
    let (_directory, path) = place();
    let durable = live(&path, Some(Durable::default()), false, 1..=2, 2);
    live(&path, Some(Durable::default()), true, 1..=3, 3);
    let (summary, seen) = replay(&path);
    let expected = Summary { lives: 2, steps: 5, faulty_from: Some(2), ..whole() };
    assert_eq!((summary, seen.executed), (Ok(expected), vec![1, 2]));
    let (_directory, path) = place();
    live(&path, Some(durable[2].clone()), false, 3..=3, 1);
    let (summary, seen) = replay(&path);
    let expected = Summary { lives: 1, steps: 1, from: Some(SeqNo(2)), ..whole() };
    assert_eq!((summary, seen.begun, seen.executed), (Ok(expected), vec![2], vec![3]));
}

#[test]
fn an_effect_that_the_replay_does_not_show_is_told_with_its_step() {
    let (directory, path) = place();
    live(&path, Some(Durable::default()), false, 1..=4, 4);
    let forged = directory.path().join("forged");
    let mut writer = Writer::open(&forged, header(), Limits::default()).unwrap();
    let mut steps = 0;
    for mut entry in entries(&path) {
        if let Entry::Step { effects, .. } = &mut entry {
            steps += 1;
            if steps == 3 {
                effects[1].checksum ^= 1;
            }
        }
        writer.append(&entry).unwrap();
    }
    writer.flush().unwrap();
    let divergence = replay(&forged).0.unwrap_err();
    assert_eq!((divergence.life, divergence.step), (1, 3), "{divergence}");
    assert!(divergence.expected.starts_with("as effect 2 of "), "{divergence}");
}

#[test]
fn an_entry_cut_short_is_cut_off_and_any_flipped_bit_is_damage() {
    let (directory, path) = place();
    let durable = live(&path, Some(Durable::default()), false, 1..=2, 2);
    let segment = segment::path(&path, 0);
    let written = fs::read(&segment).unwrap();
    let count = entries(&path).len();
    let header_bytes = segment::preamble(&header(), 0).len();
    let other = directory.path().join("other");
    fs::create_dir(&other).unwrap();
    let copy = segment::path(&other, 0);
    let mut boundaries = 0;
    for length in header_bytes..written.len() {
        fs::write(&copy, &written[..length]).unwrap();
        let mut reader = Reader::open(&other).unwrap();
        let read = std::iter::from_fn(|| reader.next_entry().unwrap()).count();
        assert!(read < count);
        boundaries += usize::from(reader.incomplete_bytes() == 0);
        drop(open(&other, header()).unwrap());
        assert_eq!(fs::metadata(&copy).unwrap().len(), length as u64 - reader.incomplete_bytes());
    }
    assert_eq!(boundaries, count);
    for place in (header_bytes..written.len()).step_by(7) {
        let mut bytes = written.clone();
        bytes[place] ^= 1;
        fs::write(&copy, &bytes).unwrap();
        let error = open(&other, header()).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { .. }), "{place}: {error}");
        assert_eq!(fs::read(&copy).unwrap(), bytes, "a damaged journal is left as it is");
    }
    // A torn end does not keep the next life from being appended and replayed.
    let mut torn = written.clone();
    torn.extend_from_slice(&written[written.len() - 9..]);
    fs::write(&segment, &torn).unwrap();
    live(&path, Some(durable[2].clone()), false, 3..=3, 1);
    assert_eq!(replay(&path).0.map(|summary| (summary.lives, summary.steps)), Ok((2, 3)));
}

#[test]
fn a_journal_of_another_and_one_in_use_are_refused() {
    let (directory, path) = place();
    let kept = open(&path, header()).unwrap();
    assert!(matches!(open(&path, header()), Err(JournalError::InUse(_))));
    drop(kept);
    let other = Header { clients: 2, ..header() };
    assert!(matches!(open(&path, other), Err(JournalError::Foreign(_))));
    let text = directory.path().join("text");
    fs::write(&text, b"this is no journal at all, only a file").unwrap();
    assert!(matches!(open(&text, header()), Err(JournalError::NotAJournal(_))));
}

#[test]
fn a_big_state_is_written_in_pieces_and_read_back() {
    let (_directory, path) = place();
    // Two checkpoints, so that the durable state has a snapshot of its own.
    let durable = live(&path, Some(Durable::default()), false, 1..=9, 9).pop().unwrap();
    assert_eq!(durable.snapshot.n, SeqNo(8));
    live(&path, Some(durable.clone()), false, 10..=10, 1);
    let mut reader = Reader::open(&path).unwrap();
    let mut last = None;
    while let Some(recorded) = reader.next_recorded::<Ed25519>().unwrap() {
        if let Recorded::Started(Life::Stored(stored), _) = recorded {
            last = Some(*stored);
        }
    }
    assert_eq!(last, Some(durable));
    assert!(entries(&path).iter().any(|entry| matches!(entry, Entry::Piece { .. })));
    assert_eq!(replay(&path).0.map(|summary| summary.lives), Ok(2));
}

#[test]
fn a_step_that_sends_is_in_the_file_before_its_effects_are_given_back() {
    let (_directory, path) = place();
    let setup = setup();
    let mut journal = Journal::new(path.clone(), header(), Limits::default(), false);
    let journal: &mut dyn Witness<Served> = &mut journal;
    let mut effects = Effects::new();
    let mut replica = Replica::<Served>::start(&setup, None, &mut effects).unwrap();
    journal.started(None, &effects).unwrap();
    for steps in 1..=3 {
        let event = Event::Message(verify(&setup, request(steps)).unwrap());
        let mut effects = Effects::new();
        journal.event(&event).unwrap();
        replica.step(&setup, event, &mut effects);
        journal.effects(&setup, &replica, &effects).unwrap();
        assert!(effects.sends().count() > 0);
        let written = entries(&path);
        let written = written.iter().filter(|entry| matches!(entry, Entry::Step { .. })).count();
        assert_eq!(written as u64, steps);
    }
}
