//! Cookies: whoever shows one receives what is sent to its address.
//!
//! The idea is that of "WireGuard: Next Generation Kernel Network Tunnel" (NDSS 2017, section 5.3), in a
//! simpler form. A cookie is a keyed hash of an address, and the key is forgotten every two minutes: the host
//! that made it can check it and keeps nothing.

use super::header::Cookie;
use super::random::Random;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::time::Duration;

/// How long one secret makes cookies.
pub const SECRET_LIFE: Duration = Duration::from_secs(120);

/// Makes cookies and checks them.
pub struct Cookies {
    secret: [u8; 32],
    since: Duration,
}

impl Cookies {
    /// With a secret of its own.
    pub fn new(random: &mut Random) -> Self {
        Cookies { secret: random.bytes(), since: Duration::ZERO }
    }

    /// The cookie of an address now. Costs one block of SHA-256: key and address have a fixed length, and the
    /// result is cut in half, so that no longer input can be hashed from it.
    pub fn of(&mut self, address: SocketAddr, now: Duration, random: &mut Random) -> Cookie {
        if now.saturating_sub(self.since) >= SECRET_LIFE {
            self.secret = random.bytes();
            self.since = now;
        }
        let mut input = [0; 50];
        input[..32].copy_from_slice(&self.secret);
        let ip = match address {
            SocketAddr::V4(address) => address.ip().to_ipv6_mapped(),
            SocketAddr::V6(address) => *address.ip(),
        };
        input[32..48].copy_from_slice(&ip.octets());
        input[48..].copy_from_slice(&address.port().to_le_bytes());
        let digest = Sha256::digest(input);
        let mut cookie = [0; 16];
        cookie.copy_from_slice(&digest[..16]);
        // Zeros stand for "no cookie".
        cookie[0] |= 1;
        cookie
    }

    /// Whether somebody shows the cookie of this address.
    pub fn check(&mut self, shown: &Cookie, address: SocketAddr, now: Duration, random: &mut Random) -> bool {
        if *shown == [0; 16] {
            return false;
        }
        let right = self.of(address, now, random);
        // Every byte is looked at, so that the time tells nothing about the first wrong one.
        shown.iter().zip(right).fold(0, |wrong, (shown, right)| wrong | (shown ^ right)) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_good_for_its_address_and_its_two_minutes() {
        let mut random = Random::seeded(1);
        let mut cookies = Cookies::new(&mut random);
        let address: SocketAddr = "10.1.2.3:4".parse().unwrap();
        let later = SECRET_LIFE - Duration::from_millis(1);
        let cookie = cookies.of(address, Duration::ZERO, &mut random);
        assert!(cookies.check(&cookie, address, later, &mut random));
        assert!(!cookies.check(&cookie, "10.1.2.3:5".parse().unwrap(), later, &mut random));
        assert!(!cookies.check(&cookie, "10.1.2.4:4".parse().unwrap(), later, &mut random));
        assert!(!cookies.check(&[0; 16], address, later, &mut random));
        assert!(!cookies.check(&cookie, address, SECRET_LIFE, &mut random));
    }
}
