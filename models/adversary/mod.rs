//! The most general Byzantine replica, and an outsider on the network.
//!
//! They have no state: at any moment everything that they could have sent by then is on the network, that is,
//! everything that follows from the messages sent so far and from their own keys (Dolev and Yao). They cannot
//! sign for others and cannot find a second preimage; they can do anything else, within the bounds of the
//! world.
//!
//! **They make candidates, and the receivers' production validators ([`verify`]) alone refuse.** Nothing is
//! asked of the rules, or of an example, before a candidate is made, and one is offered if any correct replica
//! accepts it; so a mistake in `verify` shows if it lets a candidate through. The candidates are a list: a
//! mistake that lets through only what is not in it does not show here (docs/FOUND.md tells of some). A message is built of parts, and of each part there are sound ones and unsound ones;
//! every combination of sound parts is a candidate, and every combination with one unsound part, or with
//! nothing sound in it at all:
//!
//! | message | what can be unsound |
//! |---|---|
//! | any | signed with another key than the signer's; a signer who is not the sender named; an outsider's |
//! | REQUEST | made up, changed after it was signed, an outsider's |
//! | batch | one request made up or changed beside sound ones; one too many; not the one that the digest names |
//! | vote, PRE-PREPARE | for a digest below or above all that name something; number 0; a PRE-PREPARE taken out of an `O`; a COMMIT with the signature of a PREPARE, or the other way round |
//! | certificate | voters repeated, an outsider's vote, the primary's, a vote not signed or signed for something else, too few; without the primary's signature |
//! | VIEW-CHANGE | a forged certificate beside sound ones; of the view changed to or above; outside of the window; two for one number; out of order; `h` without its proof |
//! | NEW-VIEW | too few VIEW-CHANGEs, never more than a quorum; one that is forged, repeated beside itself or apart, for another view, or refused for what it carries; `O` other than `V` leads to; an entry not signed, or of another view |
//! | BLOCK | of a state that is over, and of one that never was |
//!
//! Of messages that differ only in what no receiver's step depends on (which replicas signed a certificate,
//! which VIEW-CHANGEs led to the same `O`) one is offered; of the digests that name nothing the lowest and
//! the highest stand for all. `tests/adversary` builds messages by brute force, without this code, and checks
//! that nothing that is accepted is missing, and delivers the members of canonical forms to real replicas.
//!
//! | file | what it derives |
//! |---|---|
//! | `sign` | contents in every signer's name |
//! | `requests` | REQUESTs and batches |
//! | `votes` | PRE-PREPARE, PREPARE, COMMIT, CHECKPOINT |
//! | `certificates` | what the votes sent, and its own, prove; and what proves nothing |
//! | `views` | VIEW-CHANGE |
//! | `new_views`, `quorums` | NEW-VIEW, and the `V` that it rests on |
//! | `state` | BLOCK |
//! | `replies` | REPLY with every result in every view |

mod certificates;
mod new_views;
mod quorums;
mod replies;
mod requests;
mod sign;
mod state;
mod views;
mod votes;

pub use certificates::Known;

use crate::crypto::{Keys, Symbolic};
use crate::world::Modelled;
use pbft::crypto::Signed;
use pbft::message::{Batch, Message, Request};
use pbft::parameters::{MAX_WINDOW, Parameters};
use pbft::replica::verify::verify;
use pbft::replica::{Effects, Replica, Setup, Subject};
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// All Byzantine replicas of a world together, and an outsider; they share what they know.
pub struct Adversary {
    /// A correct replica. Its production validator refuses; what is signed with its keys is never offered.
    judge: Own,
    /// The other correct replicas: what the judge refuses one of them may accept.
    other_judges: Vec<Own>,
    /// The same with the longest window: for what a certificate proves it does not matter how far a replica
    /// has come.
    wide: Own,
    bounds: Bounds,
    /// Whose keys there are: the Byzantine replicas', and last those of an outsider.
    signers: Vec<Own>,
    /// Of a client that does not belong to the system.
    outsiders_client: Keys,
    /// The names that a message can bear: those of the members, and the outsider's.
    names: Vec<ReplicaId>,
    /// The digests that can be proposed, voted for and certified.
    digests: BTreeSet<Digest>,
    /// The state before the first request, which everybody knows.
    genesis: Digest,
    /// What depends on nothing that was sent: PRE-PREPAREs, PREPAREs, COMMITs, batches, blocks and requests.
    always: Vec<Msg>,
    /// Whether clients read.
    reads: bool,
    /// Requests that can be in a batch once their clients have sent them, and not before.
    when_sent: BTreeSet<Signed<Request, Symbolic>>,
    /// Batches that go with a PRE-PREPARE.
    batches: Vec<Arc<Batch<Symbolic>>>,
    /// They depend on what is known alone.
    made_view_changes: views::MadeViewChanges,
    made_certificates: certificates::MadeCertificates,
    /// Whether something was let through that is not sound.
    lets_through: AtomicBool,
}

