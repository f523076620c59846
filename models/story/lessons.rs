//! What each counterexample teaches: the attack, and why the rule stops it, in a sentence each.

use crate::matrix::{AT_MOST_F, Row};
use crate::mutants::Mutant;

/// A rule, as a reader of the paper meets it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lesson {
    /// The name of the safeguard.
    pub id: &'static str,
    /// The section of OSDI'99 that it comes from.
    pub section: &'static str,
    /// The method of `Rules`; none for the bound on how many are Byzantine.
    pub method: Option<String>,
    /// What happens without the rule.
    pub attack: &'static str,
    /// Why it cannot happen with the rule.
    pub why: &'static str,
}

/// The sections in their order, and what they are about.
pub const SECTIONS: &[(&str, &str)] = &[
    ("2", "The model: at most f of n >= 3f + 1 replicas are Byzantine"),
    ("4.1", "The client"),
    ("4.2", "Normal-case operation"),
    ("4.3", "Garbage collection and state transfer"),
    ("4.4", "View changes"),
    ("4.5.2", "Liveness"),
    ("5.1", "Reducing communication: reads that are not ordered"),
    (BEYOND, "Crashes and stable storage"),
];

/// What stands for a section where OSDI'99 has none: its replicas do not restart.
const BEYOND: &str = "beyond the paper";

/// A section as a source is quoted: `OSDI'99 §4.2`.
fn quoted(section: &str) -> String {
    if section == BEYOND { section.into() } else { format!("OSDI'99 §{section}") }
}

impl Lesson {
    /// The source of the rule, as it is quoted.
    pub fn source(&self) -> String {
        // OSDI'99 leaves open how a state is fetched, what of a replica is part of it, and what is sent again.
        match self.id {
            id if id == Mutant::UnverifiedBlocks.id() => "Castro's thesis §5.3".into(),
            id if id == Mutant::NoClientTable.id() => "OSDI'99 §4.1, Castro's thesis §2.4".into(),
            id if id == Mutant::ViewChangeOnce.id() || id == Mutant::LeftBehind.id() => {
                "Castro's thesis §5.2".into()
            }
            _ => quoted(self.section),
        }
    }
}

/// The heading of a section: `§4.2 Normal-case operation`.
pub fn heading(section: &str, title: &str) -> String {
    if section == BEYOND { format!("{title}, {section}") } else { format!("§{section} {title}") }
}

/// The lesson of a safeguard whose counterexample is stored.
pub fn lesson(row: &Row) -> Option<Lesson> {
    row.file()?;
    let (section, attack, why) = told(row.mutant)?;
    Some(Lesson { id: row.id(), section, method: method(row.mutant), attack, why })
}

/// The method of `Rules` that a mutant changes.
pub fn method(mutant: Option<Mutant>) -> Option<String> {
    let id = mutant?.id();
    Some(match id {
        "n-3f+1" => "prepare_quorum".into(),
        "join-on-f+1" | "one-is-not-enough" => "join_threshold".into(),
        "f+1-replies" => "reply_quorum".into(),
        "gc-after-execution" => "fetch_missing_state".into(),
        "reads-wait-for-prepared" => "reads_wait_for_prepared".into(),
        _ => id.replace('-', "_"),
    })
}

/// The lesson with this name.
pub fn named(id: &str) -> Option<Lesson> {
    let row = crate::matrix::rows().into_iter().find(|row| row.id() == id)?;
    lesson(&row)
}

