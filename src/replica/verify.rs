//! What a message must prove before a replica looks at it: signatures, membership, certificates, bounds.
//!
//! [`verify`] is a pure function of the configuration and the message. It knows nothing of the replica's
//! state, so it may run on other threads and its outcome may be kept.

use super::{Bundle, Setup, compute_o};
use crate::certificate::{PreparedCertificate, StableCertificate};
use crate::crypto::form::Single;
use crate::crypto::{Claim, Content, Crypto, Evidence, Signed, Verified};
use crate::message::{Batch, Checkpoint};
use crate::message::{Message, NewView, PrePrepare, Prepare, Request, ViewChange};
use crate::parameters::{MAX_BLOCK_BYTES, MAX_RESULT_BYTES};
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::types::{Cluster, Digest, Principal, ReplicaId, SeqNo};
use std::collections::BTreeSet;

/// Who belongs to the system, and by which keys and rules messages are judged.
#[derive(Debug)]
pub struct Membership<'a, C: Crypto, R> {
    /// The replicas.
    pub cluster: &'a Cluster,
    /// The number of registered clients.
    pub clients: u32,
    /// Everybody's public keys.
    pub keys: &'a C::Keys,
    /// The rules.
    pub rules: &'a R,
}

impl<C: Crypto, R: Rules> Membership<'_, C, R> {
    fn is_member(&self, who: Principal) -> bool {
        match who {
            Principal::Replica(replica) => self.cluster.contains(replica),
            Principal::Client(client) => client.0 < self.clients,
        }
    }

    /// Checks the sender of a message that names it, and the signature.
    ///
    /// # Errors
    /// If the signer is unknown, is not the sender named inside, or did not sign this.
    pub fn check<T: Content>(&self, signed: &Signed<T, C>) -> Result<(), Rejection> {
        self.check_sender(signed)?;
        if signed.signature_is_valid(self.keys) { Ok(()) } else { Err(Rejection::BadSignature) }
    }

    fn check_sender<T: Content>(&self, signed: &Signed<T, C>) -> Result<(), Rejection> {
        if !self.rules.members_only(self.is_member(signed.signer)) {
            return Err(Rejection::UnknownSender);
        }
        let sender = signed.content.sender();
        if sender.is_some_and(|sender| !self.rules.signer_is_sender(signed.signer, sender)) {
            return Err(Rejection::SignerIsNotSender);
        }
        Ok(())
    }

    /// Checks a message that only the primary of `view` may sign.
    fn check_primary<T: Content>(&self, signed: &Signed<T, C>, primary: ReplicaId) -> Result<(), Rejection> {
        self.check(signed)?;
        if !self.rules.only_primary_proposes(signed.signer, primary) {
            return Err(Rejection::NotPrimary);
        }
        Ok(())
    }

    /// Checks everything about a request but its signature.
    fn check_unsigned(&self, signed: &Signed<Request, C>, max_bytes: usize) -> Result<(), Rejection> {
        if signed.content.operation.len() > max_bytes {
            return Err(Rejection::Oversize);
        }
        self.check_sender(signed)
    }

    /// Checks the signature of a request, unless it is `known` to be valid.
    fn check_signature(&self, signed: &Signed<Request, C>, known: bool) -> Result<(), Rejection> {
        let authentic = self.rules.request_authentic(known || signed.signature_is_valid(self.keys));
        if authentic { Ok(()) } else { Err(Rejection::BadSignature) }
    }
}

impl<B: Bundle> Setup<B> {
    /// Who belongs to this replica's system.
    pub fn membership(&self) -> Membership<'_, B::Crypto, B::Rules> {
        Membership { cluster: &self.cluster, clients: self.clients, keys: &self.keys, rules: &self.rules }
    }
}

/// Checks everything about a message that does not depend on the replica's state.
///
/// # Errors
/// The reason for which the message is to be dropped.
pub fn verify<B: Bundle>(
    setup: &Setup<B>,
    message: Message<B::Crypto>,
) -> Result<Verified<Message<B::Crypto>>, Rejection> {
    verify_knowing(setup, message, &|_| false)
}

/// Which requests have passed [`verify`] before.
pub type Known<'a, B> = &'a dyn Fn(&Signed<Request, <B as Bundle>::Crypto>) -> bool;

