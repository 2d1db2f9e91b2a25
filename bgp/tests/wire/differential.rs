//! The same messages by two independent decoders, `bgpkit-parser` and `routecore`.
//!
//! Where all is well here, an oracle must read the same values, but for what is its own fault:
//! - routecore refuses an IPv6 next hop for IPv4 routes (RFC 8950), and prefixes with host bits (RFC 4271, section 4.3:
//!   they are irrelevant).
//! - bgpkit knows no ADD-PATH of one family only, no VPN routes, and withdrawn labels only as 0x800000 says.

use std::net::IpAddr;

use bgpkit_parser::error::BgpValidationWarning;
use bgpkit_parser::models::{
    AsPathSegment, Asn, AsnLength, AttrType, BgpUpdateMessage, Community, MetaCommunity, Nlri as BgpkitNlri,
    Origin as BgpkitOrigin,
};
use bgpkit_parser::parser::bgp::messages::parse_bgp_update_message;
use pathflow_bgp::error::{AttributeError, AttributeErrorReason};
use pathflow_bgp::iana::{self, attribute};
use pathflow_bgp::wire::encode_update::UpdateBuilder;
use pathflow_bgp::wire::{AsNumberSize, SessionContext, Update};
use pathflow_bgp::{Afi, Attributes, Family, Nlri, Origin, Safi};
use proptest::collection::vec;
use proptest::prelude::*;
use routecore::bgp::message::{SessionConfig, UpdateMessage};
use routecore::bgp::nlri::afisafi::{Addpath, AfiSafiNlri, AfiSafiType, Nlri as RoutecoreNlri};
use routecore::bgp::nlri::nexthop::NextHop;

use crate::round_trip::{attributes, contexts, families, routes};

/// Prefix and Path Identifier.
type Route = (String, u32);

/// What all three decoders can tell of one UPDATE.
#[derive(Clone, Debug, Default, PartialEq)]
struct Facts {
    withdrawn: Vec<Route>,
    announced: Vec<Route>,
    /// Value of ORIGIN; none without routes announced.
    origin: Option<u8>,
    /// AS numbers of each segment.
    as_path: Vec<Vec<u32>>,
    next_hop: Option<IpAddr>,
    multi_exit_disc: Option<u32>,
    local_pref: Option<u32>,
    communities: Vec<u32>,
    large_communities: Vec<[u32; 3]>,
}

fn ours(update: &Update<'_>) -> Facts {
    let route = |(_, nlri): (Family, Nlri)| (nlri.prefix.to_string(), nlri.path_id);
    let mut facts = Facts {
        withdrawn: update.withdrawn().map(route).collect(),
        announced: update.announced().map(route).collect(),
        ..Facts::default()
    };
    let Some(announcement) = update.announcements().next() else { return facts };
    let attributes: Attributes = announcement.attributes();
    facts.origin = Some(match attributes.origin {
        Origin::Igp => 0,
        Origin::Egp => 1,
        Origin::Incomplete => 2,
    });
    facts.as_path = attributes.as_path.segments.iter().map(|segment| segment.as_numbers.to_vec()).collect();
    facts.next_hop = attributes.next_hop;
    facts.multi_exit_disc = attributes.multi_exit_disc;
    facts.local_pref = attributes.local_pref;
    facts.communities = attributes.communities.to_vec();
    facts.large_communities = attributes.large_communities.to_vec();
    facts
}

fn parse_by_bgpkit(message: &[u8], context: SessionContext) -> Option<BgpUpdateMessage> {
    let size = match context.as_numbers {
        AsNumberSize::TwoOctets => AsnLength::Bits16,
        AsNumberSize::FourOctets => AsnLength::Bits32,
    };
    let body = bytes::Bytes::copy_from_slice(&message[19..]);
    parse_bgp_update_message(body, !context.add_path.is_empty(), &size).ok()
}

