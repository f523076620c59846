//! What the applications of clients that are part of a world do.

use super::WorldConfig;
use crate::crypto::{Keys, Symbolic};
use pbft::crypto::Signed;
use pbft::message::Request;
use pbft::types::{Bytes, ClientId, Timestamp};

/// What a call asks for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Call {
    /// To append something that tells this call from all others.
    Write,
    /// How much has been appended: first without order, and if that finds no quorum in order.
    Read,
}

/// The most calls of one client.
pub const MAX_CALLS: usize = 4;

/// What the clients of a world ask for, one call after the other; each begins at any time after the one
/// before has ended, or was given up.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Application {
    /// The calls of each client.
    pub calls: Vec<Vec<Call>>,
    /// Whether a client may give up a call at any time: it starts again from what is durable, and what it
    /// asked for may still take effect.
    pub gives_up: bool,
    /// Whether there is a further client, Byzantine: on the network are, from the start, two operations that
    /// it has signed under one timestamp and another one under a timestamp far ahead.
    pub rogue: bool,
}

impl Application {
    /// Reads `wr.w`: client 0 writes and then reads, client 1 writes; with `g` after a dash clients may give
    /// up, with `z` there is a Byzantine client: `wr.w-gz`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (calls, more) = text.split_once('-').unwrap_or((text, ""));
        let call = |letter: char| match letter {
            'w' => Ok(Call::Write),
            'r' => Ok(Call::Read),
            _ => Err(format!("{letter:?} is no call: w writes and r reads, as in wr.w")),
        };
        let calls = calls.split('.').map(|client| client.chars().map(call).collect());
        let calls: Vec<Vec<Call>> = calls.collect::<Result<_, _>>()?;
        if calls.iter().any(|of| of.is_empty() || of.len() > MAX_CALLS) {
            return Err(format!("each client has from 1 to {MAX_CALLS} calls, as in wr.w"));
        }
        if let Some(letter) = more.chars().find(|letter| !"gz".contains(*letter)) {
            return Err(format!(
                "{letter:?} after the dash is neither g (gives up) nor z (a Byzantine client)"
            ));
        }
        Ok(Application { calls, gives_up: more.contains('g'), rogue: more.contains('z') })
    }

    /// What [`Application::parse`] reads.
    pub fn name(&self) -> String {
        let letter = |call: &Call| if *call == Call::Write { 'w' } else { 'r' };
        let calls: Vec<String> = self.calls.iter().map(|of| of.iter().map(letter).collect()).collect();
        let mut name = calls.join(".");
        if self.gives_up || self.rogue {
            name.push('-');
        }
        name.extend(self.gives_up.then_some('g').into_iter().chain(self.rogue.then_some('z')));
        name
    }

    /// What it says in words: `c0 writes, then reads; c1 writes`.
    pub fn in_words(&self) -> String {
        let word = |call: &Call| if *call == Call::Write { "writes" } else { "reads" };
        let of = |(client, calls): (usize, &Vec<Call>)| {
            let calls: Vec<&str> = calls.iter().map(word).collect();
            format!("c{client} {}", calls.join(", then "))
        };
        let mut all: Vec<String> = self.calls.iter().enumerate().map(of).collect();
        all.extend(self.gives_up.then(|| "each may give up a call at any time".to_string()));
        all.extend(self.rogue.then(|| format!("c{} is Byzantine", self.clients())));
        all.join("; ")
    }

    /// How many correct clients there are.
    pub fn clients(&self) -> u32 {
        u32::try_from(self.calls.len()).expect("a world has few clients")
    }

    /// Whether somebody reads.
    pub fn reads(&self) -> bool {
        self.calls.iter().flatten().any(|&call| call == Call::Read)
    }

    /// The timestamps that a client's request for a call can have at first: a read takes one more if it has to
    /// be ordered.
    fn timestamps(calls: &[Call], number: usize) -> impl Iterator<Item = Timestamp> + use<> {
        let reads = calls[..number].iter().filter(|&&call| call == Call::Read).count();
        (number + 1..=number + 1 + reads).map(|t| Timestamp(t as u64))
    }

    /// Every request that a correct client may sign.
    pub(super) fn requests(&self) -> Vec<Request> {
        let mut all: Vec<Request> = Vec::new();
        for (client, calls) in (0..).map(ClientId).zip(&self.calls) {
            for (number, &call) in calls.iter().enumerate() {
                let operation = operation(client, number, call);
                for timestamp in Self::timestamps(calls, number) {
                    let request =
                        Request { operation: operation.clone(), timestamp, client, read_only: false };
                    if call == Call::Write {
                        all.push(request);
                        continue;
                    }
                    all.push(Request { read_only: true, ..request.clone() });
                    all.push(Request { timestamp: Timestamp(timestamp.0 + 1), ..request });
                }
            }
        }
        all.sort_by_key(|request| (request.client, request.timestamp, request.read_only));
        all.dedup();
        all
    }

    /// What the Byzantine client has signed.
    fn rogue_requests(&self) -> Vec<Request> {
        let client = ClientId(self.clients());
        let ask = |operation: &str, timestamp| Request {
            operation: Bytes::from(operation.as_bytes()),
            timestamp: Timestamp(timestamp),
            client,
            read_only: false,
        };
        if self.rogue { vec![ask("x", 1), ask("y", 1), ask("z", 1 << 40)] } else { Vec::new() }
    }
}

/// What a client asks for by one of its calls, counted from 0.
pub(super) fn operation(client: ClientId, number: usize, call: Call) -> Bytes {
    match call {
        Call::Write => Bytes::from(format!("op{}.{}", client.0, number + 1).into_bytes()),
        Call::Read => Bytes::from(crate::ledger::READ),
    }
}

impl WorldConfig {
    /// Every request that somebody who owns its key may have signed: what correct clients may ask for, and
    /// what a Byzantine one has signed.
    pub fn all_signed(&self) -> Vec<Signed<Request, Symbolic>> {
        let Some(application) = &self.application else { return self.signed_requests() };
        self.signed(application.requests().into_iter().chain(application.rogue_requests()))
    }

    /// Those of a Byzantine client, which are on the network from the start.
    pub(super) fn signed_by_rogue(&self) -> Vec<Signed<Request, Symbolic>> {
        let requests = self.application.iter().flat_map(Application::rogue_requests);
        self.signed(requests)
    }

    fn signed(&self, requests: impl Iterator<Item = Request>) -> Vec<Signed<Request, Symbolic>> {
        let n = u16::try_from(self.cluster.n()).expect("a cluster's size fits in 16 bits");
        let (_, keys) = Keys::all(n, self.members());
        requests
            .map(|request| {
                let keys = &keys[request.client.0 as usize];
                Signed::new(request, keys)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_named_as_it_is_read() {
        for name in ["w", "wr.w", "rw.r-g", "w.w-gz"] {
            assert_eq!(Application::parse(name).unwrap().name(), name);
        }
        for wrong in ["", "w.", "x", "w-q", "wwwww"] {
            assert!(Application::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_read_that_falls_back_moves_the_timestamps_of_later_calls() {
        let requests = Application::parse("rw").unwrap().requests();
        let told: Vec<_> = requests.iter().map(|r| (r.timestamp.0, r.read_only, r.operation.len())).collect();
        // The read at 1, in order at 2; the write at 2, or at 3 after a read in order.
        assert_eq!(told, [(1, true, 4), (2, false, 4), (2, false, 5), (3, false, 5)]);
    }
}
