//! `windlass trim`.

use clap::Args;

use super::{Error, Screen, reference};
use crate::client::Client;
use crate::model::Bytes;

/// Give the space of removed files back to the pool
#[derive(Debug, Args)]
#[command(
    after_help = "A filesystem keeps what its removed files took until it is told to give it up. Volumes may be in use."
)]
pub struct Trim {
    /// Names, UUIDs or beginnings of UUIDs
    #[arg(required = true, value_parser = reference())]
    volumes: Vec<String>,
}

impl Trim {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        for volume in &self.volumes {
            let trimmed = client.trim(volume).await?;
            match screen.json_asked() {
                true => screen.value(&trimmed)?,
                false => screen.notes(&[format!(
                    "volume {}: {} given back",
                    trimmed.name,
                    Bytes(trimmed.bytes_freed)
                )]),
            }
        }
        Ok(())
    }
}
