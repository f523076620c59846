//! `pbft check`: exhaustive exploration, of a suite of worlds or of one.

use crate::among;
use crate::output::interrupted;
use crate::progress::Ticker;
use crate::{say, table};
use pbft::types::{Cluster, ReplicaId, SeqNo, View};
use pbft_models::engine::resident;
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::report::{self, Explore, Lines, OnDisk, Options, Report, Together, Verdict};
use pbft_models::suite::{self, Entry};
use pbft_models::trace::{Execution, file::Stored};
use pbft_models::world::{Application, Clients, Crashes, WorldConfig};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The options of `pbft check`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Which worlds to explore: the default suite takes some two minutes on two cores, the full one is
    /// everything that is claimed, and hunts of five seconds in worlds that cannot be exhausted; at night
    /// there are larger worlds too, and a hunt takes ten minutes.
    #[arg(long, default_value = "default", conflicts_with = "WorldFlags")]
    suite: Suite,
    /// Explore the worlds of this name, in every way that the suites do.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["suite", "WorldFlags"])]
    world: Option<String>,
    /// Threads; one a processor, if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Stop a world, with no verdict, when this much memory is in use, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 4.0, value_parser = gibibytes)]
    memory: f64,
    /// Stop a world, with no verdict, when it has been explored for so long; a hunt takes no longer either. How long
    /// its conditions are then checked is not limited.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    time: Option<Duration>,
    /// Do not check the conditions of the reduction: faster, and a run without a violation is then no
    /// verdict.
    #[arg(long)]
    no_conditions: bool,
    /// Random walks of the unreduced world to hold against what each reduced exploration has shown, unless clients
    /// call; if not given 100, but none by layers; for the full suite 300; at night 10000. No verdict rests on them.
    #[arg(long, value_name = "NUMBER")]
    walks: Option<u64>,
    /// Say how many joint histories occur (what the correct replicas have done, together), and the SHA-256 of
    /// the lines that tell them: equal for any two explorations of one world. Layered exploration then does
    /// without two of its reductions.
    #[arg(long)]
    observables: bool,
    /// Write the joint histories to this file, one per line, sorted; docs/SECOND_OPINION.md says how.
    #[arg(long, value_name = "FILE", requires = "WorldFlags", conflicts_with_all = ["suite", "world"])]
    histories: Option<PathBuf>,
    /// Write them together with what each correct replica has sent; with `--explore none` only.
    #[arg(long, value_name = "FILE", requires = "WorldFlags", conflicts_with_all = ["suite", "world"])]
    behaviours: Option<PathBuf>,
    /// Keep the states of each world in a directory of its own in this one, where they take two to four bytes
    /// each, and not in memory.
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    /// With --disk: go on with explorations that were stopped, from the last level that was complete.
    #[arg(long, requires = "disk")]
    resume: bool,
    #[command(flatten)]
    among: among::Among,
    /// Print a JSON object for each world, one per line, and nothing else.
    #[arg(long)]
    json: bool,
    /// Print the rows of the table in docs/WORLDS.md, and nothing else.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Write the violation, if there is one, to this file, for `pbft replay` and `pbft explore`.
    #[arg(long, value_name = "FILE", requires = "WorldFlags", conflicts_with_all = ["suite", "world"])]
    save: Option<PathBuf>,
    /// List the worlds of the suites, one per line, and do nothing else.
    #[arg(long)]
    list: bool,
    /// List the safeguards that `--rules` can switch off and what is then lost, one per line, and do nothing
    /// else.
    #[arg(long)]
    list_rules: bool,
    // Last, because the heading in the help goes for everything that follows.
    #[command(flatten)]
    single: Option<WorldFlags>,
}

