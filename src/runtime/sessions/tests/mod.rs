//! Two or more hosts on a network that the test controls.

mod addresses;
mod cookies;
mod handshakes;
mod hostile;
mod lossy;
mod silence;
mod timing;

use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DOMAIN: [u8; 32] = [7; 32];
/// How often hosts tick.
const TICK: Duration = Duration::from_millis(10);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn secret(host: u32) -> HostKey {
    HostKey::from_secret([u8::try_from(host).unwrap() + 1; 32])
}

fn address(host: u32) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(host).unwrap()], 1000))
}

/// An entry for a host at its configured address.
fn fixed(host: u32) -> PeerEntry {
    let public_key = secret(host).public();
    PeerEntry { peer: Peer(host), public_key, address: Some(address(host)), fixed: true }
}

/// An entry for a host that may be anywhere.
fn roaming(host: u32) -> PeerEntry {
    PeerEntry { address: None, fixed: false, ..fixed(host) }
}

fn sessions(host: u32, entries: &[PeerEntry], limits: Limits, seed: u64) -> Sessions {
    Sessions::new(secret(host), DOMAIN, entries, limits, Random::seeded(seed)).unwrap()
}

/// One host, and what it has seen.
struct Host {
    number: u32,
    address: SocketAddr,
    entries: Vec<PeerEntry>,
    limits: Limits,
    sessions: Sessions,
    got: Vec<(Peer, Vec<u8>)>,
    dropped: BTreeMap<Why, u32>,
}

/// A datagram under way.
#[derive(Clone)]
struct Flight {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// The network: what was sent arrives after a time that the faults decide.
struct Net {
    hosts: Vec<Host>,
    now: Duration,
    flying: BTreeMap<(Duration, u64), Flight>,
    /// Everything that was ever sent.
    tapped: Vec<Flight>,
    sent: u64,
    latency: Duration,
    /// Lost, doubled and late datagrams of a hundred.
    faults: [u32; 3],
    rng: ChaCha8Rng,
    seed: u64,
}

impl Net {
    /// Hosts with these entries in their tables, and no faults.
    fn new(tables: Vec<Vec<PeerEntry>>, limits: Limits, seed: u64) -> Self {
        let host = |(number, entries): (u32, Vec<PeerEntry>)| Host {
            number,
            address: address(number),
            sessions: sessions(number, &entries, limits, seed * 1000 + u64::from(number)),
            entries,
            limits,
            got: Vec::new(),
            dropped: BTreeMap::new(),
        };
        Net {
            hosts: (0..).zip(tables).map(host).collect(),
            now: Duration::ZERO,
            flying: BTreeMap::new(),
            tapped: Vec::new(),
            sent: 0,
            latency: ms(1),
            faults: [0; 3],
            rng: ChaCha8Rng::seed_from_u64(seed),
            seed: seed * 1000 + 500,
        }
    }

    /// Two hosts that know each other's addresses.
    fn pair(limits: Limits) -> Self {
        Net::new(vec![vec![fixed(1)], vec![fixed(0)]], limits, 1)
    }

    /// Two hosts between which a session stands.
    fn connected(limits: Limits) -> Self {
        let mut net = Net::pair(limits);
        net.say(0, 1, b"hello");
        net.run(ms(100));
        assert_eq!(net.take(1), [(Peer(0), b"hello".to_vec())]);
        net
    }

    fn chance(&mut self, fault: usize) -> bool {
        self.rng.random_range(0..100) < self.faults[fault]
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let flight = Flight { from, to, bytes };
        self.tapped.push(flight.clone());
        let copies = if self.chance(1) { 2 } else { 1 };
        for _ in 0..copies {
            if self.chance(0) {
                continue;
            }
            let late = if self.chance(2) { ms(self.rng.random_range(0..300)) } else { Duration::ZERO };
            self.sent += 1;
            self.flying.insert((self.now + self.latency + late, self.sent), flight.clone());
        }
    }

    /// A host seals a payload for another one.
    fn say(&mut self, from: usize, to: u32, payload: &[u8]) -> Sealed {
        let mut out = Vec::new();
        let sealed = self.hosts[from].sessions.seal(Peer(to), payload, self.now, &mut out);
        if let Sealed::Ready(address) | Sealed::Asked(address) = sealed {
            self.send(self.hosts[from].address, address, out);
        }
        sealed
    }

    /// Gives a datagram to whoever has its address now.
    fn deliver(&mut self, flight: &Flight) -> Option<Received> {
        let host = self.hosts.iter_mut().find(|host| host.address == flight.to)?;
        let (mut plaintext, mut send) = (Vec::new(), Vec::new());
        let received = host.sessions.receive(flight.from, &flight.bytes, self.now, &mut plaintext, &mut send);
        match received {
            Received::Payload { peer } => host.got.push((peer, plaintext)),
            Received::Nothing => assert_eq!(plaintext, b""),
            Received::Dropped(why) => {
                assert_eq!(plaintext, b"");
                *host.dropped.entry(why).or_default() += 1;
            }
        }
        let address = host.address;
        for (to, bytes) in send {
            self.send(address, to, bytes);
        }
        Some(received)
    }

    /// Lets time pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut tick = self.now + TICK;
        while self.now < end {
            let next = self.flying.first_key_value().map_or(end, |(&(at, _), _)| at).min(tick).min(end);
            self.now = self.now.max(next);
            while let Some(flight) = self.flying.first_entry().filter(|first| first.key().0 <= self.now) {
                let flight = flight.remove();
                self.deliver(&flight);
            }
            if self.now >= tick {
                tick += TICK;
                self.tick();
            }
        }
    }

    fn tick(&mut self) {
        for host in 0..self.hosts.len() {
            let sent = self.hosts[host].sessions.tick(self.now);
            for (to, bytes) in sent {
                self.send(self.hosts[host].address, to, bytes);
            }
        }
    }

    /// The host loses everything but its key and its table.
    fn restart(&mut self, host: usize) {
        self.seed += 1;
        let host = &mut self.hosts[host];
        host.sessions = sessions(host.number, &host.entries, host.limits, self.seed);
    }

    fn take(&mut self, host: usize) -> Vec<(Peer, Vec<u8>)> {
        std::mem::take(&mut self.hosts[host].got)
    }

    fn dropped(&self, host: usize, why: Why) -> u32 {
        self.hosts[host].dropped.get(&why).copied().unwrap_or(0)
    }

    /// How many datagrams of this length one host has sent another.
    fn tapped(&self, from: u32, bytes: usize) -> usize {
        self.tapped.iter().filter(|f| f.from == address(from) && f.bytes.len() == bytes).count()
    }

    fn links(&self, host: usize, peer: u32) -> usize {
        lock(&self.hosts[host].sessions.tables).peers[&Peer(peer)].links.len()
    }

    /// The rank of the session in which a host sends.
    fn rank(&self, host: usize, peer: u32) -> Option<u64> {
        let state = &lock(&self.hosts[host].sessions.tables).peers[&Peer(peer)];
        state.best(&self.hosts[host].limits, self.now).map(|at| state.links[at].session.rank)
    }

    fn pending(&self, host: usize) -> usize {
        lock(&self.hosts[host].sessions.tables).pending.len()
    }
}
