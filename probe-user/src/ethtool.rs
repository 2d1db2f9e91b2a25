//! What the driver of an interface does with packets before anyone else sees them, asked of the kernel by
//! ethtool's netlink interface (`Documentation/networking/ethtool-netlink.rst` of the kernel).
//!
//! Reads only. Every question runs in a thread of its own, so that it may be asked anywhere.

use std::collections::BTreeSet;
use std::io;
use std::thread;

use ::ethtool::{
    EthtoolAttr, EthtoolChannelAttr, EthtoolError, EthtoolFeatureAttr, EthtoolFeatureBit, EthtoolHandle,
    EthtoolLinkModeAttr, EthtoolLinkModeDuplex, EthtoolMessage, EthtoolRingAttr,
};
use futures_util::{Stream, StreamExt as _};
use netlink_packet_generic::GenlMessage;

/// The driver takes VLAN tags out of received frames (`rx-vlan-offload` in the words of `ethtool -k`).
pub(crate) const VLAN_STRIPPING: &str = "rx-vlan-hw-parse";
/// Features with which several packets arrive as one, before XDP sees them.
const MERGING: [&str; 2] = ["rx-lro", "rx-gro-hw"];
/// Rules and flow tables may be executed by the hardware.
pub(crate) const TC_OFFLOAD: &str = "hw-tc-offload";

/// Names of features, in the kernel's own words, such as `rx-vlan-hw-parse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    on: BTreeSet<String>,
    changeable: BTreeSet<String>,
}

/// A number that can be set, and how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// As it is.
    pub current: u32,
    /// As it may be.
    pub maximum: u32,
}

/// Queues of an interface (`ethtool -l`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Queues that only receive.
    pub receive: Setting,
    /// Queues that only send.
    pub send: Setting,
    /// Queues that do both.
    pub combined: Setting,
}

impl Features {
    /// Features with the names of `on` are on; with those of `changeable`, they can be switched.
    pub fn new<'a>(
        on: impl IntoIterator<Item = &'a str>,
        changeable: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let owned = |name: &str| name.to_owned();
        Self {
            on: on.into_iter().map(owned).collect(),
            changeable: changeable.into_iter().map(owned).collect(),
        }
    }

    /// Whether a feature is on; it is off as well where the interface does not know it.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.on.contains(name)
    }

    /// Whether a feature can be switched on and off.
    #[must_use]
    pub fn is_changeable(&self, name: &str) -> bool {
        self.changeable.contains(name)
    }

    /// Whether VLAN tags are taken out of received frames, so that XDP does not see them.
    #[must_use]
    pub fn strips_vlan(&self) -> bool {
        self.is_on(VLAN_STRIPPING)
    }

    /// Names of the features that merge packets before XDP sees them and are on.
    #[must_use]
    pub fn merging(&self) -> Vec<&'static str> {
        MERGING.into_iter().filter(|name| self.is_on(name)).collect()
    }

    /// Whether hardware may forward packets that the kernel then never sees.
    #[must_use]
    pub fn offloads_forwarding(&self) -> bool {
        self.is_on(TC_OFFLOAD)
    }
}

impl Channels {
    /// Queues that receive.
    #[must_use]
    pub fn receiving(&self) -> Setting {
        Setting {
            current: self.receive.current.saturating_add(self.combined.current),
            maximum: self.receive.maximum.max(self.combined.maximum),
        }
    }
}

/// Whether the driver takes VLAN tags out of received frames: XDP then sees frames without them, and
/// `ethtool -K INTERFACE rxvlan off` is the remedy.
///
/// # Errors
/// If there is no such interface or the kernel cannot be asked.
pub fn vlan_stripping(interface: &str) -> io::Result<bool> {
    Ok(features(interface)?.strips_vlan())
}

/// Names of the features that are on and merge packets before XDP sees them (`rx-lro`, `rx-gro-hw`).
///
/// # Errors
/// If there is no such interface or the kernel cannot be asked.
pub fn merges_packets(interface: &str) -> io::Result<Vec<&'static str>> {
    Ok(features(interface)?.merging())
}

/// The features that are on, and those that can be switched.
///
/// # Errors
/// If there is no such interface or the kernel cannot be asked.
pub fn features(interface: &str) -> io::Result<Features> {
    let attributes = ask(interface, async |mut handle, name| {
        collect(handle.feature().get(Some(name)).execute().await).await
    })?;
    let names =
        |bits: Vec<EthtoolFeatureBit>| bits.into_iter().filter(|bit| bit.value).map(|bit| bit.name).collect();
    let mut features = Features::default();
    for attribute in attributes {
        match attribute {
            EthtoolAttr::Feature(EthtoolFeatureAttr::Active(bits)) => features.on = names(bits),
            EthtoolAttr::Feature(EthtoolFeatureAttr::Hw(bits)) => features.changeable = names(bits),
            _ => {}
        }
    }
    Ok(features)
}

/// Whether an interface sends and receives at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplex {
    /// In turn.
    Half,
    /// At the same time.
    Full,
}

/// Speed and duplex of an interface (`ethtool`); `None` = not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkMode {
    /// Bits per second.
    pub bits_per_second: Option<u64>,
    /// Duplex.
    pub duplex: Option<Duplex>,
}

