//! All counterexamples as one site, and as a page of Markdown.

use super::lessons::{Lesson, SECTIONS, consequence, heading, lesson, method};
use super::page::{Place, document, page_at};
use super::{Standstill, Story, refuted, svg};
use crate::matrix::{Evidence, Row};
use maud::{Markup, html};
use pbft_properties::proof::Refuted;
use std::fmt::Write;

/// What is shown of a safeguard.
pub struct Exhibit {
    /// The safeguard.
    pub row: Row,
    /// The story of its counterexample; none if no world shows it.
    pub story: Option<Story>,
    /// The story of an execution that goes on past the first violation, to one that hurts somebody; none if
    /// none is stored.
    pub consequence: Option<Story>,
}

/// A file of the site: its name, and its text.
pub type File = (String, String);

impl Exhibit {
    fn lesson(&self) -> Option<Lesson> {
        lesson(&self.row)
    }

    /// The name of its page.
    fn file(&self) -> String {
        format!("{}.html", file_name(self.row.id()))
    }

    /// The name of the page of its consequence.
    fn further(&self) -> String {
        format!("{}-consequence.html", file_name(self.row.id()))
    }
}

/// The name of a safeguard as part of a file's name in any system and address.
pub fn file_name(id: &str) -> String {
    id.replace('+', "-plus-")
}

/// A section of the paper, what it is about, and what is shown of it.
type Section<'a> = (&'static str, &'static str, Vec<(&'a Exhibit, Lesson)>);

/// Those with a story, by section of the paper.
fn by_section(exhibits: &[Exhibit]) -> Vec<Section<'_>> {
    let of = |section: &str| {
        let shown = exhibits.iter().filter(|exhibit| exhibit.story.is_some());
        let shown = shown.filter_map(|exhibit| exhibit.lesson().map(|lesson| (exhibit, lesson)));
        shown.filter(|(_, lesson)| lesson.section == section).collect()
    };
    SECTIONS.iter().map(|&(section, title)| (section, title, of(section))).collect()
}

/// Why a safeguard has no counterexample.
pub fn reason(row: &Row) -> String {
    match &row.evidence {
        Evidence::Killed(_) | Evidence::Stuck(_) => String::new(),
        Evidence::NotASafeguard { world, serves_progress, why } => format!(
            "no property of safety breaks without it, in the world {} exhausted{}: {why}",
            world.name(),
            if *serves_progress { ", and every request executes from each of its states" } else { "" },
        ),
        Evidence::SimulationOnly(why) => format!("only simulation shows it: {why}"),
    }
}

/// The site: an index by section of the paper, a page for each counterexample, and one of what the proof refutes.
/// `source` is where the source of this program is, as a prefix of links.
pub fn site(exhibits: &[Exhibit], proof: &[Refuted], source: Option<&str>) -> Vec<File> {
    let order: Vec<&Exhibit> =
        by_section(exhibits).into_iter().flat_map(|(.., shown)| shown).map(|(exhibit, _)| exhibit).collect();
    let named = |exhibit: &&Exhibit| (exhibit.file(), exhibit.row.id().to_string());
    let mut files = vec![("index.html".to_string(), index(exhibits))];
    for (at, exhibit) in order.iter().enumerate() {
        let Some(story) = &exhibit.story else { continue };
        let place = Place {
            before: at.checked_sub(1).and_then(|at| order.get(at)).map(named),
            after: order.get(at + 1).map(named),
            further: exhibit.consequence.is_some().then(|| exhibit.further()),
            proof: picture_of(proof, exhibit.row.id()),
            index: Some("index.html".into()),
            source: source.map(|source| source.trim_end_matches('/').to_string()),
        };
        files.push((exhibit.file(), page_at(story, &place)));
        if let Some(story) = &exhibit.consequence {
            let before = Some((exhibit.file(), format!("the first violation without {}", exhibit.row.id())));
            files.push((
                exhibit.further(),
                page_at(story, &Place { before, after: None, further: None, proof: None, ..place }),
            ));
        }
    }
    let page_of =
        |rule: &str| order.iter().find(|exhibit| exhibit.row.id() == rule).map(|exhibit| exhibit.file());
    files.push((refuted::PAGE.into(), refuted::page(proof, &page_of)));
    files
}

