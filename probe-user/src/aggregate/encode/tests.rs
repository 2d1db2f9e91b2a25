//! Rows against pmacct's own output, and rows of any content.

mod any;
#[cfg(feature = "avro")]
mod avro;

use std::sync::Arc;

use jiff::tz::TimeZone;
use pathflow_exporter::{BgpAttributes, BgpPathSegment, BgpPathSegmentKind, BgpRoute};
use serde_json::{Value as Json, json};

use super::*;
use crate::aggregate::{CustomPrimitive, CustomValue, Semantics};

/// A row by hand.
pub struct TestRow<'a> {
    bin: Option<u64>,
    values: Vec<Value<'a>>,
    packets: u64,
    octets: u64,
}

impl Fields for TestRow<'_> {
    fn bin(&self) -> Option<u64> {
        self.bin
    }
    fn value(&self, position: usize) -> Value<'_> {
        self.values[position]
    }
    fn packets(&self) -> u64 {
        self.packets
    }
    fn octets(&self) -> u64 {
        self.octets
    }
}

const BIN: u64 = 1_795_239_900;
const UPDATED: u64 = 1_795_240_081;

fn settings(table: &FormatTable) -> EncodeSettings {
    EncodeSettings { zone: TimeZone::UTC, ..EncodeSettings::new(table, true) }
}

fn row<'a>(fields: &[(Primitive, Value<'a>)]) -> (Vec<Primitive>, TestRow<'a>) {
    let (primitives, values) = fields.iter().copied().unzip();
    (primitives, TestRow { bin: None, values, packets: 1, octets: 98 })
}

fn written(format: Format, table: &FormatTable, fields: &[(Primitive, Value<'_>)]) -> String {
    let (primitives, row) = row(fields);
    let mut encoder = RowEncoder::new(&settings(table), format, &primitives).unwrap();
    let mut out = Vec::new();
    encoder.header(&mut out);
    encoder.row(&mut out, &row, UPDATED);
    String::from_utf8(out).unwrap()
}

fn address(text: &str) -> Value<'static> {
    Value::Address(Some(text.parse().unwrap()))
}

fn route() -> Arc<BgpRoute> {
    let sequence =
        |numbers: &[u32]| BgpPathSegment { kind: BgpPathSegmentKind::Sequence, as_numbers: numbers.into() };
    Arc::new(BgpRoute::new(BgpAttributes {
        as_path: [sequence(&[6939, 3356, 60_729])].into(),
        communities: [0x1b1b_0064, 0xffff_ff01].into(),
        extended_communities: [[0, 2, 0xfd, 0xe8, 0, 0, 0, 100]].into(),
        large_communities: [[397_143, 1, 2]].into(),
        ..BgpAttributes::default()
    }))
}

fn part(route: &Arc<BgpRoute>) -> Value<'_> {
    Value::Path(Some(RouteValue { route, number: 1 }))
}

/// As pmacctd 1.7.7 wrote it with `pmacctd_stitching` and `timestamps_secs`, less the bin.
#[test]
fn rows_with_stitching_and_priorities_are_those_of_pmacctd() {
    use Primitive as P;
    let fields = [
        (P::Vlan, Value::Number(100)),
        (P::Cos, Value::Number(3)),
        (P::Etype, Value::EtherType(0x800)),
        (P::SrcHost, address("10.0.0.1")),
        (P::TimestampMin, Value::Time(Some(1_700_000_000_500_222))),
        (P::TimestampMax, Value::Time(Some(1_795_304_162_000_000))),
    ];
    let table = FormatTable { timestamps_in_seconds: true, ..FormatTable::default() };
    assert_eq!(
        written(Format::Json, &table, &fields),
        r#"{"event_type": "purge", "vlan": 100, "cos": 3, "etype": "800", "ip_src": "10.0.0.1", "timestamp_min": "2023-11-14 22:13:20.500222", "timestamp_max": "2026-11-21 23:36:02.000000", "packets": 1, "bytes": 98}"#
    );
    let columns = written(Format::Formatted, &table, &fields);
    let expected = "\
VLAN   COS ETYPE  SRC_IP                                         TIMESTAMP_MIN                  TIMESTAMP_MAX                  PACKETS               BYTES
100    3   800    10.0.0.1                                       2023-11-14 22:13:20.500222     2026-11-21 23:36:02.000000     1                     98";
    assert_eq!(columns.trim_end(), expected);
}

