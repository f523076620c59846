use super::*;
use crate::crypto::Signed;
use crate::crypto::ed25519::{Ed25519, KeyRing};
use crate::message::{Batch, PrePrepare, Request};
use crate::parameters::Parameters;
use crate::replica::Snapshot;
use crate::replica::blocks::Tree;
use crate::types::{Bytes, ClientId, Cluster, Digest, ReplicaId, SeqNo, Timestamp, View};
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};

type Records = Vec<Record<Ed25519>>;

fn identity() -> Identity {
    Identity {
        domain: Digest([3; 32]),
        replica: ReplicaId(0),
        cluster: Cluster::new(4, 1),
        parameters: Parameters::default(),
    }
}

/// What a primary records for request `n`, executed too.
fn records(n: u64) -> Records {
    let (replicas, clients) = KeyRing::insecure(0, 1, 1);
    let operation = Bytes::from(vec![n as u8; 50]);
    let request = Request { operation, timestamp: Timestamp(n), client: ClientId(0), read_only: false };
    let batch = Arc::new(Batch { requests: vec![Signed::new(request, &clients[0])] });
    let digest = batch.digest();
    let pre_prepare = Signed::new(PrePrepare { view: View(0), n: SeqNo(n), digest }, &replicas[0]);
    vec![Record::PrePrepared(pre_prepare, batch), Record::Executed(SeqNo(n), digest)]
}

fn after(records: &[Records]) -> Durable<Ed25519> {
    let mut durable = Durable::default();
    records.iter().flatten().for_each(|record| durable.apply(record, &Pbft));
    durable
}

fn reopen(directory: &Path) -> Result<Durable<Ed25519>, OpenError> {
    Store::<Ed25519>::open(directory, &identity()).map(|(_, durable)| durable)
}

fn segment_zero(directory: &Path) -> PathBuf {
    log::path(directory, 0)
}

/// A store with this number of groups in it, closed.
fn filled(groups: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    Store::<Ed25519>::create(directory.path(), &identity()).unwrap();
    let (mut store, _) = Store::<Ed25519>::open(directory.path(), &identity()).unwrap();
    (1..=groups).for_each(|n| store.commit(&records(n)).unwrap());
    directory
}

/// Says that nothing after the first `length` bytes of the log is promised, as after a crash before the sync.
fn promise(directory: &Path, length: u64) {
    Promise::open(directory).unwrap().set(0, length).unwrap();
}

#[test]
fn what_was_committed_is_there_again() {
    let directory = filled(3);
    let expected = after(&[records(1), records(2), records(3)]);
    assert_eq!(reopen(directory.path()).unwrap(), expected);
    assert_eq!(reopen(directory.path()).unwrap(), expected, "opening changes nothing");
}

#[test]
fn a_store_is_never_made_twice_nor_opened_where_there_is_none() {
    let directory = filled(1);
    let again = Store::<Ed25519>::create(directory.path(), &identity());
    assert!(matches!(again, Err(OpenError::Exists(_))));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(reopen(empty.path()), Err(OpenError::Missing(_))));
    assert!(matches!(reopen(&empty.path().join("nowhere")), Err(OpenError::Missing(_))));
}

#[test]
fn one_process_has_it_at_a_time() {
    let directory = filled(1);
    let (_open, _) = Store::<Ed25519>::open(directory.path(), &identity()).unwrap();
    assert!(matches!(reopen(directory.path()), Err(OpenError::InUse(_))));
}

#[test]
fn another_replicas_store_is_refused() {
    let directory = filled(1);
    let other = Identity { replica: ReplicaId(1), ..identity() };
    assert!(matches!(Store::<Ed25519>::open(directory.path(), &other), Err(OpenError::Foreign(_))));
}

