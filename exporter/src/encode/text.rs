//! One flow as one aligned line for a terminal.
//!
//! Columns: start (UTC), duration in seconds, protocol, source and destination with their ports if the protocol
//! has any, TCP control bits as letters or ICMP type and code, packets, octets, interface, end reason. IPv6 addresses
//! are wider than their columns and move the rest of the line. After the columns comes what few flows have: next hop,
//! MPLS label, VXLAN identifier, sampling interval.

use std::io::Write as _;
use std::net::IpAddr;

use super::json::append_address;
use super::time;
use crate::interface_names::InterfaceNames;
use crate::record::{FlowDirection, FlowRecord};

/// Width of `255.255.255.255:65535`.
const ENDPOINT_WIDTH: usize = 21;

const PROTOCOL_WIDTH: usize = 6;
/// Width of `CEUAPRSF`, and of `255/255`.
const FLAGS_WIDTH: usize = 8;
const INTERFACE_WIDTH: usize = 10;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// Header line for the columns, line feed included.
pub const HEADER: &str = "\
start (UTC)              duration s  proto  source                   destination           \
flags        packets          octets  interface  reason\n";

/// Appends one line, line feed included, to `out`.
pub fn append(out: &mut Vec<u8>, record: &FlowRecord, interface_names: &InterfaceNames) {
    time::append(out, record.flow_start_milliseconds, b' ', b"");
    let duration = record.flow_end_milliseconds.saturating_sub(record.flow_start_milliseconds);
    // Writing to a vector can not fail; so in the rest of this file.
    _ = write!(out, "  {:>6}.{:03}  ", duration / 1000, duration % 1000);
    column(out, PROTOCOL_WIDTH, |out| append_protocol(out, record.protocol_identifier));
    out.push(b' ');
    column(out, ENDPOINT_WIDTH, |out| append_endpoint(out, record, Side::Source));
    out.extend_from_slice(b" -> ");
    column(out, ENDPOINT_WIDTH, |out| append_endpoint(out, record, Side::Destination));
    out.push(b' ');
    column(out, FLAGS_WIDTH, |out| append_flags(out, record));
    _ = write!(out, "  {:>10}  {:>14}  ", record.packet_delta_count, record.octet_delta_count);
    let interface = match record.flow_direction {
        FlowDirection::Ingress => record.ingress_interface,
        FlowDirection::Egress => record.egress_interface,
    };
    column(out, INTERFACE_WIDTH, |out| append_interface(out, interface, interface_names));
    out.push(b' ');
    out.extend_from_slice(record.flow_end_reason.as_str().as_bytes());
    append_extras(out, record);
    out.push(b'\n');
}

fn append_extras(out: &mut Vec<u8>, record: &FlowRecord) {
    if let Some(next_hop) = record.ip_next_hop {
        out.extend_from_slice(b"  via ");
        append_address(out, next_hop);
    }
    if let Some(label) = record.mpls_top_label {
        _ = write!(out, "  mpls {label}");
    }
    if record.layer2_segment_id != 0 {
        _ = write!(out, "  vxlan {}", record.layer2_segment_id);
    }
    if record.sampling_interval > 1 {
        _ = write!(out, "  sampled 1:{}", record.sampling_interval);
    }
}

/// Pads what `append` wrote to at least `width` octets.
fn column(out: &mut Vec<u8>, width: usize, append: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    append(out);
    out.resize(out.len().max(start + width), b' ');
}

/// Names of IANA "Protocol Numbers" that a router sees every day; others as numbers.
fn append_protocol(out: &mut Vec<u8>, protocol_identifier: u8) {
    let name = match protocol_identifier {
        1 => "icmp",
        2 => "igmp",
        4 => "ipip",
        6 => "tcp",
        17 => "udp",
        41 => "ipv6",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "icmp6",
        89 => "ospf",
        103 => "pim",
        112 => "vrrp",
        132 => "sctp",
        other => {
            _ = write!(out, "{other}");
            return;
        }
    };
    out.extend_from_slice(name.as_bytes());
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// `192.0.2.1:443` or `[2001:db8::1]:443`; without a port if the protocol has none.
fn append_endpoint(out: &mut Vec<u8>, record: &FlowRecord, side: Side) {
    let (address, port) = match side {
        Side::Source => (record.source_address, record.source_port),
        Side::Destination => (record.destination_address, record.destination_port),
    };
    if !matches!(record.protocol_identifier, TCP | UDP | DCCP | SCTP | UDP_LITE) {
        append_address(out, address);
        return;
    }
    match address {
        IpAddr::V4(_) => append_address(out, address),
        IpAddr::V6(_) => {
            out.push(b'[');
            append_address(out, address);
            out.push(b']');
        }
    }
    _ = write!(out, ":{port}");
}

/// TCP: letters of CWR, ECE, URG, ACK, PSH, RST, SYN, FIN (RFC 9293, section 3.1), a dot where the bit is 0.
/// ICMP: `type/code`.
fn append_flags(out: &mut Vec<u8>, record: &FlowRecord) {
    match record.protocol_identifier {
        TCP => {
            for (letter, bit) in b"CEUAPRSF".iter().zip((0..8).rev()) {
                out.push(if record.tcp_control_bits & (1 << bit) == 0 { b'.' } else { *letter });
            }
        }
        ICMP | ICMPV6 => {
            let [kind, code] = record.icmp_type_code.to_be_bytes();
            _ = write!(out, "{kind}/{code}");
        }
        _ => {}
    }
}

fn append_interface(out: &mut Vec<u8>, interface: u32, interface_names: &InterfaceNames) {
    match interface_names.get(interface) {
        // A name must not be able to command the terminal.
        Some(name) => {
            let visible = name.chars().map(|c| if c.is_control() { '?' } else { c });
            visible.for_each(|c| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()));
        }
        None if interface == 0 => out.push(b'-'),
        None => _ = write!(out, "{interface}"),
    }
}
