//! The command line: one file per command, each a few lines between the arguments and the client.
//!
//! What scripts rely on is Convoy's: names alone on stdout, JSON with its keys, notes on stderr, an exit status that
//! says what went wrong. What people see is decided in `screen`, `table` and `sheet`. Apart from `daemon`, no
//! command knows more of the daemon than its admin API; those of `repo` work on repositories and need no daemon.

mod backup;
mod checkpoint;
mod completions;
mod create;
mod daemon;
mod delete;
mod diff;
mod drill;
mod error;
mod events;
mod exit;
mod gauge;
mod health;
mod import;
mod info;
mod inspect;
mod job;
mod list;
mod mount;
mod policy;
mod pool;
mod progress;
mod protect;
mod repo;
mod resize;
mod screen;
mod sheet;
mod snapshot;
mod table;
mod timeline;
mod trash;
mod trim;
mod umount;
mod undelete;
mod version;

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand};

use crate::client::Client;

pub use daemon::DaemonArgs;
pub use error::Error;
pub use exit::exit_code;
pub use screen::{Format, Screen};

/// Persistent volumes for Docker that cannot be lost and come back anywhere.
#[derive(Debug, Parser)]
#[command(
    name = "windlass",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Try 'windlass COMMAND --help' for a command's options and examples.",
    after_long_help = concat!(
        "Examples:\n",
        "  windlass create pgdata --size 20G          a volume for docker run -v pgdata:/var/lib/postgresql\n",
        "  windlass snapshot create pgdata            its state, frozen in an instant\n",
        "  windlass backup create pgdata --dest s3://bucket@region/path\n",
        "  windlass list                              all volumes\n",
        "  windlass list | jq -r 'keys[]'             JSON wherever stdout is not a terminal\n",
        "\n",
        "The daemon is found at --socket, else at $WINDLASS_SOCKET, else at /var/lib/windlass/windlass.sock\n",
        "or among Docker's plugins. NO_COLOR=1 takes the colours away.\n",
        "\n",
        exit::table!()
    )
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_display_order = 900)]
struct Global {
    /// The daemon's admin socket [default: $WINDLASS_SOCKET, else found by itself]
    #[arg(long, short, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How to show answers: table or json [default: table on a terminal, json elsewhere]
    #[arg(long, short, global = true, value_name = "FORMAT", value_parser = screen::format)]
    output: Option<Format>,
    /// Say on stderr what is asked of the daemon, and how long it takes
    #[arg(long, global = true)]
    debug: bool,
    /// Show the whole object as JSON where only its name would be printed
    #[arg(long, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Box<create::Create>),
    List(list::List),
    Inspect(inspect::Inspect),
    Mount(mount::Mount),
    Umount(umount::Umount),
    Delete(delete::Delete),
    Undelete(undelete::Undelete),
    #[command(subcommand)]
    Trash(trash::Trash),
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    #[command(subcommand)]
    Checkpoint(checkpoint::Checkpoint),
    Backup(backup::Backup),
    #[command(subcommand)]
    Job(job::Job),
    #[command(subcommand)]
    Policy(policy::Policy),
    Health(health::Health),
    Timeline(timeline::Timeline),
    Drill(drill::Drill),
    Diff(diff::Diff),
    Protect(protect::Protect),
    Unprotect(protect::Unprotect),
    Resize(resize::Resize),
    Trim(trim::Trim),
    #[command(subcommand)]
    Pool(pool::Pool),
    #[command(subcommand)]
    Import(import::Import),
    Repo(repo::Repo),
    Events(events::Events),
    Info(info::Info),
    Daemon(Box<DaemonArgs>),
    Completions(completions::Completions),
    Version(version::Version),
}

/// Runs the command that was asked for, on this process's stdout and stderr.
///
/// # Errors
/// What to print and which status to exit with. A reader of stdout who has left (`| head`) is no error.
pub fn run(cli: Cli) -> Result<(), Error> {
    let mut screen = Screen::of_process(cli.global.output, cli.global.verbose);
    match dispatch(cli, &mut screen) {
        Err(Error::StdoutClosed) => Ok(()),
        other => other,
    }
}

fn dispatch(cli: Cli, screen: &mut Screen) -> Result<(), Error> {
    let Cli { global, command } = cli;
    match command {
        Command::Daemon(args) => daemon::run(
            &DaemonArgs {
                socket: global.socket,
                debug: global.debug.then_some(true),
                ..*args
            },
            screen,
        ),
        Command::Completions(command) => command.run(screen),
        Command::Version(command) => command.run(screen),
        Command::Repo(command) => {
            if global.debug {
                log_to_stderr();
            }
            command.run(screen)
        }
        command => {
            if global.debug {
                log_to_stderr();
            }
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|source| Error::Runtime { source })?
                .block_on(ask(command, global.socket, screen))
        }
    }
}

/// The commands that speak to the daemon.
async fn ask(command: Command, socket: Option<PathBuf>, screen: &mut Screen) -> Result<(), Error> {
    let client = &Client::discover(socket.as_deref()).await?;
    match command {
        Command::Create(command) => command.run(client, screen).await,
        Command::List(command) => command.run(client, screen).await,
        Command::Inspect(command) => command.run(client, screen).await,
        Command::Mount(command) => command.run(client, screen).await,
        Command::Umount(command) => command.run(client, screen).await,
        Command::Delete(command) => command.run(client, screen).await,
        Command::Undelete(command) => command.run(client, screen).await,
        Command::Trash(command) => command.run(client, screen).await,
        Command::Snapshot(command) => command.run(client, screen).await,
        Command::Checkpoint(command) => command.run(client, screen).await,
        Command::Backup(command) => command.run(client, screen).await,
        Command::Job(command) => command.run(client, screen).await,
        Command::Policy(command) => command.run(client, screen).await,
        Command::Health(command) => command.run(client, screen).await,
        Command::Diff(command) => command.run(client, screen).await,
        Command::Drill(command) => command.run(client, screen).await,
        Command::Timeline(command) => command.run(client, screen).await,
        Command::Protect(command) => command.run(client, screen).await,
        Command::Unprotect(command) => command.run(client, screen).await,
        Command::Resize(command) => command.run(client, screen).await,
        Command::Trim(command) => command.run(client, screen).await,
        Command::Pool(command) => command.run(client, screen).await,
        Command::Import(command) => command.run(client, screen).await,
        Command::Events(command) => command.run(client, screen).await,
        Command::Info(command) => command.run(client, screen).await,
        Command::Daemon(_) | Command::Repo(_) | Command::Completions(_) | Command::Version(_) => {
            unreachable!("dispatch has taken the commands that need no daemon")
        }
    }
}

fn log_to_stderr() {
    // A second logger is refused; that matters only to tests, which share one process.
    let _ = env_logger::Builder::new()
        .filter_module("windlass", log::LevelFilter::Debug)
        .format_target(false)
        .try_init();
}

/// References are never empty: an empty path segment would address the whole collection.
fn reference() -> NonEmptyStringValueParser {
    NonEmptyStringValueParser::new()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
