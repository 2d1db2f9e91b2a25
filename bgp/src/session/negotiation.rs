//! OPENs: ours, whether the peer's is acceptable, and what both agree on. Pure.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::NotificationError;
use crate::iana::{error_code, open_subcode};
use crate::speaker::PeerSettings;
use crate::wire::{
    AddPathFamily, AsNumberSize, Capability, EXTENDED_MAXIMUM_LENGTH, ExtendedNextHop, FamilySet,
    MAXIMUM_LENGTH, Open, Role, SessionContext,
};
use crate::{Afi, Family};

/// What the two OPENs of a session agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The peer's AS number.
    pub remote_as: u32,
    /// Our AS number.
    pub local_as: u32,
    /// The peer's BGP Identifier.
    pub remote_identifier: Ipv4Addr,
    /// Our BGP Identifier.
    pub local_identifier: Ipv4Addr,
    /// The lower of both hold times, in seconds; 0 is none.
    pub hold_time: u16,
    /// Families whose routes the peer sends.
    pub families: FamilySet,
    /// What decoding UPDATEs depends on.
    pub context: SessionContext,
    /// IPv4 families with IPv6 next hops (RFC 8950).
    pub extended_next_hop: FamilySet,
    /// Messages may have 65,535 octets (RFC 8654).
    pub extended_messages: bool,
    /// Routes can be asked for again (RFC 2918).
    pub route_refresh: bool,
    /// The peer marks begin and end when it sends routes again (RFC 7313).
    pub enhanced_refresh: bool,
    /// The peer restarts gracefully (RFC 4724); its Restart Time in seconds.
    pub graceful_restart: Option<u16>,
    /// The peer's role (RFC 9234).
    pub remote_role: Option<Role>,
    /// Capabilities as the peer sent them.
    pub remote_capabilities: Vec<Capability>,
}

impl Negotiated {
    /// The longest message that either side may send.
    pub(crate) fn maximum_length(&self) -> u16 {
        if self.extended_messages { EXTENDED_MAXIMUM_LENGTH } else { MAXIMUM_LENGTH }
    }
}

/// Our AS number: as set, else the peer's as set, else the peer's as it says.
pub(super) fn local_as(settings: &PeerSettings, peer: Option<&Open>) -> Option<u32> {
    settings.local_as.or(settings.remote_as).or(peer.map(|open| open.as_number))
}

/// Our BGP Identifier: as set, else from our address of the connection, changed if the peer has the same one.
pub(super) fn local_identifier(
    router_id: Option<Ipv4Addr>,
    local_address: IpAddr,
    peer: Option<&Open>,
) -> Ipv4Addr {
    if let Some(router_id) = router_id {
        return router_id;
    }
    let number = match local_address {
        IpAddr::V4(address) => u32::from(address),
        IpAddr::V6(address) => u128::from(address) as u32,
    };
    // RFC 6286: anything but zero.
    let number = number.max(1);
    let taken = peer.is_some_and(|open| u32::from(open.bgp_identifier) == number);
    Ipv4Addr::from(if taken { number ^ 0x8000_0000 } else { number })
}

