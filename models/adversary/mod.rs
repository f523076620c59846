//! The most general Byzantine replica.
//!
//! It has no state: at any moment everything that it could have sent by then is on the network, that is,
//! everything that follows from the messages sent so far and from its own keys (Dolev and Yao). It cannot sign
//! for others and cannot find a second preimage; it can do anything else, within the bounds of the world.
//!
//! What it offers is exactly what could make a difference: each candidate is put before the production validator
//! of the receivers, and what that refuses is left out, since a refused message changes nothing. So a mutant whose
//! validator accepts more is offered more. Of messages that differ only in what no receiver's step depends on
//! (which replicas signed a certificate, which VIEW-CHANGEs led to the same `O`) one is offered.
//!
//! | file | what it derives |
//! |---|---|
//! | `votes` | PRE-PREPARE, PREPARE, COMMIT, CHECKPOINT, and certificates from the votes of others |
//! | `views` | VIEW-CHANGE with every provable C and P, NEW-VIEW with every reachable min-s and O |

mod views;
mod votes;

use crate::crypto::Symbolic;
use crate::world::Modelled;
use pbft::crypto::Signed;
use pbft::message::{Batch, Message, Request};
use pbft::replica::Setup;
use pbft::replica::verify::verify;
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use std::collections::BTreeSet;
use std::sync::Arc;

type Msg = Message<Symbolic>;

/// What the adversary may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// The highest view.
    pub max_view: View,
    /// The highest sequence number.
    pub max_seq: SeqNo,
    /// The most requests in one batch.
    pub max_batch: usize,
}

/// All Byzantine replicas of a world together; they share what they know.
pub struct Adversary {
    byzantine: Vec<Arc<Setup<Modelled>>>,
    /// A correct replica, whose production validator decides what makes a difference.
    judge: Arc<Setup<Modelled>>,
    bounds: Bounds,
    batches: Vec<Arc<Batch<Symbolic>>>,
}

impl Adversary {
    /// The adversary that holds the keys of `byzantine`, in a world where `requests` have been signed by their
    /// clients. `judge` is the configuration of any correct replica.
    pub fn new(
        byzantine: Vec<Arc<Setup<Modelled>>>,
        judge: Arc<Setup<Modelled>>,
        requests: &[Signed<Request, Symbolic>],
        bounds: Bounds,
    ) -> Self {
        let batches = batches(requests, bounds.max_batch).into_iter().map(Arc::new).collect();
        Adversary { byzantine, judge, bounds, batches }
    }

    /// Everything that the adversary can add to what has been sent, in an order that depends on nothing else.
    pub fn derive(&self, sent: &[&Msg]) -> Vec<Msg> {
        let known = votes::Known::new(self, sent);
        let mut offered = self.proposals();
        offered.extend(self.votes());
        offered.extend(self.checkpoints(&known));
        offered.extend(self.batches.iter().map(|batch| Message::Batch(batch.clone())));
        offered.extend(known.stable().iter().cloned().map(Message::Stable));
        let view_changes = self.view_changes(&known);
        offered.extend(self.new_views(&known, &view_changes));
        offered.extend(view_changes.into_iter().map(Message::ViewChange));
        offered.retain(|message| self.is_accepted(message));
        offered
    }

    fn is_accepted(&self, message: &Msg) -> bool {
        verify(&self.judge, message.clone()).is_ok()
    }

    fn holds(&self, replica: ReplicaId) -> Option<&Arc<Setup<Modelled>>> {
        self.byzantine.iter().find(|setup| setup.id == replica)
    }

    fn primary(&self, view: View) -> ReplicaId {
        self.judge.cluster.primary(view)
    }

    fn views(&self) -> impl Iterator<Item = View> + use<> {
        (0..=self.bounds.max_view.0).map(View)
    }

    fn numbers(&self) -> impl Iterator<Item = SeqNo> + use<> {
        (1..=self.bounds.max_seq.0).map(SeqNo)
    }

    /// The digests that a vote can be for: of every batch, and of the null request.
    fn digests(&self) -> BTreeSet<Digest> {
        self.batches.iter().map(|batch| batch.digest()).chain([Digest::NULL]).collect()
    }
}

/// Every ordered choice of distinct requests, from one up to `most` of them.
fn batches(requests: &[Signed<Request, Symbolic>], most: usize) -> Vec<Batch<Symbolic>> {
    let mut all: Vec<Vec<usize>> = Vec::new();
    let mut longest: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..most {
        longest = (longest.iter())
            .flat_map(|chosen| {
                let rest = (0..requests.len()).filter(|i| !chosen.contains(i));
                rest.map(|next| [&chosen[..], &[next]].concat()).collect::<Vec<_>>()
            })
            .collect();
        all.extend(longest.iter().cloned());
    }
    let batch =
        |chosen: Vec<usize>| Batch { requests: chosen.iter().map(|&i| requests[i].clone()).collect() };
    all.into_iter().map(batch).collect()
}
