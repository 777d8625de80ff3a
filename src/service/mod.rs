//! The use cases: what Docker's calls and the admin API's requests mean, step by step.
//!
//! The only room that joins drivers and records. Every change runs under its volume's lock, as a recorded
//! [`Operation`], in a task of its own, so that a caller who hangs up does not cut it in two. Reading is from memory.

mod aftermath;
mod backup_work;
mod backups;
mod catalog;
mod checkpoints;
mod diff;
mod drills;
mod drivers;
mod error;
mod events;
mod fills;
mod health;
mod hooks;
mod import;
mod jobs;
mod locks;
mod look;
mod mounted;
mod mounts;
mod operation;
mod policies;
mod pool;
mod repositories;
mod restores;
mod retention;
mod snapshots;
mod start;
mod stored;
mod tally;
mod timeline;
mod trash;
mod travel;
mod usage;
mod uses;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot, watch};

pub use aftermath::{Aftermath, CLEANING};
pub use backups::{BackupWish, Listed};
pub use catalog::Entry;
pub use checkpoints::{Checkpoint, CheckpointWish};
pub use diff::{Change, Difference, Summary};
pub use drivers::{DriverSlot, Open};
pub use error::{Result, ServiceError};
pub use events::{Event, Events};
pub use hooks::Hooks;
pub use jobs::JobStatus;
pub use policies::{Cared, Due, Fare};
pub use pool::TrimmedPool;
pub use retention::{Judged, Retention};
pub use snapshots::{Found, Taken};
pub use tally::Tally;
pub use timeline::{Mark, Timeline};
pub use usage::Measured;
pub use volumes::{CreateRequest, RemoveRequest};

use crate::driver::Operation;
use crate::model::{Name, Settings, Time};
use crate::state::State;
use crate::sys::mount_points::MountPoints;
use crate::sys::priority;
use catalog::Catalog;
use jobs::Jobs;
use locks::Locks;
use repositories::Repositories;
use stored::{Prunes, StoredRepositories};
use uses::Uses;

/// The use cases; a handle that can be cloned and sent anywhere.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

/// What a service is made of.
pub struct Parts {
    /// This host's records.
    pub state: State,
    /// The drivers, the default one first.
    pub drivers: Vec<DriverSlot>,
    /// Where volumes are mounted.
    pub mount_points: MountPoints,
    /// The identity of this boot of the machine.
    pub boot: String,
    /// The identity of this run of the daemon.
    pub process: String,
    /// Defaults for volumes that do not say.
    pub settings: Settings,
    /// Where indexes of repositories are cached.
    pub cache: PathBuf,
    /// How many backups, and how many restores, run at once.
    pub jobs: usize,
    /// What the last stop left.
    pub aftermath: Aftermath,
}

struct Inner {
    state: State,
    drivers: Vec<DriverSlot>,
    mount_points: MountPoints,
    boot: String,
    process: String,
    started: Time,
    /// Read on each use, replaced whole by a reload.
    settings: RwLock<Settings>,
    /// The volumes in memory. Held for look-ups and small changes only, never across a call of a driver.
    catalog: RwLock<Catalog>,
    locks: Locks,
    events: Events,
    usage: usage::Queue,
    jobs: Jobs,
    repositories: Repositories,
    /// Those of snapshots that no filesystem holds.
    stored: StoredRepositories,
    prunes: Prunes,
    uses: Uses,
    care: policies::Care,
    policies_changed: Notify,
    tally: Tally,
    told: health::Told,
    /// Volumes whose restore failed in this run of the daemon: when, and why. Held for look-ups only.
    failed_restores: Mutex<BTreeMap<Name, (Instant, String)>>,
    /// True once the records are reconciled; until then, only what needs no volume is answered.
    ready: watch::Sender<bool>,
    /// False while somebody may still take away what the start has mounted.
    settled: watch::Sender<bool>,
    stopping: AtomicBool,
    /// One receiver per change under way.
    busy: watch::Sender<()>,
    stopped: Notify,
}

/// Who asks: Docker's engine, whose calls are repeated and must be idempotent, or a person, who wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The volume protocol.
    Docker,
    /// The admin API.
    Admin,
}

