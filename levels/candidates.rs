//! What a level leads to, before it is held against what has been visited.

use super::key::{Key, LIMB, Layout, MOST_LIMBS};

/// Keys of as many limbs as the layout has.
pub(crate) enum Candidates {
    One(Vec<Key<1>>),
    Two(Vec<Key<2>>),
    Three(Vec<Key<3>>),
    Four(Vec<Key<4>>),
}

/// Does something with the candidates, whatever their limbs.
macro_rules! with {
    ($candidates:expr, $list:ident => $does:expr) => {
        match $candidates {
            Candidates::One($list) => $does,
            Candidates::Two($list) => $does,
            Candidates::Three($list) => $does,
            Candidates::Four($list) => $does,
        }
    };
}
pub(crate) use with;

impl Default for Candidates {
    fn default() -> Self {
        Candidates::One(Vec::new())
    }
}

impl Candidates {
    pub(crate) fn new(limbs: usize) -> Self {
        match limbs {
            1 => Candidates::One(Vec::new()),
            2 => Candidates::Two(Vec::new()),
            3 => Candidates::Three(Vec::new()),
            MOST_LIMBS => Candidates::Four(Vec::new()),
            more => panic!("a state of more than {} bits: {more} limbs", MOST_LIMBS as u32 * LIMB),
        }
    }

    pub(crate) fn len(&self) -> usize {
        with!(self, list => list.len())
    }

    pub(crate) fn bytes(&self) -> usize {
        with!(self, list => size_of_val(list.as_slice()))
    }

    /// The same with another layout, which is wider.
    pub(crate) fn widened(self, from: &Layout, to: &Layout) -> Self {
        let mut wider = Candidates::new(to.limbs());
        with!(self, list => with!(&mut wider, all => repack(list, from, all, to)));
        wider
    }
}

fn repack<const V: usize, const W: usize>(
    list: Vec<Key<V>>,
    from: &Layout,
    all: &mut Vec<Key<W>>,
    to: &Layout,
) {
    let mut words = vec![0; from.bits.len()];
    all.extend(list.into_iter().map(|key| {
        from.unpack(key, &mut words);
        to.pack(&words).expect("it is wider")
    }));
}
