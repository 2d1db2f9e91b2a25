//! Routes as lines of JSON, attribute for attribute as pmacct's BGP daemon writes them: names, order, types and blanks.
//!
//! Two deviations: extended communities of unknown kinds are their octets, not `?`, and an attribute that pmacct 1.7.7
//! does not know (`otc`) follows those that it does.

use std::fmt::{Display, Write as _};
use std::net::IpAddr;

use pathflow_bgp::{
    Attributes, Community, ExtendedCommunity, Family, LargeCommunity, MplsLabel, Nlri, Origin,
    RouteDistinguisher,
};

/// From whom routes come: `peer_ip_src` and `peer_tcp_port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerName {
    /// Address of the peer's end of the connection.
    pub address: IpAddr,
    /// Its TCP port; `None` if there is no connection now.
    pub port: Option<u16>,
}

/// What a line says beside the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A line of a table dump.
    Dump,
    /// A line of the message log.
    Log(&'a str),
}

/// A route.
#[derive(Clone, Copy, Debug)]
pub struct RouteLine<'a> {
    /// Its family.
    pub family: Family,
    /// Its destination.
    pub nlri: Nlri,
    /// Whether the session has ADD-PATH for the family: then the path identifier is written, 0 or not.
    pub has_path_id: bool,
    /// Its attributes, if they are known.
    pub attributes: Option<&'a Attributes>,
    /// State of origin validation, as pmacct's letter; `None` without RPKI.
    pub roa: Option<char>,
}

/// Writes lines.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    text: String,
    as_arrays: bool,
    /// Empty = none.
    writer_id: String,
}

impl Lines {
    /// With AS path and communities as arrays, or else as strings with blanks between them.
    #[must_use]
    pub fn new(as_arrays: bool) -> Self {
        Self { text: String::new(), as_arrays, writer_id: String::new() }
    }

    /// Lets every line have this as its last key, `writer_id`: who sent it to a broker.
    #[must_use]
    pub fn with_writer(mut self, id: &str) -> Self {
        id.clone_into(&mut self.writer_id);
        self
    }

    /// What was written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.text.clear();
    }

    /// The first line of a dump; `period` in seconds.
    pub fn dump_init(&mut self, sequence: u64, timestamp: &str, peer: PeerName, period: u64) {
        let mut object = self.object();
        object.head(timestamp, peer, "dump_init");
        object.number("dump_period", period);
        object.number("seq", sequence);
    }

    /// The last line of a dump.
    pub fn dump_close(&mut self, sequence: u64, timestamp: &str, peer: PeerName, entries: u64, tables: u64) {
        let mut object = self.object();
        object.head(timestamp, peer, "dump_close");
        object.number("entries", entries);
        object.number("tables", tables);
        object.number("seq", sequence);
    }

    /// A session of the message log begins (`log_init`) or ends (`log_close`).
    pub fn log_session(&mut self, sequence: u64, timestamp: &str, peer: PeerName, event: &str) {
        let mut object = self.object();
        object.number("seq", sequence);
        object.head(timestamp, peer, event);
    }

    /// End-of-RIB (RFC 4724, section 2) in the message log.
    pub fn end_of_rib(&mut self, sequence: u64, timestamp: &str, peer: PeerName, family: Family) {
        let mut object = self.object();
        object.number("seq", sequence);
        object.display("log_type", "end-of-rib");
        object.head(timestamp, peer, "log");
        object.family(family);
    }

    /// A route.
    pub fn route(
        &mut self,
        sequence: u64,
        timestamp: &str,
        peer: PeerName,
        event: Event<'_>,
        route: &RouteLine<'_>,
    ) {
        let mut object = self.object();
        object.number("seq", sequence);
        if let Event::Log(log_type) = event {
            object.display("log_type", log_type);
        }
        object.head(timestamp, peer, if event == Event::Dump { "dump" } else { "log" });
        object.family(route.family);
        object.display("ip_prefix", route.nlri.prefix);
        if route.has_path_id {
            object.number("as_path_id", u64::from(route.nlri.path_id));
        }
        if let Some(attributes) = route.attributes {
            object.attributes(attributes);
        }
        if let Some(roa) = route.roa {
            object.display("roa", roa);
        }
        object.labelled(route.nlri.route_distinguisher, route.nlri.label);
    }

    fn object(&mut self) -> Object<'_> {
        self.text.push('{');
        let Self { text, as_arrays, writer_id } = self;
        Object { text, is_empty: true, as_arrays: *as_arrays, writer_id }
    }
}

