//! The table of settings.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in the file and, after `--`, on the command line.
    pub name: &'static str,
    /// Whether a SIGHUP is enough to change it.
    pub reloads: bool,
    /// One line for people.
    pub about: &'static str,
}

impl Setting {
    /// Its name in the environment.
    pub fn variable(&self) -> String {
        format!("WINDLASS_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

/// Every setting, what it means, and whether SIGHUP changes it in a running daemon.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "admin-socket",
        reloads: false,
        about: "unix sockets of the admin API (default: <root>/windlass.sock)",
    },
    Setting {
        name: "backup-connections",
        reloads: true,
        about: "how many requests a job may have under way at one destination (8)",
    },
    Setting {
        name: "backup-dest",
        reloads: true,
        about: "the destination of backups that name none, e.g. s3://bucket@region/path",
    },
    Setting {
        name: "backup-download-limit",
        reloads: true,
        about: "the most that a job may fetch in a second, e.g. 50M",
    },
    Setting {
        name: "backup-encrypt",
        reloads: true,
        about: "none: repositories without a password, for everybody to read (password)",
    },
    Setting {
        name: "backup-password-file",
        reloads: true,
        about: "a file whose first line is the password of the repositories",
    },
    Setting {
        name: "backup-s3-endpoint",
        reloads: true,
        about: "the S3 service of destinations that name none",
    },
    Setting {
        name: "backup-upload-limit",
        reloads: true,
        about: "the most that a job may send in a second, e.g. 50M",
    },
    Setting {
        name: "cache",
        reloads: false,
        about: "where indexes of repositories are cached (default: <root>/cache)",
    },
    Setting {
        name: "cmd-timeout",
        reloads: true,
        about: "how long an external command may take (1m)",
    },
    Setting {
        name: "config",
        reloads: false,
        about: "the configuration file (default: <root>/windlass.toml)",
    },
    Setting {
        name: "create-on-docker-mount",
        reloads: true,
        about: "true: a mount of an unknown name creates the volume (false)",
    },
    Setting {
        name: "defaults",
        reloads: true,
        about: "the policy of volumes that do not say, e.g. snapshot.schedule=@hourly; snapshot.keep=hourly=24",
    },
    Setting {
        name: "docker-socket",
        reloads: false,
        about: "unix socket of Docker's protocol (/run/docker/plugins/windlass.sock)",
    },
    Setting {
        name: "driver-opts",
        reloads: false,
        about: "options of the drivers, e.g. vfs.path=/srv/volumes",
    },
    Setting {
        name: "drivers",
        reloads: false,
        about: "the drivers, the default one first (vfs)",
    },
    Setting {
        name: "group",
        reloads: false,
        about: "the group that may use the admin API (root)",
    },
    Setting {
        name: "ignore-docker-delete",
        reloads: true,
        about: "true: Docker's remove keeps the data in place (false)",
    },
    Setting {
        name: "jobs",
        reloads: false,
        about: "how many backups, and how many restores, run at once (2)",
    },
    Setting {
        name: "jobs-per-destination",
        reloads: true,
        about: "how many scheduled jobs work on one destination at once (as many as at all)",
    },
    Setting {
        name: "log",
        reloads: false,
        about: "a file for the log instead of standard output",
    },
    Setting {
        name: "log-level",
        reloads: true,
        about: "error, warn, info, debug or trace (info)",
    },
    Setting {
        name: "managed-plugin",
        reloads: false,
        about: "true: guard against what the engine does below a plugin's mounts (false)",
    },
    Setting {
        name: "metrics-address",
        reloads: false,
        about: "an address that serves Prometheus' metrics to the network, e.g. 127.0.0.1:9377 (none)",
    },
    Setting {
        name: "mount-root",
        reloads: false,
        about: "where volumes are mounted (default: <root>/mounts)",
    },
    Setting {
        name: "mount-wait",
        reloads: true,
        about: "how long a mount waits for a volume that is being restored (25s)",
    },
    Setting {
        name: "on-remove",
        reloads: true,
        about: "trash, delete or keep, for volumes that do not say (trash)",
    },
    Setting {
        name: "root",
        reloads: false,
        about: "the state directory (/var/lib/windlass)",
    },
    Setting {
        name: "schedule-spread",
        reloads: true,
        about: "the longest that scheduled backups wait, so that not all begin in one moment (1m)",
    },
    Setting {
        name: "state-id",
        reloads: false,
        about: "start only on the root with this id",
    },
    Setting {
        name: "time-zone",
        reloads: true,
        about: "the calendar of schedules, e.g. Europe/Berlin (UTC)",
    },
    Setting {
        name: "trash-ttl",
        reloads: true,
        about: "how long the trash keeps volumes that do not say (7d)",
    },
    Setting {
        name: "webhook-events",
        reloads: true,
        about: "the kinds of events that webhooks are told of, e.g. health.*,warning (all)",
    },
    Setting {
        name: "webhook-url",
        reloads: true,
        about: "where each event is posted to, as JSON; several are separated by blanks",
    },
];
