//! Encoding of messages: pathflow monitors and is not monitored; its tests and measurements send.

use std::net::IpAddr;

use super::peer_header::encode_address;
use super::{HEADER_OCTETS, MessageType, PeerHeader, VERSION};

/// Appends a message: the common header around `body`.
pub fn message(message_type: MessageType, body: &[u8], into: &mut Vec<u8>) {
    into.push(VERSION);
    into.extend(((HEADER_OCTETS + body.len()) as u32).to_be_bytes());
    into.push(message_type as u8);
    into.extend_from_slice(body);
}

/// Appends a message of a peer.
pub fn peer_message(message_type: MessageType, peer: &PeerHeader, rest: &[u8], into: &mut Vec<u8>) {
    let mut body = Vec::new();
    peer.encode(&mut body);
    body.extend_from_slice(rest);
    message(message_type, &body, into);
}

/// Appends a Peer Up Notification. `opens` are the router's and the peer's, with their BGP headers; `information` is
/// TLVs as [`tlv`] makes them.
pub fn peer_up(
    peer: &PeerHeader,
    local: (IpAddr, u16),
    remote_port: u16,
    opens: [&[u8]; 2],
    information: &[u8],
    into: &mut Vec<u8>,
) {
    let mut body = Vec::new();
    encode_address(local.0, &mut body);
    body.extend(local.1.to_be_bytes());
    body.extend(remote_port.to_be_bytes());
    body.extend_from_slice(&opens.concat());
    body.extend_from_slice(information);
    peer_message(MessageType::PeerUp, peer, &body, into);
}

/// Appends a TLV of information or statistics.
pub fn tlv(number: u16, value: &[u8], into: &mut Vec<u8>) {
    into.extend(number.to_be_bytes());
    into.extend((value.len() as u16).to_be_bytes());
    into.extend_from_slice(value);
}
