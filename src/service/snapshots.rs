//! Snapshots: take, forget, return to.

use std::sync::Arc;

use super::{By, Result, Service, ServiceError};
use crate::driver::{Operation, RemoveSnapshot, Revert, TakeSnapshot};
use crate::model::{Name, Snapshot, SnapshotId, SnapshotRef, Time, Volume};
use crate::state::Effect;

/// A snapshot with its volume.
#[derive(Debug, Clone)]
pub struct Found {
    /// The volume.
    pub volume: Arc<Volume>,
    /// The snapshot.
    pub snapshot: Snapshot,
}

impl Service {
    /// Freezes a volume's state under a name.
    pub async fn snapshot(&self, volume: &str, name: Option<Name>) -> Result<Found> {
        let (this, volume) = (self.clone(), volume.to_owned());
        let name = name.unwrap_or_else(Name::random_snapshot);
        self.change(async move {
            let of = this.resolve(&volume).await?;
            let _held = this.0.locks.lock(of.as_str()).await;
            let entry = this.known(&of)?;
            let driver = this.driver_of(&entry.volume)?;
            if entry.volume.snapshot(&name).is_some() {
                let name = format!("{of}@{name}");
                return Err(ServiceError::AlreadyExists {
                    what: "snapshot",
                    name,
                    why: String::new(),
                });
            }
            let take = TakeSnapshot {
                volume: (*entry.volume).clone(),
                id: SnapshotId::random(),
                name: name.clone(),
                at: Time::now(),
            };
            let changed = this
                .blocking(move |inner| {
                    let operation = Operation::Snapshot(take.clone());
                    inner.perform(
                        &driver,
                        &operation,
                        |d| d.snapshot(&take),
                        |volume| Effect::Put(volume.clone()),
                    )
                })
                .await?;
            let found = this.changed(changed, &name)?;
            this.events().emit(
                "snapshot.create",
                format!("{of}@{name}"),
                &[("consistency", found.snapshot.consistency.word().to_owned())],
            );
            Ok(found)
        })
        .await
    }

    /// Forgets a snapshot; says which it was.
    pub async fn remove_snapshot(&self, reference: &SnapshotRef) -> Result<Found> {
        let (this, reference) = (self.clone(), reference.clone());
        self.change(async move {
            let of = this.find_snapshot(&reference).await?.volume.name.clone();
            let _held = this.0.locks.lock(of.as_str()).await;
            let found = this.find_snapshot(&reference).await?;
            let driver = this.driver_of(&found.volume)?;
            let remove = RemoveSnapshot {
                volume: (*found.volume).clone(),
                snapshot: found.snapshot.clone(),
            };
            let changed = this
                .blocking(move |inner| {
                    let operation = Operation::RemoveSnapshot(remove.clone());
                    inner.perform(
                        &driver,
                        &operation,
                        |d| d.remove_snapshot(&remove),
                        |volume| Effect::Put(volume.clone()),
                    )
                })
                .await?;
            this.catalog_mut().put(changed);
            this.events()
                .emit("snapshot.remove", format!("{of}@{}", found.snapshot.name), &[]);
            Ok(found)
        })
        .await
    }

    /// Puts a volume that nobody uses back into a snapshot's state.
    pub async fn revert(&self, reference: &SnapshotRef) -> Result<super::Entry> {
        let (this, reference) = (self.clone(), reference.clone());
        self.change(async move {
            let of = this.find_snapshot(&reference).await?.volume.name.clone();
            let _held = this.0.locks.lock(of.as_str()).await;
            let found = this.find_snapshot(&reference).await?;
            let driver = this.driver_of(&found.volume)?;
            this.free(&this.known(&of)?, &driver, By::Admin).await?;
            let revert = Revert {
                volume: (*found.volume).clone(),
                snapshot: found.snapshot.clone(),
                id: SnapshotId::random(),
            };
            let changed = this
                .blocking(move |inner| {
                    let operation = Operation::Revert(revert.clone());
                    inner.perform(
                        &driver,
                        &operation,
                        |d| d.revert(&revert),
                        |volume| Effect::Put(volume.clone()),
                    )
                })
                .await?;
            this.catalog_mut().put(changed);
            this.0.usage.ask(&of);
            this.events()
                .emit("volume.revert", &of, &[("to", found.snapshot.name.to_string())]);
            this.known(&of)
        })
        .await
    }

    /// The snapshot that a person means.
    pub async fn find_snapshot(&self, reference: &SnapshotRef) -> Result<Found> {
        self.ready().await;
        let (volume, snapshot) = self.catalog().find_snapshot(reference)?;
        Ok(Found { volume, snapshot })
    }

    fn changed(&self, volume: Volume, snapshot: &Name) -> Result<Found> {
        let found = volume
            .snapshot(snapshot)
            .cloned()
            .ok_or_else(|| ServiceError::NotFound {
                what: "snapshot",
                name: format!("{}@{snapshot}", volume.name),
            })?;
        let name = volume.name.clone();
        self.catalog_mut().put(volume);
        Ok(Found {
            volume: self.known(&name)?.volume,
            snapshot: found,
        })
    }
}
