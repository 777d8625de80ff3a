//! What the daemon does where a volume does not say; a SIGHUP changes these while it runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Bytes, EventFilter, OnRemove, Policy, Span, UrlTemplate};

/// Defaults and bounds of a running daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// How long a mount waits for a volume that is being restored.
    pub mount_wait: Span,
    /// The calendar of schedules.
    pub time_zone: jiff::tz::TimeZone,
    /// The longest that scheduled work which can wait does wait.
    pub schedule_spread: Span,
    /// How many scheduled jobs work on one destination at once; as many as at all, without it.
    pub jobs_per_destination: Option<u32>,
    /// The policy of volumes that do not say; `on_remove` and `trash_ttl` have fields of their own here.
    pub policy: Arc<Policy>,
    /// Where backups go, and how.
    pub backups: Arc<BackupSettings>,
    /// Who is told of events.
    pub webhooks: Arc<Vec<UrlTemplate>>,
    /// Of which.
    pub webhook_events: Arc<EventFilter>,
}

/// Where backups go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSettings {
    /// The destination of backups that name none.
    pub destination: Option<String>,
    /// The S3 service of destinations that name none.
    pub s3_endpoint: Option<String>,
    /// A file whose first line is the password of the repositories.
    pub password_file: Option<PathBuf>,
    /// The password itself, from the environment.
    pub password: Option<Secret>,
    /// False: repositories have restic's empty password, so that everybody who can read them can read the backups.
    pub encrypt: bool,
    /// How many requests a job may have under way at one destination.
    pub connections: u32,
    /// The most that a job may send to a destination in a second.
    pub upload_limit: Option<Bytes>,
    /// The most that a job may fetch from a destination in a second.
    pub download_limit: Option<Bytes>,
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
            // Below the 30 s after which the engine gives up on a plugin that was enabled with its default time-out.
            mount_wait: Span::seconds(25),
            time_zone: jiff::tz::TimeZone::UTC,
            schedule_spread: Span::seconds(60),
            jobs_per_destination: None,
            policy: Arc::default(),
            backups: Arc::default(),
            webhooks: Arc::default(),
            webhook_events: Arc::default(),
        }
    }
}

impl Default for BackupSettings {
    fn default() -> Self {
        Self {
            destination: None,
            s3_endpoint: None,
            password_file: None,
            password: None,
            encrypt: true,
            connections: 8,
            upload_limit: None,
            download_limit: None,
        }
    }
}

/// A text that no log and no answer shows, and that is wiped when it is forgotten.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text into custody.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for those who need it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_in_no_debug_output() {
        let settings = Settings {
            backups: Arc::new(BackupSettings {
                password: Some(Secret::new("correct horse".to_owned())),
                ..BackupSettings::default()
            }),
            ..Settings::default()
        };
        assert!(!format!("{settings:?}").contains("horse"));
    }
}
