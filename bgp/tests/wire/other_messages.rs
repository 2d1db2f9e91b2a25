//! Headers, KEEPALIVE, NOTIFICATION, ROUTE-REFRESH.

use pathflow_bgp::Family;
use pathflow_bgp::iana::cease_subcode;
use pathflow_bgp::wire::{
    EXTENDED_MAXIMUM_LENGTH, Header, MAXIMUM_LENGTH, Notification, RouteRefresh, RouteRefreshSubtype,
    encode_keepalive,
};

use crate::support::{codes, hex};

fn header(rest: &str) -> Vec<u8> {
    [&[0xff; 16], hex(rest).as_slice()].concat()
}

#[test]
fn a_header_is_waited_for_but_garbage_is_not() {
    for length in 0..19 {
        assert_eq!(Header::decode(&header("0013 04")[..length], MAXIMUM_LENGTH), Ok(None));
    }
    // GoBGP did not check the marker. RFC 4271, section 6.1: Connection Not Synchronized.
    for position in 0..16 {
        let mut octets = header("0013 04");
        octets[position] = 0xfe;
        assert_eq!(codes(&Header::decode(&octets, MAXIMUM_LENGTH).unwrap_err()), (1, 1, vec![]));
    }
    assert_eq!(codes(&Header::decode(b"G", MAXIMUM_LENGTH).unwrap_err()), (1, 1, vec![]));
}

#[test]
fn lengths_are_those_of_the_type() {
    // RFC 4271, section 6.1: Bad Message Length with the length, Bad Message Type with the type.
    let refused = |rest: &str, maximum| codes(&Header::decode(&header(rest), maximum).unwrap_err());
    for (rest, maximum) in [
        ("0000 04", MAXIMUM_LENGTH),
        ("0012 04", MAXIMUM_LENGTH),
        ("0014 04", MAXIMUM_LENGTH),
        ("001c 01", MAXIMUM_LENGTH),
        ("0016 02", MAXIMUM_LENGTH),
        ("0014 03", MAXIMUM_LENGTH),
        ("0016 05", MAXIMUM_LENGTH),
        ("1001 02", MAXIMUM_LENGTH),
        ("ffff 02", MAXIMUM_LENGTH),
        ("ffff 01", EXTENDED_MAXIMUM_LENGTH),
        ("0014 04", EXTENDED_MAXIMUM_LENGTH),
    ] {
        assert_eq!(refused(rest, maximum), (1, 2, hex(rest)[..2].to_vec()), "{rest}");
    }
    assert_eq!(refused("0013 00", MAXIMUM_LENGTH), (1, 3, vec![0]));
    assert_eq!(refused("0013 06", MAXIMUM_LENGTH), (1, 3, vec![6]));
    for rest in ["0017 02", "1000 02", "0015 03", "0017 05", "001d 01", "0013 04"] {
        assert!(Header::decode(&header(rest), MAXIMUM_LENGTH).unwrap().is_some(), "{rest}");
    }
    assert!(Header::decode(&header("ffff 02"), EXTENDED_MAXIMUM_LENGTH).unwrap().is_some());
}

#[test]
fn a_keepalive_is_a_header() {
    let mut octets = Vec::new();
    encode_keepalive(&mut octets);
    assert_eq!(octets, header("0013 04"));
}

#[test]
fn shutdown_communications_are_read_and_written() {
    // RFC 8203 and RFC 9003, section 2.
    let text = "[TICKET-1-1438367390] software upgrade; back in 2 hours";
    let sent = Notification::cease(cease_subcode::ADMINISTRATIVE_SHUTDOWN, text);
    let mut octets = Vec::new();
    sent.encode(&mut octets);
    assert_eq!(octets[19..22], [6, 2, text.len() as u8]);
    let received = Notification::decode(&octets[19..]).unwrap();
    assert_eq!(received, sent);
    assert_eq!(received.shutdown_communication(), Some(text));
    assert_eq!(received.to_string(), format!("Cease/Administrative Shutdown: {text:?}"));
    // 255 octets, between two characters.
    let long = Notification::cease(cease_subcode::ADMINISTRATIVE_RESET, &"é".repeat(200));
    assert_eq!(long.shutdown_communication(), Some("é".repeat(127).as_str()));
    // Other subcodes have none.
    assert_eq!(*Notification::cease(cease_subcode::PEER_DECONFIGURED, text).data, [0_u8; 0]);
    assert_eq!(Notification::decode(&hex("06 03 02 4142")).unwrap().shutdown_communication(), None);
}

