//! Create, remove, look up.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::Entry;
use super::restores::FromBackup;
use super::travel::{self, Chosen};
use super::{By, Result, Service, ServiceError, stored};
use crate::driver::{CloneOf, Create, Created, Driver, Grow, Operation, Origin, Remove};
use crate::model::{
    BeganAs, Bytes, CreateOptions, Name, OnRemove, SnapshotRef, Span, Time, Volume, VolumeId, nearest,
};
use crate::state::Effect;

/// A wish for a volume.
#[derive(Debug)]
pub struct CreateRequest {
    /// The name; a random one without it.
    pub name: Option<Name>,
    /// The options as given.
    pub options: BTreeMap<String, String>,
    /// Who wishes.
    pub by: By,
}

/// What a new volume begins as.
struct Begin {
    /// A snapshot.
    from: Option<CloneOf>,
    /// A backup.
    origin: Option<FromBackup>,
    /// The one of the two that was chosen for a moment, or a snapshot that was named.
    began_as: Option<BeganAs>,
}

/// A wish to be rid of a volume.
#[derive(Debug)]
pub struct RemoveRequest {
    /// A name or, from the admin API, an id.
    pub volume: String,
    /// Instead of the volume's policy.
    pub how: Option<OnRemove>,
    /// Who wishes.
    pub by: By,
}

impl Service {
    /// Makes a volume. Says what the user should know about where its contents come from.
    ///
    /// From Docker it is idempotent: a volume of that name with the same options (or none given) is a success.
    pub async fn create(&self, request: CreateRequest) -> Result<(Entry, Vec<String>)> {
        let mut options = CreateOptions::parse(&request.options)?;
        let slot = self.driver_called(options.driver.as_deref())?;
        let name = request.name.unwrap_or_else(Name::random_volume);
        let this = self.clone();
        self.change(async move {
            let chosen = match options.from.take() {
                None => None,
                Some(from) => {
                    // A create that is repeated looks for nothing: what the volume began as may be gone.
                    let _held = this.0.locks.lock(name.as_str()).await;
                    if let Some(entry) = this.look_up(&name).await? {
                        return existing(entry, &request.options, request.by)
                            .map(|entry| (entry, Vec::new()));
                    }
                    Some(this.choose(&from).await?)
                }
            };
            match chosen.as_ref().map(|chosen| &chosen.of) {
                Some(travel::Origin::Snapshot(snapshot)) => options.from = Some(snapshot.clone()),
                Some(travel::Origin::Backup(url)) => options.backup = Some(url.clone()),
                None => {}
            }
            let other = options.from.as_ref().and_then(|from| from.volume.as_deref());
            let names = [name.as_str()].into_iter().chain(other);
            let _held = this.0.locks.lock_all(names).await;
            if let Some(entry) = this.look_up(&name).await? {
                return existing(entry, &request.options, request.by).map(|entry| (entry, Vec::new()));
            }
            let driver = this.0.drivers[slot].get()?;
            super::policies::check_possible(&options.policy, &*driver)?;
            let origin = this.origin(&options, driver.capabilities().content).await?;
            let from = options
                .from
                .as_ref()
                .map(|from| this.clone_source(from, &driver))
                .transpose()?;
            let began_as = chosen.as_ref().map(Chosen::began_as);
            let told = began_as.clone();
            let created = this
                .create_new(
                    driver,
                    &name,
                    &request.options,
                    options,
                    Begin {
                        from,
                        origin,
                        began_as,
                    },
                )
                .await?;
            let mut notes = notes(&created);
            notes.extend(chosen.and_then(|chosen| chosen.note));
            let origin = match &created.volume.restoring {
                Some(restoring) if stored::is_snapshot(&restoring.from) => "clone",
                Some(_) => "backup",
                None => origin_word(&created.origin),
            };
            let mut about = vec![
                ("driver", created.volume.driver.clone()),
                ("origin", origin.to_owned()),
            ];
            about.extend(
                told.into_iter()
                    .flat_map(|told| [("from", told.from), ("at", told.at.to_string())]),
            );
            this.events().emit("volume.create", &name, &about);
            this.catalog_mut().put(created.volume.clone());
            if let Err(error) = this.begin_restore(&created.volume).await {
                // The volume is there and says what it waits for: a mount or the next start begins again.
                notes.push(format!("volume {name} is not being restored yet: {error}"));
            }
            this.0.usage.ask(&name);
            let entry = this.catalog().find(name.as_str())?.clone();
            Ok((entry, notes))
        })
        .await
    }

