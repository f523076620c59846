//! `pbft check`: exhaustive exploration.

use pbft::types::Cluster;
use pbft_models::engine::{Exploration, Outcome, Progress, explore};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::world::{Delivery, FirstState, FirstWorld};
use std::io::{IsTerminal, Write, stderr};
use std::process::ExitCode;

/// The options of `pbft check`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The number of replicas.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=7))]
    n: u16,
    /// The number of Byzantine replicas tolerated; quorums follow from it. (None is Byzantine in this world.)
    #[arg(long, default_value_t = 1)]
    f: u16,
    /// Clients with one request each, known to every replica from the start.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4))]
    requests: u32,
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
        Mutant::ALL.iter().for_each(|mutant| println!("{}", mutant.id()));
        return Ok(ExitCode::SUCCESS);
    }
    let cluster = cluster(arguments.n, arguments.f)?;
    let mut world = FirstWorld::new(cluster, arguments.requests, arguments.rules);
    let limit = arguments.max_million_states.saturating_mul(1_000_000);
    let terminal = stderr().is_terminal();
    let found = explore(&mut world, limit, &mut |progress| {
        report(progress, terminal);
        true
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    print_verdict(arguments, &world, &found);
    Ok(ExitCode::from(verdict(&found.outcome, world.witnesses().0).1))
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

fn print_verdict(arguments: &Arguments, world: &FirstWorld, found: &Exploration<Delivery, FirstState>) {
    let (commits, complete) = world.witnesses();
    let (verdict, _) = verdict(&found.outcome, commits);
    let (locals, messages, sets) = world.tables().sizes();
    println!(
        "{verdict}: n={} f={} view 0, no Byzantine replica, no time-outs, {} request(s) known to all, rules {}, \
         no reduction: {} states, {} transitions, depth {}, {} local states, {} messages in {} sets, {:.1} s; \
         something commits in {} states, everything has executed everywhere in {}",
        arguments.n,
        arguments.f,
        arguments.requests,
        arguments.rules.name(),
        found.states,
        found.transitions,
        found.depth,
        locals,
        messages,
        sets,
        found.elapsed.as_secs_f64(),
        commits,
        complete,
    );
    match &found.outcome {
        Outcome::Violated { what, start, trace } => {
            println!("{what}, after {} steps:", trace.len());
            let mut before = *start;
            for (number, &(delivery, after)) in trace.iter().enumerate() {
                println!("{:>4}  {}", number + 1, world.describe(before, delivery, after));
                before = after;
            }
        }
        Outcome::NotExhausted { why } => println!("Nothing is claimed: {why}."),
        Outcome::Exhausted => {}
    }
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
