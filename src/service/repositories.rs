//! Repositories as the service sees them: found by URL, opened with the password that the daemon was given, kept open for
//! a while.
//!
//! Opening derives the master key from the password, which costs a quarter of a second and much memory; so the latest
//! few repositories stay open. What is kept is forgotten when the password changes. Everything here blocks.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Result, ServiceError};
use crate::engine::{self, BackupUrl, EngineError, Owner, Password, Repository, convoy};
use crate::model::{BackupSettings, Bytes, InvalidValue, Name, Secret};
use crate::store::counting::Tally;
use crate::store::{self, Counts, Destination, StoreSettings};

/// So many repositories stay open.
const KEPT: usize = 16;

const A_BACKUP: &str =
    "the URL of a backup: <destination>?volume=<name>&backup=<id>; 'windlass backup list' shows them";

/// What to do without a password.
const NO_PASSWORD: &str = "there is no password for backups; give the daemon one with backup-password-file or WINDLASS_BACKUP_PASSWORD, or say backup-encrypt=none for backups that everybody can read";

/// What a URL names: a destination, the repository of a volume in it, or one backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub destination: Destination,
    pub volume: Option<Name>,
    pub backup: Option<String>,
}

impl Place {
    /// Reads a URL; `endpoint` is the S3 service that was asked for, and without one the settings' is used for S3.
    pub fn parse(url: &str, endpoint: Option<&str>, settings: &BackupSettings) -> Result<Self> {
        let is_s3 = url.trim_start().to_ascii_lowercase().starts_with("s3:");
        let usual = settings.s3_endpoint.as_deref();
        let endpoint = endpoint
            .filter(|given| !given.is_empty())
            .or(usual.filter(|_| is_s3 && !url.contains("endpoint=")));
        let read = BackupUrl::parse(url, endpoint)?;
        let volume = read.volume.as_deref().map(Name::volume).transpose()?;
        if read.backup.is_some() && volume.is_none() {
            return Err(refused("backup", url, A_BACKUP));
        }
        Ok(Self {
            destination: read.destination,
            volume,
            backup: read.backup,
        })
    }

    /// Reads the URL of one backup.
    pub fn of_backup(
        url: &str,
        endpoint: Option<&str>,
        settings: &BackupSettings,
    ) -> Result<(Self, Name, String)> {
        let place = Self::parse(url, endpoint, settings)?;
        match (&place.volume, &place.backup) {
            (Some(volume), Some(backup)) => {
                let (volume, backup) = (volume.clone(), backup.clone());
                Ok((place, volume, backup))
            }
            _ => Err(refused("backup", url, A_BACKUP)),
        }
    }

    /// Reads the URL of a destination, without volume and backup; the settings' where none is given.
    pub fn of_destination(
        url: Option<&str>,
        endpoint: Option<&str>,
        settings: &BackupSettings,
    ) -> Result<Self> {
        let Some(url) = url
            .filter(|url| !url.is_empty())
            .or(settings.destination.as_deref())
        else {
            return Err(refused(
                "dest",
                "",
                "a destination; give one such as s3://bucket@region/path or vfs:///srv/backups, or give the daemon backup-dest",
            ));
        };
        match Self::parse(url, endpoint, settings)? {
            place if place.volume.is_none() => Ok(place),
            _ => Err(refused("dest", url, "a destination: it names a volume")),
        }
    }

    /// The canonical URL, which holds no secret.
    pub fn url(&self) -> String {
        let url = BackupUrl {
            destination: self.destination.clone(),
            volume: self.volume.as_ref().map(Name::to_string),
            backup: self.backup.clone(),
        };
        url.to_string()
    }

    /// Whether it names a backup of Convoy's: those have names (`backup-…`) where ours have hexadecimal digits.
    pub fn is_convoys(&self) -> bool {
        let ours = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        self.backup
            .as_ref()
            .is_some_and(|backup| !backup.chars().all(ours))
    }

    /// The repository of that volume in the same destination.
    pub fn repository(&self, volume: &Name) -> Self {
        Self {
            destination: self.destination.clone(),
            volume: Some(volume.clone()),
            backup: None,
        }
    }

    /// The same in that volume's repository.
    pub fn in_volume(&self, volume: &Name) -> Self {
        Self {
            volume: Some(volume.clone()),
            ..self.clone()
        }
    }

    /// That backup in the same repository.
    pub fn backup(&self, id: impl Into<String>) -> Self {
        Self {
            backup: Some(id.into()),
            ..self.clone()
        }
    }
}

/// An open repository and what was asked of its storage.
#[derive(Clone)]
pub(super) struct Opened {
    pub repository: Repository,
    counts: Arc<Counts>,
    /// What had been asked when it was given out: nothing, where it was opened just for that.
    before: Tally,
}

impl Opened {
    /// One whose opening is to be counted.
    pub fn new(repository: Repository, counts: Arc<Counts>) -> Self {
        Self {
            repository,
            counts,
            before: Tally::default(),
        }
    }

