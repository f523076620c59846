//! `pbft walks`: random walks of an unreduced world, held against the exhausted lazy one.

use crate::check::{WorldFlags, gibibytes};
use crate::output::interrupted;
use crate::progress::Ticker;
use crate::say;
use pbft_models::engine::{Limits, Outcome, resident};
use pbft_models::mutants::Rulebook;
use pbft_models::report::Explore;
use pbft_models::walks::{Missing, Projection, Stage, WalkReport, project};
use pbft_models::world::WorldConfig;
use serde_json::{Value, json};
use std::process::ExitCode;

/// The options of `pbft walks`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many walks.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    walks: u64,
    /// The seed of all walks.
    #[arg(long, default_value_t = 0)]
    seed: u64,
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

impl Arguments {
    fn config(&self) -> Result<WorldConfig, String> {
        if self.world.says_how() {
            return Err("walks are held against lazy delivery: leave --explore out".into());
        }
        self.world.config()
    }

    fn limits(&self) -> Limits {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let bytes = (self.memory * f64::from(1 << 30)) as usize;
        Limits { threads, bytes, allocated: resident, ..Limits::default() }
    }
}

/// Exhausts the lazy world, takes the walks, and tells what they have shown.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let (config, limits) = (arguments.config()?, arguments.limits());
    let mut lazy = Ticker::new(&config.name(), Explore::Lazy);
    let mut walks = Ticker::walks(&config.name());
    let found = project(&config, arguments.walks, arguments.seed, limits, &mut |stage| {
        match stage {
            Stage::Lazy(progress) => lazy.tick(progress),
            Stage::Walks(report) => walks.tick_walks(report, arguments.walks),
        }
        !interrupted() && resident() <= limits.bytes
    });
    lazy.wipe();
    let found = found?;
    if arguments.json {
        say!("{}", object(&config, &found, arguments.walks));
    } else {
        say!("{}", lines(&config, &found, arguments.walks).join("\n"));
    }
    Ok(ExitCode::from(status(&found, arguments.walks)))
}

/// The exit status, given how many walks were asked for: a walk that shows something else counts, however
/// many were left.
fn status(found: &Projection, asked: u64) -> u8 {
    match &found.walks {
        Some(WalkReport { missing: Some(_), .. }) => 1,
        Some(report) if report.walks == asked => 0,
        _ => 3,
    }
}

fn rules_in_words(rules: Rulebook) -> String {
    match rules.name() {
        "pbft" => "rules pbft".into(),
        without => format!("rules pbft without {without}"),
    }
}

fn lines(config: &WorldConfig, found: &Projection, asked: u64) -> Vec<String> {
    let lazy = &found.lazy;
    let mut lines = vec![format!("{}, {}.", config.name(), rules_in_words(config.rules))];
    lines.push(format!(
        "Lazy delivery: {} states, depth {}, {:.1} s; {} joint histories, {} of them violate something.",
        lazy.states,
        lazy.depth,
        lazy.elapsed.as_secs_f64(),
        found.joints,
        found.violations
    ));
    let Some(report) = &found.walks else {
        let why = why(&lazy.outcome);
        lines.push(format!("Nothing is claimed: lazy delivery is not exhausted, {why}; no walk was taken."));
        return lines;
    };
    lines.push(format!(
        "Walks: {} of {asked} from seed {}, {} steps, at most {} in a walk, {} walks to where nothing can happen, \
         {:.1} s.",
        report.walks,
        report.seed,
        report.steps,
        report.length,
        report.ended,
        report.elapsed.as_secs_f64()
    ));
    lines.push(format!("Joint histories: {} of {} were seen on walks.", report.joints, found.joints));
    match &report.missing {
        Some(missing) => lines.extend(told(missing)),
        None if report.walks < asked => lines.push(
            "Cut short: the walks taken show nothing that lazy delivery does not; the others are not known."
                .into(),
        ),
        None => lines.push("The walks show nothing that lazy delivery does not.".into()),
    }
    lines
}

