//! `soak`: every format at once to real collectors for a long time, and whether any of them finds a fault.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use pathflow_perf::netns::{Namespace, join};
use serde::Serialize;

use crate::exporter::{self, Running};
use crate::report::{Report, met};
use crate::scratch::Scratch;

/// Interfaces of the senders of IPv4 and IPv6, and of the router towards each and towards the collectors.
const SENDERS: [&str; 2] = ["send4", "send6"];
const CAPTURED: [&str; 2] = ["in4", "in6"];
const EXPORTING: &str = "out";
const COLLECTING: &str = "collect";
/// Formats with their export ports of nfcapd, all of which nfacctd gets as well.
const FORMATS: [(&str, u16, u64); 3] =
    [("ipfix", 4739, 10), ("netflow-v9", 2055, 9), ("netflow-v5", 2056, 5)];
const NFACCTD: u16 = 2100;
const SFCAPD: u16 = 6343;
const SFACCTD: u16 = 6344;
const SAMPLING_INTERVAL: u64 = 50;
/// How long what is under way may take to arrive.
const SETTLING: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Options {
    /// How long traffic flows
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Packets per second, of IPv4; a fifth of that of IPv6
    #[arg(long, default_value_t = 5000)]
    rate: u32,
    /// The program to run; without it, `pathflow` beside this program
    #[arg(long)]
    pathflow: Option<PathBuf>,
}

/// What one collector has, and what the ledger says.
#[derive(Serialize)]
struct Row {
    collector: String,
    format: &'static str,
    ledger: Total,
    collected: Total,
    /// Messages or records missing, as the collector sees it.
    sequence_failures: u64,
    /// Unknown templates, malformed messages and other complaints.
    complaints: u64,
    is_met: bool,
}

/// Records are samples in sFlow; `None` is what a collector does not say.
#[derive(Clone, Copy, Default, Serialize)]
struct Total {
    packets: Option<u64>,
    octets: Option<u64>,
    records: Option<u64>,
}

impl Total {
    /// Whether everything that `other` says is the same here.
    fn agrees(self, other: Self) -> bool {
        [(self.packets, other.packets), (self.octets, other.octets), (self.records, other.records)]
            .into_iter()
            .all(|(own, other)| other.is_none() || own == other)
    }

    fn text(self) -> String {
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        format!("{:>10} {:>12} {:>9}", number(self.packets), number(self.octets), number(self.records))
    }
}

pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let pathflow = exporter::pathflow(options.pathflow.as_deref())?;
    let generator = pathflow.with_file_name("pathflow-trafficgen");
    ensure!(generator.is_file(), "{}: no such file", generator.display());
    report.heading(
        "soak",
        &format!(
            "{} s, {} packets/s of IPv4 and {} of IPv6 in 500 flows each; options data and templates every 2 s, \
             active timeout 2 s, idle timeout 1 s, one header in {SAMPLING_INTERVAL} sampled\n\n{:<10} {:<11} {:>33} {:>33} \
             {:>8} {:>10} {:>7}",
            options.seconds,
            options.rate,
            options.rate / 5,
            "collector",
            "format",
            "ledger: packets, octets, records",
            "collected",
            "sequence",
            "complaints",
            "target"
        ),
    );
    let (sender, router, collector) = network()?;
    let scratch = Scratch::new()?;
    let wire = start_capture(&collector, &scratch)?;
    let captures: Vec<_> = FORMATS
        .iter()
        .map(|(format, port, _)| start_capd(&collector, "nfcapd", format, *port, &scratch))
        .collect::<Result<_>>()?;
    let sfcapd = start_capd(&collector, "sfcapd", "sflow", SFCAPD, &scratch)?;
    let nfacctd = start_acctd(&collector, "nfacctd", NFACCTD, &scratch)?;
    let sfacctd = start_acctd(&collector, "sfacctd", SFACCTD, &scratch)?;
    let probe = start_probe(&router, &pathflow, &scratch)?;
    send(&sender, &generator, options, &scratch)?;
    // The last flows end by themselves.
    thread::sleep(SETTLING);
    let log = probe.end()?;
    ensure!(log.contains("ledger: every packet"), "the ledger does not balance: {log}");
    thread::sleep(SETTLING);

    let mut rows = Vec::new();
    for (running, (format, port, _)) in captures.into_iter().zip(FORMATS) {
        let ledger = figure(&log, &format!("{format} to 192.0.2.2:{port}: exported"))?;
        rows.push(nfcapd_row(&running.end()?, format, ledger, &scratch.file(format))?);
    }
    let sampled = samples(&log, &format!("sflow to 192.0.2.2:{SFCAPD}: exported"))?;
    rows.push(nfcapd_row(&sfcapd.end()?, "sflow", sampled, &scratch.file("sflow"))?);
    let printed = scratch.file("nfacctd.json");
    let complaints = nfacctd.end()?;
    for (format, _, version) in FORMATS {
        let ledger = figure(&log, &format!("{format} to 192.0.2.2:{NFACCTD}: exported"))?;
        let collected = printed_total(&printed, Some(version))?;
        rows.push(row("nfacctd", format, ledger, collected, &complaints));
    }
    let ledger = Total { packets: figure(&log, "received")?.packets, ..Total::default() };
    let complaints = sfacctd.end()?;
    let estimated = printed_total(&scratch.file("sfacctd.json"), None)?;
    let mut estimate = row("sfacctd", "sflow", ledger, Total::default(), &complaints);
    estimate.collected = Total { packets: estimated.packets, ..Total::default() };
    estimate.is_met &= is_plausible(ledger, estimated);
    rows.push(estimate);
    let dropped = wire.end()?;
    ensure!(dropped.contains("\n0 packets dropped by kernel"), "tcpdump: {dropped}");
    rows.push(tshark_row(&scratch.file("wire.pcap"))?);

    for row in &rows {
        report.row(&line(row), row)?;
    }
    report.text(&log);
    ensure!(rows.iter().all(|row| row.is_met), "a collector found a fault");
    Ok(())
}

