//! `[bgp]`, `[bmp]` and `[rpki]`, checked.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use pathflow_bgp::bmp::station;
use pathflow_bgp::rib::LookupSource;
use pathflow_bgp::speaker::Md5Key;
use pathflow_bgp::speaker::{Active, PeerSettings, Settings};
use pathflow_bgp::wire::Role;
use pathflow_bgp::{Afi, Family, RouteDistinguisher, Safi};

use super::error::ConfigError;
use super::raw::{Bgp, Bmp, FamilyName, MessageLog, Peer, RoleName, Rpki, TableDump};
use super::{between, invalid};
use crate::bgp_output::OutputSettings;
use crate::bgp_output::dump::{self, DumpTarget, TableDumpSettings};
use crate::bgp_output::file_name::FileNamePattern;
use crate::bgp_output::message_log::{LogTarget, MessageLogSettings};
#[cfg(feature = "kafka")]
use crate::bgp_output::topic::{TopicSettings, TopicTable};

/// Port of BGP (RFC 4271).
const PORT: u16 = 179;

/// Where validated ROA payloads come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpkiSettings {
    /// JSON file.
    pub file: Option<PathBuf>,
    /// `HOST:PORT` of a cache.
    pub cache: Option<String>,
}

/// Which routers may connect by BMP, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BmpSettings {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Who may connect.
    pub routers: Vec<IpNet>,
    /// Routers at a time.
    pub max_routers: usize,
    /// Peers of each router at a time.
    pub max_peers: usize,
    /// How long routes are kept after a peer or its router is lost.
    pub stale_time: Duration,
}

/// Checks `[bmp]`; `None` without an address.
pub(super) fn bmp(raw: &Bmp) -> Result<Option<BmpSettings>, ConfigError> {
    between("bmp.stale_time", raw.stale_time, Duration::ZERO, Duration::from_hours(24))?;
    let routers = raw.routers.iter().map(|text| {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| invalid("bmp.routers", text, "it is not the address of a router or a network"))
    });
    let routers = routers.collect::<Result<Vec<_>, _>>()?;
    for (key, most) in [("bmp.max_routers", raw.max_routers), ("bmp.max_peers", raw.max_peers)] {
        if most == 0 {
            return Err(invalid(key, &most, "it must be 1 or more"));
        }
    }
    if raw.listen.is_empty() {
        return Ok(None);
    }
    if routers.is_empty() {
        return Err(invalid("bmp.listen", &raw.listen, "no router may connect: bmp.routers is empty"));
    }
    let listen = listen_address("bmp.listen", &raw.listen, station::PORT)?;
    let [max_routers, max_peers] = [raw.max_routers, raw.max_peers].map(|most| most as usize);
    Ok(Some(BmpSettings { listen, routers, max_routers, max_peers, stale_time: raw.stale_time }))
}

/// Checks `[bgp.table_dump]` and `[bgp.message_log]`.
pub(super) fn output(raw: &Bgp) -> Result<OutputSettings, ConfigError> {
    let Bgp { table_dump, message_log, .. } = raw;
    let (least, most) = (*dump::INTERVALS.start(), *dump::INTERVALS.end());
    between("bgp.table_dump.interval", table_dump.interval, least, most)?;
    let file = pattern("bgp.table_dump.file", &table_dump.file)?;
    let latest = pattern("bgp.table_dump.latest", &table_dump.latest)?;
    if file.is_none() && latest.is_some() {
        let reason = "there is no file to link to: bgp.table_dump.file is empty";
        return Err(invalid("bgp.table_dump.latest", &table_dump.latest, reason));
    }
    if file.is_some() && latest == file {
        return Err(invalid(
            "bgp.table_dump.latest",
            &table_dump.latest,
            "it is the name of the file itself",
        ));
    }
    let target = file.map(|file| DumpTarget::Files { file, latest });
    #[cfg(feature = "kafka")]
    let target = match topic("bgp.table_dump", &table_dump.file, table_dump.kafka.as_ref())? {
        Some(topic) => Some(DumpTarget::Topic(topic)),
        None => target,
    };
    let TableDump { interval, utc, as_arrays, .. } = *table_dump;
    let table_dump = target.map(|target| TableDumpSettings { target, interval, utc, as_arrays });
    let target = pattern("bgp.message_log.file", &message_log.file)?.map(LogTarget::Files);
    #[cfg(feature = "kafka")]
    let target = match topic("bgp.message_log", &message_log.file, message_log.kafka.as_ref())? {
        Some(topic) => Some(LogTarget::Topic(topic)),
        None => target,
    };
    let MessageLog { utc, as_arrays, .. } = *message_log;
    let message_log = target.map(|target| MessageLogSettings { target, utc, as_arrays });
    Ok(OutputSettings { table_dump, message_log })
}

