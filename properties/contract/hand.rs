//! The evidence in hand: what others have signed, in the message that arrives, in what the replica holds, and inside of
//! certificates. Nothing counts that the replica could have made up.

use super::Signatures;
use super::inbox::Inbox;
use super::ledger::{Ledger, Role};
use pbft::crypto::form::Single;
use pbft::crypto::{Claim, Content, Crypto, Evidence, Signed};
use pbft::message::{Batch, Checkpoint, Commit, Message, NewView, PrePrepare, Prepare, Request, ViewChange};
use pbft::replica::noted::Part;
use pbft::replica::{Bundle, Effect, Event, Record, Replica, Setup};
use pbft::types::{ClientId, Digest, Principal, ReplicaId, SeqNo, View};
use std::collections::BTreeSet;
use std::sync::Arc;

type Certificate<B> = pbft::certificate::PreparedCertificate<<B as Bundle>::Crypto>;

/// What the replica held before a step, of what others have signed.
pub(super) enum Before<'a, B: Bundle> {
    /// Nothing: it starts.
    Nothing,
    /// What its state has.
    Replica(&'a Replica<B>),
    /// What has arrived, verified when it did.
    Inbox(&'a Inbox<B>),
}

impl<B: Bundle> Clone for Before<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Bundle> Copy for Before<'_, B> {}

impl<'a, B: Bundle> Before<'a, B> {
    fn proposal(self, view: View, n: SeqNo) -> Option<&'a Signed<PrePrepare, B::Crypto>> {
        match self {
            Before::Nothing => None,
            Before::Replica(replica) => replica.durable().log.get(&(view, n)),
            Before::Inbox(inbox) => inbox.proposals.get(&(view, n)),
        }
    }

    fn batch(self, digest: Digest) -> Option<&'a Arc<Batch<B::Crypto>>> {
        match self {
            Before::Nothing => None,
            Before::Replica(replica) => replica.durable().batches.get(&digest),
            Before::Inbox(inbox) => inbox.batches.get(&digest),
        }
    }

    /// The reads of a client that wait.
    pub(super) fn reads_of(self, client: ClientId) -> impl Iterator<Item = &'a Signed<Request, B::Crypto>> {
        let (held, kept) = match self {
            Before::Nothing => (None, None),
            Before::Replica(replica) => (Some(replica.known_requests()), None),
            Before::Inbox(inbox) => (None, inbox.reads.get(&client)),
        };
        held.into_iter().flatten().chain(kept)
    }
}

/// Everything that a step has in hand.
pub(super) struct Hand<'a, B: Bundle> {
    pub(super) setup: &'a Setup<B>,
    pub(super) signatures: Signatures,
    pub(super) before: Before<'a, B>,
    pub(super) event: Option<&'a Event<B::Crypto>>,
    pub(super) effects: &'a [Effect<B::Crypto>],
}

/// Who has voted, as far as it is in hand: of a certificate whose votes are gone, a whole quorum.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Votes {
    /// Whether the primary's PRE-PREPARE is among them.
    pub(super) proposal: bool,
    /// Who has sent the other votes.
    pub(super) voters: BTreeSet<ReplicaId>,
}

