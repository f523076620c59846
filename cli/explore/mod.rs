//! `pbft explore`: a world, or a counterexample, in a browser.
//!
//! The pages are ours, and say nothing that was not computed: each is made here, from the path in its
//! address, by whole replicas and the judge of every property. stateright's Explorer, with its search, runs
//! behind them; its paths `/.states`, `/.status` and `/.runtocompletion` are passed on to it.
//!
//! | file | what |
//! |---|---|
//! | `serve` | requests and answers |
//! | `pages` | the page of a path |

mod pages;
mod serve;

use crate::check::WorldFlags;
use crate::net::audit;
use crate::output::interrupted;
use crate::replay::{range, read, reason};
use crate::say;
use pbft_models::browse::{Browse, path_of};
use pbft_models::mutants::Rulebook;
use pbft_models::story::{Standstill, Story};
use pbft_models::suite;
use pbft_models::trace::Step;
use pbft_models::trace::replay::{Stale, replay, with_safeguard};
use pbft_models::world::WorldConfig;
use stateright::Model;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The most states that the Explorer's own search may visit when it is asked to.
pub(crate) const SEARCHED: usize = 20_000;
/// Between two looks for Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The options of `pbft explore`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A counterexample: the link leads through its steps. Only --rules goes with it: `pbft` for the paper's,
    /// by which the same schedule is refused.
    #[arg(value_name = "FILE", conflicts_with = "world")]
    file: Option<PathBuf>,
    /// Show instead what the cluster in this directory has done, by its journals, which are read anew each
    /// time; its cluster.toml is in it.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["file", "world", "WorldFlags"])]
    journals: Option<PathBuf>,
    /// The address to serve at; port 0 chooses one that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000", value_parser = address)]
    address: SocketAddr,
    /// The directory of the counterexamples that `/attacks` replays.
    #[arg(long, value_name = "DIR", default_value = "counterexamples")]
    attacks: PathBuf,
    /// The world of this name: `pbft check --list` lists them. Only --rules goes with it.
    #[arg(long, value_name = "NAME")]
    world: Option<String>,
    // Last, because the heading in the help goes for everything that follows.
    #[command(flatten)]
    single: Option<WorldFlags>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "it is an IP address and a port, such as 127.0.0.1:3000".into())
}

/// Serves until Ctrl-C.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    if let Some(directory) = &arguments.journals {
        return of_journals(directory, free(arguments.address)?);
    }
    let shown = match &arguments.file {
        Some(path) => match from_file(arguments, path)? {
            Ok(shown) => shown,
            Err(stale) => {
                eprintln!("pbft: {} does not reproduce with this program: {stale}", path.display());
                return Ok(ExitCode::from(1));
            }
        },
        None => {
            let attacks = arguments.attacks.clone();
            let config = world(arguments)?;
            Shown { config, file: None, path: Vec::new(), lenient: None, decisive: None, then: None, attacks }
        }
    };
    let model = Browse::new(shown.config.clone())?;
    let address = free(arguments.address)?;
    let behind = free(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    std::thread::spawn(move || model.checker().target_state_count(SEARCHED).serve(behind));
    let server = serve::Server::new(shown, behind)?;
    let first = server.first();
    let listening = tiny_http::Server::http(address)
        .map_err(|error| format!("cannot serve at {address}: {error}; choose another with --address"))?;
    say!("http://{address}{first}");
    end_when_interrupted();
    server.run(&listening);
    Ok(ExitCode::SUCCESS)
}

fn end_when_interrupted() {
    say!("Ctrl-C ends it.");
    std::thread::spawn(|| {
        while !interrupted() {
            std::thread::sleep(LOOK_EVERY);
        }
        std::process::exit(0);
    });
}

/// Serves what the journals of a cluster tell, as they are when a page is asked for.
fn of_journals(directory: &Path, address: SocketAddr) -> Result<ExitCode, String> {
    // Whatever is wrong with them is said before anything is served.
    audit::page(directory, &range(None))?;
    let listening = tiny_http::Server::http(address)
        .map_err(|error| format!("cannot serve at {address}: {error}; choose another with --address"))?;
    say!("http://{address}/");
    end_when_interrupted();
    serve::journals(&listening, directory);
    Ok(ExitCode::SUCCESS)
}

/// What is shown.
pub(crate) struct Shown {
    /// The world, and the rules at first.
    pub config: WorldConfig,
    /// The file that it is from.
    pub file: Option<PathBuf>,
    /// The steps of the file, by their names.
    pub path: Vec<String>,
    /// The rules by which the file was found.
    pub lenient: Option<Rulebook>,
    /// The step of the file that is the first to turn out otherwise by the paper's rules.
    pub decisive: Option<usize>,
    /// What follows the steps of the file, if it is about a request that never executes.
    pub then: Option<Standstill>,
    /// Where the counterexamples are.
    pub attacks: PathBuf,
}

/// A counterexample, by its own rules or by others.
fn from_file(arguments: &Arguments, path: &Path) -> Result<Result<Shown, Stale>, String> {
    let stored = read(path)?;
    let replayed = match replay(&stored) {
        Ok(replayed) => replayed,
        Err(stale) => return Ok(Err(stale)),
    };
    let story = Story::of(&replayed, &with_safeguard(&replayed)?);
    let decisive = story.first_difference().map(|step| step.number);
    let steps: Vec<Step> = replayed.steps.into_iter().map(|taken| taken.step).collect();
    let mut config = replayed.executor.config().clone();
    let lenient = Some(config.rules);
    if let Some(flags) = &arguments.single {
        config.rules =
            flags.only_rules().ok_or("a counterexample says all bounds: only --rules goes with it")?;
    }
    let attacks = arguments.attacks.clone();
    let (file, then) = (Some(path.into()), story.then);
    Ok(Ok(Shown { config, file, path: path_of(&steps), lenient, decisive, then, attacks }))
}

fn world(arguments: &Arguments) -> Result<WorldConfig, String> {
    let Some(name) = &arguments.world else {
        let flags = arguments.single.as_ref();
        if flags.is_some_and(|flags| flags.says_how()) {
            return Err("the Explorer delivers one message at a time: leave out --explore".into());
        }
        return flags.unwrap_or(&WorldFlags::default()).config();
    };
    let found = suite::all().into_iter().find(|entry| entry.config.name() == *name);
    let mut config = found
        .ok_or_else(|| format!("no world of the suites is called {name}: `pbft check --list` lists them"))?
        .config;
    if let Some(flags) = &arguments.single {
        config.rules = flags.only_rules().ok_or("--world says all bounds: only --rules goes with it")?;
    }
    Ok(config)
}

/// The address, with the port that is free if any will do. The Explorer itself would panic over one that is
/// taken.
fn free(address: SocketAddr) -> Result<SocketAddr, String> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.local_addr());
    bound.map_err(|error| {
        format!("cannot serve at {address}: {}; choose another with --address", reason(&error))
    })
}