/// Checks the table `kafka` of a function; there is only one of it and of a file.
#[cfg(feature = "kafka")]
fn topic(
    function: &str,
    file: &str,
    table: Option<&TopicTable>,
) -> Result<Option<Box<TopicSettings>>, ConfigError> {
    let Some(table) = table else { return Ok(None) };
    if !file.is_empty() {
        let reason = format!("there is [{function}.kafka] as well; only one of the two is possible");
        return Err(invalid(format!("{function}.file"), &file, reason));
    }
    let settings = TopicSettings::new(function, table)
        .map_err(|error| invalid(format!("{function}.kafka.{}", error.key), &error.value, error.reason))?;
    Ok(Some(Box::new(settings)))
}

fn pattern(key: &str, text: &str) -> Result<Option<FileNamePattern>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    FileNamePattern::new(text).map(Some).map_err(|error| invalid(key, &text, error.to_string()))
}

fn listen_address(key: &str, text: &str, port: u16) -> Result<SocketAddr, ConfigError> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, port)))
        .map_err(|_| invalid(key, &text, "it is not ADDRESS or ADDRESS:PORT"))
}

/// Checks `[bgp]`; `None` if there is no peer.
pub(super) fn settings(raw: &Bgp) -> Result<Option<Settings>, ConfigError> {
    let mut listen = Vec::new();
    for text in &raw.listen {
        let address = listen_address("bgp.listen", text, PORT)?;
        listen.push(address);
    }
    let router_id = match raw.router_id.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| invalid("bgp.router_id", &text, "it is not an IPv4 address"))?),
    };
    let peers = (0..).zip(&raw.peer).map(|(number, raw)| peer(number, raw)).collect::<Result<Vec<_>, _>>()?;
    if peers.is_empty() {
        return match raw.listen.first() {
            Some(listen) => Err(invalid("bgp.listen", listen, "there is no [[bgp.peer]] that may connect")),
            None => Ok(None),
        };
    }
    if listen.is_empty()
        && let Some((number, peer)) = (0..).zip(&peers).find(|(_, peer): &(usize, _)| peer.active.is_none())
    {
        let reason = "nobody can connect without bgp.listen, and it is not active";
        return Err(invalid(format!("bgp.peer[{number}].address"), &peer.remote, reason));
    }
    let settings = Settings { listen, router_id, peers, max_dynamic_peers: raw.max_dynamic_peers as usize };
    settings.check().map_err(|error| invalid("bgp.peer", &raw.peer.len(), error.to_string()))?;
    Ok(Some(settings))
}

