//! What the receivers' validator lets through beyond the paper.
//!
//! Whole classes of candidates are pointless while the validator refuses all of them: certificates in which a voter
//! is repeated, several certificates for one number, and so on. Each class is tried once, when the adversary is
//! made, by putting an example before the validator. The examples are signed with everybody's keys, so that they
//! lack nothing but what the class is about; they are thrown away.

use super::{Msg, NOBODYS};
use crate::crypto::{Keys, Signature, Symbolic};
use crate::world::Modelled;
use pbft::certificate::PreparedCertificate;
use pbft::crypto::{Claim, Crypto, Evidence, Signed};
use pbft::message::{Batch, Message, NewView, PrePrepare, Prepare, Request, ViewChange};
use pbft::replica::verify::{prepared_evidence_proves, verify};
use pbft::replica::{Effects, Replica, Setup};
use pbft::rules::Rules;
use pbft::types::{Bytes, ClientId, Digest, ReplicaId, SeqNo, Timestamp, View, Watermarks};
use std::sync::Arc;

/// The classes of candidates that are worth trying.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Liberties {
    /// Certificates in which voters are repeated.
    pub(super) repeated_voters: bool,
    /// Several certificates for one number in P.
    pub(super) several_per_n: bool,
    /// The same replica's VIEW-CHANGE several times in V.
    pub(super) repeated_view_changes: bool,
    /// VIEW-CHANGEs for other views in V.
    pub(super) foreign_view_changes: bool,
    /// An O that V does not lead to.
    pub(super) any_o: bool,
    /// A PRE-PREPARE with a batch that its digest does not name.
    pub(super) any_batch: bool,
    /// PRE-PREPAREs that another primary signed for an O, sent by themselves. Whoever is in the view that the O
    /// began knows them, as far as no checkpoint covers them; so they are news only to receivers that act in views
    /// they have left, or on what is covered.
    pub(super) proposals_out_of_o: bool,
}

impl Liberties {
    /// The liberties that a receiver with this configuration grants.
    pub(super) fn granted_by(judge: &Setup<Modelled>) -> Self {
        let examples = Examples::new(judge);
        let takes = |message: Msg| verify(judge, message).is_ok();
        let quorum = judge.rules.view_change_quorum(&judge.cluster);
        let repeated = quorum.max(2).min(judge.cluster.n());
        let first = examples.view_change(0, View(1), Vec::new());
        let certificate = examples.certificate();
        let both = vec![certificate.clone(), certificate];
        let of = |view| (0..quorum).map(|i| examples.view_change(i, view, Vec::new())).collect::<Vec<_>>();
        Liberties {
            repeated_voters: examples.repeated_voters_prove(),
            several_per_n: takes(Message::ViewChange(examples.view_change(0, View(1), both))),
            repeated_view_changes: repeated > 1
                && takes(examples.new_view(vec![first; repeated], Vec::new())),
            foreign_view_changes: takes(examples.new_view(of(View(2)), Vec::new())),
            any_o: takes(examples.new_view(of(View(1)), vec![(SeqNo(1), Digest::NULL)])),
            any_batch: takes(examples.pre_prepare_of_another_batch()),
            proposals_out_of_o: judge.rules.leave_old_view(View(0), View(1))
                || judge.rules.low_water_mark(SeqNo(0), Watermarks { h: SeqNo(0), window: 1 }),
        }
    }
}

/// Messages that are sound but for one thing.
struct Examples<'a> {
    judge: &'a Setup<Modelled>,
    everybody: Vec<Setup<Modelled>>,
}

impl<'a> Examples<'a> {
    fn new(judge: &'a Setup<Modelled>) -> Self {
        let n = u16::try_from(judge.cluster.n()).expect("a cluster's size fits in 16 bits");
        let (keys, _) = Keys::all(n, judge.clients);
        let setup = |(id, keys)| Setup { id, keys: Arc::new(keys), ..judge.clone() };
        Examples { judge, everybody: judge.cluster.replicas().zip(keys).map(setup).collect() }
    }

    fn primary(&self, view: View) -> &Setup<Modelled> {
        &self.everybody[usize::from(self.judge.cluster.primary(view).0)]
    }

