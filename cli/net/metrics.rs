//! Metrics in the text format of Prometheus, over HTTP on a loopback port.

use super::config::Served;
use pbft::runtime::Host;
use pbft::runtime::control::Health;
use pbft::types::ReplicaId;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// Serves the metrics of a replica until the process ends.
pub fn serve(address: SocketAddr, id: ReplicaId, host: Arc<Host<Served>>) -> Result<(), String> {
    let listener =
        TcpListener::bind(address).map_err(|error| format!("cannot serve metrics at {address}: {error}"))?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whatever is asked, the answer is the same; somebody slow is not waited for.
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            let _ = stream.read(&mut [0; 2048]);
            let body = render(id, &host.health());
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: \
                 close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    Ok(())
}

/// The metrics of a status.
pub fn render(id: ReplicaId, status: &Health) -> String {
    let mut text = String::new();
    let replica = id.0;
    let mut gauge = |name: &str, kind: &str, value: u64| {
        let _ = writeln!(text, "# TYPE pbft_{name} {kind}\npbft_{name}{{replica=\"{replica}\"}} {value}");
    };
    gauge("view", "gauge", status.view);
    gauge("changing_view", "gauge", u64::from(status.leaving.is_some()));
    gauge("low_water_mark", "gauge", status.watermarks.0);
    gauge("last_executed", "gauge", status.last_executed);
    gauge("waiting_requests", "gauge", status.waiting_requests);
    gauge("heard_replicas", "gauge", status.heard);
    gauge("cpu_microseconds_total", "counter", status.cpu_us);
    for (name, value) in &status.counters {
        let kind = match name.as_str() {
            "incomplete_bytes" | "longest_step_us" => "gauge",
            _ => "counter",
        };
        gauge(name, kind, *value);
    }
    text.push_str("# TYPE pbft_rejected counter\n");
    for (reason, count) in &status.rejections {
        let _ = writeln!(text, "pbft_rejected{{replica=\"{replica}\",reason=\"{reason}\"}} {count}");
    }
    text
}
