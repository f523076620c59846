//! Backups: the state at a stable checkpoint, with the proof that a quorum vouched for it.
//!
//! | file | does |
//! |---|---|
//! | `format` | the file, byte by byte: written whole or not at all, read within the bounds of its length |
//! | `genesis` | the state that a new cluster begins with, as a file |
//!
//! A backup is made of the store of one replica ([`View`]), while that replica runs or not. Its content is
//! what the checkpoint's digest is computed from, so whoever has the public keys checks it offline, with the
//! functions by which replicas check each other: [`verify`] for the
//! certificate, the block tree ([`Tree`]) for the state. Nothing has to be believed of the replica whose
//! store it was: of a quorum of signers f + 1 are correct, and had this very state. What a lying replica can
//! do is to give an older stable checkpoint than the last, or none. So a backup says its number, to be
//! compared with the watermarks of the others.
//!
//! # The file
//!
//! Integers are little-endian.
//!
//! | bytes | hold |
//! |---|---|
//! | 8 | `PBFT-BK1`: magic and version |
//! | 32 | the domain of the cluster's signatures |
//! | 2, 2 | n and f |
//! | 32 n | the public keys of the replicas, in order |
//! | 8 | the sequence number of the checkpoint |
//! | 32 | its digest, the root of the block tree |
//! | 2 | the number of signers |
//! | 66 each | a signer, 2 bytes, and its signature of the CHECKPOINT, 64 bytes |
//! | 8 | the number of chunks: the service's, and last the client table |
//! | 8 + length each | the length of a chunk, and the chunk |
//! | 32 | the SHA-256 of everything before |
//!
//! The checksum tells damage early and does not protect against forgery: domain, sizes and keys must be those
//! of the configuration, and everything else is covered by the signatures. The file is as large as the state.
//! To check it, memory holds the state twice, as chunks and as blocks, and to take it from a store three
//! times.
//!
//! # A new cluster from it
//!
//! [`genesis`] has the service's state alone. Sequence numbers, views and the client table begin anew:
//! signatures are bound to a domain, the new cluster has one of its own, and a request signed for the old one
//! is worth nothing there. So who asked the old cluster for something and had no answer cannot learn from the
//! new one's client table whether it was executed; he has to look at the state.

mod format;
pub mod genesis;

use crate::certificate::StableCertificate;
use crate::crypto::ed25519::Ed25519;
use crate::message::Message;
use crate::rejection::Rejection;
use crate::replica::blocks::Tree;
use crate::replica::verify::verify;
use crate::replica::{Bundle, ClientTable, Replica, Setup, Snapshot, StartRefusal};
use crate::runtime::store::View;
use crate::service::Service;
use crate::types::{Bytes, Cluster, Digest, ReplicaId, SeqNo};
use std::io;
use std::path::Path;

/// Which cluster a backup is of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The domain of its signatures.
    pub domain: Digest,
    /// Its size.
    pub cluster: Cluster,
    /// The public keys of its replicas, in order.
    pub keys: Vec<[u8; 32]>,
}

/// The state at a stable checkpoint and its certificate, as a file says it: nothing is checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backup {
    /// Which cluster it is of.
    pub origin: Origin,
    /// The proof of the checkpoint.
    pub certificate: StableCertificate<Ed25519>,
    /// The service's chunks and, last, the client table's.
    pub chunks: Vec<Bytes>,
}

/// What a quorum has vouched for.
#[derive(Clone, Debug)]
pub struct Vouched<S> {
    /// The last sequence number executed.
    pub n: SeqNo,
    /// The digest of the whole, which the signers have signed.
    pub digest: Digest,
    /// Who has signed it.
    pub signers: Vec<ReplicaId>,
    /// The service.
    pub service: S,
    /// The last reply to each client.
    pub clients: ClientTable,
}

/// Why there is no backup, or a backup is refused.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The machine refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A file is there already.
    #[error("the file is there already")]
    Exists,
    /// It does not begin like the file it should be.
    #[error("it is no {0} of this program, or of a version it no longer reads")]
    Unknown(&'static str),
    /// It is not as it was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// It is another cluster's.
    #[error("it is of another cluster: its {0} is not what the configuration says")]
    Foreign(&'static str),
    /// No quorum of the configured replicas has signed it.
    #[error("no quorum of the configuration's replicas has signed its checkpoint ({})", .0.as_str())]
    Unproved(Rejection),
    /// The state is not the one that was signed.
    #[error("its state does not have the digest that the replicas have signed")]
    OtherState,
    /// The state is not one of this service.
    #[error("its state is not one of this service")]
    NotAState,
    /// There has been no stable checkpoint.
    #[error(
        "there is no stable checkpoint yet: up to {executed} is executed, and one follows every {interval} \
         batches"
    )]
    NoCheckpoint {
        /// The last sequence number executed.
        executed: u64,
        /// `K`, the number of sequence numbers between checkpoints.
        interval: u64,
    },
    /// The store proves a checkpoint and lacks the state there.
    #[error(
        "the checkpoint at {stable} is proved, and its state is not here: {executed} is the last executed"
    )]
    NoStateThere {
        /// The last stable checkpoint known.
        stable: u64,
        /// The last sequence number executed.
        executed: u64,
    },
    /// The store is not one that this replica can have written.
    #[error(transparent)]
    Store(#[from] StartRefusal),
    /// The state of a new cluster is another than its configuration names.
    #[error("it holds the state {}, and [genesis] names {}", hex(.found), hex(.named))]
    OtherGenesis {
        /// The digest of the state in the file.
        found: Digest,
        /// The one that the configuration names.
        named: Digest,
    },
}

