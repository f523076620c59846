//! Carrying out a stored counterexample: by the rules that it names, where it must end as it says, and by the
//! paper's, where the same steps must be harmless.

use super::file::{Stored, StoredLoss, found, keys, states};
use super::proved::Proved;
use super::{Configuration, Executor, Step, StepResult};
use crate::mutants::Rulebook;
use crate::problem::Problem;
use crate::progress::{Loss, Ran};
use crate::world::WorldConfig;
use pbft::rejection::Rejection;
use pbft::replica::Fact;
use pbft_properties::Violation;
use thiserror::Error;

/// Why a file does not reproduce.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Stale {
    /// The world, or the rules, cannot be made.
    #[error("{0}")]
    World(Problem),
    /// A node starts in another state.
    #[error("{0} starts in another state than the file says")]
    Start(String),
    /// A message cannot be delivered.
    #[error("step {0}: no correct node has sent this message by then, and the adversary cannot make it")]
    NotAvailable(usize),
    /// A time-out cannot happen, or there is no such node.
    #[error("step {0}: it cannot be taken: there is no such correct node, or its time-out cannot fire then")]
    Impossible(usize),
    /// A node is in another state.
    #[error("step {0}: {1} is in another state after it than the file says")]
    State(usize, String),
    /// Something is violated before the last step.
    #[error("step {0} of {1} already violates {2}")]
    Early(usize, usize, Violation),
    /// Nothing is violated at the end.
    #[error("nothing is violated after the last step, and the file says that {0} is")]
    Nothing(String),
    /// Something else is violated.
    #[error("the last step violates {found}, and the file says {said}")]
    Other {
        /// What is violated.
        found: Violation,
        /// What the file says.
        said: String,
    },
    /// Every request executes.
    #[error(
        "once everything sent is lost, every client accepts a result within {0} ms, and the file says that a request never \
         executes"
    )]
    Executes(u64),
    /// It is stuck in another way.
    #[error("a request never executes, but line {0} of why is another one than the file says")]
    Why(usize),
}

/// What a step was, and what came of it.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its place in the schedule, counted from 1.
    pub number: usize,
    /// The step.
    pub step: Step,
    /// The state before it.
    pub before: Configuration,
    /// What came of it.
    pub came: StepResult,
}

/// A counterexample carried out: it ends in the violation that the file names.
pub struct Replayed {
    /// The world.
    pub executor: Executor,
    /// The steps.
    pub steps: Vec<Taken>,
    /// What the last one violates, or what then never happens.
    pub violation: Violation,
    /// How it goes on once everything sent is lost, if that is what the file is about.
    pub then: Option<(Loss, Ran)>,
    /// What is violated earlier, each property once, with the number of the step; nothing unless the file
    /// says so.
    pub past: Vec<(usize, Violation)>,
}

/// Carries out the steps by the rules that the file names.
///
/// # Errors
/// The first difference from what the file says.
pub fn replay(stored: &Stored) -> Result<Replayed, Stale> {
    let config = stored.config().map_err(Stale::World)?;
    let mut executor = Executor::new(&config).map_err(Stale::World)?;
    let keys = keys(&config);
    let mut configuration = executor.start();
    let mut known = states(&executor, &configuration);
    if let Some(node) = first_difference(&known, &stored.start) {
        return Err(Stale::Start(node));
    }
    let mut steps = Vec::new();
    let mut past: Vec<(usize, Violation)> = Vec::new();
    let mut violation = judged(&mut executor, &configuration, stored);
    for (index, step) in stored.steps.iter().enumerate() {
        if let Some(violation) = violation {
            return Err(Stale::Early(index, stored.steps.len(), violation));
        }
        let number = index + 1;
        if !executor.nodes().contains(&step.node.0) {
            return Err(Stale::Impossible(number));
        }
        let step_found =
            found(&mut executor, &configuration, step, &keys).ok_or(Stale::NotAvailable(number))?;
        let came = executor.take(&configuration, &step_found).map_err(|_| Stale::Impossible(number))?;
        known.extend(step.states.clone());
        if let Some(node) = first_difference(&states(&executor, &came.after), &known) {
            return Err(Stale::State(number, node));
        }
        let before = std::mem::replace(&mut configuration, came.after.clone());
        steps.push(Taken { number, step: step_found, before, came });
        violation = judged(&mut executor, &configuration, stored);
        if !stored.past.is_empty() && violation.is_none() {
            let found = executor.all_violations(&configuration).into_iter();
            let new: Vec<_> = found
                .filter(|found| past.iter().all(|(_, known)| known.property != found.property))
                .collect();
            past.extend(new.into_iter().map(|violation| (number, violation)));
        }
    }
    let then = stored.then.as_ref().filter(|_| violation.is_none());
    let then = then.map(|then| carried_on(&mut executor, &configuration, then)).transpose()?;
    let violation = violation.or_else(|| then.as_ref().and_then(|(_, ran)| ran.violation()));
    Ok(Replayed { executor, steps, violation: as_said(violation, stored)?, then, past })
}

