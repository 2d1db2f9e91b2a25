//! `[capture]` and `[[capture.interface]]`: which interfaces, and how each of them.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Serialize;

use super::raw::{Capture, CaptureInterface};
use super::{ConfigError, invalid};
use crate::interfaces::{
    Direction, Hook, InterfaceOverride, InterfaceRules, InterfaceSettings, InterfacesMap, MacAddressError,
    Mode, PatternError, Sampling, Selection,
};

/// UDP ports of VXLAN that the kernel program can know at most.
const MAX_VXLAN_PORTS: usize = pathflow_common::layout::VXLAN_PORTS;

/// Checks what is said of interfaces, and reads the file with the operator's numbers.
pub(super) fn interface_rules(capture: &Capture) -> Result<InterfaceRules, ConfigError> {
    let map = match capture.interfaces_map.as_str() {
        "" => InterfacesMap::default(),
        file => InterfacesMap::read(Path::new(file))?,
    };
    within("capture.sampling_interval", capture.sampling_interval, &InterfaceSettings::INTERVALS)?;
    let header_sampling_interval =
        header_interval("capture.header_sampling_interval", capture.header_sampling_interval)?;
    let base = InterfaceSettings {
        mode: Mode::Flow,
        direction: capture.direction,
        egress_packets: capture.egress_packets,
        hook: capture.hook,
        sampling: Sampling { interval: capture.sampling_interval, method: capture.sampling },
        header_sampling_interval,
        ..InterfaceSettings::default()
    };
    let numbered = capture.interface.iter().enumerate();
    let overrides = numbered
        .map(|(number, interface)| interface_override(number, interface))
        .collect::<Result<_, _>>()?;
    Ok(InterfaceRules {
        selection: selection(&capture.interfaces, &map)?,
        wait: capture.wait_for_interfaces,
        base,
        overrides,
        map,
        forced_direction: None,
    })
}

/// The list, or without one the interfaces of the map.
fn selection(entries: &[String], map: &InterfacesMap) -> Result<Selection, ConfigError> {
    let key = "capture.interfaces";
    let mut selection = Selection::default();
    let mut seen = BTreeSet::new();
    for entry in entries {
        selection.add(entry).map_err(|error| invalid(key, entry, error.to_string()))?;
        if !seen.insert(entry) {
            return Err(invalid(key, entry, "it is named twice"));
        }
    }
    if selection.only_excludes() {
        let reason = "it only says what not to capture; add what to capture, such as \"physical\"";
        return Err(invalid(key, &selection, reason));
    }
    if selection.is_empty() {
        for name in map.names() {
            selection
                .add(name)
                .map_err(|error| invalid("capture.interfaces_map", &name, error.to_string()))?;
        }
    }
    Ok(selection)
}

/// Checks one `[[capture.interface]]`.
fn interface_override(number: usize, raw: &CaptureInterface) -> Result<InterfaceOverride, ConfigError> {
    let key = |name: &str| format!("capture.interface[{number}].{name}");
    let name =
        raw.name.parse().map_err(|error: PatternError| invalid(key("name"), &raw.name, error.to_string()))?;
    if let Some(interval) = raw.sampling_interval {
        within(key("sampling_interval"), interval, &InterfaceSettings::INTERVALS)?;
    }
    if let Some(interval) = raw.header_sampling_interval {
        header_interval(key("header_sampling_interval"), interval)?;
    }
    if let Some(index) = raw.index {
        within(key("index"), index, &InterfaceSettings::INDEXES)?;
    }
    match raw.mode {
        Mode::Mirror => check_mirror(raw, key)?,
        Mode::Flow => {
            let reason = "it has a meaning only with mode = \"mirror\"";
            if raw.i_know_this_steals {
                return Err(invalid(key("i_know_this_steals"), &true, reason));
            }
            if let Some(address) = raw.router_macs.first() {
                return Err(invalid(key("router_macs"), address, reason));
            }
        }
    }
    let mut router_macs = Vec::new();
    for text in &raw.router_macs {
        let address = text
            .parse()
            .map_err(|error: MacAddressError| invalid(key("router_macs"), text, error.to_string()))?;
        router_macs.push(address);
    }
    Ok(InterfaceOverride {
        name,
        mode: raw.mode,
        direction: raw.direction,
        egress_packets: raw.egress_packets,
        hook: raw.hook,
        sampling_interval: raw.sampling_interval,
        sampling_method: raw.sampling,
        header_sampling_interval: raw.header_sampling_interval,
        index: raw.index,
        i_know_this_steals: raw.i_know_this_steals,
        router_macs,
    })
}

/// A mirror port only receives, its packets go to user space by XDP, and there all of them are counted.
fn check_mirror(raw: &CaptureInterface, key: impl Fn(&str) -> String) -> Result<(), ConfigError> {
    let refuse = |name: &str, value: String, reason: &str| {
        Err(invalid(key(name), &value, format!("with mode = \"mirror\" {reason}")))
    };
    if let Some(direction) = raw.direction
        && direction != Direction::Ingress
    {
        return refuse("direction", word(&direction), "packets only come in");
    }
    if let Some(packets) = raw.egress_packets {
        return refuse("egress_packets", word(&packets), "packets only come in");
    }
    if raw.hook == Some(Hook::Tc) {
        return refuse("hook", word(&Hook::Tc), "packets are taken by XDP");
    }
    let reason = "every packet reaches user space and is counted";
    if let Some(interval) = raw.sampling_interval
        && interval != 1
    {
        return refuse("sampling_interval", interval.to_string(), reason);
    }
    match raw.sampling {
        Some(method) => refuse("sampling", word(&method), reason),
        None => Ok(()),
    }
}

/// A value of a few as it is written in the file.
fn word(value: &impl Serialize) -> String {
    toml::Value::try_from(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn header_interval(key: impl Into<String>, interval: u32) -> Result<Option<u32>, ConfigError> {
    if interval == 0 {
        return Ok(None);
    }
    within(key, interval, &InterfaceSettings::INTERVALS).map(|()| Some(interval))
}

fn within(key: impl Into<String>, value: u32, range: &RangeInclusive<u32>) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(invalid(key, &value, format!("it must be from {} to {}", range.start(), range.end())))
}

/// Checks the UDP ports of VXLAN.
pub(super) fn check_vxlan_ports(ports: &[u16]) -> Result<(), ConfigError> {
    let key = "capture.vxlan_ports";
    if ports.len() > MAX_VXLAN_PORTS {
        return Err(invalid(key, &ports.len(), format!("there can be {MAX_VXLAN_PORTS} ports at most")));
    }
    let mut seen = BTreeSet::new();
    for port in ports {
        if *port == 0 {
            return Err(invalid(key, port, "a port cannot be 0"));
        }
        if !seen.insert(port) {
            return Err(invalid(key, port, "it is named twice"));
        }
    }
    Ok(())
}
