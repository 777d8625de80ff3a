//! Opens a destination: the service or directory behind it, with the wrappers that its settings ask for.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Bandwidth, Concurrency, Counting, Counts, Destination, DirectoryStore, ObjectStore, Result, Retry, Store,
};

/// How a destination is worked with. The defaults suit a service in the Internet as well as one nearby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// How many requests may be under way at once.
    pub connections: usize,
    /// How often a request is tried in all, if the failure is a temporary one; 1 is never again.
    pub attempts: u32,
    /// The longest wait between two tries.
    pub longest_wait: Duration,
    /// What a request to a service may take, beside a second for each 64 KiB that it carries. Directories have no limit.
    pub timeout: Duration,
    /// Bytes a second that are sent at most, in all requests together; `None` is no limit.
    pub upload_rate: Option<u64>,
    /// Bytes a second that are received at most.
    pub download_rate: Option<u64>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            connections: 5,
            attempts: 10,
            longest_wait: Duration::from_secs(30),
            timeout: Duration::from_secs(60),
            upload_rate: None,
            download_rate: None,
        }
    }
}

/// An opened destination.
pub struct Opened {
    /// To be shared between threads.
    pub store: Arc<dyn Store>,
    /// What it was asked so far.
    pub counts: Arc<Counts>,
}

/// Opens a destination. Of a service nothing is asked yet; a directory must be there.
///
/// From the inside: what is counted are the real requests, repeated ones included; a call that waits to be repeated or for
/// the line leaves its place to others.
///
/// # Errors
/// [`StoreError::Invalid`](super::StoreError::Invalid), [`StoreError::Failed`](super::StoreError::Failed),
/// [`StoreError::Denied`](super::StoreError::Denied).
pub fn open(destination: &Destination, settings: &StoreSettings) -> Result<Opened> {
    let counts = Arc::new(Counts::default());
    let store: Arc<dyn Store> = match destination {
        Destination::Directory { path } => {
            let directory = Arc::new(DirectoryStore::open(path)?);
            Arc::new(Counting::new(directory, Arc::clone(&counts)))
        }
        service => Arc::new(ObjectStore::open(service, Arc::clone(&counts), settings.timeout)?),
    };
    let store: Arc<dyn Store> = Arc::new(Concurrency::new(store, settings.connections));
    let (up, down) = (settings.upload_rate, settings.download_rate);
    let store: Arc<dyn Store> = match (up, down) {
        (None, None) => store,
        _ => Arc::new(Bandwidth::new(store, up, down)),
    };
    let store = Arc::new(Retry::new(store, settings.attempts, settings.longest_wait));
    Ok(Opened { store, counts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{self, Abilities};

    #[test]
    fn a_directory_with_all_wrappers_conforms() {
        let holder = tempfile::tempdir().expect("a scratch directory");
        let number = std::cell::Cell::new(0);
        let settings = StoreSettings {
            upload_rate: Some(1 << 40),
            download_rate: Some(1 << 40),
            ..StoreSettings::default()
        };
        let abilities = Abilities {
            exclusive_put: true,
            atomic: true,
            directories_go: true,
            large_bytes: 1 << 20,
        };
        conformance::run(abilities, &|| {
            number.set(number.get() + 1);
            let path = holder.path().join(number.get().to_string());
            std::fs::create_dir(&path).expect("a directory");
            let opened = open(&Destination::Directory { path }, &settings).expect("it opens");
            opened.store
        });
    }
}
