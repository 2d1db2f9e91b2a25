//! From the attributes of a route to what records say of it.

use std::net::IpAddr;
use std::sync::Arc;

use pathflow_bgp::rib::{Match, PathEnds};
use pathflow_bgp::{AsPath, AsPathEnds, Attributes, Origin, Segment, SegmentKind};
use pathflow_exporter::{BgpAttributes, BgpOrigin, BgpPathSegment, BgpPathSegmentKind, BgpRoute};

use super::communities::{self, Pattern};

/// What the operator wants of routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSettings {
    /// AS of routes with an empty path; 0 = none.
    pub local_as: u32,
    /// Whether sub-ASes of the own confederation are passed over in search of the peer AS (RFC 5065).
    pub skip_confederation: bool,
    /// AS numbers of a path that are kept, a set being one; 0 = all.
    pub aspath_radius: usize,
    /// Communities (RFC 1997) that are kept; empty = all.
    pub communities: Vec<Pattern>,
    /// Extended communities (RFC 4360) that are kept; empty = all.
    pub extended_communities: Vec<Pattern>,
    /// Large communities (RFC 8092) that are kept; empty = all.
    pub large_communities: Vec<Pattern>,
    /// Communities `PEER:ORIGIN` that name the ASes of a route whose path does not.
    pub communities_to_as: Vec<Pattern>,
    /// Large communities `PEER:ORIGIN:ANYTHING` that do.
    pub large_communities_to_as: Vec<Pattern>,
}

/// Whose a route is: what every record says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteNumbers {
    /// The AS that the addresses are of; 0 = not known from the route.
    pub origin_as: u32,
    /// The AS by which they are reached; 0 = not known from the route.
    pub peer_as: u32,
    /// The AS for origin validation (RFC 6811, section 2): the last of the path; `None` if the path is empty or ends
    /// with a set.
    pub announced_by: Option<u32>,
    /// The next hop.
    pub next_hop: Option<IpAddr>,
    /// Whether the path is empty: the route is of the own AS.
    pub has_empty_path: bool,
}

/// A route with all that records may say of it.
#[derive(Clone, Debug)]
pub struct PreparedRoute {
    /// Whose it is.
    pub numbers: RouteNumbers,
    /// Its attributes, as far as the operator wants them.
    pub route: Arc<BgpRoute>,
}

impl RouteSettings {
    /// Makes a route ready for records.
    #[must_use]
    pub fn prepare(&self, attributes: Attributes) -> PreparedRoute {
        let by_community = || self.by_community(&attributes);
        let numbers = self.numbers(attributes.as_path.ends(), attributes.next_hop, by_community);
        PreparedRoute { numbers, route: Arc::new(BgpRoute::new(self.attributes(attributes))) }
    }

    /// Whose the route is that `found` chooses for the next hop `via`, without a look at all of its attributes unless
    /// communities may say it. `None` if [`Match::choose`] has none.
    #[must_use]
    pub fn numbers_of(&self, found: &Match<'_>, via: Option<IpAddr>) -> Option<RouteNumbers> {
        let PathEnds { as_path, next_hop, .. } = found.choose_ends(via)?;
        if self.communities_to_as.is_empty() && self.large_communities_to_as.is_empty() {
            return Some(self.numbers(as_path, next_hop, || None));
        }
        let attributes = found.choose(via)?.attributes;
        Some(self.numbers(as_path, next_hop, || self.by_community(&attributes)))
    }

    fn numbers(
        &self,
        path: AsPathEnds,
        next_hop: Option<IpAddr>,
        by_community: impl Fn() -> Option<(u32, u32)>,
    ) -> RouteNumbers {
        let nonzero = |number: &u32| *number != 0;
        let origin_as = path
            .last_outside
            .filter(nonzero)
            .or_else(|| by_community().map(|(_, origin)| origin).filter(nonzero))
            .or_else(|| Some(self.local_as).filter(nonzero))
            .or(path.last);
        let peer_as = if self.skip_confederation { path.first_outside } else { path.first };
        let peer_as =
            peer_as.filter(nonzero).or_else(|| by_community().map(|(peer, _)| peer).filter(nonzero));
        RouteNumbers {
            origin_as: origin_as.unwrap_or(0),
            peer_as: peer_as.unwrap_or(0),
            announced_by: path.announced_by(),
            next_hop,
            has_empty_path: path.is_empty(),
        }
    }

