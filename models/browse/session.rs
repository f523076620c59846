//! What our page shows of a world: a path through it and what lies around.

use crate::crypto::Symbolic;
use crate::mutants::Rulebook;
use crate::problem::Problem;
use crate::story::{Names, Story, StoryStep, Teller, learn_states};
use crate::trace::replay::{Taken, without_unproved};
use crate::trace::{Configuration, Execution, Executor, Happening, Step, StepResult, id_of};
use crate::world::WorldConfig;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft::message::Message;
use pbft::types::Principal;
use pbft_properties::{Violation, all};
use std::sync::Arc;

/// States around which everything is remembered.
const REMEMBERED: usize = 2048;

/// A world, a path through which is looked at.
pub struct Session {
    config: WorldConfig,
    executor: Executor,
    /// What the adversary makes for receivers who lack this rule is shown too, to say why it is refused.
    lenient: Option<Executor>,
    names: Names,
    around: IndexMap<Configuration, Arc<Around>, FixedState>,
}

/// Everything that can arrive or fire at a state.
struct Around {
    /// What changes something.
    steps: Vec<(String, Step, StepResult)>,
    /// What changes nothing: refused or ignored.
    idle: Vec<(String, Step, StepResult)>,
    /// Every property that is violated at the state.
    violated: Vec<Violation>,
}

/// Something that can happen next.
pub struct Choice {
    /// The name of the step in a path.
    pub id: String,
    /// The step as it would be told.
    pub step: StoryStep,
    /// What is violated after it.
    pub violated: Option<Violation>,
}

/// A message that would change nothing.
pub struct Refused {
    /// The name of the step in a path.
    pub id: String,
    /// The step as it would be told.
    pub step: StoryStep,
    /// Why it changes nothing, in a sentence.
    pub why: String,
}

/// A property in one state.
pub struct Judged {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub theorem: &'static str,
    /// How this state violates it, if it does.
    pub violated: Option<String>,
}

/// What is seen at the end of a path.
pub struct View {
    /// The steps of the path that could be taken.
    pub story: Story,
    /// Their names in the path.
    pub path: Vec<String>,
    /// Those that could not: the place in the path, counted from 1, and the name.
    pub missed: Vec<(usize, String)>,
    /// What can happen next, in the order of nodes and contents.
    pub choices: Vec<Choice>,
    /// How many messages and time-outs would change nothing.
    pub idle: usize,
    /// What they are, and why, if that was asked for.
    pub refused: Vec<Refused>,
    /// Every property in this state.
    pub judged: Vec<Judged>,
    /// The state of every node, in words.
    pub state: String,
    /// The steps that were taken, if the last one violates something: a counterexample.
    pub execution: Option<Execution>,
}

/// The names of the steps of an execution.
pub fn path_of(steps: &[Step]) -> Vec<String> {
    steps.iter().map(id_of).collect()
}

impl Session {
    /// A world, in which what the adversary makes for receivers without the rule `lenient` is shown too.
    ///
    /// # Errors
    /// If the bounds make no sense.
    pub fn new(config: WorldConfig, lenient: Option<Rulebook>) -> Result<Self, Problem> {
        let lenient = lenient.filter(|rules| *rules != config.rules);
        let lenient =
            lenient.map(|rules| Executor::new(&WorldConfig { rules, ..config.clone() })).transpose()?;
        let (executor, names) = (Executor::new(&config)?, Names::new(&config));
        Ok(Session { config, executor, lenient, names, around: IndexMap::default() })
    }

    /// The bounds and the rules.
    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// What is seen at the end of this path; what would change nothing only if `refused` asks for it.
    pub fn view(&mut self, path: &[String], refused: bool) -> View {
        let mut configuration = self.executor.start();
        let (mut taken, mut kept, mut missed) = (Vec::new(), Vec::new(), Vec::new());
        for (index, id) in path.iter().enumerate() {
            let around = self.around(&configuration);
            let known = around.steps.iter().chain(&around.idle).find(|(known, ..)| known == id);
            let Some((_, step, came)) = known else {
                missed.push((index + 1, id.clone()));
                continue;
            };
            let before = std::mem::replace(&mut configuration, came.after.clone());
            taken.push(Taken { number: taken.len() + 1, step: step.clone(), before, came: came.clone() });
            kept.push(id.clone());
        }
        self.seen(taken, kept, missed, &configuration, refused)
    }

