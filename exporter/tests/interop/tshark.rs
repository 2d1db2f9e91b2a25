//! Wireshark's dissector reads every field, knows every template and finds nothing malformed.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pathflow_exporter::{
    ExportSettings, ExportTime, FlowDirection, FlowRecord, Format, MeteringStatistics, ObservationContext,
    Tally,
};

use super::support::mac;
use super::support::{
    NOW, TempDir, all_groups, context, enriched_flows, flows, output, program, receive_all, udp_process,
};

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
    let settings = ExportSettings { format, field_groups: all_groups(format), ..ExportSettings::default() };
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
    if format == Format::NetflowV9 {
        // FIRST_SWITCHED and LAST_SWITCHED: time since start-up, an hour before the export.
        let since = |milliseconds: u64| {
            let uptime = milliseconds - (NOW.unix_milliseconds - 3_600_000);
            format!("{}.{:03}000000", uptime / 1000, uptime % 1000)
        };
        fields.push(("cflow.timestart", since(record.flow_start_milliseconds)));
        fields.push(("cflow.timeend", since(record.flow_end_milliseconds)));
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

/// What is known of routes, and pmacct's elements, which it prints as numbers and octets.
fn expected_of_routes(record: &FlowRecord) -> Vec<(&'static str, String)> {
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().concat();
    let unless_absent = |is_there: bool, value: String| if is_there { value } else { String::new() };
    let is_ipv6 = record.source_address.is_ipv6();
    let has_route = record.source_prefix_length > 0 || record.source_route.is_some();
    let next_hop = |wanted: bool| {
        record
            .bgp_next_hop
            .filter(|address| address.is_ipv6() == wanted)
            .map_or_else(String::new, |a| a.to_string())
    };
    let attributes = [&record.source_route, &record.destination_route]
        .map(|route| route.as_ref().map(|route| route.attributes().clone()).unwrap_or_default());
    // allOf (3), Element ID, length of each, then all of them.
    let list = |head: &str, octets: Vec<u8>| format!("03{head}{}", hex(&octets));
    let has_standard = attributes.iter().any(|route| !route.communities.is_empty());
    let has_other = attributes.iter().any(|route| !route.large_communities.is_empty());
    let [source, destination] = attributes.map(|route| {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        [
            unless_absent(has_standard, list("01e30004", words(&route.communities))),
            unless_absent(has_other, list("01e60008", route.extended_communities.concat())),
            unless_absent(has_other, list("01e9000c", words(route.large_communities.as_flattened()))),
        ]
    });
    let [source_standard, source_extended, source_large] = source;
    let [destination_standard, destination_extended, destination_large] = destination;
    let has_mac = record.source_mac_address != [0; 6];
    let mac = |octets| unless_absent(has_mac, mac(octets));
    // tag, tag2, and label with a zero octet at the end; unknown to tshark.
    let has_tags = record.tag != 0;
    let label = [record.label.as_deref().unwrap_or_default().as_bytes(), &[0]].concat();
    let tags = [hex(&record.tag.to_be_bytes()), hex(&record.tag2.to_be_bytes()), hex(&label)].join(",");
    let length =
        |of_ipv6: bool, length: u8| unless_absent(has_route && is_ipv6 == of_ipv6, length.to_string());
    vec![
        ("cflow.srcmask", length(false, record.source_prefix_length)),
        ("cflow.dstmask", length(false, record.destination_prefix_length)),
        ("cflow.srcmaskv6", length(true, record.source_prefix_length)),
        ("cflow.dstmaskv6", length(true, record.destination_prefix_length)),
        ("cflow.peer_srcas", unless_absent(has_route, record.bgp_prev_adjacent_as_number.to_string())),
        ("cflow.peer_dstas", unless_absent(has_route, record.bgp_next_adjacent_as_number.to_string())),
        ("cflow.srcmac", mac(record.source_mac_address)),
        ("cflow.dstmac", mac(record.destination_mac_address)),
        ("cflow.bgpnexthop", next_hop(false)),
        ("cflow.bgpnexthopv6", next_hop(true)),
        ("cflow.bgp_source_community", source_standard),
        ("cflow.bgp_destination_community", destination_standard),
        ("cflow.bgp_source_extended_community", source_extended),
        ("cflow.bgp_destination_extended_community", destination_extended),
        ("cflow.bgp_source_large_community", source_large),
        ("cflow.bgp_source_destination_community", destination_large),
        ("cflow.enterprise_private_entry", unless_absent(has_tags, tags)),
    ]
}

#[test]
fn reads_what_is_known_of_routes() {
    let directory = TempDir::new("tshark-routes");
    for format in [Format::Ipfix, Format::NetflowV9] {
        let capture = directory.file("routes.pcap");
        let records = enriched_flows();
        std::fs::write(&capture, pcap(&exported(format, ObservationContext::default(), &records, 1), PORT))
            .unwrap();
        for (index, record) in records.iter().enumerate() {
            let mut expected = expected_of_routes(record);
            if format == Format::NetflowV9 {
                expected.retain(|(name, _)| !name.contains("community") && !name.contains("enterprise"));
            }
            let (names, values): (Vec<&str>, Vec<String>) = expected.into_iter().unzip();
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
