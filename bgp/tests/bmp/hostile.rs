//! Routers that do not keep to the protocol: their connection ends, the routes of others stay.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use pathflow_bgp::RouteDistinguisher;
use pathflow_bgp::bmp::router;
use pathflow_bgp::bmp::station::Settings;
use pathflow_bgp::bmp::wire::{MessageType, PeerHeader, PeerKind, RibKind, encode};

use super::support::{Running, count, equal, until};

/// A router made by hand.
struct Router(TcpStream);

impl Router {
    /// From 127.0.0.`last`.
    fn connect(station: &Running, last: u8) -> Self {
        let socket = socket_from(Ipv4Addr::new(127, 0, 0, last));
        socket.connect(&station.address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(stream)
    }

    fn send(&mut self, octets: &[u8]) {
        // The station may have closed the connection already.
        self.0.write_all(octets).ok();
    }

    /// Initiation, a peer, and `10.LAST.0.0/16` of it.
    fn monitor(&mut self, last: u8) {
        self.send(&beginning(last));
    }

    fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(0) => true,
            Ok(_) => panic!("a station says nothing"),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

fn socket_from(source: Ipv4Addr) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into()).unwrap();
    socket
}

fn bgp(message_type: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    octets.extend((19 + body.len() as u16).to_be_bytes());
    octets.push(message_type);
    octets.extend(body);
    octets
}

fn peer() -> PeerHeader {
    PeerHeader {
        kind: PeerKind::Global,
        rib: RibKind::AdjRibInPrePolicy,
        two_octet_as_path: false,
        filtered: false,
        distinguisher: RouteDistinguisher([0; 8]),
        address: Ipv4Addr::new(192, 0, 2, 1).into(),
        as_number: 64_500,
        bgp_identifier: Ipv4Addr::new(10, 0, 0, 1),
        timestamp_seconds: 0,
        timestamp_microseconds: 0,
    }
}

fn announce(number: u8) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 20, 0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfb, 0xf4];
    body.extend([0x40, 3, 4, 192, 0, 2, 1, 16, 10, number]);
    let mut octets = Vec::new();
    encode::peer_message(MessageType::RouteMonitoring, &peer(), &bgp(2, &body), &mut octets);
    octets
}

fn beginning(last: u8) -> Vec<u8> {
    let open = bgp(1, &[4, 0xfb, 0xf4, 0, 90, 10, 0, 0, 1, 0]);
    let mut octets = Vec::new();
    encode::message(MessageType::Initiation, &[], &mut octets);
    encode::peer_up(&peer(), (Ipv4Addr::LOCALHOST.into(), 179), 179, [&open, &open], &[], &mut octets);
    octets.extend(announce(last));
    octets
}

/// Fresh and stale routes of the router 127.0.0.`last`.
fn routes(station: &Running, last: u8) -> (usize, usize) {
    let name = format!("bmp 127.0.0.{last} 192.0.2.1 adj-rib-in-pre");
    let table = station.table(&name);
    let stale = table.routes.values().filter(|(_, stale)| *stale).count();
    (table.routes.len() - stale, stale)
}

#[test]
fn what_is_no_bmp_ends_its_connection_only() {
    let station = Running::start(Settings::default());
    let mut good = Router::connect(&station, 2);
    good.monitor(2);
    until("the good router", || equal(routes(&station, 2), (1, 0)));

    let mut long = vec![3, 0, 4, 0, 1, 6];
    long.resize(1000, 0);
    let cases: [(&str, Vec<u8>); 8] = [
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("version 4", vec![4, 0, 0, 0, 6, 4]),
        ("type 9", vec![3, 0, 0, 0, 6, 9]),
        ("4 GB", vec![3, 255, 255, 255, 255, 0]),
        ("longer than a message may be", long),
        ("shorter than its header", vec![3, 0, 0, 0, 5, 4]),
        ("no Initiation", announce(1)),
        ("a TLV over the end", vec![3, 0, 0, 0, 10, 4, 0, 1, 0, 1]),
    ];
    let number = cases.len() as u64;
    for (name, octets) in cases {
        let mut router = Router::connect(&station, 3);
        router.send(&octets);
        assert!(router.is_closed(), "{name}");
    }
    assert_eq!(count(&station.statistics.bad_connections), number);

    // Bad in the middle: what came before stays, stale.
    let mut router = Router::connect(&station, 3);
    router.monitor(3);
    until("routes", || equal(routes(&station, 3), (1, 0)));
    router.send(&[3, 0, 0, 0, 6, 0]);
    assert!(router.is_closed());
    until("stale", || equal(routes(&station, 3), (0, 1)));
    // Cut within a message.
    let mut router = Router::connect(&station, 3);
    router.send(&beginning(3)[..100]);
    drop(router);
    until("cut", || equal(count(&station.statistics.connection_failures), 1));

    good.send(&announce(22));
    until("the good router goes on", || equal(routes(&station, 2), (2, 0)));
    station.check_rib();
}

#[test]
fn messages_in_pieces_and_many_at_once_are_the_same() {
    let station = Running::start(Settings::default());
    let mut router = Router::connect(&station, 2);
    router.0.set_nodelay(true).unwrap();
    for octet in beginning(2) {
        router.send(&[octet]);
    }
    let many: Vec<u8> = (0..=255).cycle().take(20_000).flat_map(announce).collect();
    router.send(&many);
    until("all", || equal(routes(&station, 2), (256, 0)));
    until("messages", || equal(count(&station.statistics.messages[0]), 20_001));
    station.check_rib();
}

#[test]
fn sources_and_routers_are_limited_and_the_newest_connection_counts() {
    let allowed = Some(vec!["127.0.0.0/29".parse().unwrap()]);
    let router = router::Settings { stale_time: Duration::from_secs(2), ..router::Settings::default() };
    let station = Running::start(Settings { allowed, max_routers: 2, router });
    assert!(Router::connect(&station, 9).is_closed());
    assert_eq!(count(&station.statistics.refused_sources), 1);

    let mut first = Router::connect(&station, 2);
    first.monitor(2);
    let mut second = Router::connect(&station, 3);
    second.monitor(3);
    until("two routers", || equal((routes(&station, 2), routes(&station, 3)), ((1, 0), (1, 0))));
    assert!(Router::connect(&station, 4).is_closed());
    assert_eq!(count(&station.statistics.refused_routers), 1);

    // Again from the same source: the old connection is closed, its routes are stale until they come again.
    let mut newest = Router::connect(&station, 2);
    assert!(first.is_closed());
    until("stale", || equal(routes(&station, 2), (0, 1)));
    newest.monitor(2);
    until("fresh", || equal(routes(&station, 2), (1, 0)));
    assert_eq!(count(&station.statistics.replaced_connections), 1);

    // A router that is gone makes room when its routes have gone.
    drop(second);
    until("gone", || equal(station.names().len(), 1));
    let mut third = Router::connect(&station, 4);
    third.monitor(4);
    until("room", || equal(routes(&station, 4), (1, 0)));
    station.check_rib();
}

#[test]
fn a_hundred_routers_at_once() {
    let station = Running::start(Settings::default());
    let mut routers: Vec<_> = (2..102).map(|last| (last, Router::connect(&station, last))).collect();
    for (last, router) in &mut routers {
        router.monitor(*last);
    }
    for last in 2..102 {
        until("routes", || equal(routes(&station, last), (1, 0)));
    }
    drop(routers);
    for last in 2..102 {
        until("stale", || equal(routes(&station, last), (0, 1)));
    }
    station.check_rib();
}