/// Where the site has the picture of what the proof refutes without a rule, if it has one.
fn picture_of(proof: &[Refuted], rule: &str) -> Option<String> {
    let is_there = proof.iter().any(|refuted| refuted.stored.rule == rule);
    is_there.then(|| format!("{}#{}", refuted::PAGE, file_name(rule)))
}

fn index(exhibits: &[Exhibit]) -> String {
    let without: Vec<&Exhibit> = exhibits.iter().filter(|exhibit| exhibit.story.is_none()).collect();
    let shown = exhibits.len() - without.len();
    document(
        "PBFT: why each rule is there",
        &html! {
            header {
                h1 { "Why each rule of PBFT is there" }
                p {
                    "Each of these " (shown) " executions was found by exploring the replica that runs in production with one "
                    "of its rules switched off, step by step on whole replicas, and ends in a violated property, or in a state "
                    "from which a request never executes once everything sent is lost. With the rule back, the same schedule "
                    "does no harm."
                }
                p { a href=(refuted::PAGE) { "Refuted by the proof" } ": for each rule the step that breaks an invariant without it." }
            }
            div.sections {
                @for (section, title, shown) in by_section(exhibits) {
                    section.box style="margin:12px" {
                        h2 { (heading(section, title)) }
                        @for (exhibit, lesson) in shown { (card(exhibit, &lesson)) }
                    }
                }
                section.box style="margin:12px" {
                    h2 { "Rules without a counterexample" }
                    ul {
                        @for exhibit in without {
                            li {
                                b { (exhibit.row.id()) } ": " (exhibit.row.lost()) ". No counterexample: " (reason(&exhibit.row)) "."
                                @if let Some(method) = method(exhibit.row.mutant) { " " code { "Rules::" (method) } }
                            }
                        }
                    }
                }
            }
        },
    )
}

fn card(exhibit: &Exhibit, lesson: &Lesson) -> Markup {
    html! {
        article style="margin:10px 0" {
            h3 { a href=(exhibit.file()) { (lesson.id) } }
            p style="margin:2px 0" { (lesson.attack) }
            p.safe style="margin:2px 0" { (lesson.why) }
            @if let Some(story) = &exhibit.story { p.soft style="margin:2px 0" { (ends(story)) } }
            @if let Some((story, told)) = exhibit.consequence.as_ref().zip(exhibit.row.mutant.and_then(consequence)) {
                p style="margin:2px 0" { a href=(exhibit.further()) { "What it leads to" } ". " (told) }
                p.soft style="margin:2px 0" { (ends(story)) }
            }
        }
    }
}

fn steps(story: &Story) -> String {
    match story.steps.len() {
        0 => "no step".into(),
        1 => "1 step".into(),
        steps => format!("{steps} steps"),
    }
}

/// How many steps it takes, and what comes of them.
fn ends(story: &Story) -> String {
    match &story.then {
        None => format!("{}; {} is violated", steps(story), violated(story)),
        Some(_) => format!("{}; then a request never executes", steps(story)),
    }
}

/// The property that a story ends with violating.
fn violated(story: &Story) -> &'static str {
    story.violation.as_ref().map_or("", |violation| violation.property)
}

