//! NetFlow v5: what goes in is read by two independent decoders, and what does not is counted.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use netflow_parser::{NetflowPacket, NetflowParser};
use pathflow_exporter::{
    ExportEvent, ExportSettings, ExportTime, ExportingProcess, FlowRecord, Format, LimitReason, LossReason,
    Tally,
};
use proptest::prelude::*;

use super::decode;
use super::support::{NOW, TempDir, address, context, receive_all, tcp_flow, udp_process};
use super::tshark;

const MAX_COUNT: u64 = 0xffff_ffff;
const DAY: u64 = 86_400_000;

/// One record as a decoder sees it: addresses (source, destination, next hop) and, in the order of [`NUMBERS`], the rest;
/// times as milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    addresses: [String; 3],
    numbers: [u64; 13],
    times: [u64; 2],
    packets: u64,
    octets: u64,
}

/// Of each record, as tshark calls them; the last two are of the header.
const NUMBERS: [&str; 13] = [
    "cflow.inputint",
    "cflow.outputint",
    "cflow.srcport",
    "cflow.dstport",
    "cflow.tcpflags",
    "cflow.protocol",
    "cflow.tos",
    "cflow.srcas",
    "cflow.dstas",
    "cflow.srcmask",
    "cflow.dstmask",
    "cflow.samplingmode",
    "cflow.samplerate",
];

/// What `record` is in NetFlow v5, counters apart; written down from Cisco's tables. `None` if it is not IPv4.
fn expected(record: &FlowRecord, now: ExportTime) -> Option<Row> {
    if record.source_address.is_ipv6() || record.destination_address.is_ipv6() {
        return None;
    }
    let next_hop = record.ip_next_hop.filter(IpAddr::is_ipv4).unwrap_or(address("0.0.0.0"));
    let as_number = |number: u32| if number < 65_536 { number.into() } else { 23_456 };
    let interface = |index: u32| if index < 65_536 { index.into() } else { 0 };
    let sampling = match (record.sampling_interval, record.selector_id) {
        (0 | 1, _) => [0, 0],
        // The one Selector of the context that chooses at random.
        (interval, 4) => [2, interval.min(16_383).into()],
        (interval, _) => [1, interval.min(16_383).into()],
    };
    Some(Row {
        addresses: [record.source_address, record.destination_address, next_hop].map(|it| it.to_string()),
        numbers: [
            interface(record.ingress_interface),
            interface(record.egress_interface),
            record.source_port.into(),
            record.destination_port.into(),
            (record.tcp_control_bits % 256).into(),
            record.protocol_identifier.into(),
            record.ip_class_of_service.into(),
            as_number(record.bgp_source_as_number),
            as_number(record.bgp_destination_as_number),
            record.source_prefix_length.into(),
            record.destination_prefix_length.into(),
            sampling[0],
            sampling[1],
        ],
        times: told_times(record, now.unix_milliseconds),
        packets: record.packet_delta_count,
        octets: record.octet_delta_count,
    })
}

/// First and last time: those of the record if they are of the last 49 days, else moved, at the same distance if that is
/// possible.
pub(crate) fn told_times(record: &FlowRecord, now: u64) -> [u64; 2] {
    let [mut start, mut end] = [record.flow_start_milliseconds, record.flow_end_milliseconds];
    if end < start {
        start = end;
    }
    if end > now {
        start = start.saturating_sub(end - now);
        end = now;
    }
    let oldest = now - 49 * DAY;
    if start < oldest {
        end = oldest + (end - start).min(49 * DAY);
        start = oldest;
    }
    [start, end.min(now).max(start)]
}

