//! `windlass snapshot`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use super::mount::absolute;
use super::screen::ago;
use super::sheet::{self, Sheet};
use super::table::{Shrink, Table};
use super::{Error, Screen, reference};
use crate::api::types::{CreateSnapshot, MountVolume, Snapshot as Answer, SnapshotEntry, Volume, VolumeList};
use crate::client::{Client, ClientError};
use crate::model::Time;

/// What takes longer is said to be under way.
const FIRST_WORD: Duration = Duration::from_secs(3);
/// And again after each of these.
const NEXT_WORD: Duration = Duration::from_secs(10);

/// Take, show, remove snapshots, and go back to one
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  windlass snapshot create pgdata --name before-upgrade
  windlass snapshot list pgdata
  windlass snapshot mount pgdata@before-upgrade
  windlass snapshot revert pgdata@before-upgrade
  windlass create pgdata-test --from pgdata@before-upgrade

A snapshot is addressed as VOLUME@SNAPSHOT, or by its name or UUID alone where that is unambiguous.")]
pub enum Snapshot {
    Create(Create),
    List(List),
    Inspect(Inspect),
    Revert(Revert),
    Mount(Mount),
    Umount(Umount),
    Delete(Delete),
}

/// Freeze a volume's state and print the snapshot's name
#[derive(Debug, Args)]
pub struct Create {
    /// Name, UUID or beginning of the UUID of the volume
    #[arg(value_parser = reference())]
    volume: String,
    /// The snapshot's name [default: snapshot- and 8 hexadecimal digits]
    #[arg(long)]
    name: Option<String>,
    /// Do not run the volume's hooks
    #[arg(long)]
    no_hooks: bool,
}

/// List a volume's snapshots, or those of all volumes
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
pub struct List {
    /// Name, UUID or beginning of the UUID of the volume [default: all volumes]
    #[arg(value_parser = reference())]
    volume: Option<String>,
}

/// Show all about a snapshot
#[derive(Debug, Args)]
pub struct Inspect {
    /// VOLUME@SNAPSHOT, or the snapshot's name or UUID
    #[arg(value_parser = reference())]
    snapshot: String,
}

/// Put a volume back to a snapshot; what was written since is lost
#[derive(Debug, Args)]
pub struct Revert {
    /// VOLUME@SNAPSHOT, or the snapshot's name or UUID
    #[arg(value_parser = reference())]
    snapshot: String,
}

/// Mount a snapshot read-only, for a look, and print where
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ls \"$(windlass snapshot mount pgdata@monday)\"
  windlass snapshot umount pgdata@monday

As long as it is mounted, neither the snapshot nor its volume can be removed. A snapshot that a repository holds cannot be mounted:
'windlass create --from' makes a volume of it.")]
pub struct Mount {
    /// VOLUME@SNAPSHOT, or the snapshot's name or UUID
    #[arg(value_parser = reference())]
    snapshot: String,
    /// An existing directory to mount on [default: the daemon's own place]
    #[arg(long, value_name = "DIRECTORY")]
    mountpoint: Option<PathBuf>,
}

/// Unmount a snapshot that 'windlass snapshot mount' mounted
#[derive(Debug, Args)]
#[command(visible_alias = "unmount")]
pub struct Umount {
    /// VOLUME@SNAPSHOT, or the snapshot's name or UUID
    #[arg(value_parser = reference())]
    snapshot: String,
}

/// Remove a snapshot
#[derive(Debug, Args)]
#[command(visible_alias = "rm")]
pub struct Delete {
    /// VOLUME@SNAPSHOT, or the snapshot's name or UUID
    #[arg(value_parser = reference())]
    snapshot: String,
}

impl Snapshot {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        match self {
            Self::Create(Create {
                volume,
                name,
                no_hooks,
            }) => {
                let doing = format!("taking a snapshot of {volume}");
                let wish = CreateSnapshot { name, no_hooks };
                let snapshot = patiently(screen, &doing, client.create_snapshot(&volume, &wish)).await?;
                screen.notes(&snapshot.notes);
                screen.name(&snapshot.name, &snapshot)
            }
            Self::List(List { volume: Some(volume) }) => list(&client.snapshots(&volume).await?, screen),
            Self::List(List { volume: None }) => list_all(&client.volumes(None).await?, screen),
            Self::Inspect(Inspect { snapshot }) => {
                let snapshot = client.snapshot(&snapshot).await?;
                match screen.json() {
                    true => screen.value(&snapshot),
                    false => screen.text(&describe(&snapshot, screen.now()).render(0)),
                }
            }
            Self::Revert(Revert { snapshot }) => {
                let doing = format!("going back to {snapshot}");
                let volume = patiently(screen, &doing, client.revert(&snapshot)).await?;
                match screen.json_asked() {
                    true => screen.value(&volume),
                    false => Ok(()),
                }
            }
            Self::Mount(Mount { snapshot, mountpoint }) => {
                let mount_point = mountpoint.as_deref().map(absolute).transpose()?;
                let mount = MountVolume { mount_point };
                let mounted = client.mount_snapshot(&snapshot, &mount).await?;
                screen.name(&mounted.mount_point, &mounted)
            }
            Self::Umount(Umount { snapshot }) => {
                let unmounted = client.unmount_snapshot(&snapshot).await?;
                screen.notes(&unmounted.notes);
                Ok(())
            }
            Self::Delete(Delete { snapshot }) => client
                .remove_snapshot(&snapshot)
                .await
                .map(|_| ())
                .map_err(Error::from),
        }
    }
}

