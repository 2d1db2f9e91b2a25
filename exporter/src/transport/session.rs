//! A Transport Session over TCP or TLS (RFC 7011, sections 10.4 and 11): connects, connects again, and never blocks
//! for longer than [`WAIT`] or, at the end of a connection, a second or two.
//!
//! A message is sent only while the session is ready: it is established, and the system has taken all of the message
//! before. If the system takes a part of a message, the rest waits here, so a session holds one message at most.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::tcp::{Heard, Plain, TcpSettings, acknowledged};
use super::tls::{Tls, TlsSettings};
use crate::account::LossReason;

/// Longest wait of one call for the network, so that the caller can do something else.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Time between the failure of a connection and the next attempt: the first, and the longest. It doubles in between.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// A connection that lived this long was a good one: after it the delay begins with the first again.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// A TLS 1.3 collector may refuse our certificate when the handshake has ended for us. If it accepts, most say so by a
/// ticket; this long is waited for either.
const REFUSAL_WAIT: Duration = Duration::from_millis(500);

/// How often [`WAIT`] passes at the end of a connection for what the collector may still have to say.
const CLOSE_WAITS: u32 = 20;

/// Octets of an IPFIX Message on a session. It could have 65535; but what is lost with a connection is lost by the
/// message, and one TLS record (16 KiB) should hold it.
pub(crate) const MESSAGE_SIZE: usize = 8192;

/// What has happened to a session.
#[derive(Debug)]
pub(crate) enum SessionEvent {
    /// It is new: the collector knows nothing.
    Began,
    /// There is still none.
    Failed(io::Error),
    /// It has ended.
    Lost {
        /// What became of what the collector has not acknowledged.
        reason: LossReason,
        /// Octets, of all that were sent in the session, that the collector's host has acknowledged.
        acknowledged: u64,
        error: io::Error,
    },
}

/// Sessions with one collector, one after another.
#[derive(Debug)]
pub struct Session {
    settings: TcpSettings,
    tls: Option<TlsSettings>,
    state: State,
    /// From the next failure to the next attempt.
    delay: Duration,
    event: Option<SessionEvent>,
}

#[derive(Debug)]
enum State {
    /// There is no connection, and until then none is tried.
    Waiting {
        until: Option<Duration>,
    },
    Connecting {
        socket: TcpStream,
        since: Duration,
    },
    /// The TLS handshake is going on; it may have ended for us, and not yet for the collector.
    Securing {
        stream: Stream,
        since: Duration,
        ended_at: Option<Duration>,
    },
    Established {
        stream: Stream,
        since: Duration,
        stalled: Option<Stall>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Stall {
    since: Duration,
    written: u64,
}

#[derive(Debug)]
struct Stream {
    socket: TcpStream,
    security: Security,
    /// Octets that the system has taken, those of TLS included.
    written: u64,
}

#[derive(Debug)]
enum Security {
    Plain(Plain),
    Tls(Box<Tls>),
}

impl Stream {
    fn new(socket: TcpStream, tls: Option<&TlsSettings>) -> io::Result<Self> {
        let security = match tls {
            None => Security::Plain(Plain::new()),
            Some(tls) => Security::Tls(Box::new(tls.begin()?)),
        };
        Ok(Self { socket, security, written: 0 })
    }

    fn waiting(&mut self) -> u64 {
        match &mut self.security {
            Security::Plain(plain) => plain.waiting() as u64,
            Security::Tls(tls) => tls.waiting() as u64,
        }
    }

    fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        let taken = match &mut self.security {
            Security::Plain(plain) => plain.send(&self.socket, octets)?,
            Security::Tls(tls) => tls.send(&self.socket, octets)?,
        };
        self.written += taken as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let taken = match &mut self.security {
            Security::Plain(plain) => plain.flush(&self.socket)?,
            Security::Tls(tls) => tls.flush(&self.socket)?,
        };
        self.written += taken as u64;
        Ok(())
    }

    /// Reads what there is; an error if the collector has closed its side.
    fn hear(&mut self) -> io::Result<Heard> {
        let heard = match &mut self.security {
            Security::Plain(_) => Plain::hear(&self.socket)?,
            Security::Tls(tls) => tls.hear(&self.socket)?,
        };
        match heard {
            Heard::End => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the collector closed the connection"))
            }
            heard => Ok(heard),
        }
    }

    fn wait(&self, flags: PollFlags) {
        // Whether there is something, or the time is over, or a signal came: the caller looks anyway.
        let _ = poll(&mut [PollFd::new(&self.socket, flags)], Some(&WAIT));
    }
}

