//! Where replies to clients go.

use super::control::Hello;
use crate::crypto::{Crypto, Signed};
use crate::rejection::Rejection;
use crate::replica::verify::Membership;
use crate::rules::Rules;
use crate::types::{ClientId, Timestamp};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The address of each client that has said where it is: at most one a registered client.
#[derive(Debug, Default)]
pub struct Addresses {
    /// With the clock of the message that told it.
    known: Mutex<BTreeMap<ClientId, (SocketAddr, Timestamp)>>,
}

impl Addresses {
    /// Takes note of where a client is; one that is not newer than what is known changes nothing.
    ///
    /// # Errors
    /// If it is not the client's own.
    pub fn hear<C: Crypto, R: Rules>(
        &self,
        members: &Membership<'_, C, R>,
        from: SocketAddr,
        hello: &Signed<Hello, C>,
    ) -> Result<(), Rejection> {
        let Hello { client, clock } = hello.content;
        if self.lock().get(&client).is_some_and(|&(_, known)| known >= clock) {
            return Ok(());
        }
        // The signature is checked without the lock; another thread may have heard a newer one meanwhile.
        members.check(hello)?;
        let mut known = self.lock();
        if known.get(&client).is_none_or(|&(_, known)| clock > known) {
            known.insert(client, (from, clock));
        }
        Ok(())
    }

    /// Where a client is, if it has said so.
    pub fn get(&self, client: ClientId) -> Option<SocketAddr> {
        self.lock().get(&client).map(|&(address, _)| address)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClientId, (SocketAddr, Timestamp)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
