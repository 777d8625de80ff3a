//! What the daemon was told: the command line over the environment, the environment over the file, the file over the
//! defaults.
//!
//! Every setting has one name: `trash-ttl` in the file, `--trash-ttl` on the command line, `WINDLASS_TRASH_TTL` in the
//! environment (which is what `docker plugin set` changes). An empty value counts as not given, because the engine
//! hands a plugin all its variables, set or not. Errors name the place where the bad value came from.

mod settings;
mod variables;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

pub use settings::{SETTINGS, Setting};
pub use variables::variables;

use crate::model::{
    BackupSettings, Bytes, EventFilter, InvalidValue, OnRemove, POLICIES, Policy, Secret, Settings, Span,
    UrlTemplate, nearest,
};

/// The variable that holds the password of the repositories. It is in no table of settings: a command line and a file that
/// others can read are no places for it.
pub const PASSWORD_VARIABLE: &str = "WINDLASS_BACKUP_PASSWORD";

/// Settings from one place, by name; most have one value, `drivers`, `driver-opts` and `admin-socket` any number.
pub type Layer = BTreeMap<String, Vec<String>>;

/// The password that the environment holds, if it does; an empty one counts as not given.
pub fn password(vars: impl Iterator<Item = (String, String)>) -> Option<Secret> {
    let mut given = vars.filter(|(name, value)| name == PASSWORD_VARIABLE && !value.is_empty());
    given.next().map(|(_, value)| Secret::new(value))
}

/// The daemon's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The state directory.
    pub root: PathBuf,
    /// The drivers asked for; `None` leaves it to what the root remembers.
    pub drivers: Option<Vec<String>>,
    /// The drivers' options with their prefix; `None` leaves it to what the root remembers.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// Where Docker's protocol is served.
    pub docker_socket: PathBuf,
    /// Where the admin API is served.
    pub admin_sockets: Vec<PathBuf>,
    /// The group that may use the admin API.
    pub group: Option<String>,
    /// Where volumes are mounted.
    pub mount_root: PathBuf,
    /// Whether the daemon is a plugin that the engine starts, stops, and cleans up after.
    pub managed_plugin: bool,
    /// Where the log goes instead of standard output.
    pub log: Option<PathBuf>,
    /// What a SIGHUP can change.
    pub live: Settings,
    /// The only state directory to start on.
    pub state_id: Option<Uuid>,
    /// Where indexes of repositories are cached.
    pub cache: PathBuf,
    /// How many backups, and how many restores, run at once.
    pub jobs: usize,
    /// Where metrics are served to the network.
    pub metrics: Option<SocketAddr>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that its setting cannot take.
    #[error("{place}: {source}")]
    Value {
        /// Where it came from: `--trash-ttl`, `WINDLASS_TRASH_TTL`, `/var/lib/windlass/windlass.toml`.
        place: String,
        /// What is wrong with it.
        source: InvalidValue,
    },
    /// A file that is not TOML, or holds what is no setting.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, on one line.
        why: String,
    },
    /// A variable that is not text; its value may be a password, and is not shown.
    #[error("the variable {name} is not UTF-8; give it in that encoding")]
    NotText {
        /// The variable.
        name: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// The settings in the environment. Variables `WINDLASS_…` that name no setting of the daemon are not looked at: the
/// command line has some of its own.
pub fn environment(vars: impl Iterator<Item = (String, String)>) -> Layer {
    let given: BTreeMap<String, String> = vars.filter(|(_, value)| !value.is_empty()).collect();
    SETTINGS
        .iter()
        .filter_map(|s| {
            given
                .get(&s.variable())
                .map(|value| (s.name.to_owned(), split(s.name, value)))
        })
        .collect()
}

/// Puts the layers together. The file is `config` of the upper layers, or `<root>/windlass.toml` if that exists.
///
/// # Errors
/// The first setting that is unknown or malformed, in whichever layer: a bad value that another layer covers is
/// refused too, for it will not stay covered.
pub fn resolve(
    command_line: &Layer,
    environment: &Layer,
    password: Option<&Secret>,
) -> Result<Config, ConfigError> {
    let upper = |name: &str| {
        let value = command_line.get(name).or_else(|| environment.get(name));
        value.and_then(|values| values.first()).map(PathBuf::from)
    };
    let root = upper("root");
    let file = match upper("config") {
        Some(path) => read_file(&path)?
            .ok_or_else(|| missing(&path))
            .map(|layer| (path, layer))?,
        None => {
            let path = root.clone().unwrap_or_else(default_root).join("windlass.toml");
            let layer = read_file(&path)?.unwrap_or_default();
            (path, layer)
        }
    };
    let layers = [
        Placed {
            layer: command_line,
            place: |name| format!("--{name}"),
        },
        Placed {
            layer: environment,
            place: |name| {
                Setting {
                    name,
                    reloads: false,
                    about: "",
                }
                .variable()
            },
        },
    ];
    let mut config = defaults(root.unwrap_or_else(default_root));
    Arc::make_mut(&mut config.live.backups).password = password.cloned();
    apply(&mut config, &file.1, |_| file.0.display().to_string())?;
    for placed in layers.iter().rev() {
        apply(&mut config, placed.layer, placed.place)?;
    }
    if config.admin_sockets.is_empty() {
        config.admin_sockets = vec![config.root.join("windlass.sock")];
    }
    if config.mount_root.as_os_str().is_empty() {
        config.mount_root = config.root.join("mounts");
    }
    if config.cache.as_os_str().is_empty() {
        config.cache = config.root.join("cache");
    }
    check_password(&config.live.backups)?;
    Ok(config)
}

/// The names of settings that differ and that only a restart changes.
pub fn needs_restart(running: &Config, wanted: &Config) -> Vec<&'static str> {
    let mut names = Vec::new();
    let mut compare = |name, same: bool| {
        if !same {
            names.push(name);
        }
    };
    compare("root", running.root == wanted.root);
    compare("drivers", running.drivers == wanted.drivers);
    compare("driver-opts", running.driver_opts == wanted.driver_opts);
    compare("docker-socket", running.docker_socket == wanted.docker_socket);
    compare("admin-socket", running.admin_sockets == wanted.admin_sockets);
    compare("group", running.group == wanted.group);
    compare("managed-plugin", running.managed_plugin == wanted.managed_plugin);
    compare("mount-root", running.mount_root == wanted.mount_root);
    compare("log", running.log == wanted.log);
    compare("cache", running.cache == wanted.cache);
    compare("jobs", running.jobs == wanted.jobs);
    compare("metrics-address", running.metrics == wanted.metrics);
    compare("state-id", running.state_id == wanted.state_id);
    names
}

