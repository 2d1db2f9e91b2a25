//! Attaches the kernel program to interfaces, beside whatever is there already.

use std::collections::BTreeMap;
use std::io;

use aya::programs::links::FdLink;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, TcAttachType, XdpMode, tc::TcError};

use super::pin::{LinkPins, PinError};
use super::program::{KernelProgram, classifier, full, xdp};
use super::{CaptureError, support};

/// Where a packet is met on its way through an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// In the driver, before the kernel has a packet of its own.
    XdpNative,
    /// XDP behind the driver. Merged packets are counted as one there.
    XdpGeneric,
    /// Traffic control, packets coming in.
    TcIngress,
    /// Traffic control, packets going out.
    TcEgress,
}

impl Hook {
    /// Whether packets go out here.
    #[must_use]
    pub const fn is_egress(self) -> bool {
        matches!(self, Self::TcEgress)
    }

    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::XdpNative => "XDP native mode",
            Self::XdpGeneric => "XDP generic mode",
            Self::TcIngress => "tc ingress",
            Self::TcEgress => "tc egress",
        }
    }
}

/// How the program is held at a hook.
#[derive(Debug)]
enum Attachment {
    /// Ends with this process, however that ends, unless it is pinned.
    Link(FdLink),
    /// A filter of a clsact qdisc, for kernels without tcx. Outlives a killed process.
    Filter(#[expect(dead_code, reason = "held for its drop")] SchedClassifierLink),
}

/// An attachment and what is to become of it.
#[derive(Debug)]
struct Attached {
    #[expect(dead_code, reason = "held for its drop")]
    attachment: Attachment,
    /// Whether a pin keeps it when this process is gone.
    is_pinned: bool,
    /// Whether it is that of an earlier run, so that packets of this interface went on being counted.
    is_continued: bool,
}

/// What is attached, by interface index and hook.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    attached: BTreeMap<(u32, Hook), Attached>,
    pins: Option<LinkPins>,
}

impl Attachments {
    pub(super) fn use_pins(&mut self, pins: LinkPins) {
        self.pins = Some(pins);
    }
}

impl KernelProgram {
    /// Attaches to an interface. Other programs stay where they are; an earlier run's pinned link is taken
    /// over, from one packet to the next.
    ///
    /// # Errors
    /// [`CaptureError::Busy`] if the interface has an XDP program, which stays untouched;
    /// [`CaptureError::NoNativeXdp`] if its driver cannot run one.
    pub fn attach(&mut self, interface: &str, interface_index: u32, hook: Hook) -> Result<(), CaptureError> {
        let pins = self.parts().2.pins.clone();
        let mut continued = None;
        if let Some(pins) = &pins {
            // Counted at two hooks, packets would be counted twice.
            if let Some(other) = pins.hook(interface_index, hook.is_egress())
                && other != hook
            {
                tracing::warn!(
                    "{interface} was counted at {} and is at {} now: packets in between are not counted",
                    other.as_str(),
                    hook.as_str()
                );
                pins.remove(interface_index, other);
            }
            if let Some(link) = pins.get(interface_index, hook)? {
                continued = self.take_over(interface, hook, link)?;
            }
        }
        let is_continued = continued.is_some();
        let mut attachment = match (continued, hook) {
            (Some(link), _) => Ok(Attachment::Link(link)),
            (None, Hook::XdpNative) => self.attach_xdp(interface, interface_index, XdpMode::Driver),
            (None, Hook::XdpGeneric) => self.attach_xdp(interface, interface_index, XdpMode::Skb),
            (None, Hook::TcIngress) => self.attach_tc(interface, interface_index, TcAttachType::Ingress),
            (None, Hook::TcEgress) => self.attach_tc(interface, interface_index, TcAttachType::Egress),
        }?;
        let mut is_pinned = false;
        if let Some(pins) = &pins {
            if !is_continued || !pins.is_pinning() {
                // A pin that is still there is of an interface that had this index, or is not wanted.
                pins.remove(interface_index, hook);
            }
            if pins.is_pinning() {
                attachment = match attachment {
                    Attachment::Link(link) if !is_continued => {
                        Attachment::Link(pins.pin(link, interface_index, hook)?)
                    }
                    Attachment::Filter(_) => {
                        return Err(PinError::NoTcx { interface: interface.to_owned() }.into());
                    }
                    link @ Attachment::Link(_) => link,
                };
                is_pinned = true;
            }
        }
        let attached = Attached { attachment, is_pinned, is_continued };
        self.parts().2.attached.insert((interface_index, hook), attached);
        Ok(())
    }

