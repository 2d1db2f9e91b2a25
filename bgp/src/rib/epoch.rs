//! When memory that a reader may still look at can be used again.
//!
//! A reader notes the current epoch when it enters and clears its note when it leaves. What the writer takes out of
//! use is kept with the epoch of that moment, and is free once every reader that is inside entered in a later one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Note of a reader that is not inside.
const OUTSIDE: u64 = 0;

/// The note of one reader. On cache lines of its own, because it is written for every burst of lookups.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct ReaderEpoch(AtomicU64);

impl ReaderEpoch {
    /// Notes that the reader is no longer inside.
    pub(super) fn leave(&self) {
        self.0.store(OUTSIDE, Ordering::Release);
    }
}

/// The current epoch, and the notes of all readers.
#[derive(Debug)]
pub(super) struct Epochs {
    current: AtomicU64,
    /// Locked only when a reader comes, and by the writer.
    readers: Mutex<Vec<Weak<ReaderEpoch>>>,
}

impl Epochs {
    pub(super) fn new() -> Self {
        Self { current: AtomicU64::new(OUTSIDE + 1), readers: Mutex::new(Vec::new()) }
    }

    pub(super) fn register(&self) -> Arc<ReaderEpoch> {
        let reader = Arc::new(ReaderEpoch(AtomicU64::new(OUTSIDE)));
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&reader));
        reader
    }

    /// Lets `reader` in.
    pub(super) fn enter(&self, reader: &ReaderEpoch) {
        reader.0.store(self.current.load(Ordering::SeqCst), Ordering::Relaxed);
        // With the fence of `advance`: either the writer sees this note, or what this reader reads from here on is
        // what the writer had written before it looked.
        fence(Ordering::SeqCst);
    }

    /// The epoch with which something that goes out of use now has to be kept.
    pub(super) fn current(&self) -> u64 {
        self.current.load(Ordering::Relaxed)
    }

    /// Begins a new epoch. What was kept with an epoch before the returned one is free.
    pub(super) fn advance(&self) -> u64 {
        let next = self.current.fetch_add(1, Ordering::SeqCst) + 1;
        fence(Ordering::SeqCst);
        let mut oldest = next;
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).retain(|reader| {
            let Some(reader) = reader.upgrade() else { return false };
            let entered = reader.0.load(Ordering::Acquire);
            if entered != OUTSIDE {
                oldest = oldest.min(entered);
            }
            true
        });
        oldest
    }
}

/// What went out of use, oldest first.
#[derive(Debug)]
pub(super) struct Retired<T>(VecDeque<(u64, T)>);

impl<T> Default for Retired<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Copy> Retired<T> {
    pub(super) fn push(&mut self, epoch: u64, thing: T) {
        self.0.push_back((epoch, thing));
    }

    /// The oldest thing, if it was kept with an epoch before `horizon`.
    pub(super) fn pop_before(&mut self, horizon: u64) -> Option<T> {
        let (epoch, thing) = *self.0.front()?;
        (epoch < horizon).then(|| {
            self.0.pop_front();
            thing
        })
    }

    pub(super) fn get(&self, index: usize) -> Option<T> {
        self.0.get(index).map(|(_, thing)| *thing)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn octets(&self) -> usize {
        self.0.capacity() * size_of::<(u64, T)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_free_when_every_reader_has_left_or_entered_later() {
        let epochs = Epochs::new();
        let (first, second) = (epochs.register(), epochs.register());
        epochs.enter(&first);
        let mut retired = Retired::default();
        retired.push(epochs.current(), 'a');
        // The first reader may have seen it.
        assert_eq!(retired.pop_before(epochs.advance()), None);
        epochs.enter(&second);
        assert_eq!(retired.pop_before(epochs.advance()), None);
        first.leave();
        // The second one entered when it was out of use already.
        assert_eq!(retired.pop_before(epochs.advance()), Some('a'));
        retired.push(epochs.current(), 'b');
        assert_eq!(retired.pop_before(epochs.advance()), None);
        drop(second);
        assert_eq!(retired.pop_before(epochs.advance()), Some('b'));
    }
}
