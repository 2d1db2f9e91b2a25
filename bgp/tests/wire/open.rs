//! OPEN: parameters, capabilities, and what refuses a peer.

use pathflow_bgp::wire::{
    AddPathFamily, Capability, ExtendedNextHop, GracefulRestartFamily, Header, MAXIMUM_LENGTH, Message,
    MessageType, Open, Role, SessionContext,
};

use crate::support::{codes, hex};

/// An OPEN of AS 64500, 90 s, 192.0.2.1, with these parameters and their length.
fn open(parameters: &str) -> Vec<u8> {
    hex(&format!("04 fbf4 005a c0000201 {parameters}"))
}

fn refused(body: &[u8]) -> (u8, u8, Vec<u8>) {
    codes(&Open::decode(body).unwrap_err())
}

#[test]
fn an_open_as_bird_sends_it() {
    // BIRD 2.0.12, IPv4 and IPv6 unicast, AS 64500: one parameter with all capabilities.
    let body = open("1e 02 1c 01040001 0001 01040002 0001 0200 0600 4002 0078 4104 0000fbf4 4600");
    let open = Open::decode(&body).unwrap();
    assert_eq!(
        (open.as_number, open.hold_time, open.bgp_identifier.to_string()),
        (64_500, 90, "192.0.2.1".into())
    );
    let restart = Capability::GracefulRestart {
        restart_state: false,
        notification: false,
        restart_time: 120,
        families: [].into(),
    };
    assert_eq!(
        open.capabilities,
        [
            Capability::Multiprotocol { afi: 1, safi: 1 },
            Capability::Multiprotocol { afi: 2, safi: 1 },
            Capability::RouteRefresh,
            Capability::ExtendedMessage,
            restart,
            Capability::FourOctetAsNumber(64_500),
            Capability::EnhancedRouteRefresh,
        ]
    );
}

#[test]
fn capabilities_in_parameters_of_their_own_are_read_too() {
    // As FRR and Cisco send them.
    let open = Open::decode(&open("10 02 06 010400010001 02 02 0200 02 02 8000")).unwrap();
    assert_eq!(open.capabilities[1..], [Capability::RouteRefresh, Capability::decode(128, &[])]);
}

#[test]
fn every_capability_is_read_as_its_rfc_lays_it_out() {
    let decode = |code, value: &str| Capability::decode(code, &hex(value));
    assert_eq!(
        decode(5, "0001 0001 0002 0001 0080 0002"),
        Capability::ExtendedNextHop(
            [
                ExtendedNextHop { afi: 1, safi: 1, next_hop_afi: 2 },
                ExtendedNextHop { afi: 1, safi: 128, next_hop_afi: 2 }
            ]
            .into()
        )
    );
    assert_eq!(decode(9, "03"), Capability::Role(Role::CUSTOMER));
    assert_eq!(
        decode(64, "c078 0001 01 80 0002 01 00"),
        Capability::GracefulRestart {
            restart_state: true,
            notification: true,
            restart_time: 120,
            families: [
                GracefulRestartFamily { afi: 1, safi: 1, forwarding_state: true },
                GracefulRestartFamily { afi: 2, safi: 1, forwarding_state: false }
            ]
            .into()
        }
    );
    assert_eq!(decode(65, "0003f7a0"), Capability::FourOctetAsNumber(260_000));
    let add_path = AddPathFamily { afi: 1, safi: 1, send_receive: 3 };
    assert!(add_path.sends() && add_path.receives());
    let odd = AddPathFamily { afi: 2, safi: 1, send_receive: 7 };
    assert!(!odd.sends() && !odd.receives(), "RFC 7911, section 4: any other value is ignored");
    assert_eq!(decode(69, "0001 01 03 0002 01 07"), Capability::AddPath([add_path, odd].into()));
    assert_eq!(decode(73, "02 7231 00"), Capability::Fqdn { host: "r1".into(), domain: "".into() });
    assert_eq!(decode(73, "02 c328 00"), Capability::Fqdn { host: "\u{fffd}(".into(), domain: "".into() });
}

#[test]
fn a_capability_of_a_wrong_length_is_ignored() {
    for (code, value) in [
        (1, "0001"),
        (1, "0001000100"),
        (2, "00"),
        (5, "0001000100"),
        (6, "00"),
        (9, ""),
        (9, "0000"),
        (64, "00"),
        (64, "007800"),
        (65, "fbf4"),
        (69, "000101"),
        (70, "00"),
        (73, ""),
        (73, "05 41"),
        (73, "01 41"),
        (73, "00 00 00"),
    ] {
        let value = hex(value);
        assert_eq!(Capability::decode(code, &value), Capability::Unknown { code, value: value.into() });
    }
}

