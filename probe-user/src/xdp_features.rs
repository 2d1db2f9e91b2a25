//! What a driver says of XDP, asked of the kernel's generic netlink family `netdev` (6.3 and later;
//! `Documentation/netlink/specs/netdev.yaml` of the kernel).

use std::io;

use futures_util::StreamExt as _;
use genetlink::{GenetlinkError, GenetlinkHandle};
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla as _, NlasIterator,
    ParseableParametrized,
};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};

use crate::ethtool::in_own_runtime;

/// `NETDEV_CMD_DEV_GET`.
const DEV_GET: u8 = 1;
/// `NETDEV_A_DEV_IFINDEX`, u32 in host byte order.
const IFINDEX: u16 = 1;
/// `NETDEV_A_DEV_XDP_FEATURES`, u64 in host byte order.
const XDP_FEATURES: u16 = 3;

/// Bits of `enum netdev_xdp_act` (`include/uapi/linux/netdev.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures(pub u64);

impl XdpFeatures {
    /// A native program can run.
    pub const BASIC: u64 = 1;
    /// Frames may be redirected, to `AF_XDP` sockets too.
    pub const REDIRECT: u64 = 1 << 1;
    /// `AF_XDP` works without copying.
    pub const XSK_ZEROCOPY: u64 = 1 << 3;
    /// Frames of several buffers reach programs that accept them.
    pub const RX_SG: u64 = 1 << 5;

    /// Whether all of `bits` are set.
    #[must_use]
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }
}

/// What the driver of an interface says of XDP; `None` where the kernel cannot say (before 6.3).
///
/// # Errors
/// If there is no such interface or the kernel cannot be asked.
pub fn xdp_features(interface_index: u32) -> io::Result<Option<XdpFeatures>> {
    in_own_runtime(async || {
        let (connection, handle, _messages) = genetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let answer = ask(handle, interface_index).await;
        connection.abort();
        answer
    })
}

async fn ask(mut handle: GenetlinkHandle, interface_index: u32) -> io::Result<Option<XdpFeatures>> {
    let ifindex = DefaultNla::new(IFINDEX, interface_index.to_ne_bytes().to_vec());
    let mut request = NetlinkMessage::from(GenlMessage::from_payload(Device(vec![ifindex])));
    request.header.flags = NLM_F_REQUEST;
    let answers = match handle.request(request).await {
        Ok(answers) => answers,
        Err(GenetlinkError::NetlinkError(error)) if error.raw_os_error() == Some(libc::ENOENT) => {
            return Ok(None);
        }
        Err(error) => return Err(io::Error::other(error.to_string())),
    };
    let mut answers = std::pin::pin!(answers);
    while let Some(answer) = answers.next().await {
        match answer.map_err(|error| io::Error::other(error.to_string()))?.payload {
            NetlinkPayload::InnerMessage(message) => return Ok(message.payload.xdp_features()),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            _ => {}
        }
    }
    Ok(None)
}

/// Attributes of a device, in a request or an answer.
#[derive(Clone, Debug)]
struct Device(Vec<DefaultNla>);

impl Device {
    fn xdp_features(&self) -> Option<XdpFeatures> {
        let attribute = self.0.iter().find(|attribute| attribute.kind() == XDP_FEATURES)?;
        let mut value = [0; size_of::<u64>()];
        if attribute.value_len() != value.len() {
            return None;
        }
        attribute.emit_value(&mut value);
        Some(XdpFeatures(u64::from_ne_bytes(value)))
    }
}

impl GenlFamily for Device {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        DEV_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Device {
    fn buffer_len(&self) -> usize {
        self.0.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.0.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(buffer: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        use netlink_packet_core::Parseable as _;

        let attributes = NlasIterator::new(buffer).map(|attribute| DefaultNla::parse(&attribute?));
        Ok(Self(attributes.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_of_another_size_is_no_answer() {
        let device = |value: &[u8]| Device(vec![DefaultNla::new(XDP_FEATURES, value.to_vec())]);
        assert_eq!(device(&0x23_u64.to_ne_bytes()).xdp_features(), Some(XdpFeatures(0x23)));
        assert_eq!(device(&[1, 0, 0, 0]).xdp_features(), None);
        assert_eq!(Device(Vec::new()).xdp_features(), None);
    }

    #[test]
    fn loopback_has_no_native_xdp() {
        // `None` on a kernel that cannot say.
        let features = xdp_features(1).unwrap_or_default().unwrap_or_default();
        assert!(!features.has(XdpFeatures::BASIC));
    }

    #[test]
    fn an_interface_that_is_missing_is_an_error_where_the_kernel_can_be_asked() {
        if xdp_features(1).unwrap().is_some() {
            assert_eq!(xdp_features(i32::MAX as u32).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        }
    }
}
