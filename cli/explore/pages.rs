//! The page of a path: the steps so far, what can happen next, what cannot and why, every property in that state.

use super::serve::is_cut;
use super::{SEARCHED, Shown};
use maud::{Markup, PreEscaped, html};
use pbft_models::browse::{Choice, Judged, View};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::progress;
use pbft_models::story::lessons::{id_of, named};
use pbft_models::story::page::{abbreviations, attack, body, document, letters, property, violation};
use pbft_models::story::standstill::section;
use pbft_models::story::{Story, StoryStep, in_words, name};
use std::path::PathBuf;

/// What a page is made of.
pub struct Page<'a> {
    pub shown: &'a Shown,
    pub rules: Rulebook,
    /// The path in the address.
    pub asked: &'a [String],
    /// The step that is shown at first.
    pub first: usize,
    /// Whether what would change nothing is listed.
    pub refused: bool,
    pub view: &'a View,
}

const SCRIPT: &str = "\
const find=document.getElementById('find');if(find)find.addEventListener('input',()=>{const words=find.value.toLowerCase().split(' ');\
document.querySelectorAll('.choices a').forEach(e=>{const text=e.textContent.toLowerCase();\
e.hidden=!words.every(word=>text.includes(word));});});\
document.querySelectorAll('select[name=rules]').forEach(e=>e.addEventListener('change',()=>e.form.submit()));";

/// The address of a path.
pub fn address(path: &[String], rules: Rulebook) -> String {
    format!("/at/{}?rules={}", path.join("."), rules.name().replace('+', "%2B"))
}

/// The page.
pub fn path(page: &Page<'_>) -> String {
    let more = html! {
        (standstill(page))
        (verdicts(page))
        (choices(page))
        (refused(page))
        (state(page))
    };
    document(
        &title(page.shown),
        &html! {
            (head(page))
            div.live { (body(&page.view.story, page.first, decisive(page), &more)) }
            script { (PreEscaped(SCRIPT)) }
        },
    )
}

fn title(shown: &Shown) -> String {
    match &shown.file {
        Some(file) => format!("PBFT: {}", file.display()),
        None => format!("PBFT: {}", shown.config.name()),
    }
}

fn by_rules(rules: Rulebook) -> String {
    match rules.without {
        None => "the paper's rules".into(),
        Some(mutant) => format!("the paper's rules without {}: {}", mutant.id(), mutant.lost()),
    }
}

fn head(page: &Page<'_>) -> Markup {
    let (shown, view) = (page.shown, page.view);
    let here = |path: &[String]| address(path, page.rules);
    let lesson = shown.lenient.and_then(|rules| named(id_of(rules.without)));
    html! {
        header {
            h1 {
                @if let Some(file) = &shown.file { "Counterexample " code { (file.display()) } } @else { "An execution" }
            }
            p { b { "Rules: " } (by_rules(page.rules)) "." span.soft { " The world: " (in_words(&shown.config)) " (" code { (shown.config.name()) } ")." } }
            @if let Some(lesson) = lesson {
                p { b { (view.story.heading()) ". " } (attack(&view.story, &lesson)) }
                p.safe { b { "Why the rule stops it. " } (lesson.why) }
            }
            (violation(&view.story))
            nav aria-label="Path" {
                a.button href=(here(&[])) { "start" } " "
                @if let Some((_, before)) = view.path.split_last() { a.button href=(here(before)) { "undo the last step" } " " }
                @if !shown.path.is_empty() { a.button href={ (here(&shown.path)) "&step=1" } { "the file's schedule" } " " }
                @if view.execution.is_some() {
                    a.button href={ "/file/" (view.path.join(".")) "?rules=" (page.rules.name().replace('+', "%2B")) } { "save as a counterexample" } " "
                }
                a.button href="/search" { "search" } " "
                a.button href="/attacks" { "who stops each attack" } " "
                form.inline method="get" action={ "/at/" (page.asked.join(".")) } {
                    label for="rules" { "The same schedule by" }
                    select id="rules" name="rules" {
                        option value="pbft" selected[page.rules.without.is_none()] { "the paper's rules" }
                        @for &mutant in Mutant::ALL {
                            option value=(mutant.id()) selected[page.rules.without == Some(mutant)] { "without " (mutant.id()) }
                        }
                    }
                    button type="submit" { "show" }
                }
            }
            @if !view.missed.is_empty() {
                p.safe {
                    "By these rules " (view.missed.len()) " of the " (page.asked.len()) " steps of the schedule cannot happen: "
                    (view.missed.iter().map(|(place, _)| place.to_string()).collect::<Vec<_>>().join(", ")) ". The others were taken."
                }
            }
            (letters(&view.story))
            details { summary { "The property, and what the letters mean" } (property(&view.story)) (abbreviations()) }
        }
    }
}

