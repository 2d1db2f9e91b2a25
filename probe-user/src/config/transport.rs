//! How messages travel to collectors: checks of the keys for TCP and TLS.

use std::path::PathBuf;

use pathflow_exporter::{Format, TlsError, TlsFile, TlsFiles, TlsSettings};

use super::raw::{Export, FormatName, TransportName};
use super::{ConfigError, invalid};

/// How messages travel, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportTransport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls {
        /// Certificates and key.
        files: TlsFiles,
        /// The name that the certificate of each collector must be for, in the order of the collectors.
        server_names: Vec<String>,
    },
}

/// Checks the keys, and the files that they name.
pub(super) fn transport(table: &str, export: &Export) -> Result<ExportTransport, ConfigError> {
    let key = |name: &str| format!("{table}.{name}");
    if export.format != FormatName::Ipfix && export.transport != TransportName::Udp {
        let reason = "it is for transport = \"udp\" only; TCP and TLS carry \"ipfix\"";
        return Err(invalid(key("format"), &Format::from(export.format).as_str(), reason));
    }
    if export.transport != TransportName::Tls {
        for (key, value) in [
            (key("ca_file"), &export.ca_file),
            (key("certificate_file"), &export.certificate_file),
            (key("key_file"), &export.key_file),
            (key("server_name"), &export.server_name),
        ] {
            if !value.is_empty() {
                return Err(invalid(key, value, "it is of use only with transport = \"tls\""));
            }
        }
    }
    match export.transport {
        TransportName::Udp => Ok(ExportTransport::Udp),
        TransportName::Tcp => Ok(ExportTransport::Tcp),
        TransportName::Tls => tls(table, export),
    }
}

fn tls(table: &str, export: &Export) -> Result<ExportTransport, ConfigError> {
    let key = |name: &str| format!("{table}.{name}");
    if export.ca_file.is_empty() {
        let reason =
            "it is needed with transport = \"tls\": the authorities that certificates of collectors are from";
        return Err(invalid(key("ca_file"), &"", reason));
    }
    let file = |name: &str| (!name.is_empty()).then(|| PathBuf::from(name));
    let files = TlsFiles {
        ca: export.ca_file.clone().into(),
        certificate: file(&export.certificate_file),
        key: file(&export.key_file),
    };
    let server_names: Vec<String> = if export.server_name.is_empty() {
        export.collectors.iter().map(|collector| host(collector).to_owned()).collect()
    } else {
        export.collectors.iter().map(|_| export.server_name.clone()).collect()
    };
    // Without a collector the files have to be right all the same.
    let names = if server_names.is_empty() { vec!["localhost".to_owned()] } else { server_names.clone() };
    for name in names {
        TlsSettings::load(&files, &name).map_err(|error| refusal(table, export, error))?;
    }
    Ok(ExportTransport::Tls { files, server_names })
}

/// The host of `HOST:PORT`; an IPv6 address without its brackets.
fn host(collector: &str) -> &str {
    let host = collector.rsplit_once(':').map_or(collector, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn refusal(table: &str, export: &Export, error: TlsError) -> ConfigError {
    let key = |name: &str| format!("{table}.{name}");
    match error {
        TlsError::File { file: TlsFile::Ca, reason, .. } => invalid(key("ca_file"), &export.ca_file, reason),
        TlsError::File { file: TlsFile::Certificate, reason, .. } => {
            invalid(key("certificate_file"), &export.certificate_file, reason)
        }
        TlsError::File { file: TlsFile::Key, reason, .. } => {
            invalid(key("key_file"), &export.key_file, reason)
        }
        TlsError::HalfIdentity if export.key_file.is_empty() => {
            invalid(key("certificate_file"), &export.certificate_file, "it needs key_file as well")
        }
        TlsError::HalfIdentity => {
            invalid(key("key_file"), &export.key_file, "it needs certificate_file as well")
        }
        TlsError::ServerName(name) if export.server_name.is_empty() => {
            invalid(key("collectors"), &name, "it is neither a host name nor an IP address")
        }
        error @ (TlsError::ServerName(_) | TlsError::Library(_)) => {
            invalid(key("server_name"), &export.server_name, error.to_string())
        }
    }
}