fn peer(number: usize, raw: &Peer) -> Result<PeerSettings, ConfigError> {
    let key = |name: &str| format!("bgp.peer[{number}].{name}");
    let remote = raw
        .address
        .parse::<IpNet>()
        .or_else(|_| raw.address.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| invalid(key("address"), &raw.address, "it is not the address of a peer or a network"))?
        .trunc();
    let local = match raw.local_address.as_str() {
        "" => None,
        text => {
            let address: IpAddr =
                text.parse().map_err(|_| invalid(key("local_address"), &text, "it is not an IP address"))?;
            if address.is_ipv4() != remote.addr().is_ipv4() {
                let reason = "it and the address of the peer are of two versions of IP";
                return Err(invalid(key("local_address"), &text, reason));
            }
            Some(SocketAddr::new(address, 0))
        }
    };
    if local.is_some() && !raw.active {
        return Err(invalid(key("local_address"), &raw.local_address, "only with active = true"));
    }
    if raw.active && remote.prefix_len() < remote.max_prefix_len() {
        return Err(invalid(key("active"), &true, "its address is a network"));
    }
    let hold_time = raw.hold_time.as_secs();
    if (hold_time < 3 && !raw.hold_time.is_zero()) || hold_time > u64::from(u16::MAX) {
        let text = super::duration::text(raw.hold_time);
        return Err(invalid(key("hold_time"), &text, "it must be 0s, or from 3s to 65535s"));
    }
    let (least, most) = (Duration::from_secs(1), Duration::from_hours(1));
    between(key("connect_retry"), raw.connect_retry, least, most)?;
    between(key("stale_time"), raw.stale_time, Duration::ZERO, Duration::from_hours(24))?;
    if raw.families.is_empty() {
        return Err(invalid(key("families"), &"[]", "it names no family"));
    }
    let md5_key = match raw.md5_key_file.as_str() {
        "" => None,
        file => {
            let fault = |reason: String| invalid(key("md5_key_file"), &file, reason);
            let text = fs::read(file).map_err(|error| fault(error.to_string()))?;
            let key = md5_key_of(&text, remote.addr()).map_err(|reason| fault(reason.to_owned()))?;
            Some(Md5Key::new(key).map_err(|error| fault(error.to_string()))?)
        }
    };
    let nonzero = |number: u32| (number > 0).then_some(number);
    let name = match raw.name.as_str() {
        "" => None,
        name if name.len() > 64 || name.contains(|c: char| c.is_control() || c == '"') => {
            return Err(invalid(key("name"), &name, "it must be one line of at most 64 characters"));
        }
        name => Some(name.into()),
    };
    Ok(PeerSettings {
        name,
        remote_as: nonzero(raw.as_number),
        local_as: nonzero(raw.local_as),
        active: raw.active.then_some(Active { port: raw.port, local }),
        hold_time: hold_time as u16,
        connect_retry: raw.connect_retry,
        families: raw.families.iter().map(|name| family(*name)).collect(),
        add_path: raw.add_path,
        role: raw.role.map(role),
        role_strict: raw.role_strict,
        md5_key,
        ttl_security: (raw.ttl_security > 0).then_some(raw.ttl_security),
        stale_time: raw.stale_time,
        lookups: match raw.lookups.as_str() {
            "none" => None,
            text => Some(lookups(text).ok_or_else(|| invalid(key("lookups"), &text, LOOKUPS_EXPECTED))?),
        },
        ..PeerSettings::new(remote)
    })
}

/// The key in a file that has nothing else, or the peer's in a list of pmacct's `bgp_daemon_md5_file`, which has lines
/// `ADDRESS, KEY`.
fn md5_key_of(text: &[u8], peer: IpAddr) -> Result<&[u8], &'static str> {
    let lines = text.split(|c| *c == b'\n').map(<[u8]>::trim_ascii);
    let entry = |line: &'_ [u8]| -> Option<(IpAddr, usize)> {
        let comma = line.iter().position(|c| *c == b',')?;
        let address = std::str::from_utf8(line.get(..comma)?).ok()?.trim().parse().ok()?;
        Some((address, comma + 1))
    };
    let is_comment = |line: &&[u8]| line.is_empty() || matches!(line.first(), Some(b'!' | b'#'));
    let mut entries = lines.filter(|line| !is_comment(line)).map(|line| (line, entry(line))).peekable();
    if !matches!(entries.peek(), Some((_, Some(_)))) {
        return Ok(text.trim_ascii());
    }
    let own = entries.find_map(|(line, entry)| {
        let (_, start) = entry.filter(|(address, _)| *address == peer)?;
        line.get(start..)
    });
    own.map(<[u8]>::trim_ascii).ok_or("it is a list, and this peer is not in it")
}

