//! `pbft replay`: a stored counterexample, carried out again and told.

use anstyle::{AnsiColor, Style};
use pbft_models::story::{Story, Told, name, page, svg};
use pbft_models::trace::file::Stored;
use pbft_models::trace::replay::{Stale, replay, with_safeguard};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The options of `pbft replay`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The counterexample: what `pbft check --save` writes, and what is in counterexamples/.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write a page for a browser, with a sequence diagram, to this file, and tell nothing.
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
    /// Write the sequence diagram by itself to this file, and tell nothing.
    #[arg(long, value_name = "OUT")]
    svg: Option<PathBuf>,
}

const FAINT: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const RED: Style = AnsiColor::Red.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default();

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

/// Carries out the steps of the file, and tells the story or writes it to where it is asked for.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let stored = read(&arguments.file)?;
    let replayed = match replay(&stored) {
        Ok(replayed) => replayed,
        Err(stale) => return Ok(stale_file(&arguments.file, &stale)),
    };
    let harmless = with_safeguard(&replayed)?;
    let story = Story::of(&replayed, &harmless);
    let written = [(&arguments.html, page as fn(&Story) -> String), (&arguments.svg, svg)];
    for (path, drawn) in written {
        if let Some(path) = path {
            std::fs::write(path, drawn(&story))
                .map_err(|error| format!("cannot write {}: {}", path.display(), reason(&error)))?;
        }
    }
    if arguments.html.is_none() && arguments.svg.is_none() {
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

fn stale_file(path: &Path, stale: &Stale) -> ExitCode {
    eprintln!(
        "pbft: {} does not reproduce with this program: {stale}; find it again with `pbft check --save`",
        path.display()
    );
    ExitCode::from(1)
}

/// The story in lines.
fn tell(story: &Story) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{BOLD}{}{BOLD:#}", story.title());
    let _ = writeln!(text, "World {}.", story.config.name());
    if let Some(theorem) = story.theorem() {
        let _ = writeln!(text, "What should hold: {theorem}");
    }
    for (letter, what) in story.names.listed() {
        let _ = writeln!(text, "  {letter} = {what}");
    }
    text.push('\n');
    let way = story.steps.iter().map(|step| step.way().len()).max().unwrap_or_default();
    for step in &story.steps {
        tell_step(&mut text, step, way);
    }
    if let Some(ending) = &story.ending {
        let _ = writeln!(text, "\n{GREEN}With the safeguard:{GREEN:#} {ending}");
    }
    text
}

fn tell_step(text: &mut String, step: &Told, way: usize) {
    let how = step.byzantine.as_ref().map(|how| format!("  {RED}[{how}]{RED:#}")).unwrap_or_default();
    let _ = writeln!(text, "{:>3}  {:<way$}  {BOLD}{}{BOLD:#}{how}", step.number, step.way(), step.what);
    let indent = way + 7;
    let node = name(step.node);
    if !step.does.is_empty() {
        let _ = writeln!(text, "{:indent$}{node} {}", "", step.does.join("; "));
    }
    for quorum in &step.quorums {
        let _ = writeln!(text, "{:indent$}{GREEN}{quorum}{GREEN:#}", "");
    }
    for sent in &step.sends {
        let _ = writeln!(text, "{:indent$}{FAINT}sends {sent}{FAINT:#}", "");
    }
    for (what, before, after) in &step.changes {
        let _ = writeln!(text, "{:indent$}{FAINT}{what}: {before} -> {after}{FAINT:#}", "");
    }
    if let Some(what) = &step.violated {
        let _ = writeln!(text, "{:indent$}{RED}VIOLATED: {what}{RED:#}", "");
    }
}
