//! What `docker volume create -o …`, the command line's flags and the API's `Options` say about a new volume.
//!
//! The names are the same in all three places. Unknown names are errors that list the valid ones: an option that
//! is silently ignored is a backup policy that silently does not exist.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Bytes, InvalidValue, Moment, Name, Policy, SnapshotRef, nearest};

/// Every option's name and what it means, for `--help`, for docs and for error messages.
pub const OPTIONS: &[(&str, &str)] = &[
    (
        "adopt",
        "true: take over a directory of this name that windlass did not make",
    ),
    (
        "backup",
        "the URL of a backup: the volume begins as that, and is filled in the background",
    ),
    (
        "backup.dest",
        "where the volume is backed up to; the daemon's backup-dest by default",
    ),
    (
        "backup.drill",
        "when the newest backup is restored aside and compared, to see that it can be: weekly, @monthly",
    ),
    (
        "backup.encrypt",
        "true or false: whether the volume's backups are encrypted; the daemon's backup-encrypt by default",
    ),
    (
        "backup.keep",
        "which of the backups made by schedule are kept, e.g. daily=7,weekly=4,monthly=12",
    ),
    (
        "backup.limit",
        "the most that a backup of the volume may send in a second, e.g. 20M",
    ),
    (
        "backup.rpo",
        "back the volume up so often that the last backup is never older than this, e.g. 4h",
    ),
    (
        "backup.schedule",
        "when the volume is backed up: @daily, 'every 6h', or a cron expression",
    ),
    (
        "backup.verify",
        "sample: look at each backup made by schedule; full=@weekly: read every byte so often; or both",
    ),
    (
        "driver",
        "the driver that holds the volume; the daemon's first one by default",
    ),
    (
        "from",
        "<volume>@<snapshot>, @2h (so long ago) or @2026-11-20T08:00: a writable clone of the volume as it was then",
    ),
    (
        "fs",
        "ext4 or xfs: the filesystem of a volume that is a device of its own (driver devicemapper)",
    ),
    ("gid", "group id of the volume's root directory"),
    (
        "hook.container",
        "the container, or Compose service, that hooks run in; all containers that use the volume by default",
    ),
    (
        "hook.on-error",
        "fail or continue: whether a hook that fails keeps the snapshot from being taken (fail)",
    ),
    (
        "hook.post",
        "a shell command for the volume's containers, run after each snapshot, whatever became of it",
    ),
    (
        "hook.pre",
        "a shell command for the volume's containers, run before each snapshot, e.g. psql -c CHECKPOINT",
    ),
    ("hook.timeout", "how long a hook may take, e.g. 90s (1m)"),
    (
        "hook.user",
        "the user that hooks run as, e.g. postgres; the container's own by default",
    ),
    (
        "mode",
        "permissions of the volume's root directory, octal, e.g. 0750",
    ),
    (
        "mountopts",
        "how the volume's filesystem is mounted, as in fstab, e.g. noatime,discard (driver devicemapper)",
    ),
    (
        "on-remove",
        "trash, delete or keep: what becomes of the data when the volume is removed",
    ),
    (
        "ping.fail-url",
        "what is asked for after a task that failed; by default ping.url with /fail at the end of its path",
    ),
    (
        "ping.tasks",
        "the tasks that are followed by pings, e.g. backup,snapshot,verify (backup)",
    ),
    (
        "ping.url",
        "what is asked for after each backup by policy that succeeded, e.g. https://hc-ping.com/KEY/{volume}",
    ),
    (
        "protect",
        "true: the volume cannot be removed until protection is taken away",
    ),
    (
        "s3-endpoint",
        "with backup: the S3 service, where it is not Amazon's or the URL's, e.g. http://host:9000",
    ),
    ("size", "the most that the volume may hold, e.g. 20G"),
    (
        "snapshot.keep",
        "which of the snapshots taken by schedule are kept, e.g. last=3,hourly=24,daily=7",
    ),
    (
        "snapshot.schedule",
        "when a snapshot of the volume is taken: @hourly, 'every 15m', or a cron expression",
    ),
    (
        "trash-ttl",
        "how long the trash keeps the volume once removed, e.g. 7d",
    ),
    (
        "trim.schedule",
        "when the space of removed files goes back to the pool, e.g. @weekly (driver devicemapper)",
    ),
    ("uid", "user id of the volume's root directory"),
    (
        "vm",
        "true: the volume holds a sparse image disk.img of exactly `size` bytes",
    ),
];

