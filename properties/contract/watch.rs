//! Judging a replica that runs, or a journal: step by step, without the replica's state.

use super::hand::Before;
use super::inbox::Inbox;
use super::ledger::Promises;
use super::{Actions, Breach, Contract, Ledger, Signatures};
use pbft::replica::{Bundle, Durable, Effect, Event, Replica, Setup};
use std::collections::VecDeque;

/// Judges one replica, life after life.
#[derive(Debug)]
pub struct Watcher<B: Bundle> {
    contract: Contract,
    /// None before it is known what the replica has done, and after a breach.
    ledger: Option<Ledger<B>>,
    inbox: Inbox<B>,
    /// What happens in the step at hand.
    event: Option<Event<B::Crypto>>,
    /// What it has promised, by steps that are carried out; and by those that may not be.
    promised: Promises,
    pending: VecDeque<(u64, Promises)>,
    /// Whether a life is to be held to what was promised in those before.
    remembers: bool,
    step: u64,
}

impl<B: Bundle> Watcher<B> {
    /// Knows nothing of the replica yet.
    pub fn new(signatures: Signatures) -> Self {
        Watcher {
            contract: Contract::new(signatures),
            ledger: None,
            inbox: Inbox::default(),
            event: None,
            promised: Promises::default(),
            pending: VecDeque::new(),
            remembers: true,
            step: 0,
        }
    }

    /// Of one life only: what it promises, which the next would be held to, is not noted with every action.
    pub fn of_one_life(signatures: Signatures) -> Self {
        Watcher { remembers: false, ..Watcher::new(signatures) }
    }

    /// The replica goes on from here: what it has done before is not known, beyond what it has stored.
    pub fn begins(&mut self, setup: &Setup<B>, replica: &Replica<B>, step: u64) {
        self.ledger = Ledger::of_durable(setup, replica.durable());
        self.inbox = Inbox::of(replica);
        self.promised = self.ledger.as_ref().map(Ledger::promises).unwrap_or_default();
        (self.step, self.event) = (step, None);
        self.pending.clear();
    }

    /// What it goes on from is after so many steps of its life.
    pub fn goes_on_after(&mut self, steps: u64) {
        self.step = steps;
    }

    /// A life begins, from what is stored. A replica that has lost everything is judged no further: it counts as faulty,
    /// and whoever knows its lives says so.
    ///
    /// # Errors
    /// Something that it has promised before is not there.
    pub fn starts(&mut self, setup: &Setup<B>, stored: &Durable<B::Crypto>) -> Result<(), Breach> {
        let is_new = *stored == Durable::default();
        let forgets = is_new && self.promised != Promises::default();
        let lost = self.promised.lost(stored).filter(|_| !forgets);
        self.ledger = match (is_new, forgets) {
            (true, true) => None,
            (true, false) => Some(Ledger::new(setup)),
            (false, _) => Ledger::of_durable(setup, stored),
        };
        self.inbox = Inbox::default();
        self.inbox.take_store(stored);
        self.promised = self.ledger.as_ref().map(Ledger::promises).unwrap_or_default();
        (self.step, self.event) = (0, None);
        self.pending.clear();
        match lost {
            None => Ok(()),
            Some(words) => {
                Err(self.broken(Breach { action: "crash", guard: "durable means durable", words }))
            }
        }
    }

    /// Whether it knows enough to judge.
    pub fn judges(&self) -> bool {
        self.ledger.is_some()
    }

    /// The next step is for this.
    pub fn event(&mut self, event: &Event<B::Crypto>) {
        self.step += 1;
        self.event = Some(event.clone());
    }

    /// It asks for this; before any step, as it starts. The actions that it has taken; none if it is not judged.
    ///
    /// # Errors
    /// The step is none of the protocol's. Nothing is judged after that until the next life.
    pub fn effects(
        &mut self,
        setup: &Setup<B>,
        effects: &[Effect<B::Crypto>],
    ) -> Result<Option<Actions>, Breach> {
        let event = self.event.take();
        let Some(ledger) = &mut self.ledger else { return Ok(None) };
        if let Some(Event::Message(message)) = &event {
            self.inbox.take(message, ledger);
        }
        let before = Before::Inbox(&self.inbox);
        match self.contract.judge(ledger, setup, (before, event.as_ref()), effects) {
            Ok(actions) => {
                self.inbox.settle(effects, ledger);
                if self.remembers && !actions.is_empty() {
                    self.pending.push_back((self.step, ledger.promises()));
                }
                Ok(Some(actions))
            }
            Err(breach) => Err(self.broken(breach)),
        }
    }

    /// So many steps of this life are carried out.
    pub fn carried_out(&mut self, steps: u64) {
        while let Some((step, _)) = self.pending.front()
            && *step <= steps
        {
            self.promised = self.pending.pop_front().map(|(_, promised)| promised).unwrap_or_default();
        }
    }

    fn broken(&mut self, breach: Breach) -> Breach {
        self.ledger = None;
        self.promised = Promises::default();
        breach
    }
}