    /// What was asked since it was given out, its opening included.
    pub fn spent(&self) -> Tally {
        self.counts.tally().since(&self.before)
    }

    /// The same repository, given out once more.
    pub fn again(&self) -> Self {
        Self {
            before: self.counts.tally(),
            ..self.clone()
        }
    }
}

/// What a store is opened with that may be changed while it is open.
type Bounds = (u32, Option<Bytes>, Option<Bytes>);

fn bounds(settings: &BackupSettings) -> Bounds {
    (
        settings.connections,
        settings.upload_limit,
        settings.download_limit,
    )
}

/// The repositories that are open.
pub(super) struct Repositories {
    cache: PathBuf,
    /// The latest last. Held for look-ups only.
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    url: String,
    password: Option<Secret>,
    /// How its store was opened.
    bounds: Bounds,
    opened: Opened,
}

impl Repositories {
    /// Caches below `cache`.
    pub fn new(cache: PathBuf) -> Self {
        Self {
            cache,
            kept: Mutex::default(),
        }
    }

    /// The repository of a volume.
    ///
    /// # Errors
    /// [`EngineError::NoRepository`].
    pub fn open(
        &self,
        settings: &BackupSettings,
        destination: &Destination,
        volume: &Name,
    ) -> Result<Opened> {
        let url = destination.join(volume.as_str())?.url();
        let secret = secret(settings)?;
        if let Some(opened) = self.kept(&url, secret.as_ref(), bounds(settings)) {
            return Ok(opened);
        }
        let (store, counts) = self.storage(settings, destination, volume)?;
        let repository = Repository::open(store, &password(secret.as_ref())?, Some(&self.cache))?;
        Ok(self.keep(url, secret, bounds(settings), Opened::new(repository, counts)))
    }

    /// The repository of a volume, made if there is none. One that belongs to another volume is refused, or taken over.
    pub fn open_for(
        &self,
        settings: &BackupSettings,
        destination: &Destination,
        owner: &Owner,
        volume: &Name,
        take_over: bool,
    ) -> Result<Opened> {
        let opened = match self.open(settings, destination, volume) {
            Err(ServiceError::Engine(EngineError::NoRepository { .. })) => {
                let secret = secret(settings)?;
                let password = password(secret.as_ref())?;
                let (store, counts) = self.storage(settings, destination, volume)?;
                let repository =
                    Repository::create(store, &password, Some(&self.cache), Some(owner.clone()))?;
                let url = destination.join(volume.as_str())?.url();
                self.keep(url, secret, bounds(settings), Opened::new(repository, counts))
            }
            other => other?,
        };
        let repository = &opened.repository;
        match repository.check_owner(owner.volume) {
            Err(EngineError::Foreign { .. }) if take_over => repository.set_owner(owner.clone())?,
            Ok(()) if repository.owner().is_none() => repository.set_owner(owner.clone())?,
            other => other?,
        }
        Ok(opened)
    }

    /// The volumes that have a repository in a destination, or may have one: directories with a volume's name.
    pub fn volumes(&self, settings: &BackupSettings, destination: &Destination) -> Result<Vec<Name>> {
        let opened = store::open(destination, &store_settings(settings))?;
        let names = opened.store.directories("")?;
        Ok(names.iter().filter_map(|name| Name::volume(name).ok()).collect())
    }

    /// Convoy's repository in a destination.
    pub fn convoys(&self, settings: &BackupSettings, destination: &Destination) -> Result<convoy::Reader> {
        let opened = store::open(destination, &store_settings(settings))?;
        convoy::Reader::open(opened.store)?.ok_or_else(|| {
            EngineError::NoRepository {
                location: destination.url(),
                remedy: " of Convoy's; the URL names one of its backups".to_owned(),
            }
            .into()
        })
    }

    fn storage(
        &self,
        settings: &BackupSettings,
        destination: &Destination,
        volume: &Name,
    ) -> Result<(Arc<dyn store::Store>, Arc<Counts>)> {
        let opened = store::open(destination, &store_settings(settings))?;
        let below = store::Below::new(opened.store, volume.as_str())?;
        Ok((Arc::new(below), opened.counts))
    }

    fn kept(&self, url: &str, password: Option<&Secret>, bounds: Bounds) -> Option<Opened> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|kept| kept.url == url)?;
        let found = kept.remove(at);
        (found.password.as_ref() == password && found.bounds == bounds).then(|| {
            let opened = found.opened.again();
            kept.push(found);
            opened
        })
    }

    fn keep(&self, url: String, password: Option<Secret>, bounds: Bounds, opened: Opened) -> Opened {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| kept.url != url);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(Kept {
            url,
            password,
            bounds,
            opened: opened.clone(),
        });
        opened
    }
}

