//! What has to be shown, one question to a solver each.

use super::Protocol;
use super::action::{Action, Clause};
use super::axioms::initially;
use super::formula::{Formula, Role, Sort, Term};
use super::quorums::{Lemma, VARIABLES};
use super::relations::Relation;
use super::sexp::Sexp;
use super::smt::{self, Changed};

/// What an obligation is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// A statement about the sizes of quorums.
    Lemma(&'static str),
    /// The axioms have a model, also together with the invariants in the initial state.
    Axioms,
    /// An invariant holds initially.
    Initiation(&'static str),
    /// An action can be taken in a state with all invariants.
    Fires(&'static str),
    /// A guard alone can keep an action from being taken, in a state with all invariants.
    Decides(&'static str, &'static str),
    /// An action keeps an invariant.
    Consecution(&'static str, &'static str),
    /// A theorem follows from the invariants.
    Theorem(&'static str),
}

/// What the solver must answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// There is no counterexample.
    Unsatisfiable,
    /// There is an example.
    Satisfiable,
}

/// One question to a solver.
#[derive(Clone, Debug)]
pub struct Obligation {
    /// What it is about.
    pub subject: Subject,
    /// What it says, in a sentence.
    pub says: String,
    /// The question as SMT-LIB 2, up to `(check-sat)`, every assertion named.
    pub script: String,
    /// What must be answered.
    pub expected: Answer,
    /// The variables of the counterexample that a solver is asked for.
    pub witnesses: Vec<Term>,
}

impl Subject {
    /// The obligation's name, for files and tables.
    pub fn name(self) -> String {
        match self {
            Subject::Lemma(lemma) => format!("lemma.{lemma}"),
            Subject::Axioms => "axioms".into(),
            Subject::Initiation(invariant) => format!("initially.{invariant}"),
            Subject::Fires(action) => format!("fires.{action}"),
            Subject::Decides(action, guard) => format!("decides.{action}.{}", guard.replace(' ', "_")),
            Subject::Consecution(action, invariant) => format!("{action}.{invariant}"),
            Subject::Theorem(theorem) => format!("theorem.{theorem}"),
        }
    }
}

impl Obligation {
    /// The same question about structures with at most so many elements of these sorts: a small counterexample reads
    /// better than the one that comes first.
    pub fn within(&self, sizes: &[(Sort, usize)]) -> Obligation {
        let mut script = self.script.trim_end().trim_end_matches("(check-sat)").to_string();
        for &(sort, most) in sizes {
            let names: Vec<String> = (0..most).map(|number| format!("{}.{number}", sort.name())).collect();
            names
                .iter()
                .for_each(|name| script.push_str(&format!("(declare-const {name} {})\n", sort.name())));
            let one_of: Vec<String> = names.iter().map(|name| format!("(= any {name})")).collect();
            let any = format!("(forall ((any {})) (or {}))", sort.name(), one_of.join(" "));
            script.push_str(&format!("(assert {any})\n"));
        }
        script.push_str("(check-sat)\n");
        Obligation { script, ..self.clone() }
    }
}

impl Protocol {
    /// Every obligation. An invariant that mentions nothing that an action changes is kept by it, and not asked about.
    pub fn obligations(&self) -> Vec<Obligation> {
        let mut all: Vec<Obligation> = self.lemmas.iter().map(|lemma| self.lemma(lemma)).collect();
        all.push(self.axioms_have_a_model());
        all.extend(self.invariants.iter().map(|invariant| self.initiation(invariant)));
        for action in &self.actions {
            all.push(self.fires(action));
            all.extend(action.guards.iter().map(|guard| self.decides(action, guard)));
            let touched = self.invariants.iter().filter(|invariant| touches(action, invariant));
            all.extend(touched.map(|invariant| self.consecution(action, invariant)));
        }
        all.extend(self.theorems.iter().map(|theorem| self.theorem(theorem)));
        all
    }

    /// How many pairs of an action and an invariant need no solver, because the action changes nothing that the
    /// invariant mentions.
    pub fn untouched(&self) -> usize {
        let pairs = self
            .actions
            .iter()
            .flat_map(|action| self.invariants.iter().filter(|invariant| !touches(action, invariant)));
        pairs.count()
    }

    fn lemma(&self, lemma: &Lemma) -> Obligation {
        let mut script = Script::new("QF_LIA", lemma.says);
        for variable in VARIABLES {
            script.line(format!("(declare-const {variable} Int)"));
            script.line(format!("(assert (<= 0 {variable}))"));
        }
        let off: Vec<&str> = self.off.iter().map(String::as_str).collect();
        for (name, inequalities) in lemma.assumed(&off) {
            script.comment(name);
            for inequality in inequalities {
                script.line(Sexp::call("assert", [inequality.sexp()]).lines());
            }
        }
        let goal = Sexp::call("not", [lemma.conclusion.sexp()]);
        let named = Sexp::call("!", [goal, Sexp::atom(":named"), Sexp::atom("goal")]);
        script.line(Sexp::call("assert", [named]).lines());
        script.ask(Subject::Lemma(lemma.name), Answer::Unsatisfiable, Vec::new())
    }

    fn axioms_have_a_model(&self) -> Obligation {
        let mut script = Script::new(
            "UF",
            "The axioms have a model, with an initial state that satisfies all invariants.",
        );
        self.assume_axioms(&mut script);
        self.assume_invariants(&mut script);
        assume_initial(&mut script);
        script.ask(Subject::Axioms, Answer::Satisfiable, Vec::new())
    }

    fn initiation(&self, invariant: &Clause) -> Obligation {
        let mut script = Script::new("UF", &format!("Initially: {}", invariant.says));
        self.assume_axioms(&mut script);
        assume_initial(&mut script);
        let witnesses = script.refute(&invariant.formula, &Changed::new());
        script.ask(Subject::Initiation(invariant.name), Answer::Unsatisfiable, witnesses)
    }

    fn fires(&self, action: &Action) -> Obligation {
        let mut script = Script::new("UF", &format!("This can happen: {}", action.says));
        self.assume_axioms(&mut script);
        self.assume_invariants(&mut script);
        script.take(action);
        script.ask(Subject::Fires(action.name), Answer::Satisfiable, action.parameters.clone())
    }

    fn decides(&self, action: &Action, guard: &Clause) -> Obligation {
        let says = format!("Only the guard `{}` is in the way of: {}", guard.name, action.says);
        let mut script = Script::new("UF", &says);
        self.assume_axioms(&mut script);
        self.assume_invariants(&mut script);
        let flipped = |other: &Clause| match other.name == guard.name {
            true => Clause { formula: !guard.formula.clone(), ..guard.clone() },
            false => other.clone(),
        };
        script.take(&Action { guards: action.guards.iter().map(flipped).collect(), ..action.clone() });
        script.ask(Subject::Decides(action.name, guard.name), Answer::Satisfiable, action.parameters.clone())
    }

    fn consecution(&self, action: &Action, invariant: &Clause) -> Obligation {
        let mut script = Script::new("UF", &format!("Kept: {} While: {}", invariant.says, action.says));
        self.assume_axioms(&mut script);
        self.assume_invariants(&mut script);
        script.take(action);
        let changed: Changed = action.updates.iter().map(|update| update.relation).collect();
        action.updates.iter().for_each(|update| script.line(smt::after(update)));
        let witnesses = script.refute(&invariant.formula, &changed);
        script.ask(Subject::Consecution(action.name, invariant.name), Answer::Unsatisfiable, witnesses)
    }

    fn theorem(&self, theorem: &Clause) -> Obligation {
        let mut script = Script::new("UF", theorem.says);
        self.assume_axioms(&mut script);
        self.assume_invariants(&mut script);
        let witnesses = script.refute(&theorem.formula, &Changed::new());
        script.ask(Subject::Theorem(theorem.name), Answer::Unsatisfiable, witnesses)
    }

    fn assume_axioms(&self, script: &mut Script) {
        smt::declarations().into_iter().for_each(|line| script.line(line));
        for axiom in &self.axioms {
            script.assume(&format!("axiom.{}", axiom.name), &axiom.formula);
        }
    }

    fn assume_invariants(&self, script: &mut Script) {
        for invariant in &self.invariants {
            script.comment(invariant.says);
            script.assume(&format!("invariant.{}", invariant.name), &invariant.formula);
        }
    }
}

fn touches(action: &Action, invariant: &Clause) -> bool {
    let mentioned = invariant.formula.relations();
    action.updates.iter().any(|update| mentioned.contains(&update.relation))
}

fn assume_initial(script: &mut Script) {
    for &relation in Relation::ALL.iter().filter(|relation| relation.is_state()) {
        script.assume(&format!("initial.{}", relation.name()), &initially(relation));
    }
}

struct Script {
    says: String,
    text: String,
}

impl Script {
    fn new(logic: &str, says: &str) -> Self {
        let mut script = Script { says: says.to_string(), text: String::new() };
        script.comment(says);
        script.line(format!("(set-logic {logic})"));
        script
    }

    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    fn comment(&mut self, text: &str) {
        self.line(format!("; {text}"));
    }

    fn assume(&mut self, name: &str, formula: &Formula) {
        self.line(smt::assertion(name, formula, &Changed::new()));
    }

    /// The action is taken with some parameters, and its guards hold.
    fn take(&mut self, action: &Action) {
        self.comment(action.says);
        action.parameters.iter().for_each(|parameter| self.line(smt::constant(parameter)));
        for guard in &action.guards {
            self.assume(&format!("guard.{}", guard.name), &guard.formula);
        }
    }

    /// The formula does not hold: of which values, constants say.
    fn refute(&mut self, formula: &Formula, changed: &Changed) -> Vec<Term> {
        let (variables, body) = match formula {
            Formula::ForAll(variables, body) => (variables.as_slice(), body.as_ref()),
            other => (&[][..], other),
        };
        let witnesses: Vec<Term> = variables.iter().map(|&variable| witness(variable)).collect();
        witnesses.iter().for_each(|constant| self.line(smt::constant(constant)));
        let named = body.rename(&|term| if variables.contains(&term) { witness(term) } else { term });
        self.line(smt::assertion("goal", &!named, changed));
        witnesses
    }

    fn ask(mut self, subject: Subject, expected: Answer, witnesses: Vec<Term>) -> Obligation {
        self.line("(check-sat)");
        Obligation { subject, says: self.says, script: self.text, expected, witnesses }
    }
}

/// The constant for a variable of what is refuted.
fn witness(variable: Term) -> Term {
    Term { role: Role::Witness, ..variable }
}
