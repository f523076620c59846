//! What the exploration of a world shows: the bounds, the counts, the verdict, and what it rests on.

mod disk;
mod lines;
mod observables;
mod run;
mod together;
mod verdict;

pub use disk::{OnDisk, digest, program};
pub use observables::{Lines, Observables, ObservablesOf};
pub use run::{OnProgress, Stage, run};
pub use together::Together;
pub use verdict::{RestsOn, Verdict};

use crate::engine::{Exploration, INTERRUPTED, Outcome};
use crate::expected::{self, Expected};
use crate::falsifiable::{self, Claim};
use crate::lazy::{Conditions, WALKS, Walked};
use crate::trace::Execution;
use crate::world::{Application, Crashes, Witness, Witnesses, WorldConfig};
use pbft_properties::Violation;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// How a world is explored.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Explore {
    /// Every delivery by itself: no reduction.
    None,
    /// Deliveries when they complete something: [`crate::lazy`].
    Lazy,
    /// Round after round.
    Layered,
}

impl Explore {
    /// The way of this name, if there is one.
    pub fn named(name: &str) -> Option<Explore> {
        [Explore::None, Explore::Lazy, Explore::Layered].into_iter().find(|how| how.name() == name)
    }

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Explore::None => "none",
            Explore::Lazy => "lazy",
            Explore::Layered => "layered",
        }
    }
}

/// What a run may use, and what it is to find out besides the verdict.
#[derive(Clone)]
pub struct Options {
    /// Threads.
    pub threads: usize,
    /// The most bytes allocated, as `allocated` counts them.
    pub memory: usize,
    /// The bytes allocated now.
    pub allocated: fn() -> usize,
    /// The longest time that the exploration may take, conditions apart.
    pub time: Duration,
    /// Whether this is a hunt: a look for a violation in a world that cannot be exhausted.
    pub hunt: bool,
    /// Whether to check the conditions of a reduction. Without them it can hold nothing.
    pub conditions: bool,
    /// How many random walks to hold against what a reduced exploration has shown: [`crate::walks`].
    pub walks: u64,
    /// Whether to work out the observables. Layered exploration is then another: [`ObservablesOf`].
    pub observables: bool,
    /// Whether to work out behaviours, too, where every delivery is explored by itself.
    pub behaviours: bool,
    /// Whether to work out, where something is violated, the execution that shows it
    /// ([`Findings::execution`]).
    pub execution: bool,
    /// The only property that is judged, if not all are. Without a violation nothing is claimed then.
    pub judged_by: Option<&'static str>,
    /// Where states are kept, if not in memory.
    pub disk: Option<OnDisk>,
    /// The workers, if there are some.
    pub together: Option<Together>,
}

impl Default for Options {
    /// Two threads, no limit; conditions, no walks and no observables.
    fn default() -> Self {
        Options {
            threads: 2,
            memory: usize::MAX,
            allocated: || 0,
            time: Duration::MAX,
            hunt: false,
            conditions: true,
            walks: 0,
            observables: false,
            behaviours: false,
            execution: false,
            judged_by: None,
            disk: None,
            together: None,
        }
    }
}

/// How often a condition of a reduction was tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Tried {
    /// Pairs of events, or single events, that were tried.
    pub checked: u64,
    /// Those for which the condition does not hold.
    pub failed: u64,
}

