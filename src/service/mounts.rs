//! Mount and unmount, counted per mount id, decided by the kernel.
//!
//! Docker's mount ids are hints. `docker cp` mounts and unmounts with the id of the running container; a killed engine
//! mounts the same id again and never unmounts others; after `kill -9` of the daemon, unmounts come for ids that only
//! the records know. So an id is counted while this run of the daemon hears of it, and an id left over from a former
//! run counts as one again at its next mount. Order: mount, then record; forget, then unmount. A crash in between
//! leaves a mount that nobody holds below the mount root, and the next start takes it away. At a place that a person
//! chose it is the other way round: record, then mount; the next start mounts there again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catalog::Entry;
use super::{By, CreateRequest, Result, Service, ServiceError};
use crate::driver::{Driver, DriverError, Scope, Users};
use crate::model::{InvalidValue, Name, Time};
use crate::state::Hold;
use crate::sys::fault;

/// How long a user of a volume may be one that is just passing.
const PASSING: Duration = Duration::from_millis(500);

/// The beginning of mount ids of the command line.
const OWN: &str = "windlass:";

impl Service {
    /// Mounts a volume for Docker's `id` and says where.
    pub async fn mount(&self, name: &Name, id: &str) -> Result<PathBuf> {
        let (this, name, id) = (self.clone(), name.clone(), id.to_owned());
        self.change(async move {
            if this.settings().create_on_docker_mount
                && let Err(ServiceError::NotFound { .. }) = this.get(&name).await
            {
                let request = CreateRequest {
                    name: Some(name.clone()),
                    options: Default::default(),
                    by: By::Docker,
                };
                Box::pin(this.create(request)).await?;
            }
            this.await_restore(&name).await?;
            this.settled().await;
            let _held = this.0.locks.lock(name.as_str()).await;
            let target = this.0.mount_points.at(&name);
            this.hold(&name, &id, &target).await?;
            Ok(target)
        })
        .await
    }

    /// Mounts a volume for a person, at `mount_point` or in the daemon's own place.
    pub async fn mount_by_hand(&self, volume: &str, mount_point: Option<PathBuf>) -> Result<PathBuf> {
        let (this, volume) = (self.clone(), volume.to_owned());
        self.change(async move {
            let name = this.resolve(&volume).await?;
            this.await_restore(&name).await?;
            let _held = this.0.locks.lock(name.as_str()).await;
            let target = match mount_point {
                Some(path) => acceptable(path)?,
                None => this.0.mount_points.at(&name),
            };
            let id = format!("{OWN}{}", target.display());
            if this
                .known(&name)?
                .holds
                .get(&id)
                .is_none_or(|hold| !this.is_confirmed(hold))
            {
                this.hold(&name, &id, &target).await?;
            }
            Ok(target)
        })
        .await
    }

    /// Takes back one mount of Docker's `id`. What is not mounted, or not there at all, is a success.
    pub async fn unmount(&self, name: &Name, id: &str) -> Result<()> {
        let (this, name, id) = (self.clone(), name.clone(), id.to_owned());
        self.change(async move {
            let _held = this.0.locks.lock(name.as_str()).await;
            let Some(entry) = this.look_up(&name).await? else {
                return Ok(());
            };
            let Some(hold) = entry.holds.get(&id) else {
                log::debug!("volume {name}: unmount of the unknown mount id {id:?}");
                return Ok(());
            };
            this.release(&name, hold.clone()).await?;
            let target = this.0.mount_points.at(&name);
            match this.unmount_if_free(&name, &target).await {
                // The container is gone, or going; what still works there keeps only this host's own mount busy.
                Err(ServiceError::Driver(DriverError::Busy { by, .. })) => {
                    let message = format!("{} stays mounted: it is busy ({by})", target.display());
                    this.events().emit("warning", &name, &[("message", message)]);
                    Ok(())
                }
                other => other,
            }
        })
        .await
    }

    /// Takes back the mounts that a person made; with `force`, all that are recorded. Says who is left.
    pub async fn unmount_by_hand(&self, volume: &str, force: bool) -> Result<Vec<String>> {
        let (this, volume) = (self.clone(), volume.to_owned());
        self.change(async move {
            let name = this.resolve(&volume).await?;
            let _held = this.0.locks.lock(name.as_str()).await;
            let entry = this.known(&name)?;
            let (own, docker): (Vec<&Hold>, Vec<&Hold>) = entry
                .holds
                .values()
                .partition(|hold| hold.mount_id.starts_with(OWN));
            if own.is_empty() && !docker.is_empty() && !force {
                return Err(ServiceError::InUse {
                    volume: name.clone(),
                    by: listed(&docker),
                    recorded: true,
                });
            }
            let mut targets: Vec<PathBuf> = own
                .iter()
                .map(|hold| PathBuf::from(&hold.mount_id[OWN.len()..]))
                .collect();
            targets.push(this.0.mount_points.at(&name));
            targets.dedup();
            let left: Vec<&Hold> = if force { Vec::new() } else { docker };
            let keeps_main = !left.is_empty();
            // Busy must leave everything as it was, so here the mounts go first. A crash in between leaves holds
            // of no mount, and the next start mounts them again: as if this had never been asked.
            for target in targets
                .iter()
                .filter(|t| !keeps_main || **t != this.0.mount_points.at(&name))
            {
                this.take_away(&name, target).await?;
            }
            for hold in entry
                .holds
                .values()
                .filter(|h| force || h.mount_id.starts_with(OWN))
            {
                this.forget(&name, hold).await?;
            }
            Ok(match left.len() {
                0 => Vec::new(),
                _ => vec![format!("volume {name} stays mounted for {}", listed(&left))],
            })
        })
        .await
    }

