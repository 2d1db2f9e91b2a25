//! The log of messages: what each peer announces and takes back, in one file for each peer or in a topic of Apache
//! Kafka, as it comes.
//!
//! A thread of its own writes. The BGP thread never waits for it: events that the queue has no room for are lost and
//! counted.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use pathflow_bgp::speaker::{LogCapacity, LogEvent, LogEvents, LogKind, SpeakerHandle};
use pathflow_bgp::{Attributes, Family, Nlri};
use rustix::fs::OFlags;
use tracing::{info, warn};

use super::account::TopicCounts;
use super::file_name::FileNamePattern;
use super::json::{Event, Lines, PeerName, RouteLine};
use super::origin::Origins;
#[cfg(feature = "kafka")]
use super::topic::{Topic, TopicSettings, Wait};
use crate::error::RunError;
use crate::pipeline::spawn;
use crate::written_file;

/// Events that wait for the thread at most: of a table that pours in, some seconds.
const QUEUE_EVENTS: usize = 1 << 16;
/// Octets of memory that they take at most, about.
const QUEUE_OCTETS: usize = 64 << 20;
/// Routes whose lines are made at a time.
const ROUTES_AT_A_TIME: usize = 64;
/// Octets that are written at a time.
const CHUNK: usize = 1 << 16;
/// How long a line may wait to be written.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// A file that cannot be opened, or takes no more, is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// Where messages are logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageLogSettings {
    /// Where to.
    pub target: LogTarget,
    /// Whether names and time stamps are in UTC; else in the system's time zone.
    pub utc: bool,
    /// Whether AS paths and communities are arrays.
    pub as_arrays: bool,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// To files of this name, which are appended to. A name with a time in it begins new files as time goes by.
    Files(FileNamePattern),
    /// To a broker.
    #[cfg(feature = "kafka")]
    Topic(Box<TopicSettings>),
}

/// What became of the log. All counters only grow.
#[derive(Debug, Default)]
pub struct MessageLogCounts {
    /// Lines written.
    pub lines: AtomicU64,
    /// Lines that could not be written.
    pub failures: AtomicU64,
    /// Messages, if they go to a broker; the other counters are of files.
    pub topic: Option<Arc<TopicCounts>>,
}

/// The log at work.
#[derive(Debug)]
pub struct MessageLog {
    stopping: Arc<AtomicBool>,
    reopen: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    counts: Arc<MessageLogCounts>,
}

