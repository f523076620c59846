//! The project on one screen: four production replicas as stateright actors, explored by stateright's own
//! checker.
//!
//!     cargo run --release --example check
//!
//! One client has sent one request to the primary. Every order in which what follows can arrive, twice or
//! never, is explored. `pbft check` explores larger worlds by an engine of its own: Byzantine replicas,
//! time-outs, views, checkpoints.

use pbft::actor::ReplicaActor;
use pbft::message::Message;
use pbft::replica::{Replica, Timeouts, Timer};
use pbft::types::{Cluster, SeqNo};
use pbft_models::crypto::Symbolic;
use pbft_models::world::{Modelled, WorldConfig};
use stateright::actor::{Actor, ActorModel, ActorModelState, Command, Envelope, Id, Network, Out};
use stateright::{Checker, Expectation, Model};
use std::borrow::Cow;

/// A replica without timers, and so without retransmission: the network forgets nothing.
struct Timeless(ReplicaActor<Modelled>);

impl Timeless {
    fn send(from: Out<ReplicaActor<Modelled>>, out: &mut Out<Self>) {
        for command in from {
            match command {
                Command::Send(_, Message::Status(_)) => {}
                Command::Send(to, message) => out.send(to, message),
                _ => {} // timers, and what is to be durable
            }
        }
    }
}

impl Actor for Timeless {
    type Msg = Message<Symbolic>;
    type Timer = Timer;
    type State = Replica<Modelled>;
    type Storage = ();
    type Random = ();

    fn on_start(&self, id: Id, _: &Option<()>, out: &mut Out<Self>) -> Self::State {
        let mut own = Out::new();
        let replica = self.0.on_start(id, &None, &mut own);
        Self::send(own, out);
        replica
    }

    fn on_msg(
        &self,
        id: Id,
        state: &mut Cow<'_, Self::State>,
        from: Id,
        message: Self::Msg,
        out: &mut Out<Self>,
    ) {
        let mut own = Out::new();
        self.0.on_msg(id, state, from, message, &mut own);
        Self::send(own, out);
    }
}

/// Replicas that have executed as much have the same state.
fn agree(_: &ActorModel<Timeless>, state: &ActorModelState<Timeless>) -> bool {
    let executed = |replica: &Replica<Modelled>| (replica.last_executed(), replica.service().clone());
    let mut all: Vec<_> = state.actor_states.iter().map(|replica| executed(replica)).collect();
    all.sort();
    all.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].1 == pair[1].1)
}

fn everybody_executes(_: &ActorModel<Timeless>, state: &ActorModelState<Timeless>) -> bool {
    state.actor_states.iter().all(|replica| replica.last_executed() == SeqNo(1))
}

fn main() {
    let config = WorldConfig::new(Cluster::new(4, 1), 1);
    let replica = |setup| Timeless(ReplicaActor { setup, timeouts: Timeouts::default(), observer: None });
    let requests = config.signed_requests().into_iter().map(|request| Envelope {
        src: Id::from(4),
        dst: Id::from(0),
        msg: Message::Request(request),
    });
    let checker = ActorModel::new((), ())
        .actors(config.setups().into_iter().map(replica))
        .init_network(Network::new_unordered_duplicating(requests))
        .property(Expectation::Always, "replicas agree", agree)
        .property(Expectation::Sometimes, "everybody executes", everybody_executes)
        .checker()
        .threads(2)
        .spawn_bfs()
        .join();
    checker.assert_properties();
    println!(
        "{} states: replicas agree in each, and in some everybody has executed.",
        checker.unique_state_count()
    );
}
