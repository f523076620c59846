//! Reports as text: one line per world, and the details of one.

use pbft_models::expected::Expected;
use pbft_models::falsifiable;
use pbft_models::report::{Lines, Report, Verdict};
use pbft_models::suite::{Entry, Suite};
use pbft_models::world::{Application, Crashes};
use std::fmt::Write;

/// The names of the columns of [`line`].
pub const HEADER: &str = "verdict                 world                      \
                          explore      states  transitions depth  conditions can fail  seconds  states/s    MiB";

/// One report as a line below [`HEADER`].
pub fn line(report: &Report) -> String {
    let verdict = match report.verdict {
        Verdict::Holds => format!("HOLDS ({})", report.rests_on.name()),
        Verdict::Searched => "no violation found".to_string(),
        Verdict::Violated => format!("VIOLATED ({} steps)", report.trace_length.unwrap_or_default()),
        Verdict::Hunted => "hunted: nothing found".to_string(),
        Verdict::Unknown if report.exhausted => "UNKNOWN (exhausted)".to_string(),
        Verdict::Unknown => "UNKNOWN (not exhausted)".to_string(),
    };
    let conditions = match (report.conditions_checked, report.conditions_failed) {
        (0, _) => "-".to_string(),
        (checked, 0) => checked.to_string(),
        (_, failed) => format!("{failed} failed"),
    };
    let can_fail = match (&report.can_fail, &report.not_shown_to_fail) {
        (Some(shown), Some(not)) => share(shown.len(), not.len()),
        _ => "-".to_string(),
    };
    let differs = report.expected.map(|expected| {
        let Expected { states, transitions, checks, walked, .. } = expected;
        let walked = walked.map(|(cores, steps)| format!("; walked {cores}, {steps}"));
        format!(
            "docs/WORLDS.md has {states} states, {transitions} transitions, {checks} checks{}",
            walked.unwrap_or_default()
        )
    });
    let remark = report.property.or(report.why.as_deref()).or(differs.as_deref()).unwrap_or_default();
    let line = format!(
        "{verdict:<23} {:<26} {:<7} {:>11} {:>12} {:>5} {conditions:>11} {can_fail:>8} {:>8.1} {:>9.0} {:>6} {remark}",
        report.world,
        report.explore.name(),
        report.states,
        report.transitions,
        report.depth,
        report.seconds,
        report.states_per_second,
        report.peak_bytes.div_ceil(1 << 20),
    );
    line.trim_end().to_string()
}

/// One report as a row of the table of docs/WORLDS.md.
pub fn row(report: &Report) -> String {
    let rests_on = match report.verdict {
        Verdict::Holds => report.rests_on.name(),
        Verdict::Searched => "searched",
        Verdict::Hunted => "hunted",
        Verdict::Violated => "VIOLATED",
        Verdict::Unknown => "UNKNOWN",
    };
    let can_fail = match (&report.can_fail, &report.not_shown_to_fail) {
        (Some(shown), Some(not)) => format!("{} of {}", shown.len(), shown.len() + not.len()),
        _ => "not known".to_string(),
    };
    let walked = match &report.walked {
        Some(walked) => format!("{}; {}", grouped(walked.cores), grouped(walked.steps_taken)),
        None => "-".to_string(),
    };
    format!(
        "| {} | {} | {rests_on} | {} | {} | {} | {walked} | {can_fail} | {:.1} |",
        report.world,
        report.explore.name(),
        grouped(report.states),
        grouped(report.transitions),
        grouped(report.conditions_checked - report.walks()),
        report.cpu_seconds,
    )
}

/// A number with a comma before every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of properties out of all.
fn share(shown: usize, not_shown: usize) -> String {
    format!("{shown}/{}", shown + not_shown)
}

