//! Collectors in the test itself: TCP, and TLS by rustls, with certificates made for the occasion.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pathflow_exporter::{
    ExportEvent, ExportSettings, ExportTime, ExportingProcess, FlowRecord, Session, TcpSettings, TlsFiles,
    TlsSettings, Transport,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use crate::decode::{Decoded, Decoder, number_of};
use crate::support::{NOW, TempDir};

/// How long anything may take in real time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An Exporting Process with a clock of its own that only the test moves.
pub(crate) struct Exporter {
    pub(crate) process: ExportingProcess,
    pub(crate) now: ExportTime,
    pub(crate) events: Vec<ExportEvent>,
}

impl Exporter {
    pub(crate) fn new(session: Session) -> Self {
        let transport = Transport::Session(Box::new(session));
        let process = ExportingProcess::new(&ExportSettings::default(), transport).unwrap();
        Self { process, now: NOW, events: Vec::new() }
    }

    pub(crate) fn tcp(collector: SocketAddr) -> Self {
        Self::new(Session::tcp(TcpSettings::new(collector)))
    }

    pub(crate) fn tls(collector: SocketAddr, files: &TlsFiles, name: &str) -> Self {
        let tls = TlsSettings::load(files, name).unwrap();
        Self::new(Session::tls(TcpSettings::new(collector), tls))
    }

    /// Lets time pass and the session do what it can.
    pub(crate) fn step(&mut self, milliseconds: u64) {
        self.now.monotonic += Duration::from_millis(milliseconds);
        self.now.unix_milliseconds += milliseconds;
        self.process.poll(self.now);
        assert!(self.process.account().is_balanced());
        while let Some(event) = self.process.next_event() {
            self.events.push(event);
        }
    }

    /// Steps until `condition`.
    pub(crate) fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "{what}: {:?} {:?}", self.events, self.process.account());
            self.step(20);
        }
    }

    /// As a sink does: what cannot be sent yet is not handed over yet.
    pub(crate) fn export(&mut self, records: &[FlowRecord]) {
        for batch in records.chunks(50) {
            self.until("ready", |exporter| exporter.process.is_ready());
            self.process.export(self.now, batch);
        }
        self.until("everything sent", |exporter| exporter.process.is_settled());
    }

    pub(crate) fn close(mut self) -> pathflow_exporter::ExportAccount {
        self.process.close(self.now);
        *self.process.account()
    }

    /// What went wrong, in order.
    pub(crate) fn faults(&self) -> Vec<String> {
        let fault = |event: &ExportEvent| match event {
            ExportEvent::ConnectFailed { error } | ExportEvent::ConnectionLost { error, .. } => {
                Some(error.to_string())
            }
            _ => None,
        };
        self.events.iter().filter_map(fault).collect()
    }
}

/// Records that can be told apart by their octets: as many as `octets` has numbers.
pub(crate) fn numbered(octets: std::ops::Range<u64>) -> Vec<FlowRecord> {
    let kinds = crate::support::flows();
    octets
        .map(|number| FlowRecord {
            octet_delta_count: number,
            ..kinds[number as usize % kinds.len()].clone()
        })
        .collect()
}

/// The messages of a stream, decoded; it has to end with the end of a message.
pub(crate) fn messages(mut stream: &[u8]) -> Vec<Decoded> {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    while !stream.is_empty() {
        let length = usize::from(u16::from_be_bytes([stream[2], stream[3]]));
        assert!(length <= 8192, "{length}");
        messages.push(decoder.decode(&stream[..length]));
        stream = &stream[length..];
    }
    messages
}

/// octetDeltaCount of every record, in order. Templates come first, and Sequence Numbers begin with 0.
pub(crate) fn octets(messages: &[Decoded]) -> Vec<u64> {
    let mut sequence_number = 0;
    for (index, message) in messages.iter().enumerate() {
        assert!(index > 0 || message.template_records > 0, "no templates at the beginning");
        assert_eq!(message.sequence_number, sequence_number);
        sequence_number += (message.records.len() + message.options.len()) as u32;
    }
    messages.iter().flat_map(|message| &message.records).map(|record| number_of(&record[&(0, 1)])).collect()
}

