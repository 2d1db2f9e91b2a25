//! Flow records to octets.
//!
//! [`Encoder`] fills a [`Message`] within a size budget: `begin`, `push_preamble` if it is time to, `push` until
//! [`Full`], `finish`. The Sequence Number moves on only by [`Encoder::commit`], when the message has left or is given up, so a
//! message that turned out too large for the path is simply begun again with a smaller budget.
//! No call allocates once the message's storage has reached its budget.

mod fit;
mod ipfix;
mod message;
mod netflow_v5;
mod netflow_v9;
mod time;
mod variable_length;

pub mod json;
pub mod text;

use std::ops::Range;

use crate::account::LossReason;
use crate::flow_template::{Content, FieldGroups, FlowTemplates, template_record};
use crate::observation::{InterfaceInfo, ObservationContext, Selector};
use crate::record::FlowRecord;
use crate::sequence::{SequenceNumber, SequenceRule};
use crate::statistics::Statistics;
use crate::template::TemplateRecord;
use crate::time::ExportTime;

pub use fit::Fit;
pub use ipfix::Ipfix;
pub use message::Message;
use message::SET_HEADER_LENGTH;
pub(crate) use message::{BLOCK_LENGTH, Framing, TemplateIds};
pub use netflow_v5::NetflowV5;
pub use netflow_v9::NetflowV9;

/// Export formats that are sent as messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// IPFIX, RFC 7011.
    #[default]
    Ipfix,
    /// NetFlow version 9, RFC 3954.
    NetflowV9,
    /// NetFlow version 5: IPv4 only, narrow fields, no templates.
    NetflowV5,
}

impl Format {
    /// Name in configuration and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipfix => "ipfix",
            Self::NetflowV9 => "netflow-v9",
            Self::NetflowV5 => "netflow-v5",
        }
    }
}

impl Format {
    /// Whether the format has all of `groups`. (Prefix lengths are among the fields of every NetFlow v5 record.)
    #[must_use]
    pub const fn carries(self, groups: FieldGroups) -> bool {
        match self {
            Self::Ipfix => true,
            Self::NetflowV9 => FieldGroups::BGP.with(FieldGroups::MAC).contains(groups),
            Self::NetflowV5 => FieldGroups::NONE.contains(groups),
        }
    }
}

/// The message has no room for this within its budget; it was left as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room in the message")]
pub struct Full;

/// State of what one collector gets.
#[derive(Debug)]
struct Stream {
    sequence: SequenceNumber,
    /// What its Flow Records have beside the standard fields.
    groups: FieldGroups,
    /// Templates of Flow Records that the collector has been told of.
    announced: TemplateIds,
    /// What the collector is told of the Exporting Process, if it is to be.
    statistics: Option<Statistics>,
}

impl Stream {
    const fn new(rule: SequenceRule, groups: FieldGroups) -> Self {
        Self { sequence: SequenceNumber::first(rule), groups, announced: TemplateIds::NONE, statistics: None }
    }

    fn commit(&mut self, message: &Message) {
        self.sequence.advance(message.data_records());
        self.announced = message.announced();
    }
}

/// What a message format with templates defines; the rest is the same for all of them.
trait MessageFormat {
    type Flows: FlowTemplates;

