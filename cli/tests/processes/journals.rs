//! The audit notices: damage, effects that the code does not ask for, and replicas that did different things.

use crate::config::Config;
use crate::support::{Cluster, pbft};
use pbft::runtime::journal::{Entry, Header, Kind, Limits, Reader, Writer};
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

/// The name of the first segment of a journal.
const FIRST: &str = "segment-0000000000";

/// The segments of a journal, the oldest first.
fn segments(journal: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("segment-");
    let mut segments: Vec<PathBuf> = paths.filter(is_one).collect();
    segments.sort();
    segments
}

/// A journal of copies of these segments.
fn copy_segments(segments: &[PathBuf], to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for segment in segments {
        fs::copy(segment, to.join(segment.file_name().unwrap())).unwrap();
    }
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 0x10;
    fs::write(path, &bytes).unwrap();
}

/// A copy of a journal with each entry as `edit` leaves it.
fn copy(from: &Path, to: &Path, header: Header, mut edit: impl FnMut(&mut Entry)) {
    let mut reader = Reader::open(from).unwrap();
    let mut writer = Writer::open(to, header, Limits::default()).unwrap();
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
    let segments = segments(&good);
    copy_segments(&segments, &damaged);
    flip_a_byte(&damaged.join(segments[0].file_name().unwrap()));
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

/// Segments of a MiB or more, six MiB of which are kept, under load while replicas are killed.
#[test]
fn journals_are_cut_and_an_audit_says_from_where_it_speaks() {
    let mut cluster = Cluster::new(4, |table| {
        table.insert("journal_segment_mb".into(), 1.into());
        table.insert("journal_keep_mb".into(), 6.into());
        let parameters = table["parameters"].as_table_mut().unwrap();
        parameters.insert("checkpoint_interval".into(), 16.into());
        parameters.insert("window".into(), 64.into());
    });
    let mut client = cluster.client(0);
    let mut round = 0_u8;
    // How much is written depends on how often messages are sent again: until all have cut their journals.
    while round < 6 || (0..4).any(|id| segments(&journal(&cluster, id))[0].ends_with(FIRST)) {
        assert!(round < 40, "no journal is cut");
        let victim = usize::from(round % 3) + 1;
        for i in 0..80_u8 {
            if i == 40 {
                cluster.kill(victim);
            }
            client.put(&format!("k{}", i % 5), &[round ^ i; 8_000]);
        }
        cluster.spawn(victim, &[]);
        cluster.wait_until_caught_up(victim);
        round += 1;
    }
    cluster.stop_replicas();
    for id in 0..4 {
        let kept = segments(&journal(&cluster, id));
        assert!(kept.len() >= 3 && !kept[0].ends_with(FIRST), "{kept:?}");
        let bytes: u64 = kept.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(bytes < 8 << 20, "{bytes} bytes in {kept:?}");
    }
    let (code, said) = audit(&cluster, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("judged: replicas 0, 1, 2, 3\n"), "{said}");
    assert!(said.contains("all that are judged are known after n = "), "{said}");
    let held = said.lines().filter(|line| line.ends_with(": holds from where the journals begin"));
    assert_eq!(held.count(), 11, "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("; judged after n = ")).count(), 4, "{said}");

    let other = cluster.directory.path().join("other.journal");
    let kept = segments(&journal(&cluster, 1));
    for segment in &kept {
        copy_segments(&kept, &other);
        let damaged = other.join(segment.file_name().unwrap());
        flip_a_byte(&damaged);
        let (code, said) = audit(&cluster, std::slice::from_ref(&other));
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains(&format!("{} is damaged", damaged.display())), "{said}");
    }
    copy_segments(&kept, &other);
    fs::remove_file(other.join(kept[1].file_name().unwrap())).unwrap();
    let (code, said) = audit(&cluster, std::slice::from_ref(&other));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("segments are missing in 1 places"), "{said}");
    assert!(!said.contains("DIVERGES") && !said.contains("damaged"), "{said}");
    // Each by itself.
    for segment in &kept {
        let (code, said) = audit(&cluster, std::slice::from_ref(segment));
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("judged after n = "), "{said}");
    }
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
    let make = |config: &Path| {
        let header = Config::read(config).unwrap().journal_header(id);
        drop(Writer::open(&path, header, Limits::default()).unwrap());
    };
    make(&other);
    assert!(ask(&[&path]).contains("belongs to another replica, cluster or configuration"));
    assert!(ask(&[&one]).contains("is no journal of this program"));
    // A journal in which nobody has started tells nothing.
    fs::remove_dir_all(&path).unwrap();
    make(&one);
    let output = pbft().args(["audit", "--config"]).arg(&one).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stdout));
}
