//! The kill matrix: for every safeguard what shows that it is one.
//!
//! A checker is worth its verdict only if it notices that a rule is missing. Each row is a rule and the
//! smallest world known in which a property breaks without it; or the reason why no world shows it. [`run`]
//! explores the world of a row without its rule, and takes the counterexample once more with the rule back.

mod run;

pub use run::{Explored, Outcome, Ran, run};

use crate::mutants::{Mutant, Rulebook};
use crate::world::{Application, Clients, Crashes, WorldConfig};
use pbft::types::{Cluster, ReplicaId, SeqNo, View};

/// A safeguard, and what shows it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The rule that is switched off; none for the bound on how many are Byzantine, which is no rule of a
    /// replica.
    pub mutant: Option<Mutant>,
    /// What shows it.
    pub evidence: Evidence,
}

/// What shows a safeguard.
#[derive(Clone, Debug)]
pub enum Evidence {
    /// Without it a property breaks in a world.
    Killed(Kill),
    /// No property of safety breaks without it in a world that is exhausted.
    NotASafeguard {
        /// That world.
        world: WorldConfig,
        /// Whether it may be thought to serve progress: then every request executes from each state of the
        /// world as well, by the [strategies that keep nothing](crate::progress::Strategy::FORGETFUL).
        serves_progress: bool,
        /// Why nothing breaks, as far as can be seen.
        why: &'static str,
    },
    /// Without it some request never executes, from some state of this world; with it all do, from each, by the
    /// [strategies that keep nothing](crate::progress::Strategy::FORGETFUL). The state is shown with whole replicas.
    Stuck(WorldConfig),
    /// Only simulation can show it.
    SimulationOnly(&'static str),
}

/// The world that shows what breaks.
#[derive(Clone, Debug)]
pub struct Kill {
    /// The world.
    pub world: WorldConfig,
    /// The property that breaks first.
    pub property: &'static str,
    /// Whether exploring it takes seconds and not less: left out of quick runs.
    pub slow: bool,
    /// Whether that property alone is judged: another breaks in as few steps, or in fewer.
    pub judged_alone: bool,
}

/// The name of the row that is no rule of a replica.
pub const AT_MOST_F: &str = "at-most-f";

impl Row {
    /// The name of the safeguard.
    pub fn id(&self) -> &'static str {
        self.mutant.map_or(AT_MOST_F, Mutant::id)
    }

    /// Where its counterexample is stored, from the directory of all; none if there is none.
    pub fn file(&self) -> Option<String> {
        match &self.evidence {
            Evidence::Killed(_) => Some(format!("{}.json", self.id())),
            Evidence::Stuck(_) => Some(format!("stuck/{}.json", self.id())),
            Evidence::NotASafeguard { .. } | Evidence::SimulationOnly(_) => None,
        }
    }

    /// What is lost without it.
    pub fn lost(&self) -> &'static str {
        self.mutant.map_or("more than f replicas are Byzantine", Mutant::lost)
    }

    /// Whether its world can be explored round by round. Worlds with checkpoints, crashes or client actors have no
    /// rounds, and where NEW-VIEWs are accepted over again a round has no end.
    pub fn has_rounds(&self) -> bool {
        let bounded = |world: WorldConfig| {
            let is_plain = world.checkpoint_interval.is_none() && world.crashes.is_none();
            is_plain && world.clients == Clients::Implicit
        };
        self.rounds_end() && self.world().is_some_and(bounded)
    }

    /// Whether a round has an end without the rule.
    pub fn rounds_end(&self) -> bool {
        !matches!(self.mutant, Some(Mutant::SecondNewView | Mutant::ViewsGoBack))
    }

    /// The world that it is explored in, with the rule switched off; none if there is none.
    pub fn world(&self) -> Option<WorldConfig> {
        let world = match &self.evidence {
            Evidence::Killed(kill) => &kill.world,
            Evidence::NotASafeguard { world, .. } | Evidence::Stuck(world) => world,
            Evidence::SimulationOnly(_) => return None,
        };
        Some(WorldConfig { rules: Rulebook { without: self.mutant }, ..world.clone() })
    }
}

/// Bounds of a world, short to write.
#[derive(Clone, Copy)]
struct Bounds {
    n: u16,
    byzantine: &'static [u16],
    views: u64,
    numbers: u64,
    requests: u32,
    /// The checkpoint interval and the window.
    checkpoints: Option<(u64, u64)>,
    window: Option<u64>,
    clients: Clients,
    /// What they call for.
    calls: Option<&'static str>,
    crashes: Option<Crashes>,
}

