//! Checkpoints: snapshots of several volumes that belong together.
//!
//! A checkpoint has no record of its own: each of its snapshots says that it is a part, and of which whole. So it goes where the
//! data go, and is whole where all that it names are there. Its snapshots are snapshots like any others, called as it is.
//!
//! Where one driver holds all of its volumes and can bring them to rest together, they are of one moment. Elsewhere, they are so
//! if nobody used the volumes; otherwise they are taken one after the other under the locks of all, and say so
//! ([`Simultaneity::InTurn`]): it is then the hooks of all volumes, which stand around all of it, that make them fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::snapshots::check_new;
use super::{By, CreateRequest, Found, Hooks, Inner, Result, Service, ServiceError, stored};
use crate::driver::{Driver, DriverError, Operation, TakeSnapshot};
use crate::model::{
    Duty, HookOutcome, InCheckpoint, InvalidValue, Name, Simultaneity, SnapshotId, SnapshotRef, Time, Volume,
};
use crate::state::Effect;
use crate::sys::fault::point;

/// So many volumes fit into one: all of them are locked, and at rest, at the same time.
const MOST: usize = 100;

/// A wish for a checkpoint.
#[derive(Debug, Clone)]
pub struct CheckpointWish {
    /// Its name, which its snapshots get too.
    pub name: Name,
    /// Volumes, as a person gives them.
    pub volumes: Vec<String>,
    /// A Compose project, all of whose volumes are meant.
    pub project: Option<String>,
    /// Whether hooks are run.
    pub hooks: Hooks,
}

/// A checkpoint.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// What its snapshots say of it.
    pub about: InCheckpoint,
    /// Those of its snapshots that are there, in the order of their volumes.
    pub parts: Vec<Found>,
}

impl Checkpoint {
    /// The volumes whose part is not there any more.
    pub fn missing(&self) -> Vec<&Name> {
        let there: BTreeSet<&Name> = self.parts.iter().map(|part| &part.volume.name).collect();
        match self.parts.len() == self.about.volumes.len() {
            // One that was removed and has come back under another name is there.
            true => Vec::new(),
            false => self
                .about
                .volumes
                .iter()
                .filter(|name| !there.contains(name))
                .collect(),
        }
    }

    fn must_be_whole(&self) -> Result<()> {
        let missing: Vec<&str> = self.missing().into_iter().map(Name::as_str).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(ServiceError::NotFound {
                what: "snapshot",
                name: format!("{} of {}", self.about.name, missing.join(", ")),
            }),
        }
    }

    fn references(&self) -> impl Iterator<Item = SnapshotRef> {
        self.parts.iter().map(|part| SnapshotRef {
            volume: Some(part.volume.name.to_string()),
            snapshot: part.snapshot.name.to_string(),
        })
    }
}

/// A volume that is to be a part.
struct Part {
    volume: Arc<Volume>,
    driver: Arc<dyn Driver>,
    hooks: Option<HookOutcome>,
}

impl Service {
    /// Takes a checkpoint, with what a person should know of it.
    pub async fn create_checkpoint(&self, wish: CheckpointWish) -> Result<(Checkpoint, Vec<String>)> {
        let this = self.clone();
        self.change(async move {
            let CheckpointWish {
                name,
                volumes,
                project,
                hooks,
            } = wish;
            if this.find_checkpoint(name.as_str()).is_ok() {
                return Err(ServiceError::AlreadyExists {
                    what: "checkpoint",
                    name: name.to_string(),
                    why: String::new(),
                });
            }
            let mut names = BTreeSet::new();
            for volume in &volumes {
                names.insert(this.resolve(volume).await?);
            }
            let mut remarks = Vec::new();
            if let Some(project) = &project {
                names.extend(this.volumes_of_project(project, &mut remarks).await?);
            }
            check_count(&names)?;
            let entries: Vec<Arc<Volume>> = names
                .iter()
                .map(|name| Ok(this.known(name)?.volume))
                .collect::<Result<_>>()?;
            for volume in &entries {
                check_new(volume, &name)?;
                DriverError::refuse_restoring(volume, "checkpoint")?;
                this.driver_of(volume)?;
            }
            let what = format!("checkpoint {name}");
            let take = |outcomes| this.freeze_all(&name, &names, outcomes);
            let hooked = this.between_hooks(&entries, hooks, &what, &name, take).await?;
            remarks.extend(hooked.remarks);
            let about = [
                ("volumes", names.len().to_string()),
                ("moment", hooked.done.about.moment.word().to_owned()),
            ];
            this.events().emit("checkpoint.create", &name, &about);
            Ok((hooked.done, remarks))
        })
        .await
    }