    /// Whether nothing is known to write to the volume now.
    pub(super) async fn is_quiet(&self, volume: &Name, driver: &Arc<dyn Driver>) -> Result<bool> {
        let entry = self.known(volume)?;
        if entry.mounted.is_some() || !entry.holds.is_empty() {
            return Ok(false);
        }
        let (driver, volume) = (driver.clone(), entry.volume);
        self.blocking(move |_| {
            // What other hosts do is not known.
            if driver.capabilities().scope == Scope::Global {
                return Ok(false);
            }
            Ok(match driver.users(&volume, &[])? {
                Users::Known(users) => users.is_empty(),
                Users::Unknown => true,
            })
        })
        .await
    }

    /// Makes sure that nobody uses the volume and that it is mounted nowhere. Under the volume's lock.
    ///
    /// Who uses it is the kernel's to say where it can. Where it cannot (the managed plugin does not see the host's
    /// processes), the mount ids of this run of the daemon count; those of former runs may be leaked and count only
    /// against a person, who can be told, not against the engine, which removes nothing that its containers use.
    pub(super) async fn free(&self, entry: &Entry, driver: &Arc<dyn Driver>, by: By) -> Result<()> {
        let name = entry.volume.name.clone();
        let in_use = |by, recorded| {
            Err(ServiceError::InUse {
                volume: name.clone(),
                by,
                recorded,
            })
        };
        let own: Vec<&Hold> = entry
            .holds
            .values()
            .filter(|h| h.mount_id.starts_with(OWN))
            .collect();
        if !own.is_empty() {
            return in_use(listed(&own), true);
        }
        let target = self.0.mount_points.at(&name);
        match self.lasting_users(entry, driver, &target).await? {
            Users::Known(users) if !users.is_empty() => return in_use(users.join(", "), false),
            Users::Known(_) => {}
            Users::Unknown => {
                let counts = |hold: &&Hold| by == By::Admin || self.is_confirmed(hold);
                let holds: Vec<&Hold> = entry.holds.values().filter(counts).collect();
                if !holds.is_empty() {
                    return in_use(listed(&holds), true);
                }
            }
        }
        self.take_away(&name, &target).await?;
        for hold in entry.holds.values() {
            log::warn!(
                "volume {name}: the mount id {} was never given back",
                hold.mount_id
            );
            self.forget(&name, hold).await?;
        }
        Ok(())
    }

    /// Who uses the volume besides its mount at `target`, and goes on to use it: a container that is being started has a copy
    /// of every mount until it has its own root, a few milliseconds or, on a busy machine, some hundred.
    async fn lasting_users(&self, entry: &Entry, driver: &Arc<dyn Driver>, target: &Path) -> Result<Users> {
        let began = Instant::now();
        loop {
            let (volume, ours, asked) = (entry.volume.clone(), [target.to_owned()], driver.clone());
            let users = self.blocking(move |_| Ok(asked.users(&volume, &ours)?)).await?;
            match &users {
                Users::Known(found) if !found.is_empty() && began.elapsed() < PASSING => {
                    tokio::time::sleep(PASSING / 10).await;
                }
                _ => return Ok(users),
            }
        }
    }

    /// Mounts at `target` if need be and counts `id`.
    async fn hold(&self, name: &Name, id: &str, target: &Path) -> Result<()> {
        let entry = self
            .look_up(name)
            .await?
            .ok_or_else(|| super::volumes::not_found(name.as_str()))?;
        let driver = self.driver_of(&entry.volume)?;
        self.0.uses.mounting(name)?;
        let hold = match entry.holds.get(id) {
            Some(hold) if self.is_confirmed(hold) => Hold {
                count: hold.count.saturating_add(1),
                ..hold.clone()
            },
            Some(hold) => Hold {
                count: 1,
                process: self.0.process.clone(),
                ..hold.clone()
            },
            None => Hold {
                volume: entry.volume.id,
                mount_id: id.to_owned(),
                count: 1,
                process: self.0.process.clone(),
                since: Time::now(),
            },
        };
        let (at, recorded) = (target.to_owned(), hold.clone());
        let own_place = self.0.mount_points.contain(target);
        self.blocking(move |inner| {
            fault::point("mount.asked");
            if own_place {
                let made = inner.mount_points.make(entry.volume.name.as_str());
                made.map_err(DriverError::from)?;
            } else {
                // Only the records know a place that a person chose: without them nobody would take it away again.
                inner.state.put_hold(&inner.boot, &recorded)?;
                fault::point("mount.recorded");
            }
            if let Err(error) = driver.mount(&entry.volume, &at) {
                if !own_place {
                    inner.state.drop_hold(recorded.volume, &recorded.mount_id)?;
                }
                return Err(error.into());
            }
            fault::point("mount.acted");
            if own_place {
                inner.state.put_hold(&inner.boot, &recorded)?;
                fault::point("mount.recorded");
            }
            Ok(())
        })
        .await?;
        self.events().emit(
            "volume.mount",
            name,
            &[("id", id.to_owned()), ("at", target.display().to_string())],
        );
        self.catalog_mut().update(name, |entry| {
            entry.holds.insert(hold.mount_id.clone(), hold);
            entry.mounted = self.places(entry).into_iter().next();
        });
        Ok(())
    }

