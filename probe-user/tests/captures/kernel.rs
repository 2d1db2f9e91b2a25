//! The kernel program over every frame, against the same parser on the host.

use pathflow::capture::TableSizes;
use pathflow_common::DropReason;
use pathflow_common::layout::{Count, interface_key, interface_slot};

use crate::corpus::corpus;
use crate::host::{FIRST_BUFFER, Host, Totals, View};
use crate::kernel_run::{Hook, Kernel};
use crate::layered::{Random, layered};
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
fn run_both(kernel: &mut Kernel, host: &Host, totals: &mut Totals, frame: &[u8], unfit: &mut Unfit) -> bool {
    let longest = kernel.hook().longest();
    unfit.cut += usize::from(frame.len() > longest);
    let frame = &frame[..frame.len().min(longest)];
    match kernel.run(frame) {
        Ok(()) => totals.add(host.fate(&kernel.hook().view(frame)), 0),
        Err(_) if !kernel.hook().takes(frame) => {
            unfit.refused += 1;
            return false;
        }
        Err(error) => panic!("a frame of {} octets is refused: {error}", frame.len()),
    }
    true
}

/// Every Ethernet packet gives the same key, the same octets, the same control bits and the same reason in
/// the kernel and on the host.
fn same_frames_give_equal_keys(hook: Hook, view: View) {
    let corpus = corpus();
    let mut kernel = Kernel::load(ROOMY, hook, view);
    let mut unfit = Unfit::default();
    let (mut captures, mut packets, mut flows) = (0, 0, 0);
    for capture in &corpus.captures {
        let host = Host::new(view);
        let mut totals = Totals::default();
        for packet in capture.ethernet() {
            run_both(&mut kernel, &host, &mut totals, &packet.octets, &mut unfit);
            packets += 1;
        }
        let drained = kernel.drain();
        assert_eq!(drained.totals.differences(&totals), Vec::<String>::new(), "{}", capture.name);
        assert_eq!(drained.spilled, Count::default(), "{}", capture.name);
        captures += usize::from(capture.ethernet().next().is_some());
        flows += totals.flows.len();
    }
    corpus.check_processed(captures, packets);
    say(&format!(
        "kernel ({hook:?}, {view:?}; {}): {captures} captures, {packets} packets, {flows} flows; {} short \
         frames refused, {} cut to {}",
        kernel.name(),
        unfit.refused,
        unfit.cut,
        hook.longest()
    ));
}

#[test]
fn same_frames_give_equal_keys_in_xdp_and_on_the_host() {
    same_frames_give_equal_keys(Hook::Xdp, View::Outer);
}

#[test]
fn same_frames_give_equal_keys_in_xdp_and_on_the_host_inside_tunnels() {
    same_frames_give_equal_keys(Hook::Xdp, View::Inner);
}

#[test]
fn same_frames_give_equal_keys_in_tc_and_on_the_host() {
    same_frames_give_equal_keys(Hook::TcIngress, View::Outer);
    same_frames_give_equal_keys(Hook::TcEgress, View::Outer);
}

#[test]
fn same_frames_give_equal_keys_in_tc_and_on_the_host_inside_tunnels() {
    same_frames_give_equal_keys(Hook::TcIngress, View::Inner);
}

#[test]
fn the_kernel_takes_everything_at_once() {
    for view in [View::Outer, View::Inner, View::Extended, View::ExtendedInner] {
        Kernel::load_with_everything(ROOMY, view);
    }
}

#[test]
fn same_frames_give_equal_extensions_in_xdp_and_on_the_host() {
    same_frames_give_equal_keys(Hook::Xdp, View::Extended);
    same_frames_give_equal_keys(Hook::Xdp, View::ExtendedInner);
}

#[test]
fn same_frames_give_equal_extensions_in_tc_and_on_the_host() {
    same_frames_give_equal_keys(Hook::TcIngress, View::Extended);
    same_frames_give_equal_keys(Hook::TcIngress, View::ExtendedInner);
    same_frames_give_equal_keys(Hook::TcEgress, View::Extended);
}

/// The same with octets changed at random (the same at each run), mostly in the headers, so that every
/// branch of the parser is taken with values that no capture has.
fn changed_frames_give_equal_keys(hook: Hook, view: View) {
    const CHANGED_OF_EACH: usize = 4;
    let corpus = corpus();
    let mut kernel = Kernel::load(ROOMY, hook, view);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut packets = 0_u64;
    for capture in &corpus.captures {
        let originals = capture.ethernet().filter(|packet| packet.octets.len() <= FIRST_BUFFER);
        let frames: Vec<Vec<u8>> = originals
            .flat_map(|packet| [(); CHANGED_OF_EACH].map(|()| changed(&packet.octets, &mut random)))
            .collect();
        packets += compare(&mut kernel, view, &frames, &capture.name);
    }
    say(&format!("kernel ({hook:?}, {view:?}): {packets} changed packets"));
    assert!(packets >= 1000, "{packets} packets");
}

#[test]
fn changed_frames_give_equal_keys_in_xdp_and_on_the_host() {
    changed_frames_give_equal_keys(Hook::Xdp, View::Outer);
}

#[test]
fn changed_frames_give_equal_keys_in_xdp_and_on_the_host_inside_tunnels() {
    changed_frames_give_equal_keys(Hook::Xdp, View::Inner);
}

#[test]
fn changed_frames_give_equal_keys_in_tc_and_on_the_host() {
    changed_frames_give_equal_keys(Hook::TcIngress, View::Outer);
}

#[test]
fn changed_frames_give_equal_extensions_in_the_kernel_and_on_the_host() {
    changed_frames_give_equal_keys(Hook::Xdp, View::Extended);
    changed_frames_give_equal_keys(Hook::TcEgress, View::Extended);
}

