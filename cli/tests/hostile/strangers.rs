//! Attackers without any key: what they capture, make up or repeat does nothing and is not answered at length.

use crate::proxy::{Proxy, behind_proxies};
use crate::support::{Cluster, Load};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// The first message of a session, and everything that may answer it, in bytes.
const FIRST: usize = 117;
const ANSWERS: [usize; 2] = [73, 37];

/// A socket of nobody's.
struct Stranger(UdpSocket);

/// What a stranger was sent back.
#[derive(Debug, Default)]
struct Echo {
    datagrams: usize,
    bytes: usize,
    longest: usize,
}

impl Stranger {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Stranger(socket)
    }

    /// Sends these, two thousand a second, and says how many bytes they had.
    fn send(&self, datagrams: &[(SocketAddr, Vec<u8>)]) -> usize {
        for (i, (to, bytes)) in datagrams.iter().enumerate() {
            let _ = self.0.send_to(bytes, to);
            if i % 20 == 19 {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        datagrams.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// What comes back, for a second.
    fn hear(&self) -> Echo {
        let (mut echo, mut buffer) = (Echo::default(), [0; 65_536]);
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            if let Ok((length, _)) = self.0.recv_from(&mut buffer) {
                echo.datagrams += 1;
                echo.bytes += length;
                echo.longest = echo.longest.max(length);
            }
        }
        echo
    }
}

/// Where replicas really listen: past the proxies.
pub fn listening(cluster: &Cluster) -> Vec<SocketAddr> {
    cluster.config.cluster.replicas().map(|id| cluster.config.listen(id).unwrap()).collect()
}

/// What has been captured, for whom it was.
pub fn captured(proxy: &Proxy, listening: &[SocketAddr]) -> Vec<(SocketAddr, Vec<u8>)> {
    let all = proxy.captured();
    let latest = all.len().saturating_sub(4000);
    all[latest..].iter().map(|(replica, bytes)| (listening[*replica], bytes.clone())).collect()
}

/// Sends what was captured again, from an address of a stranger's, while clients are served: nothing but
/// first messages is answered, and each of those by less than it is.
fn replay(cluster: &Cluster, replayed: &[(SocketAddr, Vec<u8>)]) {
    let stranger = Stranger::new();
    let sent = stranger.send(replayed);
    let echo = stranger.hear();
    let firsts = replayed.iter().filter(|(_, bytes)| bytes.len() == FIRST).count();
    println!("{} datagrams replayed, {sent} bytes, {firsts} first messages: {echo:?}", replayed.len());
    assert!(echo.datagrams <= firsts && (echo.datagrams == 0 || ANSWERS.contains(&echo.longest)), "{echo:?}");
    assert!(echo.bytes < sent);
    let counted = |id: usize| {
        cluster.status(id).map_or(0, |status| {
            let sessions = status.rejections.iter().filter(|(why, _)| why.starts_with("session_"));
            sessions.map(|(_, count)| count).sum::<u64>()
        })
    };
    let dropped: u64 = (0..4).map(counted).sum();
    assert!(dropped as usize * 2 > replayed.len(), "{dropped} counted of {}", replayed.len());
}

#[test]
fn what_was_captured_is_worth_nothing_when_it_is_sent_again() {
    let (mut cluster, proxy) = behind_proxies(4, 11);
    let mut client = cluster.client(5);
    let load = Load::start(&cluster, 2, 11);
    load.wait(200);
    client.put("secret", b"old");
    assert!(client.get("secret").is_some());
    let listening = listening(&cluster);
    let first = captured(&proxy, &listening);
    assert!(first.len() > 500, "{} captured", first.len());
    replay(&cluster, &first);
    load.wait(100);
    // What was captured before is worth no more after restarts: of one, of f + 1, of all.
    client.put("secret", b"new");
    for dead in [&[0][..], &[1, 2], &[0, 1, 2, 3]] {
        dead.iter().for_each(|&id| cluster.kill(id));
        dead.iter().for_each(|&id| cluster.spawn(id, &[]));
        cluster.wait_for_answers();
        let executed: Vec<u64> = (0..4).map(|id| cluster.status(id).unwrap().last_executed).collect();
        replay(&cluster, &first);
        load.wait(20);
        assert!((0..4).all(|id| cluster.status(id).unwrap().last_executed >= executed[id]));
    }
    assert_eq!(client.get("secret").as_deref(), Some(&b"new"[..]));
    load.finish(&cluster);
    cluster.stop();
}

#[test]
fn fragments_and_questions_of_strangers_are_not_answered_and_take_no_room() {
    let cluster = Cluster::new(4, |_| {});
    let load = Load::start(&cluster, 2, 3);
    load.wait(50);
    // As frames were before there were sessions, and as they are in them.
    let last_piece = |id: u64| {
        let mut bytes = vec![0xb5, 2];
        bytes.extend(id.to_le_bytes());
        bytes.extend(512u16.to_le_bytes());
        bytes.extend(513u16.to_le_bytes());
        bytes.extend(131_073u32.to_le_bytes());
        bytes.push(7);
        bytes
    };
    let addresses = listening(&cluster);
    let in_session = |bytes: Vec<u8>| [&[0x14; 13][..], &bytes, &[0; 17]].concat();
    let made_up: Vec<_> = (0..3000u64)
        .map(|i| {
            let bytes = last_piece(i);
            (addresses[i as usize % 4], if i % 2 == 0 { bytes } else { in_session(bytes) })
        })
        .collect();
    let stranger = Stranger::new();
    stranger.send(&made_up);
    let echo = stranger.hear();
    assert_eq!(echo.datagrams, 0, "{echo:?}");
    load.wait(50);
    for id in 0..4 {
        let status = cluster.status(id).unwrap();
        assert_eq!(status.counter("incomplete_bytes"), 0, "{status:?}");
        assert!(status.counter("session_bytes") < 1 << 20, "{status:?}");
    }
    load.finish(&cluster);
    cluster.stop();
}

/// A hundred first messages at a time, made up, and from many sockets: whoever has a session, or a configured
/// address, does not notice.
#[test]
fn a_flood_of_handshakes_does_not_stop_clients_that_have_sessions() {
    let cluster = Cluster::new(4, |_| {});
    let load = Load::start(&cluster, 2, 5);
    load.wait(50);
    let addresses = listening(&cluster);
    let strangers: Vec<Stranger> = (0..50).map(|_| Stranger::new()).collect();
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < Duration::from_secs(3) {
        for (i, stranger) in strangers.iter().enumerate() {
            let first: Vec<u8> =
                (0..FIRST).map(|at| if at == 0 { 0x11 } else { (at * 7 + sent + i) as u8 }).collect();
            sent += stranger.send(&[(addresses[sent % 4], first)]) / FIRST;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    load.wait(100);
    let back: usize = strangers
        .iter()
        .map(|stranger| {
            stranger.0.set_nonblocking(true).unwrap();
            let mut buffer = [0; 2048];
            std::iter::from_fn(|| stranger.0.recv(&mut buffer).ok()).sum::<usize>()
        })
        .sum();
    println!("{sent} first messages, {} bytes sent, {back} came back", sent * FIRST);
    assert!(back < sent * FIRST);
    let status = cluster.status(0).unwrap();
    assert!(
        status.rejections.iter().any(|(why, count)| why == "session_cookie_demanded" && *count > 100),
        "{status:?}"
    );
    load.finish(&cluster);
    cluster.stop();
}
