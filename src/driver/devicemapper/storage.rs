//! The devices below the pool: found, divided, attached, and recognised.
//!
//! The marker `pool.json` says whose pool it is and how it was made, since a pool's block size is for ever. Nothing is written
//! to a device that is not known to be empty or ours: at first its beginning must be zeros, later it must carry what was
//! put there.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::pool::Room;
use super::super::{DriverError, Result, document};
use super::empty::{HEAD, LABEL, must_be_block_device, must_be_empty, must_be_free};
use super::kernel::{Kernel, Table, Writable};
use super::metadata::{Metadata, View};
use super::options::{Options, SECTOR, Storage};
use super::records::{ROOMS, Records};
use super::{NAME, failed, metadata};
use crate::model::{Bytes, InvalidValue};
use crate::sys::fault::point;
use crate::sys::{durable, loops, sparse};

/// The version of records and marker. Those of a higher one are left alone.
const FORMAT: u32 = 1;
/// What the kernel's documentation reckons with for a mapped block and its share of the trees above.
const METADATA_PER_BLOCK: u64 = 48;
/// Less is not worth having: a few volumes' trees fill it.
const LEAST_METADATA: u64 = 4 << 20;
/// The kernel uses no more (THIN_METADATA_MAX_SECTORS).
const MOST_METADATA: u64 = 33_423_360 * SECTOR;

/// `pool.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    pub(super) format: u32,
    /// The store's identity.
    pub(super) id: Uuid,
    /// The size of the pool's blocks, in sectors of 512 bytes.
    pub(super) block_sectors: u32,
    /// How a single device was divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) division: Option<Division>,
}

impl Marker {
    /// Of a pool that was somebody else's.
    pub(super) fn adopted(id: Uuid, block_sectors: u32) -> Self {
        Self {
            format: FORMAT,
            id,
            block_sectors,
            division: None,
        }
    }
}

/// What a pool would be made of, or is, for a person to look at. Nothing is touched.
///
/// # Errors
/// Whatever [`open`] would refuse of the devices.
pub(super) fn plan(records: &Records, options: &Options) -> Result<Vec<String>> {
    let known: Option<Marker> = document::read(&records.root().join("pool.json"))?;
    let marker = known
        .clone()
        .unwrap_or_else(|| Marker::adopted(Uuid::nil(), options.block_sectors));
    let block = u64::from(marker.block_sectors) * SECTOR;
    let take = |device: &Path| -> Result<u64> {
        must_be_block_device(device)?;
        if known.is_none() {
            must_be_free(device)?;
            must_be_empty(device)?;
        }
        size_of(device)
    };
    let mut lines = vec![match &known {
        None => format!("a new pool {}, in blocks of {}", options.pool_name, Bytes(block)),
        Some(_) => format!(
            "the pool {} that is there already, in blocks of {}",
            options.pool_name,
            Bytes(block)
        ),
    }];
    let part =
        |what: &str, place: String, bytes: u64| format!("{what}: {place}, {} ({bytes} bytes)", Bytes(bytes));
    match &options.storage {
        Storage::Devices { data, metadata } => {
            let sizes = (take(data)?, take(metadata)?);
            check_metadata_size(sizes.0, sizes.1, &marker)?;
            lines.push(part("metadata", metadata.display().to_string(), sizes.1));
            lines.push(part("data", data.display().to_string(), sizes.0));
        }
        Storage::Device(device) => {
            let size = take(device)?;
            let division = match (&known, marker.division) {
                (Some(_), None) => return Err(undivided(device)),
                (_, Some(division)) => division,
                (None, None) => divide(size, &marker)?,
            };
            let at = |byte: u64| format!("{} from byte {byte}", device.display());
            let rest = size.saturating_sub(division.data_at());
            lines.push(part("label", at(0), HEAD));
            lines.push(part(
                "metadata",
                at(division.metadata_at()),
                division.metadata_bytes,
            ));
            lines.push(part("spare", at(division.spare_at()), division.metadata_bytes));
            lines.push(part("data", at(division.data_at()), rest - rest % block));
        }
        Storage::Loopback(size) => {
            let size = size.0.next_multiple_of(block);
            let file = |name: &str| format!("the sparse file {}", records.root().join(name).display());
            let metadata = metadata_bytes(size, marker.block_sectors);
            lines.push(part("metadata", file("metadata.img"), metadata));
            lines.push(part("data", file("data.img"), size));
        }
    }
    Ok(lines)
}

