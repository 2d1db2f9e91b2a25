//! Exporting allocates nothing once buffers have their size. (Here the allocator of the test counts.)

#![forbid(unsafe_code)]

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use pathflow_exporter::encode::{Encoder, Message};
use pathflow_exporter::sflow::{
    Agent, AgentSettings, AsPathSegment, ExtendedGateway, ExtendedRouter, ExtendedSwitch, FlowSample,
    HeaderProtocol, InterfaceCounters, SampledInterface,
};
use pathflow_exporter::{
    ExportSettings, ExportTime, ExportingProcess, FlowDirection, FlowPrinter, FlowRecord, Format,
    InterfaceInfo, InterfaceNames, LineStyle, LossReason, ObservationContext, Selector, SelectorAlgorithm,
    Stdout, Transport, Udp, UdpSettings,
};

const NOW: ExportTime =
    ExportTime { unix_milliseconds: 1_795_246_800_123, monotonic: Duration::from_hours(1) };

fn records() -> Vec<FlowRecord> {
    (0..1000_u32)
        .map(|index| {
            let (source_address, destination_address) = if index % 5 == 0 {
                (IpAddr::from([index as u16; 8]), IpAddr::from([7; 8]))
            } else {
                (IpAddr::from(index.to_be_bytes()), IpAddr::from([192, 0, 2, 1]))
            };
            FlowRecord {
                source_port: index as u16,
                destination_port: 443,
                protocol_identifier: 6,
                packet_delta_count: u64::from(index) + 1,
                octet_delta_count: u64::from(index) * 1000,
                flow_start_milliseconds: 1_795_246_790_001,
                flow_end_milliseconds: 1_795_246_799_999,
                bgp_next_hop: Some(IpAddr::from([203, 0, 113, 1])),
                ip_next_hop: Some(IpAddr::from([203, 0, 113, 1])),
                mpls_top_label: (index % 7 == 0).then_some(index),
                layer2_segment_id: u32::from(index % 11 == 0) * index,
                sampling_interval: 10,
                selector_id: (index % 3) as u16,
                ..FlowRecord::between(source_address, destination_address)
            }
        })
        .collect()
}

fn context(interfaces: u32) -> ObservationContext {
    let interface =
        |index| InterfaceInfo { index, name: format!("eth{index}"), description: String::new(), vlan_id: 0 };
    let selector = Selector {
        id: 1,
        interface: 1,
        direction: FlowDirection::Ingress,
        algorithm: SelectorAlgorithm::Random,
        interval: 10,
    };
    ObservationContext { interfaces: (1..=interfaces).map(interface).collect(), selectors: vec![selector] }
}

#[test]
fn encoder() {
    let records = records();
    for format in [Format::Ipfix, Format::NetflowV9, Format::NetflowV5] {
        let mut encoder = Encoder::new(format, 1);
        let mut message = Message::new();
        let context = context(1);
        let parts = encoder.preamble(&context).all;
        let mut messages = 0;
        let mut encode_all = || {
            // Room for all templates.
            encoder.begin(&mut message, 3000).unwrap();
            assert_eq!(encoder.push_preamble(&mut message, &context, 0..parts), parts);
            encoder.set_context(&context);
            for record in &records {
                let Ok(fit) = encoder.fit(record, NOW) else { continue };
                let record = fit.part(record, 0);
                if encoder.push(&mut message, &record).is_err() {
                    encoder.finish(&mut message, NOW);
                    encoder.commit(&message);
                    messages += 1;
                    encoder.begin(&mut message, 1472).unwrap();
                    encoder.push(&mut message, &record).unwrap();
                }
            }
        };
        encode_all();
        assert_eq!(measure(encode_all).count_total, 0, "{format:?}");
        assert!(messages > 25);
    }
}

#[test]
fn exporting_process() {
    let records = records();
    // Nobody reads: what does not fit the socket of the receiver is dropped there.
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    for format in [Format::Ipfix, Format::NetflowV9, Format::NetflowV5] {
        let udp = Udp::connect(&UdpSettings::new(collector.local_addr().unwrap())).unwrap();
        let settings = ExportSettings { format, ..ExportSettings::default() };
        let mut process = ExportingProcess::new(&settings, Transport::Udp(udp)).unwrap();
        // More than one message of options data.
        let contexts = [Arc::new(context(100)), Arc::new(context(101))];
        let mut export = || {
            for context in &contexts {
                process.set_context(Arc::clone(context));
                process.export(NOW, &records);
                process.tick(NOW);
            }
        };
        export();
        assert_eq!(measure(export).count_total, 0, "{format:?}");
        let is_v5 = format == Format::NetflowV5;
        let ipv6 = process.account().lost(LossReason::FormatCannotCarryIpv6).records;
        assert_eq!(ipv6, if is_v5 { 800 } else { 0 });
        assert_eq!(process.account().delivered.records + process.account().in_flight.records, 4000 - ipv6);
        assert_eq!(process.counts().options_records, if is_v5 { 0 } else { 2 * (100 + 101 + 2) });
    }
}

#[test]
fn flow_printer() {
    let records = records();
    let names: InterfaceNames = [(1, "eth0".to_owned())].into_iter().collect();
    for style in [LineStyle::Json, LineStyle::Text] {
        let output = Stdout::from_writer(std::io::sink());
        let mut printer = FlowPrinter::new(style, output, Arc::new(names.clone()));
        let mut export = || {
            printer.export(&records);
            printer.flush();
        };
        export();
        assert_eq!(measure(export).count_total, 0, "{style:?}");
        assert_eq!(printer.account().delivered.records, 2000);
    }
}

#[test]
fn sflow_agent() {
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = Udp::connect(&UdpSettings::new(collector.local_addr().unwrap())).unwrap();
    let settings = AgentSettings::new([192, 0, 2, 254].into());
    let mut agent = Agent::new(settings, Transport::Udp(udp)).unwrap();
    let path = [AsPathSegment::Sequence(&[64_500, 64_501, 64_502])];
    let gateway =
        ExtendedGateway { destination_as_path: &path, communities: &[1, 2, 3], ..ExtendedGateway::default() };
    let sample = |number: u32| FlowSample {
        source: 1 + number % 8,
        sampling_rate: 1000,
        sample_pool: u64::from(number) * 1000,
        drops: 0,
        input: SampledInterface::Index(1 + number % 8),
        output: SampledInterface::Unknown,
        protocol: HeaderProtocol::Ethernet,
        frame_length: 1514,
        header: &[0x5a; 128],
        switch: Some(ExtendedSwitch::default()),
        router: Some(ExtendedRouter::default()),
        gateway: Some(gateway),
    };
    let mut export = || {
        for number in 0..2000 {
            agent.flow_sample(NOW, &sample(number));
            if number % 100 == 0 {
                agent.counter_sample(NOW, &InterfaceCounters { index: 1, ..InterfaceCounters::default() });
            }
        }
        agent.tick(NOW);
    };
    export();
    assert_eq!(measure(export).count_total, 0);
    assert_eq!(agent.account().delivered.flow_samples + agent.account().in_flight.flow_samples, 4000);
    assert!(agent.counts().datagrams > 800);
}
