//! What the daemon does where a volume does not say; a SIGHUP changes these while it runs.

use super::{OnRemove, Span};

/// Defaults and bounds of a running daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What becomes of removed volumes that do not say.
    pub on_remove: OnRemove,
    /// How long the trash keeps volumes that do not say.
    pub trash_ttl: Span,
    /// Docker's remove keeps the data in place, whatever the volume says.
    pub ignore_docker_delete: bool,
    /// A mount of an unknown name creates the volume.
    pub create_on_docker_mount: bool,
    /// Bound on external commands.
    pub cmd_timeout: Span,
    /// The log's threshold.
    pub log_level: log::LevelFilter,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            on_remove: OnRemove::Trash,
            trash_ttl: Span::days(7),
            ignore_docker_delete: false,
            create_on_docker_mount: false,
            cmd_timeout: Span::seconds(60),
            log_level: log::LevelFilter::Info,
        }
    }
}
