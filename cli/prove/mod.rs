//! `pbft prove`: the obligations of the abstract protocol, given to solvers.

mod refuted;
mod solver;
mod table;

use crate::output::interrupted;
use crate::say;
use pbft_models::matrix::AT_MOST_F;
use pbft_models::mutants::Mutant;
use pbft_properties::proof::{Counterexample, NOT_GUARDS, Obligation, Protocol, Sexp, Sort, Subject};
use solver::{Kind, Outcome, Solver, Verdict};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The options of `pbft prove`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Switch off what stands for a rule of this name; may be given several times.
    #[arg(long, value_name = "NAME")]
    rules: Vec<String>,
    /// Say what stands for each rule, and ask no solver.
    #[arg(long)]
    list_rules: bool,
    /// Ask this solver only: z3 or cvc5. Without it z3 is asked if it is installed; and with all rules in place cvc5
    /// as well, which has a tenth of the time.
    #[arg(long, value_name = "NAME", value_parser = kind)]
    solver: Option<Kind>,
    /// Seconds that a solver may think about one obligation.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Obligations asked about at once; one a processor, if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Write each obligation to DIR/<name>.smt2.
    #[arg(long, value_name = "DIR")]
    smt: Option<PathBuf>,
    /// Find for each rule, or for those of --rules, the counterexample that is drawn, and store it in DIR; asks z3 only.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["list_rules", "solver", "smt", "each", "json"])]
    save: Option<PathBuf>,
    /// Say of each obligation how it went and which invariants were needed, and tell each counterexample.
    #[arg(long)]
    each: bool,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| "it is z3 or cvc5".into())
}

/// An obligation and what came of it.
pub struct Asked {
    pub obligation: Obligation,
    /// One verdict per solver, in their order.
    pub verdicts: Vec<Verdict>,
    /// Why it does not hold, in words.
    pub refutation: Option<Refutation>,
}

/// Why an obligation does not hold.
pub enum Refutation {
    /// A state, a step and what breaks.
    Step(Box<Counterexample>),
    /// Sizes of sets.
    Sizes(String),
    /// What should be possible is not.
    Vacuous,
    /// It could not be told.
    Untold(String),
}

/// What is known of an obligation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    Proved,
    Refuted,
    Unknown,
    /// One solver says this, another that.
    Disputed,
}

impl Asked {
    pub fn status(&self) -> Status {
        let answers = self.verdicts.iter().filter_map(|verdict| verdict.outcome.is(self.obligation.expected));
        let answers: Vec<bool> = answers.collect();
        match (answers.contains(&true), answers.contains(&false)) {
            (true, false) => Status::Proved,
            (false, true) => Status::Refuted,
            (true, true) => Status::Disputed,
            (false, false) => Status::Unknown,
        }
    }

    /// What was needed, if a solver has said.
    pub fn core(&self) -> &[String] {
        let core = |verdict: &'_ Verdict| matches!(&verdict.outcome, Outcome::Unsatisfiable { core } if !core.is_empty());
        match self.verdicts.iter().find(|verdict| core(verdict)).map(|verdict| &verdict.outcome) {
            Some(Outcome::Unsatisfiable { core }) => core,
            _ => &[],
        }
    }
}

/// Asks about every obligation and tells what came of it.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    if arguments.list_rules {
        table::list_rules();
        return Ok(ExitCode::SUCCESS);
    }
    let protocol = protocol(&arguments.rules)?;
    if let Some(directory) = &arguments.save {
        return save(directory, arguments);
    }
    let obligations = protocol.obligations();
    if let Some(directory) = &arguments.smt {
        write(directory, &obligations)?;
    }
    let wanted = |solver: &Solver| arguments.solver.is_none_or(|kind| kind == solver.kind);
    let mut solvers: Vec<Solver> = solver::installed().into_iter().filter(wanted).collect();
    if !protocol.off.is_empty() {
        solvers.truncate(1);
    }
    if solvers.is_empty() {
        let name = arguments.solver.map_or("a solver", Kind::name);
        let package = arguments.solver.map_or("z3", Kind::name);
        eprintln!("pbft: {name} is not installed, so nothing is known: `apt install {package}`");
        if arguments.json {
            say!("{}", table::object(&protocol, &solvers, &[], obligations.len(), Duration::ZERO));
        }
        return Ok(ExitCode::from(3));
    }
    let start = Instant::now();
    let total = obligations.len();
    let asked = ask(arguments, &protocol, &solvers, obligations);
    if arguments.json {
        say!("{}", table::object(&protocol, &solvers, &asked, total, start.elapsed()));
    } else {
        say!("{}", table::lines(&protocol, &solvers, &asked, arguments.each).join("\n"));
        if let Some(picture) = refuted::picture(&arguments.rules) {
            say!("{picture}");
        }
        say!("\n{}", table::summary(&protocol, &solvers, &asked, total, start.elapsed()));
    }
    Ok(ExitCode::from(status(&asked, total)))
}

