//! A correct replica with what it has sent: one word of a global state.

use super::network::{AvailableId, PartId, SubjectNumber};
use super::tables::{LocalId, MessageId};
use foldhash::fast::FixedState;
use indexmap::IndexSet;
use std::sync::Arc;

/// Names an agent, at its position.
pub type AgentId = u32;

/// What an agent is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Agent {
    /// Its local state.
    pub local: LocalId,
    /// What it has sent, ascending.
    pub sent: Arc<[MessageId]>,
    /// How often it has crashed, where that is bounded.
    pub crashes: u8,
}

/// What is known of an agent.
#[derive(Clone, Debug)]
pub struct AgentInfo {
    /// Names what it has done.
    pub history: u32,
    /// Names what it has done and sent: [`Agents::behaviour`].
    pub behaviour: u32,
    /// The subjects whose messages can make a difference to it; the number after the last stands for
    /// time-outs.
    pub heeds: Box<[u16]>,
    /// Names what it has sent, by subject, and last what certificates can be made of: [`Agents::part`].
    pub sent: u32,
}

/// Where an agent goes by what is available about a subject.
///
/// An agent's are together, ascending: it is asked about each subject that it heeds, one after the other. In one table
/// by hash of all agents, each of these questions is a miss of the cache.
struct Moves {
    number: u16,
    available: AvailableId,
    /// The first of the targets, and how many there are.
    targets: (u32, u32),
}

/// The agents that one correct replica can be, and where they can go.
#[derive(Default)]
pub struct Agents {
    agents: IndexSet<Agent, FixedState>,
    facts: Vec<AgentInfo>,
    moves: Vec<Vec<Moves>>,
    targets: Vec<AgentId>,
    behaviours: IndexSet<(u32, Arc<[MessageId]>), FixedState>,
    parts: IndexSet<Box<[PartId]>, FixedState>,
    /// The same, one after the other: states of a level are close together in it.
    part: Vec<PartId>,
}

impl Agents {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// The agent with this name.
    pub fn agent(&self, id: AgentId) -> &Agent {
        self.agents.get_index(id as usize).expect("names are given by this table")
    }

    /// All of them, in the order of names.
    pub fn all(&self) -> impl Iterator<Item = &Agent> {
        self.agents.iter()
    }

    /// What is known of it.
    pub fn facts(&self, id: AgentId) -> &AgentInfo {
        &self.facts[id as usize]
    }

    /// Everything known, in the order of names.
    pub fn all_info(&self) -> &[AgentInfo] {
        &self.facts
    }

    /// The name of an agent that is in the table.
    pub fn find(&self, agent: &Agent) -> Option<AgentId> {
        self.agents.get_index_of(agent).map(name)
    }

    /// Names what an agent has done, by the name of its history, and sent.
    pub fn name_behaviour(&mut self, history: u32, sent: &Arc<[MessageId]>) -> u32 {
        name(self.behaviours.insert_full((history, sent.clone())).0)
    }

    /// Names what an agent has sent, as the network sees it.
    pub fn name_parts(&mut self, parts: &[PartId]) -> u32 {
        match self.parts.get_index_of(parts) {
            Some(known) => name(known),
            None => {
                self.part.extend_from_slice(parts);
                name(self.parts.insert_full(parts.into()).0)
            }
        }
    }

    /// The part about a subject of what was sent under this name; `of` is how many parts there are of each.
    #[inline]
    pub fn part(&self, sent: u32, number: SubjectNumber, of: usize) -> PartId {
        self.part[sent as usize * of + number]
    }

    /// The name of the history, and what was sent.
    pub fn behaviour(&self, name: u32) -> (u32, &[MessageId]) {
        let known = self.behaviours.get_index(name as usize);
        known.map(|(history, sent)| (*history, &**sent)).expect("names are given by this table")
    }

    /// Adds an agent that is not in the table.
    pub fn add(&mut self, agent: Agent, facts: AgentInfo) -> AgentId {
        self.facts.push(facts);
        self.moves.push(Vec::new());
        name(self.agents.insert_full(agent).0)
    }

    /// Where it goes by what is available about a subject, if that has been worked out.
    #[inline]
    pub fn moves(&self, id: AgentId, number: u16, available: AvailableId) -> Option<&[AgentId]> {
        let moves = &self.moves[id as usize];
        let place = moves.partition_point(|known| (known.number, known.available) < (number, available));
        let known =
            moves.get(place).filter(|known| (known.number, known.available) == (number, available))?;
        let (first, count) = known.targets;
        Some(&self.targets[first as usize..][..count as usize])
    }

    /// Remembers where it goes.
    pub fn add_moves(&mut self, id: AgentId, number: u16, available: AvailableId, targets: &[AgentId]) {
        let known = &mut self.moves[id as usize];
        let place = known.partition_point(|known| (known.number, known.available) < (number, available));
        let range = (name(self.targets.len()), name(targets.len()));
        known.insert(place, Moves { number, available, targets: range });
        self.targets.extend_from_slice(targets);
    }
}

fn name(of: usize) -> u32 {
    u32::try_from(of).expect("a table of more than 2^32 entries does not fit in memory")
}
