//! Which datagrams of a session have been received.

/// 64-bit words of the bitmap.
const WORDS: u64 = 64;
/// A counter that lies this far below the highest received, or further, counts as received.
pub const WINDOW: u64 = (WORDS - 1) * 64;

/// A ring of bits for the counters below the highest. One word is always about to be reused.
#[derive(Debug)]
pub struct Window {
    /// One more than the highest counter accepted.
    next: u64,
    words: [u64; WORDS as usize],
}

impl Default for Window {
    fn default() -> Self {
        Window { next: 0, words: [0; WORDS as usize] }
    }
}

impl Window {
    /// Whether a counter has not been accepted yet and is not too old to tell.
    pub fn is_fresh(&self, counter: u64) -> bool {
        if counter == u64::MAX {
            return false;
        }
        if counter >= self.next {
            return true;
        }
        self.next - counter <= WINDOW && self.words[slot(counter)] & bit(counter) == 0
    }

    /// Accepts a counter, once. Returns whether it is the highest so far; nothing if it is not fresh.
    pub fn accept(&mut self, counter: u64) -> Option<bool> {
        if !self.is_fresh(counter) {
            return None;
        }
        let newest = counter >= self.next;
        if newest {
            let top = self.next.saturating_sub(1) / 64;
            for word in (top + 1..=counter / 64).take(WORDS as usize) {
                self.words[(word % WORDS) as usize] = 0;
            }
            // A jump of a whole round or more clears everything, and the loop has.
            self.next = counter + 1;
        }
        self.words[slot(counter)] |= bit(counter);
        Some(newest)
    }
}

fn slot(counter: u64) -> usize {
    (counter / 64 % WORDS) as usize
}

fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_window_is_wide_enough_and_ends() {
        let mut window = Window::default();
        assert_eq!(window.accept(10_000), Some(true));
        assert_eq!(window.accept(10_001 - WINDOW), Some(false));
        assert_eq!(window.accept(10_001 - WINDOW), None);
        assert_eq!(window.accept(10_000 - WINDOW), None);
        assert_eq!(window.accept(u64::MAX), None);
        assert_eq!(window.accept(u64::MAX - 1), Some(true));
        const { assert!(WINDOW >= 2048) };
    }

    proptest! {
        /// Compared with a set of all that was accepted.
        #[test]
        fn every_counter_is_accepted_once(
            steps in prop::collection::vec((0u64..9000, prop::bool::weighted(0.02)), 1..400)
        ) {
            let mut window = Window::default();
            let mut seen = BTreeSet::new();
            let mut base = 0u64;
            for (step, jump) in steps {
                if jump {
                    base += step * 7;
                }
                let counter = base + step % 4500;
                let highest = seen.last().copied();
                let in_reach = highest.is_none_or(|highest: u64| counter + WINDOW > highest);
                let expected = (in_reach && !seen.contains(&counter))
                    .then(|| highest.is_none_or(|highest| counter > highest));
                prop_assert_eq!(window.accept(counter), expected);
                if expected.is_some() {
                    seen.insert(counter);
                }
            }
        }
    }
}
