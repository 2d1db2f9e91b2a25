//! Collectors that take IPFIX by TCP or TLS, and what libfixbuf reads of it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::{self, JoinHandle};

use super::namespace::Namespace;
use super::process::Process;
use super::report::Figure;
use super::temp_dir::TempDir;
use super::tool::{output, tool};
use super::{PATIENCE, wait_for};

/// Listens in the namespace. Where another listener was closed just before, a program that another test is starting
/// may still have it, until it runs.
pub(crate) fn listen(namespace: &Namespace, address: SocketAddr) -> TcpListener {
    let in_use = || format!("{address} is in use");
    namespace.run(|| {
        wait_for("a place to listen", in_use, || match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => None,
            bound => Some(bound.unwrap()),
        })
    })
}

/// Accepts one connection and reads it until it ends in any way or, after `octets` octets, says that this is the end
/// and reads what was on its way.
pub(crate) fn accept(listener: &TcpListener, octets: u64) -> JoinHandle<Vec<u8>> {
    let listener = listener.try_clone().unwrap();
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        let mut stream = Vec::new();
        // What was read before an error counts as well.
        if (&mut connection).take(octets).read_to_end(&mut stream).is_ok() {
            _ = connection.shutdown(Shutdown::Write);
            _ = connection.read_to_end(&mut stream);
        }
        stream
    })
}

/// What libfixbuf reads of a stream, which may end within a message. It has to know every template.
pub(crate) fn totals(stream: &[u8]) -> Figure {
    let mut end = 0;
    while let Some(header) = stream.get(end..end + 4) {
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        assert_eq!(header[..2], [0, 10], "not IPFIX at octet {end}");
        if end + length > stream.len() {
            break;
        }
        end += length;
    }
    let directory = TempDir::new();
    let file = directory.file("stream.ipfix");
    fs::write(&file, &stream[..end]).unwrap();
    let text = output(tool("ipfixDump").arg("--in").arg(&file));
    let values = |element: &'static str| {
        text.lines().filter_map(move |line| {
            let (name, value) = line.trim().split_once(" : ")?;
            name.trim_end().ends_with(element).then(|| value.trim().parse::<u64>().unwrap())
        })
    };
    Figure {
        packets: values("packetDeltaCount").sum(),
        octets: values("octetDeltaCount").sum(),
        records: values("octetDeltaCount").count() as u64,
    }
}

/// A certificate that is its own authority, and its key.
#[derive(Debug)]
pub(crate) struct Certificate {
    directory: TempDir,
}

impl Certificate {
    /// For a name such as `IP:192.0.2.2` or `DNS:collector.test`.
    pub(crate) fn new(name: &str) -> Self {
        let certificate = Self { directory: TempDir::new() };
        let mut command = tool("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-days", "2", "-subj", "/CN=pathflow test", "-addext", "basicConstraints=CA:FALSE"]);
        command.args(["-addext", &format!("subjectAltName={name}")]);
        command.arg("-keyout").arg(certificate.key()).arg("-out").arg(certificate.file());
        output(&mut command);
        certificate
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.file("certificate.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.directory.file("key.pem")
    }
}

/// `openssl s_server`, which takes one connection and demands the certificate of the exporter.
#[derive(Debug)]
pub(crate) struct OpenSsl {
    process: Process,
    received: PathBuf,
    _directory: TempDir,
}

impl OpenSsl {
    pub(crate) fn start(
        namespace: &Namespace,
        address: SocketAddr,
        own: &Certificate,
        exporters: &Certificate,
    ) -> Self {
        let directory = TempDir::new();
        let received = directory.file("received.ipfix");
        let mut command = namespace.command("openssl");
        command.args(["s_server", "-quiet", "-naccept", "1", "-accept", &address.to_string()]);
        command.arg("-cert").arg(own.file()).arg("-key").arg(own.key());
        command.args(["-Verify", "1", "-verify_return_error"]).arg("-CAfile").arg(exporters.file());
        // At the end of its input it would close the connection.
        command.stdin(Stdio::piped()).stdout(File::create(&received).unwrap());
        Self { process: Process::start(&mut command), received, _directory: directory }
    }

    /// What came in the connection, which has ended.
    pub(crate) fn received(mut self) -> Vec<u8> {
        self.process.wait();
        fs::read(&self.received).unwrap()
    }

    pub(crate) fn errors(&self) -> String {
        self.process.errors()
    }
}
