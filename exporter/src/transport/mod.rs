//! Where finished messages go.

pub(crate) mod session;

mod marking;
mod stdout;
mod tcp;
mod tls;
mod udp;

#[cfg(test)]
pub(crate) mod scripted;

use std::io;

use crate::time::ExportTime;

pub use session::Session;
pub use stdout::Stdout;
pub use tcp::{TcpSettings, Unacknowledged};
pub use tls::{TlsError, TlsFile, TlsFiles, TlsSettings};
pub use udp::{Udp, UdpError, UdpSettings};

/// What became of one send.
#[derive(Debug)]
pub enum SendOutcome {
    /// Handed to the network. On a datagram transport an error may still be reported later.
    Sent,
    /// Not sent: the call reported an ICMP error that an *earlier* datagram had caused. Send again.
    Refused(io::Error),
    /// Not sent: larger than the path MTU, or the call reported that an earlier datagram was.
    TooBig,
    /// Not sent within the send timeout.
    TimedOut,
    /// Not sent: the reader is gone, and every later send will fail.
    Closed,
    /// Not sent: no way to the collector. Either there is none now, or the call reported an ICMP error that an
    /// earlier datagram had caused; if sending again succeeds it was the latter.
    Unreachable(io::Error),
    /// Not sent for another reason.
    Failed(io::Error),
    /// Not sent: the connection has ended, or there is none.
    Disconnected,
}

/// What became of several messages that were to be sent at once.
#[derive(Debug)]
pub(crate) enum SegmentsOutcome {
    /// As for one message; if it is not [`SendOutcome::Sent`], none was sent.
    As(SendOutcome),
    /// The system does not send several at once to this collector. None was sent; each is to be sent alone.
    NotSupported,
}

/// A report about the last datagram that was sent, taken without sending.
#[derive(Debug)]
pub enum Report {
    /// No error is known.
    Nothing,
    /// An ICMP error: it did not reach the collector.
    Refused(io::Error),
    /// A router on the path dropped it for its size.
    TooBig,
}

/// The transports an Exporting Process can use.
#[derive(Debug)]
pub enum Transport {
    /// UDP datagrams (RFC 7011, section 10.3).
    Udp(Udp),
    /// TCP or TLS connections (RFC 7011, sections 10.4 and 11), each of them a Transport Session.
    Session(Box<Session>),
    /// Messages one after another on standard output; for IPFIX this is an IPFIX File (RFC 5655).
    Stdout(Stdout),
    /// Does what a test's script says.
    #[cfg(test)]
    #[expect(private_interfaces, reason = "exists in this crate's tests only")]
    Scripted(scripted::Scripted),
}

impl Transport {
    /// Sends one message.
    pub fn send(&mut self, now: ExportTime, octets: &[u8]) -> SendOutcome {
        match self {
            Self::Udp(udp) => udp.send(octets),
            Self::Session(session) => match session.send(now.monotonic, octets) {
                Ok(()) => SendOutcome::Sent,
                Err(()) => SendOutcome::Disconnected,
            },
            Self::Stdout(stdout) => stdout.send(octets),
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.send(octets),
        }
    }

    /// Sends several messages at once, each as a datagram of its own: all of `segment` octets but for the last, which
    /// may be shorter. All are sent or none is.
    pub(crate) fn send_segments(&mut self, octets: &[u8], segment: u16) -> SegmentsOutcome {
        match self {
            Self::Udp(udp) => udp.send_segments(octets, segment),
            Self::Session(_) | Self::Stdout(_) => SegmentsOutcome::NotSupported,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.send_segments(octets, segment),
        }
    }

    /// Octets of all messages that [`send_segments`](Self::send_segments) takes at most; 0 if it takes none.
    pub(crate) const fn segments_size(&self) -> usize {
        match self {
            Self::Udp(udp) => udp.segments_size(),
            Self::Session(_) | Self::Stdout(_) => 0,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.segments_size,
        }
    }

    /// Asks for an error report about the last datagram sent, which it consumes.
    pub fn report(&mut self) -> Report {
        match self {
            Self::Udp(udp) => udp.report(),
            Self::Session(_) | Self::Stdout(_) => Report::Nothing,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.report(),
        }
    }

    /// The path MTU as the system knows it now, in octets with IP header; `None` if the transport has none or
    /// the system does not say.
    #[must_use]
    pub fn path_mtu(&self) -> Option<u32> {
        match self {
            Self::Udp(udp) => udp.path_mtu(),
            Self::Session(_) | Self::Stdout(_) => None,
            #[cfg(test)]
            Self::Scripted(scripted) => Some(scripted.path_mtu),
        }
    }

    /// Octets of the headers below the message: IP without options, and UDP.
    #[must_use]
    pub fn header_overhead(&self) -> usize {
        match self {
            Self::Udp(udp) => udp.header_overhead(),
            Self::Session(_) | Self::Stdout(_) => 0,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.header_overhead(),
        }
    }

    /// Whether an error about a datagram can still come after it was sent.
    pub(crate) const fn reports_later(&self) -> bool {
        !matches!(self, Self::Stdout(_))
    }

    /// The sessions, if this is a transport with connections.
    pub(crate) fn session(&mut self) -> Option<&mut Session> {
        match self {
            Self::Session(session) => Some(session),
            _ => None,
        }
    }

    /// Whether a message can be sent now.
    pub(crate) fn is_ready(&self) -> bool {
        !matches!(self, Self::Session(session) if !session.is_ready())
    }

    /// Octets of a message where neither the path nor the operator limits them.
    pub(crate) const fn message_size(&self) -> Option<usize> {
        match self {
            Self::Session(_) => Some(session::MESSAGE_SIZE),
            _ => None,
        }
    }

    /// The message size every path must carry, in octets: what a datagram is cut to when the system says "too
    /// big" without saying what would fit.
    pub(crate) fn safe_message_size(&self) -> usize {
        match self {
            Self::Udp(udp) => udp.safe_message_size(),
            Self::Session(_) | Self::Stdout(_) => usize::MAX,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.safe_message_size(),
        }
    }
}
