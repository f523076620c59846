//! What is built in a situation, and what becomes of it.

use crate::form::{Forms, is_beyond};
use crate::parts::Parts;
use crate::setting::Setting;
use crate::walk::Situation;
use crate::{C, Msg, build, build_new_views};
use pbft::crypto::Signed;
use pbft::message::{Message, ViewChange};
use pbft::types::View;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Messages of each kind that are delivered for comparison in one situation, at most.
const COMPARED: usize = 60;

/// What was built in some situations.
#[derive(Debug, Default)]
pub struct Report {
    pub situations: usize,
    /// Sets of votes put together for a certificate.
    pub certificates: usize,
    /// Messages.
    pub built: usize,
    /// Distinct messages that the production validator accepts. Each is one of the following.
    pub accepted: usize,
    /// About views or numbers beyond the world's.
    pub beyond: usize,
    /// On the network as it is.
    pub literal: usize,
    /// On the network in its canonical form.
    pub in_form: usize,
    /// Without effect, or nothing but a question.
    pub idle: usize,
    /// Not on the network.
    pub missing: Vec<String>,
    /// How many of each kind are accepted and within the bounds.
    pub kinds: BTreeMap<&'static str, usize>,
    /// Situations in which a certificate of P is provable, and in which one of a later view than 0 is.
    pub certified: [usize; 2],
    /// VIEW-CHANGEs accepted with certificates for two numbers.
    pub two_numbers: usize,
    /// Deliveries compared with what the canonical form says.
    pub compared: usize,
    /// Those that came out differently.
    pub differ: Vec<String>,
}

/// Keeps what is accepted.
struct Harvest<'a> {
    setting: &'a Setting,
    built: usize,
    accepted: BTreeSet<Msg>,
    /// VIEW-CHANGEs within the bounds that are refused.
    refused: Vec<Arc<Signed<ViewChange<C>, C>>>,
}

impl Harvest<'_> {
    fn take(&mut self, message: Msg) {
        self.built += 1;
        if self.setting.accepts(&message) {
            self.accepted.insert(message);
        } else if let Message::ViewChange(m) = &message
            && !is_beyond(self.setting, &message)
        {
            self.refused.push(m.clone());
        }
    }
}

impl Report {
    /// Builds and judges messages in one situation; of the adversary's set only what is kept counts.
    pub fn examine(
        &mut self,
        setting: &Setting,
        situation: &Situation,
        keep: &dyn Fn(&Msg) -> bool,
        rng: &mut ChaCha8Rng,
    ) {
        let mut offered = setting.adversary.derive(&situation.sent());
        offered.retain(|message| keep(message));
        let forms = Forms::new(setting, situation, &offered);
        let literal: BTreeSet<&Msg> = situation.sent.iter().chain(&offered).collect();
        let harvest = self.build(setting, situation, rng);
        let (mut last, mut budget) = ("", 0);
        for message in &harvest {
            self.accepted += 1;
            if message.name() != last {
                (last, budget) = (message.name(), COMPARED);
            }
            if is_beyond(setting, message) {
                self.beyond += 1;
                continue;
            }
            if let Message::ViewChange(m) = message {
                let numbers: BTreeSet<_> =
                    m.content.prepared.iter().map(|certificate| certificate.n).collect();
                self.two_numbers += usize::from(numbers.len() > 1);
            }
            *self.kinds.entry(message.name()).or_default() += 1;
            if literal.contains(message) {
                self.literal += 1;
            } else {
                self.judge(setting, situation, &forms, message, &mut budget, rng);
            }
        }
    }

    fn build(&mut self, setting: &Setting, situation: &Situation, rng: &mut ChaCha8Rng) -> BTreeSet<Msg> {
        let parts = Parts::of(setting, situation, rng);
        let mut harvest = Harvest { setting, built: 0, accepted: BTreeSet::new(), refused: Vec::new() };
        build::simple(setting, &parts, &mut |message| harvest.take(message));
        build::strange(setting, &parts, rng, &mut |message| harvest.take(message));
        build::statuses(setting, &parts, rng, &mut |message| harvest.take(message));
        build::view_changes(setting, &parts, rng, &mut |message| harvest.take(message));
        let within = harvest.accepted.iter().filter(|message| !is_beyond(setting, message));
        let own: Vec<_> = within
            .filter_map(|message| if let Message::ViewChange(m) = message { Some(m.clone()) } else { None })
            .collect();
        let refused = std::mem::take(&mut harvest.refused);
        build_new_views::new_views(setting, &parts, &own, &refused, rng, &mut |message| {
            harvest.take(message)
        });
        self.situations += 1;
        self.certified[0] += usize::from(!parts.proved.is_empty());
        self.certified[1] += usize::from(parts.proved.iter().any(|certificate| certificate.view > View(0)));
        self.certificates += parts.tried;
        self.built += harvest.built;
        harvest.accepted
    }

    /// A message that is not on the network as it is.
    fn judge(
        &mut self,
        setting: &Setting,
        situation: &Situation,
        forms: &Forms,
        message: &Msg,
        budget: &mut usize,
        rng: &mut ChaCha8Rng,
    ) {
        let needed = forms.of(message).stands_for();
        let stand_in = needed.as_ref().and_then(|form| forms.stand_in(form));
        match (&needed, stand_in) {
            (None, _) => self.idle += 1,
            (Some(_), Some(_)) => self.in_form += 1,
            (Some(form), None) => {
                let what = format!("{}, which comes down to {form:?}", in_short(message));
                return self.missing.push(what);
            }
        }
        // Not the first ones alone, which are all much the same.
        if *budget == 0 || rng.random_range(0..2) == 0 {
            return;
        }
        *budget -= 1;
        for at in 0..setting.correct.len() {
            let Some(state) = situation.states[at].choose(rng) else { continue };
            self.compared += 1;
            if !forms.is_as_said(at, state, message, stand_in) {
                self.differ.push(format!("{}\n  in {state:?}", in_short(message)));
            }
        }
    }
}

impl Report {
    pub fn in_words(&self) -> String {
        format!(
            "{} situations ({} with a certificate, {} of a later view), {} sets of votes, {} messages built, {} distinct ones accepted: {} beyond the bounds, {} \
             offered as they are, {} in canonical form, {} idle, {} missing; {} deliveries compared, {} differ; {:?}",
            self.situations,
            self.certified[0],
            self.certified[1],
            self.certificates,
            self.built,
            self.accepted,
            self.beyond,
            self.literal,
            self.in_form,
            self.idle,
            self.missing.len(),
            self.compared,
            self.differ.len(),
            self.kinds,
        )
    }
}

/// A message as a report names it.
fn in_short(message: &Msg) -> String {
    format!("{message:?}").chars().take(1000).collect()
}
