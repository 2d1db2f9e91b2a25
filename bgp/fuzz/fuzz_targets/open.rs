//! Any octets are an OPEN that comes back from encoding, or an error of OPEN.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pathflow_bgp::wire::{Capability, HEADER_OCTETS, Open};

fuzz_target!(|octets: &[u8]| match Open::decode(octets) {
    Err(error) => assert_eq!(error.notification.code, 2),
    Ok(open) => {
        assert!(open.as_number != 0 && !open.bgp_identifier.is_unspecified());
        assert!(open.hold_time == 0 || open.hold_time >= 3);
        let is_wide = u16::try_from(open.as_number).is_err();
        let says_so =
            open.capabilities.iter().any(|capability| matches!(capability, Capability::FourOctetAsNumber(_)));
        assert!(says_so || !is_wide);
        // Texts that were no UTF-8 may have become longer than they can be sent.
        let has_text =
            open.capabilities.iter().any(|capability| matches!(capability, Capability::Fqdn { .. }));
        let mut encoded = Vec::new();
        open.encode(&mut encoded);
        if !has_text && octets.len() < 4000 {
            assert_eq!(Open::decode(&encoded[HEADER_OCTETS..]), Ok(open));
        }
    }
});
