//! Names of IP protocols as pmacct 1.7.7 prints them.

/// Number and name. Observed with one packet of each of the 256 protocols; protocols 0 and those not here are numbers.
const NAMES: [(u8, &str); 38] = [
    (1, "icmp"),
    (2, "igmp"),
    (3, "ggp"),
    (4, "ipencap"),
    (6, "tcp"),
    (8, "egp"),
    (9, "igp"),
    (17, "udp"),
    (18, "mux"),
    (41, "ipv6"),
    (43, "ipv6-route"),
    (44, "ipv6-frag"),
    (46, "rsvp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (55, "mobile"),
    (56, "tlsp"),
    (58, "ipv6-icmp"),
    (59, "ipv6-nonxt"),
    (60, "ipv6-opts"),
    (80, "iso-ip"),
    (83, "vines"),
    (88, "eigrp"),
    (89, "ospf"),
    (91, "larp"),
    (93, "ax.25"),
    (94, "ipip"),
    (98, "encap"),
    (102, "pnni"),
    (103, "pim"),
    (108, "IPcomp"),
    (111, "ipx-in-ip"),
    (112, "vrrp"),
    (115, "l2tp"),
    (124, "isis"),
    (132, "sctp"),
    (133, "fc"),
];

/// Room for a name.
const ROOM: usize = 16;

/// By number, with their length; that of what has no name is 0.
static BY_NUMBER: [([u8; ROOM], u8); 256] = {
    let mut names = [([0; ROOM], 0); 256];
    let mut at = 0;
    while at < NAMES.len() {
        let (number, name) = NAMES[at];
        let (room, _) = names[number as usize].0.split_at_mut(name.len());
        room.copy_from_slice(name.as_bytes());
        names[number as usize].1 = name.len() as u8;
        at += 1;
    }
    names
};

/// The name, with what may be behind it, and its length; `None` = it is written as a number.
#[inline]
pub(super) fn name(protocol: u8) -> Option<([u8; ROOM], usize)> {
    let (name, length) = BY_NUMBER[usize::from(protocol)];
    (length > 0).then_some((name, length.into()))
}
