//! `nfcapd` as the collector of a measurement, and `nfdump`'s totals of what it received.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pathflow_perf::netns::Namespace;

use crate::exporter::Running;
use crate::scratch::Scratch;

/// Where exporters send to: loopback of the namespace they are in.
pub(crate) const COLLECTOR: &str = "127.0.0.1:4739";
const PORT: &str = "4739";
/// How long the collector may take to read what waits in its socket.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running `nfcapd`.
pub(crate) struct Collector {
    process: Running,
    flows: PathBuf,
}

/// Totals of what a collector received.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Collected {
    pub(crate) packets: u64,
    pub(crate) records: u64,
    /// Datagrams that had no room in the collector's socket. If there are any, the totals are too small,
    /// and not by the exporter's fault.
    pub(crate) dropped_datagrams: u64,
}

impl Collector {
    /// Starts it in a namespace whose loopback is up.
    pub(crate) fn start(namespace: &Namespace, scratch: &Scratch) -> Result<Self> {
        let flows = scratch.file("flows");
        fs::create_dir(&flows)?;
        let directory = flows.display().to_string();
        let line = ["nfcapd", "-4", "-b", "127.0.0.1", "-p", PORT, "-B", "4000000", "-w", &directory];
        let mut process = Running::start(namespace, "nfcapd", &line, scratch)
            .context("the collector is nfcapd of the Debian package nfdump")?;
        process.wait_for("to listen", |_, id| socket(id).is_some())?;
        Ok(Self { process, flows })
    }

    /// Waits until everything is read, ends it, and adds up.
    pub(crate) fn end(self) -> Result<Collected> {
        let id = self.process.id();
        let start = Instant::now();
        let dropped_datagrams = loop {
            let (waiting, dropped) = socket(id).context("nfcapd does not listen")?;
            if waiting == 0 || start.elapsed() > PATIENCE {
                break dropped;
            }
            thread::sleep(Duration::from_millis(10));
        };
        self.process.end()?;
        // All files: there are two if the run crosses a multiple of five minutes.
        let output = Command::new("nfdump")
            .arg("-R")
            .arg(&self.flows)
            .args(["-N", "-n", "1", "-s", "proto"])
            .output()
            .context("nfdump")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let total = |label: &str| {
            let (_, rest) = text.split_once(label)?;
            rest.split([',', '\n']).next()?.trim().parse::<u64>().ok()
        };
        let (packets, records) = (total("total packets:"), total("total flows:"));
        ensure!(packets.is_some() && records.is_some(), "nfdump: {text}{errors}");
        Ok(Collected { packets: packets.unwrap_or(0), records: records.unwrap_or(0), dropped_datagrams })
    }
}

/// Octets that wait in the collector's socket, and datagrams that had no room in it.
fn socket(id: u32) -> Option<(u64, u64)> {
    let table = fs::read_to_string(format!("/proc/{id}/net/udp")).ok()?;
    let port = format!(":{:04X}", PORT.parse::<u16>().ok()?);
    let line =
        table.lines().find(|line| line.split_whitespace().nth(1).is_some_and(|l| l.ends_with(&port)))?;
    let columns: Vec<&str> = line.split_whitespace().collect();
    let waiting = u64::from_str_radix(columns.get(4)?.split(':').nth(1)?, 16).ok()?;
    Some((waiting, columns.last()?.parse().ok()?))
}
