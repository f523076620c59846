//! What a signature covers: everything.
//!
//! The adversary shows signatures under other messages only where that was thought of. So that nothing rests
//! on that, each run but those by layers checks for every message that is signed in it that the signature is
//! valid for no message that differs in one field, or in one field of something in its lists: *binding*, a
//! condition.

use super::explored::World;
use crate::crypto::{Keys, Symbolic};
use crate::lazy::Conditions;
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::{Content, Signed};
use pbft::message::{
    Checkpoint, Commit, Fetch, Message, NewView, PrePrepare, Prepare, Reply, Request, Status, ViewChange,
    Wanted,
};
use pbft::replica::ViewChangeSet;
use pbft::types::{Bytes, ClientId, Digest, ReplicaId, SeqNo, Timestamp, View};
use std::sync::Arc;

/// The name of the condition.
pub(crate) const BINDING: &str = "binding";

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

/// Something in a list, and what else it could be.
trait Element: Clone {
    fn others(&self) -> Vec<Self>;
}

impl Element for SeqNo {
    fn others(&self) -> Vec<Self> {
        n(*self).to_vec()
    }
}

impl Element for PreparedCertificate<Symbolic> {
    fn others(&self) -> Vec<Self> {
        let views = view(self.view).map(|view| PreparedCertificate { view, ..self.clone() });
        let numbers = n(self.n).map(|n| PreparedCertificate { n, ..self.clone() });
        let digests = digest(self.digest).map(|digest| PreparedCertificate { digest, ..self.clone() });
        [views, numbers, digests].concat()
    }
}

impl<T: Varied + Clone> Element for Signed<T, Symbolic> {
    fn others(&self) -> Vec<Self> {
        let other = |content| Signed { content, signer: self.signer, signature: self.signature.clone() };
        self.content.variants().into_iter().map(other).collect()
    }
}

impl<T: Element> Element for Arc<T> {
    fn others(&self) -> Vec<Self> {
        T::others(self).into_iter().map(Arc::new).collect()
    }
}

/// No checkpoint, or another one.
fn stable(stable: Option<StableCertificate<Symbolic>>) -> Vec<Option<StableCertificate<Symbolic>>> {
    let Some(stable) = stable else { return Vec::new() };
    let numbers = n(stable.n).map(|n| Some(StableCertificate { n, ..stable.clone() }));
    let digests = digest(stable.digest).map(|digest| Some(StableCertificate { digest, ..stable.clone() }));
    [None].into_iter().chain(numbers).chain(digests).collect()
}

/// The list without its last element, with it twice, turned round, and with each element as something else.
fn list<T: Element>(list: Vec<T>) -> Vec<Vec<T>> {
    let Some(last) = list.last().cloned() else { return Vec::new() };
    let turned = list.iter().rev().cloned().collect();
    let mut all = vec![list[..list.len() - 1].to_vec(), [&list[..], &[last]].concat()];
    if list.len() > 1 {
        all.push(turned);
    }
    for (place, element) in list.iter().enumerate() {
        all.extend(element.others().into_iter().map(|other| {
            let mut list = list.clone();
            list[place] = other;
            list
        }));
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
        stable: stable,
        prepared: list,
        replica: replica,
    }
    NewView<Symbolic> {
        view: view,
        view_changes: |v: ViewChangeSet<Symbolic>| list(v.to_vec()).into_iter().map(ViewChangeSet::from),
        pre_prepares: list,
    }
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
            Signed { content, signer: signed.signer, signature: signed.signature.clone() };
        conditions.note(BINDING, !other.signature_is_valid(keys), || {
            format!("the signature of {:?} is that of {:?} too", signed.content, other.content)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Delivery, WorldConfig};
    use pbft::types::Cluster;

    #[test]
    fn every_field_is_varied_and_a_signature_of_less_is_noticed() {
        let world =
            World::new(WorldConfig::new(Cluster::new(4, 1), 1), Delivery::Lazy).expect("it makes sense");
        let setup = world.tables.setup(world.correct[0]);
        let vote = Prepare { view: View(1), n: SeqNo(1), digest: Digest([1; 32]), replica: setup.id };
        let changed = |pick: fn(&Prepare) -> bool| vote.variants().iter().filter(|other| pick(other)).count();
        assert_eq!(changed(|other| other.view != View(1)), 2);
        assert_eq!(changed(|other| other.n != SeqNo(1)), 2);
        assert_eq!(changed(|other| other.digest != Digest([1; 32])), 2);
        assert_eq!(vote.variants().len(), 8);
        let mut conditions = Conditions::default();
        check(&setup.sign(vote), &setup.keys, &mut conditions);
        assert_eq!(conditions.counts[BINDING], (8, 0));
        // As if the view were not signed: what says another view has the same bytes.
        let blind = Blind(vote);
        check(&setup.sign(blind), &setup.keys, &mut conditions);
        assert_eq!(conditions.counts[BINDING], (16, 2));
    }

    /// A PREPARE whose view is not signed.
    #[derive(Clone, Debug, PartialEq, serde::Serialize)]
    struct Blind(Prepare);

    impl Content for Blind {
        const TAG: u8 = 99;
        type Form = pbft::crypto::form::Single;
        fn sender(&self) -> Option<pbft::types::Principal> {
            self.0.sender()
        }
        fn to_be_signed(&self) -> Vec<u8> {
            Prepare { view: View(0), ..self.0 }.to_be_signed()
        }
    }

    impl Varied for Blind {
        fn variants(&self) -> Vec<Self> {
            self.0.variants().into_iter().map(Blind).collect()
        }
    }
}