/// Waits for what may be a copy of a whole volume, and says so now and then. Whoever ends this command ends the work too.
pub(super) async fn patiently<T>(
    screen: &mut Screen,
    doing: &str,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, Error> {
    let begun = Instant::now();
    let mut work = std::pin::pin!(work);
    let mut pause = FIRST_WORD;
    loop {
        match tokio::time::timeout(pause, &mut work).await {
            Ok(done) => return Ok(done?),
            Err(_) => screen.aside(&format!(
                "{doing}, for {} s so far; Ctrl-C gives it up",
                begun.elapsed().as_secs()
            )),
        }
        pause = NEXT_WORD;
    }
}

fn list(snapshots: &BTreeMap<String, SnapshotEntry>, screen: &mut Screen) -> Result<(), Error> {
    if screen.json() {
        return screen.value(snapshots);
    }
    if snapshots.is_empty() && screen.terminal() {
        return screen.line("no snapshots yet; 'windlass snapshot create VOLUME' takes one");
    }
    screen.table(table(snapshots.values(), screen.now()))
}

/// All snapshots, by `volume@snapshot` in JSON: a snapshot's name need not be unique.
fn list_all(volumes: &VolumeList, screen: &mut Screen) -> Result<(), Error> {
    let snapshots: BTreeMap<String, Answer> = volumes
        .values()
        .flat_map(|volume| volume.snapshots.values().map(move |s| (volume, s)))
        .map(|(volume, s)| (format!("{}@{}", volume.name, s.name), with_volume(volume, s)))
        .collect();
    if screen.json() {
        return screen.value(&snapshots);
    }
    if snapshots.is_empty() && screen.terminal() {
        return screen.line("no snapshots yet; 'windlass snapshot create VOLUME' takes one");
    }
    let mut table = Table::default().column("VOLUME", Shrink::Never);
    table = columns(table);
    for snapshot in snapshots.values() {
        let mut cells = vec![(&snapshot.volume_name).into()];
        cells.extend(cells_of(
            &snapshot.name,
            &snapshot.driver_info,
            &snapshot.created_at,
            screen.now(),
        ));
        table.row(cells);
    }
    screen.table(table)
}

fn with_volume(volume: &Volume, snapshot: &SnapshotEntry) -> Answer {
    Answer {
        name: snapshot.name.clone(),
        uuid: snapshot.uuid.clone(),
        volume_name: volume.name.clone(),
        volume_created_at: volume.created_time.clone(),
        created_time: snapshot.created_time.clone(),
        created_at: snapshot.created_at.clone(),
        driver_info: snapshot.driver_info.clone(),
        notes: Vec::new(),
    }
}

/// The snapshots of one volume, oldest first.
pub(super) fn table<'a>(snapshots: impl IntoIterator<Item = &'a SnapshotEntry>, now: Time) -> Table {
    let mut snapshots: Vec<_> = snapshots.into_iter().collect();
    // RFC 3339 in UTC sorts as text.
    snapshots.sort_by(|a, b| a.created_at.cmp(&b.created_at));
    let mut table = columns(Table::default());
    for s in snapshots {
        table.row(cells_of(&s.name, &s.driver_info, &s.created_at, now));
    }
    table
}

fn columns(table: Table) -> Table {
    table
        .column("SNAPSHOT", Shrink::Never)
        .column("SIZE", Shrink::Never)
        .column("CONSISTENCY", Shrink::Never)
        .column("CREATED", Shrink::Never)
}

fn cells_of(
    name: &str,
    info: &crate::api::types::TextMap,
    created: &str,
    now: Time,
) -> Vec<super::table::Text> {
    let dash = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or_else(|| "-".to_owned());
    vec![
        name.into(),
        dash(sheet::size(info, "Size")).into(),
        dash(info.get("Consistency").map(sheet::plain)).into(),
        ago(created, now).into(),
    ]
}

fn describe(snapshot: &Answer, now: Time) -> Sheet {
    let mut sheet = Sheet::default();
    sheet.line("Name", &snapshot.name);
    sheet.line("UUID", &snapshot.uuid);
    sheet.line("Volume", &snapshot.volume_name);
    sheet.line(
        "Created",
        format!("{} ({})", snapshot.created_at, ago(&snapshot.created_at, now)),
    );
    sheet.entries(&snapshot.driver_info, &[]);
    sheet
}
