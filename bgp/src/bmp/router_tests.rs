//! Messages of routers, built by hand, and what becomes of the routes.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::super::wire::{HEADER_OCTETS, StatisticValue, encode};
use super::*;
use crate::rib::ApplyCounts;

const STALE: Duration = Duration::from_mins(5);

/// A slow RIB: what each peer has, by its name.
#[derive(Debug, Default)]
struct Model {
    peers: BTreeMap<PeerId, ModelPeer>,
    next: u32,
}

#[derive(Debug)]
struct ModelPeer {
    name: String,
    looked_up: bool,
    /// By prefix and Path Identifier: the AS path and whether the route is stale.
    routes: BTreeMap<(IpNet, u32), (String, bool)>,
    ends: usize,
}

impl RouteSink for Model {
    fn add_peer(&mut self, identity: PeerIdentity, lookups: Option<LookupSource>) -> PeerId {
        self.next += 1;
        assert_eq!(identity.address, ROUTER);
        let name = identity.name.into();
        let peer = ModelPeer { name, looked_up: lookups.is_some(), routes: BTreeMap::new(), ends: 0 };
        self.peers.insert(PeerId(self.next), peer);
        PeerId(self.next)
    }

    fn apply(&mut self, peer: PeerId, update: &Update<'_>) -> ApplyCounts {
        let routes = &mut self.peers.get_mut(&peer).unwrap().routes;
        for (_, nlri) in update.withdrawn() {
            routes.remove(&(nlri.prefix, nlri.path_id));
        }
        for announcement in update.announcements() {
            let path = announcement.attributes().as_path.to_string();
            for nlri in announcement.nlri() {
                let key = (nlri.prefix, nlri.path_id);
                if update.handling() == Some(ErrorHandling::TreatAsWithdraw) {
                    routes.remove(&key);
                } else {
                    routes.insert(key, (path.clone(), false));
                }
            }
        }
        ApplyCounts::default()
    }

    fn end_of_rib(&mut self, peer: PeerId, family: Family) {
        assert_eq!(family, Family::IPV4_UNICAST);
        self.peers.get_mut(&peer).unwrap().ends += 1;
        self.sweep_stale(peer);
    }

    fn session_down(&mut self, peer: PeerId) {
        for (_, stale) in self.peers.get_mut(&peer).unwrap().routes.values_mut() {
            *stale = true;
        }
    }

    fn sweep_stale(&mut self, peer: PeerId) {
        self.peers.get_mut(&peer).unwrap().routes.retain(|_, (_, stale)| !*stale);
    }

    fn remove_peers(&mut self, peers: &[PeerId]) {
        for peer in peers {
            self.peers.remove(peer).unwrap();
        }
    }

    fn slots_rewritten(&self) -> u64 {
        0
    }
}

impl Model {
    /// Of each peer of the RIB: its name, and of each route `prefix[#id] path`, with `*` if it is stale.
    fn routes(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.peers.values().map(ModelPeer::line).collect();
        lines.sort();
        lines
    }
}

impl ModelPeer {
    fn line(&self) -> String {
        let routes = self.routes.iter().map(|((prefix, path_id), (path, stale))| {
            let path_id = if *path_id == 0 { String::new() } else { format!("#{path_id}") };
            let stale = if *stale { "*" } else { "" };
            format!(" {prefix}{path_id} {path}{stale}")
        });
        format!("{}:{}", self.name, routes.collect::<Vec<_>>().join(","))
    }
}

const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));

fn bgp(message_type: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut octets = vec![0xff; 16];
    octets.extend((19 + body.len() as u16).to_be_bytes());
    octets.push(message_type);
    octets.extend(body);
    octets
}

/// OPEN of AS 64500 with these capabilities (RFC 5492, section 4).
fn open(capabilities: &[u8]) -> Vec<u8> {
    let length = capabilities.len() as u8;
    bgp(1, &[&[4, 0xfb, 0xf4, 0, 90, 10, 0, 0, 1, length + 2, 2, length], capabilities])
}

