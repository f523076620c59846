//! Executions told to people: what happens at each step, what is false in it, which votes it adds, what
//! changes, what is violated, and how the same step turns out by the paper's rules.
//!
//! | file | what |
//! |---|---|
//! | `names` | digests by letters |
//! | `words` | steps and facts in words |
//! | `lies` | what is false in a message that no correct node has sent |
//! | `new_views` | what is false in a NEW-VIEW, and what decides each number of its O |
//! | `evidence` | certificates: who voted, and whether anybody could prove the claim |
//! | `teller` | the steps of one execution, one by one |
//! | `tally` | quorums as they fill |
//! | `reasons` | why a node drops a message |
//! | `compared` | a step beside the same step by the paper's rules |
//! | `state` | the state of a replica in words, and what of it changes |
//! | `states` | what is in a state that a checkpoint's digest stands for |
//! | `lessons` | the attack and the rule, in a sentence each |
//! | `colours` | the colours of diagrams and pages |
//! | `diagram` | a sequence diagram, as SVG |
//! | `page` | a page of its own for a browser, as HTML |
//! | `style` | the style and the script of every page |
//! | `standstill` | how a counterexample goes on in which a request never executes |
//! | `gallery` | all counterexamples as one site |
//! | `export` | the formats of other viewers |
//! | `production` | the journals of a cluster as one story |
//! | `refuted` | counterexamples to induction, which the proof refutes a rule by, as pictures |

mod colours;
mod compared;
mod diagram;
mod evidence;
pub mod export;
pub mod gallery;
pub mod lessons;
mod lies;
mod names;
mod new_views;
pub mod page;
pub mod production;
mod reasons;
pub mod refuted;
pub mod standstill;
mod state;
mod states;
mod style;
mod tally;
mod teller;
mod words;

pub use crate::words::name;
pub use compared::{Counterpart, How};
pub use diagram::{svg, svg_narrow};
pub use names::Names;
pub use page::page;
pub use standstill::Standstill;
pub use state::{fields, summary};
pub use tally::{Tally, Vote};
pub(crate) use teller::Teller;
pub(crate) use words::in_words as fact_in_words;
pub use words::{happens, in_short, marked};

use crate::progress;
use crate::trace::replay::{Harmless, Replayed, Taken};
use crate::trace::{Configuration, Executor};
use crate::world::WorldConfig;
use pbft::types::{Principal, ReplicaId, View};
use pbft_properties::Violation;
use std::collections::BTreeSet;

/// A step, told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoryStep {
    /// Counted from 1.
    pub number: usize,
    /// Who signed what arrives, or made it up without a signature; nobody for a time-out, and for what a
    /// correct node sends unsigned.
    pub from: Option<Principal>,
    /// Where it happens.
    pub node: Principal,
    /// Whether this is a delivery, and not a time-out.
    pub is_delivery: bool,
    /// The step at which the message was sent: 0 for what is there from the start; none if no correct node
    /// has sent it.
    pub sent_at: Option<usize>,
    /// The message, or the time-out, in a few words.
    pub what: String,
    /// What the few words leave out: batches, votes in certificates, what is in V.
    pub contents: Vec<String>,
    /// Whose doing it is, if no correct node has sent it.
    pub byzantine: Option<String>,
    /// What is false in it; nothing if it says what a correct replica could say.
    pub lies: Vec<String>,
    /// Why the node drops it, if it does.
    pub refused: Option<String>,
    /// What the node does.
    pub does: Vec<String>,
    /// The votes that it adds to, complete or not.
    pub tallies: Vec<Tally>,
    /// What it sends.
    pub sends: Vec<String>,
    /// Of a NEW-VIEW that arrives or is sent: what decides each number of O.
    pub decided: Vec<String>,
    /// Of what it sends, the messages that no correct node receives in this execution.
    pub unheard: Vec<Unheard>,
    /// What changes in its state: what it is, before, and after.
    pub changes: Vec<(String, String, String)>,
    /// The view that each correct replica is in after the step, and the one that it is leaving for.
    pub views: Vec<(View, Option<View>)>,
    /// What is violated now.
    pub violated: Option<String>,
    /// How the step turns out by the paper's rules, if that is known.
    pub safely: Option<Counterpart>,
}

/// A message that no correct node receives in an execution.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unheard {
    /// The message, in a few words.
    pub what: String,
    /// The Byzantine replica that has received it all the same, as what it says at that step shows.
    pub used: Option<(ReplicaId, usize)>,
}

impl Unheard {
    /// Who receives it, in words.
    pub fn in_words(&self) -> String {
        match self.used {
            Some((by, step)) => {
                format!("{}: only r{}, Byzantine, receives it, and uses it at step {step}", self.what, by.0)
            }
            None => format!("{}: no correct node receives it here", self.what),
        }
    }
}

