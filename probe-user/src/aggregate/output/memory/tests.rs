//! Rows that are kept, beside a map.

use std::collections::HashMap;
use std::time::Duration;

use pathflow_exporter::{BgpAttributes, BgpPathSegment, BgpPathSegmentKind, BgpRoute, FlowRecord};
use proptest::prelude::*;

use super::*;
use crate::aggregate::encode::FormatTable;
use crate::aggregate::{Aggregation, Key, MemoryTable, Observed, Spread};
use crate::classify::Class;

const KEY: [&str; 3] = ["src_host", "dst_port", "as_path"];

/// Last octet of the source address, destination port, AS number and packets.
type Packet = (u8, u16, u32, u64);

fn settings() -> AggregateSettings {
    AggregateSettings::new("test", Key::parse(&KEY).unwrap(), Duration::from_secs(1))
}

fn output(max_entries: u32) -> MemoryOutput {
    let encode = EncodeSettings::new(&FormatTable::default(), true);
    let memory = MemorySettings::new(&MemoryTable { max_entries }, &encode).unwrap();
    MemoryOutput::new(&settings(), &memory)
}

/// A purge of its own table, whose numbers for AS paths are its own, too.
fn purge(packets: &[Packet]) -> Purge {
    let mut aggregation = Aggregation::new(settings());
    for &(source, destination_port, as_number, packets) in packets {
        let segment = BgpPathSegment { kind: BgpPathSegmentKind::Sequence, as_numbers: [as_number].into() };
        let attributes = BgpAttributes { as_path: [segment].into(), ..BgpAttributes::default() };
        let record = FlowRecord {
            destination_port,
            protocol_identifier: 17,
            destination_route: Some(Arc::new(BgpRoute::new(attributes))),
            packet_delta_count: packets,
            octet_delta_count: packets * 100,
            ..FlowRecord::between([192, 0, 2, source].into(), [192, 0, 2, 2].into())
        };
        let observed = Observed {
            record,
            extension: None,
            inner_tcp_control_bits: 0,
            class: Class::UNKNOWN,
            begins: true,
            start: 1,
            time: 1,
            end: 1,
        };
        aggregation.add(&[observed], &mut Spread::default());
    }
    aggregation.purge(0, None, None)
}

fn csv(selected: &Selected) -> Vec<String> {
    let mut encoder = output(10).rows.encoder(Format::Csv, "|").unwrap();
    let row = |row: Row<'_>| {
        let mut out = Vec::new();
        encoder.row(&mut out, &row, 0);
        String::from_utf8(out).unwrap()
    };
    selected.rows.rows().map(row).collect()
}

fn ask(output: &MemoryOutput, conditions: &[(&str, &str)], top: usize) -> Selected {
    let conditions = conditions.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    output.kept().unwrap().ask(&Question { conditions, top, ..Question::default() }).unwrap()
}

#[test]
fn rows_of_several_purges_are_added_up_and_found() {
    let mut output = output(100);
    output.write(&purge(&[(1, 53, 64500, 2), (2, 53, 64501, 1), (9, 80, 64501, 7)]));
    output.write(&purge(&[(9, 80, 64501, 1), (1, 53, 64501, 5), (2, 53, 64501, 1)]));
    let all = ask(&output, &[], 0);
    assert_eq!(
        csv(&all),
        [
            "64501|192.0.2.9|80|8|800",
            "64501|192.0.2.1|53|5|500",
            "64500|192.0.2.1|53|2|200",
            "64501|192.0.2.2|53|2|200"
        ]
    );
    assert_eq!(
        (all.matching, all.all),
        (all.rows.tally(), output.account().delivered - Tally { records: 2, ..Tally::ZERO })
    );
    let some = |conditions: &[(&str, &str)], top| csv(&ask(&output, conditions, top));
    assert_eq!(some(&[("src_host", "192.0.2.0/29"), ("dst_port", "53")], 1), ["64501|192.0.2.1|53|5|500"]);
    assert_eq!(some(&[("src_host", "192.0.2.9")], 0), ["64501|192.0.2.9|80|8|800"]);
    assert_eq!(some(&[("as_path", "64500")], 0), ["64500|192.0.2.1|53|2|200"]);
    assert_eq!(some(&[("dst_port", "443")], 0), [""; 0]);
    let conditions = vec![("dst_host".to_owned(), "192.0.2.2".to_owned())];
    let error = output.kept().unwrap().ask(&Question { conditions, ..Question::default() }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "dst_host: it is not in the key of test, which is as_path, src_host, dst_port"
    );
}