/// Stores the counterexamples that are drawn.
fn save(directory: &Path, arguments: &Arguments) -> Result<ExitCode, String> {
    let z3 = solver::installed().into_iter().find(|solver| solver.kind == Kind::Z3);
    let Some(z3) = z3 else {
        eprintln!("pbft: z3 is not installed, so nothing is found: `apt install z3`");
        return Ok(ExitCode::from(3));
    };
    let timeout = Duration::from_secs(arguments.timeout);
    refuted::save(directory, &arguments.rules, &z3, timeout).map(ExitCode::from)
}

/// The exit status: a counterexample counts, however much else was not decided.
fn status(asked: &[Asked], total: usize) -> u8 {
    let any = |wanted: Status| asked.iter().any(|asked| asked.status() == wanted);
    match () {
        () if any(Status::Refuted) => 1,
        () if asked.len() < total || any(Status::Unknown) || any(Status::Disputed) => 3,
        () => 0,
    }
}

fn protocol(rules: &[String]) -> Result<Protocol, String> {
    let protocol = Protocol::pbft();
    let known = protocol.rules();
    for rule in rules {
        if let Some((_, why)) = NOT_GUARDS.iter().find(|(name, _)| name == rule) {
            return Err(format!("no guard of the abstract protocol stands for {rule}: {why}"));
        }
        if !known.contains(rule.as_str()) || Mutant::named(rule).is_none() && rule != AT_MOST_F {
            return Err(format!("no safeguard is called {rule}: `pbft prove --list-rules` lists them"));
        }
    }
    let rules: Vec<&str> = rules.iter().map(String::as_str).filter(|&rule| rule != "pbft").collect();
    Ok(protocol.without(&rules))
}

fn write(directory: &Path, obligations: &[Obligation]) -> Result<(), String> {
    let failed = |error| format!("cannot write to {}: {error}", directory.display());
    std::fs::create_dir_all(directory).map_err(failed)?;
    for obligation in obligations {
        let path = directory.join(format!("{}.smt2", obligation.subject.name()));
        std::fs::write(path, &obligation.script).map_err(failed)?;
    }
    Ok(())
}

/// Asks every solver about every obligation, several at once. Ctrl-C leaves the rest out.
fn ask(
    arguments: &Arguments,
    protocol: &Protocol,
    solvers: &[Solver],
    obligations: Vec<Obligation>,
) -> Vec<Asked> {
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.map_or_else(processors, usize::from);
    let timeout = Duration::from_secs(arguments.timeout);
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut asked: Vec<(usize, Asked)> = thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, obligations) = (sender.clone(), &next, &obligations);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(obligation) = obligations.get(number).filter(|_| !interrupted()) else { return };
                    let obligation = obligation.clone();
                    let limits = [timeout, timeout / 10].into_iter();
                    let ask = |(solver, limit): (&Solver, Duration)| solver.ask(&obligation, limit);
                    let verdicts = solvers.iter().zip(limits).map(ask).collect();
                    let mut one = Asked { obligation, verdicts, refutation: None };
                    one.refutation = refutation(protocol, &one, solvers, timeout);
                    // The receiver is there until all are done.
                    drop(sender.send((number, one)));
                }
            });
        }
        drop(sender);
        receiver.iter().collect()
    });
    asked.sort_by_key(|(number, _)| *number);
    asked.into_iter().map(|(_, asked)| asked).collect()
}