    fn seen(
        &mut self,
        taken: Vec<Taken>,
        path: Vec<String>,
        missed: Vec<(usize, String)>,
        configuration: &Configuration,
        refused: bool,
    ) -> View {
        let around = self.around(configuration);
        let violations = &around.violated;
        let new: Vec<Vec<Violation>> = taken.iter().map(|taken| self.newly_violated(taken)).collect();
        // A counterexample ends where something is violated for the first time.
        let first = taken.last().is_some_and(|last| self.executor.violation(&last.before).is_none());
        let violation = self.executor.violation(configuration);
        let execution = violation.clone().filter(|_| first).map(|violation| Execution {
            config: self.config.clone(),
            steps: taken.iter().map(|taken| taken.step.clone()).collect(),
            violation,
        });
        let ends: Vec<_> =
            around.steps.iter().map(|(.., came)| self.executor.violation(&came.after)).collect();
        let shown = new.last().and_then(|new| new.first()).or(violation.as_ref());
        let mut story = Story::named(&self.executor, &taken, shown, self.names.clone().without_claims());
        for (step, new) in story.steps.iter_mut().zip(&new) {
            let told: Vec<String> = new.iter().map(|new| story.names.in_text(&new.to_string())).collect();
            step.violated = (!told.is_empty()).then(|| told.join("; "));
        }
        let told = |step: &Step, came: &StepResult| {
            let next = Taken {
                number: taken.len() + 1,
                step: step.clone(),
                before: configuration.clone(),
                came: came.clone(),
            };
            let longer = [&taken[..], &[next]].concat();
            Teller::new(&self.executor, &longer, &story.names).told(taken.len())
        };
        let choices = around.steps.iter().zip(ends).map(|((id, step, came), violated)| Choice {
            id: id.clone(),
            step: told(step, came),
            violated: violated.filter(|_| violation.is_none()),
        });
        let asked_for = around.idle.iter().filter(|_| refused);
        let refused = asked_for.map(|(id, step, came)| {
            let step = told(step, came);
            let why = step.refused.clone().unwrap_or_else(|| ignored(&step));
            Refused { id: id.clone(), step, why }
        });
        let has_calls = self.config.application.is_some();
        let judging = all::<crate::ledger::Ledger>().into_iter();
        let judging = judging.filter(|property| has_calls || !property.is_of_calls);
        let judged = judging.map(|property| Judged {
            name: property.name,
            theorem: property.theorem,
            violated: (violations.iter().find(|violation| violation.property == property.name))
                .map(|violation| story.names.in_text(&violation.what)),
        });
        View {
            choices: choices.collect(),
            idle: around.idle.len(),
            refused: refused.collect(),
            judged: judged.collect(),
            state: crate::story::summary(&self.executor, configuration, &story.names),
            story,
            path,
            missed,
            execution,
        }
    }

    /// What is violated after a step and was not before it.
    fn newly_violated(&mut self, taken: &Taken) -> Vec<Violation> {
        let (before, after) = (self.around(&taken.before), self.around(&taken.came.after));
        let is_known = |found: &&Violation| before.violated.iter().any(|old| old.property == found.property);
        after.violated.iter().filter(|found| !is_known(found)).cloned().collect()
    }

    fn around(&mut self, configuration: &Configuration) -> Arc<Around> {
        if let Some(known) = self.around.get(configuration) {
            return known.clone();
        }
        if self.around.len() >= REMEMBERED {
            self.around.clear();
        }
        let violated = self.executor.all_violations(configuration);
        let mut around = Around { steps: Vec::new(), idle: Vec::new(), violated };
        for node in self.executor.nodes().to_vec() {
            let available = self.executor.available(configuration, node);
            let more = self.made_for_the_lenient(configuration, &available);
            let more = more.into_iter().filter(|(message, _)| {
                matches!(message, Message::Reply(_)) == matches!(node, Principal::Client(_))
            });
            let here = available.into_iter().map(|message| (message.clone(), message));
            for (named, message) in here.chain(more) {
                self.names.learn(&message);
                let named = Happening::Deliver(named);
                self.add_all(&mut around, configuration, node, &named, Happening::Deliver(message));
            }
            for what in [Happening::TimeOut, Happening::Crash] {
                self.add_all(&mut around, configuration, node, &what.clone(), what);
            }
        }
        let around = Arc::new(around);
        self.around.insert(configuration.clone(), around.clone());
        around
    }

    /// Adds what happens, and every crash inside of it.
    fn add_all(
        &mut self,
        around: &mut Around,
        configuration: &Configuration,
        node: Principal,
        named: &Happening,
        what: Happening,
    ) {
        for crashed in self.executor.crashes_during(configuration, node, &what) {
            let named = Step { node, what: Happening::new(named.message().cloned(), crashed.crash()) };
            self.add(around, configuration, &named, Step { node, what: crashed });
        }
        self.add(around, configuration, &Step { node, what: named.clone() }, Step { node, what });
    }

    fn add(&mut self, around: &mut Around, configuration: &Configuration, named: &Step, step: Step) {
        let Some(came) = self.executor.take_unchecked(configuration, &step) else { return };
        learn_states(&mut self.names, &self.executor, &came.after);
        came.sent.iter().for_each(|message| self.names.learn(message));
        let list = if came.after == *configuration { &mut around.idle } else { &mut around.steps };
        list.push((id_of(named), step, came));
    }

    /// What the adversary makes for receivers who lack a rule and this world does not offer: as it is made, and as it is
    /// shown to receivers here.
    fn made_for_the_lenient(
        &self,
        configuration: &Configuration,
        available: &[Message<Symbolic>],
    ) -> Vec<(Message<Symbolic>, Message<Symbolic>)> {
        let Some(lenient) = &self.lenient else { return Vec::new() };
        let made = lenient.made_of(&self.executor.sent(configuration));
        let new = made.into_iter().filter(|message| !available.contains(message));
        let shown = new.map(|message| {
            let node = self.executor.nodes()[0];
            let step = Step { node, what: Happening::Deliver(message.clone()) };
            let shown = without_unproved(&self.executor, configuration, &step).what;
            let shown = shown.message().expect("a delivery stays one").clone();
            (message, shown)
        });
        shown.collect()
    }
}

/// Why a message that is not refused changes nothing.
fn ignored(step: &StoryStep) -> String {
    let node = crate::story::name(step.node);
    match step.tallies.iter().find(|tally| !tally.is_complete()) {
        Some(tally) => format!("{node} knows it already ({})", tally.in_words()),
        None if step.is_delivery => format!("{node} knows it already, or has no use for it now"),
        None => format!("{node} has nothing to wait for"),
    }
}