#[test]
fn what_finds_no_room_is_lost_by_name_until_all_is_forgotten() {
    let mut output = output(2);
    output.write(&purge(&[(1, 1, 1, 1), (2, 1, 1, 1)]));
    output.write(&purge(&[(1, 1, 1, 1), (3, 1, 1, 5)]));
    let account = output.account();
    assert_eq!(account.delivered, Tally { records: 3, packets: 3, octets: 300 });
    assert_eq!(account.lost, [("memory_full", Tally { records: 1, packets: 5, octets: 500 })]);
    let kept = output.kept().unwrap();
    let before = kept.ask(&Question { forget: true, ..Question::default() }).unwrap();
    assert_eq!(csv(&before), ["1|192.0.2.1|1|2|200", "1|192.0.2.2|1|1|100"]);
    assert_eq!(kept.ask(&Question::default()).unwrap().all, Tally::ZERO);
    kept.put_back(&before);
    assert_eq!(kept.ask(&Question { forget: true, ..Question::default() }).unwrap().all, before.all);
    let some = kept.ask(&Question { forget: true, top: 1, ..Question::default() });
    assert_eq!(some.unwrap_err(), AskError::ForgetSome);
    output.write(&purge(&[(3, 1, 1, 5)]));
    assert_eq!(csv(&ask(&output, &[], 0)), ["1|192.0.2.3|1|5|500"]);
}

#[test]
fn routes_that_come_and_go_do_not_fill_the_table() {
    let mut output = output(2);
    // Each purge has a route of its own with the same path.
    for _ in 0..20_000 {
        output.write(&purge(&[(1, 1, 64500, 1)]));
    }
    assert_eq!(csv(&ask(&output, &[], 0)), ["64500|192.0.2.1|1|20000|2000000"]);
    assert!(output.account().lost.is_empty());
}

#[test]
fn values_of_rows_without_room_do_not_keep_others_from_growing() {
    let mut output = output(2);
    output.write(&purge(&[(1, 1, 1, 1), (2, 1, 2, 1)]));
    for as_number in 3..10_000 {
        output.write(&purge(&[(1, 1, 1, 1), (2, 1, as_number, 1)]));
    }
    assert_eq!(csv(&ask(&output, &[], 0)), ["1|192.0.2.1|1|9998|999800", "2|192.0.2.2|1|1|100"]);
    assert_eq!(output.account().total_lost().packets, 9997);
}

proptest! {
    #[test]
    fn the_sums_are_those_of_a_map(purges in prop::collection::vec(
        prop::collection::vec((0u8..4, 0u16..3, 1u32..4, 1u64..1000), 0..20), 0..8)
    ) {
        let mut output = output(1000);
        let mut model: HashMap<(u8, u16, u32), u64> = HashMap::new();
        for packets in &purges {
            output.write(&purge(packets));
            for (source, port, as_number, packets) in packets {
                *model.entry((*source, *port, *as_number)).or_default() += packets;
            }
        }
        let mut rows = csv(&ask(&output, &[], 0));
        rows.sort();
        let line = |((source, port, as_number), packets): (&(u8, u16, u32), &u64)| {
            format!("{as_number}|192.0.2.{source}|{port}|{packets}|{}", packets * 100)
        };
        let mut expected: Vec<String> = model.iter().map(line).collect();
        expected.sort();
        prop_assert_eq!(rows, expected);
    }
}