    fn attributes(&self, attributes: Attributes) -> BgpAttributes {
        BgpAttributes {
            origin: match attributes.origin {
                Origin::Igp => BgpOrigin::Igp,
                Origin::Egp => BgpOrigin::Egp,
                Origin::Incomplete => BgpOrigin::Incomplete,
            },
            as_path: self.as_path(attributes.as_path),
            next_hop: attributes.next_hop,
            local_pref: attributes.local_pref,
            multi_exit_disc: attributes.multi_exit_disc,
            communities: communities::select(
                attributes.communities,
                &self.communities,
                communities::standard,
            ),
            extended_communities: communities::select(
                attributes.extended_communities,
                &self.extended_communities,
                communities::extended,
            ),
            large_communities: communities::select(
                attributes.large_communities,
                &self.large_communities,
                communities::large,
            ),
        }
    }

    /// The path as far as it is kept.
    fn as_path(&self, path: AsPath) -> Box<[BgpPathSegment]> {
        let mut left = if self.aspath_radius == 0 { usize::MAX } else { self.aspath_radius };
        let mut segments = Vec::with_capacity(path.segments.len());
        for Segment { kind, as_numbers } in path.segments {
            if left == 0 {
                break;
            }
            let (kind, is_one_hop) = match kind {
                SegmentKind::Set => (BgpPathSegmentKind::Set, true),
                SegmentKind::Sequence => (BgpPathSegmentKind::Sequence, false),
                SegmentKind::ConfedSequence => (BgpPathSegmentKind::ConfedSequence, false),
                SegmentKind::ConfedSet => (BgpPathSegmentKind::ConfedSet, true),
            };
            let kept = if is_one_hop { as_numbers.len() } else { as_numbers.len().min(left) };
            left -= if is_one_hop { 1 } else { kept };
            let as_numbers = if kept == as_numbers.len() {
                as_numbers
            } else {
                as_numbers.iter().take(kept).copied().collect()
            };
            segments.push(BgpPathSegment { kind, as_numbers });
        }
        segments.into()
    }