    /// A PRE-PREPARE of view 0 and the PREPAREs of all backups.
    fn votes(&self) -> (PrePrepare, Evidence<Signature>) {
        let primary = self.primary(View(0));
        let proposal = PrePrepare { view: View(0), n: SeqNo(1), digest: NOBODYS };
        let PrePrepare { view, n, digest } = proposal;
        let vote = |setup: &Setup<Modelled>| {
            (setup.id, setup.sign(Prepare { view, n, digest, replica: setup.id }).signature)
        };
        let votes = self.everybody.iter().filter(|setup| setup.id != primary.id).map(vote).collect();
        (proposal, Evidence { proposal: Some(primary.sign(proposal).signature), votes })
    }

    fn repeated_voters_prove(&self) -> bool {
        let (proposal, mut evidence) = self.votes();
        let quorum = self.judge.rules.certificate_quorum(&self.judge.cluster);
        evidence.votes = evidence.votes.first().map(|&vote| vec![vote; quorum.max(2)]).unwrap_or_default();
        prepared_evidence_proves(self.judge, proposal, &evidence)
    }

    fn certificate(&self) -> PreparedCertificate<Symbolic> {
        let (proposal, evidence) = self.votes();
        let PrePrepare { view, n, digest } = proposal;
        let valid = |evidence: &_| prepared_evidence_proves(self.judge, proposal, evidence);
        let proof = Symbolic::seal(Claim::Prepared(view, n, digest), evidence, &valid);
        PreparedCertificate { view, n, digest, proof }
    }

    fn view_change(
        &self,
        sender: usize,
        view: View,
        prepared: Vec<PreparedCertificate<Symbolic>>,
    ) -> Arc<Signed<ViewChange<Symbolic>, Symbolic>> {
        let replica = ReplicaId(u16::try_from(sender).expect("a cluster's size fits in 16 bits"));
        let content = ViewChange { view, n: SeqNo(0), stable: None, prepared, replica };
        Arc::new(self.everybody[sender].sign(content))
    }

    fn new_view(
        &self,
        view_changes: Vec<Arc<Signed<ViewChange<Symbolic>, Symbolic>>>,
        entries: Vec<(SeqNo, Digest)>,
    ) -> Msg {
        let (view, primary) = (View(1), self.primary(View(1)));
        let sign = |(n, digest)| primary.sign(PrePrepare { view, n, digest });
        let pre_prepares = entries.into_iter().map(sign).collect();
        Message::NewView(Arc::new(primary.sign(NewView { view, view_changes, pre_prepares })))
    }

    fn pre_prepare_of_another_batch(&self) -> Msg {
        let content = PrePrepare { view: View(0), n: SeqNo(1), digest: NOBODYS };
        Message::PrePrepare(self.primary(View(0)).sign(content), Arc::new(Batch::default()))
    }
}

/// For receivers that do not check fetched blocks: those of a state that is over, the first.
pub(super) fn stale_blocks(judge: &Setup<Modelled>) -> Vec<Msg> {
    if !judge.rules.transfer_verified(false) {
        return Vec::new();
    }
    let initial = Replica::start(judge, None, &mut Effects::new());
    let blocks = initial.map_or(Vec::new(), |replica| replica.blocks());
    blocks.into_iter().map(Message::Block).collect()
}

/// A replica and a client that do not belong to the system of `judge`, each with keys that everybody knows: the
/// replica's configuration, and a request of the client.
pub(super) fn outsiders(judge: &Setup<Modelled>) -> (Arc<Setup<Modelled>>, Signed<Request, Symbolic>) {
    let n = u16::try_from(judge.cluster.n()).expect("a cluster's size fits in 16 bits");
    let (replica, client) = Keys::outsiders(n, judge.clients);
    let operation = Bytes::from(&b"outsider"[..]);
    let content =
        Request { operation, timestamp: Timestamp(1), client: ClientId(judge.clients), read_only: false };
    let setup = Setup { id: ReplicaId(n), keys: Arc::new(replica), ..judge.clone() };
    (Arc::new(setup), Signed::new(content, &client))
}
