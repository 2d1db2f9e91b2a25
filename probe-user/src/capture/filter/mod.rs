//! Filters: expressions in tcpdump's syntax (`pcap-filter(7)`). One says which packets are accounted; up to eight
//! others are results that a packet's flow key has ([`FilterSet`]).
//!
//! libpcap compiles it for Ethernet, so that it means what it means to `tcpdump`, with the offsets that
//! shift after `vlan`, `mpls` and `pppoes`. What comes out is a program of classic BPF ([`classic`]). It is
//! translated into instructions of the kernel ([`translate`]), which `object` writes into the kernel program
//! before it is loaded, and evaluated here for packets of files.
//!
//! In the kernel only the first buffer of a frame can be read: where a filter asks for an octet beyond it,
//! the frame does not match, as if it had been captured no further.

mod assembler;
mod classic;
mod set;
mod translate;

use pathflow_common::layout::FILTER_INSTRUCTIONS;
use pcap::{Capture, Linktype};

pub use classic::Instruction;
use classic::Operation;
pub use set::FilterSet;

/// Why an expression cannot be the filter. Each message is one line, without the expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// libpcap does not take it.
    #[error("{reason}")]
    Expression {
        /// libpcap's words.
        reason: String,
    },
    /// Its program has a backward jump.
    #[error("it needs a loop, as protochain does, which the kernel program cannot run")]
    Loop,
    /// Its program asks for what the kernel knows beside a captured frame.
    #[error("it asks for what is not in a frame, as inbound, outbound and ifindex do")]
    NotInFrame,
    /// The program has no room in the kernel program, with those of the filters before it.
    #[error("all filters need {instructions} instructions of the kernel program, and {limit} is the most")]
    TooLong {
        /// Instructions after translation.
        instructions: usize,
        /// How many there may be.
        limit: usize,
    },
    /// There are too many expressions whose results are wanted.
    #[error(
        "it is one expression too many: aggregates, exports and the tag map can have {limit} different ones"
    )]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
    /// Its program is not one of classic BPF: a libpcap newer than this program, or a damaged one.
    #[error("libpcap made instruction {index} of it ({instruction}), which is not understood")]
    Instruction {
        /// Position, from 0.
        index: usize,
        /// The instruction.
        instruction: Instruction,
    },
}

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    program: Vec<Operation>,
}

impl Filter {
    /// Compiles an expression. Names of hosts in it are looked up now, once.
    ///
    /// # Errors
    /// [`FilterError`], if libpcap does not take it, or the kernel program could not run it.
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        let program = Capture::dead(Linktype::ETHERNET)
            .and_then(|capture| capture.compile(expression, true))
            .map_err(|error| refused(&error))?;
        let instructions: Option<Vec<Instruction>> = program
            .get_instructions()
            .iter()
            .map(|instruction| instruction.to_string().parse().ok())
            .collect();
        let instructions = instructions.ok_or_else(|| FilterError::Expression {
            reason: "the program that libpcap made of it cannot be read".to_owned(),
        })?;
        Self::new(&instructions)
    }

    /// A filter of a classic BPF program for Ethernet frames.
    ///
    /// # Errors
    /// [`FilterError`], if the program is not valid, or the kernel program could not run it.
    pub fn new(program: &[Instruction]) -> Result<Self, FilterError> {
        let filter = Self { program: classic::decode(program)? };
        translate::translate(Some(&filter.program), &[], FILTER_INSTRUCTIONS)?;
        Ok(filter)
    }

    /// Whether the filter wants a frame of which `octets` were captured, and which had `wire_length` octets
    /// on the wire, without the frame check sequence.
    #[must_use]
    pub fn matches(&self, octets: &[u8], wire_length: u32) -> bool {
        classic::run(&self.program, octets, wire_length) != 0
    }
}

const _: () = assert!(FILTER_INSTRUCTIONS <= i16::MAX as usize, "jumps reach that far");

fn refused(error: &pcap::Error) -> FilterError {
    let reason = match error {
        pcap::Error::PcapError(reason) => reason.clone(),
        other => other.to_string(),
    };
    FilterError::Expression { reason: reason.lines().map(str::trim).collect::<Vec<_>>().join(" ") }
}
