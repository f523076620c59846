//! `pbft falsify`: which properties can fail in which world, shown by exploring without a rule.

use crate::check::{Suite, entries, gibibytes, seconds};
use crate::output::interrupted;
use crate::say;
use pbft_models::engine::resident;
use pbft_models::falsifiable::{self, Claim, Shown, killing, properties, table, violate};
use pbft_models::matrix::{self, Evidence};
use pbft_models::mutants::Mutant;
use pbft_models::report::Options;
use pbft_models::suite::Entry;
use pbft_models::world::WorldConfig;
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The options of `pbft falsify`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The worlds of which suite.
    #[arg(long, default_value = "default")]
    suite: Suite,
    /// The worlds of this name, explored in every way that the suites do.
    #[arg(long, value_name = "NAME", conflicts_with = "suite")]
    world: Option<String>,
    /// Do not verify what is claimed: look in every world for rules without which each property is violated,
    /// and print the table of what is found.
    #[arg(long)]
    search: bool,
    /// Give up an exploration after this time, in seconds; 60, and 2 in a search, if not given.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    time: Option<Duration>,
    /// Give up an exploration when this much memory is in use, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 4.0, value_parser = gibibytes)]
    memory: f64,
    /// Threads; one a processor, if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print one JSON object per claim and line, and nothing else.
    #[arg(long, conflicts_with = "search")]
    json: bool,
}

/// How long an exploration may take, if nothing is said.
const VERIFY: Duration = Duration::from_secs(60);
const SEARCH: Duration = Duration::from_secs(2);

impl Arguments {
    fn options(&self, time: Duration) -> Options {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        Options {
            threads: self.threads.map_or_else(processors, usize::from),
            memory: (self.memory * f64::from(1 << 30)) as usize,
            allocated: resident,
            time: self.time.unwrap_or(time),
            ..Options::default()
        }
    }
}

/// Verifies what is claimed of the worlds asked for, or searches for what can be.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let entries = entries(arguments.world.as_deref(), arguments.suite.whole())?;
    let entries: Vec<Entry> = entries.into_iter().filter(|entry| entry.hunt.is_none()).collect();
    if arguments.search { search(arguments, &entries) } else { verify(arguments, &entries) }
}

const HEADER: &str = "violated in             world                      explore without                      \
                      property                           states  seconds";

fn verify(arguments: &Arguments, entries: &[Entry]) -> Result<ExitCode, String> {
    let options = arguments.options(VERIFY);
    let (mut shown, mut seeded, mut wrong) = (0, 0, 0);
    if !arguments.json {
        say!("{HEADER}");
    }
    for entry in entries {
        let Some(claim) = falsifiable::of(&entry.config, entry.explore) else { continue };
        for (&property, &by) in &claim.shown {
            let Shown::Without(mutant) = by else {
                seeded += 1;
                continue;
            };
            let tried =
                violate(&entry.config, entry.explore, mutant, property, &options, &mut || !interrupted())?;
            if interrupted() {
                return Ok(ExitCode::from(3));
            }
            tell(arguments.json, &claim, property, mutant, &tried);
            *(if tried.steps.is_ok() { &mut shown } else { &mut wrong }) += 1;
        }
    }
    if !arguments.json {
        say!("\n{shown} violated, {wrong} not, {seeded} left to mistakes seeded in the source.");
    }
    Ok(ExitCode::from(u8::from(wrong > 0)))
}

fn tell(as_json: bool, claim: &Claim, property: &str, mutant: Mutant, tried: &falsifiable::Tried) {
    let (world, explore, seconds) = (&claim.world, claim.explore.name(), tried.elapsed.as_secs_f64());
    if as_json {
        let (steps, why) = (tried.steps.ok(), tried.steps.err());
        say!(
            "{}",
            json!({
                "world": world, "explore": explore, "property": property, "without": mutant.id(),
                "violated": steps.is_some(), "trace_length": steps, "why": why, "states": tried.states,
                "seconds": seconds,
            })
        );
        return;
    }
    let (steps, why) = match tried.steps {
        Ok(steps) => (format!("{steps} steps"), ""),
        Err(why) => ("NOT VIOLATED".into(), why),
    };
    let line = format!(
        "{steps:<23} {world:<26} {explore:<7} {:<28} {property:<29} {:>11} {seconds:>8.1} {why}",
        mutant.id(),
        tried.states
    );
    say!("{}", line.trim_end());
}

