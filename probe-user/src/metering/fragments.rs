//! Later fragments whose first fragment has not been seen: held for a moment, then given its ports.
//!
//! In the usual order the first fragment comes first, and the kernel program (or the parser of a replay) knows
//! its ports when the others come. Only fragments in another order come here.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pathflow_common::flow::{DATAGRAM_SECONDS, Datagram, DatagramPorts};

use crate::capture::Delta;

/// How long fragments wait for their first one, by the clock of the packets. Whoever reorders them does so
/// within milliseconds.
const WAIT_NANOSECONDS: u64 = 1_000_000_000;
/// Flows of fragments that wait at most; more are accounted without ports.
const HELD: usize = 65_536;
/// Datagrams that are remembered where user space parses: as many as the kernel program remembers.
const REMEMBERED: usize = 16_384;

/// Fragments that wait for their first one.
#[derive(Debug, Default)]
pub struct HeldFragments(VecDeque<Delta>);

impl HeldFragments {
    /// Keeps `delta` until [`release`](Self::release); gives it back if it has ports already, or if too many
    /// wait, without ports then.
    pub fn hold(&mut self, delta: Delta) -> Held {
        if delta.key.datagram().is_none() {
            return Held::Complete(delta);
        }
        if self.0.len() >= HELD {
            return Held::WithoutPorts(without_ports(delta));
        }
        self.0.push_back(delta);
        Held::Waiting
    }

    /// Hands over what has waited long enough at `now` (monotonic nanoseconds), and whatever `look_up` knows
    /// the ports of. What was handed over without ports is said by the second argument of `sink`.
    pub fn release(
        &mut self,
        now: u64,
        look_up: impl Fn(&Datagram, u64) -> Option<DatagramPorts>,
        mut sink: impl FnMut(Delta, bool),
    ) {
        self.0.retain(|delta| {
            let Some(datagram) = delta.key.datagram() else { return false };
            if let Some(first) = look_up(&datagram, delta.last) {
                sink(Delta { key: delta.key.with_ports_of(first), ..*delta }, false);
                return false;
            }
            let waiting = now < delta.last.saturating_add(WAIT_NANOSECONDS);
            if !waiting {
                sink(without_ports(*delta), true);
            }
            waiting
        });
    }
}

/// What became of a delta.
#[derive(Clone, Copy, Debug)]
pub enum Held {
    /// It is no fragment, or its ports are known.
    Complete(Delta),
    /// It waits.
    Waiting,
    /// There was no room: it is accounted without ports.
    WithoutPorts(Delta),
}

fn without_ports(delta: Delta) -> Delta {
    Delta { key: delta.key.without_ports(), ..delta }
}

/// What first fragments said, where user space parses. The oldest is forgotten when there are too many.
#[derive(Debug, Default)]
pub struct DatagramTable {
    ports: HashMap<Datagram, (DatagramPorts, u64), RandomState>,
    order: VecDeque<Datagram>,
}

impl DatagramTable {
    /// Remembers a first fragment seen at `time`, in nanoseconds.
    pub fn insert(&mut self, datagram: Datagram, ports: DatagramPorts, time: u64) {
        if self.ports.insert(datagram, (ports, time)).is_some() {
            return;
        }
        self.order.push_back(datagram);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ports.remove(&oldest);
        }
    }

    /// What the first fragment said, if it was seen no longer than [`DATAGRAM_SECONDS`] before `time`.
    #[must_use]
    pub fn get(&self, datagram: &Datagram, time: u64) -> Option<DatagramPorts> {
        let (ports, seen) = self.ports.get(datagram)?;
        let lifetime = u64::from(DATAGRAM_SECONDS) * 1_000_000_000;
        (seen.saturating_add(lifetime) >= time).then_some(*ports)
    }
}

#[cfg(test)]
mod tests {
    use pathflow_common::flow::{Encapsulation, Ipv4Key, KEY_FLAG_LATER_FRAGMENT, KeyFields};