/// Exports over loopback.
fn export(now: ExportTime, records: &[FlowRecord]) -> (ExportingProcess, Vec<Vec<u8>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let settings = ExportSettings {
        format: Format::NetflowV5,
        observation_domain_id: 0x0304_0506,
        ..ExportSettings::default()
    };
    let mut process = udp_process(&settings, socket.local_addr().unwrap());
    process.set_context(Arc::new(context()));
    let mut datagrams = Vec::new();
    for record in records {
        process.export(now, std::slice::from_ref(record));
        datagrams.extend(receive_all(&socket));
    }
    process.close(now);
    datagrams.extend(receive_all(&socket));
    assert!(process.account().is_balanced());
    (process, datagrams)
}

/// As `netflow_parser` reads it, with what must hold of every message.
fn parsed(datagrams: &[Vec<u8>], now: ExportTime) -> Vec<Row> {
    let mut rows = Vec::new();
    for datagram in datagrams {
        assert!(datagram.len() <= 1472);
        let result = NetflowParser::default().parse_bytes(datagram);
        assert!(result.error.is_none(), "{:?}", result.error);
        let [NetflowPacket::V5(packet)] = &result.packets[..] else { panic!("{result:?}") };
        let header = packet.header;
        assert_eq!(datagram.len(), 24 + 48 * usize::from(header.count));
        assert_eq!(header.flow_sequence as usize, rows.len());
        assert_eq!((header.engine_type, header.engine_id), (5, 6));
        assert_eq!(u128::from(header.sys_up_time), now.monotonic.as_millis() % (1 << 32));
        let seconds = (now.unix_milliseconds / 1000, now.unix_milliseconds % 1000 * 1_000_000);
        assert_eq!((u64::from(header.unix_secs), u64::from(header.unix_nsecs)), seconds);
        for record in &packet.flowsets {
            assert_eq!((record.pad1, record.pad2), (0, 0));
            let time =
                |uptime: u32| now.unix_milliseconds - u64::from(header.sys_up_time.wrapping_sub(uptime));
            rows.push(Row {
                addresses: [record.src_addr, record.dst_addr, record.next_hop].map(|it| it.to_string()),
                numbers: [
                    record.input.into(),
                    record.output.into(),
                    record.src_port.into(),
                    record.dst_port.into(),
                    record.tcp_flags.into(),
                    record.protocol_number.into(),
                    record.tos.into(),
                    record.src_as.into(),
                    record.dst_as.into(),
                    record.src_mask.into(),
                    record.dst_mask.into(),
                    (header.sampling_interval >> 14).into(),
                    (header.sampling_interval & 0x3fff).into(),
                ],
                times: [record.first, record.last].map(time),
                packets: record.d_pkts.into(),
                octets: record.d_octets.into(),
            });
        }
    }
    rows
}

/// As tshark reads it.
fn dissected(datagrams: &[Vec<u8>], now: ExportTime) -> Vec<Row> {
    let directory = TempDir::new("tshark-netflow-v5");
    let capture = directory.file("messages.pcap");
    std::fs::write(&capture, tshark::pcap(datagrams, tshark::PORT)).unwrap();
    let mut fields = vec!["_ws.malformed", "_ws.expert.message", "cflow.version", "cflow.sequence"];
    fields.extend(["cflow.srcaddr", "cflow.dstaddr", "cflow.nexthop", "cflow.timestart", "cflow.timeend"]);
    fields.extend(["cflow.packets", "cflow.octets"]);
    fields.extend(NUMBERS);
    let mut rows = Vec::new();
    let packets = tshark::tshark(&capture, &fields);
    assert_eq!(packets.len(), datagrams.len());
    for packet in packets {
        assert_eq!(packet[..4], ["", "", "5", &rows.len().to_string()], "malformed, or out of sequence");
        let columns: Vec<Vec<&str>> = packet.iter().map(|column| column.split(',').collect()).collect();
        for index in 0..columns[4].len() {
            // Those of the header are there once.
            let text = |column: usize| *columns[column].get(index).unwrap_or(&columns[column][0]);
            let number = |column: usize| match text(column).strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
                None => text(column).parse::<u64>().unwrap(),
            };
            let time = |column: usize| {
                let (seconds, fraction) = text(column).split_once('.').unwrap();
                let uptime = seconds.parse::<u64>().unwrap() * 1000 + fraction[..3].parse::<u64>().unwrap();
                let age = (now.monotonic.as_millis() as u32).wrapping_sub(uptime as u32);
                now.unix_milliseconds - u64::from(age)
            };
            rows.push(Row {
                addresses: [4, 5, 6].map(|column| text(column).to_owned()),
                times: [7, 8].map(time),
                packets: number(9),
                octets: number(10),
                numbers: std::array::from_fn(|index| number(11 + index)),
            });
        }
    }
    rows
}