/// [`verify`], where the requests in batches that are `known` have passed it before, byte for byte, with the same
/// configuration: their signatures are not checked again.
///
/// # Errors
/// As those of [`verify`].
pub fn verify_knowing<B: Bundle>(
    setup: &Setup<B>,
    message: Message<B::Crypto>,
    known: Known<'_, B>,
) -> Result<Verified<Message<B::Crypto>>, Rejection> {
    let members = setup.membership();
    let primary = |view| setup.cluster.primary(view);
    let window = usize::try_from(setup.parameters.window).unwrap_or(usize::MAX);
    match &message {
        Message::Request(m) => {
            members.check_unsigned(m, setup.parameters.max_batch_bytes)?;
            members.check_signature(m, false)?;
        }
        Message::PrePrepare(m, batch) => {
            members.check_primary(m, primary(m.content.view))?;
            check_batch(setup, batch, known)?;
            if !setup.rules.digest_names_batch(m.content.digest, batch.digest()) {
                return Err(Rejection::BadDigest);
            }
        }
        Message::Prepare(m) => members.check(m)?,
        Message::Commit(m) => members.check(m)?,
        Message::Checkpoint(m) => members.check(m)?,
        Message::ViewChange(m) => check_view_change(setup, m)?,
        Message::NewView(m) => check_new_view(setup, m)?,
        Message::Reply(m) if m.content.result.len() > MAX_RESULT_BYTES => return Err(Rejection::Oversize),
        Message::Reply(m) => members.check(m)?,
        Message::Status(m) if m.content.pre_prepared.len().max(m.content.prepared.len()) > window => {
            return Err(Rejection::Oversize);
        }
        Message::Status(m) => members.check(m)?,
        Message::Fetch(m) => members.check(m)?,
        Message::Batch(batch) => check_batch(setup, batch, known)?,
        Message::Block(block) if block.len() > MAX_BLOCK_BYTES => return Err(Rejection::Oversize),
        Message::Block(_) => {}
        Message::Stable(certificate) => check_stable(setup, certificate)?,
    }
    Ok(Verified::attest(message))
}

/// [`verify`] of each of these requests, in their order. If all signatures are valid each costs less, the more there
/// are; if one is not, all of them cost about half as much again as one by one.
pub fn verify_requests<B: Bundle>(
    setup: &Setup<B>,
    requests: Vec<Signed<Request, B::Crypto>>,
) -> Vec<Result<Verified<Message<B::Crypto>>, Rejection>> {
    let members = setup.membership();
    let unsigned = |request: &Signed<Request, B::Crypto>| {
        members.check_unsigned(request, setup.parameters.max_batch_bytes)
    };
    let signed: Vec<_> = requests.iter().filter(|request| unsigned(request).is_ok()).collect();
    let together = signed.len() > 1 && Signed::all_valid(&signed, &setup.keys);
    let verified = |request| {
        unsigned(&request)?;
        members.check_signature(&request, together)?;
        Ok(Verified::attest(Message::Request(request)))
    };
    requests.into_iter().map(verified).collect()
}

fn check_batch<B: Bundle>(
    setup: &Setup<B>,
    batch: &Batch<B::Crypto>,
    known: Known<'_, B>,
) -> Result<(), Rejection> {
    let parameters = &setup.parameters;
    if batch.requests.len() > parameters.max_batch_requests || batch.bytes() > parameters.max_batch_bytes {
        return Err(Rejection::Oversize);
    }
    let members = setup.membership();
    let unknown: Vec<&Signed<Request, B::Crypto>> =
        batch.requests.iter().filter(|request| !known(request)).collect();
    let from_members = unknown.iter().all(|request| members.check_sender(request).is_ok());
    if !from_members || batch.requests.iter().any(|request| request.content.read_only) {
        return Err(Rejection::BadRequest);
    }
    // Which of them is not valid is of no interest here.
    let valid = setup.rules.request_authentic(Signed::all_valid(&unknown, &setup.keys));
    if valid { Ok(()) } else { Err(Rejection::BadRequest) }
}

/// Whether the votes prove that `proposal` prepared: the primary's signature and matching PREPAREs of a
/// quorum of distinct backups. Source: OSDI'99 §4.4.
pub fn prepared_evidence_proves<B: Bundle>(
    setup: &Setup<B>,
    proposal: PrePrepare,
    evidence: &Evidence<<B::Crypto as Crypto>::Signature>,
) -> bool {
    let primary = setup.cluster.primary(proposal.view);
    let proposed = evidence.proposal.as_ref().is_some_and(|signature| {
        let content = proposal.to_be_signed();
        B::Crypto::verify(&setup.keys, Principal::Replica(primary), &content, signature)
    });
    let PrePrepare { view, n, digest } = proposal;
    let backups = |replica| setup.rules.primary_does_not_prepare(replica, primary);
    proposed
        && evidence.votes.iter().all(|&(replica, _)| backups(replica))
        && votes_prove(setup, evidence, setup.rules.certificate_quorum(&setup.cluster), |replica| Prepare {
            view,
            n,
            digest,
            replica,
        })
}

/// Whether the votes prove a checkpoint stable: matching CHECKPOINTs of a quorum of distinct replicas.
/// Source: OSDI'99 §4.3.
pub fn stable_evidence_proves<B: Bundle>(
    setup: &Setup<B>,
    n: SeqNo,
    digest: Digest,
    evidence: &Evidence<<B::Crypto as Crypto>::Signature>,
) -> bool {
    let quorum = setup.rules.checkpoint_quorum(&setup.cluster);
    votes_prove(setup, evidence, quorum, |replica| Checkpoint { n, digest, replica })
}