/// Speed and duplex.
///
/// # Errors
/// `ErrorKind::Unsupported` where the driver has no such setting; others if the kernel cannot be asked.
pub fn link_mode(interface: &str) -> io::Result<LinkMode> {
    let attributes = ask(interface, async |mut handle, name| {
        collect(handle.link_mode().get(Some(name)).execute().await).await
    })?;
    let mut mode = LinkMode::default();
    for attribute in attributes {
        match attribute {
            // All bits set: not known.
            EthtoolAttr::LinkMode(EthtoolLinkModeAttr::Speed(megabits)) => {
                mode.bits_per_second = (megabits != u32::MAX).then_some(u64::from(megabits) * 1_000_000);
            }
            EthtoolAttr::LinkMode(EthtoolLinkModeAttr::Duplex(duplex)) => {
                mode.duplex = match duplex {
                    EthtoolLinkModeDuplex::Half => Some(Duplex::Half),
                    EthtoolLinkModeDuplex::Full => Some(Duplex::Full),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    Ok(mode)
}

/// Numbers of queues.
///
/// # Errors
/// `ErrorKind::Unsupported` where the driver has no such setting; others if the kernel cannot be asked.
pub fn channels(interface: &str) -> io::Result<Channels> {
    let attributes = ask(interface, async |mut handle, name| {
        collect(handle.channel().get(Some(name)).execute().await).await
    })?;
    let mut channels = Channels::default();
    for attribute in attributes {
        match attribute {
            EthtoolAttr::Channel(EthtoolChannelAttr::RxCount(count)) => channels.receive.current = count,
            EthtoolAttr::Channel(EthtoolChannelAttr::RxMax(count)) => channels.receive.maximum = count,
            EthtoolAttr::Channel(EthtoolChannelAttr::TxCount(count)) => channels.send.current = count,
            EthtoolAttr::Channel(EthtoolChannelAttr::TxMax(count)) => channels.send.maximum = count,
            EthtoolAttr::Channel(EthtoolChannelAttr::CombinedCount(count)) => {
                channels.combined.current = count;
            }
            EthtoolAttr::Channel(EthtoolChannelAttr::CombinedMax(count)) => {
                channels.combined.maximum = count;
            }
            _ => {}
        }
    }
    Ok(channels)
}

/// Length of the receive rings, in frames.
///
/// # Errors
/// `ErrorKind::Unsupported` where the driver has no such setting; others if the kernel cannot be asked.
pub fn receive_ring(interface: &str) -> io::Result<Setting> {
    let attributes = ask(interface, async |mut handle, name| {
        collect(handle.ring().get(Some(name)).execute().await).await
    })?;
    let mut ring = Setting::default();
    for attribute in attributes {
        match attribute {
            EthtoolAttr::Ring(EthtoolRingAttr::Rx(length)) => ring.current = length,
            EthtoolAttr::Ring(EthtoolRingAttr::RxMax(length)) => ring.maximum = length,
            _ => {}
        }
    }
    Ok(ring)
}

type Answer = GenlMessage<EthtoolMessage>;

fn ask(
    interface: &str,
    question: impl AsyncFnOnce(EthtoolHandle, &str) -> Result<Vec<EthtoolAttr>, EthtoolError> + Send,
) -> io::Result<Vec<EthtoolAttr>> {
    in_own_runtime(async || {
        let (connection, handle, _messages) = ::ethtool::new_connection()?;
        let connection = tokio::spawn(connection);
        let answer = question(handle, interface).await.map_err(as_io_error);
        connection.abort();
        answer
    })
}

/// Runs `action` to its end in a thread and a runtime of its own: a caller may be inside another runtime.
/// The thread is in the network namespace of its caller.
pub(crate) fn in_own_runtime<T: Send>(action: impl AsyncFnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("ask".to_owned()).spawn_scoped(scope, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            runtime.block_on(action())
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that asked has panicked")))
    })
}

async fn collect(
    answers: Result<impl Stream<Item = Result<Answer, EthtoolError>>, EthtoolError>,
) -> Result<Vec<EthtoolAttr>, EthtoolError> {
    let mut answers = std::pin::pin!(answers?);
    let mut attributes = Vec::new();
    while let Some(answer) = answers.next().await {
        attributes.extend(answer?.payload.nlas);
    }
    Ok(attributes)
}

fn as_io_error(error: EthtoolError) -> io::Error {
    match error {
        EthtoolError::NetlinkError(error) => error.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_kernel_are_understood() {
        let on = |names: &[&'static str]| Features::new(names.iter().copied(), []);
        let features = on(&["rx-vlan-hw-parse", "rx-gro-hw", "tx-checksum-ip-generic"]);
        assert!(features.strips_vlan());
        assert_eq!(features.merging(), ["rx-gro-hw"]);
        assert!(!features.offloads_forwarding());
        assert!(on(&["rx-lro", "rx-gro", "hw-tc-offload"]).offloads_forwarding());
        assert_eq!(on(&["rx-lro", "rx-gro"]).merging(), ["rx-lro"]);
        assert!(!Features::default().strips_vlan());
    }

    #[test]
    fn an_interface_that_is_missing_is_an_error() {
        assert_eq!(vlan_stripping("no-such-one").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert!(merges_packets("a name that is too long for an interface").is_err());
    }

    #[test]
    fn loopback_can_be_asked_and_has_no_queues_to_set() {
        assert!(!vlan_stripping("lo").unwrap());
        assert_eq!(channels("lo").unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
        assert_eq!(receive_ring("lo").unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    }

    #[test]
    fn it_can_be_asked_inside_another_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(async { features("lo") }).unwrap().is_on("loopback"));
    }
}
