//! Making volumes, and taking over what is there already.
//!
//! A new volume, step by step, and what a crash after each step leaves:
//! 1. `staging/<id>/data` is built: tree or subvolume, contents of a clone, owner, mode, quota, image. Undone: removed.
//! 2. It is synced, and `staging/<id>/ready`, the record to be, is written. Undone: both removed, `ready` first.
//! 3. The name is claimed: `mkdir <path>/<name>`, which has one winner on every filesystem and among all hosts. Undone: the
//!    claim is removed, if it is still empty and still looks like one; that leaves foreign directories alone, and another
//!    host's volume too.
//! 4. `data` is renamed over the claim. From here on recovery goes forward: `ready` without `data` says that the tree at
//!    `<path>/<name>` is ours, and what its record is.
//! 5. The record is created exclusively: the commit.
//! 6. `staging/<id>` is removed, `ready` first.
//!
//! `data` leaves `staging/<id>` by the rename only, and a volume that is undone loses `ready` before `data`: so a directory
//! that a stranger made is never taken for ours.
//!
//! Adopting a directory, or taking up a volume that was let go, moves no data: the record is created (the commit), then
//! owner, mode and quota are set as far as they are given, which recovery repeats. A volume that is taken up keeps its
//! own id; so its record also tells which request took it up.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::super::{CloneOf, Create, Created, DriverError, Origin, Outcome, Result};
use super::layout::{self, Staging};
use super::records::Kept;
use super::{NAME, Vfs, area, doing, records, sync_dir};
use crate::model::{Bytes, InvalidValue, Name, Volume};
use crate::sys::fault::point;
use crate::sys::mount::Access;
use crate::sys::{durable, filesystem, mountinfo};

/// The image in a volume made with `vm`.
const IMAGE: &str = "disk.img";

/// The key in a record's private part that says which request took the volume up again.
const TAKEN_UP_BY: &str = "taken-up-by";

impl Vfs {
    pub(super) fn create_volume(&self, create: &Create) -> Result<Created> {
        self.layout.check_present()?;
        let name = &create.volume.name;
        check_restoring(create)?;
        refuse_device_options(&create.volume)?;
        if let Some(other) = self.layout.read_volume(name)? {
            let remedy = format!("it was created at {}", other.created);
            return Err(DriverError::AlreadyExists {
                what: format!("volume {name}"),
                remedy,
            });
        }
        let data = self.layout.data(name);
        let kept = self.current_kept(name)?;
        if let Some(kept) = kept {
            return self.take_up(create, kept);
        }
        let here = layout::metadata(&data)?.is_some();
        match (create.adopt, here) {
            (true, true) => self.adopt(create, &data),
            (true, false) => Err(DriverError::NotFound {
                what: format!("the directory {} to adopt", data.display()),
            }),
            (false, true) => Err(self.directory_exists(name)),
            (false, false) => self.make(create),
        }
    }

    /// The record of a volume of that name that was let go, if its data are still there. One whose directory somebody
    /// removed is forgotten, unless snapshots of it would be forgotten with it.
    pub(super) fn current_kept(&self, name: &Name) -> Result<Option<Kept>> {
        let Some(kept) = self.layout.read_kept(name)? else {
            return Ok(None);
        };
        let data = self.layout.data(name);
        if layout::is_real_dir(&data)? {
            return Ok(Some(kept));
        }
        if kept.volume.snapshots.is_empty() {
            log::warn!(
                "vfs: volume {name} was let go at {}, and its directory is gone",
                kept.let_go
            );
            records::remove_file(&self.layout.kept(name))?;
            return Ok(None);
        }
        Err(DriverError::Corrupt {
            path: self.layout.kept(name),
            why: format!(
                "it is the record of a volume with {} snapshots that was let go, but the directory {} is gone; put it \
                 back, if only empty, to get at the snapshots",
                kept.volume.snapshots.len(),
                data.display()
            ),
        })
    }

    pub(super) fn directory_exists(&self, name: &Name) -> DriverError {
        DriverError::AlreadyExists {
            what: format!("the directory {}", self.layout.data(name).display()),
            remedy: "create the volume with `-o adopt=true` to take it over, or move it away".to_owned(),
        }
    }

