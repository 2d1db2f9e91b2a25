//! `replay`: a capture of mixed traffic at top speed by `tcpreplay` into pathflow.
//!
//! The capture is made here: IPv4 and IPv6, UDP and TCP, a VLAN, frames of 64 to 1514 octets in about the
//! proportions of the Internet (7 : 4 : 1), and flows of which a few have most of the packets.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use pathflow_perf::cpu;
use pathflow_perf::frames::{Family, Frame, FrameSettings, Transport};
use serde::Serialize;

use crate::collector::Collector;
use crate::exporter::{self, Exporter, Running};
use crate::final_report::FinalReport;
use crate::link::{FAR, Link, NEAR, SENDING_CPU};
use crate::report::{Report, Spread, met};
use crate::scratch::Scratch;
use pathflow_perf::random::Random;

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// The program to measure; without it, `pathflow` beside this program
    #[arg(long)]
    pub(crate) pathflow: Option<PathBuf>,
    /// How often the capture of 20,000 packets is sent in each run
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) loops: u32,
    /// Runs
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
}

const PACKETS: u32 = 20_000;
/// Flows of each kind of frame.
const FLOWS: u32 = 1000;

#[derive(Serialize)]
struct Row {
    round: u32,
    /// Packets that tcpreplay has sent.
    sent_packets: u64,
    /// Packets that the far interface has received.
    arrived_packets: u64,
    /// Packets in flow records, by pathflow's report.
    recorded_packets: u64,
    /// Packets in the records that the collector has received.
    collected_packets: u64,
    /// IP octets of the capture, times how often it was sent.
    sent_octets: u64,
    /// IP octets that pathflow has received, by its report.
    received_octets: u64,
    records: u64,
    million_packets_per_second: f64,
    cpu_seconds_per_million_packets: f64,
}

pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let pathflow = exporter::pathflow(options.pathflow.as_deref())?;
    cpu::go_first().context("nice -20")?;
    let scratch = Scratch::new()?;
    let capture = scratch.file("mix.pcap");
    let octets = write_capture(&capture, PACKETS)?;
    report.heading(
        "replay",
        &format!(
            "{} runs of tcpreplay -K --topspeed --loop {} on CPU {SENDING_CPU}; a capture of {PACKETS} packets, \
             {:.0} IP octets on average; target: all that arrive are accounted\n\n{:>5} {:>9} {:>9} {:>9} {:>9} \
             {:>7} {:>8} {:>7} {:>11}  {}",
            options.rounds,
            options.loops,
            octets as f64 / f64::from(PACKETS),
            "round",
            "sent",
            "arrived",
            "recorded",
            "collected",
            "octets",
            "records",
            "Mpps",
            "CPU s/Mpkt",
            "target"
        ),
    );
    let mut rows = Vec::new();
    for round in 1..=options.rounds {
        let row = measure(round, options, &pathflow, &capture, octets)?;
        let is_complete = row.arrived_packets == row.recorded_packets
            && row.arrived_packets == row.collected_packets
            && (row.arrived_packets != row.sent_packets || row.sent_octets == row.received_octets);
        let line = format!(
            "{:>5} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8} {:>7.3} {:>11.4}  {}",
            row.round,
            row.sent_packets,
            row.arrived_packets,
            row.recorded_packets,
            row.collected_packets,
            if row.sent_octets == row.received_octets { "exact" } else { "differ" },
            row.records,
            row.million_packets_per_second,
            row.cpu_seconds_per_million_packets,
            met(is_complete)
        );
        report.row(&line, &row)?;
        rows.push(row);
    }
    let rate = Spread::of(rows.iter().map(|row| row.million_packets_per_second));
    let cpu = Spread::of(rows.iter().map(|row| row.cpu_seconds_per_million_packets));
    report.text(&format!("min/median/max: {} Mpps, {} CPU s per million packets", rate.text(3), cpu.text(4)));
    Ok(())
}

