use foldhash::fast::FixedState;
use indexmap::IndexSet;
use pbft::replica::{Effect, Effects, Event, Fact, Replica, Timer, verify::verify};
use pbft::types::*;
use pbft_models::engine::{Limits, explore};
use pbft_models::world::{Delivery, Local, Modelled, World, WorldConfig};
use pbft_properties::History;
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let views: u64 = args[1].parse().unwrap();
    let byz: Vec<u16> = args[2].split(',').filter(|s| !s.is_empty()).map(|s| s.parse().unwrap()).collect();
    let requests: u32 = args[3].parse().unwrap();
    let cap: usize = args[4].parse().unwrap();
    let config = WorldConfig {
        byzantine: byz.iter().copied().map(ReplicaId).collect(),
        max_view: View(views),
        ..WorldConfig::new(Cluster::new(4, 1), requests)
    };
    let mut world = World::new(config.clone(), Delivery::Lazy).unwrap();
    let found = explore(&mut world, Limits::default(), &mut |_| true);
    println!("{:?}", found.states);
    let all = world.network().ever_available();
    for &r in world.correct() {
        let setup = world.tables().setup(r);
        let mut events: Vec<Event<_>> = all
            .iter()
            .filter_map(|&id| verify(setup, world.tables().message(id).clone()).ok())
            .map(Event::Message)
            .collect();
        events.push(Event::Timeout(Timer::Progress { backoff: 0 }));
        let mut effects = Effects::new();
        let start = Replica::<Modelled>::start(setup, None, &mut effects).unwrap();
        let mut states: IndexSet<Local, FixedState> = IndexSet::default();
        states.insert(Local { replica: start, history: History::default() });
        let began = Instant::now();
        let (mut next, mut edges, mut tried) = (0, 0u64, 0u64);
        let mut normal: IndexSet<Replica<Modelled>, FixedState> = IndexSet::default();
        while next < states.len() && states.len() < cap {
            let from = states.get_index(next).unwrap().clone();
            next += 1;
            normal.insert(from.replica.normal_form(setup));
            let mut scratch = from.replica.clone();
            for event in &events {
                if matches!(event, Event::Timeout(_))
                    && from.replica.leaving().unwrap_or(from.replica.view()).0 >= views
                {
                    continue;
                }
                tried += 1;
                let mut effects = Effects::new();
                scratch.step(setup, event.clone(), &mut effects);
                if scratch == from.replica {
                    continue;
                }
                edges += 1;
                let mut history = from.history.clone();
                for effect in effects {
                    if let Effect::Fact(fact) = effect {
                        if !matches!(fact, Fact::ViewLeft { .. } | Fact::PrePrepared { .. }) {
                            history.record(&fact);
                        }
                    }
                }
                states.insert(Local { replica: scratch, history });
                scratch = from.replica.clone();
            }
        }
        println!(
            "r{}: {} events, {} states ({} expanded), {} normal forms, {} edges, {} tried, {:.1} s",
            r.0,
            events.len(),
            states.len(),
            next,
            normal.len(),
            edges,
            tried,
            began.elapsed().as_secs_f64()
        );
    }
}
