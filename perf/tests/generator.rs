//! The generator against the kernel program: what was sent through a veth pair is what the flow tables
//! hold. Needs root, and fails without.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pathflow::capture::{
    Epochs, ExtensionNumbers, FilterSet, FlowTables, Hook, KernelProgram, LoadSettings, TableSizes,
    receiving_cpus,
};
use pathflow::metering::extensions::Extensions;
use pathflow::metering::packets::KeySettings;
use pathflow_common::DropReason;
use pathflow_common::flow::{Addresses, HASH_SECRETS, Key, WIDE_KEY_WORDS, WideKey};
use pathflow_common::layout::Count;
use pathflow_perf::frames::{Family, Frame, FrameSettings};
use pathflow_perf::generator::{Generator, GeneratorSettings, Order};
use pathflow_perf::interface;
use pathflow_perf::netns::{self, Namespace};

/// Observation point of the receiving interface.
const POINT: u16 = 3;
const SENDER: &str = "pfperf0";
const RECEIVER: &str = "pfperf1";

/// What user space took out of the tables.
#[derive(Default)]
struct Taken {
    flows: BTreeMap<[u64; WIDE_KEY_WORDS], Count>,
    seen: Count,
    spilled: Count,
    dropped: [Count; DropReason::COUNT],
    epochs: u32,
}

impl Taken {
    /// Ends the epoch and takes everything that it counted, on every CPU.
    fn drain(&mut self, tables: &FlowTables, epochs: &mut Epochs) {
        let epoch = epochs.advance(tables).unwrap();
        self.epochs += 1;
        let mut numbers = ExtensionNumbers::new(Arc::new(Extensions::new(1, 1)));
        for position in 0..tables.cpu_count() {
            tables.drain(epoch, position, &mut numbers, |delta| {
                let flow = self.flows.entry(delta.key.0).or_default();
                add(flow, Count { packets: delta.packets, octets: delta.octets });
            });
            for (point, counters) in tables.take_counters(epoch, position) {
                assert_eq!(point, POINT);
                add(&mut self.seen, counters.seen);
                add(&mut self.spilled, counters.spilled);
                for (sum, count) in self.dropped.iter_mut().zip(counters.dropped) {
                    add(sum, count);
                }
            }
        }
    }

    fn in_flows(&self) -> Count {
        let mut sum = Count::default();
        for flow in self.flows.values() {
            add(&mut sum, *flow);
        }
        sum
    }
}

fn add(sum: &mut Count, count: Count) {
    sum.packets += count.packets;
    sum.octets += count.octets;
}

/// Sends `packets` frames of `flows` flows through a veth pair with the kernel program at its far end,
/// and drains its tables in epochs of 1 to 40 ms all the while.
fn send_and_drain(sizes: TableSizes, frame: &Frame, packets: u64, flows: u32, order: Order) -> Taken {
    assert!(rustix::process::geteuid().is_root(), "needs root: run cargo xtask test");
    let (near, far) = (Namespace::new("pathflow-perf").unwrap(), Namespace::new("pathflow-perf").unwrap());
    netns::join((&near, SENDER), (&far, RECEIVER)).unwrap();
    let settings = LoadSettings {
        sizes,
        table_cpus: receiving_cpus(&[]),
        hash_secrets: core::array::from_fn::<u32, HASH_SECRETS, _>(|i| {
            0x9e37_79b9_u32.wrapping_mul(i as u32 + 1)
        }),
        fib_lookup: false,
        keys: KeySettings::default(),
        header_samples: false,
        payloads: None,
        filters: FilterSet::default(),
    };
    far.run(|| {
        let (mut program, tables, mut epochs) = KernelProgram::load(&settings).unwrap();
        let index = interface::index(RECEIVER).unwrap();
        program.register(index, false, POINT, 0).unwrap();
        program.attach(RECEIVER, index, Hook::XdpNative).unwrap();
        let mut taken = Taken::default();
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                near.run(|| {
                    let settings = GeneratorSettings {
                        interface: SENDER.to_owned(),
                        flows,
                        order,
                        batch: 64,
                        rate: None,
                    };
                    Generator::load(&settings, frame.clone()).unwrap().send(packets).unwrap()
                })
                .unwrap()
            });
            // Epochs of every length from one RCU grace period up.
            for pause in (0..40).cycle() {
                if sender.is_finished() {
                    break;
                }
                thread::sleep(Duration::from_millis(pause));
                taken.drain(&tables, &mut epochs);
            }
            let sent = sender.join().unwrap();
            assert_eq!((sent.missing_packets, sent.interface_dropped_packets), (0, 0), "{sent:?}");
        });
        taken.drain(&tables, &mut epochs);
        taken
    })
    .unwrap()
}

