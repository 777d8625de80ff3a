//! `windlass daemon`: its arguments, exactly as they were given.
//!
//! What they mean together with the environment and the configuration file, and which defaults fill the rest, is
//! `config`'s business; hence every field is optional and none has a default.

use std::path::PathBuf;

use clap::Args;

use super::Error;

/// Run the daemon in the foreground until SIGTERM
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  windlass daemon --drivers vfs --driver-opts vfs.path=/srv/volumes
  windlass daemon --config /etc/windlass.toml

Once a root is configured, the daemon starts from its own configuration: 'windlass daemon' is enough.")]
pub struct DaemonArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The state directory
    #[arg(long, value_name = "DIRECTORY")]
    pub root: Option<PathBuf>,
    /// Write the log to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// A driver to serve; can be repeated, the first is the default for new volumes
    #[arg(long, value_name = "DRIVER", value_delimiter = ',')]
    pub drivers: Vec<String>,
    /// An option of a driver, such as vfs.path=/srv/volumes; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub driver_opts: Vec<String>,
    /// Mount in this mount namespace: a path such as /proc/1/ns/mnt, or a file descriptor
    #[arg(long, value_name = "NAMESPACE")]
    pub mnt_ns: Option<String>,
    /// Let 'docker volume rm' forget volumes without touching their data
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ignore_docker_delete: Option<bool>,
    /// Let Docker's mount of an unknown name create the volume
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub create_on_docker_mount: Option<bool>,
    /// How long a program that a driver runs may take, such as 1m
    #[arg(long, value_name = "SPAN")]
    pub cmd_timeout: Option<String>,
    /// The global `--socket`: where the admin API listens.
    #[arg(skip)]
    pub socket: Option<PathBuf>,
    /// The global `--debug`.
    #[arg(skip)]
    pub debug: Option<bool>,
}

/// Runs the daemon until it is told to stop.
pub(super) fn run(args: DaemonArgs) -> Result<(), Error> {
    // INTEGRATION: replace the next line with `crate::daemon::run(&args)`, and `Error::DaemonMissing` with its error.
    let _ = args;
    Err(Error::DaemonMissing)
}
