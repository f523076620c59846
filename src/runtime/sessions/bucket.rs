//! Rates: token buckets in a fixed number of bytes, and tables of them by source address.

use super::limits::SOURCES;
use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// So many a second in the long run, and so many at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// How many a second; 0 counts as 1.
    pub per_second: u32,
    /// How many at once after a rest; 0 lets nothing through.
    pub burst: u32,
}

impl Rate {
    fn interval(self) -> u64 {
        1_000_000_000 / u64::from(self.per_second.max(1))
    }
}

/// A token bucket, kept as the time at which it will be full again, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket(u64);

impl Bucket {
    /// Whether there is a token.
    pub fn has(self, rate: Rate, now: Duration) -> bool {
        let now = super::nanoseconds(now);
        let full_at = self.0.max(now) + rate.interval();
        full_at - now <= rate.interval() * u64::from(rate.burst)
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, rate: Rate, now: Duration) -> bool {
        let has = self.has(rate, now);
        if has {
            self.0 = self.0.max(super::nanoseconds(now)) + rate.interval();
        }
        has
    }
}

/// Buckets of sources. Sources whose hashes meet share one; which do, nobody can tell without the secret.
#[derive(Debug)]
pub struct Sources {
    secret: [u8; 16],
    slots: Box<[Bucket]>,
}

impl Sources {
    /// All full.
    pub fn new(secret: [u8; 16]) -> Self {
        Sources { secret, slots: vec![Bucket::default(); SOURCES].into() }
    }

    /// The bucket of a source.
    pub fn of(&mut self, source: SocketAddr) -> &mut Bucket {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.secret);
        hasher.write(&network(source.ip()));
        let slot = hasher.finish() % SOURCES as u64;
        &mut self.slots[slot as usize]
    }
}

/// What one owner of an address surely has: the whole of an IPv4 address, the first half of an IPv6 one.
fn network(ip: IpAddr) -> [u8; 8] {
    let mut bytes = [0; 8];
    match ip {
        IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            None => bytes.copy_from_slice(&ip.octets()[..8]),
        },
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate { per_second: 10, burst: 5 };
        let mut bucket = Bucket::default();
        let taken = |bucket: &mut Bucket, at: u64| {
            (0..100).filter(|_| bucket.take(rate, Duration::from_millis(at))).count()
        };
        assert_eq!(taken(&mut bucket, 0), 5);
        assert_eq!(taken(&mut bucket, 99), 0);
        assert_eq!(taken(&mut bucket, 100), 1);
        assert_eq!(taken(&mut bucket, 400), 3);
        assert_eq!(taken(&mut bucket, 100_000), 5, "rest adds up to the burst only");
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_bucket() {
        let mut sources = Sources::new([3; 16]);
        let rate = Rate { per_second: 1, burst: 1 };
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(sources.of(address("[2001:db8::1]:1")).take(rate, Duration::ZERO));
        assert!(!sources.of(address("[2001:db8::2]:9")).take(rate, Duration::ZERO));
        assert!(sources.of(address("[2001:db8:0:1::1]:1")).take(rate, Duration::ZERO));
        assert!(sources.of(address("10.0.0.1:1")).take(rate, Duration::ZERO));
        assert!(!sources.of(address("[::ffff:10.0.0.1]:2")).take(rate, Duration::ZERO));
    }
}
