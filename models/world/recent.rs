//! What a thread has just looked up: where agents go, and which histories are sound.
//!
//! States come in the order of their words, so the same questions come again and again. An answer that has
//! been learnt never changes, so it may be kept; which are kept changes nothing but the time it takes.

use super::agents::AgentId;
use super::config::MAX_REPLICAS;
use super::judge::Joint;
use super::network::{Parts, SubjectNumber};
use foldhash::fast::FixedState;
use smallvec::SmallVec;
use std::hash::BuildHasher;

/// Answers of each kind: a power of two. An answer takes about a hundred bytes, and more of them than this do not stay
/// near the processor: with 2^16 an exploration takes a seventh longer.
const PLACES: usize = 1 << 12;

/// An agent at its position, and what all others have sent.
pub(super) type Question = (usize, [u32; MAX_REPLICAS]);

struct Answer {
    question: Question,
    targets: SmallVec<[AgentId; 8]>,
}

/// What is available about each subject, and what the adversary can prove, as it was looked up last.
#[derive(Default)]
pub struct Lookups(Vec<Option<((u32, Parts), u32)>>);

impl Lookups {
    /// The answer about a subject, as it was last or as `find` says. From one state to the next little changes in what
    /// has been sent about one subject.
    #[inline]
    pub(super) fn find(
        &mut self,
        number: SubjectNumber,
        of: (u32, Parts),
        find: impl FnOnce((u32, Parts)) -> Option<u32>,
    ) -> Option<u32> {
        if self.0.len() <= number {
            self.0.resize(number + 1, None);
        }
        match self.0[number] {
            Some((known, answer)) if known == of => Some(answer),
            _ => {
                let answer = find(of)?;
                self.0[number] = Some((of, answer));
                Some(answer)
            }
        }
    }
}

/// Answers that were given lately.
pub struct Recent {
    /// A power of two.
    places: usize,
    targets: Vec<Option<Answer>>,
    /// Where the last answer is for each position, which may be wanted again.
    last: [usize; MAX_REPLICAS],
    sound: Vec<Option<Joint>>,
    lookups: Lookups,
}

impl Default for Recent {
    fn default() -> Self {
        Recent {
            places: PLACES,
            targets: Vec::new(),
            last: [0; MAX_REPLICAS],
            sound: Vec::new(),
            lookups: Lookups::default(),
        }
    }
}

impl Recent {
    /// Of no use for more than one state, but small.
    pub fn small() -> Self {
        Recent { places: 1, ..Recent::default() }
    }

    fn place(&self, of: impl std::hash::Hash) -> usize {
        FixedState::with_seed(0).hash_one(of) as usize & (self.places - 1)
    }

    /// Where an agent goes, if that has been asked lately, or else as `find` says.
    #[inline]
    pub(super) fn targets<E>(
        &mut self,
        question: Question,
        find: impl FnOnce((&mut SmallVec<[AgentId; 8]>, &mut Lookups)) -> Result<(), E>,
    ) -> Result<&[AgentId], E> {
        if self.targets.is_empty() {
            self.targets.resize_with(self.places, || None);
        }
        let last = self.last[question.0];
        let is_last = self.targets[last].as_ref().is_some_and(|known| known.question == question);
        let place = if is_last { last } else { self.place(question) };
        self.last[question.0] = place;
        let known = &mut self.targets[place];
        if known.as_ref().is_none_or(|known| known.question != question) {
            let mut targets = SmallVec::new();
            find((&mut targets, &mut self.lookups))?;
            *known = Some(Answer { question, targets });
        }
        Ok(known.as_ref().map(|known| &*known.targets).unwrap_or_default())
    }

    /// Whether these histories are sound, as they were lately or as `find` says.
    #[inline]
    pub(super) fn is_sound(&mut self, joint: Joint, find: impl FnOnce() -> bool) -> bool {
        if self.sound.is_empty() {
            self.sound.resize(self.places, None);
        }
        let place = self.place(joint);
        let known = &mut self.sound[place];
        if *known != Some(joint) {
            if !find() {
                return false;
            }
            *known = Some(joint);
        }
        true
    }
}
