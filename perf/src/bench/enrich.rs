//! `enrich`: records that get what a full table says of their addresses.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use ipnet::IpNet;
use pathflow::enrich::{AgentRule, CurrentSettings, EnrichSettings, Enricher, RouteDetail};
use pathflow::interfaces::InterfaceNames;
use pathflow_exporter::FlowRecord;
use pathflow_perf::cpu::{Stay, thread_time};
use pathflow_perf::full_table::{FullTable, Shape, Size};
use pathflow_perf::random::Random;
use pathflow_perf::rib;
use serde::Serialize;

use crate::Common;
use crate::records::BATCH;
use crate::report::{Report, Spread};

/// Records of one run, enriched in batches of [`BATCH`].
const RECORDS: usize = 256 * 1024;

#[derive(Serialize)]
struct Row {
    family: &'static str,
    traffic: &'static str,
    lookups: &'static str,
    records_have: &'static str,
    million_records_per_second: Spread,
}

pub(crate) fn run(common: &Common, report: &mut Report) -> Result<()> {
    let table = FullTable::generate(Size::FULL);
    report.heading(
        "enrich",
        &format!(
            "{} runs in turn of {RECORDS} records, source and destination each in a route; {} prefixes, {} attribute \
             sets; CPU time of the thread\n\n{:>6} {:>10} {:>10} {:>12} {:>26}",
            common.runs,
            table.routes.len(),
            table.attribute_sets.len(),
            "family",
            "traffic",
            "lookups",
            "records have",
            "M records/s min/med/max"
        ),
    );
    let (mut rib, peer) = rib::with_one_peer();
    rib::apply(&mut rib, peer, &table.updates(Shape::Packed).0)?;
    // A rule of the operator's chooses the peer record by record, so that addresses are looked up one by one.
    let rule =
        AgentRule { peer: "full".into(), ip_version: None, networks: Vec::new(), interfaces: Vec::new() };
    let one_by_one = EnrichSettings { agents: vec![rule], ..EnrichSettings::default() };
    let enricher = |settings| Enricher::new(CurrentSettings::new(settings), Some(rib.reader()), None);
    let numbers = |settings| enricher(settings).with_detail(RouteDetail::Numbers);
    let mut enrichers = [
        ("batches", "numbers", numbers(EnrichSettings::default())),
        ("one by one", "numbers", numbers(one_by_one.clone())),
        ("batches", "attributes", enricher(EnrichSettings::default())),
        ("one by one", "attributes", enricher(one_by_one)),
    ];
    let names: Arc<InterfaceNames> = Arc::default();
    let mut subjects = Vec::new();
    for (family, is_ipv6) in [("IPv4", false), ("IPv6", true)] {
        let nets: Vec<IpNet> = table.routes.iter().map(|(net, _)| *net).collect();
        let nets: Vec<IpNet> = nets.into_iter().filter(|net| net.addr().is_ipv6() == is_ipv6).collect();
        for traffic in ["random", "zipf"] {
            let rates = [const { Vec::new() }; 4];
            subjects.push((family, traffic, records(&nets, traffic == "zipf"), rates));
        }
    }
    let _stay = Stay::on(common.cpu)?;
    // The first run fills the caches of routes, as traffic does.
    for run in 0..=common.runs {
        for (_, _, records, rates) in &mut subjects {
            for ((_, _, enricher), rates) in enrichers.iter_mut().zip(rates) {
                // What the one before left in them is freed on its account.
                for record in &mut *records {
                    (record.source_route, record.destination_route) = (None, None);
                    record.destination_prefix_length = 0;
                }
                let start = thread_time();
                for batch in records.chunks_mut(BATCH as usize) {
                    enricher.enrich(batch, &names);
                }
                let elapsed = thread_time().saturating_sub(start).as_secs_f64();
                let routes = records.iter().filter(|record| record.destination_prefix_length > 0).count();
                ensure!(routes == RECORDS, "{} records have no route", RECORDS - routes);
                if run > 0 {
                    rates.push(RECORDS as f64 / elapsed / 1e6);
                }
            }
        }
    }
    for (family, traffic, _, rates) in subjects {
        for ((lookups, records_have, _), rates) in enrichers.iter().zip(rates) {
            let row =
                Row { family, traffic, lookups, records_have, million_records_per_second: Spread::of(rates) };
            let rate = row.million_records_per_second.text(2);
            report.row(
                &format!("{family:>6} {traffic:>10} {lookups:>10} {records_have:>12} {rate:>26}"),
                &row,
            )?;
        }
    }
    Ok(())
}

/// Between addresses of random routes; with `zipf`, the n-th route has one n-th of the traffic of the first.
fn records(nets: &[IpNet], zipf: bool) -> Vec<FlowRecord> {
    let mut random = Random::seeded(7);
    let mut address = || -> IpAddr {
        let index = if zipf {
            // Rank by the inverse of the distribution, which is near the logarithm of the rank.
            let share = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
            ((nets.len() as f64).powf(share) as usize).saturating_sub(1)
        } else {
            random.below(nets.len() as u32) as usize
        };
        let bits = (u128::from(random.next()) << 64) | u128::from(random.next());
        match nets.get(index.min(nets.len() - 1)) {
            Some(IpNet::V4(net)) => {
                IpAddr::V4((net.network().to_bits() | (bits as u32 & net.hostmask().to_bits())).into())
            }
            Some(IpNet::V6(net)) => {
                IpAddr::V6((net.network().to_bits() | (bits & net.hostmask().to_bits())).into())
            }
            None => IpAddr::from([0; 4]),
        }
    };
    (0..RECORDS).map(|_| FlowRecord::between(address(), address())).collect()
}
