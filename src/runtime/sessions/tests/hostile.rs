//! Bytes of strangers: any, altered, replayed, and a great many.

use super::*;
use proptest::prelude::*;

/// The sessions of one peer, how much was sealed in each, and where the peer is.
type Standing = (Peer, Vec<(u32, u64)>, Option<SocketAddr>);

/// What must not change by what strangers send: the sessions, who has them, and how far they are.
fn standing(host: &Host) -> Vec<Standing> {
    let mut tables = lock(&host.sessions.tables);
    let peers = tables.peers.iter_mut();
    peers
        .map(|(&peer, state)| {
            let links = state.links.iter().map(|link| (link.session.local, link.session.sealed()));
            (peer, links.collect(), state.path.spend(0))
        })
        .collect()
}

/// The states in which the pair may be, by how far a handshake has come.
fn pair_after(messages: usize) -> Net {
    let mut net = Net::pair(Limits::default());
    net.say(0, 1, b"hello");
    for _ in 0..messages {
        if let Some((_, flight)) = net.flying.pop_first() {
            net.deliver(&flight);
        }
    }
    net
}

/// A datagram that strangers may send: like the real ones, or not at all.
fn strange(net: &Net, kind: u8, choice: usize, at: usize, flip: u8, junk: &[u8]) -> Vec<u8> {
    let mut bytes = net.tapped[choice % net.tapped.len()].bytes.clone();
    match kind {
        0 => junk.to_vec(),
        1 => {
            let at = at % bytes.len();
            bytes[at] ^= flip.max(1);
            bytes
        }
        2 => {
            bytes.truncate(at % (bytes.len() + 1));
            bytes
        }
        3 => [&bytes[..], junk].concat(),
        // A header that fits, and junk behind it.
        _ => {
            let kept = bytes.len().min(13);
            bytes[kept..].iter_mut().zip(junk.iter().cycle()).for_each(|(byte, &junk)| *byte = junk);
            bytes[0] = 0x11 + u8::try_from(at % 4).unwrap();
            bytes
        }
    }
}

proptest! {
    /// In every state of both ends: no panic, no answer longer than the question or to anybody else, and no
    /// session changes. Afterwards what was under way still arrives.
    #[test]
    fn strangers_change_nothing_and_get_no_more_than_they_give(
        messages in 0..8usize,
        tries in prop::collection::vec(
            (0..5u8, any::<usize>(), any::<usize>(), any::<u8>(), prop::collection::vec(any::<u8>(), 1..150)),
            1..20,
        ),
    ) {
        let mut net = pair_after(messages);
        let from: SocketAddr = "198.51.100.1:1".parse().unwrap();
        let real = net.tapped.len();
        for (kind, choice, at, flip, junk) in tries {
            net.tapped.truncate(real);
            let bytes = strange(&net, kind, choice, at, flip, &junk);
            if net.tapped.iter().any(|flight| flight.bytes == bytes) {
                continue;
            }
            let question = bytes.starts_with(&[0x11]);
            for host in 0..2 {
                let before = standing(&net.hosts[host]);
                let (mut plaintext, mut send) = (Vec::new(), Vec::new());
                let received = net.hosts[host].sessions
                    .receive(from, &bytes, net.now, &mut plaintext, &mut send);
                let answered: usize = send.iter().map(|(_, bytes)| bytes.len()).sum();
                // A first message with another cookie field is still its owner's question.
                prop_assert!(question || matches!(received, Received::Dropped(_)), "{received:?}");
                prop_assert!(answered < bytes.len().max(1), "{answered} for {}", bytes.len());
                prop_assert!(send.iter().all(|&(to, _)| to == from));
                prop_assert_eq!(&plaintext, b"");
                prop_assert_eq!(before, standing(&net.hosts[host]));
            }
        }
        net.run(ms(1000));
        prop_assert!(net.take(1).contains(&(Peer(0), b"hello".to_vec())) || messages >= 4);
        net.say(1, 0, b"back");
        net.run(ms(100));
        prop_assert_eq!(net.take(0), [(Peer(1), b"back".to_vec())]);
    }
}