/// One JSON object on a line of its own.
struct Object<'a> {
    text: &'a mut String,
    is_empty: bool,
    as_arrays: bool,
    writer_id: &'a str,
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        if !self.writer_id.is_empty() {
            self.display("writer_id", self.writer_id);
        }
        self.text.push_str("}\n");
    }
}

impl Object<'_> {
    fn key(&mut self, key: &str) {
        if !self.is_empty {
            self.text.push_str(", ");
        }
        self.is_empty = false;
        self.text.extend(["\"", key, "\": "]);
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        // Writing to a string does not fail.
        let _ = write!(self.text, "{value}");
    }

    fn optional(&mut self, key: &str, value: Option<impl Into<u64>>) {
        if let Some(value) = value {
            self.number(key, value.into());
        }
    }

    /// Nothing that is written here needs an escape.
    fn display(&mut self, key: &str, value: impl Display) {
        self.key(key);
        let _ = write!(self.text, "\"{value}\"");
    }

    /// Values with blanks between them; nothing if there are none.
    fn list(&mut self, key: &str, values: impl Iterator<Item = impl Display>) {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return;
        }
        self.key(key);
        let (mut before, between, after) =
            if self.as_arrays { ("[\"", "\", \"", "\"]") } else { ("\"", " ", "\"") };
        for value in values {
            let _ = write!(self.text, "{before}{value}");
            before = between;
        }
        self.text.push_str(after);
    }

    fn head(&mut self, timestamp: &str, peer: PeerName, event_type: &str) {
        self.display("timestamp", timestamp);
        self.display("peer_ip_src", peer.address);
        self.optional("peer_tcp_port", peer.port);
        self.display("event_type", event_type);
    }

    fn family(&mut self, family: Family) {
        self.number("afi", u64::from(family.afi as u16));
        self.number("safi", u64::from(family.safi as u8));
    }

    fn attributes(&mut self, attributes: &Attributes) {
        if let Some(next_hop) = attributes.next_hop {
            self.display("bgp_nexthop", next_hop);
        }
        if self.as_arrays && !attributes.as_path.is_empty() {
            // Sets have commas and no blanks.
            self.list("as_path", attributes.as_path.to_string().split(' '));
        } else {
            self.display("as_path", &attributes.as_path);
        }
        self.list("comms", attributes.communities.iter().copied().map(Community));
        self.list("ecomms", attributes.extended_communities.iter().copied().map(ExtendedCommunity));
        self.list("lcomms", attributes.large_communities.iter().copied().map(LargeCommunity));
        self.display(
            "origin",
            match attributes.origin {
                Origin::Igp => "i",
                Origin::Egp => "e",
                Origin::Incomplete => "u",
            },
        );
        self.optional("local_pref", attributes.local_pref);
        self.optional("med", attributes.multi_exit_disc);
        self.optional("aigp", attributes.aigp);
        self.optional("psid_li", attributes.prefix_sid_label_index);
        self.optional("otc", attributes.only_to_customer);
    }

    fn labelled(&mut self, route_distinguisher: Option<RouteDistinguisher>, label: Option<MplsLabel>) {
        if let Some(route_distinguisher) = route_distinguisher {
            self.display("rd", route_distinguisher);
            self.display("rd_origin", "bgp");
        }
        if let Some(label) = label {
            self.display("label", label.value());
        }
    }
}

#[cfg(test)]
mod tests {
    use pathflow_bgp::{Afi, AsPath, Safi, Segment, SegmentKind};

    use super::*;

    /// As pmbgpd 1.7.7 wrote them of routes of BIRD 2.0.12 and `ExaBGP` 4.2.21.
    const PMBGPD: &str = include_str!("pmbgpd.json");

    fn path(segments: &[(SegmentKind, &[u32])]) -> AsPath {
        let segments =
            segments.iter().map(|(kind, numbers)| Segment { kind: *kind, as_numbers: Box::from(*numbers) });
        AsPath { segments: segments.collect() }
    }

    fn nlri(prefix: &str) -> Nlri {
        Nlri { route_distinguisher: None, prefix: prefix.parse().unwrap(), path_id: 0, label: None }
    }

