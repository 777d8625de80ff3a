//! At most so many calls at once; the others wait for their turn.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;

use super::{Object, Result, Store};

/// See the module.
pub struct Concurrency {
    store: Arc<dyn Store>,
    /// Calls that may still begin; held for the count alone.
    free: Mutex<usize>,
    freed: Condvar,
}

impl Concurrency {
    /// Lets `calls` calls run at once, at least one.
    pub fn new(store: Arc<dyn Store>, calls: usize) -> Self {
        Self {
            store,
            free: Mutex::new(calls.max(1)),
            freed: Condvar::new(),
        }
    }

    fn enter(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .freed
            .wait_while(free, |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Turn(self)
    }
}

/// The right to one call; given back on drop.
struct Turn<'a>(&'a Concurrency);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

impl Store for Concurrency {
    fn location(&self) -> String {
        self.store.location()
    }

    fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        let _turn = self.enter();
        self.store.put(path, bytes)
    }

    fn put_new(&self, path: &str, bytes: Bytes) -> Result<()> {
        let _turn = self.enter();
        self.store.put_new(path, bytes)
    }

    fn get(&self, path: &str, limit: u64) -> Result<Bytes> {
        let _turn = self.enter();
        self.store.get(path, limit)
    }

    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Bytes> {
        let _turn = self.enter();
        self.store.get_range(path, offset, length)
    }

    fn stat(&self, path: &str) -> Result<Option<Object>> {
        let _turn = self.enter();
        self.store.stat(path)
    }

    fn list(&self, below: &str) -> Result<Vec<Object>> {
        let _turn = self.enter();
        self.store.list(below)
    }

    fn directories(&self, below: &str) -> Result<Vec<String>> {
        let _turn = self.enter();
        self.store.directories(below)
    }

    fn delete(&self, path: &str) -> Result<()> {
        let _turn = self.enter();
        self.store.delete(path)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::MemoryStore;
    use crate::store::faulty::{Fault, Faulty, Plan};

    #[test]
    fn never_more_than_allowed_and_all_get_their_turn() {
        let plan = Plan::always(Fault::Delay(Duration::from_millis(3)));
        let faulty = Arc::new(Faulty::new(Arc::new(MemoryStore::default()), plan));
        let store = Concurrency::new(Arc::clone(&faulty) as _, 3);
        std::thread::scope(|scope| {
            for n in 0..12 {
                let store = &store;
                scope.spawn(move || store.put(&format!("{n}"), Bytes::new()));
            }
        });
        assert_eq!(faulty.calls(), 12);
        assert_eq!(faulty.most_at_once(), 3);
    }
}
