//! `pbft cluster`: a process for each replica, on this machine.

use super::addresses::free_addresses;
use super::config::Config;
use super::keygen::{Size, blank, config_path, generate};
use super::observer::{self, Who};
use crate::output::interrupted;
use crate::say;
use pbft::runtime::control::Health;
use pbft::types::ReplicaId;
use std::fs::{File, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How long the replicas may take to answer.
const START: Duration = Duration::from_secs(60);
/// How long the replicas may take to answer before it is looked whether they run.
const ROUND: Duration = Duration::from_millis(500);
/// How long a replica may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(10);
/// The length of a replica's log and how many old ones are kept: at most 64 MiB for each replica.
const LOG_MAX_MB: &str = "16";
const LOG_KEEP: &str = "3";

/// The options of `pbft cluster`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    size: Size,
    /// Where keys, configuration, stores and logs are, or are put; a temporary directory, removed at the end,
    /// if not given.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Let each replica judge its own steps, as `pbft replica --judge` does.
    #[arg(long)]
    judge: bool,
}

/// Runs a cluster until Ctrl-C.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let temporary;
    let directory = match &arguments.dir {
        Some(directory) => directory.as_path(),
        None => {
            temporary = tempfile::Builder::new().prefix("pbft-").tempdir().map_err(|error| {
                format!("cannot make a temporary directory: {error}; give one with --dir")
            })?;
            temporary.path()
        }
    };
    let path = config_path(directory);
    let config = if path.exists() {
        let config = Config::read(&path)?;
        if config.cluster.n() != usize::from(arguments.size.replicas) {
            return Err(format!(
                "{} lists {} replicas: ask for as many with --replicas, or choose another --dir",
                path.display(),
                config.cluster.n()
            ));
        }
        config
    } else {
        {
            let file = blank(arguments.size, free_addresses(arguments.size.replicas)?);
            generate(directory, file, arguments.size.clients_per_host)?
        }
    };
    let mut processes = Processes::start(directory, &config, arguments.judge)?;
    processes.wait_until_ready(&config)?;
    for (i, child) in processes.children.iter().enumerate() {
        if processes.told[i] {
            continue;
        }
        say!(
            "replica {i}: {}, process {}, log {}",
            config.file.replicas[i].address,
            child.id(),
            log_path(directory, i).display()
        );
    }
    say!("{} replicas tolerate {} faulty", config.cluster.n(), config.cluster.f());
    say!("ready");
    let shown = path.display();
    say!("put:    pbft client --config {shown} put greeting hello");
    say!("get:    pbft client --config {shown} get greeting");
    say!("status: pbft status --config {shown}");
    say!("Ctrl-C stops the cluster");
    while !interrupted() {
        for gone in processes.gone() {
            eprintln!(
                "pbft: replica {gone} has stopped: see {}, and start it again with `pbft replica --config {shown} --id {gone}`",
                log_path(directory, gone).display()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    processes.stop()?;
    say!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Where a replica's log is.
pub fn log_path(directory: &Path, replica: usize) -> PathBuf {
    directory.join(format!("replica-{replica}.log"))
}

/// The replicas of a cluster. Dropping it kills them.
pub struct Processes {
    directory: PathBuf,
    pub children: Vec<Child>,
    told: Vec<bool>,
    judge: bool,
}

impl Processes {
    /// Starts a process for each replica, which judges its own steps if it is to.
    pub fn start(directory: &Path, config: &Config, judge: bool) -> Result<Self, String> {
        let directory = directory.to_path_buf();
        let told = vec![false; config.cluster.n()];
        let mut processes = Processes { directory, children: Vec::new(), told, judge };
        for id in config.cluster.replicas() {
            let child = processes.spawn(id)?;
            processes.children.push(child);
        }
        Ok(processes)
    }

    fn spawn(&self, id: ReplicaId) -> Result<Child, String> {
        let log = log_path(&self.directory, usize::from(id.0));
        let failed = |error: std::io::Error| format!("cannot write {}: {error}", log.display());
        let output = File::options().create(true).append(true).mode(0o600).open(&log).map_err(failed)?;
        // One that an earlier version has made.
        output.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        let program =
            std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        Command::new(program)
            .arg("replica")
            .arg("--config")
            .arg(config_path(&self.directory))
            .args(["--id", &id.0.to_string(), "--stop-with-parent"])
            .arg("--log-file")
            .arg(&log)
            .args(["--log-max-mb", LOG_MAX_MB, "--log-keep", LOG_KEEP])
            .args(self.judge.then_some("--judge"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .map_err(|error| format!("cannot start a replica: {error}"))
    }

    /// Waits until every replica answers that has not stopped, and tells which have.
    ///
    /// # Errors
    /// If fewer than a quorum are left.
    pub fn wait_until_ready(&mut self, config: &Config) -> Result<(), String> {
        let deadline = Instant::now() + START;
        loop {
            // The key is let go after each round, so that others may ask meanwhile.
            let answers = observer::open(config, Who::Anybody)?.ask(ROUND)?;
            // Another cluster may answer at the same addresses.
            let runs = |(child, answer): (&Child, &Option<Health>)| {
                answer.as_ref().is_some_and(|status| status.pid == child.id())
            };
            let running = self.children.iter().zip(&answers).filter(|&one| runs(one)).count();
            for gone in self.gone() {
                let log = log_path(&self.directory, gone);
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let last = text.lines().last().unwrap_or_default().trim_start_matches("pbft: ").to_owned();
                eprintln!("pbft: replica {gone} does not start: {last} (the log is {})", log.display());
            }
            let left = self.told.iter().filter(|&&told| !told).count();
            if left < config.cluster.quorum() {
                return Err(format!("{left} replicas are left, and {} must run", config.cluster.quorum()));
            }
            if running == left {
                return Ok(());
            }
            if interrupted() || Instant::now() >= deadline {
                return Err(format!(
                    "not all replicas answer; their logs are in {}",
                    self.directory.display()
                ));
            }
        }
    }

    /// The replicas that have stopped since the last call.
    pub fn gone(&mut self) -> Vec<usize> {
        let mut gone = Vec::new();
        for (i, child) in self.children.iter_mut().enumerate() {
            if !self.told[i] && matches!(child.try_wait(), Ok(Some(_))) {
                self.told[i] = true;
                gone.push(i);
            }
        }
        gone
    }

    /// Kills a replica, as `kill -9` does.
    pub fn kill(&mut self, replica: usize) {
        if let Some(child) = self.children.get_mut(replica) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops every replica, and kills one that takes too long.
    pub fn stop(mut self) -> Result<(), String> {
        for child in &mut self.children {
            // The end of its input tells it to stop.
            drop(child.stdin.take());
        }
        let deadline = Instant::now() + STOP;
        let mut killed = Vec::new();
        for (i, child) in self.children.iter_mut().enumerate() {
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() >= deadline {
                    killed.push(i.to_string());
                    let _ = child.kill();
                    let _ = child.wait();
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if killed.is_empty() {
            return Ok(());
        }
        Err(format!(
            "replicas {} did not stop and were killed; nothing they promised is lost",
            killed.join(", ")
        ))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.children {
            if matches!(child.try_wait(), Ok(None)) {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
