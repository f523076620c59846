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
//! What a receiver by the paper's rules refuses as a class (votes of outsiders, repeated voters in certificates,
//! repeated or foreign VIEW-CHANGEs in `V`, several certificates for one number, an `O` that does not follow from
//! `V`, ...) is among the candidates where its validator lets an example through (`liberties`). Certificates
//! of any view and number are always tried. `tests/adversary` builds messages by brute force and checks that
//! nothing is missing.
//!
//! | file | what it derives |
//! |---|---|
//! | `votes` | PRE-PREPARE, PREPARE, COMMIT, CHECKPOINT, and certificates from the votes of others |
//! | `views` | VIEW-CHANGE with every provable C and P |
//! | `new_views` | NEW-VIEW with every reachable min-s and O |
//! | `liberties` | what the receivers' validator lets through beyond the paper |
//! | `replies` | REPLY with every result in every view |

mod liberties;
mod new_views;
mod replies;
mod views;
mod votes;

pub use votes::Known;

use crate::crypto::Symbolic;
use crate::world::Modelled;
use liberties::Liberties;
use pbft::crypto::Signed;
use pbft::message::{Batch, Message, PrePrepare, Prepare, Request};
use pbft::replica::verify::verify;
use pbft::replica::{Effects, Replica, Setup, Subject};
use pbft::rules::Rules;
use pbft::types::{Bytes, ClientId, Digest, Principal, ReplicaId, SeqNo, Timestamp, View, Watermarks};
use std::collections::BTreeSet;
use std::sync::Arc;

