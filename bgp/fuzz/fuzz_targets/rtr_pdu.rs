//! Any octets are PDUs, an error, or not enough; what is a PDU is the same after being written and read again. A session
//! takes any order of them, and never holds more VRPs than it may.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use pathflow_bgp::rpki::rtr::pdu::{HEADER_OCTETS, Pdu, Version, decode};
use pathflow_bgp::rpki::rtr::session::Session;

const MAX_VRPS: usize = 3;

fuzz_target!(|octets: &[u8]| {
    let mut now = Instant::now();
    let mut session = Session::new(Version::V1, MAX_VRPS);
    session.connected(now);
    let mut rest = octets;
    while let Ok(Some(frame)) = decode(rest) {
        assert!(frame.octets >= HEADER_OCTETS);
        if !matches!(frame.pdu, Pdu::Skipped { .. }) {
            let mut encoded = Vec::new();
            frame.pdu.encode(frame.version, &mut encoded);
            assert_eq!(decode(&encoded), Ok(Some(frame)));
        }
        rest = &rest[frame.octets..];
        // A connection that has to be closed is followed by another one.
        if session.received(now, &frame).is_err() {
            session.disconnected();
            session.connected(now);
        }
        assert!(session.vrps().len() <= MAX_VRPS);
        now += Duration::from_secs(7);
        if session.timer(now).is_err() {
            session.disconnected();
        }
    }
});
