//! What names, colours, notes and arrows say.

use super::{stored, story, unnamed_digests};
use pbft_models::story::{name, page, svg, svg_narrow};
use std::collections::BTreeSet;

#[test]
fn a_name_stands_for_one_digest_and_says_what_is_in_it() {
    for id in stored() {
        let (story, _) = story(id);
        let letters = story.letters();
        let names: BTreeSet<&String> = letters.iter().map(|(letter, _)| letter).collect();
        assert_eq!(names.len(), letters.len(), "{id}: {letters:?}");
        // Two states are two contents, and no digest is left without a name.
        let states = letters.iter().filter(|(letter, _)| letter.starts_with('S'));
        let known = states.filter(|(_, what)| !what.starts_with("a state that no correct replica has"));
        let contents: Vec<&str> = known.filter_map(|(_, what)| what.split(" (").next()).collect();
        let different: BTreeSet<&str> = contents.iter().copied().collect();
        assert_eq!(different.len(), contents.len(), "{id}: {letters:?}");
        let text = page(&story);
        assert_eq!(unnamed_digests(&text), Vec::<&str>::new(), "{id}");
    }
    let of = |id: &str, letter: &str| {
        let found = story(id).0.letters().into_iter().find(|(known, _)| known == letter);
        found.unwrap_or_else(|| panic!("{id} does not speak of {letter}")).1
    };
    assert_eq!(of("transfer-verified", "S0"), "nothing executed; no last replies (the initial state)");
    assert_eq!(
        of("transfer-verified", "S1"),
        "executed op0; last replies: c0 t1 -> 1 (after n1, say r0, r1, r2; after n2, says r3)"
    );
    assert!(of("client-table-in-checkpoint", "S1").contains("no table of last replies"));
    assert!(of("client-table-in-checkpoint", "S2").contains("last replies: c0 t1 -> 1"));
}

#[test]
fn red_is_for_what_is_false_and_nothing_else() {
    for id in stored() {
        let (story, _) = story(id);
        let lies = story.steps.iter().filter(|step| step.is_lie()).count();
        let truthful = story.steps.iter().filter(|step| step.byzantine.is_some() && !step.is_lie()).count();
        let (wide, narrow) = (svg(&story), svg_narrow(&story));
        for drawn in [&wide, &narrow] {
            assert_eq!(drawn.matches("class=\"step bad").count(), lies, "{id}");
            assert_eq!(drawn.matches("class=\"step odd").count(), truthful, "{id}");
            assert_eq!(drawn.matches("<path class=\"origin\"").count(), lies, "{id}: a cross for each");
            assert_eq!(drawn.matches("<circle class=\"origin\"").count(), truthful, "{id}: a ring for each");
            assert_eq!(drawn.matches("VIOLATED: ").count(), 1, "{id}");
        }
        // Where there is no room for notes, words mark what is false.
        assert_eq!(narrow.matches("LIE ").count(), lies, "{id}");
    }
}

/// What is between the tags, in one line.
fn text_of(markup: &str) -> String {
    let between = markup.split('<').filter_map(|part| Some(part.split_once('>')?.1)).collect::<Vec<_>>();
    let text = between.join(" ").replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_notes_of_a_diagram_tell_what_comes_of_a_complete_quorum() {
    let mut told = 0;
    for id in stored() {
        let (story, _) = story(id);
        let text = text_of(&svg(&story));
        for step in story.steps.iter().filter(|step| step.tallies.iter().any(|tally| tally.is_complete())) {
            let done = format!("{} {}", name(step.node), step.does.join("; "));
            assert!(step.does.is_empty() || text.contains(&done), "{id}, step {}: {done}", step.number);
            told += step.does.len();
        }
    }
    assert!(told > 100, "{told}");
}

#[test]
fn what_decides_each_number_of_o_is_said_with_the_views() {
    for (id, words) in [
        (
            "certificates-verified",
            "n1 is null by r1's certificate of v0, which comes first in V: those of r2, r0 are for A of v0",
        ),
        (
            "highest-view-wins",
            "n1 is B by r0's certificate of v0, though those of r1, r2 are for A of v1, a higher view",
        ),
        ("backups-recompute-o", "n1 is"),
        ("min-s-from-all", "min-s = 0, though r0's stable checkpoint in V is at n1"),
        ("certificates-in-view-change", "nothing, since no VIEW-CHANGE in V has a certificate"),
    ] {
        let (story, _) = story(id);
        let said: Vec<&String> = story.steps.iter().flat_map(|step| &step.decided).collect();
        assert!(said.iter().any(|why| why.starts_with(words)), "{id}: {said:?}");
    }
    // With the rule it is the other one.
    let (story, _) = story("highest-view-wins");
    let safely = story.steps.last().and_then(|step| step.safely.as_ref()?.step.as_ref()).expect("it happens");
    assert_eq!(safely.decided, ["n1 is A by r1's certificate of v1, the highest view: r0's is for B of v0"]);
}

#[test]
fn what_a_byzantine_replica_shows_to_have_received_is_drawn_as_received_by_it() {
    let mut used = 0;
    for id in stored() {
        let (story, _) = story(id);
        for step in &story.steps {
            for (by, later) in step.unheard.iter().filter_map(|unheard| unheard.used) {
                assert!(story.is_byzantine(by.into()) && later > step.number, "{id}, step {}", step.number);
                used += 1;
            }
        }
    }
    assert!(used > 10, "{used}");
    let (story, _) = story("highest-view-wins");
    assert_eq!(story.steps[0].unheard.len(), 1);
    assert_eq!(
        story.steps[0].unheard[0].in_words(),
        "PREPARE v0 n1 d=B: only r0, Byzantine, receives it, and uses it at step 15"
    );
    assert!(svg(&story).contains("class=\"unheard overheard\""));
}
