//! Counts what a destination is asked: requests and bytes, by verb. Tests hold the engine to what a backup may cost, and
//! `backup inspect` shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use serde::Serialize;

use super::{Object, Result, Store};

/// The counters of one opened destination; they only grow.
///
/// Requests that failed count too, and so does each try of a request that was repeated. At a service that is reached over
/// HTTP these are the real requests: a long listing or a large upload is several.
#[derive(Debug, Default)]
pub struct Counts {
    puts: AtomicU64,
    gets: AtomicU64,
    stats: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Writes, those of parts included.
    pub puts: u64,
    /// Reads, whole or in part.
    pub gets: u64,
    /// Questions for an object's size.
    pub stats: u64,
    /// Listings; over HTTP, pages of listings.
    pub lists: u64,
    /// Deletions.
    pub deletes: u64,
    /// Bytes of objects that were sent.
    pub sent_bytes: u64,
    /// Bytes of objects that were received.
    pub received_bytes: u64,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Writes an object.
    Put,
    /// Reads one.
    Get,
    /// Asks for its size.
    Stat,
    /// Lists.
    List,
    /// Deletes one.
    Delete,
}

impl Counts {
    /// One more request.
    pub fn request(&self, verb: Verb) {
        let counter = match verb {
            Verb::Put => &self.puts,
            Verb::Get => &self.gets,
            Verb::Stat => &self.stats,
            Verb::List => &self.lists,
            Verb::Delete => &self.deletes,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// So many bytes of objects went out.
    pub fn sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Relaxed);
    }

    /// So many bytes of objects came in.
    pub fn received(&self, bytes: u64) {
        self.received_bytes.fetch_add(bytes, Relaxed);
    }

    /// The counters now.
    pub fn tally(&self) -> Tally {
        Tally {
            puts: self.puts.load(Relaxed),
            gets: self.gets.load(Relaxed),
            stats: self.stats.load(Relaxed),
            lists: self.lists.load(Relaxed),
            deletes: self.deletes.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
        }
    }
}

impl Tally {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.puts + self.gets + self.stats + self.lists + self.deletes
    }

    /// What came since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            puts: self.puts - before.puts,
            gets: self.gets - before.gets,
            stats: self.stats - before.stats,
            lists: self.lists - before.lists,
            deletes: self.deletes - before.deletes,
            sent_bytes: self.sent_bytes - before.sent_bytes,
            received_bytes: self.received_bytes - before.received_bytes,
        }
    }
}

/// A store whose calls are counted, for stores that do not count their own requests.
pub struct Counting {
    store: Arc<dyn Store>,
    counts: Arc<Counts>,
}

impl Counting {
    /// Counts the calls of `store` in `counts`.
    pub fn new(store: Arc<dyn Store>, counts: Arc<Counts>) -> Self {
        Self { store, counts }
    }

    fn received(&self, bytes: Result<Bytes>) -> Result<Bytes> {
        if let Ok(bytes) = &bytes {
            self.counts.received(bytes.len() as u64);
        }
        bytes
    }
}

impl Store for Counting {
    fn location(&self) -> String {
        self.store.location()
    }

    fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.counts.request(Verb::Put);
        self.counts.sent(bytes.len() as u64);
        self.store.put(path, bytes)
    }

    fn put_new(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.counts.request(Verb::Put);
        self.counts.sent(bytes.len() as u64);
        self.store.put_new(path, bytes)
    }

    fn get(&self, path: &str, limit: u64) -> Result<Bytes> {
        self.counts.request(Verb::Get);
        self.received(self.store.get(path, limit))
    }

    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.counts.request(Verb::Get);
        self.received(self.store.get_range(path, offset, length))
    }

    fn stat(&self, path: &str) -> Result<Option<Object>> {
        self.counts.request(Verb::Stat);
        self.store.stat(path)
    }

    fn list(&self, below: &str) -> Result<Vec<Object>> {
        self.counts.request(Verb::List);
        self.store.list(below)
    }

    fn directories(&self, below: &str) -> Result<Vec<String>> {
        self.counts.request(Verb::List);
        self.store.directories(below)
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.counts.request(Verb::Delete);
        self.store.delete(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn every_call_counts_once_failures_too_and_bytes_only_when_they_came() {
        let counts = Arc::new(Counts::default());
        let store = Counting::new(Arc::new(MemoryStore::default()), Arc::clone(&counts));
        store.put("a", Bytes::from_static(b"12345")).expect("put");
        store
            .put_new("a", Bytes::from_static(b"1234567"))
            .expect_err("taken");
        let before = counts.tally();
        store.get("a", 5).expect("get");
        store.get("absent", 5).expect_err("absent");
        store.get_range("a", 1, 2).expect("range");
        store.stat("a").expect("stat");
        store.list("").expect("list");
        store.directories("").expect("list");
        store.delete("a").expect("delete");
        assert_eq!((before.puts, before.sent_bytes), (2, 12));
        let tally = counts.tally();
        assert_eq!(tally.requests(), 9);
        assert_eq!(
            tally.since(&before),
            Tally {
                gets: 3,
                stats: 1,
                lists: 2,
                deletes: 1,
                received_bytes: 7,
                ..Tally::default()
            }
        );
    }
}