/// Parts of one device, in bytes: the head, the metadata, as much again as a spare for their repair, and the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Division {
    /// Of the metadata, and of the spare.
    pub(super) metadata_bytes: u64,
}

impl Division {
    fn metadata_at(self) -> u64 {
        HEAD
    }

    fn spare_at(self) -> u64 {
        HEAD + self.metadata_bytes
    }

    fn data_at(self) -> u64 {
        HEAD + 2 * self.metadata_bytes
    }
}

/// The devices, attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Devices {
    pub(super) data: PathBuf,
    pub(super) metadata: PathBuf,
    /// Where metadata can be repaired to.
    pub(super) spare: Option<PathBuf>,
    /// They are for trying out only, for this reason.
    pub(super) caveat: Option<&'static str>,
}

impl Devices {
    /// The data device's size in whole blocks of the pool, in sectors.
    pub(super) fn pool_sectors(&self, block_sectors: u32) -> Result<u64> {
        let sectors = size_of(&self.data)? / SECTOR;
        Ok(sectors - sectors % u64::from(block_sectors))
    }
}

/// Whether there is a marker: a pool has been made here, or taken over.
pub(super) fn is_known(records: &Records) -> bool {
    records.root().join("pool.json").exists()
}

/// Finds the devices of the pool that the marker speaks of; makes a marker where there is none and the devices are empty.
///
/// `is_unused`: no volume has ever been made in it.
pub(super) fn open(
    kernel: &Kernel,
    records: &Records,
    options: &Options,
    is_unused: bool,
) -> Result<(Marker, Devices)> {
    let path = records.root().join("pool.json");
    let known: Option<Marker> = document::read(&path)?;
    if let Some(marker) = &known
        && marker.format != FORMAT
    {
        let why = format!(
            "{} says format {}, and this version of windlass knows format {FORMAT} only",
            path.display(),
            marker.format
        );
        return Err(unavailable(why));
    }
    let is_new = known.is_none();
    if is_new {
        make_rooms(records)?;
    }
    let mut marker = known.unwrap_or_else(|| Marker {
        format: FORMAT,
        id: Uuid::new_v4(),
        block_sectors: options.block_sectors,
        division: None,
    });
    if marker.block_sectors != options.block_sectors && !is_new {
        log::info!(
            "{NAME}: the pool keeps its blocks of {}; another size takes another pool",
            Bytes(u64::from(marker.block_sectors) * SECTOR)
        );
    }
    let devices = match &options.storage {
        Storage::Devices { .. } => devices_given(options, &marker, is_new)?,
        Storage::Device(device) => {
            must_be_block_device(device)?;
            if is_new {
                must_be_free(device)?;
                must_be_empty(device)?;
                marker.division = Some(divide(size_of(device)?, &marker)?);
            }
            let division = marker.division.ok_or_else(|| undivided(device))?;
            claim(&path, &marker, is_new)?;
            attach_parts(kernel, options, device, division, &marker, is_unused)?
        }
        Storage::Loopback(size) => attach_files(records.root(), size.0, &marker)?,
    };
    claim(&path, &marker, is_new)?;
    Ok((marker, devices))
}

/// Makes the directories of the records.
pub(super) fn make_rooms(records: &Records) -> Result<()> {
    make_dir(records.root())?;
    for room in ROOMS {
        make_dir(&records.root().join(room))?;
    }
    Ok(durable::sync_dir(records.root())?)
}

