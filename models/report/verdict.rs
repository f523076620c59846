//! What an exploration shows, and what that rests on.

use super::Explore;
use crate::lazy::Conditions;
use crate::lazy::theorem::is_shown;
use crate::world::WorldConfig;
use serde::Serialize;

/// What an exploration shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every reachable state was visited, or states that are shown to simulate them all ([`RestsOn`]);
    /// everything that the bounds call for happens in some
    /// ([`Witnesses::missing`](crate::world::Witnesses::missing)), and no property is violated in any.
    Holds,
    /// The same of a reduced exploration, but that the reduction loses nothing rests on conditions, which do
    /// not imply it. No violation was found, and no more is claimed.
    Searched,
    /// A property is violated.
    Violated,
    /// Nothing is claimed.
    Unknown,
    /// A hunt found no violation. Nothing is claimed, nor was it to be: not even where a hunt comes to an
    /// end.
    Hunted,
}

/// What a verdict rests on, besides that every state of the exploration was visited.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RestsOn {
    /// Every delivery by itself: on nothing else.
    Exhausted,
    /// The reduced exploration simulates every execution: shown for this very world, in this run
    /// ([`crate::lazy`]).
    Simulation,
    /// Conditions that catch many mistakes in a reduction and do not imply that it loses nothing.
    Conditions,
}

impl RestsOn {
    pub(super) fn of(config: &WorldConfig, how: Explore, conditions: Option<&Conditions>) -> Self {
        let is_simulated = |of: &Conditions| is_shown(config, of);
        match how {
            Explore::None => RestsOn::Exhausted,
            Explore::Lazy if conditions.is_some_and(is_simulated) => RestsOn::Simulation,
            Explore::Lazy | Explore::Layered => RestsOn::Conditions,
        }
    }

    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            RestsOn::Exhausted => "exhausted",
            RestsOn::Simulation => "simulated",
            RestsOn::Conditions => "conditions",
        }
    }

    /// What that means.
    pub fn in_words(self) -> &'static str {
        match self {
            RestsOn::Exhausted => "Every reachable state was visited.",
            RestsOn::Simulation => {
                "Every state of the reduced exploration was visited, and it was shown to simulate every execution: single deliveries of what the modelled adversary makes, time-outs and crashes."
            }
            RestsOn::Conditions => {
                "Every state of the reduced exploration was visited, and no violation found. That the reduction loses \
                 nothing is tested by its conditions, which do not imply it: no more is claimed."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Crashes;
    use pbft::types::{Cluster, View};

    #[test]
    fn a_world_is_simulated_only_if_something_of_each_condition_was_checked() {
        let config = WorldConfig { max_view: View(1), ..WorldConfig::new(Cluster::new(4, 1), 1) };
        let config = WorldConfig { crashes: Some(Crashes::default()), ..config };
        let needed = [
            ["services", "frame", "any V"],
            ["resending", "restarting", "simulation"],
            ["contract", "binding", "carried"],
        ];
        let counts = needed.as_flattened().iter().map(|&name| (name, (1, 0)));
        let all = Conditions { counts: counts.collect(), ..Conditions::default() };
        assert_eq!(RestsOn::of(&config, Explore::Lazy, Some(&all)), RestsOn::Simulation);
        for name in needed.as_flattened() {
            for counted in [None, Some((0, 0))] {
                let mut less = all.clone();
                less.counts.remove(name);
                less.counts.extend(counted.map(|counted| (*name, counted)));
                assert_eq!(RestsOn::of(&config, Explore::Lazy, Some(&less)), RestsOn::Conditions, "{name}");
            }
        }
    }
}
