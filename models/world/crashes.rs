//! Crashes: a correct replica stops, and starts again from what it has made durable.
//!
//! It may stop between two steps, and between any two effects of a step: the records, messages and facts up
//! to there are carried out, and those after it are not. Facts that a record makes true go with it. It starts
//! again at once, by [`Replica::start`], as the runtime does: while it is down it is like a replica that
//! nothing reaches. That a record was lost or torn on which nothing rests that was sent is the crash before
//! it.
//!
//! What is durable is what the records that were carried out add up to, and is kept apart from the replica
//! where that is something else than what the replica itself takes for durable.
//!
//! A replica that starts again can be asked by STATUS for what it had prepared to send and had not sent. So
//! with the restart everything is sent that any STATUS, or the status timer, then makes it send: on a network
//! that only remembers, more sent allows only more, and nobody keeps a STATUS from arriving at once. The
//! condition *resending* checks that nothing else is ever sent again.

use super::tables::{Input, Local, LocalId, MessageId, Tables};
use super::views::Views;
use super::{Modelled, WorldConfig};
use crate::crypto::Symbolic;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft::crypto::Signed;
use pbft::message::{Message, NewView, Status};
use pbft::replica::verify::verify;
use pbft::replica::{Destination, Durable, Effect, Effects, Event, Expired, Record, Replica};
use pbft::types::{Principal, ReplicaId, SeqNo, View};
use serde::Serialize;
use std::sync::Arc;

/// Which crashes are part of a world.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Crashes {
    /// How often each replica crashes at most; without bound, if not given.
    pub at_most: Option<u8>,
    /// Whether replicas crash between steps alone, and not between the effects of one.
    pub between_steps: bool,
}

impl Input {
    /// The message that arrives, if one does.
    pub(crate) fn message(self) -> Option<MessageId> {
        match self {
            Input::Message(message) => Some(message),
            Input::CrashDuring(message, _) => message,
            Input::TimeOut | Input::Crash => None,
        }
    }

    /// If the replica crashes, after how many effects of the step.
    pub(crate) fn crash(self) -> Option<u8> {
        match self {
            Input::Message(_) | Input::TimeOut => None,
            Input::Crash => Some(0),
            Input::CrashDuring(_, carried_out) => Some(carried_out),
        }
    }
}

/// The name of the condition that what is durable can be started from.
pub(crate) const RESTARTING: &str = "restarting";

/// A replica that has started from what was durable; none if it does not start.
pub(super) struct Started {
    replica: Option<Replica<Modelled>>,
    /// What it does at once, and what it sends when it is asked.
    effects: Vec<Effect<Symbolic>>,
}

/// Those that have, by what was durable.
pub(super) type AllStarted = IndexMap<(ReplicaId, Durable<Symbolic>), Arc<Started>, FixedState>;

/// What a restarted replica is asked.
pub(super) type Questions = Arc<[Event<Symbolic>]>;

/// Splits effects where a crash can come between them: each record with the facts that it makes true, which
/// follow it, each message, and each other fact.
fn apart(effects: Effects<Symbolic>) -> Vec<Vec<Effect<Symbolic>>> {
    let mut units: Vec<Vec<Effect<Symbolic>>> = Vec::new();
    let mut follows_record = false;
    for effect in effects {
        let is_unit = match effect {
            Effect::Persist(_) | Effect::Send(..) => true,
            Effect::Fact(_) => !follows_record,
            _ => continue,
        };
        follows_record = matches!(effect, Effect::Persist(_)) || !is_unit;
        match units.last_mut() {
            Some(last) if !is_unit => last.push(effect),
            _ => units.push(vec![effect]),
        }
    }
    units
}

/// The effects that are carried out when a replica crashes after so many of them.
pub(crate) fn carried_out_of(effects: Effects<Symbolic>, carried_out: u8) -> Vec<Effect<Symbolic>> {
    apart(effects).into_iter().take(usize::from(carried_out)).flatten().collect()
}

impl Local {
    /// What a crash leaves.
    pub(crate) fn on_disk(&self) -> Durable<Symbolic> {
        self.stored.as_deref().unwrap_or_else(|| self.replica.durable()).clone()
    }
}

fn is_stand_in(new_view: &Arc<Signed<NewView<Symbolic>, Symbolic>>) -> bool {
    new_view.content.view_changes.is_empty()
}

impl Tables {
    /// The crashes inside of a step: between any two of its effects.
    pub(crate) fn crashes_during(&self, replica: ReplicaId, from: LocalId, input: Input) -> Vec<Input> {
        let inside = self.crashes.is_some_and(|crashes| !crashes.between_steps);
        let is_whole = input.crash().is_none();
        let Some(event) = self.event(replica, input).filter(|_| inside && is_whole) else {
            return Vec::new();
        };
        let units = self.units(&self.local(from).replica, replica, event).len();
        let units = u8::try_from(units).expect("a step of a small world has few effects");
        (1..units).map(|carried_out| Input::CrashDuring(input.message(), carried_out)).collect()
    }