    fn make(&self, create: &Create) -> Result<Created> {
        let volume = self.complete(create)?;
        let staging = self.layout.staging(volume.id.uuid());
        let made = self
            .stage(create, volume, &staging)
            .and_then(|volume| self.publish_staged(volume, &staging));
        let volume = self.settle(
            made,
            || self.recover_create(create),
            || self.layout.must_read(&create.volume.name, create.volume.id),
        )?;
        let origin = if create.from.is_some() {
            Origin::Clone
        } else {
            Origin::New
        };
        Ok(Created { volume, origin })
    }

    /// The record as it will be, if it can be.
    fn complete(&self, create: &Create) -> Result<Volume> {
        let mut volume = create.volume.clone();
        volume.driver = NAME.to_owned();
        volume.snapshots.clear();
        if let Some(from) = &create.from {
            self.check_source(&volume.name, from)?;
            volume.vm = from.volume.vm;
            if volume.vm {
                volume.size = exact_size(volume.size, from.volume.size)?;
            }
        }
        if volume.vm {
            if volume.size.is_none() {
                return Err(image_without_size());
            }
        } else if volume.size.is_some() {
            self.quotas.check(|| format!("size of volume {}", volume.name))?;
        } else if self.quotas.enforced() {
            volume.size = self.default_size;
        }
        self.quotas.prepare(&mut volume)?;
        Ok(volume)
    }

    fn check_source(&self, name: &Name, from: &CloneOf) -> Result<()> {
        if from.volume.driver != NAME {
            return Err(DriverError::Unsupported {
                what: format!(
                    "volume {name} as a clone of {}@{}",
                    from.volume.name, from.snapshot.name
                ),
                because: format!("the snapshot is held by the driver {}", from.volume.driver),
            });
        }
        self.must_have_snapshot(&from.volume, &from.snapshot).map(drop)
    }

    /// Steps 1 and 2.
    fn stage(&self, create: &Create, volume: Volume, staging: &Staging) -> Result<Volume> {
        staging.make()?;
        point("create.staging");
        let data = staging.data();
        match &create.from {
            Some(from) => {
                let source = self.must_have_snapshot(&from.volume, &from.snapshot)?;
                self.copy(&source, &data, Some(&volume))?;
            }
            None => {
                self.trees.make(&data)?;
                point("create.made");
                self.quotas.apply(&volume, &data)?;
            }
        }
        // A volume that waits for its data gets its image with them.
        if create.from.is_none()
            && volume.restoring.is_none()
            && volume.vm
            && let Some(size) = volume.size
        {
            make_image(&data, size)?;
        }
        area::own(&data, &create.root)?;
        point("create.filled");
        if create.from.is_some() {
            durable::sync_filesystem(&data)?;
        }
        sync_dir(&data)?;
        sync_dir(staging.dir())?;
        point("create.synced");
        durable::write_atomic(staging.ready(), &records::to_json(&volume), 0o600)?;
        point("create.ready");
        Ok(volume)
    }

    /// Steps 3 to 6.
    fn publish_staged(&self, volume: Volume, staging: &Staging) -> Result<Volume> {
        if let Err(error) = self.claim(&volume.name) {
            // Not our claim: recovery must not be asked to remove it.
            discard(staging)?;
            return Err(error);
        }
        point("create.claimed");
        durable::rename_sync(staging.data(), self.layout.data(&volume.name))?;
        point("create.published");
        self.layout.create_volume(&volume)?;
        point("create.recorded");
        discard(staging)?;
        Ok(volume)
    }

