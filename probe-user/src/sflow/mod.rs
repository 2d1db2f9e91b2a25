//! sFlow: header samples and interface counters to collectors, by a thread with a bounded queue.
//!
//! ```text
//! kernel ring -> samples (reader) -> queue -> sflow -> an Agent for each collector
//! ```
//!
//! The reader never waits: what finds the queue full is counted, and collectors are told of it as of samples that
//! the kernel had no room for (`drops`).

mod books;
mod counters;
mod gateway;
mod reader;
mod routing;
mod source;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use pathflow_exporter::sflow::{Agent, AgentSettings, CounterSchedule};
use pathflow_exporter::{ExportEvent, ExportTime, FlowDirection, Transport, Udp, UdpSettings};
use tracing::{debug, info, warn};

pub use books::{CollectorBooks, SflowBooks, SflowEnded};
pub use reader::SampleReader;
use routing::{PacketRoute, Routing, SampledAt};
use source::Sources;

use crate::captures::Shared;
use crate::clock::Clock;
use crate::enrich::{RouteDetail, RouteSource};
use crate::error::RunError;
use crate::interfaces::{CounterQuery, InterfaceNames, NameTable, RouteQuery};
use crate::metering::observation::{ObservationPoint, ObservationPoints};
use crate::metering::samples::SampledHeader;
use crate::pipeline::spawn;

/// Samples that wait for the thread at most: a second of what a busy router samples, 1.5 MiB.
const QUEUE_SAMPLES: usize = 8192;
/// Samples between two looks at the clock.
const BATCH: usize = 256;
/// How often what waits is sent, and counters are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Longest wait for room in a socket: all collectors share the thread.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// Where samples are sent, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SflowSettings {
    /// Collectors; at least one.
    pub collectors: Vec<SocketAddr>,
    /// Agent address; `None` = the source address of the datagrams.
    pub agent_address: Option<IpAddr>,
    /// Sub-agent ID.
    pub sub_agent_id: u32,
    /// How often the counters of each interface are sent.
    pub counter_interval: Duration,
    /// Source address of the datagrams; `None` = the system chooses.
    pub source_address: Option<IpAddr>,
}

/// What there is while nobody is to get samples.
static NOBODY: SflowSettings = SflowSettings {
    collectors: Vec::new(),
    agent_address: None,
    sub_agent_id: 0,
    counter_interval: Duration::from_secs(20),
    source_address: None,
};

impl SflowSettings {
    /// What the agent of one of the collectors is made of: two that are equal are the same.
    fn of_collector(&self, collector: SocketAddr) -> Self {
        Self { collectors: vec![collector], counter_interval: Duration::ZERO, ..self.clone() }
    }
}

/// sFlow at work.
#[derive(Debug)]
pub struct Sflow {
    samples: Sender<SampledHeader>,
    changes: Sender<Change>,
    settings: SflowSettings,
    books: SflowBooks,
    thread: JoinHandle<()>,
}

/// What the thread has to change.
#[derive(Debug)]
struct Change {
    /// Agents that go on, by what they are made of; the others end.
    kept: Vec<SflowSettings>,
    begun: Vec<Exporting>,
    counter_interval: Duration,
}

/// Agents that are ready to take the place of others.
#[derive(Debug)]
pub struct NextSflow {
    settings: SflowSettings,
    begun: Vec<Exporting>,
}

/// An agent, and what it is made of.
#[derive(Debug)]
struct Exporting {
    settings: SflowSettings,
    destination: String,
    agent: Agent,
}

impl Sflow {
    /// Opens the sockets and starts the thread. Without settings it has nobody to send to, until that
    /// [changes](Self::change).
    ///
    /// # Errors
    /// [`RunError`] if a collector cannot be sent to or the thread not be started.
    pub fn start(
        settings: Option<&SflowSettings>,
        shared: &Shared,
        routes: &RouteSource,
        clock: Clock,
    ) -> Result<Self, RunError> {
        let settings = settings.unwrap_or(&NOBODY);
        let agents = settings.collectors.iter().map(|collector| agent(settings, *collector));
        let agents: Vec<Exporting> = agents.collect::<Result<_, RunError>>()?;
        let books = SflowBooks::default();
        books.enter(&agents);
        let (sender, samples) = bounded(QUEUE_SAMPLES);
        let (changes, changed) = unbounded();
        // No record of sFlow tells of origin validation; that of the gateway has paths and communities.
        let routes = RouteSource { roas: None, detail: RouteDetail::Attributes, ..routes.clone() };
        let exporter = Exporter {
            agents,
            samples,
            changed,
            points: Arc::clone(&shared.points),
            names: shared.names.clone(),
            clock,
            query: CounterQuery::new().map_err(RunError::Netlink)?,
            routing: Routing::new(RouteQuery::new().map_err(RunError::Netlink)?, routes.enricher()),
            counter_interval: settings.counter_interval,
            schedule: CounterSchedule::new(settings.counter_interval),
            sources: Sources::default(),
            books: books.clone(),
        };
        let thread = spawn("sflow".to_owned(), move || exporter.run())?;
        Ok(Self { samples: sender, changes, settings: settings.clone(), books, thread })
    }

