//! Why pathflow cannot run: each message is one line that an operator can act on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use pathflow_exporter::sflow::AgentSettingsError;
use pathflow_exporter::{ExportSettingsError, TlsError, UdpError};

use crate::aggregate::encode::EncodeError;
use crate::capture::CaptureError;
use crate::capture::pcap::PcapFileError;
use crate::capture::xsk::MirrorError;
use crate::interfaces::SelectionError;

/// Why the daemon cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No interface was named.
    #[error("no interface: name one with --interface NAME or capture.interfaces in the configuration file")]
    NoInterface,
    /// Interfaces that were asked for are not there.
    #[error(transparent)]
    Interfaces(#[from] SelectionError),
    /// Capture is not possible.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A mirror port cannot be used.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// A capture file cannot be read.
    #[error(transparent)]
    File(#[from] PcapFileError),
    /// The interfaces cannot be listed.
    #[error("cannot list the interfaces: {0}")]
    Netlink(io::Error),
    /// A collector cannot be exported to.
    #[error(transparent)]
    Collector(#[from] UdpError),
    /// TLS cannot be set up.
    #[error("export: {0}")]
    Tls(#[from] TlsError),
    /// The source address towards an sFlow collector is not known.
    #[error("sflow.agent_address: no source address towards {collector}: {error}")]
    SflowAddress {
        /// The collector.
        collector: SocketAddr,
        /// From the system.
        error: io::Error,
    },
    /// sFlow settings that cannot work.
    #[error("sflow: {0}")]
    Sflow(#[from] AgentSettingsError),
    /// Export settings that cannot work.
    #[error("export: {0}")]
    Export(#[from] ExportSettingsError),
    /// An output of an aggregate cannot write its rows.
    #[error("aggregate: {0}")]
    Aggregate(#[from] EncodeError),
    /// Kafka cannot be used as an output wants it.
    #[cfg(feature = "kafka")]
    #[error("{name}: kafka: {error}")]
    Kafka {
        /// Name of the output.
        name: String,
        /// What is wrong.
        error: pathflow_exporter::kafka::KafkaError,
    },
    /// The schema of an aggregate's rows cannot be written.
    #[cfg(feature = "avro")]
    #[error("{name}: kafka.schema_file: {}: {error}", path.display())]
    SchemaFile {
        /// Name of the output.
        name: String,
        /// The file.
        path: PathBuf,
        /// From the system.
        error: io::Error,
    },
    /// Standard output cannot be used.
    #[error("standard output: {0}")]
    Stdout(io::Error),
    /// The address of the metrics page cannot be had.
    #[error("http.listen: {address}: {error}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// From the system.
        error: io::Error,
    },
    /// The BGP speaker cannot start.
    #[error("bgp: {0}")]
    Bgp(String),
    /// The address of the BMP station cannot be had.
    #[error("bmp.listen: {address}: {error}")]
    Bmp {
        /// As configured.
        address: SocketAddr,
        /// From the system.
        error: io::Error,
    },
    /// A file with validated ROA payloads cannot be used.
    #[error("rpki.file: {0}")]
    Rpki(String),
    /// The socket for questions cannot be had.
    #[error("control.socket: {}: {error}", path.display())]
    Control {
        /// As configured.
        path: PathBuf,
        /// From the system.
        error: io::Error,
    },
    /// No random numbers.
    #[error("no random numbers for the table hash: {0}")]
    Random(io::Error),
    /// A thread cannot be started.
    #[error("cannot start thread {name}: {error}")]
    Thread {
        /// Its name.
        name: String,
        /// From the system.
        error: io::Error,
    },
}