    /// The volumes of a Compose project that are windlass's.
    async fn volumes_of_project(&self, project: &str, remarks: &mut Vec<String>) -> Result<Vec<Name>> {
        let unavailable =
            |why: String| ServiceError::Unavailable(format!("Compose project {project}: {why}"));
        let engine = self.engine().map_err(unavailable)?;
        let all = engine
            .volumes_of_project(project)
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let (ours, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|name| {
            let name = Name::volume(name);
            name.is_ok_and(|name| self.known(&name).is_ok())
        });
        if ours.is_empty() {
            return Err(ServiceError::NotFound {
                what: "volume",
                name: format!("of Compose project {project}"),
            });
        }
        remarks.extend(
            others
                .iter()
                .map(|name| format!("volume {name} of project {project} is not windlass's, and not in it")),
        );
        ours.iter().map(|name| Ok(Name::volume(name)?)).collect()
    }

    /// Takes all snapshots, or none.
    async fn freeze_all(
        &self,
        name: &Name,
        names: &BTreeSet<Name>,
        outcomes: Vec<Option<HookOutcome>>,
    ) -> Result<Checkpoint> {
        let id = Uuid::new_v4();
        let (owed, duty) = (name.clone(), id);
        let duty = self
            .blocking(move |inner| Ok(inner.state.owe(&Duty::Checkpoint { id: duty, name: owed })?))
            .await?;
        point("checkpoint.owed");
        let taken = self.take_all(id, name, names, outcomes).await;
        point("checkpoint.taken");
        let result = match taken {
            Ok(()) => self.find_checkpoint(&id.to_string()),
            Err(error) => {
                self.remove_parts(id).await;
                Err(error)
            }
        };
        self.blocking(move |inner| Ok(inner.state.paid(duty)?)).await?;
        result
    }

    async fn take_all(
        &self,
        id: Uuid,
        name: &Name,
        names: &BTreeSet<Name>,
        outcomes: Vec<Option<HookOutcome>>,
    ) -> Result<()> {
        let held = self.0.locks.lock_all(names.iter().map(Name::as_str)).await;
        let mut parts = Vec::new();
        let mut is_quiet = true;
        for (of, hooks) in names.iter().zip(outcomes) {
            let volume = self.known(of)?.volume;
            check_new(&volume, name)?;
            let driver = self.driver_of(&volume)?;
            is_quiet = is_quiet && self.is_quiet(of, &driver).await?;
            parts.push(Part {
                volume,
                driver,
                hooks,
            });
        }
        let (copied, parts): (Vec<Part>, Vec<Part>) = parts
            .into_iter()
            .partition(|part| stored::by_repository(&*part.driver).is_some());
        let together =
            |part: &Part| part.driver.takes_together() && part.driver.name() == parts[0].driver.name();
        let at_once = copied.is_empty() && parts.iter().all(together);
        let about = InCheckpoint {
            id,
            name: name.clone(),
            created: Time::now(),
            volumes: names.iter().cloned().collect(),
            moment: match at_once || (is_quiet && copied.is_empty()) {
                true => Simultaneity::One,
                false => Simultaneity::InTurn,
            },
            later: Default::default(),
        };
        // Those that can be together are, whatever the others can.
        let mut groups: Vec<(Arc<dyn Driver>, Vec<TakeSnapshot>)> = Vec::new();
        for part in parts {
            let take = TakeSnapshot {
                volume: (*part.volume).clone(),
                id: SnapshotId::random(),
                name: name.clone(),
                at: about.created,
                stored: None,
                hooks: part.hooks,
                checkpoint: Some(about.clone()),
            };
            let same = |(driver, _): &&mut (Arc<dyn Driver>, Vec<TakeSnapshot>)| {
                driver.takes_together() && driver.name() == part.driver.name()
            };
            match groups.iter_mut().find(same) {
                Some((_, takes)) => takes.push(take),
                None => groups.push((part.driver, vec![take])),
            }
        }
        for (driver, takes) in groups {
            let changed = self
                .blocking(move |inner| inner.perform_together(&driver, takes))
                .await?;
            for volume in changed {
                self.catalog_mut().put(volume);
            }
        }
        drop(held);
        for part in copied {
            self.freeze(
                &part.volume.name,
                name,
                part.hooks,
                Some(about.clone()),
                Arc::default(),
            )
            .await?;
        }
        Ok(())
    }

    /// All checkpoints, the oldest first.
    pub async fn checkpoints(&self) -> Vec<Checkpoint> {
        self.ready().await;
        self.all_checkpoints()
    }

