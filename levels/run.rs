//! Sorted lists of keys, each as the difference to the one before, in about as many bits as that needs.
//!
//! A run is cut in chunks, and a chunk in blocks: the first key of each block is written whole, so that a
//! reader finds its way to any key without decoding all before it.

use super::bits::{BitReader, BitWriter, read_rice, rice_cost, write_rice};
use super::file::{Place, RunFile};
use super::key::{Key, LIMB, Layout};
use std::sync::Arc;

/// Keys in a block.
pub(crate) const BLOCK: usize = 128;

/// The most keys in a chunk.
pub(crate) const CHUNK: usize = 1 << 16;

/// Bits in which a block says how its differences are written.
const HEAD: u32 = 8;

/// Part of a run.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Chunk {
    /// Limbs of its keys.
    limbs: usize,
    /// Keys.
    len: usize,
    /// The first key of each block.
    firsts: Box<[u64]>,
    /// Where in `data` each block begins, in bits.
    at: Box<[u32]>,
    data: Box<[u64]>,
}

impl Chunk {
    /// Encodes keys, ascending, each once: at most [`CHUNK`], and at least one.
    pub(crate) fn new<const W: usize>(keys: &[Key<W>], limbs: usize) -> Self {
        let (mut firsts, mut at) = (Vec::new(), Vec::new());
        let mut writer = BitWriter::default();
        let whole = whole(limbs);
        for block in keys.chunks(BLOCK) {
            firsts.extend_from_slice(block[0].limbs(limbs));
            at.push(u32::try_from(writer.position()).expect("a chunk has fewer than 2^32 bits"));
            let k = best(block, whole);
            writer.write(u64::from(k), HEAD);
            for pair in block.windows(2) {
                write_rice(&mut writer, pair[1].minus(pair[0]), k, whole);
            }
        }
        let (firsts, at) = (firsts.into_boxed_slice(), at.into_boxed_slice());
        Chunk { limbs, len: keys.len(), firsts, at, data: writer.finish() }
    }

    /// Blocks.
    fn blocks(&self) -> usize {
        self.at.len()
    }

    /// Bytes allocated for it.
    fn bytes(&self) -> usize {
        size_of::<Self>() + 8 * (self.firsts.len() + self.data.len()) + 4 * self.at.len()
    }

    fn first<const W: usize>(&self, block: usize) -> Key<W> {
        Key::of_limbs(&self.firsts[block * self.limbs..(block + 1) * self.limbs])
    }

    fn block<const W: usize>(&self, block: usize) -> Block<W> {
        let mut reader = BitReader::new(&self.data, u64::from(self.at[block]));
        let k = u32::try_from(reader.read(HEAD)).expect("it has few bits");
        let left = BLOCK.min(self.len - block * BLOCK) - 1;
        Block { key: self.first(block), left, position: reader.position(), k, whole: whole(self.limbs) }
    }

    /// Calls `each` with every key of these blocks, in order.
    pub(crate) fn each<const W: usize>(&self, blocks: std::ops::Range<usize>, mut each: impl FnMut(Key<W>)) {
        for block in blocks {
            let mut block = self.block::<W>(block);
            each(block.key);
            while block.next(self) {
                each(block.key);
            }
        }
    }

    /// As bytes, with a check sum.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let start = to.len();
        for count in [self.limbs, self.len, self.at.len(), self.data.len()] {
            to.extend(u32::try_from(count).expect("a chunk is small").to_le_bytes());
        }
        self.firsts.iter().for_each(|limb| to.extend(limb.to_le_bytes()));
        self.at.iter().for_each(|at| to.extend(at.to_le_bytes()));
        self.data.iter().for_each(|word| to.extend(word.to_le_bytes()));
        let sum = crc32c::crc32c(&to[start..]);
        to.extend(sum.to_le_bytes());
    }

    /// What was written; none if it is damaged.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return None;
        }
        let (head, mut rest) = body.split_first_chunk::<16>()?;
        let mut counts = head.as_chunks::<4>().0.iter().map(|count| u32::from_le_bytes(*count) as usize);
        let (limbs, len, blocks, words) = (counts.next()?, counts.next()?, counts.next()?, counts.next()?);
        let mut limbs_of = |count: usize| {
            let (these, after) = rest.split_at_checked(8 * count)?;
            rest = after;
            Some(
                these.as_chunks::<8>().0.iter().map(|limb| u64::from_le_bytes(*limb)).collect::<Box<[u64]>>(),
            )
        };
        let firsts = limbs_of(blocks * limbs)?;
        let (at, after) = rest.split_at_checked(4 * blocks)?;
        let at = at.as_chunks::<4>().0.iter().map(|at| u32::from_le_bytes(*at)).collect();
        rest = after;
        let (data, after) = rest.split_at_checked(8 * words)?;
        let data = data.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        after.is_empty().then_some(Chunk { limbs, len, firsts, at, data })
    }
}

