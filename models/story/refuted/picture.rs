//! A counterexample to induction as a table of who has sent what in which view, in the language of the sequence
//! diagrams: a lane for each replica, bands for views, hatched while a replica is leaving one, violet for Byzantine,
//! blue for what quorums have decided, red for what is violated.

use super::facts::{Fact, Row, Words};
use super::{broken, title};
use crate::story::diagram::{STYLE, wrapped};
use maud::{Markup, PreEscaped, html};
use pbft_properties::proof::relations::Relation;
use pbft_properties::proof::{Refuted, Sort};

const LEFT: usize = 34;
const TOP: usize = 54;
const LINE: usize = 14;
/// The width of a character, on average; in tenths. That of labels, which are bold, and of other text.
const BOLD: usize = 84;
const PLAIN: usize = 72;

/// What depends on the place that the picture is drawn for.
#[derive(Clone, Copy)]
pub struct Layout {
    /// The width of a column.
    lane: usize,
    /// Whether it takes the width of its place.
    fits: bool,
    /// Whether it carries the style with it.
    styled: bool,
}

impl Layout {
    pub fn wide(styled: bool) -> Layout {
        Layout { lane: 176, fits: false, styled }
    }

    pub fn narrow(styled: bool) -> Layout {
        Layout { lane: 0, fits: true, styled }
    }
}

/// The picture as a document of its own.
pub fn svg(refuted: &Refuted) -> String {
    drawn(refuted, Layout::wide(true))
}

/// The picture for a place about 400 pixels wide, whose width it takes.
pub fn svg_narrow(refuted: &Refuted) -> String {
    drawn(refuted, Layout::narrow(true))
}

/// A line in a cell: its class and its text.
type Line = (&'static str, String);

/// A row: what it is called, the lines of each column, and those below all columns.
struct Band {
    row: Option<Row>,
    cells: Vec<Vec<Line>>,
    below: Vec<Line>,
    top: usize,
    height: usize,
}

struct Picture<'a> {
    refuted: &'a Refuted,
    layout: Layout,
    lane: usize,
    bands: Vec<Band>,
}

pub fn drawn(refuted: &Refuted, layout: Layout) -> String {
    let lane = if layout.fits { 350 / refuted.cluster.replicas().max(4) } else { layout.lane };
    let mut picture = Picture { refuted, layout, lane, bands: Vec::new() };
    picture.fill();
    let last = picture.bands.last().map_or(TOP, |band| band.top + band.height);
    let (width, height) = (picture.width(), last + 8);
    let fits = layout.fits;
    let style = fits.then_some("width:100%;height:auto;font-size:9.6px");
    let markup = html! {
        svg.d xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (width) " " (height) }
            width=[(!fits).then_some(width)] height=[(!fits).then_some(height)] style=[style]
            role="img" aria-label=(title(refuted))
        {
            @if layout.styled { style { (PreEscaped(STYLE)) } }
            defs {
                pattern id=(picture.hatching()) width="8" height="8" patternUnits="userSpaceOnUse"
                    patternTransform="rotate(45)" { rect.hatch width="3" height="8" {} }
            }
            rect.paper width=(width) height=(height) {}
            (picture.heads(last))
            @for band in &picture.bands { (picture.band(band)) }
        }
    };
    markup.into_string()
}

