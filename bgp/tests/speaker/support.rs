//! A peer of plain octets, and speakers to connect to.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use pathflow_bgp::fsm::State;
use pathflow_bgp::rib::PeerId;
use pathflow_bgp::speaker::{PeerSettings, PeerStatus, Settings, Speaker, SpeakerHandle};
use socket2::{Domain, Socket, Type};

/// Nothing here takes longer unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const OPEN: u8 = 1;
pub const UPDATE: u8 = 2;
pub const NOTIFICATION: u8 = 3;
pub const KEEPALIVE: u8 = 4;
pub const ROUTE_REFRESH: u8 = 5;

/// Multiprotocol, IPv4 unicast, and IPv6 unicast.
pub const MP_IPV4: &[u8] = &[1, 4, 0, 1, 0, 1];
pub const MP_IPV6: &[u8] = &[1, 4, 0, 2, 0, 1];
/// Four-octet AS number 397143.
pub const AS4: &[u8] = &[65, 4, 0x00, 0x06, 0x0f, 0x57];
/// Graceful Restart: 5 seconds, IPv4 unicast.
pub const GRACEFUL_RESTART: &[u8] = &[64, 6, 0, 5, 0, 1, 1, 0x80];
pub const REFRESH: &[u8] = &[2, 0, 70, 0];

/// A message around a body.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    octets.extend_from_slice(&(19 + body.len() as u16).to_be_bytes());
    octets.push(kind);
    octets.extend_from_slice(body);
    octets
}

/// An OPEN of AS 64500 with BGP Identifier 10.0.0.1.
pub fn open(hold_time: u16, capabilities: &[&[u8]]) -> Vec<u8> {
    open_as(64_500, hold_time, [10, 0, 0, 1], capabilities)
}

pub fn open_as(my_as: u16, hold_time: u16, identifier: [u8; 4], capabilities: &[&[u8]]) -> Vec<u8> {
    let capabilities = capabilities.concat();
    let mut body = vec![4];
    body.extend_from_slice(&my_as.to_be_bytes());
    body.extend_from_slice(&hold_time.to_be_bytes());
    body.extend_from_slice(&identifier);
    if capabilities.is_empty() {
        body.push(0);
    } else {
        body.extend_from_slice(&[capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
        body.extend_from_slice(&capabilities);
    }
    message(OPEN, &body)
}

/// An UPDATE of a session of two-octet AS numbers: one IPv4 prefix of 24 bits, ORIGIN IGP, `AS_PATH` 64501, `NEXT_HOP`
/// 192.0.2.1, `LOCAL_PREF` 100.
pub fn announce(prefix: [u8; 3]) -> Vec<u8> {
    announce_all(&[&[24][..], &prefix].concat())
}

/// As [`announce`], with prefixes as they are on the wire.
pub fn announce_all(nlri: &[u8]) -> Vec<u8> {
    let attributes = [
        &[0x40, 1, 1, 0][..],
        &[0x40, 2, 4, 2, 1, 0xfb, 0xf5],
        &[0x40, 3, 4, 192, 0, 2, 1],
        &[0x40, 5, 4, 0, 0, 0, 100],
    ]
    .concat();
    let mut body = vec![0, 0];
    body.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    body.extend_from_slice(&attributes);
    body.extend_from_slice(nlri);
    message(UPDATE, &body)
}

pub fn withdraw(prefix: [u8; 3]) -> Vec<u8> {
    message(UPDATE, &[&[0, 4, 24][..], &prefix, &[0, 0]].concat())
}

pub fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, &[])
}

/// Settings of a peer, as short of patience as a test.
pub fn peer(remote: &str) -> PeerSettings {
    let remote: IpNet = remote.parse().unwrap();
    PeerSettings { open_delay: Duration::from_millis(300), ..PeerSettings::new(remote) }
}

pub fn settings(peers: Vec<PeerSettings>) -> Settings {
    Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], peers, ..Settings::default() }
}

pub fn start(peers: Vec<PeerSettings>) -> SpeakerHandle {
    Speaker::start(settings(peers)).unwrap()
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The status of a peer.
pub fn status(speaker: &SpeakerHandle, address: &str) -> PeerStatus {
    find(speaker, address).unwrap_or_else(|| panic!("no peer {address}"))
}

pub fn find(speaker: &SpeakerHandle, address: &str) -> Option<PeerStatus> {
    let address: IpAddr = address.parse().unwrap();
    speaker.peers().unwrap().into_iter().find(|peer| peer.address == address)
}

pub fn until_state(speaker: &SpeakerHandle, address: &str, state: State) {
    until(&format!("{state} of {address}"), || {
        find(speaker, address).is_some_and(|peer| peer.state == state)
    });
}

/// Prefixes of a peer in order, with their staleness.
pub fn prefixes(speaker: &SpeakerHandle, peer: PeerId) -> Vec<(String, bool)> {
    let mut prefixes: Vec<_> =
        speaker.routes(peer).map(|route| (route.nlri.prefix.to_string(), route.stale)).collect();
    prefixes.sort();
    prefixes
}

/// One connection of plain octets.
pub struct RawPeer {
    pub stream: TcpStream,
}

impl RawPeer {
    pub fn connect(to: SocketAddr, from: &str) -> Self {
        let socket = Self::socket(from);
        socket.connect(&to.into()).unwrap();
        Self::new(socket.into())
    }

    /// A socket bound to an address, not connected yet.
    pub fn socket(from: &str) -> Socket {
        let from = SocketAddr::new(from.parse().unwrap(), 0);
        let socket = Socket::new(Domain::for_address(from), Type::STREAM, None).unwrap();
        socket.bind(&from.into()).unwrap();
        socket
    }

    pub fn accept(listener: &TcpListener) -> Self {
        Self::new(listener.accept().unwrap().0)
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).unwrap();
    }

    /// The next message: type and body. `None` at the end of the connection.
    pub fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 19];
        let mut read = 0;
        while read < header.len() {
            match self.stream.read(&mut header[read..]).unwrap() {
                0 if read == 0 => return None,
                0 => panic!("the connection ended inside a message"),
                octets => read += octets,
            }
        }
        assert_eq!(header[..16], [0xff; 16]);
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let mut body = vec![0; length - 19];
        self.stream.read_exact(&mut body).unwrap();
        Some((header[18], body))
    }

    /// The next message, which is of a type.
    pub fn expect(&mut self, kind: u8) -> Vec<u8> {
        let (received, body) = self.receive().expect("the connection ended");
        assert_eq!(received, kind, "{body:?}");
        body
    }

    /// The next message but KEEPALIVEs.
    pub fn expect_after_keepalives(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let (received, body) = self.receive().expect("the connection ended");
            if received != KEEPALIVE {
                assert_eq!(received, kind, "{body:?}");
                return body;
            }
        }
    }

    /// A NOTIFICATION with these octets, then the end.
    pub fn expect_end(&mut self, notification: &[u8]) {
        assert_eq!(self.expect_after_keepalives(NOTIFICATION), notification);
        assert_eq!(self.receive(), None);
    }

    /// Opens a session; gives the speaker's OPEN.
    pub fn establish(&mut self, open: &[u8]) -> Vec<u8> {
        self.send(open);
        let answer = self.expect(OPEN);
        self.expect(KEEPALIVE);
        self.send(&keepalive());
        answer
    }
}

impl RawPeer {
    /// Reads on over KEEPALIVEs.
    pub fn expect_nothing_but_keepalives(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            match self.receive() {
                Some((KEEPALIVE, _)) => {}
                other => return other,
            }
        }
    }
}
