//! Socket options that no library offers: keys of the TCP MD5 signature option (RFC 2385) and the lowest TTL taken
//! (RFC 5082, Generalized TTL Security Mechanism).
#![expect(unsafe_code, reason = "setsockopt with options that neither socket2 nor rustix nor nix knows")]

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd as _};

use ipnet::IpNet;

/// The kernel takes keys of up to this many octets (`TCP_MD5SIG_MAXKEYLEN`).
pub const MAX_KEY_LENGTH: usize = 80;

/// `TCP_MD5SIG_EXT`: a key for a prefix (Linux 4.13).
const TCP_MD5SIG_EXT: libc::c_int = 32;
/// `TCP_MD5SIG_FLAG_PREFIX`.
const FLAG_PREFIX: u8 = 1;
/// Size of `struct sockaddr_storage`.
const ADDRESS_LENGTH: usize = 128;
/// Size of `struct tcp_md5sig`: an address, flags, prefix length, key length (two octets), interface index, key.
const MD5SIG_LENGTH: usize = ADDRESS_LENGTH + 8 + MAX_KEY_LENGTH;

/// A key of TCP MD5 signatures. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Key(Box<[u8]>);

/// A key that the kernel would not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a TCP MD5 key has 1 to {MAX_KEY_LENGTH} octets, this one has {0}")]
pub struct BadKeyLength(usize);

impl Md5Key {
    /// Octets of the key.
    ///
    /// # Errors
    /// If there are none or more than [`MAX_KEY_LENGTH`].
    pub fn new(key: &[u8]) -> Result<Self, BadKeyLength> {
        if key.is_empty() || key.len() > MAX_KEY_LENGTH {
            return Err(BadKeyLength(key.len()));
        }
        Ok(Self(key.into()))
    }
}

impl fmt::Debug for Md5Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Md5Key(..)")
    }
}

/// Sets the key for segments from and to `peers`; `None` takes it away. On a listening socket this concerns
/// connections accepted later, which inherit it; it has to be there before the peer's SYN.
pub(crate) fn set_key(socket: &impl AsFd, peers: IpNet, key: Option<&Md5Key>) -> io::Result<()> {
    let mut argument = [0; MD5SIG_LENGTH];
    let (address, rest) = argument.split_at_mut(ADDRESS_LENGTH);
    let (header, space) = rest.split_at_mut(8);
    // `sockaddr_in` has its address at octet 4, `sockaddr_in6` at octet 8.
    let (family, octets, place) = match peers.network() {
        IpAddr::V4(network) => (libc::AF_INET, network.octets().to_vec(), 4),
        IpAddr::V6(network) => (libc::AF_INET6, network.octets().to_vec(), 8),
    };
    put(address, 0, &(family as u16).to_ne_bytes());
    put(address, place, &octets);
    let key = key.map_or(&[][..], |key| &key.0);
    put(header, 0, &[FLAG_PREFIX, peers.prefix_len()]);
    put(header, 2, &(key.len() as u16).to_ne_bytes());
    put(space, 0, key);
    match set(socket, libc::IPPROTO_TCP, TCP_MD5SIG_EXT, &argument) {
        // Taking away a key that is not there.
        Err(error) if key.is_empty() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Drops segments that arrive with a lower TTL or Hop Limit than this; 0 takes all.
pub(crate) fn set_min_ttl(socket: &impl AsFd, ipv6: bool, ttl: u8) -> io::Result<()> {
    let argument = i32::from(ttl).to_ne_bytes();
    if ipv6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &argument)
    } else {
        set(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &argument)
    }
}

fn put(space: &mut [u8], offset: usize, octets: &[u8]) {
    space.iter_mut().skip(offset).zip(octets).for_each(|(to, from)| *to = *from);
}

fn set(socket: &impl AsFd, level: libc::c_int, option: libc::c_int, argument: &[u8]) -> io::Result<()> {
    let descriptor = socket.as_fd();
    // SAFETY: the descriptor is open, as it is borrowed for the time of the call. The kernel reads the argument only,
    // and no further than the length that goes with it, which is that of the slice.
    let result = unsafe {
        libc::setsockopt(
            descriptor.as_raw_fd(),
            level,
            option,
            argument.as_ptr().cast(),
            argument.len() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    fn key(text: &str) -> Md5Key {
        Md5Key::new(text.as_bytes()).unwrap()
    }

    /// Whether a connection from `own` with one key reaches a listener with another one.
    fn connects(listener_address: &str, listeners: Option<&str>, own: Option<&str>) -> bool {
        let listener = TcpListener::bind(listener_address).unwrap();
        let address = listener.local_addr().unwrap();
        let prefix = if address.is_ipv4() { "127.0.0.0/8" } else { "::1/128" };
        let prefix: IpNet = prefix.parse().unwrap();
        if let Some(text) = listeners {
            set_key(&listener, prefix, Some(&key(text))).unwrap();
        }
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        if let Some(text) = own {
            set_key(&socket, IpNet::from(address.ip()), Some(&key(text))).unwrap();
        }
        socket.connect_timeout(&address.into(), Duration::from_millis(300)).is_ok()
    }

    #[test]
    fn only_the_right_key_connects() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            assert!(connects(address, Some("secret"), Some("secret")), "{address}");
            assert!(!connects(address, Some("secret"), Some("other")), "{address}");
            assert!(!connects(address, Some("secret"), None), "{address}");
            assert!(!connects(address, None, Some("secret")), "{address}");
        }
    }

    #[test]
    fn a_key_can_be_taken_away() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let prefix = "127.0.0.1/32".parse().unwrap();
        set_key(&listener, prefix, Some(&key("secret"))).unwrap();
        set_key(&listener, prefix, None).unwrap();
        set_key(&listener, prefix, None).unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    }

    #[test]
    fn segments_from_too_far_are_dropped() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            set_min_ttl(&listener, address.is_ipv6(), 255).unwrap();
            let connect = |ttl: u8| {
                let domain = socket2::Domain::for_address(address);
                let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
                if address.is_ipv4() {
                    socket.set_ttl_v4(ttl.into()).unwrap();
                } else {
                    socket.set_unicast_hops_v6(ttl.into()).unwrap();
                }
                socket.connect_timeout(&address.into(), Duration::from_millis(300)).is_ok()
            };
            assert!(connect(255));
            assert!(!connect(254));
        }
    }

    #[test]
    fn keys_have_a_length_and_are_not_shown() {
        assert_eq!(Md5Key::new(b""), Err(BadKeyLength(0)));
        assert_eq!(Md5Key::new(&[b'x'; 81]), Err(BadKeyLength(81)));
        assert_eq!(format!("{:?}", key("secret")), "Md5Key(..)");
    }
}
