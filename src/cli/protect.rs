//! `windlass protect` and `windlass unprotect`.

use clap::Args;

use super::{Error, Screen, reference};
use crate::api::types::Volume;
use crate::client::Client;

/// Make a volume refuse removal, Docker's too
#[derive(Debug, Args)]
pub struct Protect {
    /// Name, UUID or beginning of the UUID
    #[arg(value_parser = reference())]
    volume: String,
}

impl Protect {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        show(&client.protect(&self.volume).await?, screen)
    }
}

/// Let a protected volume be removed again
#[derive(Debug, Args)]
pub struct Unprotect {
    /// Name, UUID or beginning of the UUID
    #[arg(value_parser = reference())]
    volume: String,
}

impl Unprotect {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        show(&client.unprotect(&self.volume).await?, screen)
    }
}

/// Success is silent, unless the object was asked for.
fn show(volume: &Volume, screen: &mut Screen) -> Result<(), Error> {
    match screen.json_asked() {
        true => screen.value(volume),
        false => Ok(()),
    }
}
