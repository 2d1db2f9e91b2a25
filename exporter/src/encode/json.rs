//! One flow as one JSON object on one line (RFC 8259).
//!
//! Keys are the field names of [`FlowRecord`]. Numbers are JSON numbers, addresses are strings (RFC 5952),
//! times are RFC 3339 strings in UTC, direction and end reason are words. Left out when unknown or absent: AS numbers,
//! prefix lengths, next hops, MAC addresses, routes and their validation, tags, label, interface names, MPLS label, layer 2 segment and
//! Selector. A route is an object, see [`BgpRoute::json`](crate::BgpRoute::json).

use std::io::Write as _;
use std::net::IpAddr;

use super::time;
use crate::bgp_route::{BgpRoute, OriginValidation};
use crate::interface_names::InterfaceNames;
use crate::record::FlowRecord;

/// Appends one line, line feed included, to `out`.
pub fn append(out: &mut Vec<u8>, record: &FlowRecord, interface_names: &InterfaceNames) {
    let mut object = Object { out, is_empty: true };
    object.time("flow_start", record.flow_start_milliseconds);
    object.time("flow_end", record.flow_end_milliseconds);
    object.address("source_address", record.source_address);
    object.address("destination_address", record.destination_address);
    object.number("source_port", record.source_port);
    object.number("destination_port", record.destination_port);
    object.number("protocol_identifier", record.protocol_identifier);
    object.number("ip_class_of_service", record.ip_class_of_service);
    object.number("tcp_control_bits", record.tcp_control_bits);
    object.number("icmp_type_code", record.icmp_type_code);
    object.number("vlan_id", record.vlan_id);
    object.number("dot1q_customer_vlan_id", record.dot1q_customer_vlan_id);
    object.number("ingress_interface", record.ingress_interface);
    object.optional_text("ingress_interface_name", interface_names.get(record.ingress_interface));
    object.number("egress_interface", record.egress_interface);
    object.optional_text("egress_interface_name", interface_names.get(record.egress_interface));
    object.text("flow_direction", record.flow_direction.as_str());
    object.number("packet_delta_count", record.packet_delta_count);
    object.number("octet_delta_count", record.octet_delta_count);
    object.text("flow_end_reason", record.flow_end_reason.as_str());
    object.number_unless_zero("bgp_source_as_number", record.bgp_source_as_number);
    object.number_unless_zero("bgp_destination_as_number", record.bgp_destination_as_number);
    object.number_unless_zero("source_prefix_length", record.source_prefix_length);
    object.number_unless_zero("destination_prefix_length", record.destination_prefix_length);
    object.number_unless_zero("bgp_prev_adjacent_as_number", record.bgp_prev_adjacent_as_number);
    object.number_unless_zero("bgp_next_adjacent_as_number", record.bgp_next_adjacent_as_number);
    if let Some(next_hop) = record.bgp_next_hop {
        object.address("bgp_next_hop", next_hop);
    }
    object.route("source_route", record.source_route.as_deref());
    object.route("destination_route", record.destination_route.as_deref());
    object.optional_text("source_rpki", record.source_rpki.map(OriginValidation::as_str));
    object.optional_text("destination_rpki", record.destination_rpki.map(OriginValidation::as_str));
    object.number_unless_zero("tag", record.tag);
    object.number_unless_zero("tag2", record.tag2);
    object.optional_text("label", record.label.as_deref());
    if let Some(next_hop) = record.ip_next_hop {
        object.address("ip_next_hop", next_hop);
    }
    object.mac_address("source_mac_address", record.source_mac_address);
    object.mac_address("destination_mac_address", record.destination_mac_address);
    if let Some(label) = record.mpls_top_label {
        object.number("mpls_top_label", label);
    }
    object.number_unless_zero("layer2_segment_id", record.layer2_segment_id);
    object.number("sampling_interval", record.sampling_interval);
    object.number_unless_zero("selector_id", record.selector_id);
    out.extend_from_slice(b"}\n");
}

struct Object<'out> {
    out: &'out mut Vec<u8>,
    is_empty: bool,
}

impl Object<'_> {
    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(if self.is_empty { b"{\"" } else { b",\"" });
        self.is_empty = false;
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn number(&mut self, key: &str, value: impl itoa::Integer) {
        self.key(key);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn number_unless_zero(&mut self, key: &str, value: impl itoa::Integer + Default + PartialEq) {
        if value != Default::default() {
            self.number(key, value);
        }
    }

    fn time(&mut self, key: &str, unix_milliseconds: u64) {
        self.key(key);
        self.out.push(b'"');
        time::append(self.out, unix_milliseconds, b'T', b"Z\"");
    }

    fn mac_address(&mut self, key: &str, address: [u8; 6]) {
        if address == [0; 6] {
            return;
        }
        self.key(key);
        for (separator, octet) in "\":::::".chars().zip(address) {
            // Writing to a vector does not fail.
            _ = write!(self.out, "{separator}{octet:02x}");
        }
        self.out.push(b'"');
    }

    fn address(&mut self, key: &str, address: IpAddr) {
        self.key(key);
        self.out.push(b'"');
        append_address(self.out, address);
        self.out.push(b'"');
    }

    fn route(&mut self, key: &str, route: Option<&BgpRoute>) {
        if let Some(route) = route {
            self.key(key);
            self.out.extend_from_slice(route.json().as_bytes());
        }
    }

    fn optional_text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        self.out.push(b'"');
        for character in text.chars() {
            match character {
                '"' | '\\' => self.out.extend_from_slice(&[b'\\', character as u8]),
                // Also DEL, which JSON allows, but a terminal may not like.
                control if control.is_ascii_control() => {
                    let nibble = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
                    let value = control as u8;
                    self.out.extend_from_slice(b"\\u00");
                    self.out.extend_from_slice(&[nibble(value >> 4), nibble(value & 15)]);
                }
                other => self.out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.out.push(b'"');
    }
}

/// Appends an address as RFC 5952 writes it.
pub(super) fn append_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        // By hand, as most addresses are IPv4 and `Display` costs three times as much.
        IpAddr::V4(address) => {
            let [first, rest @ ..] = address.octets();
            let mut buffer = itoa::Buffer::new();
            out.extend_from_slice(buffer.format(first).as_bytes());
            for octet in rest {
                out.push(b'.');
                out.extend_from_slice(buffer.format(octet).as_bytes());
            }
        }
        // Writing to a vector can not fail.
        IpAddr::V6(address) => _ = write!(out, "{address}"),
    }
}