/// ADD-PATH of IPv4 unicast: 1 receive, 2 send, 3 both (RFC 7911, section 4).
fn add_path_capability(send_receive: u8) -> [u8; 6] {
    [69, 4, 0, 1, 1, send_receive]
}

/// UPDATE that announces `nlri`, encoded, with an `AS_PATH` of these octets after the segment's type.
fn update_with(path: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, path.len() as u8 + 1, 2];
    attributes.extend(path);
    attributes.extend([0x40, 3, 4, 192, 0, 2, 1]);
    let length = (attributes.len() as u16).to_be_bytes();
    bgp(2, &[&[0, 0], &length, &attributes, nlri])
}

/// Announces `10.X.0.0/16` with path `64501`.
fn announce(number: u8) -> Vec<u8> {
    update_with(&[1, 0, 0, 0xfb, 0xf5], &[16, 10, number])
}

fn withdraw(number: u8) -> Vec<u8> {
    bgp(2, &[&[0, 3, 16, 10, number, 0, 0]])
}

fn end_of_rib() -> Vec<u8> {
    bgp(2, &[&[0, 0, 0, 0]])
}

fn peer(last: u8) -> PeerHeader {
    PeerHeader {
        kind: PeerKind::Global,
        rib: RibKind::AdjRibInPrePolicy,
        two_octet_as_path: false,
        filtered: false,
        distinguisher: RouteDistinguisher([0; 8]),
        address: Ipv4Addr::new(192, 0, 2, last).into(),
        as_number: 64_500,
        bgp_identifier: Ipv4Addr::new(10, 0, 0, last),
        timestamp_seconds: 0,
        timestamp_microseconds: 0,
    }
}

