//! Exploring among workers: the flags of `pbft check` for it, and meeting the other processes.

use crate::check::seconds;
use crate::output::interrupted;
use pbft_models::engine::{Meeting, Peers};
use pbft_models::report::{Explore, Together, digest, program};
use pbft_models::world::WorldConfig;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Workers and machines.
#[derive(clap::Args)]
pub struct Among {
    /// Explore with this many workers in this process, each with a thread and states of its own: the same
    /// verdicts and counts as without. --threads then goes for conditions alone.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Explore with other processes, on this machine or others: a file with the address of each, host:port,
    /// one per line. All are given the same command but for --process. This process binds to its own address
    /// and to no other, and connects to the others. Nothing is encrypted and nobody has to show who he is: on
    /// networks only where everybody is trusted.
    #[arg(long, value_name = "FILE", requires = "process")]
    hosts: Option<PathBuf>,
    /// Which line of --hosts this process is, from 0. Process 0 prints the report.
    #[arg(long, value_name = "I", requires = "hosts")]
    process: Option<usize>,
    /// With --hosts: how long to wait for the other processes when they start.
    #[arg(long, value_name = "SECONDS", default_value = "120", requires = "hosts", value_parser = seconds)]
    wait: Duration,
}

impl Among {
    /// Whether this process prints the report.
    pub fn prints(&self) -> bool {
        self.process.is_none_or(|process| process == 0)
    }

    /// The workers asked for, if there are some, and the other processes, which were told to explore the same
    /// worlds with the same options.
    pub fn together<'a>(
        &self,
        worlds: impl Iterator<Item = (&'a WorldConfig, Explore)>,
        options: String,
    ) -> Result<Option<Together>, String> {
        let workers = usize::from(self.workers.unwrap_or(1));
        let Some((hosts, process)) = self.hosts.as_deref().zip(self.process) else {
            return Ok(self.workers.map(|_| Together { workers, peers: None }));
        };
        let hosts = read(hosts)?;
        if process >= hosts.len() {
            let (all, last) = (hosts.len(), hosts.len() - 1);
            return Err(format!(
                "--process {process}: there are {all} hosts, so it is a number from 0 to {last}"
            ));
        }
        let terms = [
            ("program", program()?),
            ("list of hosts", hosts.join(" ")),
            ("number of workers", workers.to_string()),
            ("world", named(worlds)),
            ("set of options", options),
        ];
        let terms = terms.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let meeting = Meeting { hosts, process, terms, patience: self.wait };
        let peers = Arc::new(Peers::meet(meeting, &|| !interrupted())?);
        Ok(Some(Together { workers, peers: Some(peers) }))
    }
}

/// Says to the others, if there are some, why this process stops.
pub fn leave(peers: Option<&Arc<Peers>>, why: &str) {
    if let Some(peers) = peers {
        peers.leave(why);
    }
}

/// The worlds, and a digest of all that they are.
fn named<'a>(worlds: impl Iterator<Item = (&'a WorldConfig, Explore)>) -> String {
    let (names, all): (Vec<_>, Vec<_>) = worlds
        .map(|(config, how)| (format!("{} {}", config.name(), how.name()), format!("{config:?} {how:?}")))
        .unzip();
    let digest = digest(&all.join("\n"));
    match &names[..] {
        [first, .., last] => format!("{} worlds from {first} to {last} (bounds {digest})", names.len()),
        _ => format!("{} (bounds {digest})", names.concat()),
    }
}

/// The addresses in a file, one per line, without empty lines and those that begin with #.
fn read(path: &Path) -> Result<Vec<String>, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let mut hosts = Vec::new();
    let mut known = BTreeSet::new();
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{shown}, line {}", number + 1);
        let parts = line.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let port = parts.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|&port| port > 0);
        if port.is_none() {
            return Err(format!("{place}: {line} is no address: write host:port, such as 10.0.0.1:7000"));
        }
        if !known.insert(line) {
            return Err(format!("{place}: {line} is there twice: each process has an address of its own"));
        }
        hosts.push(line.to_owned());
    }
    match hosts.len() {
        0 | 1 => Err(format!("{shown}: it takes the addresses of at least two processes, one per line")),
        _ => Ok(hosts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(text: &str) -> Result<Vec<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path()).map_err(|why| why.replace(&file.path().display().to_string(), "FILE"))
    }

    #[test]
    fn mistakes_in_a_file_of_hosts_are_named_with_their_lines() {
        let hosts = read_from("# ours\n10.0.0.1:7000\n\n  [::1]:7001  \nhere.example:7000\n").unwrap();
        assert_eq!(hosts, ["10.0.0.1:7000", "[::1]:7001", "here.example:7000"]);
        for (text, said) in [
            ("a:1\nb\n", "FILE, line 2: b is no address: write host:port, such as 10.0.0.1:7000"),
            ("a:1\n:2\n", "FILE, line 2: :2 is no address"),
            ("a:1\nb:0\n", "FILE, line 2: b:0 is no address"),
            ("a:1\nb:70000\n", "FILE, line 2: b:70000 is no address"),
            ("a:1\n#\na:1\n", "FILE, line 3: a:1 is there twice"),
            ("a:1\n", "FILE: it takes the addresses of at least two processes"),
        ] {
            let why = read_from(text).unwrap_err();
            assert!(why.starts_with(said), "{why}");
        }
    }
}
