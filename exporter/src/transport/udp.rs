//! UDP to one collector (RFC 7011, section 10.3), never fragmented (section 10.3.3).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU8;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;

use super::marking::mark;
use super::{Report, SendOutcome};

const UDP_HEADER_LENGTH: usize = 8;
const IPV4_HEADER_LENGTH: usize = 20;
const IPV6_HEADER_LENGTH: usize = 40;
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
}

impl UdpSettings {
    /// Largest `dscp`.
    pub const MAX_DSCP: u8 = 63;

    /// Settings for `collector`, with a send timeout of one second.
    #[must_use]
    pub const fn new(collector: SocketAddr) -> Self {
        Self { collector, source_address: None, send_timeout: Duration::from_secs(1), dscp: 0, ttl: None }
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
        Ok(Self { socket, collector })
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

    pub(super) fn send(&self, octets: &[u8]) -> SendOutcome {
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
