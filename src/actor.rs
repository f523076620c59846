//! The replica as a `stateright` actor: the same `verify` and `step`, composed; and the client.
//!
//! An actor's `Id` is a node number: replica `i` is `Id(i)`, client `c` is `Id(n + c)`. Addresses are the
//! runtime's business, and the source of a message is not looked at: identity comes from the signature.

mod client;

pub use client::{ClientActor, ClientState, Invocation};

use crate::crypto::Crypto;
use crate::message::Message;
use crate::rejection::Rejection;
use crate::replica::verify::verify;
use crate::replica::{Bundle, Durable, Effect, Effects, Event, Replica, Setup, Timeouts, Timer, nodes};
use stateright::actor::{Actor, Id, Out};
use std::borrow::Cow;
use std::hash::Hash;
use std::sync::Arc;

/// Sees what an actor does beside its commands; for counters, logs and properties, never for decisions.
pub trait Observer<C: Crypto>: Send + Sync {
    /// A step happened, with these effects.
    fn effects(&self, effects: &Effects<C>);
    /// A message was dropped before it reached the replica.
    fn dropped(&self, reason: Rejection);
}

/// A replica.
pub struct ReplicaActor<B: Bundle> {
    /// Its configuration.
    pub setup: Arc<Setup<B>>,
    /// How long its timers run.
    pub timeouts: Timeouts,
    /// Who watches, if anybody.
    pub observer: Option<Arc<dyn Observer<B::Crypto>>>,
}

impl<B: Bundle<Service: Eq + Hash>> ReplicaActor<B> {
    fn emit(&self, durable: &Durable<B::Crypto>, effects: Effects<B::Crypto>, out: &mut Out<Self>) {
        if let Some(observer) = &self.observer {
            observer.effects(&effects);
        }
        for effect in effects {
            match effect {
                // The storage of an actor is one value, so each record saves the value it leads to.
                Effect::Persist(_) => out.save(durable.clone()),
                Effect::Send(to, message) => {
                    for node in nodes(&self.setup.cluster, usize::from(self.setup.id.0), to) {
                        out.send(Id::from(node), message.clone());
                    }
                }
                Effect::SetTimer(timer) => {
                    let duration = self.timeouts.duration(timer);
                    out.set_timer(normal(timer), duration..duration);
                }
                Effect::CancelProgressTimer => out.cancel_timer(normal(Timer::Progress { backoff: 0 })),
                Effect::Fact(_) | Effect::Reject(_) => {}
            }
        }
    }

    fn step(&self, state: &mut Cow<'_, Replica<B>>, event: Event<B::Crypto>, out: &mut Out<Self>) {
        let mut effects = Effects::new();
        match state {
            // On a network the state is owned and changes in place.
            Cow::Owned(replica) => {
                replica.step(&self.setup, event, &mut effects);
                self.emit(replica.durable(), effects, out);
            }
            // In a checker it is borrowed, and stays so if nothing changes: then the step is a no-op.
            Cow::Borrowed(before) => {
                let mut replica = Replica::clone(before);
                replica.step(&self.setup, event, &mut effects);
                self.emit(replica.durable(), effects, out);
                if replica != **before {
                    *state = Cow::Owned(replica);
                }
            }
        }
    }
}

/// One timer of each kind runs, whatever its duration.
fn normal(timer: Timer) -> Timer {
    match timer {
        Timer::Progress { .. } => Timer::Progress { backoff: 0 },
        Timer::Status => Timer::Status,
    }
}

/// A checker compares states and hashes them, so the service must allow it.
impl<B: Bundle<Service: Eq + Hash>> Actor for ReplicaActor<B> {
    type Msg = Message<B::Crypto>;
    type Timer = Timer;
    type State = Replica<B>;
    type Storage = Durable<B::Crypto>;
    type Random = ();

    /// # Panics
    /// If the stored state is damaged or another replica's: starting empty instead would break promises.
    fn on_start(&self, _id: Id, storage: &Option<Self::Storage>, out: &mut Out<Self>) -> Self::State {
        let mut effects = Effects::new();
        let replica = Replica::start(&self.setup, storage.clone(), &mut effects)
            .unwrap_or_else(|error| panic!("cannot start from this storage: {error}"));
        self.emit(replica.durable(), effects, out);
        replica
    }

    fn on_msg(
        &self,
        _id: Id,
        state: &mut Cow<'_, Self::State>,
        _src: Id,
        message: Self::Msg,
        out: &mut Out<Self>,
    ) {
        match verify(&self.setup, message) {
            Ok(message) => self.step(state, Event::Message(message), out),
            Err(reason) => {
                if let Some(observer) = &self.observer {
                    observer.dropped(reason);
                }
            }
        }
    }

    fn on_timeout(&self, _id: Id, state: &mut Cow<'_, Self::State>, timer: &Timer, out: &mut Out<Self>) {
        self.step(state, Event::Timeout(timer.expired()), out);
    }

    fn name(&self) -> String {
        format!("r{}", self.setup.id.0)
    }
}
