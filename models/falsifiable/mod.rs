//! Which properties can fail in which world: a claim is worth what could have contradicted it.
//!
//! "No state violates the property" says nothing in a world in which no mistake could violate it: where there
//! is no checkpoint, checkpoints agree. So for each world of the suites and each way of exploring it there is
//! a list of properties, each with a mistake that violates it in that very world: same bounds, same Byzantine
//! replicas, same exploration. A property that is not in the list is not claimed for the world.
//!
//! What happens in a world can happen in one that differs only in more views or more requests: nobody has to
//! time out, nor to hear of a request. So, where nothing is lost by the exploration ([`Explore::None`],
//! [`Explore::Lazy`]), such a world can fail in whatever way the smaller one can, however that was explored:
//! its steps are steps of real replicas.
//!
//! The list is a table, `table.txt`: worlds, and indented below them properties with their mistakes. A
//! mistake is either a rule switched off, which [`run`] verifies by exploring, or `seed:NAME`, a change of
//! the source, which is verified where such changes are tried.

mod run;

pub use run::{Tried, violate};

use crate::ledger::Ledger;
use crate::matrix::{self, Evidence};
use crate::mutants::Mutant;
use crate::report::Explore;
use crate::suite;
use crate::world::{Clients, WorldConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What shows that a property can fail.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Shown {
    /// It does without this rule.
    Without(Mutant),
    /// It does with this mistake in the source.
    Seed(&'static str),
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Without(mutant) => f.write_str(mutant.id()),
            Shown::Seed(name) => write!(f, "{SEED}{name}"),
        }
    }
}

/// What the names of seeded mistakes begin with in the table.
const SEED: &str = "seed:";

/// What can fail in a world, explored in one way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// The name of the world.
    pub world: String,
    /// How it is explored.
    pub explore: Explore,
    /// The properties, each with what shows that it can fail.
    pub shown: BTreeMap<&'static str, Shown>,
    /// The same of properties that can fail in a smaller world, with its name.
    pub inherited: BTreeMap<&'static str, (Shown, String)>,
}

impl Claim {
    /// The properties that nothing is known to violate here.
    pub fn not_shown(&self) -> Vec<&'static str> {
        let is_shown =
            |property: &&str| self.shown.contains_key(property) || self.inherited.contains_key(property);
        properties().into_iter().filter(|property| !is_shown(property)).collect()
    }

    /// The properties and what shows that they can fail, by name.
    pub fn by_name(&self) -> BTreeMap<String, String> {
        let own = self.shown.iter().map(|(property, shown)| (property.to_string(), shown.to_string()));
        let inherited = self.inherited.iter();
        inherited
            .map(|(property, (shown, world))| (property.to_string(), format!("{shown}, in {world}")))
            .chain(own)
            .collect()
    }
}

/// The names of all properties, in the order in which they are judged.
pub fn properties() -> Vec<&'static str> {
    pbft_properties::all::<Ledger>().iter().map(|property| property.name).collect()
}

/// The rules without which some world violates something, and can be explored in this way.
pub fn killing(how: Explore) -> Vec<Mutant> {
    let can = |row: &matrix::Row| how != Explore::Layered || row.rounds_end();
    let killed = |row: &matrix::Row| matches!(row.evidence, Evidence::Killed(_)) && can(row);
    matrix::rows().into_iter().filter(killed).filter_map(|row| row.mutant).collect()
}

/// Every claim.
///
/// # Panics
/// If the table is malformed.
pub fn all() -> Vec<Claim> {
    parse(include_str!("table.txt")).expect("the table is well-formed: a test reads it")
}

