//! The rounds, in order.

use pbft::replica::Subject;
use pbft::types::View;

/// What happens in a round of a view.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// Timers fire: replicas leave for the view.
    Leave,
    /// The new primary collects VIEW-CHANGEs and sends NEW-VIEW.
    Assemble,
    /// The primary hears of requests and sends PRE-PREPAREs.
    Order,
    /// NEW-VIEW, PRE-PREPAREs and the batches they name arrive.
    Propose,
    /// PREPAREs arrive.
    Prepare,
    /// COMMITs arrive.
    Commit,
}

/// A round.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Round {
    /// The view.
    pub view: View,
    /// The phase.
    pub phase: Phase,
}

/// The rounds of a world with views up to `max_view`.
pub fn rounds(max_view: View) -> Vec<Round> {
    let phases = |view: View| {
        let first: &[Phase] = if view.0 == 0 { &[] } else { &[Phase::Leave, Phase::Assemble] };
        let phases = first.iter().chain(&[Phase::Order, Phase::Propose, Phase::Prepare, Phase::Commit]);
        phases.map(move |&phase| Round { view, phase }).collect::<Vec<_>>()
    };
    (0..=max_view.0).map(View).flat_map(phases).collect()
}

/// The round in which messages about `subject` arrive; none for batches, which arrive whenever a view is
/// proposed to, for requests, which a primary can use in every view, and for what has no round.
pub fn round_of(subject: Subject) -> Option<Round> {
    let (view, phase) = match subject {
        Subject::ViewChange(view) => (view, Phase::Assemble),
        Subject::NewView(view) | Subject::PrePrepare(view, _) => (view, Phase::Propose),
        Subject::Prepare(view, _) => (view, Phase::Prepare),
        Subject::Commit(view, _) => (view, Phase::Commit),
        Subject::Batch | Subject::Block | Subject::Checkpoint(_) | Subject::Stable(_) => return None,
        Subject::Request(..) | Subject::Read(..) | Subject::Reply(..) => return None,
    };
    Some(Round { view, phase })
}
