//! Votes received and not yet part of a certificate, and the predicates over the log.

use super::noted::Cells;
use super::received::Voted;
use super::{Bundle, Replica, Setup, Votes};
use crate::crypto::{Crypto, Evidence};
use crate::message::{Batch, PrePrepare};
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::types::{Digest, ReplicaId, SeqNo, View};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What one PREPARE, COMMIT or CHECKPOINT says besides what it is kept under.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(bound = "")]
pub(super) struct Vote<C: Crypto> {
    pub(super) digest: Digest,
    pub(super) signature: C::Signature,
}

/// Logs a vote. The first of a sender counts; a second, equal or not, changes nothing.
///
/// One sender has at most one vote for each number in the window and view that is accepted, so the log is
/// bounded. Without that rule it has at most `bound`.
pub(super) fn add_vote<C: Crypto, R: Rules, const PART: u8>(
    votes: &mut Votes<C, PART>,
    voted: Voted,
    vote: Vote<C>,
    rules: &R,
    bound: usize,
) -> Result<(), Rejection> {
    let voted_before = votes.contains(voted);
    if !rules.one_vote_per_sender(voted_before) || voted_before && votes.get(voted).len() >= bound {
        return Err(Rejection::Duplicate);
    }
    votes.push(voted, vote);
    Ok(())
}

/// Logs a vote of this replica itself. It may already be there; only a mutant then has another to add.
pub(super) fn add_own_vote<C: Crypto, R: Rules, const PART: u8>(
    votes: &mut Votes<C, PART>,
    voted: Voted,
    vote: Vote<C>,
    rules: &R,
    bound: usize,
) {
    let _ = add_vote(votes, voted, vote, rules, bound);
}

impl<B: Bundle> Replica<B> {
    /// The most messages kept of one sender for one thing, where a rule is off and it may send several: one
    /// more makes no quorum that fewer do not make.
    pub(super) fn repeats_bound(setup: &Setup<B>) -> usize {
        setup.cluster.quorum()
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
        let matching = matching(setup, &self.prepares, proposal);
        matching.into_iter().map(|(replica, vote)| (replica, vote.signature.clone())).collect()
    }

    /// How many logged COMMITs match the PRE-PREPARE.
    pub(super) fn matching_commits(&self, setup: &Setup<B>, proposal: PrePrepare) -> usize {
        matching(setup, &self.commits, proposal).len()
    }

    /// Forgets votes that can no longer form anything.
    pub(super) fn forget_votes(&mut self, keep: impl Fn(Voted, Phase) -> bool + Sync) {
        self.prepares.retain(|voted| keep(voted, Phase::Prepare));
        self.commits.retain(|voted| keep(voted, Phase::Commit));
    }
}

/// Which of the two votes of the normal case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Prepare,
    Commit,
}

/// The votes that match a PRE-PREPARE, and who cast them.
fn matching<'a, B: Bundle, const PART: u8>(
    setup: &Setup<B>,
    votes: &'a Votes<B::Crypto, PART>,
    proposal: PrePrepare,
) -> Vec<(ReplicaId, &'a Vote<B::Crypto>)> {
    let at = Cells { n: Some(proposal.n), ..Votes::<B::Crypto, PART>::all() };
    let in_view = |voted: &Voted| setup.rules.votes_match_view(voted.view, proposal.view);
    let cast = |(voted, vote): (Voted, &'a Vote<B::Crypto>)| in_view(&voted).then_some((voted.replica, vote));
    if setup.rules.votes_match_digest(false) {
        votes.iter(at).filter_map(cast).collect()
    } else {
        votes.naming(at, proposal.digest).filter_map(cast).collect()
    }
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
