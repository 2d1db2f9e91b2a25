//! Packets of several CPUs, put into the order of their times: an answer that is seen before its question tells nothing.

use pathflow_common::layout::PayloadHeader;

/// Packets that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct InOrder {
    packets: Vec<(PayloadHeader, usize)>,
    octets: Vec<u8>,
    /// The same, for when the turn of some has come.
    others: Vec<(PayloadHeader, usize)>,
    other_octets: Vec<u8>,
}

impl InOrder {
    pub(super) fn push(&mut self, header: &PayloadHeader, octets: &[u8]) {
        self.packets.push((*header, self.octets.len()));
        self.octets.extend_from_slice(octets);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Calls `each` for those that were seen until then, in the order of their times; the others stay.
    pub(super) fn take(&mut self, until: u64, mut each: impl FnMut(&PayloadHeader, &[u8])) {
        // Those of one time stay in the order in which they came.
        self.packets.sort_by_key(|(header, _)| header.time);
        for (header, start) in self.packets.drain(..) {
            let octets = self.octets.get(start..start + usize::from(header.captured)).unwrap_or_default();
            if header.time <= until {
                each(&header, octets);
            } else {
                self.others.push((header, self.other_octets.len()));
                self.other_octets.extend_from_slice(octets);
            }
        }
        self.octets.clear();
        std::mem::swap(&mut self.packets, &mut self.others);
        std::mem::swap(&mut self.octets, &mut self.other_octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_in_the_order_of_their_times() {
        let mut in_order = InOrder::default();
        let mut found = Vec::new();
        for (time, octets) in [(5, &b"five"[..]), (9, b"nine"), (3, b"three"), (5, b"again"), (8, b"eight")] {
            let captured = octets.len() as u16;
            in_order.push(&PayloadHeader { captured, time, ..PayloadHeader::default() }, octets);
        }
        in_order.take(5, |_, octets| found.push(String::from_utf8_lossy(octets).into_owned()));
        assert_eq!(found, ["three", "five", "again"]);
        in_order.push(&PayloadHeader { captured: 5, time: 7, ..PayloadHeader::default() }, b"seven");
        in_order.take(u64::MAX, |_, octets| found.push(String::from_utf8_lossy(octets).into_owned()));
        assert_eq!(found[3..], ["seven", "eight", "nine"]);
        assert!(in_order.is_empty());
    }
}
