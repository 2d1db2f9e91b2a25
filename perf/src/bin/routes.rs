//! `pathflow-routes`: what `pathflow-bench` measures from outside when it measures routes. It has the allocator of
//! pathflow, where `pathflow-bench` has one that counts.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use ipnet::{IpNet, Ipv4Net};
use mimalloc::MiMalloc;
use pathflow_bgp::Family;
use pathflow_bgp::speaker::{PeerSettings, Settings, Speaker};
use pathflow_perf::cpu::thread_time;
use pathflow_perf::machine::resident;
use pathflow_perf::rib;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Takes a routing table
#[derive(Parser)]
#[command(name = "pathflow-routes")]
enum Arguments {
    /// Load the UPDATEs of a file; print CPU seconds, octets resident and as the RIB counts them, and routes
    Load {
        /// UPDATEs, one after the other
        file: PathBuf,
    },
    /// Be a BGP speaker for anybody on loopback; tell when there is a whole table, and go on until killed
    Speak {
        /// Where to listen
        address: SocketAddrV4,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse() {
        Arguments::Load { file } => load(&file),
        Arguments::Speak { address } => speak(address),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load(path: &Path) -> Result<()> {
    let octets = std::fs::read(path)?;
    let (before, start) = (resident(None)?, thread_time());
    let (mut rib, peer) = rib::with_one_peer();
    let added = rib::apply(&mut rib, peer, &octets)?;
    let seconds = thread_time().saturating_sub(start).as_secs_f64();
    println!("{seconds} {} {} {added}", resident(None)? - before, rib.memory().total());
    Ok(())
}

fn speak(address: SocketAddrV4) -> Result<()> {
    let anybody = IpNet::V4(Ipv4Net::new(Ipv4Addr::LOCALHOST, 8)?.trunc());
    let families = vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    let peers = vec![PeerSettings { families: families.clone(), ..PeerSettings::new(anybody) }];
    let router_id = Some(*address.ip());
    let speaker =
        Speaker::start(Settings { listen: vec![address.into()], router_id, peers, ..Settings::default() })?;
    let mut reader = speaker.reader();
    loop {
        thread::sleep(Duration::from_millis(2));
        let view = reader.enter();
        let mut tables = view.peers().filter_map(|(peer, _)| view.peer(peer));
        if tables.any(|table| families.iter().all(|family| table.end_of_rib(*family))) {
            break;
        }
    }
    let peers = speaker.peers()?;
    let routes: u32 = peers.iter().flat_map(|peer| &peer.families).map(|(_, state)| state.routes).sum();
    println!("complete: {routes} routes");
    loop {
        thread::park();
    }
}
