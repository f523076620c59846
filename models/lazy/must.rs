//! What must have been delivered and sent: on every path to a core, and on every path to a core with
//! something in one of its cells.
//!
//! It is the greatest solution of "what must have been delivered before a state is what is common to all
//! steps to it: what must have been delivered before the step, and by it", over the local system as it was
//! walked, mixtures and all. So it is no more than what has been delivered on any real path. What must have
//! been sent is worked out along with it.

use super::cells::{CellId, CellSet, ValueId, Values, each};
use super::local::{CoreId, LocalSystem};
use super::steps::{Common, Step};
#[cfg(test)]
use crate::world::Local;
use crate::world::{MessageId, Proposal, Tables, carried_by};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};

/// A set of events, by their numbers, and after them of messages sent.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Events(Box<[u64]>);

impl Events {
    pub(super) fn none(of: usize) -> Self {
        Events(vec![0; of.div_ceil(64)].into())
    }

    pub(super) fn all(of: usize) -> Self {
        Events(vec![u64::MAX; of.div_ceil(64)].into())
    }

    pub(super) fn insert(&mut self, event: usize) {
        self.0[event / 64] |= 1 << (event % 64);
    }

    pub(super) fn contains(&self, event: usize) -> bool {
        self.0[event / 64] & 1 << (event % 64) != 0
    }

    /// The numbers that are in both, ascending.
    pub(super) fn both<'a>(&'a self, other: &'a Events) -> impl Iterator<Item = usize> + 'a {
        let words = self.0.iter().zip(&other.0).map(|(one, other)| one & other).enumerate();
        words.flat_map(|(place, word)| each(word).map(move |bit| 64 * place + usize::from(bit)))
    }

    fn join(&mut self, other: &Events) {
        self.0.iter_mut().zip(&other.0).for_each(|(one, other)| *one |= other);
    }

    /// Keeps what is in both; whether that is less.
    pub(super) fn meet(&mut self, other: &Events) -> bool {
        let mut less = false;
        for (one, other) in self.0.iter_mut().zip(&other.0) {
            less |= *one & !other != 0;
            *one &= other;
        }
        less
    }

    fn meet_sum(&mut self, one: &Events, other: &Events) -> bool {
        let mut less = false;
        for (all, (one, other)) in self.0.iter_mut().zip(one.0.iter().zip(&other.0)) {
            less |= *all & !(one | other) != 0;
            *all &= one | other;
        }
        less
    }
}

/// Where what must have been delivered for a value of a cell at a core stands.
type Place = u32;

/// What is needed of a step.
struct Arrow {
    from: CoreId,
    to: CoreId,
    event: u32,
    /// What it sends, by the numbers after those of events.
    sends: Box<[u32]>,
    /// For each cell that it has been told of, the places of what the cell can hold by that.
    told: Box<[Box<[Place]>]>,
    /// The places of what it leaves in cells.
    left: Box<[Place]>,
    /// The flows that it is part of.
    flows: Box<[u32]>,
}

/// Something goes on in a cell from one core to another.
struct Flow {
    /// Where it stands before; if nowhere, it tells no more than the core.
    before: Option<Place>,
    from: CoreId,
    after: Place,
    /// What must have been delivered before and by any step of which it is part.
    by: Events,
}

/// What must have been delivered.
pub(super) struct Must {
    cores: Vec<Events>,
    /// For each core and cell that can hold several things, each of them. The only thing that a cell can hold
    /// tells no more than the core.
    values: Vec<Events>,
    arrows: Vec<Arrow>,
    sent: Sent,
}

