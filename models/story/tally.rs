//! Quorums as they fill: how many votes are needed, which ones a node has, and which of them count by the
//! rules that it runs by.

use super::lies::listed;
use super::{Names, name};
use crate::crypto::Symbolic;
use crate::mutants::Rulebook;
use crate::trace::Executor;
use crate::trace::replay::Taken;
use pbft::message::Message;
use pbft::replica::Fact;
use pbft::rules::Rules;
use pbft::types::{Digest, Principal, ReplicaId, SeqNo, View};
use std::collections::BTreeSet;

type Msg = Message<Symbolic>;

/// A vote that a node has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vote {
    /// Whose it is, and what is strange about it: `r1`, `r1 again`, `r2 (for A)`.
    pub who: String,
    /// As whose it counts.
    pub replica: Option<ReplicaId>,
    /// The step at which it arrived; none for the node's own.
    pub step: Option<usize>,
    /// Whether it counts by the rules that the node runs by.
    pub counts: bool,
}

/// Votes for one thing at one node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tally {
    /// What they are for: `A prepared in v0 at n1`.
    pub what: String,
    /// What the votes are: `PREPARE`.
    pub kind: &'static str,
    /// The rule that says how many are needed, as it can be switched off.
    pub rule: &'static str,
    /// How many are needed.
    pub needed: usize,
    /// Those that the node has, its own among them.
    pub votes: Vec<Vote>,
    /// The number and the digest that are decided, if that is what they are for.
    pub about: Option<(SeqNo, Digest)>,
}

impl Tally {
    /// How many count.
    pub fn have(&self) -> usize {
        self.votes.iter().filter(|vote| vote.counts).count()
    }

    /// Whether there are enough.
    pub fn is_complete(&self) -> bool {
        self.have() >= self.needed
    }

    /// `1/2 PREPAREs`: how many count of how many are needed.
    pub fn counted(&self) -> String {
        let kind = if self.kind == "REPLY" { "REPLIES".into() } else { format!("{}s", self.kind) };
        format!("{}/{} {kind}", self.have(), self.needed)
    }

    /// `A prepared in v0 at n1: 1/2 PREPAREs (r1)`.
    pub fn in_words(&self) -> String {
        let who = listed(self.votes.iter().filter(|vote| vote.counts).map(|vote| vote.who.clone()));
        let others: Vec<String> =
            self.votes.iter().filter(|vote| !vote.counts).map(|vote| vote.who.clone()).collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!("; not counted: {}", others.join(", ")),
        };
        format!("{}: {} ({who}{others})", self.what, self.counted())
    }
}

/// The votes that the last of these steps adds to, or completes something with.
pub fn tallies(executor: &Executor, taken: &[Taken], names: &Names) -> Vec<Tally> {
    let Some(last) = taken.last() else { return Vec::new() };
    let Some(message) = last.step.what.message() else { return Vec::new() };
    if last.came.rejection.is_some() {
        return Vec::new();
    }
    let counter = Counter { executor, taken, names, rules: executor.config().rules };
    let facts = &last.came.facts;
    let mut tallies = Vec::new();
    match message {
        Message::PrePrepare(..) | Message::Prepare(_) | Message::Commit(_) => {
            let (view, n, voted) = message.slot().expect("these have one");
            let digest = counter.accepted(view, n).unwrap_or(voted);
            let prepared = facts.iter().any(|fact| matches!(fact, Fact::Prepared { .. }));
            if message.name() != "COMMIT" || prepared {
                tallies.push(counter.prepares(view, n, digest));
            }
            if message.name() == "COMMIT" || prepared {
                tallies.push(counter.commits(view, n, digest));
            }
        }
        Message::Checkpoint(m) => tallies.push(counter.checkpoints(m.content.n, m.content.digest)),
        Message::ViewChange(m) => {
            let is_primary = last.step.node == executor.config().cluster.primary(m.content.view).into();
            let entered = facts.iter().any(|fact| matches!(fact, Fact::ViewEntered { .. }));
            let joined = facts.iter().any(|fact| matches!(fact, Fact::ViewLeft { .. }));
            if joined || !is_primary {
                tallies.push(counter.joins(m.content.view));
            }
            if is_primary && !entered {
                tallies.push(counter.view_changes(m.content.view));
            }
            tallies.extend(counter.new_view(m.content.view).filter(|_| entered));
        }
        Message::NewView(m) => tallies.extend(counter.new_view(m.content.view)),
        Message::Reply(m) if matches!(m.signer, Principal::Replica(_)) => {
            tallies.push(counter.replies(message));
        }
        _ => {}
    }
    // What a new view carries over is voted on like any proposal.
    for fact in facts {
        if let Fact::ViewEntered { view, carried } = fact {
            tallies.extend(carried.iter().map(|&(n, digest)| counter.prepares(*view, n, digest)));
        }
    }
    tallies.retain(|tally| !tally.votes.is_empty());
    tallies
}

