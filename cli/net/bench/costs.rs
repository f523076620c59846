//! What the machine takes for one signature, one verification of each kind and one datagram, and what follows from that.

use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::crypto::{Crypto, Statement};
use pbft::runtime::counters::thread_time;
use pbft::types::{Cluster, Principal, ReplicaId};
use std::hint::black_box;
use std::net::UdpSocket;
use std::time::Duration;

/// Microseconds of processor time.
pub struct Costs {
    pub sign: f64,
    /// Of a client's signature, by itself.
    pub verify: f64,
    /// Of one of as many as a batch has, verified together.
    pub verify_together: f64,
    /// Of a replica's, of which there is a table.
    pub verify_known: f64,
    /// Sent and received.
    pub datagram: f64,
    pub processors: usize,
    /// The requests of a batch.
    pub batch: u32,
}

/// The processor time of one call, in microseconds: the least of several rounds, as others use the machine
/// too.
fn each(count: u32, mut act: impl FnMut()) -> f64 {
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let before = thread_time();
        (0..count).for_each(|_| act());
        least = least.min(thread_time().saturating_sub(before));
    }
    least.as_secs_f64() * 1e6 / f64::from(count)
}

impl Costs {
    /// Measures for about half a second; batches have `batch` requests.
    pub fn measure(size: u32, batch: u32) -> Costs {
        let batch = batch.max(1);
        let (replicas, clients) = KeyRing::insecure(0, 1, batch);
        let content = vec![7; size as usize + 16];
        let sign = each(500, || {
            black_box(Ed25519::sign(&clients[0], black_box(&content)));
        });
        let signatures: Vec<_> = clients.iter().map(|keys| Ed25519::sign(keys, &content)).collect();
        let statements: Vec<Statement<'_, Ed25519>> = (clients.iter().zip(&signatures))
            .map(|(keys, signature)| Statement {
                signer: Ed25519::signer(keys),
                content: &content,
                signature,
            })
            .collect();
        let verify = each(500, || {
            black_box(Ed25519::verify_together(&clients[0], black_box(&statements[..1])));
        });
        let verify_together = each((500 / batch).max(1), || {
            black_box(Ed25519::verify_together(&clients[0], black_box(&statements)));
        }) / f64::from(batch);
        let (signature, signer) = (Ed25519::sign(&replicas[0], &content), Principal::Replica(ReplicaId(0)));
        let verify_known = each(500, || {
            black_box(Ed25519::verify(&clients[0], signer, black_box(&content), &signature));
        });
        let datagram = match (UdpSocket::bind("127.0.0.1:0"), UdpSocket::bind("127.0.0.1:0")) {
            (Ok(from), Ok(to)) if to.local_addr().is_ok() => {
                let address = to.local_addr().expect("it was asked for just now");
                let bytes = vec![1; size as usize + 100];
                let mut buffer = vec![0; 2048];
                let _ = to.set_read_timeout(Some(Duration::from_millis(100)));
                each(1000, || {
                    let _ = from.send_to(&bytes, address);
                    let _ = to.recv(&mut buffer);
                })
            }
            _ => 0.0,
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Costs { sign, verify, verify_together, verify_known, datagram, processors, batch }
    }

    /// The most requests a second, if the processors did nothing but what the protocol cannot do without for
    /// batches of `batch` requests, as many as it was measured with: sign every request and vote, and the replies of a
    /// batch at once, verify the requests of a batch together at every replica, the replies of f + 1, and as many votes
    /// as a quorum takes, and move each message in one datagram.
    pub fn limit(&self, n: u16) -> f64 {
        let cluster = Cluster::new(n, (n - 1) / 3);
        let (n, q, weak) = (cluster.n() as f64, cluster.quorum() as f64, cluster.weak_quorum() as f64);
        let request = self.sign + self.verify_together * n + self.datagram * (1.0 + n);
        let replies = self.sign * n + self.verify_known * weak;
        // PRE-PREPARE, the PREPAREs of backups, the COMMITs of all.
        let signed = 1.0 + (n - 1.0) + n;
        let verified = (n - 1.0) + ((q - 1.0) + (n - 1.0) * (q - 2.0)) + n * (q - 1.0);
        let sent = (n - 1.0) + (n - 1.0) * (n - 1.0) + n * (n - 1.0);
        let votes = self.sign * signed + self.verify_known * verified + self.datagram * sent;
        1e6 * self.processors as f64 / (request + (replies + votes) / f64::from(self.batch))
    }
}