    /// Detaches from one interface, if it is attached there.
    pub fn detach(&mut self, interface_index: u32, hook: Hook) {
        let (.., attachments) = self.parts();
        if let Some(attached) = attachments.attached.remove(&(interface_index, hook))
            && attached.is_pinned
            && let Some(pins) = &attachments.pins
        {
            pins.remove(interface_index, hook);
        }
    }

    /// Detaches from every interface, or leaves what is pinned to the next run. The tables stay, to be drained.
    pub fn detach_all(&mut self) {
        self.parts().2.attached.clear();
    }

    /// Detaches from every interface to which this run has attached itself. In links of an earlier run the
    /// program counts on.
    pub fn give_up(&mut self) {
        let attached = &self.parts().2.attached;
        let own: Vec<(u32, Hook)> =
            attached.iter().filter(|(_, one)| !one.is_continued).map(|(key, _)| *key).collect();
        for (interface_index, hook) in own {
            self.detach(interface_index, hook);
        }
        self.detach_all();
    }

    /// Whether the program is attached there.
    #[must_use]
    pub fn is_attached(&self, interface_index: u32, hook: Hook) -> bool {
        self.attachments().attached.contains_key(&(interface_index, hook))
    }

    /// Whether an earlier run counted the packets of this interface in this direction, and has been taken over
    /// without a gap.
    #[must_use]
    pub fn is_continued(&self, interface_index: u32, egress: bool) -> bool {
        self.attachments().attached.iter().any(|((index, hook), one)| {
            *index == interface_index && hook.is_egress() == egress && one.is_continued
        })
    }

    /// The hook at which an earlier run left packets of this interface being counted.
    #[must_use]
    pub fn pinned_hook(&self, interface_index: u32, egress: bool) -> Option<Hook> {
        self.attachments().pins.as_ref()?.hook(interface_index, egress)
    }

    /// Puts the program into a link; `None` if the interface of the link is gone.
    fn take_over(
        &mut self,
        interface: &str,
        hook: Hook,
        link: FdLink,
    ) -> Result<Option<FdLink>, CaptureError> {
        let attach = |reason: String| CaptureError::Attach { interface: interface.to_owned(), reason };
        let error = |error: ProgramError| attach(full(&error));
        let (ebpf, names, _) = self.parts();
        let result = match hook {
            Hook::XdpNative | Hook::XdpGeneric => {
                let xdp = xdp(ebpf, names.xdp)?;
                let link = XdpLink::try_from(link).map_err(|error| attach(full(&error)))?;
                match xdp.attach_to_link(link) {
                    Ok(id) => FdLink::try_from(xdp.take_link(id).map_err(error)?).map_err(|e| full(&e)),
                    Err(refused) if is_gone(&refused) => return Ok(None),
                    Err(refused) => return Err(error(refused)),
                }
            }
            Hook::TcIngress | Hook::TcEgress => {
                let name = if hook.is_egress() { names.tc_egress } else { names.tc_ingress };
                let classifier = classifier(ebpf, name)?;
                let link = SchedClassifierLink::try_from(link).map_err(|error| attach(full(&error)))?;
                match classifier.attach_to_link(link) {
                    Ok(id) => {
                        FdLink::try_from(classifier.take_link(id).map_err(error)?).map_err(|e| full(&e))
                    }
                    Err(refused) if is_gone(&refused) => return Ok(None),
                    Err(refused) => return Err(error(refused)),
                }
            }
        };
        result.map(Some).map_err(attach)
    }

