//! Who speaks and hears nothing: what is sent to show that one is there, and what comes of silence.

use super::super::limits::MAX_SESSIONS;
use super::*;

#[test]
fn who_only_listens_says_so_ten_times_a_second_at_most() {
    let mut net = Net::connected(Limits::default());
    net.run(ms(500));
    net.tapped.clear();
    for _ in 0..500 {
        net.say(0, 1, b"x");
        net.run(ms(20));
    }
    assert_eq!(net.take(1).len(), 500);
    assert_eq!(net.tapped(0, FIRST_BYTES), 0, "nobody asks for another session");
    assert_eq!(net.tapped(1, OVERHEAD), net.tapped.iter().filter(|f| f.from == address(1)).count());
    assert!((70..=100).contains(&net.tapped(1, OVERHEAD)), "{}", net.tapped(1, OVERHEAD));
}

#[test]
fn where_only_handshakes_succeed_they_are_no_more_than_two_a_second() {
    let mut net = Net::connected(Limits::default());
    net.latency = ms(20);
    net.tapped.clear();
    for _ in 0..1000 {
        net.say(0, 1, b"x");
        net.run(ms(10));
        net.flying.retain(|_, f| f.from != address(1) || f.bytes.len() == ANSWER_BYTES);
    }
    assert!((15..=20).contains(&net.tapped(0, FIRST_BYTES)), "{}", net.tapped(0, FIRST_BYTES));
    assert!(net.links(0, 1) <= MAX_SESSIONS && net.links(1, 0) <= MAX_SESSIONS);
}

/// Host 1 restarts just after a session was confirmed, and asks for one. To host 0 both look simultaneous, and
/// the old one, which host 1 has forgotten, may have the higher rank.
#[test]
fn a_session_in_which_nothing_comes_back_yields_whatever_its_rank() {
    let mut yielded = 0;
    for seed in 0..20 {
        let mut net = Net::new(vec![vec![fixed(1)], vec![fixed(0)]], Limits::default(), seed);
        net.latency = ms(30);
        net.say(0, 1, b"hello");
        net.run(ms(150));
        net.restart(1);
        net.say(1, 0, b"hello again");
        net.run(ms(150));
        if net.rank(0, 1) == net.rank(1, 0) {
            continue;
        }
        net.say(0, 1, b"lost");
        net.run(ms(390));
        assert_ne!(net.rank(0, 1), net.rank(1, 0));
        net.run(ms(20));
        assert_eq!(net.rank(0, 1), net.rank(1, 0), "before any other session can stand");
        yielded += 1;
    }
    assert!((4..=16).contains(&yielded), "about half of them: {yielded}");
}

#[test]
fn a_lost_confirmation_is_sent_again_soon() {
    let mut net = Net::pair(Limits::default());
    net.latency = ms(5);
    net.say(0, 1, b"lost");
    net.run(ms(9));
    net.faults[0] = 100;
    net.run(ms(2));
    net.faults[0] = 0;
    assert_eq!((net.links(0, 1), net.links(1, 0), net.pending(1)), (1, 0, 1));
    net.run(ms(120));
    assert_eq!((net.links(1, 0), net.pending(1), net.tapped(0, FIRST_BYTES)), (1, 0, 1));
}

#[test]
fn a_handshake_that_the_peers_own_has_made_needless_is_given_up() {
    let mut net = Net::pair(Limits::default());
    net.say(0, 1, b"waits");
    net.flying.clear();
    net.run(ms(100));
    net.say(1, 0, b"comes");
    net.run(ms(5000));
    assert_eq!((net.take(0).len(), net.take(1).len()), (1, 1));
    assert_eq!((net.tapped(0, FIRST_BYTES), net.tapped(1, FIRST_BYTES)), (1, 1));
}

#[test]
fn a_session_that_has_ended_opens_nothing_even_if_nobody_ticks() {
    let mut net = Net::connected(Limits::default());
    net.say(0, 1, b"late");
    let (_, late) = net.flying.pop_last().unwrap();
    net.now += Duration::from_secs(180);
    assert_eq!(net.deliver(&late), Some(Received::Dropped(Why::Expired)));
}