/// Our OPEN. As an answer to the peer's it has only the capabilities that the peer has too: some peers refuse others.
pub(super) fn own_open(
    settings: &PeerSettings,
    as_number: u32,
    bgp_identifier: Ipv4Addr,
    peer: Option<&Open>,
) -> Open {
    let has = |code: u8| peer.is_none_or(|open| open.capabilities.iter().any(|other| other.code() == code));
    let mut capabilities = Vec::new();
    let families: FamilySet = settings.families.iter().copied().collect();
    let offered = |family: &Family| peer.is_none_or(|open| families_of(open).contains(*family));
    let families: Vec<Family> = families.iter().filter(offered).collect();
    capabilities.extend(families.iter().copied().map(Capability::multiprotocol));

    let next_hops = families.iter().filter(|family| family.afi == Afi::Ipv4);
    let next_hops = next_hops
        .filter(|family| peer.is_none_or(|open| extended_next_hops(open).contains(**family)))
        .map(|family| ExtendedNextHop {
            afi: family.afi as u16,
            safi: family.safi as u16,
            next_hop_afi: Afi::Ipv6 as u16,
        });
    let next_hops: Box<[ExtendedNextHop]> = next_hops.collect();
    if !next_hops.is_empty() {
        capabilities.push(Capability::ExtendedNextHop(next_hops));
    }
    if let Some(role) = settings.role {
        capabilities.push(Capability::Role(role));
    }
    // RFC 4724, section 4: no family, as nothing is forwarded here, and no time: what counts is helping the peer.
    let graceful_restart = Capability::GracefulRestart {
        restart_state: false,
        notification: false,
        restart_time: 0,
        families: Box::default(),
    };
    let echoed = [
        Capability::RouteRefresh,
        Capability::ExtendedMessage,
        graceful_restart,
        Capability::EnhancedRouteRefresh,
    ];
    capabilities.extend(echoed.into_iter().filter(|capability| has(capability.code())));
    let four_octets = Capability::FourOctetAsNumber(as_number);
    if has(four_octets.code()) || as_number > u32::from(u16::MAX) {
        capabilities.push(four_octets);
    }
    let paths = families
        .iter()
        .filter(|family| settings.add_path && peer.is_none_or(|open| sent_paths(open).contains(**family)));
    let paths: Box<[AddPathFamily]> = paths.map(|family| AddPathFamily::new(*family, true, false)).collect();
    if !paths.is_empty() {
        capabilities.push(Capability::AddPath(paths));
    }
    Open { as_number, hold_time: settings.hold_time, bgp_identifier, capabilities }
}

/// Checks the peer's OPEN (RFC 4271, section 6.2, as far as settings matter) and finds what it agrees on with ours.
pub(super) fn negotiate(
    settings: &PeerSettings,
    own: &Open,
    peer: &Open,
) -> Result<Negotiated, NotificationError> {
    let error =
        |subcode, data: &[u8], reason| NotificationError::new(error_code::OPEN, subcode, data, reason);
    if settings.remote_as.is_some_and(|number| number != peer.as_number) {
        return Err(error(open_subcode::BAD_PEER_AS, &[], "AS number other than configured"));
    }
    let internal = own.as_number == peer.as_number;
    if internal && own.bgp_identifier == peer.bgp_identifier {
        return Err(error(open_subcode::BAD_BGP_IDENTIFIER, &[], "BGP identifier is ours"));
    }
    let role =
        remote_role(settings, peer).map_err(|reason| error(open_subcode::ROLE_MISMATCH, &[], reason))?;
    let families: FamilySet =
        families_of(own).iter().filter(|family| families_of(peer).contains(*family)).collect();
    if families.is_empty() {
        let mut missing = Vec::new();
        settings.families.iter().for_each(|family| Capability::multiprotocol(*family).encode(&mut missing));
        return Err(error(open_subcode::UNSUPPORTED_CAPABILITY, &missing, "no address family in common"));
    }
    let both = |code: Capability| has(own, &code) && has(peer, &code);
    let four_octets = both(Capability::FourOctetAsNumber(0));
    let add_path = received_paths(own).iter().filter(|family| sent_paths(peer).contains(*family)).collect();
    let extended_next_hop =
        extended_next_hops(own).iter().filter(|family| extended_next_hops(peer).contains(*family)).collect();
    Ok(Negotiated {
        remote_as: peer.as_number,
        local_as: own.as_number,
        remote_identifier: peer.bgp_identifier,
        local_identifier: own.bgp_identifier,
        hold_time: own.hold_time.min(peer.hold_time),
        families,
        context: SessionContext {
            as_numbers: if four_octets { AsNumberSize::FourOctets } else { AsNumberSize::TwoOctets },
            add_path,
            internal,
            monitored: false,
        },
        extended_next_hop,
        extended_messages: both(Capability::ExtendedMessage),
        route_refresh: both(Capability::RouteRefresh),
        enhanced_refresh: both(Capability::EnhancedRouteRefresh),
        graceful_restart: graceful_restart(own).and(graceful_restart(peer)),
        remote_role: role,
        remote_capabilities: peer.capabilities.clone(),
    })
}

/// RFC 9234, section 4.2.
fn remote_role(settings: &PeerSettings, peer: &Open) -> Result<Option<Role>, &'static str> {
    let mut roles = peer.capabilities.iter().filter_map(|capability| match capability {
        Capability::Role(role) => Some(*role),
        _ => None,
    });
    let remote = roles.next();
    let Some(own) = settings.role else { return Ok(remote) };
    match remote {
        None if settings.role_strict => Err("no BGP role, which is required"),
        None => Ok(None),
        Some(first) if roles.any(|other| other != first) => Err("two different BGP roles"),
        Some(first) if own.counterpart() != Some(first) => Err("BGP role that does not match ours"),
        Some(first) => Ok(Some(first)),
    }
}

