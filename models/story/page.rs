//! A counterexample as a page of its own: the diagram, and beside it what the step chosen changes. It needs no server and
//! loads nothing.

use super::{Story, Told, name, svg};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = "\
body{font-family:system-ui,sans-serif;margin:0;color:#1f2937;background:#f9fafb;font-size:14px}\
header{padding:10px 16px;background:#fff;border-bottom:1px solid #e5e7eb}h1{font-size:18px;margin:0 0 4px}\
header p{margin:2px 0}.violated{color:#b91c1c;font-weight:600}.safe{color:#15803d}\
.letters{color:#6b7280;font-size:13px}.letters span{margin-right:1.2em}main{display:flex;align-items:flex-start;gap:12px;padding:8px}\
.diagram{flex:1 1 auto;min-width:0;background:#fff;border:1px solid #e5e7eb;border-radius:6px}\
.diagram svg{display:block;width:100%;height:auto}.diagram .step{cursor:pointer}\
aside{flex:0 0 290px;position:sticky;top:8px;max-height:96vh;overflow:auto;background:#fff;border:1px solid #e5e7eb;\
border-radius:6px;padding:8px 12px;font-size:13px}\
aside section{display:none}aside section.chosen{display:block}aside h2{font-size:15px;margin:4px 0}aside h3{font-size:13px;\
margin:10px 0 2px;color:#6b7280}aside ul{margin:0;padding-left:18px}.byzantine{color:#b91c1c;font-style:italic}\
.quorum{color:#15803d;font-weight:600}del{color:#9ca3af}ins{text-decoration:none;font-weight:600}\
nav{display:flex;gap:6px}button{font:inherit;padding:2px 10px}";

const SCRIPT: &str = "\
const steps=[...document.querySelectorAll('.diagram .step')];let at=0;\
function choose(n,scroll){at=Math.max(1,Math.min(steps.length,n));\
document.querySelectorAll('.chosen').forEach(e=>e.classList.remove('chosen'));\
document.querySelectorAll('[data-step=\"'+at+'\"]').forEach(e=>e.classList.add('chosen'));\
if(scroll)steps[at-1].scrollIntoView({block:'nearest'});}\
steps.forEach(e=>e.addEventListener('click',()=>choose(Number(e.dataset.step),false)));\
document.getElementById('back').addEventListener('click',()=>choose(at-1,true));\
document.getElementById('forward').addEventListener('click',()=>choose(at+1,true));\
document.addEventListener('keydown',e=>{if(e.key==='ArrowUp'||e.key==='ArrowLeft'){choose(at-1,true);e.preventDefault();}\
if(e.key==='ArrowDown'||e.key==='ArrowRight'){choose(at+1,true);e.preventDefault();}});\
if(steps.length)choose(steps.length,false);";

/// The page.
pub fn page(story: &Story) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (story.title()) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(story))
                main {
                    div.diagram { (PreEscaped(svg(story))) }
                    aside {
                        nav { button id="back" { "back" } button id="forward" { "forward" } }
                        @for step in &story.steps { (details(step)) }
                    }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn head(story: &Story) -> Markup {
    let violation = story.steps.last().and_then(|step| step.violated.as_deref());
    html! {
        header {
            h1 { (story.title()) }
            @if let Some(violation) = violation { p.violated { "Violated: " (violation) } }
            @if let Some(theorem) = story.theorem() { p { "What should hold: " (theorem) } }
            @if let Some(ending) = &story.ending { p.safe { "With the safeguard: " (ending) } }
            p.letters {
                @for (letter, what) in story.names.listed() { span { b { (letter) } " = " (what) } }
                span { "Red: sent by a Byzantine replica." }
                span { "Bands: views, hatched while leaving." }
                span { "Click a step for what it changes." }
                span { "World " (story.config.name()) }
            }
        }
    }
}

fn details(step: &Told) -> Markup {
    html! {
        section data-step=(step.number) {
            h2 { "Step " (step.number) ": " (step.way()) }
            p { (step.what) }
            @if let Some(how) = &step.byzantine { p.byzantine { (how) } }
            @if let Some(what) = &step.violated { p.violated { "Violated: " (what) } }
            (listed(&format!("What {} does", name(step.node)), &step.does))
            @if !step.quorums.is_empty() {
                h3 { "Quorum complete" }
                ul { @for quorum in &step.quorums { li.quorum { (quorum) } } }
            }
            (listed("Sends", &step.sends))
            @if !step.changes.is_empty() {
                h3 { "State of " (name(step.node)) }
                ul { @for (what, before, after) in &step.changes { li { (what) ": " del { (before) } " → " ins { (after) } } } }
            }
            @if let Some(restored) = &step.restored { h3 { "With the safeguard" } p.safe { (restored) } }
        }
    }
}

fn listed(head: &str, items: &[String]) -> Markup {
    html! {
        @if !items.is_empty() {
            h3 { (head) }
            ul { @for item in items { li { (item) } } }
        }
    }
}
