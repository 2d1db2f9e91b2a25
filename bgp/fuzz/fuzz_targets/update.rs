//! Any octets are an UPDATE whose parts agree with each other and whose attributes come back from encoding, or an error
//! of UPDATE with data that were received.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pathflow_bgp::Family;
use pathflow_bgp::error::ErrorHandling;
use pathflow_bgp::wire::encode_update::UpdateBuilder;
use pathflow_bgp::wire::{AsNumberSize, SessionContext, Update};

/// Every agreement that a first octet stands for.
fn session(number: u8) -> SessionContext {
    SessionContext {
        as_numbers: if number & 1 == 0 { AsNumberSize::FourOctets } else { AsNumberSize::TwoOctets },
        internal: number & 2 == 0,
        add_path: Family::ALL.into_iter().filter(|family| number >> 2 & 1 << family.index() != 0).collect(),
        monitored: false,
    }
}

fuzz_target!(|octets: &[u8]| {
    let Some((number, body)) = octets.split_first() else { return };
    let context = session(*number);
    let update = match Update::decode(body, &context) {
        Ok(update) => update,
        Err(error) => {
            let data = &error.notification.data;
            assert_eq!(error.notification.code, 3);
            assert!(data.is_empty() || body.windows(data.len()).any(|window| window == &**data));
            return;
        }
    };
    let errors = update.errors();
    assert_eq!(update.handling().is_some(), !errors.is_empty());
    assert!(errors.iter().all(|error| error.handling <= update.handling().unwrap()));
    assert!(update.handling() < Some(ErrorHandling::SessionReset));
    assert!(update.errors_omitted() == 0 || errors.len() == 8);

    let mut octets_of_routes = 0;
    for (family, nlri) in update.withdrawn().chain(update.announced()) {
        assert_eq!(nlri.prefix, nlri.prefix.trunc());
        assert_eq!(nlri.prefix.addr().is_ipv4(), family.afi as u16 == 1);
        assert!(nlri.path_id == 0 || context.add_path.contains(family));
        assert_eq!(nlri.route_distinguisher.is_some(), family.safi as u8 == 128);
        octets_of_routes += 1 + usize::from(nlri.prefix.prefix_len()).div_ceil(8);
    }
    assert!(octets_of_routes <= body.len());
    if update.end_of_rib().is_some() {
        assert!(update.withdrawn().next().is_none() && update.announced().next().is_none());
    }

    let mut keys = Vec::new();
    let mut announced = 0;
    for announcement in update.announcements() {
        announced += announcement.nlri().count();
        let mut key = Vec::new();
        announcement.interning_key(&mut key);
        let attributes = announcement.attributes();
        keys.push((key, attributes.clone()));

        let numbers: usize = attributes.as_path.segments.iter().map(|segment| segment.as_numbers.len()).sum();
        let (Some(next_hop), None) = (attributes.next_hop, update.handling()) else { continue };
        if numbers > 2048 {
            continue;
        }
        let wide = SessionContext { as_numbers: AsNumberSize::FourOctets, ..SessionContext::default() };
        let route = announcement.nlri().next().unwrap();
        let mut again = Vec::new();
        UpdateBuilder::new(wide)
            .mp_reach(announcement.family(), next_hop, &[route])
            .attributes(&attributes, false)
            .encode_body(&mut again);
        let again = Update::decode(&again, &wide).expect("what was encoded decodes");
        assert_eq!(again.announcements().next().expect("a route").attributes(), attributes);
    }
    assert_eq!(announced, update.announced().count());
    if let [one, other] = keys.as_slice() {
        assert!(one.0 != other.0 || one.1 == other.1);
    }
    let aggregator = update.aggregator();
    assert!(aggregator.is_none_or(|aggregator| aggregator.as_number != 0));
    assert!(update.cluster_list().count() <= body.len() / 4);
});
