//! Time travel: which state of a volume is meant by a moment, or by a name.
//!
//! Of what there is on this host, the youngest snapshot that is not younger than the moment; where there is none, the youngest such
//! backup. A name is stronger than a moment that is written the same. Nothing is changed here: what is chosen may be gone when
//! it is used, and is then refused there.

use std::sync::Arc;
use std::time::Duration;

use super::{Listed, Result, Service, ServiceError};
use crate::engine::EngineError;
use crate::model::{BeganAs, Consistency, Moment, Name, SnapshotRef, Task, Time, Volume, nearest};

/// How long a create may look through a destination: the engine waits 30 s at the least.
const LOOK_UP: Duration = Duration::from_secs(20);

/// The state of a volume that another one is to begin as.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub of: Origin,
    /// Its moment.
    pub at: Time,
    /// What a person should know of the choice.
    pub note: Option<String>,
}

/// Where a state is.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// With its volume's driver: volume and name.
    Snapshot(SnapshotRef),
    /// The URL of a backup.
    Backup(String),
}

impl Chosen {
    /// The record of the choice.
    pub fn began_as(&self) -> BeganAs {
        BeganAs {
            from: match &self.of {
                Origin::Snapshot(snapshot) => snapshot.to_string(),
                Origin::Backup(url) => url.clone(),
            },
            at: self.at,
            later: Default::default(),
        }
    }

    fn noted(mut self, from: &SnapshotRef, moment: Time) -> Self {
        let chosen = match &self.of {
            Origin::Snapshot(snapshot) => format!("the snapshot {snapshot}"),
            Origin::Backup(url) => format!("the backup {url}, since no snapshot here is as old"),
        };
        self.note = Some(format!(
            "{from} ({moment}): the youngest state by then is that of {}, {chosen}",
            self.at
        ));
        self
    }
}

/// A volume as far as anything is left of it.
pub(super) struct Remains {
    pub name: Name,
    /// Its record, where it is here or in the trash.
    pub volume: Option<Arc<Volume>>,
    /// When it was removed, if it is in the trash.
    pub removed: Option<Time>,
}

/// A backup with the moment of its data.
pub(super) struct Dated {
    pub listed: Listed,
    pub at: Time,
}

impl Service {
    /// The state that `from` means.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchState`], which names what there is instead.
    pub(super) async fn choose(&self, from: &SnapshotRef) -> Result<Chosen> {
        self.ready().await;
        let Some(moment) = Moment::parse(&from.snapshot) else {
            return self.choose_by_name(from);
        };
        let (now, zone) = (Time::now(), self.settings().time_zone);
        let remains = self.remains(from.volume.as_deref().unwrap_or_default()).await?;
        if let Some(named) = remains.here().and_then(|volume| {
            let named = volume.snapshots.iter().find(|s| s.name.as_str() == from.snapshot);
            named.map(|snapshot| chosen_snapshot(volume, snapshot))
        }) {
            return Ok(named);
        }
        let refuse = |why: String| ServiceError::NoSuchState {
            from: from.to_string(),
            why,
        };
        let moment = match moment.time(now, &zone) {
            Some(moment) if moment <= now => moment,
            _ => return Err(refuse("that moment is yet to come".to_owned())),
        };
        let snapshots = remains.here().map_or(&[][..], |volume| &volume.snapshots);
        // Those of a backup under way go with it.
        let lasting = || {
            snapshots
                .iter()
                .filter(|s| !Task::Backup.has_made(s.name.as_str()))
        };
        let best = lasting()
            .filter(|s| s.created <= moment)
            .max_by_key(|s| s.created);
        if let (Some(volume), Some(best)) = (remains.here(), best) {
            return Ok(chosen_snapshot(volume, best).noted(from, moment));
        }
        let looked = tokio::time::timeout(LOOK_UP, self.dated_backups(&remains)).await;
        let backups = looked.map_err(|_| {
            ServiceError::Unavailable(format!(
                "{from}: no snapshot here is as old, and the destination of its backups has not answered for {} s",
                LOOK_UP.as_secs()
            ))
        })??;
        let all = || backups.iter().flatten();
        if let Some(best) = all()
            .filter(|dated| dated.at <= moment)
            .max_by_key(|dated| dated.at)
        {
            let chosen = Chosen {
                of: Origin::Backup(best.listed.url.clone()),
                at: best.at,
                note: None,
            };
            return Ok(chosen.noted(from, moment));
        }
        if remains.volume.is_none() && all().next().is_none() {
            return Err(super::volumes::not_found(remains.name.as_str()));
        }
        let oldest = lasting().min_by_key(|s| s.created);
        let oldest = match oldest {
            Some(snapshot) => format!("the oldest snapshot is {} of {}", snapshot.name, snapshot.created),
            None => "there is no snapshot".to_owned(),
        };
        let backup = match (all().min_by_key(|dated| dated.at), &backups) {
            (Some(dated), _) => format!("the oldest backup is {} of {}", dated.listed.url, dated.at),
            (None, Some(_)) => "there is no backup".to_owned(),
            (None, None) => "backups have no destination".to_owned(),
        };
        let trash = match remains.removed {
            Some(_) => format!(
                "; 'windlass undelete {}' brings it back with its snapshots",
                remains.name
            ),
            None => String::new(),
        };
        Err(refuse(format!(
            "nothing of it is from {moment} or before; {oldest}, and {backup}{trash}"
        )))
    }

