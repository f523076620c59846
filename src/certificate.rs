//! Certificates: quorums of signed votes that convince whoever receives them.
//!
//! A certificate is a claim and a proof. What a replica does depends on the claim alone, never on which
//! replicas signed, and no vote can be taken out of a certificate to be counted elsewhere; so a model may
//! replace the proof by the fact that the production validation accepted one ([`Crypto::seal`]).

use crate::crypto::Crypto;
use crate::types::{Digest, SeqNo, View};
use serde::{Deserialize, Serialize};

/// `P_m` of the paper: a PRE-PREPARE and `Q - 1` matching PREPAREs of distinct backups.
/// Source: OSDI'99 §4.4.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct PreparedCertificate<C: Crypto> {
    /// The view `v` in which the request prepared.
    pub view: View,
    /// Its sequence number `n`.
    pub n: SeqNo,
    /// The digest `d` of the batch.
    pub digest: Digest,
    /// The signatures of the PRE-PREPARE and of the PREPAREs.
    pub proof: C::Proof,
}

/// The proof that a checkpoint is stable, `C` of the paper: `Q` matching CHECKPOINTs.
/// Source: OSDI'99 §4.3.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct StableCertificate<C: Crypto> {
    /// The sequence number `n` of the last batch reflected in the state.
    pub n: SeqNo,
    /// The digest `d` of the state: the root of its block tree.
    pub digest: Digest,
    /// The signatures of the CHECKPOINTs.
    pub proof: C::Proof,
}
