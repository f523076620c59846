//! What can be observed of an exploration, so that two of them, or this program and another, can be compared.

use super::lines::{Names, client_history, line};
use crate::layered::Layered;
use crate::world::{Behaviour, ClientHistory, World};
use pbft::types::ReplicaId;
use pbft_properties::History;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// Whose histories were observed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum ObservablesOf {
    /// Those of the states that the verdict is about.
    #[serde(rename = "the states that the verdict is about")]
    Explored,
    /// Layered exploration without *cut of histories* and *standing in*. It visits more states than layered
    /// exploration does without observables; the report, its verdict included, is of those.
    #[serde(rename = "layered exploration without two of its reductions (cut of histories, standing in)")]
    Unreduced,
}

impl ObservablesOf {
    /// What that means.
    pub fn in_words(self) -> &'static str {
        match self {
            ObservablesOf::Explored => "They are those of the states that the verdict is about.",
            ObservablesOf::Unreduced => {
                "For these, histories were not cut and nothing stood in for anything: two of the reductions of layered \
                 exploration were off, in this whole run. They say nothing of layered exploration with these two."
            }
        }
    }
}

/// Lines of text, a set of them, in their order: see `docs/SECOND_OPINION.md`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lines(BTreeSet<String>);

impl Lines {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Each, ended by a newline.
    pub fn text(&self) -> String {
        self.0.iter().map(|line| format!("{line}\n")).collect()
    }

    /// SHA-256 of [`Lines::text`], in hexadecimal.
    pub fn digest(&self) -> String {
        Sha256::digest(self.text()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What the correct replicas, and the clients that are part of the world, have done together: a line for each
/// combination of histories that occurs. Explorations of one world must agree on them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observables {
    /// The joint histories.
    pub histories: Lines,
    /// Joint histories together with what each has sent, if they were recorded: the states of the exploration
    /// without what replicas keep to themselves.
    pub behaviours: Option<Lines>,
    /// Whose they are.
    pub of: ObservablesOf,
}

impl Observables {
    pub(super) fn of(world: &World) -> Self {
        let joints: Vec<_> = world.all_histories().collect();
        let names = names(world, &joints);
        let behaviours = world.behaviours().map(|all| behaviours(world, &names, all));
        Observables { histories: histories(world, &names, joints), behaviours, of: ObservablesOf::Explored }
    }

    pub(super) fn of_layered(layered: &Layered) -> Self {
        let world = layered.world();
        let joints: Vec<_> = layered.all_histories().collect();
        let names = names(world, &joints);
        let histories = histories(world, &names, joints);
        Observables { histories, behaviours: None, of: ObservablesOf::Unreduced }
    }
}

type JointHistory<'a> = (Vec<&'a History>, Vec<&'a ClientHistory>);

fn names(world: &World, joints: &[JointHistory<'_>]) -> Names {
    Names::new(world.config(), joints.iter().flat_map(|(replicas, _)| replicas.iter().copied()))
}

fn histories(world: &World, names: &Names, joints: Vec<JointHistory<'_>>) -> Lines {
    let name =
        |(replica, history): (&ReplicaId, &History)| (format!("r{}", replica.0), names.history(history));
    let client = |(number, history): (usize, &ClientHistory)| (format!("c{number}"), client_history(history));
    let joint = |(replicas, clients): JointHistory<'_>| {
        let replicas = world.correct().iter().zip(replicas).map(name);
        line(replicas.chain(clients.into_iter().enumerate().map(client)))
    };
    Lines(joints.into_iter().map(joint).collect())
}

fn behaviours(world: &World, names: &Names, all: Vec<Behaviour<'_>>) -> Lines {
    let one = |behaviour: Behaviour<'_>| {
        line(world.correct().iter().zip(behaviour).map(|(replica, (history, sent))| {
            let sent = sent.iter().filter_map(|&id| names.message(world.tables().message(id)));
            let sent: BTreeSet<String> = sent.map(|text| format!(" sent:{text}")).collect();
            let text = names.history(history) + &sent.into_iter().collect::<String>();
            (format!("r{}", replica.0), text.trim_start().to_string())
        }))
    };
    Lines(all.into_iter().map(one).collect())
}
