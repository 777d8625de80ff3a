//! What a volume's owner wants done with it, for as long as it exists.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::options::{boolean, url};
use super::{InvalidValue, Keep, OnRemove, Schedule, Span, Time};

/// The options that are policy, which can be changed later.
pub const POLICIES: [&str; 9] = [
    "backup.dest",
    "backup.keep",
    "backup.rpo",
    "backup.schedule",
    "on-remove",
    "protect",
    "snapshot.keep",
    "snapshot.schedule",
    "trash-ttl",
];

/// A volume's policy. What is not given follows the daemon's defaults at that time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What becomes of the data when the volume is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_remove: Option<OnRemove>,
    /// How long the trash keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trash_ttl: Option<Span>,
    /// Refuse removal.
    #[serde(default)]
    pub protect: bool,
    /// When snapshots are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_schedule: Option<Schedule>,
    /// Which of them are kept; all, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_keep: Option<Keep>,
    /// Where backups go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_dest: Option<String>,
    /// When they are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_schedule: Option<Schedule>,
    /// How old the last one may be, instead of a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_rpo: Option<Span>,
    /// Which of them are kept; all, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_keep: Option<Keep>,
    /// Since when the schedules hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

impl Policy {
    /// Sets the option, and says whether it is one of [`POLICIES`].
    ///
    /// # Errors
    /// A value that it cannot take.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, InvalidValue> {
        match name {
            "backup.dest" => self.backup_dest = Some(url(name, value)?),
            "backup.keep" => self.backup_keep = Some(Keep::parse(name, value)?),
            "backup.rpo" => self.backup_rpo = Some(objective(name, value)?),
            "backup.schedule" => self.backup_schedule = Some(Schedule::parse(name, value)?),
            "on-remove" => self.on_remove = Some(OnRemove::parse(name, value)?),
            "protect" => self.protect = boolean(name, value)?,
            "snapshot.keep" => self.snapshot_keep = Some(Keep::parse(name, value)?),
            "snapshot.schedule" => self.snapshot_schedule = Some(Schedule::parse(name, value)?),
            "trash-ttl" => self.trash_ttl = Some(Span::parse(name, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Goes back to the default for the option, and says whether it is one of [`POLICIES`].
    pub fn unset(&mut self, name: &str) -> bool {
        match name {
            "backup.dest" => self.backup_dest = None,
            "backup.keep" => self.backup_keep = None,
            "backup.rpo" => self.backup_rpo = None,
            "backup.schedule" => self.backup_schedule = None,
            "on-remove" => self.on_remove = None,
            "protect" => self.protect = false,
            "snapshot.keep" => self.snapshot_keep = None,
            "snapshot.schedule" => self.snapshot_schedule = None,
            "trash-ttl" => self.trash_ttl = None,
            _ => return false,
        }
        true
    }

    /// Whether its parts agree.
    ///
    /// # Errors
    /// Two that contradict each other.
    pub fn check(&self) -> Result<(), InvalidValue> {
        match (&self.backup_schedule, &self.backup_rpo) {
            (Some(_), Some(_)) => Err(InvalidValue::Conflict {
                first: "backup.schedule",
                second: "backup.rpo",
                why: "a backup is made at certain times, or as often as is needed",
            }),
            _ => Ok(()),
        }
    }

    /// The policy with what is not given taken from elsewhere: a daemon's defaults, or the volume's former policy.
    pub fn or(self, other: &Self) -> Self {
        // The one of two that exclude each other which is given here wins over the other there.
        let other_schedule = other
            .backup_schedule
            .clone()
            .filter(|_| self.backup_rpo.is_none());
        let other_rpo = other.backup_rpo.filter(|_| self.backup_schedule.is_none());
        Self {
            on_remove: self.on_remove.or(other.on_remove),
            trash_ttl: self.trash_ttl.or(other.trash_ttl),
            protect: self.protect || other.protect,
            snapshot_schedule: self.snapshot_schedule.or_else(|| other.snapshot_schedule.clone()),
            snapshot_keep: self.snapshot_keep.or(other.snapshot_keep),
            backup_dest: self.backup_dest.or_else(|| other.backup_dest.clone()),
            backup_schedule: self.backup_schedule.or(other_schedule),
            backup_rpo: self.backup_rpo.or(other_rpo),
            backup_keep: self.backup_keep.or(other.backup_keep),
            since: self.since.or(other.since),
        }
    }

    /// What is given, by option.
    pub fn given(&self) -> BTreeMap<&'static str, String> {
        let mut given = BTreeMap::new();
        let mut put = |name, value: Option<String>| {
            if let Some(value) = value {
                given.insert(name, value);
            }
        };
        put("backup.dest", self.backup_dest.clone());
        put("backup.keep", self.backup_keep.map(|keep| keep.to_string()));
        put("backup.rpo", self.backup_rpo.map(|span| span.to_string()));
        put(
            "backup.schedule",
            self.backup_schedule.as_ref().map(Schedule::to_string),
        );
        put("on-remove", self.on_remove.map(|how| how.to_string()));
        put("protect", self.protect.then(|| "true".to_owned()));
        put("snapshot.keep", self.snapshot_keep.map(|keep| keep.to_string()));
        put(
            "snapshot.schedule",
            self.snapshot_schedule.as_ref().map(Schedule::to_string),
        );
        put("trash-ttl", self.trash_ttl.map(|span| span.to_string()));
        given
    }
}

fn objective(option: &str, value: &str) -> Result<Span, InvalidValue> {
    let span = Span::parse(option, value)?;
    match span >= Span::seconds(300) {
        true => Ok(span),
        false => Err(InvalidValue::Value {
            option: option.to_owned(),
            value: value.to_owned(),
            expected: "five minutes or more".to_owned(),
        }),
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.given();
        let parts: Vec<String> = given
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [(&str, &str); 8] = [
        ("backup.dest", "s3://b@r/p"),
        ("backup.keep", "daily=7"),
        ("backup.schedule", "@daily"),
        ("on-remove", "keep"),
        ("protect", "true"),
        ("snapshot.keep", "last=3"),
        ("snapshot.schedule", "every 15m"),
        ("trash-ttl", "1d"),
    ];

    #[test]
    fn every_policy_is_set_shown_kept_and_unset() {
        let mut policy = Policy::default();
        for (name, value) in VALUES {
            assert!(policy.set(name, value).expect(name));
        }
        let given: Vec<(&str, String)> = policy.given().into_iter().collect();
        assert_eq!(given, VALUES.map(|(name, value)| (name, value.to_owned())));
        policy.check().expect("they agree");
        let record = serde_json::to_string(&policy).expect("written");
        assert_eq!(serde_json::from_str::<Policy>(&record).expect("read"), policy);
        for name in POLICIES {
            assert!(policy.unset(name), "{name}");
        }
        assert_eq!(policy, Policy::default());
        assert!(!policy.unset("size") && !policy.set("size", "1G").expect("not of these"));
    }

    #[test]
    fn a_schedule_and_an_objective_exclude_each_other() {
        let mut policy = Policy::default();
        assert!(policy.set("backup.rpo", "1m").is_err());
        policy.set("backup.rpo", "4h").expect("set");
        let mut defaults = Policy::default();
        defaults.set("backup.schedule", "@daily").expect("set");
        let merged = policy.clone().or(&defaults);
        assert_eq!(
            (merged.backup_rpo.is_some(), merged.backup_schedule.is_some()),
            (true, false)
        );
        policy.set("backup.schedule", "@daily").expect("set");
        assert!(policy.check().is_err());
    }

    /// As versions before this one wrote it.
    #[test]
    fn an_old_record_is_read() {
        let policy: Policy = serde_json::from_str(r#"{"protect":true,"trash_ttl":"1d"}"#).expect("read");
        assert_eq!(policy.to_string(), "protect=true,trash-ttl=1d");
    }
}
