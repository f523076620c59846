//! Messages by brute force over all their fields.

use crate::form::NOBODYS;
use crate::parts::{Parts, in_every_name, product};
use crate::setting::Setting;
use crate::{C, Msg, Own};
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::{Content, Signed};
use pbft::message::{
    Checkpoint, Commit, Fetch, Message, PrePrepare, Prepare, Reply, Request, Status, ViewChange, Wanted,
};
use pbft::types::{Bytes, ClientId, Principal, ReplicaId, SeqNo, Timestamp, View};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Random VIEW-CHANGEs and STATUS messages of one situation.
const SAMPLES: usize = 400;

/// Where messages go.
pub type Sink<'a> = &'a mut dyn FnMut(Msg);

/// What can be built without looking at certificates: every combination of fields.
pub fn simple(setting: &Setting, parts: &Parts, out: Sink) {
    for own in &setting.keys {
        for (view, n, digest) in product(&parts.views, &parts.numbers, &parts.digests) {
            for batch in &parts.batches {
                let signed = own.sign(PrePrepare { view, n, digest });
                out(Message::PrePrepare(signed, batch.clone()));
            }
        }
    }
    for signed in &parts.proposals {
        parts.batches.iter().for_each(|batch| out(Message::PrePrepare(signed.clone(), batch.clone())));
    }
    for (own, replica) in in_every_name(setting) {
        for (view, n, digest) in product(&parts.views, &parts.numbers, &parts.digests) {
            let prepare = own.sign(Prepare { view, n, digest, replica });
            out(Message::Prepare(as_if(&prepare, replica)));
            out(Message::Prepare(prepare));
            let commit = own.sign(Commit { view, n, digest, replica });
            out(Message::Commit(as_if(&commit, replica)));
            out(Message::Commit(commit));
        }
        for (_, n, digest) in product(&[View(0)], &parts.numbers, &parts.states) {
            let checkpoint = own.sign(Checkpoint { n, digest, replica });
            out(Message::Checkpoint(as_if(&checkpoint, replica)));
            out(Message::Checkpoint(checkpoint));
        }
        let wanted = parts.digests.iter().map(|&digest| Wanted::Batch(digest));
        for what in wanted.chain(parts.states.iter().map(|&digest| Wanted::Block(digest))) {
            out(Message::Fetch(own.sign(Fetch { what, replica })));
        }
        for view in &parts.views {
            let (view, timestamp, client) = (*view, Timestamp(1), ClientId(0));
            let result = Bytes::from(&b"1"[..]);
            out(Message::Reply(own.sign(Reply { view, timestamp, client, replica, result })));
        }
    }
    parts.batches.iter().for_each(|batch| out(Message::Batch(batch.clone())));
    parts.stable.iter().for_each(|stable| out(Message::Stable(stable.clone())));
    out(Message::Block(Bytes::from(&b"block"[..])));
    requests(setting, out);
}

/// Messages of every kind in anybody's name, at random; batches with requests that are made up.
pub fn strange(setting: &Setting, parts: &Parts, rng: &mut ChaCha8Rng, out: Sink) {
    parts.refused_batches.iter().for_each(|batch| out(Message::Batch(batch.clone())));
    for _ in 0..SAMPLES {
        let some = (parts.views.choose(rng), parts.numbers.choose(rng), parts.digests.choose(rng));
        let (Some(&view), Some(&n), Some(&digest)) = some else { continue };
        let (good, bad) = (parts.batches.choose(rng), parts.refused_batches.choose(rng));
        let name = |signer: &Principal| match signer {
            Principal::Replica(replica) => Some(*replica),
            Principal::Client(_) => None,
        };
        let Some(replica) = setting.signers.choose(rng).and_then(name) else { continue };
        out(match rng.random_range(0..7) {
            0 => Message::Prepare(setting.by_anybody(Prepare { view, n, digest, replica }, rng)),
            1 => Message::Commit(setting.by_anybody(Commit { view, n, digest, replica }, rng)),
            2 => {
                let Some(&digest) = parts.states.choose(rng) else { continue };
                Message::Checkpoint(setting.by_anybody(Checkpoint { n, digest, replica }, rng))
            }
            3 => {
                let (timestamp, client, result) = (Timestamp(1), ClientId(0), Bytes::from(&b"1"[..]));
                Message::Reply(setting.by_anybody(Reply { view, timestamp, client, replica, result }, rng))
            }
            kind => {
                let Some(batch) = (if kind == 4 { bad } else { good }) else { continue };
                let digest = if kind == 6 { digest } else { batch.digest() };
                Message::PrePrepare(setting.by_anybody(PrePrepare { view, n, digest }, rng), batch.clone())
            }
        });
    }
    // A bad batch under the digest that names it, from whoever may propose.
    for own in &setting.keys {
        for _ in 0..SAMPLES / 10 {
            let some =
                (parts.views.choose(rng), parts.numbers.choose(rng), parts.refused_batches.choose(rng));
            let (Some(&view), Some(&n), Some(batch)) = some else { continue };
            let signed = own.sign(PrePrepare { view, n, digest: batch.digest() });
            out(Message::PrePrepare(signed, batch.clone()));
        }
    }
}

/// `signed`, with the signer that the name inside asks for, and a signature that is not that signer's.
fn as_if<T: Content + Clone>(signed: &Signed<T, C>, replica: ReplicaId) -> Signed<T, C> {
    Signed { signer: Principal::Replica(replica), ..signed.clone() }
}