struct Counter<'a> {
    executor: &'a Executor,
    taken: &'a [Taken],
    names: &'a Names,
    rules: Rulebook,
}

impl Counter<'_> {
    fn last(&self) -> &Taken {
        self.taken.last().expect("there is a last step")
    }

    /// The node's own messages, and those that arrived and were not dropped, each with its step.
    fn all(&self) -> Vec<(Option<usize>, &Msg)> {
        let node = self.last().step.node;
        let own = self.executor.sent(&self.last().came.after).into_iter();
        let own = own.filter(|message| message.signer() == Some(node)).map(|message| (None, message));
        // A crash forgets what had arrived.
        let is_crash = |taken: &Taken| taken.step.node == node && taken.step.what.crash().is_some();
        let before = &self.taken[..self.taken.len().saturating_sub(1)];
        let since = before.iter().rposition(is_crash).map_or(0, |at| at + 1);
        let arrived = self.taken.iter().enumerate().skip(since).filter_map(|(at, taken)| {
            let is_here = taken.step.node == node && taken.came.rejection.is_none();
            taken.step.what.message().filter(|_| is_here).map(|message| (Some(at + 1), message))
        });
        own.chain(arrived).collect()
    }

    /// The digest that the node has accepted.
    fn accepted(&self, view: View, n: SeqNo) -> Option<Digest> {
        let last = self.last();
        let position = self.executor.nodes().iter().position(|&node| node == last.step.node)?;
        let replica = &self.executor.replica(&last.came.after, position).replica;
        replica.durable().log.get(&(view, n)).map(|m| m.content.digest)
    }

    fn count(
        &self,
        (what, kind, rule): (String, &'static str, &'static str),
        needed: usize,
        about: Option<(SeqNo, Digest)>,
        vote: impl Fn(&Msg) -> Option<(Principal, Vec<String>, bool)>,
    ) -> Tally {
        let mut seen = BTreeSet::new();
        let mut votes = Vec::new();
        for (step, message) in self.all() {
            let Some((sender, mut strange, mut counts)) = vote(message) else { continue };
            if counts {
                let again = !seen.insert(sender);
                if again {
                    strange.insert(0, "again".into());
                }
                counts = self.rules.one_vote_per_sender(again);
            }
            let signer = message.signer().unwrap_or(sender);
            if signer != sender {
                strange.push(format!("signed by {}", name(signer)));
            }
            let who = match strange.is_empty() {
                true => name(sender),
                false => format!("{} ({})", name(sender), strange.join(", ")),
            };
            let replica = if let Principal::Replica(replica) = sender { Some(replica) } else { None };
            votes.push(Vote { who, replica, step, counts });
        }
        Tally { what, kind, rule, needed, votes, about }
    }

    /// A PREPARE or COMMIT of this number, and whether it counts for a proposal.
    fn slot_vote(
        &self,
        message: &Msg,
        kind: &str,
        (view, n, digest): (View, SeqNo, Digest),
    ) -> Option<(Principal, Vec<String>, bool)> {
        let (its_view, its_n, its_digest) = message.slot().filter(|_| message.name() == kind)?;
        let sender = match message {
            Message::Prepare(m) => m.content.replica,
            Message::Commit(m) => m.content.replica,
            _ => return None,
        };
        let counts = self.rules.votes_match_digest(its_digest == digest)
            && self.rules.votes_match_view(its_view, view);
        // A vote of another view that does not count is not worth a word.
        if its_n != n || (its_view != view && !counts) {
            return None;
        }
        let mut strange = Vec::new();
        if its_digest != digest {
            strange.push(format!("for {}", self.names.of(its_digest)));
        }
        if its_view != view {
            strange.push(format!("of v{}", its_view.0));
        }
        let primary = self.executor.config().cluster.primary(view);
        if kind == "PREPARE" && sender == primary {
            strange.push("the primary".into());
        }
        let may = kind != "PREPARE" || self.rules.primary_does_not_prepare(sender, primary);
        Some((sender.into(), strange, counts && may))
    }

    fn prepares(&self, view: View, n: SeqNo, digest: Digest) -> Tally {
        let what = format!("{} prepared in v{} at n{}", self.names.of(digest), view.0, n.0);
        let needed = self.rules.prepare_quorum(&self.executor.config().cluster);
        self.count((what, "PREPARE", "prepare-quorum"), needed, Some((n, digest)), |message| {
            self.slot_vote(message, "PREPARE", (view, n, digest))
        })
    }

    fn commits(&self, view: View, n: SeqNo, digest: Digest) -> Tally {
        let what = format!("{} committed in v{} at n{}", self.names.of(digest), view.0, n.0);
        let needed = self.rules.commit_quorum(&self.executor.config().cluster);
        self.count((what, "COMMIT", "commit-quorum"), needed, Some((n, digest)), |message| {
            self.slot_vote(message, "COMMIT", (view, n, digest))
        })
    }

    fn checkpoints(&self, n: SeqNo, digest: Digest) -> Tally {
        let what = format!("checkpoint {} at n{} stable", self.names.of(digest), n.0);
        let needed = self.rules.checkpoint_quorum(&self.executor.config().cluster);
        self.count((what, "CHECKPOINT", "checkpoint-quorum"), needed, Some((n, digest)), |message| {
            let Message::Checkpoint(m) = message else { return None };
            let same = m.content.digest == digest;
            let strange = (!same).then(|| format!("for {}", self.names.of(m.content.digest)));
            let sender = m.content.replica.into();
            (m.content.n == n).then(|| (sender, strange.into_iter().collect(), same))
        })
    }

    fn joins(&self, view: View) -> Tally {
        let needed = self.rules.join_threshold(&self.executor.config().cluster);
        let node = self.last().step.node;
        self.count(
            (format!("leaving for v{}", view.0), "VIEW-CHANGE", "join-on-f+1"),
            needed,
            None,
            |message| {
                let Message::ViewChange(m) = message else { return None };
                let of = m.content.view >= view && m.signer != node;
                of.then(|| (m.content.replica.into(), Vec::new(), true))
            },
        )
    }

    fn view_changes(&self, view: View) -> Tally {
        let needed = self.rules.view_change_quorum(&self.executor.config().cluster);
        let what = (format!("v{} begins", view.0), "VIEW-CHANGE", "view-change-quorum");
        self.count(what, needed, None, |message| {
            let Message::ViewChange(m) = message else { return None };
            let counts = self.rules.view_changes_match_view(m.content.view, view);
            counts.then(|| (m.content.replica.into(), Vec::new(), true))
        })
    }

    /// Whose VIEW-CHANGEs begin a view that the node enters.
    fn new_view(&self, view: View) -> Option<Tally> {
        let last = self.last();
        let sent = self.executor.sent(&last.came.after);
        let delivered = last.step.what.message();
        let found = delivered.into_iter().chain(sent).find_map(|message| match message {
            Message::NewView(m) if m.content.view == view => Some(m),
            _ => None,
        })?;
        let mut seen = BTreeSet::new();
        let votes = found.content.view_changes.iter().map(|m| {
            let again = !seen.insert(m.content.replica);
            let of = (m.content.view != view).then(|| format!("for v{}", m.content.view.0));
            let strange: Vec<String> = again.then(|| "again".into()).into_iter().chain(of).collect();
            let who = match strange.is_empty() {
                true => name(m.signer),
                false => format!("{} ({})", name(m.signer), strange.join(", ")),
            };
            let counts = self.rules.distinct_view_changes(!again)
                && self.rules.view_changes_match_view(m.content.view, view);
            Vote { who, replica: Some(m.content.replica), step: None, counts }
        });
        Some(Tally {
            what: format!("v{} begins", view.0),
            kind: "VIEW-CHANGE",
            rule: "view-change-quorum",
            needed: self.rules.view_change_quorum(&self.executor.config().cluster),
            votes: votes.collect(),
            about: None,
        })
    }

    fn replies(&self, last: &Msg) -> Tally {
        let Message::Reply(reply) = last else { unreachable!("only replies are counted here") };
        let (t, result) = (reply.content.timestamp, &reply.content.result);
        let what = format!("the result {} of t{}", crate::words::text(result), t.0);
        let cluster = &self.executor.config().cluster;
        let is_read = self.executor.sent(&self.last().came.after).into_iter().any(|message| {
            let Message::Request(m) = message else { return false };
            let about = (m.content.client, m.content.timestamp);
            m.content.read_only && about == (reply.content.client, t)
        });
        let (rule, needed) = match is_read {
            true => ("read-quorum", self.rules.read_quorum(cluster)),
            false => ("f+1-replies", self.rules.reply_quorum(cluster)),
        };
        self.count((what, "REPLY", rule), needed, None, |message| {
            let Message::Reply(m) = message else { return None };
            let same =
                m.content.result == *result && self.rules.reply_bound_to_request(m.content.timestamp == t);
            let mut strange = Vec::new();
            if m.content.timestamp != t {
                strange.push(format!("to t{}", m.content.timestamp.0));
            }
            same.then(|| (m.content.replica.into(), strange, true))
        })
    }
}
