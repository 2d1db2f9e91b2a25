//! Messages laid out by hand after the figures of the RFCs.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::RouteDistinguisher;

/// Per-peer header with these type and flags: distinguisher 0:65000:1, address 192.0.2.1, AS 65536, ID 10.0.0.1, time
/// 1.5 s.
fn header_octets(kind: u8, flags: u8) -> Vec<u8> {
    let mut octets = vec![kind, flags, 0, 0, 0xfd, 0xe8, 0, 0, 0, 1];
    octets.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
    octets.extend([0, 1, 0, 0, 10, 0, 0, 1, 0, 0, 0, 1, 0, 7, 0xa1, 0x20]);
    octets
}

fn header() -> PeerHeader {
    PeerHeader {
        kind: PeerKind::Rd,
        rib: RibKind::AdjRibInPrePolicy,
        two_octet_as_path: false,
        filtered: false,
        distinguisher: RouteDistinguisher([0, 0, 0xfd, 0xe8, 0, 0, 0, 1]),
        address: Ipv4Addr::new(192, 0, 2, 1).into(),
        as_number: 65_536,
        bgp_identifier: Ipv4Addr::new(10, 0, 0, 1),
        timestamp_seconds: 1,
        timestamp_microseconds: 500_000,
    }
}

/// A BGP message of this type with `body`.
fn bgp(message_type: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    octets.extend((19 + body.len() as u16).to_be_bytes());
    octets.push(message_type);
    octets.extend(body);
    octets
}

fn open(as_number: u16) -> Vec<u8> {
    let [high, low] = as_number.to_be_bytes();
    bgp(1, &[4, high, low, 0, 90, 10, 0, 0, 1, 0])
}

fn peer_body(rest: &[u8]) -> Vec<u8> {
    let mut body = header_octets(1, 0);
    body.extend(rest);
    body
}

#[test]
fn flags_of_the_per_peer_header_tell_the_rib() {
    let decoded = |kind, flags| {
        let octets: [u8; PEER_HEADER_OCTETS] = header_octets(kind, flags).try_into().unwrap();
        PeerHeader::decode(&octets)
    };
    assert_eq!(decoded(1, 0), Ok(header()));
    for (flags, rib) in [
        (0x00, RibKind::AdjRibInPrePolicy),
        (0x40, RibKind::AdjRibInPostPolicy),
        (0x10, RibKind::AdjRibOutPrePolicy),
        (0x50, RibKind::AdjRibOutPostPolicy),
        // Reserved bits.
        (0x0f, RibKind::AdjRibInPrePolicy),
    ] {
        assert_eq!(decoded(1, flags), Ok(PeerHeader { rib, ..header() }), "{flags:#x}");
    }
    assert_eq!(decoded(1, 0x20), Ok(PeerHeader { two_octet_as_path: true, ..header() }));
    let kind = PeerKind::Global;
    let address = "::c000:201".parse().unwrap();
    assert_eq!(decoded(0, 0x80), Ok(PeerHeader { kind, address, ..header() }));
    // Of a Loc-RIB peer the first bit is F, and the others are nothing (RFC 9069, section 4.2).
    let loc_rib = PeerHeader { kind: PeerKind::LocRib, rib: RibKind::LocRib, ..header() };
    assert_eq!(decoded(3, 0x70), Ok(loc_rib));
    assert_eq!(decoded(3, 0x80), Ok(PeerHeader { filtered: true, ..loc_rib }));
    assert_eq!(decoded(4, 0), Err(BmpError::PeerKind(4)));
}

#[test]
fn the_length_frames_a_message_before_anything_in_it_is_read() {
    let initiation = [3, 0, 0, 0, 6, 4];
    let header = Header { message_type: MessageType::Initiation, octets: 6 };
    assert_eq!(Header::decode(&initiation), Ok(Some(header)));
    for cut in 0..initiation.len() {
        assert_eq!(Header::decode(&initiation[..cut]), Ok(None));
    }
    assert_eq!(Header::decode(b"GET /"), Err(BmpError::Version(b'G')));
    assert_eq!(Header::decode(&[4]), Err(BmpError::Version(4)));
    assert_eq!(Header::decode(&[3, 0, 0, 0, 6, 7]), Err(BmpError::Type(7)));
    for (message_type, length) in
        [(4, 5), (4, 0), (4, 65_536), (0, 66), (0, 65_584), (1, 51), (2, 48), (3, 125), (6, 47)]
    {
        let [a, b, c, d] = u32::to_be_bytes(length);
        let error = BmpError::Length { message_type, length };
        assert_eq!(Header::decode(&[3, a, b, c, d, message_type]), Err(error));
    }
    for message_type in 0..7 {
        assert!(Header::decode(&[3, 255, 255, 255, 255, message_type]).is_err());
    }
}

