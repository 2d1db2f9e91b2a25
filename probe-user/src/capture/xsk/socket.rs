//! One `AF_XDP` socket with its memory, for one RX queue.
//!
//! All unsafe calls of the crate `xdp` are here. Its contract: a packet that was received must not outlive
//! the UMEM it lies in, and the UMEM not go before the socket. Packets stay inside [`Receiver`], which owns
//! the UMEM.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags};
use rustix::net::{bind, sockopt};
use xdp::slab::{HeapSlab, Slab as _};
use xdp::socket::{SocketError, XdpSocketBuilder};
use xdp::umem::{FrameSize, UmemCfgBuilder};
use xdp::{CompletionRing, Packet, RingConfigBuilder, RxRing, Umem, WakableFillRing};

/// Frames that are taken from the ring at once.
const BATCH: usize = 64;
/// Octets of each UMEM frame that are the kernel's (`XDP_PACKET_HEADROOM`).
const HEADROOM: u32 = 256;
/// Ethernet header and two tags, which the MTU does not include.
const ETHERNET_OCTETS: u32 = 22;

/// How frames lie in the UMEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameLayout {
    /// One frame of 2 KiB each.
    Small,
    /// One frame of 4 KiB each.
    Large,
    /// As many frames of 4 KiB as a packet needs (kernel 6.6).
    MultiBuffer,
}

impl FrameLayout {
    /// The smallest that holds packets of `mtu` octets with Ethernet header and two tags.
    pub(super) fn for_mtu(mtu: u32) -> Self {
        let octets = mtu.saturating_add(ETHERNET_OCTETS + HEADROOM);
        match octets {
            0..=2048 => Self::Small,
            2049..=4096 => Self::Large,
            _ => Self::MultiBuffer,
        }
    }
}

/// What to open.
#[derive(Clone, Copy, Debug)]
pub(super) struct SocketSettings {
    pub(super) interface_index: u32,
    /// Frames that can wait for the worker; a power of two.
    pub(super) ring_frames: u32,
    /// Frames of the UMEM, and of the fill ring; a power of two.
    pub(super) umem_frames: u32,
    pub(super) layout: FrameLayout,
}

/// Where and why a socket could not be had.
#[derive(Debug)]
pub(super) struct OpenError {
    pub(super) step: &'static str,
    pub(super) error: io::Error,
}

impl OpenError {
    fn new(step: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self { step, error }
    }
}

/// What the kernel counted at one socket since it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketStatistics {
    /// Packets dropped for want of a free UMEM frame in copy mode, or because they are too long.
    pub rx_dropped: u64,
    /// Packets dropped because the RX ring was full.
    pub rx_ring_full: u64,
    /// Times that the fill ring was found empty. In copy mode each is a packet that is in `rx_dropped` as
    /// well; in zero-copy mode the driver was looking for frames to keep.
    pub rx_fill_ring_empty_descriptors: u64,
    /// Descriptors of ours that the kernel refused; it takes the next one then, so no packets.
    pub rx_invalid_descriptors: u64,
}

/// A socket that is bound to a queue, its fill ring full.
pub(super) struct QueueSocket {
    rx: RxRing,
    fill: WakableFillRing,
    /// The kernel wants one even where nothing is sent.
    _completion: CompletionRing,
    /// Owns the descriptor. Before the UMEM, so that it is closed first.
    socket: XdpSocketBuilder,
    umem: Umem,
    is_zero_copy: bool,
}

impl QueueSocket {
    /// Opens and binds, in zero-copy mode if the driver has it.
    pub(super) fn open(settings: &SocketSettings, queue: u32) -> Result<Self, OpenError> {
        Self::open_in(settings, queue, true).or_else(|_| Self::open_in(settings, queue, false))
    }

    fn open_in(settings: &SocketSettings, queue: u32, is_zero_copy: bool) -> Result<Self, OpenError> {
        let configuration = UmemCfgBuilder {
            frame_size: match settings.layout {
                FrameLayout::Small => FrameSize::TwoK,
                FrameLayout::Large | FrameLayout::MultiBuffer => FrameSize::FourK,
            },
            frame_count: settings.umem_frames,
            ..UmemCfgBuilder::default()
        };
        let configuration =
            configuration.build().map_err(|error| OpenError::new("sizes")(io::Error::other(error)))?;
        let mut umem = Umem::map(configuration).map_err(OpenError::new("UMEM"))?;
        let rings = RingConfigBuilder {
            rx_count: settings.ring_frames,
            fill_count: settings.umem_frames,
            tx_count: 0,
            completion_count: 1,
        };
        let rings = rings.build().map_err(|error| OpenError::new("sizes")(io::Error::other(error)))?;
        let mut socket = XdpSocketBuilder::new().map_err(of_crate)?;
        let (rings, _) = socket.build_wakable_rings(&umem, rings).map_err(of_crate)?;
        let rx = rings.rx_ring.ok_or_else(|| OpenError::new("rings")(io::Error::other("no RX ring")))?;
        let mut fill = rings.fill_ring;
        // SAFETY: the UMEM lives as long as the socket: both are in this function and then in one struct,
        // where the socket goes first.
        unsafe { fill.enqueue(&mut umem, settings.umem_frames as usize, false) }
            .map_err(OpenError::new("fill ring"))?;

        // Not by the crate, which does not offer multi-buffer.
        let mut flags = SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
        flags |= if is_zero_copy { SocketAddrXdpFlags::XDP_ZEROCOPY } else { SocketAddrXdpFlags::XDP_COPY };
        if settings.layout == FrameLayout::MultiBuffer {
            flags |= SocketAddrXdpFlags::XDP_USE_SG;
        }
        let opened = Self { rx, fill, _completion: rings.completion_ring, socket, umem, is_zero_copy };
        bind(opened.descriptor(), &SocketAddrXdp::new(flags, settings.interface_index, queue))
            .map_err(|error| OpenError::new("bind")(error.into()))?;
        Ok(opened)
    }

