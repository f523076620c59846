//! The worlds in stateright's Explorer, without a browser: every world has steps, and each can be drawn and told.

use pbft_models::browse::Browse;
use pbft_models::story::{Story, page, svg};
use pbft_models::suite;
use pbft_models::trace::Execution;
use pbft_models::trace::file::Stored;
use pbft_models::trace::replay::{replay, with_safeguard};
use stateright::Model;
use std::collections::BTreeSet;

fn story(id: &str) -> (Story, Execution) {
    let path = format!("{}/counterexamples/{id}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("it is stored");
    let replayed = replay(&Stored::parse(&text).expect("it is a counterexample")).expect("it reproduces");
    let harmless = with_safeguard(&replayed).expect("the world makes sense");
    let story = Story::of(&replayed, &harmless);
    let steps = replayed.steps.iter().map(|taken| taken.step.clone()).collect();
    let config = replayed.executor.config().clone();
    (story, Execution { config, steps, violation: replayed.violation })
}

#[test]
fn every_world_of_the_suites_can_be_browsed() {
    let mut seen = BTreeSet::new();
    for entry in suite::all().into_iter().filter(|entry| seen.insert(entry.config.name())) {
        let name = entry.config.name();
        let model = Browse::new(entry.config).expect("the world makes sense");
        let start = model.init_states().swap_remove(0);
        assert!(format!("{start:#?}").contains("view: v0"), "{name}");
        let mut actions = Vec::new();
        model.actions(&start, &mut actions);
        assert!(!actions.is_empty(), "{name}");
        for action in actions {
            let told = model.format_step(&start, action.clone()).expect("it can be taken");
            assert!(told.starts_with(&model.format_action(&action)), "{name}: {told}");
            assert!(model.next_state(&start, action).is_some(), "{name}: an action changes something");
        }
    }
}

#[test]
fn the_link_to_a_trace_leads_through_the_actions_that_the_explorer_lists() {
    for id in ["highest-view-wins", "reply-bound-to-request", "client-table-in-checkpoint"] {
        let (_, execution) = story(id);
        let model = Browse::new(execution.config.clone()).expect("the world makes sense");
        let link = model.link(&execution).expect("every step is listed");
        let mut numbers = link.split('/').skip(1).map(|number| number.parse::<usize>().expect("a number"));
        let mut state = model.init_states().swap_remove(numbers.next().expect("the start"));
        for (number, step) in numbers.zip(&execution.steps) {
            let mut actions = Vec::new();
            model.actions(&state, &mut actions);
            assert_eq!(&actions[number], step, "{id}");
            state = model.next_state(&state, actions[number].clone()).expect("it changes something");
        }
        // Exactly the property of the trace is violated there, of those that the Explorer shows.
        let violated =
            model.properties().into_iter().filter(|property| !(property.condition)(&model, &state));
        assert_eq!(violated.map(|p| p.name).collect::<Vec<_>>(), [execution.violation.property], "{id}");
    }
}

#[test]
fn a_story_names_who_is_byzantine_the_quorums_the_violation_and_what_the_safeguard_does() {
    let (story, _) = story("first-pre-prepare-wins");
    let byzantine: Vec<&str> = story.steps.iter().filter_map(|step| step.byzantine.as_deref()).collect();
    assert!(byzantine.contains(&"Byzantine: second digest"), "{byzantine:?}");
    assert!(story.steps.iter().any(|step| step.quorums.iter().any(|q| q.starts_with("prepared "))));
    let last = story.steps.last().expect("there are steps");
    assert!(last.violated.as_ref().is_some_and(|what| what.starts_with("prepared-uniqueness")));
    let ending = story.ending.expect("the safeguard makes a difference");
    assert!(
        ending.contains("conflicting pre prepare") && ending.ends_with("nothing is violated."),
        "{ending}"
    );
}

#[test]
fn a_diagram_has_an_arrow_for_each_delivery_and_everything_in_it_is_escaped() {
    let (mut story, execution) = story("highest-view-wins");
    let deliveries = story.steps.iter().filter(|step| step.is_delivery).count();
    assert_eq!(svg(&story).matches("class=\"delivery\"").count(), deliveries);
    assert!(deliveries < execution.steps.len(), "time-outs are no deliveries");
    let hostile = "<script>alert('x')</script>&\"";
    for step in &mut story.steps {
        step.what = hostile.into();
        step.byzantine = Some(hostile.into());
        step.does = vec![hostile.into()];
        step.quorums = vec![hostile.into()];
        step.sends = vec![hostile.into()];
        step.changes = vec![(hostile.into(), hostile.into(), hostile.into())];
        step.violated = Some(hostile.into());
        step.restored = Some(hostile.into());
    }
    story.ending = Some(hostile.into());
    for drawn in [svg(&story), page(&story)] {
        assert!(!drawn.contains("<script>alert") && drawn.contains("&lt;script&gt;alert"));
        assert!(
            !drawn.contains("http://") || drawn.matches("http://").count() == 1,
            "only the namespace of SVG"
        );
    }
}

#[test]
fn forty_steps_of_four_replicas_and_two_clients_stay_legible() {
    // As wide as a screen whatever is drawn, and every step a row of its own.
    let (mut story, _) = story("reply-bound-to-request");
    while story.steps.len() < 40 {
        let mut next = story.steps[story.steps.len() % 12].clone();
        next.number = story.steps.len() + 1;
        story.steps.push(next);
    }
    let drawn = svg(&story);
    let size = |name: &str| {
        let from = drawn.find(&format!(" {name}=\"")).expect("it has a size") + name.len() + 3;
        drawn[from..].split('"').next().and_then(|text| text.parse::<usize>().ok()).expect("a number")
    };
    assert!(size("width") <= 1280, "{}", size("width"));
    assert!(size("height") / 40 >= 40, "{}", size("height"));
}
