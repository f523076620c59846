//! Addresses on the loopback interface for clusters that live on one machine.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Below the ports that systems give to sockets bound to port 0 (from 32768 on Linux, from 49152 elsewhere): a
/// client's socket cannot take a replica's port before the replica starts, or while it is stopped.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// No two calls in one process return the same port before all were returned.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// Free UDP ports on the loopback interface. Another process may take one before it is used; then a replica
/// says so.
///
/// # Errors
/// If there are not as many free ports.
pub fn free_addresses(count: u16) -> Result<Vec<SocketAddr>, String> {
    // Processes that run side by side begin far apart.
    let start = std::process::id().wrapping_mul(7919);
    let ports = u32::from(PORTS.end - PORTS.start);
    let tried = (0..ports).map(|_| {
        let offset = start.wrapping_add(u32::from(NEXT.fetch_add(1, Relaxed))) % ports;
        let port = PORTS.start + u16::try_from(offset).expect("an offset within a range of u16");
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    });
    let found: Vec<SocketAddr> =
        tried.filter(|address| UdpSocket::bind(address).is_ok()).take(usize::from(count)).collect();
    if found.len() < usize::from(count) {
        return Err(format!(
            "cannot find {count} free UDP ports on 127.0.0.1 from {} to {}: stop what uses them, or ask for fewer",
            PORTS.start,
            PORTS.end - 1
        ));
    }
    Ok(found)
}
