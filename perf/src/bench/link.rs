//! Two namespaces with a veth pair between them, and traffic through it: one end sends, at the other an
//! exporter listens.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pathflow_perf::cpu;
use pathflow_perf::frames::Frame;
use pathflow_perf::generator::{Generator, GeneratorSettings, Order, Sent};
use pathflow_perf::interface;
use pathflow_perf::netns::{self, Namespace};
use pathflow_perf::pass::Pass;

use crate::exporter::process_time;

/// The interface that sends.
pub(crate) const NEAR: &str = "pfperf0";
/// The interface that receives.
pub(crate) const FAR: &str = "pfperf1";
/// CPU that generates the traffic, and so receives it.
pub(crate) const SENDING_CPU: u32 = 0;
/// Frames that are handed to the veth at once, fewer than its queue has room for.
const BATCH: u32 = 64;

pub(crate) struct Link {
    pub(crate) near: Namespace,
    pub(crate) far: Namespace,
}

/// What a burst of traffic came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    /// Packets that the far interface received.
    pub(crate) arrived: u64,
    /// Time on the sending CPU, sending and receiving: that of the generator and of the kernel's thread
    /// that receives when there is too much to do it at once.
    pub(crate) kernel_time: Duration,
    pub(crate) seconds: f64,
}

impl Link {
    pub(crate) fn new() -> Result<Self> {
        let (near, far) = (Namespace::new("pathflow-perf")?, Namespace::new("pathflow-perf")?);
        netns::join((&near, NEAR), (&far, FAR))?;
        far.set_up("lo")?;
        Ok(Self { near, far })
    }

    /// Lets the far end receive in batches (NAPI), as network cards do and as an XDP program makes it do.
    /// Without either, a veth drops redirected frames.
    pub(crate) fn receive_in_batches(&self) -> Result<()> {
        self.far.execute(&["ethtool", "-K", FAR, "gro", "on"]).context("Debian package ethtool")
    }

    /// Attaches an XDP program to the far end that lets everything pass.
    pub(crate) fn pass(&self) -> Result<Pass> {
        self.far.run(|| anyhow::Ok(Pass::attach(interface::index(FAR)?)?))?
    }

    /// Packets that the far interface has received.
    pub(crate) fn arrived(&self) -> Result<u64> {
        Ok(self.far.run(|| interface::counters(FAR))??.received_packets)
    }

    /// Sends `packets` frames of random flows as fast as [`SENDING_CPU`] can.
    pub(crate) fn burst(&self, frame: &Frame, flows: u32, packets: u64) -> Result<Burst> {
        let receiver = receiving_thread(SENDING_CPU);
        let before = self.arrived()?;
        let (sent, kernel_time) = self.near.run(|| -> Result<(Sent, Duration)> {
            cpu::pin(SENDING_CPU)?;
            let settings = GeneratorSettings {
                interface: NEAR.to_owned(),
                flows,
                order: Order::Random,
                batch: BATCH,
                rate: None,
            };
            let generator = Generator::load(&settings, frame.clone())?;
            let of_receiver = || receiver.map_or(Duration::ZERO, process_time);
            let (own, other) = (cpu::thread_time(), of_receiver());
            let sent = generator.send(packets)?;
            let own = cpu::thread_time().saturating_sub(own);
            Ok((sent, own + of_receiver().saturating_sub(other)))
        })??;
        let arrived = self.arrived()? - before;
        // A measurement of nothing looks fast.
        ensure!(arrived >= packets, "{arrived} of {packets} packets arrived");
        Ok(Burst { arrived, kernel_time, seconds: sent.seconds })
    }
}

/// The kernel's thread that receives packets on `cpu`.
fn receiving_thread(cpu: u32) -> Option<u32> {
    let name = format!("ksoftirqd/{cpu}");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let command = fs::read_to_string(entry.path().join("comm")).ok()?;
        (command.trim_end() == name).then_some(id)
    })
}
