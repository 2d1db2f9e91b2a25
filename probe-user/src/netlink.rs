//! Interfaces of this network namespace, asked of the kernel by rtnetlink.
//!
//! Not by `/sys/class/net`: that shows the namespace in which `/sys` was mounted, which need not be ours.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Kernel's interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Id of the XDP program that is attached, if any.
    pub xdp_program: Option<u32>,
}

/// Lists the interfaces.
///
/// # Errors
/// If the kernel cannot be asked or its answer is not understood.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_DUMP | NLM_F_REQUEST;
    let mut request =
        NetlinkMessage::new(header, RouteNetlinkMessage::GetLink(LinkMessage::default()).into());
    request.finalize();
    let mut buffer = vec![0; request.buffer_len()];
    request.serialize(&mut buffer);
    socket.send(&buffer, 0)?;

    let mut interfaces = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
            let length = (message.header.length as usize).next_multiple_of(4);
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(interfaces),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    interfaces.push(interface(&link));
                }
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn interface(link: &LinkMessage) -> Interface {
    let mut interface = Interface { index: link.header.index, name: String::new(), xdp_program: None };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Xdp(attributes) => {
                interface.xdp_program = attributes.iter().find_map(|attribute| match attribute {
                    LinkXdp::ProgId(id) => Some(*id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    interface
}

/// Id of the XDP program on an interface.
#[must_use]
pub fn xdp_program_id(index: u32) -> Option<u32> {
    interfaces().ok()?.into_iter().find(|interface| interface.index == index)?.xdp_program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed() {
        let interfaces = interfaces().unwrap();
        let loopback = interfaces.iter().find(|interface| interface.name == "lo").unwrap();
        assert_eq!(loopback.index, 1);
        assert_eq!(loopback.xdp_program, None);
    }
}
