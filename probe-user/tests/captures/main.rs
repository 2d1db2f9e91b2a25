//! Packet captures through the whole of pathflow: parser, kernel program, flow cache, daemon.
//!
//! The captures come from two places. The repository's own are made in memory ([`own`]) and hold one frame
//! of everything that the parser knows. The others are read from the directory that the environment
//! variable `PATHFLOW_CAPTURES` names: any collection of `.pcap`, `.pcapng` and `.cap` files, the odder the
//! better. Without the variable the tests run on the repository's own captures alone, and say so; if it is
//! set and there are no captures in the directory, they fail.
//!
//! What is checked:
//! - [`pipeline`]: every packet has one fate in the parser, and the flow cache neither loses nor adds any;
//! - [`kernel`]: the XDP program, run by the kernel over the same frames, gives the same flows (needs root);
//! - [`filter`] and [`filter_programs`]: filters choose what tcpdump chooses, in the kernel and on the host
//!   (need root and tcpdump);
//! - [`tags`]: tags and labels are those of pmacctd (needs pmacctd);
//! - [`totals`] and [`keys`]: packets, octets and the fields of keys equal those that tshark sees;
//! - [`families`]: the kernel's counts of each kind of labels, sessions, fragments and tunnels are tshark's;
//! - [`tc`]: what the tc programs know of packets beside their octets (needs root);
//! - [`aggregate`]: rows of aggregates add up to what tshark sees, and are those of pmacctd;
//! - [`primitives`]: tunnels, label stacks and the operator's own primitives are those of pmacctd and of tshark;
//! - [`priority`]: priorities of VLAN tags are those of tshark and of pmacctd, where they are asked for;
//! - [`stitching`]: times of the first and last packets of rows are those of tshark and of pmacctd;
//! - [`aggregate_filter`]: those with filters have the packets that tcpdump selects;
//! - [`aggregate_history`]: each packet is in the time bin of its time, as in pmacctd;
//! - [`classes`]: applications of flows are those that ndpiReader finds (needs it);
//! - [`offline`]: `pathflow replay` finds the same flows in files and streams of every form;
//! - [`replay`]: captures sent over a veth pair come out of the running daemon complete (needs root and
//!   tcpreplay).

#[cfg(test)]
mod aggregate;
#[cfg(test)]
mod aggregate_filter;
#[cfg(test)]
mod aggregate_history;
#[cfg(test)]
mod classes;
mod corpus;
mod families;
mod file;
#[cfg(test)]
mod filter;
#[cfg(test)]
mod filter_programs;
mod filter_run;
mod frames;
mod host;
mod kernel;
mod kernel_run;
mod keys;
mod layered;
mod namespace;
#[cfg(test)]
mod offline;
mod own;
mod pipeline;
#[cfg(test)]
mod primitives;
#[cfg(test)]
mod priority;
mod replay;
mod scratch;
#[cfg(test)]
mod stitching;
#[cfg(test)]
mod tags;
mod tc;
mod totals;
mod tshark;

use std::io::Write as _;

/// Says one line of a result. Straight to standard error, as the test harness keeps what a passing test
/// prints to itself.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "captures: {line}");
}
