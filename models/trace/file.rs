//! Counterexamples as files: JSON that people can read, and that is carried out again to be believed.

use super::said::{Name, SavedMessage};
use super::{Configuration, Executor, Happening};
use super::{Execution, Step};
use crate::crypto::{Keys, Symbolic};
use crate::mutants::{Mutant, Rulebook};
use crate::problem::Problem;
use crate::progress::{Loss, Strategy, Stuck};
use crate::world::{Application, Clients, Crashes, WorldConfig};
use pbft::message::Message;
use pbft::types::{Cluster, ReplicaId, SeqNo, View};
use pbft_properties::Violation;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The version of the format written here, and the only one read.
pub const SCHEMA: u32 = 1;

/// A counterexample as it is stored.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Stored {
    /// The version of this format: [`SCHEMA`].
    pub schema: u32,
    /// What the file shows, in one sentence.
    pub about: String,
    /// The commit of the source that found it, or `unknown`.
    pub revision: String,
    /// The world.
    pub world: StoredWorld,
    /// `pbft`, or the safeguard that is switched off.
    pub rules: String,
    /// The property that the last step violates.
    pub property: String,
    /// How, in words.
    pub violation: String,
    /// The properties that earlier steps violate and the rest goes past; none in what an exploration finds
    /// first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<String>,
    /// The digest of each node's state before the first step.
    pub start: BTreeMap<String, String>,
    /// The steps.
    pub steps: Vec<StoredStep>,
    /// What happens after them, where a request never executes then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<StoredLoss>,
}

/// Everything that was sent is lost, and a request never executes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StoredLoss {
    /// What the Byzantine replicas do from then on.
    pub strategy: Strategy,
    /// Whether every correct replica restarts then.
    pub restarted: bool,
    /// What happens last: why it stays so.
    pub why: Vec<String>,
}

/// The bounds of a world: the fields of [`WorldConfig`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the configuration")]
pub struct StoredWorld {
    pub n: u16,
    pub f: u16,
    pub byzantine: Vec<u16>,
    pub max_view: u64,
    pub max_seq: u64,
    pub requests: u32,
    pub client_actors: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<String>,
    pub max_batch: usize,
    pub checkpoint_interval: Option<u64>,
    pub window: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crashes: Option<StoredCrashes>,
}

/// One step.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StoredStep {
    /// Where it happens.
    pub node: Name,
    /// What happens.
    pub what: StoredHappening,
    /// The digest of the state of each node that changes.
    pub states: BTreeMap<String, String>,
}

/// What happens at a node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoredHappening {
    /// A message arrives.
    Deliver(SavedMessage),
    /// The time-out fires.
    TimeOut,
    /// The replica crashes between steps, and starts again.
    Crash,
    /// The replica crashes in the middle of a step, and starts again.
    CrashDuring(StoredCrash),
}

/// A crash in the middle of a step.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StoredCrash {
    /// The message that arrives; a time-out, if there is none.
    pub deliver: Option<SavedMessage>,
    /// How many effects of the step are carried out.
    pub carried_out: u8,
}

/// The crashes that are part of a world: the fields of [`Crashes`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the configuration")]
pub struct StoredCrashes {
    pub at_most: Option<u8>,
    pub between_steps: bool,
}

impl Stored {
    /// An execution as it is stored. `revision` is the commit of the source that found it.
    ///
    /// # Errors
    /// If the world makes no sense.
    pub fn new(execution: &Execution, revision: String) -> Result<Self, Problem> {
        let (stored, ..) = Stored::carried_out(&execution.config, &execution.steps)?;
        Ok(Stored { revision, ..stored.violating(&execution.config, &execution.violation) })
    }

    /// A run that is stuck, as it is stored: from whole replicas, and without the steps that it does not need.
    ///
    /// # Errors
    /// If the world makes no sense, or every request executes from whole replicas.
    pub fn stuck(config: &WorldConfig, stuck: &Stuck, revision: String) -> Result<Self, Problem> {
        let Loss { strategy, restarted } = stuck.loss;
        let executes = || Problem::from("from whole replicas every request executes after these steps");
        let steps = stuck.loss.needed(config, &stuck.steps)?.ok_or_else(executes)?;
        let (stored, mut executor, end) = Stored::carried_out(config, &steps)?;
        let ran = stuck.loss.carry_on(&mut executor, &end)?;
        let violation = ran.violation().ok_or_else(executes)?;
        let then = Some(StoredLoss { strategy, restarted, why: ran.last });
        Ok(Stored { revision, then, ..stored.violating(config, &violation) })
    }

    fn violating(self, config: &WorldConfig, violation: &Violation) -> Self {
        Stored {
            about: about(config, violation.property),
            property: violation.property.into(),
            violation: violation.what.clone(),
            ..self
        }
    }

    /// These steps as they are stored, the world in which they have been taken, and where they lead.
    fn carried_out(config: &WorldConfig, taken: &[Step]) -> Result<(Self, Executor, Configuration), Problem> {
        let mut executor = Executor::new(config)?;
        let keys = keys(config);
        let mut configuration = executor.start();
        let start = states(&executor, &configuration);
        let mut before = start.clone();
        let (mut steps, mut past) = (Vec::new(), BTreeSet::new());
        for step in taken {
            let violated = executor.all_violations(&configuration);
            past.extend(violated.into_iter().map(|violation| violation.property.to_string()));
            let came = executor
                .take(&configuration, step)
                .map_err(|why| format!("a step is impossible: {why:?}"))?;
            configuration = came.after;
            let mut changed = states(&executor, &configuration);
            let now = changed.clone();
            changed.retain(|node, digest| before[node] != *digest);
            let what = StoredHappening::of(&step.what, &keys);
            steps.push(StoredStep { node: Name(step.node), what, states: changed });
            before = now;
        }
        let stored = Stored {
            schema: SCHEMA,
            about: String::new(),
            revision: String::new(),
            world: StoredWorld::of(config),
            rules: config.rules.name().into(),
            property: String::new(),
            violation: String::new(),
            past: past.into_iter().collect(),
            start,
            steps,
            then: None,
        };
        Ok((stored, executor, configuration))
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let version: Version =
            serde_json::from_str(text).map_err(|error| format!("it is no counterexample: {error}"))?;
        if version.schema != SCHEMA {
            return Err(format!(
                "it has version {} of the format, and this program reads version {SCHEMA}",
                version.schema
            )
            .into());
        }
        Ok(serde_json::from_str(text).map_err(|error| format!("it is no counterexample: {error}"))?)
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a counterexample is plain data") + "\n"
    }