impl Must {
    pub(super) fn of(tables: &Tables, system: &LocalSystem) -> Self {
        let sent = Sent::of(tables, system);
        let events = sent.end();
        let places = Places::of(system);
        let mut flows = IndexMap::default();
        let arrows = arrows(system, &places, &sent, &mut flows);
        let mut must = Must {
            cores: vec![Events::all(events); system.cores()],
            values: vec![Events::all(events); places.count],
            arrows,
            sent,
        };
        // At the start nothing has been delivered, and each cell holds what has its first name.
        let mut first = Events::none(events);
        must.sent.numbers(&system.start.1).for_each(|number| first.insert(number as usize));
        for cell in 0..system.cells.count() {
            for place in places.of_values(0, cell, 1) {
                must.values[place as usize] = first.clone();
            }
        }
        must.cores[0] = first;
        let flow = |&(from, before, after): &FlowKey| Flow { before, from, after, by: Events::all(events) };
        let mut flows: Vec<Flow> = flows.keys().map(flow).collect();
        while must.tighten(&mut flows) {}
        must
    }

    /// What must have been delivered before a step, and by it.
    pub(super) fn by(&self, step: usize) -> Events {
        let arrow = &self.arrows[step];
        let mut events = self.cores[arrow.from as usize].clone();
        for places in &arrow.told {
            let mut all = places.iter().map(|&place| &self.values[place as usize]);
            let Some(first) = all.next() else { continue };
            if places.len() == 1 {
                events.join(first);
                continue;
            }
            let mut common = first.clone();
            for other in all {
                common.meet(other);
            }
            events.join(&common);
        }
        events.insert(arrow.event as usize);
        arrow.sends.iter().for_each(|&number| events.insert(number as usize));
        events
    }

    /// Everything that has been sent on every path to a core.
    pub(super) fn sent(&self, core: CoreId) -> impl Iterator<Item = MessageId> {
        let known = &self.cores[core as usize];
        let all = self.sent.messages.iter().enumerate();
        all.filter(|&(index, _)| known.contains(self.sent.after + index)).map(|(_, &message)| message)
    }

    /// Whether a PRE-PREPARE has been sent in the `O` of a NEW-VIEW on every path to a core, whichever that was.
    pub(super) fn has_carried(&self, core: CoreId, proposal: &Proposal) -> bool {
        let place = self.sent.carried.get_index_of(proposal);
        let first = self.sent.after + self.sent.messages.len();
        place.is_some_and(|place| self.cores[core as usize].contains(first + place))
    }

    /// Whether anything turns out not to be a must after all.
    fn tighten(&mut self, flows: &mut [Flow]) -> bool {
        let mut changed = false;
        for step in 0..self.arrows.len() {
            let by = self.by(step);
            let arrow = &self.arrows[step];
            changed |= self.cores[arrow.to as usize].meet(&by);
            for &place in &arrow.left {
                changed |= self.values[place as usize].meet(&by);
            }
            for &flow in &arrow.flows {
                flows[flow as usize].by.meet(&by);
            }
        }
        for flow in flows {
            let before = match flow.before {
                Some(place) => self.values[place as usize].clone(),
                None => self.cores[flow.from as usize].clone(),
            };
            changed |= self.values[flow.after as usize].meet_sum(&before, &flow.by);
        }
        changed
    }
}

/// The messages that some step sends, numbered after the events, and after them what NEW-VIEWs among them have in
/// their `O`: a replica can come to a core by different NEW-VIEWs with the same PRE-PREPARE.
struct Sent {
    after: usize,
    messages: IndexSet<MessageId, FixedState>,
    carried: IndexSet<Proposal, FixedState>,
    /// For each message the places of what it carries.
    carries: Vec<Box<[usize]>>,
}

impl Sent {
    fn of(tables: &Tables, system: &LocalSystem) -> Self {
        let sends = system.steps.iter().flat_map(|(step, _)| step.sends.iter());
        let messages: IndexSet<MessageId, FixedState> = system.start.1.iter().chain(sends).copied().collect();
        let mut carried: IndexSet<Proposal, FixedState> = IndexSet::default();
        let carries = messages.iter().map(|&id| {
            let proposals = carried_by(tables.message(id)).iter();
            proposals.map(|proposal| carried.insert_full(proposal.clone()).0).collect()
        });
        let carries = carries.collect();
        Sent { after: system.crash_number() as usize + 1, messages, carried, carries }
    }

