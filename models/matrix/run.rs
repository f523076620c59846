//! Exploring the world of a row.

use super::{Evidence, Kill, Row};
use crate::engine::Limits;
use crate::problem::Problem;
use crate::progress::{self, Strategy};
use crate::report::{self, Explore, Options, Report, Verdict};
use crate::trace::replay::{replay, with_safeguard};
use crate::trace::{Execution, file::Stored};
use crate::world::WorldConfig;
use pbft_properties::Violation;
use std::time::Instant;

/// How a row turned out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A property broke that should, and with the safeguard back nothing does.
    Killed,
    /// Nothing breaks, as the row says, and the world is exhausted.
    Holds,
    /// Layered exploration claims nothing, for this reason: its conditions fail, say.
    Refused(String),
    /// The row is wrong: what should be killed survives, or something else breaks, or the counterexample does
    /// harm with the safeguard back.
    Wrong(String),
}

/// One exploration of a row's world.
#[derive(Clone, Debug)]
pub struct Explored {
    /// How it was explored.
    pub explore: Explore,
    /// How it turned out.
    pub outcome: Outcome,
    /// States visited.
    pub states: u64,
    /// The steps of the counterexample, delivery by delivery.
    pub steps: Option<usize>,
    /// Wall time in seconds, that of finding and shortening the counterexample included.
    pub seconds: f64,
}

/// A row that was run.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The row.
    pub row: Row,
    /// Its explorations: none if nothing can be explored; lazy delivery first.
    pub explored: Vec<Explored>,
    /// The counterexample found by lazy delivery.
    pub execution: Option<Execution>,
    /// The counterexample of a row where a request never executes, with whole replicas; without a revision.
    pub stuck: Option<Stored>,
}

impl Ran {
    /// The row, of which nothing has been explored yet.
    pub fn new(row: &Row) -> Self {
        Ran { row: row.clone(), explored: Vec::new(), execution: None, stuck: None }
    }

    /// The counterexample as it is stored, if one was found.
    ///
    /// # Errors
    /// If its world makes no sense.
    pub fn stored(&self, revision: String) -> Result<Option<Stored>, Problem> {
        match (&self.execution, &self.stuck) {
            (Some(execution), _) => Stored::new(execution, revision).map(Some),
            (None, stuck) => Ok(stuck.clone().map(|stored| Stored { revision, ..stored })),
        }
    }

    /// Whether the row is as it says.
    pub fn is_as_expected(&self) -> bool {
        !self.explored.iter().any(|explored| matches!(explored.outcome, Outcome::Wrong(_)))
    }
}

