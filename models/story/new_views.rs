//! What is false in a NEW-VIEW, and what decides each number of its O.

use super::Names;
use super::lies::{Truth, listed, plural};
use crate::crypto::Symbolic;
use crate::mutants::Rulebook;
use crate::words::name;
use pbft::crypto::Signed;
use pbft::message::{Message, NewView, PrePrepare, ViewChange};
use pbft::replica::compute_o;
use pbft::rules::Rules;
use pbft::types::{Digest, Principal, ReplicaId, SeqNo, View};
use std::collections::BTreeSet;
use std::sync::Arc;

type ViewChanges = [Arc<Signed<ViewChange<Symbolic>, Symbolic>>];

impl Truth<'_> {
    pub(super) fn of_new_view(&self, m: &Signed<NewView<Symbolic>, Symbolic>, lies: &mut Vec<String>) {
        lies.extend(self.signature(m));
        let NewView { view, view_changes, pre_prepares } = &m.content;
        let primary = self.config.cluster.primary(*view);
        if m.signer != Principal::Replica(primary) {
            lies.push(format!("{} is not the primary of v{}: r{} is", name(m.signer), view.0, primary.0));
        }
        lies.extend(self.set_fault(*view, view_changes));
        for inner in view_changes.iter() {
            if self.was_sent(&Message::ViewChange(inner.clone())) {
                continue;
            }
            let inside = self.of_view_change(inner);
            lies.extend(
                inside.into_iter().map(|lie| format!("in V, {}'s VIEW-CHANGE: {lie}", name(inner.signer))),
            );
        }
        lies.extend(self.o_fault(view_changes, pre_prepares));
        for entry in pre_prepares.iter().filter(|entry| entry.content.view != *view) {
            lies.push(format!("an entry of O is of v{}", entry.content.view.0));
        }
        let other = self.delivered.iter().find_map(|(step, to, message)| match message {
            Message::NewView(o) if o.signer == m.signer && o.content.view == *view => {
                let o: Vec<_> = o.content.pre_prepares.iter().map(|e| &e.content).collect();
                let mine: Vec<_> = pre_prepares.iter().map(|e| &e.content).collect();
                (o != mine).then_some((step, to))
            }
            _ => None,
        });
        lies.extend(other.map(|(step, to)| {
            format!(
                "{} sends {} a NEW-VIEW for v{} with another O (step {step})",
                name(m.signer),
                name(*to),
                view.0
            )
        }));
    }

    /// What is wrong with V as a set.
    pub fn set_fault(&self, view: View, view_changes: &ViewChanges) -> Option<String> {
        let senders: BTreeSet<ReplicaId> = view_changes.iter().map(|m| m.content.replica).collect();
        let needed = self.setup.rules.view_change_quorum(&self.config.cluster);
        let have = senders.len();
        let other = view_changes.iter().find(|m| m.content.view != view);
        if let Some(other) = other {
            return Some(format!(
                "{}'s VIEW-CHANGE in V is for v{}",
                name(other.signer),
                other.content.view.0
            ));
        }
        let of = match have == view_changes.len() {
            true => String::new(),
            false => {
                format!(" of different replicas: {}", listed(view_changes.iter().map(|m| name(m.signer))))
            }
        };
        (have < needed).then(|| format!("V has {have} VIEW-CHANGE{}{of}; {needed} are needed", plural(have)))
    }

    /// Where O is not what V determines.
    pub fn o_fault(
        &self,
        view_changes: &ViewChanges,
        pre_prepares: &[Signed<PrePrepare, Symbolic>],
    ) -> Option<String> {
        let plan = compute_o(view_changes, &self.setup.rules).entries;
        let said: Vec<_> = pre_prepares.iter().map(|m| (m.content.n, m.content.digest)).collect();
        let told = |entries: &[(SeqNo, Digest)]| match entries {
            [] => "nothing".to_string(),
            _ => listed(entries.iter().map(|(n, digest)| format!("n{} {}", n.0, self.names.of(*digest)))),
        };
        (plan != said).then(|| format!("O says {}, and V determines {}", told(&said), told(&plan)))
    }

    /// Why V is refused as a set: its fault, or that of a VIEW-CHANGE in it.
    pub fn why_bad_set(&self, content: &NewView<Symbolic>) -> String {
        let inside = || {
            content.view_changes.iter().find_map(|m| {
                let why = self.of_view_change(m).into_iter().next()?;
                Some(format!("in V, {}'s VIEW-CHANGE: {why}", name(m.signer)))
            })
        };
        let why = self.set_fault(content.view, &content.view_changes).or_else(inside);
        why.unwrap_or_else(|| "V does not prove the new view".into())
    }
}

/// A certificate in V for one number.
struct Claim {
    by: Principal,
    view: View,
    digest: Digest,
}

