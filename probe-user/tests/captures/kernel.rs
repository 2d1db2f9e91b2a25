//! The kernel program over every frame, against the same parser on the host.

use pathflow::capture::TableSizes;
use pathflow_common::DropReason;
use pathflow_common::layout::Count;

use crate::corpus::corpus;
use crate::host::{FIRST_BUFFER, Totals, fate, fate_at, in_first_buffer};
use crate::kernel_run::{Kernel, LONGEST, SHORTEST};
use crate::{own, say};

const ROOMY: TableSizes = TableSizes { ipv4_slots: 16_384, ipv6_slots: 16_384, spill_slots: 1024 };
/// The interface index of lo in every network namespace, where the kernel makes the frames arrive.
const LOOPBACK: u32 = 1;

/// Frames that are too short or too long for the kernel's test run.
#[derive(Default)]
struct Unfit {
    refused: usize,
    cut: usize,
}

/// Runs one frame in the kernel and on the host, as far as the kernel takes it. Returns what it ran.
fn run_both(kernel: &mut Kernel, host: &mut Totals, frame: &[u8], unfit: &mut Unfit) -> bool {
    unfit.cut += usize::from(frame.len() > LONGEST);
    let frame = &frame[..frame.len().min(LONGEST)];
    match kernel.run(frame) {
        Ok(()) => host.add(fate(&in_first_buffer(frame)), 0),
        Err(_) if frame.len() < SHORTEST => {
            unfit.refused += 1;
            return false;
        }
        Err(error) => panic!("a frame of {} octets is refused: {error}", frame.len()),
    }
    true
}

/// Every Ethernet packet gives the same key, the same octets, the same control bits and the same reason in
/// the kernel and on the host.
#[test]
fn same_frames_give_equal_keys_in_the_kernel_and_on_the_host() {
    let corpus = corpus();
    let mut kernel = Kernel::load(ROOMY);
    let mut unfit = Unfit::default();
    let (mut captures, mut packets, mut flows) = (0, 0, 0);
    for capture in &corpus.captures {
        let mut host = Totals::default();
        for packet in capture.ethernet() {
            run_both(&mut kernel, &mut host, &packet.octets, &mut unfit);
            packets += 1;
        }
        let drained = kernel.drain();
        assert_eq!(drained.totals.differences(&host), Vec::<String>::new(), "{}", capture.name);
        assert_eq!(drained.spilled, Count::default(), "{}", capture.name);
        captures += usize::from(capture.ethernet().next().is_some());
        flows += host.flows.len();
    }
    corpus.check_processed(captures, packets);
    say(&format!(
        "kernel ({}): {captures} captures, {packets} packets, {flows} flows; {} frames below {SHORTEST} octets \
         refused, {} cut to {LONGEST}",
        kernel.name(),
        unfit.refused,
        unfit.cut
    ));
}

/// The same with octets changed at random (the same at each run), mostly in the headers, so that every
/// branch of the parser is taken with values that no capture has.
#[test]
fn changed_frames_give_equal_keys_in_the_kernel_and_on_the_host() {
    const CHANGED_OF_EACH: usize = 4;
    let corpus = corpus();
    let mut kernel = Kernel::load(ROOMY);
    let mut unfit = Unfit::default();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut packets = 0_u64;
    for capture in &corpus.captures {
        let mut host = Totals::default();
        let mut frames = Vec::new();
        for packet in capture.ethernet().filter(|packet| packet.octets.len() <= FIRST_BUFFER) {
            for _ in 0..CHANGED_OF_EACH {
                let frame = changed(&packet.octets, &mut random);
                packets += u64::from(run_both(&mut kernel, &mut host, &frame, &mut unfit));
                frames.push(frame);
            }
        }
        let drained = kernel.drain();
        let differences = drained.totals.differences(&host);
        if !differences.is_empty() {
            let (frame, difference) = first_difference(&mut kernel, &frames);
            panic!("{}: {difference:?} for {frame:02x?}; in all {differences:?}", capture.name);
        }
    }
    say(&format!("kernel: {packets} changed packets"));
    assert!(packets >= 1000, "{packets} packets");
}

