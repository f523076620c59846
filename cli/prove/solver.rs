//! Solvers as processes: a question on standard input, a verdict on standard output.

use pbft_properties::proof::{Answer, Obligation, Sexp};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The solvers that are known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Z3,
    Cvc5,
}

/// A solver that is installed.
#[derive(Clone, Debug)]
pub struct Solver {
    pub kind: Kind,
    pub version: String,
}

/// What a solver has answered.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub outcome: Outcome,
    pub seconds: f64,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    /// There is no such thing; of what was assumed, this was needed.
    Unsatisfiable { core: Vec<String> },
    /// There is; the model, if the solver gave one that can be read.
    Satisfiable { model: Option<Sexp> },
    /// It did not decide, and why.
    Unknown(String),
}

impl Outcome {
    /// Whether it is the answer expected; none if there is no answer.
    pub fn is(&self, expected: Answer) -> Option<bool> {
        match self {
            Outcome::Unsatisfiable { .. } => Some(expected == Answer::Unsatisfiable),
            Outcome::Satisfiable { .. } => Some(expected == Answer::Satisfiable),
            Outcome::Unknown(_) => None,
        }
    }
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Z3, Kind::Cvc5];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Z3 => "z3",
            Kind::Cvc5 => "cvc5",
        }
    }
}

/// The solvers that can be started, z3 first.
pub fn installed() -> Vec<Solver> {
    let version = |kind: Kind| {
        let output = Command::new(kind.name()).arg("--version").stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
        Some(Solver { kind, version: text.split_whitespace().find(number)?.to_string() })
    };
    Kind::ALL.into_iter().filter_map(version).collect()
}

impl Solver {
    /// The name and the version.
    pub fn name(&self) -> String {
        format!("{} {}", self.kind.name(), self.version)
    }

    fn command(&self, expected: Answer, timeout: Duration) -> Command {
        let mut command = Command::new(self.kind.name());
        match self.kind {
            Kind::Z3 => command.args(["-in".into(), format!("-T:{}", timeout.as_secs().max(1))]),
            Kind::Cvc5 => command.args([
                "--lang=smt2".into(),
                match expected {
                    Answer::Satisfiable => "--finite-model-find".into(),
                    Answer::Unsatisfiable => "--full-saturate-quant".to_string(),
                },
                format!("--tlimit={}", timeout.as_millis().max(1)),
            ]),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    /// Asks, and waits no longer than the time limit.
    pub fn ask(&self, obligation: &Obligation, timeout: Duration) -> Verdict {
        let start = Instant::now();
        let question = match self.kind {
            Kind::Z3 => format!(
                "(set-option :produce-unsat-cores true)\n{}(get-unsat-core)\n(get-model)\n",
                obligation.script
            ),
            Kind::Cvc5 => obligation.script.clone(),
        };
        let outcome = match self.command(obligation.expected, timeout).spawn() {
            Ok(child) => match answered(child, question, start + timeout + Duration::from_secs(1)) {
                Ok(text) => read(&text),
                Err(why) => Outcome::Unknown(why),
            },
            Err(error) => Outcome::Unknown(format!("{} cannot be started: {error}", self.kind.name())),
        };
        Verdict { outcome, seconds: start.elapsed().as_secs_f64() }
    }
}

/// What the process writes until it ends; after the deadline it is ended.
fn answered(mut child: Child, question: String, deadline: Instant) -> Result<String, String> {
    let mut input = child.stdin.take().ok_or("it takes no input")?;
    let mut output = child.stdout.take().ok_or("it gives no output")?;
    // A solver that ends early reads no further, and says why on its output.
    let writer = thread::spawn(move || drop(input.write_all(question.as_bytes())));
    let reader = thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let mut pause = Duration::from_millis(1);
    let mut late = false;
    while !reader.is_finished() {
        if Instant::now() > deadline && !late {
            late = true;
            child.kill().map_err(|error| format!("it cannot be ended: {error}"))?;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    let text = reader.join().map_err(|_| "its output was not read")?;
    writer.join().map_err(|_| "it was not asked")?;
    child.wait().map_err(|error| format!("it cannot be waited for: {error}"))?;
    match late {
        true => Err("time is up".into()),
        false => text.map_err(|error| format!("its output cannot be read: {error}")),
    }
}

fn read(text: &str) -> Outcome {
    let parts = match Sexp::read(text) {
        Ok(parts) => parts,
        Err(why) => return Outcome::Unknown(why),
    };
    let is_error = |part: &&Sexp| part.parts().first().and_then(Sexp::text) == Some("error");
    match parts.first().and_then(Sexp::text) {
        Some("unsat") => {
            let core = parts.get(1).filter(|part| !is_error(part)).map_or(&[][..], Sexp::parts);
            let core = core.iter().filter_map(Sexp::text).map(|name| name.trim_matches('|').to_string());
            Outcome::Unsatisfiable { core: core.collect() }
        }
        Some("sat") => {
            let model = parts.into_iter().skip(1).rfind(|part| !is_error(&part) && !part.parts().is_empty());
            Outcome::Satisfiable { model }
        }
        Some("unknown") => Outcome::Unknown("it does not know".into()),
        Some("timeout") => Outcome::Unknown("time is up".into()),
        _ => {
            let first = text.lines().next().unwrap_or("it said nothing");
            Outcome::Unknown(if first.contains("interrupted by timeout") {
                "time is up".into()
            } else {
                first.into()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let Outcome::Unsatisfiable { core } = read("unsat\n(goal |guard.sent once|)\n(error \"no model\")\n")
        else {
            panic!("it is unsatisfiable")
        };
        assert_eq!(core, ["goal", "guard.sent once"]);
        let text = "sat\n(error \"no core\")\n(\n  (define-fun n () Int\n 4)\n)\n";
        assert!(matches!(read(text), Outcome::Satisfiable { model: Some(_) }));
        for (text, why) in
            [("timeout\n", "time is up"), ("unknown\n", "it does not know"), ("", "it said nothing")]
        {
            assert!(matches!(read(text), Outcome::Unknown(said) if said == why), "{text}");
        }
    }
}
