//! The `V` of NEW-VIEWs, and what each leads to.

use super::views::SignedViewChange;
use super::{Adversary, Known, Msg};
use pbft::message::Message;
use pbft::replica::compute_o;
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use std::collections::{BTreeMap, BTreeSet};

/// min-s with the state there, none if it is the initial one, and O: all that a receiver's step depends on.
pub(super) type Outcome = (Option<(SeqNo, Digest)>, Vec<(SeqNo, Digest)>);

/// VIEW-CHANGEs by their senders.
type Pool = BTreeMap<ReplicaId, Vec<SignedViewChange>>;

/// What is wrong with a `V`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Flaw {
    /// Fewer VIEW-CHANGEs than a quorum: this number.
    Few(usize),
    /// A replica's VIEW-CHANGE is there more than once.
    Repeated,
    /// The same, with another one's in between.
    RepeatedApart,
    /// Some are for another view.
    Foreign,
    /// One is not signed by this replica, in whose name it is.
    Forged(ReplicaId),
    /// All but the adversary's own are not signed by those in whose name they are.
    AllForged,
    /// One carries what nobody has voted for.
    Unproved,
    /// One is an outsider's.
    Outsiders,
    /// One is refused by itself.
    Refused,
}

/// For each outcome, and for each flaw with it and each size, one `V`; the sound ones go by no size.
pub(super) type Quorums = BTreeMap<(Option<Flaw>, usize, Outcome), Vec<SignedViewChange>>;

impl Adversary {
    /// The outcomes that a `V` for `view` can have, of the VIEW-CHANGEs sent and its own.
    pub(super) fn quorums(&self, known: &Known, view: View, sent: &[&Msg]) -> Quorums {
        let (sound, refused) = self.sound(known, view, sent);
        let sent = view_changes(sent);
        let quorum = self.judge.cluster.quorum();
        let mut choice = Choice { adversary: self, quorums: Quorums::new() };
        // One VIEW-CHANGE of V decides each number, or min-s and with it every number up to there. So a V of
        // more than there are numbers can do without the others.
        let decisive = usize::try_from(self.bounds.max_seq.0).unwrap_or(usize::MAX);
        let most = if decisive <= quorum { quorum } else { self.judge.cluster.n() };
        for size in quorum..=most {
            choice.each(None, &sound, &Pool::new(), size);
        }
        for size in 0..quorum {
            choice.each(Some(Flaw::Few(size)), &sound, &Pool::new(), size);
        }
        choice.repeated(&sound, quorum);
        let others = self.judge.cluster.replicas().filter(|&name| self.holds(name).is_none());
        let forged: Pool = others.map(|name| (name, self.forged_in_name(known, view, name))).collect();
        let flawed = [
            (Flaw::Foreign, pool(self.foreign(known, view, &sent))),
            (Flaw::Unproved, pool(self.unproved(view))),
            (Flaw::Outsiders, pool(self.outsiders(known, view))),
            (Flaw::Refused, pool(refused)),
        ];
        // As many as are needed with something unsound among them; and with one more, so many without it.
        for size in quorum..=(quorum + 1).min(self.judge.cluster.n()) {
            for (flaw, unsound) in &flawed {
                choice.each(Some(*flaw), &sound, unsound, size);
            }
            for (&name, list) in &forged {
                let one = Pool::from([(name, list.clone())]);
                choice.each(Some(Flaw::Forged(name)), &sound, &one, size);
            }
        }
        choice.all_forged(&sound, &forged, quorum);
        choice.quorums
    }

    /// The VIEW-CHANGEs for `view` that are accepted by themselves, and those sent that are not.
    fn sound(&self, known: &Known, view: View, sent: &[&Msg]) -> (Pool, Vec<SignedViewChange>) {
        let accepts = |m: &SignedViewChange| self.is_accepted(&Message::ViewChange(m.clone()));
        let sent = view_changes(sent).into_iter().filter(|m| m.content.view == view).cloned();
        let (accepted, refused): (Vec<_>, Vec<_>) = sent.partition(accepts);
        let own = self.view_changes(known, view);
        (pool(accepted.into_iter().chain(own.iter().cloned())), refused)
    }

