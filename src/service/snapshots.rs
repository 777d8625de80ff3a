//! Snapshots: take, forget, return to.

use std::sync::Arc;

use super::uses::EndWhenDropped;
use super::{By, Hooks, Result, Service, ServiceError, stored};
use crate::driver::{Driver, DriverError, Operation, RemoveSnapshot, Revert, TakeSnapshot};
use crate::engine::Progress;
use crate::model::{HookOutcome, InCheckpoint, Name, Snapshot, SnapshotId, SnapshotRef, Time, Volume};
use crate::state::Effect;

/// A snapshot with its volume.
#[derive(Debug, Clone)]
pub struct Found {
    /// The volume.
    pub volume: Arc<Volume>,
    /// The snapshot.
    pub snapshot: Snapshot,
}

/// A snapshot that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// It, with its volume.
    pub found: Found,
    /// What a person should know of it, a sentence each: hooks that failed, or had no container to run in.
    pub remarks: Vec<String>,
}

impl Service {
    /// Freezes a volume's state under a name, between its hooks. Where that is a copy into a repository, it takes its time, and
    /// ends when the caller does not wait for it any more.
    pub async fn snapshot(&self, volume: &str, name: Option<Name>, hooks: Hooks) -> Result<Taken> {
        let (this, volume) = (self.clone(), volume.to_owned());
        let name = name.unwrap_or_else(Name::random_snapshot);
        let progress = Arc::<Progress>::default();
        let _caller = EndWhenDropped(progress.clone());
        self.change(async move {
            let of = this.resolve(&volume).await?;
            let entry = this.known(&of)?;
            // What would be refused after its hooks is refused before.
            check_new(&entry.volume, &name)?;
            DriverError::refuse_restoring(&entry.volume, "snapshot")?;
            this.driver_of(&entry.volume)?;
            let what = format!("snapshot {of}@{name}");
            let take = |outcomes: Vec<Option<HookOutcome>>| {
                let hooks = outcomes.into_iter().next().flatten();
                this.freeze(&of, &name, hooks, None, progress)
            };
            let volumes = [entry.volume];
            let taken = this.between_hooks(&volumes, hooks, &what, &name, take).await?;
            Ok(Taken {
                found: taken.done,
                remarks: taken.remarks,
            })
        })
        .await
    }

    /// Takes a snapshot, whose hooks are somebody else's.
    pub(super) async fn freeze(
        &self,
        of: &Name,
        name: &Name,
        hooks: Option<HookOutcome>,
        checkpoint: Option<InCheckpoint>,
        progress: Arc<Progress>,
    ) -> Result<Found> {
        let held = self.0.locks.lock(of.as_str()).await;
        let entry = self.known(of)?;
        let driver = self.driver_of(&entry.volume)?;
        check_new(&entry.volume, name)?;
        let take = TakeSnapshot {
            volume: (*entry.volume).clone(),
            id: SnapshotId::random(),
            name: name.clone(),
            at: Time::now(),
            stored: None,
            hooks,
            checkpoint,
        };
        let (found, figures) = match stored::by_repository(&*driver) {
            Some(below) => {
                let taken = self.store_snapshot(take, driver, below, progress, held).await;
                let (changed, figures) = taken?;
                (found_in(Arc::new(changed), name)?, figures)
            }
            None => {
                let changed = self.take_at_once(driver, take).await?;
                (self.changed(changed, name)?, Vec::new())
            }
        };
        let mut about = vec![("consistency", found.snapshot.consistency.word().to_owned())];
        about.extend(hooks.map(|hooks| ("hooks", hooks.word().to_owned())));
        about.extend(figures);
        self.events()
            .emit("snapshot.create", format!("{of}@{name}"), &about);
        Ok(found)
    }