/// What is violated at the end, which must be what the file says.
fn as_said(violation: Option<Violation>, stored: &Stored) -> Result<Violation, Stale> {
    let violation = violation.ok_or_else(|| Stale::Nothing(stored.property.clone()))?;
    if violation.property != stored.property || violation.what != stored.violation {
        let said = format!("{}: {}", stored.property, stored.violation);
        return Err(Stale::Other { found: violation, said });
    }
    Ok(violation)
}

/// What follows from whole replicas once everything sent is lost, which must be what the file says.
fn carried_on(
    executor: &mut Executor,
    configuration: &Configuration,
    then: &StoredLoss,
) -> Result<(Loss, Ran), Stale> {
    let loss = Loss { strategy: then.strategy, restarted: then.restarted };
    let ran = loss.carry_on(executor, configuration).map_err(Stale::World)?;
    if !ran.is_stuck() {
        return Err(Stale::Executes(ran.took_ms));
    }
    let lines = ran.last.len().max(then.why.len());
    match (0..lines).find(|&line| ran.last.get(line) != then.why.get(line)) {
        Some(line) => Err(Stale::Why(line + 1)),
        None => Ok((loss, ran)),
    }
}

/// What is violated, apart from what the file says that it goes past; of several the property that it names.
fn judged(executor: &mut Executor, configuration: &Configuration, stored: &Stored) -> Option<Violation> {
    if stored.past.is_empty() {
        return executor.violation(configuration);
    }
    let found = executor.all_violations(configuration);
    let named = found.iter().find(|found| found.property == stored.property).cloned();
    named.or_else(|| found.into_iter().find(|found| !stored.past.iter().any(|past| past == found.property)))
}

fn first_difference(
    found: &std::collections::BTreeMap<String, String>,
    said: &std::collections::BTreeMap<String, String>,
) -> Option<String> {
    let differs = |(node, digest): &(&String, &String)| said.get(*node) != Some(*digest);
    found
        .iter()
        .find(differs)
        .or_else(|| said.iter().find(|(node, _)| !found.contains_key(*node)))
        .map(|(node, _)| node.clone())
}

/// How a step turns out by the paper's rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Restored {
    /// As without the safeguard.
    Same,
    /// The receiver drops it for this reason.
    Refused(Rejection),
    /// It happens, and something else comes of it: what the replica reports then.
    Otherwise(Vec<Fact>),
    /// It cannot happen: nobody has sent the message, or the time-out does not fire, because of what happened
    /// before.
    CannotHappen,
}

/// The same schedule by the paper's rules.
pub struct Harmless {
    /// The world with every safeguard.
    pub executor: Executor,
    /// How each step turns out.
    pub steps: Vec<Restored>,
    /// Those that could be taken, with their places in the schedule.
    pub taken: Vec<Taken>,
    /// The state at the end.
    pub end: Configuration,
    /// How it goes on once everything sent is lost, if that is what the counterexample is about.
    pub then: Option<Ran>,
    /// What is violated all the same; a counterexample to the protocol.
    pub violation: Option<Violation>,
}

