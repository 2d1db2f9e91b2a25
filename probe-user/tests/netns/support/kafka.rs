//! Apache Kafka on the router: one node on its loopback.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::namespace::Namespace;
use super::process::Process;
use super::stream::Certificate;
use super::temp_dir::TempDir;
use super::tool::output;
use super::wait_for;

/// Where it listens. Each namespace has a loopback of its own.
pub(crate) const BROKER: &str = "127.0.0.1:9092";

/// Of a guarded broker: TLS, which demands a certificate.
pub(crate) const TLS: &str = "127.0.0.1:9094";
/// Of a guarded broker: TLS, which demands a user's name and password.
pub(crate) const SASL: &str = "127.0.0.1:9095";
/// A user of a guarded broker by SCRAM-SHA-256, with the password.
pub(crate) const SCRAM_USER: [&str; 2] = ["scram-user", "scram-word"];
/// A user of a guarded broker by PLAIN, with the password.
pub(crate) const PLAIN_USER: [&str; 2] = ["plain-user", "plain-word"];
/// Another, who is nowhere allowed anything.
pub(crate) const GUEST: [&str; 2] = ["guest", "guest-word"];

const OPEN: &str = "\
listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093
advertised.listeners=PLAINTEXT://127.0.0.1:9092
";

/// The test itself comes by the open listener and may do everything, others what they are allowed to.
const GUARDED: &str = "\
listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093,SSL://127.0.0.1:9094,SASL_SSL://127.0.0.1:9095
advertised.listeners=PLAINTEXT://127.0.0.1:9092,SSL://127.0.0.1:9094,SASL_SSL://127.0.0.1:9095
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
ssl.keystore.type=PEM
ssl.truststore.type=PEM
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=SCRAM-SHA-256,PLAIN
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
";

const SETTINGS: &str = "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:9093
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
        Self::with(namespace, TempDir::new(), OPEN, &[])
    }

    /// Starts it with [`TLS`], [`SASL`] and an authorizer; `client` is the certificate that it trusts.
    pub(crate) fn guarded(namespace: &'a Namespace, own: &Certificate, client: &Certificate) -> Self {
        let directory = TempDir::new();
        let keystore = directory.file("keystore.pem");
        let pem = |file| fs::read_to_string(file).unwrap();
        fs::write(&keystore, pem(own.key()) + &pem(own.file())).unwrap();
        let users = [PLAIN_USER, GUEST].map(|[name, word]| format!(" user_{name}=\"{word}\""));
        let settings = format!(
            "{GUARDED}ssl.keystore.location={}\nssl.truststore.location={}\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
             required{};\n",
            keystore.display(),
            client.file().display(),
            users.concat(),
        );
        let [scram, word] = SCRAM_USER;
        let user = format!("SCRAM-SHA-256=[name={scram},password={word}]");
        Self::with(namespace, directory, &settings, &["--add-scram", &user])
    }

    fn with(namespace: &'a Namespace, directory: TempDir, settings: &str, format: &[&str]) -> Self {
        let data = directory.file("data");
        let text = format!("{SETTINGS}{settings}log.dirs={}\n", data.display());
        fs::write(directory.file("server.properties"), text).unwrap();
        let mut kafka = Self { namespace, directory, process: None };
        let settings = kafka.directory.file("server.properties");
        let mut command = kafka.java();
        command
            .args(["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"])
            .arg(settings)
            .args(format);
        output(&mut command);
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

    /// Everything in a topic: each message behind its length, four octets in network byte order.
    pub(crate) fn octets(&self, topic: &str) -> Vec<u8> {
        let output =
            self.kcat(&["-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%R%s"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Lets `user` write to topics whose names begin with `prefix`, and create them.
    pub(crate) fn allow(&self, user: &str, prefix: &str) {
        self.administer(
            "kafka.admin.AclCommand",
            &["--add", "--allow-principal", &format!("User:{user}"), "--producer", "--topic", prefix]
                .into_iter()
                .chain(["--resource-pattern-type", "prefixed"])
                .collect::<Vec<_>>(),
        );
    }

    /// Runs a program of Kafka's that tells the broker something.
    pub(crate) fn administer(&self, class: &str, arguments: &[&str]) -> String {
        output(self.java().args([class, "--bootstrap-server", BROKER]).args(arguments))
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
