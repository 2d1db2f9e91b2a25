//! One TCP connection: its options, and octets in and out without waiting.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::task::{Context, Poll};
use std::time::Duration;

use ipnet::IpNet;
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

use crate::md5;
use crate::speaker::{Active, PeerSettings};
use crate::wire::{EXTENDED_MAXIMUM_LENGTH, MAXIMUM_LENGTH};

/// Octets read at a time: what one turn of a session works on at most.
const CHUNK: usize = 64 * 1024;
/// Room for a message that is not complete yet, and a chunk.
const ESTABLISHED_INPUT: usize = EXTENDED_MAXIMUM_LENGTH as usize + CHUNK;
/// Until the session is up, messages are short, and so many connections take little memory.
const FIRST_INPUT: usize = 2 * MAXIMUM_LENGTH as usize;
/// A peer that lets so much of ours lie reads nothing any more.
const MAXIMUM_OUTPUT: usize = 64 * 1024;
/// How long a peer may take to read our last words.
const LINGER: Duration = Duration::from_secs(1);
/// TTL of a peer that checks it (RFC 5082).
const GTSM_TTL: u32 = 255;

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    Octets,
    Nothing,
    End,
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    input: Vec<u8>,
    start: usize,
    end: usize,
    output: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let local = canonical(stream.local_addr()?);
        let remote = canonical(stream.peer_addr()?);
        let input = vec![0; FIRST_INPUT];
        Ok(Self { stream, local, remote, input, start: 0, end: 0, output: Vec::new() })
    }

    /// Makes room for the messages of an established session.
    pub(crate) fn grow(&mut self) {
        self.input.resize(ESTABLISHED_INPUT, 0);
    }

    /// Octets received and not consumed.
    pub(crate) fn input(&self) -> &[u8] {
        self.input.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes octets off the front of [`Self::input`].
    pub(crate) fn consume(&mut self, octets: usize) {
        self.start = (self.start + octets).min(self.end);
    }

    /// Reads at most a chunk.
    pub(crate) fn fill(&mut self) -> io::Result<Fill> {
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let limit = self.input.len().min(self.end + CHUNK);
        let Some(room) = self.input.get_mut(self.end..limit) else { return Ok(Fill::Nothing) };
        match self.stream.try_read(room) {
            Ok(0) => Ok(Fill::End),
            Ok(octets) => {
                self.end += octets;
                Ok(Fill::Octets)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Fill::Nothing),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Fill::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Sends what `encode` writes, or keeps it until the peer reads.
    pub(crate) fn send(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        encode(&mut self.output);
        self.flush()?;
        if self.output.len() > MAXIMUM_OUTPUT {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read"));
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.try_write(&self.output) {
                Ok(octets) => drop(self.output.drain(..octets)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ready when there is something to read, or room for what waits to be sent.
    pub(crate) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let writable = !self.output.is_empty() && self.stream.poll_write_ready(context).is_ready();
        if self.stream.poll_read_ready(context).is_ready() || writable {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Sends what is left and waits for the peer's end: a socket closed with octets unread sends a reset, which would
    /// take our NOTIFICATION with it.
    pub(crate) async fn linger(mut self) {
        let until_closed = async {
            while !self.output.is_empty() {
                self.stream.writable().await?;
                self.flush()?;
            }
            SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write)?;
            loop {
                self.stream.readable().await?;
                (self.start, self.end) = (0, 0);
                if self.fill()? == Fill::End {
                    return Ok::<_, io::Error>(());
                }
            }
        };
        // Whatever happens, the connection is over.
        let _ = tokio::time::timeout(LINGER, until_closed).await;
    }
}

/// Sets what every connection to a peer needs.
pub(crate) fn set_options(stream: &TcpStream, settings: &PeerSettings) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_mins(1))
        .with_interval(Duration::from_secs(20))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    let patience = if settings.hold_time == 0 { 180 } else { u64::from(settings.hold_time) };
    socket.set_tcp_user_timeout(Some(Duration::from_secs(patience)))?;
    let ipv6 = stream.peer_addr()?.is_ipv6();
    if settings.ttl_security.is_some() {
        set_ttl(&socket, ipv6)?;
    }
    md5::set_min_ttl(stream, ipv6, settings.min_ttl().unwrap_or(0))
}

/// Octets that may wait to be read, with the kernel's own share: a peer that has a whole table to send does not wait
/// while we make room for it.
const RECEIVE_BUFFER: usize = 16 << 20;

/// Makes room for what a peer sends at once. It has to be set before the handshake, which agrees on the greatest window.
pub(crate) fn set_receive_buffer(socket: &impl AsFd) {
    // Without CAP_NET_ADMIN the system's own limits hold, and it chooses the size by itself.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER);
}

/// Makes segments pass a peer's TTL check.
pub(crate) fn set_ttl(socket: &Socket, ipv6: bool) -> io::Result<()> {
    if ipv6 { socket.set_unicast_hops_v6(GTSM_TTL) } else { socket.set_ttl_v4(GTSM_TTL) }
}

/// Connects to a peer.
pub(crate) async fn connect(settings: std::rc::Rc<PeerSettings>, active: Active) -> io::Result<TcpStream> {
    let remote = SocketAddr::new(settings.remote.addr(), active.port);
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    set_receive_buffer(&socket);
    if let Some(key) = &settings.md5_key {
        md5::set_key(&socket, IpNet::from(remote.ip()), Some(key))?;
    }
    if settings.ttl_security.is_some() {
        set_ttl(&SockRef::from(&socket), remote.is_ipv6())?;
    }
    if let Some(local) = active.local {
        socket.set_reuseaddr(true)?;
        socket.bind(local)?;
    }
    let stream = socket.connect(remote).await?;
    set_options(&stream, &settings)?;
    Ok(stream)
}
