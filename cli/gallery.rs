//! `pbft gallery`: every stored counterexample as one static site.

use crate::replay::{read, reason};
use crate::say;
use pbft_models::matrix::rows;
use pbft_models::story::Story;
use pbft_models::story::gallery::{Exhibit, markdown, site};
use pbft_models::story::lessons::consequence;
use pbft_models::story::refuted;
use pbft_models::trace::replay::{replay, with_safeguard};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The options of `pbft gallery`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The directory to write the site to; index.html is its entrance.
    #[arg(value_name = "DIR", required_unless_present = "markdown")]
    directory: Option<PathBuf>,
    /// Where the counterexamples are.
    #[arg(long, value_name = "DIR", default_value = "counterexamples")]
    counterexamples: PathBuf,
    /// The address of the source of this program, for links to rules and clauses.
    #[arg(long, value_name = "URL")]
    source: Option<String>,
    /// Write README.md and the diagrams beside the counterexamples instead.
    #[arg(long, conflicts_with_all = ["directory", "source"])]
    markdown: bool,
}

/// Writes the site.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let exhibits = exhibits(&arguments.counterexamples)?;
    let proof = refuted::stored(&arguments.counterexamples.join("refuted"))?;
    let (directory, files) = match &arguments.directory {
        Some(directory) => (directory, site(&exhibits, &proof, arguments.source.as_deref())),
        None => {
            let mut files = markdown(&exhibits);
            files.extend(refuted::markdown(&proof));
            (&arguments.counterexamples, files)
        }
    };
    for (name, text) in &files {
        write(directory, name, text)?;
    }
    let pages = files.len();
    say!("{pages} files in {}: open {}", directory.display(), directory.join(&files[0].0).display());
    Ok(ExitCode::SUCCESS)
}

fn write(directory: &Path, name: &str, text: &str) -> Result<(), String> {
    let path = directory.join(name);
    let parent = path.parent().unwrap_or(directory);
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(&path, text))
        .map_err(|error| format!("cannot write {}: {}", path.display(), reason(&error)))
}

/// Every safeguard, with the story of its counterexample if there is one.
fn exhibits(directory: &Path) -> Result<Vec<Exhibit>, String> {
    let exhibit = |row: pbft_models::matrix::Row| {
        let further = row.mutant.and_then(consequence).map(|_| format!("consequences/{}.json", row.id()));
        let story = row.file().map(|file| told(&directory.join(file))).transpose()?;
        let consequence = further.map(|file| told(&directory.join(file))).transpose()?;
        Ok(Exhibit { row, story, consequence })
    };
    rows().into_iter().map(exhibit).collect()
}

fn told(path: &Path) -> Result<Story, String> {
    let replayed = replay(&read(path)?).map_err(|stale| {
        format!("{} does not reproduce: {stale}; find it again with `pbft mutants --save`", path.display())
    })?;
    let harmless = with_safeguard(&replayed)?;
    Ok(Story::of(&replayed, &harmless))
}
