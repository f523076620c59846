//! Who connects with whom, and on which terms.

use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The longest that anybody may take to say who he is.
pub(super) const GREETING: Duration = Duration::from_secs(5);
/// The most bytes of a greeting.
const LONGEST_GREETING: u64 = 1 << 20;
/// What a greeting begins with.
const PROTOCOL: &str = "pbft-levels workers 1";

/// How processes meet.
#[derive(Clone, Debug)]
pub struct Meeting {
    /// The address of each process, as host and port.
    pub hosts: Vec<String>,
    /// The number of this one.
    pub process: usize,
    /// What must be the same for all, each by its name: the program, the space, whatever the outcome depends
    /// on.
    pub terms: Vec<(String, String)>,
    /// How long to wait for the others.
    pub patience: Duration,
}

/// Who connects, and what for.
#[derive(Deserialize, Serialize)]
pub(super) struct Greeting {
    pub(super) protocol: String,
    pub(super) process: usize,
    pub(super) terms: Vec<(String, String)>,
    /// The number of the exploration, if it is for one.
    pub(super) exploration: Option<u64>,
}

/// What differs between the terms of two processes.
pub(super) fn difference(ours: &Meeting, process: usize, theirs: &Greeting) -> Result<(), String> {
    if theirs.protocol != PROTOCOL || theirs.process != process {
        return Err(format!("what answers for process {process} is another program, or another process"));
    }
    for (number, (name, own)) in ours.terms.iter().enumerate() {
        let other = theirs.terms.get(number).filter(|(other, _)| other == name).map(|(_, value)| value);
        if other != Some(own) {
            let other = other.map_or("nothing", String::as_str);
            return Err(format!(
                "process {process} was started with another {name} than process {}: {other}, not {own}",
                ours.process
            ));
        }
    }
    Ok(())
}

pub(super) fn write_greeting(
    socket: &mut TcpStream,
    meeting: &Meeting,
    exploration: Option<u64>,
) -> io::Result<()> {
    let (protocol, terms) = (PROTOCOL.to_owned(), meeting.terms.clone());
    let greeting = Greeting { protocol, process: meeting.process, terms, exploration };
    let bytes = serde_json::to_vec(&greeting)?;
    socket.write_all(&(bytes.len() as u64).to_le_bytes())?;
    socket.write_all(&bytes)
}

pub(super) fn read_greeting(socket: &mut TcpStream) -> io::Result<Greeting> {
    let mut length = [0; 8];
    socket.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_GREETING {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    socket.take(length).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}
