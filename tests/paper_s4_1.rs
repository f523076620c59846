//! OSDI'99 §4.1, clients and requests, and §5.1, read-only requests, clause by clause.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod support;

use pbft::client::{Client, ClientDurable, ClientEffect, ClientEvent, ClientSetup};
use pbft::crypto::Signed;
use pbft::kv::{Operation, Outcome};
use pbft::message::{Message, Reply, Request};
use pbft::rejection::Rejection;
use pbft::replica::{Destination, Effects, Replica};
use pbft::rules::MAX_BACKOFF;
use pbft::types::{Bytes, ClientId, Cluster, ReplicaId, Timestamp, View};
use pbft_models::mutants::Rulebook;
use support::signing::no_signature;
use support::{C, Msg, Net, Step, batch, only, small, was};

/// Client 0 of a cluster.
struct Caller {
    net: Net,
    setup: ClientSetup<C, Rulebook>,
    client: Client<C>,
}

impl Caller {
    fn new(n: u16, f: u16) -> Self {
        let net = Net::new(n, f, small());
        let keys = net.client_keys[0].clone();
        let setup =
            ClientSetup { id: ClientId(0), cluster: Cluster::new(n, f), keys, rules: Rulebook::under_test() };
        Caller { net, setup, client: Client::new(ClientDurable::default()) }
    }

    fn step(&mut self, event: ClientEvent<C>) -> Vec<ClientEffect<C>> {
        let mut effects = Vec::new();
        self.client.step(&self.setup, event, &mut effects);
        effects
    }

    fn invoke(&mut self, read_only: bool, clock: u64) -> Vec<ClientEffect<C>> {
        let operation = Operation::Get { key: Bytes::from(&b"k"[..]) }.to_bytes();
        self.step(ClientEvent::Invoke { operation, read_only, clock: Timestamp(clock) })
    }

    /// Delivers a message after verification; the result if that completed the request.
    fn deliver(&mut self, message: Msg) -> Result<Option<String>, Rejection> {
        let message = Client::verify(&self.setup, message)?;
        let effects = self.step(ClientEvent::Message(message));
        if let Some(ClientEffect::Reject(reason)) = effects.first() {
            return Err(*reason);
        }
        Ok(effects.iter().find_map(completed))
    }

    /// Delivers the reply of a replica to the request with timestamp `t`.
    fn reply(&mut self, by: usize, v: u64, t: u64, result: &str) -> Result<Option<String>, Rejection> {
        self.deliver(self.net.reply(by, v, t, 0, result))
    }
}

fn completed(effect: &ClientEffect<C>) -> Option<String> {
    match effect {
        ClientEffect::Completed { result, .. } => Some(String::from_utf8(result.to_vec()).unwrap()),
        _ => None,
    }
}

/// Where the requests in these effects go, and their timestamps and whether they are read-only.
fn requests(effects: &[ClientEffect<C>]) -> Vec<(Destination, u64, bool)> {
    let sent = |effect: &ClientEffect<C>| match effect {
        ClientEffect::Send(to, Message::Request(m)) => {
            Some((*to, m.content.timestamp.0, m.content.read_only))
        }
        _ => None,
    };
    effects.iter().filter_map(sent).collect()
}

const TO_0: Destination = Destination::Replica(ReplicaId(0));

// §4.1: the client sends the request to the replica it believes to be the primary.

#[test]
fn a_request_goes_to_the_presumed_primary_only_with_a_timer() {
    let mut caller = Caller::new(4, 1);
    let effects = caller.invoke(false, 0);
    assert_eq!(requests(&effects), [(TO_0, 1, false)]);
    assert_eq!(effects.last(), Some(&ClientEffect::SetTimer { backoff: 0 }));
    let ClientEffect::Send(_, message) = &effects[1] else { panic!("{effects:?}") };
    assert_eq!(caller.net.deliver(0, message.clone()).names(), ["PRE-PREPARE"]);
}

#[test]
fn a_client_has_one_request_outstanding() {
    let mut caller = Caller::new(4, 1);
    caller.invoke(false, 0);
    assert_eq!(caller.invoke(false, 0), [ClientEffect::Reject(Rejection::Busy)]);
}

// §4.1: timestamps are totally ordered, later requests have higher ones.

#[test]
fn a_timestamp_is_the_clock_or_one_above_the_last() {
    let mut caller = Caller::new(4, 1);
    for (clock, expected) in [(0, 1), (100, 100), (100, 101), (7, 102), (103, 103)] {
        assert_eq!(requests(&caller.invoke(false, clock)), [(caller_primary(&caller), expected, false)]);
        for by in [1, 2] {
            caller.reply(by, 0, expected, "r").unwrap();
        }
    }
}

