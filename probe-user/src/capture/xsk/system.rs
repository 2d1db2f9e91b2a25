//! What the kernel can only be asked for by calls that no library here wraps: the number of RX queues, and
//! promiscuous mode for as long as somebody wants it.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket, socket_with};

/// `ETHTOOL_GCHANNELS` (`linux/ethtool.h`).
const GET_CHANNELS: u32 = 0x3c;
/// `SIOCETHTOOL` (`linux/sockios.h`).
const ETHTOOL: u32 = 0x8946;

/// `struct ethtool_channels`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Channels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ifreq` with a pointer. The kernel copies all of it, whichever member is used.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    data: *mut Channels,
    rest: [u64; 2],
}

const _: () = assert!(size_of::<InterfaceRequest>() >= size_of::<libc::ifreq>());

/// RX queues of an interface now; `None` if its driver does not say.
pub(super) fn rx_queues(interface: &str) -> io::Result<Option<u32>> {
    let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
    let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], data: &raw mut channels, rest: [0; 2] };
    // The last octet stays zero.
    for (to, from) in request.name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
        *to = from;
    }
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: the request is laid out as the kernel expects it, at least as long, and points to channels that
    // live until after the call; the kernel writes nothing else.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL.into(), &raw mut request) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::EOPNOTSUPP) { Ok(None) } else { Err(error) };
    }
    // Queues that only receive, and those that do both.
    Ok(Some(channels.rx + channels.combined).filter(|queues| *queues > 0))
}

/// Makes an interface take frames that are for others, as those of a mirror are, until the descriptor is
/// closed, by whatever end of the process. Needs `CAP_NET_RAW`.
pub(super) fn promiscuous(interface_index: u32) -> io::Result<OwnedFd> {
    // Without a protocol, it receives nothing itself.
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let request = libc::packet_mreq {
        mr_ifindex: interface_index as i32,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    // SAFETY: the kernel reads a `packet_mreq` of the given length, which lives until after the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            size_of::<libc::packet_mreq>() as u32,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}
