//! What can be delivered: for each subject, what correct replicas have sent about it and what the adversary
//! makes of everything sent.
//!
//! What is available about a subject depends on what has been sent that it rests on
//! ([`Adversary::rests_on`]), and, for VIEW-CHANGEs and NEW-VIEWs, on which certificates the adversary can
//! put together. So a replica's messages are split accordingly, each part is named once, and the messages
//! available are worked out once for each combination of parts.

use super::ahead::Ahead;
use super::config::{MAX_REPLICAS, WorldConfig};
use super::recent::Lookups;
use super::tables::{MessageId, Tables};
use crate::adversary::{Adversary, Known};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use indexmap::IndexSet;
use pbft::message::Message;
use pbft::replica::Subject;
use pbft::types::{SeqNo, View};
use std::collections::BTreeSet;

/// Names a set of messages about one subject; 0 is the empty one.
pub type PartId = u32;

/// Names what the adversary can prove.
pub type KnowledgeId = u32;

/// What the adversary can prove before anything is sent.
pub const NOTHING: KnowledgeId = 0;

/// Names the messages available about one subject.
pub type AvailableId = u32;

/// The number of a subject in a world.
pub type SubjectNumber = usize;

/// A combination of parts, one of each correct replica.
pub type Parts = [PartId; MAX_REPLICAS];

/// The subjects of a world, in the order of their numbers.
pub fn subjects(max_view: View, max_seq: SeqNo, checkpoint_interval: u64) -> Vec<Subject> {
    let views = || (0..=max_view.0).map(View);
    let numbers = || (1..=max_seq.0).map(SeqNo);
    let mut subjects = vec![Subject::Batch, Subject::Block];
    for view in views() {
        if view.0 > 0 {
            subjects.extend([Subject::ViewChange(view), Subject::NewView(view)]);
        }
        subjects.extend(numbers().map(|n| Subject::PrePrepare(view, n)));
        subjects.extend(numbers().map(|n| Subject::Prepare(view, n)));
        subjects.extend(numbers().map(|n| Subject::Commit(view, n)));
    }
    for n in numbers().filter(|n| n.0 % checkpoint_interval == 0) {
        subjects.extend([Subject::Checkpoint(n), Subject::Stable(n)]);
    }
    subjects
}

/// The requests of the clients, as subjects.
pub fn request_subjects(config: &WorldConfig) -> BTreeSet<Subject> {
    config.all_signed().into_iter().filter_map(|m| Subject::of(&Message::Request(m))).collect()
}

/// The replies to them, which are messages where the clients are part of the world.
pub fn reply_subjects(config: &WorldConfig) -> BTreeSet<Subject> {
    let signed = config.all_signed().into_iter().map(|m| m.content);
    let correct = signed.filter(|request| request.client.0 < config.requests);
    correct.map(|request| Subject::Reply(request.client, request.timestamp)).collect()
}

/// The messages of a world, and who can make what of them.
pub struct Network {
    subjects: Vec<Subject>,
    adversary: Adversary,
    /// What is there from the start.
    given: Vec<MessageId>,
    /// For each subject the parts that occur; then those that certificates are made of.
    parts: Vec<IndexSet<Vec<MessageId>, FixedState>>,
    known: HashMap<(KnowledgeId, Parts), KnowledgeId, FixedState>,
    knowledge: IndexSet<Known, FixedState>,
    available: HashMap<(u32, u32, Parts), AvailableId, FixedState>,
    lists: IndexSet<Vec<MessageId>, FixedState>,
    /// For each subject the first message about it that was available.
    examples: Vec<Option<MessageId>>,
    pub(super) ahead: Ahead,
}

impl Network {
    /// A network on which replicas have sent nothing, and `given` is there from the start.
    pub fn new(subjects: Vec<Subject>, adversary: Adversary, given: Vec<MessageId>) -> Self {
        let empty = || IndexSet::from_iter([Vec::new()]);
        let knowledge = IndexSet::from_iter([adversary.known(&[])]);
        Network {
            parts: (0..=subjects.len()).map(|_| empty()).collect(),
            examples: vec![None; subjects.len()],
            subjects,
            adversary,
            given,
            known: HashMap::default(),
            knowledge,
            available: HashMap::default(),
            lists: empty(),
            ahead: Ahead::default(),
        }
    }

