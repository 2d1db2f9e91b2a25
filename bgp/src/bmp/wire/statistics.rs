//! Statistics Reports (RFC 7854, section 4.8; RFC 8671, section 6.2).

use super::BmpError;
use super::information::split;

/// TLVs whose lengths were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics<'a> {
    octets: &'a [u8],
}

/// One counter or gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistic {
    /// Stat Type; see [`statistic_name`].
    pub number: u16,
    /// How much.
    pub value: StatisticValue,
}

/// Value of a statistic, by the length of its TLV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatisticValue {
    /// Counter of 32 bits, which runs over.
    Counter(u32),
    /// Gauge of 64 bits.
    Gauge(u64),
    /// Gauge of one family.
    FamilyGauge {
        /// Address Family Identifier.
        afi: u16,
        /// Subsequent Address Family Identifier.
        safi: u8,
        /// The gauge.
        gauge: u64,
    },
    /// A length that no standard has.
    Other {
        /// Octets of the value.
        octets: u16,
    },
}

impl StatisticValue {
    fn decode(value: &[u8]) -> Self {
        if let Ok(counter) = value.try_into() {
            return Self::Counter(u32::from_be_bytes(counter));
        }
        if let Ok(gauge) = value.try_into() {
            return Self::Gauge(u64::from_be_bytes(gauge));
        }
        if let Some((&[afi_high, afi_low, safi], gauge)) = value.split_first_chunk()
            && let Ok(gauge) = gauge.try_into()
        {
            let afi = u16::from_be_bytes([afi_high, afi_low]);
            return Self::FamilyGauge { afi, safi, gauge: u64::from_be_bytes(gauge) };
        }
        Self::Other { octets: value.len() as u16 }
    }
}

/// Names of statistics, for logs and metrics (IANA "BMP Statistics Types"); `None` for one that these standards do not
/// know.
#[must_use]
pub fn statistic_name(number: u16) -> Option<&'static str> {
    const NAMES: [&str; 18] = [
        "prefixes rejected by inbound policy",
        "duplicate prefix advertisements",
        "duplicate withdraws",
        "updates invalidated by CLUSTER_LIST loop",
        "updates invalidated by AS_PATH loop",
        "updates invalidated by ORIGINATOR_ID",
        "updates invalidated by AS_CONFED loop",
        "routes in Adj-RIBs-In",
        "routes in Loc-RIB",
        "routes in Adj-RIB-In of a family",
        "routes in Loc-RIB of a family",
        "updates treated as withdraw",
        "prefixes treated as withdraw",
        "duplicate update messages",
        "routes in pre-policy Adj-RIB-Out",
        "routes in post-policy Adj-RIB-Out",
        "routes in pre-policy Adj-RIB-Out of a family",
        "routes in post-policy Adj-RIB-Out of a family",
    ];
    NAMES.get(usize::from(number)).copied()
}

impl<'a> Statistics<'a> {
    /// # Errors
    ///
    /// The number of TLVs is not that of the count field, or one is cut short.
    pub(super) fn decode(body: &'a [u8]) -> Result<Self, BmpError> {
        let short = BmpError::Short("Statistics Report");
        let (count, octets) = body.split_first_chunk().ok_or(short)?;
        let mut rest = octets;
        for _ in 0..u32::from_be_bytes(*count) {
            (_, _, rest) = split(rest).ok_or(short)?;
        }
        // What stands behind the last counted TLV is nothing that a standard knows.
        Ok(Self { octets: octets.get(..octets.len() - rest.len()).unwrap_or_default() })
    }

    /// Each statistic, in order.
    pub fn iter(&self) -> impl Iterator<Item = Statistic> + use<'a> {
        let mut octets = self.octets;
        std::iter::from_fn(move || {
            let (number, value, rest) = split(octets)?;
            octets = rest;
            let value = StatisticValue::decode(value);
            Some(Statistic { number, value })
        })
    }
}
