//! Every metric, in the `OpenMetrics` text format.
//!
//! Numbers come from one copy of the [`Books`], so the identities of the ledger hold exactly within a
//! scrape. No label has unbounded values.

mod aggregate;
mod bgp;
mod bgp_output;
mod bmp;
mod classify;
mod sflow;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pathflow_bgp::bmp::status::StationHandle;
use pathflow_bgp::rpki::rtr::client::Statistics;
use pathflow_bgp::speaker::SpeakerHandle;
use pathflow_common::DropReason;
use pathflow_exporter::{LimitReason, LossReason, SendErrorKind, Tally};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::bgp_output::OutputCounts;
use crate::capture::pin::CrashLoss;
use crate::capture::{FlowTables, PayloadCounts, PayloadStates};
use crate::classify::{ClassCounts, Classes, TapSource};
use crate::ledger::{Amount, Books, Ledger, PointAccounts};
use crate::metering::observation::{ObservationPoints, PointTable};
use crate::metering::samples::{SamplePool, SampleTotals};
use crate::sflow::{CollectorBooks, SflowBooks};

/// Names of `flowEndReason` (IE 136) as label values, by number.
const END_REASONS: [&str; 6] =
    ["unknown", "idle_timeout", "active_timeout", "end_of_flow", "forced_end", "lack_of_resources"];

/// How long the stages take. One entry per epoch or batch, never per packet.
#[derive(Debug)]
pub struct Latencies(Mutex<Histograms>);

#[derive(Clone, Debug)]
struct Histograms {
    stages: [Histogram<u64>; STAGES.len()],
    last_drain: Instant,
}

const STAGES: [(&str, &str); 4] = [
    ("grace_period", "Waiting until no program uses the old epoch"),
    ("drain", "Draining one worker's tables of one epoch"),
    ("merge", "Merging a batch of deltas into the flow cache"),
    ("export", "Encoding and sending a batch of records"),
];

/// Longest duration that is told apart.
const LONGEST: Duration = Duration::from_mins(1);

impl Latencies {
    /// Empty histograms.
    #[must_use]
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "constants that the library accepts, as every test shows"
    )]
    pub fn new() -> Self {
        let stages = std::array::from_fn(|_| {
            Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 2).expect("1 to 60e9 ns, 2 digits")
        });
        Self(Mutex::new(Histograms { stages, last_drain: Instant::now() }))
    }

    /// Waiting for the end of an epoch took this long.
    pub fn grace_period(&self, duration: Duration) {
        self.record(0, duration);
    }

    /// Draining took this long.
    pub fn drain(&self, duration: Duration) {
        self.record(1, duration);
        self.lock().last_drain = Instant::now();
    }

    /// Merging a batch took this long.
    pub fn merge(&self, duration: Duration) {
        self.record(2, duration);
    }

    /// Exporting a batch took this long.
    pub fn export(&self, duration: Duration) {
        self.record(3, duration);
    }

    /// How long ago the last drain ended.
    #[must_use]
    pub fn since_drain(&self) -> Duration {
        self.lock().last_drain.elapsed()
    }

    /// Median, 99th percentile, maximum and number of entries of each stage, by name.
    #[must_use]
    pub fn summary(&self) -> Vec<(&'static str, [Duration; 3], u64)> {
        let histograms = self.lock().clone();
        STAGES
            .iter()
            .zip(&histograms.stages)
            .map(|((name, _), histogram)| {
                let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
                (*name, [at(0.5), at(0.99), Duration::from_nanos(histogram.max())], histogram.len())
            })
            .collect()
    }

    fn record(&self, stage: usize, duration: Duration) {
        self.lock().stages[stage].saturating_record(duration.as_nanos() as u64);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Histograms> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// What a scrape reads.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Accounts.
    pub ledger: Arc<Ledger>,
    /// Latencies.
    pub latencies: Arc<Latencies>,
    /// The kernel's tables, for what is in the current epoch.
    pub tables: Arc<FlowTables>,
    /// Observation points.
    pub points: Arc<ObservationPoints>,
    /// Header samples.
    pub samples: SamplePool,
    /// What was sent by sFlow.
    pub sflow: SflowBooks,
    /// The BGP speaker, if there is one.
    pub bgp: Option<SpeakerHandle>,
    /// The BMP station, if there is one.
    pub bmp: Option<StationHandle>,
    /// What the client of the RPKI cache did, if there is one.
    pub rpki: Option<Arc<Statistics>>,
    /// Files of what BGP peers have sent.
    pub bgp_output: OutputCounts,
    /// Applications of flows, if anybody asks.
    pub classes: Option<Arc<Classes>>,
    /// What the kernel program sends to find them.
    pub payloads: Option<PayloadStates>,
    /// What mirror ports send to find them.
    pub taps: Option<TapSource>,
}

