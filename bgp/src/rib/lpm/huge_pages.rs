//! Huge pages for the root of a large table. Lookups of random addresses in 64 MiB miss the translation cache almost
//! always with pages of 4 KiB, and hardly ever with pages of 2 MiB. A small table shall not take whole huge pages, so the
//! kernel is asked to make one of many small pages only where most of those are in use.
#![expect(unsafe_code, reason = "no library has madvise with MADV_COLLAPSE")]

use std::sync::atomic::AtomicU32;

/// `MADV_COLLAPSE` (Linux 6.1).
const MADV_COLLAPSE: libc::c_int = 25;

const HUGE: usize = 2 << 20;
const SMALL: usize = 4 << 10;
/// Small pages in use of one huge page at which it is worth to be one.
const WORTH: u16 = (HUGE / SMALL / 2) as u16;

/// How many small pages of each huge one are in use.
#[derive(Debug)]
pub(super) struct HugePages {
    in_use: Box<[u16]>,
}

impl HugePages {
    /// For a table of `octets`.
    pub(super) fn new(octets: usize) -> Self {
        // One more, since the table need not begin with a huge page.
        Self { in_use: vec![0; octets.div_ceil(HUGE) + 1].into_boxed_slice() }
    }

    /// To be called when a slot of the small page with this number, from the begin of `table`, is written first.
    pub(super) fn touched(&mut self, table: &[AtomicU32], page: usize) {
        let address = table.as_ptr() as usize + page * SMALL;
        let first = table.as_ptr() as usize / HUGE;
        let Some(in_use) = self.in_use.get_mut(address / HUGE - first) else { return };
        *in_use += 1;
        if *in_use == WORTH {
            collapse(table, address / HUGE * HUGE);
        }
    }
}

/// Makes one huge page of those from `start` on, if they all belong to `table`. If the kernel has none, or does not know
/// how, lookups are slower.
fn collapse(table: &[AtomicU32], start: usize) {
    let addresses = table.as_ptr_range();
    let Some(offset) = start.checked_sub(addresses.start as usize) else { return };
    if start + HUGE > addresses.end as usize {
        return;
    }
    // SAFETY: the range is inside of `table`, which is borrowed. The advice changes what memory is behind it, not what is
    // in it, for other threads that use it meanwhile too.
    unsafe {
        libc::madvise(addresses.start.byte_add(offset).cast_mut().cast(), HUGE, MADV_COLLAPSE);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_is_in_the_table_stays() {
        let table: Box<[AtomicU32]> = bytemuck::zeroed_slice_box(5 * HUGE / 4);
        let mut pages = HugePages::new(5 * HUGE);
        for (number, slots) in table.chunks(SMALL / 4).enumerate() {
            slots[number % 1024].store(number as u32 + 1, Ordering::Relaxed);
            pages.touched(&table, number);
        }
        for (number, slots) in table.chunks(SMALL / 4).enumerate() {
            let sum: u64 = slots.iter().map(|slot| u64::from(slot.load(Ordering::Relaxed))).sum();
            assert_eq!(sum, number as u64 + 1);
        }
        let in_use: usize = pages.in_use.iter().map(|pages| usize::from(*pages)).sum();
        assert_eq!(in_use, 5 * HUGE / SMALL);
    }
}