/// As pmacctd 1.7.7 sent it to Kafka.
#[test]
fn a_row_for_kafka_is_that_of_pmacctd() {
    use Primitive as P;
    let (primitives, mut row) = row(&[
        (P::Label, Value::Text("bdr1.example.org")),
        (P::SrcAs, Value::Number(0)),
        (P::DstAs, Value::Number(0)),
        (P::SrcHost, address("2602:fe2e:42::1")),
        (P::DstHost, address("2607:f8b0::bc")),
        (P::SrcPort, Value::Number(61983)),
        (P::DstPort, Value::Number(5228)),
        (P::Proto, Value::Protocol(17)),
        (P::Tos, Value::Number(40)),
    ]);
    row.bin = Some(BIN);
    let mut encoder = RowEncoder::new(&settings(&FormatTable::default()), Format::Json, &primitives).unwrap();
    encoder.set_writer("default_kafka", true);
    let mut out = Vec::new();
    encoder.row(&mut out, &row, UPDATED);
    let process = std::process::id();
    let golden =
        |text: &str| text.replace("18354", &process.to_string()).replace("18280", &process.to_string());
    assert_eq!(
        String::from_utf8(out).unwrap(),
        golden(
            r#"{"event_type": "purge", "label": "bdr1.example.org", "as_src": 0, "as_dst": 0, "ip_src": "2602:fe2e:42::1", "ip_dst": "2607:f8b0::bc", "port_src": 61983, "port_dst": 5228, "ip_proto": "udp", "tos": 40, "stamp_inserted": "2026-11-21 05:45:00", "stamp_updated": "2026-11-21 05:48:01", "packets": 1, "bytes": 98, "writer_id": "default_kafka/18354"}"#
        )
    );
    let mut out = Vec::new();
    encoder.purge_init(&mut out);
    encoder.purge_close(&mut out, 2, 3, 0);
    let golden = golden(
        "{\"event_type\": \"purge_init\", \"writer_id\": \"default_kafka/18280\"}\n{\"event_type\": \
         \"purge_close\", \"writer_id\": \"default_kafka/18280\", \"purged_entries\": 2, \"total_entries\": 3, \
         \"duration\": 0}\n",
    );
    assert_eq!(String::from_utf8(out).unwrap(), golden);
}

