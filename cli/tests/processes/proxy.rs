//! A network that misbehaves: a UDP proxy in front of each replica.
//!
//! Whatever is sent to a replica goes to its proxy, which passes it on from a socket of its own for each
//! sender; what comes back to that socket goes back to the sender. So both directions pass through the
//! weather.

use crate::support::{Cluster, free_addresses};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What happens to datagrams, in percent, and who is cut off from whom.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    pub loss: u32,
    pub duplication: u32,
    /// Delayed by up to 30 ms, and so overtaken by others.
    pub reordering: u32,
    /// One bit is flipped, or the end cut off.
    pub corruption: u32,
    /// These replicas hear only each other; the rest and the clients only each other.
    pub away: BTreeSet<usize>,
    /// This replica is heard and hears nothing.
    pub deaf: Option<usize>,
}

/// By which socket, to whom, what.
type Parcel = (Arc<UdpSocket>, SocketAddr, Vec<u8>);
type Delayed = (Instant, u64, Arc<UdpSocket>, SocketAddr, Vec<u8>);

struct Shared {
    weather: Mutex<(Weather, ChaCha8Rng)>,
    stop: AtomicBool,
    later: Mutex<Sender<Delayed>>,
    /// Where replicas really are.
    replicas: Vec<SocketAddr>,
    /// What has passed, at most [`CAPTURED`] datagrams: to which replica.
    captured: Mutex<VecDeque<(usize, Vec<u8>)>>,
}

/// How many datagrams a proxy remembers.
const CAPTURED: usize = 20_000;

/// The proxies of a cluster. They stop when this is dropped.
pub struct Proxy(Arc<Shared>);

impl Proxy {
    /// Passes on what arrives at each of `public` to the replica at the same place of `replicas`.
    pub fn start(public: &[SocketAddr], replicas: &[SocketAddr], seed: u64) -> Self {
        println!("network of seed {seed}");
        let (later, queue) = channel();
        let shared = Arc::new(Shared {
            weather: Mutex::new((Weather::default(), ChaCha8Rng::seed_from_u64(seed))),
            stop: AtomicBool::new(false),
            later: Mutex::new(later),
            replicas: replicas.to_vec(),
            captured: Mutex::default(),
        });
        for (replica, &address) in public.iter().enumerate() {
            let (shared, socket) = (shared.clone(), open(address));
            std::thread::spawn(move || shared.serve(replica, &socket));
        }
        let delays = shared.clone();
        std::thread::spawn(move || delays.deliver_later(&queue));
        Proxy(shared)
    }

    /// The datagrams that have passed lately, with the replica that each was for; the latest last.
    pub fn captured(&self) -> Vec<(usize, Vec<u8>)> {
        self.0.captured.lock().unwrap().iter().cloned().collect()
    }

    pub fn set(&self, weather: Weather) {
        println!("{weather:?}");
        self.0.weather.lock().unwrap().0 = weather;
    }
}

/// Fragments of the length they would have on Ethernet, and a proxy in front of every replica.
pub fn behind_proxies(replicas: usize, seed: u64) -> (Cluster, Proxy) {
    let inside = free_addresses(replicas);
    let listening = inside.clone();
    let mut proxy = None;
    let cluster = Cluster::new(replicas, |table| {
        let parameters = table["parameters"].as_table_mut().unwrap();
        parameters.insert("checkpoint_interval".into(), 16.into());
        parameters.insert("window".into(), 32.into());
        let entries = table["replica"].as_array_mut().unwrap();
        let mut public = Vec::new();
        for (entry, listen) in entries.iter_mut().zip(listening) {
            let entry = entry.as_table_mut().unwrap();
            public.push(entry["address"].as_str().unwrap().parse().unwrap());
            entry.insert("listen".into(), listen.to_string().into());
        }
        proxy = Some(Proxy::start(&public, &inside, seed));
    });
    (cluster, proxy.unwrap())
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.stop.store(true, Relaxed);
    }
}