/// One world instead of a suite: any of these flags asks for it.
#[derive(clap::Args, Default)]
#[command(next_help_heading = "One world instead of a suite")]
pub struct WorldFlags {
    /// The number of replicas; 4, if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=7))]
    n: Option<u16>,
    /// The number of Byzantine replicas tolerated; quorums follow from it. 1, if not given.
    #[arg(long)]
    f: Option<u16>,
    /// The Byzantine replicas: numbers separated by commas, or `none`, as if not given.
    #[arg(long, value_parser = byzantine)]
    byzantine: Option<Byzantine>,
    /// The highest view; 0, if not given. Above 0 the timer of any replica may fire at any time.
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=8))]
    max_view: Option<u64>,
    /// The highest sequence number; as many as there are requests, if not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=8))]
    max_seq: Option<u64>,
    /// Clients with one request each, which a replica may hear of at any time or never; 1, if not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4))]
    requests: Option<u32>,
    /// Clients that are part of the world instead, and what they call for one after the other: wr.w is one
    /// that writes and then reads, and one that writes; wr.w-g lets them give up a call at any time, wr.w-z
    /// has a Byzantine client besides.
    #[arg(long, value_name = "CALLS", conflicts_with = "requests", value_parser = Application::parse)]
    calls: Option<Application>,
    /// The most requests in a batch; 1, if not given.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=4))]
    max_batch: Option<u8>,
    /// Take a checkpoint at every multiple of this number; never, if not given.
    #[arg(long)]
    checkpoint_interval: Option<u64>,
    /// The length of the window of sequence numbers; --max-seq, if not given.
    #[arg(long)]
    window: Option<u64>,
    /// Let correct replicas crash, between any two records or messages of any step, and restart from what is
    /// durable: each at most so often, without bound if no number is given.
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, value_parser = clap::value_parser!(u8).range(1..=9))]
    crashes: Option<Option<u8>>,
    /// With --crashes: crashes between steps only, and not between the records and messages of one.
    #[arg(long, requires = "crashes")]
    between_steps: bool,
    /// How to explore: every delivery by itself, if not given; each when it completes something; round by
    /// round.
    #[arg(long, value_enum)]
    explore: Option<How>,
    /// The rules: `pbft`, or the name of a safeguard to switch off.
    #[arg(long, value_parser = rules)]
    rules: Option<Rulebook>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Suite {
    Default,
    Full,
    Night,
}

impl Suite {
    /// The suite of that name.
    pub fn whole(self) -> suite::Suite {
        match self {
            Suite::Default => suite::Suite::Default,
            Suite::Full => suite::Suite::Full,
            Suite::Night => suite::Suite::Night,
        }
    }
}

/// How much longer a hunt takes at night.
const NIGHT: u32 = 120;

#[derive(Clone, Copy, clap::ValueEnum)]
enum How {
    None,
    Lazy,
    Layered,
}

/// The Byzantine replicas named on the command line.
#[derive(Clone, Debug, Default)]
pub struct Byzantine(pub BTreeSet<ReplicaId>);

/// The Byzantine replicas that these are the numbers of.
pub fn byzantine(names: &str) -> Result<Byzantine, String> {
    if names == "none" {
        return Ok(Byzantine::default());
    }
    let parse = |name: &str| name.parse().map(ReplicaId);
    let named: Result<BTreeSet<ReplicaId>, _> = names.split(',').map(parse).collect();
    named.map(Byzantine).map_err(|_| "it is `none` or numbers separated by commas, such as 0,3".into())
}

/// A number of GiB above 0.
pub fn gibibytes(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "it is a number of GiB above 0, such as 4 or 0.5".into())
}

/// A number of seconds above 0.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().filter(|&number: &f64| number > 0.0);
    let seconds = number.and_then(|number| Duration::try_from_secs_f64(number).ok());
    seconds.ok_or_else(|| "it is a number of seconds above 0, such as 30 or 0.5".into())
}

/// The rules named on the command line.
pub fn rules(name: &str) -> Result<Rulebook, String> {
    if name == "pbft" {
        return Ok(Rulebook::default());
    }
    Mutant::named(name)
        .map(Rulebook::without)
        .ok_or_else(|| "no safeguard has this name; `pbft check --list-rules` lists them".into())
}

/// The cluster asked for on the command line, if it has quorums.
pub fn cluster(n: u16, f: u16) -> Result<Cluster, String> {
    let cluster = Cluster::new(n, f);
    if cluster.quorum() > cluster.n() {
        return Err(format!(
            "with f = {f} a quorum is {} replicas, more than the {n} there are: raise --n or lower --f",
            cluster.quorum()
        ));
    }
    Ok(cluster)
}

/// A world to explore.
struct Asked {
    config: WorldConfig,
    explore: Explore,
    /// For a hunt how long it takes.
    hunt: Option<Duration>,
}

/// The worlds of the suites that have this name, or else those of one suite.
pub fn entries(world: Option<&str>, of: suite::Suite) -> Result<Vec<Entry>, String> {
    let wanted = |entry: &Entry| match world {
        Some(name) => entry.config.name() == *name,
        None => entry.suite <= of,
    };
    let wanted: Vec<_> = suite::all().into_iter().filter(wanted).collect();
    match world {
        Some(name) if wanted.is_empty() => {
            Err(format!("no world of the suites is called {name}: `pbft check --list` lists them"))
        }
        _ => Ok(wanted),
    }
}

impl WorldFlags {
    /// Whether it is said how to explore.
    pub fn says_how(&self) -> bool {
        self.explore.is_some()
    }

