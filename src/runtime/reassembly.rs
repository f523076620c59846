//! Putting messages together from fragments, within bounds.
//!
//! Each sender has room of its own, so nobody can crowd out another; hosts of clients share the room of a few.
//! Who sent a fragment is certain, as it came in a session; what is put together is believed only if its
//! signatures are valid.

use super::frame::{Fragment, MAX_MISSING};
use super::sessions::Peer;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The bytes of incomplete messages kept for a configured replica.
const REPLICA_BYTES: usize = 4 * crate::parameters::MAX_MESSAGE_BYTES;
/// The same for anybody else: enough for the longest request, twice.
const STRANGER_BYTES: usize = 4 * crate::parameters::MAX_BATCH_BYTES;
/// The most incomplete messages of one sender.
const MAX_PARTIAL: usize = 512;
/// The most messages of one sender for whose pieces is asked at a time.
const MAX_ASKED: usize = 32;
/// How many strangers have room at a time.
const MAX_STRANGERS: usize = 64;
/// How many complete messages are remembered for each sender, so that late duplicates of their pieces are
/// dropped.
const REMEMBERED: usize = 256;
/// A piece is asked for again when none has come for so long.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// Requests per message, with doubling delays. After that the message is dropped; the protocol sends it
/// again.
const MAX_TRIES: u32 = 8;

struct Partial {
    pieces: Vec<Option<Box<[u8]>>>,
    total: usize,
    held: usize,
    missing: usize,
    tries: u32,
    ask_at: Instant,
}

#[derive(Default)]
struct Sender {
    partial: BTreeMap<u64, Partial>,
    /// Incomplete messages, the oldest first.
    order: VecDeque<u64>,
    complete: VecDeque<u64>,
    reserved: usize,
}

/// Incomplete messages by sender.
pub struct Reassembly {
    replicas: Vec<Peer>,
    senders: BTreeMap<Peer, Sender>,
    /// Senders that are not replicas, the one that came first first.
    strangers: VecDeque<Peer>,
}

impl Reassembly {
    /// Room for these replicas and a few others.
    pub fn new(replicas: Vec<Peer>) -> Self {
        Reassembly { replicas, senders: BTreeMap::new(), strangers: VecDeque::new() }
    }

    /// Takes a piece in; the message, if it was the last one missing.
    pub fn take(&mut self, from: Peer, fragment: &Fragment<'_>, now: Instant) -> Option<Vec<u8>> {
        let bound = self.admit(from);
        let sender = self.senders.entry(from).or_default();
        if sender.complete.contains(&fragment.id) {
            return None;
        }
        let (total, count) = (fragment.total as usize, usize::from(fragment.count));
        if !sender.partial.contains_key(&fragment.id) {
            if total > bound {
                return None;
            }
            while (sender.reserved + total > bound || sender.partial.len() >= MAX_PARTIAL)
                && let Some(oldest) = sender.order.front().copied()
            {
                sender.forget(oldest);
            }
            let pieces = vec![None; count];
            let partial =
                Partial { pieces, total, held: 0, missing: count, tries: 0, ask_at: now + ASK_AGAIN };
            sender.partial.insert(fragment.id, partial);
            sender.order.push_back(fragment.id);
            sender.reserved += total;
        }
        let partial = sender.partial.get_mut(&fragment.id)?;
        if partial.total != total || partial.pieces.len() != count {
            return None;
        }
        let piece = partial.pieces.get_mut(usize::from(fragment.index))?;
        if piece.is_some() || partial.held + fragment.bytes.len() > total {
            return None;
        }
        *piece = Some(Box::from(fragment.bytes));
        partial.held += fragment.bytes.len();
        partial.missing -= 1;
        partial.ask_at = partial.ask_at.max(now + ASK_AGAIN);
        if partial.missing > 0 {
            return None;
        }
        let mut whole = Vec::with_capacity(total);
        partial.pieces.iter().flatten().for_each(|piece| whole.extend_from_slice(piece));
        sender.forget(fragment.id);
        sender.complete.push_back(fragment.id);
        if sender.complete.len() > REMEMBERED {
            sender.complete.pop_front();
        }
        (whole.len() == total).then_some(whole)
    }

    /// The room of a sender in bytes; a new stranger may take the place of the oldest.
    fn admit(&mut self, from: Peer) -> usize {
        if self.replicas.contains(&from) {
            return REPLICA_BYTES;
        }
        if !self.senders.contains_key(&from) {
            self.strangers.push_back(from);
            if self.strangers.len() > MAX_STRANGERS
                && let Some(oldest) = self.strangers.pop_front()
            {
                self.senders.remove(&oldest);
            }
        }
        STRANGER_BYTES
    }