    fn attach_xdp(
        &mut self,
        interface: &str,
        interface_index: u32,
        mode: XdpMode,
    ) -> Result<Attachment, CaptureError> {
        let (ebpf, names, _) = self.parts();
        let xdp = xdp(ebpf, names.xdp)?;
        let error = |error: ProgramError| attach_error(interface, interface_index, true, &error);
        let id = xdp.attach_to_if_index(interface_index, mode).map_err(error)?;
        let link = xdp.take_link(id).map_err(error)?;
        // A link that is not a file descriptor would outlive a killed process.
        FdLink::try_from(link).map(Attachment::Link).map_err(|error| CaptureError::Attach {
            interface: interface.to_owned(),
            reason: error.to_string(),
        })
    }

    fn attach_tc(
        &mut self,
        interface: &str,
        interface_index: u32,
        way: TcAttachType,
    ) -> Result<Attachment, CaptureError> {
        let (ebpf, names, _) = self.parts();
        // What comes in is counted before others can drop it, and what goes out after.
        let (name, order) = match way {
            TcAttachType::Egress => (names.tc_egress, LinkOrder::last()),
            _ => (names.tc_ingress, LinkOrder::first()),
        };
        let program = classifier(ebpf, name)?;
        let error = |error: ProgramError| attach_error(interface, interface_index, false, &error);
        match program.attach_with_options(interface, way, TcAttachOptions::TcxOrder(order)) {
            Ok(id) => {
                let link = program.take_link(id).map_err(error)?;
                FdLink::try_from(link).map(Attachment::Link).map_err(|error| CaptureError::Attach {
                    interface: interface.to_owned(),
                    reason: error.to_string(),
                })
            }
            Err(ref refused) if has_no_tcx(refused) => {
                if let Err(TcError::NetlinkError(reason)) = qdisc_add_clsact(interface)
                    && !reason.to_string().contains("exists")
                {
                    return Err(CaptureError::Attach {
                        interface: interface.to_owned(),
                        reason: reason.to_string(),
                    });
                }
                let options = TcAttachOptions::Netlink(NlOptions::default());
                let id = program.attach_with_options(interface, way, options).map_err(error)?;
                program.take_link(id).map(Attachment::Filter).map_err(error)
            }
            Err(refused) => Err(error(refused)),
        }
    }
}

/// Whether a link has lost its interface.
fn is_gone(error: &ProgramError) -> bool {
    matches!(
        error,
        ProgramError::SyscallError(error)
            if error.io_error.raw_os_error() == Some(libc::ENOLINK)
                || error.io_error.kind() == io::ErrorKind::NotFound
    )
}

/// Whether the kernel knows no tcx links: asked by trying, because vendors port features back.
fn has_no_tcx(error: &ProgramError) -> bool {
    matches!(
        error,
        ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EINVAL)
    )
}

fn attach_error(interface: &str, interface_index: u32, is_xdp: bool, error: &ProgramError) -> CaptureError {
    let code = match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    let no_native_xdp = |reason| CaptureError::NoNativeXdp { interface: interface.to_owned(), reason };
    match code {
        Some(libc::EBUSY | libc::EEXIST) => CaptureError::Busy {
            interface: interface.to_owned(),
            program: support::attached_program(interface_index),
        },
        Some(libc::EOPNOTSUPP) => no_native_xdp("its driver has none"),
        // What drivers say that cannot run a program with what is set up now.
        Some(libc::ERANGE | libc::EMSGSIZE) if is_xdp => {
            no_native_xdp("its MTU, or that of its peer, is too large")
        }
        Some(libc::ENOSPC) if is_xdp => no_native_xdp("it has too few queues"),
        Some(libc::EINVAL) if is_xdp => {
            no_native_xdp("its driver refuses a program with the present settings")
        }
        Some(libc::ENODEV) => CaptureError::NoInterface { interface: interface.to_owned() },
        _ => CaptureError::Attach { interface: interface.to_owned(), reason: full(error) },
    }
}
