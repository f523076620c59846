//! What happens in a run, as it is told: each thing once, with how often it happens and until when. So what goes on for
//! ever is a line, and what led to it is still there.

use std::collections::VecDeque;

/// The most different things that are told of a run.
pub const MOST_TOLD: usize = 32;

/// The last things that happened, in the order in which each did for the first time.
#[derive(Default)]
pub(super) struct Told {
    lines: VecDeque<Line>,
}

struct Line {
    node: String,
    what: String,
    first: u64,
    last: u64,
    times: u64,
}

impl Told {
    /// Something happens at a node, at this time in milliseconds.
    pub(super) fn add(&mut self, now: u64, node: String, what: String) {
        let known = self.lines.iter_mut().find(|line| line.node == node && line.what == what);
        if let Some(line) = known {
            line.last = now;
            line.times += 1;
            return;
        }
        if self.lines.len() == MOST_TOLD {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { node, what, first: now, last: now, times: 1 });
    }

    /// A line for each.
    pub(super) fn lines(self) -> Vec<String> {
        let told = |Line { node, what, first, last, times }| {
            let again = match times {
                1 => String::new(),
                2 => format!(", and again at {last} ms"),
                _ => format!(", {times} times until {last} ms"),
            };
            format!("{first:>7} ms  {node} {what}{again}")
        };
        self.lines.into_iter().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_again_is_told_once_and_the_oldest_goes_first() {
        let mut told = Told::default();
        for now in 1..=3 {
            told.add(now * 100, "r1".into(), "sends VIEW-CHANGE v1".into());
        }
        told.add(400, "r2".into(), "times out".into());
        told.add(500, "r2".into(), "times out".into());
        assert_eq!(
            told.lines(),
            [
                "    100 ms  r1 sends VIEW-CHANGE v1, 3 times until 300 ms",
                "    400 ms  r2 times out, and again at 500 ms"
            ]
        );
        let mut told = Told::default();
        for view in 0..=MOST_TOLD {
            told.add(0, "r1".into(), format!("enters v{view}"));
        }
        let lines = told.lines();
        assert_eq!((lines.len(), lines[0].as_str()), (MOST_TOLD, "      0 ms  r1 enters v1"));
    }
}
