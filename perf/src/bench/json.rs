//! `json`: how many rows of an aggregate a core turns into pmacct's JSON, beside `serde_json` with the same keys, and into
//! Avro.
//!
//! Rows are of a random flow each. They are written into a buffer that is handed on every thousand rows, as to a file.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use pathflow::aggregate::encode::{AvroEncoder, EncodeSettings, Format, FormatTable, RowEncoder, Style};
use pathflow::aggregate::{
    AggregateSettings, Aggregation, Bins, Key, Observed, Purge, Row, Spread as Counted, Value,
};
use pathflow_exporter::{BgpAttributes, BgpPathSegment, BgpPathSegmentKind, BgpRoute, FlowRecord};
use pathflow_perf::cpu;
use pathflow_perf::random::Random;
use serde::Serialize;

use crate::Common;
use crate::report::{Report, Spread, met};

/// Rows of one purge.
const ROWS: u32 = 16_384;
/// Purges of one run.
const PURGES: u32 = 12;
/// Rows that are handed on at once.
const PIECE: usize = 1024;
/// Wanted of rows of some 554 octets, million rows a second.
const TARGET: f64 = 3.0;
/// Routes that have most of the traffic.
const ROUTES: u32 = 256;
/// What a router sends to Kafka, and networks and route: rows have some 554 octets over IPv4.
const KEY: &str = "label src_as dst_as std_comm as_path local_pref med src_host src_net dst_host dst_net src_mask \
                   dst_mask src_port dst_port proto";
/// All that BGP and the router say, for rows of some 700 octets.
const LONG_KEY: &str = "label src_as dst_as std_comm as_path local_pref med peer_src_as peer_dst_as peer_dst_ip in_iface \
                        out_iface src_host src_net dst_host dst_net src_mask dst_mask src_port dst_port tcpflags proto \
                        tos";

/// One measured number.
#[derive(Serialize)]
struct Line {
    encoder: &'static str,
    rows: &'static str,
    family: &'static str,
    /// Of CPU time.
    million_rows_per_second: Spread,
    octets_per_row: f64,
    allocations_per_row: f64,
    target_met: Option<bool>,
}

/// What `serde_json` is given; texts of routes and times are ready.
#[derive(Serialize)]
struct Derived<'a> {
    event_type: &'a str,
    label: &'a str,
    as_src: u64,
    as_dst: u64,
    comms: &'a str,
    as_path: &'a str,
    local_pref: u64,
    med: u64,
    peer_as_src: u64,
    peer_as_dst: u64,
    peer_ip_dst: Option<IpAddr>,
    iface_in: u64,
    iface_out: u64,
    ip_src: Option<IpAddr>,
    net_src: Option<IpAddr>,
    ip_dst: Option<IpAddr>,
    net_dst: Option<IpAddr>,
    mask_src: u64,
    mask_dst: u64,
    port_src: u64,
    port_dst: u64,
    tcp_flags: &'a str,
    ip_proto: &'a str,
    tos: u64,
    stamp_inserted: &'a str,
    stamp_updated: &'a str,
    packets: u64,
    bytes: u64,
}

/// Rows that are measured.
struct Subject {
    rows: &'static str,
    key: &'static str,
    family: &'static str,
    routes: u32,
    has_target: bool,
}

const SUBJECTS: [Subject; 5] = [
    Subject { rows: "554", key: KEY, family: "ipv4", routes: ROUTES, has_target: true },
    Subject { rows: "554", key: KEY, family: "ipv6", routes: ROUTES, has_target: false },
    Subject { rows: "another route in each", key: KEY, family: "ipv4", routes: ROWS, has_target: false },
    Subject { rows: "long", key: LONG_KEY, family: "ipv4", routes: ROUTES, has_target: false },
    Subject { rows: "long", key: LONG_KEY, family: "ipv6", routes: ROUTES, has_target: false },
];