/// What can fail in this world; none if nothing is known of it, or if it does not run by the paper's rules.
pub fn of(config: &WorldConfig, explore: Explore) -> Option<Claim> {
    let unnamed = config.clients == Clients::Actors && config.application.is_none();
    if config.rules.without.is_some() || unnamed {
        return None;
    }
    let (name, all) = (config.name(), all());
    let is_own = |claim: &&Claim| claim.world == name && claim.explore == explore;
    let mut claim = all.iter().find(is_own).cloned().unwrap_or_else(|| Claim {
        world: name,
        explore,
        shown: BTreeMap::new(),
        inherited: BTreeMap::new(),
    });
    if explore != Explore::Layered {
        let smaller = suite::all().into_iter().filter(|entry| contains(config, &entry.config));
        let smaller: BTreeSet<String> = smaller.map(|entry| entry.config.name()).collect();
        for other in all.iter().filter(|other| smaller.contains(&other.world)) {
            for (&property, &shown) in &other.shown {
                if !claim.shown.contains_key(property) {
                    claim.inherited.entry(property).or_insert((shown, other.world.clone()));
                }
            }
        }
    }
    (!claim.shown.is_empty() || !claim.inherited.is_empty()).then_some(claim)
}

/// Whether everything that happens in a world can happen in another.
fn contains(world: &WorldConfig, smaller: &WorldConfig) -> bool {
    let WorldConfig { max_view, requests, crashes, .. } = *world;
    let grown = WorldConfig { max_view, requests, crashes, ..smaller.clone() };
    // Without a window of its own a world has as many numbers as it has. Nobody has to crash.
    let crashes = smaller.crashes.is_none() || smaller.crashes == crashes;
    grown == *world && smaller.max_view <= max_view && smaller.requests <= requests && crashes
}

/// The claims as a table: worlds that can fail alike stand together, in the order of their first ones.
pub fn table(claims: &[Claim]) -> String {
    let mut text = String::new();
    let mut told = BTreeSet::new();
    for (first, claim) in claims.iter().enumerate() {
        if !told.insert(first) {
            continue;
        }
        let alike = (first..claims.len()).filter(|&other| claims[other].shown == claim.shown);
        let mut ways: Vec<(&str, Vec<&str>)> = Vec::new();
        for other in alike {
            told.insert(other);
            let Claim { world, explore, .. } = &claims[other];
            match ways.iter_mut().find(|(name, _)| name == world) {
                Some((_, ways)) => ways.push(explore.name()),
                None => ways.push((world, vec![explore.name()])),
            }
        }
        let worlds = ways.iter().map(|(world, ways)| format!("{world} {}\n", ways.join(" ")));
        text.extend(worlds);
        let shown =
            |property: &&str| claim.shown.get(property).map(|shown| format!("    {property} {shown}\n"));
        text.extend(properties().iter().filter_map(shown));
    }
    text
}

/// The claims of a table.
fn parse(text: &'static str) -> Result<Vec<Claim>, String> {
    let mut claims: Vec<Claim> = Vec::new();
    // Where the worlds begin that the next property is about, and whether it is their first.
    let (mut begin, mut complete) = (0, true);
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if line.starts_with(' ') {
            let property = properties().into_iter().find(|&property| property == first);
            let property = property.ok_or(format!("no property is called {first}"))?;
            let shown = words.next().and_then(named).ok_or(format!("nothing shows it: {line}"))?;
            for claim in &mut claims[begin..] {
                if claim.shown.insert(property, shown).is_some() {
                    return Err(format!("{}: {property} is there twice", claim.world));
                }
            }
            complete = true;
        } else {
            if complete {
                (begin, complete) = (claims.len(), false);
            }
            for way in words {
                let explore = Explore::named(way).ok_or(format!("no exploration is called {way}"))?;
                let twice = claims.iter().any(|claim| claim.world == first && claim.explore == explore);
                if twice {
                    return Err(format!("{first} {way} is there twice"));
                }
                claims.push(Claim {
                    world: first.into(),
                    explore,
                    shown: BTreeMap::new(),
                    inherited: BTreeMap::new(),
                });
            }
        }
    }
    Ok(claims)
}

