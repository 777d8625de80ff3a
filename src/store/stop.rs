//! The way to end waits from outside: whoever waits in a store, for the line or to try again, belongs to some work, and that
//! may be cancelled meanwhile.
//!
//! A store is shared by several pieces of work, and its calls know nothing of them. So a thread says whose it is: it holds a
//! [`Stop`], and hands it on to the threads that it starts. Requests under way are not cut off.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

thread_local! {
    static CURRENT: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

/// One piece of work's wish to end; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends the work's waits, those to come too.
    pub fn stop(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether the work is to end.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// What this thread works for.
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Has this thread work for `stop` until what is returned is dropped; `None` is work that cannot be stopped.
    pub fn hold(stop: Option<Self>) -> Held {
        Held(CURRENT.replace(stop))
    }

    /// Whether this thread's work is to end.
    pub fn is_wished() -> bool {
        CURRENT.with_borrow(|current| current.as_ref().is_some_and(Self::is_stopped))
    }
}

/// See [`Stop::hold`].
#[derive(Debug)]
#[must_use = "the thread works for it as long as this lives"]
pub struct Held(Option<Stop>);

impl Drop for Held {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_works_for_whom_it_said_last() {
        let (outer, inner) = (Stop::default(), Stop::default());
        assert!(Stop::current().is_none() && !Stop::is_wished());
        let held = Stop::hold(Some(outer.clone()));
        inner.stop();
        assert!(!Stop::is_wished());
        {
            let _inner = Stop::hold(Some(inner));
            assert!(Stop::is_wished());
            let _free = Stop::hold(None);
            assert!(!Stop::is_wished());
        }
        outer.stop();
        assert!(Stop::is_wished());
        drop(held);
        assert!(!Stop::is_wished());
    }
}
