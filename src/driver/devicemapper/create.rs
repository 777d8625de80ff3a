//! Making volumes: new, as a clone, or taken up again.
//!
//! A new volume:
//! 1. A thin device is made, empty or as the snapshot is, with a record of its own in `staging`.
//! 2. It gets a filesystem, or its copy of one is set apart from the original; its root directory gets its owner.
//! 3. **The volume's record is made and that in `staging` goes**, in one step. Before it, recovery deletes the device.
//!
//! A volume that waits for its data has no device yet: it is its record and nothing else.

use uuid::Uuid;

use super::super::{CloneOf, Create, Created, DriverError, Origin, Outcome, Result};
use super::kernel::Writable;
use super::ledger::{Change, Entry, Make};
use super::options::Filesystem;
use super::records::{Place, Record, Staged, ThinId};
use super::{Devicemapper, NAME, entry, filesystem};
use crate::model::{Bytes, InvalidValue, Volume};
use crate::sys::fault::point;

/// Sizes are rounded up to this: filesystems count in no less.
pub(super) const ROUNDING: u64 = 4096;

impl Devicemapper {
    pub(super) fn create_volume(&self, create: &Create) -> Result<Created> {
        let name = &create.volume.name;
        check_request(create)?;
        if self.records().volume(name)?.is_some() {
            return Err(DriverError::AlreadyExists {
                what: format!("volume {name}"),
                remedy: String::new(),
            });
        }
        if let Some(kept) = self.records().kept(name)? {
            return self.take_up(create, kept);
        }
        let volume = self.complete(create)?;
        self.pool.check_room(&format!("a new volume {name}"))?;
        let made = self.make(create, volume);
        let volume = self.settle(
            made,
            || self.recover_create(create),
            || Ok(self.records().must_have(name, create.volume.id)?.volume),
        )?;
        let origin = match create.from {
            Some(_) => Origin::Clone,
            None => Origin::New,
        };
        Ok(Created { volume, origin })
    }

    /// The record as it will be, if it can be.
    fn complete(&self, create: &Create) -> Result<Volume> {
        let mut volume = create.volume.clone();
        volume.driver = NAME.to_owned();
        volume.snapshots.clear();
        filesystem_of(&volume)?;
        let size = match &create.from {
            None => volume.size.unwrap_or(self.options.default_size).0,
            Some(from) => {
                let had = Self::size_of(&self.source_of(&volume, from)?.0.volume)?;
                let wanted = volume.size.map_or(had, |size| size.0);
                if wanted < had {
                    return Err(InvalidValue::Value {
                        option: "size".to_owned(),
                        value: wanted.to_string(),
                        expected: format!("at least that of the snapshot's volume, {had} bytes"),
                    }
                    .into());
                }
                wanted
            }
        };
        volume.size = Some(Bytes(size.next_multiple_of(ROUNDING)));
        Ok(volume)
    }

    /// The record of a clone's source, and the thin device of the snapshot.
    fn source_of(&self, volume: &Volume, from: &CloneOf) -> Result<(Record, ThinId)> {
        let what = format!("snapshot {}@{}", from.volume.name, from.snapshot.name);
        if from.volume.driver != NAME {
            return Err(DriverError::Unsupported {
                what: format!("volume {} as a clone of {what}", volume.name),
                because: format!("the snapshot is held by the driver {}", from.volume.driver),
            });
        }
        let record = self.records().same(&from.volume.name, from.volume.id)?;
        let thin = record
            .as_ref()
            .and_then(|record| record.snapshots.get(&from.snapshot.id).copied());
        match (record, thin) {
            (Some(record), Some(thin)) => Ok((record, thin)),
            _ => Err(DriverError::NotFound { what }),
        }
    }

    fn make(&self, create: &Create, volume: Volume) -> Result<Volume> {
        if volume.restoring.is_some() {
            return self.put(Record::new(volume, None));
        }
        let (id, size) = (volume.id.uuid(), Self::size_of(&volume)?);
        let thin = match &create.from {
            None => self.stage(id, size, None)?,
            Some(from) => self.stage(id, size, Some(self.source_of(&volume, from)?.1))?,
        };
        point("create.staged");
        let device = self.pin(thin, size, Writable::Yes)?;
        match &create.from {
            None => {
                let fs = filesystem_of(&volume)?.unwrap_or(self.options.filesystem);
                filesystem::make(device.path(), fs)?;
                point("create.formatted");
                filesystem::furnish(device.path(), fs, &create.root)?;
            }
            Some(from) => {
                filesystem::set_apart(device.path())?;
                point("create.apart");
                let had = self.source_of(&volume, from)?.0.volume.size;
                if volume.size > had {
                    filesystem::grow(device.path(), None)?;
                }
                filesystem::set_owner(device.path(), &create.root)?;
            }
        }
        point("create.filled");
        drop(device);
        point("create.ready");
        self.commit(Change {
            puts: vec![entry(Record::new(volume.clone(), Some(thin)))],
            removes: vec![Place::Staging(id)],
            ..Change::default()
        })?;
        point("create.recorded");
        Ok(volume)
    }

