//! Counterexamples to induction as pictures: the state before a step, the step, and the invariant that it breaks.
//!
//! They come from the abstract protocol of `properties/proof`, not from executions: a picture shows a state in which
//! every invariant holds, whether or not replicas can come to it.

mod facts;
mod picture;
mod stored;

pub use picture::{svg, svg_narrow};
pub use stored::{parse, rules, stored};

use super::gallery::{File, file_name, folded};
use super::lessons::named;
use super::page::document;
use facts::{Words, listed};
use maud::{Markup, PreEscaped, html};
use pbft_properties::proof::relations::Relation;
use pbft_properties::proof::{Refuted, Stopped};
use std::fmt::Write;

/// The page of all, in the site.
pub const PAGE: &str = "refuted.html";

/// Where the picture of a rule stands, from the directory of counterexamples.
pub fn picture_file(rule: &str) -> String {
    format!("refuted/diagrams/{}.svg", file_name(rule))
}

/// What a picture shows, in a sentence.
pub fn title(refuted: &Refuted) -> String {
    format!("Without {}: {} breaks {}", refuted.stored.rule, refuted.action.name, refuted.invariant.name)
}

/// Who there is, in a sentence.
fn setting(refuted: &Refuted) -> String {
    let cluster = &refuted.cluster;
    let words = Words(refuted);
    let byzantine = (0..cluster.n).filter(|&replica| !refuted.is_correct(replica));
    let byzantine: Vec<String> = byzantine.map(|replica| words.replica(replica)).collect();
    let byzantine = match byzantine.as_slice() {
        [] => "nobody is Byzantine".into(),
        [one] => format!("{one} is Byzantine and may have sent anything"),
        several => format!("{} are Byzantine and may have sent anything", listed(several)),
    };
    let outsiders: Vec<String> =
        (cluster.n..cluster.replicas()).map(|replica| words.replica(replica)).collect();
    let outsiders = match outsiders.as_slice() {
        [] => String::new(),
        some => format!(", {} is no member and may have sent anything", listed(some)),
    };
    let unsigned = (0..refuted.stored.sizes.batches)
        .filter(|&batch| !refuted.holds(Relation::authentic).contains(&vec![batch]));
    let unsigned: Vec<String> = unsigned.map(|batch| words.batch(batch)).collect();
    let unsigned = match unsigned.as_slice() {
        [] => String::new(),
        some => format!(", no client has signed {}", listed(some)),
    };
    format!(
        "{} replicas, f = {}, quorums of {}; {byzantine}{outsiders}{unsigned}.",
        cluster.n, cluster.f, cluster.quorum
    )
}

/// The step, in sentences.
fn step(refuted: &Refuted) -> String {
    let words = Words(refuted);
    let values = refuted.action.parameters.iter().filter_map(|term| Some((*term, refuted.with(term.name)?)));
    format!("{} Here with {}.", refuted.action.says, words.values(values))
}

/// What does not hold afterwards, in a sentence.
fn broken(refuted: &Refuted) -> String {
    let values = Words(refuted).values(refuted.fails_for.iter().copied());
    format!("{} Not so for {values}.", refuted.invariant.says)
}

/// Why the step is not there with the rule, in a sentence.
fn stopped(refuted: &Refuted) -> String {
    let words = Words(refuted);
    let with = |values: &[_]| match values {
        [] => String::new(),
        some => format!(" for {}", words.values(some.iter().copied())),
    };
    match &refuted.stopped {
        Stopped::Guards(guards) => {
            let named = guards.iter().map(|(name, values)| format!("{name} does not hold{}", with(values)));
            let named: Vec<String> = named.collect();
            format!(
                "With the rule the step cannot be taken, with whatever evidence: here {}.",
                listed(&named)
            )
        }
        Stopped::Outcome(relations) => {
            let what: Vec<String> = relations.iter().map(|one| format!("`{}`", one.name())).collect();
            let what = listed(&what);
            format!(
                "With the rule the step can be taken and breaks nothing: what it makes of {what} is otherwise."
            )
        }
        Stopped::Assumption(says, values) => {
            format!("With the rule there is no such cluster. {says} Here not{}.", with(values))
        }
    }
}

/// Why the rule is there.
fn why(refuted: &Refuted) -> &'static str {
    named(&refuted.stored.rule).map_or("", |lesson| lesson.why)
}

