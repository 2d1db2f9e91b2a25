//! `nfcapd` receives over loopback, and `nfdump` shows what was sent.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pathflow_exporter::{
    ExportSettings, ExportTime, FlowDirection, FlowRecord, Format, LossReason, ObservationContext, Selector,
    SelectorAlgorithm, Tally,
};
use serde_json::Value;

use super::support::mac;
use super::support::{
    Collector, NOW, TempDir, all_groups, as_in_netflow_v5, context, enriched_flows, flows, free_port, output,
    program, tcp_flow, udp_process,
};

/// What became of one run of a collector.
struct Collected {
    /// From nfdump.
    flows: Vec<Value>,
    /// Lines of nfdump with index and name of input and output interface.
    interfaces: Vec<String>,
    /// Of nfcapd.
    log: String,
    /// How often the options data was sent.
    refreshes: u64,
}

/// One run of a collector over all of `records`.
fn collect(name: &str, format: Format, context: ObservationContext, records: &[FlowRecord]) -> Collected {
    collect_at(NOW, name, format, context, records)
}

fn collect_at(
    now: ExportTime,
    name: &str,
    format: Format,
    context: ObservationContext,
    records: &[FlowRecord],
) -> Collected {
    let directory = TempDir::new(&format!("nfcapd-{name}"));
    let flows = directory.file("flows");
    std::fs::create_dir(&flows).unwrap();
    let port = free_port();
    let mut nfcapd = program("nfcapd", "nfdump");
    nfcapd.args(["-p", &port.to_string(), "-b", "127.0.0.1", "-B", "4000000", "-w"]).arg(&flows);
    let collector = Collector::start(&mut nfcapd, port, directory.file("log"));

    let settings = ExportSettings {
        format,
        observation_domain_id: 7,
        field_groups: all_groups(format),
        template_messages: 5,
        ..ExportSettings::default()
    };
    let mut process = udp_process(&settings, collector.address());
    let options_records = (context.interfaces.len() + context.selectors.len()) as u64;
    process.set_context(Arc::new(context));
    // The second message comes with a template again, to see that a repeat does no harm.
    for batch in records.chunks(50) {
        process.export(now, batch);
        process.flush(now);
    }
    process.close(now);
    assert_eq!(process.account().delivered + process.account().total_lost(), Tally::of(records));
    assert_eq!(process.account().total_lost(), process.account().lost(LossReason::FormatCannotCarryIpv6));
    wait_until_read(port);
    let log = collector.stop();

    let refreshes = process.counts().options_records.checked_div(options_records).unwrap_or(0);
    let mut nfdump = program("nfdump", "nfdump");
    nfdump.args(["-q", "-o", "fmt:%in %inam %out %onam", "-R"]).arg(&flows);
    let words = |line: &str| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let interfaces = output(&mut nfdump).lines().map(words).collect();
    let mut nfdump = program("nfdump", "nfdump");
    // All files: there are two if the run crosses a multiple of five minutes.
    nfdump.args(["-q", "-N", "-o", "json", "-R"]).arg(&flows);
    let text = output(&mut nfdump);
    // Some versions write the list's brackets, some do not.
    let list = format!("[{}]", text.trim().trim_start_matches('[').trim_end_matches(']'));
    let flows = serde_json::from_str(&list).unwrap_or_else(|error| panic!("{error} in {text}; {log}"));
    Collected { flows, interfaces, log, refreshes }
}

