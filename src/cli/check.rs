//! `pbft check`: exhaustive exploration.

use crate::output::interrupted;
use crate::say;
use pbft::types::{Cluster, ReplicaId, SeqNo, View};
use pbft_models::engine::{Exploration, Outcome, Progress, Space, explore};
use pbft_models::lazy::{Conditions, Lazy, MacroAction};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::world::{Action, State, World, WorldConfig};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write, stderr};
use std::process::ExitCode;

/// The options of `pbft check`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The number of replicas.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=7))]
    n: u16,
    /// The number of Byzantine replicas tolerated; quorums follow from it.
    #[arg(long, default_value_t = 1)]
    f: u16,
    /// The Byzantine replicas: numbers separated by commas, or `none`.
    #[arg(long, default_value = "none", value_parser = byzantine)]
    byzantine: Byzantine,
    /// The highest view. Above 0 the timer of any replica may fire at any time.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=8))]
    max_view: u64,
    /// The highest sequence number; as many as there are requests if not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=8))]
    max_seq: Option<u64>,
    /// The most requests in a batch.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    max_batch: u8,
    /// Take a checkpoint at every multiple of this number; never, if not given.
    #[arg(long)]
    checkpoint_interval: Option<u64>,
    /// The length of the window of sequence numbers; --max-seq if not given.
    #[arg(long)]
    window: Option<u64>,
    /// Clients with one request each, known to every replica from the start.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4))]
    requests: u32,
    /// How to explore: every delivery by itself, or each when it completes something.
    #[arg(long, default_value = "none")]
    explore: Explore,
    /// Do not check the conditions of the reduction: faster, and a run without a violation is then no verdict.
    #[arg(long)]
    no_conditions: bool,
    /// The rules: `pbft`, or the name of a safeguard to switch off.
    #[arg(long, default_value = "pbft", value_parser = rules)]
    rules: Rulebook,
    /// Stop, with no verdict, after so many million states.
    #[arg(long, default_value_t = 100)]
    max_million_states: usize,
    /// List the safeguards that `--rules` can switch off, one a line, and do nothing else.
    #[arg(long)]
    list_rules: bool,
}

/// The reductions.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Explore {
    /// No reduction.
    None,
    /// Lazy delivery.
    Lazy,
}

/// The Byzantine replicas named on the command line.
#[derive(Clone, Debug)]
struct Byzantine(BTreeSet<ReplicaId>);

fn byzantine(names: &str) -> Result<Byzantine, String> {
    if names == "none" {
        return Ok(Byzantine(BTreeSet::new()));
    }
    let parse = |name: &str| name.parse().map(ReplicaId);
    let named: Result<BTreeSet<ReplicaId>, _> = names.split(',').map(parse).collect();
    named.map(Byzantine).map_err(|_| "it is `none` or numbers separated by commas, such as 0,3".into())
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

/// Explores the world and prints one verdict line.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    if arguments.list_rules {
        Mutant::ALL.iter().for_each(|mutant| say!("{}", mutant.id()));
        return Ok(ExitCode::SUCCESS);
    }
    let config = WorldConfig {
        cluster: cluster(arguments.n, arguments.f)?,
        byzantine: arguments.byzantine.0.clone(),
        max_view: View(arguments.max_view),
        max_seq: SeqNo(arguments.max_seq.unwrap_or(u64::from(arguments.requests))),
        requests: arguments.requests,
        max_batch: usize::from(arguments.max_batch),
        checkpoint_interval: arguments.checkpoint_interval,
        window: arguments.window,
        rules: arguments.rules,
    };
    match arguments.explore {
        Explore::None => Ok(explored(arguments, &mut World::new(config)?)),
        Explore::Lazy => Ok(explored(arguments, &mut Lazy::new(config, !arguments.no_conditions)?)),
    }
}

/// A world that can be explored and told about.
trait Shown: Space<State = State> {
    fn world(&self) -> &World;
    fn tell(&self, before: State, action: Self::Action, after: State) -> String;
    fn conditions(&self) -> Option<&Conditions>;
}

impl Shown for World {
    fn world(&self) -> &World {
        self
    }

    fn tell(&self, before: State, action: Action, after: State) -> String {
        self.describe(before, action, after)
    }

    fn conditions(&self) -> Option<&Conditions> {
        None
    }
}

impl Shown for Lazy {
    fn world(&self) -> &World {
        Lazy::world(self)
    }

    fn tell(&self, before: State, action: MacroAction, after: State) -> String {
        self.describe(before, action, after)
    }

    fn conditions(&self) -> Option<&Conditions> {
        Some(Lazy::conditions(self))
    }
}

