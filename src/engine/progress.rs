//! What long work has done so far: counters that its threads add to and that others read, and the way to end it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{EngineError, Result};
use crate::store::Stop;
use crate::store::stop::Held;

/// Shared between the work and those who watch it. All counts only grow, within one piece of work.
#[derive(Debug, Default)]
pub struct Progress {
    /// What is being done, e.g. `reading the index`; held for the assignment only.
    phase: Mutex<String>,
    total_bytes: AtomicU64,
    done_bytes: AtomicU64,
    total_items: AtomicU64,
    done_items: AtomicU64,
    read_bytes: AtomicU64,
    new_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    cancelled: Stop,
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Figures {
    /// What is being done.
    pub phase: String,
    /// Bytes of the volume that the work is about; 0 while that is not known.
    pub total_bytes: u64,
    /// Bytes of the volume that are dealt with, read or not.
    pub done_bytes: u64,
    /// Files, chunks or objects that the work is about; 0 while that is not known.
    pub total_items: u64,
    /// Those that are dealt with.
    pub done_items: u64,
    /// Bytes read from the source (or, in a restore, from the repository's blobs, uncompressed).
    pub read_bytes: u64,
    /// Bytes that the repository did not have yet, before compression.
    pub new_bytes: u64,
    /// Bytes stored for them: compressed and encrypted.
    pub stored_bytes: u64,
}

impl Progress {
    /// Says what is being done from now on.
    pub fn phase(&self, phase: &str) {
        phase.clone_into(&mut self.phase.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Sets how much there is to do.
    pub fn expect(&self, bytes: u64, items: u64) {
        self.total_bytes.store(bytes, Relaxed);
        self.total_items.store(items, Relaxed);
    }

    /// More has turned up.
    pub fn expect_more(&self, bytes: u64, items: u64) {
        self.total_bytes.fetch_add(bytes, Relaxed);
        self.total_items.fetch_add(items, Relaxed);
    }

    /// So much of the volume is dealt with.
    pub fn done(&self, bytes: u64, items: u64) {
        self.done_bytes.fetch_add(bytes, Relaxed);
        self.done_items.fetch_add(items, Relaxed);
    }

    /// So much was read.
    pub fn read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Relaxed);
    }

    /// So much was new, and took so much space.
    pub fn stored(&self, new: u64, stored: u64) {
        self.new_bytes.fetch_add(new, Relaxed);
        self.stored_bytes.fetch_add(stored, Relaxed);
    }

    /// Has this thread, and those that it starts, wait in stores for this work only: [`Progress::cancel`] ends such waits.
    pub fn governs(&self) -> Held {
        Stop::hold(Some(self.cancelled.clone()))
    }

    /// Ends the work at its next look.
    pub fn cancel(&self) {
        self.cancelled.stop();
    }

    /// Whether the work is to end.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_stopped()
    }

    /// # Errors
    /// [`EngineError::Cancelled`] when the work is to end. Asked at least once per chunk, file and object.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(EngineError::Cancelled)
        } else {
            Ok(())
        }
    }

    /// The counters now.
    pub fn figures(&self) -> Figures {
        Figures {
            phase: self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            total_bytes: self.total_bytes.load(Relaxed),
            done_bytes: self.done_bytes.load(Relaxed),
            total_items: self.total_items.load(Relaxed),
            done_items: self.done_items.load(Relaxed),
            read_bytes: self.read_bytes.load(Relaxed),
            new_bytes: self.new_bytes.load(Relaxed),
            stored_bytes: self.stored_bytes.load(Relaxed),
        }
    }
}
