//! Messages as they are written to files: everything that a receiver can read, and no signature.
//!
//! A message is not read back from a file: it is found again among those that can be delivered, by what it
//! says. So a file can hold nothing that the adversary could not have sent. What is written of a signature is
//! whether it is its signer's own; the content that it covers is written in full.

use crate::crypto::{Keys, Proof, Symbolic};
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::{Content, Evidence, Signed};
use pbft::message::{Batch, Message, NewView, PrePrepare, Request, ViewChange};
use pbft::types::{ClientId, Digest, Principal, ReplicaId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A replica or client by its short name: `r0`, `c1`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Name(pub Principal);

/// A digest in hexadecimal.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hex(pub Digest);

/// What a message says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the messages")]
pub enum SavedMessage {
    Request(SaidRequest),
    PrePrepare {
        by: By,
        view: u64,
        n: u64,
        digest: Hex,
        batch: Vec<SaidRequest>,
    },
    Prepare {
        by: By,
        view: u64,
        n: u64,
        digest: Hex,
        replica: u16,
    },
    Commit {
        by: By,
        view: u64,
        n: u64,
        digest: Hex,
        replica: u16,
    },
    Checkpoint {
        by: By,
        n: u64,
        digest: Hex,
        replica: u16,
    },
    ViewChange(SaidViewChange),
    NewView {
        by: By,
        view: u64,
        v: Vec<SaidViewChange>,
        o: Vec<SaidPrePrepare>,
    },
    Reply {
        by: By,
        view: u64,
        timestamp: u64,
        client: u32,
        replica: u16,
        result: String,
    },
    Batch {
        requests: Vec<SaidRequest>,
    },
    Block {
        bytes: String,
    },
    Stable(SaidCertificate),
    /// STATUS and FETCH are not part of worlds.
    Other {
        name: String,
    },
}

/// Who signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum By {
    /// Whose signature it is.
    Signer(Name),
    /// Whose signature it is said to be, and is not.
    Forged {
        /// Who is named.
        forged: Name,
    },
}

/// What a REQUEST says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the message")]
pub struct SaidRequest {
    pub by: By,
    pub client: u32,
    pub timestamp: u64,
    pub operation: String,
}

/// What a VIEW-CHANGE says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the message")]
pub struct SaidViewChange {
    pub by: By,
    pub view: u64,
    pub h: u64,
    pub c: Option<SaidCertificate>,
    pub p: Vec<SaidCertificate>,
    pub replica: u16,
}

/// What an entry of `O` says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the message")]
pub struct SaidPrePrepare {
    pub by: By,
    pub view: u64,
    pub n: u64,
    pub digest: Hex,
}

/// What a certificate claims: of a view if it says that something prepared, of none if a checkpoint is
/// stable.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the certificate")]
pub struct SaidCertificate {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub view: Option<u64>,
    pub n: u64,
    pub digest: Hex,
    pub votes: SaidVotes,
}

/// The votes behind a certificate.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SaidVotes {
    /// They were accepted when it was made.
    Proved,
    /// They were not.
    Unproved {
        /// Who has signed what for the proposal: a signer, and the first bytes of the digest of what was
        /// signed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        proposal: Option<String>,
        /// The voters named, each with who has signed what.
        by: Vec<[String; 2]>,
    },
}

impl SavedMessage {
    /// What `message` says. Any node's `keys` will do: they tell whose signatures are genuine.
    pub fn of(message: &Message<Symbolic>, keys: &Keys) -> SavedMessage {
        match message {
            Message::Request(m) => SavedMessage::Request(request(m, keys)),
            Message::PrePrepare(m, batch) => {
                let PrePrepare { view, n, digest } = m.content;
                let batch = requests(batch, keys);
                SavedMessage::PrePrepare { by: by(m, keys), view: view.0, n: n.0, digest: Hex(digest), batch }
            }
            Message::Prepare(m) => {
                let pbft::message::Prepare { view, n, digest, replica } = m.content;
                let (by, digest) = (by(m, keys), Hex(digest));
                SavedMessage::Prepare { by, view: view.0, n: n.0, digest, replica: replica.0 }
            }
            Message::Commit(m) => {
                let pbft::message::Commit { view, n, digest, replica } = m.content;
                let (by, digest) = (by(m, keys), Hex(digest));
                SavedMessage::Commit { by, view: view.0, n: n.0, digest, replica: replica.0 }
            }
            Message::Checkpoint(m) => {
                let pbft::message::Checkpoint { n, digest, replica } = m.content;
                SavedMessage::Checkpoint { by: by(m, keys), n: n.0, digest: Hex(digest), replica: replica.0 }
            }
            Message::ViewChange(m) => SavedMessage::ViewChange(view_change(m, keys)),
            Message::NewView(m) => {
                let NewView { view, view_changes, pre_prepares } = &m.content;
                let v = view_changes.iter().map(|m| view_change(m, keys)).collect();
                let o = pre_prepares.iter().map(|m| pre_prepare(m, keys)).collect();
                SavedMessage::NewView { by: by(m, keys), view: view.0, v, o }
            }
            Message::Reply(m) => {
                let pbft::message::Reply { view, timestamp, client, replica, result } = &m.content;
                SavedMessage::Reply {
                    by: by(m, keys),
                    view: view.0,
                    timestamp: timestamp.0,
                    client: client.0,
                    replica: replica.0,
                    result: text(result),
                }
            }
            Message::Batch(batch) => SavedMessage::Batch { requests: requests(batch, keys) },
            Message::Block(bytes) => SavedMessage::Block { bytes: hex::encode(&bytes[..]) },
            Message::Stable(certificate) => SavedMessage::Stable(stable(certificate)),
            Message::Status(_) | Message::Fetch(_) => SavedMessage::Other { name: message.name().into() },
        }
    }
}

