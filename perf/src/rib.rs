//! A RIB with one peer, and UPDATEs into it.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail};
use pathflow_bgp::rib::{LookupSource, PeerId, PeerIdentity, Rib};
use pathflow_bgp::wire::{Header, MAXIMUM_LENGTH, Message, SessionContext};

/// An empty RIB and its peer, whose unicast routes are looked up.
#[must_use]
pub fn with_one_peer() -> (Rib, PeerId) {
    let mut rib = Rib::new();
    let identity = PeerIdentity { name: Box::from("full"), address: Ipv4Addr::LOCALHOST.into() };
    let peer = rib.add_peer(identity, Some(LookupSource::Unicast));
    (rib, peer)
}

/// Decodes and applies UPDATEs that follow each other; how many routes were new.
///
/// # Errors
/// If there is anything but whole UPDATEs.
pub fn apply(rib: &mut Rib, peer: PeerId, mut messages: &[u8]) -> Result<u32> {
    let context = SessionContext::default();
    let mut added = 0;
    while !messages.is_empty() {
        let header = Header::decode(messages, MAXIMUM_LENGTH)?.context("a message is cut")?;
        let (message, rest) = messages.split_at_checked(header.length.into()).context("a message is cut")?;
        let (_, body) = message.split_at_checked(message.len() - header.body_octets()).context("no body")?;
        let Message::Update(update) = Message::decode(header.message_type, body, &context)? else {
            bail!("not an UPDATE")
        };
        added += rib.apply_update(peer, &update).added;
        messages = rest;
    }
    Ok(added)
}
