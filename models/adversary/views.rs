//! VIEW-CHANGEs of the adversary.

use super::{Adversary, Known, Msg, Own};
use crate::crypto::Symbolic;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::Signed;
use pbft::message::{Message, ViewChange};
use pbft::types::{Principal, ReplicaId, SeqNo, View};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What was accepted of the VIEW-CHANGEs for a view, by what was known.
pub(super) type MadeViewChanges = Mutex<IndexMap<(Known, View), Arc<Vec<SignedViewChange>>, FixedState>>;

pub(super) type SignedViewChange = Arc<Signed<ViewChange<Symbolic>, Symbolic>>;

/// A VIEW-CHANGE before it has a sender.
#[derive(Clone)]
struct Draft {
    n: SeqNo,
    stable: Option<StableCertificate<Symbolic>>,
    prepared: Vec<PreparedCertificate<Symbolic>>,
    /// Whether every part of it is sound.
    is_sound: bool,
}

impl Adversary {
    /// For each view a VIEW-CHANGE with every provable checkpoint, none included, and every choice of at most
    /// one provable certificate for each number, in everybody's name; and those with something unsound. Only
    /// what is accepted is returned.
    pub(super) fn view_changes(&self, known: &Known, view: View) -> Arc<Vec<SignedViewChange>> {
        let made = || self.made_view_changes.lock().expect("nobody panics while VIEW-CHANGEs are made");
        let key = (known.clone(), view);
        if let Some(known) = made().get(&key) {
            return known.clone();
        }
        let accepted = Arc::new(self.make_view_changes(known, view));
        made().insert(key, accepted.clone());
        accepted
    }

    fn make_view_changes(&self, known: &Known, view: View) -> Vec<SignedViewChange> {
        let mut accepted = Vec::new();
        for draft in self.drafts(known, view) {
            for signed in self.in_names(&draft, view) {
                let is_sound = draft.is_sound && self.is_own(&signed);
                if self.accepts_view_change(&signed, is_sound) {
                    accepted.push(signed);
                }
            }
        }
        accepted
    }

    fn accepts_view_change(&self, signed: &SignedViewChange, is_sound: bool) -> bool {
        self.offer(&mut Vec::new(), is_sound, Message::ViewChange(signed.clone()))
    }

    /// The draft as every Byzantine member sends it; and a sound one as if others had sent it, or signed it.
    /// As if it were another member's with whatever it holds; and otherwise with one certificate at most.
    fn in_names(&self, draft: &Draft, view: View) -> Vec<SignedViewChange> {
        let of = |replica| {
            let Draft { n, stable, prepared, .. } = draft.clone();
            ViewChange { view, n, stable, prepared, replica }
        };
        let mut signed: Vec<SignedViewChange> =
            self.members().map(|setup| Arc::new(setup.sign(of(setup.id)))).collect();
        if !draft.is_sound {
            return signed;
        }
        if draft.prepared.len() > 1 {
            let others = self.names.iter().filter(|&&name| self.holds(name).is_none());
            signed.extend(others.map(|&name| Arc::new(self.signed_by(of(name), name))));
            return signed;
        }
        for &name in &self.names {
            let everybodys = self.signed_by_everybody(&of(name)).into_iter().map(Arc::new);
            signed.extend(everybodys.filter(|m| !self.is_own(m)));
        }
        signed
    }

    fn drafts(&self, known: &Known, view: View) -> Vec<Draft> {
        let mut drafts = Vec::new();
        let checkpoints: Vec<_> = [None].into_iter().chain(known.stable().cloned().map(Some)).collect();
        for stable in &checkpoints {
            for prepared in one_for_each_number(known) {
                drafts.push(self.draft(view, stable.clone(), prepared, true));
            }
            for prepared in self.unsound_lists(known) {
                drafts.push(self.draft(view, stable.clone(), prepared, false));
            }
        }
        let singles: Vec<_> =
            [Vec::new()].into_iter().chain(known.prepared().map(|one| vec![one.clone()])).collect();
        for prepared in &singles {
            for stable in self.forged_stable() {
                drafts.push(self.draft(view, Some(stable), prepared.clone(), false));
            }
            for stable in &checkpoints {
                let draft = self.draft(view, stable.clone(), prepared.clone(), false);
                let others = self.numbers().filter(|&n| n != draft.n);
                drafts.extend(others.map(|n| Draft { n, ..draft.clone() }));
            }
        }
        drafts
    }

    fn draft(
        &self,
        view: View,
        stable: Option<StableCertificate<Symbolic>>,
        prepared: Vec<PreparedCertificate<Symbolic>>,
        is_sound: bool,
    ) -> Draft {
        let n = stable.as_ref().map_or(SeqNo(0), |stable| stable.n);
        let fits = |c: &PreparedCertificate<Symbolic>| {
            let in_window = n < c.n && c.n.0 - n.0 <= self.judge.parameters.window;
            c.proof.is_accepted() && c.view < view && in_window
        };
        let is_proved = stable.as_ref().is_none_or(|stable| stable.proof.is_accepted());
        let is_sound = is_sound && is_proved && prepared.iter().all(fits);
        Draft { n, stable, prepared, is_sound }
    }