struct Placed<'a> {
    layer: &'a Layer,
    place: fn(&'static str) -> String,
}

fn default_root() -> PathBuf {
    PathBuf::from("/var/lib/windlass")
}

fn defaults(root: PathBuf) -> Config {
    Config {
        root,
        drivers: None,
        driver_opts: None,
        docker_socket: PathBuf::from("/run/docker/plugins/windlass.sock"),
        admin_sockets: Vec::new(),
        group: None,
        mount_root: PathBuf::new(),
        managed_plugin: false,
        log: None,
        live: Settings::default(),
        state_id: None,
        cache: PathBuf::new(),
        jobs: 2,
        metrics: None,
    }
}

fn apply(
    config: &mut Config,
    layer: &Layer,
    place: impl Fn(&'static str) -> String,
) -> Result<(), ConfigError> {
    for setting in SETTINGS {
        if let Some(values) = layer.get(setting.name) {
            apply_one(config, setting.name, values).map_err(|source| ConfigError::Value {
                place: place(setting.name),
                source,
            })?;
        }
    }
    Ok(())
}

fn apply_one(config: &mut Config, name: &'static str, values: &[String]) -> Result<(), InvalidValue> {
    let single = || match values {
        [one] => Ok(one.as_str()),
        _ => Err(refused(name, &values.join(","), "a single value")),
    };
    let backups = Arc::make_mut(&mut config.live.backups);
    match name {
        "admin-socket" => config.admin_sockets = paths(name, values)?,
        "backup-connections" => backups.connections = count(name, single()?, 64)?,
        "backup-dest" => backups.destination = Some(single()?.to_owned()),
        "backup-download-limit" => backups.download_limit = Some(rate(name, single()?)?),
        "backup-encrypt" => backups.encrypt = encrypt(name, single()?)?,
        "backup-password-file" => backups.password_file = Some(path(name, single()?)?),
        "backup-s3-endpoint" => backups.s3_endpoint = Some(single()?.to_owned()),
        "backup-upload-limit" => backups.upload_limit = Some(rate(name, single()?)?),
        "cache" => config.cache = path(name, single()?)?,
        "cmd-timeout" => config.live.cmd_timeout = positive(name, single()?)?,
        "config" => {}
        "create-on-docker-mount" => config.live.create_on_docker_mount = boolean(name, single()?)?,
        "defaults" => config.live.policy = Arc::new(policy(values)?),
        "docker-socket" => config.docker_socket = path(name, single()?)?,
        "driver-opts" => config.driver_opts = Some(driver_opts(values)?),
        "drivers" => config.drivers = Some(values.to_vec()),
        "group" => config.group = Some(single()?.to_owned()),
        "ignore-docker-delete" => config.live.ignore_docker_delete = boolean(name, single()?)?,
        "jobs" => config.jobs = usize::try_from(count(name, single()?, 64)?).expect("at most 64"),
        "jobs-per-destination" => config.live.jobs_per_destination = Some(count(name, single()?, 64)?),
        "log" => config.log = Some(path(name, single()?)?),
        "log-level" => config.live.log_level = level(name, single()?)?,
        "managed-plugin" => config.managed_plugin = boolean(name, single()?)?,
        "metrics-address" => config.metrics = Some(address(name, single()?)?),
        "mount-root" => config.mount_root = path(name, single()?)?,
        "mount-wait" => config.live.mount_wait = mount_wait(name, single()?)?,
        "on-remove" => config.live.on_remove = OnRemove::parse(name, single()?)?,
        "root" => config.root = path(name, single()?)?,
        "schedule-spread" => config.live.schedule_spread = Span::parse(name, single()?)?,
        "state-id" => config.state_id = Some(state_id(name, single()?)?),
        "time-zone" => config.live.time_zone = time_zone(name, single()?)?,
        "trash-ttl" => config.live.trash_ttl = Span::parse(name, single()?)?,
        "webhook-events" => config.live.webhook_events = Arc::new(EventFilter::parse(name, values)?),
        "webhook-url" => {
            let urls = values.iter().map(|url| UrlTemplate::parse(name, url));
            config.live.webhooks = Arc::new(urls.collect::<Result<_, _>>()?);
        }
        _ => unreachable!("every setting of the table is applied; a test goes through them"),
    }
    Ok(())
}

fn time_zone(name: &str, text: &str) -> Result<jiff::tz::TimeZone, InvalidValue> {
    jiff::tz::TimeZone::get(text)
        .map_err(|_| refused(name, text, "the name of a time zone such as UTC or Europe/Berlin"))
}

fn address(name: &str, text: &str) -> Result<SocketAddr, InvalidValue> {
    text.parse().map_err(|_| {
        refused(
            name,
            text,
            "an IP address and a port such as 127.0.0.1:9377 or [::1]:9377",
        )
    })
}

fn missing(path: &Path) -> ConfigError {
    ConfigError::Read {
        path: path.to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    }
}

/// Reads a file as a layer; `None` if there is none.
fn read_file(path: &Path) -> Result<Option<Layer>, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let refuse = |why: String| ConfigError::File {
        path: path.to_owned(),
        why,
    };
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        let line = e
            .span()
            .map(|s| text[..s.start].lines().count().max(1))
            .unwrap_or(1);
        refuse(format!("line {line}: {}", e.message().replace('\n', " ")))
    })?;
    let mut layer = Layer::new();
    for (name, value) in table {
        let known = SETTINGS
            .iter()
            .map(|s| s.name)
            .filter(|n| !matches!(*n, "root" | "config"));
        if !known.clone().any(|n| n == name) {
            let hint = nearest(&name, known.clone())
                .map(|n| format!(", did you mean {n:?}?"))
                .unwrap_or_default();
            let valid = known.collect::<Vec<_>>().join(", ");
            return Err(refuse(format!(
                "unknown setting {name:?}{hint}; valid settings: {valid}"
            )));
        }
        layer.insert(name.clone(), file_values(&name, value).map_err(refuse)?);
    }
    Ok(Some(layer))
}