/// The page of Markdown that stands beside the stored counterexamples, and the diagrams that it shows.
pub fn markdown(exhibits: &[Exhibit]) -> Vec<File> {
    let mut text = String::from(
        "# Why each rule of PBFT is there\n\n\
         Each execution here was found by exploring the replica that runs in production with one of its rules switched\n\
         off, and ends in a violated property, or in a state from which a request never executes once everything sent is\n\
         lost; with the rule back, the same schedule does no harm. `pbft gallery` writes this page, and a site with a page\n\
         per counterexample, every step of it beside the same step with the rule.\n\n\
         ```\n\
         cargo run --release -- replay counterexamples/commit-quorum.json\n\
         cargo run --release -- explore counterexamples/commit-quorum.json\n\
         cargo run --release -- gallery DIR\n\
         ```\n\n\
         [Refuted by the proof](refuted/README.md): for each rule of the abstract protocol the step that breaks an invariant\n\
         without it.\n",
    );
    let mut files = Vec::new();
    for (section, title, shown) in by_section(exhibits) {
        let _ = write!(text, "\n## {}\n", heading(section, title));
        for (exhibit, lesson) in shown {
            let Some(story) = &exhibit.story else { continue };
            let _ = write!(
                text,
                "\n### {}\n\n{}\n\n{}\n\n",
                lesson.id,
                folded(lesson.attack),
                folded(lesson.why)
            );
            let rule = match &lesson.method {
                Some(method) => format!(
                    "rule [`{method}`](../src/rules.rs), clause and test in [PAPER](../docs/PAPER.md)"
                ),
                None => "a bound of the model, no rule of a replica".into(),
            };
            let file = exhibit.row.file().unwrap_or_default();
            let _ = write!(text, "[{file}]({file}): {}, `{}`; {rule}.\n\n", steps(story), violated(story));
            match &story.then {
                None => files.push(drawn(&mut text, story, file_name(lesson.id))),
                Some(then) => lasting(&mut text, then),
            }
            files.extend(further(&mut text, exhibit));
        }
    }
    text.push_str("\n## Rules without a counterexample\n\n");
    for exhibit in exhibits.iter().filter(|exhibit| exhibit.story.is_none()) {
        let item = format!(
            "- **{}**: {}. No counterexample: {}.",
            exhibit.row.id(),
            exhibit.row.lost(),
            reason(&exhibit.row)
        );
        let _ = writeln!(text, "{}", folded(&item).replace('\n', "\n  "));
    }
    files.insert(0, ("README.md".into(), text));
    files
}

/// Writes what the first violation leads to, if that is stored; its diagram.
fn further(text: &mut String, exhibit: &Exhibit) -> Option<File> {
    let (story, told) = exhibit.consequence.as_ref().zip(exhibit.row.mutant.and_then(consequence))?;
    let file = format!("consequences/{}.json", exhibit.row.id());
    let _ = write!(text, "\n{}\n\n", folded(&format!("What it leads to: {told}")));
    let _ = write!(text, "[{file}]({file}): {}, `{}`.\n\n", steps(story), violated(story));
    Some(drawn(text, story, format!("{}-consequence", file_name(exhibit.row.id()))))
}

/// Writes a link to the diagram of a story; the diagram.
fn drawn(text: &mut String, story: &Story, name: String) -> File {
    let diagram = format!("diagrams/{name}.svg");
    let _ = write!(
        text,
        "<details><summary>diagram</summary>\n\n![{}]({diagram})\n\n</details>\n",
        story.title()
    );
    (diagram, svg(story) + "\n")
}

/// Writes why a request never executes: of such a story not the steps are what matters.
fn lasting(text: &mut String, then: &Standstill) {
    let why = then.why.iter().map(|line| format!("    {line}\n")).collect::<String>();
    let (begins, ending) = (folded(&then.begins), folded(&format!("{} {}", then.ending, with_rule(then))));
    let _ = write!(
        text,
        "<details><summary>why it stays there</summary>\n\n{begins} {}:\n\n{why}\n{ending}\n\n</details>\n",
        then.heading
    );
}

fn with_rule(then: &Standstill) -> String {
    format!("With the rule: {}", then.with_rule)
}

/// In lines of at most 118 characters.
pub(super) fn folded(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 118 {
            lines.push(word.into());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}
