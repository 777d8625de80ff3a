//! Large buffers that are used again. The kernel clears the pages of a new one, one by one, and takes them away again: for
//! megabytes that are overwritten at once, that is a tenth of all the work. New ones get their pages many at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sys::memory;

/// So many wait for another use at most.
const MOST: usize = 8;
/// So many bytes of a new buffer get their pages at once: a buffer that is hardly used takes hardly more than it needs.
const STEP: usize = 1 << 20;

/// Lends buffers. Those that came back wait only while others are lent: who is at rest holds no memory.
#[derive(Debug, Clone, Default)]
pub struct Spare(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    lent: usize,
    waiting: Vec<Paged>,
}

/// Bytes, and how many of their capacity have pages for sure: never fewer than there are bytes.
#[derive(Debug, Default)]
struct Paged {
    bytes: Vec<u8>,
    paged: usize,
}

/// A buffer, which goes back when it is dropped. In it are the bytes of whoever had it before.
#[derive(Debug)]
pub struct Lent {
    inner: Paged,
    of: Spare,
}

impl Spare {
    /// A buffer.
    pub fn lend(&self) -> Lent {
        let mut state = self.state();
        state.lent += 1;
        Lent {
            inner: state.waiting.pop().unwrap_or_default(),
            of: self.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent {
    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.inner.bytes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Empties it and makes room for so many bytes, which then stay where they are.
    pub fn clear_for(&mut self, most: usize) {
        self.inner.bytes.clear();
        self.room(most);
    }

    /// Adds bytes.
    pub fn append(&mut self, more: &[u8]) {
        let end = self.len() + more.len();
        self.room(end);
        self.page(end);
        self.inner.bytes.extend_from_slice(more);
    }

    /// Gives it a length, with zeros where it grows.
    pub fn resize(&mut self, length: usize) {
        self.room(length);
        self.page(length);
        self.inner.bytes.resize(length, 0);
    }

    fn room(&mut self, most: usize) {
        let Paged { bytes, paged } = &mut self.inner;
        if most > bytes.capacity() {
            bytes.reserve(most - bytes.len());
            // Elsewhere now: what was copied has pages, nothing else.
            *paged = bytes.len();
        }
    }

    fn page(&mut self, end: usize) {
        let Paged { bytes, paged } = &mut self.inner;
        if end > *paged {
            let (length, to) = (bytes.len(), end.max(*paged + STEP).min(bytes.capacity()));
            memory::populate(&mut bytes.spare_capacity_mut()[*paged - length..to - length]);
            *paged = to;
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.inner);
        let mut state = self.of.state();
        state.lent -= 1;
        if state.lent == 0 {
            state.waiting.clear();
        } else if state.waiting.len() < MOST {
            state.waiting.push(bytes);
        }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.inner.bytes
    }
}

impl AsMut<[u8]> for Lent {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.inner.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_while_others_are_in_use_and_then_given_up() {
        let spare = Spare::default();
        let held = spare.lend();
        let mut one = spare.lend();
        one.resize(1 << 20);
        let place = one.as_ref().as_ptr();
        drop(bytes::Bytes::from_owner(one).slice(5..));
        let again = spare.lend();
        assert_eq!((again.as_ref().as_ptr(), again.len()), (place, 1 << 20));
        drop(again);
        assert_eq!(spare.state().waiting.len(), 1);
        drop(held);
        assert_eq!(spare.state().waiting.len(), 0);
    }
    #[test]
    fn a_buffer_keeps_its_bytes_however_it_grows() {
        let spare = Spare::default();
        let mut lent = spare.lend();
        lent.clear_for(3 * STEP);
        let place = lent.as_ref().as_ptr();
        let mut expected = Vec::new();
        for (length, byte) in [(1, 1), (STEP - 2, 2), (2, 3), (2 * STEP, 4), (STEP, 5), (0, 6)] {
            let more = vec![byte; length];
            lent.append(&more);
            expected.extend_from_slice(&more);
            assert!(lent.as_ref() == expected, "after {length} bytes");
            assert!(lent.inner.paged >= lent.len() && lent.inner.paged <= lent.inner.bytes.capacity());
            // Within what there was made room for, it does not move.
            assert!(lent.len() > 3 * STEP || lent.as_ref().as_ptr() == place);
        }
        lent.resize(5);
        lent.resize(5 * STEP);
        expected.truncate(5);
        expected.resize(5 * STEP, 0);
        assert!(lent.as_ref() == expected);
    }
}
