//! What a route is for: Network Layer Reachability Information (RFC 4271, section 4.3; RFC 4760, section 5).

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::IpNet;

/// One route's destination as a peer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nlri {
    /// Route Distinguisher (RFC 4364, section 4.2); `None` outside VPN families.
    pub route_distinguisher: Option<RouteDistinguisher>,
    /// The prefix, its host bits zero.
    pub prefix: IpNet,
    /// Path Identifier (RFC 7911); 0 on a session without ADD-PATH.
    pub path_id: u32,
    /// The outermost MPLS label with its traffic class and bottom-of-stack bit, as on the wire (three octets,
    /// RFC 8277, section 2); `None` outside labelled families and in withdrawals. Not a part of the route's identity.
    pub label: Option<MplsLabel>,
}

/// Label (20 bits), TC (3) and S (1) as on the wire (RFC 8277, section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MplsLabel(pub [u8; 3]);

impl MplsLabel {
    /// The label itself, 20 bits.
    #[must_use]
    pub fn value(self) -> u32 {
        let [high, middle, low] = self.0;
        u32::from_be_bytes([0, high, middle, low]) >> 4
    }
}

/// Route Distinguisher: type (two octets) and value (six), in network byte order (RFC 4364, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteDistinguisher(pub [u8; 8]);

impl fmt::Display for RouteDistinguisher {
    /// `TYPE:ADMINISTRATOR:NUMBER`, as pmacct writes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [t0, t1, value @ ..] = self.0;
        let [v0, v1, v2, v3, v4, v5] = value;
        match u16::from_be_bytes([t0, t1]) {
            0 => {
                let number = u32::from_be_bytes([v2, v3, v4, v5]);
                write!(formatter, "0:{}:{number}", u16::from_be_bytes([v0, v1]))
            }
            1 => {
                let number = u16::from_be_bytes([v4, v5]);
                write!(formatter, "1:{}:{number}", Ipv4Addr::new(v0, v1, v2, v3))
            }
            2 => {
                let number = u16::from_be_bytes([v4, v5]);
                write!(formatter, "2:{}:{number}", u32::from_be_bytes([v0, v1, v2, v3]))
            }
            other => {
                write!(formatter, "{other}:")?;
                value.iter().try_for_each(|octet| write!(formatter, "{octet:02x}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_route_distinguishers_read_as_the_rfcs_lay_them_out() {
        // Label 24001, TC 0, bottom of stack.
        assert_eq!(MplsLabel([0x05, 0xdc, 0x11]).value(), 24_001);
        let text = |octets| RouteDistinguisher(octets).to_string();
        assert_eq!(text([0, 0, 0xfd, 0xe8, 0, 0, 0, 100]), "0:65000:100");
        assert_eq!(text([0, 1, 192, 0, 2, 1, 0, 7]), "1:192.0.2.1:7");
        assert_eq!(text([0, 2, 0, 1, 0, 0, 0, 5]), "2:65536:5");
    }
}
