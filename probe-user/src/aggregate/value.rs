//! What a primitive says in one row.

use std::net::IpAddr;
use std::sync::Arc;

use pathflow_exporter::{BgpRoute, FlowDirection, OriginValidation};

use super::custom::CustomValue;

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
    /// A part of a route: AS path or communities, as the primitive says. `None` = that part is empty or there is no
    /// route.
    Path(Option<RouteValue<'a>>),
    /// Microseconds since the Unix epoch; `None` = unknown.
    Time(Option<u64>),
    /// Labels of an MPLS stack from the top, three octets each in network byte order.
    Labels(&'a [[u8; 3]]),
    /// Octets of the operator's choice.
    Custom(CustomValue<'a>),
    /// Direction at the interface where packets were counted.
    Direction(FlowDirection),
}

/// A part of a route.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RouteValue<'a> {
    /// A route that has this part.
    pub route: &'a Arc<BgpRoute>,
    /// Number of the part in its purge, from 1. Parts of the same content have the same number.
    pub number: u32,
}