/// What becomes of the first violation without a rule if the execution goes on, where a counterexample that
/// does is stored: in `counterexamples/consequences`.
#[rustfmt::skip]
pub fn consequence(mutant: Mutant) -> Option<&'static str> {
    Some(match mutant {
        Mutant::NoLowWaterMark => {
            "A is committed at n1 and covered by a checkpoint, with which r1 discards what it had accepted there. It accepts B at n1, and its votes let r3, which has executed nothing yet, commit and execute B where r1 executed A."
        }
        Mutant::ViewsGoBack => {
            "A is committed in view 2. A replica that voted for it goes back to view 1, whose NEW-VIEW knows nothing of A, and its votes let another one commit B there."
        }
        Mutant::SecondNewView => {
            "A replica that has voted for A in view 1 begins view 1 again, by a second NEW-VIEW that carries over B, and prepares B as well. Both then have certificates of view 1: view 2 carries over B, and it is committed where A was."
        }
        Mutant::NoClientTable => {
            "The Byzantine primary orders one request at n1 and n2. A replica fetches the state of the checkpoint; without the table of last replies it does not know that the request has executed, and executes it again."
        }
        Mutant::CheckpointQuorum => {
            "The Byzantine replica's word alone makes states stable at n1 that nobody has had there: the initial one at one replica, one in which A has executed at another. The first runs A at n2; the other, which has fetched its state, runs nothing there."
        }
        Mutant::UnprovedCheckpoint => {
            "Two replicas believe a certificate each with one signature in it. One takes the initial state for that after n1 and runs B at n2; the other fetches a state in which B has executed, and runs nothing there."
        }
        _ => return None,
    })
}

/// The mutants with a consequence that is stored.
pub fn consequences() -> impl Iterator<Item = Mutant> {
    Mutant::ALL.iter().copied().filter(|&mutant| consequence(mutant).is_some())
}

/// The name of the lesson of an execution: that of its rule, or of the bound.
pub fn id_of(mutant: Option<Mutant>) -> &'static str {
    mutant.map_or(AT_MOST_F, Mutant::id)
}