    /// Opens the sockets of what is new of these settings; without any, nobody gets samples.
    ///
    /// # Errors
    /// [`RunError`] if a collector cannot be sent to; then nothing has changed.
    pub fn prepare(&self, settings: Option<&SflowSettings>) -> Result<NextSflow, RunError> {
        let settings = settings.unwrap_or(&NOBODY);
        let is_new = |collector: &&SocketAddr| !self.has(&settings.of_collector(**collector));
        let new = settings.collectors.iter().filter(is_new);
        let begun = new.map(|collector| agent(settings, *collector)).collect::<Result<_, _>>()?;
        Ok(NextSflow { settings: settings.clone(), begun })
    }

    /// Collectors that are wanted get samples from now on, and others get what there is for them and no more. Those whose
    /// settings are the same do not notice.
    pub fn change(&mut self, next: NextSflow) {
        let NextSflow { settings, begun } = next;
        let kept: Vec<SflowSettings> =
            settings.collectors.iter().map(|collector| settings.of_collector(*collector)).collect();
        for collector in &self.settings.collectors {
            if kept.contains(&self.settings.of_collector(*collector)) {
                continue;
            }
            if settings.collectors.contains(collector) {
                info!("sFlow to {collector} begins anew with other settings");
            } else {
                info!("sFlow to {collector} ends");
            }
        }
        let counter_interval = settings.counter_interval;
        self.settings = settings;
        // The thread ends after this end of the queue.
        let _ = self.changes.send(Change { kept, begun, counter_interval });
    }

    fn has(&self, settings: &SflowSettings) -> bool {
        let collectors = self.settings.collectors.iter();
        collectors.into_iter().any(|collector| self.settings.of_collector(*collector) == *settings)
    }

    /// The sending end of the queue. The thread ends when all of them are gone.
    #[must_use]
    pub fn queue(&self) -> Sender<SampledHeader> {
        self.samples.clone()
    }

    /// The accounts.
    #[must_use]
    pub fn books(&self) -> SflowBooks {
        self.books.clone()
    }

    /// Sends what is left, until `deadline`; returns how many samples were not taken from the queue. Nobody else may
    /// hold the queue any more.
    #[must_use]
    pub fn finish(self, deadline: Instant) -> u64 {
        while !self.samples.is_empty() && !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let left = self.samples.len() as u64;
        drop(self.samples);
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.thread.is_finished() {
            // A panic in it has ended the process already.
            let _ = self.thread.join();
        }
        left
    }
}

fn agent(settings: &SflowSettings, collector: SocketAddr) -> Result<Exporting, RunError> {
    let udp = Udp::connect(&UdpSettings {
        source_address: settings.source_address,
        send_timeout: SEND_TIMEOUT,
        ..UdpSettings::new(collector)
    })?;
    let own = settings.agent_address.map_or_else(|| udp.source_address(), Ok);
    let agent_address = own.map_err(|error| RunError::SflowAddress { collector, error })?;
    let sub_agent_id = settings.sub_agent_id;
    let of_agent = AgentSettings { sub_agent_id, ..AgentSettings::new(agent_address) };
    let agent = Agent::new(of_agent, Transport::Udp(udp))?;
    info!("sFlow to {collector} as agent {agent_address}, sub-agent {sub_agent_id}");
    Ok(Exporting { settings: settings.of_collector(collector), destination: collector.to_string(), agent })
}

/// What the thread has.
struct Exporter {
    agents: Vec<Exporting>,
    samples: Receiver<SampledHeader>,
    changed: Receiver<Change>,
    points: Arc<ObservationPoints>,
    names: NameTable,
    clock: Clock,
    query: CounterQuery,
    routing: Routing,
    counter_interval: Duration,
    schedule: CounterSchedule,
    sources: Sources,
    books: SflowBooks,
}

