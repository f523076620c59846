//! What came of the obligations, as text and as JSON.

use super::solver::{Outcome, Solver};
use super::{Asked, Refutation, Status};
use crate::say;
use pbft_properties::proof::{Counterexample, NOT_GUARDS, NOT_NEEDED, Protocol, QUORUM_RULES, Subject};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What stands for each rule.
pub fn list_rules() {
    let protocol = Protocol::pbft();
    for rule in protocol.rules() {
        let guards = protocol.actions.iter().flat_map(|action| {
            let guards =
                action.guards.iter().filter(|guard| guard.weaker.iter().any(|(one, _)| *one == rule));
            let guards = guards.map(|guard| match guard.name == rule {
                true => action.name.to_string(),
                false => format!("{} ({})", action.name, guard.name),
            });
            let changes =
                action.updates.iter().any(|update| update.other.iter().any(|(one, _)| *one == rule));
            guards.chain(changes.then(|| format!("{} (what it changes)", action.name))).collect::<Vec<_>>()
        });
        let mut where_: Vec<String> = guards.collect();
        where_.extend(
            protocol
                .lemmas
                .iter()
                .filter(|lemma| lemma.rules().any(|one| one == rule))
                .map(|lemma| format!("lemma {}", lemma.name)),
        );
        where_.extend(QUORUM_RULES.contains(&rule).then(|| "axiom quorums_meet".to_string()));
        let not = if NOT_NEEDED.contains(&rule) { "; the proof does without it" } else { "" };
        say!("{rule:<30} {}{not}", where_.join(", "));
    }
    for (rule, why) in NOT_GUARDS {
        say!("{rule:<30} - ({why})");
    }
}

/// The group of the table that an obligation belongs to.
fn group(subject: Subject) -> &'static str {
    match subject {
        Subject::Lemma(_) => "quorums, by arithmetic",
        Subject::Axioms => "axioms have a model",
        Subject::Initiation(_) => "invariants hold initially",
        Subject::Fires(_) => "actions can happen",
        Subject::Decides(..) => "each guard decides",
        Subject::Consecution(action, _) => action,
        Subject::Theorem(_) => "theorems follow",
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Proved => "proved",
        Status::Refuted => "REFUTED",
        Status::Unknown => "unknown",
        Status::Disputed => "DISPUTED",
    }
}

fn seconds(asked: &Asked) -> f64 {
    asked.verdicts.iter().map(|verdict| verdict.seconds).sum()
}

/// The invariants that an obligation needed, without their prefix.
fn needed(asked: &Asked) -> Vec<&str> {
    asked.core().iter().filter_map(|name| name.strip_prefix("invariant.")).collect()
}

/// The table; with `each`, obligation by obligation.
pub fn lines(protocol: &Protocol, solvers: &[Solver], asked: &[Asked], each: bool) -> Vec<String> {
    let names: Vec<String> = solvers.iter().map(Solver::name).collect();
    let mut lines = vec![format!("Rules {}. Solvers: {}.", rules(protocol), names.join(", ")), String::new()];
    if each {
        lines.push(format!("{:<44} {:<8} {:>7}  needs", "obligation", "status", "seconds"));
        for one in asked {
            let line = format!(
                "{:<44} {:<8} {:>7.2}  {}",
                one.obligation.subject.name(),
                word(one.status()),
                seconds(one),
                needed(one).join(" ")
            );
            lines.push(line.trim_end().to_string());
        }
    } else {
        lines.push(format!(
            "{:<28} {:>5} {:>6} {:>7} {:>7} {:>8}  slowest",
            "obligations", "asked", "proved", "refuted", "unknown", "seconds"
        ));
        let mut groups: Vec<&'static str> = Vec::new();
        for one in asked {
            let name = group(one.obligation.subject);
            if !groups.contains(&name) {
                groups.push(name);
            }
        }
        lines.extend(groups.into_iter().map(|name| group_line(name, asked)));
    }
    lines.push(String::new());
    let refuted: Vec<&Asked> = asked.iter().filter(|one| one.refutation.is_some()).collect();
    let shown = if each { refuted.len() } else { 1 };
    for one in best_first(&refuted).into_iter().take(shown) {
        lines.extend(refutation(one));
        lines.push(String::new());
    }
    if refuted.len() > shown {
        let names: Vec<String> = refuted.iter().map(|one| one.obligation.subject.name()).collect();
        lines.push(format!("Refuted: {}. `--each` tells each.", names.join(", ")));
    } else if refuted.is_empty() {
        lines.extend(what_theorems_need(protocol, asked));
    }
    lines
}

