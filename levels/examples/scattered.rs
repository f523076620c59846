//! As many states as you like, scattered over 2^36 places, so that nothing about their order helps:
//!
//!     cargo run --release -p pbft-levels --example scattered -- 100000000 2 [DIRECTORY]
//!
//! prints how long the search takes and how many bytes a state.

use pbft_levels::{Directory, Judgement, Limits, Outcome, Space, Successors, Unlearnt, explore_in};
use std::path::PathBuf;

/// Bits of each of three words.
const BITS: u32 = 12;
const ALL: u64 = (1 << (3 * BITS)) - 1;

/// The numbers from 1 to a highest one: from each to its double, to the next after that, and to its third.
struct Scattered {
    highest: u64,
}

/// Where a number lies: multiplied by an odd number and folded, so that two never fall together.
fn place(number: u64) -> [u32; 3] {
    let mixed = number.wrapping_mul(0x9_e377_9b97) & ALL;
    let mixed = (mixed ^ mixed >> 19).wrapping_mul(0x5_bd1e_995d) & ALL;
    let word = |of: u32| u32::try_from(mixed >> (of * BITS) & ((1 << BITS) - 1)).expect("twelve bits");
    [word(2), word(1), word(0)]
}

/// The number that lies there.
fn number(place: &[u32]) -> u64 {
    let mixed = place.iter().fold(0, |all, &word| all << BITS | u64::from(word));
    let mixed = mixed.wrapping_mul(inverse(0x5_bd1e_995d)) & ALL;
    (mixed ^ mixed >> 19).wrapping_mul(inverse(0x9_e377_9b97)) & ALL
}

/// What undoes a multiplication by an odd number.
const fn inverse(odd: u64) -> u64 {
    let (mut inverse, mut step) = (odd, 0);
    while step < 5 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

impl Space for Scattered {
    type Scratch = ();

    fn width(&self) -> usize {
        3
    }

    fn initial(&mut self) -> Vec<Vec<u32>> {
        vec![place(1).to_vec()]
    }

    fn expand(
        &self,
        _: usize,
        state: &[u32],
        (): &mut (),
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        let number = number(state);
        let next = [2 * number, 2 * number + 1, number / 3];
        next.into_iter().filter(|&to| to > 0 && to <= self.highest).for_each(|to| successors(&place(to)));
        Ok(Judgement::Sound)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parse = |at: usize| arguments.get(at).and_then(|text| text.parse().ok());
    let (Some(highest), Some(threads)) = (parse(0), parse(1)) else {
        eprintln!("give the number of states, that of threads, and perhaps a directory");
        std::process::exit(2);
    };
    for sample in [1, 2, 12_345, highest] {
        assert_eq!(number(&place(sample)), sample);
    }
    let directory = arguments.get(2).map(|path| Directory {
        path: PathBuf::from(path),
        identity: format!("{highest} numbers, scattered"),
        resume: true,
    });
    let limits = Limits { threads: usize::try_from(threads).expect("few threads"), ..Limits::default() };
    let mut space = Scattered { highest };
    let found = explore_in(&mut space, limits, directory.as_ref(), &mut |now| {
        eprintln!("level {}: {} states, {:.0} s", now.depth, now.states, now.elapsed.as_secs_f64());
        true
    });
    match found {
        Err(trouble) => eprintln!("{trouble}"),
        Ok(found) => {
            assert_eq!((&found.outcome, found.states), (&Outcome::Exhausted, highest));
            let seconds = found.elapsed.as_secs_f64();
            println!(
                "{} states, {} transitions, {:.2} bytes a state, {seconds:.1} s, {:.0} transitions a second",
                found.states,
                found.transitions,
                found.state_bytes as f64 / found.states as f64,
                found.transitions as f64 / seconds
            );
        }
    }
}
