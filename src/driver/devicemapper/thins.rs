//! Thin devices while they are active: device-mapper devices named after their ids.
//!
//! A thin device is active while somebody uses it: a mount, a backup that reads it, an operation that makes a filesystem on
//! it. The kernel counts who has it open; what of this process needs it for longer than it has it open pins it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use uuid::Uuid;

use super::super::{DriverError, Result};
use super::NAME;
use super::kernel::{Info, Kernel, Table, Writable};
use super::options::SECTOR;
use super::records::ThinId;
use crate::sys::mountinfo;

/// How long a device may be suspended before it is resumed whatever becomes of what it was suspended for.
pub(super) const SUSPENDED_AT_MOST: Duration = Duration::from_secs(20);
/// How often, and after how many milliseconds, a device that somebody has open is tried to be removed again: what looks at new
/// devices for a moment (udev, blkid) goes by itself.
const PAUSES_MS: [u64; 5] = [0, 5, 20, 75, 200];
/// How long who pins a device is waited for: a look at what a volume holds takes milliseconds, a backup that reads it has hours.
const LOOK_TAKES_AT_MOST: Duration = Duration::from_secs(2);

/// The active thin devices of a pool.
#[derive(Debug)]
pub(super) struct Thins {
    kernel: Arc<Kernel>,
    pool: String,
    store: Uuid,
    /// How often each is pinned. Held while a device is made or removed, so that none goes between the two steps of getting
    /// at it.
    pins: Mutex<HashMap<ThinId, usize>>,
    /// One of the pins has gone.
    unpinned: Condvar,
    /// The nodes of those that are active, so that a listing of thousands asks the kernel nothing. Held for look-ups.
    nodes: Mutex<HashMap<ThinId, PathBuf>>,
}

impl Thins {
    pub(super) fn new(kernel: Arc<Kernel>, pool: &str, store: Uuid) -> Self {
        Self {
            kernel,
            pool: pool.to_owned(),
            store,
            pins: Mutex::default(),
            unpinned: Condvar::new(),
            nodes: Mutex::default(),
        }
    }

    /// The name of its device.
    pub(super) fn name(&self, thin: ThinId) -> String {
        format!("{}-{thin}", self.pool)
    }

    fn uuid(&self, thin: ThinId) -> String {
        format!("WINDLASS-{}-{thin}", self.store.simple())
    }

    /// Its device, if it is active.
    pub(super) fn find(&self, thin: ThinId) -> Result<Option<Info>> {
        match self.kernel.info(&self.name(thin))? {
            Some(info) if info.uuid != self.uuid(thin) => Err(super::storage::foreign(&self.name(thin))),
            found => {
                let found = found.filter(|info| info.is_live);
                match &found {
                    Some(info) => self.nodes().insert(thin, info.path()),
                    None => self.nodes().remove(&thin),
                };
                Ok(found)
            }
        }
    }

