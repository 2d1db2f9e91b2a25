//! A full routing table made up from a seed: prefixes, lengths and attribute sets as a router of the default-free zone
//! has them, and the UPDATEs that carry them.
//!
//! Lengths are distributed as in the tables of 2025. Prefixes lie in blocks of address registries, nested where
//! providers announce parts of their blocks. Prefixes of one block mostly share few attribute sets.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pathflow_bgp::wire::SessionContext;
use pathflow_bgp::wire::encode_update::UpdateBuilder;
use pathflow_bgp::{AsPath, Attributes, Family, Nlri, Origin, Segment, SegmentKind};

use crate::random::Random;

/// Per 10,000 IPv4 prefixes.
const IPV4_LENGTHS: [(u8, u32); 18] = [
    (8, 1),
    (9, 1),
    (10, 1),
    (11, 1),
    (12, 3),
    (13, 6),
    (14, 12),
    (15, 20),
    (16, 130),
    (17, 80),
    (18, 135),
    (19, 245),
    (20, 430),
    (21, 500),
    (22, 1070),
    (23, 1000),
    (24, 6340),
    (26, 25),
];
/// Per 10,000 IPv6 prefixes.
const IPV6_LENGTHS: [(u8, u32); 18] = [
    (20, 2),
    (24, 5),
    (28, 40),
    (29, 250),
    (30, 60),
    (32, 1150),
    (33, 250),
    (34, 250),
    (35, 150),
    (36, 600),
    (38, 200),
    (40, 1000),
    (42, 250),
    (44, 950),
    (46, 250),
    (47, 150),
    (48, 4423),
    (64, 20),
];
/// Where address registries give IPv6 prefixes, and how many of ten there are.
const IPV6_BLOCKS: [(u128, u8, u32); 7] = [
    (0x2001 << 112, 16, 1),
    (0x2400 << 112, 12, 2),
    (0x2600 << 112, 12, 2),
    (0x2800 << 112, 12, 1),
    (0x2a00 << 112, 12, 2),
    (0x2a10 << 112, 12, 1),
    (0x2c00 << 112, 12, 1),
];
/// Octets of attributes and NLRI that an UPDATE has room for.
const UPDATE_NLRI: usize = 3500;

/// How large a table is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// IPv4 prefixes.
    pub ipv4: usize,
    /// IPv6 prefixes.
    pub ipv6: usize,
    /// Distinct attribute sets.
    pub attribute_sets: usize,
}

impl Size {
    /// That of the Internet's table.
    pub const FULL: Self = Self { ipv4: 1_050_000, ipv6: 220_000, attribute_sets: 190_000 };
}

/// How routes are spread over UPDATEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Routes of one attribute set follow each other and share messages: about six in each.
    Packed,
    /// One route in each message, in the order of a table, as BIRD exports it.
    OnePrefix,
}

/// A table.
#[derive(Clone, Debug)]
pub struct FullTable {
    /// Prefixes, each with its place in `attribute_sets`, in random order.
    pub routes: Vec<(IpNet, u32)>,
    /// What routes have in common.
    pub attribute_sets: Vec<Attributes>,
}

impl FullTable {
    /// The same table for the same size.
    #[must_use]
    pub fn generate(size: Size) -> Self {
        let mut random = Random::new();
        // A set of each family goes to routes of that family only: its next hop is of that family.
        let sets_ipv6 = (size.attribute_sets * size.ipv6 / (size.ipv4 + size.ipv6).max(1)) as u32;
        let sets_ipv4 = size.attribute_sets as u32 - sets_ipv6;
        let attribute_sets = (0..size.attribute_sets as u32)
            .map(|number| attributes(number, number >= sets_ipv4, &mut random))
            .collect();
        let mut routes = ipv4(size.ipv4, sets_ipv4, &mut random);
        routes.extend(ipv6(size.ipv6, sets_ipv4..sets_ipv4 + sets_ipv6, &mut random));
        random.shuffle(&mut routes);
        Self { routes, attribute_sets }
    }

