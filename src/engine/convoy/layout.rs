//! Where Convoy 0.5 keeps what, below a destination:
//!
//! ```text
//! convoy-objectstore/volumes/<xx>/<yy>/<volume>/volume.cfg
//!                                               backups/backup_<backup>.cfg
//!                                               blocks/<aa>/<bb>/<checksum>.blk
//!                                               BackupFiles/<backup>.bak
//! ```
//!
//! `xx` and `yy` are the first and the second two characters of the volume's name, `aa` and `bb` those of the checksum. A
//! volume's name shorter than four characters is filled up with `!`, in all three places. Names are checked before a
//! path is made of them. (Source: objectstore/config.go, deltablock.go and singlefile.go of Convoy 0.5.)

use crate::engine::Id;

/// The directory that Convoy makes below a destination.
pub const BASE: &str = "convoy-objectstore";
/// The one in it.
pub const VOLUMES: &str = "volumes";

/// Whether this can be the name of a volume or a backup: one component of a path, of Convoy's alphabet.
pub fn is_name(name: &str) -> bool {
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !matches!(name, "" | "." | "..") && name.len() <= 250 && name.bytes().all(alphabet)
}

/// The directory of a volume; `None` where no volume can have that name.
pub fn volume_directory(volume: &str) -> Option<String> {
    if !is_name(volume) {
        return None;
    }
    let name = format!("{volume:!<4}");
    let (first, second) = (&name[..2], &name[2..4]);
    (first != ".." && second != "..").then(|| format!("{BASE}/{VOLUMES}/{first}/{second}/{name}"))
}

/// The volume's record.
pub fn volume_record(directory: &str) -> String {
    format!("{directory}/volume.cfg")
}

/// The directory of the backups' records.
pub fn backups(directory: &str) -> String {
    format!("{directory}/backups")
}

/// A backup's record; the name is checked.
pub fn backup_record(directory: &str, backup: &str) -> String {
    format!("{directory}/backups/backup_{backup}.cfg")
}

/// The backup that a file in [`backups`] is the record of.
pub fn backup_of_record(file: &str) -> Option<&str> {
    let name = file.strip_prefix("backup_")?.strip_suffix(".cfg")?;
    is_name(name).then_some(name)
}

/// A block, by the first half of the SHA-512 of its content.
pub fn block(directory: &str, checksum: &Id) -> String {
    let name = checksum.to_string();
    format!("{directory}/blocks/{}/{}/{name}.blk", &name[..2], &name[2..4])
}

/// Whether `path`, from a backup's record, is where that backup's archive can be.
///
/// Convoy 0.5 names it after the backup; before, it had the name of the snapshot's file, which did not end in `.bak`.
pub fn is_archive(directory: &str, backup: &str, path: &str) -> bool {
    let below = path.strip_prefix(directory);
    let Some(name) = below.and_then(|rest| rest.strip_prefix("/BackupFiles/")) else {
        return false;
    };
    is_name(name) && name.strip_suffix(".bak").is_none_or(|stem| stem == backup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_lie_by_their_first_characters_and_short_names_are_filled_up() {
        let at = |name| volume_directory(name).expect("a name");
        assert_eq!(at("pgdata"), "convoy-objectstore/volumes/pg/da/pgdata");
        assert_eq!(at("abcd"), "convoy-objectstore/volumes/ab/cd/abcd");
        assert_eq!(at("abc"), "convoy-objectstore/volumes/ab/c!/abc!");
        assert_eq!(at("ab"), "convoy-objectstore/volumes/ab/!!/ab!!");
        assert_eq!(at("a"), "convoy-objectstore/volumes/a!/!!/a!!!");
    }

    #[test]
    fn no_name_leads_out_of_its_directory() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "..abc",
            "ab..c",
            "a\0b",
            "a!",
            "é",
            &"x".repeat(251),
        ] {
            assert_eq!(volume_directory(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_backup_s_archive_is_its_own() {
        let yes = |path| is_archive("d", "backup-1", path);
        assert!(yes("d/BackupFiles/backup-1.bak"));
        assert!(yes("d/BackupFiles/0f3a_77c1.tar.gz"));
        for no in [
            "d/BackupFiles/backup-2.bak",
            "e/BackupFiles/backup-1.bak",
            "d/BackupFiles/../volume.cfg",
            "d/BackupFiles/x/backup-1.bak",
            "/etc/passwd",
            "d/BackupFiles/",
            "",
        ] {
            assert!(!yes(no), "{no:?}");
        }
    }

    #[test]
    fn records_are_told_from_leftovers() {
        assert_eq!(backup_of_record("backup_backup-1.cfg"), Some("backup-1"));
        for other in [
            "backup_backup-1.cfg.tmp",
            "backup_.cfg",
            "volume.cfg",
            "backup_a/b.cfg",
        ] {
            assert_eq!(backup_of_record(other), None, "{other}");
        }
    }
}