    /// Claims the name among all hosts and against foreign directories.
    pub(super) fn claim(&self, name: &Name) -> Result<()> {
        let data = self.layout.data(name);
        match area::claim(&data) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(self.directory_exists(name)),
            result => result.map_err(doing("create directory", &data)),
        }
    }

    /// Copies a snapshot to `target`, which is absent. The quota of `limited` is in force there before anything else is,
    /// so that what does not fit is refused, and since files get a project's number when they are made.
    pub(super) fn copy(&self, source: &Path, target: &Path, limited: Option<&Volume>) -> Result<()> {
        let apply = || limited.map_or(Ok(()), |volume| self.quotas.apply(volume, target));
        if self.trees.snapshots_whole(source)? {
            area::snapshot_subvolume(source, target, Access::ReadWrite)?;
            point("copy.made");
            return apply();
        }
        self.trees.make(target)?;
        point("copy.made");
        apply()?;
        self.trees.fill_from_frozen(source, target)
    }

    fn adopt(&self, create: &Create, data: &Path) -> Result<Created> {
        if !layout::is_real_dir(data)? {
            return Err(DriverError::Corrupt {
                path: data.to_owned(),
                why: "it is not a directory, so it cannot be adopted".to_owned(),
            });
        }
        let mounts = mountinfo::read_self()?;
        if mountinfo::find_at(&mounts, data).is_some() {
            return Err(DriverError::Unsupported {
                what: format!("adoption of {}", data.display()),
                because: "another filesystem is mounted there; unmount it first".to_owned(),
            });
        }
        let mut volume = create.volume.clone();
        volume.driver = NAME.to_owned();
        volume.snapshots.clear();
        volume.vm = false;
        if volume.size.is_some() {
            self.check_limit(&volume.name, data)?;
        }
        self.quotas.prepare(&mut volume)?;
        self.layout.create_volume(&volume)?;
        point("create.adopted");
        self.furnish(create, &volume)?;
        Ok(Created {
            volume,
            origin: Origin::Adopted,
        })
    }

    fn take_up(&self, create: &Create, kept: Kept) -> Result<Created> {
        let name = &create.volume.name;
        let data = self.layout.data(name);
        let occupied = |remedy: &str| DriverError::AlreadyExists {
            what: format!(
                "the directory {} of volume {name}, which was let go at {},",
                data.display(),
                kept.let_go
            ),
            remedy: remedy.to_owned(),
        };
        if create.from.is_some() {
            return Err(occupied(
                "create it without `from` to take it up again, or move the directory away",
            ));
        }
        if create.volume.restoring.is_some() {
            return Err(occupied(
                "create it without `backup` to take it up again, or move the directory away",
            ));
        }
        if create.volume.vm && !kept.volume.vm {
            return Err(occupied(
                "it holds no disk image; create it without `vm` to take it up again",
            ));
        }
        let mut volume = kept.volume.clone();
        if volume.vm {
            volume.size = exact_size(create.volume.size, volume.size)?;
        } else if let Some(size) = create.volume.size {
            self.check_limit(name, &data)?;
            volume.size = Some(size);
            self.quotas.prepare(&mut volume)?;
        }
        merge_wishes(&mut volume, &create.volume);
        volume
            .private
            .insert(TAKEN_UP_BY.to_owned(), create.volume.id.to_string());
        self.layout.create_volume(&volume)?;
        point("create.taken-up");
        self.furnish(create, &volume)?;
        records::remove_file(&self.layout.kept(name))?;
        point("create.unkept");
        Ok(Created {
            volume,
            origin: Origin::TakenUpAgain { let_go: kept.let_go },
        })
    }

    /// Refuses a size for a tree in which it could not be enforced.
    fn check_limit(&self, name: &Name, data: &Path) -> Result<()> {
        let what = || format!("size of volume {name}");
        self.quotas.check(what)?;
        if self.trees.snapshots_whole(self.layout.path())? && !filesystem::is_subvolume(data)? {
            let because = format!(
                "btrfs limits subvolumes, and {} is a plain directory",
                data.display()
            );
            return Err(DriverError::Unsupported {
                what: what(),
                because,
            });
        }
        Ok(())
    }

    /// Sets what the request says about a directory that was there already. The record exists; when this
    /// fails for good, it goes again, and all is as before but for what was set.
    fn furnish(&self, create: &Create, volume: &Volume) -> Result<()> {
        let data = self.layout.data(&volume.name);
        let furnished = area::own(&data, &create.root).and_then(|()| self.quotas.apply(volume, &data));
        if furnished.is_err() {
            records::remove_file(&self.layout.record(&volume.name))?;
        }
        point("create.furnished");
        furnished
    }

    pub(super) fn recover_create(&self, create: &Create) -> Result<Outcome> {
        let Volume { id, name, .. } = &create.volume;
        let staging = self.layout.staging(id.uuid());
        if let Some(volume) = self.layout.read_volume(name)? {
            let taken_up = volume.private.get(TAKEN_UP_BY) == Some(&id.to_string());
            if volume.id != *id && !taken_up {
                // Another host, or an earlier request, has the name: nothing there is ours.
                discard(&staging)?;
                return Ok(Outcome::Undone);
            }
            if taken_up || create.adopt {
                self.furnish(create, &volume)?;
            }
            if taken_up
                && self
                    .layout
                    .read_kept(name)?
                    .is_some_and(|kept| kept.volume.id == volume.id)
            {
                records::remove_file(&self.layout.kept(name))?;
            }
            discard(&staging)?;
            return Ok(Outcome::Finished);
        }
        let data = self.layout.data(name);
        if layout::metadata(&staging.data())?.is_some() {
            // The claim first: what is left of staging is what brings a second recovery here.
            area::unclaim(&data)?;
            point("create.unclaimed");
            discard(&staging)?;
            return Ok(Outcome::Undone);
        }
        if let Some(volume) = records::read_ready(&staging.ready(), name, *id)?
            && layout::is_real_dir(&data)?
        {
            self.layout.create_volume(&volume)?;
            point("create.recorded");
            discard(&staging)?;
            return Ok(Outcome::Finished);
        }
        discard(&staging)?;
        Ok(Outcome::Undone)
    }
}