/// As pmacctd 1.7.7 printed it, of routes from BIRD.
#[test]
fn a_row_with_routes_is_that_of_pmacctd() {
    use Primitive as P;
    let route = route();
    let both = |is_reverse: bool| {
        let at = |wanted: bool| if wanted == is_reverse { Value::Path(None) } else { part(&route) };
        let or = |forward: u64, reverse: u64| Value::Number(if is_reverse { reverse } else { forward });
        vec![
            (P::SrcAs, or(397_143, 60_729)),
            (P::DstAs, or(60_729, 397_143)),
            (P::StdComm, at(true)),
            (P::LrgComm, at(true)),
            (P::AsPath, at(true)),
            (P::LocalPref, or(150, 100)),
            (P::Med, or(7, 0)),
            (P::PeerSrcAs, or(0, 6939)),
            (P::PeerDstAs, or(6939, 0)),
            (P::PeerDstIp, if is_reverse { Value::Address(None) } else { address("127.0.0.1") }),
            (P::SrcAsPath, at(false)),
            (P::SrcHost, address("23.157.160.138")),
            (P::SrcNet, address("23.157.160.0")),
            (P::DstHost, address("185.220.102.6")),
            (P::DstNet, address("185.220.102.0")),
            (P::SrcMask, Value::Number(24)),
            (P::DstMask, Value::Number(24)),
            (P::Proto, Value::Protocol(6)),
        ]
    };
    let table = FormatTable::default();
    assert_eq!(
        written(Format::Json, &table, &both(false)),
        r#"{"event_type": "purge", "as_src": 397143, "as_dst": 60729, "comms": "6939:100_no-export", "lcomms": "397143:1:2", "as_path": "6939_3356_60729", "local_pref": 150, "med": 7, "peer_as_src": 0, "peer_as_dst": 6939, "peer_ip_dst": "127.0.0.1", "as_path_src": "", "ip_src": "23.157.160.138", "net_src": "23.157.160.0", "ip_dst": "185.220.102.6", "net_dst": "185.220.102.0", "mask_src": 24, "mask_dst": 24, "ip_proto": "tcp", "packets": 1, "bytes": 98}"#
    );
    let reverse = written(Format::Json, &table, &both(true));
    assert!(reverse.contains(
        r#""as_src": 60729, "as_dst": 397143, "comms": "", "lcomms": "", "as_path": "", "local_pref": 100"#
    ));
    assert!(reverse.contains(
        r#""peer_as_src": 6939, "peer_as_dst": 0, "peer_ip_dst": "", "as_path_src": "6939_3356_60729""#
    ));
    let csv = written(Format::Csv, &table, &both(false));
    assert!(
        csv.starts_with("SRC_AS,DST_AS,COMMS,LCOMMS,AS_PATH,SRC_AS_PATH,PREF,MED,PEER_SRC_AS,PEER_DST_AS,")
    );
    assert!(csv.ends_with(",tcp,1,98"));

    let arrays =
        FormatTable { as_path_as_array: true, communities_as_array: true, community_numbers: true, ..table };
    let value: Json = serde_json::from_str(&written(Format::Json, &arrays, &both(false))).unwrap();
    assert_eq!(value["as_path"], json!(["6939", "3356", "60729"]));
    assert_eq!(value["comms"], json!(["6939:100", "65535:65281"]));
    assert_eq!(value["as_path_src"], json!([]));
}

#[test]
fn csv_is_that_of_pmacctd() {
    use Primitive as P;
    let route = route();
    let fields = [
        (P::Label, Value::Text("edge")),
        (P::SrcAs, Value::Number(1)),
        (P::DstAs, Value::Number(2)),
        (P::AsPath, part(&route)),
        (P::SrcHost, address("192.0.2.1")),
        (P::DstHost, address("2001:db8::1")),
        (P::SrcPort, Value::Number(80)),
        (P::DstPort, Value::Number(1024)),
        (P::Proto, Value::Protocol(253)),
    ];
    // The header is that of a golden sample.
    assert_eq!(
        written(Format::Csv, &FormatTable::default(), &fields),
        "LABEL,SRC_AS,DST_AS,AS_PATH,SRC_IP,DST_IP,SRC_PORT,DST_PORT,PROTOCOL,PACKETS,BYTES\n\
         edge,1,2,6939_3356_60729,192.0.2.1,2001:db8::1,80,1024,253,1,98"
    );
    let (primitives, row) = row(&fields);
    let tab = EncodeSettings { separator: "\\t".to_owned(), ..settings(&FormatTable::default()) };
    let mut encoder = RowEncoder::new(&tab, Format::EventCsv, &primitives).unwrap();
    let mut out = Vec::new();
    encoder.row(&mut out, &row, UPDATED);
    assert_eq!(out, b"edge\t1\t2\t6939_3356_60729\t192.0.2.1\t2001:db8::1\t80\t1024\t253");
    for wrong in ["", ",,", "\n", "é"] {
        let settings = EncodeSettings { separator: wrong.to_owned(), ..settings(&FormatTable::default()) };
        let error = RowEncoder::new(&settings, Format::Csv, &primitives).unwrap_err();
        assert_eq!(error, EncodeError::Separator(wrong.to_owned()));
    }
}

