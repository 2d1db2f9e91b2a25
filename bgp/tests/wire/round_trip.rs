//! What is encoded is decoded to the same.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pathflow_bgp::wire::encode_update::UpdateBuilder;
use pathflow_bgp::wire::{
    AddPathFamily, AsNumberSize, Capability, EXTENDED_MAXIMUM_LENGTH, ExtendedNextHop, GracefulRestartFamily,
    Header, Message, Notification, Open, Role, RouteRefresh, RouteRefreshSubtype, SessionContext,
};
use pathflow_bgp::{
    Afi, AsPath, Attributes, Family, MplsLabel, Nlri, Origin, RouteDistinguisher, Safi, Segment, SegmentKind,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// The one message that `octets` are.
fn decode(octets: &[u8], context: SessionContext) -> Message<'_> {
    let header = Header::decode(octets, EXTENDED_MAXIMUM_LENGTH).unwrap().unwrap();
    assert_eq!(usize::from(header.length), octets.len());
    Message::decode(header.message_type, &octets[19..], &context).unwrap()
}

pub(crate) fn families() -> impl Strategy<Value = Family> {
    prop::sample::select(Family::ALL.to_vec())
}

pub(crate) fn contexts() -> impl Strategy<Value = SessionContext> {
    (any::<bool>(), vec(families(), 0..6)).prop_map(|(two_octets, families)| SessionContext {
        as_numbers: if two_octets { AsNumberSize::TwoOctets } else { AsNumberSize::FourOctets },
        add_path: families.into_iter().collect(),
        ..SessionContext::default()
    })
}

/// A route of a family as an announcement has it.
fn route(family: Family, add_path: bool) -> impl Strategy<Value = Nlri> {
    // Label with the bottom-of-stack bit: one label is what is encoded.
    (any::<u128>(), any::<u8>(), 1..u32::MAX, any::<[u8; 8]>(), any::<u32>()).prop_map(
        move |(address, length, path_id, distinguisher, label)| Nlri {
            route_distinguisher: (family.safi == Safi::MplsVpn).then_some(RouteDistinguisher(distinguisher)),
            prefix: match family.afi {
                Afi::Ipv4 => IpNet::V4(Ipv4Net::new((address as u32).into(), length % 33).unwrap().trunc()),
                Afi::Ipv6 => IpNet::V6(Ipv6Net::new(address.into(), length % 129).unwrap().trunc()),
            },
            path_id: if add_path { path_id } else { 0 },
            label: (family.safi != Safi::Unicast).then(|| {
                let [_, high, middle, low] = label.to_be_bytes();
                MplsLabel([high, middle, low | 1])
            }),
        },
    )
}

pub(crate) fn routes(
    family: Family,
    context: SessionContext,
    number: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<Nlri>> {
    vec(route(family, context.add_path.contains(family)), number)
}

fn as_paths(two_octets: bool) -> impl Strategy<Value = AsPath> {
    let kind = prop::sample::select(vec![
        SegmentKind::Set,
        SegmentKind::Sequence,
        SegmentKind::ConfedSequence,
        SegmentKind::ConfedSet,
    ]);
    let most = if two_octets { u32::from(u16::MAX) } else { u32::MAX };
    let segment = (kind, vec(1..=most, 1..20))
        .prop_map(|(kind, as_numbers)| Segment { kind, as_numbers: as_numbers.into() });
    vec(segment, 0..5).prop_map(|segments| AsPath { segments: segments.into() })
}

fn hosts() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (1..0xe000_0000_u32).prop_map(|address| IpAddr::V4(address.into())),
        (1..u128::MAX >> 8).prop_map(|address| IpAddr::V6(Ipv6Addr::from(address))),
    ]
}