/// An execution, told.
#[derive(Clone, Debug)]
pub struct Story {
    /// The world, and the rules.
    pub config: WorldConfig,
    /// Every node, Byzantine ones included.
    pub nodes: Vec<Principal>,
    /// What digests are called.
    pub names: Names,
    /// The steps.
    pub steps: Vec<StoryStep>,
    /// What is violated at the end.
    pub violation: Option<Violation>,
    /// Where two quorums that decide differently meet.
    pub meeting: Option<String>,
    /// How it goes on after the steps, if a request never executes then.
    pub then: Option<Standstill>,
    /// How the schedule ends with the safeguard, if that is known.
    pub ending: Option<String>,
    /// What is said of replicas that are not among the correct ones.
    pub mark: &'static str,
}

impl Story {
    /// The story of these steps.
    pub fn new(executor: &Executor, taken: &[Taken], violation: Option<&Violation>) -> Story {
        Story::named(executor, taken, violation, Names::new(executor.config()))
    }

    /// The story of these steps, with these names and those that they lack.
    pub(crate) fn named(
        executor: &Executor,
        taken: &[Taken],
        violation: Option<&Violation>,
        names: Names,
    ) -> Story {
        let names = learnt(names, executor, taken);
        let config = executor.config().clone();
        let teller = Teller::new(executor, taken, &names);
        let mut steps: Vec<StoryStep> = (0..taken.len()).map(|at| teller.told(at)).collect();
        if let (Some(last), Some(violation)) = (steps.last_mut(), violation) {
            last.violated = Some(names.in_text(&violation.to_string()));
        }
        let replicas = config.cluster.replicas().map(Principal::Replica);
        let clients = executor.nodes().iter().copied().filter(|node| matches!(node, Principal::Client(_)));
        Story {
            nodes: replicas.chain(clients).collect(),
            meeting: violation.and_then(|_| meeting(&config, &steps, &names)),
            steps,
            violation: violation.cloned(),
            then: None,
            ending: None,
            mark: "Byzantine",
            names,
            config,
        }
    }

    /// The story of a counterexample, and of what becomes of it with the safeguard.
    pub fn of(replayed: &Replayed, harmless: &Harmless) -> Story {
        let mut names = learnt(Names::new(replayed.executor.config()), &replayed.executor, &replayed.steps);
        if let Some((_, ran)) = &replayed.then {
            let config = replayed.executor.config();
            ran.replicas.iter().for_each(|replica| names.learn_states(replica, config));
            ran.checkpoints.iter().for_each(|message| names.learn(message));
        }
        let names = learnt(names.with_the_rule(), &harmless.executor, &harmless.taken);
        // Where a request never executes, no step violates anything.
        let violated = replayed.then.is_none().then_some(&replayed.violation);
        let mut story = Story::named(&replayed.executor, &replayed.steps, violated, names);
        story.violation = Some(replayed.violation.clone());
        story.then = Standstill::of(replayed, harmless, &story.names);
        for (number, violation) in &replayed.past {
            story.steps[number - 1].violated = Some(story.names.in_text(&violation.to_string()));
        }
        let safely = compared::compared(replayed, harmless, &story);
        for (step, counterpart) in story.steps.iter_mut().zip(safely) {
            step.safely = Some(counterpart);
        }
        story.ending = compared::ending(&story, harmless);
        story
    }

    /// Whether a node is Byzantine.
    pub fn is_byzantine(&self, node: Principal) -> bool {
        matches!(node, Principal::Replica(replica) if self.config.byzantine.contains(&replica))
    }

    /// The theorem that is violated, in one sentence.
    pub fn theorem(&self) -> Option<&'static str> {
        let violated = self.violation.as_ref()?.property;
        if violated == progress::NAME {
            return Some(progress::THEOREM);
        }
        let all = pbft_properties::all::<crate::ledger::Ledger>();
        all.iter().find(|property| property.name == violated).map(|property| property.theorem)
    }

    /// Whether it goes past the first violation to a worse one.
    pub fn goes_past(&self) -> bool {
        self.steps.iter().filter(|step| step.violated.is_some()).count() > 1
    }

    /// What the execution shows, in one sentence.
    pub fn title(&self) -> String {
        let (byzantine, f) = (self.config.byzantine.len(), self.config.cluster.f());
        match (self.config.rules.without, &self.violation) {
            (Some(mutant), Some(_)) => format!("Without {}: {}", mutant.id(), mutant.lost()),
            (Some(mutant), None) => format!("Without {}", mutant.id()),
            (None, Some(_)) if byzantine > f => {
                format!("Beyond the bound: {byzantine} Byzantine replicas, and f = {f}")
            }
            (None, Some(_)) => "By the paper's rules".into(),
            (None, None) => "An execution by the paper's rules".into(),
        }
    }

    /// What the account of it is called: nobody attacks where nothing that arrives is false.
    pub fn heading(&self) -> &'static str {
        if self.steps.iter().any(StoryStep::is_lie) { "The attack" } else { "What happens" }
    }

    /// The digests that the story speaks of by name, with what they are.
    pub fn letters(&self) -> Vec<(String, String)> {
        let mut text =
            format!("{}{}", self.meeting.as_deref().unwrap_or(""), self.ending.as_deref().unwrap_or(""));
        for step in &self.steps {
            text.push_str(&format!("{step:?}"));
        }
        text.push_str(&format!("{:?}", self.then));
        let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        self.names.listed().into_iter().filter(|(letter, _)| words.contains(letter.as_str())).collect()
    }

    /// The world in a sentence.
    pub fn world(&self) -> String {
        in_words(&self.config)
    }

    /// The first step that turns out otherwise with the safeguard.
    pub fn first_difference(&self) -> Option<&StoryStep> {
        self.steps.iter().find(|step| step.safely.as_ref().is_some_and(|safely| safely.how != How::Same))
    }
}

