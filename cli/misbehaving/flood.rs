//! What a replica can send without end to the others, in its own name and its own sessions.

use crate::config::Served;
use crate::pieces;
use pbft::crypto::ed25519::Ed25519;
use pbft::crypto::{Crypto, Signed};
use pbft::message::{Commit, Fetch, Message, Prepare, Status, ViewChange, Wanted};
use pbft::replica::{Effect, Effects, Event, Expired, Replica, Setup};
use pbft::runtime::control::{self, Control};
use pbft::runtime::sessions::Peer;
use pbft::runtime::transport::{Buffers, Transport};
use pbft::types::{Digest, Principal, SeqNo, View};
use pbft::wire;
use std::collections::VecDeque;
use std::sync::Arc;

/// The batches remembered, to ask for them.
const REMEMBERED: usize = 64;
/// After this number of VIEW-CHANGEs a new proof is made of what has prepared since.
const PROOF_USES: u64 = 64;

/// Kinds of messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum What {
    /// STATUS that claim to have nothing.
    Status,
    /// PREPAREs, COMMITs and VIEW-CHANGEs for current numbers and views, with wrong signatures.
    BadSignatures,
    /// FETCHes of batches and of blocks of the state that the others have.
    Fetch,
    /// VIEW-CHANGEs for ever higher views, with every proof that belongs to them.
    ViewChanges,
    /// The same VIEW-CHANGE, for the next view.
    OneViewChange,
    /// Single pieces of messages that never become whole.
    Fragments,
    /// Pings.
    Pings,
    /// That the primary is late, whatever it does.
    Late,
}

/// A flood of one kind.
pub struct Flood {
    what: What,
    count: u64,
    batches: VecDeque<Digest>,
    blocks: Vec<Digest>,
    proof: Option<ViewChange<Ed25519>>,
}

impl Flood {
    pub fn new(what: What) -> Self {
        Flood { what, count: 0, batches: VecDeque::new(), blocks: Vec::new(), proof: None }
    }

    /// Looks at what others send.
    pub fn remember(&mut self, message: &Message<Ed25519>) {
        if let Message::PrePrepare(proposal, _) = message
            && self.what == What::Fetch
        {
            self.batches.push_back(proposal.content.digest);
            if self.batches.len() > REMEMBERED {
                self.batches.pop_front();
            }
        }
    }

    /// Sends one to each of these.
    pub fn send(
        &mut self,
        setup: &Setup<Served>,
        core: &Replica<Served>,
        transport: &Transport,
        to: &[Peer],
        buffers: &mut Buffers,
    ) {
        self.count += 1;
        let bytes = match self.what {
            What::Fragments => {
                let frame = pieces::alone(self.count);
                let mut sealed = Vec::new();
                return to.iter().for_each(|&to| transport.send_frame(to, &frame, &mut sealed));
            }
            What::Pings => control::encode(&Control::<Ed25519>::Ping(self.count)),
            What::Late => control::encode(&Control::<Ed25519>::Late(core.view())),
            _ => wire::encode(&self.message(setup, core)),
        };
        transport.send(to, &bytes, buffers);
    }

    fn message(&mut self, setup: &Setup<Served>, core: &Replica<Served>) -> Message<Ed25519> {
        match self.what {
            What::BadSignatures => self.badly_signed(setup, core),
            What::Fetch => Message::Fetch(setup.sign(Fetch { what: self.wanted(core), replica: setup.id })),
            What::ViewChanges => Message::ViewChange(self.view_change(setup, core, self.count)),
            What::OneViewChange => Message::ViewChange(self.view_change(setup, core, 0)),
            _ => Message::Status(setup.sign(Status {
                view: core.view(),
                leaving: None,
                stable: SeqNo(0),
                executed: SeqNo(0),
                pre_prepared: Vec::new(),
                prepared: Vec::new(),
                replica: setup.id,
            })),
        }
    }

    fn badly_signed(&mut self, setup: &Setup<Served>, core: &Replica<Served>) -> Message<Ed25519> {
        let n = SeqNo(core.last_executed().0 + 1 + self.count % 8);
        let (view, digest, replica) = (core.view(), Digest([self.count as u8; 32]), setup.id);
        let wrong = setup.sign(Prepare { view, n: SeqNo(0), digest, replica }).signature;
        let signer = Principal::Replica(replica);
        match self.count % 3 {
            0 => Message::Prepare(Signed {
                content: Prepare { view, n, digest, replica },
                signer,
                signature: wrong,
            }),
            1 => Message::Commit(Signed {
                content: Commit { view, n, digest, replica },
                signer,
                signature: wrong,
            }),
            _ => {
                let signed = self.view_change(setup, core, self.count);
                Message::ViewChange(Arc::new(Signed { signature: wrong, ..Signed::clone(&signed) }))
            }
        }
    }

    fn wanted(&mut self, core: &Replica<Served>) -> Wanted {
        if self.blocks.is_empty() || self.count.is_multiple_of(1000) {
            let blocks = core.durable().snapshot.tree.blocks();
            self.blocks = blocks.map(|block| Ed25519::digest(block)).collect();
        }
        let place = self.count as usize / 2;
        let batch = self.batches.get(place % self.batches.len().max(1));
        match self.blocks.get(place % self.blocks.len().max(1)) {
            Some(&block) if self.count.is_multiple_of(2) => Wanted::Block(block),
            _ => Wanted::Batch(batch.copied().unwrap_or(Digest::NULL)),
        }
    }

    /// For a view so far above the next one, with what has prepared and the proof of the checkpoint: a replica
    /// that times out makes the first, and the rest is its own to say.
    fn view_change(
        &mut self,
        setup: &Setup<Served>,
        core: &Replica<Served>,
        above: u64,
    ) -> Arc<Signed<ViewChange<Ed25519>, Ed25519>> {
        if self.proof.is_none() || self.count.is_multiple_of(PROOF_USES) {
            let mut effects = Effects::new();
            core.clone().step(setup, Event::Timeout(Expired::Progress), &mut effects);
            self.proof = effects.into_iter().find_map(|effect| match effect {
                Effect::Send(_, Message::ViewChange(made)) => Some(made.content.clone()),
                _ => None,
            });
        }
        let proof = self.proof.clone().expect("who times out sends a VIEW-CHANGE");
        let view = View(core.view().0 + 1 + above);
        Arc::new(setup.sign(ViewChange { view, ..proof }))
    }
}