    async fn create_new(
        &self,
        driver: Arc<dyn Driver>,
        name: &Name,
        given: &BTreeMap<String, String>,
        options: CreateOptions,
        begin: Begin,
    ) -> Result<Created> {
        let Begin {
            from,
            origin,
            began_as,
        } = begin;
        let mut volume = Volume {
            id: VolumeId::random(),
            name: name.clone(),
            driver: driver.name().to_owned(),
            created: Time::now(),
            size: options.size,
            vm: options.vm,
            options: given.clone(),
            policy: options.policy,
            snapshots: Vec::new(),
            restoring: None,
            restored_from: None,
            began_as,
            private: BTreeMap::new(),
            later: BTreeMap::new(),
        };
        if let Some(origin) = &origin {
            origin.mark(&mut volume, self.state_id());
        }
        // What a repository holds, the driver cannot clone: the volume is made first and filled then.
        let (stored, from) = match from {
            Some(from) if from.snapshot.stored.is_some() => (Some(from), None),
            from => (None, from),
        };
        if let Some(stored) = &stored {
            stored::mark_clone(&mut volume, stored, self.state_id())?;
        }
        let create = Create {
            volume,
            root: options.root,
            adopt: options.adopt,
            from,
        };
        self.blocking(move |inner| {
            let operation = Operation::Create(create.clone());
            inner.perform(
                &driver,
                &operation,
                |d| d.create(&create),
                |c: &Created| Effect::Put(c.volume.clone()),
            )
        })
        .await
    }

    /// The snapshot to clone, read again under its volume's lock.
    fn clone_source(&self, from: &SnapshotRef, driver: &Arc<dyn Driver>) -> Result<CloneOf> {
        let (volume, snapshot) = self.catalog().find_snapshot(from)?;
        if volume.driver != driver.name() {
            return Err(crate::driver::DriverError::Unsupported {
                what: format!("clone of {}@{}", volume.name, snapshot.name),
                because: format!(
                    "the snapshot is held by driver {}, and the clone would be by {}; give -o driver={}",
                    volume.driver,
                    driver.name(),
                    volume.driver
                ),
            }
            .into());
        }
        Ok(CloneOf {
            volume: (*volume).clone(),
            snapshot,
        })
    }

    /// Takes a volume away, in the way that its policy says. Says what became of it.
    ///
    /// From Docker it is idempotent: a volume that is not there is a success.
    pub async fn remove(&self, request: RemoveRequest) -> Result<(Name, OnRemove, Vec<String>)> {
        let this = self.clone();
        self.change(async move {
            // The engine names a volume in full. What a person may abbreviate, it must not: a name that is gone may
            // be the beginning of another volume's id.
            let name = match request.by {
                By::Admin => this.resolve(&request.volume).await?,
                By::Docker => Name::volume(&request.volume)?,
            };
            // Before the lock, which the restore's last step takes.
            if this
                .known(&name)
                .is_ok_and(|entry| !this.policy_of(&entry.volume).is_protected())
            {
                this.cancel_restore_of(&name).await;
                if let Ok(entry) = this.known(&name) {
                    this.cancel_drill_of(&entry.volume).await;
                }
            }
            let held = this.0.locks.lock(name.as_str()).await;
            let entry = match this.look_up_surely(&name).await {
                Err(ServiceError::NotFound { .. }) if request.by == By::Docker => {
                    return Ok((name, OnRemove::Keep, vec!["there was no such volume".to_owned()]));
                }
                found => found?,
            };
            let volume = entry.volume.clone();
            if this.policy_of(&volume).is_protected() {
                return Err(ServiceError::Protected { volume: name });
            }
            if let Some(by) = this.reader_of(&name, None) {
                let what = format!("volume {name}");
                return Err(ServiceError::Read { what, by });
            }
            let driver = this.driver_of(&volume)?;
            this.refuse_shown(&entry, &driver, None).await?;
            this.free(&entry, &driver, request.by).await?;
            this.stop_pruning(volume.id).await;
            this.0.stored.close(volume.id);
            let settings = this.settings();
            let how = match request.by {
                By::Docker if settings.ignore_docker_delete => OnRemove::Keep,
                _ => request
                    .how
                    .or(volume.policy.on_remove)
                    .unwrap_or(settings.on_remove),
            };
            let now = Time::now();
            let ttl = match how {
                OnRemove::Trash => volume.policy.trash_ttl.unwrap_or(settings.trash_ttl),
                OnRemove::Delete | OnRemove::Keep => Span::seconds(0),
            };
            let remove = Remove {
                volume: (*volume).clone(),
                how,
                at: now,
                expires: now.after(ttl),
            };
            this.blocking(move |inner| {
                let operation = Operation::Remove(remove.clone());
                inner.perform(
                    &driver,
                    &operation,
                    |d| d.remove(&remove),
                    |_| Effect::Forget(remove.volume.clone()),
                )
            })
            .await?;
            this.catalog_mut().remove(&name);
            this.0.failed_restores().remove(&name);
            drop(held);
            this.events()
                .emit("volume.remove", &name, &[("how", how.to_string())]);
            let snapshots = volume.snapshots.len();
            if how == OnRemove::Delete {
                this.purge_soon(volume.id, name.clone());
            }
            Ok((name.clone(), how, removal_notes(&name, how, ttl, snapshots)))
        })
        .await
    }