    /// The rules, if nothing else is given.
    pub fn only_rules(&self) -> Option<Rulebook> {
        let numbers = self.n.is_some() || self.f.is_some() || self.byzantine.is_some();
        let bounds = self.max_view.is_some() || self.max_seq.is_some() || self.requests.is_some();
        let more = self.max_batch.is_some() || self.checkpoint_interval.is_some() || self.window.is_some();
        let more = more || self.crashes.is_some() || self.calls.is_some();
        let other = numbers || bounds || more || self.explore.is_some();
        self.rules.filter(|_| !other)
    }

    /// The world that they describe.
    pub fn config(&self) -> Result<WorldConfig, String> {
        let requests = self.requests.unwrap_or(1);
        let calls = self.calls.as_ref().map(|calls| calls.calls.iter().flatten().count() as u64);
        let config = WorldConfig {
            cluster: cluster(self.n.unwrap_or(4), self.f.unwrap_or(1))?,
            byzantine: self.byzantine.clone().unwrap_or_default().0,
            max_view: View(self.max_view.unwrap_or(0)),
            max_seq: SeqNo(self.max_seq.or(calls).unwrap_or(u64::from(requests))),
            requests,
            max_batch: usize::from(self.max_batch.unwrap_or(1)),
            checkpoint_interval: self.checkpoint_interval,
            window: self.window,
            crashes: self.crashes.map(|at_most| Crashes { at_most, between_steps: self.between_steps }),
            rules: self.rules.unwrap_or_default(),
            clients: Clients::Implicit,
            application: None,
        };
        Ok(match &self.calls {
            Some(calls) => config.with_application(calls.clone()),
            None => config,
        })
    }

    fn explore(&self) -> Explore {
        match self.explore {
            None | Some(How::None) => Explore::None,
            Some(How::Lazy) => Explore::Lazy,
            Some(How::Layered) => Explore::Layered,
        }
    }
}

impl Arguments {
    fn worlds(&self) -> Result<Vec<Asked>, String> {
        if let Some(flags) = &self.single {
            if self.behaviours.is_some() && flags.explore() != Explore::None {
                return Err("--behaviours goes with --explore none: a reduction leaves states out".into());
            }
            return Ok(vec![Asked { config: flags.config()?, explore: flags.explore(), hunt: None }]);
        }
        let longer = if matches!(self.suite, Suite::Night) { NIGHT } else { 1 };
        let asked = |entry: Entry| Asked {
            config: entry.config,
            explore: entry.explore,
            hunt: entry.hunt.map(|time| time * longer),
        };
        let entries = entries(self.world.as_deref(), self.suite.whole())?;
        Ok(entries.into_iter().map(asked).collect())
    }

    /// The options for a world, of which a hunt takes no longer than it should.
    fn options_of(&self, asked: &Asked) -> Result<Options, String> {
        let mut options = self.options()?;
        if self.walks.is_none() && asked.explore == Explore::Layered && matches!(self.suite, Suite::Default) {
            // What walks are held against takes longer to explore than what is claimed by layers: nothing.
            options.walks = 0;
        }
        let Some(time) = asked.hunt else { return Ok(options) };
        // Half a minute of one processor, and of no more.
        Ok(Options { time: time.min(options.time), threads: 1, hunt: true, ..options })
    }

    fn options(&self) -> Result<Options, String> {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let on_disk = |path: &PathBuf| OnDisk::new(path.clone(), self.resume);
        Ok(Options {
            threads: self.threads.map_or_else(processors, usize::from),
            memory: (self.memory * f64::from(1 << 30)) as usize,
            allocated: resident,
            time: self.time.unwrap_or(Duration::MAX),
            hunt: false,
            conditions: !self.no_conditions,
            walks: self.walks.unwrap_or(match self.suite {
                Suite::Default => 100,
                Suite::Full => 300,
                Suite::Night => 10_000,
            }),
            observables: self.observables || self.histories.is_some() || self.behaviours.is_some(),
            behaviours: self.behaviours.is_some(),
            execution: self.save.is_some() && self.among.prints(),
            judged_by: None,
            disk: self.disk.as_ref().map(on_disk).transpose()?,
            together: None,
        })
    }

    /// The workers asked for, if there are some, and the other processes, which were told the same.
    fn together(&self, worlds: &[Asked]) -> Result<Option<Together>, String> {
        let Options { conditions, walks, observables, behaviours, .. } = self.options()?;
        let (disk, resume) = (self.disk.is_some(), self.resume);
        let options = format!(
            "conditions {conditions}, walks {walks}, observables {observables}, behaviours {behaviours}, \
             disk {disk}, resume {resume}"
        );
        self.among.together(worlds.iter().map(|asked| (&asked.config, asked.explore)), options)
    }
}

