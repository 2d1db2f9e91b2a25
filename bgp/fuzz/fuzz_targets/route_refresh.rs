//! Any octets are a ROUTE-REFRESH that comes back from encoding, but for filters in a request, or an error that says so.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pathflow_bgp::wire::{HEADER_OCTETS, RouteRefresh};

fuzz_target!(|octets: &[u8]| match RouteRefresh::decode(octets) {
    Err(error) if octets.len() < 4 =>
        assert_eq!((error.notification.code, error.notification.subcode), (1, 2)),
    Err(error) => {
        assert_eq!((error.notification.code, error.notification.subcode), (7, 1));
        let length = octets.len().min(4000);
        assert_eq!(error.notification.data[HEADER_OCTETS..][..length], octets[..length]);
    }
    Ok(message) => {
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        assert_eq!(encoded[HEADER_OCTETS..], octets[..4]);
    }
});
