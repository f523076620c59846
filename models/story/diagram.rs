//! An execution as a sequence diagram: a lane for each node, time from top to bottom, and a row for each step.
//!
//! The band behind a lane is the view that the replica is in, hatched while it is leaving it. An arrow stands where its
//! message arrives. Beside the lanes stands what comes of each step.

use super::{Story, Told, name, primary};
use maud::{Markup, html};
use pbft::types::{Principal, View};

const LANE: usize = 118;
const LEFT: usize = 30;
const TOP: usize = 58;
const ROW: usize = 40;
const BAND: usize = 34;
/// Lines of notes that fit in a row.
const MOST_NOTES: usize = 3;
/// Colours of views 0, 1, 2 and so on, from the first again.
const VIEWS: &[&str] = &["#dbeafe", "#dcfce7", "#fef3c7", "#fae8ff"];

const STYLE: &str = "\
.d{font-family:system-ui,sans-serif;font-size:12px;fill:#1f2937}\
.d .lane{stroke:#9ca3af;stroke-width:1}.d .head{font-weight:700;font-size:14px}.d .small{font-size:11px;fill:#6b7280}\
.d .arrow{stroke:#374151;stroke-width:1.6;fill:none}.d .bad .arrow{stroke:#dc2626;stroke-dasharray:6 3}\
.d .tip{fill:#374151}.d .bad .tip{fill:#dc2626}\
.d .label{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round;font-weight:600}\
.d .bad .label{fill:#b91c1c}.d .lie{fill:#b91c1c;font-style:italic}\
.d .quorum{fill:#15803d;font-weight:600}.d .violated{fill:#b91c1c;font-weight:700}\
.d .violation-row{fill:#fee2e2}.d .row{fill:#000;fill-opacity:0}.d .step:hover .row{fill-opacity:.05}\
.d .chosen .row{fill-opacity:.08}.d .number{fill:#6b7280}";

/// The column beside the lanes.
#[derive(Clone, Copy)]
struct Notes {
    width: usize,
    /// Characters that fit in a line.
    chars: usize,
}

/// The diagram as a document of its own, which can also stand inside of a page.
pub fn svg(story: &Story) -> String {
    drawn(story, Notes { width: 500, chars: 64 }, false)
}

/// The diagram, narrower, for a place whose width it takes.
pub fn svg_to_fit(story: &Story) -> String {
    drawn(story, Notes { width: 330, chars: 42 }, true)
}

fn drawn(story: &Story, notes: Notes, fits: bool) -> String {
    let width = LEFT + story.nodes.len() * LANE + notes.width;
    let height = TOP + story.steps.len() * ROW + 24;
    let drawn = html! {
        svg.d xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (width) " " (height) } width=[(!fits).then_some(width)]
            height=[(!fits).then_some(height)] style=[fits.then_some("width:100%;height:auto")] role="img" aria-label=(story.title()) {
            style { (maud::PreEscaped(STYLE)) }
            (patterns())
            rect width=(width) height=(height) fill="#fff" {}
            (rows(story, width))
            (bands(story))
            (lanes(story, height))
            @for step in &story.steps { (arrow(story, step, notes)) }
        }
    };
    drawn.into_string()
}

fn patterns() -> Markup {
    html! {
        defs {
            pattern id="leaving" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                rect width="3" height="8" fill="#9ca3af" fill-opacity="0.55" {}
            }
        }
    }
}

/// The middle of a node's lane.
fn x(story: &Story, node: Principal) -> usize {
    let place = story.nodes.iter().position(|&known| known == node).unwrap_or_default();
    LEFT + place * LANE + LANE / 2
}

/// The height of a step's arrow.
fn y(number: usize) -> usize {
    TOP + number * ROW - ROW / 2 + 6
}

