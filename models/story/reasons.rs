//! Why a node drops a message: a sentence with numbers.

use super::lies::Truth;
use super::{Names, name};
use crate::crypto::Symbolic;
use crate::world::Modelled;
use pbft::crypto::Crypto;
use pbft::message::Message;
use pbft::rejection::Rejection;
use pbft::replica::{Bundle, Replica};
use pbft::types::{Cluster, Principal, View};

/// Where a message was dropped.
pub struct Receiver<'a, B: Bundle> {
    /// Who dropped it.
    pub node: Principal,
    /// Its state before, if it is a replica.
    pub replica: Option<&'a Replica<B>>,
    /// The replicas there are.
    pub cluster: Cluster,
    /// `L`.
    pub window: u64,
    /// `K`.
    pub interval: u64,
}

/// Says why `message` was dropped for `reason`.
pub fn refusal(
    reason: Rejection,
    message: &Message<Symbolic>,
    at: &Receiver<'_, Modelled>,
    truth: &Truth<'_>,
    names: &Names,
) -> String {
    let lie = || truth.lies(message).into_iter().next();
    let known = match (reason, message) {
        (Rejection::BadViewChangeSet, Message::NewView(m)) => Some(truth.why_bad_set(&m.content)),
        (Rejection::BadNewViewO, Message::NewView(m)) => {
            truth.o_fault(&m.content.view_changes, &m.content.pre_prepares)
        }
        (Rejection::BadPreparedCertificate | Rejection::BadStableCertificate, Message::ViewChange(m)) => {
            truth.why_bad_view_change(m)
        }
        (Rejection::BadPreparedCertificate | Rejection::BadStableCertificate, _) => lie(),
        (Rejection::Unwanted, Message::Block(block)) => Some(truth.why_unwanted(block)),
        _ => None,
    };
    known.or_else(|| of_state(reason, message, at, names)).or_else(lie).unwrap_or_else(|| plain(reason))
}

/// A reason that nothing more is known about.
pub fn plain(reason: Rejection) -> String {
    match reason {
        Rejection::BadViewChangeSet => "V does not prove the new view".into(),
        Rejection::BadNewViewO => "O is not what V determines".into(),
        Rejection::BadPreparedCertificate | Rejection::BadStableCertificate => {
            "a certificate in it does not prove what it claims".into()
        }
        _ => reason.as_str().replace('_', " "),
    }
}

/// Says why a message was dropped, as far as it and the receiver's state tell.
pub fn of_state<B: Bundle>(
    reason: Rejection,
    message: &Message<B::Crypto>,
    at: &Receiver<'_, B>,
    names: &Names,
) -> Option<String> {
    let signer = message.signer().map(name).unwrap_or_default();
    Some(match reason {
        Rejection::WrongView | Rejection::LeavingView => of_view(message, at),
        Rejection::OutOfWindow => of_window(message, at),
        Rejection::ConflictingPrePrepare => conflict(message, at, names),
        Rejection::Duplicate => duplicate(message, at),
        Rejection::NotPrimary => {
            let view = view_of(message).unwrap_or(View(0));
            format!("{signer} is not the primary of v{}: r{} is", view.0, at.cluster.primary(view).0)
        }
        Rejection::PrimaryPrepare => {
            format!("{signer} is the primary: its PRE-PREPARE is its vote, a PREPARE of it does not count")
        }
        Rejection::NullRequest => "the null request stands in the O of a NEW-VIEW only".into(),
        Rejection::NotACheckpoint => format!("checkpoints are taken at multiples of K = {}", at.interval),
        Rejection::Unwanted => match message {
            Message::Block(_) => format!("{} wants no block with this digest", name(at.node)),
            Message::Batch(_) => format!("{} lacks no batch with this digest", name(at.node)),
            _ => format!("{} has no use for it any more", name(at.node)),
        },
        Rejection::OldTimestamp => old_timestamp(message, at),
        Rejection::NotPending => match message {
            Message::Reply(m) => {
                format!("{} does not wait for a reply to t{}", name(at.node), m.content.timestamp.0)
            }
            _ => format!("{} does not wait for this", name(at.node)),
        },
        _ => return None,
    })
}

