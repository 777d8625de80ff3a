//! The start: what a crash left is repaired, memory is made to agree with the drivers and the kernel. And the watch
//! that keeps it so.
//!
//! Nothing here can keep the daemon from starting: one bad volume, one absent driver is reported and the rest goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::catalog::Entry;
use super::{DriverSlot, Result, Service, ServiceError};
use crate::driver::{Driver, DriverError, Operation, Outcome};
use crate::model::{Name, VolumeId};
use crate::state::Hold;
use crate::sys::poll::readable;

/// How often the drivers' generations are compared.
const WATCH: Duration = Duration::from_secs(2);
/// How often an absent driver is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// How often drivers are asked what a person should know, where nothing tells that it is time to.
const WARN: Duration = Duration::from_secs(10);
/// The same while there is a trouble, which may become worse.
const WARN_AGAIN: Duration = Duration::from_secs(1);
/// So long nothing more is heard after news: what makes some makes more.
const BREATH: Duration = Duration::from_millis(200);
/// How often whoever listens looks whether anybody wants to know.
const LISTEN: Duration = Duration::from_secs(1);
/// How often the trash is looked through.
const TRASH: Duration = Duration::from_secs(60);

impl Service {
    /// Reconciles records, drivers and kernel; from then on the service answers. Returns the first driver's error if
    /// no driver could be opened for a reason that will not pass by itself (a bad option).
    pub async fn start(&self) -> Result<()> {
        let this = self.clone();
        let (remembered, holds) = self
            .blocking(move |inner| Ok((inner.state.volumes()?, inner.state.holds(&inner.boot)?)))
            .await?;
        {
            let mut catalog = self.catalog_mut();
            for volume in remembered {
                let name = volume.name.clone();
                catalog.put(volume);
                catalog.update(&name, |entry| {
                    entry.trouble = Some("its driver is not there yet".to_owned())
                });
            }
        }
        self.attach(holds);
        for index in 0..this.0.drivers.len() {
            if let Err(error) = this.bring_up(index).await {
                this.refuse_driver(index, error)?;
            }
        }
        this.reconcile_mounts(None).await;
        let volumes = this.catalog().len();
        this.events()
            .emit("daemon.start", "", &[("volumes", volumes.to_string())]);
        // What the last run left is taken up before anything new can be begun, which would be taken for left otherwise.
        self.recall_pasts().await?;
        self.resume_duties().await?;
        self.resume_jobs().await?;
        self.resume_restores().await?;
        this.0.ready.send_replace(true);
        for task in [
            Task::Watch,
            Task::Mounts,
            Task::Trash,
            Task::Usage,
            Task::Warn,
            Task::Health,
        ] {
            let this = this.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = this.run(task) => {}
                    () = this.0.stopped.notified() => {}
                }
            });
        }
        Ok(())
    }

    async fn run(&self, task: Task) {
        match task {
            Task::Watch => self.keep_watching().await,
            Task::Mounts => self.keep_mounted().await,
            Task::Usage => self.keep_measuring().await,
            Task::Warn => self.keep_warning().await,
            Task::Health => self.keep_telling_health().await,
            Task::Trash => loop {
                self.empty_trash().await;
                tokio::time::sleep(TRASH).await;
            },
        }
    }

    /// Opens a driver, has it repair what a crash left, and takes its volumes in.
    async fn bring_up(&self, index: usize) -> Result<()> {
        let driver = self
            .blocking(move |inner| inner.drivers[index].open(&inner.state))
            .await?;
        let opened = driver.clone();
        let interrupted = self
            .blocking(move |inner| {
                let mut interrupted = Vec::new();
                for intent in inner
                    .state
                    .intents()?
                    .into_iter()
                    .filter(|i| i.driver == opened.name())
                {
                    let (word, volume) = (intent.operation.word(), intent.operation.volume());
                    if let Operation::Snapshot(_) | Operation::RemoveSnapshot(_) = intent.operation {
                        interrupted.push(volume.clone());
                    }
                    match inner.recover(&*opened, intent.id, &intent.operation) {
                        Ok(outcome) => {
                            let how = match outcome {
                                Outcome::Finished => "finished",
                                Outcome::Undone => "undone",
                            };
                            inner.events.emit(
                                "daemon.recover",
                                volume,
                                &[("operation", word.to_owned()), ("outcome", how.to_owned())],
                            );
                        }
                        Err(error) => {
                            let message = format!("an interrupted {word} could not be repaired: {error}");
                            inner.events.emit("warning", volume, &[("message", message)]);
                        }
                    }
                }
                Ok(interrupted)
            })
            .await?;
        self.0.drivers[index].present(driver);
        self.refresh(index).await?;
        self.clean_repositories(interrupted);
        Ok(())
    }

    /// A driver that cannot be opened: its volumes say why. A mistake in the options ends the start.
    pub(super) fn refuse_driver(&self, index: usize, error: ServiceError) -> Result<()> {
        if let ServiceError::Driver(DriverError::Invalid(_)) | ServiceError::Invalid(_) = error {
            return Err(error);
        }
        let slot = &self.0.drivers[index];
        let why = error.to_string();
        self.events().emit(
            "warning",
            "",
            &[(
                "message",
                format!("driver {} is not available: {why}", slot.name()),
            )],
        );
        let mut catalog = self.catalog_mut();
        let names: Vec<Name> = of_driver(slot, catalog.entries());
        for name in names {
            catalog.update(&name, |entry| entry.trouble = Some(why.clone()));
        }
        slot.absent(why);
        Ok(())
    }

    /// Makes memory agree with one driver's records, where they may have changed.
    async fn refresh(&self, index: usize) -> Result<()> {
        let driver = self.0.drivers[index].get()?;
        let asked = driver.clone();
        // The token is read before the listing: a change in between makes the next look come sooner, never later.
        let generation = self.blocking(move |_| Ok(asked.generation()?)).await?;
        if self.0.drivers[index].agrees_with(generation) {
            return Ok(());
        }
        self.catalog_mut().watch();
        let asked = driver.clone();
        let listing = self.blocking(move |_| Ok(asked.volumes()?)).await?;
        self.0.drivers[index].saw(generation);
        for (name, why) in &listing.damaged {
            self.events().emit("warning", name, &[("message", why.clone())]);
        }
        let (came, gone) = self
            .catalog_mut()
            .agree(driver.name(), listing.volumes, &listing.damaged);
        if !came.is_empty() || !gone.is_empty() {
            log::debug!(
                "driver {}: {} volumes came, {} went",
                driver.name(),
                came.len(),
                gone.len()
            );
            let volumes: Vec<_> = self
                .catalog()
                .entries()
                .filter(|e| e.volume.driver == driver.name())
                .map(|e| (*e.volume).clone())
                .collect();
            let name = driver.name();
            self.blocking(move |inner| Ok(inner.state.replace_volumes(name, &volumes)?))
                .await?;
        }
        Ok(())
    }

    /// Watches for other hosts' changes and for drivers that come late.
    async fn keep_watching(&self) {
        let mut since_retry = Duration::ZERO;
        loop {
            tokio::time::sleep(WATCH).await;
            since_retry += WATCH;
            for index in 0..self.0.drivers.len() {
                let slot = &self.0.drivers[index];
                let result = match slot.get() {
                    Ok(_) => self.refresh(index).await,
                    Err(_) if since_retry >= RETRY => self.try_again(index).await,
                    Err(_) => Ok(()),
                };
                if let Err(error) = result {
                    log::debug!("driver {}: {error}", slot.name());
                }
            }
            if since_retry >= RETRY {
                since_retry = Duration::ZERO;
            }
        }
    }

    /// Tells of each trouble of a driver's storage once, when it begins.
    async fn keep_warning(&self) {
        let mut told: BTreeSet<(usize, String)> = BTreeSet::new();
        let news = Arc::<Notify>::default();
        let mut heard = BTreeSet::new();
        loop {
            let mut now = BTreeSet::new();
            for index in 0..self.0.drivers.len() {
                let Ok(driver) = self.0.drivers[index].get() else {
                    continue;
                };
                if heard.insert(index)
                    && let Err(error) = listen(&*driver, &news)
                {
                    log::warn!(
                        "driver {}: it is asked every {} s only: {error}",
                        driver.name(),
                        WARN.as_secs()
                    );
                }
                let asked = driver.clone();
                let warnings = self.blocking(move |_| Ok(asked.warnings())).await;
                for warning in warnings.unwrap_or_default() {
                    let key = (index, warning.key);
                    if !told.contains(&key) {
                        self.events()
                            .emit("warning", driver.name(), &[("message", warning.text)]);
                    }
                    now.insert(key);
                }
            }
            let pause = match now.is_empty() {
                true => WARN,
                false => WARN_AGAIN,
            };
            told = now;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = news.notified() => {}
            }
        }
    }

    /// Opens a driver that could not be opened before.
    pub(super) async fn try_again(&self, index: usize) -> Result<()> {
        let slot = &self.0.drivers[index];
        // No volume has a name with a blank.
        let _one = self.0.locks.lock(&format!("driver {}", slot.name())).await;
        if slot.get().is_ok() {
            return Ok(());
        }
        self.bring_up(index).await?;
        self.events().emit("driver.available", slot.name(), &[]);
        let holds = self.blocking(|inner| Ok(inner.state.holds(&inner.boot)?)).await?;
        self.attach(holds);
        self.reconcile_mounts(Some(slot.name())).await;
        self.resume_restores().await
    }

    /// Gives the recorded holds to their volumes.
    fn attach(&self, holds: Vec<Hold>) {
        let mut by_volume: BTreeMap<VolumeId, Vec<Hold>> = BTreeMap::new();
        for hold in holds {
            by_volume.entry(hold.volume).or_default().push(hold);
        }
        let mut catalog = self.catalog_mut();
        for (volume, holds) in by_volume {
            let Some(name) = catalog.by_id(volume).map(|e| e.volume.name.clone()) else {
                continue;
            };
            catalog.update(&name, |entry| {
                entry
                    .holds
                    .extend(holds.into_iter().map(|hold| (hold.mount_id.clone(), hold)));
            });
        }
    }
}

