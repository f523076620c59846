//! The messages of the paper, in its order of fields, and the few it leaves to the implementer
//! (status, fetching, state transfer).

use crate::certificate::{PreparedCertificate, StableCertificate};
use crate::crypto::form::{SignedTogether, Single, VerifiedTogether};
use crate::crypto::{Content, Crypto, Signed};
use crate::replica::ViewChangeSet;
use crate::types::{Bytes, ClientId, Digest, Principal, ReplicaId, SeqNo, Timestamp, View};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// `<REQUEST, o, t, c>`: a client asks for an operation. Source: OSDI'99 §4.1.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Request {
    /// `o`, opaque to the protocol; at most the configured bytes of a batch.
    pub operation: Bytes,
    /// `t`, ordering the client's requests.
    pub timestamp: Timestamp,
    /// `c`.
    pub client: ClientId,
    /// Whether to answer from the current state without ordering. Source: OSDI'99 §5.1.
    pub read_only: bool,
}

/// `<PRE-PREPARE, v, n, d>`: the primary of `v` assigns `n` to the batch with digest `d`.
/// Source: OSDI'99 §4.2.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct PrePrepare {
    /// `v`.
    pub view: View,
    /// `n`.
    pub n: SeqNo,
    /// `d`.
    pub digest: Digest,
}

/// `<PREPARE, v, n, d, i>`: backup `i` agrees with the assignment. Source: OSDI'99 §4.2.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Prepare {
    /// `v`.
    pub view: View,
    /// `n`.
    pub n: SeqNo,
    /// `d`.
    pub digest: Digest,
    /// `i`.
    pub replica: ReplicaId,
}

/// `<COMMIT, v, n, d, i>`: the batch is prepared at `i`. Source: OSDI'99 §4.2.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Commit {
    /// `v`.
    pub view: View,
    /// `n`.
    pub n: SeqNo,
    /// `d`.
    pub digest: Digest,
    /// `i`.
    pub replica: ReplicaId,
}

/// `<CHECKPOINT, n, d, i>`: `d` is the digest of `i`'s state after executing `n`. Source: OSDI'99 §4.3.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Checkpoint {
    /// `n`, a multiple of the checkpoint interval.
    pub n: SeqNo,
    /// `d`, of the service state and the client table.
    pub digest: Digest,
    /// `i`.
    pub replica: ReplicaId,
}

/// `<VIEW-CHANGE, v+1, n, C, P, i>`: `i` has left view `v`. Source: OSDI'99 §4.4.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct ViewChange<C: Crypto> {
    /// The view to change to.
    pub view: View,
    /// `n`, the last stable checkpoint known to `i`.
    pub n: SeqNo,
    /// `C`, the proof that it is stable; none for the initial state, `n = 0`.
    pub stable: Option<StableCertificate<C>>,
    /// `P`, one certificate for each sequence number above `n` that prepared at `i`, ascending.
    pub prepared: Vec<PreparedCertificate<C>>,
    /// `i`.
    pub replica: ReplicaId,
}

/// `<NEW-VIEW, v+1, V, O>`: the primary of the new view proves it and carries over what prepared.
/// Source: OSDI'99 §4.4.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct NewView<C: Crypto> {
    /// The view entered.
    pub view: View,
    /// `V`, a quorum of VIEW-CHANGEs for this view from distinct replicas.
    pub view_changes: ViewChangeSet<C>,
    /// `O`, a PRE-PREPARE for each sequence number above min-s up to max-s, ascending.
    pub pre_prepares: Vec<Signed<PrePrepare, C>>,
}

/// `<REPLY, v, t, c, i, r>`. Source: OSDI'99 §4.1.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Reply {
    /// `v`, so that the client can follow the primary.
    pub view: View,
    /// `t` of the request.
    pub timestamp: Timestamp,
    /// `c`.
    pub client: ClientId,
    /// `i`.
    pub replica: ReplicaId,
    /// `r`.
    pub result: Bytes,
}

/// What a replica has, so that others re-send what it lacks. Source: Castro's thesis §5.2 (status
/// messages); OSDI'99 leaves retransmission open.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Status {
    /// The view last entered.
    pub view: View,
    /// The view of the VIEW-CHANGE sent since, if any.
    pub leaving: Option<View>,
    /// `h`, the last stable checkpoint known.
    pub stable: SeqNo,
    /// The last batch executed.
    pub executed: SeqNo,
    /// Sequence numbers above `stable` with a PRE-PREPARE of `view`, ascending.
    pub pre_prepared: Vec<SeqNo>,
    /// Sequence numbers above `stable` prepared in `view`, ascending.
    pub prepared: Vec<SeqNo>,
    /// The sender.
    pub replica: ReplicaId,
}

/// A request for something named by its digest.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Fetch {
    /// What is wanted.
    pub what: Wanted,
    /// The sender.
    pub replica: ReplicaId,
}

/// Something that its digest identifies.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Wanted {
    /// The batch of an accepted PRE-PREPARE.
    Batch(Digest),
    /// A block of the state at a stable checkpoint.
    Block(Digest),
}

macro_rules! content {
    ($($tag:literal $kind:ty: $form:ty => |$message:ident| $sender:expr;)*) => {$(
        impl Content for $kind {
            const TAG: u8 = $tag;
            type Form = $form;
            fn sender(&self) -> Option<Principal> {
                let $message = self;
                $sender
            }
        }
    )*};
}