/// The rows are the records, those of large counters in as few parts as they fit, which add up.
fn assert_rows(rows: &[Row], records: &[FlowRecord], now: ExportTime) {
    let mut rows = rows.iter();
    for expected in records.iter().filter_map(|record| expected(record, now)) {
        let parts = expected.packets.max(expected.octets).div_ceil(MAX_COUNT).max(1);
        let parts: Vec<&Row> = rows.by_ref().take(parts as usize).collect();
        let sum = |count: fn(&Row) -> u64| parts.iter().map(|part| count(part)).sum::<u64>();
        assert_eq!(sum(|part| part.packets), expected.packets);
        assert_eq!(sum(|part| part.octets), expected.octets);
        for part in parts {
            let whole = Row { packets: expected.packets, octets: expected.octets, ..part.clone() };
            assert_eq!(whole, expected);
        }
    }
    assert_eq!(rows.next(), None);
}

/// Any record, with values around the limits of the format more often than by chance.
fn record() -> impl Strategy<Value = FlowRecord> {
    let count = || prop_oneof![4 => 0..1_u64 << 20, 1 => Just(MAX_COUNT), 1 => MAX_COUNT..40 << 32];
    let now = NOW.unix_milliseconds;
    let time = move || prop_oneof![6 => now - DAY..=now, 1 => now - 60 * DAY..now + DAY, 1 => 0..2 * now];
    let short = || prop_oneof![4 => 0..1_u32 << 16, 1 => any::<u32>()];
    let interval = prop_oneof![Just(0), Just(1), Just(16_383), Just(16_384), Just(100), any::<u32>()];
    let selector = prop_oneof![Just(0), Just(4), Just(300), any::<u16>()];
    (
        decode::record(),
        [count(), count()],
        [time(), time()],
        [short(), short(), short(), short()],
        (interval, selector),
    )
        .prop_map(|(record, counts, times, shorts, (sampling_interval, selector_id))| FlowRecord {
            packet_delta_count: counts[0],
            octet_delta_count: counts[1],
            flow_start_milliseconds: times[0],
            flow_end_milliseconds: times[1],
            ingress_interface: shorts[0],
            egress_interface: shorts[1],
            bgp_source_as_number: shorts[2],
            bgp_destination_as_number: shorts[3],
            sampling_interval,
            selector_id,
            ..record
        })
}

/// The limits that an operator must hear of.
fn limits(record: &FlowRecord, now: ExportTime) -> [bool; LimitReason::COUNT] {
    let [start, end] = [record.flow_start_milliseconds, record.flow_end_milliseconds];
    let over = |limit: u32, values: [u32; 2]| values.iter().any(|value| *value > limit);
    [
        over(65_535, [record.bgp_source_as_number, record.bgp_destination_as_number]),
        over(65_535, [record.ingress_interface, record.egress_interface]),
        record.sampling_interval > 16_383,
        record.packet_delta_count > MAX_COUNT || record.octet_delta_count > MAX_COUNT,
        told_times(record, now.unix_milliseconds) != [start, end],
        // It has no fields of variable length.
        false,
    ]
}