fn changed(frame: &[u8], random: &mut Random) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for _ in 0..=random.below(3) {
        let position = 12 + random.below(80);
        if let Some(octet) = frame.get_mut(position) {
            // Half of the time a value that means something as a protocol number, length or EtherType.
            const KNOWN: [u8; 16] = [0, 1, 6, 8, 17, 33, 43, 44, 51, 58, 60, 0x81, 0x86, 132, 135, 0xdd];
            *octet = if random.below(2) == 0 { KNOWN[random.below(16)] } else { random.below(256) as u8 };
        }
    }
    if random.below(4) == 0 {
        frame.truncate(SHORTEST.max(random.below(frame.len() + 1)));
    }
    frame
}

/// One frame at a time, until one makes the difference.
fn first_difference(kernel: &mut Kernel, frames: &[Vec<u8>]) -> (Vec<u8>, Vec<String>) {
    for frame in frames {
        let mut host = Totals::default();
        run_both(kernel, &mut host, frame, &mut Unfit::default());
        let differences = kernel.drain().totals.differences(&host);
        if !differences.is_empty() {
            return (frame.clone(), differences);
        }
    }
    (Vec::new(), vec!["none of the frames alone".to_owned()])
}

/// A generator of numbers that are the same at each run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as usize) % limit
    }
}

/// Packets of a registered interface carry its observation point, in keys and in counters.
#[test]
fn a_registered_interface_gives_its_observation_point() {
    const POINT: u16 = 7;
    let mut kernel = Kernel::load(ROOMY);
    // Another index that the table's hash puts at the same place comes first.
    kernel.register(LOOPBACK + 256, 3);
    kernel.register(LOOPBACK, POINT);
    let mut host = Totals::default();
    for packet in own::captures().iter().flat_map(|capture| &capture.packets) {
        if (SHORTEST..=LONGEST).contains(&packet.octets.len()) {
            kernel.run(&packet.octets).expect("a frame of allowed length");
            host.add(fate_at(&in_first_buffer(&packet.octets), POINT), POINT);
        }
    }
    let drained = kernel.drain();
    assert_eq!(drained.totals.differences(&host), Vec::<String>::new());
    assert_eq!(drained.totals.seen.keys().collect::<Vec<_>>(), [&POINT]);
}

/// With tables and spill log far too small, flows are missing, but no packet: what is not in a flow is
/// counted as overflow, and no flow has more than its own.
#[test]
fn tables_that_are_too_small_lose_no_count() {
    let corpus = corpus();
    let mut kernel = Kernel::load(TableSizes { ipv4_slots: 8, ipv6_slots: 8, spill_slots: 4 });
    let (mut overflow, mut spilled) = (0, 0);
    for capture in &corpus.captures {
        let mut host = Totals::default();
        for packet in capture.ethernet() {
            run_both(&mut kernel, &mut host, &packet.octets, &mut Unfit::default());
        }
        let drained = kernel.drain();
        let totals = drained.totals;
        assert_eq!(totals.seen, host.seen, "{}", capture.name);
        let (in_flows, lost) = (totals.in_flows(), totals.dropped_for(DropReason::TableOverflow));
        let sum = Count { packets: in_flows.packets + lost.packets, octets: in_flows.octets + lost.octets };
        assert_eq!(sum, host.in_flows(), "{}", capture.name);
        for reason in [DropReason::NotIp, DropReason::Truncated, DropReason::Malformed] {
            assert_eq!(totals.dropped_for(reason), host.dropped_for(reason), "{}", capture.name);
        }
        for (key, flow) in &totals.flows {
            let of_host = host.flows.get(key).unwrap_or_else(|| panic!("{}: {key:x?}", capture.name));
            assert!(
                flow.packets <= of_host.packets
                    && flow.octets <= of_host.octets
                    && flow.tcp_control_bits & !of_host.tcp_control_bits == 0,
                "{}: {flow:?}, on the host {of_host:?}",
                capture.name
            );
        }
        overflow += lost.packets;
        spilled += drained.spilled.packets;
    }
    assert!(overflow > 0 && spilled > 0, "{overflow} packets overflowed, {spilled} were spilled");
    say(&format!("kernel with small tables: {spilled} packets spilled, {overflow} overflowed"));
}
