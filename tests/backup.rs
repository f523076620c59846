//! Backups: what a quorum has signed is given back, and nothing else passes for it.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod support;

use pbft::crypto::Crypto;
use pbft::crypto::ed25519::{Ed25519, KeyRing, Signature};
use pbft::kv::{KeyValue, Operation};
use pbft::replica::{Effects, Record, Replica, Setup};
use pbft::runtime::backup::{Backup, BackupError, Origin, genesis};
use pbft::runtime::store::{Store, View};
use pbft::service::Service;
use pbft::store::{Identity, domain_of_genesis};
use pbft::types::{Bytes, ClientId, Cluster, Digest, Principal, ReplicaId, SeqNo, Timestamp};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use support::{Net, Real, SEED, only, small};

const CHECKSUM_BYTES: usize = 32;

fn public_keys(n: u16) -> Vec<[u8; 32]> {
    let secret = |i| {
        let who = Principal::Replica(ReplicaId(i));
        Ed25519::digest(&postcard::to_stdvec(&(SEED, who)).unwrap()).0
    };
    (0..n).map(|i| KeyRing::public_key(&secret(i))).collect()
}

fn origin() -> Origin {
    Origin { domain: Digest::NULL, cluster: Cluster::new(4, 1), keys: public_keys(4) }
}

/// What somebody has who knows the configuration and no secret.
fn outsider(net: &Net) -> Setup<Real> {
    let replica = |i| Principal::Replica(ReplicaId(i));
    let public: BTreeMap<_, _> = (0..4).map(replica).zip(public_keys(4)).collect();
    let keys = Arc::new(KeyRing::verifying(Digest::NULL, &public).unwrap());
    Setup { keys, ..net.setups[0].clone() }
}

fn identity() -> Identity {
    Identity { domain: Digest::NULL, replica: ReplicaId(2), cluster: Cluster::new(4, 1), parameters: small() }
}

/// Four replicas that have executed so many batches: key `k{i}` was set by the i-th.
fn executed(batches: u64) -> Net {
    let mut net = Net::four();
    net.execute(0, 1..=batches);
    net
}

/// The store of replica 2, with these records in it, held open as by a running replica.
fn stored(records: &[Record<Ed25519>]) -> (tempfile::TempDir, Store<Ed25519>) {
    let directory = tempfile::tempdir().unwrap();
    Store::<Ed25519>::create(directory.path(), &identity()).unwrap();
    let (mut store, _) = Store::open(directory.path(), &identity()).unwrap();
    store.commit(records).unwrap();
    (directory, store)
}

fn view(directory: &Path) -> View<Ed25519> {
    View::read(directory, &identity()).unwrap()
}

/// A backup at 4 of replica 2, which has executed 5, and who can check it.
fn sample() -> (Setup<Real>, Backup) {
    let net = executed(5);
    let (directory, _store) = stored(&net.records[2]);
    let setup = outsider(&net);
    let (backup, _) = Backup::take(&setup, &origin(), &view(directory.path())).unwrap();
    (setup, backup)
}

fn written(backup: &Backup) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.backup");
    backup.write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    (directory, path, bytes)
}

/// The checksum of a content that somebody has changed who knows how it is made.
fn seal(content: &mut Vec<u8>) {
    let checksum = Ed25519::digest(content);
    content.extend_from_slice(&checksum.0);
}

/// Reads and checks what a file holds.
fn outcome(setup: &Setup<Real>, path: &Path) -> Result<SeqNo, BackupError> {
    Ok(Backup::read(path)?.check(setup, &origin())?.n)
}

