//! A journal through the same `step`: does the code ask for what the replica asked for, and what has it done?

use super::note::notes;
use super::{Beginning, Head, Input, Life, Note, Recorded};
use crate::crypto::{Crypto, Signed};
use crate::message::{Batch, Message, Reply, Request};
use crate::replica::verify::verify;
use crate::replica::{Bundle, Durable, Effect, Effects, Event, Expired, Fact, Record, Replica, Setup};
use crate::types::{Digest, SeqNo};
use crate::wire;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// Sees what a replay shows, in order.
pub trait Observer<B: Bundle> {
    /// What the replica has done is known only from here on, where it is `replica`: what came before is not
    /// in the journal. What was told of it before does not count any more.
    fn begins(&mut self, setup: &Setup<B>, replica: &Replica<B>);
    /// The replica has done this: it was carried out, or its next life stands on it.
    fn fact(&mut self, fact: &Fact);
    /// It has sent this reply, or was about to.
    fn reply(&mut self, reply: &Reply);
    /// A client has signed this request. Told again each time that it occurs.
    fn request(&mut self, request: &Request);
    /// This batch was proposed, by whomever, or answers who asked for it. Told again each time that it
    /// occurs.
    fn batch(&mut self, batch: &Batch<B::Crypto>);
    /// A life begins, the first being 1, and the replica is as it starts.
    fn started(&mut self, _setup: &Setup<B>, _life: u64, _replica: &Replica<B>) {}
    /// The replica is about to take a step.
    fn before(&mut self, _replica: &Replica<B>, _event: &Event<B::Crypto>) {}
    /// What it is known from is after so many steps of the life.
    fn goes_on_after(&mut self, _steps: u64) {}
    /// So many steps of the life are carried out.
    fn carried_out(&mut self, _steps: u64) {}
    /// It has taken the step, and asks for this.
    fn after(&mut self, _setup: &Setup<B>, _replica: &Replica<B>, _effects: &Effects<B::Crypto>) {}
}

/// Where a replay and its journal part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Divergence {
    /// The life of the process, from 1.
    pub life: u64,
    /// The step of that life, from 1; 0 is its start.
    pub step: u64,
    /// What the journal says.
    pub expected: String,
    /// What the replay shows.
    pub came: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Divergence { life, step, expected, came } = self;
        write!(f, "life {life}, step {step}: the journal has {expected}, the replay {came}")
    }
}

/// What there was in a journal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// The first life of which anything is here: 1 if nothing was removed.
    pub first_life: u64,
    /// How many lives there are, whole or not.
    pub lives: u64,
    /// The steps of all lives.
    pub steps: u64,
    /// The steps of killed lives that nobody has seen, and that no next life stands on.
    pub undone: u64,
    /// If what the replica has done is not known from its first start: the last batch executed when that
    /// begins.
    pub from: Option<SeqNo>,
    /// How often segments are missing in the middle.
    pub gaps: u64,
    /// The life from which it counts as faulty, because it started from nothing though it had run before.
    pub faulty_from: Option<u64>,
}

/// A step that is not known to be carried out.
struct Pending<B: Bundle> {
    step: u64,
    effects: Effects<B::Crypto>,
}

/// The replay of one journal. Holds the replica, and the steps since the last that were carried out.
///
/// The setup needs the replica's own keys: a replay signs what the replica signed.
pub struct Replay<B: Bundle> {
    setup: Setup<B>,
    replica: Option<Replica<B>>,
    /// The life, counted from the replica's first start.
    life: u64,
    step: u64,
    /// If the replay began in the middle of a life, after this step, and that is not known to be carried out:
    /// then the next life may stand on an earlier state.
    begun_after: Option<u64>,
    /// What the records that were carried out add up to.
    durable: Durable<B::Crypto>,
    pending: VecDeque<Pending<B>>,
    scratch: Vec<u8>,
    summary: Summary,
}

