//! What is false in a message that no correct node has sent.
//!
//! Everything here is judged by the paper's rules and by what correct nodes have sent by then, whatever rules
//! the receiver runs by.

use super::Names;
use crate::crypto::Symbolic;
use crate::mutants::Rulebook;
use crate::words::{in_short, name, text};
use crate::world::{Modelled, WorldConfig};
use pbft::certificate::PreparedCertificate;
use pbft::crypto::{Content, Crypto, SignatureOf, Signed};
use pbft::message::{Batch, Message, PrePrepare, ViewChange};
use pbft::replica::Setup;
use pbft::types::{Digest, Principal, SeqNo, View};
use std::collections::BTreeSet;

type Msg = Message<Symbolic>;

/// What is known when a message arrives.
pub struct Truth<'a> {
    pub(super) config: &'a WorldConfig,
    /// A correct replica's, with the paper's rules.
    pub(super) setup: Setup<Modelled>,
    pub(super) names: &'a Names,
    /// What correct nodes have sent by then.
    pub(super) sent: Vec<&'a Msg>,
    /// Everything that is delivered in the whole execution, with the number of its step and the receiver.
    pub(super) delivered: &'a [(usize, Principal, Msg)],
    /// The number of the step at which it arrives, and where.
    pub(super) at: usize,
    pub(super) to: Principal,
    /// The blocks that it fetches then.
    pub(super) wanted: BTreeSet<Digest>,
}

impl<'a> Truth<'a> {
    /// What is known at the step `at`, at which something arrives at `to`, when correct nodes have sent
    /// `sent`.
    pub fn new(
        config: &'a WorldConfig,
        names: &'a Names,
        sent: Vec<&'a Msg>,
        delivered: &'a [(usize, Principal, Msg)],
        (at, to): (usize, Principal),
        wanted: BTreeSet<Digest>,
    ) -> Self {
        let judge = config.correct().first().map_or(0, |replica| usize::from(replica.0));
        let setup = Setup { rules: Rulebook::default(), ..(*config.setups()[judge]).clone() };
        Truth { config, setup, names, sent, delivered, at, to, wanted }
    }

    /// Whether a correct node has sent just this, and if it is a block, to somebody who has asked for it.
    pub fn was_sent(&self, message: &Msg) -> bool {
        let is_asked_for = match message {
            Message::Block(block) => self.wanted.contains(&Symbolic::digest(block)),
            _ => true,
        };
        is_asked_for && self.sent.contains(&message)
    }

    /// What is wrong with a block, if it is not one that the receiver has asked for.
    pub fn why_unwanted(&self, block: &[u8]) -> String {
        let (to, digest) = (name(self.to), self.names.of(Symbolic::digest(block)));
        if self.wanted.is_empty() {
            return format!("{to} fetches no state, and the block {digest} is of no use to it");
        }
        let wanted = listed(self.wanted.iter().map(|&digest| self.names.of(digest)));
        format!("{to} fetches the block with the digest {wanted}, and the digest of this one is {digest}")
    }

    /// Everything that is false in a message; nothing if it says what a correct replica could say.
    pub fn lies(&self, message: &Msg) -> Vec<String> {
        if self.was_sent(message) {
            return Vec::new();
        }
        let mut lies = Vec::new();
        match message {
            Message::Request(m) => lies.extend(self.signature(m)),
            Message::PrePrepare(m, batch) => self.of_pre_prepare(m, batch, &mut lies),
            Message::Prepare(m) => {
                lies.extend(self.signature(m));
                self.of_vote(message, m.content.view, &mut lies);
            }
            Message::Commit(m) => {
                lies.extend(self.signature(m));
                self.of_vote(message, m.content.view, &mut lies);
                self.of_commit(m.content.view, m.content.n, m.content.digest, &mut lies);
            }
            Message::Checkpoint(m) => {
                lies.extend(self.signature(m));
                if !self.has_state(m.content.n, m.content.digest) {
                    lies.push(format!(
                        "no correct replica has the state {} after n{}",
                        self.names.of(m.content.digest),
                        m.content.n.0
                    ));
                }
            }
            Message::ViewChange(m) => lies.extend(self.of_view_change(m)),
            Message::NewView(m) => self.of_new_view(m, &mut lies),
            Message::Reply(m) => {
                lies.extend(self.signature(m));
                let same = |other: &&&Msg| {
                    matches!(other, Message::Reply(o) if (o.content.client, o.content.timestamp, &o.content.result)
                        == (m.content.client, m.content.timestamp, &m.content.result))
                };
                if !self.sent.iter().any(|other| same(&other)) {
                    lies.push(format!(
                        "no correct replica answers t{} of c{} with {}",
                        m.content.timestamp.0,
                        m.content.client.0,
                        text(&m.content.result)
                    ));
                }
            }
            Message::Status(m) => lies.extend(self.signature(m)),
            Message::Fetch(m) => lies.extend(self.signature(m)),
            Message::Batch(batch) => self.of_batch(batch, &mut lies),
            Message::Block(block) => lies.push(self.why_unwanted(block)),
            Message::Stable(certificate) => lies.extend(self.unproved_stable(certificate)),
        }
        lies
    }

