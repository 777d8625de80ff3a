//! `windlass backup`.

use clap::{Args, Subcommand};

use super::progress::{self, Shown};
use super::screen::ago;
use super::sheet::Sheet;
use super::table::{Shrink, Table};
use super::{Error, Screen, reference};
use crate::api::types::{
    Backup as Answer, BackupList, CopyBackup, CreateBackup, Job, JobResult, PruneBackups, VerifyBackups,
};
use crate::client::Client;
use crate::model::{Bytes, Time};

/// Back snapshots up, and look after backups
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass backup create pgdata@before-upgrade --dest s3://bucket@region/path
  windlass backup list vfs:///srv/backups --volume-name pgdata
  windlass create pgdata --backup 'vfs:///srv/backups?volume=pgdata&backup=0123456789abcdef'

A backup is addressed by its URL, as 'backup create' and 'backup list' print it. A destination is
s3://bucket@region/path, vfs:///directory and others; without one, the daemon's backup-dest.")]
pub struct Backup {
    /// The S3 service, where it is not Amazon's, such as http://host:9000
    #[arg(long, global = true, value_name = "URL")]
    s3_endpoint: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Create),
    List(List),
    Inspect(Inspect),
    Delete(Delete),
    Verify(Verify),
    Prune(Prune),
    Copy(Copy),
}

/// Back a snapshot up and print the backup's URL
#[derive(Debug, Args)]
struct Create {
    /// VOLUME@SNAPSHOT, a snapshot's name, or a volume, of which a snapshot is taken first
    #[arg(value_parser = reference(), value_name = "SNAPSHOT")]
    of: String,
    /// Where to [default: the volume's backup.dest, or the daemon's backup-dest]
    #[arg(long, value_name = "URL")]
    dest: Option<String>,
    /// Take the repository over from the volume that it belongs to, if that volume is no more
    #[arg(long)]
    take_over: bool,
    /// Make none where the volume is as its newest backup there has it, whose URL is printed then
    #[arg(long)]
    if_changed: bool,
    /// Print the job's number at once instead of the backup's URL at the end
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    shown: Shown,
}

/// List the backups at a destination
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
struct List {
    /// The destination [default: the daemon's backup-dest]
    #[arg(value_parser = reference())]
    dest: Option<String>,
    /// Only those of this volume, which must have some
    #[arg(long, value_name = "VOLUME")]
    volume_name: Option<String>,
}

/// Show all about a backup
#[derive(Debug, Args)]
struct Inspect {
    /// The backup's URL
    #[arg(value_parser = reference())]
    url: String,
}

/// Delete a backup
#[derive(Debug, Args)]
#[command(visible_alias = "rm")]
struct Delete {
    /// The backup's URL
    #[arg(value_parser = reference())]
    url: String,
    #[command(flatten)]
    shown: Shown,
}

/// Prove that backups can be restored
#[derive(Debug, Args)]
struct Verify {
    /// A backup, a repository (…?volume=NAME) or a destination [default: the daemon's backup-dest]
    #[arg(value_parser = reference(), value_name = "URL")]
    target: Option<String>,
    /// Read so much of the data, in percent, besides the structure
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    sample: Option<u8>,
    /// Read every byte
    #[arg(long, conflicts_with = "sample")]
    read_data: bool,
    #[command(flatten)]
    shown: Shown,
}

/// Give back the space that no backup needs any more
#[derive(Debug, Args)]
struct Prune {
    /// A repository (…?volume=NAME) or a destination [default: the daemon's backup-dest]
    #[arg(value_parser = reference(), value_name = "URL")]
    target: Option<String>,
    #[command(flatten)]
    shown: Shown,
}

/// Copy a backup to another destination and print its URL there
#[derive(Debug, Args)]
struct Copy {
    /// The backup's URL
    #[arg(value_parser = reference())]
    url: String,
    /// Where to [default: the daemon's backup-dest]
    #[arg(long, value_name = "URL")]
    dest: Option<String>,
    /// The S3 service there
    #[arg(long, value_name = "URL")]
    dest_s3_endpoint: Option<String>,
    #[command(flatten)]
    shown: Shown,
}

impl Backup {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let endpoint = self.s3_endpoint;
        match self.command {
            Command::Create(command) => command.run(endpoint, client, screen).await,
            Command::List(command) => {
                let volume = command.volume_name.as_deref();
                let list = client
                    .backups(command.dest.as_deref(), endpoint.as_deref(), volume)
                    .await?;
                show(&list, screen)
            }
            Command::Inspect(command) => {
                let backup = client.backup(&command.url, endpoint.as_deref()).await?;
                match screen.json() {
                    true => screen.value(&backup),
                    false => screen.text(&describe(&backup, screen.now()).render(0)),
                }
            }
            Command::Delete(command) => {
                let job = client.delete_backup(&command.url, endpoint.as_deref()).await?;
                progress::watch(client, screen, job, command.shown)
                    .await
                    .map(drop)
            }
            Command::Verify(command) => {
                let percent = if command.read_data {
                    100
                } else {
                    command.sample.unwrap_or(0)
                };
                let wish = VerifyBackups {
                    target: command.target,
                    endpoint,
                    percent,
                };
                let job = client.verify_backups(&wish).await?;
                let job = progress::watch(client, screen, job, command.shown).await?;
                tell(&job, verified, screen)
            }
            Command::Prune(command) => {
                let wish = PruneBackups {
                    target: command.target,
                    endpoint,
                };
                let job = client.prune_backups(&wish).await?;
                let job = progress::watch(client, screen, job, command.shown).await?;
                tell(&job, pruned, screen)
            }
            Command::Copy(command) => {
                let wish = CopyBackup {
                    url: command.url,
                    endpoint,
                    destination: command.dest,
                    destination_endpoint: command.dest_s3_endpoint,
                };
                let job = client.copy_backup(&wish).await?;
                let job = progress::watch(client, screen, job, command.shown).await?;
                screen.name(&job.result.backup_url, &job.result)
            }
        }
    }
}

