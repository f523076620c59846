//! The canonical form of a message: what a receiver's step can depend on. And the check that it depends on
//! nothing else, on real local states.

use crate::setting::Setting;
use crate::walk::Situation;
use crate::{C, Msg};
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::{Claim, Crypto, Evidence, Signed};
use pbft::message::{Batch, Checkpoint, Message, NewView, PrePrepare, ViewChange};
use pbft::replica::verify::verify;
use pbft::replica::{Effects, Event, Replica, compute_o};
use pbft::rules::Rules;
use pbft::types::{Digest, Principal, ReplicaId, SeqNo, View};
use pbft_models::crypto::Symbolic;
use pbft_models::world::Modelled;
use std::collections::{BTreeMap, BTreeSet};

/// The digest above all that name something.
pub const NOBODYS: Digest = Digest([0xff; 32]);

/// The digest below all that name something but the null request's.
pub const LOWEST: Digest = {
    let mut bytes = [0; 32];
    bytes[31] = 1;
    Digest(bytes)
};

/// What a message comes down to.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Form {
    /// Itself.
    Is(Msg),
    /// A CHECKPOINT for a state that no correct replica vouches for. It makes nothing stable, so which digest
    /// it has is never looked at; if somebody vouches for that digest later, the vote itself can be sent
    /// then.
    IdleCheckpoint(Checkpoint, Principal),
    /// A VIEW-CHANGE with its certificates' proofs left out where receivers do not look at them.
    ViewChange(ViewChange<C>, Principal),
    /// A NEW-VIEW. Once it is verified, a receiver takes from `V` the certificate of min-s alone, and puts O
    /// into its log, by number; that of the initial state is never in the window.
    NewView(View, Principal, Option<(SeqNo, Digest)>, BTreeMap<SeqNo, (Digest, Principal)>),
    /// A PRE-PREPARE out of the O of a correct primary. Whoever is in that view has it in the log already, so
    /// it does what the batch by itself does, or nothing.
    OutOfO(Msg),
    /// Refused by every replica in every state.
    Refused,
    /// A vote in a correct replica's name, where receivers believe that, for a digest that names nothing. It
    /// counts for nothing; all it can do is to stand in the way of that replica's own vote, and so does the
    /// loss of that.
    Obstructs(Msg),
    /// It asks for something to be sent again that has been sent, or is available anyway.
    Asks,
    /// A block of a state, or a read that waits for its answer; worlds leave out state transfer and reads.
    LeftOut,
}

impl Form {
    /// What must be in the adversary's set for this message to be covered; nothing for one that does nothing.
    pub fn stands_for(&self) -> Option<Form> {
        match self {
            Form::Refused | Form::Asks | Form::LeftOut | Form::Obstructs(_) => None,
            Form::OutOfO(batch) => Some(Form::Is(batch.clone())),
            form => Some(form.clone()),
        }
    }
}

/// Whether a message is beyond the bounds of the world: about a higher view or number, in a name that no
/// replica has (an outsider's own is another matter), a request made up otherwise than in this world, or,
/// where receivers accept several certificates for one number, more than two in such a `P`: `O` takes one of
/// them.
pub fn is_beyond(setting: &Setting, message: &Msg) -> bool {
    let view = |view: View| view > setting.config.max_view;
    let slot = |v: View, n: SeqNo| view(v) || n > setting.config.max_seq;
    let name = |replica: ReplicaId, signer: Principal| {
        !setting.config.cluster.contains(replica) && signer != Principal::Replica(replica)
    };
    let change = |m: &Signed<ViewChange<C>, C>| {
        let higher = m.content.prepared.iter().any(|certificate| slot(certificate.view, certificate.n));
        let later = m.content.stable.iter().any(|certificate| slot(View(0), certificate.n));
        higher || later || slot(m.content.view, m.content.n) || name(m.content.replica, m.signer)
    };
    let is_otherwise = |m: &Msg| !setting.requests.contains(m) && !setting.made_up.contains(m);
    let other_requests =
        |batch: &Batch<C>| batch.requests.iter().any(|m| is_otherwise(&Message::Request(m.clone())));
    let several = |m: &ViewChange<C>| {
        let numbers: BTreeSet<SeqNo> = m.prepared.iter().map(|certificate| certificate.n).collect();
        m.prepared.len() > 2 && numbers.len() < m.prepared.len()
    };
    match message {
        Message::Request(_) => is_otherwise(message),
        Message::Batch(batch) => other_requests(batch),
        Message::PrePrepare(m, batch) => slot(m.content.view, m.content.n) || other_requests(batch),
        Message::Prepare(m) => slot(m.content.view, m.content.n) || name(m.content.replica, m.signer),
        Message::Commit(m) => slot(m.content.view, m.content.n) || name(m.content.replica, m.signer),
        Message::Checkpoint(m) => slot(View(0), m.content.n) || name(m.content.replica, m.signer),
        Message::Stable(m) => slot(View(0), m.n),
        Message::ViewChange(m) => change(m) || several(&m.content),
        Message::NewView(m) => {
            view(m.content.view)
                || m.content.pre_prepares.iter().any(|m| slot(m.content.view, m.content.n))
                || m.content.view_changes.iter().any(|m| change(m))
        }
        _ => false,
    }
}

