//! What an Agent sends, and where its samples end, over a transport that does what a script says.

use super::*;
use crate::sflow::{AsPathSegment, ExtendedGateway, HeaderProtocol, SampledInterface};
use crate::transport::scripted::{Scripted, Step};

const HEADER: [u8; 128] = [0x5a; 128];
/// Octets of a flow sample with such a header: 8 + 32 for the sample, 8 + 16 + 128 for the header.
const SAMPLE_OCTETS: usize = 192;

fn at(milliseconds: u64) -> ExportTime {
    ExportTime { unix_milliseconds: 0, monotonic: Duration::from_millis(milliseconds) }
}

fn sample(source: u32) -> FlowSample<'static> {
    FlowSample {
        source,
        sampling_rate: 1000,
        sample_pool: 5000,
        drops: 0,
        input: SampledInterface::Index(source),
        output: SampledInterface::Unknown,
        protocol: HeaderProtocol::Ethernet,
        frame_length: 1514,
        header: &HEADER,
        switch: None,
        router: None,
        gateway: None,
    }
}

fn agent(path_mtu: u32, steps: impl IntoIterator<Item = Step>) -> Agent {
    let transport = Transport::Scripted(Scripted::new(path_mtu, steps));
    Agent::new(AgentSettings::new([192, 0, 2, 1].into()), transport).unwrap()
}

fn scripted(agent: &mut Agent) -> &mut Scripted {
    match &mut agent.transport {
        Transport::Scripted(scripted) => scripted,
        _ => unreachable!(),
    }
}

fn u32_at(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(octets[at..at + 4].try_into().unwrap())
}

/// Sequence number, number of samples, and the sequence number of each, of what was sent.
fn sent(agent: &mut Agent) -> Vec<(u32, u32, Vec<u32>)> {
    let datagrams = scripted(agent).sent.iter().map(|octets| {
        let (mut position, mut numbers) = (28, Vec::new());
        while position < octets.len() {
            numbers.push(u32_at(octets, position + 8));
            position += 8 + u32_at(octets, position + 4) as usize;
        }
        assert_eq!(position, octets.len());
        (u32_at(octets, 16), u32_at(octets, 24), numbers)
    });
    datagrams.collect()
}

fn flows(flow_samples: u64) -> SampleTally {
    SampleTally { flow_samples, counter_samples: 0 }
}

#[test]
fn datagrams_are_full_and_sequence_numbers_are_of_each_source_and_kind() {
    let mut agent = agent(1500, []);
    for _ in 0..8 {
        agent.flow_sample(at(0), &sample(7));
    }
    assert_eq!(sent(&mut agent), [(1, 7, (1..=7).collect())]);
    assert_eq!(scripted(&mut agent).sent[0].len(), 28 + 7 * SAMPLE_OCTETS);
    agent.counter_sample(at(0), &InterfaceCounters { index: 7, ..InterfaceCounters::default() });
    agent.flow_sample(at(0), &sample(9));
    agent.flow_sample(at(0), &sample(7));
    agent.flush(at(0));
    assert_eq!(sent(&mut agent)[1..], [(2, 4, vec![8, 1, 1, 9])]);
    agent.close(at(0));
    let account = agent.account();
    assert_eq!(account.delivered, SampleTally { flow_samples: 10, counter_samples: 1 });
    assert!(account.is_balanced());
}

#[test]
fn a_sample_waits_no_longer_than_a_second() {
    let mut agent = agent(1500, []);
    agent.flow_sample(at(100), &sample(7));
    agent.flow_sample(at(1099), &sample(7));
    assert_eq!(sent(&mut agent), []);
    agent.flow_sample(at(1100), &sample(7));
    assert_eq!(sent(&mut agent), [(1, 3, vec![1, 2, 3])]);
    agent.flow_sample(at(1200), &sample(7));
    agent.tick(at(1201));
    assert_eq!(sent(&mut agent)[1..], [(2, 1, vec![4])]);
}

