//! `rib`: a full table, as UPDATEs, into the RIB, and lookups in it while it changes.
//!
//! Times are CPU time of the thread that works, so that other load on the machine counts only by what it does to caches.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ip_network_table_deps_treebitmap::IpLookupTable;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pathflow_bgp::Family;
use pathflow_bgp::rib::{LookupTable, Match, PeerId, Rib};
use pathflow_perf::cpu::{self, Stay, thread_time};
use pathflow_perf::full_table::{FullTable, Shape, Size};
use pathflow_perf::random::Random;
use pathflow_perf::rib;
use prefix_trie::PrefixMap;
use serde::Serialize;

use crate::Common;
use crate::exporter::routes_program;
use crate::report::{Report, Spread, met};
use crate::scratch::Scratch;

/// Addresses of one run, looked up in batches of [`BATCH`].
const LOOKUPS: usize = 4_000_000;
const BATCH: usize = 256;
/// What the writer does beside lookups.
const UPDATES_PER_SECOND: u64 = 10_000;
/// Wanted: seconds for the packed table, megabytes, million lookups a second of each family.
const TARGET_LOAD: f64 = 0.8;
const TARGET_MEMORY: f64 = 200.0;
const TARGET_LOOKUPS: [f64; 2] = [100.0, 15.0];

/// What loading took.
#[derive(Serialize)]
struct LoadRow {
    shape: &'static str,
    messages: usize,
    octets: usize,
    cpu_seconds: Spread,
    /// What the process grew by, megabytes (10^6).
    resident: Spread,
    /// What the RIB itself says it takes.
    accounted: f64,
}

/// Lookups by one structure.
#[derive(Serialize)]
struct LookupRow {
    family: &'static str,
    structure: &'static str,
    million_per_second: Spread,
    /// The same while routes change.
    under_updates: Option<Spread>,
}

pub(crate) fn run(common: &Common, report: &mut Report) -> Result<()> {
    let table = FullTable::generate(Size::FULL);
    report.heading(
        "rib",
        &format!(
            "{} runs; {} prefixes, {} attribute sets; CPU time of the thread, decoding included; resident: growth of a \
             process that does nothing else; targets: {TARGET_LOAD} s packed, {TARGET_MEMORY} MB\n\n{:>10} {:>9} {:>7} {:>22} {:>24} {:>9} {:>7}",
            common.runs,
            table.routes.len(),
            table.attribute_sets.len(),
            "UPDATEs",
            "number",
            "MB",
            "CPU s min/med/max",
            "resident MB min/med/max",
            "accounted",
            "target"
        ),
    );
    for (name, shape) in [("packed", Shape::Packed), ("one prefix", Shape::OnePrefix)] {
        let row = load(name, &table, shape, common)?;
        let in_time = shape == Shape::OnePrefix || row.cpu_seconds.median <= TARGET_LOAD;
        let line = format!(
            "{:>10} {:>9} {:>7.1} {:>22} {:>24} {:>9.1} {:>7}",
            row.shape,
            row.messages,
            row.octets as f64 / 1e6,
            row.cpu_seconds.text(3),
            row.resident.text(1),
            row.accounted,
            met(in_time && row.resident.median <= TARGET_MEMORY)
        );
        report.row(&line, &row)?;
    }
    lookups(&table, common, report)
}

fn load(name: &'static str, table: &FullTable, shape: Shape, common: &Common) -> Result<LoadRow> {
    let scratch = Scratch::new()?;
    let path = scratch.file("updates");
    let (octets, starts) = table.updates(shape);
    std::fs::write(&path, &octets)?;
    let (mut seconds, mut resident, mut accounted) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..common.runs {
        let mut command = Command::new(routes_program()?);
        command.arg("load").arg(&path);
        let _stay = Stay::on(common.cpu)?;
        let output = command.output()?;
        ensure!(output.status.success(), "loading failed: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next().context("no answer")?;
        let numbers: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [cpu, grown, counted, routes] = numbers[..] else { bail!("{line:?} are not four numbers") };
        ensure!(routes as usize == table.routes.len(), "{routes} routes of {}", table.routes.len());
        seconds.push(cpu);
        resident.push(grown / 1e6);
        accounted = counted / 1e6;
    }
    Ok(LoadRow {
        shape: name,
        messages: starts.len() - 1,
        octets: octets.len(),
        cpu_seconds: Spread::of(seconds),
        resident: Spread::of(resident),
        accounted,
    })
}

/// Addresses inside random routes of the table.
fn addresses(table: &FullTable) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
    let mut random = Random::seeded(5);
    let (mut ipv4, mut ipv6) = (Vec::with_capacity(LOOKUPS), Vec::with_capacity(LOOKUPS));
    while ipv4.len() < LOOKUPS || ipv6.len() < LOOKUPS {
        let route = random.below(table.routes.len() as u32) as usize;
        match table.routes.get(route) {
            Some((IpNet::V4(net), _)) if ipv4.len() < LOOKUPS => {
                ipv4.push(
                    (net.network().to_bits() | (random.next() as u32 & net.hostmask().to_bits())).into(),
                );
            }
            Some((IpNet::V6(net), _)) if ipv6.len() < LOOKUPS => {
                let host = (u128::from(random.next()) << 64) | u128::from(random.next());
                ipv6.push((net.network().to_bits() | (host & net.hostmask().to_bits())).into());
            }
            _ => {}
        }
    }
    (ipv4, ipv6)
}

