//! Which way a sampled packet goes: the other interface, the next router, the prefixes.
//!
//! Of a packet that goes out the kernel knows where it came in. Of one that comes in, the routing table is asked; what
//! it says then is what it would do now, which for a packet of a moment ago is as good as certain.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use pathflow_common::DropReason;
use pathflow_common::bytes::SliceFrame;
use pathflow_common::flow::{Addresses, Datagram, DatagramPorts, Encapsulation, Ipv4Key, KeyFields, WideKey};
use pathflow_common::parse::link::{IPV4, IPV6, Link};
use pathflow_common::parse::tunnel::Tunnels;
use pathflow_common::parse::{FlowSink, PacketFacts, parse_link};
use pathflow_exporter::sflow::ExtendedRouter;
use pathflow_exporter::{FlowDirection, FlowRecord};

use super::gateway::Gateway;
use crate::enrich::Enricher;
use crate::interfaces::{InterfaceNames, KernelRoute, RouteQuery, RoutedPacket};
use crate::metering::samples::SampledHeader;

/// How long an answer is good for.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Answers that are kept at most.
const MAX_ANSWERS: usize = 4096;

/// What routing knows of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PacketRoute {
    /// Where it goes; `None` if that is not known.
    pub(super) way: Option<KernelRoute>,
    /// Length of the prefix of the source address, in bits; 0 = not known.
    pub(super) source_prefix_length: u8,
    /// The same of the destination address.
    pub(super) destination_prefix_length: u8,
    /// What BGP knows of it.
    pub(super) gateway: Option<Arc<Gateway>>,
}

/// Where a packet was sampled, by numbers in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SampledAt {
    /// Whether it came in or went out there.
    pub(super) direction: FlowDirection,
    /// Interface by which it came in; 0 = not known.
    pub(super) ingress_interface: u32,
    /// Interface by which it went out; 0 = not known.
    pub(super) egress_interface: u32,
}

impl PacketRoute {
    /// The record of sFlow, if there is anything to say.
    pub(super) fn extended_router(&self) -> Option<ExtendedRouter> {
        let next_hop = self.way.and_then(|way| way.next_hop);
        let is_known =
            self.way.is_some() || self.source_prefix_length > 0 || self.destination_prefix_length > 0;
        is_known.then(|| ExtendedRouter {
            next_hop,
            source_prefix_length: u32::from(self.source_prefix_length),
            destination_prefix_length: u32::from(self.destination_prefix_length),
        })
    }
}

/// Asks the kernel and BGP, and keeps the answers for a moment.
#[derive(Debug)]
pub(super) struct Routing {
    query: RouteQuery,
    enricher: Enricher,
    answers: HashMap<(RoutedPacket, SampledAt), (Duration, PacketRoute), RandomState>,
}

impl Routing {
    pub(super) fn new(query: RouteQuery, enricher: Enricher) -> Self {
        Self { query, enricher, answers: HashMap::default() }
    }

    /// Of a packet at `now`, by the clock that only goes forward. With `ingress_interface` 0 (made by this host,
    /// or going out) only the prefixes are looked for, and what BGP knows.
    pub(super) fn route(
        &mut self,
        now: Duration,
        packet: RoutedPacket,
        sampled_at: SampledAt,
        names: &Arc<InterfaceNames>,
    ) -> PacketRoute {
        if let Some((at, route)) = self.answers.get(&(packet, sampled_at))
            && now.saturating_sub(*at) < MAX_AGE
        {
            return route.clone();
        }
        let way = if packet.ingress_interface == 0 { None } else { self.query.way(&packet).ok() };
        let source = self.query.route(packet.source).unwrap_or_default();
        let destination = self.query.route(packet.destination).unwrap_or_default();
        let mut record = FlowRecord {
            flow_direction: sampled_at.direction,
            ingress_interface: sampled_at.ingress_interface,
            egress_interface: sampled_at.egress_interface,
            ip_next_hop: way.map_or(destination.next_hop, |way| way.next_hop),
            ..FlowRecord::between(packet.source, packet.destination)
        };
        self.enricher.enrich(slice::from_mut(&mut record), names);
        // The kernel's prefix is the one that packets are routed by; of a default route it says nothing.
        let prefix_length = |kernel: KernelRoute, bgp| match kernel.prefix_length {
            0 => bgp,
            length => length,
        };
        let route = PacketRoute {
            way,
            source_prefix_length: prefix_length(source, record.source_prefix_length),
            destination_prefix_length: prefix_length(destination, record.destination_prefix_length),
            gateway: Gateway::of(record, self.enricher.own_as()).map(Arc::new),
        };
        if self.answers.len() >= MAX_ANSWERS {
            self.answers.clear();
        }
        self.answers.insert((packet, sampled_at), (now, route.clone()));
        route
    }
}

/// The packet in this frame, which came in by `ingress_interface`; `None` if it is not IP.
pub(super) fn packet(
    sample: &SampledHeader,
    has_link_header: bool,
    ingress_interface: u32,
) -> Option<RoutedPacket> {
    let header = sample.header.as_slice();
    let frame = SliceFrame::captured(header, sample.frame_length);
    let link = match header.first() {
        _ if has_link_header => Link::ethernet(&frame)?,
        Some(first) => Link::network(if first >> 4 == 6 { IPV6 } else { IPV4 }, 0),
        None => return None,
    };
    let mut found = None;
    parse_link(&frame, 0, link, Outermost { found: &mut found });
    let (addresses, fields): (Addresses, KeyFields) = found?;
    let (source, destination) = match addresses {
        Addresses::Ipv4(source, destination) => {
            (IpAddr::V4(Ipv4Addr::from(source)), IpAddr::V4(Ipv4Addr::from(destination)))
        }
        Addresses::Ipv6(source, destination) => {
            (IpAddr::V6(Ipv6Addr::from(source)), IpAddr::V6(Ipv6Addr::from(destination)))
        }
    };
    let [s0, s1, d0, d1] = fields.ports;
    Some(RoutedPacket {
        ingress_interface,
        source,
        destination,
        protocol: fields.protocol,
        source_port: u16::from_be_bytes([s0, s1]),
        destination_port: u16::from_be_bytes([d0, d1]),
    })
}

/// Takes the addresses that the packet is routed by: those of a tunnel, not of what is in it.
struct Outermost<'a> {
    found: &'a mut Option<(Addresses, KeyFields)>,
}

impl FlowSink for Outermost<'_> {
    fn ipv4(self, key: Ipv4Key, _: PacketFacts) {
        let key = key.widen(Encapsulation::NONE);
        *self.found = Some((key.addresses(), key.fields()));
    }

    fn wide(self, key: WideKey, _: PacketFacts) {
        // What has a label is switched by it.
        if key.encapsulation().mpls_top_label().is_none() {
            *self.found = Some((key.addresses(), key.fields()));
        }
    }

    fn unaccounted(self, _: DropReason, _: u32) {}

    fn has_vlan_priority(&self) -> bool {
        false
    }

    fn first_fragment(&self, _: &Datagram, _: DatagramPorts) {}

    fn datagram_ports(&self, _: &Datagram) -> Option<DatagramPorts> {
        None
    }
}

impl Tunnels for Outermost<'_> {
    fn entered(&self) -> bool {
        false
    }

    fn is_vxlan(&self, _: u16) -> bool {
        false
    }
}
