//! What is shown of worlds and counterexamples, without a browser: every world has steps, each can be drawn and told,
//! no lie is left out, and nothing is claimed that was not computed.

mod colours;
mod consequences;
mod drawn;
mod refuted;
mod standstill;

use pbft_models::browse::{Browse, Session, path_of};
use pbft_models::matrix::{Evidence, rows};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::story::gallery::{Exhibit, markdown, site};
use pbft_models::story::lessons::{consequence, consequences};
use pbft_models::story::refuted as proof;
use pbft_models::story::{How, Story, StoryStep, Unheard, export, page, svg, svg_narrow};
use pbft_models::suite;
use pbft_models::trace::file::Stored;
use pbft_models::trace::replay::{replay, with_safeguard};
use pbft_models::trace::{Execution, Executor};
use pbft_models::world::WorldConfig;
use stateright::Model;
use std::collections::{BTreeMap, BTreeSet};

/// What the first violation without a rule leads to.
fn further(mutant: Mutant) -> Story {
    story(&format!("consequences/{}", mutant.id())).0
}

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

/// Words of a page that are digests, and that no name stands for.
fn unnamed_digests(text: &str) -> Vec<&str> {
    let is_digest = |word: &&str| {
        word.len() == 8
            && word.chars().all(|c| c.is_ascii_hexdigit())
            && word.chars().any(|c| c.is_ascii_digit())
    };
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(is_digest).collect()
}

/// Every safeguard with a stored counterexample.
fn stored() -> Vec<&'static str> {
    rows().into_iter().filter(|row| matches!(row.evidence, Evidence::Killed(_))).map(|row| row.id()).collect()
}

/// What a step says, without what the title says.
fn said(step: &StoryStep) -> String {
    format!("{} {} {:?} {:?} {:?}", step.way(), step.what, step.lies, step.contents, step.tallies)
}

#[test]
fn a_path_of_steps_by_content_leads_to_the_violation_and_each_property_is_judged_there() {
    for id in stored() {
        let (_, execution) = story(id);
        let mut session = Session::new(execution.config.clone(), None).expect("the world makes sense");
        let path = path_of(&execution.steps);
        let view = session.view(&path, false);
        assert_eq!((view.missed.len(), view.path.len()), (0, path.len()), "{id}");
        let violated: Vec<_> = view.judged.iter().filter(|judged| judged.violated.is_some()).collect();
        assert!(violated.iter().any(|judged| judged.name == execution.violation.property), "{id}");
        assert_eq!(view.execution.as_ref(), Some(&execution), "{id}: it can be saved as it was found");
        // One step earlier nothing is violated, and the last step is offered as what violates it.
        let view = session.view(&path[..path.len() - 1], false);
        assert!(view.judged.iter().all(|judged| judged.violated.is_none()), "{id}");
        let last =
            view.choices.iter().find(|choice| choice.id == path[path.len() - 1]).expect("it is offered");
        assert_eq!(last.violated.as_ref(), Some(&execution.violation), "{id}");
    }
}

#[test]
fn two_choices_of_a_state_never_look_the_same() {
    for id in ["transfer-verified", "digest-names-batch", "certificates-verified"] {
        let (_, execution) = story(id);
        let mut session = Session::new(execution.config.clone(), None).expect("the world makes sense");
        for length in 0..=execution.steps.len() {
            let view = session.view(&path_of(&execution.steps[..length]), false);
            let mut seen = BTreeSet::new();
            for choice in &view.choices {
                let told = said(&choice.step);
                assert!(seen.insert(told.clone()), "{id} after {length} steps: {told} twice");
            }
        }
    }
}

#[test]
fn by_the_papers_rules_the_same_path_is_refused_with_a_reason() {
    let (_, execution) = story("certificates-verified");
    let by = WorldConfig { rules: Rulebook::default(), ..execution.config.clone() };
    let mut session = Session::new(by, Some(execution.config.rules)).expect("the world makes sense");
    let view = session.view(&path_of(&execution.steps), false);
    assert_eq!(view.missed, [], "the forged message is shown all the same");
    assert!(view.judged.iter().all(|judged| judged.violated.is_none()));
    let last = view.story.steps.last().and_then(|step| step.refused.clone()).expect("it is refused");
    assert!(last.contains("0 of 2 needed"), "{last}");
    // And it is listed, with the reason, among what would change nothing.
    let before = session.view(&path_of(&execution.steps[..execution.steps.len() - 1]), true);
    assert_eq!(before.refused.len(), before.idle);
    let forged = before.refused.iter().find(|refused| refused.why == last).expect("it is listed");
    assert_eq!(forged.step.what, "NEW-VIEW v1 V={r1, r2, r0} O={n1 null}");
    assert!(before.refused.iter().all(|refused| !refused.why.is_empty() && !refused.why.contains('_')));
}

#[test]
fn what_no_correct_node_has_sent_says_what_is_false_in_it_or_that_nothing_is() {
    for id in stored() {
        let (story, _) = story(id);
        for step in &story.steps {
            let Some(how) = &step.byzantine else { continue };
            match step.lies.first() {
                Some(lie) => assert!(how.ends_with(lie.as_str()), "{id}: {how}"),
                None => assert!(how.ends_with("what a correct replica could say"), "{id}: {how}"),
            }
        }
    }
}

