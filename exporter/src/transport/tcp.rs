//! TCP to one collector (RFC 7011, section 10.4): the socket, without waiting for anything.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::num::NonZeroU8;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::marking::mark;

/// How often a silent collector is asked whether it is there, and how often it may fail to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// Reads of what a collector says, at a time. It has nothing to say, and one that never stops is not to hold us up.
pub(super) const READS: usize = 16;

/// Asks the system how many octets of a TCP socket the other host has not acknowledged (`SIOCOUTQ`).
pub type Unacknowledged = fn(BorrowedFd<'_>) -> io::Result<u32>;

/// How to reach a collector by TCP or TLS.
#[derive(Clone, Debug)]
pub struct TcpSettings {
    /// The collector.
    pub collector: SocketAddr,
    /// Source address of the connection; the system chooses if `None`.
    pub source_address: Option<IpAddr>,
    /// Differentiated Services Codepoint (RFC 2474), 63 at most.
    pub dscp: u8,
    /// Time to Live or Hop Limit; the system's if `None`.
    pub ttl: Option<NonZeroU8>,
    /// How long a connection attempt may take, with the TLS handshake if there is one.
    pub connect_timeout: Duration,
    /// How long a connection is kept that takes no octet although there is one to send.
    pub send_timeout: Duration,
    /// As this crate has no unsafe code and no library makes the call, the caller does. Without it, records count as
    /// delivered when the system has taken them, and what it had not sent when the connection broke is not known.
    pub unacknowledged: Option<Unacknowledged>,
}

impl TcpSettings {
    /// Settings for `collector`: ten seconds to connect, thirty to take an octet.
    #[must_use]
    pub const fn new(collector: SocketAddr) -> Self {
        Self {
            collector,
            source_address: None,
            dscp: 0,
            ttl: None,
            connect_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(30),
            unacknowledged: None,
        }
    }

    /// Begins to connect. The socket does not block; it can be written to when the connection is there or has failed.
    pub(super) fn begin_connect(&self) -> io::Result<TcpStream> {
        let family = if self.collector.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        mark(&socket, self.collector.is_ipv4(), self.dscp, self.ttl).map_err(|(_, error)| error)?;
        // Messages are as long as they can be; what is less is meant to leave at once.
        sockopt::set_tcp_nodelay(&socket, true)?;
        // A collector that vanished without a word is noticed even when there is nothing to send.
        sockopt::set_socket_keepalive(&socket, true)?;
        sockopt::set_tcp_keepidle(&socket, self.send_timeout.max(Duration::from_secs(1)))?;
        sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_PROBES)?;
        if let Some(source_address) = self.source_address {
            rustix::net::bind(&socket, &SocketAddr::new(source_address, 0))?;
        }
        match rustix::net::connect(&socket, &self.collector) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
            Err(error) => Err(error.into()),
        }
    }
}

/// What is there to read from a collector, which by IPFIX has nothing to say.
#[derive(Debug)]
pub(super) enum Heard {
    Nothing,
    /// Octets that mean nothing to us.
    Something,
    /// It has closed its side.
    End,
}

/// A connection without TLS.
#[derive(Debug)]
pub(super) struct Plain {
    /// What the system did not take yet.
    backlog: Vec<u8>,
    /// Octets of it that it has taken since.
    taken: usize,
}

impl Plain {
    pub(super) const fn new() -> Self {
        Self { backlog: Vec::new(), taken: 0 }
    }

    /// Octets that are still to be given to the system.
    pub(super) fn waiting(&self) -> usize {
        self.backlog.len() - self.taken
    }

    /// Takes a message and gives the system what it takes of it. Returns how much that is.
    pub(super) fn send(&mut self, mut socket: &TcpStream, octets: &[u8]) -> io::Result<usize> {
        self.backlog.clear();
        self.taken = 0;
        // Usually the system takes all, and nothing has to be kept.
        let taken = write(&mut socket, octets)?;
        self.backlog.extend_from_slice(octets.get(taken..).unwrap_or_default());
        Ok(taken + self.flush(socket)?)
    }

    /// Gives the system more of what waits. Returns how much it took.
    pub(super) fn flush(&mut self, mut socket: &TcpStream) -> io::Result<usize> {
        let before = self.taken;
        while let Some(rest) = self.backlog.get(self.taken..).filter(|rest| !rest.is_empty()) {
            match write(&mut socket, rest)? {
                0 => break,
                taken => self.taken += taken,
            }
        }
        Ok(self.taken - before)
    }

    pub(super) fn hear(mut socket: &TcpStream) -> io::Result<Heard> {
        let mut octets = [0; 1024];
        let mut heard = Heard::Nothing;
        for _ in 0..READS {
            match socket.read(&mut octets) {
                Ok(0) => return Ok(Heard::End),
                Ok(_) => heard = Heard::Something,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
                Err(error) => return Err(error),
            }
        }
        Ok(heard)
    }
}

/// Writes what the system takes now, perhaps nothing.
fn write(socket: &mut &TcpStream, octets: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(octets) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            result => return result,
        }
    }
}

/// Octets that the other host has acknowledged, of `written` that the system has taken.
pub(super) fn acknowledged(socket: &TcpStream, written: u64, ask: Option<Unacknowledged>) -> u64 {
    // If the system does not say, nothing is proven to have arrived.
    ask.map_or(written, |ask| ask(socket.as_fd()).map_or(0, |octets| written.saturating_sub(octets.into())))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_collector_that_talks_is_not_heard_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut collector, _) = listener.accept().unwrap();
        let mut octets = vec![0; 20 * 1024];
        collector.write_all(&octets).unwrap();
        // All of it is there.
        while socket.peek(&mut octets).unwrap() < 20 * 1024 {}
        socket.set_nonblocking(true).unwrap();
        assert!(matches!(Plain::hear(&socket), Ok(Heard::Something)));
        assert_eq!(socket.peek(&mut octets).unwrap(), 4 * 1024);
        assert!(matches!(Plain::hear(&socket), Ok(Heard::Something)));
        drop(collector);
        while !matches!(Plain::hear(&socket), Ok(Heard::End)) {}
    }
}