impl Create {
    async fn run(self, endpoint: Option<String>, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let wish = CreateBackup {
            snapshot: self.of,
            destination: self.dest,
            endpoint,
            take_over: self.take_over,
            only_if_changed: self.if_changed,
        };
        let job = client.create_backup(&wish).await?;
        if self.detach {
            return screen.name(&job.id.to_string(), &job);
        }
        let job = progress::watch(client, screen, job, self.shown).await?;
        let notes: Vec<String> = job.log.iter().map(|line| line.text.clone()).collect();
        screen.notes(&notes);
        screen.name(&job.result.backup_url, &job.result)
    }
}

/// The result for scripts, or a sentence for people.
fn tell(job: &Job, sentence: fn(&JobResult) -> String, screen: &mut Screen) -> Result<(), Error> {
    match screen.json() {
        true => screen.value(&job.result),
        false => screen.line(&sentence(&job.result)),
    }
}

fn verified(result: &JobResult) -> String {
    let how = match result.percent.unwrap_or(0) {
        0 => "their structure is whole; --read-data reads every byte".to_owned(),
        100 => "every byte can be restored".to_owned(),
        percent => format!("{percent} % of their data were read and can be restored"),
    };
    format!("{} backups: {how}", result.backups.unwrap_or(0))
}

fn pruned(result: &JobResult) -> String {
    format!("{} freed", Bytes(result.bytes_freed.unwrap_or(0)))
}

fn show(list: &BackupList, screen: &mut Screen) -> Result<(), Error> {
    if screen.json() {
        return screen.value(list);
    }
    if list.is_empty() && screen.terminal() {
        return screen.line("no backups here yet; 'windlass backup create SNAPSHOT --dest URL' makes one");
    }
    let table = table(list, screen.now());
    screen.table(table)
}

/// One line per backup, by volume and the oldest first.
fn table(list: &BackupList, now: Time) -> Table {
    let mut table = Table::default()
        .column("VOLUME", Shrink::Never)
        .column("SNAPSHOT", Shrink::Never)
        .column("CREATED", Shrink::Never)
        .column("SIZE", Shrink::Never)
        .column("STORED", Shrink::Never)
        .column("URL", Shrink::Never);
    let mut backups: Vec<&Answer> = list.values().collect();
    backups.sort_by(|a, b| (&a.volume_name, &a.created_at).cmp(&(&b.volume_name, &b.created_at)));
    let dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    for backup in backups {
        table.row(vec![
            (&backup.volume_name).into(),
            dash(&backup.snapshot_name).into(),
            ago(&backup.created_at, now).into(),
            Bytes(backup.bytes_total).to_string().into(),
            Bytes(backup.bytes_stored).to_string().into(),
            (&backup.backup_url).into(),
        ]);
    }
    table
}

fn describe(backup: &Answer, now: Time) -> Sheet {
    let mut sheet = Sheet::default();
    sheet.line("URL", &backup.backup_url);
    sheet.line("ID", &backup.id);
    sheet.line(
        "Created",
        format!("{} ({})", backup.created_at, ago(&backup.created_at, now)),
    );
    sheet.line("Host", &backup.host);
    sheet.line("Volume", format!("{} {}", backup.volume_name, backup.volume_uuid));
    sheet.line("Driver", &backup.driver_name);
    match backup.volume_size.parse() {
        Ok(0) | Err(_) => sheet.line("Size", "unbounded"),
        Ok(size) => sheet.line("Size", Bytes(size).to_string()),
    }
    sheet.line(
        "Snapshot",
        match backup.snapshot_name.as_str() {
            "" => "none: it was made by another program".to_owned(),
            name => format!("{name}, taken {}", backup.snapshot_created_at),
        },
    );
    if !backup.consistency.is_empty() {
        sheet.line("Consistency", &backup.consistency);
    }
    sheet.line(
        "Holds",
        format!("{} in {} files", Bytes(backup.bytes_total), backup.files),
    );
    sheet.line("Read", Bytes(backup.bytes_read).to_string());
    sheet.line(
        "Stored",
        format!(
            "{} for {} that were new",
            Bytes(backup.bytes_stored),
            Bytes(backup.bytes_new)
        ),
    );
    sheet.line("Took", format!("{:.1} s", backup.seconds));
    sheet
}
