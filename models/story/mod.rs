//! Executions told to people: what happens at each step, what changes, which quorum forms, what is violated.
//!
//! | file | what |
//! |---|---|
//! | `names` | digests by letters |
//! | `words` | messages and facts in words; what is Byzantine about a message |
//! | `state` | the state of a replica in words, and what of it changes |
//! | `diagram` | a sequence diagram, as SVG |
//! | `page` | a page of its own for a browser, as HTML |

mod diagram;
mod names;
mod page;
mod state;
mod words;

pub use diagram::{svg, svg_to_fit};
pub use names::Names;
pub use page::page;
pub use state::{fields, summary};
pub use words::{happens, in_short, marked};

use crate::trace::replay::{Harmless, Replayed, Taken};
use crate::trace::{Executor, Happening};
use crate::world::WorldConfig;
use pbft::message::Message;
use pbft::types::{Principal, ReplicaId, View};
use pbft_properties::Violation;

/// A step, told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// Counted from 1.
    pub number: usize,
    /// Who sent what arrives; nobody for a time-out, and for what is signed by nobody.
    pub from: Option<Principal>,
    /// Where it happens.
    pub node: Principal,
    /// Whether this is a delivery, and not a time-out.
    pub is_delivery: bool,
    /// The message, or the time-out, in a few words.
    pub what: String,
    /// What is Byzantine about it, if anything is.
    pub byzantine: Option<String>,
    /// What the node does.
    pub does: Vec<String>,
    /// The certificates and quorums that are complete now.
    pub quorums: Vec<String>,
    /// What it sends.
    pub sends: Vec<String>,
    /// What changes in its state: what it is, before, and after.
    pub changes: Vec<(String, String, String)>,
    /// The view that each correct replica is in after the step, and the one that it is leaving for.
    pub views: Vec<(View, Option<View>)>,
    /// What is violated now.
    pub violated: Option<String>,
    /// How the step turns out with the safeguard, if that is known and it turns out otherwise.
    pub restored: Option<String>,
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
    pub steps: Vec<Told>,
    /// What is violated at the end.
    pub violation: Option<Violation>,
    /// How the schedule ends with the safeguard, if that is known.
    pub ending: Option<String>,
}

impl Story {
    /// The story of these steps.
    pub fn new(executor: &Executor, taken: &[Taken], violation: Option<&Violation>) -> Story {
        let config = executor.config().clone();
        let mut names = Names::new(&config);
        for step in taken {
            if let Happening::Deliver(message) = &step.step.what {
                names.learn(message);
            }
            step.came.sent.iter().for_each(|message| names.learn(message));
        }
        let mut steps: Vec<Told> = (0..taken.len()).map(|at| told(executor, taken, at, &names)).collect();
        if let (Some(last), Some(violation)) = (steps.last_mut(), violation) {
            last.violated = Some(names.in_text(&violation.to_string()));
        }
        let replicas = config.cluster.replicas().map(Principal::Replica);
        let clients = executor.nodes().iter().copied().filter(|node| matches!(node, Principal::Client(_)));
        Story {
            nodes: replicas.chain(clients).collect(),
            steps,
            violation: violation.cloned(),
            ending: None,
            names,
            config,
        }
    }

    /// The story of a counterexample, and of what becomes of it with the safeguard.
    pub fn of(replayed: &Replayed, harmless: &Harmless) -> Story {
        let mut story = Story::new(&replayed.executor, &replayed.steps, Some(&replayed.violation));
        for (told, restored) in story.steps.iter_mut().zip(&harmless.steps) {
            told.restored = words::restored(told, restored, &story.names);
        }
        let first = harmless.first_difference().map(|(index, how)| {
            let step = &story.steps[index];
            format!("step {}: {}", index + 1, words::restored(step, how, &story.names).unwrap_or_default())
        });
        let end = match &harmless.violation {
            Some(violation) => format!("and {violation}"),
            None => "and nothing is violated".into(),
        };
        story.ending =
            first.map(|first| format!("The first step that turns out otherwise is {first}, {end}."));
        story
    }

    /// Whether a node is Byzantine.
    pub fn is_byzantine(&self, node: Principal) -> bool {
        matches!(node, Principal::Replica(replica) if self.config.byzantine.contains(&replica))
    }

    /// The theorem that is violated, in one sentence.
    pub fn theorem(&self) -> Option<&'static str> {
        let violated = self.violation.as_ref()?.property;
        let all = pbft_properties::all::<crate::journal::Journal>();
        all.iter().find(|property| property.name == violated).map(|property| property.theorem)
    }

    /// What the execution shows, in one sentence.
    pub fn title(&self) -> String {
        match (self.config.rules.without, &self.violation) {
            (Some(mutant), Some(_)) => format!("Without {}: {}", mutant.id(), mutant.lost()),
            (Some(mutant), None) => format!("Without {}", mutant.id()),
            (None, Some(_)) => "By the paper's rules".into(),
            (None, None) => "An execution by the paper's rules".into(),
        }
    }
}

/// A node by its short name.
pub fn name(node: Principal) -> String {
    crate::trace::said::Name(node).to_string()
}

fn told(executor: &Executor, taken: &[Taken], at: usize, names: &Names) -> Told {
    let Taken { step, before, came } = &taken[at];
    let position = executor.nodes().iter().position(|&node| node == step.node).unwrap_or_default();
    let (from, what, is_delivery) = match &step.what {
        Happening::TimeOut => (None, "times out".to_string(), false),
        Happening::Deliver(message) => (message.signer(), in_short(message, names), true),
    };
    let (changes, replicas) = match step.node {
        Principal::Replica(_) => {
            let of = |moment| fields(&executor.replica(moment, position).replica, names);
            (state::changes(&of(before), &of(&came.after)), executor.config().correct().len())
        }
        Principal::Client(_) => (Vec::new(), executor.config().correct().len()),
    };
    Told {
        number: at + 1,
        from,
        node: step.node,
        is_delivery,
        what,
        byzantine: words::byzantine(&taken[..at], step, executor.config()),
        does: words::does(came, names),
        quorums: words::quorums(executor, &taken[..=at], names),
        sends: sends(&came.sent, names),
        changes,
        views: (0..replicas).map(|position| executor.view(&came.after, position)).collect(),
        violated: None,
        restored: None,
    }
}

/// What is sent; blocks of state, which can be many, are not told one by one.
fn sends(sent: &[Message<crate::crypto::Symbolic>], names: &Names) -> Vec<String> {
    let told = sent.iter().filter(|message| !matches!(message, Message::Block(_)));
    told.map(|message| in_short(message, names)).collect()
}

impl Told {
    /// Where the message comes from and goes to: `r0 -> r2`.
    pub fn way(&self) -> String {
        match (self.from, self.is_delivery) {
            (Some(from), _) => format!("{} -> {}", name(from), name(self.node)),
            (None, true) => format!("   -> {}", name(self.node)),
            (None, false) => name(self.node),
        }
    }
}

/// The primary of a view, for a diagram.
fn primary(config: &WorldConfig, view: View) -> ReplicaId {
    config.cluster.primary(view)
}
