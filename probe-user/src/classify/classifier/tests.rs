//! Bounds and ends of classification. Whether classes are right is for tests over captures, against ndpiReader.

use std::time::Duration;

use pathflow_common::flow::{Encapsulation, Ipv4Key, KeyFields};

use super::*;
use crate::capture::Delta;
use crate::classify::ClassCounts;
use crate::interfaces::MacAddress;

const START: u64 = 1_700_000_000 * SECOND;
/// A query for the A record of example.org (RFC 1035).
const QUERY: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01";
/// Nothing that a protocol begins with.
const NOISE: &[u8] = &[0xa5; 40];

/// UDP from 192.0.2.1 to this host and port.
fn frame(host: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let octets = (8 + payload.len()) as u16;
    let [host, subnet] = host.to_le_bytes();
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((20 + octets).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 18, subnet, host, 0xc0, 0]);
    frame.extend(port.to_be_bytes());
    frame.extend(octets.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// A delta of the answers to that.
fn delta(host: u16, port: u16, last: u64) -> Delta {
    let [source, subnet] = host.to_le_bytes();
    let [high, low] = port.to_be_bytes();
    let fields = KeyFields { protocol: 17, ports: [high, low, 0xc0, 0], ..KeyFields::default() };
    let key = Ipv4Key::new(fields, [198, 18, subnet, source, 192, 0, 2, 1]).widen(Encapsulation::NONE);
    Delta {
        key,
        octets: 100,
        packets: 1,
        first: last,
        last,
        tcp_control_bits: 0,
        other_interface: 0,
        next_hop: None,
        neighbour: MacAddress::UNKNOWN,
        class: Class::UNKNOWN,
    }
}

struct Test {
    classifier: Classifier,
    classes: Arc<Classes>,
}

impl Test {
    fn new(packets: u32, max_flows: usize) -> Self {
        let idle_timeout = Duration::from_mins(10);
        let settings = ClassifySettings { packets, octets: 1536, max_flows, idle_timeout, guess: false };
        let classes = Arc::<Classes>::default();
        let classifier =
            Classifier::new(settings, KeySettings::default(), Arc::clone(&classes)).expect("an engine");
        Self { classifier, classes }
    }

    fn packet(&mut self, octets: &[u8], time: u64) {
        let frame = SliceFrame::new(octets);
        self.classifier.packet(&frame, Link::ethernet(&frame).expect("a frame"), time);
    }

    fn class(&self, host: u16, port: u16, time: u64) -> &'static str {
        let mut deltas = [delta(host, port, time)];
        self.classes.apply(&mut deltas);
        deltas[0].class.name()
    }

    fn counts(&self) -> ClassCounts {
        self.classes.counts()
    }
}

#[test]
fn the_answers_have_the_class_of_the_query() {
    let mut test = Test::new(10, 100);
    assert_eq!(test.class(1, 53, START), "unknown");
    test.packet(&frame(1, 53, QUERY), START);
    assert_eq!(test.class(1, 53, START), "DNS");
    assert_eq!(test.class(2, 53, START), "unknown");
}

#[test]
fn what_is_not_found_in_the_first_packets_is_unknown() {
    let mut test = Test::new(3, 100);
    for number in 0..5 {
        let expected = if number < 3 { (number, 0) } else { (3, 1) };
        assert_eq!((test.counts().packets, test.counts().unknown), expected);
        test.packet(&frame(1, 40_000, NOISE), START);
    }
    // Nobody looks at the others.
    let counts = test.counts();
    assert_eq!((counts.packets, counts.unknown, counts.pending, counts.held), (3, 1, 0, 1));
    assert_eq!(test.class(1, 40_000, START), "unknown");
}

#[test]
fn too_many_at_a_time_make_room_and_are_counted() {
    let mut test = Test::new(10, 40);
    for host in 0..25 {
        test.packet(&frame(host, 40_000, NOISE), START);
    }
    let counts = test.counts();
    assert_eq!((counts.pending, counts.pending_full, counts.unknown), (10, 15, 15));
}

#[test]
fn too_many_in_all_make_room_and_are_counted() {
    let mut test = Test::new(1, 20);
    for host in 0..20 {
        test.packet(&frame(host, 53, QUERY), START);
    }
    assert_eq!(test.counts().table_full, 0);
    // Of the first eight, all but the third go on.
    for host in [0, 1, 2, 4, 5, 6, 7] {
        assert_eq!(test.class(host, 53, START + 5 * SECOND), "DNS");
    }
    test.packet(&frame(20, 53, QUERY), START + 5 * SECOND);
    let counts = test.counts();
    assert_eq!((counts.held, counts.table_full), (20, 1));
    assert_eq!(test.class(3, 53, START + 5 * SECOND), "unknown");
    assert_eq!(test.class(20, 53, START + 5 * SECOND), "DNS");
    // A flood leaves as many as there is room for.
    for host in 100..1000 {
        test.packet(&frame(host, 53, QUERY), START + 6 * SECOND);
    }
    assert_eq!((test.counts().held, test.counts().table_full), (20, 901));
}

#[test]
fn what_has_no_packets_is_given_up_and_then_forgotten() {
    let mut test = Test::new(10, 100);
    test.packet(&frame(1, 40_000, NOISE), START);
    test.packet(&frame(2, 53, QUERY), START);
    test.classifier.tick(START + 29 * SECOND);
    assert_eq!(test.counts().unknown, 0);
    test.classifier.tick(START + 30 * SECOND);
    let counts = test.counts();
    assert_eq!((counts.pending, counts.unknown, counts.held), (0, 1, 2));
    // The one that deltas come of is in use.
    assert_eq!(test.class(2, 53, START + 500 * SECOND), "DNS");
    test.classifier.tick(START + 600 * SECOND);
    assert_eq!((test.counts().held, test.class(2, 53, START + 500 * SECOND)), (1, "DNS"));
    test.classifier.tick(START + 1100 * SECOND);
    assert_eq!((test.counts().held, test.class(2, 53, START + 1100 * SECOND)), (0, "unknown"));
}

#[test]
fn packets_that_end_too_early_do_no_harm() {
    let mut test = Test::new(255, 1000);
    let whole = frame(1, 53, QUERY);
    for octets in 14..whole.len() {
        test.packet(&whole[..octets], START);
    }
    assert!(test.counts().packets <= whole.len() as u64);
}
