//! What of an agent is kept from one round to the next.

use super::rounds::{Phase, Round, round_of};
use crate::world::{Agent, AgentId, Local, MessageId, World};
use pbft::replica::Subject;
use pbft::types::{Digest, SeqNo, View};
use std::sync::Arc;

/// What correct replicas have committed: view, sequence number and digest, ascending; of each number and digest the
/// lowest view.
pub type Decided = Vec<(View, SeqNo, Digest)>;

/// How agents are cut down.
#[derive(Clone, Copy, Debug)]
pub struct Forms {
    /// The highest view.
    pub max_view: View,
    /// Whether histories are kept whole.
    pub whole_histories: bool,
}

impl Forms {
    /// Whether the replica at `position` will be the primary of a view above `view`.
    pub fn proposes_again(self, world: &World, position: usize, view: View) -> bool {
        let cluster = world.config().cluster;
        (view.0 + 1..=self.max_view.0).any(|later| cluster.primary(View(later)) == world.correct[position])
    }

    /// Whether messages about this subject, sent by a correct replica, can still make a difference after `round`.
    pub fn is_live(self, world: &World, message: MessageId, round: Round) -> bool {
        let Some(subject) = Subject::of(world.tables.message(message)) else { return false };
        let Some(arrives) = round_of(subject) else { return true };
        if arrives > round {
            return true;
        }
        // What certificates are made of is put together when the PREPAREs of the view have been sent; and a
        // Byzantine primary makes NEW-VIEWs of VIEW-CHANGEs as long as they are accepted.
        let until = match subject {
            Subject::NewView(view) | Subject::PrePrepare(view, _) if view < self.max_view => {
                Round { view, phase: Phase::Prepare }
            }
            Subject::ViewChange(view) => Round { view, phase: Phase::Propose },
            _ => return false,
        };
        round < until
    }

    /// The agent without what is over after `round`, and what it has committed.
    pub fn cut(self, world: &mut World, position: usize, id: AgentId, round: Round) -> (AgentId, Decided) {
        let Agent { local, sent } = world.agents[position].agent(id).clone();
        let live: Arc<[MessageId]> =
            sent.iter().copied().filter(|&message| self.is_live(world, message, round)).collect();
        let Local { replica, history } = world.tables.local(local).clone();
        let setup = world.tables.setup(world.correct[position]);
        let last = round.view == self.max_view;
        let replica = match round.phase {
            Phase::Leave => replica.without_view_left(),
            Phase::Assemble if last => replica.without_old_certificates(setup),
            Phase::Commit => {
                replica.without_finished_view(setup, self.proposes_again(world, position, round.view))
            }
            _ => replica,
        };
        let mut decided = Decided::new();
        let mut kept = history.clone();
        if !self.whole_histories {
            for (&(view, n), digests) in history.committed() {
                decided.extend(digests.iter().map(|&digest| (view, n, digest)));
            }
            kept = kept.without_committed();
            if round.phase == Phase::Commit {
                kept = kept.without_views();
            }
        }
        let local = world.tables.add_local(Local { replica, history: kept });
        (world.agent(position, local, live), decided)
    }
}

/// Both, of each number and digest the lowest view.
pub fn merged(one: &Decided, other: &Decided) -> Decided {
    let mut all = [&one[..], &other[..]].concat();
    all.sort_unstable_by_key(|&(view, n, digest)| (n, digest, view));
    all.dedup_by_key(|&mut (_, n, digest)| (n, digest));
    all.sort_unstable();
    all
}