pub(crate) fn run(common: &Common, report: &mut Report) -> Result<()> {
    report.heading(
        "json",
        &format!(
            "{} runs of each; rates are of CPU time; target {TARGET} M/s of 554 octets\n\n{:<17} {:<22} {:<5} {:>26} \
             {:>8} {:>6} {:>8} {:>7}",
            common.runs,
            "encoder",
            "rows",
            "ip",
            "M rows/s min/med/max",
            "octets",
            "GB/s",
            "allocs",
            "target"
        ),
    );
    for subject in &SUBJECTS {
        let purge = purge(subject)?;
        for (encoder, format, style) in [
            ("pathflow", Format::Json, Style::Pmacct),
            ("pathflow, nested", Format::Json, Style::Pathflow),
            ("pathflow, CSV", Format::Csv, Style::Pmacct),
        ] {
            let settings = EncodeSettings::new(&FormatTable { style, ..FormatTable::default() }, true);
            let mut rows = RowEncoder::new(&settings, format, purge.primitives())?;
            rows.set_writer("default_kafka", true);
            measured(encoder, subject, common, report, &purge, |out, row| {
                rows.row(out, row, purge.updated());
            })?;
        }
        let settings = EncodeSettings::new(&FormatTable::default(), true);
        let mut rows = AvroEncoder::new(&settings, purge.primitives(), "default_kafka")?;
        measured("pathflow, Avro", subject, common, report, &purge, |out, row| {
            rows.row(out, row, purge.updated());
        })?;
        if subject.key == LONG_KEY {
            measured("serde_json", subject, common, report, &purge, |out, row| {
                // Writing to memory does not fail.
                let _ = serde_json::to_writer(out, &derived(row));
            })?;
        }
    }
    Ok(())
}