    /// What more `V` can lead to if receivers do not look at what is inside: everything for which nobody has
    /// voted, with sound VIEW-CHANGEs of others, and with forged ones that carry nothing.
    pub(super) fn unproved_quorums(&self, known: &Known, view: View, sent: &[&Msg]) -> Quorums {
        let (sound, _) = self.sound(known, view, sent);
        let unproved = self.every_unproved(view, sent);
        let quorum = self.judge.cluster.quorum();
        let mut choice = Choice { adversary: self, quorums: Quorums::new() };
        for m in &unproved {
            let others = self.judge.cluster.replicas().filter(|&name| name != m.content.replica);
            let forged = others.filter_map(|name| self.forged_in_name(known, view, name).into_iter().next());
            let mut chosen: Vec<_> = [m.clone()].into_iter().chain(forged).take(quorum).collect();
            chosen.sort_by_key(|m| m.content.replica);
            choice.note(Some(Flaw::AllForged), &chosen);
        }
        choice.each(Some(Flaw::Unproved), &sound, &pool(unproved), quorum);
        choice.quorums
    }

    /// VIEW-CHANGEs for other views than this.
    fn foreign(&self, known: &Known, view: View, sent: &[&SignedViewChange]) -> Vec<SignedViewChange> {
        let sent = sent.iter().map(|&m| m.clone()).filter(|m| m.content.view != view);
        let others = self.views().filter(|&other| other != view);
        sent.chain(others.flat_map(|other| self.view_changes(known, other).to_vec())).collect()
    }
}

fn view_changes<'a>(sent: &[&'a Msg]) -> Vec<&'a SignedViewChange> {
    let view_change = |message: &&'a Msg| match message {
        Message::ViewChange(m) => Some(m),
        _ => None,
    };
    sent.iter().filter_map(view_change).collect()
}

fn pool(all: impl IntoIterator<Item = SignedViewChange>) -> Pool {
    let mut pool = Pool::new();
    for m in all {
        let list = pool.entry(m.content.replica).or_default();
        // What it says decides.
        let says = |known: &SignedViewChange| {
            (known.content.view, &known.content.stable, &known.content.prepared)
                == (m.content.view, &m.content.stable, &m.content.prepared)
        };
        if !list.iter().any(says) {
            list.push(m);
        }
    }
    pool
}

/// Whether two of the VIEW-CHANGEs contradict each other, so that the order in which `V` lists them matters.
fn is_ambiguous(all: &[SignedViewChange]) -> bool {
    let (mut states, mut digests) = (BTreeMap::new(), BTreeMap::new());
    all.iter().any(|m| {
        let stable = m.content.stable.iter();
        let other_state = stable.clone().any(|c| *states.entry(c.n).or_insert(c.digest) != c.digest);
        let mut prepared = m.content.prepared.iter();
        other_state || prepared.any(|c| *digests.entry((c.n, c.view)).or_insert(c.digest) != c.digest)
    })
}

/// Choices of VIEW-CHANGEs, and the outcomes found so far.
struct Choice<'a> {
    adversary: &'a Adversary,
    quorums: Quorums,
}

