//! Any changes, any order: dumps and lookups equal those of a map that is searched from end to end.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{Afi, MplsLabel, Safi};

type Key = (Family, Option<RouteDistinguisher>, IpNet, u32);

/// What the model keeps for a route.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    number: u32,
    label: Option<MplsLabel>,
    stale: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Announce(Key, u32),
    Withdraw(Key),
    SessionDown,
    EndOfRib(Family),
    RefreshBegin(Family),
    RefreshEnd(Family),
    Work(usize),
    Lookups(Option<LookupSource>),
}

const DISTINGUISHERS: [RouteDistinguisher; 2] =
    [RouteDistinguisher([0, 0, 0, 1, 0, 0, 0, 1]), RouteDistinguisher([0, 0, 0, 1, 0, 0, 0, 2])];

/// Few distinct bits, in few places, so that prefixes nest and repeat.
fn ipv4_bits() -> impl Strategy<Value = u32> {
    any::<u32>().prop_map(|bits| bits & 0xc103_0185)
}

fn ipv6_bits() -> impl Strategy<Value = u128> {
    any::<u128>().prop_map(|bits| bits & 0x2003_0101_8000_0005_0000_8100_0000_0003)
}

fn prefix(afi: Afi) -> BoxedStrategy<IpNet> {
    match afi {
        Afi::Ipv4 => (ipv4_bits(), 0..=32u8)
            .prop_map(|(bits, length)| ipnet::Ipv4Net::new(bits.into(), length).unwrap().trunc().into())
            .boxed(),
        Afi::Ipv6 => (ipv6_bits(), 0..=128u8)
            .prop_map(|(bits, length)| ipnet::Ipv6Net::new(bits.into(), length).unwrap().trunc().into())
            .boxed(),
    }
}

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(Family::ALL.to_vec())
}

fn key() -> impl Strategy<Value = Key> {
    (family(), prop::sample::select(DISTINGUISHERS.to_vec())).prop_flat_map(|(family, distinguisher)| {
        let distinguisher = (family.safi == Safi::MplsVpn).then_some(distinguisher);
        (prefix(family.afi), prop_oneof![2 => Just(0), 1 => 0..4u32])
            .prop_map(move |(prefix, path_id)| (family, distinguisher, prefix, path_id))
    })
}

fn source() -> impl Strategy<Value = Option<LookupSource>> {
    prop::sample::select(vec![
        None,
        Some(LookupSource::Unicast),
        Some(LookupSource::LabelledUnicast),
        Some(LookupSource::Vpn(DISTINGUISHERS[0])),
    ])
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        60 => (key(), 1..12u32).prop_map(|(key, number)| Change::Announce(key, number)),
        25 => key().prop_map(Change::Withdraw),
        1 => Just(Change::SessionDown),
        1 => family().prop_map(Change::EndOfRib),
        1 => family().prop_map(Change::RefreshBegin),
        1 => family().prop_map(Change::RefreshEnd),
        2 => (1..40usize).prop_map(Change::Work),
        1 => source().prop_map(Change::Lookups),
    ]
}

fn nlri((_, route_distinguisher, prefix, path_id): Key, label: Option<MplsLabel>) -> Nlri {
    Nlri { route_distinguisher, prefix, path_id, label }
}

struct Both {
    rib: Rib,
    peer: PeerId,
    model: BTreeMap<Key, Kept>,
    source: Option<LookupSource>,
}

impl Both {
    fn apply(&mut self, change: &Change) {
        let Self { rib, peer, model, source } = self;
        match change {
            Change::Announce(key, number) => {
                let label = (key.0.safi != Safi::Unicast).then_some(MplsLabel([0, 1, *number as u8]));
                announce(rib, *peer, *number, (key.0, nlri(*key, label)));
                model.insert(*key, Kept { number: *number, label, stale: false });
            }
            Change::Withdraw(key) => {
                let counts = withdraw(rib, *peer, (key.0, nlri(*key, None)));
                assert_eq!(counts.withdrawn, u32::from(model.remove(key).is_some()));
                assert_eq!(counts.withdrawn + counts.unknown, 1);
            }
            Change::SessionDown => {
                rib.session_down(*peer);
                // The second loss takes what was left by the first; that may wait for `work`.
                while rib.work(50) {}
                model.retain(|_, kept| !kept.stale);
                for kept in model.values_mut() {
                    kept.stale = true;
                }
            }
            Change::EndOfRib(family) | Change::RefreshEnd(family) => {
                if matches!(change, Change::EndOfRib(_)) {
                    rib.end_of_rib(*peer, *family);
                    assert!(rib.family_state(*peer, *family).end_of_rib);
                } else {
                    rib.refresh_end(*peer, *family);
                }
                while rib.work(3) {}
                model.retain(|key, kept| key.0 != *family || !kept.stale);
            }
            Change::RefreshBegin(family) => {
                rib.refresh_begin(*peer, *family);
                let routes = model.iter_mut().filter(|(key, _)| key.0 == *family);
                for (_, kept) in routes {
                    kept.stale = true;
                }
            }
            Change::Work(limit) => {
                rib.work(*limit);
            }
            Change::Lookups(wanted) => {
                rib.set_lookups(*peer, *wanted);
                *source = *wanted;
            }
        }
    }

