//! The command line.
use pbft_models::simulation::*;
fn main() {
    let a: Vec<u64> = std::env::args().skip(1).map(|x| x.parse().unwrap_or(0)).collect();
    let mut fails = 0;
    for seed in a[0]..a[1] {
        let (n, f) = if seed % 3 == 2 { (7, 2) } else { (4, 1) };
        let mut c = Config::hostile(seed, n, f);
        c.trace = a.len() > 4;
        let r = if a[2] == 0 {
            run::<pbft_models::crypto::Symbolic, _>(&c, pbft::rules::Pbft)
        } else {
            run::<pbft::crypto::ed25519::Ed25519, _>(&c, pbft::rules::Pbft)
        };
        match r {
            Ok(r) => {
                if a.len() > 3 {
                    println!("{seed} {r:?}")
                }
            }
            Err(e) => {
                fails += 1;
                println!("{seed} n={n} byz={} FAIL {e}", c.byzantine);
            }
        }
    }
    println!("fails {fails}");
}
