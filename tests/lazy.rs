//! Lazy delivery reaches what delivery one by one reaches, and its conditions hold; and the mutants that worlds
//! with a view change kill.

use pbft::types::{Cluster, ReplicaId, SeqNo, View};
use pbft_models::engine::{Exploration, Outcome, Space, explore};
use pbft_models::lazy::{Lazy, MacroAction};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::world::{State, World, WorldConfig};
use std::collections::BTreeSet;

fn config(byzantine: &[u16], max_view: u64, rules: Rulebook) -> WorldConfig {
    WorldConfig {
        byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
        max_view: View(max_view),
        max_seq: SeqNo(1),
        rules,
        ..WorldConfig::new(Cluster::new(4, 1), 2)
    }
}

fn lazily(config: WorldConfig) -> (Lazy, Exploration<MacroAction, State>) {
    let mut lazy = Lazy::new(config, true).expect("these bounds make sense");
    let found = explore(&mut lazy, usize::MAX, &mut |_| true);
    (lazy, found)
}

/// Every state visited, as what each replica has entered, prepared, committed and executed.
struct Recorder<W> {
    space: W,
    observed: BTreeSet<(usize, String)>,
}

trait Observed: Space<State = State> {
    fn world(&self) -> &World;
}

impl Observed for World {
    fn world(&self) -> &World {
        self
    }
}

impl Observed for Lazy {
    fn world(&self) -> &World {
        Lazy::world(self)
    }
}

impl<W: Observed> Space for Recorder<W> {
    type State = State;
    type Action = W::Action;

    fn initial(&mut self) -> Vec<State> {
        self.space.initial()
    }

    fn successors(&mut self, state: State, out: &mut Vec<(W::Action, State)>) {
        self.space.successors(state, out);
    }

    fn judge(&mut self, state: State) -> Result<(), String> {
        let world = self.space.world();
        for (position, history) in world.histories(state).into_iter().enumerate() {
            let executed: Vec<_> = history.executions().collect();
            let entered: Vec<_> = history.entries().map(|entry| (entry.view, &entry.carried)).collect();
            let observed =
                format!("{entered:?} {:?} {:?} {executed:?}", history.prepared(), history.committed());
            self.observed.insert((position, observed));
        }
        self.space.judge(state)
    }
}

fn observed<W: Observed>(space: W) -> BTreeSet<(usize, String)> {
    let mut recorder = Recorder { space, observed: BTreeSet::new() };
    let found = explore(&mut recorder, usize::MAX, &mut |_| true);
    assert!(matches!(found.outcome, Outcome::Exhausted));
    recorder.observed
}

#[test]
fn lazy_delivery_shows_the_same_histories_as_delivery_one_by_one() {
    for byzantine in [&[][..], &[0], &[1], &[3]] {
        let config = config(byzantine, 0, Rulebook::default());
        let one_by_one = observed(World::new(config.clone()).expect("these bounds make sense"));
        let lazy = observed(Lazy::new(config, true).expect("these bounds make sense"));
        assert!(one_by_one.len() > 3, "{byzantine:?}: {one_by_one:?}");
        assert_eq!(one_by_one, lazy, "{byzantine:?}");
    }
}

#[test]
fn a_view_change_is_explored_exhaustively_whoever_is_byzantine() {
    for byzantine in 0..4 {
        let (lazy, found) = lazily(config(&[byzantine], 1, Rulebook::default()));
        assert_eq!(found.outcome, Outcome::Exhausted, "r{byzantine}");
        let conditions = lazy.conditions();
        assert_eq!(conditions.failed, 0, "r{byzantine}: {:?}", conditions.first);
        assert!(conditions.checked > 10_000, "r{byzantine}");
        let witnesses = lazy.world().witnesses();
        assert!(witnesses.commits > 0 && witnesses.view_changes > 0, "r{byzantine}: {witnesses:?}");
    }
}

/// What is violated, and after how many macro steps. A schedule that violates something does so whether or not the
/// reduction leaves out others, so its conditions are not checked.
fn violation(byzantine: u16, max_view: u64, rules: Rulebook) -> (String, usize) {
    let config = config(&[byzantine], max_view, rules);
    let mut lazy = Lazy::new(config, false).expect("these bounds make sense");
    match explore(&mut lazy, usize::MAX, &mut |_| true).outcome {
        Outcome::Violated { what, trace, .. } => (what, trace.len()),
        outcome => panic!("r{byzantine}, {}: {outcome:?}", rules.name()),
    }
}

#[test]
fn each_rule_that_a_view_change_needs_has_a_schedule_that_shows_why() {
    for (mutant, byzantine) in [
        (Mutant::PrepareQuorum, 0),
        (Mutant::CommitQuorum, 0),
        (Mutant::ViewChangeQuorum, 1),
        (Mutant::BelieveO, 1),
        (Mutant::UnverifiedCertificates, 1),
        (Mutant::NoCertificates, 1),
        (Mutant::KeepVoting, 1),
        (Mutant::ActInOldView, 1),
        (Mutant::PrePreparedInP, 0),
        (Mutant::SecondPrePrepare, 0),
        (Mutant::RepeatedVoters, 0),
        (Mutant::RepeatedViewChanges, 1),
        (Mutant::Outsiders, 1),
    ] {
        let (what, steps) = violation(byzantine, 1, Rulebook::without(mutant));
        println!("{}: {what}, {steps} steps", mutant.id());
        let property = what.split(':').next().unwrap_or_default().to_string();
        assert!(
            ["prepared-uniqueness", "new-view-preserves-committed", "agreement"].contains(&property.as_str()),
            "{mutant:?}: {what}"
        );
    }
}

#[test]
fn in_one_view_a_byzantine_primary_shows_why_there_are_members_digests_and_watermarks() {
    for (mutant, property, least) in [
        (Mutant::Outsiders, "validity", 3),
        (Mutant::AnyBatch, "agreement", 6),
        (Mutant::NoLowWaterMark, "watermarks", 1),
        (Mutant::UnprovedCheckpoint, "watermarks", 1),
    ] {
        let (what, steps) = violation(0, 0, Rulebook::without(mutant));
        assert!(what.starts_with(property) && steps == least, "{mutant:?}: {what}, {steps} steps");
    }
}

#[test]
fn view_changes_for_an_earlier_view_hide_what_committed_since() {
    // What left view 0 for view 1 says nothing of view 1; a NEW-VIEW for view 2 made of it carries nothing over.
    let (what, steps) = violation(2, 2, Rulebook::without(Mutant::ViewChangesOfAnyView));
    assert!(what.starts_with("new-view-preserves-committed") && steps == 8, "{what}, {steps} steps");
}

#[test]
fn two_bounds_on_certificates_make_no_difference_to_safety() {
    // docs/SAFEGUARDS.md says why. More is delivered than by the paper's rules, or this would show nothing.
    for (mutant, byzantine, by_the_paper) in
        [(Mutant::SeveralPerN, 0, 59_626), (Mutant::CertificateOfAnyView, 1, 24_874)]
    {
        let (lazy, found) = lazily(config(&[byzantine], 1, Rulebook::without(mutant)));
        assert_eq!(found.outcome, Outcome::Exhausted, "{mutant:?}");
        assert_eq!(lazy.conditions().failed, 0, "{mutant:?}: {:?}", lazy.conditions().first);
        assert!(found.states > by_the_paper, "{mutant:?}: {} states", found.states);
    }
}
