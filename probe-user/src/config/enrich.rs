//! `[enrich]`, checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::error::ConfigError;
use super::raw::{Agent, Aggregate, Enrich, PeerSource};
use super::{between, invalid};
use crate::capture::FilterSet;
use crate::enrich::tags::Row;
use crate::enrich::{
    AgentRule, EnrichSettings, Geography, Methods, Networks, Pattern, PeerSourceRule, RouteSettings, TagMap,
    TagMapError,
};
use crate::export::IpVersion;
use crate::interfaces::{MacAddressError, NamePattern, PatternError};

/// Checks the section and reads its files, and the tag maps of aggregates. What it asks of packets is added to `filters`. Collectors know this router by
/// `agents`.
pub(super) fn settings(
    raw: &Enrich,
    aggregates: &[Aggregate],
    agents: &[IpAddr],
    filters: &mut FilterSet,
) -> Result<EnrichSettings, ConfigError> {
    between("enrich.wait_for_rib", raw.wait_for_rib, Duration::ZERO, Duration::from_hours(1))?;
    let networks = match raw.networks_file.as_str() {
        "" => Networks::default(),
        file => Networks::read(Path::new(file))?,
    };
    let geography = match raw.geoip_file.as_str() {
        "" => None,
        file => Some(Arc::new(Geography::read(Path::new(file))?)),
    };
    let (tags, tags_of) = tag_maps(raw, aggregates, agents, filters)?;
    let agents = (0..).zip(&raw.agent).map(|(number, agent)| self::agent(number, agent));
    let peer_sources = (0..).zip(&raw.peer_source).map(|(number, rule)| peer_source(number, rule));
    Ok(EnrichSettings {
        methods: Methods {
            as_number: raw.as_method,
            network: raw.net_method,
            no_lpm: raw.networks_file_no_lpm,
        },
        networks: networks.into(),
        geography,
        routes: RouteSettings {
            local_as: raw.local_as,
            skip_confederation: raw.skip_confederation,
            aspath_radius: usize::from(raw.aspath_radius),
            communities: patterns("enrich.stdcomm_pattern", &raw.stdcomm_pattern)?,
            extended_communities: patterns("enrich.extcomm_pattern", &raw.extcomm_pattern)?,
            large_communities: patterns("enrich.lrgcomm_pattern", &raw.lrgcomm_pattern)?,
            communities_to_as: patterns("enrich.stdcomm_pattern_to_asn", &raw.stdcomm_pattern_to_asn)?,
            large_communities_to_as: patterns("enrich.lrgcomm_pattern_to_asn", &raw.lrgcomm_pattern_to_asn)?,
        },
        agents: agents.collect::<Result<_, _>>()?,
        peer_sources: peer_sources.collect::<Result<_, _>>()?,
        tags,
        tags_of: tags_of.into_iter().map(|(name, tags)| (name, tags.into())).collect(),
        // Known when exports and aggregates are.
        asks_attributes: false,
        wait_for_rib: raw.wait_for_rib,
    })
}

/// What the places of rules begin with that are tables.
const TABLES: &str = "enrich.tag[";

/// Maps of aggregates, by their name.
type TagsOf = BTreeMap<String, TagMap>;

/// The rules for all, and those of aggregates.
fn tag_maps(
    raw: &Enrich,
    aggregates: &[Aggregate],
    agents: &[IpAddr],
    filters: &mut FilterSet,
) -> Result<(TagMap, TagsOf), ConfigError> {
    let mut tags = rules(raw, agents)?;
    let mut tags_of = TagsOf::new();
    let own = aggregates.iter().enumerate().filter(|(_, aggregate)| !aggregate.tag_map.is_empty());
    let key = |number: usize| format!("aggregate[{number}].tag_map");
    for (number, aggregate) in own.clone() {
        let fault = |error| ConfigError::AggregateTagMap { key: key(number), error };
        let mut tags = TagMap::new(agents.to_vec());
        tags.read(Path::new(&aggregate.tag_map)).and_then(|()| tags.resolve()).map_err(fault)?;
        tags_of.insert(aggregate.name.clone(), tags);
    }
    // One that can do without leaves its place to one of another map that cannot.
    for by_address in [false, true] {
        tags.bind(filters, by_address).map_err(of_rules)?;
        for (number, aggregate) in own.clone() {
            let fault = |error| ConfigError::AggregateTagMap { key: key(number), error };
            let own = tags_of.get_mut(&aggregate.name);
            own.map_or(Ok(()), |tags| tags.bind(filters, by_address)).map_err(fault)?;
        }
    }
    Ok((tags, tags_of))
}