/// Explores the world of a row by lazy delivery and, where `layered` asks for it and the world has rounds,
/// round by round. `go_on` is asked now and then, and false stops.
///
/// # Errors
/// If the bounds of the row make no sense.
pub fn run(
    row: &Row,
    layered: bool,
    options: &Options,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Ran, Problem> {
    let mut ran = Ran::new(row);
    let Some(world) = row.world() else { return Ok(ran) };
    if let Evidence::Stuck(with_rule) = &row.evidence {
        let (explored, found) = stuck(&world, with_rule, options)?;
        ran.explored.push(explored);
        ran.stuck = found;
        return Ok(ran);
    }
    let mut ways = vec![Explore::Lazy];
    ways.extend((layered && row.has_rounds()).then_some(Explore::Layered));
    for explore in ways {
        let judged_by = match &row.evidence {
            Evidence::Killed(kill) if kill.judged_alone => Some(kill.property),
            _ => None,
        };
        let options = Options { execution: true, judged_by, ..options.clone() };
        let report = report::run(world.clone(), explore, &options, &mut |_| go_on())?;
        let outcome = match &row.evidence {
            Evidence::Killed(kill) => killed(kill, &report)?,
            _ => holds(&report),
        };
        ran.explored.push(Explored {
            explore,
            outcome,
            states: report.states,
            steps: report.execution.as_ref().map(|execution| execution.steps.len()),
            seconds: report.seconds,
        });
        if explore == Explore::Lazy {
            ran.execution = report.execution;
        }
    }
    if let (Evidence::NotASafeguard { serves_progress: true, .. }, [explored, ..]) =
        (&row.evidence, &mut ran.explored[..])
    {
        let found = progress::check(&world, Strategy::FORGETFUL, limits(options), &|| true)?;
        let gets_stuck = found.stuck.is_some() || found.cut_off.is_some();
        if gets_stuck && explored.outcome == Outcome::Holds {
            explored.outcome = Outcome::Wrong("some request never executes".into());
        }
    }
    Ok(ran)
}

fn limits(options: &Options) -> Limits {
    let Options { threads, memory: bytes, time, allocated, .. } = *options;
    Limits { threads, time, bytes, allocated, ..Limits::default() }
}

/// A request never executes without the rule, and all do with it, from every state.
fn stuck(
    without: &WorldConfig,
    with_rule: &WorldConfig,
    options: &Options,
) -> Result<(Explored, Option<Stored>), Problem> {
    let limits = limits(options);
    let began = Instant::now();
    let found = progress::check(without, Strategy::FORGETFUL, limits, &|| true)?;
    let harmless = progress::check(with_rule, Strategy::FORGETFUL, limits, &|| true)?;
    let stored = found.stuck.as_ref().map(|stuck| Stored::stuck(without, stuck, String::new()));
    let outcome = match (&stored, harmless.stuck) {
        (None, _) => Outcome::Wrong("every request executes from every state".into()),
        (_, Some(_)) => Outcome::Wrong("some request never executes by the paper's rules".into()),
        (Some(Err(why)), None) => Outcome::Wrong(why.to_string()),
        (Some(Ok(stored)), None) => goes_on(stored)?,
    };
    let stored = stored.and_then(Result::ok);
    let steps = stored.as_ref().map(|stored| stored.steps.len());
    let (states, seconds) = (found.states, began.elapsed().as_secs_f64());
    Ok((Explored { explore: Explore::Lazy, outcome, states, steps, seconds }, stored))
}

/// The counterexample reproduces with whole replicas, and after the same steps every request executes with the rule.
fn goes_on(stored: &Stored) -> Result<Outcome, Problem> {
    let replayed = replay(stored).map_err(|stale| stale.to_string())?;
    Ok(match with_safeguard(&replayed)?.violation {
        Some(violation) => Outcome::Wrong(format!("it does harm by the paper's rules: {violation}")),
        None => Outcome::Killed,
    })
}

fn killed(kill: &Kill, report: &Report) -> Result<Outcome, Problem> {
    let Some(execution) = &report.execution else {
        return Ok(match (report.explore, report.why.as_deref()) {
            (Explore::Layered, Some(why)) => Outcome::Refused(why.into()),
            (_, Some(why)) => Outcome::Wrong(format!("it survives: {why}")),
            (_, None) => Outcome::Wrong("it survives: nothing is violated".into()),
        });
    };
    let Violation { property, .. } = execution.violation;
    if report.explore == Explore::Lazy && property != kill.property {
        return Ok(Outcome::Wrong(format!("{property} is violated, and not {}", kill.property)));
    }
    let stored = Stored::new(execution, String::new())?;
    let replayed = replay(&stored).map_err(|stale| stale.to_string())?;
    let harmless = with_safeguard(&replayed)?;
    Ok(match (harmless.violation.clone(), harmless.first_difference()) {
        (Some(violation), _) => Outcome::Wrong(format!("it does harm by the paper's rules: {violation}")),
        (None, None) => Outcome::Wrong("the paper's rules take every step of it alike".into()),
        (None, Some(_)) => Outcome::Killed,
    })
}

fn holds(report: &Report) -> Outcome {
    match report.verdict {
        Verdict::Holds | Verdict::Searched => Outcome::Holds,
        Verdict::Unknown if report.explore == Explore::Layered => {
            Outcome::Refused(report.why.clone().unwrap_or_default())
        }
        Verdict::Unknown | Verdict::Hunted => {
            Outcome::Wrong(format!("unknown: {}", report.why.clone().unwrap_or_default()))
        }
        Verdict::Violated => {
            let violation = report.violation.clone().unwrap_or_default();
            Outcome::Wrong(format!("{} is violated: {violation}", report.property.unwrap_or_default()))
        }
    }
}
