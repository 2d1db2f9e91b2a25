//! From a flow of the cache to the record that is exported.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pathflow_common::flow::Addresses;
use pathflow_exporter::{FlowDirection, FlowEndReason, FlowRecord};

use super::Flow;
use super::observation::PointTable;
use crate::clock::Reading;
use crate::interfaces::InterfaceNames;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// Makes the record of `flow`, which ended for `reason`. Times become wall time by `now`.
#[must_use]
pub fn flow_record(
    flow: &Flow,
    reason: FlowEndReason,
    now: Reading,
    points: &PointTable,
    names: &InterfaceNames,
) -> FlowRecord {
    let fields = flow.key.fields();
    let (source_address, destination_address) = match flow.key.addresses() {
        Addresses::Ipv4(source, destination) => {
            (IpAddr::V4(Ipv4Addr::from(source)), IpAddr::V4(Ipv4Addr::from(destination)))
        }
        Addresses::Ipv6(source, destination) => {
            (IpAddr::V6(Ipv6Addr::from(source)), IpAddr::V6(Ipv6Addr::from(destination)))
        }
    };
    let [s0, s1, d0, d1] = fields.ports;
    let destination_port = u16::from_be_bytes([d0, d1]);
    let point = points.get(fields.observation_point);
    let (interface, direction) =
        point.map_or((0, FlowDirection::Ingress), |point| (point.interface, point.direction));
    let sampling_interval = point.map_or(1, |point| point.sampling_interval);
    let encapsulation = flow.key.encapsulation();
    let (ingress_interface, egress_interface) = match direction {
        FlowDirection::Ingress => (interface, flow.other_interface),
        FlowDirection::Egress => (flow.other_interface, interface),
    };
    // Where there are no MAC addresses, others are in their place.
    let neighbour = point.filter(|point| point.has_link_header).map_or([0; 6], |_| flow.neighbour.0);
    let (source_mac_address, destination_mac_address) = match direction {
        FlowDirection::Ingress => (neighbour, [0; 6]),
        FlowDirection::Egress => ([0; 6], neighbour),
    };
    FlowRecord {
        source_mac_address,
        destination_mac_address,
        source_address,
        destination_address,
        source_port: u16::from_be_bytes([s0, s1]),
        destination_port,
        protocol_identifier: fields.protocol,
        ip_class_of_service: fields.class_of_service,
        // Else they are of the packet inside a tunnel.
        tcp_control_bits: if fields.protocol == TCP { flow.tcp_control_bits } else { 0 },
        vlan_id: fields.vlan_id,
        dot1q_customer_vlan_id: fields.customer_vlan_id,
        dot1q_priority: fields.vlan_priority,
        flow_label_ipv6: flow.key.flow_label(),
        ingress_interface: names.number(ingress_interface),
        egress_interface: names.number(egress_interface),
        flow_direction: direction,
        // The key keeps type and code where other protocols have the destination port.
        icmp_type_code: if matches!(fields.protocol, ICMP | ICMPV6) { destination_port } else { 0 },
        packet_delta_count: flow.packets,
        octet_delta_count: flow.octets,
        flow_start_milliseconds: now.unix_milliseconds(flow.first),
        flow_end_milliseconds: now.unix_milliseconds(flow.last),
        flow_end_reason: reason,
        ip_next_hop: flow.next_hop,
        mpls_top_label: encapsulation.mpls_top_label(),
        layer2_segment_id: encapsulation.vxlan_network_identifier(),
        sampling_interval,
        filter_results: fields.filter_results,
        selector_id: if sampling_interval > 1 { fields.observation_point } else { 0 },
        // Enrichment knows the rest.
        ..FlowRecord::between(source_address, destination_address)
    }
}
