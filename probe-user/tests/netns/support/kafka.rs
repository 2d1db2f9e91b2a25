//! Apache Kafka on the router: one node on its loopback.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::namespace::Namespace;
use super::process::Process;
use super::temp_dir::TempDir;
use super::tool::output;
use super::wait_for;

/// Where it listens. Each namespace has a loopback of its own.
pub(crate) const BROKER: &str = "127.0.0.1:9092";

const SETTINGS: &str = "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:9093
listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093
advertised.listeners=PLAINTEXT://127.0.0.1:9092
controller.listener.names=CONTROLLER
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
";

/// A broker that a test starts and kills.
#[derive(Debug)]
pub(crate) struct Kafka<'a> {
    namespace: &'a Namespace,
    directory: TempDir,
    process: Option<Process>,
}

impl<'a> Kafka<'a> {
    /// Starts it, with no topic.
    pub(crate) fn start(namespace: &'a Namespace) -> Self {
        let directory = TempDir::new();
        let data = directory.file("data");
        fs::write(directory.file("server.properties"), format!("{SETTINGS}log.dirs={}\n", data.display()))
            .unwrap();
        let mut kafka = Self { namespace, directory, process: None };
        let settings = kafka.directory.file("server.properties");
        let mut format = kafka.java();
        format
            .args(["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"])
            .arg(settings);
        output(&mut format);
        kafka.start_again();
        kafka
    }

    /// Starts it with what it has.
    pub(crate) fn start_again(&mut self) {
        let settings = self.directory.file("server.properties");
        self.process = Some(Process::start(self.java().arg("kafka.Kafka").arg(settings)));
        let log = || self.process.as_ref().map(Process::errors).unwrap_or_default();
        wait_for("Kafka answers", log, || {
            self.kcat(&["-L", "-m", "5"]).output().unwrap().status.success().then_some(())
        });
    }

    /// As a power switch would.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.child().kill().unwrap();
        process.wait();
    }

    /// Everything in a topic, a line for each message.
    pub(crate) fn messages(&self, topic: &str) -> String {
        output(&mut self.kcat(&["-C", "-t", topic, "-o", "beginning", "-e", "-q"]))
    }

    /// As [`Kafka::messages`]; nothing while there is no such topic.
    pub(crate) fn messages_so_far(&self, topic: &str) -> String {
        let mut command = self.kcat(&["-C", "-t", topic, "-o", "beginning", "-e", "-q"]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    fn kcat(&self, words: &[&str]) -> Command {
        let mut command = self.namespace.command("kcat");
        command.args(["-b", BROKER]).args(words);
        command
    }

    fn java(&self) -> Command {
        let libraries: PathBuf = std::env::var_os("PATHFLOW_KAFKA")
            .expect("PATHFLOW_KAFKA names the folder that `cargo xtask kafka` prints")
            .into();
        let mut command = self.namespace.command("java");
        command.arg("-Xmx384m").arg("-cp").arg(libraries.join("*"));
        command
    }
}
