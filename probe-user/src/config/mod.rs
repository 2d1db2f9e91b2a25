//! Settings: what the operator wants, from the configuration file and the command line.
//!
//! The file's shape is in [`raw`]; every key has a default, and `pathflow.example.toml` shows them all.
//! [`Config`] is what the daemon uses: checked, with flags applied over the file.

mod aggregate;
mod bgp;
mod capture;
mod classify;
pub(crate) mod duration;
mod enrich;
mod environment;
mod error;
mod export;
mod primitive;
pub mod raw;
mod reload;
mod sflow;
mod transport;

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pathflow_common::extension::ChosenPlace;

pub use bgp::{BmpSettings, RpkiSettings};
pub use environment::Environment;
pub use error::ConfigError;
pub use export::ExportProcess;
pub(crate) use primitive::check as check_primitive;
use raw::{EgressInterface, FormatName, Raw, StdoutStyle, Tunnels};
pub use transport::ExportTransport;

use crate::aggregate::{AggregateSettings, Primitive};
use crate::bgp_output::OutputSettings;
use crate::capture::{Filter, FilterSet, TableSizes};
use crate::classify::ClassifySettings;
use crate::enrich::EnrichSettings;
use crate::interfaces::{Direction, Hook, InterfaceRules, InterfaceSettings};
use crate::metering::Timeouts;
use crate::metering::packets::{ExtensionSettings, KeySettings};
use crate::sflow::SflowSettings;

/// Checked settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Interfaces to capture on, and how.
    pub interfaces: InterfaceRules,
    /// Where output interface and next hop are from.
    pub egress_interface: EgressInterface,
    /// Whether the kernel goes on counting without the daemon.
    pub pin: bool,
    /// Length of an epoch: how often the kernel's tables are drained.
    pub drain_interval: Duration,
    /// Drain workers; `None` = one for every eight CPUs that have tables.
    pub drain_workers: Option<usize>,
    /// Sizes of the kernel's tables.
    pub sizes: TableSizes,
    /// What the key of a packet is.
    pub keys: KeySettings,
    /// Packets to account, and what else is asked of them.
    pub filters: FilterSet,
    /// The filter results that records have, a bit for each: those that exports and their tag maps ask for.
    pub record_filters: u8,
    /// When flows end.
    pub timeouts: Timeouts,
    /// Flows that the cache holds at most, all shards together.
    pub max_flows: u32,
    /// Shards of the flow cache; `None` = one for every four CPUs.
    pub shards: Option<usize>,
    /// Collectors, and what they get.
    pub processes: Vec<ExportProcess>,
    /// Records that wait for standard output at most.
    pub queue_records: usize,
    /// What is written to standard output.
    pub stdout: StdoutStyle,
    /// Where header samples and interface counters go; `None` = nowhere.
    pub sflow: Option<SflowSettings>,
    /// Sessions with routers; `None` = none.
    pub bgp: Option<pathflow_bgp::speaker::Settings>,
    /// Files of what peers have sent.
    pub bgp_output: OutputSettings,
    /// Routers that tell of their peers by BMP; `None` = none.
    pub bmp: Option<BmpSettings>,
    /// Where validated ROA payloads come from; `None` = nowhere.
    pub rpki: Option<RpkiSettings>,
    /// Socket for questions to the daemon, if there is something to ask; `None` = none.
    pub control: Option<PathBuf>,
    /// What records say beyond what packets carry.
    pub enrich: EnrichSettings,
    /// What is added up beside the flows, and where it goes.
    pub aggregates: Vec<AggregateSettings>,
    /// How applications of flows are found; `None` = no aggregate asks for them.
    pub classify: Option<ClassifySettings>,
    /// Address of the metrics page; `None` = no page.
    pub listen: Option<SocketAddr>,
    /// Least level of messages that are logged.
    pub log: String,
}

