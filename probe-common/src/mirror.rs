//! Layout of the maps of the mirror program, which hands frames to `AF_XDP` sockets.
//!
//! The program is apart from the flow tables: user space parses and accounts here. It has one object per
//! interface; sockets and heartbeats are by RX queue, counters by CPU.

use crate::layout::Count;

/// Names of the maps in the object.
pub mod map {
    /// `XskMap`, a socket for each RX queue.
    pub const SOCKETS: &str = "SOCKETS";
    /// `Array<Heartbeat, queues>`, mmapable.
    pub const HEARTBEATS: &str = "HEARTBEATS";
    /// `Array<MirrorCounters, cpus>`, mmapable.
    pub const COUNTERS: &str = "COUNTERS";
    /// `ArrayOfMaps<Array<u64, 1>, 1>`: not read by the program; its update waits for a grace period.
    pub const GRACE: &str = "GRACE";
}

/// Names of the programs in the object.
pub mod program {
    /// XDP program for frames of several buffers (kernel 5.18 and a driver that has them).
    pub const MIRROR_FRAGS: &str = "pathflow_mirror";
    /// XDP program for frames of one buffer.
    pub const MIRROR: &str = "mirror_plain";
}

/// How old a heartbeat may be, in nanoseconds. Beyond that, the program lets the packets of the queue pass.
pub const WATCHDOG_NANOSECONDS: u64 = 2_000_000_000;

/// Sign of life of the worker of one RX queue; written by user space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Heartbeat {
    /// The kernel's `CLOCK_MONOTONIC` at the last sign, in nanoseconds; 0 if there was none.
    pub nanoseconds: u64,
    /// Zero; brings the element to one cache line.
    pub reserved: [u64; 7],
}

/// What the program did on one CPU since it was loaded. Octets are those of whole frames, without the check
/// sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MirrorCounters {
    /// Handed to a socket. The kernel may still drop them there, and then counts them in the socket.
    pub redirected: Count,
    /// Let pass to the network stack of this host: no socket on their queue, or no sign of life of its worker.
    pub passed: Count,
    /// Zero; brings the element to one cache line.
    pub reserved: [u64; 4],
}

const _: () = assert!(size_of::<Heartbeat>() == 64);
const _: () = assert!(size_of::<MirrorCounters>() == 64);

/// Whether a worker that gave its last sign of life at `heartbeat` is to get packets at `now`. The clock of
/// the kernel program may be a tick behind that of the worker.
#[inline(always)]
#[must_use]
pub const fn is_alive(heartbeat: u64, now: u64) -> bool {
    heartbeat != 0 && now.wrapping_sub(heartbeat) as i64 <= WATCHDOG_NANOSECONDS as i64
}

const _: () = assert!(is_alive(1_000, 1_000 + WATCHDOG_NANOSECONDS));
const _: () = assert!(!is_alive(1_000, 1_001 + WATCHDOG_NANOSECONDS));
const _: () = assert!(is_alive(1_000, 900) && !is_alive(0, 100));
