//! The pictures of what the proof refutes: whatever was sent is in them, and what is violated, and who is Byzantine.

use pbft_models::story::refuted::{page, stored, svg, svg_narrow};
use pbft_properties::proof::Refuted;
use pbft_properties::proof::relations::Relation;
use std::path::Path;

/// Those that are stored.
pub fn all() -> Vec<Refuted> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("counterexamples/refuted");
    stored(&directory).unwrap_or_else(|why| panic!("{why}"))
}

/// The text of a picture, without its style.
fn text(svg: &str) -> String {
    let drawn = svg.split("</style>").last().unwrap_or_default();
    let words = drawn.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text.trim());
    words.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_picture_has_every_message_that_a_correct_replica_has_sent() {
    for refuted in all() {
        let rule = &refuted.stored.rule;
        for drawn in [text(&svg(&refuted)), text(&svg_narrow(&refuted))] {
            // The state before stands above the step.
            let before = drawn.split(" step ").next().unwrap_or_default();
            let messages = [
                (Relation::preprepare, "PRE-PREPARE n"),
                (Relation::prepare, " PREPARE n"),
                (Relation::commit, "COMMIT n"),
                (Relation::viewchange, "VIEW-CHANGE v"),
                (Relation::checkpoint, "CHECKPOINT n"),
                (Relation::committed_local, "committed local n"),
                (Relation::executed, "executed n"),
            ];
            for (relation, label) in messages {
                let sent = refuted.holds(relation).iter().filter(|one| refuted.is_correct(one[0])).count();
                assert_eq!(before.matches(label).count(), sent, "{rule}: {label} in {before}");
            }
        }
    }
}

#[test]
fn a_picture_says_what_is_violated_and_who_is_byzantine() {
    for refuted in all() {
        let rule = &refuted.stored.rule;
        let drawn = text(&svg(&refuted));
        assert!(drawn.contains(&format!("VIOLATED: {}:", refuted.invariant.name)), "{rule}: {drawn}");
        let members = (0..refuted.cluster.n).filter(|&replica| !refuted.is_correct(replica)).count();
        assert_eq!(drawn.matches("Byzantine").count(), members, "{rule}: {drawn}");
        assert_eq!(drawn.matches("no member").count(), refuted.cluster.outsiders, "{rule}");
    }
}

#[test]
fn the_page_has_a_section_for_each_with_all_in_words() {
    let all = all();
    let page = page(&all, &|_| None);
    for refuted in &all {
        let rule = &refuted.stored.rule;
        assert!(page.contains(&format!("<h2>{rule}</h2>")), "{rule}");
        assert!(page.contains(refuted.action.says) && page.contains(refuted.invariant.says), "{rule}");
    }
    // One style for all pictures, and no two patterns of one name.
    assert_eq!(page.matches(".d .violation-row").count(), 1);
    let names: Vec<&str> =
        page.split("<pattern id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let distinct: std::collections::BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!((names.len(), distinct.len()), (2 * all.len(), 2 * all.len()));
    // A sentence for each message.
    let sent: usize = all.iter().map(|refuted| refuted.holds(Relation::commit).len()).sum();
    assert!(page.matches("has sent COMMIT for").count() >= sent);
}
