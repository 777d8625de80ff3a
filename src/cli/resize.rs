//! `windlass resize`.

use clap::Args;

use super::{Error, Screen, reference};
use crate::api::types::ResizeVolume;
use crate::client::Client;

/// Make a volume larger, also while it is used
#[derive(Debug, Args)]
#[command(after_help = "Example:
  windlass resize pgdata 40G")]
pub struct Resize {
    /// Name, UUID or beginning of the UUID
    #[arg(value_parser = reference())]
    volume: String,
    /// Its size from then on: bytes, or with K, M, G, T (powers of 1024). Volumes do not shrink
    size: String,
}

impl Resize {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let resize = ResizeVolume { size: self.size };
        let volume = client.resize(&self.volume, &resize).await?;
        // Success is silent, unless the object was asked for.
        match screen.json_asked() {
            true => screen.value(&volume),
            false => Ok(()),
        }
    }
}
