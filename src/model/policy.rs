//! What a volume's owner wants done with it, for as long as it exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::hook::{limit as hook_limit, script, word};
use super::options::{boolean, url};
use super::{
    Bytes, InvalidValue, Keep, OnHookError, OnRemove, Schedule, Span, Tasks, Time, UrlTemplate, Verification,
};

/// What an option is set to so that a default of the daemon does not hold for a volume.
const NONE: &str = "none";

/// Declares the options, in the order of their names: name, field, type and how it is read.
macro_rules! policies {
    ($( $(#[$about:meta])* $name:literal $field:ident: $kind:ty = $read:expr; )*) => {
        /// The options that are policy, which can be changed later.
        pub const POLICIES: &[&str] = &[$($name),*];

        /// A volume's policy. What is not given follows the daemon's defaults at that time.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Policy {
            $(
                $(#[$about])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$kind>,
            )*
            /// The options that are given as `none`: not even a default of the daemon holds for them.
            #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
            pub without: BTreeSet<String>,
            /// Since when the schedules hold.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub since: Option<Time>,
        }

        impl Policy {
            /// Sets the option, and says whether it is one of [`POLICIES`]. `none` is a value of most whose names have a dot.
            ///
            /// # Errors
            /// A value that it cannot take.
            pub fn set(&mut self, name: &str, value: &str) -> Result<bool, InvalidValue> {
                if value == NONE && takes_none(name) && self.unset(name) {
                    self.without.insert(name.to_owned());
                    return Ok(true);
                }
                match name {
                    $($name => self.$field = Some($read(name, value)?),)*
                    _ => return Ok(false),
                }
                self.without.remove(name);
                Ok(true)
            }

            /// Goes back to the default for the option, and says whether it is one of [`POLICIES`].
            pub fn unset(&mut self, name: &str) -> bool {
                match name {
                    $($name => self.$field = None,)*
                    _ => return false,
                }
                self.without.remove(name);
                true
            }

            /// The policy with what is not given taken from elsewhere: a daemon's defaults, or the volume's former policy.
            pub fn or(mut self, other: &Self) -> Self {
                // The one of two that exclude each other which is given here wins over the other there.
                let by_age = self.backup_rpo.is_some();
                let by_turns = self.backup_schedule.is_some();
                $(
                    let excluded = match $name {
                        "backup.schedule" => by_age,
                        "backup.rpo" => by_turns,
                        _ => false,
                    };
                    if self.$field.is_none() && !excluded && !self.without.contains($name) {
                        self.$field.clone_from(&other.$field);
                    }
                )*
                self.since = self.since.or(other.since);
                self
            }

            /// What is given, by option.
            pub fn given(&self) -> BTreeMap<&'static str, String> {
                let mut given = BTreeMap::new();
                $(
                    if let Some(value) = &self.$field {
                        given.insert($name, value.to_string());
                    } else if self.without.contains($name) {
                        given.insert($name, NONE.to_owned());
                    }
                )*
                given
            }
        }
    };
}

/// Not where it could be taken for another thing: for backups that are not encrypted.
fn takes_none(option: &str) -> bool {
    option.contains('.') && option != "backup.encrypt"
}

policies! {
    /// Where backups go.
    "backup.dest" backup_dest: String = url;
    /// When the newest one is restored aside, to see that it can be.
    "backup.drill" backup_drill: Schedule = Schedule::parse;
    /// Whether they are encrypted; as the daemon's `backup-encrypt` says, without it.
    "backup.encrypt" backup_encrypt: bool = boolean;
    /// Which of those made by schedule are kept; all, without it.
    "backup.keep" backup_keep: Keep = Keep::parse;
    /// The most bytes that a backup may send in a second.
    "backup.limit" backup_limit: Bytes = rate;
    /// How old the last one may be, instead of a schedule.
    "backup.rpo" backup_rpo: Span = objective;
    /// When they are made.
    "backup.schedule" backup_schedule: Schedule = Schedule::parse;
    /// How it is seen to that they can be restored.
    "backup.verify" backup_verify: Verification = Verification::parse;
    /// The container that hooks run in; all that use the volume, without it.
    "hook.container" hook_container: String = word;
    /// What becomes of a snapshot whose hook fails.
    "hook.on-error" hook_on_error: OnHookError = OnHookError::parse;
    /// What is run after a snapshot.
    "hook.post" hook_post: String = script;
    /// What is run before a snapshot.
    "hook.pre" hook_pre: String = script;
    /// How long a hook may take.
    "hook.timeout" hook_timeout: Span = hook_limit;
    /// The user that hooks run as; the container's own, without it.
    "hook.user" hook_user: String = word;
    /// What becomes of the data when the volume is removed.
    "on-remove" on_remove: OnRemove = OnRemove::parse;
    /// What is asked for after a task that failed; `ping.url` with `/fail` at its end, without it.
    "ping.fail-url" ping_fail_url: UrlTemplate = UrlTemplate::parse;
    /// The tasks that are followed by pings.
    "ping.tasks" ping_tasks: Tasks = Tasks::parse;
    /// What is asked for after a task that succeeded.
    "ping.url" ping_url: UrlTemplate = UrlTemplate::parse;
    /// Refuse removal.
    "protect" protect: bool = boolean;
    /// Which of the snapshots taken by schedule are kept; all, without it.
    "snapshot.keep" snapshot_keep: Keep = Keep::parse;
    /// When snapshots are taken.
    "snapshot.schedule" snapshot_schedule: Schedule = Schedule::parse;
    /// How long the trash keeps it.
    "trash-ttl" trash_ttl: Span = Span::parse;
    /// When the space of removed files goes back to the pool.
    "trim.schedule" trim_schedule: Schedule = Schedule::parse;
}

impl Policy {
    /// Whether removal is refused.
    pub fn is_protected(&self) -> bool {
        self.protect == Some(true)
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
}

fn rate(option: &str, value: &str) -> Result<Bytes, InvalidValue> {
    match Bytes::parse(option, value)? {
        rate if rate.0 >= 1024 => Ok(rate),
        _ => Err(InvalidValue::Value {
            option: option.to_owned(),
            value: value.to_owned(),
            expected: "at least 1K (bytes in a second)".to_owned(),
        }),
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

    /// All but `backup.rpo`, which excludes one of them.
    const VALUES: [(&str, &str); POLICIES.len() - 1] = [
        ("backup.dest", "s3://b@r/p"),
        ("backup.drill", "weekly"),
        ("backup.encrypt", "false"),
        ("backup.keep", "daily=7"),
        ("backup.limit", "20 MiB"),
        ("backup.schedule", "@daily"),
        ("backup.verify", "sample,full=@weekly"),
        ("hook.container", "db"),
        ("hook.on-error", "continue"),
        ("hook.post", "rm /tmp/quiet"),
        ("hook.pre", "psql -c CHECKPOINT"),
        ("hook.timeout", "2m"),
        ("hook.user", "postgres"),
        ("on-remove", "keep"),
        // As it is shown.
        ("ping.fail-url", "https://hc.example/…"),
        ("ping.tasks", "snapshot,backup"),
        ("ping.url", "https://hc.example/…"),
        ("protect", "true"),
        ("snapshot.keep", "last=3"),
        ("snapshot.schedule", "every 15m"),
        ("trash-ttl", "1d"),
        ("trim.schedule", "@weekly"),
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

    /// A URL that is pinged is a secret: it is recorded whole, and shown as its host.
    #[test]
    fn what_is_pinged_is_recorded_and_not_shown() {
        let mut policy = Policy::default();
        assert!(policy.set("ping.url", "https://hc.example/s3cret").expect("set"));
        assert!(
            policy
                .set("ping.fail-url", "https://hc.example/s3cret/{error}")
                .expect("set")
        );
        let shown = "ping.fail-url=https://hc.example/…,ping.url=https://hc.example/…";
        assert_eq!(policy.to_string(), shown);
        assert!(!format!("{policy:?}").contains("s3cret"));
        let record = serde_json::to_string(&policy).expect("written");
        assert_eq!(serde_json::from_str::<Policy>(&record).expect("read"), policy);
        let said = policy.set("ping.url", "s3cret").expect_err("no URL").to_string();
        assert!(!said.contains("s3cret"), "{said}");
        assert!(policy.set("ping.tasks", "backup,lunch").is_err());
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

    #[test]
    fn none_is_stronger_than_a_default() {
        let mut defaults = Policy::default();
        defaults.set("snapshot.schedule", "@hourly").expect("set");
        defaults.set("snapshot.keep", "hourly=24").expect("set");
        defaults.set("protect", "true").expect("set");
        let mut policy = Policy::default();
        assert!(policy.set("snapshot.schedule", "none").expect("set"));
        assert!(policy.set("protect", "false").expect("set"));
        let record = serde_json::to_string(&policy).expect("written");
        let read: Policy = serde_json::from_str(&record).expect("read");
        let merged = read.or(&defaults);
        assert_eq!(
            merged.to_string(),
            "protect=false,snapshot.keep=hourly=24,snapshot.schedule=none"
        );
        policy.set("snapshot.schedule", "@daily").expect("set");
        assert_eq!(
            policy.clone().or(&defaults).snapshot_schedule,
            policy.snapshot_schedule
        );
        policy.set("snapshot.schedule", "none").expect("set");
        policy.unset("snapshot.schedule");
        assert_eq!(policy.or(&defaults).snapshot_schedule, defaults.snapshot_schedule);
        for option in ["on-remove", "backup.encrypt"] {
            assert!(Policy::default().set(option, "none").is_err(), "{option}");
        }
    }

    /// As versions before this one wrote it.
    #[test]
    fn an_old_record_is_read() {
        let policy: Policy = serde_json::from_str(r#"{"protect":true,"trash_ttl":"1d"}"#).expect("read");
        assert_eq!(policy.to_string(), "protect=true,trash-ttl=1d");
    }
}
