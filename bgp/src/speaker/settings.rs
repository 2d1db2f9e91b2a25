//! What a speaker is set to.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::Family;
use crate::md5::Md5Key;
use crate::rib::LookupSource;
use crate::wire::Role;

/// Settings of a speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses and ports to listen on. An IPv6 address takes IPv6 connections only.
    pub listen: Vec<SocketAddr>,
    /// BGP Identifier; without one, the connection's own IPv4 address, or the last four octets of its IPv6 address.
    pub router_id: Option<Ipv4Addr>,
    /// Who may connect, and whom to connect to.
    pub peers: Vec<PeerSettings>,
    /// Sessions of peers that only a prefix allows.
    pub max_dynamic_peers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: Vec::new(), router_id: None, peers: Vec::new(), max_dynamic_peers: 256 }
    }
}

/// Settings of one peer, or of all peers in a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// Name in commands, logs and enrichment; without one, the peer's address.
    pub name: Option<Box<str>>,
    /// The peer's address, or a prefix in which every address may connect.
    pub remote: IpNet,
    /// The peer's AS number; without one, any is taken.
    pub remote_as: Option<u32>,
    /// Our AS number; without one, the peer's, which makes the session internal.
    pub local_as: Option<u32>,
    /// Connect to the peer too, not only wait for it.
    pub active: Option<Active>,
    /// Hold time offered, in seconds: 0 (no timers), or 3 and more.
    pub hold_time: u16,
    /// How long the peer's OPEN may take.
    pub open_time: Duration,
    /// How long the peer's OPEN is waited for before ours is sent; capabilities in ours answer those in the peer's. If
    /// neither AS number is known, the peer's OPEN is waited for in any case.
    pub open_delay: Duration,
    /// How long connecting may take, and the longest pause between two tries.
    pub connect_retry: Duration,
    /// Families to take.
    pub families: Vec<Family>,
    /// Whether to take several paths of a prefix (RFC 7911).
    pub add_path: bool,
    /// Our role (RFC 9234).
    pub role: Option<Role>,
    /// Whether the peer has to tell its role (RFC 9234, section 4.2, strict mode).
    pub role_strict: bool,
    /// Key of TCP MD5 signatures (RFC 2385).
    pub md5_key: Option<Md5Key>,
    /// Greatest number of hops to the peer (RFC 5082): 1 for a neighbour. `None` takes any TTL.
    pub ttl_security: Option<u8>,
    /// How long routes are kept after the session is lost; a peer that restarts gracefully says so itself.
    pub stale_time: Duration,
    /// Whether and in which of the peer's routes traffic is looked up.
    pub lookups: Option<LookupSource>,
}

/// Where to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active {
    /// The peer's port.
    pub port: u16,
    /// Our address and port; a port of 0 is any.
    pub local: Option<SocketAddr>,
}

impl PeerSettings {
    /// The defaults for a peer or prefix.
    #[must_use]
    pub fn new(remote: IpNet) -> Self {
        Self {
            name: None,
            remote,
            remote_as: None,
            local_as: None,
            active: None,
            hold_time: 90,
            open_time: Duration::from_mins(1),
            open_delay: Duration::from_secs(1),
            connect_retry: Duration::from_secs(30),
            families: Family::ALL.to_vec(),
            add_path: true,
            role: None,
            role_strict: false,
            md5_key: None,
            ttl_security: None,
            stale_time: Duration::from_mins(2),
            lookups: Some(LookupSource::Unicast),
        }
    }

    /// True if `remote` is a prefix of more than one address.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        self.remote.prefix_len() < self.remote.max_prefix_len()
    }

    /// The lowest TTL taken (RFC 5082, section 3).
    pub(crate) fn min_ttl(&self) -> Option<u8> {
        self.ttl_security.map(|hops| u8::MAX - hops.max(1) + 1)
    }

    /// True if a session with these settings need not end for `new` ones.
    pub(crate) fn same_session(&self, new: &Self) -> bool {
        let soft = |settings: &Self| Self {
            stale_time: Duration::ZERO,
            lookups: None,
            connect_retry: Duration::ZERO,
            open_time: Duration::ZERO,
            open_delay: Duration::ZERO,
            ..settings.clone()
        };
        soft(self) == soft(new)
    }
}