/// The bounds of a world in a sentence.
pub fn in_words(config: &WorldConfig) -> String {
    let counted = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let byzantine: Vec<String> = config.byzantine.iter().map(|replica| format!("r{}", replica.0)).collect();
    let byzantine = match byzantine.len() {
        0 => "nobody is Byzantine".into(),
        1 => format!("{} is Byzantine", byzantine[0]),
        _ => format!("{} are Byzantine", byzantine.join(" and ")),
    };
    let views = match config.max_view.0 {
        0 => "view 0".to_string(),
        highest => format!("views 0 to {highest}"),
    };
    let checkpoints = match config.checkpoint_interval {
        None => String::new(),
        Some(interval) => {
            format!(", a checkpoint every {interval}, a window of {}", config.parameters().window)
        }
    };
    format!(
        "{}, of which f = {} may be faulty; {byzantine}; {views}, {}, {}{checkpoints}",
        counted(config.cluster.n() as u64, "replica"),
        config.cluster.f(),
        counted(config.max_seq.0, "sequence number"),
        match &config.application {
            Some(application) => application.in_words(),
            None => counted(config.requests.into(), "request"),
        },
    )
}

/// With names for everything that is sent or delivered.
fn learnt(mut names: Names, executor: &Executor, taken: &[Taken]) -> Names {
    if let Some(first) = taken.first() {
        learn_states(&mut names, executor, &first.before);
    }
    for step in taken {
        learn_states(&mut names, executor, &step.came.after);
    }
    for step in taken {
        if let Some(message) = step.step.what.message() {
            names.learn(message);
        }
        step.came.sent.iter().for_each(|message| names.learn(message));
    }
    if let Some(last) = taken.last() {
        executor.sent(&last.came.after).into_iter().for_each(|message| names.learn(message));
    }
    names
}

/// Takes down what is in the states that correct replicas have.
pub(crate) fn learn_states(names: &mut Names, executor: &Executor, configuration: &Configuration) {
    for position in 0..executor.config().correct().len() {
        names.learn_states(&executor.replica(configuration, position).replica, executor.config());
    }
}

/// Where two complete quorums of one kind and number that decide differently meet, if only in replicas of
/// which none is correct.
fn meeting(config: &WorldConfig, steps: &[StoryStep], names: &Names) -> Option<String> {
    let complete: Vec<&Tally> =
        steps.iter().flat_map(|step| &step.tallies).filter(|tally| tally.is_complete()).collect();
    let voters = |tally: &Tally| -> BTreeSet<ReplicaId> {
        tally.votes.iter().filter(|vote| vote.counts).filter_map(|vote| vote.replica).collect()
    };
    let pairs = complete.iter().enumerate().rev();
    let (one, other) = pairs
        .flat_map(|(at, one)| complete[..at].iter().map(move |other| (*one, *other)))
        .find(|(one, other)| match (one.about, other.about) {
            (Some((n, digest)), Some((number, rival))) => {
                one.kind == other.kind && n == number && digest != rival
            }
            _ => false,
        })?;
    let (these, those) = (voters(one), voters(other));
    let both: Vec<&ReplicaId> = these.intersection(&those).collect();
    if both.iter().any(|replica| !config.byzantine.contains(replica)) {
        return None;
    }
    let told = |set: &BTreeSet<ReplicaId>| lies::listed(set.iter().map(|r| format!("r{}", r.0)));
    let (Some((n, digest)), Some((_, rival))) = (one.about, other.about) else { return None };
    let place = match both.is_empty() {
        true => "in no replica at all".to_string(),
        false => format!("only in {}, Byzantine", lies::listed(both.iter().map(|r| format!("r{}", r.0)))),
    };
    Some(format!(
        "The {}s for {} at n{} are of {}, those for {} of {}: they meet {place}.",
        one.kind,
        names.of(digest),
        n.0,
        told(&these),
        names.of(rival),
        told(&those)
    ))
}

impl StoryStep {
    /// Where the message comes from and goes to: `r0 -> r2`.
    pub fn way(&self) -> String {
        match (self.from, self.is_delivery) {
            (Some(from), _) => format!("{} -> {}", name(from), name(self.node)),
            (None, true) => format!("   -> {}", name(self.node)),
            (None, false) => name(self.node),
        }
    }

    /// Whether no correct node has sent what arrives, and it says what none could say.
    pub fn is_lie(&self) -> bool {
        !self.lies.is_empty()
    }
}

/// The primary of a view, for a diagram.
fn primary(config: &WorldConfig, view: View) -> ReplicaId {
    config.cluster.primary(view)
}
