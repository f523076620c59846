//! Where peers are.

use super::*;

fn elsewhere(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

/// Host 0 is a client, which host 1 has heard from.
fn client() -> Net {
    let mut net = Net::new(vec![vec![fixed(1)], vec![roaming(0)]], Limits::default(), 1);
    assert_eq!(net.say(1, 0, b"too early"), Sealed::Dropped(Unsent::NoAddress));
    net.say(0, 1, b"hello");
    net.run(ms(300));
    assert_eq!(net.take(1).len(), 1);
    assert_eq!(net.say(1, 0, b"hello"), Sealed::Ready(address(0)), "the handshake has shown where it is");
    net.run(ms(300));
    assert_eq!(net.take(0).len(), 1);
    net.tapped.clear();
    net
}

fn bytes(net: &Net, from: SocketAddr, to: SocketAddr) -> usize {
    net.tapped.iter().filter(|f| f.from == from && f.to == to).map(|f| f.bytes.len()).sum()
}

#[test]
fn a_client_that_moves_is_found_and_gets_what_waited() {
    let mut net = client();
    net.hosts[0].address = elsewhere(1);
    net.say(0, 1, &[1; 100]);
    net.run(ms(4));
    for _ in 0..5 {
        net.say(1, 0, &[2; 1000]);
    }
    net.run(ms(100));
    let got = net.take(0);
    assert_eq!(got.len(), 5);
    assert_eq!(net.say(1, 0, &[3; 1000]), Sealed::Ready(elsewhere(1)));
}

#[test]
fn no_more_is_sent_to_an_address_than_came_from_it_before_it_answers() {
    let mut net = client();
    // Somebody on the way changes the source; nobody answers there.
    net.say(0, 1, &[1; 300]);
    let (_, mut flight) = net.flying.pop_first().unwrap();
    flight.from = elsewhere(1);
    net.deliver(&flight);
    for _ in 0..10 {
        net.say(1, 0, &[2; 100]);
        net.run(ms(200));
    }
    let sent = bytes(&net, address(1), elsewhere(1));
    assert!(sent > 0 && sent <= flight.bytes.len(), "{sent} for {}", flight.bytes.len());
    // The client goes on from where it is, and that is believed at once.
    net.say(0, 1, b"here");
    net.run(ms(10));
    assert!(matches!(net.say(1, 0, b"there"), Sealed::Ready(to) if to == address(0)));
}

#[test]
fn a_late_datagram_does_not_move_a_client_back() {
    let mut net = client();
    net.say(0, 1, b"late");
    let (_, late) = net.flying.pop_first().unwrap();
    net.hosts[0].address = elsewhere(1);
    net.say(0, 1, &[1; 100]);
    net.run(ms(100));
    assert_eq!(net.deliver(&late), Some(Received::Payload { peer: Peer(0) }));
    assert_eq!(net.say(1, 0, b"x"), Sealed::Ready(elsewhere(1)));
}

#[test]
fn a_fixed_address_is_kept_whatever_comes_from_where() {
    let mut net = Net::connected(Limits::default());
    net.hosts[0].address = elsewhere(1);
    net.say(0, 1, &[1; 100]);
    net.run(ms(10));
    assert_eq!(net.take(1).len(), 1);
    assert_eq!(net.say(1, 0, b"x"), Sealed::Ready(address(0)));
}

#[test]
fn a_question_copied_to_another_source_proves_no_address() {
    let mut net = Net::new(vec![vec![fixed(1)], vec![roaming(0)]], Limits::default(), 1);
    net.say(0, 1, b"hello");
    let (_, question) = net.flying.pop_first().unwrap();
    let copy = Flight { from: elsewhere(1), ..question.clone() };
    net.deliver(&copy);
    net.deliver(&question);
    // The first datagram in the session is passed on from the address of the copy.
    net.now += ms(1);
    let answer = net.flying.values().find(|f| f.to == address(0)).unwrap().clone();
    net.flying.clear();
    net.deliver(&answer);
    let (_, ping) = net.flying.pop_first().unwrap();
    net.deliver(&Flight { from: elsewhere(1), ..ping.clone() });
    assert_eq!(net.say(1, 0, &[1; 500]), Sealed::Queued);
    assert!(bytes(&net, address(1), elsewhere(1)) <= ping.bytes.len() + copy.bytes.len());
}

#[test]
fn an_echo_of_nothing_is_counted() {
    let mut net = client();
    let link = lock(&net.hosts[0].sessions.tables).peers[&Peer(1)].links[0].session.clone();
    let mut bytes = Vec::new();
    assert!(link.seal(Content::Echo, &[0; 8], 1000, &mut bytes));
    let flight = Flight { from: address(0), to: address(1), bytes };
    assert_eq!(net.deliver(&flight), Some(Received::Dropped(Why::BadEcho)));
    let mut bytes = Vec::new();
    assert!(link.seal(Content::Challenge, &[0; 7], 1000, &mut bytes));
    let flight = Flight { bytes, ..flight };
    assert_eq!(net.deliver(&flight), Some(Received::Dropped(Why::Malformed)));
}

#[test]
fn a_datagram_of_a_replaced_session_moves_nobody() {
    let mut net = client();
    net.say(0, 1, b"held back");
    let (_, held) = net.flying.pop_first().unwrap();
    net.run(ms(1000));
    net.restart(0);
    net.say(0, 1, b"in another session");
    net.run(ms(100));
    assert_eq!(net.take(1).len(), 1);
    let moved = Flight { from: elsewhere(1), ..held };
    assert_eq!(net.deliver(&moved), Some(Received::Payload { peer: Peer(0) }));
    assert_eq!(net.say(1, 0, &[1; 100]), Sealed::Ready(address(0)));
}
