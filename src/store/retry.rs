//! Tries again what failed for a passing reason, with waits that grow and are not the same for all.
//!
//! Only [`StoreError::Unavailable`] is tried again: a refusal, a missing object or a full disk stay what they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;

use super::clock::{Clock, SystemClock};
use super::{Object, Result, Store, StoreError};

/// The first wait; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// See the module.
pub struct Retry {
    store: Arc<dyn Store>,
    attempts: u32,
    longest_wait: Duration,
    clock: Arc<dyn Clock>,
    /// State of the generator that makes waits differ.
    jitter: AtomicU64,
}

impl Retry {
    /// Tries each call up to `attempts` times in all (at least once), with at most `longest_wait` between two tries.
    pub fn new(store: Arc<dyn Store>, attempts: u32, longest_wait: Duration) -> Self {
        let mut seed = [0; 8];
        // Without randomness the waits are merely alike.
        let _ = getrandom::fill(&mut seed);
        Self::with_clock(
            store,
            attempts,
            longest_wait,
            Arc::new(SystemClock::default()),
            u64::from_le_bytes(seed),
        )
    }

    /// The same, with a clock and with the seed of what makes waits differ.
    pub fn with_clock(
        store: Arc<dyn Store>,
        attempts: u32,
        longest_wait: Duration,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Self {
        Self {
            store,
            attempts,
            longest_wait,
            clock,
            jitter: AtomicU64::new(seed),
        }
    }

    /// Calls until it succeeds, fails for good or was tried often enough. The call is told which try it is, from 1.
    fn tried<T>(&self, mut call: impl FnMut(u32) -> Result<T>) -> Result<T> {
        let mut attempt = 1;
        loop {
            match call(attempt) {
                Err(error) if error.is_temporary() && attempt < self.attempts => {
                    let wait = self.wait(attempt);
                    log::debug!("{error}; trying again in {} ms", wait.as_millis());
                    if !self.clock.sleep(wait) {
                        return Err(StoreError::Stopped {
                            location: self.store.location(),
                        });
                    }
                    attempt += 1;
                }
                Err(StoreError::Unavailable { location, doing, why }) if attempt > 1 => {
                    return Err(StoreError::Unavailable {
                        location,
                        doing,
                        why: format!("{why} (tried {attempt} times)"),
                    });
                }
                result => return result,
            }
        }
    }

    /// The wait after this try: between half and all of what its number gives.
    fn wait(&self, attempt: u32) -> Duration {
        let whole = FIRST_WAIT
            .saturating_mul(2_u32.saturating_pow(attempt - 1))
            .min(self.longest_wait);
        // A Weyl sequence, mixed (Steele, Lea and Flood's SplitMix64).
        let state = self.jitter.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        whole.mul_f64(0.5 + share / 2.0)
    }
}

impl Store for Retry {
    fn location(&self) -> String {
        self.store.location()
    }

    fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.tried(|_| self.store.put(path, bytes.clone()))
    }

    fn put_new(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.tried(|attempt| match self.store.put_new(path, bytes.clone()) {
            // The try before may have been carried out and only its answer lost: then what is there is ours.
            Err(taken @ StoreError::AlreadyExists { .. }) if attempt > 1 => {
                match self.store.get(path, bytes.len() as u64) {
                    Ok(there) if there == bytes => Ok(()),
                    Err(error) if error.is_temporary() => Err(error),
                    _ => Err(taken),
                }
            }
            result => result,
        })
    }

