//! What the kernel counts of an interface, in the words of sFlow.

use pathflow_exporter::sflow::{InterfaceCounters, InterfaceDirection, InterfaceStatus};

use crate::ethtool::{self, Duplex};
use crate::interfaces::LinkCounters;

/// `ifType` (IANA "ifType definitions").
const OTHER: u32 = 1;
const ETHERNET_CSMACD: u32 = 6;
const PPP: u32 = 23;
const SOFTWARE_LOOPBACK: u32 = 24;
const TUNNEL: u32 = 131;

/// The counters of the interface with this name, which has `number` in records.
///
/// Linux does not count broadcast packets, packets of unknown protocols, and multicast packets sent: those are not
/// available, and unicast is what remains of all packets. Packets for which the device had no buffer are discarded
/// ones.
pub(super) fn interface_counters(link: &LinkCounters, number: u32, name: &str) -> InterfaceCounters {
    // Without a driver that knows, neither is known.
    let mode = ethtool::link_mode(name).unwrap_or_default();
    InterfaceCounters {
        index: number,
        interface_type: interface_type(link.link_layer_type),
        speed: mode.bits_per_second.unwrap_or(0),
        direction: match mode.duplex {
            Some(Duplex::Full) => InterfaceDirection::FullDuplex,
            Some(Duplex::Half) => InterfaceDirection::HalfDuplex,
            None => InterfaceDirection::Unknown,
        },
        status: InterfaceStatus {
            is_admin_up: link.flags & libc::IFF_UP as u32 != 0,
            is_operational: link.flags & libc::IFF_RUNNING as u32 != 0,
        },
        in_octets: Some(link.rx_octets),
        in_unicast_packets: Some(link.rx_packets.saturating_sub(link.multicast)),
        in_multicast_packets: Some(link.multicast),
        in_broadcast_packets: None,
        in_discards: Some(link.rx_dropped + link.rx_missed),
        in_errors: Some(link.rx_errors),
        in_unknown_protocols: None,
        out_octets: Some(link.tx_octets),
        out_unicast_packets: Some(link.tx_packets),
        out_multicast_packets: None,
        out_broadcast_packets: None,
        out_discards: Some(link.tx_dropped),
        out_errors: Some(link.tx_errors),
        is_promiscuous: link.promiscuity > 0,
    }
}

const fn interface_type(link_layer_type: u16) -> u32 {
    match link_layer_type {
        libc::ARPHRD_ETHER => ETHERNET_CSMACD,
        libc::ARPHRD_PPP => PPP,
        libc::ARPHRD_LOOPBACK => SOFTWARE_LOOPBACK,
        libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 | libc::ARPHRD_SIT | libc::ARPHRD_IPGRE => TUNNEL,
        _ => OTHER,
    }
}
