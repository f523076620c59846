//! A small typed language of formulas: first-order logic with the sorts of the protocol, without functions.
//!
//! A formula is a value. The same value is [printed for a solver](super::smt) and
//! [evaluated on finite structures](super::finite), so what is proved is what is evaluated. Sorts are Rust types, so
//! a relation applied to the wrong sort does not compile.

use super::relations::Relation;
use std::collections::BTreeSet;
use std::ops::{BitAnd, BitOr, Not};

macro_rules! sorts {
    ($($(#[$doc:meta])* $sort:ident;)*) => {
        /// What a variable ranges over.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Sort {
            $($(#[$doc])* $sort,)*
        }

        impl Sort {
            /// Every sort.
            pub const ALL: &'static [Sort] = &[$(Sort::$sort,)*];

            /// Its name, as it is printed.
            pub fn name(self) -> &'static str {
                match self { $(Sort::$sort => stringify!($sort),)* }
            }
        }

        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $sort(Term);

            impl $sort {
                /// A variable with this name.
                pub const fn variable(name: &'static str) -> Self {
                    $sort(Term { name, sort: Sort::$sort, role: Role::Variable })
                }

                /// A constant with this name.
                pub const fn constant(name: &'static str) -> Self {
                    $sort(Term { name, sort: Sort::$sort, role: Role::Constant })
                }
            }

            impl From<$sort> for Term {
                fn from(term: $sort) -> Term {
                    term.0
                }
            }
        )*
    };
}

sorts! {
    /// A replica; there are n.
    Replica;
    /// A view.
    View;
    /// A sequence number; that of the initial state is the first.
    Number;
    /// The digest of a batch, as messages carry it.
    Digest;
    /// A batch of requests; the null request is one too.
    Batch;
    /// The state after a batch: the service's and the client table.
    State;
    /// A set of Q = ceil((n + f + 1) / 2) replicas.
    Quorum;
}

/// A variable or a constant.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Term {
    /// The name, as it is printed.
    pub name: &'static str,
    /// What it ranges over.
    pub sort: Sort,
    /// What it stands for.
    pub role: Role,
}

/// What a term stands for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// A variable, bound by a quantifier or given a value by an action.
    Variable,
    /// One element of every structure, never bound.
    Constant,
    /// The value of a variable of which a formula does not hold, in a question to a solver.
    Witness,
}

impl Term {
    /// How it is printed.
    pub fn symbol(self) -> String {
        let suffix = if self.role == Role::Witness { "_" } else { "" };
        format!("{}{suffix}", self.name)
    }

    fn is_variable(self) -> bool {
        self.role == Role::Variable
    }
}

/// A formula.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Formula {
    /// A relation holds of terms.
    Holds(Relation, Vec<Term>),
    /// Two terms are the same.
    Equal(Term, Term),
    /// Negation.
    Not(Box<Formula>),
    /// All of them; true if there are none.
    All(Vec<Formula>),
    /// Any of them; false if there are none.
    Any(Vec<Formula>),
    /// The first implies the second.
    Implies(Box<Formula>, Box<Formula>),
    /// For all values of the variables.
    ForAll(Vec<Term>, Box<Formula>),
    /// For some values of the variables.
    Exists(Vec<Term>, Box<Formula>),
}

/// What is always true.
pub fn truth() -> Formula {
    Formula::All(Vec::new())
}

/// What is never true.
pub fn falsity() -> Formula {
    Formula::Any(Vec::new())
}

/// `left = right`, of one sort.
pub fn equal<S: Into<Term>>(left: S, right: S) -> Formula {
    Formula::Equal(left.into(), right.into())
}

/// `left` and `right` differ.
pub fn differ<S: Into<Term>>(left: S, right: S) -> Formula {
    !equal(left, right)
}

/// The variables, of any sorts, for a quantifier or an action: `vars![I, V, N]`.
macro_rules! vars {
    ($($variable:expr),* $(,)?) => { [$(Into::<$crate::proof::Term>::into($variable)),*] };
}
pub(super) use vars;

/// For all values of the variables.
pub fn forall<const K: usize>(variables: [Term; K], body: Formula) -> Formula {
    Formula::ForAll(variables.into(), Box::new(body))
}

/// For some values of the variables.
pub fn exists<const K: usize>(variables: [Term; K], body: Formula) -> Formula {
    Formula::Exists(variables.into(), Box::new(body))
}

impl BitAnd for Formula {
    type Output = Formula;

