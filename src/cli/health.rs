//! `windlass health`.

use std::collections::BTreeMap;

use clap::Args;

use super::screen::ago;
use super::table::{Shrink, Table, Text};
use super::{Error, Screen};
use crate::api::types::{Schedule, VolumeList};
use crate::client::Client;
use crate::model::Time;

/// What needs nobody's look.
const WELL: [&str; 2] = ["ok", "waiting"];

/// Show whether snapshots and backups are made as the volumes' policies ask for
#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 0 if all is well, and with 1 if something is late, failing or was never done."
)]
pub struct Health {
    /// Only what is not well
    #[arg(long, short)]
    quiet: bool,
}

impl Health {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let volumes = client.volumes(None).await?;
        let shown = all(&volumes, self.quiet);
        let unwell = shown.iter().filter(|(_, _, schedule)| !is_well(schedule)).count();
        if screen.json() {
            let mut by_volume: BTreeMap<&str, BTreeMap<&str, &Schedule>> = BTreeMap::new();
            for (volume, task, schedule) in &shown {
                by_volume.entry(volume).or_default().insert(task, schedule);
            }
            screen.value(&by_volume)?;
        } else if !shown.is_empty() {
            screen.table(table(&shown, screen.now()))?;
        } else if !self.quiet {
            screen.line("no volume has a policy; 'windlass policy set' gives it one")?;
        }
        match unwell {
            0 => Ok(()),
            count => Err(Error::Unwell(count)),
        }
    }
}

fn is_well(schedule: &Schedule) -> bool {
    WELL.contains(&schedule.health.as_str())
}

fn all(volumes: &VolumeList, only_unwell: bool) -> Vec<(&str, &str, &Schedule)> {
    let mut all = Vec::new();
    for volume in volumes.values() {
        for (task, schedule) in &volume.schedules {
            if !only_unwell || !is_well(schedule) {
                all.push((volume.name.as_str(), task.as_str(), schedule));
            }
        }
    }
    all
}

fn table(shown: &[(&str, &str, &Schedule)], now: Time) -> Table {
    let mut table = Table::default()
        .column("VOLUME", Shrink::Never)
        .column("TASK", Shrink::Never)
        .column("HEALTH", Shrink::Never)
        .column("LAST", Shrink::Never)
        .column("NEXT", Shrink::Never)
        .column("ERROR", Shrink::KeepStart(20));
    for (volume, task, schedule) in shown {
        let word = schedule.health.as_str();
        let last = match schedule.succeeded_at.as_str() {
            "" => "never".to_owned(),
            moment => ago(moment, now),
        };
        table.row(vec![
            Text::from(*volume),
            Text::from(*task),
            if is_well(schedule) {
                word.into()
            } else {
                Text::red(word)
            },
            last.into(),
            schedule.next_at.as_str().into(),
            schedule.error.as_str().into(),
        ]);
    }
    table
}
