//! Where random bytes come from: the operating system, or a test.

use std::fmt;

/// A source of random bytes. Everything secret or unpredictable in sessions is drawn from it.
pub struct Random(Box<Fill>);

type Fill = dyn FnMut(&mut [u8]) + Send;

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

impl Random {
    /// The operating system's.
    ///
    /// # Panics
    /// When bytes are drawn and the operating system has none: nothing can be kept secret then.
    pub fn system() -> Self {
        Random(Box::new(|bytes| getrandom::fill(bytes).expect("the operating system has random bytes")))
    }

    /// What `fill` writes, for runs that can be repeated. It must be a cryptographic generator wherever
    /// anything depends on the sessions.
    pub fn from_fn(fill: impl FnMut(&mut [u8]) + Send + 'static) -> Self {
        Random(Box::new(fill))
    }

    /// For tests: the same bytes for the same seed.
    #[cfg(test)]
    pub fn seeded(seed: u64) -> Self {
        use rand::{Rng, SeedableRng};
        let mut generator = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        Random::from_fn(move |bytes| generator.fill_bytes(bytes))
    }

    /// Draws some.
    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.0)(&mut bytes);
        bytes
    }
}
