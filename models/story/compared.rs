//! A step beside the same step by the paper's rules.

use super::words::{in_words, not_done};
use super::{Story, StoryStep, Teller, in_short, name};
use crate::trace::replay::{Harmless, Replayed, Restored};
use pbft::message::Message;
use pbft::replica::Fact;

/// How a step turns out by the paper's rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum How {
    /// As without the safeguard.
    Same,
    /// The receiver drops the message.
    Refused,
    /// Something else comes of it.
    Otherwise,
    /// It cannot happen, because of what came before.
    CannotHappen,
}

/// A step by the paper's rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Counterpart {
    /// How it turns out.
    pub how: How,
    /// In a sentence; empty if it turns out the same.
    pub why: String,
    /// The step as it happens then, if it happens.
    pub step: Option<Box<StoryStep>>,
}

/// The counterpart of each step.
pub(super) fn compared(replayed: &Replayed, harmless: &Harmless, story: &Story) -> Vec<Counterpart> {
    let teller = Teller::new(&harmless.executor, &harmless.taken, &story.names);
    let counterpart = |(index, restored): (usize, &Restored)| {
        let place = harmless.taken.iter().position(|taken| taken.number == index + 1);
        let step = place.map(|place| teller.told(place));
        let told = &story.steps[index];
        let how = match restored {
            Restored::Same => How::Same,
            Restored::Refused(_) => How::Refused,
            Restored::Otherwise(_) => How::Otherwise,
            Restored::CannotHappen => How::CannotHappen,
        };
        let why = match how {
            How::Same => String::new(),
            How::Refused => {
                let why = step.as_ref().and_then(|step| {
                    // What is refused for the lie itself is refused for the one that was told.
                    let refused = step.refused.clone()?;
                    let told = told.lies.first().filter(|_| step.lies.contains(&refused));
                    Some(told.cloned().unwrap_or(refused))
                });
                let why = why.unwrap_or_default();
                format!("{} refuses it: {why}", name(told.node))
            }
            How::Otherwise => {
                let place = place.expect("it happens");
                otherwise(replayed, harmless, (index, place), story, step.as_ref())
            }
            How::CannotHappen => cannot(replayed, harmless, index, story),
        };
        Counterpart { how, why, step: step.map(Box::new) }
    };
    harmless.steps.iter().enumerate().map(counterpart).collect()
}

/// What is not done, what is done instead, and which votes are missing.
fn otherwise(
    replayed: &Replayed,
    harmless: &Harmless,
    (index, place): (usize, usize),
    story: &Story,
    step: Option<&StoryStep>,
) -> String {
    let (was, is) = (&replayed.steps[index].came, &harmless.taken[place].came);
    let names = &story.names;
    let node = name(story.steps[index].node);
    let new = is.facts.iter().filter(|fact| !was.facts.contains(fact)).map(|fact| in_words(fact, names));
    // What is done in another way is told as it is done.
    let kind = std::mem::discriminant::<Fact>;
    let otherwise = |fact: &&Fact| {
        is.facts.contains(fact)
            || is.facts.iter().any(|other| !was.facts.contains(other) && kind(other) == kind(fact))
    };
    let missing = was.facts.iter().filter(|fact| !otherwise(fact)).map(|fact| not_done(fact, names));
    let missing =
        missing.chain(was.accepted.iter().filter(|accepted| !is.accepted.contains(accepted)).map(
            |accepted| format!("does not accept the result {} yet", crate::words::text(&accepted.result)),
        ));
    let mut parts: Vec<String> = missing.chain(new).collect();
    if parts.is_empty() {
        let sent: Vec<String> = is.sent.iter().map(|message| in_short(message, names)).collect();
        parts.push(match sent.is_empty() {
            true => "sends nothing".into(),
            false => format!("sends {}", sent.join(", ")),
        });
    }
    let votes = step.into_iter().flat_map(|step| &step.tallies).filter(|tally| !tally.is_complete());
    let votes: String = votes.map(|tally| format!(" ({})", tally.in_words())).collect();
    format!("{node} {}{votes}", parts.join(" and "))
}

/// Why a step cannot happen: what the sender says instead.
fn cannot(replayed: &Replayed, harmless: &Harmless, index: usize, story: &Story) -> String {
    let step = &replayed.steps[index].step;
    let Some(message) = step.what.message() else {
        return format!("{} has no reason to time out", name(step.node));
    };
    let Some(signer) = message.signer() else {
        return "nobody has sent this message".into();
    };
    let who = name(signer);
    let was_byzantine = story.is_byzantine(signer);
    let is_byzantine = matches!(signer, pbft::types::Principal::Replica(r)
        if harmless.executor.config().byzantine.contains(&r));
    if was_byzantine && !is_byzantine {
        return format!("{who} is correct then, and does not say this");
    }
    let same_kind = |other: &&Message<_>| {
        let about = |message: &Message<_>| match message {
            Message::ViewChange(m) => Some((m.content.view.0, 0)),
            Message::NewView(m) => Some((m.content.view.0, 0)),
            Message::Checkpoint(m) => Some((0, m.content.n.0)),
            _ => message.slot().map(|(view, n, _)| (view.0, n.0)),
        };
        other.signer() == Some(signer) && other.name() == message.name() && about(other) == about(message)
    };
    let sent = harmless.executor.sent(&harmless.end);
    match sent.into_iter().find(same_kind) {
        Some(instead) => format!("{who} says {} instead", in_short(instead, &story.names)),
        None => format!("{who} has not sent this, because of what happened before"),
    }
}

/// How the schedule ends with the safeguard.
pub(super) fn ending(story: &Story, harmless: &Harmless) -> Option<String> {
    let first = story.first_difference().and_then(|step| Some((step.number, &step.safely.as_ref()?.why)));
    let first = first.map(|(number, why)| format!("Step {number} is the first that differs: {why}."));
    if let Some(then) = &story.then {
        return Some(format!("{} {}", first.unwrap_or_default(), then.with_rule).trim_start().into());
    }
    let end = match &harmless.violation {
        Some(violation) => format!("All the same {violation}."),
        None => "Nothing is violated.".into(),
    };
    first.map(|first| format!("{first} {end}"))
}