#[test]
fn extended_parameter_lengths_are_read_and_written() {
    // RFC 9072, section 2: marked by the type 255, whatever the length before it says but 0; of any total length.
    for length in ["ff", "01", "0a"] {
        let found = Open::decode(&open(&format!("{length} ff 0009 02 0006 010400010001"))).unwrap();
        assert_eq!(found.capabilities, [Capability::Multiprotocol { afi: 1, safi: 1 }]);
    }
    let capabilities: Vec<_> =
        (0..4).map(|code| Capability::Unknown { code: 200 + code, value: vec![code; 200].into() }).collect();
    let sent = Open {
        as_number: 260_000,
        hold_time: 0,
        bgp_identifier: [192, 0, 2, 1].into(),
        capabilities: [vec![Capability::FourOctetAsNumber(260_000)], capabilities].concat(),
    };
    let mut octets = Vec::new();
    sent.encode(&mut octets);
    assert_eq!(octets[28..33], hex("ff ff 0331 02"));
    assert_eq!(Open::decode(&octets[19..]).unwrap(), sent);
}

#[test]
fn an_open_that_cannot_be_accepted_is_refused_with_the_right_codes() {
    // RFC 4271, section 6.2.
    assert_eq!(refused(&hex("03 fbf4 005a c0000201 00")), (2, 1, vec![0, 4]));
    assert_eq!(refused(&hex("04 0000 005a c0000201 00")), (2, 2, vec![]), "RFC 7607, section 2");
    assert_eq!(refused(&hex("04 fbf4 005a 00000000 00")), (2, 3, vec![]), "RFC 6286, section 2.2");
    assert_eq!(refused(&hex("04 fbf4 0001 c0000201 00")), (2, 6, vec![]));
    assert_eq!(refused(&hex("04 fbf4 0002 c0000201 00")), (2, 6, vec![]));
    // Authentication (RFC 4271: deprecated), and one that nobody knows.
    assert_eq!(refused(&open("03 01 01 00")), (2, 4, vec![]));
    assert_eq!(refused(&open("02 80 00")), (2, 4, vec![]));
    // RFC 6793, section 4.1: AS 0, and two numbers that differ.
    assert_eq!(refused(&open("08 02 06 4104 00000000")), (2, 2, vec![]));
    assert_eq!(refused(&open("08 02 06 4104 0000fbf5")), (2, 2, vec![]));
    let trans = hex("04 5ba0 005a c0000201 08 02 06 4104 0003f7a0");
    assert_eq!(Open::decode(&trans).unwrap().as_number, 260_000);
}

#[test]
fn optional_parameters_beyond_the_message_are_refused() {
    // FRR CVE-2022-40302, CVE-2022-40318, CVE-2022-43681: lengths that point behind the buffer.
    let cases = [
        "01",
        "02 02",
        "02 02 01",
        "03 02 ff 00",
        "04 02 02 01 04",
        "04 02 02 01 ff",
        "04 02 03 02 00",
        "05 02 02 0200 02",
        "ff",
        "ff ff",
        "ff ff 00",
        "ff ff 0001",
        "ff ff ffff",
        "ff ff 0003 02 0001",
        "ff ff 0004 02 ffff 00",
        "ff ff 0002 02 00",
        "ff ff 0004 02 0001 02",
        "ff ff 0005 02 0002 01 01",
        "00 02 00",
        "02 02 00 00",
    ];
    for parameters in cases {
        assert_eq!(refused(&open(parameters)), (2, 0, vec![]), "{parameters}");
    }
    for length in 0..10 {
        assert_eq!(refused(&open("00")[..length]), (2, 0, vec![]));
    }
}

#[test]
fn an_open_is_never_extended() {
    // RFC 8654, section 4.
    let header = [&[0xff; 16], hex("2000 01").as_slice()].concat();
    let error = Header::decode(&header, u16::MAX).unwrap_err();
    assert_eq!(codes(&error), (1, 2, vec![0x20, 0]));
}

#[test]
fn roles_have_one_counterpart_each() {
    // RFC 9234, section 4.2, table 2.
    let pairs = [(0, Some(3)), (1, Some(2)), (2, Some(1)), (3, Some(0)), (4, Some(4)), (5, None)];
    for (role, counterpart) in pairs {
        assert_eq!(Role(role).counterpart(), counterpart.map(Role));
    }
}

#[test]
fn a_whole_message_is_framed_and_decoded() {
    let mut octets = Vec::new();
    Open::decode(&open("00")).unwrap().encode(&mut octets);
    assert_eq!(octets, [&[0xff; 16], hex("001d 01").as_slice(), &open("00")].concat());
    let header = Header::decode(&octets, MAXIMUM_LENGTH).unwrap().unwrap();
    assert_eq!((header.message_type, header.length, header.body_octets()), (MessageType::Open, 29, 10));
    let message = Message::decode(header.message_type, &octets[19..], &SessionContext::default()).unwrap();
    assert!(matches!(message, Message::Open(Open { as_number: 64_500, .. })));
}
