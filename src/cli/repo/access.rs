//! The way to a repository: its place, its storage, its password, its cache.

use std::cell::OnceCell;
use std::env;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clap::Args;

use super::interrupt::Interrupt;
use super::password::{self, Source};
use super::{Error, failure};
use crate::cli::gauge::{Gauge, Reading};
use crate::engine::convoy::{self, ConvoyBackup};
use crate::engine::{Backup, BackupUrl, EngineError, Password, Progress, Repository};
use crate::store::{self, Below, Destination, Store, StoreSettings};

/// How often the counters are looked at.
const LOOKS: Duration = Duration::from_millis(200);

/// Options of every command of `windlass repo`.
#[derive(Debug, Args)]
#[command(next_display_order = 800)]
pub(super) struct Access {
    /// The file whose first line is the repository's password
    #[arg(long, global = true, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// none: the repository has no password, and whoever can read it can read the backups
    #[arg(long, global = true, value_name = "HOW", value_parser = ["password", "none"], default_value = "password", hide_default_value = true, hide_possible_values = true)]
    encrypt: String,
    /// The S3 service, where it is not Amazon's, such as http://host:9000
    #[arg(long, global = true, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// Where indexes and directories are kept for the next time [default: $XDG_CACHE_HOME/windlass or ~/.cache/windlass]
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,
    /// Keep nothing of the repository on this host
    #[arg(long, global = true)]
    no_cache: bool,
    /// Do not show how far long work is
    #[arg(long, global = true)]
    no_progress: bool,
}

/// Where a repository is, and which backup of it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub destination: Destination,
    /// Without one, the repository is the destination itself.
    pub volume: Option<String>,
    pub backup: Option<String>,
}

impl Place {
    /// The URL of the repository, or of one of its backups.
    pub fn url(&self, backup: Option<&str>) -> String {
        let url = BackupUrl {
            destination: self.destination.clone(),
            volume: self.volume.clone(),
            backup: backup.map(str::to_owned),
        };
        url.to_string()
    }

    /// The repository of a volume at the same destination.
    pub fn of_volume(&self, volume: &str) -> Self {
        Self {
            destination: self.destination.clone(),
            volume: Some(volume.to_owned()),
            backup: None,
        }
    }

    /// What messages call it: the volume, or where it is.
    pub fn title(&self) -> String {
        self.volume.clone().unwrap_or_else(|| self.destination.url())
    }

    /// Whether the URL names a backup of Convoy's: its names have letters that an id has not.
    pub fn is_convoy(&self) -> bool {
        let is_id = |name: &str| name == "latest" || name.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.backup.as_deref().is_some_and(|name| !is_id(name))
    }

    /// The backup that the URL must name.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn backup(&self) -> Result<&str, Error> {
        self.backup.as_deref().ok_or_else(|| Error::Usage {
            message: format!(
                "{} names no backup; 'windlass repo list' shows the URLs of those that there are, and &backup=latest is the newest",
                self.url(None)
            ),
        })
    }
}

/// One run of a command: the options, the password once it is known, and the watch over signals.
pub(super) struct Session {
    access: Access,
    password: OnceCell<Password>,
    pub interrupt: Interrupt,
}

impl Session {
    /// Begins to watch for signals.
    pub fn begin(access: Access) -> Result<Self, Error> {
        Ok(Self {
            interrupt: Interrupt::watch()?,
            password: OnceCell::new(),
            access,
        })
    }

    /// Reads a URL; the volume can also be given apart from it.
    ///
    /// # Errors
    /// What is wrong with the URL, or two volumes.
    pub fn place(&self, url: &str, volume: Option<&str>) -> Result<Place, Error> {
        let read = BackupUrl::parse(url, self.access.s3_endpoint.as_deref())?;
        let volume = match (read.volume, volume) {
            (Some(one), Some(other)) if one != other => {
                return Err(Error::Usage {
                    message: format!("the URL is of volume {one}, and --volume says {other}"),
                });
            }
            (Some(one), _) => Some(one),
            (None, Some(name)) => {
                // The same rules as for a URL's.
                Some(BackupUrl::of(read.destination.clone(), name, "0").map(|_| name.to_owned())?)
            }
            (None, None) => None,
        };
        Ok(Place {
            destination: read.destination,
            volume,
            backup: read.backup,
        })
    }

