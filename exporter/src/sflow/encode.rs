//! Samples and the datagram header as octets.

use std::net::IpAddr;

use super::counters::InterfaceCounters;
use super::sample::{AsPathSegment, ExtendedGateway, FlowSample, HeaderProtocol, SampledInterface};
use super::xdr::{MAX_OPAQUE, Xdr as _};

/// `datagram_version`.
const VERSION: u32 = 5;

/// `data_format` of samples.
const FLOW_SAMPLE: u32 = 1;
const COUNTERS_SAMPLE: u32 = 2;
const FLOW_SAMPLE_EXPANDED: u32 = 3;
const COUNTERS_SAMPLE_EXPANDED: u32 = 4;
/// `data_format` of flow records.
const SAMPLED_HEADER: u32 = 1;
const EXTENDED_SWITCH: u32 = 1001;
const EXTENDED_ROUTER: u32 = 1002;
const EXTENDED_GATEWAY: u32 = 1003;
/// `data_format` of counter records.
const IF_COUNTERS: u32 = 1;

/// Octets of an Ethernet frame's check sequence.
const FCS_OCTETS: u32 = 4;
/// The largest ifIndex of a compact data source, plus one.
const COMPACT_SOURCES: u32 = 1 << 24;
/// Compact `interface` for "no interface", and the first number that is no ifIndex there.
const COMPACT_INTERNAL: u32 = 0x3FFF_FFFF;
/// The same in the expanded form.
const EXPANDED_INTERNAL: u32 = u32::MAX;

/// What the header of a datagram says.
#[derive(Clone, Copy, Debug)]
pub(super) struct DatagramHeader {
    pub(super) agent_address: IpAddr,
    pub(super) sub_agent_id: u32,
    pub(super) sequence_number: u32,
    pub(super) uptime_milliseconds: u32,
    pub(super) samples: u32,
}

impl DatagramHeader {
    /// Octets of the header with this address.
    pub(super) const fn length(agent_address: IpAddr) -> usize {
        match agent_address {
            IpAddr::V4(_) => 28,
            IpAddr::V6(_) => 40,
        }
    }

    pub(super) fn write(&self, octets: &mut Vec<u8>) {
        octets.u32(VERSION);
        octets.address(Some(self.agent_address));
        octets.u32(self.sub_agent_id);
        octets.u32(self.sequence_number);
        octets.u32(self.uptime_milliseconds);
        octets.u32(self.samples);
    }
}

/// Writes a flow sample with its `data_format`.
pub(super) fn flow_sample(octets: &mut Vec<u8>, sequence_number: u32, sample: &FlowSample<'_>) {
    let is_expanded =
        sample.source >= COMPACT_SOURCES || !is_compact(sample.input) || !is_compact(sample.output);
    octets.structure(if is_expanded { FLOW_SAMPLE_EXPANDED } else { FLOW_SAMPLE }, |octets| {
        octets.u32(sequence_number);
        data_source(octets, is_expanded, sample.source);
        octets.u32(sample.sampling_rate);
        octets.u32(sample.sample_pool as u32);
        octets.u32(sample.drops as u32);
        interface(octets, is_expanded, sample.input);
        interface(octets, is_expanded, sample.output);
        let extended = [sample.switch.is_some(), sample.router.is_some(), sample.gateway.is_some()];
        octets.u32(1 + extended.into_iter().map(u32::from).sum::<u32>());
        flow_records(octets, sample);
    });
}

fn flow_records(octets: &mut Vec<u8>, sample: &FlowSample<'_>) {
    octets.structure(SAMPLED_HEADER, |octets| {
        let stripped = if sample.protocol == HeaderProtocol::Ethernet { FCS_OCTETS } else { 0 };
        octets.u32(sample.protocol as u32);
        octets.u32(sample.frame_length.saturating_add(stripped));
        octets.u32(stripped);
        octets.opaque(sample.header.get(..MAX_OPAQUE).unwrap_or(sample.header));
    });
    if let Some(switch) = &sample.switch {
        octets.structure(EXTENDED_SWITCH, |octets| {
            octets.u32(switch.source_vlan);
            octets.u32(switch.source_priority);
            octets.u32(switch.destination_vlan);
            octets.u32(switch.destination_priority);
        });
    }
    if let Some(router) = &sample.router {
        octets.structure(EXTENDED_ROUTER, |octets| {
            octets.address(router.next_hop);
            octets.u32(router.source_prefix_length);
            octets.u32(router.destination_prefix_length);
        });
    }
    if let Some(gateway) = &sample.gateway {
        octets.structure(EXTENDED_GATEWAY, |octets| extended_gateway(octets, gateway));
    }
}