fn line(row: &Row) -> String {
    format!(
        "{:<10} {:<11} {:>33} {:>33} {:>8} {:>10} {:>7}",
        row.collector,
        row.format,
        row.ledger.text(),
        row.collected.text(),
        row.sequence_failures,
        row.complaints,
        met(row.is_met)
    )
}

fn network() -> Result<(Namespace, Namespace, Namespace)> {
    let name = "pathflow-perf";
    let (sender, router, collector) = (Namespace::new(name)?, Namespace::new(name)?, Namespace::new(name)?);
    for (sending, captured) in SENDERS.into_iter().zip(CAPTURED) {
        join((&sender, sending), (&router, captured))?;
    }
    join((&router, EXPORTING), (&collector, COLLECTING))?;
    router.set_up("lo")?;
    collector.set_up("lo")?;
    router.execute(&["ip", "address", "add", "192.0.2.1/24", "dev", EXPORTING])?;
    collector.execute(&["ip", "address", "add", "192.0.2.2/24", "dev", COLLECTING])?;
    // A capture is to see datagrams, not what they are cut from.
    router.execute(&["ethtool", "-K", EXPORTING, "tx-udp-segmentation", "off"])?;
    Ok((sender, router, collector))
}

fn start_capture(collector: &Namespace, scratch: &Scratch) -> Result<Running> {
    let file = scratch.file("wire.pcap").display().to_string();
    let filter = format!("udp and not port {NFACCTD} and not port {SFACCTD}");
    let line = ["tcpdump", "-i", COLLECTING, "-n", "-B", "65536", "-Z", "root", "-w", &file, &filter];
    let mut running = Running::start(collector, "tcpdump", &line, scratch)?;
    running.wait_for("to capture", |log, _| log.contains("listening on"))?;
    Ok(running)
}

fn start_capd(
    collector: &Namespace,
    program: &'static str,
    name: &'static str,
    port: u16,
    scratch: &Scratch,
) -> Result<Running> {
    let directory = scratch.file(name);
    fs::create_dir(&directory)?;
    let (directory, port) = (directory.display().to_string(), port.to_string());
    let line = [program, "-4", "-b", "192.0.2.2", "-p", &port, "-B", "8000000", "-w", &directory];
    let mut running = Running::start(collector, name, &line, scratch)?;
    running.wait_for("to listen", |_, id| listens(id, &port))?;
    Ok(running)
}

fn listens(id: u32, port: &str) -> bool {
    let Ok(port) = port.parse::<u16>() else { return false };
    fs::read_to_string(format!("/proc/{id}/net/udp"))
        .is_ok_and(|text| text.contains(&format!(":{port:04X} ")))
}

