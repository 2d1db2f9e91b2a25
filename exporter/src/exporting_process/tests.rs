//! The Exporting Process on scripted networks: every error, every path MTU, and the account at any time.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::observation::{InterfaceInfo, Selector, SelectorAlgorithm};
use crate::record::FlowDirection;
use crate::transport::scripted::{Scripted, Step};

mod ipfix_reader;

use ipfix_reader::{Seen, read};

fn at(milliseconds: u64) -> ExportTime {
    ExportTime { unix_milliseconds: milliseconds, monotonic: Duration::from_millis(milliseconds) }
}

fn record(octets: u64) -> FlowRecord {
    FlowRecord {
        packet_delta_count: 1,
        octet_delta_count: octets,
        ..FlowRecord::between(IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]))
    }
}

fn context(interfaces: u32, interval: u32) -> Arc<ObservationContext> {
    let interfaces = (1..=interfaces).map(|index| InterfaceInfo {
        index,
        name: format!("eth{index}"),
        description: String::new(),
        vlan_id: 0,
    });
    let selectors = [(1, SelectorAlgorithm::Systematic), (2, SelectorAlgorithm::Random)];
    let selectors = selectors.map(|(id, algorithm)| Selector {
        id,
        interface: 1,
        direction: FlowDirection::Ingress,
        algorithm,
        interval,
    });
    Arc::new(ObservationContext { interfaces: interfaces.collect(), selectors: selectors.to_vec() })
}

fn ipv6_record(octets: u64) -> FlowRecord {
    FlowRecord {
        source_address: IpAddr::from([1_u16; 8]),
        destination_address: IpAddr::from([2_u16; 8]),
        ..record(octets)
    }
}

fn process(path_mtu: u32, steps: impl IntoIterator<Item = Step>) -> ExportingProcess {
    let transport = Transport::Scripted(Scripted::new(path_mtu, steps));
    ExportingProcess::new(&ExportSettings::default(), transport).unwrap()
}

fn scripted(process: &mut ExportingProcess) -> &mut Scripted {
    match &mut process.transport {
        Transport::Scripted(scripted) => scripted,
        other => panic!("{other:?}"),
    }
}

fn seen(process: &mut ExportingProcess) -> Seen {
    read(&scripted(process).sent)
}

fn export_one(process: &mut ExportingProcess, now: ExportTime, octets: u64) {
    process.export(now, &[record(octets)]);
    process.flush(now);
    assert!(process.account.is_balanced());
}

