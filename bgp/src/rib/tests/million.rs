//! A million lookups in a table as the Internet's, made smaller.

use super::*;

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}

/// Routes, and the last address of each.
struct Linear<T>(Vec<(T, T, u8, u32)>);

impl<T: Copy + Ord> Linear<T> {
    /// From end to end; the routes are in the order of their lengths, longest first.
    fn search(&self, address: T) -> Option<(u8, u32)> {
        let covers = |(first, last, ..): &&(T, T, u8, u32)| *first <= address && address <= *last;
        self.0.iter().find(covers).map(|(_, _, length, number)| (*length, *number))
    }
}

#[test]
fn a_million_random_lookups_equal_a_search_from_end_to_end() {
    const ROUTES: u32 = 1500;
    let mut random = Random(7);
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
    for number in 1..=ROUTES {
        // In few blocks, so that routes nest.
        let bits = random.next() as u32 & 0x0f03_ffff;
        let length = if number == 1 {
            0
        } else {
            [9, 12, 16, 19, 20, 22, 23, 24, 24, 24, 26, 29, 32][random.next() as usize % 13]
        };
        let net = ipnet::Ipv4Net::new(bits.into(), length).unwrap().trunc();
        ipv4.retain(|(first, _, other, _)| (*first, *other) != (net.network().to_bits(), length));
        ipv4.push((net.network().to_bits(), net.broadcast().to_bits(), length, number));
        announce(&mut rib, id, number, unicast(&net.to_string()));

        let bits = (0x2000_u128 << 112)
            | (u128::from(random.next()) << 64 & (0x0f03_00ff_0fff_ffff << 64))
            | u128::from(random.next());
        let length =
            [13, 20, 28, 29, 32, 36, 40, 44, 48, 48, 48, 56, 64, 80, 126, 128][random.next() as usize % 16];
        let net = ipnet::Ipv6Net::new(bits.into(), length).unwrap().trunc();
        ipv6.retain(|(first, _, other, _)| (*first, *other) != (net.network().to_bits(), length));
        ipv6.push((net.network().to_bits(), net.broadcast().to_bits(), length, number));
        announce(&mut rib, id, number, unicast(&net.to_string()));
    }
    ipv4.sort_by_key(|(_, _, length, _)| std::cmp::Reverse(*length));
    ipv6.sort_by_key(|(_, _, length, _)| std::cmp::Reverse(*length));
    let (ipv4, ipv6) = (Linear(ipv4), Linear(ipv6));
    let mut reader = rib.reader();
    let view = reader.enter();
    let table = view.peer(id).unwrap();
    let answer = |found: Option<Match<'_>>| {
        found.map(|found| (found.prefix_length(), number_of(&found.choose(None).unwrap().attributes)))
    };
    let mut routed = 0;
    for _ in 0..500_000 {
        // Inside a route half of the time, and with some bits beyond the blocks.
        let random_bits = random.next();
        let (first, last, ..) = ipv4.0[random.next() as usize % ipv4.0.len()];
        let address = if random_bits & 1 == 0 {
            first + (random_bits >> 8) as u32 % (last - first).max(1)
        } else {
            (random_bits >> 32) as u32 & 0x1f07_ffff
        };
        let expected = ipv4.search(address);
        assert_eq!(answer(table.lookup_ipv4(address.into())), expected);
        let (first, last, ..) = ipv6.0[random.next() as usize % ipv6.0.len()];
        let address = if random_bits & 2 == 0 {
            first + u128::from(random.next()) % (last - first).max(1)
        } else {
            first ^ (1 << ((random_bits >> 56) % 128))
        };
        let expected = ipv6.search(address);
        assert_eq!(answer(table.lookup_ipv6(address.into())), expected);
        routed += u32::from(expected.is_some());
    }
    assert!((100_000..500_000).contains(&routed), "{routed} of 500,000 IPv6 addresses are routed");
}