/// Removes a working area. What says that its data is complete goes first, so that a crash meanwhile cannot make
/// recovery believe that the data has been moved to its place.
pub(super) fn discard(staging: &Staging) -> Result<()> {
    records::remove_file(&staging.ready())?;
    point("discard.unready");
    area::destroy(&staging.data())?;
    area::destroy(&staging.old())?;
    point("discard.emptied");
    // What else is in there is temporary files of interrupted writes.
    area::destroy(staging.dir())?;
    match staging.dir().parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

fn make_image(data: &Path, size: Bytes) -> Result<()> {
    let path = data.join(IMAGE);
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    file.and_then(|file| {
        file.set_len(size.0)?;
        file.sync_all()
    })
    .map_err(doing("make the disk image", &path))
}

/// The size of a volume that holds an image already.
fn exact_size(asked: Option<Bytes>, real: Option<Bytes>) -> Result<Option<Bytes>> {
    match (asked, real) {
        (Some(asked), Some(real)) if asked != real => Err(InvalidValue::Value {
            option: "size".to_owned(),
            value: asked.0.to_string(),
            expected: format!(
                "the size of the disk image that is there already, {} bytes; leave it out",
                real.0
            ),
        }
        .into()),
        _ => Ok(real),
    }
}

/// What is said of a filesystem of the volume's own has no object here.
fn refuse_device_options(volume: &Volume) -> Result<()> {
    let given = ["fs", "mountopts"]
        .into_iter()
        .find(|option| volume.options.contains_key(*option));
    match given {
        None => Ok(()),
        Some(option) => Err(DriverError::Unsupported {
            what: format!("{option} of volume {}", volume.name),
            because: "volumes of the driver vfs have no filesystem of their own; leave it out".to_owned(),
        }),
    }
}

/// New data and data that are there already exclude each other.
fn check_restoring(create: &Create) -> Result<()> {
    let why = "the volume's data can come from one place only";
    let second = match (&create.from, create.adopt) {
        _ if create.volume.restoring.is_none() => return Ok(()),
        (Some(_), _) => "from",
        (None, true) => "adopt",
        (None, false) => return Ok(()),
    };
    Err(InvalidValue::Conflict {
        first: "backup",
        second,
        why,
    }
    .into())
}

fn image_without_size() -> DriverError {
    InvalidValue::Value {
        option: "vm".to_owned(),
        value: "true".to_owned(),
        expected: "possible without size: a disk image has an exact size".to_owned(),
    }
    .into()
}

/// What the new request says wins; what it does not mention stays.
fn merge_wishes(volume: &mut Volume, wishes: &Volume) {
    volume.policy = wishes.policy.clone().or(&volume.policy);
    volume.options.extend(wishes.options.clone());
}
