//! Views of the kernel's mmapable arrays.
//!
//! The kernel program writes to this memory while it is mapped here, so no reference to it is ever made:
//! every access is a volatile read or write of a whole element, or an atomic access to one word.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use pathflow_common::flow::{Ipv4Slot, WideSlot};
use pathflow_common::layout::{Control, PayloadState, PointCounters, Sampling, SamplingState, TableHeader};
use pathflow_common::mirror::{Heartbeat, MirrorCounters};

use super::pin::{Place, Row};

mod sealed {
    pub trait Sealed {}
}

/// Types that may lie in a mapped array: plain words, any bit pattern valid, a multiple of 8 octets long
/// (so that the kernel does not pad the elements).
pub trait Element: sealed::Sealed + Copy {}

macro_rules! element {
    ($($type:ty),*) => {$(
        const _: () = assert!(size_of::<$type>() % 8 == 0);
        impl sealed::Sealed for $type {}
        impl Element for $type {}
    )*};
}
element!(
    u64,
    Control,
    TableHeader,
    PointCounters,
    Sampling,
    SamplingState,
    PayloadState,
    Ipv4Slot,
    WideSlot,
    Heartbeat,
    MirrorCounters,
    Place,
    Row
);

/// A mapped array of `T`.
#[derive(Debug)]
pub struct Mapping<T> {
    memory: MmapRaw,
    length: usize,
    element: PhantomData<T>,
}

impl<T: Element> Mapping<T> {
    /// Maps the whole array behind `map`, which has `length` elements.
    ///
    /// # Errors
    /// If the kernel refuses: the map is not mmapable or has another size.
    pub fn new(map: BorrowedFd<'_>, length: u32) -> io::Result<Self> {
        let length = length as usize;
        let memory = MmapOptions::new().len(length * size_of::<T>()).map_raw(map.as_raw_fd())?;
        Ok(Self { memory, length, element: PhantomData })
    }

    /// Number of elements.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Copies element `index`; `None` if there is none.
    #[inline]
    #[must_use]
    pub fn read(&self, index: usize) -> Option<T> {
        let element = self.element(index)?;
        // SAFETY: `element` lies in the mapping and is aligned (mappings start on a page, elements are
        // multiples of 8 octets). Any bit pattern is a valid `T` by `Element`, so a value that the
        // kernel is just writing is at worst a mixture of old and new words.
        Some(unsafe { element.read_volatile() })
    }

    /// Overwrites element `index`. Only for elements that the kernel program is not writing to.
    pub fn write(&self, index: usize, value: T) {
        if let Some(element) = self.element(index) {
            // SAFETY: as in `read`; the mapping is writable.
            unsafe { element.write_volatile(value) };
        }
    }

    /// First word of element `index`, or 0. Cheaper than [`read`](Self::read) to see whether a slot is
    /// in use.
    #[inline]
    #[must_use]
    pub fn first_word(&self, index: usize) -> u64 {
        match self.element(index) {
            // SAFETY: the word lies in the mapping and is aligned; every element has at least one. It is
            // loaded atomically, as another thread may be storing it.
            Some(element) => unsafe { AtomicU64::from_ptr(element.cast::<u64>()) }.load(Ordering::Relaxed),
            None => 0,
        }
    }

    /// Stores the first word of element `index` so that a program that sees it also sees every write
    /// made before.
    pub fn store_first_word(&self, index: usize, value: u64) {
        if let Some(element) = self.element(index) {
            // SAFETY: the word lies in the mapping and is aligned; while it may be shared, threads of this
            // process access it by these two functions only.
            unsafe { AtomicU64::from_ptr(element.cast::<u64>()) }.store(value, Ordering::Release);
        }
    }

    #[inline]
    fn element(&self, index: usize) -> Option<*mut T> {
        if index >= self.length {
            return None;
        }
        // SAFETY: `index` is less than the number of elements that were mapped.
        Some(unsafe { self.memory.as_mut_ptr().cast::<T>().add(index) })
    }
}
