//! What quorums have in common, for every n and f, by arithmetic.
//!
//! Two sets of replicas divide all replicas into eight parts: in the first or not, in the second or not, correct or
//! not. What is said of the sets is linear in the sizes of the parts, so a solver decides it for all sizes at once.

use super::sexp::Sexp;

/// A sum of variables with factors, and a number.
#[derive(Clone, Debug)]
pub struct Sum {
    /// Factors and variables.
    pub terms: Vec<(i64, &'static str)>,
    /// The number added.
    pub constant: i64,
}

/// `least <= most`.
#[derive(Clone, Debug)]
pub struct AtMost {
    /// The smaller side.
    pub least: Sum,
    /// The greater side.
    pub most: Sum,
}

/// Something assumed, and what is left of it without a rule; several inequalities hold together.
#[derive(Clone, Debug)]
pub struct Assumption {
    /// What it says.
    pub name: &'static str,
    /// The inequalities.
    pub holds: Vec<AtMost>,
    /// Rules, each with what is left without it.
    pub weaker: Vec<(&'static str, Vec<AtMost>)>,
}

/// A statement about the sizes of sets.
#[derive(Clone, Debug)]
pub struct Lemma {
    /// The name.
    pub name: &'static str,
    /// The statement, in a sentence.
    pub says: &'static str,
    /// What is assumed.
    pub assumptions: Vec<Assumption>,
    /// What follows.
    pub conclusion: AtMost,
}

/// The parts: `c` for correct and `b` for Byzantine, of both sets, of the first alone, of the second alone, of none.
const CORRECT: [&str; 4] = ["c_both", "c_first", "c_second", "c_none"];
const BYZANTINE: [&str; 4] = ["b_both", "b_first", "b_second", "b_none"];

/// Every variable; all are at least 0.
pub const VARIABLES: [&str; 11] =
    ["n", "f", "Q", "c_both", "c_first", "c_second", "c_none", "b_both", "b_first", "b_second", "b_none"];

fn sum(terms: &[(i64, &'static str)], constant: i64) -> Sum {
    Sum { terms: terms.to_vec(), constant }
}

fn of(variable: &'static str) -> Sum {
    sum(&[(1, variable)], 0)
}

fn total(parts: &[&'static str]) -> Sum {
    sum(&parts.iter().map(|&part| (1, part)).collect::<Vec<_>>(), 0)
}

fn at_most(least: Sum, most: Sum) -> AtMost {
    AtMost { least, most }
}

fn equal(left: Sum, right: Sum) -> Vec<AtMost> {
    vec![at_most(left.clone(), right.clone()), at_most(right, left)]
}

/// Q = ceil((n + f + 1) / 2), that is, n + f + 1 <= 2 Q <= n + f + 2.
fn quorum() -> Assumption {
    let sizes = |constant| sum(&[(1, "n"), (1, "f")], constant);
    let twice = || sum(&[(2, "Q")], 0);
    Assumption {
        name: "Q = ceil((n + f + 1) / 2)",
        holds: vec![at_most(sizes(1), twice()), at_most(twice(), sizes(2))],
        weaker: Vec::new(),
    }
}

fn size() -> Assumption {
    let at_least = |constant| vec![at_most(sum(&[(3, "f")], constant), of("n"))];
    Assumption { name: "n >= 3f + 1", holds: at_least(1), weaker: vec![("n-3f+1", at_least(0))] }
}

/// With fewer replicas than 3f + 1 a quorum that can always be had is smaller.
fn quorum_of_any_n() -> Assumption {
    let available = equal(of("Q"), sum(&[(1, "n"), (-1, "f")], 0));
    Assumption { weaker: vec![("n-3f+1", available)], ..quorum() }
}

fn replicas() -> Vec<Assumption> {
    let all: Vec<&'static str> = CORRECT.into_iter().chain(BYZANTINE).collect();
    vec![
        size(),
        quorum_of_any_n(),
        Assumption {
            name: "the members are n",
            holds: equal(total(&all), of("n")),
            weaker: vec![("members-only", vec![at_most(total(&CORRECT), of("n"))])],
        },
        Assumption {
            name: "at most f of them are Byzantine",
            holds: vec![at_most(total(&BYZANTINE), of("f"))],
            weaker: vec![("at-most-f", Vec::new()), ("members-only", Vec::new())],
        },
    ]
}

/// A set has Q members; with each of the first rules switched off one fewer, with each of the others one at least.
fn is_quorum(
    name: &'static str,
    parts: [&'static str; 4],
    one_fewer: &[&'static str],
    one_at_least: &[&'static str],
) -> Assumption {
    let at_least = |least| vec![at_most(least, total(&parts))];
    let fewer = one_fewer.iter().map(|&rule| (rule, at_least(sum(&[(1, "Q")], -1))));
    let one = one_at_least.iter().map(|&rule| (rule, at_least(sum(&[], 1))));
    Assumption { name, holds: at_least(of("Q")), weaker: fewer.chain(one).collect() }
}

const FIRST: [&str; 4] = ["c_both", "c_first", "b_both", "b_first"];
const SECOND: [&str; 4] = ["c_both", "c_second", "b_both", "b_second"];

/// Assumptions of what holds however small n is: a quorum that can always be had has more than f replicas even so.
fn of_any_quorum(mut assumptions: Vec<Assumption>) -> Vec<Assumption> {
    assumptions.iter_mut().for_each(|one| one.weaker.retain(|(rule, _)| *rule != "n-3f+1"));
    assumptions
}

/// The lemmas. The first three are the axiom `quorums_meet`, for each use that is made of it.
pub fn lemmas() -> Vec<Lemma> {
    let meet = || at_most(sum(&[], 1), of("c_both"));
    let with = |more: Vec<Assumption>| -> Vec<Assumption> { replicas().into_iter().chain(more).collect() };
    let (fewer, again) =
        (["prepare-quorum", "certificate-quorum"], ["one-vote-per-sender", "distinct-voters"]);
    vec![
        Lemma {
            name: "certificates_meet",
            says: "Two prepared certificates, each of Q distinct replicas, have a correct one in common.",
            assumptions: with(vec![
                is_quorum("the first has Q replicas", FIRST, &fewer, &again),
                is_quorum("the second has Q replicas", SECOND, &fewer, &again),
            ]),
            conclusion: meet(),
        },
        Lemma {
            name: "commits_meet_view_changes",
            says: "COMMITs and VIEW-CHANGEs, of Q distinct replicas each, have a correct one in common.",
            assumptions: with(vec![
                is_quorum("COMMITs of Q replicas", FIRST, &["commit-quorum"], &["one-vote-per-sender"]),
                is_quorum(
                    "VIEW-CHANGEs of Q replicas",
                    SECOND,
                    &["view-change-quorum"],
                    &["distinct-view-changes"],
                ),
            ]),
            conclusion: meet(),
        },
        Lemma {
            name: "checkpoints_have_a_correct_one",
            says: "Of Q distinct replicas that send CHECKPOINT one is correct.",
            assumptions: of_any_quorum(with(vec![Assumption {
                weaker: vec![("checkpoint-quorum", vec![at_most(of("f"), total(&FIRST))])],
                ..is_quorum("CHECKPOINTs of Q replicas", FIRST, &[], &[])
            }])),
            conclusion: at_most(sum(&[], 1), total(&["c_both", "c_first"])),
        },
        Lemma {
            name: "a_quorum_of_correct_ones",
            says: "The replicas that are not Byzantine are a quorum: progress needs none of the others.",
            assumptions: vec![size(), quorum()],
            conclusion: at_most(of("Q"), sum(&[(1, "n"), (-1, "f")], 0)),
        },
    ]
}

impl Sum {
    fn sexp(&self) -> Sexp {
        let number = |value: i64| match value {
            0.. => Sexp::atom(value.to_string()),
            _ => Sexp::call("-", [Sexp::atom((-value).to_string())]),
        };
        let term = |&(factor, variable): &(i64, &str)| match factor {
            1 => Sexp::atom(variable),
            _ => Sexp::call("*", [number(factor), Sexp::atom(variable)]),
        };
        let mut parts: Vec<Sexp> = self.terms.iter().map(term).collect();
        if self.constant != 0 || parts.is_empty() {
            parts.push(number(self.constant));
        }
        if parts.len() == 1 { parts.remove(0) } else { Sexp::call("+", parts) }
    }

    fn value(&self, of: &dyn Fn(&str) -> i64) -> i64 {
        self.constant + self.terms.iter().map(|&(factor, variable)| factor * of(variable)).sum::<i64>()
    }
}

impl AtMost {
    /// As SMT-LIB.
    pub fn sexp(&self) -> Sexp {
        Sexp::call("<=", [self.least.sexp(), self.most.sexp()])
    }

    /// Whether it holds of these numbers.
    pub fn holds(&self, of: &dyn Fn(&str) -> i64) -> bool {
        self.least.value(of) <= self.most.value(of)
    }
}

impl Lemma {
    /// The rules whose loss changes what is assumed.
    pub fn rules(&self) -> impl Iterator<Item = &'static str> {
        self.assumptions.iter().flat_map(|assumption| &assumption.weaker).map(|(rule, _)| *rule)
    }

    /// What is assumed when these rules are switched off, each with its name.
    pub fn assumed(&self, off: &[&str]) -> Vec<(&'static str, Vec<AtMost>)> {
        let left = |assumption: &Assumption| {
            let weaker = assumption.weaker.iter().find(|(rule, _)| off.contains(rule));
            weaker.map_or_else(|| assumption.holds.clone(), |(_, left)| left.clone())
        };
        self.assumptions.iter().map(|assumption| (assumption.name, left(assumption))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first counterexample with at most `n` replicas, by trying all.
    fn counterexample(lemma: &Lemma, off: &[&str], most: i64) -> Option<Vec<i64>> {
        fn divide(
            parts: usize,
            left: i64,
            so_far: &mut Vec<i64>,
            each: &mut dyn FnMut(&[i64]) -> bool,
        ) -> bool {
            if parts == 0 {
                return each(so_far);
            }
            (0..=left).any(|size| {
                so_far.push(size);
                let found = divide(parts - 1, left - size, so_far, each);
                found || {
                    so_far.pop();
                    false
                }
            })
        }
        let assumed: Vec<AtMost> = lemma.assumed(off).into_iter().flat_map(|(_, holds)| holds).collect();
        for n in 1..=most {
            for f in 0..=n / 3 {
                for quorum in 0..=n {
                    let mut parts = vec![n, f, quorum];
                    // Outsiders may come on top of the n.
                    let all = if off.contains(&"members-only") { n + 2 } else { n };
                    let found = divide(8, all, &mut parts, &mut |values| {
                        let of = |name: &str| {
                            values[VARIABLES.iter().position(|&one| one == name).expect("a variable")]
                        };
                        assumed.iter().all(|one| one.holds(&of)) && !lemma.conclusion.holds(&of)
                    });
                    if found {
                        return Some(parts);
                    }
                }
            }
        }
        None
    }

    #[test]
    fn the_lemmas_hold_of_every_cluster_of_at_most_seven() {
        for lemma in lemmas() {
            assert_eq!(counterexample(&lemma, &[], 7), None, "{}", lemma.name);
        }
    }

    #[test]
    fn without_a_rule_a_small_cluster_refutes_a_lemma() {
        for lemma in lemmas() {
            for rule in lemma.rules() {
                let found = counterexample(&lemma, &[rule], 4);
                assert!(found.is_some(), "{} without {rule}", lemma.name);
            }
        }
    }
}
