//! The report that the daemon prints when it ends.

use std::collections::BTreeMap;

/// One figure of the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figure {
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    /// Zero where the line has none.
    pub(crate) records: u64,
}

/// The report: figures by label.
#[derive(Debug)]
pub(crate) struct Report {
    figures: BTreeMap<String, Figure>,
    text: String,
}

impl Report {
    pub(crate) fn parse(text: &str) -> Self {
        let figures = text.lines().filter_map(figure).collect();
        Self { figures, text: text.to_owned() }
    }

    /// The figure with this label, zero if it is not there: the report leaves out what is zero.
    pub(crate) fn figure(&self, label: &str) -> Figure {
        self.figures.get(label).copied().unwrap_or_default()
    }

    /// Everything the interfaces received.
    pub(crate) fn received(&self) -> Figure {
        assert!(self.figures.contains_key("received"), "no report: {}", self.text);
        self.figure("received")
    }

    /// Everything that is in flow records.
    pub(crate) fn recorded(&self) -> Figure {
        self.figure("in flow records")
    }

    /// Records made.
    pub(crate) fn made(&self) -> Figure {
        self.figure("flow records made")
    }

    /// Packets and octets that are in no flow, for whatever reason.
    pub(crate) fn dropped(&self) -> Figure {
        self.sum(|label| label.starts_with("not in a flow: "))
    }

    /// What every sink has exported, added up.
    pub(crate) fn exported(&self) -> Figure {
        self.sum(|label| label.ends_with(": exported"))
    }

    /// What no collector got, or did not get in time.
    pub(crate) fn lost(&self) -> Figure {
        self.sum(|label| label.contains(": lost, ") || label.ends_with(": not sent in time"))
    }

    /// What was lost for one reason.
    pub(crate) fn lost_for(&self, reason: &str) -> Figure {
        let end = format!(": lost, {reason}");
        self.sum(|label| label.ends_with(&end))
    }

    /// The report itself, and everything that was logged before it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whatever happened, it adds up, and nothing is held back.
    pub(crate) fn assert_balanced(&self) {
        let text = &self.text;
        assert!(text.contains("ledger: every packet and every record is accounted for"), "{text}");
        let (received, recorded, dropped) = (self.received(), self.recorded(), self.dropped());
        assert_eq!(received.packets, recorded.packets + dropped.packets, "{text}");
        assert_eq!(received.octets, recorded.octets + dropped.octets, "{text}");
        let made = self.made();
        assert_eq!((made.packets, made.octets), (recorded.packets, recorded.octets), "{text}");
    }

    /// In addition: nothing was dropped or lost on the way to the one sink.
    pub(crate) fn assert_complete(&self) {
        self.assert_balanced();
        assert_eq!(self.dropped(), Figure::default(), "{}", self.text);
        assert_eq!(self.lost(), Figure::default(), "{}", self.text);
        assert_eq!(self.exported(), self.made(), "{}", self.text);
    }

    fn sum(&self, is_part: impl Fn(&str) -> bool) -> Figure {
        self.figures.iter().filter(|(label, _)| is_part(label)).fold(Figure::default(), |sum, (_, figure)| {
            Figure {
                packets: sum.packets + figure.packets,
                octets: sum.octets + figure.octets,
                records: sum.records + figure.records,
            }
        })
    }
}

/// Reads a line such as `received   12 packets   345 octets`, perhaps with `6 records` behind it.
fn figure(line: &str) -> Option<(String, Figure)> {
    let mut figure = Figure::default();
    let mut rest = line.trim();
    if let Some((head, records)) = number_before(rest, "records") {
        (figure.records, rest) = (records, head);
    }
    (rest, figure.octets) = number_before(rest, "octets")?;
    (rest, figure.packets) = number_before(rest, "packets")?;
    Some((rest.trim().to_owned(), figure))
}

fn number_before<'a>(text: &'a str, unit: &str) -> Option<(&'a str, u64)> {
    let (head, number) = text.trim_end().strip_suffix(unit)?.trim_end().rsplit_once(' ')?;
    Some((head, number.parse().ok()?))
}

#[test]
fn lines_are_read_from_their_end() {
    let report = Report::parse(
        "received                12 packets     345 octets\n\
         \u{20} ipfix to 192.0.2.2:4739: exported    12 packets    345 octets     6 records\n\
         merge    3 times; median 0.1 ms, 99th percentile 1 ms, longest 2 ms\n",
    );
    assert_eq!(report.received(), Figure { packets: 12, octets: 345, records: 0 });
    assert_eq!(report.exported(), Figure { packets: 12, octets: 345, records: 6 });
    assert_eq!(report.figures.len(), 2);
}