/// Sizes within which a counterexample is looked for before the one found is told.
const SMALL: [[(Sort, usize); 7]; 2] = [sizes_of([4, 2, 2, 2, 2, 2, 2]), sizes_of([4, 3, 3, 3, 3, 3, 4])];

const fn sizes_of(sizes: [usize; 7]) -> [(Sort, usize); 7] {
    let [replicas, views, numbers, digests, batches, states, quorums] = sizes;
    [
        (Sort::Replica, replicas),
        (Sort::View, views),
        (Sort::Number, numbers),
        (Sort::Digest, digests),
        (Sort::Batch, batches),
        (Sort::State, states),
        (Sort::Quorum, quorums),
    ]
}

fn model(outcome: &Outcome) -> Option<&Sexp> {
    match outcome {
        Outcome::Satisfiable { model } => model.as_ref(),
        _ => None,
    }
}

/// Why an obligation does not hold, if it does not.
fn refutation(
    protocol: &Protocol,
    asked: &Asked,
    solvers: &[Solver],
    timeout: Duration,
) -> Option<Refutation> {
    if asked.status() != Status::Refuted {
        return None;
    }
    let found = asked.verdicts.iter().find_map(|verdict| model(&verdict.outcome));
    Some(match (asked.obligation.subject, found) {
        (Subject::Axioms | Subject::Fires(_) | Subject::Decides(..), _) => Refutation::Vacuous,
        (Subject::Lemma(_), Some(found)) => Refutation::Sizes(sizes(found)),
        (_, Some(found)) => {
            let z3 = solvers.iter().find(|solver| solver.kind == Kind::Z3);
            let small = z3.into_iter().flat_map(|z3| {
                SMALL.iter().map(|sizes| z3.ask(&asked.obligation.within(sizes), timeout).outcome)
            });
            let small = small.into_iter().find_map(|outcome| model(&outcome).cloned());
            match protocol.counterexample(&asked.obligation, small.as_ref().unwrap_or(found)) {
                Ok(counterexample) => Refutation::Step(Box::new(counterexample)),
                Err(why) => Refutation::Untold(why),
            }
        }
        (_, None) => Refutation::Untold("the solver that refutes it gives no model: ask z3".into()),
    })
}

