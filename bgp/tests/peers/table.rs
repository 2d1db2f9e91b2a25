//! Routes as both sides can be made to show them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use pathflow_bgp::Origin;
use pathflow_bgp::fsm::State;
use pathflow_bgp::speaker::{PeerSettings, PeerStatus, RouteEntry, Settings, Speaker, SpeakerHandle};

/// What is compared of a route. Lists are in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Facts {
    pub prefix: String,
    pub path_id: u32,
    pub origin: String,
    pub as_path: String,
    pub next_hop: String,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub communities: Vec<String>,
    pub large_communities: Vec<String>,
}

impl From<&RouteEntry> for Facts {
    fn from(route: &RouteEntry) -> Self {
        let attributes = &route.attributes;
        let origin = match attributes.origin {
            Origin::Igp => "IGP",
            Origin::Egp => "EGP",
            Origin::Incomplete => "Incomplete",
        };
        let community = |number: &u32| format!("{}:{}", number >> 16, number & 0xffff);
        Self {
            prefix: route.nlri.prefix.to_string(),
            path_id: route.nlri.path_id,
            origin: origin.to_owned(),
            as_path: attributes.as_path.to_string(),
            next_hop: attributes.next_hop.map(|next_hop| next_hop.to_string()).unwrap_or_default(),
            med: attributes.multi_exit_disc,
            local_pref: attributes.local_pref,
            communities: attributes.communities.iter().map(community).collect(),
            large_communities: attributes
                .large_communities
                .iter()
                .map(|[a, b, c]| format!("{a}:{b}:{c}"))
                .collect(),
        }
    }
}

/// A speaker with one peer.
pub fn start(listen: &str, peer: PeerSettings) -> SpeakerHandle {
    let settings =
        Settings { listen: vec![listen.parse().unwrap()], peers: vec![peer], ..Settings::default() };
    Speaker::start(settings).unwrap()
}

pub fn peer(address: &str) -> PeerSettings {
    let address: IpAddr = address.parse().unwrap();
    PeerSettings { open_delay: Duration::from_secs(2), ..PeerSettings::new(address.into()) }
}

/// The only peer.
pub fn status(speaker: &SpeakerHandle) -> PeerStatus {
    speaker.peers().unwrap().remove(0)
}

pub fn is_up(speaker: &SpeakerHandle) -> bool {
    status(speaker).state == State::Established
}

/// Whether End-of-RIB came for all families of the session.
pub fn is_complete(speaker: &SpeakerHandle) -> bool {
    let status = status(speaker);
    is_up(speaker) && !status.families.is_empty() && status.families.iter().all(|(_, state)| state.end_of_rib)
}

/// All routes of the only peer, none of them stale.
pub fn routes(speaker: &SpeakerHandle) -> BTreeSet<Facts> {
    speaker
        .routes(status(speaker).id)
        .map(|route| {
            assert!(!route.stale, "{route:?}");
            Facts::from(&route)
        })
        .collect()
}

/// Shows the first differences, not two whole tables.
pub fn assert_equal(ours: &BTreeSet<Facts>, theirs: &BTreeSet<Facts>) {
    let missing: Vec<_> = theirs.difference(ours).take(5).collect();
    let extra: Vec<_> = ours.difference(theirs).take(5).collect();
    assert!(missing.is_empty() && extra.is_empty(), "not here: {missing:#?}\nonly here: {extra:#?}");
    assert_eq!(ours.len(), theirs.len());
}