    /// Makes a volume larger, also while it is used.
    pub async fn resize(&self, volume: &str, size: Bytes) -> Result<Entry> {
        let (this, volume) = (self.clone(), volume.to_owned());
        self.change(async move {
            let name = this.resolve(&volume).await?;
            let _held = this.0.locks.lock(name.as_str()).await;
            let entry = this.known(&name)?;
            let driver = this.driver_of(&entry.volume)?;
            let grow = Grow {
                volume: (*entry.volume).clone(),
                size,
            };
            let changed = this
                .blocking(move |inner| {
                    let operation = Operation::Grow(grow.clone());
                    inner.perform(
                        &driver,
                        &operation,
                        |d| d.grow(&grow),
                        |volume| Effect::Put(volume.clone()),
                    )
                })
                .await?;
            let size = changed.size.map_or(0, |size| size.0);
            this.catalog_mut().put(changed);
            this.0.usage.ask(&name);
            this.events()
                .emit("volume.resize", &name, &[("size", size.to_string())]);
            this.known(&name)
        })
        .await
    }

    /// Gives the space back that a volume's removed files took; says how much.
    pub async fn trim(&self, volume: &str) -> Result<(Name, Bytes)> {
        let (this, volume) = (self.clone(), volume.to_owned());
        self.change(async move {
            let name = this.resolve(&volume).await?;
            let _held = this.0.locks.lock(name.as_str()).await;
            let entry = this.known(&name)?;
            let driver = this.driver_of(&entry.volume)?;
            let freed = this.blocking(move |_| Ok(driver.trim(&entry.volume)?)).await?;
            this.0.usage.ask(&name);
            Ok((name, freed))
        })
        .await
    }

    /// Forbids or allows the removal of a volume.
    pub async fn protect(&self, volume: &str, protect: bool) -> Result<Entry> {
        let change = BTreeMap::from([("protect".to_owned(), Some(protect.to_string()))]);
        self.change_policy(volume, &change).await
    }

    /// All volumes, as they are in memory.
    pub async fn list(&self, driver: Option<&str>) -> Result<Vec<Entry>> {
        self.ready().await;
        if let Some(driver) = driver {
            self.driver_called(Some(driver))?;
        }
        let wanted = |entry: &&Entry| driver.is_none_or(|driver| entry.volume.driver == driver);
        Ok(self.catalog().entries().filter(wanted).cloned().collect())
    }

    /// All volumes as memory has them, without waiting for anything.
    pub fn entries(&self) -> Vec<Entry> {
        self.catalog().entries().cloned().collect()
    }

    /// A volume as memory has it, without waiting for anything.
    pub fn in_memory(&self, name: &Name) -> Option<Entry> {
        self.catalog().get(name).cloned()
    }

    /// A volume by its very name, as Docker asks for it. Answered from memory if it is there; otherwise waits for a
    /// create of that name under way and looks into the drivers' records, because "does not exist" makes the
    /// engine forget what it knew about the volume.
    pub async fn get(&self, name: &Name) -> Result<Entry> {
        self.ready().await;
        if let Some(entry) = self.catalog().get(name) {
            self.0.usage.ask_if_old(entry);
            return Ok(entry.clone());
        }
        let _held = self.0.locks.lock(name.as_str()).await;
        self.look_up_surely(name).await
    }

    /// A volume by name, id or beginning of an id.
    pub async fn inspect(&self, text: &str) -> Result<Entry> {
        let name = self.resolve(text).await?;
        self.known(&name)
    }

    /// The name of the volume that a person means.
    pub(super) async fn resolve(&self, text: &str) -> Result<Name> {
        self.ready().await;
        let missing = match self.catalog().find(text) {
            Ok(entry) => return Ok(entry.volume.name.clone()),
            Err(error) => error,
        };
        match (missing, Name::volume(text)) {
            (ServiceError::NotFound { .. }, Ok(name)) => self.get(&name).await.map(|e| e.volume.name.clone()),
            (error, _) => Err(error),
        }
    }

    pub(super) fn known(&self, name: &Name) -> Result<Entry> {
        self.catalog()
            .get(name)
            .cloned()
            .ok_or_else(|| not_found(name.as_str()))
    }