fn caller_primary(caller: &Caller) -> Destination {
    Destination::Replica(caller.setup.cluster.primary(caller.client.view()))
}

#[test]
fn a_timestamp_is_durable_before_the_request_leaves_and_is_not_used_again() {
    let mut caller = Caller::new(4, 1);
    let effects = caller.invoke(false, 5);
    let [ClientEffect::Persist(durable), ClientEffect::Send(..), ClientEffect::SetTimer { .. }] = effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(durable.last, Timestamp(5));
    caller.client = Client::new(durable);
    assert_eq!(requests(&caller.invoke(false, 0)), [(TO_0, 6, false)]);
}

// §4.1: on a time-out the client sends the request to all replicas.

#[test]
fn on_a_time_out_the_same_request_goes_to_all_replicas_ever_more_slowly() {
    let mut caller = Caller::new(4, 1);
    caller.invoke(false, 0);
    for round in 1..14u8 {
        let effects = caller.step(ClientEvent::Timeout);
        assert_eq!(requests(&effects), [(Destination::Replicas, 1, false)]);
        let backoff = round.min(MAX_BACKOFF);
        assert_eq!(effects.last(), Some(&ClientEffect::SetTimer { backoff }));
    }
}

#[test]
fn a_time_out_with_nothing_outstanding_sends_nothing() {
    let mut caller = Caller::new(4, 1);
    assert_eq!(caller.step(ClientEvent::Timeout), [ClientEffect::Reject(Rejection::NotPending)]);
}

// §4.1: the client waits for f + 1 replies with valid signatures of different replicas, same t and r.

#[test]
fn a_result_is_accepted_with_exactly_f_plus_one_matching_replies() {
    for (n, f) in [(4, 1), (5, 1), (7, 2)] {
        let mut caller = Caller::new(n, f);
        caller.invoke(false, 0);
        for by in 0..usize::from(f) {
            assert_eq!(caller.reply(by, 0, 1, "r"), Ok(None), "n={n} by={by}");
        }
        assert_eq!(caller.reply(usize::from(f), 0, 1, "r"), Ok(Some("r".into())), "n={n}");
        assert!(!caller.client.is_waiting());
        assert_eq!(caller.reply(3, 0, 1, "r"), Err(Rejection::NotPending));
    }
}

#[test]
fn conflicting_replies_and_one_replica_twice_are_no_result() {
    let mut caller = Caller::new(4, 1);
    caller.invoke(false, 0);
    assert_eq!(caller.reply(0, 0, 1, "a"), Ok(None));
    assert_eq!(caller.reply(0, 0, 1, "a"), Ok(None), "one replica twice");
    assert_eq!(caller.reply(1, 0, 1, "b"), Ok(None), "f + 1 that conflict");
    assert_eq!(caller.reply(2, 0, 1, "c"), Ok(None));
    assert_eq!(caller.reply(0, 0, 1, "d"), Ok(None), "a second answer replaces the first");
    assert_eq!(caller.reply(3, 0, 1, "b"), Ok(Some("b".into())));
}

#[test]
fn replies_to_other_requests_or_clients_do_not_count() {
    let mut caller = Caller::new(4, 1);
    caller.invoke(false, 5);
    assert_eq!(caller.reply(0, 0, 5, "r"), Ok(None));
    for t in [4, 6] {
        assert_eq!(caller.reply(1, 0, t, "r"), Err(Rejection::NotPending));
    }
    let anothers = caller.net.reply(1, 0, 5, 1, "r");
    assert_eq!(caller.deliver(anothers), Err(Rejection::NotPending));
    assert_eq!(caller.reply(1, 0, 5, "r"), Ok(Some("r".into())));
}

#[test]
fn replies_without_their_replicas_signature_do_not_count() {
    let mut caller = Caller::new(4, 1);
    caller.invoke(false, 0);
    assert_eq!(caller.reply(0, 0, 1, "r"), Ok(None));
    let Message::Reply(good) = caller.net.reply(1, 0, 1, 0, "r") else { panic!("a REPLY") };
    let unsigned: Signed<Reply, C> = Signed { signature: no_signature().into(), ..good.clone() };
    assert_eq!(caller.deliver(Message::Reply(unsigned)), Err(Rejection::BadSignature));
    let impersonating = caller.net.sign(0, good.content.clone());
    assert_eq!(caller.deliver(Message::Reply(impersonating)), Err(Rejection::SignerIsNotSender));
    let by_client = caller.net.sign_as_client(1, good.content.clone());
    assert!(caller.deliver(Message::Reply(by_client)).is_err());
    let vote = caller.net.prepare(1, 0, 1, support::signing::some_digest(1));
    assert_eq!(caller.deliver(vote), Err(Rejection::NotForThisNode));
    assert_eq!(caller.deliver(Message::Reply(good)), Ok(Some("r".into())));
}