#[test]
fn the_lie_that_matters_is_told() {
    for (id, words) in [
        ("certificates-verified", "PREPAREs of r1: 1 of 2 needed"),
        ("certificate-quorum", "PREPAREs of r3: 1 of 2 needed"),
        ("distinct-voters", " again"),
        ("prepared-not-pre-prepared", "PREPAREs of nobody: 0 of 2 needed"),
        ("digest-names-batch", "an empty batch"),
        ("transfer-verified", "r3 fetches the block with the digest S1"),
        ("signer-is-sender", "signed by r0, and says that it is from r2"),
        ("request-authentic", "made up"),
        ("members-only", "is no member"),
        ("backups-recompute-o", "V determines"),
        ("distinct-view-changes", "of different replicas"),
        ("view-changes-match-view", "is for v1"),
        ("checkpoint-proof", "is stable"),
        ("f+1-replies", "no correct replica answers"),
        ("only-primary-proposes", "is not the primary"),
        ("primary-does-not-prepare", "a primary sends no PREPARE"),
        ("first-pre-prepare-wins", "has told"),
        ("transfer-verified", "orders request t1 of c0 at n2, and r0 orders it at n1 too (step 1)"),
        ("at-most-once", "at n2, and r0 orders it at n1 too"),
    ] {
        let (story, _) = story(id);
        let lies: Vec<&String> = story.steps.iter().flat_map(|step| &step.lies).collect();
        assert!(lies.iter().any(|lie| lie.contains(words)), "{id}: {lies:?}");
    }
    // And votes that only a broken rule counts.
    for (id, who) in [
        ("votes-match-view", "r2 (of v0)"),
        ("one-vote-per-sender", "r1 (again)"),
        ("signer-is-sender", "r2 (signed by r0)"),
    ] {
        let (story, _) = story(id);
        let counted = story.steps.iter().flat_map(|step| &step.tallies).flat_map(|tally| &tally.votes);
        assert!(
            counted.clone().any(|vote| vote.counts && vote.who == who),
            "{id}: {:?}",
            counted.collect::<Vec<_>>()
        );
    }
}

#[test]
fn no_two_counterexamples_tell_the_same_story() {
    let mut told = BTreeMap::new();
    for id in stored() {
        let text: Vec<String> = story(id).0.steps.iter().map(said).collect();
        if let Some(other) = told.insert(text, id) {
            panic!("{id} and {other} tell the same story");
        }
    }
}

#[test]
fn every_story_says_why_the_rule_stops_it_in_words() {
    let reasons: BTreeSet<String> = include_str!("../../src/rejection.rs")
        .lines()
        .filter_map(|line| line.trim().split_once(" = \"")?.1.strip_suffix("\","))
        .filter(|name| name.contains('_'))
        .map(|name| name.replace('_', " "))
        .collect();
    assert!(reasons.len() > 20);
    for id in stored() {
        let (story, _) = story(id);
        let ending = story.ending.as_ref().expect("the rule makes a difference");
        assert!(ending.ends_with("Nothing is violated."), "{id}: {ending}");
        for step in &story.steps {
            let safely = step.safely.as_ref().expect("it is compared");
            assert_eq!(safely.why.is_empty(), safely.how == How::Same, "{id}");
            assert!(!reasons.contains(&safely.why), "{id}: {}", safely.why);
            assert!(!safely.why.ends_with(": "), "{id}: {}", safely.why);
        }
    }
}

#[test]
fn both_thresholds_are_counted_where_a_quorum_is_what_differs() {
    for (id, without, with) in
        [("prepare-quorum", "1/1 PREPARE", "1/2 PREPARE"), ("commit-quorum", "2/2 COMMIT", "2/3 COMMIT")]
    {
        let (story, _) = story(id);
        let shown = story.steps.iter().any(|step| {
            let count = |step: &StoryStep, words: &str| {
                step.tallies.iter().any(|tally| tally.in_words().contains(words))
            };
            let safely = step.safely.as_ref().and_then(|safely| safely.step.as_deref());
            count(step, without) && safely.is_some_and(|step| count(step, with))
        });
        assert!(shown, "{id}");
    }
}

#[test]
fn where_two_quorums_meet_in_nobody_correct_the_story_says_so() {
    for (id, words) in
        [("prepare-quorum", "they meet"), ("n-3f+1", "they meet"), ("at-most-f", "only in r1, Byzantine")]
    {
        let meeting = story(id).0.meeting.unwrap_or_else(|| panic!("{id} says nothing"));
        assert!(meeting.contains(words), "{id}: {meeting}");
    }
    assert_eq!(story("f+1-replies").0.meeting, None);
}

