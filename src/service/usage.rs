//! What volumes hold, looked up in the background, because a walk through a large tree takes longer than Docker waits for an
//! answer: one at a time, or, where the driver can, all that are asked about in one look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Entry, Inner, Result, Service};
use crate::driver::{Driver, Usage};
use crate::model::{Name, Time, Volume};

/// How old a figure may become before the next question renews it, at the least.
const FRESH: Duration = Duration::from_secs(2);
/// The share of time that renewing a figure may take: what took a second is good for a minute.
const SHARE: u32 = 60;
/// So many volumes are looked at in one look at most.
const AT_ONCE: usize = 1000;

/// What a volume held when somebody last looked.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// The figure.
    pub usage: Usage,
    /// When that was.
    pub at: Time,
    /// The end of the look, and how long it took.
    ended: Instant,
    took: Duration,
}

impl Measured {
    fn is_old(&self) -> bool {
        self.ended.elapsed() > FRESH.max(self.took * SHARE)
    }
}

/// The volumes whose figure is asked for.
#[derive(Default)]
pub(super) struct Queue {
    /// Guards the set alone.
    names: Mutex<BTreeSet<Name>>,
    more: Notify,
}

impl Queue {
    pub fn ask(&self, name: &Name) {
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone());
        self.more.notify_one();
    }

    pub fn ask_if_old(&self, entry: &Entry) {
        if entry.usage.is_none_or(|measured| measured.is_old()) {
            self.ask(&entry.volume.name);
        }
    }

    /// Waits until some are asked for.
    async fn next(&self) -> Vec<Name> {
        loop {
            let names: Vec<Name> = {
                let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
                std::iter::from_fn(|| names.pop_first()).take(AT_ONCE).collect()
            };
            if !names.is_empty() {
                return names;
            }
            self.more.notified().await;
        }
    }
}

impl Service {
    /// Looks up what a volume holds, now, and remembers it.
    pub async fn measure(&self, name: &Name) -> Result<Usage> {
        let entry = self.known(name)?;
        let driver = self.driver_of(&entry.volume)?;
        self.blocking(move |inner| inner.measure(&driver, &entry.volume))
            .await
    }

    /// Looks up what is asked for, for ever.
    pub(super) async fn keep_measuring(&self) {
        loop {
            let mut by_driver: BTreeMap<String, Vec<Arc<Volume>>> = BTreeMap::new();
            for name in self.0.usage.next().await {
                if let Ok(entry) = self.known(&name) {
                    let volumes = by_driver.entry(entry.volume.driver.clone()).or_default();
                    volumes.push(entry.volume);
                }
            }
            for volumes in by_driver.into_values() {
                let Ok(driver) = self.driver_of(&volumes[0]) else {
                    continue;
                };
                let looked = self.background(move |inner| {
                    inner.measure_all(&driver, &volumes);
                    Ok(())
                });
                if let Err(error) = looked.await {
                    log::debug!("what volumes hold is unknown: {error}");
                }
            }
        }
    }
}

impl Inner {
    fn measure(&self, driver: &Arc<dyn Driver>, volume: &Volume) -> Result<Usage> {
        let begun = Instant::now();
        let usage = driver.usage(volume)?;
        self.remember_usage(volume, usage, begun.elapsed());
        Ok(usage)
    }

    fn measure_all(&self, driver: &Arc<dyn Driver>, volumes: &[Arc<Volume>]) {
        let begun = Instant::now();
        let all: Vec<&Volume> = volumes.iter().map(AsRef::as_ref).collect();
        let unknown = |volume: &Volume, error: &dyn std::fmt::Display| {
            log::debug!("volume {}: its usage is unknown: {error}", volume.name);
        };
        let Some(found) = driver.usage_of_all(&all) else {
            for volume in all {
                if self.stopping.load(Ordering::SeqCst) {
                    return;
                }
                if let Err(error) = self.measure(driver, volume) {
                    unknown(volume, &error);
                }
            }
            return;
        };
        let took = begun.elapsed();
        for (volume, usage) in all.into_iter().zip(found) {
            match usage {
                Ok(usage) => self.remember_usage(volume, usage, took),
                Err(error) => unknown(volume, &error),
            }
        }
    }

    /// Unless another volume has the name now.
    fn remember_usage(&self, volume: &Volume, usage: Usage, took: Duration) {
        let measured = Measured {
            usage,
            at: Time::now(),
            ended: Instant::now(),
            took,
        };
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        catalog.update(&volume.name, |entry| {
            if entry.volume.id == volume.id {
                entry.usage = Some(measured);
            }
        });
    }
}
