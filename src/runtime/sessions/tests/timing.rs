//! How long it takes. Run with `cargo test --release -p pbft --lib sessions::tests::timing -- --ignored
//! --nocapture`.

use super::*;
use std::time::Instant;

/// Microseconds for each of `count` calls.
fn microseconds(count: u32, mut act: impl FnMut(u32)) -> f64 {
    let start = Instant::now();
    (0..count).for_each(&mut act);
    start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

#[test]
#[ignore = "measures"]
fn seal_and_open() {
    let net = Net::connected(Limits::default());
    let (from, to) = (&net.hosts[0].sessions, &net.hosts[1].sessions);
    let (mut out, mut plaintext, mut send) = (Vec::new(), Vec::new(), Vec::new());
    for bytes in [100, 1200] {
        let payload = vec![7; bytes];
        let each = microseconds(100_000, |_| {
            from.seal(Peer(1), &payload, net.now, &mut out);
            to.receive(address(0), &out, net.now, &mut plaintext, &mut send);
            assert_eq!(plaintext.len(), bytes);
        });
        println!("seal and open {bytes} bytes: {each:.2} us");
    }
}

#[test]
#[ignore = "measures"]
fn handshake_and_cookie() {
    let limits = Limits {
        unproven: Rate { per_second: 1_000_000, burst: 1_000_000 },
        source: Rate { per_second: 1_000_000, burst: 1_000_000 },
        pending: 1_000_000,
        ..Limits::default()
    };
    let (mut out, mut plaintext, mut send) = (Vec::new(), Vec::new(), Vec::new());
    let mut questions = Vec::new();
    let ask = microseconds(300, |seed| {
        sessions(0, &[fixed(1)], limits, u64::from(seed)).seal(Peer(1), b"", ms(0), &mut out);
        questions.push(out.clone());
    });
    println!("first message, with the table: {ask:.0} us");
    for (name, limits) in
        [("answer", limits), ("cookie", Limits { unproven: Rate { per_second: 1, burst: 0 }, ..limits })]
    {
        let host = sessions(1, &[fixed(0)], limits, 1);
        let each = microseconds(300, |number| {
            host.receive(address(0), &questions[number as usize], ms(1), &mut plaintext, &mut send);
        });
        println!("{name}: {each:.2} us");
    }
}
