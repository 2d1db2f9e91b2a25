//! TLS over TCP to one collector (RFC 7011, section 11): version 1.2 or later, the collector's certificate verified
//! against a file of authorities and its name, and a certificate of our own if it wants one (section 11.3).

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore};

use super::tcp::{Heard, READS};

/// The files that TLS needs, all PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that the collector's certificate must be from.
    pub ca: PathBuf,
    /// Our own certificate, then those between it and its authority, for a collector that asks for one.
    pub certificate: Option<PathBuf>,
    /// The key of our certificate.
    pub key: Option<PathBuf>,
}

/// One of the files that TLS needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    /// Of authorities.
    Ca,
    /// Of our own certificate.
    Certificate,
    /// Of its key.
    Key,
}

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, or not what it has to be.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        file: TlsFile,
        /// Its name.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A certificate without a key, or a key without a certificate.
    #[error("certificate and key are given both or not at all")]
    HalfIdentity,
    /// Neither a host name nor an IP address.
    #[error("{0:?} is neither a host name nor an IP address")]
    ServerName(String),
    /// The library refuses.
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// How to secure a connection.
#[derive(Clone)]
pub struct TlsSettings {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsSettings").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl TlsSettings {
    /// Reads the files. The collector's certificate must be for `server_name`, a host name or an IP address.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be used, or the name.
    pub fn load(files: &TlsFiles, server_name: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| TlsError::ServerName(server_name.to_owned()))?;
        Ok(Self { config: Arc::new(client_config(files)?), server_name: name })
    }

    pub(super) fn begin(&self) -> io::Result<Tls> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.server_name.clone());
        Ok(Tls { connection: connection.map_err(io::Error::other)? })
    }
}

fn client_config(files: &TlsFiles) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(TlsFile::Ca, &files.ca)? {
        roots.add(certificate).map_err(|error| file_error(TlsFile::Ca, &files.ca, error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match (&files.certificate, &files.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates(TlsFile::Certificate, certificate)?;
            let secret = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| file_error(TlsFile::Key, key, pem_reason(error, "private key")))?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|error| file_error(TlsFile::Key, key, key_reason(&error, certificate)))?
        }
        _ => return Err(TlsError::HalfIdentity),
    };
    // Each connection verifies the collector anew.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn certificates(file: TlsFile, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |reason| file_error(file, path, reason);
    let read = |error| refuse(pem_reason(error, "certificate"));
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<_, _>>().map_err(read)?;
    if certificates.is_empty() {
        return Err(refuse("there is no PEM certificate in it".to_owned()));
    }
    Ok(certificates)
}

fn file_error(file: TlsFile, path: &Path, reason: String) -> TlsError {
    TlsError::File { file, path: path.to_owned(), reason }
}

fn pem_reason(error: rustls::pki_types::pem::Error, what: &str) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => format!("there is no PEM {what} in it"),
        error => error.to_string(),
    }
}

fn key_reason(error: &rustls::Error, certificate: &Path) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("it is not the key of the certificate in {}", certificate.display())
        }
        error => error.to_string(),
    }
}

/// A connection with TLS.
#[derive(Debug)]
pub(super) struct Tls {
    connection: ClientConnection,
}

impl Tls {
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the collector can refuse our certificate, or the lack of one, after the handshake has ended for us
    /// (RFC 8446, section 4.4.2.4).
    pub(super) fn may_be_refused_late(&self) -> bool {
        self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Octets that are still to be given to the system.
    pub(super) fn waiting(&mut self) -> usize {
        // Asks for the state: there is nothing new to process.
        self.connection.process_new_packets().map_or(0, |state| state.tls_bytes_to_write())
    }

    pub(super) fn send(&mut self, socket: &TcpStream, octets: &[u8]) -> io::Result<usize> {
        self.connection.writer().write_all(octets)?;
        self.flush(socket)
    }

    pub(super) fn flush(&mut self, mut socket: &TcpStream) -> io::Result<usize> {
        let mut taken = 0;
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut socket) {
                Ok(octets) => taken += octets,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    pub(super) fn hear(&mut self, mut socket: &TcpStream) -> io::Result<Heard> {
        let mut heard = Heard::Nothing;
        for _ in 0..READS {
            match self.connection.read_tls(&mut socket) {
                Ok(0) => return Ok(Heard::End),
                Ok(_) => heard = Heard::Something,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
                Err(error) => return Err(error),
            }
            match self.connection.process_new_packets() {
                Ok(state) => {
                    self.discard(state.plaintext_bytes_to_read())?;
                    if state.peer_has_closed() {
                        return Ok(Heard::End);
                    }
                }
                Err(error) => {
                    // The collector is told why, if it still listens.
                    let _ = self.flush(socket);
                    return Err(io::Error::other(error));
                }
            }
        }
        Ok(heard)
    }

    /// Tells the collector that this is the end (`close_notify`).
    pub(super) fn say_end(&mut self) {
        self.connection.send_close_notify();
    }

    fn discard(&mut self, octets: usize) -> io::Result<()> {
        let mut reader = self.connection.reader().take(octets as u64);
        io::copy(&mut reader, &mut io::sink()).map(drop)
    }
}