#[test]
fn initiation_and_termination_have_named_tlvs() {
    let body = [0, 2, 0, 2, b'r', b'1', 0, 1, 0, 3, b'a', 0x1b, b'b', 0, 0, 0, 0, 0, 99, 0, 1, 7];
    let Ok(Message::Initiation(information)) = Message::decode(MessageType::Initiation, &body) else {
        panic!()
    };
    assert_eq!(information.system_name().as_deref(), Some("r1"));
    assert_eq!(information.system_description().as_deref(), Some("a\\u{1b}b"));
    assert_eq!(information.table_name(), None);
    assert_eq!(information.iter().map(|(number, value)| (number, value.len())).collect::<Vec<_>>(), {
        [(2, 2), (1, 3), (0, 0), (99, 1)]
    });
    for cut in [1, 3, 5, 21] {
        let error = Message::decode(MessageType::Initiation, &body[..cut]);
        assert_eq!(error, Err(BmpError::Short("an information TLV")), "{cut}");
    }
    let Ok(Message::Termination(information)) =
        Message::decode(MessageType::Termination, &[0, 1, 0, 2, 0, 3])
    else {
        panic!()
    };
    assert_eq!(information.termination_reason(), Some(TerminationReason::RedundantConnection));
}

#[test]
fn route_monitoring_holds_exactly_one_bgp_message() {
    let end_of_rib = bgp(2, &[0, 0, 0, 0]);
    let body = peer_body(&end_of_rib);
    let expected = Message::RouteMonitoring { peer: header(), update: &end_of_rib };
    assert_eq!(Message::decode(MessageType::RouteMonitoring, &body), Ok(expected));
    let more = peer_body(&[end_of_rib.clone(), vec![0]].concat());
    for body in [&body[..body.len() - 1], &more] {
        let error = Message::decode(MessageType::RouteMonitoring, body);
        assert_eq!(error, Err(BmpError::BgpLength("Route Monitoring")));
    }
    assert!(matches!(Message::decode(MessageType::RouteMonitoring, &body[..42]), Err(BmpError::Short(_))));
    assert!(matches!(Message::decode(MessageType::RouteMonitoring, &body[..41]), Err(BmpError::Short(_))));
    let mut tiny = body.clone();
    tiny[42 + 17] = 18;
    assert!(matches!(Message::decode(MessageType::RouteMonitoring, &tiny), Err(BmpError::BgpLength(_))));
}

#[test]
fn statistics_are_counters_and_gauges_by_their_lengths() {
    let tlvs = [
        &[0, 0, 0, 5][..],
        &[0, 0, 0, 4, 0, 0, 0, 9],
        &[0, 7, 0, 8, 0, 0, 0, 1, 0, 0, 0, 2],
        &[0, 9, 0, 11, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 5],
        &[0, 17, 0, 0],
        &[1, 0, 0, 1, 3],
    ]
    .concat();
    let body = peer_body(&tlvs);
    let Ok(Message::StatisticsReport { statistics, .. }) =
        Message::decode(MessageType::StatisticsReport, &body)
    else {
        panic!()
    };
    let expected = [
        (0, StatisticValue::Counter(9)),
        (7, StatisticValue::Gauge(0x1_0000_0002)),
        (9, StatisticValue::FamilyGauge { afi: 2, safi: 1, gauge: 5 }),
        (17, StatisticValue::Other { octets: 0 }),
        (256, StatisticValue::Other { octets: 1 }),
    ];
    assert!(statistics.iter().eq(expected.map(|(number, value)| Statistic { number, value })));
    assert_eq!(statistic_name(7), Some("routes in Adj-RIBs-In"));
    assert_eq!(statistic_name(256), None);
    // More counted than there are, however many.
    for count in [6, u32::MAX] {
        let body = peer_body(&[&count.to_be_bytes(), &tlvs[4..]].concat());
        let error = Message::decode(MessageType::StatisticsReport, &body);
        assert_eq!(error, Err(BmpError::Short("Statistics Report")));
    }
}

