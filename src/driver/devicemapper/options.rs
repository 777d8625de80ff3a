//! The driver's options, `dm.<key>` in the configuration. The names of the first seven are Convoy's.

use std::path::PathBuf;

use super::super::DriverOptions;
use crate::model::{Bytes, InvalidValue, nearest};

/// All keys.
const KEYS: [&str; 11] = [
    "datadev",
    "defaultvolumesize",
    "device",
    "fs",
    "loopback",
    "metadatadev",
    "nospace",
    "reserve",
    "thinpoolblocksize",
    "thinpoolname",
    "warnat",
];

/// What a sector is to the kernel, in bytes.
pub(super) const SECTOR: u64 = 512;

/// 64 KiB: docs/devicemapper.md has the figures.
const DEFAULT_BLOCK_SECTORS: u32 = 128;

/// The options in their own types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) storage: Storage,
    pub(super) pool_name: String,
    /// In sectors of 512 bytes. Counts when the pool is made, and never again.
    pub(super) block_sectors: u32,
    /// Of volumes that name none.
    pub(super) default_size: Bytes,
    pub(super) filesystem: Filesystem,
    pub(super) no_space: NoSpace,
    /// How full the pool is when a person is warned, in percent, rising.
    pub(super) thresholds: Vec<u64>,
    /// What is kept free for volumes that are there already, in percent of the pool.
    pub(super) reserve: u64,
}

/// What the pool is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Storage {
    /// Two block devices.
    Devices {
        /// For what volumes hold.
        data: PathBuf,
        /// For what the pool knows.
        metadata: PathBuf,
    },
    /// One block device that is divided.
    Device(PathBuf),
    /// Sparse files below the root, for trying out; so large is the one for data.
    Loopback(Bytes),
}

/// The filesystem of new volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filesystem {
    Ext4,
    Xfs,
}

impl Filesystem {
    /// As mount(2) and the options write it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    pub(super) fn parse(option: &str, value: &str) -> Result<Self, InvalidValue> {
        [Self::Ext4, Self::Xfs]
            .into_iter()
            .find(|fs| fs.word() == value)
            .ok_or_else(|| refused(option, value, "ext4 or xfs"))
    }
}

/// What becomes of a write that the full pool has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSpace {
    /// It fails at once.
    Error,
    /// It waits for the pool to be extended; the kernel gives up after a minute (its no_space_timeout).
    Queue,
}

impl NoSpace {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Queue => "queue",
        }
    }
}

impl Options {
    pub(super) fn parse(given: &DriverOptions) -> Result<Self, InvalidValue> {
        if let Some(key) = given.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(unknown(key));
        }
        let get = |key: &str| given.get(key).map(String::as_str);
        let no_space = match get("nospace") {
            None | Some("error") => NoSpace::Error,
            Some("queue") => NoSpace::Queue,
            Some(other) => return Err(refused("dm.nospace", other, "error or queue")),
        };
        Ok(Self {
            storage: storage(get)?,
            pool_name: pool_name(get("thinpoolname").unwrap_or("windlass-pool"))?,
            block_sectors: get("thinpoolblocksize").map_or(Ok(DEFAULT_BLOCK_SECTORS), block_sectors)?,
            default_size: Bytes::parse("dm.defaultvolumesize", get("defaultvolumesize").unwrap_or("100G"))?,
            filesystem: Filesystem::parse("dm.fs", get("fs").unwrap_or("ext4"))?,
            no_space,
            thresholds: thresholds(get("warnat").unwrap_or("80,90,95"))?,
            reserve: get("reserve").map_or(Ok(5), reserve)?,
        })
    }
}

fn storage<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Storage, InvalidValue> {
    let device = |key: &str| {
        get(key)
            .map(|value| path(&format!("dm.{key}"), value))
            .transpose()
    };
    let conflict = |first, second| {
        let why = "the pool is made of one of them";
        Err(InvalidValue::Conflict { first, second, why })
    };
    let (data, metadata) = (device("datadev")?, device("metadatadev")?);
    let (one, files) = (device("device")?, get("loopback"));
    match (data, metadata, one, files) {
        (Some(data), Some(metadata), None, None) if data == metadata => Err(refused(
            "dm.metadatadev",
            &metadata.display().to_string(),
            "another device than dm.datadev; give it as dm.device to have it divided",
        )),
        (Some(data), Some(metadata), None, None) => Ok(Storage::Devices { data, metadata }),
        (None, None, Some(device), None) => Ok(Storage::Device(device)),
        (None, None, None, Some(size)) => Bytes::parse("dm.loopback", size).map(Storage::Loopback),
        (None, None, None, None) => Err(missing(
            "dm.device",
            "the driver needs storage: dm.device=<an empty block device>, or dm.datadev and dm.metadatadev, or \
             dm.loopback=<size> to try it out on files",
        )),
        (_, _, Some(_), Some(_)) => conflict("dm.device", "dm.loopback"),
        (Some(_), _, Some(_), _) => conflict("dm.device", "dm.datadev"),
        (_, Some(_), Some(_), _) => conflict("dm.device", "dm.metadatadev"),
        (Some(_), _, _, Some(_)) => conflict("dm.loopback", "dm.datadev"),
        (_, Some(_), _, Some(_)) => conflict("dm.loopback", "dm.metadatadev"),
        (Some(_), None, None, None) => Err(missing("dm.metadatadev", "it goes with dm.datadev")),
        (None, Some(_), None, None) => Err(missing("dm.datadev", "it goes with dm.metadatadev")),
    }
}

fn path(option: &str, value: &str) -> Result<PathBuf, InvalidValue> {
    let path = PathBuf::from(value);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(refused(option, value, "an absolute path of a block device")),
    }
}