#[test]
fn a_log_cut_anywhere_is_refused_if_what_is_gone_was_promised_and_else_recovered() {
    let directory = filled(2);
    let path = segment_zero(directory.path());
    let whole = fs::read(&path).unwrap();
    let start = Log::create(directory.path(), &identity(), 9).unwrap().length as usize;
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        promise(directory.path(), whole.len() as u64);
        assert!(matches!(reopen(directory.path()), Err(OpenError::Damaged { .. })), "{length} bytes left");
    }
    fs::remove_file(log::path(directory.path(), 9)).unwrap();
    let prefixes: Vec<Durable<Ed25519>> =
        (0..=4).map(|count| after(&[[records(1), records(2)].concat()[..count].to_vec()])).collect();
    for length in start..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        promise(directory.path(), start as u64);
        let found = reopen(directory.path()).unwrap();
        assert!(prefixes.contains(&found), "{length} bytes left");
        // What was cut off stays away, and the log can be appended to.
        let (mut store, _) = Store::<Ed25519>::open(directory.path(), &identity()).unwrap();
        store.commit(&records(9)).unwrap();
        drop(store);
        let mut expected = found;
        records(9).iter().for_each(|record| expected.apply(record, &Pbft));
        assert_eq!(reopen(directory.path()).unwrap(), expected);
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let directory = filled(2);
    for entry in fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("lock") {
            continue;
        }
        let whole = fs::read(&path).unwrap();
        for bit in (0..whole.len() * 8).step_by(13) {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &damaged).unwrap();
            assert!(reopen(directory.path()).is_err(), "bit {bit} of {}", path.display());
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(reopen(directory.path()).unwrap(), after(&[records(1), records(2)]));
}

#[test]
fn zeros_at_the_end_are_a_write_that_did_not_finish() {
    let directory = filled(2);
    let path = segment_zero(directory.path());
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 100], file.metadata().unwrap().len()).unwrap();
    assert_eq!(reopen(directory.path()).unwrap(), after(&[records(1), records(2)]));
    file.write_all_at(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1], file.metadata().unwrap().len()).unwrap();
    assert!(reopen(directory.path()).is_err(), "zeros that do not go on to the end are damage");
}

#[test]
fn every_missing_file_is_noticed() {
    for name in ["base-0000000000", "log-0000000000", log::PROMISED] {
        let directory = filled(2);
        fs::remove_file(directory.path().join(name)).unwrap();
        assert!(matches!(reopen(directory.path()), Err(OpenError::Damaged { .. })), "{name}");
    }
}

/// The state after `groups`, with a snapshot at 2.
fn with_snapshot(groups: &[Records]) -> Durable<Ed25519> {
    let chunks = [Bytes::from(&b"state"[..]), Bytes::from(&b"clients"[..])];
    let tree = Tree::build::<Ed25519>(&chunks, None);
    let mut durable = after(groups);
    durable.apply(&Record::Snapshot(Arc::new(Snapshot { n: SeqNo(2), tree })), &Pbft);
    durable
}

#[test]
fn a_checkpoint_prunes_the_log_and_loses_nothing_while_its_base_is_being_written() {
    let directory = filled(2);
    let durable = with_snapshot(&[records(1), records(2)]);
    let (mut store, _) = Store::<Ed25519>::open(directory.path(), &identity()).unwrap();
    store.checkpoint(durable.clone()).unwrap();
    assert!(!store.writing, "the log is too short to be worth a base");
    store.begin_segment(durable.clone()).unwrap();
    store.commit(&records(3)).unwrap();
    let mut expected = durable;
    records(3).iter().for_each(|record| expected.apply(record, &Pbft));
    while store.writing {
        store.commit(&[]).unwrap();
        std::thread::yield_now();
    }
    drop(store);
    assert_eq!(log::list(directory.path()).unwrap(), [1]);
    assert_eq!(base::list(directory.path()).unwrap(), [1]);
    assert_eq!(reopen(directory.path()).unwrap(), expected);
    // As if the crash had come before the base was complete: the old base and both segments say the same, but
    // for the snapshot, which follows from what was executed.
    let directory = filled(2);
    let (mut store, _) = Store::<Ed25519>::open(directory.path(), &identity()).unwrap();
    store.log = Log::create(directory.path(), &identity(), 1).unwrap();
    store.commit(&records(3)).unwrap();
    drop(store);
    assert_eq!(reopen(directory.path()).unwrap(), after(&[records(1), records(2), records(3)]));
}

