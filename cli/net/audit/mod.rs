//! `pbft audit`: journals replayed through the same `step`, and judged by the properties.

mod contract;
mod tell;

use super::config::{Config, Served};
use crate::output::interrupted;
use crate::say;
use contract::Held;
use pbft::crypto::ed25519::Ed25519;
use pbft::kv::KeyValue;
use pbft::message::{Batch, Reply, Request};
use pbft::replica::{Effects, Event, Fact, Replica, Setup};
use pbft::runtime::journal::{JournalError, Observer, Reader, Replay, Summary};
use pbft::types::{Bytes, ClientId, Cluster, ReplicaId, SeqNo, Timestamp};
use pbft_models::story::production::{Range, Recorder};
use pbft_properties::{Accepted, Base, Catalogue, History, Snapshot, Violation, all};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The options of `pbft audit`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration that the replicas ran with.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The journals; those that lie in the directory journals beside the configuration, if none are given.
    #[arg(value_name = "JOURNAL")]
    journals: Vec<PathBuf>,
    /// Print one JSON object, and nothing else.
    #[arg(long)]
    json: bool,
}

/// How the replay of one journal ended.
struct Replayed {
    path: PathBuf,
    /// Its first segment.
    segment: u64,
    summary: Summary,
    /// The steps whose state was removed.
    skipped: u64,
    /// The bytes of an entry that the file ends in.
    incomplete: u64,
    divergence: Option<String>,
    damage: Option<String>,
    /// Its steps, held to the protocol that is proved.
    held: Held,
}

impl Replayed {
    /// Whether something that the journal held cannot be told any more, other than at its beginning.
    fn is_partly_read(&self) -> bool {
        self.damage.is_some() || self.summary.gaps > 0
    }
}

/// What all journals say.
struct Seen {
    histories: BTreeMap<ReplicaId, History>,
    authentic: BTreeSet<(ClientId, Timestamp, Bytes)>,
    /// The batches that occur in any of them: a replica that executes one has received or proposed it.
    catalogue: Catalogue,
    /// Requests that are answered without being ordered.
    reads: BTreeSet<(ClientId, Timestamp)>,
    /// Who sent each result.
    replies: BTreeMap<(ClientId, Timestamp), BTreeMap<Bytes, BTreeSet<ReplicaId>>>,
}

impl Default for Seen {
    fn default() -> Self {
        Seen {
            histories: BTreeMap::new(),
            authentic: BTreeSet::new(),
            catalogue: Catalogue::new::<Ed25519>(),
            reads: BTreeSet::new(),
            replies: BTreeMap::new(),
        }
    }
}

/// What one journal adds to that, and to the story if one is told.
struct Seeing<'a> {
    id: ReplicaId,
    seen: &'a mut Seen,
    recorder: Option<&'a mut Recorder<Served>>,
    held: Held,
}

impl Observer<Served> for Seeing<'_> {
    fn begins(&mut self, setup: &Setup<Served>, replica: &Replica<Served>) {
        self.seen.histories.insert(self.id, History::since(Base::of(setup, replica)));
        self.held.begins(setup, replica);
    }

    fn fact(&mut self, fact: &Fact) {
        self.seen.histories.entry(self.id).or_default().record(fact);
    }

    fn reply(&mut self, reply: &Reply) {
        let results = self.seen.replies.entry((reply.client, reply.timestamp)).or_default();
        results.entry(reply.result.clone()).or_default().insert(self.id);
    }

    fn request(&mut self, request: &Request) {
        if request.read_only {
            self.seen.reads.insert((request.client, request.timestamp));
        }
        self.seen.authentic.insert((request.client, request.timestamp, request.operation.clone()));
    }

    fn batch(&mut self, batch: &Batch<Ed25519>) {
        self.seen.catalogue.add(batch);
    }

    fn goes_on_after(&mut self, steps: u64) {
        self.held.goes_on_after(steps);
    }

    fn carried_out(&mut self, steps: u64) {
        self.held.carried_out(steps);
    }

    fn started(&mut self, setup: &Setup<Served>, life: u64, replica: &Replica<Served>) {
        self.held.starts(setup, life, replica);
        if let Some(recorder) = &mut self.recorder {
            recorder.started(setup.id, life, replica);
        }
    }

    fn before(&mut self, replica: &Replica<Served>, event: &Event<Ed25519>) {
        self.held.event(event);
        if let Some(recorder) = &mut self.recorder {
            recorder.event(replica, event);
        }
    }

    fn after(&mut self, setup: &Setup<Served>, replica: &Replica<Served>, effects: &Effects<Ed25519>) {
        self.held.effects(setup, effects);
        if let Some(recorder) = &mut self.recorder {
            recorder.effects(setup, replica, effects);
        }
    }
}

