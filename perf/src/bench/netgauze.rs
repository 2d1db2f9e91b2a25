//! The encoder of netgauze-flow-pkt, for comparison: it gets the same records, and has to write the same octets.

use std::collections::HashMap;
use std::hint::black_box;

use anyhow::{Context as _, Result, bail, ensure};
use netgauze_flow_pkt::ipfix::IpfixPacket;
use netgauze_flow_pkt::netflow::NetFlowV9Packet;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use netgauze_parse_utils::{WritablePduWithOneInput, WritablePduWithTwoInputs};
use pathflow_exporter::encode::{Encoder, Message};
use pathflow_exporter::{FlowRecord, Format, ObservationContext};

use crate::encode::BUDGET;
use crate::records::NOW;

/// Encodes the messages of one batch; what is read from them is made before.
pub(crate) fn encode(format: Format, records: &[FlowRecord]) -> Result<Box<dyn FnMut() -> u64>> {
    let messages = messages(format, records)?;
    match format {
        Format::Ipfix => {
            let mut templates = HashMap::new();
            let mut packets = Vec::new();
            for message in &messages {
                let packet = IpfixPacket::parse(&mut SliceReader::new(message), &mut templates);
                packets.push(packet.ok().context("netgauze does not read IPFIX of pathflow")?);
            }
            repeat(packets, &messages, 0, move |p, octets| p.write(octets, Some(&templates)).is_ok())
        }
        Format::NetflowV9 => {
            let mut templates = HashMap::new();
            let mut packets = Vec::new();
            for message in &messages {
                let packet = NetFlowV9Packet::parse(&mut SliceReader::new(message), &mut templates);
                packets.push(packet.ok().context("netgauze does not read NetFlow v9 of pathflow")?);
            }
            // Its Count leaves out the templates.
            repeat(packets, &messages, 4, move |p, octets| {
                WritablePduWithTwoInputs::write(p, octets, Some(&templates), true).is_ok()
            })
        }
        Format::NetflowV5 => bail!("netgauze has no NetFlow v5"),
    }
}

/// But for the first `ignored` octets, what is written must be the messages.
fn repeat<P: 'static>(
    packets: Vec<P>,
    messages: &[Vec<u8>],
    ignored: usize,
    write: impl Fn(&P, &mut Vec<u8>) -> bool + 'static,
) -> Result<Box<dyn FnMut() -> u64>> {
    let mut octets = Vec::with_capacity(BUDGET);
    for (packet, message) in packets.iter().zip(messages) {
        octets.clear();
        ensure!(write(packet, &mut octets), "netgauze does not write what it has read");
        ensure!(
            octets.get(ignored..) == message.get(ignored..),
            "netgauze writes other octets: {octets:02x?} instead of {message:02x?}"
        );
    }
    Ok(Box::new(move || {
        let mut written = 0;
        for packet in &packets {
            octets.clear();
            write(black_box(packet), &mut octets);
            written += black_box(&octets).len() as u64;
        }
        written
    }))
}

/// What pathflow makes of the records; the first has the templates.
fn messages(format: Format, records: &[FlowRecord]) -> Result<Vec<Vec<u8>>> {
    let mut encoder = Encoder::new(format, 1);
    let mut message = Message::new();
    let mut messages = Vec::new();
    encoder.begin(&mut message, BUDGET)?;
    let context = ObservationContext::default();
    encoder.push_preamble(&mut message, &context, 0..encoder.preamble(&context).all);
    for record in records {
        if encoder.push(&mut message, record).is_err() {
            encoder.finish(&mut message, NOW);
            encoder.commit(&message);
            messages.push(message.octets().to_vec());
            encoder.begin(&mut message, BUDGET)?;
            encoder.push(&mut message, record)?;
        }
    }
    encoder.finish(&mut message, NOW);
    messages.push(message.octets().to_vec());
    Ok(messages)
}
