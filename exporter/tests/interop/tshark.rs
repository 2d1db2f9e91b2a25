//! Wireshark's dissector reads every field, knows every template and finds nothing malformed.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pathflow_exporter::{
    ExportSettings, ExportTime, FlowDirection, FlowRecord, Format, MeteringStatistics, ObservationContext,
    Tally,
};

use super::support::{NOW, TempDir, context, flows, output, program, receive_all, udp_process};

/// The port in the capture file; the one on loopback is any free one.
pub(crate) const PORT: u16 = 4739;

/// A capture file (pcap, `LINKTYPE_RAW`) with `datagrams` from 127.0.0.1 to a collector on `port`.
pub(crate) fn pcap(datagrams: &[Vec<u8>], port: u16) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend_from_slice(&0xa1b2_c3d4_u32.to_be_bytes());
    file.extend_from_slice(&[0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend_from_slice(&65_535_u32.to_be_bytes());
    file.extend_from_slice(&101_u32.to_be_bytes());
    for datagram in datagrams {
        let udp_length = (8 + datagram.len()) as u16;
        let packet_length = 20 + u32::from(udp_length);
        file.extend_from_slice(&[0; 8]);
        file.extend_from_slice(&packet_length.to_be_bytes());
        file.extend_from_slice(&packet_length.to_be_bytes());
        file.extend_from_slice(&[0x45, 0]);
        file.extend_from_slice(&(packet_length as u16).to_be_bytes());
        // Don't fragment, TTL 64, UDP, no checksum.
        file.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        file.extend_from_slice(&[0xc0, 0x00]);
        file.extend_from_slice(&port.to_be_bytes());
        file.extend_from_slice(&udp_length.to_be_bytes());
        file.extend_from_slice(&[0, 0]);
        file.extend_from_slice(datagram);
    }
    file
}

/// Sends `records` over loopback, at most `batch` in a message, and returns the datagrams.
fn exported(
    format: Format,
    context: ObservationContext,
    records: &[FlowRecord],
    batch: usize,
) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let settings = ExportSettings { format, ..ExportSettings::default() };
    let mut process = udp_process(&settings, socket.local_addr().unwrap());
    process.set_context(Arc::new(context));
    process.tick(NOW);
    for records in records.chunks(batch) {
        process.export(NOW, records);
        process.flush(NOW);
    }
    process.close(NOW);
    receive_all(&socket)
}