content! {
    1 Request: VerifiedTogether => |m| Some(Principal::Client(m.client));
    2 PrePrepare: Single => |_m| None;
    3 Prepare: Single => |m| Some(Principal::Replica(m.replica));
    4 Commit: Single => |m| Some(Principal::Replica(m.replica));
    5 Checkpoint: Single => |m| Some(Principal::Replica(m.replica));
    6 Reply: SignedTogether => |m| Some(Principal::Replica(m.replica));
    7 Status: Single => |m| Some(Principal::Replica(m.replica));
    8 Fetch: Single => |m| Some(Principal::Replica(m.replica));
}

impl<C: Crypto> Content for ViewChange<C> {
    const TAG: u8 = 9;
    type Form = Single;
    fn sender(&self) -> Option<Principal> {
        Some(Principal::Replica(self.replica))
    }
}

impl<C: Crypto> Content for NewView<C> {
    const TAG: u8 = 10;
    type Form = Single;
    fn sender(&self) -> Option<Principal> {
        None
    }
}

/// The digest of a request's content; the client's signature is not part of it, so that two valid
/// signatures of one request do not make two requests.
pub fn request_digest<C: Crypto>(request: &Request) -> Digest {
    C::digest(&request.to_be_signed())
}

/// The requests ordered together under one sequence number, in this order.
///
/// Deviation: OSDI'99 orders single requests; batching is its §5 optimisation. An empty batch is the
/// null request.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Batch<C: Crypto> {
    /// Each with its client's signature.
    pub requests: Vec<Signed<Request, C>>,
}

impl<C: Crypto> Batch<C> {
    /// The digest of the requests in their order; [`Digest::NULL`] for none.
    pub fn digest(&self) -> Digest {
        if self.requests.is_empty() {
            return Digest::NULL;
        }
        let digests = self.requests.iter().flat_map(|r| request_digest::<C>(&r.content).0);
        C::digest(&digests.collect::<Vec<u8>>())
    }

    /// The bytes of all operations, which is what the bound of a batch counts.
    pub fn bytes(&self) -> usize {
        self.requests.iter().map(|r| r.content.operation.len()).sum()
    }
}

/// Everything that travels between replicas and clients.
///
/// Batches, blocks and checkpoint certificates carry no signature of their sender: what they say is
/// proved by a digest the receiver already trusts or by the signatures inside.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(bound = "")]
pub enum Message<C: Crypto> {
    /// To the primary, or to all on a timeout.
    Request(Signed<Request, C>),
    /// To all, with the batch it orders.
    PrePrepare(Signed<PrePrepare, C>, Arc<Batch<C>>),
    /// To all.
    Prepare(Signed<Prepare, C>),
    /// To all.
    Commit(Signed<Commit, C>),
    /// To all.
    Checkpoint(Signed<Checkpoint, C>),
    /// To all.
    ViewChange(Arc<Signed<ViewChange<C>, C>>),
    /// To all.
    NewView(Arc<Signed<NewView<C>, C>>),
    /// To the client.
    Reply(Signed<Reply, C>),
    /// To all.
    Status(Signed<Status, C>),
    /// To one replica or all.
    Fetch(Signed<Fetch, C>),
    /// The answer to [`Wanted::Batch`].
    Batch(Arc<Batch<C>>),
    /// The answer to [`Wanted::Block`].
    Block(Bytes),
    /// To a replica that does not know this checkpoint to be stable.
    Stable(StableCertificate<C>),
}

impl<C: Crypto> Message<C> {
    /// Whose signature it bears, if anybody's: batches, blocks and certificates by themselves bear none.
    pub fn signer(&self) -> Option<Principal> {
        Some(match self {
            Message::Request(m) => m.signer,
            Message::PrePrepare(m, _) => m.signer,
            Message::Prepare(m) => m.signer,
            Message::Commit(m) => m.signer,
            Message::Checkpoint(m) => m.signer,
            Message::ViewChange(m) => m.signer,
            Message::NewView(m) => m.signer,
            Message::Reply(m) => m.signer,
            Message::Status(m) => m.signer,
            Message::Fetch(m) => m.signer,
            Message::Batch(_) | Message::Block(_) | Message::Stable(_) => return None,
        })
    }

    /// The view, sequence number and digest that a PRE-PREPARE, PREPARE or COMMIT is about; nothing for
    /// others.
    pub fn slot(&self) -> Option<(View, SeqNo, Digest)> {
        match self {
            Message::PrePrepare(m, _) => Some((m.content.view, m.content.n, m.content.digest)),
            Message::Prepare(m) => Some((m.content.view, m.content.n, m.content.digest)),
            Message::Commit(m) => Some((m.content.view, m.content.n, m.content.digest)),
            _ => None,
        }
    }

    /// The paper's name of the message.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Request(_) => "REQUEST",
            Message::PrePrepare(..) => "PRE-PREPARE",
            Message::Prepare(_) => "PREPARE",
            Message::Commit(_) => "COMMIT",
            Message::Checkpoint(_) => "CHECKPOINT",
            Message::ViewChange(_) => "VIEW-CHANGE",
            Message::NewView(_) => "NEW-VIEW",
            Message::Reply(_) => "REPLY",
            Message::Status(_) => "STATUS",
            Message::Fetch(_) => "FETCH",
            Message::Batch(_) => "BATCH",
            Message::Block(_) => "BLOCK",
            Message::Stable(_) => "STABLE",
        }
    }
}
