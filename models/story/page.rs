//! A counterexample as a page of its own. It needs no server and loads nothing.
//!
//! The text is an ordered list of steps, each beside the same step by the paper's rules; that is what a
//! reader without a script, a screen reader and a printer get. With a script one step is shown at a time, and
//! the diagram beside it is what one clicks at.

use super::lessons::{Lesson, consequence, id_of, named};
use super::production::Range;
use super::standstill::section;
use super::style::{SCRIPT, STYLE};
use super::{How, Story, StoryStep, Tally, name, svg, svg_narrow};
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Where a page stands among others.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The pages before and after it, each with its name.
    pub before: Option<(String, String)>,
    /// The page after it.
    pub after: Option<(String, String)>,
    /// The page of what the first violation leads to.
    pub further: Option<String>,
    /// Where the proof refutes the same rule.
    pub proof: Option<String>,
    /// The page that lists all.
    pub index: Option<String>,
    /// Where the source of this program is, as a prefix of links.
    pub source: Option<String>,
}

/// The page of a story, by itself.
pub fn page(story: &Story) -> String {
    page_at(story, &Place::default())
}

/// The page of a story among others.
pub fn page_at(story: &Story, place: &Place) -> String {
    let decisive = story.first_difference().map(|step| step.number);
    document(&story.title(), &html! { (head(story, place)) (body(story, 1, decisive, &html! {})) })
}

/// A whole document around this, with the style of all pages.
pub fn document(title: &str, inside: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (inside) script { (PreEscaped(SCRIPT)) } }
        }
    };
    page.into_string()
}

/// The diagram, and beside it the steps, of which the script shows `first`, and whatever else goes there.
///
/// `decisive` is the first step that turns out otherwise with the rule, if that is known.
pub fn body(story: &Story, first: usize, decisive: Option<usize>, more: &Markup) -> Markup {
    let last = story.steps.len();
    html! {
        main {
            div.diagram.box aria-hidden="true" {
                (legend(story))
                div.wide { (PreEscaped(svg(story))) }
                div.narrow { (PreEscaped(svg_narrow(story))) }
            }
            div.side { @if last > 0 { section.told.box data-first=(first) aria-label="Steps" {
                div.ways {
                    (jumps(story, decisive))
                    nav.steps aria-label="Choose a step" {
                        button.script id="back" type="button" { "back" }
                        input id="slider" type="range" min="1" max=(last) value="1" aria-label="Step";
                        button.script id="forward" type="button" { "forward" }
                        button.script id="all" type="button" aria-pressed="false" { "all steps" }
                    }
                }
                ol.steps aria-live="polite" {
                    @for step in &story.steps { (item(story, step)) }
                }
            } }
            @if let Some(then) = &story.then { (section(then, last)) }
            (more)
            }
        }
    }
}