impl Harmless {
    /// The first step that turns out otherwise: its index, and how.
    pub fn first_difference(&self) -> Option<(usize, &Restored)> {
        self.steps.iter().enumerate().find(|(_, restored)| **restored != Restored::Same)
    }
}

/// The same world with every safeguard: the paper's rules, and no more than f Byzantine replicas.
pub fn restored(config: &WorldConfig) -> WorldConfig {
    WorldConfig {
        rules: Rulebook::default(),
        byzantine: config.byzantine.iter().copied().take(config.cluster.f()).collect(),
        ..config.clone()
    }
}

/// Takes the same steps with the safeguard back, as far as they can be taken: what Byzantine replicas send
/// they send again, whether or not anybody accepts it. Where the counterexample goes on after everything sent is lost,
/// so does this: then every request must execute.
///
/// # Errors
/// If the bounds make no sense, or a replica does not start from what is durable.
pub fn with_safeguard(replayed: &Replayed) -> Result<Harmless, Problem> {
    let config = replayed.executor.config();
    let safe = restored(config);
    let mut executor = Executor::new(&safe)?;
    let mut configuration = executor.start();
    let mut violation = executor.violation(&configuration);
    let (mut steps, mut safely) = (Vec::new(), Vec::new());
    for taken in &replayed.steps {
        let step = executor.as_sent(&configuration, taken.step.clone());
        let possible = as_can_be_sent(&replayed.executor, &mut executor, &configuration, step);
        let came =
            possible.and_then(|step| executor.take_unchecked(&configuration, &step).map(|came| (step, came)));
        let Some((step, came)) = came else {
            steps.push(Restored::CannotHappen);
            continue;
        };
        let same = came.facts == taken.came.facts
            && came.accepted == taken.came.accepted
            && came.sent.len() == taken.came.sent.len();
        steps.push(match came.rejection {
            Some(reason) if taken.came.rejection != Some(reason) => Restored::Refused(reason),
            _ if same => Restored::Same,
            _ => Restored::Otherwise(came.facts.clone()),
        });
        let before = std::mem::replace(&mut configuration, came.after.clone());
        safely.push(Taken { number: taken.number, step, before, came });
        violation = violation.or_else(|| executor.violation(&configuration));
    }
    let loss = replayed.then.as_ref().map(|(loss, _)| *loss);
    let then = loss.map(|loss| loss.carry_on(&mut executor, &configuration)).transpose()?;
    let violation = violation.or_else(|| then.as_ref().and_then(Ran::violation));
    Ok(Harmless { executor, steps, taken: safely, end: configuration, then, violation })
}

/// The step with its message without proofs that nobody could put together at this configuration.
pub fn without_unproved(executor: &Executor, configuration: &Configuration, step: &Step) -> Step {
    match step.what.message() {
        None => step.clone(),
        Some(message) => {
            let message = Proved::at(executor, configuration).in_message(message);
            Step { node: step.node, what: step.what.with(message) }
        }
    }
}

/// The step with its message as it can be there, if it can: a correct node has sent it, or the adversary can
/// make it of what was sent, though only receivers without the safeguard may accept it.
fn as_can_be_sent(
    lenient: &Executor,
    executor: &mut Executor,
    configuration: &Configuration,
    step: Step,
) -> Option<Step> {
    let Some(message) = step.what.message() else { return Some(step) };
    if executor.available(configuration, step.node).contains(message) {
        return Some(step);
    }
    let same_adversary = lenient.config().byzantine == executor.config().byzantine;
    let made = same_adversary && lenient.made_of(&executor.sent(configuration)).contains(message);
    let message = Proved::at(executor, configuration).in_message(message);
    made.then_some(Step { node: step.node, what: step.what.with(message) })
}
