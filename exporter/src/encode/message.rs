//! The octets of one message.

use std::ops::Range;

use super::Full;
use crate::flow_template::Content;
use crate::template::{FieldSpecifier, TemplateId, TemplateRecord};

/// How a format writes sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framing {
    /// Set ID of Template Sets.
    pub(super) template_set_id: u16,
    /// Set ID of Options Template Sets.
    pub(super) options_template_set_id: u16,
    /// Sets are padded to a multiple of this many octets, a power of two.
    pub(super) alignment: usize,
}

impl Framing {
    /// `length` with the padding after it.
    #[inline]
    const fn padded(self, length: usize) -> usize {
        // A power of two: a division would take long.
        let mask = self.alignment.wrapping_sub(1);
        length.saturating_add(mask) & !mask
    }
}

/// Templates of Flow Records by [`TemplateId::index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TemplateIds([u64; Self::COUNT / 64]);

impl Default for TemplateIds {
    fn default() -> Self {
        Self::NONE
    }
}

impl TemplateIds {
    /// Indexes below this can be in it.
    const COUNT: usize = Content::COUNT;

    pub(super) const NONE: Self = Self([0; Self::COUNT / 64]);

    pub(super) fn contains(&self, id: TemplateId) -> bool {
        let (word, bit) = Self::place(id);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    pub(super) fn insert(&mut self, id: TemplateId) {
        let (word, bit) = Self::place(id);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    fn place(id: TemplateId) -> (usize, u64) {
        (usize::from(id.index() / 64), 1 << (id.index() % 64))
    }
}

/// One message of any format, in storage that is used again for the next.
///
/// A *set* here is an IPFIX Set or a NetFlow v9 `FlowSet`: their headers are the same four octets.
#[derive(Debug, Default)]
pub struct Message {
    storage: Vec<u8>,
    /// Octets written so far; at most `budget`, which is at least [`BLOCK_LENGTH`] less than `storage.len()`.
    length: usize,
    budget: usize,
    open_set: Option<OpenSet>,
    /// Templates of Flow Records that the collector has been told of, or is so by this message.
    announced: TemplateIds,
    flow_records: u32,
    options_records: u32,
    template_records: u32,
}

#[derive(Clone, Copy, Debug)]
struct OpenSet {
    id: u16,
    start: usize,
}

/// Set ID and length, two octets each (RFC 7011, section 3.3.2; RFC 3954, sections 5.2 and 5.3).
pub(super) const SET_HEADER_LENGTH: usize = 4;

/// Short fields of variable length are copied as one block of so many octets. What is too much of it is overwritten by what
/// follows, or is after the end of the message.
pub(crate) const BLOCK_LENGTH: usize = 32;

/// Says that a Private Enterprise Number follows the Field Length (RFC 7011, section 3.2).
const ENTERPRISE_BIT: u16 = 1 << 15;

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
            announced: TemplateIds::NONE,
            flow_records: 0,
            options_records: 0,
            template_records: 0,
        }
    }

    /// The octets to send, once finished.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        self.storage.get(..self.length).unwrap_or_default()
    }

    /// Flow Records in the message.
    #[must_use]
    pub const fn flow_records(&self) -> u32 {
        self.flow_records
    }

    /// Records of options data in the message.
    #[must_use]
    pub const fn options_records(&self) -> u32 {
        self.options_records
    }

    /// Data Records in the message: Flow Records and records of options data (RFC 7011, section 2).
    #[must_use]
    pub const fn data_records(&self) -> u32 {
        self.flow_records + self.options_records
    }

    /// Template Records and Options Template Records in the message.
    #[must_use]
    pub const fn template_records(&self) -> u32 {
        self.template_records
    }

    /// Whether there are no records of any kind in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.data_records() == 0 && self.template_records == 0
    }

    pub(super) const fn announced(&self) -> TemplateIds {
        self.announced
    }

    /// Empties it for a message to a collector that has been told of the templates `announced`.
    pub(super) fn clear(
        &mut self,
        budget: usize,
        header_length: usize,
        announced: TemplateIds,
    ) -> Result<(), Full> {
        self.announced = announced;
        self.budget = budget.min(MAX_LENGTH);
        let length = self.budget + BLOCK_LENGTH;
        if self.storage.len() < length {
            self.storage.resize(length, 0);
        }
        self.open_set = None;
        self.flow_records = 0;
        self.options_records = 0;
        self.template_records = 0;
        self.length = 0;
        if header_length > self.budget {
            return Err(Full);
        }
        self.length = header_length;
        Ok(())
    }

    /// As [`clear`](Self::clear), for a format without templates.
    pub(super) fn clear_without_sets(&mut self, budget: usize, header_length: usize) -> Result<(), Full> {
        self.clear(budget, header_length, TemplateIds::NONE)
    }

    /// Room for one Flow Record after the last one, in a format without sets.
    #[inline]
    pub(super) fn flow_record_without_set<const LENGTH: usize>(&mut self) -> Result<&mut [u8; LENGTH], Full> {
        let start = self.length;
        let end = start + LENGTH;
        if end > self.budget {
            return Err(Full);
        }
        self.length = end;
        self.flow_records += 1;
        self.storage.get_mut(start..end).and_then(|octets| octets.as_mut_array()).ok_or(Full)
    }

    /// Whether the open set is that of the template.
    #[inline]
    pub(crate) fn has_open_set(&self, template_id: TemplateId) -> bool {
        matches!(self.open_set, Some(set) if set.id == template_id.get())
    }

    /// All that is not written yet: more than there is room for, so that short fields can be copied as blocks of fixed
    /// size. What is written here counts once it is [added](Self::add_flow_record).
    #[inline]
    pub(crate) fn free(&mut self) -> &mut [u8] {
        self.storage.get_mut(self.length..).unwrap_or_default()
    }

    /// Takes the first `length` octets of [`free`](Self::free) for a Flow Record of the open set, if there is room.
    #[inline]
    pub(crate) fn add_flow_record(&mut self, framing: Framing, length: usize) -> Result<(), Full> {
        let end = self.length.saturating_add(length);
        // Padding of the set belongs to the budget too, although it is written only when the set closes.
        if framing.padded(end) > self.budget {
            return Err(Full);
        }
        self.length = end;
        // Each has octets, of which there are 65535 at most.
        self.flow_records = self.flow_records.wrapping_add(1);
        Ok(())
    }

    /// Whether the collector has been told of the template, or is so by this message.
    pub(crate) fn has_announced(&self, template_id: TemplateId) -> bool {
        self.announced.contains(template_id)
    }

    /// Opens a set, if there is room in it for one record of `length` octets.
    pub(crate) fn open_data_set(
        &mut self,
        template_id: TemplateId,
        framing: Framing,
        length: usize,
    ) -> Result<(), Full> {
        let end = self.next_set(framing) + SET_HEADER_LENGTH + length;
        if framing.padded(end) > self.budget {
            return Err(Full);
        }
        self.close_set(framing);
        self.open_set(template_id.get());
        Ok(())
    }

    /// The same, with the template before it.
    pub(crate) fn open_data_set_with_template(
        &mut self,
        template: &TemplateRecord<'_>,
        framing: Framing,
        length: usize,
    ) -> Result<(), Full> {
        // Templates are a multiple of the alignment.
        let template_length = SET_HEADER_LENGTH + template.encoded_length();
        let end = self.next_set(framing) + template_length + SET_HEADER_LENGTH + length;
        if framing.padded(end) > self.budget {
            return Err(Full);
        }
        self.close_set(framing);
        self.template(framing, &[template.field_count() as u16], template)?;
        self.open_data_set(template.template_id, framing, length)
    }

    /// Room of `length` octets for one record of options data in a new set.
    ///
    /// These have a set each, because of several in one set nfcapd 1.7.1 reads the first only, or all as if they were
    /// shorter.
    pub(crate) fn options_record_in_new_set(
        &mut self,
        template_id: TemplateId,
        framing: Framing,
        length: usize,
    ) -> Result<&mut [u8], Full> {
        self.open_data_set(template_id, framing, length)?;
        let start = self.length;
        self.length += length;
        self.options_records += 1;
        self.storage.get_mut(start..self.length).ok_or(Full)
    }

    /// Appends a Template Record or Options Template Record, whose header ends with `counts`.
    ///
    /// Options Templates have a set each, because nfcapd 1.7.1 reads only the first of a set.
    pub(super) fn template(
        &mut self,
        framing: Framing,
        counts: &[u16],
        template: &TemplateRecord<'_>,
    ) -> Result<(), Full> {
        let is_options = template.is_options_template();
        let set_id = if is_options { framing.options_template_set_id } else { framing.template_set_id };
        let continues = !is_options && matches!(self.open_set, Some(set) if set.id == set_id);
        let start = if continues { self.length } else { self.next_set(framing) + SET_HEADER_LENGTH };
        let end = start + template.encoded_length();
        if framing.padded(end) > self.budget {
            return Err(Full);
        }
        if !continues {
            self.close_set(framing);
            self.open_set(set_id);
        }
        self.append_u16(template.template_id.get());
        for count in counts {
            self.append_u16(*count);
        }
        for specifier in template.field_specifiers.iter().copied().flatten() {
            self.append_field_specifier(*specifier);
        }
        self.template_records += 1;
        if !is_options {
            self.announced.insert(template.template_id);
        }
        Ok(())
    }

    /// Where the next set begins.
    const fn next_set(&self, framing: Framing) -> usize {
        framing.padded(self.length)
    }

    fn append_field_specifier(&mut self, specifier: FieldSpecifier) {
        let enterprise = specifier.enterprise_number();
        self.append_u16(specifier.id() | if enterprise.is_some() { ENTERPRISE_BIT } else { 0 });
        self.append_u16(specifier.length());
        if let Some(number) = enterprise {
            self.append(&number.to_be_bytes());
        }
    }

    fn open_set(&mut self, id: u16) {
        self.open_set = Some(OpenSet { id, start: self.length });
        self.append_u16(id);
        // Written by `close_set`.
        self.append_u16(0);
    }

    pub(super) fn close_set(&mut self, framing: Framing) {
        let Some(set) = self.open_set.take() else { return };
        while !self.length.is_multiple_of(framing.alignment) {
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

    /// Octets written before; none if any of them were not.
    pub(super) fn octets_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        self.storage.get_mut(..self.length).and_then(|octets| octets.get_mut(range)).unwrap_or_default()
    }

    /// Octets written before; zeros outside of the storage.
    pub(super) fn read_at<const LENGTH: usize>(&self, offset: usize) -> [u8; LENGTH] {
        let octets = self.storage.get(offset..offset + LENGTH).and_then(|octets| octets.as_array());
        octets.copied().unwrap_or([0; LENGTH])
    }

    /// Every caller has checked the budget; a write outside it would be dropped.
    pub(super) fn write_at(&mut self, offset: usize, octets: &[u8]) {
        if let Some(target) = self.storage.get_mut(offset..offset + octets.len()) {
            target.copy_from_slice(octets);
        }
    }
}
