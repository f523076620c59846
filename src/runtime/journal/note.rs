//! What is kept of an effect: enough to tell whether a replay asks for the same.

use crate::crypto::Crypto;
use crate::message::{Message, Wanted};
use crate::replica::{Effect, Effects, Fact, Record, Timer};
use crate::types::{SeqNo, View};
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! kinds {
    ($($name:ident = $text:literal,)*) => {
        /// What an effect is.
        #[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
        pub enum Kind {
            $(#[doc = $text] $name,)*
        }

        impl Kind {
            /// In words.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Kind::$name => $text,)*
                }
            }
        }
    };
}

kinds! {
    RecordPrePrepared = "record of an accepted PRE-PREPARE",
    RecordBatch = "record of a batch",
    RecordPrepared = "record of a prepared certificate",
    RecordExecuted = "record of an execution",
    RecordViewChange = "record of a VIEW-CHANGE",
    RecordNewView = "record of a NEW-VIEW",
    RecordStable = "record of a stable checkpoint",
    RecordSnapshot = "record of a snapshot",
    SendRequest = "REQUEST sent",
    SendPrePrepare = "PRE-PREPARE sent",
    SendPrepare = "PREPARE sent",
    SendCommit = "COMMIT sent",
    SendCheckpoint = "CHECKPOINT sent",
    SendViewChange = "VIEW-CHANGE sent",
    SendNewView = "NEW-VIEW sent",
    SendReply = "REPLY sent",
    SendStatus = "STATUS sent",
    SendFetchBatch = "FETCH of a batch sent",
    SendFetchBlock = "FETCH of a block sent",
    SendBatch = "BATCH sent",
    SendBlock = "BLOCK sent",
    SendStable = "STABLE sent",
    ProgressTimerSet = "progress timer set",
    StatusTimerSet = "status timer set",
    ProgressTimerStopped = "progress timer stopped",
    PrePrepared = "fact: pre-prepared",
    Prepared = "fact: prepared",
    Committed = "fact: committed",
    Executed = "fact: executed",
    ViewLeft = "fact: view left",
    ViewEntered = "fact: view entered",
    CheckpointTaken = "fact: checkpoint taken",
    CheckpointStable = "fact: checkpoint stable",
    StateTransferred = "fact: state fetched",
    Rejected = "event rejected",
}

/// What is kept of one effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// What it is.
    pub kind: Kind,
    /// Its view, 0 if it has none.
    pub view: View,
    /// Its sequence number, 0 if it has none.
    pub n: SeqNo,
    /// The bytes of its encoding.
    pub length: u32,
    /// The CRC-32C of its encoding.
    pub checksum: u32,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Note { kind, view, n, length, checksum } = self;
        write!(f, "{} (view {}, n = {}, {length} bytes {checksum:08x})", kind.as_str(), view.0, n.0)
    }
}

/// A note of each effect. `scratch` is overwritten.
pub(super) fn notes<C: Crypto>(effects: &Effects<C>, scratch: &mut Vec<u8>) -> Vec<Note> {
    effects.iter().map(|effect| note(effect, scratch)).collect()
}

fn note<C: Crypto>(effect: &Effect<C>, scratch: &mut Vec<u8>) -> Note {
    let (kind, view, n) = describe(effect);
    scratch.clear();
    let encode = |value: &dyn Fn(Vec<u8>) -> postcard::Result<Vec<u8>>, into| {
        value(into).expect("encoding into memory cannot fail")
    };
    let into = std::mem::take(scratch);
    *scratch = match effect {
        // The root stands for the whole state.
        Effect::Persist(Record::Snapshot(snapshot)) => {
            encode(&|into| postcard::to_extend(&(snapshot.n, snapshot.tree.root()), into), into)
        }
        Effect::Persist(record) => encode(&|into| postcard::to_extend(record, into), into),
        Effect::Send(to, message) => encode(&|into| postcard::to_extend(&(to, message), into), into),
        Effect::SetTimer(timer) => encode(&|into| postcard::to_extend(timer, into), into),
        Effect::CancelProgressTimer => into,
        Effect::Fact(fact) => encode(&|into| postcard::to_extend(fact, into), into),
        Effect::Reject(reason) => encode(&|into| postcard::to_extend(reason.as_str(), into), into),
    };
    let length = u32::try_from(scratch.len()).expect("an effect without a state is shorter than 4 GiB");
    Note { kind, view, n, length, checksum: crc32c::crc32c(scratch) }
}

