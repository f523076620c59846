//! What the Byzantine replicas do in a run.

use serde::{Deserialize, Serialize};

/// What the Byzantine replicas do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Nothing.
    Silent,
    /// What a correct replica does that has just been initialized, but that it proposes nothing and begins no
    /// view when it is the primary: others wait for it as long as they can be made to.
    Stalls,
    /// The same, and it leaves each view as soon as it hears of it.
    Leaves,
    /// They keep what was sent before the loss. Everything that was available in the state, and everything
    /// that follows from what is sent and from their keys, arrives before anything else: at once, and whenever
    /// a correct replica leaves a view or enters one. It arrives at every second correct replica in the other
    /// order, and clients get every reply that they can make.
    Derives,
    /// The same without votes in the normal case: they mislead, and help nothing through.
    Misleads,
}

impl Strategy {
    /// Whether they keep what was sent, and make something of it.
    pub(super) fn derives(self) -> bool {
        matches!(self, Strategy::Derives | Strategy::Misleads)
    }

    /// What it is that one of them does, for a sentence that begins with its name.
    pub fn in_words(self) -> &'static str {
        match self {
            Strategy::Silent => "says nothing",
            Strategy::Stalls => {
                "does what a correct replica does that has just been initialized, but proposes nothing and begins no view"
            }
            Strategy::Leaves => {
                "does what a correct replica does that has just been initialized, but proposes nothing, begins no view, and \
                 leaves each view as soon as it hears of it"
            }
            Strategy::Derives => {
                "sends everything that it can make of what was sent and of its keys, and all of that arrives first"
            }
            Strategy::Misleads => {
                "sends everything that it can make of what was sent and of its keys, but for votes in the normal case, and all of \
                 that arrives first"
            }
        }
    }

    /// Those that keep nothing: their runs take a tenth of the time of the others.
    pub const FORGETFUL: &'static [Strategy] = &[Strategy::Silent, Strategy::Stalls, Strategy::Leaves];

    /// Every strategy, in their order.
    pub const ALL: &'static [Strategy] =
        &[Strategy::Silent, Strategy::Stalls, Strategy::Leaves, Strategy::Derives, Strategy::Misleads];
}
