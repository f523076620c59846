//! Metrics in the text format of Prometheus, and whether a replica is up and ready, over HTTP.
//!
//! A thread for each connection, at most [`MAX_CONNECTIONS`], each for at most [`DEADLINE`]: somebody who is silent
//! or slow takes a thread for that long, and keeps nobody else from being answered.

mod render;

use super::config::Served;
use pbft::runtime::Host;
use pbft::runtime::control::Health;
use pbft::types::{Cluster, ReplicaId};
use render::{Seen, resident_bytes};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The connections that are served at a time; others are closed at once.
const MAX_CONNECTIONS: usize = 64;
/// How long a connection may take, from its first byte to its last.
const DEADLINE: Duration = Duration::from_secs(1);
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 8 * 1024;
/// The most header fields of a request.
const MAX_FIELDS: usize = 64;

/// Serves the metrics of a replica until the process ends.
///
/// # Errors
/// If the address cannot be bound.
pub fn serve(
    address: SocketAddr,
    id: ReplicaId,
    cluster: Cluster,
    host: Arc<Host<Served>>,
) -> Result<(), String> {
    let cannot = |error| format!("cannot serve metrics at {address}: {error}");
    let listener = TcpListener::bind(address).map_err(cannot)?;
    let answer = move |path: &str| match path {
        "/" | "/metrics" => {
            let seen = Seen {
                health: host.health(),
                histograms: render::snapshots(&host),
                resident: resident_bytes(),
            };
            Response { status: "200 OK", kind: render::CONTENT_TYPE, body: render::render(id, seen) }
        }
        "/healthz" => verdict(if host.is_stopped() { Err("it has stopped".into()) } else { Ok(()) }),
        "/readyz" => verdict(ready(&cluster, &host.health())),
        _ => Response::text("404 Not Found", "there is /metrics, /healthz and /readyz\n".into()),
    };
    std::thread::Builder::new()
        .name("metrics".into())
        .spawn(move || listen(&listener, &Arc::new(answer)))
        .map(|_| ())
        .map_err(cannot)
}

/// Whether a replica takes part: in touch with a quorum, and not without the state.
fn ready(cluster: &Cluster, health: &Health) -> Result<(), String> {
    if health.heard < cluster.quorum() as u64 {
        return Err(format!(
            "it hears {} replicas, itself included, and needs {}",
            health.heard,
            cluster.quorum()
        ));
    }
    match health.transferring {
        Some((n, _)) => Err(format!("it fetches the state at {n}")),
        None => Ok(()),
    }
}

fn verdict(judged: Result<(), String>) -> Response {
    match judged {
        Ok(()) => Response::text("200 OK", "ok\n".into()),
        Err(why) => Response::text("503 Service Unavailable", format!("{why}\n")),
    }
}

struct Response {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Response {
    fn text(status: &'static str, body: String) -> Self {
        Response { status, kind: "text/plain; charset=utf-8", body }
    }
}

fn listen<A: Fn(&str) -> Response + Send + Sync + 'static>(listener: &TcpListener, answer: &Arc<A>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // No descriptors, for example: that passes, and must not turn a processor.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        if open.fetch_add(1, Relaxed) >= MAX_CONNECTIONS {
            open.fetch_sub(1, Relaxed);
            continue;
        }
        let (answer, counted) = (answer.clone(), open.clone());
        let thread = std::thread::Builder::new().name("scrape".into()).stack_size(256 * 1024);
        let spawned = thread.spawn(move || {
            // Whoever goes away or is too slow is not told.
            let _ = converse(stream, Instant::now() + DEADLINE, &*answer);
            counted.fetch_sub(1, Relaxed);
        });
        if spawned.is_err() {
            open.fetch_sub(1, Relaxed);
        }
    }
}

