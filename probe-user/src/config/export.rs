//! `[export]` and `[[export.process]]`: where records go.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use ipnet::IpNet;
use pathflow_exporter::{ExportSettings, FieldGroups, FlowDirection, Format, UdpSettings};

use super::raw::{self, Distribution, FieldsName, FormatName, TransportName};
use super::transport::{ExportTransport, transport};
use super::{ConfigError, address, between, invalid};
use crate::capture::FilterSet;
use crate::export::{Conditions, IpVersion};
use crate::interfaces::{Direction, PatternError};

/// An Exporting Process: its collectors, and what they get.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportProcess {
    /// Collectors; at least one.
    pub collectors: Vec<SocketAddr>,
    /// Which of them gets a record.
    pub distribution: Distribution,
    /// Records that are exported.
    pub conditions: Conditions,
    /// The expression whose bit is one of the conditions; empty = none.
    pub filter: String,
    /// File with rules for tags and labels that are its own; empty = those for all.
    pub tag_map: String,
    /// One in this many packets of each record is exported.
    pub sampling_interval: NonZeroU32,
    /// How messages travel.
    pub transport: ExportTransport,
    /// Format, templates and so on.
    pub settings: ExportSettings,
    /// Whether no fields are named: those that routes fill, if there are routes.
    pub has_default_fields: bool,
    /// Source address of messages.
    pub source_address: Option<IpAddr>,
    /// Differentiated Services Codepoint of messages.
    pub dscp: u8,
    /// Time to Live or Hop Limit of messages; `None` = the system's.
    pub ttl: Option<NonZeroU8>,
    /// Records that wait for each sink at most.
    pub queue_records: usize,
    /// Records that each is sent in a second, ten times as many while its queue is half full; `None` = no
    /// limit.
    pub pace: Option<u32>,
}

/// Checks them all: first what `[export]` itself says, then the tables below it. With `has_routes`, records have the
/// fields of BGP where no fields are named. What they ask of packets is added to `filters`.
pub(super) fn processes(
    export: &raw::Export,
    has_routes: bool,
    filters: &mut FilterSet,
    look_up: &impl Fn(&str) -> Option<SocketAddr>,
) -> Result<Vec<ExportProcess>, ConfigError> {
    let mut processes = Vec::new();
    // Without collectors of its own it still has the defaults of the others, which have to be right.
    let own = process("export", export, has_routes, Conditions::default(), filters, look_up)?;
    let mut named = BTreeSet::new();
    distinct("export", &own, export, &mut named)?;
    if !own.collectors.is_empty() {
        processes.push(own);
    }
    for (number, raw) in export.process.iter().enumerate() {
        let table = format!("export.process[{number}]");
        if raw.collectors.is_empty() {
            return Err(invalid(format!("{table}.collectors"), &"[]", "it names no collector"));
        }
        let merged = raw.over(export);
        let process = process(&table, &merged, has_routes, conditions(&table, raw)?, filters, look_up)?;
        distinct(&table, &process, &merged, &mut named)?;
        processes.push(process);
    }
    Ok(processes)
}

