//! The BGP thread, BMP and RPKI: `[bgp]`, `[bmp]` and `[rpki]`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::pmacct::ImportError;
use crate::pmacct::configuration::Daemon;
use crate::pmacct::document::Origin;
use crate::pmacct::maps;
use crate::pmacct::remark::Verdict;

use super::Translation;

mod output;

/// Port of BGP (RFC 4271).
const PORT: i64 = 179;
/// Port of BMP in pmacct.
const BMP_PORT: i64 = 1790;
/// Networks that hold every address.
const EVERYBODY: [&str; 2] = ["0.0.0.0/0", "::/0"];

pub(super) fn translate(work: &mut Translation<'_>) -> Result<(), ImportError> {
    rpki(work);
    bmp(work)?;
    let is_wanted = match work.flag("bgp_daemon") {
        Some((_, truth)) => truth,
        None => work.daemon == Daemon::Pmbgpd,
    };
    if !is_wanted {
        let has_keys = |key: &str| key.starts_with("bgp_daemon_") || key.starts_with("bgp_table_dump_");
        if let Some(line) = work.configuration.lines.iter().find(|line| has_keys(&line.key)) {
            let text =
                "without bgp_daemon: true there is no BGP, and this and what belongs to it is left out";
            work.remark_at(&line.into(), Verdict::NotHonoured, text);
        }
        for (line, used) in work.configuration.lines.iter().zip(&mut work.used) {
            *used |= has_keys(&line.key);
        }
        return Ok(());
    }
    let bgp = work.document.table("bgp");
    let address = work.global("bgp_daemon_ip");
    let port = work.global_number("bgp_daemon_port");
    let listen = listen(
        address.as_ref().map(|setting| setting.value.as_str()),
        port.as_ref().map_or(PORT, |port| port.1),
    );
    let origin = address.as_ref().or(port.as_ref().map(|port| &port.0)).map(|setting| &setting.origin);
    work.document.set(bgp, "listen", listen, origin);
    if let Some(setting) = work.global("bgp_daemon_id") {
        work.document.set(bgp, "router_id", setting.value.as_str(), Some(&setting.origin));
    }
    if let Some((setting, peers)) = work.global_number("bgp_daemon_max_peers") {
        work.document.set(bgp, "max_dynamic_peers", peers, Some(&setting.origin));
    }
    output::translate(work)?;
    peers(work)?;
    refusals(work);
    Ok(())
}

/// Without an address pmacct listens on all of both versions, which takes two sockets here.
fn listen(address: Option<&str>, port: i64) -> Vec<String> {
    let with_port = |address: &str| match address.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, u16::try_from(port).unwrap_or_default()).to_string(),
        Err(_) => format!("{address}:{port}"),
    };
    match address {
        Some(address) => vec![with_port(address)],
        None => ["0.0.0.0", "::"].map(with_port).to_vec(),
    }
}

/// Who may connect.
struct Peer {
    address: String,
    origin: Option<Origin>,
    md5_key_file: Option<String>,
}

impl Peer {
    fn any(network: &str) -> Self {
        Self { address: network.to_owned(), origin: None, md5_key_file: None }
    }
}