/// The canonical form of messages in one situation, and what is on the network there.
pub struct Forms<'a> {
    setting: &'a Setting,
    situation: &'a Situation,
    /// Each form that can be delivered, and a message that has it.
    offered: BTreeMap<Form, Msg>,
}

impl<'a> Forms<'a> {
    /// With `offered` on the network besides what was sent.
    pub fn new(setting: &'a Setting, situation: &'a Situation, offered: &[Msg]) -> Self {
        let mut forms = Forms { setting, situation, offered: BTreeMap::new() };
        let all = situation.sent.iter().chain(offered);
        forms.offered = all.map(|message| (forms.of(message), message.clone())).collect();
        forms
    }

    /// The message on the network that has this form.
    pub fn stand_in(&self, form: &Form) -> Option<&Msg> {
        self.offered.get(form)
    }

    pub fn of(&self, message: &Msg) -> Form {
        let takes_0 = self.takes_number_0();
        match message {
            Message::PrePrepare(m, _) if m.content.n == SeqNo(0) && !takes_0 => Form::Refused,
            Message::PrePrepare(m, batch) if self.is_out_of_o(&m.content, m.signer) => {
                if batch.requests.is_empty() {
                    Form::Refused
                } else {
                    Form::OutOfO(Message::Batch(batch.clone()))
                }
            }
            Message::Prepare(m) if m.content.n == SeqNo(0) && !takes_0 => Form::Refused,
            Message::Commit(m) if m.content.n == SeqNo(0) && !takes_0 => Form::Refused,
            Message::Prepare(m) if self.obstructs(m.content.digest, m.content.replica) => {
                Form::Obstructs(message.clone())
            }
            Message::Commit(m) if self.obstructs(m.content.digest, m.content.replica) => {
                Form::Obstructs(message.clone())
            }
            Message::Checkpoint(m) => self.of_checkpoint(&m.content, m.signer, message),
            Message::Batch(batch) if batch.requests.is_empty() => Form::Refused,
            Message::ViewChange(m) if m.content.view == View(0) => Form::Refused,
            Message::ViewChange(m) => Form::ViewChange(self.without_proofs(&m.content), m.signer),
            Message::NewView(m) => self.of_new_view(&m.content, m.signer),
            Message::Stable(m) => Form::Is(Message::Stable(self.stable_without_proof(m))),
            Message::Status(_) | Message::Fetch(_) => Form::Asks,
            Message::Request(m) if m.content.read_only => Form::LeftOut,
            Message::Block(_) => Form::LeftOut,
            Message::Reply(_) => Form::Refused,
            _ => Form::Is(message.clone()),
        }
    }

    /// Whether receivers act on what a checkpoint covers; the initial state is one, at 0.
    fn takes_number_0(&self) -> bool {
        let start = pbft::types::Watermarks { h: SeqNo(0), window: 1 };
        self.setting.config.rules.low_water_mark(SeqNo(0), start)
    }

    fn obstructs(&self, digest: Digest, replica: ReplicaId) -> bool {
        let counts = self.setting.config.rules.votes_match_digest(digest == Digest::NULL);
        [LOWEST, NOBODYS].contains(&digest)
            && !counts
            && self.setting.correct.iter().any(|setup| setup.id == replica)
    }

    /// Whether a primary that the adversary does not play signed this for an O, and nobody acts in older
    /// views or on what a checkpoint covers.
    fn is_out_of_o(&self, content: &PrePrepare, signer: Principal) -> bool {
        let rules = &self.setting.config.rules;
        let sent_by_itself =
            self.situation.sent.iter().any(
                |m| matches!(m, Message::PrePrepare(m, _) if m.content == *content && m.signer == signer),
            );
        let correct = self.setting.correct.iter().any(|setup| Principal::Replica(setup.id) == signer);
        correct && !sent_by_itself && !rules.leave_old_view(View(0), View(1)) && !self.takes_number_0()
    }

    fn of_checkpoint(&self, content: &Checkpoint, signer: Principal, message: &Msg) -> Form {
        let setting = self.setting;
        let vouched = self.situation.sent.iter().any(
            |m| matches!(m, Message::Checkpoint(m) if (m.content.n, m.content.digest) == (content.n, content.digest)),
        );
        if setting.can_prove_any_state(content.n) {
            return Form::Is(message.clone());
        }
        let taken = content.n.0 > 0 || self.takes_number_0();
        match content.n.0 % setting.config.parameters().checkpoint_interval {
            0 if taken && vouched => Form::Is(message.clone()),
            0 if taken => Form::IdleCheckpoint(Checkpoint { digest: NOBODYS, ..*content }, signer),
            _ => Form::Refused,
        }
    }

    fn of_new_view(&self, content: &NewView<C>, signer: Principal) -> Form {
        let rules = &self.setting.config.rules;
        if content.view == View(0) && !rules.view_increases(View(0), View(1), None) {
            return Form::Refused;
        }
        let stable = compute_o(&content.view_changes, rules).stable.map(|stable| (stable.n, stable.digest));
        let o = content.pre_prepares.iter().map(|m| (m.content.n, (m.content.digest, m.signer)));
        let o = o.filter(|&(n, _)| n > SeqNo(0) && !self.setting.blind_to_o);
        Form::NewView(content.view, signer, stable, o.collect())
    }