/// Digests that name nothing anybody has: the lowest there can be, the null request's apart, and the highest.
const NOBODYS: [Digest; 2] = {
    let mut lowest = [0; 32];
    lowest[31] = 1;
    [Digest(lowest), Digest([0xff; 32])]
};

impl Adversary {
    /// The adversary that holds the keys of `byzantine`, in a world where `requests` have been signed by
    /// their clients. `judges` are the configurations of all correct replicas.
    pub fn new(
        byzantine: Vec<Arc<Setup<Modelled>>>,
        judges: &[Arc<Setup<Modelled>>],
        requests: &[Signed<Request, Symbolic>],
        bounds: Bounds,
    ) -> Self {
        let (judge, other_judges) = judges.split_first().expect("somebody is correct");
        let (judge, other_judges) = (judge.clone(), other_judges.to_vec());
        let n = u16::try_from(judge.cluster.n()).expect("a cluster's size fits in 16 bits");
        let (outsider, outsiders_client) = Keys::outsiders(n, judge.clients);
        let outsider = Setup { id: ReplicaId(n), keys: Arc::new(outsider), ..(*judge).clone() };
        let parameters = Parameters { window: MAX_WINDOW, ..judge.parameters };
        let initial = Replica::start(&judge, None, &mut Effects::new());
        let mut adversary = Adversary {
            genesis: initial.map_or(NOBODYS[0], |replica| replica.durable().snapshot.tree.root()),
            signers: byzantine.into_iter().chain([Arc::new(outsider)]).collect(),
            outsiders_client,
            names: (0..=n).map(ReplicaId).collect(),
            digests: NOBODYS.into_iter().chain([Digest::NULL]).collect(),
            always: Vec::new(),
            when_sent: BTreeSet::new(),
            reads: requests.iter().any(|request| request.content.read_only),
            batches: Vec::new(),
            made_view_changes: views::MadeViewChanges::default(),
            made_certificates: certificates::MadeCertificates::default(),
            lets_through: AtomicBool::new(false),
            wide: Arc::new(Setup { parameters, ..(*judge).clone() }),
            judge,
            other_judges,
            bounds,
        };
        adversary.make_what_rests_on_nothing(requests);
        adversary
    }

    fn make_what_rests_on_nothing(&mut self, requests: &[Signed<Request, Symbolic>]) {
        let made_up = self.made_up_requests(requests);
        let mut always = Vec::new();
        for request in &made_up {
            self.offer(&mut always, false, Message::Request(request.clone()));
        }
        let batches = self.batches(requests, &made_up);
        for (batch, is_sound) in &batches {
            self.offer(&mut always, *is_sound, Message::Batch(batch.clone()));
        }
        let proposals = self.proposals(&batches);
        let named = |message: &Msg| match message {
            Message::Batch(batch) | Message::PrePrepare(_, batch) => Some((batch.digest(), batch.clone())),
            _ => None,
        };
        let usable: BTreeSet<_> = always.iter().chain(&proposals).filter_map(named).collect();
        self.digests.extend(usable.iter().map(|(digest, _)| *digest));
        let null = [Arc::new(Batch::default())].into_iter();
        let usable: BTreeSet<_> = usable.into_iter().map(|(_, batch)| batch).chain(null).collect();
        self.batches = usable.into_iter().collect();
        always.extend(proposals);
        always.extend(self.proposals_under_other_digests(&batches));
        always.extend(self.votes());
        always.extend(self.blocks());
        self.always = always;
    }

    /// From now on none of these requests is used before it has been sent.
    pub fn knows_when_sent(&mut self, requests: impl IntoIterator<Item = Signed<Request, Symbolic>>) {
        self.when_sent.extend(requests);
    }

    /// Whether everything that clients have signed in a batch has been sent.
    fn is_known(&self, message: &Msg, sent: &[&Msg]) -> bool {
        let (Message::PrePrepare(_, batch) | Message::Batch(batch)) = message else { return true };
        let is_sent =
            |request| sent.iter().any(|message| matches!(message, Message::Request(m) if m == request));
        batch.requests.iter().all(|request| !self.when_sent.contains(request) || is_sent(request))
    }

    /// Whether the primary of `view` is Byzantine.
    pub fn is_primary(&self, view: View) -> bool {
        self.holds(self.primary(view)).is_some()
    }

    /// Whether receivers have let anything through so far that the paper's would refuse.
    pub fn finds_receivers_lenient(&self) -> bool {
        self.lets_through.load(Ordering::Relaxed)
    }

