//! The connection to a cache: TCP, timers of the session, reconnects with back-off.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};
use tracing::{info, warn};

use super::super::{RoaStore, Source};
use super::pdu::{self, MAX_PDU_OCTETS, Pdu, PduError, Version};
use super::session::{Session, SessionError, Step};

/// A connection attempt or a write that takes longer has failed.
const IO_TIME: Duration = Duration::from_secs(20);
/// First pause between connections; doubles up to the retry interval of the session.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Which cache, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HOST:PORT`; a name is resolved at each connection.
    pub cache: String,
    /// Highest version to try.
    pub version: Version,
    /// More VRPs than this are not taken.
    pub max_vrps: usize,
}

/// What the client did, to be read at any time. Counters never go down.
#[derive(Debug, Default)]
pub struct Statistics {
    /// A connection is up.
    pub connected: AtomicBool,
    /// Connections that came up.
    pub connections: AtomicU64,
    /// Attempts that failed, and connections that the other side or the network ended.
    pub connection_failures: AtomicU64,
    /// Connections ended because the cache broke the protocol.
    pub faults: AtomicU64,
    /// Connections ended by an Error Report of the cache.
    pub error_reports: AtomicU64,
    /// Queries without an answer in time.
    pub response_timeouts: AtomicU64,
    /// Answers refused for their number of VRPs.
    pub too_many_vrps: AtomicU64,
    /// Complete sets published, empty ones after expiry among them.
    pub published: AtomicU64,
    /// VRPs of the last complete set.
    pub vrps: AtomicU64,
    /// Serial number of the last complete set.
    pub serial: AtomicU64,
    /// PDUs received.
    pub received_pdus: AtomicU64,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Pdu(#[from] PduError),
    #[error("{0}")]
    Session(#[from] SessionError),
}

/// A cache's data kept up to date in a [`RoaStore`]. To stop it, drop the future of [`Self::run`].
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    store: Arc<RoaStore>,
    statistics: Arc<Statistics>,
    session: Session,
}

impl Client {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(settings: Settings, store: Arc<RoaStore>, statistics: Arc<Statistics>) -> Self {
        let session = Session::new(settings.version, settings.max_vrps);
        Self { settings, store, statistics, session }
    }