    /// How many numbers there are, those of events included.
    fn end(&self) -> usize {
        self.after + self.messages.len() + self.carried.len()
    }

    fn numbers<'a>(&'a self, sends: &'a [MessageId]) -> impl Iterator<Item = u32> + 'a {
        let index = |message| self.messages.get_index_of(message).expect("all that is sent is there");
        let carried = self.after + self.messages.len();
        let numbers = move |message| {
            let index = index(message);
            let carries = self.carries[index].iter().map(move |place| carried + place);
            [self.after + index].into_iter().chain(carries)
        };
        let number = |number| u32::try_from(number).expect("a world has few messages");
        sends.iter().flat_map(numbers).map(number)
    }
}

/// The places of what cells can hold.
struct Places {
    /// For each core, its cells that can hold several things.
    several: Vec<CellSet>,
    /// For each core and such a cell, the first place, and what it can hold.
    first: IndexMap<(CoreId, CellId), (Place, Values), FixedState>,
    count: usize,
}

impl Places {
    fn of(system: &LocalSystem) -> Self {
        let mut places = Places { several: Vec::new(), first: IndexMap::default(), count: 0 };
        for core in (0..).take(system.cores()) {
            places.several.push(0);
            for cell in 0..system.cells.count() {
                let held = system.held(core, cell);
                if held.count_ones() > 1 {
                    let place = Place::try_from(places.count).expect("fewer places than fit in memory");
                    places.several[core as usize] |= 1 << cell;
                    places.first.insert((core, cell), (place, held));
                    places.count += held.count_ones() as usize;
                }
            }
        }
        places
    }

    /// The places of these values of a cell at a core.
    fn of_values(&self, core: CoreId, cell: CellId, values: Values) -> Vec<Place> {
        let Some(&(first, held)) = self.first.get(&(core, cell)) else { return Vec::new() };
        let place = |value: ValueId| first + (held & ((1 << value) - 1)).count_ones();
        each(held & values).map(place).collect()
    }
}

/// From which core, from where, to where something goes on.
type FlowKey = (CoreId, Option<Place>, Place);

fn arrows(
    system: &LocalSystem,
    places: &Places,
    sent: &Sent,
    flows: &mut IndexMap<FlowKey, (), FixedState>,
) -> Vec<Arrow> {
    let arrow = |(step, common): (&Step, &Common)| {
        let (from, to) = (step.from, step.to);
        let told = step.contents.iter().chain(&common.told);
        let told = told.map(|&name| {
            let (cell, answer) = system.cells.named(name);
            places.of_values(from, cell, system.cells.values(cell, answer)).into()
        });
        let left = step.left.iter();
        let left = left.flat_map(|&(cell, value)| places.of_values(to, cell, 1 << value)).collect();
        let mut of_flows = Vec::new();
        let several = (0..system.cells.count()).filter(|cell| places.several[to as usize] & 1 << cell != 0);
        for cell in several.filter(|_| from != to) {
            for value in each(common.onward.of(cell) & system.held(from, cell)) {
                let before = places.of_values(from, cell, 1 << value).first().copied();
                for after in places.of_values(to, cell, 1 << value) {
                    let (flow, _) = flows.insert_full((from, before, after), ());
                    of_flows.push(u32::try_from(flow).expect("fewer flows than fit in memory"));
                }
            }
        }
        let sends = sent.numbers(&step.sends).collect();
        Arrow { from, to, event: step.event, sends, told: collected(told), left, flows: of_flows.into() }
    };
    system.steps.iter().map(arrow).collect()
}

fn collected(told: impl Iterator<Item = Box<[Place]>>) -> Box<[Box<[Place]>]> {
    let mut told: Vec<_> = told.filter(|places| !places.is_empty()).collect();
    told.sort_unstable();
    told.dedup();
    told.into()
}

