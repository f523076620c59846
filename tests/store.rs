//! The store: an image gives back the state that was recorded, or it is refused; and so is a state that this
//! replica cannot have recorded.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod support;

use pbft::certificate::PreparedCertificate;
use pbft::crypto::ed25519::Ed25519;
use pbft::crypto::{Crypto, Signed};
use pbft::kv::Operation;
use pbft::message::{Message, PrePrepare, ViewChange};
use pbft::parameters::Parameters;
use pbft::replica::{Durable, Effect, Effects, Record, Replica, Setup, StartRefusal, Timer};
use pbft::service::Service;
use pbft::store::{Identity, StoreError, open, seal};
use pbft::types::{Bytes, ClientId, Cluster, Digest, ReplicaId, SeqNo, View};
use pbft_models::mutants::Rulebook;
use std::sync::Arc;
use support::{Net, Real, only, small_batches};

const PROGRESS: Timer = Timer::Progress { backoff: 0 };

/// A cluster that has been through a view change and has a stable checkpoint with batches executed on top, in
/// view 1.
fn lived() -> Net {
    Net::lived(small_batches())
}

/// The same, with replica 2 between views 1 and 2.
fn leaving() -> Net {
    let mut net = lived();
    net.fire(2, PROGRESS);
    net
}

fn identity() -> Identity {
    Identity {
        domain: Digest([3; 32]),
        replica: ReplicaId(2),
        cluster: Cluster::new(4, 1),
        parameters: small_batches(),
    }
}

fn refused(setup: &Setup<Real>, durable: Durable<Ed25519>) -> StartRefusal {
    Replica::<Real>::start(setup, Some(durable), &mut Effects::new()).expect_err("this state is refused")
}

#[test]
fn the_state_under_test_has_everything_that_a_store_holds() {
    let net = leaving();
    let durable = net.replicas[2].durable();
    assert_eq!(durable.view, View(1));
    assert_eq!(durable.leaving(), Some(View(2)));
    assert_eq!(durable.h(), SeqNo(4));
    assert_eq!((durable.snapshot.n, durable.last_executed()), (SeqNo(4), SeqNo(5)));
    assert!(durable.new_view.is_some() && durable.stable.is_some());
    assert!(!durable.log.is_empty() && !durable.prepared.is_empty() && !durable.batches.is_empty());
}

#[test]
fn an_image_gives_back_the_state_it_was_made_of() {
    for net in [lived(), leaving()] {
        let durable = net.replicas[2].durable();
        let image = seal(&identity(), durable);
        assert_eq!(open::<Ed25519>(&identity(), &image).as_ref(), Ok(durable));
    }
}

#[test]
fn every_truncation_of_an_image_is_refused() {
    let image = seal(&identity(), leaving().replicas[2].durable());
    for length in 0..image.len() {
        let expected = if length < 8 { StoreError::NotAStore } else { StoreError::Damaged };
        assert_eq!(open::<Ed25519>(&identity(), &image[..length]), Err(expected), "{length} bytes");
    }
}

