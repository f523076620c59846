//! What `pbft check` is expected to print for the worlds of the suites: the table of docs/WORLDS.md itself,
//! so that the page cannot drift from the runs.

use crate::engine::{Exploration, Outcome};
use crate::lazy::{Conditions, WALKS};
use crate::mutants::Rulebook;
use crate::report::Explore;
use crate::world::{Clients, WorldConfig};
use serde::Serialize;

const PAGE: &str = include_str!("../docs/WORLDS.md");

/// A row of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Expected {
    /// The name of the world.
    pub world: &'static str,
    /// How it is explored.
    pub explore: Explore,
    /// `exhausted`, `simulated` or `searched`.
    pub rests_on: &'static str,
    /// Distinct states visited.
    pub states: u64,
    /// Distinct edges between them, loops left out.
    pub transitions: u64,
    /// Checks of conditions, random walks apart: of those there are as many as are asked for.
    pub checks: u64,
    /// What was walked of local systems: cores and steps taken. None if they are not.
    pub walked: Option<(u64, u64)>,
}

/// Every row of the table, in its order.
pub fn all() -> impl Iterator<Item = Expected> {
    PAGE.lines().filter_map(row)
}

/// The row of a world, explored like this, if it has one.
pub fn of(world: &str, explore: Explore) -> Option<Expected> {
    all().find(|row| row.world == world && row.explore == explore)
}

/// A line of the page, if it is a row of that table.
fn row(line: &'static str) -> Option<Expected> {
    let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
    let (world, explore, rests_on) = (cells.next()?, Explore::named(cells.next()?)?, cells.next()?);
    let mut number = || number(cells.next()?);
    let (states, transitions, checks) = (number()?, number()?, number()?);
    let walked = cells.next()?.split_once("; ");
    let walked = walked.and_then(|(cores, steps)| Some((self::number(cores)?, self::number(steps)?)));
    Some(Expected { world, explore, rests_on, states, transitions, checks, walked })
}

fn number(cell: &str) -> Option<u64> {
    cell.replace(',', "").parse().ok()
}

/// The row of a world if an exhausted exploration by the paper's rules found something else, or if what was checked of
/// it is not as much. (Where something fails or is stopped, less may be checked.)
pub(crate) fn other_than(
    config: &WorldConfig,
    how: Explore,
    found: &Exploration,
    conditions: &Conditions,
) -> Option<Expected> {
    let is_whole = found.outcome == Outcome::Exhausted && config.rules == Rulebook::default();
    let row = of(&config.name(), how)
        .filter(|_| is_whole && (config.clients == Clients::Implicit || config.application.is_some()))?;
    let is_checked = conditions.checked() > 0 && conditions.failed() == 0 && conditions.stopped.is_none();
    let walked = conditions.walked.map(|walked| (walked.cores, walked.steps_taken));
    let walks = conditions.counts.get(WALKS).map_or(0, |&(walks, _)| walks);
    let same = (row.states, row.transitions) == (found.states, found.transitions)
        && (!is_checked || (row.checks, row.walked) == (conditions.checked() - walks, walked));
    (!same).then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{self, Options, Verdict};
    use crate::suite::{self, Suite};
    use std::collections::BTreeSet;

    #[test]
    fn every_world_of_the_full_suite_has_one_row_and_others_are_of_the_night() {
        let of = |most: Suite| -> BTreeSet<(String, Explore)> {
            let all = suite::all().into_iter().filter(|entry| entry.suite <= most && entry.hunt.is_none());
            all.map(|entry| (entry.config.name(), entry.explore)).collect()
        };
        let rows: Vec<(String, Explore)> = all().map(|row| (row.world.to_string(), row.explore)).collect();
        let known: BTreeSet<(String, Explore)> = rows.iter().cloned().collect();
        let missing: Vec<_> = of(Suite::Full).difference(&known).cloned().collect();
        assert_eq!(missing, [], "`pbft check --suite full --markdown` prints the rows");
        let strange: Vec<_> = known.difference(&of(Suite::Night)).cloned().collect();
        assert_eq!(strange, [], "no suite has these worlds");
        assert_eq!(rows.len(), known.len(), "a row is there twice");
        assert!(rows.len() > 100);
    }

    /// Small worlds of every kind, held to the page as `pbft check` holds them: a check that is left out shows.
    #[test]
    fn what_is_explored_checked_and_walked_is_what_the_page_says() {
        let is_small = |row: &&Expected| row.checks < 25_000 && row.states < 20_000;
        let rows: Vec<Expected> = all().collect();
        let smallest = |of: &str| {
            let walked = rows.iter().filter(|row| row.world.contains(of) && row.walked.is_some());
            walked.min_by_key(|row| row.checks)
        };
        let more = [smallest("-a"), smallest("-v1")].into_iter().flatten();
        let entries = suite::all();
        let (mut walked, mut worlds) = (0, 0);
        for row in rows.iter().filter(is_small).chain(more) {
            let is_it =
                |entry: &&suite::Entry| entry.config.name() == row.world && entry.explore == row.explore;
            let entry = entries.iter().find(is_it).expect("it is in a suite");
            let options = Options { walks: 3, ..Options::default() };
            let report = report::run(entry.config.clone(), entry.explore, &options, &mut |_| true).unwrap();
            assert_eq!(report.expected, None, "{}: {report:?}", row.world);
            assert_eq!(
                report.verdict,
                if row.rests_on == "searched" { Verdict::Searched } else { Verdict::Holds }
            );
            (walked, worlds) = (walked + usize::from(report.walked.is_some()), worlds + 1);
        }
        assert!(walked > 10 && worlds > walked + 3, "{walked} of {worlds}");
    }

    #[test]
    fn rows_say_what_they_rest_on() {
        for row in all() {
            let fits = match row.explore {
                Explore::None => row.rests_on == "exhausted",
                Explore::Lazy => ["simulated", "searched"].contains(&row.rests_on),
                Explore::Layered => row.rests_on == "searched",
            };
            assert!(fits && row.states > 0 && row.transitions > 0, "{row:?}");
        }
    }
}
