//! `families`: what one packet costs in the kernel program, by its headers and by where it is met.
//!
//! As `kernel` with `same packet`: each number is the difference of two runs, one right after the other, of
//! the kernel program and of an empty one at the same hook. The packet is of one known flow.

use anyhow::{Result, ensure};
use clap::Args;
use pathflow::capture::{Filter, FilterSet, LoadSettings};
use pathflow::metering::packets::KeySettings;
use pathflow_common::flow::KEY_FLAG_IPV6;
use pathflow_common::layout::{SAMPLING_RANDOM, Sampling};
use pathflow_perf::frames::{Family, Transport};
use pathflow_perf::headers::{self, VXLAN_PORT, VXLAN_SOURCE_PORT};
use pathflow_perf::vary::{self, Empty};
use serde::Serialize;

use crate::Common;
use crate::report::{Report, Spread};
use crate::tables::{Tables, default_sizes, settings};

#[derive(Args)]
pub(crate) struct Options {
    /// Packets of each run
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1000..))]
    pub(crate) packets: u32,
}

/// One in this many packets is accounted when they are sampled.
const INTERVAL: u32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Hook {
    Xdp,
    Tc,
}

/// Protocol, source and destination port of a flow.
type Wanted = (u8, u16, u16);

const UDP: Wanted = (17, 1024, 9);
const TCP: Wanted = (6, 1024, 9);
const GRE: Wanted = (47, 0, 0);
const VXLAN: Wanted = (17, VXLAN_SOURCE_PORT, VXLAN_PORT);

/// What is set up for a case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The defaults.
    Plain,
    /// The packet inside a tunnel is accounted.
    Inner,
    /// One packet in [`INTERVAL`] is accounted.
    Sampled,
    /// A filter that wants the packet.
    Filtered,
}

/// One kind of packet.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    /// Frame that has to come first, if there is one.
    before: Option<Vec<u8>>,
    mode: Mode,
    /// The one flow that is to be found.
    wanted: Wanted,
}

/// One measured number.
#[derive(Serialize)]
struct Row {
    what: &'static str,
    hook: Hook,
    /// Octets of the frame.
    octets: usize,
    /// Empty program, nanoseconds per packet.
    empty: Spread,
    /// Kernel program, nanoseconds per packet.
    program: Spread,
    /// Differences of the pairs of runs, nanoseconds per packet.
    net: Spread,
}

pub(crate) fn run(options: &Options, common: &Common, report: &mut Report) -> Result<()> {
    report.heading("families", &format!(
        "{} pairs of runs of {} packets of one known flow; net = program - empty\n\n{:<32} {:<5} {:>7} {:>10} {:>10} {:>22}",
        common.runs, options.packets, "packets", "hook", "octets", "empty ns", "program ns", "net ns min/median/max"
    ));
    let empty = Empty::load()?;
    for case in cases()? {
        for hook in [Hook::Xdp, Hook::Tc] {
            let pairs = measure(&case, hook, &empty, options.packets, common)?;
            let row = Row {
                what: case.name,
                hook,
                octets: case.frame.len(),
                empty: Spread::of(pairs.iter().map(|pair| pair.0)),
                program: Spread::of(pairs.iter().map(|pair| pair.1)),
                net: Spread::of(pairs.iter().map(|pair| pair.1 - pair.0)),
            };
            report.row(&line(&row), &row)?;
        }
    }
    Ok(())
}

fn line(row: &Row) -> String {
    format!(
        "{:<32} {:<5} {:>7} {:>10} {:>10} {:>22}",
        row.what,
        if row.hook == Hook::Xdp { "xdp" } else { "tc" },
        row.octets,
        format!("{:.1}", row.empty.median),
        format!("{:.1}", row.program.median),
        row.net.text(1)
    )
}