/// The first step that turns out otherwise with the rule: of the file's schedule, by the rules that it was
/// found by.
fn decisive(page: &Page<'_>) -> Option<usize> {
    let is_whole = page.view.path == page.shown.path && page.shown.lenient == Some(page.rules);
    page.shown.decisive.filter(|_| is_whole)
}

/// The end of a schedule after which a request never executes: by the rules of the file, or by others.
fn standstill(page: &Page<'_>) -> Markup {
    let at_its_end = page.asked == page.shown.path;
    html! {
        @if let Some(then) = page.shown.then.as_ref() {
            @if is_stuck(page) {
                (section(then, page.shown.path.len()))
            } @else if at_its_end && page.rules.without.is_none() {
                section.box.then id="then" aria-label="How it goes on with the rule" {
                    h2 { "How it goes on with the rule" }
                    p { (then.begins) }
                    p.safe { (then.with_rule) }
                }
            }
            p.box.soft id="lossless" {
                "This file is about a request that never executes once everything sent is lost. On this page nothing is ever lost: "
                "what can happen next is offered as if the network kept everything, and whether requests execute is judged for the "
                "end of the file's schedule alone."
            }
        }
    }
}

/// Whether this is the state from which, by the rules of the file, a request never executes.
fn is_stuck(page: &Page<'_>) -> bool {
    let is_whole = page.view.path == page.shown.path && page.shown.lenient == Some(page.rules);
    page.shown.then.is_some() && is_whole
}

/// Every property in the state that the path leads to.
fn verdicts(page: &Page<'_>) -> Markup {
    let violated: Vec<&Judged> = page.view.judged.iter().filter(|judged| judged.violated.is_some()).collect();
    let steps = page.view.story.steps.len();
    let after = if steps == 0 { "At the start".to_string() } else { format!("After step {steps}") };
    // Progress is no property of one state, and what is judged here is safety.
    let kept = match &page.shown.then {
        Some(_) => "no property of safety is violated in this state",
        None => "every property holds in this state",
    };
    html! {
        section.box id="properties" aria-label="Properties in this state" {
            h2 {
                (after) ": "
                @match violated.len() {
                    0 if is_stuck(page) => { span.violated { "a request never executes from here" } ", " (kept) }
                    0 => { span.safe { (kept) } }
                    count => { span.violated { (count) " of " (page.view.judged.len()) " properties violated in this state" } }
                }
            }
            p.soft { "This is about this one state. Other states were not looked at for it." }
            table {
                @for judged in &page.view.judged {
                    tr {
                        td { code { (judged.name) } }
                        td {
                            @match &judged.violated {
                                None if page.shown.then.is_some() => { span title=(judged.theorem) { "not violated here" } }
                                None => { span title=(judged.theorem) { "holds here" } }
                                Some(what) => { span.violated { "VIOLATED: " (what) } }
                            }
                        }
                    }
                }
                @if page.shown.then.is_some() {
                    tr {
                        td { code { (progress::NAME) } }
                        td {
                            @if is_stuck(page) { span.violated { "VIOLATED: once everything sent is lost, a request never executes" } }
                            @else { span title=(progress::THEOREM) { "not judged here" } }
                        }
                    }
                }
            }
        }
    }
}

fn choices(page: &Page<'_>) -> Markup {
    let all = &page.view.choices;
    let mut nodes: Vec<_> = all.iter().map(|choice| choice.step.node).collect();
    nodes.dedup();
    html! {
        section.box.choices aria-label="What can happen next" {
            h2 { "What can happen next: " (all.len()) " steps" }
            input type="search" id="find" placeholder="find: r2 COMMIT lie" aria-label="Find a step";
            @for node in nodes {
                @let here: Vec<&Choice> = all.iter().filter(|choice| choice.step.node == node).collect();
                details open[all.len() < 60 || here.len() < 20] {
                    summary { "at " (name(node)) ": " (here.len()) }
                    @for choice in here { (link(page, choice)) }
                }
            }
        }
    }
}

fn link(page: &Page<'_>, choice: &Choice) -> Markup {
    let step = &choice.step;
    let path = [&page.view.path[..], std::slice::from_ref(&choice.id)].concat();
    html! {
        a href=(address(&path, page.rules)) {
            span.lie[step.is_lie()].byzantine[step.byzantine.is_some() && !step.is_lie()] { (step.way()) " " (step.what) }
            @if let Some(found) = &choice.violated { " " span.violated { "violates " (found.property) } }
            (small(step))
        }
    }
}