#[test]
fn five_million_packets_are_in_their_flows() {
    const PACKETS: u64 = 5_000_000;
    const FLOWS: u32 = 1000;
    let sizes = TableSizes { ipv4_slots: 65_536, ipv6_slots: 16_384, spill_slots: 8192 };
    let frame = Frame::new(&FrameSettings::default()).unwrap();
    let taken = send_and_drain(sizes, &frame, PACKETS, FLOWS, Order::Sequential);

    let all = Count { packets: PACKETS, octets: PACKETS * frame.ip_octets() };
    assert!(taken.epochs > 2, "{}", taken.epochs);
    assert_eq!(taken.seen, all);
    assert_eq!(taken.in_flows(), all);
    assert_eq!(taken.dropped, [Count::default(); DropReason::COUNT]);
    assert_eq!(taken.spilled, Count::default());
    // Sent in turn, so each flow has its exact share, and no flow is another's.
    assert_eq!(taken.flows.len(), FLOWS as usize);
    for (key, count) in &taken.flows {
        let key: WideKey = Key(*key);
        let Addresses::Ipv4([10, 0, high, low], [198, 18, 0, 1]) = key.addresses() else {
            panic!("{:?}", key.addresses())
        };
        assert!(u32::from(high) << 8 | u32::from(low) < FLOWS);
        let fields = key.fields();
        assert_eq!((fields.observation_point, fields.protocol), (POINT, 17));
        assert_eq!(fields.ports, [4, 0, 0, 9]);
        assert_eq!(count.packets, PACKETS / u64::from(FLOWS));
    }
}

#[test]
fn ipv6_packets_are_in_their_flows() {
    const PACKETS: u64 = 1_000_003;
    let sizes = TableSizes { ipv4_slots: 1024, ipv6_slots: 16_384, spill_slots: 8192 };
    let settings =
        FrameSettings { family: Family::Ipv6, vlan_id: Some(7), octets: 200, ..FrameSettings::default() };
    let frame = Frame::new(&settings).unwrap();
    let taken = send_and_drain(sizes, &frame, PACKETS, 4000, Order::Random);

    let all = Count { packets: PACKETS, octets: PACKETS * frame.ip_octets() };
    assert_eq!(taken.seen, all);
    assert_eq!(taken.in_flows(), all);
    assert!(taken.flows.keys().all(|key| Key(*key).fields().vlan_id == 7));
}

#[test]
fn packets_without_a_place_in_the_tables_are_counted() {
    const PACKETS: u64 = 1_000_000;
    const FLOWS: u32 = 100_000;
    let sizes = TableSizes { ipv4_slots: 1024, ipv6_slots: 1024, spill_slots: 512 };
    let frame = Frame::new(&FrameSettings::default()).unwrap();
    let taken = send_and_drain(sizes, &frame, PACKETS, FLOWS, Order::Random);

    let overflow = taken.dropped[DropReason::TableOverflow as usize];
    assert_eq!(taken.seen, Count { packets: PACKETS, octets: PACKETS * frame.ip_octets() });
    assert!(overflow.packets > 0 && taken.spilled.packets > 0);
    let mut accounted = taken.in_flows();
    add(&mut accounted, overflow);
    assert_eq!(accounted, taken.seen);
    let others = taken.dropped.iter().map(|count| count.packets).sum::<u64>() - overflow.packets;
    assert_eq!(others, 0);
}