#[test]
fn every_flipped_bit_of_an_image_is_noticed() {
    let mut image = seal(&identity(), leaving().replicas[2].durable());
    for bit in 0..image.len() * 8 {
        image[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit < 64 { StoreError::NotAStore } else { StoreError::Damaged };
        assert_eq!(open::<Ed25519>(&identity(), &image), Err(expected), "bit {bit}");
        image[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(open::<Ed25519>(&identity(), &image).is_ok());
}

#[test]
fn an_image_with_something_behind_it_is_refused() {
    let mut image = seal(&identity(), leaving().replicas[2].durable());
    image.push(0);
    assert_eq!(open::<Ed25519>(&identity(), &image), Err(StoreError::Damaged));
}

#[test]
fn a_whole_image_that_holds_no_state_is_refused() {
    let image = seal(&identity(), leaving().replicas[2].durable());
    let mut short = image[..image.len() - 32 - 1].to_vec();
    let digest = Ed25519::digest(&short);
    short.extend(digest.0);
    assert_eq!(open::<Ed25519>(&identity(), &short), Err(StoreError::Damaged));
}

#[test]
fn an_image_opens_for_its_own_identity_only() {
    let own = identity();
    let image = seal(&own, leaving().replicas[2].durable());
    let other_parameters = |change: fn(&mut Parameters)| {
        let mut parameters = own.parameters;
        change(&mut parameters);
        Identity { parameters, ..own }
    };
    let foreign = [
        Identity { domain: Digest([4; 32]), ..own },
        Identity { replica: ReplicaId(3), ..own },
        Identity { cluster: Cluster::new(5, 1), ..own },
        Identity { cluster: Cluster::new(4, 0), ..own },
        other_parameters(|p| p.checkpoint_interval += 1),
        other_parameters(|p| p.window += 1),
        other_parameters(|p| p.max_batch_requests += 1),
        other_parameters(|p| p.max_batch_bytes += 1),
        other_parameters(|p| p.max_in_flight += 1),
    ];
    for other in foreign {
        assert_eq!(open::<Ed25519>(&other, &image), Err(StoreError::Foreign), "{other:?}");
    }
}

#[test]
fn a_restarted_replica_is_where_it_stopped() {
    for net in [lived(), leaving()] {
        let (setup, before) = (&net.setups[2], &net.replicas[2]);
        let image = seal(&identity(), before.durable());
        let stored = open::<Ed25519>(&identity(), &image).unwrap();
        let mut effects = Effects::new();
        let after = Replica::<Real>::start(setup, Some(stored), &mut effects).unwrap();
        assert_eq!(after.service(), before.service());
        assert_eq!(after.clients(), before.clients());
        assert_eq!((after.view(), after.leaving()), (before.view(), before.leaving()));
        assert_eq!(after.last_executed(), before.last_executed());
        assert_eq!(after.durable(), before.durable());
        // It tells the others what it has, and promises nothing.
        assert!(
            effects.iter().all(|effect| {
                matches!(effect, Effect::SetTimer(_) | Effect::Send(_, Message::Status(_)))
            })
        );
    }
}

#[test]
fn a_restarted_cluster_goes_on() {
    let mut net = lived();
    for at in 0..net.n() {
        let stored = net.replicas[at].durable().clone();
        net.restart(at, stored);
    }
    let before = net.replicas[3].last_executed();
    net.execute(2, 6..=6);
    for replica in &net.replicas {
        assert_eq!(replica.last_executed(), before.next());
        assert_eq!(replica.service().get(b"k6"), Some(Bytes::from(&b"v"[..])));
    }
}

/// A store keeps no record of own snapshots between two bases, so a log may hold more executed batches than two
/// windows. Whoever starts from it behind a stable checkpoint keeps them until the state is fetched.
#[test]
fn a_restart_from_a_long_log_behind_a_stable_checkpoint_fetches_the_state() {
    let mut net = Net::four();
    let window = net.setups[3].parameters.window;
    net.order_many(&only(0..4), 1, 9);
    net.order_many(&only(0..3), 10, 3);
    let stable = net.replicas[0].durable().stable.clone().expect("a checkpoint is stable");
    net.deliver(3, Message::Stable(stable));
    let mut durable = Durable::default();
    for record in net.records[3].iter().filter(|record| !matches!(record, Record::Snapshot(_))) {
        durable.apply(record, &Rulebook::under_test());
    }
    assert!((durable.executed.len() as u64, durable.h()) > (2 * window, durable.last_executed()));
    let before = durable.executed.len();
    net.restart(3, durable);
    assert_eq!(net.replicas[3].durable().executed.len(), before, "they are still what it stands on");
    assert_eq!(net.replicas[3].check_invariants(&net.setups[3]), Ok(()));
    net.gossip(&only(0..4));
    assert_eq!((net.h(3), net.last_executed(3)), (12, 12));
    assert!(net.replicas[3].durable().executed.is_empty(), "the fetched state takes their place");
}

// --- states that this replica cannot have recorded ---

#[test]
fn a_store_without_a_batch_that_was_executed_is_refused() {
    let net = leaving();
    let mut durable = net.replicas[2].durable().clone();
    durable.prepared.clear();
    durable.batches.clear();
    assert_eq!(refused(&net.setups[2], durable), StartRefusal::MissingBatch(5));
}

#[test]
fn a_store_without_a_batch_that_prepared_is_refused() {
    let net = leaving();
    let mut durable = net.replicas[2].durable().clone();
    let orphan = PreparedCertificate {
        n: SeqNo(6),
        digest: Digest([0xdd; 32]),
        ..durable.prepared[&SeqNo(5)].clone()
    };
    durable.prepared.insert(SeqNo(6), orphan);
    assert_eq!(refused(&net.setups[2], durable), StartRefusal::MissingBatch(6));
}

#[test]
fn a_store_with_a_view_change_of_another_replica_is_refused() {
    let net = leaving();
    let mut durable = net.replicas[2].durable().clone();
    let view_change: Arc<Signed<ViewChange<Ed25519>, Ed25519>> =
        durable.view_change.take().expect("replica 2 has left its view");
    let content = ViewChange { replica: ReplicaId(3), ..view_change.content.clone() };
    durable.view_change = Some(Arc::new(net.setups[3].sign(content)));
    assert_eq!(refused(&net.setups[2], durable), StartRefusal::Foreign);
}

#[test]
fn a_store_with_numbers_outside_of_its_window_is_refused() {
    let net = lived();
    let good = net.replicas[2].durable();
    assert_eq!(good.h(), SeqNo(4));
    for n in [SeqNo(0), SeqNo(4), SeqNo(9), SeqNo(u64::MAX)] {
        let mut durable = good.clone();
        let pre_prepare = PrePrepare { view: View(1), n, digest: Digest::NULL };
        durable.log.insert((View(1), n), net.setups[1].sign(pre_prepare));
        assert_eq!(refused(&net.setups[2], durable), StartRefusal::OutOfWindow(n.0), "in the log");

        let mut durable = good.clone();
        let mut certificate = durable.prepared.first_key_value().expect("something prepared").1.clone();
        certificate.n = n;
        durable.prepared.insert(n, certificate);
        assert_eq!(refused(&net.setups[2], durable), StartRefusal::OutOfWindow(n.0), "in P");
    }
    let mut durable = good.clone();
    let pre_prepare = PrePrepare { view: View(1), n: SeqNo(8), digest: Digest::NULL };
    durable.log.insert((View(1), SeqNo(8)), net.setups[1].sign(pre_prepare));
    assert!(Replica::<Real>::start(&net.setups[2], Some(durable), &mut Effects::new()).is_ok(), "H itself");
}

#[test]
fn a_store_with_a_gap_in_what_was_executed_is_refused() {
    let net = lived();
    let mut durable = net.replicas[2].durable().clone();
    assert_eq!((durable.snapshot.n, durable.last_executed()), (SeqNo(4), SeqNo(5)));
    let digest = durable.executed[&SeqNo(5)];
    durable.executed.insert(SeqNo(7), digest);
    assert_eq!(refused(&net.setups[2], durable), StartRefusal::Gap(7));
}

#[test]
fn a_store_whose_view_does_not_fit_its_new_view_or_view_change_is_refused() {
    let good = leaving();
    let mut durable = good.replicas[2].durable().clone();
    durable.view = View(0);
    assert_eq!(refused(&good.setups[2], durable), StartRefusal::View, "the NEW-VIEW is of view 1");

    let mut durable = good.replicas[2].durable().clone();
    let own = durable.view_change.take().expect("replica 2 has left its view");
    let content = ViewChange { view: View(1), ..own.content.clone() };
    durable.view_change = Some(Arc::new(good.setups[2].sign(content)));
    assert_eq!(refused(&good.setups[2], durable), StartRefusal::View, "it leads to the view it is in");
}

#[test]
fn a_store_begun_with_another_initial_state_is_refused() {
    let net = Net::new(4, 1, small_batches());
    let durable = net.replicas[2].durable().clone();
    let mut setup = net.setups[2].clone();
    let put = Operation::Put { key: Bytes::from(&b"k"[..]), value: Bytes::from(&b"v"[..]) };
    setup.genesis.execute(ClientId(0), &put.to_bytes());
    assert_eq!(refused(&setup, durable.clone()), StartRefusal::Snapshot);
    assert!(Replica::<Real>::start(&net.setups[2], Some(durable), &mut Effects::new()).is_ok());
}

#[test]
fn a_configuration_that_cannot_be_run_is_refused() {
    let net = Net::new(4, 1, small_batches());
    let refuses = |change: fn(&mut Setup<Real>)| {
        let mut setup = net.setups[2].clone();
        change(&mut setup);
        let started = Replica::<Real>::start(&setup, None, &mut Effects::new());
        matches!(started, Err(StartRefusal::Configuration(_))) && setup.check_servable().is_err()
    };
    assert!(refuses(|setup| setup.parameters.checkpoint_interval = 0));
    assert!(refuses(|setup| setup.parameters.window = 0));
    assert!(refuses(|setup| setup.id = ReplicaId(77)));
    assert!(refuses(|setup| setup.id = ReplicaId(1)), "the keys are those of replica 2");
    assert!(refuses(|setup| setup.cluster = Cluster::new(4, 5)));
    assert!(!refuses(|_| {}));
    let mut small = net.setups[2].clone();
    small.cluster = Cluster::new(3, 1);
    assert!(
        small.check_runnable().is_ok() && small.check_servable().is_err(),
        "it can be explored, and must not serve"
    );
}

#[test]
fn a_store_with_a_snapshot_of_another_service_is_refused() {
    use pbft::replica::{Snapshot, blocks::Tree};
    let net = lived();
    let good = net.replicas[2].durable();
    let text = || Bytes::from(&b"\xff no state of a key-value store"[..]);
    let chunks = good.snapshot.tree.chunks();
    let table = chunks.last().expect("the client table is a chunk").clone();
    let strange: [Vec<Bytes>; 4] = [vec![], vec![text()], vec![text(), table.clone()], vec![table, text()]];
    for chunks in strange {
        let mut durable = good.clone();
        let tree = Tree::build::<Ed25519>(&chunks, None);
        durable.snapshot = Arc::new(Snapshot { n: good.snapshot.n, tree });
        assert_eq!(refused(&net.setups[2], durable), StartRefusal::Snapshot, "{chunks:?}");
    }
}
