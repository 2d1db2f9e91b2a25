//! Every packet through the parser and the flow cache, without a kernel.

use std::time::Duration;

use pathflow::capture::Delta;
use pathflow::classify::Class;
use pathflow::interfaces::MacAddress;
use pathflow::metering::{FlowCache, Timeouts};
use pathflow_common::DropReason;
use pathflow_common::bytes::SliceFrame;
use pathflow_common::layout::Count;

use crate::corpus::{Capture, corpus};
use crate::file::Packet;
use crate::host::{Fate, Host, Totals, View, fate};
use crate::say;

const TIMEOUTS: Timeouts = Timeouts {
    active: Duration::from_mins(1),
    idle: Duration::from_secs(15),
    tcp_end: Duration::from_secs(2),
};

/// Frames are cut at every length up to this one.
const CUT_UP_TO: usize = 192;

/// Every packet of every capture, of any link type, has exactly one fate, and what goes into the flow cache
/// comes out of it: with room for all, and with room for three flows only.
#[test]
fn every_capture_goes_through_parser_and_pipeline() {
    let corpus = corpus();
    let mut totals = Totals::default();
    let mut packets = 0;
    for capture in &corpus.captures {
        for limit in [1_000_000, 3] {
            let (into, out) = through_cache(capture, limit);
            assert_eq!(into.flows, out.flows, "{}: flow cache of {limit} flows", capture.name);
        }
        for packet in &capture.packets {
            totals.add(fate(&SliceFrame::captured(&packet.octets, packet.wire_length)), 0);
            packets += 1;
        }
    }
    let mut sum = totals.in_flows();
    let mut reasons = Vec::new();
    for reason in DropReason::ALL {
        let count = totals.dropped_for(reason);
        sum = Count { packets: sum.packets + count.packets, octets: sum.octets + count.octets };
        reasons.push(format!("{} {}", count.packets, reason.as_str()));
    }
    assert_eq!(sum.packets, packets);
    assert_eq!(Some(&sum), totals.seen.get(&0), "seen is flows and reasons");
    let captures = corpus.captures.iter().filter(|capture| !capture.packets.is_empty()).count();
    corpus.check_processed(captures, packets);
    say(&format!(
        "parser: {captures} captures, {packets} packets: {} in {} flows, {}",
        totals.in_flows().packets,
        totals.flows.len(),
        reasons.join(", ")
    ));
}

/// Puts a capture through a flow cache by the capture's own clock. Returns the flows as they went in and as
/// they came out.
fn through_cache(capture: &Capture, limit: u32) -> (Totals, Totals) {
    let mut cache = FlowCache::new(TIMEOUTS, limit);
    let host = Host::new(View::Outer);
    let (mut into, mut out) = (Totals::default(), Totals::default());
    for packet in &capture.packets {
        while let Some((flow, _)) = cache.expire(packet.time) {
            out.add_flow(flow.key, flow.packets, flow.octets, flow.tcp_control_bits);
        }
        let frame = SliceFrame::captured(&packet.octets, packet.wire_length);
        let fate = host.fate_at(&frame, 0, packet.time);
        into.add(fate, 0);
        if let Some(flow) = delta(packet, fate).and_then(|delta| cache.merge(&delta)) {
            out.add_flow(flow.key, flow.packets, flow.octets, flow.tcp_control_bits);
        }
        assert!(cache.len() <= limit as usize, "{}", capture.name);
    }
    while let Some(flow) = cache.flush() {
        out.add_flow(flow.key, flow.packets, flow.octets, flow.tcp_control_bits);
    }
    assert!(cache.is_empty(), "{}: flows are left after the flush", capture.name);
    (into, out)
}

fn delta(packet: &Packet, fate: Fate) -> Option<Delta> {
    let Fate::Flow { key, facts } = fate else { return None };
    Some(Delta {
        key,
        octets: u64::from(facts.octets),
        packets: 1,
        first: packet.time,
        last: packet.time,
        tcp_control_bits: facts.tcp_control_bits,
        other_interface: 0,
        next_hop: None,
        neighbour: MacAddress::UNKNOWN,
        class: Class::UNKNOWN,
    })
}

/// A capture that keeps less of a frame never changes its octets, and takes it from one reason to
/// "truncated" only.
#[test]
fn a_cut_frame_keeps_its_octets_or_is_truncated() {
    let corpus = corpus();
    let mut cuts = 0_u64;
    for capture in &corpus.captures {
        for (number, packet) in capture.packets.iter().enumerate() {
            let whole = fate(&SliceFrame::captured(&packet.octets, packet.wire_length));
            for length in 0..packet.octets.len().min(CUT_UP_TO) {
                let cut = fate(&SliceFrame::captured(&packet.octets[..length], packet.wire_length));
                assert!(
                    may_become(whole, cut),
                    "{} packet {} at {length} octets: {cut:?}, whole {whole:?}",
                    capture.name,
                    number + 1
                );
                cuts += 1;
            }
        }
    }
    say(&format!("parser: {cuts} cuts"));
}

fn may_become(whole: Fate, cut: Fate) -> bool {
    let truncated = matches!(cut, Fate::Unaccounted { reason: DropReason::Truncated, .. });
    truncated
        || match (whole, cut) {
            (Fate::Flow { key, facts }, Fate::Flow { key: cut_key, facts: cut_facts }) => {
                facts.octets == cut_facts.octets && key.addresses() == cut_key.addresses()
            }
            (whole, cut) => whole == cut,
        }
}
