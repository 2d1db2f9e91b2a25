//! One question to the kernel by rtnetlink, and its one answer.

use std::io;

use netlink_packet_core::{
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::rtnetlink::receive;

/// A socket to ask with.
#[derive(Debug)]
pub(super) struct Questions {
    socket: Socket,
    sequence: u32,
}

impl Questions {
    /// In the network namespace of the calling thread.
    pub(super) fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The answer, or what the kernel has against the question.
    pub(super) fn ask<A>(&mut self, question: RouteNetlinkMessage) -> io::Result<A>
    where
        A: NetlinkDeserializable,
        A::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, question.into());
        request.finalize();
        let mut buffer = vec![0; request.buffer_len()];
        request.serialize(&mut buffer);
        self.socket.send(&buffer, 0)?;
        loop {
            let datagram = receive(&self.socket)?;
            let answer = NetlinkMessage::<A>::deserialize(&datagram).map_err(io::Error::other)?;
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            return match answer.payload {
                NetlinkPayload::InnerMessage(answer) => Ok(answer),
                NetlinkPayload::Error(error) => Err(error.to_io()),
                _ => Err(io::ErrorKind::InvalidData.into()),
            };
        }
    }
}