fn peers(work: &mut Translation<'_>) -> Result<(), ImportError> {
    let mut peers: Vec<Peer> = Vec::new();
    if let Some(setting) = work.global("bgp_daemon_md5_file") {
        let keys = maps::addresses_with_keys(Path::new(&setting.value))
            .map_err(|error| work.map_fault(&setting, &error))?;
        for (_, address) in keys {
            peers.push(Peer {
                address: address.to_string(),
                origin: Some(setting.origin.clone()),
                md5_key_file: Some(setting.value.clone()),
            });
        }
    }
    match work.global("bgp_daemon_allow_file") {
        Some(setting) => {
            let allowed = maps::networks(Path::new(&setting.value))
                .map_err(|error| work.map_fault(&setting, &error))?;
            if allowed.is_empty() {
                return Err(work.line_fault(
                    &setting,
                    "the file is empty, so no peer may connect; use bgp_daemon: false",
                ));
            }
            for (_, network) in allowed {
                let is_host = network.prefix_len() == network.max_prefix_len();
                let text = if is_host { network.addr().to_string() } else { network.to_string() };
                if !peers.iter().any(|peer| peer.address == text) {
                    peers.push(Peer {
                        address: text,
                        origin: Some(setting.origin.clone()),
                        md5_key_file: None,
                    });
                }
            }
        }
        None => peers.extend(EVERYBODY.map(Peer::any)),
    }
    let local_as = work.global("bgp_daemon_as");
    let no_add_path = work.flag("bgp_daemon_add_path_ignore");
    for Peer { address, origin, md5_key_file } in peers {
        let peer = work.document.array_table("bgp.peer", None);
        work.document.set(peer, "address", address, origin.as_ref());
        if let Some(file) = md5_key_file {
            work.document.set(peer, "md5_key_file", file, origin.as_ref());
        }
        if let Some(setting) = &local_as {
            match setting.value.parse::<u32>() {
                Ok(number) => work.document.set(peer, "local_as", i64::from(number), Some(&setting.origin)),
                Err(_) => return Err(work.line_fault(setting, "it is not an AS number")),
            }
        }
        if let Some((setting, true)) = &no_add_path {
            work.document.set(peer, "add_path", false, Some(&setting.origin));
        }
    }
    Ok(())
}

fn refusals(work: &mut Translation<'_>) {
    for key in [
        "bgp_daemon_lg",
        "bgp_daemon_lg_ip",
        "bgp_daemon_lg_port",
        "bgp_daemon_lg_user",
        "bgp_daemon_lg_passwd",
        "bgp_daemon_lg_threads",
    ] {
        work.refuse(key, "there is no looking glass over ZeroMQ; `pathflow route` and `pathflow peers` answer on this machine");
    }
    work.refuse("bgp_daemon_xconnect_map", "pathflow is no proxy for BGP sessions");
    for key in
        ["bgp_daemon_ipprec", "bgp_disable_router_id_check", "bgp_neighbors_file", "bgp_daemon_ipv6_only"]
    {
        work.refuse(key, "it is left out");
    }
}

fn bmp(work: &mut Translation<'_>) -> Result<(), ImportError> {
    let Some((daemon, true)) = work.flag("bmp_daemon") else { return Ok(()) };
    let bmp = work.document.table("bmp");
    let address = work.global("bmp_daemon_ip");
    let port = work.global_number("bmp_daemon_port").map_or(BMP_PORT, |port| port.1);
    let text = address.as_ref().map_or("::", |setting| setting.value.as_str());
    let listen = listen(Some(text), port).concat();
    work.document.set(
        bmp,
        "listen",
        listen,
        Some(address.as_ref().map_or(&daemon.origin, |setting| &setting.origin)),
    );
    let routers = match work.global("bmp_daemon_allow_file") {
        Some(setting) => {
            let allowed = maps::networks(Path::new(&setting.value))
                .map_err(|error| work.map_fault(&setting, &error))?;
            allowed.into_iter().map(|(_, network)| network.to_string()).collect()
        }
        None => EVERYBODY.map(str::to_owned).to_vec(),
    };
    work.document.set(bmp, "routers", routers, Some(&daemon.origin));
    // The peers of pmacct's BMP daemon are the routers.
    if let Some((setting, routers)) = work.global_number("bmp_daemon_max_peers") {
        work.document.set(bmp, "max_routers", routers, Some(&setting.origin));
    }
    Ok(())
}

fn rpki(work: &mut Translation<'_>) {
    let rpki = work.document.table("rpki");
    if let Some(setting) = work.global("rpki_roas_file") {
        work.document.set(rpki, "file", setting.value.as_str(), Some(&setting.origin));
    }
    if let Some(setting) = work.global("rpki_rtr_cache") {
        work.document.set(rpki, "cache", setting.value.as_str(), Some(&setting.origin));
    }
    for key in ["rpki_rtr_cache_version", "rpki_rtr_cache_pipe_size"] {
        if let Some(setting) = work.global(key) {
            work.remark(&setting, Verdict::NotNeeded, "not needed: it is settled with the cache");
        }
    }
    work.refuse("rpki_rtr_cache_ipprec", "it is left out");
}