    fn bitand(self, other: Formula) -> Formula {
        match self {
            Formula::All(mut parts) => {
                parts.push(other);
                Formula::All(parts)
            }
            first => Formula::All(vec![first, other]),
        }
    }
}

impl BitOr for Formula {
    type Output = Formula;

    fn bitor(self, other: Formula) -> Formula {
        match self {
            Formula::Any(mut parts) => {
                parts.push(other);
                Formula::Any(parts)
            }
            first => Formula::Any(vec![first, other]),
        }
    }
}

impl Not for Formula {
    type Output = Formula;

    fn not(self) -> Formula {
        Formula::Not(Box::new(self))
    }
}

impl Formula {
    /// `self` implies `consequence`.
    pub fn implies(self, consequence: Formula) -> Formula {
        Formula::Implies(Box::new(self), Box::new(consequence))
    }

    /// What it is the conjunction of.
    pub fn conjuncts(&self) -> Vec<&Formula> {
        match self {
            Formula::All(parts) => parts.iter().flat_map(Formula::conjuncts).collect(),
            other => vec![other],
        }
    }

    fn parts(&self) -> Vec<&Formula> {
        match self {
            Formula::Holds(..) | Formula::Equal(..) => Vec::new(),
            Formula::Not(part) | Formula::ForAll(_, part) | Formula::Exists(_, part) => vec![part],
            Formula::All(parts) | Formula::Any(parts) => parts.iter().collect(),
            Formula::Implies(left, right) => vec![left, right],
        }
    }

    /// The relations that it mentions.
    pub fn relations(&self) -> BTreeSet<Relation> {
        let mut all: BTreeSet<Relation> = self.parts().into_iter().flat_map(Formula::relations).collect();
        if let Formula::Holds(relation, _) = self {
            all.insert(*relation);
        }
        all
    }

    /// Every atom with a relation, with whether it stands where more of the relation makes the formula true more
    /// easily.
    pub fn atoms(&self) -> Vec<(Relation, &[Term], bool)> {
        fn walk<'a>(formula: &'a Formula, positive: bool, found: &mut Vec<(Relation, &'a [Term], bool)>) {
            match formula {
                Formula::Holds(relation, terms) => found.push((*relation, terms, positive)),
                Formula::Not(part) => walk(part, !positive, found),
                Formula::Implies(left, right) => {
                    walk(left, !positive, found);
                    walk(right, positive, found);
                }
                _ => formula.parts().into_iter().for_each(|part| walk(part, positive, found)),
            }
        }
        let mut found = Vec::new();
        walk(self, true, &mut found);
        found
    }

    /// The variables that no quantifier binds.
    pub fn free(&self) -> BTreeSet<Term> {
        match self {
            Formula::Holds(_, terms) => terms.iter().copied().filter(|term| term.is_variable()).collect(),
            Formula::Equal(left, right) => {
                [*left, *right].into_iter().filter(|term| term.is_variable()).collect()
            }
            Formula::ForAll(bound, body) | Formula::Exists(bound, body) => {
                body.free().into_iter().filter(|term| !bound.contains(term)).collect()
            }
            _ => self.parts().into_iter().flat_map(Formula::free).collect(),
        }
    }

    /// The formula with every free variable replaced. No new name may be one that is bound inside.
    pub fn rename(&self, new: &dyn Fn(Term) -> Term) -> Formula {
        let term = |term: &Term| if term.is_variable() { new(*term) } else { *term };
        let inside = |bound: &[Term], body: &Formula| {
            let bound = bound.to_vec();
            Box::new(body.rename(&move |term| if bound.contains(&term) { term } else { new(term) }))
        };
        match self {
            Formula::Holds(relation, terms) => Formula::Holds(*relation, terms.iter().map(term).collect()),
            Formula::Equal(left, right) => Formula::Equal(term(left), term(right)),
            Formula::Not(part) => Formula::Not(Box::new(part.rename(new))),
            Formula::All(parts) => Formula::All(parts.iter().map(|part| part.rename(new)).collect()),
            Formula::Any(parts) => Formula::Any(parts.iter().map(|part| part.rename(new)).collect()),
            Formula::Implies(left, right) => {
                Formula::Implies(Box::new(left.rename(new)), Box::new(right.rename(new)))
            }
            Formula::ForAll(bound, body) => Formula::ForAll(bound.clone(), inside(bound, body)),
            Formula::Exists(bound, body) => Formula::Exists(bound.clone(), inside(bound, body)),
        }
    }
}