/// The clients' requests changed, and signed with keys that are not the clients'.
fn requests(setting: &Setting, out: Sink) {
    for message in setting.requests.iter().chain(&setting.made_up) {
        let Message::Request(request) = message else { continue };
        out(message.clone());
        for own in &setting.keys {
            for (timestamp, read_only) in [(1, false), (1, true), (2, false), (u64::MAX, false)] {
                let content =
                    Request { timestamp: Timestamp(timestamp), read_only, ..request.content.clone() };
                let signed = own.sign(content);
                out(Message::Request(Signed { signer: request.signer, ..signed.clone() }));
                out(Message::Request(signed));
            }
        }
    }
}

/// STATUS messages, at random.
pub fn statuses(setting: &Setting, parts: &Parts, rng: &mut ChaCha8Rng, out: Sink) {
    for _ in 0..SAMPLES / 8 {
        let Some((own, replica)) = setting.voices.choose(rng) else { continue };
        let view = |rng: &mut ChaCha8Rng| parts.views.choose(rng).copied().unwrap_or_default();
        let n = |rng: &mut ChaCha8Rng| parts.numbers.choose(rng).copied().unwrap_or_default();
        let some = |rng: &mut ChaCha8Rng| -> Vec<SeqNo> {
            parts.numbers.iter().copied().filter(|_| rng.random_range(0..2) == 0).collect()
        };
        let status = Status {
            leaving: if rng.random_range(0..2) == 0 { Some(view(rng)) } else { None },
            view: view(rng),
            stable: n(rng),
            executed: n(rng),
            pre_prepared: some(rng),
            prepared: some(rng),
            replica: *replica,
        };
        out(Message::Status(own.sign(status)));
    }
}

/// VIEW-CHANGEs: from what proves something exhaustively, from everything at random.
pub fn view_changes(setting: &Setting, parts: &Parts, rng: &mut ChaCha8Rng, out: Sink) {
    let lists = lists_up_to_2(&parts.proved);
    let stables: Vec<_> = parts.proved_stable.iter().map(Some).chain([None]).collect();
    let whole = lists.len() * stables.len() * parts.views.len() * setting.keys.len() <= 4 * SAMPLES;
    for own in &setting.keys {
        for &view in &parts.views {
            for stable in &stables {
                let share = if whole { lists.len() } else { SAMPLES / 10 };
                for place in 0..share {
                    let list = if whole { lists.get(place) } else { lists.choose(rng) };
                    let list = list.cloned().unwrap_or_default();
                    out(view_change(own, view, own.id, stable.cloned(), None, list));
                }
            }
        }
    }
    let names = in_every_name(setting);
    for _ in 0..SAMPLES {
        let (Some((own, replica)), Some(&view)) = (names.choose(rng), parts.views.choose(rng)) else {
            continue;
        };
        let mut list = Vec::new();
        for _ in 0..rng.random_range(0..4) {
            let from = if rng.random_range(0..2) == 0 { &parts.proved } else { &parts.prepared };
            list.extend(from.choose(rng).cloned());
        }
        if rng.random_range(0..2) == 0 {
            list.sort_by_key(|certificate| certificate.n);
        }
        let from = if rng.random_range(0..2) == 0 { &parts.proved_stable } else { &parts.stable };
        let stable = if rng.random_range(0..2) == 0 { from.choose(rng).cloned() } else { None };
        let n = if rng.random_range(0..4) == 0 { parts.numbers.choose(rng).copied() } else { None };
        let replica = if rng.random_range(0..2) == 0 { own.id } else { *replica };
        let message = view_change(own, view, replica, stable, n, list);
        match (&message, rng.random_range(0..3)) {
            (Message::ViewChange(m), 0) => {
                out(Message::ViewChange(Arc::new(setting.by_anybody(m.content.clone(), rng))));
            }
            (Message::ViewChange(m), 1) => out(Message::ViewChange(Arc::new(as_if(m, replica)))),
            _ => out(message),
        }
    }
}

fn lists_up_to_2(all: &[PreparedCertificate<C>]) -> Vec<Vec<PreparedCertificate<C>>> {
    let pairs = all.iter().flat_map(|one| all.iter().map(move |other| vec![one.clone(), other.clone()]));
    let short = [Vec::new()].into_iter().chain(all.iter().map(|one| vec![one.clone()]));
    short.chain(pairs).collect()
}

fn view_change(
    own: &Own,
    view: View,
    replica: ReplicaId,
    stable: Option<StableCertificate<C>>,
    n: Option<SeqNo>,
    prepared: Vec<PreparedCertificate<C>>,
) -> Msg {
    let n = n.unwrap_or(stable.as_ref().map_or(SeqNo(0), |stable| stable.n));
    Message::ViewChange(Arc::new(own.sign(ViewChange { view, n, stable, prepared, replica })))
}

/// A PRE-PREPARE for O at random: of this view or another, its own, one seen or in anybody's name.
pub fn entry(
    setting: &Setting,
    parts: &Parts,
    view: View,
    rng: &mut ChaCha8Rng,
) -> Option<Signed<PrePrepare, C>> {
    let of_view: Vec<_> = parts.proposals.iter().filter(|m| m.content.view == view).collect();
    if rng.random_range(0..4) == 0 && !of_view.is_empty() {
        return of_view.choose(rng).map(|&m| m.clone());
    }
    let own = setting.keys.choose(rng)?;
    let view = if rng.random_range(0..8) == 0 { *parts.views.choose(rng)? } else { view };
    let digest = *parts.digests.choose(rng).unwrap_or(&NOBODYS);
    let content = PrePrepare { view, n: *parts.numbers.choose(rng)?, digest };
    Some(if rng.random_range(0..3) == 0 { setting.by_anybody(content, rng) } else { own.sign(content) })
}
