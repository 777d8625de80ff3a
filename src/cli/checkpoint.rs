//! `windlass checkpoint`.

use clap::{Args, Subcommand};

use super::screen::ago;
use super::sheet::Sheet;
use super::snapshot::patiently;
use super::table::{Shrink, Table};
use super::{Error, Screen, reference};
use crate::api::types::{Checkpoint as Answer, CloneCheckpoint, CreateCheckpoint};
use crate::client::Client;
use crate::model::Time;

/// Take, show, remove snapshots of several volumes that belong together, and go back to them
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  windlass checkpoint create before-upgrade pgdata uploads
  windlass checkpoint create before-upgrade --compose-project shop
  windlass checkpoint revert before-upgrade
  windlass checkpoint clone before-upgrade --suffix -test

Each volume gets a snapshot of the checkpoint's name, which can be shown, cloned and backed up as any other.")]
pub enum Checkpoint {
    Create(Create),
    List(List),
    Inspect(One),
    Revert(Revert),
    Clone(Clone),
    Delete(Delete),
}

/// Freeze the state of several volumes together, between the hooks of all, and print the checkpoint's name
#[derive(Debug, Args)]
pub struct Create {
    /// The checkpoint's name, which each volume's snapshot gets
    name: String,
    /// Names, UUIDs or beginnings of UUIDs of the volumes
    #[arg(value_parser = reference(), required_unless_present = "compose_project")]
    volumes: Vec<String>,
    /// All volumes of a Compose project
    #[arg(long, value_name = "NAME")]
    compose_project: Option<String>,
    /// Do not run the volumes' hooks
    #[arg(long)]
    no_hooks: bool,
}

/// List the checkpoints, oldest first
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
pub struct List {}

/// Show all about a checkpoint
#[derive(Debug, Args)]
pub struct One {
    /// Its name or UUID
    #[arg(value_parser = reference())]
    checkpoint: String,
}

/// Put all volumes of a checkpoint back to it; what was written since is lost
#[derive(Debug, Args)]
#[command(after_help = "None is touched if one of them is in use, or lacks its snapshot.")]
pub struct Revert {
    /// Its name or UUID
    #[arg(value_parser = reference())]
    checkpoint: String,
}

/// Make a writable clone of each volume of a checkpoint, and print their names
#[derive(Debug, Args)]
pub struct Clone {
    /// Its name or UUID
    #[arg(value_parser = reference())]
    checkpoint: String,
    /// What the clones' names end in: pgdata becomes pgdata-test with -test
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    suffix: String,
}

/// Remove a checkpoint with its snapshots
#[derive(Debug, Args)]
#[command(visible_alias = "rm")]
pub struct Delete {
    /// Its name or UUID
    #[arg(value_parser = reference())]
    checkpoint: String,
}

impl Checkpoint {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        match self {
            Self::Create(create) => {
                let doing = format!("taking checkpoint {}", create.name);
                let wish = CreateCheckpoint {
                    name: create.name,
                    volumes: create.volumes,
                    compose_project: create.compose_project,
                    no_hooks: create.no_hooks,
                };
                let checkpoint = patiently(screen, &doing, client.create_checkpoint(&wish)).await?;
                screen.notes(&checkpoint.notes);
                screen.name(&checkpoint.name, &checkpoint)
            }
            Self::List(List {}) => {
                let all = client.checkpoints().await?;
                if screen.json() {
                    return screen.value(&all);
                }
                if all.is_empty() && screen.terminal() {
                    return screen
                        .line("no checkpoints yet; 'windlass checkpoint create NAME VOLUME...' takes one");
                }
                screen.table(table(&all, screen.now()))
            }
            Self::Inspect(One { checkpoint }) => {
                let checkpoint = client.checkpoint(&checkpoint).await?;
                match screen.json() {
                    true => screen.value(&checkpoint),
                    false => screen.text(&describe(&checkpoint, screen.now()).render(0)),
                }
            }
            Self::Revert(Revert { checkpoint }) => {
                let doing = format!("going back to {checkpoint}");
                let checkpoint = patiently(screen, &doing, client.revert_to_checkpoint(&checkpoint)).await?;
                match screen.json_asked() {
                    true => screen.value(&checkpoint),
                    false => Ok(()),
                }
            }
            Self::Clone(Clone { checkpoint, suffix }) => {
                let wish = CloneCheckpoint { suffix };
                let made = client.clone_checkpoint(&checkpoint, &wish).await?;
                match screen.json_asked() {
                    true => screen.value(&made),
                    false => made.volumes.iter().try_for_each(|name| screen.line(name)),
                }
            }
            Self::Delete(Delete { checkpoint }) => {
                client.remove_checkpoint(&checkpoint).await?;
                Ok(())
            }
        }
    }
}

fn table(all: &[Answer], now: Time) -> Table {
    let mut table = Table::default()
        .column("CHECKPOINT", Shrink::Never)
        .column("VOLUMES", Shrink::KeepStart(20))
        .column("MOMENT", Shrink::Never)
        .column("CREATED", Shrink::Never);
    for checkpoint in all {
        let volumes = match checkpoint.missing.is_empty() {
            true => checkpoint.volumes.join(", "),
            false => format!(
                "{} (gone: {})",
                checkpoint.volumes.join(", "),
                checkpoint.missing.join(", ")
            ),
        };
        table.row(vec![
            (&checkpoint.name).into(),
            volumes.into(),
            (&checkpoint.moment).into(),
            ago(&checkpoint.created_at, now).into(),
        ]);
    }
    table
}

fn describe(checkpoint: &Answer, now: Time) -> Sheet {
    let mut sheet = Sheet::default();
    sheet.line("Name", &checkpoint.name);
    sheet.line("UUID", &checkpoint.uuid);
    sheet.line(
        "Created",
        format!("{} ({})", checkpoint.created_at, ago(&checkpoint.created_at, now)),
    );
    sheet.line("Moment", &checkpoint.moment);
    sheet.line("Snapshots", checkpoint.snapshots.join(", "));
    if !checkpoint.missing.is_empty() {
        sheet.line("Missing", checkpoint.missing.join(", "));
    }
    sheet
}
