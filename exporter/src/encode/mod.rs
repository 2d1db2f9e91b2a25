//! Flow records to octets.
//!
//! [`Encoder`] fills a [`Message`] within a size budget: `begin`, `push` until [`Full`], `finish`. The
//! Sequence Number moves on only by [`Encoder::commit`], when the message has left or is given up, so a
//! message that turned out too large for the path is simply begun again with a smaller budget.
//! No call allocates once the message's storage has reached its budget.

mod ipfix;
mod netflow_v9;
mod time;

pub mod json;
pub mod text;

use crate::record::{AddressPair, FlowRecord};
use crate::sequence::SequenceNumber;
use crate::template::{DataTemplate, FieldSpecifier, TemplateId, TemplateRecord};
use crate::time::ExportTime;

pub use ipfix::Ipfix;
pub use netflow_v9::NetflowV9;

/// Export formats that are sent as messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// IPFIX, RFC 7011.
    #[default]
    Ipfix,
    /// NetFlow version 9, RFC 3954.
    NetflowV9,
}

impl Format {
    /// Name in configuration and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipfix => "ipfix",
            Self::NetflowV9 => "netflow-v9",
        }
    }
}

/// The message has no room for this within its budget; it was left as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room in the message")]
pub struct Full;

/// Whether a message opens with a Template Set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Templates {
    /// Every Template Record, before any data.
    Include,
    /// Data only.
    Omit,
}

/// One message of either format, in storage that is used again for the next.
///
/// A *set* here is an IPFIX Set or a NetFlow v9 `FlowSet`: their headers are the same four octets.
#[derive(Debug, Default)]
pub struct Message {
    storage: Vec<u8>,
    /// Octets written so far; at most `budget`, which is at most `storage.len()`.
    length: usize,
    budget: usize,
    open_set: Option<OpenSet>,
    data_records: u32,
    template_records: u32,
}

#[derive(Clone, Copy, Debug)]
struct OpenSet {
    id: u16,
    start: usize,
}

/// Set ID and length, two octets each (RFC 7011, section 3.3.2; RFC 3954, sections 5.2 and 5.3).
const SET_HEADER_LENGTH: usize = 4;

/// The Length of a message or set has two octets.
const MAX_LENGTH: usize = u16::MAX as usize;

impl Message {
    /// An empty message.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            storage: Vec::new(),
            length: 0,
            budget: 0,
            open_set: None,
            data_records: 0,
            template_records: 0,
        }
    }

    /// The octets to send, once finished.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        self.storage.get(..self.length).unwrap_or_default()
    }

    /// Data Records in the message.
    #[must_use]
    pub const fn data_records(&self) -> u32 {
        self.data_records
    }

    /// Template Records in the message.
    #[must_use]
    pub const fn template_records(&self) -> u32 {
        self.template_records
    }

    /// Whether there are neither Data Records nor Template Records in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.data_records == 0 && self.template_records == 0
    }

    fn clear(&mut self, budget: usize, header_length: usize) -> Result<(), Full> {
        self.budget = budget.min(MAX_LENGTH);
        if self.storage.len() < self.budget {
            self.storage.resize(self.budget, 0);
        }
        self.open_set = None;
        self.data_records = 0;
        self.template_records = 0;
        self.length = 0;
        if header_length > self.budget {
            return Err(Full);
        }
        self.length = header_length;
        Ok(())
    }

    /// Room for one Data Record, in the open set or, if that belongs to another template, in a new one.
    #[inline]
    pub(crate) fn data_record<const LENGTH: usize>(
        &mut self,
        template_id: TemplateId,
        set_alignment: usize,
    ) -> Result<&mut [u8; LENGTH], Full> {
        let id = template_id.get();
        let continues = matches!(self.open_set, Some(set) if set.id == id);
        let start = if continues {
            self.length
        } else {
            self.length.next_multiple_of(set_alignment) + SET_HEADER_LENGTH
        };
        let end = start + LENGTH;
        // Padding of the set belongs to the budget too, although it is written only when the set closes.
        if end.next_multiple_of(set_alignment) > self.budget {
            return Err(Full);
        }
        if !continues {
            self.close_set(set_alignment);
            self.open_set(id);
        }
        self.length = end;
        self.data_records += 1;
        self.storage.get_mut(start..end).and_then(|octets| octets.as_mut_array()).ok_or(Full)
    }

    fn template_set(
        &mut self,
        set_id: u16,
        set_alignment: usize,
        templates: &[TemplateRecord],
    ) -> Result<(), Full> {
        let length: usize = templates.iter().map(TemplateRecord::encoded_length).sum();
        if self.length + SET_HEADER_LENGTH + length > self.budget {
            return Err(Full);
        }
        self.open_set(set_id);
        for template in templates {
            self.append_u16(template.template_id.get());
            self.append_u16(template.field_specifiers.len() as u16);
            for specifier in template.field_specifiers {
                self.append_field_specifier(*specifier);
            }
            self.template_records += 1;
        }
        self.close_set(set_alignment);
        Ok(())
    }

    fn append_field_specifier(&mut self, specifier: FieldSpecifier) {
        self.append_u16(specifier.information_element().id());
        self.append_u16(specifier.length());
    }

    fn open_set(&mut self, id: u16) {
        self.open_set = Some(OpenSet { id, start: self.length });
        self.append_u16(id);
        // Written by `close_set`.
        self.append_u16(0);
    }

    fn close_set(&mut self, set_alignment: usize) {
        let Some(set) = self.open_set.take() else { return };
        while !self.length.is_multiple_of(set_alignment) {
            self.append(&[0]);
        }
        let length = (self.length - set.start) as u16;
        self.write_at(set.start + 2, &length.to_be_bytes());
    }

    fn append_u16(&mut self, value: u16) {
        self.append(&value.to_be_bytes());
    }

    fn append(&mut self, octets: &[u8]) {
        self.write_at(self.length, octets);
        self.length += octets.len();
    }

    /// Every caller has checked the budget; a write outside it would be dropped.
    fn write_at(&mut self, offset: usize, octets: &[u8]) {
        if let Some(target) = self.storage.get_mut(offset..offset + octets.len()) {
            target.copy_from_slice(octets);
        }
    }
}