pub(crate) fn attributes(two_octets: bool) -> impl Strategy<Value = Attributes> {
    let origin = prop::sample::select(vec![Origin::Igp, Origin::Egp, Origin::Incomplete]);
    (
        (origin, as_paths(two_octets), hosts(), option::of(any::<u32>()), option::of(any::<u32>())),
        (vec(any::<u32>(), 0..80), vec(any::<[u8; 8]>(), 0..40), vec(any::<[u32; 3]>(), 0..30)),
        (
            option::of(any::<u64>()),
            option::of(any::<u32>()),
            option::of(any::<u32>()),
            option::of(any::<u32>()),
        ),
    )
        .prop_map(|(first, communities, last)| Attributes {
            origin: first.0,
            as_path: first.1,
            next_hop: Some(first.2),
            multi_exit_disc: first.3,
            local_pref: first.4,
            communities: communities.0.into(),
            extended_communities: communities.1.into(),
            large_communities: communities.2.into(),
            aigp: last.0,
            prefix_sid_label_index: last.1,
            only_to_customer: last.2,
            originator_id: last.3.map(Into::into),
        })
}

/// Session, family, what is withdrawn, what is announced, with what attributes.
fn updates() -> impl Strategy<Value = (SessionContext, Family, Vec<Nlri>, Vec<Nlri>, Attributes)> {
    (contexts(), families()).prop_flat_map(|(context, family)| {
        (
            Just(context),
            Just(family),
            routes(family, context, 0..20),
            routes(family, context, 1..20),
            attributes(context.as_numbers == AsNumberSize::TwoOctets),
        )
    })
}

fn capabilities() -> impl Strategy<Value = Capability> {
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| Capability::Multiprotocol { afi, safi }),
        Just(Capability::RouteRefresh),
        Just(Capability::ExtendedMessage),
        Just(Capability::EnhancedRouteRefresh),
        any::<u8>().prop_map(|role| Capability::Role(Role(role))),
        vec(any::<(u16, u16, u16)>(), 0..43).prop_map(|rows| {
            let row = |(afi, safi, next_hop_afi)| ExtendedNextHop { afi, safi, next_hop_afi };
            Capability::ExtendedNextHop(rows.into_iter().map(row).collect())
        }),
        (any::<bool>(), any::<bool>(), 0..4096_u16, vec(any::<(u16, u8, bool)>(), 0..64)).prop_map(
            |(restart_state, notification, restart_time, rows)| Capability::GracefulRestart {
                restart_state,
                notification,
                restart_time,
                families: rows
                    .into_iter()
                    .map(|(afi, safi, forwarding_state)| GracefulRestartFamily {
                        afi,
                        safi,
                        forwarding_state
                    })
                    .collect(),
            }
        ),
        vec(any::<(u16, u8, u8)>(), 0..64).prop_map(|rows| {
            let row = |(afi, safi, send_receive)| AddPathFamily { afi, safi, send_receive };
            Capability::AddPath(rows.into_iter().map(row).collect())
        }),
        ("[a-zé-]{0,60}", "[a-z.]{0,126}")
            .prop_map(|(host, domain)| Capability::Fqdn { host: host.into(), domain: domain.into() }),
        (200..=u8::MAX, vec(any::<u8>(), 0..256))
            .prop_map(|(code, value)| Capability::Unknown { code, value: value.into() }),
    ]
}

