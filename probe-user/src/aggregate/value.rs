//! What a primitive says in one row.

use std::net::IpAddr;

use pathflow_exporter::{BgpRoute, FlowDirection, OriginValidation};

/// A value of a row. What it stands for depends on the primitive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A number; 0 where nothing is known.
    Number(u64),
    /// Degrees of latitude or longitude; `None` = unknown.
    Degrees(Option<f64>),
    /// A text; empty where nothing is known.
    Text(&'a str),
    /// An IP address, or that of a network.
    Address(Option<IpAddr>),
    /// A MAC address in the order of transmission; zero = unknown.
    Mac([u8; 6]),
    /// An IP protocol number.
    Protocol(u8),
    /// An Ethertype.
    EtherType(u16),
    /// TCP flags, FIN being bit 0.
    TcpFlags(u8),
    /// State of origin validation; `None` = not asked.
    Roa(Option<OriginValidation>),
    /// A route of which the primitive names the part: AS path or communities. `None` = that part is empty or there is no
    /// route.
    Path(Option<&'a BgpRoute>),
    /// Microseconds since the Unix epoch; `None` = unknown.
    Time(Option<u64>),
    /// Direction at the interface where packets were counted.
    Direction(FlowDirection),
}
