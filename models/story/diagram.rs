//! An execution as a sequence diagram: a lane for each node, time from top to bottom, and a row for each
//! step, as high as what is said beside it.
//!
//! The band behind a lane is the view that the replica is in, hatched while it is leaving it. A line leads
//! from where a message was sent to where it arrives; what somebody Byzantine makes up has no such place, and
//! its line is level and dashed: red and with a cross if no correct node could have sent it, violet and with
//! a ring if one could. A faint stub is a message that no correct node receives in this execution, a faint
//! arrow one that only somebody Byzantine does who uses it later.

use super::colours::{dark, light, print};
use super::{Story, StoryStep, Unheard, name, primary};
use maud::{Markup, html};
use pbft::types::{Principal, ReplicaId, View};

const LEFT: usize = 30;
const TOP: usize = 68;
/// Between the beginning of the bands and the first row: there is the name of the first view.
const BEFORE: usize = 18;
/// The least height of a row.
const ROW: usize = 40;
const BAND: usize = 34;
/// Between two lines of notes.
const LINE: usize = 14;
/// The width of a character of a label, on average; in tenths.
const CHAR: usize = 74;

/// What depends on the place that the diagram is drawn for.
#[derive(Clone, Copy)]
struct Layout {
    /// The width of a lane.
    lane: usize,
    /// The width of the column of notes and the characters that fit in a line of it; none for no column.
    notes: Option<(usize, usize)>,
    /// Whether it takes the width of its place.
    fits: bool,
}

/// The style, which the diagram carries with it.
pub(super) const STYLE: &str = concat!(
    ".d{",
    light!(),
    ";font-family:system-ui,sans-serif;font-size:12px;fill:var(--ink)}\
@media (prefers-color-scheme:dark){.d{",
    dark!(),
    "}}@media print{.d{",
    print!(),
    "}}\
.d .paper{fill:var(--paper)}.d .lane{stroke:var(--line);stroke-width:1}.d .head{font-weight:700;font-size:14px}\
.d .small{font-size:11px;fill:var(--soft)}.d .arrow,.d .origin{stroke:var(--ink);stroke-width:1.5;fill:none}.d .tip{fill:var(--ink)}\
.d .odd .arrow{stroke:var(--byz);stroke-dasharray:2 3}.d .odd .origin{stroke:var(--byz)}.d .odd .tip,.d .odd .label{fill:var(--byz)}\
.d .bad .arrow{stroke:var(--bad);stroke-dasharray:6 3}.d .bad .origin{stroke:var(--bad);stroke-width:2.5}\
.d .bad .tip,.d .bad .label{fill:var(--bad)}\
.d .label{paint-order:stroke;stroke:var(--paper);stroke-width:4px;stroke-linejoin:round;font-weight:600}\
.d .byzantine{fill:var(--byz)}.d .lie{fill:var(--bad);font-style:italic}.d .mark{font-weight:800;letter-spacing:.04em}\
.d .quorum{fill:var(--quorum);font-weight:600}.d .violated,.d .label.violated{fill:var(--bad);font-weight:700}\
.d .violation-row{fill:var(--wash)}.d .row{fill:var(--ink);fill-opacity:0}.d .step:hover .row{fill-opacity:.04}\
.d .chosen .row{fill-opacity:.05;stroke:var(--quorum);stroke-width:2}.d .lit .arrow{stroke:var(--quorum);stroke-width:3.5}\
.d .lit .tip{fill:var(--quorum)}.d .number{fill:var(--soft)}.d .unheard{stroke:var(--soft);fill:none}\
.d .unheard .head-of{fill:var(--soft)}\
.d .v0{fill:var(--v0)}.d .v1{fill:var(--v1)}.d .v2{fill:var(--v2)}.d .v3{fill:var(--v3)}\
.d .hatch{fill:var(--line);fill-opacity:.55}.d .clock{fill:var(--paper);stroke:var(--ink);stroke-width:1.5}"
);

/// The diagram as a document of its own, which can also stand inside of a page.
pub fn svg(story: &Story) -> String {
    drawn(story, Layout { lane: 108, notes: Some((450, 66)), fits: false })
}

/// The diagram without notes, for a place about 400 pixels wide, whose width it takes. Lies and what is
/// violated are marked where they are.
pub fn svg_narrow(story: &Story) -> String {
    drawn(story, Layout { lane: 330 / story.nodes.len().max(4), notes: None, fits: true })
}

