//! What is on the wire towards the collector: captured by `tcpdump`, read by `tshark`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use super::network::{COLLECTING, Network};
use super::process::Process;
use super::temp_dir::TempDir;
use super::tool::{output, tool};
use super::wait_for;

const FILE: &str = "wire.pcap";
/// One field of each kind of options data about the exporter itself.
const STATISTICS: [&str; 3] = ["cflow.octetsexp", "cflow.ignore_packets", "cflow.notsent_flows"];
/// What both flow records and options data about interfaces have.
const INTERFACE: &str = "cflow.inputint";
/// What every flow record has, and nothing else.
const PROTOCOL: &str = "cflow.protocol";
/// What every options record about a Selector has, and nothing else.
const SELECTOR: &str = "cflow.selector_algorithm";

/// A running capture of all datagrams at the collector's interface.
#[derive(Debug)]
pub(crate) struct Wire {
    process: Process,
    directory: TempDir,
    /// Datagrams that were sent before.
    sent_before: u64,
}

/// Captured export traffic.
#[derive(Debug)]
pub(crate) struct Capture {
    directory: TempDir,
}

/// One exported record: values by the names of Wireshark's fields.
pub(crate) type Fields = BTreeMap<&'static str, String>;

impl Wire {
    /// Starts to capture what is sent to the collector, and waits until it does.
    pub(crate) fn start(network: &Network) -> Self {
        let mut command = network.collector.command("tcpdump");
        let directory = TempDir::new();
        command.args(["-i", COLLECTING, "-U", "-n", "-B", "16384", "--immediate-mode", "-Z", "root", "-w"]);
        command.arg(directory.file(FILE));
        // Later fragments have no port.
        command.arg("udp or ip[6:2] & 0x1fff != 0");
        let mut process = Process::start(&mut command);
        process.wait_for_message("listening on");
        Self { process, directory, sent_before: network.datagrams_sent() }
    }

    /// Ends the capture once it has everything that the router has sent since it began.
    pub(crate) fn stop(mut self, network: &Network) -> Capture {
        let sent = network.datagrams_sent() - self.sent_before;
        let captured = || frames(&fs::read(self.directory.file(FILE)).unwrap());
        wait_for(
            "tcpdump captures",
            || format!("{} of {sent} datagrams", captured()),
            || (captured() >= sent).then_some(()),
        );
        let status = self.process.terminate();
        let errors = self.process.errors();
        assert!(status.success() && errors.contains("\n0 packets dropped by kernel"), "{errors}");
        Capture { directory: self.directory }
    }
}

impl Capture {
    /// The values of `fields` in each datagram; several of one field are a list.
    pub(crate) fn datagrams(&self, fields: &[&str]) -> Vec<Vec<Vec<String>>> {
        let mut command = self.tshark();
        command.args(["-T", "fields", "-E", "separator=|", "-E", "aggregator=;"]);
        for field in fields {
            command.args(["-e", field]);
        }
        let list =
            |values: &str| values.split(';').filter(|value| !value.is_empty()).map(str::to_owned).collect();
        output(&mut command).lines().map(|line| line.split('|').map(list).collect()).collect()
    }

    /// Every exported flow record. All must be of templates that have every one of `fields`, the first of
    /// which must not be in options data.
    pub(crate) fn records(&self, fields: &[&'static str]) -> Vec<Fields> {
        let mut records = Vec::new();
        for datagram in self.datagrams(fields) {
            let count = datagram[0].len();
            for record in 0..count {
                let values = fields.iter().zip(&datagram).map(|(field, values)| {
                    // Options data have some of them as well, and come before the flow records of a message.
                    let is_in_options = [INTERFACE, "cflow.abstimestart", "cflow.abstimeend"].contains(field);
                    let others = if is_in_options { values.len().saturating_sub(count) } else { 0 };
                    assert_eq!(values.len(), others + count, "{field} in {datagram:?}");
                    (*field, values[others + record].clone())
                });
                records.push(values.collect());
            }
        }
        records
    }

    /// Each IPFIX message says how many records were sent before it, options data included (RFC 7011
    /// section 3.1). Returns how often one who counts flow records only, as `nfcapd` does, finds that some are
    /// missing.
    pub(crate) fn check_ipfix_sequence(&self) -> u64 {
        let (mut sent, mut seen, mut expected, mut errors) = (None, 0, 0, 0);
        let fields = ["cflow.version", "cflow.sequence", PROTOCOL, INTERFACE, SELECTOR];
        for message in self.datagrams(&[&fields[..], &STATISTICS].concat()) {
            let [version, sequence, flows, interfaces, selectors, statistics @ ..] = &message[..] else {
                panic!("{message:?}")
            };
            let statistics: usize = statistics.iter().map(Vec::len).sum();
            if version[..] != ["10"] {
                continue;
            }
            let (sequence, flows): (u64, u64) = (sequence[0].parse().unwrap(), flows.len() as u64);
            // The capture may begin in the middle.
            assert_eq!(sequence, *sent.get_or_insert(sequence), "{message:?}");
            sent = Some(sequence + (interfaces.len() + selectors.len() + statistics) as u64);
            if sequence != expected && seen > 0 {
                errors += 1;
            }
            expected = sequence + flows;
            seen += flows;
        }
        errors
    }

    /// What options data say of interfaces: number, name and description.
    pub(crate) fn interfaces(&self) -> Vec<[String; 3]> {
        let mut interfaces = Vec::new();
        for message in self.datagrams(&[INTERFACE, "cflow.if_name", "cflow.if_descr"]) {
            // Flow records, which come behind, have numbers only.
            let [numbers, names, descriptions] = &message[..] else { panic!("{message:?}") };
            assert_eq!(names.len(), descriptions.len(), "{message:?}");
            for ((number, name), description) in numbers.iter().zip(names).zip(descriptions) {
                interfaces.push([number, name, description].map(String::clone));
            }
        }
        interfaces
    }

    /// Every message can be decoded by one who has read only what came before it.
    pub(crate) fn assert_decodable(&self) {
        // Wireshark's word for the mode of a deterministic sampler.
        let text = output(self.tshark().arg("-V")).replace("SamplerMode: Unknown (1)", "");
        for fault in ["No template found", "Malformed", "Unknown", "[Expert Info (Error"] {
            assert!(!text.contains(fault), "{fault}: {text}");
        }
    }

    /// Every message in words, one line for each value.
    pub(crate) fn dissected(&self, protocol: &str) -> String {
        output(self.tshark().args(["-V", "-O", protocol]))
    }

    fn tshark(&self) -> Command {
        let mut command = tool("tshark");
        command.arg("-r").arg(self.directory.file(FILE)).args([
            "-d",
            "udp.port==4739,cflow",
            "-o",
            "udp.check_checksum:FALSE",
        ]);
        command
    }
}

/// Whole frames in a capture file that `tcpdump` has written on this machine.
fn frames(file: &[u8]) -> u64 {
    let mut frames = 0;
    // The file header, then 16 octets before each frame; the third word of them is its length in the file.
    let mut rest = file.get(24..).unwrap_or_default();
    while let Some((header, tail)) = rest.split_first_chunk::<16>() {
        let length = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        let Some(tail) = tail.get(length as usize..) else { break };
        (frames, rest) = (frames + 1, tail);
    }
    frames
}