impl Choice<'_> {
    /// Every choice of one VIEW-CHANGE each of `size` senders; with a flaw, at least one of `unsound` among
    /// them.
    fn each(&mut self, flaw: Option<Flaw>, sound: &Pool, unsound: &Pool, size: usize) {
        let wants_unsound = flaw.is_some() && !matches!(flaw, Some(Flaw::Few(_)));
        if wants_unsound && unsound.values().all(Vec::is_empty) {
            return;
        }
        let senders: BTreeSet<ReplicaId> = sound.keys().chain(unsound.keys()).copied().collect();
        let of = |pool: &Pool, sender: &ReplicaId| pool.get(sender).cloned().unwrap_or_default();
        let lists: Vec<(Vec<SignedViewChange>, Vec<SignedViewChange>)> =
            senders.iter().map(|sender| (of(sound, sender), of(unsound, sender))).collect();
        self.choose(flaw, &lists, size, wants_unsound, &mut Vec::new());
    }

    fn choose(
        &mut self,
        flaw: Option<Flaw>,
        senders: &[(Vec<SignedViewChange>, Vec<SignedViewChange>)],
        more: usize,
        wants_unsound: bool,
        chosen: &mut Vec<SignedViewChange>,
    ) {
        if more == 0 {
            if !wants_unsound {
                self.note(flaw, chosen);
            }
            return;
        }
        let Some(((sound, unsound), rest)) = senders.split_first() else { return };
        if senders.len() > more {
            self.choose(flaw, rest, more, wants_unsound, chosen);
        }
        for m in sound {
            chosen.push(m.clone());
            self.choose(flaw, rest, more - 1, wants_unsound, chosen);
            chosen.pop();
        }
        for m in unsound {
            chosen.push(m.clone());
            self.choose(flaw, rest, more - 1, false, chosen);
            chosen.pop();
        }
    }

    /// Every choice of `size` VIEW-CHANGEs in which one replica has more than one.
    fn repeated(&mut self, sound: &Pool, size: usize) {
        let mut distinct: BTreeMap<_, &SignedViewChange> = BTreeMap::new();
        for m in sound.values().flatten() {
            distinct.entry((&m.content.stable, &m.content.prepared)).or_insert(m);
        }
        let distinct: Vec<SignedViewChange> = distinct.into_values().cloned().collect();
        self.multisets(&distinct, size, &mut Vec::new());
        // Not beside each other either: another one's in between.
        for m in &distinct {
            let others = sound.values().filter_map(|all| all.first());
            let Some(other) = others.into_iter().find(|other| other.content.replica != m.content.replica)
            else {
                continue;
            };
            let chosen: Vec<SignedViewChange> = [m, other].into_iter().cycle().take(size).cloned().collect();
            if size > 2 {
                self.note(Some(Flaw::RepeatedApart), &chosen);
            }
        }
    }

    fn multisets(&mut self, all: &[SignedViewChange], more: usize, chosen: &mut Vec<SignedViewChange>) {
        if more == 0 {
            let senders: BTreeSet<ReplicaId> = chosen.iter().map(|m| m.content.replica).collect();
            if senders.len() < chosen.len() {
                self.note(Some(Flaw::Repeated), chosen);
            }
            return;
        }
        for (position, m) in all.iter().enumerate() {
            chosen.push(m.clone());
            self.multisets(&all[position..], more - 1, chosen);
            chosen.pop();
        }
    }

    /// The adversary's own VIEW-CHANGEs, with forged ones of as many others as a quorum needs, all of which
    /// say the same.
    fn all_forged(&mut self, sound: &Pool, forged: &Pool, size: usize) {
        let members: Vec<_> = self.adversary.members().map(|setup| setup.id).collect();
        let own = members.iter().filter_map(|name| sound.get(name)?.first()).take(size);
        let own: Vec<SignedViewChange> = own.cloned().collect();
        let contents = forged.values().map(Vec::len).min().unwrap_or(0);
        for content in 0..contents {
            let others = forged.values().map(|list| list[content].clone());
            let mut chosen: Vec<_> = own.iter().cloned().chain(others).take(size).collect();
            chosen.sort_by_key(|m| m.content.replica);
            self.note(Some(Flaw::AllForged), &chosen);
        }
    }

    /// Remembers what the choice leads to, in every order if that can matter.
    fn note(&mut self, flaw: Option<Flaw>, chosen: &[SignedViewChange]) {
        let orders = if is_ambiguous(chosen) { orders(chosen) } else { vec![chosen.to_vec()] };
        for chosen in orders {
            let plan = compute_o(&chosen, &self.adversary.judge.rules);
            let min_s = plan.stable.map(|stable| (stable.n, stable.digest));
            let size = if flaw.is_some() { chosen.len() } else { 0 };
            self.quorums.entry((flaw, size, (min_s, plan.entries))).or_insert(chosen);
        }
    }
}

/// Every order of the list.
fn orders(list: &[SignedViewChange]) -> Vec<Vec<SignedViewChange>> {
    let Some((last, others)) = list.split_last() else { return vec![Vec::new()] };
    let insert = |order: Vec<SignedViewChange>| {
        (0..list.len()).map(move |at| [&order[..at], std::slice::from_ref(last), &order[at..]].concat())
    };
    orders(others).into_iter().flat_map(insert).collect()
}