type Msg = Message<Symbolic>;
type Own = Arc<Setup<Modelled>>;

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
    /// A correct replica, whose production validator decides what makes a difference.
    judge: Own,
    bounds: Bounds,
    liberties: Liberties,
    /// Whose keys it holds: the Byzantine replicas', and an outsider's if anybody listens to outsiders.
    signers: Vec<Own>,
    /// Whose keys pass for which sender: each replica's for itself, unless receivers believe what they read.
    voices: Vec<(Own, ReplicaId)>,
    /// Who is believed to propose in which view.
    proposers: Vec<(View, Own)>,
    batches: Vec<Arc<Batch<Symbolic>>>,
    /// The digests that a certificate can be for: of every batch, of the null request, and nobody's if a
    /// certificate for it can convince at all.
    certifiable: BTreeSet<Digest>,
    /// The state before the first request, which everybody knows.
    genesis: Digest,
    /// Numbers at which its own votes alone make any state a stable checkpoint.
    unchecked: Vec<SeqNo>,
    /// PRE-PREPAREs, PREPAREs, COMMITs, batches and requests, which depend on nothing that was sent.
    always: Vec<Msg>,
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
        let (outsider, outsiders_request) = liberties::outsiders(&judge);
        // A request that no client signed, for receivers that do not check.
        let forged = byzantine.first().map(|setup| {
            let (operation, client) = (Bytes::from(&b"forged"[..]), ClientId(0));
            let content = Request { operation, timestamp: Timestamp(2), client, read_only: false };
            Signed { signer: Principal::Client(client), ..setup.sign(content) }
        });
        let mut own_requests: Vec<_> = forged.into_iter().chain([outsiders_request]).collect();
        own_requests.retain(|request| verify(&judge, Message::Request(request.clone())).is_ok());
        let requests: Vec<_> = requests.iter().chain(&own_requests).cloned().collect();
        let mut batches: Vec<_> = batches(&requests, bounds.max_batch).into_iter().map(Arc::new).collect();
        batches.retain(|batch| verify(&judge, Message::Batch(batch.clone())).is_ok());
        let initial = Replica::start(&judge, None, &mut Effects::new());
        let mut adversary = Adversary {
            liberties: Liberties::granted_by(&judge),
            certifiable: batches.iter().map(|batch| batch.digest()).chain([Digest::NULL]).collect(),
            genesis: initial.map_or(NOBODYS, |replica| replica.durable().snapshot.tree.root()),
            judge,
            bounds,
            signers: byzantine,
            voices: Vec::new(),
            proposers: Vec::new(),
            batches,
            unchecked: Vec::new(),
            always: Vec::new(),
        };
        adversary.find_voices(outsider);
        adversary.unchecked = adversary.unchecked_numbers();
        let mut always = adversary.proposals();
        if adversary.is_anybody() {
            always.extend(liberties::stale_blocks(&adversary.judge));
        }
        always.extend(adversary.votes());
        always.extend(adversary.batches.iter().map(|batch| Message::Batch(batch.clone())));
        always.extend(own_requests.into_iter().map(Message::Request));
        always.retain(|message| adversary.is_accepted(message));
        adversary.always = always;
        if adversary.can_certify_nobodys() {
            adversary.certifiable.insert(NOBODYS);
        }
        adversary
    }

    /// Finds out who can pass for whom, by example: a vote, and a proposal.
    fn find_voices(&mut self, outsider: Own) {
        let names: Vec<_> = self.judge.cluster.replicas().collect();
        let keys: Vec<_> = self.signers.iter().cloned().chain([outsider.clone()]).collect();
        let slots =
            self.signers.iter().flat_map(|setup| names.iter().map(move |&name| (setup.clone(), name)));
        let slots = slots.chain([(outsider.clone(), outsider.id)]);
        let heard = |(setup, replica): &(Own, ReplicaId)| {
            let vote = Prepare { view: View(0), n: SeqNo(1), digest: NOBODYS, replica: *replica };
            self.is_accepted(&Message::Prepare(setup.sign(vote)))
        };
        self.voices = slots.filter(heard).collect();
        let slots = self.views().flat_map(|view| keys.iter().map(move |setup| (view, setup.clone())));
        let believed = |(view, setup): &(View, Own)| {
            let proposal = PrePrepare { view: *view, n: SeqNo(1), digest: Digest::NULL };
            self.is_accepted(&Message::PrePrepare(setup.sign(proposal), Arc::new(Batch::default())))
        };
        self.proposers = slots.filter(believed).collect();
        if self.voices.iter().any(|(setup, _)| setup.id == outsider.id) {
            self.signers.push(outsider);
        }
    }

    /// Whether there is a Byzantine replica at all, or an outsider to whom anybody listens.
    pub fn is_anybody(&self) -> bool {
        !self.signers.is_empty()
    }

    /// Whether the primary of `view` is Byzantine.
    pub fn is_primary(&self, view: View) -> bool {
        self.holds(self.primary(view)).is_some()
    }

    /// Whether receivers let through so much that what can be made about a subject may rest on messages about any
    /// other; with the paper's rules they do not.
    pub fn takes_liberties(&self) -> bool {
        let others_propose = self.proposers.iter().any(|(view, setup)| setup.id != self.primary(*view));
        self.liberties != Liberties::default() || others_propose
    }

    /// What the messages `sent`, and the adversary's own keys, prove.
    pub fn known(&self, sent: &[&Msg]) -> Known {
        Known::new(self, sent)
    }

    /// The part of [`Adversary::derive`] that is about one subject, for an adversary that takes no liberties. `sent`
    /// needs to hold only what was sent about it, or about VIEW-CHANGEs of its view, or CHECKPOINTs of its number;
    /// `known` is what everything sent proves, for VIEW-CHANGEs and NEW-VIEWs.
    pub fn about(&self, subject: Subject, sent: &[&Msg], known: Option<&Known>) -> Vec<Msg> {
        let mut offered: Vec<Msg> = match subject {
            Subject::Checkpoint(_) => self.checkpoints(&self.known(sent)),
            Subject::Stable(_) => self.known(sent).stable().iter().cloned().map(Message::Stable).collect(),
            Subject::ViewChange(_) | Subject::NewView(_) => {
                let Some(known) = known else { return Vec::new() };
                let view_changes = self.view_changes(known);
                if let Subject::NewView(_) = subject {
                    self.new_views(&known.with_view_changes(self, sent), &view_changes)
                } else {
                    view_changes.into_iter().map(Message::ViewChange).collect()
                }
            }
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
        offered.extend(self.proposals_of_others(&known));
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

    fn holds(&self, replica: ReplicaId) -> Option<&Own> {
        self.signers.iter().find(|setup| setup.id == replica)
    }

    fn primary(&self, view: View) -> ReplicaId {
        self.judge.cluster.primary(view)
    }

    fn views(&self) -> impl Iterator<Item = View> + use<> {
        (0..=self.bounds.max_view.0).map(View)
    }

    /// The sequence numbers of the world; 0 too, for receivers that take what has executed.
    fn numbers(&self) -> impl Iterator<Item = SeqNo> + use<> {
        let start = Watermarks { h: SeqNo(0), window: self.judge.parameters.window };
        let first = u64::from(!self.judge.rules.low_water_mark(SeqNo(0), start));
        (first..=self.bounds.max_seq.0).map(SeqNo)
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