    /// What an event makes a replica do, taken apart where a crash can come between.
    pub(crate) fn units(
        &self,
        state: &Replica<Modelled>,
        replica: ReplicaId,
        event: Event<Symbolic>,
    ) -> Vec<Vec<Effect<Symbolic>>> {
        let mut effects = Effects::new();
        state.clone().step(self.setup(replica), event, &mut effects);
        apart(effects)
    }

    /// The same but for what is in a NEW-VIEW that is recorded or sent.
    pub(crate) fn units_but_new_views(
        &self,
        state: &Replica<Modelled>,
        replica: ReplicaId,
        event: Event<Symbolic>,
    ) -> Vec<Vec<Effect<Symbolic>>> {
        let mut units = self.units(state, replica, event);
        for effect in units.iter_mut().flatten() {
            let of = match effect {
                Effect::Persist(Record::NewView(m)) | Effect::Send(_, Message::NewView(m)) => m,
                _ => continue,
            };
            *of = self.stand_in(of.content.view);
        }
        units
    }

    /// The replica crashes when it has carried out this, and starts again. Returns what it has sent.
    pub(crate) fn crash(
        &mut self,
        replica: ReplicaId,
        local: &mut Local,
        (event, mut done): (Option<Event<Symbolic>>, Vec<Effect<Symbolic>>),
    ) -> Arc<[MessageId]> {
        let rules = self.setup(replica).rules;
        let views = Views::before(&local.history, &local.replica);
        let mut durable = self.durable(local);
        if let (Some(event), true) = (event, local.ledger.is_some()) {
            let before = local.replica.clone();
            self.hold_to_contract(replica, local, |contract, ledger, setup| {
                contract
                    .judge_step(ledger, setup, (&before, &event), &done)
                    .map_err(|breach| breach.to_string())
            });
        }
        done.retain(|effect| {
            if let Effect::Persist(record) = effect {
                durable.apply(record, &rules);
            }
            !matches!(effect, Effect::Persist(_))
        });
        self.restarts += 1;
        let started = self.started(replica, &durable);
        self.hold_to_contract(replica, local, |contract, ledger, setup| {
            ledger.restart(setup, &durable)?;
            contract.judge_start(ledger, setup, &started.effects).map_err(|breach| breach.to_string())
        });
        if let Some(replica) = &started.replica {
            local.replica = replica.clone();
        }
        done.extend(started.effects.iter().cloned());
        self.settle(local, durable, views, done, true)
    }

    /// What starts from this, which happens the first time only.
    fn started(&mut self, replica: ReplicaId, durable: &Durable<Symbolic>) -> Arc<Started> {
        let key = (replica, durable.clone());
        if let Some(known) = self.started.get(&key) {
            return known.clone();
        }
        let started = self.start_from(replica, durable);
        let started = Arc::new(started);
        self.compare_in_place(replica, durable, &started);
        self.started.insert(key, started.clone());
        started
    }

    fn start_from(&mut self, replica: ReplicaId, durable: &Durable<Symbolic>) -> Started {
        let setup = self.setup(replica);
        let mut effects = Effects::new();
        match Replica::start(setup, Some(durable.clone()), &mut effects) {
            Ok(mut started) => {
                let again = self.sent_again(replica, &started);
                if started.durable().new_view.as_ref().is_some_and(is_stand_in) {
                    started.put_new_view(None);
                }
                let again = again.into_iter().map(|message| Effect::Send(Destination::Replicas, message));
                Started { replica: Some(started), effects: effects.into_iter().chain(again).collect() }
            }
            Err(why) => {
                let what = format!("r{} does not start again: {why}\n  {durable:?}", replica.0);
                self.refused_to_start.get_or_insert(what);
                Started { replica: None, effects: Vec::new() }
            }
        }
    }

