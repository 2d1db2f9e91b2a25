//! Any octets are the begin of a message of a possible length, not enough, or an error of the header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pathflow_bgp::wire::{
    EXTENDED_MAXIMUM_LENGTH, HEADER_OCTETS, Header, MAXIMUM_LENGTH, Message, SessionContext,
};

fuzz_target!(|octets: &[u8]| {
    for maximum in [MAXIMUM_LENGTH, EXTENDED_MAXIMUM_LENGTH] {
        match Header::decode(octets, maximum) {
            Ok(None) => assert!(octets.len() < HEADER_OCTETS),
            Err(error) => assert_eq!(error.notification.code, 1),
            Ok(Some(header)) => {
                assert!(header.length <= maximum && usize::from(header.length) >= HEADER_OCTETS);
                assert_eq!(header.body_octets() + HEADER_OCTETS, usize::from(header.length));
                if let Some(body) = octets.get(HEADER_OCTETS..usize::from(header.length)) {
                    Message::decode(header.message_type, body, &SessionContext::default()).ok();
                }
            }
        }
    }
});
