//! The one way in which anything changes: record the intent, act, record the result.

use std::sync::Arc;

use super::{Inner, Operation, Result};
use crate::driver::{self, Driver, DriverError, Outcome};
use crate::model::Volume;
use crate::state::Effect;
use crate::sys::fault;

impl Inner {
    /// Does `operation` by `act`, between a recorded intent and a recorded result. `effect` says what the result
    /// means for this host's memory of the volumes.
    ///
    /// A crash before the intent leaves nothing; after it, the next start has the driver finish or undo the
    /// operation; after the result, everything is done. Where `act` fails, the driver is asked at once to clean up.
    pub(super) fn perform<T>(
        &self,
        driver: &Arc<dyn Driver>,
        operation: &Operation,
        act: impl FnOnce(&dyn Driver) -> driver::Result<T>,
        effect: impl FnOnce(&T) -> Effect,
    ) -> Result<T> {
        let word = operation.word();
        fault::point(&format!("{word}.asked"));
        let intent = self.state.begin(driver.name(), operation)?;
        fault::point(&format!("{word}.intended"));
        match act(&**driver) {
            Ok(done) => {
                fault::point(&format!("{word}.acted"));
                self.state.finish(intent, effect(&done))?;
                fault::point(&format!("{word}.recorded"));
                Ok(done)
            }
            Err(error) => {
                self.clean_up(driver, intent, operation, &error);
                Err(error.into())
            }
        }
    }

    /// After a failed act: nothing of it may be left. If that fails too, the intent stays for the next start.
    pub(super) fn clean_up(
        &self,
        driver: &Arc<dyn Driver>,
        intent: i64,
        operation: &Operation,
        error: &DriverError,
    ) {
        let (word, volume) = (operation.word(), operation.volume());
        match self.recover(&**driver, intent, operation) {
            Ok(Outcome::Undone) => {}
            Ok(Outcome::Finished) => {
                self.events.emit(
                    "warning",
                    volume,
                    &[(
                        "message",
                        format!("{word} failed ({error}) but could be finished by a second attempt"),
                    )],
                );
            }
            Err(second) => {
                let message = format!(
                    "{word} failed ({error}), and so did the clean-up ({second}); the next start tries again"
                );
                self.events.emit("warning", volume, &[("message", message)]);
            }
        }
    }

    /// Has the driver finish or undo an operation, and records what came out.
    pub(super) fn recover(&self, driver: &dyn Driver, intent: i64, operation: &Operation) -> Result<Outcome> {
        let outcome = driver.recover(operation)?;
        fault::point(&format!("{}.recovered", operation.word()));
        let before = operation.subject();
        match driver.volume(operation.volume())? {
            Some(volume) => self.state.finish(intent, Effect::Put(volume))?,
            None => match before {
                Some(volume) => self.state.finish(intent, Effect::Forget(volume.clone()))?,
                None => self.state.finish(intent, Effect::None)?,
            },
        }
        Ok(outcome)
    }
}

impl Operation {
    /// The volume's record in the operation, where it has one.
    fn subject(&self) -> Option<&Volume> {
        match self {
            Self::Create(c) => Some(&c.volume),
            Self::Remove(r) => Some(&r.volume),
            Self::Snapshot(s) => Some(&s.volume),
            Self::RemoveSnapshot(r) => Some(&r.volume),
            Self::Revert(r) => Some(&r.volume),
            Self::Grow(g) => Some(&g.volume),
            Self::Fill(f) => Some(&f.volume),
            Self::Undelete(_) | Self::Purge(_) => None,
        }
    }
}