#[test]
fn a_malformed_shutdown_communication_is_none() {
    for data in ["", "00", "05 41", "02 c328", "ff"] {
        let notification = Notification::decode(&hex(&format!("0602 {data}"))).unwrap();
        assert_eq!(notification.shutdown_communication(), None, "{data}");
        assert_eq!(notification.to_string(), "Cease/Administrative Shutdown");
    }
    let escaped = Notification::decode(&hex("0604 05 1b5b33316d")).unwrap();
    assert_eq!(escaped.to_string(), r#"Cease/Administrative Reset: "\u{1b}[31m""#);
}

#[test]
fn notifications_have_names_where_the_standards_have_them() {
    let text = |octets: &str| Notification::decode(&hex(octets)).unwrap().to_string();
    assert_eq!(text("0400"), "Hold Timer Expired");
    assert_eq!(text("030b"), "UPDATE Message Error/Malformed AS_PATH");
    assert_eq!(text("0709"), "ROUTE-REFRESH Message Error/subcode 9");
    assert_eq!(text("c8c8"), "error code 200/subcode 200");
    assert_eq!(codes(&Notification::decode(&[6]).unwrap_err()).0, 1);
}

#[test]
fn a_notification_fits_a_message() {
    // FRR CVE-2017-15865: data are cut at what a message holds, and come from what was received.
    let notification = Notification::new(3, 9, &vec![7; 70_000]);
    let mut octets = Vec::new();
    notification.encode(&mut octets);
    assert_eq!(octets.len(), 4096);
    assert!(octets[21..].iter().all(|octet| *octet == 7));
}

#[test]
fn route_refreshes_are_read_and_written() {
    // RFC 2918, section 3; RFC 7313, section 3.2.
    for (octets, subtype) in [
        ("0002 00 01", RouteRefreshSubtype::Request),
        ("0002 01 01", RouteRefreshSubtype::Begin),
        ("0002 02 01", RouteRefreshSubtype::End),
        ("0002 ff 01", RouteRefreshSubtype::Other(255)),
    ] {
        let message = RouteRefresh::decode(&hex(octets)).unwrap();
        assert_eq!(message, RouteRefresh::new(Family::IPV6_UNICAST, subtype));
        assert_eq!(message.family(), Some(Family::IPV6_UNICAST));
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        assert_eq!(encoded, header(&format!("0017 05 {octets}")));
    }
    assert_eq!(RouteRefresh::decode(&hex("0019 00 46")).unwrap().family(), None);
    // Outbound route filters (RFC 5291) after a request.
    assert!(RouteRefresh::decode(&hex("0001 00 01 01 80 0000")).is_ok());
}

#[test]
fn a_begin_or_end_of_a_wrong_length_is_quoted() {
    // RFC 7313, section 5: ROUTE-REFRESH Message Error, Invalid Message Length, with the whole message.
    for octets in ["0001 01 01 00", "0001 02 01 01 80 0000"] {
        let error = RouteRefresh::decode(&hex(octets)).unwrap_err();
        let message = header(&format!("{:04x} 05 {octets}", 19 + hex(octets).len()));
        assert_eq!(codes(&error), (7, 1, message));
    }
    assert_eq!(codes(&RouteRefresh::decode(&hex("0001 01")).unwrap_err()), (1, 2, vec![0, 22]));
}