proptest! {
    // Few cases of many records, as each starts tshark once.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 12, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn two_decoders_read_what_was_exported_and_the_rest_is_counted(
        records in prop::collection::vec(record(), 0..200),
        uptime in any::<u32>(),
    ) {
        let now = ExportTime { monotonic: Duration::from_millis(uptime.into()), ..NOW };
        let (process, datagrams) = export(now, &records);
        assert_rows(&parsed(&datagrams, now), &records, now);
        assert_rows(&dissected(&datagrams, now), &records, now);

        let (carried, other): (Vec<FlowRecord>, Vec<FlowRecord>) =
            records.into_iter().partition(|record| expected(record, now).is_some());
        prop_assert_eq!(process.account().delivered, Tally::of(&carried));
        prop_assert_eq!(process.account().lost(LossReason::FormatCannotCarryIpv6), Tally::of(&other));
        prop_assert_eq!(process.account().total_lost(), Tally::of(&other));
        for (index, reason) in LimitReason::ALL.into_iter().enumerate() {
            let limited = carried.iter().filter(|record| limits(record, now)[index]).count();
            prop_assert_eq!(process.counts().limited(reason), limited as u64, "{}", reason.as_str());
        }
    }
}

#[test]
fn each_limit_is_told_once() {
    let tcp = tcp_flow();
    let flows: Vec<FlowRecord> = [
        FlowRecord { destination_address: address("2001:db8::1"), ..tcp.clone() },
        FlowRecord { octet_delta_count: 65_536 * MAX_COUNT + 1, ..tcp.clone() },
        // An AS number of 32 bits.
        tcp.clone(),
        FlowRecord { ingress_interface: 65_536, ..tcp.clone() },
        FlowRecord { sampling_interval: 16_384, ..tcp.clone() },
        FlowRecord { octet_delta_count: MAX_COUNT + 1, ..tcp.clone() },
        FlowRecord { flow_end_milliseconds: NOW.unix_milliseconds + 1, ..tcp },
    ]
    .into_iter()
    .flat_map(|record| [record.clone(), record])
    .collect();
    let (mut process, datagrams) = export(NOW, &flows);
    let events: Vec<String> = std::iter::from_fn(|| process.next_event())
        .map(|event| match event {
            ExportEvent::CannotCarry { reason } => reason.as_str().to_owned(),
            ExportEvent::Limited { reason } => reason.as_str().to_owned(),
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    let names = [
        "format_cannot_carry_ipv6",
        "format_cannot_carry_counters",
        "as_number_over_16_bits",
        "interface_index_over_16_bits",
        "sampling_interval_over_14_bits",
        "counters_over_32_bits",
        "flow_time_out_of_range",
    ];
    assert_eq!(events, names);
    let account = process.account();
    assert_eq!(account.lost(LossReason::FormatCannotCarryIpv6), Tally::of(&flows[..2]));
    assert_eq!(account.lost(LossReason::FormatCannotCarryCounters), Tally::of(&flows[2..4]));
    assert_eq!(account.delivered, Tally::of(&flows[4..]));
    assert_rows(&parsed(&datagrams, NOW), &flows[4..], NOW);
}

/// A message has one sampling interval for all its records.
#[test]
fn a_message_ends_where_the_sampling_changes() {
    let sampled = |sampling_interval, selector_id| FlowRecord {
        sampling_interval,
        selector_id,
        bgp_destination_as_number: 1,
        ..tcp_flow()
    };
    let kinds = [(1, 0), (100, 300), (100, 4), (1000, 4)];
    let records: Vec<FlowRecord> = kinds
        .iter()
        .flat_map(|(interval, selector)| std::iter::repeat_n(sampled(*interval, *selector), 31))
        .collect();
    let (_, datagrams) = export(NOW, &records);
    assert_rows(&parsed(&datagrams, NOW), &records, NOW);
    let counts: Vec<usize> = datagrams.iter().map(|datagram| (datagram.len() - 24) / 48).collect();
    assert_eq!(counts, [30, 1, 30, 1, 30, 1, 30, 1]);
}
