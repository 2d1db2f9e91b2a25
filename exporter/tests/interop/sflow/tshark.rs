//! Wireshark's dissector reads every value and finds nothing malformed.

use std::net::IpAddr;

use pathflow_exporter::sflow::{HeaderProtocol, InterfaceCounters, SampledInterface};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{Sample, any_counters, any_sample, counters, datagrams, frame, full_sample, settings};
use crate::support::{NOW, TempDir, output, program};
use crate::tshark::pcap;

const PORT: u16 = 6343;

/// What tshark says of each datagram: its lines without indentation.
fn dissect(name: &str, datagrams: &[Vec<u8>]) -> Vec<Vec<String>> {
    let directory = TempDir::new(&format!("tshark-sflow-{name}"));
    let capture = directory.file("sflow.pcap");
    std::fs::write(&capture, pcap(datagrams, PORT)).unwrap();
    let mut tshark = program("tshark", "tshark");
    tshark.arg("-r").arg(&capture).args(["-V", "-O", "sflow", "-d", &format!("udp.port=={PORT},sflow")]);
    let text = output(&mut tshark);
    assert!(!text.contains("Malformed") && !text.contains("Unknown sample"), "{text}");
    let packets: Vec<Vec<String>> = text
        .split("InMon sFlow\n")
        .skip(1)
        .map(|packet| packet.lines().map(|line| line.trim().to_owned()).collect())
        .collect();
    assert_eq!(packets.len(), datagrams.len());
    packets
}

/// Each of the lines that are expected is there, in this order.
fn assert_lines(found: &[String], expected: &[String]) {
    let mut rest = found.iter();
    for line in expected {
        assert!(rest.any(|found| found.ends_with(line)), "no line {line:?} in {found:#?}");
    }
}

fn next_hop(address: Option<IpAddr>) -> Option<String> {
    address.map(|address| format!("Next hop: {address}"))
}

fn flow_sample_lines(sample: &Sample) -> Vec<String> {
    let flow = &sample.flow;
    let interface = |interface| match interface {
        SampledInterface::Unknown => 0,
        SampledInterface::Internal => 0x3FFF_FFFF,
        SampledInterface::Index(index) => index,
    };
    let records = 1
        + u32::from(flow.switch.is_some())
        + u32::from(flow.router.is_some())
        + u32::from(sample.gateway.is_some());
    let mut lines = vec![
        "Sequence number: 1".to_owned(),
        format!("Sampling rate: 1 out of {} packets", flow.sampling_rate),
        format!("Sample pool: {} total packets", flow.sample_pool as u32),
        format!("Dropped packets: {}", flow.drops as u32),
        format!("Input interface (ifIndex): {}", interface(flow.input)),
        format!("Output interface: 0x{:08x}", interface(flow.output)),
        format!("Flow record: {records}"),
        "Header protocol: Ethernet (1)".to_owned(),
        format!("Frame Length: {}", flow.frame_length + 4),
        "Payload stripped: 4".to_owned(),
        format!("Sampled header length: {}", sample.header.len()),
    ];
    if flow.source < 1 << 24 {
        lines.insert(1, format!("= Index: {}", flow.source));
    }
    if let Some(switch) = &flow.switch {
        lines.extend([
            format!("Incoming 802.1Q VLAN: {}", switch.source_vlan),
            format!("Incoming 802.1p priority: {}", switch.source_priority),
            format!("Outgoing 802.1Q VLAN: {}", switch.destination_vlan),
            format!("Outgoing 802.1p priority: {}", switch.destination_priority),
        ]);
    }
    if let Some(router) = &flow.router {
        lines.extend(next_hop(router.next_hop));
        lines.push(format!("Next hop source mask: {}", router.source_prefix_length));
        lines.push(format!("Next hop destination mask: {}", router.destination_prefix_length));
    }
    if let Some(gateway) = &sample.gateway {
        lines.extend(next_hop(gateway.record.next_hop));
        lines.extend([
            format!("AS Router: {}", gateway.record.router_as),
            format!("AS Source: {}", gateway.record.source_as),
            format!("AS Peer: {}", gateway.record.source_peer_as),
            format!("AS Destinations: {}", gateway.path.len()),
        ]);
        for (is_set, numbers) in &gateway.path {
            let kind = if *is_set { "Set" } else { "Sequence" };
            lines.push(format!("AS {kind}, ({} entries)", numbers.len()));
            lines.extend(numbers.iter().map(|number| format!("AS Destination: {number}")));
        }
        lines.push(format!("Gateway Communities: {}", gateway.communities.len()));
        lines.extend(gateway.communities.iter().map(|community| format!("AS Destination: {community}")));
        lines.push(format!("localpref: {}", gateway.record.local_preference));
    }
    lines
}