    /// Of the statistics, each with one record.
    const STATISTICS_TEMPLATES: &[TemplateRecord<'static>];
    /// Of the context.
    const OPTIONS_TEMPLATES: &[TemplateRecord<'static>];
    const HEADER_LENGTH: usize;
    const FRAMING: Framing;

    /// The two counts in the header of an Options Template Record.
    fn options_template_counts(template: &TemplateRecord<'_>) -> [u16; 2];
    /// The record of the statistics template with this index.
    fn append_statistics(
        &self,
        message: &mut Message,
        statistics: &Statistics,
        index: usize,
    ) -> Result<(), Full>;
    fn append_selector(&self, message: &mut Message, selector: &Selector) -> Result<(), Full>;
    fn append_interface(&self, message: &mut Message, interface: &InterfaceInfo) -> Result<(), Full>;
    fn stream(&self) -> &Stream;
    fn write_header(&self, message: &mut Message, export_time: ExportTime);

    fn begin(&self, message: &mut Message, budget: usize) -> Result<(), Full> {
        message.clear(budget, Self::HEADER_LENGTH, self.stream().announced)
    }

    fn preamble(&self, context: &ObservationContext) -> PreambleParts {
        let templates = Content::count(self.stream().groups);
        // A template and a record each.
        let statistics = self.stream().statistics.map_or(0, |_| 2 * Self::STATISTICS_TEMPLATES.len());
        let options = if context.is_empty() {
            0
        } else {
            Self::OPTIONS_TEMPLATES.len() + context.selectors.len() + context.interfaces.len()
        };
        PreambleParts { templates, all: templates + statistics + options }
    }

    /// Part `index` of the preamble; `false` if there is none or it does not fit.
    fn push_preamble_part(&self, message: &mut Message, context: &ObservationContext, index: usize) -> bool {
        let groups = self.stream().groups;
        let templates = Content::count(groups);
        if index < templates {
            return self.push_flow_template(message, Content::at(index, groups));
        }
        let mut index = index - templates;
        if let Some(statistics) = &self.stream().statistics {
            let templates = Self::STATISTICS_TEMPLATES;
            if let Some(template) = templates.get(index / 2) {
                return if index.is_multiple_of(2) {
                    Self::push_options_template(message, template)
                } else {
                    self.append_statistics(message, statistics, index / 2).is_ok()
                };
            }
            index -= 2 * templates.len();
        }
        if context.is_empty() {
            return false;
        }
        if let Some(template) = Self::OPTIONS_TEMPLATES.get(index) {
            return Self::push_options_template(message, template);
        }
        let index = index - Self::OPTIONS_TEMPLATES.len();
        if let Some(selector) = context.selectors.get(index) {
            return self.append_selector(message, selector).is_ok();
        }
        let index = index - context.selectors.len();
        context
            .interfaces
            .get(index)
            .is_some_and(|interface| self.append_interface(message, interface).is_ok())
    }

    /// `false` if it is needed and does not fit.
    fn push_flow_template(&self, message: &mut Message, content: Option<Content>) -> bool {
        let announced = |content: &Content| self.stream().announced.contains(content.template_id());
        let Some(content) = content.filter(|content| content.is_plain() || announced(content)) else {
            return true;
        };
        let specifiers = Self::Flows::specifiers(content);
        let template = template_record(content, &specifiers);
        message.template(Self::FRAMING, &[template.field_count() as u16], &template).is_ok()
    }

    fn push_options_template(message: &mut Message, template: &TemplateRecord<'_>) -> bool {
        let counts = Self::options_template_counts(template);
        message.template(Self::FRAMING, &counts, template).is_ok()
    }

    #[inline]
    fn push(&self, message: &mut Message, record: &FlowRecord) -> Result<(), Full> {
        Self::Flows::append(message, Self::FRAMING, record, self.stream().groups)
    }

    /// Leaves out of `record` what it cannot be sent with, in a message of `budget` octets with its template.
    fn fit_length(&self, fit: &mut Fit, record: &FlowRecord, budget: usize) {
        let groups = self.stream().groups;
        if groups.contains(FieldGroups::COMMUNITIES) || groups.contains(FieldGroups::TAGS) {
            let (record, template) = Self::Flows::lengths(record, groups);
            if Self::HEADER_LENGTH + SET_HEADER_LENGTH + template + SET_HEADER_LENGTH + record > budget {
                fit.leave_out();
            }
        }
    }

    fn finish(&self, message: &mut Message, export_time: ExportTime) {
        message.close_set(Self::FRAMING);
        self.write_header(message, export_time);
    }
}

/// How many parts the preamble has: what a collector must have heard before it can read Flow Records and say what they
/// mean. In this order: each template of Flow Records (of which those that were not needed yet take no room); if there are
/// statistics, each of their Options Template Records with its record; each other Options Template Record; and one
/// record of options data for each Selector and each interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PreambleParts {
    /// Those that are templates of Flow Records; they come first.
    pub templates: usize,
    /// All.
    pub all: usize,
}

/// The encoder of one Transport Session and Observation Domain.
#[derive(Debug)]
pub enum Encoder {
    /// IPFIX.
    Ipfix(Ipfix),
    /// NetFlow v9.
    NetflowV9(NetflowV9),
    /// NetFlow v5.
    NetflowV5(NetflowV5),
}

impl Encoder {
    /// An encoder whose first message has Sequence Number 0. `observation_domain_id` is the Source ID of
    /// NetFlow v9; its low 16 bits are `engine_type` and `engine_id` of NetFlow v5.
    #[must_use]
    pub const fn new(format: Format, observation_domain_id: u32) -> Self {
        Self::with_groups(format, observation_domain_id, FieldGroups::NONE)
    }

    /// As [`new`](Self::new), with `groups` of fields beside the standard ones, as far as the format has them.
    #[must_use]
    pub const fn with_groups(format: Format, observation_domain_id: u32, groups: FieldGroups) -> Self {
        match format {
            Format::Ipfix => Self::Ipfix(Ipfix::new(observation_domain_id, groups)),
            Format::NetflowV9 => Self::NetflowV9(NetflowV9::new(observation_domain_id, groups)),
            Format::NetflowV5 => Self::NetflowV5(NetflowV5::new(observation_domain_id)),
        }
    }

    /// Empties `message` for a new one of at most `budget` octets (65535 at most).
    ///
    /// # Errors
    /// [`Full`] if not even the header fits; the message is of no use then.
    pub fn begin(&self, message: &mut Message, budget: usize) -> Result<(), Full> {
        match self {
            Self::Ipfix(format) => format.begin(message, budget),
            Self::NetflowV9(format) => format.begin(message, budget),
            Self::NetflowV5(_) => NetflowV5::begin(message, budget),
        }
    }

    /// How many parts [`push_preamble`](Self::push_preamble) has for `context`.
    #[must_use]
    pub fn preamble(&self, context: &ObservationContext) -> PreambleParts {
        match self {
            Self::Ipfix(format) => format.preamble(context),
            Self::NetflowV9(format) => format.preamble(context),
            Self::NetflowV5(_) => PreambleParts::default(),
        }
    }

    /// Appends those `parts` of the preamble that fit, in their order. Returns the first that is not in the message:
    /// the end of `parts` if all of them fit.
    pub fn push_preamble(
        &self,
        message: &mut Message,
        context: &ObservationContext,
        mut parts: Range<usize>,
    ) -> usize {
        let full = parts.find(|part| match self {
            Self::Ipfix(format) => !format.push_preamble_part(message, context, *part),
            Self::NetflowV9(format) => !format.push_preamble_part(message, context, *part),
            Self::NetflowV5(_) => true,
        });
        full.unwrap_or(parts.end)
    }

    /// What the next preamble says of the Exporting Process.
    pub fn set_statistics(&mut self, statistics: Statistics) {
        match self {
            Self::Ipfix(format) => format.stream.statistics = Some(statistics),
            Self::NetflowV9(format) => format.stream.statistics = Some(statistics),
            // It has no options data.
            Self::NetflowV5(_) => {}
        }
    }

    /// Tells formats that have no options data how packets are selected.
    pub fn set_context(&mut self, context: &ObservationContext) {
        match self {
            Self::Ipfix(_) | Self::NetflowV9(_) => {}
            Self::NetflowV5(format) => format.set_selectors(&context.selectors),
        }
    }

    /// How `record` goes into the format, in a message that is sent soon after `now`.
    ///
    /// # Errors
    /// Why the format can not carry it at all.
    #[inline]
    pub fn fit(&self, record: &FlowRecord, now: ExportTime) -> Result<Fit, LossReason> {
        match self {
            Self::Ipfix(_) | Self::NetflowV9(_) => Ok(Fit::WHOLE),
            Self::NetflowV5(_) => NetflowV5::fit(record, now),
        }
    }

    /// What has to be left out of `record` so that it fits a message of `budget` octets, is noted in `fit`.
    #[inline]
    pub fn fit_length(&self, fit: &mut Fit, record: &FlowRecord, budget: usize) {
        match self {
            Self::Ipfix(format) => format.fit_length(fit, record, budget),
            // All of their fields have a fixed length.
            Self::NetflowV9(_) | Self::NetflowV5(_) => {}
        }
    }

    /// Appends one Flow Record, as [`fit`](Self::fit) made it. A record that needs another template closes the set and opens another; a template that
    /// is needed for the first time goes before it.
    ///
    /// # Errors
    /// [`Full`] if the record does not fit the budget or the fields of the format, or in NetFlow v5 if it was sampled
    /// unlike those before it; `message` is left as it was.
    #[inline]
    pub fn push(&self, message: &mut Message, record: &FlowRecord) -> Result<(), Full> {
        match self {
            Self::Ipfix(format) => MessageFormat::push(format, message, record),
            Self::NetflowV9(format) => MessageFormat::push(format, message, record),
            Self::NetflowV5(format) => format.push(message, record),
        }
    }

    /// Completes `message` with lengths and header; its [`octets`](Message::octets) can be sent.
    pub fn finish(&self, message: &mut Message, export_time: ExportTime) {
        match self {
            Self::Ipfix(format) => format.finish(message, export_time),
            Self::NetflowV9(format) => format.finish(message, export_time),
            Self::NetflowV5(format) => format.finish(message, export_time),
        }
    }

    /// Counts a finished message in the Sequence Number. To be called once for each message that was sent,
    /// or lost for good: the collector shall see the gap. A message that is to be begun again is not counted.
    pub fn commit(&mut self, message: &Message) {
        match self {
            Self::Ipfix(format) => format.stream.commit(message),
            Self::NetflowV9(format) => format.stream.commit(message),
            Self::NetflowV5(format) => format.sequence.advance(message.flow_records()),
        }
    }

    pub(crate) fn sequence(&self) -> SequenceNumber {
        match self {
            Self::Ipfix(format) => format.stream.sequence,
            Self::NetflowV9(format) => format.stream.sequence,
            Self::NetflowV5(format) => format.sequence,
        }
    }

    /// Goes back to before messages that were not sent, and carried no templates.
    pub(crate) fn set_sequence(&mut self, sequence: SequenceNumber) {
        match self {
            Self::Ipfix(format) => format.stream.sequence = sequence,
            Self::NetflowV9(format) => format.stream.sequence = sequence,
            Self::NetflowV5(format) => format.sequence = sequence,
        }
    }

    /// Sequence Number of the next message.
    #[must_use]
    pub fn next_sequence_number(&self) -> u32 {
        match self {
            Self::Ipfix(format) => format.stream.sequence.next(),
            Self::NetflowV9(format) => format.stream.sequence.next(),
            Self::NetflowV5(format) => format.sequence.next(),
        }
    }
}
