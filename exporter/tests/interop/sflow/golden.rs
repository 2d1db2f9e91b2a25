//! A datagram, octet for octet. The file was written from the standard's structures, one field after another, not by
//! the encoder.

use pathflow_exporter::sflow::{FlowSample, HeaderProtocol, SampledInterface};

use super::{counters, datagrams, full_sample, settings};
use crate::golden::octets;
use crate::support::NOW;

#[test]
fn all_samples_and_records() {
    let arp = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 0x06, 0x04,
        0x00,
    ];
    let sent = datagrams(settings(), |agent| {
        full_sample().export(agent);
        agent.counter_sample(NOW, &counters());
        agent.flow_sample(
            NOW,
            &FlowSample {
                source: 1 << 24,
                sampling_rate: 1,
                sample_pool: 2,
                drops: 0,
                input: SampledInterface::Unknown,
                output: SampledInterface::Internal,
                protocol: HeaderProtocol::Ethernet,
                frame_length: 66,
                header: &arp,
                switch: None,
                router: None,
                gateway: None,
            },
        );
    });
    assert_eq!(sent, [octets(include_str!("../golden/sflow.hex"))]);
}
