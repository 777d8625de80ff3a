//! The kernel's device-mapper, in the few words that this driver needs.
//!
//! Devices are called by name here and found by their number afterwards: /dev/dm-<minor> comes from devtmpfs, while names
//! below /dev/mapper are udev's work, which a plugin or a container does not have.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use devicemapper::{DM, DevId, DeviceInfo, DmError, DmFlags, DmName, DmOptions, DmUuid, errors};

use super::super::{DriverError, News, Result};
use super::NAME;
use crate::sys::devices;
use crate::sys::exec::Exec;
use crate::sys::mountinfo::Device;

/// A device that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    /// Its number.
    pub(super) device: Device,
    /// How many have it open: filesystems, other devices, processes.
    pub(super) open: i32,
    /// It was given this when it was made.
    pub(super) uuid: String,
    pub(super) is_suspended: bool,
    pub(super) is_read_only: bool,
    /// It maps something; one that was just made, and then forgotten in a crash, does not.
    pub(super) is_live: bool,
}

impl Info {
    /// Its node.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{}", self.device.1))
    }
}

/// One line of a table: the whole device is one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// In sectors of 512 bytes.
    pub(super) sectors: u64,
    /// `thin`, `thin-pool`, `linear`.
    pub(super) target: &'static str,
    /// As the target takes them.
    pub(super) parameters: String,
}

/// Whether a device can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writable {
    Yes,
    No,
}

/// A handle on /dev/mapper/control.
pub(super) struct Kernel(DM);

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kernel")
    }
}

impl Kernel {
    /// Opens it, and loads the kernel's module for thin pools where it is one.
    pub(super) fn open() -> Result<Self> {
        let unavailable = |why: String| DriverError::Unavailable { driver: NAME, why };
        // A control node alone is not enough: what is made must be seen.
        if !devices::show_the_kernels()? {
            log::debug!("{NAME}: /dev is not the kernel's own");
        }
        let opened = match DM::new() {
            Ok(dm) => Ok(dm),
            Err(_) => {
                load("dm_mod");
                DM::new()
            }
        };
        let dm = opened.map_err(|error| {
            unavailable(format!(
                "this kernel has no device-mapper, or its /dev/mapper/control is not here ({}); load the module dm_thin_pool on the \
                 host, and give the daemon the host's or a devtmpfs /dev",
                in_short(&error)
            ))
        })?;
        let kernel = Self(dm);
        if !kernel.has_target("thin-pool")? {
            load("dm_thin_pool");
            if !kernel.has_target("thin-pool")? {
                let why =
                    "this kernel has no thin pools; load its module dm_thin_pool on the host".to_owned();
                return Err(unavailable(why));
            }
        }
        Ok(kernel)
    }

    fn has_target(&self, name: &str) -> Result<bool> {
        let versions = self.0.list_versions();
        let versions = versions.map_err(|error| refused("list the kernel's targets", error))?;
        Ok(versions.iter().any(|(target, ..)| target == name))
    }

    /// The device of that name.
    pub(super) fn info(&self, name: &str) -> Result<Option<Info>> {
        match self.0.device_info(&by_name(name)?) {
            Ok(info) => Ok(Some(described(&info))),
            Err(error) if errno(&error) == Some(libc::ENXIO) => Ok(None),
            Err(error) => Err(refused(&format!("look for the device {name}"), error)),
        }
    }

    /// Makes a device. After an error, there is none.
    pub(super) fn create(&self, name: &str, uuid: &str, table: &Table, writable: Writable) -> Result<Info> {
        let id = DmUuid::new(uuid).map_err(|error| refused(&format!("call a device {uuid}"), error))?;
        let options = match writable {
            Writable::Yes => private(),
            Writable::No => private().set_flags(DmFlags::DM_READONLY),
        };
        let doing = || format!("make the device {name}");
        let dm_name = DmName::new(name).map_err(|error| refused(&doing(), error))?;
        self.0
            .device_create(dm_name, Some(id), options)
            .map_err(|error| refused(&doing(), error))?;
        match self.start(name, table, options) {
            Ok(info) => Ok(info),
            Err(error) => {
                if let Err(second) = self.0.device_remove(&DevId::Name(dm_name), private()) {
                    log::warn!("{NAME}: the device {name} stays behind: {}", in_short(&second));
                }
                Err(error)
            }
        }
    }

    /// Gives a device, new or suspended or at work, another table.
    pub(super) fn reload(&self, name: &str, table: &Table) -> Result<Info> {
        self.start(name, table, private())
    }

    fn start(&self, name: &str, table: &Table, options: DmOptions) -> Result<Info> {
        let id = by_name(name)?;
        let lines = [(
            0,
            table.sectors,
            table.target.to_owned(),
            table.parameters.clone(),
        )];
        self.0.table_load(&id, &lines, options).map_err(|error| {
            let doing = format!("load the table {:?} of the device {name}", table.parameters);
            refused(&doing, error)
        })?;
        let resumed = self.0.device_suspend(&id, private());
        let info = resumed.map_err(|error| refused(&format!("start the device {name}"), error))?;
        Ok(described(&info))
    }