/// The rules of the file, and behind them those of the tables.
fn rules(raw: &Enrich, agents: &[IpAddr]) -> Result<TagMap, ConfigError> {
    let mut tags = TagMap::new(agents.to_vec());
    if !raw.tag_map.is_empty() {
        tags.read(Path::new(&raw.tag_map))?;
    }
    for (number, table) in raw.tag.iter().enumerate() {
        let place = format!("{TABLES}{number}]");
        let pairs: Vec<(&str, String)> =
            table.iter().map(|(key, value)| (key.as_str(), value.to_string())).collect();
        let row = Row::new(place.clone(), pairs.iter().map(|(key, value)| (*key, value.as_str())))
            .map_err(|error| invalid(format!("{place}.{}", error.key), &error.value, error.reason))?;
        tags.push(row).map_err(|reason| invalid(place, &"", reason))?;
    }
    tags.resolve().map_err(of_rules)?;
    Ok(tags)
}

fn of_rules(error: TagMapError) -> ConfigError {
    match error {
        TagMapError::Row { place, reason } if place.starts_with(TABLES) => invalid(place, &"rule", reason),
        error => error.into(),
    }
}

fn patterns(key: &str, texts: &[String]) -> Result<Vec<Pattern>, ConfigError> {
    texts.iter().map(|text| Pattern::new(text).map_err(|reason| invalid(key, text, reason))).collect()
}

fn agent(number: usize, raw: &Agent) -> Result<AgentRule, ConfigError> {
    let key = |name: &str| format!("enrich.agent[{number}].{name}");
    let ip_version = match raw.ip_version {
        None => None,
        Some(4) => Some(IpVersion::V4),
        Some(6) => Some(IpVersion::V6),
        Some(other) => return Err(invalid(key("ip_version"), &other, "it must be 4 or 6")),
    };
    let networks = raw.networks.iter().map(|text| {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| invalid(key("networks"), text, "it is not a network, such as 192.0.2.0/24"))
    });
    if raw.peer.is_empty() {
        return Err(invalid(key("peer"), &"", "it must be the address or the name of a peer"));
    }
    Ok(AgentRule {
        peer: raw.peer.as_str().into(),
        ip_version,
        networks: networks.collect::<Result<_, _>>()?,
        interfaces: interfaces(&key("interfaces"), &raw.interfaces)?,
    })
}

fn peer_source(number: usize, raw: &PeerSource) -> Result<PeerSourceRule, ConfigError> {
    let key = |name: &str| format!("enrich.peer_source[{number}].{name}");
    let next_hop = match raw.next_hop.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| invalid(key("next_hop"), &text, "it is not an IP address"))?),
    };
    let macs = raw.macs.iter().map(|text| {
        text.parse().map_err(|error: MacAddressError| invalid(key("macs"), text, error.to_string()))
    });
    Ok(PeerSourceRule {
        interfaces: interfaces(&key("interfaces"), &raw.interfaces)?,
        macs: macs.collect::<Result<_, _>>()?,
        next_hop,
        as_number: (raw.as_number > 0).then_some(raw.as_number),
    })
}

fn interfaces(key: &str, texts: &[String]) -> Result<Vec<NamePattern>, ConfigError> {
    texts
        .iter()
        .map(|text| text.parse().map_err(|error: PatternError| invalid(key, text, error.to_string())))
        .collect()
}