#[test]
fn what_could_not_be_sent_leaves_a_gap_in_the_sequence() {
    let mut agent = agent(1500, [Step::Sent, Step::TimedOut, Step::Sent]);
    for _ in 0..3 {
        agent.flow_sample(at(0), &sample(7));
        agent.flush(at(0));
    }
    agent.close(at(0));
    assert_eq!(sent(&mut agent), [(1, 1, vec![1]), (3, 1, vec![3])]);
    assert_eq!(agent.account().lost(LossReason::SendTimeout), flows(1));
    assert_eq!(agent.account().delivered, flows(2));
    assert_eq!(agent.counts().send_errors[SendErrorKind::TimedOut as usize], 1);
    assert!(matches!(agent.next_event(), Some(ExportEvent::TimedOut)));
    assert!(matches!(agent.next_event(), Some(ExportEvent::Recovered)));
}

#[test]
fn a_smaller_path_mtu_cuts_the_datagram_and_loses_nothing() {
    let mut agent = agent(1500, [Step::PathMtu(600)]);
    for _ in 0..5 {
        agent.flow_sample(at(0), &sample(7));
    }
    agent.close(at(0));
    assert_eq!(sent(&mut agent), [(1, 2, vec![1, 2]), (2, 2, vec![3, 4]), (3, 1, vec![5])]);
    assert_eq!(agent.account().delivered, flows(5));
    // A path that carries no sample at all.
    let mut agent = self::agent(128, []);
    agent.flow_sample(at(0), &sample(7));
    agent.close(at(0));
    assert_eq!(agent.account().lost(LossReason::MessageTooBig), flows(1));
    assert!(agent.account().is_balanced());
}

#[test]
fn too_big_again_and_again_ends() {
    let mut agent = agent(1500, [Step::TooBig; 40]);
    for _ in 0..7 {
        agent.flow_sample(at(0), &sample(7));
    }
    agent.close(at(0));
    assert!(agent.account().is_balanced());
    assert_eq!(agent.account().lost(LossReason::MessageTooBig) + agent.account().delivered, flows(7));
}

#[test]
fn what_a_collector_refuses_is_lost_until_it_is_back() {
    let mut agent = agent(1500, [Step::Sent, Step::Refused, Step::Sent, Step::Sent]);
    agent.flow_sample(at(0), &sample(7));
    agent.flush(at(0));
    // The error is about the first, and the second is sent again.
    agent.flow_sample(at(1000), &sample(7));
    agent.flush(at(1000));
    assert_eq!(agent.account().lost(LossReason::CollectorRefused), flows(1));
    scripted(&mut agent).reports.push_back(Step::Refused);
    agent.tick(at(2000));
    assert_eq!(agent.account().lost(LossReason::CollectorRefused), flows(2));
    // Silence for two seconds: it is back.
    for milliseconds in [3000, 4000, 5000] {
        agent.flow_sample(at(milliseconds), &sample(7));
        agent.flush(at(milliseconds));
    }
    agent.close(at(5000));
    assert_eq!(agent.account().delivered, flows(3));
    assert!(agent.account().is_balanced());
    assert!(matches!(agent.next_event(), Some(ExportEvent::Refused { .. })));
    assert!(matches!(agent.next_event(), Some(ExportEvent::Recovered)));
    assert!(agent.next_event().is_none());
}

#[test]
fn a_gateway_record_that_does_not_fit_is_left_out_and_counted() {
    let mut agent = agent(1500, []);
    let long = [64_500; 400];
    let path = [AsPathSegment::Sequence(&long)];
    let gateway = Some(ExtendedGateway { destination_as_path: &path, ..ExtendedGateway::default() });
    agent.flow_sample(at(0), &FlowSample { gateway, ..sample(7) });
    agent.close(at(0));
    assert_eq!(agent.counts().gateway_records_omitted, 1);
    assert_eq!(agent.account().delivered, flows(1));
    assert_eq!(scripted(&mut agent).sent[0].len(), 28 + SAMPLE_OCTETS);
}

#[test]
fn datagrams_too_small_for_a_sample_are_refused() {
    let settings = AgentSettings { max_datagram: 399, ..AgentSettings::new([192, 0, 2, 1].into()) };
    let transport = Transport::Scripted(Scripted::new(1500, []));
    assert!(Agent::new(settings, transport).is_err());
}