/// What a message format defines; the rest is the same for all.
trait MessageFormat {
    type Ipv4: DataTemplate<Address = std::net::Ipv4Addr>;
    type Ipv6: DataTemplate<Address = std::net::Ipv6Addr>;

    const HEADER_LENGTH: usize;
    /// Set ID of Template Sets.
    const TEMPLATE_SET_ID: u16;
    /// Sets are padded to a multiple of this many octets.
    const SET_ALIGNMENT: usize;

    fn sequence(&mut self) -> &mut SequenceNumber;
    fn write_header(&self, message: &mut Message, export_time: ExportTime);

    fn begin(message: &mut Message, budget: usize, templates: Templates) -> Result<(), Full> {
        message.clear(budget, Self::HEADER_LENGTH)?;
        match templates {
            Templates::Include => message.template_set(
                Self::TEMPLATE_SET_ID,
                Self::SET_ALIGNMENT,
                &[Self::Ipv4::TEMPLATE_RECORD, Self::Ipv6::TEMPLATE_RECORD],
            ),
            Templates::Omit => Ok(()),
        }
    }

    #[inline]
    fn push(message: &mut Message, record: &FlowRecord) -> Result<(), Full> {
        match record.address_pair() {
            AddressPair::V4 { source, destination } => {
                Self::Ipv4::append(message, Self::SET_ALIGNMENT, record, source, destination)
            }
            AddressPair::V6 { source, destination } => {
                Self::Ipv6::append(message, Self::SET_ALIGNMENT, record, source, destination)
            }
        }
    }

    fn finish(&self, message: &mut Message, export_time: ExportTime) {
        message.close_set(Self::SET_ALIGNMENT);
        self.write_header(message, export_time);
    }
}

/// The encoder of one Transport Session and Observation Domain.
#[derive(Debug)]
pub enum Encoder {
    /// IPFIX.
    Ipfix(Ipfix),
    /// NetFlow v9.
    NetflowV9(NetflowV9),
}

impl Encoder {
    /// An encoder whose first message has Sequence Number 0. `observation_domain_id` is the Source ID of
    /// NetFlow v9.
    #[must_use]
    pub const fn new(format: Format, observation_domain_id: u32) -> Self {
        match format {
            Format::Ipfix => Self::Ipfix(Ipfix::new(observation_domain_id)),
            Format::NetflowV9 => Self::NetflowV9(NetflowV9::new(observation_domain_id)),
        }
    }

    /// Empties `message` for a new one of at most `budget` octets (65535 at most).
    ///
    /// # Errors
    /// [`Full`] if not even the header and the templates fit; the message is of no use then.
    pub fn begin(&self, message: &mut Message, budget: usize, templates: Templates) -> Result<(), Full> {
        match self {
            Self::Ipfix(_) => Ipfix::begin(message, budget, templates),
            Self::NetflowV9(_) => NetflowV9::begin(message, budget, templates),
        }
    }

    /// Appends one Data Record. A record of the other address family closes the set and opens another.
    ///
    /// # Errors
    /// [`Full`] if the record does not fit the budget; `message` is left as it was.
    #[inline]
    pub fn push(&self, message: &mut Message, record: &FlowRecord) -> Result<(), Full> {
        match self {
            Self::Ipfix(_) => Ipfix::push(message, record),
            Self::NetflowV9(_) => NetflowV9::push(message, record),
        }
    }

    /// Completes `message` with lengths and header; its [`octets`](Message::octets) can be sent.
    pub fn finish(&self, message: &mut Message, export_time: ExportTime) {
        match self {
            Self::Ipfix(format) => format.finish(message, export_time),
            Self::NetflowV9(format) => format.finish(message, export_time),
        }
    }

    /// Counts a finished message in the Sequence Number. To be called once for each message that was sent,
    /// or lost for good: the collector shall see the gap. A message that is to be begun again is not counted.
    pub fn commit(&mut self, message: &Message) {
        let sequence = match self {
            Self::Ipfix(format) => format.sequence(),
            Self::NetflowV9(format) => format.sequence(),
        };
        sequence.advance(message.data_records);
    }

    /// Sequence Number of the next message.
    #[must_use]
    pub fn next_sequence_number(&self) -> u32 {
        match self {
            Self::Ipfix(format) => format.next_sequence_number(),
            Self::NetflowV9(format) => format.next_sequence_number(),
        }
    }
}
