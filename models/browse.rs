//! Worlds for stateright's Explorer: one delivery at a time, on whole replicas.

use crate::journal::Journal;
use crate::story::{Names, Story, marked, summary, svg_to_fit};
use crate::trace::replay::Taken;
use crate::trace::{Came, Execution, Executor, Happening, Moment, Step};
use crate::world::WorldConfig;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft_properties::{
    Agreement, AtMostOnce, CheckpointIsState, CheckpointsAgree, ExecutesAgreedBatch,
    NewViewPreservesCommitted, PreparedUniqueness, Property as Theorem, RepliesNeverConflict, Validity,
    ViewMonotonic, Watermarks,
};
use stateright::{Model, Path, Property};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// States whose steps are remembered.
const REMEMBERED: usize = 4096;

/// The steps from a state.
type Steps = Arc<Vec<(Step, Came)>>;

/// A world as a `stateright` model. Its actions are the steps that change something, in the order of nodes and contents.
pub struct Browse {
    config: WorldConfig,
    names: Names,
    inner: Mutex<Inner>,
}

struct Inner {
    executor: Executor,
    steps: IndexMap<Moment, Steps, FixedState>,
}

/// A state; its `Debug` says what is in it in words.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Seen {
    moment: Moment,
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
    pub fn new(config: WorldConfig) -> Result<Self, String> {
        let inner = Inner { executor: Executor::new(&config)?, steps: IndexMap::default() };
        Ok(Browse { names: Names::new(&config), config, inner: Mutex::new(inner) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while taking steps")
    }

    fn seen(&self, executor: &Executor, moment: Moment) -> Seen {
        let shown = summary(executor, &moment, &self.names).into();
        Seen { moment, shown }
    }

    /// The part of the Explorer's address that leads to the end of an execution in this world: `steps/0/3/1`.
    ///
    /// # Errors
    /// If it is not an execution of this world.
    pub fn link(&self, execution: &Execution) -> Result<String, String> {
        let mut inner = self.inner();
        let mut moment = inner.executor.start();
        let mut link = String::from("steps/0");
        for step in &execution.steps {
            let steps = inner.steps(&moment);
            let index = steps.iter().position(|(known, _)| known == step);
            let index = index.ok_or("a step changes nothing, and the Explorer lists those that do")?;
            link.push_str(&format!("/{index}"));
            moment = steps[index].1.after.clone();
        }
        Ok(link)
    }

    fn violates(&self, state: &Seen, property: &str) -> bool {
        self.inner().executor.violation(&state.moment).is_some_and(|found| found.property == property)
    }

    /// What a step does, what it changes and what is violated after it.
    fn outcome(&self, before: &Seen, step: &Step) -> Option<String> {
        let mut inner = self.inner();
        let came = inner.executor.take_unchecked(&before.moment, step)?;
        let violation = inner.executor.violation(&came.after);
        let taken = [Taken { step: step.clone(), before: before.moment.clone(), came }];
        let story = Story::new(&inner.executor, &taken, violation.as_ref());
        let told = &story.steps[0];
        let mut lines = vec![marked(step, &story.names, &self.config)];
        lines.extend(told.violated.iter().map(|what| format!("VIOLATED: {what}")));
        lines.extend(told.does.iter().cloned());
        lines.extend(told.sends.iter().map(|sent| format!("sends {sent}")));
        lines.extend(told.changes.iter().map(|(what, was, is)| format!("{what}: {was} -> {is}")));
        Some(lines.join("\n"))
    }
}

impl Inner {
    fn steps(&mut self, moment: &Moment) -> Steps {
        if let Some(known) = self.steps.get(moment) {
            return known.clone();
        }
        if self.steps.len() >= REMEMBERED {
            self.steps.clear();
        }
        let steps = Arc::new(self.executor.steps(moment));
        self.steps.insert(moment.clone(), steps.clone());
        steps
    }
}

/// Whether a state leaves a property intact. Of several violated at once the first counts.
fn holds<P: Theorem<Journal>>(world: &Browse, state: &Seen) -> bool {
    !world.violates(state, P::NAME)
}

fn always<P: Theorem<Journal>>() -> Property<Browse> {
    Property::always(P::NAME, holds::<P>)
}

impl Model for Browse {
    type State = Seen;
    type Action = Step;

    fn init_states(&self) -> Vec<Seen> {
        let mut inner = self.inner();
        let moment = inner.executor.start();
        vec![self.seen(&inner.executor, moment)]
    }

    fn actions(&self, state: &Seen, actions: &mut Vec<Step>) {
        actions.extend(self.inner().steps(&state.moment).iter().map(|(step, _)| step.clone()));
    }

    fn next_state(&self, state: &Seen, step: Step) -> Option<Seen> {
        let mut inner = self.inner();
        let came = inner.executor.take_unchecked(&state.moment, &step)?;
        (came.after != state.moment).then(|| self.seen(&inner.executor, came.after))
    }

    fn format_action(&self, step: &Step) -> String {
        let mut names = self.names.clone();
        if let Happening::Deliver(message) = &step.what {
            names.learn(message);
        }
        marked(step, &names, &self.config)
    }

    fn format_step(&self, state: &Seen, step: Step) -> Option<String> {
        self.outcome(state, &step)
    }

    fn as_svg(&self, path: Path<Seen, Step>) -> Option<String> {
        let mut inner = self.inner();
        let mut moment = inner.executor.start();
        let mut taken = Vec::new();
        for step in path.into_actions() {
            let came = inner.executor.take_unchecked(&moment, &step)?;
            let before = std::mem::replace(&mut moment, came.after.clone());
            taken.push(Taken { step, before, came });
        }
        let violation = inner.executor.violation(&moment);
        Some(svg_to_fit(&Story::new(&inner.executor, &taken, violation.as_ref())))
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
