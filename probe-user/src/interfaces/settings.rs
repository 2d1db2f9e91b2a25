//! What the operator wants of each interface.

use std::ops::RangeInclusive;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::inventory::Interface;
use super::mac::MacAddress;
use super::map::{InterfacesMap, MapEntry};
use super::pattern::{NamePattern, Selection, SelectionError};

/// How packets are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// In the kernel; the packets go their way.
    #[default]
    Flow,
    /// By AF_XDP in user space; the packets end here. For the copies that a mirror port receives.
    Mirror,
}

/// Which packets are counted, by the way they go through the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Those that come in
    #[default]
    Ingress,
    /// Those that go out
    Egress,
    /// All, each direction in flows of its own
    Both,
}

/// Which of the packets that go out are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EgressPackets {
    /// All.
    #[default]
    All,
    /// Those of this machine itself, not those that it forwards.
    LocallyOriginated,
}

/// Where the kernel program is attached for packets that come in. For those that go out it is always tc.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Native XDP, or else tc
    #[default]
    Auto,
    /// Native XDP
    Xdp,
    /// tc
    Tc,
    /// Generic XDP, which counts merged packets as one
    Generic,
}

/// How packets are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SamplingMethod {
    /// At random, 1 in N on average.
    #[default]
    Random,
    /// Every Nth.
    Deterministic,
}

/// Sampling of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// One packet in this many is counted; 1 = every packet.
    pub interval: u32,
    /// How it is chosen.
    pub method: SamplingMethod,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { interval: 1, method: SamplingMethod::default() }
    }
}

/// What is wanted of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceSettings {
    /// How packets are counted.
    pub mode: Mode,
    /// Which packets.
    pub direction: Direction,
    /// Which of those that go out.
    pub egress_packets: EgressPackets,
    /// Where those that come in are counted.
    pub hook: Hook,
    /// How many of them.
    pub sampling: Sampling,
    /// One packet in this many has its header copied; `None` = no packet.
    pub header_sampling_interval: Option<u32>,
    /// Number to report in place of the kernel's index.
    pub index: Option<u32>,
    /// Mirror mode although the interface looks as if it were in use.
    pub i_know_this_steals: bool,
    /// MAC addresses of the router whose packets are mirrored: they tell which way a packet went.
    pub router_macs: Vec<MacAddress>,
}

impl InterfaceSettings {
    /// Possible interface numbers: those of SNMP's `InterfaceIndex` (RFC 2863 section 6).
    pub const INDEXES: RangeInclusive<u32> = 1..=0x7fff_ffff;
    /// Possible sampling intervals.
    pub const INTERVALS: RangeInclusive<u32> = 1..=0x00ff_ffff;

    /// Whether the same attachment serves both: what differs can be changed while packets are counted.
    #[must_use]
    pub fn is_attached_as(&self, other: &Self) -> bool {
        let attachment =
            |settings: &Self| (settings.mode, settings.direction, settings.egress_packets, settings.hook);
        attachment(self) == attachment(other)
            && self.i_know_this_steals == other.i_know_this_steals
            && self.router_macs == other.router_macs
    }
}

/// What differs from [`InterfaceSettings`] for the interfaces that a pattern means; `None` = nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceOverride {
    /// The interfaces.
    pub name: NamePattern,
    /// How packets are counted.
    pub mode: Mode,
    /// Which packets.
    pub direction: Option<Direction>,
    /// Which of those that go out.
    pub egress_packets: Option<EgressPackets>,
    /// Where those that come in are counted.
    pub hook: Option<Hook>,
    /// One packet in this many is counted.
    pub sampling_interval: Option<u32>,
    /// How it is chosen.
    pub sampling_method: Option<SamplingMethod>,
    /// One packet in this many has its header copied; 0 = no packet.
    pub header_sampling_interval: Option<u32>,
    /// Number to report.
    pub index: Option<u32>,
    /// Mirror mode although the interface looks as if it were in use.
    pub i_know_this_steals: bool,
    /// MAC addresses of the router whose packets are mirrored.
    pub router_macs: Vec<MacAddress>,
}

/// Which interfaces are captured, and how each of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceRules {
    /// Which.
    pub selection: Selection,
    /// Whether it is fine that some, or all, are not there yet.
    pub wait: bool,
    /// How, if nothing else is said.
    pub base: InterfaceSettings,
    /// What differs; the first that means an interface counts.
    pub overrides: Vec<InterfaceOverride>,
    /// The operator's numbers. Less than what `overrides` say, more than `base`.
    pub map: InterfacesMap,
    /// Direction of every interface, whatever else is said.
    pub forced_direction: Option<Direction>,
}

impl InterfaceRules {
    /// The interfaces to begin with.
    ///
    /// # Errors
    /// [`SelectionError`] if one that was named is missing, or all, unless that is fine.
    pub fn find(&self, present: &[Interface]) -> Result<Vec<Interface>, SelectionError> {
        match self.selection.find(present) {
            Err(_) if self.wait => {
                Ok(present.iter().filter(|interface| self.selection.matches(interface)).cloned().collect())
            }
            other => other,
        }
    }

    /// Whether no interface but `found` will ever be wanted, unless one is made anew.
    #[must_use]
    pub fn is_settled(&self, found: &[Interface]) -> bool {
        !self.wait && self.selection.names_only() && !found.is_empty()
    }

    /// What is wanted of `interface`.
    #[must_use]
    pub fn settings(&self, interface: &Interface) -> InterfaceSettings {
        let found = self.overrides.iter().find(|over| over.name.matches(interface));
        self.resolve(found, self.map.find(interface))
    }

    /// What is wanted of the interface with this name.
    #[must_use]
    pub fn settings_of_name(&self, name: &str) -> InterfaceSettings {
        let found = self.overrides.iter().find(|over| over.name.matches_name(name));
        self.resolve(found, self.map.get(name))
    }

    fn resolve(&self, over: Option<&InterfaceOverride>, entry: Option<MapEntry>) -> InterfaceSettings {
        let mut settings = self.base.clone();
        if let Some(entry) = entry {
            settings.index = entry.index;
            settings.direction = entry.direction.unwrap_or(settings.direction);
        }
        if let Some(over) = over {
            if over.mode == Mode::Mirror {
                // What was said of interfaces in general is not about mirror ports: those receive only, by
                // AF_XDP, and every packet reaches user space.
                settings = InterfaceSettings {
                    mode: Mode::Mirror,
                    header_sampling_interval: settings.header_sampling_interval,
                    index: settings.index,
                    ..InterfaceSettings::default()
                };
            }
            settings.direction = over.direction.unwrap_or(settings.direction);
            settings.egress_packets = over.egress_packets.unwrap_or(settings.egress_packets);
            settings.hook = over.hook.unwrap_or(settings.hook);
            settings.sampling.interval = over.sampling_interval.unwrap_or(settings.sampling.interval);
            settings.sampling.method = over.sampling_method.unwrap_or(settings.sampling.method);
            if let Some(interval) = over.header_sampling_interval {
                settings.header_sampling_interval = Some(interval).filter(|interval| *interval > 0);
            }
            settings.index = over.index.or(settings.index);
            settings.i_know_this_steals = over.i_know_this_steals;
            settings.router_macs.clone_from(&over.router_macs);
        }
        if settings.mode == Mode::Flow {
            settings.direction = self.forced_direction.unwrap_or(settings.direction);
        }
        settings
    }
}
