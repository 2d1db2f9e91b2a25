//! The kernel side of one mirror port: its program, the heartbeats it watches, the counters it keeps.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::{ArrayOfMaps, Map, MapData, MapError, XskMap};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use pathflow_common::layout::Count;
use pathflow_common::mirror::{Heartbeat, MirrorCounters, map, program};

use super::socket::QueueSocket;
use crate::capture::mapping::{Element, Mapping};
use crate::capture::{CaptureError, support};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PATHFLOW_MIRROR_EBPF"));

/// `BPF_MAP_TYPE_ARRAY`.
const MAP_TYPE_ARRAY: u32 = 2;

/// The loaded program. Dropping it detaches it.
pub(super) struct MirrorProgram {
    ebpf: Ebpf,
    link: Option<FdLink>,
    grace: (ArrayOfMaps<MapData, MapData>, MapData),
}

/// What program and workers share.
#[derive(Debug)]
pub(super) struct MirrorMaps {
    heartbeats: Mapping<Heartbeat>,
    counters: Mapping<MirrorCounters>,
}

impl MirrorMaps {
    /// The worker of `queue` works at `now`, nanoseconds of the kernel's monotonic clock.
    pub(super) fn beat(&self, queue: u32, now: u64) {
        self.heartbeats.store_first_word(queue as usize, now);
    }

    /// What the program has counted, all CPUs together.
    pub(super) fn counted(&self) -> MirrorCounters {
        let add = |sum: &mut Count, count: Count| {
            sum.packets += count.packets;
            sum.octets += count.octets;
        };
        let cpus = (0..self.counters.length()).filter_map(|cpu| self.counters.read(cpu));
        cpus.fold(MirrorCounters::default(), |mut sum, counters| {
            add(&mut sum.redirected, counters.redirected);
            add(&mut sum.passed, counters.passed);
            sum
        })
    }
}

impl MirrorProgram {
    /// Loads the program for an interface with `queues` RX queues. Nothing is attached yet.
    pub(super) fn load(queues: u32) -> Result<(Self, MirrorMaps), CaptureError> {
        support::check()?;
        // The highest number, not the count: numbers may have gaps.
        let cpus = support::possible_cpus()?.last().ok_or(CaptureError::NoCpu)? + 1;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(map::SOCKETS, queues)
            .map_max_entries(map::HEARTBEATS, queues)
            .map_max_entries(map::COUNTERS, cpus)
            .load(OBJECT)
            .map_err(|error| CaptureError::Load { step: "load the mirror object", reason: full(&error) })?;
        let heartbeats = map_array(&ebpf, map::HEARTBEATS, queues)?;
        let counters = map_array(&ebpf, map::COUNTERS, cpus)?;
        let of_map = |error: MapError| CaptureError::Map { name: map::GRACE, reason: full(&error) };
        let outer: ArrayOfMaps<MapData, MapData> =
            ebpf.take_map(map::GRACE).ok_or_else(|| missing(map::GRACE))?.try_into().map_err(of_map)?;
        let inner = aya_obj::Map::new_from_params(MAP_TYPE_ARRAY, 4, 8, 1, 0);
        let inner = MapData::create(inner, "pathflow_grace", None).map_err(of_map)?;
        let mut this = Self { ebpf, link: None, grace: (outer, inner) };
        this.verify()?;
        Ok((this, MirrorMaps { heartbeats, counters }))
    }

    /// Makes the program hand the packets of `queue` to `socket`, as long as that is open.
    pub(super) fn set_socket(&mut self, queue: u32, socket: &QueueSocket) -> Result<(), CaptureError> {
        let of_map = |error: MapError| CaptureError::Map { name: map::SOCKETS, reason: full(&error) };
        let sockets = self.ebpf.map_mut(map::SOCKETS).ok_or_else(|| missing(map::SOCKETS))?;
        let mut sockets: XskMap<&mut MapData> = sockets.try_into().map_err(of_map)?;
        sockets.set(queue, socket.descriptor().as_raw_fd(), 0).map_err(of_map)
    }

    /// Attaches to the interface in native mode. The attachment ends with this process, however it ends.
    pub(super) fn attach(&mut self, interface: &str, interface_index: u32) -> Result<(), CaptureError> {
        let other = |reason: String| CaptureError::Attach { interface: interface.to_owned(), reason };
        let xdp = self.xdp(self.name())?;
        let id = xdp.attach_to_if_index(interface_index, XdpMode::Driver).map_err(|error| {
            let code = match &error {
                ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
                _ => None,
            };
            match code {
                Some(libc::EBUSY | libc::EEXIST) => CaptureError::Busy {
                    interface: interface.to_owned(),
                    program: support::attached_program(interface_index),
                },
                Some(libc::EOPNOTSUPP) => CaptureError::NoNativeXdp {
                    interface: interface.to_owned(),
                    reason: "its driver has none",
                },
                _ => other(full(&error)),
            }
        })?;
        let link = xdp.take_link(id).map_err(|error| other(full(&error)))?;
        // A link that is not a file descriptor would outlive a killed process.
        self.link = Some(FdLink::try_from(link).map_err(|error| other(error.to_string()))?);
        Ok(())
    }

    /// Detaches, and waits until the program runs nowhere any more: what it handed over is in the rings then.
    pub(super) fn detach(&mut self) -> Result<(), CaptureError> {
        self.link = None;
        // Updating an array of maps waits for a grace period. A driver hands frames to a socket inside of
        // the same section in which it runs the program.
        let (outer, inner) = &mut self.grace;
        outer
            .set(0, &*inner, 0)
            .map_err(|error| CaptureError::Map { name: "grace period", reason: full(&error) })
    }

    /// Loads the multi-buffer program, or the plain one where the kernel has no multi-buffer XDP.
    fn verify(&mut self) -> Result<(), CaptureError> {
        if self.xdp(program::MIRROR_FRAGS)?.load().is_ok() {
            return Ok(());
        }
        self.xdp(program::MIRROR)?.load().map_err(|error| match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                CaptureError::Refused { reason: io_error.to_string(), log: verifier_log.to_string() }
            }
            other => CaptureError::Refused { reason: full(&other), log: String::new() },
        })
    }

    /// Name of the program that was loaded.
    fn name(&self) -> &'static str {
        let frags = self.ebpf.program(program::MIRROR_FRAGS);
        if frags.is_some_and(|program| program.fd().is_ok()) {
            program::MIRROR_FRAGS
        } else {
            program::MIRROR
        }
    }

    fn xdp(&mut self, name: &'static str) -> Result<&mut Xdp, CaptureError> {
        self.ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| CaptureError::Object(format!("no XDP program {name}")))
    }
}

fn missing(name: &str) -> CaptureError {
    CaptureError::Object(format!("no map {name}"))
}

fn map_array<T: Element>(ebpf: &Ebpf, name: &'static str, length: u32) -> Result<Mapping<T>, CaptureError> {
    let Some(Map::Array(data)) = ebpf.map(name) else { return Err(missing(name)) };
    Mapping::new(data.fd().as_fd(), length)
        .map_err(|error| CaptureError::Map { name, reason: error.to_string() })
}

/// An error with its causes on one line.
fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
