//! The BMP station: routers that tell what their peers told them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;

use pathflow_bgp::bmp::router::{self, Statistics};
use pathflow_bgp::bmp::station::{self, Station};
use pathflow_bgp::bmp::status::{MonitoredStatus, Questions, RouterStatus, StationHandle, TableStatus};
use pathflow_bgp::rib::Rib;
use tokio::task::spawn_local;
use tracing::{info, warn};

use super::{Complete, family_answers};
use crate::config::BmpSettings;
use crate::control::PeerAnswer;
use crate::error::RunError;

/// A station that listens already, and answers when it is served.
pub(super) struct Listening {
    listener: TcpListener,
    settings: station::Settings,
    statistics: Arc<Statistics>,
    questions: Questions,
}

/// Listens.
pub(super) fn listen(settings: &BmpSettings) -> Result<(StationHandle, Listening), RunError> {
    let address = settings.listen;
    let listener = listener(address).map_err(|error| RunError::Bmp { address, error })?;
    info!("BMP on {address}");
    let router = router::Settings {
        stale_time: settings.stale_time,
        max_peers: settings.max_peers,
        ..router::Settings::default()
    };
    let allowed = Some(settings.routers.clone());
    let settings = station::Settings { allowed, max_routers: settings.max_routers, router };
    let statistics: Arc<Statistics> = Arc::default();
    let (handle, questions) = StationHandle::new(Arc::clone(&statistics));
    Ok((handle, Listening { listener, settings, statistics, questions }))
}

impl Listening {
    /// In the thread that owns the RIB.
    pub(super) fn serve(self, rib: Rc<RefCell<Rib>>) {
        let Self { listener, settings, statistics, questions } = self;
        let station = Station::new(settings, rib, statistics);
        let answering = station.clone();
        spawn_local(async move { answering.answer(questions).await });
        spawn_local(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => station.run(listener).await,
                Err(error) => warn!("no BMP: {error}"),
            }
        });
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether the `expected` routers, and all others that are connected, have sent all routes of their peers. A router
/// says which peers it has before it says anything of their routes (RFC 7854, section 5).
pub(super) fn complete(routers: &[RouterStatus], expected: &BTreeSet<IpAddr>) -> Complete {
    let is_complete = |router: &RouterStatus| {
        let mut up = router.peers.iter().filter(|peer| peer.up).peekable();
        router.connected && up.peek().is_some() && up.all(MonitoredStatus::is_complete)
    };
    let is_there =
        |address: &IpAddr| routers.iter().any(|router| router.address == *address && is_complete(router));
    let mut connected = routers.iter().filter(|router| router.connected);
    match (expected.iter().all(is_there), connected.clone().next()) {
        (true, None) => Complete::Nobody,
        (true, Some(_)) if connected.all(is_complete) => Complete::Yes,
        _ => Complete::No,
    }
}

/// A peer for each table, and one for each peer without any.
pub(super) fn answers(routers: &[RouterStatus]) -> Vec<PeerAnswer> {
    let mut answers = Vec::new();
    for router in routers {
        for peer in &router.peers {
            let answer = |name: String, table: Option<&TableStatus>| PeerAnswer {
                peer: name,
                as_number: peer.as_number,
                state: if peer.up { "BMP up" } else { "BMP down" }.to_owned(),
                families: table.map(|table| family_answers(&table.families)).unwrap_or_default(),
                ..PeerAnswer::default()
            };
            answers.extend(peer.tables.iter().map(|table| answer(table.name.clone(), Some(table))));
            if peer.tables.is_empty() {
                answers.push(answer(format!("bmp {} {}", router.address, peer.key.address), None));
            }
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use pathflow_bgp::bmp::router::PeerKey;
    use pathflow_bgp::bmp::wire::{PeerKind, RibKind};
    use pathflow_bgp::rib::{FamilyState, PeerId, PeerIdentity};
    use pathflow_bgp::{Family, RouteDistinguisher};

    use super::*;

    fn id() -> PeerId {
        let address = IpAddr::from([127, 0, 0, 1]);
        Rib::new().add_peer(PeerIdentity { name: "test".into(), address }, None)
    }

    /// A router with a peer for each entry: is it up, and which of its families have had their End-of-RIB.
    fn router(last: u8, connected: bool, peers: &[(bool, &[bool])]) -> RouterStatus {
        let peers = peers.iter().map(|(up, ends)| {
            let families = Family::ALL.into_iter().zip(*ends).map(|(family, end_of_rib)| {
                (family, FamilyState { routes: 1, end_of_rib: *end_of_rib, ..FamilyState::default() })
            });
            let rib = RibKind::AdjRibInPrePolicy;
            MonitoredStatus {
                key: PeerKey {
                    kind: PeerKind::Global,
                    distinguisher: RouteDistinguisher([0; 8]),
                    address: [192, 0, 2, 1].into(),
                },
                up: *up,
                as_number: 64_500,
                tables: vec![TableStatus {
                    id: id(),
                    name: "test".to_owned(),
                    rib,
                    families: families.collect(),
                }],
            }
        });
        let address = [127, 0, 0, last].into();
        RouterStatus { address, system_name: None, connected, peers: peers.collect() }
    }

    #[test]
    fn routes_are_complete_when_every_router_has_sent_every_end() {
        let all: &[bool] = &[true, true];
        let some: &[bool] = &[true, false];
        let nobody = BTreeSet::new();
        let first = BTreeSet::from([IpAddr::from([127, 0, 0, 1])]);
        for (routers, expected, state) in [
            (vec![], &nobody, Complete::Nobody),
            (vec![], &first, Complete::No),
            (vec![router(1, true, &[(true, all)])], &first, Complete::Yes),
            (vec![router(1, true, &[(true, all)])], &nobody, Complete::Yes),
            (vec![router(2, true, &[(true, all)])], &first, Complete::No),
            (vec![router(1, true, &[(true, all), (true, some)])], &first, Complete::No),
            // A peer that is down has nothing to say, and of one that is up all may be to come.
            (vec![router(1, true, &[(true, all), (false, some)])], &first, Complete::Yes),
            (vec![router(1, true, &[(true, all), (true, &[])])], &first, Complete::No),
            (vec![router(1, true, &[])], &nobody, Complete::No),
            (vec![router(1, true, &[(true, all)]), router(2, true, &[(true, some)])], &first, Complete::No),
            // Gone.
            (vec![router(1, false, &[(false, all)])], &first, Complete::No),
            (
                vec![router(1, true, &[(true, all)]), router(2, false, &[(false, some)])],
                &first,
                Complete::Yes,
            ),
        ] {
            assert_eq!(complete(&routers, expected), state, "{routers:#?}");
        }
    }
}
