//! A look at a snapshot, mounted read-only.
//!
//! Nothing is recorded: the kernel's table of mounts knows where snapshots are shown, and as long as one is, neither it nor its
//! volume is removed. A look ends with the machine, or with `snapshot umount`; the daemon's end leaves it.

use std::path::PathBuf;
use std::sync::Arc;

use super::mounts::acceptable;
use super::{Entry, Result, Service};
use crate::driver::{Driver, DriverError};
use crate::model::{Name, Snapshot, SnapshotRef, Volume};

/// The longest name of a file.
const LONGEST: usize = 255;

impl Service {
    /// Shows a snapshot read-only, at `mount_point` or in the daemon's own place; says where.
    pub async fn mount_snapshot(
        &self,
        reference: &SnapshotRef,
        mount_point: Option<PathBuf>,
    ) -> Result<PathBuf> {
        let (this, reference) = (self.clone(), reference.clone());
        self.change(async move {
            let of = this.find_snapshot(&reference).await?.volume.name.clone();
            let _held = this.0.locks.lock(of.as_str()).await;
            let found = this.find_snapshot(&reference).await?;
            if found.snapshot.stored.is_some() {
                let what = format!("{of}@{}", found.snapshot.name);
                return Err(DriverError::Unsupported {
                    what: format!("mount of snapshot {what}"),
                    because: format!(
                        "a repository holds it, as no filesystem does; 'windlass create --from {what}' makes a volume of it, and \
                         'windlass repo' reads single files out of backups"
                    ),
                }
                .into());
            }
            let driver = this.driver_of(&found.volume)?;
            let own = mount_point.is_none();
            let name = own_name(&found.volume, &found.snapshot);
            let target = match mount_point {
                Some(path) => acceptable(path)?,
                None => this.0.mount_points.at(&name),
            };
            let (at, volume, snapshot) = (target.clone(), found.volume.clone(), found.snapshot.clone());
            this.blocking(move |inner| {
                if own {
                    inner.mount_points.make(&name).map_err(DriverError::from)?;
                }
                let shown = driver.show_snapshot(&volume, &snapshot, &at);
                if shown.is_err() && own {
                    inner.mount_points.remove(&name);
                }
                Ok(shown?)
            })
            .await?;
            let at = target.display().to_string();
            this.events()
                .emit("snapshot.mount", format!("{of}@{}", found.snapshot.name), &[("at", at)]);
            Ok(target)
        })
        .await
    }

    /// Takes a snapshot away from wherever it is shown; says where that was.
    pub async fn unmount_snapshot(&self, reference: &SnapshotRef) -> Result<Vec<PathBuf>> {
        let (this, reference) = (self.clone(), reference.clone());
        self.change(async move {
            let of = this.find_snapshot(&reference).await?.volume.name.clone();
            let _held = this.0.locks.lock(of.as_str()).await;
            let found = this.find_snapshot(&reference).await?;
            let driver = this.driver_of(&found.volume)?;
            let (volume, snapshot) = (found.volume.clone(), found.snapshot.clone());
            let places = this
                .blocking(move |inner| {
                    let mut places = Vec::new();
                    for (name, place) in driver.shown_snapshots(&volume)? {
                        if name == snapshot.name && !places.contains(&place) {
                            driver.hide_snapshot(&volume, &snapshot, &place)?;
                            places.push(place);
                        }
                    }
                    let own = own_name(&volume, &snapshot);
                    if inner.mount_points.at(&own).exists() {
                        inner.mount_points.remove(&own);
                    }
                    Ok(places)
                })
                .await?;
            this.events()
                .emit("snapshot.unmount", format!("{of}@{}", found.snapshot.name), &[]);
            Ok(places)
        })
        .await
    }

    /// Refuses to take away what somebody looks at: a snapshot, or without one any of the volume's.
    pub(super) async fn refuse_shown(
        &self,
        entry: &Entry,
        driver: &Arc<dyn Driver>,
        snapshot: Option<&Name>,
    ) -> Result<()> {
        if entry.volume.snapshots.is_empty() {
            return Ok(());
        }
        let (driver, volume, wanted) = (driver.clone(), entry.volume.clone(), snapshot.cloned());
        let shown = self
            .blocking(move |_| Ok(driver.shown_snapshots(&volume)?))
            .await?;
        match shown
            .iter()
            .find(|(name, _)| wanted.as_ref().is_none_or(|wanted| wanted == name))
        {
            None => Ok(()),
            Some((name, at)) => {
                let what = format!("snapshot {}@{name}", entry.volume.name);
                Err(DriverError::Busy {
                    remedy: format!(
                        "'windlass snapshot umount {}@{name}' ends that",
                        entry.volume.name
                    ),
                    what,
                    by: format!("'windlass snapshot mount' at {}", at.display()),
                }
                .into())
            }
        }
    }
}

/// The name of the mount point in the daemon's own place: none that a volume can have.
fn own_name(volume: &Volume, snapshot: &Snapshot) -> String {
    let name = format!("{}@{}", volume.name, snapshot.name);
    match name.len() <= LONGEST {
        true => name,
        false => format!("@{}", snapshot.id),
    }
}
