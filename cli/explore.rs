//! `pbft explore`: a world, or a counterexample, in stateright's Explorer.

use crate::check::WorldFlags;
use crate::output::interrupted;
use crate::replay::{read, reason};
use crate::say;
use pbft_models::browse::Browse;
use pbft_models::suite;
use pbft_models::trace::Execution;
use pbft_models::trace::replay::replay;
use pbft_models::world::WorldConfig;
use stateright::Model;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The most states that the Explorer's own search may visit when it is asked to.
const SEARCHED: usize = 20_000;
/// Between two looks for Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The options of `pbft explore`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A counterexample: the link leads to the end of its steps.
    #[arg(value_name = "FILE", conflicts_with_all = ["world", "WorldFlags"])]
    file: Option<PathBuf>,
    /// The address to serve at; port 0 chooses one that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000", value_parser = address)]
    address: SocketAddr,
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
    let (config, execution) = match &arguments.file {
        Some(path) => {
            let stored = read(path)?;
            let replayed = match replay(&stored) {
                Ok(replayed) => replayed,
                Err(stale) => {
                    eprintln!("pbft: {} does not reproduce with this program: {stale}", path.display());
                    return Ok(ExitCode::from(1));
                }
            };
            let steps = replayed.steps.into_iter().map(|taken| taken.step).collect();
            let config = replayed.executor.config().clone();
            let execution = Execution { config: config.clone(), steps, violation: replayed.violation };
            (config, Some(execution))
        }
        None => (world(arguments)?, None),
    };
    let model = Browse::new(config)?;
    let link = execution.map_or(Ok("steps/0".to_string()), |execution| model.link(&execution))?;
    let address = free(arguments.address)?;
    say!("http://{address}/#/{link}");
    say!("Ctrl-C ends it.");
    std::thread::spawn(|| {
        while !interrupted() {
            std::thread::sleep(LOOK_EVERY);
        }
        std::process::exit(0);
    });
    model.checker().target_state_count(SEARCHED).serve(address);
    Ok(ExitCode::SUCCESS)
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

/// The address, with the port that is free if any will do. The Explorer itself would panic over one that is taken.
fn free(address: SocketAddr) -> Result<SocketAddr, String> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.local_addr());
    bound.map_err(|error| {
        format!("cannot serve at {address}: {}; choose another with --address", reason(&error))
    })
}