    #[test]
    fn lines_are_those_of_pmbgpd() {
        let bird = PeerName { address: "127.0.0.1".parse().unwrap(), port: Some(36_043) };
        let exabgp = PeerName { address: "127.0.0.3".parse().unwrap(), port: Some(44_375) };
        let sequence_of = |kind, numbers: &[u32]| path(&[(kind, numbers)]);
        let ipv4 = Family::IPV4_UNICAST;
        let attributes = |next_hop: &str, as_path| Attributes {
            next_hop: Some(next_hop.parse().unwrap()),
            as_path,
            origin: Origin::Igp,
            local_pref: Some(100),
            ..Attributes::default()
        };
        let full = Attributes {
            communities: Box::from([0x1b1b_0064, 0xffff_ff01]),
            extended_communities: Box::from([
                [0, 2, 0xfd, 0xe8, 0, 0, 0, 100],
                [0, 3, 0xfd, 0xe8, 0, 0, 0, 7],
            ]),
            large_communities: Box::from([[397_143, 1, 2]]),
            local_pref: Some(150),
            multi_exit_disc: Some(7),
            ..attributes("127.0.0.1", sequence_of(SegmentKind::Sequence, &[3356, 60_729]))
        };
        let mut lines = Lines::default();
        let line =
            |nlri, attributes| RouteLine { family: ipv4, nlri, has_path_id: false, attributes, roa: None };
        lines.log_session(0, "2026-11-21 17:00:23.539232", bird, "log_init");
        let unknown = Attributes { origin: Origin::Incomplete, ..attributes("127.0.0.1", AsPath::default()) };
        let first = line(nlri("198.51.100.0/24"), Some(&unknown));
        lines.route(1, "2026-11-21 17:00:23.540397", bird, Event::Log("update"), &first);
        let second = line(nlri("192.0.2.0/24"), Some(&full));
        lines.route(2, "2026-11-21 17:00:23.588225", bird, Event::Log("update"), &second);
        let egp = Attributes {
            origin: Origin::Egp,
            ..attributes("127.0.0.1", sequence_of(SegmentKind::Sequence, &[64_512]))
        };
        let third = line(nlri("203.0.113.0/24"), Some(&egp));
        lines.route(3, "2026-11-21 17:00:23.588376", bird, Event::Log("update"), &third);
        let six = attributes("2001:db8::1", sequence_of(SegmentKind::Sequence, &[15_169]));
        let gone = RouteLine { family: Family::IPV6_UNICAST, ..line(nlri("2001:db8:1::/48"), Some(&six)) };
        lines.route(5, "2026-11-21 17:00:27.385600", bird, Event::Log("withdraw"), &gone);
        lines.route(6, "2026-11-21 17:00:28.393813", bird, Event::Log("delete"), &second);
        lines.log_session(9, "2026-11-21 17:00:28.393813", bird, "log_close");

        let at = "2026-11-21 17:01:00";
        let mut dump = |family, nlri, attributes: &Attributes, has_path_id| {
            let route = RouteLine { family, nlri, has_path_id, attributes: Some(attributes), roa: None };
            lines.route(21, at, exabgp, Event::Dump, &route);
        };
        let aggregated = Attributes {
            communities: Box::from([0, 0xffff_029a, 0xffff_ff02, 0xffff_ff03]),
            local_pref: Some(10),
            multi_exit_disc: Some(0),
            aigp: Some(77),
            ..attributes(
                "127.0.0.3",
                path(&[(SegmentKind::Sequence, &[3356]), (SegmentKind::Set, &[64_512, 64_513])]),
            )
        };
        dump(ipv4, Nlri { path_id: 16_909_060, ..nlri("198.18.0.0/15") }, &aggregated, true);
        let label = |value: u32| {
            let [_, a, b, c] = (value << 4).to_be_bytes();
            Some(MplsLabel([a, b, c | 1]))
        };
        let labelled = Family { afi: Afi::Ipv4, safi: Safi::LabelledUnicast };
        let one_two = attributes("127.0.0.3", sequence_of(SegmentKind::Sequence, &[1, 2]));
        let route = Nlri { path_id: 16_909_061, label: label(800_000), ..nlri("100.64.0.0/10") };
        dump(labelled, route, &one_two, true);
        let segment =
            Attributes { prefix_sid_label_index: Some(300), ..attributes("127.0.0.3", AsPath::default()) };
        let route = Nlri { path_id: 16_909_062, label: label(3), ..nlri("100.66.0.0/16") };
        dump(labelled, route, &segment, true);
        let route = Nlri {
            route_distinguisher: Some(RouteDistinguisher([0, 0, 0xfd, 0xe8, 0, 0, 0, 1])),
            label: label(24_001),
            ..nlri("100.65.0.0/16")
        };
        dump(Family { afi: Afi::Ipv4, safi: Safi::MplsVpn }, route, &one_two, true);
        let route = Nlri {
            route_distinguisher: Some(RouteDistinguisher([0, 1, 1, 2, 3, 4, 0, 1])),
            label: label(24_001),
            ..nlri("2001:db8:5::/48")
        };
        let six = attributes("2001:db8::3", AsPath::default());
        dump(Family { afi: Afi::Ipv6, safi: Safi::MplsVpn }, route, &six, true);
        lines.dump_init(21, at, exabgp, 60);
        lines.dump_close(21, at, exabgp, 5, 1);

        let written = std::str::from_utf8(lines.as_bytes()).unwrap();
        for (written, expected) in written.lines().zip(PMBGPD.lines()) {
            assert_eq!(written, expected);
        }
        assert_eq!(written.lines().count(), PMBGPD.lines().count());
    }

