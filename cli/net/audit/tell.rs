//! What an audit prints.

use super::{Judged, Replayed};
use crate::say;
use pbft::runtime::journal::Summary;
use pbft::types::ReplicaId;
use pbft_properties::Violation;
use serde_json::json;
use std::path::Path;

impl Replayed {
    /// From where on it speaks, if that is not the replica's first start.
    pub(super) fn scope(&self) -> Option<String> {
        let Summary { first_life, from, gaps, .. } = self.summary;
        let gap = (gaps > 0).then(|| format!("segments are missing in {gaps} places: known after the last"));
        let from = from.map(|n| {
            let segment = self.segment;
            format!(
                "judged after n = {}: what came before segment {segment}, in life {first_life}, is not here",
                n.0
            )
        });
        let skipped = (self.skipped > 0)
            .then(|| format!("{} steps cannot be replayed: the state before them is not here", self.skipped));
        let said: Vec<String> = [gap, from, skipped].into_iter().flatten().collect();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

pub(super) fn tell(id: ReplicaId, one: &Replayed) {
    let Summary { first_life, lives, steps, undone, faulty_from, .. } = one.summary;
    let mut notes = Vec::new();
    if undone > 0 {
        notes.push(format!("{undone} steps were not carried out"));
    }
    if one.incomplete > 0 {
        notes.push(format!("{} bytes of an entry that was being written at the end", one.incomplete));
    }
    notes.extend(one.scope());
    match faulty_from {
        Some(life) if life <= first_life => {
            notes.push(format!("life {life} started from nothing: replayed, and not judged"));
        }
        Some(life) => {
            notes.push(format!("life {life} starts from nothing: judged up to there, and faulty since"));
        }
        None => {}
    }
    if let Some(divergence) = &one.divergence {
        notes.push(format!("DIVERGES in {divergence}"));
    }
    if let Some(damage) = &one.damage {
        notes.push(format!("not read to its end: {damage}"));
    }
    notes.extend(one.held.words());
    let notes = if notes.is_empty() { String::new() } else { format!("; {}", notes.join("; ")) };
    say!("replica {}: {lives} lives, {steps} steps{notes}", id.0);
}

pub(super) fn tell_verdicts(found: &Judged) {
    let Judged { judged, not_judged, from, .. } = found;
    let ids = |ids: &mut dyn Iterator<Item = &ReplicaId>| {
        ids.map(|id| id.0.to_string()).collect::<Vec<_>>().join(", ")
    };
    say!("judged: replicas {}", ids(&mut judged.iter()));
    if let Some(all) = from.values().max() {
        say!(
            "not judged: what replicas {} did before their journals begin; all that are judged are known after n = {}",
            ids(&mut from.keys()),
            all.0
        );
    }
    if !not_judged.is_empty() {
        say!("not judged: replicas {}", ids(&mut not_judged.iter()));
    }
    let partly = found.replayed.values().any(Replayed::is_partly_read);
    let scope = if partly {
        " as far as the journals can be read"
    } else if from.is_empty() {
        ""
    } else {
        " from where the journals begin"
    };
    for (name, verdict) in &found.verdicts {
        match verdict {
            Ok(()) if judged.is_empty() => say!("{name}: not judged"),
            Ok(()) => say!("{name}: holds{scope}"),
            Err(violation) => say!("{name}: VIOLATED: {}", violation.what),
        }
    }
}

pub(super) fn print_json(found: &Judged) {
    let replica = |(id, one): (&ReplicaId, &Replayed)| {
        let shown = |path: &Path| path.display().to_string();
        json!({
            "replica": id.0,
            "journal": shown(&one.path),
            "first_segment": one.segment,
            "first_life": one.summary.first_life,
            "lives": one.summary.lives,
            "steps": one.summary.steps,
            "undone_steps": one.summary.undone,
            "skipped_steps": one.skipped,
            "gaps": one.summary.gaps,
            "incomplete_bytes": one.incomplete,
            "judged": found.judged.contains(id),
            "judged_after": found.from.get(id).map_or(0, |n| n.0),
            "faulty_from_life": one.summary.faulty_from,
            "steps_of_the_proved_protocol": one.held.steps,
            "actions": one.held.actions,
            "breach": one.held.breach(),
            "divergence": one.divergence,
            "damage": one.damage,
        })
    };
    let property = |(name, verdict): &(&str, Result<(), Violation>)| {
        let violation = verdict.as_ref().err().map(|violation| violation.what.clone());
        json!({ "property": name, "holds": verdict.is_ok(), "violation": violation })
    };
    let object = json!({
        "replicas": found.replayed.iter().map(replica).collect::<Vec<_>>(),
        "not_judged": found.not_judged.iter().map(|id| id.0).collect::<Vec<_>>(),
        "all_judged_after": found.from.values().max().map_or(0, |n| n.0),
        "read_to_the_end": !found.replayed.values().any(Replayed::is_partly_read),
        "accepted_results": found.accepted,
        "properties": found.verdicts.iter().map(property).collect::<Vec<_>>(),
    });
    say!("{object}");
}