#[test]
fn a_separator_in_a_value_is_noticed() {
    let fields = |label| [(Primitive::Label, Value::Text(label)), (Primitive::Tos, Value::Number(0))];
    let (primitives, plain) = row(&fields("a b"));
    let mut encoder = RowEncoder::new(&settings(&FormatTable::default()), Format::Csv, &primitives).unwrap();
    let mut out = Vec::new();
    encoder.row(&mut out, &plain, UPDATED);
    assert_eq!(encoder.take_ambiguous_rows(), 0);
    let (_, ambiguous) = row(&fields("a,b\nc"));
    out.clear();
    encoder.row(&mut out, &ambiguous, UPDATED);
    assert_eq!(out, b"a,b c,0,1,98");
    assert_eq!((encoder.take_ambiguous_rows(), encoder.take_ambiguous_rows()), (1, 0));
}

#[test]
fn what_has_no_width_is_not_for_columns() {
    for primitive in NOT_IN_COLUMNS {
        for format in [Format::Formatted, Format::EventFormatted] {
            let error =
                RowEncoder::new(&settings(&FormatTable::default()), format, &[primitive]).unwrap_err();
            assert_eq!(error, EncodeError::NoWidth(primitive));
        }
    }
    let nested = FormatTable { style: Style::Pathflow, ..FormatTable::default() };
    let error = RowEncoder::new(&settings(&nested), Format::Csv, &[]).unwrap_err();
    assert_eq!(error, EncodeError::StyleNeedsJson);
}

