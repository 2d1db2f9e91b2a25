//! What extensions of keys consist of, for a later run: one that asks for more, or for other octets, cannot read them as
//! its own.

use pathflow_common::extension::KeyExtension;
use pathflow_common::flow::{Addresses, WideKey};

use super::layout::{FNV_OFFSET, fnv};
use crate::metering::packets::KeySettings;

/// The packet inside a tunnel is in extensions.
const INNER: u64 = 1;
/// All labels are.
const LABELS: u64 = 1 << 1;
/// Chosen octets are.
const CHOSEN: u64 = 1 << 2;
/// Keys have the IPv6 flow label.
const FLOW_LABEL: u64 = 1 << 3;

const IP_IN_IP: u8 = 4;
const UDP: u8 = 17;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;

/// What the extensions of a run consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExtensionPlan {
    /// Which parts there are.
    pub(super) parts: u64,
    /// Stands for the places of chosen octets.
    pub(super) places: u64,
}

impl ExtensionPlan {
    pub(super) fn new(keys: &KeySettings) -> Self {
        let settings = &keys.extension;
        let parts = [
            (settings.inner, INNER),
            (settings.labels, LABELS),
            (!settings.chosen.is_empty(), CHOSEN),
            (keys.flow_label, FLOW_LABEL),
        ];
        Self {
            parts: parts.iter().filter(|(is_asked, _)| *is_asked).fold(0, |parts, (_, part)| parts | part),
            places: settings
                .chosen_words()
                .iter()
                .fold(FNV_OFFSET, |hash, word| fnv(hash, &word.to_le_bytes())),
        }
    }
}

/// What rows of this run say of a packet, and what an earlier run has counted does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    parts: u64,
    /// UDP destination ports of VXLAN.
    vxlan_ports: Vec<u16>,
}

impl Missing {
    pub(super) fn new(keys: &KeySettings, former: ExtensionPlan) -> Self {
        let own = ExtensionPlan::new(keys);
        let other_octets = if own.places == former.places { 0 } else { CHOSEN };
        Self { parts: own.parts & (!former.parts | other_octets), vxlan_ports: keys.vxlan_ports.clone() }
    }

    const fn has(&self, part: u64) -> bool {
        self.parts & part != 0
    }

    /// Whether rows of packets with this key lack something. (The key is one outside of the kernel's tables.)
    pub(crate) fn concerns(&self, key: &WideKey) -> bool {
        self.has(CHOSEN)
            || (self.has(LABELS) && key.encapsulation().mpls_top_label().is_some())
            || (self.has(INNER) && self.may_be_tunnel(key))
            || (self.has(FLOW_LABEL) && matches!(key.addresses(), Addresses::Ipv6(..)))
    }

    fn may_be_tunnel(&self, key: &WideKey) -> bool {
        let fields = key.fields();
        let [.., d0, d1] = fields.ports;
        match fields.protocol {
            IP_IN_IP | IPV6_IN_IP | GRE => true,
            UDP => self.vxlan_ports.contains(&u16::from_be_bytes([d0, d1])),
            _ => false,
        }
    }

    /// An extension without what would be taken for something else.
    pub(crate) fn cut(&self, mut extension: KeyExtension) -> KeyExtension {
        if self.has(CHOSEN) {
            extension = extension.without_chosen_octets();
        }
        if self.has(LABELS) {
            // The one at the top is no stack. It is in the key.
            extension.labels = KeyExtension::NONE.labels;
            extension.label_count = 0;
        }
        extension
    }

    /// For the operator.
    pub(crate) fn text(&self) -> String {
        let parts = [
            (self.has(INNER), "what is inside tunnels"),
            (self.has(LABELS), "all labels of the MPLS stack"),
            (self.has(CHOSEN), "primitives of your own"),
            (self.has(FLOW_LABEL), "flow labels"),
        ];
        let names: Vec<&str> =
            parts.iter().filter(|(is_missing, _)| *is_missing).map(|(_, name)| *name).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use pathflow_common::extension::{ChosenPlace, Layer};
    use pathflow_common::flow::{Encapsulation, Ipv4Key, KeyFields};

    use super::*;
    use crate::metering::packets::ExtensionSettings;

    fn keys(inner: bool, labels: bool, offsets: &[u16]) -> KeySettings {
        let place = |(destination, offset): (u8, &u16)| ChosenPlace {
            layer: Layer::Network,
            protocol: None,
            offset: *offset,
            length: 1,
            destination,
        };
        let extension = ExtensionSettings { inner, labels, chosen: (0..).zip(offsets).map(place).collect() };
        KeySettings { vxlan_ports: vec![4789], extension, ..KeySettings::default() }
    }

    fn missing(own: &KeySettings, former: &KeySettings) -> Missing {
        Missing::new(own, ExtensionPlan::new(former))
    }

    #[test]
    fn only_what_rows_would_say_is_missing() {
        let all = keys(true, true, &[8, 7]);
        let none = keys(false, false, &[]);
        for (own, former, text) in [
            (&all, &all, ""),
            (&none, &all, ""),
            (&none, &none, ""),
            (&all, &none, "what is inside tunnels, all labels of the MPLS stack, primitives of your own"),
            (&all, &keys(true, false, &[8, 7]), "all labels of the MPLS stack"),
            (&all, &keys(false, true, &[8, 7]), "what is inside tunnels"),
            (&all, &keys(true, true, &[7, 8]), "primitives of your own"),
            (&keys(false, false, &[7]), &all, "primitives of your own"),
            (&KeySettings { flow_label: true, ..all.clone() }, &all, "flow labels"),
            (&all, &KeySettings { flow_label: true, ..all.clone() }, ""),
        ] {
            assert_eq!(missing(own, former).text(), text);
        }
    }

    #[test]
    fn what_would_be_taken_for_something_else_is_cut() {
        let extension = KeyExtension {
            label_count: 1,
            vxlan_network_identifier: 7,
            chosen: [9; 32],
            ..KeyExtension::NONE
        };
        let of = |own: &KeySettings, former: &KeySettings| missing(own, former).cut(extension);
        let all = keys(true, true, &[8]);
        assert_eq!(of(&all, &all), extension);
        assert_eq!(of(&all, &keys(true, true, &[9])), KeyExtension { chosen: [0; 32], ..extension });
        assert_eq!(of(&all, &keys(true, false, &[8])), KeyExtension { label_count: 0, ..extension });

        let fields = KeyFields { protocol: UDP, ports: [0, 1, 0x12, 0xb5], ..KeyFields::default() };
        let plain = Ipv4Key::new(fields, [0; 8]).widen(Encapsulation::NONE);
        let labelled = plain.with_extension(0, Encapsulation::NONE.with_mpls_top_label(16));
        let of_labels = missing(&all, &keys(true, false, &[8]));
        assert!(of_labels.concerns(&labelled) && !of_labels.concerns(&plain));
        assert!(missing(&all, &keys(true, true, &[9])).concerns(&plain));
        // It is to the port of VXLAN.
        assert!(missing(&all, &keys(false, true, &[8])).concerns(&plain));
        assert!(!missing(&all, &all).concerns(&labelled));
    }
}
