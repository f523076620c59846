//! `pbft replica --judge`: each step of the running replica, held to the protocol that is proved for all sizes.
//!
//! It counts and logs. It changes nothing, and it never stops the replica, not even by a panic of its own.

use super::config::Served;
use pbft::crypto::ed25519::Ed25519;
use pbft::replica::{Durable, Effect, Effects, Event, Replica, Setup};
use pbft::runtime::Witness;
use pbft::runtime::control::Health;
use pbft::runtime::counters::thread_time;
use pbft_properties::contract::{Actions, Breach, Signatures, Watcher};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Processor time is measured for one step of this number, which counts for all. A prime, as that of
/// [`Counters`](pbft::runtime::counters::Counters).
const SAMPLED: u64 = 13;

/// What is counted, by name, with what it is.
pub const HELP: [(&str, &str); 5] = [
    (STEPS, "Steps judged to be of the proved protocol"),
    (ACTIONS, "Actions of the proved protocol that they are"),
    (BREACHES, "Steps that are none of the proved protocol; the first is in the log, and ends the judging"),
    (JUDGES, "1 while steps are judged"),
    (TIME, "Estimated processor time of judging"),
];
const STEPS: &str = "judged_steps";
const ACTIONS: &str = "judged_actions";
const BREACHES: &str = "judged_breaches";
pub const JUDGES: &str = "judges";
const TIME: &str = "judge_ns";

/// A witness that judges, and lets another one see everything first.
pub struct Judge {
    setup: Setup<Served>,
    next: Option<Box<dyn Witness<Served>>>,
    /// None after a breach.
    watcher: Option<Watcher<Served>>,
    life_step: u64,
    steps: u64,
    actions: u64,
    breaches: u64,
    time: Duration,
}

impl Judge {
    /// Judges the replica of this setup from its start.
    pub fn new(setup: Setup<Served>, next: Option<Box<dyn Witness<Served>>>) -> Self {
        // What arrives has just been verified.
        let watcher = Some(Watcher::of_one_life(Signatures::Trust));
        let time = Duration::ZERO;
        Judge { setup, next, watcher, life_step: 0, steps: 0, actions: 0, breaches: 0, time }
    }

    /// Lets the watcher look, and notes what it finds.
    fn look(
        &mut self,
        look: impl FnOnce(&mut Watcher<Served>, &Setup<Served>) -> Result<Option<Actions>, Breach>,
    ) {
        let Some(watcher) = &mut self.watcher else { return };
        let before = (self.life_step % SAMPLED == 1).then(thread_time);
        let judged = catch_unwind(AssertUnwindSafe(|| look(watcher, &self.setup)));
        if let Some(before) = before {
            self.time += thread_time().saturating_sub(before);
        }
        match judged {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(actions))) => {
                self.steps += 1;
                self.actions += actions.len() as u64;
            }
            Ok(Err(breach)) => {
                self.breaches += 1;
                self.watcher = None;
                tracing::error!(
                    step = self.life_step,
                    %breach,
                    "NOT A STEP OF THE PROVED PROTOCOL; nothing is judged from here to the next start"
                );
            }
            Err(_) => {
                self.watcher = None;
                tracing::error!(step = self.life_step, "the judge has failed, and judges no further");
            }
        }
    }
}

impl Witness<Served> for Judge {
    fn started(&mut self, stored: Option<&Durable<Ed25519>>, effects: &Effects<Ed25519>) -> io::Result<()> {
        if let Some(next) = &mut self.next {
            next.started(stored, effects)?;
        }
        let new = Durable::default();
        self.look(|watcher, setup| {
            watcher.starts(setup, stored.unwrap_or(&new))?;
            watcher.effects(setup, all(effects))
        });
        Ok(())
    }

    fn event(&mut self, event: &Event<Ed25519>) -> io::Result<()> {
        self.life_step += 1;
        if let Some(next) = &mut self.next {
            next.event(event)?;
        }
        self.look(|watcher, _| {
            watcher.event(event);
            Ok(None)
        });
        Ok(())
    }

    fn effects(
        &mut self,
        setup: &Setup<Served>,
        replica: &Replica<Served>,
        effects: &Effects<Ed25519>,
    ) -> io::Result<()> {
        if let Some(next) = &mut self.next {
            next.effects(setup, replica, effects)?;
        }
        self.look(|watcher, setup| watcher.effects(setup, all(effects)));
        Ok(())
    }

    fn carried_out(&mut self, steps: u64) -> io::Result<()> {
        self.next.as_mut().map_or(Ok(()), |next| next.carried_out(steps))
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let nanoseconds = u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX);
        let mut counts = self.next.as_ref().map(|next| next.counts()).unwrap_or_default();
        counts.extend([
            (STEPS, self.steps),
            (ACTIONS, self.actions),
            (BREACHES, self.breaches),
            (JUDGES, u64::from(self.watcher.as_ref().is_some_and(Watcher::judges))),
            (TIME, nanoseconds.saturating_mul(SAMPLED)),
        ]);
        counts
    }
}

/// What the judge of a replica has found, in words; none if it has none.
pub fn words(status: &Health) -> Option<String> {
    let has = |name: &str| status.counters.iter().any(|(other, _)| other == name);
    let judged = format!("{} steps, {} actions", status.counter(STEPS), status.counter(ACTIONS));
    match (status.counter(BREACHES), status.counter(JUDGES)) {
        _ if !has(STEPS) => None,
        (0, 0) => Some(format!("judged: {judged} of the proved protocol, and none since: its log says why")),
        (0, _) => Some(format!("judged: {judged}, all of the proved protocol")),
        _ => Some(format!("NOT OF THE PROVED PROTOCOL: a step after {judged} that were; its log says which")),
    }
}