#[test]
fn the_last_stable_checkpoint_is_taken_from_the_store_of_a_running_replica() {
    let mut net = executed(5);
    let (directory, mut store) = stored(&net.records[2]);
    let setup = outsider(&net);
    assert!(Store::<Ed25519>::open(directory.path(), &identity()).is_err(), "it is in use");
    let (backup, vouched) = Backup::take(&setup, &origin(), &view(directory.path())).unwrap();
    assert_eq!((vouched.n, view(directory.path()).durable.last_executed()), (SeqNo(4), SeqNo(5)));
    let keys: Vec<u64> =
        (1..=6).filter(|i| vouched.service.get(format!("k{i}").as_bytes()).is_some()).collect();
    assert_eq!(keys, [1, 2, 3, 4]);
    assert_eq!(vouched.clients.last_timestamp(ClientId(0)), Timestamp(4));
    assert!(vouched.signers.len() >= 3);
    let (_kept, path, _) = written(&backup);
    assert_eq!(Backup::read(&path).unwrap(), backup);

    // From the base, once there is one, and from what was logged on top of it.
    store.checkpoint_now(net.replicas[2].durable()).unwrap();
    assert_eq!(Backup::take(&setup, &origin(), &view(directory.path())).unwrap().0, backup);
    let before = net.records[2].len();
    net.execute(0, 6..=9);
    store.commit(&net.records[2][before..]).unwrap();
    let seen = view(directory.path());
    assert_eq!(seen.durable.snapshot.n, SeqNo(4));
    let (_, vouched) = Backup::take(&setup, &origin(), &seen).unwrap();
    assert_eq!(vouched.n, SeqNo(8));
    assert_eq!(vouched.service.keys().count(), 8);
}

#[test]
fn reading_a_store_changes_nothing_in_it_and_passes_over_what_is_being_written() {
    let net = executed(5);
    let (directory, _store) = stored(&net.records[2]);
    let log = directory.path().join("log-0000000000");
    let whole = fs::read(&log).unwrap();
    let setup = outsider(&net);
    // The length of a record that is not there yet.
    OpenOptions::new().append(true).open(&log).unwrap().write_all(&[50, 0, 0, 0, 1, 2, 3, 4, 5]).unwrap();
    let (_, vouched) = Backup::take(&setup, &origin(), &view(directory.path())).unwrap();
    assert_eq!(vouched.n, SeqNo(4));
    assert_eq!(fs::read(&log).unwrap().len(), whole.len() + 9, "what is torn is left alone");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&log, damaged).unwrap();
    assert!(View::<Ed25519>::read(directory.path(), &identity()).is_err());
}

#[test]
fn a_store_can_be_read_at_any_time_while_its_replica_writes_bases_and_removes_files() {
    let net = executed(120);
    let setup = outsider(&net);
    let (directory, mut store) = stored(&[]);
    let done = AtomicBool::new(false);
    let (reads, last) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, mut last) = (0, SeqNo(0));
            loop {
                let is_last = done.load(Relaxed);
                match Backup::take(&setup, &origin(), &view(directory.path())) {
                    Ok((_, vouched)) => {
                        assert!(vouched.n >= last, "what is durable is not forgotten");
                        assert_eq!(vouched.service.keys().count() as u64, vouched.n.0);
                        last = vouched.n;
                    }
                    Err(BackupError::NoCheckpoint { .. }) => assert_eq!(last, SeqNo(0)),
                    Err(error) => panic!("{error}"),
                }
                reads += 1;
                if is_last {
                    return (reads, last);
                }
            }
        });
        let mut durable = pbft::replica::Durable::default();
        for record in &net.records[2] {
            store.commit(std::slice::from_ref(record)).unwrap();
            durable.apply(record, &pbft::rules::Pbft);
            if matches!(record, Record::Snapshot(_)) {
                store.checkpoint_now(&durable).unwrap();
            }
        }
        done.store(true, Relaxed);
        reader.join().unwrap()
    });
    assert_eq!(last, SeqNo(120));
    assert!(reads > 3, "{reads}");
}

#[test]
fn without_a_stable_checkpoint_or_its_state_there_is_no_backup() {
    let net = executed(1);
    let (directory, _store) = stored(&net.records[2]);
    let taken = Backup::take(&outsider(&net), &origin(), &view(directory.path()));
    assert!(matches!(taken, Err(BackupError::NoCheckpoint { executed: 1, interval: 2 })));
    // Replica 3 has missed everything and knows the proof.
    let mut net = Net::one_left_behind();
    let stable = net.replicas[0].durable().stable.clone().unwrap();
    net.deliver(3, pbft::message::Message::Stable(stable));
    let (directory, _store) = stored(&net.records[3]);
    let taken = Backup::take(&outsider(&net), &origin(), &view(directory.path()));
    assert!(matches!(taken, Err(BackupError::NoStateThere { stable: 4, executed: 0 })));
}