/// What the journals of a cluster say, judged.
struct Judged {
    replayed: BTreeMap<ReplicaId, Replayed>,
    judged: BTreeSet<ReplicaId>,
    not_judged: Vec<ReplicaId>,
    /// The last batch before what is known of each replica that is not known from its first start.
    from: BTreeMap<ReplicaId, SeqNo>,
    verdicts: Vec<Verdict>,
    requests: usize,
    reads: usize,
    accepted: usize,
    /// Whether what clients accepted was judged too.
    replies: bool,
}

/// Replays and judges.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let config = Config::read(&arguments.config)?;
    let journals = journals(&config, &arguments.journals)?;
    let quiet = arguments.json;
    let Some(found) = judge(&config, journals, None, &mut |id, one| {
        if !quiet {
            tell::tell(id, one);
        }
    })?
    else {
        return Ok(ExitCode::from(3));
    };
    if arguments.json {
        tell::print_json(&found);
    } else {
        tell::tell_verdicts(&found);
        say!(
            "{} requests, {} of them reads, which are not ordered; {} results of the others accepted",
            found.requests,
            found.reads,
            found.accepted
        );
        if !found.replies {
            say!("results are not judged: more than f replicas are not judged to the end");
        }
    }
    Ok(ExitCode::from(status(&found)))
}

fn status(found: &Judged) -> u8 {
    let broken = found.verdicts.iter().any(|(_, verdict)| verdict.is_err())
        || found.replayed.values().any(|one| one.divergence.is_some() || one.held.breach().is_some());
    let unknown = found.judged.is_empty() || found.replayed.values().any(Replayed::is_partly_read);
    if broken {
        1
    } else if unknown {
        3
    } else {
        0
    }
}

/// Replays these journals and judges what they say; none if that was interrupted.
fn judge(
    config: &Config,
    journals: BTreeMap<ReplicaId, PathBuf>,
    mut recorder: Option<&mut Recorder<Served>>,
    told: &mut dyn FnMut(ReplicaId, &Replayed),
) -> Result<Option<Judged>, String> {
    let (mut seen, mut replayed) = (Seen::default(), BTreeMap::new());
    for (id, path) in journals {
        let one = replay(config, id, path, &mut seen, recorder.as_deref_mut())?;
        told(id, &one);
        replayed.insert(id, one);
        if interrupted() {
            return Ok(None);
        }
    }
    // A replica is judged if it is known what it was when its history begins, and it was not faulty then.
    let known = |one: &Replayed| {
        let Summary { first_life, lives, faulty_from, .. } = one.summary;
        lives > 0 && faulty_from.is_none_or(|life| life > first_life)
    };
    let judged: BTreeSet<ReplicaId> =
        replayed.iter().filter(|(_, one)| known(one)).map(|(&id, _)| id).collect();
    for &id in &judged {
        seen.histories.entry(id).or_default();
    }
    let base = |(&id, history): (&ReplicaId, &History)| Some((id, history.base()?.n));
    let from = seen.histories.iter().filter_map(base).collect();
    let not_judged: Vec<ReplicaId> = config.cluster.replicas().filter(|id| !judged.contains(id)).collect();
    let replies = replies_are_judged(&config.cluster, &judged, &replayed);
    let accepted = if replies { accepted(&config.cluster, &seen) } else { Vec::new() };
    let genesis = config.genesis()?;
    let snapshot = Snapshot {
        cluster: config.cluster,
        parameters: config.parameters,
        genesis: &genesis,
        replicas: &seen.histories,
        authentic: &seen.authentic,
        catalogue: &seen.catalogue,
        accepted: &accepted,
        calls: &[],
    };
    // Journals of replicas know nothing of calls.
    let judging = all::<KeyValue>().into_iter().filter(|property| !property.is_of_calls);
    let verdicts: Vec<Verdict> =
        judging.map(|property| (property.name, (property.check)(&snapshot))).collect();
    Ok(Some(Judged {
        replayed,
        judged,
        not_judged,
        from,
        verdicts,
        requests: seen.authentic.len(),
        reads: seen.reads.len(),
        accepted: accepted.len(),
        replies,
    }))
}

/// What the journals of a cluster tell, as a page; and the status of an audit of them.
///
/// `directory` has the cluster's configuration in it, `cluster.toml`.
pub fn page(directory: &Path, range: &Range) -> Result<(String, u8), String> {
    let config = Config::read(&directory.join("cluster.toml"))?;
    let mut recorder = Recorder::new(config.cluster);
    let mut notes = Vec::new();
    let found = judge(&config, journals(&config, &[])?, Some(&mut recorder), &mut |id, one| {
        notes.extend(one.divergence.iter().map(|why| format!("replica {} DIVERGES in {why}", id.0)));
        notes.extend(
            one.damage.iter().map(|why| format!("replica {}'s journal is not read to its end: {why}", id.0)),
        );
        notes.extend(one.scope().map(|scope| format!("replica {}: {scope}", id.0)));
    })?
    .ok_or("interrupted")?;
    let (story, beyond) = recorder.story(range);
    let verdicts = found.verdicts.iter().map(|(property, verdict)| {
        let violated = verdict.as_ref().err().map(|violation| violation.what.clone());
        (*property, violated, found.judged.is_empty())
    });
    let verdicts = verdicts.collect::<Vec<_>>();
    let page = pbft_models::story::page::of_production(&story, &verdicts, &notes, (range, beyond));
    Ok((page, status(&found)))
}