impl Sources {
    /// The page of metrics.
    ///
    /// # Errors
    /// Only if memory for the text cannot be had.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape {
            books: self.ledger.books(),
            live: self.tables.live_packets(),
            latencies: self.latencies.summary(),
            points: self.points.table(),
            samples: self.samples.totals(),
            sflow: self.sflow.collectors(),
            bgp: self.bgp.as_ref().and_then(bgp::Bgp::of),
            bmp: self.bmp.as_ref().and_then(bmp::Bmp::of),
            rpki: self.rpki.clone(),
            bgp_output: self.bgp_output.clone(),
            classes: self.classes.as_ref().map(|classes| classes.counts()),
            payloads: self.payloads.as_ref().map(PayloadStates::counts),
            tapped_lost: self.taps.as_ref().map_or(0, TapSource::lost),
        }));
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry)?;
        Ok(page)
    }
}

#[derive(Debug)]
struct Scrape {
    books: Books,
    live: u64,
    latencies: Vec<(&'static str, [Duration; 3], u64)>,
    points: Arc<PointTable>,
    samples: Vec<(u16, SampleTotals)>,
    sflow: Vec<CollectorBooks>,
    bgp: Option<bgp::Bgp>,
    bmp: Option<bmp::Bmp>,
    rpki: Option<Arc<Statistics>>,
    bgp_output: OutputCounts,
    classes: Option<ClassCounts>,
    payloads: Option<PayloadCounts>,
    tapped_lost: u64,
}

/// Rows of a family: label values in the order of its label names, and the value.
type Rows<'a, const N: usize> = Vec<([&'a str; N], u64)>;

impl Scrape {
    /// Points that are registered or have seen something, with interface name and direction. An interface that
    /// was away has several points.
    fn named_points(&self) -> Vec<(PointAccounts, [&str; 2])> {
        let mut named: Vec<(PointAccounts, [&str; 2])> = Vec::new();
        for (number, accounts) in (0..).zip(&self.books.points) {
            let labels = match self.points.get(number) {
                Some(point) if number > 0 => [point.name.as_str(), point.direction.as_str()],
                _ if accounts.seen.is_zero() => continue,
                _ => ["unregistered", "ingress"],
            };
            match named.iter_mut().find(|(_, other)| *other == labels) {
                Some((sum, _)) => sum.add(accounts),
                None => named.push((*accounts, labels)),
            }
        }
        named
    }