#[test]
fn every_flipped_bit_is_refused_and_every_changed_byte_with_a_checksum_made_anew() {
    let (setup, backup) = sample();
    let (_kept, path, whole) = written(&backup);
    assert_eq!(outcome(&setup, &path).unwrap(), SeqNo(4));
    let content = whole.len() - CHECKSUM_BYTES;
    for bit in 0..whole.len() * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &changed).unwrap();
        let refused = outcome(&setup, &path).expect_err("it is not what was written").to_string();
        assert_eq!(refused.lines().count(), 1, "bit {bit}: {refused}");
        // Each byte, but not each bit: these cost signatures to be verified.
        if bit < content * 8 && bit % 3 == 0 {
            changed.truncate(content);
            seal(&mut changed);
            fs::write(&path, &changed).unwrap();
            assert!(outcome(&setup, &path).is_err(), "bit {bit}, forged");
        }
    }
}

#[test]
fn every_truncation_and_every_announced_length_is_refused_without_room_for_it() {
    let (setup, backup) = sample();
    let (_kept, path, whole) = written(&backup);
    let content = whole.len() - CHECKSUM_BYTES;
    let refused_within_bounds = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let measured = allocation_counter::measure(|| assert!(outcome(&setup, &path).is_err(), "{what}"));
        assert!(measured.bytes_max < 3 << 20, "{what}: {} bytes at a time", measured.bytes_max);
    };
    for length in 0..whole.len() {
        refused_within_bounds(&whole[..length], &format!("{length} bytes"));
        let mut sealed = whole[..length.min(content)].to_vec();
        if length < content {
            seal(&mut sealed);
            refused_within_bounds(&sealed, &format!("{length} bytes, forged"));
        }
    }
    for at in 0..content - 8 {
        for announced in [u64::MAX, u64::MAX / 2, 1 << 40, 1 << 24] {
            let mut changed = whole[..content].to_vec();
            changed[at..at + 8].copy_from_slice(&announced.to_le_bytes());
            seal(&mut changed);
            refused_within_bounds(&changed, &format!("{announced} at {at}"));
        }
    }
    let longer = [&whole[..], &[0]].concat();
    refused_within_bounds(&longer, "a byte more");
}

#[test]
fn only_a_quorum_of_the_configured_replicas_vouches() {
    let (setup, backup) = sample();
    let votes = backup.certificate.proof.votes.clone();
    let with = |votes: Vec<(ReplicaId, Signature)>| {
        let mut changed = backup.clone();
        changed.certificate.proof.votes = votes;
        changed.check(&setup, &origin())
    };
    assert!(with(votes.clone()).is_ok());
    let unproved = |votes| matches!(with(votes), Err(BackupError::Unproved(_)));
    assert!(unproved(votes[..2].to_vec()), "two of four are no quorum");
    assert!(unproved(vec![votes[0], votes[1], votes[1]]), "nobody counts twice");
    assert!(unproved(vec![votes[0], votes[1], (votes[1].0, votes[2].1)]), "nobody signs for another");
    assert!(unproved(vec![votes[0], votes[1], (ReplicaId(9), votes[2].1)]), "a stranger does not count");
    let mut earlier = backup.clone();
    earlier.certificate.n = SeqNo(2);
    assert!(matches!(earlier.check(&setup, &origin()), Err(BackupError::Unproved(_))));
    let mut other = backup.clone();
    other.chunks.swap(0, 1);
    assert!(matches!(other.check(&setup, &origin()), Err(BackupError::OtherState)));
}

