//! `pbft replay`: a stored counterexample, carried out again and told.

use crate::net::audit;
use anstyle::{AnsiColor, Style};
use pbft_models::story::lessons::{id_of, named};
use pbft_models::story::page::attack;
use pbft_models::story::production::Range;
use pbft_models::story::{How, Story, StoryStep, export, name, page, svg};
use pbft_models::trace::file::Stored;
use pbft_models::trace::replay::{Stale, replay, with_safeguard};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The options of `pbft replay`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The counterexample: what `pbft check --save` and `pbft mutants --save` write, and what is in
    /// counterexamples/.
    #[arg(value_name = "FILE", required_unless_present = "journals", conflicts_with = "journals")]
    file: Option<PathBuf>,
    /// Tell instead what the cluster in this directory has done, by its journals; its cluster.toml is in it.
    /// Needs --html.
    #[arg(long, value_name = "DIR", requires = "html", conflicts_with_all = ["svg", "itf", "shiviz"])]
    journals: Option<PathBuf>,
    /// Tell the steps about these sequence numbers, such as 10..20, and every view change.
    #[arg(long, value_name = "FROM..TO", value_parser = numbers, requires = "journals")]
    numbers: Option<std::ops::RangeInclusive<u64>>,
    /// Write a page for a browser, with a sequence diagram, to this file, and tell nothing.
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
    /// Write the sequence diagram by itself to this file, and tell nothing.
    #[arg(long, value_name = "OUT")]
    svg: Option<PathBuf>,
    /// Write the states as a trace in the Informal Trace Format, for viewers of Apalache's and Quint's
    /// traces, and tell nothing.
    #[arg(long, value_name = "OUT")]
    itf: Option<PathBuf>,
    /// Write the events with vector clocks as a log for ShiViz, and tell nothing.
    #[arg(long, value_name = "OUT")]
    shiviz: Option<PathBuf>,
}

const FAINT: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const RED: Style = AnsiColor::Red.on_default().bold();
const VIOLET: Style = AnsiColor::Magenta.on_default();
const GREEN: Style = AnsiColor::Green.on_default();
const BLUE: Style = AnsiColor::Blue.on_default();

/// The counterexample in a file.
pub fn read(path: &Path) -> Result<Stored, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {}", path.display(), reason(&error)))?;
    Stored::parse(&text).map_err(|why| format!("cannot use {}: {why}", path.display()))
}

/// An error of the system without its number.
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Sequence numbers from the first to the last, both included: `10..20`.
pub fn numbers(text: &str) -> Result<std::ops::RangeInclusive<u64>, String> {
    let parsed = text.split_once("..").and_then(|(from, to)| {
        let to = if to.is_empty() { Some(u64::MAX) } else { to.parse().ok() };
        Some(from.parse().ok()?..=to?)
    });
    parsed.ok_or_else(|| "they are the first and the last number, such as 10..20".into())
}

/// The most steps of journals on one page.
pub const MOST_STEPS: usize = 300;

/// What is told of journals.
pub fn range(numbers: Option<std::ops::RangeInclusive<u64>>) -> Range {
    Range { numbers: numbers.unwrap_or(0..=u64::MAX), steps: MOST_STEPS }
}