/// Names that Convoy's users may still give, and why they are refused here.
const RETIRED: &[(&str, &str)] = &[
    (
        "id",
        "it belonged to Convoy's EBS driver, which windlass does not have",
    ),
    (
        "type",
        "it belonged to Convoy's EBS driver, which windlass does not have",
    ),
    (
        "iops",
        "it belonged to Convoy's EBS driver, which windlass does not have",
    ),
];

/// Options in their own types. Which of them a driver can honour is the driver's to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// The driver asked for.
    pub driver: Option<String>,
    /// The most that the volume may hold.
    pub size: Option<Bytes>,
    /// The snapshot to clone; in the place of its name, a [`Moment`].
    pub from: Option<SnapshotRef>,
    /// The URL of the backup to begin as.
    pub backup: Option<String>,
    /// The S3 service that the backup is at.
    pub s3_endpoint: Option<String>,
    /// Owner and permissions of the volume's root directory.
    pub root: RootDirectory,
    /// The filesystem that it gets, where it is a device.
    pub fs: Option<String>,
    /// How that is mounted.
    pub mount_options: Option<String>,
    /// Take over a directory that is there already.
    pub adopt: bool,
    /// Hold one disk image instead of a tree.
    pub vm: bool,
    /// What is to be done with the volume, by whom and when.
    pub policy: Policy,
}

/// Owner and permissions of a volume's root directory; what is not given is root:root 0755.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootDirectory {
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
    /// Permission bits, at most 0o7777.
    pub mode: Option<u32>,
}

impl CreateOptions {
    /// Reads options as they were given.
    ///
    /// # Errors
    /// The first one (in order of name) that is unknown, retired, malformed or in conflict with another.
    pub fn parse(given: &BTreeMap<String, String>) -> Result<Self, InvalidValue> {
        let mut options = Self::default();
        for (name, value) in given {
            let name = name.as_str();
            match name {
                "adopt" => options.adopt = boolean(name, value)?,
                "backup" => options.backup = Some(url(name, value)?),
                "driver" => options.driver = Some(value.clone()),
                "from" => options.from = Some(snapshot(name, value)?),
                "fs" => options.fs = Some(filesystem(name, value)?),
                "gid" => options.root.gid = Some(id(name, value)?),
                "mode" => options.root.mode = Some(mode(name, value)?),
                "mountopts" => options.mount_options = Some(mount_options(name, value)?),
                "s3-endpoint" => options.s3_endpoint = Some(url(name, value)?),
                "size" => options.size = Some(Bytes::parse(name, value)?),
                "uid" => options.root.uid = Some(id(name, value)?),
                "vm" => options.vm = boolean(name, value)?,
                _ if options.policy.set(name, value)? => {}
                _ => return Err(unknown(name, value)),
            }
        }
        options.check_conflicts()?;
        options.policy.check()?;
        Ok(options)
    }

