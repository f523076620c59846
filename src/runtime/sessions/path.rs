//! Where a peer is, and what may be sent there before the peer has shown that it is.

use super::header::{DATA_HEADER, TAG_BYTES};
use super::limits::CHALLENGE_RETRY;
use super::random::Random;
use super::session::TOKEN_BYTES;
use std::net::SocketAddr;
use std::time::Duration;

/// The length of a datagram that carries a challenge.
const CHALLENGE_BYTES: usize = DATA_HEADER + TOKEN_BYTES + 1 + TAG_BYTES;

/// The address of one peer.
#[derive(Debug)]
pub struct Path {
    /// Whether the configured address is the only one.
    fixed: bool,
    /// Configured, or shown to be the peer's.
    proven: Option<SocketAddr>,
    /// Where the newest datagram came from, if that is not proven.
    claimed: Option<Claim>,
}

#[derive(Debug)]
struct Claim {
    address: SocketAddr,
    /// Bytes that came from there in valid datagrams, less those sent there.
    credit: usize,
    token: [u8; TOKEN_BYTES],
    challenge_at: Duration,
}

impl Path {
    pub fn new(configured: Option<SocketAddr>, fixed: bool) -> Self {
        Path { fixed, proven: configured, claimed: None }
    }

    /// Whether this address is the configured one, and the only one.
    pub fn is_fixed_at(&self, address: SocketAddr) -> bool {
        self.fixed && self.proven == Some(address)
    }

    /// Whether nobody knows where the peer is.
    pub fn is_nowhere(&self) -> bool {
        self.proven.is_none() && self.claimed.is_none()
    }

    /// Where so many bytes may be sent now, if anywhere; they count as sent.
    pub fn spend(&mut self, bytes: usize) -> Option<SocketAddr> {
        let Some(claim) = &mut self.claimed else { return self.proven };
        claim.credit = claim.credit.checked_sub(bytes)?;
        Some(claim.address)
    }

    /// Where a first message may be sent: there is no session in which a claim could be tried, so a proven
    /// address will do.
    pub fn spend_or_proven(&mut self, bytes: usize) -> Option<SocketAddr> {
        self.spend(bytes).or(self.proven)
    }

    /// A valid datagram of so many bytes came from this address; `newest` if it has the highest counter.
    pub fn heard(
        &mut self,
        from: SocketAddr,
        bytes: usize,
        newest: bool,
        now: Duration,
        random: &mut Random,
    ) {
        if self.fixed {
            return;
        }
        match &mut self.claimed {
            Some(claim) if claim.address == from => {
                claim.credit = claim.credit.saturating_add(bytes);
                return;
            }
            None if self.proven == Some(from) => return,
            _ if !newest => return,
            _ => {}
        }
        self.claimed = (self.proven != Some(from)).then(|| Claim {
            address: from,
            credit: bytes,
            token: random.bytes(),
            challenge_at: now,
        });
    }

    /// The peer has received something at this address.
    pub fn prove(&mut self, address: SocketAddr) {
        if !self.fixed {
            self.proven = Some(address);
            self.claimed = None;
        }
    }

    /// An echo came; whether it is that of the challenge, from where the challenge went.
    pub fn echoed(&mut self, from: SocketAddr, token: &[u8]) -> bool {
        let right = self.claimed.as_ref().is_some_and(|claim| claim.address == from && claim.token == token);
        if right {
            self.prove(from);
        }
        right
    }

    /// The challenge to send now, if one is due and paid for.
    pub fn challenge(&mut self, now: Duration) -> Option<(SocketAddr, [u8; TOKEN_BYTES])> {
        let claim = self.claimed.as_mut().filter(|claim| claim.challenge_at <= now)?;
        claim.credit = claim.credit.checked_sub(CHALLENGE_BYTES)?;
        claim.challenge_at = now + CHALLENGE_RETRY;
        Some((claim.address, claim.token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn path() -> (Path, Random) {
        (Path::new(Some(address(1)), false), Random::seeded(1))
    }

    #[test]
    fn a_new_address_gets_no_more_than_it_sent_until_it_echoes() {
        let (mut path, mut random) = path();
        path.heard(address(2), 100, true, Duration::ZERO, &mut random);
        let (to, token) = path.challenge(Duration::ZERO).unwrap();
        assert_eq!((to, path.challenge(Duration::ZERO)), (address(2), None));
        assert_eq!(path.spend(100 - CHALLENGE_BYTES + 1), None);
        assert_eq!(path.spend(100 - CHALLENGE_BYTES), Some(address(2)));
        assert_eq!(path.spend(1), None);
        assert!(!path.echoed(address(3), &token), "the echo must come from there");
        assert!(!path.echoed(address(2), &[0; TOKEN_BYTES]));
        assert!(path.echoed(address(2), &token));
        assert_eq!(path.spend(1 << 40), Some(address(2)));
    }

    #[test]
    fn an_older_datagram_moves_nobody_and_the_proven_address_comes_back_at_once() {
        let (mut path, mut random) = path();
        path.heard(address(2), 100, false, Duration::ZERO, &mut random);
        assert_eq!(path.spend(1 << 40), Some(address(1)));
        path.heard(address(2), 100, true, Duration::ZERO, &mut random);
        assert_eq!(path.spend(200), None);
        path.heard(address(1), 1, true, Duration::ZERO, &mut random);
        assert_eq!(path.spend(1 << 40), Some(address(1)));
    }

    #[test]
    fn a_fixed_address_stays() {
        let mut path = Path::new(Some(address(1)), true);
        path.heard(address(2), 100, true, Duration::ZERO, &mut Random::seeded(1));
        path.prove(address(2));
        assert_eq!((path.spend(1000), path.challenge(Duration::ZERO)), (Some(address(1)), None));
    }
}