impl Inner {
    /// The settings in force.
    fn settings(&self) -> Settings {
        self.settings
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Service {
    /// A service that answers nothing about volumes yet: [`Service::start`] does the slow part.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            state,
            drivers,
            mount_points,
            boot,
            process,
            settings,
            cache,
            jobs,
            aftermath,
        } = parts;
        let inner = Inner {
            state,
            drivers,
            mount_points,
            boot,
            process,
            started: Time::now(),
            settings: RwLock::new(settings),
            catalog: RwLock::default(),
            locks: Locks::default(),
            events: Events::default(),
            usage: usage::Queue::default(),
            jobs: Jobs::new(jobs),
            repositories: Repositories::new(cache.clone()),
            stored: StoredRepositories::new(cache),
            prunes: Prunes::default(),
            uses: Uses::default(),
            care: policies::Care::default(),
            policies_changed: Notify::new(),
            tally: Tally::default(),
            told: health::Told::default(),
            failed_restores: Mutex::default(),
            ready: watch::channel(false).0,
            settled: watch::channel(aftermath != Aftermath::Settle).0,
            stopping: AtomicBool::new(false),
            busy: watch::channel(()).0,
            stopped: Notify::new(),
        };
        Self(Arc::new(inner))
    }

    /// The feed of events.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.0.settings()
    }

    /// Replaces the settings in force.
    pub fn configure(&self, settings: Settings) {
        *self.0.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        self.forget_plans();
        self.events().emit("daemon.reload", "", &[]);
    }

    /// When this run of the daemon began.
    pub fn started(&self) -> Time {
        self.0.started
    }

    /// The identity of the state directory.
    pub fn state_id(&self) -> uuid::Uuid {
        self.0.state.id()
    }

    /// The drivers, the default one first.
    pub fn drivers(&self) -> &[DriverSlot] {
        &self.0.drivers
    }

    /// Whether a mount id was heard of in this run of the daemon.
    pub fn is_confirmed(&self, hold: &crate::state::Hold) -> bool {
        hold.process == self.0.process
    }

    /// Whether the records are reconciled.
    pub fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    /// Waits until the records are reconciled.
    pub async fn ready(&self) {
        let mut ready = self.0.ready.subscribe();
        // The sender lives as long as this service, so the wait ends with the reconciliation.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Lets no new change begin and waits for those under way, at most `patience`. Mounts stay as they are.
    /// Says whether everything ended in time; what did not is repaired by the next start.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.0.stopping.store(true, Ordering::SeqCst);
        self.0.stopped.notify_waiters();
        self.suspend_jobs();
        self.0.uses.cancel_all();
        self.0.prunes.cancel_all();
        tokio::time::timeout(patience, self.0.busy.closed()).await.is_ok()
    }

    fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::SeqCst)
    }

    /// Waits until the daemon begins to stop.
    pub async fn stopping(&self) {
        let stopped = self.0.stopped.notified();
        if !self.0.stopping.load(Ordering::SeqCst) {
            stopped.await;
        }
    }

    /// Runs a change to its end even if the caller goes away, and keeps the daemon from stopping meanwhile.
    async fn change<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let busy = self.0.busy.subscribe();
        if self.0.stopping.load(Ordering::SeqCst) {
            return Err(ServiceError::Stopping);
        }
        let this = self.clone();
        let task = tokio::spawn(async move {
            this.ready().await;
            let result = work.await;
            drop(busy);
            result
        });
        task.await.unwrap_or(Err(ServiceError::Panicked))
    }

    /// Runs blocking work (a driver's call, a transaction) on a thread made for it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or(Err(ServiceError::Panicked))
    }

    /// Runs work that nobody waits for at this moment, and that computes for long: it gives way to all else that the host does,
    /// the answers to Docker among it.
    async fn background<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.0.clone();
        let (runtime, (done, result)) = (tokio::runtime::Handle::current(), oneshot::channel());
        // What serves everybody is not to take its priority from who needs it first.
        crate::store::start();
        let thread = std::thread::Builder::new()
            .name("background".to_owned())
            .spawn(move || {
                if let Err(error) = priority::give_way() {
                    log::warn!("{error}");
                }
                let _entered = runtime.enter();
                // Who asked may be gone.
                let _ = done.send(work(&inner));
            });
        if let Err(error) = thread {
            log::error!("cannot start a thread: {error}");
        }
        result.await.unwrap_or(Err(ServiceError::Panicked))
    }

    fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.0.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.0.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn failed_restores(&self) -> MutexGuard<'_, BTreeMap<Name, (Instant, String)>> {
        self.failed_restores
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
