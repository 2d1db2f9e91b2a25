//! A small reader of IPFIX messages, of what the tests ask about: no variable lengths, no Enterprise Numbers.

use std::collections::HashMap;

const HEADER_LENGTH: usize = 16;
const OCTET_DELTA_COUNT: u16 = 1;
const INGRESS_INTERFACE: u16 = 10;
const SELECTOR_ID: u16 = 302;
const SAMPLING_INTERVAL: u16 = 34;

/// What a collector gets out of the messages, with the templates it has heard by then.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// octetDeltaCount of each Flow Record, in order.
    pub(super) octets: Vec<u64>,
    /// Data Records before each message, as the Sequence Number says.
    pub(super) sequence_numbers: Vec<u32>,
    /// Data Records of each message, options data included.
    pub(super) data_records: Vec<u32>,
    pub(super) with_templates: Vec<bool>,
    /// ingressInterface of each record about an interface.
    pub(super) interfaces: Vec<u64>,
    /// selectorId and samplingInterval of each record about a Selector.
    pub(super) selectors: Vec<(u64, u64)>,
    /// Each Flow Record (f) and record of options data (o), and each end of a message (|).
    pub(super) order: String,
}

#[derive(Default)]
struct Template {
    /// Element, offset, length.
    fields: Vec<(u16, usize, usize)>,
    is_options: bool,
    length: usize,
}

fn short(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(*octets[at..].first_chunk().unwrap())
}

fn number(octets: &[u8]) -> u64 {
    octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}

/// Panics on data without its template, and on whatever is not IPFIX.
pub(super) fn read(messages: &[Vec<u8>]) -> Seen {
    let mut seen = Seen::default();
    let mut templates = HashMap::new();
    for message in messages {
        assert_eq!(usize::from(short(message, 2)), message.len());
        seen.sequence_numbers.push(number(&message[8..12]) as u32);
        let mut with_templates = false;
        let mut data_records = 0;
        let mut rest = &message[HEADER_LENGTH..];
        while !rest.is_empty() {
            let (set, after) = rest.split_at(usize::from(short(rest, 2)));
            match short(set, 0) {
                id @ (2 | 3) => {
                    with_templates = true;
                    read_templates(&set[4..], id == 3, &mut templates);
                }
                id => {
                    let template = templates.get(&id).unwrap_or_else(|| panic!("no template {id}"));
                    data_records += read_records(&set[4..], template, &mut seen);
                }
            }
            rest = after;
        }
        seen.data_records.push(data_records);
        seen.with_templates.push(with_templates);
        seen.order.push('|');
    }
    seen
}

fn read_templates(mut set: &[u8], is_options: bool, templates: &mut HashMap<u16, Template>) {
    while !set.is_empty() {
        let (id, count) = (short(set, 0), usize::from(short(set, 2)));
        let header = if is_options { 6 } else { 4 };
        let mut template = Template { is_options, ..Template::default() };
        for field in set[header..header + 4 * count].chunks(4) {
            let length = usize::from(short(field, 2));
            template.fields.push((short(field, 0), template.length, length));
            template.length += length;
        }
        templates.insert(id, template);
        set = &set[header + 4 * count..];
    }
}

fn read_records(set: &[u8], template: &Template, seen: &mut Seen) -> u32 {
    assert_eq!(set.len() % template.length, 0);
    let mut count = 0;
    for record in set.chunks(template.length) {
        count += 1;
        let value = |element| {
            let mut fields = template.fields.iter();
            let (_, offset, length) = fields.find(|(id, ..)| *id == element)?;
            Some(number(&record[*offset..offset + length]))
        };
        if !template.is_options {
            seen.order.push('f');
            seen.octets.push(value(OCTET_DELTA_COUNT).unwrap());
            continue;
        }
        seen.order.push('o');
        match value(SELECTOR_ID) {
            Some(id) => seen.selectors.push((id, value(SAMPLING_INTERVAL).unwrap())),
            None => seen.interfaces.push(value(INGRESS_INTERFACE).unwrap()),
        }
    }
    count
}
