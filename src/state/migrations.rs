//! The format of the database, one step after the other. A step that was released is never changed again.

use std::path::Path;

use rusqlite::Connection;

use super::{Result, StateError, doing};

/// Step N brings a database from `user_version` N to N+1.
const STEPS: &[&str] = &[
    // 1: the beginning.
    "CREATE TABLE setting (
        key   TEXT PRIMARY KEY,
        value TEXT NOT NULL
     ) STRICT;
     -- This host's memory of the volumes; the driver's own record is the truth.
     CREATE TABLE volume (
        name   TEXT PRIMARY KEY,
        id     TEXT NOT NULL,
        driver TEXT NOT NULL,
        record TEXT NOT NULL
     ) STRICT;
     CREATE INDEX volume_by_driver ON volume (driver);
     -- Operations that were begun; a row is deleted when its end is recorded.
     CREATE TABLE intent (
        id        INTEGER PRIMARY KEY AUTOINCREMENT,
        driver    TEXT NOT NULL,
        operation TEXT NOT NULL,
        begun     TEXT NOT NULL
     ) STRICT;
     -- Who mounted what: a hint, tagged with the boot and the process that heard of it last.
     CREATE TABLE hold (
        volume   TEXT NOT NULL,
        mount_id TEXT NOT NULL,
        count    INTEGER NOT NULL CHECK (count > 0),
        boot     TEXT NOT NULL,
        process  TEXT NOT NULL,
        since    TEXT NOT NULL,
        PRIMARY KEY (volume, mount_id)
     ) STRICT, WITHOUT ROWID;",
    // 2: jobs. AUTOINCREMENT: a number is not used again after old jobs are forgotten.
    "CREATE TABLE job (
        id     INTEGER PRIMARY KEY AUTOINCREMENT,
        state  TEXT NOT NULL,
        record TEXT NOT NULL
     ) STRICT;
     CREATE INDEX job_by_state ON job (state);",
    // 3: what has become of the work that policies ask for.
    "CREATE TABLE past (
        volume TEXT NOT NULL,
        task   TEXT NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (volume, task)
     ) STRICT, WITHOUT ROWID;",
    // What is owed once something has begun; a row is deleted when it is paid.
    "CREATE TABLE duty (
        id     INTEGER PRIMARY KEY AUTOINCREMENT,
        record TEXT NOT NULL
     ) STRICT;",
];

/// Brings the database to this version's format, each step in a transaction of its own.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<()> {
    let known = i64::try_from(STEPS.len()).expect("a handful of steps");
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(doing("read the format"))?;
    if found > known {
        return Err(StateError::Later {
            path: path.to_owned(),
            found,
            known,
        });
    }
    for step in found..known {
        let sql = STEPS[usize::try_from(step).expect("not negative: SQLite's user_version begins at 0")];
        let transaction = connection.transaction().map_err(doing("migrate"))?;
        transaction.execute_batch(sql).map_err(doing("migrate"))?;
        transaction
            .pragma_update(None, "user_version", step + 1)
            .map_err(doing("migrate"))?;
        transaction.commit().map_err(doing("migrate"))?;
    }
    Ok(())
}