fn file_values(name: &str, value: toml::Value) -> Result<Vec<String>, String> {
    let scalar = |value: toml::Value| match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Boolean(value) => Ok(value.to_string()),
        toml::Value::Integer(value) => Ok(value.to_string()),
        other => Err(format!("{name}: a {} is not possible here", other.type_str())),
    };
    match value {
        toml::Value::Array(items) => items.into_iter().map(scalar).collect(),
        toml::Value::Table(table) if name == "driver-opts" => table
            .into_iter()
            .map(|(key, value)| scalar(value).map(|value| format!("{key}={value}")))
            .collect(),
        toml::Value::Table(table) if name == "defaults" => {
            let mut given = Vec::new();
            for (key, value) in table {
                match value {
                    // What TOML makes of `snapshot.keep = …` without quotes.
                    toml::Value::Table(parts) => {
                        for (part, value) in parts {
                            given.push(format!("{key}.{part}={}", scalar(value)?));
                        }
                    }
                    value => given.push(format!("{key}={}", scalar(value)?)),
                }
            }
            Ok(given)
        }
        other => scalar(other).map(|text| split(name, &text)),
    }
}

/// The values in one text: lists are comma separated; a comma within a driver option's value belongs to the value
/// where no `key=` follows it. Policies, whose values have commas, are separated by semicolons.
fn split(name: &str, text: &str) -> Vec<String> {
    let parts = text
        .split(',')
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty());
    match name {
        "defaults" => text
            .split(';')
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect(),
        "drivers" | "admin-socket" | "webhook-events" => parts.collect(),
        "webhook-url" => text.split_whitespace().map(str::to_owned).collect(),
        "driver-opts" => parts.fold(Vec::new(), |mut list, part| {
            match list.last_mut() {
                Some(last) if !part.contains('=') => {
                    last.push(',');
                    last.push_str(&part);
                }
                _ => list.push(part),
            }
            list
        }),
        _ => vec![text.to_owned()],
    }
}

