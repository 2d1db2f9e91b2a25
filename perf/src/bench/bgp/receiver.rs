//! Programs that take a table: pathflow's speaker, BIRD 2 and pmacct's pmbgpd.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use pathflow_perf::machine::resident;
use pathflow_perf::netns::Namespace;

use super::{AS_NUMBER, FEEDER};
use crate::exporter::{Running, routes_program};
use crate::scratch::Scratch;

const PORT: u16 = 17_917;
/// BIRD's command line.
const CONTROL: &str = "control";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Pathflow,
    Bird,
    Pmbgpd,
}

impl Program {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pathflow => "pathflow",
            Self::Bird => "bird",
            Self::Pmbgpd => "pmbgpd",
        }
    }

    /// Whether it is there; says what to do if it is not.
    pub(super) fn is_installed(self) -> Result<(), String> {
        let package = match self {
            Self::Pathflow => return Ok(()),
            Self::Bird => "bird2",
            Self::Pmbgpd => "pmacct",
        };
        let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
        if folders.iter().any(|folder| Path::new(folder).join(self.name()).is_file()) {
            return Ok(());
        }
        Err(format!("{} is missing: Debian package {package}", self.name()))
    }

    /// Where it listens.
    pub(super) fn address(self) -> SocketAddrV4 {
        let host = match self {
            Self::Bird => 1,
            Self::Pathflow => 3,
            Self::Pmbgpd => 4,
        };
        SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, host), PORT)
    }
}

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    /// Octets.
    pub(super) resident: f64,
}

/// How many routes a program says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Routes {
    Known(usize),
    /// It cannot be asked.
    Untold,
}

/// A program that runs; killed when dropped.
pub(super) struct Receiver {
    program: Program,
    process: Running,
    scratch: Scratch,
}

impl Receiver {
    /// Starts it, and waits until it listens.
    pub(super) fn start(program: Program, namespace: &Namespace) -> Result<Self> {
        let scratch = Scratch::new()?;
        let configuration = scratch.file("configuration");
        let path = configuration.display().to_string();
        let name = program.name();
        let mut process = match program {
            Program::Pathflow => {
                let routes = routes_program()?.display().to_string();
                let line = [&routes, "speak", &program.address().to_string()];
                Running::start(namespace, name, &line, &scratch)?
            }
            Program::Bird => {
                fs::write(&configuration, bird())?;
                let control = scratch.file(CONTROL).display().to_string();
                let id = scratch.file("id").display().to_string();
                let line = ["bird", "-f", "-c", &path, "-s", &control, "-P", &id];
                Running::start(namespace, name, &line, &scratch)?
            }
            Program::Pmbgpd => {
                // Without a dump it keeps no routes. The first would come after a day.
                let dump = scratch.file("dump").display().to_string();
                let address = program.address();
                fs::write(
                    &configuration,
                    format!(
                        "daemonize: false\nbgp_daemon_ip: {}\nbgp_daemon_port: {}\nbgp_daemon_id: {}\n\
                         bgp_daemon_max_peers: 4\nbgp_table_dump_file: {dump}\nbgp_table_dump_refresh_time: 86400\n",
                        address.ip(),
                        address.port(),
                        address.ip()
                    ),
                )?;
                Running::start(namespace, name, &["pmbgpd", "-f", &path], &scratch)?
            }
        };
        process.wait_for("to listen", |_, id| {
            sockets(id).any(|socket| socket.is_listening && socket.local == program.address())
        })?;
        Ok(Self { program, process, scratch })
    }