fn devices_given(options: &Options, marker: &Marker, is_new: bool) -> Result<Devices> {
    let Storage::Devices { data, metadata } = &options.storage else {
        unreachable!("asked for two devices only")
    };
    for device in [data, metadata] {
        must_be_block_device(device)?;
    }
    if is_new {
        must_be_no_pool(data, metadata)?;
        for device in [data, metadata] {
            must_be_free(device)?;
            must_be_empty(device)?;
        }
    }
    match check_metadata_size(size_of(data)?, size_of(metadata)?, marker) {
        // What is there already works on, however its data device has grown, or whoever made it.
        Err(error) if !is_new => log::warn!("{NAME}: {error}"),
        checked => checked?,
    }
    Ok(Devices {
        data: data.clone(),
        metadata: metadata.clone(),
        spare: None,
        caveat: None,
    })
}

/// Whoever moves in from Convoy gives the devices of its pool, and must not be told to wipe them.
fn must_be_no_pool(data: &Path, metadata: &Path) -> Result<()> {
    match Metadata::open(metadata, View::Current) {
        Err(_) => Ok(()),
        Ok(_) => Err(DriverError::AlreadyExists {
            what: format!("a thin pool on {} and {}", data.display(), metadata.display()),
            remedy: "if it is Convoy's, 'windlass import convoy' takes it over as it is; if it is one of windlass's, the state \
                     directory with its records is missing: bring that back"
                .to_owned(),
        }),
    }
}

fn undivided(device: &Path) -> DriverError {
    unavailable(format!(
        "the pool was not made on one device, but dm.device gives {}; give dm.datadev and dm.metadatadev as before",
        device.display()
    ))
}

/// Writes the marker of a new store. From here on, the devices are ours.
fn claim(path: &Path, marker: &Marker, is_new: bool) -> Result<()> {
    match is_new && !path.exists() {
        true => Ok(durable::create_exclusive(
            path,
            &document::to_json(marker),
            0o600,
        )?),
        false => Ok(()),
    }
}

/// How much metadata a pool over so much data is to have, in bytes: a multiple of a block of 4 KiB.
pub(super) fn metadata_bytes(data_bytes: u64, block_sectors: u32) -> u64 {
    let blocks = data_bytes / (u64::from(block_sectors) * SECTOR);
    let wanted = blocks.saturating_mul(METADATA_PER_BLOCK);
    wanted
        .clamp(LEAST_METADATA, MOST_METADATA)
        .next_multiple_of(metadata::BLOCK_BYTES as u64)
        .min(MOST_METADATA)
}

fn check_metadata_size(data: u64, metadata: u64, marker: &Marker) -> Result<()> {
    let wanted = metadata_bytes(data, marker.block_sectors);
    // Half of it does for pools with few snapshots; below, the metadata are full long before the data.
    if metadata >= wanted / 2 && metadata >= LEAST_METADATA / 2 {
        return Ok(());
    }
    Err(InvalidValue::Value {
        option: "dm.metadatadev".to_owned(),
        value: format!("a device of {}", Bytes(metadata)),
        expected: format!(
            "{} for {} of data in blocks of {}; take a larger device, or larger blocks",
            Bytes(wanted),
            Bytes(data),
            Bytes(u64::from(marker.block_sectors) * SECTOR)
        ),
    }
    .into())
}

fn divide(size: u64, marker: &Marker) -> Result<Division> {
    let metadata_bytes = metadata_bytes(size, marker.block_sectors);
    let division = Division { metadata_bytes };
    if division.data_at() + 64 * u64::from(marker.block_sectors) * SECTOR > size {
        return Err(InvalidValue::Value {
            option: "dm.device".to_owned(),
            value: format!("a device of {}", Bytes(size)),
            expected: format!("larger than {}", Bytes(division.data_at() * 2)),
        }
        .into());
    }
    Ok(division)
}