impl MessageLog {
    /// Starts the thread `bgp-log`.
    ///
    /// # Errors
    /// If there is none to be had, the speaker does not answer, or Kafka cannot be used as is wanted.
    pub fn start(
        settings: MessageLogSettings,
        speaker: &SpeakerHandle,
        origins: Option<Origins>,
    ) -> Result<Self, RunError> {
        let lines = Lines::new(settings.as_arrays);
        #[cfg(feature = "kafka")]
        let (topic, lines) = match &settings.target {
            LogTarget::Files(_) => (None, lines),
            LogTarget::Topic(topic) => {
                let topic = Topic::open("bgp.message_log", TopicSettings::clone(topic))?;
                (Some(topic), lines.with_writer(&super::writer_id()))
            }
        };
        #[cfg(feature = "kafka")]
        let counts = MessageLogCounts { topic: topic.as_ref().map(Topic::counts), ..Default::default() };
        #[cfg(not(feature = "kafka"))]
        let counts = MessageLogCounts::default();
        let counts = Arc::new(counts);
        let events = speaker
            .subscribe(LogCapacity { events: QUEUE_EVENTS, octets: QUEUE_OCTETS })
            .map_err(|error| RunError::Bgp(format!("bgp.message_log: {error}")))?;
        let (stopping, reopen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let zone = if settings.utc { TimeZone::UTC } else { TimeZone::system() };
        let writer = Writer {
            settings,
            zone,
            stopping: Arc::clone(&stopping),
            reopen: Arc::clone(&reopen),
            counts: Arc::clone(&counts),
            files: BTreeMap::new(),
            lines,
            origins,
            sequence: 0,
            #[cfg(feature = "kafka")]
            topic,
        };
        let thread = spawn("bgp-log".to_owned(), move || writer.run(&events))?;
        Ok(Self { stopping, reopen, thread, counts })
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> Arc<MessageLogCounts> {
        Arc::clone(&self.counts)
    }

    /// Closes all files and opens them again by their names: they may have been moved away.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Writes what has come so far, and ends.
    pub fn finish(self) {
        self.stopping.store(true, Ordering::Relaxed);
        // A panic in it has ended the process already.
        let _ = self.thread.join();
    }
}

/// One peer's file.
#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    /// `None` if it could not be opened or took no more: lines are lost until it does.
    file: Option<BufWriter<File>>,
    /// Lines that are not known to be in the file.
    pending: u64,
    /// Octets of the file without them.
    whole: u64,
    /// When to try again.
    retry: Instant,
    /// Whether it was said that lines are lost.
    has_said: bool,
}

struct Writer {
    settings: MessageLogSettings,
    zone: TimeZone,
    stopping: Arc<AtomicBool>,
    reopen: Arc<AtomicBool>,
    counts: Arc<MessageLogCounts>,
    files: BTreeMap<IpAddr, OpenFile>,
    lines: Lines,
    origins: Option<Origins>,
    sequence: u64,
    #[cfg(feature = "kafka")]
    topic: Option<Topic>,
}

impl Writer {
    fn run(mut self, events: &LogEvents) {
        loop {
            // Asked before the queue is looked at: what came until then is written.
            let is_last = self.stopping.load(Ordering::Relaxed);
            match events.recv_timeout(if is_last { Duration::ZERO } else { FLUSH_INTERVAL }) {
                Ok(event) => {
                    self.write(&event);
                    events.try_iter().take(QUEUE_EVENTS).for_each(|event| self.write(&event));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.flush();
            if is_last {
                break;
            }
            if self.reopen.swap(false, Ordering::Relaxed) {
                self.open_again();
            }
        }
        self.flush();
        #[cfg(feature = "kafka")]
        if let Some(topic) = self.topic {
            topic.close();
        }
    }

    fn write(&mut self, event: &LogEvent) {
        let at = Timestamp::try_from(event.at).unwrap_or_default().to_zoned(self.zone.clone());
        let timestamp = at.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string();
        let peer = PeerName { address: event.address, port: event.remote.map(|remote| remote.port()) };
        match &event.kind {
            LogKind::Announced { routes, attributes } => {
                for some in routes.chunks(ROUTES_AT_A_TIME) {
                    for (family, nlri) in some {
                        self.route(event, &timestamp, "update", (*family, *nlri), Some(attributes));
                    }
                    self.deliver(&at, peer, some.len() as u64);
                }
            }
            LogKind::Withdrawn(withdrawn) => {
                for some in withdrawn.chunks(ROUTES_AT_A_TIME) {
                    for one in some {
                        let attributes = one.attributes.as_deref();
                        self.route(event, &timestamp, "withdraw", (one.family, one.nlri), attributes);
                    }
                    self.deliver(&at, peer, some.len() as u64);
                }
            }
            LogKind::SessionUp => self.single(&at, peer, |lines, sequence| {
                lines.log_session(sequence, &timestamp, peer, "log_init");
            }),
            LogKind::SessionDown => self.single(&at, peer, |lines, sequence| {
                lines.log_session(sequence, &timestamp, peer, "log_close");
            }),
            LogKind::EndOfRib(family) => self.single(&at, peer, |lines, sequence| {
                lines.end_of_rib(sequence, &timestamp, peer, *family);
            }),
            // They are in pathflow's own log.
            LogKind::NotificationReceived(_) | LogKind::NotificationSent(_) => {}
        }
    }

    /// Makes the line of a route.
    fn route(
        &mut self,
        event: &LogEvent,
        timestamp: &str,
        log_type: &'static str,
        (family, nlri): (Family, Nlri),
        attributes: Option<&Attributes>,
    ) {
        let peer = PeerName { address: event.address, port: event.remote.map(|remote| remote.port()) };
        let origins = self.origins.as_ref().filter(|_| log_type == "update").zip(attributes);
        let roa =
            origins.and_then(|(origins, attributes)| origins.letter(event.peer, family, &nlri, attributes));
        let has_path_id = event.add_path.contains(family);
        let line = RouteLine { family, nlri, has_path_id, attributes, roa };
        let sequence = self.next();
        self.lines.route(sequence, timestamp, peer, Event::Log(log_type), &line);
    }

    /// Makes and delivers one line.
    fn single(&mut self, at: &Zoned, peer: PeerName, line: impl FnOnce(&mut Lines, u64)) {
        let sequence = self.next();
        line(&mut self.lines, sequence);
        self.deliver(at, peer, 1);
    }

    fn next(&mut self) -> u64 {
        let sequence = self.sequence;
        self.sequence += 1;
        sequence
    }

    /// Sends the lines that were made, `count` of them, on their way.
    fn deliver(&mut self, at: &Zoned, peer: PeerName, count: u64) {
        match &self.settings.target {
            LogTarget::Files(file) => {
                let path = file.path(at, peer);
                self.append(path, peer, count);
            }
            #[cfg(feature = "kafka")]
            LogTarget::Topic(_) => {
                if let Some(topic) = &mut self.topic {
                    topic.send(peer.address, self.lines.as_bytes(), Wait::Never);
                }
            }
        }
        self.lines.clear();
    }

    /// Appends the lines, `count` of them, to the file that is the peer's at this time.
    fn append(&mut self, path: PathBuf, peer: PeerName, count: u64) {
        let now = Instant::now();
        if self.files.get(&peer.address).is_none_or(|open| open.path != path)
            && let Some(mut before) = self.files.insert(peer.address, OpenFile::new(path, now))
        {
            before.flush(&self.counts, now);
        }
        let Some(open) = self.files.get_mut(&peer.address) else { return };
        open.append(self.lines.as_bytes(), count, &self.counts, now);
    }

    /// Every file under its name, where there may be none now.
    fn open_again(&mut self) {
        for open in self.files.values_mut() {
            *open = OpenFile::new(std::mem::take(&mut open.path), Instant::now());
        }
    }

    fn flush(&mut self) {
        for open in self.files.values_mut() {
            open.flush(&self.counts, Instant::now());
        }
        #[cfg(feature = "kafka")]
        if let Some(topic) = &mut self.topic {
            topic.publish();
        }
    }
}

impl OpenFile {
    fn new(path: PathBuf, now: Instant) -> Self {
        let mut new = Self { path, file: None, pending: 0, whole: 0, retry: now, has_said: false };
        if let Err(error) = new.open(now) {
            new.say(&error);
        }
        new
    }

    fn open(&mut self, now: Instant) -> io::Result<()> {
        self.retry = now + AGAIN;
        let file = open(&self.path)?;
        self.whole = file.metadata()?.len();
        self.file = Some(BufWriter::with_capacity(CHUNK, file));
        Ok(())
    }

    /// Once, until lines are written again.
    fn say(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.has_said, true) {
            warn!(
                "BGP message log: {}: {error}; lines are lost until it can be written",
                self.path.display()
            );
        }
    }

    fn append(&mut self, lines: &[u8], count: u64, counts: &MessageLogCounts, now: Instant) {
        self.pending += count;
        let written = self.file.as_mut().map(|file| file.write_all(lines));
        self.settle_failure(written, counts, now);
    }

    fn flush(&mut self, counts: &MessageLogCounts, now: Instant) {
        if self.file.is_none() && now >= self.retry {
            // It was said, and is tried again if it fails.
            let _ = self.open(now);
        }
        let written = self.file.as_mut().map(BufWriter::flush);
        if let Some(Ok(())) = written
            && self.pending > 0
        {
            counts.lines.fetch_add(std::mem::take(&mut self.pending), Ordering::Relaxed);
            let length = self.file.as_ref().and_then(|file| file.get_ref().metadata().ok());
            self.whole = length.map_or(self.whole, |metadata| metadata.len());
            if std::mem::replace(&mut self.has_said, false) {
                info!("BGP message log: {}: lines are written again", self.path.display());
            }
        }
        self.settle_failure(written, counts, now);
    }

    /// What is pending is lost, if there is no file or it takes no more.
    fn settle_failure(&mut self, written: Option<io::Result<()>>, counts: &MessageLogCounts, now: Instant) {
        match written {
            Some(Ok(())) => return,
            Some(Err(error)) => {
                self.say(&error);
                self.retry = now + AGAIN;
                // Without another try to write what it holds.
                if let Some((file, _)) = self.file.take().map(BufWriter::into_parts) {
                    cut(&file, self.whole);
                }
            }
            None => {}
        }
        counts.failures.fetch_add(std::mem::take(&mut self.pending), Ordering::Relaxed);
    }
}

/// Takes back what is behind the last line that is known to be in the file: the next one begins a line.
fn cut(file: &File, whole: u64) {
    // Somebody may have made it shorter meanwhile. If it cannot be cut, half a line stays.
    if file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > whole) {
        let _ = file.set_len(whole);
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // A pipe that nobody reads would let the thread wait for good.
    let file =
        written_file::open(OpenOptions::new().create(true).append(true), OFlags::NONBLOCK, path, true)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a pipe, which would not be waited for",
        ));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// On a file system of its own, which is full for a while.
    #[test]
    fn a_file_system_that_was_full_gets_lines_again_and_whole_ones_only() {
        let folder = std::env::temp_dir().join(format!("pathflow-message-log-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "none"]).arg(&folder).status();
        assert!(mounted.unwrap().success(), "this test needs mount(8) and the right to use it");
        let (path, counts, start) = (folder.join("log"), MessageLogCounts::default(), Instant::now());
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut open = OpenFile::new(path.clone(), start);
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for number in 0..400 {
            open.append(&line, 1, &counts, start);
            if number % 10 == 9 {
                open.flush(&counts, start);
            }
        }
        let (lines, failures) = (count(&counts.lines), count(&counts.failures));
        assert_eq!(lines + failures, 400);
        assert!(lines > 100 && failures > 100, "{lines} lines, {failures} failures");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!((text.lines().count() as u64, text.len() % 1000), (lines, 0));

        // There is room again, and a second has gone by.
        fs::write(&path, "").unwrap();
        open.flush(&counts, start + AGAIN);
        open.append(&line, 1, &counts, start + AGAIN);
        open.flush(&counts, start + AGAIN);
        let text = fs::read_to_string(&path).unwrap();
        drop(open);
        assert!(Command::new("umount").arg(&folder).status().unwrap().success());
        fs::remove_dir(&folder).unwrap();
        assert_eq!((count(&counts.lines), count(&counts.failures)), (lines + 1, failures));
        assert_eq!(text.as_bytes(), line);
    }

    #[test]
    fn a_file_that_could_not_be_opened_is_tried_again() {
        let path = std::env::temp_dir().join(format!("pathflow-message-log-folder-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let (counts, start) = (MessageLogCounts::default(), Instant::now());
        let mut open = OpenFile::new(path.clone(), start);
        open.append(b"a\n", 1, &counts, start);
        fs::remove_dir(&path).unwrap();
        open.flush(&counts, start + AGAIN);
        open.append(b"b\n", 1, &counts, start + AGAIN);
        open.flush(&counts, start + AGAIN);
        assert_eq!(fs::read_to_string(&path).unwrap(), "b\n");
        fs::remove_file(&path).unwrap();
        assert_eq!((counts.lines.into_inner(), counts.failures.into_inner()), (1, 1));
    }
}
