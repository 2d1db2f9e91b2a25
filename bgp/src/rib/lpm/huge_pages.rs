//! Huge pages for the root of a large table. Lookups of random addresses in 64 MiB miss the translation cache almost
//! always with pages of 4 KiB, and hardly ever with pages of 2 MiB. A small table shall not take whole huge pages, so the
//! kernel is told to make none by itself, which the allocator asked it to do, and asked to make one of many small pages
//! only where most of those are in use.
#![expect(unsafe_code, reason = "no library has madvise with MADV_COLLAPSE")]

use std::sync::atomic::AtomicU32;

/// `MADV_COLLAPSE` (Linux 6.1).
const MADV_COLLAPSE: libc::c_int = 25;

const HUGE: usize = 2 << 20;
const SMALL: usize = 4 << 10;
/// Small pages in use of one huge page at which it is worth to be one.
const WORTH: u16 = (HUGE / SMALL / 2) as u16;
/// Set in the number of those that became one.
const COLLAPSED: u16 = 1 << 15;

/// How many small pages of each huge one are in use.
#[derive(Debug)]
pub(super) struct HugePages {
    in_use: Box<[u16]>,
    /// Octets in use, those of whole huge pages included.
    octets: usize,
}

impl HugePages {
    /// For a table of which no page is in use.
    pub(super) fn new(table: &[AtomicU32]) -> Self {
        let addresses = table.as_ptr_range();
        let first = (addresses.start as usize).next_multiple_of(SMALL);
        let octets = (addresses.end as usize).saturating_sub(first) / SMALL * SMALL;
        advise(table, first, octets, libc::MADV_NOHUGEPAGE);
        // One more, since the table need not begin with a huge page.
        Self { in_use: vec![0; size_of_val(table).div_ceil(HUGE) + 1].into_boxed_slice(), octets: 0 }
    }

    /// Octets of memory behind the table.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    /// To be called when a slot of the small page with this number, from the begin of `table`, is written first.
    pub(super) fn touched(&mut self, table: &[AtomicU32], page: usize) {
        let address = table.as_ptr() as usize + page * SMALL;
        let first = table.as_ptr() as usize / HUGE;
        let Some(in_use) = self.in_use.get_mut(address / HUGE - first) else { return };
        if *in_use & COLLAPSED != 0 {
            return;
        }
        *in_use += 1;
        self.octets += SMALL;
        if *in_use == WORTH && collapse(table, address / HUGE * HUGE) {
            self.octets += HUGE - usize::from(WORTH) * SMALL;
            *in_use |= COLLAPSED;
        }
    }
}

/// Makes one huge page of those from `start` on, if they all belong to `table`. If the kernel has none, or does not know
/// how, lookups are slower.
fn collapse(table: &[AtomicU32], start: usize) -> bool {
    // The kernel refuses it where it was told to make none.
    advise(table, start, HUGE, libc::MADV_HUGEPAGE) && advise(table, start, HUGE, MADV_COLLAPSE)
}

/// Gives the kernel advice about `octets` from the address `start` on. False if they are not all in `table`, or the kernel
/// does not take it.
fn advise(table: &[AtomicU32], start: usize, octets: usize, advice: libc::c_int) -> bool {
    let addresses = table.as_ptr_range();
    let Some(offset) = start.checked_sub(addresses.start as usize) else { return false };
    if start + octets > addresses.end as usize {
        return false;
    }
    // SAFETY: the range is inside of `table`, which is borrowed. The advice changes what memory is behind it, not what is
    // in it, for other threads that use it meanwhile too.
    unsafe { libc::madvise(addresses.start.byte_add(offset).cast_mut().cast(), octets, advice) == 0 }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_is_in_the_table_stays() {
        let table: Box<[AtomicU32]> = bytemuck::zeroed_slice_box(5 * HUGE / 4);
        let mut pages = HugePages::new(&table);
        for (number, slots) in table.chunks(SMALL / 4).enumerate() {
            slots[number % 1024].store(number as u32 + 1, Ordering::Relaxed);
            pages.touched(&table, number);
        }
        for (number, slots) in table.chunks(SMALL / 4).enumerate() {
            let sum: u64 = slots.iter().map(|slot| u64::from(slot.load(Ordering::Relaxed))).sum();
            assert_eq!(sum, number as u64 + 1);
        }
        let is_collapsed = |pages: &&u16| **pages & COLLAPSED != 0;
        let collapsed = pages.in_use.iter().filter(is_collapsed).count();
        // The table need not begin with a huge page.
        let all = [4, 5].contains(&collapsed);
        match can_collapse() {
            Some(true) => assert!(all, "{collapsed} of 5"),
            Some(false) => assert_eq!(collapsed, 0),
            None => assert!(all || collapsed == 0, "{collapsed} of 5"),
        }
        assert_eq!(pages.octets(), 5 * HUGE);
        if collapsed > 0 {
            let middle = &raw const table[table.len() / 2] as usize;
            let huge = from_the_kernel(middle, "AnonHugePages:");
            assert!(huge >= HUGE, "{huge} octets in huge pages, {collapsed} asked for");
        }
    }

    /// Whether the kernel makes huge pages when it is asked for them: from Linux 6.1 on. Where the administrator wants none
    /// at all, some versions do and some do not.
    fn can_collapse() -> Option<bool> {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease");
        let mut numbers =
            release.split(|c: char| !c.is_ascii_digit()).map_while(|text| text.parse::<u32>().ok());
        let version = (numbers.next().unwrap(), numbers.next().unwrap());
        match read("/sys/kernel/mm/transparent_hugepage/enabled") {
            setting if setting.is_empty() || version < (6, 1) => Some(false),
            setting if setting.contains("[never]") => None,
            _ => Some(true),
        }
    }

    /// What the kernel has of a line of the mapping with this address, octets.
    fn from_the_kernel(address: usize, name: &str) -> usize {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = maps.lines().skip_while(|line| {
            let range = line.split_whitespace().next().and_then(|range| range.split_once('-'));
            let ends = range.map(|(start, end)| [start, end].map(|end| usize::from_str_radix(end, 16)));
            !matches!(ends, Some([Ok(start), Ok(end)]) if start <= address && address < end)
        });
        let line = lines.find(|line| line.starts_with(name)).unwrap();
        1024 * line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    }

    #[test]
    fn one_slot_takes_one_small_page_even_if_the_allocator_wants_huge_ones() {
        let table: Box<[AtomicU32]> = bytemuck::zeroed_slice_box(8 * HUGE / 4);
        let range = table.as_ptr_range();
        let first = (range.start as usize).next_multiple_of(SMALL);
        assert!(advise(&table, first, 7 * HUGE, libc::MADV_HUGEPAGE));
        let mut pages = HugePages::new(&table);
        let middle = table.len() / 2;
        table[middle].store(1, Ordering::Relaxed);
        pages.touched(&table, middle * 4 / SMALL);
        assert_eq!(pages.octets(), SMALL);
        let resident = from_the_kernel(&raw const table[middle] as usize, "Rss:");
        assert!(resident <= 4 * SMALL, "{resident} octets");
    }
}