struct Bench {
    router: Router,
    model: Model,
    statistics: Statistics,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let settings =
            Settings { stale_time: STALE, max_peers: 3, lookups: vec![RibKind::AdjRibInPrePolicy] };
        let router = Router::new(ROUTER, settings);
        let (model, statistics) = (Model::default(), Statistics::default());
        let mut bench = Self { router, model, statistics, now: Instant::now() };
        bench.initiate();
        bench
    }

    fn initiate(&mut self) {
        let mut message = Vec::new();
        let mut tlvs = Vec::new();
        encode::tlv(2, b"r1", &mut tlvs);
        encode::message(MessageType::Initiation, &tlvs, &mut message);
        self.send(MessageType::Initiation, &message).unwrap();
        assert_eq!(self.router.system_name(), Some("r1"));
    }

    fn send(&mut self, message_type: MessageType, message: &[u8]) -> Result<(), RouterError> {
        let body = &message[HEADER_OCTETS..];
        self.router.received(self.now, message_type, body, &self.statistics, &mut self.model)
    }

    fn send_of(
        &mut self,
        message_type: MessageType,
        peer: &PeerHeader,
        rest: &[u8],
    ) -> Result<(), RouterError> {
        let mut message = Vec::new();
        encode::peer_message(message_type, peer, rest, &mut message);
        self.send(message_type, &message)
    }

    fn up_with(&mut self, peer: &PeerHeader, sent: &[u8], received: &[u8]) {
        let mut message = Vec::new();
        encode::peer_up(peer, (ROUTER, 179), 179, [sent, received], &[], &mut message);
        self.send(MessageType::PeerUp, &message).unwrap();
    }

    fn up(&mut self, peer: &PeerHeader) {
        self.up_with(peer, &open(&[]), &open(&[]));
    }

    fn route(&mut self, peer: &PeerHeader, update: &[u8]) {
        self.send_of(MessageType::RouteMonitoring, peer, update).unwrap();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.router.timer(self.now, &mut self.model);
    }

    fn count(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

#[test]
fn each_peer_and_rib_is_a_peer_of_its_own() {
    let mut bench = Bench::new();
    let after = PeerHeader { rib: RibKind::AdjRibInPostPolicy, ..peer(1) };
    let out = PeerHeader { rib: RibKind::AdjRibOutPostPolicy, ..peer(1) };
    let vrf = PeerHeader {
        kind: PeerKind::Rd,
        distinguisher: RouteDistinguisher([0, 0, 0xfd, 0xe8, 0, 0, 0, 1]),
        ..peer(1)
    };
    let loc = PeerHeader {
        kind: PeerKind::LocRib,
        rib: RibKind::LocRib,
        address: Ipv4Addr::UNSPECIFIED.into(),
        ..peer(1)
    };
    for header in [peer(1), vrf, loc] {
        bench.up(&header);
    }
    for (number, header) in [peer(1), after, out, vrf, loc].iter().enumerate() {
        bench.route(header, &announce(number as u8));
        bench.route(header, &announce(100));
    }
    bench.route(&after, &withdraw(100));
    assert_eq!(
        bench.model.routes(),
        [
            "bmp 192.0.2.254 0.0.0.0 loc-rib: 10.4.0.0/16 64501, 10.100.0.0/16 64501",
            "bmp 192.0.2.254 192.0.2.1 0:65000:1 adj-rib-in-pre: 10.3.0.0/16 64501, 10.100.0.0/16 64501",
            "bmp 192.0.2.254 192.0.2.1 adj-rib-in-post: 10.1.0.0/16 64501",
            "bmp 192.0.2.254 192.0.2.1 adj-rib-in-pre: 10.0.0.0/16 64501, 10.100.0.0/16 64501",
            "bmp 192.0.2.254 192.0.2.1 adj-rib-out-post: 10.2.0.0/16 64501, 10.100.0.0/16 64501",
        ]
    );
    let looked_up: Vec<_> = bench.model.peers.values().filter(|peer| peer.looked_up).collect();
    assert!(looked_up.iter().all(|peer| peer.name.ends_with("adj-rib-in-pre")));
    assert_eq!(looked_up.len(), 2);
    bench.router.remove(&mut bench.model);
    assert!(bench.model.peers.is_empty());
}

#[test]
fn a_lost_peer_is_stale_and_then_gone() {
    let mut bench = Bench::new();
    bench.up(&peer(1));
    bench.up(&peer(2));
    bench.route(&peer(1), &announce(1));
    bench.route(&peer(2), &announce(1));
    bench.send_of(MessageType::PeerDown, &peer(1), &[4]).unwrap();
    let both = [
        "bmp 192.0.2.254 192.0.2.1 adj-rib-in-pre: 10.1.0.0/16 64501*",
        "bmp 192.0.2.254 192.0.2.2 adj-rib-in-pre: 10.1.0.0/16 64501",
    ];
    assert_eq!(bench.model.routes(), both);
    // What comes after it is counted and not used.
    bench.route(&peer(1), &announce(2));
    bench.send_of(MessageType::PeerDown, &peer(1), &[4]).unwrap();
    assert_eq!(Bench::count(&bench.statistics.unknown_peers), 2);
    bench.pass(STALE / 2);
    assert_eq!(bench.model.routes(), both);
    bench.pass(STALE / 2);
    assert_eq!(bench.model.routes(), both[1..]);
    assert_eq!(bench.router.peers().count(), 1);
}

#[test]
fn a_peer_that_comes_back_keeps_what_it_sends_again() {
    for with_end_of_rib in [true, false] {
        let mut bench = Bench::new();
        bench.up(&peer(1));
        bench.route(&peer(1), &announce(1));
        bench.route(&peer(1), &announce(2));
        bench.router.disconnected(bench.now, &mut bench.model);
        bench.pass(STALE / 2);
        assert_eq!(bench.send_of(MessageType::PeerDown, &peer(1), &[4]), Err(RouterError::NotInitiated));
        bench.initiate();
        bench.up(&peer(1));
        bench.route(&peer(1), &announce(2));
        let name = "bmp 192.0.2.254 192.0.2.1 adj-rib-in-pre:";
        assert_eq!(bench.model.routes(), [format!("{name} 10.1.0.0/16 64501*, 10.2.0.0/16 64501")]);
        if with_end_of_rib {
            bench.route(&peer(1), &end_of_rib());
        } else {
            bench.pass(STALE);
        }
        assert_eq!(bench.model.routes(), [format!("{name} 10.2.0.0/16 64501")], "{with_end_of_rib}");
        bench.pass(STALE * 2);
        assert_eq!(bench.model.routes(), [format!("{name} 10.2.0.0/16 64501")]);
        // Up again without a Peer Down.
        bench.up(&peer(1));
        assert_eq!(bench.model.routes(), [format!("{name} 10.2.0.0/16 64501*")]);
        bench.route(&peer(1), &end_of_rib());
        assert_eq!(bench.model.routes(), [name]);
    }
}

#[test]
fn path_identifiers_are_read_where_both_opens_say_so() {
    // Path Identifier 7 before the prefix.
    let with_id = update_with(&[1, 0, 0, 0xfb, 0xf5], &[0, 0, 0, 7, 16, 10, 1]);
    let both = open(&add_path_capability(3));
    let (receives, sends, none) = (open(&add_path_capability(1)), open(&add_path_capability(2)), open(&[]));
    let out = PeerHeader { rib: RibKind::AdjRibOutPrePolicy, ..peer(1) };
    let loc = PeerHeader { kind: PeerKind::LocRib, rib: RibKind::LocRib, ..peer(1) };
    // The router's OPEN, the peer's, whose routes.
    for (sent, received, header) in [
        (&both, &both, peer(1)),
        (&receives, &sends, peer(1)),
        (&sends, &receives, out),
        (&both, &receives, out),
        (&both, &both, loc),
        (&sends, &receives, loc),
    ] {
        let mut bench = Bench::new();
        bench.up_with(&header, sent, received);
        bench.route(&header, &with_id);
        assert!(bench.model.routes()[0].ends_with(": 10.1.0.0/16#7 64501"), "{:?}", bench.model.routes());
    }
    for (sent, received, header) in [
        (&none, &sends, peer(1)),
        (&sends, &receives, peer(1)),
        (&receives, &sends, out),
        (&none, &none, loc),
    ] {
        let mut bench = Bench::new();
        bench.up_with(&header, sent, received);
        bench.route(&header, &announce(1));
        assert!(bench.model.routes()[0].ends_with(": 10.1.0.0/16 64501"), "{:?}", bench.model.routes());
    }
}

#[test]
fn the_a_flag_tells_the_width_of_as_numbers() {
    let mut bench = Bench::new();
    let old = PeerHeader { two_octet_as_path: true, ..peer(1) };
    bench.up(&old);
    bench.route(&old, &update_with(&[2, 0xfb, 0xf5, 0xfb, 0xf6], &[16, 10, 1]));
    // The same peer, whose routes the router gives with four octets after its policy.
    let after = PeerHeader { rib: RibKind::AdjRibInPostPolicy, ..peer(1) };
    bench.route(&after, &update_with(&[1, 0, 1, 0, 0], &[16, 10, 1]));
    assert_eq!(
        bench.model.routes(),
        [
            "bmp 192.0.2.254 192.0.2.1 adj-rib-in-post: 10.1.0.0/16 65536",
            "bmp 192.0.2.254 192.0.2.1 adj-rib-in-pre: 10.1.0.0/16 64501 64502",
        ]
    );
}

#[test]
fn what_cannot_be_read_inside_whole_messages_is_counted() {
    let mut bench = Bench::new();
    bench.up(&peer(1));
    // No UPDATE; an UPDATE whose withdrawn routes run over its end; a wrong marker.
    bench.route(&peer(1), &bgp(1, &[&[0; 10]]));
    bench.route(&peer(1), &bgp(2, &[&[0, 9, 0, 0]]));
    let mut marker = announce(1);
    marker[0] = 0;
    bench.route(&peer(1), &marker);
    assert_eq!(Bench::count(&bench.statistics.bad_updates), 3);
    bench.up_with(&peer(2), &open(&[]), &bgp(1, &[&[3, 0xfb, 0xf4, 0, 90, 10, 0, 0, 1, 0]]));
    assert_eq!(Bench::count(&bench.statistics.bad_opens), 1);
    bench.route(&peer(2), &announce(1));
    assert_eq!(Bench::count(&bench.statistics.unknown_peers), 1);
    assert_eq!(bench.model.routes(), Vec::<String>::new());
    // ORIGIN of two octets: treat-as-withdraw (RFC 7606, section 7.1).
    bench.route(&peer(1), &announce(1));
    let path = [0x40, 2, 6, 2, 1, 0, 0, 0xfb, 0xf5, 0x40, 3, 4, 192, 0, 2, 1];
    let origin = [&[0, 0, 0, 21, 0x40, 1, 2, 0, 0][..], &path, &[16, 10, 1]].concat();
    bench.route(&peer(1), &bgp(2, &[&origin]));
    assert_eq!(Bench::count(&bench.statistics.treated_as_withdraw), 1);
    assert_eq!(bench.model.routes(), ["bmp 192.0.2.254 192.0.2.1 adj-rib-in-pre:"]);
}

#[test]
fn peers_are_bounded_and_their_statistics_are_kept() {
    let mut bench = Bench::new();
    for last in 1..=4 {
        bench.up(&peer(last));
    }
    assert_eq!(bench.router.peers().count(), 3);
    assert_eq!(Bench::count(&bench.statistics.refused_peers), 1);
    let mut report = vec![0, 0, 0, 70];
    for number in 0..70u8 {
        encode::tlv(number.into(), &[0, 0, 0, number], &mut report);
    }
    bench.send_of(MessageType::StatisticsReport, &peer(1), &report).unwrap();
    bench.send_of(MessageType::StatisticsReport, &peer(4), &report).unwrap();
    let key = PeerKey::from(&peer(1));
    let (_, kept) = bench.router.peers().find(|(found, _)| **found == key).unwrap();
    assert_eq!(kept.statistics.len(), 64);
    assert_eq!(kept.statistics[9], Statistic { number: 9, value: StatisticValue::Counter(9) });
    assert_eq!(Bench::count(&bench.statistics.unknown_peers), 1);
    assert_eq!(Bench::count(&bench.statistics.messages[1]), 2);
}

#[test]
fn termination_and_what_is_no_bmp_end_the_connection() {
    let mut bench = Bench::new();
    let mut message = Vec::new();
    encode::message(MessageType::Termination, &[0, 1, 0, 2, 0, 0], &mut message);
    assert!(matches!(bench.send(MessageType::Termination, &message), Err(RouterError::Terminated(_))));
    // A reason that takes a NOTIFICATION, without one.
    let error = bench.send_of(MessageType::PeerDown, &peer(1), &[1]);
    assert_eq!(error, Err(RouterError::Wire(BmpError::Short("Peer Down Notification"))));
}

#[test]
fn types_and_reasons_that_nobody_knows_yet_do_not_end_the_connection() {
    let mut bench = Bench::new();
    bench.up(&peer(1));
    bench.up(&peer(2));
    bench.send_of(MessageType::PeerDown, &peer(1), &[9, 1, 2, 3]).unwrap();
    let mut up: Vec<_> = bench.router.peers().map(|(key, peer)| (key.address, peer.up)).collect();
    up.sort();
    let [first, second] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
    assert_eq!(up, [(first, false), (second, true)]);
    let mut message = Vec::new();
    encode::peer_message(MessageType::PeerDown, &peer(2), &[4], &mut message);
    // The peer type.
    message[HEADER_OCTETS] = 200;
    bench.send(MessageType::PeerDown, &message).unwrap();
    assert_eq!(bench.router.peers().filter(|(_, peer)| peer.up).count(), 1);
    let statistics = &bench.statistics;
    let counted = [&statistics.unknown_reasons, &statistics.unknown_peer_types, &statistics.unknown_peers];
    assert_eq!(counted.map(Bench::count), [1, 1, 0]);
}
