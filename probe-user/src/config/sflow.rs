//! `[sflow]`, checked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pathflow_exporter::sflow::DEFAULT_PORT;

use super::error::ConfigError;
use super::raw::Sflow;
use super::{address, between, invalid};
use crate::interfaces::InterfaceRules;
use crate::sflow::SflowSettings;

/// Checks the section; `None` without a collector.
pub(super) fn settings(
    raw: &Sflow,
    interfaces: &InterfaceRules,
    look_up: &impl Fn(&str) -> Option<SocketAddr>,
) -> Result<Option<SflowSettings>, ConfigError> {
    between("sflow.counter_interval", raw.counter_interval, Duration::from_secs(1), Duration::from_hours(1))?;
    let agent_address = own_address("sflow.agent_address", &raw.agent_address)?;
    let source_address = own_address("sflow.source_address", &raw.source_address)?;
    let mut collectors = Vec::new();
    for collector in &raw.collectors {
        let address = address("sflow.collectors", &with_port(collector), look_up)?;
        if address.port() == 0 {
            return Err(invalid("sflow.collectors", collector, "its port cannot be 0"));
        }
        collectors.push(address);
    }
    if collectors.is_empty() {
        return Ok(None);
    }
    let of_some = interfaces.overrides.iter().any(|over| over.header_sampling_interval.unwrap_or(0) > 0);
    if interfaces.base.header_sampling_interval.is_none() && !of_some {
        let reason = "sflow.collectors need header samples: it must be 1 or more, here or of an interface";
        return Err(invalid("capture.header_sampling_interval", &0, reason));
    }
    Ok(Some(SflowSettings {
        collectors,
        agent_address,
        sub_agent_id: raw.sub_agent_id,
        counter_interval: raw.counter_interval,
        source_address,
    }))
}

fn own_address(key: &'static str, text: &str) -> Result<Option<IpAddr>, ConfigError> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| invalid(key, &text, "it is not an IP address")),
    }
}

/// Adds the usual port to a host that has none.
fn with_port(collector: &str) -> String {
    match collector.parse() {
        Ok(address) => SocketAddr::new(address, DEFAULT_PORT).to_string(),
        Err(_) if !collector.contains(':') || collector.ends_with(']') => {
            format!("{collector}:{DEFAULT_PORT}")
        }
        Err(_) => collector.to_owned(),
    }
}
