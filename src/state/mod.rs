//! What this host alone knows, in SQLite below the root: intents, mounts, and its memory of the volumes.
//!
//! The drivers' own records are the truth about volumes; the copy here answers Docker while a driver's storage is
//! away. One connection writes, under one lock; each change is one transaction, on disk when the call returns
//! (WAL with `synchronous=FULL`). Calls block: they belong on blocking threads.

mod duties;
mod jobs;
mod migrations;
mod mounts;
mod pasts;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

pub use mounts::Hold;

use crate::driver::Operation;
use crate::model::{Time, Volume};

/// The name of the database below the root.
pub const FILE: &str = "state.db";

/// A failure of the records.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// SQLite refused, mostly because the disk is full or failing.
    #[error("cannot {doing} in the state database: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// The file cannot be made.
    #[error("cannot make the state database {path}: {source}")]
    File {
        /// The database.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A row that this version cannot read.
    #[error("the state database {path} holds a {what} that cannot be read: {source}")]
    Row {
        /// The database.
        path: PathBuf,
        /// e.g. `volume pgdata`, `intent 7`.
        what: String,
        /// The decoder's answer.
        source: serde_json::Error,
    },
    /// The database was written by a later version.
    #[error(
        "the state database {path} has format {found}, and this windlass reads up to {known}; run the newer windlass again, or give another root"
    )]
    Later {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The last format of this version.
        known: i64,
    },
}

/// The result of reading or changing the records.
pub type Result<T> = std::result::Result<T, StateError>;

/// The records.
pub struct State {
    path: PathBuf,
    id: Uuid,
    /// Guards the one connection. Every critical section is one statement or one transaction.
    connection: Mutex<Connection>,
}

/// An operation that was begun and of which no end is recorded.
#[derive(Debug)]
pub struct Intent {
    /// Its number; rises.
    pub id: i64,
    /// The driver that does it.
    pub driver: String,
    /// What is to be done.
    pub operation: Operation,
}

/// What the end of an operation changes in this host's memory of the volumes.
#[derive(Debug)]
pub enum Effect {
    /// Nothing.
    None,
    /// The volume is now this.
    Put(Volume),
    /// There is no volume of that name any more, nor mounts of it.
    Forget(Volume),
}

