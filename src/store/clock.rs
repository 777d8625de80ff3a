//! The time, as what waits sees it: the real one, or one that tests move.

use std::time::{Duration, Instant};

/// Tells the time and lets it pass.
pub trait Clock: Send + Sync + 'static {
    /// Since some moment in the past.
    fn now(&self) -> Duration;

    /// Returns when so much time has passed.
    fn sleep(&self, time: Duration);
}

/// The real time.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A time that passes only by sleeping.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct TestClock {
    pub(super) sleeps: std::sync::Mutex<Vec<Duration>>,
}

#[cfg(test)]
impl TestClock {
    pub(super) fn slept(&self) -> Vec<Duration> {
        self.sleeps.lock().expect("no panic while it is held").clone()
    }
}

#[cfg(test)]
impl Clock for TestClock {
    fn now(&self) -> Duration {
        self.slept().iter().sum()
    }

    fn sleep(&self, time: Duration) {
        self.sleeps.lock().expect("no panic while it is held").push(time);
    }
}
