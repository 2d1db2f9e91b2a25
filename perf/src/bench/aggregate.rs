//! `aggregate`: how many deltas an aggregate adds up in a second on one core.
//!
//! Each delta is a record of its own, as a shard hands it over. The deltas of all rows come one after the other in a
//! random order, several times, and then there is a purge. Purges are in the time.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use pathflow::aggregate::{AggregateSettings, Aggregation, Bins, Key, Observed, Spread as Amounts};
use pathflow::classify::Class;
use pathflow_exporter::{BgpAttributes, BgpPathSegment, BgpPathSegmentKind, BgpRoute, FlowRecord};
use pathflow_perf::random::Random;
use serde::Serialize;

use crate::Common;
use crate::report::{Report, Spread, met};

/// Rows of the table: first-level cache, last-level cache, memory.
const ROWS: [u32; 3] = [1024, 65_536, 1_048_576];
/// Deltas between two purges, but no less than [`MIN_ROUNDS`] of each row.
const DELTAS: u32 = 4_000_000;
const MIN_ROUNDS: u32 = 4;
/// Deltas that a shard hands over at once.
const BATCH: usize = 1024;
/// Wanted, million deltas a second.
const TARGET: f64 = 5.0;
const ROUTES: u32 = 1000;

/// The keys that are measured.
const KEYS: [(&str, &[&str]); 3] = [
    ("5-tuple", &["src_host", "dst_host", "src_port", "dst_port", "proto", "tos"]),
    ("as", &["label", "src_as", "dst_as", "as_path", "peer_dst_ip", "src_port"]),
    ("host", &["src_host", "src_port"]),
];

/// One measured number.
#[derive(Serialize)]
struct Row {
    key: &'static str,
    rows: u32,
    /// Deltas of each run.
    deltas: u64,
    /// Million deltas per second.
    million_deltas_per_second: Spread,
}

pub(crate) fn run(common: &Common, report: &mut Report) -> Result<()> {
    report.heading(
        "aggregate",
        &format!(
            "{} runs; deltas of all rows in a random order, then a purge; target {TARGET} M/s\n\n{:>8} {:>8} {:>9} {:>26} {:>7}",
            common.runs, "key", "rows", "deltas", "M deltas/s min/med/max", "target"
        ),
    );
    for (name, key) in KEYS {
        for rows in ROWS {
            let row = measure(name, key, rows, common)?;
            let rate = row.million_deltas_per_second;
            let is_met = met(rate.median >= TARGET);
            let line = format!("{name:>8} {rows:>8} {:>9} {:>26} {is_met:>7}", row.deltas, rate.text(1));
            report.row(&line, &row)?;
        }
    }
    Ok(())
}

fn measure(name: &'static str, key: &[&str], rows: u32, common: &Common) -> Result<Row> {
    let mut random = Random::new();
    let routes: Vec<Arc<BgpRoute>> = (0..ROUTES).map(route).collect();
    let label: Arc<str> = "bdr1.example.org".into();
    let mut deltas: Vec<Observed> = (0..rows)
        .map(|number| Observed {
            record: FlowRecord { label: Some(Arc::clone(&label)), ..record(number, &routes) },
            extension: None,
            inner_tcp_control_bits: 0,
            class: Class::UNKNOWN,
            begins: false,
            start: 1_795_246_800_000_000,
            time: 1_795_246_800_000_000,
            end: 1_795_246_800_900_000,
        })
        .collect();
    random.shuffle(&mut deltas);
    let key = Key::parse(key).map_err(|(name, error)| anyhow!("{name}: {error}"))?;
    let mut settings = AggregateSettings::new("bench", key, Duration::from_mins(1));
    settings.history = Some(Bins::every(Duration::from_mins(5)));
    settings.max_entries = 2 * rows as usize;
    let mut aggregation = Aggregation::new(settings);
    let rounds = (DELTAS / rows).max(MIN_ROUNDS);
    let (mut rates, mut memory) = (Vec::new(), None);
    // The first run is not counted: its table grows.
    for run in 0..=common.runs {
        let start = Instant::now();
        let mut amounts = Amounts::default();
        for _ in 0..rounds {
            for batch in deltas.chunks(BATCH) {
                aggregation.add(batch, &mut amounts);
            }
        }
        let purge = aggregation.purge(0, None, memory.take());
        let seconds = start.elapsed().as_secs_f64();
        ensure!(amounts.table_full.is_zero(), "the table was full");
        ensure!(purge.len() == rows as usize, "{} rows of {rows}", purge.len());
        ensure!(purge.tally().packets == u64::from(rounds) * u64::from(rows), "packets are missing");
        if run > 0 {
            rates.push(f64::from(rounds) * f64::from(rows) / seconds / 1e6);
        }
        memory = Some(black_box(purge));
    }
    Ok(Row {
        key: name,
        rows,
        deltas: u64::from(rounds) * u64::from(rows),
        million_deltas_per_second: Spread::of(rates),
    })
}

fn record(number: u32, routes: &[Arc<BgpRoute>]) -> FlowRecord {
    let source = IpAddr::from((0x0a00_0000 | number >> 4).to_be_bytes());
    let route = |number: u32| routes.get((number % ROUTES) as usize).cloned();
    FlowRecord {
        // The lower bits make one row of each delta, in every key.
        source_port: (number & 0xf) as u16,
        destination_port: 443,
        protocol_identifier: 6,
        bgp_source_as_number: 64_500 + (number >> 4),
        bgp_destination_as_number: 64_500,
        bgp_next_hop: Some(IpAddr::from([203, 0, 113, 1])),
        source_route: route(number),
        destination_route: route(number / 7),
        packet_delta_count: 1,
        octet_delta_count: 100,
        ..FlowRecord::between(source, IpAddr::from([198, 18, 0, 1]))
    }
}

fn route(number: u32) -> Arc<BgpRoute> {
    let segment =
        BgpPathSegment { kind: BgpPathSegmentKind::Sequence, as_numbers: [64_500, 3356, number].into() };
    Arc::new(BgpRoute::new(BgpAttributes { as_path: [segment].into(), ..BgpAttributes::default() }))
}
