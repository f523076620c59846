//! What a signature covers: everything.
//!
//! The adversary shows signatures under other messages only where that was thought of. So that nothing rests
//! on that, each run checks for every message that is signed in it that the signature is valid for no message
//! that differs in one field: *binding*, a condition.

use super::explored::World;
use crate::crypto::{Keys, Symbolic};
use crate::lazy::Conditions;
use pbft::crypto::{Content, Signed};
use pbft::message::{
    Checkpoint, Commit, Fetch, Message, NewView, PrePrepare, Prepare, Reply, Request, Status, ViewChange,
    Wanted,
};
use pbft::types::{Bytes, ClientId, Digest, ReplicaId, SeqNo, Timestamp, View};

/// The name of the condition.
const BINDING: &str = "binding";

/// What else could be said, each with one field different.
trait Varied: Content + Sized {
    fn variants(&self) -> Vec<Self>;
}

fn view(view: View) -> [View; 2] {
    [View(view.0 + 1), View(view.0.wrapping_sub(1))]
}

fn n(n: SeqNo) -> [SeqNo; 2] {
    [SeqNo(n.0 + 1), SeqNo(n.0.wrapping_sub(1))]
}

fn digest(digest: Digest) -> [Digest; 2] {
    let (mut first, mut last) = (digest, digest);
    first.0[0] ^= 1;
    last.0[31] ^= 1;
    [first, last]
}

fn replica(replica: ReplicaId) -> [ReplicaId; 2] {
    [ReplicaId(replica.0 + 1), ReplicaId(replica.0.wrapping_sub(1))]
}

macro_rules! varied {
    ($($kind:ty { $($field:ident: $others:expr),* $(,)? })*) => {$(
        impl Varied for $kind {
            fn variants(&self) -> Vec<Self> {
                let mut all = Vec::new();
                $(
                    #[allow(clippy::redundant_closure_call, reason = "what else a field can be is a function of it")]
                    all.extend(($others)(self.$field.clone()).into_iter().map(|$field| {
                        let mut other = self.clone();
                        other.$field = $field;
                        other
                    }));
                )*
                all
            }
        }
    )*};
}

/// The list without its last element, and with it twice.
fn list<T: Clone>(list: Vec<T>) -> Vec<Vec<T>> {
    let Some(last) = list.last().cloned() else { return Vec::new() };
    let turned = list.iter().rev().cloned().collect();
    let mut all = vec![list[..list.len() - 1].to_vec(), [&list[..], &[last]].concat()];
    if list.len() > 1 {
        all.push(turned);
    }
    all
}

fn bytes(bytes: Bytes) -> [Bytes; 1] {
    [Bytes::from([&bytes[..], b"!"].concat())]
}

varied! {
    Request {
        operation: bytes,
        timestamp: |t: Timestamp| [Timestamp(t.0 + 1)],
        client: |c: ClientId| [ClientId(c.0 + 1)],
        read_only: |read_only: bool| [!read_only],
    }
    PrePrepare { view: view, n: n, digest: digest }
    Prepare { view: view, n: n, digest: digest, replica: replica }
    Commit { view: view, n: n, digest: digest, replica: replica }
    Checkpoint { n: n, digest: digest, replica: replica }
    ViewChange<Symbolic> {
        view: view,
        n: n,
        stable: |stable: Option<_>| stable.is_some().then_some(None),
        prepared: list,
        replica: replica,
    }
    NewView<Symbolic> { view: view, view_changes: list, pre_prepares: list }
    Reply {
        view: view,
        timestamp: |t: Timestamp| [Timestamp(t.0 + 1)],
        client: |c: ClientId| [ClientId(c.0 + 1)],
        replica: replica,
        result: bytes,
    }
    Status {
        view: view,
        leaving: |leaving: Option<View>| [leaving.map_or(Some(View(1)), |_| None)],
        stable: n,
        executed: n,
        pre_prepared: list,
        prepared: list,
        replica: replica,
    }
    Fetch {
        what: |what: Wanted| match what {
            Wanted::Batch(digest) => [Wanted::Block(digest)],
            Wanted::Block(digest) => [Wanted::Batch(digest)],
        },
        replica: replica,
    }
}

impl World {
    /// Checks the condition for everything that has been on the network at some time.
    pub(super) fn check_binding(&self) -> Conditions {
        let mut conditions = Conditions::default();
        let keys = self.tables.setup(self.correct[0]).keys.clone();
        for id in self.network.ever_available() {
            check_message(self.tables.message(id), &keys, &mut conditions);
        }
        conditions
    }
}

fn check_message(message: &Message<Symbolic>, keys: &Keys, conditions: &mut Conditions) {
    match message {
        Message::Request(m) => check(m, keys, conditions),
        Message::PrePrepare(m, _) => check(m, keys, conditions),
        Message::Prepare(m) => check(m, keys, conditions),
        Message::Commit(m) => check(m, keys, conditions),
        Message::Checkpoint(m) => check(m, keys, conditions),
        Message::ViewChange(m) => check(m, keys, conditions),
        Message::NewView(m) => {
            check(m, keys, conditions);
            m.content.view_changes.iter().for_each(|inner| check(inner, keys, conditions));
            m.content.pre_prepares.iter().for_each(|entry| check(entry, keys, conditions));
        }
        Message::Reply(m) => check(m, keys, conditions),
        Message::Status(m) => check(m, keys, conditions),
        Message::Fetch(m) => check(m, keys, conditions),
        Message::Batch(_) | Message::Block(_) | Message::Stable(_) => {}
    }
}

fn check<T: Varied + std::fmt::Debug + PartialEq>(
    signed: &Signed<T, Symbolic>,
    keys: &Keys,
    conditions: &mut Conditions,
) {
    if !signed.signature_is_valid(keys) {
        return;
    }
    for content in signed.content.variants().into_iter().filter(|content| *content != signed.content) {
        let other: Signed<T, Symbolic> =
            Signed { content, signer: signed.signer, signature: signed.signature };
        conditions.note(BINDING, !other.signature_is_valid(keys), || {
            format!("the signature of {:?} is that of {:?} too", signed.content, other.content)
        });
    }
}