fn start_acctd(
    collector: &Namespace,
    program: &'static str,
    port: u16,
    scratch: &Scratch,
) -> Result<Running> {
    let configuration = scratch.file(&format!("{program}.conf"));
    let renormalize = if program == "sfacctd" { "sfacctd_renormalize: true\n" } else { "" };
    fs::write(
        &configuration,
        format!(
            "daemonize: false\n{program}_ip: 192.0.2.2\n{program}_port: {port}\n{program}_pipe_size: 8000000\n\
             {program}_disable_checks: false\n{renormalize}plugins: print[soak]\nplugin_pipe_size: 67108864\n\
             plugin_buffer_size: 65536\nprint_output[soak]: json\nprint_refresh_time[soak]: 86400\n\
             print_output_file[soak]: {}\nprint_output_file_append[soak]: true\n\
             aggregate[soak]: src_host,proto,export_proto_version\n",
            scratch.file(&format!("{program}.json")).display()
        ),
    )?;
    let configuration = configuration.display().to_string();
    let mut running = Running::start(collector, program, &[program, "-f", &configuration], scratch)?;
    // What arrives before its plugin is ready is lost. It prints at its end only: with many purges in ten minutes the
    // print plugin of pmacct 1.7.7 prints some packets twice.
    running.wait_for("to be ready", |log, _| log.contains("cache entries="))?;
    thread::sleep(SETTLING);
    Ok(running)
}

fn start_probe(router: &Namespace, pathflow: &Path, scratch: &Scratch) -> Result<Running> {
    let processes = FORMATS
        .iter()
        .map(|(format, port, _)| {
            format!(
                "[[export.process]]\ncollectors = [\"192.0.2.2:{port}\", \"192.0.2.2:{NFACCTD}\"]\nformat = \"{format}\"\n\
                 observation_domain_id = {port}\n"
            )
        })
        .collect::<Vec<_>>()
        .concat();
    let configuration = scratch.file("pathflow.toml");
    fs::write(
        &configuration,
        format!(
            "[capture]\ninterfaces = [\"{}\", \"{}\"]\nheader_sampling_interval = {SAMPLING_INTERVAL}\n\
             [flow]\nactive_timeout = \"2s\"\nidle_timeout = \"1s\"\n[export]\ntemplate_interval = \"2s\"\n{processes}\
             [sflow]\ncollectors = [\"192.0.2.2:{SFCAPD}\", \"192.0.2.2:{SFACCTD}\"]\ncounter_interval = \"2s\"\n",
            CAPTURED[0], CAPTURED[1]
        ),
    )?;
    let (program, configuration) = (pathflow.display().to_string(), configuration.display().to_string());
    let line = [program.as_str(), "run", "--config", &configuration];
    let mut running = Running::start(router, "pathflow", &line, scratch)?;
    running.wait_for("to capture", |log, _| log.contains("metrics on http://"))?;
    Ok(running)
}