    /// Reads the URL of a whole repository, or of a destination.
    ///
    /// # Errors
    /// Those of [`Session::place`], and a URL that names a backup: what was to be done would be done to all of them.
    pub fn whole(&self, url: &str, volume: Option<&str>) -> Result<Place, Error> {
        let place = self.place(url, volume)?;
        match &place.backup {
            None => Ok(place),
            Some(_) => Err(Error::Usage {
                message: format!(
                    "this is not for one backup but for a whole repository, which is {}",
                    place.url(None)
                ),
            }),
        }
    }

    /// The storage of a destination.
    pub fn storage(&self, destination: &Destination) -> Result<Arc<dyn Store>, Error> {
        Ok(store::open(destination, &StoreSettings::default())?.store)
    }

    /// The storage of a repository.
    pub fn storage_of(&self, place: &Place) -> Result<Arc<dyn Store>, Error> {
        let store = self.storage(&place.destination)?;
        Ok(match &place.volume {
            Some(volume) => Arc::new(Below::new(store, volume)?),
            None => store,
        })
    }

    /// Opens a repository. The password is looked for when there is a repository that needs one.
    pub fn open(&self, place: &Place) -> Result<Repository, Error> {
        let store = self.storage_of(place)?;
        if store.stat("config")?.is_none() {
            return Err(failure::no_repository(place));
        }
        let cache = self.cache();
        Ok(Repository::open(store, self.password(place)?, cache.as_deref())?)
    }

    /// Opens Convoy's repository and finds the backup that the URL names.
    pub fn open_convoy(&self, place: &Place) -> Result<(convoy::Reader, ConvoyBackup), Error> {
        let url = BackupUrl {
            destination: place.destination.clone(),
            volume: place.volume.clone(),
            backup: place.backup.clone(),
        };
        let (volume, name) = url.names()?;
        let reader = convoy::Reader::open(self.storage(&place.destination)?)?;
        let reader = reader.ok_or_else(|| failure::no_repository(place))?;
        let backup = reader.backup(volume, name)?;
        Ok((reader, backup))
    }

    /// The repositories that a URL means: that of its volume, the one at the destination itself, or all below it.
    pub fn repositories(&self, place: &Place) -> Result<Vec<Place>, Error> {
        let store = self.storage(&place.destination)?;
        if place.volume.is_some() || store.stat("config")?.is_some() {
            return Ok(vec![place.clone()]);
        }
        let mut found = Vec::new();
        for name in store.directories("")? {
            // A directory of another name is none of ours, such as a filesystem's lost+found.
            let Ok(at) = self.place(&place.url(None), Some(&name)) else {
                continue;
            };
            if name != convoy::layout::BASE && self.storage_of(&at)?.stat("config")?.is_some() {
                found.push(at);
            }
        }
        Ok(found)
    }

    /// Does long work that Ctrl-C cancels, and shows how far it is.
    ///
    /// # Errors
    /// The work's own; [`Error::Interrupted`].
    pub fn work<T, E>(
        &self,
        title: &str,
        work: impl FnOnce(&Arc<Progress>) -> Result<T, E>,
    ) -> Result<T, Error>
    where
        Error: From<E>,
    {
        self.interrupt.during(|progress| {
            let (over, ended) = mpsc::channel::<()>();
            std::thread::scope(|scope| {
                let gauge = Gauge::begin(title, !self.access.no_progress);
                scope.spawn(move || watch(gauge, progress, &ended));
                let done = work(progress);
                drop(over);
                done
            })
        })
    }

