//! Handshakes, rekeying, restarts, queues.

use super::*;

#[test]
fn what_is_said_before_a_session_stands_arrives_once() {
    let mut net = Net::pair(Limits::default());
    assert_eq!(net.say(0, 1, b"first"), Sealed::Asked(address(1)));
    assert_eq!(net.say(0, 1, b"second"), Sealed::Queued);
    net.run(ms(20));
    assert_eq!(net.take(1), [(Peer(0), b"first".to_vec()), (Peer(0), b"second".to_vec())]);
    assert_eq!(net.say(1, 0, b"back"), Sealed::Ready(address(0)));
    net.run(ms(20));
    assert_eq!(net.take(0), [(Peer(1), b"back".to_vec())]);
    assert_eq!((net.links(0, 1), net.links(1, 0), net.pending(1)), (1, 1, 0));
    assert_eq!(net.rank(0, 1), net.rank(1, 0));
}

#[test]
fn nothing_is_readable_on_the_way_and_the_overhead_is_as_stated() {
    let mut net = Net::connected(Limits::default());
    let payload = [0x5a; 100];
    net.say(0, 1, &payload);
    let sent = net.tapped.last().unwrap();
    assert_eq!(sent.bytes.len(), payload.len() + OVERHEAD);
    assert!(net.tapped.iter().all(|flight| !flight.bytes.windows(4).any(|bytes| bytes == [0x5a; 4])));
}

#[test]
fn the_longest_payload_passes_and_a_longer_one_is_refused() {
    let mut net = Net::connected(Limits::default());
    assert_eq!(net.say(0, 1, &vec![1; MAX_PAYLOAD + 1]), Sealed::Dropped(Unsent::TooLong));
    net.say(0, 1, &vec![1; MAX_PAYLOAD]);
    net.say(0, 1, b"");
    net.run(ms(20));
    assert_eq!(net.take(1), [(Peer(0), vec![1; MAX_PAYLOAD]), (Peer(0), Vec::new())]);
    assert_eq!(net.say(0, 9, b""), Sealed::Dropped(Unsent::UnknownPeer));
}

