//! A speaker that opens a session and writes what it was given, at once and as fast as it is read.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use pathflow_bgp::Family;
use pathflow_bgp::wire::encode_update::UpdateBuilder;
use pathflow_bgp::wire::{
    Capability, Header, MAXIMUM_LENGTH, MessageType, Open, SessionContext, encode_keepalive,
};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::AS_NUMBER;

/// A session that is up.
pub(super) struct Feed {
    stream: TcpStream,
    /// When the OPEN was sent.
    pub(super) start: Instant,
}

impl Feed {
    /// Connects from one address to another.
    pub(super) fn open(from: Ipv4Addr, to: SocketAddrV4) -> Result<Self> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddrV4::new(from, 0))?;
        connect(&socket, &to)?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let open = Open {
            as_number: AS_NUMBER,
            // Longer than any table takes, so that no KEEPALIVE is needed.
            hold_time: 1800,
            bgp_identifier: from,
            capabilities: vec![
                Capability::multiprotocol(Family::IPV4_UNICAST),
                Capability::multiprotocol(Family::IPV6_UNICAST),
                Capability::FourOctetAsNumber(AS_NUMBER),
            ],
        };
        let mut octets = Vec::new();
        open.encode(&mut octets);
        let start = Instant::now();
        stream.write_all(&octets)?;
        ensure!(receive(&mut stream)? == MessageType::Open, "no OPEN");
        octets.clear();
        encode_keepalive(&mut octets);
        stream.write_all(&octets)?;
        ensure!(receive(&mut stream)? == MessageType::Keepalive, "no KEEPALIVE");
        let mut reader = stream.try_clone()?;
        // What the other side says is of no interest, but it has to get rid of it.
        thread::spawn(move || {
            let mut octets = [0; 4096];
            while reader.read(&mut octets).is_ok_and(|count| count > 0) {}
        });
        Ok(Self { stream, start })
    }

    /// Returns when the system has taken everything.
    pub(super) fn send(&self, octets: &[u8]) -> Result<()> {
        (&self.stream).write_all(octets).context("the session has ended")
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        // It may have ended by itself.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads one message; its type.
fn receive(stream: &mut TcpStream) -> Result<MessageType> {
    let mut octets = vec![0; 19];
    stream.read_exact(&mut octets)?;
    let header = Header::decode(&octets, MAXIMUM_LENGTH)?.context("half a header")?;
    octets.resize(header.body_octets(), 0);
    stream.read_exact(&mut octets)?;
    ensure!(header.message_type != MessageType::Notification, "NOTIFICATION {octets:?}");
    Ok(header.message_type)
}

/// Appends the End-of-RIB markers of both families (RFC 4724, section 2).
pub(super) fn end_of_rib(octets: &mut Vec<u8>) {
    let update = || UpdateBuilder::new(SessionContext::default());
    update().encode(octets);
    update().mp_unreach(Family::IPV6_UNICAST, &[]).encode(octets);
}
