//! How an Exporting Process is to work.

use std::time::Duration;

use crate::encode::Format;
use crate::flow_template::FieldGroups;

/// How to export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportSettings {
    /// Message format.
    pub format: Format,
    /// Observation Domain ID of IPFIX, Source ID of NetFlow v9; in NetFlow v5 its low 16 bits are `engine_type` and
    /// `engine_id`.
    pub observation_domain_id: u32,
    /// Fields beside the standard ones.
    pub field_groups: FieldGroups,
    /// Templates and options data are sent every so many messages; 0 and 1 both mean with every message.
    pub template_messages: u32,
    /// Longest time between messages with templates and options data.
    pub template_interval: Duration,
    /// Largest IP packet to send in octets, even if the path carries more; [`ExportSettings::MIN_MTU`] or more.
    pub mtu: u16,
}

impl ExportSettings {
    /// Smallest `mtu`, in octets: every template, and every record, fits into it in every format.
    pub const MIN_MTU: u16 = 576;
}

impl Default for ExportSettings {
    fn default() -> Self {
        Self {
            format: Format::Ipfix,
            observation_domain_id: 0,
            field_groups: FieldGroups::NONE,
            template_messages: 1000,
            template_interval: Duration::from_mins(1),
            mtu: 1500,
        }
    }
}

/// Settings that can not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportSettingsError {
    /// `mtu` is too small.
    #[error("mtu {mtu} is below the minimum of {minimum}")]
    MtuTooSmall {
        /// As configured.
        mtu: u16,
        /// [`ExportSettings::MIN_MTU`].
        minimum: u16,
    },
    /// The format has no such fields.
    #[error("{} has no fields for some of the field groups", format.as_str())]
    FieldsNotInFormat {
        /// As configured.
        format: Format,
    },
}
