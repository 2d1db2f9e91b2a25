//! Filters as the kernel runs them: the function of each set of them behind a few instructions that fetch its arguments,
//! loaded as an XDP program of its own, run over frames without an interface (`BPF_PROG_TEST_RUN`).

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};
use pathflow::capture::{Filter, FilterSet};
use pathflow_common::flow::FILTER_RESULTS;
use pathflow_common::layout::FILTER_INSTRUCTIONS;

use crate::host::FIRST_BUFFER;

/// Octets before the frame: its length on the wire, and what is beside it.
const ARGUMENTS: usize = 16;
/// The longest frame that the kernel takes in one buffer, with the arguments.
pub(crate) const LONGEST: usize = FIRST_BUFFER - ARGUMENTS;

/// What the filter reads as if it were in the frame.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Beside {
    Nothing,
    /// A tag: identifier and control information.
    Tag(u16, u16),
    /// An Ethernet header with this type and without addresses.
    LinkHeader(u16),
}

/// Sets of as many of the filters as have results.
pub(crate) fn sets<'a>(filters: impl IntoIterator<Item = &'a Filter>) -> Vec<FilterSet> {
    let filters: Vec<&Filter> = filters.into_iter().collect();
    let set = |some: &[&Filter]| {
        let mut set = FilterSet::default();
        for (bit, filter) in (0..).zip(some) {
            assert_eq!(set.add_filter(&format!("filter {bit}"), (*filter).clone()), Ok(bit));
        }
        set
    };
    filters.chunks(FILTER_RESULTS).map(set).collect()
}

/// Loaded sets of filters.
pub(crate) struct KernelFilters {
    ebpf: Ebpf,
}

impl KernelFilters {
    /// Loads sets of filters.
    ///
    /// # Panics
    /// If the kernel refuses a set, or this process may not load programs.
    pub(crate) fn load(sets: &[FilterSet]) -> Self {
        let programs = sets.iter().map(|set| {
            let function = set.kernel_code(FILTER_INSTRUCTIONS).expect("a function");
            fetch_arguments().iter().chain(&function).flat_map(|code| code.to_ne_bytes()).collect()
        });
        let object = elf(&programs.collect::<Vec<Vec<u8>>>());
        let mut filters = Self { ebpf: EbpfLoader::new().load(&object).expect("an object that aya reads") };
        for (_, program) in filters.ebpf.programs_mut() {
            let xdp: &mut Xdp = program.try_into().expect("an XDP program");
            xdp.load()
                .unwrap_or_else(|error| panic!("this test loads programs, which needs root: {error:?}"));
        }
        filters
    }

    /// The results of the set at `position` for a frame; `None` if it is not to be accounted.
    ///
    /// # Panics
    /// If the frame is longer than [`LONGEST`].
    pub(crate) fn run(
        &mut self,
        position: usize,
        octets: &[u8],
        wire_length: u32,
        beside: Beside,
    ) -> Option<u8> {
        let beside = match beside {
            Beside::Nothing => 0,
            Beside::Tag(identifier, control) => 1 << 32 | u64::from(identifier) << 16 | u64::from(control),
            Beside::LinkHeader(ether_type) => 2 << 32 | u64::from(ether_type) << 16,
        };
        let data = [&u64::from(wire_length).to_ne_bytes()[..], &beside.to_ne_bytes(), octets].concat();
        let mut options = TestRunOptions::new();
        options.data_in = Some(&data);
        let program = self.ebpf.program_mut(&name(position)).expect("the program");
        let xdp: &mut Xdp = program.try_into().expect("an XDP program");
        let returned = xdp.test_run(options).expect("a frame that the kernel takes").return_value;
        assert_eq!(returned & !0xff01, 0, "no other bits");
        assert!(returned & 1 != 0 || returned == 0, "no results of what is not accounted");
        (returned & 1 != 0).then_some((returned >> 8) as u8)
    }
}

/// Puts into registers what [`KernelFilters::run`] puts before the frame.
fn fetch_arguments() -> Vec<u64> {
    vec![
        // r2 = end, r1 = start: 32-bit fields of the context.
        code(0x61, 2, 1, 4, 0),
        code(0x61, 1, 1, 0, 0),
        // Is there room for the arguments?
        code(0xbf, 5, 1, 0, 0),
        code(0x07, 5, 0, 0, ARGUMENTS as i32),
        code(0xbd, 5, 2, 2, 0),
        code(0xb4, 0, 0, 0, 0),
        code(0x95, 0, 0, 0, 0),
        // r3 = length on the wire, r4 = what is beside the frame, r1 = start of the frame.
        code(0x79, 3, 1, 0, 0),
        code(0x79, 4, 1, 8, 0),
        code(0x07, 1, 0, 0, ARGUMENTS as i32),
    ]
}

fn code(operation: u8, destination: u8, source: u8, offset: i16, constant: i32) -> u64 {
    let registers =
        if cfg!(target_endian = "big") { destination << 4 | source } else { source << 4 | destination };
    let ([o0, o1], [c0, c1, c2, c3]) = (offset.to_ne_bytes(), constant.to_ne_bytes());
    u64::from_ne_bytes([operation, registers, o0, o1, c0, c1, c2, c3])
}

fn name(position: usize) -> String {
    format!("filter_{position}")
}

/// An object with XDP programs.
fn elf(programs: &[Vec<u8>]) -> Vec<u8> {
    let endianness = if cfg!(target_endian = "big") { Endianness::Big } else { Endianness::Little };
    let mut elf = Object::new(BinaryFormat::Elf, Architecture::Bpf, endianness);
    let text = elf.add_section(Vec::new(), b"xdp".to_vec(), SectionKind::Text);
    for (position, code) in programs.iter().enumerate() {
        let value = elf.append_section_data(text, code, 8);
        elf.add_symbol(Symbol {
            name: name(position).into_bytes(),
            value,
            size: code.len() as u64,
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(text),
            flags: SymbolFlags::None,
        });
    }
    let license = elf.add_section(Vec::new(), b"license".to_vec(), SectionKind::ReadOnlyData);
    elf.append_section_data(license, b"GPL\0", 1);
    elf.write().expect("an object")
}
