//! UDP to one collector (RFC 7011, section 10.3), never fragmented (section 10.3.3).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU8;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use rustix::io::Errno;
use rustix::net::sockopt;

use super::marking::mark;
use super::{Report, SegmentsOutcome, SendOutcome};

const UDP_HEADER_LENGTH: usize = 8;
const IPV4_HEADER_LENGTH: usize = 20;
const IPV6_HEADER_LENGTH: usize = 40;
/// The length of an IPv4 packet has two octets. (That of IPv6 does not count its own header.)
const MAX_PACKET_LENGTH: usize = 65_535;
/// RFC 1122, section 3.3.3: what to assume of an IPv4 path that is not known.
const IPV4_SAFE_MTU: usize = 576;
/// RFC 8200, section 5: what every IPv6 link carries.
const IPV6_SAFE_MTU: usize = 1280;

/// How to reach the collector.
#[derive(Clone, Debug)]
pub struct UdpSettings {
    /// The collector.
    pub collector: SocketAddr,
    /// Source address of the datagrams; the system chooses if `None`.
    pub source_address: Option<IpAddr>,
    /// Longest wait for room in the socket; then the message is lost. Zero counts as one millisecond.
    pub send_timeout: Duration,
    /// Differentiated Services Codepoint of the datagrams, 0 to 63 (RFC 2474, section 3).
    pub dscp: u8,
    /// Time to Live (IPv4) or Hop Limit (IPv6) of the datagrams; the system chooses if `None`.
    pub ttl: Option<NonZeroU8>,
    /// Messages of one length may leave together (`UDP_SEGMENT`), where the system can do that. The datagrams are the
    /// same; it costs a third of the time.
    pub segmentation_offload: bool,
}

impl UdpSettings {
    /// Largest `dscp`.
    pub const MAX_DSCP: u8 = 63;

    /// Settings for `collector`, with a send timeout of one second.
    #[must_use]
    pub const fn new(collector: SocketAddr) -> Self {
        Self {
            collector,
            source_address: None,
            send_timeout: Duration::from_secs(1),
            dscp: 0,
            ttl: None,
            segmentation_offload: true,
        }
    }
}

/// The UDP transport could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// Source and collector address are of different families.
    #[error("source address {source_address} and collector {collector} are of different address families")]
    FamilyMismatch {
        /// As configured.
        source_address: IpAddr,
        /// As configured.
        collector: SocketAddr,
    },
    /// A Differentiated Services Codepoint has six bits.
    #[error("DSCP {dscp} is over the maximum of {}", UdpSettings::MAX_DSCP)]
    Dscp {
        /// As configured.
        dscp: u8,
    },
    /// No socket with this source address.
    #[error("cannot bind UDP socket to source address {source_address}: {error}")]
    Bind {
        /// As configured, or the unspecified address.
        source_address: IpAddr,
        /// From the system.
        #[source]
        error: io::Error,
    },
    /// A socket option could not be set.
    #[error("cannot set socket option {option} for collector {collector}: {error}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// As configured.
        collector: SocketAddr,
        /// From the system.
        #[source]
        error: io::Error,
    },
    /// No route to the collector.
    #[error("cannot connect UDP socket to collector {collector}: {error}")]
    Connect {
        /// As configured.
        collector: SocketAddr,
        /// From the system.
        #[source]
        error: io::Error,
    },
}

/// A connected UDP socket. Connected, so that the system reports ICMP errors and knows the path MTU.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    collector: SocketAddr,
    /// What `UDP_SEGMENT` is set to: octets of UDP payload into which the system cuts what is sent; 0 if it does not.
    segment: u16,
    /// The system cuts nothing for this collector.
    has_no_segmentation: bool,
}

impl Udp {
    /// Opens the socket. Nothing is sent.
    ///
    /// # Errors
    /// [`UdpError`], if an address, an option or the route is refused.
    pub fn connect(settings: &UdpSettings) -> Result<Self, UdpError> {
        let collector = settings.collector;
        let source_address = settings.source_address.unwrap_or(match collector {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        });
        if source_address.is_ipv4() != collector.is_ipv4() {
            return Err(UdpError::FamilyMismatch { source_address, collector });
        }
        if settings.dscp > UdpSettings::MAX_DSCP {
            return Err(UdpError::Dscp { dscp: settings.dscp });
        }
        let socket =
            UdpSocket::bind((source_address, 0)).map_err(|error| UdpError::Bind { source_address, error })?;
        let option = |option, error: Errno| UdpError::Option { option, collector, error: error.into() };
        mark(&socket, collector.is_ipv4(), settings.dscp, settings.ttl)
            .map_err(|(name, error)| option(name, error))?;
        match collector {
            SocketAddr::V4(_) => {
                sockopt::set_ip_mtu_discover(&socket, sockopt::Ipv4PathMtuDiscovery::DO)
                    .map_err(|error| option("IP_MTU_DISCOVER", error))?;
            }
            SocketAddr::V6(_) => {
                sockopt::set_ipv6_mtu_discover(&socket, sockopt::Ipv6PathMtuDiscovery::DO)
                    .map_err(|error| option("IPV6_MTU_DISCOVER", error))?;
            }
        }
        // The system takes zero for "wait for ever".
        let timeout = settings.send_timeout.max(Duration::from_millis(1));
        socket.set_write_timeout(Some(timeout)).map_err(|error| UdpError::Option {
            option: "SO_SNDTIMEO",
            collector,
            error,
        })?;
        socket.connect(collector).map_err(|error| UdpError::Connect { collector, error })?;
        Ok(Self { socket, collector, segment: 0, has_no_segmentation: !settings.segmentation_offload })
    }

