//! Checking the pool's metadata, and repairing them while the pool does not run.
//!
//! A repair, in its order:
//! 1. thin_repair reads the damaged metadata and writes what it can save elsewhere: to the spare, or to a file below the root.
//! 2. What came of it must be sound, of the transaction that the records are at, and have every thin device that a record
//!    names, with as many blocks as before where that is known. Otherwise it ends here, and nothing was changed, unless the loss was
//!    accepted.
//! 3. The damaged metadata are copied to a file below the root, which stays.
//! 4. **`repair.json` says that the repaired ones are the truth**, and what they lack.
//! 5. They are copied over the damaged ones, the records say what was lost, and `repair.json` goes.
//!
//! A crash after step 4 leaves metadata that are half the one and half the other; no pool is started on them, and the next
//! repair goes on with step 5.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::convoy::Adoption;
use super::super::pool::{AtRest, PoolCheck, PoolRepair};
use super::super::{DriverError, DriverOptions, Result, document};
use super::kernel::Kernel;
use super::ledger::Ledger;
use super::losses::Losses;
use super::metadata::{Details, Metadata, View};
use super::options::Options;
use super::pool::Pool;
use super::records::{Records, ThinId};
use super::storage::{self, Devices};
use super::{NAME, failed};
use crate::model::{Name, Time};
use crate::sys::SysError;
use crate::sys::durable;
use crate::sys::exec::Exec;
use crate::sys::fault::point;

/// How long the tools may work on the metadata of a large pool.
const LIMIT: Duration = Duration::from_secs(1800);
/// What is copied at once.
const PIECE: usize = 1 << 20;

/// The pool below a root, while no driver has it.
#[derive(Debug)]
pub struct Healer {
    root: PathBuf,
    options: DriverOptions,
}

/// `repair.json`: the repaired metadata are complete, and on their way into their place.
#[derive(Debug, Serialize, Deserialize)]
struct UnderWay {
    /// The file that they are in; none for the spare, whose path may be another after the machine has started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repaired: Option<PathBuf>,
    /// Where those are that were damaged.
    damaged: PathBuf,
    /// What the repaired ones lack, which was accepted.
    #[serde(default, skip_serializing_if = "Losses::is_empty")]
    losses: Losses,
}

impl Healer {
    /// For the driver that [`super::Devicemapper::open`] would open with the same arguments.
    pub fn new(root: PathBuf, options: DriverOptions) -> Self {
        Self { root, options }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn options(&self) -> &DriverOptions {
        &self.options
    }

    fn open(&self) -> Result<Patient> {
        let options = Options::parse(&self.options)?;
        let kernel = Arc::new(Kernel::open()?);
        let records = Records::new(self.root.clone());
        if !storage::is_known(&records) {
            return Err(DriverError::NotFound {
                what: format!("a pool of windlass's with records in {}", self.root.display()),
            });
        }
        let (marker, devices) = storage::open(&kernel, &records, &options, false)?;
        let pool = Pool::new(kernel, &marker, devices.clone(), &options);
        pool.stop()?;
        Ok(Patient {
            ledger: Ledger::open(records)?,
            pool,
            devices,
        })
    }
}

impl AtRest for Healer {
    fn check(&self) -> Result<PoolCheck> {
        self.open()?.check().map_err(with_remedy)
    }

    fn repair(&self, accept_loss: bool) -> Result<PoolRepair> {
        self.open()?.repair(accept_loss)
    }

    fn adopt_convoy(&self, root: &Path, taken: &BTreeSet<Name>, dry_run: bool) -> Result<Adoption> {
        self.adopt(root, taken, dry_run)
    }
}

/// A pool that does not run.
struct Patient {
    ledger: Ledger,
    pool: Pool,
    devices: Devices,
}

impl Patient {
    fn check(&self) -> Result<PoolCheck> {
        let device = &self.devices.metadata;
        if is_under_way(self.ledger.records()) {
            return Err(corrupt(
                device,
                "a repair was interrupted; 'windlass pool repair' finishes it",
            ));
        }
        thin_check(device, &[])?;
        self.must_have_all(device)
    }

    /// Whether the metadata there are of this pool, at the right transaction, and have what the records name.
    fn must_have_all(&self, device: &Path) -> Result<PoolCheck> {
        let unreadable = |error: super::metadata::MetadataError| corrupt(device, &error.to_string());
        let found = Metadata::open(device, View::Current).map_err(unreadable)?;
        self.ledger.agrees_with(found.superblock().transaction)?;
        let there: Vec<u32> = found.devices().map_err(unreadable)?.into_keys().collect();
        let report = compare(&self.ledger, device, false, &there)?;
        Ok(report)
    }