const LOOKUPS_EXPECTED: &str =
    "it must be unicast, labelled-unicast, none, or a Route Distinguisher such as 0:65000:100";

fn lookups(text: &str) -> Option<LookupSource> {
    Some(match text {
        "unicast" => LookupSource::Unicast,
        "labelled-unicast" => LookupSource::LabelledUnicast,
        text => LookupSource::Vpn(route_distinguisher(text)?),
    })
}

/// `TYPE:ADMINISTRATOR:NUMBER` (RFC 4364, section 4.2).
fn route_distinguisher(text: &str) -> Option<RouteDistinguisher> {
    let mut parts = text.split(':');
    let (kind, administrator, number) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (kind, value): (u8, [u8; 6]) = match kind {
        "0" => {
            let ([a0, a1], [n0, n1, n2, n3]) =
                (administrator.parse::<u16>().ok()?.to_be_bytes(), number.parse::<u32>().ok()?.to_be_bytes());
            (0, [a0, a1, n0, n1, n2, n3])
        }
        "1" | "2" => {
            let [a0, a1, a2, a3] = if kind == "1" {
                administrator.parse::<std::net::Ipv4Addr>().ok()?.octets()
            } else {
                administrator.parse::<u32>().ok()?.to_be_bytes()
            };
            let [n0, n1] = number.parse::<u16>().ok()?.to_be_bytes();
            (if kind == "1" { 1 } else { 2 }, [a0, a1, a2, a3, n0, n1])
        }
        _ => return None,
    };
    let [v0, v1, v2, v3, v4, v5] = value;
    Some(RouteDistinguisher([0, kind, v0, v1, v2, v3, v4, v5]))
}

fn family(name: FamilyName) -> Family {
    let (afi, safi) = match name {
        FamilyName::Ipv4Unicast => (Afi::Ipv4, Safi::Unicast),
        FamilyName::Ipv6Unicast => (Afi::Ipv6, Safi::Unicast),
        FamilyName::Ipv4LabelledUnicast => (Afi::Ipv4, Safi::LabelledUnicast),
        FamilyName::Ipv6LabelledUnicast => (Afi::Ipv6, Safi::LabelledUnicast),
        FamilyName::Ipv4Vpn => (Afi::Ipv4, Safi::MplsVpn),
        FamilyName::Ipv6Vpn => (Afi::Ipv6, Safi::MplsVpn),
    };
    Family { afi, safi }
}

fn role(name: RoleName) -> Role {
    match name {
        RoleName::Provider => Role::PROVIDER,
        RoleName::RouteServer => Role::ROUTE_SERVER,
        RoleName::RouteServerClient => Role::ROUTE_SERVER_CLIENT,
        RoleName::Customer => Role::CUSTOMER,
        RoleName::Peer => Role::PEER,
    }
}

/// Checks `[rpki]`; `None` without a source.
pub(super) fn rpki(raw: &Rpki) -> Result<Option<RpkiSettings>, ConfigError> {
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let (file, cache) = (some(&raw.file).map(PathBuf::from), some(&raw.cache));
    if let Some(cache) = &cache
        && !cache
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
    {
        return Err(invalid("rpki.cache", cache, "it needs a port: HOST:PORT"));
    }
    Ok((file.is_some() || cache.is_some()).then_some(RpkiSettings { file, cache }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_one_key_or_a_list_by_address() {
        let of = |text: &'static str, peer: &str| md5_key_of(text.as_bytes(), peer.parse().unwrap());
        assert_eq!(of("se,cret\n", "192.0.2.1"), Ok(b"se,cret".as_slice()));
        assert_eq!(of("!se,cret\n", "192.0.2.1"), Ok(b"!se,cret".as_slice()));
        let list = "! keys\n192.0.2.1, one\n2001:db8::1 ,two,three\n";
        assert_eq!(of(list, "192.0.2.1"), Ok(b"one".as_slice()));
        assert_eq!(of(list, "2001:db8::1"), Ok(b"two,three".as_slice()));
        assert_eq!(of(list, "192.0.2.2"), Err("it is a list, and this peer is not in it"));
    }
}
