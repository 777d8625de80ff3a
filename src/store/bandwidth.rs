//! So many bytes a second, up and down, all calls together.
//!
//! An object goes at the line's own speed and the next one waits, so the limit holds on average over some objects. A pause
//! is not saved up for more than a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::clock::{Clock, SystemClock};
use super::{Object, Result, Store, StoreError};

/// What an unused line is worth later.
const BURST: Duration = Duration::from_secs(1);

/// See the module.
pub struct Bandwidth {
    store: Arc<dyn Store>,
    up: Option<Bucket>,
    down: Option<Bucket>,
}

impl Bandwidth {
    /// Limits what is sent and received to so many bytes a second; `None` is no limit.
    pub fn new(store: Arc<dyn Store>, up: Option<u64>, down: Option<u64>) -> Self {
        Self::with_clock(store, up, down, Arc::new(SystemClock::default()))
    }

    /// The same, with a clock.
    pub fn with_clock(
        store: Arc<dyn Store>,
        up: Option<u64>,
        down: Option<u64>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let bucket = |rate: u64| Bucket {
            bytes_per_second: rate.max(1),
            paid_until: Mutex::new(Duration::ZERO),
            clock: Arc::clone(&clock),
        };
        Self {
            store,
            up: up.map(bucket),
            down: down.map(bucket),
        }
    }

    fn send(&self, bytes: u64) -> Result<()> {
        let up = self.up.as_ref();
        up.map_or(Ok(()), |up| self.take(up, bytes))
    }

    fn take(&self, bucket: &Bucket, bytes: u64) -> Result<()> {
        if bucket.take(bytes) {
            return Ok(());
        }
        Err(StoreError::Stopped {
            location: self.location(),
        })
    }

    /// Where the caller knows the length, the line is taken for it before, so that calls at the same time wait for each
    /// other; else afterwards.
    fn receive(&self, length: Option<u64>, call: impl FnOnce() -> Result<Bytes>) -> Result<Bytes> {
        let Some(down) = &self.down else { return call() };
        self.take(down, length.unwrap_or(0))?;
        let bytes = call()?;
        if length.is_none() {
            down.charge(bytes.len() as u64);
        }
        Ok(bytes)
    }
}

/// One direction of the line.
struct Bucket {
    bytes_per_second: u64,
    /// Until when the line is taken by what went already; held for the arithmetic alone.
    paid_until: Mutex<Duration>,
    clock: Arc<dyn Clock>,
}

impl Bucket {
    /// Waits until the line is free, and takes it for these bytes. False where the work is to end before: then the line is left to
    /// others.
    fn take(&self, bytes: u64) -> bool {
        let begin = self.charge(bytes);
        let wait = begin.saturating_sub(self.clock.now());
        let is_free = wait.is_zero() || self.clock.sleep(wait);
        if !is_free {
            let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
            *paid_until = paid_until.saturating_sub(self.cost(bytes));
        }
        is_free
    }

    /// How long the line is taken by so many bytes.
    fn cost(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64)
    }

    /// Takes the line for these bytes as soon as it is free, and says when that is.
    fn charge(&self, bytes: u64) -> Duration {
        let cost = self.cost(bytes);
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*paid_until).max(self.clock.now().saturating_sub(BURST));
        *paid_until = begin + cost;
        begin
    }
}

impl Store for Bandwidth {
    fn location(&self) -> String {
        self.store.location()
    }

    fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.send(bytes.len() as u64)?;
        self.store.put(path, bytes)
    }

    fn put_new(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.send(bytes.len() as u64)?;
        self.store.put_new(path, bytes)
    }

    fn get(&self, path: &str, limit: u64) -> Result<Bytes> {
        self.receive(None, || self.store.get(path, limit))
    }

    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.receive(Some(length), || self.store.get_range(path, offset, length))
    }

    fn stat(&self, path: &str) -> Result<Option<Object>> {
        self.store.stat(path)
    }

    fn list(&self, below: &str) -> Result<Vec<Object>> {
        self.store.list(below)
    }

    fn directories(&self, below: &str) -> Result<Vec<String>> {
        self.store.directories(below)
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.store.delete(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::clock::TestClock;
    use crate::store::{MemoryStore, Stop};

    #[test]
    fn a_hundred_objects_take_the_time_that_their_bytes_need() {
        let clock = Arc::new(TestClock::default());
        let memory = Arc::new(MemoryStore::default());
        let store = Bandwidth::with_clock(memory, Some(1000), Some(500), Arc::clone(&clock) as _);
        for n in 0..100 {
            store
                .put(&format!("{n}"), Bytes::from(vec![0; 100]))
                .expect("written");
        }
        // The last one's own time is still to come.
        assert_eq!(clock.now(), Duration::from_millis(9900));
        let before = clock.now();
        for n in 0..100 {
            store.get(&format!("{n}"), 100).expect("read");
        }
        let took = clock.now() - before;
        // 10,000 bytes at 500 a second, less the second that the idle line had saved, and the last one's own time.
        assert_eq!(took, Duration::from_millis(20_000 - 1000 - 200));
    }

    /// Six threads of a restore found the line free at the same moment, and none of them waited.
    #[test]
    fn a_range_that_is_asked_for_while_another_is_on_its_way_waits() {
        let clock = Arc::new(TestClock::default());
        let memory = Arc::new(MemoryStore::default());
        memory.put("a", Bytes::from(vec![0; 4000])).expect("written");
        let store = Bandwidth::with_clock(memory, None, Some(1000), Arc::clone(&clock) as _);
        let under_way = || {
            store.get_range("a", 1000, 2000)?;
            assert_eq!(clock.now(), Duration::from_secs(1), "for the first one's time");
            store.get_range("a", 3000, 1000)
        };
        store.receive(Some(1000), under_way).expect("read");
        assert_eq!(clock.now(), Duration::from_secs(3));
    }

    /// A cancelled job slept on for as long as what it had sent before was worth: minutes, at a low limit.
    #[test]
    fn who_is_to_end_does_not_wait_on_and_leaves_the_line_to_others() {
        let memory = Arc::new(MemoryStore::default());
        let store = Bandwidth::new(memory.clone(), Some(100), Some(100));
        let bytes = |count: usize| Bytes::from(vec![0; count]);
        store.put("a", bytes(130)).expect("at once");
        let stop = Stop::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let _held = Stop::hold(Some(stop.clone()));
                store.put("b", bytes(100_000))
            });
            std::thread::sleep(Duration::from_millis(60));
            stop.stop();
            let outcome = waiting.join().expect("no panic");
            assert!(matches!(outcome, Err(StoreError::Stopped { .. })), "{outcome:?}");
        });
        assert_eq!(memory.stat("b").expect("memory"), None);
        let begun = std::time::Instant::now();
        store.put("c", bytes(1)).expect("the line is free before long");
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "not for what was not sent"
        );
        let _held = Stop::hold(Some(stop));
        store.get_range("a", 0, 130).expect("nothing to wait for");
        let outcome = store.get_range("a", 0, 130);
        assert!(matches!(outcome, Err(StoreError::Stopped { .. })), "{outcome:?}");
    }

    #[test]
    fn without_limits_nothing_waits() {
        let clock = Arc::new(TestClock::default());
        let store = Bandwidth::with_clock(
            Arc::new(MemoryStore::default()),
            None,
            None,
            Arc::clone(&clock) as _,
        );
        store.put("a", Bytes::from(vec![0; 100_000])).expect("written");
        store.get("a", 100_000).expect("read");
        assert!(clock.slept().is_empty());
    }
}