    /// What repaired metadata lack of what the records name and the damaged ones had, as far as those can be read.
    fn find_losses(&self, repaired: &Path) -> Result<Losses> {
        let unreadable = |error: super::metadata::MetadataError| corrupt(repaired, &error.to_string());
        let found = Metadata::open(repaired, View::Current).map_err(unreadable)?;
        self.ledger.agrees_with(found.superblock().transaction)?;
        let now = found.devices().map_err(unreadable)?;
        let before =
            Metadata::open(&self.devices.metadata, View::Current).and_then(|damaged| damaged.devices());
        let blocks = |devices: BTreeMap<u32, Details>| {
            let counted = devices
                .into_iter()
                .map(|(thin, details)| (thin, details.mapped_blocks));
            counted.collect::<BTreeMap<u32, u64>>()
        };
        Losses::find(&self.ledger, &blocks(now), &blocks(before.unwrap_or_default()))
    }

    fn repair(&self, accept_loss: bool) -> Result<PoolRepair> {
        let device = &self.devices.metadata;
        let journal = self.ledger.records().root().join("repair.json");
        if let Some(under_way) = document::read::<UnderWay>(&journal)? {
            log::info!("{NAME}: an interrupted repair goes on");
            return self.put_in_place(&under_way, &journal);
        }
        match self.check() {
            Ok(_) => {
                return Ok(PoolRepair {
                    device: device.clone(),
                    damaged: None,
                    losses: Vec::new(),
                });
            }
            Err(DriverError::Corrupt { why, .. }) => {
                log::warn!("{NAME}: repairing {}: {why}", device.display())
            }
            // Of another history, or unreadable: nothing that a repair could help.
            Err(other) => return Err(other),
        }
        let repaired = self.make_spare()?;
        self.thin_repair(&repaired)?;
        thin_check(&repaired, &[])?;
        let losses = self.find_losses(&repaired)?;
        if !losses.is_empty() && !accept_loss {
            return Err(corrupt(device, &losses.refusal(self.ledger.records())?));
        }
        File::open(&repaired)
            .and_then(|file| file.sync_all())
            .map_err(failed("sync", &repaired))?;
        point("repair.repaired");
        let damaged = self.keep_damaged()?;
        point("repair.kept");
        let under_way = UnderWay {
            repaired: self.devices.spare.is_none().then_some(repaired),
            damaged,
            losses,
        };
        durable::write_atomic(&journal, &document::to_json(&under_way), 0o600)?;
        point("repair.decided");
        self.put_in_place(&under_way, &journal)
    }

    /// Step 5.
    fn put_in_place(&self, under_way: &UnderWay, journal: &Path) -> Result<PoolRepair> {
        let device = &self.devices.metadata;
        let repaired = match (&under_way.repaired, &self.devices.spare) {
            (Some(file), _) => file,
            (None, Some(spare)) => spare,
            (None, None) => {
                return Err(corrupt(
                    journal,
                    "it speaks of a spare device, and the pool has none; give the dm.device that the pool was made on",
                ));
            }
        };
        // Whatever became of them meanwhile, nothing else is put over the metadata.
        thin_check(repaired, &[])?;
        if !under_way.losses.covers(&self.find_losses(repaired)?) {
            return Err(corrupt(
                repaired,
                "they are not what was decided upon; nothing was changed",
            ));
        }
        let to = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_EXCL)
            .open(device)
            .map_err(failed("open", device))?;
        copy(repaired, &to, device, Zeros::Written)?;
        // thin_check wants it for itself.
        drop(to);
        point("repair.copied");
        thin_check(device, &[])?;
        let losses = under_way.losses.write_down(&self.ledger)?;
        point("repair.written-down");
        document::remove(journal)?;
        if let Some(file) = &under_way.repaired {
            document::remove(file)?;
        }
        Ok(PoolRepair {
            device: device.clone(),
            damaged: Some(under_way.damaged.clone()),
            losses,
        })
    }

    /// Where the repaired metadata come to be.
    fn make_spare(&self) -> Result<PathBuf> {
        if let Some(spare) = &self.devices.spare {
            return Ok(spare.clone());
        }
        let path = self.ledger.records().root().join("metadata.repaired");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("create", &path))?;
        file.set_len(storage::size_of(&self.devices.metadata)?)
            .map_err(failed("grow", &path))?;
        Ok(path)
    }

    /// Step 1. Where the superblock itself is lost, what it said is known from the records.
    fn thin_repair(&self, to: &Path) -> Result<()> {
        let from = &self.devices.metadata;
        let tool = |more: &[String]| {
            Exec::new("thin_repair")
                .args(["-i".as_ref(), from.as_os_str(), "-o".as_ref(), to.as_os_str()])
                .args(more)
                .time_limit(LIMIT)
                .run()
        };
        let first = match tool(&[]) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if first.is_not_found() {
            return Err(DriverError::Unsupported {
                what: "repair of the pool's metadata".to_owned(),
                because: "thin_repair is not installed; install thin-provisioning-tools".to_owned(),
            });
        }
        let journal = self.ledger.journal();
        let block = self.pool.block_sectors();
        let said = match journal.change {
            // Whether the pool had done it, only the superblock knew.
            Some(_) => return Err(corrupt(from, &format!("thin_repair could not: {first}"))),
            None => [
                format!("--transaction-id={}", journal.transaction),
                format!("--data-block-size={block}"),
                format!(
                    "--nr-data-blocks={}",
                    self.devices.pool_sectors(block)? / u64::from(block)
                ),
            ],
        };
        tool(&said)
            .map(drop)
            .map_err(|error| corrupt(from, &format!("thin_repair could not: {error}")))
    }

    /// Step 3.
    fn keep_damaged(&self) -> Result<PathBuf> {
        let root = self.ledger.records().root();
        // An attempt that was cut off has left a part of it under this name, and no file that looks whole.
        let part = root.join("metadata.damaged.part");
        let to = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .map_err(failed("create", &part))?;
        to.set_len(storage::size_of(&self.devices.metadata)?)
            .map_err(failed("grow", &part))?;
        copy(&self.devices.metadata, &to, &part, Zeros::LeftOut)?;
        let stamp = Time::now().to_string().replace([':', '/'], "-");
        for number in 1.. {
            // Two repairs can begin within a second.
            let again = match number {
                1 => String::new(),
                number => format!("-{number}"),
            };
            let path = root.join(format!("metadata.damaged-{stamp}{again}"));
            if !path.exists() {
                durable::rename_sync(&part, &path)?;
                return Ok(path);
            }
        }
        unreachable!("one of the numbers is free")
    }
}