type Verdict = (&'static str, Result<(), Violation>);

/// Which journals to replay.
fn journals(config: &Config, given: &[PathBuf]) -> Result<BTreeMap<ReplicaId, PathBuf>, String> {
    let mut journals = BTreeMap::new();
    if given.is_empty() {
        journals = (config.cluster.replicas().map(|id| (id, config.journal(id))))
            .filter(|(_, path)| path.exists())
            .collect();
        if journals.is_empty() {
            return Err(format!(
                "there is no journal in {}: replicas write one with `journal = true` in the configuration, or name the files",
                config.directory.join("journals").display()
            ));
        }
    }
    for path in given {
        let header = Reader::open(path).map_err(|error| explain(&error))?.header();
        let id = header.identity.replica;
        if header != config.journal_header(id) {
            return Err(explain(&JournalError::Foreign(path.clone())));
        }
        if let Some(other) = journals.insert(id, path.clone()) {
            return Err(format!(
                "{} and {} are both journals of replica {}: name one",
                other.display(),
                path.display(),
                id.0
            ));
        }
    }
    Ok(journals)
}

fn explain(error: &JournalError) -> String {
    match error {
        JournalError::Foreign(_) => format!("{error}: give the configuration it was written with"),
        JournalError::NotAJournal(_) => format!("{error}: name files that replicas have written"),
        other => other.to_string(),
    }
}

fn replay(
    config: &Config,
    id: ReplicaId,
    path: PathBuf,
    seen: &mut Seen,
    recorder: Option<&mut Recorder<Served>>,
) -> Result<Replayed, String> {
    let mut reader = Reader::open(&path).map_err(|error| explain(&error))?;
    if reader.header() != config.journal_header(id) {
        return Err(explain(&JournalError::Foreign(path)));
    }
    let (mut replay, segment) = (Replay::new(config.setup(id)?), reader.segment());
    let mut observer = Seeing { id, seen, recorder, held: Held::default() };
    let (mut divergence, mut damage) = (None, None);
    while divergence.is_none() && !interrupted() {
        match reader.next_recorded() {
            Ok(Some(recorded)) => {
                divergence = replay.feed(recorded, &mut observer).err().map(|d| d.to_string());
            }
            Ok(None) => break,
            Err(error @ JournalError::Io { .. }) => return Err(error.to_string()),
            Err(error) => {
                damage = Some(error.to_string());
                break;
            }
        }
    }
    let (summary, skipped, incomplete) =
        (replay.summary(), reader.skipped_steps(), reader.incomplete_bytes());
    let held = observer.held;
    Ok(Replayed { path, segment, summary, skipped, incomplete, divergence, damage, held })
}

/// Whether what clients accepted can be held against what the replicas judged have executed.
///
/// At most f replicas are left out of a judgement that hears of the results: at least one of the rest has
/// executed what f + 1 vouch for, even if others have fetched it with the state. If it did so before its
/// journal begins, its client table has that result or a later one.
fn replies_are_judged(
    cluster: &Cluster,
    judged: &BTreeSet<ReplicaId>,
    replayed: &BTreeMap<ReplicaId, Replayed>,
) -> bool {
    let whole = |id: &&ReplicaId| {
        let one = &replayed[*id];
        one.summary.faulty_from.is_none() && one.divergence.is_none() && one.damage.is_none()
    };
    let from_beginning_to_end = judged.iter().filter(whole).count();
    cluster.n() - from_beginning_to_end <= cluster.f()
}

/// The results of ordered requests that a client would accept: f + 1 replicas sent them.
///
/// Answers to reads are left out: replicas may answer the same read from two states, and only the client
/// knows which it took.
fn accepted(cluster: &Cluster, seen: &Seen) -> Vec<Accepted> {
    let ordered = seen.replies.iter().filter(|(request, _)| !seen.reads.contains(request));
    ordered
        .flat_map(|(&(client, timestamp), results)| {
            let enough = results.iter().filter(|(_, from)| from.len() > cluster.f());
            enough.map(move |(result, _)| Accepted {
                client,
                timestamp,
                result: result.clone(),
                read_only: false,
            })
        })
        .collect()
}