#[test]
fn peer_up_has_both_opens() {
    let (sent, received) = (open(64_500), open(64_501));
    let tlvs = [0, 3, 0, 4, b'b', b'l', b'u', b'e'];
    let mut rest = vec![0; 12];
    rest.extend([192, 0, 2, 254, 0, 179, 0xc3, 0x50]);
    rest.extend([&sent[..], &received, &tlvs].concat());
    let body = peer_body(&rest);
    let Ok(Message::PeerUp { peer, up }) = Message::decode(MessageType::PeerUp, &body) else { panic!() };
    assert_eq!(peer, header());
    assert_eq!(up.local_address, IpAddr::from([192, 0, 2, 254]));
    assert_eq!((up.local_port, up.remote_port), (179, 50_000));
    assert_eq!((up.sent_open, up.received_open), (&sent[..], &received[..]));
    assert_eq!(up.information.table_name().as_deref(), Some("blue"));
    for cut in 0..body.len() - tlvs.len() {
        assert!(Message::decode(MessageType::PeerUp, &body[..cut]).is_err(), "{cut}");
    }
    let mut encoded = Vec::new();
    encode::peer_up(&peer, (up.local_address, 179), 50_000, [&sent, &received], &tlvs, &mut encoded);
    assert_eq!(encoded[HEADER_OCTETS..], body);
}

#[test]
fn peer_down_has_a_reason() {
    let notification = bgp(3, &[6, 2]);
    let with = |reason: u8, data: &[u8]| peer_body(&[&[reason], data].concat());
    let check = |body: Vec<u8>, expected: Result<PeerDownReason<'_>, BmpError>| {
        let decoded = Message::decode(MessageType::PeerDown, &body);
        assert_eq!(decoded, expected.map(|reason| Message::PeerDown { peer: header(), reason }));
    };
    check(with(1, &notification), Ok(PeerDownReason::LocalNotification(&notification)));
    check(with(2, &[0, 10]), Ok(PeerDownReason::LocalEvent(10)));
    check(with(3, &notification), Ok(PeerDownReason::RemoteNotification(&notification)));
    check(with(4, &[]), Ok(PeerDownReason::Remote));
    check(with(5, &[]), Ok(PeerDownReason::DeConfigured));
    check(with(1, &[]), Err(BmpError::Short("Peer Down Notification")));
    check(with(2, &[1]), Err(BmpError::Short("Peer Down Notification")));
    check(with(3, &notification[..20]), Err(BmpError::BgpLength("Peer Down Notification")));
    check(with(7, &[]), Ok(PeerDownReason::Unknown(7)));
    check(with(255, &[1, 2, 3]), Ok(PeerDownReason::Unknown(255)));
    let body = with(6, &[0, 3, 0, 3, b'r', b'e', b'd']);
    let Ok(Message::PeerDown { reason: PeerDownReason::LocalInformation(information), .. }) =
        Message::decode(MessageType::PeerDown, &body)
    else {
        panic!()
    };
    assert_eq!(information.table_name().as_deref(), Some("red"));
}

#[test]
fn route_mirroring_has_messages_and_information() {
    let keepalive = bgp(4, &[]);
    let mut tlvs = Vec::new();
    encode::tlv(1, &[0, 1], &mut tlvs);
    encode::tlv(0, &keepalive, &mut tlvs);
    let body = peer_body(&tlvs);
    let Ok(Message::RouteMirroring { information, .. }) = Message::decode(MessageType::RouteMirroring, &body)
    else {
        panic!()
    };
    assert_eq!(information.iter().collect::<Vec<_>>(), [(1, &[0, 1][..]), (0, &keepalive)]);
}

proptest! {
    #[test]
    fn per_peer_headers_are_read_as_written(
        kind in 0..4u8, flags in any::<u8>(), rest in prop::array::uniform32(any::<u8>()), time in any::<u64>(),
    ) {
        let octets = [&[kind, flags][..], &rest, &time.to_be_bytes()].concat();
        let header = PeerHeader::decode(octets[..].try_into().unwrap()).unwrap();
        let mut encoded = Vec::new();
        header.encode(&mut encoded);
        prop_assert_eq!(PeerHeader::decode(encoded[..].try_into().unwrap()), Ok(header));
    }

    #[test]
    fn any_octets_have_one_result(message_type in 0..7usize, octets in prop::collection::vec(any::<u8>(), 0..200)) {
        // Mostly past the per-peer header, so that what stands behind it is reached.
        let mut body = octets;
        if let Some(kind) = body.first_mut() {
            *kind %= 4;
        }
        if let Ok(Message::StatisticsReport { statistics, .. }) =
            Message::decode(MessageType::ALL[message_type], &body)
        {
            prop_assert!(statistics.iter().count() <= body.len() / 4);
        }
    }
}