fn events(process: &mut ExportingProcess) -> Vec<String> {
    std::iter::from_fn(|| process.next_event())
        .map(|event| format!("{event:?}").split([' ', '{', '(']).next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn too_small_an_mtu_is_refused() {
    let settings = ExportSettings { mtu: 575, ..ExportSettings::default() };
    let transport = Transport::Scripted(Scripted::new(1500, []));
    let error = ExportingProcess::new(&settings, transport).unwrap_err();
    assert_eq!(error.to_string(), "mtu 575 is below the minimum of 576");
}

#[test]
fn records_wait_until_a_message_is_full() {
    let mut process = process(1500, []);
    // 1472 - 16 - 196 - 4 octets hold 15 records of 80.
    let records: Vec<FlowRecord> = (0..16).map(record).collect();
    process.export(at(0), &records[..15]);
    assert_eq!(process.account.pending.records, 15);
    assert_eq!(process.counts.messages, 0);
    process.export(at(0), &records[15..]);
    assert_eq!((process.account.pending.records, process.account.in_flight.records), (1, 15));
    process.close(at(0));
    assert_eq!(process.account.delivered, Tally::of(&records));
    assert_eq!(process.counts.templates, 2);
    assert_eq!(seen(&mut process).sequence_numbers, [0, 15]);
}

#[test]
fn refused_belongs_to_the_message_before() {
    let mut process = process(1500, [Step::Sent, Step::Refused, Step::Sent, Step::Sent]);
    export_one(&mut process, at(0), 1);
    export_one(&mut process, at(1), 10);
    assert_eq!(process.account.lost(LossReason::CollectorRefused), Tally::from(&record(1)));
    assert_eq!(process.account.in_flight, Tally::from(&record(10)));
    export_one(&mut process, at(2), 100);
    assert_eq!(process.account.in_flight.octets, 110);
    let seen = seen(&mut process);
    assert_eq!(seen.octets, [1, 10, 100]);
    assert_eq!(seen.with_templates, [true, true, true]);
    assert_eq!(events(&mut process), ["Refused"]);
}

#[test]
fn while_refused_nothing_is_delivered_without_proof() {
    let mut process = process(1500, [Step::Sent, Step::Refused, Step::Sent, Step::Sent, Step::Refused]);
    for octets in [1, 10, 100, 1000] {
        export_one(&mut process, at(octets), octets);
        process.settle(at(octets));
    }
    // The first was settled before the error came; the second and third were sent in between.
    assert_eq!(process.account.delivered.octets, 1);
    assert_eq!(process.account.lost(LossReason::CollectorRefused).octets, 110);
    assert_eq!(process.account.in_flight.octets, 1000);
    export_one(&mut process, at(4000), 10_000);
    assert_eq!(process.account.delivered.octets, 1001);
    assert_eq!(process.account.in_flight.octets, 10_000);
}

#[test]
fn closed_while_refused_counts_as_refused() {
    let mut process = process(1500, [Step::Sent, Step::Refused]);
    for octets in [1, 10, 100] {
        export_one(&mut process, at(octets), octets);
    }
    process.close(at(200));
    assert_eq!(process.account.lost(LossReason::CollectorRefused).octets, 111);
    assert!(process.account.is_balanced());
}

#[test]
fn recovery_ends_templates_in_every_message() {
    let mut process = process(1500, [Step::Sent, Step::Refused]);
    for seconds in 0..6 {
        export_one(&mut process, at(seconds * 1000), seconds);
    }
    assert_eq!(seen(&mut process).with_templates, [true, true, true, true, false, false]);
    assert_eq!(events(&mut process), ["Refused", "Recovered"]);
}

#[test]
fn each_failure_has_its_reason_and_leaves_a_gap_in_the_sequence() {
    for (step, reason) in [
        (Step::TimedOut, LossReason::SendTimeout),
        (Step::Failed, LossReason::SendFailed),
        (Step::Closed, LossReason::OutputClosed),
    ] {
        let mut process = process(1500, [Step::Sent, step, Step::Sent]);
        for octets in [1, 10, 100] {
            export_one(&mut process, at(octets), octets);
        }
        process.close(at(200));
        assert_eq!(process.account.lost(reason), Tally::from(&record(10)), "{reason:?}");
        assert_eq!(process.account.delivered.octets, 101);
        let seen = seen(&mut process);
        assert_eq!(seen.sequence_numbers, [0, 2]);
        assert_eq!(seen.with_templates, [true, true], "templates again after a failure");
    }
}

#[test]
fn unreachable_that_succeeds_at_once_was_about_the_message_before() {
    let mut process = process(1500, [Step::Sent, Step::Unreachable, Step::Sent]);
    export_one(&mut process, at(0), 1);
    export_one(&mut process, at(1), 10);
    assert_eq!(process.account.lost(LossReason::CollectorRefused), Tally::from(&record(1)));

    let mut process = self::process(1500, [Step::Sent, Step::Unreachable, Step::Unreachable]);
    export_one(&mut process, at(0), 1);
    export_one(&mut process, at(1), 10);
    assert_eq!(process.account.lost(LossReason::SendFailed), Tally::from(&record(10)));
    assert_eq!(process.account.in_flight, Tally::from(&record(1)));
}

#[test]
fn smaller_path_mtu_loses_nothing() {
    let mut process = process(1500, [Step::Sent, Step::PathMtu(600)]);
    let records: Vec<FlowRecord> =
        (0..100).map(|octets| if octets % 7 == 0 { ipv6_record(octets) } else { record(octets) }).collect();
    process.export(at(0), &records);
    process.close(at(1));
    assert_eq!(process.account.delivered, Tally::of(&records));
    assert_eq!(process.message_budget(), 572);
    let seen = seen(&mut process);
    assert_eq!(seen.octets, (0..100).collect::<Vec<u64>>());
    assert_eq!(seen.with_templates.iter().filter(|with| **with).count(), 1);
    assert_eq!(events(&mut process), ["PathMtuChanged"]);
    assert!(scripted(&mut process).sent[1..].iter().all(|message| message.len() <= 572));
}

#[test]
fn too_big_without_a_smaller_mtu_is_about_the_message_before_and_then_cut_to_the_safe_size() {
    let mut process = process(1500, [Step::Sent, Step::TooBig, Step::Sent]);
    export_one(&mut process, at(0), 1);
    export_one(&mut process, at(1), 10);
    assert_eq!(process.account.lost(LossReason::MessageTooBig), Tally::from(&record(1)));
    assert_eq!(process.message_budget(), 1472);

    let mut process = self::process(1500, [Step::TooBig, Step::TooBig, Step::Sent]);
    let records: Vec<FlowRecord> = (0..17).map(record).collect();
    process.export(at(0), &records);
    process.close(at(1));
    assert_eq!(process.account.delivered, Tally::of(&records));
    assert_eq!(process.message_budget(), 548);
}

#[test]
fn path_too_small_for_a_record_loses_it_with_a_reason() {
    for path_mtu in 0..400 {
        let mut process = process(path_mtu, []);
        let records = [record(1), ipv6_record(10), record(100)];
        if path_mtu % 2 == 1 {
            process.set_context(context(3, 10));
        }
        process.export(at(0), &records);
        process.tick(at(1));
        process.close(at(2));
        assert!(process.account.is_balanced());
        assert_eq!(process.account.pending + process.account.in_flight, Tally::ZERO);
        let too_big = process.account.lost(LossReason::MessageTooBig);
        assert_eq!(process.account.delivered + too_big, Tally::of(&records));
        let seen = seen(&mut process);
        assert!(seen.with_templates.first().is_none_or(|first| *first), "data before its template");
    }
}

#[test]
fn options_data_goes_before_records_and_counts_in_the_sequence() {
    let mut process = process(1500, []);
    process.set_context(context(2, 100));
    export_one(&mut process, at(0), 1);
    export_one(&mut process, at(1), 10);
    let seen = seen(&mut process);
    assert_eq!(seen.order, "oooof|f|");
    assert_eq!(seen.sequence_numbers, [0, 5]);
    assert_eq!(seen.selectors, [(1, 100), (2, 100)]);
    assert_eq!(seen.interfaces, [1, 2]);
    assert_eq!((process.counts.templates, process.counts.options_records), (5, 4));
}

#[test]
fn options_data_takes_as_many_messages_as_it_needs() {
    for path_mtu in [300, 576, 1500, 9000] {
        let mut process = process(path_mtu, []);
        process.set_context(context(100, 10));
        let records: Vec<FlowRecord> = (0..50).map(record).collect();
        process.export(at(0), &records);
        process.flush(at(0));
        let seen = seen(&mut process);
        assert_eq!(seen.interfaces, (1..=100).collect::<Vec<u64>>());
        assert_eq!(seen.octets, (0..50).collect::<Vec<u64>>());
        let last_option = seen.order.rfind('o').unwrap();
        assert!(seen.order.find('f').unwrap() > last_option, "{}", seen.order);
        let mut records = 0;
        for (sequence_number, data_records) in seen.sequence_numbers.iter().zip(&seen.data_records) {
            assert_eq!(*sequence_number, records);
            records += data_records;
        }
        process.tick(at(1000));
        assert_eq!(
            scripted(&mut process).sent.len(),
            seen.sequence_numbers.len(),
            "no more until it is time"
        );
    }
}

/// Templates of records of every kind: labelled, in an overlay, sampled.
#[test]
fn templates_are_announced_when_first_needed_and_repeated_from_then_on() {
    let mut process = process(1500, []);
    let labelled = FlowRecord { mpls_top_label: Some(16), ..record(10) };
    let all = FlowRecord { layer2_segment_id: 1, selector_id: 1, ..labelled.clone() };
    let mut templates = Vec::new();
    for (seconds, record) in [record(1), labelled.clone(), all, labelled].into_iter().enumerate() {
        process.export(at(seconds as u64), &[record]);
        process.flush(at(seconds as u64));
        templates.push(process.counts.templates);
    }
    process.tick(at(60_000));
    templates.push(process.counts.templates);
    assert_eq!(templates, [2, 3, 4, 4, 8]);
    assert_eq!(seen(&mut process).octets, [1, 10, 10, 10]);
}

#[test]
fn a_template_that_was_lost_is_announced_again() {
    let mut process = process(1500, [Step::Sent, Step::TimedOut]);
    let labelled = FlowRecord { mpls_top_label: Some(16), ..record(10) };
    export_one(&mut process, at(0), 1);
    for octets in [10, 100] {
        process.export(at(octets), &[FlowRecord { octet_delta_count: octets, ..labelled.clone() }]);
        process.flush(at(octets));
    }
    assert_eq!(process.account.lost(LossReason::SendTimeout).octets, 10);
    assert_eq!(seen(&mut process).octets, [1, 100]);
}

#[test]
fn options_data_is_repeated_by_time_without_data() {
    let mut process = process(576, []);
    process.set_context(context(20, 10));
    for seconds in 0..=120 {
        process.tick(at(seconds * 1000));
    }
    let seen = seen(&mut process);
    assert_eq!(seen.interfaces.len(), 60, "at 0, 60 and 120 s");
    assert_eq!(seen.selectors.len(), 6);
    assert!(process.account.is_balanced());
}

#[test]
fn new_context_is_sent_before_the_records_that_follow_it() {
    let mut process = process(1500, []);
    process.set_context(context(1, 100));
    process.export(at(0), &[record(1)]);
    process.set_context(context(1, 100));
    process.export(at(1), &[record(10)]);
    process.set_context(context(1, 200));
    process.export(at(2), &[record(100)]);
    process.flush(at(2));
    process.set_context(context(1, 300));
    process.tick(at(3));
    let seen = seen(&mut process);
    assert_eq!(seen.order, "oooff|ooof|ooo|");
    assert_eq!(
        seen.selectors.iter().map(|(_, interval)| *interval).collect::<Vec<u64>>(),
        [100, 100, 200, 200, 300, 300]
    );
}

#[test]
fn while_refused_templates_are_in_every_message_and_options_data_once_a_second() {
    let mut process = process(1500, [Step::Sent, Step::Refused]);
    process.set_context(context(1, 100));
    for tenths in 0..25 {
        export_one(&mut process, at(tenths * 100), tenths);
    }
    let seen = seen(&mut process);
    // The error is heard at 0.1 s; the message is sent again with templates, and without after the quiet time.
    assert_eq!(seen.with_templates.iter().filter(|with| **with).count(), 22);
    assert!(seen.with_templates[..22].iter().all(|with| *with));
    let with_options: Vec<usize> = seen
        .order
        .split('|')
        .enumerate()
        .filter(|(_, message)| message.contains('o'))
        .map(|(index, _)| index)
        .collect();
    assert_eq!(with_options, [0, 10, 20]);
}

#[test]
fn settle_moves_the_datagram_in_flight() {
    let mut process = process(1500, []);
    export_one(&mut process, at(0), 1);
    process.settle(at(1));
    assert_eq!(process.account.delivered.octets, 1);
    export_one(&mut process, at(2), 10);
    scripted(&mut process).reports.push_back(Step::Refused);
    process.settle(at(3));
    assert_eq!(process.account.lost(LossReason::CollectorRefused).octets, 10);
    export_one(&mut process, at(4), 100);
    scripted(&mut process).reports.push_back(Step::TooBig);
    process.settle(at(5));
    assert_eq!(process.account.lost(LossReason::MessageTooBig).octets, 100);
    assert!(process.account.is_balanced());
}

#[test]
fn tick_follows_a_path_mtu_that_grows() {
    let mut process = process(1000, []);
    process.tick(at(0));
    assert_eq!(process.message_budget(), 972);
    scripted(&mut process).path_mtu = 9000;
    process.tick(at(29_999));
    assert_eq!(process.message_budget(), 972);
    process.tick(at(30_000));
    assert_eq!(process.message_budget(), 1472, "no larger than configured");
}

#[test]
fn stdout_is_settled_at_once_and_a_closed_pipe_is_named() {
    let (reader, writer) = std::io::pipe().unwrap();
    let stdout = Transport::Stdout(crate::transport::Stdout::from_writer(writer));
    let mut process = ExportingProcess::new(&ExportSettings::default(), stdout).unwrap();
    export_one(&mut process, at(0), 1);
    assert_eq!(process.account.delivered.octets, 1);
    drop(reader);
    export_one(&mut process, at(1), 10);
    assert_eq!(process.account.lost(LossReason::OutputClosed).octets, 10);
    assert_eq!(events(&mut process), ["Closed"]);
}

/// Records that make messages of one length.
fn alike(count: u64) -> Vec<FlowRecord> {
    (0..count).map(record).collect()
}

#[test]
fn messages_of_one_length_leave_together_and_a_shorter_one_ends_the_run() {
    let mut process = process(1500, []);
    process.export(at(0), &alike(1000));
    // 15 records with the templates alone; 18 in each other message, of which so many fit 65507 octets.
    assert_eq!(scripted(&mut process).runs, [44, 10]);
    assert_eq!(process.account.in_flight.records, 180);
    assert_eq!(process.account.pending.records, 1000 - 15 - 54 * 18);
    process.flush(at(0));
    assert_eq!(scripted(&mut process).runs, [44, 10, 1]);
    let mixed: Vec<FlowRecord> = [record(1), ipv6_record(2)].into_iter().cycle().take(100).collect();
    process.export(at(0), &mixed);
    process.close(at(0));
    let longest = scripted(&mut process).runs.iter().max();
    assert_eq!(longest, Some(&44));
    assert_eq!(process.account.delivered.records, 1100);
    let sent = scripted(&mut process).sent.len();
    assert_eq!(process.counts.messages, sent as u64);
    assert_eq!(seen(&mut process).octets.len(), 1100);
}

#[test]
fn what_announces_templates_leaves_alone() {
    let transport = Transport::Scripted(Scripted::new(1500, []));
    let settings = ExportSettings { template_messages: 10, ..ExportSettings::default() };
    let mut process = ExportingProcess::new(&settings, transport).unwrap();
    process.export(at(0), &alike(1000));
    process.close(at(0));
    let with_templates = seen(&mut process).with_templates;
    for (index, with) in with_templates.iter().enumerate() {
        assert_eq!(*with, index % 10 == 0, "{with_templates:?}");
    }
    assert!(scripted(&mut process).runs[..5].iter().all(|messages| *messages == 9));
}

/// Every error that a run may meet: each costs what it would have cost the first message alone.
#[test]
fn a_run_that_fails_is_sent_message_by_message() {
    let first = || (0..15).map(|number| number as u64);
    for (step, lost, reason) in [
        // Of the message with the templates, which was in flight.
        (Step::Refused, first().collect::<Vec<u64>>(), LossReason::CollectorRefused),
        (Step::Unreachable, first().collect(), LossReason::CollectorRefused),
        (Step::TooBig, first().collect(), LossReason::MessageTooBig),
        (Step::TimedOut, (15..33).collect(), LossReason::SendTimeout),
        (Step::Failed, (15..33).collect(), LossReason::SendFailed),
        (Step::PathMtu(1000), Vec::new(), LossReason::MessageTooBig),
        (Step::NoSegments, Vec::new(), LossReason::SendFailed),
    ] {
        let mut process = process(1500, [Step::Sent, step]);
        process.export(at(0), &alike(300));
        assert!(process.account.is_balanced());
        assert_eq!(process.account.lost(reason).octets, lost.iter().sum::<u64>(), "{step:?}");
        assert_eq!(process.account.total_lost().records, lost.len() as u64, "{step:?}");
        process.flush(at(0));
        let seen = seen(&mut process);
        let is_sent = |number: &u64| *number < 15 || !lost.contains(number);
        assert_eq!(seen.octets, (0..300).filter(is_sent).collect::<Vec<u64>>(), "{step:?}");
        // What was never sent is a gap in the sequence.
        let data_records: u32 = seen.data_records.iter().sum();
        let last = *seen.sequence_numbers.last().unwrap() + seen.data_records.last().unwrap();
        assert_eq!(u64::from(last), 300, "{step:?}");
        assert_eq!(data_records as usize, seen.octets.len());
    }
}

#[test]
fn without_segmentation_every_message_is_sent_alone() {
    let mut process = process(1500, [Step::Sent, Step::NoSegments]);
    process.export(at(0), &alike(300));
    process.export(at(1), &alike(300));
    process.close(at(1));
    assert_eq!(scripted(&mut process).runs, [0; 0]);
    assert_eq!(process.account.delivered.records, 600);
    assert_eq!(process.account.accepted, process.account.delivered);
}

#[derive(Clone, Debug)]
enum Call {
    Export(Vec<u8>),
    Flush,
    Tick,
    Settle(Step),
    SetContext(u32),
    Close,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Sent),
        1 => Just(Step::Refused),
        1 => Just(Step::Unreachable),
        1 => Just(Step::TooBig),
        1 => (0_u32..1600).prop_map(Step::PathMtu),
        1 => Just(Step::TimedOut),
        1 => Just(Step::Failed),
        1 => Just(Step::Closed),
        1 => Just(Step::NoSegments),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        6 => prop::collection::vec(0_u8..16, 0..60).prop_map(Call::Export),
        2 => (100_usize..400, 0_u8..2).prop_map(|(count, kind)| Call::Export(vec![kind; count])),
        2 => Just(Call::Flush),
        2 => Just(Call::Tick),
        1 => step().prop_map(Call::Settle),
        1 => (0_u32..30).prop_map(Call::SetContext),
        1 => Just(Call::Close),
        3 => (0_u64..70_000).prop_map(Call::Wait),
    ]
}

