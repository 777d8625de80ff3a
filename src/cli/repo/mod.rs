//! `windlass repo`: what can be done with backup repositories where no daemon runs.
//!
//! These commands work on the repository itself, with the engine and the store in this very process; the others of the
//! command line ask the daemon. Both may be at work in the same repository: its locks keep them apart. Volumes are unknown here.

mod access;
mod cat;
mod failure;
mod forget;
mod init;
mod interrupt;
mod key;
mod list;
mod listing;
mod ls;
mod password;
mod prune;
mod repair;
mod restore;
mod unlock;
mod verify;

use clap::{Args, Subcommand};

use super::{Error, Screen, reference};
use access::{Access, Session};

/// Work on a backup repository directly, without the daemon
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass repo list vfs:///srv/backups
  windlass repo restore 'vfs:///srv/backups?volume=pgdata&backup=latest' /srv/pgdata
  windlass repo verify vfs:///srv/backups --sample 10
  windlass repo key add 's3://bucket@region/path?volume=pgdata' --new-password-file new

URL is a backup's, DESTINATION?volume=NAME&backup=ID, as 'windlass repo list' prints it; where a repository is meant, it ends
after the volume, and --volume NAME says the same. Without a volume, the repository lies at the destination itself, as restic's do.

The password comes from --password-file, $WINDLASS_BACKUP_PASSWORD_FILE, $WINDLASS_BACKUP_PASSWORD, $RESTIC_PASSWORD_FILE or
$RESTIC_PASSWORD, the first of these that is there; else it is asked for on the terminal.")]
pub struct Repo {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    List(list::List),
    Ls(ls::Ls),
    Cat(cat::Cat),
    Restore(restore::Restore),
    Verify(verify::Verify),
    Forget(forget::Forget),
    Prune(prune::Prune),
    Repair(repair::Repair),
    #[command(subcommand)]
    Key(key::Key),
    Unlock(unlock::Unlock),
}

impl Repo {
    /// Runs the command on this thread; signals are taken from now on.
    pub(super) fn run(self, screen: &mut Screen) -> Result<(), Error> {
        let session = Session::begin(self.access)?;
        match self.command {
            Command::Init(command) => command.run(&session, screen),
            Command::List(command) => command.run(&session, screen),
            Command::Ls(command) => command.run(&session, screen),
            Command::Cat(command) => command.run(&session, screen),
            Command::Restore(command) => command.run(&session, screen),
            Command::Verify(command) => command.run(&session, screen),
            Command::Prune(command) => command.run(&session, screen),
            Command::Repair(command) => command.run(&session, screen),
            Command::Forget(command) => command.run(&session, screen),
            Command::Key(command) => command.run(&session, screen),
            Command::Unlock(command) => command.run(&session, screen),
        }
    }
}
