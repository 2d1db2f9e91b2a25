//! What a collector is told about the Observation Points, beside the flows: interfaces and sampling.

/// Interfaces and Selectors, for options data (RFC 7011, section 3.4.2; RFC 3954, section 6.1).
///
/// A snapshot: the caller makes a new one when something changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservationContext {
    /// Interfaces that ingressInterface and egressInterface of records refer to.
    pub interfaces: Vec<InterfaceInfo>,
    /// Selectors that `selector_id` of records refers to. A record that refers to a Selector that is not here
    /// would not be scaled by a collector that goes by options data.
    pub selectors: Vec<Selector>,
}

impl ObservationContext {
    /// Whether there is nothing to tell.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.interfaces.is_empty() && self.selectors.is_empty()
    }
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceInfo {
    /// Index, as in records.
    pub index: u32,
    /// interfaceName, such as `eth0`; 31 octets of it are exported.
    pub name: String,
    /// interfaceDescription, such as `to AS 64500`; 63 octets of it are exported. If empty, the name is exported
    /// in its place, since nfdump reads nothing else.
    pub description: String,
    /// Identifier of the VLAN, if it is the interface of one; 0 = it is not. Not exported.
    pub vlan_id: u16,
}

/// One Selector (RFC 5476, section 2): how packets are sampled at one Observation Point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector {
    /// selectorId, unique in the Observation Domain; not 0, which in records means "not sampled".
    pub id: u16,
    /// Interface index of the Observation Point.
    pub interface: u32,
    /// Direction of the Observation Point.
    pub direction: crate::record::FlowDirection,
    /// How packets are selected.
    pub algorithm: SelectorAlgorithm,
    /// One of this many packets is selected; 0 means 1, which means every packet.
    pub interval: u32,
}

impl Selector {
    pub(crate) const fn interval(&self) -> u32 {
        if self.interval == 0 { 1 } else { self.interval }
    }
}

impl InterfaceInfo {
    pub(crate) const fn description_or_name(&self) -> &str {
        if self.description.is_empty() { self.name.as_str() } else { self.description.as_str() }
    }
}

/// Values of selectorAlgorithm (Information Element 304, IANA "PSAMP Parameters") that pathflow uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum SelectorAlgorithm {
    /// Systematic count-based sampling: every N-th packet (RFC 5475, section 5.1).
    Systematic = 1,
    /// Random n-out-of-N sampling, with n = 1 (RFC 5475, section 5.2.1).
    Random = 3,
}

/// `text` in a field of fixed length, with zeros after it and at least one, as collectors treat it as a C string.
/// What does not fit is cut off between characters.
pub(crate) fn fixed_length<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let mut octets = [0; LENGTH];
    let end = text.floor_char_boundary(LENGTH.saturating_sub(1));
    for (octet, source) in octets.iter_mut().zip(text.as_bytes().iter().take(end)) {
        *octet = *source;
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_between_characters_and_end_with_zero() {
        assert_eq!(fixed_length::<8>("eth0"), *b"eth0\0\0\0\0");
        assert_eq!(fixed_length::<8>("12345678"), *b"1234567\0");
        assert_eq!(fixed_length::<8>("12345\u{20ac}"), *b"12345\0\0\0");
        assert_eq!(fixed_length::<8>("1234\u{20ac}"), *b"1234\xe2\x82\xac\0");
        assert_eq!(fixed_length::<4>(""), [0; 4]);
    }
}