/// Settings that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The same peer twice.
    #[error("peer {0} is there twice")]
    PeerTwice(IpNet),
    /// The same name twice.
    #[error("two peers have the name {0:?}")]
    NameTwice(Box<str>),
    /// A prefix has no one address to connect to.
    #[error("peer {0}: only one address can be connected to, this is a prefix")]
    ActivePrefix(IpNet),
    /// RFC 4271, section 4.2.
    #[error("peer {peer}: hold time {seconds} s; it has to be 0, or 3 and more")]
    HoldTime {
        /// Of which peer.
        peer: IpNet,
        /// As set.
        seconds: u16,
    },
    /// AS 0 (RFC 7607).
    #[error("peer {0}: AS number 0")]
    AsNumberZero(IpNet),
    /// No family.
    #[error("peer {0}: no address family")]
    NoFamily(IpNet),
    /// A role outside RFC 9234.
    #[error("peer {0}: no such BGP role")]
    Role(IpNet),
    /// Connecting from an address of the other protocol.
    #[error("peer {0}: the local address is of the other version of IP")]
    LocalAddress(IpNet),
    /// The kernel asks every address in a prefix for the prefix' key, and has no entry for an address without one.
    #[error(
        "peer {peer} has no MD5 key, but lies in {prefix}, which has one: the kernel would drop its segments unsaid; \
         give it a key too, or keep it out of the prefix"
    )]
    Keyless {
        /// The peer without a key.
        peer: IpNet,
        /// The prefix with a key.
        prefix: IpNet,
    },
    /// A BGP Identifier of 0 (RFC 6286).
    #[error("the router id 0.0.0.0 is none")]
    RouterIdZero,
}

impl Settings {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.router_id.is_some_and(|id| id.is_unspecified()) {
            return Err(SettingsError::RouterIdZero);
        }
        let mut remotes = BTreeSet::new();
        let mut names = BTreeSet::new();
        for peer in &self.peers {
            let remote = peer.remote.trunc();
            if !remotes.insert(remote) {
                return Err(SettingsError::PeerTwice(remote));
            }
            if let Some(name) = &peer.name
                && !names.insert(name)
            {
                return Err(SettingsError::NameTwice(name.clone()));
            }
            peer.check(remote)?;
        }
        self.check_keys()
    }

    /// A peer that only connects out has a socket of its own, without anybody else's key.
    fn check_keys(&self) -> Result<(), SettingsError> {
        let keyed: Vec<IpNet> = self
            .peers
            .iter()
            .filter(|peer| peer.md5_key.is_some() && peer.is_dynamic())
            .map(|peer| peer.remote.trunc())
            .collect();
        let prefix_with_key = |peer: &IpNet| keyed.iter().copied().find(|prefix| prefix.contains(peer));
        let keyless = self.peers.iter().filter(|peer| peer.md5_key.is_none() && !self.listen.is_empty());
        match keyless.map(|peer| peer.remote.trunc()).find_map(|peer| Some((peer, prefix_with_key(&peer)?))) {
            Some((peer, prefix)) => Err(SettingsError::Keyless { peer, prefix }),
            None => Ok(()),
        }
    }

    /// The settings for connections from `address`: its own, else those of the longest prefix.
    pub(crate) fn peer(&self, address: IpAddr) -> Option<&PeerSettings> {
        let covering = self.peers.iter().filter(|peer| peer.remote.contains(&address));
        covering.max_by_key(|peer| peer.remote.prefix_len())
    }
}