#[test]
fn options_change_types_and_texts() {
    use Primitive as P;
    let fields = [
        (P::TcpFlags, Value::TcpFlags(0xda)),
        (P::Proto, Value::Protocol(6)),
        (P::Tos, Value::Number(0xb8)),
        (P::Flows, Value::Number(3)),
    ];
    let table = FormatTable::default();
    assert_eq!(
        written(Format::Json, &table, &fields),
        r#"{"event_type": "purge", "tcp_flags": "218", "ip_proto": "tcp", "tos": 184, "flows": 3, "packets": 1, "bytes": 98}"#
    );
    assert_eq!(
        written(Format::Csv, &table, &fields),
        "TCP_FLAGS,PROTOCOL,TOS,PACKETS,FLOWS,BYTES\n218,tcp,184,1,3,98"
    );
    let changed = FormatTable {
        tcp_flags: TcpFlagsStyle::Array,
        protocol_numbers: true,
        tos_as_dscp: true,
        ..table.clone()
    };
    assert_eq!(
        written(Format::Json, &changed, &fields[..3]),
        r#"{"event_type": "purge", "tcp_flags": ["CWR", "ECE", "ACK", "PSH", "SYN"], "ip_proto": "6", "tos": 46, "packets": 1, "bytes": 98}"#
    );
    let number = FormatTable { tcp_flags: TcpFlagsStyle::Number, ..table };
    assert!(written(Format::Json, &number, &fields).contains(r#""tcp_flags": 218,"#));
}

#[test]
fn nested_rows_have_what_is_known() {
    use Primitive as P;
    let mut attributes = route().attributes().clone();
    let set = BgpPathSegment { kind: BgpPathSegmentKind::Set, as_numbers: [64_500, 64_501].into() };
    attributes.as_path = [attributes.as_path[0].clone(), set].into();
    let route = Arc::new(BgpRoute::new(attributes));
    let (primitives, mut row) = row(&[
        (P::Tag, Value::Number(0)),
        (P::Label, Value::Text("edge")),
        (P::DstAs, Value::Number(60_729)),
        (P::StdComm, part(&route)),
        (P::AsPath, part(&route)),
        (P::LocalPref, Value::Number(150)),
        (P::SrcAsPath, Value::Path(None)),
        (P::SrcHost, address("192.0.2.1")),
        (P::SrcPort, Value::Number(0)),
        (P::TcpFlags, Value::TcpFlags(0x12)),
        (P::Proto, Value::Protocol(6)),
        (P::TimestampStart, Value::Time(Some(1_795_240_081_000_123))),
    ]);
    row.bin = Some(BIN);
    let table = FormatTable { style: Style::Pathflow, ..FormatTable::default() };
    let mut encoder = RowEncoder::new(&settings(&table), Format::Json, &primitives).unwrap();
    let mut out = Vec::new();
    encoder.row(&mut out, &row, UPDATED);
    assert_eq!(
        serde_json::from_slice::<Json>(&out).unwrap(),
        json!({
            "bin_start": "2026-11-21T05:45:00Z",
            "purge_time": "2026-11-21T05:48:01Z",
            "label": "edge",
            "bgp_destination_as_number": 60729,
            "source_address": "192.0.2.1",
            "source_port": 0,
            "tcp_control_bits": ["ACK", "SYN"],
            "protocol_identifier": 6,
            "flow_start": "2026-11-21T05:48:01.000123Z",
            "packet_delta_count": 1,
            "octet_delta_count": 98,
            "destination_route": {
                "communities": ["6939:100", "no-export"],
                "as_path": [6939, 3356, 60729, {"set": [64500, 64501]}],
                "local_pref": 150,
            },
        })
    );
}

#[test]
fn nested_rows_have_what_is_inside() {
    use Primitive as P;
    let primitive =
        |name: &str, semantics, length| CustomPrimitive { name: name.into(), semantics, length, offset: 0 };
    let custom = [
        primitive("ttl", Semantics::UInt, 1),
        primitive("kind", Semantics::Hex, 2),
        primitive("next", Semantics::Ip, 4),
    ];
    let number = |semantics, octets| Value::Custom(CustomValue { semantics, octets });
    let inside = |has: bool| {
        row(&[
            (P::MplsLabelStack, Value::Labels(if has { &[[0, 0x3e, 0x86], [0, 0, 3]] } else { &[] })),
            (P::MplsStackDepth, Value::Number(if has { 2 } else { 0 })),
            (P::TunnelSrcMac, Value::Mac(if has { [2; 6] } else { [0; 6] })),
            (P::TunnelSrcHost, if has { address("2001:db8::1") } else { Value::Address(None) }),
            (P::TunnelProto, Value::Protocol(if has { 6 } else { 0 })),
            (P::TunnelTcpFlags, Value::TcpFlags(if has { 0x12 } else { 0 })),
            (P::Custom(0), number(Semantics::UInt, if has { &[64] } else { &[0] })),
            (P::Custom(1), number(Semantics::Hex, if has { &[0, 0x46] } else { &[0, 0] })),
            (P::Custom(2), number(Semantics::Ip, if has { &[192, 0, 2, 1] } else { &[0; 4] })),
        ])
    };
    let table = FormatTable { style: Style::Pathflow, ..FormatTable::default() };
    let settings = EncodeSettings { custom: custom.into_iter().collect(), ..settings(&table) };
    let written = |has| {
        let (primitives, row) = inside(has);
        let mut encoder = RowEncoder::new(&settings, Format::Json, &primitives).unwrap();
        let mut out = Vec::new();
        encoder.row(&mut out, &row, UPDATED);
        serde_json::from_slice::<Json>(&out).unwrap()
    };
    assert_eq!(
        written(true),
        json!({
            "purge_time": "2026-11-21T05:48:01Z",
            "mpls_label_stack": [16006, 3],
            "mpls_label_stack_depth": 2,
            "packet_delta_count": 1,
            "octet_delta_count": 98,
            "tunnel": {
                "source_mac_address": "02:02:02:02:02:02",
                "source_address": "2001:db8::1",
                "protocol_identifier": 6,
                "tcp_control_bits": ["ACK", "SYN"],
            },
            "custom": {"ttl": 64, "kind": "46", "next": "192.0.2.1"},
        })
    );
    assert_eq!(
        written(false),
        json!({
            "purge_time": "2026-11-21T05:48:01Z",
            "packet_delta_count": 1,
            "octet_delta_count": 98,
            "custom": {"ttl": 0},
        })
    );
}
