//! An interface of the calling thread's network namespace, and its counters.

use std::{fs, io};

use rustix::net::{AddressFamily, SocketType, netdevice, socket};

/// What an interface has counted since it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub received_packets: u64,
    /// Packets that were received and dropped.
    pub receive_dropped_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets that were to be sent and dropped.
    pub send_dropped_packets: u64,
}

/// Kernel index of the interface called `name`.
///
/// # Errors
/// If there is none.
pub fn index(name: &str) -> io::Result<u32> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(netdevice::name_to_index(socket, name)?)
}

/// Counters of the interface called `name`.
///
/// # Errors
/// If there is none, or the kernel's table is not understood.
pub fn counters(name: &str) -> io::Result<Counters> {
    // By thread, because a thread may be in a namespace of its own; /sys would show that of its mount.
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    find(&table, name).ok_or_else(|| io::Error::other(format!("interface {name} is not in /proc/net/dev")))
}

/// The line of `name` in a table such as `/proc/net/dev`: eight columns of receiving, eight of sending,
/// each beginning with octets, packets, errors, drops.
fn find(table: &str, name: &str) -> Option<Counters> {
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    let columns: Vec<u64> = line.split_whitespace().map_while(|column| column.parse().ok()).collect();
    Some(Counters {
        received_packets: *columns.get(1)?,
        receive_dropped_packets: *columns.get(3)?,
        sent_packets: *columns.get(9)?,
        send_dropped_packets: *columns.get(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  159552    1610    0    0    0     0          0         0   159552    1611    0    0    0     0       0          0
veth10:       1       2    0    4    0     0          0         0        9      10    0   12    0     0       0          0
";

    #[test]
    fn columns_are_those_of_the_kernel() {
        assert_eq!(
            find(TABLE, "veth10"),
            Some(Counters {
                received_packets: 2,
                receive_dropped_packets: 4,
                sent_packets: 10,
                send_dropped_packets: 12
            })
        );
        assert_eq!(find(TABLE, "lo").map(|counters| counters.sent_packets), Some(1611));
    }

    #[test]
    fn a_name_is_not_its_prefix() {
        assert_eq!(find(TABLE, "veth1"), None);
        assert_eq!(find(TABLE, "veth"), None);
    }

    #[test]
    fn loopback_exists() {
        assert_eq!(index("lo").unwrap(), 1);
        assert!(counters("lo").is_ok());
        assert!(index("no-such-if").is_err());
    }
}
