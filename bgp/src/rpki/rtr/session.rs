//! The router's side of the protocol (RFC 8210, sections 5, 6, 8) as a state machine: PDUs and times in, queries and
//! whole sets of VRPs out. It outlives connections: after a lost one it asks for the increment only.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Vrp;
use super::pdu::{ErrorCode, Frame, Intervals, Pdu, Version};

/// A query that the cache leaves without any answer for so long is a failure. The protocol has no such timer.
pub const RESPONSE_TIME: Duration = Duration::from_mins(1);

/// What to do after an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// To be sent.
    pub query: Option<Pdu<'static>>,
    /// [`Session::vrps`] has changed as a whole and is complete.
    pub complete: bool,
}

/// Why the connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The cache broke the protocol: an Error Report with this code is due.
    #[error("{reason}")]
    Fault {
        /// To report.
        code: ErrorCode,
        /// Which rule.
        reason: &'static str,
    },
    /// The cache sent a fatal Error Report.
    #[error("the cache reports error {code}: {text}")]
    Reported {
        /// As received; see [`ErrorCode`].
        code: u16,
        /// Escaped and cut.
        text: String,
    },
    /// The cache does not speak this version: to be tried again at once with the one that the session has now.
    #[error("the cache does not support this version of the protocol")]
    Downgrade,
    /// More VRPs than the settings allow. A part of a set would make valid routes invalid, so none of it is used.
    #[error("more than {limit} VRPs")]
    TooManyVrps {
        /// The setting.
        limit: usize,
    },
    /// No answer within [`RESPONSE_TIME`].
    #[error("no answer from the cache for {} s", RESPONSE_TIME.as_secs())]
    ResponseTimeout,
}

/// Where in a query and its answer the connection is.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// No connection.
    Down,
    /// Connected, nothing asked. `query_at` is the next time to ask.
    Idle { query_at: Instant },
    /// Asked.
    Queried { everything: bool },
    /// Between Cache Response and End of Data.
    Receiving { session_id: u16, changes: Changes },
}

#[derive(Debug, PartialEq, Eq)]
enum Changes {
    /// Answer to a Reset Query.
    Everything(HashSet<Vrp>),
    /// Answer to a Serial Query: what is announced (true) or withdrawn at the end.
    Increment(HashMap<Vrp, bool>),
}

/// Name of a state of the cache's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DataVersion {
    session_id: u16,
    serial: u32,
}

/// One cache as seen by a router.
#[derive(Debug)]
pub struct Session {
    max_vrps: usize,
    version: Version,
    /// The cache has used `version` on this connection (RFC 8210, section 7).
    negotiated: bool,
    phase: Phase,
    /// Of the answer, or of the last sign of life while one is due.
    response_due: Option<Instant>,
    /// Of `vrps`; `None` if the next query must be a Reset Query.
    data_version: Option<DataVersion>,
    vrps: HashSet<Vrp>,
    intervals: Intervals,
    expires_at: Option<Instant>,
    /// A Serial Notify came while an answer was on its way.
    notified: bool,
}

impl Session {
    /// Without data and connection. `version` is the highest to try.
    #[must_use]
    pub fn new(version: Version, max_vrps: usize) -> Self {
        Self {
            max_vrps,
            version,
            negotiated: false,
            phase: Phase::Down,
            response_due: None,
            data_version: None,
            vrps: HashSet::new(),
            intervals: Intervals::default(),
            expires_at: None,
            notified: false,
        }
    }

    /// To be written into PDUs that are sent.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The last complete set; empty after it has expired.
    #[must_use]
    pub fn vrps(&self) -> Arc<[Vrp]> {
        self.vrps.iter().copied().collect()
    }

    /// Serial number of the data, if there is any.
    #[must_use]
    pub fn serial(&self) -> Option<u32> {
        self.data_version.map(|data| data.serial)
    }

    /// Intervals of the last End of Data, made sane.
    #[must_use]
    pub fn intervals(&self) -> Intervals {
        self.intervals
    }

    /// A connection is up.
    pub fn connected(&mut self, now: Instant) -> Step {
        self.negotiated = false;
        self.notified = false;
        self.ask(now)
    }