    /// Peer AS and AS of the first community that names them.
    fn by_community(&self, attributes: &Attributes) -> Option<(u32, u32)> {
        let standard =
            communities::first(&attributes.communities, &self.communities_to_as, communities::standard);
        let large = || {
            let patterns = &self.large_communities_to_as;
            communities::first(&attributes.large_communities, patterns, communities::large)
        };
        match standard {
            Some(community) => Some((community >> 16, community & 0xffff)),
            None => large().map(|[peer, origin, _]| (peer, origin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use SegmentKind::{ConfedSequence, Sequence, Set};

    use super::*;

    fn attributes(segments: &[(SegmentKind, &[u32])]) -> Attributes {
        let segment = |(kind, numbers): &(SegmentKind, &[u32])| Segment {
            kind: *kind,
            as_numbers: Box::from(*numbers),
        };
        Attributes {
            as_path: AsPath { segments: segments.iter().map(segment).collect() },
            ..Attributes::default()
        }
    }

    const fn community(high: u32, low: u32) -> u32 {
        high << 16 | low
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::new(text).unwrap()).collect()
    }

    fn path_text(prepared: &PreparedRoute) -> String {
        let value: serde_json::Value = serde_json::from_str(prepared.route.json()).unwrap();
        value["as_path"].as_str().unwrap().to_owned()
    }

    /// Origin and peer.
    fn ends(settings: &RouteSettings, attributes: &Attributes) -> (u32, u32) {
        let numbers = settings.prepare(attributes.clone()).numbers;
        (numbers.origin_as, numbers.peer_as)
    }

    #[test]
    fn the_ends_of_the_path_are_origin_and_peer() {
        let settings = RouteSettings { skip_confederation: true, ..RouteSettings::default() };
        assert_eq!(ends(&settings, &attributes(&[(Sequence, &[6939, 3356, 60_729])])), (60_729, 6939));
        let with_set = attributes(&[(Sequence, &[6939]), (Set, &[64_501, 64_502])]);
        assert_eq!(ends(&settings, &with_set), (64_502, 6939));
        let with_sub_as = attributes(&[(ConfedSequence, &[64_512, 64_513]), (Sequence, &[3356])]);
        assert_eq!(ends(&settings, &with_sub_as), (3356, 3356));
        let with_sub_as_as_peer = RouteSettings::default();
        assert_eq!(ends(&with_sub_as_as_peer, &with_sub_as), (3356, 64_512));
    }

    #[test]
    fn a_route_with_an_empty_path_is_of_the_own_as_if_that_is_known() {
        let none = RouteSettings::default();
        let own = RouteSettings { local_as: 397_143, skip_confederation: true, ..RouteSettings::default() };
        let empty = attributes(&[]);
        assert_eq!(ends(&none, &empty), (0, 0));
        assert_eq!(ends(&own, &empty), (397_143, 0));
        assert_eq!(path_text(&own.prepare(empty.clone())), "");
        // Of another sub-AS of the own confederation.
        let inside = attributes(&[(ConfedSequence, &[64_512])]);
        assert_eq!(ends(&own, &inside), (397_143, 0));
        assert_eq!(ends(&none, &inside), (64_512, 64_512));
        assert_eq!(ends(&own, &attributes(&[(Sequence, &[6939])])), (6939, 6939));
    }

    #[test]
    fn a_community_names_the_ases_only_where_the_path_does_not() {
        let settings = RouteSettings {
            communities_to_as: patterns(&["64500:"]),
            large_communities_to_as: patterns(&["4200000000:"]),
            local_as: 397_143,
            ..RouteSettings::default()
        };
        let mut route = attributes(&[]);
        route.communities = Box::from([community(65_000, 1), community(64_500, 100)]);
        assert_eq!(ends(&settings, &route), (100, 64_500));
        let with_path =
            Attributes { as_path: attributes(&[(Sequence, &[6939, 3356])]).as_path, ..route.clone() };
        assert_eq!(ends(&settings, &with_path), (3356, 6939));
        route.communities = Box::from([community(65_000, 1)]);
        route.large_communities = Box::from([[4_200_000_000, 4_200_000_001, 7]]);
        assert_eq!(ends(&settings, &route), (4_200_000_001, 4_200_000_000));
        route.large_communities = Box::from([]);
        assert_eq!(ends(&settings, &route), (397_143, 0));
    }

    #[test]
    fn the_radius_counts_prepended_numbers_and_a_set_as_one() {
        let route = attributes(&[(Sequence, &[1, 1, 2]), (Set, &[3, 4]), (Sequence, &[5])]);
        for (aspath_radius, expected) in [
            (0, "1 1 2 {3,4} 5"),
            (1, "1"),
            (2, "1 1"),
            (3, "1 1 2"),
            (4, "1 1 2 {3,4}"),
            (5, "1 1 2 {3,4} 5"),
            (9, "1 1 2 {3,4} 5"),
        ] {
            let settings = RouteSettings { aspath_radius, ..RouteSettings::default() };
            let prepared = settings.prepare(route.clone());
            assert_eq!(path_text(&prepared), expected);
            // The AS at the end is known even if the path is cut.
            assert_eq!(prepared.numbers.origin_as, 5);
        }
    }

    #[test]
    fn only_communities_that_are_meant_are_kept_and_the_rest_is_as_received() {
        let settings = RouteSettings {
            communities: patterns(&["6939:"]),
            extended_communities: patterns(&["RT:"]),
            large_communities: patterns(&["397143:1:."]),
            ..RouteSettings::default()
        };
        let route = Attributes {
            origin: Origin::Igp,
            next_hop: Some("192.0.2.1".parse().unwrap()),
            multi_exit_disc: Some(7),
            local_pref: Some(150),
            communities: Box::from([community(6939, 100), 0xffff_ff01]),
            extended_communities: Box::from([[0, 3, 0xfd, 0xe8, 0, 0, 0, 1], [0, 2, 0xfd, 0xe8, 0, 0, 0, 2]]),
            large_communities: Box::from([[397_143, 1, 2], [397_143, 1, 22]]),
            ..attributes(&[(Sequence, &[6939])])
        };
        let prepared = settings.prepare(route.clone());
        let value: serde_json::Value = serde_json::from_str(prepared.route.json()).unwrap();
        let expected = serde_json::json!({
            "origin": "igp", "as_path": "6939", "next_hop": "192.0.2.1", "local_pref": 150, "multi_exit_disc": 7,
            "communities": ["6939:100"], "extended_communities": ["0x0002fde800000002"],
            "large_communities": ["397143:1:2"],
        });
        assert_eq!(value, expected);
        assert_eq!(prepared.numbers.next_hop, route.next_hop);
        let everything = RouteSettings::default().prepare(route.clone());
        let attributes = everything.route.attributes();
        assert_eq!(attributes.communities, route.communities);
        assert_eq!(attributes.extended_communities, route.extended_communities);
        assert_eq!(attributes.large_communities, route.large_communities);
    }

    #[test]
    fn who_announces_a_route_is_not_known_of_a_set() {
        let by = |segments: &[(SegmentKind, &[u32])]| {
            RouteSettings::default().prepare(attributes(segments)).numbers.announced_by
        };
        assert_eq!(by(&[(Sequence, &[6939, 3356])]), Some(3356));
        assert_eq!(by(&[(Sequence, &[6939]), (Set, &[1, 2])]), None);
        assert_eq!(by(&[]), None);
    }
}