fn attach_parts(
    kernel: &Kernel,
    options: &Options,
    device: &Path,
    division: Division,
    marker: &Marker,
    is_unused: bool,
) -> Result<Devices> {
    let label = format!("{LABEL}{}\n", marker.id);
    let file = OpenOptions::new()
        .read(true)
        .write(is_unused)
        .open(device)
        .map_err(failed("open", device))?;
    let mut head = vec![0; metadata::BLOCK_BYTES];
    file.read_exact_at(&mut head, 0).map_err(failed("read", device))?;
    if is_unused && head.iter().all(|byte| *byte == 0) {
        head[..label.len()].copy_from_slice(label.as_bytes());
        file.write_all_at(&head, 0).map_err(failed("write to", device))?;
        point("storage.labelling");
        file.sync_all().map_err(failed("sync", device))?;
        point("storage.labelled");
    }
    if !head.starts_with(label.as_bytes()) {
        let why = format!(
            "{} is not the device that holds this host's volumes: its label is another; is it the right one?",
            device.display()
        );
        return Err(unavailable(why));
    }
    let size = sparse::size(&file).map_err(failed("find the size of", device))?;
    let number = number_of(device)?;
    let part = |suffix: &str, from: u64, bytes: u64| -> Result<PathBuf> {
        let name = format!("{}-{suffix}", options.pool_name);
        let uuid = format!("WINDLASS-{}-{suffix}", marker.id.simple());
        let table = Table {
            sectors: bytes / SECTOR,
            target: "linear",
            parameters: format!("{}:{} {}", number.0, number.1, from / SECTOR),
        };
        let info = match kernel.info(&name)? {
            // The device may have grown since.
            Some(info)
                if info.uuid == uuid
                    && info.is_live
                    && size_of(&info.path()).is_ok_and(|now| now >= bytes) =>
            {
                info
            }
            Some(info) if info.uuid == uuid => kernel.reload(&name, &table)?,
            Some(_) => return Err(foreign(&name)),
            None => kernel.create(&name, &uuid, &table, Writable::Yes)?,
        };
        Ok(info.path())
    };
    let rest = size.saturating_sub(division.data_at());
    Ok(Devices {
        metadata: part("meta", division.metadata_at(), division.metadata_bytes)?,
        spare: Some(part("spare", division.spare_at(), division.metadata_bytes)?),
        data: part("data", division.data_at(), rest - rest % SECTOR)?,
        caveat: None,
    })
}

/// Makes room on the devices below a pool at work: files grow as `room` says; what else has grown is found out.
pub(super) fn make_room(
    kernel: &Kernel,
    records: &Records,
    options: &Options,
    marker: &Marker,
    room: Option<Room>,
) -> Result<Devices> {
    let size = match (&options.storage, room) {
        (Storage::Loopback(_), _) => {
            let path = records.root().join("data.img");
            let now = std::fs::metadata(&path).map_err(failed("read", &path))?.len();
            let wanted = match room {
                None => now,
                Some(Room::To(size)) => size.0,
                Some(Room::By(more)) => now.saturating_add(more.0),
            };
            if wanted < now {
                return Err(InvalidValue::Value {
                    option: "size".to_owned(),
                    value: wanted.to_string(),
                    expected: format!("at least that of the pool, {now} bytes: pools grow and do not shrink"),
                }
                .into());
            }
            wanted
        }
        (_, None) => 0,
        (storage, Some(_)) => {
            let device = match storage {
                Storage::Devices { data, .. } => data,
                Storage::Device(device) => device,
                Storage::Loopback(_) => unreachable!("taken above"),
            };
            return Err(InvalidValue::Value {
                option: "size".to_owned(),
                value: "given".to_owned(),
                expected: format!(
                    "none: only the files of dm.loopback are windlass's to make larger. Make {} larger with what it was made \
                     with (lvextend, the cloud's console), and give no size then",
                    device.display()
                ),
            }
            .into());
        }
    };
    match &options.storage {
        Storage::Devices { .. } => devices_given(options, marker, false),
        Storage::Device(device) => {
            let division = marker.division.ok_or_else(|| undivided(device))?;
            attach_parts(kernel, options, device, division, marker, false)
        }
        Storage::Loopback(_) => {
            let devices = attach_files(records.root(), size, marker)?;
            // Somebody else may have made a file larger.
            for device in [&devices.data, &devices.metadata] {
                loops::refresh(device)?;
            }
            Ok(devices)
        }
    }
}