    /// The connection is gone. Data stays until it expires; an answer that was under way is forgotten.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Down;
        self.response_due = None;
    }

    /// When [`Self::timer`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let query_at = match self.phase {
            Phase::Idle { query_at } => Some(query_at),
            _ => None,
        };
        [query_at, self.response_due, self.expires_at].into_iter().flatten().min()
    }

    /// Time has passed.
    ///
    /// # Errors
    ///
    /// The cache does not answer.
    pub fn timer(&mut self, now: Instant) -> Result<Step, SessionError> {
        let mut step = Step::default();
        if self.expires_at.is_some_and(|at| at <= now) {
            self.expires_at = None;
            self.data_version = None;
            self.vrps = HashSet::new();
            step.complete = true;
            // An increment of what is gone is of no use, and the rest of it is still to come.
            if matches!(self.phase, Phase::Queried { everything: false })
                || matches!(self.phase, Phase::Receiving { changes: Changes::Increment(_), .. })
            {
                self.response_due = Some(now);
            }
        }
        if self.response_due.is_some_and(|due| due <= now) {
            // What expired in the same moment is still to be told: it is due again at the next call.
            self.expires_at = if step.complete { Some(now) } else { self.expires_at };
            return Err(SessionError::ResponseTimeout);
        }
        if matches!(self.phase, Phase::Idle { query_at } if query_at <= now) {
            step.query = self.ask(now).query;
        }
        Ok(step)
    }

    /// A PDU came.
    ///
    /// # Errors
    ///
    /// The connection is to be closed, after an Error Report if it is a [`SessionError::Fault`].
    pub fn received(&mut self, now: Instant, frame: &Frame<'_>) -> Result<Step, SessionError> {
        // RFC 8210, section 7: not before the version is agreed on.
        if matches!(frame.pdu, Pdu::SerialNotify { .. }) && !self.negotiated {
            return Ok(Step::default());
        }
        self.check_version(frame)?;
        if self.response_due.is_some() {
            self.response_due = Some(now + RESPONSE_TIME);
        }
        match frame.pdu {
            Pdu::SerialNotify { session_id, serial } => {
                self.notified(now, DataVersion { session_id, serial })
            }
            Pdu::CacheResponse { session_id } => self.response_starts(session_id),
            Pdu::Prefix { announce, vrp } => self.change(announce, vrp),
            Pdu::Skipped { .. } => match self.phase {
                Phase::Receiving { .. } => Ok(Step::default()),
                _ => Err(fault("data outside a response")),
            },
            Pdu::EndOfData { session_id, serial, intervals } => {
                self.response_ends(now, DataVersion { session_id, serial }, intervals)
            }
            Pdu::CacheReset => {
                if self.phase != (Phase::Queried { everything: false }) {
                    return Err(fault("Cache Reset that answers no Serial Query"));
                }
                self.data_version = None;
                Ok(self.ask(now))
            }
            Pdu::ErrorReport { code, text, .. } => self.reported(now, code, text),
            Pdu::SerialQuery { .. } | Pdu::ResetQuery => {
                Err(SessionError::Fault { code: ErrorCode::InvalidRequest, reason: "a query from the cache" })
            }
        }
    }

    fn check_version(&mut self, frame: &Frame<'_>) -> Result<(), SessionError> {
        let unexpected = SessionError::Fault {
            code: ErrorCode::UnexpectedProtocolVersion,
            reason: "the cache changed the version of the protocol",
        };
        if let Pdu::ErrorReport { code, .. } = frame.pdu
            && code == ErrorCode::UnsupportedProtocolVersion as u16
            && !self.negotiated
        {
            let lower = match self.version {
                Version::V2 if frame.version < Version::V1 => Version::V0,
                Version::V2 => Version::V1,
                Version::V1 => Version::V0,
                Version::V0 => return Ok(()),
            };
            self.version = lower;
            return Err(SessionError::Downgrade);
        }
        if frame.version == self.version {
            self.negotiated |= !matches!(frame.pdu, Pdu::ErrorReport { .. });
            return Ok(());
        }
        if matches!(frame.pdu, Pdu::ErrorReport { .. }) {
            return Ok(());
        }
        if self.negotiated || frame.version > self.version {
            return Err(unexpected);
        }
        // The cache answers in a lower version: that one holds from here on.
        self.version = frame.version;
        self.negotiated = true;
        Ok(())
    }

    fn ask(&mut self, now: Instant) -> Step {
        self.response_due = Some(now + RESPONSE_TIME);
        self.phase = Phase::Queried { everything: self.data_version.is_none() };
        let query = self.data_version.map_or(Pdu::ResetQuery, |DataVersion { session_id, serial }| {
            Pdu::SerialQuery { session_id, serial }
        });
        Step { query: Some(query), complete: false }
    }

    fn notified(&mut self, now: Instant, newest: DataVersion) -> Result<Step, SessionError> {
        if self.data_version.is_some_and(|data| data.session_id != newest.session_id) {
            return Err(self.other_session());
        }
        if self.data_version == Some(newest) {
            return Ok(Step::default());
        }
        if matches!(self.phase, Phase::Idle { .. }) {
            return Ok(self.ask(now));
        }
        self.notified = true;
        Ok(Step::default())
    }

    /// RFC 8210, section 5.1, has the data flushed; it is replaced as a whole by the Reset Query that follows, so that
    /// routes are not unknown meanwhile.
    fn other_session(&mut self) -> SessionError {
        self.data_version = None;
        fault("another Session ID")
    }

    fn response_starts(&mut self, session_id: u16) -> Result<Step, SessionError> {
        let Phase::Queried { everything } = self.phase else {
            return Err(fault("Cache Response that answers no query"));
        };
        let changes = if everything {
            Changes::Everything(HashSet::new())
        } else if self.data_version.is_some_and(|data| data.session_id == session_id) {
            Changes::Increment(HashMap::new())
        } else {
            return Err(self.other_session());
        };
        self.phase = Phase::Receiving { session_id, changes };
        Ok(Step::default())
    }

    fn change(&mut self, announce: bool, vrp: Vrp) -> Result<Step, SessionError> {
        let Phase::Receiving { changes, .. } = &mut self.phase else {
            return Err(fault("data outside a response"));
        };
        let (present, changed) = match changes {
            Changes::Everything(vrps) => (vrps.contains(&vrp), vrps.len()),
            Changes::Increment(changes) => {
                let present = changes.get(&vrp).copied().unwrap_or_else(|| self.vrps.contains(&vrp));
                (present, changes.len())
            }
        };
        let refused = match (announce, present) {
            (true, true) => Some((ErrorCode::DuplicateAnnouncement, "announcement of what is announced")),
            (false, false) => {
                Some((ErrorCode::WithdrawalOfUnknownRecord, "withdrawal of what is not announced"))
            }
            _ => None,
        };
        if let Some((code, reason)) = refused {
            self.data_version = None;
            return Err(SessionError::Fault { code, reason });
        }
        // An increment may withdraw everything and announce as much.
        let limit = match changes {
            Changes::Everything(_) => self.max_vrps,
            Changes::Increment(_) => self.max_vrps.saturating_mul(2),
        };
        if changed >= limit {
            self.data_version = None;
            return Err(SessionError::TooManyVrps { limit: self.max_vrps });
        }
        match changes {
            Changes::Everything(vrps) if announce => {
                vrps.insert(vrp);
            }
            Changes::Everything(vrps) => {
                vrps.remove(&vrp);
            }
            Changes::Increment(changes) => {
                changes.insert(vrp, announce);
            }
        }
        Ok(Step::default())
    }

    fn response_ends(
        &mut self,
        now: Instant,
        data: DataVersion,
        intervals: Option<Intervals>,
    ) -> Result<Step, SessionError> {
        let Phase::Receiving { session_id, changes } = &mut self.phase else {
            return Err(fault("End of Data outside a response"));
        };
        if *session_id != data.session_id {
            return Err(self.other_session());
        }
        let changed = match changes {
            Changes::Everything(vrps) => {
                self.vrps = std::mem::take(vrps);
                true
            }
            Changes::Increment(changes) => {
                // What was announced and withdrawn again in the same answer is not there to be withdrawn.
                let changed = |announces| {
                    let is_change = |change: &(&Vrp, &bool)| {
                        *change.1 == announces && self.vrps.contains(change.0) != announces
                    };
                    changes.iter().filter(is_change).count()
                };
                if self.vrps.len() + changed(true) - changed(false) > self.max_vrps {
                    self.data_version = None;
                    return Err(SessionError::TooManyVrps { limit: self.max_vrps });
                }
                for (vrp, announced) in changes.iter() {
                    if *announced {
                        self.vrps.insert(*vrp);
                    } else {
                        self.vrps.remove(vrp);
                    }
                }
                !changes.is_empty()
            }
        };
        self.data_version = Some(data);
        self.intervals = sane(intervals.unwrap_or_default());
        self.expires_at = Some(now + seconds(self.intervals.expire_seconds));
        self.response_due = None;
        self.phase = Phase::Idle { query_at: now + seconds(self.intervals.refresh_seconds) };
        let query = if std::mem::take(&mut self.notified) { self.ask(now).query } else { None };
        Ok(Step { query, complete: changed })
    }

    fn reported(&mut self, now: Instant, code: u16, text: &[u8]) -> Result<Step, SessionError> {
        if code == ErrorCode::NoDataAvailable as u16 && matches!(self.phase, Phase::Queried { .. }) {
            // RFC 8210, section 8.4: Reset Queries until there is data.
            self.data_version = None;
            self.response_due = None;
            self.phase = Phase::Idle { query_at: now + seconds(self.intervals.retry_seconds) };
            return Ok(Step::default());
        }
        // Whatever the cache did not like about the query, it has to like a Reset Query.
        self.data_version = None;
        let text = String::from_utf8_lossy(text.get(..200).unwrap_or(text)).escape_debug().to_string();
        Err(SessionError::Reported { code, text })
    }
}

fn fault(reason: &'static str) -> SessionError {
    SessionError::Fault { code: ErrorCode::CorruptData, reason }
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

/// The ranges of RFC 8210, section 6: values outside are moved to the nearest bound; data never expires before it is
/// refreshed and retried.
fn sane(intervals: Intervals) -> Intervals {
    let refresh_seconds = intervals.refresh_seconds.clamp(1, 86_400);
    let retry_seconds = intervals.retry_seconds.clamp(1, 7200);
    let expire_seconds = intervals.expire_seconds.clamp(600, 172_800);
    Intervals {
        refresh_seconds,
        retry_seconds,
        expire_seconds: expire_seconds.max(refresh_seconds).max(retry_seconds),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
