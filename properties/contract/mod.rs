//! The contract: a step of the real replica is held to the protocol that is proved.
//!
//! [`Contract::judge_step`] looks at what a step records and sends, names the actions of the
//! [abstract protocol](crate::proof) that it takes, and evaluates *their guards, the same formula values*, on a
//! [`Ledger`] of what the replica has sent before and on the evidence in hand. The first guard that fails is a
//! [`Breach`]. There is no global state, and n may be any number: a system in which each step of each correct replica
//! passes is one in which each step is an action of the protocol, so the theorems hold of it, whatever its size.
//!
//! | what the replica does | actions |
//! |---|---|
//! | records PRE-PREPARE | `pre_prepare` at the primary, `prepare` at a backup; above view 0 `new_view_open` or `new_view_entry` |
//! | records a prepared certificate | `commit` |
//! | records an execution | `committed_local`, `execute` |
//! | records VIEW-CHANGE | `view_change` |
//! | records NEW-VIEW | `enter`; for each entry of `O` as for PRE-PREPARE |
//! | records a stable checkpoint | `stable`, or `adopt` if it came in a certificate |
//! | sends CHECKPOINT | `checkpoint` |
//! | records a state that it has not executed | `fetch` |
//! | starts again | [`Ledger::restart`], which is `crash` |
//! | sends PRE-PREPARE, PREPARE, COMMIT, VIEW-CHANGE, NEW-VIEW | must have been recorded before: in this step or an earlier one |
//! | sends REPLY | what the ledger's own client table, or for a read its own service, says |
//! | sends REQUEST, STATUS, FETCH, BATCH, BLOCK, STABLE, and what others have signed | nothing is promised |
//!
//! Facts claim nothing. `Committed` says when `committed_local` is to be tried; its guard decides.
//!
//! The ledger is made of effects, never of the replica's state. What the replica holds counts as evidence only where
//! somebody else has signed it. The state of the service is the ledger's own: it applies each batch itself by
//! the paper's rules, and keeps its own client table.
//!
//! Effects are judged in their order, so a message that leaves before its record is a breach even if the record follows.
//!
//! What lies outside: `verify`, the wire and the store (the records are taken to be found again as they were); who is told
//! what by timers; the bounds of the window above; the digests of the batches that a STATUS lists.

mod actions;
mod hand;
mod inbox;
mod ledger;
mod reading;
mod scene;
mod state;
mod watch;

pub use ledger::Ledger;
pub use watch::Watcher;

use crate::proof::Protocol;
use hand::{Before, Hand};
use pbft::crypto::Crypto;
use pbft::message::{Message, Reply};
use pbft::replica::{Bundle, Destination, Effect, Event, Fact, LastReply, Record, Replica, Setup, bounded};
use pbft::service::Service;
use pbft::types::{ClientId, Principal, SeqNo, View};
use reading::Bound;
use std::collections::BTreeMap;
use std::fmt;

/// Whether signatures of messages in hand are verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signatures {
    /// Each time.
    Check,
    /// They have just been, by [`verify`](pbft::replica::verify).
    Trust,
}

/// A step that is none of the protocol's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Breach {
    /// The action that it would have been.
    pub action: &'static str,
    /// The guard that fails, in the words of the rules where one stands for it.
    pub guard: &'static str,
    /// What the replica did, and what is missing.
    pub words: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}: {})", self.words, self.action, self.guard)
    }
}

impl std::error::Error for Breach {}

/// The guards of the protocol's actions.
#[derive(Debug)]
pub struct Contract {
    actions: BTreeMap<&'static str, Guards>,
    signatures: Signatures,
}