fn group_line(name: &str, asked: &[Asked]) -> String {
    let of: Vec<&Asked> = asked.iter().filter(|one| group(one.obligation.subject) == name).collect();
    let count = |wanted: Status| of.iter().filter(|one| one.status() == wanted).count();
    let slowest = of.iter().max_by(|one, other| seconds(one).total_cmp(&seconds(other)));
    let slowest = slowest.map(|one| {
        let subject = one.obligation.subject.name();
        let last = subject.rsplit('.').next().unwrap_or_default().to_string();
        format!("{last}, {:.2} s", seconds(one))
    });
    format!(
        "{name:<28} {:>5} {:>6} {:>7} {:>7} {:>8.2}  {}",
        of.len(),
        count(Status::Proved),
        count(Status::Refuted),
        count(Status::Unknown) + count(Status::Disputed),
        of.iter().map(|one| seconds(one)).sum::<f64>(),
        slowest.unwrap_or_default()
    )
}

fn rules(protocol: &Protocol) -> String {
    match protocol.off.as_slice() {
        [] => "pbft".into(),
        off => format!("pbft without {}", off.join(" and ")),
    }
}

/// What says most if it breaks, rather than what its proof rests on.
const TELLING: [&str; 6] = [
    "chosen_unique",
    "result_unique",
    "certificate_unique",
    "committed_preserved",
    "one_vote",
    "safe_unchoosable",
];

/// Counterexamples that say most come first: steps before sizes, and the shorter ones.
fn best_first<'a>(refuted: &[&'a Asked]) -> Vec<&'a Asked> {
    let order = |one: &Asked| match &one.refutation {
        Some(Refutation::Step(step)) => {
            let rank = TELLING.iter().position(|name| *name == step.name).unwrap_or(TELLING.len());
            (rank, step.before.len() + step.changes.len())
        }
        Some(Refutation::Sizes(_)) => (TELLING.len() + 1, 0),
        Some(Refutation::Vacuous) => (TELLING.len() + 2, 0),
        _ => (TELLING.len() + 3, 0),
    };
    let mut sorted = refuted.to_vec();
    sorted.sort_by_key(|one| order(one));
    sorted
}

fn refutation(one: &Asked) -> Vec<String> {
    let name = one.obligation.subject.name();
    match &one.refutation {
        Some(Refutation::Step(counterexample)) => told(&name, counterexample),
        Some(Refutation::Sizes(sizes)) => {
            vec![format!("{name} does not hold: {}", one.obligation.says), format!("    {sizes}")]
        }
        Some(Refutation::Vacuous) => vec![format!("{name}: this cannot happen: {}", one.obligation.says)],
        Some(Refutation::Untold(why)) => vec![format!("{name} does not hold, and why is not told: {why}")],
        None => Vec::new(),
    }
}

fn told(name: &str, counterexample: &Counterexample) -> Vec<String> {
    let indented = |line: &String| format!("    {line}");
    let mut lines =
        vec![format!("{name}, a counterexample to induction: {}.", counterexample.setting.join("; "))];
    lines.push(if counterexample.step.is_some() { "  Before:".into() } else { "  In this state:".into() });
    lines.extend(counterexample.before.iter().map(indented));
    if let Some((action, says, values)) = &counterexample.step {
        lines.push(format!("  Step {action}, with {values}: {says}"));
        lines.extend(counterexample.changes.iter().map(|line| format!("    now {line}")));
    }
    lines.push(format!("  Broken, {}: {}", counterexample.values, counterexample.broken));
    lines
}

