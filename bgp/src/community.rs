//! Communities as text, as pmacct and routers write them.

use std::fmt;
use std::net::Ipv4Addr;

/// A community (RFC 1997): `AS:VALUE`, or its name if it is one of those that RFC 1997 names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Community(pub u32);

impl Community {
    /// The name, if it is one of those that RFC 1997 names.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self.0 {
            0 => Some("internet"),
            0xffff_ff01 => Some("no-export"),
            0xffff_ff02 => Some("no-advertise"),
            0xffff_ff03 => Some("local-AS"),
            _ => None,
        }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

/// An extended community (RFC 4360): Route Targets as `RT:ADMINISTRATOR:NUMBER` and Route Origins as
/// `SoO:ADMINISTRATOR:NUMBER`, whether or not they are transitive; others as their octets, `0x4300000000000001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// The bit of the type that says that a community is not transitive (RFC 4360, section 2).
const NON_TRANSITIVE: u8 = 0x40;

impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, subtype, value @ ..] = self.0;
        let [v0, v1, v2, v3, v4, v5] = value;
        let name = match subtype {
            2 => "RT",
            3 => "SoO",
            _ => return self.octets(formatter),
        };
        match kind & !NON_TRANSITIVE {
            0 => {
                let number = u32::from_be_bytes([v2, v3, v4, v5]);
                write!(formatter, "{name}:{}:{number}", u16::from_be_bytes([v0, v1]))
            }
            1 => {
                let number = u16::from_be_bytes([v4, v5]);
                write!(formatter, "{name}:{}:{number}", Ipv4Addr::new(v0, v1, v2, v3))
            }
            2 => {
                let number = u16::from_be_bytes([v4, v5]);
                write!(formatter, "{name}:{}:{number}", u32::from_be_bytes([v0, v1, v2, v3]))
            }
            _ => self.octets(formatter),
        }
    }
}

impl ExtendedCommunity {
    fn octets(self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "0x{:016x}", u64::from_be_bytes(self.0))
    }
}

/// A large community (RFC 8092): `GLOBAL:FIRST:SECOND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeCommunity(pub [u32; 3]);

impl fmt::Display for LargeCommunity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [global, first, second] = self.0;
        write!(formatter, "{global}:{first}:{second}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_read_as_pmacct_writes_them() {
        let text = |number| Community(number).to_string();
        assert_eq!(text(0x1b1b_0064), "6939:100");
        assert_eq!(
            [0, 0xffff_ff01, 0xffff_ff02, 0xffff_ff03].map(text),
            ["internet", "no-export", "no-advertise", "local-AS"]
        );
        assert_eq!(text(0xffff_029a), "65535:666");
        let text = |octets: u64| ExtendedCommunity(octets.to_be_bytes()).to_string();
        assert_eq!(text(0x0002_fde8_0000_0064), "RT:65000:100");
        assert_eq!(text(0x0003_fde8_0000_0007), "SoO:65000:7");
        assert_eq!(text(0x0102_0304_0506_0708), "RT:3.4.5.6:1800");
        assert_eq!(text(0x0202_0001_1170_0003), "RT:70000:3");
        // Origin validation state (RFC 8097).
        assert_eq!(text(0x4300_0000_0000_0001), "0x4300000000000001");
        assert_eq!(LargeCommunity([397_143, 1, 2]).to_string(), "397143:1:2");
    }
}
