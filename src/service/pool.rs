//! The pool that a driver's volumes share: asked, checked, repaired, extended, trimmed.

use std::sync::Arc;

use super::{Result, Service};
use crate::driver::pool::{Pool, PoolCheck, PoolRepair, PoolStatus, Room};
use crate::driver::{Driver, DriverError};
use crate::model::{Bytes, Name};

/// What a trim of all mounted volumes brought.
#[derive(Debug, Default)]
pub struct TrimmedPool {
    /// What each of them gave back.
    pub volumes: Vec<(Name, Bytes)>,
    /// Those that could not be trimmed, and why.
    pub failed: Vec<(Name, String)>,
}

impl Service {
    /// What there is to know of the pool, and the driver that has it.
    pub async fn pool_status(&self) -> Result<(&'static str, PoolStatus)> {
        self.ready().await;
        let driver = self.pooling()?;
        let name = driver.name();
        let status = self.blocking(move |_| Ok(pool_of(&driver)?.status()?)).await?;
        Ok((name, status))
    }

    /// Makes the pool larger, or takes up what its devices have gained.
    pub async fn extend_pool(&self, room: Option<Room>) -> Result<(&'static str, PoolStatus)> {
        let this = self.clone();
        self.change(async move {
            let driver = this.pooling()?;
            let name = driver.name();
            let status = this
                .blocking(move |_| Ok(pool_of(&driver)?.extend(room)?))
                .await?;
            let size = status.data.total.to_string();
            this.events().emit("pool.extend", &status.name, &[("size", size)]);
            Ok((name, status))
        })
        .await
    }

    /// Looks whether the pool's metadata are sound, at work or at rest.
    pub async fn check_pool(&self) -> Result<PoolCheck> {
        let this = self.clone();
        self.change(async move {
            let index = this.pool_slot()?;
            this.blocking(move |inner| {
                let slot = &inner.drivers[index];
                match slot.get() {
                    Ok(driver) => Ok(pool_of(&driver)?.check()?),
                    Err(_) => slot.at_rest(|pool| pool.check()),
                }
            })
            .await
        })
        .await
    }

    /// Repairs the metadata of a pool at rest, or of one that has failed and is used by nobody, and has its driver try again then.
    /// Says what still keeps that away.
    pub async fn repair_pool(&self, accept_loss: bool) -> Result<(PoolRepair, Option<String>)> {
        let this = self.clone();
        self.change(async move {
            let index = this.pool_slot()?;
            this.blocking(move |inner| inner.drivers[index].give_up()).await?;
            let repaired = this
                .blocking(move |inner| inner.drivers[index].at_rest(|pool| pool.repair(accept_loss)))
                .await;
            let repair = match repaired {
                Ok(repair) => repair,
                Err(error) => {
                    // What was taken down may run again as it is; if not, its volumes say why.
                    if let Err(why) = this.try_again(index).await {
                        this.refuse_driver(index, why)?;
                    }
                    return Err(error);
                }
            };
            let damaged = repair.damaged.as_ref().map(|path| path.display().to_string());
            let name = this.0.drivers[index].name();
            this.events()
                .emit("pool.repair", name, &[("damaged", damaged.unwrap_or_default())]);
            for loss in &repair.losses {
                let message = format!("lost in the repair of the pool: {loss}");
                this.events().emit("warning", name, &[("message", message)]);
            }
            let trouble = this.try_again(index).await.err().map(|error| error.to_string());
            Ok((repair, trouble))
        })
        .await
    }

    /// Trims every mounted volume of the pool's driver, one after the other.
    pub async fn trim_pool(&self) -> Result<TrimmedPool> {
        self.ready().await;
        let driver = self.pooling()?;
        let mounted = |entry: &&super::Entry| entry.volume.driver == driver.name() && entry.mounted.is_some();
        let names: Vec<Name> = self
            .catalog()
            .entries()
            .filter(mounted)
            .map(|entry| entry.volume.name.clone())
            .collect();
        let mut trimmed = TrimmedPool::default();
        for name in names {
            match self.trim(name.as_str()).await {
                Ok((name, freed)) => trimmed.volumes.push((name, freed)),
                Err(error) => trimmed.failed.push((name, error.to_string())),
            }
        }
        Ok(trimmed)
    }

    /// The place of the driver that has a pool, at work or not.
    fn pool_slot(&self) -> Result<usize> {
        let found = self.drivers().iter().position(super::DriverSlot::has_pool);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.drivers().iter().map(super::DriverSlot::name).collect();
            DriverError::Unsupported {
                what: "the pool".to_owned(),
                because: format!(
                    "none of this daemon's drivers ({}) keeps its volumes in one; devicemapper does",
                    names.join(", ")
                ),
            }
            .into()
        })
    }

    fn pooling(&self) -> Result<Arc<dyn Driver>> {
        self.drivers()[self.pool_slot()?].get()
    }
}

fn pool_of(driver: &Arc<dyn Driver>) -> Result<&dyn Pool> {
    driver.pool().ok_or_else(|| {
        DriverError::Unsupported {
            what: "the pool".to_owned(),
            because: format!("the driver {} keeps its volumes in none", driver.name()),
        }
        .into()
    })
}
