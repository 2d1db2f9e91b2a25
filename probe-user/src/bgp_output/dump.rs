//! Table dumps: all routes of each peer, at regular times of the day, in one file for each peer and time, or in a
//! topic of Apache Kafka.
//!
//! A thread of its own asks the BGP thread for routes in small pieces and writes them; a dump delays neither lookups
//! nor keepalives. A file appears under its name when it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Zoned};
use pathflow_bgp::speaker::{PeerStatus, SpeakerHandle};
use tracing::{info, warn};

use super::account::TopicCounts;
use super::file_name::FileNamePattern;
use super::json::{Event, Lines, PeerName, RouteLine};
use super::origin::Origins;
#[cfg(feature = "kafka")]
use super::topic::{Topic, TopicSettings, Wait};
use crate::error::RunError;
use crate::file_name::{replace_link, with_suffix};
use crate::pipeline::spawn;

/// How often a table may be dumped.
pub const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(24);
/// Octets that are written at a time.
const CHUNK: usize = 1 << 16;
/// Longest sleep: the wall clock may be set.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Where tables are dumped to, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDumpSettings {
    /// Where to.
    pub target: DumpTarget,
    /// Time between two dumps, of [`INTERVALS`], counted from midnight.
    pub interval: Duration,
    /// Whether names and time stamps are in UTC; else in the system's time zone.
    pub utc: bool,
    /// Whether AS paths and communities are arrays.
    pub as_arrays: bool,
}

/// Where a table goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DumpTarget {
    /// To files.
    Files {
        /// Name of each file.
        file: FileNamePattern,
        /// Name of a link to the file that was written last.
        latest: Option<FileNamePattern>,
    },
    /// To a broker.
    #[cfg(feature = "kafka")]
    Topic(Box<TopicSettings>),
}

/// What became of table dumps. All counters only grow.
#[derive(Debug, Default)]
pub struct TableDumpCounts {
    /// Tables dumped to their end.
    pub tables: AtomicU64,
    /// Routes in them.
    pub routes: AtomicU64,
    /// Files that could not be written.
    pub failures: AtomicU64,
    /// Messages, if they go to a broker.
    pub topic: Option<Arc<TopicCounts>>,
}

/// Dumps at work.
#[derive(Debug)]
pub struct TableDumps {
    stop: Sender<()>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    counts: Arc<TableDumpCounts>,
}

impl TableDumps {
    /// Starts the thread `bgp-dump`.
    ///
    /// # Errors
    /// If there is none to be had, or Kafka cannot be used as is wanted.
    pub fn start(
        settings: TableDumpSettings,
        speaker: SpeakerHandle,
        origins: Option<Origins>,
    ) -> Result<Self, RunError> {
        let (stop, stopped) = bounded(1);
        let stopping = Arc::new(AtomicBool::new(false));
        #[cfg(feature = "kafka")]
        let topic = match &settings.target {
            DumpTarget::Files { .. } => None,
            DumpTarget::Topic(topic) => Some(Topic::open("bgp.table_dump", TopicSettings::clone(topic))?),
        };
        #[cfg(feature = "kafka")]
        let counts = TableDumpCounts { topic: topic.as_ref().map(Topic::counts), ..Default::default() };
        #[cfg(not(feature = "kafka"))]
        let counts = TableDumpCounts::default();
        let counts = Arc::new(counts);
        let zone = if settings.utc { TimeZone::UTC } else { TimeZone::system() };
        let dumper = Dumper {
            settings,
            zone,
            speaker,
            origins,
            stopping: Arc::clone(&stopping),
            counts: Arc::clone(&counts),
            sequence: 0,
            #[cfg(feature = "kafka")]
            topic,
        };
        let thread = spawn("bgp-dump".to_owned(), move || dumper.run(&stopped))?;
        Ok(Self { stop, stopping, thread, counts })
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> Arc<TableDumpCounts> {
        Arc::clone(&self.counts)
    }

    /// Ends; a dump that has not come to its end leaves no file, or messages without `dump_close`.
    pub fn finish(self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.stop);
        // A panic in it has ended the process already.
        let _ = self.thread.join();
    }
}

