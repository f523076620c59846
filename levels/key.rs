//! A state as one number: its words side by side, each in as many bits as the largest so far needs.
//!
//! The first word is the most significant, so numbers are in the order of states, whatever the bits: a list
//! that is sorted stays sorted when words get more bits.

use std::num::NonZeroU32;

/// Bits in a limb.
pub(crate) const LIMB: u32 = u64::BITS;

/// The most limbs of a key.
pub(crate) const MOST_LIMBS: usize = 4;

/// A number of `W` limbs, the most significant first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key<const W: usize>(pub(crate) [u64; W]);

impl<const W: usize> Key<W> {
    pub(crate) const ZERO: Self = Key([0; W]);

    /// The number with these limbs, of which there are at most `W`.
    pub(crate) fn of_limbs(limbs: &[u64]) -> Self {
        let mut key = [0; W];
        key[W - limbs.len()..].copy_from_slice(limbs);
        Key(key)
    }

    /// Its least significant limbs.
    pub(crate) fn limbs(&self, count: usize) -> &[u64] {
        &self.0[W - count..]
    }

    /// The lowest limb.
    #[inline]
    pub(crate) fn low(self) -> u64 {
        self.0[W - 1]
    }

    /// Moved up by fewer bits than a limb has.
    #[inline]
    pub(crate) fn up(self, bits: u32) -> Self {
        let mut moved = [0; W];
        for (limb, moved) in moved.iter_mut().enumerate() {
            let below = if limb + 1 < W { self.0[limb + 1] } else { 0 };
            *moved = match NonZeroU32::new(bits) {
                Some(bits) => self.0[limb] << bits.get() | below >> (LIMB - bits.get()),
                None => self.0[limb],
            };
        }
        Key(moved)
    }

    /// Moved down by fewer bits than a limb has.
    #[inline]
    pub(crate) fn down(self, bits: u32) -> Self {
        let mut moved = [0; W];
        for (limb, moved) in moved.iter_mut().enumerate() {
            let above = if limb > 0 { self.0[limb - 1] } else { 0 };
            *moved = match NonZeroU32::new(bits) {
                Some(bits) => self.0[limb] >> bits.get() | above << (LIMB - bits.get()),
                None => self.0[limb],
            };
        }
        Key(moved)
    }

    /// With a limb of zeros below, and the highest gone.
    pub(crate) fn up_a_limb(self) -> Self {
        let mut moved = [0; W];
        moved[..W - 1].copy_from_slice(&self.0[1..]);
        Key(moved)
    }

    /// With a limb of zeros above, and the lowest gone.
    pub(crate) fn down_a_limb(self) -> Self {
        let mut moved = [0; W];
        moved[1..].copy_from_slice(&self.0[..W - 1]);
        Key(moved)
    }

    /// The sum, of which there is one.
    #[inline]
    pub(crate) fn plus(self, other: Self) -> Self {
        let (mut sum, mut carry) = ([0; W], false);
        for limb in (0..W).rev() {
            let (some, first) = self.0[limb].overflowing_add(other.0[limb]);
            let (all, second) = some.overflowing_add(u64::from(carry));
            sum[limb] = all;
            carry = first | second;
        }
        Key(sum)
    }

    /// The difference to a smaller one.
    #[inline]
    pub(crate) fn minus(self, other: Self) -> Self {
        let (mut difference, mut borrow) = ([0; W], false);
        for limb in (0..W).rev() {
            let (some, first) = self.0[limb].overflowing_sub(other.0[limb]);
            let (all, second) = some.overflowing_sub(u64::from(borrow));
            difference[limb] = all;
            borrow = first | second;
        }
        Key(difference)
    }

    /// Bits without leading zeros.
    #[inline]
    pub(crate) fn bits(self) -> u32 {
        let width = u32::try_from(W).expect("a key has few limbs") * LIMB;
        let zeros = self.0.iter().position(|&limb| limb != 0).map(|limb| {
            u32::try_from(limb).expect("a key has few limbs") * LIMB + self.0[limb].leading_zeros()
        });
        width - zeros.unwrap_or(width)
    }
}

