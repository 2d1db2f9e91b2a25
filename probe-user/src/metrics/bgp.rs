//! Metrics of BGP peers and of the RPKI cache. There are as many label values as there are peers.

use std::fmt;
use std::sync::atomic::Ordering;

use pathflow_bgp::fsm::State;
use pathflow_bgp::iana::attribute_name;
use pathflow_bgp::rpki::rtr::client::Statistics;
use pathflow_bgp::speaker::{PeerCounters, PeerStatus, SpeakerCounters, SpeakerHandle};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Rows, family};

/// The speaker at one moment.
#[derive(Debug)]
pub(super) struct Bgp {
    peers: Vec<PeerStatus>,
    counters: SpeakerCounters,
}

impl Bgp {
    /// `None` if it does not answer.
    pub(super) fn of(speaker: &SpeakerHandle) -> Option<Self> {
        Some(Self { peers: speaker.peers().ok()?, counters: speaker.counters().ok()? })
    }

    /// Events that found the queue of the message log full.
    pub(super) fn lost_events(&self) -> u64 {
        self.counters.log_events_dropped
    }

    fn counted(&self, value: fn(&PeerCounters) -> u64) -> Rows<'_, 1> {
        self.peers.iter().map(|peer| ([&*peer.name], value(&peer.counters))).collect()
    }
}

const STATES: [(&str, State); 6] = [
    ("idle", State::Idle),
    ("connect", State::Connect),
    ("active", State::Active),
    ("open_sent", State::OpenSent),
    ("open_confirm", State::OpenConfirm),
    ("established", State::Established),
];

type Kind = (&'static str, fn(&PeerCounters) -> u64);
const ERRORS: [Kind; 7] = [
    ("treated_as_withdraw", |counters| counters.treated_as_withdraw),
    ("attribute_discarded", |counters| counters.attributes_discarded),
    ("notification_received", |counters| counters.notifications_received),
    ("notification_sent", |counters| counters.notifications_sent),
    ("connection_refused", |counters| counters.connections_refused),
    ("connect_failed", |counters| counters.connects_failed),
    ("route_refused", |counters| counters.routes_refused),
];

/// Nothing without a speaker and without a cache.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    bgp: Option<&Bgp>,
    cache: Option<&Statistics>,
) -> fmt::Result {
    if let Some(bgp) = bgp {
        sessions(encoder, bgp)?;
        routes(encoder, bgp)?;
        errors(encoder, bgp)?;
    }
    cache.map_or(Ok(()), |cache| rpki(encoder, cache))
}

fn sessions(encoder: &mut DescriptorEncoder<'_>, bgp: &Bgp) -> fmt::Result {
    let mut rows: Rows<'_, 2> = Vec::new();
    for peer in &bgp.peers {
        for (name, state) in STATES {
            rows.push(([&peer.name, name], u64::from(peer.state == state)));
        }
    }
    let help = "1 for the state that the session is in";
    family(encoder, "pathflow_bgp_session", help, MetricType::Gauge, ["peer", "state"], &rows)?;
    for (name, help, value) in [
        (
            "pathflow_bgp_sessions",
            "Times that the session came up",
            (|c| c.sessions) as fn(&PeerCounters) -> u64,
        ),
        ("pathflow_bgp_updates", "UPDATE messages received", |c| c.updates_received),
        ("pathflow_bgp_received_octets", "Octets received", |c| c.octets_received),
    ] {
        family(encoder, name, help, MetricType::Counter, ["peer"], &bgp.counted(value))?;
    }
    Ok(())
}

