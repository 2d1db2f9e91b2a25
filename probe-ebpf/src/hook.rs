//! Where packets are met: XDP and tc, and what each of them knows of a packet.

use core::ffi::c_void;
use core::marker::PhantomData;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_skb_pull_data, bpf_xdp_get_buff_len};
use aya_ebpf::programs::{TcContext, XdpContext};
use pathflow_common::PacketBytes;
use pathflow_common::parse::link::Link;

use crate::filter;
use crate::frame::{Frame, FrameLength};
use crate::log::Log;
use crate::maps;

/// Octets that are made readable at the start of a packet whose headers may lie elsewhere.
const PULLED_OCTETS: u32 = 256;

/// A packet where it is met.
pub trait Hook: Sized + FrameLength {
    /// Whether packets go out here.
    const EGRESS: bool;
    /// Whether a packet may be one that was merged from several, or that will be cut.
    const MERGED: bool;
    /// Whether there are so many paths to the tables that the verifier must forget how it came there.
    const FORGETS: bool;

    /// What messages for debugging are about.
    type Context: Log;
    /// The program's context.
    fn context(&self) -> &Self::Context;
    /// The same for helpers of the kernel.
    fn pointer(&self) -> *mut c_void;
    /// The program's context, in a function that was given only the pointer to it.
    fn own_context(pointer: *mut c_void) -> Self::Context;
    /// The packet of a context.
    type At<'a>: Hook;
    /// Of this one.
    fn of(context: &Self::Context) -> Self::At<'_>;
    /// The interface.
    fn interface_index(&self) -> u32;
    /// The interface that a packet came in by that goes out here; 0 if this host made it.
    fn ingress_interface_index(&self) -> u32;
    /// What can be read of the packet.
    fn frame(&self) -> Frame<'_, Self>;
    /// The part of it that can be read without asking for more.
    fn start(&self) -> Frame<'_, Self>;
    /// Where parsing starts.
    fn link<P: PacketBytes>(&self, frame: &P, has_link_header: bool) -> Option<Link>;
    /// How many packets it is on the wire.
    fn segments(&self) -> Segments;
    /// The VLAN tag that is held beside the frame: TPID and TCI, 0 if there is none.
    fn tag(&self) -> u32;
    /// What a filter is to read as if it were in the frame, see [`crate::filter`].
    fn beside(&self, has_link_header: bool) -> u64;
}

/// A packet that hardware or the kernel has merged from several, or will cut into several (GRO, GSO).
#[derive(Clone, Copy)]
pub struct Segments {
    /// How many; 0 if the kernel does not know.
    pub count: u32,
    /// Octets of payload of each but the last; 0 if it is one packet.
    pub payload: u32,
}

impl Segments {
    /// A packet like any other.
    const ONE: Self = Self { count: 1, payload: 0 };

    /// How many packets with `octets` of payload altogether this is.
    #[inline(always)]
    pub fn packets(self, octets: u32) -> u32 {
        if self.payload == 0 {
            return 1;
        }
        if self.count != 0 {
            return self.count;
        }
        // Virtual machines hand over packets of which they only say how they are to be cut.
        let segments = octets.div_ceil(self.payload);
        if segments == 0 { 1 } else { segments }
    }
}

/// How the length of a frame is known in XDP.
pub trait Buffers {
    /// Octets of the whole frame.
    fn length(context: &XdpContext) -> u32;
}

/// The frame lies in one buffer.
pub struct SingleBuffer;
/// The frame may continue in further buffers; only the first one is read.
pub struct MultiBuffer;

impl Buffers for SingleBuffer {
    #[inline(always)]
    fn length(context: &XdpContext) -> u32 {
        (context.data_end() - context.data()) as u32
    }
}

impl Buffers for MultiBuffer {
    #[inline(always)]
    fn length(context: &XdpContext) -> u32 {
        // SAFETY: `ctx` is the context the program was called with.
        unsafe { bpf_xdp_get_buff_len(context.ctx) as u32 }
    }
}

/// A frame in the driver's receive path.
pub struct Xdp<'a, B> {
    context: &'a XdpContext,
    buffers: PhantomData<B>,
}

impl<'a, B> Xdp<'a, B> {
    /// The frame of `context`.
    #[inline(always)]
    pub fn new(context: &'a XdpContext) -> Self {
        Self { context, buffers: PhantomData }
    }
}

impl<B: Buffers> FrameLength for Xdp<'_, B> {
    #[inline(always)]
    fn wire_length(&self) -> u32 {
        B::length(self.context)
    }
}

impl<B: Buffers + 'static> Hook for Xdp<'_, B> {
    const EGRESS: bool = false;
    const MERGED: bool = false;
    const FORGETS: bool = false;
    type Context = XdpContext;
    type At<'b> = Xdp<'b, B>;

    #[inline(always)]
    fn context(&self) -> &XdpContext {
        self.context
    }

    #[inline(always)]
    fn pointer(&self) -> *mut c_void {
        self.context.as_ptr()
    }

    #[inline(always)]
    fn own_context(pointer: *mut c_void) -> XdpContext {
        XdpContext::new(pointer.cast())
    }