/// One request and its answer.
fn converse(mut stream: TcpStream, deadline: Instant, answer: impl Fn(&str) -> Response) -> io::Result<()> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(Some(left)) }
    };
    let mut head = Vec::new();
    let response = loop {
        let mut piece = [0; 1024];
        stream.set_read_timeout(left()?)?;
        let length = stream.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        head.extend_from_slice(&piece[..length]);
        if let Some(response) = respond(&head, &answer) {
            break response;
        }
    };
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        response.status,
        response.kind,
        response.body.len()
    );
    let all = [head.as_bytes(), response.body.as_bytes()].concat();
    let mut rest = &all[..];
    while !rest.is_empty() {
        stream.set_write_timeout(left()?)?;
        let written = stream.write(rest)?;
        rest = &rest[written..];
    }
    // A socket closed with something unread is reset, and the answer may be lost.
    stream.shutdown(Shutdown::Write)?;
    loop {
        stream.set_read_timeout(left()?)?;
        if stream.read(&mut [0; 1024])? == 0 {
            return Ok(());
        }
    }
}

/// The answer to the head of a request, once it is whole.
fn respond(head: &[u8], answer: impl Fn(&str) -> Response) -> Option<Response> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Partial) if head.len() < MAX_HEAD => None,
        Ok(httparse::Status::Complete(_)) if request.method == Some("GET") => {
            let path = request.path.unwrap_or_default();
            Some(answer(path.split('?').next().unwrap_or_default()))
        }
        Ok(httparse::Status::Complete(_)) => {
            Some(Response::text("405 Method Not Allowed", "GET is all there is\n".into()))
        }
        _ => Some(Response::text("400 Bad Request", "that is no request\n".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers with the path, and its address.
    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = |path: &str| Response::text("200 OK", path.into());
        std::thread::spawn(move || listen(&listener, &Arc::new(answer)));
        address
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn six_silent_connections_delay_nobody_and_are_closed() {
        let address = server();
        let mut silent: Vec<TcpStream> = (0..6).map(|_| TcpStream::connect(address).unwrap()).collect();
        for stream in &mut silent[..3] {
            stream.write_all(b"GET /metrics HT").unwrap();
        }
        let begun = Instant::now();
        assert!(ask(address, "GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").ends_with("\r\n\r\n/metrics"));
        assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
        for stream in &mut silent {
            stream.set_read_timeout(Some(DEADLINE * 5)).unwrap();
            let closed = stream.read(&mut [0; 16]);
            assert!(
                matches!(closed, Ok(0)) || closed.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset)
            );
        }
        assert!(begun.elapsed() < DEADLINE * 4, "{:?}", begun.elapsed());
    }

    #[test]
    fn connections_are_bounded_and_room_comes_back() {
        let address = server();
        let held: Vec<TcpStream> =
            (0..MAX_CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut one_more = TcpStream::connect(address).unwrap();
        let refused = one_more.read(&mut [0; 16]);
        assert!(matches!(refused, Ok(0)) || refused.is_err(), "it is closed without an answer");
        drop(held);
        let deadline = Instant::now() + DEADLINE * 10;
        loop {
            let mut stream = TcpStream::connect(address).unwrap();
            let mut said = String::new();
            let asked =
                stream.write_all(b"GET /a HTTP/1.1\r\n\r\n").and_then(|()| stream.read_to_string(&mut said));
            if asked.is_ok() && said.ends_with("/a") {
                break;
            }
            assert!(Instant::now() < deadline);
        }
    }

    #[test]
    fn what_is_no_get_request_is_told_so() {
        let address = server();
        assert!(ask(address, "POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(ask(address, "\0\r\n\r\n").starts_with("HTTP/1.1 400 "));
        let endless = format!("GET /{} HTTP/1.1\r\n", "x".repeat(MAX_HEAD));
        assert!(ask(address, &endless).starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn a_replica_is_ready_that_hears_a_quorum_and_has_the_state() {
        let cluster = Cluster::new(4, 1);
        let health = |heard, transferring| Health { heard, transferring, ..Health::default() };
        assert_eq!(ready(&cluster, &health(3, None)), Ok(()));
        assert!(ready(&cluster, &health(2, None)).unwrap_err().contains("needs 3"));
        assert!(ready(&cluster, &health(4, Some((64, 2)))).unwrap_err().contains("state at 64"));
    }
}