fn refused(option: &str, value: &str, expected: &str) -> InvalidValue {
    InvalidValue::Value {
        option: option.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
}

fn path(name: &str, value: &str) -> Result<PathBuf, InvalidValue> {
    let path = PathBuf::from(value);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(refused(name, value, "an absolute path"))
    }
}

fn paths(name: &str, values: &[String]) -> Result<Vec<PathBuf>, InvalidValue> {
    values.iter().map(|value| path(name, value)).collect()
}

fn boolean(name: &str, value: &str) -> Result<bool, InvalidValue> {
    match value {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err(refused(name, value, "true or false")),
    }
}

fn positive(name: &str, value: &str) -> Result<Span, InvalidValue> {
    let span = Span::parse(name, value)?;
    if span.is_zero() {
        Err(refused(name, value, "longer than no time at all"))
    } else {
        Ok(span)
    }
}

fn count(name: &str, value: &str, most: u32) -> Result<u32, InvalidValue> {
    match value.parse() {
        Ok(count) if (1..=most).contains(&count) => Ok(count),
        _ => Err(refused(name, value, &format!("a number from 1 to {most}"))),
    }
}

fn rate(name: &str, value: &str) -> Result<Bytes, InvalidValue> {
    match Bytes::parse(name, value)? {
        rate if rate.0 >= 1024 => Ok(rate),
        _ => Err(refused(name, value, "at least 1K (bytes in a second)")),
    }
}

fn encrypt(name: &str, value: &str) -> Result<bool, InvalidValue> {
    match value {
        "password" => Ok(true),
        "none" => Ok(false),
        _ => Err(refused(name, value, "password or none")),
    }
}

/// The engine gives a mount up after 120 s, or 30 s where the plugin was enabled with a time-out.
fn mount_wait(name: &str, value: &str) -> Result<Span, InvalidValue> {
    match Span::parse(name, value)? {
        wait if wait <= Span::seconds(110) => Ok(wait),
        _ => Err(refused(name, value, "at most 110s: the engine waits no longer")),
    }
}

/// Without encryption there is nothing that a password could be for: who gives both means one of them.
fn check_password(backups: &BackupSettings) -> Result<(), ConfigError> {
    let given = match backups {
        BackupSettings { encrypt: true, .. } => None,
        BackupSettings {
            password: Some(_), ..
        } => Some(PASSWORD_VARIABLE),
        BackupSettings {
            password_file: Some(_),
            ..
        } => Some("backup-password-file"),
        _ => None,
    };
    match given {
        None => Ok(()),
        Some(second) => Err(ConfigError::Value {
            place: "backup-encrypt".to_owned(),
            source: InvalidValue::Conflict {
                first: "backup-encrypt=none",
                second,
                why: "a repository without encryption has no password",
            },
        }),
    }
}

fn level(name: &str, value: &str) -> Result<log::LevelFilter, InvalidValue> {
    value
        .parse()
        .map_err(|_| refused(name, value, "one of error, warn, info, debug, trace"))
}

fn state_id(name: &str, value: &str) -> Result<Uuid, InvalidValue> {
    value
        .parse()
        .map_err(|_| refused(name, value, "a UUID as shown by windlass info (StateID)"))
}