/// Waits until the collector has read all that is queued in its socket.
pub(crate) fn wait_until_read(port: u16) {
    let local = format!("0100007F:{port:04X}");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let table = std::fs::read_to_string("/proc/net/udp").unwrap();
        // Columns: slot, local address, remote address, state, transmit and receive queue.
        let receive_queue = table
            .lines()
            .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
            .find(|columns| columns.get(1) == Some(&local.as_str()))
            .and_then(|columns| columns.get(4)?.split(':').nth(1).map(str::to_owned))
            .expect("socket of the collector");
        if receive_queue == "00000000" {
            return;
        }
        assert!(Instant::now() < deadline, "collector does not read");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// nfdump prints UTC, because its environment says so, in milliseconds.
fn time(unix_milliseconds: u64) -> String {
    let mut date = Command::new("date");
    date.args(["-u", "-d", &format!("@{}", unix_milliseconds / 1000), "+%Y-%m-%dT%H:%M:%S"]);
    format!("{}.{:03}", output(&mut date).trim(), unix_milliseconds % 1000)
}

fn assert_flow(flow: &Value, record: &FlowRecord) {
    let is = |key: &str, value: &Value| assert_eq!(&flow[key], value, "{key} of {flow:#}");
    is("first", &time(record.flow_start_milliseconds).into());
    is("last", &time(record.flow_end_milliseconds).into());
    // nfcapd scales by the options data of the Selector, once; what nobody sampled it leaves alone.
    let scale = u64::from(record.sampling_interval);
    is("in_packets", &(record.packet_delta_count * scale).into());
    is("in_bytes", &(record.octet_delta_count * scale).into());
    is("sampled", &u8::from(record.selector_id != 0).into());
    is("mpls_1", &record.mpls_top_label.map_or(Value::Null, |label| format!("{label}-0-0").into()));
    is("proto", &record.protocol_identifier.into());
    is("src_tos", &record.ip_class_of_service.into());
    is("input_snmp", &record.ingress_interface.into());
    is("output_snmp", &record.egress_interface.into());
    is("direction", &(record.flow_direction as u8).into());
    // Of NetFlow v5, nfdump leaves out AS numbers if both are 0, and VLANs, which it does not have.
    for (key, value) in [
        ("src_vlan", record.vlan_id.into()),
        ("src_as", record.bgp_source_as_number),
        ("dst_as", record.bgp_destination_as_number),
    ] {
        if value != 0 || !flow[key].is_null() {
            is(key, &value.into());
        }
    }
    let (source, destination) = match record.source_address {
        IpAddr::V4(_) => ("src4_addr", "dst4_addr"),
        IpAddr::V6(_) => ("src6_addr", "dst6_addr"),
    };
    let next_hop = if record.source_address.is_ipv4() { "ip4_next_hop" } else { "ip6_next_hop" };
    if let Some(address) = record.ip_next_hop {
        is(next_hop, &address.to_string().into());
    }
    is(source, &record.source_address.to_string().into());
    is(destination, &record.destination_address.to_string().into());
    if matches!(record.protocol_identifier, 1 | 58) {
        is("icmp_type", &(record.icmp_type_code >> 8).into());
        is("icmp_code", &(record.icmp_type_code & 0xff).into());
    } else {
        is("src_port", &record.source_port.into());
        is("dst_port", &record.destination_port.into());
        let flags: String = "CEUAPRSF"
            .chars()
            .zip((0..8).rev())
            .map(|(letter, bit)| if record.tcp_control_bits >> bit & 1 == 1 { letter } else { '.' })
            .collect();
        is("tcp_flags", &flags.into());
    }
}

fn nfdump_shows_what_was_sent(format: Format) -> Collected {
    let records: Vec<FlowRecord> = flows().into_iter().cycle().take(300).collect();
    let collected = collect(format.as_str(), format, context(), &records);
    assert_eq!(collected.flows.len(), records.len());
    for (flow, record) in collected.flows.iter().zip(&records) {
        assert_flow(flow, record);
    }
    assert_eq!(collected.interfaces[0], "7 transit to AS\u{a0}64500 9 eth1.301");
    collected
}

pub(crate) fn sequence_errors(log: &str) -> u64 {
    let (_, rest) = log.split_once("Sequence Errors: ").expect("statistics");
    let (errors, rest) = rest.split_once(", ").expect("statistics");
    assert!(rest.starts_with("Bad Packets: 0"), "{log}");
    errors.parse().expect("number")
}

/// Sampling of an export, which is of no interface, after and without sampling at an Observation Point.
fn nfdump_multiplies_by_the_sampling_of_an_export(format: Format) {
    let sampled = |flow: FlowRecord, selector_id, sampling_interval| FlowRecord {
        sampling_interval,
        selector_id,
        ..flow
    };
    let selector = |id, interface, interval, algorithm| Selector {
        id,
        interface,
        direction: FlowDirection::Ingress,
        algorithm,
        interval,
    };
    let selectors = vec![
        selector(7, 7, 500, SelectorAlgorithm::Random),
        selector(u16::MAX, 0, 50, SelectorAlgorithm::Systematic),
    ];
    let records = [sampled(tcp_flow(), 7, 500), sampled(tcp_flow(), u16::MAX, 50)];
    let context = ObservationContext { interfaces: Vec::new(), selectors };
    let collected = collect(&format!("{}-thinned", format.as_str()), format, context, &records);
    assert_eq!(collected.flows.len(), records.len());
    for (flow, record) in collected.flows.iter().zip(&records) {
        assert_flow(flow, record);
    }
}

#[test]
fn ipfix_sampled_by_the_export() {
    nfdump_multiplies_by_the_sampling_of_an_export(Format::Ipfix);
}

#[test]
fn netflow_v9_sampled_by_the_export() {
    nfdump_multiplies_by_the_sampling_of_an_export(Format::NetflowV9);
}

fn nfdump_shows_what_is_known_of_routes(format: Format) {
    let records = enriched_flows();
    let collected =
        collect(&format!("{}-routes", format.as_str()), format, ObservationContext::default(), &records);
    assert_eq!(collected.flows.len(), records.len());
    for (flow, record) in collected.flows.iter().zip(&records) {
        assert_flow(flow, record);
        let is = |key: &str, value: Value| assert_eq!(flow[key], value, "{key} of {flow:#}");
        is("src_mask", record.source_prefix_length.into());
        is("dst_mask", record.destination_prefix_length.into());
        // nfcapd 1.7.1 does not know 128 and 129 in IPFIX.
        if format == Format::NetflowV9 {
            is("next_as", record.bgp_next_adjacent_as_number.into());
            is("prev_as", record.bgp_prev_adjacent_as_number.into());
        }
        let known = |octets| if octets == [0; 6] { Value::Null } else { mac(octets).into() };
        is("in_src_mac", known(record.source_mac_address));
        is("in_dst_mac", known(record.destination_mac_address));
        let next_hop = |wanted: bool| {
            let address = record.bgp_next_hop.filter(|address| address.is_ipv6() == wanted);
            address.map_or(Value::Null, |address| address.to_string().into())
        };
        is("bgp4_next_hop", next_hop(false));
        is("bgp6_next_hop", next_hop(true));
    }
}

#[test]
fn ipfix_routes() {
    nfdump_shows_what_is_known_of_routes(Format::Ipfix);
}

#[test]
fn netflow_v9_routes() {
    nfdump_shows_what_is_known_of_routes(Format::NetflowV9);
}

#[test]
fn ipfix() {
    let collected = nfdump_shows_what_was_sent(Format::Ipfix);
    // Every version of nfcapd leaves records of options data out when it counts Data Records, against RFC 7011,
    // section 3.1: it sees one error after each time they were sent.
    assert!(collected.refreshes > 1);
    assert_eq!(sequence_errors(&collected.log), collected.refreshes, "{}", collected.log);
    assert!(!collected.log.contains("extra bytes"), "{}", collected.log);
}

#[test]
fn ipfix_without_options_data() {
    let records: Vec<FlowRecord> =
        flows().into_iter().filter(|record| record.selector_id == 0).cycle().take(300).collect();
    let collected = collect("plain", Format::Ipfix, ObservationContext::default(), &records);
    assert_eq!(sequence_errors(&collected.log), 0, "{}", collected.log);
    let total = |key: &str| collected.flows.iter().map(|flow| flow[key].as_u64().unwrap()).sum::<u64>();
    let sent = Tally::of(&records);
    assert_eq!((total("in_packets"), total("in_bytes")), (sent.packets, sent.octets));
}

#[test]
fn netflow_v9() {
    let collected = nfdump_shows_what_was_sent(Format::NetflowV9);
    assert_eq!(sequence_errors(&collected.log), 0, "{}", collected.log);
}

/// nfcapd 1.7.1 takes the sampling of the first header for all that follow, so each sampling has its own collector.
fn nfdump_shows_what_netflow_v5_carries(sampling_interval: u32) {
    let sampled = |flow: FlowRecord| FlowRecord {
        sampling_interval,
        selector_id: if sampling_interval > 1 { 300 } else { 0 },
        ..flow
    };
    let records: Vec<FlowRecord> = flows().into_iter().map(sampled).collect();
    let name = format!("v5-{sampling_interval}");
    let collected = collect(&name, Format::NetflowV5, context(), &records);
    assert_eq!(sequence_errors(&collected.log), 0, "{}", collected.log);
    let mut flows = collected.flows.iter();
    for record in records.iter().filter_map(as_in_netflow_v5) {
        // Large counters come as several flows.
        let parts = record.packet_delta_count.max(record.octet_delta_count).div_ceil((1 << 32) - 1);
        let parts: Vec<&Value> = flows.by_ref().take(parts as usize).collect();
        let sum = |key: &str| parts.iter().map(|flow| flow[key].as_u64().unwrap()).sum::<u64>();
        let scale = u64::from(record.sampling_interval);
        assert_eq!(sum("in_packets"), record.packet_delta_count * scale);
        assert_eq!(sum("in_bytes"), record.octet_delta_count * scale);
        for flow in [parts[0], parts[parts.len() - 1]] {
            let count = |key: &str| flow[key].as_u64().unwrap() / scale;
            let part = FlowRecord {
                packet_delta_count: count("in_packets"),
                octet_delta_count: count("in_bytes"),
                ..record.clone()
            };
            assert_flow(flow, &part);
        }
    }
    assert_eq!(flows.next(), None);
}

#[test]
fn netflow_v5() {
    nfdump_shows_what_netflow_v5_carries(1);
}

#[test]
fn netflow_v5_sampled() {
    nfdump_shows_what_netflow_v5_carries(100);
}

/// `First` and `Last` of flows that began before the uptime in the header was last 0 are above it.
#[test]
fn netflow_v5_soon_after_the_uptime_wraps() {
    for uptime in [0, 5000, 11_000] {
        let now = ExportTime { monotonic: Duration::from_millis((1 << 32) + uptime), ..NOW };
        let records = [as_in_netflow_v5(&tcp_flow()).unwrap()];
        let name = format!("v5-uptime-{uptime}");
        let collected = collect_at(now, &name, Format::NetflowV5, ObservationContext::default(), &records);
        assert_eq!(collected.flows.len(), 1);
        assert_flow(&collected.flows[0], &records[0]);
    }
}