/// A property as the journals of a cluster were judged by it: its name, how it is violated, and whether
/// nothing was judged.
pub type Verdict = (&'static str, Option<String>, bool);

/// The page of what a cluster has done by its journals.
pub fn of_production(
    story: &Story,
    verdicts: &[Verdict],
    notes: &[String],
    (range, beyond): (&Range, usize),
) -> String {
    let (first, last) = (range.numbers.start(), range.numbers.end());
    let without: Vec<String> =
        story.config.byzantine.iter().map(|replica| format!("r{}", replica.0)).collect();
    let head = html! {
        header {
            h1 { "A cluster by its journals" }
            p {
                (story.config.cluster.n()) " replicas, of which f = " (story.config.cluster.f()) " may be faulty"
                @if !without.is_empty() { "; without a journal: " (without.join(", ")) }
                ". A journal has no clock: this is one order in which it may have happened, in which nothing arrives before it was sent."
            }
            p id="range" {
                "Sequence numbers " (first) " to " @if *last == u64::MAX { "the last" } @else { (last) } ", and every view change: "
                (story.steps.len()) " steps"
                @if beyond > 0 { "; " (beyond) " more are not shown: give --numbers" }
                "."
            }
            @for note in notes { p.violated { (note) } }
            table id="properties" {
                @for (name, violated, is_unknown) in verdicts {
                    tr {
                        td { code { (name) } }
                        td {
                            @match (violated, is_unknown) {
                                (Some(what), _) => { span.violated { "VIOLATED: " (what) } }
                                (None, true) => { "not judged" }
                                (None, false) => { "holds" }
                            }
                        }
                    }
                }
            }
        }
    };
    document("PBFT: journals", &html! { (head) (body(story, 1, None, &html! {})) })
}

fn head(story: &Story, place: &Place) -> Markup {
    let lesson = story.violation.as_ref().and_then(|_| named(id_of(story.config.rules.without)));
    html! {
        header {
            (siblings(place))
            h1 { (story.title()) }
            @if let Some(lesson) = &lesson {
                p { b { (story.heading()) ". " } (attack(story, lesson)) }
                p.safe { b { "Why the rule stops it. " } (lesson.why) }
            }
            (violation(story))
            (letters(story))
            details {
                summary { "The property, the rule and the world" }
                (property(story))
                @if let Some(meeting) = &story.meeting { p.quorum { b { "Where the quorums meet. " } (meeting) } }
                @if let Some(ending) = &story.ending { p.safe { b { "The same schedule with the rule. " } (ending) } }
                @if let Some(lesson) = &lesson { p { b { "Where the rule is. " } (rule(lesson, place)) } }
                p { b { "The world. " } (story.world()) " (" code { (story.config.name()) } ")." }
                (abbreviations())
            }
        }
    }
}

/// The attack: the one that goes on past the first violation, if the story does.
pub fn attack(story: &Story, lesson: &Lesson) -> &'static str {
    let further = story.config.rules.without.filter(|_| story.goes_past()).and_then(consequence);
    further.unwrap_or(lesson.attack)
}

/// What is violated at the end, if anything is.
pub fn violation(story: &Story) -> Markup {
    let last = story.steps.last().and_then(|step| Some((step.number, step.violated.as_deref()?)));
    html! {
        @if let Some((number, what)) = last { p.violated { "Step " (number) " violates " (what) } }
        @if let Some(then) = &story.then { p.violated { (then.ending) " " a href="#then" { "Why it stays there" } } }
    }
}

/// What the property says that is violated, if one is.
pub fn property(story: &Story) -> Markup {
    html! {
        @if let (Some(violation), Some(theorem)) = (&story.violation, story.theorem()) {
            p { b { "The property " code { (violation.property) } ". " } (theorem) }
        }
    }
}

/// Links to the steps that matter, which keys lead to as well. Among the lies the one that the rule stops comes
/// first.
fn jumps(story: &Story, decisive: Option<usize>) -> Markup {
    let numbers = |chosen: &dyn Fn(&StoryStep) -> bool| -> Vec<String> {
        story.steps.iter().filter(|step| chosen(step)).map(|step| step.number.to_string()).collect()
    };
    let mut lies = numbers(&StoryStep::is_lie);
    let stopped = decisive.and_then(|number| lies.iter().position(|lie| *lie == number.to_string()));
    lies.rotate_left(stopped.unwrap_or_default());
    let targets = [
        ("l", if lies.len() == 1 { "go to the lie" } else { "go to the lies" }, lies),
        ("d", "go to the step that the rule changes", numbers(&|step| Some(step.number) == decisive)),
        ("v", "go to the violation", numbers(&|step| step.violated.is_some())),
    ];
    html! {
        nav.jumps aria-label="Steps that matter" {
            @for (key, what, steps) in &targets {
                @if let Some(first) = steps.first() {
                    a.button.jump href={ "#step-" (first) } data-steps=(steps.join(" ")) data-key=(key) aria-keyshortcuts=(key) {
                        (what) " (" (in_turn(steps)) ")"
                    }
                }
            }
            span.soft {
                "Keys: "
                @for (key, _, steps) in &targets { @if !steps.is_empty() { kbd { (key) } " " } }
                "as these, " kbd { "←" } " " kbd { "→" } " or " kbd { "k" } " " kbd { "j" } " one step"
            }
        }
    }
}