/// One line for each packet; fields split by `|`, values of the same field by `,`.
pub(crate) fn tshark(capture: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = program("tshark", "tshark");
    command.arg("-r").arg(capture).args(["-d", &format!("udp.port=={PORT},cflow")]);
    command.args(["-T", "fields", "-E", "separator=|", "-E", "aggregator=,"]);
    for field in fields {
        command.args(["-e", field]);
    }
    output(&mut command).lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

/// What tshark is expected to print for one record.
fn expected(record: &FlowRecord, format: Format) -> Vec<(&'static str, String)> {
    let time = |milliseconds: u64| {
        // All flows of the tests are of this minute and the one after.
        let since = milliseconds - 1_795_246_740_000;
        assert!(since < 60_000, "flow outside of 07:39");
        format!("Nov 21, 2026 07:39:{:02}.{:03}000000 UTC", since / 1000, since % 1000)
    };
    let (source, destination) = match record.source_address {
        IpAddr::V4(_) => ("cflow.srcaddr", "cflow.dstaddr"),
        IpAddr::V6(_) => ("cflow.srcaddrv6", "cflow.dstaddrv6"),
    };
    let direction = if record.flow_direction == FlowDirection::Egress { "1" } else { "0" };
    let mut fields = vec![
        (source, record.source_address.to_string()),
        (destination, record.destination_address.to_string()),
        ("cflow.srcport", record.source_port.to_string()),
        ("cflow.dstport", record.destination_port.to_string()),
        ("cflow.protocol", record.protocol_identifier.to_string()),
        ("cflow.tos", format!("0x{:02x}", record.ip_class_of_service)),
        ("cflow.tcpflags", format!("0x{:02x}", record.tcp_control_bits)),
        ("cflow.vlanid", record.vlan_id.to_string()),
        ("cflow.inputint", record.ingress_interface.to_string()),
        ("cflow.outputint", record.egress_interface.to_string()),
        ("cflow.direction", direction.to_owned()),
        ("cflow.packets", record.packet_delta_count.to_string()),
        ("cflow.octets", record.octet_delta_count.to_string()),
        ("cflow.abstimestart", time(record.flow_start_milliseconds)),
        ("cflow.abstimeend", time(record.flow_end_milliseconds)),
        ("cflow.srcas", record.bgp_source_as_number.to_string()),
        ("cflow.dstas", record.bgp_destination_as_number.to_string()),
        ("cflow.flow_end_reason", (record.flow_end_reason as u8).to_string()),
    ];
    match (format, record.source_address) {
        (Format::Ipfix, IpAddr::V6(_)) => {
            fields.push(("cflow.icmp_ipv6_type", (record.icmp_type_code >> 8).to_string()));
            fields.push(("cflow.icmp_ipv6_code", (record.icmp_type_code & 0xff).to_string()));
        }
        _ => fields.push(("cflow.icmp_type_code_ipv4", format!("0x{:04x}", record.icmp_type_code))),
    }
    if format == Format::Ipfix {
        fields.push(("cflow.dot1q_customer_vlan_id", record.dot1q_customer_vlan_id.to_string()));
    }
    let next_hop = match record.source_address {
        IpAddr::V4(_) => ("cflow.nexthop", "0.0.0.0"),
        IpAddr::V6(_) => ("cflow.nexthopv6", "::"),
    };
    let address = record.ip_next_hop.map_or_else(|| next_hop.1.to_owned(), |address| address.to_string());
    fields.push((next_hop.0, address));
    fields.push(("cflow.sampling_interval", record.sampling_interval.to_string()));
    let unless_absent = |is_there: bool, value: u64| if is_there { value.to_string() } else { String::new() };
    let label = record.mpls_top_label.map_or_else(String::new, |label| label.to_string());
    fields.push(("cflow.mpls_label", label));
    let segment = u64::from(record.layer2_segment_id);
    let segment = unless_absent(segment != 0, 0x0100_0000_0000_0000 | segment);
    fields.push(("cflow.layer2_segment_id", segment));
    let selector = unless_absent(record.selector_id != 0, record.selector_id.into());
    let selector_field = if format == Format::Ipfix { "cflow.selector_id" } else { "cflow.sampler_id" };
    fields.push((selector_field, selector));
    fields
}

#[test]
fn reads_every_field() {
    let directory = TempDir::new("tshark-fields");
    for format in [Format::Ipfix, Format::NetflowV9] {
        let capture = directory.file("fields.pcap");
        std::fs::write(&capture, pcap(&exported(format, ObservationContext::default(), &flows(), 1), PORT))
            .unwrap();
        for (index, record) in flows().iter().enumerate() {
            let (names, values): (Vec<&str>, Vec<String>) = expected(record, format).into_iter().unzip();
            // The first packet has the templates.
            assert_eq!(tshark(&capture, &names)[index + 1], values, "{format:?} flow {index}: {names:?}");
        }
    }
}

#[test]
fn reads_options_data() {
    let directory = TempDir::new("tshark-options");
    for format in [Format::Ipfix, Format::NetflowV9] {
        let capture = directory.file("options.pcap");
        std::fs::write(&capture, pcap(&exported(format, context(), &[], 1), PORT)).unwrap();
        let mut expected = vec![
            ("cflow.direction", "0,1"),
            ("cflow.sampling_interval", "100,1000"),
            ("cflow.inputint", "7,9"),
            ("cflow.if_name", "eth0,eth1.301"),
            ("cflow.if_descr", "transit to AS\u{a0}64500,eth1.301"),
        ];
        expected.extend(match format {
            Format::Ipfix => [
                ("cflow.version", "10"),
                ("cflow.observation_point_id", "7,9"),
                ("cflow.selector_id", "300,4"),
                ("cflow.selector_algorithm", "1,3"),
                ("cflow.sampling_packet_interval", "1"),
                ("cflow.sampling_packet_space", "99"),
                ("cflow.sampling_size", "1"),
                ("cflow.sampling_population", "1000"),
            ],
            Format::NetflowV9 => [
                ("cflow.scope_interface", "7,9"),
                ("cflow.sampler_id", "300,4"),
                ("cflow.sampler_mode", "1,2"),
                ("cflow.sampler_random_interval", "100,1000"),
                ("cflow.scope_system", "00000000,00000000"),
                ("cflow.count", "8"),
                ("cflow.version", "9"),
                ("cflow.sequence", "0"),
            ],
            Format::NetflowV5 => unreachable!("no options data"),
        });
        let (names, values): (Vec<&str>, Vec<&str>) = expected.into_iter().unzip();
        assert_eq!(tshark(&capture, &names), [values], "{format:?}: {names:?}");
    }
}

#[test]
fn finds_nothing_malformed() {
    let directory = TempDir::new("tshark-malformed");
    let records: Vec<FlowRecord> = flows().into_iter().cycle().take(600).collect();
    for format in [Format::Ipfix, Format::NetflowV9] {
        let datagrams = exported(format, context(), &records, 97);
        let capture = directory.file("many.pcap");
        std::fs::write(&capture, pcap(&datagrams, PORT)).unwrap();

        let packets = tshark(
            &capture,
            &["cflow.version", "_ws.malformed", "_ws.expert.message", "cflow.octets", "cflow.sequence"],
        );
        assert_eq!(packets.len(), datagrams.len());
        let (mut octets, mut records_seen) = (0, 0);
        for (index, packet) in packets.iter().enumerate() {
            assert_eq!(packet[0], if format == Format::Ipfix { "10" } else { "9" });
            assert_eq!(packet[1], "", "malformed");
            assert_eq!(packet[2], "", "expert information");
            // The first packet has four records of options data.
            let options = if index > 0 { 4 } else { 0 };
            let sequence = if format == Format::Ipfix { options + records_seen } else { index };
            assert_eq!(packet[4], sequence.to_string());
            let values = packet[3].split(',').filter(|value| !value.is_empty());
            for value in values {
                octets += value.parse::<u64>().unwrap();
                records_seen += 1;
            }
        }
        assert_eq!(records_seen, records.len());
        assert_eq!(octets, records.iter().map(|record| record.octet_delta_count).sum::<u64>());

        let mut verbose = program("tshark", "tshark");
        verbose.arg("-r").arg(&capture).args(["-d", &format!("udp.port=={PORT},cflow"), "-V"]);
        let text = output(&mut verbose);
        assert!(!text.contains("No template found"), "unknown template");
        assert!(!text.contains("Malformed"), "malformed");
        // tshark 4.0 calls sampler mode 1 so, which to the registry is deterministic sampling.
        let is_known = |line: &&str| !line.contains("Unknown") || line.ends_with("SamplerMode: Unknown (1)");
        let unknown: Vec<&str> = text.lines().filter(|line| !is_known(line)).collect();
        assert!(unknown.is_empty(), "{format:?}: {unknown:?}");
    }
}

#[test]
fn the_collector_is_told_what_was_sent_and_what_was_lost() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for format in [Format::Ipfix, Format::NetflowV9] {
        let settings = ExportSettings { format, observation_domain_id: 77, ..ExportSettings::default() };
        let mut process = udp_process(&settings, socket.local_addr().unwrap());
        let metering = MeteringStatistics {
            exporting_process_id: 3,
            ignored_packets: 1001,
            ignored_octets: 64_001,
            not_accepted: Tally { records: 5, packets: 55, octets: 5555 },
        };
        process.set_metering_statistics(metering);
        process.tick(NOW);
        process.export(NOW, &flows());
        process.flush(NOW);
        // Later, with more of everything.
        let later = ExportTime {
            unix_milliseconds: NOW.unix_milliseconds + 90_000,
            monotonic: NOW.monotonic + Duration::from_secs(90),
        };
        let not_accepted = Tally { records: 6, packets: 66, octets: 6666 };
        process.set_metering_statistics(MeteringStatistics { not_accepted, ..metering });
        process.tick(later);
        process.close(later);
        let datagrams = receive_all(&socket);
        let (messages, octets) = (datagrams.len() - 1, datagrams.iter().map(Vec::len).sum::<usize>());
        let octets = octets - datagrams.last().unwrap().len();

        let directory = TempDir::new("statistics");
        let capture = directory.file("statistics.pcap");
        std::fs::write(&capture, pcap(&datagrams, PORT)).unwrap();
        let fields = [
            "cflow.notsent_flows",
            "cflow.notsent_packets",
            "cflow.notsent_octets",
            "cflow.packetsexp",
            "cflow.flowsexp",
            "cflow.octetsexp",
            "cflow.ignore_packets",
            "cflow.ignore_octets",
            "_ws.malformed",
        ];
        let lines = tshark(&capture, &fields);
        let first: Vec<&str> = lines[0].iter().map(String::as_str).collect();
        assert_eq!(first, ["5", "55", "5555", "0", "0", "0", "1001", "64001", ""], "{format:?}");
        let expected = [
            "6",
            "66",
            "6666",
            &messages.to_string(),
            &flows().len().to_string(),
            &octets.to_string(),
            "1001",
            "64001",
            "",
        ];
        assert_eq!(
            lines.last().unwrap().iter().map(String::as_str).collect::<Vec<_>>(),
            expected,
            "{format:?}"
        );
        let all = lines.concat().concat();
        assert!(!all.contains("Malformed"), "{all}");
    }
}
