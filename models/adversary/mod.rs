//! The most general Byzantine replica.
//!
//! It has no state: at any moment everything that it could have sent by then is on the network, that is,
//! everything that follows from the messages sent so far and from its own keys (Dolev and Yao). It cannot sign
//! for others and cannot find a second preimage; it can do anything else, within the bounds of the world.
//!
//! Each candidate is put before the production validator of the receivers, and what that refuses is left out, since
//! a refused message changes nothing; so a mutant whose validator accepts more is offered more. Of messages that
//! differ only in what no receiver's step depends on (which replicas signed a certificate, which VIEW-CHANGEs led to
//! the same `O`) one is offered; one digest stands for all that name nothing.
//!
//! Not among the candidates yet, so mutants of these rules are not given a chance: keys of outsiders
//! (`members-only`), repeated voters in certificates, repeated or foreign VIEW-CHANGEs in `V`, certificates beyond the
//! window or of later views, and several certificates for one number. The paper's validator refuses all of them.
//!
//! | file | what it derives |
//! |---|---|
//! | `votes` | PRE-PREPARE, PREPARE, COMMIT, CHECKPOINT, and certificates from the votes of others |
//! | `replies` | REPLY with every result in every view |
//! | `views` | VIEW-CHANGE with every provable C and P, NEW-VIEW with every reachable min-s and O |

mod replies;
mod views;
mod votes;

pub use votes::Known;

use crate::crypto::Symbolic;
use crate::world::Modelled;
use pbft::crypto::Signed;
use pbft::message::{Batch, Message, Request};
use pbft::replica::verify::verify;
use pbft::replica::{Setup, Subject};
use pbft::types::{Bytes, ClientId, Digest, Principal, ReplicaId, SeqNo, Timestamp, View};
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
    /// PRE-PREPAREs, PREPAREs, COMMITs and batches, which depend on nothing that was sent.
    always: Vec<Msg>,
    /// A request that no client signed, for receivers that do not check.
    forged: Option<Signed<Request, Symbolic>>,
}

/// A digest that names nothing anybody has.
const NOBODYS: Digest = Digest([0xff; 32]);

impl Adversary {
    /// The adversary that holds the keys of `byzantine`, in a world where `requests` have been signed by their
    /// clients. `judge` is the configuration of any correct replica.
    pub fn new(
        byzantine: Vec<Arc<Setup<Modelled>>>,
        judge: Arc<Setup<Modelled>>,
        requests: &[Signed<Request, Symbolic>],
        bounds: Bounds,
    ) -> Self {
        let forged = byzantine.first().map(|setup| {
            let (operation, client) = (Bytes::from(&b"forged"[..]), ClientId(0));
            let content = Request { operation, timestamp: Timestamp(2), client, read_only: false };
            Signed { signer: Principal::Client(client), ..setup.sign(content) }
        });
        let requests: Vec<_> = requests.iter().cloned().chain(forged.clone()).collect();
        let mut batches: Vec<_> = batches(&requests, bounds.max_batch).into_iter().map(Arc::new).collect();
        batches.retain(|batch| verify(&judge, Message::Batch(batch.clone())).is_ok());
        let mut adversary = Adversary { byzantine, judge, bounds, batches, always: Vec::new(), forged };
        let mut always = adversary.proposals();
        always.extend(adversary.votes());
        always.extend(adversary.batches.iter().map(|batch| Message::Batch(batch.clone())));
        always.retain(|message| adversary.is_accepted(message));
        adversary.always = always;
        adversary
    }

    /// Whether there is a Byzantine replica at all.
    pub fn is_anybody(&self) -> bool {
        !self.byzantine.is_empty()
    }

    /// Whether the primary of `view` is Byzantine.
    pub fn is_primary(&self, view: View) -> bool {
        self.holds(self.primary(view)).is_some()
    }

    /// What the messages `sent`, and the adversary's own keys, prove.
    pub fn known(&self, sent: &[&Msg]) -> Known {
        Known::new(self, sent)
    }

    /// The part of [`Adversary::derive`] that is about one subject. `sent` needs to hold only what was sent about
    /// it, or about VIEW-CHANGEs of its view, or CHECKPOINTs of its number; `known` is what everything sent proves,
    /// for VIEW-CHANGEs and NEW-VIEWs.
    pub fn about(&self, subject: Subject, sent: &[&Msg], known: Option<&Known>) -> Vec<Msg> {
        let mut offered: Vec<Msg> = match subject {
            Subject::Checkpoint(_) => self.checkpoints(&self.known(sent)),
            Subject::Stable(_) => self.known(sent).stable().iter().cloned().map(Message::Stable).collect(),
            Subject::ViewChange(_) | Subject::NewView(_) => {
                let Some(known) = known else { return Vec::new() };
                let view_changes = self.view_changes(known);
                if let Subject::NewView(_) = subject {
                    self.new_views(&known.with_view_changes(sent), &view_changes)
                } else {
                    view_changes.into_iter().map(Message::ViewChange).collect()
                }
            }
            Subject::Request(..) => self.forged.iter().cloned().map(Message::Request).collect(),
            Subject::Reply(client, timestamp) => self.replies(client, timestamp),
            _ => Vec::new(),
        };
        offered.retain(|message| Subject::of(message) == Some(subject) && self.is_accepted(message));
        let always = self.always.iter().filter(|message| Subject::of(message) == Some(subject));
        offered.extend(always.cloned());
        offered
    }

    /// Everything that the adversary can add to what has been sent, in an order that depends on nothing else.
    pub fn derive(&self, sent: &[&Msg]) -> Vec<Msg> {
        let known = Known::new(self, sent);
        let mut offered = self.checkpoints(&known);
        offered.extend(known.stable().iter().cloned().map(Message::Stable));
        let view_changes = self.view_changes(&known);
        offered.extend(self.new_views(&known, &view_changes));
        offered.extend(view_changes.into_iter().map(Message::ViewChange));
        offered.retain(|message| self.is_accepted(message));
        offered.extend(self.always.iter().cloned());
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

    /// The digests that a certificate can be for: of every batch, and of the null request.
    fn digests(&self) -> BTreeSet<Digest> {
        self.batches.iter().map(|batch| batch.digest()).chain([Digest::NULL]).collect()
    }
}

/// Every list of requests, repetitions included, from one up to `most` of them.
fn batches(requests: &[Signed<Request, Symbolic>], most: usize) -> Vec<Batch<Symbolic>> {
    let mut all: Vec<Vec<usize>> = Vec::new();
    let mut longest: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..most {
        longest = (longest.iter())
            .flat_map(|chosen| {
                (0..requests.len()).map(|next| [&chosen[..], &[next]].concat()).collect::<Vec<_>>()
            })
            .collect();
        all.extend(longest.iter().cloned());
    }
    let batch =
        |chosen: Vec<usize>| Batch { requests: chosen.iter().map(|&i| requests[i].clone()).collect() };
    all.into_iter().map(batch).collect()
}