#[cfg(test)]
impl Must {
    /// The same, if nothing were known.
    pub(super) fn forgotten(mut self) -> Self {
        for known in self.cores.iter_mut().chain(&mut self.values) {
            *known = Events::none(64 * known.0.len());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::explored;
    use super::super::theorem::{Whole, walk};
    use super::*;
    use crate::lazy::Conditions;
    use pbft::types::ReplicaId;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    impl Events {
        fn is_within(&self, other: &Events) -> bool {
            self.0.iter().zip(&other.0).all(|(one, other)| one & !other == 0)
        }
    }

    /// What is in each cell.
    fn held(system: &mut LocalSystem, at: &Local) -> impl Iterator<Item = (CellId, ValueId)> + use<> {
        let cells = 0..system.cells.count();
        let value = |cell| (cell, system.cells.held_by(at, cell).expect("it has a name"));
        cells.map(value).collect::<Vec<_>>().into_iter()
    }

    /// A real replica, taken at random through its local system: whatever must have been delivered and sent by then
    /// has been, and everything that it becomes is there.
    #[test]
    fn what_must_have_been_has_been_on_every_path_of_a_real_replica() {
        let (world, available) = explored(None);
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let (mut steps, mut tell_more) = (0, 0);
        for replica in [ReplicaId(1), ReplicaId(2)] {
            let whole = walk(&world, replica, &available, &mut Conditions::default(), &mut |_| None);
            let Whole { mut system, must, mut tables } = whole.expect("nothing fails");
            let places = Places::of(&system);
            let mut leaving: IndexMap<(CoreId, u32), Vec<usize>, FixedState> = IndexMap::default();
            for (number, (step, _)) in system.steps.iter().enumerate() {
                leaving.entry((step.from, step.event)).or_default().push(number);
            }
            for _ in 0..300 {
                let (mut at, mut core) = (system.start.0.clone(), 0);
                let mut delivered = Events::none(must.sent.end());
                must.sent.numbers(&system.start.1).for_each(|number| delivered.insert(number as usize));
                for _ in 0..60 {
                    let here: Vec<Place> = held(&mut system, &at)
                        .flat_map(|(cell, value)| places.of_values(core, cell, 1 << value))
                        .collect();
                    let event = random.random_range(0..system.events.len());
                    let number = u32::try_from(event).unwrap();
                    if !system.can_happen(core, number) {
                        continue;
                    }
                    let before = at.replica.clone();
                    let sends = tables.take_held(replica, (&before, &mut at), system.events[event].clone());
                    at.replica.keep_services(&before);
                    let to = system.find(&tables, &at).expect("whatever a replica becomes is walked");
                    delivered.insert(event);
                    must.sent.numbers(&sends).for_each(|number| delivered.insert(number as usize));
                    for &step in leaving.get(&(core, number)).into_iter().flatten() {
                        let arrow = &must.arrows[step];
                        let is_told = |places: &[Place]| places.iter().any(|place| here.contains(place));
                        if arrow.to == to && arrow.told.iter().all(|places| is_told(places)) {
                            // Those of another answer send something else.
                            let same =
                                system.steps.iter().nth(step).is_some_and(|(step, _)| step.sends == sends);
                            assert!(!same || must.by(step).is_within(&delivered), "before {step}");
                        }
                    }
                    core = to;
                    assert!(must.cores[core as usize].is_within(&delivered), "{core}");
                    for (cell, value) in held(&mut system, &at) {
                        assert!(system.held(core, cell) & 1 << value != 0, "{core}: {cell}");
                        for place in places.of_values(core, cell, 1 << value) {
                            let known = &must.values[place as usize];
                            assert!(known.is_within(&delivered), "{core}: {cell}, {value}");
                            tell_more += usize::from(!known.is_within(&must.cores[core as usize]));
                        }
                    }
                    steps += 1;
                }
            }
        }
        assert!(steps > 10_000 && tell_more > 1_000, "{steps} {tell_more}");
    }
}