    pub(super) fn name(&self) -> &'static str {
        self.program.name()
    }

    /// What it has printed.
    pub(super) fn log(&self) -> String {
        self.process.log()
    }

    /// Of the thread `bgp` alone if it is pathflow's.
    pub(super) fn usage(&self) -> Result<Usage> {
        let id = self.process.id();
        let cpu_seconds = match self.program {
            Program::Pathflow => thread_seconds(id, "bgp")?,
            Program::Bird | Program::Pmbgpd => self.process.cpu_time().as_secs_f64(),
        };
        let resident = resident(Some(id)).context("it has ended")?;
        Ok(Usage { cpu_seconds, resident })
    }

    /// How many routes it has that can be used.
    pub(super) fn routes(&self) -> Result<Routes> {
        match self.program {
            Program::Pathflow => {
                let log = self.log();
                let routes = log.split_once("complete: ").and_then(|(_, rest)| rest.split(' ').next());
                Ok(Routes::Known(routes.map_or(Ok(0), str::parse)?))
            }
            Program::Bird => {
                let text = self.command("show protocols all feed")?;
                // One line for each family.
                let imported = text.lines().filter_map(|line| line.split_once("Routes:"));
                let imported = imported.filter_map(|(_, rest)| rest.split_whitespace().next());
                Ok(Routes::Known(imported.map(str::parse::<usize>).sum::<Result<_, _>>()?))
            }
            Program::Pmbgpd => Ok(Routes::Untold),
        }
    }

    /// Has a connection.
    pub(super) fn is_connected(&self) -> bool {
        sockets(self.process.id())
            .any(|socket| socket.is_established && socket.local == self.program.address())
    }

    /// Has octets to read.
    pub(super) fn has_unread(&self) -> bool {
        let mut sockets = sockets(self.process.id());
        sockets.any(|socket| socket.is_established && socket.local == self.program.address() && socket.unread)
    }

    /// Asks BIRD.
    pub(super) fn command(&self, line: &str) -> Result<String> {
        ensure!(self.program == Program::Bird, "{} takes no commands", self.name());
        let mut stream = UnixStream::connect(self.scratch.file(CONTROL))?;
        stream.write_all(format!("{line}\n").as_bytes())?;
        let mut text = String::new();
        for line in BufReader::new(stream).lines() {
            let line = line?;
            match line.split_at_checked(5) {
                // The greeting.
                Some(("0001 ", _)) => {}
                Some(("0000 ", _)) => return Ok(text),
                Some((code, rest)) if code.starts_with(['8', '9']) => bail!("BIRD: {rest}"),
                _ => text += &(line + "\n"),
            }
        }
        bail!("BIRD gives no answer: {text}")
    }
}

/// Takes everything from the feeder; gives it to the others when told.
fn bird() -> String {
    let address = Program::Bird.address();
    let session = |name: &str, host: String, passive: &str, families: [&str; 2]| {
        let [ipv4, ipv6] = families;
        format!(
            "protocol bgp {name} {{ local {} port {} as {AS_NUMBER}; strict bind yes; neighbor {host} as {AS_NUMBER};\n\
             hold time 1800; connect delay time 1; {passive} ipv4 {{ {ipv4} }}; ipv6 {{ {ipv6} }}; }}\n",
            address.ip(),
            address.port()
        )
    };
    let mut text = "log stderr { warning, error, fatal, bug };\nrouter id 10.99.0.1;\nprotocol device {}\n\
         protocol static { ipv4; route 192.0.2.0/24 via \"lo\"; }\n\
         protocol static { ipv6; route 2001:db8::/32 via \"lo\"; }\n"
        .to_owned();
    let import = "import all; export none;";
    text += &session("feed", FEEDER.to_string(), "passive yes;", [import; 2]);
    for receiver in [Program::Pathflow, Program::Pmbgpd] {
        let export =
            |next_hop: &str| format!("next hop {next_hop}; import none; export where source = RTS_BGP;");
        let neighbor = format!("{} port {}", receiver.address().ip(), receiver.address().port());
        text += &session(
            &format!("to_{}", receiver.name()),
            neighbor,
            "rr client; disabled yes;",
            [&export("self"), &export("address ::1")],
        );
    }
    text
}

/// Seconds that the threads of this name were on a CPU.
fn thread_seconds(id: u32, name: &str) -> Result<f64> {
    let mut nanoseconds = 0u64;
    for thread in fs::read_dir(format!("/proc/{id}/task")).context("it has ended")? {
        let path = thread?.path();
        if fs::read_to_string(path.join("comm")).unwrap_or_default().trim() == name {
            let text = fs::read_to_string(path.join("schedstat"))?;
            nanoseconds += text.split_whitespace().next().context("empty schedstat")?.parse::<u64>()?;
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// A TCP socket in the network namespace of a process.
struct TcpSocket {
    local: SocketAddrV4,
    is_established: bool,
    is_listening: bool,
    unread: bool,
}

fn sockets(id: u32) -> impl Iterator<Item = TcpSocket> {
    let table = fs::read_to_string(format!("/proc/{id}/net/tcp")).unwrap_or_default();
    let lines: Vec<TcpSocket> = table.lines().filter_map(socket).collect();
    lines.into_iter()
}

fn socket(line: &str) -> Option<TcpSocket> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let (host, port) = columns.get(1)?.split_once(':')?;
    let host = u32::from_str_radix(host, 16).ok()?;
    let local = SocketAddrV4::new(host.to_ne_bytes().into(), u16::from_str_radix(port, 16).ok()?);
    let (_, unread) = columns.get(4)?.split_once(':')?;
    let state = *columns.get(3)?;
    Some(TcpSocket {
        local,
        is_established: state == "01",
        is_listening: state == "0A",
        unread: u64::from_str_radix(unread, 16).ok()? != 0,
    })
}
