//! `windlass repo list`.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;

use super::access::{Place, Session};
use super::listing::{self, Entry};
use super::{Error, Screen, failure, reference};
use crate::engine::convoy;
use crate::store::Store;

/// List the backups at a destination, those of Convoy too
#[derive(Debug, Args)]
pub(super) struct List {
    /// The destination
    #[arg(value_parser = reference(), value_name = "DEST")]
    url: String,
    /// Only those of this volume, which must have a repository there
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
}

/// What was found, and what could not be looked at.
#[derive(Default)]
struct Found {
    entries: Vec<Entry>,
    repositories: usize,
    notes: Vec<String>,
    failure: Option<Error>,
}

impl List {
    /// What cannot be read does not hide the rest: it is told, and is how the command ends.
    pub(super) fn run(self, session: &Session, screen: &mut Screen) -> Result<(), Error> {
        let place = session.whole(&self.url, self.volume.as_deref())?;
        let found = look(session, &place)?;
        screen.notes(&found.notes);
        let shown = match screen.json() {
            true => {
                let by_url: BTreeMap<&str, &Entry> = found
                    .entries
                    .iter()
                    .map(|entry| (entry.backup_url.as_str(), entry))
                    .collect();
                screen.value(&by_url)
            }
            false if found.entries.is_empty() => match found.repositories {
                0 => screen.line("no backups, and no repository"),
                1 => screen.line("no backups; there is an empty repository"),
                several => screen.line(&format!("no backups; there are {several} empty repositories")),
            },
            false => screen.table(listing::table(&found.entries, screen.now())),
        };
        match found.failure {
            Some(failure) => Err(failure),
            None => shown,
        }
    }
}

fn look(session: &Session, place: &Place) -> Result<Found, Error> {
    let store = session.storage(&place.destination)?;
    let mut found = Found::default();
    for at in &session.repositories(place)? {
        if place.volume.is_some() && session.storage_of(at)?.stat("config")?.is_none() {
            continue;
        }
        found.repositories += 1;
        match backups(session, at) {
            Ok(entries) => found.entries.extend(entries),
            Err(error) => found.fails(error),
        }
    }
    convoys(place, store, &mut found)?;
    if place.volume.is_some() && found.repositories == 0 {
        return Err(failure::no_repository(place));
    }
    found
        .entries
        .sort_by(|a, b| (&a.volume_name, &a.created_at).cmp(&(&b.volume_name, &b.created_at)));
    Ok(found)
}

fn backups(session: &Session, place: &Place) -> Result<Vec<Entry>, Error> {
    let repository = session.open(place)?;
    let backups = repository.backups()?;
    Ok(backups.iter().map(|backup| Entry::of(place, backup)).collect())
}

/// Those of Convoy's own repository, which needs no password.
fn convoys(place: &Place, store: Arc<dyn Store>, found: &mut Found) -> Result<(), Error> {
    let Some(reader) = convoy::Reader::open(store)? else {
        return Ok(());
    };
    let mut volumes = reader.volumes()?;
    if let Some(wanted) = &place.volume {
        volumes.retain(|volume| volume == wanted);
    }
    for volume in volumes {
        found.repositories += 1;
        for name in reader.backup_names(&volume)? {
            match reader.backup(&volume, &name) {
                Ok(backup) => found.entries.push(Entry::of_convoy(place, &backup)),
                Err(error) => found.fails(error.into()),
            }
        }
    }
    Ok(())
}

impl Found {
    /// The first failure is the command's; the others are told beside it.
    fn fails(&mut self, error: Error) {
        match &self.failure {
            None => self.failure = Some(error),
            Some(_) => self.notes.push(error.to_string()),
        }
    }
}
