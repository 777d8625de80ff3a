//! A store that fails as planned, for tests: at call N the network drops, a disk lies, or the process dies.
//!
//! Not only for this crate's own unit tests, so it is always compiled; nothing but tests makes one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;

use super::counting::Verb;
use super::{Object, Result, Store, StoreError};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done; [`StoreError::Unavailable`], which may pass.
    Fail,
    /// Nothing is done; [`StoreError::Failed`], which stays.
    Refuse,
    /// It is done, but the caller hears [`StoreError::Unavailable`].
    LoseAnswer,
    /// Only half of the bytes are written or read. Listings lose their last half.
    Truncate,
    /// One bit of the bytes in the middle is another.
    Corrupt,
    /// The object is not there: reads say so, writes are lost while they seem to succeed.
    Lose,
    /// It takes so much longer.
    Delay(Duration),
    /// Nothing is done, and nothing ever again: what the destination sees of a process that dies before the call.
    Die,
    /// It is done, but the caller hears nothing good, and nothing is done ever again: of one that dies after the call.
    DieAfter,
}

/// Which calls go wrong, and how. Without more, all calls count.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The number of the call that goes wrong, from 1; 0 is all of them.
    nth: u64,
    fault: Fault,
    verb: Option<Verb>,
    below: String,
}

impl Plan {
    /// The `nth` call goes wrong, from 1, and no other; but those after a death.
    pub fn new(nth: u64, fault: Fault) -> Self {
        Self {
            nth,
            fault,
            verb: None,
            below: String::new(),
        }
    }

    /// Every call goes wrong.
    pub fn always(fault: Fault) -> Self {
        Self::new(0, fault)
    }

    /// The process dies before the `nth` call.
    pub fn die_at(nth: u64) -> Self {
        Self::new(nth, Fault::Die)
    }

    /// Nothing goes wrong; calls are counted.
    pub fn none() -> Self {
        Self::new(u64::MAX, Fault::Fail)
    }

    /// Only calls of this kind count; `directories` is a listing.
    #[must_use]
    pub fn on(mut self, verb: Verb) -> Self {
        self.verb = Some(verb);
        self
    }

    /// Only calls for paths that begin so count, e.g. `data/`.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.below);
        self
    }
}

/// See the module.
pub struct Faulty {
    store: Arc<dyn Store>,
    plan: Plan,
    calls: AtomicU64,
    dead: AtomicBool,
    running: AtomicU64,
    most_at_once: AtomicU64,
}

impl Faulty {
    /// The store, with what is planned going wrong.
    pub fn new(store: Arc<dyn Store>, plan: Plan) -> Self {
        Self {
            store,
            plan,
            calls: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            running: AtomicU64::new(0),
            most_at_once: AtomicU64::new(0),
        }
    }

    /// The calls so far that the plan counts, those that went wrong included.
    pub fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }

    /// Whether what was planned has happened.
    pub fn has_struck(&self) -> bool {
        self.plan.nth != 0 && self.calls() >= self.plan.nth
    }

    /// How many calls were under way at once, at most.
    pub fn most_at_once(&self) -> u64 {
        self.most_at_once.load(SeqCst)
    }

    /// Carries a call out, with the fault that is planned for it. `spoil` is what the data faults do.
    fn call<T>(
        &self,
        verb: Verb,
        path: &str,
        good: impl FnOnce() -> Result<T>,
        spoil: impl FnOnce(Fault) -> Result<T>,
    ) -> Result<T> {
        let running = self.running.fetch_add(1, SeqCst) + 1;
        self.most_at_once.fetch_max(running, SeqCst);
        let result = self.carry_out(verb, path, good, spoil);
        self.running.fetch_sub(1, SeqCst);
        result
    }

    fn carry_out<T>(
        &self,
        verb: Verb,
        path: &str,
        good: impl FnOnce() -> Result<T>,
        spoil: impl FnOnce(Fault) -> Result<T>,
    ) -> Result<T> {
        let counts = self.plan.verb.is_none_or(|wanted| wanted == verb) && path.starts_with(&self.plan.below);
        let number = if counts {
            self.calls.fetch_add(1, SeqCst) + 1
        } else {
            u64::MAX
        };
        let unavailable = |why: &str| StoreError::Unavailable {
            location: self.store.location(),
            doing: format!("{verb:?} {path}").to_lowercase(),
            why: why.to_owned(),
        };
        if self.dead.load(SeqCst) {
            return Err(unavailable("the process is dead (as a test planned)"));
        }
        if !(counts && (self.plan.nth == 0 || self.plan.nth == number)) {
            return good();
        }
        match self.plan.fault {
            Fault::Fail => Err(unavailable("a test planned it")),
            Fault::Refuse => Err(StoreError::Failed {
                location: self.store.location(),
                doing: format!("{verb:?} {path}").to_lowercase(),
                why: "a test planned it".to_owned(),
            }),
            Fault::LoseAnswer => {
                good()?;
                Err(unavailable("the answer is lost (as a test planned)"))
            }
            Fault::Delay(time) => {
                std::thread::sleep(time);
                good()
            }
            Fault::Die => {
                self.dead.store(true, SeqCst);
                Err(unavailable("the process died (as a test planned)"))
            }
            Fault::DieAfter => {
                let _ = good();
                self.dead.store(true, SeqCst);
                Err(unavailable("the process died after it (as a test planned)"))
            }
            fault @ (Fault::Truncate | Fault::Corrupt | Fault::Lose) => spoil(fault),
        }
    }

    fn write(&self, path: &str, bytes: Bytes, write: impl Fn(Bytes) -> Result<()>) -> Result<()> {
        self.call(
            Verb::Put,
            path,
            || write(bytes.clone()),
            |fault| match fault {
                Fault::Lose => Ok(()),
                fault => write(spoiled(&bytes, fault)),
            },
        )
    }

    fn read(&self, path: &str, read: impl Fn() -> Result<Bytes>) -> Result<Bytes> {
        self.call(Verb::Get, path, &read, |fault| match fault {
            Fault::Lose => Err(StoreError::NotFound {
                location: self.store.location(),
                path: path.to_owned(),
            }),
            fault => Ok(spoiled(&read()?, fault)),
        })
    }
}