/// What the environment and the command line say over the file. Fields as the flags of `pathflow run`.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Variables; flags are over them.
    pub environment: Environment,
    /// `--interface`, in place of the file's list.
    pub interfaces: Vec<String>,
    /// `--collector`, in place of all collectors of the file.
    pub collectors: Vec<String>,
    /// `--format`.
    pub format: Option<FormatName>,
    /// `--active-timeout`.
    pub active_timeout: Option<Duration>,
    /// `--idle-timeout`.
    pub idle_timeout: Option<Duration>,
    /// `--direction`, of every interface.
    pub direction: Option<Direction>,
    /// `--hook`, of every interface.
    pub hook: Option<Hook>,
    /// `--sampling-interval`, of every interface.
    pub sampling_interval: Option<u32>,
    /// `--tunnels`.
    pub tunnels: Option<Tunnels>,
    /// `--drain-interval`.
    pub drain_interval: Option<Duration>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--json`.
    pub json: bool,
    /// Addresses that a name which has several of them keeps, whichever comes first now: those of collectors in use.
    pub in_use: Vec<SocketAddr>,
}

/// Reads a duration such as `500ms`, `60s` or `1m 30s`.
///
/// # Errors
/// With a message that says what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text)
}

/// Reads and checks a file. What it returns is as written, for [`Config::resolve`] to put flags over it.
///
/// # Errors
/// [`ConfigError`] with file, line, column and key.
pub fn read(path: &Path) -> Result<Raw, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError::Read { file: path.to_owned(), reason: error.to_string() })?;
    parse(path, &text)
}

/// Reads and checks the text of a file.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Raw, ConfigError> {
    let raw: Raw = toml::from_str(text).map_err(|error| error::syntax(path, text, &error))?;
    // Names are looked up when they are used, after flags have had their say.
    let accept = |_: &str| Some(SocketAddr::from(([0, 0, 0, 0], 1)));
    check(raw.clone(), accept).map_err(|error| error.in_file(path, text))?;
    Ok(raw)
}

impl Config {
    /// Checks the settings of a file that was [`read`] (or the defaults), with the environment and then the command line
    /// over them.
    ///
    /// # Errors
    /// [`ConfigError::Variable`], or [`ConfigError::Value`] naming the variable or flag, for the file alone has been found
    /// right.
    pub fn resolve(raw: Raw, overrides: Overrides) -> Result<Self, ConfigError> {
        let environment = overrides.environment;
        let mut raw = environment.over(raw)?;
        if !overrides.interfaces.is_empty() {
            raw.capture.interfaces = overrides.interfaces;
        }
        let has_collectors = !overrides.collectors.is_empty();
        if has_collectors {
            raw.export.collectors = overrides.collectors;
            raw.export.process.clear();
        }
        raw.export.format = overrides.format.unwrap_or(raw.export.format);
        raw.flow.active_timeout = overrides.active_timeout.unwrap_or(raw.flow.active_timeout);
        raw.flow.idle_timeout = overrides.idle_timeout.unwrap_or(raw.flow.idle_timeout);
        raw.capture.drain_interval = overrides.drain_interval.unwrap_or(raw.capture.drain_interval);
        raw.capture.direction = overrides.direction.unwrap_or(raw.capture.direction);
        raw.capture.hook = overrides.hook.unwrap_or(raw.capture.hook);
        raw.capture.sampling_interval = overrides.sampling_interval.unwrap_or(raw.capture.sampling_interval);
        raw.capture.tunnels = overrides.tunnels.unwrap_or(raw.capture.tunnels);
        for interface in &mut raw.capture.interface {
            interface.direction = interface.direction.filter(|_| overrides.direction.is_none());
            interface.hook = interface.hook.filter(|_| overrides.hook.is_none());
            interface.sampling_interval =
                interface.sampling_interval.filter(|_| overrides.sampling_interval.is_none());
        }
        raw.http.listen = overrides.listen.unwrap_or(raw.http.listen);
        if overrides.json {
            raw.export.stdout = StdoutStyle::Json;
        }
        let look_up = |text: &str| look_up(text, &overrides.in_use);
        let mut config = check(raw, look_up).map_err(|error| match error {
            // Names of hosts are looked up only now: this one is in the file.
            ConfigError::Value { ref key, .. } if key.ends_with(".collectors") && !has_collectors => error,
            error => error.of_overrides(&environment),
        })?;
        config.interfaces.forced_direction = overrides.direction;
        Ok(config)
    }

    /// Addresses of all collectors.
    pub fn collectors(&self) -> impl Iterator<Item = SocketAddr> {
        let of_sflow = self.sflow.iter().flat_map(|sflow| &sflow.collectors);
        self.processes.iter().flat_map(|process| &process.collectors).chain(of_sflow).copied()
    }

    /// What is wanted of the interface with this name.
    #[must_use]
    pub fn interface_settings(&self, name: &str) -> InterfaceSettings {
        self.interfaces.settings_of_name(name)
    }
}

fn check(raw: Raw, look_up: impl Fn(&str) -> Option<SocketAddr>) -> Result<Config, ConfigError> {
    let Raw { capture, flow, export, sflow, bgp, bmp, enrich, rpki, aggregate, control, http, log } = raw;
    let interfaces = capture::interface_rules(&capture)?;
    capture::check_vxlan_ports(&capture.vxlan_ports)?;
    between(
        "capture.drain_interval",
        capture.drain_interval,
        Duration::from_millis(100),
        Duration::from_secs(5),
    )?;
    for (key, timeout) in [
        ("flow.active_timeout", flow.active_timeout),
        ("flow.idle_timeout", flow.idle_timeout),
        ("flow.tcp_end_timeout", flow.tcp_end_timeout),
    ] {
        between(key, timeout, Duration::from_millis(100), Duration::from_hours(24 * 7))?;
    }
    for (key, slots) in
        [("capture.ipv4_slots", capture.ipv4_slots), ("capture.ipv6_slots", capture.ipv6_slots)]
    {
        if !slots.is_power_of_two() || !(64..=1 << 24).contains(&slots) {
            return Err(invalid(key, &slots, "it must be a power of two from 64 to 16777216"));
        }
    }
    if !(64..=1 << 20).contains(&capture.spill_slots) {
        return Err(invalid("capture.spill_slots", &capture.spill_slots, "it must be from 64 to 1048576"));
    }
    let required = match capture.filter.trim() {
        "" => None,
        expression => Some(
            Filter::compile(expression)
                .map_err(|error| invalid("capture.filter", &expression, error.to_string()))?,
        ),
    };
    if !(1..=1 << 28).contains(&flow.max_flows) {
        return Err(invalid("flow.max_flows", &flow.max_flows, "it must be from 1 to 268435456"));
    }
    if flow.shards > 256 {
        return Err(invalid("flow.shards", &flow.shards, "it must be at most 256"));
    }
    if capture.drain_workers > 256 {
        return Err(invalid("capture.drain_workers", &capture.drain_workers, "it must be at most 256"));
    }
    let mut filters = FilterSet::new(required);
    let sflow = sflow::settings(&sflow, &interfaces, &look_up)?;
    let rpki = bgp::rpki(&rpki)?;
    let bmp = bgp::bmp(&bmp)?;
    let bgp_output = bgp::output(&bgp)?;
    let bgp = bgp::settings(&bgp)?;
    let has_routes = bgp.is_some() || bmp.is_some() || !enrich.networks_file.is_empty();
    let processes = export::processes(&export, has_routes, &mut filters, &look_up)?;
    let custom = primitive::settings(&capture.primitive, &aggregate)?;
    let aggregates =
        aggregate::settings(&aggregate, &custom.primitives, capture.drain_interval, &mut filters)?;
    let classify = classify::settings(&capture.classify, &aggregates)?;
    let extension = extension(&aggregates, custom.places, capture.tunnels)?;
    aggregate::check_stdout(&aggregates, export.stdout)?;
    let agents = processes.iter().filter_map(|process| process.source_address);
    let agents = agents.chain(sflow.iter().filter_map(|sflow| sflow.agent_address)).collect::<Vec<_>>();
    // Last, because it can do without some of its filters.
    let own = enrich::own_tag_maps(&aggregate, &processes, !export.collectors.is_empty());
    let enrich = enrich::settings(&enrich, &own, &agents, &mut filters)?;
    let of_exports = processes.iter().filter_map(|process| process.conditions.filter);
    let record_filters = of_exports.fold(enrich.record_filter_bits(), |filters, bit| filters | 1 << bit);
    let listen = match http.listen.as_str() {
        "" => None,
        text => Some(address("http.listen", text, &look_up)?),
    };
    if !["error", "warn", "info", "debug", "trace"].contains(&log.level.as_str()) {
        return Err(invalid("log.level", &log.level, "it must be error, warn, info, debug or trace"));
    }
    Ok(Config {
        interfaces,
        egress_interface: capture.egress_interface,
        pin: capture.pin,
        drain_interval: capture.drain_interval,
        drain_workers: (capture.drain_workers > 0).then_some(capture.drain_workers as usize),
        sizes: TableSizes {
            ipv4_slots: capture.ipv4_slots,
            ipv6_slots: capture.ipv6_slots,
            spill_slots: capture.spill_slots,
        },
        keys: KeySettings {
            inner: capture.tunnels == Tunnels::Inner,
            vxlan_ports: capture.vxlan_ports,
            vlan_priority: aggregates
                .iter()
                .any(|aggregate| aggregate.key.primitives.contains(&Primitive::Cos)),
            extension,
        },
        filters,
        record_filters,
        timeouts: Timeouts {
            active: flow.active_timeout,
            idle: flow.idle_timeout,
            tcp_end: flow.tcp_end_timeout,
        },
        max_flows: flow.max_flows,
        shards: (flow.shards > 0).then_some(flow.shards as usize),
        processes,
        queue_records: export.queue_records as usize,
        stdout: export.stdout,
        sflow,
        bgp,
        bgp_output,
        bmp,
        rpki,
        control: (!control.socket.is_empty()).then(|| PathBuf::from(&control.socket)),
        enrich,
        aggregates,
        classify,
        listen,
        log: log.level,
    })
}

/// What keys have beyond their words, for the primitives of aggregates.
fn extension(
    aggregates: &[AggregateSettings],
    chosen: Vec<ChosenPlace>,
    tunnels: Tunnels,
) -> Result<ExtensionSettings, ConfigError> {
    let asked_for = || {
        aggregates.iter().flat_map(|aggregate| {
            aggregate.key.primitives.iter().map(|primitive| (aggregate.name.as_str(), *primitive))
        })
    };
    let of_tunnel = asked_for().find(|(_, primitive)| primitive.is_of_tunnel());
    if let (Tunnels::Inner, Some((name, primitive))) = (tunnels, of_tunnel) {
        let own = primitive.name().trim_start_matches("tunnel_");
        let reason = format!(
            "aggregate {name} has {primitive} in its key, and with \"inner\" the packet inside is the flow's own: use \
             {own}, or \"outer\""
        );
        return Err(invalid("capture.tunnels", &"inner", reason));
    }
    let has_vxlan = asked_for().any(|(_, primitive)| primitive == Primitive::Vxlan);
    Ok(ExtensionSettings {
        inner: tunnels == Tunnels::Outer && (of_tunnel.is_some() || has_vxlan),
        labels: asked_for().any(|(_, primitive)| primitive.is_of_label_stack()),
        chosen,
    })
}

fn between(
    key: impl Into<String>,
    value: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let (value, least, most) = (duration::text(value), duration::text(least), duration::text(most));
    Err(invalid(key, &value, format!("it must be from {least} to {most}")))
}

/// An address with a port, or a name with one that `look_up` finds the address of.
fn address(
    key: &str,
    text: &str,
    look_up: &impl Fn(&str) -> Option<SocketAddr>,
) -> Result<SocketAddr, ConfigError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(invalid(key, &text, "it needs a port: HOST:PORT"));
    };
    if host.contains('/') {
        return Err(invalid(
            key,
            &text,
            "it is HOST:PORT and nothing else; what is spoken there is another setting",
        ));
    }
    match port.parse::<u16>() {
        Err(_) => Err(invalid(key, &text, "its port is not a number from 0 to 65535")),
        Ok(0) if key.ends_with("collectors") => Err(invalid(key, &text, "its port cannot be 0")),
        Ok(_) => look_up(text).ok_or_else(|| {
            let reason = "its host cannot be resolved".to_owned();
            let (place, key, value) = (key.to_owned(), key.to_owned(), text.to_owned());
            ConfigError::Value { place, key, value, reason, may_pass: true }
        }),
    }
}

fn look_up(text: &str, in_use: &[SocketAddr]) -> Option<SocketAddr> {
    let addresses: Vec<SocketAddr> = text.to_socket_addrs().ok()?.collect();
    let used = addresses.iter().find(|address| in_use.contains(address));
    used.or(addresses.first()).copied()
}

fn invalid(key: impl Into<String>, value: &dyn std::fmt::Display, reason: impl Into<String>) -> ConfigError {
    let key = key.into();
    let (value, reason) = (value.to_string(), reason.into());
    ConfigError::Value { place: key.clone(), key, value, reason, may_pass: false }
}

#[cfg(test)]
mod tests;
