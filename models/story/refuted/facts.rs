//! What holds in a picture, in words: short ones for its cells, sentences beside it.

use pbft_properties::proof::relations::Relation;
use pbft_properties::proof::{Refuted, Sort, Term};

/// Where something stands in a picture.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Row {
    /// In the row of a view.
    View(usize),
    /// In the row of what belongs to no view.
    Any,
}

/// Something that holds, as the picture has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fact {
    /// The row.
    pub row: Row,
    /// The replica whose it is; none for what is true of the whole system.
    pub replica: Option<usize>,
    /// Whether it is a message.
    pub is_message: bool,
    /// What it says.
    pub text: String,
}

/// A space that no line ends at.
const JOINED: &str = "\u{a0}";

/// One, two and three.
pub fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}

type Tuples = Vec<Vec<usize>>;
type Holding<'a> = &'a dyn Fn(Relation) -> Tuples;

/// The words of one picture.
pub struct Words<'a>(pub &'a Refuted);

impl Words<'_> {
    pub fn replica(&self, replica: usize) -> String {
        format!("r{replica}")
    }

    pub fn batch(&self, batch: usize) -> String {
        char::from(b'A' + batch as u8).to_string()
    }

    fn thing(&self, sort: Sort, at: usize) -> String {
        match sort {
            Sort::Replica => self.replica(at),
            Sort::View => format!("v{at}"),
            Sort::Number => format!("n{at}"),
            Sort::Digest | Sort::Batch => self.batch(at),
            Sort::State => format!("S{at}"),
            Sort::Quorum => {
                let members: Vec<String> =
                    self.0.members(at).into_iter().map(|member| self.replica(member)).collect();
                format!("{{{}}}", members.join(", "))
            }
        }
    }

    /// Values of variables: `v = v0, d = A`.
    pub fn values(&self, values: impl Iterator<Item = (Term, usize)>) -> String {
        let told = values.map(|(term, at)| format!("{} = {}", term.name, self.thing(term.sort, at)));
        told.collect::<Vec<_>>().join(", ")
    }

    fn sentence(&self, relation: Relation, tuple: &[usize]) -> String {
        let things = relation.places().iter().zip(tuple).map(|((_, sort), &at)| self.thing(*sort, at));
        relation.says_of(&things.collect::<Vec<_>>())
    }

    /// Everything that holds before the step, as sentences.
    pub fn before(&self) -> Vec<String> {
        let state = Relation::ALL.iter().copied().filter(|relation| relation.is_state());
        let told = state.flat_map(|relation| {
            self.0.holds(relation).into_iter().map(move |tuple| self.sentence(relation, &tuple))
        });
        told.collect()
    }

    /// What the step makes true and what it ends, as sentences.
    pub fn changes(&self) -> Vec<String> {
        let mut told = Vec::new();
        for relation in Relation::ALL.iter().copied().filter(|relation| relation.is_state()) {
            let (was, is) = (self.0.holds(relation), self.0.holds_after(relation));
            let new = is.iter().filter(|tuple| !was.contains(tuple));
            told.extend(new.map(|tuple| self.sentence(relation, tuple)));
            let gone = was.iter().filter(|tuple| !is.contains(tuple));
            told.extend(gone.map(|tuple| format!("no longer: {}", self.sentence(relation, tuple))));
        }
        told
    }

    /// What the picture shows of the state before.
    pub fn facts_before(&self) -> Vec<Fact> {
        self.facts(&|relation| self.0.holds(relation))
    }

    /// What it shows of the step: what is new, and what no longer holds.
    pub fn facts_of_step(&self) -> (Vec<Fact>, Vec<Fact>) {
        let (before, after) = (self.facts_before(), self.facts(&|relation| self.0.holds_after(relation)));
        let lacks = |all: &[Fact], fact: &Fact| !all.contains(fact);
        let gone = before.iter().filter(|fact| lacks(&after, fact)).cloned().collect();
        (after.into_iter().filter(|fact| lacks(&before, fact)).collect(), gone)
    }

    /// What is shown of a state. What follows from something that is shown is left out.
    fn facts(&self, holding: Holding<'_>) -> Vec<Fact> {
        let mut facts = Vec::new();
        for &relation in Relation::ALL {
            let tuples = if relation.is_state() { holding(relation) } else { Vec::new() };
            for tuple in tuples {
                facts.extend(self.fact(relation, &tuple, holding));
            }
        }
        facts.retain(|fact: &Fact| fact.replica.is_none_or(|replica| self.0.is_correct(replica)));
        facts
    }

    fn fact(&self, relation: Relation, tuple: &[usize], holding: Holding<'_>) -> Option<Fact> {
        use Relation as Is;
        let holds = |relation: Relation, tuple: &[usize]| holding(relation).iter().any(|one| one == tuple);
        let about = |number: usize, digest: usize| format!("n{number} {}", self.batch(digest));
        let mine = |row: Row, text: String| Fact { row, replica: Some(tuple[0]), is_message: false, text };
        let sent = |row: Row, text: String| Fact { is_message: true, ..mine(row, text) };
        let of_all = |row: Row, text: String| Fact { replica: None, ..mine(row, text) };
        Some(match (relation, tuple) {
            (Is::preprepare, &[_, v, n, d]) => sent(Row::View(v), format!("PRE-PREPARE {}", about(n, d))),
            (Is::prepare, &[_, v, n, d]) => sent(Row::View(v), format!("PREPARE {}", about(n, d))),
            (Is::commit, &[_, v, n, d]) => sent(Row::View(v), format!("COMMIT {}", about(n, d))),
            (Is::viewchange, &[i, v]) => sent(Row::View(v), self.view_change(i, v, holding)),
            (Is::checkpoint, &[_, n, h]) => sent(Row::Any, format!("CHECKPOINT n{n} S{h}")),
            (Is::accepted, &[i, v, n, d]) => {
                let voted = holds(Is::preprepare, tuple) || holds(Is::prepare, tuple);
                let stored = holds(Is::accepted_d, tuple);
                mine(Row::View(v), self.kept("accepted", stored, voted, about(n, d), i)?)
            }
            (Is::prepared, &[i, v, n, d]) => {
                let (sent, stored) = (holds(Is::commit, tuple), holds(Is::prepared_d, tuple));
                mine(Row::View(v), self.kept("prepared", stored, sent, about(n, d), i)?)
            }
            (Is::accepted_d, &[_, v, n, d]) if !holds(Is::accepted, tuple) => {
                mine(Row::View(v), format!("forgot: accepted {}", about(n, d)))
            }
            (Is::prepared_d, &[_, v, n, d]) if !holds(Is::prepared, tuple) => {
                mine(Row::View(v), format!("forgot: prepared {}", about(n, d)))
            }
            (Is::in_view, &[i, v]) if !holds(Is::in_view_d, tuple) => {
                mine(Row::View(v), format!("not stored: {} is in v{v}", self.replica(i)))
            }
            (Is::left, &[_, v]) if !holds(Is::left_d, tuple) => {
                mine(Row::View(v), format!("not stored: left v{v}"))
            }
            (Is::left_d, &[_, v]) if !holds(Is::left, tuple) => {
                mine(Row::View(v), format!("forgot: left v{v}"))
            }
            (Is::committed_local, &[_, n, d]) => mine(Row::Any, format!("committed local {}", about(n, d))),
            (Is::carried, &[_, v, n, d]) => mine(Row::View(v), format!("NEW-VIEW O={{{}}}", about(n, d))),
            (Is::allowed, &[_, v, n, d]) if !holds(Is::carried, tuple) => {
                mine(Row::View(v), format!("NEW-VIEW n{n} open, so {}", self.batch(d)))
            }
            (Is::stable, &[_, n, h]) if n > 0 => mine(Row::Any, format!("stable n{n} S{h}")),
            (Is::low, &[i, n]) if n > 0 => {
                let is_last = !holding(Is::low).iter().any(|low| low[0] == i && low[1] > n);
                return is_last.then(|| mine(Row::Any, format!("h = {n}")));
            }
            (Is::executed, &[_, n, b]) => mine(Row::Any, format!("executed n{n} {}", self.batch(b))),
            (Is::state, &[_, n, h]) if n > 0 => mine(Row::Any, format!("state n{n} S{h}")),
            (Is::state, &[_, 0, h]) if h > 0 => mine(Row::Any, format!("state n0 S{h}")),
            (Is::certificate, &[v, n, d]) => of_all(Row::View(v), format!("certificate for {}", about(n, d))),
            (Is::committed, &[v, n, d]) => {
                of_all(Row::View(v), format!("a quorum's COMMITs for {}", about(n, d)))
            }
            (Is::safe, &[v, n, d]) => of_all(Row::View(v), format!("a NEW-VIEW allows {}", about(n, d))),
            (Is::chosen, &[n, d]) => of_all(Row::Any, format!("chosen: {}", about(n, d))),
            (Is::result, &[n, h]) if n > 0 || h > 0 => of_all(Row::Any, format!("result after n{n}: S{h}")),
            _ => return None,
        })
    }

    /// What a replica remembers: nothing to say if a message of its says so and the store has it.
    fn kept(&self, what: &str, stored: bool, told: bool, about: String, replica: usize) -> Option<String> {
        match (stored, told) {
            (true, true) => None,
            (true, false) => Some(format!("{what} {about}")),
            (false, _) => Some(format!("not stored: {} {what} {about}", self.replica(replica))),
        }
    }

    /// A VIEW-CHANGE with its P: at each number the certificate of the highest view.
    fn view_change(&self, replica: usize, view: usize, holding: Holding<'_>) -> String {
        let reports = holding(Relation::reports);
        let mut certificates = Vec::new();
        for number in 0..self.0.size(Sort::Number) {
            let own = reports.iter().filter(|one| one[..3] == [replica, view, number]);
            let Some(highest) = own.map(|one| one[3]).max() else { continue };
            let digest =
                holding(Relation::prepared).into_iter().find(|one| one[..3] == [replica, highest, number]);
            let digest = digest.map_or(String::new(), |one| format!(" {}", self.batch(one[3])));
            certificates.push(format!("v{highest} n{number}{digest}").replace(' ', JOINED));
        }
        let claims = holding(Relation::claims);
        let own = claims.iter().filter(|one| one[..2] == [replica, view]);
        let h = own.map(|one| one[2]).max().filter(|&h| h > 0).map_or(String::new(), |h| format!(" h={h}"));
        format!("VIEW-CHANGE v{view}{h} P={{{}}}", certificates.join(", "))
    }
}
