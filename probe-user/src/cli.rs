//! The command line, as typed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::aggregate::TopBy;
use crate::config::raw::{FormatName, Tunnels};
use crate::config::{self, Environment, Overrides};
use crate::interfaces::{Direction, Hook};

/// Counts every packet that a Linux router receives, and exports the flows.
#[derive(Debug, Parser)]
#[command(name = "pathflow", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Capture and export until SIGINT or SIGTERM
    Run(Box<Run>),
    /// Put a capture through the same pipeline, by its own clock and without privileges
    Replay(Box<Replay>),
    /// Say whether a configuration file is right
    Check {
        /// Configuration file (TOML)
        #[arg(required_unless_present = "pmacct_config")]
        file: Option<PathBuf>,
        /// Configuration file of pmacct's daemons, instead
        #[arg(long, value_name = "FILE", conflicts_with = "file")]
        pmacct_config: Option<PathBuf>,
    },
    /// Write the configuration that is nearest to one of pmacct's daemons, and say what it cannot do
    Import {
        /// Configuration file of pmacctd, nfacctd, sfacctd, uacctd or pmbgpd
        file: PathBuf,
        /// Directory to write pathflow.toml into [default: standard output]
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// Say whether `run` would work here, and what would make it work or work better
    Doctor(Doctor),
    /// Show the routes of the running daemon to an address
    Route {
        /// The address
        address: IpAddr,
        /// Only those of the peer with this address or name
        #[arg(long, value_name = "PEER")]
        peer: Option<String>,
        /// Which daemon, and how to write its answer.
        #[command(flatten)]
        control: Control,
    },
    /// Show the BGP peers of the running daemon
    Peers {
        /// Which daemon, and how to write its answer.
        #[command(flatten)]
        control: Control,
    },
    /// Show the rows that an aggregate of the running daemon keeps in memory, the largest first
    Rows(Rows),
    /// End the counting that goes on in the kernel without pathflow, after a crash or with `capture.pin`
    Detach {
        /// Interfaces to detach from [default: all]
        #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
        interface: Vec<String>,
    },
}

/// Flags of what asks a running daemon.
#[derive(Args, Debug)]
pub struct Control {
    /// Its configuration file, which may name another socket
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `pathflow rows`.
#[derive(Args, Debug)]
pub struct Rows {
    /// Name of the aggregate [default: the only one]
    pub aggregate: Option<String>,
    /// Only so many rows
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub top: usize,
    /// What the largest are the largest by
    #[arg(long, value_enum, default_value_t = TopBy::Octets)]
    pub by: TopBy,
    /// Only rows with this value, such as `src_host=192.0.2.0/24`; several have to be met together
    #[arg(short = 'w', long = "where", value_name = "KEY=VALUE", value_parser = condition)]
    pub conditions: Vec<(String, String)>,
    /// Only the sums: rows, packets and octets
    #[arg(short, long)]
    pub sum: bool,
    /// Forget all rows after they are shown
    #[arg(long)]
    pub reset: bool,
    /// Write CSV
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Which daemon, and how to write its answer.
    #[command(flatten)]
    pub control: Control,
}

fn condition(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it is not KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// Flags of `pathflow run`.
#[derive(Args, Debug)]
pub struct Run {
    /// Interfaces to capture on: names, globs, "physical", and exclusions such as "!eth9"
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    pub interface: Vec<String>,
    /// Packets to count, on every interface [default: ingress]
    #[arg(long, value_enum)]
    pub direction: Option<Direction>,
    /// Where to count packets that come in, on every interface [default: auto]
    #[arg(long, value_enum)]
    pub hook: Option<Hook>,
    /// Count one packet in this many, on every interface [default: 1]
    #[arg(long, value_name = "N")]
    pub sampling_interval: Option<u32>,
    /// Packet of a tunnel that makes the flow [default: outer]
    #[arg(long, value_enum)]
    pub tunnels: Option<Tunnels>,
    /// Drain the kernel's tables this often, 100ms to 5s [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration)]
    pub drain_interval: Option<Duration>,
    /// Address of /metrics and /healthz; empty for none [default: 127.0.0.1:9590]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// What live capture and replay have in common.
    #[command(flatten)]
    pub common: Common,
}

/// Flags of `pathflow doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// Configuration file (TOML); flags override it
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Interfaces that are to be captured on
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    pub interface: Vec<String>,
    /// Write an array of JSON objects instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `pathflow replay`.
#[derive(Args, Debug)]
pub struct Replay {
    /// Capture to read, pcap or pcapng; - is standard input
    pub file: PathBuf,
    /// What live capture and replay have in common.
    #[command(flatten)]
    pub common: Common,
}

/// Flags of both.
#[derive(Args, Debug)]
pub struct Common {
    /// Configuration file (TOML); flags override it
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Configuration file of pmacct's daemons, in place of one in TOML; flags override it
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub pmacct_config: Option<PathBuf>,
    /// Collector to export to; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    pub collector: Vec<String>,
    /// Export format
    #[arg(long, value_enum)]
    pub format: Option<FormatName>,
    /// Report flows that go on in parts this long [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration)]
    pub active_timeout: Option<Duration>,
    /// A flow is over after this long without packets [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration)]
    pub idle_timeout: Option<Duration>,
    /// Write flows to standard output, a JSON object on each line
    #[arg(long)]
    pub json: bool,
}

/// Where settings are from, before flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The defaults.
    Default,
    /// A file in TOML.
    Toml(PathBuf),
    /// A configuration of pmacct's daemons.
    Pmacct(PathBuf),
}

impl Common {
    /// Which file, if any, was named.
    #[must_use]
    pub fn source(&self) -> Source {
        match (&self.config, &self.pmacct_config) {
            (Some(file), _) => Source::Toml(file.clone()),
            (None, Some(file)) => Source::Pmacct(file.clone()),
            (None, None) => Source::Default,
        }
    }

    /// What the environment and the flags say over the file.
    #[must_use]
    pub fn overrides(self) -> Overrides {
        Overrides {
            environment: Environment::of_process(),
            collectors: self.collector,
            format: self.format,
            active_timeout: self.active_timeout,
            idle_timeout: self.idle_timeout,
            json: self.json,
            ..Overrides::default()
        }
    }
}

impl Run {
    /// What the flags say over the file.
    #[must_use]
    pub fn overrides(self) -> Overrides {
        Overrides {
            interfaces: self.interface,
            direction: self.direction,
            hook: self.hook,
            sampling_interval: self.sampling_interval,
            tunnels: self.tunnels,
            drain_interval: self.drain_interval,
            listen: self.listen,
            ..self.common.overrides()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn flags_are_told_apart() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_condition_is_a_key_and_a_value() {
        let parsed =
            Cli::try_parse_from(["pathflow", "rows", "-w", "src_host = 192.0.2.1", "-w", "label=a=b"]);
        let Command::Rows(rows) = parsed.unwrap().command else { panic!() };
        let of = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(rows.conditions, [of("src_host", "192.0.2.1"), of("label", "a=b")]);
        assert!(Cli::try_parse_from(["pathflow", "rows", "-w", "src_host"]).is_err());
    }
}