fn rows(story: &Story, width: usize) -> Markup {
    html! {
        @for step in &story.steps {
            @if step.violated.is_some() {
                rect.violation-row x="0" y=(TOP + (step.number - 1) * ROW) width=(width) height=(ROW) rx="4" {}
            }
        }
    }
}

/// Stretches of steps in which a replica is in one view, and whether it is leaving it.
fn stretches(story: &Story, position: usize) -> Vec<(usize, usize, View, bool)> {
    let mut stretches: Vec<(usize, usize, View, bool)> = vec![(0, 0, View(0), false)];
    for step in &story.steps {
        let (view, leaving) = step.views[position];
        let last = stretches.last_mut().expect("there is one from the start");
        if (last.2, last.3) == (view, leaving.is_some()) {
            last.1 = step.number;
        } else {
            last.1 = step.number - 1;
            stretches.push((step.number - 1, step.number, view, leaving.is_some()));
        }
    }
    stretches
}

fn bands(story: &Story) -> Markup {
    let correct: Vec<Principal> = story.config.correct().into_iter().map(Principal::Replica).collect();
    html! {
        @for (position, &node) in correct.iter().enumerate() {
            @let left = x(story, node) - BAND / 2;
            @for (index, (from, to, view, leaving)) in stretches(story, position).into_iter().enumerate() {
                @let colour = VIEWS[view.0 as usize % VIEWS.len()];
                // A view changes where the arrow is that changes it.
                @let top = if index == 0 { TOP - 8 } else { y(from + 1) };
                @let end = if to == story.steps.len() { TOP + to * ROW + 10 } else { y(to + 1) };
                @let height = end.saturating_sub(top);
                rect x=(left) y=(top) width=(BAND) height=(height) fill=(colour) {}
                @if leaving {
                    rect x=(left) y=(top) width=(BAND) height=(height) fill="url(#leaving)" {}
                } @else if height > 20 {
                    text.small x=(left + 3) y=(top + 13) { "v" (view.0) }
                }
            }
        }
    }
}

fn lanes(story: &Story, height: usize) -> Markup {
    html! {
        @for &node in &story.nodes {
            @let middle = x(story, node);
            line.lane x1=(middle) x2=(middle) y1=(TOP - 8) y2=(height - 14)
                stroke-dasharray=[story.is_byzantine(node).then_some("2 4")] {}
            text.head x=(middle) y="26" text-anchor="middle"
                fill=[story.is_byzantine(node).then_some("#b91c1c")] { (name(node)) }
            @if story.is_byzantine(node) {
                text.lie x=(middle) y="12" text-anchor="middle" { "Byzantine" }
            }
            @if let Principal::Replica(replica) = node {
                @let views: Vec<String> = (0..=story.config.max_view.0).filter(|&view| primary(&story.config, View(view)) == replica)
                    .map(|view| format!("v{view}")).collect();
                @if !views.is_empty() {
                    text.small x=(middle) y="42" text-anchor="middle" { "primary of " (views.join(", ")) }
                }
            } @else {
                text.small x=(middle) y="42" text-anchor="middle" { "client" }
            }
        }
    }
}

fn arrow(story: &Story, step: &Told, notes: Notes) -> Markup {
    let (at, to) = (y(step.number), x(story, step.node));
    let from = step.from.filter(|from| story.nodes.contains(from)).map(|from| x(story, from));
    let left = LEFT + story.nodes.len() * LANE + 8;
    let top = TOP + (step.number - 1) * ROW;
    html! {
        g.step.bad[step.byzantine.is_some()].violation[step.violated.is_some()] data-step=(step.number) {
            title { (step.way()) "  " (step.what) }
            // Something to hover over and click at.
            rect.row x="0" y=(top) width=(left + notes.width) height=(ROW) {}
            text.number x="8" y=(at + 4) { (step.number) }
            (shape(story, step, from, to, at))
            (notes_of(step, (left, top), notes.chars))
        }
    }
}

