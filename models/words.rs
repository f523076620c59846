//! Messages in a few words. Every trace, story and report writes them in this form.

use crate::trace::said::Name;
use pbft::crypto::Crypto;
use pbft::message::Message;
use pbft::types::{Digest, Principal};

/// Writes a node as `r0` or `c0`.
pub fn name(node: Principal) -> String {
    Name(node).to_string()
}

/// Writes operations and results of worlds, which are words.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes a message as `PRE-PREPARE v0 n1 d=A`, with digests as `of` names them.
pub fn in_short<C: Crypto>(message: &Message<C>, of: &dyn Fn(Digest) -> String) -> String {
    // What a client of a world says to the others outside of the system.
    if let Message::Reply(m) = message
        && let Principal::Client(client) = m.signer
    {
        return format!("call {} of c{} has ended", m.content.timestamp.0, client.0);
    }
    let what = match message {
        Message::Request(m) => {
            let read_only = if m.content.read_only { " read-only" } else { "" };
            format!("c{} t{}{read_only}", m.content.client.0, m.content.timestamp.0)
        }
        Message::PrePrepare(..) | Message::Prepare(_) | Message::Commit(_) => match message.slot() {
            Some((view, n, digest)) => format!("v{} n{} d={}", view.0, n.0, of(digest)),
            None => String::new(),
        },
        Message::Checkpoint(m) => format!("n{} d={}", m.content.n.0, of(m.content.digest)),
        Message::Stable(m) => format!("n{} d={}", m.n.0, of(m.digest)),
        Message::ViewChange(m) => {
            let h = match m.content.n.0 {
                0 => String::new(),
                h => format!(" h={h}"),
            };
            let p = m.content.prepared.iter();
            let p = p.map(|c| format!("v{} n{} {}", c.view.0, c.n.0, of(c.digest)));
            format!("v{}{h} P={{{}}}", m.content.view.0, joined(p))
        }
        Message::NewView(m) => {
            let v = m.content.view_changes.iter().map(|m| name(m.signer));
            let o = m.content.pre_prepares.iter();
            let o = o.map(|e| format!("n{} {}", e.content.n.0, of(e.content.digest)));
            format!("v{} V={{{}}} O={{{}}}", m.content.view.0, joined(v), joined(o))
        }
        Message::Reply(m) => {
            format!("c{} t{} result {}", m.content.client.0, m.content.timestamp.0, text(&m.content.result))
        }
        Message::Batch(batch) => of(batch.digest()),
        Message::Block(_) | Message::Status(_) | Message::Fetch(_) => String::new(),
    };
    format!("{} {what}", message.name()).trim_end().to_string()
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
