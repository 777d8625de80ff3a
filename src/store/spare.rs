//! Large buffers that are used again. The kernel clears the pages of a new one, one by one, and takes them away again: for
//! megabytes that are overwritten at once, that is a tenth of all the work.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many wait for another use at most.
const MOST: usize = 8;

/// Lends buffers. Those that came back wait only while others are lent: who is at rest holds no memory.
#[derive(Debug, Clone, Default)]
pub struct Spare(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    lent: usize,
    waiting: Vec<Vec<u8>>,
}

/// A buffer, which goes back when it is dropped. In it are the bytes of whoever had it before.
#[derive(Debug)]
pub struct Lent {
    /// The buffer.
    pub bytes: Vec<u8>,
    of: Spare,
}

impl Spare {
    /// A buffer.
    pub fn lend(&self) -> Lent {
        let mut state = self.state();
        state.lent += 1;
        Lent {
            bytes: state.waiting.pop().unwrap_or_default(),
            of: self.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
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
        &self.bytes
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
        one.bytes.resize(1 << 20, 7);
        let place = one.bytes.as_ptr();
        drop(bytes::Bytes::from_owner(one).slice(5..));
        let again = spare.lend();
        assert_eq!((again.bytes.as_ptr(), again.bytes.len()), (place, 1 << 20));
        drop(again);
        assert_eq!(spare.state().waiting.len(), 1);
        drop(held);
        assert_eq!(spare.state().waiting.len(), 0);
    }
}