/// Bits of a number that is written whole.
fn whole(limbs: usize) -> u32 {
    u32::try_from(limbs).expect("a key has few limbs") * LIMB
}

/// The parameter with which a block takes the fewest bits, or nearly so.
fn best<const W: usize>(block: &[Key<W>], whole: u32) -> u32 {
    let differences = || block.windows(2).map(|pair| pair[1].minus(pair[0]));
    let bits: u32 = differences().map(Key::bits).sum();
    let Some(pairs) = u32::try_from(block.len() - 1).ok().filter(|&pairs| pairs > 0) else { return 0 };
    let middle = (bits / pairs).saturating_sub(1);
    let cost = |k: &u32| differences().map(|number| rice_cost(number, *k, whole)).sum::<u64>();
    (middle.saturating_sub(1)..(middle + 3).min(whole)).min_by_key(cost).unwrap_or_default()
}

/// A place in a block.
#[derive(Clone, Copy)]
struct Block<const W: usize> {
    key: Key<W>,
    /// Keys after it.
    left: usize,
    /// Where the next difference begins.
    position: u64,
    k: u32,
    whole: u32,
}

impl<const W: usize> Block<W> {
    /// Goes on to the next key, if there is one.
    #[inline]
    fn next(&mut self, of: &Chunk) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let mut reader = BitReader::new(&of.data, self.position);
        self.key = self.key.plus(read_rice(&mut reader, self.k, self.whole));
        self.position = reader.position();
        true
    }
}

/// A chunk, wherever it is.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Keys.
    pub(crate) len: usize,
    /// The limbs of the first key.
    pub(crate) first: Box<[u64]>,
    pub(crate) body: Body,
}

/// Where a chunk is.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// In memory.
    Memory(Arc<Chunk>),
    /// In a file.
    Disk(Arc<RunFile>, Place),
}

impl Stored {
    /// A chunk in memory.
    pub(crate) fn new(chunk: Chunk) -> Self {
        let first = chunk.firsts[..chunk.limbs].into();
        Stored { len: chunk.len, first, body: Body::Memory(Arc::new(chunk)) }
    }

    /// Blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.len.div_ceil(BLOCK)
    }

    /// The chunk itself. None if it cannot be read: its file then knows why.
    pub(crate) fn open(&self) -> Option<Arc<Chunk>> {
        match &self.body {
            Body::Memory(chunk) => Some(chunk.clone()),
            Body::Disk(file, place) => file.read(*place).map(Arc::new),
        }
    }

    /// Bytes that it takes, in memory or on disk.
    pub(crate) fn bytes(&self) -> usize {
        match &self.body {
            Body::Memory(chunk) => chunk.bytes(),
            Body::Disk(_, place) => place.bytes,
        }
    }
}

/// A sorted list of keys with one layout.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) layout: Layout,
    pub(crate) chunks: Vec<Stored>,
}

impl Run {
    /// Keys.
    pub(crate) fn len(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len as u64).sum()
    }

    /// Bytes that it takes, in memory or on disk.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(Stored::bytes).sum()
    }
}

/// Goes through a run upwards, in terms of another layout that is no narrower.
pub(crate) struct Cursor<'a, const W: usize> {
    chunks: &'a [Stored],
    from: &'a Layout,
    to: &'a Layout,
    is_same: bool,
    words: Vec<u32>,
    at: Option<At<W>>,
}

