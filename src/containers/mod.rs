//! The containers of the Docker engine beside us: which use a volume, and commands run in them.
//!
//! The engine is asked over its own unix socket, which is there only if somebody gave it to the daemon: whoever may use that
//! socket may do everything on the host. Of the engine's API no more is used than lists and exec, in whatever version the
//! engine answers with by itself: these have not changed for many years.
//!
//! Each request has a connection of its own and a bound on its time. Nothing is tried again here.

mod exec;
mod frames;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use hyper::Method;
use serde::Deserialize;

pub use exec::{Ran, Script};

/// The result of asking the engine.
pub type Result<T> = std::result::Result<T, ContainersError>;

/// What can go wrong between here and a container.
#[derive(Debug, thiserror::Error)]
pub enum ContainersError {
    /// There is no socket at that path.
    #[error("the Docker engine cannot be asked: {} is {what}", socket.display())]
    NoSocket {
        /// Where it was looked for.
        socket: PathBuf,
        /// What is there instead.
        what: &'static str,
    },
    /// Nobody answers there.
    #[error("the Docker engine does not answer at {}: {why}", socket.display())]
    NoAnswer {
        /// The socket.
        socket: PathBuf,
        /// The reason.
        why: String,
    },
    /// The engine said no.
    #[error("the Docker engine refused to {doing}: {message}")]
    Refused {
        /// What was asked for.
        doing: String,
        /// The status of its answer.
        status: u16,
        /// Its own words, on one line.
        message: String,
    },
    /// An answer of another shape than the API's.
    #[error("the Docker engine's answer cannot be understood, as it was asked to {doing}: {why}")]
    Garbled {
        /// What was asked for.
        doing: String,
        /// The reason.
        why: String,
    },
}

impl ContainersError {
    /// Whether the engine said that there is no such container, or that it does not run.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Refused { status: 404, .. } => true,
            Self::Refused {
                status: 409, message, ..
            } => message.contains("is not running"),
            _ => false,
        }
    }
}

/// The engine, by its socket.
#[derive(Debug, Clone)]
pub struct Engine {
    socket: PathBuf,
}

/// A container that is not stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// The service that it is of, where Compose made it.
    pub service: Option<String>,
    /// Whether processes run in it: it is not paused, nor just being started anew.
    pub runs: bool,
    /// The volumes that it uses, by name, and where it has them.
    pub volumes: Vec<(String, String)>,
}

impl Container {
    /// Whether a person may call it so: its name, its id or the beginning of that, or its service in Compose.
    pub fn is_called(&self, word: &str) -> bool {
        self.name == word
            || self.service.as_deref() == Some(word)
            || (word.len() >= 12 && self.id.starts_with(word))
    }

    /// Where it has a volume.
    pub fn path_of(&self, volume: &str) -> Option<&str> {
        let mut all = self.volumes.iter();
        all.find(|(name, _)| name == volume)
            .map(|(_, path)| path.as_str())
    }
}

impl Engine {
    /// The engine at a socket.
    ///
    /// # Errors
    /// [`ContainersError::NoSocket`] where there is none: it may come later, so this is asked anew each time.
    pub fn at(socket: &Path) -> Result<Self> {
        let refuse = |what| {
            Err(ContainersError::NoSocket {
                socket: socket.to_owned(),
                what,
            })
        };
        match std::fs::metadata(socket) {
            Ok(found) if found.file_type().is_socket() => Ok(Self {
                socket: socket.to_owned(),
            }),
            // The plugin's mount is of /dev/null until somebody sets it.
            Ok(_) => refuse("no socket"),
            Err(_) => refuse("not there"),
        }
    }

    /// The containers that use a volume and are not stopped, in the order of their names.
    pub async fn users_of(&self, volume: &str) -> Result<Vec<Container>> {
        let filters = serde_json::json!({"volume": [volume], "status": STATES}).to_string();
        let mut all = self.listed(&filters).await?;
        // The engine's filter finds paths that are called so, too.
        all.retain(|container| container.path_of(volume).is_some());
        Ok(all)
    }

