//! Counters of one interface, asked of the kernel by rtnetlink: those of 64 bits that `ip -statistics link` shows.

use std::io;

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkHeader, LinkMessage};

use super::question::Questions;
use super::rtnetlink::LINK_HEADER;

/// What the kernel has counted of an interface (`struct rtnl_link_stats64`), and its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Kernel's interface index.
    pub index: u32,
    /// Layer below IP, as `ARPHRD_...`
    pub link_layer_type: u16,
    /// `IFF_...`
    pub flags: u32,
    /// How many want it promiscuous.
    pub promiscuity: u32,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Octets received.
    pub rx_octets: u64,
    /// Octets sent.
    pub tx_octets: u64,
    /// Packets received with an error.
    pub rx_errors: u64,
    /// Packets not sent for an error.
    pub tx_errors: u64,
    /// Packets received and dropped for lack of memory or by a filter.
    pub rx_dropped: u64,
    /// Packets to be sent and dropped.
    pub tx_dropped: u64,
    /// Multicast packets among those received.
    pub multicast: u64,
    /// Packets that the device had no buffer for; not among `rx_dropped`.
    pub rx_missed: u64,
}

impl NetlinkDeserializable for LinkCounters {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let link = LinkHeader::parse(payload)?;
        let mut counters = Self {
            index: link.index,
            link_layer_type: u16::from(link.link_layer_type),
            flags: link.flags.bits(),
            ..Self::default()
        };
        for attribute in NlasIterator::new(payload.get(LINK_HEADER..).unwrap_or_default()) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                libc::IFLA_STATS64 => counters.read_statistics(value),
                libc::IFLA_PROMISCUITY => {
                    counters.promiscuity = value.try_into().map_or(0, u32::from_ne_bytes);
                }
                _ => {}
            }
        }
        Ok(counters)
    }
}

impl LinkCounters {
    /// Later kernels add fields at the end.
    fn read_statistics(&mut self, value: &[u8]) {
        let mut values = value.as_chunks().0.iter().map(|octets| u64::from_ne_bytes(*octets));
        for field in [
            &mut self.rx_packets,
            &mut self.tx_packets,
            &mut self.rx_octets,
            &mut self.tx_octets,
            &mut self.rx_errors,
            &mut self.tx_errors,
            &mut self.rx_dropped,
            &mut self.tx_dropped,
            &mut self.multicast,
        ] {
            *field = values.next().unwrap_or(0);
        }
        // After collisions, and errors of length, overrun, check sequence, frame and FIFO.
        self.rx_missed = values.nth(6).unwrap_or(0);
    }
}

/// A socket to ask for counters.
#[derive(Debug)]
pub struct CounterQuery {
    questions: Questions,
}

impl CounterQuery {
    /// A socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If there is no socket to be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self { questions: Questions::new()? })
    }

    /// Counters of the interface with this index.
    ///
    /// # Errors
    /// If there is no such interface, or the kernel cannot be asked.
    pub fn read(&mut self, index: u32) -> io::Result<LinkCounters> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        self.questions.ask(RouteNetlinkMessage::GetLink(link))
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn loopback_counts_what_goes_through_it_on_both_sides() {
        let mut query = CounterQuery::new().unwrap();
        let before = query.read(1).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..10 {
            socket.send_to(&[0; 1000], socket.local_addr().unwrap()).unwrap();
        }
        let after = query.read(1).unwrap();
        assert_eq!(after.index, 1);
        assert_eq!(after.link_layer_type, libc::ARPHRD_LOOPBACK);
        assert_ne!(after.flags & libc::IFF_LOOPBACK as u32, 0);
        // Others use it too.
        assert!(after.rx_packets >= before.rx_packets + 10 && after.tx_packets >= before.tx_packets + 10);
        assert!(after.rx_octets >= before.rx_octets + 10_280 && after.tx_octets >= before.tx_octets + 10_280);
    }

    #[test]
    fn an_interface_that_is_missing_is_an_error_and_the_next_question_is_answered() {
        let mut query = CounterQuery::new().unwrap();
        assert_eq!(query.read(u32::MAX >> 1).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(query.read(1).unwrap().index, 1);
    }
}
