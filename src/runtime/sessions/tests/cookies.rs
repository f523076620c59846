//! Cookies, and the limits of handshakes.

use super::*;

/// No handshake is taken without a cookie.
fn under_load() -> Limits {
    Limits { unproven: Rate { per_second: 1, burst: 0 }, ..Limits::default() }
}

#[test]
fn under_load_a_cookie_is_asked_for_and_shown() {
    let mut net = Net::pair(under_load());
    net.say(0, 1, b"x");
    net.run(ms(20));
    assert_eq!(net.take(1), [(Peer(0), b"x".to_vec())]);
    assert_eq!((net.tapped(1, COOKIE_BYTES), net.tapped(0, FIRST_BYTES)), (1, 2));
    assert_eq!(net.dropped(1, Why::CookieDemanded), 1);
    // It is shown again while it may be good.
    net.hosts[0].sessions.tables.lock().unwrap().peers.get_mut(&Peer(1)).unwrap().links.clear();
    net.run(ms(1000));
    net.say(0, 1, b"y");
    net.run(ms(20));
    assert_eq!((net.tapped(1, COOKIE_BYTES), net.take(1).len()), (1, 1));
}

#[test]
fn a_demand_for_a_cookie_allocates_nothing_but_its_reply() {
    let mut net = Net::pair(under_load());
    net.say(0, 1, b"x");
    let question = net.tapped.last().unwrap().bytes.clone();
    let host = &net.hosts[1].sessions;
    let (mut plaintext, mut send) = (Vec::new(), Vec::with_capacity(1));
    let info = allocation_counter::measure(|| {
        host.receive(address(0), &question, ms(1), &mut plaintext, &mut send);
    });
    assert_eq!((send.len(), send[0].1.len()), (1, COOKIE_BYTES));
    assert_eq!((info.count_total, info.bytes_total), (1, COOKIE_BYTES as u64));
}

#[test]
fn a_cookie_of_another_address_is_worth_nothing() {
    let mut net = Net::pair(under_load());
    net.say(0, 1, b"x");
    net.run(ms(2));
    // The answer to the cookie, caught and sent from elsewhere.
    net.flying.clear();
    let mut question = net.tapped.iter().rfind(|f| f.bytes.len() == FIRST_BYTES).unwrap().clone();
    assert_eq!(net.deliver(&question), Some(Received::Nothing));
    net.now += ms(3000);
    question.from = "192.0.2.1:1".parse().unwrap();
    assert_eq!(net.deliver(&question), Some(Received::Dropped(Why::CookieDemanded)));
}

#[test]
fn a_cookie_that_answers_no_question_is_ignored() {
    let mut net = Net::pair(Limits::default());
    net.say(0, 1, b"x");
    net.flying.clear();
    let question = net.tapped.last().unwrap().bytes.clone();
    let index = u32::from_le_bytes(question[1..5].try_into().unwrap());
    let noise: &[u8; 96] = question[5..101].try_into().unwrap();
    let to = address(0);
    let give = |net: &mut Net, index, noise: &[u8; 96], cookie: u8| {
        let bytes = header::cookie(index, noise, &[cookie; 16]).to_vec();
        net.deliver(&Flight { from: address(1), to, bytes })
    };
    let unexpected = Some(Received::Dropped(Why::UnexpectedCookie));
    assert_eq!(give(&mut net, index, &[0; 96], 1), unexpected, "who has not seen the question");
    let unknown = Some(Received::Dropped(Why::UnknownIndex));
    assert_eq!(give(&mut net, index ^ 1, noise, 1), unknown);
    // Who has seen it cannot make this host send without end.
    for cookie in 1..=4 {
        assert_eq!(give(&mut net, index, noise, cookie), Some(Received::Nothing));
        assert_eq!(give(&mut net, index, noise, cookie), unexpected, "twice the same");
    }
    assert_eq!(give(&mut net, index, noise, 9), unexpected, "one too many");
}

#[test]
fn a_flood_in_the_name_of_an_address_does_not_lock_it_out() {
    let limits = Limits { source: Rate { per_second: 1, burst: 2 }, ..Limits::default() };
    let mut net = Net::pair(limits);
    // Somebody else asks from host 0's address: junk, without cookies.
    for junk in 0..500u32 {
        let mut noise = [3; 96];
        noise[..4].copy_from_slice(&junk.to_le_bytes());
        let bytes = header::first(junk, &noise).to_vec();
        net.deliver(&Flight { from: address(0), to: address(1), bytes });
    }
    assert_eq!(net.dropped(1, Why::BadHandshake), 2);
    assert_eq!(net.dropped(1, Why::CookieDemanded), 498);
    net.flying.clear();
    net.say(0, 1, b"x");
    net.run(ms(20));
    assert_eq!(net.take(1).len(), 1);
}

#[test]
fn with_cookies_sources_are_limited_and_configured_addresses_have_a_share_of_their_own() {
    let limits = Limits {
        source: Rate { per_second: 1, burst: 3 },
        proven: Rate { per_second: 1, burst: 5 },
        ..under_load()
    };
    let host = sessions(1, &[fixed(0)], limits, 1);
    let ask = |from: SocketAddr, number: u32| {
        let noise = [number.to_le_bytes()[0]; 96];
        let mut question = header::first(number, &noise);
        let (mut plaintext, mut send) = (Vec::new(), Vec::new());
        host.receive(from, &question, ms(1), &mut plaintext, &mut send);
        header::set_cookie(&mut question, send[0].1[21..].try_into().unwrap());
        host.receive(from, &question, ms(1), &mut plaintext, &mut send)
    };
    let source = |host: u8| SocketAddr::from(([192, 0, 2, host], 5));
    let limited = Received::Dropped(Why::RateLimited);
    let judged = Received::Dropped(Why::BadHandshake);
    let asked: Vec<Received> = (0..4).map(|number| ask(source(1), number)).collect();
    assert_eq!(asked, [judged, judged, judged, limited], "one source");
    let asked: Vec<Received> = (0..4).map(|number| ask(source(2), number)).collect();
    assert_eq!(asked, [judged, judged, limited, limited], "all sources");
    assert_eq!(ask(address(0), 9), judged, "a configured address");
}

#[test]
fn tables_that_cannot_work_are_refused() {
    let new = |entries: &[PeerEntry]| {
        Sessions::new(secret(0), DOMAIN, entries, Limits::default(), Random::seeded(1)).err()
    };
    assert_eq!(new(&[fixed(1), fixed(2)]), None);
    assert_eq!(new(&[fixed(1), fixed(1)]), Some(TableError::SamePeer(Peer(1))));
    let same = PeerEntry { peer: Peer(2), ..fixed(1) };
    assert_eq!(new(&[fixed(1), same]), Some(TableError::SameKey(Peer(2))));
    assert_eq!(new(&[fixed(0)]), Some(TableError::SameKey(Peer(0))));
    let weak = PeerEntry { public_key: [0; 32], ..fixed(1) };
    assert_eq!(new(&[weak]), Some(TableError::WeakKey(Peer(1))));
    let nowhere = PeerEntry { address: None, ..fixed(1) };
    assert_eq!(new(&[nowhere]), Some(TableError::NoAddress(Peer(1))));
}