fn named(name: &'static str) -> Option<Shown> {
    match name.strip_prefix(SEED) {
        Some(seed) => Some(Shown::Seed(seed)),
        None => Mutant::named(name).map(Shown::Without),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::{self, Entry, Suite};

    const TABLE: &str = "one none lazy\ntwo lazy\n    agreement commit-quorum\n    validity seed:half-a-batch\n\
                         three layered\n    agreement commit-quorum\n";

    #[test]
    fn a_table_says_for_several_worlds_what_can_fail() {
        let claims = parse(TABLE).unwrap();
        let worlds: Vec<_> = claims.iter().map(|claim| (claim.world.as_str(), claim.explore)).collect();
        let all = [("one", Explore::None), ("one", Explore::Lazy), ("two", Explore::Lazy)];
        assert_eq!(worlds, [&all[..], &[("three", Explore::Layered)]].concat());
        for claim in &claims[..3] {
            assert_eq!(claim.shown["agreement"], Shown::Without(Mutant::CommitQuorum));
            assert_eq!(claim.shown["validity"], Shown::Seed("half-a-batch"));
            assert_eq!((claim.shown.len(), claim.not_shown().len()), (2, properties().len() - 2));
        }
        assert_eq!(claims[3].shown.len(), 1);
        assert_eq!(table(&claims), TABLE);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            "one none\n    nonsense commit-quorum\n",
            "one none\n    agreement nonsense\n",
            "one none\n    agreement\n",
            "one sideways\n",
            "one none\none none\n",
            "one none\n    agreement commit-quorum\n    agreement prepare-quorum\n",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_world_of_the_default_suite_has_a_list_and_none_that_is_not_claimed() {
        let mut known: BTreeSet<_> = all().iter().map(|claim| (claim.world.clone(), claim.explore)).collect();
        let name = |entry: &Entry| (entry.config.name(), entry.explore);
        let (default, more): (Vec<Entry>, Vec<Entry>) = suite::all()
            .into_iter()
            .filter(|entry| entry.hunt.is_none())
            .partition(|entry| entry.suite == Suite::Default);
        // Worlds with crashes fail in the ways of those without.
        let inherits =
            |entry: &&Entry| entry.config.crashes.is_some() && of(&entry.config, entry.explore).is_some();
        known.extend(default.iter().filter(inherits).map(name));
        let mut claimed: BTreeSet<_> = default.iter().map(name).collect();
        let without: Vec<_> = claimed.difference(&known).collect();
        assert_eq!(without, Vec::<&(String, Explore)>::new(), "these have none: `pbft falsify --search`");
        // Where nothing is known a report says so.
        claimed.extend(more.iter().map(name));
        let unknown: Vec<_> = known.difference(&claimed).collect();
        assert_eq!(unknown, Vec::<&(String, Explore)>::new(), "these are not claimed");
        assert!(all().iter().all(|claim| !claim.shown.is_empty()), "nothing can fail in some world");
    }

    #[test]
    fn a_world_can_fail_in_the_ways_of_one_with_fewer_views_and_requests() {
        let world = |name: &str| {
            let entry = suite::all().into_iter().find(|entry| entry.config.name() == name);
            entry.unwrap_or_else(|| panic!("{name}")).config
        };
        let (small, large) = (world("n4f1-byz0-v0k1r1b1"), world("n4f1-byz0-v2k1r2b1"));
        assert!(contains(&large, &small) && contains(&small, &small) && !contains(&small, &large));
        for other in ["n4f1-byz1-v2k1r2b1", "n4f1-byz0-v0k2r2b1", "n4f1-byz0-v0k1r2b2", "n3f1-byz0-v0k1r2b1"]
        {
            assert!(!contains(&world(other), &small), "{other}");
        }
        let claim = of(&large, Explore::Lazy).expect("much can fail there");
        assert!(claim.inherited.values().any(|(_, from)| *from == small.name()), "{claim:?}");
        assert!(claim.shown.keys().all(|property| !claim.inherited.contains_key(property)));
        // What is lost by layers is not known.
        let layered = of(&large, Explore::Layered).expect("something can fail there");
        assert!(layered.inherited.is_empty());
    }

    #[test]
    fn the_table_stands_as_it_is_written() {
        let text = include_str!("table.txt");
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n"));
        assert_eq!(table(&all()), lines.collect::<String>());
    }
}