const WHAT_THIS_IS: &str = "The proof that `pbft prove` gives of the abstract protocol needs each of these rules. With \
    one switched off, some step leads from a state in which every invariant holds to one in which one does not. Each \
    picture has the least to read that was found, in the smallest cluster that tolerates a fault. Whether replicas can \
    come to the state before is not said here: the executions above are for that.";

/// The page: a section for each, in their order. `linked` says which rules have a page of an execution.
pub fn page(all: &[Refuted], linked: &dyn Fn(&str) -> Option<String>) -> String {
    document(
        "PBFT: refuted by the proof",
        &html! {
            header {
                nav aria-label="Counterexamples" { a href="index.html" { "all counterexamples" } }
                h1 { "Refuted by the proof" }
                p { (WHAT_THIS_IS.replace('`', "").replace("above", "of the other pages")) }
                (legend())
                p { @for refuted in all { a href={ "#" (file_name(&refuted.stored.rule)) } { (refuted.stored.rule) } " " } }
            }
            div.sections { @for (at, refuted) in all.iter().enumerate() { (section(refuted, at == 0, linked)) } }
        },
    )
}

/// What the marks of a picture mean.
fn legend() -> Markup {
    html! {
        p.soft {
            "A column is a replica, a row a view. In a cell is what the replica has sent in that view; coloured is the view "
            "that it is in, hatched while it is leaving it. Of a Byzantine replica nothing is known. Blue is what is true of "
            "the whole system. Below stands what one replica does, and what it then has sent or knows. A and B are batches, "
            "S0 is the initial state."
        }
    }
}

fn section(refuted: &Refuted, is_first: bool, linked: &dyn Fn(&str) -> Option<String>) -> Markup {
    let rule = &refuted.stored.rule;
    html! {
        section.box style="margin:12px" id=(file_name(rule)) {
            h2 { (rule) }
            p { (step(refuted)) " " (setting(refuted)) }
            div.diagram aria-hidden="true" {
                div.wide { (PreEscaped(picture::drawn(refuted, picture::Layout::wide(is_first)))) }
                div.narrow { (PreEscaped(picture::drawn(refuted, picture::Layout::narrow(false)))) }
            }
            p.violated { "Violated: " code { (refuted.invariant.name) } ". " (broken(refuted)) }
            p.safe { (stopped(refuted).replace('`', "")) " " (why(refuted)) }
            details {
                summary { "In words" }
                (in_words(refuted))
            }
            @if let Some(file) = linked(rule) { p { a href=(file) { "An execution without " (rule) } } }
        }
    }
}

/// The state before and what changes, as lists.
fn in_words(refuted: &Refuted) -> Markup {
    let words = Words(refuted);
    html! {
        h4 { "Before" }
        ul { @for line in words.before() { li { (line) } } }
        h4 { "What the step changes" }
        ul { @for line in words.changes() { li { (line) } } }
    }
}

/// The page of Markdown beside the stored ones, and the pictures that it shows.
pub fn markdown(all: &[Refuted]) -> Vec<File> {
    let mut text = String::from("# Refuted by the proof\n\n");
    let _ = write!(
        text,
        "{}\n\n{}\n\n",
        folded(&WHAT_THIS_IS.replace("above", "in [counterexamples](../README.md)")),
        folded(
            "A column is a replica, a row a view. In a cell is what the replica has sent in that view; coloured is the view \
             that it is in, hatched while it is leaving it. Of a Byzantine replica nothing is known. Blue is what is true \
             of the whole system. Below stands what one replica does, and what it then has sent or knows. A and B are \
             batches, S0 is the initial state."
        ),
    );
    text.push_str(
        "`pbft prove --save counterexamples/refuted` finds them again, with z3; `pbft gallery --markdown` draws them.\n\
         Whatever reads one evaluates it ([properties/proof/refuted](../../properties/proof/refuted/mod.rs)).\n",
    );
    let mut files = Vec::new();
    for refuted in all {
        let rule = &refuted.stored.rule;
        let violated = format!("Violated: `{}`. {}", refuted.invariant.name, broken(refuted));
        let picture = picture_file(rule);
        let place = picture.trim_start_matches("refuted/");
        let _ = write!(
            text,
            "\n## {rule}\n\n{}\n\n![{}]({place})\n\n{}\n\n{}\n",
            folded(&format!("{} {}", step(refuted), setting(refuted))),
            title(refuted),
            folded(&violated),
            folded(format!("{} {}", stopped(refuted), why(refuted)).trim_end()),
        );
        files.push((picture, svg(refuted) + "\n"));
    }
    files.insert(0, ("refuted/README.md".into(), text));
    files
}
