//! A transport for tests that does what a script says.

use std::collections::VecDeque;
use std::io;

use super::{Report, SegmentsOutcome, SendOutcome};

/// One step of the script. When the script is empty every send succeeds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Sent,
    Refused,
    Unreachable,
    TooBig,
    /// The path MTU changes before this send, which is then judged by it.
    PathMtu(u32),
    TimedOut,
    Failed,
    Closed,
    /// Several messages at once are refused, now and later; one message alone is sent.
    NoSegments,
}

#[derive(Debug, Default)]
pub(crate) struct Scripted {
    pub(crate) steps: VecDeque<Step>,
    pub(crate) reports: VecDeque<Step>,
    pub(crate) path_mtu: u32,
    pub(crate) sent: Vec<Vec<u8>>,
    /// Octets that may be sent at once; 0 if only one message can.
    pub(crate) segments_size: usize,
    /// How many messages were sent at once.
    pub(crate) runs: Vec<usize>,
}

impl Scripted {
    pub(crate) fn new(path_mtu: u32, steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), path_mtu, segments_size: 65_507, ..Self::default() }
    }

    pub(crate) fn send(&mut self, octets: &[u8]) -> SendOutcome {
        if let Some(Step::PathMtu(path_mtu)) = self.steps.front() {
            self.path_mtu = *path_mtu;
            self.steps.pop_front();
        }
        if octets.len() + self.header_overhead() > self.path_mtu as usize {
            return SendOutcome::TooBig;
        }
        match self.steps.pop_front() {
            None | Some(Step::Sent | Step::PathMtu(_) | Step::NoSegments) => {
                self.sent.push(octets.to_vec());
                SendOutcome::Sent
            }
            Some(Step::Refused) => SendOutcome::Refused(io::ErrorKind::ConnectionRefused.into()),
            Some(Step::Unreachable) => SendOutcome::Unreachable(io::ErrorKind::HostUnreachable.into()),
            Some(Step::TooBig) => SendOutcome::TooBig,
            Some(Step::TimedOut) => SendOutcome::TimedOut,
            Some(Step::Failed) => SendOutcome::Failed(io::ErrorKind::PermissionDenied.into()),
            Some(Step::Closed) => SendOutcome::Closed,
        }
    }

    pub(crate) fn send_segments(&mut self, octets: &[u8], segment: u16) -> SegmentsOutcome {
        if matches!(self.steps.front(), Some(Step::NoSegments)) {
            self.segments_size = 0;
            return SegmentsOutcome::NotSupported;
        }
        let messages = octets.chunks(segment.into());
        self.runs.push(messages.len());
        let before = self.sent.len();
        for message in messages {
            // The step is for all of them.
            if self.sent.len() == before {
                match self.send(message) {
                    SendOutcome::Sent => {}
                    outcome => return SegmentsOutcome::As(outcome),
                }
            } else {
                self.sent.push(message.to_vec());
            }
        }
        SegmentsOutcome::As(SendOutcome::Sent)
    }

    pub(crate) fn report(&mut self) -> Report {
        match self.reports.pop_front() {
            Some(Step::Refused | Step::Unreachable) => {
                Report::Refused(io::ErrorKind::ConnectionRefused.into())
            }
            Some(Step::TooBig) => Report::TooBig,
            _ => Report::Nothing,
        }
    }

    #[expect(clippy::unused_self, reason = "same shape as the real transports")]
    pub(crate) fn header_overhead(&self) -> usize {
        28
    }

    #[expect(clippy::unused_self, reason = "same shape as the real transports")]
    pub(crate) fn safe_message_size(&self) -> usize {
        548
    }
}