/// Has `told` notified of a driver's news until nobody else holds it; nothing, where the driver's storage tells none.
fn listen(driver: &dyn Driver, told: &Arc<Notify>) -> std::result::Result<(), String> {
    let name = driver.name();
    let Some(news) = driver.news().map_err(|error| error.to_string())? else {
        return Ok(());
    };
    let told = told.clone();
    let listener = std::thread::Builder::new()
        .name("news".to_owned())
        .spawn(move || {
            while Arc::strong_count(&told) > 1 {
                let heard = match readable(news.as_fd(), LISTEN) {
                    Ok(false) => continue,
                    // Before anybody asks: what comes later is told again.
                    Ok(true) => news.arm().map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(error) = heard {
                    log::warn!(
                        "driver {name}: it is asked every {} s only: {error}",
                        WARN.as_secs()
                    );
                    break;
                }
                log::debug!("driver {name}: its storage tells that something has changed");
                told.notify_one();
                std::thread::sleep(BREATH);
            }
        });
    listener.map(drop).map_err(|error| error.to_string())
}

#[derive(Debug, Clone, Copy)]
enum Task {
    Watch,
    Mounts,
    Trash,
    Usage,
    Warn,
    Health,
}

fn of_driver<'a>(slot: &DriverSlot, entries: impl Iterator<Item = &'a Entry>) -> Vec<Name> {
    entries
        .filter(|e| e.volume.driver == slot.name())
        .map(|e| e.volume.name.clone())
        .collect()
}