/// The view that a message is about.
fn view_of<C: Crypto>(message: &Message<C>) -> Option<View> {
    match message {
        Message::ViewChange(m) => Some(m.content.view),
        Message::NewView(m) => Some(m.content.view),
        Message::Reply(m) => Some(m.content.view),
        _ => message.slot().map(|(view, ..)| view),
    }
}

fn of_view<B: Bundle>(message: &Message<B::Crypto>, at: &Receiver<'_, B>) -> String {
    let (node, view) = (name(at.node), view_of(message).unwrap_or(View(0)).0);
    let Some(replica) = at.replica else { return format!("it is of v{view}") };
    match replica.leaving() {
        Some(to) if to.0 > view => {
            format!("{node} has sent VIEW-CHANGE for v{} and takes nothing of v{view} any more", to.0)
        }
        Some(to) => {
            format!("{node} is between v{} and v{}, and has not entered v{view}", replica.view().0, to.0)
        }
        None if matches!(message, Message::ViewChange(_) | Message::NewView(_)) => {
            format!("{node} is in v{} already, and views only grow", replica.view().0)
        }
        None => format!("it is of v{view}, and {node} is in v{}", replica.view().0),
    }
}

fn of_window<B: Bundle>(message: &Message<B::Crypto>, at: &Receiver<'_, B>) -> String {
    let n = match message {
        Message::Checkpoint(m) => Some(m.content.n),
        Message::Stable(m) => Some(m.n),
        Message::ViewChange(m) => Some(m.content.n),
        _ => message.slot().map(|(_, n, _)| n),
    };
    let h = at.replica.map_or(0, |replica| replica.durable().h().0);
    let high = h + at.window;
    match n {
        Some(n) => format!("n{} lies outside of {}'s window, {h} < n <= {high}", n.0, name(at.node)),
        None => format!("it lies outside of {}'s window, {h} < n <= {high}", name(at.node)),
    }
}

fn conflict<B: Bundle>(message: &Message<B::Crypto>, at: &Receiver<'_, B>, names: &Names) -> String {
    let node = name(at.node);
    let slot = message.slot();
    let known = slot.and_then(|(view, n, _)| at.replica?.durable().log.get(&(view, n)));
    match (known, slot) {
        (Some(known), Some((view, n, _))) => {
            let digest = names.of(known.content.digest);
            format!(
                "{node} has accepted {digest} in v{} at n{}, and takes no second digest there",
                view.0, n.0
            )
        }
        _ => format!("{node} takes one digest for each view and number, the first"),
    }
}

fn duplicate<B: Bundle>(message: &Message<B::Crypto>, at: &Receiver<'_, B>) -> String {
    let node = name(at.node);
    match message {
        Message::Prepare(_) | Message::Commit(_) | Message::Checkpoint(_) => {
            let signer = message.signer().map(name).unwrap_or_default();
            format!("{node} has a {} of {signer} for this already, and counts one", message.name())
        }
        Message::NewView(m) => {
            format!("{node} has entered v{} already, by the first NEW-VIEW", m.content.view.0)
        }
        _ => format!("{node} has it already"),
    }
}

fn old_timestamp<B: Bundle>(message: &Message<B::Crypto>, at: &Receiver<'_, B>) -> String {
    match (message, at.replica) {
        (Message::Request(m), Some(replica)) => {
            let last = replica.clients().last_timestamp(m.content.client);
            format!(
                "t{} is not above t{}, the last of c{} that {} has executed",
                m.content.timestamp.0,
                last.0,
                m.content.client.0,
                name(at.node)
            )
        }
        _ => "its timestamp is not above the last one executed".into(),
    }
}
