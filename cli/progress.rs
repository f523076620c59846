//! How far an exploration is, on standard error.

use pbft_models::engine::Progress;
use pbft_models::report::{Explore, Stage};
use pbft_models::walks::WalkReport;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// Between two lines where they cannot be rewritten.
const LINES_EVERY: Duration = Duration::from_secs(10);

/// Shows the progress of one world: in place on a terminal, otherwise in a line now and then.
pub struct Ticker {
    world: String,
    terminal: bool,
    last: Instant,
}

impl Ticker {
    /// Shows nothing yet.
    pub fn new(world: &str, explore: Explore) -> Self {
        Self::named(format!("{world} {}", explore.name()))
    }

    /// The same for walks.
    pub fn walks(world: &str) -> Self {
        Self::named(format!("{world} walks"))
    }

    fn named(world: String) -> Self {
        Ticker { world, terminal: stderr().is_terminal(), last: Instant::now() }
    }

    /// Shows how far a run is.
    pub fn tick_stage(&mut self, now: Stage) {
        match now {
            Stage::Exploring(progress) => self.tick(progress),
            Stage::Checking { checked, elapsed } => {
                let (world, seconds) = (&self.world, elapsed.as_secs_f64());
                self.show(&format!("{world}: {checked} checks of the conditions made, {seconds:.0} s"));
            }
        }
    }

    /// Shows how far an exploration is.
    pub fn tick(&mut self, now: Progress) {
        let seconds = now.elapsed.as_secs_f64();
        let rate = now.states as f64 / seconds.max(1e-9);
        let Progress { states, frontier, depth, .. } = now;
        let world = &self.world;
        self.show(&format!(
            "{world}: {states} states, {rate:.0} a second, depth {depth} with {frontier} of them, {seconds:.0} s"
        ));
    }

    /// Shows how many walks of those asked for have been taken.
    pub fn tick_walks(&mut self, now: &WalkReport, asked: u64) {
        let WalkReport { walks, steps, joints, .. } = now;
        let (world, seconds) = (&self.world, now.elapsed.as_secs_f64());
        self.show(&format!(
            "{world}: {walks} of {asked}, {steps} steps, {joints} joint histories, {seconds:.0} s"
        ));
    }

    fn show(&mut self, line: &str) {
        if self.terminal {
            self.put(&format!("\r\x1b[K{line}"));
        } else if self.last.elapsed() >= LINES_EVERY {
            self.last = Instant::now();
            self.put(&format!("{line}\n"));
        }
    }

    /// Leaves the terminal as it was.
    pub fn wipe(&self) {
        if self.terminal {
            self.put("\r\x1b[K");
        }
    }

    fn put(&self, text: &str) {
        let mut out = stderr();
        // Progress that does not appear is no reason to stop.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
