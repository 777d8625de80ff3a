//! `windlass delete`.

use clap::Args;

use super::{Error, Screen, reference};
use crate::client::{Client, RemoveVolume};
use crate::model::OnRemove;

/// Remove a volume, with its snapshots, as its policy says: to the trash unless told otherwise
#[derive(Debug, Args)]
#[command(visible_alias = "rm")]
#[command(after_help = "Examples:
  windlass delete pgdata              to the trash; 'windlass undelete pgdata' brings it back
  windlass delete pgdata --purge      destroyed at once
  windlass delete pgdata --reference  forgotten; the data stays where it is")]
pub struct Delete {
    /// Name, UUID or beginning of the UUID
    #[arg(value_parser = reference())]
    volume: String,
    /// Only forget the volume, and leave its data where it is
    #[arg(long, short, conflicts_with = "purge")]
    reference: bool,
    /// Destroy the data now, whatever the volume's policy
    #[arg(long)]
    purge: bool,
}

impl Delete {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let how = RemoveVolume {
            reference: self.reference,
            how: self.purge.then_some(OnRemove::Delete),
        };
        let removed = client.remove_volume(&self.volume, how).await?;
        screen.notes(&removed.notes);
        Ok(())
    }
}