fn open(address: SocketAddr) -> Arc<UdpSocket> {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    Arc::new(socket)
}

impl Shared {
    /// Passes on to a replica, and opens the way back for each new sender.
    fn serve(self: Arc<Self>, replica: usize, socket: &Arc<UdpSocket>) {
        let mut ways: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
        let mut buffer = vec![0; 65_536];
        while !self.stop.load(Relaxed) {
            let Ok((length, sender)) = socket.recv_from(&mut buffer) else { continue };
            let way = ways.entry(sender).or_insert_with(|| {
                let way = open(SocketAddr::from(([127, 0, 0, 1], 0)));
                let (shared, socket, back) = (self.clone(), socket.clone(), way.clone());
                std::thread::spawn(move || shared.serve_back(replica, &back, &socket, sender));
                way
            });
            let from = self.replicas.iter().position(|&address| address == sender);
            self.pass(from, Some(replica), way, self.replicas[replica], &buffer[..length]);
        }
    }

    fn serve_back(&self, replica: usize, way: &UdpSocket, socket: &Arc<UdpSocket>, sender: SocketAddr) {
        let to = self.replicas.iter().position(|&address| address == sender);
        let mut buffer = vec![0; 65_536];
        while !self.stop.load(Relaxed) {
            let Ok((length, _)) = way.recv_from(&mut buffer) else { continue };
            self.pass(Some(replica), to, socket, sender, &buffer[..length]);
        }
    }

    fn pass(
        &self,
        from: Option<usize>,
        to: Option<usize>,
        by: &Arc<UdpSocket>,
        at: SocketAddr,
        bytes: &[u8],
    ) {
        let (weather, rng) = &mut *self.weather.lock().unwrap();
        let is_away = |node: Option<usize>| node.is_some_and(|node| weather.away.contains(&node));
        let mut happens = |percent: u32| rng.random_range(0..100) < percent;
        let is_deaf = to.is_some() && to == weather.deaf;
        if is_away(from) != is_away(to) || is_deaf || happens(weather.loss) {
            return;
        }
        if let Some(replica) = to {
            let mut captured = self.captured.lock().unwrap();
            captured.push_back((replica, bytes.to_vec()));
            if captured.len() > CAPTURED {
                captured.pop_front();
            }
        }
        for _ in 0..1 + u32::from(happens(weather.duplication)) {
            let mut bytes = bytes.to_vec();
            let (corrupt, late) = (happens(weather.corruption), happens(weather.reordering));
            if corrupt && !bytes.is_empty() {
                let place = bytes.len() / 2;
                if happens(50) { bytes[place] ^= 4 } else { bytes.truncate(place) }
            }
            if late {
                // How late follows from the bytes: the generator is lent out.
                let delay = Duration::from_millis(1 + u64::from(bytes.iter().fold(0u8, |a, b| a ^ b)) % 30);
                let delayed = (Instant::now() + delay, 0, by.clone(), at, bytes);
                let _ = self.later.lock().unwrap().send(delayed);
            } else {
                let _ = by.send_to(&bytes, at);
            }
        }
    }

    fn deliver_later(&self, queue: &Receiver<Delayed>) {
        let mut waiting: BTreeMap<(Instant, u64), Parcel> = BTreeMap::new();
        let mut count = 0;
        while !self.stop.load(Relaxed) {
            let now = Instant::now();
            while let Some(entry) = waiting.first_entry().filter(|entry| entry.key().0 <= now) {
                let (by, at, bytes) = entry.remove();
                let _ = by.send_to(&bytes, at);
            }
            let next = waiting.first_key_value().map(|((due, _), _)| due.saturating_duration_since(now));
            match queue.recv_timeout(next.unwrap_or(Duration::from_millis(50))) {
                Ok((due, _, by, at, bytes)) => {
                    count += 1;
                    waiting.insert((due, count), (by, at, bytes));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
