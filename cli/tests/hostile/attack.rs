//! Starting and stopping attackers, and measuring what is left for the others.

use crate::support::{Cluster, Load};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the others must keep at least in the ordinary tests, beside other tests on a machine of two processors.
pub const LEAST: f64 = 0.1;
/// For how long something is measured; longer, up to a bound, until so much has been served.
pub const WINDOW: Duration = Duration::from_millis(1000);
const LONGEST: Duration = Duration::from_secs(10);
const ENOUGH: u64 = 30;
/// How long an attack goes on before.
const BEGINS: Duration = Duration::from_millis(300);

/// Held while something is measured: nothing else runs meanwhile in this process.
pub fn quiet() -> MutexGuard<'static, ()> {
    static MEASURING: Mutex<()> = Mutex::new(());
    MEASURING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A cluster in which somebody may misbehave.
pub fn allowed(table: &mut toml::Table) {
    table.insert("allow_misbehaviour".into(), true.into());
}

/// The same with a longer progress time-out, so that a busy machine changes no view: where the attack is on
/// something else.
pub fn patient(table: &mut toml::Table) {
    allowed(table);
    table.insert("progress_timeout_ms".into(), 2000.into());
}

fn misbehaving() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pbft-misbehaving"))
}

/// A file that tells a misbehaving replica when to.
pub struct Sign(PathBuf);

impl Sign {
    pub fn raise(&self) {
        File::create(&self.0).unwrap();
    }

    pub fn lower(&self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// Puts one in the place of a correct replica that follows the protocol until the sign is raised.
pub fn follow(cluster: &mut Cluster, id: usize, arguments: &[&str]) -> Sign {
    if cluster.processes[id].is_some() {
        cluster.kill(id);
    }
    let sign = Sign(cluster.directory.path().join("sign"));
    let _ = fs::remove_file(&sign.0);
    let log = cluster.directory.path().join(format!("replica-{id}.log"));
    let log = File::options().create(true).append(true).open(log).unwrap();
    let child = misbehaving()
        .args(["replica", "--stop-with-parent", "--id", &id.to_string(), "--config"])
        .arg(cluster.path())
        .arg("--while")
        .arg(&sign.0)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    cluster.processes[id] = Some(child);
    cluster.faulty.insert(id);
    sign
}

/// One with a client's key, which has begun; it ends by itself after a minute, or when this is dropped.
pub struct Attacker(Child);

impl Attacker {
    pub fn start(cluster: &Cluster, id: u32, what: &str, rate: u64) -> Self {
        let mut child = misbehaving()
            .args(["client", "--stop-with-parent", "--seconds", "60", "--misbehave", what])
            .args(["--id", &id.to_string(), "--rate", &rate.to_string(), "--config"])
            .arg(cluster.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("MISBEHAVES ON PURPOSE"), "{line}");
        Attacker(child)
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Requests a second that the load completes meanwhile.
pub fn rate(load: &Load, window: Duration) -> f64 {
    let (before, begin) = (load.completed.load(Relaxed), Instant::now());
    std::thread::sleep(window);
    (load.completed.load(Relaxed) - before) as f64 / begin.elapsed().as_secs_f64()
}

/// The same for as long as it takes to serve enough, at least for a window.
fn rate_of_enough(load: &Load) -> f64 {
    let (before, begin) = (load.completed.load(Relaxed), Instant::now());
    let served = || load.completed.load(Relaxed) - before;
    while begin.elapsed() < WINDOW || (served() < ENOUGH && begin.elapsed() < LONGEST) {
        std::thread::sleep(Duration::from_millis(10));
    }
    served() as f64 / begin.elapsed().as_secs_f64()
}

/// What was measured of one attack.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub control: f64,
    pub under: f64,
}

impl Share {
    pub fn of(self) -> f64 {
        self.under / self.control.max(1.0)
    }
}

/// Measures without, with, and without.
pub fn measure<A>(load: &Load, begin: impl FnOnce() -> A, end: impl FnOnce(A)) -> Share {
    let before = rate_of_enough(load);
    let attack = begin();
    std::thread::sleep(BEGINS);
    let under = rate_of_enough(load);
    end(attack);
    std::thread::sleep(BEGINS);
    let after = rate_of_enough(load);
    Share { control: f64::midpoint(before, after), under }
}

/// Tries thrice, as a busy machine may spoil a trial: whether one of them leaves the others enough.
pub fn leaves_enough(name: &str, mut trial: impl FnMut() -> Share) -> bool {
    (0..3).any(|_| {
        let share = trial();
        println!("{name}: {:.0} of {:.0} requests/s, {:.2}", share.under, share.control, share.of());
        share.of() >= LEAST
    })
}

/// The sum over these replicas of a counter, or of a reason for which messages are dropped.
pub fn counted(cluster: &Cluster, ids: &[usize], name: &str) -> u64 {
    let of = |id: usize| {
        cluster.status(id).map_or(0, |status| {
            let rejected = status.rejections.iter().find(|(why, _)| why == name);
            rejected.map_or_else(|| status.counter(name), |&(_, count)| count)
        })
    };
    ids.iter().map(|&id| of(id)).sum()
}