fn by<T: Content>(m: &Signed<T, Symbolic>, keys: &Keys) -> By {
    let signer = Name(m.signer);
    if m.signature_is_valid(keys) { By::Signer(signer) } else { By::Forged { forged: signer } }
}

fn requests(batch: &Batch<Symbolic>, keys: &Keys) -> Vec<SaidRequest> {
    batch.requests.iter().map(|m| request(m, keys)).collect()
}

fn request(m: &Signed<Request, Symbolic>, keys: &Keys) -> SaidRequest {
    let Request { operation, timestamp, client, .. } = &m.content;
    SaidRequest { by: by(m, keys), client: client.0, timestamp: timestamp.0, operation: text(operation) }
}

fn view_change(m: &Signed<ViewChange<Symbolic>, Symbolic>, keys: &Keys) -> SaidViewChange {
    let ViewChange { view, n, stable: c, prepared, replica } = &m.content;
    SaidViewChange {
        by: by(m, keys),
        view: view.0,
        h: n.0,
        c: c.as_ref().map(stable),
        p: prepared.iter().map(certificate).collect(),
        replica: replica.0,
    }
}

fn pre_prepare(m: &Signed<PrePrepare, Symbolic>, keys: &Keys) -> SaidPrePrepare {
    let PrePrepare { view, n, digest } = m.content;
    SaidPrePrepare { by: by(m, keys), view: view.0, n: n.0, digest: Hex(digest) }
}

fn certificate(c: &PreparedCertificate<Symbolic>) -> SaidCertificate {
    SaidCertificate { view: Some(c.view.0), n: c.n.0, digest: Hex(c.digest), votes: votes(&c.proof) }
}

fn stable(c: &StableCertificate<Symbolic>) -> SaidCertificate {
    SaidCertificate { view: None, n: c.n.0, digest: Hex(c.digest), votes: votes(&c.proof) }
}

/// Certificates that were accepted when they were made differ by their claims alone.
fn votes(proof: &Proof) -> SaidVotes {
    let signer = |principal| Name(principal).to_string();
    match proof.votes().filter(|_| !proof.is_accepted()) {
        None => SaidVotes::Proved,
        Some(Evidence { proposal, votes }) => SaidVotes::Unproved {
            proposal: proposal.map(|signature| signature.to_string()),
            by: votes
                .iter()
                .map(|(voter, signature)| [signer(Principal::Replica(*voter)), signature.to_string()])
                .collect(),
        },
    }
}

/// Bytes as text: the operations and results of worlds are words.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("0x{}", hex::encode(bytes)),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Principal::Replica(replica) => write!(f, "r{}", replica.0),
            Principal::Client(client) => write!(f, "c{}", client.0),
        }
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.to_string()
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let numbered = |number: &str| number.parse::<u16>().ok();
        let replica = text.strip_prefix('r').and_then(numbered).map(|n| Principal::Replica(ReplicaId(n)));
        let client = text.strip_prefix('c').and_then(numbered).map(|n| Principal::Client(ClientId(n.into())));
        replica
            .or(client)
            .map(Name)
            .ok_or_else(|| format!("{text:?} names no node: they are called r0, r1, and c0, c1"))
    }
}

impl From<Hex> for String {
    fn from(digest: Hex) -> String {
        hex::encode(digest.0.0)
    }
}

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes)
            .map_err(|_| format!("{text:?} is no digest: that is 64 hexadecimal digits"))?;
        Ok(Hex(Digest(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_digests_are_read_as_they_are_written() {
        for principal in [Principal::Replica(ReplicaId(3)), Principal::Client(ClientId(0))] {
            assert_eq!(Name::try_from(Name(principal).to_string()), Ok(Name(principal)));
        }
        let digest = Hex(Digest([0xa5; 32]));
        assert_eq!(Hex::try_from(String::from(digest)), Ok(digest));
        for nonsense in ["", "r", "x1", "r-1", "r70000"] {
            assert!(Name::try_from(nonsense.to_string()).is_err(), "{nonsense}");
        }
        assert!(Hex::try_from("a5".to_string()).is_err());
    }
}