impl PeerSettings {
    fn check(&self, remote: IpNet) -> Result<(), SettingsError> {
        if matches!(self.hold_time, 1 | 2) {
            return Err(SettingsError::HoldTime { peer: remote, seconds: self.hold_time });
        }
        if self.remote_as == Some(0) || self.local_as == Some(0) {
            return Err(SettingsError::AsNumberZero(remote));
        }
        if self.families.is_empty() {
            return Err(SettingsError::NoFamily(remote));
        }
        if self.role.is_some_and(|role| role.counterpart().is_none()) {
            return Err(SettingsError::Role(remote));
        }
        if let Some(active) = self.active {
            if self.is_dynamic() {
                return Err(SettingsError::ActivePrefix(remote));
            }
            if active.local.is_some_and(|local| local.is_ipv4() != remote.addr().is_ipv4()) {
                return Err(SettingsError::LocalAddress(remote));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(remote: &str) -> PeerSettings {
        PeerSettings::new(remote.parse().unwrap())
    }

    #[test]
    fn the_longest_prefix_gives_the_settings_and_strangers_have_none() {
        let peers = vec![peer("127.0.0.0/8"), peer("127.0.0.1/32"), peer("2001:db8::/32")];
        let settings = Settings { peers, ..Settings::default() };
        assert_eq!(settings.check(), Ok(()));
        let remote =
            |address: &str| settings.peer(address.parse().unwrap()).map(|peer| peer.remote.to_string());
        assert_eq!(remote("127.0.0.1").as_deref(), Some("127.0.0.1/32"));
        assert_eq!(remote("127.0.0.9").as_deref(), Some("127.0.0.0/8"));
        assert_eq!(remote("2001:db8::9").as_deref(), Some("2001:db8::/32"));
        assert_eq!(remote("192.0.2.1"), None);
        assert_eq!(Settings::default().peer("127.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn contradictions_are_found() {
        let error = |peers: Vec<PeerSettings>| {
            let settings = Settings { peers, ..Settings::default() };
            settings.check().unwrap_err().to_string()
        };
        assert_eq!(error(vec![peer("127.0.0.1/8"), peer("127.0.0.2/8")]), "peer 127.0.0.0/8 is there twice");
        let hold_time = PeerSettings { hold_time: 2, ..peer("127.0.0.1/32") };
        assert_eq!(error(vec![hold_time]), "peer 127.0.0.1/32: hold time 2 s; it has to be 0, or 3 and more");
        let active = PeerSettings { active: Some(Active { port: 179, local: None }), ..peer("127.0.0.0/8") };
        assert_eq!(
            error(vec![active]),
            "peer 127.0.0.0/8: only one address can be connected to, this is a prefix"
        );
    }

    #[test]
    fn a_peer_without_a_key_in_a_prefix_with_one_is_refused() {
        let keyed = |remote| PeerSettings { md5_key: Some(Md5Key::new(b"key").unwrap()), ..peer(remote) };
        let check = |peers: Vec<PeerSettings>, listen: &[&str]| {
            let listen = listen.iter().map(|address| address.parse().unwrap()).collect();
            Settings { listen, peers, ..Settings::default() }.check().map_err(|error| error.to_string())
        };
        let listen = &["127.0.0.1:179"];
        let error = check(vec![keyed("127.0.0.0/8"), peer("127.0.0.1/32")], listen).unwrap_err();
        let expected = "peer 127.0.0.1/32 has no MD5 key, but lies in 127.0.0.0/8, which has one: ";
        assert!(error.starts_with(expected), "{error}");
        assert!(check(vec![peer("127.1.0.0/16"), keyed("127.0.0.0/8")], listen).is_err());
        for right in [
            vec![keyed("127.0.0.0/8"), keyed("127.0.0.1/32")],
            vec![peer("127.0.0.0/8"), keyed("127.0.0.1/32")],
            vec![keyed("127.0.0.0/8"), peer("128.0.0.1/32"), peer("::/0")],
        ] {
            assert_eq!(check(right, listen), Ok(()));
        }
        assert_eq!(check(vec![keyed("127.0.0.0/8"), peer("127.0.0.1/32")], &[]), Ok(()));
    }

    #[test]
    fn a_hop_limit_is_a_lowest_ttl() {
        let min_ttl =
            |hops| PeerSettings { ttl_security: Some(hops), ..peer("127.0.0.1/32") }.min_ttl().unwrap();
        assert_eq!((min_ttl(0), min_ttl(1), min_ttl(2), min_ttl(255)), (255, 255, 254, 1));
    }
}
