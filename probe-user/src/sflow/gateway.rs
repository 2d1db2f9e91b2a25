//! What BGP and the networks file know of a sampled packet: the gateway record.

use std::net::IpAddr;
use std::sync::Arc;

use pathflow_exporter::sflow::{AsPathSegment, ExtendedGateway};
use pathflow_exporter::{BgpPathSegmentKind, BgpRoute, FlowRecord};

/// Extended gateway data, as long as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gateway {
    next_hop: Option<IpAddr>,
    router_as: u32,
    source_as: u32,
    source_peer_as: u32,
    /// The route to the destination.
    route: Option<Arc<BgpRoute>>,
    /// The ASes on the way that are known without a route.
    known_path: Box<[u32]>,
}

impl Gateway {
    /// What the enriched `record` of a packet says; `None` if nothing is known. `router_as` is our own AS, 0 if that is
    /// not known.
    pub(super) fn of(record: FlowRecord, router_as: u32) -> Option<Self> {
        let is_known = record.source_route.is_some()
            || record.destination_route.is_some()
            || record.bgp_next_hop.is_some()
            || record.bgp_source_as_number != 0
            || record.bgp_prev_adjacent_as_number != 0
            || record.bgp_destination_as_number != 0;
        if !is_known {
            return None;
        }
        let known_path = if record.destination_route.is_some() {
            Box::default()
        } else {
            let (nearest, last) = (record.bgp_next_adjacent_as_number, record.bgp_destination_as_number);
            let path = [Some(nearest).filter(|nearest| *nearest != last), Some(last)];
            path.into_iter().flatten().filter(|number| *number != 0).collect()
        };
        // A route with an empty path is of the own AS.
        let is_own = record.source_route.is_some_and(|route| route.attributes().as_path.is_empty());
        let source_as = match record.bgp_source_as_number {
            0 if is_own => router_as,
            number => number,
        };
        Some(Self {
            next_hop: record.bgp_next_hop,
            router_as,
            source_as,
            source_peer_as: record.bgp_prev_adjacent_as_number,
            route: record.destination_route,
            known_path,
        })
    }

    /// The path to the destination. Segments of the own confederation are none of it (RFC 5065, section 6).
    pub(super) fn segments(&self) -> Vec<AsPathSegment<'_>> {
        let Some(route) = &self.route else {
            let known = (!self.known_path.is_empty()).then_some(AsPathSegment::Sequence(&self.known_path));
            return known.into_iter().collect();
        };
        let segments = route.attributes().as_path.iter().filter_map(|segment| match segment.kind {
            BgpPathSegmentKind::Set => Some(AsPathSegment::Set(&segment.as_numbers)),
            BgpPathSegmentKind::Sequence => Some(AsPathSegment::Sequence(&segment.as_numbers)),
            BgpPathSegmentKind::ConfedSequence | BgpPathSegmentKind::ConfedSet => None,
        });
        segments.collect()
    }

    /// The record of sFlow, with [`Self::segments`].
    pub(super) fn extended_gateway<'a>(&'a self, segments: &'a [AsPathSegment<'a>]) -> ExtendedGateway<'a> {
        let attributes = self.route.as_ref().map(|route| route.attributes());
        ExtendedGateway {
            next_hop: self.next_hop,
            router_as: self.router_as,
            source_as: self.source_as,
            source_peer_as: self.source_peer_as,
            destination_as_path: segments,
            communities: attributes.map_or(&[], |attributes| &attributes.communities),
            local_preference: attributes.and_then(|attributes| attributes.local_pref).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use pathflow_exporter::{BgpAttributes, BgpPathSegment};

    use super::*;

    fn record() -> FlowRecord {
        FlowRecord::between([192, 0, 2, 1].into(), [198, 51, 100, 1].into())
    }

    fn route(path: &[(BgpPathSegmentKind, &[u32])]) -> Arc<BgpRoute> {
        let segment = |(kind, numbers): &(BgpPathSegmentKind, &[u32])| BgpPathSegment {
            kind: *kind,
            as_numbers: Box::from(*numbers),
        };
        let attributes = BgpAttributes {
            as_path: path.iter().map(segment).collect(),
            local_pref: Some(150),
            communities: Box::from([0x1b1b_0064]),
            ..BgpAttributes::default()
        };
        Arc::new(BgpRoute::new(attributes))
    }

    #[test]
    fn nothing_known_is_no_record_and_own_routes_are_of_the_own_as() {
        assert_eq!(Gateway::of(record(), 397_143), None);
        let gateway = |local_as, router_as| {
            let record =
                FlowRecord { source_route: Some(route(&[])), bgp_source_as_number: local_as, ..record() };
            Gateway::of(record, router_as).unwrap()
        };
        for (local_as, router_as, expected) in [(0, 0, 0), (0, 397_143, 397_143), (64_500, 397_143, 64_500)] {
            let gateway = gateway(local_as, router_as);
            let record = gateway.extended_gateway(&[]);
            assert_eq!((record.source_as, record.router_as), (expected, router_as));
            assert_eq!(
                (gateway.segments(), record.communities, record.local_preference),
                (vec![], &[][..], 0)
            );
        }
    }

    #[test]
    fn the_path_is_that_outside_of_the_confederation() {
        use BgpPathSegmentKind::{ConfedSequence, ConfedSet, Sequence, Set};
        let destination_route = Some(route(&[
            (ConfedSequence, &[64_512]),
            (ConfedSet, &[64_513]),
            (Sequence, &[6939, 3356]),
            (Set, &[1, 2]),
        ]));
        let gateway = Gateway::of(FlowRecord { destination_route, ..record() }, 0).unwrap();
        let segments = gateway.segments();
        assert_eq!(segments, [AsPathSegment::Sequence(&[6939, 3356]), AsPathSegment::Set(&[1, 2])]);
        let record = gateway.extended_gateway(&segments);
        assert_eq!((record.communities, record.local_preference), (&[0x1b1b_0064][..], 150));
    }

    #[test]
    fn without_a_route_the_path_is_what_the_networks_file_says() {
        let segments = |nearest, last| {
            let record = FlowRecord {
                bgp_source_as_number: 64_500,
                bgp_next_adjacent_as_number: nearest,
                bgp_destination_as_number: last,
                ..record()
            };
            Gateway::of(record, 0).unwrap().known_path.into_vec()
        };
        assert_eq!(segments(64_501, 64_502), [64_501, 64_502]);
        assert_eq!(segments(64_502, 64_502), [64_502]);
        assert_eq!(segments(0, 64_502), [64_502]);
        assert!(segments(0, 0).is_empty());
    }
}
