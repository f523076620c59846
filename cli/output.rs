//! Writing to standard output, being told to stop, and counting what is allocated.

use cap::Cap;
use mimalloc::MiMalloc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Counts; it limits nothing by itself, because an exploration that must stop can say how far it came.
#[global_allocator]
static ALLOCATOR: Cap<MiMalloc> = Cap::new(MiMalloc, usize::MAX);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C asks the run to stop and to say what it has covered; a second one ends the program.
pub fn watch_for_interrupts() {
    let handler = || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(3);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("pbft: Ctrl-C will end the program without a verdict: {error}");
    }
}

/// Whether Ctrl-C was pressed.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// The bytes allocated now.
pub fn allocated() -> usize {
    ALLOCATOR.allocated()
}

/// What is wrong with the command line, without the usage text that `--help` gives; `hint` if there is
/// nothing on it.
pub fn one_sentence(error: &clap::Error, program: &str, hint: &str) -> String {
    use clap::error::ErrorKind;
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return hint.into();
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").trim_end_matches(':');
    let missing = text.lines().skip(1).take_while(|line| line.starts_with("  ")).map(str::trim);
    let details: Vec<&str> = missing.collect();
    let details = if details.is_empty() { String::new() } else { format!(" {}", details.join(", ")) };
    format!("{first}{details} (see `{program} --help`)")
}

/// `println!` for a reader that may go away: then there is nobody to tell, and the program ends with status
/// 3.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        if writeln!(std::io::stdout(), $($text)*).is_err() {
            std::process::exit(3);
        }
    }};
}
