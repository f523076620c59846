//! Letters between workers, turn by turn.
//!
//! A turn is an epoch of one dataflow: an input, an exchange by the worker that a letter is for, and a probe.
//! Whoever takes a turn sends what it has to send, and goes on when the probe says that nobody sends anything
//! more in this epoch and that everything sent has arrived. So all workers take the same turns, and what is
//! decided by what all have said in one is decided alike by all.

use super::alarm::{Alarm, Alarmed};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use timely::communication::Allocator;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::{Input, Probe};
use timely::dataflow::{InputHandle, ProbeHandle};
use timely::worker::{Config, Worker};

/// The longest that a worker waits between two looks at whether somebody is gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What one worker says to another.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Letter {
    turn: u64,
    pub(crate) from: u32,
    to: u32,
    pub(crate) what: What,
}

/// What a letter says.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum What {
    /// States that somebody has found and the receiver owns: bits of each word, and the limbs of the keys.
    Keys {
        /// Bits of each word.
        bits: Vec<u8>,
        /// The limbs of one key after those of the other.
        limbs: Vec<u64>,
    },
    /// What is said to all: numbers, and states, the words of one after those of the other.
    Told {
        /// Numbers.
        numbers: Vec<u64>,
        /// States.
        states: Vec<u32>,
    },
    /// States for which something has to be learnt.
    Unlearnt(Vec<u32>),
}

/// The numbers and the states that a worker has told all.
pub(crate) type Told = (Vec<u64>, Vec<u32>);

type Builder = CapacityContainerBuilder<Vec<Letter>>;

/// One worker's end of it.
pub(crate) struct Post<'a> {
    worker: Worker,
    input: InputHandle<u64, Builder>,
    probe: ProbeHandle<u64>,
    inbox: Rc<RefCell<Vec<Letter>>>,
    turn: u64,
    alarm: &'a Alarm<'a>,
}

impl<'a> Post<'a> {
    /// Among the workers that this allocator connects.
    pub(crate) fn new(allocator: Allocator, alarm: &'a Alarm<'a>) -> Self {
        // Without a timer it never parks.
        let mut worker = Worker::new(Config::default(), allocator, Some(Instant::now()));
        let (mut input, inbox) = (InputHandle::new(), Rc::new(RefCell::new(Vec::new())));
        let arrived = inbox.clone();
        let probe = worker.dataflow(|scope| {
            let letters = scope.input_from(&mut input);
            let exchange = Exchange::new(|letter: &Letter| u64::from(letter.to));
            let delivered = letters.unary::<Builder, _, _, _>(exchange, "deliver", |_, _| {
                move |input, _| input.for_each(|_, letters| arrived.borrow_mut().append(letters))
            });
            delivered.probe().0
        });
        Post { worker, input, probe, inbox, turn: 0, alarm }
    }

    /// The number of this worker.
    pub(crate) fn index(&self) -> usize {
        self.worker.index()
    }

    /// How many workers there are.
    pub(crate) fn workers(&self) -> usize {
        self.worker.peers()
    }

    /// Puts a letter into the post for this turn.
    pub(crate) fn send(&mut self, to: usize, what: What) {
        let number = |worker: usize| u32::try_from(worker).expect("there are few workers");
        let letter = Letter { turn: self.turn, from: number(self.index()), to: number(to), what };
        self.input.send(letter);
    }

    /// Says this to all, this worker included.
    pub(crate) fn tell(&mut self, numbers: &[u64], states: &[u32]) {
        for to in 0..self.workers() {
            self.send(to, What::Told { numbers: numbers.to_vec(), states: states.to_vec() });
        }
    }

    /// Ends a turn; what has arrived in it, by the numbers of the senders.
    ///
    /// # Errors
    /// If somebody is gone: then there are no more turns.
    pub(crate) fn turn(&mut self) -> Result<Vec<Letter>, Alarmed> {
        let now = self.turn;
        self.turn += 1;
        self.input.advance_to(self.turn);
        while self.probe.less_than(&self.turn) {
            self.alarm.look()?;
            self.worker.step_or_park(Some(LOOK_EVERY));
        }
        // Who is ahead may have sent letters of the next turn.
        let (mut letters, later): (Vec<_>, Vec<_>) =
            self.inbox.take().into_iter().partition(|letter| letter.turn == now);
        *self.inbox.borrow_mut() = later;
        letters.sort_by_key(|letter| letter.from);
        Ok(letters)
    }

    /// The same, for letters to all alone: the numbers and the states that each has told.
    ///
    /// # Errors
    /// As [`Post::turn`].
    pub(crate) fn told(&mut self) -> Result<Vec<Told>, Alarmed> {
        let told = self.turn()?.into_iter().filter_map(|letter| match letter.what {
            What::Told { numbers, states } => Some((numbers, states)),
            _ => None,
        });
        Ok(told.collect())
    }

    /// Ends the dataflow when everybody does.
    ///
    /// # Errors
    /// If somebody is gone.
    pub(crate) fn close(mut self) -> Result<(), Alarmed> {
        self.input.close();
        while self.worker.has_dataflows() {
            self.alarm.look()?;
            self.worker.step_or_park(Some(LOOK_EVERY));
        }
        Ok(())
    }
}
