//! What was removed and can still be brought back.

use super::volumes::not_found;
use super::{Entry, Result, Service, ServiceError};
use crate::driver::{DriverError, Operation, Purge, Undelete};
use crate::model::{Name, Time, Trashed, VolumeId};
use crate::state::Effect;

impl Service {
    /// Removed volumes, the most recent first.
    pub async fn trash(&self) -> Result<Vec<Trashed>> {
        self.ready().await;
        self.blocking(|inner| {
            let mut all = Vec::new();
            for driver in inner.drivers.iter().filter_map(|slot| slot.get().ok()) {
                all.extend(driver.trash()?);
            }
            all.sort_by(|a, b| {
                b.removed
                    .cmp(&a.removed)
                    .then_with(|| a.volume.name.cmp(&b.volume.name))
            });
            Ok(all)
        })
        .await
    }

    /// Brings a removed volume back: the one of that id or, of those with that name, the one removed last.
    pub async fn undelete(&self, text: &str, new_name: Option<Name>) -> Result<(Entry, Vec<String>)> {
        let (this, text) = (self.clone(), text.to_owned());
        self.change(async move {
            let (found, others) = this.find_trashed(&text).await?;
            let name = new_name.unwrap_or_else(|| found.volume.name.clone());
            let key = trash_key(found.volume.id);
            let _held = this.0.locks.lock_all([name.as_str(), key.as_str()]).await;
            if this.look_up(&name).await?.is_some() {
                return Err(ServiceError::AlreadyExists {
                    what: "volume",
                    name: name.to_string(),
                    why: "; bring the removed one back under another name (--as)".to_owned(),
                });
            }
            let driver = this.driver_of(&found.volume)?;
            let undelete = Undelete {
                id: found.volume.id,
                name: name.clone(),
            };
            let volume = this
                .blocking(move |inner| {
                    let operation = Operation::Undelete(undelete.clone());
                    inner.perform(
                        &driver,
                        &operation,
                        |d| d.undelete(&undelete),
                        |volume| Effect::Put(volume.clone()),
                    )
                })
                .await?;
            this.catalog_mut().put(volume);
            this.0.usage.ask(&name);
            this.events().emit(
                "volume.undelete",
                &name,
                &[("removed", found.removed.to_string())],
            );
            let notes = match others {
                0 => Vec::new(),
                n => vec![format!(
                    "the trash holds {n} older volumes of that name; 'windlass trash list' shows them"
                )],
            };
            Ok((this.known(&name)?, notes))
        })
        .await
    }

    /// Destroys a removed volume before its time.
    pub async fn purge(&self, text: &str) -> Result<Trashed> {
        let (this, text) = (self.clone(), text.to_owned());
        self.change(async move {
            let (found, _) = this.find_trashed(&text).await?;
            this.purge_one(found.volume.id, found.volume.name.clone()).await?;
            Ok(found)
        })
        .await
    }

    /// Destroys what the trash has kept long enough. Called now and then.
    pub(super) async fn empty_trash(&self) {
        let now = Time::now();
        let due = match self.trash().await {
            Ok(all) => all.into_iter().filter(move |trashed| trashed.expires <= now),
            Err(error) => return log::warn!("the trash cannot be read: {error}"),
        };
        for trashed in due {
            self.purge_soon(trashed.volume.id, trashed.volume.name);
        }
    }

    /// Destroys a removed volume in the background: a large tree takes longer than Docker waits.
    pub(super) fn purge_soon(&self, id: VolumeId, name: Name) {
        let this = self.clone();
        tokio::spawn(async move {
            let again = this.clone();
            let object = name.clone();
            match this.change(async move { again.purge_one(id, name).await }).await {
                Ok(()) | Err(ServiceError::Stopping | ServiceError::Driver(DriverError::NotFound { .. })) => {
                }
                Err(error) => {
                    let message = format!("the removed volume could not be destroyed: {error}");
                    this.events().emit("warning", object, &[("message", message)]);
                }
            }
        });
    }

    async fn purge_one(&self, id: VolumeId, name: Name) -> Result<()> {
        let _held = self.0.locks.lock(&trash_key(id)).await;
        let purge = Purge {
            id,
            name: name.clone(),
        };
        self.blocking(move |inner| {
            for driver in inner.drivers.iter().filter_map(|slot| slot.get().ok()) {
                if driver
                    .trash()?
                    .iter()
                    .any(|trashed| trashed.volume.id == purge.id)
                {
                    let operation = Operation::Purge(purge.clone());
                    inner.perform(&driver, &operation, |d| d.purge(&purge), |_| Effect::None)?;
                    return Ok(inner.state.forget_pasts(purge.id)?);
                }
            }
            Err(DriverError::NotFound {
                what: format!("removed volume {} ({})", purge.name, purge.id),
            }
            .into())
        })
        .await?;
        self.events()
            .emit("volume.purge", name, &[("id", id.to_string())]);
        Ok(())
    }

    /// The removed volume that a person means, and how many others have its name.
    async fn find_trashed(&self, text: &str) -> Result<(Trashed, usize)> {
        let all = self.trash().await?;
        let named: Vec<&Trashed> = all.iter().filter(|t| t.volume.name.as_str() == text).collect();
        if let Some(last) = named.first() {
            return Ok(((*last).clone(), named.len() - 1));
        }
        let by_id: Vec<&Trashed> = all.iter().filter(|t| t.volume.id.starts_with(text)).collect();
        match by_id.as_slice() {
            [one] => Ok(((*one).clone(), 0)),
            [] => match not_found(text) {
                ServiceError::NotFound { name, .. } => Err(ServiceError::NotFound {
                    what: "removed volume",
                    name,
                }),
                other => Err(other),
            },
            several => Err(ServiceError::Ambiguous {
                what: "removed volume",
                name: text.to_owned(),
                candidates: several
                    .iter()
                    .map(|t| t.volume.id.to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }
}

/// The lock of a removed volume. The colon keeps it apart from every volume's name.
fn trash_key(id: VolumeId) -> String {
    format!("trash:{id}")
}