struct At<const W: usize> {
    number: usize,
    chunk: Arc<Chunk>,
    block_number: usize,
    block: Block<W>,
    /// The key in terms of the other layout.
    key: Key<W>,
    /// The first key of the next block of this chunk.
    next: Option<Key<W>>,
}

impl<'a, const W: usize> Cursor<'a, W> {
    /// At the first key that is at least `from`.
    pub(crate) fn new(run: &'a Run, to: &'a Layout, from: Key<W>) -> Self {
        let (words, is_same) = (vec![0; to.bits.len()], run.layout == *to);
        let mut cursor = Cursor { chunks: &run.chunks, from: &run.layout, to, is_same, words, at: None };
        let after = gallop(0, run.chunks.len(), |chunk| cursor.first(chunk) <= from);
        cursor.at = cursor.begin(after.saturating_sub(1));
        cursor.seek(from);
        cursor
    }

    #[inline]
    fn told(&mut self, key: Key<W>) -> Key<W> {
        if self.is_same {
            return key;
        }
        self.from.unpack(key, &mut self.words);
        self.to.pack(&self.words).expect("it is no narrower")
    }

    /// The first key of a chunk.
    fn first(&mut self, number: usize) -> Key<W> {
        self.told(Key::of_limbs(&self.chunks[number].first))
    }

    fn begin(&mut self, number: usize) -> Option<At<W>> {
        let chunk = self.chunks.get(number)?.open()?;
        Some(self.begin_block(number, chunk, 0))
    }

    fn begin_block(&mut self, number: usize, chunk: Arc<Chunk>, block_number: usize) -> At<W> {
        let block = chunk.block::<W>(block_number);
        let next = (block_number + 1 < chunk.blocks()).then(|| self.told(chunk.first(block_number + 1)));
        let key = self.told(block.key);
        At { number, chunk, block_number, block, key, next }
    }

    /// The key here.
    pub(crate) fn key(&self) -> Option<Key<W>> {
        Some(self.at.as_ref()?.key)
    }

    /// Goes on to the next key.
    pub(crate) fn advance(&mut self) {
        let Some(mut at) = self.at.take() else { return };
        self.at = if at.block.next(&at.chunk) {
            at.key = self.told(at.block.key);
            Some(at)
        } else if at.next.is_some() {
            Some(self.begin_block(at.number, at.chunk, at.block_number + 1))
        } else {
            self.begin(at.number + 1)
        };
    }

    /// Goes on to the first key that is at least `to`, if it is not there yet.
    #[inline]
    pub(crate) fn seek(&mut self, to: Key<W>) -> Option<Key<W>> {
        loop {
            let at = self.at.as_mut()?;
            if at.key >= to {
                return Some(at.key);
            }
            let beyond = match at.next {
                Some(next) => next <= to,
                None => at.block.left == 0,
            };
            if beyond {
                self.jump(to);
            } else if self.is_same && at.block.next(&at.chunk) {
                at.key = at.block.key;
            } else {
                self.advance();
            }
        }
    }

    /// Goes to the last block after this one that begins with at most `to`, or else to the next.
    fn jump(&mut self, to: Key<W>) {
        let Some(At { number, chunk, block_number, .. }) = self.at.take() else { return };
        let after = gallop(number + 1, self.chunks.len(), |number| self.first(number) <= to);
        let (number, chunk, from) = match after - 1 {
            same if same == number => (number, Some(chunk), block_number + 1),
            later => (later, self.chunks[later].open(), 0),
        };
        let Some(chunk) = chunk else { return };
        let block_after = gallop(from, chunk.blocks(), |block| self.told(chunk.first(block)) <= to);
        let block = block_after.saturating_sub(1).max(from);
        self.at = match block < chunk.blocks() {
            true => Some(self.begin_block(number, chunk, block)),
            false => self.begin(number + 1),
        };
    }
}