/// `None` if bgpkit refuses the message or warns of it.
fn by_bgpkit(message: &[u8], context: SessionContext) -> Option<Facts> {
    let update = parse_by_bgpkit(message, context)?;
    if update.attributes.has_validation_warnings() {
        return None;
    }
    let plain = |prefixes: &[bgpkit_parser::models::NetworkPrefix]| -> Vec<Route> {
        prefixes.iter().map(|route| (route.prefix.trunc().to_string(), route.path_id.unwrap_or(0))).collect()
    };
    let multiprotocol = |nlri: Option<&BgpkitNlri>| -> Vec<Route> {
        let Some(nlri) = nlri else { return Vec::new() };
        let labelled = nlri.labeled_prefixes.iter().flatten();
        let labelled = labelled.map(|route| (route.prefix.trunc().to_string(), route.path_id.unwrap_or(0)));
        plain(&nlri.prefixes).into_iter().chain(labelled).collect()
    };
    let attributes = &update.attributes;
    let mut facts = Facts {
        withdrawn: plain(&update.withdrawn_prefixes),
        announced: plain(&update.announced_prefixes),
        ..Facts::default()
    };
    facts.withdrawn.extend(multiprotocol(attributes.get_unreachable_nlri()));
    facts.announced.extend(multiprotocol(attributes.get_reachable_nlri()));
    if facts.announced.is_empty() {
        return Some(facts);
    }
    facts.origin = attributes.has_attr(AttrType::ORIGIN).then(|| match attributes.origin() {
        BgpkitOrigin::IGP => 0,
        BgpkitOrigin::EGP => 1,
        BgpkitOrigin::INCOMPLETE => 2,
    });
    if let Some(path) = attributes.as_path() {
        facts.as_path = path
            .iter_segments()
            .map(|segment| match segment {
                AsPathSegment::AsSequence(numbers)
                | AsPathSegment::AsSet(numbers)
                | AsPathSegment::ConfedSequence(numbers)
                | AsPathSegment::ConfedSet(numbers) => numbers.iter().map(Asn::to_u32).collect(),
            })
            .collect();
    }
    let in_reach = attributes.get_reachable_nlri().and_then(|nlri| nlri.next_hop).map(|hop| hop.addr());
    facts.next_hop = in_reach.or_else(|| attributes.next_hop());
    facts.multi_exit_disc = attributes.multi_exit_discriminator();
    facts.local_pref = attributes.local_preference();
    for community in attributes.iter_communities() {
        match community {
            MetaCommunity::Plain(Community::NoExport) => facts.communities.push(0xffff_ff01),
            MetaCommunity::Plain(Community::NoAdvertise) => facts.communities.push(0xffff_ff02),
            MetaCommunity::Plain(Community::NoExportSubConfed) => facts.communities.push(0xffff_ff03),
            MetaCommunity::Plain(Community::Custom(number, value)) => {
                facts.communities.push(number.to_u32() << 16 | u32::from(value));
            }
            MetaCommunity::Large(community) => {
                let [one, two] = community.local_data;
                facts.large_communities.push([community.global_admin, one, two]);
            }
            MetaCommunity::Extended(_) | MetaCommunity::Ipv6Extended(_) => {}
        }
    }
    Some(facts)
}

fn routecore_family(family: Family) -> AfiSafiType {
    match (family.afi, family.safi) {
        (Afi::Ipv4, Safi::Unicast) => AfiSafiType::Ipv4Unicast,
        (Afi::Ipv6, Safi::Unicast) => AfiSafiType::Ipv6Unicast,
        (Afi::Ipv4, Safi::LabelledUnicast) => AfiSafiType::Ipv4MplsUnicast,
        (Afi::Ipv6, Safi::LabelledUnicast) => AfiSafiType::Ipv6MplsUnicast,
        (Afi::Ipv4, Safi::MplsVpn) => AfiSafiType::Ipv4MplsVpnUnicast,
        (Afi::Ipv6, Safi::MplsVpn) => AfiSafiType::Ipv6MplsVpnUnicast,
    }
}

fn routecore_route<T: AsRef<[u8]>>(nlri: &RoutecoreNlri<T>) -> Option<Route> {
    Some(match nlri {
        RoutecoreNlri::Ipv4Unicast(nlri) => (nlri.nlri().to_string(), 0),
        RoutecoreNlri::Ipv6Unicast(nlri) => (nlri.nlri().to_string(), 0),
        RoutecoreNlri::Ipv4UnicastAddpath(nlri) => (nlri.nlri().to_string(), nlri.path_id().0),
        RoutecoreNlri::Ipv6UnicastAddpath(nlri) => (nlri.nlri().to_string(), nlri.path_id().0),
        // A mutation made it another family.
        _ => return None,
    })
}

