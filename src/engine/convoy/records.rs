//! Convoy's records, from JSON: the volume's, and one for each backup. What does not add up is refused, with the reason.
//!
//! Records carry no checksum. So nothing about the bytes of a volume is taken from a record that could have been damaged
//! unseen: an unknown key is refused (it may be `Blocks`, with a bit flipped), as are offsets and sizes that are no
//! multiples of a block: no change of one digit makes one multiple of 2^21 out of another.

use serde::{Deserialize, Deserializer};

use super::{BLOCK_BYTES, ConvoyBackup, layout};
use crate::engine::{Id, Kind};

/// The longest volume record, in bytes; real ones have about 150.
pub(super) const VOLUME_LIMIT: u64 = 1 << 20;
/// The longest backup record, in bytes: room for 1.2 million blocks, 2.4 TiB of data.
pub(super) const BACKUP_LIMIT: u64 = 128 << 20;
/// The largest volume, in bytes; device mapper's thin volumes end at 16 TiB or so, depending on the pool.
const SIZE_LIMIT: u64 = 256 << 40;

/// What the volume's record says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Volume {
    name: String,
    #[serde(default)]
    driver: String,
    #[serde(default, deserialize_with = "number")]
    size: u64,
    #[serde(default)]
    created_time: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Backup {
    name: String,
    volume_name: String,
    #[serde(default)]
    driver: String,
    #[serde(default)]
    snapshot_name: String,
    #[serde(default)]
    snapshot_created_at: String,
    #[serde(default)]
    created_time: String,
    #[serde(default)]
    blocks: Option<Vec<Block>>,
    #[serde(default)]
    single_file: SingleFile,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct SingleFile {
    #[serde(default)]
    file_path: String,
}

/// Where a block belongs, and which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Block {
    /// In bytes, from the beginning of the volume.
    pub(super) offset: u64,
    /// The first 32 bytes of the SHA-512 of the block.
    #[serde(rename = "BlockChecksum")]
    pub(super) checksum: Id,
}

/// What a backup holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// In the order of their offsets.
    Blocks(Vec<Block>),
    /// The path of the tar.gz in the store.
    Archive(String),
}

/// Reads the record of the volume `name`.
pub(super) fn volume(json: &[u8], name: &str) -> Result<Volume, String> {
    let volume: Volume = parse(json)?;
    if volume.name != name {
        return Err(format!("it is the record of the volume {:?}", volume.name));
    }
    if volume.size > SIZE_LIMIT {
        return Err(format!("no volume has {} bytes", volume.size));
    }
    Ok(volume)
}

/// Reads the record of the backup `name`.
pub(super) fn backup(
    json: &[u8],
    volume: &Volume,
    directory: &str,
    name: &str,
) -> Result<(ConvoyBackup, Content), String> {
    let record: Backup = parse(json)?;
    if record.name != name || record.volume_name != volume.name {
        return Err(format!(
            "it is the record of the backup {:?} of the volume {:?}",
            record.name, record.volume_name
        ));
    }
    let driver = if volume.driver.is_empty() {
        record.driver
    } else {
        volume.driver.clone()
    };
    let blocks = record.blocks.unwrap_or_default();
    let path = record.single_file.file_path;
    let content = match (path.is_empty(), blocks.is_empty()) {
        (false, true) if layout::is_archive(directory, name, &path) => Content::Archive(path),
        (false, true) => return Err(format!("{path:?} is not where its archive can be")),
        (true, _) if driver == "ebs" => {
            return Err(
                "it is of Amazon's EBS: the data are in an EBS snapshot, not in this repository".to_owned(),
            );
        }
        (true, true) if driver == "vfs" => return Err("it names no archive".to_owned()),
        (true, _) => Content::Blocks(checked(blocks, volume.size)?),
        (false, false) => return Err("it has both blocks and an archive".to_owned()),
    };
    let (kind, blocks) = match &content {
        Content::Blocks(blocks) => (Kind::Block, blocks.len() as u64),
        Content::Archive(_) => (Kind::Tree, 0),
    };
    let about = ConvoyBackup {
        name: record.name,
        driver,
        volume: record.volume_name,
        volume_size: volume.size,
        volume_created_at: volume.created_time.clone(),
        snapshot: record.snapshot_name,
        snapshot_created_at: record.snapshot_created_at,
        created_at: record.created_time,
        kind,
        blocks,
    };
    Ok((about, content))
}

/// The blocks in the order of their offsets, each in a place of its own within the volume.
fn checked(mut blocks: Vec<Block>, size: u64) -> Result<Vec<Block>, String> {
    if size == 0 || !size.is_multiple_of(BLOCK_BYTES) {
        return Err(format!(
            "its volume has {size} bytes, which is no multiple of {BLOCK_BYTES}"
        ));
    }
    blocks.sort_by_key(|block| block.offset);
    for block in &blocks {
        // The size is a multiple too, so a block that begins within the volume ends within it.
        if !block.offset.is_multiple_of(BLOCK_BYTES) || block.offset >= size {
            return Err(format!(
                "it has a block at {}, which is no place for one in a volume of {size} bytes",
                block.offset
            ));
        }
    }
    match blocks.windows(2).find(|pair| pair[0].offset == pair[1].offset) {
        Some(pair) => Err(format!("it has two blocks at {}", pair[0].offset)),
        None => Ok(blocks),
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| {
        let hint = ["missing field", "unknown field"]
            .iter()
            .any(|start| error.to_string().starts_with(start));
        let hint = if hint {
            " (it is damaged, or not of Convoy 0.5)"
        } else {
            ""
        };
        format!("{error}{hint}")
    })
}

