//! Any octets but less than two are a NOTIFICATION that comes back from encoding, and has a text of one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pathflow_bgp::wire::{HEADER_OCTETS, Notification};

fuzz_target!(|octets: &[u8]| match Notification::decode(octets) {
    Err(_) => assert!(octets.len() < 2),
    Ok(notification) => {
        if let Some(text) = notification.shutdown_communication() {
            assert!(notification.code == 6 && !text.is_empty() && text.len() < octets.len());
        }
        assert!(!notification.to_string().contains(|character: char| character.is_control()));
        let mut encoded = Vec::new();
        notification.encode(&mut encoded);
        assert!(encoded.len() <= 4096);
        if octets.len() <= 4096 - HEADER_OCTETS {
            assert_eq!(Notification::decode(&encoded[HEADER_OCTETS..]), Ok(notification));
        }
    }
});
