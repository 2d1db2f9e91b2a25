//! Checks `[[capture.primitive]]`: octets of packets that aggregates can have in their keys.

use pathflow_common::extension::{CHOSEN_OCTETS, CHOSEN_OFFSETS, CHOSEN_PLACES, ChosenPlace, Layer};

use super::{ConfigError, invalid, raw};
use crate::aggregate::{CustomPrimitive, is_taken};

/// The operator's own primitives that an aggregate asks for, and where their octets are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Custom {
    pub(super) primitives: Vec<CustomPrimitive>,
    pub(super) places: Vec<ChosenPlace>,
}

/// Checks all that are defined. Those that no aggregate has in its key take no room.
pub(super) fn settings(
    defined: &[raw::CapturePrimitive],
    aggregates: &[raw::Aggregate],
) -> Result<Custom, ConfigError> {
    let mut custom = Custom::default();
    let mut octets = 0;
    for (number, primitive) in defined.iter().enumerate() {
        let key = |name: &str| format!("capture.primitive[{number}].{name}");
        let raw::CapturePrimitive { name, at, length, semantics } = primitive;
        check_name(name).map_err(|reason| invalid(key("name"), name, reason))?;
        if defined.iter().take(number).any(|other| other.name == *name) {
            return Err(invalid(key("name"), name, "another primitive has this name"));
        }
        if !semantics.has_length(*length) || usize::from(*length) > CHOSEN_OCTETS {
            let reason = format!(
                "{name} is {semantics}, of which there are {} octets, and {CHOSEN_OCTETS} at most",
                semantics.lengths()
            );
            return Err(invalid(key("length"), length, reason));
        }
        if at.is_empty() {
            let reason = format!("{name} is nowhere; write a place such as \"l4:17+4\"");
            return Err(invalid(key("at"), &"[]", reason));
        }
        let mut places = Vec::new();
        for text in at {
            let place = place(text, *length, octets)
                .map_err(|reason| invalid(key("at"), text, format!("{reason} (it is a place of {name})")))?;
            places.push(place);
        }
        if !aggregates.iter().flat_map(|aggregate| &aggregate.key).any(|used| used.trim() == name) {
            continue;
        }
        if usize::from(octets) + usize::from(*length) > CHOSEN_OCTETS {
            let reason = format!(
                "{name} would be more than the {CHOSEN_OCTETS} octets that primitives in keys of aggregates can have \
                 together"
            );
            return Err(invalid(key("length"), length, reason));
        }
        if custom.places.len() + places.len() > CHOSEN_PLACES {
            let reason = format!(
                "{name} would have more than the {CHOSEN_PLACES} places that primitives in keys of aggregates can have \
                 together"
            );
            return Err(invalid(key("at"), &at.join(", "), reason));
        }
        custom.places.append(&mut places);
        custom.primitives.push(CustomPrimitive {
            name: name.clone(),
            semantics: *semantics,
            length: *length,
            offset: octets,
        });
        octets += length;
    }
    Ok(custom)
}

/// Checks a definition alone.
pub(crate) fn check(defined: &raw::CapturePrimitive) -> Result<(), ConfigError> {
    settings(std::slice::from_ref(defined), &[]).map(drop)
}

/// They are keys of JSON and titles of columns.
fn check_name(name: &str) -> Result<(), &'static str> {
    let is_name = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_name) {
        return Err("a name has letters, digits, -, _ and ., and 64 at most");
    }
    if is_taken(name) {
        return Err("a primitive of pathflow's or a key of its rows has this name");
    }
    Ok(())
}

