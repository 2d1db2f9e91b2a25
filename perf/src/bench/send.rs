//! `send`: how many flow records a core encodes and sends, over UDP, TCP and TLS.

use std::hint::black_box;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use allocation_counter::measure;
use anyhow::{Context as _, Result, anyhow, ensure};
use pathflow_exporter::{
    ExportSettings, ExportTime, ExportingProcess, FlowRecord, Format, Session, TcpSettings, TlsFiles,
    TlsSettings, Transport, Udp, UdpSettings,
};
use pathflow_perf::cpu;
use pathflow_perf::netns::{Namespace, join};
use rustix::net::sockopt;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection};
use serde::Serialize;

use crate::Common;
use crate::records::{BATCH, NOW, records};
use crate::report::{Report, Spread, met};
use crate::scratch::Scratch;

/// Batches of one run.
const BATCHES: u32 = 1000;
/// Wanted of UDP over loopback, million records a second.
const TARGET: f64 = 5.0;
const LOOPBACK: &str = "127.0.0.1:0";
/// The far end of the veth pair.
const FAR: &str = "192.0.2.2:0";

/// One measured number.
#[derive(Serialize)]
struct Row {
    transport: &'static str,
    path: &'static str,
    format: &'static str,
    /// Of CPU time of the sending thread, in which loopback and veth also receive.
    million_records_per_second: Spread,
    nanoseconds_per_message: f64,
    /// Allocations in one batch, after buffers have their size.
    allocations_per_batch: f64,
    octets_per_message: f64,
    /// Share of datagrams that the receiver read (the others had no room in its socket), or of octets of a stream.
    received: f64,
    target_met: Option<bool>,
}

/// What is measured, and what it has measured so far.
struct Subject {
    transport: &'static str,
    path: &'static str,
    process: ExportingProcess,
    received: Received,
    rates: Vec<f64>,
    allocations: Option<u64>,
}

/// What a receiver has read so far, which is datagrams or octets.
#[derive(Clone, Default)]
struct Received(Arc<AtomicU64>);

impl Received {
    fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

/// Ends the readers of datagrams when it goes.
struct Readers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Readers {
    fn spawn(&mut self, common: &Common, read: impl FnOnce() -> Result<()> + Send + 'static) {
        let cpu = common.cpu;
        self.threads.push(thread::spawn(move || {
            cpu::avoid(cpu)?;
            read()
        }));
    }

    fn join(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a receiver has failed"))??;
        }
        Ok(())
    }
}

pub(crate) fn run(common: &Common, report: &mut Report) -> Result<()> {
    report.heading(
        "send",
        &format!(
            "{} runs of each, in turn; {BATCHES} batches of {BATCH} IPv4 records; Exporting Process to a thread on \
             another CPU that only reads; rates are of CPU time of the sender; target of UDP {TARGET} M/s\n\n\
             {:<12} {:<9} {:<11} {:>24} {:>10} {:>9} {:>9} {:>9} {:>7}",
            common.runs,
            "transport",
            "over",
            "format",
            "M records/s min/med/max",
            "ns/message",
            "octets",
            "allocs",
            "received",
            "target"
        ),
    );
    let near = Namespace::new("pathflow-perf")?;
    let far = Namespace::new("pathflow-perf")?;
    near.set_up("lo")?;
    join((&near, "veth-near"), (&far, "veth-far"))?;
    near.execute(&["ip", "address", "add", "192.0.2.1/24", "dev", "veth-near"])?;
    far.execute(&["ip", "address", "add", "192.0.2.2/24", "dev", "veth-far"])?;

    let mut readers = Readers { stop: Arc::default(), threads: Vec::new() };
    let mut subjects = Vec::new();
    for format in [Format::Ipfix, Format::NetflowV9, Format::NetflowV5] {
        for (path, namespace, address) in [("loopback", &near, LOOPBACK), ("veth", &far, FAR)] {
            if path == "veth" && format != Format::Ipfix {
                continue;
            }
            for segmentation_offload in [false, true] {
                let socket = namespace.run(|| UdpSocket::bind(address))??;
                let subject = udp(&near, socket, path, format, segmentation_offload, common, &mut readers)?;
                subjects.push(subject);
            }
        }
    }
    subjects.push(stream(&near, None, common, &mut readers)?);
    let secrets = Secrets::new()?;
    subjects.push(stream(&near, Some(&secrets), common, &mut readers)?);

    let records = records(false);
    for subject in &mut subjects {
        // Storage gets its size.
        for _ in 0..10 {
            subject.export(&records)?;
        }
    }
    for _ in 0..common.runs {
        for subject in &mut subjects {
            subject.measure(&records)?;
        }
    }
    for subject in &mut subjects {
        subject.process.close(NOW);
        let account = subject.process.account();
        ensure!(account.delivered == account.accepted, "{}: {account:?}", subject.transport);
    }
    let rows: Vec<_> = subjects
        .iter()
        .map(|subject| (subject.transport, subject.path, subject.rates.clone(), subject.allocations))
        .collect();
    readers.join()?;
    for (subject, (transport, path, rates, allocations)) in subjects.iter().zip(rows) {
        let row = subject.row(transport, path, rates, allocations.unwrap_or(0));
        report.row(&line(&row), &row)?;
        ensure!(path == "stream" || row.allocations_per_batch == 0.0, "{transport} allocates");
    }
    Ok(())
}

