//! `kernel`: what one packet costs in the kernel program.
//!
//! Each number is the difference of two runs, one right after the other: a wrapper that varies the flow
//! around the kernel program, and the same wrapper around an empty program.

use anyhow::{Result, ensure};
use clap::Args;
use pathflow::capture::TableSizes;
use pathflow_perf::frames::{Family, Frame, FrameSettings};
use pathflow_perf::vary::{self, Order, Vary};
use serde::Serialize;

use crate::Common;
use crate::report::{Report, Spread};
use crate::tables::{Tables, ample_sizes, default_sizes};

#[derive(Args)]
pub(crate) struct Options {
    /// Packets of each run
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1000..))]
    pub(crate) packets: u32,
    /// Numbers of flows
    #[arg(long, value_delimiter = ',', default_values_t = FLOWS.to_vec())]
    pub(crate) flows: Vec<u32>,
}

/// Numbers of flows that are measured: one cache line, first-level cache, last-level cache, memory.
pub(crate) const FLOWS: &[u32] = &[1, 1024, 65_536, 1_048_576];
/// Flows that are new in each epoch of the last measurement.
const NEW_FLOWS: u32 = 65_536;

/// One measured number.
#[derive(Serialize)]
struct Row {
    /// What was run: always the same packet, packets of known flows, or of new ones.
    what: &'static str,
    family: &'static str,
    flows: u32,
    /// Slots of the family's table.
    slots: u32,
    /// Empty program, nanoseconds per packet.
    empty: Spread,
    /// Kernel program, nanoseconds per packet.
    program: Spread,
    /// Differences of the pairs of runs, nanoseconds per packet.
    net: Spread,
    /// Share of packets that found no slot: spilled or dropped.
    without_slot: f64,
}

pub(crate) fn run(options: &Options, common: &Common, report: &mut Report) -> Result<()> {
    report.heading("kernel", &format!(
        "{} pairs of runs of {} packets; net = program - empty\n\n{:<11} {:<5} {:>8} {:>8} {:>10} {:>10} {:>22} {:>9}",
        common.runs, options.packets, "packets", "ip", "flows", "slots", "empty ns", "program ns",
        "net ns min/median/max", "no slot"
    ));
    for (family, name) in [(Family::Ipv4, "ipv4"), (Family::Ipv6, "ipv6")] {
        let frame = Frame::new(&FrameSettings { family, ..FrameSettings::default() })?;
        let slots = |sizes: TableSizes| match family {
            Family::Ipv4 => sizes.ipv4_slots,
            Family::Ipv6 => sizes.ipv6_slots,
        };
        let mut print = |what, flows, sizes, pairs: &[(f64, f64)], without_slot| {
            let row = Row {
                what,
                family: name,
                flows,
                slots: slots(sizes),
                empty: Spread::of(pairs.iter().map(|pair| pair.0)),
                program: Spread::of(pairs.iter().map(|pair| pair.1)),
                net: Spread::of(pairs.iter().map(|pair| pair.1 - pair.0)),
                without_slot,
            };
            report.row(&line(&row), &row)
        };

        let (pairs, without_slot) = same_packet(&frame, default_sizes(), options, common)?;
        print("same packet", 1, default_sizes(), &pairs, without_slot)?;
        for &flows in &options.flows {
            let ample = ample_sizes(family, flows);
            let sizes = if ample == default_sizes() { vec![ample] } else { vec![ample, default_sizes()] };
            for sizes in sizes {
                let (pairs, without_slot) = known_flows(&frame, flows, sizes, options, common)?;
                print("known flows", flows, sizes, &pairs, without_slot)?;
            }
        }
        let sizes = ample_sizes(family, NEW_FLOWS);
        let (pairs, without_slot) = new_flows(&frame, sizes, common)?;
        print("new flows", NEW_FLOWS, sizes, &pairs, without_slot)?;
    }
    Ok(())
}

fn line(row: &Row) -> String {
    format!(
        "{:<11} {:<5} {:>8} {:>8} {:>10} {:>10} {:>22} {:>8.1}%",
        row.what,
        row.family,
        row.flows,
        row.slots,
        format!("{:.1}", row.empty.median),
        format!("{:.1}", row.program.median),
        row.net.text(1),
        row.without_slot * 100.0
    )
}

type Pairs = (Vec<(f64, f64)>, f64);

/// The program and the empty program themselves, without wrapper.
fn same_packet(frame: &Frame, sizes: TableSizes, options: &Options, common: &Common) -> Result<Pairs> {
    let mut tables = Tables::load(sizes, common.cpu)?;
    let vary = Vary::load(frame.clone(), 0, Order::Sequential)?;
    let mut pairs = Vec::new();
    for _ in 0..common.runs {
        let empty = vary.empty(options.packets)?;
        let program = vary::run(tables.program.xdp()?, frame.octets(), options.packets)?;
        pairs.push((empty, program));
    }
    let epoch = tables.end_epoch()?;
    ensure!(epoch.seen.packets == u64::from(options.packets) * pairs.len() as u64, "{epoch:?}");
    Ok((pairs, share(epoch.without_slot, epoch.seen.packets)))
}

/// Packets of random flows, all of which are in the table or have found no place there.
fn known_flows(
    frame: &Frame,
    flows: u32,
    sizes: TableSizes,
    options: &Options,
    common: &Common,
) -> Result<Pairs> {
    let mut tables = Tables::load(sizes, common.cpu)?;
    let mut fill = Vary::load(frame.clone(), flows, Order::Sequential)?;
    fill.wrapped(Some(tables.program.xdp()?), flows)?;
    let mut vary = Vary::load(frame.clone(), flows, Order::Random)?;
    // Caches and page tables of this CPU are warm before the first pair is.
    vary.wrapped(Some(tables.program.xdp()?), options.packets)?;
    let mut pairs = Vec::new();
    for _ in 0..common.runs {
        let empty = vary.wrapped(None, options.packets)?;
        let program = vary.wrapped(Some(tables.program.xdp()?), options.packets)?;
        pairs.push((empty, program));
    }
    let epoch = tables.end_epoch()?;
    let packets = u64::from(flows) + u64::from(options.packets) * (pairs.len() as u64 + 1);
    ensure!(epoch.seen.packets == packets, "{packets} packets were run, {epoch:?}");
    Ok((pairs, share(epoch.without_slot, packets)))
}

/// As many packets as flows in each epoch, so that every packet is the first of its flow.
fn new_flows(frame: &Frame, sizes: TableSizes, common: &Common) -> Result<Pairs> {
    let mut tables = Tables::load(sizes, common.cpu)?;
    let mut vary = Vary::load(frame.clone(), NEW_FLOWS, Order::Sequential)?;
    // Both generations have been written to before.
    for _ in 0..2 {
        vary.wrapped(Some(tables.program.xdp()?), NEW_FLOWS)?;
        tables.end_epoch()?;
    }
    let mut pairs = Vec::new();
    let mut without_slot = 0;
    for _ in 0..common.runs {
        let empty = vary.wrapped(None, NEW_FLOWS)?;
        let program = vary.wrapped(Some(tables.program.xdp()?), NEW_FLOWS)?;
        pairs.push((empty, program));
        let epoch = tables.end_epoch()?;
        ensure!(epoch.seen.packets == u64::from(NEW_FLOWS), "{epoch:?}");
        without_slot += epoch.without_slot;
    }
    let packets = u64::from(NEW_FLOWS) * pairs.len() as u64;
    Ok((pairs, share(without_slot, packets)))
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
