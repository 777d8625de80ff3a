//! The drivers as the service holds them: there, or not there yet and why.
//!
//! A driver's storage may come later than the daemon (a network filesystem, a pool under repair). Then its volumes
//! are listed from memory, each use is refused with the reason, and opening it is tried again.

use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Result, ServiceError};
use crate::driver::{Driver, DriverError};
use crate::state::State;

/// Opens a driver; it may remember things in the state (the identity of its storage).
pub type Open = Box<dyn Fn(&State) -> std::result::Result<Arc<dyn Driver>, DriverError> + Send + Sync>;

/// A configured driver.
pub struct DriverSlot {
    name: &'static str,
    open: Open,
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
            now: Mutex::new(Now::Absent {
                why: "it is not open yet".to_owned(),
            }),
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
