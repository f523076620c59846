//! `pbft progress`: whether requests execute from every state of a world.

use crate::check::{WorldFlags, gibibytes};
use crate::output::interrupted;
use crate::say;
use pbft_models::engine::{Limits, resident};
use pbft_models::progress::{DELAY, MOST_VIEWS, Progress, Reach, Strategy, Stuck, check};
use std::process::ExitCode;

/// The options of `pbft progress`.
#[derive(clap::Args)]
pub struct Arguments {
    /// What the Byzantine replicas do from then on; each in turn, if not given.
    #[arg(long, value_enum)]
    strategy: Vec<How>,
    /// Stop when this much memory is in use, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 4.0, value_parser = gibibytes)]
    memory: f64,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
    // Last, because the heading in the help goes for everything that follows.
    #[command(flatten)]
    world: WorldFlags,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum How {
    /// Nothing.
    Silent,
    /// What a correct replica does, but that they never lead.
    Stalls,
    /// The same, and they leave each view as soon as they hear of it.
    Leaves,
    /// Everything that follows from what was sent and from their keys, before anything else.
    Derives,
    /// The same, without votes in the normal case.
    Misleads,
}

impl From<How> for Strategy {
    fn from(how: How) -> Self {
        match how {
            How::Silent => Strategy::Silent,
            How::Stalls => Strategy::Stalls,
            How::Leaves => Strategy::Leaves,
            How::Derives => Strategy::Derives,
            How::Misleads => Strategy::Misleads,
        }
    }
}

/// Explores the world, and carries on from each of its states.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    if arguments.world.says_how() {
        return Err("progress looks at the states of lazy delivery: leave --explore out".into());
    }
    let config = arguments.world.config()?;
    let mut strategies: Vec<Strategy> = arguments.strategy.iter().map(|&how| how.into()).collect();
    if strategies.is_empty() {
        strategies = Strategy::ALL.to_vec();
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let bytes = (arguments.memory * f64::from(1 << 30)) as usize;
    let limits = Limits { threads, bytes, allocated: resident, ..Limits::default() };
    let found = match check(&config, &strategies, limits, &|| !interrupted()) {
        Ok(found) => found,
        Err(why) if why.to_string().contains("not exhausted") || interrupted() => {
            eprintln!("pbft: {why}");
            return Ok(ExitCode::from(3));
        }
        Err(why) => return Err(why.to_string()),
    };
    if arguments.json {
        say!("{}", serde_json::to_string(&found).map_err(|error| error.to_string())?);
    } else {
        tell(&config.name(), config.rules.name(), &found);
    }
    Ok(ExitCode::from(u8::from(found.stuck.is_some() || found.cut_off.is_some())))
}

fn tell(world: &str, rules: &str, found: &Progress) {
    let Progress { states, joints, runs, most_views, longest_ms, elapsed, stuck, reach, cut_off } = found;
    let verdict = if stuck.is_some() || cut_off.is_some() { "STUCK" } else { "PROGRESS" };
    say!(
        "{verdict}  {world}, rules {rules}: {states} states, {joints} combinations of local states, {runs} runs, {:.1} s",
        elapsed.as_secs_f64()
    );
    match stuck {
        Some(stuck) => tell_stuck(stuck),
        None => say!(
            "From each of them, everything sent before being lost and every message then taking {DELAY} ms, each client \
             accepts a result: within {most_views} views above the highest, and {longest_ms} ms. One schedule for each; that these are \
             all combinations is for `pbft check` of this world to show."
        ),
    }
    let Some(Reach { good, cut_off: left, most_steps, .. }) = reach else {
        say!(
            "The primary of the highest view is Byzantine: what the graph of the states says was not asked."
        );
        return;
    };
    say!(
        "On the graph of the states, by steps that need no Byzantine replica: {good} states are good ends (f + 1 correct \
         replicas have executed every number), and one can be reached from {} states, within {most_steps} steps; from {left} none can.",
        *states - *left as u64
    );
    if let Some(how) = cut_off {
        tell_way("How one gets to a state that is cut off:", how);
    }
}

fn tell_way(heading: &str, how: &[String]) {
    say!("{heading}");
    for (at, step) in how.iter().enumerate() {
        say!("{:>4}  {step}", at + 1);
    }
}

fn tell_stuck(stuck: &Stuck) {
    let restarted = if stuck.loss.restarted { ", and every correct replica restarts" } else { "" };
    tell_way("How one gets there:", &stuck.how);
    say!(
        "Then everything sent is lost{restarted}; the Byzantine replicas: {:?}. It is not done within {MOST_VIEWS} more views \
         or two minutes. What happens then, each thing once:",
        stuck.loss.strategy
    );
    for line in &stuck.why {
        say!("{line}");
    }
}