    /// What the messages `sent`, and the adversary's own keys, prove.
    pub fn known(&self, sent: &[&Msg]) -> Known {
        Known::new(self, sent)
    }

    /// Whether a message about `other` can matter to what the adversary makes about `subject`, apart from
    /// what the certificates prove that it knows.
    pub fn rests_on(subject: Subject, other: Subject) -> bool {
        other == subject
            || match subject {
                Subject::PrePrepare(view, _) => {
                    other == Subject::NewView(view) || matches!(other, Subject::Request(..))
                }
                Subject::Batch => matches!(other, Subject::Request(..)),
                // What was signed as the one may be shown as the other.
                Subject::Prepare(view, n) => other == Subject::Commit(view, n),
                Subject::Commit(view, n) => other == Subject::Prepare(view, n),
                Subject::Checkpoint(_) | Subject::Stable(_) => matches!(other, Subject::Checkpoint(_)),
                // CHECKPOINTs name the states that a min-s without proof can have.
                Subject::NewView(_) => matches!(other, Subject::ViewChange(_) | Subject::Checkpoint(_)),
                _ => false,
            }
    }

    /// What can be made about one subject. `sent` needs to hold only what it [rests on](Adversary::rests_on);
    /// `known` is what everything sent proves, for VIEW-CHANGEs and NEW-VIEWs.
    pub fn about(&self, subject: Subject, sent: &[&Msg], known: Option<&Known>) -> Vec<Msg> {
        let mut offered: Vec<Msg> = match subject {
            Subject::PrePrepare(view, n) => self.proposals_of_others(view, n, sent),
            Subject::Prepare(..) | Subject::Commit(..) => self.votes_shown_as_others(subject, sent),
            Subject::Checkpoint(n) => self.checkpoints(n, sent),
            Subject::Stable(n) => self.stable(n, sent),
            Subject::ViewChange(view) => {
                let known = known.map(|known| self.view_changes(known, view)).unwrap_or_default();
                known.iter().cloned().map(Message::ViewChange).collect()
            }
            Subject::NewView(view) => {
                known.map(|known| self.new_views(known, view, sent)).unwrap_or_default()
            }
            Subject::Reply(client, timestamp) => self.replies(client, timestamp),
            _ => Vec::new(),
        };
        let always = self.always.iter().filter(|message| Subject::of(message) == Some(subject));
        offered.extend(always.cloned());
        if !self.when_sent.is_empty() {
            offered.retain(|message| self.is_known(message, sent));
        }
        offered
    }

    /// Everything that the adversary can add to what has been sent, in an order that depends on nothing else;
    /// REPLYs apart.
    pub fn derive(&self, sent: &[&Msg]) -> Vec<Msg> {
        let known = self.known(sent);
        let mut subjects: BTreeSet<Subject> = self.always.iter().filter_map(Subject::of).collect();
        for view in self.views() {
            subjects.extend([Subject::ViewChange(view), Subject::NewView(view)]);
            let slots = self.numbers().flat_map(|n| {
                [Subject::PrePrepare(view, n), Subject::Prepare(view, n), Subject::Commit(view, n)]
            });
            subjects.extend(slots);
        }
        subjects.extend(self.numbers().flat_map(|n| [Subject::Checkpoint(n), Subject::Stable(n)]));
        let about = |subject: &Subject| {
            let matters = |message: &&&Msg| {
                Subject::of(message).is_some_and(|other| Adversary::rests_on(*subject, other))
            };
            let sent: Vec<&Msg> = sent.iter().filter(matters).copied().collect();
            self.about(*subject, &sent, Some(&known))
        };
        subjects.iter().flat_map(about).collect()
    }

    /// Adds a candidate to what is offered unless every receiver's validator refuses it. `is_sound` says
    /// whether the paper's receivers are expected to accept it.
    fn offer(&self, offered: &mut Vec<Msg>, is_sound: bool, message: Msg) -> bool {
        let accepted = self.is_accepted(&message);
        if accepted {
            if !is_sound {
                self.lets_through.store(true, Ordering::Relaxed);
            }
            offered.push(message);
        }
        accepted
    }

    fn is_accepted(&self, message: &Msg) -> bool {
        let judges = std::iter::once(&self.judge).chain(&self.other_judges);
        judges.into_iter().any(|judge| verify(judge, message.clone()).is_ok())
    }

    fn primary(&self, view: View) -> ReplicaId {
        self.judge.cluster.primary(view)
    }

    fn views(&self) -> impl Iterator<Item = View> + use<> {
        (0..=self.bounds.max_view.0).map(View)
    }

    /// The sequence numbers of the world, and 0.
    fn numbers(&self) -> impl Iterator<Item = SeqNo> + use<> {
        (0..=self.bounds.max_seq.0).map(SeqNo)
    }
}
