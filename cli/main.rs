//! The `pbft` command.
//!
//! Exit status: 0 as expected; 1 a property is violated; 2 a wrong command line; 3 nothing is known, because
//! a run was cut short.

mod among;
mod check;
mod explore;
mod falsify;
mod gallery;
mod liveness;
mod mutants;
mod net;
mod output;
mod progress;
mod prove;
mod replay;
mod simulate;
mod table;
mod walks;

use clap::Parser;
use std::process::ExitCode;

/// A PBFT replica, explored exhaustively, simulated on hostile networks, and run over UDP.
///
/// Examples: pbft check; pbft check --list; pbft simulate --seed 0 --seeds 100; pbft cluster --replicas 4
///
/// Exit status: 0 as expected, 1 a property is violated, 2 a wrong command line, 3 nothing is known because a
/// run was cut short.
#[derive(Parser)]
#[command(name = "pbft", version, max_term_width = 100)]
enum Command {
    /// Explores worlds of real replicas exhaustively and checks every property in every state.
    ///
    /// Examples: pbft check; pbft check --byzantine 0 --requests 2 --max-seq 1 --max-view 1 --explore lazy
    Check(check::Arguments),
    /// Explores the world that shows each safeguard, with the safeguard switched off.
    ///
    /// Exit status: 0 every mutant that should be killed is, 1 one survives or the run was cut short.
    ///
    /// Examples: pbft mutants; pbft mutants --all; pbft mutants --only highest-view-wins,commit-quorum
    Mutants(mutants::Arguments),
    /// Shows for each world which properties can fail in it, by violating them with a rule switched off.
    ///
    /// Exit status: 0 every property that is said to be falsifiable is violated, 1 one is not, 3 it was cut
    /// short.
    ///
    /// Examples: pbft falsify; pbft falsify --suite full; pbft falsify --world n4f1-byz0-v1k1r2b1 --search
    Falsify(falsify::Arguments),
    /// Carries out a stored counterexample and tells it step by step, or draws it.
    ///
    /// Exit status: 0 it ends as the file says, and is harmless by the paper's rules; 1 it does not.
    ///
    /// With --journals it tells what a cluster has done, and the exit status is that of pbft audit.
    ///
    /// Examples: pbft replay counterexamples/highest-view-wins.json; pbft replay FILE --html page.html; pbft
    /// replay --journals /srv/pbft --numbers 10..20 --html page.html
    Replay(replay::Arguments),
    /// Writes every stored counterexample as one static site, by section of the paper.
    ///
    /// Examples: pbft gallery /tmp/gallery; pbft gallery --markdown
    Gallery(gallery::Arguments),
    /// Serves a world, or a counterexample, for a browser: what can happen at each step, what cannot and why.
    ///
    /// Exit status: 0 it was ended, 1 the counterexample does not reproduce, 2 a wrong command line, or an
    /// address that cannot be served at.
    ///
    /// Examples: pbft explore counterexamples/highest-view-wins.json; pbft explore --world n4f1-byz0-v1k1r2b1
    Explore(explore::Arguments),
    /// Runs seeded simulations of a hostile network: loss, crashes, partitions, Byzantine replicas.
    ///
    /// Examples: pbft simulate --seed 17; pbft simulate --seed 0 --seeds 500 --n 7 --f 2 --crypto ed25519
    Simulate(simulate::Arguments),
    /// Takes random walks of an unreduced world, and looks for what they show in the exhausted lazy one.
    ///
    /// Exit status: 0 everything occurs there, 1 something does not, 3 lazy delivery was not exhausted or the
    /// walks were cut short.
    ///
    /// Examples: pbft walks --byzantine 0 --requests 2 --max-seq 1; pbft walks --max-view 1 --walks 1000000
    /// --seed 17
    Walks(walks::Arguments),
    /// Carries on from every state of a world, with everything lost that was sent, until all requests execute.
    ///
    /// Exit status: 0 they do from each, 1 from one they do not, 3 the world was not exhausted.
    ///
    /// Examples: pbft progress --byzantine 0 --max-view 1 --max-seq 1 --requests 2; pbft progress --byzantine 3
    /// --max-view 1 --crashes --rules view-change-retransmitted
    Progress(liveness::Arguments),
    /// Proves the abstract protocol safe for every n, view and sequence number, with z3, and cvc5 if it is there.
    ///
    /// Exit status: 0 proved, 1 refuted, 2 a wrong command line, 3 not decided, or no solver is installed.
    ///
    /// Examples: pbft prove; pbft prove --each; pbft prove --rules highest-view-wins; pbft prove --smt /tmp/smt
    Prove(prove::Arguments),
    /// Makes keys for replicas and clients, a configuration, and empty stores.
    ///
    /// Secret keys can be read by their owner alone. Copy the directory to each machine without the others'
    /// keys.
    ///
    /// Examples: pbft keygen --dir /srv/pbft; pbft keygen --dir /srv/pbft --replicas 7 --clients 100 --host
    /// 10.0.0.1
    Keygen(net::keygen::Arguments),
    /// Runs one replica until Ctrl-C or SIGTERM. SIGHUP has it open its log file again.
    ///
    /// Examples: pbft replica --config /srv/pbft/cluster.toml --id 0; pbft replica --config F --id 2
    /// --replacement
    Replica(net::replica::Arguments),
    /// Asks the cluster for an operation, or for one after the other from a prompt.
    ///
    /// Exit status: 0 done, 1 the answer is no (no such key, not swapped), 2 a mistake, 3 no answer.
    ///
    /// Examples: pbft client --config F put greeting hello; pbft client --config F get greeting; pbft client
    /// --config F
    Client(net::client::Arguments),
    /// Runs a cluster on this machine, a process for each replica, until Ctrl-C.
    ///
    /// Examples: pbft cluster --replicas 4; pbft cluster --replicas 7 --dir /tmp/pbft
    Cluster(net::cluster::Arguments),
    /// Says how each replica does, and why it is stuck if it is.
    ///
    /// Exit status: 0 enough replicas answer to serve, 3 too few do.
    ///
    /// Examples: pbft status --config F; pbft status --config F --json
    Status(net::status::Arguments),
    /// Replays the journals of replicas through the same step and judges what they did by every property.
    ///
    /// A replica writes one with `journal = true` in the configuration, or with `pbft replica --journal
    /// DIR`. A replica without a journal is not judged, and one whose journal was cut is judged from where it
    /// begins, which is said. Replaying signs again, so it needs the secret key of
    /// each replica judged. What clients accepted is taken from the replies: a result that f + 1 of the
    /// replicas judged have sent.
    ///
    /// Exit status: 0 every property holds and every replay is as journalled, 1 a property is violated or a
    /// replay diverges, 2 a mistake, 3 a journal is damaged or lacks a segment in the
    /// middle, or nothing was judged.
    ///
    /// Examples: pbft audit --config F; pbft audit --config F --json; pbft audit --config F
    /// journals/replica-2.journal
    Audit(net::audit::Arguments),
    /// Writes the state at the last stable checkpoint to a file that anybody with the public keys can check.
    ///
    /// The state is taken from the store of one replica, which may be running, with the signatures of a
    /// quorum under its digest. It holds what was executed up to that checkpoint, and not what was executed
    /// since; what is missing is told.
    ///
    /// Exit status: 0 done, 1 --check refuses the backup, 2 a mistake, 3 the store has no such state now.
    ///
    /// Examples: pbft backup --config F --id 2 --to kept.backup; pbft backup --config F --id 2 --to kept.backup
    /// --up-to-now; pbft backup --config F --check kept.backup
    Backup(net::backup::Arguments),
    /// Makes a new cluster that begins with the state in a backup: other keys, and as many replicas and
    /// clients as you say.
    ///
    /// The backup is checked with the configuration of the cluster it is of. Settings are taken over from
    /// there, but for f, which follows from the replicas if it is not given. No client has asked for anything
    /// yet: what the old cluster remembered of its clients' last requests is left behind.
    ///
    /// Examples: pbft restore --from kept.backup --source OLD/cluster.toml --dir NEW --replicas 7
    Restore(net::restore::Arguments),
    /// Measures a cluster on this machine, and what the machine could do at best.
    ///
    /// Exit status: 0 every request was answered, 1 some were not.
    ///
    /// Examples: pbft bench --clients 64; pbft bench --clients 1 --store memory --runtime stateright; pbft
    /// bench --table
    Bench(net::bench::Arguments),
}

