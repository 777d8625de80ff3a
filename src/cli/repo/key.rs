//! `windlass repo key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::access::{Place, Session};
use super::{Error, Screen, reference};
use crate::cli::screen::ago;
use crate::cli::table::{Shrink, Table};
use crate::engine::keys::KeyFile;
use crate::engine::{Id, Repository};

/// The passwords of a repository: each has a key, and any of them opens it
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  windlass repo key list 'vfs:///srv/backups?volume=pgdata'
  windlass repo key change vfs:///srv/backups --volume pgdata

The data are encrypted with a master key that never changes; it is what a key holds, sealed under a password. Whoever has
once had a password may have kept the master key: after a leak, make a new repository.")]
pub(super) enum Key {
    List(List),
    Add(Add),
    Remove(Remove),
    Change(Change),
}

/// List the keys
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
pub(super) struct List {
    #[command(flatten)]
    of: Of,
}

/// Add a password, and print the name of its key
#[derive(Debug, Args)]
pub(super) struct Add {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    new: New,
}

/// Remove a password; the last one stays
#[derive(Debug, Args)]
#[command(visible_alias = "rm")]
pub(super) struct Remove {
    /// The repository's URL
    #[arg(value_parser = reference())]
    url: String,
    /// The key's name, or as many of its digits as tell it from the others
    #[arg(value_parser = reference())]
    key: String,
    /// The volume whose repository it is
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
}

/// Replace the password that was given by another, and print the name of its key
#[derive(Debug, Args)]
#[command(visible_alias = "passwd")]
pub(super) struct Change {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    new: New,
}

/// Which repository.
#[derive(Debug, Args)]
struct Of {
    /// The repository's URL
    #[arg(value_parser = reference())]
    url: String,
    /// The volume whose repository it is
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
}

/// The new password.
#[derive(Debug, Args)]
struct New {
    /// The file whose first line is the new password [default: asked for on the terminal]
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

/// A key, as `--output json` shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    #[serde(rename = "ID")]
    id: String,
    host: String,
    user: String,
    created_at: String,
    /// Whether the password that was given is this one's.
    current: bool,
}

impl Key {
    pub(super) fn run(self, session: &Session, screen: &mut Screen) -> Result<(), Error> {
        match self {
            Self::List(command) => command.run(session, screen),
            Self::Add(command) => command.run(session, screen),
            Self::Remove(command) => command.run(session),
            Self::Change(command) => command.run(session, screen),
        }
    }
}

impl List {
    fn run(self, session: &Session, screen: &mut Screen) -> Result<(), Error> {
        let (place, repository) = self.of.open(session)?;
        let current = current(session, &place, &repository)?;
        let mut keys = repository.keys()?;
        keys.sort_by(|a, b| a.1.created.cmp(&b.1.created));
        let shown: Vec<Shown> = keys
            .into_iter()
            .map(|(id, file)| show(id, file, &current))
            .collect();
        if screen.json() {
            return screen.value(&shown);
        }
        let mut table = Table::default()
            .column("KEY", Shrink::Never)
            .column("HOST", Shrink::Never)
            .column("USER", Shrink::Never)
            .column("CREATED", Shrink::Never)
            .column("", Shrink::Never);
        for key in shown {
            let age = ago(&key.created_at, screen.now());
            let mark = if key.current { "the one in use" } else { "" };
            table.row(vec![
                key.id[..16].into(),
                key.host.into(),
                key.user.into(),
                age.into(),
                mark.into(),
            ]);
        }
        screen.table(table)
    }
}

impl Add {
    fn run(self, session: &Session, screen: &mut Screen) -> Result<(), Error> {
        let (place, repository) = self.of.open(session)?;
        let password = session.new_password(self.new.new_password_file, &place)?;
        tell(&repository.add_key(&password)?, screen)
    }
}

impl Remove {
    fn run(self, session: &Session) -> Result<(), Error> {
        let place = session.whole(&self.url, self.volume.as_deref())?;
        let repository = session.open(&place)?;
        repository.remove_key(&self.key)?;
        Ok(())
    }
}

impl Change {
    /// The new key is stored before the old one goes: a crash in between leaves both.
    fn run(self, session: &Session, screen: &mut Screen) -> Result<(), Error> {
        let (place, repository) = self.of.open(session)?;
        let old = current(session, &place, &repository)?;
        let password = session.new_password(self.new.new_password_file, &place)?;
        let new = repository.add_key(&password)?;
        for id in old.iter().filter(|id| **id != new) {
            repository.remove_key(&id.to_string())?;
        }
        tell(&new, screen)
    }
}

impl Of {
    fn open(&self, session: &Session) -> Result<(Place, Repository), Error> {
        let place = session.whole(&self.url, self.volume.as_deref())?;
        let repository = session.open(&place)?;
        Ok((place, repository))
    }
}

/// The keys that the given password opens: one, unless somebody added it twice. Each costs a key derivation.
fn current(session: &Session, place: &Place, repository: &Repository) -> Result<Vec<Id>, Error> {
    let password = session.password(place)?;
    let keys = repository.keys()?;
    let opens = |file: &KeyFile| matches!(file.open(password), Ok(Some(_)));
    Ok(keys
        .iter()
        .filter(|(_, file)| opens(file))
        .map(|(id, _)| *id)
        .collect())
}

fn show(id: Id, file: KeyFile, current: &[Id]) -> Shown {
    Shown {
        id: id.to_string(),
        host: file.hostname,
        user: file.username,
        created_at: file.created,
        current: current.contains(&id),
    }
}

fn tell(new: &Id, screen: &mut Screen) -> Result<(), Error> {
    let id = new.to_string();
    screen.name(&id, &json!({ "ID": id }))
}