/// The numbers of steps, in the order in which one comes to them: `18, then 3, 4`.
fn in_turn(steps: &[String]) -> String {
    match steps {
        [first, others @ ..] if others.first().is_some_and(|next| number(next) < number(first)) => {
            format!("{first}, then {}", others.join(", "))
        }
        _ => steps.join(", "),
    }
}

fn number(step: &str) -> usize {
    step.parse().unwrap_or_default()
}

fn siblings(place: &Place) -> Markup {
    html! {
        @if place.index.is_some() {
            nav aria-label="Counterexamples" {
                @if let Some((file, id)) = &place.before { a rel="prev" href=(file) { "← " (id) } " · " }
                @if let Some(index) = &place.index { a href=(index) { "all counterexamples" } }
                @if let Some(file) = &place.further { " · " a href=(file) { "what this leads to" } }
                @if let Some(file) = &place.proof { " · " a href=(file) { "refuted by the proof" } }
                @if let Some((file, id)) = &place.after { " · " a rel="next" href=(file) { (id) " →" } }
            }
        }
    }
}

/// Where the rule is: in the paper, in the source, and what takes it away.
fn rule(lesson: &Lesson, place: &Place) -> Markup {
    let link = |path: &str, text: &str| match &place.source {
        Some(source) => html! { a href={ (source) "/" (path) } { code { (text) } } },
        None => html! { code { (text) } " in " (path) },
    };
    html! {
        (lesson.source())
        @if let Some(method) = &lesson.method {
            "; the rule: " (link("src/rules.rs", &format!("Rules::{method}")))
            "; switched off: " (link("models/mutants.rs", lesson.id))
            "; clause and test: " (link("docs/PAPER.md", method))
        }
    }
}

/// What digests are called, those that the page speaks of.
pub fn letters(story: &Story) -> Markup {
    html! { dl { @for (letter, what) in story.letters() { div { dt { (letter) } dd { (what) } } } } }
}

/// What letters other than those of digests stand for.
pub fn abbreviations() -> Markup {
    html! {
        p.soft {
            "v: view, n: sequence number, d: digest, t: a client's timestamp, h: stable checkpoint, P: what prepared, V and O: "
            "the VIEW-CHANGEs and PRE-PREPAREs of a NEW-VIEW. Whatever a replica sends to all, somebody Byzantine may have "
            "received. A quorum beside the diagram, chosen, lights up the arrows of its votes."
        }
    }
}

/// What the lines of the diagram mean.
fn legend(story: &Story) -> Markup {
    let line = |class: &str, origin: Markup| {
        html! {
            svg.d width="46" height="12" viewBox="0 0 46 12" {
                g class=(class) { line.arrow x1="8" x2="38" y1="6" y2="6" {} path.tip d="M46 6L38 1L38 11Z" {} (origin) }
            }
        }
    };
    let cross = html! { path.origin d="M3 1l10 10m0 -10l-10 10" {} };
    let ring = html! { circle.origin cx="8" cy="6" r="4" {} };
    html! {
        div.legend {
            span { (line("", html! {})) "correct" }
            @if !story.config.byzantine.is_empty() || story.steps.iter().any(|step| step.byzantine.is_some()) {
                span { (line("bad", cross)) "lie: no correct replica in its place would send it" }
                span { (line("odd", ring)) (story.mark) ", as a correct one could send it" }
            }
            @if story.steps.iter().any(|step| !step.unheard.is_empty()) {
                span {
                    svg.d width="26" height="12" viewBox="0 0 26 12" {
                        g.unheard { path d="M0 2l22 5" {} circle cx="24" cy="7" r="2" {} }
                    }
                    "no correct node receives it"
                }
            }
            @if story.steps.iter().flat_map(|step| &step.unheard).any(|unheard| unheard.used.is_some()) {
                span {
                    svg.d width="40" height="12" viewBox="0 0 40 12" {
                        g.unheard { path d="M0 4L34 7" {} path.head-of d="M40 7L34 4L34 10Z" {} }
                    }
                    "only a Byzantine replica receives it, and uses it later"
                }
            }
            span.quorum { "complete quorum" }
            span { "bands: views; hatched: leaving" }
        }
    }
}