/// For each theorem the invariants that its proof names, and those that their proofs name in turn.
fn what_theorems_need(protocol: &Protocol, asked: &[Asked]) -> Vec<String> {
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in asked {
        if let Subject::Consecution(_, about) | Subject::Theorem(about) | Subject::Initiation(about) =
            one.obligation.subject
        {
            uses.entry(about).or_default().extend(needed(one));
        }
    }
    let mut lines = Vec::new();
    for theorem in &protocol.theorems {
        let direct = uses.get(theorem.name).cloned().unwrap_or_default();
        let mut all = direct.clone();
        loop {
            let more: BTreeSet<&str> =
                all.iter().filter_map(|name| uses.get(name)).flatten().copied().collect();
            if more.is_subset(&all) {
                break;
            }
            all.extend(more);
        }
        let direct: Vec<&str> = direct.into_iter().collect();
        let of = protocol.invariants.len();
        lines.push(format!("{} {}", theorem.name, theorem.says));
        lines.push(format!(
            "    from {}; with what keeps these, {} of {of} invariants",
            if direct.is_empty() { "no invariant".to_string() } else { direct.join(", ") },
            all.len()
        ));
    }
    lines
}

/// The last line.
pub fn summary(
    protocol: &Protocol,
    solvers: &[Solver],
    asked: &[Asked],
    total: usize,
    elapsed: Duration,
) -> String {
    let count = |wanted: Status| asked.iter().filter(|one| one.status() == wanted).count();
    let (proved, refuted) = (count(Status::Proved), count(Status::Refuted));
    let head = match () {
        () if refuted > 0 => "REFUTED",
        () if proved == total => "PROVED for every n >= 3f + 1, view and sequence number",
        () => "UNKNOWN",
    };
    let mut text = format!(
        "{head}: {proved} of {total} obligations proved, {refuted} refuted, {} not decided, in {:.1} s; {} pairs of an \
         action and an invariant share no relation and are asked of nobody.",
        total - proved - refuted,
        elapsed.as_secs_f64(),
        protocol.untouched(),
    );
    for (number, solver) in solvers.iter().enumerate() {
        let decided =
            asked.iter().filter(|one| one.verdicts[number].outcome.is(one.obligation.expected).is_some());
        let time: f64 = asked.iter().map(|one| one.verdicts[number].seconds).sum();
        text.push_str(&format!(" {} decided {} in {time:.1} s.", solver.name(), decided.count()));
    }
    if count(Status::Disputed) > 0 {
        text.push_str(" Solvers contradict each other: one of them is wrong, so nothing is claimed.");
    }
    text
}

/// The same as JSON.
pub fn object(
    protocol: &Protocol,
    solvers: &[Solver],
    asked: &[Asked],
    total: usize,
    elapsed: Duration,
) -> Value {
    let verdict = |one: &Asked, number: usize| {
        let verdict = &one.verdicts[number];
        let (answer, why) = match &verdict.outcome {
            Outcome::Unsatisfiable { .. } => ("unsat", None),
            Outcome::Satisfiable { .. } => ("sat", None),
            Outcome::Unknown(why) => ("unknown", Some(why)),
        };
        json!({ "solver": solvers[number].name(), "answer": answer, "why": why, "seconds": verdict.seconds })
    };
    let counterexample = |one: &Asked| match &one.refutation {
        Some(Refutation::Step(step)) => json!({
            "setting": step.setting,
            "before": step.before,
            "action": step.step.as_ref().map(|(action, _, _)| action),
            "with": step.step.as_ref().map(|(_, _, values)| values),
            "changes": step.changes,
            "broken": step.name,
            "values": step.values,
        }),
        Some(Refutation::Sizes(sizes)) => json!({ "sizes": sizes }),
        Some(Refutation::Vacuous) => json!({ "vacuous": true }),
        Some(Refutation::Untold(why)) => json!({ "untold": why }),
        None => Value::Null,
    };
    let one = |one: &Asked| {
        json!({
            "obligation": one.obligation.subject.name(),
            "says": one.obligation.says,
            "status": word(one.status()).to_lowercase(),
            "verdicts": (0..solvers.len()).map(|number| verdict(one, number)).collect::<Vec<_>>(),
            "needs": needed(one),
            "counterexample": counterexample(one),
        })
    };
    let count = |wanted: Status| asked.iter().filter(|one| one.status() == wanted).count();
    json!({
        "rules_off": protocol.off,
        "solvers": solvers.iter().map(Solver::name).collect::<Vec<_>>(),
        "obligations": total,
        "proved": count(Status::Proved),
        "refuted": count(Status::Refuted),
        "untouched": protocol.untouched(),
        "seconds": elapsed.as_secs_f64(),
        "asked": asked.iter().map(one).collect::<Vec<_>>(),
    })
}