fn all(effects: &Effects<Ed25519>) -> &[Effect<Ed25519>] {
    effects.iter().as_slice()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pbft::crypto::Signed;
    use pbft::crypto::ed25519::KeyRing;
    use pbft::kv::{KeyValue, Operation};
    use pbft::message::{Message, Request};
    use pbft::parameters::Parameters;
    use pbft::replica::verify::verify;
    use pbft::rules::Pbft;
    use pbft::types::{Bytes, ClientId, Cluster, ReplicaId, Timestamp};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// Counts what it is told.
    struct Next(Arc<AtomicU64>);

    impl Next {
        fn told(&self) -> io::Result<()> {
            self.0.fetch_add(1, Relaxed);
            Ok(())
        }
    }

    impl Witness<Served> for Next {
        fn started(&mut self, _: Option<&Durable<Ed25519>>, _: &Effects<Ed25519>) -> io::Result<()> {
            self.told()
        }
        fn event(&mut self, _: &Event<Ed25519>) -> io::Result<()> {
            self.told()
        }
        fn effects(
            &mut self,
            _: &Setup<Served>,
            _: &Replica<Served>,
            _: &Effects<Ed25519>,
        ) -> io::Result<()> {
            self.told()
        }
        fn carried_out(&mut self, _: u64) -> io::Result<()> {
            self.told()
        }
    }

    fn count(judge: &Judge, name: &str) -> u64 {
        judge.counts().iter().find(|(other, _)| *other == name).expect("it is counted").1
    }

    /// Takes a step, which its judge sees if there is one, and tells what the replica sends.
    fn step(
        (setup, replica): &mut Server,
        message: &Message<Ed25519>,
        judge: Option<&mut Judge>,
    ) -> Vec<Message<Ed25519>> {
        let event = Event::Message(verify(setup, message.clone()).expect("it is valid"));
        let mut effects = Effects::new();
        replica.step(setup, event.clone(), &mut effects);
        if let Some(judge) = judge {
            judge.event(&event).expect("it never stops a replica");
            judge.effects(setup, replica, &effects).expect("it never stops a replica");
        }
        effects.sends().map(|(_, message)| message.clone()).collect()
    }

    type Server = (Setup<Served>, Replica<Served>);

    /// Four, and a client's request.
    fn replicas() -> (Vec<Server>, Message<Ed25519>) {
        let (keys, clients) = KeyRing::insecure(0, 4, 1);
        let start = |(id, keys)| {
            let setup = Setup::<Served> {
                id: ReplicaId(id),
                cluster: Cluster::new(4, 1),
                parameters: Parameters::default(),
                keys: Arc::new(keys),
                clients: 1,
                rules: Pbft,
                genesis: KeyValue::default(),
            };
            let replica = Replica::start(&setup, None, &mut Effects::new()).expect("it has not run");
            (setup, replica)
        };
        let (key, value) = (Bytes::from(&b"key"[..]), Bytes::from(&b"value"[..]));
        let operation = Operation::Put { key, value }.to_bytes();
        let request = Request { operation, timestamp: Timestamp(1), client: ClientId(0), read_only: false };
        let request = Message::Request(Signed::new(request, &clients[0]));
        ((0..).zip(keys).map(start).collect(), request)
    }

    /// A primary orders a request, and collects PREPAREs for it; its judge sees the first of that or does not.
    fn ordered(judge: &mut Judge, sees: bool) {
        let (mut replicas, request) = replicas();
        judge.started(None, &Effects::new()).expect("it never stops a replica");
        let proposed = step(&mut replicas[0], &request, sees.then_some(&mut *judge));
        let proposal = proposed.iter().find(|m| matches!(m, Message::PrePrepare(..))).expect("it is primary");
        for backup in 1..4 {
            let voted = step(&mut replicas[backup], proposal, None);
            for vote in voted.iter().filter(|m| matches!(m, Message::Prepare(_))) {
                step(&mut replicas[0], vote, Some(&mut *judge));
            }
        }
    }

    #[test]
    fn a_breach_is_counted_and_told_and_stops_neither_the_replica_nor_its_journal() {
        for (sees, breaches) in [(true, 0), (false, 1)] {
            let told = Arc::new(AtomicU64::new(0));
            let setup = replicas().0.swap_remove(0).0;
            let mut judge = Judge::new(setup, Some(Box::new(Next(told.clone()))));
            ordered(&mut judge, sees);
            judge.carried_out(1).expect("it never stops a replica");
            assert_eq!((count(&judge, BREACHES), count(&judge, JUDGES)), (breaches, 1 - breaches));
            // One start, one end, and each step twice.
            assert_eq!(told.load(Relaxed), 2 + 2 * (3 + u64::from(sees)));
            let counters = judge.counts().into_iter().map(|(name, value)| (name.to_owned(), value));
            let words = words(&Health { counters: counters.collect(), ..Health::default() });
            let words = words.expect("there is a judge");
            assert_eq!(words.starts_with("NOT OF THE PROVED PROTOCOL"), !sees, "{words}");
            // It has started, and seen the votes.
            assert_eq!(sees, count(&judge, STEPS) == 1 + 4, "{words}");
        }
        assert_eq!(words(&Health::default()), None);
    }

    #[test]
    fn a_judge_that_panics_judges_no_further() {
        let mut judge = Judge::new(replicas().0.swap_remove(0).0, None);
        judge.look(|_, _| panic!("a test of a panic"));
        assert_eq!((count(&judge, BREACHES), count(&judge, JUDGES)), (0, 0));
        ordered(&mut judge, true);
        assert_eq!(count(&judge, STEPS), 0);
    }
}