    #[test]
    fn lists_may_be_arrays() {
        let peer = PeerName { address: "192.0.2.1".parse().unwrap(), port: None };
        let attributes = Attributes {
            as_path: path(&[(SegmentKind::Sequence, &[3356, 1299]), (SegmentKind::Set, &[64_512, 64_513])]),
            communities: Box::from([0x1b1b_0064, 0xffff_ff01]),
            large_communities: Box::from([[397_143, 1, 2]]),
            ..Attributes::default()
        };
        let (family, nlri) = (Family::IPV4_UNICAST, nlri("192.0.2.0/24"));
        let route = RouteLine { family, nlri, has_path_id: false, attributes: Some(&attributes), roa: None };
        let mut lines = Lines::new(true);
        lines.route(1, "now", peer, Event::Dump, &route);
        let line: serde_json::Value = serde_json::from_slice(lines.as_bytes()).unwrap();
        assert_eq!(line["as_path"], serde_json::json!(["3356", "1299", "{64512,64513}"]));
        assert_eq!(line["comms"], serde_json::json!(["6939:100", "no-export"]));
        assert_eq!(line["lcomms"], serde_json::json!(["397143:1:2"]));
        assert_eq!(line.get("ecomms"), None);
    }

    #[test]
    fn every_line_is_one_json_object() {
        let peer = PeerName { address: "2001:db8::7".parse().unwrap(), port: None };
        let mut lines = Lines::default();
        lines.log_session(1, "now", peer, "log_init");
        let attributes = Attributes {
            extended_communities: Box::from([[0x43, 0, 0, 0, 0, 0, 0, 1]]),
            only_to_customer: Some(64_500),
            ..Attributes::default()
        };
        let route = RouteLine {
            family: Family::IPV4_UNICAST,
            nlri: nlri("0.0.0.0/0"),
            has_path_id: false,
            attributes: Some(&attributes),
            roa: Some('U'),
        };
        lines.route(2, "now", peer, Event::Dump, &route);
        lines.route(3, "now", peer, Event::Log("withdraw"), &RouteLine { attributes: None, ..route });
        lines.end_of_rib(4, "now", peer, Family::IPV6_UNICAST);
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let lines: Vec<_> = std::str::from_utf8(lines.as_bytes()).unwrap().lines().map(parse).collect();
        assert_eq!(lines[0]["timestamp"], "now");
        assert_eq!((&lines[1]["ecomms"], &lines[1]["otc"]), (&"0x4300000000000001".into(), &64_500.into()));
        assert_eq!(lines[1]["roa"], "U");
        assert_eq!((lines[1].get("local_pref"), lines[1].get("bgp_nexthop")), (None, None));
        assert_eq!((&lines[2]["ip_prefix"], lines[2].get("as_path")), (&"0.0.0.0/0".into(), None));
        assert_eq!((&lines[3]["log_type"], &lines[3]["afi"]), (&"end-of-rib".into(), &2.into()));
    }

    #[test]
    fn to_a_broker_the_writer_is_the_last_key_of_every_line() {
        let peer = PeerName { address: "127.0.0.1".parse().unwrap(), port: None };
        let all = |mut lines: Lines| {
            lines.dump_init(1, "2026-11-21 05:40:00", peer, 60);
            let nlri = Nlri {
                prefix: "192.0.2.0/24".parse().unwrap(),
                path_id: 0,
                route_distinguisher: None,
                label: None,
            };
            let family = Family { afi: Afi::Ipv4, safi: Safi::Unicast };
            let route = RouteLine { family, nlri, has_path_id: false, attributes: None, roa: None };
            lines.route(1, "2026-11-21 05:40:00", peer, Event::Dump, &route);
            lines.end_of_rib(2, "2026-11-21 05:40:00.000001", peer, family);
            lines.dump_close(1, "2026-11-21 05:40:00", peer, 1, 1);
            String::from_utf8(lines.as_bytes().to_vec()).unwrap()
        };
        let (without, with) = (all(Lines::new(false)), all(Lines::new(false).with_writer("default/7")));
        assert_eq!(without.lines().count(), 4);
        assert_eq!(with, without.replace("}\n", ", \"writer_id\": \"default/7\"}\n"));
    }
}
