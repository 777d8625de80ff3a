//! `windlass drill`.

use clap::Args;

use super::progress::{self, Shown};
use super::{Error, Screen, reference};
use crate::client::Client;
use crate::model::Bytes;

/// Restore a volume's newest backup aside, compare it with its record, and throw it away
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass drill pgdata
  windlass policy set pgdata backup.drill=weekly

The volume may be in use. Exits with 8 if the backup is damaged.")]
pub struct Drill {
    /// Name, UUID or beginning of the UUID
    #[arg(value_parser = reference())]
    volume: String,
    #[command(flatten)]
    shown: Shown,
}

impl Drill {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let job = client.drill(&self.volume).await?;
        let job = progress::watch(client, screen, job, self.shown).await?;
        if screen.json() {
            return screen.value(&job.result);
        }
        let result = &job.result;
        let all = Bytes(result.bytes_total.unwrap_or(0));
        screen.line(&format!(
            "{} can be restored: {all} restored and compared",
            result.backup_url
        ))
    }
}
