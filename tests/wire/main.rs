//! The bytes of messages: what is written is read back, and nothing else is believed or costs much.

mod strategies;

use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::ed25519::{Ed25519, SharedSignature, Signature};
use pbft::crypto::form::Form;
use pbft::crypto::merkle::{MAX_DEPTH, Path, Sibling};
use pbft::crypto::{Content, Evidence, Signed};
use pbft::message::{
    Batch, Checkpoint, Commit, Fetch, Message, NewView, PrePrepare, Prepare, Reply, Request, Status,
    ViewChange, Wanted,
};
use pbft::parameters::{MAX_MESSAGE_BYTES, Parameters, largest_new_view};
use pbft::rejection::Rejection;
use pbft::types::{Bytes, ClientId, Cluster, Digest, Principal, ReplicaId, SeqNo, Timestamp, View};
use pbft::wire::{ALLOCATION_PER_BYTE, MAX_ALLOCATION_SLACK, VERSION, decode, encode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use strategies::{VARIANTS, message, messages};

type Sent = Message<Ed25519>;

/// Decodes what is no message exactly as written, and says what holds of it all the same.
fn check_altered(altered: &[u8]) -> Result<(), TestCaseError> {
    match decode::<Ed25519>(altered) {
        Err(reason) => {
            prop_assert!(matches!(reason, Rejection::Malformed | Rejection::WrongVersion), "{reason}");
        }
        Ok(message) => {
            let again = encode(&message);
            // Either these are the bytes of the message, or a number in them is longer than need be.
            prop_assert!(again == altered || again.len() < altered.len());
            prop_assert_eq!(decode(&again), Ok(message));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        // A failure prints the message that shows it; the same ones are tried every time.
        rng_seed: RngSeed::Fixed(0x5eed_0000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_message_of_any_variant_is_read_back_as_it_was_written(messages in messages()) {
        for (tag, message) in (0u8..).zip(messages) {
            let encoded = encode(&message);
            prop_assert_eq!(&encoded[..2], &[VERSION, tag]);
            prop_assert_eq!(decode(&encoded), Ok(message));
        }
    }

    #[test]
    fn no_proper_prefix_of_a_message_is_a_message(message in message()) {
        let encoded = encode(&message);
        for length in 0..encoded.len() {
            prop_assert_eq!(decode::<Ed25519>(&encoded[..length]), Err(Rejection::Malformed), "{}", length);
        }
    }

    #[test]
    fn nothing_may_follow_a_message(message in message(), rest in vec(any::<u8>(), 1..20)) {
        let mut encoded = encode(&message);
        encoded.extend(rest);
        prop_assert_eq!(decode::<Ed25519>(&encoded), Err(Rejection::Malformed));
    }

    #[test]
    fn a_message_of_another_version_is_refused(message in message(), version in any::<u8>()) {
        prop_assume!(version != VERSION);
        let mut encoded = encode(&message);
        encoded[0] = version;
        prop_assert_eq!(decode::<Ed25519>(&encoded), Err(Rejection::WrongVersion));
    }

    #[test]
    fn a_flipped_bit_leaves_no_message_or_another_one_that_is_stable(message in message()) {
        let mut encoded = encode(&message);
        for bit in 0..encoded.len() * 8 {
            encoded[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(decode(&encoded), Ok(message.clone()), "bit {}", bit);
            check_altered(&encoded)?;
            encoded[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_number_written_longer_than_need_be_is_the_same_number() {
    let signer = Principal::Replica(ReplicaId(1));
    let content = Checkpoint { n: SeqNo(0), digest: Digest::NULL, replica: ReplicaId(1) };
    let message: Sent = Message::Checkpoint(Signed { content, signer, signature: Signature([7; 64]) });
    let mut longer = encode(&message);
    assert_eq!(longer[2], 0);
    longer.splice(2..3, [0x80, 0]);
    assert_eq!(decode(&longer), Ok(message));
}

#[test]
fn a_message_of_more_than_4_mib_is_refused_before_it_is_read() {
    let mut bytes = vec![0; MAX_MESSAGE_BYTES + 1];
    bytes[0] = VERSION;
    let (outcome, peak) = measured(&bytes);
    assert_eq!((outcome, peak), (Err(Rejection::Oversize), 0));
    bytes.pop();
    assert_eq!(decode::<Ed25519>(&bytes), Err(Rejection::Malformed));
}

// --- what decoding costs ---

fn measured(bytes: &[u8]) -> (Result<Sent, Rejection>, usize) {
    let mut outcome = Err(Rejection::Malformed);
    let info = allocation_counter::measure(|| outcome = decode(bytes));
    (outcome, usize::try_from(info.bytes_max).expect("memory is addressable"))
}

fn allowed(input: &[u8]) -> usize {
    ALLOCATION_PER_BYTE * input.len() + MAX_ALLOCATION_SLACK
}

const SIGNATURE: Signature = Signature([0x5a; 64]);

fn by_replica<T>(content: T) -> Signed<T, Ed25519>
where
    T: Content,
    T::Form: Form<Signature<Ed25519> = Signature>,
{
    Signed { content, signer: Principal::Replica(ReplicaId(1)), signature: SIGNATURE }
}

fn repeat<T: Clone>(element: &T, count: usize) -> Vec<T> {
    vec![element.clone(); count]
}

/// Every list in every message, as a message in which that list has `count` elements, at most one.
fn lists(count: usize) -> Vec<(&'static str, Sent)> {
    let bytes = Bytes::from(vec![7; count]);
    let request = |operation: Bytes| {
        by_replica(Request { operation, timestamp: Timestamp(1), client: ClientId(0), read_only: false })
    };
    let batch = |requests| Arc::new(Batch { requests });
    let one = batch(repeat(&request(Bytes::default()), count));
    let proposal = by_replica(PrePrepare { view: View(0), n: SeqNo(1), digest: Digest::NULL });
    let votes = Evidence { proposal: None, votes: repeat(&(ReplicaId(1), SIGNATURE), count) };
    let stable = StableCertificate::<Ed25519> { n: SeqNo(2), digest: Digest::NULL, proof: votes.clone() };
    let certificate = |proof: &Evidence<Signature>| PreparedCertificate::<Ed25519> {
        view: View(0),
        n: SeqNo(1),
        digest: Digest::NULL,
        proof: proof.clone(),
    };
    let none = Evidence { proposal: None, votes: Vec::new() };
    let view_change = |stable, prepared| {
        let content = ViewChange { view: View(1), n: SeqNo(0), stable, prepared, replica: ReplicaId(1) };
        Arc::new(by_replica(content))
    };
    let new_view = |view_changes: Vec<_>, pre_prepares| {
        let view_changes = view_changes.into();
        Message::NewView(Arc::new(by_replica(NewView { view: View(1), view_changes, pre_prepares })))
    };
    let status = |pre_prepared, prepared| {
        let (view, leaving, stable, executed) = (View(0), None, SeqNo(0), SeqNo(0));
        let replica = ReplicaId(1);
        Message::Status(by_replica(Status {
            view,
            leaving,
            stable,
            executed,
            pre_prepared,
            prepared,
            replica,
        }))
    };
    let (view, timestamp, client, replica) = (View(0), Timestamp(1), ClientId(0), ReplicaId(1));
    let reply = |result: &Bytes, siblings: usize| {
        let content = Reply { view, timestamp, client, replica, result: result.clone() };
        let path = Path(repeat(&Sibling::Right(Digest::NULL), siblings));
        let signature = SharedSignature { signature: SIGNATURE, path };
        Message::Reply(Signed { content, signer: Principal::Replica(replica), signature })
    };
    let prepared_in_v = view_change(None, repeat(&certificate(&none), count));
    let votes_in_v = view_change(None, vec![certificate(&votes)]);
    let numbers = repeat(&SeqNo(1), count);
    vec![
        ("operation of a REQUEST", Message::Request(request(bytes.clone()))),
        ("requests of a PRE-PREPARE", Message::PrePrepare(proposal.clone(), one.clone())),
        (
            "operation in a PRE-PREPARE",
            Message::PrePrepare(proposal.clone(), batch(vec![request(bytes.clone())])),
        ),
        ("C of a VIEW-CHANGE", Message::ViewChange(view_change(Some(stable.clone()), Vec::new()))),
        ("P of a VIEW-CHANGE", Message::ViewChange(prepared_in_v.clone())),
        ("votes in P of a VIEW-CHANGE", Message::ViewChange(votes_in_v.clone())),
        ("V of a NEW-VIEW", new_view(repeat(&view_change(None, Vec::new()), count), Vec::new())),
        ("C in V", new_view(vec![view_change(Some(stable.clone()), Vec::new())], Vec::new())),
        ("P in V", new_view(vec![prepared_in_v], Vec::new())),
        ("votes of P in V", new_view(vec![votes_in_v], Vec::new())),
        ("O of a NEW-VIEW", new_view(Vec::new(), repeat(&proposal, count))),
        ("result of a REPLY", reply(&bytes, 0)),
        ("path of a REPLY", reply(&Bytes::default(), count)),
        ("pre_prepared of a STATUS", status(numbers.clone(), Vec::new())),
        ("prepared of a STATUS", status(Vec::new(), numbers)),
        ("requests of a BATCH", Message::Batch(one)),
        ("operation in a BATCH", Message::Batch(batch(vec![request(bytes.clone())]))),
        ("a BLOCK", Message::Block(bytes)),
        ("votes of a STABLE", Message::Stable(stable)),
    ]
}

/// The messages that have no list.
fn without_lists() -> [Sent; 4] {
    let (view, n, digest, replica) = (View(0), SeqNo(1), Digest::NULL, ReplicaId(1));
    [
        Message::Prepare(by_replica(Prepare { view, n, digest, replica })),
        Message::Commit(by_replica(Commit { view, n, digest, replica })),
        Message::Checkpoint(by_replica(Checkpoint { n, digest, replica })),
        Message::Fetch(by_replica(Fetch { what: Wanted::Block(digest), replica })),
    ]
}

/// A path is refused that is longer than any that is made.
#[test]
fn paths_have_their_greatest_depth_and_not_one_sibling_more() {
    let of_depth = |depth| {
        let replies = lists(depth).into_iter().find(|(name, _)| *name == "path of a REPLY");
        replies.expect("there is one").1
    };
    let deepest = of_depth(MAX_DEPTH);
    assert_eq!(decode(&encode(&deepest)), Ok(deepest));
    for depth in [MAX_DEPTH + 1, 100, 10_000] {
        let (outcome, peak) = measured(&encode(&of_depth(depth)));
        assert_eq!(outcome, Err(Rejection::Malformed));
        assert!(peak <= 64, "{peak} bytes for {depth} siblings");
    }
}

/// Each kind of message but REPLY has the bytes of its signature and no more.
#[test]
fn only_a_reply_pays_for_a_path() {
    let length = |message: &Sent| encode(message).len();
    let (view, n, digest, replica) = (View(0), SeqNo(1), Digest::NULL, ReplicaId(1));
    let vote = by_replica(Prepare { view, n, digest, replica });
    // Version, kind, view, n, digest, replica, kind and number of the signer.
    assert_eq!(length(&Message::Prepare(vote)), 1 + 1 + 1 + 1 + 32 + 1 + 2 + 64);
    let empty = lists(0).into_iter().find(|(name, _)| *name == "path of a REPLY").expect("there is one").1;
    // Version, kind, view, timestamp, client, replica, length of the result, kind and number of the signer.
    assert_eq!(length(&empty), 1 + 1 + 1 + 1 + 1 + 1 + 1 + 2 + 64 + 1);
}

/// The bytes of a number, as short as can be.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("seven bits"));
    bytes
}

/// The bytes of `(empty, one)`, the same message but for one list, up to the length of that list.
fn up_to_the_list(empty: &Sent, one: &Sent) -> Vec<u8> {
    let (empty, one) = (encode(empty), encode(one));
    let at = empty.iter().zip(&one).position(|(a, b)| a != b).expect("the lists differ in length");
    assert_eq!((empty[at], one[at]), (0, 1), "the lengths come first");
    one[..at].to_vec()
}

#[test]
fn an_announced_length_beyond_the_input_reserves_nothing() {
    for ((name, empty), (_, one)) in lists(0).into_iter().zip(lists(1)) {
        let start = up_to_the_list(&empty, &one);
        for length in [1_000, 1 << 16, 1 << 20, 1 << 32, 1 << 62, u64::MAX] {
            let input = [start.clone(), varint(length), vec![0; 200]].concat();
            let (outcome, peak) = measured(&input);
            assert_eq!(outcome, Err(Rejection::Malformed), "{name}, {length}");
            // What the list before this one holds is as long as it says.
            assert!(peak <= ALLOCATION_PER_BYTE * input.len(), "{name}, {length}: {peak} bytes");
        }
    }
}

/// Lists of three levels, each announced as long as the rest of the input could hold one-byte elements.
fn greedy_new_view(length: usize) -> Vec<u8> {
    let (empty, one) = (lists(0), lists(1));
    let list = |name: &str| {
        let at = empty.iter().position(|(known, _)| *known == name).expect("the list has this name");
        up_to_the_list(&empty[at].1, &one[at].1)
    };
    // Each of these ends where the next goes on: with the length of its list.
    let (v, p, votes) = (list("V of a NEW-VIEW"), list("P in V"), list("votes of P in V"));
    let announced = varint(u64::try_from(length).expect("a length fits"));
    let between = [&p[v.len() + 1..], &votes[p.len() + 1..]];
    let mut input = [&v[..], &announced, between[0], &announced, between[1], &announced].concat();
    input.resize(input.len() + length, 0);
    input
}

#[test]
fn three_nested_lists_reserve_no_more_than_the_slack_and_most_of_it() {
    let peaks: Vec<(usize, usize)> = (8..22)
        .flat_map(|power| [1 << power, 3 << (power - 1)])
        .map(|length: usize| {
            let input = greedy_new_view(length);
            let (outcome, peak) = measured(&input);
            assert_eq!(outcome, Err(Rejection::Malformed));
            assert!(peak <= allowed(&input), "{peak} bytes for {length}");
            (peak.saturating_sub(ALLOCATION_PER_BYTE * input.len()), length)
        })
        .collect();
    let (most, length) = peaks.into_iter().max().expect("lengths were tried");
    assert!(most > MAX_ALLOCATION_SLACK * 3 / 4, "at most {most} bytes of slack are used, at {length}");
}

#[test]
fn one_byte_numbers_cost_no_more_than_is_stated_and_nearly_that() {
    let count = (1 << 21) + 1;
    let (view, leaving, stable, executed) = (View(0), None, SeqNo(0), SeqNo(0));
    let (pre_prepared, prepared) = (vec![SeqNo(1); count], Vec::new());
    let replica = ReplicaId(1);
    let status = Status { view, leaving, stable, executed, pre_prepared, prepared, replica };
    let message = Message::Status(by_replica(status));
    let input = encode(&message);
    let (outcome, peak) = measured(&input);
    assert!(outcome == Ok(message));
    assert!(peak <= allowed(&input), "{peak} bytes");
    assert!(peak > (ALLOCATION_PER_BYTE - 1) * input.len(), "only {peak} bytes for {}", input.len());
}

/// One string of a kind that decoding gets far into.
fn random_string(random: &mut ChaCha8Rng, samples: &[Vec<u8>]) -> Vec<u8> {
    let length = random.random_range(0..=300);
    let mut bytes = vec![0; length];
    match random.random_range(0..4) {
        // Anything.
        0 => random.fill(&mut bytes[..]),
        // Small numbers: every length, tag and option is valid.
        1 => bytes.fill_with(|| random.random_range(0..4)),
        // Small numbers, here and there any.
        2 => bytes.fill_with(|| if random.random_ratio(1, 16) { random.random() } else { 1 }),
        // A message with a few bytes changed.
        _ => {
            bytes.clone_from(&samples[random.random_range(0..samples.len())]);
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(1..bytes.len());
                bytes[at] = random.random();
            }
            return bytes;
        }
    }
    if let [version, tag, ..] = &mut bytes[..]
        && random.random_ratio(15, 16)
    {
        (*version, *tag) = (VERSION, random.random_range(0..VARIANTS));
    }
    bytes
}

#[test]
fn a_million_random_strings_decode_without_a_panic_and_within_the_stated_allocation() {
    let seed = 0x5eed_0001;
    println!("seed {seed:#x}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let messages = lists(1).into_iter().map(|(_, message)| message).chain(without_lists());
    let samples: Vec<Vec<u8>> = messages.map(|message| encode(&message)).collect();
    let mut accepted = [0_u32; VARIANTS as usize];
    for round in 0..1_000_000 {
        let input = random_string(&mut random, &samples);
        let (outcome, peak) = measured(&input);
        assert!(peak <= allowed(&input), "round {round}: {peak} bytes for {input:02x?}");
        if let Ok(message) = outcome {
            let again = encode(&message);
            accepted[usize::from(again[1])] += 1;
            assert!(again == input || again.len() < input.len(), "round {round}: {input:02x?}");
        }
    }
    println!("accepted of each variant: {accepted:?}");
    assert!(accepted.iter().all(|&count| count > 1_000), "some variant was hardly reached: {accepted:?}");
}

// --- the longest NEW-VIEW ---

/// A NEW-VIEW for which every number is as long as it can be, every list as full as `verify` lets it be.
fn longest_new_view(cluster: &Cluster, window: u64) -> Sent {
    let n = u16::try_from(cluster.n()).expect("a cluster counts its replicas in 16 bits");
    let vote = (ReplicaId(n - 1), SIGNATURE);
    let first = u64::MAX - window;
    // A certificate may have more votes than a quorum: all backups', all replicas' for a checkpoint.
    let certificate = |i| PreparedCertificate::<Ed25519> {
        view: View(u64::MAX - 1),
        n: SeqNo(first + i),
        digest: Digest([0xff; 32]),
        proof: Evidence { proposal: Some(SIGNATURE), votes: vec![vote; cluster.n() - 1] },
    };
    let stable = StableCertificate {
        n: SeqNo(first),
        digest: Digest([0xff; 32]),
        proof: Evidence { proposal: None, votes: vec![vote; cluster.n()] },
    };
    let view_change = Arc::new(by_replica(ViewChange {
        view: View(u64::MAX),
        n: SeqNo(first),
        stable: Some(stable),
        prepared: (1..=window).map(certificate).collect(),
        replica: vote.0,
    }));
    let propose =
        |i| by_replica(PrePrepare { view: View(u64::MAX), n: SeqNo(first + i), digest: Digest([0xff; 32]) });
    Message::NewView(Arc::new(by_replica(NewView {
        view: View(u64::MAX),
        view_changes: vec![view_change; cluster.quorum()].into(),
        pre_prepares: (1..=window).map(propose).collect(),
    })))
}

#[test]
fn no_new_view_is_longer_than_its_bound_and_the_bound_is_not_idle() {
    for f in 0..=5 {
        let cluster = Cluster::new(3 * f + 1, f);
        for window in [2, 4, 64] {
            let parameters = Parameters { checkpoint_interval: 1, window, ..Parameters::default() };
            let bound = largest_new_view(&cluster, &parameters);
            let length = encode(&longest_new_view(&cluster, window)).len();
            assert!(length <= bound, "f={f} L={window}: {length} bytes, bound {bound}");
            assert!(length * 3 >= bound, "f={f} L={window}: {length} bytes, bound {bound}");
        }
    }
}