/// Compares what the metadata have with what the records name.
pub(super) fn compare(ledger: &Ledger, device: &Path, at_work: bool, there: &[u32]) -> Result<PoolCheck> {
    let named: BTreeMap<ThinId, String> = ledger.records().all_thins()?;
    // What is under way may have been made, or deleted, or not.
    let change = ledger.journal().change.unwrap_or_default();
    let lost: Vec<String> = named
        .iter()
        .filter(|(thin, _)| !there.contains(&thin.0) && !change.deletes.contains(thin))
        .map(|(thin, what)| format!("{what} (thin device {thin})"))
        .collect();
    if !lost.is_empty() {
        let shown = lost
            .iter()
            .take(10)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        return Err(corrupt(
            device,
            &format!(
                "the metadata lack {} of the {} thin devices that the records name: {shown}; nothing was changed",
                lost.len(),
                named.len()
            ),
        ));
    }
    let unclaimed = there.iter().copied().filter(|thin| {
        let thin = ThinId(*thin);
        !named.contains_key(&thin) && !change.makes.iter().any(|make| make.thin == thin)
    });
    Ok(PoolCheck {
        device: device.to_owned(),
        at_work,
        thin_devices: there.len(),
        unclaimed: unclaimed.collect(),
    })
}

/// Whether a repair has decided on other metadata than those in their place.
pub(super) fn is_under_way(records: &Records) -> bool {
    records.root().join("repair.json").exists()
}

/// Has the metadata on a device looked at.
pub(super) fn thin_check(device: &Path, how: &[&str]) -> Result<()> {
    let check = Exec::new("thin_check").args(how).arg(device).time_limit(LIMIT);
    match check.run() {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Err(DriverError::Unsupported {
            what: "check of the pool's metadata".to_owned(),
            because: "thin_check is not installed; install thin-provisioning-tools".to_owned(),
        }),
        // It cannot open what somebody else has open, and takes that for a pool at work.
        Err(SysError::Command { last_line, .. }) if last_line.contains("live metadata") => {
            Err(DriverError::Busy {
                what: format!("the pool's metadata on {}", device.display()),
                by: "somebody who has the device open".to_owned(),
                remedy: "end that first".to_owned(),
            })
        }
        Err(error @ SysError::Command { .. }) => Err(corrupt(device, &error.to_string())),
        Err(other) => Err(other.into()),
    }
}

/// For whoever only wanted to know.
pub(super) fn with_remedy(error: DriverError) -> DriverError {
    match error {
        DriverError::Corrupt { path, why } => DriverError::Corrupt {
            path,
            why: format!("{why}; 'windlass pool repair' repairs a pool that is not at work"),
        },
        other => other,
    }
}

fn corrupt(device: &Path, why: &str) -> DriverError {
    DriverError::Corrupt {
        path: device.to_owned(),
        why: why.to_owned(),
    }
}

/// What becomes of pieces that are all zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Zeros {
    Written,
    /// The file that is written to is new, and holes read as zeros.
    LeftOut,
}

/// Copies all of one to another, which is at `to_path`, and brings it to disk.
fn copy(from: &Path, to: &File, to_path: &Path, zeros: Zeros) -> Result<()> {
    let mut source = File::open(from).map_err(failed("open", from))?;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        let length = fill(&mut source, &mut piece).map_err(failed("read", from))?;
        let piece = &piece[..length];
        if length == 0 {
            break;
        }
        if zeros == Zeros::Written || piece.iter().any(|byte| *byte != 0) {
            to.write_all_at(piece, at).map_err(failed("write to", to_path))?;
        }
        at += length as u64;
        point("repair.piece");
    }
    to.sync_all().map_err(failed("sync", to_path))
}

/// Reads until the piece is full, or nothing is left.
fn fill(source: &mut File, piece: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < piece.len() {
        match source.read(&mut piece[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}
