//! How routers, their peers and RIBs stand: what other threads can ask of a station.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::router::{MonitoredPeer, PeerKey, Statistics, rib_name};
use super::station::Station;
use super::wire::RibKind;
use crate::Family;
use crate::rib::{FamilyState, PeerId, Rib};

/// Questions not answered yet.
const QUESTIONS: usize = 16;

/// One router at one moment.
#[derive(Clone, Debug)]
pub struct RouterStatus {
    /// Source of its connections.
    pub address: IpAddr,
    /// sysName as the router gives it, escaped.
    pub system_name: Option<String>,
    /// It is connected now.
    pub connected: bool,
    /// Its peers, those that are down and stale too.
    pub peers: Vec<MonitoredStatus>,
}

/// A peer of a router.
#[derive(Clone, Debug)]
pub struct MonitoredStatus {
    /// As all messages name it.
    pub key: PeerKey,
    /// Its session with the router is up, and the router with us.
    pub up: bool,
    /// Its AS number.
    pub as_number: u32,
    /// The RIBs of which routes have come.
    pub tables: Vec<TableStatus>,
}

/// A RIB of a peer.
#[derive(Clone, Debug)]
pub struct TableStatus {
    /// Number in our RIB.
    pub id: PeerId,
    /// Name in our RIB.
    pub name: String,
    /// Which RIB.
    pub rib: RibKind,
    /// Families with routes or with End-of-RIB.
    pub families: Vec<(Family, FamilyState)>,
}

impl MonitoredStatus {
    /// Whether it is up and all of its routes have come: End-of-RIB for every family of every RIB.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let mut families = self.tables.iter().flat_map(|table| &table.families).peekable();
        self.up && families.peek().is_some() && families.all(|(_, state)| state.end_of_rib)
    }
}

/// The way to a station. Clones lead to the same one.
#[derive(Clone, Debug)]
pub struct StationHandle {
    questions: Sender<SyncSender<Vec<RouterStatus>>>,
    statistics: Arc<Statistics>,
}

/// The station's end: see [`Station::answer`].
#[derive(Debug)]
pub struct Questions(Receiver<SyncSender<Vec<RouterStatus>>>);

impl StationHandle {
    /// For the station that has these `statistics`.
    #[must_use]
    pub fn new(statistics: Arc<Statistics>) -> (Self, Questions) {
        let (questions, receiver) = channel(QUESTIONS);
        (Self { questions, statistics }, Questions(receiver))
    }

    /// How all routers stand, by address; `None` if the station has ended or has too many questions. Waits for its
    /// answer: not to be called in an async task that other work depends on.
    #[must_use]
    pub fn routers(&self) -> Option<Vec<RouterStatus>> {
        let (sender, answer) = sync_channel(1);
        self.questions.try_send(sender).ok()?;
        answer.recv().ok()
    }

    /// What the station did.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }
}

impl Station<Rib> {
    /// Answers questions until nobody is left who could ask. To be run beside [`Self::run`].
    pub async fn answer(&self, mut questions: Questions) {
        while let Some(answer) = questions.0.recv().await {
            // Who asked may have gone.
            let _ = answer.send(self.status());
        }
    }

    /// How all routers stand, by address.
    #[must_use]
    pub fn status(&self) -> Vec<RouterStatus> {
        let rib = self.sink().borrow();
        let mut routers = Vec::new();
        self.routers(|address, connected, router| {
            let mut peers: Vec<_> =
                router.peers().map(|(key, peer)| monitored(&rib, address, *key, peer)).collect();
            peers.sort_by_key(|peer| (peer.key.address, peer.key.distinguisher.0));
            let system_name = router.system_name().map(str::to_owned);
            routers.push(RouterStatus { address, system_name, connected, peers });
        });
        routers.sort_by_key(|router| router.address);
        routers
    }
}

fn monitored(rib: &Rib, router: IpAddr, key: PeerKey, peer: &MonitoredPeer) -> MonitoredStatus {
    let table = |(kind, id): (RibKind, Option<PeerId>)| {
        let id = id?;
        let families = Family::ALL.into_iter().map(|family| (family, rib.family_state(id, family)));
        let families = families.filter(|(_, state)| state.routes > 0 || state.end_of_rib).collect();
        Some(TableStatus { id, name: rib_name(router, &key, kind), rib: kind, families })
    };
    let tables = RibKind::ALL.into_iter().zip(peer.ribs).filter_map(table).collect();
    MonitoredStatus { key, up: peer.up, as_number: peer.as_number, tables }
}
