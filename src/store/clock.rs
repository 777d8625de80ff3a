//! The time, as what waits sees it: the real one, or one that tests move.

use std::time::{Duration, Instant};

use super::Stop;

/// So often a wait looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Tells the time and lets it pass.
pub trait Clock: Send + Sync + 'static {
    /// Since some moment in the past.
    fn now(&self) -> Duration;

    /// Returns true when so much time has passed, false as soon as the thread's work is to end ([`Stop`]).
    fn sleep(&self, time: Duration) -> bool;
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

    fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            if Stop::is_wished() {
                return false;
            }
            match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return true,
                left => std::thread::sleep(left.min(LOOK)),
            }
        }
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

    fn sleep(&self, time: Duration) -> bool {
        self.sleeps.lock().expect("no panic while it is held").push(time);
        !Stop::is_wished()
    }
}