    /// Removes a device that nobody has open; true when it is gone, or was not there.
    pub(super) fn remove(&self, name: &str) -> Result<bool> {
        match self.info(name)? {
            None => return Ok(true),
            // The library would wait for a second.
            Some(info) if info.open > 0 => return Ok(false),
            Some(_) => {}
        }
        match self.0.device_remove(&by_name(name)?, private()) {
            Ok(_) => Ok(true),
            Err(error) if errno(&error) == Some(libc::ENXIO) => Ok(true),
            Err(error) if errno(&error) == Some(libc::EBUSY) => Ok(false),
            Err(error) => Err(refused(&format!("remove the device {name}"), error)),
        }
    }

    /// Holds a device's I/O back; what was under way is finished. With `freeze`, the filesystem on it is brought into a state
    /// that needs no repair.
    pub(super) fn suspend(&self, name: &str, freeze: bool) -> Result<()> {
        let flags = match freeze {
            true => DmFlags::DM_SUSPEND,
            false => DmFlags::DM_SUSPEND | DmFlags::DM_SKIP_LOCKFS,
        };
        let done = self.0.device_suspend(&by_name(name)?, private().set_flags(flags));
        done.map(drop)
            .map_err(|error| refused(&format!("suspend the device {name}"), error))
    }

    /// Lets a device's I/O go on. One that is not suspended stays as it is.
    pub(super) fn resume(&self, name: &str) -> Result<()> {
        let done = self.0.device_suspend(&by_name(name)?, private());
        done.map(drop)
            .map_err(|error| refused(&format!("resume the device {name}"), error))
    }

    /// Sends a message to a device; the bare answer, for callers that expect certain refusals.
    pub(super) fn message(&self, name: &str, text: &str) -> Result<std::result::Result<(), io::Error>> {
        match self.0.target_msg(&by_name(name)?, None, text) {
            Ok(_) => Ok(Ok(())),
            Err(error) => match errno(&error) {
                Some(number) => Ok(Err(io::Error::from_raw_os_error(number))),
                None => Err(refused(&format!("send {text:?} to the device {name}"), error)),
            },
        }
    }

    /// A device's status, as its target writes it, with what was changed a moment ago.
    pub(super) fn status(&self, name: &str) -> Result<String> {
        self.line(name, DmOptions::default())
    }

    /// A device's status, as it was last written to disk: what asks for it makes no write.
    pub(super) fn status_as_written(&self, name: &str) -> Result<String> {
        self.line(name, DmOptions::default().set_flags(DmFlags::DM_NOFLUSH))
    }

    fn line(&self, name: &str, options: DmOptions) -> Result<String> {
        let (_, mut lines) = self
            .0
            .table_status(&by_name(name)?, options)
            .map_err(|error| refused(&format!("read the status of the device {name}"), error))?;
        Ok(lines.pop().map(|(_, _, _, text)| text).unwrap_or_default())
    }

    /// The names of all devices.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let devices = self.0.list_devices();
        let devices = devices.map_err(|error| refused("list the devices", error))?;
        Ok(devices.into_iter().map(|(name, ..)| name.to_string()).collect())
    }
}

/// The kernel's word that something has happened to a device-mapper device, any of them: a pool that reaches its low-water mark or
/// changes its mode, and also each table that is loaded.
pub(super) struct Events(DM);

impl Events {
    /// A handle of its own: each has its own memory of what it was told.
    pub(super) fn open() -> Result<Self> {
        let opened = DM::new().map_err(|error| refused("open /dev/mapper/control", error))?;
        Ok(Self(opened))
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.file().as_fd()
    }
}

impl News for Events {
    fn arm(&self) -> Result<()> {
        let armed = self.0.arm_poll();
        armed
            .map(drop)
            .map_err(|error| refused("wait for the kernel's events", error))
    }
}

/// udev, where there is one, is told to look for nothing on them.
fn private() -> DmOptions {
    DmOptions::private()
}

fn by_name(name: &str) -> Result<DevId<'_>> {
    DmName::new(name)
        .map(DevId::Name)
        .map_err(|error| refused(&format!("call a device {name}"), error))
}

fn described(info: &DeviceInfo) -> Info {
    let device = info.device();
    let flags = info.flags();
    Info {
        device: (device.major, device.minor),
        open: info.open_count(),
        uuid: info.uuid().map(ToString::to_string).unwrap_or_default(),
        is_suspended: flags.contains(DmFlags::DM_SUSPEND),
        is_read_only: flags.contains(DmFlags::DM_READONLY),
        is_live: flags.contains(DmFlags::DM_ACTIVE_PRESENT),
    }
}

fn errno(error: &DmError) -> Option<i32> {
    match error {
        DmError::Core(errors::Error::Ioctl(_, _, _, errno)) => Some(**errno as i32),
        _ => None,
    }
}

/// The library's own text of a refused call prints all its structures.
fn in_short(error: &DmError) -> String {
    match errno(error) {
        Some(number) => io::Error::from_raw_os_error(number).to_string(),
        None => error.to_string(),
    }
}

fn refused(doing: &str, error: DmError) -> DriverError {
    let source = match errno(&error) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(error.to_string()),
    };
    DriverError::System {
        doing: format!("cannot {doing}"),
        source,
    }
}

/// Asks for a module. Where modules are built in, or cannot be loaded from here, what comes next says so.
fn load(module: &str) {
    if let Err(error) = Exec::new("modprobe").args(["-q", module]).run() {
        log::debug!("{NAME}: {error}");
    }
}