fn main() -> ExitCode {
    output::watch_for_interrupts();
    let outcome = match Command::try_parse() {
        Ok(Command::Check(arguments)) => check::run(&arguments),
        Ok(Command::Mutants(arguments)) => mutants::run_all(&arguments),
        Ok(Command::Falsify(arguments)) => falsify::run(&arguments),
        Ok(Command::Replay(arguments)) => replay::run(&arguments),
        Ok(Command::Gallery(arguments)) => gallery::run(&arguments),
        Ok(Command::Explore(arguments)) => explore::run(&arguments),
        Ok(Command::Simulate(arguments)) => simulate::run(&arguments),
        Ok(Command::Walks(arguments)) => walks::run(&arguments),
        Ok(Command::Progress(arguments)) => liveness::run(&arguments),
        Ok(Command::Prove(arguments)) => prove::run(&arguments),
        Ok(Command::Keygen(arguments)) => net::keygen::run(&arguments),
        Ok(Command::Replica(arguments)) => net::replica::run(&arguments),
        Ok(Command::Client(arguments)) => net::client::run(&arguments),
        Ok(Command::Cluster(arguments)) => net::cluster::run(&arguments),
        Ok(Command::Status(arguments)) => net::status::run(&arguments),
        Ok(Command::Audit(arguments)) => net::audit::run(&arguments),
        Ok(Command::Backup(arguments)) => net::backup::run(&arguments),
        Ok(Command::Restore(arguments)) => net::restore::run(&arguments),
        Ok(Command::Bench(arguments)) => net::bench::run(&arguments),
        Err(error) if error.use_stderr() => Err(output::one_sentence(
            &error,
            "pbft",
            "say what to do: `pbft check` explores, `pbft --help` lists the rest",
        )),
        Err(help) => {
            say!("{help}");
            return ExitCode::SUCCESS;
        }
    };
    match outcome {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("pbft: {problem}");
            ExitCode::from(2)
        }
    }
}