/// Those of one action: how many parameters it has, the actor included, and by its name what each guard says.
#[derive(Debug)]
struct Guards {
    parameters: usize,
    guards: Vec<(&'static str, Bound)>,
}

/// Actions that no step is held to: what restarts and forgetting do is in the ledger.
const NOT_OF_STEPS: [&str; 2] = ["crash", "forget"];

/// What steps are held to that is no formula.
const BESIDES_FORMULAS: [(&str, &str); 11] = [
    ("pre_prepare", "persist-before-send"),
    ("prepare", "persist-before-send"),
    ("commit", "persist-before-send"),
    ("checkpoint", "persist-before-send"),
    ("view_change", "persist-before-send"),
    ("enter", "persist-before-send"),
    ("view_change", "claims h"),
    ("stable", "h only grows"),
    ("adopt", "h only grows"),
    ("fetch", "executed"),
    ("crash", "durable means durable"),
];

/// What a step was found to be: the names of its actions, in order.
pub type Actions = Vec<&'static str>;

impl Contract {
    /// That of the whole protocol.
    pub fn new(signatures: Signatures) -> Self {
        let actions = Protocol::pbft().actions.into_iter().map(|action| {
            let mut scope = action.parameters;
            let guards =
                action.guards.iter().map(|guard| (guard.name, Bound::new(&guard.formula, &mut scope)));
            (action.name, Guards { guards: guards.collect(), parameters: scope.len() })
        });
        Contract { actions: actions.collect(), signatures }
    }

    /// Every guard that steps are held to: the action and the name. Whoever is judged is taken to be correct.
    pub fn guards(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let actions = self.actions.iter().filter(|(name, _)| !NOT_OF_STEPS.contains(name));
        let named =
            actions.flat_map(|(&action, of)| of.guards.iter().map(move |&(guard, _)| (action, guard)));
        named.filter(|&(_, guard)| guard != "correct").chain(BESIDES_FORMULAS)
    }

    /// Judges one step: the replica as it was, what happened, and what it then asked for. What it has sent before is in
    /// the ledger, and afterwards this step too.
    ///
    /// # Errors
    /// The first thing in the step that no action of the protocol does. The ledger is then of no more use.
    pub fn judge_step<B: Bundle>(
        &self,
        ledger: &mut Ledger<B>,
        setup: &Setup<B>,
        (before, event): (&Replica<B>, &Event<B::Crypto>),
        effects: &[Effect<B::Crypto>],
    ) -> Result<Actions, Breach> {
        self.judge(ledger, setup, (Before::Replica(before), Some(event)), effects)
    }

    /// The same of what a replica asks for when it starts, or starts again.
    ///
    /// # Errors
    /// As those of [`Contract::judge_step`].
    pub fn judge_start<B: Bundle>(
        &self,
        ledger: &mut Ledger<B>,
        setup: &Setup<B>,
        effects: &[Effect<B::Crypto>],
    ) -> Result<Actions, Breach> {
        self.judge(ledger, setup, (Before::Nothing, None), effects)
    }

    fn judge<B: Bundle>(
        &self,
        ledger: &mut Ledger<B>,
        setup: &Setup<B>,
        (before, event): (Before<'_, B>, Option<&Event<B::Crypto>>),
        effects: &[Effect<B::Crypto>],
    ) -> Result<Actions, Breach> {
        let hand = Hand { setup, signatures: self.signatures, before, event, effects };
        let mut step = Judging { contract: self, ledger, hand, taken: Vec::new(), answers: Vec::new() };
        for effect in effects {
            match effect {
                Effect::Persist(record) => step.record(record)?,
                Effect::Send(to, message) => step.send(*to, message)?,
                Effect::Fact(Fact::Committed { view, n, digest }) => step.committed((*view, *n, *digest))?,
                Effect::Fact(_) | Effect::SetTimer(_) | Effect::CancelProgressTimer | Effect::Reject(_) => {}
            }
        }
        Ok(step.taken)
    }
}

/// A step being judged.
struct Judging<'a, 'l, B: Bundle> {
    contract: &'a Contract,
    ledger: &'l mut Ledger<B>,
    hand: Hand<'a, B>,
    taken: Actions,
    /// Whom what it executes in this step answers what.
    answers: Vec<(ClientId, LastReply)>,
}

impl<B: Bundle> Judging<'_, '_, B> {
    fn record(&mut self, record: &Record<B::Crypto>) -> Result<(), Breach> {
        match record {
            Record::PrePrepared(signed, _) => {
                let of = signed.content;
                self.accept((of.view, of.n, of.digest))?;
                self.ledger.stored.accepted.insert(of.n, (of.view, of.digest));
            }
            Record::Batch(_) => {}
            Record::Prepared(of) => {
                self.commit((of.view, of.n, of.digest))?;
                self.ledger.stored.prepared.insert(of.n, (of.view, of.digest));
            }
            Record::Executed(n, digest) => {
                self.execute(*n, *digest)?;
                self.ledger.stored.executed = *n;
            }
            Record::ViewChange(m) => {
                self.leave(m)?;
                (self.ledger.stored.left, self.ledger.stored.leaving) = (Some(m.content.view), true);
            }
            Record::NewView(m) => {
                self.enter(m)?;
                let Ledger { stored, low, .. } = &mut *self.ledger;
                (stored.view, stored.leaving) = (m.content.view, false);
                stored.left = stored.left.filter(|&left| left > m.content.view);
                let entries = m.content.pre_prepares.iter().map(|entry| entry.content);
                stored
                    .accepted
                    .extend(entries.filter(|of| of.n > *low).map(|of| (of.n, (of.view, of.digest))));
            }
            Record::Stable(certificate) => self.stable(certificate)?,
            Record::Snapshot(snapshot) => self.snapshot(snapshot)?,
        }
        Ok(())
    }