impl<B: Bundle> Replay<B> {
    /// Nothing replayed yet.
    pub fn new(setup: Setup<B>) -> Self {
        Replay {
            setup,
            replica: None,
            life: 0,
            step: 0,
            begun_after: None,
            durable: Durable::default(),
            pending: VecDeque::new(),
            scratch: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// What there was until now.
    pub fn summary(&self) -> Summary {
        // What is pending at the end was not carried out as far as anybody can tell.
        Summary { undone: self.summary.undone + self.unseen(), ..self.summary }
    }

    /// Steps that are pending, without the start.
    fn unseen(&self) -> u64 {
        self.pending.iter().filter(|pending| pending.step > 0 && !pending.effects.is_empty()).count() as u64
    }

    /// Replays what the journal says next.
    ///
    /// # Errors
    /// Where the replay parts from the journal; there it ends.
    pub fn feed(
        &mut self,
        recorded: Recorded<B::Crypto>,
        observer: &mut impl Observer<B>,
    ) -> Result<(), Divergence> {
        match recorded {
            Recorded::Started(life, noted) => self.start(life, &noted, observer),
            Recorded::Step(input, noted) => self.one_step(&input, &noted, observer),
            Recorded::CarriedOut(steps) => self.carried_out(steps, observer),
            Recorded::GoesOn(head, rest) => self.goes_on(&head, rest.as_deref()),
            Recorded::Begins(beginning) => self.begin(beginning, observer),
        }
    }

    fn diverges(&self, expected: impl Into<String>, came: impl Into<String>) -> Divergence {
        let (life, step) = (self.life, self.step);
        Divergence { life, step, expected: expected.into(), came: came.into() }
    }

    fn is_judged(&self) -> bool {
        self.summary.faulty_from.is_none()
    }

    // --- lives ---

    fn start(
        &mut self,
        life: Life<B::Crypto>,
        noted: &[Note],
        observer: &mut impl Observer<B>,
    ) -> Result<(), Divergence> {
        let first = self.replica.is_none();
        self.count_life(self.life + 1);
        self.step = 0;
        let stored = match life {
            Life::Memory => None,
            Life::Fresh | Life::Replacement => Some(Durable::default()),
            Life::Stored(ref durable) => Some(Durable::clone(durable)),
        };
        let forgets = matches!(life, Life::Replacement) || (matches!(life, Life::Memory) && self.life > 1);
        let mut begins = first && matches!(life, Life::Stored(_));
        if !first && !forgets {
            begins = !self.continue_from(stored.as_ref().unwrap_or(&Durable::default()), observer)?;
        }
        if forgets {
            self.summary.faulty_from.get_or_insert(self.life);
        }
        self.begun_after = None;
        self.summary.undone += self.unseen();
        self.pending.clear();
        self.durable = stored.clone().unwrap_or_default();
        self.tell_known(observer);
        let mut effects = Effects::new();
        let replica = Replica::start(&self.setup, stored, &mut effects)
            .map_err(|error| self.diverges("a start", format!("refuses the state: {error}")))?;
        if begins && self.is_judged() {
            self.summary.from = Some(replica.last_executed());
            observer.begins(&self.setup, &replica);
        }
        observer.started(&self.setup, self.life, &replica);
        self.replica = Some(replica);
        self.compare(noted, effects)
    }

    fn count_life(&mut self, life: u64) {
        if self.summary.lives == 0 {
            self.summary.first_life = life;
        }
        self.life = life;
        self.summary.lives += 1;
    }

    /// Finds the record up to which `stored` reaches, and tells the facts before the next. False if that may
    /// be one before the first of this journal.
    fn continue_from(
        &mut self,
        stored: &Durable<B::Crypto>,
        observer: &mut impl Observer<B>,
    ) -> Result<bool, Divergence> {
        let all: Vec<(u64, Effect<B::Crypto>)> = (self.pending.drain(..))
            .flat_map(|pending| pending.effects.into_iter().map(move |effect| (pending.step, effect)))
            .collect();
        let mut reached = None;
        for (index, (_, effect)) in all.iter().enumerate() {
            if let Effect::Persist(record) = effect {
                if same(&self.durable, stored) {
                    reached = Some(index);
                }
                self.durable.apply(record, &self.setup.rules);
            }
        }
        if same(&self.durable, stored) {
            reached = Some(all.len());
        }
        let Some(reached) = reached else {
            if self.begun_after.is_some() {
                return Ok(false);
            }
            return Err(self.diverges(
                "a start from a state that no record of the life before leads to",
                "cannot tell whether the replica forgot what it promised, ran without its journal, or lost the end of it \
                 with the machine's power",
            ));
        };
        if self.is_judged() {
            for (_, effect) in &all[..reached] {
                if let Effect::Fact(fact) = effect {
                    observer.fact(fact);
                }
            }
        }
        let mut undone: Vec<u64> = all[reached..].iter().map(|&(step, _)| step).filter(|&s| s > 0).collect();
        undone.dedup();
        self.summary.undone += undone.len() as u64;
        Ok(true)
    }

    fn carried_out(&mut self, steps: u64, observer: &mut impl Observer<B>) -> Result<(), Divergence> {
        if steps > self.step {
            return Err(self.diverges(format!("{steps} steps carried out"), "has not come so far"));
        }
        if self.begun_after.is_some_and(|before| steps >= before) {
            self.begun_after = None;
        }
        observer.carried_out(steps);
        let judged = self.is_judged();
        let done = self.pending.iter().take_while(|pending| pending.step <= steps).count();
        for pending in self.pending.drain(..done) {
            for effect in pending.effects {
                match effect {
                    Effect::Persist(record) => self.durable.apply(&record, &self.setup.rules),
                    Effect::Fact(fact) if judged => observer.fact(&fact),
                    Effect::Send(_, Message::Reply(reply)) if judged => observer.reply(&reply.content),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    // --- segments ---

    /// The next segment begins: the replica is to be in the state with which it does.
    fn goes_on(&self, head: &Head, rest: Option<&Durable<B::Crypto>>) -> Result<(), Divergence> {
        let differs =
            |what: &str| Err(self.diverges(format!("a segment that begins with {what}"), "has another"));
        if head.lives != self.life || head.faulty_from != self.summary.faulty_from {
            return differs("a number of lives");
        }
        let (Some(middle), Some(rest)) = (&head.state, rest) else { return Ok(()) };
        let Some(replica) = &self.replica else { return differs("a state") };
        let own = replica.durable();
        let is = Durable { snapshot: own.snapshot.clone(), ..Durable::clone(rest) };
        if head.steps != self.step {
            return differs("a number of steps");
        }
        if is != *own {
            return differs("a durable state");
        }
        if (middle.n, middle.root) != (own.snapshot.n, own.snapshot.tree.root()) {
            return differs("a state of the service");
        }
        if replica.volatile(&self.setup).as_ref() != Some(&middle.volatile) {
            return differs("a state of what a restart forgets");
        }
        Ok(())
    }

    /// What is read next does not follow from what was.
    fn begin(
        &mut self,
        beginning: Beginning<B::Crypto>,
        observer: &mut impl Observer<B>,
    ) -> Result<(), Divergence> {
        let Beginning { head, state, missing } = beginning;
        self.summary.gaps += u64::from(missing.is_some());
        self.summary.faulty_from = head.faulty_from;
        self.pending.clear();
        (self.replica, self.life, self.step) = (None, head.lives, head.steps);
        let (Some(durable), Some(middle)) = (state, &head.state) else { return Ok(()) };
        self.count_life(head.lives);
        self.is_proved(&durable)?;
        self.durable = Durable::clone(&durable);
        let resumed = Replica::resume(&self.setup, *durable, &middle.volatile);
        let replica =
            resumed.map_err(|error| self.diverges("a segment", format!("refuses its state: {error}")))?;
        self.tell_known(observer);
        let members = self.setup.membership();
        for request in replica.known_requests().filter(|request| members.check(request).is_ok()) {
            observer.request(&request.content);
        }
        self.begun_after = Some(head.steps);
        if self.is_judged() {
            self.summary.from = Some(replica.last_executed());
            observer.begins(&self.setup, &replica);
            observer.goes_on_after(head.steps);
        }
        self.replica = Some(replica);
        Ok(())
    }

    /// A quorum vouches for the state that a segment begins with.
    fn is_proved(&self, durable: &Durable<B::Crypto>) -> Result<(), Divergence> {
        let snapshot = (durable.snapshot.n, durable.snapshot.tree.root());
        let proved = durable.stable.clone().filter(|stable| (stable.n, stable.digest) == snapshot);
        match proved.map(|stable| verify(&self.setup, Message::Stable(stable))) {
            Some(Ok(_)) => Ok(()),
            _ => Err(self.diverges("a segment", "knows of no quorum that vouches for its state")),
        }
    }

    /// The batches that the durable state holds.
    fn tell_known(&self, observer: &mut impl Observer<B>) {
        for batch in self.durable.batches.values() {
            tell_requests(&self.setup, batch, observer);
            observer.batch(batch);
        }
    }

    // --- steps ---

    fn one_step(
        &mut self,
        input: &Input,
        noted: &[Note],
        observer: &mut impl Observer<B>,
    ) -> Result<(), Divergence> {
        self.step += 1;
        self.summary.steps += 1;
        let event = match input {
            Input::Progress => Event::Timeout(Expired::Progress),
            Input::Status => Event::Timeout(Expired::Status),
            Input::Message(bytes) => {
                let message = wire::decode::<B::Crypto>(bytes)
                    .map_err(|reason| self.diverges("a message", format!("cannot decode it: {reason:?}")))?;
                let name = message.name();
                let message = verify(&self.setup, message).map_err(|reason| {
                    self.diverges(format!("a valid {name}"), format!("rejects it: {}", reason.as_str()))
                })?;
                tell_message(&message, observer);
                Event::Message(message)
            }
        };
        let Some(replica) = &mut self.replica else {
            return Err(self.diverges("a step", "knows of no start before it"));
        };
        let mut effects = Effects::new();
        observer.before(replica, &event);
        replica.step(&self.setup, event, &mut effects);
        observer.after(&self.setup, replica, &effects);
        for (_, message) in effects.sends() {
            if let Message::PrePrepare(_, batch) = message {
                observer.batch(batch);
            }
        }
        self.compare(noted, effects)
    }

    fn compare(&mut self, noted: &[Note], effects: Effects<B::Crypto>) -> Result<(), Divergence> {
        let came = notes(&effects, &mut self.scratch);
        let count = noted.len().max(came.len());
        let differ = (0..count).find(|&index| noted.get(index) != came.get(index));
        if let Some(index) = differ {
            let told =
                |note: Option<&Note>| note.map_or_else(|| "nothing more".to_owned(), ToString::to_string);
            let expected = format!("as effect {} of {}: {}", index + 1, noted.len(), told(noted.get(index)));
            let full = effects.iter().nth(index).map(brief).unwrap_or_default();
            return Err(self.diverges(expected, format!("{}{full}", told(came.get(index)))));
        }
        self.pending.push_back(Pending { step: self.step, effects });
        Ok(())
    }
}

/// Whether two durable states vouch for the same. The snapshot may be an older one with more executed on top
/// of it, if the newer was not written yet.
fn same<C: Crypto>(one: &Durable<C>, other: &Durable<C>) -> bool {
    let executed = |durable: &Durable<C>| -> BTreeMap<_, Digest> {
        let floor = one.snapshot.n.max(other.snapshot.n);
        durable.executed.iter().filter(|&(&n, _)| n > floor).map(|(&n, &d)| (n, d)).collect()
    };
    one.view == other.view
        && one.last_executed() == other.last_executed()
        && one.stable == other.stable
        && one.view_change == other.view_change
        && one.new_view == other.new_view
        && one.log == other.log
        && one.prepared == other.prepared
        && one.superseded == other.superseded
        && executed(one) == executed(other)
}

/// The effect itself, if that is short.
fn brief<C: Crypto>(effect: &Effect<C>) -> String {
    let text = match effect {
        Effect::Persist(Record::Snapshot(_)) => return String::new(),
        Effect::Reject(reason) => reason.as_str().to_owned(),
        effect => format!("{effect:?}"),
    };
    if text.len() > 400 { String::new() } else { format!(": {text}") }
}

fn tell_message<B: Bundle>(message: &Message<B::Crypto>, observer: &mut impl Observer<B>) {
    match message {
        Message::Request(request) => observer.request(&request.content),
        Message::PrePrepare(_, batch) | Message::Batch(batch) => {
            batch.requests.iter().for_each(|request| observer.request(&request.content));
            observer.batch(batch);
        }
        _ => {}
    }
}

/// The requests of a batch that its clients have signed.
fn tell_requests<B: Bundle>(setup: &Setup<B>, batch: &Batch<B::Crypto>, observer: &mut impl Observer<B>) {
    let members = setup.membership();
    let authentic = |request: &&Signed<Request, B::Crypto>| members.check(request).is_ok();
    batch.requests.iter().filter(authentic).for_each(|request| observer.request(&request.content));
}