fn describe<C: Crypto>(effect: &Effect<C>) -> (Kind, View, SeqNo) {
    let (no_view, no_n) = (View(0), SeqNo(0));
    match effect {
        Effect::Persist(record) => match record {
            Record::PrePrepared(m, _) => (Kind::RecordPrePrepared, m.content.view, m.content.n),
            Record::Batch(_) => (Kind::RecordBatch, no_view, no_n),
            Record::Prepared(certificate) => (Kind::RecordPrepared, certificate.view, certificate.n),
            Record::Executed(n, _) => (Kind::RecordExecuted, no_view, *n),
            Record::ViewChange(m) => (Kind::RecordViewChange, m.content.view, m.content.n),
            Record::NewView(m) => (Kind::RecordNewView, m.content.view, no_n),
            Record::Stable(certificate) => (Kind::RecordStable, no_view, certificate.n),
            Record::Snapshot(snapshot) => (Kind::RecordSnapshot, no_view, snapshot.n),
        },
        Effect::Send(_, message) => describe_message(message),
        Effect::SetTimer(Timer::Progress { .. }) => (Kind::ProgressTimerSet, no_view, no_n),
        Effect::SetTimer(Timer::Status) => (Kind::StatusTimerSet, no_view, no_n),
        Effect::CancelProgressTimer => (Kind::ProgressTimerStopped, no_view, no_n),
        Effect::Fact(fact) => match fact {
            Fact::PrePrepared { view, n, .. } => (Kind::PrePrepared, *view, *n),
            Fact::Prepared { view, n, .. } => (Kind::Prepared, *view, *n),
            Fact::Committed { view, n, .. } => (Kind::Committed, *view, *n),
            Fact::Executed { n, .. } => (Kind::Executed, no_view, *n),
            Fact::ViewLeft { to, .. } => (Kind::ViewLeft, *to, no_n),
            Fact::ViewEntered { view, .. } => (Kind::ViewEntered, *view, no_n),
            Fact::CheckpointTaken { n, .. } => (Kind::CheckpointTaken, no_view, *n),
            Fact::CheckpointStable { n, .. } => (Kind::CheckpointStable, no_view, *n),
            Fact::StateTransferred { n, .. } => (Kind::StateTransferred, no_view, *n),
        },
        Effect::Reject(_) => (Kind::Rejected, no_view, no_n),
    }
}

fn describe_message<C: Crypto>(message: &Message<C>) -> (Kind, View, SeqNo) {
    let (no_view, no_n) = (View(0), SeqNo(0));
    match message {
        Message::Request(_) => (Kind::SendRequest, no_view, no_n),
        Message::PrePrepare(m, _) => (Kind::SendPrePrepare, m.content.view, m.content.n),
        Message::Prepare(m) => (Kind::SendPrepare, m.content.view, m.content.n),
        Message::Commit(m) => (Kind::SendCommit, m.content.view, m.content.n),
        Message::Checkpoint(m) => (Kind::SendCheckpoint, no_view, m.content.n),
        Message::ViewChange(m) => (Kind::SendViewChange, m.content.view, m.content.n),
        Message::NewView(m) => (Kind::SendNewView, m.content.view, no_n),
        Message::Reply(m) => (Kind::SendReply, m.content.view, no_n),
        Message::Status(m) => (Kind::SendStatus, m.content.view, m.content.executed),
        Message::Fetch(m) => match m.content.what {
            Wanted::Batch(_) => (Kind::SendFetchBatch, no_view, no_n),
            Wanted::Block(_) => (Kind::SendFetchBlock, no_view, no_n),
        },
        Message::Batch(_) => (Kind::SendBatch, no_view, no_n),
        Message::Block(_) => (Kind::SendBlock, no_view, no_n),
        Message::Stable(certificate) => (Kind::SendStable, no_view, certificate.n),
    }
}