    /// The UPDATEs that carry the table on an internal session with four-octet AS numbers, one after the other, and
    /// where each begins; the last number is where the last one ends.
    #[must_use]
    pub fn updates(&self, shape: Shape) -> (Vec<u8>, Vec<usize>) {
        let mut routes: Vec<(u32, IpNet)> = self.routes.iter().map(|(prefix, set)| (*set, *prefix)).collect();
        match shape {
            Shape::Packed => routes.sort_unstable(),
            Shape::OnePrefix => routes.sort_unstable_by_key(|(_, prefix)| *prefix),
        }
        let (mut octets, mut starts, mut nlri) = (Vec::new(), vec![0], Vec::new());
        let room = if shape == Shape::Packed { UPDATE_NLRI } else { 0 };
        for group in routes.chunk_by(|(one, _), (other, _)| shape == Shape::Packed && one == other) {
            let mut rest = group;
            while let Some((set, _)) = rest.first() {
                let mut used = 0;
                nlri.clear();
                for (_, prefix) in rest {
                    nlri.push(Nlri { route_distinguisher: None, prefix: *prefix, path_id: 0, label: None });
                    used += 1 + usize::from(prefix.prefix_len()).div_ceil(8);
                    if used > room {
                        break;
                    }
                }
                rest = rest.get(nlri.len()..).unwrap_or_default();
                if let Some(attributes) = self.attribute_sets.get(*set as usize) {
                    update(attributes, &nlri).encode(&mut octets);
                    starts.push(octets.len());
                }
            }
        }
        (octets, starts)
    }
}

fn update(attributes: &Attributes, nlri: &[Nlri]) -> UpdateBuilder {
    let builder = UpdateBuilder::new(SessionContext::default()).attributes(attributes, true);
    match attributes.next_hop {
        Some(next_hop @ IpAddr::V6(_)) => builder.mp_reach(Family::IPV6_UNICAST, next_hop, nlri),
        _ => builder.announce(nlri),
    }
}

/// Attributes that differ from those of every other number.
fn attributes(number: u32, ipv6: bool, random: &mut Random) -> Attributes {
    // Lengths of 2 to 8, mostly 4 or 5; the last AS, and so the set, is told by the number.
    let length = 2 + random.below(3) + random.below(3) + random.below(3);
    let mut path: Vec<u32> = (0..length).map(|_| transit(random)).collect();
    path.push(60_000 + number / 2);
    if random.below(8) == 0 {
        path.extend(std::iter::repeat_n(60_000 + number / 2, 1 + random.below(4) as usize));
    }
    let communities = match random.below(10) {
        0 => 0,
        1..=4 => 1 + random.below(4),
        5..=8 => 4 + random.below(8),
        _ => 10 + random.below(20),
    };
    let large = if random.below(7) == 0 { 1 + random.below(5) } else { 0 };
    let extended = if random.below(20) == 0 { 1 + random.below(2) } else { 0 };
    let word = |random: &mut Random| random.next() as u32;
    let router = random.below(8);
    Attributes {
        origin: if random.below(20) == 0 { Origin::Incomplete } else { Origin::Igp },
        as_path: AsPath {
            segments: Box::from([Segment {
                kind: SegmentKind::Sequence,
                as_numbers: path.into_boxed_slice(),
            }]),
        },
        next_hop: Some(if ipv6 {
            Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(router + 1)).into()
        } else {
            Ipv4Addr::from(0xc000_0201 + router).into()
        }),
        // With half of the origin AS, the number: no two sets are equal.
        multi_exit_disc: Some(number % 2),
        local_pref: Some(100 + 10 * random.below(4)),
        communities: (0..communities).map(|_| word(random)).collect(),
        extended_communities: (0..extended).map(|_| random.next().to_be_bytes()).collect(),
        large_communities: (0..large).map(|_| [word(random), word(random), word(random)]).collect(),
        ..Attributes::default()
    }
}

/// One of some thousand AS numbers, few of them often.
fn transit(random: &mut Random) -> u32 {
    let limit = 1 << (3 + random.below(11));
    100 + random.below(limit)
}

fn ipv4(count: usize, sets: u32, random: &mut Random) -> Vec<(IpNet, u32)> {
    let mut seen = HashSet::with_capacity(count);
    let mut routes = Vec::with_capacity(count);
    // As many /16s as there are in the routed space; what is announced of each lies close together.
    let blocks: Vec<u32> = (0..45_000u32.min(count as u32 + 1))
        .map(|_| (1 + random.below(223)) << 24 | random.below(256) << 16)
        .filter(|block| !matches!(block >> 24, 10 | 127))
        .collect();
    while routes.len() < count {
        let length = pick_length(&IPV4_LENGTHS, random);
        let block = blocks.get(random.below(blocks.len() as u32) as usize).copied().unwrap_or(0x0100_0000);
        let bits = block | (random.next() as u32 & 0xffff);
        let Ok(net) = Ipv4Net::new(bits.into(), length) else { continue };
        let net = net.trunc();
        if seen.insert(net) {
            routes.push((net.into(), set_of(u64::from(net.network().to_bits() >> 12), sets, random)));
        }
    }
    routes
}

