//! What carries messages to a collector.

use std::net::SocketAddr;

use pathflow_exporter::{Session, TcpSettings, TlsSettings, Transport, Udp, UdpSettings};

use crate::config::{ExportProcess, ExportTransport};
use crate::error::RunError;
use crate::unacknowledged::unacknowledged;

/// What carries messages to the collector with this number.
pub(super) fn transport(
    process: &ExportProcess,
    collector: SocketAddr,
    number: usize,
) -> Result<Transport, RunError> {
    let ExportProcess { source_address, dscp, ttl, .. } = *process;
    let server_name = match &process.transport {
        ExportTransport::Udp => {
            let settings = UdpSettings { source_address, dscp, ttl, ..UdpSettings::new(collector) };
            return Ok(Transport::Udp(Udp::connect(&settings)?));
        }
        ExportTransport::Tcp => None,
        ExportTransport::Tls { files, server_names } => {
            Some((files, server_names.get(number).map_or("", String::as_str)))
        }
    };
    let settings = TcpSettings {
        source_address,
        dscp,
        ttl,
        unacknowledged: Some(unacknowledged),
        ..TcpSettings::new(collector)
    };
    let session = match server_name {
        Some((files, name)) => Session::tls(settings, TlsSettings::load(files, name)?),
        None => Session::tcp(settings),
    };
    Ok(Transport::Session(Box::new(session)))
}
