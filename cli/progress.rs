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
    levels: Levels,
}

/// What is known of the sizes of levels.
#[derive(Default)]
struct Levels {
    depth: usize,
    /// States of the level being expanded, and of the one before it, if that was seen.
    sizes: (u64, Option<u64>),
}

impl Levels {
    /// About how many states are left to be expanded, if levels go on shrinking as they do now; nothing if they do not.
    fn left(&mut self, now: &Progress) -> Option<u64> {
        if now.depth != self.depth {
            let before = (now.depth == self.depth + 1).then_some(self.sizes.0);
            *self = Levels { depth: now.depth, sizes: (now.frontier, before) };
        }
        self.sizes.0 = now.frontier;
        let before = self.sizes.1?;
        // The levels to come are a geometric series: the first of them is to this one as this one is to the last.
        let below = before.checked_sub(now.frontier).filter(|&below| below > 0)?;
        let to_come = u128::from(now.frontier) * u128::from(now.frontier) / u128::from(below);
        let of_this = u128::from(now.frontier.saturating_sub(now.expanded));
        u64::try_from(of_this + to_come).ok()
    }
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
        Ticker { world, terminal: stderr().is_terminal(), last: Instant::now(), levels: Levels::default() }
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
        let each = now.state_bytes as f64 / states.max(1) as f64;
        let world = &self.world;
        let left = match self.levels.left(&now) {
            Some(left) => format!(", about {left} left, {:.0} s", left as f64 / rate.max(1e-9)),
            None => String::new(),
        };
        self.show(&format!(
            "{world}: {states} states of {each:.1} bytes, {rate:.0} a second, depth {depth} with {frontier} of them, {seconds:.0} s{left}"
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(depth: usize, frontier: u64, expanded: u64) -> Progress {
        let (states, transitions, state_bytes, elapsed) = (0, 0, 0, Duration::ZERO);
        Progress { states, transitions, frontier, expanded, depth, state_bytes, elapsed }
    }

    #[test]
    fn what_is_left_is_told_where_levels_shrink_and_nowhere_else() {
        let mut levels = Levels::default();
        let told = [at(0, 1, 0), at(1, 400, 0), at(2, 200, 0), at(2, 200, 150), at(3, 100, 100)];
        let told: Vec<_> = told.iter().map(|now| levels.left(now)).collect();
        // 100, 50, 25 and so on are to come after 200; after 100 half of that.
        assert_eq!(told, [None, None, Some(400), Some(250), Some(100)]);
        assert_eq!(levels.left(&at(4, 100, 0)), None, "as many as before");
        assert_eq!(levels.left(&at(6, 10, 0)), None, "the level before was not seen");
    }
}