    fn check_conflicts(&self) -> Result<(), InvalidValue> {
        let conflict = |first, second, why| Err(InvalidValue::Conflict { first, second, why });
        if self.adopt && self.from.is_some() {
            return conflict("adopt", "from", "a volume begins as the one or as the other");
        }
        if self.adopt && self.vm {
            return conflict("adopt", "vm", "an adopted directory already has contents");
        }
        if self.vm && self.from.is_some() {
            return conflict("vm", "from", "a clone holds what its snapshot holds");
        }
        if self.fs.is_some() && (self.from.is_some() || self.backup.is_some()) {
            let second = if self.from.is_some() { "from" } else { "backup" };
            return conflict("fs", second, "a copy has the filesystem that it is a copy of");
        }
        if self.backup.is_some() {
            let why = "a volume that is restored holds what its backup holds";
            for (given, other) in [
                (self.from.is_some(), "from"),
                (self.adopt, "adopt"),
                (self.vm, "vm"),
            ] {
                if given {
                    return conflict("backup", other, why);
                }
            }
        } else if self.s3_endpoint.is_some() {
            return Err(refused(
                "s3-endpoint",
                self.s3_endpoint.as_deref().unwrap_or_default(),
                "of use without backup",
            ));
        }
        if self.vm && self.size.is_none() {
            return Err(InvalidValue::Value {
                option: "vm".to_owned(),
                value: "true".to_owned(),
                expected: "possible without size: a disk image has an exact size".to_owned(),
            });
        }
        Ok(())
    }
}

fn unknown(name: &str, value: &str) -> InvalidValue {
    if let Some((_, why)) = RETIRED.iter().find(|(retired, _)| *retired == name) {
        return InvalidValue::Value {
            option: name.to_owned(),
            value: value.to_owned(),
            expected: format!("accepted: {why}"),
        };
    }
    let names = || OPTIONS.iter().map(|(name, _)| *name);
    InvalidValue::UnknownOption {
        name: name.chars().take(80).collect(),
        nearest: nearest(name, names()),
        valid: names().collect::<Vec<_>>().join(", "),
    }
}

fn refused(option: &str, value: &str, expected: &str) -> InvalidValue {
    InvalidValue::Value {
        option: option.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
}

pub(super) fn boolean(option: &str, value: &str) -> Result<bool, InvalidValue> {
    match value {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err(refused(option, value, "true or false")),
    }
}

/// What a URL must be to be worth asking its destination about.
pub(super) fn url(option: &str, value: &str) -> Result<String, InvalidValue> {
    let plain = value.trim();
    match plain.contains("://") && !plain.contains(char::is_control) && plain.len() <= 4_096 {
        true => Ok(plain.to_owned()),
        false => Err(refused(option, value, "a URL")),
    }
}

fn filesystem(option: &str, value: &str) -> Result<String, InvalidValue> {
    match value {
        "ext4" | "xfs" => Ok(value.to_owned()),
        _ => Err(refused(option, value, "ext4 or xfs")),
    }
}

/// Words as fstab has them. Which of them a filesystem knows, the kernel says at the first mount.
fn mount_options(option: &str, value: &str) -> Result<String, InvalidValue> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-=.,:".contains(&byte);
    match !value.is_empty() && value.len() <= 1_000 && value.bytes().all(plain) {
        true => Ok(value.to_owned()),
        false => Err(refused(option, value, "mount options such as noatime,discard")),
    }
}

fn id(option: &str, value: &str) -> Result<u32, InvalidValue> {
    // 2^32-1 means "leave it as it is" to chown(2), so it is no id.
    match value.parse::<u32>() {
        Ok(id) if id != u32::MAX && value.bytes().all(|b| b.is_ascii_digit()) => Ok(id),
        _ => Err(refused(option, value, "a numeric id between 0 and 4294967294")),
    }
}

fn mode(option: &str, value: &str) -> Result<u32, InvalidValue> {
    match u32::from_str_radix(value, 8) {
        Ok(mode) if mode <= 0o7777 && value.bytes().all(|b| b.is_ascii_digit()) => Ok(mode),
        _ => Err(refused(option, value, "octal permissions such as 0750")),
    }
}