    fn send(&mut self, to: Destination, message: &Message<B::Crypto>) -> Result<(), Breach> {
        let own = Principal::Replica(self.hand.setup.id);
        match message {
            Message::PrePrepare(m, _) if m.signer == own => {
                let slot = (m.content.view, m.content.n, m.content.digest);
                self.sends_accepted("PRE-PREPARE", ledger::Role::Primary, slot)
            }
            Message::Prepare(m) => {
                let slot = (m.content.view, m.content.n, m.content.digest);
                self.sends_accepted("PREPARE", ledger::Role::Backup, slot)
            }
            Message::Commit(m) => self.sends_commit((m.content.view, m.content.n, m.content.digest)),
            Message::Checkpoint(m) => self.checkpoint(m.content.n, m.content.digest),
            Message::ViewChange(m) if m.signer == own => self.sends_view_change(m),
            Message::NewView(m) if m.signer == own => self.sends_new_view(m),
            Message::Reply(m) => self.reply(to, &m.content),
            _ => Ok(()),
        }
    }

    fn reply(&self, to: Destination, reply: &Reply) -> Result<(), Breach> {
        let client = reply.client;
        let ledger = &self.ledger;
        // A batch may have several requests of one client, each of which is answered.
        let in_step = self.answers.iter().filter(|(of, _)| *of == client).map(|(_, answer)| answer);
        let is_last = (ledger.state.clients.get(&client).into_iter().chain(in_step))
            .any(|last| (last.timestamp, &last.result) == (reply.timestamp, &reply.result));
        let arrived = match self.hand.message() {
            Some(Message::Request(request)) => Some(request),
            _ => None,
        };
        let is_read = |request: &&pbft::crypto::Signed<pbft::message::Request, B::Crypto>| {
            let content = &request.content;
            (content.client, content.timestamp, content.read_only) == (client, reply.timestamp, true)
        };
        let read = arrived.filter(is_read).or_else(|| self.hand.before.reads_of(client).find(is_read));
        let answers = |request: &pbft::crypto::Signed<pbft::message::Request, B::Crypto>| {
            let result = ledger.state.service.read(client, &request.content.operation).map(bounded);
            result.as_ref() == Some(&reply.result)
        };
        if to == Destination::Client(client) && (is_last || read.is_some_and(answers)) {
            return Ok(());
        }
        let what = format!("REPLY to client {} with timestamp {}", client.0, reply.timestamp.0);
        let why = "is not what its request gives after what was executed";
        Err(Breach { action: "execute", guard: "the service", words: format!("{what} {why}") })
    }
}

/// Whether an effect is anything that the contract speaks of; a step without any needs no judgement.
pub fn is_judged<C: Crypto>(effect: &Effect<C>) -> bool {
    match effect {
        Effect::Persist(_) | Effect::Fact(Fact::Committed { .. }) => true,
        Effect::Send(_, message) => !matches!(
            message,
            Message::Request(_)
                | Message::Status(_)
                | Message::Fetch(_)
                | Message::Batch(_)
                | Message::Block(_)
                | Message::Stable(_)
        ),
        _ => false,
    }
}

/// Something leaves before what it promises was recorded.
fn not_recorded(action: &'static str, what: String) -> Breach {
    Breach { action, guard: "persist-before-send", words: format!("{what} leaves before it is recorded") }
}

fn slot(view: View, n: SeqNo) -> String {
    format!("n = {} in view {}", n.0, view.0)
}