fn netflow_v5_process(steps: impl IntoIterator<Item = Step>) -> ExportingProcess {
    let settings = ExportSettings { format: Format::NetflowV5, ..ExportSettings::default() };
    ExportingProcess::new(&settings, Transport::Scripted(Scripted::new(1500, steps))).unwrap()
}

/// There are no templates to ask with whether somebody listens.
#[test]
fn without_templates_silence_after_a_message_ends_an_outage() {
    let mut process = netflow_v5_process([Step::Sent, Step::Refused]);
    export_one(&mut process, at(0), 1);
    // Refused, and sent again; that may be refused without a word, as hosts limit how often they say so.
    export_one(&mut process, at(100), 10);
    for milliseconds in (200..1600).step_by(100) {
        process.tick(at(milliseconds));
    }
    assert_eq!(process.account.in_flight.octets, 10);
    export_one(&mut process, at(1600), 100);
    process.tick(at(3500));
    assert_eq!(process.account.in_flight.octets, 110);
    assert_eq!(events(&mut process), ["Refused"]);
    process.tick(at(3600));
    assert_eq!(process.account.in_flight, Tally::ZERO);
    assert_eq!(process.account.delivered.octets, 110);
    assert_eq!(process.account.lost(LossReason::CollectorRefused).octets, 1);
    assert_eq!(events(&mut process), ["Recovered"]);
    assert_eq!(scripted(&mut process).sent.len(), 3, "nothing is sent without data");
}