fn attach_files(root: &Path, size: u64, marker: &Marker) -> Result<Devices> {
    let attach = |name: &str, bytes: u64| -> Result<PathBuf> {
        let path = root.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open", &path))?;
        let now = file.metadata().map_err(failed("read", &path))?.len();
        // It grows by a larger option, and never shrinks.
        if now < bytes {
            file.set_len(bytes).map_err(failed("grow", &path))?;
            file.sync_all().map_err(failed("sync", &path))?;
            point("storage.sized");
        }
        let device = loops::attach(&path)?;
        if now < bytes {
            loops::refresh(&device)?;
        }
        Ok(device)
    };
    let size = size.next_multiple_of(u64::from(marker.block_sectors) * SECTOR);
    let devices = Devices {
        data: attach("data.img", size)?,
        metadata: attach("metadata.img", metadata_bytes(size, marker.block_sectors))?,
        spare: None,
        caveat: Some("loop devices on files: for trying out, not for data that matter"),
    };
    durable::sync_dir(root)?;
    Ok(devices)
}

/// The size of a device, in bytes.
pub(super) fn size_of(device: &Path) -> Result<u64> {
    let file = File::open(device).map_err(failed("open", device))?;
    sparse::size(&file).map_err(failed("find the size of", device))
}

/// How much of a metadata device the kernel uses, in bytes.
pub(super) fn usable_metadata(device: &Path) -> Result<u64> {
    Ok(size_of(device)?.min(MOST_METADATA))
}

/// A device's number, as tables name it.
pub(super) fn number_of(device: &Path) -> Result<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    let number = std::fs::metadata(device).map_err(failed("read", device))?.rdev();
    Ok((libc::major(number), libc::minor(number)))
}

pub(super) fn foreign(name: &str) -> DriverError {
    unavailable(format!(
        "the device-mapper device {name} is there already and not of this store; remove it, or give another dm.thinpoolname"
    ))
}

fn make_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("create directory", path))
}

fn unavailable(why: String) -> DriverError {
    DriverError::Unavailable { driver: NAME, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_reckoned_and_too_few_are_refused() {
        assert_eq!(metadata_bytes(1 << 30, 128), LEAST_METADATA);
        // 1 TiB in blocks of 64 KiB: 16 Mi blocks.
        assert_eq!(metadata_bytes(1 << 40, 128), (16 << 20) * 48);
        assert_eq!(metadata_bytes(1 << 40, 4096), (512 << 10) * 48);
        assert_eq!(metadata_bytes(1 << 60, 128), MOST_METADATA);
        let marker = Marker {
            format: FORMAT,
            id: Uuid::nil(),
            block_sectors: 128,
            division: None,
        };
        check_metadata_size(1 << 40, 768 << 20, &marker).expect("enough");
        let said = check_metadata_size(1 << 40, 100 << 20, &marker)
            .expect_err("too small")
            .to_string();
        assert!(
            said.contains("dm.metadatadev") && said.contains("768 MiB"),
            "{said}"
        );
        let division = divide(1 << 40, &marker).expect("divided");
        assert!(division.data_at() < 2 << 30 && division.metadata_bytes.is_multiple_of(4096));
        assert!(divide(4 << 20, &marker).is_err());
    }
}