    /// All containers that are not stopped, in the order of their names.
    pub async fn active(&self) -> Result<Vec<Container>> {
        self.listed(&serde_json::json!({"status": STATES}).to_string())
            .await
    }

    /// The volumes of a Compose project, whether it runs or not, in the order of their names: those that it made, and those that
    /// its containers use.
    pub async fn volumes_of_project(&self, project: &str) -> Result<Vec<String>> {
        let label = format!("com.docker.compose.project={project}");
        let filters = serde_json::json!({"label": [label], "status": STATES_WITH_STOPPED}).to_string();
        let used = self.listed(&filters).await?;
        let mut names: BTreeSet<String> = used
            .into_iter()
            .flat_map(|container| container.volumes)
            .map(|(name, _)| name)
            .collect();
        let path = format!(
            "/volumes?filters={}",
            encoded(&serde_json::json!({"label": [label]}).to_string())
        );
        let made: Volumes = self.ask(Method::GET, &path, None, "list volumes").await?;
        names.extend(made.volumes.into_iter().flatten().map(|volume| volume.name));
        Ok(names.into_iter().collect())
    }

    async fn listed(&self, filters: &str) -> Result<Vec<Container>> {
        let path = format!("/containers/json?all=true&filters={}", encoded(filters));
        let listed: Vec<Listed> = self.ask(Method::GET, &path, None, "list containers").await?;
        let mut containers: Vec<Container> = listed.into_iter().map(Container::from).collect();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(containers)
    }
}

/// The states of a container whose processes may write to a volume, now or in a moment.
const STATES: &[&str] = &["running", "paused", "restarting"];
/// Those and the others.
const STATES_WITH_STOPPED: &[&str] = &["running", "paused", "restarting", "created", "exited", "dead"];

fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volumes {
    #[serde(default)]
    volumes: Option<Vec<Named>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    name: String,
}

/// A container as the engine lists it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    mounts: Vec<Mount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mount {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    destination: String,
}

impl From<Listed> for Container {
    fn from(listed: Listed) -> Self {
        let labels = listed.labels.unwrap_or_default();
        // A link of another container is a name of this one too, with a second slash.
        let names = listed.names.iter().filter_map(|name| name.strip_prefix('/'));
        let name = names.clone().find(|name| !name.contains('/'));
        Self {
            name: name.map_or_else(|| listed.id.chars().take(12).collect(), str::to_owned),
            id: listed.id,
            service: labels.get("com.docker.compose.service").cloned(),
            runs: listed.state == "running",
            volumes: listed
                .mounts
                .into_iter()
                .filter(|mount| mount.kind == "volume")
                .map(|mount| (mount.name, mount.destination))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_what_the_engine_lists() {
        let listed: Vec<Listed> = serde_json::from_str(
            r#"[{"Id":"0123456789abcdef","Names":["/web/db","/shop-db-1"],"State":"running",
                "Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"db"},
                "Mounts":[{"Type":"volume","Name":"pg","Destination":"/var/lib/postgresql","Driver":"windlass"},
                          {"Type":"bind","Source":"/pg","Destination":"/etc"}]},
               {"Id":"fedcba9876543210","Names":[],"State":"paused","Labels":null}]"#,
        )
        .expect("read");
        let all: Vec<Container> = listed.into_iter().map(Container::from).collect();
        assert_eq!((all[0].name.as_str(), all[0].runs), ("shop-db-1", true));
        assert_eq!(all[0].path_of("pg"), Some("/var/lib/postgresql"));
        assert!(all[0].is_called("db") && all[0].is_called("shop-db-1") && all[0].is_called("0123456789ab"));
        assert!(!all[0].is_called("0123") && !all[0].is_called("web/db"));
        assert_eq!((all[1].name.as_str(), all[1].runs), ("fedcba987654", false));
    }

    #[test]
    fn what_is_no_socket_is_not_asked() {
        let said = Engine::at(Path::new("/dev/null"))
            .expect_err("a device")
            .to_string();
        assert!(said.contains("/dev/null is no socket"), "{said}");
        let said = Engine::at(Path::new("/nowhere/docker.sock"))
            .expect_err("nothing")
            .to_string();
        assert!(said.contains("is not there"), "{said}");
    }
}
