//! A property is claimed for a world only if a mistake violates it there: the claims that take no time are
//! verified.

use pbft_models::falsifiable::{Shown, of, violate};
use pbft_models::mutants::Mutant;
use pbft_models::report::{Explore, Options};
use pbft_models::suite::{self, Entry};

/// Whether a rule switched off takes milliseconds in this world: `pbft falsify` verifies the others.
fn is_cheap(entry: &Entry) -> bool {
    let config = &entry.config;
    let small = config.cluster.n() <= 4 && config.max_seq.0 == 1 && config.max_batch == 1;
    small
        && match entry.explore {
            Explore::None => false,
            Explore::Lazy => config.max_view.0 == 0,
            Explore::Layered => config.max_view.0 <= 1,
        }
}

#[test]
fn what_is_claimed_of_the_cheap_worlds_can_fail_in_them() {
    let mut verified = 0;
    for entry in suite::all().iter().filter(|entry| is_cheap(entry)) {
        let Some(claim) = of(&entry.config, entry.explore) else { continue };
        for (property, shown) in claim.shown {
            let Shown::Without(mutant) = shown else { continue };
            let tried =
                violate(&entry.config, entry.explore, mutant, property, &Options::default(), &mut || true);
            let steps = tried.expect("the bounds make sense").steps;
            assert!(steps.is_ok(), "{} {property} {shown}: {steps:?}", claim.world);
            verified += 1;
        }
    }
    assert!(verified > 60, "{verified}");
}

#[test]
fn a_rule_that_a_property_does_not_need_does_not_violate_it() {
    // Without the client's signature checked what no client asked for is executed, but by all alike.
    let entries = suite::all();
    let entry =
        entries.iter().find(|e| e.config.name() == "n4f1-byz0-v0k1r1b1" && e.explore == Explore::Lazy);
    let config = &entry.expect("the world is part of the suites").config;
    let tried = |property| {
        let (without, options) = (Mutant::ForgedRequest, Options::default());
        violate(config, Explore::Lazy, without, property, &options, &mut || true)
            .expect("it makes sense")
            .steps
    };
    assert!(tried("validity").is_ok());
    assert_eq!(tried("prepared-uniqueness"), Err("it is violated nowhere"));
}