fn measure(round: u32, options: &Options, pathflow: &Path, capture: &Path, octets: u64) -> Result<Row> {
    let link = Link::new()?;
    let scratch = Scratch::new()?;
    let collector = Collector::start(&link.far, &scratch)?;
    let running = Running::exporter(Exporter::Pathflow, &link.far, FAR, pathflow, &scratch)?;
    let before = running.cpu_time();
    let output = link
        .near
        .run(|| -> Result<String> {
            cpu::pin(SENDING_CPU)?;
            let output = link
                .near
                .command("tcpreplay")
                .args(["-K", "--topspeed", "--loop", &options.loops.to_string(), "-i", NEAR])
                .arg(capture)
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
            Ok(text)
        })?
        .context("tcpreplay, of the Debian package of this name")?;
    running.wait_until_idle();
    let cpu_time = running.cpu_time().saturating_sub(before);
    let arrived_packets = link.arrived()?;
    let log = running.end()?;
    let collected = collector.end()?;
    let ended = FinalReport::parse(&log);
    ended.check(arrived_packets)?;
    let sent_packets = number(&output, "Successful packets:").context("output of tcpreplay")?;
    // "Rated: 1.2 Bps, 3.4 Mbps, 5.6 pps"
    let rated = output
        .lines()
        .find(|line| line.starts_with("Rated:"))
        .and_then(|line| line.rsplit(',').next()?.split_whitespace().next()?.parse::<f64>().ok());
    Ok(Row {
        round,
        sent_packets,
        arrived_packets,
        recorded_packets: ended.in_records.unwrap_or(0),
        collected_packets: collected.packets,
        sent_octets: octets * u64::from(options.loops),
        received_octets: ended.octets.unwrap_or(0),
        records: collected.records,
        million_packets_per_second: rated.context("output of tcpreplay")? / 1e6,
        cpu_seconds_per_million_packets: cpu_time.as_secs_f64() / arrived_packets as f64 * 1e6,
    })
}

fn number(text: &str, label: &str) -> Option<u64> {
    text.split_once(label)?.1.split_whitespace().next()?.parse().ok()
}

/// Writes a capture of so many packets, one each microsecond; the IP octets in it.
pub(crate) fn write_capture(path: &Path, packets: u32) -> Result<u64> {
    // How many of 48 packets are of each kind: 28 short, 16 medium, 4 long.
    let kinds = [
        (12, Family::Ipv4, Transport::Tcp, 64, None),
        (10, Family::Ipv4, Transport::Udp, 80, None),
        (6, Family::Ipv6, Transport::Tcp, 78, None),
        (6, Family::Ipv4, Transport::Udp, 594, None),
        (6, Family::Ipv4, Transport::Tcp, 594, Some(7)),
        (4, Family::Ipv6, Transport::Udp, 594, None),
        (3, Family::Ipv4, Transport::Tcp, 1514, None),
        (1, Family::Ipv6, Transport::Tcp, 1514, None),
    ];
    let mut frames = Vec::new();
    for (share, family, transport, octets, vlan_id) in kinds {
        let settings = FrameSettings { family, transport, octets, vlan_id, ..FrameSettings::default() };
        frames.extend((0..share).map(|_| Frame::new(&settings)).collect::<Result<Vec<_>, _>>()?);
    }
    let mut file = BufWriter::new(File::create(path)?);
    // Microseconds, version 2.4, Ethernet.
    for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65_535, 1] {
        file.write_all(&word.to_ne_bytes())?;
    }
    let mut random = Random::new();
    let mut ip_octets = 0;
    for number in 0..packets {
        let frame = &frames[random.below(frames.len() as u32) as usize];
        // Of uniform numbers, the product of two is small more often than not.
        let limit = random.below(FLOWS) + 1;
        let flow = random.below(limit);
        let octets = frame.flow(flow);
        for word in [number / 1_000_000, number % 1_000_000, octets.len() as u32, octets.len() as u32] {
            file.write_all(&word.to_ne_bytes())?;
        }
        file.write_all(&octets)?;
        ip_octets += frame.ip_octets();
    }
    file.flush()?;
    Ok(ip_octets)
}