/// The first in the range of which this does not hold, which holds of none after one of which it does not:
/// looked for near the beginning first.
pub(crate) fn gallop(from: usize, to: usize, mut holds: impl FnMut(usize) -> bool) -> usize {
    let (mut low, mut step) = (from, 1);
    loop {
        let probe = low + step - 1;
        if probe >= to {
            break;
        }
        if !holds(probe) {
            break;
        }
        low = probe + 1;
        step *= 2;
    }
    let mut high = (low + step - 1).min(to);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn numbers(seed: u64, count: u64, spread: u64) -> BTreeSet<u64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % spread
        };
        (0..count).map(|_| next()).collect()
    }

    fn layout(bits: [u8; 2]) -> Layout {
        Layout { bits: bits.to_vec() }
    }

    fn run_of(numbers: &BTreeSet<u64>, layout: Layout, chunk: usize) -> Run {
        let key = |&number: &u64| {
            let words = [u32::try_from(number >> 12).expect("small"), (number & 0xfff) as u32];
            layout.pack::<1>(&words).expect("it fits")
        };
        let keys: Vec<Key<1>> = numbers.iter().map(key).collect();
        let chunks = keys.chunks(chunk).map(|keys| Stored::new(Chunk::new(keys, layout.limbs()))).collect();
        Run { layout, chunks }
    }

    #[test]
    fn a_run_gives_back_its_keys_in_order() {
        for spread in [1 << 11, 1 << 20, 1 << 30] {
            let all = numbers(spread, 5_000, spread);
            let run = run_of(&all, layout([20, 12]), 1_000);
            let mut read = Vec::new();
            for chunk in run.chunks.iter().filter_map(Stored::open) {
                chunk.each::<1>(0..chunk.blocks(), |key| read.push(key.low()));
            }
            assert_eq!(read, all.iter().copied().collect::<Vec<_>>());
            assert_eq!(run.len(), all.len() as u64);
        }
    }

    #[test]
    fn a_cursor_finds_whatever_is_there_in_its_own_layout_and_in_a_wider_one() {
        let (all, asked) = (numbers(1, 20_000, 1 << 22), numbers(2, 9_000, 1 << 22));
        let run = run_of(&all, layout([20, 12]), 3_000);
        for (wider, every) in [(layout([20, 12]), 1), (layout([32, 31]), 1), (layout([32, 31]), 97)] {
            let asked: BTreeSet<u64> = asked.iter().copied().step_by(every).collect();
            let told = |number: u64| wider.pack::<1>(&[(number >> 12) as u32, (number & 0xfff) as u32]);
            let mut cursor = Cursor::<1>::new(&run, &wider, Key::ZERO);
            for &number in &asked {
                let expected = all.range(number..).next().and_then(|&found| told(found));
                assert_eq!(cursor.seek(told(number).expect("it fits")), expected);
            }
            let mut cursor = Cursor::<1>::new(&run, &wider, Key::ZERO);
            for &number in &all {
                assert_eq!(cursor.key(), told(number));
                cursor.advance();
            }
            assert_eq!(cursor.key(), None);
        }
    }

    #[test]
    fn a_chunk_comes_back_from_bytes_and_a_changed_byte_is_noticed() {
        let run = run_of(&numbers(4, 1_000, 1 << 30), layout([20, 12]), CHUNK);
        let chunk = run.chunks[0].open().expect("it is in memory");
        let mut bytes = Vec::new();
        chunk.write(&mut bytes);
        assert_eq!(Chunk::read(&bytes).as_ref(), Some(&*chunk));
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(Chunk::read(&bytes), None);
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn numbers_that_lie_densely_take_few_bits() {
        let all = numbers(3, 1 << 16, 1 << 26);
        let run = run_of(&all, layout([20, 12]), CHUNK);
        let each = run.bytes() as f64 / run.len() as f64;
        // 10 bits and a half apart, and an eighth of a byte for the first keys of blocks.
        assert!(each < 1.7, "{each}");
    }

    #[test]
    fn galloping_finds_the_border() {
        for to in 0..40 {
            for from in 0..=to {
                for border in from..=to {
                    assert_eq!(gallop(from, to, |at| at < border), border);
                }
            }
        }
    }
}
