//! Worlds in a browser: one delivery at a time, on whole replicas.
//!
//! [`Browse`] is a world as a `stateright` model, for stateright's Explorer and its search. [`Session`] is what our own
//! page shows of the same world: a path, what can happen after it, what cannot and why, and every property in the state
//! that it leads to.

mod session;

pub use session::{Choice, Judged, Refused, Session, View, path_of};

use crate::ledger::Ledger;
use crate::problem::Problem;
use crate::story::{Names, Story, marked, summary};
use crate::trace::replay::Taken;
use crate::trace::{Configuration, Execution, Executor, Happening, Step, StepResult};
use crate::world::WorldConfig;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft_properties::{
    Agreement, AtMostOnce, CheckpointIsState, CheckpointsAgree, ExecutesAgreedBatch,
    NewViewPreservesCommitted, PreparedUniqueness, Property as Theorem, RepliesNeverConflict, Validity,
    ViewMonotonic, Watermarks,
};
use stateright::{Model, Property};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// States whose steps are remembered.
const REMEMBERED: usize = 4096;

/// The steps from a state.
type Steps = Arc<Vec<(Step, StepResult)>>;

/// A world as a `stateright` model. Its actions are the steps that change something, in the order of nodes
/// and contents.
pub struct Browse {
    config: WorldConfig,
    inner: Mutex<Inner>,
}

struct Inner {
    executor: Executor,
    steps: IndexMap<Configuration, Steps, FixedState>,
    /// One name for one digest, whatever is looked at.
    names: Names,
}

/// A state; its `Debug` says what is in it in words.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Seen {
    configuration: Configuration,
    shown: Arc<str>,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Browse {
    /// The world with these bounds.
    ///
    /// # Errors
    /// If they make no sense ([`WorldConfig::problem`]).
    pub fn new(config: WorldConfig) -> Result<Self, Problem> {
        let (executor, names) = (Executor::new(&config)?, Names::new(&config));
        let inner = Inner { executor, names, steps: IndexMap::default() };
        Ok(Browse { config, inner: Mutex::new(inner) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while taking steps")
    }

    /// The part of the Explorer's address that leads to the end of an execution in this world: `steps/0/3/1`.
    ///
    /// # Errors
    /// If it is not an execution of this world.
    pub fn link(&self, execution: &Execution) -> Result<String, Problem> {
        let mut inner = self.inner();
        let mut configuration = inner.executor.start();
        let mut link = String::from("steps/0");
        for step in &execution.steps {
            let steps = inner.steps(&configuration);
            let index = steps.iter().position(|(known, _)| known == step);
            let index = index.ok_or("a step changes nothing, and the Explorer lists those that do")?;
            link.push_str(&format!("/{index}"));
            configuration = steps[index].1.after.clone();
        }
        Ok(link)
    }

    fn violates(&self, state: &Seen, property: &str) -> bool {
        let violated = self.inner().executor.all_violations(&state.configuration);
        violated.iter().any(|found| found.property == property)
    }

    /// What a step does, what it changes and what is violated after it.
    fn outcome(&self, before: &Seen, step: &Step) -> Option<String> {
        let mut inner = self.inner();
        let came = inner.executor.take_unchecked(&before.configuration, step)?;
        let violation = inner.executor.violation(&came.after);
        came.sent.iter().for_each(|message| inner.names.learn(message));
        let taken = [Taken { number: 1, step: step.clone(), before: before.configuration.clone(), came }];
        let story = Story::named(&inner.executor, &taken, violation.as_ref(), inner.names.clone());
        let told = &story.steps[0];
        let mut lines = vec![marked(step, &story.names, &self.config)];
        lines.extend(told.lies.iter().map(|lie| format!("lie: {lie}")));
        lines.extend(told.violated.iter().map(|what| format!("VIOLATED: {what}")));
        lines.extend(told.does.iter().cloned());
        lines.extend(told.tallies.iter().map(|tally| tally.in_words()));
        lines.extend(told.sends.iter().map(|sent| format!("sends {sent}")));
        lines.extend(told.changes.iter().map(|(what, was, is)| format!("{what}: {was} -> {is}")));
        Some(lines.join("\n"))
    }
}

impl Inner {
    fn seen(&self, configuration: Configuration) -> Seen {
        let shown = summary(&self.executor, &configuration, &self.names).into();
        Seen { configuration, shown }
    }

    fn steps(&mut self, configuration: &Configuration) -> Steps {
        if let Some(known) = self.steps.get(configuration) {
            return known.clone();
        }
        if self.steps.len() >= REMEMBERED {
            self.steps.clear();
        }
        let steps = Arc::new(self.executor.steps(configuration));
        for (step, _) in steps.iter() {
            if let Happening::Deliver(message) = &step.what {
                self.names.learn(message);
            }
        }
        self.steps.insert(configuration.clone(), steps.clone());
        steps
    }
}

/// Whether a state leaves a property intact.
fn holds<P: Theorem<Ledger>>(world: &Browse, state: &Seen) -> bool {
    !world.violates(state, P::NAME)
}

fn always<P: Theorem<Ledger>>() -> Property<Browse> {
    Property::always(P::NAME, holds::<P>)
}

impl Model for Browse {
    type State = Seen;
    type Action = Step;

    fn init_states(&self) -> Vec<Seen> {
        let mut inner = self.inner();
        let configuration = inner.executor.start();
        vec![inner.seen(configuration)]
    }

    fn actions(&self, state: &Seen, actions: &mut Vec<Step>) {
        actions.extend(self.inner().steps(&state.configuration).iter().map(|(step, _)| step.clone()));
    }

    fn next_state(&self, state: &Seen, step: Step) -> Option<Seen> {
        let mut inner = self.inner();
        let came = inner.executor.take_unchecked(&state.configuration, &step)?;
        (came.after != state.configuration).then(|| inner.seen(came.after))
    }

    fn format_action(&self, step: &Step) -> String {
        let mut inner = self.inner();
        if let Happening::Deliver(message) = &step.what {
            inner.names.learn(message);
        }
        marked(step, &inner.names, &self.config)
    }

    fn format_step(&self, state: &Seen, step: Step) -> Option<String> {
        self.outcome(state, &step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            always::<Agreement>(),
            always::<AtMostOnce>(),
            always::<CheckpointIsState>(),
            always::<CheckpointsAgree>(),
            always::<ExecutesAgreedBatch>(),
            always::<NewViewPreservesCommitted>(),
            always::<PreparedUniqueness>(),
            always::<RepliesNeverConflict>(),
            always::<Validity>(),
            always::<ViewMonotonic>(),
            always::<Watermarks>(),
        ]
    }
}

impl fmt::Debug for Browse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.config.name())
    }
}
