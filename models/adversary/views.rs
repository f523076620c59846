//! VIEW-CHANGEs of the adversary: every provable C and P.

use super::Adversary;
use super::votes::Known;
use crate::crypto::Symbolic;
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::Signed;
use pbft::message::{Message, ViewChange};
use pbft::types::{SeqNo, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) type SignedViewChange = Arc<Signed<ViewChange<Symbolic>, Symbolic>>;

impl Adversary {
    /// For each name that is believed and each view, a VIEW-CHANGE with every provable checkpoint, none included, and every
    /// choice of at most one provable certificate for each number.
    pub(super) fn view_changes(&self, known: &Known) -> Vec<SignedViewChange> {
        let mut offered = Vec::new();
        for (setup, replica) in &self.voices {
            for view in self.views().skip(1) {
                let checkpoints = known.stable().iter().cloned().map(Some).chain([None]);
                for stable in checkpoints {
                    for prepared in self.choices_of_p(known, view, stable.as_ref()) {
                        let n = stable.as_ref().map_or(SeqNo(0), |stable| stable.n);
                        let stable = stable.clone();
                        let content = ViewChange { view, n, stable, prepared, replica: *replica };
                        offered.push(Arc::new(setup.sign(content)));
                    }
                }
            }
        }
        offered.retain(|m| self.is_accepted(&Message::ViewChange(m.clone())));
        offered
    }

    /// Every list of certificates, at most one a number, of which each alone is acceptable in a VIEW-CHANGE; and,
    /// where that is accepted, every list of two. More of one number make no difference: `O` takes one of them.
    fn choices_of_p(
        &self,
        known: &Known,
        view: View,
        stable: Option<&StableCertificate<Symbolic>>,
    ) -> Vec<Vec<PreparedCertificate<Symbolic>>> {
        let n = stable.map_or(SeqNo(0), |stable| stable.n);
        let Some((setup, replica)) = self.voices.first() else { return Vec::new() };
        let alone = |certificate: &PreparedCertificate<Symbolic>| {
            let (stable, prepared) = (stable.cloned(), vec![certificate.clone()]);
            let content = ViewChange { view, n, stable, prepared, replica: *replica };
            self.is_accepted(&Message::ViewChange(Arc::new(setup.sign(content))))
        };
        let mut by_number: BTreeMap<SeqNo, Vec<&PreparedCertificate<Symbolic>>> = BTreeMap::new();
        for certificate in known.prepared().iter().filter(|certificate| alone(certificate)) {
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
        if self.liberties.several_per_n {
            let all: Vec<_> = by_number.into_values().flatten().collect();
            let pairs = all.iter().flat_map(|&one| all.iter().map(|&other| vec![one.clone(), other.clone()]));
            let distinct: BTreeSet<_> = lists.into_iter().chain(pairs).collect();
            lists = distinct.into_iter().collect();
        }
        lists
    }
}
