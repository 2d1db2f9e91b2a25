//! sFlow datagrams on the wire, as `tshark` reads them.

use std::collections::BTreeMap;

use super::wire::Capture;

/// A datagram.
#[derive(Debug, Default)]
pub(crate) struct Datagram {
    /// Values of the header, by `tshark`'s names.
    pub(crate) header: BTreeMap<String, String>,
    pub(crate) samples: Vec<Sample>,
}

/// A flow sample or counter sample.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) is_flow: bool,
    /// Values by `tshark`'s names; of several with one name the first.
    values: BTreeMap<String, String>,
}

impl Sample {
    pub(crate) fn text(&self, name: &str) -> &str {
        self.values.get(name).unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The number at the start of a value.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let text = self.text(name);
        let digits = text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().unwrap_or_else(|_| panic!("{name}: {text:?}"))
    }

    /// ifIndex of the data source.
    pub(crate) fn source(&self) -> u64 {
        // Of a large ifIndex, as of counters, it has another name.
        self.number(if self.has("Index") { "Index" } else { "Source ID index" })
    }
}

/// All sFlow datagrams, none of which may be malformed, and each of which must follow the one before, as must the
/// samples of each data source and kind.
pub(crate) fn datagrams(capture: &Capture) -> Vec<Datagram> {
    let text = capture.dissected("sflow");
    assert!(!text.contains("Malformed") && !text.contains("Unknown sample"), "{text}");
    let datagrams: Vec<Datagram> = text.split("InMon sFlow\n").skip(1).map(datagram).collect();
    let mut expected: BTreeMap<(bool, u64), u64> = BTreeMap::new();
    for (number, datagram) in (1_u64..).zip(&datagrams) {
        assert_eq!(datagram.header["Sequence number"], number.to_string());
        assert_eq!(datagram.header["NumSamples"], datagram.samples.len().to_string());
        for sample in &datagram.samples {
            let next = expected.entry((sample.is_flow, sample.source())).or_insert(1);
            assert_eq!(sample.number("Sequence number"), *next, "{sample:#?}");
            *next += 1;
        }
    }
    datagrams
}

/// All samples of these datagrams, of one kind.
pub(crate) fn samples(datagrams: &[Datagram], is_flow: bool) -> Vec<&Sample> {
    datagrams
        .iter()
        .flat_map(|datagram| &datagram.samples)
        .filter(|sample| sample.is_flow == is_flow)
        .collect()
}

fn datagram(text: &str) -> Datagram {
    let mut datagram = Datagram::default();
    for line in text.lines().map(str::trim).take_while(|line| !line.contains(" bytes on wire ")) {
        let kind = line.trim_start_matches("Expanded ").to_ascii_lowercase();
        let is_flow = kind.starts_with("flow sample, seq ");
        if is_flow || kind.starts_with("counters sample, seq ") {
            datagram.samples.push(Sample { is_flow, values: BTreeMap::new() });
            continue;
        }
        // Parts of a number have its bits before them.
        let line = line.rsplit_once(" = ").map_or(line, |(_, meaning)| meaning);
        let Some((name, value)) = line.split_once(": ") else { continue };
        let values = match datagram.samples.last_mut() {
            Some(sample) => &mut sample.values,
            None => &mut datagram.header,
        };
        values.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    datagram
}