    /// The collector this socket is connected to.
    #[must_use]
    pub const fn collector(&self) -> SocketAddr {
        self.collector
    }

    /// Source address of the datagrams: as set, or as the system chose by the route to the collector.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn source_address(&self) -> io::Result<IpAddr> {
        self.socket.local_addr().map(|address| address.ip())
    }

    pub(super) fn send(&mut self, octets: &[u8]) -> SendOutcome {
        match self.cut_into(0) {
            Ok(()) => self.send_as_set(octets),
            Err(error) => SendOutcome::Failed(error),
        }
    }

    /// By UDP segmentation offload: one way through the system for all datagrams, which the network card, or else the
    /// system just before it, cuts them from. Their headers are those that each would have alone.
    pub(super) fn send_segments(&mut self, octets: &[u8], segment: u16) -> SegmentsOutcome {
        if octets.len() <= segment.into() {
            return SegmentsOutcome::As(self.send(octets));
        }
        if self.cut_into(segment).is_err() {
            self.has_no_segmentation = true;
            return SegmentsOutcome::NotSupported;
        }
        match self.send_as_set(octets) {
            SendOutcome::Failed(error) => self.segmentation_failed(error, segment),
            outcome => SegmentsOutcome::As(outcome),
        }
    }

    /// Octets of all datagrams that go through the system at once.
    pub(super) const fn segments_size(&self) -> usize {
        if self.has_no_segmentation { 0 } else { MAX_PACKET_LENGTH - self.header_overhead() }
    }

    /// `EINVAL`: the path carries less than a segment, or the kernel takes fewer of them. `EIO`: the way out has no
    /// segmentation, such as an encrypted tunnel, or on older kernels no checksums by the network card.
    fn segmentation_failed(&mut self, error: io::Error, segment: u16) -> SegmentsOutcome {
        let packet = usize::from(segment) + self.header_overhead();
        match Errno::from_io_error(&error) {
            Some(Errno::INVAL) if self.path_mtu().is_some_and(|mtu| (mtu as usize) < packet) => {
                SegmentsOutcome::As(SendOutcome::TooBig)
            }
            Some(Errno::INVAL | Errno::IO) => {
                self.has_no_segmentation = true;
                SegmentsOutcome::NotSupported
            }
            _ => SegmentsOutcome::As(SendOutcome::Failed(error)),
        }
    }

    fn cut_into(&mut self, segment: u16) -> io::Result<()> {
        if self.segment != segment {
            setsockopt(&self.socket, UdpGsoSegment, &segment.into())?;
            self.segment = segment;
        }
        Ok(())
    }

    fn send_as_set(&self, octets: &[u8]) -> SendOutcome {
        loop {
            let Err(error) = self.socket.send(octets) else { return SendOutcome::Sent };
            return match Errno::from_io_error(&error) {
                Some(Errno::INTR) => continue,
                Some(Errno::CONNREFUSED) => SendOutcome::Refused(error),
                Some(Errno::MSGSIZE) => SendOutcome::TooBig,
                Some(Errno::AGAIN) => SendOutcome::TimedOut,
                // What Linux makes of the ICMP errors that it passes on, besides "port unreachable".
                Some(
                    Errno::HOSTUNREACH
                    | Errno::NETUNREACH
                    | Errno::HOSTDOWN
                    | Errno::NONET
                    | Errno::NOPROTOOPT
                    | Errno::OPNOTSUPP
                    | Errno::ACCESS
                    | Errno::PROTO,
                ) => SendOutcome::Unreachable(error),
                _ => SendOutcome::Failed(error),
            };
        }
    }

    pub(super) fn report(&self) -> Report {
        match self.socket.take_error() {
            Ok(None) | Err(_) => Report::Nothing,
            Ok(Some(error)) => match Errno::from_io_error(&error) {
                Some(Errno::MSGSIZE) => Report::TooBig,
                _ => Report::Refused(error),
            },
        }
    }

    pub(super) fn path_mtu(&self) -> Option<u32> {
        match self.collector {
            SocketAddr::V4(_) => sockopt::ip_mtu(&self.socket),
            SocketAddr::V6(_) => sockopt::ipv6_mtu(&self.socket),
        }
        .ok()
    }

    pub(super) const fn header_overhead(&self) -> usize {
        match self.collector {
            SocketAddr::V4(_) => IPV4_HEADER_LENGTH + UDP_HEADER_LENGTH,
            SocketAddr::V6(_) => IPV6_HEADER_LENGTH + UDP_HEADER_LENGTH,
        }
    }

    pub(super) const fn safe_message_size(&self) -> usize {
        match self.collector {
            SocketAddr::V4(_) => IPV4_SAFE_MTU - self.header_overhead(),
            SocketAddr::V6(_) => IPV6_SAFE_MTU - self.header_overhead(),
        }
    }
}