    /// Lists of two that are out of order or for one number, and lists with a forged certificate: alone,
    /// before and after a provable one.
    fn unsound_lists(&self, known: &Known) -> Vec<Vec<PreparedCertificate<Symbolic>>> {
        let mut lists = Vec::new();
        for one in known.prepared() {
            let before = known.prepared().filter(|other| other.n <= one.n);
            lists.extend(before.map(|other| vec![one.clone(), other.clone()]));
        }
        // Of what can be shown with a certificate that convinces, no forged one is needed.
        for claim in self.claims().into_iter().filter(|claim| !known.shows(claim)) {
            for forged in self.forged_certificates(claim) {
                lists.push(vec![forged.clone()]);
                for sound in known.prepared() {
                    lists.push(vec![sound.clone(), forged.clone()]);
                    lists.push(vec![forged.clone(), sound.clone()]);
                }
            }
        }
        lists
    }

    // --- VIEW-CHANGEs that may be refused by themselves, for V ---

    /// In the name of `sender`, who has not signed them.
    pub(super) fn forged_in_name(
        &self,
        known: &Known,
        view: View,
        sender: ReplicaId,
    ) -> Vec<SignedViewChange> {
        let lists = [Vec::new()].into_iter().chain(known.prepared().map(|one| vec![one.clone()]));
        let content = |prepared| {
            let Draft { n, stable, prepared, .. } = self.draft(view, None, prepared, true);
            ViewChange { view, n, stable, prepared, replica: sender }
        };
        let key = self.signers.first().expect("the outsider at least has a key");
        let signer = Principal::Replica(sender);
        lists.map(|list| Arc::new(Signed { signer, ..key.sign(content(list)) })).collect()
    }

    /// Its own, with a certificate that nobody has voted for, or a checkpoint.
    pub(super) fn unproved(&self, view: View) -> Vec<SignedViewChange> {
        let slots = self.claims().into_iter().filter(|&(of, n, _)| of < view && n.0 > 0);
        let prepared = slots.flat_map(|claim| self.forged_certificates(claim)).map(|c| (None, vec![c]));
        let stable = self.forged_stable().into_iter().map(|stable| (Some(stable), Vec::new()));
        let drafts: Vec<_> = prepared.chain(stable).collect();
        let mut all = Vec::new();
        for setup in self.members() {
            for (stable, prepared) in &drafts {
                let Draft { n, stable, prepared, .. } =
                    self.draft(view, stable.clone(), prepared.clone(), false);
                let content = ViewChange { view, n, stable, prepared, replica: setup.id };
                all.push(Arc::new(setup.sign(content)));
            }
        }
        all
    }

    /// Its own, with every checkpoint and, for every number above, nothing or any digest, for none of which
    /// anybody has voted.
    pub(super) fn every_unproved(&self, view: View, sent: &[&Msg]) -> Vec<SignedViewChange> {
        let states = self.states(sent);
        let above_0 = || self.numbers().filter(|n| n.0 > 0);
        let stable = above_0().flat_map(|n| states.iter().map(move |&digest| (n, digest)));
        let stable = stable.map(|(n, digest)| Some(self.unvoted_stable(n, digest)));
        let mut drafts = Vec::new();
        for stable in [None].into_iter().chain(stable) {
            let h = stable.as_ref().map_or(SeqNo(0), |stable| stable.n);
            let mut lists = vec![Vec::new()];
            // In the latest view that there can be a certificate of.
            for (last, n) in
                view.0.checked_sub(1).into_iter().flat_map(|v| above_0().map(move |n| (View(v), n)))
            {
                let digests = self.digests.iter().filter(|_| n > h);
                let forged: Vec<_> =
                    digests.map(|&digest| self.forged_certificates((last, n, digest))[1].clone()).collect();
                let longer: Vec<_> = (lists.iter())
                    .flat_map(|list: &Vec<_>| {
                        forged.iter().map(|c| [&list[..], std::slice::from_ref(c)].concat())
                    })
                    .collect();
                lists.extend(longer);
            }
            drafts.extend(lists.into_iter().map(|list| self.draft(view, stable.clone(), list, false)));
        }
        let by = |setup: &Own, Draft { n, stable, prepared, .. }: Draft| {
            Arc::new(setup.sign(ViewChange { view, n, stable, prepared, replica: setup.id }))
        };
        self.members().flat_map(|setup| drafts.iter().cloned().map(|draft| by(setup, draft))).collect()
    }

    /// An outsider's.
    pub(super) fn outsiders(&self, known: &Known, view: View) -> Vec<SignedViewChange> {
        let outsider = self.signers.last().expect("the outsider at least has a key");
        let lists = [Vec::new()].into_iter().chain(known.prepared().map(|one| vec![one.clone()]));
        let content = |prepared| {
            let Draft { n, stable, prepared, .. } = self.draft(view, None, prepared, true);
            ViewChange { view, n, stable, prepared, replica: outsider.id }
        };
        lists.map(|list| Arc::new(outsider.sign(content(list)))).collect()
    }
}

/// Every choice of at most one provable certificate for each number, ascending.
fn one_for_each_number(known: &Known) -> Vec<Vec<PreparedCertificate<Symbolic>>> {
    let mut by_number: BTreeMap<SeqNo, Vec<&PreparedCertificate<Symbolic>>> = BTreeMap::new();
    for certificate in known.prepared() {
        by_number.entry(certificate.n).or_default().push(certificate);
    }
    let mut lists = vec![Vec::new()];
    for certificates in by_number.values() {
        let longer: Vec<Vec<_>> = (lists.iter())
            .flat_map(|list: &Vec<PreparedCertificate<Symbolic>>| {
                certificates.iter().map(|&more| [&list[..], std::slice::from_ref(more)].concat())
            })
            .collect();
        lists.extend(longer);
    }
    lists
}