    fn point_family(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        kind: MetricType,
        value: impl Fn(&PointAccounts) -> Amount,
    ) -> fmt::Result {
        let rows = |unit: fn(Amount) -> u64| -> Rows<'_, 2> {
            self.named_points()
                .into_iter()
                .map(|(accounts, labels)| (labels, unit(value(&accounts))))
                .collect()
        };
        let labels = ["interface", "direction"];
        family(
            encoder,
            &format!("{name}_packets"),
            &format!("Packets {help}"),
            kind,
            labels,
            &rows(|a| a.packets),
        )?;
        family(
            encoder,
            &format!("{name}_octets"),
            &format!("Octets {help}"),
            kind,
            labels,
            &rows(|a| a.octets),
        )
    }

    fn packets(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.point_family(
            encoder,
            "pathflow_received",
            "received, in epochs that have been drained",
            MetricType::Counter,
            |point| point.seen,
        )?;
        self.point_family(encoder, "pathflow_recorded", "in flow records", MetricType::Counter, |point| {
            point.in_records
        })?;
        self.point_family(
            encoder,
            "pathflow_spilled",
            "that came by way of a spill log",
            MetricType::Counter,
            |point| point.spilled,
        )?;
        self.point_family(
            encoder,
            "pathflow_in_kernel",
            "of an epoch that is being drained",
            MetricType::Gauge,
            |point| point.in_kernel,
        )?;
        self.point_family(
            encoder,
            "pathflow_in_transit",
            "between kernel and flow cache",
            MetricType::Gauge,
            |point| point.in_transit,
        )?;
        self.point_family(encoder, "pathflow_flow_cache", "in the flow cache", MetricType::Gauge, |point| {
            point.in_cache
        })?;
        let labels = ["interface", "direction"];
        for (name, help, value) in [
            (
                "pathflow_later_fragments",
                "Packets received that are fragments after the first of their datagram",
                (|point: &PointAccounts| point.later_fragments) as fn(&PointAccounts) -> u64,
            ),
            (
                "pathflow_fragments_without_ports",
                "Fragments accounted without ports, because the first one of their datagram was not seen",
                |point| point.fragments_without_ports,
            ),
            (
                "pathflow_packets_without_extension",
                "Packets in flows that are not told apart by all of tunnel, label stack and custom primitives, for lack of room or because a run before counted them",
                |point| point.without_extension,
            ),
        ] {
            let rows: Rows<'_, 2> =
                self.named_points().iter().map(|(accounts, labels)| (*labels, value(accounts))).collect();
            family(encoder, name, help, MetricType::Counter, labels, &rows)?;
        }
        for (unit, name, help) in [
            (
                (|amount: Amount| amount.packets) as fn(Amount) -> u64,
                "pathflow_dropped_packets",
                "Packets not accounted to a flow",
            ),
            (|amount: Amount| amount.octets, "pathflow_dropped_octets", "Octets not accounted to a flow"),
        ] {
            let mut rows: Rows<'_, 4> = Vec::new();
            for (accounts, [interface, direction]) in self.named_points() {
                for reason in DropReason::ALL {
                    let value = unit(accounts.dropped[reason as usize]);
                    rows.push(([interface, direction, "kernel", reason.as_str()], value));
                }
            }
            family(
                encoder,
                name,
                help,
                MetricType::Counter,
                ["interface", "direction", "stage", "reason"],
                &rows,
            )?;
        }
        self.crash_losses(encoder)?;
        family(
            encoder,
            "pathflow_live_packets",
            "Packets that the kernel program has counted since the last drain, about: not yet in any other figure",
            MetricType::Gauge,
            [],
            &[([], self.live)],
        )
    }

    /// Only of interfaces whose headers are sampled.
    fn header_samples(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut named: Vec<([&str; 2], SampleTotals)> = Vec::new();
        for (number, totals) in &self.samples {
            let Some(point) = self.points.get(*number) else { continue };
            let labels = [point.name.as_str(), point.direction.as_str()];
            match named.iter_mut().find(|(other, _)| *other == labels) {
                Some((_, sum)) => sum.add(*totals),
                None => named.push((labels, *totals)),
            }
        }
        for (name, help, value) in [
            (
                "pathflow_header_samples",
                "Header samples received from the kernel program",
                (|totals| totals.samples) as fn(SampleTotals) -> u64,
            ),
            ("pathflow_header_sample_pool", "Packets from which header samples were drawn", |totals| {
                totals.pool
            }),
            ("pathflow_header_sample_drops", "Header samples lost on their way to user space", |totals| {
                totals.drops
            }),
            (
                "pathflow_header_sample_queue_full",
                "Header samples that found the queue of sFlow full",
                |totals| totals.queue_full,
            ),
        ] {
            let rows: Rows<'_, 2> = named.iter().map(|(labels, totals)| (*labels, value(*totals))).collect();
            family(encoder, name, help, MetricType::Counter, ["interface", "direction"], &rows)?;
        }
        Ok(())
    }

    fn crash_losses(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in [
            (
                "pathflow_crash_lost_packets",
                "Packets that pinned runs had drained but not exported when they were killed",
                (|loss: &CrashLoss| loss.lost.packets) as fn(&CrashLoss) -> u64,
            ),
            (
                "pathflow_crash_lost_octets",
                "Octets that pinned runs had drained but not exported when they were killed",
                |loss| loss.lost.octets,
            ),
            (
                "pathflow_crash_doubtful_packets",
                "Packets of pathflow_crash_lost_packets that were being sent, and may have arrived",
                |loss| loss.doubtful.packets,
            ),
        ] {
            let losses = self.books.crash_losses.iter();
            let rows: Rows<'_, 2> = losses
                .map(|(sink, loss)| {
                    let (format, destination) = sink.split_once(' ').unwrap_or((sink, ""));
                    ([format, destination], value(loss))
                })
                .collect();
            family(encoder, name, help, MetricType::Counter, ["format", "destination"], &rows)?;
        }
        Ok(())
    }

    fn flows(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        family(
            encoder,
            "pathflow_flow_cache_flows",
            "Flows in the flow cache",
            MetricType::Gauge,
            [],
            &[([], self.books.flows)],
        )?;
        let rows: Rows<'_, 1> = END_REASONS
            .iter()
            .zip(self.books.records_by_reason)
            .skip(1)
            .map(|(name, count)| ([*name], count))
            .collect();
        family(
            encoder,
            "pathflow_expired_flows",
            "Flow records made, by flowEndReason",
            MetricType::Counter,
            ["reason"],
            &rows,
        )
    }

    fn sinks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sinks = self.books.sinks_by_destination();
        let labels = ["format", "destination"];
        for (stem, unit) in TALLY_UNITS {
            let rows = |value: fn(&crate::ledger::SinkAccounts) -> Tally| -> Rows<'_, 2> {
                sinks
                    .iter()
                    .map(|sink| ([sink.format, sink.destination.as_str()], unit(value(sink))))
                    .collect()
            };
            family(
                encoder,
                &format!("pathflow_exported_{stem}"),
                &format!("Exported {stem}: sent without a report of failure"),
                MetricType::Counter,
                labels,
                &rows(|sink| sink.account.delivered),
            )?;
            family(
                encoder,
                &format!("pathflow_export_queued_{stem}"),
                &format!("Records waiting for the sink: {stem}"),
                MetricType::Gauge,
                labels,
                &rows(|sink| sink.queued),
            )?;
            family(
                encoder,
                &format!("pathflow_export_pending_{stem}"),
                &format!("In a message that is not full yet, or just sent: {stem}"),
                MetricType::Gauge,
                labels,
                &rows(|sink| sink.account.pending + sink.account.in_flight),
            )?;
            family(
                encoder,
                &format!("pathflow_export_not_selected_{stem}"),
                &format!("Records that the sink is not for, by its conditions or its share: {stem}"),
                MetricType::Counter,
                labels,
                &rows(|sink| sink.not_selected),
            )?;
            family(
                encoder,
                &format!("pathflow_export_missed_{stem}"),
                &format!("Made before the sink was there, or after it had ended: {stem}"),
                MetricType::Counter,
                labels,
                &rows(|sink| sink.missed),
            )?;
            let mut rows: Rows<'_, 3> = Vec::new();
            for sink in &sinks {
                let labels = |reason| [sink.format, sink.destination.as_str(), reason];
                rows.push((labels("queue_full"), unit(sink.queue_full)));
                for reason in LossReason::ALL {
                    rows.push((labels(reason.as_str()), unit(sink.account.lost(reason))));
                }
            }
            family(
                encoder,
                &format!("pathflow_export_dropped_{stem}"),
                &format!("Records that no collector will get: {stem}"),
                MetricType::Counter,
                ["format", "destination", "reason"],
                &rows,
            )?;
        }
        let rows = |value: fn(&crate::ledger::SinkAccounts) -> u64| -> Rows<'_, 2> {
            sinks.iter().map(|sink| ([sink.format, sink.destination.as_str()], value(sink))).collect()
        };
        family(
            encoder,
            "pathflow_export_messages",
            "Messages sent",
            MetricType::Counter,
            labels,
            &rows(|sink| sink.counts.messages),
        )?;
        family(
            encoder,
            "pathflow_export_message_octets",
            "Octets of messages sent, without IP and UDP headers",
            MetricType::Counter,
            labels,
            &rows(|sink| sink.counts.octets),
        )?;
        family(
            encoder,
            "pathflow_export_templates",
            "Template Records sent",
            MetricType::Counter,
            labels,
            &rows(|sink| sink.counts.templates),
        )?;
        let mut rows: Rows<'_, 3> = Vec::new();
        for sink in &sinks {
            for reason in LimitReason::ALL {
                let labels = [sink.format, sink.destination.as_str(), reason.as_str()];
                rows.push((labels, sink.counts.limited(reason)));
            }
        }
        family(
            encoder,
            "pathflow_export_limited_records",
            "Records of which the format could not say everything",
            MetricType::Counter,
            ["format", "destination", "reason"],
            &rows,
        )?;
        let mut rows: Rows<'_, 3> = Vec::new();
        for sink in &sinks {
            for kind in SendErrorKind::ALL {
                rows.push((
                    [sink.format, sink.destination.as_str(), kind.as_str()],
                    sink.counts.send_errors(kind),
                ));
            }
        }
        family(
            encoder,
            "pathflow_export_send_errors",
            "Failed sends, whether or not a second one succeeded",
            MetricType::Counter,
            ["format", "destination", "kind"],
            &rows,
        )
    }

    fn durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for ((name, help), (_, quantiles, count)) in STAGES.iter().zip(&self.latencies) {
            let (metric, metric_help) =
                (format!("pathflow_{name}_duration_seconds"), format!("{help}: quantiles since the start"));
            let mut rows = encoder.encode_descriptor(&metric, &metric_help, None, MetricType::Gauge)?;
            for (quantile, duration) in ["0.5", "0.99", "1"].iter().zip(quantiles) {
                rows.encode_family(&[("quantile", *quantile)])?.encode_gauge(&duration.as_secs_f64())?;
            }
            family(
                encoder,
                &format!("pathflow_{name}s"),
                &format!("{help}: times done"),
                MetricType::Counter,
                [],
                &[([], *count)],
            )?;
        }
        Ok(())
    }
}