    /// Which pieces to ask for now, of which messages of whom.
    pub fn lost(&mut self, now: Instant) -> Vec<(Peer, u64, Vec<u16>)> {
        let mut lost = Vec::new();
        for (&from, sender) in &mut self.senders {
            let due: Vec<u64> = sender
                .partial
                .iter()
                .filter(|(_, partial)| partial.ask_at <= now)
                .map(|(&id, _)| id)
                .take(MAX_ASKED)
                .collect();
            for id in due {
                let Some(partial) = sender.partial.get_mut(&id) else { continue };
                if partial.tries >= MAX_TRIES {
                    sender.forget(id);
                    continue;
                }
                partial.tries += 1;
                partial.ask_at = now + ASK_AGAIN * 2u32.pow(partial.tries);
                let missing = partial.pieces.iter().zip(0u16..).filter(|(piece, _)| piece.is_none());
                lost.push((from, id, missing.map(|(_, index)| index).take(MAX_MISSING).collect()));
            }
        }
        lost
    }

    /// The bytes reserved for incomplete messages.
    pub fn reserved(&self) -> usize {
        self.senders.values().map(|sender| sender.reserved).sum()
    }
}

impl Sender {
    fn forget(&mut self, id: u64) {
        if let Some(partial) = self.partial.remove(&id) {
            self.reserved -= partial.total;
        }
        if let Some(place) = self.order.iter().position(|&other| other == id) {
            self.order.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u32) -> Peer {
        Peer(number)
    }

    fn pieces(id: u64, message: &[u8]) -> Vec<Fragment<'_>> {
        let chunks: Vec<&[u8]> = message.chunks(300).collect();
        let count = u16::try_from(chunks.len()).unwrap();
        let total = u32::try_from(message.len()).unwrap();
        chunks.iter().zip(0..).map(|(bytes, index)| Fragment { id, index, count, total, bytes }).collect()
    }

    #[test]
    fn pieces_in_any_order_and_twice_make_the_message_once() {
        let message: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        let mut reassembly = Reassembly::new(vec![host(1)]);
        let now = Instant::now();
        let pieces = pieces(5, &message);
        let order = [3, 1, 1, 0, 2, 2, 3];
        let got: Vec<_> = order.iter().filter_map(|&i| reassembly.take(host(1), &pieces[i], now)).collect();
        assert_eq!(got, [message]);
        assert_eq!(reassembly.reserved(), 0);
    }

    #[test]
    fn lost_pieces_are_asked_for_one_by_one_and_given_up_in_the_end() {
        let message = vec![1; 1000];
        let mut reassembly = Reassembly::new(vec![host(1)]);
        let mut now = Instant::now();
        for index in [0, 2] {
            reassembly.take(host(1), &pieces(5, &message)[index], now);
        }
        assert_eq!(reassembly.lost(now), []);
        for _ in 0..MAX_TRIES {
            now += ASK_AGAIN * 2u32.pow(MAX_TRIES);
            assert_eq!(reassembly.lost(now), [(host(1), 5, vec![1, 3])]);
        }
        now += ASK_AGAIN * 2u32.pow(MAX_TRIES);
        assert_eq!(reassembly.lost(now), []);
        assert_eq!(reassembly.reserved(), 0);
    }

    #[test]
    fn one_sender_takes_room_from_itself_alone_and_all_together_have_a_bound() {
        let message = vec![1; 200_000];
        let mut reassembly = Reassembly::new(vec![host(1)]);
        let now = Instant::now();
        let first = pieces(1, &message)[0];
        reassembly.take(host(1), &first, now);
        for number in 2..500 {
            for id in 0..20 {
                reassembly.take(host(number), &Fragment { id, ..first }, now);
            }
        }
        assert!(reassembly.reserved() <= MAX_STRANGERS * STRANGER_BYTES + 200_000);
        let rest: Vec<_> =
            pieces(1, &message)[1..].iter().filter_map(|p| reassembly.take(host(1), p, now)).collect();
        assert_eq!(rest, [message], "the replica's message was not crowded out");
    }

    #[test]
    fn pieces_that_contradict_each_other_make_nothing() {
        let message = vec![1; 1000];
        let mut reassembly = Reassembly::new(vec![host(1)]);
        let now = Instant::now();
        let sound = pieces(1, &message);
        reassembly.take(host(1), &sound[0], now);
        assert_eq!(reassembly.take(host(1), &Fragment { total: 999, ..sound[1] }, now), None);
        assert_eq!(reassembly.take(host(1), &Fragment { count: 3, ..sound[1] }, now), None);
        assert_eq!(reassembly.reserved(), 1000);
    }
}