fn routes(encoder: &mut DescriptorEncoder<'_>, bgp: &Bgp) -> fmt::Result {
    let mut states = Vec::new();
    for peer in &bgp.peers {
        states.extend(peer.families.iter().map(|(family, state)| (&peer.name, family.to_string(), state)));
    }
    for (name, help, value) in [
        (
            "pathflow_bgp_routes",
            "Routes, stale ones included",
            (|state| state.routes.into()) as fn(&pathflow_bgp::rib::FamilyState) -> u64,
        ),
        ("pathflow_bgp_stale_routes", "Routes of a session that is over, or not sent again yet", |state| {
            state.stale.into()
        }),
        ("pathflow_bgp_end_of_rib", "1 if all routes have come in this session", |state| {
            state.end_of_rib.into()
        }),
    ] {
        let rows: Rows<'_, 2> =
            states.iter().map(|(peer, family, state)| ([&***peer, family], value(state))).collect();
        family(encoder, name, help, MetricType::Gauge, ["peer", "family"], &rows)?;
    }
    let mut rows: Rows<'_, 2> = Vec::new();
    for peer in &bgp.peers {
        let counters = &peer.counters;
        for (change, count) in [
            ("added", counters.routes_added),
            ("replaced", counters.routes_replaced),
            ("unchanged", counters.routes_unchanged),
            ("withdrawn", counters.routes_withdrawn),
        ] {
            rows.push(([&peer.name, change], count));
        }
    }
    let help = "Routes announced and withdrawn, by what that changed";
    family(encoder, "pathflow_bgp_route_changes", help, MetricType::Counter, ["peer", "change"], &rows)
}

fn errors(encoder: &mut DescriptorEncoder<'_>, bgp: &Bgp) -> fmt::Result {
    let mut rows: Rows<'_, 2> = Vec::new();
    for peer in &bgp.peers {
        rows.extend(ERRORS.iter().map(|(kind, value)| ([&*peer.name, *kind], value(&peer.counters))));
    }
    let help = "What went wrong with a peer";
    family(encoder, "pathflow_bgp_errors", help, MetricType::Counter, ["peer", "kind"], &rows)?;
    attribute_errors(encoder, bgp)?;
    let counters = bgp.counters;
    let rows = [
        (["stranger"], counters.strangers_refused),
        (["too_many_dynamic_peers"], counters.dynamic_peers_refused),
        (["accept_error"], counters.accept_errors),
    ];
    let help = "Connections refused that are no peer's";
    family(encoder, "pathflow_bgp_refused_connections", help, MetricType::Counter, ["reason"], &rows)
}

/// At most two rows for each of the 256 type codes.
fn attribute_errors(encoder: &mut DescriptorEncoder<'_>, bgp: &Bgp) -> fmt::Result {
    let mut errors = Vec::new();
    for peer in &bgp.peers {
        for ((type_code, handling), count) in &peer.attribute_errors {
            let name = attribute_name(*type_code).map_or_else(|| type_code.to_string(), str::to_owned);
            errors.push((&peer.name, name, handling.name(), *count));
        }
    }
    let rows: Rows<'_, 3> =
        errors.iter().map(|(peer, name, handling, count)| ([&***peer, name, *handling], *count)).collect();
    let labels = ["peer", "attribute", "handling"];
    let help = "Malformed path attributes, by what followed (RFC 7606)";
    family(encoder, "pathflow_bgp_attribute_errors", help, MetricType::Counter, labels, &rows)
}

fn rpki(encoder: &mut DescriptorEncoder<'_>, cache: &Statistics) -> fmt::Result {
    let load = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
    for (name, help, kind, value) in [
        (
            "pathflow_rpki_connected",
            "1 if the cache is connected",
            MetricType::Gauge,
            u64::from(cache.connected.load(Ordering::Relaxed)),
        ),
        ("pathflow_rpki_vrps", "Validated ROA payloads of the cache", MetricType::Gauge, load(&cache.vrps)),
        (
            "pathflow_rpki_published",
            "Complete sets that the cache has given",
            MetricType::Counter,
            load(&cache.published),
        ),
    ] {
        family(encoder, name, help, kind, [], &[([], value)])?;
    }
    let rows = [
        (["connection"], load(&cache.connection_failures)),
        (["protocol"], load(&cache.faults)),
        (["error_report"], load(&cache.error_reports)),
        (["response_timeout"], load(&cache.response_timeouts)),
        (["too_many_vrps"], load(&cache.too_many_vrps)),
    ];
    family(
        encoder,
        "pathflow_rpki_errors",
        "Connections to the cache that failed",
        MetricType::Counter,
        ["kind"],
        &rows,
    )
}