    /// Under the volume's lock.
    async fn take_at_once(&self, driver: Arc<dyn Driver>, take: TakeSnapshot) -> Result<Volume> {
        self.blocking(move |inner| {
            let operation = Operation::Snapshot(take.clone());
            inner.perform(
                &driver,
                &operation,
                |d| d.snapshot(&take),
                |volume| Effect::Put(volume.clone()),
            )
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
            if let Some(by) = this.reader_of(&of, Some(&found.snapshot.name)) {
                let what = format!("snapshot {of}@{}", found.snapshot.name);
                return Err(ServiceError::Read { what, by });
            }
            let (entry, driver) = (this.known(&of)?, this.driver_of(&found.volume)?);
            this.refuse_shown(&entry, &driver, Some(&found.snapshot.name))
                .await?;
            this.forget_snapshot(&found).await?;
            Ok(found)
        })
        .await
    }

    /// Forgets the snapshot that was taken for a job, whose end this is a part of: a stop of the daemon waits for it.
    pub(super) async fn drop_snapshot(&self, reference: &SnapshotRef) -> Result<()> {
        let of = self.find_snapshot(reference).await?.volume.name.clone();
        let _held = self.0.locks.lock(of.as_str()).await;
        let found = self.find_snapshot(reference).await?;
        self.forget_snapshot(&found).await
    }

    /// Under the volume's lock.
    async fn forget_snapshot(&self, found: &Found) -> Result<()> {
        let driver = self.driver_of(&found.volume)?;
        let remove = RemoveSnapshot {
            volume: (*found.volume).clone(),
            snapshot: found.snapshot.clone(),
        };
        let is_stored = found.snapshot.stored.is_some();
        let changed = self
            .blocking(move |inner| {
                let operation = Operation::RemoveSnapshot(remove.clone());
                inner.perform(
                    &driver,
                    &operation,
                    |d| {
                        let changed = d.remove_snapshot(&remove)?;
                        if is_stored {
                            // What is left after a failure no record names, and the next snapshot takes it away.
                            inner.forget_stored(d, &remove.volume, &remove.snapshot);
                        }
                        Ok(changed)
                    },
                    |volume| Effect::Put(volume.clone()),
                )
            })
            .await?;
        self.catalog_mut().put(changed);
        self.events().emit(
            "snapshot.remove",
            format!("{}@{}", found.volume.name, found.snapshot.name),
            &[],
        );
        if is_stored {
            self.prune_soon(found.volume.name.clone(), found.volume.id);
        }
        Ok(())
    }

    /// Puts a volume that nobody uses back into a snapshot's state. Where that is a copy out of a repository, it takes its
    /// time, and is given up when the caller does not wait for it any more.
    pub async fn revert(&self, reference: &SnapshotRef) -> Result<super::Entry> {
        let (this, reference) = (self.clone(), reference.clone());
        let progress = Arc::<Progress>::default();
        let _caller = EndWhenDropped(progress.clone());
        self.change(async move {
            let of = this.find_snapshot(&reference).await?.volume.name.clone();
            let held = this.0.locks.lock(of.as_str()).await;
            let found = this.find_snapshot(&reference).await?;
            let driver = this.driver_of(&found.volume)?;
            this.free(&this.known(&of)?, &driver, By::Admin).await?;
            if let Some(by) = this.0.uses.reader(&of, None) {
                let what = format!("volume {of}");
                return Err(ServiceError::Read { what, by });
            }
            let to = found.snapshot.name.to_string();
            if found.snapshot.stored.is_some() {
                this.revert_to_stored(&found, driver, progress, held).await?;
                this.events().emit("volume.revert", &of, &[("to", to)]);
                return this.known(&of);
            }
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
            this.events().emit("volume.revert", &of, &[("to", to)]);
            drop(held);
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
        self.catalog_mut().put(volume.clone());
        found_in(Arc::new(volume), snapshot)
    }
}

pub(super) fn check_new(volume: &Volume, name: &Name) -> Result<()> {
    match volume.snapshot(name) {
        None => Ok(()),
        Some(_) => Err(ServiceError::AlreadyExists {
            what: "snapshot",
            name: format!("{}@{name}", volume.name),
            why: String::new(),
        }),
    }
}

fn found_in(volume: Arc<Volume>, snapshot: &Name) -> Result<Found> {
    match volume.snapshot(snapshot).cloned() {
        Some(snapshot) => Ok(Found { volume, snapshot }),
        None => Err(ServiceError::NotFound {
            what: "snapshot",
            name: format!("{}@{snapshot}", volume.name),
        }),
    }
}