/// Accepts one connection and reads `octets` octets or to the end of it; then it says that this is the end, and reads
/// what was on its way.
pub(crate) fn accept(listener: &TcpListener, octets: u64) -> JoinHandle<Vec<u8>> {
    let listener = listener.try_clone().unwrap();
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = Vec::new();
        (&mut connection).take(octets).read_to_end(&mut stream).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        connection.read_to_end(&mut stream).unwrap();
        stream
    })
}

/// Accepts one connection and reads all of it, a little at a time.
pub(crate) fn accept_slowly(listener: &TcpListener) -> JoinHandle<Vec<u8>> {
    let listener = listener.try_clone().unwrap();
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut stream, mut part) = (Vec::new(), [0; 16_000]);
        loop {
            match connection.read(&mut part).unwrap() {
                0 => return stream,
                length => stream.extend_from_slice(&part[..length]),
            }
            thread::sleep(Duration::from_millis(1));
        }
    })
}

/// Certificates: an authority, a collector's for the names below, and an exporter's.
pub(crate) struct Certificates {
    directory: TempDir,
}

/// Names in the collector's certificate.
pub(crate) const NAMES: [&str; 2] = ["collector.test", "127.0.0.1"];

impl Certificates {
    pub(crate) fn new(name: &str) -> Self {
        let certificates = Self { directory: TempDir::new(name) };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("authority {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        certificates.write("ca.pem", &params.self_signed(&key).unwrap().pem());
        let authority = Issuer::new(params, key);
        for (file, names) in [("collector", NAMES.map(str::to_owned).to_vec()), ("exporter", Vec::new())] {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
            certificates.write(&format!("{file}.pem"), &certificate.pem());
            certificates.write(&format!("{file}.key"), &key.serialize_pem());
        }
        certificates
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).unwrap();
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.file(name)
    }

    /// What an exporter needs that has no certificate.
    pub(crate) fn anonymous(&self) -> TlsFiles {
        TlsFiles { ca: self.file("ca.pem"), certificate: None, key: None }
    }

    /// What an exporter needs that has one.
    pub(crate) fn identified(&self) -> TlsFiles {
        TlsFiles {
            certificate: Some(self.file("exporter.pem")),
            key: Some(self.file("exporter.key")),
            ..self.anonymous()
        }
    }

    fn chain(&self, name: &str) -> Vec<CertificateDer<'static>> {
        let file = CertificateDer::pem_file_iter(self.file(name)).unwrap();
        file.map(Result::unwrap).collect()
    }

    fn server_config(&self, version: &'static SupportedProtocolVersion, asks: bool) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        let builder = if asks {
            let mut roots = RootCertStore::empty();
            self.chain("ca.pem").into_iter().for_each(|root| roots.add(root).unwrap());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(self.file("collector.key")).unwrap();
        builder.with_single_cert(self.chain("collector.pem"), key).unwrap()
    }
}

/// What a TLS collector has seen of one connection.
pub(crate) struct Secured {
    pub(crate) stream: Vec<u8>,
    /// Why it ended, unless by `close_notify`.
    pub(crate) error: Option<String>,
}

/// A TLS collector that accepts one connection and reads it to its end.
pub(crate) fn accept_tls(
    listener: &TcpListener,
    certificates: &Certificates,
    version: &'static SupportedProtocolVersion,
    asks_for_certificate: bool,
) -> JoinHandle<Secured> {
    accept_some_tls(listener, certificates, version, asks_for_certificate, u64::MAX)
}

/// As [`accept_tls`], but after `octets` octets it says that this is the end, and reads what was on its way.
pub(crate) fn accept_some_tls(
    listener: &TcpListener,
    certificates: &Certificates,
    version: &'static SupportedProtocolVersion,
    asks_for_certificate: bool,
    octets: u64,
) -> JoinHandle<Secured> {
    let listener = listener.try_clone().unwrap();
    let config = Arc::new(certificates.server_config(version, asks_for_certificate));
    thread::spawn(move || {
        let (mut connection, _): (TcpStream, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut tls = ServerConnection::new(config).unwrap();
        let mut stream = Vec::new();
        let mut reader = rustls::Stream::new(&mut tls, &mut connection);
        let result = (&mut reader).take(octets).read_to_end(&mut stream).and_then(|_| {
            reader.conn.send_close_notify();
            reader.read_to_end(&mut stream)
        });
        // The other side is told why.
        while tls.wants_write() && tls.write_tls(&mut connection).is_ok() {}
        let _ = connection.flush();
        Secured { stream, error: result.err().map(|error| error.to_string()) }
    })
}
