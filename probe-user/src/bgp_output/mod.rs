//! What BGP peers have sent, for those who want to see it: table dumps and the log of messages, as files of JSON
//! lines or as messages to Apache Kafka.
//!
//! ```text
//! BGP thread -> routes in small pieces, when asked -> bgp-dump -> a file for each peer and time, or a topic
//!            -> events, through a bounded queue    -> bgp-log  -> a file for each peer, or a topic
//! ```

pub mod account;
pub mod dump;
pub mod file_name;
pub mod json;
pub mod message_log;
pub mod origin;
#[cfg(feature = "kafka")]
pub mod topic;

use std::sync::Arc;

use pathflow_bgp::speaker::SpeakerHandle;

use crate::error::RunError;
use dump::{TableDumpCounts, TableDumpSettings, TableDumps};
use message_log::{MessageLog, MessageLogCounts, MessageLogSettings};
use origin::Origins;

/// `writer_id` of messages to a broker, as pmbgpd 1.7.7 has it.
#[cfg(feature = "kafka")]
fn writer_id() -> String {
    format!("default/{}", std::process::id())
}

/// What is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputSettings {
    /// Table dumps; `None` = none.
    pub table_dump: Option<TableDumpSettings>,
    /// Log of messages; `None` = none.
    pub message_log: Option<MessageLogSettings>,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct OutputCounts {
    /// Of table dumps.
    pub table_dump: Option<Arc<TableDumpCounts>>,
    /// Of the log of messages.
    pub message_log: Option<Arc<MessageLogCounts>>,
}

/// Dumps and log at work.
#[derive(Debug)]
pub struct Output {
    table_dumps: Option<TableDumps>,
    message_log: Option<MessageLog>,
}

impl Output {
    /// Starts the threads for what is wanted.
    ///
    /// # Errors
    /// [`RunError`] if there is no thread to be had.
    pub fn start(
        settings: &OutputSettings,
        speaker: &SpeakerHandle,
        origins: Option<&Origins>,
    ) -> Result<Self, RunError> {
        // First: it has what comes from now on.
        let message_log = settings
            .message_log
            .clone()
            .map(|settings| MessageLog::start(settings, speaker, origins.cloned()));
        let message_log = message_log.transpose()?;
        let table_dumps = settings
            .table_dump
            .clone()
            .map(|settings| TableDumps::start(settings, speaker.clone(), origins.cloned()));
        Ok(Self { table_dumps: table_dumps.transpose()?, message_log })
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> OutputCounts {
        OutputCounts {
            table_dump: self.table_dumps.as_ref().map(TableDumps::counts),
            message_log: self.message_log.as_ref().map(MessageLog::counts),
        }
    }

    /// Opens the files of the log anew, which may have been moved away.
    pub fn reopen(&self) {
        if let Some(log) = &self.message_log {
            log.reopen();
        }
    }

    /// Ends dumps, then the speaker by `stop`, then the log, which has the end of the sessions.
    pub fn finish(self, stop: impl FnOnce()) {
        if let Some(dumps) = self.table_dumps {
            dumps.finish();
        }
        stop();
        if let Some(log) = self.message_log {
            log.finish();
        }
    }
}
