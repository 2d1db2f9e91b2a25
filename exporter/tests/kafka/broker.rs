//! One node of Apache Kafka, of which the test decides when it lives.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::Folder;

/// Memory of the broker, and of the tools that come with it.
const HEAP: &str = "-Xmx256m";

/// A machine that does other things needs its time for a start.
const START: Duration = Duration::from_mins(1);

pub struct Broker {
    folder: Folder,
    port: u16,
    process: Option<Child>,
}

impl Broker {
    /// Starts a node with two partitions for each new topic, and these properties.
    pub fn start(properties: &[&str]) -> Self {
        let [port, controller] = free_ports();
        let mut broker = Self::prepare(1, port, controller, properties);
        broker.start_again();
        broker
    }

    /// Starts two nodes, of which the second can be lost: it decides nothing.
    pub fn start_two() -> [Self; 2] {
        let [one, other, controller] = free_ports();
        // How soon the other one has its partitions.
        let quick = ["broker.session.timeout.ms=2000", "broker.heartbeat.interval.ms=200"];
        let mut nodes = [(1, one), (2, other)].map(|(id, port)| Self::prepare(id, port, controller, &quick));
        nodes.iter_mut().for_each(Self::spawn);
        nodes.iter().for_each(Self::wait);
        nodes
    }

    fn prepare(id: u8, port: u16, controller: u16, properties: &[&str]) -> Self {
        let folder = Folder::new();
        let data = folder.path().join("data");
        let (roles, listener) = match id {
            1 => ("broker,controller", format!(",CONTROLLER://127.0.0.1:{controller}")),
            _ => ("broker", String::new()),
        };
        let mut text = format!(
            "process.roles={roles}\nnode.id={id}\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port}{listener}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={}\nnum.partitions=2\noffsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=1\ngroup.initial.rebalance.delay.ms=0\n",
            data.display()
        );
        for property in properties {
            text.extend([*property, "\n"]);
        }
        fs::write(folder.path().join("server.properties"), text).expect("the settings");
        let broker = Self { folder, port, process: None };
        let format = ["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", "server.properties"];
        broker.tool("kafka.tools.StorageTool", &format);
        broker
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it with the data that it has.
    pub fn start_again(&mut self) {
        self.spawn();
        self.wait();
    }

    fn spawn(&mut self) {
        assert!(self.process.is_none(), "it is running");
        let log = fs::File::create(self.folder.path().join("log")).expect("a log");
        let mut command = java(self.folder.path());
        command
            .args(["kafka.Kafka", "server.properties"])
            .stderr(log.try_clone().expect("a log"))
            .stdout(log);
        self.process = Some(command.spawn().expect("java starts"));
    }

    fn wait(&self) {
        let end = Instant::now() + START;
        while !self.answers() {
            assert!(
                Instant::now() < end,
                "no broker: {}",
                fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Makes a topic whose partitions are on these nodes: `1:2,2:1` for two partitions, each on both.
    pub fn make_topic(&self, topic: &str, replicas: &str) {
        let address = self.address();
        let arguments =
            ["--create", "--topic", topic, "--replica-assignment", replicas, "--bootstrap-server"];
        self.tool("org.apache.kafka.tools.TopicCommand", &[&arguments[..], &[&address]].concat());
    }

    /// What kcat says of a topic, or of all nodes.
    pub fn metadata(&self, topic: Option<&str>) -> String {
        let mut command = Command::new("kcat");
        command.args(["-b", &self.address(), "-L", "-m", "5"]);
        command.args(topic.map(|topic| ["-t", topic]).into_iter().flatten());
        let output = command.output().expect("kcat is installed: cargo xtask setup --peers");
        String::from_utf8(output.stdout).expect("text")
    }

    fn answers(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            && Command::new("kcat")
                .args(["-b", &self.address(), "-L", "-m", "5"])
                .output()
                .expect("kcat is installed: cargo xtask setup --peers")
                .status
                .success()
    }

    /// As a power switch would.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it is running");
        process.kill().expect("it is killed");
        process.wait().expect("it has ended");
    }

    /// It keeps its connections and says nothing any more.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it is running");
        kill_process(Pid::from_child(process), signal).expect("a signal");
    }

    /// Runs a program of Kafka's to its end; what it printed.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> String {
        let output = java(self.folder.path())
            .arg(class)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("java starts");
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        assert!(output.status.success(), "{class}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn java(folder: &Path) -> Command {
    let libraries: PathBuf = std::env::var_os("PATHFLOW_KAFKA")
        .expect("PATHFLOW_KAFKA names the folder that `cargo xtask kafka` prints")
        .into();
    let mut command = Command::new("java");
    // Java that lives for seconds is done sooner without its second compiler.
    command
        .args([HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg("-cp")
        .arg(libraries.join("*"))
        .current_dir(folder);
    command
}

fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}
