//! The operator's own networks, in the file format of pmacct's `networks_file`.
//!
//! ```text
//! ! comment
//! 198.51.100.0/24
//! 64500,198.51.100.0/24
//! 64501_64500,198.51.100.0/24
//! 192.0.2.1,64501_64500,198.51.100.0/24
//! ```
//!
//! The AS in front of `_` is the one by which the network is reached, the address in front is the next hop to it.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// What the file says of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Length of its prefix, in bits.
    pub prefix_length: u8,
    /// The AS that it is of; `None` if the row names none.
    pub origin_as: Option<u32>,
    /// The AS by which it is reached; `None` if the row names none.
    pub peer_as: Option<u32>,
    /// The next hop by which it is reached.
    pub next_hop: Option<IpAddr>,
}

/// The file: networks by prefix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Networks {
    ipv4: PrefixMap<Ipv4Net, Network>,
    ipv6: PrefixMap<Ipv6Net, Network>,
    /// Lines whose prefix another one has already, from 1.
    repeated: Vec<usize>,
}

/// The file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworksError {
    /// It cannot be read.
    #[error("{}: {reason}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A line is not understood.
    #[error("{}:{line}: {reason}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

impl Networks {
    /// Reads a file.
    ///
    /// # Errors
    /// [`NetworksError`] naming file and line.
    pub fn read(file: &Path) -> Result<Self, NetworksError> {
        let text = fs::read_to_string(file)
            .map_err(|error| NetworksError::Read { file: file.to_owned(), reason: error.to_string() })?;
        Self::parse(file, &text)
    }

    /// Reads the text of `file`. Of several rows for one prefix the first counts.
    ///
    /// # Errors
    /// [`NetworksError::Line`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, NetworksError> {
        let mut networks = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split(['!', '#']).next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let (prefix, network) = row(line).map_err(|reason| NetworksError::Line {
                file: file.to_owned(),
                line: number,
                reason,
            })?;
            if !networks.add(prefix, network) {
                networks.repeated.push(number);
            }
        }
        Ok(networks)
    }

    /// The most specific network that holds `address`.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<&Network> {
        match address {
            IpAddr::V4(address) => Some(self.ipv4.get_lpm(&Ipv4Net::from(address))?.1),
            IpAddr::V6(address) => Some(self.ipv6.get_lpm(&Ipv6Net::from(address))?.1),
        }
    }

    /// Number of networks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ipv4.len() + self.ipv6.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lines that do not count, because an earlier one is of the same prefix; from 1.
    #[must_use]
    pub fn repeated(&self) -> &[usize] {
        &self.repeated
    }

    /// False if there is one of this prefix already.
    fn add(&mut self, prefix: IpNet, network: Network) -> bool {
        match prefix {
            IpNet::V4(prefix) if !self.ipv4.contains_key(&prefix) => {
                self.ipv4.insert(prefix, network).is_none()
            }
            IpNet::V6(prefix) if !self.ipv6.contains_key(&prefix) => {
                self.ipv6.insert(prefix, network).is_none()
            }
            _ => false,
        }
    }
}

fn row(line: &str) -> Result<(IpNet, Network), String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let (next_hop, as_numbers, prefix) = match fields[..] {
        [prefix] => (None, None, prefix),
        [as_numbers, prefix] => (None, Some(as_numbers), prefix),
        [next_hop, as_numbers, prefix] => (Some(next_hop), Some(as_numbers), prefix),
        _ => return Err("a row has one to three fields: [next-hop,][[peerAS_]originAS,]prefix/length".into()),
    };
    let network: IpNet =
        prefix.parse().map_err(|_| format!("{prefix:?} is not a network, such as 192.0.2.0/24"))?;
    let next_hop: Option<IpAddr> = match next_hop {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|_| format!("{text:?} is not the address of a next hop"))?),
    };
    let (peer_as, origin_as) = match as_numbers {
        None | Some("") => (None, None),
        Some(numbers) => match numbers.split_once('_') {
            Some((peer, origin)) => (Some(as_number(peer)?), Some(as_number(origin)?)),
            None => (None, Some(as_number(numbers)?)),
        },
    };
    let prefix_length = network.prefix_len();
    Ok((network.trunc(), Network { prefix_length, origin_as, peer_as, next_hop }))
}