/// Both families at once; until all is sent.
fn send(sender: &Namespace, generator: &Path, options: &Options, scratch: &Scratch) -> Result<()> {
    let program = generator.display().to_string();
    let mut generators = Vec::new();
    for (interface, rate) in SENDERS.into_iter().zip([options.rate, options.rate / 5]) {
        let (packets, rate) = ((rate * options.seconds).to_string(), rate.to_string());
        let mut line =
            vec![program.as_str(), "--interface", interface, "--packets", &packets, "--rate", &rate];
        line.extend(["--flows", "500", "--random", "--frame-octets", "200"]);
        if interface == SENDERS[1] {
            line.push("--ipv6");
        }
        generators.push(Running::start(sender, interface, &line, scratch)?);
    }
    let deadline = Instant::now() + 2 * Duration::from_secs(options.seconds.into()) + Duration::from_mins(1);
    for generator in &mut generators {
        while !generator.has_ended()? {
            ensure!(Instant::now() < deadline, "the generator does not end: {}", generator.log());
            thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

/// A figure of the final report.
fn figure(log: &str, label: &str) -> Result<Total> {
    let line = log.lines().find_map(|line| line.trim_start().strip_prefix(label));
    let words: Vec<&str> =
        line.with_context(|| format!("no {label:?} in {log}"))?.split_whitespace().collect();
    let value = |unit: &str| {
        let place = words.iter().position(|word| *word == unit)?;
        words.get(place.checked_sub(1)?)?.parse().ok()
    };
    Ok(Total { packets: value("packets"), octets: value("octets"), records: value("records") })
}

/// The same of sFlow: flow samples.
fn samples(log: &str, label: &str) -> Result<Total> {
    let line = log.lines().find_map(|line| line.trim_start().strip_prefix(label));
    let words = line.with_context(|| format!("no {label:?} in {log}"))?;
    let records = words.split_whitespace().find_map(|word| word.parse().ok());
    Ok(Total { records, ..Total::default() })
}

/// Renormalised, each sample stands for so many packets: an estimate of what was received, here within four standard
/// deviations.
fn is_plausible(received: Total, estimated: Total) -> bool {
    let (Some(received), Some(estimated)) = (received.packets, estimated.packets) else { return false };
    let deviation = (received as f64 * (SAMPLING_INTERVAL - 1) as f64).sqrt();
    received.abs_diff(estimated) as f64 <= 4.0 * deviation
}

/// The numbers behind `label`, added up.
fn sum_behind(log: &str, label: &str) -> u64 {
    let numbers = log.split(label).skip(1).filter_map(|rest| {
        rest.trim_start_matches([':', ' ']).split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    });
    numbers.sum()
}

/// `nfcapd` leaves options data out of the Sequence Numbers of IPFIX, so it takes each for missing: of that format, the
/// others' verdict holds.
fn nfcapd_row(log: &str, format: &'static str, ledger: Total, flows: &Path) -> Result<Row> {
    let mut nfdump = Command::new("nfdump");
    let output =
        nfdump.arg("-R").arg(flows).args(["-N", "-n", "1", "-s", "proto"]).output().context("nfdump")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let total = |label: &str| text.contains(label).then(|| sum_behind(&text, label));
    let is_sflow = format == "sflow";
    let collected = Total {
        packets: total("total packets").filter(|_| !is_sflow),
        octets: total("total bytes").filter(|_| !is_sflow),
        records: total("total flows"),
    };
    ensure!(collected.records.is_some(), "nfdump: {text}");
    let sequence_failures = sum_behind(log, "Sequence Errors");
    let complaints = sum_behind(log, "Bad Packets") + log.matches("template").count() as u64;
    let is_met = ledger.agrees(collected) && complaints == 0 && (sequence_failures == 0 || format == "ipfix");
    let collector = if is_sflow { "sfcapd" } else { "nfcapd" }.to_owned();
    Ok(Row { collector, format, ledger, collected, sequence_failures, complaints, is_met })
}

/// What `print` of pmacct has written, of one version of the export protocol.
fn printed_total(file: &Path, version: Option<u64>) -> Result<Total> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut total = Total { packets: Some(0), octets: Some(0), records: None };
    for line in text.lines() {
        let flow: serde_json::Value = serde_json::from_str(line)?;
        if version.is_none_or(|version| flow["export_proto_version"] == version) {
            total.packets = total.packets.zip(flow["packets"].as_u64()).map(|(sum, value)| sum + value);
            total.octets = total.octets.zip(flow["bytes"].as_u64()).map(|(sum, value)| sum + value);
        }
    }
    Ok(total)
}

fn row(collector: &str, format: &'static str, ledger: Total, collected: Total, log: &str) -> Row {
    let sequence_failures = log.matches("expecting").count() as u64;
    let warnings = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR"));
    let complaints = warnings.filter(|line| !line.contains("expecting")).inspect(|line| eprintln!("{line}"));
    let complaints = complaints.count() as u64;
    let is_met = ledger.agrees(collected) && sequence_failures == 0 && complaints == 0;
    Row { collector: collector.to_owned(), format, ledger, collected, sequence_failures, complaints, is_met }
}

/// Everything on the wire to nfcapd and sfcapd, as Wireshark reads it.
fn tshark_row(capture: &Path) -> Result<Row> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(capture).args(["-V", "-O", "cflow,sflow", "-o", "udp.check_checksum:FALSE"]);
    for (_, port, _) in FORMATS {
        tshark.args(["-d", &format!("udp.port=={port},cflow")]);
    }
    let mut child =
        tshark.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("tshark")?;
    let output = child.stdout.take().context("tshark")?;
    let (mut sequence_failures, mut complaints, mut messages) = (0, 0, 0);
    for line in std::io::BufRead::lines(std::io::BufReader::new(output)) {
        let line = line?;
        messages += u64::from(line.starts_with("Frame "));
        sequence_failures += u64::from(line.contains("Unexpected flow sequence"));
        let faults = ["No template found", "Malformed", "[Expert Info (Error", "Unknown sample"];
        if faults.iter().any(|fault| line.contains(fault)) {
            complaints += 1;
            eprintln!("tshark: {line}");
        }
    }
    ensure!(child.wait()?.success(), "tshark failed");
    let total = Total { records: Some(messages), ..Total::default() };
    let is_met = sequence_failures == 0 && complaints == 0 && messages > 0;
    Ok(Row {
        collector: "tshark".to_owned(),
        format: "all",
        ledger: Total::default(),
        collected: total,
        sequence_failures,
        complaints,
        is_met,
    })
}