/// States are told apart by all of their words, so none may be overlooked.
#[inline]
pub(crate) fn assert_width(state: &[u32], width: usize) {
    let words = state.len();
    assert!(words == width, "a state has {words} words, and Space::width says {width}");
}

/// How many bits each word has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    pub(crate) bits: Vec<u8>,
}

impl Layout {
    /// One bit for each of so many words.
    pub(crate) fn new(width: usize) -> Self {
        assert!(width > 0, "a state has at least one word");
        Layout { bits: vec![1; width] }
    }

    /// Limbs of a key.
    pub(crate) fn limbs(&self) -> usize {
        let bits: usize = self.bits.iter().map(|&bits| usize::from(bits)).sum();
        bits.div_ceil(LIMB as usize).max(1)
    }

    /// Whether the words of `state` have more bits than there are; then they get them.
    pub(crate) fn widen(&mut self, state: &[u32]) -> bool {
        assert_width(state, self.bits.len());
        let mut wider = false;
        for (bits, word) in self.bits.iter_mut().zip(state) {
            let needed = u8::try_from(u32::BITS - word.leading_zeros()).expect("a word has 32 bits").max(1);
            wider |= needed > *bits;
            *bits = needed.max(*bits);
        }
        wider
    }

    /// As wide as both.
    pub(crate) fn joined(mut self, other: Layout) -> Self {
        self.bits.iter_mut().zip(other.bits).for_each(|(bits, more)| *bits = more.max(*bits));
        self
    }

    /// The key of a state, unless a word does not fit.
    #[inline]
    pub(crate) fn pack<const W: usize>(&self, state: &[u32]) -> Option<Key<W>> {
        assert_width(state, self.bits.len());
        let mut key = Key::<W>::ZERO;
        let mut rest = 0;
        for (&bits, &word) in self.bits.iter().zip(state) {
            key = key.up(u32::from(bits));
            key.0[W - 1] |= u64::from(word);
            rest |= u64::from(word) >> bits;
        }
        (rest == 0).then_some(key)
    }

    /// Writes the words of a key to `state`.
    #[inline]
    pub(crate) fn unpack<const W: usize>(&self, key: Key<W>, state: &mut [u32]) {
        let mut rest = key;
        for (&bits, word) in self.bits.iter().zip(state).rev() {
            *word = u32::try_from(rest.low() & !(u64::MAX << bits)).expect("a word has 32 bits");
            rest = rest.down(u32::from(bits));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes_back<const W: usize>(states: &[Vec<u32>]) {
        let mut layout = Layout::new(states[0].len());
        states.iter().for_each(|state| {
            layout.widen(state);
        });
        assert!(layout.limbs() <= W);
        let keys: Vec<Key<W>> = states.iter().map(|state| layout.pack(state).expect("it fits")).collect();
        for (state, &key) in states.iter().zip(&keys) {
            let mut words = vec![0; state.len()];
            layout.unpack(key, &mut words);
            assert_eq!(&words, state);
        }
        for (one, key) in states.iter().zip(&keys) {
            for (other, other_key) in states.iter().zip(&keys) {
                assert_eq!(one.cmp(other), key.cmp(other_key));
                if other <= one {
                    assert_eq!(key.minus(*other_key).plus(*other_key), *key);
                }
            }
        }
    }

    #[test]
    fn states_come_back_in_their_order_whatever_their_bits() {
        let small: Vec<Vec<u32>> = (0..60).map(|i| vec![i % 7, i % 5, (i * i) % 11]).collect();
        comes_back::<1>(&small);
        comes_back::<3>(&small);
        let large: Vec<Vec<u32>> = (0..40).map(|i| vec![u32::MAX - i, i, i << 20, u32::MAX, 0, i]).collect();
        comes_back::<3>(&large);
        comes_back::<4>(&large);
    }

    #[test]
    fn a_word_that_has_too_many_bits_is_refused() {
        let mut layout = Layout::new(2);
        assert_eq!(layout.pack::<1>(&[1, 1]), Some(Key([3])));
        assert_eq!(layout.pack::<1>(&[2, 1]), None);
        assert!(layout.widen(&[2, 1]));
        assert!(!layout.widen(&[3, 1]));
        assert_eq!(layout.pack::<1>(&[2, 1]), Some(Key([5])));
    }
}
