//! A backup as the lists show it: Convoy's keys for scripts, as `windlass backup list` has them, and a row for people.

use serde::Serialize;

use super::access::Place;
use crate::cli::screen::ago;
use crate::cli::table::{Shrink, Table, Text};
use crate::engine::convoy::ConvoyBackup;
use crate::engine::{Backup, Kind};
use crate::model::{Bytes, Time};

/// One backup. What nobody recorded is an empty text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    backup_name: String,
    #[serde(rename = "BackupURL")]
    pub backup_url: String,
    driver_name: String,
    pub volume_name: String,
    /// In bytes, as text; `0` is without bound.
    volume_size: String,
    volume_created_at: String,
    snapshot_name: String,
    snapshot_created_at: String,
    created_time: String,
    /// When it was made, RFC 3339; in Convoy's own form where that cannot be read.
    pub created_at: String,
    /// All digits of its id; empty of Convoy's backups.
    #[serde(rename = "ID")]
    id: String,
    host: String,
    /// `tree`, `block`, or empty where another program made it.
    kind: &'static str,
    /// `windlass`, `Convoy`, or what another program calls itself.
    made_by: String,
    /// Bytes in it, holes included; 0 where nobody recorded that.
    bytes_total: u64,
}

impl Entry {
    /// One of a repository in restic's format.
    pub fn of(place: &Place, backup: &Backup) -> Self {
        let record = &backup.record;
        let manifest = backup.manifest();
        let made = seconds(record.time);
        let text = |of: Option<String>| of.unwrap_or_default();
        Self {
            backup_name: backup.name(),
            backup_url: place.url(Some(&backup.name())),
            driver_name: text(manifest.map(|m| m.driver.clone())),
            volume_name: manifest
                .map(|m| m.volume.name.clone())
                .or_else(|| place.volume.clone())
                .unwrap_or_default(),
            volume_size: manifest.map_or(0, |m| m.size).to_string(),
            volume_created_at: text(manifest.map(|m| m.volume.created.convoy())),
            snapshot_name: text(manifest.map(|m| m.snapshot.name.clone())),
            snapshot_created_at: text(manifest.map(|m| m.snapshot.created.convoy())),
            created_time: made.map_or_else(|| record.time.to_string(), Time::convoy),
            created_at: made.map_or_else(|| record.time.to_string(), |made| made.to_string()),
            id: backup.id.to_string(),
            host: record.hostname.clone(),
            kind: manifest.map_or("", |m| word(m.kind)),
            made_by: match (manifest, record.program_version.as_str()) {
                (Some(_), _) => "windlass".to_owned(),
                (None, "") => "another program".to_owned(),
                (None, program) => program.to_owned(),
            },
            bytes_total: match (&record.summary, manifest) {
                (Some(summary), _) => summary.total_bytes_processed,
                (None, Some(manifest)) => manifest.size,
                (None, None) => 0,
            },
        }
    }

    /// One of Convoy's.
    pub fn of_convoy(place: &Place, backup: &ConvoyBackup) -> Self {
        Self {
            backup_name: backup.name.clone(),
            backup_url: place.of_volume(&backup.volume).url(Some(&backup.name)),
            driver_name: backup.driver.clone(),
            volume_name: backup.volume.clone(),
            volume_size: backup.volume_size.to_string(),
            volume_created_at: backup.volume_created_at.clone(),
            snapshot_name: backup.snapshot.clone(),
            snapshot_created_at: backup.snapshot_created_at.clone(),
            created_time: backup.created_at.clone(),
            created_at: rfc3339(&backup.created_at),
            id: String::new(),
            host: String::new(),
            kind: word(backup.kind),
            made_by: "Convoy".to_owned(),
            bytes_total: backup.volume_size,
        }
    }
}

/// A table of backups, the oldest of each volume first.
pub(super) fn table(entries: &[Entry], now: Time) -> Table {
    let mut table = Table::default()
        .column("VOLUME", Shrink::Never)
        .column("BACKUP", Shrink::Never)
        .column("KIND", Shrink::Never)
        .column("SIZE", Shrink::Never)
        .column("SNAPSHOT", Shrink::KeepStart(12))
        .column("CREATED", Shrink::Never)
        .column("MADE BY", Shrink::KeepStart(10));
    let dash = |text: &str| Text::from(if text.is_empty() { "-" } else { text });
    for entry in entries {
        let size = match entry.bytes_total {
            0 => String::new(),
            bytes => Bytes(bytes).to_string(),
        };
        table.row(vec![
            dash(&entry.volume_name),
            (&entry.backup_name).into(),
            dash(entry.kind),
            dash(&size),
            dash(&entry.snapshot_name),
            ago(&entry.created_at, now).into(),
            (&entry.made_by).into(),
        ]);
    }
    table
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Tree => "tree",
        Kind::Block => "block",
    }
}

/// The moment, cut to the second.
fn seconds(time: jiff::Timestamp) -> Option<Time> {
    let cut = jiff::Timestamp::from_second(time.as_second()).ok()?;
    cut.to_string().parse().ok()
}

/// Convoy's form of a time as everybody else's; what is none stays as it is.
fn rfc3339(convoy: &str) -> String {
    let read = jiff::fmt::strtime::parse("%a %b %d %H:%M:%S %z %Y", convoy);
    match read.and_then(|broken| broken.to_timestamp()) {
        Ok(time) => time.to_string(),
        Err(_) => convoy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn convoy_s_times_are_read() {
        assert_eq!(rfc3339("Fri Nov 20 08:00:00 +0100 2026"), "2026-11-20T07:00:00Z");
        assert_eq!(rfc3339("Tue May 05 22:04:01 +0000 2015"), "2015-05-05T22:04:01Z");
        assert_eq!(rfc3339("yesterday"), "yesterday");
    }
}