fn shape(story: &Story, step: &Told, from: Option<usize>, to: usize, at: usize) -> Markup {
    let label = label(step);
    if !step.is_delivery {
        return html! {
            circle cx=(to) cy=(at) r="9" fill="#fff" stroke="#374151" stroke-width="1.6" {}
            path.arrow d={ "M" (to) " " (at - 5) "V" (at) "H" (to + 4) } {}
            text.label x=(to + 14) y=(at + 4) { "times out" }
        };
    }
    match from.filter(|&from| from != to) {
        Some(from) => {
            let (tip, middle) = (if from < to { to - 8 } else { to + 8 }, from.midpoint(to));
            // Wide labels of messages between neighbours start at the left lane.
            let (anchor, start) = match from.abs_diff(to) > LANE || label.len() < 20 {
                true => ("middle", middle),
                false if from.max(to) + LANE > x(story, *story.nodes.last().expect("there are nodes")) => {
                    ("end", from.max(to) + LANE / 2)
                }
                false => ("start", from.min(to) - BAND / 2),
            };
            html! {
                g.delivery {
                    line.arrow x1=(from) y1=(at) x2=(tip) y2=(at) {}
                    path.tip d={ "M" (to) " " (at) "L" (tip) " " (at - 5) "L" (tip) " " (at + 5) "Z" } {}
                }
                text.label x=(start) y=(at - 7) text-anchor=(anchor) { (label) }
            }
        }
        // From the network: batches, blocks and certificates have no sender, and outsiders no lane.
        None => html! {
            g.delivery {
                line.arrow x1=(to - 46) y1=(at) x2=(to - 8) y2=(at) stroke-dasharray="2 2" {}
                path.tip d={ "M" (to) " " (at) "L" (to - 8) " " (at - 5) "L" (to - 8) " " (at + 5) "Z" } {}
            }
            text.label x=(to - 46) y=(at - 7) { (label) }
        },
    }
}

/// The message, short: NEW-VIEW without V, which the notes have.
fn label(step: &Told) -> String {
    match (step.what.find(" V={"), step.what.find(" O={")) {
        (Some(v), Some(o)) => format!("{}{}", &step.what[..v], &step.what[o..]),
        _ => step.what.clone(),
    }
}

fn notes_of(step: &Told, (left, top): (usize, usize), chars: usize) -> Markup {
    let mut lines: Vec<(&str, String)> = Vec::new();
    // That it is Byzantine the colour says; how, only words.
    let how = step.byzantine.iter().filter_map(|how| {
        how.strip_prefix("Byzantine: ").or(Some(how).filter(|how| *how != "Byzantine").map(String::as_str))
    });
    lines.extend(how.map(|how| ("lie", how.to_owned())));
    lines.extend(step.violated.iter().map(|what| ("violated", format!("VIOLATED: {what}"))));
    lines.extend(step.quorums.iter().map(|quorum| ("quorum", format!("{}: {quorum}", name(step.node)))));
    if step.quorums.is_empty() && step.violated.is_none() && !step.does.is_empty() {
        lines.push(("", format!("{} {}", name(step.node), step.does.join("; "))));
    }
    let all =
        lines.iter().flat_map(|(class, text)| wrapped(text, chars).into_iter().map(|line| (*class, line)));
    let mut all: Vec<(&str, String)> = all.collect();
    if all.len() > MOST_NOTES {
        all.truncate(MOST_NOTES);
        all[MOST_NOTES - 1].1.push_str(" ...");
    }
    let lines = all;
    let first = match lines.len() {
        0 | 1 => 30,
        2 => 20,
        _ => 11,
    };
    html! {
        @for (index, (class, line)) in lines.iter().enumerate() {
            text class=(class) x=(left) y=(top + first + index * 13) { (line) }
        }
    }
}

/// The text in lines no longer than the given number of characters, but for longer words.
fn wrapped(text: &str, chars: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > chars {
            lines.push(word.to_string());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
