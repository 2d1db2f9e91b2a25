//! Tries features of the kernel's BPF. Nothing is attached; what is made is gone when the answer is known.

use std::io;

use aya::maps::{MapData, MapError, MapType};
use aya::programs::{
    ProgramError, ProgramType, SchedClassifier, TcAttachType, TcError, Xdp, loaded_programs,
};
use aya::sys::{BpfHelper, SyscallError, is_helper_supported, is_map_supported, is_program_supported};
use aya::{Ebpf, EbpfError};
use object::write::{Object, StandardSegment, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

use crate::capture::program::{MAP_TYPE_ARRAY, MMAPABLE};
use crate::capture::{FilterSet, KernelProgram, LoadSettings, TableSizes};
use crate::host::{BpfFeature, Program};
use crate::metering::packets::KeySettings;

/// Whether the kernel has a feature.
///
/// # Errors
/// If it cannot be tried.
pub(crate) fn supports(feature: BpfFeature) -> io::Result<bool> {
    match feature {
        BpfFeature::SystemCall => system_call(),
        BpfFeature::MmapableArray => array(MMAPABLE),
        BpfFeature::ArrayOfMaps => map(MapType::ArrayOfMaps),
        BpfFeature::LruHash => map(MapType::LruHash),
        BpfFeature::RingBuffer => map(MapType::RingBuf),
        BpfFeature::XskMap => map(MapType::XskMap),
        BpfFeature::Xdp => program_type(ProgramType::Xdp),
        BpfFeature::SchedClassifier => program_type(ProgramType::SchedClassifier),
        BpfFeature::XdpFrags => xdp_frags(),
        BpfFeature::Jit => jit(),
        BpfFeature::Tcx => tcx(),
        BpfFeature::Jiffies => helper(BpfHelper::BPF_FUNC_jiffies64),
        BpfFeature::CoarseClock => helper(BpfHelper::BPF_FUNC_ktime_get_coarse_ns),
        BpfFeature::FibLookup => helper(BpfHelper::BPF_FUNC_fib_lookup),
    }
}

/// Loads the kernel program with small tables and lets it go. Returns its name.
///
/// # Errors
/// The kernel's words.
pub(crate) fn load_program() -> Result<String, String> {
    let settings = LoadSettings {
        sizes: TableSizes { ipv4_slots: 64, ipv6_slots: 64, spill_slots: 64 },
        table_cpus: Vec::new(),
        hash_secrets: std::array::from_fn(|_| 0),
        fib_lookup: true,
        keys: KeySettings {
            inner: true,
            vxlan_ports: Vec::new(),
            vlan_priority: true,
            ..KeySettings::default()
        },
        header_samples: true,
        payloads: None,
        filters: FilterSet::default(),
    };
    match KernelProgram::load(&settings) {
        Ok((program, ..)) => Ok(program.name().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A loaded program by its number.
pub(crate) fn program(id: u32) -> Option<Program> {
    let program = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id)?;
    Some(Program { id, name: program.name_as_str()?.to_owned(), tag: program.tag() })
}

/// An array, which some systems let anybody make, and a program, which takes capabilities.
fn system_call() -> io::Result<bool> {
    if !array(0)? {
        return Ok(false);
    }
    program_type(ProgramType::Xdp).map(|_| true)
}

fn array(flags: u32) -> io::Result<bool> {
    let definition = aya_obj::Map::new_from_params(MAP_TYPE_ARRAY, 4, 8, 1, flags);
    match MapData::create(definition, "pathflow_probe", None) {
        Ok(_) => Ok(true),
        Err(MapError::CreateError { io_error, .. }) => unsupported(io_error),
        Err(other) => Err(io::Error::other(other)),
    }
}

fn map(kind: MapType) -> io::Result<bool> {
    is_map_supported(kind).map_err(|SyscallError { io_error, .. }| io_error)
}

fn program_type(kind: ProgramType) -> io::Result<bool> {
    is_program_supported(kind).map_err(cause)
}

fn helper(helper: BpfHelper) -> io::Result<bool> {
    is_helper_supported(ProgramType::Xdp, helper).map_err(cause)
}

/// Asks for the tcx programs of the loopback interface, which every network namespace has.
fn tcx() -> io::Result<bool> {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => Ok(true),
        Err(error) => unsupported(cause(error)),
    }
}

fn xdp_frags() -> io::Result<bool> {
    match with_small_program(b"xdp.frags", |_| Ok(())) {
        Ok(()) => Ok(true),
        Err(error) => unsupported(error),
    }
}

fn jit() -> io::Result<bool> {
    with_small_program(b"xdp", |program| Ok(program.info().map_err(cause)?.size_jitted() > 0))
}

/// Loads a program that passes every packet, from a section of this name.
fn with_small_program<T>(section: &[u8], look: impl FnOnce(&Xdp) -> io::Result<T>) -> io::Result<T> {
    const NAME: &str = "pathflow_probe";
    let mut ebpf = Ebpf::load(&small_object(section, NAME)?).map_err(|error| match error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) => io_error,
        other => io::Error::other(other),
    })?;
    let program = ebpf.program_mut(NAME).ok_or_else(|| io::Error::other("no program in the small object"))?;
    let program: &mut Xdp = program.try_into().map_err(cause)?;
    program.load().map_err(cause)?;
    look(program)
}

fn small_object(section: &[u8], name: &str) -> io::Result<Vec<u8>> {
    /// `r0 = XDP_PASS; exit`
    const INSTRUCTIONS: [u8; 16] = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::default());
    let text = object.segment_name(StandardSegment::Text).to_vec();
    let section = object.add_section(text, section.to_vec(), SectionKind::Text);
    object.append_section_data(section, &INSTRUCTIONS, 8);
    object.add_symbol(Symbol {
        name: name.as_bytes().to_vec(),
        value: 0,
        size: INSTRUCTIONS.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    });
    object.write().map_err(io::Error::other)
}

/// The kernel's answers to what it does not know; others say nothing of the feature.
fn unsupported(error: io::Error) -> io::Result<bool> {
    match error.raw_os_error() {
        // E2BIG: of a field of the request that the kernel does not know.
        Some(libc::EINVAL | libc::E2BIG | libc::EOPNOTSUPP | libc::ENOSYS) => Ok(false),
        _ => Err(error),
    }
}

/// The error of the system call.
fn cause(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(SyscallError { io_error, .. })
        | ProgramError::LoadError { io_error, .. }
        | ProgramError::TcError(TcError::IoError(io_error))
        | ProgramError::IOError(io_error) => io_error,
        other => io::Error::other(other),
    }
}