/// What is exported to the same collector in the same format could not be told apart, here and there.
fn distinct(
    table: &str,
    process: &ExportProcess,
    raw: &raw::Export,
    named: &mut BTreeSet<(&'static str, SocketAddr)>,
) -> Result<(), ConfigError> {
    let format = process.settings.format.as_str();
    for (collector, text) in process.collectors.iter().zip(&raw.collectors) {
        // While the file is read, names stand for no address yet.
        if !collector.ip().is_unspecified() && !named.insert((format, *collector)) {
            return Err(invalid(format!("{table}.collectors"), text, format!("it gets {format} already")));
        }
    }
    Ok(())
}

fn process(
    table: &str,
    export: &raw::Export,
    has_routes: bool,
    mut conditions: Conditions,
    filters: &mut FilterSet,
    look_up: &impl Fn(&str) -> Option<SocketAddr>,
) -> Result<ExportProcess, ConfigError> {
    let key = |name: &str| format!("{table}.{name}");
    if export.mtu < ExportSettings::MIN_MTU {
        return Err(invalid(key("mtu"), &export.mtu, "it must be 576 or more"));
    }
    let (least, most) = (Duration::from_secs(1), Duration::from_hours(1));
    between(key("template_interval"), export.template_interval, least, most)?;
    if export.queue_records < 1024 {
        return Err(invalid(key("queue_records"), &export.queue_records, "it must be 1024 or more"));
    }
    if export.pace != 0 && export.pace < 1000 {
        return Err(invalid(key("pace"), &export.pace, "it must be 1000 or more, or 0"));
    }
    let Some(sampling_interval) = NonZeroU32::new(export.sampling_interval) else {
        return Err(invalid(key("sampling_interval"), &export.sampling_interval, "it must be 1 or more"));
    };
    let mut collectors = Vec::new();
    for collector in &export.collectors {
        let address = address(&key("collectors"), collector, look_up)?;
        if address.port() == 0 {
            return Err(invalid(key("collectors"), collector, "its port cannot be 0"));
        }
        collectors.push(address);
    }
    let source_address = match export.source_address.as_str() {
        "" => None,
        text => {
            Some(text.parse().map_err(|_| invalid(key("source_address"), &text, "it is not an IP address"))?)
        }
    };
    if export.dscp > UdpSettings::MAX_DSCP {
        return Err(invalid(key("dscp"), &export.dscp, "it must be from 0 to 63"));
    }
    let filter = export.filter.trim();
    if !filter.is_empty() && !collectors.is_empty() {
        let bit = filters.add(filter);
        conditions.filter = Some(bit.map_err(|error| invalid(key("filter"), &filter, error.to_string()))?);
    }
    let field_groups = field_groups(table, export, has_routes)?;
    let tag_map = export.tag_map.as_str();
    if !tag_map.is_empty() && !collectors.is_empty() && !field_groups.contains(FieldGroups::TAGS) {
        return Err(invalid(key("tag_map"), &tag_map, "it is of use only with \"tags\" in fields"));
    }
    Ok(ExportProcess {
        collectors,
        distribution: export.distribution,
        conditions,
        filter: filter.to_owned(),
        tag_map: tag_map.to_owned(),
        sampling_interval,
        transport: transport(table, export)?,
        settings: ExportSettings {
            format: export.format.into(),
            observation_domain_id: export.observation_domain_id,
            field_groups,
            template_messages: export.template_messages,
            template_interval: export.template_interval,
            mtu: export.mtu,
        },
        has_default_fields: export.fields.is_none(),
        source_address,
        dscp: export.dscp,
        ttl: NonZeroU8::new(export.ttl),
        queue_records: export.queue_records as usize,
        pace: (export.pace > 0).then_some(export.pace),
    })
}

/// Those that `export` names; every one of them has to be in its format. If it names none, those that routes fill.
fn field_groups(table: &str, export: &raw::Export, has_routes: bool) -> Result<FieldGroups, ConfigError> {
    let format = Format::from(export.format);
    let mut groups = FieldGroups::NONE;
    let Some(fields) = &export.fields else { return Ok(default_fields(format, has_routes)) };
    for name in fields {
        let group = FieldGroups::from(*name);
        if !format.carries(group) {
            let group = group.name().unwrap_or_default();
            let reason = format!("{} has no such fields", format.as_str());
            return Err(invalid(format!("{table}.fields"), &group, reason));
        }
        groups = groups.with(group);
    }
    Ok(groups)
}

/// Fields of which nobody says anything.
pub(super) fn default_fields(format: Format, has_routes: bool) -> FieldGroups {
    if has_routes && format.carries(FieldGroups::BGP) { FieldGroups::BGP } else { FieldGroups::NONE }
}

impl From<FieldsName> for FieldGroups {
    fn from(name: FieldsName) -> Self {
        match name {
            FieldsName::Bgp => Self::BGP,
            FieldsName::Communities => Self::COMMUNITIES,
            FieldsName::Tags => Self::TAGS,
            FieldsName::Mac => Self::MAC,
        }
    }
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Ipfix => Self::Ipfix,
            FormatName::NetflowV9 => Self::NetflowV9,
            FormatName::NetflowV5 => Self::NetflowV5,
        }
    }
}

