//! Replicas that misbehave on purpose: in simulations, and over UDP in `pbft-misbehaving`.
//!
//! Each runs the real replica to stay plausible, and lies about what it does: it has its own secret key and
//! whatever it has received, and nothing else. What it may not do is what nobody could do in its place: sign
//! for others.

mod forgeries;
mod lies;

use pbft::message::Message;
use pbft::replica::nodes;
use pbft::replica::verify::verify;
use pbft::replica::{Bundle, Effect, Effects, Event, Replica, Setup, Timer};
use pbft::types::Digest;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// The most messages, and the most digests, remembered.
const MEMORY: usize = 300;

/// How a Byzantine replica behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Strategy {
    /// It sends nothing.
    Silent,
    /// It follows the protocol and tells different replicas different things.
    Equivocate,
    /// It also says anything at any time.
    Garbage,
    /// It sends old messages, its own and others', to anybody.
    Replay,
    /// It follows the protocol but for view changes: it sends VIEW-CHANGEs and NEW-VIEWs for views ahead,
    /// made of certificates and of others' messages that it cannot have.
    ForgeViewChange,
}

impl Strategy {
    /// All of them.
    pub const ALL: &'static [Strategy] = &[
        Strategy::Silent,
        Strategy::Equivocate,
        Strategy::Garbage,
        Strategy::Replay,
        Strategy::ForgeViewChange,
    ];

    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Silent => "silent",
            Strategy::Equivocate => "equivocate",
            Strategy::Garbage => "garbage",
            Strategy::Replay => "replay",
            Strategy::ForgeViewChange => "forge-view-change",
        }
    }

    /// The strategy of this name.
    pub fn named(name: &str) -> Option<Strategy> {
        Strategy::ALL.iter().copied().find(|strategy| strategy.name() == name)
    }
}

/// A message and the node it goes to.
pub type Parcels<C> = Vec<(usize, Message<C>)>;

/// What a Byzantine replica does about an event.
pub struct Reaction<B: Bundle> {
    /// What it sends.
    pub parcels: Parcels<B::Crypto>,
    /// The timers that its core sets and cancels, in order; whoever drives it may fire them at other times
    /// too.
    pub timers: Vec<Effect<B::Crypto>>,
}

/// A Byzantine replica.
pub struct Byzantine<B: Bundle> {
    setup: Arc<Setup<B>>,
    core: Replica<B>,
    strategy: Strategy,
    seen: Vec<Message<B::Crypto>>,
    digests: Vec<Digest>,
    lies: u64,
}

impl<B: Bundle> Byzantine<B> {
    /// A replica that misbehaves in this way.
    ///
    /// # Panics
    /// If the setup [cannot be run](Setup::check_runnable).
    pub fn new(setup: Arc<Setup<B>>, strategy: Strategy) -> Self {
        let core = Replica::start(&setup, None, &mut Effects::new()).expect("the initial state is sound");
        let digests = vec![Digest::NULL, Digest([9; 32])];
        Byzantine { setup, core, strategy, seen: Vec::new(), digests, lies: 0 }
    }

    /// Starts its core again from nothing: what it has promised is forgotten, what it can replay is not.
    pub fn forget(&mut self, rng: &mut ChaCha8Rng) -> Reaction<B> {
        let mut effects = Effects::new();
        self.core = Replica::start(&self.setup, None, &mut effects).expect("the initial state is sound");
        self.distort(effects, rng)
    }

    /// The replica that it runs to stay plausible.
    pub fn core(&self) -> &Replica<B> {
        &self.core
    }

    /// How many messages it has withheld, distorted or made up.
    pub fn lies(&self) -> u64 {
        self.lies
    }

    /// Takes a message in as the protocol would, remembers it, and answers as its strategy says.
    pub fn on_message(&mut self, message: Message<B::Crypto>, rng: &mut ChaCha8Rng) -> Reaction<B> {
        self.remember(&message, rng);
        match verify(&self.setup, message) {
            Ok(verified) => self.step(Event::Message(verified), rng),
            Err(_) => Reaction { parcels: Vec::new(), timers: Vec::new() },
        }
    }

    /// A timer of its core fires.
    pub fn on_timeout(&mut self, timer: Timer, rng: &mut ChaCha8Rng) -> Reaction<B> {
        self.step(Event::Timeout(timer.expired()), rng)
    }

    /// Something that nothing calls for: replays, nonsense or forgeries, if that is its strategy.
    pub fn mischief(&mut self, rng: &mut ChaCha8Rng) -> Parcels<B::Crypto> {
        let mut parcels = Vec::new();
        for _ in 0..rng.random_range(0..4) {
            let to = rng.random_range(0..self.setup.cluster.n());
            let message = match self.strategy {
                Strategy::Silent | Strategy::Equivocate => None,
                Strategy::Garbage => Some(self.nonsense(rng)),
                Strategy::Replay => self.seen.choose(rng).cloned(),
                Strategy::ForgeViewChange => Some(self.forgery(rng)),
            };
            parcels.extend(message.map(|message| (to, message)));
        }
        self.lies += parcels.len() as u64;
        parcels
    }

    fn remember(&mut self, message: &Message<B::Crypto>, rng: &mut ChaCha8Rng) {
        if let Message::PrePrepare(m, _) = message {
            put(&mut self.digests, m.content.digest, rng);
        }
        put(&mut self.seen, message.clone(), rng);
    }

    fn step(&mut self, event: Event<B::Crypto>, rng: &mut ChaCha8Rng) -> Reaction<B> {
        let mut effects = Effects::new();
        self.core.step(&self.setup, event, &mut effects);
        self.distort(effects, rng)
    }

    fn distort(&mut self, effects: Effects<B::Crypto>, rng: &mut ChaCha8Rng) -> Reaction<B> {
        let mut reaction = Reaction { parcels: Vec::new(), timers: Vec::new() };
        for effect in effects {
            match effect {
                Effect::Send(to, message) => {
                    self.remember(&message, rng);
                    for node in nodes(&self.setup.cluster, usize::from(self.setup.id.0), to) {
                        let said = self.version(&message, rng);
                        self.lies += u64::from(said.as_ref() != Some(&message));
                        reaction.parcels.extend(said.map(|said| (node, said)));
                    }
                }
                Effect::SetTimer(_) | Effect::CancelProgressTimer => reaction.timers.push(effect),
                _ => {}
            }
        }
        reaction
    }

    /// What one receiver gets of a message that is due: nothing, it, or something else.
    fn version(&self, message: &Message<B::Crypto>, rng: &mut ChaCha8Rng) -> Option<Message<B::Crypto>> {
        let changes_view = matches!(message, Message::ViewChange(_) | Message::NewView(_));
        match (self.strategy, rng.random_range(0..10)) {
            (Strategy::Silent, _) => None,
            (Strategy::ForgeViewChange, 0..=8) if !changes_view => Some(message.clone()),
            (Strategy::ForgeViewChange, 0..=4) if changes_view => Some(self.forgery(rng)),
            (_, 0..=4) => Some(message.clone()),
            (_, 5..=8) => Some(self.mutated(message, rng)),
            _ => None,
        }
    }
}

/// Remembers `value`, in place of any other if there is no more room.
fn put<T>(memory: &mut Vec<T>, value: T, rng: &mut ChaCha8Rng) {
    if memory.len() < MEMORY {
        memory.push(value);
    } else {
        let place = rng.random_range(0..MEMORY);
        memory[place] = value;
    }
}