fn told(missing: &Missing) -> Vec<String> {
    let mut lines = vec![format!(
        "Walk {} shows what lazy delivery does not: {}, after {} steps:",
        missing.walk,
        missing.what,
        missing.steps.len()
    )];
    lines.extend(missing.steps.iter().enumerate().map(|(number, step)| format!("{:>4}  {step}", number + 1)));
    lines
}

fn why(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Exhausted => "",
        Outcome::Violated { what, .. } => what,
        Outcome::NotExhausted { why } => why,
    }
}

fn object(config: &WorldConfig, found: &Projection, asked: u64) -> Value {
    let lazy = &found.lazy;
    let byzantine: Vec<u16> = config.byzantine.iter().map(|replica| replica.0).collect();
    let missing =
        |missing: &Missing| json!({ "walk": missing.walk, "what": missing.what, "steps": missing.steps });
    let walks = |report: &WalkReport| {
        json!({
            "seed": report.seed,
            "length": report.length,
            "asked": asked,
            "walks": report.walks,
            "steps": report.steps,
            "ended": report.ended,
            "joints": report.joints,
            "seconds": report.elapsed.as_secs_f64(),
            "missing": report.missing.as_ref().map(missing),
        })
    };
    json!({
        "world": config.name(),
        "n": config.cluster.n(),
        "f": config.cluster.f(),
        "byzantine": byzantine,
        "max_view": config.max_view.0,
        "max_seq": config.max_seq.0,
        "requests": config.requests,
        "rules": config.rules.name(),
        "lazy": {
            "exhausted": lazy.outcome == Outcome::Exhausted,
            "why": (lazy.outcome != Outcome::Exhausted).then(|| why(&lazy.outcome)),
            "states": lazy.states,
            "transitions": lazy.transitions,
            "depth": lazy.depth,
            "seconds": lazy.elapsed.as_secs_f64(),
        },
        "joints": found.joints,
        "violations": found.violations,
        "walks": found.walks.as_ref().map(walks),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pbft_models::engine::Exploration;
    use std::time::Duration;

    fn found(walks: Option<u64>, missing: bool) -> Projection {
        let elapsed = Duration::ZERO;
        let outcome = match walks {
            Some(_) => Outcome::Exhausted,
            None => Outcome::NotExhausted { why: "it was interrupted" },
        };
        let lazy = Exploration { outcome, states: 1, transitions: 0, depth: 0, elapsed, state_bytes: 0 };
        let missing =
            missing.then(|| Missing { walk: 6, what: "this".into(), steps: vec!["a".into(), "b".into()] });
        let report = |walks| WalkReport {
            seed: 0,
            length: 9,
            walks,
            steps: 2,
            ended: 0,
            compared: 0,
            joints: 1,
            elapsed,
            missing,
        };
        Projection { lazy, joints: 1, violations: 0, walks: walks.map(report) }
    }

    #[test]
    fn only_all_of_the_walks_asked_for_succeed() {
        assert_eq!(status(&found(Some(10), false), 10), 0);
        assert_eq!(status(&found(Some(7), true), 10), 1);
        assert_eq!(status(&found(Some(10), true), 10), 1);
        // It was interrupted, among the walks and before them.
        assert_eq!(status(&found(Some(7), false), 10), 3);
        assert_eq!(status(&found(None, false), 10), 3);
    }

    #[test]
    fn a_walk_that_shows_something_else_is_told_step_by_step() {
        let (config, found) = (WorldConfig::new(pbft::types::Cluster::new(4, 1), 1), found(Some(7), true));
        let lines = lines(&config, &found, 10);
        let told = ["Walk 6 shows what lazy delivery does not: this, after 2 steps:", "   1  a", "   2  b"];
        assert_eq!(lines[lines.len() - 3..], told);
        let missing = json!({ "walk": 6, "what": "this", "steps": ["a", "b"] });
        assert_eq!(object(&config, &found, 10)["walks"]["missing"], missing);
    }
}