fn conditions(table: &str, raw: &raw::ExportProcess) -> Result<Conditions, ConfigError> {
    let key = |name: &str| format!("{table}.{name}");
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
    let interfaces = raw.interfaces.iter().map(|text| {
        text.parse().map_err(|error: PatternError| invalid(key("interfaces"), text, error.to_string()))
    });
    let direction = match raw.direction {
        None | Some(Direction::Both) => None,
        Some(Direction::Ingress) => Some(FlowDirection::Ingress),
        Some(Direction::Egress) => Some(FlowDirection::Egress),
    };
    Ok(Conditions {
        ip_version,
        networks: networks.collect::<Result<_, _>>()?,
        protocols: raw.protocols.clone(),
        interfaces: interfaces.collect::<Result<_, _>>()?,
        direction,
        filter: None,
    })
}

impl ExportProcess {
    /// By what its rules for tags are found, if it has one collector, or several that stand in for each other: no other one has
    /// it.
    #[must_use]
    pub fn name(&self) -> String {
        self.collectors.first().map_or_else(String::new, |collector| self.name_of(*collector))
    }

    /// The same for each of its collectors that get records beside each other.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match self.distribution {
            Distribution::Failover => vec![self.name()],
            Distribution::All | Distribution::FlowHash => {
                self.collectors.iter().map(|collector| self.name_of(*collector)).collect()
            }
        }
    }

    fn name_of(&self, collector: SocketAddr) -> String {
        format!("{} to {collector}", self.settings.format.as_str())
    }
}

impl raw::ExportProcess {
    /// What holds for it: what it says itself, else what `[export]` says.
    fn over(&self, export: &raw::Export) -> raw::Export {
        let transport = self.transport.unwrap_or(export.transport);
        // What only TLS needs is not inherited by others.
        let for_tls = |own: &Option<String>, common: &str| match own {
            Some(own) => own.clone(),
            None if transport == TransportName::Tls => common.to_owned(),
            None => String::new(),
        };
        let format = self.format.unwrap_or(export.format);
        // Nor is what only other formats have.
        let is_carried = |name: &&FieldsName| Format::from(format).carries((**name).into());
        let common = |fields: &Vec<FieldsName>| fields.iter().filter(is_carried).copied().collect();
        let fields: Option<Vec<FieldsName>> =
            self.fields.clone().or_else(|| export.fields.as_ref().map(common));
        let has_tags = fields.as_ref().is_some_and(|fields| fields.contains(&FieldsName::Tags));
        let common_tag_map = |map: &String| if has_tags { map.clone() } else { String::new() };
        raw::Export {
            transport,
            fields,
            sampling_interval: self.sampling_interval.unwrap_or(export.sampling_interval),
            ca_file: for_tls(&self.ca_file, &export.ca_file),
            certificate_file: for_tls(&self.certificate_file, &export.certificate_file),
            key_file: for_tls(&self.key_file, &export.key_file),
            server_name: for_tls(&self.server_name, &export.server_name),
            collectors: self.collectors.clone(),
            format,
            distribution: self.distribution.unwrap_or(export.distribution),
            observation_domain_id: self.observation_domain_id.unwrap_or(export.observation_domain_id),
            source_address: self.source_address.clone().unwrap_or_else(|| export.source_address.clone()),
            dscp: self.dscp.unwrap_or(export.dscp),
            ttl: self.ttl.unwrap_or(export.ttl),
            mtu: self.mtu.unwrap_or(export.mtu),
            template_interval: self.template_interval.unwrap_or(export.template_interval),
            template_messages: self.template_messages.unwrap_or(export.template_messages),
            queue_records: self.queue_records.unwrap_or(export.queue_records),
            pace: self.pace.unwrap_or(export.pace),
            filter: self.filter.clone().unwrap_or_else(|| export.filter.clone()),
            tag_map: self.tag_map.clone().unwrap_or_else(|| common_tag_map(&export.tag_map)),
            stdout: export.stdout,
            process: Vec::new(),
        }
    }
}
