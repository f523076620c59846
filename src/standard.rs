//! What is deployed: ed25519 signatures, the paper's rules, and a service of yours.

use crate::crypto::ed25519::Ed25519;
use crate::replica::Bundle;
use crate::rules::Pbft;
use crate::service::Service;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// The [`Bundle`] to embed: [`Ed25519`], [`Pbft`] and the service `S`.
///
/// It has no values worth having; `Replica<Standard<S>>` and `Setup<Standard<S>>` are what it is for.
pub struct Standard<S>(PhantomData<fn() -> S>);

impl<S: Service> Bundle for Standard<S> {
    type Crypto = Ed25519;
    type Service = S;
    type Rules = Pbft;
}

// Derived, these would ask the same of the service.

impl<S> Clone for Standard<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Standard<S> {}

impl<S> fmt::Debug for Standard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Standard")
    }
}

impl<S> PartialEq for Standard<S> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<S> Eq for Standard<S> {}

impl<S> PartialOrd for Standard<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<S> Ord for Standard<S> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

impl<S> Hash for Standard<S> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
