//! MAC addresses: EUI-48 as `02:00:5e:00:53:01`.

use std::fmt;
use std::str::FromStr;

/// A MAC address (IEEE 802 EUI-48), in the order of transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Stands for none.
    pub const UNKNOWN: Self = Self([0; 6]);
}

/// The text is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a MAC address is six hexadecimal numbers, such as 02:00:5e:00:53:01")]
pub struct MacAddressError;

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut parts = text.split(separator);
        let mut octets = [0; 6];
        for octet in &mut octets {
            let part = parts.next().ok_or(MacAddressError)?;
            let is_number = matches!(part.len(), 1 | 2) && part.bytes().all(|c| c.is_ascii_hexdigit());
            *octet = u8::from_str_radix(part, 16).ok().filter(|_| is_number).ok_or(MacAddressError)?;
        }
        if parts.next().is_some() { Err(MacAddressError) } else { Ok(Self(octets)) }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, octet) in self.0.iter().enumerate() {
            write!(f, "{}{octet:02x}", if position == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_tools_write_them() {
        let address = MacAddress([0x02, 0, 0x5e, 0, 0x53, 0x0a]);
        for text in ["02:00:5e:00:53:0a", "02-00-5E-00-53-0A", "2:0:5e:0:53:a"] {
            assert_eq!(text.parse(), Ok(address), "{text}");
        }
        assert_eq!(address.to_string(), "02:00:5e:00:53:0a");
    }

    #[test]
    fn everything_else_is_refused() {
        for text in
            ["", "02:00:5e:00:53", "02:00:5e:00:53:01:02", "02:00:5e:00:53:0g", "+2:00:5e:00:53:01", "a b"]
        {
            assert_eq!(text.parse::<MacAddress>(), Err(MacAddressError), "{text}");
        }
    }
}
