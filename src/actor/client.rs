//! The client as a `stateright` actor with a fixed workload.

use crate::client::{Client, ClientDurable, ClientEffect, ClientEvent, ClientSetup, ClientTimer};
use crate::crypto::Crypto;
use crate::message::Message;
use crate::replica::nodes;
use crate::rules::Rules;
use crate::types::{Bytes, Timestamp};
use stateright::actor::{Actor, Id, Out};
use std::borrow::Cow;
use std::time::Duration;

/// One operation of a workload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invocation {
    /// The operation.
    pub operation: Bytes,
    /// Whether to try it without ordering first.
    pub read_only: bool,
}

/// A client that invokes the operations of a fixed workload, one after the other.
pub struct ClientActor<C: Crypto, R: Rules> {
    /// Its configuration.
    pub setup: ClientSetup<C, R>,
    /// What it invokes.
    pub workload: Vec<Invocation>,
    /// The time-out at exponent 0.
    pub timeout: Duration,
}

/// The state of a [`ClientActor`].
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientState<C: Crypto> {
    /// The client.
    pub client: Client<C>,
    /// The results so far, one for each operation of the workload that completed, in order.
    pub results: Vec<Bytes>,
}

impl<C: Crypto, R: Rules> ClientActor<C, R> {
    fn step(&self, state: &mut ClientState<C>, event: ClientEvent<C>, out: &mut Out<Self>) {
        let mut effects = Vec::new();
        state.client.step(&self.setup, event, &mut effects);
        for effect in effects {
            match effect {
                ClientEffect::Persist(durable) => out.save(durable),
                ClientEffect::Send(to, message) => {
                    for node in nodes(&self.setup.cluster, usize::MAX, to) {
                        out.send(Id::from(node), message.clone());
                    }
                }
                ClientEffect::SetTimer { backoff } => {
                    let duration = self.timeout * 2u32.pow(u32::from(backoff));
                    out.set_timer(ClientTimer, duration..duration);
                }
                ClientEffect::CancelTimer => out.cancel_timer(ClientTimer),
                ClientEffect::Completed { result, .. } => {
                    state.results.push(result);
                    self.invoke_next(state, out);
                }
                ClientEffect::Reject(_) => {}
            }
        }
    }

    fn invoke_next(&self, state: &mut ClientState<C>, out: &mut Out<Self>) {
        if let Some(Invocation { operation, read_only }) = self.workload.get(state.results.len()).cloned() {
            let clock = Timestamp(0);
            self.step(state, ClientEvent::Invoke { operation, read_only, clock }, out);
        }
    }

    fn step_cow(&self, state: &mut Cow<'_, ClientState<C>>, event: ClientEvent<C>, out: &mut Out<Self>) {
        let mut after = state.clone().into_owned();
        self.step(&mut after, event, out);
        if after != **state {
            *state = Cow::Owned(after);
        }
    }
}

impl<C: Crypto, R: Rules> Actor for ClientActor<C, R> {
    type Msg = Message<C>;
    type Timer = ClientTimer;
    type State = ClientState<C>;
    type Storage = ClientDurable;
    type Random = ();

    fn on_start(&self, _id: Id, storage: &Option<ClientDurable>, out: &mut Out<Self>) -> Self::State {
        let mut state = ClientState { client: Client::new(storage.unwrap_or_default()), results: Vec::new() };
        self.invoke_next(&mut state, out);
        state
    }

    fn on_msg(
        &self,
        _id: Id,
        state: &mut Cow<'_, Self::State>,
        _src: Id,
        message: Self::Msg,
        out: &mut Out<Self>,
    ) {
        if let Ok(message) = Client::verify(&self.setup, message) {
            self.step_cow(state, ClientEvent::Message(message), out);
        }
    }

    fn on_timeout(&self, _id: Id, state: &mut Cow<'_, Self::State>, _: &ClientTimer, out: &mut Out<Self>) {
        self.step_cow(state, ClientEvent::Timeout, out);
    }

    fn name(&self) -> String {
        format!("c{}", self.setup.id.0)
    }
}