fn has(open: &Open, capability: &Capability) -> bool {
    open.capabilities.iter().any(|other| other.code() == capability.code() && !is_unknown(other))
}

/// A capability that does not parse is none.
fn is_unknown(capability: &Capability) -> bool {
    matches!(capability, Capability::Unknown { .. })
}

/// Without any Multiprotocol capability it is IPv4 unicast (RFC 4760, section 8).
fn families_of(open: &Open) -> FamilySet {
    let mut any = false;
    let mut families = FamilySet::EMPTY;
    for capability in &open.capabilities {
        if let Capability::Multiprotocol { afi, safi } = capability {
            any = true;
            if let Some(family) = Family::from_numbers(*afi, *safi) {
                families.insert(family);
            }
        }
    }
    if !any {
        families.insert(Family::IPV4_UNICAST);
    }
    families
}

fn extended_next_hops(open: &Open) -> FamilySet {
    let rows = open.capabilities.iter().filter_map(|capability| match capability {
        Capability::ExtendedNextHop(rows) => Some(rows.iter()),
        _ => None,
    });
    rows.flatten()
        .filter(|row| row.next_hop_afi == Afi::Ipv6 as u16)
        .filter_map(|row| Family::from_numbers(row.afi, u8::try_from(row.safi).ok()?))
        .collect()
}

fn sent_paths(open: &Open) -> FamilySet {
    paths(open, AddPathFamily::sends)
}

fn received_paths(open: &Open) -> FamilySet {
    paths(open, AddPathFamily::receives)
}

fn paths(open: &Open, which: fn(AddPathFamily) -> bool) -> FamilySet {
    let rows = open.capabilities.iter().filter_map(|capability| match capability {
        Capability::AddPath(rows) => Some(rows.iter()),
        _ => None,
    });
    rows.flatten()
        .filter(|row| which(**row))
        .filter_map(|row| Family::from_numbers(row.afi, row.safi))
        .collect()
}

