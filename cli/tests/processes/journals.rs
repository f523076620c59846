//! The audit notices: damage, effects that the code does not ask for, and replicas that did different things.

use crate::config::Config;
use crate::support::{Cluster, pbft};
use pbft::runtime::journal::{Entry, Header, Kind, Reader, Writer};
use pbft::types::ReplicaId;
use std::fs;
use std::path::{Path, PathBuf};

/// The exit status of an audit of these journals, and what it prints.
fn audit(cluster: &Cluster, journals: &[PathBuf]) -> (Option<i32>, String) {
    let output = pbft().args(["audit", "--config"]).arg(cluster.path()).args(journals).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn journal(cluster: &Cluster, id: u16) -> PathBuf {
    cluster.config.journal(ReplicaId(id))
}

/// A copy of a journal with each entry as `edit` leaves it.
fn copy(from: &Path, to: &Path, header: Header, mut edit: impl FnMut(&mut Entry)) {
    let mut reader = Reader::open(from).unwrap();
    let mut writer = Writer::open(to, header).unwrap();
    while let Some(mut entry) = reader.next_entry().unwrap() {
        edit(&mut entry);
        writer.append(&entry).unwrap();
    }
    writer.flush().unwrap();
}

#[test]
fn a_flipped_byte_and_a_changed_effect_are_told() {
    let mut cluster = Cluster::new(4, |_| {});
    cluster.client(0).put("k", b"1");
    cluster.stop_replicas();
    let good = journal(&cluster, 1);
    let (code, said) = audit(&cluster, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("judged: replicas 0, 1, 2, 3\n") && said.contains("\nvalidity: holds\n"), "{said}");
    assert_eq!(said.lines().filter(|line| line.ends_with(": holds")).count(), 11, "{said}");

    let damaged = cluster.directory.path().join("damaged.journal");
    let mut bytes = fs::read(&good).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 0x10;
    fs::write(&damaged, &bytes).unwrap();
    let (code, said) = audit(&cluster, &[damaged]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("is damaged: ") && said.contains("not read to its end"), "{said}");

    let changed = cluster.directory.path().join("changed.journal");
    let header = cluster.config.journal_header(ReplicaId(1));
    let (mut steps, mut step) = (0, None);
    copy(&good, &changed, header, |entry| {
        if let Entry::Step { effects, .. } = entry {
            steps += 1;
            if let Some(sent) = effects.iter_mut().find(|note| note.kind == Kind::SendCommit)
                && step.is_none()
            {
                sent.checksum ^= 1;
                step = Some(steps);
            }
        }
    });
    let (code, said) = audit(&cluster, &[changed]);
    assert_eq!(code, Some(1), "{said}");
    let step = step.unwrap();
    assert!(said.contains(&format!("DIVERGES in life 1, step {step}: ")), "{said}");
    assert!(said.contains("COMMIT sent (view 0, n = 1"), "{said}");
    cluster.stop();
}

#[test]
fn replicas_of_two_runs_with_the_same_keys_do_not_agree() {
    let mut cluster = Cluster::new(4, |_| {});
    cluster.client(0).put("k", b"1");
    cluster.wait_until_caught_up(3);
    cluster.stop_replicas();
    let other = cluster.directory.path().join("other-run.journal");
    fs::rename(journal(&cluster, 3), &other).unwrap();
    for directory in ["data", "journals"] {
        fs::remove_dir_all(cluster.directory.path().join(directory)).unwrap();
    }
    (0..4).for_each(|id| cluster.spawn(id, &["--init"]));
    cluster.wait_for_answers();
    cluster.client(0).put("k", b"2");
    cluster.wait_until_caught_up(3);
    cluster.stop_replicas();
    let mixed = [journal(&cluster, 0), journal(&cluster, 1), journal(&cluster, 2), other];
    let (code, said) = audit(&cluster, &mixed);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("\nagreement: VIOLATED: at n = 1, "), "{said}");
    assert!(!said.contains("DIVERGES"), "each of them ran the code: {said}");
    cluster.stop();
}

#[test]
fn an_audit_without_journals_or_of_anothers_is_a_mistake() {
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [one, other] = directories.each_ref().map(|directory| {
        let path = directory.path().join("cluster.toml");
        assert!(pbft().args(["keygen", "--dir"]).arg(directory.path()).output().unwrap().status.success());
        path
    });
    let ask = |journals: &[&Path]| {
        let output = pbft().args(["audit", "--config"]).arg(&one).args(journals).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    assert!(ask(&[]).contains("journal = true"));
    let (id, path) = (ReplicaId(0), directories[0].path().join("a.journal"));
    drop(Writer::open(&path, Config::read(&other).unwrap().journal_header(id)).unwrap());
    assert!(ask(&[&path]).contains("belongs to another replica, cluster or configuration"));
    assert!(ask(&[&one]).contains("is no journal of this program"));
    // A journal in which nobody has started tells nothing.
    fs::remove_file(&path).unwrap();
    drop(Writer::open(&path, Config::read(&one).unwrap().journal_header(id)).unwrap());
    let output = pbft().args(["audit", "--config"]).arg(&one).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stdout));
}