/// The record counts with its first part, packets and octets with the part that they are in.
#[test]
fn a_record_in_parts_is_accounted_for_by_part() {
    let whole = 300 * u64::from(u32::MAX);
    let mut process = netflow_v5_process([Step::Sent, Step::TimedOut]);
    scripted(&mut process).segments_size = 0;
    process.export(at(0), &[record(whole), record(7)]);
    process.close(at(0));
    assert!(process.account.is_balanced());
    let message = 30 * u64::from(u32::MAX);
    let lost = process.account.lost(LossReason::SendTimeout);
    assert_eq!((lost.records, lost.octets), (0, message));
    let delivered = process.account.delivered;
    assert_eq!((delivered.records, delivered.octets), (2, whole + 7 - message));
    assert_eq!(process.account.accepted.records, 2);
    assert_eq!(process.counts.limited(LimitReason::CountersOver32Bits), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the network does: the account balances after every call, `delivered` and `lost` only grow,
    /// what was never reported is what the collector has, in order and once, and the Sequence Numbers count
    /// every record that was given up after it had a place in a message.
    #[test]
    fn account_is_exact(
        calls in prop::collection::vec(call(), 1..40),
        steps in prop::collection::vec(step(), 0..60),
        path_mtu in 300_u32..2000,
    ) {
        let mut process = process(path_mtu, steps);
        let mut now = 0;
        let mut exported = 0;
        let mut before = ExportAccount::default();
        for call in calls {
            match call {
                Call::Export(kinds) => {
                    let records: Vec<FlowRecord> = kinds
                        .into_iter()
                        .map(|kind| {
                            exported += 1;
                            let plain = if kind & 1 == 0 { record(exported) } else { ipv6_record(exported) };
                            FlowRecord {
                                mpls_top_label: (kind & 2 != 0).then_some(16),
                                layer2_segment_id: u32::from(kind & 4 != 0),
                                selector_id: u16::from(kind & 8 != 0),
                                ..plain
                            }
                        })
                        .collect();
                    process.export(at(now), &records);
                }
                Call::Flush => process.flush(at(now)),
                Call::Tick => process.tick(at(now)),
                Call::Settle(step) => {
                    scripted(&mut process).reports.push_back(step);
                    process.settle(at(now));
                }
                Call::SetContext(interfaces) => process.set_context(context(interfaces, 10)),
                Call::Close => process.close(at(now)),
                Call::Wait(milliseconds) => now += milliseconds,
            }
            let account = *process.account();
            prop_assert!(account.is_balanced(), "{account:?}");
            prop_assert_eq!(account.accepted.records, exported);
            prop_assert!(account.delivered.records >= before.delivered.records);
            for reason in LossReason::ALL {
                prop_assert!(account.lost(reason).records >= before.lost(reason).records);
            }
            before = account;
        }
        process.close(at(now));
        let account = *process.account();
        prop_assert!(account.is_balanced());
        prop_assert_eq!(account.pending + account.in_flight, Tally::ZERO);
        prop_assert_eq!(account.accepted.octets, exported * (exported + 1) / 2);

        let seen = seen(&mut process);
        prop_assert!(seen.octets.is_sorted_by(|a, b| a < b), "order kept, nothing twice");
        prop_assert!(seen.with_templates.first().is_none_or(|first| *first), "data before its template");
        // What was sent is delivered, or was lost by an error that came later.
        let lost_later = account.lost(LossReason::CollectorRefused) + account.lost(LossReason::MessageTooBig);
        let sent = seen.octets.len() as u64;
        prop_assert!(account.delivered.records <= sent);
        prop_assert!(sent <= account.delivered.records + lost_later.records);
        prop_assert!(seen.sequence_numbers.is_sorted());
        prop_assert_eq!(process.counts.messages as usize, seen.sequence_numbers.len());
        let octets: usize = scripted(&mut process).sent.iter().map(Vec::len).sum();
        prop_assert_eq!(process.counts.octets as usize, octets);
    }
}