fn line(row: &Row) -> String {
    format!(
        "{:<12} {:<9} {:<11} {:>24} {:>10.0} {:>9.0} {:>9.2} {:>9} {:>7}",
        row.transport,
        row.path,
        row.format,
        row.million_records_per_second.text(2),
        row.nanoseconds_per_message,
        row.octets_per_message,
        row.allocations_per_batch,
        format!("{:.1} %", row.received * 100.0),
        row.target_met.map_or("", met)
    )
}

impl Subject {
    /// As a sink does: what cannot be sent yet waits.
    fn export(&mut self, records: &[FlowRecord]) -> Result<()> {
        let mut waits = 0;
        while !self.process.is_ready() {
            self.process.poll(NOW);
            waits += 1;
            ensure!(waits < 1000, "the receiver takes nothing");
        }
        self.process.export(NOW, black_box(records));
        Ok(())
    }

    fn measure(&mut self, records: &[FlowRecord]) -> Result<()> {
        let mut elapsed = Duration::ZERO;
        let mut result = Ok(());
        let allocated = measure(|| {
            let start = cpu::thread_time();
            result = (0..BATCHES).try_for_each(|_| self.export(records));
            elapsed = cpu::thread_time().saturating_sub(start);
        });
        result?;
        self.allocations.get_or_insert(allocated.count_total);
        self.rates.push(f64::from(BATCHES) * f64::from(BATCH) / elapsed.as_secs_f64() / 1e6);
        Ok(())
    }

    fn row(&self, transport: &'static str, path: &'static str, rates: Vec<f64>, allocations: u64) -> Row {
        let million_records_per_second = Spread::of(rates);
        let (account, counts) = (self.process.account(), self.process.counts());
        let records_per_message = account.accepted.records as f64 / counts.messages as f64;
        let sent = if transport.starts_with("UDP") { counts.messages } else { counts.octets };
        Row {
            transport,
            path,
            format: self.format(),
            million_records_per_second,
            nanoseconds_per_message: 1000.0 * records_per_message / million_records_per_second.median,
            allocations_per_batch: allocations as f64 / f64::from(BATCHES),
            octets_per_message: counts.octets as f64 / counts.messages as f64,
            received: self.received.0.load(Ordering::Relaxed) as f64 / sent as f64,
            target_met: (path == "loopback" && transport.starts_with("UDP"))
                .then_some(million_records_per_second.median >= TARGET),
        }
    }

    const fn format(&self) -> &'static str {
        self.process.format().as_str()
    }
}