    /// The parts of a message that its short form leaves out: batches, votes in certificates, what is in V.
    pub fn unfolded(&self, message: &Msg) -> Vec<String> {
        match message {
            Message::PrePrepare(m, batch) if batch.digest() != m.content.digest => {
                vec![format!("with {}", self.batch(batch))]
            }
            Message::ViewChange(m) => self.certificates(&m.content),
            Message::NewView(m) => {
                let told = m.content.view_changes.iter().flat_map(|m| {
                    let short = in_short(&Message::ViewChange(m.clone()), &|digest| self.names.of(digest));
                    let inside = self.certificates(&m.content).into_iter().map(|line| format!("  {line}"));
                    std::iter::once(format!("V: {} {short}", name(m.signer))).chain(inside)
                });
                told.collect()
            }
            Message::Stable(certificate) => vec![self.stable(certificate).votes],
            Message::Block(block) => {
                let digest = Symbolic::digest(block);
                vec![format!("{}: {}", self.names.of(digest), self.names.contents(digest))]
            }
            _ => Vec::new(),
        }
    }

    fn certificates(&self, content: &ViewChange<Symbolic>) -> Vec<String> {
        let stable = content.stable.iter().map(|certificate| {
            format!(
                "checkpoint n{} {}: {}",
                certificate.n.0,
                self.names.of(certificate.digest),
                self.stable(certificate).votes
            )
        });
        let prepared =
            content.prepared.iter().map(|c| format!("{}: {}", self.claim(c), self.prepared(c).votes));
        stable.chain(prepared).collect()
    }

    fn claim(&self, c: &PreparedCertificate<Symbolic>) -> String {
        format!("{} prepared in v{} at n{}", self.names.of(c.digest), c.view.0, c.n.0)
    }

    fn batch(&self, batch: &Batch<Symbolic>) -> String {
        match batch.requests.is_empty() {
            true => "an empty batch".into(),
            false => format!("the batch {}", self.names.of(batch.digest())),
        }
    }

    // --- signatures ---

    pub(super) fn signature<T>(&self, m: &Signed<T, Symbolic>) -> Option<String>
    where
        T: Content,
        SignatureOf<T, Symbolic>: std::fmt::Display,
    {
        let (signer, n) = (name(m.signer), self.config.cluster.n());
        let is_member = match m.signer {
            Principal::Replica(replica) => self.config.cluster.contains(replica),
            Principal::Client(client) => client.0 < self.config.requests,
        };
        if !is_member {
            return Some(format!("{signer} is no member: the replicas are r0 to r{}", n - 1));
        }
        if !m.signature_is_valid(&self.setup.keys) {
            let by = m.signature.to_string();
            let by = by.split(':').next().unwrap_or_default();
            return Some(match by == signer {
                true => format!("the signature is {signer}'s, under something else"),
                false => format!("{signer} has not signed this: the signature is {by}'s"),
            });
        }
        let says = m.content.sender().filter(|&says| says != m.signer)?;
        Some(format!("signed by {signer}, and says that it is from {}", name(says)))
    }

    // --- the normal case ---

    fn of_pre_prepare(
        &self,
        m: &Signed<PrePrepare, Symbolic>,
        batch: &Batch<Symbolic>,
        lies: &mut Vec<String>,
    ) {
        lies.extend(self.signature(m));
        let PrePrepare { view, n, digest } = m.content;
        let primary = self.config.cluster.primary(view);
        if m.signer != Principal::Replica(primary) {
            lies.push(format!("{} is not the primary of v{}: r{} is", name(m.signer), view.0, primary.0));
        }
        if batch.digest() != digest {
            lies.push(format!(
                "the digest is that of {}, and what comes with it is {}",
                self.names.of(digest),
                self.batch(batch)
            ));
        } else if digest == Digest::NULL && !self.is_in_o(view, n) {
            lies.push("the null request stands in the O of a NEW-VIEW only".into());
        }
        self.of_batch(batch, lies);
        lies.extend(self.orders_again(m, batch));
        lies.extend(self.says_otherwise("PRE-PREPARE", m.signer, (view, n, digest), "proposes"));
    }