    /// Starts from the same with each NEW-VIEW by which the replica can have entered its view: of the same `O`,
    /// if it is known. It must come to the same, but for that NEW-VIEW, which it can send again.
    fn compare_in_place(&mut self, replica: ReplicaId, durable: &Durable<Symbolic>, started: &Started) {
        let Some(known) = durable.new_view.as_ref().filter(|m| m.content.view == durable.view).cloned()
        else {
            return;
        };
        let can_be = |m: &&Arc<Signed<NewView<Symbolic>, Symbolic>>| {
            m.content.view == durable.view
                && (is_stand_in(&known) || m.content.pre_prepares == known.content.pre_prepares)
        };
        let without = |started: &Started| {
            let replica = started.replica.clone().map(|mut replica| {
                replica.put_new_view(None);
                replica
            });
            let is_it = |effect: &&Effect<Symbolic>| matches!(effect, Effect::Send(_, Message::NewView(m)) if m.content.view == durable.view);
            (replica, started.effects.iter().filter(|effect| !is_it(effect)).cloned().collect::<Vec<_>>())
        };
        let expected = without(started);
        for other in self.in_place.iter().filter(can_be).cloned().collect::<Vec<_>>() {
            let mut durable = durable.clone();
            durable.new_view.set(Some(other));
            if without(&self.start_from(replica, &durable)) != expected {
                self.differs.get_or_insert_with(|| {
                    format!("r{}: a restart looks at what is in a NEW-VIEW\n  {durable:?}", replica.0)
                });
            }
        }
    }

    /// These NEW-VIEWs may be on a disk.
    pub(crate) fn put_in_place(&mut self, new_views: Vec<Arc<Signed<NewView<Symbolic>, Symbolic>>>) {
        self.in_place = new_views;
    }

    /// The first restart that depends on what is in a NEW-VIEW, if one does.
    pub(crate) fn take_difference(&mut self) -> Option<String> {
        self.differs.take()
    }

    /// The crashes that are part of the world.
    pub(crate) fn crashes(&self) -> Option<Crashes> {
        self.crashes
    }

    /// How many restarts there have been.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Why a restart was refused, if one was.
    pub(crate) fn take_refusal(&mut self) -> Option<String> {
        self.refused_to_start.take()
    }

    /// From now on a replica can be restarted, though crashes are no part of the world.
    pub(super) fn allow_crashes(&mut self, config: &WorldConfig) {
        self.keeps_disks = true;
        if self.questions.is_empty() {
            let all = config.cluster.replicas();
            self.questions = all.map(|replica| self.questions(replica, config.max_view)).collect();
        }
    }

    /// What happens, in full.
    pub(crate) fn tell(&self, input: Input) -> String {
        let what = match input.message() {
            Some(message) => format!("{:?}", self.message(message)),
            None if input == Input::Crash => return "a crash".into(),
            None => "a time-out".to_string(),
        };
        match input.crash() {
            Some(carried_out) => format!("{what}, and a crash after {carried_out} effects"),
            None => what,
        }
    }

    /// What is on the disk of a replica, and a NEW-VIEW that stands for that by which it entered its view:
    /// its content serves retransmission alone, and local states may have forgotten it.
    fn durable(&self, local: &Local) -> Durable<Symbolic> {
        let mut durable = local.on_disk();
        if durable.view > View(0) && durable.new_view.is_none() {
            durable.new_view.set(Some(self.stand_in(durable.view)));
        }
        durable
    }

    /// A NEW-VIEW with nothing in it.
    fn stand_in(&self, view: View) -> Arc<Signed<NewView<Symbolic>, Symbolic>> {
        let primary = self.setup(ReplicaId(0)).cluster.primary(view);
        let content = NewView { view, view_changes: Vec::new().into(), pre_prepares: Vec::new() };
        Arc::new(self.setup(primary).sign(content))
    }

    /// What a replica that has just started is made to send by any STATUS and by the status timer, and has
    /// signed itself.
    fn sent_again(&self, replica: ReplicaId, state: &Replica<Modelled>) -> Vec<Message<Symbolic>> {
        let mut asked = state.clone();
        let mut effects = Effects::new();
        for question in self.questions[usize::from(replica.0)].iter() {
            asked.step(self.setup(replica), question.clone(), &mut effects);
        }
        let is_new = |message: &Message<Symbolic>| match message {
            Message::NewView(m) if is_stand_in(m) => false,
            message => message.signer() == Some(Principal::Replica(replica)),
        };
        effects.sends().map(|(_, message)| message.clone()).filter(is_new).collect()
    }

    /// What is asked of a restarted replica: for each view that another may be in, whatever it lacks.
    pub(super) fn questions(&self, replica: ReplicaId, max_view: View) -> Questions {
        let cluster = self.setup(replica).cluster;
        let status = |view| {
            let other = cluster.replicas().find(|&other| other != replica)?;
            let (nothing, none) = (SeqNo(0), Vec::new);
            let status = Status {
                view,
                leaving: None,
                stable: nothing,
                executed: nothing,
                pre_prepared: none(),
                prepared: none(),
                replica: other,
            };
            verify(self.setup(replica), Message::Status(self.setup(other).sign(status))).ok()
        };
        let statuses = (0..=max_view.0).map(View).filter_map(status).map(Event::Message);
        statuses.chain([Event::Timeout(Expired::Status)]).collect()
    }
}
