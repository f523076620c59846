//! REQUESTs that no client of the system has signed, and batches.

use super::Adversary;
use crate::crypto::Symbolic;
use pbft::crypto::Signed;
use pbft::message::{Batch, Message, Request};
use pbft::types::{Bytes, ClientId, Principal, Timestamp};
use std::sync::Arc;

type SignedRequest = Signed<Request, Symbolic>;

impl Adversary {
    /// Requests that a receiver must refuse: signed with another key, signed by somebody else than the client
    /// named, an outsider's own, changed after they were signed.
    pub(super) fn made_up_requests(&self, authentic: &[SignedRequest]) -> Vec<SignedRequest> {
        let ask = |operation: &[u8], client: ClientId| {
            let operation = Bytes::from(operation);
            Request { operation, timestamp: Timestamp(2), client, read_only: false }
        };
        let key = self.signers.first().expect("the outsider at least has a key");
        let forged = key.sign(ask(b"forged", ClientId(0)));
        let outsider = ClientId(self.judge.clients);
        let mut made_up = vec![
            Signed { signer: Principal::Client(ClientId(0)), ..forged.clone() },
            forged,
            Signed::new(ask(b"outsider", outsider), &self.outsiders_client),
            Signed::new(ask(b"forged", ClientId(0)), &self.outsiders_client),
        ];
        if let Some(genuine) = authentic.first() {
            let later = Request { timestamp: Timestamp(2), ..genuine.content.clone() };
            let read = Request { read_only: true, ..genuine.content.clone() };
            let another = Request { operation: Bytes::from(&b"forged"[..]), ..genuine.content.clone() };
            made_up.extend([later, read, another].map(|content| Signed { content, ..genuine.clone() }));
        }
        made_up
    }

    /// Every list of authentic requests, repetitions included, from one up to as many as a batch may have,
    /// and one of one more; and those with one that is made up, or with any number of such as receivers
    /// accept alone or after an authentic one. Each with whether it is sound.
    pub(super) fn batches(
        &self,
        authentic: &[SignedRequest],
        made_up: &[SignedRequest],
    ) -> Vec<(Arc<Batch<Symbolic>>, bool)> {
        let is_taken = |request: &&SignedRequest| {
            let first = [None].into_iter().chain(authentic.first().map(Some));
            first
                .map(|first| first.into_iter().chain([*request]).cloned().collect())
                .any(|requests| self.is_accepted(&Message::Batch(Arc::new(Batch { requests }))))
        };
        let taken: Vec<&SignedRequest> = made_up.iter().filter(is_taken).collect();
        let mut all: Vec<(Vec<SignedRequest>, bool)> = Vec::new();
        let mut longest: Vec<(Vec<SignedRequest>, bool)> = vec![(Vec::new(), true)];
        for _ in 0..self.bounds.max_batch {
            let mut longer = Vec::new();
            for (list, sound) in &longest {
                let and = |request: &SignedRequest| [&list[..], std::slice::from_ref(request)].concat();
                longer.extend(authentic.iter().map(|request| (and(request), *sound)));
                if *sound {
                    longer.extend(made_up.iter().map(|request| (and(request), false)));
                } else {
                    longer.extend(taken.iter().map(|request| (and(request), false)));
                }
            }
            all.extend(longer.iter().cloned());
            longest = longer;
        }
        if let Some(request) = authentic.first() {
            all.push((vec![request.clone(); self.bounds.max_batch + 1], false));
        }
        all.into_iter().map(|(requests, is_sound)| (Arc::new(Batch { requests }), is_sound)).collect()
    }
}