    /// Makes a thin device that only a record in `staging` names.
    pub(super) fn stage(&self, id: Uuid, size: u64, origin: Option<ThinId>) -> Result<ThinId> {
        let thin = self.ledger.new_thin()?;
        let change = Change {
            makes: vec![Make { thin, origin }],
            puts: vec![(Place::Staging(id), Entry::Staged(Staged { thin, size }))],
            ..Change::default()
        };
        match origin {
            None => self.commit(change)?,
            Some(origin) => self.commit_frozen(origin, change)?,
        }
        Ok(thin)
    }

    /// Deletes the device that a record in `staging` names, if there is one.
    pub(super) fn discard_staged(&self, id: Uuid, volume: &Volume) -> Result<()> {
        let Some(staged) = self.records().staged(id)? else {
            return Ok(());
        };
        self.retire(staged.thin, volume)?;
        self.commit(Change {
            removes: vec![Place::Staging(id)],
            deletes: vec![staged.thin],
            ..Change::default()
        })
    }

    fn take_up(&self, create: &Create, kept: Record) -> Result<Created> {
        let name = &create.volume.name;
        let let_go = kept.removed.unwrap_or(kept.volume.created);
        let occupied = |remedy: &str| {
            Err(DriverError::AlreadyExists {
                what: format!("volume {name}, which was let go at {let_go},"),
                remedy: remedy.to_owned(),
            })
        };
        if create.from.is_some() {
            return occupied("create it without `from` to take it up again, or give another name");
        }
        if create.volume.restoring.is_some() {
            return occupied("create it without `backup` to take it up again, or give another name");
        }
        let rounded = |size: Option<Bytes>| size.map(|size| size.0.next_multiple_of(ROUNDING));
        if create.volume.size.is_some() && rounded(create.volume.size) != rounded(kept.volume.size) {
            return occupied("create it without `size` to take it up again, and resize it then");
        }
        let mut record = kept;
        if let Some(thin) = record.thin {
            let device = self.pin(thin, Self::size_of(&record.volume)?, Writable::Yes)?;
            filesystem::set_owner(device.path(), &create.root)?;
            point("create.furnished");
        }
        merge_wishes(&mut record.volume, &create.volume);
        (record.removed, record.done) = (None, Some(create.volume.id.uuid()));
        let volume = record.volume.clone();
        let taken = self.commit(Change {
            puts: vec![entry(record)],
            removes: vec![Place::Kept(name.clone())],
            ..Change::default()
        });
        let taken = taken.map(|()| volume.clone());
        let volume = self.settle(taken, || self.recover_create(create), || Ok(volume))?;
        point("create.taken-up");
        Ok(Created {
            volume,
            origin: Origin::TakenUpAgain { let_go },
        })
    }

    pub(super) fn recover_create(&self, create: &Create) -> Result<Outcome> {
        let Volume { id, name, .. } = &create.volume;
        self.ledger.settle(&self.pool)?;
        let record = self.records().volume(name)?;
        self.discard_staged(id.uuid(), &create.volume)?;
        let is_ours = |record: Record| record.volume.id == *id || record.done == Some(id.uuid());
        Ok(match record.is_some_and(is_ours) {
            true => Outcome::Finished,
            false => Outcome::Undone,
        })
    }
}

/// What no volume of this driver can be.
fn check_request(create: &Create) -> Result<()> {
    let conflict = |second| {
        let why = "the volume's data can come from one place only";
        let first = "backup";
        Err(InvalidValue::Conflict { first, second, why }.into())
    };
    match (&create.volume.restoring, &create.from, create.adopt) {
        (Some(_), Some(_), _) => return conflict("from"),
        (Some(_), None, true) => return conflict("adopt"),
        _ => {}
    }
    let refuse = |what: &str, because: &str| {
        Err(DriverError::Unsupported {
            what: format!("{what} of volume {}", create.volume.name),
            because: because.to_owned(),
        })
    };
    if create.adopt {
        return refuse(
            "adopt",
            "the driver devicemapper holds devices, not directories; give -o driver=vfs",
        );
    }
    if create.volume.vm {
        return refuse(
            "vm",
            "the driver devicemapper gives no disk images to virtual machines; give -o driver=vfs",
        );
    }
    Ok(())
}

fn filesystem_of(volume: &Volume) -> Result<Option<Filesystem>> {
    let given = volume.options.get("fs");
    Ok(given.map(|value| Filesystem::parse("fs", value)).transpose()?)
}

/// What the new request says wins; what it does not mention stays.
fn merge_wishes(volume: &mut Volume, wishes: &Volume) {
    volume.policy = wishes.policy.clone().or(&volume.policy);
    volume.options.extend(wishes.options.clone());
}
