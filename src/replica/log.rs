//! Votes received and not yet part of a certificate, and the predicates over the log.

use super::{Bundle, Replica, Setup, Votes};
use crate::crypto::{Crypto, Evidence};
use crate::message::{Batch, PrePrepare};
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::types::{Digest, ReplicaId, SeqNo, View};
use std::sync::Arc;

/// One PREPARE, COMMIT or CHECKPOINT; the sequence number is the key it is kept under.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Vote<C: Crypto> {
    pub(super) view: View,
    pub(super) replica: ReplicaId,
    pub(super) digest: Digest,
    pub(super) signature: C::Signature,
}

/// Logs a vote. The first of a sender counts; a second, equal or not, changes nothing.
pub(super) fn add_vote<C: Crypto, R: Rules>(
    votes: &mut Vec<Vote<C>>,
    vote: Vote<C>,
    rules: &R,
    bound: usize,
) -> Result<(), Rejection> {
    let voted = votes.iter().any(|v| v.replica == vote.replica && v.view == vote.view);
    if !rules.one_vote_per_sender(voted) || votes.len() >= bound {
        return Err(Rejection::Duplicate);
    }
    let position = votes.partition_point(|v| *v <= vote);
    votes.insert(position, vote);
    Ok(())
}

/// Logs a vote of this replica itself. It may already be there; only a mutant then has another to add.
pub(super) fn add_own_vote<C: Crypto, R: Rules>(
    votes: &mut Votes<C>,
    n: SeqNo,
    vote: &Vote<C>,
    rules: &R,
    bound: usize,
) {
    let _ = add_vote(votes.entry(n).or_default(), vote.clone(), rules, bound);
}

impl<B: Bundle> Replica<B> {
    /// The most votes kept in one list: one of each replica in each of at most two views.
    pub(super) fn votes_bound(setup: &Setup<B>) -> usize {
        2 * setup.cluster.n()
    }

    /// The PRE-PREPARE accepted for `(view, n)`.
    pub(super) fn accepted(&self, view: View, n: SeqNo) -> Option<PrePrepare> {
        self.durable.log.get(&(view, n)).map(|signed| signed.content)
    }

    /// The batch that `digest` names, if this replica has it; the null request is the empty batch.
    pub(super) fn batch(&self, digest: Digest) -> Option<Arc<Batch<B::Crypto>>> {
        if digest == Digest::NULL {
            return Some(Arc::new(Batch { requests: Vec::new() }));
        }
        self.durable.batches.get(&digest).cloned()
    }

    /// `prepared(m, v, n, i)`. The certificate stands for the messages. Source: OSDI'99 §4.2.
    pub(super) fn prepared(&self, view: View, n: SeqNo) -> bool {
        self.durable.prepared.get(&n).is_some_and(|certificate| certificate.view == view)
    }

    /// `committed-local(m, v, n, i)`. Source: OSDI'99 §4.2.
    pub(super) fn committed_local(&self, view: View, n: SeqNo) -> bool {
        self.committed.get(&n) == Some(&view)
    }

    /// The logged PREPAREs that match the PRE-PREPARE, as evidence for a certificate.
    pub(super) fn matching_prepares(
        &self,
        setup: &Setup<B>,
        proposal: PrePrepare,
    ) -> Vec<(ReplicaId, <B::Crypto as Crypto>::Signature)> {
        let votes = self.prepares.get(&proposal.n).map_or(&[][..], Vec::as_slice);
        matching(setup, votes, proposal).map(|vote| (vote.replica, vote.signature.clone())).collect()
    }

    /// How many logged COMMITs match the PRE-PREPARE.
    pub(super) fn matching_commits(&self, setup: &Setup<B>, proposal: PrePrepare) -> usize {
        let votes = self.commits.get(&proposal.n).map_or(&[][..], Vec::as_slice);
        matching(setup, votes, proposal).count()
    }

    /// Forgets votes that can no longer form anything, and empty lists with them.
    pub(super) fn forget_votes(&mut self, keep: impl Fn(SeqNo, &Vote<B::Crypto>, Phase) -> bool) {
        let forget = |of: &mut Votes<B::Crypto>, phase| {
            for (&n, votes) in of.iter_mut() {
                votes.retain(|vote| keep(n, vote, phase));
            }
            of.retain(|_, votes| !votes.is_empty());
        };
        self.prepares.update(|votes| forget(votes, Phase::Prepare));
        self.commits.update(|votes| forget(votes, Phase::Commit));
    }
}

/// Which of the two votes of the normal case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Prepare,
    Commit,
}

fn matching<'a, B: Bundle>(
    setup: &'a Setup<B>,
    votes: &'a [Vote<B::Crypto>],
    proposal: PrePrepare,
) -> impl Iterator<Item = &'a Vote<B::Crypto>> {
    votes.iter().filter(move |vote| {
        setup.rules.votes_match_view(vote.view, proposal.view)
            && setup.rules.votes_match_digest(vote.digest, proposal.digest)
    })
}

/// The first `quorum` votes as evidence, with the primary's signature for a prepared certificate.
pub(super) fn evidence<S: Clone>(
    proposal: Option<S>,
    mut votes: Vec<(ReplicaId, S)>,
    quorum: usize,
) -> Evidence<S> {
    votes.sort_by_key(|&(replica, _)| replica);
    votes.truncate(quorum);
    Evidence { proposal, votes }
}