/// The numbers in a model, those that are 0 left out.
fn sizes(model: &Sexp) -> String {
    let number = |definition: &Sexp| match definition.parts() {
        [_, Sexp::Atom(name), _, _, Sexp::Atom(value)] if value != "0" && name != "goal" => {
            Some((name.clone(), value.clone()))
        }
        _ => None,
    };
    let found: Vec<(String, String)> = model.parts().iter().filter_map(number).collect();
    let value = |name: &str| found.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str());
    let head = ["n", "f", "Q"].map(|name| format!("{name} = {}", value(name).unwrap_or("0"))).join(", ");
    let words = |name: &str| {
        let (kind, place) = name.split_once('_').unwrap_or((name, ""));
        let who = if kind == "c" { "correct" } else { "Byzantine" };
        let place = match place {
            "both" => "in both sets",
            "first" => "in the first set only",
            "second" => "in the second set only",
            _ => "in neither",
        };
        format!("{who} {place}")
    };
    let is_part = |name: &str| name.starts_with("c_") || name.starts_with("b_");
    let mut parts: Vec<&(String, String)> = found.iter().filter(|(name, _)| is_part(name)).collect();
    parts.sort_by_key(|(name, _)| (name.starts_with("b_"), name.clone()));
    let parts: Vec<String> = parts.iter().map(|(name, value)| format!("{value} {}", words(name))).collect();
    if parts.is_empty() { head } else { format!("{head}: {}", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pbft_properties::proof::{Answer, NOT_NEEDED};

    fn asked(outcomes: &[Outcome]) -> Asked {
        let verdicts = outcomes.iter().map(|outcome| Verdict { outcome: outcome.clone(), seconds: 0.0 });
        let obligation =
            Protocol::pbft().obligations().into_iter().find(|one| one.expected == Answer::Unsatisfiable);
        Asked { obligation: obligation.unwrap(), verdicts: verdicts.collect(), refutation: None }
    }

    #[test]
    fn solvers_must_agree_and_one_is_enough() {
        let proved = || Outcome::Unsatisfiable { core: Vec::new() };
        let refuted = || Outcome::Satisfiable { model: None };
        let unknown = || Outcome::Unknown(String::new());
        let exit = |outcomes: &[Outcome]| status(&[asked(outcomes)], 1);
        assert_eq!(exit(&[proved(), unknown()]), 0);
        assert_eq!(exit(&[unknown(), refuted()]), 1);
        assert_eq!(exit(&[unknown(), unknown()]), 3);
        assert_eq!(exit(&[proved(), refuted()]), 3);
        // It was interrupted.
        assert_eq!(status(&[asked(&[proved()])], 2), 3);
    }

    #[test]
    fn every_safeguard_has_its_guard_or_a_reason_why_not() {
        let known = Protocol::pbft().rules();
        for name in Mutant::ALL.iter().map(|mutant| mutant.id()).chain([AT_MOST_F]) {
            let reason = NOT_GUARDS.iter().any(|(rule, _)| *rule == name);
            assert!(known.contains(name) != reason, "{name}");
        }
        for rule in known {
            assert!(Mutant::named(rule).is_some() || rule == AT_MOST_F, "{rule}");
        }
    }

    #[test]
    fn sizes_are_told_in_words() {
        let text = "((define-fun c_first () Int 2) (define-fun n () Int 4) (define-fun b_both () Int 1) \
                    (define-fun f () Int 1) (define-fun Q () Int 3) (define-fun c_both () Int 0))";
        let told = sizes(&Sexp::read(text).unwrap()[0]);
        assert_eq!(told, "n = 4, f = 1, Q = 3: 2 correct in the first set only, 1 Byzantine in both sets");
    }

    /// z3, or why a test without it shows nothing. Where `PBFT_REQUIRE_SOLVER` is set it must be there.
    fn z3() -> Option<Solver> {
        let found = solver::installed().into_iter().find(|solver| solver.kind == Kind::Z3);
        if found.is_none() {
            assert!(std::env::var_os("PBFT_REQUIRE_SOLVER").is_none(), "z3 is not installed");
            eprintln!("skipped: z3 is not installed, so nothing is asked");
        }
        found
    }

    const LIMIT: Duration = Duration::from_secs(120);

    #[test]
    fn everything_is_proved() {
        let Some(z3) = z3() else { return };
        for obligation in Protocol::pbft().obligations() {
            let answer = z3.ask(&obligation, LIMIT).outcome;
            assert_eq!(
                answer.is(obligation.expected),
                Some(true),
                "{}: {answer:?}",
                obligation.subject.name()
            );
        }
    }

    /// The first obligation that fails without a rule, among those about what the rule stands for; and why it fails,
    /// evaluated by the finite reading.
    #[test]
    fn without_any_rule_that_a_guard_stands_for_something_is_refuted() {
        let Some(z3) = z3() else { return };
        let whole = Protocol::pbft();
        for rule in whole.rules() {
            let without = whole.without(&[rule]);
            let changed = |obligation: &Obligation| match obligation.subject {
                Subject::Lemma(name) => whole
                    .lemmas
                    .iter()
                    .any(|lemma| lemma.name == name && lemma.rules().any(|one| one == rule)),
                Subject::Consecution(name, _) => {
                    whole.actions.iter().any(|action| action.name == name && action.rules().contains(rule))
                }
                _ => false,
            };
            let mut asked = without.obligations().into_iter().filter(changed).peekable();
            assert!(asked.peek().is_some(), "nothing stands for {rule}");
            let refuted = asked.find_map(|obligation| {
                let verdict = z3.ask(&obligation, LIMIT);
                let mut one = Asked { obligation, verdicts: vec![verdict], refutation: None };
                one.refutation = refutation(&without, &one, std::slice::from_ref(&z3), LIMIT);
                one.refutation
            });
            match refuted {
                Some(Refutation::Step(_) | Refutation::Sizes(_)) => {
                    assert!(!NOT_NEEDED.contains(&rule), "the proof needs {rule}");
                }
                Some(_) => panic!("{rule}: the counterexample cannot be told"),
                None => assert!(NOT_NEEDED.contains(&rule), "the proof does without {rule}"),
            }
        }
    }
}
