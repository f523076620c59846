//! One operation on the key-value store: as it is typed, and what is told of its outcome.

use crate::say;
use pbft::kv::{Operation, Outcome};
use pbft::parameters::{MAX_BATCH_BYTES, MAX_RESULT_BYTES};
use pbft::types::Bytes;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// One operation.
#[derive(Clone, clap::Subcommand)]
pub enum Request {
    /// The value of a key. Examples: get greeting; get picture --output picture.png
    Get {
        /// The key.
        key: String,
        /// Write the bytes of the value and nothing else; otherwise a line of text.
        #[arg(long, conflicts_with = "output")]
        raw: bool,
        /// Write them to this file.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Sets a key. Examples: put greeting hello; put picture --file picture.png; put picture - < picture.png
    Put {
        /// The key.
        key: String,
        /// Its new value; - takes it from standard input.
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        value: Option<String>,
        /// Take the new value from this file.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Removes a key. Example: delete greeting
    Delete {
        /// The key.
        key: String,
    },
    /// Sets or removes a key if it has a given value, or none. Examples: cas greeting hello goodbye; cas
    /// greeting
    /// --absent hello; cas greeting hello --delete
    Cas {
        /// The key.
        key: String,
        /// The value it must have, and then its new value; - takes the new one from standard input.
        #[arg(num_args = 0..=2)]
        values: Vec<String>,
        /// The key must have no value.
        #[arg(long)]
        absent: bool,
        /// Take the new value from this file.
        #[arg(long, value_name = "FILE", conflicts_with = "delete")]
        file: Option<PathBuf>,
        /// Remove the key instead of setting it.
        #[arg(long)]
        delete: bool,
    },
}

/// What standard input is.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Input {
    /// What a value can be taken from.
    Value,
    /// The lines of the prompt.
    Prompt,
}

impl Request {
    /// What the replicas are asked for.
    ///
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn operation(&self, input: Input) -> Result<Operation, String> {
        let bytes = |text: &String| Bytes::from(text.as_bytes());
        Ok(match self {
            Request::Get { key, .. } => Operation::Get { key: bytes(key) },
            Request::Put { key, value, file } => {
                let value = match file {
                    Some(path) => from_file(path)?,
                    None => typed(value.as_deref().unwrap_or_default(), input)?,
                };
                Operation::Put { key: bytes(key), value }
            }
            Request::Delete { key } => Operation::Delete { key: bytes(key) },
            Request::Cas { key, values, absent, file, delete } => {
                let mut values = values.iter();
                let expected = if *absent { None } else { Some(bytes(values.next().ok_or(CAS)?)) };
                let new = match file {
                    _ if *delete => None,
                    Some(path) => Some(from_file(path)?),
                    None => Some(typed(values.next().ok_or(CAS)?, input)?),
                };
                if values.next().is_some() {
                    return Err(CAS.into());
                }
                Operation::CompareAndSwap { key: bytes(key), expected, new }
            }
        })
    }

    /// Tells what has come of it.
    ///
    /// # Errors
    /// If the value cannot be written where it is to go.
    pub fn tell(&self, outcome: &Outcome) -> Result<ExitCode, String> {
        match (self, outcome) {
            (Request::Get { raw, output, .. }, Outcome::Value(Some(value))) => {
                show(value, *raw, output.as_deref())?;
            }
            (Request::Get { .. } | Request::Delete { .. }, Outcome::Value(None)) => {
                eprintln!("pbft: there is no such key");
                return Ok(ExitCode::from(1));
            }
            (Request::Get { .. }, Outcome::CutOff) => {
                eprintln!(
                    "pbft: the value cannot be read: it was stored by an earlier version, and is longer than the \
                     {MAX_RESULT_BYTES} bytes of a result; it can be replaced or deleted"
                );
                return Ok(ExitCode::from(1));
            }
            // The value before is all that can be so long.
            (_, Outcome::Value(_) | Outcome::CutOff) => say!("done"),
            (_, Outcome::Swapped(true)) => say!("swapped"),
            (_, Outcome::Swapped(false)) => {
                let absent = matches!(self, Request::Cas { absent: true, .. });
                say!(
                    "not swapped: the key has {}",
                    if absent { "a value" } else { "another value, or none" }
                );
                return Ok(ExitCode::from(1));
            }
            (_, Outcome::TooLong { limit }) => {
                eprintln!(
                    "pbft: nothing was changed: the value is longer than {limit} bytes and could not be read again; \
                     put less under one key"
                );
                return Ok(ExitCode::from(2));
            }
            (_, Outcome::Malformed) => {
                eprintln!("pbft: the service does not understand the operation");
                return Ok(ExitCode::from(2));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

const CAS: &str = "cas takes the expected value or --absent, and then the new value, --file or --delete";

/// A value as it is on the command line.
fn typed(text: &str, input: Input) -> Result<Bytes, String> {
    match (text, input) {
        ("-", Input::Prompt) => {
            Err("standard input is the prompt here: give the value itself, or a file with --file".into())
        }
        ("-", Input::Value) => limited(io::stdin(), "standard input"),
        _ => Ok(Bytes::from(text.as_bytes())),
    }
}

fn from_file(path: &Path) -> Result<Bytes, String> {
    let shown = path.display().to_string();
    let file = File::open(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    limited(file, &shown)
}

/// Everything that can be read, if it is not more than any operation can hold.
fn limited(from: impl Read, name: &str) -> Result<Bytes, String> {
    let mut bytes = Vec::new();
    let most = MAX_BATCH_BYTES as u64;
    from.take(most + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot read {name}: {error}"))?;
    if bytes.len() > MAX_BATCH_BYTES {
        return Err(format!(
            "{name} has more than the {most} bytes of the longest operation: put less under one key"
        ));
    }
    Ok(Bytes::from(bytes))
}

fn show(value: &[u8], raw: bool, output: Option<&Path>) -> Result<(), String> {
    if let Some(path) = output {
        return fs::write(path, value).map_err(|error| format!("cannot write {}: {error}", path.display()));
    }
    if !raw {
        say!("{}", String::from_utf8_lossy(value));
        return Ok(());
    }
    let mut output = io::stdout().lock();
    output
        .write_all(value)
        .and_then(|()| output.flush())
        .map_err(|error| format!("cannot write the value: {error}"))
}