fn measured(
    encoder: &'static str,
    subject: &Subject,
    common: &Common,
    report: &mut Report,
    purge: &Purge,
    mut write: impl FnMut(&mut Vec<u8>, &Row<'_>),
) -> Result<()> {
    let mut out = Vec::new();
    let mut encode = || {
        let mut octets = 0;
        for (number, row) in purge.rows().enumerate() {
            if number % PIECE == 0 {
                octets += black_box(&out).len();
                out.clear();
            }
            write(&mut out, &row);
            out.push(b'\n');
        }
        octets + black_box(&out).len()
    };
    // Storage gets its size.
    encode();
    let mut octets = 0;
    let allocations = allocation_counter::measure(|| octets = encode()).count_total;
    let mut rates = Vec::new();
    for _ in 0..common.runs {
        let start = cpu::thread_time();
        (0..PURGES).for_each(|_| _ = encode());
        let elapsed = cpu::thread_time().saturating_sub(start).as_secs_f64();
        rates.push(f64::from(PURGES) * purge.len() as f64 / elapsed / 1e6);
    }
    let million_rows_per_second = Spread::of(rates);
    let line = Line {
        encoder,
        rows: subject.rows,
        family: subject.family,
        octets_per_row: octets as f64 / purge.len() as f64,
        allocations_per_row: allocations as f64 / purge.len() as f64,
        target_met: (subject.has_target && encoder == "pathflow")
            .then_some(million_rows_per_second.median >= TARGET),
        million_rows_per_second,
    };
    let rate = line.million_rows_per_second;
    let text = format!(
        "{:<17} {:<22} {:<5} {:>26} {:>8.1} {:>6.2} {:>8.2} {:>7}",
        line.encoder,
        line.rows,
        line.family,
        rate.text(2),
        line.octets_per_row,
        rate.median * line.octets_per_row / 1e3,
        line.allocations_per_row,
        line.target_met.map_or("", met)
    );
    report.row(&text, &line)
}

/// Rows of one purge, one for each record.
fn purge(subject: &Subject) -> Result<Purge> {
    let names: Vec<&str> = subject.key.split_whitespace().collect();
    let key = Key::parse(&names).map_err(|(name, error)| anyhow!("{name}: {error}"))?;
    let mut settings = AggregateSettings::new("json", key, Duration::from_mins(1));
    settings.history = Some(Bins::every(Duration::from_mins(5)));
    settings.max_entries = 2 * ROWS as usize;
    let mut aggregation = Aggregation::new(settings);
    let mut random = Random::new();
    let routes: Vec<Arc<BgpRoute>> = (0..subject.routes).map(|_| route(&mut random)).collect();
    let label: Arc<str> = "bdr1.example.org".into();
    for number in 0..ROWS {
        let mut record = record(&mut random, subject.family == "ipv6");
        record.label = Some(Arc::clone(&label));
        record.destination_route = routes.get((number % subject.routes) as usize).cloned();
        let start = record.flow_start_milliseconds * 1000;
        let observed = Observed {
            record,
            extension: None,
            inner_tcp_control_bits: 0,
            begins: true,
            start,
            time: start,
            end: start,
        };
        aggregation.add(&[observed], &mut Counted::default());
    }
    let purge = aggregation.purge(1_795_246_860, None, None);
    ensure!(purge.len() == ROWS as usize, "{} rows of {ROWS}", purge.len());
    Ok(purge)
}

/// A route of two to six hops, with none to four communities.
fn route(random: &mut Random) -> Arc<BgpRoute> {
    let mut list = |from: u32, to: u32, one: fn(&mut Random) -> u32| {
        (0..from + random.below(to - from + 1)).map(|_| one(random)).collect()
    };
    let hops = BgpPathSegment { kind: BgpPathSegmentKind::Sequence, as_numbers: list(2, 6, as_number) };
    let communities = list(0, 4, |random| 64_500 << 16 | random.below(1000));
    Arc::new(BgpRoute::new(BgpAttributes {
        as_path: [hops].into(),
        communities,
        local_pref: Some(100 + 10 * random.below(10)),
        multi_exit_disc: Some(random.below(2) * random.below(200)),
        ..BgpAttributes::default()
    }))
}

/// Most are of 16 bits.
fn as_number(random: &mut Random) -> u32 {
    if random.below(3) == 0 { 196_608 + random.below(200_000) } else { 1 + random.below(64_000) }
}

/// A flow between random hosts.
fn record(random: &mut Random, is_ipv6: bool) -> FlowRecord {
    let mut address = || {
        if !is_ipv6 {
            return IpAddr::from((random.next() as u32 >> 4 | 0x1000_0000).to_be_bytes());
        }
        let [network, host] = [random.next(), random.next()];
        // Half of the hosts made their numbers up, the others were given one.
        let host = if host & 1 == 0 { host } else { host >> 52 };
        IpAddr::from(
            (u128::from(network >> 16 << 16 >> 4 | 0x2 << 60) << 64 | u128::from(host)).to_be_bytes(),
        )
    };
    let (source_address, destination_address, next_hop) = (address(), address(), address());
    let (shortest, lengths) = if is_ipv6 { (32, 17) } else { (16, 9) };
    let packets = 1 << random.below(16);
    FlowRecord {
        source_port: 1024 + random.below(64_000) as u16,
        destination_port: if random.below(4) > 0 { 443 } else { random.below(65_536) as u16 },
        protocol_identifier: if random.below(4) > 0 { 6 } else { 17 },
        tcp_control_bits: 0x1b,
        ingress_interface: 1 + random.below(4),
        egress_interface: 5 + random.below(20),
        packet_delta_count: packets,
        octet_delta_count: packets * u64::from(40 + random.below(1461)),
        flow_start_milliseconds: 1_795_246_790_001,
        flow_end_milliseconds: 1_795_246_799_999,
        bgp_source_as_number: as_number(random),
        bgp_destination_as_number: as_number(random),
        bgp_prev_adjacent_as_number: as_number(random),
        bgp_next_adjacent_as_number: as_number(random),
        source_prefix_length: (shortest + random.below(lengths)) as u8,
        destination_prefix_length: (shortest + random.below(lengths)) as u8,
        bgp_next_hop: Some(next_hop),
        sampling_interval: 1,
        ..FlowRecord::between(source_address, destination_address)
    }
}

fn derived<'a>(row: &'a Row<'_>) -> Derived<'a> {
    let at = |position: usize| row.value(position);
    let number = |position| if let Value::Number(number) = at(position) { number } else { 0 };
    let address = |position| if let Value::Address(address) = at(position) { address } else { None };
    let text = |position| if let Value::Text(text) = at(position) { text } else { "" };
    Derived {
        event_type: "purge",
        label: text(0),
        as_src: number(1),
        as_dst: number(2),
        comms: "64500:100_64500:200_64500:300",
        as_path: "64500_64501_64502_64503",
        local_pref: number(5),
        med: number(6),
        peer_as_src: number(7),
        peer_as_dst: number(8),
        peer_ip_dst: address(9),
        iface_in: number(10),
        iface_out: number(11),
        ip_src: address(12),
        net_src: address(13),
        ip_dst: address(14),
        net_dst: address(15),
        mask_src: number(16),
        mask_dst: number(17),
        port_src: number(18),
        port_dst: number(19),
        tcp_flags: "27",
        ip_proto: "tcp",
        tos: number(22),
        stamp_inserted: "2026-11-21 07:40:00",
        stamp_updated: "2026-11-21 07:41:00",
        packets: row.packets(),
        bytes: row.octets(),
    }
}
