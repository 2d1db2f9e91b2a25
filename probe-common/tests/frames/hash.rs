//! The table hash spreads flows that are alike, because flows on a wire are. With fixed secrets, so that
//! the numbers are always the same.

use std::collections::HashSet;
use std::iter;

use pathflow_common::flow::{Encapsulation, HASH_SECRETS, Ipv4Key, Key, KeyFields, WideKey};
use pathflow_common::layout::{PROBES, Probes};

/// Two sets of secrets, from the digits of pi and of e.
const SECRETS: [[u32; HASH_SECRETS]; 2] = [
    [
        0x243f_6a88,
        0x85a3_08d3,
        0x1319_8a2e,
        0x0370_7344,
        0xa409_3822,
        0x299f_31d0,
        0x082e_fa98,
        0xec4e_6c89,
        0x4528_21e6,
        0x38d0_1377,
        0xbe54_66cf,
        0x34e9_0c6c,
        0xc0ac_29b7,
        0xc97c_50dd,
    ],
    [
        0xb7e1_5162,
        0x8aed_2a6a,
        0xbf71_5880,
        0x9cf4_f3c7,
        0x62e7_160f,
        0x38b4_da56,
        0xa784_d904,
        0x5190_cfef,
        0x324e_7738,
        0x926c_fbe5,
        0xf4bf_8d8d,
        0x8c31_d763,
        0xda06_c80a,
        0xbb11_85eb,
    ],
];

const KEYS: u32 = 65_536;
/// Twice as many slots as keys: the load at which an epoch ends early.
const SLOT_BITS: u32 = 17;

fn ipv4(fields: KeyFields, source: u32, destination: u32) -> Ipv4Key {
    let addresses = u64::from(source) << 32 | u64::from(destination);
    Ipv4Key::new(fields, addresses.to_be_bytes())
}

fn ports(source: u16, destination: u16) -> [u8; 4] {
    (u32::from(source) << 16 | u32::from(destination)).to_be_bytes()
}

/// Keys as they lie in a table.
struct Spread {
    /// Most keys whose first probe is the same slot, and whose second window begins at the same slot.
    fullest: [u32; 2],
    /// Keys that find no place within the probes.
    without_slot: u32,
}

fn spread<const N: usize>(keys: impl Iterator<Item = Key<N>>, secrets: &[u32; HASH_SECRETS]) -> Spread {
    let mask = (1_u32 << SLOT_BITS) - 1;
    let mut hits = [vec![0; 1 << SLOT_BITS], vec![0; 1 << SLOT_BITS]];
    let mut taken = vec![false; 1 << SLOT_BITS];
    let (mut count, mut without_slot) = (0, 0);
    let mut seen = HashSet::new();
    for key in keys {
        assert!(seen.insert(key.0), "the keys of a test are different");
        let hash = key.hash(secrets);
        let mut probes = Probes::new(hash);
        let slots: Vec<usize> = iter::from_fn(|| probes.next(mask)).map(|slot| slot as usize).collect();
        assert_eq!(slots.len(), PROBES as usize);
        let windows = slots.chunks(slots.len() / 2);
        for (hits, window) in hits.iter_mut().zip(windows) {
            let adjacent = (0..).take(window.len()).map(|number| (window[0] + number) & mask as usize);
            assert_eq!(window, adjacent.collect::<Vec<_>>());
            hits[window[0]] += 1;
        }
        match slots.into_iter().find(|slot| !taken[*slot]) {
            Some(slot) => taken[slot] = true,
            None => without_slot += 1,
        }
        count += 1;
    }
    assert_eq!(count, KEYS);
    Spread { fullest: hits.map(|hits| hits.into_iter().max().unwrap_or(0)), without_slot }
}

/// Random values would have 6 to 8 keys in the fullest slot, and place all keys but a handful.
#[track_caller]
fn assert_spread<const N: usize>(name: &str, key: impl Fn(u32) -> Key<N>) {
    for secrets in &SECRETS {
        let Spread { fullest, without_slot } = spread((0..KEYS).map(&key), secrets);
        println!("{name}: {fullest:?} {without_slot}");
        assert!(fullest.iter().all(|keys| *keys <= 12), "{name}: {fullest:?} keys in one slot");
        assert!(without_slot <= KEYS / 1000, "{name}: {without_slot} of {KEYS} keys without a slot");
    }
}