    fn choose_by_name(&self, from: &SnapshotRef) -> Result<Chosen> {
        let catalog = self.catalog();
        let missing = match catalog.find_snapshot(from) {
            Ok((volume, snapshot)) => return Ok(chosen_snapshot(&volume, &snapshot)),
            Err(error @ ServiceError::NotFound { what: "snapshot", .. }) => error,
            Err(error) => return Err(error),
        };
        let Ok(entry) = catalog.find(from.volume.as_deref().unwrap_or_default()) else {
            return Err(missing);
        };
        let names: Vec<&str> = entry.volume.snapshots.iter().map(|s| s.name.as_str()).collect();
        let hint = match (nearest(&from.snapshot, names.iter().copied()), names.last()) {
            (Some(nearest), _) => format!("did you mean {}@{nearest}?", entry.volume.name),
            (None, Some(last)) => format!(
                "its latest is {}@{last}; moments are written @2h or @2026-11-20T08:00",
                entry.volume.name
            ),
            (None, None) => "it has none".to_owned(),
        };
        Err(ServiceError::NoSuchState {
            from: from.to_string(),
            why: format!("the volume has no such snapshot; {hint}"),
        })
    }

    /// What is left of the volume that a person means: here, in the trash, or only its name.
    pub(super) async fn remains(&self, text: &str) -> Result<Remains> {
        self.ready().await;
        let missing = match self.catalog().find(text) {
            Ok(entry) => {
                return Ok(Remains {
                    name: entry.volume.name.clone(),
                    volume: Some(entry.volume.clone()),
                    removed: None,
                });
            }
            Err(error) => error,
        };
        let Ok(name) = Name::volume(text) else {
            return Err(missing);
        };
        let trashed = self
            .trash()
            .await?
            .into_iter()
            .find(|trashed| trashed.volume.name == name);
        Ok(Remains {
            name,
            removed: trashed.as_ref().map(|trashed| trashed.removed),
            volume: trashed.map(|trashed| Arc::new(trashed.volume)),
        })
    }

    /// The backups of a volume where its policy has them made, or else where the daemon's settings do; `None` where nobody says
    /// where that is. Those of another volume of the same name are not its.
    pub(super) async fn dated_backups(&self, of: &Remains) -> Result<Option<Vec<Dated>>> {
        let settings = self.settings();
        let policy = match &of.volume {
            Some(volume) => self.policy_of(volume),
            None => (*settings.policy).clone(),
        };
        if policy.backup_dest.is_none() && settings.backups.destination.is_none() {
            return Ok(None);
        }
        let found = self
            .backups(policy.backup_dest.as_deref(), None, Some(of.name.clone()))
            .await;
        let found = match found {
            Err(ServiceError::Engine(EngineError::NoRepository { .. })) => Vec::new(),
            found => found?,
        };
        let ids = of.volume.as_ref().map(|volume| {
            let before = volume.restored_from.as_ref().map(|from| from.volume);
            [Some(volume.id.uuid()), before]
        });
        let is_its = |listed: &Listed| match (&ids, listed.backup.manifest()) {
            (Some(ids), Some(manifest)) => ids.contains(&Some(manifest.volume.id)),
            _ => true,
        };
        let dated = found.into_iter().filter(is_its).map(|listed| Dated {
            at: moment_of(&listed),
            listed,
        });
        Ok(Some(dated.collect()))
    }
}

impl Remains {
    /// The volume, unless it was removed.
    pub fn here(&self) -> Option<&Arc<Volume>> {
        self.volume.as_ref().filter(|_| self.removed.is_none())
    }
}

fn chosen_snapshot(volume: &Volume, snapshot: &crate::model::Snapshot) -> Chosen {
    Chosen {
        of: Origin::Snapshot(SnapshotRef {
            volume: Some(volume.name.to_string()),
            snapshot: snapshot.name.to_string(),
        }),
        at: snapshot.created,
        note: None,
    }
}

/// The moment of a backup's data: that of its snapshot, and its end where the volume was written to while it was read.
pub(super) fn moment_of(listed: &Listed) -> Time {
    let made = Time::from_second(listed.backup.record.time.as_second());
    match listed.backup.manifest() {
        Some(manifest) if manifest.snapshot.consistency != Consistency::PerFile.word() => {
            manifest.snapshot.created
        }
        _ => made,
    }
}
