//! `encode`: how many flow records a core turns into messages, and into datagrams.

use std::hint::black_box;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use anyhow::{Context as _, Result, ensure};
use pathflow_exporter::encode::{Encoder, Message};
use pathflow_exporter::{
    ExportSettings, ExportTime, ExportingProcess, FlowDirection, FlowEndReason, FlowRecord, Format,
    ObservationContext, Transport, Udp, UdpSettings,
};
use pathflow_perf::cpu;
use pathflow_perf::netns::Namespace;
use rustix::net::sockopt;
use serde::Serialize;

use crate::Common;
use crate::report::{Report, Spread, met};

/// Records of one batch, as many as the flow cache hands over at once.
const BATCH: u32 = 1024;
/// Batches of one run of the encoder.
const ENCODED_BATCHES: u32 = 10_000;
/// Batches of one run with a socket.
const SENT_BATCHES: u32 = 2000;
/// What a message has room for on an Ethernet with IPv4.
const BUDGET: usize = 1472;
/// Wanted of the encoder, million records a second.
const TARGET: f64 = 50.0;
const NOW: ExportTime =
    ExportTime { unix_milliseconds: 1_795_246_800_123, monotonic: Duration::from_hours(1) };

/// One measured number.
#[derive(Serialize)]
struct Row {
    /// `encoder`, or `udp`: the Exporting Process with a socket.
    what: &'static str,
    format: &'static str,
    family: &'static str,
    million_records_per_second: Spread,
    /// Allocations per record, of the first run after buffers have their size.
    allocations_per_record: f64,
    /// Octets of messages per record, headers and templates included.
    octets_per_record: f64,
    /// Share of datagrams that the receiver read; the others had no room in its socket.
    received: Option<f64>,
}

pub(crate) fn run(common: &Common, report: &mut Report) -> Result<()> {
    report.heading(
        "encode",
        &format!(
            "{} runs; batches of {BATCH} records, messages of {BUDGET} octets; target of the encoder \
             {TARGET} M/s and no allocation; udp: ExportingProcess over loopback, a thread on another CPU \
             reads\n\n{:<8} {:<10} {:<5} {:>26} {:>8} {:>8} {:>9} {:>7}",
            common.runs,
            "what",
            "format",
            "ip",
            "M records/s min/med/max",
            "allocs",
            "octets",
            "received",
            "target"
        ),
    );
    for format in [Format::Ipfix, Format::NetflowV9, Format::NetflowV5] {
        for (family, records) in [("ipv4", records(false)), ("ipv6", records(true))] {
            if format == Format::NetflowV5 && family == "ipv6" {
                continue;
            }
            let row = encode(format, family, &records, common)?;
            report.row(&line(&row), &row)?;
        }
    }
    for format in [Format::Ipfix, Format::NetflowV9, Format::NetflowV5] {
        let row = send(format, &records(false), common)?;
        report.row(&line(&row), &row)?;
    }
    Ok(())
}

fn line(row: &Row) -> String {
    let rate = row.million_records_per_second;
    let target = match row.what {
        "encoder" => met(rate.median >= TARGET && row.allocations_per_record == 0.0),
        _ => met(row.allocations_per_record == 0.0),
    };
    format!(
        "{:<8} {:<10} {:<5} {:>26} {:>8} {:>8.1} {:>9} {:>7}",
        row.what,
        row.format,
        row.family,
        rate.text(2),
        row.allocations_per_record,
        row.octets_per_record,
        row.received.map_or_else(String::new, |share| format!("{:.1} %", share * 100.0)),
        target
    )
}

fn encode(format: Format, family: &'static str, records: &[FlowRecord], common: &Common) -> Result<Row> {
    let mut encoder = Encoder::new(format, 1);
    let mut message = Message::new();
    // Storage gets its size, and the first message has the templates.
    encoder.begin(&mut message, BUDGET)?;
    let context = ObservationContext::default();
    encoder.push_preamble(&mut message, &context, 0..encoder.preamble(&context).all);
    let mut octets = 0;
    let mut rates = Vec::new();
    let mut allocations = None;
    for _ in 0..common.runs {
        octets = 0;
        let mut elapsed = Duration::ZERO;
        let allocated = measure(|| {
            let start = Instant::now();
            for _ in 0..ENCODED_BATCHES {
                octets += encode_batch(&mut encoder, &mut message, black_box(records));
            }
            elapsed = start.elapsed();
        });
        allocations.get_or_insert(allocated.count_total);
        rates.push(f64::from(ENCODED_BATCHES) * f64::from(BATCH) / elapsed.as_secs_f64() / 1e6);
    }
    let count = f64::from(ENCODED_BATCHES) * f64::from(BATCH);
    Ok(Row {
        what: "encoder",
        format: format.as_str(),
        family,
        million_records_per_second: Spread::of(rates),
        allocations_per_record: allocations.unwrap_or(0) as f64 / count,
        octets_per_record: octets as f64 / count,
        received: None,
    })
}