// §4.1: the view in the replies lets the client follow the primary.

#[test]
fn a_client_follows_the_view_that_a_correct_replica_is_in() {
    let mut caller = Caller::new(4, 1);
    caller.invoke(false, 0);
    caller.reply(0, 9, 1, "r").unwrap();
    caller.reply(1, 2, 1, "r").unwrap();
    assert_eq!(caller.client.view(), View(2), "one replica cannot name a view");
    assert_eq!(requests(&caller.invoke(false, 0))[0].0, Destination::Replica(ReplicaId(2)));
    caller.reply(0, 1, 2, "r").unwrap();
    caller.reply(1, 1, 2, "r").unwrap();
    assert_eq!(caller.client.view(), View(2), "an older view is no news");
}

// §4.1: a replica answers a request that it has executed again, and relays one that it has not.

#[test]
fn a_repeated_request_is_answered_from_the_cache_without_executing() {
    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 2);
    for at in 0..4 {
        let step = net.deliver(at, Message::Request(net.put(0, 2, "k", "v2")));
        let [(to, Message::Reply(reply))] = step.sends()[..] else { panic!("{step:?}") };
        assert_eq!((to, reply.content.timestamp), (Destination::Client(ClientId(0)), Timestamp(2)));
        assert_eq!(reply.content.result, was(Some("v1")));
        assert_eq!((net.history(at).len(), net.replicas[at].waiting_requests()), (2, 0));
        net.assert_refused(at, Message::Request(net.put(0, 1, "k", "v1")), Rejection::OldTimestamp);
    }
}

#[test]
fn a_backup_relays_a_request_to_the_primary_of_its_view() {
    let mut net = Net::four();
    let request = Message::Request(net.put(0, 1, "k", "v"));
    let step = net.deliver(2, request.clone());
    assert_eq!(step.sends(), [(TO_0, &request)]);
    assert_eq!(net.deliver(0, request.clone()).sent("REQUEST").len(), 0);
    let mut net = Net::four();
    net.change_view_among(&only(0..4));
    let step = net.deliver(2, request.clone());
    assert_eq!(step.sends(), [(Destination::Replica(ReplicaId(1)), &request)]);
}

// §5.1: read-only requests.

fn put_at(net: &mut Net, at: usize, n: u64, t: u64, value: &str) -> (pbft::types::Digest, Step) {
    let m = batch(&[&net.put(0, t, "k", value)]);
    net.deliver(at, net.pre_prepare(0, 0, n, &m));
    let by = if at == 2 { 3 } else { 2 };
    let step = net.deliver(at, net.prepare(by, 0, n, m.digest()));
    assert_eq!(step.prepared(), [n]);
    (m.digest(), step)
}

fn read_result(step: &Step) -> Vec<Bytes> {
    let result = |m: &Msg| match m {
        Message::Reply(m) => m.content.result.clone(),
        other => panic!("{}", other.name()),
    };
    step.sent("REPLY").into_iter().map(result).collect()
}

#[test]
fn a_read_is_answered_at_once_without_ordering() {
    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 1);
    for at in 0..4 {
        let before = (net.disks[at].clone(), net.replicas[at].clients().clone());
        let step = net.deliver(at, Message::Request(net.get(1, 1, "k")));
        assert_eq!((step.names(), read_result(&step)), (vec!["REPLY"], vec![was(Some("v1"))]));
        assert_eq!((net.disks[at].clone(), net.replicas[at].clients().clone()), before);
    }
}

#[test]
fn an_operation_that_changes_the_state_is_not_answered_as_a_read() {
    let mut net = Net::four();
    let put = net.put(0, 1, "k", "v").content;
    let disguised = net.sign_as_client(0, Request { read_only: true, ..put });
    net.assert_refused(0, Message::Request(disguised), Rejection::NotReadOnly);
    assert_eq!(net.value(0, "k"), None);
}

#[test]
fn a_read_waits_until_what_was_prepared_at_its_arrival_has_executed() {
    let mut net = Net::four();
    let (digest, _) = put_at(&mut net, 1, 1, 1, "new");
    let read = net.get(1, 1, "k");
    let step = net.deliver(1, Message::Request(read.clone()));
    assert_eq!((step.rejection(), step.names()), (None, vec![]));
    net.assert_refused(1, Message::Request(read), Rejection::Duplicate);
    // What prepares later does not hold it up.
    put_at(&mut net, 1, 2, 2, "newer");
    assert_eq!(net.deliver(1, net.commit(2, 0, 1, digest)).names(), Vec::<&str>::new());
    let step = net.deliver(1, net.commit(3, 0, 1, digest));
    assert_eq!((net.last_executed(1), read_result(&step)), (1, vec![was(None), was(Some("new"))]));
}