/// What the worlds show together, those included that were not begun.
pub fn summary(verdicts: &[Verdict], worlds: usize) -> String {
    let count = |wanted| verdicts.iter().filter(|&&verdict| verdict == wanted).count();
    let hunted = count(Verdict::Hunted);
    let mut text = format!(
        "{} of {} worlds hold, {} violated, {} unknown",
        count(Verdict::Holds),
        worlds - hunted - count(Verdict::Searched),
        count(Verdict::Violated),
        count(Verdict::Unknown)
    );
    let searched = count(Verdict::Searched);
    if searched > 0 {
        let _ = write!(text, "; {searched} more searched: no violation found, which is no verdict");
    }
    if hunted > 0 {
        let _ = write!(text, "; {hunted} hunted: nothing found, which is no verdict");
    }
    if verdicts.len() < worlds {
        let _ = write!(text, "; {} not begun: it was interrupted", worlds - verdicts.len());
    }
    text + "."
}

/// A world of the suites as a line, with the properties that a mistake violates in it.
pub fn listed(entry: &Entry) -> String {
    let suites = match (entry.suite, entry.hunt) {
        (_, Some(_)) => "hunted in full",
        (Suite::Default, None) => "default and full",
        (Suite::Full, None) => "full",
        (Suite::Night, None) => "night",
    };
    let name = entry.config.name();
    let can_fail = falsifiable::of(&entry.config, entry.explore).map(|claim| {
        let shown = claim.by_name();
        let properties: Vec<&str> = shown.keys().map(String::as_str).collect();
        format!("can fail {}: {}", share(properties.len(), claim.not_shown().len()), properties.join(" "))
    });
    let line =
        format!("{name:<26} {:<7} {suites:<16} {}", entry.explore.name(), can_fail.unwrap_or_default());
    line.trim_end().to_string()
}

/// What the line of a report has no room for.
pub fn details(report: &Report) -> String {
    let mut lines = vec![
        bounds(report),
        format!(
            "{} states of one replica, {} sets of messages sent by one, {} steps cut by bound, {:.1} s of \
             processor time in {} threads.",
            report.local_states, report.message_sets, report.cut_by_bound, report.cpu_seconds, report.threads
        ),
    ];
    lines.extend(witnesses(report));
    lines.extend(can_fail(report));
    lines.extend(conditions(report));
    lines.extend(
        [Verdict::Holds, Verdict::Searched]
            .contains(&report.verdict)
            .then(|| report.rests_on.in_words().to_string()),
    );
    lines.extend(observed(report));
    lines.extend(too_few(report));
    if let Some(why) = &report.why {
        let ended = if report.exhausted { "" } else { "not exhausted, " };
        lines.push(format!("Nothing is claimed: {ended}{why}."));
    }
    lines.extend(trace(report));
    lines.join("\n")
}

/// The bounds in words.
fn bounds(report: &Report) -> String {
    let numbers: Vec<String> = report.byzantine.iter().map(|replica| format!("r{replica}")).collect();
    let byzantine = match numbers.len() {
        0 => "no Byzantine replica".to_string(),
        _ => format!("{} Byzantine", numbers.join(" and ")),
    };
    let views = match report.max_view {
        0 => "view 0, no time-outs".to_string(),
        highest => format!("views 0 to {highest}, time-outs at any time"),
    };
    let checkpoints = match report.checkpoint_interval {
        None => "no checkpoint".to_string(),
        Some(interval) => format!("a checkpoint every {interval}"),
    };
    let rules = match report.rules {
        "pbft" => "rules pbft".to_string(),
        without => format!("rules pbft without {without}"),
    };
    let crashes = match report.crashes {
        None => String::new(),
        Some(Crashes { at_most, between_steps }) => {
            let often =
                at_most.map_or("any number of times".into(), |most| format!("at most {most} times each"));
            let anywhere = if between_steps { "between steps" } else { "between any two effects" };
            format!("correct replicas crash {anywhere} and restart, {often}, ")
        }
    };
    let clients = match report.calls.as_deref().map(Application::parse) {
        Some(Ok(calls)) => calls.in_words(),
        _ => format!("{} request(s) to be heard of", report.requests),
    };
    format!(
        "n={} f={}, {byzantine}, {views}, sequence numbers 1 to {}, window {}, {clients}, batches of at most {}, \
         {checkpoints}, {crashes}{rules}.",
        report.n, report.f, report.max_seq, report.window, report.max_batch,
    )
}

