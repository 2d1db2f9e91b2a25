//! sFlow version 5 Agent (sflow.org, "sFlow Version 5", July 2004): flow samples and counter samples over UDP.
//!
//! An [`Agent`] takes sampled headers ([`FlowSample`]) and interface counters ([`InterfaceCounters`]) and sends
//! them to one collector, in datagrams as full as the path allows. It accounts for every sample
//! ([`SampleAccount`]). Like the rest of the crate it starts no thread and reads no clock.
//!
//! How the choices of the standard are made:
//! - A data source is an interface (`0:ifIndex`). Sequence numbers are counted for each data source, of flow
//!   samples and of counter samples apart.
//! - Flow and counter samples have the compact form. Only if the ifIndex of the data source is 2^24 or more, or
//!   one of input and output does not fit 30 bits, the sample has the expanded form (formats 3 and 4).
//! - The `frame_length` of an Ethernet frame counts the four octets of the frame check sequence, which the
//!   standard asks for and no capture sees, and `stripped` says that they are not in the header. Of a packet
//!   without a link header (`header_protocol` 11 or 12) it is the packet's length, and nothing is stripped.
//! - Counters that Linux does not have are sent as "not available": all bits set.
//! - A datagram that could not be sent uses up a sequence number, as its samples do: the collector sees the gap.

mod account;
mod agent;
mod counters;
mod encode;
mod sample;
mod schedule;
mod xdr;

pub use account::{SampleAccount, SampleTally};
pub use agent::{Agent, AgentCounts, AgentSettings, AgentSettingsError};
pub use counters::{InterfaceCounters, InterfaceDirection, InterfaceStatus};
pub use sample::{
    AsPathSegment, ExtendedGateway, ExtendedRouter, ExtendedSwitch, FlowSample, HeaderProtocol,
    SampledInterface,
};
pub use schedule::CounterSchedule;

/// The port that collectors listen on (IANA "sflow").
pub const DEFAULT_PORT: u16 = 6343;
