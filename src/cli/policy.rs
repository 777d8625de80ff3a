//! `windlass policy`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};

use super::screen::ago;
use super::table::{Shrink, Table, Text};
use super::{Error, Screen, reference};
use crate::api::types::{ChangePolicy, Judged, Retention};
use crate::client::Client;
use crate::model::Time;

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
    /// Show what it keeps of the snapshots and backups that there are, and what its next turn takes away
    #[arg(long)]
    dry_run: bool,
}

impl Show {
    async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        if self.dry_run {
            let retention = client.retention(&self.volume).await?;
            if screen.json() {
                return screen.value(&retention);
            }
            let table = kept(&retention, screen.now());
            return screen.table(table);
        }
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

fn kept(retention: &Retention, now: Time) -> Table {
    let mut table = Table::default()
        .column("SORT", Shrink::Never)
        .column("NAME", Shrink::KeepEnd(20))
        .column("CREATED", Shrink::Never)
        .column("STAYS", Shrink::Never)
        .column("WHY", Shrink::KeepStart(10));
    let mut rows = |sort: &str, all: &[Judged]| {
        for judged in all {
            table.row(vec![
                sort.into(),
                judged.name.as_str().into(),
                ago(&judged.created_at, now).into(),
                match judged.kept {
                    true => "yes".into(),
                    false => Text::red("no"),
                },
                judged.why.join(", ").into(),
            ]);
        }
    };
    rows("snapshot", &retention.snapshots);
    rows("backup", &retention.backups);
    table
}

/// Set options of a volume's policy
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass policy set pgdata snapshot.schedule=@hourly snapshot.keep=hourly=24,daily=7
  windlass policy set pgdata backup.dest=s3://bucket@region/path backup.rpo=4h backup.keep=daily=7,weekly=4
  windlass policy set 'pg*' backup.verify=sample,full=@weekly

Schedules are '@hourly', '@daily', '@weekly', '@monthly', 'every 15m', or cron expressions in the daemon's time zone.")]
pub struct Set {
    /// Name, UUID or beginning of the UUID; or a pattern such as 'pg*', for all volumes with such a name
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
        change(client, screen, &self.volume, &ChangePolicy { set, unset }).await
    }
}

/// Let options of a volume's policy go back to the default
#[derive(Debug, Args)]
pub struct Unset {
    /// Name, UUID or beginning of the UUID; or a pattern such as 'pg*', for all volumes with such a name
    #[arg(value_parser = reference())]
    volume: String,
    /// Options
    #[arg(required = true, value_name = "OPTION")]
    options: Vec<String>,
}

impl Unset {
    async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let (set, unset) = (BTreeMap::new(), self.options);
        change(client, screen, &self.volume, &ChangePolicy { set, unset }).await
    }
}

fn option(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write OPTION=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Changes the policy of a volume, or of all whose names match. Success is silent, unless the object was asked for.
async fn change(
    client: &Client,
    screen: &mut Screen,
    volume: &str,
    changes: &ChangePolicy,
) -> Result<(), Error> {
    if !volume.contains(['*', '?', '[']) {
        let changed = client.change_policy(volume, changes).await?;
        return match screen.json_asked() {
            true => screen.value(&changed.policy),
            false => Ok(()),
        };
    }
    let usage = |message: String| Error::Usage { message };
    let pattern = glob::Pattern::new(volume).map_err(|error| usage(format!("{volume:?}: {}", error.msg)))?;
    let all = client.volumes(None).await?;
    let names: Vec<&String> = all.keys().filter(|name| pattern.matches(name)).collect();
    if names.is_empty() {
        return Err(usage(format!(
            "no volume has a name like {volume:?}; 'windlass list' shows those that there are"
        )));
    }
    let mut changed = BTreeMap::new();
    for name in names {
        let now = client.change_policy(name, changes).await?;
        screen.notes(&[format!("changed: {name}")]);
        changed.insert(name, now.policy);
    }
    match screen.json_asked() {
        true => screen.value(&changed),
        false => Ok(()),
    }
}