#[test]
fn a_merely_pre_prepared_batch_does_not_hold_a_read() {
    let mut net = Net::four();
    let m = batch(&[&net.put(0, 1, "k", "v")]);
    net.deliver(1, net.pre_prepare(0, 0, 1, &m));
    let step = net.deliver(1, Message::Request(net.get(1, 1, "k")));
    assert_eq!(read_result(&step), [was(None)]);
}

#[test]
fn a_read_goes_to_all_and_is_accepted_with_exactly_a_quorum_of_matching_replies() {
    for (n, f, quorum) in [(4, 1, 3), (5, 1, 4), (7, 2, 5)] {
        let mut caller = Caller::new(n, f);
        assert_eq!(requests(&caller.invoke(true, 0)), [(Destination::Replicas, 1, true)]);
        for by in 0..quorum - 1 {
            assert_eq!(caller.reply(by, 0, 1, "r"), Ok(None), "n={n} by={by}");
        }
        assert_eq!(caller.reply(0, 0, 1, "r"), Ok(None), "one replica twice");
        assert_eq!(caller.reply(quorum - 1, 0, 1, "r"), Ok(Some("r".into())), "n={n}");
    }
}

#[test]
fn a_read_on_which_the_replicas_disagree_is_ordered_under_a_new_timestamp() {
    let mut caller = Caller::new(4, 1);
    caller.invoke(true, 0);
    for (by, result) in [(0, "a"), (1, "b"), (2, "a")] {
        assert_eq!(caller.reply(by, 0, 1, result), Ok(None));
    }
    let Ok(last) = Client::verify(&caller.setup, caller.net.reply(3, 0, 1, 0, "b")) else { panic!("valid") };
    let effects = caller.step(ClientEvent::Message(last));
    assert_eq!(requests(&effects), [(TO_0, 2, false)]);
    assert!(matches!(effects[0], ClientEffect::Persist(ClientDurable { last: Timestamp(2) })));
    // Replies to the unordered read count for nothing now.
    assert_eq!(caller.reply(0, 0, 1, "a"), Err(Rejection::NotPending));
    assert_eq!(caller.reply(0, 0, 2, "a"), Ok(None));
    assert_eq!(caller.reply(2, 0, 2, "a"), Ok(Some("a".into())));
}

#[test]
fn a_read_that_times_out_is_ordered_under_a_new_timestamp() {
    let mut caller = Caller::new(4, 1);
    caller.invoke(true, 0);
    caller.reply(0, 0, 1, "a").unwrap();
    assert_eq!(requests(&caller.step(ClientEvent::Timeout)), [(TO_0, 2, false)]);
    assert_eq!(requests(&caller.step(ClientEvent::Timeout)), [(Destination::Replicas, 2, false)]);
}

#[test]
fn an_ordered_read_returns_the_value_at_its_sequence_number() {
    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 1);
    let get = Operation::Get { key: Bytes::from(&b"k"[..]) };
    let ordered = net.sign_as_client(1, support::request(1, 1, &get, false));
    net.order_among(&only(0..4), &ordered);
    let results: Vec<_> = net
        .replies
        .iter()
        .filter(|r| r.client == ClientId(1))
        .map(|r| Outcome::from_bytes(&r.result))
        .collect();
    assert_eq!(results.len(), 4);
    assert!(results.iter().all(|r| *r == Outcome::Value(Some(Bytes::from(&b"v1"[..])))));
}

// What a reply promises is durable before it leaves, and the records alone restore the client table.

#[test]
fn replies_leave_after_the_record_of_the_execution() {
    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 1);
    net.assert_promises_kept(&["REPLY"]);
}

#[test]
fn a_restarted_replica_answers_from_its_cache_and_executes_nothing_again() {
    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 3);
    net.assert_restarts_agree();
    for durable in [net.replayed(1), net.replicas[1].durable().clone()] {
        let mut replica = Replica::start(&net.setups[1], Some(durable), &mut Effects::new()).unwrap();
        std::mem::swap(&mut replica, &mut net.replicas[1]);
        let step = net.deliver(1, Message::Request(net.put(0, 3, "k", "v3")));
        assert_eq!((step.names(), read_result(&step)), (vec!["REPLY"], vec![was(Some("v2"))]));
        net.assert_refused(1, Message::Request(net.put(0, 2, "k", "v2")), Rejection::OldTimestamp);
    }
}
