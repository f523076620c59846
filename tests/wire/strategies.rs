//! Strategies for every message there can be, whatever its signatures.

use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::ed25519::{Ed25519, SharedSignature, Signature};
use pbft::crypto::form::Form;
use pbft::crypto::merkle::{MAX_DEPTH, Path, Sibling};
use pbft::crypto::{Content, Evidence, Signed};
use pbft::message::{
    Batch, Checkpoint, Commit, Fetch, Message, NewView, PrePrepare, Prepare, Reply, Request, Status,
    ViewChange, Wanted,
};
use pbft::types::{Bytes, ClientId, Digest, Principal, ReplicaId, SeqNo, Timestamp, View};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

use crate::Sent;

/// Numbers of every encoded length, one byte to ten.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift)
}

fn view() -> impl Strategy<Value = View> {
    number().prop_map(View)
}

fn seq_no() -> impl Strategy<Value = SeqNo> {
    number().prop_map(SeqNo)
}

fn replica() -> impl Strategy<Value = ReplicaId> {
    prop_oneof![4 => 0..7u16, 1 => any::<u16>()].prop_map(ReplicaId)
}

fn principal() -> impl Strategy<Value = Principal> {
    prop_oneof![
        replica().prop_map(Principal::Replica),
        any::<u32>().prop_map(|c| Principal::Client(ClientId(c)))
    ]
}

fn digest() -> impl Strategy<Value = Digest> {
    prop_oneof![1 => Just(Digest::NULL), 4 => any::<[u8; 32]>().prop_map(Digest)]
}

fn signature() -> impl Strategy<Value = Signature> {
    any::<([u8; 32], [u8; 32])>().prop_map(|(low, high)| {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&low);
        bytes[32..].copy_from_slice(&high);
        Signature(bytes)
    })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn path() -> impl Strategy<Value = Path> {
    let sibling = (any::<bool>(), digest()).prop_map(|(is_left, digest)| match is_left {
        true => Sibling::Left(digest),
        false => Sibling::Right(digest),
    });
    prop_oneof![vec(sibling.boxed(), 0..=MAX_DEPTH), Just(Vec::new())].prop_map(Path)
}

fn signed<T>(content: impl Strategy<Value = T>) -> impl Strategy<Value = Signed<T, Ed25519>>
where
    T: std::fmt::Debug + Content,
    T::Form: Form<Signature<Ed25519> = Signature>,
{
    (content, principal(), signature()).prop_map(|(content, signer, signature)| Signed {
        content,
        signer,
        signature,
    })
}

fn request() -> impl Strategy<Value = Signed<Request, Ed25519>> {
    let request = (bytes(), number(), any::<u32>(), any::<bool>());
    signed(request.prop_map(|(operation, timestamp, client, read_only)| Request {
        operation,
        timestamp: Timestamp(timestamp),
        client: ClientId(client),
        read_only,
    }))
}

fn pre_prepare() -> impl Strategy<Value = Signed<PrePrepare, Ed25519>> {
    signed((view(), seq_no(), digest()).prop_map(|(view, n, digest)| PrePrepare { view, n, digest }))
}

fn batch() -> impl Strategy<Value = Arc<Batch<Ed25519>>> {
    vec(request(), 0..3).prop_map(|requests| Arc::new(Batch { requests }))
}

fn evidence() -> impl Strategy<Value = Evidence<Signature>> {
    (proptest::option::of(signature()), vec((replica(), signature()), 0..4))
        .prop_map(|(proposal, votes)| Evidence { proposal, votes })
}

fn prepared() -> impl Strategy<Value = PreparedCertificate<Ed25519>> {
    (view(), seq_no(), digest(), evidence()).prop_map(|(view, n, digest, proof)| PreparedCertificate {
        view,
        n,
        digest,
        proof,
    })
}

fn stable() -> impl Strategy<Value = StableCertificate<Ed25519>> {
    (seq_no(), digest(), evidence()).prop_map(|(n, digest, proof)| StableCertificate { n, digest, proof })
}

fn view_change() -> impl Strategy<Value = Arc<Signed<ViewChange<Ed25519>, Ed25519>>> {
    let content = (view(), seq_no(), proptest::option::of(stable()), vec(prepared(), 0..3), replica());
    signed(content.prop_map(|(view, n, stable, prepared, replica)| ViewChange {
        view,
        n,
        stable,
        prepared,
        replica,
    }))
    .prop_map(Arc::new)
}

fn new_view() -> impl Strategy<Value = Arc<Signed<NewView<Ed25519>, Ed25519>>> {
    let content = (view(), vec(view_change(), 0..4), vec(pre_prepare(), 0..4));
    signed(content.prop_map(|(view, view_changes, pre_prepares)| NewView {
        view,
        view_changes: view_changes.into(),
        pre_prepares,
    }))
    .prop_map(Arc::new)
}

fn status() -> impl Strategy<Value = Status> {
    let lists = (vec(seq_no(), 0..9), vec(seq_no(), 0..9));
    (view(), proptest::option::of(view()), seq_no(), seq_no(), lists, replica()).prop_map(
        |(view, leaving, stable, executed, (pre_prepared, prepared), replica)| Status {
            view,
            leaving,
            stable,
            executed,
            pre_prepared,
            prepared,
            replica,
        },
    )
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![digest().prop_map(Wanted::Batch), digest().prop_map(Wanted::Block)]
}

fn vote() -> impl Strategy<Value = (View, SeqNo, Digest, ReplicaId)> {
    (view(), seq_no(), digest(), replica())
}

/// The number of variants of [`Message`].
pub const VARIANTS: u8 = 13;

/// A message of each variant, in the order of their tags.
pub fn messages() -> [BoxedStrategy<Sent>; VARIANTS as usize] {
    let prepare = vote().prop_map(|(view, n, digest, replica)| Prepare { view, n, digest, replica });
    let commit = vote().prop_map(|(view, n, digest, replica)| Commit { view, n, digest, replica });
    let checkpoint =
        (seq_no(), digest(), replica()).prop_map(|(n, digest, replica)| Checkpoint { n, digest, replica });
    let reply = (view(), number(), any::<u32>(), replica(), bytes()).prop_map(
        |(view, timestamp, client, replica, result)| Reply {
            view,
            timestamp: Timestamp(timestamp),
            client: ClientId(client),
            replica,
            result,
        },
    );
    let signed_reply =
        (reply, principal(), signature(), path()).prop_map(|(content, signer, signature, path)| Signed {
            content,
            signer,
            signature: SharedSignature { signature, path },
        });
    let fetch = (wanted(), replica()).prop_map(|(what, replica)| Fetch { what, replica });
    [
        request().prop_map(Message::Request).boxed(),
        (pre_prepare(), batch()).prop_map(|(m, batch)| Message::PrePrepare(m, batch)).boxed(),
        signed(prepare).prop_map(Message::Prepare).boxed(),
        signed(commit).prop_map(Message::Commit).boxed(),
        signed(checkpoint).prop_map(Message::Checkpoint).boxed(),
        view_change().prop_map(Message::ViewChange).boxed(),
        new_view().prop_map(Message::NewView).boxed(),
        signed_reply.prop_map(Message::Reply).boxed(),
        signed(status()).prop_map(Message::Status).boxed(),
        signed(fetch).prop_map(Message::Fetch).boxed(),
        batch().prop_map(Message::Batch).boxed(),
        bytes().prop_map(Message::Block).boxed(),
        stable().prop_map(Message::Stable).boxed(),
    ]
}

pub fn message() -> impl Strategy<Value = Sent> {
    proptest::strategy::Union::new(messages())
}
