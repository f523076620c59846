//! Writing to standard output, and being told to stop.

use mimalloc::MiMalloc;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::atomic::{AtomicBool, Ordering};

/// It does not count: all threads would count every allocation in one place.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static HANGUPS_EXPECTED: AtomicBool = AtomicBool::new(false);
static HUNG_UP: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C, SIGTERM and SIGHUP ask the run to stop and to say what it has covered; a second one
/// ends the program.
pub fn watch_for_interrupts() {
    let watch = |mut signals: Signals| {
        for signal in signals.forever() {
            if signal == SIGHUP && HANGUPS_EXPECTED.load(Ordering::Relaxed) {
                HUNG_UP.store(true, Ordering::Relaxed);
            } else if INTERRUPTED.swap(true, Ordering::Relaxed) {
                std::process::exit(3);
            }
        }
    };
    let watched = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .and_then(|signals| std::thread::Builder::new().name("signals".into()).spawn(move || watch(signals)));
    if let Err(error) = watched {
        eprintln!("pbft: Ctrl-C will end the program without a verdict: {error}");
    }
}

/// From now on SIGHUP does not ask the run to stop; [`hung_up`] tells of it.
pub fn expect_hangups() {
    HANGUPS_EXPECTED.store(true, Ordering::Relaxed);
}

/// Whether there was a SIGHUP since the last call.
pub fn hung_up() -> bool {
    HUNG_UP.swap(false, Ordering::Relaxed)
}

/// Whether Ctrl-C was pressed.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
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
