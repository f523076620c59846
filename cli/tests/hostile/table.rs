//! The table of all attacks: what the others are served under attack, of what they are served without.

use crate::attack::{Attacker, Share, WINDOW, allowed, counted, follow, quiet, rate};
use crate::clients::{ATTACKS, CLIENT};
use crate::primaries::{VICTIM, led_by, share_of_the_victim, slows_down};
use crate::proxy::behind_proxies;
use crate::replicas::{FLOODS, REPLICA};
use crate::strangers::{captured, listening};
use crate::support::{Cluster, Load, resident};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const CLIENTS: u32 = 6;
/// How long after the end of a strong attack the others must be served as before.
const RECOVERY: Duration = Duration::from_secs(2);

fn rounds() -> usize {
    std::env::var("PBFT_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

fn is_wanted(name: &str) -> bool {
    std::env::var("PBFT_ONLY").map_or(true, |only| only.split(',').any(|part| name.contains(part)))
}

fn cluster() -> Cluster {
    Cluster::new(4, |table| {
        allowed(table);
        table.insert("journal".into(), false.into());
    })
}

/// Datagrams sent at a steady rate until this is dropped.
struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// What a stranger sends: the number of a datagram, and where it goes.
type Make = dyn FnMut(u64, usize) -> Vec<u8> + Send;

impl Stream {
    /// `rate` a second to each of these.
    fn start(to: Vec<SocketAddr>, rate: u64, mut make: Box<Make>) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), sent.clone());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let thread = std::thread::spawn(move || {
            let (begin, mut number) = (Instant::now(), 0);
            while !stopped.load(Relaxed) {
                let due = begin.elapsed().as_micros() as u64 * rate / 1_000_000;
                number = number.max(due.saturating_sub(rate / 20));
                while number < due {
                    for (replica, &to) in to.iter().enumerate() {
                        let _ = socket.send_to(&make(number, replica), to);
                    }
                    count.fetch_add(to.len() as u64, Relaxed);
                    number += 1;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Stream { stop, sent, thread: Some(thread) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A socket that throws away what comes, until this is dropped.
struct Drain(SocketAddr, Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Drain {
    fn open() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (address, stop) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Relaxed) {
                let _ = socket.recv(&mut buffer);
            }
        });
        Drain(address, stop, Some(thread))
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.1.store(true, Relaxed);
        let _ = self.2.take().map(JoinHandle::join);
    }
}

/// One line of the table.
fn print(name: &str, rate: u64, shares: &[Share], after: Option<f64>, more: &str) {
    let mut parts: Vec<f64> = shares.iter().map(|share| share.of()).collect();
    parts.sort_by(f64::total_cmp);
    let mean = |of: fn(&Share) -> f64| shares.iter().map(of).sum::<f64>() / shares.len() as f64;
    println!(
        "| {name} | {rate} | {:.0} | {:.0} | {:.2} ({:.2} to {:.2}) | {} | {more} |",
        mean(|share| share.control),
        mean(|share| share.under),
        parts[parts.len() / 2],
        parts[0],
        parts[parts.len() - 1],
        after.map_or(String::new(), |after| format!("{after:.2}")),
    );
}

fn head() {
    println!(
        "| attack | a second to each replica | without | under attack | share (least to most) | 2 s later | |"
    );
    println!("|---|---|---|---|---|---|---|");
}

/// Rounds of without and with; how it is two seconds after the last, of what it was without.
fn trials<A, C>(
    load: &Load,
    mut control: impl FnMut() -> C,
    mut begin: impl FnMut() -> A,
    mut end: impl FnMut(A),
) -> (Vec<Share>, f64) {
    let mut shares = Vec::new();
    for _ in 0..rounds() {
        let beside = control();
        std::thread::sleep(WINDOW / 4);
        let without = rate(load, WINDOW);
        drop(beside);
        let attack = begin();
        std::thread::sleep(WINDOW / 4);
        let under = rate(load, WINDOW);
        end(attack);
        shares.push(Share { control: without, under });
        std::thread::sleep(WINDOW / 2);
    }
    std::thread::sleep(RECOVERY - WINDOW / 2);
    let after = rate(load, WINDOW) / shares.iter().map(|share| share.control).sum::<f64>().max(1.0);
    (shares, after * rounds() as f64)
}

fn random(rng: &mut ChaCha8Rng, kind: Option<u8>, length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length).map(|_| rng.random_range(0..=255)).collect();
    if let Some(kind) = kind {
        bytes[0] = kind;
    }
    bytes
}

/// What strangers send who have captured nothing.
fn made_up(name: &str) -> Box<Make> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    match name {
        "random" => Box::new(move |_, _| random(&mut rng, None, 300)),
        "fragments" => Box::new(move |number, _| {
            let mut frame = vec![0xb5, 2];
            frame.extend(number.to_le_bytes());
            frame.extend([1, 0, 2, 0, 1, 1, 0, 0, 7]);
            if number % 2 == 0 { frame } else { [&[0x14; 13][..], &frame, &[0; 17]].concat() }
        }),
        "first messages" => Box::new(move |_, _| random(&mut rng, Some(0x11), 117)),
        "answers and cookies" => Box::new(move |number, _| match number % 2 {
            0 => random(&mut rng, Some(0x12), 73),
            _ => random(&mut rng, Some(0x13), 37),
        }),
        _ => unreachable!("it is one of these"),
    }
}

fn strangers(
    cluster: &Cluster,
    load: &Load,
    attacks: &mut dyn FnMut(&str) -> Box<Make>,
    names: &[(&str, u64)],
) {
    let addresses = listening(cluster);
    for &(name, rate) in names.iter().filter(|(name, _)| is_wanted(name)) {
        for rate in [rate, rate * 10] {
            let (mut sent, mut windows) = (0, 0);
            let mut streams: Vec<Box<Make>> = (0..2 * rounds()).map(|_| attacks(name)).collect();
            let mut others = streams.split_off(rounds());
            let (shares, after) = trials(
                load,
                || {
                    let drain = Drain::open();
                    let to = vec![drain.0; addresses.len()];
                    (Stream::start(to, rate, others.pop().unwrap()), drain)
                },
                || Stream::start(addresses.clone(), rate, streams.pop().unwrap()),
                |stream| {
                    sent += stream.sent.load(Relaxed);
                    windows += 1;
                },
            );
            let really = sent as f64 / (f64::from(windows) * WINDOW.as_secs_f64() * 1.25 * 4.0);
            print(name, rate, &shares, Some(after), &format!("{really:.0}/s sent"));
        }
    }
}

#[test]
#[ignore = "long: five rounds of each attack of strangers, at two rates"]
fn table_of_strangers() {
    let _quiet = quiet();
    let cluster = cluster();
    let load = Load::start(&cluster, CLIENTS, 1);
    load.wait(100);
    let memory = |cluster: &Cluster| resident(cluster.processes[0].as_ref().unwrap()) >> 20;
    let before = memory(&cluster);
    head();
    let names =
        [("random", 5000), ("fragments", 700), ("first messages", 1000), ("answers and cookies", 1000)];
    strangers(&cluster, &load, &mut made_up, &names);
    println!("memory of replica 0: {before} MiB before, {} after", memory(&cluster));
    println!("view {}", cluster.status(1).unwrap().view);
    load.finish(&cluster);
    cluster.stop();
}

#[test]
#[ignore = "long: the same of what was captured in this run, as it is and altered"]
fn table_of_replays() {
    let _quiet = quiet();
    let (cluster, proxy) = behind_proxies(4, 1);
    let load = Load::start(&cluster, CLIENTS, 1);
    load.wait(500);
    let addresses = listening(&cluster);
    let seen = captured(&proxy, &addresses);
    let of: Vec<Vec<Vec<u8>>> = addresses
        .iter()
        .map(|&address| {
            seen.iter().filter(|(to, _)| *to == address).map(|(_, bytes)| bytes.clone()).collect()
        })
        .collect();
    let of = Arc::new(of);
    let mut make = |name: &str| -> Box<Make> {
        let (of, alters) = (of.clone(), name == "altered");
        Box::new(move |number, replica| {
            let mut bytes = of[replica][number as usize % of[replica].len()].clone();
            if alters && let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            bytes
        })
    };
    head();
    strangers(&cluster, &load, &mut make, &[("replayed", 1000), ("altered", 1000)]);
    load.finish(&cluster);
    cluster.stop();
}

#[test]
#[ignore = "long: five rounds of each attack with a client's key, at two rates"]
fn table_of_clients() {
    let _quiet = quiet();
    let cluster = cluster();
    let load = Load::start(&cluster, CLIENTS - 1, 1);
    load.wait(100);
    head();
    for (what, rate, counter) in ATTACKS.into_iter().filter(|(what, ..)| is_wanted(what)) {
        for rate in [rate, rate * 10] {
            let (before, view) = (counted(&cluster, &[0], counter), cluster.status(1).unwrap().view);
            let (shares, after) =
                trials(&load, || (), || Attacker::start(&cluster, CLIENT, what, rate), drop);
            let (more, views) = (counted(&cluster, &[0], counter) - before, cluster.status(1).unwrap().view);
            let told = format!("{counter} +{more}, {} views", views - view);
            print(what, rate, &shares, Some(after), &told);
        }
    }
    load.finish(&cluster);
    cluster.stop();
}

#[test]
#[ignore = "long: five rounds of each flood of a replica, at two rates"]
fn table_of_replicas() {
    let _quiet = quiet();
    let mut cluster = cluster();
    let load = Load::start(&cluster, CLIENTS, 1);
    load.wait(100);
    head();
    for (what, rate, counter) in FLOODS.into_iter().filter(|(what, ..)| is_wanted(what)) {
        for rate in [rate, rate * 10] {
            let text = rate.to_string();
            let arguments = ["--misbehave", "flood", "--how", what, "--rate", &text];
            let sign = follow(&mut cluster, REPLICA, &arguments);
            load.wait(100);
            let (before, view) = (counted(&cluster, &[1], counter), cluster.status(1).unwrap().view);
            let (shares, after) = trials(&load, || (), || sign.raise(), |()| sign.lower());
            let (more, views) = (counted(&cluster, &[1], counter) - before, cluster.status(1).unwrap().view);
            let sent = counted(&cluster, &[REPLICA], "lies");
            let told = format!("{counter} +{more}, {} views, {sent} sent", views - view);
            print(what, rate, &shares, Some(after), &told);
        }
    }
    load.finish(&cluster);
    cluster.stop();
}

#[test]
#[ignore = "long: five rounds of slow and unfair primaries"]
fn table_of_primaries() {
    let _quiet = quiet();
    println!("| primary | without | two seconds later | view left |");
    println!("|---|---|---|---|");
    for ms in ["0", "10", "20", "30", "50", "100", "200", "400"].into_iter().filter(|ms| is_wanted(ms)) {
        for _ in 0..rounds() {
            let (cluster, sign) = led_by(&["--misbehave", "delay", "--delay-ms", ms], false);
            let load = Load::start(&cluster, CLIENTS, 1);
            let (share, left) = slows_down(&cluster, &load, &sign);
            let expected = counted(&cluster, &[1], "expected_us");
            println!(
                "| {ms} ms late | {:.0} | {:.0} ({:.2}) | {left}; expected {expected} us |",
                share.control,
                share.under,
                share.of()
            );
            load.finish(&cluster);
            cluster.stop();
        }
    }
    let victim = VICTIM.to_string();
    for by in [&["--delay-ms", "350"][..], &[]].into_iter().filter(|_| is_wanted("unfair")) {
        for _ in 0..rounds() {
            let arguments = [&["--misbehave", "unfair", "--victim", &victim], by].concat();
            let (cluster, sign) = led_by(&arguments, false);
            let load = Load::start(&cluster, CLIENTS, 1);
            let share = share_of_the_victim(&cluster, &load, &sign);
            println!("| unfair {by:?} | | {share:.2} of the others' share | |");
            load.finish(&cluster);
            cluster.stop();
        }
    }
}
