//! Giving a volume other data: what a restore, a revert to a stored snapshot and a clone of one have in common.
//!
//! Two halves. [`Filling::build`] writes the tree aside and takes its time, without the volume's lock; [`Service::put_in_place`]
//! exchanges it for the volume's in one step, with it. Both belong to one recorded intent: a crash in between leaves the
//! volume as it was, and the next start removes what was built.

use std::sync::Arc;

use super::jobs::Outcome;
use super::{Inner, Result, Service, ServiceError};
use crate::driver::{Driver, Fill, How, Operation, Target};
use crate::engine::Progress;
use crate::model::{RootDirectory, SnapshotId, Volume};
use crate::state::Effect;

/// New data for a volume.
#[derive(Clone)]
pub(super) struct Filling {
    driver: Arc<dyn Driver>,
    fill: Fill,
    progress: Arc<Progress>,
}

/// New data that are written and not in place yet.
#[must_use = "it is put into place, or given up"]
pub(super) struct Built {
    intent: i64,
    /// What was written, by the API's keys.
    pub outcome: Outcome,
}

impl Filling {
    /// Of that volume; `root` are the owner and permissions that are not to be those of the backup.
    pub fn new(
        driver: &Arc<dyn Driver>,
        volume: &Volume,
        root: RootDirectory,
        progress: &Arc<Progress>,
    ) -> Self {
        Self {
            driver: driver.clone(),
            fill: Fill {
                volume: volume.clone(),
                id: SnapshotId::random(),
                how: How::Replace,
                root,
            },
            progress: progress.clone(),
        }
    }

    fn operation(&self) -> Operation {
        Operation::Fill(self.fill.clone())
    }

    /// Has `write` write the data aside, into the empty directory or device that it is given. Blocks; after an error, nothing is left
    /// of them.
    pub fn build(
        &self,
        inner: &Inner,
        write: impl FnOnce(&Target, &Arc<Progress>) -> Result<Outcome>,
    ) -> Result<Built> {
        let operation = self.operation();
        let intent = inner.state.begin(self.driver.name(), &operation)?;
        let target = self.driver.open_target(&self.fill).map_err(ServiceError::from);
        let written = target.and_then(|target| write(&target, &self.progress));
        match written {
            Ok(outcome) => Ok(Built { intent, outcome }),
            Err(error) => {
                self.give_up(inner, intent, &error);
                Err(error)
            }
        }
    }

    /// Throws away what was built, which was never meant for the volume. Blocks.
    pub fn discard(&self, inner: &Inner, built: Built) -> Result<()> {
        inner
            .recover(&*self.driver, built.intent, &self.operation())
            .map(drop)
    }

    /// Removes what was built. Blocks.
    fn give_up(&self, inner: &Inner, intent: i64, why: &ServiceError) {
        let operation = self.operation();
        if let Err(error) = inner.recover(&*self.driver, intent, &operation) {
            let message = format!(
                "new data could not be put into the volume ({why}), and the clean-up failed ({error}); the next start tries again"
            );
            inner
                .events
                .emit("warning", operation.volume(), &[("message", message)]);
        }
    }
}

impl Service {
    /// Exchanges what was built for the volume's data. Under the volume's lock, while nobody uses it; after an error, the
    /// volume is as it was.
    pub(super) async fn put_in_place(&self, filling: &Filling, built: Built) -> Result<()> {
        filling.progress.phase("putting the data into place");
        let (work, name) = (filling.clone(), filling.fill.volume.name.clone());
        let changed = self
            .blocking(move |inner| match work.driver.fill(&work.fill) {
                Ok(volume) => {
                    inner.state.finish(built.intent, Effect::Put(volume.clone()))?;
                    Ok(volume)
                }
                Err(error) => {
                    let error = error.into();
                    work.give_up(inner, built.intent, &error);
                    Err(error)
                }
            })
            .await?;
        self.catalog_mut().put(changed);
        self.0.usage.ask(&name);
        Ok(())
    }

    /// Gives up what was built.
    pub(super) async fn give_up(&self, filling: &Filling, built: Built, why: ServiceError) -> ServiceError {
        let filling = filling.clone();
        self.blocking(move |inner| {
            filling.give_up(inner, built.intent, &why);
            Ok(why)
        })
        .await
        .unwrap_or_else(|error| error)
    }
}
