//! `drain`: how fast user space takes the flows out of the kernel's tables, and how long it waits before.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use pathflow_perf::frames::{Family, Frame, FrameSettings};
use pathflow_perf::vary::{Order, Vary};
use serde::Serialize;

use crate::Common;
use crate::report::{Report, Spread};
use crate::tables::{Tables, default_sizes};

/// One measured number.
#[derive(Serialize)]
struct Row {
    family: &'static str,
    /// Slots of the family's table.
    slots: u32,
    /// Flows found in it.
    flows: u64,
    /// Records found in the spill log.
    spilled: u64,
    /// End of the epoch: until the kernel program no longer writes to it, in milliseconds.
    advance_milliseconds: Spread,
    /// Drain of one table and its spill log, in microseconds.
    drain_microseconds: Spread,
    /// Million slots scanned per second, of the middle drain.
    million_slots_per_second: f64,
    /// Million flows and spilled records found per second, of the middle drain.
    million_found_per_second: f64,
}

pub(crate) fn run(common: &Common, report: &mut Report) -> Result<()> {
    report.heading("drain", &format!(
        "{} epochs; each flow is copied out of the table; target 20 M slots/s\n\n{:<5} {:>7} {:>7} {:>8} {:>22} {:>22} {:>9} {:>9}",
        common.runs, "ip", "slots", "flows", "spilled", "advance ms min/med/max", "drain us min/med/max", "Mslots/s",
        "Mfound/s"
    ));
    for (family, name) in [(Family::Ipv4, "ipv4"), (Family::Ipv6, "ipv6")] {
        let slots = match family {
            Family::Ipv4 => default_sizes().ipv4_slots,
            Family::Ipv6 => default_sizes().ipv6_slots,
        };
        // Nearly empty, half full (where an epoch ends early), full with the spill log full as well.
        for flows in [slots / 64, slots / 2, 2 * slots] {
            let row = measure(family, name, slots, flows, common)?;
            report.row(&line(&row), &row)?;
        }
    }
    Ok(())
}

fn line(row: &Row) -> String {
    format!(
        "{:<5} {:>7} {:>7} {:>8} {:>22} {:>22} {:>9.1} {:>9.1}",
        row.family,
        row.slots,
        row.flows,
        row.spilled,
        row.advance_milliseconds.text(1),
        row.drain_microseconds.text(1),
        row.million_slots_per_second,
        row.million_found_per_second
    )
}

fn measure(family: Family, name: &'static str, slots: u32, flows: u32, common: &Common) -> Result<Row> {
    let frame = Frame::new(&FrameSettings { family, ..FrameSettings::default() })?;
    let mut tables = Tables::load(default_sizes(), common.cpu)?;
    let mut vary = Vary::load(frame, flows, Order::Sequential)?;
    let (mut advance, mut drain) = (Vec::new(), Vec::new());
    let mut last = (0, 0, 0);
    // The first two epochs touch the memory of both generations.
    for run in 0..common.runs + 2 {
        vary.wrapped(Some(tables.program.xdp()?), flows)?;
        let start = Instant::now();
        let epoch = tables.epochs.advance(&tables.flows)?;
        let advanced = start.elapsed();
        let start = Instant::now();
        let drained = tables.drain(epoch, |delta| {
            black_box(delta);
        });
        let drained_in = start.elapsed();
        tables.counters(epoch);
        if run >= 2 {
            advance.push(advanced.as_secs_f64() * 1e3);
            drain.push(drained_in.as_secs_f64() * 1e6);
            last = (drained.slots_scanned, drained.flows, drained.spilled);
        }
    }
    let (scanned, found, spilled) = last;
    let drain_microseconds = Spread::of(drain);
    Ok(Row {
        family: name,
        slots,
        flows: found,
        spilled,
        advance_milliseconds: Spread::of(advance),
        drain_microseconds,
        million_slots_per_second: scanned as f64 / drain_microseconds.median,
        million_found_per_second: (found + spilled) as f64 / drain_microseconds.median,
    })
}