/// A number, or two of 16 bits with a dot (asdot, RFC 5396).
fn as_number(text: &str) -> Result<u32, String> {
    let plain = || text.parse::<u32>().ok();
    let dotted = || {
        let (high, low) = text.split_once('.')?;
        Some(u32::from(high.parse::<u16>().ok()?) << 16 | u32::from(low.parse::<u16>().ok()?))
    };
    plain().or_else(dotted).ok_or_else(|| format!("{text:?} is not an AS number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Networks, NetworksError> {
        Networks::parse(Path::new("networks.lst"), text)
    }

    fn origin(networks: &Networks, address: &str) -> Option<u32> {
        networks.find(address.parse().unwrap()).and_then(|network| network.origin_as)
    }

    #[test]
    fn every_form_of_a_row_is_read_and_host_bits_do_not_matter() {
        let networks = parse(
            "! the article's own networks\n\
             # and a comment of the other kind\n\
             \n\
             397143,23.157.160.0/24\n\
             397143,2602:fe2e::/36 ! with a remark\n\
             198.51.100.77/24\n\
             64501_64500, 203.0.113.0/25\n\
             192.0.2.1,6939_4200000000,10.0.0.0/8\n\
             192.0.2.2,,172.16.0.0/12\n\
             1.10,2001:db8::/32\r\n",
        )
        .unwrap();
        assert_eq!(networks.len(), 7);
        assert!(networks.repeated().is_empty());
        let find = |address: &str| *networks.find(address.parse().unwrap()).unwrap();
        let row = |prefix_length, peer_as, origin_as, next_hop: Option<&str>| Network {
            prefix_length,
            origin_as,
            peer_as,
            next_hop: next_hop.map(|address| address.parse().unwrap()),
        };
        assert_eq!(find("23.157.160.138"), row(24, None, Some(397_143), None));
        assert_eq!(find("2602:fe2e:42::1"), row(36, None, Some(397_143), None));
        assert_eq!(find("198.51.100.1"), row(24, None, None, None));
        assert_eq!(find("203.0.113.1"), row(25, Some(64_501), Some(64_500), None));
        assert_eq!(find("10.1.2.3"), row(8, Some(6939), Some(4_200_000_000), Some("192.0.2.1")));
        assert_eq!(find("172.31.0.1"), row(12, None, None, Some("192.0.2.2")));
        assert_eq!(find("2001:db8::1"), row(32, None, Some(65_546), None));
        assert!(networks.find("203.0.113.128".parse().unwrap()).is_none());
        // pmacctd 1.7.7 finds 2602:fe2e::/36 for this one.
        assert!(networks.find("2607:f8b0::bc".parse().unwrap()).is_none());
    }

    #[test]
    fn the_longest_of_nested_networks_counts_and_of_equal_ones_the_first() {
        let networks = parse(
            "1,0.0.0.0/0\n2,10.0.0.0/8\n3,10.1.0.0/16\n4,10.1.2.0/24\n5,10.1.2.3/32\n\
             6,10.1.0.99/16\n7,::/0\n8,2001:db8::/32\n9,2001:db8::1/128\n",
        )
        .unwrap();
        for (address, expected) in [
            ("192.0.2.1", 1),
            ("10.200.0.1", 2),
            ("10.1.200.1", 3),
            ("10.1.2.1", 4),
            ("10.1.2.3", 5),
            ("2001:db9::", 7),
            ("2001:db8::2", 8),
            ("2001:db8::1", 9),
        ] {
            assert_eq!(origin(&networks, address), Some(expected), "{address}");
        }
        assert_eq!((networks.len(), networks.repeated()), (8, &[6][..]));
    }

    #[test]
    fn what_is_wrong_is_said_with_file_and_line() {
        for (text, expected) in [
            ("1,10.0.0.0/8\nx,10.0.0.0/8\n", "networks.lst:2: \"x\" is not an AS number"),
            ("10.0.0.0\n", "networks.lst:1: \"10.0.0.0\" is not a network, such as 192.0.2.0/24"),
            ("10.0.0.0/33\n", "networks.lst:1: \"10.0.0.0/33\" is not a network, such as 192.0.2.0/24"),
            ("4294967296,10.0.0.0/8\n", "networks.lst:1: \"4294967296\" is not an AS number"),
            ("1_,10.0.0.0/8\n", "networks.lst:1: \"\" is not an AS number"),
            ("gw,1,10.0.0.0/8\n", "networks.lst:1: \"gw\" is not the address of a next hop"),
            (
                "1,2,3,10.0.0.0/8\n",
                "networks.lst:1: a row has one to three fields: [next-hop,][[peerAS_]originAS,]prefix/length",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
        let missing = Networks::read(Path::new("/nonexistent/networks.lst")).unwrap_err();
        assert!(missing.to_string().starts_with("/nonexistent/networks.lst: "), "{missing}");
    }
}