/// Four replicas of which this one is Byzantine; view 0, one number, one request.
const fn byzantine(byzantine: &'static [u16]) -> Bounds {
    Bounds {
        n: 4,
        byzantine,
        views: 0,
        numbers: 1,
        requests: 1,
        checkpoints: None,
        window: None,
        clients: Clients::Implicit,
        calls: None,
        crashes: None,
    }
}

const R0: Bounds = byzantine(&[0]);
const R1: Bounds = byzantine(&[1]);
const R3: Bounds = byzantine(&[3]);

impl Bounds {
    const fn two_requests(self) -> Self {
        Bounds { requests: 2, ..self }
    }

    const fn requests(self, requests: u32) -> Self {
        Bounds { requests, ..self }
    }

    const fn views(self, views: u64) -> Self {
        Bounds { views, ..self }
    }

    const fn numbers(self, numbers: u64) -> Self {
        Bounds { numbers, ..self }
    }

    const fn checkpoints(self, interval: u64, window: u64) -> Self {
        Bounds { checkpoints: Some((interval, window)), ..self }
    }

    /// Replicas crash anywhere, any number of times.
    const fn crashes(self) -> Self {
        Bounds { crashes: Some(Crashes { at_most: None, between_steps: false }), ..self }
    }

    /// Clients that call for this.
    const fn calls(self, calls: &'static str) -> Self {
        Bounds { calls: Some(calls), ..self }
    }

    fn config(self) -> WorldConfig {
        let application = self.calls.map(|calls| Application::parse(calls).expect("it is well-formed"));
        let config = WorldConfig {
            byzantine: self.byzantine.iter().copied().map(ReplicaId).collect(),
            max_view: View(self.views),
            max_seq: SeqNo(self.numbers),
            checkpoint_interval: self.checkpoints.map(|(interval, _)| interval),
            window: self.window.or(self.checkpoints.map(|(_, window)| window)),
            clients: self.clients,
            crashes: self.crashes,
            ..WorldConfig::new(Cluster::new(self.n, 1), self.requests)
        };
        match application {
            Some(application) => config.with_application(application),
            None => config,
        }
    }
}

const SPLIT: &str = "prepared-uniqueness";
const LOST: &str = "new-view-preserves-committed";
const FALSE: &str = "validity";
const TWICE: &str = "at-most-once";
const WINDOW: &str = "watermarks";
const VIEWS: &str = "view-monotonic";
const STATES: &str = "checkpoints-agree";
const LIES: &str = "replies-never-conflict";
const BATCH: &str = "executes-agreed-batch";
const STATE: &str = "checkpoint-is-state";
const STALE: &str = "linearizable";

/// Every safeguard, in the order of the mutants.
pub fn rows() -> Vec<Row> {
    let rule = |&mutant: &Mutant| Row { mutant: Some(mutant), evidence: evidence(mutant) };
    let beyond = kill(byzantine(&[0, 1]).two_requests(), SPLIT);
    let mut rows: Vec<Row> = Mutant::ALL.iter().map(rule).collect();
    rows.push(Row { mutant: None, evidence: beyond });
    rows
}

fn kill(world: Bounds, property: &'static str) -> Evidence {
    Evidence::Killed(Kill { world: world.config(), property, slow: false, judged_alone: false })
}

/// Another property breaks in as few steps, or in fewer.
fn alone(world: Bounds, property: &'static str) -> Evidence {
    Evidence::Killed(Kill { world: world.config(), property, slow: false, judged_alone: true })
}

fn slow(world: Bounds, property: &'static str) -> Evidence {
    Evidence::Killed(Kill { world: world.config(), property, slow: true, judged_alone: false })
}

/// No property breaks without it.
fn needless(world: Bounds, why: &'static str) -> Evidence {
    Evidence::NotASafeguard { world: world.config(), serves_progress: false, why }
}

/// No property breaks without it, and every request executes.
fn needless_for_progress(world: Bounds, why: &'static str) -> Evidence {
    Evidence::NotASafeguard { world: world.config(), serves_progress: true, why }
}

