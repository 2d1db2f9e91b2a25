//! pmacct's `nfacctd` receives over loopback and prints what was sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pathflow_exporter::{ExportSettings, FlowDirection, FlowRecord, Format};
use serde_json::Value;

use super::support::mac;
use super::support::{
    Collector, NOW, TempDir, all_groups, as_in_netflow_v5, context, enriched_flows, flows, free_port,
    program, udp_process,
};

/// What nfacctd prints until it has printed `packets`, with lines of `settings` in its configuration.
fn collect(name: &str, format: Format, settings: &str, records: &[FlowRecord], packets: u64) -> Vec<Value> {
    let aggregate = "src_host,dst_host,src_port,dst_port,proto,tos,tcpflags,vlan,in_iface,out_iface,\
                     src_as,dst_as,timestamp_start,timestamp_end,export_proto_version,sampling_rate,mpls_label_top";
    collect_by(aggregate, name, format, settings, records, packets)
}

fn collect_by(
    aggregate: &str,
    name: &str,
    format: Format,
    settings: &str,
    records: &[FlowRecord],
    packets: u64,
) -> Vec<Value> {
    let directory = TempDir::new(&format!("nfacctd-{name}-{}", format.as_str()));
    let port = free_port();
    let printed = directory.file("flows.json");
    let configuration = directory.file("nfacctd.conf");
    std::fs::write(
        &configuration,
        format!(
            "daemonize: false\n\
             nfacctd_ip: 127.0.0.1\n\
             nfacctd_port: {port}\n\
             nfacctd_as: netflow\n\
             timestamps_since_epoch: true\n\
             plugins: print[test]\n\
             plugin_pipe_zmq: true\n\
             print_output[test]: json\n\
             print_refresh_time[test]: 1\n\
             print_output_file[test]: {}\n\
             print_output_file_append[test]: true\n\
             aggregate[test]: {aggregate}\n\
             {settings}",
            printed.display()
        ),
    )
    .unwrap();
    let mut nfacctd = program("nfacctd", "pmacct");
    nfacctd.arg("-f").arg(&configuration);
    let collector = Collector::start(&mut nfacctd, port, directory.file("log"));
    // Without ZeroMQ its plugin counts a record twice now and then on a busy machine. What arrives before the plugin is
    // ready is lost, and it has no better way to say that it is: it is connected a moment after the first purge.
    let deadline = Instant::now() + Duration::from_secs(20);
    while collector.log().matches("Purging cache - START").count() < 2 {
        assert!(Instant::now() < deadline, "nfacctd does not start: {}", collector.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut process = udp_process(&settings_of(format), collector.address());
    process.set_context(Arc::new(context()));
    process.export(NOW, records);
    process.close(NOW);

    loop {
        let text = std::fs::read_to_string(&printed).unwrap_or_default();
        // A line that is being written is not read yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let flows: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if flows.iter().filter_map(|flow| flow["packets"].as_u64()).sum::<u64>() >= packets {
            return flows;
        }
        assert!(Instant::now() < deadline, "nfacctd printed only {text:?}: {}", collector.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn settings_of(format: Format) -> ExportSettings {
    ExportSettings { format, field_groups: all_groups(format), ..ExportSettings::default() }
}

/// Prefix lengths, neighbours, next hops, and pmacct's own elements.
fn nfacctd_prints_what_is_known_of_routes(format: Format) {
    let records = enriched_flows();
    let packets = records.iter().map(|record| record.packet_delta_count).sum();
    let aggregate = "src_host,dst_host,src_mask,dst_mask,peer_src_as,peer_dst_as,peer_dst_ip,tag,tag2,label,\
                     std_comm,src_std_comm,src_mac,dst_mac";
    let settings = "nfacctd_net: netflow\n";
    let printed = collect_by(aggregate, "routes", format, settings, &records, packets);
    assert_eq!(printed.len(), records.len());
    for record in &records {
        let is_of_record = |flow: &&Value| {
            flow["ip_src"] == record.source_address.to_string()
                && flow["peer_as_src"] == record.bgp_prev_adjacent_as_number
        };
        let flow = printed.iter().find(is_of_record).unwrap_or_else(|| panic!("no {record:?}: {printed:#?}"));
        let is = |key: &str, value: Value| assert_eq!(flow[key], value, "{key} of {flow:#}");
        is("mask_src", record.source_prefix_length.into());
        is("mask_dst", record.destination_prefix_length.into());
        is("peer_as_dst", record.bgp_next_adjacent_as_number.into());
        // It looks for a next hop of the family of the flow.
        let next_hop = record.bgp_next_hop.filter(|hop| hop.is_ipv6() == record.source_address.is_ipv6());
        is("peer_ip_dst", next_hop.map_or_else(String::new, |address| address.to_string()).into());
        is("mac_src", mac(record.source_mac_address).into());
        is("mac_dst", mac(record.destination_mac_address).into());
        // It takes communities from BGP sessions only.
        is("comms", "".into());
        let [tag, tag2] = if format == Format::Ipfix { [record.tag, record.tag2] } else { [0, 0] };
        // It prints them as signed numbers.
        is("tag", tag.cast_signed().into());
        is("tag2", tag2.cast_signed().into());
        let label = record.label.as_deref().filter(|_| format == Format::Ipfix);
        is("label", label.unwrap_or_default().into());
    }
}

#[test]
fn ipfix_routes() {
    nfacctd_prints_what_is_known_of_routes(Format::Ipfix);
}

#[test]
fn netflow_v9_routes() {
    nfacctd_prints_what_is_known_of_routes(Format::NetflowV9);
}

fn assert_flow(flow: &Value, record: &FlowRecord, format: Format) {
    let is = |key: &str, value: Value| assert_eq!(flow[key], value, "{key} of {flow:#}");
    let is_time = |key: &str, milliseconds: u64| {
        let printed = flow[key].as_str().unwrap();
        if format == Format::NetflowV5 {
            // It leaves out the milliseconds of the header and of the flow's age.
            let seconds: f64 = printed.parse().unwrap();
            assert!((seconds - milliseconds as f64 / 1000.0).abs() < 1.0, "{key} of {flow:#}");
        } else if format == Format::NetflowV9 {
            // It takes FIRST_SWITCHED and LAST_SWITCHED before all others, and leaves out the milliseconds of the age.
            assert_eq!(printed, format!("{}.000000", milliseconds.div_ceil(1000)));
        } else {
            assert_eq!(printed, format!("{}.{:03}000", milliseconds / 1000, milliseconds % 1000));
        }
    };
    is("ip_src", record.source_address.to_string().into());
    is("ip_dst", record.destination_address.to_string().into());
    is("port_src", record.source_port.into());
    is("port_dst", record.destination_port.into());
    is("tos", record.ip_class_of_service.into());
    is("tcp_flags", record.tcp_control_bits.to_string().into());
    is("iface_in", record.ingress_interface.into());
    is("iface_out", record.egress_interface.into());
    is("as_src", record.bgp_source_as_number.into());
    is("as_dst", record.bgp_destination_as_number.into());
    is("mpls_label_top", record.mpls_top_label.unwrap_or(0).into());
    is_time("timestamp_start", record.flow_start_milliseconds);
    is_time("timestamp_end", record.flow_end_milliseconds);
    let protocol = match record.protocol_identifier {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        _ => "ipv6-icmp",
    };
    is("ip_proto", protocol.into());
    // nfacctd takes the VLAN of egress flows from postVlanId (59) only, which is not exported.
    if record.flow_direction == FlowDirection::Ingress {
        is("vlan", record.vlan_id.into());
    }
}

/// So many octets that NetFlow v5 needs a few records for them, but not so many that nfacctd's own queue is full.
fn in_few_parts(record: &FlowRecord) -> Option<FlowRecord> {
    let octet_delta_count = record.octet_delta_count.min(20_000_000_000);
    as_in_netflow_v5(&FlowRecord { octet_delta_count, ..record.clone() })
}

fn nfacctd_prints_what_was_sent(format: Format) {
    let version = match format {
        Format::Ipfix => 10,
        Format::NetflowV9 => 9,
        Format::NetflowV5 => 5,
    };
    let is_v5 = format == Format::NetflowV5;
    let records: Vec<FlowRecord> =
        if is_v5 { flows().iter().filter_map(in_few_parts).collect() } else { flows() };
    // As it comes, with the rate beside it; and multiplied by nfacctd, once.
    for (name, settings) in [("plain", ""), ("renormalized", "nfacctd_renormalize: true\n")] {
        let scale =
            |record: &FlowRecord| if settings.is_empty() { 1 } else { record.sampling_interval.into() };
        let packets = records.iter().map(|record| record.packet_delta_count * scale(record)).sum();
        let printed = collect(name, format, settings, &records, packets);
        let mut seen = 0;
        for record in &records {
            let is_of_record = |flow: &&Value| {
                flow["ip_src"] == record.source_address.to_string()
                    && flow["port_dst"] == record.destination_port
            };
            // One, but for the parts of large counters, if nfacctd printed in between.
            let lines: Vec<&Value> = printed.iter().filter(is_of_record).collect();
            assert!(lines.len() == 1 || (is_v5 && record.octet_delta_count > u32::MAX.into()), "{lines:#?}");
            seen += lines.len();
            for flow in &lines {
                assert_flow(flow, record, format);
                let is_v5_unsampled = is_v5 && record.sampling_interval == 1;
                let rate = u64::from(record.sampling_interval) / scale(record);
                let rate = if is_v5_unsampled { 0 } else { rate };
                assert_eq!(flow["sampling_rate"], rate, "{flow:#}");
                assert_eq!(flow["export_proto_version"], version, "{flow:#}");
            }
            let sum = |key: &str| lines.iter().map(|flow| flow[key].as_u64().unwrap()).sum::<u64>();
            assert_eq!(sum("packets"), record.packet_delta_count * scale(record), "{lines:#?}");
            assert_eq!(sum("bytes"), record.octet_delta_count * scale(record), "{lines:#?}");
        }
        assert_eq!(seen, printed.len());
    }
}

#[test]
fn ipfix() {
    nfacctd_prints_what_was_sent(Format::Ipfix);
}

#[test]
fn netflow_v9() {
    nfacctd_prints_what_was_sent(Format::NetflowV9);
}

#[test]
fn netflow_v5() {
    nfacctd_prints_what_was_sent(Format::NetflowV5);
}