struct Dumper {
    settings: TableDumpSettings,
    zone: TimeZone,
    speaker: SpeakerHandle,
    origins: Option<Origins>,
    stopping: Arc<AtomicBool>,
    counts: Arc<TableDumpCounts>,
    sequence: u64,
    #[cfg(feature = "kafka")]
    topic: Option<Topic>,
}

impl Dumper {
    fn run(mut self, stopped: &Receiver<()>) {
        self.work(stopped);
        #[cfg(feature = "kafka")]
        if let Some(topic) = self.topic {
            topic.close();
        }
    }

    fn work(&mut self, stopped: &Receiver<()>) {
        loop {
            let mut due = next_time(&self.now(), self.settings.interval);
            loop {
                let now = self.now();
                let wait = Duration::try_from(now.duration_until(&due)).unwrap_or(Duration::ZERO);
                if wait.is_zero() {
                    break;
                }
                if wait > self.settings.interval {
                    // The clock was set back.
                    due = next_time(&now, self.settings.interval);
                    continue;
                }
                match stopped.recv_timeout(wait.min(LONGEST_WAIT)) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
                #[cfg(feature = "kafka")]
                if let Some(topic) = &mut self.topic {
                    topic.publish();
                }
            }
            self.dump(&due);
        }
    }

    fn now(&self) -> Zoned {
        Zoned::now().with_time_zone(self.zone.clone())
    }

    /// Dumps the tables of all peers that have routes or a session.
    fn dump(&mut self, at: &Zoned) {
        let peers = match self.speaker.peers() {
            Ok(peers) => peers,
            Err(error) => {
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                warn!("there is no BGP table dump this time: {error}");
                return;
            }
        };
        self.sequence += 1;
        let (mut tables, mut routes) = (0_u32, 0);
        for peer in &peers {
            let has_routes = peer.families.iter().any(|(_, state)| state.routes > 0);
            if self.stopping.load(Ordering::Relaxed) || !(has_routes || peer.negotiated.is_some()) {
                continue;
            }
            if let Some(written) = self.table(at, peer) {
                self.counts.tables.fetch_add(1, Ordering::Relaxed);
                self.counts.routes.fetch_add(written, Ordering::Relaxed);
                tables += 1;
                routes += written;
            }
        }
        info!("BGP tables dumped: {tables} peers, {routes} routes");
    }

    /// Dumps the table of one peer; returns how many routes are in it, `None` if it did not come to its end.
    fn table(&mut self, at: &Zoned, peer: &PeerStatus) -> Option<u64> {
        match &self.settings.target {
            DumpTarget::Files { file, latest } => {
                let name = peer_name(peer);
                let path = file.path(at, name);
                match self.write(&path, at, peer) {
                    Ok(written) => {
                        if let (Some(_), Some(latest)) = (written, latest) {
                            link(&path, &latest.path(at, name));
                        }
                        written
                    }
                    Err(error) => {
                        self.counts.failures.fetch_add(1, Ordering::Relaxed);
                        warn!("BGP table dump of {}: {}: {error}", peer.name, path.display());
                        None
                    }
                }
            }
            #[cfg(feature = "kafka")]
            DumpTarget::Topic(_) => {
                let mut topic = self.topic.take()?;
                topic.begin();
                let lines = Lines::new(self.settings.as_arrays).with_writer(&super::writer_id());
                let result = self.lines(at, peer, lines, |lines| {
                    topic.send(peer.address, lines.as_bytes(), Wait::Patiently);
                    lines.clear();
                    Ok(())
                });
                topic.publish();
                self.topic = Some(topic);
                result.unwrap_or_else(|error| {
                    self.counts.failures.fetch_add(1, Ordering::Relaxed);
                    warn!("BGP table dump of {}: {error}", peer.name);
                    None
                })
            }
        }
    }