    /// Opens a repository and finds the backup that the URL names.
    pub fn open_backup(&self, place: &Place) -> Result<(Repository, Backup), Error> {
        let wanted = place.backup()?;
        let repository = self.open(place)?;
        let backup = repository.find(wanted)?;
        Ok((repository, backup))
    }

    /// The password of the repositories of this run: one for all of them.
    pub fn password(&self, place: &Place) -> Result<&Password, Error> {
        if let Some(known) = self.password.get() {
            return Ok(known);
        }
        let found = match self.source()? {
            Source::Nowhere => self
                .interrupt
                .ask(&format!("password of {}: ", place.url(None)))?,
            given => given.read()?,
        };
        Ok(self.password.get_or_init(|| found))
    }

    /// The password of a repository that is yet to be made: asked for twice.
    pub fn first_password(&self, place: &Place) -> Result<Password, Error> {
        match self.source()? {
            Source::Nowhere => self.ask_for_new(&format!("password for {}: ", place.url(None))),
            given => given.read(),
        }
    }

    /// A new password, from a file or the terminal.
    pub fn new_password(&self, file: Option<PathBuf>, place: &Place) -> Result<Password, Error> {
        match file {
            Some(file) => Source::File(file, "--new-password-file").read(),
            None => self.ask_for_new(&format!("new password for {}: ", place.url(None))),
        }
    }

    fn ask_for_new(&self, question: &str) -> Result<Password, Error> {
        let first = self.interrupt.ask(question)?;
        let second = self.interrupt.ask("the same once more: ")?;
        match first == second {
            true => Ok(first),
            false => {
                Err(EngineError::Password("the two passwords differ; nothing was done".to_owned()).into())
            }
        }
    }

    fn source(&self) -> Result<Source, Error> {
        if self.access.encrypt == "none" {
            return Ok(Source::None);
        }
        Ok(password::source(self.access.password_file.as_deref(), |name| {
            env::var_os(name)
        }))
    }

    /// Where to keep what was read, if anywhere.
    pub fn cache(&self) -> Option<PathBuf> {
        match (&self.access.cache, self.access.no_cache) {
            (_, true) => None,
            (Some(given), false) => Some(given.clone()),
            (None, false) => cache_of(|name| env::var_os(name).map(PathBuf::from)),
        }
    }
}

/// Shows how far the work is, until its end closes the channel.
fn watch(mut gauge: Gauge, progress: &Progress, ended: &mpsc::Receiver<()>) {
    while ended.recv_timeout(LOOKS) == Err(mpsc::RecvTimeoutError::Timeout) {
        let figures = progress.figures();
        gauge.show(&Reading {
            phase: if progress.is_cancelled() {
                "ending …".to_owned()
            } else {
                figures.phase
            },
            done_bytes: figures.done_bytes,
            total_bytes: figures.total_bytes,
            done_items: figures.done_items,
            total_items: figures.total_items,
        });
    }
    gauge.clear();
}

/// The usual place of a user's caches. A relative one is none, by the XDG base directory specification.
fn cache_of(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    variable("XDG_CACHE_HOME")
        .and_then(absolute)
        .or_else(|| Some(variable("HOME").and_then(absolute)?.join(".cache")))
        .map(|caches| caches.join("windlass"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_user_s_caches_are() {
        let of = |known: &[(&str, &str)]| {
            let known: Vec<(String, PathBuf)> = known
                .iter()
                .map(|(name, path)| ((*name).to_owned(), PathBuf::from(path)))
                .collect();
            cache_of(|name| Some(known.iter().find(|(known, _)| known == name)?.1.clone()))
        };
        assert_eq!(
            of(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")]),
            Some("/c/windlass".into())
        );
        assert_eq!(
            of(&[("XDG_CACHE_HOME", "c"), ("HOME", "/h")]),
            Some("/h/.cache/windlass".into())
        );
        assert_eq!(of(&[]), None);
    }
}