/// `None` if routecore refuses the message or something in it.
fn by_routecore(message: &[u8], context: SessionContext) -> Option<Facts> {
    let mut config = match context.as_numbers {
        AsNumberSize::TwoOctets => SessionConfig::legacy(),
        AsNumberSize::FourOctets => SessionConfig::modern(),
    };
    context.add_path.iter().for_each(|family| config.add_addpath_rxtx(routecore_family(family)));
    let update = UpdateMessage::from_octets(message, &config).ok()?;
    let mut facts = Facts::default();
    for route in update.withdrawals().ok()? {
        facts.withdrawn.push(routecore_route(&route.ok()?)?);
    }
    for route in update.announcements().ok()? {
        facts.announced.push(routecore_route(&route.ok()?)?);
    }
    if facts.announced.is_empty() {
        return Some(facts);
    }
    facts.origin = update.origin().ok()?.map(u8::from);
    if let Some(path) = update.aspath().ok()? {
        for segment in path.segments() {
            facts.as_path.push(segment.asns().map(u32::from).collect());
        }
    }
    facts.next_hop = match update.mp_next_hop().ok()?.or(update.conventional_next_hop().ok()?) {
        Some(NextHop::Unicast(address)) => Some(address),
        Some(NextHop::Ipv6LL { global, .. }) => Some(global.into()),
        _ => None,
    };
    facts.multi_exit_disc = update.multi_exit_disc().ok()?.map(|metric| metric.0);
    facts.local_pref = update.local_pref().ok()?.map(|preference| preference.0);
    if let Some(communities) = update.communities().ok()? {
        facts.communities = communities.map(|community| u32::from_be_bytes(community.to_raw())).collect();
    }
    if let Some(communities) = update.large_communities().ok()? {
        facts.large_communities = communities
            .map(|community| {
                let octets = community.to_raw();
                let word = |at: usize| octets[at..].first_chunk().copied().map_or(0, u32::from_be_bytes);
                [word(0), word(4), word(8)]
            })
            .collect();
    }
    Some(facts)
}

/// One message of a family: its session, its octets, its next hop.
#[derive(Clone)]
struct Sent {
    context: SessionContext,
    family: Family,
    next_hop: IpAddr,
    octets: Vec<u8>,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?} {} ", self.context, self.family)?;
        self.octets.iter().skip(19).try_for_each(|octet| write!(formatter, "{octet:02x}"))
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    (contexts(), families()).prop_flat_map(|(context, family)| {
        (
            Just((context, family)),
            routes(family, context, 0..10),
            routes(family, context, 0..10),
            attributes(context.as_numbers == AsNumberSize::TwoOctets),
        )
            .prop_map(|((context, family), withdrawn, announced, attributes)| {
                let next_hop = attributes.next_hop.unwrap();
                let builder = UpdateBuilder::new(context);
                let builder = if family == Family::IPV4_UNICAST && next_hop.is_ipv4() {
                    builder.withdraw(&withdrawn).attributes(&attributes, true).announce(&announced)
                } else {
                    let builder =
                        builder.mp_unreach(family, &withdrawn).mp_reach(family, next_hop, &announced);
                    builder.attributes(&attributes, false)
                };
                let mut octets = Vec::new();
                builder.encode(&mut octets);
                Sent { context, family, next_hop, octets }
            })
    })
}

/// Octets changed, by place and value.
fn mutations() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
}

impl Sent {
    fn mutate(mut self, mutations: &[(prop::sample::Index, u8)]) -> Self {
        for (place, value) in mutations {
            let place = 19 + place.index(self.octets.len() - 19);
            self.octets[place] = *value;
        }
        self
    }

    fn bgpkit_knows(&self) -> bool {
        let all_or_none =
            self.context.add_path.is_empty() || self.context.add_path.iter().count() == Family::ALL.len();
        self.family.safi != Safi::MplsVpn && all_or_none
    }

    fn routecore_knows(&self) -> bool {
        self.family.safi == Safi::Unicast
            && self.family.afi == if self.next_hop.is_ipv4() { Afi::Ipv4 } else { Afi::Ipv6 }
    }
}

/// bgpkit takes a zero octet where a route begins (0.0.0.0/0) for a Path Identifier's first one, agreed or not.
fn bgpkit_guesses(facts: &Facts, context: SessionContext) -> bool {
    let mut routes = facts.withdrawn.iter().chain(&facts.announced);
    context.add_path.is_empty() && routes.any(|(prefix, _)| prefix.ends_with("/0"))
}

