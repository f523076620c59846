//! Running a replica, or clients, over UDP. Nothing here is protocol: what to do is decided by
//! [`Replica::step`](crate::replica::Replica::step) and [`Client::step`](crate::client::Client::step), and
//! done here.
//!
//! | file | does |
//! |---|---|
//! | `host` | one replica: receives, verifies, steps, makes durable, sends |
//! | `options` | what it is given, and why it may not start |
//! | `queues` | a queue for each host, and whose turn it is |
//! | `output` | records durable, then messages sent |
//! | `delays` | round trips, syncs, and so how long a request should take |
//! | `hosts` | which host speaks for whom |
//! | `sessions` | datagrams between hosts, authenticated and encrypted |
//! | `clients` | any number of clients over one socket |
//! | `transport` | messages over datagrams: fragments, and lost ones sent again |
//! | `frame`, `reassembly` | one datagram; messages put together within bounds |
//! | `control` | where a client is, who belongs to the cluster, and how a replica does: outside of the protocol |
//! | `asker` | asks replicas how they do |
//! | `store` | the directory of a replica |
//! | `backup` | the state at a stable checkpoint as a file, and the state that a new cluster begins with |
//! | `journal` | what a replica was given and asked for, written down and replayed |
//! | `counters`, `histogram` | what happened how often, and how long it took |
//!
//! # The path of a message
//!
//! One or more equal worker threads wait for datagrams, open them and queue what they hold by the host that
//! sent it ([`queues`]). Whoever takes the next message in turn decodes it, drops it if it cannot come from there
//! or [comes too often](host), or if the replica has no use for it any more ([`heeds`](crate::replica::Replica::heeds)), verifies it, and only then
//! takes the lock of the replica for one step. So signatures are verified in parallel and never under the
//! lock, and no message waits for another thread to wake up. The effects of a step join those of earlier ones
//! in a queue, in the order of the steps. One worker at a time empties the queue: it makes all records in it
//! durable, with one write and one `fdatasync`, and then sends all messages in it; meanwhile the others go
//! on, and what they add waits for the next turn. While more datagrams wait and there is something to make
//! durable, a worker goes on before it looks at the queue. That is group commit, and persist before send. A
//! [`Witness`], if there is one, sees each step before its effects are queued, and is told when the records
//! of a group are durable and its messages are about to leave.
//!
//! # Timers
//!
//! A thread looks at the two timers every 10 ms. The progress timer is a
//! [`ProgressTimer`](crate::presence::ProgressTimer): it fires only once a quorum has been heard for as long as
//! it runs. Who is heard is noted when a message has been verified, before its step.
//!
//! # Bounds
//!
//! When the queue of effects is full, workers wait, the buffer of the socket fills, and the kernel drops: the
//! protocol sends again what matters. Incomplete messages are bounded by sender ([`reassembly`]), messages
//! kept to send fragments again by number and bytes ([`transport`]), addresses of clients by the registered
//! clients.

mod asker;
pub mod backup;
pub mod clients;
pub mod control;
#[doc(hidden)]
pub mod counters;
mod delays;
mod frame;
pub mod histogram;
pub mod host;
mod hosts;
pub mod journal;
mod options;
mod output;
mod queues;
mod reassembly;
pub mod sessions;
pub mod store;
#[doc(hidden)]
pub mod transport;

pub use asker::{Asker, Judge};
pub use clients::{Clients, Completion};
pub use host::Host;
pub use hosts::{Hosts, HostsError, Role};
pub use options::{Options, Patience, StartError, StopError, Witness};