fn spoiled(bytes: &Bytes, fault: Fault) -> Bytes {
    let middle = bytes.len() / 2;
    if fault == Fault::Truncate {
        return bytes.slice(..middle);
    }
    let mut spoiled = bytes.to_vec();
    if let Some(byte) = spoiled.get_mut(middle) {
        *byte ^= 1;
    }
    Bytes::from(spoiled)
}

fn halved<T>(mut all: Vec<T>) -> Vec<T> {
    all.truncate(all.len() / 2);
    all
}

impl Store for Faulty {
    fn location(&self) -> String {
        self.store.location()
    }

    fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.write(path, bytes, |bytes| self.store.put(path, bytes))
    }

    fn put_new(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.write(path, bytes, |bytes| self.store.put_new(path, bytes))
    }

    fn get(&self, path: &str, limit: u64) -> Result<Bytes> {
        self.read(path, || self.store.get(path, limit))
    }

    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.read(path, || self.store.get_range(path, offset, length))
    }

    fn stat(&self, path: &str) -> Result<Option<Object>> {
        self.call(Verb::Stat, path, || self.store.stat(path), |_| Ok(None))
    }

    fn list(&self, below: &str) -> Result<Vec<Object>> {
        let list = || self.store.list(below);
        self.call(Verb::List, below, list, |_| list().map(halved))
    }

    fn directories(&self, below: &str) -> Result<Vec<String>> {
        let list = || self.store.directories(below);
        self.call(Verb::List, below, list, |_| list().map(halved))
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.call(Verb::Delete, path, || self.store.delete(path), |_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn faulty(plan: Plan) -> (Arc<MemoryStore>, Faulty) {
        let memory = Arc::new(MemoryStore::default());
        memory.put("a", Bytes::from_static(b"abcdef")).expect("written");
        (Arc::clone(&memory), Faulty::new(memory, plan))
    }

    #[test]
    fn a_dead_process_does_nothing_more_and_one_that_dies_after_has_done_it() {
        for (fault, done) in [(Fault::Die, false), (Fault::DieAfter, true)] {
            let (memory, store) = faulty(Plan::new(2, fault));
            store.put("b", Bytes::new()).expect("alive");
            assert!(!store.has_struck());
            store.put("c", Bytes::new()).expect_err("dying");
            store.put("d", Bytes::new()).expect_err("dead");
            store.get("a", 10).expect_err("dead");
            assert!(store.has_struck());
            let there = |path: &str| memory.stat(path).expect("stat").is_some();
            assert_eq!(
                (there("b"), there("c"), there("d")),
                (true, done, false),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn data_is_spoiled_once_and_where_it_was_planned() {
        let (_, store) = faulty(Plan::new(2, Fault::Corrupt).on(Verb::Get));
        assert_eq!(store.get("a", 10).expect("first"), "abcdef");
        store.put("b", Bytes::from_static(b"x")).expect("no read");
        assert_eq!(store.get("a", 10).expect("second"), "abceef");
        assert_eq!(store.get("a", 10).expect("third"), "abcdef");
        let (memory, store) = faulty(Plan::new(1, Fault::Truncate).below("data/"));
        store
            .put("index/x", Bytes::from_static(b"whole"))
            .expect("elsewhere");
        store
            .put("data/x", Bytes::from_static(b"half"))
            .expect("it seems so");
        assert_eq!(memory.get("data/x", 10).expect("read"), "ha");
        assert_eq!(memory.get("index/x", 10).expect("read"), "whole");
        let (memory, store) = faulty(Plan::new(1, Fault::Lose));
        store.put("b", Bytes::from_static(b"lost")).expect("it seems so");
        assert_eq!(memory.stat("b").expect("stat"), None);
    }
}
