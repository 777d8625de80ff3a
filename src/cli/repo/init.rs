//! `windlass repo init`.

use clap::Args;
use serde_json::json;

use super::access::Session;
use super::{Error, Screen, reference};
use crate::engine::Repository;

/// Make a repository where there is none, and print its URL
#[derive(Debug, Args)]
#[command(
    after_help = "A backup by the daemon makes the repository that it needs. One that was made here belongs to no volume yet; the first
volume that is backed up to it becomes its owner."
)]
pub(super) struct Init {
    /// The destination
    #[arg(value_parser = reference(), value_name = "DEST")]
    url: String,
    /// The volume whose backups it is to hold [default: the repository lies at the destination itself]
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
}

impl Init {
    pub(super) fn run(self, session: &Session, screen: &mut Screen) -> Result<(), Error> {
        let place = session.whole(&self.url, self.volume.as_deref())?;
        let store = session.storage_of(&place)?;
        if store.stat("config")?.is_some() {
            return Err(crate::engine::EngineError::RepositoryExists {
                location: store.location(),
            }
            .into());
        }
        let password = session.first_password(&place)?;
        let repository = Repository::create(store, &password, session.cache().as_deref(), None)?;
        let url = place.url(None);
        screen.name(
            &url,
            &json!({ "URL": url, "ID": repository.config().id.to_string() }),
        )
    }
}