/// One world, explored.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The name of the world: [`WorldConfig::name`].
    pub world: String,
    /// Replicas.
    pub n: usize,
    /// Faults tolerated.
    pub f: usize,
    /// The Byzantine replicas.
    pub byzantine: Vec<u16>,
    /// The highest view.
    pub max_view: u64,
    /// The highest sequence number.
    pub max_seq: u64,
    /// Clients with one request each.
    pub requests: u32,
    /// What clients call for that are part of the world: [`WorldConfig::application`].
    pub calls: Option<String>,
    /// The most requests in a batch.
    pub max_batch: usize,
    /// `K` of the paper; none without checkpoints.
    pub checkpoint_interval: Option<u64>,
    /// `L` of the paper, in sequence numbers.
    pub window: u64,
    /// Whether correct replicas crash, and how: [`WorldConfig::crashes`].
    pub crashes: Option<Crashes>,
    /// `pbft`, or the name of the safeguard switched off.
    pub rules: &'static str,
    /// How it was explored.
    pub explore: Explore,
    /// Threads used.
    pub threads: usize,
    /// Distinct states visited.
    pub states: u64,
    /// Distinct edges between them, loops left out.
    pub transitions: u64,
    /// The most steps that any visited state is away from the start.
    pub depth: usize,
    /// States of one replica with its history, those inside of a macro step included: distinct ones, but for those
    /// that were forgotten, where conditions are not checked, and met again.
    pub local_states: usize,
    /// Distinct sets of messages sent by one replica, whole and not by subject, summed over the correct ones.
    pub message_sets: usize,
    /// Wall time of everything, in seconds.
    pub seconds: f64,
    /// Wall time of the exploration, without the conditions, in seconds.
    pub explore_seconds: f64,
    /// Processor time of everything, over all threads, in seconds.
    pub cpu_seconds: f64,
    /// States a second of `explore_seconds`.
    pub states_per_second: f64,
    /// The most bytes allocated at any time, the conditions included; looked at every few milliseconds.
    pub peak_bytes: usize,
    /// Steps that the bounds kept from happening or left incomplete: distinct ones, but for the same.
    pub cut_by_bound: u64,
    /// Whether every reachable state was visited.
    pub exhausted: bool,
    /// What it shows.
    pub verdict: Verdict,
    /// What a verdict rests on.
    pub rests_on: RestsOn,
    /// The property that is violated.
    pub property: Option<&'static str>,
    /// Steps to the violation: the least there are, or, found round by round, deliveries none of which can be
    /// dropped.
    pub trace_length: Option<usize>,
    /// What happens in some state, and what in none.
    pub witnesses: BTreeMap<String, bool>,
    /// Those of them that the bounds call for: without any one of them nothing holds.
    pub witnesses_needed: Vec<String>,
    /// The properties that a mistake violates in this very world, each with the rule switched off or the
    /// mistake seeded: see [`crate::falsifiable`]. None if nothing is known of this world.
    pub can_fail: Option<BTreeMap<String, String>>,
    /// The properties that nothing is known to violate in this world: they are not claimed for it.
    pub not_shown_to_fail: Option<Vec<&'static str>>,
    /// Whether this was a hunt: see [`Verdict::Hunted`].
    pub hunt: bool,
    /// What docs/WORLDS.md says of this world under the paper's rules, if that is something else.
    pub expected: Option<Expected>,
    /// How often conditions of the reduction were tried; 0 without one.
    pub conditions_checked: u64,
    /// How often they failed.
    pub conditions_failed: u64,
    /// What was walked of the unreduced local systems, if they were.
    pub walked: Option<Walked>,
    /// Distinct joint histories, one history of each correct replica in each; if asked for and exhausted.
    pub observables: Option<usize>,
    /// SHA-256 of the lines that tell them: see [`Lines::digest`].
    pub observables_digest: Option<String>,
    /// Whose histories they are.
    pub observables_of: Option<ObservablesOf>,
    /// Distinct joint histories together with what each correct replica has sent; if asked for and exhausted.
    pub behaviours: Option<usize>,
    /// SHA-256 of the lines that tell them.
    pub behaviours_digest: Option<String>,
    /// Why nothing is claimed.
    pub why: Option<String>,
    /// The violation in words: who did what.
    pub violation: Option<String>,
    /// The steps to it, in words.
    pub trace: Option<Vec<String>>,
    /// Each condition that was tried.
    pub conditions: BTreeMap<&'static str, Tried>,
    /// The first failure of each condition that failed.
    pub first_failures: BTreeMap<&'static str, String>,
    /// What was observed, in full.
    #[serde(skip)]
    pub observed: Option<Observables>,
    /// The violation as an execution of whole replicas; if it was asked for.
    #[serde(skip)]
    pub execution: Option<Execution>,
}