    #[inline(always)]
    fn of(context: &XdpContext) -> Xdp<'_, B> {
        Xdp::new(context)
    }

    #[inline(always)]
    fn interface_index(&self) -> u32 {
        // SAFETY: `ctx` is the context the program was called with.
        unsafe { (*self.context.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn ingress_interface_index(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn frame(&self) -> Frame<'_, Self> {
        self.start()
    }

    #[inline(always)]
    fn start(&self) -> Frame<'_, Self> {
        Frame::new(self, self.context.data(), self.context.data_end())
    }

    #[inline(always)]
    fn link<P: PacketBytes>(&self, frame: &P, _: bool) -> Option<Link> {
        Link::ethernet(frame)
    }

    #[inline(always)]
    fn segments(&self) -> Segments {
        Segments::ONE
    }

    #[inline(always)]
    fn tag(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn beside(&self, _: bool) -> u64 {
        maps::nothing()
    }
}

/// Which way packets go.
pub trait Way {
    const EGRESS: bool;
}

/// Packets come in.
pub struct Ingress;
/// Packets go out.
pub struct Egress;

impl Way for Ingress {
    const EGRESS: bool = false;
}

impl Way for Egress {
    const EGRESS: bool = true;
}

/// A packet at one of the hooks of traffic control.
pub struct Tc<'a, W> {
    context: &'a TcContext,
    way: PhantomData<W>,
}

impl<'a, W> Tc<'a, W> {
    /// The packet of `context`.
    #[inline(always)]
    pub fn new(context: &'a TcContext) -> Self {
        Self { context, way: PhantomData }
    }

    #[inline(always)]
    fn buffer(&self) -> *const __sk_buff {
        self.context.skb.skb
    }
}

impl<W> FrameLength for Tc<'_, W> {
    #[inline(always)]
    fn wire_length(&self) -> u32 {
        self.context.len()
    }
}

impl<W: Way + 'static> Hook for Tc<'_, W> {
    const EGRESS: bool = W::EGRESS;
    const MERGED: bool = true;
    const FORGETS: bool = true;
    type Context = TcContext;
    type At<'b> = Tc<'b, W>;

    #[inline(always)]
    fn context(&self) -> &TcContext {
        self.context
    }

    #[inline(always)]
    fn pointer(&self) -> *mut c_void {
        self.context.as_ptr()
    }

    #[inline(always)]
    fn own_context(pointer: *mut c_void) -> TcContext {
        TcContext::new(pointer.cast())
    }

    #[inline(always)]
    fn of(context: &TcContext) -> Tc<'_, W> {
        Tc::new(context)
    }

    #[inline(always)]
    fn interface_index(&self) -> u32 {
        // SAFETY: the context the program was called with.
        unsafe { (*self.buffer()).ifindex }
    }

    #[inline(always)]
    fn ingress_interface_index(&self) -> u32 {
        // SAFETY: the context the program was called with.
        unsafe { (*self.buffer()).ingress_ifindex }
    }

    #[inline(always)]
    fn frame(&self) -> Frame<'_, Self> {
        let length = self.context.len();
        let pulled = PULLED_OCTETS + maps::chosen_reach();
        let wanted = if length < pulled { length } else { pulled };
        if ((self.context.data_end() - self.context.data()) as u32) < wanted {
            // Headers lie in pages beside the buffer. On failure less is read, and said to be truncated.
            // SAFETY: the context the program was called with; the bounds are read anew below.
            unsafe { bpf_skb_pull_data(self.context.skb.skb, wanted) };
        }
        self.start()
    }

    #[inline(always)]
    fn start(&self) -> Frame<'_, Self> {
        Frame::new(self, self.context.data(), self.context.data_end())
    }

    #[inline(always)]
    fn link<P: PacketBytes>(&self, frame: &P, has_link_header: bool) -> Option<Link> {
        if !has_link_header {
            // SAFETY: the context the program was called with.
            let protocol = unsafe { (*self.buffer()).protocol };
            return Some(Link::network(u16::from_be(protocol as u16), 0));
        }
        let link = Link::ethernet(frame)?;
        let tag = self.tag();
        Some(if tag == 0 { link } else { link.with_tag(tag as u16, maps::vlan_priority() != 0) })
    }

    #[inline(always)]
    fn segments(&self) -> Segments {
        // SAFETY: the context the program was called with.
        let (count, payload) = unsafe { ((*self.buffer()).gso_segs, (*self.buffer()).gso_size) };
        Segments { count, payload }
    }

    #[inline(always)]
    fn tag(&self) -> u32 {
        // SAFETY: the context the program was called with.
        let (present, protocol, control) = unsafe {
            ((*self.buffer()).vlan_present, (*self.buffer()).vlan_proto, (*self.buffer()).vlan_tci)
        };
        if present == 0 { 0 } else { u32::from(u16::from_be(protocol as u16)) << 16 | control & 0xffff }
    }

    #[inline(always)]
    fn beside(&self, has_link_header: bool) -> u64 {
        if !has_link_header {
            // SAFETY: the context the program was called with.
            let protocol = unsafe { (*self.buffer()).protocol };
            return filter::LINK_HEADER << 32 | u64::from(u16::from_be(protocol as u16)) << 16;
        }
        let tag = self.tag();
        if tag == 0 { maps::nothing() } else { filter::TAG << 32 | tag as u64 }
    }
}