    /// The world, and the rules that its correct nodes run by.
    ///
    /// # Errors
    /// If the bounds make no sense, or there is no such safeguard.
    pub fn config(&self) -> Result<WorldConfig, Problem> {
        let rules = match self.rules.as_str() {
            "pbft" => Rulebook::default(),
            id => {
                Rulebook::without(Mutant::named(id).ok_or_else(|| format!("no safeguard is called {id:?}"))?)
            }
        };
        let config = self.world.config(rules);
        config.problem().map_or(Ok(config), |problem| Err(problem.into()))
    }
}

impl StoredHappening {
    fn of(what: &Happening, keys: &Keys) -> Self {
        let saved = |message| SavedMessage::of(message, keys);
        match what {
            Happening::Deliver(message) => StoredHappening::Deliver(saved(message)),
            Happening::TimeOut => StoredHappening::TimeOut,
            Happening::Crash => StoredHappening::Crash,
            Happening::CrashDuring(message, carried_out) => {
                let (deliver, carried_out) = (message.as_ref().map(saved), *carried_out);
                StoredHappening::CrashDuring(StoredCrash { deliver, carried_out })
            }
        }
    }

    fn crash(&self) -> Option<u8> {
        match self {
            StoredHappening::Deliver(_) | StoredHappening::TimeOut => None,
            StoredHappening::Crash => Some(0),
            StoredHappening::CrashDuring(crash) => Some(crash.carried_out),
        }
    }

    fn message(&self) -> Option<&SavedMessage> {
        match self {
            StoredHappening::Deliver(message) => Some(message),
            StoredHappening::CrashDuring(crash) => crash.deliver.as_ref(),
            StoredHappening::TimeOut | StoredHappening::Crash => None,
        }
    }
}

fn about(config: &WorldConfig, property: &str) -> String {
    match config.rules.without {
        Some(mutant) => format!("Without {}, {property} is violated: {}.", mutant.id(), mutant.lost()),
        None => format!(
            "With {} of {} replicas Byzantine, {property} is violated.",
            config.byzantine.len(),
            config.cluster.n()
        ),
    }
}

impl StoredWorld {
    fn of(config: &WorldConfig) -> Self {
        let small = |number: usize| u16::try_from(number).expect("a cluster's size fits in 16 bits");
        StoredWorld {
            n: small(config.cluster.n()),
            f: small(config.cluster.f()),
            byzantine: config.byzantine.iter().map(|replica| replica.0).collect(),
            max_view: config.max_view.0,
            max_seq: config.max_seq.0,
            requests: config.requests,
            client_actors: config.clients == Clients::Actors,
            calls: config.application.as_ref().map(Application::name),
            max_batch: config.max_batch,
            checkpoint_interval: config.checkpoint_interval,
            window: config.window,
            crashes: config
                .crashes
                .map(|Crashes { at_most, between_steps }| StoredCrashes { at_most, between_steps }),
        }
    }

    fn config(&self, rules: Rulebook) -> WorldConfig {
        WorldConfig {
            cluster: Cluster::new(self.n, self.f),
            byzantine: self.byzantine.iter().copied().map(ReplicaId).collect(),
            max_view: View(self.max_view),
            max_seq: SeqNo(self.max_seq),
            requests: self.requests,
            clients: if self.client_actors { Clients::Actors } else { Clients::Implicit },
            application: self.calls.as_deref().and_then(|calls| Application::parse(calls).ok()),
            max_batch: self.max_batch,
            checkpoint_interval: self.checkpoint_interval,
            window: self.window,
            crashes: (self.crashes.as_ref())
                .map(|crashes| Crashes { at_most: crashes.at_most, between_steps: crashes.between_steps }),
            rules,
        }
    }
}

/// The keys that tell whose signatures are genuine.
pub(super) fn keys(config: &WorldConfig) -> Keys {
    let n = u16::try_from(config.cluster.n()).expect("a cluster's size fits in 16 bits");
    Keys::all(n, config.members()).0[0]
}

/// The digest of each node's state, by its name.
pub(super) fn states(executor: &Executor, configuration: &Configuration) -> BTreeMap<String, String> {
    let names = executor.nodes().iter().map(|&node| Name(node).to_string());
    names.zip(executor.digests(configuration)).collect()
}

/// The step that a stored one stands for: its message is found among those that can be delivered.
pub(super) fn found(
    executor: &mut Executor,
    configuration: &Configuration,
    stored: &StoredStep,
    keys: &Keys,
) -> Option<Step> {
    let node = stored.node.0;
    let message = match stored.what.message() {
        None => None,
        Some(said) => {
            let says = |message: &Message<Symbolic>| SavedMessage::of(message, keys) == *said;
            Some(executor.available(configuration, node).into_iter().find(says)?)
        }
    };
    Some(Step { node, what: Happening::new(message, stored.what.crash()) })
}