fn evidence(mutant: Mutant) -> Evidence {
    match mutant {
        Mutant::PrepareQuorum
        | Mutant::PrimaryPrepares
        | Mutant::VoteAgain
        | Mutant::AnyDigest
        | Mutant::SecondPrePrepare => kill(R0.two_requests(), SPLIT),
        Mutant::SenderInPayload => slow(R0, FALSE),
        Mutant::QuorumOfTwo => kill(Bounds { n: 3, ..R0.two_requests() }, SPLIT),
        Mutant::AnybodyProposes => kill(R1.two_requests(), SPLIT),
        Mutant::AnyView => kill(R1.two_requests().views(1), SPLIT),
        Mutant::ForgedRequest | Mutant::Outsiders => kill(R0, FALSE),
        Mutant::AnyBatch => kill(R1, BATCH),
        Mutant::OutOfOrder => kill(R1.two_requests().numbers(2), FALSE),
        Mutant::ExecuteAgain => kill(R0.numbers(2), TWICE),
        Mutant::NoHighWaterMark => kill(Bounds { window: Some(1), ..R0.numbers(2) }, WINDOW),
        Mutant::NoLowWaterMark => kill(R0, WINDOW),
        Mutant::CommitQuorum
        | Mutant::KeepVoting
        | Mutant::ActInOldView
        | Mutant::NoCertificates
        | Mutant::UnverifiedCertificates
        | Mutant::ViewChangeQuorum
        | Mutant::RepeatedViewChanges
        | Mutant::BelieveO => kill(R1.views(1), LOST),
        Mutant::PrePreparedInP => kill(R0.views(1), LOST),
        Mutant::CertificateQuorum | Mutant::RepeatedVoters => kill(R0.two_requests().views(1), LOST),
        Mutant::SecondNewView => kill(R1.views(1), VIEWS),
        Mutant::ViewsGoBack => kill(R1.views(2), VIEWS),
        Mutant::ViewChangesOfAnyView => slow(byzantine(&[2]).two_requests().views(2), LOST),
        Mutant::LowestViewWins | Mutant::KeepOldest => slow(R0.two_requests().views(2), LOST),
        Mutant::ForgetPrepared => slow(R3.two_requests().views(2), LOST),
        Mutant::UnprovedCheckpoint => kill(R0.two_requests().checkpoints(1, 1), STATES),
        Mutant::CheckpointQuorum => kill(R3.checkpoints(1, 1), STATES),
        Mutant::LowestMinS => kill(R3.views(1).checkpoints(1, 1), LOST),
        Mutant::NoClientTable => kill(R0.checkpoints(1, 1), STATE),
        Mutant::UnverifiedBlocks => kill(R0.numbers(2).checkpoints(1, 2), TWICE),
        Mutant::OneReply => kill(Bounds { clients: Clients::Actors, ..R3 }, LIES),
        Mutant::AnyReply => {
            kill(Bounds { clients: Clients::Actors, ..byzantine(&[]).two_requests().numbers(2) }, LIES)
        }
        Mutant::CertificateOfAnyView => needless(
            R1.two_requests().views(1),
            "a certificate is genuine whatever its view: once something commits, every later one carries it",
        ),
        Mutant::SeveralPerN => needless(
            R0.two_requests().views(1),
            "O takes the certificate of the highest view, in one VIEW-CHANGE or in several",
        ),
        Mutant::CertificateAnywhere => needless(
            R0.numbers(2).views(1).checkpoints(1, 1),
            "V holds the VIEW-CHANGE of a correct replica that prepared, so min-s bounds O",
        ),
        Mutant::PreparedWithoutBatch => needless_for_progress(
            R0.two_requests().views(1),
            "where a certificate begins f + 1 correct replicas have the batch, keep it and send it again; only where more than \
             eight batches were accepted for one number could it be lost",
        ),
        Mutant::NullAnywhere => needless_for_progress(
            R0.two_requests().views(1),
            "a null request executes as nothing; it uses numbers up, as a primary can with requests too, and the timers of \
             requests that wait go on",
        ),
        Mutant::SameTimeout => Evidence::SimulationOnly("time is no part of a world"),
        Mutant::PersistNothing => kill(R0.two_requests().crashes(), SPLIT),
        // What was executed and not recorded is executed again in as few steps.
        Mutant::SendFirst => alone(R0.two_requests().crashes(), SPLIT),
        // That it is in view 0 again shows in two steps, that its P is gone in what is lost.
        Mutant::RestartInViewZero => alone(R1.views(1).crashes(), LOST),
        Mutant::OneMovesAll
        | Mutant::NoTimer
        | Mutant::PrimaryOnly
        | Mutant::ReplyOnce
        | Mutant::NeverJoin => Evidence::Stuck(R0.config()),
        // A request at n2, and nothing at n1.
        Mutant::LeaveGaps => Evidence::Stuck(R0.numbers(2).config()),
        Mutant::ViewChangeOnce => Evidence::Stuck(R3.views(1).config()),
        // The checkpoint at n2 needs the replica that never gets the state at n1, and n3 needs the checkpoint.
        Mutant::NeverFetch => Evidence::Stuck(R3.requests(3).checkpoints(1, 1).config()),
        Mutant::LeftBehind => Evidence::Stuck(byzantine(&[2]).views(1).config()),
        Mutant::SmallReadQuorum | Mutant::ReadsDoNotWait => kill(R3.numbers(1).calls("w.r"), STALE),
    }
}