#[test]
fn threads_seal_and_open_at_once_and_nothing_arrives_twice() {
    const THREADS: usize = 4;
    const EACH: u32 = 500;
    let net = Net::connected(Limits::default());
    let (from, to, now) = (&net.hosts[0].sessions, &net.hosts[1].sessions, net.now);
    let seal = |thread: usize| {
        let datagram = move |number: u32| {
            let (mut out, text) = (Vec::new(), [thread.to_le_bytes(), u64::from(number).to_le_bytes()]);
            assert_eq!(from.seal(Peer(1), &text.concat(), now, &mut out), Sealed::Ready(address(1)));
            out
        };
        (0..EACH).map(datagram).collect::<Vec<Vec<u8>>>()
    };
    let sealed: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || seal(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    // Every thread is given everything.
    let open = |_| {
        let (mut plaintext, mut send) = (Vec::new(), Vec::new());
        let mut open = |bytes: &Vec<u8>| {
            let received = to.receive(address(0), bytes, now, &mut plaintext, &mut send);
            (received == Received::Payload { peer: Peer(0) }).then(|| plaintext.clone())
        };
        sealed.iter().filter_map(&mut open).collect::<Vec<Vec<u8>>>()
    };
    let opened: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || open(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: BTreeSet<&Vec<u8>> = opened.iter().collect();
    assert_eq!((opened.len(), distinct.len()), (THREADS * EACH as usize, THREADS * EACH as usize));
}

#[test]
fn a_key_that_is_in_no_table_gets_no_answer() {
    // Host 2 knows host 1, which does not know it.
    let mut net = Net::new(vec![vec![fixed(1)], vec![fixed(0)], vec![fixed(1)]], Limits::default(), 1);
    net.say(2, 1, b"let me in");
    net.run(ms(5000));
    assert!(net.dropped(1, Why::UnknownKey) >= 5);
    assert_eq!((net.tapped(1, ANSWER_BYTES), net.pending(1)), (0, 0));
    assert_eq!(net.take(1), []);
}

#[test]
fn a_replayed_datagram_is_dropped_whoever_sends_it() {
    let mut net = Net::connected(Limits::default());
    let old = net.tapped.clone();
    let before = (net.rank(0, 1), net.rank(1, 0));
    for mut flight in old {
        for _ in 0..3 {
            net.deliver(&flight);
            flight.from = "192.0.2.1:9".parse().unwrap();
        }
    }
    assert_eq!((net.take(0), net.take(1)), (Vec::new(), Vec::new()));
    assert!(net.dropped(1, Why::Replayed) >= 6);
    assert_eq!(net.pending(1), 1, "one question, however often it is asked");
    net.run(ms(3000));
    assert_eq!(net.pending(1), 0);
    assert_eq!(before, (net.rank(0, 1), net.rank(1, 0)), "no session was disturbed");
}

#[test]
fn a_replayed_question_does_not_lock_out_the_owner_of_the_key() {
    let mut net = Net::new(vec![vec![fixed(1)], vec![fixed(0)]], Limits::default(), 1);
    // Old questions of host 0, answered and never followed up.
    let mut questions = Vec::new();
    for _ in 0..40 {
        net.say(0, 1, b"old");
        questions.push(net.tapped.last().unwrap().clone());
        net.flying.clear();
        net.restart(0);
    }
    net.now += ms(10_000);
    let answered = net.tapped.len();
    for question in &questions {
        net.deliver(question);
    }
    assert_eq!((net.pending(1), net.tapped.len() - answered), (40, 40));
    net.flying.clear();
    net.say(0, 1, b"new");
    for _ in 0..10 {
        for question in &questions {
            net.deliver(question);
        }
        net.run(ms(10));
    }
    assert_eq!(net.take(1), [(Peer(0), b"new".to_vec())]);
}

#[test]
fn sessions_in_use_are_replaced_in_time_and_nothing_is_lost() {
    let limits = Limits { rekey_after: Duration::from_secs(20), ..Limits::default() };
    let mut net = Net::connected(limits);
    let mut ranks = BTreeSet::new();
    for second in 0..90u8 {
        net.say(0, 1, &[second]);
        net.say(1, 0, &[second]);
        net.run(ms(1000));
        ranks.extend(net.rank(0, 1));
        assert!(net.links(0, 1) <= 2 && net.links(1, 0) <= 2);
    }
    assert_eq!((net.take(0).len(), net.take(1).len()), (90, 90));
    assert_eq!(ranks.len(), 5, "one in 20 seconds");
    assert_eq!(net.rank(0, 1), net.rank(1, 0));
}

#[test]
fn a_session_is_replaced_after_its_count_and_seals_no_more_than_twice_that() {
    let limits = Limits { rekey_after_datagrams: 50, ..Limits::default() };
    let mut net = Net::connected(limits);
    let first = net.rank(0, 1);
    for _ in 0..60 {
        net.say(0, 1, b"x");
        net.run(ms(10));
    }
    assert_ne!(net.rank(0, 1), first);
    assert_eq!(net.take(1).len(), 60);
    net.run(ms(6000));
    assert_eq!(net.links(0, 1), 1);
    net.faults[0] = 100;
    let sealed = (0..200).filter(|_| matches!(net.say(0, 1, b"x"), Sealed::Ready(_))).count();
    assert!((50..100).contains(&sealed), "{sealed}");
}

#[test]
fn an_idle_session_ends_and_the_next_payload_makes_a_new_one() {
    let mut net = Net::connected(Limits::default());
    net.run(ms(181_000));
    assert_eq!((net.links(0, 1), net.links(1, 0)), (0, 0));
    let sent = net.tapped.len();
    net.run(ms(10_000));
    assert_eq!(net.tapped.len(), sent, "nothing is sent for nobody");
    net.say(1, 0, b"again");
    net.run(ms(20));
    assert_eq!(net.take(0), [(Peer(1), b"again".to_vec())]);
}

#[test]
fn an_idle_session_costs_nothing() {
    let mut net = Net::connected(Limits::default());
    net.run(ms(1000));
    let sent = net.tapped.len();
    net.run(ms(100_000));
    assert_eq!(net.tapped.len(), sent);
}

/// After a restart of `host`, `speaker` goes on to speak every 20 ms; how long until the other one hears it.
fn silence(host: usize, speaker: usize, latency: Duration) -> Duration {
    let mut net = Net::connected(Limits::default());
    net.latency = latency;
    for _ in 0..100 {
        net.say(0, 1, b"x");
        net.say(1, 0, b"x");
        net.run(ms(20));
    }
    net.restart(host);
    net.flying.clear();
    let since = net.now;
    let listener = 1 - speaker;
    net.take(listener);
    while net.take(listener).is_empty() {
        net.say(speaker, u32::try_from(listener).unwrap(), b"still there?");
        net.run(ms(20));
        assert!(net.now < since + ms(5000), "host {host} restarted, {speaker} speaks");
    }
    net.now - since
}

#[test]
fn after_a_restart_a_session_stands_within_a_second() {
    for host in [0, 1] {
        for speaker in [0, 1] {
            for latency in [1, 20, 60] {
                let silence = silence(host, speaker, ms(latency));
                assert!(silence < ms(1000), "{host} {speaker} {latency}: {silence:?}");
            }
        }
    }
}

#[test]
fn a_datagram_of_an_unknown_session_is_not_answered() {
    let mut net = Net::connected(Limits::default());
    net.restart(1);
    net.say(0, 1, b"x");
    let flight = net.tapped.last().unwrap().clone();
    let sent = net.tapped.len();
    assert_eq!(net.deliver(&flight), Some(Received::Dropped(Why::UnknownIndex)));
    assert_eq!(net.tapped.len(), sent);
}

#[test]
fn simultaneous_handshakes_end_in_one_session() {
    for latency in [1, 15, 40, 90] {
        let mut net = Net::pair(Limits::default());
        net.latency = ms(latency);
        net.say(0, 1, b"to 1");
        net.say(1, 0, b"to 0");
        net.run(ms(1000));
        assert_eq!(net.take(0), [(Peer(1), b"to 0".to_vec())]);
        assert_eq!(net.take(1), [(Peer(0), b"to 1".to_vec())]);
        assert!(net.rank(0, 1).is_some());
        assert_eq!(net.rank(0, 1), net.rank(1, 0), "{latency}");
        let asked = net.tapped(0, FIRST_BYTES) + net.tapped(1, FIRST_BYTES);
        for _ in 0..20 {
            net.say(0, 1, b"x");
            net.say(1, 0, b"x");
            net.run(ms(300));
        }
        assert_eq!(net.tapped(0, FIRST_BYTES) + net.tapped(1, FIRST_BYTES), asked, "no livelock");
        assert_eq!((net.take(0).len(), net.take(1).len()), (20, 20));
        assert_eq!((net.links(0, 1), net.links(1, 0)), (1, 1));
    }
}

#[test]
fn first_messages_to_a_host_that_is_away_are_sent_less_and_less_often() {
    let mut net = Net::pair(Limits::default());
    net.faults[0] = 100;
    for _ in 0..100 {
        net.say(0, 1, b"x");
        net.run(ms(100));
    }
    // 0, 250, 750, 1750, 2750, .. within five seconds, twice.
    assert_eq!(net.tapped.len(), net.tapped(0, FIRST_BYTES));
    assert!((12..=14).contains(&net.tapped.len()), "{}", net.tapped.len());
    net.run(ms(12_000));
    let sent = net.tapped.len();
    net.run(ms(60_000));
    assert_eq!(net.tapped.len(), sent, "and not at all for nothing");
}

#[test]
fn a_queue_is_bounded_for_each_peer_and_for_all() {
    let limits = Limits { queue_total_bytes: 100_000, ..Limits::default() };
    let mut net = Net::new(vec![vec![fixed(1), fixed(2)], vec![fixed(0)], vec![fixed(0)]], limits, 1);
    let kept = |net: &mut Net, to, bytes: usize| {
        let kept = |sealed| !matches!(sealed, Sealed::Dropped(Unsent::QueueFull));
        (0..40).filter(|_| kept(net.say(0, to, &vec![1; bytes]))).count()
    };
    assert_eq!(kept(&mut net, 1, 100), 16);
    assert_eq!(kept(&mut net, 2, 10_000), 6);
    let mut net = Net::new(vec![vec![fixed(1), fixed(2)], vec![fixed(0)], vec![fixed(0)]], limits, 1);
    assert_eq!((kept(&mut net, 1, 30_000), kept(&mut net, 2, 30_000)), (2, 1));
    assert_eq!(lock(&net.hosts[0].sessions.tables).queued, 3 * (30_000 + 24));
    net.faults[0] = 100;
    net.run(ms(12_000));
    assert_eq!(lock(&net.hosts[0].sessions.tables).queued, 0, "what waits in vain is given up");
}