/// Explores the worlds asked for, and tells of each as soon as it is done.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    if arguments.list_rules {
        Mutant::ALL.iter().for_each(|mutant| say!("{:<28} {}", mutant.id(), mutant.lost()));
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.list {
        suite::all().iter().for_each(|entry| say!("{}", table::listed(entry)));
        return Ok(ExitCode::SUCCESS);
    }
    let worlds = arguments.worlds()?;
    let together = arguments.together(&worlds)?;
    let peers = together.as_ref().and_then(|all| all.peers.as_ref());
    let prints = arguments.among.prints();
    let mut verdicts = Vec::new();
    for asked in &worlds {
        let Asked { config, explore, .. } = asked;
        let mut ticker = Ticker::new(&config.name(), *explore);
        let options = Options { together: together.clone(), ..arguments.options_of(asked)? };
        let found = report::run(config.clone(), *explore, &options, &mut |progress| {
            ticker.tick_stage(progress);
            !interrupted()
        });
        ticker.wipe();
        let report = match (found, peers) {
            (Ok(report), _) => report,
            (Err(problem), Some(peers)) if peers.gone().is_some() => {
                eprintln!("pbft: {problem}");
                return Ok(ExitCode::from(status(&verdicts, worlds.len())));
            }
            (Err(problem), _) => {
                let problem = String::from(problem);
                among::leave(peers, &problem);
                return Err(problem);
            }
        };
        verdicts.push(report.verdict);
        if prints {
            tell(arguments, &report, verdicts.len() == 1);
            write_files(arguments, &report).inspect_err(|problem| among::leave(peers, problem))?;
        }
        if interrupted() {
            among::leave(peers, "it was interrupted");
            break;
        }
    }
    if prints && !arguments.json && !arguments.markdown && arguments.single.is_none() {
        say!("\n{}", table::summary(&verdicts, worlds.len()));
    }
    Ok(ExitCode::from(status(&verdicts, worlds.len())))
}

/// Writes what was asked for of a report to files.
fn write_files(arguments: &Arguments, report: &Report) -> Result<(), String> {
    if let (Some(path), Some(execution)) = (&arguments.save, &report.execution) {
        save(path, execution)?;
    }
    let Some(observed) = &report.observed else { return Ok(()) };
    write_lines(arguments.histories.as_deref(), Some(&observed.histories))?;
    write_lines(arguments.behaviours.as_deref(), observed.behaviours.as_ref())
}

/// Writes lines to a file, if there is one to write to.
fn write_lines(path: Option<&Path>, lines: Option<&Lines>) -> Result<(), String> {
    let (Some(path), Some(lines)) = (path, lines) else { return Ok(()) };
    std::fs::write(path, lines.text()).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Writes a counterexample to a file.
fn save(path: &Path, execution: &Execution) -> Result<(), String> {
    let stored = Stored::new(execution, revision())?;
    std::fs::write(path, stored.text()).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The commit of the source: what the environment says, or git, or `unknown`.
pub fn revision() -> String {
    let git = || {
        let output = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
        let text = output.status.success().then(|| String::from_utf8(output.stdout).ok())??;
        Some(text.trim().to_owned())
    };
    std::env::var("PBFT_REVISION").ok().or_else(git).unwrap_or_else(|| "unknown".into())
}

fn tell(arguments: &Arguments, report: &Report, first: bool) {
    if arguments.json {
        say!("{}", serde_json::to_string(report).expect("a report is plain data"));
        return;
    }
    if arguments.markdown {
        say!("{}", table::row(report));
        return;
    }
    if first {
        say!("{}", table::HEADER);
    }
    say!("{}", table::line(report));
    if arguments.single.is_some() {
        say!("\n{}", table::details(report));
    }
}

/// The exit status where nothing is known.
const UNKNOWN: u8 = 3;

/// The exit status for these verdicts of the worlds asked for: a violation counts more than a world not
/// known. A hunt that finds nothing was not to be a verdict, so it counts for nothing.
fn status(verdicts: &[Verdict], worlds: usize) -> u8 {
    if verdicts.contains(&Verdict::Violated) {
        1
    } else if verdicts.len() < worlds || verdicts.contains(&Verdict::Unknown) {
        UNKNOWN
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_outweighs_what_is_unknown_and_that_what_holds_or_was_hunted() {
        use Verdict::{Holds, Hunted, Searched, Unknown, Violated};
        assert_eq!(status(&[Holds, Holds], 2), 0);
        assert_eq!(status(&[Holds, Unknown], 2), 3);
        assert_eq!(status(&[Unknown, Violated, Holds], 3), 1);
        // The suite was interrupted.
        assert_eq!(status(&[Holds], 2), 3);
        assert_eq!(status(&[], 1), 3);
        assert_eq!(status(&[Holds, Searched, Hunted], 3), 0);
        assert_eq!(status(&[Hunted, Unknown], 2), 3);
        assert_eq!(status(&[Hunted, Violated], 2), 1);
    }
}