fn extended_gateway(octets: &mut Vec<u8>, gateway: &ExtendedGateway<'_>) {
    octets.address(gateway.next_hop);
    octets.u32(gateway.router_as);
    octets.u32(gateway.source_as);
    octets.u32(gateway.source_peer_as);
    octets.u32(gateway.destination_as_path.len() as u32);
    for segment in gateway.destination_as_path {
        let (kind, numbers) = match segment {
            AsPathSegment::Set(numbers) => (1, numbers),
            AsPathSegment::Sequence(numbers) => (2, numbers),
        };
        octets.u32(kind);
        list(octets, numbers);
    }
    list(octets, gateway.communities);
    octets.u32(gateway.local_preference);
}

fn list(octets: &mut Vec<u8>, numbers: &[u32]) {
    octets.u32(numbers.len() as u32);
    for number in numbers {
        octets.u32(*number);
    }
}

/// Writes a counter sample with its `data_format`.
pub(super) fn counter_sample(octets: &mut Vec<u8>, sequence_number: u32, counters: &InterfaceCounters) {
    let is_expanded = counters.index >= COMPACT_SOURCES;
    octets.structure(if is_expanded { COUNTERS_SAMPLE_EXPANDED } else { COUNTERS_SAMPLE }, |octets| {
        octets.u32(sequence_number);
        data_source(octets, is_expanded, counters.index);
        octets.u32(1);
        octets.structure(IF_COUNTERS, |octets| if_counters(octets, counters));
    });
}

fn if_counters(octets: &mut Vec<u8>, counters: &InterfaceCounters) {
    let hyper = |value: Option<u64>| value.unwrap_or(u64::MAX);
    let integer = |value: Option<u64>| value.map_or(u32::MAX, |value| value as u32);
    octets.u32(counters.index);
    octets.u32(counters.interface_type);
    octets.u64(counters.speed);
    octets.u32(counters.direction as u32);
    octets.u32(u32::from(counters.status.is_admin_up) | u32::from(counters.status.is_operational) << 1);
    octets.u64(hyper(counters.in_octets));
    octets.u32(integer(counters.in_unicast_packets));
    octets.u32(integer(counters.in_multicast_packets));
    octets.u32(integer(counters.in_broadcast_packets));
    octets.u32(integer(counters.in_discards));
    octets.u32(integer(counters.in_errors));
    octets.u32(integer(counters.in_unknown_protocols));
    octets.u64(hyper(counters.out_octets));
    octets.u32(integer(counters.out_unicast_packets));
    octets.u32(integer(counters.out_multicast_packets));
    octets.u32(integer(counters.out_broadcast_packets));
    octets.u32(integer(counters.out_discards));
    octets.u32(integer(counters.out_errors));
    // RFC 2863 has 1 for true and 2 for false; agents and decoders have 0 for false here.
    octets.u32(u32::from(counters.is_promiscuous));
}

/// The class of a data source that is an interface is 0.
fn data_source(octets: &mut Vec<u8>, is_expanded: bool, index: u32) {
    if is_expanded {
        octets.u32(0);
    }
    octets.u32(index);
}

const fn is_compact(interface: SampledInterface) -> bool {
    match interface {
        SampledInterface::Unknown | SampledInterface::Internal => true,
        SampledInterface::Index(index) => index < COMPACT_INTERNAL,
    }
}

/// An `interface` of format 0, "single interface".
fn interface(octets: &mut Vec<u8>, is_expanded: bool, interface: SampledInterface) {
    if is_expanded {
        octets.u32(0);
    }
    octets.u32(match interface {
        SampledInterface::Unknown => 0,
        SampledInterface::Internal if is_expanded => EXPANDED_INTERNAL,
        SampledInterface::Internal => COMPACT_INTERNAL,
        SampledInterface::Index(index) => index,
    });
}