impl Session {
    /// Sessions over TCP. Nothing is done yet.
    #[must_use]
    pub fn tcp(settings: TcpSettings) -> Self {
        Self { settings, tls: None, state: State::Waiting { until: None }, delay: FIRST_DELAY, event: None }
    }

    /// Sessions over TLS. Nothing is done yet.
    #[must_use]
    pub fn tls(settings: TcpSettings, tls: TlsSettings) -> Self {
        Self { tls: Some(tls), ..Self::tcp(settings) }
    }

    /// Whether a message can be sent.
    pub(crate) const fn is_ready(&self) -> bool {
        // What happened to a session comes before what is done with it.
        self.event.is_none() && matches!(self.state, State::Established { stalled: None, .. })
    }

    /// Octets of the session up to the end of the last message sent, whether the system has taken them or not.
    pub(crate) fn sent(&mut self) -> u64 {
        match &mut self.state {
            State::Established { stream, .. } => stream.written + stream.waiting(),
            _ => 0,
        }
    }

    /// Octets of the session that the collector's host has acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        match &self.state {
            State::Established { stream, .. } => {
                acknowledged(&stream.socket, stream.written, self.settings.unacknowledged)
            }
            _ => 0,
        }
    }

    /// What has happened since it was asked last.
    pub(crate) fn take_event(&mut self) -> Option<SessionEvent> {
        self.event.take()
    }

    /// Sends a message, at least in part; the rest follows by [`advance`](Self::advance).
    ///
    /// # Errors
    /// If the session has ended by now, or there is none. Then the collector has not got the message, and will not.
    pub(crate) fn send(&mut self, now: Duration, octets: &[u8]) -> Result<(), ()> {
        let State::Established { stream, stalled, .. } = &mut self.state else { return Err(()) };
        // A collector that has closed its side would answer the message with a reset.
        let result = stream.hear().and_then(|_| stream.send(octets));
        match result {
            Ok(()) => {
                *stalled = (stream.waiting() > 0).then_some(Stall { since: now, written: stream.written });
                Ok(())
            }
            Err(error) => {
                self.lose(now, LossReason::ConnectionLost, error);
                Err(())
            }
        }
    }

    /// Does what can be done now: connects, sends what waits, listens. While the session is not ready, it waits for
    /// the network up to [`WAIT`], unless it waits for the time of the next attempt.
    pub(crate) fn advance(&mut self, now: Duration) {
        let state = std::mem::replace(&mut self.state, State::Waiting { until: None });
        let result = match state {
            State::Waiting { until } if until.is_some_and(|until| now < until) => {
                Ok(State::Waiting { until })
            }
            State::Waiting { .. } => {
                self.settings.begin_connect().map(|socket| State::Connecting { socket, since: now })
            }
            State::Connecting { socket, since } => self.connect(now, socket, since),
            State::Securing { stream, since, ended_at } => self.secure(now, stream, since, ended_at),
            State::Established { stream, since, stalled } => {
                self.state = State::Established { stream, since, stalled };
                return self.attend(now);
            }
        };
        self.state = result.unwrap_or_else(|error| {
            self.event = Some(SessionEvent::Failed(error));
            self.next_attempt(now)
        });
    }

    /// Makes the next attempt now, and those after it soon.
    pub(crate) fn retry(&mut self) {
        self.delay = FIRST_DELAY;
        if let State::Waiting { until } = &mut self.state {
            *until = None;
        }
    }

    fn next_attempt(&mut self, now: Duration) -> State {
        let until = now + self.delay;
        self.delay = (self.delay * 2).min(LONGEST_DELAY);
        State::Waiting { until: Some(until) }
    }

    fn connect(&mut self, now: Duration, socket: TcpStream, since: Duration) -> io::Result<State> {
        let mut events = [PollFd::new(&socket, PollFlags::OUT)];
        let is_over = poll(&mut events, Some(&WAIT)).is_ok_and(|count| count > 0);
        if !is_over {
            self.check_time(now, since, "no answer to the attempt to connect")?;
            return Ok(State::Connecting { socket, since });
        }
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        let stream = Stream::new(socket, self.tls.as_ref())?;
        if self.tls.is_none() {
            return Ok(self.establish(now, stream));
        }
        self.secure(now, stream, since, None)
    }

    fn secure(
        &mut self,
        now: Duration,
        mut stream: Stream,
        since: Duration,
        ended_at: Option<Duration>,
    ) -> io::Result<State> {
        stream.flush()?;
        stream.wait(PollFlags::IN);
        let heard = stream.hear()?;
        stream.flush()?;
        let Security::Tls(tls) = &stream.security else { return Ok(self.establish(now, stream)) };
        if tls.is_handshaking() {
            self.check_time(now, since, "no answer in the TLS handshake")?;
            return Ok(State::Securing { stream, since, ended_at: None });
        }
        let accepted = match ended_at {
            // What was heard now was the collector's part of the handshake.
            None => !tls.may_be_refused_late(),
            Some(at) => matches!(heard, Heard::Something) || now.saturating_sub(at) >= REFUSAL_WAIT,
        };
        if accepted && stream.waiting() == 0 {
            return Ok(self.establish(now, stream));
        }
        self.check_time(now, since, "no answer in the TLS handshake")?;
        Ok(State::Securing { stream, since, ended_at: ended_at.or(Some(now)) })
    }

    fn establish(&mut self, now: Duration, stream: Stream) -> State {
        self.event = Some(SessionEvent::Began);
        State::Established { stream, since: now, stalled: None }
    }

    fn check_time(&self, now: Duration, since: Duration, what: &'static str) -> io::Result<()> {
        if now.saturating_sub(since) < self.settings.connect_timeout {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, what))
    }

    /// Looks after an established session.
    fn attend(&mut self, now: Duration) {
        let State::Established { stream, stalled, .. } = &mut self.state else { return };
        if stalled.is_some() {
            stream.wait(PollFlags::IN | PollFlags::OUT);
        }
        if let Err(error) = stream.hear().and_then(|_| stream.flush()) {
            return self.lose(now, LossReason::ConnectionLost, error);
        }
        if stream.waiting() == 0 {
            *stalled = None;
            return;
        }
        let stall = stalled.get_or_insert(Stall { since: now, written: stream.written });
        if stall.written != stream.written {
            *stall = Stall { since: now, written: stream.written };
        }
        if now.saturating_sub(stall.since) >= self.settings.send_timeout {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the collector takes no more");
            self.lose(now, LossReason::SendTimeout, error);
        }
    }

    /// The session has ended.
    fn lose(&mut self, now: Duration, reason: LossReason, error: io::Error) {
        if let State::Established { since, .. } = &self.state
            && now.saturating_sub(*since) >= GOOD_LIFE
        {
            self.delay = FIRST_DELAY;
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            self.wait_for_acknowledgement();
        }
        let acknowledged = self.close();
        self.event = Some(SessionEvent::Lost { reason, acknowledged, error });
        self.state = self.next_attempt(now);
    }

    /// A collector that has closed its side may still read. What was under way when it did is acknowledged soon, if it
    /// does; if it does not, its host answers by a reset.
    fn wait_for_acknowledgement(&self) {
        let State::Established { stream, .. } = &self.state else { return };
        for _ in 0..CLOSE_WAITS {
            if self.acknowledged() >= stream.written {
                return;
            }
            let mut events = [PollFd::new(&stream.socket, PollFlags::empty())];
            if poll(&mut events, Some(&WAIT)).is_ok_and(|count| count > 0) {
                return;
            }
        }
    }

    /// Ends an established session. If everything has arrived, it ends in order; else the system is to forget the rest:
    /// that is going to be counted as lost, and must not arrive later. Returns how much has been acknowledged.
    pub(crate) fn close(&mut self) -> u64 {
        let acknowledged = self.acknowledged();
        let state = std::mem::replace(&mut self.state, State::Waiting { until: Some(Duration::MAX) });
        let State::Established { mut stream, .. } = state else { return acknowledged };
        if acknowledged < stream.written {
            // If it cannot be set, the count of losses may be too high.
            let _ = rustix::net::sockopt::set_socket_linger(&stream.socket, Some(Duration::ZERO));
            return acknowledged;
        }
        if let Security::Tls(tls) = &mut stream.security {
            tls.say_end();
        }
        // A collector that is gone does not hear it.
        let _ = stream.flush();
        let _ = stream.socket.shutdown(Shutdown::Write);
        // If the collector said anything that is not read, such as a late ticket, the system would end the connection by
        // a reset, which may cost what the collector has not read yet. So its end is waited for, for a second.
        for _ in 0..CLOSE_WAITS {
            stream.wait(PollFlags::IN);
            if stream.hear().is_err() {
                break;
            }
        }
        acknowledged
    }
}
