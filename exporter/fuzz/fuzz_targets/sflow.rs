//! Any samples, in datagrams of any size, are datagrams that sflow-parser reads without a complaint, with as many samples
//! in them as were sent, and the pool and drops of each.
#![no_main]

use std::io::Write;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use pathflow_exporter::sflow::{
    Agent, AgentSettings, AsPathSegment, ExtendedGateway, ExtendedRouter, ExtendedSwitch, FlowSample,
    HeaderProtocol, SampleTally, SampledInterface,
};
use pathflow_exporter::{ExportTime, Stdout, Transport};
use sflow_parser::{SampleData, parse_datagram};

const NOW: ExportTime =
    ExportTime { unix_milliseconds: 1_795_246_800_123, monotonic: Duration::from_secs(3600) };

/// Takes datagrams, one in each write.
#[derive(Clone, Debug, Default)]
struct Datagrams(Arc<Mutex<Vec<Vec<u8>>>>);

impl Write for Datagrams {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().push(octets.to_vec());
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn interface(input: &mut Unstructured<'_>) -> arbitrary::Result<SampledInterface> {
    Ok(match u8::arbitrary(input)? % 4 {
        0 => SampledInterface::Unknown,
        1 => SampledInterface::Internal,
        _ => SampledInterface::Index(u32::arbitrary(input)?),
    })
}

fn address(input: &mut Unstructured<'_>) -> arbitrary::Result<Option<IpAddr>> {
    Ok(match u8::arbitrary(input)? % 3 {
        0 => None,
        1 => Some(<[u8; 4]>::arbitrary(input)?.into()),
        _ => Some(<[u8; 16]>::arbitrary(input)?.into()),
    })
}

fn sample(input: &mut Unstructured<'_>, agent: &mut Agent) -> arbitrary::Result<[u32; 2]> {
    let header = Vec::<u8>::arbitrary(input)?;
    let (numbers, communities) = (Vec::<u32>::arbitrary(input)?, Vec::<u32>::arbitrary(input)?);
    let path = [AsPathSegment::Sequence(&numbers), AsPathSegment::Set(&communities)];
    let (pool, drops) = (u32::arbitrary(input)?, u32::arbitrary(input)?);
    let gateway = ExtendedGateway {
        next_hop: address(input)?,
        destination_as_path: &path[..usize::from(u8::arbitrary(input)? % 3)],
        communities: &communities,
        ..ExtendedGateway::default()
    };
    let [has_switch, has_router, has_gateway] = Arbitrary::arbitrary(input)?;
    agent.flow_sample(
        NOW,
        &FlowSample {
            source: u32::arbitrary(input)?,
            sampling_rate: 1000,
            sample_pool: u64::from(pool),
            drops: u64::from(drops),
            input: interface(input)?,
            output: interface(input)?,
            protocol: HeaderProtocol::Ethernet,
            frame_length: u32::arbitrary(input)? & 0xffff,
            header: &header,
            switch: bool::then_some(has_switch, ExtendedSwitch::default()),
            router: if has_router {
                Some(ExtendedRouter { next_hop: address(input)?, ..ExtendedRouter::default() })
            } else {
                None
            },
            gateway: has_gateway.then_some(gateway),
        },
    );
    Ok([pool, drops])
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let datagrams = Datagrams::default();
    let settings = AgentSettings {
        max_datagram: usize::from(u16::arbitrary(input)?).clamp(AgentSettings::MIN_DATAGRAM, 9000),
        ..AgentSettings::new([192, 0, 2, 1].into())
    };
    let transport = Transport::Stdout(Stdout::from_writer(datagrams.clone()));
    let mut agent = Agent::new(settings, transport).expect("settings");
    let mut sent = Vec::new();
    while !input.is_empty() && sent.len() < 50 {
        // What has an end before a sample is complete was not sent.
        if let Ok(counts) = sample(input, &mut agent) {
            sent.push(counts);
        }
    }
    agent.close(NOW);
    let lost = agent.account().total_lost();
    let mut seen = Vec::new();
    for octets in datagrams.0.lock().unwrap().iter() {
        assert!(octets.len() <= settings.max_datagram);
        let datagram = parse_datagram(octets).expect("datagram");
        for sample in datagram.samples {
            match sample.sample_data {
                SampleData::FlowSample(sample) => seen.push([sample.sample_pool, sample.drops]),
                SampleData::FlowSampleExpanded(sample) => seen.push([sample.sample_pool, sample.drops]),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    // A header that fits no datagram is a loss that the account names.
    if lost == SampleTally::ZERO {
        assert_eq!(seen, sent);
    }
    Ok(())
}

fuzz_target!(|octets: &[u8]| {
    // What has an end before a setting is complete is no case.
    let _ = run(&mut Unstructured::new(octets));
});
