//! `pbft client`: operations on the replicated key-value store.

use super::config::Config;
use super::request::{Input, Request};
use crate::output::interrupted;
use crate::say;
use clap::Parser;
use pbft::client::ClientDurable;
use pbft::crypto::ed25519::Ed25519;
use pbft::kv::{Operation, Outcome};
use pbft::rules::Pbft;
use pbft::runtime::Clients;
use pbft::types::{ClientId, Principal, Timestamp};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Which cluster, and in whose name.
#[derive(clap::Args)]
pub struct Identity {
    /// The configuration, as `pbft keygen` or `pbft cluster` writes it.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Which client's key to use; the first that is not in use, if not given.
    #[arg(long)]
    pub client: Option<u32>,
}

/// The options of `pbft client`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    identity: Identity,
    /// How many seconds to wait for an answer.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
    /// What to do; a prompt, if not given.
    #[command(subcommand)]
    operation: Option<Request>,
}

/// A line of the prompt.
#[derive(Parser)]
#[command(name = "", no_binary_name = true, disable_help_flag = true, disable_version_flag = true)]
struct Line {
    #[command(subcommand)]
    request: Request,
}

/// Runs one operation, or the prompt.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let config = Config::read(&arguments.identity.config)?;
    let operation =
        arguments.operation.as_ref().map(|request| request.operation(Input::Value)).transpose()?;
    let (id, kept) = claim(&config, arguments.identity.client)?;
    let mut connection = Connection::open(&config, id, kept)?;
    let timeout = Duration::from_secs(arguments.timeout);
    if let (Some(request), Some(operation)) = (&arguments.operation, operation) {
        return match connection.invoke(operation, timeout)? {
            Some(outcome) => request.tell(&outcome),
            None => {
                eprintln!("pbft: {}", unanswered(timeout));
                Ok(ExitCode::from(3))
            }
        };
    }
    prompt(&mut connection, timeout)
}

fn unanswered(timeout: Duration) -> String {
    if interrupted() {
        return "interrupted before there was an answer: the operation may still happen".into();
    }
    format!(
        "no answer that enough replicas agree on within {} s (the operation may still happen): `pbft status` tells why",
        timeout.as_secs()
    )
}

fn prompt(connection: &mut Connection, timeout: Duration) -> Result<ExitCode, String> {
    let input = io::stdin();
    let asks = input.is_terminal();
    let hint = "get KEY, put KEY VALUE, delete KEY, cas KEY EXPECTED NEW, cas KEY --absent NEW, cas KEY EXPECTED --delete, \
                quit; quotes around spaces";
    if asks {
        say!("{hint}");
    }
    let mut last = ExitCode::SUCCESS;
    // Reading goes on after Ctrl-C: so a thread reads, and this one looks for both.
    let (sender, lines) = channel();
    std::thread::spawn(move || input.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
    loop {
        if asks {
            print!("> ");
            let _ = io::stdout().flush();
        }
        let Some(line) = next_line(&lines) else { return Ok(last) };
        let words = words(&line);
        match words.as_ref().map(|words| words.iter().map(String::as_str).collect::<Vec<_>>()).as_deref() {
            Ok([]) => continue,
            Ok(["quit" | "exit"]) => return Ok(last),
            Ok(["help"]) => say!("{hint}"),
            Ok(words) => match one_line(connection, words, hint, timeout) {
                Ok(Some(code)) => last = code,
                Ok(None) => eprintln!("pbft: {}", unanswered(timeout)),
                Err(problem) => eprintln!("pbft: {problem}"),
            },
            Err(problem) => eprintln!("pbft: {problem}"),
        }
    }
}

/// Carries out one line of the prompt; nothing if there is no answer.
fn one_line(
    connection: &mut Connection,
    words: &[&str],
    hint: &str,
    timeout: Duration,
) -> Result<Option<ExitCode>, String> {
    let Line { request } = Line::try_parse_from(words).map_err(|_| hint.to_owned())?;
    let outcome = connection.invoke(request.operation(Input::Prompt)?, timeout)?;
    outcome.map(|outcome| request.tell(&outcome)).transpose()
}

/// The words of a line: with quotes in it as a shell has them, and else parted by spaces and taken as they
/// are.
fn words(line: &str) -> Result<Vec<String>, String> {
    if !line.contains(['"', '\'']) {
        return Ok(line.split_whitespace().map(str::to_owned).collect());
    }
    shlex::split(line).ok_or_else(|| "a quote in this line is not closed".into())
}

/// The next line, unless the input has ended or Ctrl-C is pressed.
fn next_line(lines: &Receiver<String>) -> Option<String> {
    loop {
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => return Some(line),
            Err(RecvTimeoutError::Timeout) if !interrupted() => {}
            Err(_) => return None,
        }
    }
}