#[test]
fn nothing_is_cut_off_in_a_diagram_and_everything_in_it_is_escaped() {
    for id in stored() {
        let (story, _) = story(id);
        for drawn in [svg(&story), svg_narrow(&story), page(&story)] {
            let text = drawn.split("<script>").next().unwrap_or_default();
            assert!(!text.contains("..."), "{id}");
            let deliveries = story.steps.iter().filter(|step| step.is_delivery).count();
            assert_eq!(drawn.matches("class=\"delivery\"").count() % deliveries, 0, "{id}");
        }
    }
    let (mut story, _) = story("highest-view-wins");
    let hostile = "<script>alert('x')</script>&\"";
    for step in &mut story.steps {
        step.what = hostile.into();
        for text in [&mut step.byzantine, &mut step.violated, &mut step.refused] {
            *text = Some(hostile.into());
        }
        step.unheard = vec![Unheard { what: hostile.into(), used: None }];
        for list in [&mut step.does, &mut step.lies, &mut step.contents, &mut step.sends, &mut step.decided] {
            *list = vec![hostile.into()];
        }
        step.changes = vec![(hostile.into(), hostile.into(), hostile.into())];
        if let Some(safely) = &mut step.safely {
            safely.why = hostile.into();
        }
    }
    story.ending = Some(hostile.into());
    story.meeting = Some(hostile.into());
    for drawn in [svg(&story), svg_narrow(&story), page(&story)] {
        assert!(!drawn.contains("<script>alert") && drawn.contains("&lt;script&gt;alert"));
        assert_eq!(
            drawn.replace("http://www.w3.org/2000/svg", "").matches("http://").count(),
            0,
            "it loads nothing"
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

#[test]
fn the_gallery_has_a_page_for_each_counterexample_and_a_reason_for_each_rule_without_one() {
    let exhibits: Vec<Exhibit> = rows()
        .into_iter()
        .map(|row| {
            let shown = row.file().map(|file| story(file.trim_end_matches(".json")).0);
            let consequence = row.mutant.filter(|&mutant| consequence(mutant).is_some()).map(further);
            Exhibit { story: shown, consequence, row }
        })
        .collect();
    let refuted = refuted::all();
    let files = site(&exhibits, &refuted, Some("https://example.org/pbft/"));
    // And the index, and what the proof refutes.
    assert_eq!(files.len(), stored().len() + standstill::all().len() + consequences().count() + 2);
    let pages: BTreeMap<&str, &str> =
        files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let index = &files[0].1;
    for mutant in Mutant::ALL {
        assert!(index.contains(mutant.id()), "{} is not in the index", mutant.id());
    }
    // Every link leads to a page of the site or to the source.
    for (name, text) in &files {
        for link in text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let is_source = link.starts_with("https://example.org/pbft/");
            let (page, place) =
                link.split_once('#').map_or((link, None), |(page, place)| (page, Some(place)));
            let page = if page.is_empty() { Some(text.as_str()) } else { pages.get(page).copied() };
            let is_there = |page: &str| place.is_none_or(|place| page.contains(&format!("id=\"{place}\"")));
            assert!(is_source || page.is_some_and(is_there), "{name}: {link}");
        }
    }
    // What stands beside the counterexamples is what would be written now.
    for (name, text) in markdown(&exhibits).into_iter().chain(proof::markdown(&refuted)) {
        let path = format!("{}/counterexamples/{name}", env!("CARGO_MANIFEST_DIR"));
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == text, "{path}: write it again with `pbft gallery --markdown`");
    }
}

#[test]
fn other_viewers_read_what_is_exported() {
    let path = format!("{}/counterexamples/commit-quorum.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("it is stored");
    let replayed = replay(&Stored::parse(&text).expect("it is a counterexample")).expect("it reproduces");
    let harmless = with_safeguard(&replayed).expect("the world makes sense");
    let story = Story::of(&replayed, &harmless);
    let mut executor = Executor::new(replayed.executor.config()).expect("the world makes sense");
    let mut replayed = replayed;
    std::mem::swap(&mut executor, &mut replayed.executor);
    let itf: serde_json::Value =
        serde_json::from_str(&export::itf(&story, &mut executor, &replayed.steps)).expect("it is JSON");
    let states = itf["states"].as_array().expect("a list");
    assert_eq!(states.len(), story.steps.len() + 1);
    let variables = itf["vars"].as_array().expect("a list");
    for state in states {
        assert!(variables.iter().all(|name| state.get(name.as_str().expect("a name")).is_some()));
    }
    let log = export::shiviz(&story);
    let mut lines = log.lines();
    assert_eq!(lines.next(), Some(export::SHIVIZ_EXPRESSION));
    assert_eq!(lines.next(), Some(""));
    let events: Vec<(&str, &str)> = lines.clone().step_by(2).zip(lines.skip(1).step_by(2)).collect();
    assert!(events.len() >= story.steps.len());
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for (head, event) in events {
        let (host, clock) = head.split_once(' ').expect("a host and a clock");
        let clock: serde_json::Value = serde_json::from_str(clock).expect("a clock");
        let own = clock[host].as_u64().expect("its own time");
        assert_eq!(own, last.get(host).copied().unwrap_or(0) + 1, "{event}");
        last.insert(host.into(), own);
    }
}
