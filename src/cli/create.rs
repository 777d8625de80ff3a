//! `windlass create`.

use std::collections::BTreeMap;

use clap::Args;

use super::progress::{self, Shown};
use super::{Error, Screen};
use crate::api::types::CreateVolume;
use crate::client::Client;

/// Create a volume and print its name
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass create pgdata --size 20G
  windlass create www --uid 33 --gid 33 --mode 0750 --protect
  windlass create pgdata-test --from pgdata@before-upgrade
  windlass create pgdata-then --from pgdata@2h
  windlass create old-data --adopt
  windlass create pgdata --backup 's3://bucket@region/path?volume=pgdata&backup=0123456789abcdef'

Every option can also be given as -O NAME=VALUE, with the names of docker volume create -o.")]
pub struct Create {
    /// The volume's name [default: volume- and 8 hexadecimal digits]
    name: Option<String>,
    /// The driver that holds the volume [default: the daemon's first]
    #[arg(long, value_name = "DRIVER")]
    driver: Option<String>,
    /// The most that the volume may hold: bytes, or with K, M, G, T (powers of 1024)
    #[arg(long, value_name = "SIZE")]
    size: Option<String>,
    /// The filesystem of a volume that is a device of its own: ext4 or xfs
    #[arg(long, value_name = "TYPE")]
    fs: Option<String>,
    /// How that is mounted, as in fstab, such as noatime,discard
    #[arg(long, value_name = "OPTIONS")]
    mountopts: Option<String>,
    /// Begin as a writable clone of a snapshot, or of the volume as it was at a moment: @2h, @2026-11-20T08:00
    #[arg(long, value_name = "VOLUME@STATE")]
    from: Option<String>,
    /// Begin as a backup, which is restored in the background
    #[arg(long, value_name = "URL")]
    backup: Option<String>,
    /// With --backup: the S3 service, where it is not Amazon's
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// Take over a directory of this name that windlass did not make
    #[arg(long)]
    adopt: bool,
    /// Hold a sparse image disk.img of exactly SIZE, for a virtual machine
    #[arg(long)]
    vm: bool,
    /// Owner of the volume's root directory
    #[arg(long, value_name = "ID")]
    uid: Option<String>,
    /// Group of the volume's root directory
    #[arg(long, value_name = "ID")]
    gid: Option<String>,
    /// Permissions of the volume's root directory, octal
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// What becomes of the data when the volume is removed
    #[arg(long, value_name = "HOW", value_parser = ["trash", "delete", "keep"])]
    on_remove: Option<String>,
    /// How long the trash keeps the volume once removed, such as 12h or 7d
    #[arg(long, value_name = "SPAN")]
    trash_ttl: Option<String>,
    /// Refuse removal until 'windlass unprotect'
    #[arg(long)]
    protect: bool,
    /// When snapshots are taken, such as @hourly or 'every 15m'
    #[arg(long = "snapshot.schedule", value_name = "SCHEDULE")]
    snapshot_schedule: Option<String>,
    /// Which of those are kept, such as hourly=24,daily=7
    #[arg(long = "snapshot.keep", value_name = "RULES")]
    snapshot_keep: Option<String>,
    /// Where backups go [default: the daemon's backup-dest]
    #[arg(long = "backup.dest", value_name = "URL")]
    backup_dest: Option<String>,
    /// When backups are made, such as @daily
    #[arg(long = "backup.schedule", value_name = "SCHEDULE")]
    backup_schedule: Option<String>,
    /// When the newest backup is restored aside, to see that it can be, such as weekly
    #[arg(long = "backup.drill", value_name = "SCHEDULE")]
    backup_drill: Option<String>,
    /// How old the last backup may be, instead of a schedule, such as 4h
    #[arg(long = "backup.rpo", value_name = "SPAN")]
    backup_rpo: Option<String>,
    /// Which of those backups are kept, such as daily=7,weekly=4
    #[arg(long = "backup.keep", value_name = "RULES")]
    backup_keep: Option<String>,
    /// A shell command for the volume's containers, run before each snapshot
    #[arg(long = "hook.pre", value_name = "COMMAND")]
    hook_pre: Option<String>,
    /// One that is run after each snapshot, whatever became of it
    #[arg(long = "hook.post", value_name = "COMMAND")]
    hook_post: Option<String>,
    /// The container, or Compose service, that hooks run in [default: all that use the volume]
    #[arg(long = "hook.container", value_name = "NAME")]
    hook_container: Option<String>,
    /// The user that hooks run as [default: the container's own]
    #[arg(long = "hook.user", value_name = "USER")]
    hook_user: Option<String>,
    /// How long a hook may take [default: 1m]
    #[arg(long = "hook.timeout", value_name = "SPAN")]
    hook_timeout: Option<String>,
    /// Whether a hook that fails keeps the snapshot from being taken [default: fail]
    #[arg(long = "hook.on-error", value_name = "HOW", value_parser = ["fail", "continue"])]
    hook_on_error: Option<String>,
    /// What is asked for after each backup by policy, so that silence is noticed
    #[arg(long = "ping.url", value_name = "URL")]
    ping_url: Option<String>,
    /// What is asked for after one that failed [default: ping.url with /fail]
    #[arg(long = "ping.fail-url", value_name = "URL")]
    ping_fail_url: Option<String>,
    /// The tasks that are followed by pings, such as backup,snapshot [default: backup]
    #[arg(long = "ping.tasks", value_name = "TASKS")]
    ping_tasks: Option<String>,
    /// Whether the backups are encrypted [default: as the daemon's backup-encrypt says]
    #[arg(long = "backup.encrypt", value_name = "BOOL")]
    backup_encrypt: Option<String>,
    /// The most that a backup may send in a second, such as 20M
    #[arg(long = "backup.limit", value_name = "SIZE")]
    backup_limit: Option<String>,
    /// How it is seen to that backups can be restored: sample, full=@weekly, or both
    #[arg(long = "backup.verify", value_name = "WHAT")]
    backup_verify: Option<String>,
    /// When the space of removed files goes back to the pool
    #[arg(long = "trim.schedule", value_name = "SCHEDULE")]
    trim_schedule: Option<String>,
    /// With --backup or --from: print the name at once instead of when all is restored
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    shown: Shown,
    /// Any option by its name; can be repeated
    #[arg(long = "opt", short = 'O', value_name = "NAME=VALUE", value_parser = key_value)]
    options: Vec<(String, String)>,
    // Convoy had these. The daemon says what became of them; here they are only not a riddle.
    #[arg(long, hide = true)]
    id: Option<String>,
    #[arg(long = "type", hide = true)]
    kind: Option<String>,
    #[arg(long, hide = true)]
    iops: Option<String>,
}