/// What an exploration hands over to its report.
pub struct Findings {
    /// The exploration.
    pub exploration: Exploration,
    /// What was seen to happen.
    pub witnesses: Witnesses,
    /// The conditions of the reduction, if there is one; as yet untried if they were not asked for.
    pub conditions: Option<Conditions>,
    /// What is violated at the end of the exploration's path.
    pub violation: Option<Violation>,
    /// The steps of that path.
    pub trace: Vec<String>,
    /// The violation as an execution of whole replicas, delivery by delivery: always for one found round by
    /// round, and otherwise if it was asked for.
    pub execution: Option<Execution>,
    /// See [`Report::local_states`].
    pub local_states: usize,
    /// See [`Report::message_sets`].
    pub message_sets: usize,
    /// See [`Report::cut_by_bound`].
    pub cut_by_bound: u64,
    /// What can be observed.
    pub observables: Option<Observables>,
}

/// What the findings amount to, and why it is nothing, if so.
fn verdict(
    config: &WorldConfig,
    rests_on: RestsOn,
    hunt: bool,
    findings: &Findings,
) -> (Verdict, Option<String>) {
    let unknown = |why: &str| (Verdict::Unknown, Some(why.to_string()));
    match (&findings.exploration.outcome, &findings.conditions) {
        // A violation needs no condition: its steps are steps of the real replicas.
        (Outcome::Violated { .. }, _) if findings.violation.is_some() => (Verdict::Violated, None),
        (Outcome::Violated { .. }, _) => unknown("whole replicas do not show the violation found"),
        (Outcome::NotExhausted { why: INTERRUPTED }, _) => unknown(INTERRUPTED),
        (Outcome::NotExhausted { why }, _) if hunt => (Verdict::Hunted, Some(format!("no verdict: {why}"))),
        (Outcome::Exhausted, _) if hunt => {
            (Verdict::Hunted, Some("no verdict: a hunt claims nothing".into()))
        }
        (Outcome::NotExhausted { why }, _) => unknown(why),
        (Outcome::Exhausted, Some(tried)) if tried.failed() > 0 => unknown(&failing(tried)),
        (Outcome::Exhausted, Some(Conditions { stopped: Some(why), .. })) => unknown(why),
        (Outcome::Exhausted, Some(tried)) if tried.checked() == 0 => unknown("conditions were not checked"),
        (Outcome::Exhausted, _) => match findings.witnesses.missing(config) {
            Some(vacuous) => (Verdict::Unknown, Some(vacuous)),
            None if rests_on == RestsOn::Conditions => (Verdict::Searched, None),
            None => (Verdict::Holds, None),
        },
    }
}

/// Names the conditions that do not hold.
fn failing(tried: &Conditions) -> String {
    let failing: Vec<&str> =
        tried.counts.iter().filter(|(_, (_, failed))| *failed > 0).map(|(&name, _)| name).collect();
    match failing[..] {
        [only] => format!("a condition does not hold: {only}"),
        _ => format!("conditions do not hold: {}", failing.join(", ")),
    }
}

