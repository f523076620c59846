//! A measurement beside an earlier one of the same.

use serde_json::Value;
use std::path::Path;

/// What two measurements must have in common to be compared.
const SAME: [&str; 11] = [
    "clients",
    "outstanding",
    "rate",
    "size",
    "store",
    "journal",
    "runtime",
    "replicas",
    "max_batch",
    "max_in_flight",
    "workers",
];

/// What is compared: its name, and in which words.
const COMPARED: [(&str, &str); 5] = [
    ("requests_per_s", "requests/s"),
    ("p50_ms", "p50"),
    ("p99_ms", "p99"),
    ("max_ms", "maximum"),
    ("cpu_us_per_request", "processor time a request"),
];

/// Measurements of an earlier run.
pub struct Earlier(Vec<Value>);

impl Earlier {
    /// Reads what `pbft bench --json`, with or without `--table`, has printed.
    ///
    /// # Errors
    /// A sentence, if the file cannot be read or is something else.
    pub fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            format!("cannot read {shown}: {error}; --compare takes a file that `pbft bench --json` printed")
        })?;
        let rows = match serde_json::from_str(&text) {
            Ok(Value::Array(rows)) => rows,
            Ok(row) => vec![row],
            Err(_) => Vec::new(),
        };
        if rows.is_empty() || !rows.iter().all(|row| row["requests_per_s"].is_number()) {
            return Err(format!("{shown} is not what `pbft bench --json` prints: compare with such a file"));
        }
        Ok(Earlier(rows))
    }

    /// The ratios of a measurement to the earlier one with the same options, by name.
    ///
    /// # Errors
    /// A sentence, if there is none.
    pub fn ratios(&self, now: &Value) -> Result<Vec<(&'static str, f64)>, String> {
        let is_same = |before: &&Value| SAME.iter().all(|name| before[*name] == now[*name]);
        let Some(before) = self.0.iter().find(is_same) else {
            let options = SAME.map(|name| format!("{name} {}", now[name]));
            return Err(format!(
                "no earlier measurement has the same options as this one: {}",
                options.join(", ")
            ));
        };
        let ratio = |name: &str| Some(now[name].as_f64()? / before[name].as_f64()?);
        Ok(COMPARED.iter().filter_map(|&(name, _)| Some((name, ratio(name)?))).collect())
    }
}

/// The ratios in words.
pub fn in_words(ratios: &[(&'static str, f64)]) -> String {
    let name = |name: &str| COMPARED.iter().find(|(of, _)| *of == name).map_or("", |(_, words)| words);
    let parts = ratios.iter().map(|(of, ratio)| format!("{} {ratio:.2}", name(of)));
    format!("times what it was: {}", parts.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(clients: u32, rate: f64) -> Value {
        json!({ "clients": clients, "store": "memory", "requests_per_s": rate, "p50_ms": 2.0, "cpu_us_per_request": null })
    }

    #[test]
    fn a_measurement_is_compared_with_that_of_the_same_options_and_with_no_other() {
        let earlier = Earlier(vec![row(1, 100.0), row(16, 1000.0)]);
        let ratios = earlier.ratios(&row(16, 1500.0)).expect("it is there");
        assert_eq!(ratios, [("requests_per_s", 1.5), ("p50_ms", 1.0)]);
        assert_eq!(in_words(&ratios), "times what it was: requests/s 1.50, p50 1.00");
        let refused = earlier.ratios(&row(64, 1.0)).expect_err("there is none");
        assert!(refused.contains("clients 64"), "{refused}");
    }

    #[test]
    fn what_is_no_measurement_is_refused_in_a_sentence() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("earlier.json");
        for (text, is_one) in [("", false), ("[]", false), ("{}", false), ("[{\"requests_per_s\": 1}]", true)]
        {
            std::fs::write(&file, text).expect("it is written");
            assert_eq!(Earlier::read(&file).is_ok(), is_one, "{text}");
        }
        assert!(Earlier::read(&directory.path().join("none")).is_err());
    }
}
