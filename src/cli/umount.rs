//! `windlass umount`.

use clap::Args;

use super::{Error, Screen, reference};
use crate::api::types::UnmountVolume;
use crate::client::Client;

/// Unmount a volume that 'windlass mount' mounted
#[derive(Debug, Args)]
#[command(visible_alias = "unmount")]
#[command(after_help = "Examples:
  windlass umount pgdata
  windlass umount pgdata --force   after a crash, when containers that are gone still count as users")]
pub struct Umount {
    /// Name, UUID or beginning of the UUID
    #[arg(value_parser = reference())]
    volume: String,
    /// Forget all users of the mount, containers too, and unmount
    #[arg(long, short)]
    force: bool,
}

impl Umount {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let request = UnmountVolume { force: self.force };
        let unmounted = client.unmount(&self.volume, &request).await?;
        screen.notes(&unmounted.notes);
        Ok(())
    }
}