    use super::*;
    use crate::classify::Class;
    use crate::interfaces::MacAddress;

    const SECOND: u64 = 1_000_000_000;

    fn fragment(identification: u32, last: u64) -> Delta {
        let fields = KeyFields {
            observation_point: 1,
            flags: KEY_FLAG_LATER_FRAGMENT,
            protocol: 17,
            ports: identification.to_ne_bytes(),
            ..KeyFields::default()
        };
        let key = Ipv4Key::new(fields, [192, 0, 2, 1, 192, 0, 2, 2]).widen(Encapsulation::NONE);
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

    fn first(ports: [u8; 4]) -> DatagramPorts {
        DatagramPorts { ports, protocol: 17, jiffies: 0 }
    }

    #[test]
    fn a_fragment_gets_the_ports_of_the_first_one_that_came_later() {
        let mut held = HeldFragments::default();
        let mut table = DatagramTable::default();
        let delta = fragment(7, SECOND);
        assert!(matches!(held.hold(delta), Held::Waiting));
        let mut out = Vec::new();
        held.release(
            SECOND,
            |datagram, time| table.get(datagram, time),
            |delta, lost| out.push((delta, lost)),
        );
        assert!(out.is_empty());
        table.insert(delta.key.datagram().unwrap(), first([0, 53, 0x30, 0x39]), SECOND + 1);
        held.release(
            SECOND,
            |datagram, time| table.get(datagram, time),
            |delta, lost| out.push((delta, lost)),
        );
        let [(released, false)] = out[..] else { panic!("{out:?}") };
        let fields = released.key.fields();
        assert_eq!((fields.ports, fields.flags, fields.protocol), ([0, 53, 0x30, 0x39], 0, 17));
        assert_eq!((released.packets, released.octets), (1, 100));
    }

    #[test]
    fn a_fragment_without_a_first_one_is_accounted_without_ports_after_a_second() {
        let mut held = HeldFragments::default();
        assert!(matches!(held.hold(fragment(7, SECOND)), Held::Waiting));
        let mut out = Vec::new();
        held.release(2 * SECOND - 1, |_, _| None, |delta, lost| out.push((delta, lost)));
        assert!(out.is_empty());
        held.release(2 * SECOND, |_, _| None, |delta, lost| out.push((delta, lost)));
        let [(released, true)] = out[..] else { panic!("{out:?}") };
        assert_eq!((released.key.fields().ports, released.key.fields().flags), ([0; 4], 0));
        assert_eq!(released.key.datagram(), None);
    }

    #[test]
    fn room_is_bounded() {
        let mut held = HeldFragments::default();
        for identification in 0..HELD as u32 {
            assert!(matches!(held.hold(fragment(identification, 0)), Held::Waiting));
        }
        assert!(matches!(held.hold(fragment(0, 0)), Held::WithoutPorts(_)));
        let mut table = DatagramTable::default();
        for identification in 0..2 * REMEMBERED as u32 {
            let datagram = fragment(identification, 0).key.datagram().unwrap();
            table.insert(datagram, first([0; 4]), 0);
        }
        assert_eq!(table.ports.len(), REMEMBERED);
        assert!(table.get(&fragment(0, 0).key.datagram().unwrap(), 0).is_none());
        assert!(table.get(&fragment(2 * REMEMBERED as u32 - 1, 0).key.datagram().unwrap(), 0).is_some());
    }

    #[test]
    fn an_identification_of_long_ago_is_another_datagram() {
        let mut table = DatagramTable::default();
        let datagram = fragment(7, 0).key.datagram().unwrap();
        table.insert(datagram, first([0, 1, 0, 2]), 0);
        assert!(table.get(&datagram, 30 * SECOND).is_some());
        assert!(table.get(&datagram, 30 * SECOND + 1).is_none());
    }
}
