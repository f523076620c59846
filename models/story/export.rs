//! A story in the formats of other viewers.

use super::{Story, name};
use crate::trace::Executor;
use crate::trace::replay::Taken;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The execution in the Informal Trace Format (ITF), as viewers of Apalache's and Quint's traces read it: one state
/// before the first step and one after each, each variable a record with a field for every node.
///
/// Source: Apalache ADR 015.
pub fn itf(story: &Story, executor: &mut Executor, taken: &[Taken]) -> String {
    let mut states = Vec::new();
    let first = taken.first().map(|taken| taken.before.clone()).unwrap_or_else(|| executor.start());
    let configurations = std::iter::once(&first).chain(taken.iter().map(|taken| &taken.came.after));
    for (index, configuration) in configurations.enumerate() {
        let mut state = Map::new();
        state.insert("#meta".into(), json!({ "index": index }));
        let step = index.checked_sub(1).and_then(|index| story.steps.get(index));
        let action = step.map_or("start".into(), |step| format!("{} {}", step.way().trim(), step.what));
        state.insert("action".into(), action.into());
        state.insert(
            "violated".into(),
            step.and_then(|step| step.violated.clone()).unwrap_or_default().into(),
        );
        let mut variables: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for position in 0..story.config.correct().len() {
            let node = name(executor.nodes()[position]);
            let replica = &executor.replica(configuration, position).replica;
            for (what, value) in super::fields(replica, &story.names) {
                variables.entry(variable(what)).or_default().insert(node.clone(), value.into());
            }
        }
        state.extend(variables.into_iter().map(|(what, of)| (what, Value::Object(of))));
        states.push(Value::Object(state));
    }
    let names: Vec<&String> = match states.first() {
        Some(Value::Object(state)) => state.keys().filter(|key| *key != "#meta").collect(),
        _ => Vec::new(),
    };
    let trace = json!({
        "#meta": { "format": "ITF", "description": story.title(), "source": story.config.name() },
        "vars": names,
        "states": states,
    });
    serde_json::to_string_pretty(&trace).expect("a trace is plain data") + "\n"
}

/// The name of a variable: `stable checkpoint h` as `stable_checkpoint_h`.
fn variable(what: &str) -> String {
    let plain = what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect::<String>();
    plain.trim_matches('_').to_string()
}

/// The expression by which ShiViz reads [`shiviz`]'s lines.
pub const SHIVIZ_EXPRESSION: &str = r"(?<host>\S*) (?<clock>{.*})\n(?<event>.*)";

/// The execution as a log with vector clocks, for ShiViz: two lines per event. The first line is the expression that
/// parses the others.
pub fn shiviz(story: &Story) -> String {
    let mut text = format!("{SHIVIZ_EXPRESSION}\n\n");
    let mut clocks: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    // The clock of each node when it took a step, for what it sent there.
    let mut at_step: BTreeMap<usize, BTreeMap<String, usize>> = BTreeMap::new();
    for step in &story.steps {
        let host = name(step.node);
        let sender = step.from.map(name).filter(|sender| *sender != host);
        let carried = match (step.sent_at, &sender) {
            (Some(number), _) => at_step.get(&number).cloned().unwrap_or_default(),
            // What somebody Byzantine makes is an event of its own there.
            (None, Some(sender)) => {
                let clock = clocks.entry(sender.clone()).or_default();
                *clock.entry(sender.clone()).or_default() += 1;
                let clock = clock.clone();
                let _ = writeln!(
                    text,
                    "{sender} {}\nsends {} ({})",
                    json!(clock),
                    step.what,
                    step.lies.join("; ")
                );
                clock
            }
            (None, None) => BTreeMap::new(),
        };
        let clock = clocks.entry(host.clone()).or_default();
        for (node, time) in carried {
            let known = clock.entry(node).or_default();
            *known = time.max(*known);
        }
        *clock.entry(host.clone()).or_default() += 1;
        let violated = step.violated.as_ref().map(|what| format!(" VIOLATED: {what}")).unwrap_or_default();
        let done = if step.does.is_empty() { String::new() } else { format!(": {}", step.does.join("; ")) };
        let _ =
            writeln!(text, "{host} {}\n{} {}{done}{violated}", json!(clock), step.way().trim(), step.what);
        at_step.insert(step.number, clock.clone());
    }
    text
}
