//! Messages, octet for octet. The files were written from the RFCs' (and Cisco's) field tables, one field on each line, not
//! by the encoder.

use pathflow_exporter::encode::{Encoder, Message};
use pathflow_exporter::{FlowRecord, Format};

use super::support::{NOW, context, flows};

/// Hexadecimal digits; `#` begins a comment.
pub(crate) fn octets(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::chars)
        .filter_map(|character| character.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Templates, options data, a TCP flow over IPv4, a UDP flow over IPv6 and, after its template, a flow of every kind at
/// once (labelled, in a tunnel, sampled), in the second message of a stream whose first had one record.
fn message(format: Format) -> Vec<u8> {
    let flows = flows();
    let mut encoder = Encoder::new(format, 0x0102_0304);
    let mut message = Message::new();
    encoder.begin(&mut message, 1472).unwrap();
    encoder.push(&mut message, &flows[2]).unwrap();
    encoder.finish(&mut message, NOW);
    encoder.commit(&message);
    encoder.begin(&mut message, 1472).unwrap();
    let parts = encoder.preamble(&context()).all;
    assert_eq!(encoder.push_preamble(&mut message, &context(), 0..parts), parts);
    for index in [0, 1, 8] {
        encoder.push(&mut message, &flows[index]).unwrap();
    }
    encoder.finish(&mut message, NOW);
    message.octets().to_vec()
}

/// Without templates and options data; the second message of a stream whose first had one record.
fn message_without_templates(format: Format) -> Vec<u8> {
    let flows = flows();
    let mut encoder = Encoder::new(format, 0x0102_0304);
    encoder.set_context(&context());
    let mut message = Message::new();
    encoder.begin(&mut message, 1472).unwrap();
    encoder.push(&mut message, &flows[2]).unwrap();
    encoder.finish(&mut message, NOW);
    encoder.commit(&message);
    encoder.begin(&mut message, 1472).unwrap();
    for (sampling_interval, selector_id, index) in [(1000, 4, 0), (1000, 4, 2)] {
        let flow = FlowRecord { sampling_interval, selector_id, ..flows[index].clone() };
        encoder.push(&mut message, &flow).unwrap();
    }
    encoder.finish(&mut message, NOW);
    message.octets().to_vec()
}

#[test]
fn netflow_v5() {
    let octets = octets(include_str!("golden/netflow_v5.hex"));
    assert_eq!(message_without_templates(Format::NetflowV5), octets);
}

#[test]
fn ipfix() {
    assert_eq!(message(Format::Ipfix), octets(include_str!("golden/ipfix.hex")));
}

#[test]
fn netflow_v9() {
    assert_eq!(message(Format::NetflowV9), octets(include_str!("golden/netflow_v9.hex")));
}
