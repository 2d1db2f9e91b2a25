//! `merge`: how many of the kernel's deltas the flow cache takes in a second on one core.
//!
//! Each second of virtual time brings one delta of each flow, in another random order every time, and one
//! search for flows that have ended. The flows began at random times of the last minute, so each second some
//! reach the active timeout, leave, and begin anew with their next delta.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pathflow::capture::Delta;
use pathflow::classify::Class;
use pathflow::config::raw;
use pathflow::interfaces::MacAddress;
use pathflow::metering::{FlowCache, Timeouts};
use pathflow_common::flow::{Encapsulation, Ipv4Key, KeyFields};
use serde::Serialize;

use crate::Common;
use crate::report::{Report, Spread, met};
use pathflow_perf::random::Random;

/// Flows in the cache: first-level cache, last-level cache, memory.
const FLOWS: [u32; 3] = [1024, 65_536, 1_048_576];
/// Deltas of one run, but no less than [`MIN_SECONDS`] of each flow.
const DELTAS: u64 = 4_000_000;
const MIN_SECONDS: u64 = 4;
/// Deltas whose flows are looked up together.
const GROUP: usize = 16;
/// Wanted, million deltas a second.
const TARGET: f64 = 5.0;
const SECOND: u64 = 1_000_000_000;
/// Virtual time at which the flows are in the cache.
const START: u64 = 1000 * SECOND;

/// One measured number.
#[derive(Serialize)]
struct Row {
    flows: u32,
    /// Deltas of each run.
    deltas: u64,
    /// Flows that ended in the last run; each is in the time.
    ended: u64,
    /// Million deltas merged per second, expiry included.
    million_merged_per_second: Spread,
    /// Share of the time that the search for ended flows took, of the last run.
    expiry_share: f64,
}

pub(crate) fn run(common: &Common, report: &mut Report) -> Result<()> {
    report.heading(
        "merge",
        &format!(
            "{} runs; a delta of each flow and a search for ended flows per virtual second; \
             target {TARGET} M/s\n\n{:>8} {:>9} {:>9} {:>26} {:>8} {:>7}",
            common.runs, "flows", "deltas", "ended", "M merged/s min/med/max", "expiry", "target"
        ),
    );
    for flows in FLOWS {
        let row = measure(flows, common)?;
        let rate = row.million_merged_per_second;
        let line = format!(
            "{:>8} {:>9} {:>9} {:>26} {:>6.1} % {:>7}",
            row.flows,
            row.deltas,
            row.ended,
            rate.text(1),
            row.expiry_share * 100.0,
            met(rate.median >= TARGET)
        );
        report.row(&line, &row)?;
    }
    Ok(())
}

fn measure(flows: u32, common: &Common) -> Result<Row> {
    let raw::Flow { active_timeout, idle_timeout, tcp_end_timeout, max_flows, .. } = raw::Flow::default();
    let timeouts = Timeouts { active: active_timeout, idle: idle_timeout, tcp_end: tcp_end_timeout };
    let mut random = Random::new();
    // As many again, so that the cache never has to evict.
    let mut cache = FlowCache::new(timeouts, max_flows.max(2 * flows));
    let mut deltas: Vec<Delta> = (0..flows).map(delta).collect();
    for delta in &mut deltas {
        delta.first = START - random.below(active_timeout.as_secs() as u32 * 1000) as u64 * 1_000_000;
        delta.last = START;
        cache.merge(delta);
    }
    let seconds = (DELTAS / u64::from(flows)).max(MIN_SECONDS);
    let mut now = START;
    let (mut rates, mut last) = (Vec::new(), (0, 0.0));
    for _ in 0..common.runs {
        let (mut merging, mut expiring, mut ended) = (Duration::ZERO, Duration::ZERO, 0);
        for _ in 0..seconds {
            now += SECOND;
            random.shuffle(&mut deltas);
            for delta in &mut deltas {
                (delta.first, delta.last) = (now - SECOND, now);
            }
            let start = Instant::now();
            // As a shard does.
            for group in deltas.chunks(GROUP) {
                let mut hashes = [None; GROUP];
                for (hash, delta) in hashes.iter_mut().zip(group) {
                    *hash = Some(cache.hash(&delta.key));
                }
                cache.read_ahead(hashes.iter().copied().flatten());
                for (delta, hash) in group.iter().zip(hashes.iter().flatten()) {
                    ensure!(cache.merge_hashed(delta, *hash).is_none(), "a flow was evicted");
                }
            }
            merging += start.elapsed();
            let start = Instant::now();
            while let Some(flow) = cache.expire(now) {
                black_box(flow);
                ended += 1;
            }
            expiring += start.elapsed();
        }
        let total = (merging + expiring).as_secs_f64();
        rates.push((seconds * u64::from(flows)) as f64 / total / 1e6);
        last = (ended, expiring.as_secs_f64() / total);
    }
    ensure!(cache.len() <= flows as usize, "{} flows of {flows}", cache.len());
    Ok(Row {
        flows,
        deltas: seconds * u64::from(flows),
        ended: last.0,
        million_merged_per_second: Spread::of(rates),
        expiry_share: last.1,
    })
}

fn delta(flow: u32) -> Delta {
    let fields =
        KeyFields { observation_point: 1, protocol: 17, ports: [4, 0, 0, 9], ..KeyFields::default() };
    let [a, b, c, d] = (0x0a00_0000 + flow).to_be_bytes();
    Delta {
        key: Ipv4Key::new(fields, [a, b, c, d, 198, 18, 0, 1]).widen(Encapsulation::NONE),
        octets: 50_000,
        packets: 100,
        first: 0,
        last: 0,
        tcp_control_bits: 0,
        other_interface: 0,
        next_hop: None,
        neighbour: MacAddress::UNKNOWN,
        class: Class::UNKNOWN,
    }
}