fn cases() -> Result<Vec<Case>> {
    let ipv4 = headers::plain(Family::Ipv4, Transport::Udp)?;
    let ipv6 = headers::plain(Family::Ipv6, Transport::Udp)?;
    let [first, later] = headers::fragments(&ipv4);
    let case = |name, frame, mode, wanted| Case { name, frame, before: None, mode, wanted };
    let plain = |name, frame| case(name, frame, Mode::Plain, UDP);
    Ok(vec![
        plain("IPv4, UDP", ipv4.clone()),
        case("IPv4, TCP", headers::plain(Family::Ipv4, Transport::Tcp)?, Mode::Plain, TCP),
        plain("IPv4 with options", headers::with_options(&ipv4)),
        plain("one VLAN tag, IPv4", headers::tagged(&ipv4, &[7])),
        plain("two VLAN tags, IPv4", headers::tagged(&ipv4, &[7, 8])),
        plain("PPPoE, IPv4", headers::in_pppoe(&ipv4)),
        plain("1 MPLS label, IPv4", headers::labelled(&ipv4, 1)),
        plain("3 MPLS labels, IPv4", headers::labelled(&ipv4, 3)),
        plain("IPv6, UDP", ipv6.clone()),
        plain("IPv6, 2 extension headers", headers::with_extension_headers(&ipv6, 2)),
        plain("IPv4, first fragment", first.clone()),
        Case { before: Some(first), ..plain("IPv4, later fragment", later) },
        case("GRE, outer header", headers::in_gre(&ipv4), Mode::Plain, GRE),
        case("VXLAN, outer header", headers::in_vxlan(&ipv4), Mode::Plain, VXLAN),
        case("GRE, inner header", headers::in_gre(&ipv4), Mode::Inner, UDP),
        case("VXLAN, inner header", headers::in_vxlan(&ipv4), Mode::Inner, UDP),
        case("IPv4, UDP, inner wanted", ipv4.clone(), Mode::Inner, UDP),
        case("IPv4, UDP, sampled 1 in 100", ipv4.clone(), Mode::Sampled, UDP),
        case("IPv4, UDP, filter not port 22", ipv4, Mode::Filtered, UDP),
    ])
}

impl Mode {
    fn load(self, cpu: u32) -> Result<Tables> {
        let keys = KeySettings {
            inner: self == Self::Inner,
            vxlan_ports: vec![VXLAN_PORT],
            ..KeySettings::default()
        };
        let required = if self == Self::Filtered { Some(Filter::compile("not port 22")?) } else { None };
        let filters = FilterSet::new(required);
        let settings = LoadSettings { keys, filters, ..settings(default_sizes(), cpu) };
        let sampling =
            Sampling { interval: INTERVAL, algorithm: SAMPLING_RANDOM, header_interval: 0, reserved: 0 };
        Tables::load_with(&settings, (self == Self::Sampled).then_some(sampling))
    }
}

/// Empty and kernel program in turn, in nanoseconds per packet.
fn measure(case: &Case, hook: Hook, empty: &Empty, packets: u32, common: &Common) -> Result<Vec<(f64, f64)>> {
    let mut tables = case.mode.load(common.cpu)?;
    let mut run = |frame: &[u8], packets| match hook {
        Hook::Xdp => Ok::<_, anyhow::Error>(vary::run(tables.program.xdp()?, frame, packets)?),
        Hook::Tc => Ok(vary::run(tables.program.classifier(false)?, frame, packets)?),
    };
    let mut seen = 0;
    let mut pairs = Vec::new();
    // The first pair fills the table and warms the caches, and is left out.
    for _ in 0..=common.runs {
        if let Some(before) = &case.before {
            run(before, 1)?;
            seen += 1;
        }
        let nothing = match hook {
            Hook::Xdp => vary::run(empty.xdp()?, &case.frame, packets)?,
            Hook::Tc => vary::run(empty.classifier()?, &case.frame, packets)?,
        };
        let program = run(&case.frame, packets)?;
        seen += u64::from(packets);
        pairs.push((nothing, program));
    }
    check(case, &mut tables, seen)?;
    pairs.remove(0);
    Ok(pairs)
}

/// Every packet was seen, and all that were to be accounted are in the one flow that is wanted.
fn check(case: &Case, tables: &mut Tables, seen: u64) -> Result<()> {
    let epoch = tables.epochs.advance(&tables.flows)?;
    let mut flows = Vec::new();
    tables.drain(epoch, |delta| flows.push(delta));
    let counters = tables.counters(epoch);
    ensure!(counters.seen.packets == seen, "{}: {seen} packets were run, {counters:?}", case.name);
    ensure!(flows.len() == 1, "{}: not one flow but {flows:?}", case.name);
    for flow in &flows {
        let fields = flow.key.fields();
        let [a, b, c, d] = fields.ports;
        let found = (fields.protocol, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        ensure!(found == case.wanted && fields.flags & !KEY_FLAG_IPV6 == 0, "{}: {flow:?}", case.name);
        let expected = if case.mode == Mode::Sampled { seen / u64::from(INTERVAL) } else { seen };
        let tolerated = if case.mode == Mode::Sampled { expected / 5 } else { 0 };
        ensure!(flow.packets.abs_diff(expected) <= tolerated, "{}: {expected} expected, {flow:?}", case.name);
    }
    Ok(())
}
