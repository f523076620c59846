//! Networks that lose, double and delay datagrams, and hosts that restart.

use super::super::limits::MAX_SESSIONS;
use super::*;
use proptest::prelude::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Say {
        from: usize,
        bytes: usize,
    },
    /// Both at once.
    Both,
    Wait(u64),
    Restart(usize),
    /// The client has a new address.
    Move,
    Faults([u32; 3]),
    /// Something that was sent is sent once more, perhaps from elsewhere.
    Replay {
        number: usize,
        spoofed: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2usize, 0..1500usize).prop_map(|(from, bytes)| Step::Say { from, bytes }),
        2 => Just(Step::Both),
        6 => (1..800u64).prop_map(Step::Wait),
        1 => (1..30_000u64).prop_map(Step::Wait),
        1 => (0..2usize).prop_map(Step::Restart),
        1 => Just(Step::Move),
        1 => [0..60u32, 0..40u32, 0..60u32].prop_map(Step::Faults),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(number, spoofed)| Step::Replay { number, spoofed }),
    ]
}

/// Speaks, so that what arrives can be told from everything else.
fn speak(net: &mut Net, sent: &mut BTreeSet<(usize, Vec<u8>)>, from: usize, bytes: usize) {
    let mut payload = vec![u8::try_from(from).unwrap()];
    payload.extend_from_slice(&(sent.len() as u64).to_le_bytes());
    payload.resize(9 + bytes, 0x33);
    net.say(from, u32::try_from(1 - from).unwrap(), &payload);
    sent.insert((from, payload));
}

fn check(
    net: &mut Net,
    sent: &BTreeSet<(usize, Vec<u8>)>,
    got: &mut BTreeSet<(usize, Vec<u8>)>,
) -> Result<[usize; 2], TestCaseError> {
    let mut counts = [0; 2];
    for (host, count) in counts.iter_mut().enumerate() {
        prop_assert!(net.links(host, u32::try_from(1 - host).unwrap()) <= MAX_SESSIONS);
        for (peer, payload) in net.take(host) {
            prop_assert_eq!(peer, Peer(u32::try_from(1 - host).unwrap()));
            prop_assert!(sent.contains(&(1 - host, payload.clone())), "what nobody sent");
            prop_assert!(got.insert((1 - host, payload)), "twice");
            *count += 1;
        }
    }
    Ok(counts)
}

proptest! {
    /// Two hosts, the first of them a client that moves. Whatever has happened, ten seconds after the network
    /// has healed each hears the other again, every payload arrives at most once, and under the right name.
    #[test]
    fn both_ends_come_together_again(
        seed in 0..1_000_000u64,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let limits = Limits { rekey_after: Duration::from_secs(8), ..Limits::default() };
        let mut net = Net::new(vec![vec![fixed(1)], vec![roaming(0)]], limits, seed);
        let (mut sent, mut got) = (BTreeSet::new(), BTreeSet::new());
        for step in steps {
            match step {
                Step::Say { from, bytes } => speak(&mut net, &mut sent, from, bytes),
                Step::Both => (0..2).for_each(|from| speak(&mut net, &mut sent, from, 10)),
                Step::Wait(time) => net.run(ms(time)),
                Step::Restart(host) => net.restart(host),
                Step::Move => net.hosts[0].address = SocketAddr::from(([192, 0, 2, 7], net.rng.random())),
                Step::Faults(faults) => net.faults = faults,
                Step::Replay { number, spoofed } if !net.tapped.is_empty() => {
                    let mut flight = net.tapped[number % net.tapped.len()].clone();
                    if spoofed {
                        flight.from = "198.51.100.1:1".parse().unwrap();
                    }
                    net.deliver(&flight);
                }
                Step::Replay { .. } => {}
            }
            check(&mut net, &sent, &mut got)?;
        }
        net.faults = [0; 3];
        let healed = net.now;
        let mut heard = [0; 2];
        while heard.contains(&0) {
            prop_assert!(net.now < healed + ms(10_000), "heard {heard:?}");
            (0..2).for_each(|from| speak(&mut net, &mut sent, from, 200));
            net.run(ms(100));
            // What was under way before does not count.
            let counts = check(&mut net, &sent, &mut got)?;
            if net.now > healed + ms(1000) {
                (0..2).for_each(|host| heard[host] += counts[host]);
            }
        }
        // And it lasts: a second later nothing is lost any more.
        net.run(ms(1500));
        check(&mut net, &sent, &mut got)?;
        for _ in 0..20 {
            (0..2).for_each(|from| speak(&mut net, &mut sent, from, 10));
            net.run(ms(50));
        }
        net.run(ms(100));
        let counts = check(&mut net, &sent, &mut got)?;
        prop_assert_eq!(counts, [20, 20]);
    }
}

/// Ten hosts that all begin at once.
#[test]
fn a_whole_cluster_starts_at_once() {
    let tables = (0..10).map(|own| (0..10).filter(|&host| host != own).map(fixed).collect()).collect();
    let mut net = Net::new(tables, Limits::default(), 3);
    net.faults = [10, 10, 10];
    for round in 0..10u8 {
        for from in 0..10 {
            for to in (0..10).filter(|&to| to as usize != from) {
                net.say(from, to, &[round]);
            }
        }
        net.run(ms(200));
    }
    net.faults = [0; 3];
    net.run(ms(2000));
    for host in 0..10 {
        net.take(host);
    }
    for from in 0..10 {
        for to in (0..10).filter(|&to| to as usize != from) {
            net.say(from, to, b"all here?");
        }
    }
    net.run(ms(100));
    for host in 0..10 {
        assert_eq!(net.take(host).len(), 9);
        assert_eq!(net.pending(host), 0);
    }
}