    fn get(&self, path: &str, limit: u64) -> Result<Bytes> {
        self.tried(|_| self.store.get(path, limit))
    }

    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.tried(|_| self.store.get_range(path, offset, length))
    }

    fn stat(&self, path: &str) -> Result<Option<Object>> {
        self.tried(|_| self.store.stat(path))
    }

    fn list(&self, below: &str) -> Result<Vec<Object>> {
        self.tried(|_| self.store.list(below))
    }

    fn directories(&self, below: &str) -> Result<Vec<String>> {
        self.tried(|_| self.store.directories(below))
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.tried(|_| self.store.delete(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::clock::TestClock;
    use crate::store::faulty::{Fault, Faulty, Plan};
    use crate::store::{Counting, Counts, MemoryStore, Stop};

    fn retry(plan: Plan, attempts: u32) -> (Arc<Faulty>, Retry, Arc<TestClock>) {
        let faulty = Arc::new(Faulty::new(Arc::new(MemoryStore::default()), plan));
        let clock = Arc::new(TestClock::default());
        let longest = Duration::from_secs(1);
        let store: Arc<dyn Store> = Arc::clone(&faulty) as _;
        let retry = Retry::with_clock(store, attempts, longest, Arc::clone(&clock) as _, 7);
        (faulty, retry, clock)
    }

    #[test]
    fn a_passing_failure_is_tried_again_and_a_refusal_is_not() {
        let (faulty, store, clock) = retry(Plan::new(1, Fault::Fail), 3);
        store
            .put("a", Bytes::from_static(b"x"))
            .expect("the second try works");
        assert_eq!((faulty.calls(), clock.slept().len()), (2, 1));
        let (faulty, store, clock) = retry(Plan::new(1, Fault::Refuse), 3);
        assert!(matches!(
            store.put("a", Bytes::new()),
            Err(StoreError::Failed { .. })
        ));
        assert_eq!((faulty.calls(), clock.slept().len()), (1, 0));
        let (faulty, store, _) = retry(Plan::new(9, Fault::Fail), 3);
        assert!(matches!(store.get("absent", 1), Err(StoreError::NotFound { .. })));
        assert_eq!(faulty.calls(), 1);
    }

    #[test]
    fn waits_double_up_to_the_longest_differ_and_end() {
        let (faulty, store, clock) = retry(Plan::die_at(1), 8);
        let error = store.stat("a").expect_err("it is dead");
        assert!(error.to_string().contains("tried 8 times"), "{error}");
        assert_eq!(faulty.calls(), 8);
        let slept = clock.slept();
        assert_eq!(slept.len(), 7);
        for (n, wait) in slept.iter().enumerate() {
            let whole = Duration::from_millis(100 << n).min(Duration::from_secs(1));
            assert!(
                *wait >= whole / 2 && *wait <= whole,
                "wait {n}: {wait:?} of {whole:?}"
            );
        }
        let (_, again, same) = retry(Plan::die_at(1), 8);
        again.stat("a").expect_err("dead too");
        assert_eq!(same.slept(), slept, "the seed decides");
    }

    #[test]
    fn one_attempt_is_one() {
        let (faulty, store, _) = retry(Plan::die_at(1), 1);
        store.delete("a").expect_err("dead");
        assert_eq!(faulty.calls(), 1);
    }

    #[test]
    fn a_lost_answer_to_put_new_is_no_conflict_with_oneself() {
        let (_, store, _) = retry(Plan::new(1, Fault::LoseAnswer), 3);
        store
            .put_new("lock", Bytes::from_static(b"mine"))
            .expect("it is ours");
        let (_, store, _) = retry(Plan::new(2, Fault::LoseAnswer), 3);
        store
            .put("lock", Bytes::from_static(b"theirs"))
            .expect("first call");
        let error = store.put_new("lock", Bytes::from_static(b"mine"));
        assert!(
            matches!(error, Err(StoreError::AlreadyExists { .. })),
            "{error:?}"
        );
    }

    #[test]
    fn counting_below_sees_every_try() {
        let counts = Arc::new(Counts::default());
        let faulty = Faulty::new(Arc::new(MemoryStore::default()), Plan::new(1, Fault::Fail));
        let counting = Counting::new(Arc::new(faulty), Arc::clone(&counts));
        let clock = Arc::new(TestClock::default());
        let store = Retry::with_clock(Arc::new(counting), 3, Duration::from_secs(1), clock, 0);
        store.put("a", Bytes::from_static(b"12345")).expect("written");
        assert_eq!((counts.tally().puts, counts.tally().sent_bytes), (2, 10));
    }

    #[test]
    fn who_is_to_end_does_not_wait_for_another_try() {
        let faulty = Arc::new(Faulty::new(
            Arc::new(MemoryStore::default()),
            Plan::always(Fault::Fail),
        ));
        let hour = Duration::from_secs(3600);
        let store = Retry::new(Arc::clone(&faulty) as _, 30, hour);
        let stop = Stop::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let _held = Stop::hold(Some(stop.clone()));
                store.list("")
            });
            std::thread::sleep(Duration::from_millis(100));
            stop.stop();
            let outcome = waiting.join().expect("no panic");
            assert!(matches!(outcome, Err(StoreError::Stopped { .. })), "{outcome:?}");
        });
        assert!((1..8).contains(&faulty.calls()), "{}", faulty.calls());
    }
}
