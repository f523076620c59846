//! What of an agent is kept from one round to the next.

use super::rounds::{Phase, Round, round_of};
use crate::world::{Agent, AgentId, Local, LocalId, MessageId, World};
use pbft::replica::Subject;
use pbft::types::{Digest, SeqNo, View};
use std::sync::Arc;

/// What correct replicas have committed: view, sequence number and digest, ascending; of each number and
/// digest the lowest view.
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
    /// Whether the replica at `position` is the primary of a view in which requests are proposed after
    /// `round`.
    pub fn proposes_again(self, world: &World, position: usize, round: Round) -> bool {
        let cluster = world.config().cluster;
        let proposes = |view: u64| Round { view: View(view), phase: Phase::Order } > round;
        let mut views = (0..=self.max_view.0).filter(|&view| proposes(view));
        views.any(|view| cluster.primary(View(view)) == world.correct[position])
    }

    /// Whether messages about this subject, sent by a correct replica, can still make a difference after
    /// `round`.
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
            // A receiver that does not look at their view lets a NEW-VIEW for a later one rest on them.
            Subject::ViewChange(_) => Round { view: self.max_view, phase: Phase::Propose },
            _ => return false,
        };
        round < until
    }

    /// The agent without what is over after `round`, and what it has committed.
    pub fn cut(self, world: &mut World, position: usize, id: AgentId, round: Round) -> (AgentId, Decided) {
        let Agent { local, sent, crashes } = world.agents[position].agent(id).clone();
        let live: Arc<[MessageId]> = self.live(world, &sent, round).into();
        let (local, decided) = self.cut_local(world, position, local, round);
        (world.agent(position, Agent { local, sent: live, crashes }), decided)
    }

    /// The messages that can still make a difference after `round`.
    pub fn live(self, world: &World, sent: &[MessageId], round: Round) -> Vec<MessageId> {
        sent.iter().copied().filter(|&message| self.is_live(world, message, round)).collect()
    }

    /// The local state without what is over after `round`, and what it has committed.
    pub fn cut_local(
        self,
        world: &mut World,
        position: usize,
        local: LocalId,
        round: Round,
    ) -> (LocalId, Decided) {
        let Local { replica, history, .. } = world.tables.local(local);
        let setup = world.tables.setup(world.correct[position]);
        let mut cut = replica.clone();
        match round.phase {
            Phase::Leave if cut.leaving().is_some() => {
                cut = cut.without_finished_view().without_view_left();
            }
            Phase::Commit => cut = cut.without_finished_view(),
            _ if cut.leaving().is_some() => cut = cut.without_finished_view(),
            _ => {}
        }
        let last = Round { view: self.max_view, phase: Phase::Assemble };
        if self.max_view.0 > 0 && round >= last {
            cut = cut.without_old_certificates(setup);
        }
        cut = cut.without_spare_batches(setup, self.proposes_again(world, position, round));
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
        (world.tables.add_local(Local { replica: cut, history: kept, stored: None, ledger: None }), decided)
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