#[rustfmt::skip]
fn told(mutant: Option<Mutant>) -> Option<(&'static str, &'static str, &'static str)> {
    let Some(mutant) = mutant else {
        return Some((
            "2",
            "Two of four replicas are Byzantine, where f = 1: the primary proposes A to one and B to another, and its accomplice votes for both.",
            "With at most f Byzantine replicas, two quorums of 2f + 1 among 3f + 1 meet in at least f + 1 replicas, and so in a correct one, which votes once.",
        ));
    };
    Some(match mutant {
        Mutant::OneReply => (
            "4.1",
            "A single Byzantine replica answers before anything has executed, and the client believes it.",
            "Among f + 1 matching replies one is of a correct replica, which has executed the request with that result.",
        ),
        Mutant::AnyReply => (
            "4.1",
            "A client takes the replies to another client's request for its own: nobody is Byzantine here.",
            "A reply counts if it names this client and the timestamp it waits for.",
        ),
        Mutant::PrepareQuorum => (
            "4.2",
            "The primary proposes A to one backup and B to another; with 2f - 1 PREPAREs needed, each backup is prepared by its own vote.",
            "With 2f PREPAREs beside the PRE-PREPARE each side needs 2f + 1 replicas, and two such sets share a correct one, which prepares one digest only.",
        ),
        Mutant::CommitQuorum => (
            "4.2",
            "A replica executes A on 2f COMMITs. The view changes, and the quorum of VIEW-CHANGEs holds nobody correct that has prepared A, so the new view forgets it.",
            "Of 2f + 1 COMMITs f + 1 are of correct replicas that have prepared; every quorum of VIEW-CHANGEs holds one of them.",
        ),
        Mutant::QuorumOfTwo => (
            "4.2",
            "Three replicas with f = 1 can only make progress with quorums of two, and two such quorums may meet in the Byzantine replica alone.",
            "With n >= 3f + 1 and quorums of 2f + 1, any two quorums meet in f + 1 replicas, and so in a correct one.",
        ),
        Mutant::PrimaryPrepares => (
            "4.2",
            "The Byzantine primary proposes A and B and adds a PREPARE to each, so that it is counted twice on either side.",
            "A primary's vote is its PRE-PREPARE: prepared takes 2f PREPAREs of backups, and so 2f + 1 different replicas.",
        ),
        Mutant::VoteAgain => (
            "4.2",
            "One PREPARE is delivered twice and counts twice, so a single backup beside the receiver makes up a quorum.",
            "Votes are counted by sender, so a quorum is as many replicas as it says.",
        ),
        Mutant::AnyDigest => (
            "4.2",
            "PREPAREs for A help to prepare B: the primary proposes A to one and B to another, and both gather the same votes.",
            "A vote counts for the digest it names, so the two proposals need two quorums, which meet in a correct replica.",
        ),
        Mutant::AnyView => (
            "4.2",
            "A replica counts its own vote of view 0 towards the proposal of view 1, and prepares there what too few have agreed to.",
            "A vote speaks of its own view: the quorum of view 1 consists of replicas that have accepted this proposal in view 1.",
        ),
        Mutant::SecondPrePrepare => (
            "4.2",
            "The Byzantine primary sends the same backup first one digest and then the other, and it prepares both.",
            "A backup accepts one digest per view and number, the first, so no quorum for the second can form with it.",
        ),
        Mutant::AnybodyProposes => (
            "4.2",
            "A Byzantine backup proposes for the view too, and two proposals for one number find a quorum each.",
            "Only the primary of a view assigns its numbers, so a correct primary's assignment has no rival.",
        ),
        Mutant::ForgedRequest => (
            "4.2",
            "The Byzantine primary makes up a request in a client's name, and it is executed.",
            "Each request bears its client's signature, which the replicas check before they accept the batch.",
        ),
        Mutant::AnyBatch => (
            "4.2",
            "On its way to one replica a correct primary's PRE-PREPARE loses its batch and is given another under the same digest. That replica executes something else at the number that all have agreed on.",
            "The digest in the signed PRE-PREPARE has to be that of the batch that comes with it.",
        ),
        Mutant::ExecuteAgain => (
            "4.2",
            "The Byzantine primary orders one request at two numbers, and it is executed twice.",
            "A request executes only if its timestamp is above that of the client's last executed one.",
        ),
        Mutant::OutOfOrder => (
            "4.2",
            "The second batch commits first and is executed first, on a state that lacks the first one.",
            "A batch waits until everything with a lower number has executed.",
        ),
        Mutant::NoHighWaterMark => (
            "4.2",
            "The Byzantine primary assigns a number beyond the window, and the log grows as it likes.",
            "Numbers above H = h + L are refused, so that a primary can exhaust neither the numbers nor anybody's memory.",
        ),
        Mutant::NoLowWaterMark => (
            "4.2",
            "A replica accepts a proposal for a number that its stable checkpoint covers, where everything is decided already.",
            "Numbers up to h are over: 2f + 1 replicas have vouched for a state that contains them.",
        ),
        Mutant::SenderInPayload => (
            "4.2",
            "A Byzantine replica signs votes that say they are from others, and fills a quorum alone.",
            "Who has signed a message must be who it says has sent it.",
        ),
        Mutant::Outsiders => (
            "4.2",
            "Somebody with a key of his own, but no member, signs a request and a vote, and both count.",
            "Only configured replicas vote, and only registered clients are served.",
        ),
        Mutant::KeepVoting => (
            "4.4",
            "A replica goes on in view 0 after its VIEW-CHANGE has said that it prepared nothing: it helps to commit A there while the new view, which rests on its word, starts without A.",
            "After VIEW-CHANGE a replica takes no more part in the old view, so what it reported stays true.",
        ),
        Mutant::ActInOldView => (
            "4.4",
            "A replica that is in view 1 still acts on messages of view 0, and A is committed there although view 1 carries nothing over.",
            "Messages of the normal case count in the current view only.",
        ),
        Mutant::NoClientTable => (
            "4.3",
            "The digest of a checkpoint covers the service state but not each client's last request. Nobody lies here and no client is harmed yet, but the checkpoint is already wrong: if A is ordered a second time, a replica that has fetched this state executes it again. The page of what this leads to shows that.",
            "The last reply to each client is part of the state that is digested and fetched, so a replica that fetches it recognizes old requests.",
        ),
        Mutant::CheckpointQuorum => (
            "4.3",
            "The Byzantine replica's word alone makes a state stable that no correct replica has.",
            "Of 2f + 1 matching CHECKPOINTs f + 1 are of correct replicas, which have that state and can give it to others.",
        ),
        Mutant::UnprovedCheckpoint => (
            "4.3",
            "A replica believes in a stable checkpoint without the CHECKPOINTs that prove it, and discards its log for a state that nobody has.",
            "The certificate holds 2f + 1 signed CHECKPOINTs, and the receiver checks them.",
        ),
        Mutant::UnverifiedBlocks => (
            "4.3",
            "The Byzantine primary orders one request twice, at n1 and n2. That alone does no harm: whoever has executed it at n1 finds it in its table of last replies and skips it at n2. But a replica that fetches the state after n1 accepts a block that is not the one it asked for. In that block nothing has executed: it takes the initial state for the one after n1, and executes at n2 what all others have executed at n1.",
            "A block is accepted only if its digest is the one recorded in its parent; the root's digest is in the checkpoint's certificate.",
        ),
        Mutant::LowestMinS => (
            "4.4",
            "A replica that has a stable checkpoint at n1 reports nothing for n1, since the checkpoint covers it. The new primary starts below that checkpoint and takes n1 for free.",
            "O starts above the latest stable checkpoint in V, so a number that some checkpoint covers is not assigned again.",
        ),
        Mutant::NoCertificates => (
            "4.4",
            "VIEW-CHANGEs do not say what has prepared, and the new view forgets a batch that was committed.",
            "A batch that may have committed has prepared at f + 1 correct replicas, and one of them is in every V and reports it.",
        ),
        Mutant::UnverifiedCertificates => (
            "4.4",
            "A Byzantine primary of the new view claims that the null request prepared at n1, backed by no vote but its own. Its certificate is of view 0 like those for A, and comes first in V, which is how this replica chooses among equals; so the new view carries over the lie, and n1 is null where A has executed.",
            "A certificate proves what prepared: the PRE-PREPARE's signature and PREPAREs of 2f different backups are in it and checked.",
        ),
        Mutant::CertificateQuorum => (
            "4.4",
            "The Byzantine primary builds a certificate for B out of 2f - 1 PREPAREs, which it can gather although A was committed.",
            "With 2f PREPAREs a certificate takes 2f + 1 replicas, who meet those that prepared A in a correct one.",
        ),
        Mutant::RepeatedVoters => (
            "4.4",
            "The Byzantine primary repeats one backup's PREPARE in a certificate until there are enough of them.",
            "The voters in a certificate must be different replicas.",
        ),
        Mutant::PrePreparedInP => (
            "4.4",
            "A certificate needs no PREPARE: the Byzantine primary's own PRE-PREPARE passes for something that prepared.",
            "P holds what prepared, which takes the agreement of 2f backups, and not what somebody merely proposed.",
        ),
        Mutant::SecondNewView => (
            "4.4",
            "The Byzantine primary sends two NEW-VIEWs for one view, and a replica begins that view twice.",
            "One NEW-VIEW is accepted for each view.",
        ),
        Mutant::ViewsGoBack => (
            "4.4",
            "A replica that is in view 2 accepts a NEW-VIEW for view 1 and goes back.",
            "Views only grow: neither a view that was left nor one below the VIEW-CHANGE sent is entered.",
        ),
        Mutant::ViewChangeQuorum => (
            "4.4",
            "A new view begins on 2f VIEW-CHANGEs, none of them of a correct replica that had prepared the batch which another one has committed.",
            "2f + 1 VIEW-CHANGEs meet the 2f + 1 that committed in a correct replica, and it reports the batch.",
        ),
        Mutant::RepeatedViewChanges => (
            "4.4",
            "The Byzantine primary proves its view with its own VIEW-CHANGE, repeated.",
            "V must hold VIEW-CHANGEs of 2f + 1 different replicas.",
        ),
        Mutant::ViewChangesOfAnyView => (
            "4.4",
            "NEW-VIEW for view 2 is made of VIEW-CHANGEs for view 1, which do not know what was committed in view 1 since.",
            "Every VIEW-CHANGE in V is for that very view, and so was sent after its sender had stopped in all views below.",
        ),
        Mutant::LowestViewWins => (
            "4.4",
            "The Byzantine replica holds a certificate for B from view 0; then A commits in view 1. It holds that certificate back when view 1 begins, so that nothing is carried over there, and shows it when view 2 begins; the new primary prefers it because its view is lower. B can now execute where A has.",
            "If A committed in a view, some correct replica of every V holds its certificate, and every certificate for another request at that number is of a lower view; so the highest one is that of A.",
        ),
        Mutant::ForgetPrepared => (
            "4.4",
            "A replica enters view 1, forgets that A had prepared at it in view 0, and reports nothing when view 2 begins.",
            "P outlives a view change until a checkpoint covers the number or a later view replaces the certificate.",
        ),
        Mutant::KeepOldest => (
            "4.4",
            "A replica prepares B in view 0 and A in view 1, and goes on reporting B although A was committed.",
            "P keeps for each number the certificate of the latest view.",
        ),
        Mutant::BelieveO => (
            "4.4",
            "The Byzantine primary of the new view leaves out of O what V proves to have prepared, and the backups believe it.",
            "Every backup computes O from V by itself and accepts no other.",
        ),
        Mutant::LeaveGaps => (
            "4.4",
            "The Byzantine primary of view 0 proposes the request at n2 and nothing at n1. Every later view carries n2 over and leaves n1 open: the batch commits at n2 and waits for n1 for ever, and no primary proposes anything there again.",
            "A number below the highest in O that no certificate decides gets the null request, which executes as nothing, so what follows it executes.",
        ),
        Mutant::NoTimer => (
            "4.4",
            "The primary is silent. The client sends its request to all, and the backups pass it on to the primary, but none of them runs a timer for it, so nobody ever leaves the view.",
            "A backup that knows of a request which does not execute times out; with 2f + 1 VIEW-CHANGEs a view begins whose primary orders it.",
        ),
        Mutant::SmallReadQuorum => (
            "5.1",
            "A write has ended, on the replies of two replicas. A replica that has not executed it and the Byzantine one beside it answer a read that begins then, and the client takes their two replies for a result: it is older than the write.",
            "A write that has ended has prepared at f + 1 correct replicas, and of 2f + 1 replies to a read one is of one of them.",
        ),
        Mutant::ReadsDoNotWait => (
            "5.1",
            "A write has ended, on the replies of one correct replica and the Byzantine one. A replica that has prepared it and not executed it yet answers a read that begins then from the state before, as one does that knows nothing of it: with the Byzantine one they are 2f + 1, and the result is older than the write.",
            "Of the 2f + 1 that answer a read one is correct and has prepared every write that had ended; it answers once it has executed what it had prepared.",
        ),
        Mutant::PersistNothing => (
            BEYOND,
            "A backup prepares B, crashes, and has forgotten it: the Byzantine primary proposes A to it for the same number, and it prepares that too.",
            "What a message promises is recorded, and a replica that starts again has accepted what it had accepted.",
        ),
        Mutant::SendFirst => (
            BEYOND,
            "A backup sends PREPARE for B and crashes before it has recorded that it accepts B. When it has started again, the Byzantine primary proposes A to it for the same number, and it votes for that too. A crash between two steps would not show it.",
            "Nothing leaves before what it promises is durable, so no crash can come between the two the wrong way round.",
        ),
        Mutant::RestartInViewZero => (
            BEYOND,
            "A replica with whose help a batch was committed crashes, and forgets that it prepared: its VIEW-CHANGE reports nothing, and the new view starts without the batch.",
            "Its view, the view that it is leaving for, and P are durable, and a restart goes on from them.",
        ),
        Mutant::PrimaryOnly => (
            "4.1",
            "The primary is silent, and the client asks nobody else. No backup hears of the request, so none has a reason to replace the primary.",
            "A client without a result in time sends its request to all replicas: the backups pass it on to the primary, wait for it to execute, and leave the view of a primary that does not order it.",
        ),
        Mutant::ReplyOnce => (
            "4.1",
            "A request has executed at r1 and r2, and their replies are lost. They ignore the client's repeated request; r3 catches up, executes it and answers, but a single reply is no result.",
            "A replica keeps its last reply to each client and sends it again for a repeated request, so in the end the replies of f + 1 correct replicas arrive.",
        ),
        Mutant::NeverFetch => (
            "4.3",
            "r1 has not executed what r0 and r2 have, and learns of the stable checkpoint that covers it: it discards what is below, fetches nothing, and executes nothing from then on. The CHECKPOINTs of r0 and r2 for what comes next are two, and three are needed to move the window on.",
            "A replica that is behind a stable checkpoint fetches the state, which f + 1 correct replicas have; then it executes what follows and vouches for the next checkpoint.",
        ),
        Mutant::NeverJoin => (
            "4.5.2",
            "One backup has executed the request and waits for nothing; two others, who have not, leave the view of the silent primary. Their VIEW-CHANGEs are f + 1, which is not enough here to make the first one join, and without it no quorum of VIEW-CHANGEs comes together.",
            "VIEW-CHANGEs of f + 1 others are enough to join: one of them is of a correct replica that has a reason to leave, and if it has, all that are correct must follow or it waits for ever.",
        ),
        Mutant::OneMovesAll => (
            "4.5.2",
            "The Byzantine replica sends a VIEW-CHANGE as soon as it hears of a view, and that alone takes everybody along: views follow one another faster than a request can execute.",
            "It takes VIEW-CHANGEs of f + 1 others to join, and so of one correct replica at least, which has waited for its time-out.",
        ),
        Mutant::ViewChangeOnce => (
            "4.5.2",
            "Two replicas have left view 0, and their VIEW-CHANGEs are lost. When the third one leaves too, nobody has more than two of them, and none is sent again.",
            "VIEW-CHANGE is sent again until the new view is entered, so one of the messages arrives once the network works.",
        ),
        Mutant::LeftBehind => (
            "4.5.2",
            "r1 has entered view 1 and its NEW-VIEW is lost. Two others ask for view 1 again and again; r1 has executed the request, waits for nothing, and does not send the NEW-VIEW a second time.",
            "Whoever is in a later view sends its NEW-VIEW to a replica that says that it is in an older one.",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::rows;

    #[test]
    fn every_safeguard_with_a_counterexample_teaches_something() {
        let sections: Vec<&str> = SECTIONS.iter().map(|(section, _)| *section).collect();
        let mut attacks = std::collections::BTreeSet::new();
        for row in rows().into_iter().filter(|row| row.file().is_some()) {
            let lesson = lesson(&row).unwrap_or_else(|| panic!("{} has no lesson", row.id()));
            assert!(sections.contains(&lesson.section), "{}", row.id());
            assert!(attacks.insert(lesson.attack), "{} tells what another one tells", row.id());
        }
    }

    #[test]
    fn every_method_named_is_one_of_the_rules() {
        let rules = include_str!("../../src/rules.rs");
        for row in rows() {
            if let Some(method) = method(row.mutant) {
                assert!(rules.contains(&format!("fn {method}(&self")), "{}: {method}", row.id());
            }
        }
    }
}