fn explored<W: Shown>(arguments: &Arguments, world: &mut W) -> ExitCode {
    let limit = arguments.max_million_states.saturating_mul(1_000_000);
    let terminal = stderr().is_terminal();
    let found = explore(world, limit, &mut |progress| {
        report(progress, terminal);
        !interrupted()
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    print_verdict(arguments, world, &found);
    ExitCode::from(verdict_of(world, &found.outcome).1)
}

/// The verdict, which a failed condition takes back.
fn verdict_of<W: Shown, A, S>(world: &W, outcome: &Outcome<A, S>) -> (&'static str, u8) {
    match world.conditions() {
        Some(conditions) if conditions.failed > 0 && !matches!(outcome, Outcome::Violated { .. }) => {
            ("UNKNOWN (a condition of the reduction does not hold)", 3)
        }
        Some(conditions) if conditions.checked == 0 && matches!(outcome, Outcome::Exhausted) => {
            ("UNKNOWN (exhausted, but the conditions of the reduction were not checked)", 3)
        }
        _ => verdict(outcome, world.world().witnesses().commits),
    }
}

/// What an exploration in which so many states commit something shows, and the exit status that says so.
fn verdict<A, S>(outcome: &Outcome<A, S>, commits: usize) -> (&'static str, u8) {
    match outcome {
        Outcome::Exhausted if commits == 0 => {
            ("UNKNOWN (exhausted, but nothing ever commits: the world is vacuous)", 3)
        }
        Outcome::Exhausted => ("HOLDS (exhausted)", 0),
        Outcome::Violated { .. } => ("VIOLATED", 1),
        Outcome::NotExhausted { .. } => ("UNKNOWN (not exhausted)", 3),
    }
}

fn report(progress: Progress, terminal: bool) {
    let rate = progress.states as f64 / progress.elapsed.as_secs_f64().max(1e-9);
    let line = format!(
        "{} states, {:.0} a second, level {} of {} states, {:.1} s",
        progress.states,
        rate,
        progress.depth,
        progress.frontier,
        progress.elapsed.as_secs_f64()
    );
    if terminal {
        eprint!("\r\x1b[K{line}");
        // A progress line that does not appear is no reason to stop.
        let _ = stderr().flush();
    } else {
        eprintln!("{line}");
    }
}

fn print_verdict<W: Shown>(arguments: &Arguments, shown: &W, found: &Exploration<W::Action, State>) {
    let world = shown.world();
    let witnesses = world.witnesses();
    let (verdict, _) = verdict_of(shown, &found.outcome);
    let reduction = match shown.conditions() {
        None => "each delivery by itself".to_string(),
        Some(conditions) => {
            format!("lazy delivery, {} conditions checked, {} failed", conditions.checked, conditions.failed)
        }
    };
    let (locals, messages, sets) = world.tables().sizes();
    let bounds = bounds(arguments.max_view, world.config());
    say!(
        "{verdict}: {bounds}, rules {}, {reduction}: {} states, {} transitions, depth {}, {locals} local states, \
         {messages} messages, {sets} sets of them sent, {:.1} s, {} cut by bound; of these states something has \
         committed in {}, everything has executed everywhere in {}{}",
        arguments.rules.name(),
        found.states,
        found.transitions,
        found.depth,
        found.elapsed.as_secs_f64(),
        world.cut_by_bound(),
        witnesses.commits,
        witnesses.complete,
        if arguments.max_view > 0 {
            format!(
                ", a view was changed in {}, carrying a null in {}",
                witnesses.view_changes, witnesses.nulls
            )
        } else {
            String::new()
        },
    );
    if !world.config().cluster.tolerates_f() {
        say!(
            "Fewer than 3f + 1 replicas: PBFT claims no progress for such a cluster, and nobody should run it."
        );
    }
    match &found.outcome {
        Outcome::Violated { what, start, trace } => {
            say!("{what}, after {} steps:", trace.len());
            let mut before = *start;
            for (number, &(action, after)) in trace.iter().enumerate() {
                say!("{:>4}  {}", number + 1, shown.tell(before, action, after));
                before = after;
            }
        }
        Outcome::NotExhausted { why } => say!("Nothing is claimed: {why}."),
        Outcome::Exhausted => {}
    }
    if let Some(broken) = shown.conditions().and_then(|conditions| conditions.first.as_ref()) {
        say!("The first condition that failed: {}", broken.what);
    }
}

/// The bounds of a world, in words.
fn bounds(max_view: u64, config: &WorldConfig) -> String {
    let numbers: Vec<String> = config.byzantine.iter().map(|replica| replica.0.to_string()).collect();
    let byzantine = if numbers.is_empty() {
        "no Byzantine replica".to_string()
    } else {
        format!("Byzantine {}", numbers.join(" and "))
    };
    let views = match max_view {
        0 => "view 0, no time-outs".to_string(),
        highest => format!("views 0 to {highest}, time-outs at any time"),
    };
    let parameters = config.parameters();
    let checkpoints = match config.checkpoint_interval {
        None => "no checkpoint".to_string(),
        Some(interval) => format!("a checkpoint every {interval}, window {}", parameters.window),
    };
    format!(
        "n={} f={}, {byzantine}, {views}, sequence numbers 1 to {}, {} request(s) known to all, batches of at most \
         {}, {checkpoints}",
        config.cluster.n(),
        config.cluster.f(),
        config.max_seq.0,
        config.requests,
        config.max_batch,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_exhausted_world_in_which_something_commits_holds() {
        let exhausted = Outcome::<(), ()>::Exhausted;
        let cut_short = Outcome::<(), ()>::NotExhausted { why: "it was interrupted" };
        let violated = Outcome::<(), ()>::Violated { what: String::new(), start: (), trace: Vec::new() };
        assert_eq!(verdict(&exhausted, 1), ("HOLDS (exhausted)", 0));
        for (outcome, commits, status) in
            [(&exhausted, 0, 3), (&cut_short, 1, 3), (&cut_short, 0, 3), (&violated, 1, 1), (&violated, 0, 1)]
        {
            let (words, found) = verdict(outcome, commits);
            assert!(found == status && !words.contains("HOLDS"), "{outcome:?}, {commits}: {words}");
        }
    }
}