/// Convoy 0.5 writes sizes in quotes in some versions, and as numbers in others.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIRECTORY: &str = "convoy-objectstore/volumes/da/ta/data";

    fn read(volume_json: &str, backup_json: &str) -> Result<(ConvoyBackup, Content), String> {
        let about = volume(volume_json.as_bytes(), "data")?;
        backup(backup_json.as_bytes(), &about, DIRECTORY, "b1")
    }

    const VOLUME: &str =
        r#"{"Name":"data","Driver":"devicemapper","Size":8388608,"CreatedTime":"t0","LastBackupName":"b1"}"#;

    fn of_blocks(blocks: &str) -> String {
        format!(
            r#"{{"Name":"b1","Driver":"","VolumeName":"data","SnapshotName":"s","SnapshotCreatedAt":"t1","CreatedTime":"t2","Blocks":[{blocks}],"SingleFile":{{"FilePath":""}}}}"#
        )
    }

    fn block(offset: &str) -> String {
        format!(r#"{{"Offset":{offset},"BlockChecksum":"{}"}}"#, "0a".repeat(32))
    }

    #[test]
    fn an_image_s_blocks_come_in_order_with_all_that_inspect_shows() {
        let (about, content) =
            read(VOLUME, &of_blocks(&[block("4194304"), block("0")].join(","))).expect("valid");
        let Content::Blocks(blocks) = content else {
            panic!("{content:?}")
        };
        assert_eq!(blocks.iter().map(|b| b.offset).collect::<Vec<_>>(), [0, 4194304]);
        assert_eq!(
            (about.kind, about.blocks, about.volume_size),
            (Kind::Block, 2, 8388608)
        );
        assert_eq!(about.driver, "devicemapper");
        let texts = (
            about.volume_created_at.as_str(),
            about.snapshot_created_at.as_str(),
            about.created_at.as_str(),
        );
        assert_eq!(texts, ("t0", "t1", "t2"));
        assert_eq!(about.url("s3://b@r/p"), "s3://b@r/p?backup=b1&volume=data");
    }

    #[test]
    fn a_size_in_quotes_is_a_size() {
        let quoted = VOLUME.replace("8388608", "\"8388608\"");
        assert_eq!(
            read(&quoted, &of_blocks("")).expect("valid").0.volume_size,
            8388608
        );
    }

    #[test]
    fn blocks_have_a_place_of_their_own_in_the_volume() {
        for offset in [
            "8388608",
            "1",
            "2097153",
            "-2097152",
            "18446744073707454464",
            "1e6",
            "99999999999999999999",
        ] {
            let error = read(VOLUME, &of_blocks(&block(offset)));
            assert!(error.is_err(), "{offset}");
        }
        let twice = read(VOLUME, &of_blocks(&[block("0"), block("0")].join(",")));
        assert!(twice.expect_err("twice").contains("two blocks at 0"));
        for size in ["0", "8388607", "-1", "9999999999999999999"] {
            assert!(
                read(&VOLUME.replace("8388608", size), &of_blocks("")).is_err(),
                "{size}"
            );
        }
    }

    #[test]
    fn records_of_others_and_unknown_keys_are_refused() {
        let good = of_blocks(&block("0"));
        for (from, to) in [
            ("\"b1\"", "\"b2\""),
            ("\"data\"", "\"date\""),
            ("Blocks", "Clocks"),
            ("0a0a", "0A0g"),
        ] {
            assert!(
                read(VOLUME, &good.replacen(from, to, 1)).is_err(),
                "{from} → {to}"
            );
        }
        assert!(read(&VOLUME.replace("\"data\"", "\"date\""), &good).is_err());
        assert!(read(VOLUME, &format!("{good}{good}")).is_err());
    }

    #[test]
    fn an_archive_is_the_backup_s_own_and_excludes_blocks() {
        let vfs = VOLUME.replace("devicemapper", "vfs");
        let with = |path: &str, blocks: &str| {
            of_blocks(blocks).replace(r#""FilePath":"""#, &format!(r#""FilePath":"{path}""#))
        };
        let own = format!("{DIRECTORY}/BackupFiles/b1.bak");
        let (about, content) = read(&vfs, &with(&own, "")).expect("valid");
        assert_eq!((about.kind, content), (Kind::Tree, Content::Archive(own.clone())));
        assert!(read(&vfs, &with(&own, &block("0"))).is_err());
        assert!(read(&vfs, &with("", "")).is_err());
        assert!(read(&vfs, &with(&format!("{DIRECTORY}/BackupFiles/../volume.cfg"), "")).is_err());
    }

    proptest! {
        /// No digit of an offset or a size can be changed so that it is still one.
        #[test]
        fn a_changed_digit_is_no_multiple_of_a_block(count in 0u64..(1 << 27), place in 0u32..15, digit in 0u64..10) {
            let number = count * BLOCK_BYTES;
            let power = 10u64.pow(place);
            let old = number / power % 10;
            prop_assume!(digit != old && number >= power);
            let changed = number - old * power + digit * power;
            prop_assert!(!changed.is_multiple_of(BLOCK_BYTES));
        }

        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = read(&text, &text);
            let _ = read(VOLUME, &text);
        }
    }
}
