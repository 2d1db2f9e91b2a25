//! `json`: how many rows of an aggregate a core turns into pmacct's JSON, beside `serde_json` with the same keys.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use anyhow::{Result, anyhow};
use pathflow::aggregate::encode::{EncodeSettings, Format, FormatTable, RowEncoder, Style};
use pathflow::aggregate::{
    AggregateSettings, Aggregation, Bins, Key, Observed, Purge, Row, Spread as Counted, Value,
};
use pathflow_exporter::{BgpAttributes, BgpPathSegment, BgpPathSegmentKind, BgpRoute};
use pathflow_perf::cpu;
use serde::Serialize;

use crate::Common;
use crate::records::enriched_records;
use crate::report::{Report, Spread, met};

/// Purges of one run.
const PURGES: u32 = 200;
/// Wanted, million rows a second.
const TARGET: f64 = 3.0;
/// Those that configurations for Kafka have, and more: rows have some 554 octets.
const KEY: &str = "label src_as dst_as std_comm as_path local_pref med peer_src_as peer_dst_as peer_dst_ip in_iface \
                   out_iface src_host src_net dst_host dst_net src_mask dst_mask src_port dst_port tcpflags proto tos";

/// One measured number.
#[derive(Serialize)]
struct Line {
    encoder: &'static str,
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

pub(crate) fn run(common: &Common, report: &mut Report) -> Result<()> {
    report.heading(
        "json",
        &format!(
            "{} runs of each; rates are of CPU time; target {TARGET} M/s\n\n{:<18} {:<5} {:>26} {:>8} {:>8} {:>7}",
            common.runs, "encoder", "ip", "M rows/s min/med/max", "octets", "allocs", "target"
        ),
    );
    for (family, is_ipv6) in [("ipv4", false), ("ipv6", true)] {
        let purge = purge(is_ipv6)?;
        for (encoder, style) in [("pathflow", Style::Pmacct), ("pathflow, nested", Style::Pathflow)] {
            let settings = EncodeSettings::new(&FormatTable { style, ..FormatTable::default() }, true);
            let mut rows = RowEncoder::new(&settings, Format::Json, purge.primitives())?;
            rows.set_writer("default_kafka", true);
            let mut out = Vec::new();
            let encode = || {
                out.clear();
                for row in purge.rows() {
                    rows.row(&mut out, &row, purge.updated());
                    out.push(b'\n');
                }
                black_box(&out).len()
            };
            subject(encoder, family, common, report, purge.len(), encode)?;
        }
        let mut out = Vec::new();
        let serde = || {
            out.clear();
            for row in purge.rows() {
                // Writing to memory does not fail.
                let _ = serde_json::to_writer(&mut out, &derived(&row));
                out.push(b'\n');
            }
            black_box(&out).len()
        };
        subject("serde_json", family, common, report, purge.len(), serde)?;
    }
    Ok(())
}

fn subject(
    encoder: &'static str,
    family: &'static str,
    common: &Common,
    report: &mut Report,
    rows: usize,
    mut encode: impl FnMut() -> usize,
) -> Result<()> {
    // Storage gets its size.
    let octets = encode();
    let allocations = measure(|| _ = encode()).count_total;
    let mut rates = Vec::new();
    for _ in 0..common.runs {
        let start = cpu::thread_time();
        (0..PURGES).for_each(|_| _ = encode());
        let elapsed = cpu::thread_time().saturating_sub(start).as_secs_f64();
        rates.push(f64::from(PURGES) * rows as f64 / elapsed / 1e6);
    }
    let million_rows_per_second = Spread::of(rates);
    let line = Line {
        encoder,
        family,
        octets_per_row: octets as f64 / rows as f64,
        allocations_per_row: allocations as f64 / rows as f64,
        target_met: (encoder == "pathflow").then_some(million_rows_per_second.median >= TARGET),
        million_rows_per_second,
    };
    let text = format!(
        "{:<18} {:<5} {:>26} {:>8.1} {:>8.2} {:>7}",
        line.encoder,
        line.family,
        line.million_rows_per_second.text(2),
        line.octets_per_row,
        line.allocations_per_row,
        line.target_met.map_or("", met)
    );
    report.row(&text, &line)
}

/// Rows of one purge, one for each record.
fn purge(is_ipv6: bool) -> Result<Purge> {
    let names: Vec<&str> = KEY.split_whitespace().collect();
    let key = Key::parse(&names).map_err(|(name, error)| anyhow!("{name}: {error}"))?;
    let mut settings = AggregateSettings::new("json", key, Duration::from_mins(1));
    settings.history = Some(Bins::every(Duration::from_mins(5)));
    let mut aggregation = Aggregation::new(settings);
    let hops = BgpPathSegment {
        kind: BgpPathSegmentKind::Sequence,
        as_numbers: [64_500, 64_501, 64_502, 64_503].into(),
    };
    let attributes = BgpAttributes {
        as_path: [hops].into(),
        communities: [0xfbf4_0064, 0xfbf4_00c8, 0xfbf4_012c].into(),
        local_pref: Some(150),
        ..BgpAttributes::default()
    };
    let route = Arc::new(BgpRoute::new(attributes));
    for mut record in enriched_records(is_ipv6) {
        record.label = Some("bdr1.example.org".into());
        record.destination_route = Some(Arc::clone(&route));
        let start = record.flow_start_milliseconds * 1000;
        let observed = Observed { record, begins: true, start, time: start, end: start };
        aggregation.add(&observed, &mut Counted::default());
    }
    Ok(aggregation.purge(1_795_246_860, None, None))
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