/// Carries out the steps of the file, and tells the story or writes it to where it is asked for.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    if let (Some(directory), Some(path)) = (&arguments.journals, &arguments.html) {
        let (text, status) = audit::page(directory, &range(arguments.numbers.clone()))?;
        std::fs::write(path, text)
            .map_err(|error| format!("cannot write {}: {}", path.display(), reason(&error)))?;
        return Ok(ExitCode::from(status));
    }
    let file = arguments.file.as_ref().ok_or("name a counterexample, or give --journals")?;
    let stored = read(file)?;
    let mut replayed = match replay(&stored) {
        Ok(replayed) => replayed,
        Err(stale) => return Ok(stale_file(file, &stored, &stale)),
    };
    let harmless = with_safeguard(&replayed)?;
    let story = Story::of(&replayed, &harmless);
    let mut written = Vec::new();
    written.extend(arguments.html.as_ref().map(|path| (path, page(&story))));
    written.extend(arguments.svg.as_ref().map(|path| (path, svg(&story) + "\n")));
    written.extend(arguments.shiviz.as_ref().map(|path| (path, export::shiviz(&story))));
    let itf = |path| (path, export::itf(&story, &mut replayed.executor, &replayed.steps));
    written.extend(arguments.itf.as_ref().map(itf));
    for (path, text) in &written {
        std::fs::write(path, text)
            .map_err(|error| format!("cannot write {}: {}", path.display(), reason(&error)))?;
    }
    if written.is_empty() {
        // Without a terminal the colours are left out.
        let told = anstream::stdout().write_all(tell(&story).as_bytes());
        if told.is_err() {
            return Ok(ExitCode::from(3));
        }
    }
    if let Some(violation) = &harmless.violation {
        eprintln!("pbft: the same steps do harm by the paper's rules: {violation}");
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

fn stale_file(path: &Path, stored: &Stored, stale: &Stale) -> ExitCode {
    let again = if stored.then.is_some() { "pbft mutants --save" } else { "pbft check --save" };
    eprintln!(
        "pbft: {} does not reproduce with this program: {stale}; find it again with `{again}`",
        path.display()
    );
    ExitCode::from(1)
}

/// The story in lines.
fn tell(story: &Story) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{BOLD}{}{BOLD:#}", story.title());
    if let Some(lesson) = named(id_of(story.config.rules.without)) {
        let _ = writeln!(text, "{}: {}", story.heading(), attack(story, &lesson));
        let _ = writeln!(text, "The rule ({}): {}", lesson.source(), lesson.why);
    }
    let _ = writeln!(text, "World {}: {}.", story.config.name(), story.world());
    if let (Some(violation), Some(theorem)) = (&story.violation, story.theorem()) {
        let _ = writeln!(text, "The property {}: {theorem}", violation.property);
    }
    for (letter, what) in story.letters() {
        let _ = writeln!(text, "  {letter} = {what}");
    }
    if !story.steps.is_empty() {
        text.push('\n');
    }
    let way = story.steps.iter().map(|step| step.way().len()).max().unwrap_or_default();
    for step in &story.steps {
        tell_step(&mut text, step, way);
    }
    if let Some(then) = &story.then {
        let _ = writeln!(text, "\n{} {}:", then.begins, then.heading);
        for line in &then.why {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "{RED}{}{RED:#}", then.ending);
    }
    if let Some(meeting) = &story.meeting {
        let _ = writeln!(text, "\n{BLUE}{meeting}{BLUE:#}");
    }
    if let Some(ending) = &story.ending {
        let _ = writeln!(text, "\n{GREEN}With the rule:{GREEN:#} {ending}");
    }
    text
}

fn tell_step(text: &mut String, step: &StoryStep, way: usize) {
    let mark = match (step.byzantine.is_some(), step.is_lie()) {
        (false, _) => String::new(),
        (true, true) => format!("  {RED}[Byzantine]{RED:#}"),
        (true, false) => format!("  {VIOLET}[Byzantine, but true]{VIOLET:#}"),
    };
    let _ = writeln!(text, "{:>3}  {:<way$}  {BOLD}{}{BOLD:#}{mark}", step.number, step.way(), step.what);
    let indent = way + 7;
    let node = name(step.node);
    for lie in &step.lies {
        let _ = writeln!(text, "{:indent$}{RED}lie: {lie}{RED:#}", "");
    }
    for line in &step.contents {
        let _ = writeln!(text, "{:indent$}{FAINT}{line}{FAINT:#}", "");
    }
    if let Some(why) = &step.refused {
        let _ = writeln!(text, "{:indent$}{node} drops it: {why}", "");
    }
    if !step.does.is_empty() {
        let _ = writeln!(text, "{:indent$}{node} {}", "", step.does.join("; "));
    }
    for tally in &step.tallies {
        let style = if tally.is_complete() { BLUE } else { FAINT };
        let _ = writeln!(text, "{:indent$}{style}{}{style:#}", "", tally.in_words());
    }
    for why in &step.decided {
        let _ = writeln!(text, "{:indent$}O: {why}", "");
    }
    for sent in &step.sends {
        let _ = writeln!(text, "{:indent$}{FAINT}sends {sent}{FAINT:#}", "");
    }
    for unheard in step.unheard.iter().filter(|unheard| unheard.used.is_some()) {
        let _ = writeln!(text, "{:indent$}{FAINT}{}{FAINT:#}", "", unheard.in_words());
    }
    for (what, before, after) in &step.changes {
        let _ = writeln!(text, "{:indent$}{FAINT}{what}: {before} -> {after}{FAINT:#}", "");
    }
    if let Some(what) = &step.violated {
        let _ = writeln!(text, "{:indent$}{RED}VIOLATED: {what}{RED:#}", "");
    }
    if let Some(safely) = step.safely.as_ref().filter(|safely| safely.how != How::Same) {
        let _ = writeln!(text, "{:indent$}{GREEN}with the rule: {}{GREEN:#}", "", safely.why);
    }
}
