//! Executions of whole replicas, one delivery at a time: what every counterexample is told as.
//!
//! However a violation was found, delivery by delivery, by macro steps or round by round, it becomes a list
//! of [`Step`]s and is carried out by an [`Executor`] on real replicas from which nothing has been forgotten.
//! A message is delivered only if a correct replica has sent it by then or the adversary can make it, and
//! every property is judged after every step. Then steps are left out for as long as the same property is
//! still violated ([`Execution::new`]): in the end no step can be dropped. Where what is shown is that a request never
//! executes, the steps lead to whole replicas from which it goes on once everything sent is lost
//! ([`crate::progress::Loss`]).
//!
//! | file | what |
//! |---|---|
//! | `executor` | carries steps out |
//! | `canonical` | of all shortest ways to a violation the first, whatever order a world lists its actions in |
//! | `said` | messages as they are written to files and found again |
//! | `file` | counterexamples as files |
//! | `replay` | carries out the steps of a file, by the rules that it names and by the paper's |

pub mod canonical;
mod executor;
pub mod file;
mod proved;
pub mod replay;
pub mod said;

pub use executor::{Configuration, Executor, StepResult, id_of};

use crate::crypto::Symbolic;
use crate::world::{WorldConfig, in_words};
use pbft::message::Message;
use pbft::types::Principal;
use pbft_properties::Violation;

/// Something that happens at a node.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Happening {
    /// A message arrives.
    Deliver(Message<Symbolic>),
    /// The node's time-out fires.
    TimeOut,
    /// The replica crashes between two steps, and starts again.
    Crash,
    /// The replica crashes after so many effects of what this message, or else the
    /// time-out, makes it do, and starts again.
    CrashDuring(Option<Message<Symbolic>>, u8),
}

impl Happening {
    /// What this message does, or else the time-out, until the crash if there is one.
    pub fn new(message: Option<Message<Symbolic>>, crash: Option<u8>) -> Self {
        match (message, crash) {
            (Some(message), None) => Happening::Deliver(message),
            (None, None) => Happening::TimeOut,
            (None, Some(0)) => Happening::Crash,
            (message, Some(carried_out)) => Happening::CrashDuring(message, carried_out),
        }
    }

    /// The message that arrives, if one does.
    pub fn message(&self) -> Option<&Message<Symbolic>> {
        match self {
            Happening::Deliver(message) => Some(message),
            Happening::CrashDuring(message, _) => message.as_ref(),
            Happening::TimeOut | Happening::Crash => None,
        }
    }

    /// If the replica crashes, after how many effects.
    pub fn crash(&self) -> Option<u8> {
        match self {
            Happening::Deliver(_) | Happening::TimeOut => None,
            Happening::Crash => Some(0),
            Happening::CrashDuring(_, carried_out) => Some(*carried_out),
        }
    }

    /// The same with another message, if one arrives.
    #[must_use]
    pub fn with(&self, message: Message<Symbolic>) -> Self {
        Happening::new(self.message().map(|_| message), self.crash())
    }
}

/// One step of an execution.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Step {
    /// The correct replica, or the client, that takes it.
    pub node: Principal,
    /// What happens there.
    pub what: Happening,
}

/// An execution whose last step violates a property, and in which no step can be dropped: without any one of
/// them, and without the deliveries that then are of messages nobody has sent, the same property is violated
/// nowhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Execution {
    /// The world, and the rules that its correct nodes run by.
    pub config: WorldConfig,
    /// The steps.
    pub steps: Vec<Step>,
    /// What the last one violates.
    pub violation: Violation,
}

impl Execution {
    /// Carries out these steps, leaving out deliveries of what is not available, up to the first violation;
    /// then drops steps while the same property is still violated, later ones first. None if nothing is
    /// violated.
    pub fn new(executor: &mut Executor, steps: Vec<Step>) -> Option<Execution> {
        let (steps, violation) = violation(executor, steps)?;
        let mut shortest = Execution { config: executor.config().clone(), steps, violation };
        let mut at = shortest.steps.len();
        while at > 0 {
            at -= 1;
            if let Some((steps, violation)) = shortest.without(executor, at) {
                (shortest.steps, shortest.violation) = (steps, violation);
                // What was needed for the step dropped may be needed no more.
                at = shortest.steps.len();
            }
        }
        Some(shortest)
    }

    /// The steps in words.
    pub fn told(&self) -> Vec<String> {
        let told = |step: &Step| {
            let messages: Vec<_> = step.what.message().cloned().into_iter().collect();
            in_words(step.node, &messages, step.what.crash(), &self.config)
        };
        self.steps.iter().map(told).collect()
    }

    /// What is left of the execution without one step, up to the first violation of the same property; none
    /// if it is not violated then.
    pub fn without(&self, executor: &mut Executor, dropped: usize) -> Option<(Vec<Step>, Violation)> {
        let mut steps = self.steps.clone();
        steps.remove(dropped);
        violation(executor, steps).filter(|(_, violation)| violation.property == self.violation.property)
    }
}

/// The single steps of a macro step: these deliveries, or a time-out if there are none, up to a crash if it ends
/// in one.
pub(crate) fn single_steps(node: Principal, path: Vec<Message<Symbolic>>, crash: Option<u8>) -> Vec<Step> {
    let mut path = path;
    let last = Step { node, what: Happening::new(path.pop(), crash) };
    let deliver = |message| Step { node, what: Happening::Deliver(message) };
    path.into_iter().map(deliver).chain([last]).collect()
}

/// The steps that could be taken up to the first violation, and what is violated; none if nothing is.
pub fn violation(executor: &mut Executor, steps: Vec<Step>) -> Option<(Vec<Step>, Violation)> {
    let mut configuration = executor.start();
    let mut taken = Vec::new();
    if let Some(violation) = executor.violation(&configuration) {
        return Some((taken, violation));
    }
    for step in steps {
        let step = executor.as_sent(&configuration, step);
        let Ok(came) = executor.take(&configuration, &step) else { continue };
        configuration = came.after;
        taken.push(step);
        if let Some(violation) = executor.violation(&configuration) {
            return Some((taken, violation));
        }
    }
    None
}