/// Encodes `records` into full messages; the octets of those that are complete.
fn encode_batch(encoder: &mut Encoder, message: &mut Message, records: &[FlowRecord]) -> u64 {
    let mut octets = 0;
    for record in records {
        if encoder.push(message, record).is_err() {
            encoder.finish(message, NOW);
            encoder.commit(message);
            octets += black_box(message.octets()).len() as u64;
            // There is room: an empty message takes the record that the full one did not.
            let _ = encoder.begin(message, BUDGET);
            let _ = encoder.push(message, record);
        }
    }
    octets
}

fn send(format: Format, records: &[FlowRecord], common: &Common) -> Result<Row> {
    let namespace = Namespace::new("pathflow-perf")?;
    namespace.set_up("lo")?;
    let receiver = namespace.run(|| UdpSocket::bind("127.0.0.1:0"))??;
    receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
    sockopt::set_socket_recv_buffer_size(&receiver, 4 << 20)?;
    let collector = receiver.local_addr()?;
    let udp = namespace.run(|| Udp::connect(&UdpSettings::new(collector)))??;
    let settings = ExportSettings { format, ..ExportSettings::default() };
    let mut process = ExportingProcess::new(&settings, Transport::Udp(udp))?;
    // Storage gets its size.
    process.export(NOW, records);

    let stop = AtomicBool::new(false);
    let mut rates = Vec::new();
    let mut allocations = None;
    let read = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // On whatever CPU is free, but not on this one.
            cpu::avoid(common.cpu)?;
            read(&receiver, &stop)
        });
        for _ in 0..common.runs {
            let mut elapsed = Duration::ZERO;
            let allocated = measure(|| {
                let start = Instant::now();
                for _ in 0..SENT_BATCHES {
                    process.export(NOW, black_box(records));
                }
                elapsed = start.elapsed();
            });
            allocations.get_or_insert(allocated.count_total);
            rates.push(f64::from(SENT_BATCHES) * f64::from(BATCH) / elapsed.as_secs_f64() / 1e6);
        }
        process.close(NOW);
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
    .context("receiver")?;
    let delivered = process.account().delivered.records;
    let all = (u64::from(SENT_BATCHES) * u64::from(common.runs) + 1) * u64::from(BATCH);
    ensure!(delivered == all, "{delivered} of {all} records were sent");
    let counts = process.counts();
    Ok(Row {
        what: "udp",
        format: format.as_str(),
        family: "ipv4",
        million_records_per_second: Spread::of(rates),
        allocations_per_record: allocations.unwrap_or(0) as f64
            / (f64::from(SENT_BATCHES) * f64::from(BATCH)),
        octets_per_record: counts.octets as f64 / all as f64,
        received: Some(read as f64 / counts.messages as f64),
    })
}

/// Reads datagrams until there are no more and `stop` is set; how many.
fn read(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<u64> {
    let mut buffer = [0; 2048];
    let mut datagrams = 0;
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        match socket.recv(&mut buffer) {
            Ok(_) => datagrams += 1,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if stopping {
                    return Ok(datagrams);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn records(is_ipv6: bool) -> Vec<FlowRecord> {
    (0..BATCH)
        .map(|number| {
            let (source_address, destination_address) = if is_ipv6 {
                (
                    IpAddr::from([0x2001, 2, 0, 1, 0, 0, 0, number as u16]),
                    IpAddr::from([0x2001, 2, 0, 2, 0, 0, 0, 1]),
                )
            } else {
                (IpAddr::from((0x0a00_0000 + number).to_be_bytes()), IpAddr::from([198, 18, 0, 1]))
            };
            FlowRecord {
                source_address,
                destination_address,
                source_port: 1024,
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
                packet_delta_count: u64::from(number) + 1,
                octet_delta_count: u64::from(number) * 1000,
                flow_start_milliseconds: 1_795_246_790_001,
                flow_end_milliseconds: 1_795_246_799_999,
                flow_end_reason: FlowEndReason::EndOfFlow,
                bgp_source_as_number: 64_500,
                bgp_destination_as_number: 64_501,
                source_prefix_length: 24,
                destination_prefix_length: 24,
                bgp_next_hop: Some(IpAddr::from([203, 0, 113, 1])),
                ip_next_hop: None,
                mpls_top_label: None,
                layer2_segment_id: 0,
                sampling_interval: 1,
                selector_id: 0,
            }
        })
        .collect()
}
