//! Keys: what is put in comes out again.

use pathflow_common::flow::{
    Addresses, Datagram, DatagramPorts, Encapsulation, Ipv4Key, KEY_FLAG_IPV6, KEY_FLAG_LATER_FRAGMENT, Key,
    KeyFields, WIDE_KEY_WORDS, WideKey,
};
use proptest::option;
use proptest::prelude::*;

fn fields() -> impl Strategy<Value = KeyFields> {
    (
        (0..256_u16, any::<u8>()),
        0..=3_u8,
        any::<u8>(),
        any::<[u8; 4]>(),
        (0..4096_u16, 0..8_u8),
        0..4096_u16,
        any::<u8>(),
    )
        .prop_map(
            |(
                (observation_point, filter_results),
                flags,
                protocol,
                ports,
                (vlan_id, vlan_priority),
                customer_vlan_id,
                class_of_service,
            )| {
                KeyFields {
                    observation_point,
                    filter_results,
                    flags,
                    protocol,
                    ports,
                    vlan_id,
                    customer_vlan_id,
                    vlan_priority,
                    class_of_service,
                }
            },
        )
}

fn encapsulation() -> impl Strategy<Value = Encapsulation> {
    (option::of(0..=0xf_ffff_u32), 0..=0xff_ffff_u32).prop_map(|(label, identifier)| {
        let bare = Encapsulation::NONE.with_vxlan_network_identifier(identifier);
        label.map_or(bare, |label| bare.with_mpls_top_label(label))
    })
}

