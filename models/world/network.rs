//! What can be delivered: for each subject, what correct replicas have sent about it and what the adversary makes
//! of everything sent.
//!
//! What is available about a subject depends on what has been sent about it, and, for VIEW-CHANGEs and NEW-VIEWs,
//! on which certificates the adversary can put together. So a replica's messages are split by subject, each part
//! is named once, and the messages available are worked out once for each combination of parts.

use super::config::MAX_REPLICAS;
use super::tables::{MessageId, Tables};
use crate::adversary::{Adversary, Known};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::replica::Subject;
use pbft::types::{ClientId, SeqNo, Timestamp, View};
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

/// What else messages are about where the clients are part of the world: the request of each and its replies, and a
/// request that only the adversary can have made up ([`Adversary`]).
pub fn client_subjects(clients: u32) -> Vec<Subject> {
    let requests = (0..clients).map(|client| (ClientId(client), Timestamp(1)));
    let mut subjects = vec![Subject::Request(ClientId(0), Timestamp(2))];
    for (client, timestamp) in requests {
        subjects.extend([Subject::Request(client, timestamp), Subject::Reply(client, timestamp)]);
    }
    subjects
}

/// The messages of a world, and who can make what of them.
pub struct Network {
    subjects: Vec<Subject>,
    adversary: Adversary,
    /// For each subject the parts that occur; then those that certificates are made of, and everything sent.
    parts: Vec<IndexSet<Vec<MessageId>, FixedState>>,
    known: IndexMap<(KnowledgeId, Parts), KnowledgeId, FixedState>,
    knowledge: IndexSet<Known, FixedState>,
    available: IndexMap<(u32, u32, Parts), AvailableId, FixedState>,
    lists: IndexSet<Vec<MessageId>, FixedState>,
}

