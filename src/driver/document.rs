//! Small JSON files that are a driver's records: read with a bound, written to be read by people too.
//!
//! A record is data from outside: its size is bounded, and it must be a regular file.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DriverError, Result};
use crate::sys::durable;

/// No honest record is near this size: some thousand snapshots.
const LARGEST: u64 = 4 << 20;

/// A record's text. People read it in emergencies, so it has lines.
pub(super) fn to_json(record: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(record).expect("records have text keys and no failing parts");
    bytes.push(b'\n');
    bytes
}

/// Removes a record, if it is there, for good.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result.map_err(failed("remove", path))?,
    }
    match path.parent() {
        Some(parent) => Ok(durable::sync_dir(parent)?),
        None => Ok(()),
    }
}

/// The record in a file; `None` when nothing of that name is there.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read_small(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| DriverError::Corrupt {
            path: path.to_owned(),
            why: error.to_string(),
        })
}

/// The content of a small regular file; `None` when nothing of that name is there.
pub(super) fn read_small(path: &Path) -> Result<Option<Vec<u8>>> {
    // A link is not followed, and a pipe is not waited for.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let corrupt = |why: &str| DriverError::Corrupt {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    if !file.metadata().map_err(failed("read", path))?.is_file() {
        return Err(corrupt("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed("read", path))?;
    if bytes.len() as u64 > LARGEST {
        return Err(corrupt("it is too large to be a record"));
    }
    Ok(Some(bytes))
}

fn failed<'a>(what: &'a str, path: &'a Path) -> impl Fn(io::Error) -> DriverError + 'a {
    move |source| DriverError::System {
        doing: format!("cannot {what} {}", path.display()),
        source,
    }
}