fn counter_sample_lines(counters: &InterfaceCounters) -> Vec<String> {
    let wide = |value: Option<u64>| value.unwrap_or(u64::MAX);
    let narrow = |value: Option<u64>| value.map_or(u32::MAX, |value| value as u32);
    let state = |is_up| if is_up { "Up" } else { "Down" };
    let mut lines = vec![
        "Sequence number: 1".to_owned(),
        format!("Interface index: {}", counters.index),
        format!("Interface Type: {}", counters.interface_type),
        format!("Interface Speed: {}", counters.speed),
        format!("IfAdminStatus: {}", state(counters.status.is_admin_up)),
        format!("IfOperStatus: {}", state(counters.status.is_operational)),
        format!("Input Octets: {}", wide(counters.in_octets)),
    ];
    for (name, value) in [
        ("Input Packets", counters.in_unicast_packets),
        ("Input Multicast Packets", counters.in_multicast_packets),
        ("Input Broadcast Packets", counters.in_broadcast_packets),
        ("Input Discarded Packets", counters.in_discards),
        ("Input Errors", counters.in_errors),
        ("Input Unknown Protocol Packets", counters.in_unknown_protocols),
    ] {
        lines.push(format!("{name}: {}", narrow(value)));
    }
    lines.push(format!("Output Octets: {}", wide(counters.out_octets)));
    for (name, value) in [
        ("Output Packets", counters.out_unicast_packets),
        ("Output Multicast Packets", counters.out_multicast_packets),
        ("Output Broadcast Packets", counters.out_broadcast_packets),
        ("Output Discarded Packets", counters.out_discards),
        ("Output Errors", counters.out_errors),
    ] {
        lines.push(format!("{name}: {}", narrow(value)));
    }
    lines.push(format!("Promiscuous Mode: {}", u32::from(counters.is_promiscuous)));
    lines
}

#[test]
fn reads_every_field() {
    let sent = datagrams(settings(), |agent| {
        full_sample().export(agent);
        agent.counter_sample(NOW, &counters());
    });
    let found = dissect("fields", &sent);
    let mut expected: Vec<String> = [
        "Datagram version: 5",
        "Agent address: 192.0.2.254",
        "Sub-agent ID: 3",
        "Sequence number: 1",
        "SysUptime: 1 hour (3600000ms)",
        "NumSamples: 2",
    ]
    .map(str::to_owned)
    .to_vec();
    expected.extend(flow_sample_lines(&full_sample()));
    expected.push("Interface index: 9".to_owned());
    expected.push("Interface Direction: Full-Duplex (1)".to_owned());
    assert_lines(&found[0], &expected);
    assert_lines(&found[0], &counter_sample_lines(&counters()));
}

#[test]
fn reads_any_sample() {
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mut samples = Vec::new();
    let mut sent = Vec::new();
    for number in 0..200_u16 {
        let mut sample = any_sample().new_tree(&mut runner).unwrap().current();
        // A header that can be dissected, of which tshark does not say that it is malformed.
        let captured = 42 + usize::from(number) % 90;
        sample.header = frame([192, 0, 2, number as u8], number, 1000, captured);
        sample.flow.protocol = HeaderProtocol::Ethernet;
        // Formats of interfaces beyond the compact ones are shown in other words.
        let compact = |interface| match interface {
            SampledInterface::Index(index) => SampledInterface::Index(index & 0xff_ffff),
            other => other,
        };
        sample.flow.input = compact(sample.flow.input);
        sample.flow.output = compact(sample.flow.output);
        sample.flow.source &= 0xff_ffff;
        sent.extend(datagrams(settings(), |agent| sample.export(agent)));
        samples.push(flow_sample_lines(&sample));
    }
    for _ in 0..50 {
        let counters = any_counters().new_tree(&mut runner).unwrap().current();
        sent.extend(datagrams(settings(), |agent| agent.counter_sample(NOW, &counters)));
        samples.push(counter_sample_lines(&counters));
    }
    for (found, expected) in dissect("any", &sent).iter().zip(&samples) {
        assert_lines(found, expected);
    }
}

#[test]
fn reads_samples_of_large_interface_indexes() {
    let mut sample = full_sample();
    sample.flow.source = 1 << 24;
    sample.flow.input = SampledInterface::Index(1 << 24);
    sample.flow.output = SampledInterface::Internal;
    let sent = datagrams(settings(), |agent| {
        sample.export(agent);
        agent.counter_sample(NOW, &InterfaceCounters { index: 1 << 24, ..counters() });
    });
    let expected = [
        "Expanded flow sample, seq 1",
        "Sequence number: 1",
        "Source ID type: 0",
        "Source ID index: 16777216",
        "Sampling rate: 1 out of 1000 packets",
        "Sample pool: 123456 total packets",
        "Dropped packets: 3",
        "Input interface format: 0",
        "Input interface value: 16777216",
        "Output interface value: 4294967295",
        "Frame Length: 1254",
        "Expanded counters sample, seq 1",
        "Source ID index: 16777216",
        "Interface index: 16777216",
    ];
    assert_lines(&dissect("expanded", &sent)[0], &expected.map(str::to_owned));
}