/// Million lookups a second, and the sum of the prefix lengths found.
fn rate(lookups: impl FnOnce() -> u64) -> (f64, u64) {
    let start = thread_time();
    let sum = black_box(lookups());
    (LOOKUPS as f64 / thread_time().saturating_sub(start).as_secs_f64() / 1e6, sum)
}

fn length(found: Option<Match<'_>>) -> u64 {
    found.map_or(0, |found| found.prefix_length().into())
}

fn in_batches<'v, A>(
    addresses: &[A],
    lookup: impl Fn(&LookupTable<'v>, &[A], &mut [Option<Match<'v>>]),
    table: &LookupTable<'v>,
) -> u64 {
    let mut found = [None; BATCH];
    let batches = addresses.chunks(BATCH).map(|batch| {
        lookup(table, batch, &mut found);
        found.iter().take(batch.len()).map(|found| length(*found)).sum::<u64>()
    });
    batches.sum()
}

fn lookups(table: &FullTable, common: &Common, report: &mut Report) -> Result<()> {
    report.heading(
        "rib lookups",
        &format!(
            "{} runs in turn, {LOOKUPS} addresses in random routes; under {UPDATES_PER_SECOND} UPDATEs a second of another \
             thread; targets {TARGET_LOOKUPS:?} M/s, a third less under updates\n\n{:>6} {:>14} {:>26} {:>26} {:>7}",
            common.runs, "family", "structure", "M lookups/s min/med/max", "under updates", "target"
        ),
    );
    let (ipv4, ipv6) = addresses(table);
    let (mut rib, peer) = rib::with_one_peer();
    rib::apply(&mut rib, peer, &table.updates(Shape::Packed).0)?;
    let nets_ipv4: Vec<Ipv4Net> = table.routes.iter().filter_map(|(net, _)| ipv4_net(*net)).collect();
    let nets_ipv6: Vec<Ipv6Net> = table.routes.iter().filter_map(|(net, _)| ipv6_net(*net)).collect();
    let trie_ipv4: PrefixMap<Ipv4Net, u32> = nets_ipv4.iter().map(|net| (*net, 0)).collect();
    let trie_ipv6: PrefixMap<Ipv6Net, u32> = nets_ipv6.iter().map(|net| (*net, 0)).collect();
    let (mut bitmap_ipv4, mut bitmap_ipv6) = (IpLookupTable::new(), IpLookupTable::new());
    for net in &nets_ipv4 {
        bitmap_ipv4.insert(net.network(), net.prefix_len().into(), 0u32);
    }
    for net in &nets_ipv6 {
        bitmap_ipv6.insert(net.network(), net.prefix_len().into(), 0u32);
    }

    let mut reader = rib.reader();
    let mut measure = |quiet: bool| -> Result<[Vec<f64>; 8]> {
        let mut rates: [Vec<f64>; 8] = Default::default();
        for _ in 0..common.runs {
            let view = reader.enter();
            let lookups = view.peer(peer).context("no table")?;
            let one_by_one = || ipv4.iter().map(|address| length(lookups.lookup_ipv4(*address))).sum();
            let one_by_one_ipv6 = || ipv6.iter().map(|address| length(lookups.lookup_ipv6(*address))).sum();
            let mut results = vec![
                rate(one_by_one),
                rate(|| in_batches(&ipv4, LookupTable::lookup_batch_ipv4, &lookups)),
                rate(one_by_one_ipv6),
                rate(|| in_batches(&ipv6, LookupTable::lookup_batch_ipv6, &lookups)),
            ];
            if quiet {
                let trie_ipv4 = |address: &Ipv4Addr| {
                    trie_ipv4.get_lpm(&(*address).into()).map_or(0, |(net, _)| net.prefix_len().into())
                };
                let trie_ipv6 = |address: &Ipv6Addr| {
                    trie_ipv6.get_lpm(&(*address).into()).map_or(0, |(net, _)| net.prefix_len().into())
                };
                let bitmap_ipv4 = |address: &Ipv4Addr| {
                    bitmap_ipv4.longest_match(*address).map_or(0, |(_, length, _)| length.into())
                };
                let bitmap_ipv6 = |address: &Ipv6Addr| {
                    bitmap_ipv6.longest_match(*address).map_or(0, |(_, length, _)| length.into())
                };
                results.push(rate(|| ipv4.iter().map(trie_ipv4).sum()));
                results.push(rate(|| ipv4.iter().map(bitmap_ipv4).sum()));
                results.push(rate(|| ipv6.iter().map(trie_ipv6).sum()));
                results.push(rate(|| ipv6.iter().map(bitmap_ipv6).sum()));
                let sums: Vec<u64> = results.iter().map(|(_, sum)| *sum).collect();
                let agree = [sums[0], sums[0], sums[2], sums[2], sums[0], sums[0], sums[2], sums[2]];
                ensure!(sums == agree, "the structures do not agree: {sums:?}");
            }
            rates.iter_mut().zip(results).for_each(|(rates, (rate, _))| rates.push(rate));
        }
        Ok(rates)
    };
    let stay = Stay::on(common.cpu)?;
    let quiet = measure(true)?;
    drop(stay);

    let (done, applied) = (AtomicBool::new(false), AtomicU64::new(0));
    let (busy, elapsed) = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&mut rib, peer, table, common.cpu, &done, &applied));
        let start = Instant::now();
        let busy = Stay::on(common.cpu).map_err(anyhow::Error::from).and_then(|_stay| measure(false));
        let elapsed = start.elapsed();
        done.store(true, Ordering::Release);
        writer.join().map_err(|_| anyhow::anyhow!("the writer failed"))??;
        anyhow::Ok((busy?, elapsed))
    })?;
    let updates = applied.load(Ordering::Acquire) as f64 / elapsed.as_secs_f64();
    report.text(&format!("{updates:.0} UPDATEs a second were applied"));

    let names = [
        ("IPv4", "one by one"),
        ("IPv4", "batches"),
        ("IPv6", "one by one"),
        ("IPv6", "batches"),
        ("IPv4", "prefix-trie"),
        ("IPv4", "treebitmap"),
        ("IPv6", "prefix-trie"),
        ("IPv6", "treebitmap"),
    ];
    for ((family, structure), (quiet, busy)) in names.into_iter().zip(quiet.into_iter().zip(busy)) {
        let million_per_second = Spread::of(quiet);
        let under_updates = (!busy.is_empty()).then(|| Spread::of(busy));
        let row = LookupRow { family, structure, million_per_second, under_updates };
        let target = TARGET_LOOKUPS[usize::from(family == "IPv6")];
        let verdict = row.under_updates.map_or("", |busy| {
            let median = row.million_per_second.median;
            met(median >= target && busy.median >= median * 2.0 / 3.0)
        });
        let busy = row.under_updates.map_or(String::new(), |busy| busy.text(1));
        let quiet = row.million_per_second.text(1);
        report.row(&format!("{family:>6} {structure:>14} {quiet:>26} {busy:>26} {verdict:>7}"), &row)?;
    }
    Ok(())
}

