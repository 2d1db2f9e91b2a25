//! Metrics of the BMP station. Label values are bounded: routers are, and the tables of a router's peers are summed up.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use pathflow_bgp::bmp::router::Statistics;
use pathflow_bgp::bmp::status::{RouterStatus, StationHandle};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Rows, family};

/// The station at one moment.
#[derive(Debug)]
pub(super) struct Bmp {
    routers: Vec<RouterStatus>,
    station: StationHandle,
}

impl Bmp {
    /// `None` if it does not answer.
    pub(super) fn of(station: &StationHandle) -> Option<Self> {
        Some(Self { routers: station.routers()?, station: station.clone() })
    }
}

/// Message types (RFC 7854, section 4.1), by their numbers.
const MESSAGES: [&str; 7] = [
    "route_monitoring",
    "statistics_report",
    "peer_down",
    "peer_up",
    "initiation",
    "termination",
    "route_mirroring",
];

type Kind = (&'static str, fn(&Statistics) -> &AtomicU64);
const REFUSED: [Kind; 2] =
    [("stranger", |counts| &counts.refused_sources), ("too_many_routers", |counts| &counts.refused_routers)];
const ERRORS: [Kind; 11] = [
    ("connection_replaced", |counts| &counts.replaced_connections),
    ("connection_malformed", |counts| &counts.bad_connections),
    ("connection_failed", |counts| &counts.connection_failures),
    ("unknown_peer", |counts| &counts.unknown_peers),
    ("unknown_peer_type", |counts| &counts.unknown_peer_types),
    ("unknown_peer_down_reason", |counts| &counts.unknown_reasons),
    ("peer_refused", |counts| &counts.refused_peers),
    ("malformed_open", |counts| &counts.bad_opens),
    ("malformed_update", |counts| &counts.bad_updates),
    ("treated_as_withdraw", |counts| &counts.treated_as_withdraw),
    ("attribute_discarded", |counts| &counts.discarded_attributes),
];

/// Nothing without a station.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, bmp: Option<&Bmp>) -> fmt::Result {
    let Some(bmp) = bmp else { return Ok(()) };
    routers(encoder, &bmp.routers)?;
    let counts = bmp.station.statistics();
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    for (name, help, value) in [
        ("pathflow_bmp_connections", "Connections of routers accepted", &counts.connections),
        (
            "pathflow_bmp_refused_routes",
            "Routes not taken because a bound was reached",
            &counts.refused_routes,
        ),
    ] {
        family(encoder, name, help, MetricType::Counter, [], &[([], load(value))])?;
    }
    let rows: Rows<'_, 1> =
        MESSAGES.iter().zip(&counts.messages).map(|(name, count)| ([*name], load(count))).collect();
    let help = "BMP messages received";
    family(encoder, "pathflow_bmp_messages", help, MetricType::Counter, ["type"], &rows)?;
    for (name, help, label, kinds) in [
        ("pathflow_bmp_refused_connections", "Connections of routers refused", "reason", &REFUSED[..]),
        ("pathflow_bmp_errors", "What went wrong with a router", "kind", &ERRORS[..]),
    ] {
        let rows: Rows<'_, 1> = kinds.iter().map(|(kind, value)| ([*kind], load(value(counts)))).collect();
        family(encoder, name, help, MetricType::Counter, [label], &rows)?;
    }
    Ok(())
}

fn routers(encoder: &mut DescriptorEncoder<'_>, routers: &[RouterStatus]) -> fmt::Result {
    let named: Vec<(String, &RouterStatus)> =
        routers.iter().map(|router| (router.address.to_string(), router)).collect();
    let rows: Rows<'_, 1> =
        named.iter().map(|(name, router)| ([&**name], u64::from(router.connected))).collect();
    let help = "1 if the router is connected";
    family(encoder, "pathflow_bmp_connected", help, MetricType::Gauge, ["router"], &rows)?;
    let mut rows: Rows<'_, 2> = Vec::new();
    for (name, router) in &named {
        let up = router.peers.iter().filter(|peer| peer.up).count();
        rows.push(([name, "up"], up as u64));
        rows.push(([name, "down"], (router.peers.len() - up) as u64));
    }
    let help = "Peers of the router, by the state of their sessions with it";
    family(encoder, "pathflow_bmp_peers", help, MetricType::Gauge, ["router", "state"], &rows)?;

    let mut sums: BTreeMap<(&str, String, String), [u64; 2]> = BTreeMap::new();
    for (name, router) in &named {
        for table in router.peers.iter().flat_map(|peer| &peer.tables) {
            for (family, state) in &table.families {
                let sum = sums.entry((name, table.rib.to_string(), family.to_string())).or_default();
                sum[0] += u64::from(state.routes);
                sum[1] += u64::from(state.stale);
            }
        }
    }
    for (index, name, help) in [
        (0, "pathflow_bmp_routes", "Routes of all peers of the router, stale ones included"),
        (1, "pathflow_bmp_stale_routes", "Routes of a peer or router that is lost, or not sent again yet"),
    ] {
        let rows: Rows<'_, 3> =
            sums.iter().map(|((router, rib, family), sum)| ([*router, rib, family], sum[index])).collect();
        family(encoder, name, help, MetricType::Gauge, ["router", "rib", "family"], &rows)?;
    }
    Ok(())
}