fn votes_prove<B: Bundle, T: Content<Form = Single>>(
    setup: &Setup<B>,
    evidence: &Evidence<<B::Crypto as Crypto>::Signature>,
    quorum: usize,
    content: impl Fn(ReplicaId) -> T,
) -> bool {
    let voters: BTreeSet<ReplicaId> = evidence.votes.iter().map(|&(replica, _)| replica).collect();
    let distinct = voters.len() == evidence.votes.len();
    setup.rules.distinct_voters(distinct)
        && (quorum..=2 * setup.cluster.n()).contains(&evidence.votes.len())
        && voters.iter().all(|&replica| setup.rules.members_only(setup.cluster.contains(replica)))
        && evidence.votes.iter().all(|(replica, signature)| {
            let signer = Principal::Replica(*replica);
            B::Crypto::verify(&setup.keys, signer, &content(*replica).to_be_signed(), signature)
        })
}

fn prepared_proves<B: Bundle>(setup: &Setup<B>, certificate: &PreparedCertificate<B::Crypto>) -> bool {
    let PreparedCertificate { view, n, digest, proof } = certificate;
    let proposal = PrePrepare { view: *view, n: *n, digest: *digest };
    let claim = Claim::Prepared(*view, *n, *digest);
    B::Crypto::holds(claim, proof, &|evidence| prepared_evidence_proves(setup, proposal, evidence))
}

fn check_stable<B: Bundle>(
    setup: &Setup<B>,
    certificate: &StableCertificate<B::Crypto>,
) -> Result<(), Rejection> {
    let StableCertificate { n, digest, proof } = certificate;
    let interval = setup.parameters.checkpoint_interval;
    let proves = n.0 > 0
        && n.0 % interval == 0
        && B::Crypto::holds(Claim::Stable(*n, *digest), proof, &|evidence| {
            stable_evidence_proves(setup, *n, *digest, evidence)
        });
    if setup.rules.checkpoint_proof(proves) { Ok(()) } else { Err(Rejection::BadStableCertificate) }
}

fn check_view_change<B: Bundle>(
    setup: &Setup<B>,
    signed: &Signed<ViewChange<B::Crypto>, B::Crypto>,
) -> Result<(), Rejection> {
    let ViewChange { view, n, stable, prepared, .. } = &signed.content;
    setup.membership().check(signed)?;
    match stable {
        None if n.0 == 0 => {}
        Some(certificate) if certificate.n == *n => check_stable(setup, certificate)?,
        _ => return Err(Rejection::BadStableCertificate),
    }
    let ascending = prepared.windows(2).all(|pair| pair[0].n < pair[1].n);
    let window = setup.parameters.window;
    if !setup.rules.one_certificate_per_n(ascending)
        || prepared.len() > usize::try_from(2 * window).unwrap_or(usize::MAX)
    {
        return Err(Rejection::BadPreparedCertificate);
    }
    for certificate in prepared {
        let in_window = *n < certificate.n && certificate.n.0 - n.0 <= window;
        // OSDI'99 §4.4: the bounds first, they cost nothing; the signatures last.
        let sound = setup.rules.certificate_in_window(in_window)
            && setup.rules.certificate_view_below_target(certificate.view, *view)
            && setup.rules.certificates_verified(prepared_proves(setup, certificate));
        if !sound {
            return Err(Rejection::BadPreparedCertificate);
        }
    }
    Ok(())
}

fn check_new_view<B: Bundle>(
    setup: &Setup<B>,
    signed: &Signed<NewView<B::Crypto>, B::Crypto>,
) -> Result<(), Rejection> {
    let NewView { view, view_changes, pre_prepares } = &signed.content;
    let primary = setup.cluster.primary(*view);
    setup.membership().check_primary(signed, primary)?;
    let senders: BTreeSet<ReplicaId> = view_changes.iter().map(|m| m.content.replica).collect();
    let quorum = setup.rules.view_change_quorum(&setup.cluster);
    let enough = (quorum..=setup.cluster.n()).contains(&view_changes.len());
    let same_view = view_changes.iter().all(|m| setup.rules.view_changes_match_view(m.content.view, *view));
    if !enough
        || !same_view
        || !setup.rules.distinct_view_changes(senders.len() == view_changes.len())
        || !view_changes.iter().all(|m| check_view_change(setup, m).is_ok())
    {
        return Err(Rejection::BadViewChangeSet);
    }
    let plan = compute_o(view_changes, &setup.rules);
    let proposed: Vec<(SeqNo, Digest)> =
        pre_prepares.iter().map(|m| (m.content.n, m.content.digest)).collect();
    if !setup.rules.backups_recompute_o(proposed == plan.entries)
        || !pre_prepares.iter().all(|m| m.content.view == *view)
    {
        return Err(Rejection::BadNewViewO);
    }
    let members = setup.membership();
    pre_prepares.iter().try_for_each(|m| members.check_primary(m, primary))
}