impl Exporter {
    /// Works until the queue has no sending end.
    fn run(mut self) {
        let mut next_tick = Instant::now();
        let mut changes = self.changed.clone();
        loop {
            select! {
                recv(self.samples) -> sample => match sample {
                    Ok(sample) => self.export(&sample),
                    Err(_) => break,
                },
                recv(changes) -> change => match change {
                    Ok(change) => self.change(change),
                    // The end is near.
                    Err(_) => changes = never(),
                },
                default(next_tick.saturating_duration_since(Instant::now())) => {}
            }
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + TICK;
                self.tick();
            }
            self.settle();
        }
        let now = self.now();
        for Exporting { agent, .. } in &mut self.agents {
            agent.close(now);
        }
        self.settle();
    }

    /// Other agents from now on.
    fn change(&mut self, change: Change) {
        let now = self.now();
        let (kept, mut ending): (Vec<Exporting>, Vec<Exporting>) =
            self.agents.drain(..).partition(|exporting| change.kept.contains(&exporting.settings));
        for exporting in &mut ending {
            exporting.agent.close(now);
            exporting.log();
            self.books.end(exporting);
        }
        self.agents = kept;
        self.agents.extend(change.begun);
        if change.counter_interval != self.counter_interval {
            self.counter_interval = change.counter_interval;
            self.schedule = CounterSchedule::new(change.counter_interval);
        }
        self.settle();
    }

    /// Exports this sample and some of those that wait behind it.
    fn export(&mut self, first: &SampledHeader) {
        let (now, table, names) = (self.now(), self.points.table(), self.names.load());
        let mut export = |sample: &SampledHeader| {
            if self.agents.is_empty() {
                return;
            }
            let Some(point) = table.get(sample.observation_point) else { return };
            let route = route(&mut self.routing, now.monotonic, sample, point, &names);
            let segments = route.gateway.as_ref().map(|gateway| gateway.segments()).unwrap_or_default();
            let gateway = route.gateway.as_ref().map(|gateway| gateway.extended_gateway(&segments));
            let flow_sample = self.sources.flow_sample(sample, point, &route, gateway, &names);
            for Exporting { agent, .. } in &mut self.agents {
                agent.flow_sample(now, &flow_sample);
            }
        };
        export(first);
        self.samples.try_iter().take(BATCH).for_each(|sample| export(&sample));
    }

    fn tick(&mut self) {
        let now = self.now();
        if !self.agents.is_empty() {
            self.export_counters(now);
        }
        for Exporting { agent, .. } in &mut self.agents {
            agent.tick(now);
        }
    }

    /// Counters of the captured interfaces that are due.
    fn export_counters(&mut self, now: ExportTime) {
        let (table, names) = (self.points.table(), self.names.load());
        let mut seen = Vec::new();
        for (_, point) in table.in_use() {
            if point.interface == 0 || seen.contains(&point.interface) {
                continue;
            }
            seen.push(point.interface);
            if !self.schedule.is_due(now.monotonic, point.interface) {
                continue;
            }
            match self.query.read(point.interface) {
                Ok(link) => {
                    let number = names.number(point.interface);
                    let counters = counters::interface_counters(&link, number, &point.name);
                    for Exporting { agent, .. } in &mut self.agents {
                        agent.counter_sample(now, &counters);
                    }
                }
                // It has just gone.
                Err(error) => debug!("{}: no counters for sFlow: {error}", point.name),
            }
        }
        self.schedule.retain(|index| seen.contains(&index));
    }

    fn settle(&mut self) {
        self.books.enter(&self.agents);
        self.agents.iter_mut().for_each(Exporting::log);
    }

    fn now(&self) -> ExportTime {
        let reading = self.clock.read();
        ExportTime {
            unix_milliseconds: reading.wall / 1_000_000,
            monotonic: Duration::from_nanos(reading.monotonic),
        }
    }
}

impl Exporting {
    fn log(&mut self) {
        while let Some(event) = self.agent.next_event() {
            log(&self.destination, &event);
        }
    }
}

/// What routing knows of the packet.
fn route(
    routing: &mut Routing,
    now: Duration,
    sample: &SampledHeader,
    point: &ObservationPoint,
    names: &Arc<InterfaceNames>,
) -> PacketRoute {
    let number = |index| if index == 0 { 0 } else { names.number(index) };
    let (ingress_interface, came_in, went_out) = match point.direction {
        FlowDirection::Ingress => (point.interface, point.interface, 0),
        // It has gone that way already.
        FlowDirection::Egress => (0, sample.ingress_interface, point.interface),
    };
    let sampled_at = SampledAt {
        direction: point.direction,
        ingress_interface: number(came_in),
        egress_interface: number(went_out),
    };
    let packet = routing::packet(sample, point.has_link_header, ingress_interface);
    packet.map(|packet| routing.route(now, packet, sampled_at, names)).unwrap_or_default()
}

fn log(destination: &str, event: &ExportEvent) {
    match event {
        ExportEvent::Refused { error } => {
            warn!(
                "sFlow collector {destination} refuses datagrams: {error}; samples are lost until it is back"
            );
        }
        ExportEvent::TimedOut => warn!("sFlow collector {destination}: the socket takes no more datagrams"),
        ExportEvent::Failed { error } => warn!("sFlow collector {destination}: sending fails: {error}"),
        ExportEvent::Recovered => info!("sFlow collector {destination} takes datagrams again"),
        ExportEvent::PathMtuChanged { from, to } => {
            info!("sFlow collector {destination}: path MTU is now {to} octets, was {from}");
        }
        // Of flow records, connections and standard output only.
        ExportEvent::Closed
        | ExportEvent::Connected
        | ExportEvent::ConnectFailed { .. }
        | ExportEvent::ConnectionLost { .. }
        | ExportEvent::Limited { .. }
        | ExportEvent::CannotCarry { .. } => {}
    }
}
