//! Mirror mode: every frame of a mirror port (SPAN, TAP) comes to user space through `AF_XDP`.
//!
//! A frame that is handed to a socket is taken away from this host, which is right where it is a copy and an
//! outage anywhere else. Hence: only where the operator says so; not on an interface that the host itself
//! uses ([`check_is_mirror_port`]); only to a socket that exists and whose worker works, else the frame
//! passes; the attachment ends with the process.
//!
//! ```text
//! RX queue -> XDP program -> socket (RX ring, UMEM) -> worker (parse, account) -> shards
//! ```
//!
//! There is a socket, a UMEM and a pinned worker for each RX queue. What the kernel program counts as handed
//! over is, in the end, what the workers received and what the sockets dropped by name; the ledger shows it
//! if it is not.
//!
//! Frames larger than a UMEM frame need multi-buffer sockets (kernel 6.6): without them an interface whose MTU
//! is above 3818 is refused.

mod port;
mod program;
mod socket;
mod system;
mod worker;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use crossbeam_channel::{Receiver, Sender};
use pathflow_common::mirror::MirrorCounters;
use tracing::{debug, error, warn};

pub use port::{MirrorRefused, check_is_mirror_port};
pub use socket::SocketStatistics;

use self::port::Port;
use self::program::MirrorProgram;
use self::socket::{FrameLayout, OpenError, QueueSocket, SocketSettings};
use self::worker::{Shared, WorkerParts};
use super::{CaptureError, Delta, FilterSet, support};
use crate::classify::{Classes, TapSource};
use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::metering::batches::Batches;
use crate::metering::extensions::Extensions;
use crate::metering::packets::{KeySettings, PacketMeter};
use crate::metering::shard::ShardMessage;
use crate::stop::Stop;

const CAP_NET_RAW: &str = "CAP_NET_RAW";

/// What to capture, and how.
#[derive(Clone, Debug)]
pub struct MirrorSettings {
    /// Interface name.
    pub interface: String,
    /// Kernel's interface index.
    pub interface_index: u32,
    /// Use the interface even if this host depends on it, which then loses its packets.
    pub i_know_this_steals: bool,
    /// Frames that can wait for a worker; a power of two.
    pub ring_frames: u32,
    /// Frames of the UMEM of a queue, 2 or 4 KiB each by the MTU; a power of two, twice `ring_frames` or
    /// more, or the frames run out before the ring is full.
    pub umem_frames: u32,
    /// CPUs that the workers are pinned to, in turn. Empty: the CPUs that are online.
    pub cpus: Vec<u32>,
    /// Both directions of a mirror come in. Frames from these MAC addresses are those that the router sends.
    pub router_macs: Vec<[u8; 6]>,
    /// How often flows are handed over.
    pub drain_interval: Duration,
}

impl MirrorSettings {
    /// Defaults for an interface: 16 MiB of memory for each queue with the usual MTU.
    #[must_use]
    pub fn new(interface: String, interface_index: u32) -> Self {
        Self {
            interface,
            interface_index,
            i_know_this_steals: false,
            ring_frames: 4096,
            umem_frames: 8192,
            cpus: Vec::new(),
            router_macs: Vec::new(),
            drain_interval: Duration::from_secs(1),
        }
    }
}

/// Where the packets of a mirror port are counted, and where their flows go.
#[derive(Clone, Debug)]
pub struct MirrorOutput {
    /// Observation point of packets that the router receives; of all without `router_macs`.
    pub ingress_point: u16,
    /// Observation point of packets that the router sends.
    pub egress_point: u16,
    /// Queues of the shards.
    pub shards: Vec<Sender<ShardMessage>>,
    /// Empty buffers that the shards are done with.
    pub pool: Receiver<Vec<Delta>>,
    /// Accounts.
    pub ledger: Arc<Ledger>,
    /// What the key of a packet in a tunnel is.
    pub keys: KeySettings,
    /// What keys have beyond their words.
    pub extensions: Arc<Extensions>,
    /// Applications of flows, if anybody asks.
    pub classes: Option<Arc<Classes>>,
    /// Takes what they are found by.
    pub taps: Option<TapSource>,
    /// Which packets are accounted; `None` = all.
    pub filters: FilterSet,
    /// The clock.
    pub clock: Clock,
    /// Pulled if a worker cannot go on.
    pub stop: Stop,
}

