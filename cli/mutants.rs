//! `pbft mutants`: every safeguard, and the world that shows what breaks without it.

use crate::output::interrupted;
use crate::say;
use pbft_models::engine::resident;
use pbft_models::matrix::{Evidence, Explored, Outcome, Ran, Row, rows, run};
use pbft_models::report::{Explore, Options};
use pbft_models::trace::file::Stored;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The options of `pbft mutants`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Explore everything: the slow worlds too, and by layers where a world has rounds.
    #[arg(long)]
    all: bool,
    /// Only these safeguards, slow or not.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Write the counterexample of each mutant killed to DIR/<mutant>.json, or to DIR/stuck/<mutant>.json where a
    /// request never executes.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Threads; one a processor, if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print one JSON object per safeguard and line, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Explores the worlds of the rows asked for, and tells of each as soon as it is done.
pub fn run_all(arguments: &Arguments) -> Result<ExitCode, String> {
    let rows = chosen(arguments)?;
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.map_or_else(processors, usize::from);
    let options = Options { threads, memory: 4 << 30, allocated: resident, ..Options::default() };
    if !arguments.json {
        say!("{HEADER}");
    }
    let (mut wrong, mut done) = (Vec::new(), 0);
    for row in &rows {
        let skipped = !arguments.all && arguments.only.is_empty() && is_slow(row);
        let ran = match skipped {
            true => Ran::new(row),
            false => run(row, arguments.all, &options, &mut || !interrupted())?,
        };
        if interrupted() {
            break;
        }
        done += 1;
        tell(&ran, skipped, arguments.json);
        if !ran.is_as_expected() {
            wrong.push(row.id());
        }
        if let (Some(directory), Some(file)) = (&arguments.save, row.file())
            && let Some(stored) = ran.stored(crate::check::revision())?
        {
            save(&directory.join(file), &stored)?;
        }
    }
    if !arguments.json {
        say!("\n{}", summary(&rows, done, &wrong));
    }
    Ok(ExitCode::from(u8::from(!wrong.is_empty() || done < rows.len())))
}

fn chosen(arguments: &Arguments) -> Result<Vec<Row>, String> {
    let all = rows();
    if let Some(unknown) = arguments.only.iter().find(|&id| all.iter().all(|row| row.id() != id)) {
        return Err(format!("no safeguard is called {unknown}: `pbft mutants` lists them"));
    }
    let is_chosen = |row: &Row| arguments.only.is_empty() || arguments.only.iter().any(|id| id == row.id());
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// Whether exploring the row takes seconds.
fn is_slow(row: &Row) -> bool {
    match &row.evidence {
        Evidence::Killed(kill) => kill.slow,
        Evidence::NotASafeguard { .. } | Evidence::Stuck(_) => true,
        Evidence::SimulationOnly(_) => false,
    }
}

fn save(path: &Path, stored: &Stored) -> Result<(), String> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(path, stored.text()))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

const HEADER: &str = "safeguard                     status            world                          property                     \
                      steps  seconds  layered";

fn tell(ran: &Ran, skipped: bool, as_json: bool) {
    if as_json {
        say!("{}", object(ran, skipped));
        return;
    }
    let world = ran.row.world().map(|world| world.name()).unwrap_or_default();
    let lazy = of(ran, Explore::Lazy);
    let property = match &ran.row.evidence {
        Evidence::Killed(kill) => kill.property,
        Evidence::Stuck(_) => "progress",
        _ => "",
    };
    let steps = lazy.and_then(|lazy| lazy.steps).map(|steps| steps.to_string()).unwrap_or_default();
    let seconds = lazy.map(|lazy| format!("{:.1}", lazy.seconds)).unwrap_or_default();
    let layered = of(ran, Explore::Layered).map(in_rounds).unwrap_or_default();
    let line = format!(
        "{:<29} {:<17} {world:<30} {property:<28} {steps:>5} {seconds:>8}  {layered}",
        ran.row.id(),
        status(ran, skipped)
    );
    say!("{}", line.trim_end());
    for explored in &ran.explored {
        if let Outcome::Wrong(why) = &explored.outcome {
            say!("    {}: {why}", explored.explore.name());
        }
    }
    match &ran.row.evidence {
        Evidence::NotASafeguard { why, .. } | Evidence::SimulationOnly(why) => say!("    {why}"),
        Evidence::Killed(_) | Evidence::Stuck(_) => {}
    }
}

fn of(ran: &Ran, explore: Explore) -> Option<&Explored> {
    ran.explored.iter().find(|explored| explored.explore == explore)
}

fn status(ran: &Ran, skipped: bool) -> &'static str {
    match &ran.row.evidence {
        _ if !ran.is_as_expected() => "WRONG",
        _ if skipped => "not run: --all",
        Evidence::Killed(_) | Evidence::Stuck(_) => "killed",
        Evidence::NotASafeguard { .. } => "not a safeguard",
        Evidence::SimulationOnly(_) => "simulation only",
    }
}

fn in_rounds(explored: &Explored) -> String {
    match &explored.outcome {
        Outcome::Killed => {
            format!("killed in {} steps, {:.1} s", explored.steps.unwrap_or_default(), explored.seconds)
        }
        Outcome::Holds => format!("holds, {:.1} s", explored.seconds),
        Outcome::Refused(why) => format!("no verdict: {why}"),
        Outcome::Wrong(_) => "wrong".into(),
    }
}

fn object(ran: &Ran, skipped: bool) -> Value {
    let (property, why) = match &ran.row.evidence {
        Evidence::Killed(kill) => (Some(kill.property), None),
        Evidence::Stuck(_) => (Some("progress"), None),
        Evidence::NotASafeguard { why, .. } | Evidence::SimulationOnly(why) => (None, Some(*why)),
    };
    let explored = |explored: &Explored| {
        json!({
            "explore": explored.explore.name(),
            "outcome": match &explored.outcome {
                Outcome::Killed => "killed",
                Outcome::Holds => "holds",
                Outcome::Refused(why) | Outcome::Wrong(why) => why,
            },
            "states": explored.states,
            "steps": explored.steps,
            "seconds": explored.seconds,
        })
    };
    json!({
        "mutant": ran.row.id(),
        "lost": ran.row.lost(),
        "status": status(ran, skipped),
        "as_expected": ran.is_as_expected(),
        "world": ran.row.world().map(|world| world.name()),
        "property": property,
        "why": why,
        "explored": ran.explored.iter().map(explored).collect::<Vec<_>>(),
    })
}

fn summary(rows: &[Row], done: usize, wrong: &[&str]) -> String {
    let count = |wanted: fn(&Evidence) -> bool| rows.iter().filter(|row| wanted(&row.evidence)).count();
    let mut text = format!(
        "{} safeguards: {} with a world that kills the mutant, {} not safeguards, {} for simulation only.",
        rows.len(),
        count(|status| matches!(status, Evidence::Killed(_) | Evidence::Stuck(_))),
        count(|status| matches!(status, Evidence::NotASafeguard { .. })),
        count(|status| matches!(status, Evidence::SimulationOnly(_))),
    );
    if done < rows.len() {
        text.push_str(&format!(" Interrupted: {} not run.", rows.len() - done));
    }
    if !wrong.is_empty() {
        text.push_str(&format!(" Not as they should be: {}.", wrong.join(", ")));
    }
    text
}