/// Reads `LAYER[:[PROTOCOL]][+OFFSET]`, as pmacct's `packet_ptr` has it.
fn place(text: &str, length: u8, destination: u8) -> Result<ChosenPlace, String> {
    let (place, offset) = text.split_once('+').unwrap_or((text, "0"));
    let (layer, protocol) = place.split_once(':').unwrap_or((place, ""));
    let layer = match layer {
        "packet" => Layer::Packet,
        "mac" => Layer::Mac,
        "vlan" => Layer::Vlan,
        "mpls" => Layer::Mpls,
        "l3" => Layer::Network,
        "l4" => Layer::Transport,
        "payload" => Layer::Payload,
        other => {
            return Err(format!("{other:?} is not one of packet, mac, vlan, mpls, l3, l4 and payload"));
        }
    };
    let most = match layer {
        Layer::Network => u16::MAX,
        Layer::Transport | Layer::Payload => u8::MAX.into(),
        Layer::Packet | Layer::Mac | Layer::Vlan | Layer::Mpls => 0,
    };
    let protocol = match (protocol, most) {
        ("", _) => None,
        (_, 0) => return Err("only l3, l4 and payload can have a protocol".to_owned()),
        (protocol, most) => {
            let number = match protocol.strip_prefix("0x") {
                Some(digits) => u16::from_str_radix(digits, 16).ok(),
                None => protocol.parse().ok(),
            };
            let number = number.filter(|number| *number <= most);
            Some(number.ok_or_else(|| format!("protocol {protocol:?} is not a number up to {most}"))?)
        }
    };
    let last = CHOSEN_OFFSETS - 1;
    let offset = offset.parse().ok().filter(|offset| usize::from(*offset) <= last);
    let offset = offset.ok_or_else(|| format!("its offset is not a number from 0 to {last}"))?;
    Ok(ChosenPlace { layer, protocol, offset, length, destination })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, Overrides, parse};
    use super::*;
    use crate::aggregate::{Primitive, Semantics};

    fn resolve(text: &str) -> Result<Config, String> {
        let raw = parse(Path::new("probe.toml"), text).map_err(|error| error.to_string())?;
        Config::resolve(raw, Overrides::default()).map_err(|error| error.to_string())
    }

    const TTL: &str = "[[capture.primitive]]\nname = \"ttl\"\nat = [\"l3:0x800+8\", \"l3:0x86dd+7\"]\nlength = 1\n\
                       semantics = \"u_int\"\n";
    const WINDOW: &str =
        "[[capture.primitive]]\nname = \"window\"\nat = [\"l4:6+14\"]\nlength = 2\nsemantics = \"u_int\"\n";

    fn aggregate(name: &str, key: &[&str]) -> String {
        format!("[[aggregate]]\nname = {name:?}\nkey = {key:?}\n[aggregate.stdout]\n")
    }

    #[test]
    fn what_aggregates_ask_for_has_a_place() {
        let unused = TTL.replace("\"ttl\"", "\"other\"");
        let aggregates =
            [aggregate("a", &["window", "src_host", "ttl"]), aggregate("b", &["window"])].concat();
        let config = resolve(&[&unused, TTL, WINDOW, &aggregates].concat()).unwrap();
        let place = |layer, protocol, offset, length, destination| ChosenPlace {
            layer,
            protocol: Some(protocol),
            offset,
            length,
            destination,
        };
        assert_eq!(
            config.keys.extension.chosen,
            [
                place(Layer::Network, 0x800, 8, 1, 0),
                place(Layer::Network, 0x86dd, 7, 1, 0),
                place(Layer::Transport, 6, 14, 2, 1),
            ]
        );
        let [a, b] = &config.aggregates[..] else { panic!() };
        // In the order of the key, behind what pmacct has.
        assert_eq!(a.key.primitives, [Primitive::SrcHost, Primitive::Custom(0), Primitive::Custom(1)]);
        let names = |number| a.key.custom.name(Primitive::Custom(number));
        assert_eq!([names(0), names(1)], ["window", "ttl"]);
        let window =
            CustomPrimitive { name: "window".into(), semantics: Semantics::UInt, length: 2, offset: 1 };
        assert_eq!(b.key.custom.get(0), Some(&window));
        let without = resolve(&[TTL, &aggregate("a", &["src_host"])].concat()).unwrap();
        assert!(!without.keys.extension.is_any());
        let error = config.clone().bind_aggregates(&without, false).unwrap_err();
        assert_eq!(
            error,
            "aggregate a: key: packets are told apart by \"window\" only if an aggregate has it, of the same octets, at \
             the start: it needs a restart"
        );
        assert_eq!(without.clone().bind_aggregates(&config, false), Ok(()));
    }

    /// The kernel program goes on to put octets where it does since the start, whatever is asked for now.
    #[test]
    fn primitives_go_and_come_back_without_a_restart() {
        let (ttl, window) = (aggregate("a", &["ttl"]), aggregate("b", &["window"]));
        let started = resolve(&[TTL, WINDOW, &ttl, &window].concat()).unwrap();
        let bind = |text: &[&str]| {
            let mut config = resolve(&text.concat()).unwrap();
            config.bind_aggregates(&started, false).map(|()| config.aggregates)
        };
        // The first one is gone, or they are written in another order: the aggregates that are left are the same.
        assert_eq!(bind(&[TTL, WINDOW, &window]).unwrap(), started.aggregates[1..]);
        assert_eq!(bind(&[WINDOW, &window]).unwrap(), started.aggregates[1..]);
        assert_eq!(bind(&[WINDOW, TTL, &ttl, &window]).unwrap(), started.aggregates);
        // Another name is another name of the same octets, which another aggregate can have as well.
        let other = [&WINDOW.replace("window", "size"), TTL, &aggregate("c", &["size", "ttl"])].concat();
        let [c] = &bind(&[&other]).unwrap()[..] else { panic!() };
        let offset = |number| c.key.custom.get(number).map(|custom| (custom.name.as_str(), custom.offset));
        assert_eq!((offset(0), offset(1)), (Some(("size", 1)), Some(("ttl", 0))));
        // Other octets, or more of them, are not there.
        for changed in
            [WINDOW.replace("+14", "+4"), WINDOW.replace("[\"l4:6+14\"]", "[\"l4:6+14\", \"l4:17+4\"]")]
        {
            let error = bind(&[&changed, &window]).unwrap_err();
            assert!(
                error.starts_with("aggregate b: key: packets are told apart by \"window\" only if"),
                "{error}"
            );
        }
        for (name, what) in [
            ("tunnel_tos", "what is inside tunnels"),
            ("vxlan", "what is inside tunnels"),
            ("mpls_label_bottom", "all labels of the MPLS stack"),
        ] {
            let error = bind(&[&aggregate("e", &[name])]).unwrap_err();
            let expected = format!(
                "aggregate e: key: packets are told apart by {name:?} only if an aggregate asks for {what} at the start: it \
                 needs a restart"
            );
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn places_are_those_of_pmacct() {
        let read =
            |text: &str| place(text, 1, 0).map(|place| (place.layer, place.protocol, place.offset)).ok();
        assert_eq!(read("packet"), Some((Layer::Packet, None, 0)));
        assert_eq!(read("mac:+12"), Some((Layer::Mac, None, 12)));
        assert_eq!(read("vlan:+0"), Some((Layer::Vlan, None, 0)));
        assert_eq!(read("mpls+4"), Some((Layer::Mpls, None, 4)));
        assert_eq!(read("l3:2048+9"), Some((Layer::Network, Some(0x800), 9)));
        assert_eq!(read("l4:17"), Some((Layer::Transport, Some(17), 0)));
        assert_eq!(read("payload:+3"), Some((Layer::Payload, None, 3)));
        for wrong in ["", "l5", "mac:0x800+1", "l4:256", "l3:x", "l3:0x10000", "l3+-1", "l3+16384", "l3+1+1"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_the_name() {
        let uses = aggregate("a", &["src_host", "p", "q", "r", "s"]);
        let primitive = |name: &str, at: &str, length: u32, semantics: &str| {
            format!(
                "[[capture.primitive]]\nname = {name:?}\nat = [{at}]\nlength = {length}\nsemantics = {semantics:?}\n"
            )
        };
        let p = |length, semantics| primitive("p", "\"l3+1\"", length, semantics);
        let places = |name, count| primitive(name, &["\"l4+1\""].repeat(count).join(","), 1, "raw");
        for (text, expected) in [
            (
                p(3, "u_int"),
                "4:1: capture.primitive.length: \"3\" cannot be used: p is u_int, of which there are 1, 2, 4 or 8",
            ),
            (p(8, "ip"), "p is ip, of which there are 4 or 16 octets"),
            (p(4, "mac"), "p is mac, of which there are 6 octets"),
            (p(0, "raw"), "p is raw, of which there are at least 1 octets"),
            (p(33, "str"), "p is str, of which there are at least 1 octets, and 32 at most"),
            (
                primitive("src_host", "\"l3\"", 1, "raw"),
                "2:1: capture.primitive.name: \"src_host\" cannot be used: a primitive",
            ),
            (primitive("bytes", "\"l3\"", 1, "raw"), "a key of its rows has this name"),
            (primitive("a b", "\"l3\"", 1, "raw"), "a name has letters"),
            (primitive("p", "", 1, "raw"), "p is nowhere"),
            (primitive("p", "\"l9+1\"", 1, "raw"), "\"l9\" is not one of packet, mac"),
            (
                [p(1, "raw"), p(1, "hex")].concat(),
                "7:1: capture.primitive.name: \"p\" cannot be used: another",
            ),
            (
                ["p", "q", "r"].map(|name| primitive(name, "\"l3\"", 16, "ip")).concat(),
                "14:1: capture.primitive.length: \"16\" cannot be used: r would be more than the 32 octets",
            ),
            ([places("p", 9), places("s", 8)].concat(), "s would have more than the 16 places"),
        ] {
            let all = [&text, &*uses].concat();
            let error = resolve(&all).unwrap_err();
            assert!(error.starts_with("probe.toml:") && error.contains(expected), "{error}");
        }
        let error = resolve(&[p(1, "raw").replace("raw", "text"), uses].concat()).unwrap_err();
        assert!(error.starts_with("probe.toml:5:") && error.contains("`u_int`"), "{error}");
        let error = resolve(&aggregate("a", &["ttl"])).unwrap_err();
        assert!(error.contains("\"ttl\" cannot be used: it is not a primitive"), "{error}");
    }

    #[test]
    fn tunnels_and_label_stacks_are_looked_into_where_an_aggregate_asks() {
        for (name, inner, labels) in [
            ("tunnel_src_host", true, false),
            ("tunnel_tcpflags", true, false),
            ("vxlan", true, false),
            ("mpls_label_bottom", false, true),
            ("mpls_label_stack", false, true),
            ("mpls_stack_depth", false, true),
            ("mpls_label_top", false, false),
        ] {
            let extension = resolve(&aggregate("a", &[name])).unwrap().keys.extension;
            assert_eq!((extension.inner, extension.labels), (inner, labels), "{name}");
        }
        let inside = "[capture]\ntunnels = \"inner\"\n";
        let error = resolve(&[inside, &aggregate("edge", &["tunnel_tos"])].concat()).unwrap_err();
        assert_eq!(
            error,
            "probe.toml:2:1: capture.tunnels: \"inner\" cannot be used: aggregate edge has tunnel_tos in its key, and \
             with \"inner\" the packet inside is the flow's own: use tos, or \"outer\""
        );
        let config = resolve(&[inside, &aggregate("a", &["vxlan"])].concat()).unwrap();
        assert!(config.keys.inner && !config.keys.extension.is_any());
    }
}