    /// Connects, follows the cache, and connects again, for ever.
    pub async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let published = self.statistics.published.load(Ordering::Relaxed);
            let failure = self.connection().await;
            self.session.disconnected();
            self.statistics.connected.store(false, Ordering::Relaxed);
            if matches!(failure, Failure::Session(SessionError::Downgrade)) {
                info!(cache = %self.settings.cache, version = self.session.version() as u8, "RTR: a lower version");
                continue;
            }
            self.count(&failure);
            if self.statistics.published.load(Ordering::Relaxed) != published {
                pause = FIRST_PAUSE;
            }
            warn!(cache = %self.settings.cache, %failure, "RTR: connection ended; next in {} s", pause.as_secs());
            self.rest(Instant::now() + pause).await;
            let longest = Duration::from_secs(self.session.intervals().retry_seconds.into());
            pause = (pause * 2).min(longest.max(FIRST_PAUSE));
        }
    }

    fn count(&self, failure: &Failure) {
        let counter = match failure {
            Failure::Io(_) => &self.statistics.connection_failures,
            Failure::Pdu(_) | Failure::Session(SessionError::Fault { .. } | SessionError::Downgrade) => {
                &self.statistics.faults
            }
            Failure::Session(SessionError::Reported { .. }) => &self.statistics.error_reports,
            Failure::Session(SessionError::TooManyVrps { .. }) => &self.statistics.too_many_vrps,
            Failure::Session(SessionError::ResponseTimeout) => &self.statistics.response_timeouts,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Without a connection; data may expire meanwhile.
    async fn rest(&mut self, until: Instant) {
        loop {
            let wake = self.session.deadline().map_or(until, |deadline| deadline.min(until));
            sleep_until(wake.into()).await;
            if let Ok(Step { complete: true, .. }) = self.session.timer(Instant::now()) {
                self.publish().await;
            }
            if Instant::now() >= until {
                return;
            }
        }
    }

    /// One connection from its start to its end.
    async fn connection(&mut self) -> Failure {
        let connect = timeout(IO_TIME, TcpStream::connect(&self.settings.cache));
        let stream = match connect.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => stream,
            Err(error) => return error.into(),
        };
        self.statistics.connections.fetch_add(1, Ordering::Relaxed);
        self.statistics.connected.store(true, Ordering::Relaxed);
        info!(cache = %self.settings.cache, "RTR: connected");
        let (mut receive, mut send) = stream.into_split();
        let mut send = Sender { stream: &mut send };
        let mut buffer = Vec::with_capacity(MAX_PDU_OCTETS);
        let failure = match self.exchange(&mut receive, &mut send, &mut buffer).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        let code = match &failure {
            Failure::Pdu(error) => error.code(),
            Failure::Session(SessionError::Fault { code, .. }) => *code,
            _ => return failure,
        };
        let text = failure.to_string();
        // RFC 8210, section 5.11: never an Error Report about an Error Report.
        if buffer.get(1) != Some(&10) {
            let erroneous = buffer.get(..64).unwrap_or(&buffer);
            let report = Pdu::ErrorReport { code: code as u16, pdu: erroneous, text: text.as_bytes() };
            // The connection ends whether the cache hears of it or not.
            send.send(self.session.version(), &report).await.ok();
        }
        failure
    }

    /// `buffer` starts with the erroneous PDU when this ends with one.
    async fn exchange(
        &mut self,
        receive: &mut (impl tokio::io::AsyncRead + Unpin),
        send: &mut Sender<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<std::convert::Infallible, Failure> {
        let step = self.session.connected(Instant::now());
        self.act(step, send).await?;
        loop {
            let deadline = self.session.deadline().unwrap_or_else(|| Instant::now() + IO_TIME);
            tokio::select! {
                // A full buffer of PDUs is worked through before the next read, so there is always room.
                read = receive.read_buf(buffer) => {
                    if read? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                    self.received(send, buffer).await?;
                }
                () = sleep_until(deadline.into()) => {
                    let step = self.session.timer(Instant::now())?;
                    self.act(step, send).await?;
                }
            }
        }
    }

    async fn received(&mut self, send: &mut Sender<'_>, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        let now = Instant::now();
        let mut taken = 0;
        let result = loop {
            let frame = match pdu::decode(buffer.get(taken..).unwrap_or_default()) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            };
            self.statistics.received_pdus.fetch_add(1, Ordering::Relaxed);
            match self.session.received(now, &frame) {
                Ok(step) => {
                    taken += frame.octets;
                    self.act(step, send).await?;
                }
                Err(error) => break Err(error.into()),
            }
        };
        buffer.drain(..taken);
        result
    }

    async fn act(&mut self, step: Step, send: &mut Sender<'_>) -> Result<(), Failure> {
        if step.complete {
            self.publish().await;
        }
        match step.query {
            Some(query) => Ok(send.send(self.session.version(), &query).await?),
            None => Ok(()),
        }
    }

    /// Sorting a full set takes longer than this runtime's other tasks want to wait.
    async fn publish(&mut self) {
        let vrps = self.session.vrps();
        self.statistics.vrps.store(vrps.len() as u64, Ordering::Relaxed);
        self.statistics.serial.store(self.session.serial().unwrap_or_default().into(), Ordering::Relaxed);
        info!(cache = %self.settings.cache, vrps = vrps.len(), serial = ?self.session.serial(), "RTR: new data");
        let store = Arc::clone(&self.store);
        let publishing = tokio::task::spawn_blocking(move || store.publish(Source::Cache, vrps));
        if let Err(error) = publishing.await {
            warn!(%error, "RTR: data not published");
        }
        self.statistics.published.fetch_add(1, Ordering::Relaxed);
    }
}

struct Sender<'a> {
    stream: &'a mut tokio::net::tcp::OwnedWriteHalf,
}

impl Sender<'_> {
    async fn send(&mut self, version: Version, pdu: &Pdu<'_>) -> io::Result<()> {
        let mut octets = Vec::new();
        pdu.encode(version, &mut octets);
        let write = timeout(IO_TIME, self.stream.write_all(&octets));
        write.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