fn graceful_restart(open: &Open) -> Option<u16> {
    open.capabilities.iter().find_map(|capability| match capability {
        Capability::GracefulRestart { restart_time, .. } => Some(*restart_time),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> PeerSettings {
        PeerSettings::new("192.0.2.1/32".parse().unwrap())
    }

    /// A peer as BIRD 2 introduces itself, with more.
    fn open() -> Open {
        let sends = |family| AddPathFamily::new(family, false, true);
        Open {
            as_number: 397_143,
            hold_time: 90,
            bgp_identifier: Ipv4Addr::new(192, 0, 2, 1),
            capabilities: vec![
                Capability::multiprotocol(Family::IPV4_UNICAST),
                Capability::multiprotocol(Family::IPV6_UNICAST),
                Capability::Multiprotocol { afi: 25, safi: 70 },
                Capability::RouteRefresh,
                Capability::FourOctetAsNumber(397_143),
                Capability::AddPath(Box::from([sends(Family::IPV6_UNICAST)])),
                Capability::Unknown { code: 71, value: Box::from([0; 7]) },
            ],
        }
    }

    fn answer(settings: &PeerSettings, peer: &Open) -> Result<Negotiated, NotificationError> {
        let local = "127.0.0.2".parse().unwrap();
        let identifier = local_identifier(None, local, Some(peer));
        let as_number = local_as(settings, Some(peer)).unwrap();
        negotiate(settings, &own_open(settings, as_number, identifier, Some(peer)), peer)
    }

    fn codes(result: &Result<Negotiated, NotificationError>) -> (u8, u8) {
        let notification = &result.as_ref().unwrap_err().notification;
        (notification.code, notification.subcode)
    }

    #[test]
    fn an_answer_has_the_peers_as_number_and_only_what_the_peer_offered() {
        let peer = open();
        let own = own_open(&settings(), 397_143, Ipv4Addr::new(127, 0, 0, 2), Some(&peer));
        let receives = |family| AddPathFamily::new(family, true, false);
        assert_eq!(
            own.capabilities,
            [
                Capability::multiprotocol(Family::IPV4_UNICAST),
                Capability::multiprotocol(Family::IPV6_UNICAST),
                Capability::RouteRefresh,
                Capability::FourOctetAsNumber(397_143),
                Capability::AddPath(Box::from([receives(Family::IPV6_UNICAST)])),
            ]
        );
        let agreed = answer(&settings(), &peer).unwrap();
        assert_eq!((agreed.local_as, agreed.remote_as), (397_143, 397_143));
        assert!(agreed.context.internal && agreed.route_refresh);
        assert!(!agreed.enhanced_refresh && !agreed.extended_messages);
        assert_eq!(agreed.graceful_restart, None);
        assert_eq!(agreed.context.add_path.iter().collect::<Vec<_>>(), [Family::IPV6_UNICAST]);
    }

    #[test]
    fn an_old_peer_gets_two_octets_and_ipv4_unicast() {
        let peer = Open { as_number: 64_500, capabilities: Vec::new(), ..open() };
        let agreed = answer(&settings(), &peer).unwrap();
        assert_eq!(agreed.context.as_numbers, AsNumberSize::TwoOctets);
        assert_eq!(agreed.families.iter().collect::<Vec<_>>(), [Family::IPV4_UNICAST]);
        let own = own_open(&settings(), 64_500, Ipv4Addr::new(127, 0, 0, 2), Some(&peer));
        assert_eq!(own.capabilities, [Capability::multiprotocol(Family::IPV4_UNICAST)]);
    }

    #[test]
    fn what_is_not_acceptable_has_its_subcode() {
        let other_as = PeerSettings { remote_as: Some(64_500), ..settings() };
        assert_eq!(codes(&answer(&other_as, &open())), (2, 2));

        let evpn = Capability::Multiprotocol { afi: 25, safi: 70 };
        let no_family = Open { capabilities: vec![evpn], ..open() };
        let error = answer(&PeerSettings { families: vec![Family::IPV4_UNICAST], ..settings() }, &no_family);
        assert_eq!(codes(&error), (2, 7));
        // RFC 5492, section 3: the capability that is missed is in the data.
        assert_eq!(*error.unwrap_err().notification.data, [1, 4, 0, 1, 0, 1]);

        let own = own_open(&settings(), 397_143, open().bgp_identifier, Some(&open()));
        assert_eq!(codes(&negotiate(&settings(), &own, &open())), (2, 3));
        // RFC 6286: between two ASes it is no error.
        let external = own_open(&settings(), 64_500, open().bgp_identifier, Some(&open()));
        assert!(negotiate(&settings(), &external, &open()).is_ok());
    }

    #[test]
    fn roles_have_to_match_and_strict_mode_wants_one() {
        let with = |roles: &[Role]| {
            let mut peer = open();
            peer.capabilities.extend(roles.iter().map(|role| Capability::Role(*role)));
            peer
        };
        let customer = PeerSettings { role: Some(Role::CUSTOMER), ..settings() };
        let strict = PeerSettings { role_strict: true, ..customer.clone() };
        let agreed = answer(&strict, &with(&[Role::PROVIDER])).unwrap();
        assert_eq!(agreed.remote_role, Some(Role::PROVIDER));
        assert!(answer(&customer, &with(&[])).is_ok());
        assert_eq!(codes(&answer(&strict, &with(&[]))), (2, 11));
        assert_eq!(codes(&answer(&customer, &with(&[Role::CUSTOMER]))), (2, 11));
        assert_eq!(codes(&answer(&customer, &with(&[Role::PROVIDER, Role::PEER]))), (2, 11));
        assert!(answer(&settings(), &with(&[Role::CUSTOMER])).is_ok());
    }

    #[test]
    fn an_identifier_comes_from_the_address_and_differs_from_the_peers() {
        let from =
            |address: &str, peer: Option<&Open>| local_identifier(None, address.parse().unwrap(), peer);
        assert_eq!(from("127.0.0.2", None), Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(from("::1", None), Ipv4Addr::new(0, 0, 0, 1));
        assert_eq!(from("2001:db8::", None), Ipv4Addr::new(0, 0, 0, 1));
        assert_ne!(from("192.0.2.1", Some(&open())), Ipv4Addr::new(192, 0, 2, 1));
        let set = Some(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(local_identifier(set, "127.0.0.2".parse().unwrap(), None), Ipv4Addr::new(10, 0, 0, 1));
    }
}