    /// Its node, as far as this process knows: where it was when it was last looked for.
    pub(super) fn node(&self, thin: ThinId) -> Option<PathBuf> {
        self.nodes().get(&thin).cloned()
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<ThinId, PathBuf>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it active, `size` bytes large, or finds it so. `pool` is the pool's own number.
    pub(super) fn activate(
        &self,
        thin: ThinId,
        size: u64,
        pool: (u32, u32),
        writable: Writable,
    ) -> Result<Info> {
        self.activate_locked(thin, size, pool, writable, &self.locked())
    }

    fn activate_locked(
        &self,
        thin: ThinId,
        size: u64,
        pool: (u32, u32),
        writable: Writable,
        _: &MutexGuard<'_, HashMap<ThinId, usize>>,
    ) -> Result<Info> {
        let name = self.name(thin);
        let table = Self::table(thin, size, pool);
        let info = match self.kernel.info(&name)? {
            Some(info) if info.uuid != self.uuid(thin) => Err(super::storage::foreign(&name)),
            // Made, and then a crash.
            Some(info) if !info.is_live => self.kernel.reload(&name, &table),
            Some(info) => Ok(info),
            None => self.kernel.create(&name, &self.uuid(thin), &table, writable),
        }?;
        self.nodes().insert(thin, info.path());
        Ok(info)
    }

    /// Makes it active and keeps it so until the answer is dropped.
    pub(super) fn pin(
        self: &Arc<Self>,
        thin: ThinId,
        size: u64,
        pool: (u32, u32),
        writable: Writable,
    ) -> Result<Pinned> {
        let mut pins = self.locked();
        let info = self.activate_locked(thin, size, pool, writable, &pins)?;
        Ok(self.pin_locked(thin, &info, &mut pins))
    }

    fn pin_locked(self: &Arc<Self>, thin: ThinId, info: &Info, pins: &mut HashMap<ThinId, usize>) -> Pinned {
        *pins.entry(thin).or_default() += 1;
        Pinned {
            thins: self.clone(),
            thin,
            path: info.path(),
        }
    }

    /// The same as [`Thins::deactivate`], for a device that must go: who only looks at it is waited for.
    pub(super) fn retire(&self, thin: ThinId) -> Result<bool> {
        let pinned = |pins: &mut HashMap<ThinId, usize>| pins.contains_key(&thin);
        drop(
            self.unpinned
                .wait_timeout_while(self.locked(), LOOK_TAKES_AT_MOST, pinned),
        );
        self.deactivate(thin)
    }

    /// Removes its device if nobody uses it any more; false when somebody does.
    pub(super) fn deactivate(&self, thin: ThinId) -> Result<bool> {
        for pause_ms in PAUSES_MS {
            std::thread::sleep(Duration::from_millis(pause_ms));
            let pins = self.locked();
            if pins.contains_key(&thin) {
                return Ok(false);
            }
            let Some(info) = self.find(thin)? else {
                // One that never came to life is removed too.
                return self.kernel.remove(&self.name(thin));
            };
            if self.kernel.remove(&self.name(thin))? {
                self.nodes().remove(&thin);
                return Ok(true);
            }
            drop(pins);
            // A filesystem would be waited for in vain.
            if mountinfo::read_self()?
                .iter()
                .any(|mount| mount.device == info.device)
            {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Gives an active device another size; one that has it already is left alone.
    pub(super) fn resize(&self, thin: ThinId, size: u64, pool: (u32, u32)) -> Result<()> {
        let _pins = self.locked();
        let Some(info) = self.find(thin)? else {
            return Ok(());
        };
        if super::storage::size_of(&info.path())? == size {
            return Ok(());
        }
        let table = Self::table(thin, size, pool);
        self.kernel.reload(&self.name(thin), &table).map(drop)
    }

    fn table(thin: ThinId, size: u64, pool: (u32, u32)) -> Table {
        Table {
            sectors: size / SECTOR,
            target: "thin",
            parameters: format!("{}:{} {thin}", pool.0, pool.1),
        }
    }

    /// Ends what a crash left: a device that is suspended holds back whoever writes to it, for ever.
    pub(super) fn wake(&self, thin: ThinId) -> Result<()> {
        match self.find(thin)? {
            Some(info) if info.is_suspended => {
                log::warn!(
                    "{NAME}: the device {} was left suspended, and goes on now",
                    self.name(thin)
                );
                self.kernel.resume(&self.name(thin))
            }
            _ => Ok(()),
        }
    }

    /// The thin devices of this pool that are active.
    pub(super) fn active(&self) -> Result<Vec<ThinId>> {
        let prefix = format!("{}-", self.pool);
        let names = self.kernel.names()?;
        let ids = names
            .iter()
            .filter_map(|name| name.strip_prefix(&prefix)?.parse().ok());
        Ok(ids.map(ThinId).collect())
    }

    /// Suspends it, if it is active, until the answer is dropped or [`Suspended::resume`] is called; whoever else uses it, it stays
    /// active for so long.
    pub(super) fn suspend(self: &Arc<Self>, thin: ThinId) -> Result<Suspended> {
        let mut pins = self.locked();
        let Some(info) = self.find(thin)? else {
            return Ok(Suspended::default());
        };
        let pinned = self.pin_locked(thin, &info, &mut pins);
        drop(pins);
        let mut suspended = Suspended::new(self.kernel.clone(), self.name(thin), SUSPENDED_AT_MOST)?;
        suspended.pinned = Some(pinned);
        Ok(suspended)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<ThinId, usize>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thin device that stays active.
#[derive(Debug)]
pub(super) struct Pinned {
    thins: Arc<Thins>,
    thin: ThinId,
    path: PathBuf,
}

impl Pinned {
    /// Its node.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut pins = self.thins.locked();
        match pins.get_mut(&self.thin) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                pins.remove(&self.thin);
                drop(pins);
                self.thins.unpinned.notify_all();
                // A mount may need it still.
                if let Err(error) = self.thins.deactivate(self.thin) {
                    log::warn!("{NAME}: the device {} stays: {error}", self.thins.name(self.thin));
                }
            }
        }
    }
}

/// A suspended device, with its filesystem frozen, and a watchdog that resumes it when it takes too long.
///
/// The watchdog is there before the device is suspended: to bring a filesystem to rest may take long itself.
#[derive(Debug, Default)]
pub(super) struct Suspended {
    watched: Option<Watched>,
    /// Dropped after it has been resumed.
    pinned: Option<Pinned>,
}

#[derive(Debug)]
struct Watched {
    kernel: Arc<Kernel>,
    name: String,
    limit: Duration,
    state: Arc<(Mutex<Watch>, Condvar)>,
    watchdog: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Watch {
    /// Nothing is left to be watched.
    over: bool,
    /// The time was up.
    barked: bool,
}

impl Suspended {
    pub(super) fn new(kernel: Arc<Kernel>, name: String, limit: Duration) -> Result<Self> {
        let state = Arc::<(Mutex<Watch>, Condvar)>::default();
        let (watched, at, by) = (state.clone(), name.clone(), kernel.clone());
        let watchdog = std::thread::spawn(move || {
            let (watch, changed) = &*watched;
            let watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut watch, _) = changed
                .wait_timeout_while(watch, limit, |watch| !watch.over)
                .unwrap_or_else(PoisonError::into_inner);
            if !watch.over {
                watch.barked = true;
                // While the device is still being suspended, this waits for that, and resumes it at once then.
                if let Err(error) = by.resume(&at) {
                    log::error!("{NAME}: {error}");
                }
            }
        });
        let suspended = Self {
            watched: Some(Watched {
                kernel: kernel.clone(),
                name: name.clone(),
                limit,
                state,
                watchdog: Some(watchdog),
            }),
            pinned: None,
        };
        kernel.suspend(&name, true)?;
        Ok(suspended)
    }

    /// Lets the device go on.
    ///
    /// # Errors
    /// Where the watchdog did so before: what was done meanwhile was not done to a device at rest.
    pub(super) fn resume(mut self) -> Result<()> {
        self.watched.take().map_or(Ok(()), Watched::end)
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.watched.take().map(Watched::end) {
            log::error!("{NAME}: {error}");
        }
    }
}

impl Watched {
    fn end(mut self) -> Result<()> {
        let (watch, changed) = &*self.state;
        let barked = {
            let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
            watch.over = true;
            watch.barked
        };
        changed.notify_all();
        let resumed = self.kernel.resume(&self.name);
        if let Some(watchdog) = self.watchdog.take() {
            drop(watchdog.join());
        }
        resumed?;
        match barked {
            false => Ok(()),
            true => Err(DriverError::System {
                doing: format!(
                    "the device {} was suspended for more than {} s, and goes on now without what was to be done",
                    self.name,
                    self.limit.as_secs_f32()
                ),
                source: std::io::ErrorKind::TimedOut.into(),
            }),
        }
    }
}
