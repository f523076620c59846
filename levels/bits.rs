//! Numbers of any number of bits, one after the other.

use super::key::{Key, LIMB};

/// Writes them.
#[derive(Default)]
pub(crate) struct BitWriter {
    words: Vec<u64>,
    /// Bits of the last word that are used, all of them if there is none.
    used: u32,
}

impl BitWriter {
    /// Bits written so far.
    pub(crate) fn position(&self) -> u64 {
        match self.words.len() as u64 {
            0 => 0,
            words => (words - 1) * u64::from(LIMB) + u64::from(self.used),
        }
    }

    /// Writes the lowest bits of a number: at most 64.
    #[inline]
    pub(crate) fn write(&mut self, number: u64, bits: u32) {
        if bits == 0 {
            return;
        }
        let number = if bits == LIMB { number } else { number & !(u64::MAX << bits) };
        match self.words.last_mut() {
            Some(last) if self.used < LIMB => {
                *last |= number << self.used;
                let room = LIMB - self.used;
                self.used += bits;
                if bits > room {
                    self.words.push(number >> room);
                    self.used = bits - room;
                }
            }
            _ => {
                self.words.push(number);
                self.used = bits;
            }
        }
    }

    /// The words, with one more of zeros, so that a reader may look past the end.
    pub(crate) fn finish(mut self) -> Box<[u64]> {
        self.words.push(0);
        self.words.into_boxed_slice()
    }
}

/// Reads them.
#[derive(Clone, Copy)]
pub(crate) struct BitReader<'a> {
    words: &'a [u64],
    position: u64,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(words: &'a [u64], position: u64) -> Self {
        BitReader { words, position }
    }

    /// Where it is, in bits.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next 64 bits.
    #[inline]
    fn peek(&self) -> u64 {
        let (word, bit) = ((self.position / u64::from(LIMB)) as usize, self.position % u64::from(LIMB));
        let low = self.words.get(word).copied().unwrap_or_default() >> bit;
        // In two moves, as one of all bits is none.
        low | (self.words.get(word + 1).copied().unwrap_or_default() << (63 - bit)) << 1
    }

    /// A number of at most 64 bits.
    #[inline]
    pub(crate) fn read(&mut self, bits: u32) -> u64 {
        let next = self.peek();
        self.position += u64::from(bits);
        match bits {
            LIMB => next,
            _ => next & !(u64::MAX << bits),
        }
    }

    /// How many zeros come before the next one, which is read too; fewer than 64.
    #[inline]
    pub(crate) fn zeros(&mut self) -> u32 {
        let zeros = self.peek().trailing_zeros();
        self.position += u64::from(zeros) + 1;
        zeros
    }
}

/// Zeros that announce a number that is written whole.
const ESCAPE: u32 = 24;

/// Writes a number by Rice: its lowest `k` bits, and the rest as so many zeros and a one. One with too many
/// zeros is written whole.
#[inline]
pub(crate) fn write_rice<const W: usize>(writer: &mut BitWriter, number: Key<W>, k: u32, whole: u32) {
    let rest = down_any(number, k);
    if rest.bits() > 5 || rest.low() >= u64::from(ESCAPE) {
        writer.write(1 << ESCAPE, ESCAPE + 1);
        write_low(writer, number, whole);
        return;
    }
    let zeros = u32::try_from(rest.low()).expect("it is below the escape");
    writer.write(1 << zeros, zeros + 1);
    write_low(writer, number, k);
}

/// Reads it.
#[inline]
pub(crate) fn read_rice<const W: usize>(reader: &mut BitReader<'_>, k: u32, whole: u32) -> Key<W> {
    let zeros = reader.zeros();
    if zeros >= ESCAPE {
        return read_low(reader, whole);
    }
    let low = read_low::<W>(reader, k);
    let mut rest = Key::<W>::ZERO;
    rest.0[W - 1] = u64::from(zeros);
    low.plus(up_any(rest, k))
}

/// The bits that it takes.
pub(crate) fn rice_cost<const W: usize>(number: Key<W>, k: u32, whole: u32) -> u64 {
    let rest = down_any(number, k);
    let zeros = if rest.bits() > 5 { u64::from(ESCAPE) } else { rest.low() };
    match zeros < u64::from(ESCAPE) {
        true => zeros + 1 + u64::from(k),
        false => u64::from(ESCAPE + 1 + whole),
    }
}

#[inline]
fn write_low<const W: usize>(writer: &mut BitWriter, number: Key<W>, bits: u32) {
    let (mut rest, mut bits) = (number, bits);
    while bits > LIMB {
        writer.write(rest.low(), LIMB);
        rest = rest.down_a_limb();
        bits -= LIMB;
    }
    writer.write(rest.low(), bits);
}

#[inline]
fn read_low<const W: usize>(reader: &mut BitReader<'_>, bits: u32) -> Key<W> {
    let mut key = Key::<W>::ZERO;
    let (mut limb, mut bits) = (W - 1, bits);
    while bits > LIMB {
        key.0[limb] = reader.read(LIMB);
        limb -= 1;
        bits -= LIMB;
    }
    key.0[limb] = reader.read(bits);
    key
}

#[inline]
fn down_any<const W: usize>(number: Key<W>, bits: u32) -> Key<W> {
    let mut moved = number;
    for _ in 0..bits / LIMB {
        moved = moved.down_a_limb();
    }
    moved.down(bits % LIMB)
}

#[inline]
fn up_any<const W: usize>(number: Key<W>, bits: u32) -> Key<W> {
    let mut moved = number;
    for _ in 0..bits / LIMB {
        moved = moved.up_a_limb();
    }
    moved.up(bits % LIMB)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes_back<const W: usize>(numbers: &[Key<W>], whole: u32) {
        for k in 0..whole {
            let mut writer = BitWriter::default();
            let mut cost = 0;
            for &number in numbers {
                write_rice(&mut writer, number, k, whole);
                cost += rice_cost(number, k, whole);
                assert_eq!(writer.position(), cost);
            }
            let words = writer.finish();
            let mut reader = BitReader::new(&words, 0);
            for &number in numbers {
                assert_eq!(read_rice::<W>(&mut reader, k, whole), number, "k = {k}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let small: Vec<Key<1>> = (0..64).map(|bit| Key([1 << bit])).chain([Key([0]), Key([7])]).collect();
        comes_back(&small, 64);
        let large: Vec<Key<2>> =
            (0..64).flat_map(|bit| [Key([1 << bit, u64::MAX]), Key([0, 3 << bit])]).collect();
        comes_back(&large, 128);
        comes_back::<4>(&[Key([0; 4]), Key([u64::MAX; 4]), Key([0, 0, 0, 9])], 256);
    }
}
