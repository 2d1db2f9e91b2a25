//! JSON and text lines, and the account of the printer.

use std::io::{Read as _, pipe};
use std::sync::Arc;

use pathflow_exporter::{
    ExportEvent, FlowPrinter, FlowRecord, InterfaceNames, LineStyle, LossReason, Stdout, Tally,
};
use serde_json::{Value, json};

use super::support::{flows, tcp_flow};

fn print(style: LineStyle, records: &[FlowRecord], names: &[(u32, &str)]) -> String {
    let (mut reader, writer) = pipe().unwrap();
    let names: InterfaceNames = names.iter().map(|(index, name)| (*index, (*name).to_owned())).collect();
    let mut printer = FlowPrinter::new(style, Stdout::from_writer(writer), Arc::new(names));
    printer.export(records);
    assert_eq!(printer.account().pending, Tally::of(records));
    printer.flush();
    assert_eq!(printer.account().delivered, Tally::of(records));
    assert!(printer.account().is_balanced());
    drop(printer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn json_has_every_field_with_its_type() {
    let text = print(LineStyle::Json, &flows(), &[(7, "eth0")]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), flows().len());
    assert_eq!(
        lines[0],
        json!({
            "flow_start": "2026-11-21T07:39:50.001Z",
            "flow_end": "2026-11-21T07:39:59.999Z",
            "source_address": "192.0.2.1",
            "destination_address": "198.51.100.2",
            "source_port": 49152,
            "destination_port": 443,
            "protocol_identifier": 6,
            "ip_class_of_service": 184,
            "tcp_control_bits": 27,
            "icmp_type_code": 0,
            "vlan_id": 301,
            "dot1q_customer_vlan_id": 402,
            "ingress_interface": 7,
            "ingress_interface_name": "eth0",
            "egress_interface": 9,
            "flow_direction": "ingress",
            "packet_delta_count": 12,
            "octet_delta_count": 3456,
            "flow_end_reason": "end of flow",
            "bgp_source_as_number": 64500,
            "bgp_destination_as_number": 4_200_000_001_u32,
            "source_prefix_length": 24,
            "destination_prefix_length": 22,
            "bgp_next_hop": "203.0.113.1",
            "ip_next_hop": "198.51.100.254",
            "sampling_interval": 1,
        })
    );
    assert_eq!(lines[1]["source_address"], "2001:db8::1");
    let unknown_route = &lines[5];
    for key in [
        "bgp_source_as_number",
        "bgp_destination_as_number",
        "source_prefix_length",
        "destination_prefix_length",
        "bgp_next_hop",
        "ip_next_hop",
        "egress_interface_name",
        "source_mac_address",
        "destination_mac_address",
        "mpls_top_label",
        "layer2_segment_id",
        "selector_id",
    ] {
        assert!(unknown_route.get(key).is_none(), "{key}");
    }
    let sampled_in_a_tunnel = &lines[8];
    for (key, value) in [
        ("mpls_top_label", 16_001),
        ("layer2_segment_id", 0xab_cdef),
        ("sampling_interval", 100),
        ("selector_id", 300),
        // As it was counted.
        ("packet_delta_count", 12),
    ] {
        assert_eq!(sampled_in_a_tunnel[key], value, "{key}");
    }
}

#[test]
fn json_escapes_whatever_a_name_holds() {
    let name: String = (0..=0x7f_u8).map(char::from).chain("é→𝄞".chars()).collect();
    let text = print(LineStyle::Json, &[tcp_flow()], &[(7, &name)]);
    let line: Value = serde_json::from_str(text.trim_end_matches('\n')).unwrap();
    assert_eq!(line["ingress_interface_name"], name);
    assert_eq!(text.chars().filter(char::is_ascii_control).count(), 1, "the line feed at the end");
}

#[test]
fn text_is_aligned() {
    let text = print(LineStyle::Text, &flows(), &[(7, "eth0"), (9, "a\u{1b}[31m")]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "start (UTC)              duration s  proto  source                   destination           \
             flags        packets          octets  interface  reason",
            "2026-11-21 07:39:50.001       9.998  tcp    192.0.2.1:49152       -> 198.51.100.2:443      \
             ...AP.SF          12            3456  eth0       end of flow  via 198.51.100.254",
            "2026-11-21 07:39:40.250       0.000  udp    [2001:db8::1]:5353    -> [2001:db8:ffff::2]:53 \
             \x20                  1             128  a?[31m     idle timeout  via fe80::1",
            "2026-11-21 07:39:50.001       9.998  icmp   192.0.2.1             -> 198.51.100.2          \
             8/0               12            3456  eth0       lack of resources  via 198.51.100.254",
        ]
    );
    let reason = lines[0].find("reason").unwrap();
    assert_eq!(lines[6].get(reason..), Some("forced end"));
    assert_eq!(
        lines[9].get(reason..),
        Some("end of flow  via 198.51.100.254  mpls 16001  vxlan 11259375  sampled 1:100")
    );
}

#[test]
fn closed_reader_is_a_named_loss() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut printer = FlowPrinter::new(LineStyle::Json, Stdout::from_writer(writer), Arc::default());
    printer.export(&flows());
    printer.flush();
    assert_eq!(printer.account().lost(LossReason::OutputClosed), Tally::of(&flows()));
    assert!(printer.account().is_balanced());
    assert!(printer.is_closed());
    assert!(matches!(printer.next_event(), Some(ExportEvent::Closed)));
}