/// The report, but for the time and the memory of the whole run.
fn report(config: &WorldConfig, how: Explore, options: &Options, findings: Findings) -> Report {
    let rests_on = RestsOn::of(config, how, findings.conditions.as_ref());
    let (verdict, why) = verdict(config, rests_on, options.hunt || options.judged_by.is_some(), &findings);
    let witnesses = findings.witnesses.named(config);
    let claim = falsifiable::of(config, how);
    let Findings { exploration, conditions, violation, observables, .. } = findings;
    let conditions = conditions.unwrap_or_default();
    let explore_seconds = exploration.elapsed.as_secs_f64();
    let violated = verdict == Verdict::Violated;
    let histories = observables.as_ref().map(|all| &all.histories);
    let behaviours = observables.as_ref().and_then(|all| all.behaviours.as_ref());
    let parameters = config.parameters();
    Report {
        world: config.name(),
        n: config.cluster.n(),
        f: config.cluster.f(),
        byzantine: config.byzantine.iter().map(|replica| replica.0).collect(),
        max_view: config.max_view.0,
        max_seq: config.max_seq.0,
        requests: config.requests,
        calls: config.application.as_ref().map(Application::name),
        max_batch: config.max_batch,
        checkpoint_interval: config.checkpoint_interval,
        window: parameters.window,
        crashes: config.crashes,
        rules: config.rules.name(),
        explore: how,
        threads: options.threads,
        states: exploration.states,
        transitions: exploration.transitions,
        depth: exploration.depth,
        local_states: findings.local_states,
        message_sets: findings.message_sets,
        seconds: 0.0,
        explore_seconds,
        cpu_seconds: 0.0,
        states_per_second: exploration.states as f64 / explore_seconds.max(1e-9),
        peak_bytes: 0,
        cut_by_bound: findings.cut_by_bound,
        exhausted: exploration.outcome == Outcome::Exhausted,
        verdict,
        rests_on,
        property: violation.as_ref().map(|violation| violation.property),
        trace_length: violated.then_some(findings.trace.len()),
        witnesses_needed: needed(&witnesses),
        witnesses: witnesses.into_iter().map(|witness| (witness.name, witness.seen)).collect(),
        not_shown_to_fail: claim.as_ref().map(Claim::not_shown),
        can_fail: claim.map(|claim| claim.by_name()),
        hunt: options.hunt,
        expected: expected::other_than(config, how, &exploration, &conditions),
        conditions_checked: conditions.checked(),
        conditions_failed: conditions.failed(),
        walked: conditions.walked,
        observables: histories.map(Lines::count),
        observables_digest: histories.map(Lines::digest),
        observables_of: observables.as_ref().map(|all| all.of),
        behaviours: behaviours.map(Lines::count),
        behaviours_digest: behaviours.map(Lines::digest),
        observed: observables,
        why,
        violation: violation.map(|violation| violation.what),
        trace: violated.then_some(findings.trace),
        conditions: tried(&conditions),
        execution: findings.execution,
        first_failures: (conditions.first.iter()).map(|(&name, first)| (name, first.what.clone())).collect(),
    }
}

impl Report {
    /// How many random walks were taken: they are counted among the checks of conditions.
    pub fn walks(&self) -> u64 {
        self.conditions.get(WALKS).map_or(0, |tried| tried.checked)
    }
}

fn needed(witnesses: &[Witness]) -> Vec<String> {
    let needed = witnesses.iter().filter(|witness| witness.needed.is_some());
    needed.map(|witness| witness.name.clone()).collect()
}

