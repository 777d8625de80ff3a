//! `windlass policy`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};

use super::table::{Shrink, Table};
use super::{Error, Screen, reference};
use crate::api::types::{ChangePolicy, Volume};
use crate::client::Client;

/// What is done with a volume again and again, and when it is removed
#[derive(Debug, Subcommand)]
pub enum Policy {
    Show(Show),
    Set(Set),
    Unset(Unset),
}

impl Policy {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        match self {
            Self::Show(show) => show.run(client, screen).await,
            Self::Set(set) => set.run(client, screen).await,
            Self::Unset(unset) => unset.run(client, screen).await,
        }
    }
}

/// Show the policy of a volume
#[derive(Debug, Args)]
pub struct Show {
    /// Name, UUID or beginning of the UUID
    #[arg(value_parser = reference())]
    volume: String,
}

impl Show {
    async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let volume = client.volume(&self.volume).await?;
        if screen.json() {
            return screen.value(&volume.policy);
        }
        let mut table = Table::default()
            .column("OPTION", Shrink::Never)
            .column("VALUE", Shrink::KeepStart(20));
        for (option, value) in &volume.policy {
            table.row(vec![option.into(), value.into()]);
        }
        screen.table(table)
    }
}

/// Set options of a volume's policy
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass policy set pgdata snapshot.schedule=@hourly snapshot.keep=hourly=24,daily=7
  windlass policy set pgdata backup.dest=s3://bucket@region/path backup.rpo=4h backup.keep=daily=7,weekly=4

Schedules are '@hourly', '@daily', '@weekly', '@monthly', 'every 15m', or cron expressions in the daemon's time zone.")]
pub struct Set {
    /// Name, UUID or beginning of the UUID
    #[arg(value_parser = reference())]
    volume: String,
    /// Options and their values
    #[arg(required = true, value_name = "OPTION=VALUE", value_parser = option)]
    options: Vec<(String, String)>,
}

impl Set {
    async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let set: BTreeMap<String, String> = self.options.into_iter().collect();
        let unset = Vec::new();
        show(
            &client
                .change_policy(&self.volume, &ChangePolicy { set, unset })
                .await?,
            screen,
        )
    }
}

/// Let options of a volume's policy go back to the default
#[derive(Debug, Args)]
pub struct Unset {
    /// Name, UUID or beginning of the UUID
    #[arg(value_parser = reference())]
    volume: String,
    /// Options
    #[arg(required = true, value_name = "OPTION")]
    options: Vec<String>,
}

impl Unset {
    async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let (set, unset) = (BTreeMap::new(), self.options);
        show(
            &client
                .change_policy(&self.volume, &ChangePolicy { set, unset })
                .await?,
            screen,
        )
    }
}

fn option(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write OPTION=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Success is silent, unless the object was asked for.
fn show(volume: &Volume, screen: &mut Screen) -> Result<(), Error> {
    match screen.json_asked() {
        true => screen.value(&volume.policy),
        false => Ok(()),
    }
}
