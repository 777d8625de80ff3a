//! Who mounted what. Docker's mount ids are hints: they come twice, they leak, they outlive the daemon; so each is
//! counted and tagged with the boot and the process that heard of it last.

use rusqlite::params;

use super::{Result, State, doing};
use crate::model::{Time, VolumeId};

/// One mount id of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The volume.
    pub volume: VolumeId,
    /// Docker's id, or `windlass:<mount point>`.
    pub mount_id: String,
    /// How often it was mounted and not unmounted.
    pub count: u32,
    /// The daemon's run that heard of it last.
    pub process: String,
    /// When it was first heard of.
    pub since: Time,
}

impl State {
    /// All holds of this boot. Those of former boots are forgotten: no mount outlives a boot.
    pub fn holds(&self, boot: &str) -> Result<Vec<Hold>> {
        let connection = self.locked();
        connection
            .execute("DELETE FROM hold WHERE boot <> ?1", [boot])
            .map_err(doing("forget mounts of former boots"))?;
        let mut statement = connection
            .prepare("SELECT volume, mount_id, count, process, since FROM hold ORDER BY volume, mount_id")
            .map_err(doing("list mounts"))?;
        let rows = statement
            .query_map([], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get::<_, String>(4)?,
                ))
            })
            .map_err(doing("list mounts"))?;
        let mut holds = Vec::new();
        for row in rows {
            let (volume, mount_id, count, process, since) = row.map_err(doing("list mounts"))?;
            // A row that cannot be read is a hint lost, no reason to refuse the start.
            let (Ok(volume), Ok(since)) = (volume.parse(), since.parse()) else {
                log::warn!("mount id {mount_id:?} of volume {volume:?} cannot be read and is ignored");
                continue;
            };
            holds.push(Hold {
                volume,
                mount_id,
                count,
                process,
                since,
            });
        }
        Ok(holds)
    }

    /// Records a hold as it is now.
    pub fn put_hold(&self, boot: &str, hold: &Hold) -> Result<()> {
        self.locked()
            .prepare_cached(
                "INSERT INTO hold (volume, mount_id, count, boot, process, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (volume, mount_id) DO UPDATE SET count = ?3, boot = ?4, process = ?5",
            )
            .and_then(|mut s| {
                let (volume, since) = (hold.volume.to_string(), hold.since.to_string());
                s.execute(params![volume, hold.mount_id, hold.count, boot, hold.process, since])
            })
            .map(drop)
            .map_err(doing("record a mount"))
    }

    /// Forgets one hold.
    pub fn drop_hold(&self, volume: VolumeId, mount_id: &str) -> Result<()> {
        self.locked()
            .prepare_cached("DELETE FROM hold WHERE volume = ?1 AND mount_id = ?2")
            .and_then(|mut s| s.execute(params![volume.to_string(), mount_id]))
            .map(drop)
            .map_err(doing("forget a mount"))
    }

    /// Forgets all holds of a volume.
    pub fn drop_holds(&self, volume: VolumeId) -> Result<()> {
        self.locked()
            .execute("DELETE FROM hold WHERE volume = ?1", [volume.to_string()])
            .map(drop)
            .map_err(doing("forget a volume's mounts"))
    }
}