fn tried(conditions: &Conditions) -> BTreeMap<&'static str, Tried> {
    let tried = |&(checked, failed): &(u64, u64)| Tried { checked, failed };
    conditions.counts.iter().map(|(&name, counts)| (name, tried(counts))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pbft::types::{Cluster, SeqNo, View};

    fn config() -> WorldConfig {
        WorldConfig::new(Cluster::new(4, 1), 1)
    }

    fn findings(outcome: Outcome, commits: bool, conditions: Option<(u64, u64)>) -> Findings {
        let conditions = conditions
            .map(|counts| Conditions { counts: [("postponing", counts)].into(), ..Conditions::default() });
        let mut witnesses = Witnesses::default();
        if commits {
            witnesses.add_commit(View(0), SeqNo(1));
            witnesses.executed_for = [0].into_iter().collect();
        }
        Findings {
            exploration: Exploration {
                outcome,
                states: 1,
                transitions: 0,
                depth: 0,
                elapsed: Duration::ZERO,
                state_bytes: 0,
            },
            witnesses,
            conditions,
            violation: Some(Violation { property: "agreement", what: String::new() }),
            trace: Vec::new(),
            execution: None,
            local_states: 1,
            message_sets: 1,
            cut_by_bound: 0,
            observables: None,
        }
    }

    fn violated() -> Outcome {
        Outcome::Violated { what: String::new(), path: Vec::new() }
    }

    fn judged(findings: &Findings) -> (Verdict, Option<String>) {
        verdict(&config(), RestsOn::Simulation, false, findings)
    }

    fn unknown(why: &str) -> (Verdict, Option<String>) {
        (Verdict::Unknown, Some(why.into()))
    }

    #[test]
    fn only_an_exhausted_world_in_which_something_commits_holds() {
        for conditions in [None, Some((7, 0))] {
            let holds = findings(Outcome::Exhausted, true, conditions);
            assert_eq!(judged(&holds), (Verdict::Holds, None));
            let vacuous = findings(Outcome::Exhausted, false, conditions);
            assert_eq!(judged(&vacuous), unknown("vacuous: nothing ever commits in view 0"));
            let cut_short = findings(Outcome::NotExhausted { why: INTERRUPTED }, true, conditions);
            assert_eq!(judged(&cut_short), unknown("it was interrupted"));
        }
    }

    #[test]
    fn a_reduction_that_rests_on_conditions_alone_claims_nothing() {
        let found = findings(Outcome::Exhausted, true, Some((7, 0)));
        let searched = (Verdict::Searched, None);
        assert_eq!(verdict(&config(), RestsOn::Conditions, false, &found), searched);
        let of = |how, conditions: Option<&Conditions>| RestsOn::of(&config(), how, conditions);
        assert_eq!(of(Explore::Lazy, found.conditions.as_ref()), RestsOn::Conditions);
        assert_eq!(of(Explore::Layered, found.conditions.as_ref()), RestsOn::Conditions);
        assert_eq!(of(Explore::Lazy, None), RestsOn::Conditions);
    }

    #[test]
    fn a_bound_beyond_which_nothing_happens_is_no_verdict() {
        let holds = findings(Outcome::Exhausted, true, None);
        let further = WorldConfig { max_view: View(1), ..config() };
        let why = "vacuous: nothing ever commits in view 1";
        assert_eq!(verdict(&further, RestsOn::Exhausted, false, &holds), unknown(why));
        let longer = WorldConfig { max_seq: SeqNo(2), ..config() };
        let why = "vacuous: nothing ever commits at n = 2";
        assert_eq!(verdict(&longer, RestsOn::Exhausted, false, &holds), unknown(why));
    }

    #[test]
    fn a_hunt_finds_a_violation_or_claims_nothing() {
        let hunted =
            |outcome| verdict(&config(), RestsOn::Simulation, true, &findings(outcome, true, Some((7, 0))));
        assert_eq!(hunted(violated()), (Verdict::Violated, None));
        assert_eq!(hunted(Outcome::Exhausted).0, Verdict::Hunted);
        let why = Some("no verdict: the limit on time was reached".to_string());
        let stopped = Outcome::NotExhausted { why: "the limit on time was reached" };
        assert_eq!(hunted(stopped.clone()), (Verdict::Hunted, why));
        assert_eq!(hunted(Outcome::NotExhausted { why: INTERRUPTED }), unknown(INTERRUPTED));
        // The same limit in a world that is to be exhausted.
        let unfinished = findings(stopped, true, Some((7, 0)));
        assert_eq!(judged(&unfinished), unknown("the limit on time was reached"));
    }

    #[test]
    fn a_condition_that_fails_or_was_never_tried_takes_a_verdict_back_but_no_violation() {
        for conditions in [Some((7, 1)), Some((0, 0))] {
            let (found, why) = judged(&findings(Outcome::Exhausted, true, conditions));
            assert!(found == Verdict::Unknown && why.is_some_and(|why| why.contains("condition")));
            assert_eq!(judged(&findings(violated(), true, conditions)), (Verdict::Violated, None));
        }
    }

    #[test]
    fn conditions_that_were_not_all_checked_are_no_verdict() {
        let mut cut_short = findings(Outcome::Exhausted, true, Some((7, 0)));
        let why = "it was interrupted while conditions were checked";
        if let Some(conditions) = &mut cut_short.conditions {
            conditions.stopped = Some(why);
        }
        assert_eq!(judged(&cut_short), unknown(why));
    }
}
