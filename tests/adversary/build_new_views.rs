//! NEW-VIEWs by brute force: V any multiset of VIEW-CHANGEs seen or derivable, O any list.

use crate::build::{Sink, entry};
use crate::parts::Parts;
use crate::setting::Setting;
use crate::{C, Own};
use pbft::crypto::Signed;
use pbft::message::{Batch, Message, NewView, PrePrepare, ViewChange};
use pbft::replica::compute_o;
use pbft::rules::Rules;
use pbft::types::{Digest, Principal, SeqNo, View};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Random NEW-VIEWs of one signer and view; up to as many are built one by one if there are no more.
const SAMPLES: usize = 300;

type SignedViewChange = Arc<Signed<ViewChange<C>, C>>;

/// NEW-VIEWs by every key for every view. `own` are the VIEW-CHANGEs built before that were accepted,
/// `refused` some of those that were not.
pub fn new_views(
    setting: &Setting,
    parts: &Parts,
    own: &[SignedViewChange],
    refused: &[SignedViewChange],
    rng: &mut ChaCha8Rng,
    out: Sink,
) {
    let pool: Vec<_> = parts.view_changes.iter().chain(own).cloned().collect();
    let quorum = setting.config.rules.view_change_quorum(&setting.config.cluster);
    for by in &setting.keys {
        for &view in &parts.views {
            let (of_view, others): (Vec<_>, Vec<_>) =
                pool.iter().cloned().partition(|m| m.content.view == view);
            let bad: Vec<_> = refused.iter().filter(|m| m.content.view == view).cloned().collect();
            if of_view.len().pow(u32::try_from(quorum).unwrap_or(9)) <= SAMPLES {
                for v in sequences(&of_view, quorum) {
                    one(setting, parts, by, view, v, rng, out);
                }
            }
            let samples = if may_propose(setting, by, view) { SAMPLES } else { SAMPLES / 10 };
            for place in 0..samples {
                // In every fourth some or all are refused by themselves.
                let bad = if place % 4 == 0 { &bad[..] } else { &[] };
                let v = random_v(setting, [&of_view, &others, bad], quorum, rng);
                one(setting, parts, by, view, v, rng, out);
            }
        }
    }
}

/// Whether receivers believe this key's proposals in this view at all; if not, few tries must do.
fn may_propose(setting: &Setting, by: &Own, view: View) -> bool {
    let null = PrePrepare { view, n: SeqNo(1), digest: Digest::NULL };
    setting.accepts(&Message::PrePrepare(by.sign(null), Arc::new(Batch::default())))
}

/// Every sequence of this length.
fn sequences(all: &[SignedViewChange], length: usize) -> Vec<Vec<SignedViewChange>> {
    (0..length).fold(vec![Vec::new()], |shorter, _| {
        let longer = |list: &Vec<SignedViewChange>| {
            let list = list.clone();
            all.iter().map(move |m| [&list[..], std::slice::from_ref(m)].concat())
        };
        shorter.iter().flat_map(longer).collect()
    })
}

/// Most often one VIEW-CHANGE each of as many senders as are needed, in any order; now and then anything.
fn random_v(
    setting: &Setting,
    [of_view, others, bad]: [&[SignedViewChange]; 3],
    quorum: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<SignedViewChange> {
    let most = setting.config.cluster.n() + 1;
    let length = if rng.random_range(0..4) == 0 { rng.random_range(0..=most) } else { quorum };
    let tidy = rng.random_range(0..4) > 0;
    let mut v: Vec<SignedViewChange> = Vec::new();
    for _ in 0..8 * length {
        let from = match rng.random_range(0..12) {
            0 => others,
            1..6 if !bad.is_empty() => bad,
            _ => of_view,
        };
        let Some(m) = from.choose(rng) else { continue };
        let again = v.iter().any(|other| other.content.replica == m.content.replica);
        if v.len() < length && !(tidy && again) {
            v.push(m.clone());
        }
    }
    v
}

/// With the O that V leads to, or with any other.
fn one(
    setting: &Setting,
    parts: &Parts,
    by: &Own,
    view: View,
    view_changes: Vec<SignedViewChange>,
    rng: &mut ChaCha8Rng,
    out: Sink,
) {
    let plan = compute_o(&view_changes, &setting.config.rules);
    let sign = |&(n, digest): &_| by.sign(PrePrepare { view, n, digest });
    let computed: Vec<_> = plan.entries.iter().map(sign).collect();
    let mut others = computed.clone();
    match rng.random_range(0..6) {
        0 => others.clear(),
        1 => others.reverse(),
        2 => drop(others.pop()),
        // A number twice: with the same digest, or with another one.
        3 => others.extend(others.choose(rng).cloned()),
        4 => {
            let twice = others.choose(rng).map(|entry| entry.content.n);
            let digest = parts.digests.choose(rng).copied().unwrap_or(Digest::NULL);
            others.extend(twice.map(|n| by.sign(PrePrepare { view, n, digest })));
        }
        _ => {}
    }
    for _ in 0..rng.random_range(0..3) {
        let Some(entry) = entry(setting, parts, view, rng) else { continue };
        if rng.random_range(0..2) == 0 {
            others.push(entry);
        } else if let Some(first) = others.first_mut() {
            *first = entry;
        }
    }
    for pre_prepares in [computed.clone(), others] {
        let view_changes = view_changes.clone().into();
        out(Message::NewView(Arc::new(by.sign(NewView { view, view_changes, pre_prepares }))));
    }
    // In the primary's name, and in anybody's.
    let signer = Principal::Replica(setting.config.cluster.primary(view));
    let as_if = |m: &Signed<PrePrepare, C>| Signed { signer, ..m.clone() };
    let pre_prepares = computed.iter().map(as_if).collect();
    let content = NewView { view, view_changes: view_changes.into(), pre_prepares };
    out(Message::NewView(Arc::new(match rng.random_range(0..4) {
        0 => setting.by_anybody(NewView { pre_prepares: computed, ..content }, rng),
        1 => by.sign(content),
        _ => Signed { signer, ..by.sign(content) },
    })));
}
