//! `encode`: how many flow records, and samples of packets, a core turns into messages.

use std::hint::black_box;
use std::io;

use allocation_counter::measure;
use anyhow::{Result, ensure};
use pathflow_exporter::encode::{Encoder, Message};
use pathflow_exporter::sflow::{Agent, AgentSettings, FlowSample, HeaderProtocol, SampledInterface};
use pathflow_exporter::{FieldGroups, FlowRecord, Format, ObservationContext, Stdout, Transport};
use pathflow_perf::cpu;
use serde::Serialize;

use crate::Common;
#[cfg(feature = "netgauze")]
use crate::netgauze;
use crate::records::{BATCH, NOW, enriched_records, records};
use crate::report::{Report, Spread, met};

/// Batches of one run.
const BATCHES: u32 = 4000;
/// What a message has room for on an Ethernet with IPv4.
pub(crate) const BUDGET: usize = 1472;
/// Wanted of IPFIX and NetFlow, million records a second.
const TARGET: f64 = 50.0;

/// One measured number.
#[derive(Serialize)]
struct Row {
    encoder: &'static str,
    format: &'static str,
    /// Fields beside the standard ones.
    groups: &'static str,
    family: &'static str,
    /// Of CPU time.
    million_records_per_second: Spread,
    /// Allocations per record, of the first run after buffers have their size.
    allocations_per_record: f64,
    /// Octets of messages per record, headers included.
    octets_per_record: f64,
    /// Whether there is a target, and it is met.
    target_met: Option<bool>,
}

/// Encodes one batch; octets of the messages.
type Batch = Box<dyn FnMut() -> u64>;

/// What is measured, and what it has measured so far.
struct Subject {
    encoder: &'static str,
    format: &'static str,
    groups: &'static str,
    family: &'static str,
    has_target: bool,
    batch: Batch,
    rates: Vec<f64>,
    allocations: Option<u64>,
    octets: u64,
}

impl Subject {
    fn new(encoder: &'static str, format: &'static str, family: &'static str, batch: Batch) -> Self {
        let has_target = encoder == "pathflow" && format != "sflow";
        Self {
            encoder,
            format,
            groups: "",
            family,
            has_target,
            batch,
            rates: Vec::new(),
            allocations: None,
            octets: 0,
        }
    }

    /// One run. What is slow gets fewer batches.
    fn measure(&mut self) {
        let batches = if self.encoder == "pathflow" { BATCHES } else { BATCHES / 16 };
        let mut elapsed = 0.0;
        self.octets = 0;
        let allocated = measure(|| {
            let start = cpu::thread_time();
            for _ in 0..batches {
                self.octets += (self.batch)();
            }
            elapsed = cpu::thread_time().saturating_sub(start).as_secs_f64();
        });
        let count = f64::from(batches) * f64::from(BATCH);
        self.octets = (self.octets as f64 / f64::from(batches)) as u64;
        self.allocations.get_or_insert(allocated.count_total / u64::from(batches));
        self.rates.push(count / elapsed / 1e6);
    }

    fn row(&self) -> Row {
        let million_records_per_second = Spread::of(self.rates.iter().copied());
        let allocations = self.allocations.unwrap_or(0);
        let is_met = million_records_per_second.median >= TARGET && allocations == 0;
        Row {
            encoder: self.encoder,
            format: self.format,
            groups: self.groups,
            family: self.family,
            million_records_per_second,
            allocations_per_record: allocations as f64 / f64::from(BATCH),
            octets_per_record: self.octets as f64 / f64::from(BATCH),
            target_met: self.has_target.then_some(is_met),
        }
    }
}

pub(crate) fn run(common: &Common, report: &mut Report) -> Result<()> {
    report.heading(
        "encode",
        &format!(
            "{} runs of each, in turn; batches of {BATCH} records, messages of {BUDGET} octets; rates are of CPU \
             time; target {TARGET} M/s and no allocation\n\n{:<10} {:<12} {:<11} {:<5} {:>26} {:>8} {:>8} {:>7}",
            common.runs, "encoder", "format", "groups", "ip", "M records/s min/med/max", "allocs", "octets", "target"
        ),
    );
    let mut subjects = subjects()?;
    for subject in &mut subjects {
        // Storage gets its size.
        (subject.batch)();
    }
    for _ in 0..common.runs {
        for subject in &mut subjects {
            subject.measure();
        }
    }
    for subject in &subjects {
        let row = subject.row();
        report.row(&line(&row), &row)?;
        ensure!(
            subject.encoder != "pathflow" || row.allocations_per_record == 0.0,
            "{} allocates",
            subject.format
        );
    }
    Ok(())
}