#[test]
fn a_backup_of_another_cluster_is_refused_even_if_it_says_otherwise() {
    let (setup, backup) = sample();
    let foreign = |origin: Origin| matches!(backup.check(&setup, &origin), Err(BackupError::Foreign(_)));
    assert!(foreign(Origin { domain: Digest([1; 32]), ..origin() }));
    assert!(foreign(Origin { cluster: Cluster::new(4, 0), ..origin() }));
    assert!(foreign(Origin { keys: public_keys(3), ..origin() }));
    // Everything in the file is right but for who signed, by keys of another seed.
    let (rings, _) = KeyRing::insecure(SEED + 1, 4, 0);
    let mut forged = backup.clone();
    let content =
        |replica| pbft::message::Checkpoint { n: SeqNo(4), digest: backup.certificate.digest, replica };
    let sign = |(id, ring): (u16, &KeyRing)| {
        let replica = ReplicaId(id);
        let content = pbft::crypto::Content::to_be_signed(&content(replica));
        (replica, Ed25519::sign(ring, &content))
    };
    forged.certificate.proof.votes = (0..).zip(&rings).map(sign).collect();
    assert!(matches!(forged.check(&setup, &origin()), Err(BackupError::Unproved(_))));
}

#[test]
fn a_file_is_its_owners_is_never_overwritten_and_leaves_nothing_beside_it() {
    let (_, backup) = sample();
    let (directory, path, whole) = written(&backup);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(backup.write(&path), Err(BackupError::Exists)));
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    assert!(matches!(backup.write(&directory.path().join("none/there")), Err(BackupError::Io(_))));
    assert!(matches!(Backup::read(&directory.path().join("nothing")), Err(BackupError::Io(_))));
}

// --- the state that a new cluster begins with ---

fn begun_with(keys: &[&str]) -> KeyValue {
    let mut service = KeyValue::default();
    for key in keys {
        let put = Operation::Put { key: Bytes::from(key.as_bytes()), value: Bytes::from(&b"old"[..]) };
        service.execute(ClientId(0), &put.to_bytes());
    }
    service
}

#[test]
fn a_genesis_file_gives_back_the_state_it_is_named_by_and_nothing_else() {
    let service = begun_with(&["a", "b"]);
    let digest = service.digest::<Ed25519>();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("genesis.state");
    genesis::write(&path, &service).unwrap();
    let read = |digest| genesis::read::<KeyValue, Ed25519>(&path, digest);
    assert_eq!(read(digest).unwrap(), service);
    let other = begun_with(&["a"]).digest::<Ed25519>();
    assert!(matches!(read(other), Err(BackupError::OtherGenesis { .. })));
    assert!(matches!(genesis::write(&path, &service), Err(BackupError::Exists)));
    let whole = fs::read(&path).unwrap();
    let content = whole.len() - CHECKSUM_BYTES;
    for bit in 0..whole.len() * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &changed).unwrap();
        assert!(read(digest).is_err(), "bit {bit}");
        if bit < content * 8 {
            changed.truncate(content);
            seal(&mut changed);
            fs::write(&path, &changed).unwrap();
            assert!(read(digest).is_err(), "bit {bit}, forged");
        }
    }
    let (domain, other_domain) = (Digest([1; 32]), Digest([2; 32]));
    assert_ne!(domain_of_genesis::<Ed25519>(domain, digest), domain_of_genesis::<Ed25519>(domain, other));
    assert_ne!(
        domain_of_genesis::<Ed25519>(domain, digest),
        domain_of_genesis::<Ed25519>(other_domain, digest)
    );
}

#[test]
fn replicas_that_begin_with_a_state_go_on_from_it_and_one_without_its_store_fetches_it() {
    let mut net = Net::new(7, 2, small());
    for at in 0..net.n() {
        net.setups[at].genesis = begun_with(&["a", "b"]);
        net.replicas[at] = Replica::start(&net.setups[at], None, &mut Effects::new()).unwrap();
        net.disks[at] = net.replicas[at].durable().clone();
    }
    net.execute(0, 1..=5);
    for at in 0..net.n() {
        assert_eq!((net.value(at, "a").as_deref(), net.value(at, "k5").as_deref()), (Some("old"), Some("v")));
        assert_eq!((net.h(at), net.last_executed(at)), (4, 5));
    }
    net.assert_restarts_agree();
    // It has lost its store: it begins with the same state, and catches up by the checkpoint.
    net.restart(6, pbft::replica::Durable::default());
    assert_eq!(net.value(6, "a").as_deref(), Some("old"));
    net.gossip(&only(0..7));
    assert_eq!((net.h(6), net.value(6, "k4").as_deref()), (4, Some("v")));
    assert_eq!(net.value(6, "a").as_deref(), Some("old"));
}