fn ipv4_net(net: IpNet) -> Option<Ipv4Net> {
    if let IpNet::V4(net) = net { Some(net) } else { None }
}

fn ipv6_net(net: IpNet) -> Option<Ipv6Net> {
    if let IpNet::V6(net) = net { Some(net) } else { None }
}

/// Gives routes other attributes, withdraws some and announces them again, so many times a second, in bursts of a
/// millisecond.
fn write(
    rib: &mut Rib,
    peer: PeerId,
    table: &FullTable,
    reader_cpu: u32,
    done: &AtomicBool,
    applied: &AtomicU64,
) -> Result<()> {
    cpu::avoid(reader_cpu)?;
    let mut random = Random::seeded(11);
    let start = Instant::now();
    let mut count = 0u64;
    let mut gone = None;
    while !done.load(Ordering::Acquire) {
        let due = start.elapsed().as_millis() as u64 * UPDATES_PER_SECOND / 1000;
        while count < due {
            let route = gone.take().unwrap_or_else(|| random.below(table.routes.len() as u32));
            let (net, set) = table.routes.get(route as usize).context("no route")?;
            let family = if net.addr().is_ipv4() { Family::IPV4_UNICAST } else { Family::IPV6_UNICAST };
            let nlri =
                pathflow_bgp::Nlri { route_distinguisher: None, prefix: *net, path_id: 0, label: None };
            // One in eight is withdrawn, and comes back with the next UPDATE.
            if count.is_multiple_of(8) {
                rib.withdraw(peer, [(family, nlri)]);
                gone = Some(route);
            } else {
                let attributes = table.attribute_sets.get(*set as usize).context("no attributes")?;
                let number = random.below(1 << 20);
                let changed = || pathflow_bgp::Attributes { aigp: Some(number.into()), ..attributes.clone() };
                rib.announce(peer, &number.to_be_bytes(), changed, [(family, nlri)]);
            }
            count += 1;
        }
        applied.store(count, Ordering::Release);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
