//! What STATUS and FETCH would make correct replicas send again: nothing new, so worlds leave them out.

use super::config::Clients;
use super::explored::{State, World};
use super::tables::is_left_out;
use pbft::message::Message;
use pbft::replica::verify::verify;
use pbft::replica::{Event, Timer};

impl World {
    /// What the correct replicas would send if the status timer of each fired and every STATUS and FETCH arrived
    /// everywhere, as far as it cannot reach a replica anyway. Nothing, if leaving those out is sound.
    pub fn resent_but_not_available(&mut self, state: &State) -> Vec<String> {
        let available = self.all_available(state);
        let locals: Vec<_> = (self.correct.iter().enumerate())
            .map(|(position, &replica)| (replica, self.agents[position].agent(state[position]).local))
            .collect();
        let mut asked = Vec::new();
        for &(replica, local) in &locals {
            let effects = self.tables.try_step(replica, local, Event::Timeout(Timer::Status));
            asked.extend(effects.sends().map(|(_, message)| message.clone()));
        }
        let mut answers = asked.clone();
        for &(replica, local) in &locals {
            for message in &asked {
                if let Ok(verified) = verify(self.tables.setup(replica), message.clone()) {
                    let effects = self.tables.try_step(replica, local, Event::Message(verified));
                    answers.extend(effects.sends().map(|(_, message)| message.clone()));
                }
            }
        }
        let available: Vec<_> = available.iter().map(|&id| self.tables.message(id)).collect();
        let with_clients = self.config().clients == Clients::Actors;
        let is_new = |m: &&Message<_>| !is_left_out(m, with_clients) && !available.contains(m);
        answers.iter().filter(is_new).map(|m| format!("{m:?}")).collect()
    }
}