/// What comes of a step, in a line.
fn small(step: &StoryStep) -> Markup {
    html! {
        @if step.is_lie() {
            small.lie { "lie: " (step.lies.join("; ")) }
        } @else if step.byzantine.is_some() {
            small.soft { "says what a correct replica could say" }
        }
        @if !step.does.is_empty() { small.soft { (name(step.node)) " " (step.does.join("; ")) } }
    }
}

/// What would change nothing, and why.
fn refused(page: &Page<'_>) -> Markup {
    let query = address(&page.view.path, page.rules) + "&refused=1";
    html! {
        section.box id="refused" aria-label="What would change nothing" {
            h2 { "Why not something else?" }
            @if !page.refused {
                p { (page.view.idle) " messages and time-outs would change nothing here. " a href={ (query) "#refused" } { "Which, and why?" } }
            } @else {
                ul.plain.soft {
                    @for refused in &page.view.refused {
                        li {
                            (refused.step.way()) " " (refused.step.what) ": " (refused.why)
                        }
                    }
                }
            }
        }
    }
}

fn state(page: &Page<'_>) -> Markup {
    html! {
        section.box aria-label="The state of every node" {
            details { summary { "The state of every node" } pre style="overflow:auto;font-size:12px" { (page.view.state) } }
        }
    }
}

/// Every stored attack, and who stops it by the paper's rules.
pub fn attacks(all: &[(PathBuf, Result<Story, String>)]) -> String {
    document(
        "PBFT: who stops each attack",
        &html! {
            header {
                h1 { "Who stops each attack" }
                p {
                    "Each stored counterexample once more, in its own world, with every rule in place: the first step that turns out "
                    "otherwise, and who makes it do so. That these " (all.len()) " do no harm says nothing of others; `pbft check` does."
                }
                p { a href="/" { "back to the path" } }
            }
            section.box style="margin:12px" aria-label="Attacks" {
                table {
                    @for (path, story) in all {
                        tr {
                            td { code { (path.file_stem().unwrap_or_default().to_string_lossy()) } }
                            td {
                                @match story {
                                    Err(why) => { span.violated { "cannot be replayed: " (why) } }
                                    Ok(story) => {
                                        span.soft { (in_words(&story.config)) ". " }
                                        (story.ending.as_deref().unwrap_or("Nothing turns out otherwise."))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}

/// What stateright's search has covered, and what that says.
pub fn search(shown: &Shown, status: &serde_json::Value) -> String {
    let number = |what: &str| status[what].as_u64().unwrap_or_default();
    let (states, depth, done) = (number("unique_state_count"), number("max_depth"), status["done"] == true);
    let begun = done || depth > 1;
    let cut = is_cut(status);
    let none = Vec::new();
    let properties = status["properties"].as_array().unwrap_or(&none);
    // A search also ends when every property has been violated.
    let cut = cut || properties.iter().all(|property| property[2].is_string());
    let verdict = |found: bool| match (found, begun, done && !cut) {
        (true, ..) => "VIOLATED",
        (_, false, _) => "unknown: nothing has been searched",
        (.., true) => "holds in every state: the search came to its end",
        _ => "unknown: the search was cut short",
    };
    document(
        "PBFT: search",
        &html! {
            header {
                h1 { "Search from the start, one delivery at a time" }
                p { "The world: " (in_words(&shown.config)) ". Rules: " (by_rules(shown.config.rules)) "." }
                p id="covered" {
                    @if status.is_null() {
                        "stateright's Explorer does not answer: nothing is known."
                    } @else if !begun {
                        "Nothing has been searched yet."
                    } @else if cut {
                        "Covered: " (states) " states, to depth " (depth) ", where the search was cut short. It says nothing about the states beyond: "
                        b { "not exhausted" } ". `pbft check` is what exhausts worlds."
                    } @else if done {
                        "Covered: all " (states) " states, to depth " (depth) ": exhausted."
                    } @else {
                        "Covered so far: " (states) " states, to depth " (depth) "; the search goes on."
                    }
                }
                form method="post" action="/search" { button type="submit" { "search up to " (SEARCHED) " states" } }
                p { a href="/" { "back to the path" } }
            }
            section.box style="margin:12px" aria-label="Properties in what was searched" {
                @if shown.then.is_some() {
                    p.soft { "These are properties of safety. Whether requests execute, which this file is about, is not among them." }
                }
                table {
                    @for property in properties {
                        tr {
                            td { code { (property[1].as_str().unwrap_or_default()) } }
                            td { (verdict(property[2].is_string())) }
                        }
                    }
                }
            }
        },
    )
}