/// A client's last timestamp, in a file that one process at a time has locked.
pub struct Kept {
    file: File,
    last: Timestamp,
}

/// Takes a client's key for this process: this one, or the first that is free.
pub fn claim(config: &Config, wanted: Option<u32>) -> Result<(ClientId, Kept), String> {
    let count = u32::try_from(config.file.clients.len()).unwrap_or(u32::MAX);
    let candidates = wanted.map_or(0..count, |one| one..one.saturating_add(1));
    let mut seen = false;
    for id in candidates.map(ClientId) {
        let secret = config.secret_path(Principal::Client(id));
        if wanted.is_none() && !secret.exists() {
            continue;
        }
        seen = true;
        let path = secret.with_extension("state");
        if let Some(kept) =
            try_claim(&path).map_err(|error| format!("cannot use {}: {error}", path.display()))?
        {
            return Ok((id, kept));
        }
    }
    Err(match wanted {
        Some(id) => format!("client {id} is in use by another process: choose another with --client"),
        None if seen => {
            format!("all clients whose keys are here are in use: end one of them (there are {count} clients)")
        }
        None => format!(
            "the secret key of none of the {count} clients is here: copy one, {} for example",
            config.secret_path(Principal::Client(ClientId(0))).display()
        ),
    })
}

fn try_claim(path: &Path) -> io::Result<Option<Kept>> {
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let mut text = String::new();
    // Not a number only after a power failure during the first use: then the clock is ahead of it anyway.
    file.read_to_string(&mut text)?;
    let last = Timestamp(text.trim().parse().unwrap_or(0));
    Ok(Some(Kept { file, last }))
}

/// One client.
pub struct Connection {
    id: ClientId,
    /// The longest operation that replicas accept.
    max_bytes: usize,
    clients: Clients<Ed25519, Pbft>,
    /// The timestamp used last.
    last: Arc<AtomicU64>,
}

impl Connection {
    /// Opens a socket for a client.
    pub fn open(config: &Config, id: ClientId, kept: Kept) -> Result<Self, String> {
        let mut clients = config.open(&[id], config.client_timeout(), config.file.datagram_bytes)?;
        let Kept { file, last } = kept;
        let used = Arc::new(AtomicU64::new(last.0));
        let noted = used.clone();
        let keep = move |_, durable: ClientDurable| {
            noted.store(durable.last.0, Relaxed);
            file.write_all_at(format!("{:020}\n", durable.last.0).as_bytes(), 0)?;
            file.sync_data()
        };
        clients.keep_with(id, ClientDurable { last }, Box::new(keep));
        Ok(Connection { id, max_bytes: config.parameters.max_batch_bytes, clients, last: used })
    }

    /// The timestamp of the operation asked for last.
    pub fn last_timestamp(&self) -> Timestamp {
        Timestamp(self.last.load(Relaxed))
    }

    /// The outcome of an operation, unless there is none within `timeout` or Ctrl-C is pressed.
    pub fn invoke(&mut self, operation: Operation, timeout: Duration) -> Result<Option<Outcome>, String> {
        let read_only = matches!(operation, Operation::Get { .. });
        let bytes = operation.to_bytes();
        if bytes.len() > self.max_bytes {
            return Err(format!(
                "the operation has {} bytes and the replicas accept {}: put less under one key",
                bytes.len(),
                self.max_bytes
            ));
        }
        let deadline = Instant::now() + timeout;
        let failed = |error| format!("cannot ask the replicas: {error}");
        self.clients.invoke(self.id, bytes, read_only).map_err(failed)?;
        if !self.clients.is_waiting(self.id) {
            return Err(format!(
                "the timestamps of client {0} are used up: take another key with --client, and do not use {0} again",
                self.id.0
            ));
        }
        while Instant::now() < deadline && !interrupted() {
            let until = deadline.min(Instant::now() + Duration::from_millis(50));
            if let Some(completion) = self.clients.wait(until).map_err(failed)?.pop() {
                return Ok(Some(Outcome::from_bytes(&completion.result)));
            }
            if !self.clients.refused().is_empty() {
                return Err(format!(
                    "the replicas have had a later timestamp of client {}: the clock was ahead once or is behind now; \
                     nothing was done, unless another machine uses this key too: run it again",
                    self.id.0
                ));
            }
        }
        self.clients.abandon(self.id);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_line_with_quotes_is_parted_as_in_a_shell_and_any_other_at_spaces() {
        assert_eq!(words("put k 'a b'  \"c 'd\"").unwrap(), ["put", "k", "a b", "c 'd"]);
        assert_eq!(words("put k \"\"").unwrap(), ["put", "k", ""]);
        assert_eq!(words("put  k #a\\b").unwrap(), ["put", "k", "#a\\b"]);
        assert!(words("put k 'a b").unwrap_err().contains("not closed"));
    }
}
