//! Exporting allocates nothing once buffers have their size. (Here the allocator of the test counts.)

#![forbid(unsafe_code)]

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use pathflow_exporter::encode::{Encoder, Message, Templates};
use pathflow_exporter::{
    ExportSettings, ExportTime, ExportingProcess, FlowDirection, FlowEndReason, FlowPrinter, FlowRecord,
    Format, InterfaceNames, LineStyle, Stdout, Transport, Udp, UdpSettings,
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
                source_address,
                destination_address,
                source_port: index as u16,
                destination_port: 443,
                protocol_identifier: 6,
                ip_class_of_service: 0,
                tcp_control_bits: 0x1b,
                vlan_id: 0,
                dot1q_customer_vlan_id: 0,
                ingress_interface: 1,
                egress_interface: 2,
                flow_direction: FlowDirection::Ingress,
                icmp_type_code: 0,
                packet_delta_count: u64::from(index) + 1,
                octet_delta_count: u64::from(index) * 1000,
                flow_start_milliseconds: 1_795_246_790_001,
                flow_end_milliseconds: 1_795_246_799_999,
                flow_end_reason: FlowEndReason::EndOfFlow,
                bgp_source_as_number: 64_500,
                bgp_destination_as_number: 64_501,
                source_prefix_length: 24,
                destination_prefix_length: 24,
                bgp_next_hop: Some(IpAddr::from([203, 0, 113, 1])),
            }
        })
        .collect()
}

#[test]
fn encoder() {
    let records = records();
    for format in [Format::Ipfix, Format::NetflowV9] {
        let mut encoder = Encoder::new(format, 1);
        let mut message = Message::new();
        let mut messages = 0;
        let mut encode_all = || {
            encoder.begin(&mut message, 1472, Templates::Include).unwrap();
            for record in &records {
                if encoder.push(&mut message, record).is_err() {
                    encoder.finish(&mut message, NOW);
                    encoder.commit(&message);
                    messages += 1;
                    encoder.begin(&mut message, 1472, Templates::Omit).unwrap();
                    encoder.push(&mut message, record).unwrap();
                }
            }
        };
        encode_all();
        assert_eq!(measure(encode_all).count_total, 0, "{format:?}");
        assert!(messages > 80);
    }
}

#[test]
fn exporting_process() {
    let records = records();
    // Nobody reads: what does not fit the socket of the receiver is dropped there.
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    for format in [Format::Ipfix, Format::NetflowV9] {
        let udp = Udp::connect(&UdpSettings::new(collector.local_addr().unwrap())).unwrap();
        let settings = ExportSettings { format, ..ExportSettings::default() };
        let mut process = ExportingProcess::new(&settings, Transport::Udp(udp)).unwrap();
        let mut export = || {
            process.export(NOW, &records);
            process.tick(NOW);
        };
        export();
        assert_eq!(measure(export).count_total, 0, "{format:?}");
        assert_eq!(process.account().delivered.records + process.account().in_flight.records, 2000);
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
