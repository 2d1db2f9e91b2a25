//! More extensions than the kernel's table holds: it takes the elements of old ones for new ones while CPUs look at them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use pathflow::capture::{
    Epochs, ExtensionNumbers, FilterSet, FlowTables, KernelProgram, LoadSettings, TableSizes, receiving_cpus,
};
use pathflow::metering::extensions::Extensions;
use pathflow::metering::packets::{ExtensionSettings, KeySettings};
use pathflow_common::extension::{ChosenPlace, Layer};
use pathflow_common::flow::Addresses;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::frames::{Ipv4, UDP, ports};
use crate::say;

/// Extensions that the kernel holds at a time.
const HELD: u32 = 65_536;
/// Flows of each thread. Their packets come in turn, so each finds its extension gone.
const FLOWS: u32 = 60_000;
/// Flows that all threads have packets of, all the time.
const SHARED_FLOWS: u32 = 16;
const ROUNDS: u32 = 3;

/// A packet whose payload, which is in the extension, is its source address, which is in the key.
fn frame(flow: u32) -> Vec<u8> {
    let mut segment = ports(7, 8, 12);
    segment[8..12].copy_from_slice(&flow.to_be_bytes());
    let mut frame = Ipv4::new(UDP, &segment).frame();
    frame[14 + 12..14 + 16].copy_from_slice(&flow.to_be_bytes());
    frame
}

fn load() -> (KernelProgram, FlowTables, Epochs) {
    let place = ChosenPlace { layer: Layer::Payload, protocol: None, offset: 0, length: 4, destination: 0 };
    let extension = ExtensionSettings { chosen: vec![place], ..ExtensionSettings::default() };
    let settings = LoadSettings {
        sizes: TableSizes { ipv4_slots: 64, ipv6_slots: 1 << 19, spill_slots: 1024 },
        table_cpus: receiving_cpus(&[]),
        hash_secrets: std::array::from_fn(|index| 0x9e37_79b9_u32.wrapping_mul(2 * index as u32 + 1)),
        fib_lookup: false,
        keys: KeySettings { extension, ..KeySettings::default() },
        header_samples: false,
        payloads: None,
        filters: FilterSet::default(),
    };
    KernelProgram::load(&settings).expect("this test runs the kernel program, which needs root")
}

/// Runs the packets of one CPU: each flow of its own once in each round, and the shared ones between them.
fn run(program: &Xdp, cpu: u32, number: u32) -> BTreeMap<u32, u64> {
    let mut set = CpuSet::new();
    set.set(cpu as usize);
    sched_setaffinity(None, &set).expect("a CPU");
    let mut sent = BTreeMap::new();
    let mut send = |flow: u32| {
        let octets = frame(flow);
        let mut options = TestRunOptions::new();
        options.data_in = Some(&octets);
        program.test_run(options).expect("a run of the program");
        *sent.entry(flow).or_default() += 1;
    };
    for _ in 0..ROUNDS {
        for flow in 0..FLOWS {
            send((number + 1) << 24 | flow);
            send(flow % SHARED_FLOWS);
        }
    }
    sent
}

#[test]
fn extensions_that_make_room_cost_no_packet_and_none_gets_another_ones() {
    let (mut program, tables, mut epochs) = load();
    let cpus: Vec<u32> = receiving_cpus(&[]);
    let program = program.xdp().expect("the program");
    let sent = thread::scope(|scope| {
        let program = &*program;
        let threads: Vec<_> =
            (0..).zip(&cpus).map(|(number, cpu)| scope.spawn(move || run(program, *cpu, number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).fold(
            BTreeMap::new(),
            |mut all: BTreeMap<u32, u64>, (flow, packets)| {
                *all.entry(flow).or_default() += packets;
                all
            },
        )
    });
    assert!(cpus.len() as u32 * FLOWS > HELD, "more than there is room for");

    let extensions = Arc::new(Extensions::new(1 << 22, 1));
    let mut numbers = ExtensionNumbers::new(Arc::clone(&extensions));
    let epoch = epochs.advance(&tables).expect("a new epoch");
    let (mut found, mut without, mut counted_without) = (BTreeMap::<u32, u64>::new(), 0, 0);
    let mut seen = 0;
    for position in 0..tables.cpu_count() {
        for (_, counters) in tables.take_counters(epoch, position) {
            seen += counters.seen.packets;
            counted_without += counters.without_extension;
            assert!(counters.dropped.iter().all(|count| count.packets == 0), "{counters:?}");
        }
        tables.drain(epoch, position, &mut numbers, |delta| {
            let Addresses::Ipv4(source, _) = delta.key.addresses() else { panic!("IPv6") };
            let flow = u32::from_be_bytes(source);
            *found.entry(flow).or_default() += delta.packets;
            match extensions.get(delta.key.extension()) {
                Some(extension) => assert_eq!(extension.chosen[..4], source, "the extension of another flow"),
                None => without += delta.packets,
            }
        });
        counted_without += numbers.take_without().map(|(_, packets)| packets).sum::<u64>();
    }
    let packets: u64 = sent.values().sum();
    assert_eq!(seen, packets);
    let differing: Vec<_> =
        sent.iter().filter(|(flow, packets)| found.get(flow) != Some(packets)).take(5).collect();
    assert!(differing.is_empty() && found.len() == sent.len(), "{differing:?}");
    assert_eq!(without, counted_without, "packets without their extension are counted");
    assert!(without < packets / 2, "{without} of {packets}");
    say(&format!("evicted: {packets} packets of {} flows, {without} without their extension", sent.len()));
}
