//! `windlass repo forget`.

use clap::Args;

use super::access::Session;
use super::{Error, Screen, reference};

/// Remove a backup from the list; 'repo prune' gives its space back
#[derive(Debug, Args)]
pub(super) struct Forget {
    /// The backup's URL
    #[arg(value_parser = reference())]
    url: String,
}

impl Forget {
    pub(super) fn run(self, session: &Session, _screen: &mut Screen) -> Result<(), Error> {
        let place = session.place(&self.url, None)?;
        let (repository, backup) = session.open_backup(&place)?;
        session.work("forget", |progress| {
            progress.check()?;
            repository.forget(&[backup.id])
        })
    }
}
