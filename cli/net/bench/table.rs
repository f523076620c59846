//! Everything in one run: the table of docs/BENCH.md.

use super::compare::{Earlier, in_words};
use super::{Arguments, Runtime, plot};
use crate::net::config::file::StoreKind;
use crate::say;
use serde_json::Value;
use std::process::ExitCode;

/// Measures all of it.
///
/// # Errors
/// A sentence, if a measurement fails, a file cannot be written, or nothing earlier compares.
pub fn run(arguments: &Arguments, earlier: Option<&Earlier>) -> Result<ExitCode, String> {
    let shows = !arguments.json;
    if shows {
        say!(
            "| clients | store | runtime | requests/s | p50 ms | p99 ms | max ms | CPU µs a request | of the limit |"
        );
        say!("|---|---|---|---|---|---|---|---|---|");
    }
    let (mut rows, mut details, mut compared) = (Vec::new(), Vec::new(), Vec::new());
    for clients in [1, 16, 64, 256] {
        let batch = arguments.max_batch;
        for (store, runtime, max_batch, shown) in [
            (StoreKind::Memory, Runtime::Own, batch, "own"),
            (StoreKind::Disk, Runtime::Own, batch, "own"),
            (StoreKind::Memory, Runtime::Stateright, batch, "stateright"),
            (StoreKind::Memory, Runtime::Stateright, 1, "stateright, batches of one"),
        ] {
            let one = Arguments { clients, store, runtime, max_batch, ..arguments.clone() };
            let mut measured = in_a_process(&one)?;
            if let Some(earlier) = earlier {
                let ratios = earlier.ratios(&measured)?;
                compared.push(format!("{clients} clients, {store:?}, {shown}: {}", in_words(&ratios)));
                for (name, ratio) in ratios {
                    measured[format!("{name}_ratio")] = ratio.into();
                }
            }
            let number = |name: &str| measured[name].as_f64().unwrap_or(f64::NAN);
            let limit = number("limit_requests_per_s");
            let row = format!(
                "| {clients} | {} | {shown} | {:.0} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} % of {limit:.0} |",
                if store == StoreKind::Disk { "disk" } else { "memory" },
                number("requests_per_s"),
                number("p50_ms"),
                number("p99_ms"),
                number("max_ms"),
                number("cpu_us_per_request"),
                100.0 * number("requests_per_s") / limit
            );
            if shows {
                say!("{row}");
            }
            if runtime == Runtime::Own {
                let phases = ["sign", "verify", "other_steps", "send", "store", "clients"];
                let phases = phases.map(|p| format!("{p} {:.0}", number(&format!("{p}_us_per_request"))));
                details.push(format!("{clients} clients, {store:?}: {}", phases.join(", ")));
            }
            rows.push(measured);
        }
    }
    if let Some(path) = &arguments.plot {
        plot::write(path, &rows)?;
    }
    if shows {
        say!("\nProcessor time by phase, in microseconds a request:\n");
        details.iter().for_each(|line| say!("- {}", line.to_lowercase()));
        if !compared.is_empty() {
            say!("\nBeside the earlier run:\n");
            compared.iter().for_each(|line| say!("- {}", line.to_lowercase()));
        }
    } else {
        say!("{}", Value::Array(rows));
    }
    Ok(ExitCode::SUCCESS)
}

/// Each measurement in a process of its own: stateright's threads never end.
fn in_a_process(one: &Arguments) -> Result<Value, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let value = |kind: &dyn std::fmt::Debug| format!("{kind:?}").to_lowercase();
    let output = std::process::Command::new(program)
        .args(["bench", "--json", "--clients", &one.clients.to_string()])
        .args(["--seconds", &one.seconds.to_string(), "--size", &one.size.to_string()])
        .args(["--replicas", &one.replicas.to_string(), "--max-batch", &one.max_batch.to_string()])
        .args(["--max-in-flight", &one.max_in_flight.to_string(), "--workers", &one.workers.to_string()])
        .args(["--store", &value(&one.store), "--runtime", &value(&one.runtime)])
        .output()
        .map_err(|error| format!("cannot start a measurement: {error}"))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("a measurement failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