fn hex(digest: &Digest) -> String {
    digest.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Backup {
    /// The newest state in a store that a certificate in it vouches for, checked as [`Backup::check`] does.
    ///
    /// Where the last base of the store is older, the batches logged since are executed again.
    ///
    /// # Errors
    /// If there has been no stable checkpoint, none has its state in the store, or what is there is not proved.
    pub fn take<B: Bundle<Crypto = Ed25519>>(
        setup: &Setup<B>,
        origin: &Origin,
        view: &View<Ed25519>,
    ) -> Result<(Self, Vouched<B::Service>), BackupError> {
        let executed = view.durable.last_executed().0;
        let Some(last) = view.stable.last() else {
            let interval = setup.parameters.checkpoint_interval;
            return Err(BackupError::NoCheckpoint { executed, interval });
        };
        for certificate in view.stable.iter().rev() {
            let state = Replica::state_after(setup, &view.durable, certificate.n)?;
            let Some(snapshot) = state.filter(|state| state.tree.root() == certificate.digest) else {
                continue;
            };
            let chunks = snapshot.tree.chunks();
            let backup = Backup { origin: origin.clone(), certificate: certificate.clone(), chunks };
            let vouched = backup.check(setup, origin)?;
            return Ok((backup, vouched));
        }
        Err(BackupError::NoStateThere { stable: last.n.0, executed })
    }

    /// Writes the file, readable by its owner only: whole, durable and under this name, or not at all.
    ///
    /// # Errors
    /// If there is a file already, or the machine fails.
    pub fn write(&self, path: &Path) -> Result<(), BackupError> {
        format::create(path, |output| format::put_backup(output, self))
    }

    /// Reads a file and checks that it is whole. Whether to believe it says [`Backup::check`].
    ///
    /// Never takes more memory than the file is long, but for a copy of one chunk.
    ///
    /// # Errors
    /// If it is not a backup, or damaged, or the machine fails.
    pub fn read(path: &Path) -> Result<Self, BackupError> {
        format::Input::open(path, format::BACKUP)?.backup()
    }

    /// What a quorum has vouched for, if it is this: the certificate by the keys in `setup`, and the state by
    /// the digest in the certificate. `setup` and `origin` are what the configuration says; a ring of [public
    /// keys](crate::crypto::ed25519::KeyRing::verifying) is enough.
    ///
    /// # Errors
    /// If it is another cluster's, not signed by a quorum, or not the state that was signed.
    pub fn check<B: Bundle<Crypto = Ed25519>>(
        &self,
        setup: &Setup<B>,
        origin: &Origin,
    ) -> Result<Vouched<B::Service>, BackupError> {
        for (what, same) in [
            ("domain", self.origin.domain == origin.domain),
            ("number of replicas or f", self.origin.cluster == origin.cluster),
            ("list of public keys", self.origin.keys == origin.keys),
        ] {
            if !same {
                return Err(BackupError::Foreign(what));
            }
        }
        let certificate = Message::Stable(self.certificate.clone());
        verify(setup, certificate).map_err(BackupError::Unproved)?;
        let StableCertificate { n, digest, ref proof } = self.certificate;
        let snapshot = Snapshot { n, tree: Tree::build::<Ed25519>(&self.chunks, None) };
        if snapshot.tree.root() != digest {
            return Err(BackupError::OtherState);
        }
        let (service, clients) = Replica::state_in(setup, &snapshot).ok_or(BackupError::NotAState)?;
        let signers = proof.votes.iter().map(|&(replica, _)| replica).collect();
        Ok(Vouched { n, digest, signers, service, clients })
    }
}

impl<S: Service> Vouched<S> {
    /// The digest of the service's state alone, which names it as a [`genesis`].
    pub fn service_digest(&self) -> Digest {
        self.service.digest::<Ed25519>()
    }
}