#[test]
fn ipv4_flows_that_differ_in_one_field() {
    let udp =
        KeyFields { observation_point: 1, protocol: 17, ports: ports(1024, 53), ..KeyFields::default() };
    assert_spread("low half of the source address", |i| ipv4(udp, 0x0a00_0000 + i, 0xc612_0001));
    assert_spread("high half of the source address", |i| ipv4(udp, i << 16 | 1, 0xc612_0001));
    assert_spread("destination address", |i| ipv4(udp, 0x0a00_0001, 0xc612_0000 + i));
    assert_spread("source port", |i| ipv4(KeyFields { ports: ports(i as u16, 53), ..udp }, 1, 2));
    assert_spread("destination port", |i| ipv4(KeyFields { ports: ports(53, i as u16), ..udp }, 1, 2));
    assert_spread("observation point and filter results", |i| {
        let [point, filter_results, ..] = i.to_le_bytes();
        ipv4(KeyFields { observation_point: point.into(), filter_results, ..udp }, 1, 2)
    });
}

#[test]
fn ipv4_flows_that_differ_in_several_fields() {
    let tcp =
        KeyFields { observation_point: 1, protocol: 6, ports: ports(1024, 443), ..KeyFields::default() };
    assert_spread("256 sources by 256 destinations", |i| {
        ipv4(tcp, 0x0a00_0000 + (i >> 8), 0xc612_0000 + (i & 0xff))
    });
    assert_spread("source address and port together", |i| {
        ipv4(KeyFields { ports: ports(i as u16, 443), ..tcp }, 0x0a00_0000 + i, 0xc612_0001)
    });
    assert_spread("both addresses together", |i| ipv4(tcp, 0x0a00_0000 + i, 0x0a00_0000 + i));
    assert_spread("address against port", |i| {
        ipv4(KeyFields { ports: ports(!(i as u16), 443), ..tcp }, 0x0a00_0000 + i, 0xc612_0001)
    });
}

/// Only bits that a multiplication of halves would lose first: the top ones of each word.
#[test]
fn flows_that_differ_in_the_top_bits_of_several_words() {
    assert_spread("top bits of two words", |i| {
        let fields = KeyFields { protocol: 17, class_of_service: (i >> 8) as u8, ..KeyFields::default() };
        let mut key = Ipv4Key::new(fields, [0; 8]);
        key.0[1] |= u64::from(i & 0xff) << 56;
        key
    });
    assert_spread("top bits of three words", |i| {
        let mut key = Ipv4Key::new(KeyFields::default(), [0; 8]);
        key.0[0] |= u64::from(i >> 11 & 0x1f) << 59;
        key.0[1] |= u64::from(i >> 5 & 0x3f) << 58;
        key.0[2] |= u64::from(i & 0x1f) << 59;
        key
    });
    assert_spread("top bits of the low halves", |i| {
        let mut key = Ipv4Key::new(KeyFields::default(), [0; 8]);
        key.0[1] |= u64::from(i >> 8) << 24;
        key.0[2] |= u64::from(i & 0xff) << 24;
        key
    });
}

#[test]
fn ipv6_flows() {
    let udp =
        KeyFields { observation_point: 1, protocol: 17, ports: ports(1024, 53), ..KeyFields::default() };
    let key = |source: u128, destination: u128, fields| {
        let halves = |address: u128| [(address >> 64) as u64, address as u64].map(u64::to_be_bytes);
        let [a, b] = halves(source);
        let [c, d] = halves(destination);
        WideKey::new(fields, [a, b, c, d], Encapsulation::NONE)
    };
    let network = 0x2001_0db8_0000_0000_0000_0000_0000_0000;
    assert_spread("interface identifier", |i| key(network | u128::from(i), network | 1, udp));
    assert_spread("subnet", |i| key(network | u128::from(i) << 64 | 1, network | 1, udp));
    assert_spread("network", |i| key(network | u128::from(i) << 80 | 1, network | 1, udp));
    assert_spread("identifier of both", |i| key(network | u128::from(i), network | u128::from(i), udp));
    assert_spread("subnet by identifier", |i| {
        key(network | u128::from(i >> 8) << 64 | u128::from(i & 0xff), network | 1, udp)
    });
}

#[test]
fn the_secrets_matter() {
    let key = ipv4(KeyFields::default(), 0x0a00_0001, 0xc612_0001);
    assert_ne!(key.hash(&SECRETS[0]), key.hash(&SECRETS[1]));
}
