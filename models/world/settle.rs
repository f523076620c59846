//! What comes of a step in the tables: facts in the history, messages with names.

use super::tables::{Local, MessageId, Tables};
use super::views::Views;
use crate::crypto::Symbolic;
use pbft::message::Message;
use pbft::replica::{Destination, Durable, Effect, Fact, compute_o};
use std::sync::Arc;

/// A message that is part of the world, on its way.
enum Sending {
    Sent(Message<Symbolic>),
    /// A request that a replica relays.
    Relayed(Destination, Message<Symbolic>),
    /// Part of a state that can be fetched.
    Block(Message<Symbolic>),
}

/// What comes of a step, without names.
pub(super) struct Settled {
    sends: Vec<Sending>,
    /// Records and facts among the effects.
    recorded: u64,
    /// Whether something was about a sequence number beyond the highest.
    cut: bool,
}

impl Settled {
    /// Whether something is sent.
    pub(super) fn sends(&self) -> bool {
        !self.sends.is_empty()
    }
}

impl Tables {
    /// Records the facts, and names the messages that are part of the world. `views` are those of before the
    /// step, and `stored` is what was durable then, records apart that are among the effects.
    pub(super) fn settle(
        &mut self,
        local: &mut Local,
        stored: Durable<Symbolic>,
        views: Views,
        effects: impl IntoIterator<Item = Effect<Symbolic>>,
        restarted: bool,
    ) -> Arc<[MessageId]> {
        let settled = self.settled(local, stored, views, effects, restarted);
        self.name(settled)
    }

    /// Records the facts; what the messages are that are to be named.
    pub(super) fn settled(
        &self,
        local: &mut Local,
        mut stored: Durable<Symbolic>,
        mut views: Views,
        effects: impl IntoIterator<Item = Effect<Symbolic>>,
        restarted: bool,
    ) -> Settled {
        let mut settled = Settled { sends: Vec::new(), recorded: 0, cut: false };
        // From then on the blocks of a state can be fetched.
        let mut checkpoint = restarted && self.with_checkpoints;
        let window = self.setups[0].parameters.window;
        for effect in effects {
            settled.recorded += u64::from(matches!(effect, Effect::Persist(_) | Effect::Fact(_)));
            match effect {
                Effect::Persist(record) if self.keeps_disks => {
                    stored.apply(&record, &self.setups[0].rules);
                }
                Effect::Fact(fact) => {
                    checkpoint |= matches!(fact, Fact::CheckpointTaken { .. });
                    match fact {
                        Fact::ViewLeft { view, to } => views.left(&mut local.history, view, to),
                        Fact::ViewEntered { view, .. } => {
                            views.entered(&mut local.history, view, &fact);
                        }
                        _ if is_unobserved(local, &fact, window) => {}
                        _ => local.history.record(&fact),
                    }
                }
                Effect::Send(to, m @ Message::Request(_)) if self.with_clients => {
                    settled.sends.push(Sending::Relayed(to, m));
                }
                Effect::Send(_, m) if is_left_out(&m, self.with_clients) => {}
                Effect::Send(_, message) if self.is_beyond(&message) => settled.cut = true,
                Effect::Send(_, message) => settled.sends.push(Sending::Sent(message)),
                _ => {}
            }
        }
        views.after(&mut local.history, &local.replica);
        if self.keeps_disks {
            let same = local.replica.durable().is_but_for_new_view(&stored);
            local.stored = (!same).then(|| Arc::new(stored));
        }
        if checkpoint {
            let blocks = local.replica.blocks();
            settled.sends.extend(blocks.into_iter().map(|block| Sending::Block(Message::Block(block))));
        }
        settled
    }

    /// Names what is sent, and counts the step.
    pub(super) fn name(&mut self, settled: Settled) -> Arc<[MessageId]> {
        self.recorded += settled.recorded;
        self.cut_sends += u64::from(settled.cut);
        let mut sends = Vec::new();
        for sending in settled.sends {
            match sending {
                Sending::Sent(message) => sends.push(self.add_sent(message)),
                Sending::Relayed(to, message) => sends.extend(self.add_relayed(to, message)),
                Sending::Block(message) => sends.push(self.add_message(message)),
            }
        }
        sends.sort_unstable();
        sends.dedup();
        sends.into()
    }

    /// Names a message that a correct replica sends: the same name for NEW-VIEWs that say the same.
    fn add_sent(&mut self, message: Message<Symbolic>) -> MessageId {
        let content = match &message {
            Message::NewView(m) if self.merge_new_views => {
                let stable = compute_o(&m.content.view_changes, &self.setups[0].rules).stable;
                let o = m.content.pre_prepares.iter().map(|entry| (entry.content.n, entry.content.digest));
                Some((m.content.view, m.signer, stable.map(|s| (s.n, s.digest)), o.collect()))
            }
            _ => None,
        };
        let id = self.add_message(message);
        let Some(content) = content else { return id };
        let same = self.new_views.entry(content).or_default();
        if !same.contains(&id) {
            same.push(id);
        }
        same[0]
    }
}

/// A vote inside of the window: it only tells how a state was reached, and no property needs it once it is
/// checked here.
fn is_unobserved(local: &Local, fact: &Fact, window: u64) -> bool {
    let h = local.history.h();
    match fact {
        Fact::PrePrepared { n, .. } => h < *n && n.0 <= h.0 + window,
        _ => false,
    }
}

/// Messages that are not part of a world: see the module above. Without client actors requests are on the
/// network from the start.
pub(super) fn is_left_out(message: &Message<Symbolic>, with_clients: bool) -> bool {
    match message {
        Message::Status(_) | Message::Fetch(_) => true,
        Message::Reply(_) | Message::Request(_) => !with_clients,
        _ => false,
    }
}