    /// The volume in memory or in a driver's records, where another host may have made it. Under the name's lock.
    pub(super) async fn look_up(&self, name: &Name) -> Result<Option<Entry>> {
        if let Some(entry) = self.catalog().get(name) {
            return Ok(Some(entry.clone()));
        }
        let wanted = name.clone();
        let found = self
            .blocking(move |inner| {
                for driver in inner.drivers.iter().filter_map(|slot| slot.get().ok()) {
                    if let Some(volume) = driver.volume(&wanted)? {
                        inner.state.put(&volume)?;
                        return Ok(Some(volume));
                    }
                }
                Ok(None)
            })
            .await?;
        let Some(volume) = found else { return Ok(None) };
        self.catalog_mut().put(volume);
        self.known(name).map(Some)
    }

    /// The same for callers to whom "does not exist" must be the truth: while a driver is away, it is not known.
    async fn look_up_surely(&self, name: &Name) -> Result<Entry> {
        if let Some(entry) = self.look_up(name).await? {
            return Ok(entry);
        }
        match self.0.drivers.iter().find_map(|slot| slot.get().err()) {
            Some(away) => Err(away),
            None => Err(not_found(name.as_str())),
        }
    }

    /// The driver that holds the volume, unless something keeps the volume from being used.
    pub(super) fn driver_of(&self, volume: &Volume) -> Result<Arc<dyn Driver>> {
        let slot = self.0.drivers.iter().find(|slot| slot.name() == volume.driver);
        let slot = slot.ok_or_else(|| {
            let message = format!(
                "volume {}: its driver {} is not among the daemon's drivers; start the daemon with it",
                volume.name, volume.driver
            );
            ServiceError::Unavailable(message)
        })?;
        let driver = slot.get()?;
        match self.catalog().get(&volume.name).and_then(|e| e.trouble.clone()) {
            Some(trouble) => Err(ServiceError::Unavailable(format!(
                "volume {}: {trouble}",
                volume.name
            ))),
            None => Ok(driver),
        }
    }

    fn driver_called(&self, name: Option<&str>) -> Result<usize> {
        let Some(name) = name else { return Ok(0) };
        let names = || self.0.drivers.iter().map(|slot| slot.name());
        names().position(|driver| driver == name).ok_or_else(|| {
            let hint = nearest(name, names())
                .map(|n| format!(", did you mean {n:?}?"))
                .unwrap_or_default();
            let drivers = names().collect::<Vec<_>>().join(", ");
            let shown: String = name.chars().take(80).collect();
            ServiceError::NoSuchDriver {
                driver: format!("{shown:?}{hint}"),
                drivers,
            }
        })
    }
}

pub(super) fn not_found(name: &str) -> ServiceError {
    ServiceError::NotFound {
        what: "volume",
        name: name.to_owned(),
    }
}

/// A create of a name that is there already.
fn existing(entry: Entry, given: &BTreeMap<String, String>, by: By) -> Result<Entry> {
    let refuse = |why| {
        Err(ServiceError::AlreadyExists {
            what: "volume",
            name: entry.volume.name.to_string(),
            why,
        })
    };
    if by == By::Admin {
        return refuse(String::new());
    }
    let differs = given.iter().find(|(key, value)| {
        let had = match key.as_str() {
            "driver" => Some(&entry.volume.driver),
            key => entry.volume.options.get(key),
        };
        had != Some(value)
    });
    match differs {
        None => Ok(entry),
        Some((key, value)) => {
            let had = entry
                .volume
                .options
                .get(key)
                .map_or("not given".to_owned(), |had| format!("{had:?}"));
            refuse(format!(
                " with other options: {key} was {had} and is now {value:?}"
            ))
        }
    }
}

fn origin_word(origin: &Origin) -> &'static str {
    match origin {
        Origin::New => "new",
        Origin::Clone => "clone",
        Origin::Adopted => "adopted",
        Origin::TakenUpAgain { .. } => "taken-up-again",
    }
}

fn notes(created: &Created) -> Vec<String> {
    let name = &created.volume.name;
    match &created.origin {
        Origin::New | Origin::Clone => Vec::new(),
        Origin::Adopted => vec![format!(
            "volume {name} was made from the directory that was there, with its contents"
        )],
        Origin::TakenUpAgain { let_go } => vec![format!(
            "volume {name} was let go on {let_go} and is taken up again, with its contents and {} snapshots",
            created.volume.snapshots.len()
        )],
    }
}

fn removal_notes(name: &Name, how: OnRemove, ttl: Span, snapshots: usize) -> Vec<String> {
    let with = match snapshots {
        0 => String::new(),
        1 => " with its snapshot".to_owned(),
        n => format!(" with its {n} snapshots"),
    };
    vec![match how {
        OnRemove::Trash => format!(
            "volume {name}{with} is in the trash for {ttl}; 'windlass undelete {name}' brings it back"
        ),
        OnRemove::Delete => format!("volume {name}{with} is deleted"),
        OnRemove::Keep => {
            format!("volume {name} is let go, its data{with} stays; a create of that name takes it up again")
        }
    }]
}