/// Frames of layers put upon each other at random, some of them with octets changed or cut.
#[test]
fn layers_at_random_give_equal_keys_in_the_kernel_and_on_the_host() {
    const BATCHES: usize = 60;
    const FRAMES: usize = 250;
    for (hook, view) in [
        (Hook::Xdp, View::Outer),
        (Hook::Xdp, View::Inner),
        (Hook::TcIngress, View::Outer),
        (Hook::TcIngress, View::Inner),
        (Hook::Xdp, View::Extended),
        (Hook::Xdp, View::ExtendedInner),
        (Hook::TcIngress, View::Extended),
    ] {
        let mut kernel = Kernel::load(ROOMY, hook, view);
        let mut random = Random(0x6a09_e667_f3bc_c908);
        let mut packets = 0;
        for batch in 0..BATCHES {
            let frames: Vec<Vec<u8>> = (0..FRAMES)
                .map(|_| {
                    let frame = layered(&mut random);
                    if random.below(3) == 0 { changed(&frame, &mut random) } else { frame }
                })
                .collect();
            packets += compare(&mut kernel, view, &frames, &format!("batch {batch}"));
        }
        say(&format!("kernel ({hook:?}, {view:?}): {packets} packets of layers at random"));
        // A few of those that were cut are too short for tc.
        assert!(packets > (BATCHES * FRAMES * 9 / 10) as u64, "{packets}");
    }
}

/// Runs frames in the kernel and on the host. Returns how many.
fn compare(kernel: &mut Kernel, view: View, frames: &[Vec<u8>], name: &str) -> u64 {
    let (host, mut totals) = (Host::new(view), Totals::default());
    let mut packets = 0;
    for frame in frames {
        packets += u64::from(run_both(kernel, &host, &mut totals, frame, &mut Unfit::default()));
    }
    let differences = kernel.drain().totals.differences(&totals);
    if !differences.is_empty() {
        let (frame, difference) = first_difference(kernel, view, frames);
        panic!("{name}: {difference:?} for {frame:02x?}; in all {differences:?}");
    }
    packets
}

fn changed(frame: &[u8], random: &mut Random) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for _ in 0..=random.below(3) {
        let position = 12 + random.below(80);
        if let Some(octet) = frame.get_mut(position) {
            // Half of the time a value that means something as a protocol number, length or EtherType.
            const KNOWN: [u8; 24] = [
                0, 1, 4, 6, 8, 17, 33, 41, 43, 44, 47, 51, 58, 60, 0x11, 0x20, 0x47, 0x58, 0x64, 0x81, 0x86,
                132, 135, 0xdd,
            ];
            *octet = if random.below(2) == 0 { KNOWN[random.below(24)] } else { random.below(256) as u8 };
        }
    }
    if random.below(4) == 0 {
        frame.truncate(14.max(random.below(frame.len() + 1)));
    }
    frame
}

/// One frame at a time, until one makes the difference.
fn first_difference(kernel: &mut Kernel, view: View, frames: &[Vec<u8>]) -> (Vec<u8>, Vec<String>) {
    for frame in frames {
        let (host, mut totals) = (Host::new(view), Totals::default());
        run_both(kernel, &host, &mut totals, frame, &mut Unfit::default());
        let differences = kernel.drain().totals.differences(&totals);
        if !differences.is_empty() {
            return (frame.clone(), differences);
        }
    }
    (Vec::new(), vec!["none of the frames alone".to_owned()])
}

/// Packets of a registered interface carry its observation point, in keys and in counters.
#[test]
fn a_registered_interface_gives_its_observation_point() {
    for hook in [Hook::Xdp, Hook::TcIngress, Hook::TcEgress] {
        packets_carry_the_point_of_their_interface(hook);
    }
}

fn packets_carry_the_point_of_their_interface(hook: Hook) {
    const POINT: u16 = 7;
    let mut kernel = Kernel::load(ROOMY, hook, View::Outer);
    let place = |index| interface_slot(interface_key(index, hook == Hook::TcEgress), 0);
    // Another index that the table's hash puts at the same place comes first.
    let other =
        (LOOPBACK + 1..1 << 20).find(|index| place(*index) == place(LOOPBACK)).expect("such an index");
    kernel.register(other, 3, 0);
    kernel.register(LOOPBACK, POINT, 0);
    let (host, mut totals) = (Host::new(View::Outer), Totals::default());
    for packet in own::captures().iter().flat_map(|capture| &capture.packets) {
        if hook.takes(&packet.octets) && packet.octets.len() <= hook.longest() {
            kernel.run(&packet.octets).expect("a frame of allowed length");
            totals.add(host.fate_at(&hook.view(&packet.octets), POINT, 0), POINT);
        }
    }
    let drained = kernel.drain();
    assert_eq!(drained.totals.differences(&totals), Vec::<String>::new());
    assert_eq!(drained.totals.seen.keys().collect::<Vec<_>>(), [&POINT]);
}

/// With tables and spill log far too small, flows are missing, but no packet: what is not in a flow is
/// counted as overflow, and no flow has more than its own.
#[test]
fn tables_that_are_too_small_lose_no_count() {
    let corpus = corpus();
    let sizes = TableSizes { ipv4_slots: 8, ipv6_slots: 8, spill_slots: 4 };
    let mut kernel = Kernel::load(sizes, Hook::Xdp, View::Outer);
    let (mut overflow, mut spilled) = (0, 0);
    for capture in &corpus.captures {
        let (parser, mut host) = (Host::new(View::Outer), Totals::default());
        for packet in capture.ethernet() {
            run_both(&mut kernel, &parser, &mut host, &packet.octets, &mut Unfit::default());
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
