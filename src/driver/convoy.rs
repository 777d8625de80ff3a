//! Convoy's own records of its volumes on this host, as it left them: read, never written.
//!
//! Below Convoy's root (`/var/lib/convoy`), each driver has a directory with a configuration and a JSON file for each volume:
//!
//! ```text
//! devicemapper/devicemapper.cfg                      the pool: its devices
//! devicemapper/devicemapper_volume_<name>.json       a volume with its snapshots, and their thin devices' ids
//! vfs/vfs.cfg                                        the directory of volumes, and that of their records
//! <records>/vfs_volume_<name>.json                   a volume
//! ```
//!
//! What is in them is data from outside: each file is read with a bound, and what is missing or strange is said with its path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{DriverError, Result, document};
use crate::model::{Bytes, Name, Time};

/// The record of a pool.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PoolConfig {
    /// The device for data.
    pub data_device: PathBuf,
    /// The device for metadata.
    pub metadata_device: PathBuf,
    /// `/dev/mapper/convoy-pool`.
    #[serde(default)]
    pub thinpool_device: PathBuf,
}

/// The record of a volume in the pool.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ThinVolume {
    /// Its name.
    pub name: String,
    /// Its thin device.
    #[serde(rename = "DevID")]
    pub dev_id: u32,
    /// In bytes.
    pub size: u64,
    /// `ext4` or `xfs`; older versions do not say.
    #[serde(default)]
    pub filesystem: String,
    /// As `Fri Nov 20 08:00:00 +0000 2026`.
    #[serde(default)]
    pub created_time: String,
    /// Its snapshots, by name.
    #[serde(default)]
    pub snapshots: Option<BTreeMap<String, ThinSnapshot>>,
}

/// The record of a snapshot in the pool.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ThinSnapshot {
    /// Its thin device.
    #[serde(rename = "DevID")]
    pub dev_id: u32,
    /// As a volume's.
    #[serde(default)]
    pub created_time: String,
}

/// The record of the directory of volumes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TreeConfig {
    /// The volumes' directory.
    pub path: PathBuf,
    /// The directory of their records; older versions keep them beside the configuration.
    #[serde(default)]
    pub config_path: PathBuf,
}

/// The record of a volume that is a directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TreeVolume {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// It holds a disk image.
    #[serde(default, rename = "PrepareForVM")]
    pub prepare_for_vm: bool,
    /// Its snapshots, which are archives, by name.
    #[serde(default)]
    pub snapshots: Option<BTreeMap<String, serde_json::Value>>,
}

/// What is taken over from Convoy, or would be.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// Volumes that become ours.
    pub adopted: Vec<Adopted>,
    /// What stays behind (`volume x`, `snapshot x@y`), and why.
    pub skipped: Vec<(String, String)>,
    /// What keeps the whole from being taken over; only a dry run goes on to say what would be.
    pub obstacle: Option<String>,
}

/// A volume that becomes ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Its name.
    pub name: Name,
    /// The driver that holds it.
    pub driver: &'static str,
    /// Its size, where it has one.
    pub size: Option<Bytes>,
    /// How many of its snapshots come with it.
    pub snapshots: usize,
}

/// A file with what it says, or why it cannot be read.
pub type Read<T> = (String, Result<T>);

/// The pool's directory, and its configuration; `None` where Convoy has none there.
pub fn pool(root: &Path) -> Result<Option<PoolConfig>> {
    let dir = root.join("devicemapper");
    for name in ["devicemapper.cfg", "devmapper.json"] {
        if let Some(config) = document::read(&dir.join(name))? {
            return Ok(Some(config));
        }
    }
    Ok(None)
}

/// The pool's volumes, by the names in their files' names.
pub fn thin_volumes(root: &Path) -> Result<Vec<Read<ThinVolume>>> {
    volumes(&root.join("devicemapper"), "devicemapper_volume_")
}

/// The configuration of the directories; `None` where Convoy has none there.
pub fn trees(root: &Path) -> Result<Option<TreeConfig>> {
    document::read(&root.join("vfs").join("vfs.cfg"))
}

/// The volumes that are directories.
pub fn tree_volumes(root: &Path, config: &TreeConfig) -> Result<Vec<Read<TreeVolume>>> {
    match config.config_path.is_absolute() {
        true => volumes(&config.config_path, "vfs_volume_"),
        false => volumes(&root.join("vfs"), "vfs_volume_"),
    }
}

fn volumes<T: DeserializeOwned>(dir: &Path, prefix: &str) -> Result<Vec<Read<T>>> {
    let failed = |source| DriverError::System {
        doing: format!("cannot read directory {}", dir.display()),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let file_name = entry.file_name();
        let Some(name) = file_name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix)?.strip_suffix(".json"))
        else {
            continue;
        };
        let read = match document::read::<T>(&entry.path()) {
            Ok(Some(volume)) => Ok(volume),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        found.push((name.to_owned(), read));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// A time as Convoy writes it; now, where it is none.
pub fn time(text: &str) -> Time {
    Time::parse_convoy(text).unwrap_or_else(Time::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_convoy_wrote_and_says_what_it_cannot_read() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let root = dir.path();
        assert!(pool(root).expect("read").is_none() && trees(root).expect("read").is_none());
        std::fs::create_dir(root.join("devicemapper")).expect("a directory");
        let put = |name: &str, text: &str| {
            std::fs::write(root.join("devicemapper").join(name), text).expect("written");
        };
        put(
            "devicemapper.cfg",
            r#"{"Root":"/var/lib/convoy/devicemapper","DataDevice":"/dev/loop0","MetadataDevice":"/dev/loop1",
                "ThinpoolDevice":"/dev/mapper/convoy-pool","ThinpoolSize":1073741824,"ThinpoolBlockSize":4096,
                "DefaultVolumeSize":107374182400,"LastDevID":3,"Filesystem":"ext4"}"#,
        );
        put(
            "devicemapper_volume_pg.json",
            r#"{"Name":"pg","DevID":1,"Size":1073741824,"Filesystem":"ext4","MountPoint":"","CreatedTime":
                "Fri Nov 20 08:00:00 +0000 2026","Snapshots":{"s":{"Name":"s","CreatedTime":"Fri Nov 20 09:00:00 +0000 2026",
                "DevID":2,"Activated":false}}}"#,
        );
        put("devicemapper_volume_bad.json", "{\"Name\":");
        put(
            "devicemapper_volume_none.json",
            r#"{"Name":"none","DevID":4,"Size":1,"Snapshots":null}"#,
        );
        put("other.json", "{}");
        let config = pool(root).expect("read").expect("there");
        assert_eq!(config.data_device, Path::new("/dev/loop0"));
        let found = thin_volumes(root).expect("read");
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["bad", "none", "pg"]);
        assert!(matches!(found[0].1, Err(DriverError::Corrupt { .. })));
        let pg = found[2].1.as_ref().expect("a volume");
        assert_eq!(
            (pg.dev_id, pg.snapshots.as_ref().expect("some")["s"].dev_id),
            (1, 2)
        );
        assert_eq!(time(&pg.created_time).to_string(), "2026-11-20T08:00:00Z");
    }
}
