//! The drivers as the service holds them: there, or not there yet and why.
//!
//! A driver's storage may come later than the daemon (a network filesystem, a pool under repair). Then its volumes
//! are listed from memory, each use is refused with the reason, and opening it is tried again.

use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Result, ServiceError};
use crate::driver::pool::AtRest;
use crate::driver::{Driver, DriverError};
use crate::state::State;

/// Opens a driver; it may remember things in the state (the identity of its storage).
pub type Open = Box<dyn Fn(&State) -> std::result::Result<Arc<dyn Driver>, DriverError> + Send + Sync>;

/// A configured driver.
pub struct DriverSlot {
    name: &'static str,
    open: Open,
    at_rest: Option<Box<dyn AtRest>>,
    /// Held while the driver is opened, or its storage is worked on without it.
    storage: Mutex<()>,
    /// Guards the change from absent to present, which happens once.
    now: Mutex<Now>,
}

enum Now {
    Absent {
        why: String,
    },
    /// `generation` is the one that the catalog agrees with; `None` before the first listing.
    Present {
        driver: Arc<dyn Driver>,
        generation: Option<Option<u64>>,
    },
}

impl DriverSlot {
    /// A driver that is opened when the service starts.
    pub fn new(name: &'static str, open: Open) -> Self {
        Self {
            name,
            open,
            at_rest: None,
            storage: Mutex::default(),
            now: Mutex::new(Now::Absent {
                why: "it is not open yet".to_owned(),
            }),
        }
    }

    /// With what can be done to its pool while it is not there.
    #[must_use]
    pub fn with_pool_at_rest(self, at_rest: Box<dyn AtRest>) -> Self {
        Self {
            at_rest: Some(at_rest),
            ..self
        }
    }

    /// Whether the driver's volumes share a pool.
    pub(super) fn has_pool(&self) -> bool {
        self.at_rest.is_some()
    }

    /// Takes its pool from the driver, if that has failed and nobody uses it. The driver is absent then.
    ///
    /// # Errors
    /// [`DriverError::Busy`] where it works, or somebody uses it.
    pub(super) fn give_up(&self) -> Result<()> {
        let _storage = self.storage.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(driver) = self.get() else {
            return Ok(());
        };
        let Some(pool) = driver.pool() else {
            return Ok(());
        };
        // Nobody begins anything with it meanwhile.
        self.absent(format!("driver {}: its pool is being repaired", self.name));
        pool.give_up().inspect_err(|_| self.present(driver.clone()))?;
        Ok(())
    }

    /// Works on its pool, which no driver has at work, and which none gets at meanwhile.
    pub(super) fn at_rest<T>(
        &self,
        work: impl FnOnce(&dyn AtRest) -> std::result::Result<T, DriverError>,
    ) -> Result<T> {
        let _storage = self.storage.lock().unwrap_or_else(PoisonError::into_inner);
        if self.get().is_ok() {
            return Err(DriverError::Busy {
                what: "the pool".to_owned(),
                by: format!("the driver {}, which has it at work", self.name),
                remedy: "its metadata can be worked on only at rest".to_owned(),
            }
            .into());
        }
        match &self.at_rest {
            Some(at_rest) => Ok(work(&**at_rest)?),
            None => Err(ServiceError::Unavailable(format!(
                "the driver {} has no pool",
                self.name
            ))),
        }
    }

    /// The driver's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The driver, if it is there.
    pub fn get(&self) -> Result<Arc<dyn Driver>> {
        match &*self.locked() {
            Now::Present { driver, .. } => Ok(driver.clone()),
            Now::Absent { why } => Err(ServiceError::Unavailable(why.clone())),
        }
    }

    /// Opens the driver. It is not handed out before [`DriverSlot::present`].
    pub(super) fn open(&self, state: &State) -> Result<Arc<dyn Driver>> {
        let Ok(_storage) = self.storage.try_lock() else {
            let why = format!("driver {}: its pool is being checked or repaired", self.name);
            return Err(ServiceError::Unavailable(why));
        };
        (self.open)(state).map_err(ServiceError::from)
    }

    pub(super) fn present(&self, driver: Arc<dyn Driver>) {
        *self.locked() = Now::Present {
            driver,
            generation: None,
        };
    }

    pub(super) fn absent(&self, why: String) {
        *self.locked() = Now::Absent { why };
    }

    /// Whether the catalog was made to agree with that generation already.
    pub(super) fn agrees_with(&self, now: Option<u64>) -> bool {
        matches!(&*self.locked(), Now::Present { generation: Some(seen), .. } if *seen == now)
    }

    /// Remembers the generation that the catalog agrees with.
    pub(super) fn saw(&self, seen: Option<u64>) {
        if let Now::Present { generation, .. } = &mut *self.locked() {
            *generation = Some(seen);
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