type TallyUnit = fn(Tally) -> u64;
const TALLY_UNITS: [(&str, TallyUnit); 3] = [
    ("records", |tally| tally.records),
    ("packets", |tally| tally.packets),
    ("octets", |tally| tally.octets),
];

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.packets(&mut encoder)?;
        self.header_samples(&mut encoder)?;
        sflow::encode(&mut encoder, &self.sflow)?;
        bgp::encode(&mut encoder, self.bgp.as_ref(), self.rpki.as_deref())?;
        let lost = self.bgp.as_ref().map_or(0, bgp::Bgp::lost_events);
        bgp_output::encode(&mut encoder, &self.bgp_output, lost)?;
        aggregate::encode(&mut encoder, &self.books.aggregates_by_name())?;
        bmp::encode(&mut encoder, self.bmp.as_ref())?;
        classify::encode(&mut encoder, self.classes.as_ref(), self.payloads.as_ref(), self.tapped_lost)?;
        self.flows(&mut encoder)?;
        self.sinks(&mut encoder)?;
        self.durations(&mut encoder)
    }
}

fn family<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: MetricType,
    label_names: [&str; N],
    rows: &[([&str; N], u64)],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (values, value) in rows {
        let labels: Vec<(&str, &str)> = label_names.iter().copied().zip(values.iter().copied()).collect();
        if labels.is_empty() {
            sample(&mut family, kind, *value)?;
        } else {
            sample(&mut family.encode_family(&labels)?, kind, *value)?;
        }
    }
    Ok(())
}

fn sample(metric: &mut MetricEncoder<'_>, kind: MetricType, value: u64) -> fmt::Result {
    match kind {
        MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        _ => metric.encode_gauge(&(value as i64)),
    }
}