impl State {
    /// Opens the records below `root`, making or migrating them.
    ///
    /// # Errors
    /// [`StateError::Later`] for records of a later version, [`StateError::Database`] for the rest.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        make_private(&path)?;
        let mut connection = Connection::open(&path).map_err(doing("open"))?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 PRAGMA foreign_keys = ON;
                 PRAGMA busy_timeout = 5000;",
            )
            .map_err(doing("configure"))?;
        migrations::run(&mut connection, &path)?;
        let id = identity(&connection)?;
        Ok(Self {
            path,
            id,
            connection: Mutex::new(connection),
        })
    }

    /// The identity of this state directory.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// A remembered setting (`vfs.store`, `drivers`).
    pub fn setting(&self, key: &str) -> Result<Option<String>> {
        self.locked()
            .query_row("SELECT value FROM setting WHERE key = ?1", [key], |row| {
                row.get(0)
            })
            .optional()
            .map_err(doing("read a setting"))
    }

    /// Remembers a setting.
    pub fn remember(&self, key: &str, value: &str) -> Result<()> {
        self.locked()
            .execute(
                "INSERT INTO setting (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2",
                [key, value],
            )
            .map(drop)
            .map_err(doing("remember a setting"))
    }

    /// All volumes that this host remembers.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let connection = self.locked();
        let mut statement = connection
            .prepare("SELECT name, record FROM volume ORDER BY name")
            .map_err(doing("list volumes"))?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map_err(doing("list volumes"))?;
        let mut volumes = Vec::new();
        for row in rows {
            let (name, record) = row.map_err(doing("list volumes"))?;
            volumes.push(self.decode(&record, || format!("volume {name}"))?);
        }
        Ok(volumes)
    }

    /// Makes this host's memory of one driver's volumes equal to `volumes`, in one transaction.
    pub fn replace_volumes(&self, driver: &str, volumes: &[Volume]) -> Result<()> {
        let mut connection = self.locked();
        let transaction = connection.transaction().map_err(doing("remember volumes"))?;
        transaction
            .execute("DELETE FROM volume WHERE driver = ?1", [driver])
            .map_err(doing("remember volumes"))?;
        for volume in volumes {
            put(&transaction, volume)?;
        }
        transaction.commit().map_err(doing("remember volumes"))
    }

    /// Records that `operation` is about to be done. On disk when this returns.
    pub fn begin(&self, driver: &str, operation: &Operation) -> Result<i64> {
        let connection = self.locked();
        connection
            .prepare_cached("INSERT INTO intent (driver, operation, begun) VALUES (?1, ?2, ?3)")
            .and_then(|mut s| s.insert(params![driver, encode(operation), Time::now().to_string()]))
            .map_err(doing("record an intent"))
    }

    /// Records the end of an operation together with what it changed.
    pub fn finish(&self, intent: i64, effect: Effect) -> Result<()> {
        let mut connection = self.locked();
        let transaction = connection.transaction().map_err(doing("record a result"))?;
        match effect {
            Effect::None => {}
            Effect::Put(volume) => put(&transaction, &volume)?,
            Effect::Forget(volume) => {
                transaction
                    .execute("DELETE FROM volume WHERE name = ?1", [volume.name.as_str()])
                    .map_err(doing("forget a volume"))?;
                transaction
                    .execute("DELETE FROM hold WHERE volume = ?1", [volume.id.to_string()])
                    .map_err(doing("forget a volume's mounts"))?;
            }
        }
        transaction
            .execute("DELETE FROM intent WHERE id = ?1", [intent])
            .map_err(doing("record a result"))?;
        transaction.commit().map_err(doing("record a result"))
    }

    /// Remembers a volume outside of any operation (its policy changed, another host made it).
    pub fn put(&self, volume: &Volume) -> Result<()> {
        put(&self.locked(), volume)
    }

    /// The operations that a crash interrupted, oldest first.
    pub fn intents(&self) -> Result<Vec<Intent>> {
        let connection = self.locked();
        let mut statement = connection
            .prepare("SELECT id, driver, operation FROM intent ORDER BY id")
            .map_err(doing("list intents"))?;
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?)))
            .map_err(doing("list intents"))?;
        let mut intents = Vec::new();
        for row in rows {
            let (id, driver, operation): (i64, String, String) = row.map_err(doing("list intents"))?;
            let operation = self.decode(&operation, || format!("intent {id}"))?;
            intents.push(Intent {
                id,
                driver,
                operation,
            });
        }
        Ok(intents)
    }

    fn decode<T: serde::de::DeserializeOwned>(&self, text: &str, what: impl Fn() -> String) -> Result<T> {
        serde_json::from_str(text).map_err(|source| StateError::Row {
            path: self.path.clone(),
            what: what(),
            source,
        })
    }

    /// A poisoned lock is taken all the same: an unfinished transaction was rolled back when it was dropped.
    fn locked(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the file before SQLite does, for root's eyes only; the write-ahead log takes its mode from it.
fn make_private(path: &Path) -> Result<()> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(StateError::File {
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

fn put(connection: &Connection, volume: &Volume) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO volume (name, id, driver, record) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET id = ?2, driver = ?3, record = ?4",
        )
        .and_then(|mut s| {
            s.execute(params![
                volume.name.as_str(),
                volume.id.to_string(),
                volume.driver,
                encode(volume)
            ])
        })
        .map(drop)
        .map_err(doing("remember a volume"))
}

/// The identity of the records: made once, kept for ever.
fn identity(connection: &Connection) -> Result<Uuid> {
    connection
        .execute(
            "INSERT OR IGNORE INTO setting (key, value) VALUES ('id', ?1)",
            [Uuid::new_v4().to_string()],
        )
        .map_err(doing("make an identity"))?;
    let text: String = connection
        .query_row("SELECT value FROM setting WHERE key = 'id'", [], |row| row.get(0))
        .map_err(doing("read the identity"))?;
    Uuid::parse_str(&text).map_err(|_| StateError::Database {
        doing: "read the identity",
        source: rusqlite::Error::InvalidColumnName("setting id: not a UUID".to_owned()),
    })
}

fn encode<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("records have text keys only, so they always encode")
}

fn doing(doing: &'static str) -> impl Fn(rusqlite::Error) -> StateError {
    move |source| StateError::Database { doing, source }
}

#[cfg(test)]
mod tests;