    /// All routes, in pieces of `piece`.
    fn dump(&self, piece: usize) -> BTreeMap<Key, Kept> {
        let (mut position, mut all) = (DumpPosition::default(), BTreeMap::new());
        loop {
            let more = self.rib.dump(self.peer, &mut position, piece, |route| {
                let Nlri { route_distinguisher, prefix, path_id, label } = route.nlri;
                let kept = Kept { number: number_of(route.attributes), label, stale: route.stale };
                let before = all.insert((route.family, route_distinguisher, prefix, path_id), kept);
                assert_eq!(before, None, "given twice");
            });
            if !more {
                return all;
            }
        }
    }

    /// Prefix length and the numbers of all paths that the model has for an address.
    fn search(&self, address: IpAddr) -> Option<(u8, Vec<u32>)> {
        let is_looked_up = |key: &Key| match self.source {
            Some(LookupSource::Unicast) => key.0.safi == Safi::Unicast,
            Some(LookupSource::LabelledUnicast) => key.0.safi == Safi::LabelledUnicast,
            Some(LookupSource::Vpn(distinguisher)) => key.1 == Some(distinguisher),
            None => false,
        };
        let covers = |key: &&Key| is_looked_up(key) && key.2.contains(&address);
        let best = self.model.keys().filter(covers).max_by_key(|key| key.2.prefix_len())?.2;
        let paths = self.model.iter().filter(|(key, _)| is_looked_up(key) && key.2 == best);
        Some((best.prefix_len(), paths.map(|(_, kept)| kept.number).collect()))
    }

    fn check_lookups(&self, ipv4: &[std::net::Ipv4Addr], ipv6: &[std::net::Ipv6Addr]) {
        let mut reader = self.rib.reader();
        let view = reader.enter();
        let Some(table) = view.peer(self.peer) else {
            assert_eq!(self.source, None);
            return;
        };
        let mut found = vec![None; ipv4.len() + ipv6.len()];
        let (found_ipv4, found_ipv6) = found.split_at_mut(ipv4.len());
        table.lookup_batch_ipv4(ipv4, found_ipv4);
        table.lookup_batch_ipv6(ipv6, found_ipv6);
        let addresses = ipv4.iter().map(|address| IpAddr::from(*address));
        let addresses = addresses.chain(ipv6.iter().map(|address| IpAddr::from(*address)));
        for (address, found) in addresses.zip(&found) {
            assert_eq!(table.lookup(address), *found);
            let expected = self.search(address);
            assert_eq!(
                found.map(|found| found.prefix_length()),
                expected.as_ref().map(|(length, _)| *length)
            );
            let (Some(found), Some((_, paths))) = (found, expected) else { continue };
            assert_eq!(found.path_count(), paths.len());
            assert_eq!(found.attributes_id().is_some(), paths.len() == 1);
            for wanted in [None, Some(next_hop(0)), Some(next_hop(1)), Some(next_hop(2)), Some(next_hop(3))] {
                let expected =
                    paths.iter().find(|number| Some(next_hop(**number)) == wanted).unwrap_or(&paths[0]);
                let path = found.choose(wanted).unwrap();
                assert_eq!(number_of(&path.attributes), *expected);
                assert_eq!(found.attributes_id().unwrap_or(path.attributes_id), path.attributes_id);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn dumps_and_lookups_equal_those_of_a_linear_model(
        first_source in source(),
        changes in prop::collection::vec(change(), 0..400),
        random_ipv4 in prop::collection::vec(ipv4_bits(), 40),
        random_ipv6 in prop::collection::vec(ipv6_bits(), 40),
        piece in 1..50usize,
    ) {
        let mut rib = Rib::new();
        let peer = peer(&mut rib, first_source);
        let mut both = Both { rib, peer, model: BTreeMap::new(), source: first_source };
        let mut ipv4: Vec<_> = random_ipv4.into_iter().map(std::net::Ipv4Addr::from).collect();
        let mut ipv6: Vec<_> = random_ipv6.into_iter().map(std::net::Ipv6Addr::from).collect();
        for (index, change) in changes.iter().enumerate() {
            both.apply(change);
            if let Change::Announce((.., prefix, _), _) = change {
                match prefix {
                    // First and last address of the prefix.
                    IpNet::V4(prefix) => ipv4.extend([prefix.network(), prefix.broadcast()]),
                    IpNet::V6(prefix) => ipv6.extend([prefix.network(), prefix.broadcast()]),
                }
            }
            if index % 50 == 49 {
                both.check_lookups(&ipv4, &ipv6);
            }
        }
        both.check_lookups(&ipv4, &ipv6);
        prop_assert_eq!(&both.dump(piece), &both.model);
        for family in Family::ALL {
            let state = both.rib.family_state(both.peer, family);
            let routes = both.model.iter().filter(|(key, _)| key.0 == family);
            prop_assert_eq!(state.stale as usize, routes.clone().filter(|(_, kept)| kept.stale).count());
            prop_assert_eq!(state.routes as usize, routes.count());
        }
        let numbers: std::collections::BTreeSet<u32> = both.model.values().map(|kept| kept.number).collect();
        prop_assert_eq!(both.rib.attribute_sets(), numbers.len());
        // Nothing is left behind when all routes have gone.
        for key in both.model.clone().into_keys() {
            both.apply(&Change::Withdraw(key));
        }
        prop_assert_eq!(both.rib.attribute_sets(), 0);
        both.rib.work(1);
        let retained = both.rib.retained();
        prop_assert_eq!((retained.attribute_sets, retained.nodes), (0, 0));
        both.check_lookups(&ipv4, &ipv6);
        prop_assert_eq!(both.rib.nodes_in_use(), 0);
    }
}
