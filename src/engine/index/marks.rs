//! A bit per record of a table: which blobs were met. Four million blobs take half a megabyte.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// See the module. Shared by the threads that set it.
#[derive(Debug, Default)]
pub struct Marks(Vec<AtomicU64>);

impl Marks {
    /// None of `count` is set.
    pub fn new(count: u64) -> Self {
        Self((0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Sets one; says whether it was not set before.
    pub fn set(&self, number: u64) -> bool {
        let bit = 1 << (number % 64);
        self.0[(number / 64) as usize].fetch_or(bit, Relaxed) & bit == 0
    }

    /// Whether it is set.
    pub fn get(&self, number: u64) -> bool {
        self.0[(number / 64) as usize].load(Relaxed) >> (number % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_set_once() {
        let marks = Marks::new(65);
        for number in [0, 63, 64] {
            assert!(!marks.get(number));
            assert!(marks.set(number) && !marks.set(number) && marks.get(number));
        }
        assert!(!marks.get(1) && !marks.get(62));
    }
}
