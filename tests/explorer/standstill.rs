//! Counterexamples in which a request never executes: what is said after their steps.

use super::{story, unnamed_digests};
use pbft_models::browse::{Session, path_of};
use pbft_models::matrix::{Evidence, rows};
use pbft_models::progress;
use pbft_models::story::lessons::named;
use pbft_models::story::{page, svg};

/// The name of each, with its directory.
pub fn all() -> Vec<String> {
    let stuck = rows().into_iter().filter(|row| matches!(row.evidence, Evidence::Stuck(_)));
    stuck.map(|row| format!("stuck/{}", row.id())).collect()
}

#[test]
fn the_story_says_what_is_lost_what_happens_then_and_when_requests_execute_with_the_rule() {
    for id in all() {
        let (story, _) = story(&id);
        let then = story.then.as_ref().expect("it goes on");
        assert!(then.begins.starts_with("Now everything that was sent is lost"), "{id}: {}", then.begins);
        assert_eq!(then.begins.matches(", Byzantine, ").count(), story.config.byzantine.len(), "{id}");
        assert!(
            !then.why.is_empty() && then.why.iter().all(|line| line.contains(" ms  ")),
            "{id}: {:?}",
            then.why
        );
        assert!(then.ending.starts_with("A request never executes: "), "{id}: {}", then.ending);
        assert!(then.with_rule.contains("every client has its result within "), "{id}: {}", then.with_rule);
        assert!(story.ending.as_ref().is_some_and(|ending| ending.ends_with(&then.with_rule)), "{id}");
        assert_eq!(story.theorem(), Some(progress::THEOREM), "{id}");
        assert!(story.steps.iter().all(|step| step.violated.is_none()), "{id}: no step violates anything");
        assert!(named(id.trim_start_matches("stuck/")).is_some(), "{id} has no lesson");
    }
    // Both kinds are among them.
    let restarts = |id: &String| story(id).0.then.is_some_and(|then| then.begins.contains("starts again"));
    assert!(all().iter().any(restarts) && !all().iter().all(restarts));
}

#[test]
fn the_page_has_it_as_an_ordered_list_and_names_every_digest() {
    for id in all() {
        let (story, _) = story(&id);
        let then = story.then.as_ref().expect("it goes on");
        let text = page(&story);
        assert_eq!(text.matches("<h2>Why it stays there</h2>").count(), 1, "{id}");
        let list = text.split("<ol class=\"why\">").nth(1).and_then(|rest| rest.split("</ol>").next());
        assert_eq!(list.map(|list| list.matches("<li>").count()), Some(then.why.len()), "{id}");
        assert!(text.contains("href=\"#then\"") && text.contains("id=\"then\""), "{id}");
        for claim in ["Nothing is violated", "every property holds", "holds here"] {
            assert!(!text.contains(claim), "{id}: {claim}");
        }
        assert_eq!(unnamed_digests(&text), Vec::<&str>::new(), "{id}");
    }
}

#[test]
fn what_happens_then_is_escaped() {
    let (mut story, _) = story(&all()[0]);
    let hostile = "<script>alert('x')</script>&\"";
    if let Some(then) = &mut story.then {
        then.why = vec![hostile.into()];
        (then.begins, then.ending, then.with_rule) = (hostile.into(), hostile.into(), hostile.into());
    }
    for drawn in [svg(&story), page(&story)] {
        assert!(!drawn.contains("<script>alert"));
    }
    assert!(page(&story).matches("&lt;script&gt;alert").count() >= 4);
}

#[test]
fn on_the_way_no_property_of_safety_is_violated_and_the_explorer_can_go_it() {
    for id in all() {
        let (_, execution) = story(&id);
        let mut session = Session::new(execution.config.clone(), None).expect("the world makes sense");
        let path = path_of(&execution.steps);
        let view = session.view(&path, false);
        assert_eq!((view.missed.len(), view.path.len()), (0, path.len()), "{id}");
        assert!(view.judged.iter().all(|judged| judged.violated.is_none()), "{id}");
        assert!(view.execution.is_none(), "{id}: it is no violation of safety that could be saved");
    }
}