fn snapshot(option: &str, value: &str) -> Result<SnapshotRef, InvalidValue> {
    let reference = SnapshotRef::parse(value);
    let named = |part: &str| Name::snapshot(part).is_ok();
    match &reference.volume {
        Some(volume)
            if named(volume)
                && (named(&reference.snapshot) || Moment::parse(&reference.snapshot).is_some()) =>
        {
            Ok(reference)
        }
        _ => Err(refused(
            option,
            value,
            "<volume>@<snapshot>, or a moment in the snapshot's place: pgdata@2h, pgdata@2026-11-20T08:00",
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(given: &[(&str, &str)]) -> Result<CreateOptions, InvalidValue> {
        CreateOptions::parse(
            &given
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn every_documented_option_is_read() {
        let all = [
            ("driver", "vfs"),
            ("size", "1G"),
            ("fs", "xfs"),
            ("mountopts", "noatime,logbufs=8"),
            ("uid", "70"),
            ("gid", "70"),
            ("mode", "0700"),
            ("vm", "true"),
            ("on-remove", "keep"),
            ("trash-ttl", "1d"),
            ("protect", "true"),
        ];
        let options = parse(&all).expect("valid");
        assert_eq!(
            options.root,
            RootDirectory {
                uid: Some(70),
                gid: Some(70),
                mode: Some(0o700)
            }
        );
        assert_eq!(
            options.policy.to_string(),
            "on-remove=keep,protect=true,trash-ttl=1d"
        );
        assert!(parse(&[("adopt", "true")]).expect("valid").adopt);
        let restore = parse(&[
            ("backup", "s3://b?volume=v&backup=01"),
            ("s3-endpoint", "http://h:1"),
        ]);
        assert_eq!(restore.expect("valid").s3_endpoint.as_deref(), Some("http://h:1"));
        for from in ["v@s", "v@2h", "v@2026-11-20", "v@2026-11-20T08:00+01:00"] {
            assert!(parse(&[("from", from)]).expect("valid").from.is_some());
        }
        for (name, _) in OPTIONS {
            let said = parse(&[(name, "\u{1}")])
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default();
            assert!(
                !said.contains("unknown option"),
                "{name} is documented but not read"
            );
        }
    }

    #[test]
    fn an_unknown_option_names_the_nearest_and_all() {
        let said = parse(&[("on-remvoe", "keep")]).expect_err("misspelt").to_string();
        assert!(
            said.contains("did you mean \"on-remove\"") && said.contains("trash-ttl"),
            "{said}"
        );
    }

    #[test]
    fn values_are_checked_one_by_one() {
        for (name, value) in [
            ("size", "big"),
            ("uid", "-1"),
            ("uid", "4294967295"),
            ("uid", "+5"),
            ("gid", "staff"),
            ("mode", "999"),
            ("mode", "17777"),
            ("mode", ""),
            ("on-remove", "shred"),
            ("trash-ttl", "7"),
            ("protect", "maybe"),
            ("adopt", ""),
            ("vm", "2"),
            ("from", "volume"),
            ("from", "../v@s"),
            ("from", "v@"),
            ("from", "v@2026-11-20T99:00"),
            ("from", "v@08:00"),
            ("backup", "pg"),
            ("fs", "ntfs"),
            ("mountopts", "no atime"),
            ("s3-endpoint", "http://h:1"),
            ("iops", "100"),
        ] {
            let said = parse(&[(name, value)]).expect_err(name).to_string();
            assert!(said.contains(name), "{said}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(parse(&[("adopt", "true"), ("from", "v@s")]).is_err());
        assert!(parse(&[("vm", "true")]).is_err());
        for other in [("adopt", "true"), ("from", "v@s"), ("vm", "true")] {
            assert!(
                parse(&[("backup", "vfs:///b?volume=v&backup=01"), other]).is_err(),
                "{other:?}"
            );
        }
        assert!(parse(&[("vm", "true"), ("size", "1G"), ("adopt", "true")]).is_err());
    }

    proptest! {
        #[test]
        fn no_options_whatever_make_it_panic(given in prop::collection::btree_map(".{0,12}", ".{0,12}", 0..4)) {
            let _ = CreateOptions::parse(&given);
        }
    }
}