    /// A request in this batch that the same primary orders at a lower number of the same view, as a correct
    /// one never does: it orders a request once, and a retransmission is answered or waits.
    fn orders_again(&self, m: &Signed<PrePrepare, Symbolic>, batch: &Batch<Symbolic>) -> Option<String> {
        let PrePrepare { view, n, .. } = m.content;
        batch.requests.iter().find_map(|request| {
            let (step, first) = self.delivered.iter().find_map(|(step, _, message)| {
                let Message::PrePrepare(other, known) = message else { return None };
                let is_rival = other.signer == m.signer && other.content.view == view && other.content.n < n;
                (is_rival && known.requests.contains(request)).then_some((*step, other.content.n))
            })?;
            Some(format!(
                "orders request t{} of c{} at n{}, and {} orders it at n{} too (step {step})",
                request.content.timestamp.0,
                request.content.client.0,
                n.0,
                name(m.signer),
                first.0
            ))
        })
    }

    fn of_batch(&self, batch: &Batch<Symbolic>, lies: &mut Vec<String>) {
        let genuine = self.config.signed_requests();
        for m in &batch.requests {
            if genuine.contains(m) || self.was_sent(&Message::Request(m.clone())) {
                continue;
            }
            let why = self.signature(m).unwrap_or_else(|| "its client does not ask for this".into());
            lies.push(format!("it holds a request of c{} that is made up: {why}", m.content.client.0));
        }
    }

    fn is_in_o(&self, view: View, n: SeqNo) -> bool {
        let all = self.sent.iter().copied().chain(self.delivered.iter().map(|(.., message)| message));
        let mut new_views = all.filter_map(|m| if let Message::NewView(m) = m { Some(m) } else { None });
        new_views.any(|m| {
            m.content.view == view && m.content.pre_prepares.iter().any(|entry| entry.content.n == n)
        })
    }

    fn of_vote(&self, message: &Msg, view: View, lies: &mut Vec<String>) {
        let (Some(signer), Some((_, n, digest))) = (message.signer(), message.slot()) else { return };
        let primary = self.config.cluster.primary(view);
        let (kind, who) = (message.name(), name(signer));
        if kind == "PREPARE" && signer == Principal::Replica(primary) {
            lies.push(format!("{who} is the primary of v{}, and a primary sends no PREPARE", view.0));
        }
        if !self.is_proposed(view, n, digest) {
            let digest = self.names.of(digest);
            lies.push(format!("r{} has not proposed {digest} in v{} at n{}", primary.0, view.0, n.0));
        }
        if let Some(left) = self.left_before(signer, view) {
            lies.push(format!(
                "{who} sends VIEW-CHANGE for v{} (step {}) and goes on in v{}",
                left.1.0, left.0, view.0
            ));
        }
        lies.extend(self.says_otherwise(kind, signer, (view, n, digest), "votes for"));
    }

    fn of_commit(&self, view: View, n: SeqNo, digest: Digest, lies: &mut Vec<String>) {
        let needed = self.needed_votes();
        let voters = self.possible_voters(view, n, digest);
        if voters.len() < needed && self.is_proposed(view, n, digest) {
            lies.push(format!(
                "{} cannot have prepared: PREPAREs of {} at most, and {needed} are needed",
                self.names.of(digest),
                listed(voters.iter().map(|r| format!("r{}", r.0)))
            ));
        }
    }

    /// The step at which somebody says something else of the same view and number, in words.
    fn says_otherwise(
        &self,
        kind: &str,
        signer: Principal,
        (view, n, digest): (View, SeqNo, Digest),
        verb: &str,
    ) -> Option<String> {
        let (step, to, other) = self.delivered.iter().find_map(|(step, to, message)| {
            let same = message.name() == kind && message.signer() == Some(signer);
            let (v, number, other) = message.slot().filter(|_| same)?;
            ((v, number) == (view, n) && other != digest).then_some((step, to, other))
        })?;
        let when = if *step < self.at { "has told" } else { "tells" };
        Some(format!(
            "{} {verb} {} here, and {when} {} {} (step {step})",
            name(signer),
            self.names.of(digest),
            name(*to),
            self.names.of(other)
        ))
    }