    /// Counts one mount of a hold back.
    async fn release(&self, name: &Name, hold: Hold) -> Result<()> {
        if hold.count <= 1 {
            return self.forget(name, &hold).await;
        }
        let less = Hold {
            count: hold.count - 1,
            ..hold
        };
        let recorded = less.clone();
        self.blocking(move |inner| Ok(inner.state.put_hold(&inner.boot, &recorded)?))
            .await?;
        self.catalog_mut().update(name, |entry| {
            drop(entry.holds.insert(less.mount_id.clone(), less))
        });
        Ok(())
    }

    async fn forget(&self, name: &Name, hold: &Hold) -> Result<()> {
        let (volume, id) = (hold.volume, hold.mount_id.clone());
        self.blocking(move |inner| {
            fault::point("unmount.asked");
            inner.state.drop_hold(volume, &id)?;
            fault::point("unmount.recorded");
            Ok(())
        })
        .await?;
        self.events()
            .emit("volume.unmount", name, &[("id", hold.mount_id.clone())]);
        self.catalog_mut()
            .update(name, |entry| drop(entry.holds.remove(&hold.mount_id)));
        Ok(())
    }

    async fn unmount_if_free(&self, name: &Name, target: &Path) -> Result<()> {
        let needed = self
            .places(&self.known(name)?)
            .iter()
            .any(|place| place == target);
        if needed {
            Ok(())
        } else {
            self.take_away(name, target).await
        }
    }

    /// Where the volume's holds want it mounted; Docker's place first.
    pub(super) fn places(&self, entry: &Entry) -> Vec<PathBuf> {
        let place = |hold: &Hold| match hold.mount_id.strip_prefix(OWN) {
            Some(at) => PathBuf::from(at),
            None => self.0.mount_points.at(&entry.volume.name),
        };
        let mut places: Vec<PathBuf> = entry.holds.values().map(place).collect();
        places.sort_by_key(|place| (!self.0.mount_points.contain(place), place.clone()));
        places.dedup();
        places
    }

    /// Unmounts one place. The directory goes too if it is the daemon's own.
    pub(super) async fn take_away(&self, name: &Name, target: &Path) -> Result<()> {
        let entry = self.known(name)?;
        let driver = self.driver_of(&entry.volume)?;
        let (at, volume) = (target.to_owned(), entry.volume.clone());
        self.blocking(move |inner| {
            driver.unmount(&volume, &at)?;
            fault::point("unmount.acted");
            if inner.mount_points.contain(&at) {
                inner.mount_points.remove(volume.name.as_str());
            }
            Ok(())
        })
        .await?;
        self.catalog_mut().update(name, |entry| {
            if entry.mounted.as_deref() == Some(target) {
                entry.mounted = None;
            }
        });
        self.0.usage.ask(name);
        Ok(())
    }
}

/// A mount point that a person gave.
pub(super) fn acceptable(path: PathBuf) -> Result<PathBuf> {
    let refuse = |expected: &str| {
        let value = path.display().to_string();
        Err(InvalidValue::Value {
            option: "mountpoint".to_owned(),
            value,
            expected: expected.to_owned(),
        }
        .into())
    };
    if !path.is_absolute()
        || path
            .components()
            .any(|c| matches!(c, std::path::Component::ParentDir))
    {
        return refuse("an absolute path without '..'");
    }
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => Ok(path),
        Ok(_) => refuse("a directory"),
        Err(_) => {
            refuse("an existing directory (as the daemon sees the files: a managed plugin sees only its own)")
        }
    }
}

fn listed(holds: &[&Hold]) -> String {
    let short = |id: &str| match id.strip_prefix(OWN) {
        Some(at) => format!("'windlass mount' at {at}"),
        None => format!("mount id {}", id.chars().take(12).collect::<String>()),
    };
    let mut names: Vec<String> = holds.iter().take(5).map(|hold| short(&hold.mount_id)).collect();
    if holds.len() > 5 {
        names.push(format!("{} more", holds.len() - 5));
    }
    names.join(", ")
}