impl Network {
    /// A network on which nothing has been sent.
    pub fn new(subjects: Vec<Subject>, adversary: Adversary) -> Self {
        let empty = || IndexSet::from_iter([Vec::new()]);
        let knowledge = IndexSet::from_iter([adversary.known(&[])]);
        Network {
            parts: (0..subjects.len() + 2).map(|_| empty()).collect(),
            subjects,
            adversary,
            known: IndexMap::default(),
            knowledge,
            available: IndexMap::default(),
            lists: empty(),
        }
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

    /// What one replica has sent, by subject; then what certificates can be made of, and everything.
    pub fn split(&mut self, tables: &Tables, sent: &[MessageId]) -> Vec<PartId> {
        let about = |id: &&MessageId, subject: Subject| Subject::of(tables.message(**id)) == Some(subject);
        let mut parts = Vec::new();
        for (number, &subject) in self.subjects.iter().enumerate() {
            let part: Vec<_> = sent.iter().filter(|id| about(id, subject)).copied().collect();
            parts.push(named(&mut self.parts[number], part));
        }
        let is_evidence = |id: &&MessageId| {
            let subject = Subject::of(tables.message(**id));
            matches!(subject, Some(Subject::PrePrepare(..) | Subject::Prepare(..)))
                || matches!(subject, Some(Subject::Checkpoint(_) | Subject::NewView(_)))
        };
        let evidence = sent.iter().filter(is_evidence).copied().collect();
        let number = self.evidence();
        parts.push(named(&mut self.parts[number], evidence));
        let number = self.everything();
        parts.push(named(&mut self.parts[number], sent.to_vec()));
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

    fn needs_knowledge(&self, subject: Subject) -> bool {
        match subject {
            _ if self.rests_on_anything(subject) => false,
            Subject::ViewChange(_) => self.adversary.is_anybody(),
            Subject::NewView(view) => self.adversary.is_primary(view),
            _ => false,
        }
    }

    /// The number, among a replica's parts, of everything it has sent.
    fn everything(&self) -> usize {
        self.subjects.len() + 1
    }

    /// Whether what is available about a subject may rest on anything: only where receivers let through more than
    /// the paper.
    fn rests_on_anything(&self, subject: Subject) -> bool {
        let fixed = matches!(
            subject,
            Subject::Prepare(..) | Subject::Commit(..) | Subject::Batch | Subject::Block | Subject::Reply(..)
        );
        self.adversary.takes_liberties() && !fixed
    }

    /// For a NEW-VIEW that the adversary sends, the VIEW-CHANGEs matter and not what was sent about it.
    fn rests_on(&self, number: SubjectNumber) -> usize {
        if self.rests_on_anything(self.subjects[number]) {
            return self.everything();
        }
        let other = match self.subjects[number] {
            Subject::NewView(view) if self.adversary.is_primary(view) => Subject::ViewChange(view),
            Subject::Stable(n) => Subject::Checkpoint(n),
            _ => return number,
        };
        self.subjects.iter().position(|&subject| subject == other).unwrap_or(number)
    }

    /// The messages available about a subject, given every replica's parts, if that has been worked out.
    pub fn available(
        &self,
        number: SubjectNumber,
        parts: &dyn Fn(SubjectNumber) -> Parts,
    ) -> Option<AvailableId> {
        let known = if self.needs_knowledge(self.subjects[number]) {
            *self.known.get(&(NOTHING, parts(self.evidence())))?
        } else {
            NOTHING
        };
        self.available_given(number, known, parts)
    }

    /// The same for an adversary that can put together the certificates of `known`.
    pub fn available_given(
        &self,
        number: SubjectNumber,
        known: KnowledgeId,
        parts: &dyn Fn(SubjectNumber) -> Parts,
    ) -> Option<AvailableId> {
        let known = if self.needs_knowledge(self.subjects[number]) { known } else { NOTHING };
        let number_word = u32::try_from(number).expect("a world has few subjects");
        self.available.get(&(number_word, known, parts(self.rests_on(number)))).copied()
    }

    /// Works out what is available about a subject.
    pub fn work_out(
        &mut self,
        tables: &mut Tables,
        number: SubjectNumber,
        parts: &dyn Fn(SubjectNumber) -> Parts,
    ) -> AvailableId {
        let known = if self.needs_knowledge(self.subjects[number]) {
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
        let known = if self.needs_knowledge(subject) { known } else { NOTHING };
        let rests_on = self.rests_on(number);
        let number_word = u32::try_from(number).expect("a world has few subjects");
        let key = (number_word, known, parts(rests_on));
        if let Some(&done) = self.available.get(&key) {
            return done;
        }
        let sent = self.union(rests_on, &key.2);
        let derived = {
            let sent: Vec<_> = sent.iter().map(|&id| tables.message(id)).collect();
            if self.rests_on_anything(subject) {
                let about = |message: &_| Subject::of(message) == Some(subject);
                self.adversary.derive(&sent).into_iter().filter(about).collect()
            } else {
                let known =
                    self.knowledge.get_index(known as usize).filter(|_| self.needs_knowledge(subject));
                self.adversary.about(subject, &sent, known)
            }
        };
        let mut all: BTreeSet<MessageId> = derived.into_iter().map(|m| tables.add_message(m)).collect();
        if rests_on == number || self.rests_on_anything(subject) {
            let about = |id: &MessageId| Subject::of(tables.message(*id)) == Some(subject);
            all.extend(sent.into_iter().filter(about));
        }
        let id = named(&mut self.lists, all.into_iter().collect());
        self.available.insert(key, id);
        id
    }

    /// What the adversary knows that knew `before`, once these parts were sent; if that has been worked out.
    pub fn knowing(&self, before: KnowledgeId, parts: Parts) -> Option<KnowledgeId> {
        if self.adversary.is_anybody() { self.known.get(&(before, parts)).copied() } else { Some(NOTHING) }
    }

    /// Works out what the adversary knows that knew `before`, once these parts were sent.
    pub fn learn(&mut self, tables: &Tables, before: KnowledgeId, parts: Parts) -> KnowledgeId {
        if let Some(known) = self.knowing(before, parts) {
            return known;
        }
        let sent = self.union(self.evidence(), &parts);
        let sent: Vec<_> = sent.iter().map(|&id| tables.message(id)).collect();
        let mut known = self.adversary.known(&sent);
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

    fn union(&self, number: usize, parts: &Parts) -> BTreeSet<MessageId> {
        let part = |&id: &PartId| self.parts[number].get_index(id as usize).expect("a part has a name");
        parts.iter().flat_map(part).copied().collect()
    }

    /// A message about this subject that has been available, if any has.
    pub fn example(&self, subject: Subject) -> Option<MessageId> {
        let number = self.subjects.iter().position(|&known| known == subject)?;
        let list = |(&(of, _, _), &id): (&(u32, u32, Parts), &AvailableId)| {
            (of as usize == number).then(|| self.list(id).first().copied()).flatten()
        };
        self.available.iter().find_map(list)
    }

    /// The messages with this name, ascending.
    pub fn list(&self, id: AvailableId) -> &[MessageId] {
        self.lists.get_index(id as usize).expect("a list has a name")
    }
}

fn named<T: std::hash::Hash + Eq>(set: &mut IndexSet<T, FixedState>, value: T) -> u32 {
    let index = match set.get_index_of(&value) {
        Some(known) => known,
        None => set.insert_full(value).0,
    };
    u32::try_from(index).expect("a table of more than 2^32 entries does not fit in memory")
}