    /// The first step at which a VIEW-CHANGE of this replica for a higher view has arrived before now.
    fn left_before(&self, signer: Principal, view: View) -> Option<(usize, View)> {
        self.delivered.iter().filter(|(step, ..)| *step < self.at).find_map(
            |(step, _, message)| match message {
                Message::ViewChange(m) if m.signer == signer && m.content.view > view => {
                    Some((*step, m.content.view))
                }
                _ => None,
            },
        )
    }

    // --- view changes ---

    pub(super) fn of_view_change(&self, m: &Signed<ViewChange<Symbolic>, Symbolic>) -> Vec<String> {
        let mut lies: Vec<String> = self.signature(m).into_iter().collect();
        let content = &m.content;
        let window = self.setup.parameters.window;
        match &content.stable {
            Some(certificate) => lies.extend(self.unproved_stable(certificate)),
            None if content.n.0 > 0 => {
                lies.push(format!("claims the stable checkpoint h = {} without a certificate", content.n.0));
            }
            None => {}
        }
        for c in &content.prepared {
            let judged = self.prepared(c);
            if !judged.sound {
                lies.push(format!("claims {}: {}", self.claim(c), judged.votes));
            }
            if c.view >= content.view {
                lies.push(format!("its certificate is of v{}, not below v{}", c.view.0, content.view.0));
            }
            if c.n <= content.n || c.n.0 - content.n.0 > window {
                let (h, top) = (content.n.0, content.n.0 + window);
                lies.push(format!(
                    "its certificate for n{} lies outside of the window {h} < n <= {top}",
                    c.n.0
                ));
            }
        }
        if content.prepared.windows(2).any(|pair| pair[0].n >= pair[1].n) {
            lies.push("P has two certificates for one number, or has them out of order".into());
        }
        lies.extend(self.left_out(m).or_else(|| self.kept_back(m)));
        lies
    }

    /// What this replica has prepared, as a VIEW-CHANGE of it with a certificate shows, and does not report
    /// here. A certificate of a view is complete before its holder leaves that view.
    fn kept_back(&self, m: &Signed<ViewChange<Symbolic>, Symbolic>) -> Option<String> {
        self.delivered.iter().find_map(|(step, _, message)| {
            let Message::ViewChange(other) = message else { return None };
            let c = other.content.prepared.iter().filter(|_| other.signer == m.signer).find(|c| {
                let is_due = c.view < m.content.view && c.n > m.content.n && self.prepared(c).sound;
                is_due && !m.content.prepared.iter().any(|said| said.n == c.n && said.view >= c.view)
            })?;
            Some(format!(
                "leaves out {}, which {} has prepared in v{} at n{}, as the certificate proves that it {} at step {step}",
                self.names.of(c.digest),
                name(m.signer),
                c.view.0,
                c.n.0,
                if *step < self.at { "has shown" } else { "shows" },
            ))
        })
    }

    /// What a replica has sent COMMIT for and does not report.
    fn left_out(&self, m: &Signed<ViewChange<Symbolic>, Symbolic>) -> Option<String> {
        self.delivered.iter().find_map(|(step, _, message)| {
            let Message::Commit(commit) = message else { return None };
            let vote = &commit.content;
            let is_of = commit.signer == m.signer && vote.view < m.content.view && vote.n > m.content.n;
            let reported = m.content.prepared.iter().any(|c| c.n == vote.n && c.view >= vote.view);
            (is_of && !reported).then(|| {
                format!(
                    "leaves out {}, though {} {} COMMIT for it in v{} at n{} (step {step})",
                    self.names.of(vote.digest),
                    name(m.signer),
                    if *step < self.at { "has sent" } else { "sends" },
                    vote.view.0,
                    vote.n.0
                )
            })
        })
    }

    /// The first thing that is wrong with a VIEW-CHANGE by itself.
    pub fn why_bad_view_change(&self, m: &Signed<ViewChange<Symbolic>, Symbolic>) -> Option<String> {
        self.of_view_change(m).into_iter().next()
    }
}

/// `r0, r1`, or `nobody`.
pub fn listed(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "nobody".into() } else { items.join(", ") }
}

pub(super) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