    pub(super) fn is_zero_copy(&self) -> bool {
        self.is_zero_copy
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the socket's, which is not closed before `self` is gone.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }

    /// What the kernel has counted at this socket.
    pub(super) fn statistics(&self) -> io::Result<SocketStatistics> {
        let counted = sockopt::xdp_statistics(self.descriptor())?;
        Ok(SocketStatistics {
            rx_dropped: counted.rx_dropped,
            rx_ring_full: counted.rx_ring_full.unwrap_or_default(),
            rx_fill_ring_empty_descriptors: counted.rx_fill_ring_empty_descs.unwrap_or_default(),
            rx_invalid_descriptors: counted.rx_invalid_descs,
        })
    }

    /// An error that the kernel has noted at this socket, such as that the interface is gone.
    pub(super) fn check(&self) -> io::Result<()> {
        match sockopt::socket_error(self.descriptor())? {
            Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn of_crate(error: SocketError) -> OpenError {
    match error {
        SocketError::SocketCreation(error) => OpenError { step: "socket", error },
        SocketError::SetSockOpt { inner, .. } => OpenError { step: "UMEM and rings", error: inner },
        SocketError::GetSockOpt { inner, .. } => OpenError { step: "offsets of the rings", error: inner },
        SocketError::RingMap { inner, .. } => OpenError { step: "rings", error: inner },
        SocketError::Bind(error) => OpenError { step: "bind", error },
    }
}

/// Takes frames from a socket; stays in one thread.
pub(super) struct Receiver {
    socket: QueueSocket,
    batch: HeapSlab,
    /// First frame of a packet that continues, and the octets of the packet so far.
    begun: Option<(Packet, u32)>,
}

impl Receiver {
    pub(super) fn new(socket: QueueSocket) -> Self {
        Self { socket, batch: HeapSlab::with_capacity(BATCH), begun: None }
    }

    pub(super) fn socket(&self) -> &QueueSocket {
        &self.socket
    }

    /// Waits until there may be something to receive, at most `time`. In zero-copy mode this also wakes the
    /// driver if it waits for frames.
    pub(super) fn wait(&self, time: Duration) -> io::Result<()> {
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        let descriptor = self.socket.descriptor();
        let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
        match poll(&mut polled, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let failed = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        if polled.iter().any(|polled| polled.revents().intersects(failed)) {
            self.socket.check()?;
            return Err(io::Error::other("the socket has failed"));
        }
        Ok(())
    }

    /// Takes a batch of frames, calls `each` with the first buffer of every packet and the octets of the
    /// whole packet, and gives the frames back to the kernel. Returns how many frames there were.
    pub(super) fn receive(&mut self, mut each: impl FnMut(&[u8], u32)) -> usize {
        let QueueSocket { rx, fill, umem, is_zero_copy, .. } = &mut self.socket;
        // SAFETY: the packets stay in `batch` and `begun`, which are dropped with the UMEM and never used
        // after it: `self` owns all three.
        let frames = unsafe { rx.recv(umem, &mut self.batch) };
        if frames == 0 {
            return 0;
        }
        while let Some(packet) = self.batch.pop_back() {
            let octets = packet.len() as u32;
            match (self.begun.take(), packet.is_continued()) {
                (None, false) => {
                    each(octets_of(&packet), octets);
                    umem.free_packet(packet);
                }
                (None, true) => self.begun = Some((packet, octets)),
                (Some((first, before)), true) => {
                    umem.free_packet(packet);
                    self.begun = Some((first, before + octets));
                }
                (Some((first, before)), false) => {
                    each(octets_of(&first), before + octets);
                    umem.free_packet(packet);
                    umem.free_packet(first);
                }
            }
        }
        let free = umem.allocatable();
        // SAFETY: the UMEM lives as long as the socket, see `open_in`. One call for the whole batch wakes the
        // driver; in copy mode nobody sleeps. If it cannot be woken, its link is down or the interface gone,
        // which is looked for elsewhere; the frames are in the ring already.
        let _ = unsafe { fill.enqueue(umem, free, *is_zero_copy) };
        frames
    }
}

/// The octets of one buffer; no indexing that could panic, whatever the kernel wrote in its descriptor.
fn octets_of(packet: &Packet) -> &[u8] {
    packet.slice_at_offset(0, packet.len()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_small_as_the_mtu_allows() {
        for (mtu, layout) in [
            (1500, FrameLayout::Small),
            (1770, FrameLayout::Small),
            (1771, FrameLayout::Large),
            (3818, FrameLayout::Large),
            (3819, FrameLayout::MultiBuffer),
            (9000, FrameLayout::MultiBuffer),
            (u32::MAX, FrameLayout::MultiBuffer),
        ] {
            assert_eq!(FrameLayout::for_mtu(mtu), layout, "{mtu}");
        }
    }
}