impl Picture<'_> {
    fn width(&self) -> usize {
        LEFT + self.refuted.cluster.replicas() * self.lane + 6
    }

    /// The middle of a replica's column.
    fn x(&self, replica: usize) -> usize {
        LEFT + replica * self.lane + self.lane / 2
    }

    /// The name of the hatching: no two pictures of a page may name theirs alike.
    fn hatching(&self) -> String {
        let place = if self.layout.fits { "narrow" } else { "wide" };
        format!("leaving-{place}-{}", self.refuted.stored.rule.replace('+', "-plus-"))
    }

    fn in_cell(&self, class: &'static str, text: &str) -> Vec<Line> {
        let width = if class == "label" { BOLD } else { PLAIN };
        // The narrow picture has smaller letters.
        let width = if self.layout.fits { width * 7 / 8 } else { width };
        let chars = ((self.lane - 4) * 10 / width).max(11);
        wrapped(text, chars).into_iter().map(|line| (class, line)).collect()
    }

    fn across(&self, class: &'static str, text: &str) -> Vec<Line> {
        let width = if matches!(class, "violated" | "quorum") { BOLD } else { PLAIN };
        let chars = (self.width() - LEFT - 8) * 10 / width;
        wrapped(text, chars).into_iter().map(|line| (class, line)).collect()
    }

    /// The rows: views, what belongs to none, the step, and what it violates.
    fn fill(&mut self) {
        let words = Words(self.refuted);
        let facts = words.facts_before();
        for row in (0..self.refuted.size(Sort::View)).map(Row::View).chain([Row::Any]) {
            let here: Vec<&Fact> = facts.iter().filter(|fact| fact.row == row).collect();
            if row == Row::Any && here.is_empty() {
                continue;
            }
            let cells = (0..self.refuted.cluster.replicas()).map(|replica| {
                if row == Row::View(0) && !self.refuted.is_correct(replica) {
                    return self.in_cell("byzantine", "may have sent anything");
                }
                let own = here.iter().filter(|fact| fact.replica == Some(replica));
                own.flat_map(|fact| self.in_cell(if fact.is_message { "label" } else { "" }, &fact.text))
                    .collect()
            });
            let cells = cells.collect();
            let of_all: Vec<&str> =
                here.iter().filter(|fact| fact.replica.is_none()).map(|fact| fact.text.as_str()).collect();
            let below =
                if of_all.is_empty() { Vec::new() } else { self.across("quorum", &of_all.join("; ")) };
            self.push(Some(row), cells, below);
        }
        self.push_step(&words);
        let violated = format!("VIOLATED: {}: {}", self.refuted.invariant.name, broken(self.refuted));
        let violated = self.across("violated", &violated);
        self.push(None, Vec::new(), violated);
    }

    fn push_step(&mut self, words: &Words<'_>) {
        let (gained, gone) = words.facts_of_step();
        let cells = (0..self.refuted.cluster.replicas()).map(|replica| {
            let mut lines = Vec::new();
            if Some(replica) == self.refuted.with("i") {
                lines.extend(self.in_cell("label", &self.refuted.action.name.replace('_', " ")));
            }
            let new = gained.iter().filter(|fact| fact.replica == Some(replica));
            lines.extend(
                new.flat_map(|fact| self.in_cell(if fact.is_message { "label" } else { "" }, &text_of(fact))),
            );
            let gone = gone.iter().filter(|fact| fact.replica == Some(replica));
            lines.extend(gone.flat_map(|fact| self.in_cell("", &format!("no longer: {}", text_of(fact)))));
            lines.extend(self.views_of(replica).into_iter().flat_map(|text| self.in_cell("", &text)));
            lines
        });
        let cells: Vec<Vec<Line>> = cells.collect();
        let new =
            gained.iter().filter(|fact| fact.replica.is_none()).map(|fact| format!("now {}", text_of(fact)));
        let new: Vec<String> = new.collect();
        let mut below = self.across("", &super::step(self.refuted));
        if !new.is_empty() {
            below.extend(self.across("quorum", &new.join("; ")));
        }
        self.push(None, cells, below);
    }

    /// What the step makes of the view that a replica is in.
    fn views_of(&self, replica: usize) -> Vec<String> {
        let refuted = self.refuted;
        let view =
            |tuples: Vec<Vec<usize>>| tuples.into_iter().find(|one| one[0] == replica).map(|one| one[1]);
        let (was, is) =
            (view(refuted.holds(Relation::in_view)), view(refuted.holds_after(Relation::in_view)));
        let leaving = |tuples: Vec<Vec<usize>>| tuples.contains(&vec![replica]);
        let (left, leaves) =
            (leaving(refuted.holds(Relation::leaving)), leaving(refuted.holds_after(Relation::leaving)));
        let mut told = Vec::new();
        if let Some(view) = is.filter(|_| is != was) {
            told.push(format!("is in v{view}"));
        }
        match (left, leaves) {
            (false, true) => told.push("is leaving".into()),
            (true, false) => told.push("is no longer leaving".into()),
            _ => {}
        }
        told
    }

    fn push(&mut self, row: Option<Row>, cells: Vec<Vec<Line>>, below: Vec<Line>) {
        let top = self.bands.last().map_or(TOP, |band| band.top + band.height);
        let lines = cells.iter().map(Vec::len).max().unwrap_or(0);
        let least = if matches!(row, Some(Row::View(_))) { 2 } else { 1 };
        let cells_height = if cells.is_empty() { 6 } else { lines.max(least) * LINE + 16 };
        let height = cells_height + below.len() * LINE + if below.is_empty() { 0 } else { 10 };
        self.bands.push(Band { row, cells, below, top, height });
    }

    fn heads(&self, last: usize) -> Markup {
        let refuted = self.refuted;
        let primaries = refuted.holds(Relation::primary);
        html! {
            @for replica in 0..refuted.cluster.replicas() {
                @let middle = self.x(replica);
                @let (is_correct, is_member) = (refuted.is_correct(replica), replica < refuted.cluster.n);
                line.lane x1=(LEFT + replica * self.lane) x2=(LEFT + replica * self.lane) y1=(TOP) y2=(last - 4)
                    stroke-dasharray="1 4" {}
                text.head.byzantine[!is_correct] x=(middle) y="28" text-anchor="middle" { "r" (replica) }
                @if !is_correct {
                    text.byzantine x=(middle) y="13" text-anchor="middle" {
                        @if is_member { "Byzantine" } @else { "no member" }
                    }
                }
                @let views: Vec<String> = primaries.iter().filter(|one| one[1] == replica)
                    .map(|one| format!("v{}", one[0])).collect();
                @if !views.is_empty() {
                    text.small x=(middle) y="43" text-anchor="middle" {
                        @if self.lane >= 100 { "primary of " } @else { "pr. " } (views.join(", "))
                    }
                }
            }
        }
    }

    fn band(&self, band: &Band) -> Markup {
        let (top, height) = (band.top, band.height);
        let below = band.top + band.height - band.below.len() * LINE + 4;
        let is_violation = band.cells.is_empty();
        let name = match band.row {
            Some(Row::View(view)) => format!("v{view}"),
            Some(Row::Any) => "log".into(),
            None if is_violation => String::new(),
            None => "step".into(),
        };
        html! {
            @if is_violation { rect.violation-row x="0" y=(top + 2) width=(self.width()) height=(height) rx="4" {} }
            line.lane x1="0" x2=(self.width()) y1=(top) y2=(top) {}
            text.number x="4" y=(top + 22) { (name) }
            @if let Some(Row::View(view)) = band.row { (self.views(view, band)) }
            @for (replica, lines) in band.cells.iter().enumerate() {
                @if band.row.is_none() && self.refuted.with("i") == Some(replica) { (self.actor(replica, band)) }
                @for (line, (class, text)) in lines.iter().enumerate() {
                    text class=(class) x=(self.x(replica)) y=(top + 20 + line * LINE) text-anchor="middle" { (text) }
                }
            }
            @for (line, (class, text)) in band.below.iter().enumerate() {
                text class=(class) x=(LEFT) y=(below + line * LINE) { (text) }
            }
        }
    }

    /// How high the cells of a row are.
    fn cells_height(band: &Band) -> usize {
        let below = if band.below.is_empty() { 0 } else { band.below.len() * LINE + 10 };
        band.height - below
    }

    /// The cells of the replicas that are in the view of this row.
    fn views(&self, view: usize, band: &Band) -> Markup {
        let leaving = self.refuted.holds(Relation::leaving);
        let here = self.refuted.holds(Relation::in_view).into_iter();
        let here = here.filter(|one| one[1] == view && self.refuted.is_correct(one[0]));
        let height = Self::cells_height(band) - 6;
        html! {
            @for one in here {
                @let x = LEFT + one[0] * self.lane + 3;
                rect class={ "v" (view % 4) } x=(x) y=(band.top + 3) width=(self.lane - 6) height=(height) rx="3" {}
                @if leaving.contains(&vec![one[0]]) {
                    rect x=(x) y=(band.top + 3) width=(self.lane - 6) height=(height) rx="3"
                        fill={ "url(#" (self.hatching()) ")" } {}
                }
            }
        }
    }

    /// A frame around what the acting replica does.
    fn actor(&self, replica: usize, band: &Band) -> Markup {
        html! {
            rect.clock x=(LEFT + replica * self.lane + 3) y=(band.top + 3) width=(self.lane - 6)
                height=(Self::cells_height(band) - 6) rx="3" {}
        }
    }
}

/// A fact of the step, with its view: the row does not say it.
fn text_of(fact: &Fact) -> String {
    match fact.row {
        Row::View(view) if !fact.text.starts_with("VIEW-CHANGE") => format!("{} in v{view}", fact.text),
        _ => fact.text.clone(),
    }
}
