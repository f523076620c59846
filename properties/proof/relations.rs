//! The relations of the abstract protocol, with what each says.
//!
//! Messages and what replicas know are those of *correct* replicas. Of a Byzantine replica nothing is recorded: it may
//! have sent whatever it can sign, so a guard asks for the messages of the correct members of a quorum only.

use super::formula::{Batch, Digest, Formula, Number, Quorum, Replica, Role, Sort, State, Term, View};

/// What a relation is about, and so who can know it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The same in every state: who is correct, the order of views, what a digest names.
    Rigid,
    /// A message that the replica named first has sent.
    Message,
    /// What the replica named first remembers.
    Own,
    /// What the replica named first finds again after a crash.
    Durable,
    /// What is true of the whole system. No guard mentions it; invariants do.
    Ghost,
    /// What the one who takes an action chooses.
    Choice,
}

macro_rules! relations {
    ($($kind:ident { $($name:ident($($arg:ident: $sort:ident),+): $says:literal;)* })*) => {
        /// A relation.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[expect(non_camel_case_types, reason = "a relation is called as it is printed")]
        pub enum Relation {
            $($(#[doc = $says] $name,)*)*
        }

        impl Relation {
            /// Every relation.
            pub const ALL: &'static [Relation] = &[$($(Relation::$name,)*)*];

            /// Its name, as it is printed.
            pub fn name(self) -> &'static str {
                match self { $($(Relation::$name => stringify!($name),)*)* }
            }

            /// Who can know it.
            pub fn kind(self) -> Kind {
                match self { $($(Relation::$name => Kind::$kind,)*)* }
            }

            /// What it says, with `{name}` for each of its places.
            pub fn says(self) -> &'static str {
                match self { $($(Relation::$name => $says,)*)* }
            }

            /// Its places: a name and a sort each.
            pub fn places(self) -> &'static [(&'static str, Sort)] {
                match self { $($(Relation::$name => &[$((stringify!($arg), Sort::$sort)),+],)*)* }
            }
        }

        $($(
            #[doc = $says]
            pub fn $name($($arg: $sort),+) -> Formula {
                Formula::Holds(Relation::$name, vec![$(Term::from($arg)),+])
            }
        )*)*
    };
}

