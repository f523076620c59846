//! Which actions of the abstract protocol a step of the real replica is, from what it records and reports alone.

use super::seen::{index, number_of};
use super::{Act, Path};
use crate::crypto::Symbolic;
use crate::world::{Input, LocalId, Move, Tables};
use pbft::replica::{Effect, Effects, Fact, Record};
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use pbft_properties::proof::Small;

/// Names the actions of one replica.
struct Naming<'a> {
    small: &'a Small,
    replica: ReplicaId,
    digests: &'a [Digest],
    path: Vec<Act>,
}

/// The actions that a step is.
pub(super) fn path(
    tables: &Tables,
    small: &Small,
    replica: ReplicaId,
    (local, step): (LocalId, &Move),
    digests: &[Digest],
) -> Path {
    let setup = tables.setup(replica);
    let mut state = tables.local(local).replica.clone();
    let mut naming = Naming { small, replica, digests, path: Vec::new() };
    let messages = step.path.iter().copied().map(Input::Message);
    let inputs = messages.chain(step.path.is_empty().then_some(Input::TimeOut));
    for event in inputs.filter_map(|input| tables.event(replica, input)) {
        let mut effects = Effects::new();
        let is_primary = |view| setup.cluster.primary(view) == replica;
        state.step(setup, event, &mut effects);
        for effect in effects {
            naming.effect(&effect, state.durable().h(), &is_primary)?;
        }
    }
    Ok(naming.path.into())
}

impl Naming<'_> {
    fn effect(
        &mut self,
        effect: &Effect<Symbolic>,
        h: SeqNo,
        is_primary: &dyn Fn(View) -> bool,
    ) -> Result<(), String> {
        match effect {
            Effect::Persist(Record::PrePrepared(signed, _)) => {
                let of = signed.content;
                self.votes((of.view, of.n, of.digest), is_primary)
            }
            Effect::Persist(Record::Prepared(of)) => self.about(&["commit"], (of.view, of.n, of.digest)),
            Effect::Fact(Fact::Committed { view, n, digest }) => {
                self.about(&["committed_local"], (*view, *n, *digest))
            }
            Effect::Persist(Record::Executed(n, digest)) => {
                let with = [("n", index(n.0)), ("d", number_of(*digest, self.digests)?)];
                self.act(&["execute"], &with);
                Ok(())
            }
            Effect::Persist(Record::ViewChange(m)) => {
                self.act(&["view_change"], &[("v", index(m.content.view.0))]);
                Ok(())
            }
            Effect::Persist(Record::NewView(m)) => {
                self.act(&["enter"], &[("v", index(m.content.view.0))]);
                for entry in m.content.pre_prepares.iter().filter(|entry| entry.content.n > h) {
                    let of = entry.content;
                    self.votes((of.view, of.n, of.digest), is_primary)?;
                }
                Ok(())
            }
            Effect::Persist(Record::Stable(_) | Record::Snapshot(_)) => {
                Err("a checkpoint is stable, and this world has none".into())
            }
            _ => Ok(()),
        }
    }

    /// A digest is accepted: above view 0 because the NEW-VIEW allows it.
    fn votes(&mut self, of: (View, SeqNo, Digest), is_primary: &dyn Fn(View) -> bool) -> Result<(), String> {
        if of.0 > View(0) {
            self.about(&["new_view_entry", "new_view_open"], of)?;
        }
        self.about(&[if is_primary(of.0) { "pre_prepare" } else { "prepare" }], of)
    }

    fn about(&mut self, actions: &[&str], (view, n, digest): (View, SeqNo, Digest)) -> Result<(), String> {
        let digest = number_of(digest, self.digests)?;
        self.act(actions, &[("v", index(view.0)), ("n", index(n.0)), ("d", digest)]);
        Ok(())
    }

    fn act(&mut self, actions: &[&str], with: &[(&str, usize)]) {
        let replica = [("i", usize::from(self.replica.0))];
        let with: Vec<(&str, usize)> = replica.iter().chain(with).copied().collect();
        let told: Vec<String> = with.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let name = actions.join(" or ");
        let words = format!("{name}({})", told.join(", "));
        let steps = actions.iter().flat_map(|action| self.small.steps(action, &with)).collect();
        self.path.push(Act { name, words, steps });
    }
}