    /// What is there from the start: the requests of clients that are not part of the world.
    pub fn given(&self) -> &[MessageId] {
        &self.given
    }

    /// The adversary.
    pub fn adversary(&self) -> &Adversary {
        &self.adversary
    }

    /// The subjects, in the order of their numbers.
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// How many sets of messages of one replica there are about each subject.
    pub fn parts_by_subject(&self) -> impl Iterator<Item = (Subject, usize)> + '_ {
        self.subjects.iter().copied().zip(self.parts.iter().map(IndexSet::len))
    }

    /// What one replica has sent: for each subject what the messages about it rest on; then what certificates
    /// can be made of.
    pub fn split(&mut self, tables: &Tables, sent: &[MessageId]) -> Vec<PartId> {
        let subject_of = |id: &MessageId| Subject::of(tables.message(*id));
        let mut parts = Vec::new();
        for (number, &subject) in self.subjects.iter().enumerate() {
            let matters =
                |id: &&MessageId| subject_of(id).is_some_and(|other| Adversary::rests_on(subject, other));
            let part: Vec<_> = sent.iter().filter(matters).copied().collect();
            parts.push(named(&mut self.parts[number], part));
        }
        let is_evidence = |id: &&MessageId| {
            let subject = subject_of(id);
            matches!(subject, Some(Subject::PrePrepare(..) | Subject::Prepare(..)))
                || matches!(subject, Some(Subject::Checkpoint(_) | Subject::NewView(_)))
        };
        let evidence = sent.iter().filter(is_evidence).copied().collect();
        let number = self.evidence();
        parts.push(named(&mut self.parts[number], evidence));
        parts
    }

    /// The number, among a replica's parts, of what certificates are made of.
    pub fn evidence(&self) -> usize {
        self.subjects.len()
    }

    /// How many parts each replica's messages are split in; some overlap.
    pub fn parts_of_each(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn subject(&self, number: SubjectNumber) -> Subject {
        self.subjects[number]
    }

    /// The name of what the adversary can prove, if it has one.
    pub(super) fn name_of(&self, known: &Known) -> Option<KnowledgeId> {
        self.knowledge.get_index_of(known).and_then(|index| index.try_into().ok())
    }

    pub(super) fn named_knowledge(&self, id: KnowledgeId) -> Option<&Known> {
        self.knowledge.get_index(id as usize)
    }

    /// The messages available about a subject, given every replica's parts, if that has been worked out.
    pub fn available(
        &self,
        number: SubjectNumber,
        parts: &dyn Fn(SubjectNumber) -> Parts,
    ) -> Option<AvailableId> {
        let known = if needs_knowledge(self.subjects[number]) {
            *self.known.get(&(NOTHING, parts(self.evidence())))?
        } else {
            NOTHING
        };
        self.available_given(number, known, parts)
    }

    /// The same, where it may have been looked up lately.
    #[inline]
    pub(super) fn available_lately(
        &self,
        number: SubjectNumber,
        parts: &impl Fn(SubjectNumber) -> Parts,
        recent: &mut Lookups,
    ) -> Option<AvailableId> {
        let known = if needs_knowledge(self.subjects[number]) {
            let evidence = self.evidence();
            recent
                .find(evidence, (NOTHING, parts(evidence)), |(before, parts)| self.knowing(before, parts))?
        } else {
            NOTHING
        };
        recent.find(number, (known, parts(number)), |(known, parts)| {
            let number = u32::try_from(number).expect("a world has few subjects");
            self.available.get(&(number, known, parts)).copied()
        })
    }

    /// The same for an adversary that can put together the certificates of `known`.
    pub fn available_given(
        &self,
        number: SubjectNumber,
        known: KnowledgeId,
        parts: &dyn Fn(SubjectNumber) -> Parts,
    ) -> Option<AvailableId> {
        let known = if needs_knowledge(self.subjects[number]) { known } else { NOTHING };
        let number_word = u32::try_from(number).expect("a world has few subjects");
        self.available.get(&(number_word, known, parts(number))).copied()
    }

    /// Works out what is available about a subject.
    pub fn work_out(
        &mut self,
        tables: &mut Tables,
        number: SubjectNumber,
        parts: &dyn Fn(SubjectNumber) -> Parts,
    ) -> AvailableId {
        let known = if needs_knowledge(self.subjects[number]) {
            self.learn(tables, NOTHING, parts(self.evidence()))
        } else {
            NOTHING
        };
        self.work_out_given(tables, number, known, parts)
    }

    /// The same for an adversary that can put together the certificates of `known`.
    pub fn work_out_given(
        &mut self,
        tables: &mut Tables,
        number: SubjectNumber,
        known: KnowledgeId,
        parts: &dyn Fn(SubjectNumber) -> Parts,
    ) -> AvailableId {
        let subject = self.subjects[number];
        let known = if needs_knowledge(subject) { known } else { NOTHING };
        let number_word = u32::try_from(number).expect("a world has few subjects");
        let key = (number_word, known, parts(number));
        if let Some(&done) = self.available.get(&key) {
            return done;
        }
        let sent = self.union(number, &key.2);
        let proved = self.named_knowledge(known).filter(|_| needs_knowledge(subject));
        let ahead = self.ahead.about(number, (proved, known), &key.2);
        let derived = ahead.unwrap_or_else(|| self.made(tables, number, &sent, proved));
        let mut all: BTreeSet<MessageId> = derived.into_iter().map(|m| tables.add_message(m)).collect();
        let sent = sent.into_iter().chain(self.given.iter().copied());
        all.extend(sent.filter(|id| Subject::of(tables.message(*id)) == Some(subject)));
        let id = named(&mut self.lists, all.into_iter().collect());
        self.available.insert(key, id);
        self.examples[number] = self.examples[number].or_else(|| self.list(id).first().copied());
        id
    }

    /// Names those of these messages that are about a subject.
    pub fn name_list(&mut self, tables: &Tables, subject: Subject, of: &BTreeSet<MessageId>) -> AvailableId {
        let about = of.iter().copied().filter(|id| Subject::of(tables.message(*id)) == Some(subject));
        named(&mut self.lists, about.collect())
    }

    /// What the adversary knows that knew `before`, once these parts were sent; if that has been worked out.
    pub fn knowing(&self, before: KnowledgeId, parts: Parts) -> Option<KnowledgeId> {
        self.known.get(&(before, parts)).copied()
    }

    /// Works out what the adversary knows that knew `before`, once these parts were sent.
    pub fn learn(&mut self, tables: &Tables, before: KnowledgeId, parts: Parts) -> KnowledgeId {
        if let Some(known) = self.knowing(before, parts) {
            return known;
        }
        let mut known = match self.ahead.known(&parts) {
            Some(known) => Known::clone(&known),
            None => self.proved(tables, &parts),
        };
        known.absorb(self.knowledge.get_index(before as usize).expect("what is named is known"));
        let known = named(&mut self.knowledge, known);
        self.known.insert((before, parts), known);
        known
    }

    /// All lists of messages that have been available about a subject.
    pub fn lists_about(&self, number: SubjectNumber) -> BTreeSet<AvailableId> {
        let about = self.available.iter().filter(|((of, _, _), _)| *of as usize == number);
        about.map(|(_, &id)| id).collect()
    }

    /// Every message that has been available in some state.
    pub fn ever_available(&self) -> BTreeSet<MessageId> {
        self.lists.iter().flatten().chain(&self.given).copied().collect()
    }

    pub(super) fn union(&self, number: usize, parts: &Parts) -> BTreeSet<MessageId> {
        let part = |&id: &PartId| self.parts[number].get_index(id as usize).expect("a part has a name");
        parts.iter().flat_map(part).copied().collect()
    }

    /// A message about this subject that has been available, if any has.
    pub fn example(&self, subject: Subject) -> Option<MessageId> {
        let number = self.subjects.iter().position(|&known| known == subject)?;
        self.examples[number]
    }

    /// The messages with this name, ascending.
    pub fn list(&self, id: AvailableId) -> &[MessageId] {
        self.lists.get_index(id as usize).expect("a list has a name")
    }
}

/// Whether messages about it rest on what the adversary can prove.
pub(super) fn needs_knowledge(subject: Subject) -> bool {
    matches!(subject, Subject::ViewChange(_) | Subject::NewView(_))
}

fn named<T: std::hash::Hash + Eq>(set: &mut IndexSet<T, FixedState>, value: T) -> u32 {
    let index = match set.get_index_of(&value) {
        Some(known) => known,
        None => set.insert_full(value).0,
    };
    u32::try_from(index).expect("a table of more than 2^32 entries does not fit in memory")
}
