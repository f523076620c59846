//! The cluster that pictures are of: the smallest that tolerates a fault, with every quorum that it has.
//!
//! The formulas alone would be content with fewer replicas, and with quorums of one; nobody would recognise PBFT in it.

use super::super::finite::Structure;
use super::super::formula::{Sort, Term};
use super::super::relations::Relation;
use super::super::relations::names::{INITIAL, N_0, VIEW_0};
use serde::{Deserialize, Serialize};

/// How many views, numbers, batches and states a picture speaks of; each from the first on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Views, from view 0.
    pub views: usize,
    /// Sequence numbers, that of the initial state included.
    pub numbers: usize,
    /// Batches, each with its digest.
    pub batches: usize,
    /// States, the initial one included.
    pub states: usize,
}

/// No picture is larger.
const MOST: usize = 4;

/// Who there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cluster {
    /// The members.
    pub n: usize,
    /// How many of them may be Byzantine.
    pub f: usize,
    /// Replicas that are no members; all are Byzantine.
    pub outsiders: usize,
    /// How many of the members are Byzantine at most: f, but for the rule that says so.
    pub byzantine: usize,
    /// How many replicas a quorum has.
    pub quorum: usize,
}

impl Cluster {
    /// Four replicas, f = 1; without a rule about who is in the cluster, what the arithmetic of quorums makes of it.
    pub fn without(rule: &str) -> Cluster {
        let four = Cluster { n: 4, f: 1, outsiders: 0, byzantine: 1, quorum: 3 };
        match rule {
            // Three replicas of which one may be silent: a quorum that can always be had is two.
            "n-3f+1" => Cluster { n: 3, quorum: 2, ..four },
            "at-most-f" => Cluster { byzantine: 2, ..four },
            "members-only" => Cluster { outsiders: 1, byzantine: 0, ..four },
            _ => four,
        }
    }

    /// Members and outsiders.
    pub fn replicas(&self) -> usize {
        self.n + self.outsiders
    }

    /// Every quorum, as sets of bits.
    fn quorums(&self) -> Vec<u32> {
        (0..1u32 << self.replicas()).filter(|set| set.count_ones() as usize == self.quorum).collect()
    }

    /// The structure with all that is the same in every picture: orders, members, primaries in turn, digests.
    ///
    /// # Errors
    /// If a size is 0, or larger than a picture is.
    pub fn structure(&self, sizes: Sizes) -> Result<Structure, String> {
        let Sizes { views, numbers, batches, states } = sizes;
        if [views, numbers, batches, states].iter().any(|size| !(1..=MOST).contains(size)) {
            return Err(format!("there are 1 to {MOST} views, numbers, batches and states"));
        }
        let quorums = self.quorums();
        let sizes = [
            (Sort::Replica, self.replicas()),
            (Sort::View, views),
            (Sort::Number, numbers),
            (Sort::Digest, batches),
            (Sort::Batch, batches),
            (Sort::State, states),
            (Sort::Quorum, quorums.len()),
        ];
        let constants: [(Term, usize); 3] = [(VIEW_0.into(), 0), (N_0.into(), 0), (INITIAL.into(), 0)];
        let mut structure = Structure::new(&sizes, &constants);
        for (quorum, set) in quorums.iter().enumerate() {
            let members = (0..self.replicas()).filter(|replica| set >> replica & 1 == 1);
            members.for_each(|replica| structure.fix(Relation::member, &[replica, quorum]));
        }
        for later in 0..views {
            structure.fix(Relation::primary, &[later, later % self.n]);
            (0..=later).for_each(|view| structure.fix(Relation::le, &[view, later]));
        }
        for higher in 0..numbers {
            (0..=higher).for_each(|number| structure.fix(Relation::below, &[number, higher]));
        }
        (1..numbers).for_each(|number| structure.fix(Relation::next, &[number - 1, number]));
        (0..batches).for_each(|batch| structure.fix(Relation::names, &[batch, batch]));
        Ok(structure)
    }

    /// Whether a relation is the same in every picture.
    pub fn fixes(relation: Relation) -> bool {
        matches!(
            relation,
            Relation::member
                | Relation::primary
                | Relation::le
                | Relation::below
                | Relation::next
                | Relation::names
        )
    }
}