impl Create {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let (detach, shown) = (self.detach, self.shown);
        let mut created = client.create_volume(&self.request()?).await?;
        screen.notes(&created.notes);
        match created.job {
            Some(job) if detach => screen.notes(&[format!(
                "it is being restored; 'windlass job wait {job}' waits for job {job}"
            )]),
            Some(job) => {
                let job = client.job(job).await?;
                progress::watch(client, screen, job, shown).await?;
                created.volume = client.volume(&created.volume.name).await?;
            }
            None => {}
        }
        screen.name(&created.volume.name, &created.volume)
    }

    /// The request; flags and `-O` are the same options.
    fn request(self) -> Result<CreateVolume, Error> {
        let truth = |given: bool| given.then(|| "true".to_owned());
        let flags = [
            ("driver", self.driver),
            ("size", self.size),
            ("fs", self.fs),
            ("mountopts", self.mountopts),
            ("from", self.from),
            ("adopt", truth(self.adopt)),
            ("vm", truth(self.vm)),
            ("uid", self.uid),
            ("gid", self.gid),
            ("mode", self.mode),
            ("on-remove", self.on_remove),
            ("trash-ttl", self.trash_ttl),
            ("protect", truth(self.protect)),
            ("snapshot.schedule", self.snapshot_schedule),
            ("snapshot.keep", self.snapshot_keep),
            ("backup.dest", self.backup_dest),
            ("backup.encrypt", self.backup_encrypt),
            ("backup.limit", self.backup_limit),
            ("backup.verify", self.backup_verify),
            ("trim.schedule", self.trim_schedule),
            ("backup.schedule", self.backup_schedule),
            ("backup.rpo", self.backup_rpo),
            ("backup.drill", self.backup_drill),
            ("backup.keep", self.backup_keep),
            ("hook.pre", self.hook_pre),
            ("hook.post", self.hook_post),
            ("hook.container", self.hook_container),
            ("hook.user", self.hook_user),
            ("hook.timeout", self.hook_timeout),
            ("hook.on-error", self.hook_on_error),
            ("ping.url", self.ping_url),
            ("ping.fail-url", self.ping_fail_url),
            ("ping.tasks", self.ping_tasks),
            ("backup", self.backup),
            ("s3-endpoint", self.s3_endpoint),
            ("id", self.id),
            ("type", self.kind),
            ("iops", self.iops),
        ];
        let mut options = BTreeMap::new();
        let flags = flags
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        for (name, value) in flags.chain(self.options) {
            if let Some(before) = options.insert(name.clone(), value.clone())
                && before != value
            {
                return Err(Error::Usage {
                    message: format!("option {name} is given twice, as {before:?} and as {value:?}"),
                });
            }
        }
        Ok(CreateVolume {
            name: self.name,
            options,
        })
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it must have the form NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        create: Create,
    }

    fn request(line: &str) -> Result<CreateVolume, Error> {
        Alone::parse_from(format!("create {line}").split_whitespace())
            .create
            .request()
    }

    #[test]
    fn flags_and_options_are_one_map() {
        let request = request(
            "pg --driver vfs --size=20G --from v@s --adopt --vm --uid 1 --gid 2 --mode 0750 --on-remove keep \
             --trash-ttl 7d --protect -O x=y=z --opt empty= --backup B --s3-endpoint E --id I --type T --iops 3",
        )
        .unwrap();
        assert_eq!(request.name.as_deref(), Some("pg"));
        let shown: Vec<_> = request.options.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            shown.join(" "),
            "adopt=true backup=B driver=vfs empty= from=v@s gid=2 id=I iops=3 mode=0750 on-remove=keep \
             protect=true s3-endpoint=E size=20G trash-ttl=7d type=T uid=1 vm=true x=y=z"
        );
    }

    #[test]
    fn every_option_of_the_model_has_its_flag() {
        let command = <Alone as clap::CommandFactory>::command();
        for (name, _) in crate::model::options::OPTIONS {
            let flag = command.get_arguments().find(|a| a.get_long() == Some(name));
            assert!(flag.is_some_and(|flag| !flag.is_hide_set()), "--{name}");
        }
    }

    #[test]
    fn contradictions_are_usage_errors() {
        let error = request("pg --size 1G -O size=2G").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("option size is given twice"),
            "{error}"
        );
        assert!(request("pg --size 1G -O size=1G").is_ok());
        assert!(key_value("size").is_err() && key_value("=x").is_err());
    }
}