fn item(story: &Story, step: &StoryStep) -> Markup {
    let is_first = story.first_difference().is_some_and(|first| first.number == step.number);
    html! {
        li id={ "step-" (step.number) } data-step=(step.number) tabindex="0" {
            h3 {
                "Step " (step.number) ": " (step.way().trim()) " " (step.what)
            }
            (said(step))
            @match &step.safely {
                None => { (outcome(step)) }
                Some(safely) => {
                    div.sides.first[is_first] {
                        div { h4 { "Without the rule" } (outcome(step)) }
                        div.same[safely.how == How::Same] {
                            h4 { "With the rule" }
                            @match safely.how {
                                How::Same => { p { "The same." } }
                                _ => { p.safe { (safely.why) } }
                            }
                            @if let Some(step) = safely.step.as_ref().filter(|_| safely.how == How::Otherwise) {
                                (outcome(step))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What the message says, and what is false in it.
fn said(step: &StoryStep) -> Markup {
    html! {
        @if let Some(how) = &step.byzantine {
            @if step.lies.len() < 2 { p.lie[step.is_lie()].byzantine[!step.is_lie()] { (how) } }
        }
        @if step.lies.len() > 1 {
            ul.lie { @for lie in &step.lies { li { "lie: " (lie) } } }
        }
        @if !step.contents.is_empty() {
            ul.plain.soft { @for line in &step.contents { li { code { (line) } } } }
        }
    }
}

fn outcome(step: &StoryStep) -> Markup {
    html! {
        @if let Some(why) = &step.refused { p { (name(step.node)) " drops it: " (why) "." } }
        @if !step.does.is_empty() {
            ul { @for done in &step.does { li { (name(step.node)) " " (done) } } }
        }
        (tallies(step))
        @if !step.decided.is_empty() {
            h4 { "What decides O" }
            ul.decided { @for why in &step.decided { li { (why) } } }
        }
        @if !step.sends.is_empty() {
            h4 { "Sends" }
            ul { @for sent in &step.sends { li { (sent) } } }
        }
        @if !step.unheard.is_empty() {
            p.soft { @for unheard in &step.unheard { (unheard.in_words()) ". " } }
        }
        @if !step.changes.is_empty() {
            h4 { "State of " (name(step.node)) }
            ul {
                @for (what, before, after) in &step.changes {
                    li { (what) ": " del { (before) } " → " ins { (after) } }
                }
            }
        }
        @if let Some(what) = &step.violated { p.violated { "Violated: " (what) } }
    }
}

fn tallies(step: &StoryStep) -> Markup {
    html! { @for tally in &step.tallies { (cells(tally)) } }
}

/// A quorum as cells: whose votes count, how many are missing, and which do not count.
fn cells(tally: &Tally) -> Markup {
    let votes: Vec<String> = tally
        .votes
        .iter()
        .filter(|vote| vote.counts)
        .filter_map(|vote| vote.step)
        .map(|n| n.to_string())
        .collect();
    let missing = tally.needed.saturating_sub(tally.have());
    html! {
        button.tally.complete[tally.is_complete()] type="button" data-votes=(votes.join(" ")) title=(tally.in_words()) {
            span.cells {
                @for vote in tally.votes.iter().filter(|vote| vote.counts) { span.cell.has { (vote.who) } " " }
                @for _ in 0..missing { span.cell.lacks { "?" } " " }
                @for vote in tally.votes.iter().filter(|vote| !vote.counts) { span.cell.not { (vote.who) } " " }
            }
            (tally.what) ": " (tally.counted())
            @if tally.is_complete() { ", complete" }
        }
    }
}
