//! What is classified: both directions of a flow together; and the packets that tell of it.

use std::cell::Cell;
use std::ops::Range;

use pathflow_common::bytes::SliceFrame;
use pathflow_common::extension::Layer;
use pathflow_common::flow::{Addresses, Datagram, DatagramPorts, Encapsulation, Ipv4Key, WideKey};
use pathflow_common::parse::extension::Layers;
use pathflow_common::parse::link::Link;
use pathflow_common::parse::tunnel::Tunnels;
use pathflow_common::parse::{FlowSink, PacketFacts, parse_link};
use pathflow_common::{DropReason, PacketBytes};

use crate::metering::packets::KeySettings;

/// IP protocols whose ports tell flows apart: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// Both directions between two ends, wherever they were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conversation {
    /// Address and port of both ends, the smaller one first. Of IPv4 the first four octets of the address count.
    ends: [([u8; 16], [u8; 2]); 2],
    protocol: u8,
    is_ipv6: bool,
}

impl Conversation {
    /// That of a flow; `None` if the key has no ports because they are those of another fragment.
    #[must_use]
    pub fn of(key: &WideKey) -> Option<Self> {
        if key.datagram().is_some() {
            return None;
        }
        let fields = key.fields();
        let (source, destination, is_ipv6) = match key.addresses() {
            Addresses::Ipv4(source, destination) => (widen(source), widen(destination), false),
            Addresses::Ipv6(source, destination) => (source, destination, true),
        };
        let [a, b, c, d] = if WITH_PORTS.contains(&fields.protocol) { fields.ports } else { [0; 4] };
        let mut ends = [(source, [a, b]), (destination, [c, d])];
        ends.sort_unstable();
        Some(Self { ends, protocol: fields.protocol, is_ipv6 })
    }
}

fn widen(address: [u8; 4]) -> [u8; 16] {
    let mut wide = [0; 16];
    for (to, from) in wide.iter_mut().zip(address) {
        *to = from;
    }
    wide
}

/// A packet with payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Telling {
    pub(super) conversation: Conversation,
    /// Where the IP packet is in the frame, as far as it was captured.
    pub(super) packet: Range<usize>,
}

/// The packet in a frame that its flow is told apart by, if it has payload. `link` is where parsing starts.
pub(super) fn telling(frame: &SliceFrame<'_>, link: Link, keys: &KeySettings) -> Option<Telling> {
    let found = Cell::new(None);
    parse_link(frame, 0, link, Find { keys, found: &found, layers: Cell::new(None) });
    found.into_inner()
}

/// Finds the flow's own packet.
struct Find<'a> {
    keys: &'a KeySettings,
    found: &'a Cell<Option<Telling>>,
    layers: Cell<Option<(Range<usize>, bool)>>,
}

impl FlowSink for Find<'_> {
    fn ipv4(self, key: Ipv4Key, facts: PacketFacts) {
        self.wide(key.widen(Encapsulation::NONE), facts);
    }

    fn wide(self, key: WideKey, _: PacketFacts) {
        let Some((packet, true)) = self.layers.take() else { return };
        let conversation = Conversation::of(&key);
        self.found.set(conversation.map(|conversation| Telling { conversation, packet }));
    }

    fn unaccounted(self, _: DropReason, _: u32) {}

    fn has_vlan_priority(&self) -> bool {
        false
    }

    fn first_fragment(&self, _: &Datagram, _: DatagramPorts) {}

    fn datagram_ports(&self, _: &Datagram) -> Option<DatagramPorts> {
        None
    }

    fn extends(&self) -> bool {
        true
    }

    fn extended<P: PacketBytes>(
        &self,
        packet: &P,
        layers: Layers,
        key: WideKey,
        facts: PacketFacts,
    ) -> (WideKey, PacketFacts) {
        let start = usize::from(layers.offsets[Layer::Network as usize]);
        let end = (layers.end as usize).min(packet.readable_length());
        if start < end {
            let has_payload = facts.octets > u32::from(facts.header_octets);
            self.layers.set(Some((start..end, has_payload)));
        }
        (key, facts)
    }
}

impl Tunnels for Find<'_> {
    fn entered(&self) -> bool {
        self.keys.inner
    }

    fn is_vxlan(&self, destination_port: u16) -> bool {
        self.keys.vxlan_ports.contains(&destination_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// UDP from 192.0.2.1:1000 to 192.0.2.2:53 or back, with so many octets of payload.
    fn frame(back: bool, payload: u8) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 28 + payload, 0, 0, 0, 0, 64, 17, 0, 0]);
        let mut ends = [([192, 0, 2, 1], [3, 232]), ([192, 0, 2, 2], [0, 53])];
        if back {
            ends.reverse();
        }
        frame.extend(ends.map(|(address, _)| address).as_flattened());
        frame.extend(ends.map(|(_, port)| port).as_flattened());
        frame.extend([0, 8 + payload, 0, 0]);
        frame.extend(vec![7; payload.into()]);
        frame
    }

    fn find(octets: &[u8]) -> Option<Telling> {
        let frame = SliceFrame::new(octets);
        telling(&frame, Link::ethernet(&frame).unwrap(), &KeySettings::default())
    }

    #[test]
    fn both_directions_are_one_conversation() {
        let (there, back) = (find(&frame(false, 4)).unwrap(), find(&frame(true, 9)).unwrap());
        assert_eq!(there.conversation, back.conversation);
        assert_eq!((there.packet, back.packet), (14..14 + 32, 14..14 + 37));
    }

    #[test]
    fn packets_without_payload_tell_nothing() {
        assert_eq!(find(&frame(false, 0)), None);
    }

    #[test]
    fn padding_is_not_of_the_packet() {
        let mut octets = frame(false, 1);
        octets.resize(60, 0);
        assert_eq!(find(&octets).unwrap().packet, 14..43);
    }
}
