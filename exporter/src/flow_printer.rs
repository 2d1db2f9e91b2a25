//! Flows as lines, JSON or text, on an output stream. Same account and same calls as an Exporting Process.

use std::sync::Arc;

use crate::account::{ExportAccount, ExportCounts, LossReason, SendErrorKind};
use crate::encode::{json, text};
use crate::exporting_process::ExportEvent;
use crate::interface_names::InterfaceNames;
use crate::record::{FlowRecord, Tally};
use crate::transport::{SendOutcome, Stdout};

/// How a flow is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineStyle {
    /// One JSON object on each line.
    #[default]
    Json,
    /// Aligned columns.
    Text,
}

/// Octets after which lines are written without waiting for a flush.
const BUFFER_LENGTH: usize = 64 * 1024;

/// Room for the longest line, so that the buffer does not grow.
const MAX_LINE_LENGTH: usize = 2048;

/// Writes each flow as one line.
#[derive(Debug)]
pub struct FlowPrinter {
    style: LineStyle,
    output: Stdout,
    interface_names: Arc<InterfaceNames>,
    buffer: Vec<u8>,
    account: ExportAccount,
    counts: ExportCounts,
    event: Option<ExportEvent>,
    failure: Option<SendErrorKind>,
}

impl FlowPrinter {
    /// A printer that has written nothing yet, not even the header of the text style.
    #[must_use]
    pub fn new(style: LineStyle, output: Stdout, interface_names: Arc<InterfaceNames>) -> Self {
        let mut buffer = Vec::with_capacity(BUFFER_LENGTH + MAX_LINE_LENGTH);
        if style == LineStyle::Text {
            buffer.extend_from_slice(text::HEADER.as_bytes());
        }
        Self {
            style,
            output,
            interface_names,
            buffer,
            account: ExportAccount::default(),
            counts: ExportCounts::default(),
            event: None,
            failure: None,
        }
    }

    /// Names for records printed from now on.
    pub fn set_interface_names(&mut self, interface_names: Arc<InterfaceNames>) {
        self.interface_names = interface_names;
    }

    /// Accepts `records`; they are pending until the buffer is full or [`flush`](Self::flush) is called.
    pub fn export(&mut self, records: &[FlowRecord]) {
        for record in records {
            self.account.accept(Tally::from(record));
            match self.style {
                LineStyle::Json => json::append(&mut self.buffer, record, &self.interface_names),
                LineStyle::Text => text::append(&mut self.buffer, record, &self.interface_names),
            }
            if self.buffer.len() >= BUFFER_LENGTH {
                self.flush();
            }
        }
    }

    /// Writes what is pending, to be called at the end of each batch. A batch that fails is lost as a whole,
    /// even if some of its lines were read.
    pub fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let pending = self.account.pending;
        match self.output.send(&self.buffer) {
            SendOutcome::Sent => {
                self.account.send(pending);
                self.account.settle_delivered();
                self.counts.messages += 1;
                self.counts.octets += self.buffer.len() as u64;
                if self.failure.take().is_some() {
                    self.event = Some(ExportEvent::Recovered);
                }
            }
            SendOutcome::Closed => {
                self.lose(LossReason::OutputClosed, SendErrorKind::Closed, ExportEvent::Closed);
            }
            SendOutcome::TimedOut | SendOutcome::TooBig | SendOutcome::Disconnected => {
                self.lose(LossReason::SendTimeout, SendErrorKind::TimedOut, ExportEvent::TimedOut);
            }
            SendOutcome::Refused(error) | SendOutcome::Unreachable(error) | SendOutcome::Failed(error) => {
                self.lose(LossReason::SendFailed, SendErrorKind::Failed, ExportEvent::Failed { error });
            }
        }
        self.buffer.clear();
    }

    /// Whether the reader is gone, so that nothing will be delivered any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.failure == Some(SendErrorKind::Closed)
    }

    /// Where every accepted record is now. Nothing is ever in flight.
    #[must_use]
    pub const fn account(&self) -> &ExportAccount {
        &self.account
    }

    /// What was written; a message here is one write.
    #[must_use]
    pub const fn counts(&self) -> &ExportCounts {
        &self.counts
    }

    /// Takes the last event.
    pub const fn next_event(&mut self) -> Option<ExportEvent> {
        self.event.take()
    }

    fn lose(&mut self, reason: LossReason, kind: SendErrorKind, event: ExportEvent) {
        self.account.lose_pending(self.account.pending, reason);
        self.counts.send_errors[kind as usize] += 1;
        if self.failure != Some(kind) {
            self.failure = Some(kind);
            self.event = Some(event);
        }
    }
}