fn line(row: &Row) -> String {
    format!(
        "{:<10} {:<12} {:<11} {:<5} {:>26} {:>8.2} {:>8.1} {:>7}",
        row.encoder,
        row.format,
        row.groups,
        row.family,
        row.million_records_per_second.text(2),
        row.allocations_per_record,
        row.octets_per_record,
        row.target_met.map_or("", met),
    )
}

fn subjects() -> Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    for format in [Format::Ipfix, Format::NetflowV9, Format::NetflowV5] {
        for (family, is_ipv6) in [("ipv4", false), ("ipv6", true)] {
            if format == Format::NetflowV5 && is_ipv6 {
                continue;
            }
            let batch = encode(format, FieldGroups::NONE, records(is_ipv6))?;
            subjects.push(Subject::new("pathflow", format.as_str(), family, batch));
            #[cfg(feature = "netgauze")]
            if format != Format::NetflowV5 {
                let batch = netgauze::encode(format, &records(is_ipv6))?;
                subjects.push(Subject::new("netgauze", format.as_str(), family, batch));
            }
        }
    }
    let communities = FieldGroups::BGP.with(FieldGroups::COMMUNITIES);
    for (format, name, groups) in [
        (Format::Ipfix, "bgp", FieldGroups::BGP),
        (Format::Ipfix, "communities", communities),
        (Format::Ipfix, "all", communities.with(FieldGroups::TAGS)),
        (Format::NetflowV9, "bgp", FieldGroups::BGP),
    ] {
        for (family, is_ipv6) in [("ipv4", false), ("ipv6", true)] {
            let batch = encode(format, groups, enriched_records(is_ipv6))?;
            let subject = Subject::new("pathflow", format.as_str(), family, batch);
            subjects.push(Subject { groups: name, ..subject });
        }
    }
    subjects.push(Subject::new("pathflow", "sflow", "ipv4", sample()?));
    Ok(subjects)
}

/// Encodes `records` into full messages, again and again.
fn encode(format: Format, groups: FieldGroups, records: Vec<FlowRecord>) -> Result<Batch> {
    let mut encoder = Encoder::with_groups(format, 1, groups);
    let mut message = Message::new();
    // The first message has the templates.
    encoder.begin(&mut message, BUDGET)?;
    let context = ObservationContext::default();
    encoder.push_preamble(&mut message, &context, 0..encoder.preamble(&context).all);
    Ok(Box::new(move || {
        let mut octets = 0;
        for record in black_box(&records) {
            if encoder.push(&mut message, record).is_err() {
                encoder.finish(&mut message, NOW);
                encoder.commit(&message);
                octets += black_box(message.octets()).len() as u64;
                // There is room: an empty message takes the record that the full one did not.
                let _ = encoder.begin(&mut message, BUDGET);
                let _ = encoder.push(&mut message, record);
            }
        }
        octets
    }))
}

/// Samples of headers, with the datagrams that are made of them thrown away.
fn sample() -> Result<Batch> {
    let transport = Transport::Stdout(Stdout::from_writer(io::sink()));
    let mut agent = Agent::new(AgentSettings::new([192, 0, 2, 1].into()), transport)?;
    let mut pool = 0;
    Ok(Box::new(move || {
        let before = agent.counts().octets;
        for _ in 0..BATCH {
            pool += 1000;
            let sample = FlowSample {
                source: 1,
                sampling_rate: 1000,
                sample_pool: pool,
                drops: 0,
                input: SampledInterface::Index(1),
                output: SampledInterface::Index(2),
                protocol: HeaderProtocol::Ethernet,
                frame_length: 1514,
                header: &[0x5a; 128],
                switch: None,
                router: None,
                gateway: None,
            };
            agent.flow_sample(NOW, black_box(&sample));
        }
        agent.counts().octets - before
    }))
}