/// Which VIEW-CHANGE of V decides what stands in O at each number, and why: a sentence for each number, and
/// one for where O begins. The rules are those by which min-s was chosen.
pub(super) fn decided(m: &NewView<Symbolic>, rules: &Rulebook, names: &Names) -> Vec<String> {
    let (min_s, start) = start(&m.view_changes, rules);
    let certificates =
        || m.view_changes.iter().flat_map(|v| v.content.prepared.iter().map(move |c| (v.signer, c)));
    let entry = |n: SeqNo| m.pre_prepares.iter().find(|e| e.content.n == n).map(|e| e.content.digest);
    let numbers: BTreeSet<SeqNo> = (m.pre_prepares.iter().map(|entry| entry.content.n))
        .chain(certificates().map(|(_, c)| c.n))
        .collect();
    let told = numbers.iter().map(|&n| {
        let claims: Vec<Claim> = certificates()
            .filter(|(_, c)| c.n == n)
            .map(|(by, c)| Claim { by, view: c.view, digest: c.digest })
            .collect();
        match entry(n) {
            Some(digest) => format!("n{} is {} {}", n.0, names.of(digest), why(digest, &claims, names)),
            None if n <= min_s => format!("n{} is not in O, since min-s = {} covers it", n.0, min_s.0),
            None => format!("n{} is not in O, though {}", n.0, rivals(&claims, names)),
        }
    });
    let told: Vec<String> = told.collect();
    let nothing = told.is_empty().then(|| "nothing, since no VIEW-CHANGE in V has a certificate".to_string());
    start.into_iter().chain(told).chain(nothing).collect()
}

/// min-s, and a sentence about it if some VIEW-CHANGE in V has a stable checkpoint.
fn start(view_changes: &ViewChanges, rules: &Rulebook) -> (SeqNo, Option<String>) {
    let min_s = compute_o(view_changes, rules).stable.map_or(SeqNo(0), |stable| stable.n);
    let latest = view_changes.iter().filter(|m| m.content.stable.is_some()).max_by_key(|m| m.content.n);
    let told = latest.map(|latest| {
        let (who, n) = (name(latest.signer), latest.content.n);
        match n == min_s {
            true => format!("min-s = {}: the latest stable checkpoint in V, {who}'s", n.0),
            false => format!("min-s = {}, though {who}'s stable checkpoint in V is at n{}", min_s.0, n.0),
        }
    });
    (min_s, told)
}

/// Why this digest, of those that V has certificates for at one number.
fn why(digest: Digest, claims: &[Claim], names: &Names) -> String {
    let highest = claims.iter().filter(|claim| claim.digest == digest).map(|claim| claim.view).max();
    let others: Vec<&Claim> = claims.iter().filter(|claim| claim.digest != digest).collect();
    let rival = others.iter().map(|claim| claim.view).max();
    let Some(view) = highest else {
        return match claims.is_empty() {
            true => "since no VIEW-CHANGE in V has a certificate for it".into(),
            false => format!("though {}", rivals(claims, names)),
        };
    };
    let winner = claims.iter().find(|claim| claim.digest == digest && claim.view == view);
    let who = winner.map(|claim| name(claim.by)).unwrap_or_default();
    let theirs = format!("{who}'s certificate of v{}", view.0);
    match rival {
        None if claims.len() == 1 => format!("by {theirs}, the only one in V for this number"),
        None => format!("by {theirs}: {}, and V has no other for this number", rivals(claims, names)),
        Some(rival) if view > rival => {
            format!("by {theirs}, the highest view: {}", rivals(others.iter().copied(), names))
        }
        Some(rival) if view == rival => {
            let others = rivals(others.iter().copied(), names);
            format!("by {theirs}, which comes first in V: {others}, and none is of a higher view")
        }
        Some(_) => format!("by {theirs}, though {}, a higher view", rivals(others.iter().copied(), names)),
    }
}

/// `r0's is for B of v0; those of r1, r2 are for A of v1`.
fn rivals<'a>(claims: impl IntoIterator<Item = &'a Claim>, names: &Names) -> String {
    let mut by: Vec<((Digest, View), Vec<String>)> = Vec::new();
    for claim in claims {
        let what = (claim.digest, claim.view);
        match by.iter_mut().find(|(known, _)| *known == what) {
            Some((_, voters)) => voters.push(name(claim.by)),
            None => by.push((what, vec![name(claim.by)])),
        }
    }
    let told = by.into_iter().map(|((digest, view), voters)| {
        let whose = match &voters[..] {
            [one] => format!("{one}'s is"),
            _ => format!("those of {} are", voters.join(", ")),
        };
        format!("{whose} for {} of v{}", names.of(digest), view.0)
    });
    told.collect::<Vec<_>>().join("; ")
}