relations! {
    Rigid {
        correct(i: Replica): "replica {i} is correct";
        member(i: Replica, q: Quorum): "replica {i} is in quorum {q}";
        primary(v: View, i: Replica): "replica {i} is the primary of view {v}";
        le(v: View, w: View): "view {v} is view {w} or earlier";
        below(k: Number, n: Number): "number {k} is {n} or lower";
        next(k: Number, n: Number): "number {n} is the one after {k}";
        names(d: Digest, b: Batch): "digest {d} is that of batch {b}";
        authentic(b: Batch): "every request of batch {b} was signed by its client";
        applies(g: State, b: Batch, h: State): "batch {b} takes state {g} to state {h}";
    }
    Message {
        preprepare(i: Replica, v: View, n: Number, d: Digest):
            "replica {i} has sent PRE-PREPARE for {d} at {n} in view {v}";
        prepare(i: Replica, v: View, n: Number, d: Digest):
            "replica {i} has sent PREPARE for {d} at {n} in view {v}";
        commit(i: Replica, v: View, n: Number, d: Digest):
            "replica {i} has sent COMMIT for {d} at {n} in view {v}";
        viewchange(i: Replica, v: View): "replica {i} has sent VIEW-CHANGE for view {v}";
        reports(i: Replica, v: View, n: Number, w: View):
            "the P of replica {i}'s VIEW-CHANGE for view {v} has at {n} a certificate of view {w} or later";
        claims(i: Replica, v: View, n: Number):
            "replica {i}'s VIEW-CHANGE for view {v} claims a stable checkpoint at {n} or above";
        checkpoint(i: Replica, n: Number, h: State): "replica {i} has sent CHECKPOINT for state {h} at {n}";
    }
    Own {
        in_view(i: Replica, v: View): "replica {i} is in view {v}";
        leaving(i: Replica): "replica {i} has sent VIEW-CHANGE and not entered a view since";
        left(i: Replica, v: View): "replica {i} has sent VIEW-CHANGE for a view above {v}";
        accepted(i: Replica, v: View, n: Number, d: Digest):
            "replica {i} has accepted {d} at {n} in view {v}";
        prepared(i: Replica, v: View, n: Number, d: Digest): "{d} is prepared at {n} in view {v} at replica {i}";
        committed_local(i: Replica, n: Number, d: Digest): "{d} is committed-local at {n} at replica {i}";
        allowed(i: Replica, v: View, n: Number, d: Digest):
            "replica {i} has a NEW-VIEW for view {v} that allows {d} at {n}";
        carried(i: Replica, v: View, n: Number, d: Digest):
            "replica {i} has a NEW-VIEW for view {v} whose O has {d} at {n} by a certificate";
        low(i: Replica, n: Number): "number {n} is at or below h of replica {i}";
        stable(i: Replica, n: Number, h: State): "replica {i} has a stable certificate of state {h} at {n}";
        executed(i: Replica, n: Number, b: Batch): "replica {i} has executed batch {b} at {n}";
        state(i: Replica, n: Number, h: State): "replica {i} has had state {h} at {n}";
    }
    Durable {
        in_view_d(i: Replica, v: View): "the store of replica {i} says view {v}";
        leaving_d(i: Replica): "the store of replica {i} has a VIEW-CHANGE sent since it entered a view";
        left_d(i: Replica, v: View): "the store of replica {i} has a VIEW-CHANGE for a view above {v}";
        accepted_d(i: Replica, v: View, n: Number, d: Digest):
            "the store of replica {i} has that it accepted {d} at {n} in view {v}";
        prepared_d(i: Replica, v: View, n: Number, d: Digest):
            "the store of replica {i} has that {d} prepared at {n} in view {v}";
    }
    Ghost {
        certificate(v: View, n: Number, d: Digest): "a prepared certificate for {d} at {n} in view {v} exists";
        committed(v: View, n: Number, d: Digest): "a quorum has sent COMMIT for {d} at {n} in view {v}";
        chosen(n: Number, d: Digest): "{d} is committed at {n} in some view";
        safe(v: View, n: Number, d: Digest): "a NEW-VIEW for view {v} that allows {d} at {n} exists";
        reached(n: Number): "a correct replica has executed up to {n}";
        result(n: Number, h: State): "{h} is the state after the chosen batches up to {n}";
    }
    Choice {
        report(n: Number, w: View): "P has at {n} a certificate of view {w} or later";
    }
}

impl Relation {
    /// Whether a step may change it.
    pub fn is_state(self) -> bool {
        !matches!(self.kind(), Kind::Rigid | Kind::Choice)
    }

    /// Its places as variables whose names no other variable has.
    pub fn own_variables(self) -> Vec<Term> {
        const NAMES: [&str; 4] = ["p1", "p2", "p3", "p4"];
        let variable = |(place, &(_, sort)): (usize, &(&str, Sort))| Term {
            name: NAMES[place],
            sort,
            role: Role::Variable,
        };
        self.places().iter().enumerate().map(variable).collect()
    }

    /// What it says of these things, in words.
    ///
    /// # Panics
    /// If there are not as many as it has places.
    pub fn says_of(self, things: &[String]) -> String {
        assert_eq!(things.len(), self.places().len(), "{}", self.name());
        self.places().iter().zip(things).fold(self.says().to_string(), |text, ((place, _), thing)| {
            text.replace(&format!("{{{place}}}"), thing)
        })
    }
}

/// The variables and constants, with the paper's letters where it has one.
pub mod names {
    use super::{Batch, Digest, Number, Quorum, Replica, State, View};

    macro_rules! variables {
        ($($sort:ident: $($name:ident = $letter:literal),*;)*) => {
            $($(#[doc = concat!("`", $letter, "`")] pub const $name: $sort = $sort::variable($letter);)*)*
        };
    }

    variables! {
        Replica: I = "i", J = "j", M = "m", P = "p", Y = "y";
        View: V = "v", W = "w", U = "u", X = "x";
        Number: N = "n", K = "k", S = "s";
        Digest: D = "d", E = "e";
        Batch: B = "b", C = "c";
        State: G = "g", H = "h", Z = "z";
        Quorum: Q = "q", R = "r";
    }

    /// View 0.
    pub const VIEW_0: View = View::constant("view_0");
    /// The number of the initial state.
    pub const N_0: Number = Number::constant("n_0");
    /// The initial state.
    pub const INITIAL: State = State::constant("initial");
}