struct Drawing<'a> {
    story: &'a Story,
    layout: Layout,
    /// The top of each row, and of what comes after the last.
    tops: Vec<usize>,
    /// The lines beside each row.
    notes: Vec<Vec<(&'static str, String)>>,
}

fn drawn(story: &Story, layout: Layout) -> String {
    let chars = layout.notes.map_or(0, |(_, chars)| chars);
    let notes: Vec<_> = story.steps.iter().map(|step| notes_of(step, chars)).collect();
    let mut tops = vec![TOP];
    for (step, lines) in story.steps.iter().zip(&notes) {
        let last = *tops.last().expect("it begins with one");
        let marked = layout.notes.is_none() && step.violated.is_some();
        tops.push(last + ROW.max(lines.len() * LINE + 12) + if marked { LINE } else { 0 });
    }
    let drawing = Drawing { story, layout, tops, notes };
    let (width, height) = (drawing.width(), drawing.end() + 24);
    let fits = layout.fits;
    let style = fits.then_some("width:100%;height:auto");
    let markup = html! {
        svg.d xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (width) " " (height) }
            width=[(!fits).then_some(width)] height=[(!fits).then_some(height)] style=[style]
            role="img" aria-label=(story.title())
        {
            style { (maud::PreEscaped(STYLE)) }
            (patterns(layout))
            rect.paper width=(width) height=(height) {}
            (drawing.rows())
            (drawing.bands())
            (drawing.lanes(height))
            @for (index, step) in story.steps.iter().enumerate() { (drawing.step(index, step)) }
        }
    };
    markup.into_string()
}

/// The name of the hatching: what a page has twice, once hidden, it may not name alike.
fn hatching(layout: Layout) -> &'static str {
    if layout.fits { "leaving-narrow" } else { "leaving" }
}

fn patterns(layout: Layout) -> Markup {
    html! {
        defs {
            pattern id=(hatching(layout)) width="8" height="8" patternUnits="userSpaceOnUse"
                patternTransform="rotate(45)" { rect.hatch width="3" height="8" {} }
        }
    }
}

