//! What is held is mounted: at the start, and where somebody else may take mounts away, ever after.
//!
//! Where others may do that, in a managed plugin ([`super::aftermath`] says why), mounts for Docker wait after an unlucky start until
//! nothing has been taken away for a while: what is mounted too early would be lost between the answer and the container's start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::catalog::Entry;
use super::{Result, Service};
use crate::driver::DriverError;
use crate::model::Name;

/// How long nothing must have been taken away before mounts are taken for lasting.
const QUIET: Duration = Duration::from_secs(1);
/// How long a mount waits for that at the most.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked until then.
const CLOSELY: Duration = Duration::from_millis(50);
/// How often it is looked after that.
const WATCH: Duration = Duration::from_secs(2);

impl Service {
    /// Waits until the mounts of the start are taken for lasting.
    pub(super) async fn settled(&self) {
        let mut settled = self.0.settled.subscribe();
        let _ = settled.wait_for(|settled| *settled).await;
    }

    /// Mounts again what somebody else has taken away.
    pub(super) async fn keep_mounted(&self) {
        if !self.0.mount_points.are_guarded() {
            return;
        }
        let began = Instant::now();
        let mut quiet = began;
        let mut told = BTreeSet::new();
        loop {
            let settled = *self.0.settled.borrow();
            tokio::time::sleep(if settled { WATCH } else { CLOSELY }).await;
            match self.mount_lost(&mut told).await {
                Ok(false) => {}
                Ok(true) => quiet = Instant::now(),
                Err(error) => log::warn!("the mounts of volumes cannot be looked after: {error}"),
            }
            if !settled && (quiet.elapsed() >= QUIET || began.elapsed() >= PATIENCE) {
                self.0.settled.send_replace(true);
            }
        }
    }

    /// Whether a mount was lost. `told` are the volumes whose mount failed, and that somebody was told of.
    async fn mount_lost(&self, told: &mut BTreeSet<Name>) -> Result<bool> {
        let mounted: BTreeSet<PathBuf> = self
            .blocking(|inner| {
                let points = &inner.mount_points;
                if points.ensure().map_err(DriverError::from)? {
                    let dir = points.dir().display();
                    log::warn!("{dir} was unmounted by somebody else, with all in it");
                }
                Ok(points.mounted().map_err(DriverError::from)?)
            })
            .await?;
        let wanted_and_lost = |entry: &&Entry| {
            let at = self.0.mount_points.at(&entry.volume.name);
            !mounted.contains(&at) && self.places(entry).contains(&at)
        };
        let lost = self.held(wanted_and_lost);
        told.retain(|name| lost.contains(name));
        let mut any = false;
        for name in lost {
            let _held = self.0.locks.lock(name.as_str()).await;
            match self
                .mount_again(&name, |at| self.0.mount_points.contain(at))
                .await
            {
                Ok(()) => any = true,
                Err(error) if told.insert(name.clone()) => {
                    let message = format!("its mount was taken away and cannot be made again: {error}");
                    self.events().emit("warning", &name, &[("message", message)]);
                }
                Err(_) => {}
            }
        }
        Ok(any)
    }

    fn held(&self, ours: impl Fn(&&Entry) -> bool) -> Vec<Name> {
        let catalog = self.catalog();
        let held = catalog
            .entries()
            .filter(ours)
            .filter(|entry| !entry.holds.is_empty());
        held.map(|entry| entry.volume.name.clone()).collect()
    }

    /// Makes the kernel's mounts agree with the holds: what is held is mounted, what nobody holds is not.
    pub(super) async fn reconcile_mounts(&self, driver: Option<&'static str>) {
        let ours = |entry: &&Entry| driver.is_none_or(|driver| entry.volume.driver == driver);
        let held = self.held(ours);
        for name in &held {
            let _held = self.0.locks.lock(name.as_str()).await;
            if let Err(error) = self.mount_again(name, |_| true).await {
                let message = format!("it is held and could not be mounted: {error}");
                self.events().emit("warning", name, &[("message", message)]);
            }
        }
        // Mount points of volumes that nobody holds: left by a crash between two steps of a mount or unmount.
        let Ok(left) = std::fs::read_dir(self.0.mount_points.dir()) else {
            return;
        };
        for dir in left.filter_map(std::result::Result::ok) {
            let file_name = dir.file_name();
            if let Some(look) = file_name.to_str().filter(|name| name.contains('@')) {
                // A snapshot's; where one is shown, it stays.
                self.0.mount_points.remove(look);
                continue;
            }
            let name = dir.file_name().to_str().and_then(|name| Name::volume(name).ok());
            let Some(name) = name.filter(|name| !held.contains(name)) else {
                continue;
            };
            if self.catalog().get(&name).filter(ours).is_none() {
                // The mount of a volume that is gone, or never was: only an empty directory may go.
                self.0.mount_points.remove(&dir.file_name().to_string_lossy());
                continue;
            }
            let _held = self.0.locks.lock(name.as_str()).await;
            match self.take_away(&name, &dir.path()).await {
                Ok(()) => log::info!("volume {name}: took away a mount that nobody holds"),
                Err(error) => log::warn!("volume {name}: a mount that nobody holds stays: {error}"),
            }
        }
    }

    /// Mounts a held volume at those of its places that are wanted. Under its lock.
    async fn mount_again(&self, name: &Name, wanted: impl Fn(&Path) -> bool) -> Result<()> {
        let entry = self.known(name)?;
        let driver = self.driver_of(&entry.volume)?;
        for target in self.places(&entry).into_iter().filter(|at| wanted(at)) {
            let (at, volume, driver) = (target.clone(), entry.volume.clone(), driver.clone());
            let fresh = self
                .blocking(move |inner| {
                    if driver.is_mounted(&volume, &at)? {
                        return Ok(false);
                    }
                    if inner.mount_points.contain(&at) {
                        let made = inner.mount_points.make(volume.name.as_str());
                        made.map_err(DriverError::from)?;
                    }
                    driver.mount(&volume, &at)?;
                    Ok(true)
                })
                .await?;
            if fresh {
                log::info!("volume {name}: mounted again at {}", target.display());
            }
            self.catalog_mut()
                .update(name, |entry| _ = entry.mounted.get_or_insert(target));
        }
        Ok(())
    }
}