/// Warnings of bgpkit that are none here.
fn is_no_error(warning: &BgpValidationWarning) -> bool {
    // Attributes that nothing here uses are not looked at.
    let is_unused = |attr_type: &AttrType| iana::attribute_name(u8::from(*attr_type)).is_none();
    match warning {
        BgpValidationWarning::AttributeFlagsError { attr_type, .. }
        | BgpValidationWarning::AttributeLengthError { attr_type, .. }
        | BgpValidationWarning::OptionalAttributeError { attr_type, .. }
        | BgpValidationWarning::PartialAttributeError { attr_type, .. }
            if is_unused(attr_type) =>
        {
            true
        }
        // A family that is not kept is ignored by name.
        BgpValidationWarning::OptionalAttributeError { attr_type, reason } => {
            matches!(attr_type, AttrType::MP_REACHABLE_NLRI | AttrType::MP_UNREACHABLE_NLRI)
                && (reason.contains("Unknown AFI") || reason.contains("Unknown SAFI"))
        }
        // The Partial bit and the reserved ones (RFC 7606, section 3 c).
        BgpValidationWarning::AttributeFlagsError { expected_flags, actual_flags, .. } => {
            (expected_flags ^ actual_flags) & 0xc0 == 0
        }
        _ => false,
    }
}

/// Errors that bgpkit does not look for.
fn is_unknown_to_bgpkit(error: AttributeError) -> bool {
    // The last attribute over the end of all (RFC 7606, section 4), AIGP with the Transitive flag (RFC 7311, section 3),
    // and a next hop that is no host's.
    matches!(
        (error.type_code, error.reason),
        (_, AttributeErrorReason::Overrun)
            | (attribute::AIGP, AttributeErrorReason::Flags)
            | (attribute::MP_REACH_NLRI, AttributeErrorReason::Value)
    )
}

fn sorted(mut facts: Facts) -> Facts {
    facts.withdrawn.sort();
    facts.announced.sort();
    facts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn well_formed_messages_read_the_same(sent in sent()) {
        let update = Update::decode(&sent.octets[19..], &sent.context).unwrap();
        prop_assert_eq!(update.errors(), []);
        let ours = sorted(ours(&update));
        if sent.bgpkit_knows() && !bgpkit_guesses(&ours, sent.context) {
            prop_assert_eq!(by_bgpkit(&sent.octets, sent.context).map(sorted), Some(ours.clone()), "bgpkit");
        }
        if sent.routecore_knows() {
            prop_assert_eq!(by_routecore(&sent.octets, sent.context).map(sorted), Some(ours), "routecore");
        }
    }

    #[test]
    fn mutated_messages_read_the_same_where_all_is_well(sent in sent(), mutations in mutations()) {
        let sent = sent.mutate(&mutations);
        let update = Update::decode(&sent.octets[19..], &sent.context);
        let Ok(update) = update else { return Ok(()) };
        if update.handling().is_some() {
            return Ok(());
        }
        let ours = sorted(ours(&update));
        // Labels of which a mutation changed the bottom-of-stack bit, or what stands for one in a withdrawal: bgpkit reads
        // stacks, for which a capability would be needed.
        let is_told = sent.bgpkit_knows() && sent.family.safi == Safi::Unicast;
        let bgpkit = by_bgpkit(&sent.octets, sent.context);
        if let Some(bgpkit) = bgpkit.filter(|_| is_told && !bgpkit_guesses(&ours, sent.context)) {
            prop_assert_eq!(sorted(bgpkit), ours.clone(), "bgpkit");
        }
        let routecore = by_routecore(&sent.octets, sent.context);
        if let Some(routecore) = routecore.filter(|_| sent.routecore_knows()) {
            prop_assert_eq!(sorted(routecore), ours, "routecore");
        }
    }

    /// bgpkit's warnings come closest to RFC 7606 of all codecs.
    #[test]
    fn what_is_wrong_for_one_is_wrong_for_the_other(sent in sent(), mutations in mutations()) {
        let sent = sent.mutate(&mutations);
        if sent.family.safi != Safi::Unicast || !sent.bgpkit_knows() {
            return Ok(());
        }
        let bgpkit = parse_by_bgpkit(&sent.octets, sent.context);
        let is_well = bgpkit.as_ref().is_some_and(|update| !update.attributes.has_validation_warnings());
        match Update::decode(&sent.octets[19..], &sent.context) {
            Err(error) => {
                let is_unknown_to_bgpkit = error.reason.contains("well-known") || error.reason.contains("without routes");
                prop_assert!(!is_well || is_unknown_to_bgpkit, "{}", error);
            }
            Ok(update) if update.handling().is_some() => {
                prop_assert!(!is_well || update.errors().iter().copied().all(is_unknown_to_bgpkit), "{:?}", update.errors());
            }
            Ok(update) => {
                if bgpkit_guesses(&sorted(ours(&update)), sent.context) {
                    return Ok(());
                }
                let bgpkit = bgpkit.expect("what is well is not refused");
                let warnings = bgpkit.attributes.validation_warnings();
                prop_assert!(warnings.iter().all(is_no_error), "{:?}", warnings);
            }
        }
    }
}