impl Drawing<'_> {
    /// Where the lanes end and the notes begin.
    fn lanes_end(&self) -> usize {
        LEFT + self.story.nodes.len() * self.layout.lane
    }

    fn width(&self) -> usize {
        self.lanes_end() + self.layout.notes.map_or(4, |(width, _)| width)
    }

    fn end(&self) -> usize {
        *self.tops.last().expect("it begins with one")
    }

    /// The middle of a node's lane.
    fn x(&self, node: Principal) -> usize {
        let place = self.story.nodes.iter().position(|&known| known == node).unwrap_or_default();
        LEFT + place * self.layout.lane + self.layout.lane / 2
    }

    /// The height of the arrival of a step, counted from 1.
    fn y(&self, number: usize) -> usize {
        self.tops[number - 1] + 26
    }

    fn rows(&self) -> Markup {
        html! {
            @for (index, step) in self.story.steps.iter().enumerate() {
                @if step.violated.is_some() {
                    rect.violation-row x="0" y=(self.tops[index]) width=(self.width())
                        height=(self.tops[index + 1] - self.tops[index]) rx="4" {}
                }
            }
        }
    }

    /// Stretches of steps in which a replica is in one view, and whether it is leaving it.
    fn stretches(&self, position: usize) -> Vec<(usize, usize, View, bool)> {
        let mut stretches: Vec<(usize, usize, View, bool)> = vec![(0, 0, View(0), false)];
        for (index, step) in self.story.steps.iter().enumerate() {
            let (view, leaving) = step.views[position];
            let last = stretches.last_mut().expect("there is one from the start");
            if (last.2, last.3) == (view, leaving.is_some()) {
                last.1 = index + 1;
            } else {
                last.1 = index;
                stretches.push((index, index + 1, view, leaving.is_some()));
            }
        }
        stretches
    }

    fn bands(&self) -> Markup {
        let correct: Vec<Principal> =
            self.story.config.correct().into_iter().map(Principal::Replica).collect();
        let band = BAND.min(self.layout.lane / 2);
        html! {
            @for (position, &node) in correct.iter().enumerate() {
                @let left = self.x(node) - band / 2;
                @for (index, (from, to, view, leaving)) in self.stretches(position).into_iter().enumerate() {
                    // A view changes where the arrow is that changes it.
                    @let top = if index == 0 { TOP - BEFORE } else { self.y(from + 1) };
                    @let end = if to == self.story.steps.len() { self.end() + 10 } else { self.y(to + 1) };
                    @let height = end.saturating_sub(top);
                    rect class={ "v" (view.0 % 4) } x=(left) y=(top) width=(band) height=(height) {}
                    @if leaving {
                        rect x=(left) y=(top) width=(band) height=(height) fill={ "url(#" (hatching(self.layout)) ")" } {}
                    } @else if height > 20 {
                        text.small x=(left + 3) y=(top + 13) { "v" (view.0) }
                    }
                }
            }
        }
    }

    fn lanes(&self, height: usize) -> Markup {
        let story = self.story;
        html! {
            @for &node in &story.nodes {
                @let middle = self.x(node);
                @let is_byzantine = story.is_byzantine(node);
                line.lane x1=(middle) x2=(middle) y1=(TOP - BEFORE) y2=(height - 14)
                    stroke-dasharray=[is_byzantine.then_some("2 4")] {}
                text.head.byzantine[is_byzantine] x=(middle) y="26" text-anchor="middle" { (name(node)) }
                @if is_byzantine { text.byzantine x=(middle) y="12" text-anchor="middle" { (story.mark) } }
                @if let Principal::Replica(replica) = node {
                    @let views: Vec<String> = (0..=story.config.max_view.0)
                        .filter(|&view| primary(&story.config, View(view)) == replica)
                        .map(|view| format!("v{view}")).collect();
                    @if !views.is_empty() {
                        text.small x=(middle) y="42" text-anchor="middle" {
                            @if self.layout.lane >= 100 { "primary of " } @else { "pr. " }
                            (views.join(", "))
                        }
                    }
                } @else {
                    text.small x=(middle) y="42" text-anchor="middle" { "client" }
                }
            }
        }
    }

    fn step(&self, index: usize, step: &StoryStep) -> Markup {
        let top = self.tops[index];
        let height = self.tops[index + 1] - top;
        let notes = &self.notes[index];
        let left = self.lanes_end() + 8;
        html! {
            g.step.bad[step.is_lie()].odd[step.byzantine.is_some() && !step.is_lie()].violation[step.violated.is_some()] data-step=(step.number) {
                title { (step.way()) "  " (step.what) }
                // Something to hover over and click at.
                rect.row x="0" y=(top) width=(self.width()) height=(height) {}
                text.number x="6" y=(top + 30) { (step.number) }
                (self.stubs(index, step))
                (self.shape(index, step))
                @if self.layout.notes.is_some() {
                    @for (line, (class, text)) in notes.iter().enumerate() {
                        text class=(class) x=(left) y=(top + 17 + line * LINE) { (text) }
                    }
                } @else if let Some(violated) = &step.violated {
                    text.label.violated x=(LEFT) y=(top + 49) { "VIOLATED: " (violated.split(':').next().unwrap_or_default()) }
                }
            }
        }
    }

    /// What is sent here and no correct node receives.
    fn stubs(&self, index: usize, step: &StoryStep) -> Markup {
        let (x, y) = (self.x(step.node), self.tops[index] + 34);
        let lost = step.unheard.iter().filter(|unheard| unheard.used.is_none()).map(Unheard::in_words);
        let lost = lost.collect::<Vec<_>>().join("; ");
        let mut users: Vec<ReplicaId> =
            step.unheard.iter().filter_map(|unheard| unheard.used).map(|(by, _)| by).collect();
        users.sort_unstable();
        users.dedup();
        html! {
            @if !lost.is_empty() {
                g.unheard {
                    title { (lost) }
                    path d={ "M" (x) " " (y) "l22 5" } {}
                    circle cx=(x + 24) cy=(y + 5) r="2" {}
                }
            }
            @for by in users {
                @let told: Vec<String> = step.unheard.iter()
                    .filter(|unheard| unheard.used.is_some_and(|(used_by, _)| used_by == by))
                    .map(Unheard::in_words).collect();
                @let (to, end) = (self.x(by.into()), y + 5);
                @let tip = if x < to { to - 6 } else { to + 6 };
                g.unheard.overheard {
                    title { (told.join("; ")) }
                    path d={ "M" (x) " " (y) "L" (tip) " " (end) } {}
                    path.head-of d={ "M" (to) " " (end) "L" (tip) " " (end - 3) "L" (tip) " " (end + 3) "Z" } {}
                }
            }
        }
    }

    fn shape(&self, index: usize, step: &StoryStep) -> Markup {
        let (at, to) = (self.tops[index] + 26, self.x(step.node));
        if !step.is_delivery {
            let (start, anchor) = match to + 14 + step.what.len() * CHAR / 10 < self.lanes_end() {
                true => (to + 14, "start"),
                false => (to - 14, "end"),
            };
            return html! {
                circle.clock cx=(to) cy=(at) r="9" {}
                path.arrow d={ "M" (to) " " (at - 5) "V" (at) "H" (to + 4) } {}
                text.label x=(start) y=(at + 4) text-anchor=(anchor) { (step.what) }
            };
        }
        let from = step.from.filter(|from| self.story.nodes.contains(from)).map(|from| self.x(from));
        let sent = match step.sent_at {
            Some(number) if number > 0 => self.tops[number - 1] + 34,
            _ => at,
        };
        // From the network: batches, blocks and certificates have no sender, and outsiders no lane.
        let (start, from_y, dashed) = match from.filter(|&from| from != to) {
            Some(from) => (from, sent, None),
            None => (to.saturating_sub(46), at, Some("2 2")),
        };
        let tip = if start < to { to - 8 } else { to + 8 };
        let label = self.label(step);
        // Beside the wide diagram the note says it.
        let mark = if step.is_lie() && self.layout.notes.is_none() { "LIE " } else { "" };
        let width = (mark.len() + label.chars().count()) * CHAR / 10;
        let middle = start.midpoint(to);
        let right = self.lanes_end().saturating_sub(width);
        let x = middle.saturating_sub(width / 2).clamp(4.min(right), right.max(4));
        html! {
            g.delivery {
                line.arrow x1=(start) y1=(from_y) x2=(tip) y2=(at) stroke-dasharray=[dashed] {}
                path.tip d={ "M" (to) " " (at) "L" (tip) " " (at - 5) "L" (tip) " " (at + 5) "Z" } {}
                @if step.is_lie() {
                    path.origin d={ "M" (start - 5) " " (from_y - 5) "l10 10m0 -10l-10 10" } {}
                } @else if step.byzantine.is_some() {
                    circle.origin cx=(start) cy=(from_y) r="4" {}
                }
            }
            text.label x=(x) y=(at - 9) { @if !mark.is_empty() { tspan.mark { (mark) } } (label) }
        }
    }

    /// The message, short: NEW-VIEW without V, which the text has; and without P and O where they do not fit.
    fn label(&self, step: &StoryStep) -> String {
        let label = match (step.what.find(" V={"), step.what.find(" O={")) {
            (Some(v), Some(o)) => format!("{}{}", &step.what[..v], &step.what[o..]),
            _ => step.what.clone(),
        };
        let fits = label.chars().count() * CHAR / 10 < self.lanes_end();
        let cut = label.find(" P={").or_else(|| label.find(" O={")).filter(|_| !fits);
        cut.map_or(label.clone(), |cut| label[..cut].to_string())
    }
}

