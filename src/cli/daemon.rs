//! `windlass daemon`: its arguments, exactly as they were given.
//!
//! What they mean together with the environment and the configuration file, and which defaults fill the rest, is
//! `config`'s business; hence every field is optional and none has a default.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Error, Screen};

/// Run the daemon in the foreground until SIGTERM
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  windlass daemon --drivers vfs --driver-opts vfs.path=/srv/volumes
  windlass daemon --config /etc/windlass.toml
  windlass daemon --drivers devicemapper --driver-opts dm.device=/dev/sdb --dry-run

Each setting can also be given as an environment variable (WINDLASS_TRASH_TTL=7d) and in the
configuration file (trash-ttl = \"7d\"); the command line wins over the environment, and that over
the file. SIGHUP reads the file again. Once a root is configured, the daemon starts from what it
remembers: 'windlass daemon' is enough.")]
pub struct DaemonArgs {
    /// The configuration file [default: <root>/windlass.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The state directory [default: /var/lib/windlass]
    #[arg(long, value_name = "DIRECTORY")]
    pub root: Option<PathBuf>,
    /// Write the log to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How much to log: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// A driver to serve; can be repeated, the first is the default for new volumes [default: vfs]
    #[arg(long, value_name = "DRIVER", value_delimiter = ',')]
    pub drivers: Vec<String>,
    /// An option of a driver, such as vfs.path=/srv/volumes; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub driver_opts: Vec<String>,
    /// Where volumes are mounted [default: <root>/mounts]
    #[arg(long, value_name = "DIRECTORY")]
    pub mount_root: Option<PathBuf>,
    /// Guard against what the engine does below the mounts of a managed plugin
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub managed_plugin: Option<bool>,
    /// The socket of Docker's protocol [default: /run/docker/plugins/windlass.sock]
    #[arg(long, value_name = "PATH")]
    pub docker_socket: Option<PathBuf>,
    /// A socket of the admin API; can be repeated [default: <root>/windlass.sock]
    #[arg(long, value_name = "PATH")]
    pub admin_socket: Vec<PathBuf>,
    /// The group that may use the admin API, by name or number [default: root]
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// What becomes of removed volumes that do not say: trash, delete or keep [default: trash]
    #[arg(long, value_name = "HOW")]
    pub on_remove: Option<String>,
    /// The calendar of schedules, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// A policy of volumes that do not say, such as snapshot.schedule=@hourly; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub defaults: Vec<String>,
    /// How long the trash keeps volumes that do not say [default: 7d]
    #[arg(long, value_name = "SPAN")]
    pub trash_ttl: Option<String>,
    /// Let 'docker volume rm' forget volumes without touching their data
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ignore_docker_delete: Option<bool>,
    /// Let Docker's mount of an unknown name create the volume
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub create_on_docker_mount: Option<bool>,
    /// How long a program that a driver runs may take [default: 1m]
    #[arg(long, value_name = "SPAN")]
    pub cmd_timeout: Option<String>,
    /// Where backups go that name no destination, such as s3://bucket@region/path or vfs:///srv/backups
    #[arg(long, value_name = "URL")]
    pub backup_dest: Option<String>,
    /// The S3 service of destinations that name none
    #[arg(long, value_name = "URL")]
    pub backup_s3_endpoint: Option<String>,
    /// A file whose first line is the password of the repositories
    #[arg(long, value_name = "FILE")]
    pub backup_password_file: Option<PathBuf>,
    /// 'none': repositories that everybody who can read them can read [default: password]
    #[arg(long, value_name = "HOW")]
    pub backup_encrypt: Option<String>,
    /// How many requests a job may have under way at one destination [default: 8]
    #[arg(long, value_name = "NUMBER")]
    pub backup_connections: Option<String>,
    /// The most that a job may send to a destination in a second, such as 50M
    #[arg(long, value_name = "SIZE")]
    pub backup_upload_limit: Option<String>,
    /// The most that a job may fetch from a destination in a second
    #[arg(long, value_name = "SIZE")]
    pub backup_download_limit: Option<String>,
    /// Where indexes of repositories are cached [default: <root>/cache]
    #[arg(long, value_name = "DIRECTORY")]
    pub cache: Option<PathBuf>,
    /// How many backups, and how many restores, run at once [default: 2]
    #[arg(long, value_name = "NUMBER")]
    pub jobs: Option<String>,
    /// Serve Prometheus' metrics at this address, such as 127.0.0.1:9377; and nothing else
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_address: Option<String>,
    /// Post each event to this URL, as JSON; can be repeated. A URL that is a secret is better kept in the file
    #[arg(long, value_name = "URL")]
    pub webhook_url: Vec<String>,
    /// Of which events, such as health.*; can be repeated [default: all]
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub webhook_events: Vec<String>,
    /// How many scheduled jobs work on one destination at once [default: as many as at all]
    #[arg(long, value_name = "NUMBER")]
    pub jobs_per_destination: Option<String>,
    /// The longest that scheduled backups wait, so that not all begin in one moment [default: 1m]
    #[arg(long, value_name = "SPAN")]
    pub schedule_spread: Option<String>,
    /// How long a mount waits for a volume that is being restored [default: 25s]
    #[arg(long, value_name = "SPAN")]
    pub mount_wait: Option<String>,
    /// Start only on the state directory with this id ('windlass info' shows it)
    #[arg(long, value_name = "UUID")]
    pub state_id: Option<String>,
    /// Say how the devices of the driver devicemapper would be used, and touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Convoy's: accepted and not needed, for windlass mounts in its own namespace
    #[arg(long, value_name = "NAMESPACE", hide = true)]
    pub mnt_ns: Option<String>,
    /// The global `--socket`: where the admin API listens.
    #[arg(skip)]
    pub socket: Option<PathBuf>,
    /// The global `--debug`.
    #[arg(skip)]
    pub debug: Option<bool>,
}

impl DaemonArgs {
    /// The settings that were given, by their names in the configuration.
    pub fn settings(&self) -> crate::config::Layer {
        let text = |path: &Path| path.display().to_string();
        let one = |value: Option<String>| value.into_iter().collect::<Vec<_>>();
        let paths = |paths: &[PathBuf]| paths.iter().map(|path| text(path)).collect::<Vec<_>>();
        let debug = self.debug.unwrap_or(false).then(|| "debug".to_owned());
        let admin = if self.admin_socket.is_empty() {
            self.socket.as_slice()
        } else {
            &self.admin_socket
        };
        [
            ("admin-socket", paths(admin)),
            ("backup-connections", one(self.backup_connections.clone())),
            ("backup-dest", one(self.backup_dest.clone())),
            ("backup-download-limit", one(self.backup_download_limit.clone())),
            ("backup-encrypt", one(self.backup_encrypt.clone())),
            (
                "backup-password-file",
                one(self.backup_password_file.as_deref().map(text)),
            ),
            ("backup-s3-endpoint", one(self.backup_s3_endpoint.clone())),
            ("backup-upload-limit", one(self.backup_upload_limit.clone())),
            ("cache", one(self.cache.as_deref().map(text))),
            ("cmd-timeout", one(self.cmd_timeout.clone())),
            ("config", one(self.config.as_deref().map(text))),
            (
                "create-on-docker-mount",
                one(self.create_on_docker_mount.map(|v| v.to_string())),
            ),
            ("defaults", self.defaults.clone()),
            ("docker-socket", one(self.docker_socket.as_deref().map(text))),
            ("driver-opts", self.driver_opts.clone()),
            ("drivers", self.drivers.clone()),
            ("group", one(self.group.clone())),
            (
                "ignore-docker-delete",
                one(self.ignore_docker_delete.map(|v| v.to_string())),
            ),
            ("jobs", one(self.jobs.clone())),
            ("jobs-per-destination", one(self.jobs_per_destination.clone())),
            ("log", one(self.log.as_deref().map(text))),
            ("log-level", one(self.log_level.clone().or(debug))),
            ("managed-plugin", one(self.managed_plugin.map(|v| v.to_string()))),
            ("metrics-address", one(self.metrics_address.clone())),
            ("mount-root", one(self.mount_root.as_deref().map(text))),
            ("mount-wait", one(self.mount_wait.clone())),
            ("on-remove", one(self.on_remove.clone())),
            ("root", one(self.root.as_deref().map(text))),
            ("schedule-spread", one(self.schedule_spread.clone())),
            ("state-id", one(self.state_id.clone())),
            ("time-zone", one(self.time_zone.clone())),
            ("trash-ttl", one(self.trash_ttl.clone())),
            ("webhook-events", self.webhook_events.clone()),
            ("webhook-url", self.webhook_url.clone()),
        ]
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| (name.to_owned(), values))
        .collect()
    }
}

/// Runs the daemon until it is told to stop; with `--dry-run`, only says what it would do with devices.
pub(super) fn run(args: &DaemonArgs, screen: &mut Screen) -> Result<(), Error> {
    if args.dry_run {
        let lines = crate::daemon::plan(&args.settings()).map_err(|error| Error::Daemon {
            source: Box::new(error),
        })?;
        return screen.text(&(lines.join("\n") + "\n"));
    }
    crate::daemon::run(&args.settings()).map_err(|error| Error::Daemon {
        source: Box::new(error),
    })
}