/// A kind of world: whether it has checkpoints, several views, several numbers.
type Kind = (bool, bool, bool);

fn kind(config: &WorldConfig) -> Kind {
    let checkpoints = config.checkpoint_interval.is_some_and(|interval| interval <= config.max_seq.0);
    (checkpoints, config.max_view.0 > 0, config.max_seq.0 > 1)
}

/// How often each property was violated without each rule, and in which kinds of worlds.
type Seen = BTreeMap<(&'static str, Mutant), BTreeMap<Kind, usize>>;

/// What is known before anything is tried: the worlds that `pbft mutants` explores.
fn known() -> Seen {
    let mut seen = Seen::new();
    for row in matrix::rows() {
        if let (Some(mutant), Evidence::Killed(kill)) = (row.mutant, &row.evidence) {
            *seen.entry((kill.property, mutant)).or_default().entry(kind(&kill.world)).or_default() += 1;
        }
    }
    seen
}

/// Tries for each property the rules without which it is violated in worlds like this or smaller ones, those
/// first without which it is in most; in the smallest worlds every rule.
fn search(arguments: &Arguments, entries: &[Entry]) -> Result<ExitCode, String> {
    let options = arguments.options(SEARCH);
    let seen = Mutex::new(known());
    let claims = side_by_side(entries, &options, &|entry, options| {
        let Entry { config, explore, .. } = entry;
        let mut claim = Claim {
            world: config.name(),
            explore: *explore,
            shown: BTreeMap::new(),
            inherited: BTreeMap::new(),
        };
        for property in properties() {
            let candidates = candidates(entry, property, &seen.lock().expect("nobody panics with the list"));
            for mutant in candidates {
                let tried = violate(config, *explore, mutant, property, options, &mut || !interrupted())?;
                if tried.steps.is_ok() {
                    claim.shown.insert(property, Shown::Without(mutant));
                    let mut seen = seen.lock().expect("nobody panics with the list");
                    *seen.entry((property, mutant)).or_default().entry(kind(config)).or_default() += 1;
                    break;
                }
            }
        }
        eprint!("{}", table(std::slice::from_ref(&claim)));
        Ok(claim)
    })?;
    if interrupted() {
        return Ok(ExitCode::from(3));
    }
    say!("{}", table(&claims).trim_end());
    Ok(ExitCode::SUCCESS)
}

fn candidates(entry: &Entry, property: &'static str, seen: &Seen) -> Vec<Mutant> {
    let Entry { config, explore, .. } = entry;
    let here = kind(config);
    let fits = |of: &Kind| (!of.0 || here.0) && (!of.1 || here.1) && (!of.2 || here.2);
    let is_small = config.cluster.n() <= 4 && here == (here.0, false, false);
    let score = |mutant: &Mutant| -> usize {
        let known = seen.get(&(property, *mutant));
        known.into_iter().flatten().filter(|(of, _)| fits(of)).map(|(_, count)| count).sum()
    };
    let mut candidates: Vec<(usize, Mutant)> =
        killing(*explore).into_iter().map(|mutant| (score(&mutant), mutant)).collect();
    candidates.retain(|&(score, mutant)| (score > 0 || is_small) && !is_large(mutant));
    candidates.sort_by_key(|&(score, _)| std::cmp::Reverse(score));
    candidates.into_iter().map(|(_, mutant)| mutant).collect()
}

/// Without these, votes in every name and of every number make worlds many times as large.
fn is_large(mutant: Mutant) -> bool {
    matches!(mutant, Mutant::VoteAgain | Mutant::SenderInPayload)
}

/// Does this for every world, as many at a time as there are threads, each with one.
fn side_by_side<T: Send>(
    entries: &[Entry],
    options: &Options,
    work: &(dyn Fn(&Entry, &Options) -> Result<T, String> + Sync),
) -> Result<Vec<T>, String> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let own = Options { threads: 1, ..options.clone() };
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                while let (at, false) = (next.fetch_add(1, Ordering::Relaxed), interrupted())
                    && let Some(entry) = entries.get(at)
                {
                    let found = work(entry, &own);
                    done.lock().expect("no worker panics while it holds the list").push((at, found));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no worker panics while it holds the list");
    done.sort_by_key(|&(at, _)| at);
    done.into_iter().map(|(_, found)| found).collect()
}
