//! Apicurio Registry on the router, which has the API of Confluent's schema registry as well; and who reads with it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::namespace::Namespace;
use super::process::Process;
use super::stream::Certificate;
use super::temp_dir::TempDir;
use super::tool::output;
use super::wait_for;

/// Where it listens. Each namespace has a loopback of its own.
const ADDRESS: &str = "127.0.0.1:8081";
/// Its API of Confluent's, by HTTP.
pub(crate) const REGISTRY: &str = "http://127.0.0.1:8081/apis/ccompat/v7";
/// The same by TLS.
pub(crate) const SECURE_REGISTRY: &str = "https://127.0.0.1:8443/apis/ccompat/v7";

/// A registry that keeps what it knows in memory.
#[derive(Debug)]
pub(crate) struct Registry<'a> {
    namespace: &'a Namespace,
    process: Process,
    /// In front of it, for TLS.
    _terminators: Vec<Process>,
}

impl<'a> Registry<'a> {
    /// Starts it; with TLS, too, if there is a certificate.
    pub(crate) fn start(namespace: &'a Namespace, certificate: Option<&Certificate>) -> Self {
        let folder = from_environment("PATHFLOW_APICURIO");
        let is_runner = |path: &PathBuf| path.to_string_lossy().ends_with("-runner.jar");
        let mut files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let jar = files.find(is_runner).unwrap_or_else(|| panic!("no program in {}", folder.display()));
        let mut command = namespace.command("java");
        command.args(["-Xmx384m", "-Dquarkus.http.host=127.0.0.1", "-Dquarkus.http.port=8081", "-jar"]);
        let process = Process::start(command.arg(jar).stdout(std::process::Stdio::null()));
        let terminators = certificate.map(|certificate| {
            let (file, key) = (certificate.file(), certificate.key());
            let listen = format!(
                "OPENSSL-LISTEN:8443,bind=127.0.0.1,reuseaddr,fork,verify=0,cert={},key={}",
                file.display(),
                key.display()
            );
            Process::start(namespace.command("socat").arg(listen).arg(format!("TCP:{ADDRESS}")))
        });
        let registry = Self { namespace, process, _terminators: terminators.into_iter().collect() };
        wait_for(
            "the registry answers",
            || registry.process.errors(),
            || {
                registry
                    .ask("/subjects")
                    .filter(|answer| answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"))
                    .map(|_| ())
            },
        );
        registry
    }

    /// What it says of a path of its API.
    fn ask(&self, path: &str) -> Option<String> {
        self.namespace.run(|| {
            let mut connection = TcpStream::connect(ADDRESS).ok()?;
            let request = format!("GET /apis/ccompat/v7{path} HTTP/1.0\r\nHost: {ADDRESS}\r\n\r\n");
            connection.write_all(request.as_bytes()).ok()?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer).ok()?;
            Some(answer)
        })
    }

    /// Names of its subjects.
    pub(crate) fn subjects(&self) -> Vec<String> {
        let answer = self.ask("/subjects").unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut subjects: Vec<String> = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
        subjects.sort();
        subjects
    }
}

/// What fastavro reads of messages: name of the record and its fields. `source` is [`REGISTRY`] or the file of a schema;
/// `with_id`: whether messages have the schema's id in front.
pub(crate) fn read(
    namespace: &Namespace,
    messages: &[u8],
    source: &str,
    with_id: bool,
) -> Vec<(String, Value)> {
    let directory = TempDir::new();
    let file = directory.file("messages");
    fs::write(&file, messages).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/netns/avro.py");
    // The Python that fastavro was fetched with.
    let mut command = namespace.enter("python3");
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("PYTHONPATH", from_environment("PATHFLOW_FASTAVRO")).arg(program).arg(source);
    command.args(with_id.then_some("--with-id")).stdin(File::open(file).unwrap());
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["record"].as_str().unwrap().to_owned(), line["fields"].clone())
    };
    output(&mut command).lines().map(line).collect()
}

fn from_environment(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} names a folder that `cargo xtask avro` prints"))
        .into()
}
