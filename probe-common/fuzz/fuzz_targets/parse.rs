//! Any octets, cut anywhere, of any length on the wire, have exactly one result, and the same result
//! wherever the cut lies behind what was read.
#![no_main]

use std::cell::Cell;

use libfuzzer_sys::fuzz_target;
use pathflow_common::DropReason;
use pathflow_common::bytes::SliceFrame;
use pathflow_common::flow::{Ipv4Key, Ipv6Key, KEY_FLAG_IPV6, KEY_FLAG_LATER_FRAGMENT};
use pathflow_common::parse::{FlowSink, PacketFacts, parse};

/// Observation point of every frame.
const POINT: u16 = 63;

/// Key in the common form and facts, or the reason.
type Outcome = Result<(Ipv6Key, PacketFacts), DropReason>;

struct Keep<'a>(&'a Cell<Option<Outcome>>);

impl Keep<'_> {
    fn keep(&self, outcome: Outcome) {
        assert!(self.0.replace(Some(outcome)).is_none(), "a second result");
    }
}

impl FlowSink for Keep<'_> {
    fn ipv4(self, key: Ipv4Key, facts: PacketFacts) {
        assert_eq!(key.fields().flags & !KEY_FLAG_LATER_FRAGMENT, 0);
        assert!(facts.octets >= 20);
        self.keep(Ok((key.widen(), facts)));
    }

    fn ipv6(self, key: Ipv6Key, facts: PacketFacts) {
        assert_eq!(key.fields().flags & !KEY_FLAG_LATER_FRAGMENT, KEY_FLAG_IPV6);
        assert!(facts.octets >= 40);
        self.keep(Ok((key, facts)));
    }

    fn unaccounted(self, reason: DropReason, _octets: u32) {
        assert_ne!(reason, DropReason::TableOverflow);
        self.keep(Err(reason));
    }
}

fn outcome(octets: &[u8], wire_length: u32) -> Outcome {
    let outcome = Cell::new(None);
    parse(&SliceFrame::captured(octets, wire_length), POINT, Keep(&outcome));
    outcome.get().expect("no result")
}

fuzz_target!(|octets: &[u8]| {
    let whole = outcome(octets, octets.len() as u32);
    if let Ok((key, facts)) = whole {
        let fields = key.fields();
        assert_eq!((key.epoch(), fields.observation_point), (0, POINT));
        assert!(fields.vlan_id < 4096 && fields.customer_vlan_id < 4096);
        assert!(facts.tcp_control_bits < 4096);
        assert_eq!(facts.tcp_control_bits == 0 || fields.protocol == 6, true);
    }
    // Cut in the middle: truncated or not, what is read is the same.
    let cut = outcome(&octets[..octets.len() / 2], octets.len() as u32);
    match (whole, cut) {
        (Ok((whole, facts)), Ok((cut, cut_facts))) => {
            assert_eq!((whole.addresses(), facts.octets), (cut.addresses(), cut_facts.octets));
            assert!(cut.fields().ports == [0; 4] || cut.fields().ports == whole.fields().ports);
        }
        (_, Err(DropReason::Truncated)) => {}
        (whole, cut) => assert_eq!(whole, cut),
    }
    // A length that no frame has must not matter but for packets too long for their length field.
    outcome(octets, u32::MAX).ok();
});
