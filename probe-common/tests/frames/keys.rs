//! Keys: what is put in comes out again.

use pathflow_common::flow::{Addresses, Ipv4Key, Ipv6Key, KEY_FLAG_IPV6, Key, KeyFields};
use proptest::prelude::*;

fn fields() -> impl Strategy<Value = KeyFields> {
    (any::<u16>(), 0..=3_u8, any::<u8>(), any::<[u8; 4]>(), 0..4096_u16, 0..4096_u16, any::<u8>()).prop_map(
        |(observation_point, flags, protocol, ports, vlan_id, customer_vlan_id, class_of_service)| {
            KeyFields {
                observation_point,
                flags,
                protocol,
                ports,
                vlan_id,
                customer_vlan_id,
                class_of_service,
            }
        },
    )
}

proptest! {
    #[test]
    fn ipv4_keys_hold_their_fields(mut fields in fields(), addresses: [u8; 8], epoch: u32) {
        fields.flags &= !KEY_FLAG_IPV6;
        let key = Ipv4Key::new(fields, addresses);
        prop_assert_eq!(key.fields(), fields);
        prop_assert_eq!(key.widen().fields(), fields);
        let [a, b, c, d, e, f, g, h] = addresses;
        prop_assert_eq!(key.widen().addresses(), Addresses::Ipv4([a, b, c, d], [e, f, g, h]));

        prop_assert_eq!(key.epoch(), 0);
        let mut stamped = key;
        stamped.0[0] |= u64::from(epoch);
        prop_assert_eq!(stamped.epoch(), epoch);
        prop_assert_eq!(stamped.fields(), fields);
        prop_assert_eq!(stamped.without_epoch(), key);
        prop_assert_eq!(stamped.without_epoch().widen(), stamped.widen().without_epoch());
    }

    #[test]
    fn ipv6_keys_hold_their_fields(fields in fields(), source: [u8; 16], destination: [u8; 16], epoch: u32) {
        let words: Vec<[u8; 8]> = [source, destination]
            .iter()
            .flat_map(|address| address.chunks(8).map(|half| half.try_into().unwrap()).collect::<Vec<_>>())
            .collect();
        let key = Ipv6Key::new(fields, words.try_into().unwrap());
        let expected = KeyFields { flags: fields.flags | KEY_FLAG_IPV6, ..fields };
        prop_assert_eq!(key.fields(), expected);
        prop_assert_eq!(key.addresses(), Addresses::Ipv6(source, destination));

        let mut stamped = key;
        stamped.0[0] |= u64::from(epoch);
        prop_assert_eq!(stamped.epoch(), epoch);
        prop_assert_eq!(stamped.fields(), expected);
        prop_assert_eq!(stamped.without_epoch(), key);
    }

    /// No field is lost and none runs into another: keys are equal only if everything put in is.
    #[test]
    fn different_fields_make_different_keys(one in fields(), other in fields(), addresses: [u8; 8]) {
        let key = |mut fields: KeyFields| {
            fields.flags &= !KEY_FLAG_IPV6;
            (fields, Ipv4Key::new(fields, addresses))
        };
        let ((one, one_key), (other, other_key)) = (key(one), key(other));
        prop_assert_eq!(one == other, one_key == other_key);
    }
}

#[test]
fn identifiers_are_cut_to_twelve_bits() {
    let fields = KeyFields { vlan_id: 0xf123, customer_vlan_id: 0xf456, ..KeyFields::default() };
    let key = Ipv4Key::new(fields, [0; 8]);
    assert_eq!((key.fields().vlan_id, key.fields().customer_vlan_id), (0x123, 0x456));
    assert_eq!((key.fields().class_of_service, key.fields().ports), (0, [0; 4]));
}

#[test]
fn a_family_cannot_be_taken_for_the_other() {
    // The same words, were it not for the flag.
    let ipv4 = Ipv4Key::new(KeyFields::default(), [7; 8]).widen();
    let ipv6 = Ipv6Key::new(KeyFields::default(), [[7; 8], [0; 8], [0; 8], [0; 8]]);
    assert_ne!(ipv4, ipv6);
    assert_eq!(Key([0; 6]).addresses(), Addresses::Ipv4([0; 4], [0; 4]));
}