proptest! {
    #[test]
    fn updates_come_back((context, family, withdrawn, announced, attributes) in updates()) {
        let next_hop = attributes.next_hop.unwrap();
        let builder = UpdateBuilder::new(context);
        // The fields of RFC 4271 where they can, those of RFC 4760 otherwise.
        let in_fields = family == Family::IPV4_UNICAST && next_hop.is_ipv4();
        let builder = if in_fields {
            builder.withdraw(&withdrawn).attributes(&attributes, true).announce(&announced)
        } else {
            let builder = builder.mp_unreach(family, &withdrawn).mp_reach(family, next_hop, &announced);
            builder.attributes(&attributes, false)
        };
        let mut octets = Vec::new();
        builder.encode(&mut octets);
        let Message::Update(update) = decode(&octets, context) else { panic!("another type") };

        prop_assert_eq!(update.errors(), []);
        let without_label = |route: &Nlri| (family, Nlri { label: None, ..*route });
        prop_assert_eq!(update.withdrawn().collect::<Vec<_>>(), withdrawn.iter().map(without_label).collect::<Vec<_>>());
        let with_family: Vec<_> = announced.iter().map(|route| (family, *route)).collect();
        prop_assert_eq!(update.announced().collect::<Vec<_>>(), with_family);
        let announcements: Vec<_> = update.announcements().collect();
        prop_assert_eq!(announcements.len(), 1);
        prop_assert_eq!(announcements[0].attributes(), attributes);
        prop_assert_eq!(announcements[0].nlri().collect::<Vec<_>>(), announced);
        prop_assert_eq!(update.end_of_rib(), None);
    }

    /// A speaker of four-octet numbers behind one of two: what AS4_PATH brings over is the path itself.
    #[test]
    fn as4_path_brings_the_path_over(numbers in vec(1..u32::MAX, 1..60)) {
        let segment = Segment { kind: SegmentKind::Sequence, as_numbers: numbers.into() };
        let as_path = AsPath { segments: [segment].into() };
        let sent = Attributes { as_path, next_hop: Some([192, 0, 2, 1].into()), ..Attributes::default() };
        let context = SessionContext { as_numbers: AsNumberSize::TwoOctets, ..SessionContext::default() };
        let value: Vec<u8> = sent.as_path.segments[0].as_numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        let value = [&[2, sent.as_path.segments[0].as_numbers.len() as u8][..], &value].concat();
        let route = Nlri { route_distinguisher: None, prefix: "10.0.0.0/8".parse().unwrap(), path_id: 0, label: None };
        let mut octets = Vec::new();
        UpdateBuilder::new(context).attributes(&sent, true).attribute(0xc0, 17, &value).announce(&[route]).encode(&mut octets);
        let Message::Update(update) = decode(&octets, context) else { panic!("another type") };
        prop_assert_eq!(update.announcements().next().unwrap().attributes(), sent);
    }

    /// Equal keys, equal attributes: also between sessions of two and of four octets.
    #[test]
    fn keys_tell_attributes_apart(one in updates(), other in updates()) {
        let of = |(context, family, _, announced, attributes): &(SessionContext, Family, Vec<Nlri>, Vec<Nlri>, Attributes)| {
            let next_hop = attributes.next_hop.unwrap();
            let mut octets = Vec::new();
            UpdateBuilder::new(*context).mp_reach(*family, next_hop, announced).attributes(attributes, false).encode(&mut octets);
            let Message::Update(update) = decode(&octets, *context) else { panic!("another type") };
            let announcement = update.announcements().next().unwrap();
            let mut key = Vec::new();
            announcement.interning_key(&mut key);
            (key, announcement.attributes())
        };
        let (one, other) = (of(&one), of(&other));
        prop_assert!(one.0 != other.0 || one.1 == other.1);
    }

    #[test]
    fn opens_come_back(
        as_number in 1..u32::MAX,
        hold_time in prop_oneof![Just(0), 3..u16::MAX],
        bgp_identifier in 1..u32::MAX,
        others in vec(capabilities(), 0..12),
    ) {
        let capabilities = [vec![Capability::FourOctetAsNumber(as_number)], others].concat();
        let open = Open { as_number, hold_time, bgp_identifier: bgp_identifier.into(), capabilities };
        let mut octets = Vec::new();
        open.encode(&mut octets);
        let Message::Open(decoded) = decode(&octets, SessionContext::default()) else { panic!("another type") };
        prop_assert_eq!(decoded, open);
    }

    #[test]
    fn notifications_come_back(code: u8, subcode: u8, data in vec(any::<u8>(), 0..500), text in ".{0,80}") {
        for notification in [Notification::new(code, subcode, &data), Notification::cease(2, &text)] {
            let mut octets = Vec::new();
            notification.encode(&mut octets);
            let Message::Notification(decoded) = decode(&octets, SessionContext::default()) else { panic!("another type") };
            prop_assert_eq!(decoded, notification);
        }
    }

    #[test]
    fn route_refreshes_come_back(family in families(), number in 0..3_usize) {
        let subtype = [RouteRefreshSubtype::Request, RouteRefreshSubtype::Begin, RouteRefreshSubtype::End][number];
        let message = RouteRefresh::new(family, subtype);
        let mut octets = Vec::new();
        message.encode(&mut octets);
        let Message::RouteRefresh(decoded) = decode(&octets, SessionContext::default()) else { panic!("another type") };
        prop_assert_eq!(decoded, message);
    }
}
