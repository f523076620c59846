//! How a counterexample goes on in which a request never executes: what is lost after its steps, what the replicas do
//! from then on, and what they do with the rule.

use super::Names;
use crate::progress::{DELAY, Loss, MOST_TOLD, Ran};
use crate::trace::replay::{Harmless, Replayed};
use crate::words::name;
use crate::world::WorldConfig;
use maud::{Markup, html};
use pbft::types::Principal;

/// What comes after the steps.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standstill {
    /// What is lost, and what everybody does from then on.
    pub begins: String,
    /// What comes in the list that follows.
    pub heading: String,
    /// What happens then, each thing once: in the order in which it does for the first time.
    pub why: Vec<String>,
    /// That a request never executes.
    pub ending: String,
    /// How the same goes on with the rule.
    pub with_rule: String,
}

impl Standstill {
    /// That of a counterexample, if it is about a request that never executes.
    pub(super) fn of(replayed: &Replayed, harmless: &Harmless, names: &Names) -> Option<Self> {
        let (loss, ran) = replayed.then.as_ref()?;
        let what = names.in_text(&replayed.violation.what);
        Some(Standstill {
            begins: begins(*loss, replayed.executor.config()),
            heading: match ran.last.len() {
                MOST_TOLD.. => format!("What happens then, each thing once; of many the last {MOST_TOLD}"),
                _ => "What happens then, each thing once".into(),
            },
            why: ran.last.iter().map(|line| names.in_text(line)).collect(),
            ending: format!("{}.", capital(&what)),
            with_rule: with_rule(harmless.then.as_ref()?, names),
        })
    }
}

fn begins(loss: Loss, config: &WorldConfig) -> String {
    let restart =
        if loss.restarted { ", and every correct replica starts again from what is durable" } else { "" };
    let byzantine: String = config
        .byzantine
        .iter()
        .map(|&replica| {
            format!(" {}, Byzantine, {}.", name(Principal::Replica(replica)), loss.strategy.in_words())
        })
        .collect();
    format!(
        "Now everything that was sent is lost{restart}. From then on every message takes {DELAY} ms, time-outs run as on hosts, and \
         each client asks for its operation until it has a result.{byzantine}"
    )
}

fn with_rule(ran: &Ran, names: &Names) -> String {
    if let Some(violation) = ran.violation() {
        return format!("All the same {}.", names.in_text(&violation.what));
    }
    let views = match ran.views {
        0 => "without another view".to_string(),
        1 => "one view later".to_string(),
        views => format!("{views} views later"),
    };
    format!(
        "Once everything sent is lost in the same way, every client has its result within {} ms, {views}.",
        ran.took_ms
    )
}

fn capital(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn happening(line: &str) -> Markup {
    let (time, what) = line.split_once("  ").unwrap_or(("", line));
    html! { li { span.soft { (time) ":" } " " (what) } }
}

/// The part of a page about it, after so many steps.
pub fn section(then: &Standstill, steps: usize) -> Markup {
    html! {
        section.box.then id="then" aria-label="Why it stays there" {
            h2 { "Why it stays there" }
            p {
                @if steps == 0 { "No step is needed: it is so from the start. " }
                (then.begins)
            }
            h4 { (then.heading) }
            ol.why { @for line in &then.why { (happening(line.trim_start())) } }
            p.violated { (then.ending) }
            p.safe { b { "With the rule. " } (then.with_rule) }
        }
    }
}