proptest! {
    #[test]
    fn ipv4_keys_hold_their_fields(
        mut fields in fields(),
        addresses: [u8; 8],
        encapsulation in encapsulation(),
        epoch: u32,
    ) {
        fields.flags &= !KEY_FLAG_IPV6;
        let key = Ipv4Key::new(fields, addresses);
        prop_assert_eq!(key.fields(), fields);
        let [a, b, c, d, e, f, g, h] = addresses;
        for encapsulation in [Encapsulation::NONE, encapsulation] {
            let wide = key.widen(encapsulation);
            prop_assert_eq!(wide.fields(), fields);
            prop_assert_eq!(wide.encapsulation(), encapsulation);
            prop_assert_eq!(wide.addresses(), Addresses::Ipv4([a, b, c, d], [e, f, g, h]));
        }

        prop_assert_eq!(key.epoch(), 0);
        let mut stamped = key;
        stamped.0[0] |= u64::from(epoch);
        prop_assert_eq!(stamped.epoch(), epoch);
        prop_assert_eq!(stamped.fields(), fields);
        prop_assert_eq!(stamped.without_epoch(), key);
        let only = |filter_results| KeyFields { filter_results, ..fields };
        for mask in [0, 0x0f, 0x81, 0xff] {
            prop_assert_eq!(stamped.with_filter_results_of(mask).fields(), only(fields.filter_results & mask));
            prop_assert_eq!(stamped.with_filter_results_of(mask).epoch(), epoch);
        }
        let of_any_priority = KeyFields { vlan_priority: 0, ..fields };
        prop_assert_eq!(stamped.without_vlan_priority().fields(), of_any_priority);
        prop_assert_eq!(stamped.without_vlan_priority().epoch(), epoch);
        let elsewhere = KeyFields { observation_point: 255, ..fields };
        prop_assert_eq!(stamped.with_observation_point(255).fields(), elsewhere);
        prop_assert_eq!(
            stamped.without_epoch().widen(encapsulation),
            stamped.widen(encapsulation).without_epoch()
        );
    }

    #[test]
    fn ipv6_keys_hold_their_fields(
        fields in fields(),
        source: [u8; 16],
        destination: [u8; 16],
        encapsulation in encapsulation(),
        epoch: u32,
    ) {
        let words: Vec<[u8; 8]> = [source, destination]
            .iter()
            .flat_map(|address| address.chunks(8).map(|half| half.try_into().unwrap()).collect::<Vec<_>>())
            .collect();
        let key = WideKey::new(fields, words.try_into().unwrap(), encapsulation);
        prop_assert_eq!(key.encapsulation(), encapsulation);
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
fn fields_are_cut_to_their_bits() {
    let fields = KeyFields {
        vlan_id: 0xf123,
        customer_vlan_id: 0xf456,
        vlan_priority: 0xfd,
        flags: 0xe0,
        ..KeyFields::default()
    };
    let key = Ipv4Key::new(fields, [0; 8]);
    assert_eq!((key.fields().vlan_id, key.fields().customer_vlan_id), (0x123, 0x456));
    assert_eq!((key.fields().vlan_priority, key.fields().flags), (5, 0));
    assert_eq!((key.fields().class_of_service, key.fields().ports), (0, [0; 4]));
}

#[test]
fn a_family_cannot_be_taken_for_the_other() {
    // The same words, were it not for the flag.
    let ipv4 = Ipv4Key::new(KeyFields::default(), [7; 8]).widen(Encapsulation::NONE);
    let ipv6 = WideKey::new(KeyFields::default(), [[7; 8], [0; 8], [0; 8], [0; 8]], Encapsulation::NONE);
    assert_ne!(ipv4, ipv6);
    assert_eq!(Key([0; WIDE_KEY_WORDS]).addresses(), Addresses::Ipv4([0; 4], [0; 4]));
}

#[test]
fn label_zero_is_a_label() {
    let none = Encapsulation::NONE;
    assert_eq!((none.mpls_top_label(), none.vxlan_network_identifier(), none.is_any()), (None, 0, false));
    let explicit_null = none.with_mpls_top_label(0);
    assert_eq!((explicit_null.mpls_top_label(), explicit_null.is_any()), (Some(0), true));
    assert_ne!(explicit_null, none);
}

#[test]
fn labels_and_identifiers_do_not_run_into_each_other() {
    for (label, identifier) in [(u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX), (0xf_ffff, 1)] {
        for both in [
            Encapsulation::NONE.with_mpls_top_label(label).with_vxlan_network_identifier(identifier),
            Encapsulation::NONE.with_vxlan_network_identifier(identifier).with_mpls_top_label(label),
            // The last one set counts.
            Encapsulation::NONE
                .with_mpls_top_label(!label)
                .with_vxlan_network_identifier(!identifier)
                .with_mpls_top_label(label)
                .with_vxlan_network_identifier(identifier),
        ] {
            assert_eq!(both.mpls_top_label(), Some(label & 0xf_ffff));
            assert_eq!(both.vxlan_network_identifier(), identifier & 0xff_ffff);
        }
    }
}

/// Fields of later fragments of protocol 17 under tags.
fn later_fragment(identification: u32) -> KeyFields {
    KeyFields {
        observation_point: 7,
        filter_results: 0,
        flags: KEY_FLAG_LATER_FRAGMENT,
        protocol: 17,
        ports: identification.to_ne_bytes(),
        vlan_id: 100,
        customer_vlan_id: 200,
        vlan_priority: 5,
        class_of_service: 0xb8,
    }
}

#[test]
fn the_datagram_of_later_fragments_is_in_their_key() {
    let label = Encapsulation::NONE.with_mpls_top_label(16);
    let addresses = [192, 0, 2, 1, 198, 51, 100, 2];
    let key = Ipv4Key::new(later_fragment(0xabcd), addresses).widen(label);
    let expected = Datagram {
        addresses: [u64::from_ne_bytes(addresses), 0, 0, 0],
        identification: 0xabcd,
        protocol: 17,
    };
    assert_eq!(key.datagram(), Some(expected));
    // RFC 8200 section 4.5: the protocol is no part of it in IPv6.
    let halves = [[1; 8], [2; 8], [3; 8], [4; 8]];
    let key = WideKey::new(later_fragment(0x1234_5678), halves, label);
    let expected =
        Datagram { addresses: halves.map(u64::from_ne_bytes), identification: 0x1234_5678, protocol: 0 };
    assert_eq!(key.datagram(), Some(expected));
    let with_ports = KeyFields { flags: 0, ..later_fragment(0xabcd) };
    assert_eq!(Ipv4Key::new(with_ports, addresses).widen(label).datagram(), None);
}

#[test]
fn later_fragments_become_the_flow_of_their_first_one() {
    let label = Encapsulation::NONE.with_mpls_top_label(16);
    let first = DatagramPorts { ports: [0, 53, 0x30, 0x39], protocol: 6, jiffies: 9 };
    let ipv4 = |fields| Ipv4Key::new(fields, [7; 8]).widen(label);
    let ipv6 = |fields| WideKey::new(fields, [[1; 8], [2; 8], [3; 8], [4; 8]], label);
    let later = later_fragment(0xffff_ffff);
    let expected = KeyFields { flags: 0, protocol: 6, ports: first.ports, ..later };
    assert_eq!(ipv4(later).with_ports_of(first), ipv4(expected));
    assert_eq!(ipv6(later).with_ports_of(first), ipv6(expected));
    let expected = KeyFields { flags: 0, ports: [0; 4], ..later };
    assert_eq!(ipv4(later).without_ports(), ipv4(expected));
    assert_eq!(ipv6(later).without_ports(), ipv6(expected));
}

#[test]
fn the_kernel_knows_datagrams_by_their_octets() {
    let datagram = Datagram { addresses: [1, 2, 3, 4], identification: 0x0102_0304, protocol: 0x0506_0708 };
    let words: Vec<u8> = [1_u64, 2, 3, 4].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let expected = [&words[..], &0x0102_0304_u32.to_ne_bytes(), &0x0506_0708_u32.to_ne_bytes()].concat();
    assert_eq!(datagram.octets()[..], expected);
    let octets = [&[1, 2, 3, 4][..], &17_u32.to_ne_bytes(), &0xdead_beef_u32.to_ne_bytes()].concat();
    let ports = DatagramPorts::from_octets(octets.try_into().unwrap());
    assert_eq!(ports, DatagramPorts { ports: [1, 2, 3, 4], protocol: 17, jiffies: 0xdead_beef });
}
