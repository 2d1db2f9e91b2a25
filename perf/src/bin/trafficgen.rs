//! `pathflow-trafficgen`: sends frames of many flows out of an interface.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use pathflow_perf::cpu;
use pathflow_perf::frames::{Family, Frame, FrameSettings, Transport};
use pathflow_perf::generator::{Generator, GeneratorSettings, MAX_BATCH, Order, Sent};

/// Sends exactly N frames of many flows out of an interface, as root, on one CPU
#[derive(Parser)]
#[command(name = "pathflow-trafficgen")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
struct Arguments {
    /// Interface to send out of
    #[arg(long)]
    interface: String,
    /// Frames to send
    #[arg(long)]
    packets: u64,
    /// Flows, told apart by their source address
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=0x0100_0000))]
    flows: u32,
    /// Send each frame in a random flow instead of one flow after the other
    #[arg(long)]
    random: bool,
    /// Send IPv6 instead of IPv4
    #[arg(long)]
    ipv6: bool,
    /// Send TCP segments instead of UDP datagrams
    #[arg(long)]
    tcp: bool,
    /// Tag the frames with this VLAN identifier
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4094))]
    vlan: Option<u16>,
    /// Ethernet destination address
    #[arg(long, default_value = "02:00:00:00:00:02", value_parser = mac_address)]
    destination: MacAddress,
    /// Length of each frame in octets, without its check sequence
    #[arg(long, default_value_t = 64)]
    frame_octets: usize,
    /// Frames per second; without it as many as possible
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Frames handed to the interface at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_BATCH)))]
    batch: u32,
    /// CPU to run on
    #[arg(long)]
    cpu: Option<u32>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy)]
struct MacAddress([u8; 6]);

fn mac_address(text: &str) -> Result<MacAddress, String> {
    let octets: Result<Vec<u8>, _> = text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect();
    let octets = octets.ok().and_then(|octets| octets.try_into().ok());
    octets.map(MacAddress).ok_or_else(|| "six hexadecimal octets with colons between them".to_owned())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if let Some(cpu) = arguments.cpu {
        cpu::pin(cpu).with_context(|| format!("CPU {cpu}"))?;
    }
    let frame = Frame::new(&FrameSettings {
        family: if arguments.ipv6 { Family::Ipv6 } else { Family::Ipv4 },
        transport: if arguments.tcp { Transport::Tcp } else { Transport::Udp },
        octets: arguments.frame_octets,
        vlan_id: arguments.vlan,
        destination: arguments.destination.0,
    })?;
    let settings = GeneratorSettings {
        interface: arguments.interface.clone(),
        flows: arguments.flows,
        order: if arguments.random { Order::Random } else { Order::Sequential },
        batch: arguments.batch,
        rate: arguments.rate,
    };
    let sent = Generator::load(&settings, frame)?.send(arguments.packets)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&sent)?);
    } else {
        println!(
            "{} frames of {} flows in {:.3} s: {:.3} Mpps; {} sent {} and dropped {} packets",
            sent.packets,
            arguments.flows,
            sent.seconds,
            sent.mpps,
            arguments.interface,
            sent.interface_sent_packets,
            sent.interface_dropped_packets
        );
    }
    check(arguments, &sent)
}

fn check(arguments: &Arguments, sent: &Sent) -> Result<()> {
    if sent.missing_packets == 0 {
        return Ok(());
    }
    let missing = sent.missing_packets;
    let interface = &arguments.interface;
    if sent.interface_sent_packets < sent.packets / 2 && sent.interface_dropped_packets < missing / 2 {
        eprintln!(
            "hint: is {interface} a veth? Its peer takes redirected frames only if it is up and has a \
             native XDP program, or `ethtool -K PEER gro on`"
        );
    }
    bail!("{interface} did not send {missing} of {} frames", sent.packets)
}
