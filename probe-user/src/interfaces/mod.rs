//! Interfaces as a router has them: listed and followed by rtnetlink, chosen by name, glob or kind.
//!
//! [`Monitor`] follows the interfaces of this network namespace and sends a [`Snapshot`] when something has
//! changed. [`Plan`] compares it with what is captured and says what to start, stop or rename by the
//! operator's [`InterfaceRules`]. [`NameTable`] keeps numbers, names and descriptions for the records.

mod counters;
mod inventory;
mod mac;
mod map;
mod monitor;
mod names;
mod pattern;
mod plan;
mod question;
mod routes;
mod rtnetlink;
mod settings;

pub use counters::{CounterQuery, LinkCounters};
pub use inventory::{AttachedXdp, Interface, LinkState, XdpMode, interfaces, overlaps, xdp_program_id};
pub use mac::{MacAddress, MacAddressError};
pub use map::{InterfacesMap, InterfacesMapError, MapEntry};
pub use monitor::{Monitor, Snapshot};
pub use names::{InterfaceNames, NameTable, NamedInterface};
pub use pattern::{NamePattern, PatternError, Selection, SelectionError};
pub use plan::{Action, Plan, StopReason};
pub use routes::{KernelRoute, RouteQuery, RoutedPacket};
pub use settings::{
    Direction, EgressPackets, Hook, InterfaceOverride, InterfaceRules, InterfaceSettings, Mode, Sampling,
    SamplingMethod,
};