/// Why a mirror port cannot be used. Each message is one line that an operator can act on.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The host itself uses the interface.
    #[error(
        "interface {interface}: mirror mode takes every packet away from this host, and {reason}; \
         i_know_this_steals = true does it all the same"
    )]
    NotAMirrorPort {
        /// Interface name.
        interface: String,
        /// What it is used for.
        reason: MirrorRefused,
    },
    /// The kernel program cannot be loaded or attached.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The kernel could not be asked for the facts of the interface.
    #[error("interface {interface}: cannot ask the kernel for {what}: {error}")]
    Facts {
        /// Interface name.
        interface: String,
        /// What was asked for.
        what: &'static str,
        /// From the system.
        error: io::Error,
    },
    /// The MTU is too large for this kernel or driver.
    #[error(
        "interface {interface}: packets of {mtu} octets need AF_XDP multi-buffer sockets (kernel 6.6), which \
         cannot be had here ({error}); the largest MTU without them is 3818"
    )]
    Mtu {
        /// Interface name.
        interface: String,
        /// Its MTU.
        mtu: u32,
        /// From the system.
        error: io::Error,
    },
    /// A socket could not be opened.
    #[error("interface {interface}: queue {queue}: cannot open an AF_XDP socket ({step}): {error}{hint}")]
    Socket {
        /// Interface name.
        interface: String,
        /// RX queue.
        queue: u32,
        /// What was being done.
        step: &'static str,
        /// From the system.
        error: io::Error,
        /// What may help.
        hint: &'static str,
    },
    /// A thread cannot be started.
    #[error("interface {interface}: cannot start a worker: {error}")]
    Thread {
        /// Interface name.
        interface: String,
        /// From the system.
        error: io::Error,
    },
}

/// What kernel and sockets have counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorStatistics {
    /// The kernel program, all CPUs together.
    pub program: MirrorCounters,
    /// The sockets by queue, as of their last hand-over.
    pub sockets: Vec<SocketStatistics>,
}

/// A mirror port that is being captured. Dropping it detaches the program and leaves what the rings hold.
pub struct Mirror {
    interface: String,
    /// First, so that nothing is handed over any more when the rest goes.
    program: MirrorProgram,
    shared: Arc<Shared>,
    ledger: Arc<Ledger>,
    workers: Vec<JoinHandle<()>>,
    zero_copy_queues: usize,
    _promiscuous: OwnedFd,
}

impl Mirror {
    /// Opens a socket for each RX queue, starts the workers, then attaches the program.
    ///
    /// # Errors
    /// [`MirrorError`]; then nothing is attached.
    pub fn start(settings: &MirrorSettings, output: &MirrorOutput) -> Result<Self, MirrorError> {
        let MirrorSettings { interface, interface_index, .. } = settings;
        if let Err(reason) = check_is_mirror_port(*interface_index) {
            if !settings.i_know_this_steals {
                return Err(MirrorError::NotAMirrorPort { interface: interface.clone(), reason });
            }
            warn!("interface {interface}: {reason}, and this host does not get its packets from now on");
        }
        let facts = |what| move |error| MirrorError::Facts { interface: interface.clone(), what, error };
        let port = port::describe(*interface_index).map_err(facts("its MTU"))?;
        let port = port.ok_or_else(|| CaptureError::NoInterface { interface: interface.clone() })?;
        let known_queues = system::rx_queues(interface).map_err(facts("its RX queues"))?;
        let queues = known_queues.unwrap_or(port.max_queues);
        let (mut program, maps) = MirrorProgram::load(queues)?;
        let sockets = open_sockets(settings, &port, queues, known_queues.is_some())?;
        for (queue, socket) in (0..).zip(&sockets) {
            program.set_socket(queue, socket)?;
            maps.beat(queue, output.clock.read().monotonic);
        }
        let promiscuous = system::promiscuous(*interface_index)
            .map_err(|error| Self::of_socket(settings, 0, OpenError { step: "promiscuous mode", error }))?;
        let points = (output.ingress_point, output.egress_point);
        let shared = Arc::new(Shared::new(
            maps,
            points,
            settings.router_macs.clone(),
            output.filters.clone(),
            sockets.len(),
        ));
        let zero_copy_queues = sockets.iter().filter(|socket| socket.is_zero_copy()).count();
        let mut mirror = Self {
            interface: interface.clone(),
            program,
            shared,
            ledger: Arc::clone(&output.ledger),
            workers: Vec::new(),
            zero_copy_queues,
            _promiscuous: promiscuous,
        };
        for shard in &output.shards {
            // The caches learn what time it is before the first flow comes.
            let _ = shard.send(ShardMessage::Expire(output.clock.read()));
        }
        mirror.start_workers(settings, output, sockets)?;
        mirror.program.attach(interface, *interface_index)?;
        Ok(mirror)
    }

    /// What kernel and sockets have counted so far.
    #[must_use]
    pub fn statistics(&self) -> MirrorStatistics {
        MirrorStatistics { program: self.shared.maps.counted(), sockets: self.shared.statistics() }
    }

    /// Packets that the kernel program has handed over and the ledger does not know of yet, about.
    #[must_use]
    pub fn live_packets(&self) -> u64 {
        self.shared.live_packets()
    }

    /// How it is captured, for people: queues and mode.
    #[must_use]
    pub fn description(&self) -> String {
        let queues = self.workers.len();
        let mode = match self.zero_copy_queues {
            0 => "copy".to_owned(),
            all if all == queues => "zero-copy".to_owned(),
            some => format!("zero-copy for {some}, else copy"),
        };
        let noun = if queues == 1 { "queue" } else { "queues" };
        format!("AF_XDP mirror mode, {queues} {noun}, {mode}")
    }