/// A million first messages, each from another address: well-formed with unknown keys or replayed. Memory
/// stays within the stated bound, and a configured host gets its session meanwhile.
#[test]
fn a_flood_of_first_messages_takes_bounded_memory() {
    const FLOOD: u32 = 1_000_000;
    let mut net = Net::pair(Limits::default());
    // Questions of host 0 that may be replayed, and those of a stranger: both cost all the work.
    let mut questions = Vec::new();
    for seed in 0..200 {
        let own = if seed % 2 == 0 { 0 } else { 5 };
        let host = sessions(own, &[fixed(1)], Limits::default(), 7000 + seed);
        let mut first = Vec::new();
        assert_eq!(host.seal(Peer(1), b"", ms(0), &mut first), Sealed::Asked(address(1)));
        questions.push(first);
    }
    let victim = &net.hosts[1].sessions;
    let mut counts = BTreeMap::<Received, u32>::new();
    let (mut asked, mut answered, mut most) = (0, 0, 0);
    let info = allocation_counter::measure(|| {
        let (mut plaintext, mut send) = (Vec::new(), Vec::new());
        for number in 0..FLOOD {
            let mut question = questions[number as usize % questions.len()].clone();
            // Most are questions never asked before: the ephemeral key is random, the rest does not fit it.
            if number % 3 != 0 {
                question[5..9].copy_from_slice(&number.to_le_bytes());
            }
            let from = SocketAddr::from(((0x0b00_0000 + number).to_be_bytes(), 7));
            let now = Duration::from_micros(10 * u64::from(number));
            let received = victim.receive(from, &question, now, &mut plaintext, &mut send);
            *counts.entry(received).or_default() += 1;
            asked += question.len();
            answered += send.drain(..).map(|(_, bytes)| bytes.len()).sum::<usize>();
            most = most.max(victim.memory());
        }
    });
    let bound = victim.memory_bound();
    println!("{counts:?}\nmost {most}, bound {bound}, allocated at most {}", info.bytes_max);
    assert!(most <= bound && info.bytes_max <= bound as u64);
    assert!(answered < asked / 2);
    let judged: u32 = [Received::Dropped(Why::UnknownKey), Received::Dropped(Why::BadHandshake)]
        .iter()
        .map(|received| counts.get(received).copied().unwrap_or(0))
        .sum();
    assert!(counts[&Received::Dropped(Why::UnknownKey)] > 0);
    // Ten seconds at 64 a second and the burst of 128; beyond that, a hash each.
    assert!(judged <= 64 * 10 + 128, "{judged}");
    net.now = ms(10_000);
    net.say(0, 1, b"in spite of it");
    net.run(ms(100));
    assert_eq!(net.take(1), [(Peer(0), b"in spite of it".to_vec())]);
}

/// Everything full: pending sessions, sessions, queues. What is allocated is what `memory` says or less.
#[test]
fn the_figures_of_memory_are_above_what_is_allocated() {
    let limits = Limits {
        unproven: Rate { per_second: 1, burst: 2000 },
        source: Rate { per_second: 1, burst: 2000 },
        ..Limits::default()
    };
    let entries: Vec<PeerEntry> = (1..60).map(fixed).collect();
    let mut first = Vec::new();
    let questions: Vec<Vec<u8>> = (0..1200)
        .map(|seed| {
            let own = 1 + u32::try_from(seed % 59).unwrap();
            sessions(own, &[fixed(0)], limits, 9000 + seed).seal(Peer(0), b"", ms(0), &mut first);
            first.clone()
        })
        .collect();
    let mut host = None;
    let mut figures = Vec::new();
    let mut plaintext = Vec::with_capacity(1 << 16);
    let mut send = Vec::with_capacity(2000);
    let mut out = Vec::with_capacity(1 << 16);
    let payload = vec![0; 4000];
    let base = allocation_counter::measure(|| {
        host = Some(sessions(0, &entries, limits, 1));
    });
    let host = host.unwrap();
    figures.push((base.bytes_current, host.memory()));
    let mut total = base.bytes_current;
    let pending = allocation_counter::measure(|| {
        for question in &questions {
            host.receive(address(1), question, ms(1), &mut plaintext, &mut send);
            send.clear();
        }
    });
    total += pending.bytes_current;
    figures.push((total, host.memory()));
    assert_eq!(lock(&host.tables).pending.len(), limits.open_pending());
    let queued = allocation_counter::measure(|| {
        for peer in 1..60 {
            for _ in 0..16 {
                host.seal(Peer(peer), &payload, ms(1), &mut out);
            }
        }
    });
    total += queued.bytes_current;
    figures.push((total, host.memory()));
    println!("allocated, figure: {figures:?}; bound {}", host.memory_bound());
    for (allocated, figure) in figures {
        assert!(allocated <= i64::try_from(figure).unwrap(), "{allocated} {figure}");
        assert!(figure <= host.memory_bound());
    }
}

#[test]
fn the_figures_of_the_documentation_hold() {
    let bound = |peers: u32| {
        let entries: Vec<PeerEntry> = (1..=peers).map(fixed).collect();
        sessions(0, &entries, Limits::default(), 1).memory_bound()
    };
    assert!(bound(0) < 5_900_000, "{}", bound(0));
    assert!(bound(100) - bound(0) < 100 * 8_000, "{}", bound(100) - bound(0));
}