fn driver_opts(values: &[String]) -> Result<BTreeMap<String, String>, InvalidValue> {
    values
        .iter()
        .map(|value| match value.split_once('=') {
            Some((key, value)) if key.contains('.') => Ok((key.trim().to_owned(), value.to_owned())),
            _ => Err(refused(
                "driver-opts",
                value,
                "<driver>.<option>=<value>, e.g. vfs.path=/srv/volumes",
            )),
        })
        .collect()
}

fn policy(values: &[String]) -> Result<Policy, InvalidValue> {
    let mut policy = Policy::default();
    for value in values {
        let (name, value) = value
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()))
            .ok_or_else(|| {
                refused(
                    "defaults",
                    value,
                    "<option>=<value>, e.g. snapshot.schedule=@hourly",
                )
            })?;
        if matches!(name, "on-remove" | "trash-ttl") {
            let expected = format!("given so: {name} is a setting of its own");
            return Err(refused("defaults", &format!("{name}={value}"), &expected));
        }
        if !policy.set(name, value)? {
            return Err(InvalidValue::UnknownOption {
                name: name.chars().take(80).collect(),
                nearest: nearest(name, POLICIES.iter().copied()),
                valid: POLICIES.join(", "),
            });
        }
    }
    policy.check()?;
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(given: &[(&str, &str)]) -> Layer {
        given
            .iter()
            .map(|(k, v)| ((*k).to_owned(), split(k, v)))
            .collect()
    }

    fn env(given: &[(&str, &str)]) -> Layer {
        environment(given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().to_str().expect("text");
        std::fs::write(
            root.path().join("windlass.toml"),
            "on-remove = \"keep\"\ntrash-ttl = \"1d\"\nlog-level = \"debug\"\n[driver-opts]\n\"vfs.path\" = \"/file\"\n",
        )
        .expect("a file");
        let config = resolve(
            &layer(&[("root", path), ("on-remove", "delete")]),
            &env(&[
                ("WINDLASS_ON_REMOVE", "trash"),
                ("WINDLASS_TRASH_TTL", "2d"),
                ("WINDLASS_LOG_LEVEL", ""),
            ]),
            None,
        )
        .expect("valid");
        assert_eq!(config.live.on_remove, OnRemove::Delete);
        assert_eq!(config.live.trash_ttl, Span::days(2));
        assert_eq!(
            config.live.log_level,
            log::LevelFilter::Debug,
            "an empty variable is not given"
        );
        assert_eq!(config.driver_opts.expect("from the file")["vfs.path"], "/file");
        assert_eq!(config.admin_sockets, [root.path().join("windlass.sock")]);
        assert_eq!(config.mount_root, root.path().join("mounts"));
    }

    #[test]
    fn every_setting_of_the_table_is_applied_and_refuses_rubbish_where_it_can() {
        for setting in SETTINGS {
            let _ = apply_one(&mut defaults(default_root()), setting.name, &["\u{1}".to_owned()]);
        }
        for (name, bad) in [
            ("cmd-timeout", "0s"),
            ("cmd-timeout", "5"),
            ("root", "relative"),
            ("log-level", "loud"),
            ("on-remove", "shred"),
            ("state-id", "7"),
            ("driver-opts", "path=/x"),
            ("create-on-docker-mount", "perhaps"),
            ("backup-connections", "0"),
            ("backup-upload-limit", "10"),
            ("backup-encrypt", "no"),
            ("managed-plugin", "perhaps"),
            ("mount-wait", "3m"),
            ("time-zone", "Europe/Bonn"),
            ("jobs", "many"),
            ("metrics-address", "localhost"),
            ("webhook-events", "Health"),
            ("webhook-url", "hooks.example"),
        ] {
            let variable = format!("WINDLASS_{}", name.to_uppercase().replace('-', "_"));
            let said = resolve(&Layer::new(), &env(&[(&variable, bad)]), None)
                .expect_err(name)
                .to_string();
            assert!(said.starts_with(&variable), "{said}");
            let said = resolve(&layer(&[(name, bad)]), &Layer::new(), None)
                .expect_err(name)
                .to_string();
            assert!(said.starts_with(&format!("--{name}")), "{said}");
        }
    }

    #[test]
    fn the_password_comes_from_the_environment_or_a_file_and_never_from_a_layer() {
        let given = [(PASSWORD_VARIABLE.to_owned(), "horse".to_owned())];
        assert!(environment(given.clone().into_iter()).is_empty());
        let secret = password(given.into_iter());
        let config = resolve(&Layer::new(), &Layer::new(), secret.as_ref()).expect("valid");
        assert_eq!(
            config.live.backups.password.as_ref().map(Secret::reveal),
            Some("horse")
        );
        assert!(!format!("{config:?}").contains("horse"));
        assert_eq!(
            password([(PASSWORD_VARIABLE.to_owned(), String::new())].into_iter()),
            None
        );
        let none = layer(&[("backup-encrypt", "none")]);
        assert!(resolve(&none, &Layer::new(), None).is_ok());
        let said = resolve(&none, &Layer::new(), secret.as_ref()).expect_err("both");
        assert!(said.to_string().contains(PASSWORD_VARIABLE), "{said}");
        assert!(!said.to_string().contains("horse"), "{said}");
    }

    #[test]
    fn a_bad_file_is_refused_by_line_or_by_name() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("x.toml");
        for (text, expected) in [
            ("on-remove = \"keep\"\ntrash-ttl = [", "line 2"),
            ("on-remvoe = \"keep\"", "did you mean \"on-remove\""),
            ("root = \"/x\"", "unknown setting \"root\""),
            ("trash-ttl = 7", "trash-ttl"),
            ("trash-ttl = 1979-05-27", "trash-ttl"),
        ] {
            std::fs::write(&path, text).expect("a file");
            let said = resolve(
                &layer(&[("config", path.to_str().expect("text"))]),
                &Layer::new(),
                None,
            );
            let said = said.expect_err(text).to_string();
            assert!(said.contains(expected) && said.contains("x.toml"), "{said}");
        }
        std::fs::remove_file(&path).expect("removed");
        let said = resolve(
            &layer(&[("config", path.to_str().expect("text"))]),
            &Layer::new(),
            None,
        );
        assert!(said.is_err(), "a file that was asked for must exist");
    }

    #[test]
    fn the_policy_of_volumes_that_do_not_say_comes_as_a_table_or_by_semicolons() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().to_str().expect("text");
        let file = root.path().join("windlass.toml");
        let text = "[defaults]\nsnapshot.schedule = \"@hourly\"\n\"snapshot.keep\" = \"hourly=24,daily=7\"\nprotect = true\n";
        std::fs::write(&file, text).expect("a file");
        let resolved = |given: &[(&str, &str)]| {
            let given: Vec<_> = [&[("WINDLASS_ROOT", path)], given].concat();
            resolve(&Layer::new(), &env(&given), None)
        };
        let config = resolved(&[]).expect("valid");
        let wanted = "protect=true,snapshot.keep=hourly=24,daily=7,snapshot.schedule=@hourly";
        assert_eq!(config.live.policy.to_string(), wanted);
        let by_variable = [(
            "WINDLASS_DEFAULTS",
            "backup.rpo=4h; backup.keep=daily=7,weekly=4;",
        )];
        let config = resolved(&by_variable).expect("valid");
        assert_eq!(
            config.live.policy.to_string(),
            "backup.keep=daily=7,weekly=4,backup.rpo=4h"
        );
        for (bad, why) in [
            ("snapshot.shedule=@hourly", "did you mean"),
            ("snapshot.schedule=sometimes", "snapshot.schedule"),
            ("on-remove=keep", "a setting of its own"),
            ("backup.rpo=4h;backup.schedule=@daily", "backup.rpo"),
            ("@hourly", "<option>=<value>"),
        ] {
            let said = resolved(&[("WINDLASS_DEFAULTS", bad)])
                .expect_err(bad)
                .to_string();
            assert!(said.contains(why) && said.contains("WINDLASS_DEFAULTS"), "{said}");
        }
    }

    #[test]
    fn lists_are_comma_separated_and_option_values_may_hold_commas() {
        let config = resolve(
            &Layer::new(),
            &env(&[
                ("WINDLASS_DRIVERS", "vfs, devicemapper"),
                (
                    "WINDLASS_DRIVER_OPTS",
                    "vfs.path=/a,nfs.opts=ro,soft,vfs.scope=global",
                ),
            ]),
            None,
        )
        .expect("valid");
        assert_eq!(config.drivers.expect("drivers"), ["vfs", "devicemapper"]);
        let opts = config.driver_opts.expect("options");
        assert_eq!(
            (opts["nfs.opts"].as_str(), opts["vfs.scope"].as_str()),
            ("ro,soft", "global")
        );
    }
}
