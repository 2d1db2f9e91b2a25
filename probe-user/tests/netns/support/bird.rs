//! BIRD 2 as the router's BGP speaker.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::namespace::Namespace;
use super::process::Process;
use super::temp_dir::TempDir;
use super::tool::output;
use super::wait_for;

/// The session with the probe, in the configuration of BIRD.
const SESSION: &str = "pathflow";

/// A running `bird`.
#[derive(Debug)]
pub(crate) struct Bird<'a> {
    namespace: &'a Namespace,
    process: Process,
    socket: PathBuf,
    _directory: TempDir,
}

impl<'a> Bird<'a> {
    /// Starts it with this configuration, to which `log`, `router id` and `device` are added.
    pub(crate) fn start(namespace: &'a Namespace, configuration: &str) -> Self {
        let directory = TempDir::new();
        let (file, socket) = (directory.file("bird.conf"), directory.file("bird.ctl"));
        fs::write(&file, text(configuration)).unwrap();
        let mut command = namespace.command("bird");
        command.arg("-f").arg("-c").arg(&file).arg("-s").arg(&socket);
        let process = Process::start(&mut command);
        let bird = Self { namespace, process, socket, _directory: directory };
        wait_for("BIRD answers", || bird.process.errors(), || UnixStream::connect(&bird.socket).ok());
        bird
    }

    /// Waits until its session with the probe is up.
    pub(crate) fn wait_until_established(&self) {
        let state = || self.ask(&["show", "protocols", SESSION]);
        wait_for("BGP session", state, || state().contains("Established").then_some(()));
    }

    /// What `birdc` says to these words.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        output(self.namespace.command("birdc").arg("-s").arg(&self.socket).args(words))
    }
}

fn text(configuration: &str) -> String {
    format!("log stderr all;\nrouter id 198.51.100.254;\nprotocol device {{}}\n{configuration}")
}