/// The kernel's names have 127 bytes at most, and those of thin devices begin with this one.
fn pool_name(value: &str) -> Result<String, InvalidValue> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    let begins = value.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    match begins && value.len() <= 100 && value.bytes().all(plain) {
        true => Ok(value.to_owned()),
        false => Err(refused(
            "dm.thinpoolname",
            value,
            "at most 100 letters, digits, and -_.+, a letter or digit first",
        )),
    }
}

fn block_sectors(value: &str) -> Result<u32, InvalidValue> {
    match value.parse::<u32>() {
        Ok(sectors) if (128..=2_097_152).contains(&sectors) && sectors.is_multiple_of(128) => Ok(sectors),
        _ => Err(refused(
            "dm.thinpoolblocksize",
            value,
            "a number of sectors of 512 bytes, between 128 (64 KiB) and 2097152 (1 GiB) and a multiple of 128",
        )),
    }
}

fn thresholds(value: &str) -> Result<Vec<u64>, InvalidValue> {
    let parts = value
        .split(',')
        .map(|part| part.trim().trim_end_matches('%').parse::<u64>());
    let percents: Result<Vec<u64>, _> = parts.collect();
    match percents {
        Ok(percents)
            if percents.is_sorted() && percents.iter().all(|percent| (1..=100).contains(percent)) =>
        {
            Ok(percents)
        }
        _ => Err(refused(
            "dm.warnat",
            value,
            "percents that rise, such as 80,90,95",
        )),
    }
}

fn reserve(value: &str) -> Result<u64, InvalidValue> {
    match value.strip_suffix('%').unwrap_or(value).parse::<u64>() {
        Ok(percent) if percent <= 50 => Ok(percent),
        _ => Err(refused(
            "dm.reserve",
            value,
            "a part of the pool in percent, at most 50",
        )),
    }
}

fn refused(option: &str, value: &str, expected: &str) -> InvalidValue {
    InvalidValue::Value {
        option: option.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
}

fn missing(option: &str, why: &str) -> InvalidValue {
    refused(option, "", &format!("given: {why}"))
}

fn unknown(key: &str) -> InvalidValue {
    InvalidValue::UnknownOption {
        name: format!("dm.{}", key.chars().take(80).collect::<String>()),
        nearest: nearest(key, KEYS).map(|key| format!("dm.{key}")),
        valid: KEYS.map(|key| format!("dm.{key}")).join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[(&str, &str)]) -> Result<Options, InvalidValue> {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Options::parse(&given.iter().map(pair).collect())
    }

    #[test]
    fn reads_all_of_them() {
        let options = parse(&[
            ("datadev", "/dev/sdb1"),
            ("metadatadev", "/dev/sdb2"),
            ("thinpoolname", "convoy-pool"),
            ("thinpoolblocksize", "4096"),
            ("defaultvolumesize", "10G"),
            ("fs", "xfs"),
            ("nospace", "queue"),
            ("reserve", "10%"),
            ("warnat", "50, 75%"),
        ]);
        let expected = Options {
            storage: Storage::Devices {
                data: "/dev/sdb1".into(),
                metadata: "/dev/sdb2".into(),
            },
            pool_name: "convoy-pool".to_owned(),
            block_sectors: 4096,
            default_size: Bytes(10 << 30),
            filesystem: Filesystem::Xfs,
            no_space: NoSpace::Queue,
            thresholds: vec![50, 75],
            reserve: 10,
        };
        assert_eq!(options, Ok(expected));
        let plain = parse(&[("device", "/dev/sdb")]).expect("enough");
        assert_eq!(plain.storage, Storage::Device("/dev/sdb".into()));
        assert_eq!(
            (plain.default_size, plain.filesystem, plain.no_space),
            (Bytes(100 << 30), Filesystem::Ext4, NoSpace::Error)
        );
    }

    #[test]
    fn refuses_others_by_name_and_with_the_nearest() {
        let said = parse(&[("thinpoolnam", "x")]).expect_err("misspelt").to_string();
        assert!(
            said.contains("did you mean \"dm.thinpoolname\"") && said.contains("dm.datadev"),
            "{said}"
        );
        for (key, value) in [
            ("device", "sdb"),
            ("loopback", "much"),
            ("thinpoolname", "a/b"),
            ("thinpoolname", ""),
            ("thinpoolblocksize", "129"),
            ("thinpoolblocksize", "64"),
            ("thinpoolblocksize", "4194304"),
            ("defaultvolumesize", "0"),
            ("fs", "ntfs"),
            ("nospace", "panic"),
            ("reserve", "51"),
            ("warnat", "90,80"),
            ("warnat", ""),
        ] {
            let mut given = vec![(key, value)];
            given.extend((!["device", "loopback"].contains(&key)).then_some(("loopback", "1G")));
            let said = parse(&given).expect_err(key).to_string();
            assert!(said.contains(&format!("dm.{key}")), "{said}");
        }
    }

    #[test]
    fn wants_storage_of_one_sort() {
        for given in [
            &[][..],
            &[("datadev", "/dev/a")],
            &[("metadatadev", "/dev/a")],
            &[("datadev", "/dev/a"), ("metadatadev", "/dev/a")],
            &[("device", "/dev/a"), ("loopback", "1G")],
            &[
                ("device", "/dev/a"),
                ("datadev", "/dev/b"),
                ("metadatadev", "/dev/c"),
            ],
            &[("loopback", "1G"), ("metadatadev", "/dev/c")],
        ] {
            let said = parse(given).expect_err("refused").to_string();
            assert!(said.contains("dm."), "{said}");
        }
    }
}
