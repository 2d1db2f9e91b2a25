//! Any octets are BMP messages, an error, or not enough. Whatever a router sends, its peers stay within their bound, and
//! its routes in the RIB go when it does.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use pathflow_bgp::bmp::router::{Router, Settings, Statistics};
use pathflow_bgp::bmp::wire::{HEADER_OCTETS, Header, MAX_MESSAGE_OCTETS, MessageType};
use pathflow_bgp::rib::Rib;

const MAX_PEERS: usize = 3;

fuzz_target!(|octets: &[u8]| {
    let (now, stale_time) = (Instant::now(), Duration::from_secs(1));
    let settings = Settings { stale_time, max_peers: MAX_PEERS, ..Settings::default() };
    let mut router = Router::new([192, 0, 2, 1].into(), settings);
    let (mut rib, statistics) = (Rib::new(), Statistics::default());
    router.received(now, MessageType::Initiation, &[], &statistics, &mut rib).unwrap();
    let mut rest = octets;
    while let Ok(Some(header)) = Header::decode(rest) {
        assert!((HEADER_OCTETS..=MAX_MESSAGE_OCTETS).contains(&header.octets));
        let Some(body) = rest.get(HEADER_OCTETS..header.octets) else { break };
        rest = &rest[header.octets..];
        if router.received(now, header.message_type, body, &statistics, &mut rib).is_err() {
            break;
        }
        assert!(router.peers().count() <= MAX_PEERS);
    }
    router.disconnected(now, &mut rib);
    router.timer(now + stale_time, &mut rib);
    assert_eq!(router.peers().count(), 0);
    assert_eq!(rib.peers().count(), 0);
});