/// What stands beside a step: its lies, the votes, what the node does, what is violated.
fn notes_of(step: &StoryStep, chars: usize) -> Vec<(&'static str, String)> {
    let mut notes: Vec<(&str, String)> = Vec::new();
    notes.extend(step.lies.iter().map(|lie| ("lie", format!("lie: {lie}"))));
    notes.extend(step.refused.iter().map(|why| ("small", format!("{} drops it: {why}", name(step.node)))));
    for tally in &step.tallies {
        let class = if tally.is_complete() { "quorum" } else { "small" };
        notes.push((class, format!("{}: {}", name(step.node), tally.in_words())));
    }
    notes.extend(step.decided.iter().map(|why| ("", format!("O: {why}"))));
    if !step.does.is_empty() {
        notes.push(("", format!("{} {}", name(step.node), step.does.join("; "))));
    }
    notes.extend(step.violated.iter().map(|what| ("violated", format!("VIOLATED: {what}"))));
    notes
        .into_iter()
        .flat_map(|(class, text)| {
            // What is bold is wider.
            let chars = if matches!(class, "violated" | "quorum") { chars * 6 / 7 } else { chars };
            wrapped(&text, chars).into_iter().map(move |line| (class, line))
        })
        .collect()
}

/// The text in lines no longer than the given number of characters, but for longer words.
pub(super) fn wrapped(text: &str, chars: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    if chars == 0 {
        return Vec::new();
    }
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