impl<'a, B: Bundle> Hand<'a, B> {
    /// The message that arrives.
    pub(super) fn message(&self) -> Option<&'a Message<B::Crypto>> {
        match self.event? {
            Event::Message(message) => Some(message),
            Event::Timeout(_) => None,
        }
    }

    fn records(&self) -> impl Iterator<Item = &'a Record<B::Crypto>> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Persist(record) => Some(record),
            _ => None,
        })
    }

    pub(super) fn primary(&self, view: View) -> ReplicaId {
        let n = self.setup.cluster.n().max(1) as u64;
        ReplicaId(u16::try_from(view.0 % n).unwrap_or_default())
    }

    /// `Q = ceil((n + f + 1) / 2)`.
    pub(super) fn quorum(&self) -> usize {
        (self.setup.cluster.n() + self.setup.cluster.f() + 1).div_ceil(2)
    }

    /// Whether a signature is that of this replica over this content.
    fn is_signed<T: Content<Form = Single>>(
        &self,
        content: &T,
        by: ReplicaId,
        signature: &<B::Crypto as Crypto>::Signature,
    ) -> bool {
        let known = usize::from(by.0) < self.setup.cluster.n();
        known
            && B::Crypto::verify(&self.setup.keys, Principal::Replica(by), &content.to_be_signed(), signature)
    }

    /// Whether a message is this replica's, signed by itself. Where signatures are trusted only its signer counts.
    fn is_by<T: Content>(&self, signed: &Signed<T, B::Crypto>, by: ReplicaId) -> bool {
        let named = signed.signer == Principal::Replica(by);
        let known = usize::from(by.0) < self.setup.cluster.n();
        named
            && known
            && (self.signatures == Signatures::Trust || signed.signature_is_valid(&self.setup.keys))
    }

    fn is_vote<T: Content<Form = Single>>(
        &self,
        content: &T,
        by: ReplicaId,
        signature: &<B::Crypto as Crypto>::Signature,
    ) -> bool {
        let known = usize::from(by.0) < self.setup.cluster.n();
        known && (self.signatures == Signatures::Trust || self.is_signed(content, by, signature))
    }

    /// Others' votes for a digest that the replica holds.
    fn held<T: Content<Form = Single>>(
        &self,
        part: Part,
        (view, n, digest): (View, SeqNo, Digest),
        content: impl Fn(ReplicaId) -> T,
    ) -> BTreeSet<ReplicaId> {
        let before = match self.before {
            Before::Nothing => return BTreeSet::new(),
            Before::Replica(before) => before,
            Before::Inbox(inbox) => {
                let votes = if part == Part::Prepares { &inbox.prepares } else { &inbox.commits };
                let voters = votes.get(&(view, n, digest)).into_iter().flatten();
                return voters.copied().filter(|&by| by != self.setup.id).collect();
            }
        };
        let held = before.held_votes(part, n, view);
        let valid = held.into_iter().filter(|(by, of, signature)| {
            *of == digest && *by != self.setup.id && self.is_vote(&content(*by), *by, signature)
        });
        valid.map(|(by, ..)| by).collect()
    }

    /// Who has sent PREPARE, in the normal case; the primary's PRE-PREPARE.
    pub(super) fn prepares(&self, ledger: &Ledger<B>, slot: (View, SeqNo, Digest)) -> Votes {
        let (view, n, digest) = slot;
        let prepare = |replica| Prepare { view, n, digest, replica };
        let mut voters = self.held(Part::Prepares, slot, prepare);
        if let Some(Message::Prepare(m)) = self.message()
            && m.content == prepare(m.content.replica)
            && m.content.replica != self.setup.id
            && self.is_by(m, m.content.replica)
        {
            voters.insert(m.content.replica);
        }
        if ledger.view == view && ledger.accepted.get(&n) == Some(&(digest, Role::Backup)) {
            voters.insert(self.setup.id);
        }
        Votes { proposal: self.is_proposed(ledger, slot), voters }
    }

    /// Whether the PRE-PREPARE of the view's primary is in hand.
    pub(super) fn is_proposed(&self, ledger: &Ledger<B>, (view, n, digest): (View, SeqNo, Digest)) -> bool {
        let primary = self.primary(view);
        if primary == self.setup.id {
            return ledger.view == view && ledger.accepted.get(&n) == Some(&(digest, Role::Primary));
        }
        let wanted = PrePrepare { view, n, digest };
        let is_it =
            |signed: &Signed<PrePrepare, B::Crypto>| signed.content == wanted && self.is_by(signed, primary);
        let arrived = match self.message() {
            Some(Message::PrePrepare(signed, _)) => Some(signed),
            _ => None,
        };
        let logged = self.before.proposal(view, n);
        let recorded = self.records().filter_map(|record| match record {
            Record::PrePrepared(signed, _) => Some(signed),
            _ => None,
        });
        let carried = self.records().filter_map(|record| match record {
            Record::NewView(m) => Some(&m.content.pre_prepares),
            _ => None,
        });
        arrived.into_iter().chain(logged).chain(recorded).chain(carried.flatten()).any(is_it)
    }

    /// Who has sent COMMIT.
    pub(super) fn commits(&self, ledger: &Ledger<B>, slot: (View, SeqNo, Digest)) -> BTreeSet<ReplicaId> {
        let (view, n, digest) = slot;
        let commit = |replica| Commit { view, n, digest, replica };
        let mut voters = self.held(Part::Commits, slot, commit);
        if let Some(Message::Commit(m)) = self.message()
            && m.content == commit(m.content.replica)
            && m.content.replica != self.setup.id
            && self.is_by(m, m.content.replica)
        {
            voters.insert(m.content.replica);
        }
        if ledger.prepared.get(&n) == Some(&(view, digest)) {
            voters.insert(self.setup.id);
        }
        voters
    }

    /// Who has sent the CHECKPOINTs of a certificate.
    pub(super) fn checkpoints(&self, certificate: &pbft::certificate::StableCertificate<B::Crypto>) -> Votes {
        let (n, digest) = (certificate.n, certificate.digest);
        self.votes_of(Claim::Stable(n, digest), &certificate.proof, self.setup.id, |replica| Checkpoint {
            n,
            digest,
            replica,
        })
    }

    /// Whether somebody else has shown the certificate: in the message that arrives, or in a VIEW-CHANGE in the `V` of a
    /// NEW-VIEW that is recorded, whatever makes a new primary put that together.
    pub(super) fn is_shown(&self, certificate: &pbft::certificate::StableCertificate<B::Crypto>) -> bool {
        let arrives =
            matches!(self.message(), Some(Message::Stable(_) | Message::NewView(_) | Message::ViewChange(_)));
        let shows = |of: &ViewChange<B::Crypto>| {
            of.replica != self.setup.id && of.stable.as_ref() == Some(certificate)
        };
        let is_in_v = |record: &Record<B::Crypto>| match record {
            Record::NewView(m) => m.content.view_changes.iter().any(|of| shows(&of.content)),
            _ => false,
        };
        arrives || self.records().any(is_in_v)
    }

    /// Who has sent the PRE-PREPARE and the PREPAREs of a certificate.
    pub(super) fn certificate(&self, of: &Certificate<B>) -> Votes {
        let (view, n, digest) = (of.view, of.n, of.digest);
        let claim = Claim::Prepared(view, n, digest);
        self.votes_of(claim, &of.proof, self.primary(view), |replica| Prepare { view, n, digest, replica })
    }

    fn votes_of<T: Content<Form = Single>>(
        &self,
        claim: Claim,
        proof: &<B::Crypto as Crypto>::Proof,
        primary: ReplicaId,
        vote: impl Fn(ReplicaId) -> T,
    ) -> Votes {
        let found = std::cell::RefCell::new(None);
        let look = |evidence: &Evidence<<B::Crypto as Crypto>::Signature>| {
            let voters =
                evidence.votes.iter().filter(|(by, signature)| self.is_vote(&vote(*by), *by, signature));
            let proposal = match claim {
                Claim::Prepared(view, n, digest) => evidence.proposal.as_ref().is_some_and(|signature| {
                    self.is_vote(&PrePrepare { view, n, digest }, primary, signature)
                }),
                Claim::Stable(..) => true,
            };
            *found.borrow_mut() = Some(Votes { proposal, voters: voters.map(|(by, _)| *by).collect() });
            true
        };
        let holds = B::Crypto::holds(claim, proof, &look);
        match found.into_inner() {
            Some(votes) => votes,
            // The votes are gone; that they were valid is all that is left of them.
            None if holds => Votes { proposal: true, voters: self.setup.cluster.replicas().collect() },
            None => Votes::default(),
        }
    }

    /// The VIEW-CHANGEs of a NEW-VIEW, each of a member and for its view, one of each. In a NEW-VIEW that it makes its
    /// own is the one that it has sent, as it can sign any; in one that arrives it is evidence like the others: it was
    /// judged when it was sent.
    pub(super) fn view_changes<'n>(
        &self,
        ledger: &Ledger<B>,
        of: &'n NewView<B::Crypto>,
    ) -> Vec<&'n ViewChange<B::Crypto>> {
        let mut seen = BTreeSet::new();
        let arrives = matches!(self.message(), Some(Message::NewView(m)) if m.content.view == of.view);
        let is_sent = |m: &ViewChange<B::Crypto>| {
            arrives
                || m.replica != self.setup.id
                || ledger.said.as_ref().is_some_and(|said| said.content == *m)
        };
        let valid = of.view_changes.iter().filter(|m| {
            let is_valid = m.content.view == of.view && self.is_by(m, m.content.replica);
            is_valid && is_sent(&m.content) && seen.insert(m.content.replica)
        });
        valid.map(|m| &m.content).collect()
    }

    /// The batch with this digest, if it is in hand. The digest is worked out again, unless it was for certain when the
    /// batch arrived.
    pub(super) fn batch(&self, digest: Digest) -> Option<Arc<Batch<B::Crypto>>> {
        if digest == Digest::NULL {
            return Some(Arc::new(Batch { requests: Vec::new() }));
        }
        if let Before::Inbox(inbox) = self.before
            && let Some(batch) = inbox.batches.get(&digest)
        {
            return Some(batch.clone());
        }
        let arrived = match self.message() {
            Some(Message::PrePrepare(_, batch) | Message::Batch(batch)) => Some(batch),
            _ => None,
        };
        let kept = self.before.batch(digest);
        let recorded = self.records().filter_map(|record| match record {
            Record::PrePrepared(_, batch) | Record::Batch(batch) => Some(batch),
            _ => None,
        });
        let sent = self.effects.iter().filter_map(|effect| match effect {
            Effect::Send(_, Message::PrePrepare(_, batch)) => Some(batch),
            _ => None,
        });
        kept.into_iter()
            .chain(arrived)
            .chain(recorded)
            .chain(sent)
            .find(|batch| batch.digest() == digest)
            .cloned()
    }

    /// Whether each request of a batch was signed by its client.
    pub(super) fn is_authentic(&self, batch: &Batch<B::Crypto>) -> bool {
        batch.requests.iter().all(|request| {
            let client = request.content.client;
            let known = request.signer == Principal::Client(client) && client.0 < self.setup.clients;
            known && (self.signatures == Signatures::Trust || request.signature_is_valid(&self.setup.keys))
        })
    }
}