#[test]
fn a_base_is_written_when_the_log_is_as_long_as_the_last_one() {
    let directory = filled(2);
    let (mut store, _) = Store::<Ed25519>::open(directory.path(), &identity()).unwrap();
    let durable = with_snapshot(&[records(1), records(2)]);
    for (base, logged, written) in [
        (10, LEAST_LOG_BYTES - 1, false),
        (10, LEAST_LOG_BYTES, true),
        (2 * LEAST_LOG_BYTES, LEAST_LOG_BYTES, false),
        (2 * LEAST_LOG_BYTES, 2 * LEAST_LOG_BYTES, true),
        (9 * MOST_LOG_BYTES, MOST_LOG_BYTES, true),
    ] {
        let before = store.log.segment;
        (store.base_bytes, store.older_bytes) = (base, logged - store.log.length);
        store.checkpoint(durable.clone()).unwrap();
        assert_eq!(store.log.segment > before, written, "{base} {logged}");
        while store.writing {
            store.collect_written().unwrap();
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_fetched_state_is_there_before_anything_that_relies_on_it() {
    let directory = filled(2);
    let durable = with_snapshot(&[records(1), records(2)]);
    let (mut store, _) = Store::<Ed25519>::open(directory.path(), &identity()).unwrap();
    store.checkpoint_now(&durable).unwrap();
    drop(store);
    assert_eq!(reopen(directory.path()).unwrap(), durable);
    assert_eq!(log::list(directory.path()).unwrap(), [1]);
}

/// The modes of a directory and of everything in it, by name.
fn modes_of(directory: &Path) -> Vec<(String, u32)> {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut modes: Vec<_> = (fs::read_dir(directory).unwrap())
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), mode(&entry.path())))
        .collect();
    modes.sort();
    modes.insert(0, (".".into(), mode(directory)));
    modes
}

#[test]
fn only_its_owner_may_read_a_store_and_one_that_others_may_read_is_taken_from_them() {
    let outer = tempfile::tempdir().unwrap();
    let (parent, directory) = (outer.path().join("data"), outer.path().join("data/replica-0"));
    Store::<Ed25519>::create(&directory, &identity()).unwrap();
    let (mut store, durable) = Store::<Ed25519>::open(&directory, &identity()).unwrap();
    store.commit(&records(1)).unwrap();
    store.checkpoint_now(&durable).unwrap();
    drop(store);
    let names = ["base-0000000001", "lock", "log-0000000001", "promised"];
    let mut expected: Vec<(String, u32)> = names.map(|name| (name.into(), 0o600)).into();
    expected.insert(0, (".".into(), 0o700));
    assert_eq!(modes_of(&directory), expected);
    assert_eq!(modes_of(&parent)[0].1, 0o700);
    let open_to_all = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    open_to_all(&directory, 0o755);
    names.iter().for_each(|name| open_to_all(&directory.join(name), 0o644));
    reopen(&directory).unwrap();
    assert_eq!(modes_of(&directory), expected);
}

#[test]
fn a_base_whose_image_is_damaged_is_said_to_be_damaged_once() {
    let directory = filled(0);
    let base = base::path(directory.path(), 0);
    for (at, what) in [(60, "the checksum of its image"), (9, "no image that this version reads")] {
        let whole = fs::read(&base).unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&base, &bytes).unwrap();
        let said = reopen(directory.path()).unwrap_err().to_string();
        assert!(said.contains(what) && said.matches("damaged").count() == 1, "{said}");
        fs::write(&base, &whole).unwrap();
    }
}