    fn all_checkpoints(&self) -> Vec<Checkpoint> {
        let mut all: BTreeMap<Uuid, Checkpoint> = BTreeMap::new();
        let catalog = self.catalog();
        for entry in catalog.entries() {
            for snapshot in &entry.volume.snapshots {
                let Some(about) = &snapshot.checkpoint else {
                    continue;
                };
                let checkpoint = all.entry(about.id).or_insert_with(|| Checkpoint {
                    about: about.clone(),
                    parts: Vec::new(),
                });
                checkpoint.parts.push(Found {
                    volume: entry.volume.clone(),
                    snapshot: snapshot.clone(),
                });
            }
        }
        let mut all: Vec<Checkpoint> = all.into_values().collect();
        for checkpoint in &mut all {
            checkpoint.parts.sort_by(|a, b| a.volume.name.cmp(&b.volume.name));
        }
        all.sort_by(|a, b| (a.about.created, &a.about.name).cmp(&(b.about.created, &b.about.name)));
        all
    }

    /// The checkpoint that a person means, by its name or its id.
    pub async fn checkpoint(&self, reference: &str) -> Result<Checkpoint> {
        self.ready().await;
        self.find_checkpoint(reference)
    }

    fn find_checkpoint(&self, reference: &str) -> Result<Checkpoint> {
        let is_meant =
            |about: &InCheckpoint| about.name.as_str() == reference || about.id.to_string() == reference;
        let mut all = self.all_checkpoints();
        all.retain(|checkpoint| is_meant(&checkpoint.about));
        match all.len() {
            0 => Err(ServiceError::NotFound {
                what: "checkpoint",
                name: reference.to_owned(),
            }),
            1 => Ok(all.remove(0)),
            // Of a volume that came from another host, say.
            _ => Err(ServiceError::Ambiguous {
                what: "checkpoint",
                name: reference.to_owned(),
                candidates: all
                    .iter()
                    .map(|checkpoint| checkpoint.about.id.to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// Forgets a checkpoint with its snapshots. Where one of them cannot go, those that went are gone.
    pub async fn remove_checkpoint(&self, reference: &str) -> Result<Checkpoint> {
        let checkpoint = self.checkpoint(reference).await?;
        for part in checkpoint.references() {
            self.remove_snapshot(&part).await?;
        }
        self.events()
            .emit("checkpoint.remove", &checkpoint.about.name, &[]);
        Ok(checkpoint)
    }

    /// Puts all volumes of a checkpoint back to it. None is touched if one of them is in use, or lacks its snapshot.
    pub async fn revert_to_checkpoint(&self, reference: &str) -> Result<Checkpoint> {
        let this = self.clone();
        let checkpoint = self.checkpoint(reference).await?;
        checkpoint.must_be_whole()?;
        self.change(async move {
            {
                let names = checkpoint.parts.iter().map(|part| part.volume.name.as_str());
                let _held = this.0.locks.lock_all(names).await;
                for part in &checkpoint.parts {
                    let entry = this.known(&part.volume.name)?;
                    let driver = this.driver_of(&entry.volume)?;
                    this.free(&entry, &driver, By::Admin).await?;
                }
            }
            let about = &checkpoint.about;
            let owed = Duty::Revert {
                id: about.id,
                name: about.name.clone(),
            };
            let duty = this.blocking(move |inner| Ok(inner.state.owe(&owed)?)).await?;
            let mut done: Vec<String> = Vec::new();
            for (part, reference) in checkpoint.parts.iter().zip(checkpoint.references()) {
                let reverted = this.revert(&reference).await;
                point("checkpoint.reverted");
                if let Err(error) = reverted {
                    if !this.is_stopping() {
                        this.blocking(move |inner| Ok(inner.state.paid(duty)?)).await?;
                    }
                    return Err(match done.is_empty() {
                        true => error,
                        false => ServiceError::Unavailable(format!(
                            "{error}; {} went back to checkpoint {} already: revert again once that is mended",
                            done.join(", "),
                            about.name
                        )),
                    });
                }
                done.push(part.volume.name.to_string());
            }
            this.blocking(move |inner| Ok(inner.state.paid(duty)?)).await?;
            this.events().emit("checkpoint.revert", &about.name, &[]);
            this.find_checkpoint(&about.id.to_string())
        })
        .await
    }

    /// Makes a clone of each volume of a checkpoint, called as the volume with a suffix. Where one cannot be made, none stays.
    pub async fn clone_checkpoint(&self, reference: &str, suffix: &str) -> Result<Vec<Name>> {
        let checkpoint = self.checkpoint(reference).await?;
        checkpoint.must_be_whole()?;
        let mut wishes = Vec::new();
        for part in &checkpoint.parts {
            let name = Name::volume(&format!("{}{suffix}", part.volume.name))?;
            if self.known(&name).is_ok() {
                return Err(ServiceError::AlreadyExists {
                    what: "volume",
                    name: name.to_string(),
                    why: String::new(),
                });
            }
            wishes.push((name, part));
        }
        let mut made = Vec::new();
        for (name, part) in wishes {
            let options = [
                ("driver", part.volume.driver.clone()),
                ("from", format!("{}@{}", part.volume.name, part.snapshot.name)),
            ];
            let request = CreateRequest {
                name: Some(name.clone()),
                options: options
                    .into_iter()
                    .map(|(option, value)| (option.to_owned(), value))
                    .collect(),
                by: By::Admin,
            };
            if let Err(error) = self.create(request).await {
                for name in made {
                    self.give_up_clone(&name).await;
                }
                return Err(error);
            }
            made.push(name);
        }
        Ok(made)
    }

    async fn give_up_clone(&self, name: &Name) {
        let request = super::RemoveRequest {
            volume: name.to_string(),
            how: Some(crate::model::OnRemove::Delete),
            by: By::Admin,
        };
        if let Err(error) = self.remove(request).await {
            log::warn!("volume {name}, a clone of a checkpoint that could not be cloned, stays: {error}");
        }
    }

    /// What is left of a checkpoint that is not whole goes.
    async fn remove_parts(&self, id: Uuid) {
        let Ok(checkpoint) = self.find_checkpoint(&id.to_string()) else {
            return;
        };
        for part in checkpoint.references() {
            if let Err(error) = self.drop_snapshot(&part).await {
                let message = format!(
                    "its snapshot {}, of a checkpoint that failed, stays: {error}",
                    part.snapshot
                );
                let volume = part.volume.unwrap_or_default();
                self.events().emit("warning", volume, &[("message", message)]);
            }
        }
    }

    /// Undoes a checkpoint that a former run could not finish; one that is whole stays.
    pub(super) async fn undo_checkpoint(self, duty: i64, id: Uuid, name: Name) {
        let is_whole = self
            .find_checkpoint(&id.to_string())
            .is_ok_and(|checkpoint| checkpoint.missing().is_empty());
        if !is_whole {
            let this = self.clone();
            let undone = self.change(async move {
                this.remove_parts(id).await;
                Ok(())
            });
            if undone.await.is_err() {
                return;
            }
            log::warn!("checkpoint {name} was interrupted, and is undone");
        }
        if let Err(error) = self.blocking(move |inner| Ok(inner.state.paid(duty)?)).await {
            log::error!("{error}");
        }
    }
}

impl Inner {
    /// [`Inner::perform`] for several volumes' snapshots; each has an intent of its own, and a crash leaves each to be finished or
    /// undone by itself.
    fn perform_together(&self, driver: &Arc<dyn Driver>, takes: Vec<TakeSnapshot>) -> Result<Vec<Volume>> {
        if let [take] = takes.as_slice() {
            let operation = Operation::Snapshot(take.clone());
            let volume = self.perform(
                driver,
                &operation,
                |d| d.snapshot(take),
                |volume| Effect::Put(volume.clone()),
            )?;
            return Ok(vec![volume]);
        }
        let mut intents = Vec::new();
        for take in &takes {
            let operation = Operation::Snapshot(take.clone());
            intents.push((self.state.begin(driver.name(), &operation)?, operation));
        }
        point("checkpoint.intended");
        match driver.snapshot_together(&takes) {
            Ok(volumes) => {
                point("checkpoint.acted");
                for ((intent, _), volume) in intents.iter().zip(&volumes) {
                    self.state.finish(*intent, Effect::Put(volume.clone()))?;
                    point("checkpoint.recorded");
                }
                Ok(volumes)
            }
            Err(error) => {
                for (intent, operation) in &intents {
                    self.clean_up(driver, *intent, operation, &error);
                }
                Err(error.into())
            }
        }
    }
}

fn check_count(names: &BTreeSet<Name>) -> Result<()> {
    match names.len() {
        1..=MOST => Ok(()),
        found => Err(InvalidValue::Value {
            option: "volumes".to_owned(),
            value: found.to_string(),
            expected: format!("from 1 to {MOST} volumes, or a Compose project that has some"),
        }
        .into()),
    }
}
