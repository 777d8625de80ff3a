//! `windlass undelete`.

use clap::Args;

use super::{Error, Screen, reference};
use crate::api::types::UndeleteVolume;
use crate::client::Client;

/// Bring a removed volume back from the trash and print its name
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass trash list
  windlass undelete pgdata
  windlass undelete 0a1b2c3d --as pgdata-old   where the name is taken by now, or several had it")]
pub struct Undelete {
    /// The name it had, its UUID or the beginning of the UUID
    #[arg(value_parser = reference())]
    name: String,
    /// Give it another name
    #[arg(long = "as", value_name = "NAME")]
    new_name: Option<String>,
}

impl Undelete {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let request = UndeleteVolume { name: self.new_name };
        let created = client.undelete(&self.name, &request).await?;
        screen.notes(&created.notes);
        screen.name(&created.volume.name, &created.volume)
    }
}