    /// Detaches, empties the rings, hands everything over and enters what the kernel has counted.
    pub fn stop(mut self) {
        if let Err(reason) = self.program.detach() {
            // What is just being handed over may be missed, and will be in the report then.
            error!("interface {}: {reason}", self.interface);
        }
        self.shared.stopping.store(true, Ordering::Release);
        for worker in mem::take(&mut self.workers) {
            // A panic in it has ended the process already.
            let _ = worker.join();
        }
        self.shared.enter_passed(&self.ledger);
        self.shared.enter_missing(&self.ledger);
        for (queue, counted) in self.shared.statistics().iter().enumerate() {
            self.warn(queue, counted);
        }
    }

    /// What is in no account of the ledger because it is not about packets.
    fn warn(&self, queue: usize, counted: &SocketStatistics) {
        let interface = &self.interface;
        if self.zero_copy_queues > 0 && counted.rx_fill_ring_empty_descriptors > 0 {
            warn!(
                "interface {interface}: queue {queue}: the driver found no free frame {} times, and may have \
                 dropped packets before they could be counted; see `ethtool -S {interface}`",
                counted.rx_fill_ring_empty_descriptors
            );
        }
        if counted.rx_invalid_descriptors > 0 {
            error!(
                "interface {interface}: queue {queue}: the kernel refused {} frames of the fill ring",
                counted.rx_invalid_descriptors
            );
        }
    }

    fn start_workers(
        &mut self,
        settings: &MirrorSettings,
        output: &MirrorOutput,
        sockets: Vec<QueueSocket>,
    ) -> Result<(), MirrorError> {
        let cpus = if settings.cpus.is_empty() { support::online_cpus()? } else { settings.cpus.clone() };
        for ((queue, socket), cpu) in (0..).zip(sockets).zip(cpus.iter().cycle()) {
            let parts = WorkerParts {
                socket,
                queue,
                shared: Arc::clone(&self.shared),
                meter: PacketMeter::new(
                    Batches::new(output.shards.clone(), output.pool.clone(), Arc::clone(&output.ledger))
                        .with_classes(output.classes.clone()),
                    output.keys.clone(),
                    Arc::clone(&output.extensions),
                    usize::MAX,
                ),
                tap: output.taps.as_ref().map(TapSource::tap),
                clock: output.clock,
                drain_interval: settings.drain_interval,
            };
            let (cpu, stop, interface) = (*cpu, output.stop.clone(), settings.interface.clone());
            let work = move || {
                // Where the CPU is not allowed to this process, the thread stays unpinned.
                core_affinity::set_for_current(core_affinity::CoreId { id: cpu as usize });
                match worker::run(parts) {
                    Ok(()) => {}
                    // Whoever follows the interfaces hears of it as well, and ends this mirror.
                    Err(reason) if is_gone(&reason) => {
                        debug!("interface {interface}: queue {queue}: {reason}");
                    }
                    Err(reason) => {
                        error!("interface {interface}: queue {queue}: {reason}; stopping");
                        stop.fail();
                    }
                }
            };
            let name = format!("mirror-{}-{queue}", output.ingress_point);
            let worker = thread::Builder::new()
                .name(name)
                .spawn(work)
                .map_err(|error| MirrorError::Thread { interface: settings.interface.clone(), error })?;
            self.workers.push(worker);
        }
        Ok(())
    }

    fn of_socket(settings: &MirrorSettings, queue: u32, error: OpenError) -> MirrorError {
        let OpenError { step, error } = error;
        let hint = match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                return CaptureError::Capability { capability: CAP_NET_RAW }.into();
            }
            Some(libc::EBUSY) => "; another program has a socket on this queue",
            Some(libc::ENOBUFS) => "; raise the limit of locked memory (systemd's LimitMEMLOCK)",
            _ => "",
        };
        MirrorError::Socket { interface: settings.interface.clone(), queue, step, error, hint }
    }
}

/// Whether the error of a socket says that its interface was deleted or moved to another network namespace.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENODEV | libc::ENXIO))
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
    }
}

/// A socket for each queue. If the driver did not say how many there are, the first that the kernel does not
/// know ends the list.
fn open_sockets(
    settings: &MirrorSettings,
    port: &Port,
    queues: u32,
    is_exact: bool,
) -> Result<Vec<QueueSocket>, MirrorError> {
    let layout = FrameLayout::for_mtu(port.mtu);
    let socket = SocketSettings {
        interface_index: settings.interface_index,
        ring_frames: settings.ring_frames,
        umem_frames: settings.umem_frames,
        layout,
    };
    let mut sockets = Vec::new();
    for queue in 0..queues {
        match QueueSocket::open(&socket, queue) {
            Ok(opened) => sockets.push(opened),
            Err(OpenError { step: "bind", error })
                if error.raw_os_error() == Some(libc::EINVAL) && queue > 0 && !is_exact =>
            {
                break;
            }
            Err(OpenError { step: "bind", error })
                if layout == FrameLayout::MultiBuffer
                    && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) =>
            {
                return Err(MirrorError::Mtu { interface: settings.interface.clone(), mtu: port.mtu, error });
            }
            Err(error) => return Err(Mirror::of_socket(settings, queue, error)),
        }
    }
    Ok(sockets)
}