fn witnesses(report: &Report) -> Vec<String> {
    let named = |seen: bool| -> Vec<&str> {
        let wanted = report.witnesses.iter().filter(|&(_, &was)| was == seen);
        wanted.map(|(name, _)| name.as_str()).collect()
    };
    let told =
        |how: &str, names: Vec<&str>| (!names.is_empty()).then(|| format!("{how}: {}.", names.join("; ")));
    told("Seen", named(true)).into_iter().chain(told("Never seen", named(false))).collect()
}

/// Which properties could have failed, and which are not claimed.
fn can_fail(report: &Report) -> Vec<String> {
    let (Some(shown), Some(not)) = (&report.can_fail, &report.not_shown_to_fail) else { return Vec::new() };
    let shown: Vec<String> = shown.iter().map(|(property, by)| format!("{property} ({by})")).collect();
    let mut lines = vec![format!("Can fail here, as a mistake shows: {}.", shown.join("; "))];
    if !not.is_empty() {
        lines.push(format!("Not shown to be falsifiable here, so not claimed: {}.", not.join("; ")));
    }
    lines
}

fn conditions(report: &Report) -> Vec<String> {
    let tried = |(name, tried): (&&str, &pbft_models::report::Tried)| {
        format!("{name} {} of {} failed", tried.failed, tried.checked)
    };
    let all: Vec<String> = report.conditions.iter().map(tried).collect();
    let mut lines = Vec::new();
    if !all.is_empty() {
        lines.push(format!("Conditions of the reduction: {}.", all.join("; ")));
    }
    lines.extend(report.walked.map(|walked| {
        format!(
            "Walked, of the unreduced local systems: {} cores, {} steps, of which {} change or send something; a cell of \
             what is received holds one of {} things at most.",
            walked.cores, walked.steps_taken, walked.steps_recorded, walked.most_held
        )
    }));
    let first = report.first_failures.iter();
    lines.extend(first.map(|(name, first)| format!("The first failure of {name}: {first}")));
    lines
}

/// What can be compared with other explorations, and what it is of.
fn observed(report: &Report) -> Option<String> {
    let observed = report.observed.as_ref()?;
    let said = |what: &str, lines: &Lines| format!("{} {what}, SHA-256 {}", lines.count(), lines.digest());
    let histories = said("joint histories", &observed.histories);
    let behaviours = observed.behaviours.iter();
    let behaviours: String = behaviours.map(|all| format!("; {}", said("behaviours", all))).collect();
    Some(format!("Observables: {histories}{behaviours}. {}", observed.of.in_words()))
}

/// What it means that there are fewer than 3f + 1 replicas, if so.
fn too_few(report: &Report) -> Option<String> {
    if report.n > 3 * report.f {
        return None;
    }
    let alone = report.witnesses.get("something commits without some replica").copied().unwrap_or_default();
    let progress = match alone || !report.exhausted {
        true => "PBFT claims no progress for such a cluster",
        false => "nothing commits unless every replica takes part, so one that is silent stops it",
    };
    Some(format!("Fewer than 3f + 1 replicas: {progress}, and nobody should run it."))
}

fn trace(report: &Report) -> Vec<String> {
    let (Some(property), Some(what), Some(trace)) = (report.property, &report.violation, &report.trace)
    else {
        return Vec::new();
    };
    let mut lines = vec![format!("{property}: {what}, after {} steps:", trace.len())];
    lines.extend(trace.iter().enumerate().map(|(number, step)| format!("{:>4}  {step}", number + 1)));
    lines
}
