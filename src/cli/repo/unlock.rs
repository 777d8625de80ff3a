//! `windlass repo unlock`.

use clap::Args;

use super::access::Session;
use super::{Error, Screen, reference};
use crate::engine::lock;

/// Remove the locks of processes that are gone
#[derive(Debug, Args)]
#[command(
    after_help = "A lock is stale when it was not renewed for 30 minutes, or when its process on this host is no more. Whoever needs
the repository removes those by himself; this command is for locks that cannot be read, and for the impatient."
)]
pub(super) struct Unlock {
    /// The repository's URL
    #[arg(value_parser = reference())]
    url: String,
    /// The volume whose repository it is
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
    /// Remove every lock, also of one who may be at work: only when nobody is
    #[arg(long)]
    all: bool,
}

impl Unlock {
    pub(super) fn run(self, session: &Session, screen: &mut Screen) -> Result<(), Error> {
        let place = session.whole(&self.url, self.volume.as_deref())?;
        let repository = session.open(&place)?;
        let removed = lock::remove_stale(&repository, self.all)?;
        match screen.json() {
            true => screen.value(&serde_json::json!({ "LocksRemoved": removed })),
            false => screen.line(&match removed {
                0 => "no lock to remove".to_owned(),
                1 => "1 lock removed".to_owned(),
                several => format!("{several} locks removed"),
            }),
        }
    }
}