impl super::Inner {
    /// How backups of a volume of this name are made and read: the daemon's settings, and what the policy of a volume that is here
    /// says otherwise.
    pub(super) fn backups_of(&self, volume: &Name) -> Arc<BackupSettings> {
        let settings = self.settings();
        let known = {
            let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
            catalog.get(volume).map(|entry| entry.volume.policy.clone())
        };
        let policy = known.unwrap_or_default().or(&settings.policy);
        let mut backups = settings.backups;
        if policy
            .backup_encrypt
            .is_some_and(|encrypt| encrypt != backups.encrypt)
        {
            Arc::make_mut(&mut backups).encrypt = !backups.encrypt;
        }
        if policy.backup_limit.is_some() {
            Arc::make_mut(&mut backups).upload_limit = policy.backup_limit;
        }
        backups
    }
}

/// The password that the settings give: `None` is none at all, which has to be asked for.
///
/// # Errors
/// Where no password is given, or its file cannot be read.
pub(super) fn secret(settings: &BackupSettings) -> Result<Option<Secret>> {
    if !settings.encrypt {
        return Ok(None);
    }
    if let Some(path) = &settings.password_file {
        let text = std::fs::read_to_string(path).map_err(|source| {
            let path = path.display();
            EngineError::Password(format!(
                "cannot read the backup password from {path} (backup-password-file): {source}"
            ))
        })?;
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            let path = path.display();
            let why = format!(
                "the first line of {path} (backup-password-file) is empty; it must be the backup password"
            );
            return Err(EngineError::Password(why).into());
        }
        return Ok(Some(Secret::new(line.to_owned())));
    }
    match &settings.password {
        Some(password) => Ok(Some(password.clone())),
        None => Err(EngineError::Password(NO_PASSWORD.to_owned()).into()),
    }
}

fn password(secret: Option<&Secret>) -> Result<Password> {
    match secret {
        None => Ok(Password::none()),
        Some(secret) => Ok(Password::new(secret.reveal().to_owned())?),
    }
}

fn store_settings(settings: &BackupSettings) -> StoreSettings {
    StoreSettings {
        connections: usize::try_from(settings.connections).unwrap_or(1),
        upload_rate: settings.upload_limit.map(|rate| rate.0),
        download_rate: settings.download_limit.map(|rate| rate.0),
        ..StoreSettings::default()
    }
}

fn refused(option: &str, value: &str, expected: &str) -> ServiceError {
    InvalidValue::Value {
        option: option.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
    .into()
}

/// This host's name, for repositories.
pub(super) fn hostname() -> String {
    engine::hostname()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> BackupSettings {
        BackupSettings::default()
    }

    #[test]
    fn urls_name_a_destination_a_repository_or_a_backup_and_print_as_they_were() {
        for url in [
            "vfs:///srv/backups",
            "vfs:///srv/backups?volume=pg",
            "vfs:///srv/backups?volume=pg&backup=0123456789abcdef",
            "s3://bucket@eu/path?endpoint=http://h:1&volume=pg&backup=0123",
        ] {
            assert_eq!(Place::parse(url, None, &settings()).expect(url).url(), url);
        }
        for url in [
            "vfs:///b?volume=../x",
            "vfs:///b?backup=0123",
            "vfs:///b?volume=v&backup=",
            "vfs:///b?volume=v&bakcup=01",
        ] {
            assert!(Place::parse(url, None, &settings()).is_err(), "{url}");
        }
    }

    #[test]
    fn the_settings_endpoint_is_for_s3_alone_and_for_those_that_name_none() {
        let settings = BackupSettings {
            s3_endpoint: Some("http://mine:1".to_owned()),
            destination: Some("s3://b/p".to_owned()),
            ..settings()
        };
        let url = |given, endpoint| {
            let place = Place::of_destination(given, endpoint, &settings).expect("valid");
            place.url()
        };
        assert_eq!(url(None, None), "s3://b/p?endpoint=http://mine:1");
        assert_eq!(url(Some("vfs:///b"), None), "vfs:///b");
        assert_eq!(
            url(Some("s3://b?endpoint=http://h:2"), None),
            "s3://b?endpoint=http://h:2"
        );
        assert_eq!(
            url(Some("s3://b"), Some("http://h:3")),
            "s3://b?endpoint=http://h:3"
        );
        let none = BackupSettings::default();
        let said = Place::of_destination(None, None, &none)
            .expect_err("none")
            .to_string();
        assert!(said.contains("backup-dest"), "{said}");
    }

    #[test]
    fn without_a_password_it_is_said_what_to_do_and_a_file_s_first_line_is_one() {
        let said = secret(&settings()).expect_err("none").to_string();
        assert!(
            said.contains("backup-password-file") && said.contains("backup-encrypt=none"),
            "{said}"
        );
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("password");
        std::fs::write(&file, "correct horse\nsecond\n").expect("writes");
        let mut given = BackupSettings {
            password_file: Some(file.clone()),
            ..settings()
        };
        let read = secret(&given).expect("read").expect("a password");
        assert_eq!(read.reveal(), "correct horse");
        std::fs::write(&file, "\n").expect("writes");
        assert!(secret(&given).is_err());
        given.encrypt = false;
        assert_eq!(secret(&given).expect("none"), None);
    }
}