    /// Writes the file of one peer; returns how many routes are in it, `None` if there was no time to finish it.
    fn write(&self, path: &Path, at: &Zoned, peer: &PeerStatus) -> io::Result<Option<u64>> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let part = with_suffix(path, ".part");
        // One of a run that was killed, or of somebody who has put it there.
        let _ = fs::remove_file(&part);
        let result = self.write_part(&part, at, peer).and_then(|routes| {
            if routes.is_some() {
                fs::rename(&part, path)?;
            }
            Ok(routes)
        });
        if !matches!(result, Ok(Some(_))) {
            // If there is none, nothing is to be removed.
            let _ = fs::remove_file(&part);
        }
        result
    }

    fn write_part(&self, part: &Path, at: &Zoned, peer: &PeerStatus) -> io::Result<Option<u64>> {
        let mut file = BufWriter::with_capacity(CHUNK, File::create_new(part)?);
        let routes = self.lines(at, peer, Lines::new(self.settings.as_arrays), |lines| {
            // The writer collects them.
            file.write_all(lines.as_bytes())?;
            lines.clear();
            Ok(())
        })?;
        file.flush()?;
        Ok(routes)
    }

    /// Makes the lines of one peer's table, and gives them to `take` each time that there is one more.
    fn lines(
        &self,
        at: &Zoned,
        peer: &PeerStatus,
        mut lines: Lines,
        mut take: impl FnMut(&mut Lines) -> io::Result<()>,
    ) -> io::Result<Option<u64>> {
        let (name, timestamp) = (peer_name(peer), at.strftime("%Y-%m-%d %H:%M:%S").to_string());
        lines.dump_init(self.sequence, &timestamp, name, self.settings.interval.as_secs());
        take(&mut lines)?;
        let mut entries = 0;
        let mut routes = self.speaker.routes(peer.id);
        for route in &mut routes {
            let add_path = peer.negotiated.as_ref().map(|session| session.context.add_path);
            let has_path_id =
                add_path.map_or(route.nlri.path_id != 0, |families| families.contains(route.family));
            let line = RouteLine {
                family: route.family,
                nlri: route.nlri,
                has_path_id,
                attributes: Some(&route.attributes),
                roa: self.origins.as_ref().and_then(|origins| {
                    origins.letter(peer.id, route.family, &route.nlri, &route.attributes)
                }),
            };
            lines.route(self.sequence, &timestamp, name, Event::Dump, &line);
            entries += 1;
            take(&mut lines)?;
            if self.stopping.load(Ordering::Relaxed) {
                return Ok(None);
            }
        }
        if !routes.is_complete() {
            return Err(io::Error::other("the peer went away while its table was dumped"));
        }
        lines.dump_close(self.sequence, &timestamp, name, entries, 1);
        take(&mut lines)?;
        Ok(Some(entries))
    }
}

/// Lets the link to the latest file point to this one, from one moment to the next.
fn link(path: &Path, link: &Path) {
    if let Err(error) = replace_link(path, link) {
        warn!("BGP table dump: {}: {error}", link.display());
    }
}

fn peer_name(peer: &PeerStatus) -> PeerName {
    PeerName { address: peer.address, port: peer.remote.map(|remote| remote.port()) }
}

/// The next multiple of `interval` after midnight, in the zone of `now`.
fn next_time(now: &Zoned, interval: Duration) -> Zoned {
    let midnight = now.start_of_day().unwrap_or_else(|_| now.clone());
    let interval = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).max(1);
    let passed = now.duration_since(&midnight).as_secs();
    let next = (passed / interval + 1).saturating_mul(interval);
    // The first one of the next day is at its midnight.
    let tomorrow = midnight.tomorrow().unwrap_or_else(|_| now.clone());
    midnight
        .checked_add(SignedDuration::from_secs(next))
        .map_or_else(|_| now.clone(), |time| time.min(tomorrow))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(now: &str, seconds: u64) -> String {
        next_time(&now.parse().unwrap(), Duration::from_secs(seconds)).to_string()
    }

    #[test]
    fn dumps_are_at_multiples_of_the_interval_since_midnight() {
        assert_eq!(next("2026-11-21T05:39:59.9Z[UTC]", 60), "2026-11-21T05:40:00+00:00[UTC]");
        // At the time of one, the next.
        assert_eq!(next("2026-11-21T05:40:00Z[UTC]", 300), "2026-11-21T05:45:00+00:00[UTC]");
        assert_eq!(next("2026-11-21T23:59:00Z[UTC]", 7200), "2026-11-22T00:00:00+00:00[UTC]");
        // An interval that does not divide the day begins anew.
        assert_eq!(next("2026-11-21T22:00:00Z[UTC]", 50_000), "2026-11-22T00:00:00+00:00[UTC]");
        assert_eq!(next("2026-11-21T22:30:00+05:30[+05:30]", 3600), "2026-11-21T23:00:00+05:30[+05:30]");
    }
}
