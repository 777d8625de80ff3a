//! Backups that no record names: what a crash left between a backup and the record of its snapshot, or between the removal
//! of a record and that of its backup.

use super::Local;
use crate::driver::Driver;
use crate::engine::{Access, Backup, EngineError, Id, Lock};
use crate::model::Volume;
use crate::service::{Inner, Result};
use crate::sys::fault::point;

impl Inner {
    /// Forgets the backups of a volume that its record does not name; says how many. Blocks. In this process, nobody
    /// adds to the repository meanwhile.
    ///
    /// Of another host's snapshot there is a backup before there is a record too. That host holds a lock on the repository
    /// until both are there, and so the look that counts is made alone; while others are at work, none is made.
    pub(in super::super) fn forget_strays(
        &self,
        local: &Local,
        driver: &dyn Driver,
        volume: &Volume,
    ) -> Result<usize> {
        let repository = &local.opened.repository;
        let look = || -> Result<Vec<Id>> {
            let backups = repository.backups()?;
            // Only what is alive has a record here; what is in the trash comes back with its snapshots.
            let record = driver.volume(&volume.name)?.filter(|now| now.id == volume.id);
            Ok(record.map_or_else(Vec::new, |record| strays(&backups, &record)))
        };
        if look()?.is_empty() {
            return Ok(0);
        }
        let alone = match Lock::take(repository, Access::Exclusive) {
            Err(EngineError::Locked { by, .. }) => {
                log::debug!(
                    "volume {}: backups without a record stay for now: locked {by}",
                    volume.name
                );
                return Ok(0);
            }
            lock => lock?,
        };
        let strays = look()?;
        repository.forget_under(&alone, &strays)?;
        point("snapshot.cleaned");
        log::info!(
            "volume {}: forgot {} backups that no snapshot is",
            volume.name,
            strays.len()
        );
        Ok(strays.len())
    }
}

/// The backups of a volume that are none of its snapshots. What other programs put there is not looked at.
fn strays(backups: &[Backup], volume: &Volume) -> Vec<Id> {
    let is_named = |backup: &Backup, id: uuid::Uuid| {
        let name = backup.id.to_string();
        volume.snapshots.iter().any(|snapshot| {
            let stored = snapshot.stored.as_ref();
            snapshot.id.uuid() == id || stored.is_some_and(|stored| name.starts_with(&stored.backup))
        })
    };
    let is_stray = |backup: &&Backup| {
        backup.manifest().is_some_and(|manifest| {
            manifest.volume.id == volume.id.uuid() && !is_named(backup, manifest.snapshot.id)
        })
    };
    backups.iter().filter(is_stray).map(|backup| backup.id).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const VOLUME: &str = "0a1b2c3d-0000-4000-8000-000000000001";
    const OTHER: &str = "0a1b2c3d-0000-4000-8000-000000000009";

    fn volume(snapshots: &[(u8, &str)]) -> Volume {
        let snapshots: Vec<_> = snapshots
            .iter()
            .map(|(n, backup)| {
                json!({
                    "id": snapshot(*n), "name": format!("s{n}"), "created": "2026-11-20T09:00:00Z",
                    "consistency": "per-file", "stored": {"backup": backup},
                })
            })
            .collect();
        let record = json!({
            "id": VOLUME, "name": "v", "driver": "vfs", "created": "2026-11-20T08:00:00Z", "snapshots": snapshots,
        });
        serde_json::from_value(record).expect("a record")
    }

    fn snapshot(n: u8) -> String {
        format!("0a1b2c3d-0000-4000-8000-0000000000{n:02x}")
    }

    fn backup(id: u8, of: Option<(&str, u8)>) -> Backup {
        let manifest = of.map(|(volume, n)| {
            json!({
                "version": 1, "kind": "tree", "driver": "vfs", "size": 0,
                "volume": {"id": volume, "name": "v", "created": "2026-11-20T08:00:00Z", "options": {}},
                "snapshot": {
                    "id": snapshot(n), "name": "s", "created": "2026-11-20T09:00:00Z", "consistency": "per-file",
                },
            })
        });
        let mut record = json!({"time": "2026-11-20T09:00:00Z", "tree": Id([0; 32]).to_string()});
        if let Some(manifest) = manifest {
            record["windlass"] = manifest;
        }
        let record = serde_json::from_value(record).expect("a snapshot file");
        let backup = Backup {
            id: Id([id; 32]),
            record,
        };
        assert_eq!(backup.manifest().is_some(), of.is_some());
        backup
    }

    #[test]
    fn only_this_volume_s_own_backups_without_a_snapshot_are_strays() {
        let volume = volume(&[(2, "02"), (3, "ffff")]);
        let all = [
            backup(1, Some((VOLUME, 1))),
            backup(2, Some((VOLUME, 2))),
            // Rewritten by another program: another id, and the same manifest.
            backup(3, Some((VOLUME, 3))),
            backup(4, Some((OTHER, 4))),
            backup(5, None),
        ];
        assert_eq!(strays(&all, &volume), [Id([1; 32])]);
    }
}