fn ipv6(count: usize, sets: std::ops::Range<u32>, random: &mut Random) -> Vec<(IpNet, u32)> {
    let mut seen = HashSet::with_capacity(count);
    let mut routes = Vec::with_capacity(count);
    // Providers' blocks: a /32, or a /29 whose first /32 is used most.
    let blocks: Vec<u128> = (0..30_000u32.min(count as u32 + 1))
        .map(|_| {
            let mut which = random.below(10);
            let (bits, length, _) = IPV6_BLOCKS
                .into_iter()
                .find(|(.., share)| {
                    let found = which < *share;
                    which = which.saturating_sub(*share);
                    found
                })
                .unwrap_or(IPV6_BLOCKS[0]);
            let inside = (u128::from(random.next()) << 64) >> length;
            (bits | inside) & (u128::from(0xffff_fff8_u32) << 96)
        })
        .collect();
    while routes.len() < count {
        let length = pick_length(&IPV6_LENGTHS, random);
        let block = blocks.get(random.below(blocks.len() as u32) as usize).copied().unwrap_or(0);
        // Parts of a block are numbered from its beginning, in steps of a few bits.
        let spread =
            [0xff_ffff_u64, 0xf0f0, 0x00ff, 0xff00].get(random.below(4) as usize).copied().unwrap_or(0);
        let inside = u128::from(random.next() & (spread << 8)) << 64;
        let bits = block | (inside & (u128::from(u32::MAX) << 64)) | u128::from(random.below(2)) << 96;
        let Ok(net) = Ipv6Net::new(bits.into(), length) else { continue };
        let net = net.trunc();
        if seen.insert(net) {
            let key = (net.network().to_bits() >> 96) as u64;
            routes.push((net.into(), sets.start + set_of(key, sets.end - sets.start, random)));
        }
    }
    routes
}

fn pick_length(lengths: &[(u8, u32)], random: &mut Random) -> u8 {
    let total = lengths.iter().map(|(_, share)| share).sum();
    let mut pick = random.below(total);
    for (length, share) in lengths {
        if pick < *share {
            return *length;
        }
        pick -= share;
    }
    24
}

/// One of the few sets of the block `key`, or, of one in five, any.
fn set_of(key: u64, sets: u32, random: &mut Random) -> u32 {
    if random.below(5) == 0 {
        return random.below(sets);
    }
    let mut block = Random::seeded(key);
    let first = block.below(sets);
    (first + random.below(2)) % sets
}

#[cfg(test)]
mod tests {
    use pathflow_bgp::wire::{Header, Message};

    use super::*;

    const SMALL: Size = Size { ipv4: 5000, ipv6: 2000, attribute_sets: 900 };

    #[test]
    fn a_table_has_the_size_asked_for_and_is_the_same_again() {
        let table = FullTable::generate(SMALL);
        assert_eq!(table.routes.iter().filter(|(prefix, _)| prefix.addr().is_ipv4()).count(), SMALL.ipv4);
        let prefixes: HashSet<_> = table.routes.iter().map(|(prefix, _)| *prefix).collect();
        assert_eq!(prefixes.len(), SMALL.ipv4 + SMALL.ipv6);
        let sets: HashSet<_> = table.attribute_sets.iter().collect();
        assert_eq!(sets.len(), SMALL.attribute_sets);
        let again = FullTable::generate(SMALL);
        assert_eq!((again.routes, again.attribute_sets), (table.routes, table.attribute_sets));
    }

    #[test]
    fn updates_of_both_shapes_carry_the_table() {
        let table = FullTable::generate(SMALL);
        for shape in [Shape::Packed, Shape::OnePrefix] {
            let (octets, starts) = table.updates(shape);
            let mut carried: Vec<(IpNet, Attributes)> = Vec::new();
            for (start, end) in starts.iter().zip(&starts[1..]) {
                let message = &octets[*start..*end];
                let header = Header::decode(message, 4096).unwrap().unwrap();
                assert_eq!(usize::from(header.length), message.len());
                let body = &message[message.len() - header.body_octets()..];
                let context = SessionContext::default();
                let Message::Update(update) = Message::decode(header.message_type, body, &context).unwrap()
                else {
                    panic!("not an UPDATE");
                };
                assert_eq!(update.handling(), None);
                for announcement in update.announcements() {
                    let attributes = announcement.attributes();
                    carried.extend(announcement.nlri().map(|nlri| (nlri.prefix, attributes.clone())));
                }
                assert!(shape == Shape::Packed || update.announced().count() == 1);
            }
            let set = |(prefix, set): &(IpNet, u32)| (*prefix, table.attribute_sets[*set as usize].clone());
            let mut expected: Vec<(IpNet, Attributes)> = table.routes.iter().map(set).collect();
            carried.sort_by_key(|(prefix, _)| *prefix);
            expected.sort_by_key(|(prefix, _)| *prefix);
            assert_eq!(carried, expected);
        }
    }
}
