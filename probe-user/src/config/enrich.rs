//! `[enrich]`, checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::error::ConfigError;
use super::export::ExportProcess;
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

/// Checks the section and reads its files, and the tag maps of aggregates and exports. What it asks of packets is added to
/// `filters`. Collectors know this router by `agents`.
pub(super) fn settings(
    raw: &Enrich,
    own: &[OwnTagMap<'_>],
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
    let (tags, tags_of, tags_of_exports) = tag_maps(raw, own, agents, filters)?;
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
        tags_of,
        tags_of_exports,
        // Known when exports and aggregates are.
        asks_attributes: false,
        wait_for_rib: raw.wait_for_rib,
    })
}

/// What the places of rules begin with that are tables.
const TABLES: &str = "enrich.tag[";

/// A tag map that is for one aggregate or export, in place of the one for all.
pub(super) struct OwnTagMap<'a> {
    /// The key of the settings that names the file.
    key: String,
    /// Name of the aggregate, or names of what the export consists of.
    names: Vec<String>,
    is_of_export: bool,
    file: &'a str,
}

/// The tag maps that aggregates and exports have of their own. `has_common` says whether `[export]` has collectors.
pub(super) fn own_tag_maps<'a>(
    aggregates: &'a [Aggregate],
    processes: &'a [ExportProcess],
    has_common: bool,
) -> Vec<OwnTagMap<'a>> {
    let of_aggregates = aggregates.iter().enumerate().map(|(number, aggregate)| OwnTagMap {
        key: format!("aggregate[{number}].tag_map"),
        names: vec![aggregate.name.clone()],
        is_of_export: false,
        file: &aggregate.tag_map,
    });
    let of_exports = processes.iter().enumerate().map(|(number, process)| OwnTagMap {
        key: match number.checked_sub(usize::from(has_common)) {
            None => "export.tag_map".to_owned(),
            Some(number) => format!("export.process[{number}].tag_map"),
        },
        names: process.names(),
        is_of_export: true,
        file: &process.tag_map,
    });
    of_aggregates.chain(of_exports).filter(|map| !map.file.is_empty()).collect()
}

/// Maps by the name of what they are for.
type TagsOf = BTreeMap<String, Arc<TagMap>>;

/// The rules for all, those of aggregates, and those of exports.
fn tag_maps(
    raw: &Enrich,
    own: &[OwnTagMap<'_>],
    agents: &[IpAddr],
    filters: &mut FilterSet,
) -> Result<(TagMap, TagsOf, TagsOf), ConfigError> {
    let mut tags = rules(raw, agents)?;
    let mut maps = Vec::new();
    let fault = |map: &OwnTagMap<'_>, error| ConfigError::OwnTagMap { key: map.key.clone(), error };
    for map in own {
        let mut tags = TagMap::new(agents.to_vec());
        tags.read(Path::new(map.file)).and_then(|()| tags.resolve()).map_err(|error| fault(map, error))?;
        maps.push((map, tags));
    }
    // One that can do without leaves its place to one of another map that cannot.
    for by_address in [false, true] {
        tags.bind(filters, by_address).map_err(of_rules)?;
        for (map, tags) in &mut maps {
            tags.bind(filters, by_address).map_err(|error| fault(map, error))?;
        }
    }
    let (mut of_aggregates, mut of_exports) = (TagsOf::new(), TagsOf::new());
    for (map, tags) in maps {
        let all = if map.is_of_export { &mut of_exports } else { &mut of_aggregates };
        let tags = Arc::new(tags);
        all.extend(map.names.iter().map(|name| (name.clone(), Arc::clone(&tags))));
    }
    Ok((tags, of_aggregates, of_exports))
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
