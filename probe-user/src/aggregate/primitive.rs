//! Primitives: the fields that a key can be made of, by pmacct's names (`aggregate` in its CONFIG-KEYS).

use std::fmt;

use super::custom::{CustomPrimitive, CustomPrimitives};

/// Declares each primitive once: its variant, its name in settings, its JSON key and its column title.
macro_rules! primitives {
    (
        $($(#[$doc:meta])* $variant:ident, $name:literal, $json:literal, $title:literal;)*
        --- custom ---
        $($(#[$late_doc:meta])* $late:ident, $late_name:literal, $late_json:literal, $late_title:literal;)*
    ) => {
        /// A field of a key. The order is that of pmacct's output, which sorts by it whatever the settings say.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Primitive {
            $($(#[$doc])* $variant,)*
            /// One of the operator's own, by its number in [`Key::custom`].
            Custom(u8),
            $($(#[$late_doc])* $late,)*
        }

        impl Primitive {
            /// All of them that have a name of their own, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)* $(Self::$late,)*];

            /// Name in the settings; of a custom one, [`CustomPrimitives`] knows it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Custom(_) => CUSTOM,
                    $(Self::$late => $late_name,)*
                }
            }

            /// Key in pmacct's JSON.
            #[must_use]
            pub const fn json_key(self) -> &'static str {
                match self {
                    $(Self::$variant => $json,)*
                    Self::Custom(_) => CUSTOM,
                    $(Self::$late => $late_json,)*
                }
            }

            /// Title of the column in pmacct's CSV and formatted text.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)*
                    Self::Custom(_) => CUSTOM,
                    $(Self::$late => $late_title,)*
                }
            }
        }
    };
}

primitives! {
    /// The operator's number.
    Tag, "tag", "tag", "TAG";
    /// The operator's second number.
    Tag2, "tag2", "tag2", "TAG2";
    /// The operator's text.
    Label, "label", "label", "LABEL";
    /// Application of the flow, by its payload.
    Class, "class", "class", "CLASS";
    /// Source MAC address on the link where packets came in.
    SrcMac, "src_mac", "mac_src", "SRC_MAC";
    /// Destination MAC address on the link where packets went out.
    DstMac, "dst_mac", "mac_dst", "DST_MAC";
    /// Outer VLAN identifier; 0 = none.
    Vlan, "vlan", "vlan", "VLAN";
    /// VLAN in which packets came in; 0 = none, or not known.
    InVlan, "in_vlan", "vlan_in", "IN_VLAN";
    /// VLAN in which packets went out; 0 = none, or not known.
    OutVlan, "out_vlan", "vlan_out", "OUT_VLAN";
    /// Inner VLAN identifier; 0 = none.
    InCvlan, "in_cvlan", "cvlan_in", "IN_CVLAN";
    /// Priority of the outer VLAN tag; 0 = none.
    Cos, "cos", "cos", "COS";
    /// Ethertype of the IP packet.
    Etype, "etype", "etype", "ETYPE";
    /// AS of the source; 0 = unknown.
    SrcAs, "src_as", "as_src", "SRC_AS";
    /// AS of the destination; 0 = unknown.
    DstAs, "dst_as", "as_dst", "DST_AS";
    /// Communities of the route to the destination.
    StdComm, "std_comm", "comms", "COMMS";
    /// Extended communities of the route to the destination.
    ExtComm, "ext_comm", "ecomms", "ECOMMS";
    /// Large communities of the route to the destination.
    LrgComm, "lrg_comm", "lcomms", "LCOMMS";
    /// AS path to the destination.
    AsPath, "as_path", "as_path", "AS_PATH";
    /// Local preference of the route to the destination; 0 = none.
    LocalPref, "local_pref", "local_pref", "PREF";
    /// Multi-exit discriminator of the route to the destination; 0 = none.
    Med, "med", "med", "MED";
    /// Origin validation of the route to the destination.
    DstRoa, "dst_roa", "roa_dst", "DST_ROA";
    /// AS of the neighbour from which packets came; 0 = unknown.
    PeerSrcAs, "peer_src_as", "peer_as_src", "PEER_SRC_AS";
    /// AS of the neighbour to which packets went; 0 = unknown.
    PeerDstAs, "peer_dst_as", "peer_as_dst", "PEER_DST_AS";
    /// Address of this router, as the operator gave it.
    PeerSrcIp, "peer_src_ip", "peer_ip_src", "PEER_SRC_IP";
    /// BGP next hop towards the destination.
    PeerDstIp, "peer_dst_ip", "peer_ip_dst", "PEER_DST_IP";
    /// Communities of the route to the source.
    SrcStdComm, "src_std_comm", "comms_src", "SRC_COMMS";
    /// Extended communities of the route to the source.
    SrcExtComm, "src_ext_comm", "ecomms_src", "SRC_ECOMMS";
    /// Large communities of the route to the source.
    SrcLrgComm, "src_lrg_comm", "lcomms_src", "SRC_LCOMMS";
    /// AS path to the source.
    SrcAsPath, "src_as_path", "as_path_src", "SRC_AS_PATH";
    /// Local preference of the route to the source; 0 = none.
    SrcLocalPref, "src_local_pref", "local_pref_src", "SRC_PREF";
    /// Multi-exit discriminator of the route to the source; 0 = none.
    SrcMed, "src_med", "med_src", "SRC_MED";
    /// Origin validation of the route to the source.
    SrcRoa, "src_roa", "roa_src", "SRC_ROA";
    /// Number of the interface where packets came in; 0 = unknown.
    InIface, "in_iface", "iface_in", "IN_IFACE";
    /// Number of the interface where packets went out; 0 = unknown.
    OutIface, "out_iface", "iface_out", "OUT_IFACE";
    /// Source address.
    SrcHost, "src_host", "ip_src", "SRC_IP";
    /// Source network.
    SrcNet, "src_net", "net_src", "SRC_NET";
    /// Destination address.
    DstHost, "dst_host", "ip_dst", "DST_IP";
    /// Destination network.
    DstNet, "dst_net", "net_dst", "DST_NET";
    /// Prefix length of the source network; 0 = unknown.
    SrcMask, "src_mask", "mask_src", "SRC_MASK";
    /// Prefix length of the destination network; 0 = unknown.
    DstMask, "dst_mask", "mask_dst", "DST_MASK";
    /// Source port of TCP and UDP; else 0.
    SrcPort, "src_port", "port_src", "SRC_PORT";
    /// Destination port of TCP and UDP; else 0.
    DstPort, "dst_port", "port_dst", "DST_PORT";
    /// Country of the source address.
    SrcHostCountry, "src_host_country", "country_ip_src", "SH_COUNTRY";
    /// Country of the destination address.
    DstHostCountry, "dst_host_country", "country_ip_dst", "DH_COUNTRY";
    /// Postal code of the source address.
    SrcHostPocode, "src_host_pocode", "pocode_ip_src", "SH_POCODE";
    /// Postal code of the destination address.
    DstHostPocode, "dst_host_pocode", "pocode_ip_dst", "DH_POCODE";
    /// Latitude of the source address. Coordinates of one address have one name, and come together.
    SrcHostLatitude, "src_host_coords", "lat_ip_src", "SH_LAT";
    /// Longitude of the source address.
    SrcHostLongitude, "src_host_coords", "lon_ip_src", "SH_LON";
    /// Latitude of the destination address.
    DstHostLatitude, "dst_host_coords", "lat_ip_dst", "DH_LAT";
    /// Longitude of the destination address.
    DstHostLongitude, "dst_host_coords", "lon_ip_dst", "DH_LON";
    /// TCP flags of all packets, or-ed; not a part of the key.
    TcpFlags, "tcpflags", "tcp_flags", "TCP_FLAGS";
    /// All labels of the MPLS stack, from the top; empty = none.
    MplsLabelStack, "mpls_label_stack", "mpls_label_stack", "MPLS_LABEL_STACK";
    /// IP protocol.
    Proto, "proto", "ip_proto", "PROTOCOL";
    /// Type of service or traffic class.
    Tos, "tos", "tos", "TOS";
    /// Packets for each one that is counted; 1 = every packet is, or counts are multiplied.
    SamplingRate, "sampling_rate", "sampling_rate", "SAMPLING_RATE";
    /// Direction at the interface where packets were counted.
    SamplingDirection, "sampling_direction", "sampling_direction", "SAMPLING_DIRECTION";
    /// Top MPLS label; 0 = none.
    MplsLabelTop, "mpls_label_top", "mpls_label_top", "MPLS_LABEL_TOP";
    /// Bottom MPLS label; 0 = none.
    MplsLabelBottom, "mpls_label_bottom", "mpls_label_bottom", "MPLS_LABEL_BOTTOM";
    /// Number of MPLS labels.
    MplsStackDepth, "mpls_stack_depth", "mpls_stack_depth", "MPLS_STACK_DEPTH";
    /// Source MAC address of the packet inside a tunnel; zero = none.
    TunnelSrcMac, "tunnel_src_mac", "tunnel_mac_src", "TUNNEL_SRC_MAC";
    /// Destination MAC address of the packet inside a tunnel; zero = none.
    TunnelDstMac, "tunnel_dst_mac", "tunnel_mac_dst", "TUNNEL_DST_MAC";
    /// Source address of the packet inside a tunnel.
    TunnelSrcHost, "tunnel_src_host", "tunnel_ip_src", "TUNNEL_SRC_IP";
    /// Destination address of the packet inside a tunnel.
    TunnelDstHost, "tunnel_dst_host", "tunnel_ip_dst", "TUNNEL_DST_IP";
    /// IP protocol of the packet inside a tunnel.
    TunnelProto, "tunnel_proto", "tunnel_ip_proto", "TUNNEL_PROTOCOL";
    /// Type of service or traffic class of the packet inside a tunnel.
    TunnelTos, "tunnel_tos", "tunnel_tos", "TUNNEL_TOS";
    /// IPv6 flow label of the packet inside a tunnel.
    TunnelFlowLabel, "tunnel_flow_label", "tunnel_flow_label", "TUNNEL_FLOW_LABEL";
    /// Source port of the packet inside a tunnel, of TCP and UDP; else 0.
    TunnelSrcPort, "tunnel_src_port", "tunnel_port_src", "TUNNEL_SRC_PORT";
    /// Destination port of the packet inside a tunnel, of TCP and UDP; else 0.
    TunnelDstPort, "tunnel_dst_port", "tunnel_port_dst", "TUNNEL_DST_PORT";
    /// TCP flags of all packets inside tunnels, or-ed; not a part of the key.
    TunnelTcpFlags, "tunnel_tcpflags", "tunnel_tcp_flags", "TUNNEL_TCP_FLAGS";
    /// VXLAN network identifier; 0 = none.
    Vxlan, "vxlan", "vxlan", "VXLAN";
    /// Time of the first packet.
    TimestampStart, "timestamp_start", "timestamp_start", "TIMESTAMP_START";
    /// Time of the last packet.
    TimestampEnd, "timestamp_end", "timestamp_end", "TIMESTAMP_END";
    /// Time at which packets were seen: that of the first.
    TimestampArrival, "timestamp_arrival", "timestamp_arrival", "TIMESTAMP_ARRIVAL";
    /// Time of the first packet of the row; not a part of the key.
    TimestampMin, "timestamp_min", "timestamp_min", "TIMESTAMP_MIN";
    /// Time of the last packet of the row; not a part of the key.
    TimestampMax, "timestamp_max", "timestamp_max", "TIMESTAMP_MAX";
    --- custom ---
    /// Flows that began among these packets; not a part of the key.
    Flows, "flows", "flows", "FLOWS";
    /// Name of the interface where packets came in.
    InIfaceName, "in_iface_name", "iface_name_in", "IN_IFACE_NAME";
    /// Name of the interface where packets went out.
    OutIfaceName, "out_iface_name", "iface_name_out", "OUT_IFACE_NAME";
}

/// What stands for the name of a custom primitive.
const CUSTOM: &str = "custom";

impl Primitive {
    /// Whether it is of the packet inside a tunnel.
    #[must_use]
    pub const fn is_of_tunnel(self) -> bool {
        matches!(
            self,
            Self::TunnelSrcMac
                | Self::TunnelDstMac
                | Self::TunnelSrcHost
                | Self::TunnelDstHost
                | Self::TunnelProto
                | Self::TunnelTos
                | Self::TunnelFlowLabel
                | Self::TunnelSrcPort
                | Self::TunnelDstPort
                | Self::TunnelTcpFlags
        )
    }

    /// Whether it is of MPLS labels below the top.
    #[must_use]
    pub const fn is_of_label_stack(self) -> bool {
        matches!(self, Self::MplsLabelBottom | Self::MplsLabelStack | Self::MplsStackDepth)
    }

    /// Whether it is of where an address is.
    #[must_use]
    pub const fn is_of_place(self) -> bool {
        matches!(
            self,
            Self::SrcHostCountry
                | Self::DstHostCountry
                | Self::SrcHostPocode
                | Self::DstHostPocode
                | Self::SrcHostLatitude
                | Self::SrcHostLongitude
                | Self::DstHostLatitude
                | Self::DstHostLongitude
        )
    }
}

/// Primitives of pmacct that cannot be had here, and why.
const UNAVAILABLE: &[(&str, &str)] = &[
    ("out_cvlan", "a flow has the VLAN of the interface where it was seen; use in_cvlan"),
    ("mpls_vpn_rd", "a router's VPNs are not known"),
    ("mpls_pw_id", "pseudowires are not known"),
    ("flow_label", "the IPv6 flow label is not a part of a flow here"),
    ("fwd_status", "packets are counted before the router has decided on them"),
    ("nat_event", "address translation is not followed"),
    ("fw_event", "what the firewall decides is not followed"),
    ("vrf_name", "VRFs are not known"),
    ("ingress_vrf_name", "VRFs are not known"),
    ("egress_vrf_name", "VRFs are not known"),
    (
        "nvgre",
        "NVGRE is not looked into; capture.tunnels = \"inner\" counts packets inside GRE, IP in IP and VXLAN",
    ),
    ("timestamp_export", "nothing was exported to pathflow"),
    ("export_proto_seqno", "nothing was exported to pathflow"),
    ("export_proto_version", "nothing was exported to pathflow"),
    ("export_proto_sysid", "nothing was exported to pathflow"),
    ("srv6_seg_ipv6_list", "segment lists are not a part of a flow"),
];

/// Beginnings of names of further primitives that cannot be had, and why.
const UNAVAILABLE_FAMILIES: &[(&str, &str)] = &[
    ("post_nat_", "address translation is not followed: addresses and ports are those on the wire"),
    ("path_delay_", "delays are not measured"),
];

/// Primitives that make a key of both ends of each packet, with the primitive that they are written as.
const BOTH_ENDS: &[(&str, Primitive)] = &[
    ("sum_host", Primitive::SrcHost),
    ("sum_net", Primitive::SrcNet),
    ("sum_as", Primitive::SrcAs),
    ("sum_port", Primitive::SrcPort),
    ("sum_mac", Primitive::SrcMac),
];

/// What rows are told apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// In order, each one once. Empty: there is one row.
    pub primitives: Vec<Primitive>,
    /// Each packet counts for both of its ends: pmacct's `sum_host` and so on. There is one primitive then.
    pub both_ends: bool,
    /// The operator's own primitives, as they were listed.
    pub custom: CustomPrimitives,
}

/// A primitive that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrimitiveError {
    /// It is pmacct's, but cannot be had here.
    #[error("{0}")]
    Unavailable(&'static str),
    /// Nobody knows it.
    #[error("it is not a primitive; did you mean {0:?}?")]
    Unknown(&'static str),
    /// It is for a key of its own.
    #[error("it counts both ends of each packet, and has to be the only primitive")]
    NotAlone,
}

impl Key {
    /// Whether it has anything of a route that is not in the numbers of a record.
    #[must_use]
    pub fn asks_attributes(&self) -> bool {
        use Primitive as P;
        let of_routes = [
            [P::StdComm, P::ExtComm, P::LrgComm, P::AsPath, P::LocalPref, P::Med],
            [P::SrcStdComm, P::SrcExtComm, P::SrcLrgComm, P::SrcAsPath, P::SrcLocalPref, P::SrcMed],
        ];
        of_routes.as_flattened().iter().any(|primitive| self.primitives.contains(primitive))
    }

    /// Whether it has anything of where addresses are.
    #[must_use]
    pub fn asks_places(&self) -> bool {
        self.primitives.iter().any(|primitive| primitive.is_of_place())
    }

    /// The same, where every row says when its first and its last packet came (pmacct's `stitching`).
    #[must_use]
    pub fn with_stitching(mut self) -> Self {
        self.primitives.extend([Primitive::TimestampMin, Primitive::TimestampMax]);
        self.primitives.sort_unstable();
        self.primitives.dedup();
        self
    }

    /// Reads a list of names. `none` stands for no primitive.
    ///
    /// # Errors
    /// The name that cannot be used, and why.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, (String, PrimitiveError)> {
        Self::parse_with(names, &[])
    }

    /// The same, where names may be those of `custom` primitives. Those come in the order of `names`.
    ///
    /// # Errors
    /// The name that cannot be used, and why.
    pub fn parse_with<S: AsRef<str>>(
        names: &[S],
        custom: &[CustomPrimitive],
    ) -> Result<Self, (String, PrimitiveError)> {
        let mut key = Self::default();
        let mut used: Vec<CustomPrimitive> = Vec::new();
        for name in names.iter().map(|name| name.as_ref().trim()) {
            let fail = |error| Err((name.to_owned(), error));
            if let Some((_, primitive)) = BOTH_ENDS.iter().find(|(both, _)| *both == name) {
                if names.len() > 1 {
                    return fail(PrimitiveError::NotAlone);
                }
                return Ok(Self { primitives: vec![*primitive], both_ends: true, ..Self::default() });
            }
            if let Some(primitive) = custom.iter().find(|primitive| primitive.name == name) {
                if !used.contains(primitive) {
                    used.push(primitive.clone());
                }
                continue;
            }
            match name {
                "none" => {}
                _ => match primitives(name) {
                    Ok(primitives) => key.primitives.extend(primitives),
                    Err(error) => return fail(error),
                },
            }
        }
        key.primitives.extend((0..=u8::MAX).zip(&used).map(|(number, _)| Primitive::Custom(number)));
        key.custom = used.into_iter().collect();
        key.primitives.sort_unstable();
        key.primitives.dedup();
        Ok(key)
    }
}

/// Keys of pmacct's JSON that no primitive has.
const OTHER_KEYS: &[&str] =
    &["event_type", "stamp_inserted", "stamp_updated", "packets", "bytes", "writer_id"];

/// Whether a name stands for something already, in settings or in rows.
#[must_use]
pub fn is_taken(name: &str) -> bool {
    let is = |primitive: &Primitive| primitive.name() == name || primitive.json_key() == name;
    name == "none"
        || Primitive::ALL.iter().any(is)
        || BOTH_ENDS.iter().any(|(both, _)| *both == name)
        || OTHER_KEYS.contains(&name)
}

/// Those with this name.
fn primitives(name: &str) -> Result<impl Iterator<Item = Primitive>, PrimitiveError> {
    let named = Primitive::ALL.iter().copied().filter(move |primitive| primitive.name() == name);
    if named.clone().next().is_some() {
        return Ok(named);
    }
    let families = UNAVAILABLE_FAMILIES.iter().filter(|(beginning, _)| name.starts_with(beginning));
    let singles = UNAVAILABLE.iter().filter(|(unavailable, _)| *unavailable == name);
    if let Some((_, reason)) = singles.chain(families).next() {
        return Err(PrimitiveError::Unavailable(reason));
    }
    let names = Primitive::ALL.iter().map(|primitive| primitive.name());
    let both = BOTH_ENDS.iter().map(|(name, _)| *name);
    let nearest = names.chain(both).chain(["none"]);
    let nearest = nearest.min_by_key(|known| strsim::damerau_levenshtein(name, known));
    Err(PrimitiveError::Unknown(nearest.unwrap_or("none")))
}

impl fmt::Display for Primitive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_output() {
        // The order of the golden sample in pmacct's JSON.
        let key =
            Key::parse(&["tos", "proto", "dst_port", "src_port", "dst_host", "src_host", "label"]).unwrap();
        let json: Vec<&str> = key.primitives.iter().map(|primitive| primitive.json_key()).collect();
        assert_eq!(json, ["label", "ip_src", "ip_dst", "port_src", "port_dst", "ip_proto", "tos"]);
        assert_eq!(Key::parse(&["proto", " proto"]).unwrap().primitives, [Primitive::Proto]);
        assert_eq!(Key::parse(&["none"]).unwrap(), Key::default());
    }

    #[test]
    fn stitching_adds_two_times_that_are_not_told_apart_by() {
        let key = Key::parse(&["src_host", "flows", "timestamp_arrival"]).unwrap().with_stitching();
        let json: Vec<&str> = key.primitives.iter().map(|primitive| primitive.json_key()).collect();
        assert_eq!(json, ["ip_src", "timestamp_arrival", "timestamp_min", "timestamp_max", "flows"]);
        assert_eq!(key.clone().with_stitching(), key);
        let key = Key::parse(&["sum_host"]).unwrap().with_stitching();
        assert!(key.both_ends && key.primitives.len() == 3);
    }

    #[test]
    fn both_ends_are_for_a_key_alone() {
        let key = Key::parse(&["sum_host"]).unwrap();
        assert_eq!((key.primitives, key.both_ends), (vec![Primitive::SrcHost], true));
        assert_eq!(
            Key::parse(&["sum_as", "proto"]).unwrap_err(),
            ("sum_as".to_owned(), PrimitiveError::NotAlone)
        );
        assert!(Key::parse(&["proto", "sum_net"]).is_err());
    }

    /// Of the primitives in pmacct's CONFIG-KEYS (August 2026) and `pmacctd -a` (1.7.7).
    const UNAVAILABLE_OF_PMACCT: &str = "out_cvlan flow_label mpls_vpn_rd mpls_pw_id \
        nat_event fw_event post_nat_src_host post_nat_dst_host \
        post_nat_src_port post_nat_dst_port fwd_status nvgre \
        timestamp_export export_proto_seqno export_proto_version export_proto_sysid path_delay_avg_usec \
        path_delay_min_usec path_delay_max_usec srv6_seg_ipv6_list vrf_name ingress_vrf_name egress_vrf_name";
    /// The others.
    const OF_PMACCT: &str = "src_mac dst_mac vlan in_vlan out_vlan in_cvlan cos etype src_host dst_host src_net dst_net src_mask dst_mask \
        src_as dst_as src_port dst_port tos proto none flows tag tag2 label class tcpflags in_iface out_iface in_iface_name \
        out_iface_name std_comm ext_comm lrg_comm as_path peer_src_ip peer_dst_ip peer_src_as peer_dst_as local_pref \
        med dst_roa src_std_comm src_ext_comm src_lrg_comm src_as_path src_local_pref src_med src_roa mpls_label_top \
        mpls_label_bottom mpls_label_stack mpls_stack_depth tunnel_src_mac tunnel_dst_mac tunnel_src_host tunnel_dst_host \
        tunnel_proto tunnel_tos tunnel_src_port tunnel_dst_port tunnel_tcpflags tunnel_flow_label \
        sampling_rate sampling_direction vxlan timestamp_start timestamp_end timestamp_arrival";

    #[test]
    fn what_pmacct_has_besides_can_be_had() {
        let names: Vec<&str> = OF_PMACCT.split_whitespace().collect();
        assert_eq!(Key::parse(&names).unwrap().primitives.len(), names.len() - 1);
        for name in ["sum_host", "sum_net", "sum_as", "sum_port", "sum_mac"] {
            assert!(Key::parse(&[name]).unwrap().both_ends, "{name}");
        }
    }

    #[test]
    fn coordinates_come_together() {
        let key = Key::parse(&["dst_host_coords", "src_host_country"]).unwrap();
        let keys: Vec<&str> = key.primitives.iter().map(|primitive| primitive.json_key()).collect();
        assert_eq!(keys, ["country_ip_src", "lat_ip_dst", "lon_ip_dst"]);
        assert!(key.asks_places() && !Key::parse(&["src_host"]).unwrap().asks_places());
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_the_reason() {
        for name in UNAVAILABLE_OF_PMACCT.split_whitespace() {
            let (named, error) = Key::parse(&["src_host", name]).unwrap_err();
            assert_eq!(named, name);
            assert!(matches!(error, PrimitiveError::Unavailable(_)), "{name}: {error}");
        }
        let (_, error) = Key::parse(&["src_hots"]).unwrap_err();
        assert_eq!(error, PrimitiveError::Unknown("src_host"));
    }
}
