//! Why a message was dropped. A rejected message changes no state; the caller counts the reason.

use std::fmt;

macro_rules! rejections {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// The reasons for which a message, or an event, is dropped.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum Rejection {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Rejection {
            /// Every reason, for tables of counters.
            pub const ALL: &'static [Rejection] = &[$(Rejection::$name,)*];

            /// A stable snake-case name, for metrics and logs.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Rejection::$name => $text,)*
                }
            }
        }
    };
}

rejections! {
    /// The bytes are no message of this version.
    Malformed = "malformed",
    /// The bytes, a batch, a result or a list exceed their bound.
    Oversize = "oversize",
    /// Another version of the wire format.
    WrongVersion = "wrong_version",
    /// The signer is neither a configured replica nor a registered client.
    UnknownSender = "unknown_sender",
    /// The signature is not the signer's over this content.
    BadSignature = "bad_signature",
    /// The sender named inside is not who signed, or that kind of sender sends no such message.
    SignerIsNotSender = "signer_is_not_sender",
    /// Only the primary of the view may send this.
    NotPrimary = "not_primary",
    /// The primary sends no PREPARE.
    PrimaryPrepare = "primary_prepare",
    /// The batch is not the one its digest names.
    BadDigest = "bad_digest",
    /// A request in the batch lacks its client's valid signature.
    BadRequest = "bad_request",
    /// A null request outside a NEW-VIEW.
    NullRequest = "null_request",
    /// Another view than the one this replica is in.
    WrongView = "wrong_view",
    /// This replica has sent VIEW-CHANGE and takes no part in its old view.
    LeavingView = "leaving_view",
    /// The sequence number is not above h, or above H.
    OutOfWindow = "out_of_window",
    /// Another digest was accepted for this view and sequence number.
    ConflictingPrePrepare = "conflicting_pre_prepare",
    /// Already known, or no longer of use.
    Duplicate = "duplicate",
    /// The sequence number is not a multiple of the checkpoint interval.
    NotACheckpoint = "not_a_checkpoint",
    /// A certificate in P does not prove its claim.
    BadPreparedCertificate = "bad_prepared_certificate",
    /// A checkpoint certificate does not prove its claim.
    BadStableCertificate = "bad_stable_certificate",
    /// V is not a quorum of valid VIEW-CHANGEs of distinct replicas for this view.
    BadViewChangeSet = "bad_view_change_set",
    /// O is not what V determines.
    BadNewViewO = "bad_new_view_o",
    /// Nobody asked for this batch or block.
    Unwanted = "unwanted",
    /// A request older than the last one executed for its client.
    OldTimestamp = "old_timestamp",
    /// The operation is not read-only.
    NotReadOnly = "not_read_only",
    /// This node has no use for such a message (a reply at a replica, a vote at a client).
    NotForThisNode = "not_for_this_node",
    /// Not an answer to the pending request.
    NotPending = "not_pending",
    /// A request is outstanding; a client has one at a time.
    Busy = "busy",
    /// Fetched state that has the right digests and still cannot be restored.
    BadState = "bad_state",
}

impl std::error::Error for Rejection {}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