fn udp(
    near: &Namespace,
    socket: UdpSocket,
    path: &'static str,
    format: Format,
    segmentation_offload: bool,
    common: &Common,
    readers: &mut Readers,
) -> Result<Subject> {
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    sockopt::set_socket_recv_buffer_size(&socket, 4 << 20)?;
    let settings = UdpSettings { segmentation_offload, ..UdpSettings::new(socket.local_addr()?) };
    let udp = near.run(|| Udp::connect(&settings))??;
    let received = Received::default();
    let (counter, stop) = (received.clone(), Arc::clone(&readers.stop));
    readers.spawn(common, move || read_datagrams(&socket, &counter, &stop));
    let transport = if segmentation_offload { "UDP" } else { "UDP, single" };
    subject(transport, path, format, Transport::Udp(udp), received)
}

fn subject(
    transport: &'static str,
    path: &'static str,
    format: Format,
    to: Transport,
    received: Received,
) -> Result<Subject> {
    let settings = ExportSettings { format, ..ExportSettings::default() };
    let process = ExportingProcess::new(&settings, to)?;
    Ok(Subject { transport, path, process, received, rates: Vec::new(), allocations: None })
}

fn read_datagrams(socket: &UdpSocket, received: &Received, stop: &AtomicBool) -> Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        match socket.recv(&mut buffer) {
            Ok(_) => received.add(1),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if stopping {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// IPFIX by TCP or, with `secrets`, by TLS.
fn stream(
    near: &Namespace,
    secrets: Option<&Secrets>,
    common: &Common,
    readers: &mut Readers,
) -> Result<Subject> {
    let listener = near.run(|| TcpListener::bind(LOOPBACK))??;
    let settings = TcpSettings::new(listener.local_addr()?);
    let received = Received::default();
    let counter = received.clone();
    let server = secrets.map(Secrets::server).transpose()?;
    let collector: SocketAddr = listener.local_addr()?;
    readers.spawn(common, move || read_stream(&listener, server, &counter));
    let session = match secrets {
        None => Session::tcp(settings),
        Some(secrets) => Session::tls(settings, secrets.client(&collector.ip().to_string())?),
    };
    let name = if secrets.is_some() { "TLS" } else { "TCP" };
    let mut subject =
        subject(name, "stream", Format::Ipfix, Transport::Session(Box::new(session)), received)?;
    // The socket is made in the namespace.
    let mut now = NOW;
    near.run(|| {
        for _ in 0..1000 {
            if subject.process.is_ready() {
                return;
            }
            now = ExportTime { monotonic: now.monotonic + Duration::from_millis(1), ..now };
            subject.process.poll(now);
        }
    })?;
    ensure!(subject.process.is_ready(), "no connection: {:?}", subject.process.next_event());
    Ok(subject)
}

fn read_stream(listener: &TcpListener, server: Option<Arc<ServerConfig>>, received: &Received) -> Result<()> {
    let (mut connection, _) = listener.accept()?;
    let mut buffer = vec![0; 1 << 16];
    let mut tls = server.map(ServerConnection::new).transpose()?;
    loop {
        let read = match &mut tls {
            None => connection.read(&mut buffer),
            Some(tls) => rustls::Stream::new(tls, &mut connection).read(&mut buffer),
        };
        match read? {
            0 => return Ok(()),
            octets => received.add(octets as u64),
        }
    }
}

/// A certificate that is its own authority, and its key.
struct Secrets {
    scratch: Scratch,
    certified: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Secrets {
    fn new() -> Result<Self> {
        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let scratch = Scratch::new()?;
        std::fs::write(scratch.file("ca.pem"), certified.cert.pem())?;
        Ok(Self { scratch, certified })
    }

    fn client(&self, name: &str) -> Result<TlsSettings> {
        let files = TlsFiles { ca: self.scratch.file("ca.pem"), ..TlsFiles::default() };
        TlsSettings::load(&files, name).context("certificate")
    }

    fn server(&self) -> Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivatePkcs8KeyDer::from(self.certified.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.certified.cert.der().clone()], key.into())?;
        Ok(Arc::new(config))
    }
}
