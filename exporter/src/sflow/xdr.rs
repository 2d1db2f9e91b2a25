//! External Data Representation (RFC 4506): big endian, everything a multiple of four octets.

use std::net::{IpAddr, Ipv4Addr};

/// Octets of a frame that go into a sample at most; more would not fit a datagram.
pub(super) const MAX_OPAQUE: usize = 512;

/// Writes to the end of a buffer that is used again and again, so that it allocates only until it is as large
/// as the largest datagram.
pub(super) trait Xdr {
    /// Unsigned integer.
    fn u32(&mut self, value: u32);
    /// Unsigned hyper integer.
    fn u64(&mut self, value: u64);
    /// Variable-length opaque data: length, octets, padding with zeros.
    fn opaque(&mut self, octets: &[u8]);
    /// The standard's `address`: 1 = IPv4, 2 = IPv6; 0 = unknown, without octets.
    fn address(&mut self, address: Option<IpAddr>);
    /// A structure of a `data_format` of the standard (enterprise 0), in opaque data.
    fn structure(&mut self, format: u32, write: impl FnOnce(&mut Self));
}

impl Xdr for Vec<u8> {
    fn u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn opaque(&mut self, octets: &[u8]) {
        self.u32(octets.len() as u32);
        self.extend_from_slice(octets);
        self.resize(self.len() + octets.len().next_multiple_of(4) - octets.len(), 0);
    }

    /// An unknown address is 0.0.0.0. There is a type for it, but `sfcapd` gives a datagram up in which it stands.
    fn address(&mut self, address: Option<IpAddr>) {
        match address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) {
            IpAddr::V4(address) => {
                self.u32(1);
                self.extend_from_slice(&address.octets());
            }
            IpAddr::V6(address) => {
                self.u32(2);
                self.extend_from_slice(&address.octets());
            }
        }
    }

    fn structure(&mut self, format: u32, write: impl FnOnce(&mut Self)) {
        self.u32(format);
        self.u32(0);
        let start = self.len();
        write(self);
        let length = (self.len() - start) as u32;
        if let Some(field) = self.get_mut(start - 4..start) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaque_data_is_padded_and_a_structure_knows_its_length() {
        let mut octets = Vec::new();
        octets.structure(0x1234, |octets| octets.opaque(&[1, 2, 3, 4, 5]));
        assert_eq!(octets, [0, 0, 0x12, 0x34, 0, 0, 0, 12, 0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0]);
        let mut octets = Vec::new();
        octets.opaque(&[9; 4]);
        octets.opaque(&[]);
        assert_eq!(octets, [0, 0, 0, 4, 9, 9, 9, 9, 0, 0, 0, 0]);
    }

    #[test]
    fn addresses_have_a_type() {
        let mut octets = Vec::new();
        octets.address(None);
        octets.address(Some([192, 0, 2, 1].into()));
        octets.address(Some("2001:db8::1".parse().unwrap()));
        assert_eq!(octets[..16], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 192, 0, 2, 1]);
        assert_eq!(octets[16..24], [0, 0, 0, 2, 0x20, 1, 0x0d, 0xb8]);
        assert_eq!(octets.len(), 16 + 20);
    }
}