    fn without_proofs(&self, content: &ViewChange<C>) -> ViewChange<C> {
        let prove = |certificate: &PreparedCertificate<C>| {
            let PreparedCertificate { view, n, digest, .. } = *certificate;
            let proof = accepted(Claim::Prepared(view, n, digest));
            let is_one = certificate.proof == proof || self.setting.proves(certificate);
            let proof = if is_one { proof } else { certificate.proof.clone() };
            PreparedCertificate { view, n, digest, proof }
        };
        ViewChange {
            stable: content.stable.as_ref().map(|stable| self.stable_without_proof(stable)),
            prepared: content.prepared.iter().map(prove).collect(),
            ..content.clone()
        }
    }

    fn stable_without_proof(&self, stable: &StableCertificate<C>) -> StableCertificate<C> {
        let StableCertificate { n, digest, .. } = *stable;
        let proof = accepted(Claim::Stable(n, digest));
        let is_one = stable.proof == proof || self.setting.accepts(&Message::Stable(stable.clone()));
        let proof = if is_one { proof } else { stable.proof.clone() };
        StableCertificate { n, digest, proof }
    }

    // --- that nothing else matters ---

    /// Whether a replica in this state does with the message what its form says, `stand_in` being the message
    /// on the network that has this form.
    pub fn is_as_said(
        &self,
        at: usize,
        state: &Replica<Modelled>,
        message: &Msg,
        stand_in: Option<&Msg>,
    ) -> bool {
        let form = self.of(message);
        let outcome = self.outcome(at, state, message, &form);
        let unchanged = self.same(&outcome.0, &self.alive(at, state, &form));
        let nothing = unchanged && outcome.1.is_empty();
        let same = || {
            stand_in.is_some_and(|other| {
                let theirs = self.outcome(at, state, other, &form);
                self.same(&outcome.0, &theirs.0) && outcome.1 == theirs.1
            })
        };
        match form {
            Form::LeftOut => true,
            Form::Refused => nothing,
            // Its own vote a replica keeps; one in its own name stands in the way of that.
            Form::Obstructs(Message::Prepare(m)) => {
                nothing || m.content.replica == self.setting.correct[at].id
            }
            Form::Obstructs(Message::Commit(m)) => {
                nothing || m.content.replica == self.setting.correct[at].id
            }
            Form::Asks => unchanged && outcome.1.iter().all(|form| self.is_available(form)),
            Form::OutOfO(_) => nothing || same(),
            _ => same(),
        }
    }

    fn is_available(&self, form: &Form) -> bool {
        let beyond = matches!(form, Form::Is(message) if is_beyond(self.setting, message));
        beyond || form.stands_for().is_none_or(|form| self.offered.contains_key(&form))
    }

    /// The state after the message, and what was sent, up to form.
    fn outcome(
        &self,
        at: usize,
        state: &Replica<Modelled>,
        message: &Msg,
        form: &Form,
    ) -> (Replica<Modelled>, Vec<Form>) {
        let setup = &self.setting.correct[at];
        let verified = verify(setup, message.clone()).expect("only what is accepted is compared");
        let (mut state, mut effects) = (state.clone(), Effects::new());
        state.step(setup, Event::Message(verified), &mut effects);
        // Without some rules correct replicas send what their peers refuse.
        let sends = effects.sends().filter(|(_, message)| self.setting.accepts(message));
        let sends = sends.map(|(_, message)| self.of(message)).collect();
        (self.alive(at, &state, form), sends)
    }

    /// The state without what is dead; for what is only kept as a receipt, without receipts.
    fn alive(&self, at: usize, state: &Replica<Modelled>, form: &Form) -> Replica<Modelled> {
        let setup = &self.setting.correct[at];
        match form {
            Form::IdleCheckpoint(..) | Form::ViewChange(..) | Form::Obstructs(_) => state.normal_form(setup),
            _ => state.without_dead_state(setup),
        }
    }

    /// Whether the states are equal, apart from how checkpoints are proved. By the paper's rules all that
    /// replicas take into their states is proved, and all proofs of one claim are equal anyway.
    fn same(&self, one: &Replica<Modelled>, other: &Replica<Modelled>) -> bool {
        one == other || without_proofs(one) == without_proofs(other)
    }
}

/// The state as text in which no proof is shown.
fn without_proofs(state: &Replica<Modelled>) -> String {
    let text = format!("{state:?}");
    let mut parts = text.split("Proof {");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |text, part| {
        let mut depth = 1_u32;
        let end = part.char_indices().find_map(|(at, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(at + 1)
        });
        text + end.map_or("", |end| &part[end..])
    })
}

/// A proof that stands for all proofs of a claim.
fn accepted(claim: Claim) -> <Symbolic as Crypto>::Proof {
    Symbolic::seal(claim, Evidence { proposal: None, votes: Vec::new() }, &|_| true)
}
