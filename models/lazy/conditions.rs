//! What lazy delivery relies on, checked on the real code in every local state that the exploration reaches.
//!
//! Let `alive(x)` be a state without its dead parts. For every state `x` inside a closure, every message `m` whose
//! delivery in `x` is silent, and every event `e` (a delivery or a time-out):
//!
//! 1. *Postponing.* `m;e` and `e;m` end in the same `alive` state, with the same union of messages and facts; or
//!    `e` does nothing after `m`, and so can be left out.
//! 2. *Redelivery.* After a macro step, delivering once more what led to it to the normal form is silent and leads
//!    back to the state itself.
//! 3. *Deadness.* From a state and from the same state without its dead parts every event leads to the same `alive`
//!    state, with the same messages and facts.
//!
//! A fact shows in the history, which is part of the local states compared. Condition 1 tries the messages that
//! change something in the normal form, one silent message of another group at a time; conditions 2 and 3 try
//! everything on the network when the macro step is first computed. Not checked, but argued: that a message without
//! effect in the normal form has none inside of a closure (receipts only make messages redundant), and that what is
//! sent later finds no difference that what was on the network did not.

use crate::world::{LocalId, MessageId, Tables};
use foldhash::fast::FixedState;
use indexmap::IndexSet;
use pbft::types::ReplicaId;
use std::collections::BTreeSet;

/// A condition that does not hold: the exploration then claims nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broken {
    /// Which condition, at which replica, in which local state, for which events.
    pub what: String,
}

/// Counts what has been checked.
#[derive(Debug, Default)]
pub struct Conditions {
    enabled: bool,
    /// Pairs of events, and single events, that were tried.
    pub checked: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The first failure.
    pub first: Option<Broken>,
    inside: IndexSet<(ReplicaId, LocalId, Option<MessageId>, Option<MessageId>), FixedState>,
}

type Outcome = (LocalId, BTreeSet<MessageId>);

fn run(tables: &mut Tables, replica: ReplicaId, from: LocalId, events: &[Option<MessageId>]) -> Outcome {
    let (mut at, mut sent) = (from, BTreeSet::new());
    for &event in events {
        let (to, sends) = match event {
            Some(message) => tables.deliver(replica, at, message),
            None => tables.time_out(replica, at),
        };
        sent.extend(sends);
        at = to;
    }
    (tables.bare(replica, at).alive, sent)
}

impl Conditions {
    pub(super) fn new(enabled: bool) -> Self {
        Conditions { enabled, ..Conditions::default() }
    }

    fn verdict(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.failed += 1;
            if self.first.is_none() {
                self.first = Some(Broken { what: what() });
            }
        }
    }

    /// A normal form is a fixed point: it has neither receipts nor dead parts.
    pub(super) fn normal_form(&mut self, tables: &mut Tables, replica: ReplicaId, local: LocalId) {
        if self.enabled {
            let bare = tables.bare(replica, local);
            self.verdict(bare.normal == local && bare.alive == local, || {
                format!("r{}: a normal form has a normal form of its own", replica.0)
            });
        }
    }

    /// Condition 1, for every silent delivery and every event in the state `at`.
    pub(super) fn inside(
        &mut self,
        tables: &mut Tables,
        replica: ReplicaId,
        at: LocalId,
        relevant: &[MessageId],
    ) {
        if !self.enabled {
            return;
        }
        let normal = tables.bare(replica, at).normal;
        for &silent in relevant {
            let (to, sends) = tables.deliver(replica, at, silent);
            let bare = tables.bare(replica, to);
            if to == at || !sends.is_empty() || bare.normal != normal {
                continue;
            }
            for event in relevant.iter().map(|&message| Some(message)).chain([None]) {
                if event == Some(silent) || !self.inside.insert((replica, at, Some(silent), event)) {
                    continue;
                }
                let put_off = run(tables, replica, at, &[event, Some(silent)]);
                let as_it_was = run(tables, replica, at, &[Some(silent), event]);
                let does_nothing = as_it_was == (bare.alive, BTreeSet::new());
                self.verdict(put_off == as_it_was || does_nothing, || {
                    let name = |event: Option<MessageId>| match event {
                        Some(message) => format!("{:?}", tables.message(message)),
                        None => "a time-out".to_string(),
                    };
                    format!(
                        "r{}: a silent delivery does not commute\n  state: {:?}\n  silent: {}\n  event: {}",
                        replica.0,
                        tables.local(at).replica,
                        name(Some(silent)),
                        name(event)
                    )
                });
            }
        }
    }

    /// Conditions 2 and 3, for the state that a macro step ends in.
    pub(super) fn fired(
        &mut self,
        tables: &mut Tables,
        replica: ReplicaId,
        at: LocalId,
        path: &[MessageId],
        available: &[MessageId],
    ) {
        if !self.enabled {
            return;
        }
        let bare = tables.bare(replica, at);
        let again: Vec<Option<MessageId>> = path.iter().map(|&message| Some(message)).collect();
        let (back, sent) = run(tables, replica, bare.normal, &again);
        // What is sent again was sent before, when the very same messages were answered.
        let silent = sent.is_empty();
        self.verdict(back == bare.alive && silent, || {
            format!("r{}: redelivery does not lead back: {:?}", replica.0, tables.local(at).replica)
        });
        for event in available.iter().map(|&message| Some(message)).chain([None]) {
            if !self.inside.insert((replica, at, None, event)) {
                continue;
            }
            let (with, without) =
                (run(tables, replica, at, &[event]), run(tables, replica, bare.alive, &[event]));
            self.verdict(with == without, || {
                format!("r{}: what is taken for dead matters: {:?}", replica.0, tables.local(at).replica)
            });
        }
    }
}
