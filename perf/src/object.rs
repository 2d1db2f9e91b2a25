//! The embedded kernel programs of this crate, and the globals by which they are set up.

use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};

use crate::frames::Frame;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PATHFLOW_PERF_EBPF"));

/// What the generator restores of each frame; every frame is longer.
const HEADER_OCTETS: usize = 56;

/// In which order the flows of consecutive packets follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One after the other, then from the first again.
    Sequential,
    /// Each packet is of a random flow.
    Random,
}

/// Why one of this crate's kernel programs could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The object was refused.
    #[error("cannot load the measuring programs: {0}")]
    Load(#[from] EbpfError),
    /// The program was refused.
    #[error("kernel program {name}: {error}")]
    Program {
        /// Its name in the object.
        name: &'static str,
        /// What the kernel says, with the verifier's log.
        error: ProgramError,
    },
    /// The object does not fit this crate: a fault of the build.
    #[error("the measuring programs have no {0}")]
    Missing(&'static str),
}

/// Where and how fast the generator sends.
#[derive(Clone, Copy, Default)]
pub(crate) struct Output {
    /// Index of the interface.
    pub(crate) interface: u32,
    /// Nanoseconds from one frame to the next; 0 for as fast as possible.
    pub(crate) interval: u64,
}

/// Loads the object for `flows` flows of `frame`.
pub(crate) fn load(frame: &Frame, flows: u32, order: Order, output: Output) -> Result<Ebpf, ObjectError> {
    let checksums = frame.checksums();
    let headers = frame.octets().first_chunk::<HEADER_OCTETS>().copied().unwrap_or([0; HEADER_OCTETS]);
    Ok(EbpfLoader::new()
        .override_global("FLOWS", &flows, true)
        .override_global("RANDOM", &u32::from(order == Order::Random), true)
        .override_global("OFFSET", &frame.flow_offset(), true)
        .override_global("BASE", &frame.flow_base(), true)
        .override_global("CHECKSUM_OFFSETS", &checksums.map(|checksum| checksum.offset), true)
        .override_global("CHECKSUM_SUMS", &checksums.map(|checksum| checksum.others), true)
        .override_global("HEADERS", &headers, true)
        .override_global("OUTPUT", &output.interface, true)
        .override_global("INTERVAL", &output.interval, true)
        .load(OBJECT)?)
}

/// The XDP program `name` of a loaded object.
pub(crate) fn program<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a Xdp, ObjectError> {
    ebpf.program(name).and_then(|program| program.try_into().ok()).ok_or(ObjectError::Missing(name))
}

/// Has the kernel verify and load XDP program `name`.
pub(crate) fn verify(ebpf: &mut Ebpf, name: &'static str) -> Result<(), ObjectError> {
    let program: &mut Xdp = ebpf
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(ObjectError::Missing(name))?;
    program.load().map_err(|error| ObjectError::Program { name, error })
}

/// Loads the object for programs that no frame is set up for.
pub(crate) fn load_plain() -> Result<Ebpf, ObjectError> {
    Ok(EbpfLoader::new().load(OBJECT)?)
}

/// The tc program `name` of a loaded object.
pub(crate) fn classifier<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a SchedClassifier, ObjectError> {
    ebpf.program(name).and_then(|program| program.try_into().ok()).ok_or(ObjectError::Missing(name))
}

/// Has the kernel verify and load tc program `name`.
pub(crate) fn verify_classifier(ebpf: &mut Ebpf, name: &'static str) -> Result<(), ObjectError> {
    let program: &mut SchedClassifier = ebpf
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(ObjectError::Missing(name))?;
    program.load().map_err(|error| ObjectError::Program { name, error })
}
